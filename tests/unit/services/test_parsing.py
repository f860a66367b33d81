"""Requests become domain values, or errors that name the malformed field."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct

from hyper_registry.model.entity import Entity, Health, Status
from hyper_registry.model.errors import InvalidArgument, LimitExceeded
from hyper_registry.model.relationship import Relationship
from hyper_registry.registry.mutations import (
    ENTITY_PATHS,
    RELATIONSHIP_PATHS,
    CreateEntity,
    CreateRelationship,
    DeleteEntity,
    DeleteRelationship,
    Precondition,
    PutEntity,
    PutRelationship,
    UpdateEntity,
    UpdateRelationship,
)
from hyper_registry.services import parsing
from ose.registry.v1 import mutation_pb2, registry_service_pb2
from ose.registry.v1.entity_pb2 import Entity as EntityMessage
from ose.registry.v1.mutation_pb2 import Mutation as MutationMessage
from ose.registry.v1.relationship_pb2 import HealthCoupling
from ose.registry.v1.relationship_pb2 import Relationship as RelationshipMessage
from tests.unit.registry.support import metadata_value
from tests.unit.services.messages import nested


def entity(**values: Any) -> EntityMessage:
    """An entity's message."""
    return EntityMessage(**({"id": "a", "type": "service", "name": "n"} | values))


def relationship(**values: Any) -> RelationshipMessage:
    """A relationship's message."""
    ends = {"id": "r", "source_id": "a", "target_id": "b", "type": "uses"}
    return RelationshipMessage(**(ends | values))


def refused(parse: Callable[..., object], *arguments: object) -> list[str]:
    """The fields that a refused request names."""
    with pytest.raises(InvalidArgument) as caught:
        parse(*arguments)
    return [violation.field for violation in caught.value.violations]


def struct(**values: Any) -> Struct:
    """Metadata of these values."""
    made = Struct()
    made.update(values)
    return made


def test_what_is_left_out_gets_its_default() -> None:
    """Active, healthy, in the local region, with weight 1."""
    assert parsing.new_entity(entity(id="")) == Entity("", "service", "n")
    assert parsing.new_relationship(relationship(id="")) == Relationship("", "a", "b", "uses")
    made = parsing.new_entity(entity())
    assert (made.status, made.reported_health, made.regions) == (
        Status.ACTIVE,
        Health.HEALTHY,
        ("local",),
    )
    assert parsing.new_relationship(relationship(weight=0.0)).weight == 0.0


def test_everything_is_taken_over() -> None:
    """Each field that is set is in the value; output-only fields are ignored."""
    message = entity(
        version="1",
        metadata=struct(x=1),
        labels={"k": "v"},
        status=5,
        health=4,
        regions=["eu"],
        revision=7,
        create_revision=6,
    )
    message.created_at.seconds = 5
    made = parsing.new_entity(message)
    assert metadata_value(made.metadata) == {"x": 1}
    expected = Entity("a", "service", "n", "1", made.metadata, {"k": "v"}, 5, 4, ("eu",))
    assert made == expected
    edge = parsing.new_relationship(
        relationship(weight=2.5, bidirectional=True, version_constraint=">=1", revision=3)
    )
    assert edge == Relationship("r", "a", "b", "uses", 2.5, b"", True, ">=1")


@pytest.mark.parametrize(
    ("told", "mask", "expected"),
    [
        ({"health": 3}, None, 3),
        ({"reported_health": 3}, None, 3),
        ({"health": 2, "reported_health": 3}, None, 3),
        ({"health": 2, "reported_health": 3}, ["*"], 3),
        ({"health": 2, "reported_health": 3}, ["reported_health"], 3),
        ({"health": 2, "reported_health": 3}, ["health", "reported_health"], 3),
        ({"health": 2, "reported_health": 3}, ["health"], 2),
        ({"reported_health": 3}, ["health"], 1),
        ({"health": 3}, ["reportedHealth"], 3),
    ],
)
def test_what_is_reported(told: dict[str, int], mask: list[str] | None, expected: int) -> None:
    """What was read can be written back; `health` that a mask names alone is what is meant."""
    asked = None if mask is None else FieldMask(paths=mask)
    made = parsing.update_entity(entity(**told), asked, 0)
    assert "reported_health" in made.paths
    assert "health" not in made.paths
    assert made.entity.reported_health == expected
    assert parsing.new_entity(entity(health=2, reported_health=3)).reported_health == 3


