"""The contract of `store/base.py`, held against every engine. There are no exclusions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest

from hyper_registry.model.errors import RevisionCompacted, StoreUnavailable
from hyper_registry.model.revision import Change, Commit, Head, Position, chain, ordinal_of
from hyper_registry.store.base import (
    HealthRow,
    KnownResults,
    LoggedChange,
    LogLimits,
    LogQuestion,
    Store,
)
from tests.store.builders import (
    SECOND,
    START,
    Contents,
    batch,
    change,
    contents,
    create,
    created,
    deleted,
    entity,
    head_of,
    relationship,
    result,
    updated,
    write,
)
from tests.store.conftest import Engine

ENDLESS = 1 << 40


def shape(parts: object) -> list[tuple[int, int, int]]:
    """Each part of a log as (revision, index of its first change, number of changes)."""
    assert isinstance(parts, (list, tuple))
    return [(commit.revision, index, len(commit.changes)) for commit, index in parts]


# Opening and closing


async def test_a_new_history_begins_at_nothing(engine: Engine) -> None:
    """A new history has revision 0, floor 0 and no contents."""
    store = engine()
    head = await store.open()
    assert head == Head(0, head.epoch, 0, 0, b"")
    assert await contents(store) == Contents(head, [], [], [], [])
    await store.aclose()


async def test_each_history_has_an_epoch_of_its_own(engine: Engine, tmp_path: object) -> None:
    """Two histories differ in epoch, and a history keeps its own when it is opened again."""
    first = engine()
    epoch = (await first.open()).epoch
    await first.aclose()
    second = engine()
    assert (await second.open()).epoch == epoch != ""
    await second.aclose()


async def test_reopening_keeps_everything(engine: Engine) -> None:
    """Tables, log, results, floor and head are the same after closing and opening."""
    first = engine()
    await first.open()
    await create(first, "a", "b")
    row = relationship("r", "a", "b", created=(2, 0))
    await write(first, [created(row)], relationships=[row], results=[result("k", ENDLESS)])
    await write(first, [change("")], floor=2)
    before = await contents(first)
    await first.aclose()

    second = engine()
    assert await second.open() == before.head
    assert await contents(second) == before
    with pytest.raises(KnownResults):
        await write(second, results=[result("k", ENDLESS)])
    await second.aclose()


async def test_derived_health(store: Store, engine: Engine) -> None:
    """Rows of it come, are replaced and go with a batch; the records stay as they are."""
    await create(store, "a", "b", "c", "d")
    ordinals = [ordinal_of(2, index) for index in range(4)]
    before = [HealthRow(ordinal, 2, 3) for ordinal in ordinals]
    await write(store, [change("")], healths=before)
    assert (await contents(store)).healths == before
    replaced = HealthRow(ordinals[0], 3, 4)
    await write(store, [change("")], healths=[replaced], cleared_healths=before[:3])
    made = await contents(store)
    assert made.healths == [replaced, before[3]]
    await store.aclose()
    again = engine()
    await again.open()
    assert await contents(again) == made
    await again.aclose()


async def test_a_store_object_can_be_opened_again(engine: Engine) -> None:
    """Closing ends what `open` began: the same object can be opened once more."""
    store = engine()
    await store.open()
    made = await create(store, "a")
    await store.aclose()
    assert await store.open() == made.head
    await create(store, "b")
    await store.aclose()


async def test_a_second_server_is_refused(store: Store, engine: Engine) -> None:
    """What is open cannot be opened by another until it is closed, unless it is shared."""
    other = engine()
    if store.is_shared:
        await other.open()
        made = await create(store, "a")
        assert await head_of(other) == made.head
        made = await create(other, "b")
        assert await head_of(store) == made.head
        await other.aclose()
        return
    with pytest.raises(StoreUnavailable, match="another server"):
        await other.open()
    await create(store, "a")
    await store.aclose()
    await other.open()
    await other.aclose()


async def test_a_closed_store_refuses_everything(store: Store) -> None:
    """After closing every method is StoreUnavailable, and closing again does nothing."""
    snapshot = await store.snapshot()
    transaction = await store.begin()
    await store.aclose()
    await store.aclose()
    for refused in (
        transaction.commit(batch(transaction.head, [change("a")]), 0),
        store.begin(),
        store.snapshot(),
        store.read_log(Position(0), 1, 1),
        store.revision_at(0),
        store.headers([1]),
        store.revision_keeping(0),
        store.trim(0, 1),
        store.forget_results(0, 1),
    ):
        with pytest.raises(StoreUnavailable, match="closed"):
            await refused
    await snapshot.aclose()


async def test_a_store_takes_room_on_disk_only(store: Store) -> None:
    """`size` is 0 in memory and not 0 on disk."""
    assert (await store.size() > 0) == (store.name != "memory")


# Writing


async def test_a_commit_writes_everything(store: Store) -> None:
    """Rows, log and head are there once `commit` has returned, as they were given."""
    rows = [
        entity("a", created=(1, 0), version="1.0", labels={"z": "1", "a": "ü☃"}),
        entity("b", created=(1, 1), status=4, health=3, regions=("eu", "us"), metadata=b"m"),
    ]
    edge = relationship("r", "a", "b", created=(2, 0), weight=0.5, bidirectional=True)
    made = await write(
        store, [created(row) for row in rows], [created(edge)], entities=rows, relationships=[edge]
    )
    first = ("a", "plugin", "name of a", "1.0", "ai-ml", '{"a":"ü☃","z":"1"}', 1, 1, 1, 1 << 20)
    second = ("b", "plugin", "name of b", "", "ai-ml", "{}", 4, 3, 1, (1 << 20) + 1)
    third = ("r", "a", "b", "depends_on", 1, 2, 2 << 20)
    assert await contents(store) == Contents(
        made.head,
        [(*first, rows[0].record), (*second, rows[1].record)],
        [(*third, edge.record)],
        [],
        list(made.commits),
    )


async def test_the_log_chains(store: Store) -> None:
    """Each commit is read back with the hash that it was written with, and they chain."""
    await write(store, [change("a")], [change("b"), change("c")])
    await write(store, [change("a")])
    previous = b""
    for commit in (await contents(store)).log:
        assert commit.hash == chain(previous, commit)
        previous = commit.hash
    assert (await head_of(store)).hash == previous


async def test_images_and_ordinals_are_kept(store: Store) -> None:
    """A change comes back as it was written: absent images are None, empty ones empty."""
    changes = (
        Change(change("").kind, change("").action, "", 0, None, b"12"),
        Change(change("").kind, change("").action, "x", 5 << 20 | 7, b"", None),
    )
    await write(store, changes)
    [(commit, index)] = await store.read_log(Position(0), 10, ENDLESS)
    assert (commit.changes, index) == (changes, 0)


async def test_a_batch_of_many_rows(store: Store) -> None:
    """Batches of any size are written whole and in order, however statements divide them."""
    revision = 0
    for size in (1, 2, 31, 32, 33, 64, 65, 255, 256, 257, 700):
        revision += 1
        rows = [entity(f"{size}/{i}", created=(revision, i)) for i in range(size)]
        await write(store, [created(row) for row in rows], entities=rows)
        gone = [row.entity.id for row in rows[1:]]
        found = await contents(store, chunk=100)
        assert found.ids[-size:] == [row.entity.id for row in rows]
        revision += 1
        changes = [updated(rows[0], rows[0]), *map(deleted, rows[1:])]
        await write(store, changes, deleted_entities=gone)
    assert len((await contents(store)).ids) == 11


async def test_updates_keep_the_order_of_creation(store: Store) -> None:
    """A changed row stays in its place, with the values of its last state."""
    _, old, _ = (await create(store, "a", "b", "c")).entities
    row = entity("b", created=(1, 1), revision=2, status=2)
    await write(store, [updated(old, row)], entities=[row])
    found = await contents(store)
    assert found.ids == ["a", "b", "c"]
    assert found.entities[1][6] == 2
    assert found.entities[1][8:] == (2, (1 << 20) + 1, row.record)


async def test_an_id_created_again_goes_to_the_end(store: Store) -> None:
    """An id that one batch deletes and creates again is ordered by its new creation."""
    old, _, _ = (await create(store, "a", "b", "c")).entities
    row = entity("a", created=(2, 1))
    await write(store, [deleted(old), created(row)], entities=[row])
    assert (await contents(store)).ids == ["b", "c", "a"]


async def test_names_pass_from_the_deleted_to_the_created(store: Store) -> None:
    """One batch may delete an entity and give its name to a new one."""
    (old,) = (await create(store, "a")).entities
    row = entity("b", "name of a", created=(2, 1))
    await write(store, [deleted(old), created(row)], entities=[row], deleted_entities=["a"])
    assert (await contents(store)).names == {"b": "name of a"}


async def test_names_pass_between_rows_of_a_batch(store: Store) -> None:
    """Names may be swapped, moved along a chain and taken by a creation, all in one batch."""
    old = (await create(store, "a", "b", "c", "d")).entities
    rows = [
        entity("a", "name of b", created=(1, 0), revision=2),
        entity("b", "name of a", created=(1, 1), revision=2),
        entity("c", "name of d", created=(1, 2), revision=2),
        entity("d", "free", created=(1, 3), revision=2),
        entity("e", "name of c", created=(2, 4)),
    ]
    await write(store, [*map(updated, old, rows), created(rows[4])], entities=rows)
    found = await contents(store)
    assert found.ids == ["a", "b", "c", "d", "e"]
    assert found.names == {row.entity.id: row.entity.name for row in rows}


async def test_a_name_is_freed_by_an_id_that_is_created_again(store: Store) -> None:
    """One batch may delete an entity, give its name to another and create its id anew."""
    old = (await create(store, "a", "b")).entities
    rows = [
        entity("b", "name of a", created=(1, 1), revision=2),
        entity("a", "other", created=(2, 2)),
    ]
    changes = [deleted(old[0]), updated(old[1], rows[0]), created(rows[1])]
    await write(store, changes, entities=rows)
    found = await contents(store)
    assert (found.ids, found.names) == (["b", "a"], {"b": "name of a", "a": "other"})


async def test_ends_pass_between_relationships(store: Store) -> None:
    """The ends of relationships may be passed on within a batch as names may."""
    rows = [
        relationship("r", "a", "b", created=(1, 0)),
        relationship("s", "b", "a", created=(1, 1)),
        relationship("t", "c", "a", created=(1, 2)),
    ]
    await write(store, [created(row) for row in rows], relationships=rows)
    old = rows
    rows = [
        relationship("r", "b", "a", created=(1, 0), revision=2),
        relationship("s", "a", "b", created=(1, 1), revision=2),
        relationship("u", "c", "a", created=(2, 3)),
    ]
    changes = [*map(updated, old[:2], rows), deleted(old[2]), created(rows[2])]
    await write(store, changes, relationships=rows, deleted_relationships=["t"])
    found = (await contents(store)).relationships
    assert [row[:3] for row in found] == [("r", "b", "a"), ("s", "a", "b"), ("u", "c", "a")]


async def test_what_does_not_exist_can_be_deleted(store: Store) -> None:
    """Deleting an id that has no row is not an error: a batch may create and delete it."""
    await write(store, [change("a")], deleted_entities=["a"], deleted_relationships=["r"])
    assert (await contents(store)).ids == []


async def test_a_batch_that_breaks_uniqueness_writes_nothing(store: Store) -> None:
    """A taken name is StoreUnavailable; rows, log, results and head stay, and writing goes on."""
    await create(store, "a", "b")
    before = await contents(store)
    rows = [entity("c", created=(2, 0)), entity("d", "name of a", created=(2, 1))]
    with pytest.raises(StoreUnavailable):
        await write(
            store,
            [created(row) for row in rows],
            entities=rows,
            deleted_entities=["b"],
            results=[result("k", ENDLESS)],
        )
    edges = [relationship(id_, "a", "b", created=(2, i)) for i, id_ in enumerate("rs")]
    with pytest.raises(StoreUnavailable):
        await write(store, [created(row) for row in edges], relationships=edges)
    assert await contents(store) == before
    await write(store, [change("a")], results=[result("k", ENDLESS)])


async def test_a_batch_that_leaves_a_gap_writes_nothing(store: Store) -> None:
    """Revisions that do not follow the head, or change nothing, are a ValueError."""
    await create(store, "a")
    before = await contents(store)
    good = batch(before.head, [change("a")])
    for bad in (
        replace(good, commits=[replace(good.commits[0], revision=3)]),
        replace(good, commits=[replace(good.commits[0], changes=())]),
        replace(good, head=replace(good.head, revision=5)),
        replace(good, commits=()),
    ):
        transaction = await store.begin()
        with pytest.raises(ValueError, match="revision"):
            await transaction.commit(bad, 0)
    assert await contents(store) == before


async def test_the_head_can_change_without_a_revision(store: Store) -> None:
    """A batch without commits can give the history a new epoch."""
    made = await create(store, "a")
    transaction = await store.begin()
    head = replace(made.head, epoch="another")
    await transaction.commit(batch(head), 0)
    assert await head_of(store) == head
    assert (await contents(store)).head == head


# Transactions


async def test_transactions_are_serial(store: Store) -> None:
    """`begin` waits until the open transaction has ended, and then sees its head."""
    first = await store.begin()
    waiting = asyncio.create_task(store.begin())
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    made = batch(first.head, [change("a")])
    await first.commit(made, 0)
    second = await waiting
    assert second.head == made.head
    await second.rollback()


async def test_many_writers_leave_no_gap(store: Store) -> None:
    """Concurrent writers get consecutive revisions, in the order in which they commit."""
    await asyncio.gather(*(write(store, [change(str(i))]) for i in range(20)))
    log = (await contents(store)).log
    assert [commit.revision for commit in log] == list(range(1, 21))


async def test_a_rollback_writes_nothing(store: Store) -> None:
    """After a rollback, which may be repeated, the head is as before and others can begin."""
    made = await create(store, "a")
    transaction = await store.begin()
    await transaction.rollback()
    await transaction.rollback()
    assert await head_of(store) == made.head


async def test_a_transaction_ends_once(store: Store) -> None:
    """After a commit a rollback does nothing; after either a commit is a RuntimeError."""
    transaction = await store.begin()
    made = batch(transaction.head, [change("a")])
    await transaction.commit(made, 0)
    await transaction.rollback()
    with pytest.raises(RuntimeError):
        await transaction.commit(made, 0)
    transaction = await store.begin()
    await transaction.rollback()
    with pytest.raises(RuntimeError):
        await transaction.commit(batch(made.head, [change("b")]), 0)
    assert await head_of(store) == made.head


async def test_a_cancelled_commit_still_ends(store: Store) -> None:
    """A caller that is cancelled while it commits leaves a whole commit and a free store."""
    transaction = await store.begin()
    made = batch(transaction.head, [change("a")])
    committing = asyncio.create_task(transaction.commit(made, 0))
    await asyncio.sleep(0)
    committing.cancel()
    await asyncio.gather(committing, return_exceptions=True)
    assert await head_of(store) == made.head
    await create(store, "b")


async def test_a_cancelled_begin_takes_nothing(store: Store) -> None:
    """A caller that is cancelled while it waits to begin does not hold the store."""
    first = await store.begin()
    waiting = asyncio.create_task(store.begin())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await first.rollback()
    await create(store, "a")


# Results


async def test_a_known_result_writes_nothing(store: Store) -> None:
    """A batch with a known key is refused with the stored result, and nothing of it is written."""
    await write(store, [change("a")], results=[result("k", 100)], now=0)
    before = await contents(store)
    row = entity("b", created=(2, 0))
    with pytest.raises(KnownResults) as known:
        await write(
            store,
            [created(row)],
            entities=[row],
            results=[result("new", 100), result("k", 200, b"second"), result("newer", 100)],
            now=99,
        )
    assert known.value.results == (result("k", 100),)
    assert await contents(store) == before
    await write(store, results=[result("new", 100), result("newer", 100)], now=99)


async def test_known_results_are_all_answered(store: Store) -> None:
    """All known results of a batch are answered, in the batch's order."""
    await write(store, results=[result(f"k{i}", 100) for i in range(50)])
    with pytest.raises(KnownResults) as known:
        await write(store, results=[result(f"k{i}", 200) for i in range(60, -1, -1)])
    assert known.value.results == tuple(result(f"k{i}", 100) for i in range(49, -1, -1))


