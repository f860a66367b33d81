"""Records say what the domain says, and frames are what protobuf writes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.struct_pb2 import Struct
from hypothesis import example, given
from hypothesis import strategies as st

from hyper_registry.model.entity import Entity
from hyper_registry.model.errors import InvalidArgument, LimitExceeded
from hyper_registry.model.relationship import Relationship
from hyper_registry.registry import codec
from hyper_registry.registry.table import frame, frame_size
from ose.registry.v1 import entity_pb2, registry_service_pb2, relationship_pb2
from tests.unit.registry.support import metadata_value, packed

_texts = st.text(max_size=20)
_numbers = st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53)
_values = st.recursive(
    st.none() | st.booleans() | _numbers | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=10,
)
_metadata = st.dictionaries(_texts, _values, max_size=4)
_revisions = st.integers(0, 2**43)
_times = st.integers(0, 253_402_300_799_999_999)

_entities = st.builds(
    Entity,
    _texts,
    _texts,
    _texts,
    _texts,
    _metadata.map(lambda values: packed(**{"x": 1} | values) if values else b""),
    st.dictionaries(_texts, _texts, max_size=4),
    st.integers(1, 8),
    st.integers(1, 4),
    st.lists(_texts, max_size=3).map(tuple),
    _times,
    _times,
    _revisions,
    _revisions,
    st.integers(1, 4),
    _revisions,
)
_relationships = st.builds(
    Relationship,
    _texts,
    _texts,
    _texts,
    _texts,
    st.floats(allow_nan=False),
    _metadata.map(lambda values: packed(**values)),
    st.booleans(),
    _texts,
    _times,
    _times,
    _revisions,
    _revisions,
    st.integers(0, 2),
    _texts,
)


@given(_entities)
@example(Entity("x" * 127, "y" * 128, "ü" * 255, "", labels={"b": "", "a": "ü" * 255, "": "1"}))
def test_entities_come_back(entity: Entity) -> None:
    """What is encoded is decoded to the same, and its record is the API's message of it.

    It is written as protobuf writes it, so that the same entity always has the same bytes.
    """
    record = codec.encode_entity(entity)
    assert codec.decode_entity(record) == entity
    message = entity_pb2.Entity.FromString(record)
    assert message.SerializeToString(deterministic=True) == record
    assert message.created_at.ToMicroseconds() == entity.created_at
    assert message.updated_at.ToMicroseconds() == entity.updated_at
    assert (message.id, dict(message.labels)) == (entity.id, dict(entity.labels))
    assert message.HasField("metadata") == bool(entity.metadata)


@given(_relationships)
@example(Relationship("r", "x" * 128, "y" * 255, "t", 0.0, version_constraint="ü" * 8192))
def test_relationships_come_back(relationship: Relationship) -> None:
    """What is encoded is decoded to the same, as protobuf writes it; a weight is always said."""
    record = codec.encode_relationship(relationship)
    assert codec.decode_relationship(record) == relationship
    message = relationship_pb2.Relationship.FromString(record)
    assert message.SerializeToString(deterministic=True) == record
    assert message.HasField("weight")
    assert message.created_at.ToMicroseconds() == relationship.created_at


@given(_metadata)
def test_equal_metadata_has_equal_bytes(values: dict[str, Any]) -> None:
    """The order in which keys were set does not show."""
    one, two = Struct(), Struct()
    one.update(values)
    two.update(dict(reversed(values.items())))
    assert codec.pack(one) == codec.pack(two)


@given(_metadata)
@example({"feature": "ai-ml"})
@example({"feature": 1.0})
@example({"n": 2.0**53, "m": -(2.0**53), "large": 1e22, "tiny": 5e-324, "zero": -0.0})
def test_metadata_as_json(values: dict[str, Any]) -> None:
    """The JSON has the same values, whole numbers as integers, and the feature if it is a text."""
    made = Struct()
    made.update(values)
    read = codec.metadata(codec.pack(made))
    assert json.loads(read.json) == MessageToDict(made)
    feature = values.get("feature")
    assert read.feature == (feature if isinstance(feature, str) else "")
    assert metadata_value(codec.pack(made)) == MessageToDict(made)


def test_numbers_in_json() -> None:
    """Whole numbers have no fraction, as far as they are exact."""
    text = codec.metadata(packed(a=1.0, b=-3.0, c=0.5, d=2.0**53, e=2.0**54)).json
    found = {key: type(value) for key, value in json.loads(text).items()}
    assert found == {"a": int, "b": int, "c": float, "d": int, "e": float}
    assert codec.metadata(b"").json == "{}"
    assert metadata_value(b"") == {}


def test_what_cannot_be_said_in_json() -> None:
    """Numbers that are not finite are refused by path, whatever is cached."""
    for _ in range(2):
        with pytest.raises(InvalidArgument) as caught:
            codec.metadata(packed(a=[{"b": float("nan")}]))
        assert caught.value.violations[0].field == "metadata.a[0].b"
        with pytest.raises(LimitExceeded):
            codec.metadata(packed(a="x" * (1 << 18)))


@given(_metadata, st.sampled_from(["a", "b"]), st.none() | _values)
def test_replacing_a_key(values: dict[str, Any], key: str, value: Any) -> None:
    """One key is as in the source, or gone if it is not there; the others stay."""
    source = packed(other=1) if value is None else packed(**{"other": 1, key: value})
    after = metadata_value(codec.replace_key(packed(**values), key, source))
    expected = metadata_value(packed(**values))
    expected.pop(key, None)
    if value is not None:
        expected[key] = metadata_value(source)[key]
    assert after == expected


def test_removing_the_last_key_leaves_none() -> None:
    """Metadata without keys is no metadata."""
    assert codec.replace_key(packed(a=1), "a", b"") == b""


def varint(number: int) -> bytes:
    """A number as protobuf writes it."""
    if number < 0x80:
        return bytes((number,))
    return bytes((number & 0x7F | 0x80,)) + varint(number >> 7)


_SIZES = [0, 1, 127, 128, 129, 16_383, 16_384, 2_097_151, 2_097_152]


@pytest.mark.parametrize("size", _SIZES)
def test_frames_at_their_borders(size: int) -> None:
    """A frame is tag and length as protobuf writes them, and its size is told from the whole."""
    framed = frame(0x12, b"x" * size)
    assert framed == b"\x12" + varint(size) + b"x" * size
    assert frame_size(len(framed)) == len(framed) - size


@given(st.integers(0, 1 << 34))
def test_sizes_of_frames(size: int) -> None:
    """The size of a frame follows from that of the framed record, at every size."""
    header = 1 + len(varint(size))
    assert frame_size(size + header) == header


def test_records_that_are_too_large() -> None:
    """Nobody makes a record of 32 GiB."""
    with pytest.raises(ValueError, match="too many"):
        frame_size(1 << 40)


@given(st.lists(_entities, max_size=4), st.lists(_relationships, max_size=4))
def test_a_join_of_frames_is_an_answer(
    entities: list[Entity], relationships: list[Relationship]
) -> None:
    """Framed records one behind the other are the message that lists them."""
    data = b"".join(
        [
            *(frame(codec.ENTITY_TAG, codec.encode_entity(entity)) for entity in entities),
            *(
                frame(codec.RELATIONSHIP_TAG, codec.encode_relationship(relationship))
                for relationship in relationships
            ),
        ]
    )
    answer = registry_service_pb2.ExportResponse.FromString(data)
    assert [message.id for message in answer.entities] == [entity.id for entity in entities]
    assert [codec.decode_relationship(m.SerializeToString()) for m in answer.relationships] == (
        relationships
    )
