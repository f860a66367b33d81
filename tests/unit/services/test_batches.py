"""A batch that is read in one go says what its mutations say one by one."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.struct_pb2 import ListValue, Struct, Value
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import example, given
from hypothesis import strategies as st

from hyper_registry.model.errors import InvalidArgument
from hyper_registry.registry import codec
from hyper_registry.registry.mutations import CreateEntity, CreateRelationship, Mutation
from hyper_registry.services import batches, parsing
from ose.registry.v1.entity_pb2 import (
    ENTITY_STATUS_ERROR,
    HEALTH_STATUS_DEGRADED,
    HEALTH_STATUS_HEALTHY,
    Entity,
)
from ose.registry.v1.mutation_pb2 import Mutation as MutationMessage
from ose.registry.v1.registry_service_pb2 import ImportRequest, WriteRequest
from ose.registry.v1.relationship_pb2 import Relationship
from tests.unit.services.messages import nested

# What a parser of a later version of the API may have sent along: fields 99 and 2,000.
_UNKNOWN = b"\x9a\x06\x03new\x80\x7d\x01"

_texts = st.sampled_from(["", "a", "b", "long" * 40, "ünï", '\x01\x1f"\\\n\t\r\b\f\x7f\u2028'])
_keys = _texts | st.just("feature")
_numbers = st.sampled_from([0.0, -0.0, 1.5, 7.0, -12345.0, 2.0**53, 2.0**53 + 2, 1e300, -1e22])
_values = st.recursive(
    st.builds(Value)
    | st.builds(Value, null_value=st.just(0))
    | st.builds(Value, bool_value=st.booleans())
    | st.builds(Value, number_value=_numbers)
    | st.builds(Value, number_value=st.sampled_from([float("inf"), float("nan")]))
    | st.builds(Value, string_value=_texts),
    lambda inner: (
        st.builds(
            lambda items: Value(list_value=ListValue(values=items)), st.lists(inner, max_size=3)
        )
        | st.builds(
            lambda fields: Value(struct_value=Struct(fields=fields)),
            st.dictionaries(_keys, inner, max_size=3),
        )
    ),
    max_leaves=6,
)
_metadata = st.builds(Struct, fields=st.dictionaries(_keys, _values, max_size=4))
_enums = st.sampled_from([0, 1, 2, 4, 99, -1])
_ids = st.sampled_from(["", "a", "debian:libc6", "ü", "not an id", "x" * 256])
_types = st.sampled_from(["service", "service", "depends_on", "no type"])
_names = st.sampled_from(["n", "a name", "ü" * 255, "", "\x00"])


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    """What has to be compiled is, so that no example takes the time for it."""
    batches.warm_up()


def _maybe(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.none() | strategy


def _as_sent(message: Any, extra: bytes) -> Any:
    return type(message).FromString(message.SerializeToString() + extra)


_extras = st.sampled_from([b"", b"", b"", _UNKNOWN])
_entities = st.builds(
    _as_sent,
    st.builds(
        Entity,
        id=_ids,
        type=_types,
        name=_names,
        version=_texts,
        metadata=_maybe(st.builds(_as_sent, _metadata, _extras)),
        labels=st.dictionaries(st.sampled_from(["k", "team", "a/b", "bad key"]), _texts),
        status=_enums,
        health=_enums,
        reported_health=_enums,
        regions=st.lists(st.sampled_from(["local", "eu", ""]), max_size=3),
        created_at=_maybe(st.just(Timestamp(seconds=5))),
        revision=st.sampled_from([0, 7]),
        health_revision=st.sampled_from([0, 2**40]),
    ),
    _extras,
)
_relationships = st.builds(
    _as_sent,
    st.builds(
        Relationship,
        id=_ids,
        source_id=_ids,
        target_id=_ids,
        type=_types,
        weight=_maybe(st.sampled_from([0.0, 1.0, 2.5, -1.0, float("nan")])),
        metadata=_maybe(_metadata),
        bidirectional=st.booleans(),
        version_constraint=_texts,
        health_coupling=_enums,
        any_of=_texts,
        updated_at=_maybe(st.just(Timestamp(seconds=5))),
        create_revision=st.sampled_from([0, 7]),
    ),
    _extras,
)
_mutations = (
    st.builds(lambda entity: MutationMessage(create_entity=entity), _entities)
    | st.builds(lambda entity: MutationMessage(put_entity=entity), _entities)
    | st.builds(lambda made: MutationMessage(create_relationship=made), _relationships)
    | st.builds(lambda made: MutationMessage(put_relationship=made), _relationships)
    | st.builds(MutationMessage)
    | st.builds(lambda: MutationMessage(delete_entity=MutationMessage.DeleteEntity(id="a")))
)


def _outcome(parse: Callable[[Any], list[Mutation]], request: Any) -> Any:
    try:
        return parse(request)
    except InvalidArgument as error:
        # In which order the entries of a map are looked at means nothing.
        return (type(error), sorted(error.violations, key=str))


def _bare(mutation: Mutation) -> Mutation:
    """A mutation without what is known of it beside, which has to be what anyone would find."""
    if isinstance(mutation, CreateEntity) and mutation.body is not None:
        assert mutation.body == codec.entity_body(mutation.entity)
        _check_described(mutation.described, mutation.entity.metadata)
        return CreateEntity(mutation.entity)
    if isinstance(mutation, CreateRelationship) and mutation.body is not None:
        assert mutation.body == codec.relationship_body(mutation.relationship)
        _check_described(mutation.described, mutation.relationship.metadata)
        return CreateRelationship(mutation.relationship)
    return mutation


def _check_described(described: codec.Metadata | None, metadata: bytes) -> None:
    expected = codec.metadata(metadata)
    assert described is not None
    assert described.feature == expected.feature
    # The order of keys, which means nothing, may be another. Integers are no floats.
    assert repr(_sorted(described.json)) == repr(_sorted(expected.json))


def _sorted(text: str) -> Any:
    return json.loads(text, object_pairs_hook=lambda pairs: sorted(pairs, key=lambda p: p[0]))


def _check(request: Any) -> None:
    one_by_one = _outcome(lambda copy: parsing.mutations(copy.mutations), _as_sent(request, b""))
    found = _outcome(batches.mutations, request)
    assert (found if isinstance(found, tuple) else [*map(_bare, found)]) == one_by_one


@given(st.lists(_mutations, min_size=1, max_size=6))
def test_batches_say_the_same(mutations: list[MutationMessage]) -> None:
    """Whatever is in a batch, it is read, or refused, as its mutations are one by one."""
    _check(WriteRequest(mutations=mutations * 4, idempotency_key="k"))


@given(_entities, _relationships)
@example(Entity(type="t", name="n", metadata=nested(24)), Relationship())
@example(Entity(type="t", name="n", metadata=nested(25)), Relationship())
@example(Entity(type="t", name="n", metadata=nested(24, True)), Relationship())
@example(Entity(type="t", name="n", metadata=nested(25, True)), Relationship())
def test_each_alone_says_the_same(entity: Entity, relationship: Relationship) -> None:
    """An entity or a relationship is read alike whatever else there is: an error hides nothing."""
    _check(ImportRequest(import_id="i", mutations=[MutationMessage(create_entity=entity)] * 4))
    made = MutationMessage(create_relationship=relationship)
    _check(ImportRequest(sequence=300, mutations=[made] * 4))


@pytest.mark.parametrize("size", [(1 << 18) - 15, (1 << 18) - 14])
def test_the_largest_metadata(size: int) -> None:
    """The limit of metadata's size holds in a batch too."""
    entity = Entity(type="t", name="n")
    entity.metadata["x"] = "x" * size
    _check(WriteRequest(mutations=[MutationMessage(create_entity=entity)] * 4))