async def test_keys_are_of_a_caller_and_a_method(store: Store) -> None:
    """The same key of another principal or method is another key."""
    known = result("k", 100)
    others = [
        replace(known, key=replace(known.key, principal="bob")),
        replace(known, key=replace(known.key, method="CreateEntity")),
    ]
    await write(store, results=[known])
    await write(store, results=others)


async def test_an_expired_result_is_replaced(store: Store) -> None:
    """A result that has expired by `now` is not known; the new one takes its place."""
    await write(store, results=[result("k", 100)])
    await write(store, results=[result("k", 200, b"second", 7)], now=100)
    with pytest.raises(KnownResults) as known:
        await write(store, results=[result("k", 300)], now=199)
    assert known.value.results == (result("k", 200, b"second", 7),)


async def test_results_are_forgotten_in_slices(store: Store) -> None:
    """`forget_results` deletes at most `limit` expired results at a time and answers how many."""
    await write(store, results=[result(f"k{i}", 100 + i) for i in range(5)])
    assert await store.forget_results(99, 10) == 0
    assert [await store.forget_results(102, 2) for _ in range(3)] == [2, 1, 0]
    with pytest.raises(KnownResults) as known:
        await write(store, results=[result(f"k{i}", 300) for i in range(5)], now=0)
    assert [found.key.key for found in known.value.results] == ["k3", "k4"]


