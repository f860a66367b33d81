"""Random histories: every engine answers what the store in memory answers."""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from hyper_registry.model.errors import RegistryError, StoreUnavailable
from hyper_registry.model.revision import Change, Commit, Position
from hyper_registry.store.base import (
    Batch,
    EntityRow,
    KnownResults,
    LoggedChange,
    LogLimits,
    LogQuestion,
    RelationshipRow,
    Store,
)
from hyper_registry.store.memory import MemoryStore
from hyper_registry.store.postgres import PostgresStore
from hyper_registry.store.sqlite import SqliteStore
from tests.store.builders import (
    SECOND,
    START,
    batch,
    change,
    contents,
    created,
    deleted,
    entity,
    head_of,
    relationship,
    result,
    updated,
)
from tests.support.postgres import Cluster

_LIMITS = [LogLimits(100, 1000, 100), LogLimits(2, 1000, 3), LogLimits(9, 7, 100)]

small = st.integers(0, 5)
# An operation: what is done, with which id, and with which other name or end.
operation = st.tuples(st.sampled_from(["entity", "edge", "drop", "cut"]), small, small)
request = st.lists(operation, min_size=1, max_size=5)
step = st.one_of(
    st.tuples(st.just("write"), st.lists(request, min_size=1, max_size=4), small),
    st.tuples(st.just("compact"), st.integers(0, 20), st.integers(1, 8)),
    st.tuples(st.just("forget"), small, st.integers(1, 3)),
)


class Model:
    """Makes batches as a committer does, with the last state of what was changed."""

    def __init__(self) -> None:
        self.entities: dict[str, EntityRow] = {}
        self.edges: dict[str, RelationshipRow] = {}

    def batch(self, before: Batch, requests: list[list[tuple[str, int, int]]], key: int) -> Batch:
        """The batch of these requests; whether uniqueness allows it is the stores' business."""
        head = before.head
        touched: set[str] = set()
        edges: set[str] = set()
        revisions: list[list[Change]] = []
        for number, operations in enumerate(requests, head.revision + 1):
            changes: list[Change] = []
            for what, one, other in operations:
                changes.append(self._apply(what, one, other, number, len(changes)))
                (edges if what in {"edge", "cut"} else touched).add(str(one))
            revisions.append(changes)
        return batch(
            head,
            *revisions,
            entities=[self.entities[i] for i in sorted(touched) if i in self.entities],
            deleted_entities=sorted(touched - self.entities.keys()),
            relationships=[self.edges[i] for i in sorted(edges) if i in self.edges],
            deleted_relationships=sorted(edges - self.edges.keys()),
            results=[result(f"k{key}", 10 + key, revision=head.revision)],
        )

    def _apply(self, what: str, one: int, other: int, revision: int, index: int) -> Change:
        id_ = str(one)
        gone: EntityRow | RelationshipRow | None
        if what in {"drop", "cut"}:
            gone = self.entities.pop(id_, None) if what == "drop" else self.edges.pop(id_, None)
            return change(id_) if gone is None else deleted(gone)
        if what == "entity":
            old = self.entities.get(id_)
            place = (old.entity.create_revision, old.create_index) if old else (revision, index)
            self.entities[id_] = row = entity(id_, f"n{other}", created=place, revision=revision)
            return updated(old, row) if old else created(row)
        edge = self.edges.get(id_)
        value = edge and edge.relationship
        place = (value.create_revision, edge.create_index) if value and edge else (revision, index)
        self.edges[id_] = made = relationship(id_, "0", str(other), created=place)
        return updated(edge, made) if edge else created(made)


@settings(max_examples=40)
@given(steps=st.lists(step, max_size=12))
def test_engines_agree(steps: list[tuple[str, Any, int]]) -> None:
    """After any history of writes, compactions and forgetting, all answers are those of memory."""
    with tempfile.TemporaryDirectory() as directory:
        _agree(SqliteStore(Path(directory) / "registry.db"), steps)


