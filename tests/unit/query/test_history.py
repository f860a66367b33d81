"""The history of one entity: every version that is held, who made it, and what it changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyper_registry.model.errors import EntityNotFound, InvalidArgument, TokenExpired, TokenInvalid
from hyper_registry.model.revision import Header
from hyper_registry.query import history as histories
from hyper_registry.query.history import HistoryPage, changed_fields, entity_history
from hyper_registry.query.listing import Window
from hyper_registry.registry import pins
from hyper_registry.registry.codec import decode_entity, encode_entity
from hyper_registry.registry.engine import Engine
from hyper_registry.registry.mutations import CreateEntity, DeleteEntity, UpdateEntity
from hyper_registry.store.memory import MemoryDisk, MemoryStore
from ose.registry.v1.entity_pb2 import Entity as EntityMessage
from ose.registry.v1.entity_service_pb2 import EntityRevision
from ose.registry.v1.watch_service_pb2 import EventType
from tests.unit.registry.oracle import Oracle, Resource, entity_values
from tests.unit.registry.strategies import ENTITY_IDS, Resolve, groups
from tests.unit.registry.support import (
    entity,
    log_of,
    oracle_of,
    packed,
    ready,
    reorganise,
    running,
    submit_all,
    write,
)

CREATED, UPDATED, DELETED = (
    EventType.EVENT_TYPE_CREATED,
    EventType.EVENT_TYPE_UPDATED,
    EventType.EVENT_TYPE_DELETED,
)


class Entry(NamedTuple):
    """What of an EntityRevision the oracle tells."""

    type: int
    revision: int
    value: Resource
    changed: list[str]


async def page_of(
    engine: Engine, id_: str, revision: int = 0, limit: int = 1000, token: str = ""
) -> HistoryPage:
    """A page of a history."""
    window = Window(limit, 0, token)
    return await entity_history(engine, engine.store, id_, window, revision or engine.view.visible)


async def all_of(
    engine: Engine, id_: str, revision: int = 0, limit: int = 1000
) -> list[EntityRevision]:
    """All pages of a history, as one."""
    page = await page_of(engine, id_, revision, limit)
    found = list(page.revisions)
    while page.next_page_token:
        assert len(page.revisions) == limit
        page = await page_of(engine, id_, 0, limit, page.next_page_token)
        found += page.revisions
    return found


def brief(revisions: list[EntityRevision]) -> list[tuple[int, int, str, list[str]]]:
    """Type, revision, name and changed fields of each."""
    return [(r.type, r.revision, r.entity.name, list(r.changed_fields)) for r in revisions]


def told(message: EntityRevision) -> Entry:
    """A message as the oracle says it."""
    value = entity_values(decode_entity(message.entity.SerializeToString()))
    return Entry(message.type, message.revision, value, list(message.changed_fields))


def expected_history(oracle: Oracle, id_: str, oldest: int, revision: int) -> list[Entry]:
    """The history that the recorded states tell, newest first."""
    states = [state.entities.get(id_) for state in oracle.states]
    found: list[Entry] = []
    if (first := states[oldest]) is not None:
        is_new = first["create_revision"] == first["revision"]
        found.append(Entry(CREATED if is_new else UPDATED, first["revision"], first, []))
    for number in range(oldest + 1, revision + 1):
        before, after = states[number - 1], states[number]
        if before == after:
            continue
        same_life = before and after and before["create_revision"] == after["create_revision"]
        if before is not None and not same_life:
            found.append(Entry(DELETED, number, before, []))
        if after is not None and not same_life:
            found.append(Entry(CREATED, number, after, []))
        if before is not None and after is not None and same_life:
            found.append(Entry(UPDATED, number, after, naive_changes(before, after)))
    return found[::-1]


def naive_changes(before: Resource, after: Resource) -> list[str]:
    """The paths whose values differ, in the order in which they are told."""
    changed = [
        name
        for name in ("name", "version", "status", "health", "reported_health", "regions")
        if before[name] != after[name]
    ]
    for field in ("metadata", "labels"):
        old, new = before[field], after[field]
        changed += [
            f"{field}.{key}"
            for key in sorted({*old, *new})
            if old.get(key, "missing") != new.get(key, "missing")
        ]
    return changed


_upheavals = st.tuples(
    st.sampled_from(["restart", "compact", "compact", "reorganise", "trim"]),
    st.sampled_from([0.0, 0.3, 0.7, 1.0]),
)


@given(st.lists(groups | _upheavals, min_size=2, max_size=10), st.integers(1, 3))
@settings(max_examples=60)
async def test_histories_are_what_was_recorded(
    steps: list[list[Resolve] | tuple[str, float]], limit: int
) -> None:
    """After any history, and any forgetting and restarting, it is that of the recorded states."""
    disk = MemoryDisk()
    engine = Engine(MemoryStore(disk))
    await engine.start()
    oracle = oracle_of(engine)
    try:
        for step in steps:
            match step:
                case "restart", _:
                    await engine.aclose()
                    engine = Engine(MemoryStore(disk))
                    await engine.start()
                case "compact", float(share):
                    before = engine.view.floor
                    await engine.compact(round(share * oracle.revision), "", "")
                    if engine.view.floor > before:
                        oracle.states.append(oracle.now)
                case "reorganise", _:
                    reorganise(engine, engine.pins.oldest(engine.view.floor))
                case "trim", _:
                    while await engine.store.trim(engine.view.floor, 2):
                        pass
                case list(group):
                    await submit_all(engine, oracle, [resolve(oracle) for resolve in group])
        await _compare(engine, oracle, limit)
    finally:
        await engine.aclose()


async def _compare(engine: Engine, oracle: Oracle, limit: int) -> None:
    times = {commit.revision: commit for commit in await log_of(engine)}
    for id_ in (*ENTITY_IDS, "ai-ml"):
        for revision in range(max(1, engine.view.floor), oracle.revision + 1):
            entries = expected_history(oracle, id_, engine.view.floor, revision)
            if not entries:
                with pytest.raises(EntityNotFound):
                    await page_of(engine, id_, revision)
                continue
            found = await all_of(engine, id_, revision)
            assert [told(message) for message in found] == entries
            assert await all_of(engine, id_, revision, limit) == found
            for message in found:
                commit = times.get(message.revision)
                if commit is not None:
                    assert message.commit_time.ToMicroseconds() == commit.time
                    made = (message.actor, message.method, message.request_id)
                    assert made == (commit.actor, commit.method, commit.request_id)


async def test_who_did_what() -> None:
    """Each version has who made it, by which method and request, and when."""
    async with running() as engine:
        await write(engine, CreateEntity(entity("a")), actor="ann", method="M/C", request_id="r1")
        renamed = UpdateEntity(entity("a", "b"), ("name",))
        await write(engine, renamed, actor="bob", method="M/U", request_id="r2")
        await write(engine, DeleteEntity("a"), actor="cid", method="M/D", request_id="r3")
        page = await page_of(engine, "a")
        assert (page.revision, page.oldest_revision) == (4, 0)
        assert [(r.actor, r.method, r.request_id) for r in page.revisions] == [
            ("cid", "M/D", "r3"),
            ("bob", "M/U", "r2"),
            ("ann", "M/C", "r1"),
        ]
        assert brief(page.revisions) == [
            (DELETED, 4, "b", []),
            (UPDATED, 3, "b", ["name"]),
            (CREATED, 2, "a", []),
        ]
        times = {commit.revision: commit.time for commit in await log_of(engine)}
        assert [r.commit_time.ToMicroseconds() for r in page.revisions] == [
            times[r.revision] for r in page.revisions
        ]


async def test_who_did_what_is_forgotten_with_the_past() -> None:
    """The version that was current at the floor stays, with its time, but nobody is named.

    It is the same whether the log is trimmed, memory reorganised, or the registry started again.
    """
    disk = MemoryDisk()
    async with running(disk) as engine:
        await write(engine, CreateEntity(entity("a")), actor="ann", method="M/C")
        await write(engine, UpdateEntity(entity("a", "b"), ("name",)), actor="bob", method="M/U")
        await ready(engine, "x")
        await write(engine, UpdateEntity(entity("a", "c"), ("name",)), actor="cid", method="M/U")
        await engine.compact(4, "", "")
        before = await page_of(engine, "a")
        assert brief(before.revisions) == [(UPDATED, 5, "c", ["name"]), (UPDATED, 3, "b", [])]
        assert [r.actor for r in before.revisions] == ["cid", ""]
        assert before.revisions[1].commit_time == before.revisions[1].entity.updated_at
        assert before.oldest_revision == 4
        while await engine.store.trim(4, 100):
            pass
        assert await page_of(engine, "a") == before
        reorganise(engine, 4)
        assert await page_of(engine, "a") == before
    async with running(disk) as engine:
        assert await page_of(engine, "a") == before


async def test_the_revision_of_the_floor_keeps_its_maker() -> None:
    """The floor itself is held, so is who made it."""
    async with running() as engine:
        await write(engine, CreateEntity(entity("a")), actor="ann")
        await engine.compact(2, "", "")
        while await engine.store.trim(2, 100):
            pass
        [made] = (await page_of(engine, "a")).revisions
        assert (made.type, made.actor) == (CREATED, "ann")


async def test_what_the_floor_itself_did_is_forgotten() -> None:
    """What was changed or deleted at the floor cannot be read any more, so it is no entry."""
    async with running() as engine:
        await ready(engine, "a", "b")
        await write(engine, UpdateEntity(entity("a", "c"), ("name",)), DeleteEntity("b"))
        await engine.compact(3, "", "")
        assert brief(await all_of(engine, "a")) == [(UPDATED, 3, "c", [])]
        with pytest.raises(EntityNotFound):
            await page_of(engine, "b")


async def test_a_deletion_and_a_creation_in_one_revision() -> None:
    """Both are entries: a page may end between them."""
    async with running() as engine:
        await ready(engine, "a")
        await write(engine, DeleteEntity("a"), CreateEntity(entity("a", "b")))
        expected: list[tuple[int, int, str, list[str]]] = [
            (CREATED, 3, "b", []),
            (DELETED, 3, "a", []),
            (CREATED, 2, "a", []),
        ]
        for limit in (1, 2, 3):
            assert brief(await all_of(engine, "a", 0, limit)) == expected


async def test_what_was_never_seen_is_no_entry() -> None:
    """Of several changes in one revision only what they come to is a version."""
    async with running() as engine:
        await write(
            engine, CreateEntity(entity("a")), UpdateEntity(entity("a", version="1"), ("version",))
        )
        await write(
            engine,
            UpdateEntity(entity("a", version="2"), ("version",)),
            UpdateEntity(entity("a", version="3"), ("version",)),
            UpdateEntity(entity("a", labels={"k": "v"}), ("labels",)),
        )
        await write(engine, UpdateEntity(entity("a", version="4"), ("version",)), DeleteEntity("a"))
        await write(engine, CreateEntity(entity("a")), DeleteEntity("a"))
        assert [
            (r.type, r.revision, r.entity.version, list(r.changed_fields))
            for r in await all_of(engine, "a")
        ] == [
            (DELETED, 4, "3", []),
            (UPDATED, 3, "3", ["version", "labels.k"]),
            (CREATED, 2, "1", []),
        ]


async def test_compaction_takes_nothing_from_a_page_that_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is forgotten while a page is made is on it all the same, with who made it."""
    async with running() as engine:
        await ready(engine, "a")
        for number in range(4):
            change = UpdateEntity(entity("a", version=str(number)), ("version",))
            await write(engine, change, actor="ann")
        whole = await all_of(engine, "a")
        headers = engine.store.headers

        async def late(revisions: Sequence[int]) -> Mapping[int, Header]:
            await engine.compact(engine.view.visible, "", "")
            await engine._forget()
            reorganise(engine, engine.pins.oldest(engine.view.floor))
            return await headers(revisions)

        monkeypatch.setattr(engine.store, "headers", late)
        assert await all_of(engine, "a") == whole
        assert [one.actor for one in whole[:-1]] == ["ann"] * 4


