"""The comparison of what was discovered with what is registered: `nexus_registry.reconcile`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from nexus_registry.batching import batches
from nexus_registry.reconcile import Existing, Ownership, Plan, Wanted, reconcile
from ose.registry.v1.entity_pb2 import Entity, EntityStatus
from ose.registry.v1.mutation_pb2 import Mutation
from ose.registry.v1.relationship_pb2 import Relationship
from tests.cli.fake import FakeRegistry

OWNER = Ownership(
    mark=("source", "test"),
    labels=frozenset({"section"}),
    metadata=frozenset({"size"}),
    edge_metadata=frozenset({"via"}),
)


def entity(
    name: str,
    version: str = "1",
    labels: dict[str, str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    *,
    ours: bool = True,
) -> Entity:
    """An entity as a discoverer makes it."""
    mark: dict[str, str] = {"source": "test"} if ours else {}
    found = Entity(
        id=f"t:{name}", type="package", name=name, version=version, labels=mark | (labels or {})
    )
    if metadata:
        found.metadata.update(metadata)
    return found


def edge(
    source: str,
    target: str,
    constraint: str = "",
    metadata: Mapping[str, Any] | None = None,
    *,
    ours: bool = True,
    id: str = "",  # noqa: A002
) -> Relationship:
    """A relationship as a discoverer makes it."""
    found = Relationship(
        id=id,
        source_id=f"t:{source}",
        target_id=f"t:{target}",
        type="depends_on",
        version_constraint=constraint,
    )
    found.metadata.update(({"source": "test"} if ours else {}) | dict(metadata or {}))
    return found


def _plan(
    wanted: tuple[list[Entity], list[Relationship]],
    existing: tuple[list[Entity], list[Relationship]],
    **options: Any,
) -> Plan:
    return reconcile(Wanted(*wanted), Existing.of(*existing), OWNER, **options)


def _only(plan: Plan) -> Mutation:
    (mutation,) = plan.mutations()
    return mutation


def test_what_is_new_is_put() -> None:
    """Entities before the relationships that need them."""
    plan = _plan(([entity("a"), entity("b")], [edge("a", "b")]), ([], []))
    kinds = [mutation.WhichOneof("operation") for mutation in plan.mutations()]
    assert kinds == ["put_entity", "put_entity", "put_relationship"]
    assert plan.entities.created == ["a 1", "b 1"]
    assert plan.relationships.created == ["t:a -depends_on-> t:b"]


def test_what_is_the_same_is_no_mutation() -> None:
    """Output-only fields, and what others said, are not compared."""
    theirs = entity("a", metadata={"size": 3, "theirs": True}, labels={"team": "x"})
    theirs.revision, theirs.status = 9, EntityStatus.ENTITY_STATUS_DEPRECATED
    plan = _plan(([entity("a", metadata={"size": 3})], []), ([theirs], []))
    assert len(plan) == 0
    assert plan.entities.unchanged == 1


def test_a_new_version_is_an_update_of_the_version_alone() -> None:
    """The same entity, the mask of what changed, a text that tells both versions."""
    plan = _plan(([entity("a", "2")], []), ([entity("a", "1")], []))
    change = _only(plan).update_entity
    assert change.entity.id == "t:a"
    assert list(change.update_mask.paths) == ["version"]
    assert plan.entities.updated == ["a 1 => 2"]


def test_keys_are_set_and_removed_one_by_one() -> None:
    """A key that the discoverer no longer sets is removed; a key of others is not named."""
    before = entity("a", labels={"section": "x", "team": "t"}, metadata={"size": 1, "note": "n"})
    plan = _plan(([entity("a", labels={}, metadata={"size": 2})], []), ([before], []))
    mask = _only(plan).update_entity.update_mask
    assert list(mask.paths) == ["labels.section", "metadata.size"]


def test_an_entity_of_others_is_taken_over_and_never_deleted() -> None:
    """One with the same id gets the mark; one without it is not the discoverer's to delete."""
    plan = _plan(([entity("a")], []), ([entity("a", ours=False), entity("b", ours=False)], []))
    assert list(_only(plan).update_entity.update_mask.paths) == ["labels.source"]


