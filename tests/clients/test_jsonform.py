"""The JSON form of messages: `ose.registry.jsonform`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf import (
    any_pb2,
    duration_pb2,
    field_mask_pb2,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2
from hypothesis import given
from hypothesis import strategies as st

from ose.registry.jsonform import FormError, enum_name, from_dict, to_dict
from ose.registry.v1 import (
    admin_service_pb2,
    entity_pb2,
    entity_service_pb2,
    graph_service_pb2,
    mutation_pb2,
    registry_service_pb2,
    relationship_pb2,
    watch_service_pb2,
)

MESSAGES = (
    entity_pb2.Entity,
    entity_pb2.EntityFilter,
    relationship_pb2.Relationship,
    mutation_pb2.Mutation,
    mutation_pb2.Precondition,
    mutation_pb2.MutationResult,
    registry_service_pb2.WriteRequest,
    registry_service_pb2.ExportResponse,
    entity_service_pb2.UpdateEntityRequest,
    graph_service_pb2.GetGraphRequest,
    graph_service_pb2.GraphResponse,
    watch_service_pb2.WatchRequest,
    watch_service_pb2.WatchResponse,
    admin_service_pb2.GetStatisticsResponse,
    admin_service_pb2.CompactRequest,
)

_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
_struct_number = st.one_of(
    st.integers(-(2**53), 2**53).map(float),
    st.floats(allow_nan=False, allow_infinity=False),
)
_json = st.recursive(
    st.one_of(st.none(), st.booleans(), _text, _struct_number),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=8,
)
_SCALARS: dict[int, st.SearchStrategy[Any]] = {
    FieldDescriptor.CPPTYPE_INT32: st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_DOUBLE: st.floats(allow_nan=False),
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_STRING: _text,
}


def _scalars(field: Any) -> st.SearchStrategy[Any]:
    if field.enum_type is not None:
        known = [value.number for value in field.enum_type.values]
        return st.sampled_from(known) | st.integers(-(2**31), 2**31 - 1)
    return _SCALARS[field.cpp_type]


@st.composite
def _filled(draw: st.DrawFn, kind: type[Message], levels: int = 2) -> Any:
    """A message of the type with some of its fields set."""
    message = kind()
    name = kind.DESCRIPTOR.full_name
    if name == "google.protobuf.Struct":
        message.update(draw(st.dictionaries(_text, _json, max_size=3)))  # type: ignore[attr-defined]
    elif name == "google.protobuf.Timestamp":
        message.seconds = draw(st.integers(-62135596800, 253402300799))  # type: ignore[attr-defined]
        message.nanos = draw(st.integers(0, 999_999_999))  # type: ignore[attr-defined]
    elif name == "google.protobuf.Duration":
        message.FromNanoseconds(draw(st.integers(-(10**18), 10**18)))  # type: ignore[attr-defined]
    elif name == "google.protobuf.FieldMask":
        paths = st.lists(st.from_regex(r"[a-z_]{1,5}(\.[\w/]+)?", fullmatch=True))
        message.paths.extend(draw(paths))  # type: ignore[attr-defined]
    elif name == "google.protobuf.Any":
        detail = error_details_pb2.ErrorInfo(reason=draw(_text), metadata={draw(_text): "x"})
        message.Pack(detail)  # type: ignore[attr-defined]
    else:
        for field in draw(st.permutations(list(kind.DESCRIPTOR.fields)))[:6]:
            _fill(draw, message, field, levels)
    return message


def _fill(draw: st.DrawFn, message: Any, field: Any, levels: int) -> None:
    inner = field.message_type
    if inner is not None and inner.GetOptions().map_entry:
        values = _scalars(inner.fields_by_name["value"])
        getattr(message, field.name).update(draw(st.dictionaries(_text, values, max_size=3)))
    elif inner is not None:
        if levels:
            some = _filled(inner._concrete_class, levels - 1)
            if field.is_repeated:
                getattr(message, field.name).extend(draw(st.lists(some, max_size=2)))
            else:
                getattr(message, field.name).CopyFrom(draw(some))
    elif field.is_repeated:
        getattr(message, field.name).extend(draw(st.lists(_scalars(field), max_size=3)))
    else:
        setattr(message, field.name, draw(_scalars(field)))


@given(st.sampled_from(MESSAGES).flatmap(_filled))
def test_what_is_written_reads_back_as_the_same_message(message: Message) -> None:
    """from_dict(to_dict(m)) is m, through JSON text, up to a Struct that is set but empty."""
    form = to_dict(message)
    read = from_dict(json.loads(json.dumps(form)), type(message)())
    assert to_dict(read) == form
    _drop_empty_structs(read)
    _drop_empty_structs(message)
    assert read == message


def _drop_empty_structs(message: Any) -> None:
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        for item in value if field.is_repeated else [value]:
            _drop_empty_structs(item)
    for field in message.DESCRIPTOR.fields:
        if field.name == "metadata" and not len(message.metadata):
            message.ClearField("metadata")


@given(st.sampled_from(MESSAGES).flatmap(_filled))
def test_camel_case_and_full_enum_names_are_taken(message: Message) -> None:
    """What protobuf's own converter writes, full enum names and camelCase, reads as the same."""
    if "update_mask" in str(message):
        return  # its masks refuse paths that hold a user's keys
    theirs = MessageToDict(message)
    read = from_dict(json.loads(json.dumps(theirs)), type(message)())
    assert MessageToDict(read) == theirs