# Snapshots


async def test_a_snapshot_is_in_parts_of_at_most_chunk(store: Store) -> None:
    """Tables come in parts of at most `chunk` rows, whatever the sizes; empty tables in none."""
    snapshot = await store.snapshot()
    assert [part async for part in snapshot.entities()] == []
    await snapshot.aclose()
    await create(store, *(f"e{i}" for i in range(7)))
    for chunk, sizes in ((1, [1] * 7), (3, [3, 3, 1]), (7, [7]), (100, [7])):
        snapshot = await store.snapshot()
        assert [len(part.ids) async for part in snapshot.entities(chunk)] == sizes
        await snapshot.aclose()


async def test_a_snapshot_has_texts_as_they_are(store: Store) -> None:
    """Features may have any character, as metadata may; labels and names, letters of any script."""
    features = ["", "\x1f", "\x1e\x1f\n", "%s ü☃", "\U0001f9ea" * 90]
    rows = [
        entity(f"ü{n}", created=(1, n), labels={"k\x1f": feature})._replace(feature=feature)
        for n, feature in enumerate(features)
    ]
    await write(store, [created(row) for row in rows], entities=rows)
    snapshot = await store.snapshot()
    columns = await anext(snapshot.entities())
    found = columns.by_name()
    assert found["features"] == features
    assert found["ids"] == columns.ids == [f"ü{n}" for n in range(len(features))]
    assert [orjson.loads(text) for text in found["labels"]] == [{"k\x1f": f} for f in features]
    assert found["records"] == [row.record for row in rows]
    await snapshot.aclose()