def test_what_carries_health_is_one_way() -> None:
    """By its type or by what it says; a soft dependency may be bidirectional."""
    both = relationship(bidirectional=True, type="depends_on")
    assert refused(parsing.new_relationship, both) == ["bidirectional"]
    both.health_coupling = HealthCoupling.HEALTH_COUPLING_SOFT
    assert parsing.new_relationship(both).bidirectional
    hard = relationship(bidirectional=True, type="uses", health_coupling=1)
    assert refused(parsing.new_relationship, hard) == ["bidirectional"]
    odd = relationship(health_coupling=7)
    assert refused(parsing.new_relationship, odd) == ["health_coupling"]
    assert refused(parsing.new_relationship, relationship(any_of="a\n")) == ["any_of"]


@pytest.mark.parametrize("number", [-1, 9, 99, 2**31 - 1])
def test_unknown_enum_numbers(number: int) -> None:
    """A number that no enum value has is refused, at creation and in changes."""
    for field in ("status", "health", "reported_health"):
        message = entity(**{field: number})
        assert refused(parsing.new_entity, message) == [field]
        assert refused(parsing.update_entity, message, None, 0) == [f"entity.{field}"]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_numbers_that_json_lacks(number: float) -> None:
    """Metadata whose numbers are not finite is refused by the path of the number."""
    message = entity(metadata=struct(x={"list": [1, {"y": number}]}))
    assert refused(parsing.new_entity, message) == ["metadata.x.list[1].y"]
    batch = [MutationMessage(), MutationMessage()]
    batch[0].create_entity.CopyFrom(entity())
    batch[1].update_entity.entity.CopyFrom(message)
    path = "mutations[1].update_entity.entity.metadata.x.list[1].y"
    assert refused(parsing.mutations, batch) == [path]
    assert refused(parsing.new_relationship, relationship(weight=number)) == ["weight"]


@pytest.mark.parametrize("lists", [False, True])
def test_metadata_is_nested_24_deep_at_most(lists: bool) -> None:
    """24 levels of objects and lists are taken, 25 refused."""
    parsing.new_entity(entity(metadata=nested(24, lists)))
    parsing.new_relationship(relationship(metadata=nested(24, lists)))
    [field] = refused(parsing.new_entity, entity(metadata=nested(25, lists)))
    assert field.startswith("metadata.a")


def test_the_deepest_metadata_passes_through_every_message() -> None:
    """What the limit allows can be parsed in the message that holds it deepest."""
    request = registry_service_pb2.WriteRequest()
    request.mutations.add().update_entity.entity.CopyFrom(entity(metadata=nested(24)))
    data = request.SerializeToString()
    assert registry_service_pb2.WriteRequest.FromString(data) == request
    assert len(parsing.mutations(request.mutations)) == 1


def test_metadata_has_a_size() -> None:
    """256 KiB are taken, a byte more refused by the name of the limit."""
    # The key, and what is around key and text, take 15 bytes.
    fitting = struct(x="x" * ((1 << 18) - 15))
    assert fitting.ByteSize() == 1 << 18
    parsing.new_entity(entity(metadata=fitting))
    fitting.fields["x"].string_value += "x"
    with pytest.raises(LimitExceeded) as caught:
        parsing.new_entity(entity(metadata=fitting))
    assert caught.value.metadata == {
        "field": "metadata",
        "limit": "max_metadata_bytes",
        "maximum": "262144",
        "actual": "262145",
    }


def test_unknown_fields_of_metadata_are_dropped() -> None:
    """What nobody can read is not stored: it could be nested deeper than an answer may be."""
    unknown = b"\x9b\x06" * 90 + b"\x9c\x06" * 90
    message = entity(metadata=Struct.FromString(unknown + struct(x=1).SerializeToString()))
    assert parsing.new_entity(message).metadata == struct(x=1).SerializeToString()
    message.metadata.CopyFrom(Struct.FromString(unknown))
    assert parsing.new_entity(message).metadata == b""


def test_all_malformed_fields_are_told() -> None:
    """A caller hears of everything that is wrong with what is to be created."""
    message = EntityMessage(id="a b", type="", version="\n", labels={"-": ""}, regions=["", ""])
    assert {*refused(parsing.new_entity, message)} == {
        "id", "type", "name", "version", "labels", "regions",
    }  # fmt: skip
    assert {*refused(parsing.new_relationship, RelationshipMessage(id="/", weight=-1))} == {
        "id", "source_id", "target_id", "type", "weight",
    }  # fmt: skip