def test_an_entity_is_the_guides_json() -> None:
    """Names in snake_case, short enum values, every scalar, list and map, no unset message."""
    entity = entity_pb2.Entity(
        id="a", type="plugin", name="n", status=entity_pb2.ENTITY_STATUS_ACTIVE
    )
    entity.metadata.update({"feature": "ai-ml", "n": 3, "x": 1.5, "big": 2.0**60, "none": None})
    entity.created_at.FromJsonString("2025-01-01T00:00:00Z")
    entity.revision = 12
    assert to_dict(entity) == {
        "id": "a",
        "type": "plugin",
        "name": "n",
        "version": "",
        "metadata": {"big": 2.0**60, "feature": "ai-ml", "n": 3, "none": None, "x": 1.5},
        "labels": {},
        "status": "active",
        "health": "unspecified",
        "regions": [],
        "created_at": "2025-01-01T00:00:00Z",
        "revision": "12",
        "create_revision": "0",
        "reported_health": "unspecified",
        "health_revision": "0",
    }
    assert isinstance(to_dict(entity)["metadata"]["n"], int)


def test_metadata_is_an_object_even_when_unset_and_weight_is_left_out_when_unset() -> None:
    """`metadata` is always there; an optional scalar only when it is set."""
    assert to_dict(relationship_pb2.Relationship())["metadata"] == {}
    assert "weight" not in to_dict(relationship_pb2.Relationship())
    assert to_dict(relationship_pb2.Relationship(weight=1))["weight"] == 1.0


def test_keys_are_sorted() -> None:
    """Two runs print the keys of a map and of a Struct in one order."""
    entity = entity_pb2.Entity(labels={"b": "2", "a": "1", "c": "3"})
    entity.metadata.update({"z": 1, "y": 2})
    assert list(to_dict(entity)["labels"]) == ["a", "b", "c"]
    assert list(to_dict(entity)["metadata"]) == ["y", "z"]


@pytest.mark.parametrize("spelling", ["healthy", "HEALTHY", "HEALTH_STATUS_HEALTHY", 1])
def test_an_enum_is_taken_in_each_spelling(spelling: object) -> None:
    """Short, full, or as a number."""
    read = from_dict({"health": spelling}, entity_pb2.Entity())
    assert read.health == entity_pb2.HEALTH_STATUS_HEALTHY


def test_enum_name_is_short_and_of_an_unknown_number_its_digits() -> None:
    """What tables show."""
    enum = entity_pb2.HealthStatus.DESCRIPTOR
    assert enum_name(enum, 2) == "degraded"
    assert enum_name(enum, 77) == "77"
    outcome = mutation_pb2.MutationResult.Outcome.DESCRIPTOR
    assert enum_name(outcome, 3) == "unchanged"


@pytest.mark.parametrize(
    ("data", "path", "part"),
    [
        ({"name": 1.0}, "name", "write it in quotes"),
        ({"nmae": "x"}, "nmae", "no such field"),
        ({"metadata": {"a": [1, {"b": 2**53 + 1}]}}, "metadata.a[1].b", "2^53"),
        ({"metadata": {"a": math.inf}}, "metadata.a", "no number"),
        ({"metadata": {1: "x"}}, "metadata[1]", "a key that is a string"),
        ({"metadata": []}, "metadata", "expected an object, got a list"),
        ({"labels": {"a/b": 1}}, 'labels["a/b"]', "expected a string"),
        ({"status": "acitve"}, "status", "one of active, inactive"),
        ({"regions": "local"}, "regions", "expected a list"),
        ({"regions": ["a", 3]}, "regions[1]", "expected a string"),
        ({"revision": "1.5"}, "revision", "an integer from"),
        ({"revision": 2**63}, "revision", "an integer from"),
        ({"revision": True}, "revision", "got true"),
        ({"created_at": "yesterday"}, "created_at", "a time such as"),
        ({"name": "\ud800"}, "name", "lone surrogate"),
        ({"metadata": {"a": "\ud800"}}, "metadata.a", "lone surrogate"),
        ({"create_revision": 1, "createRevision": 2}, "createRevision", "given together"),
        ([], "", "expected an object (Entity)"),
    ],
)
def test_what_is_wrong_is_named_by_its_path(data: Any, path: str, part: str) -> None:
    """Each error names the field at fault and says what was expected."""
    with pytest.raises(FormError) as caught:
        from_dict(data, entity_pb2.Entity())
    (violation,) = caught.value.violations
    assert violation.path == path
    assert part in violation.description