async def test_a_page_token_keeps_the_history_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compaction between two pages takes nothing from the later one, for a minute."""
    async with running() as engine:
        now = [0.0]
        monkeypatch.setattr(engine.pins, "_clock", lambda: now[0])
        await ready(engine, "a")
        for number in range(4):
            await write(engine, UpdateEntity(entity("a", f"n{number}"), ("name",)), actor="ann")
        page = await page_of(engine, "a", limit=2)
        await engine.compact(6, "", "")
        reorganise(engine, engine.pins.oldest(engine.view.floor))
        await engine._forget()
        rest = await page_of(engine, "a", limit=2, token=page.next_page_token)
        assert brief(rest.revisions) == [(UPDATED, 4, "n1", ["name"]), (UPDATED, 3, "n0", ["name"])]
        assert (rest.revision, rest.oldest_revision) == (6, 0)
        assert [r.actor for r in rest.revisions] == ["ann", "ann"]
        now[0] = pins.PIN_SECONDS + 1
        with pytest.raises(TokenExpired):
            await page_of(engine, "a", limit=2, token=page.next_page_token)


async def test_tokens_of_others_are_refused() -> None:
    """A token belongs to the history of one entity."""
    async with running() as engine:
        await ready(engine, "a", "b")
        await write(engine, DeleteEntity("a"))
        token = (await page_of(engine, "a", limit=1)).next_page_token
        for id_, text in (("b", token), ("a", "nonsense"), ("a", token[:-2])):
            with pytest.raises(TokenInvalid):
                await page_of(engine, id_, token=text)
        [first] = (await page_of(engine, "a", token=token)).revisions
        assert first.type == CREATED


async def test_pages_are_of_limited_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large versions make short pages, of one version at least; all of them join to the whole."""
    monkeypatch.setattr(histories, "MAX_PAGE_BYTES", 300_000)
    async with running() as engine:
        await ready(engine, "a")
        for number in range(6):
            text = str(number) * 120_000
            change = UpdateEntity(entity("a", metadata=packed(text=text)), ("metadata",))
            await write(engine, change)
        found, token = list[EntityRevision](), ""
        while not found or token:
            page = await page_of(engine, "a", token=token)
            assert 1 <= len(page.revisions) <= 3
            found, token = [*found, *page.revisions], page.next_page_token
        assert [r.revision for r in found] == [8, 7, 6, 5, 4, 3, 2]
        assert found[0].changed_fields == ["metadata.text"]


