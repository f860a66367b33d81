"""Facts about JSON and messages that implementations agree on; the form itself is a client's."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from hyper_registry.model.errors import InvalidArgument
from hyper_registry.transcoding.documents import loads
from ose.registry.jsonform import FormError, from_dict, to_dict
from tests.unit.transcoding.sample import Everything


def read(text: str) -> Any:
    """The message of a JSON text."""
    return from_dict(loads(text.encode()), Everything())


@pytest.mark.parametrize(
    "text",
    [
        '{"large": "0.5"}',
        '{"small": 2147483648}',
        '{"small": " 1"}',
        '{"small": true}',
        '{"flag": "true"}',
        '{"flag": 1}',
        '{"colour": "NOPE"}',
        '{"time": "0001-01-01t00:00:00Z"}',
        '{"time": "2023-02-29T00:00:00Z"}',
        "null",
        '{"smalls": [1, 2,]}',
        '{"counts": {"a": null}}',
        '{"smalls": [1, null]}',
    ],
)
def test_what_is_refused(text: str) -> None:
    """Everywhere."""
    with pytest.raises((FormError, InvalidArgument)):
        read(text)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ('{"raw": "AQI="}', {"raw": b"\x01\x02"}),
        ('{"raw": "-_"}', {"raw": b"\xfb"}),
        ('{"colour": "COLOUR_UNSPECIFIED"}', {"colour": 0}),
        ('{"colour": 1}', {"colour": 1}),
        ('{"numbers": {"1": 2}}', {"numbers": {1: 2}}),
        ('{"large": "12", "natural": 12}', {"large": 12, "natural": 12}),
    ],
)
def test_what_is_taken(text: str, fields: dict[str, Any]) -> None:
    """Everywhere."""
    assert read(text) == Everything(**fields)


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("1969-12-31T16:00:00-08:00", "1970-01-01T00:00:00Z"),
        ("1970-01-01T00:00:00.010Z", "1970-01-01T00:00:00.010Z"),
        ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999999Z"),
    ],
)
def test_times(text: str, printed: str) -> None:
    """An offset is taken, and printed is UTC with 0, 3, 6 or 9 digits."""
    assert to_dict(read(f'{{"time": "{text}"}}'))["time"] == printed


def test_a_mask_is_taken_in_snake_case_too() -> None:
    """The mapping refuses it; our names are in snake_case, and people write what they see."""
    assert read('{"mask": "foo,barBar,baz_baz"}').mask.paths == ["foo", "bar_bar", "baz_baz"]


def test_malformed_json_has_a_position() -> None:
    """Line and column, for the one who has to find it."""
    with pytest.raises(InvalidArgument, match="body: not JSON at line 2, column 7"):
        loads(b'{"a": 1,\n "b": oops}')


@pytest.mark.parametrize(
    "text",
    [
        b"", b" ", b"{", b"nope", b"NaN", b"[Infinity]", b"1 2", b'{"a":1}x', b'"\xff"', b"\x00",
        b'"\\ud800"', b"'a'", b"[1,]", b"01", b"[" * 100_000, b'{"a":' * 5000 + b"1" + b"}" * 5000,
        b"[" * 1100 + b"1234567890123456789012" + b"]" * 1100,
        b"[" * 990 + b"1234567890123456789012" + b"]" * 990 + b"]",
    ],
)  # fmt: skip
def test_what_is_no_json(text: bytes) -> None:
    """It is an error of the caller, however deep it is."""
    with pytest.raises(InvalidArgument):
        loads(text)


def test_long_integers_stay_what_they_are() -> None:
    """None becomes another number on the way, so that it can be refused, or is text."""
    assert loads(b"[18446744073709551616, 1, -99999999999999999999]") == [
        18446744073709551616, 1, -99999999999999999999
    ]  # fmt: skip
    assert loads(b'{"id": "18446744073709551616"}') == {"id": "18446744073709551616"}
    with pytest.raises(FormError, match="2\\^53"):
        read('{"object": {"a": 18446744073709551616}}')
    for digits in (20, 400, 5000, 1_000_000):
        with pytest.raises((FormError, InvalidArgument)):
            read(f'{{"object": {{"a": {"9" * digits}}}}}')
        with pytest.raises((FormError, InvalidArgument)):
            read(f'{{"large": {"9" * digits}}}')


@pytest.mark.parametrize("number", ["1e400", "-1e400", "1e999999999"])
def test_doubles_that_are_none(number: str) -> None:
    """They are refused, in metadata and in a field."""
    for text in (f'{{"object": {{"a": {number}}}}}', f'{{"real": {number}}}'):
        with pytest.raises((FormError, InvalidArgument)):
            read(text)


def test_a_byte_order_mark_is_passed_over() -> None:
    """Some editors write one."""
    assert loads(b"\xef\xbb\xbf[1]") == [1]


def test_deeply_nested_objects() -> None:
    """As deep as can be sent is read, in any place; whether a server takes it is its decision."""
    deep: Any = 1
    for _ in range(30):
        deep = {"a": deep}
    message = from_dict({"object": deep}, Everything())
    assert to_dict(message)["object"] == deep
    assert Everything.FromString(message.SerializeToString()) == message
    with pytest.raises(FormError, match="nested more than 30 deep"):
        read(orjson.dumps({"object": {"a": {"b": deep}}}).decode())
