"""The bugs that etcd's users and its robustness tests found in its Watch, tried on ours.

Each test names a report, says what went wrong there, and makes the circumstances here. None of the
code is etcd's. The README has the table.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import TYPE_CHECKING

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from hyper_registry.model.errors import (
    HistoryChanged,
    InvalidArgument,
    RevisionCompacted,
    StoreUnavailable,
)
from hyper_registry.model.revision import Commit, Position
from hyper_registry.registry.copying import copy
from hyper_registry.registry.mutations import DeleteEntity
from hyper_registry.store.memory import MemoryDisk, MemoryStore
from hyper_registry.watch.hub import Limits
from ose.registry.client import AsyncRegistryClient, RetryPolicy
from ose.registry.v1.entity_service_pb2 import CreateEntityRequest
from ose.registry.v1.mutation_pb2 import Mutation
from ose.registry.v1.registry_service_pb2 import ExportRequest, WriteRequest
from ose.registry.v1.watch_service_pb2 import WatchRequest, WatchResponse
from ose.registry.v1.watch_service_pb2_grpc import WatchServiceStub
from tests.clients.scripted import Cable
from tests.services.samples import build, service, struct
from tests.services.samples import create as create_over_grpc
from tests.support.servers import serving
from tests.support.waiting import eventually
from tests.watch.world import (
    CREATED,
    DELETED,
    UPDATED,
    World,
    brief,
    create,
    events,
    is_silent,
    of_feature,
    receive,
    request,
    touch,
    until,
    world,
)

if TYPE_CHECKING:
    from ose.registry.v1.watch_service_pb2_grpc import WatchServiceAsyncStub

BOOKMARK = WatchResponse.MARK_BOOKMARK
RESET = WatchResponse.MARK_RESET
SNAPSHOT_END = WatchResponse.MARK_SNAPSHOT_END
SERVICES = {"types": ["service"]}
SOON = Duration(nanos=100_000_000)
NOTHING_KEPT = Limits(cache_bytes=1)
MANY = 600
"""More than the 512 watchers that etcd brings up to date at once."""


async def quiet(seconds: float) -> None:
    """Lets time pass, for bookmarks to fall due."""
    await asyncio.sleep(seconds)


# What a progress notification says


async def test_15220_progress_is_not_ahead_of_the_events() -> None:
    """Etcd #15220: progress that was asked for overtook events that were still to be sent.

    A watcher that took it for done threw the events away. Here bookmarks are due while a backlog,
    and then a stream of changes, is unread: none says more than what came before it.
    """
    async with world(window_bytes=1, limits=NOTHING_KEPT) as w:
        watch = await w.hub.open(request(1, entities=SERVICES, bookmark_interval=SOON))
        for number in range(40):
            await w.create(f"e{number}")
        await quiet(0.15)  # a bookmark is due before the first event is read
        reached = 0
        for number in range(40, 80):
            last = await w.create(f"e{number}")
            if number % 10 == 0:
                await quiet(0.11)
            message = await receive(watch)
            for event in message.events:
                assert event.revision > reached
            reached = max(reached, message.revision)
        seen = 0
        while reached < last:
            message = await receive(watch)
            assert all(event.revision > reached for event in message.events)
            reached, seen = message.revision, seen + len(message.events)
        assert (await receive(watch)).mark == BOOKMARK


async def test_17507_progress_of_a_watch_that_nothing_matches() -> None:
    """Etcd #17507: after that was mended, a new watch without an event got no progress at all.

    It was taken for one that is behind until something matched. Here it says how far it has come
    at once, wherever it begins.
    """
    async with world() as w:
        for number in range(20):
            last = await w.create(f"e{number}")
        for start in (1, last, last + 1, None):
            robots = request(start, entities={"types": ["robot"]}, bookmark_interval=SOON)
            message = await receive(await w.hub.open(robots))
            assert (message.mark, message.revision) == (BOOKMARK, last)
            assert message.resume_token


# Compaction


async def recreated(w: World) -> tuple[int, int]:
    """Puts, deletes and puts an entity again; answers the last two revisions."""
    await w.create("k")
    for version in "23":
        await w.touch("k", version)
    deleted = await w.delete("k")
    return deleted, await w.create("k")


async def test_18089_compaction_at_a_deletion() -> None:
    """Etcd #18089: compacted at the revision of a deletion, the log lost it, in silence.

    A watch from there began with the put behind it. Here a watch either gets the deletion or is
    refused, before the log is trimmed and after, and on a server that was started again.
    """
    disk = MemoryDisk()
    async with world(disk, window_bytes=1, limits=NOTHING_KEPT) as w:
        deleted, put = await recreated(w)
        await w.engine.compact(deleted - 1, "me", "")
        expected = [(DELETED, deleted, "k"), (CREATED, put, "k")]
        assert brief(await until(await w.hub.open(request(deleted)), put)) == expected
        await w.engine.store.trim(deleted - 1, 1000)
        assert brief(await until(await w.hub.open(request(deleted)), put)) == expected
        await w.engine.compact(deleted, "me", "")
    for trims in (0, 1000):
        async with world(disk) as w:
            await w.engine.store.trim(deleted, trims)
            with pytest.raises(RevisionCompacted) as refused:
                await w.hub.open(request(deleted))
            assert refused.value.metadata["oldest"] == str(put)
            assert brief(await until(await w.hub.open(request(put)), put)) == [(CREATED, put, "k")]


async def test_19179_a_crash_within_a_compaction() -> None:
    """Etcd #19179: killed while a compaction deleted rows, a server went on with it at the start.

    A watch at that revision missed a deletion. Here the floor is in the log before a row is
    deleted, so a start that is half gone is refused whatever is left of it.
    """
    for slices in range(6):
        disk = MemoryDisk()
        async with world(disk) as w:
            deleted, put = await recreated(w)
            await w.engine.compact(deleted, "me", "")
            for _ in range(slices):
                await w.engine.store.trim(deleted, 1)
        async with world(disk) as w:
            for start in range(1, deleted + 1):
                with pytest.raises(RevisionCompacted):
                    await w.hub.open(request(start))
            assert brief(await until(await w.hub.open(request(put)), put)) == [(CREATED, put, "k")]


async def test_17529_slow_watchers_that_compaction_overtakes() -> None:
    """Etcd #17529: of hundreds of slow watchers some were moved past a compaction, untold.

    Their channel was full, so the notice was dropped, and the events between with it. Here each of
    more than etcd takes at once is told, or reset if it asked for that: none goes on with a gap.
    """
    async with world(window_bytes=1, limits=NOTHING_KEPT) as w:
        asked = [
            request(
                w.revision + 1,
                entities=SERVICES,
                include_previous=True,
                reset_on_compaction=bool(n % 2),
            )
            for n in range(MANY)
        ]
        watches = [await w.hub.open(one) for one in asked]
        for number in range(20):
            await w.create(f"e{number}")
        for number in range(20):
            await w.touch(f"e{number}", "2")
        await w.engine.compact(w.revision, "me", "")
        last = await w.create("last")
        for number, watch in enumerate(watches):
            if number % 2 == 0:
                with pytest.raises(RevisionCompacted):
                    await receive(watch)
                continue
            messages = await until(watch, last)
            assert messages[0].mark == RESET
            ids = [one.id for message in messages for one in message.entities]
            assert ids == [*(f"e{n}" for n in range(20)), "last"]


async def test_17529_who_never_reads_starves_nobody() -> None:
    """Etcd #17529, too: the slow held up those who kept up, for minutes, on one stream.

    Here watchers that never read, of the same question and with previous values, cost the one who
    does nothing but its own events.
    """
    async with world(window_bytes=20_000, limits=Limits(cache_bytes=100_000)) as w:
        asked = request(w.revision + 1, entities=SERVICES, include_previous=True)
        silent = [await w.hub.open(asked) for _ in range(MANY)]
        reader = await w.hub.open(asked)
        await w.create("a", metadata=of_feature("x" * 500))
        for number in range(100):
            revision = await w.touch("a", str(number))
            began = time.monotonic()
            messages = await until(reader, revision)
            assert time.monotonic() - began < 5
            before = str(number - 1) if number else ""
            assert events(messages)[-1].previous_entity.version == before
        late = events(await until(silent[0], revision))
        assert [event.entity.version for event in late] == ["", *map(str, range(100))]


async def test_22294_compacted_watchers_are_let_go() -> None:
    """Etcd #21174 and #22294: with more than 512 behind, compacted watchers were never removed.

    Each was told of the compaction again and again, and stayed in memory. Here each is told once,
    and nothing of it is left.
    """
    async with world(window_bytes=1, limits=NOTHING_KEPT) as w:
        first = w.revision + 1
        watches = [await w.hub.open(request(first)) for _ in range(MANY)]
        for number in range(5):
            await w.create(f"e{number}")
        await w.engine.compact(w.revision, "me", "")
        for watch in watches:
            with pytest.raises(RevisionCompacted):
                await receive(watch)
            await watch.aclose()
        statistics = w.hub.statistics()
        assert (statistics.watches, statistics.groups, statistics.lag) == (0, 0, 0)


async def test_13822_compaction_while_a_watcher_is_away() -> None:
    """Etcd #13822: cut off while a compaction passed, a watcher got nothing more, and no error.

    Here whoever comes back with its token is refused, or reset if it asks for that.
    """
    async with world() as w:
        watch = await w.hub.open(request(w.revision + 1, entities=SERVICES))
        token = (await until(watch, await w.create("a")))[-1].resume_token
        await watch.aclose()
        for name in "bc":
            await w.create(name)
        await w.engine.compact(w.revision, "me", "")
        with pytest.raises(RevisionCompacted):
            await w.hub.open(request(token, entities=SERVICES))
        again = await w.hub.open(request(token, entities=SERVICES, reset_on_compaction=True))
        messages = await until(again, w.revision)
        assert [m.mark for m in messages] == [RESET, 0, SNAPSHOT_END]
        assert [one.id for m in messages for one in m.entities] == ["a", "b", "c"]


# Starting and going on


async def test_20221_a_start_in_the_future() -> None:
    """Etcd #20221: a watch of a revision to come got older events, and progress below its start.

    Here it is silent until that revision, also on a server that is further behind than the one
    that told of it.
    """
    disk = MemoryDisk()
    async with world(disk) as w:
        await w.create("a")
        behind = deepcopy(replace(disk, held=False))
        for name in "bcd":
            ahead = await w.create(name)
    async with world(behind) as w:
        assert w.revision < ahead
        watch = await w.hub.open(request(ahead + 1, bookmark_interval=SOON))
        while w.revision < ahead - 1:
            await w.create(f"e{w.revision}")
            assert await is_silent(watch, 0.12)
        await w.create("right-before")
        last = await w.create("start")
        assert brief(await until(watch, last)) == [(CREATED, ahead + 1, "start")]


async def test_15271_a_watch_does_not_travel_back() -> None:
    """Etcd #15271: a member that was set to a snapshot sent its watchers old revisions again.

    Here a stream of a server whose data was set back is not continued: its token is refused, and
    nothing that it has seen comes a second time.
    """
    disk = MemoryDisk()
    async with world(disk) as w:
        await w.create("a")
        earlier = deepcopy(replace(disk, held=False))
        watch = await w.hub.open(request(1))
        for name in "bcd":
            last = await w.create(name)
        token = (await until(watch, last))[-1].resume_token
    async with world(earlier, limits=Limits(replica_lag_seconds=0.01)) as w:
        with pytest.raises(HistoryChanged):
            await w.hub.open(request(token))
        while w.revision <= last:
            await w.create(f"other{w.revision}")
        with pytest.raises(HistoryChanged):
            await w.hub.open(request(token))


async def test_14303_a_watch_over_a_restore_is_told() -> None:
    """Etcd #14303: restored from a snapshot, a registry's watchers went on, and lost events.

    Their revision was higher than the store's, or that of something else. Here the history has
    another identity, so a token of before is refused, also with a reset.
    """
    async with world() as w:
        for name in "abc":
            await w.create(name)
        token = (await until(await w.hub.open(request(1)), w.revision))[-1].resume_token
        disk, snapshot = MemoryDisk(), await w.engine.store.snapshot()
        restored = MemoryStore(disk)
        await restored.open()
        head = await copy(snapshot, restored)
        await snapshot.aclose()
        await restored.aclose()
    async with world(disk) as w:
        assert w.revision == head.revision
        for resets in (False, True):
            with pytest.raises(HistoryChanged):
                await w.hub.open(request(token, reset_on_compaction=resets))


async def test_8411_followers_go_on_when_the_log_comes_back() -> None:
    """Etcd #8411: a member that rejoined served reads and writes, and its watchers nothing.

    Here the log cannot be read for a while, and the watchers get all of it, once, when it can be
    read again.
    """

    class Unsteady(MemoryStore):
        """A store whose log cannot be read while it is `away`."""

        away = False

        async def read_log(
            self, after: Position, max_changes: int, max_bytes: int
        ) -> Sequence[tuple[Commit, int]]:
            if self.away:
                raise StoreUnavailable("it is away")
            return await super().read_log(after, max_changes, max_bytes)

    store = Unsteady()
    async with world(store=store, window_bytes=1, limits=NOTHING_KEPT) as w:
        late = await w.hub.open(request(w.revision + 1, entities=SERVICES))
        watch = await w.hub.open(request(w.revision + 1, entities=SERVICES))
        waiting = asyncio.create_task(receive(watch))
        await asyncio.sleep(0)
        store.away = True
        made = sorted(await asyncio.gather(*(w.create(f"e{number}") for number in range(30))))
        assert await is_silent(late, 0.3)
        assert not waiting.done()
        store.away = False
        last = await w.create("last")
        seen = [await waiting]
        while seen[-1].revision < last:
            seen.append(await receive(watch))
        for messages in (seen, await until(late, last)):
            assert [revision for _, revision, _ in brief(messages)] == [*made, last]


# Revisions of many changes


async def test_17247_a_change_is_sent_once() -> None:
    """Etcd #17247: a transaction was applied on what another had cached, and an event came twice.

    Here one entity is made, changed, deleted and made again within a revision, beside others in
    the same commit, and the write is repeated under its idempotency key.
    """
    async with world() as w:
        watch = await w.hub.open(request(entities=SERVICES))
        first, second = await asyncio.gather(
            w.write(create("a"), touch("a", "2"), DeleteEntity("a"), create("a"), touch("a", "3")),
            w.write(create("b"), touch("b", "2")),
        )
        messages = await until(watch, max(first, second))
        assert brief(messages) == [
            (CREATED, first, "a"),
            (UPDATED, first, "a"),
            (DELETED, first, "a"),
            (CREATED, first, "a"),
            (UPDATED, first, "a"),
            (CREATED, second, "b"),
            (UPDATED, second, "b"),
        ]
    async with serving() as running:
        call = running.stubs.watch.Watch(WatchRequest(start_revision=2))
        message = CreateEntityRequest(entity=service("a"), idempotency_key="once")
        for _ in range(3):
            await running.stubs.entities.CreateEntity(message)
        last = await create_over_grpc(running.stubs, "b")
        seen = []
        async for response in call:
            seen += [event.entity.id for event in response.events]
            if response.revision >= last.revision:
                break
        assert seen == ["a", "b"]
        call.cancel()


async def test_python_etcd3_729_leaving_within_a_revision() -> None:
    """python-etcd3 #729: events came one by one, so who left between two of a revision lost one.

    To go on behind the revision misses the rest, to begin with it repeats the first. Here the
    parts of a revision have no token but the last, and it comes again whole.
    """
    async with world() as w:
        before = await w.create("before")
        watch = await w.hub.open(request(before))
        token = (await receive(watch)).resume_token
        large = of_feature("x" * 60_000)
        revision = await w.write(*(create(f"e{n}", metadata=large) for n in range(40)))
        part = await receive(watch)
        assert part.more
        assert (part.revision, part.resume_token) == (0, "")
        await watch.aclose()
        again = await until(await w.hub.open(request(token)), revision)
        assert brief(again) == [(CREATED, revision, f"e{n}") for n in range(40)]


async def test_9294_a_revision_larger_than_a_message() -> None:
    """Etcd #9294: a revision of very many events was one message, larger than a client takes.

    Its stream broke, again and again. Here a revision of more than a client takes by default comes
    in parts that it does take, and our client hands it over whole.
    """
    async with serving() as running:
        for version, letter in (("1", "x"), ("2", "y")):
            large = struct(text=letter * 60_000)
            await running.stubs.registry.Write(
                WriteRequest(
                    mutations=[
                        Mutation(put_entity=service(f"e{n}", version=version, metadata=large))
                        for n in range(60)
                    ]
                )
            )
        asked = WatchRequest(start_revision=3, include_previous=True)
        async with grpc.aio.insecure_channel(running.target) as channel:
            parts: list[WatchResponse] = []
            stub: WatchServiceAsyncStub = WatchServiceStub(channel)
            async for part in stub.Watch(asked):
                parts.append(part)
                if not part.more:
                    break
        assert sum(part.ByteSize() for part in parts) > 4 << 20
        assert sum(len(part.events) for part in parts) == 60
        client = AsyncRegistryClient(running.target)
        watch = client.watch(start_revision=3, include_previous=True)
        update = await anext(watch)
        await watch.aclose()
        assert [(revision, len(found)) for revision, found in update.by_revision()] == [(3, 60)]
        await client.aclose()


# The client


async def test_4502_a_break_before_the_first_event() -> None:
    """Etcd #4502: a client that had seen nothing yet came back with "from now on".

    What was written while it was away was lost. Here the client fixes where now is before it
    begins, so it is cut off before the first message, and misses nothing.
    """
    async with serving() as running:
        cable = Cable(running.server.grpc_port)
        await cable.start()
        quick = RetryPolicy(initial_backoff=0.01, max_backoff=0.05)
        client = AsyncRegistryClient(cable.target, retry=quick)
        watch = client.watch()
        waiting = asyncio.create_task(anext(watch))

        async def watches() -> bool:
            return (await running.client.get_statistics()).watchers == 1

        await eventually(watches)
        await cable.stop()
        made = await create_over_grpc(running.stubs, "while-away")
        await cable.start()
        update = await waiting
        assert [(e.revision, e.entity.id) for e in update.events] == [(made.revision, "while-away")]
        await watch.aclose()
        await client.aclose()
        await cable.stop()


async def test_15402_a_watch_beside_large_answers() -> None:
    """Etcd #15402: on a connection that was busy with large reads a watch was starved for minutes.

    Here exports of some MiB go on without a pause on the watch's own connection.
    """
    async with serving() as running:
        large = struct(text="x" * 20_000)
        for start in range(0, 400, 200):
            await build(
                running.stubs, [service(f"e{start + n}", metadata=large) for n in range(200)]
            )

        async def export() -> None:
            while True:
                async for _ in running.stubs.registry.Export(ExportRequest()):
                    pass

        busy = [asyncio.create_task(export()) for _ in range(4)]
        watch = running.client.watch(start_revision=4)
        try:
            async with asyncio.timeout(20):
                for number in range(5):
                    await create_over_grpc(running.stubs, f"beside-{number}")
                    update = await anext(watch)
                    assert [e.entity.id for e in update.events] == [f"beside-{number}"]
        finally:
            for task in busy:
                task.cancel()
            await asyncio.gather(*busy, return_exceptions=True)
            await watch.aclose()


async def test_jepsen_343_revision_zero() -> None:
    """Jepsen on etcd 3.4.3: a watch from revision 0 begins now, although 1 is the first revision.

    It looked like "everything" and left all of the past out. Here 0 is refused, no start is now,
    and 1 is the first revision there is.
    """
    async with world() as w:
        with pytest.raises(InvalidArgument) as refused:
            await w.hub.open(request(0))
        assert refused.value.metadata["field"] == "start_revision"
        first = events([await receive(await w.hub.open(request(1)))])
        assert {event.revision for event in first} == {1}
        assert "ai-ml" in [event.entity.id for event in first]