def test_a_put_keeps_what_it_leaves_out() -> None:
    """Status, health and regions stay as they are unless they are set."""

    def keeps(**values: Any) -> frozenset[str]:
        return parsing.put_entity(entity(**values)).keeps

    assert keeps() == {"status", "reported_health", "regions"}
    assert keeps(status=1, regions=["eu"]) == {"reported_health"}
    assert keeps(status=1, health=1, regions=["eu"]) == frozenset()
    assert keeps(status=1, reported_health=1, regions=["eu"]) == frozenset()


def update(message: EntityMessage, *paths: str) -> tuple[str, ...]:
    """The paths that an update with this mask means."""
    return parsing.update_entity(message, FieldMask(paths=paths), 0).paths


def test_without_a_mask_the_set_fields_are_meant() -> None:
    """An absent or empty mask names what is set and may change; nothing else."""
    message = entity(status=2, labels={"k": ""}, revision=5)
    assert parsing.update_entity(message, None, 0).paths == ("name", "labels", "status")
    assert update(message) == ("name", "labels", "status")
    assert parsing.update_entity(EntityMessage(id="a"), None, 0).paths == ()
    edge = RelationshipMessage(id="r", weight=0.0)
    assert parsing.update_relationship(edge, None, 0).paths == ("weight",)


def test_masks() -> None:
    """Paths in both spellings, keys of maps whatever they look like, and `*` for all."""
    assert update(entity(), "name", "metadata.a.b", "labels.example.com/x", "labels") == (
        "name", "metadata.a.b", "labels.example.com/x", "labels",
    )  # fmt: skip
    assert {*update(entity(), "*")} == ENTITY_PATHS
    edge = relationship()
    for path in ("versionConstraint", "version_constraint"):
        mask = FieldMask(paths=[path, "metadata.camelCase"])
        assert parsing.update_relationship(edge, mask, 0).paths == (
            "version_constraint", "metadata.camelCase",
        )  # fmt: skip
    every = parsing.update_relationship(edge, FieldMask(paths=["*"]), 0)
    assert {*every.paths} == RELATIONSHIP_PATHS


def test_output_only_fields_in_masks_are_ignored() -> None:
    """Read, edit and write back is safe: what only the server sets is passed over."""
    paths = ("createdAt", "updated_at", "revision", "createRevision", "create_revision")
    assert update(entity(), *paths) == ()
    assert update(entity(), "status", *paths) == ("status",)


@pytest.mark.parametrize(
    "path",
    ["", "id", "type", "nope", "name.x", "metadata.", "labels.", ".", "Name", "* ", "status.x"],
)
def test_paths_that_are_refused(path: str) -> None:
    """What cannot be changed is refused by the mask's name."""
    mask = FieldMask(paths=["name", path])
    assert refused(parsing.update_entity, entity(), mask, 0) == ["update_mask"]
    assert refused(parsing.update_relationship, relationship(), mask, 0) == ["update_mask"]


def test_a_star_stands_alone() -> None:
    """`*` beside other paths is refused."""
    assert refused(update, entity(), "*", "name") == ["update_mask"]


def test_named_values_are_checked_before_anything_is_decided() -> None:
    """A malformed value of a field that is named is refused; of one that is not, nobody looks."""
    bad = entity(name="", version="\n", labels={"k": "\n"}, regions=["x", "x"])
    assert refused(update, bad, "*") == [
        "entity.name", "entity.version", "entity.labels.k", "entity.regions",
    ]  # fmt: skip
    assert refused(update, bad, "labels.other") == ["entity.labels.k"]
    assert update(bad, "status") == ("status",)
    mask = FieldMask(paths=["weight"])
    edge = relationship(weight=-1.0)
    assert refused(parsing.update_relationship, edge, mask, 0) == ["relationship.weight"]
    parsing.update_relationship(edge, FieldMask(paths=["metadata"]), 0)


def test_ids_and_expected_revisions() -> None:
    """An update and a deletion need an id, and a revision that is not negative."""
    for bad in ("", "a b", "x" * 256):
        assert refused(parsing.update_entity, entity(id=bad), None, 0) == ["entity.id"]
        assert refused(parsing.delete_entity, bad, False, False, 0) == ["id"]
        assert refused(parsing.delete_relationship, bad, 0) == ["id"]
        message = relationship(id=bad)
        assert refused(parsing.update_relationship, message, None, 0) == ["relationship.id"]
    assert refused(parsing.update_entity, entity(), None, -1) == ["expected_revision"]
    assert refused(parsing.delete_entity, "a", False, False, -1) == ["expected_revision"]