def test_what_is_usual_is_read_in_one_go() -> None:
    """What exports and discoveries send is not left to the slow way."""
    entity = Entity(
        id="debian:libc6", type="package", name="libc6", version="2.36", labels={"b": "1", "a": ""}
    )
    entity.metadata.update({"size": 40, "essential": True, "tags": ["a", {"x": None}]})
    exported = Entity()
    exported.CopyFrom(entity)
    exported.metadata["score"] = 0.5
    exported.metadata["numbers"] = [0, -0.0, 7, -(2**53), 2**53, 1e22, 1e-7]
    # Every character that JSON writes in another way.
    entity.metadata["text"] = "".join(map(chr, range(256))) + "\u2028\U0001f600"
    entity.metadata["numbers"] = [0, -0.0, 7, -10, 99, 100, -(2**53), 2**53]
    exported.MergeFrom(
        Entity(
            status=ENTITY_STATUS_ERROR, health=HEALTH_STATUS_DEGRADED,
            reported_health=HEALTH_STATUS_HEALTHY, regions=["eu"],
            created_at=Timestamp(seconds=1), updated_at=Timestamp(seconds=2),
            revision=5, create_revision=4, health_revision=6,
        )
    )  # fmt: skip
    relationship = Relationship(source_id="a", target_id="b", type="uses", version_constraint=">1")
    weighed = Relationship(id="r", source_id="a", target_id="b", type="uses", weight=2)
    request = WriteRequest(
        mutations=[
            MutationMessage(create_entity=entity),
            MutationMessage(create_entity=exported),
            MutationMessage(create_relationship=relationship),
            MutationMessage(create_relationship=weighed),
        ]
    )
    made = batches.mutations(request)
    assert all(
        isinstance(one, CreateEntity | CreateRelationship) and one.body is not None for one in made
    )
    _check(request)
