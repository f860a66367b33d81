"""An engine to test: how it is started, written to, and compared with the oracle."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise, zip_longest
from typing import Any

import numpy as np
import orjson
from google.protobuf.struct_pb2 import Struct

from hyper_registry.model.entity import Entity
from hyper_registry.model.health import MAX_ENTITIES, turns_of
from hyper_registry.model.relationship import Relationship
from hyper_registry.model.revision import Action, Change, Commit, Kind, Position, chain
from hyper_registry.registry import codec
from hyper_registry.registry.adjacency import Lists
from hyper_registry.registry.compaction import compacted
from hyper_registry.registry.engine import Engine
from hyper_registry.registry.mutations import (
    CreateEntity,
    CreateRelationship,
    Decision,
    Mutation,
    WriteRequest,
)
from hyper_registry.registry.propagation import rows_of
from hyper_registry.registry.table import Table, frame
from hyper_registry.registry.view import Generation
from hyper_registry.store.base import ResultKey, Store
from hyper_registry.store.memory import MemoryDisk, MemoryStore
from tests.unit.registry.oracle import (
    Expected,
    Oracle,
    Resource,
    State,
    entity_values,
    relationship_values,
)


@asynccontextmanager
async def running(
    store: Store | MemoryDisk | None = None, clock: Callable[[], int] | None = None
) -> AsyncIterator[Engine]:
    """An engine over a store, started and in the end closed."""
    if not isinstance(store, Store):
        store = MemoryStore(store)
    engine = Engine(store) if clock is None else Engine(store, clock=clock, steady=clock)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.aclose()


def packed(**values: Any) -> bytes:
    """Metadata as the domain keeps it."""
    struct = Struct()
    struct.update(values)
    return codec.pack(struct)


def entity(id_: str, name: str | None = None, type_: str = "service", **values: Any) -> Entity:
    """An entity whose name is its id."""
    return Entity(id_, type_, id_ if name is None else name, **values)


def edge(id_: str, source: str, target: str, type_: str = "uses", **values: Any) -> Relationship:
    """A relationship."""
    return Relationship(id_, source, target, type_, **values)


def request(
    *mutations: Mutation,
    decisions: list[Decision] | None = None,
    key: str = "",
    body: bytes = b"",
    **options: Any,
) -> WriteRequest:
    """A request that answers its revision; with `decisions`, what was decided is added there."""

    def respond(decision: Decision) -> bytes:
        if decisions is not None:
            decisions.append(decision)
        return str(decision.revision).encode()

    return WriteRequest(
        mutations,
        respond,
        options.pop("method", "Write"),
        key=ResultKey("", "Write", key) if key else None,
        body_hash=body,
        is_batch=len(mutations) > 1,
        **options,
    )


async def write(engine: Engine, *mutations: Mutation, **options: Any) -> int:
    """Writes mutations as one revision; answers that."""
    return int(await engine.committer.submit(request(*mutations, **options)))


async def outcomes(engine: Engine, *requests: WriteRequest) -> list[bytes | BaseException]:
    """Submits requests at once, in this order; answers what became of each."""
    submitted = (engine.committer.submit(one) for one in requests)
    return await asyncio.gather(*submitted, return_exceptions=True)


async def ready(engine: Engine, *ids: str) -> None:
    """Creates entities."""
    await write(engine, *(CreateEntity(entity(id_)) for id_ in ids))


async def link(engine: Engine, id_: str, source: str, target: str, **values: Any) -> int:
    """Creates a relationship."""
    return await write(engine, CreateRelationship(edge(id_, source, target, **values)))


async def log_of(engine: Engine) -> list[Commit]:
    """What the store still has of the log, as whole revisions."""
    parts = await engine.store.read_log(Position(engine.view.floor), 1 << 30, 1 << 40)
    return [commit for commit, _ in parts]


def oracle_of(engine: Engine) -> Oracle:
    """An oracle that starts where a new registry does."""
    oracle = Oracle()
    assert engine.view.visible == 1
    table = engine.view.generation.entities
    state = State()
    for id_ in table.ids:
        state.entities[id_] = entity_at(engine, id_, 1) or {}
    oracle.states.append(state)
    return oracle


def entity_at(engine: Engine, id_: str, revision: int) -> Resource | None:
    """An entity as the view has it at a revision."""
    record = engine.view.entity(id_, revision)
    return None if record is None else entity_values(codec.decode_entity(record))


def relationship_at(engine: Engine, id_: str, revision: int) -> Resource | None:
    """A relationship as the view has it at a revision."""
    record = engine.view.relationship(id_, revision)
    if record is None:
        return None
    return relationship_values(codec.decode_relationship(record))


async def submit_all(engine: Engine, oracle: Oracle, requests: Sequence[WriteRequest]) -> None:
    """Submits requests at once, and compares what becomes of each with the oracle."""
    compare(oracle, requests, *await submit(engine, requests))


async def submit(
    engine: Engine, requests: Sequence[WriteRequest], pauses: Sequence[int] = ()
) -> tuple[list[bytes | BaseException], list[list[Decision]]]:
    """Submits requests in this order; answers what became of each, and what was decided of it.

    They come at once, or after so many turns of the loop, which others may use to commit.
    """
    made: list[list[Decision]] = [[] for _ in requests]
    recorded = [
        replace(one, respond=request(decisions=decisions).respond)
        for one, decisions in zip(requests, made, strict=True)
    ]
    tasks = []
    for one, pause in zip_longest(recorded, pauses[: len(recorded)], fillvalue=0):
        assert isinstance(one, WriteRequest)
        for _ in range(pause):
            await asyncio.sleep(0)
        tasks.append(asyncio.create_task(engine.committer.submit(one)))
    return await asyncio.gather(*tasks, return_exceptions=True), made


def compare(
    oracle: Oracle,
    requests: Sequence[WriteRequest],
    answers: Sequence[bytes | BaseException],
    made: Sequence[list[Decision]],
) -> None:
    """Lets the oracle decide the requests, and compares what it says with the answers."""
    for one, answer, decisions in zip(requests, answers, made, strict=True):

        def new_id(number: int, decisions: list[Decision] = decisions) -> str:
            if not decisions:
                return f"nobody-sees-this-{number}"
            result = decisions[-1].results[number]
            assert result.record is not None
            if result.is_relationship:
                return codec.decode_relationship(result.record).id
            return codec.decode_entity(result.record).id

        repeats = one.key is not None and not one.dry_run and one.key.key in oracle.keys
        expected = oracle.decide(one, new_id)
        _compare_answer(expected, answer, [] if repeats else decisions)


def _compare_answer(
    expected: Expected, answer: bytes | BaseException, decisions: list[Decision]
) -> None:
    if expected.error is not None:
        assert type(answer) is expected.error, (answer, expected.error)
        return
    assert answer == str(expected.revision).encode(), (answer, expected)
    if decisions:
        got = [
            (
                result.outcome,
                _resource(result.record, result.is_relationship),
                {*result.relationships},
            )
            for result in decisions[-1].results
        ]
        assert got == expected.outcomes


def _resource(record: bytes | None, is_relationship: bool) -> Resource | None:
    if record is None:
        return None
    if is_relationship:
        return relationship_values(codec.decode_relationship(record))
    return entity_values(codec.decode_entity(record))


async def check(engine: Engine, oracle: Oracle, oldest: int | None = None) -> None:
    """Compares everything that can be read, at every revision from `oldest` on, with the oracle."""
    oldest = max(1, engine.view.floor if oldest is None else oldest)
    assert engine.view.visible == engine.feed.revision == oracle.revision
    assert engine.committer.head.revision == oracle.revision
    for revision in range(oldest, oracle.revision + 1):
        check_revision(engine, oracle, revision)
    check_tip(engine, oracle.now)
    await check_log(engine)
    await check_store(engine, oracle.now)


def check_revision(engine: Engine, oracle: Oracle, revision: int) -> None:
    """Compares what can be read at a revision with the oracle."""
    state, generation = oracle.states[revision], engine.view.generation
    ids = {id_ for old in oracle.states for id_ in old.entities}
    for id_ in ids:
        assert entity_at(engine, id_, revision) == state.entities.get(id_), (id_, revision)
    ids = {id_ for old in oracle.states for id_ in old.relationships}
    for id_ in ids:
        found = relationship_at(engine, id_, revision)
        assert found == state.relationships.get(id_), (id_, revision)
    assert [id_ for _, id_ in rows_at(generation.entities, revision, "entity")] == [*state.entities]
    assert [id_ for _, id_ in rows_at(generation.relationships, revision, "edge")] == [
        *state.relationships
    ]
    _check_adjacency(generation, state, revision)
    _check_indexes(generation, state, revision)


def rows_at(table: Table, revision: int, kind: str) -> list[tuple[int, str]]:
    """The rows that have a version of their own at a revision, and their ids, in order."""
    found, last = [], -1
    for row in range(table.rows.length):
        slot = table.at(row, revision)
        if slot < 0 or table.row_of(slot) != row:
            continue
        record = table.record(slot)
        tag = codec.ENTITY_TAG if kind == "entity" else codec.RELATIONSHIP_TAG
        assert table.framed(slot) == frame(tag, record)
        resource = (
            codec.decode_entity(record) if kind == "entity" else codec.decode_relationship(record)
        )
        assert resource.create_revision == table.ordinal(row) >> 20
        since = resource.health_revision if isinstance(resource, Entity) else 0
        assert table.born(slot) == max(resource.revision, since)
        assert last < table.ordinal(row)
        last = table.ordinal(row)
        found.append((row, resource.id))
    return found


def _check_adjacency(generation: Generation, state: State, revision: int) -> None:
    outgoing: dict[str, set[tuple[str, str]]] = {id_: set() for id_ in state.entities}
    incoming: dict[str, set[tuple[str, str]]] = {id_: set() for id_ in state.entities}
    for id_, value in state.relationships.items():
        source, target = value["source_id"], value["target_id"]
        outgoing[source].add((target, id_))
        incoming[target].add((source, id_))
        if value["bidirectional"]:
            outgoing[target].add((source, id_))
            incoming[source].add((target, id_))
    rows = {id_: row for row, id_ in rows_at(generation.entities, revision, "entity")}
    names = {row: id_ for id_, row in rows.items()}
    for id_ in state.entities:
        for lists, expected in (
            (generation.graph.outgoing, outgoing[id_]),
            (generation.graph.incoming, incoming[id_]),
        ):
            found = neighbours(generation, lists, rows[id_], revision)
            assert sorted((names[row], edge_id) for row, edge_id in found) == sorted(expected)


def neighbours(
    generation: Generation, lists: Lists, row: int, revision: int
) -> list[tuple[int, str]]:
    """What a node's list shows at a revision: rows of neighbours and ids of relationships."""
    table = generation.relationships
    found = []
    for entry in lists.entries(row).tolist():
        slot = entry & 0xFFFFFFFF
        born, died = table.slots.array[slot, :2].tolist()
        if born <= revision < died:
            found.append((entry >> 32, codec.decode_relationship(table.record(slot)).id))
    return found