def mutation(**operation: Any) -> MutationMessage:
    """A mutation of this operation."""
    return MutationMessage(**operation)


def test_each_operation() -> None:
    """Each operation of a batch becomes its mutation."""
    Nested = MutationMessage  # noqa: N806 - the scope of the nested messages
    made = parsing.mutations(
        [
            mutation(create_entity=entity()),
            mutation(put_entity=entity()),
            mutation(update_entity=Nested.UpdateEntity(entity=entity(), expected_revision=3)),
            mutation(delete_entity=Nested.DeleteEntity(id="a", cascade=True, allow_large=True)),
            mutation(create_relationship=relationship()),
            mutation(put_relationship=relationship()),
            mutation(update_relationship=Nested.UpdateRelationship(relationship=relationship())),
            mutation(delete_relationship=Nested.DeleteRelationship(id="r", expected_revision=4)),
        ]
    )
    value, edge = parsing.entity(entity()), parsing.relationship(relationship())
    assert made == [
        CreateEntity(value),
        PutEntity(value, frozenset({"status", "reported_health", "regions"})),
        UpdateEntity(value, ("name",), 3),
        DeleteEntity("a", True, True, 0),
        CreateRelationship(edge),
        PutRelationship(edge),
        UpdateRelationship(edge, (), 0),
        DeleteRelationship("r", 4),
    ]


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (mutation(), "operation"),
        (mutation(create_entity=EntityMessage(type="t")), "create_entity.name"),
        (mutation(put_entity=entity(id="/")), "put_entity.id"),
        (mutation(update_entity={}), "update_entity.entity"),
        (mutation(update_entity={"entity": {}}), "update_entity.entity.id"),
        (mutation(delete_entity={}), "delete_entity.id"),
        (mutation(create_relationship=relationship(type="?")), "create_relationship.type"),
        (mutation(put_relationship=relationship(target_id="")), "put_relationship.target_id"),
        (mutation(update_relationship={}), "update_relationship.relationship"),
        (mutation(delete_relationship={"id": "r", "expected_revision": -1}),
         "delete_relationship.expected_revision"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_batches_name_the_mutation(message: MutationMessage, field: str) -> None:
    """An error in a batch names the number of the mutation and the whole path."""
    batch = [mutation(create_entity=entity()), message]
    assert refused(parsing.mutations, batch) == [f"mutations[1].{field}"]


def test_the_size_of_a_batch() -> None:
    """A batch has 1 to 1,000 mutations."""
    assert refused(parsing.mutations, []) == ["mutations"]
    one = mutation(delete_entity={"id": "a"})
    assert len(parsing.mutations([one] * 1000)) == 1000
    with pytest.raises(LimitExceeded):
        parsing.mutations([one] * 1001)


def test_preconditions() -> None:
    """Each condition on each kind of resource; an expected revision of 0 is a condition too."""
    made = parsing.preconditions(
        [
            mutation_pb2.Precondition(entity_id="a", must_exist=True),
            mutation_pb2.Precondition(entity_id="a", must_not_exist=True),
            mutation_pb2.Precondition(relationship_id="r", expected_revision=0),
        ]
    )
    assert made == [
        Precondition("a", False, None, must_exist=True),
        Precondition("a", False, None, must_not_exist=True),
        Precondition("r", True, 0),
    ]


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (mutation_pb2.Precondition(), "resource"),
        (mutation_pb2.Precondition(entity_id="a"), "condition"),
        (mutation_pb2.Precondition(entity_id="", must_exist=True), "entity_id"),
        (mutation_pb2.Precondition(relationship_id="/", must_exist=True), "relationship_id"),
        (mutation_pb2.Precondition(entity_id="a", must_exist=False), "must_exist"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_preconditions_that_are_refused(message: Message, field: str) -> None:
    """Half a condition, or one that asks for nothing, is refused by its path."""
    assert refused(parsing.preconditions, [message]) == [f"preconditions[0].{field}"]


def test_how_many_preconditions() -> None:
    """At most 1,000 conditions."""
    one = mutation_pb2.Precondition(entity_id="a", must_exist=True)
    assert len(parsing.preconditions([one] * 1000)) == 1000
    with pytest.raises(LimitExceeded):
        parsing.preconditions([one] * 1001)


def test_what_is_required() -> None:
    """A request without its message is refused by the field."""
    request = MutationMessage.UpdateEntity()
    assert refused(parsing.required, "entity", request) == ["entity"]
    request.entity.SetInParent()
    parsing.required("entity", request)