@pytest.mark.parametrize(
    ("values", "other", "expected"),
    [
        ({}, {}, []),
        ({"version": "1"}, {"version": "2"}, ["version"]),
        ({"status": 2, "health": 3}, {}, ["status", "health"]),
        ({"regions": ("eu", "us")}, {"regions": ("us", "eu")}, ["regions"]),
        ({"metadata": packed(a=1, b=None)}, {"metadata": packed(a=1)}, ["metadata.b"]),
        ({"metadata": packed(a={"x": [1]})}, {"metadata": packed(a={"x": [2]})}, ["metadata.a"]),
        ({"metadata": packed(a=True)}, {"metadata": packed(a=1)}, ["metadata.a"]),
        ({"metadata": packed(**{"a.b": 1})}, {}, ["metadata.a.b"]),
        ({"labels": {"a": "", "b": "1"}}, {"labels": {"b": "2"}}, ["labels.a", "labels.b"]),
    ],
)
def test_changed_fields(values: Any, other: Any, expected: list[str]) -> None:
    """They are the paths of an update mask, and the same both ways."""
    one = EntityMessage.FromString(encode_entity(entity("a", **values)))
    two = EntityMessage.FromString(encode_entity(entity("a", **other)))
    copies = (EntityMessage.FromString(one.SerializeToString()), EntityMessage())
    assert changed_fields(one, two) == changed_fields(two, one) == expected
    assert one == copies[0]


def test_a_window_of_a_token_has_no_time() -> None:
    """A token has its revision: together with a time it is refused, as with a revision."""
    for extra in ({"at_revision": 3}, {"at_time": 0}):
        with pytest.raises(InvalidArgument) as caught:
            Window.parse(0, 0, "token", **extra)
        assert caught.value.violations[0].field in extra
    assert Window.parse(0, 0, "", 0, 0) == Window()
