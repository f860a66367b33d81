"""Random requests over a small world, so that they meet each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from hyper_registry.model.entity import Entity
from hyper_registry.model.relationship import Relationship
from hyper_registry.registry import codec
from hyper_registry.registry import mutations as m
from tests.unit.registry.oracle import Oracle
from tests.unit.registry.support import packed, request

Resolve = Callable[[Oracle], m.WriteRequest]
"""Makes a request once it is known what the registry holds: it names revisions relative to that."""

ENTITY_IDS = ("a", "b", "c", "d")
RELATIONSHIP_IDS = ("r", "s", "t")

_entity_ids = st.sampled_from(ENTITY_IDS)
_relationship_ids = st.sampled_from(RELATIONSHIP_IDS)
_metadata = st.dictionaries(
    st.sampled_from(["x", "feature"]), st.sampled_from(["", "ai-ml", 1.5, True, None])
).map(lambda values: packed(**values))
_labels = st.dictionaries(st.sampled_from(["k", "team"]), st.sampled_from(["", "1", "2"]))

_entity_paths = st.lists(
    st.sampled_from(
        [
            "name",
            "version",
            "metadata",
            "metadata.x",
            "metadata.feature",
            "labels",
            "labels.k",
            "labels.team",
            "status",
            "reported_health",
            "regions",
        ]
    ),
    unique=True,
    max_size=3,
).map(tuple)
_relationship_paths = st.lists(
    st.sampled_from(
        [
            "weight",
            "metadata",
            "metadata.x",
            "bidirectional",
            "version_constraint",
            "health_coupling",
            "any_of",
        ]
    ),
    unique=True,
    max_size=3,
).map(tuple)


@st.composite
def _entities(draw: Any, ids: st.SearchStrategy[str], types: list[str], names: list[str]) -> Entity:
    return Entity(
        draw(ids),
        draw(st.sampled_from(types)),
        draw(st.sampled_from(names)),
        draw(st.sampled_from(["", "", "1"])),
        draw(_metadata),
        draw(_labels),
        draw(st.integers(1, 3)),
        draw(st.sampled_from([1, 1, 2, 3, 3, 4])),
        draw(st.sampled_from([("local",), ("eu", "us")])),
    )


@st.composite
def _relationships(
    draw: Any, ids: st.SearchStrategy[str], ends: list[str], types: list[str]
) -> Relationship:
    made = Relationship(
        draw(ids),
        draw(st.sampled_from(ends)),
        draw(st.sampled_from(ends)),
        draw(st.sampled_from(types)),
        draw(st.sampled_from([1.0, 0.0, 2.5])),
        draw(_metadata),
        draw(st.sampled_from([False, False, True])),
        draw(st.sampled_from(["", ">=1"])),
        health_coupling=draw(st.sampled_from([0, 0, 1, 2])),
        any_of=draw(st.sampled_from(["", "", "x", "y"])),
    )
    return made._replace(bidirectional=False) if made.carries_health else made


_NAMES = ["n1", "n2", "n3"]
_new_entities = _entities(_entity_ids | st.just(""), ["service", "plugin"], _NAMES)
_entity_changes = _entities(_entity_ids, ["", "", "", "service"], [*_NAMES, ""])
_new_relationships = _relationships(
    _relationship_ids | st.just(""), [*ENTITY_IDS], ["uses", "depends_on"]
)
_relationship_changes = _relationships(_relationship_ids, ["", "", "", "a"], ["", "", "uses"])

# What `expected_revision` is, from what it should be; None: it is left out.
_offsets = st.sampled_from([None, None, None, 0, 0, -1, 1])


def _current(oracle: Oracle, id_: str, is_relationship: bool) -> int:
    state = oracle.now
    found = (state.relationships if is_relationship else state.entities).get(id_)
    return 0 if found is None else found["revision"]


def _expectation(oracle: Oracle, id_: str, is_relationship: bool, offset: int | None) -> int:
    return 0 if offset is None else max(0, _current(oracle, id_, is_relationship) + offset)


_Late = Callable[[Oracle], m.Mutation]


def _plain(mutation: m.Mutation) -> _Late:
    return lambda _oracle: mutation


@st.composite
def _changes(draw: Any) -> _Late:
    offset = draw(_offsets)
    kind = draw(st.sampled_from(["update", "update", "delete"]))
    if draw(st.booleans()):
        entity = draw(_entity_changes)
        if kind == "delete":
            cascade = draw(st.booleans())
            return lambda oracle: m.DeleteEntity(
                entity.id, cascade, False, _expectation(oracle, entity.id, False, offset)
            )
        paths = draw(_entity_paths)
        return lambda oracle: m.UpdateEntity(
            entity, paths, _expectation(oracle, entity.id, False, offset)
        )
    edge = draw(_relationship_changes)
    if kind == "delete":
        return lambda oracle: m.DeleteRelationship(
            edge.id, _expectation(oracle, edge.id, True, offset)
        )
    edge_paths = draw(_relationship_paths)
    return lambda oracle: m.UpdateRelationship(
        edge, edge_paths, _expectation(oracle, edge.id, True, offset)
    )


_keeps = st.frozensets(st.sampled_from(["status", "reported_health", "regions"]))
_mutations: st.SearchStrategy[_Late] = st.one_of(
    _new_entities.map(m.CreateEntity).map(_plain),
    st.builds(m.PutEntity, _new_entities, _keeps).map(_plain),
    _new_relationships.map(m.CreateRelationship).map(_plain),
    _new_relationships.map(m.PutRelationship).map(_plain),
    _changes(),
    _changes(),
)


def _read_entity(entity: Entity) -> m.CreateEntity:
    """What a large batch makes of it, which may be decided together with others."""
    return m.CreateEntity(entity, codec.entity_body(entity), codec.metadata(entity.metadata))


def _read_relationship(edge: Relationship) -> m.CreateRelationship:
    return m.CreateRelationship(edge, codec.relationship_body(edge), codec.metadata(edge.metadata))


# Most of them fit together, and with what is there.
_together = st.lists(
    _entities(
        st.sampled_from(["", "", "", *ENTITY_IDS]), ["service", "plugin"], [*_NAMES, *"uvwxyz"]
    ).map(_read_entity),
    min_size=1,
    max_size=4,
) | st.lists(
    _relationships(
        st.sampled_from(["", "", "", *RELATIONSHIP_IDS]), [*ENTITY_IDS], ["uses", "depends_on"]
    ).map(_read_relationship),
    min_size=1,
    max_size=3,
)
_runs: st.SearchStrategy[list[_Late]] = st.one_of(
    *[_mutations.map(lambda one: [one])] * 4, _together.map(lambda run: [*map(_plain, run)])
)


@st.composite
def _preconditions(draw: Any) -> Callable[[Oracle], m.Precondition]:
    is_relationship = draw(st.booleans())
    id_ = draw(_relationship_ids if is_relationship else _entity_ids)
    condition = draw(st.sampled_from(["exact", "must_exist", "must_not_exist"]))
    if condition == "exact":
        offset = draw(st.sampled_from([0, 0, 0, 1]))
        return lambda oracle: m.Precondition(
            id_, is_relationship, _current(oracle, id_, is_relationship) + offset
        )
    precondition = m.Precondition(
        id_, is_relationship, None, condition == "must_exist", condition == "must_not_exist"
    )
    return lambda _oracle: precondition


@st.composite
def requests(draw: Any) -> Resolve:
    """A request of a few mutations; keys and bodies are few, so that they are used again."""
    runs = draw(st.lists(_runs, min_size=1, max_size=4))
    preconditions = draw(st.just([]) | st.lists(_preconditions(), max_size=2))
    key = draw(st.sampled_from(["", "", "", "", "k1", "k2"]))
    body = draw(st.sampled_from([b"1", b"1", b"2"]))
    dry_run = draw(st.sampled_from([False, False, False, False, True]))
    return lambda oracle: request(
        *(mutation(oracle) for run in runs for mutation in run),
        preconditions=[condition(oracle) for condition in preconditions],
        key=key,
        body=body,
        dry_run=dry_run,
    )


groups = st.lists(requests(), min_size=1, max_size=4)
"""Requests that are submitted at once."""