def _check_indexes(generation: Generation, state: State, revision: int) -> None:
    rows = {id_: row for row, id_ in rows_at(generation.entities, revision, "entity")}
    for id_, value in state.entities.items():
        row = rows[id_]
        assert (value["name"], row) in generation.names
        for key, text in value["labels"].items():
            assert row in generation.labels[key, text]
            assert row in generation.labels[key, None]
        feature = value["metadata"].get("feature")
        if isinstance(feature, str) and feature:
            assert row in generation.features[feature]


def check_tip(engine: Engine, state: State) -> None:
    """Compares what is only known of the present with the oracle."""
    view = engine.view
    assert view.tip == view.visible
    for id_, value in state.entities.items():
        record = view.named(value["type"], value["name"], value["version"])
        assert record == view.entity(id_, view.visible)
        table = view.generation.relationships
        living = {
            codec.decode_relationship(table.record(slot)).id
            for slot in view.living_relationships(id_)
        }
        assert living == {*state.relationships_of(id_)}
    assert len(view.generation.unique) == len(state.entities)
    for source in state.entities:
        for target in state.entities:
            for type_ in ("uses", "depends_on"):
                record = view.find_relationship(source, target, type_)
                found = None if record is None else codec.decode_relationship(record).id
                ends = (source, target, type_)
                matching = [
                    id_
                    for id_, value in state.relationships.items()
                    if (value["source_id"], value["target_id"], value["type"]) == ends
                ]
                assert matching == ([] if found is None else [found])
    counts = view.counts
    assert +counts.entities_by_type == _count(v["type"] for v in state.entities.values())
    assert +counts.entities_by_status == _count(v["status"] for v in state.entities.values())
    assert +counts.entities_by_health == _count(v["health"] for v in state.entities.values())
    assert +counts.relationships_by_type == _count(v["type"] for v in state.relationships.values())


