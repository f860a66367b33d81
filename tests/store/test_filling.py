"""`Store.fill` and `Snapshot.results`, held against every engine: part of the contract."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import replace

import pytest

from hyper_registry.model.errors import RevisionCompacted, StoreUnavailable
from hyper_registry.model.revision import Commit, Head, Position, ordinal_of
from hyper_registry.store.base import HealthRow, KnownResults, Part, Store
from hyper_registry.store.memory import MemoryStore
from tests.store.builders import (
    SECOND,
    START,
    Contents,
    change,
    commits,
    contents,
    create,
    created,
    entity,
    head_of,
    relationship,
    result,
    write,
)
from tests.store.conftest import Engine

ENDLESS = 1 << 40
EMPTY = Head(0, "another", 0, 0, b"")

ROWS = [entity(f"e{number}", created=(1, number), labels={"z": "ü"}) for number in range(70)]
EDGES = [relationship(f"r{number}", f"e{number}", "e0", created=(2, number)) for number in range(5)]
LOG = commits(EMPTY, [created(row) for row in ROWS], [created(row) for row in EDGES], [change("")])
HEAD = Head(3, "another", 0, LOG[-1].time, LOG[-1].hash)
RESULTS = [result(f"k{number}", ENDLESS) for number in range(3)]

HEALTHS = [HealthRow(ordinal_of(1, index), 2, 3) for index in (3, 5)]
PARTS = [
    Part(entities=ROWS[:40]),
    Part(entities=ROWS[40:]),
    Part(relationships=EDGES, healths=HEALTHS),
    Part(commits=LOG[:1]),
    Part(commits=LOG[1:], results=RESULTS),
]


async def parts(
    given: Iterable[Part], error: BaseException | None = None, hold: asyncio.Event | None = None
) -> AsyncIterator[Part]:
    """The parts one by one; then the error, or a wait, if there is one."""
    for part in given:
        await asyncio.sleep(0)
        yield part
    if hold is not None:
        await hold.wait()
    if error is not None:
        raise error


async def original() -> Contents:
    """What a store holds that came to hold all of it by commits."""
    store = MemoryStore()
    await store.open()
    await write(
        store,
        *([*commit.changes] for commit in LOG),
        entities=ROWS,
        relationships=EDGES,
        results=RESULTS,
        healths=HEALTHS,
    )
    try:
        return await contents(store)
    finally:
        await store.aclose()


async def is_empty(store: Store) -> bool:
    """Whether it is as new, and still can be filled or written."""
    head = await head_of(store)
    return await contents(store) == Contents(replace(EMPTY, epoch=head.epoch), [], [], [], [])


async def results_of(store: Store, chunk: int) -> list[int]:
    """How many results each part of a snapshot's has."""
    snapshot = await store.snapshot()
    try:
        return [len(part) async for part in snapshot.results(chunk)]
    finally:
        await snapshot.aclose()


async def test_a_filled_store_holds_everything(store: Store, engine: Engine) -> None:
    """Rows, log, results and head are those of the parts; all of it is there after reopening."""
    epoch = (await head_of(store)).epoch
    head = await store.fill(HEAD, parts(PARTS))
    expected = await original()
    assert head == replace(HEAD, epoch=epoch)
    found = await contents(store)
    assert found == replace(expected, head=head)
    with pytest.raises(KnownResults):
        await write(store, results=[result("k1", ENDLESS)])
    assert [await store.revision_keeping(n) for n in (0, 1, 6, 75, 76)] == [3, 2, 1, 1, 0]
    await store.aclose()
    again = engine()
    assert await again.open() == head
    assert await contents(again) == found
    await again.aclose()


async def test_a_filled_store_goes_on(store: Store) -> None:
    """The next commit gets the next revision, and continues the chain of the other history."""
    await store.fill(HEAD, parts(PARTS))
    made = await create(store, "new")
    assert made.commits[0].revision == 4
    assert made.commits == commits(HEAD, made.commits[0].changes)
    [*_, (last, _)] = await store.read_log(Position(0), ENDLESS, ENDLESS)
    assert last == made.commits[0]
    assert (await contents(store)).ids[-1] == "new"


async def test_histories_are_told_apart(store: Store) -> None:
    """A store that is filled keeps its own epoch, and is not taken for the other."""
    before = (await head_of(store)).epoch
    assert (await store.fill(HEAD, parts(PARTS))).epoch == before != HEAD.epoch
    assert (await head_of(store)).epoch == before


async def test_filling_from_a_floor(store: Store) -> None:
    """The log may begin behind the floor; what is before it is compacted, as in the original."""
    head = await store.fill(replace(HEAD, floor=1), parts([*PARTS[:3], Part(commits=LOG[1:])]))
    assert head.floor == 1
    assert [commit.revision for commit in (await contents(store)).log] == [2, 3]
    with pytest.raises(RevisionCompacted):
        await store.read_log(Position(0), ENDLESS, ENDLESS)
    assert await store.revision_at(START + 2 * SECOND) == 2
    assert await store.revision_at(START + 2 * SECOND - 1) is None
    assert await store.trim(1, 100) == 0
    await create(store, "new")
    await write(store, [change("")], floor=3)
    assert await store.trim(3, 100) == len(EDGES) + 1