@settings(max_examples=10)
@given(steps=st.lists(step, max_size=12))
def test_postgresql_agrees(cluster: Cluster, steps: list[tuple[str, Any, int]]) -> None:
    """The same of a store in PostgreSQL."""
    _agree(PostgresStore(cluster.create()), steps)


def _agree(other: Store, steps: list[tuple[str, Any, int]]) -> None:
    async def run() -> None:
        stores: list[Store] = [MemoryStore(), other]
        for store in stores:
            await store.open()
        try:
            await _write_alike(stores, steps)
            await _compare(stores)
        finally:
            for store in stores:
                await store.aclose()

    asyncio.run(run())


async def _write_alike(stores: list[Store], steps: list[tuple[str, Any, int]]) -> None:
    # The epoch is each history's own; everything else must be the same.
    model, last = Model(), Batch([], replace(await head_of(stores[0]), epoch="one"))
    for what, first, second in steps:
        if what == "write":
            kept = (dict(model.entities), dict(model.edges))
            made = model.batch(last, first, second)
            outcomes = [await _commit(store, made, now=second * 3) for store in stores]
            if outcomes[0] is None:
                last = made
            else:
                model.entities, model.edges = kept
        elif what == "compact":
            floor = max(last.head.floor, min(first, last.head.revision))
            made = batch(last.head, [change("")], floor=floor)
            outcomes = [await _commit(store, made, now=0) for store in stores]
            last = made
            outcomes = [await store.trim(floor, second) for store in stores]
        else:
            outcomes = [await store.forget_results(first + 10, second) for store in stores]
        assert all(outcome == outcomes[0] for outcome in outcomes)


async def _commit(store: Store, made: Batch, now: int) -> object:
    transaction = await store.begin()
    try:
        await transaction.commit(made, now)
    except KnownResults as known:
        return known.results
    except StoreUnavailable:
        return StoreUnavailable
    return None


async def _compare(stores: list[Store]) -> None:
    found = [await contents(store, chunk=2) for store in stores]
    assert [replace(one, head=replace(one.head, epoch="one")) for one in found[1:]] == [
        replace(found[0], head=replace(found[0].head, epoch="one"))
    ] * (len(stores) - 1)
    last = found[0].head.revision
    for revision in range(last + 2):
        for index, changes, size in ((0, 100, 1000), (0, 2, 1000), (1, 3, 1000), (2, 9, 7)):
            answers = [
                await _log(store, Position(revision, index), changes, size) for store in stores
            ]
            assert all(answer == answers[0] for answer in answers)
        for current, early in ((min(revision, last), 0), (max(revision - 1, 0), 1)):
            expected = current if current >= found[0].head.floor else None
            for store in stores:
                assert await store.revision_at(START + revision * SECOND - early) == expected
    await _compare_searches(stores, last)
    headers = [await store.headers(range(last + 2)) for store in stores]
    assert all(one == headers[0] for one in headers)
    for count in range(12):
        kept = [await store.revision_keeping(count) for store in stores]
        assert all(one == kept[0] for one in kept)


async def _compare_searches(stores: list[Store], last: int) -> None:
    conditions: list[dict[str, Any]] = [
        {},
        {"id": "0"},
        {"actor": "ann", "method": "Write"},
        {"method": "Other"},
    ]
    for after in range(last + 2):
        for before in [Position(last), Position(last + 1, 1), Position(max(0, last - 2), 1)]:
            for values, limits in product(conditions, _LIMITS):
                question = LogQuestion(after, before, **values)
                answers = [await _search(store, question, limits) for store in stores]
                assert all(answer == answers[0] for answer in answers), question


async def _search(
    store: Store, question: LogQuestion, limits: LogLimits
) -> tuple[list[LoggedChange], Position] | str:
    try:
        found, reached = await store.search_log(question, limits)
    except RegistryError as error:
        return error.message
    return list(found), reached


async def _log(
    store: Store, after: Position, changes: int, size: int
) -> list[tuple[Commit, int]] | str:
    try:
        return list(await store.read_log(after, changes, size))
    except RegistryError as error:
        return error.message