def _count(values: Iterable[Any]) -> dict[Any, int]:
    counts: dict[Any, int] = {}
    for value in values:
        counts[value] = counts.get(value, 0) + 1
    return counts


async def check_log(engine: Engine) -> None:
    """The log has no gap, its times rise, its images continue each other, and its hashes chain."""
    commits = await log_of(engine)
    floor, head = engine.view.floor, engine.committer.head
    assert [commit.revision for commit in commits] == [*range(floor + 1, head.revision + 1)]
    assert all(a.time < b.time for a, b in pairwise(commits))
    for before, commit in pairwise(commits):
        assert chain(before.hash, commit) == commit.hash
    if floor == 0:
        assert chain(b"", commits[0]) == commits[0].hash
    if commits:
        assert (head.time, head.hash) == (commits[-1].time, commits[-1].hash)
    times = {commit.revision: commit.time for commit in commits}
    images: dict[tuple[Kind, str], tuple[bytes | None, int]] = {}
    table = engine.view.generation.entities
    for commit in commits:
        assert commit.changes
        for index, change in enumerate(commit.changes):
            if change.kind == Kind.COMPACTION:
                continue
            if change.kind == Kind.HEALTH:
                _follow_health(table, change, commit.revision, images)
                continue
            here = (change.before, change.ordinal)
            image, ordinal = images.get((change.kind, change.id), here)
            assert change.before == image
            if change.action == Action.CREATE:
                assert change.before is None
                assert change.ordinal == commit.revision << 20 | index
            else:
                assert change.before is not None
                assert change.ordinal == ordinal
            assert (change.action == Action.DELETE) == (change.after is None)
            if change.after is not None:
                _check_image(change.kind, change.after, change.id, commit, times)
            images[change.kind, change.id] = (change.after, change.ordinal)