def test_a_changed_constraint_is_an_update_by_the_registered_id() -> None:
    """Relationships are known by their ends and type."""
    plan = _plan(
        ([entity("a")], [edge("a", "a", ">= 2", {"via": ["x"]})]),
        ([entity("a")], [edge("a", "a", ">= 1", {"note": "n"}, id="r7")]),
    )
    change = _only(plan).update_relationship
    assert change.relationship.id == "r7"
    assert list(change.update_mask.paths) == ["version_constraint", "metadata.via"]


def test_what_is_gone_is_deleted_relationships_first() -> None:
    """So that no entity is deleted while something holds it."""
    plan = _plan(([entity("a")], []), ([entity("a"), entity("b")], [edge("a", "b", id="r")]))
    kinds = [mutation.WhichOneof("operation") for mutation in plan.mutations()]
    assert kinds == ["delete_relationship", "delete_entity"]
    assert plan.entities.removed == ["b 1"]


def test_without_pruning_entities_stay_with_their_relationships() -> None:
    """But the stale relationships of what was discovered go: they are part of what it is."""
    plan = _plan(
        ([entity("a")], []),
        (
            [entity("a"), entity("b"), entity("c")],
            [edge("a", "b", id="r1"), edge("b", "c", id="r2")],
        ),
        prune=False,
    )
    assert _only(plan).delete_relationship.id == "r1"
    assert plan.entities.kept == ["b 1", "c 1"]
    assert plan.relationships.kept == ["t:b -depends_on-> t:c"]


def test_what_others_hold_and_what_others_made_stays() -> None:
    """A relationship without the mark is never deleted, a protected entity neither."""
    plan = _plan(
        ([entity("a")], []),
        ([entity("a"), entity("b")], [edge("a", "b", ours=False, id="r1")]),
        protected={"t:b"},
    )
    assert len(plan) == 0
    assert plan.entities.kept == ["b 1"]


_names = st.sampled_from("abcdef")
_sections = st.sampled_from(["", "x", "y"])


@st.composite
def _states(draw: st.DrawFn) -> Wanted:
    entities = {
        name: entity(
            name,
            draw(st.sampled_from("123")),
            {"section": section} if (section := draw(_sections)) else {},
            {"size": size} if (size := draw(st.integers(0, 2))) else {},
        )
        for name in draw(st.sets(_names))
    }
    pairs = draw(st.sets(st.tuples(_names, _names)))
    edges = [
        edge(one, other, draw(st.sampled_from(["", ">= 1"])), {"via": ["v"]})
        for one, other in sorted(pairs)
        if one in entities and other in entities
    ]
    return Wanted(list(entities.values()), edges)


@given(st.lists(_states(), min_size=1, max_size=4))
def test_after_the_plan_the_registry_holds_what_was_discovered(states: list[Wanted]) -> None:
    """From any state to any other; no reference is ever broken; the second time is no change."""
    registry = FakeRegistry()
    for wanted in states:
        existing = Existing.of(registry.entities.values(), registry.relationships.values())
        plan = reconcile(wanted, existing, OWNER)
        list(registry.import_batches(batches(plan.mutations(), size=3)))
        held = Existing.of(registry.entities.values(), registry.relationships.values())
        assert set(held.entities) == {one.id for one in wanted.entities}
        assert len(held.relationships) == len(wanted.relationships)
        again = reconcile(wanted, held, OWNER)
        assert len(again) == 0
        assert again.entities.unchanged == len(wanted.entities)


def test_batches_keep_to_the_number_and_the_size() -> None:
    """In order; a mutation that is too large by itself is a batch of its own."""
    small = [Mutation(put_entity=Entity(name="x" * 10)) for _ in range(5)]
    assert [len(batch) for batch in batches(small, 2)] == [2, 2, 1]
    assert [len(batch) for batch in batches(small, 100, max_bytes=1)] == [1] * 5
    assert [len(batch) for batch in batches(small, 100, max_bytes=40)] == [2, 2, 1]
    assert list(batches([])) == []