async def test_a_snapshot_does_not_move(store: Store) -> None:
    """Tables, log and head of a snapshot stay as they were while commits and trims go on."""
    old = (await create(store, *(f"e{i}" for i in range(5)))).entities
    edge = relationship("r", "e0", "e1", created=(2, 0))
    await write(store, [created(edge)], relationships=[edge])
    before = await contents(store)
    snapshot = await store.snapshot()
    seen: list[str] = []
    async for part in snapshot.entities(2):
        seen += part.ids
        await create(store, f"later {len(seen)}")
    gone = [deleted(edge), deleted(old[1])]
    await write(store, gone, deleted_entities=["e1"], deleted_relationships=["r"], floor=3)
    await store.trim(3, 100)
    assert snapshot.head == before.head
    assert seen == before.ids
    assert [len(part.ids) async for part in snapshot.relationships()] == [1]
    assert [one async for part in snapshot.commits(0) for one in part] == before.log
    await snapshot.aclose()
    assert "e1" not in (await contents(store)).ids


async def test_a_long_snapshot_stops_no_commit(store: Store) -> None:
    """While a snapshot is open and half read, writers commit and the log is read."""
    await create(store, "a", "b")
    snapshot = await store.snapshot()
    parts = snapshot.entities(1)
    await anext(parts)
    for i in range(50):
        await write(store, [change(str(i))])
    assert len(await store.read_log(Position(1), 100, ENDLESS)) == 50
    assert [list(part.ids) async for part in parts] == [["b"]]
    await snapshot.aclose()