async def test_filling_from_a_floor_that_is_known(store: Store) -> None:
    """When the floor's revision was, and who made it, is kept without its changes."""
    known = replace(LOG[0], changes=())
    given = [*PARTS[:3], Part(commits=[known]), Part(commits=LOG[1:])]
    await store.fill(replace(HEAD, floor=1), parts(given))
    snapshot = await store.snapshot()
    assert await snapshot.at_floor() == known
    await snapshot.aclose()
    assert [await store.revision_at(START + SECOND - early) for early in (0, 1)] == [1, None]
    assert await store.headers([1, 2]) == {1: LOG[0].header, 2: LOG[1].header}
    for gone in (Position(0), Position(0, 1), Position(0, 99)):
        with pytest.raises(RevisionCompacted):
            await store.read_log(gone, ENDLESS, ENDLESS)
    assert [commit.revision for commit in (await contents(store)).log] == [2, 3]
    assert await store.revision_keeping(ENDLESS) == 1
    await write(store, [change("")], floor=3)
    assert await store.trim(3, 100) == len(EDGES) + 1
    assert [*await store.headers([1, 2, 3])] == [3]


async def test_the_floor_of_a_snapshot(store: Store) -> None:
    """The floor's revision is told without its changes, trimmed or not; that of 0 is none."""

    async def at_floor() -> Commit | None:
        snapshot = await store.snapshot()
        try:
            return await snapshot.at_floor()
        finally:
            await snapshot.aclose()

    made = await write(store, [change("a"), change("b")], [change("c")])
    assert await at_floor() is None
    await write(store, [change("")], floor=2)
    expected = replace(made.commits[1], changes=())
    assert await at_floor() == expected
    assert await store.trim(2, 100) == 3
    assert await at_floor() == expected


async def test_filling_with_nothing_but_a_head(store: Store) -> None:
    """A history that is compacted to its head has no log, and goes on."""
    head = await store.fill(replace(HEAD, floor=3), parts(PARTS[:3]))
    assert (await contents(store)).log == []
    assert (await create(store, "new")).commits == commits(
        head, [created(entity("new", created=(4, 0)))]
    )


async def test_what_is_not_empty_is_not_filled(store: Store) -> None:
    """StoreUnavailable says which revision is there, and it stays as it was."""
    await create(store, "a")
    before = await contents(store)
    with pytest.raises(StoreUnavailable, match="revision 1 already"):
        await store.fill(HEAD, parts(PARTS))
    assert await contents(store) == before
    await create(store, "b")


@pytest.mark.parametrize(
    ("head", "log"),
    [
        (HEAD, []),
        (HEAD, LOG[:2]),
        (HEAD, LOG[1:]),
        (HEAD, [LOG[0], LOG[2]]),
        (HEAD, [LOG[1], LOG[0], LOG[2]]),
        (HEAD, [*LOG[:2], replace(LOG[2], time=1)]),
        (HEAD, [replace(LOG[0], actor="eve"), *LOG[1:]]),
        (replace(HEAD, hash=b"other"), LOG),
        (replace(HEAD, floor=2), LOG),
        (replace(HEAD, floor=1), [replace(LOG[1], hash=b"other"), LOG[2]]),
        (replace(HEAD, floor=1), [replace(LOG[0], changes=(), hash=b"other"), *LOG[1:]]),
        (replace(HEAD, floor=1), [replace(LOG[0], changes=()), LOG[2]]),
        (HEAD, [replace(LOG[0], revision=0, changes=()), *LOG]),
    ],
)
async def test_a_log_that_does_not_lead_to_the_head(store: Store, head: Head, log: list) -> None:  # type: ignore[type-arg]
    """Gaps, other values than the hashes cover, another end: ValueError, and nothing is kept."""
    with pytest.raises(ValueError, match="the log"):
        await store.fill(head, parts([*PARTS[:3], Part(commits=log)]))
    assert await is_empty(store)
    await store.fill(HEAD, parts(PARTS))


async def test_filling_is_all_or_nothing(store: Store) -> None:
    """What the parts raise comes out, and the store is as empty as before."""
    with pytest.raises(RuntimeError, match="the file ends"):
        await store.fill(HEAD, parts(PARTS, RuntimeError("the file ends")))
    assert await is_empty(store)
    same_name = entity("x", name=ROWS[0].entity.name, created=(1, 99))
    for twice in (Part(entities=ROWS[:1]), Part(entities=[same_name]), PARTS[2]):
        with pytest.raises(StoreUnavailable):
            await store.fill(HEAD, parts([*PARTS[:3], twice]))
        assert await is_empty(store)
    await store.fill(HEAD, parts(PARTS))


async def test_filling_that_is_cancelled(store: Store) -> None:
    """Whoever waits may leave in the middle: nothing is kept, and writers get their turn."""
    filling = asyncio.create_task(store.fill(HEAD, parts(PARTS, hold=asyncio.Event())))
    await asyncio.sleep(0.05)
    writing = asyncio.create_task(create(store, "a"))
    await asyncio.sleep(0.01)
    assert not writing.done()
    filling.cancel()
    await asyncio.gather(filling, return_exceptions=True)
    await writing
    assert (await contents(store)).ids == ["a"]


async def test_results_of_a_snapshot(store: Store) -> None:
    """Those that were there when it began, in order of their keys, in parts that are not larger."""
    await write(store, [change("a")], results=[result("b", 5), result("c", 6), result("a", 7)])
    snapshot = await store.snapshot()
    await write(store, results=[result("d", 8)])
    found = [one async for part in snapshot.results() for one in part]
    await snapshot.aclose()
    assert found == [result("a", 7), result("b", 5), result("c", 6)]
    assert await results_of(store, 3) == [3, 1]
    with pytest.raises(StoreUnavailable, match="closed"):
        await anext(snapshot.results())
