"""Bodies of requests: what is taken of them, and how much."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyper_registry.model.errors import BodyTooLarge, InvalidArgument, UnsupportedMedia
from hyper_registry.transcoding.bodies import Body, ClientGone

LIMIT = 1000
CHUNKED = {b"transfer-encoding": b"chunked"}


def body(
    *parts: bytes | None, headers: Mapping[bytes, bytes] | None = None, has_lines: bool = False
) -> Body:
    """A body that arrives in parts; None is where the caller leaves."""
    waiting = list(parts)

    async def receive() -> dict[str, Any]:
        part = waiting.pop(0)
        if part is None:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": part, "more_body": bool(waiting)}

    return Body({**CHUNKED, **(headers or {})}, receive, LIMIT, has_lines)


async def lines(made: Body) -> list[bytes]:
    """All lines."""
    return [line async for line in made.lines()]


async def test_parts_are_joined() -> None:
    """However many there are."""
    assert await body(b"a", b"", b"bc").whole() == b"abc"


@pytest.mark.parametrize("coding", [b"gzip", b"GZIP", b"x-gzip", b"deflate", b"identity"])
async def test_what_is_compressed_is_read(coding: bytes) -> None:
    """In either way that HTTP has for it."""
    packed = {b"deflate": zlib.compress(b"abc" * 300), b"identity": b"abc" * 300}.get(
        coding, gzip.compress(b"abc" * 300, mtime=0)
    )
    made = body(*(packed[n : n + 1] for n in range(len(packed))),
                headers={b"content-encoding": coding})  # fmt: skip
    assert await made.whole() == b"abc" * 300


@pytest.mark.parametrize("data", [b"x" * (LIMIT + 1), gzip.compress(bytes(10_000_000))])
async def test_a_body_that_is_too_large(data: bytes) -> None:
    """It is refused as soon as that is known; a bomb is not blown up to find out."""
    headers = {} if data.startswith(b"x") else {b"content-encoding": b"gzip"}
    with pytest.raises(BodyTooLarge):
        await body(data, headers=headers).whole()
    with pytest.raises(BodyTooLarge):
        await lines(body(data, headers=headers, has_lines=True))


async def test_a_length_that_is_too_large() -> None:
    """It is refused before anything is read."""
    with pytest.raises(BodyTooLarge):
        body(headers={b"content-length": b"1001"})


@pytest.mark.parametrize("data", [b"no gzip", gzip.compress(b"abc", mtime=0)[:-3], b""])
async def test_what_is_not_what_it_says(data: bytes) -> None:
    """Bytes that cannot be decompressed are an error of the caller."""
    with pytest.raises(InvalidArgument):
        await body(data, headers={b"content-encoding": b"gzip"}).whole()


async def test_all_members_of_a_gzip_are_read() -> None:
    """As `cat a.gz b.gz` makes them, wherever they are cut; for deflate there is no such thing."""
    packed = gzip.compress(b"abc", mtime=0) + gzip.compress(b"", mtime=0) + gzip.compress(b"def")
    for size in (1, 7, len(packed)):
        parts = [packed[n : n + size] for n in range(0, len(packed), size)]
        made = body(*parts, headers={b"content-encoding": b"gzip"})
        assert await made.whole() == b"abcdef"
    twice = body(zlib.compress(b"abc") * 2, headers={b"content-encoding": b"deflate"})
    with pytest.raises(InvalidArgument, match="nothing behind"):
        await twice.whole()


async def test_others_have_their_turn_while_a_bomb_is_unpacked() -> None:
    """However much becomes of a little."""
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    bomb = gzip.compress(b"\n \n" * 4_000_000)
    waiting = asyncio.create_task(others())
    made = body(bomb, b"", headers={b"content-encoding": b"gzip"}, has_lines=True)
    assert await lines(made) == []
    waiting.cancel()
    assert turns > 100


@pytest.mark.parametrize(
    ("value", "is_taken"),
    [
        (b"", True),
        (b"application/json", True),
        (b"Application/JSON; charset=UTF-8", True),
        (b'application/json;charset="utf-8"', True),
        (b"application/json; charset=latin-1", False),
        (b"text/plain", False),
        (b"application/x-www-form-urlencoded", False),
        (b"application/x-ndjson", False),
        (b"\xff", False),
    ],
)
async def test_kinds(value: bytes, is_taken: bool) -> None:
    """JSON in UTF-8; nothing said counts as that."""
    if is_taken:
        assert await body(b"1", headers={b"content-type": value}).whole() == b"1"
    else:
        with pytest.raises(UnsupportedMedia):
            body(b"1", headers={b"content-type": value})


def test_encodings_that_are_not_taken() -> None:
    """The error says which are."""
    with pytest.raises(UnsupportedMedia, match="gzip or deflate, got br"):
        body(b"1", headers={b"content-encoding": b"br"})


async def test_lines() -> None:
    """However they arrive; empty ones do not count, and the last needs no end."""
    headers = {b"content-type": b"application/jsonl"}
    made = body(b"a\nb", b"b\r\n\n", b"\n  \n", b"c", headers=headers, has_lines=True)
    assert await lines(made) == [b"a", b"bb", b"c"]


@given(st.lists(st.binary(max_size=8), max_size=8))
async def test_lines_are_those_of_the_joined_parts(parts: list[bytes]) -> None:
    """Wherever they are cut."""
    expected = [line.strip() for line in b"".join(parts).split(b"\n")]
    assert await lines(body(*parts, b"", has_lines=True)) == [line for line in expected if line]


async def test_a_line_that_is_too_long() -> None:
    """Many lines may be longer together than one may be."""
    assert len(await lines(body(*[b"x" * 600 + b"\n"] * 5, has_lines=True))) == 5
    with pytest.raises(BodyTooLarge):
        await lines(body(*[b"x" * 600] * 2, has_lines=True))


async def test_a_caller_that_leaves() -> None:
    """What has arrived is no body."""
    with pytest.raises(ClientGone):
        await body(b"a", None).whole()


async def test_no_body() -> None:
    """Nothing is read where there is nothing."""

    async def receive() -> dict[str, Any]:
        raise AssertionError

    headers = {b"content-type": b"text/plain", b"content-length": b"0"}
    assert await Body(headers, receive, LIMIT).whole() == b""