async def test_a_snapshot_ends(store: Store) -> None:
    """A closed snapshot is StoreUnavailable; closing it again does nothing."""
    await create(store, "a")
    snapshot = await store.snapshot()
    await snapshot.aclose()
    await snapshot.aclose()
    with pytest.raises(StoreUnavailable):
        await anext(snapshot.entities())
    with pytest.raises(StoreUnavailable):
        await anext(snapshot.relationships())
    with pytest.raises(StoreUnavailable):
        await anext(snapshot.commits(0))


async def test_a_snapshot_has_the_log_in_whole_revisions(store: Store) -> None:
    """The log of a snapshot begins after the revision asked for, and no revision is divided."""
    made: list[Commit] = []
    for size in (1, 3000, 2, 5000, 1, 1, 4096, 1):
        made += (await write(store, [change(str(i)) for i in range(size)])).commits
    snapshot = await store.snapshot()
    for after in (0, 1, 3, 7, 8, 9):
        assert [one async for part in snapshot.commits(after) for one in part] == made[after:]
    await snapshot.aclose()


# The log


async def test_the_log_is_read_from_a_position(store: Store) -> None:
    """A position skips whole revisions and the first changes of the next one."""
    await write(store, [change("a")], [change("b"), change("c"), change("d")], [change("e")])
    for after, expected in (
        (Position(0), [(1, 0, 1), (2, 0, 3), (3, 0, 1)]),
        (Position(1), [(2, 0, 3), (3, 0, 1)]),
        (Position(1, 2), [(2, 2, 1), (3, 0, 1)]),
        (Position(1, 3), [(3, 0, 1)]),
        (Position(2), [(3, 0, 1)]),
        (Position(3), []),
        (Position(4), []),
    ):
        assert shape(await store.read_log(after, 100, ENDLESS)) == expected
    [(commit, _)] = await store.read_log(Position(1, 2), 1, ENDLESS)
    assert [one.id for one in commit.changes] == ["d"]