def _follow_health(
    table: Table, change: Change, revision: int, images: dict[tuple[Kind, str], Any]
) -> None:
    turns = turns_of(change)
    assert 0 < len(turns) <= MAX_ENTITIES
    rows = rows_of(table, turns.ordinals)
    columns = (rows, turns.ordinals, turns.before, turns.since, turns.after)
    for row, ordinal, before, since, after in zip(*map(np.ndarray.tolist, columns), strict=True):
        assert before != after
        record = table.record(table.at(row, revision - 1))
        entity = codec.decode_entity(record)
        assert (entity.health, entity.health_revision) == (before, since)
        image, known = images.get((Kind.ENTITY, entity.id), (record, ordinal))
        assert (image, known) == (record, ordinal)
        turned = codec.with_health(record, after, revision)
        assert turned == table.record(table.at(row, revision))
        images[Kind.ENTITY, entity.id] = (turned, ordinal)


def _check_image(kind: Kind, after: bytes, id_: str, commit: Commit, times: dict[int, int]) -> None:
    resource: Entity | Relationship = (
        codec.decode_entity(after) if kind == Kind.ENTITY else codec.decode_relationship(after)
    )
    assert (resource.id, resource.revision) == (id_, commit.revision)
    assert resource.updated_at == commit.time
    if resource.create_revision in times:
        assert resource.created_at == times[resource.create_revision]


async def check_store(engine: Engine, state: State) -> None:
    """The tables have the present: the same records as the view, in order of creation."""
    snapshot = await engine.store.snapshot()
    try:
        assert snapshot.head == engine.committer.head
        view, tip = engine.view, engine.view.visible
        entities = {
            id_: record
            async for columns in snapshot.entities()
            for id_, record in zip(columns.ids, columns.by_name()["records"], strict=True)
        }
        relationships = {
            id_: record
            async for part in snapshot.relationships()
            for id_, record in zip(part.ids, part.by_name()["records"], strict=True)
        }
        healths = {row.ordinal: row async for part in snapshot.healths() for row in part}
    finally:
        await snapshot.aclose()
    assert [*entities] == [*state.entities]
    table = view.generation.entities
    for id_, record in entities.items():
        row = healths.pop(table.ordinal(table.ids[id_]), None)
        if row is not None:
            assert row.revision > codec.decode_entity(record).revision
            entities[id_] = codec.with_health(record, row.health, row.revision)
    assert not healths
    assert [*relationships] == [*state.relationships]
    assert all(record == view.entity(id_, tip) for id_, record in entities.items())
    assert all(record == view.relationship(id_, tip) for id_, record in relationships.items())


def reorganise(engine: Engine, floor: int) -> None:
    """Puts a compacted generation in place, as the engine does when much is dead."""
    engine.view.generation = compacted(engine.view.generation, floor)


def metadata_value(packed: bytes) -> dict[str, Any]:
    """Packed metadata as plain values."""
    value: dict[str, Any] = orjson.loads(codec.metadata(packed).json)
    return value
