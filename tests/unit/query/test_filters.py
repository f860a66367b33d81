"""Filters are checked, normalised, and mean the same of decoded and of serialised resources."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyper_registry.model.entity import Entity
from hyper_registry.model.errors import InvalidArgument, LimitExceeded
from hyper_registry.model.relationship import Relationship
from hyper_registry.query.filters import LISTING_NAMES, EntityFilter, RelationshipFilter
from hyper_registry.query.selection import Belonging
from hyper_registry.registry.codec import encode_entity
from ose.registry.v1.entity_pb2 import Entity as EntityMessage
from tests.unit.query.test_listing import entity_filters
from tests.unit.query.world import World, naive_matches, struct, worlds


def test_equal_conditions_are_equal_filters() -> None:
    """Order, repetition and implied labels make no difference, so watchers can share a filter."""
    one = EntityFilter.parse(ids=["a", "b", "a"], labels=["k=v", "k"], statuses=[1, 2])
    other = EntityFilter.parse(ids=["b", "a"], labels=["k=v"], statuses=[2, 1, 1])
    assert one == other
    assert hash(one) == hash(other)
    assert one.digest() == other.digest()
    assert one.digest() != EntityFilter.parse(ids=["a", "b"], labels=["k"]).digest()
    edges = RelationshipFilter.parse(source_ids=["a", "b"])
    assert edges == RelationshipFilter.parse(source_ids=["b", "a"])
    assert edges.digest() != RelationshipFilter.parse(target_ids=["a", "b"]).digest()


def test_labels_are_parsed_at_the_first_equals_sign() -> None:
    """`key` asks for the label, `key=value` for its value, which may be empty or have `=` in it."""
    parsed = EntityFilter.parse(labels=["a", "b=", "c=x=y"]).labels
    assert parsed == {("a", None), ("b", ""), ("c", "x=y")}


def test_malformed_fields_are_all_named() -> None:
    """One error names every malformed field, as the request calls it."""
    with pytest.raises(InvalidArgument) as caught:
        EntityFilter.parse(
            ids=["a/b"],
            types=["9x", "relationship"],
            statuses=[0],
            healths=[9],
            feature="x y",
            labels=["=v", "-k"],
            name_prefix="\n",
            names=LISTING_NAMES,
        )
    fields = [violation.field for violation in caught.value.violations]
    assert fields == [
        *("ids", "type", "type", "status", "health", "feature", "labels", "labels", "name_prefix")
    ]
    with pytest.raises(InvalidArgument) as caught:
        RelationshipFilter.parse(
            types=["?"], source_ids=[""], target_ids=["a,b"], names={"source_ids": "source_id"}
        )
    fields = [violation.field for violation in caught.value.violations]
    assert fields == ["types", "source_id", "target_ids"]


@pytest.mark.parametrize(
    ("field", "value", "most"), [("ids", "a", 1000), ("types", "t", 100), ("labels", "l", 32)]
)
def test_limits(field: str, value: str, most: int) -> None:
    """A filter has the documented number of values at most."""
    many: dict[str, list[str]] = {field: [value] * most}
    EntityFilter.parse(**many)  # type: ignore[arg-type]
    with pytest.raises(LimitExceeded) as caught:
        EntityFilter.parse(**{field: [value] * (most + 1)})  # type: ignore[arg-type]
    assert caught.value.metadata["maximum"] == str(most)


@given(world=worlds(), condition=entity_filters, data=st.data())
def test_records_match(world: World, condition: EntityFilter, data: st.DataObject) -> None:
    """A record matches as a naive look at its values says, with the graph of any revision."""
    revision = data.draw(st.integers(1, world.revision))
    belongs = Belonging(world.view)
    for entity in world.states[revision].entities.values():
        expected = naive_matches(world.states[revision], entity, condition)
        assert condition.matches_record(encode_entity(entity), revision, belongs) == expected


@given(world=worlds(), condition=entity_filters)
def test_affected_entities_are_all_named(world: World, condition: EntityFilter) -> None:
    """W10: who starts or stops to match without a change of its own, `affected_by` names.

    It is asked about every relationship that came or went.
    """
    for revision in range(2, world.revision + 1):
        before, after = world.states[revision - 1], world.states[revision]
        moved = {**before.relationships, **after.relationships}.values()
        named = {
            entity_id
            for edge in moved
            if (edge.id in before.relationships) != (edge.id in after.relationships)
            for entity_id in condition.affected_by(edge)
        }
        for entity_id, entity in after.entities.items():
            if before.entities.get(entity_id) is entity and entity_id not in named:
                assert naive_matches(before, entity, condition) == naive_matches(
                    after, entity, condition
                )


def test_affected_by_is_for_features_only() -> None:
    """Without a feature in the filter no relationship can change what matches."""
    edge = Relationship("r", "a", "f", "belongs_to")
    assert EntityFilter(feature="f").affected_by(edge) == ("a",)
    assert EntityFilter().affected_by(edge) == ()
    assert EntityFilter(feature="f").affected_by(Relationship("r", "a", "f", "requires")) == ()


def test_feature_must_be_text() -> None:
    """A `metadata.feature` that is not text is no feature, and looking for one adds none."""
    entity = Entity("a", "plugin", "a", metadata=struct(feature=1.0))
    message = EntityMessage.FromString(encode_entity(entity))
    condition = EntityFilter(feature="f")
    assert not condition.matches_message(message, 1, lambda *_: False)
    assert message == EntityMessage.FromString(encode_entity(entity))