async def test_the_log_is_read_in_whole_revisions(store: Store) -> None:
    """A revision that does not fit is left to the next answer, but a first one is divided."""
    made = await write(store, [change("a")], [change("b")] * 3, [change("c")] * 2)
    for after, limit, expected in (
        (Position(0), 1, [(1, 0, 1)]),
        (Position(0), 2, [(1, 0, 1)]),
        (Position(0), 3, [(1, 0, 1)]),
        (Position(0), 4, [(1, 0, 1), (2, 0, 3)]),
        (Position(0), 5, [(1, 0, 1), (2, 0, 3)]),
        (Position(1), 2, [(2, 0, 2)]),
        (Position(1, 2), 2, [(2, 2, 1)]),
        (Position(1, 1), 4, [(2, 1, 2), (3, 0, 2)]),
        (Position(2), 0, [(3, 0, 1)]),
    ):
        found = await store.read_log(after, limit, ENDLESS)
        assert shape(found) == expected
        assert all(commit.hash == made.commits[commit.revision - 1].hash for commit, _ in found)


async def test_the_log_is_read_within_bytes(store: Store) -> None:
    """`max_bytes` limits the images before and after; one change is answered however large."""
    await write(store, [change("a", 10)], [change("b", 10), change("c", 5)], [change("d", 100)])
    for after, limit, expected in (
        (Position(0), 0, [(1, 0, 1)]),
        (Position(0), 20, [(1, 0, 1)]),
        (Position(0), 24, [(1, 0, 1)]),
        (Position(0), 25, [(1, 0, 1), (2, 0, 2)]),
        (Position(1), 14, [(2, 0, 1)]),
        (Position(1, 1), 1, [(2, 1, 1)]),
        (Position(2), 99, [(3, 0, 1)]),
    ):
        assert shape(await store.read_log(after, 100, limit)) == expected


async def test_the_log_can_be_paged(store: Store) -> None:
    """Going on from where an answer ended reads every change once, with any limits."""
    sizes = (1, 700, 2, 1, 300)
    await write(store, *([change(f"{r}/{i}", 3) for i in range(n)] for r, n in enumerate(sizes)))
    expected = [f"{r}/{i}" for r, n in enumerate(sizes) for i in range(n)]
    for max_changes, max_bytes in ((1000, ENDLESS), (100, ENDLESS), (1000, 100), (7, 20)):
        position = Position(0)
        seen: list[str] = []
        while parts := await store.read_log(position, max_changes, max_bytes):
            seen += [one.id for commit, _ in parts for one in commit.changes]
            commit, index = parts[-1]
            position = Position(commit.revision - 1, index + len(commit.changes))
        assert seen == expected


def found_by(parts: Sequence[LoggedChange]) -> list[str]:
    """The ids of changes that were found; each with the header and the number of its own."""
    for one in parts:
        assert one.change.id.endswith(f"{one.header.revision}/{one.index}")
        assert one.header.request_id == f"request {one.header.revision}"
    return [one.change.id for one in parts]


def named(*sizes: int, first: int = 1) -> list[list[Change]]:
    """Revisions of so many changes, whose ids are `revision/index`."""
    return [[change(f"{r}/{i}", 4) for i in range(n)] for r, n in enumerate(sizes, first)]


async def test_the_log_is_searched_backwards(store: Store) -> None:
    """The newest changes first, between a revision and a position; the place reached is told."""
    await write(store, *named(1, 3, 2))
    everything = ["3/1", "3/0", "2/2", "2/1", "2/0", "1/0"]
    for after, before, expected in (
        (0, Position(3), everything),
        (0, Position(9, 9), everything),
        (0, Position(2), everything[2:]),
        (0, Position(2, 1), everything[1:]),
        (1, Position(1, 2), ["2/1", "2/0"]),
        (2, Position(2), []),
        (3, Position(3), []),
        (2, Position(0), []),
        (7, Position(9), []),
    ):
        found, reached = await store.search_log(LogQuestion(after, before), LogLimits(99, 99, 99))
        assert (found_by(found), reached) == (expected, Position(after))