def test_all_violations_are_named_at_once() -> None:
    """The reader of a long file does not meet the errors one by one."""
    with pytest.raises(FormError, match=r"entity\.name.*; entity\.x"):
        from_dict({"name": 1, "x": 2, "health": "healthy"}, entity_pb2.Entity(), path="entity")


def test_unknown_names_can_be_passed_over_and_nothing_else() -> None:
    """`ignore_unknown` is for reading what a newer program wrote."""
    read = from_dict({"name": "n", "later": 1}, entity_pb2.Entity(), ignore_unknown=True)
    assert read.name == "n"
    with pytest.raises(FormError, match="name"):
        from_dict({"name": 1, "later": 1}, entity_pb2.Entity(), ignore_unknown=True)


def test_two_members_of_a_oneof_are_refused() -> None:
    """A precondition is about one resource."""
    with pytest.raises(FormError, match="given together with 'entity_id'"):
        from_dict({"entity_id": "a", "relationship_id": "b"}, mutation_pb2.Precondition())


def test_null_counts_as_absent() -> None:
    """As the mapping says."""
    assert from_dict({"name": None, "metadata": None}, entity_pb2.Entity()) == entity_pb2.Entity()


def test_too_deep_a_nesting_is_refused_without_exhausting_the_stack() -> None:
    """10,000 levels are an error with a path, not a crash."""
    deep: Any = 1
    for _ in range(10_000):
        deep = [deep]
    with pytest.raises(FormError, match="nested more than 30 deep"):
        from_dict({"metadata": {"a": deep}}, entity_pb2.Entity())


def test_a_status_with_details_reads_back() -> None:
    """Errors over HTTP are google.rpc.Status, whose details are packed messages."""
    status = status_pb2.Status(code=5, message="no")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="ENTITY_NOT_FOUND"))
    status.details.add().Pack(duration_pb2.Duration(seconds=2))
    form = to_dict(status)
    assert form["details"][0] == {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": "ENTITY_NOT_FOUND",
        "domain": "",
        "metadata": {},
    }
    assert form["details"][1]["value"] == "2s"
    assert from_dict(form, status_pb2.Status()) == status


@pytest.mark.parametrize("url", [None, 7, "type.googleapis.com/no.such.Type", "../x", ""])
def test_an_unknown_packed_type_is_refused(url: object) -> None:
    """With the path of the type."""
    with pytest.raises(FormError, match="@type"):
        from_dict({"@type": url, "x": 1}, any_pb2.Any())


def test_what_json_cannot_hold_is_an_error() -> None:
    """A number that is not finite inside a Struct; a time outside the calendar."""
    with pytest.raises(FormError, match="nan"):
        to_dict(struct_pb2.Value(number_value=math.nan))
    with pytest.raises(FormError):
        to_dict(entity_pb2.Entity(created_at={"seconds": 10**15}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("9999-12-31T23:59:59.999999999Z", "9999-12-31T23:59:59.999999999Z"),
        ("1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59.500Z"),
        ("2025-06-01T12:00:00.000001+02:00", "2025-06-01T10:00:00.000001Z"),
    ],
)
def test_times_are_those_of_protobuf(text: str, canonical: str) -> None:
    """Our own conversion, which is faster, agrees with the message's."""
    theirs = timestamp_pb2.Timestamp()
    theirs.FromJsonString(text)
    ours = from_dict(text, timestamp_pb2.Timestamp())
    form: Callable[[Message], Any] = to_dict
    assert ours == theirs
    assert form(ours) == theirs.ToJsonString() == canonical


@pytest.mark.parametrize(
    "text",
    ["", "2025-01-01", "2025-01-01 00:00:00Z", "2025-02-30T00:00:00Z", "2025-01-01T00:00:00",
     "2025-01-01T24:00:00Z", "2025-01-01T00:00:00.1234567890Z", "٢025-01-01T00:00:00Z"],
)  # fmt: skip
def test_what_is_no_time_is_refused(text: str) -> None:
    """RFC 3339 with a zone, and a day that exists."""
    with pytest.raises(FormError, match="a time such as"):
        from_dict(text, timestamp_pb2.Timestamp())


def test_wrappers_bytes_and_masks() -> None:
    """The remaining well-known types."""
    form: Callable[[Message], Any] = to_dict
    assert form(wrappers_pb2.Int64Value(value=5)) == "5"
    assert form(wrappers_pb2.BytesValue(value=b"\xfb\xff")) == "+/8="
    assert from_dict("-_8", wrappers_pb2.BytesValue()).value == b"\xfb\xff"
    assert form(wrappers_pb2.FloatValue(value=0.1)) == 0.1
    mask = from_dict("createRevision,metadata.camelKey", field_mask_pb2.FieldMask())
    assert mask.paths == ["create_revision", "metadata.camelKey"]