async def test_a_search_of_the_log_has_conditions(store: Store) -> None:
    """An id, an actor and a method, with or without its service; all that are given must hold."""
    transaction = await store.begin()
    who = [("ann", "a.v1.S/Get"), ("bob", "a.v1.S/Set"), ("ann", "Set"), ("ann", "a.v1.S/Reset")]
    made = batch(transaction.head, *([change("x"), change(name)] for name, _ in who))
    named_ = [
        replace(one, actor=actor, method=method)
        for one, (actor, method) in zip(made.commits, who, strict=True)
    ]
    await transaction.commit(replace(made, commits=named_), 0)
    cases: list[tuple[dict[str, Any], list[int]]] = [
        ({}, [4, 4, 3, 3, 2, 2, 1, 1]),
        ({"id": "x"}, [4, 3, 2, 1]),
        ({"id": "X"}, []),
        ({"actor": "ann"}, [4, 4, 3, 3, 1, 1]),
        ({"id": "bob"}, [2]),
        ({"method": "Set", "id": "x"}, [3, 2]),
        ({"method": "set"}, []),
        ({"method": "%et"}, []),
        ({"method": "a.v1.S/Set", "id": "x"}, [2]),
        ({"method": "v1.S/Set"}, []),
        ({"method": "Set", "actor": "ann", "id": "x"}, [3]),
    ]
    for conditions, expected in cases:
        question = LogQuestion(0, Position(4), **conditions)
        found, reached = await store.search_log(question, LogLimits(99, 999, 99))
        assert [one.header.revision for one in found] == expected, conditions
        assert reached == Position(0)


async def test_a_search_of_the_log_is_bounded(store: Store) -> None:
    """By changes and bytes that are answered, and by changes that are looked at; it can go on."""
    await write(store, *named(1, 3, 2))
    for limits, expected, reached in (
        (LogLimits(2, 99, 99), ["3/1", "3/0"], Position(2)),
        (LogLimits(3, 99, 99), ["3/1", "3/0", "2/2"], Position(1, 2)),
        (LogLimits(6, 99, 99), ["3/1", "3/0", "2/2", "2/1", "2/0", "1/0"], Position(0)),
        (LogLimits(99, 7, 99), ["3/1"], Position(2, 1)),
        (LogLimits(99, 8, 99), ["3/1", "3/0"], Position(2)),
        (LogLimits(99, 0, 99), ["3/1"], Position(2, 1)),
        (LogLimits(99, 99, 4), ["3/1", "3/0", "2/2", "2/1"], Position(1, 1)),
        (LogLimits(99, 99, 5), ["3/1", "3/0", "2/2", "2/1", "2/0"], Position(1)),
    ):
        found, place = await store.search_log(LogQuestion(0, Position(3)), limits)
        assert (found_by(found), place) == (expected, reached), limits
    question, seen = LogQuestion(0, Position(3), id="2/0"), list[Position]()
    while question.before > Position(0):
        found, place = await store.search_log(question, LogLimits(1, 1, 2))
        assert found_by(found) == (["2/0"] if place == Position(0) else [])
        seen.append(place)
        question = replace(question, before=place)
    assert seen == [Position(2), Position(1, 1), Position(0)]


async def test_a_search_of_a_log_that_is_trimmed(store: Store) -> None:
    """What reaches below the trimmed part is RevisionCompacted, not an end that is none."""
    await write(store, *named(2, 2, 2))
    await write(store, [change("4/0")], floor=2)
    assert await store.trim(2, 100) == 4
    found, reached = await store.search_log(LogQuestion(2, Position(4)), LogLimits(99, 99, 99))
    assert (found_by(found), reached) == (["4/0", "3/1", "3/0"], Position(2))
    for before in (Position(4), Position(0)):
        with pytest.raises(RevisionCompacted):
            await store.search_log(LogQuestion(1, before), LogLimits(99, 99, 99))


async def test_revisions_are_found_by_time(store: Store) -> None:
    """`revision_at` is the last revision at or before a time, and None if that is compacted."""
    await write(store, *([change("a")] for _ in range(9)))
    assert await store.revision_at(START) == 0
    for revision in range(1, 10):
        time = START + revision * SECOND
        assert await store.revision_at(time - 1) == revision - 1
        assert await store.revision_at(time) == revision
    assert await store.revision_at(ENDLESS << 20) == 9
    await write(store, [change("")], floor=4)
    for _ in range(2):
        assert await store.revision_at(START) is None
        assert await store.revision_at(START + 4 * SECOND - 1) is None
        assert await store.revision_at(START + 4 * SECOND) == 4
        assert await store.revision_at(START + 5 * SECOND - 1) == 4
        assert await store.revision_at(START + 5 * SECOND) == 5
        await store.trim(4, 100)


async def test_headers_are_kept_from_the_floor_on(store: Store) -> None:
    """`headers` answers those of the revisions that are asked for and held, and of the floor."""
    made = await write(store, *([change("a"), change("b")] for _ in range(5)))
    made = replace(made, commits=[*made.commits, *(await write(store, [change("")])).commits])
    expected = {one.revision: one.header for one in made.commits}
    assert expected[2] == (2, START + 2 * SECOND, "ann", "Write", "request 2")
    assert await store.headers(range(8)) == expected
    assert await store.headers([5, 2, 5, 99]) == {n: expected[n] for n in (2, 5)}
    assert await store.headers([]) == {}
    await write(store, [change("")], floor=3)
    assert await store.headers([1, 2, 3]) == {n: expected[n] for n in (1, 2, 3)}
    assert await store.trim(3, 3) == 3
    assert await store.headers([1, 2, 3]) == {n: expected[n] for n in (2, 3)}
    assert await store.trim(3, 100) == 3
    assert await store.headers(range(7)) == {n: expected[n] for n in (3, 4, 5, 6)}
    await write(store, [change("")], floor=5)
    assert await store.trim(5, 100) == 4
    assert await store.headers(range(7)) == {n: expected[n] for n in (5, 6)}


async def test_revisions_are_found_by_what_follows(store: Store) -> None:
    """`revision_keeping` is the lowest revision with at most so many changes after it."""
    await write(store, *([change("a")] * size for size in (2, 1, 3, 1)))
    expected = {0: 4, 1: 3, 2: 3, 3: 3, 4: 2, 5: 1, 6: 1, 7: 0, 100: 0}
    assert {n: await store.revision_keeping(n) for n in expected} == expected
    await write(store, [change("")], floor=3)
    assert [await store.revision_keeping(n) for n in (0, 1, 2, 100)] == [5, 4, 3, 3]


async def test_the_log_is_trimmed_in_slices(store: Store) -> None:
    """`trim` deletes at most `limit` changes up to the floor, answers how many, and ends at 0."""
    made = await write(store, *([change("a")] * size for size in (2, 3, 1, 2)))
    made = await write(store, [change("")], floor=3)
    assert [await store.trim(3, 4) for _ in range(3)] == [4, 2, 0]
    assert shape(await store.read_log(Position(3), 100, ENDLESS)) == [(4, 0, 2), (5, 0, 1)]
    assert [commit.revision for commit in (await contents(store)).log] == [4, 5]
    assert await head_of(store) == made.head


async def test_nothing_above_the_floor_is_trimmed(store: Store) -> None:
    """A floor above the head's counts as the head's; a lower one trims up to it."""
    await write(store, *([change("a")] for _ in range(5)))
    assert await store.trim(5, 100) == 0
    await write(store, [change("")], floor=3)
    assert await store.trim(1, 100) == 1
    assert await store.trim(99, 100) == 2
    assert await store.trim(99, 100) == 0


async def test_the_whole_log_can_be_trimmed(store: Store) -> None:
    """A log that is compacted to its head is empty, and goes on after it."""
    await write(store, [change("a")], [change("b")], floor=2)
    assert await store.trim(2, 100) == 2
    assert await store.read_log(Position(2), 100, ENDLESS) in ([], ())
    assert await store.revision_at(ENDLESS << 20) == 2
    assert await store.revision_at(START + 2 * SECOND) == 2
    assert await store.revision_at(START + 2 * SECOND - 1) is None
    assert await store.revision_keeping(10) == 2
    await write(store, [change("c")])
    assert shape(await store.read_log(Position(2), 100, ENDLESS)) == [(3, 0, 1)]
    with pytest.raises(RevisionCompacted):
        await store.read_log(Position(1), 100, ENDLESS)


async def test_what_is_trimmed_is_compacted(store: Store) -> None:
    """Below the floor the log can be read until it is trimmed; then it is RevisionCompacted."""
    await write(store, *([change(f"{r}/{i}") for i in range(3)] for r in range(5)))
    await write(store, [change("")], floor=4)
    assert len(await store.read_log(Position(0), 100, ENDLESS)) == 6
    assert await store.trim(4, 4) == 4
    for gone in (Position(0), Position(0, 2), Position(1)):
        with pytest.raises(RevisionCompacted) as compacted:
            await store.read_log(gone, 100, ENDLESS)
        assert compacted.value.metadata == {"revision": str(gone.revision), "oldest": "4"}
    assert shape(await store.read_log(Position(1, 1), 3, ENDLESS)) == [(2, 1, 2)]
    snapshot = await store.snapshot()
    with pytest.raises(RevisionCompacted):
        await anext(snapshot.commits(1))
    assert len([one async for part in snapshot.commits(2) for one in part]) == 4
    await snapshot.aclose()
