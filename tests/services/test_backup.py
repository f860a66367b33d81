"""AdminService.Backup, and what `restore` makes of it: everything as it was, in a new history."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import random
import threading
from contextlib import aclosing
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from hyper_registry import restore as module
from hyper_registry.config import ConfigError
from hyper_registry.registry.engine import ReadOptions
from hyper_registry.restore import check, restore
from hyper_registry.services.admin_service import MAX_BACKUPS
from hyper_registry.store.backup import PIECE_BYTES, BackupError, BackupSnapshot
from hyper_registry.store.sqlite import SqliteStore
from nexus_registry.conformance.stubs import Stubs
from ose.registry.client import (
    AsyncRegistryClient,
    Entity,
    FailedPrecondition,
    NotFound,
    OutOfRange,
    WatchKind,
)
from ose.registry.v1.admin_service_pb2 import BackupRequest, CompactRequest, GetStatisticsRequest
from ose.registry.v1.entity_service_pb2 import DeleteEntityRequest, ListEntitiesRequest
from ose.registry.v1.watch_service_pb2 import WatchRequest
from tests.services.samples import GENESIS, build, create, dependency, service, struct
from tests.support.refusals import explained
from tests.support.servers import Running, serving
from tests.support.waiting import eventually

CODE = grpc.StatusCode


async def saved(running: Running, path: Path) -> Path:
    """The backup of a registry, as a file."""
    file = io.BytesIO()
    await running.client.save_backup(file)
    await asyncio.to_thread(path.write_bytes, file.getvalue())
    return path


async def restored(file: Path, database: Path) -> Path:
    """A database that is made of a backup."""
    await asyncio.to_thread(restore, file, str(database))
    return database


async def past(client: AsyncRegistryClient, revisions: range) -> list[Any]:
    """All that can be read at these revisions."""
    found: list[Any] = []
    for revision in revisions:
        entities = [e async for e in client.list_entities(at_revision=revision)]
        edges = [e async for e in client.list_relationships(at_revision=revision)]
        found.append((entities, edges))
    return found


async def history(client: AsyncRegistryClient, start: int, end: int) -> list[Any]:
    """All changes of these revisions."""
    events: list[Any] = []
    async with aclosing(client.watch(start_revision=start, include_previous=True)) as watch:
        async for update in watch:
            events += update.events
            if update.revision >= end:
                return events
    raise AssertionError("a watch ended")


async def fill(stubs: Stubs, batches: int = 8) -> int:
    """Writes some MiB that cannot be compressed to much less; answers the revision."""
    noise = random.Random(1)
    for number in range(batches):
        texts = {f"{number}-{part}": noise.randbytes(30_000).hex() for part in range(16)}
        made = await build(
            stubs, [service(name, metadata=struct(text=text)) for name, text in texts.items()]
        )
    return made.revision


async def lively(stubs: Stubs) -> int:
    """Makes a registry with a past; answers its revision."""
    await build(
        stubs, ["a", service("b", metadata=struct(feature="ai-ml"))], [dependency("a", "b")]
    )
    await create(stubs, "c")
    await stubs.entities.DeleteEntity(DeleteEntityRequest(id="b", cascade=True))
    return (await create(stubs, "d")).revision


async def test_pieces(stored: Running) -> None:
    """Each message has a piece of at most 1 MiB and the revision; joined they are a backup."""
    stubs = stored.stubs
    revision = await fill(stubs)
    parts = [part async for part in stubs.admin.Backup(BackupRequest())]
    assert {part.revision for part in parts} == {revision}
    assert all(0 < len(part.data) <= PIECE_BYTES for part in parts)
    data = b"".join(part.data for part in parts)
    assert hashlib.sha256(data[:-32]).digest() == data[-32:]


async def test_the_client_backs_up(stored: Running, tmp_path: Path) -> None:
    """As pieces, or into a file, with revision, size and checksum; both are the same backup."""
    revision = await lively(stored.stubs)
    file, seen = io.BytesIO(), list[int]()
    info = await stored.client.save_backup(file, progress=seen.append)
    data = file.getvalue()
    assert (info.revision, info.size, info.sha256) == (
        revision, len(data), hashlib.sha256(data).hexdigest(),
    )  # fmt: skip
    assert sum(seen) == len(data)
    pieces = b"".join([piece async for piece in stored.client.backup()])
    for number, one in enumerate((data, pieces)):
        path = tmp_path / str(number)
        await asyncio.to_thread(path.write_bytes, one)
        summary = await asyncio.to_thread(check, path)
        assert (summary.head.revision, summary.counts.entities) == (revision, 11)


async def test_a_backup_is_of_one_revision_while_writes_go_on(tmp_path: Path) -> None:
    """Writes are not held up by a backup that nobody takes on, and are not in it."""
    async with serving(tmp_path / "registry.db") as running:
        stubs = running.stubs
        revision = await fill(stubs)
        pieces = aiter(running.client.backup())
        data = await anext(pieces)
        during = [(await create(stubs, f"during-{number}")).revision for number in range(20)]
        data += b"".join([piece async for piece in pieces])
        path = tmp_path / "backup"
        await asyncio.to_thread(path.write_bytes, data)
        summary = await asyncio.to_thread(check, path)
        assert summary.head.revision == during[0] - 1 == revision
        assert summary.counts.entities == 8 + 128


_ROUNDS = 6


async def test_who_goes_away_leaves_nothing(tmp_path: Path) -> None:
    """The snapshot, its thread and its files are gone when the caller is, and another may come."""
    async with serving(tmp_path / "registry.db") as running:
        stubs = running.stubs
        await fill(stubs, 16)

        def snapshots() -> int:
            return sum(t.name == "store-snapshot" for t in threading.enumerate())

        def files() -> int:
            """How many descriptors are open of the database's files."""
            opened = psutil.Process().open_files()
            return sum(Path(file.path).is_relative_to(tmp_path) for file in opened)

        async def leave() -> None:
            """Begins as many backups as there may be, and goes."""
            calls = [stubs.admin.Backup(BackupRequest()) for _ in range(MAX_BACKUPS)]
            for call in calls:
                await anext(aiter(call))
            assert snapshots() == MAX_BACKUPS
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await anext(aiter(stubs.admin.Backup(BackupRequest())))
            explained(
                caught.value, CODE.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS",
                limit="max_backups", maximum=MAX_BACKUPS,
            )  # fmt: skip
            for call in calls:
                call.cancel()
            await eventually(lambda: snapshots() == 0)

        before = files()
        for _ in range(_ROUNDS):
            await leave()
        # SQLite keeps descriptors while others lock the file, and uses them again: those of one
        # round at most, which has a database and a log for each.
        assert files() - before <= 2 * MAX_BACKUPS
        await running.client.save_backup(io.BytesIO())


async def test_statistics_of_watching_and_memory(registry: Running) -> None:
    """`watch_lag` is that of the slowest stream, `memory_bytes` what the process has."""
    stubs = registry.stubs
    found = await stubs.admin.GetStatistics(GetStatisticsRequest())
    assert found.watch_lag == 0
    assert 10 << 20 < found.memory_bytes < psutil.virtual_memory().total
    assert abs(found.memory_bytes - psutil.Process().memory_info().rss) < 100 << 20
    call = stubs.watch.Watch(WatchRequest(start_revision=GENESIS + 1))
    await fill(stubs)

    async def is_behind() -> bool:
        # gRPC takes some messages for a reader who does not read, and no more.
        return 0 < (await stubs.admin.GetStatistics(GetStatisticsRequest())).watch_lag < 8

    await eventually(is_behind)
    call.cancel()


# Restoring


async def test_everything_is_as_it_was(tmp_path: Path) -> None:
    """Entities, relationships, the past and the log; and the next write gets the next revision."""
    async with serving(tmp_path / "one.db") as one:
        revision = await lively(one.stubs)
        expected = await past(one.client, range(1, revision + 1))
        first = await one.client.create_entity(service("once"), idempotency_key="once")
        events = await history(one.client, 1, first.revision)
        statistics = await one.client.get_statistics()
        file = await saved(one, tmp_path / "backup")
    database = await restored(file, tmp_path / "two.db")
    async with serving(database) as two:
        again = await two.client.get_statistics()
        assert again.epoch != statistics.epoch
        for field in (
            "epoch", "started_at", "store_bytes", "memory_bytes", "versions_held", "record_bytes",
        ):  # fmt: skip
            again.ClearField(field)
            statistics.ClearField(field)
        assert again == statistics
        assert await past(two.client, range(1, revision + 1)) == expected
        assert await history(two.client, 1, first.revision) == events
        # A retry that comes after the restore is answered as before it.
        repeated = await two.client.create_entity(service("once"), idempotency_key="once")
        assert repeated == first
        assert (await create(two.stubs, "next")).revision == first.revision + 1


async def test_a_compacted_registry_stays_compacted(tmp_path: Path) -> None:
    """What could not be read cannot be read, and what could still can."""
    async with serving(tmp_path / "one.db") as one:
        revision = await lively(one.stubs)
        await one.stubs.admin.Compact(CompactRequest(revision=revision - 1))
        expected = await past(one.client, range(revision - 1, revision + 2))
        file = await saved(one, tmp_path / "backup")
    async with serving(await restored(file, tmp_path / "two.db")) as two:
        assert await past(two.client, range(revision - 1, revision + 2)) == expected
        with pytest.raises(OutOfRange):
            await two.client.get_entity("a", at_revision=revision - 2)
        with pytest.raises(OutOfRange):
            await history(two.client, revision - 1, revision)


async def test_w13_tokens_of_before_are_refused(tmp_path: Path) -> None:
    """Resume and page tokens of the old history are HISTORY_CHANGED, also with a reset."""
    async with serving(tmp_path / "one.db") as one:
        await lively(one.stubs)
        async with aclosing(one.client.watch(start_revision=2)) as watch:
            token = (await anext(watch)).resume_token
        page = await one.stubs.entities.ListEntities(ListEntitiesRequest(limit=2))
        file = await saved(one, tmp_path / "backup")
        # The old history goes on, and the new one will have other changes of these revisions.
        lost = await create(one.stubs, "lost")
    async with serving(await restored(file, tmp_path / "two.db")) as two:
        made = await create(two.stubs, "made")
        assert made.revision == lost.revision
        with pytest.raises(NotFound):
            await two.client.get_entity("lost")
        for resets in (False, True):
            with pytest.raises(FailedPrecondition) as refused:
                await anext(two.client.watch(resume_token=token, reset_on_compaction=resets))
            assert refused.value.reason_text == "HISTORY_CHANGED"
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await two.stubs.entities.ListEntities(
                ListEntitiesRequest(limit=2, page_token=page.next_page_token)
            )
        explained(caught.value, CODE.FAILED_PRECONDITION, "HISTORY_CHANGED")
        async with aclosing(two.client.watch(snapshot=True)) as watch:
            kinds = [update.kind async for update, _ in _zip(watch, 3)]
        assert kinds[-1] is WatchKind.SNAPSHOT_END


async def _zip(watch: Any, most: int) -> Any:
    for number in range(most):
        update = await anext(watch)
        yield update, number
        if update.kind is WatchKind.SNAPSHOT_END:
            return


async def test_a_client_that_watches_over_a_restore(tmp_path: Path) -> None:
    """A watch whose server comes back with another history ends with FailedPrecondition."""
    async with serving(tmp_path / "one.db") as one:
        port = one.server.grpc_port
        await lively(one.stubs)
        file = await saved(one, tmp_path / "backup")
        client = AsyncRegistryClient(one.target)
        watch = client.watch(start_revision=2, reset_on_compaction=True)
        await anext(watch)
    await restored(file, tmp_path / "two.db")
    async with serving(tmp_path / "two.db", grpc_address=f"127.0.0.1:{port}"):
        with pytest.raises(FailedPrecondition) as refused:
            await rest(watch)
    assert refused.value.reason_text == "HISTORY_CHANGED"
    await client.aclose()


async def rest(watch: Any) -> None:
    """Takes everything that comes."""
    async for _ in watch:
        pass


@pytest.fixture
async def file(tmp_path: Path) -> Path:
    """A backup."""
    folder = tmp_path / "made"
    await asyncio.to_thread(folder.mkdir)
    async with serving(folder / "one.db") as one:
        await lively(one.stubs)
        return await saved(one, folder / "backup")


@pytest.fixture
def room(tmp_path: Path) -> Path:
    """An empty folder."""
    folder = tmp_path / "room"
    folder.mkdir()
    return folder


def test_a_database_that_is_there_is_not_replaced(file: Path, room: Path) -> None:
    """One that holds something is refused and left alone; one that is empty is replaced."""
    database = room / "registry.db"
    _, head = restore(file, str(database))
    before = database.read_bytes()
    with pytest.raises(ConfigError, match=f"holds a registry of revision {head.revision}"):
        restore(file, str(database))
    assert database.read_bytes() == before
    assert {path.name for path in room.iterdir()} == {"registry.db", "registry.db-lock"}
    database.unlink()
    database.touch()
    restore(file, f"sqlite:///{database}")
    database.unlink()

    async def make_empty() -> None:
        store = SqliteStore(database)
        await store.open()
        await store.aclose()

    asyncio.run(make_empty())
    _, again = restore(file, str(database))
    assert again.revision == head.revision
    assert again.epoch != head.epoch


def test_where_nothing_can_be_restored_to(file: Path, room: Path) -> None:
    """Each is refused with what is wrong, and nothing is left behind."""
    (room / "text").write_text("no database, but not empty either\n" * 40)
    (room / "other.db-wal").write_bytes(b"left")
    for database, message in (
        ("memory://", "keeps nothing"),
        ("mysql://host/db", "mysql:// is not known"),
        (str(room / "no" / "folder" / "x.db"), "directory does not exist"),
        (str(room / "other.db"), "left of another database"),
    ):
        with pytest.raises(ConfigError, match=message):
            restore(file, database)
    with pytest.raises(Exception, match="it is not a SQLite database"):
        restore(file, str(room / "text"))
    assert {path.name for path in room.iterdir()} <= {"text", "text-lock", "other.db-wal"}


async def test_a_database_that_is_served_is_refused(file: Path, room: Path) -> None:
    """A server holds its file, even if nothing is in it yet."""
    async with serving(room / "registry.db"):
        with pytest.raises(Exception, match="another server has it open"):
            await restored(file, room / "registry.db")


@pytest.mark.parametrize("damage", ["cut", "flipped", "newer", "absent"])
def test_a_bad_file_leaves_nothing(damage: str, file: Path, room: Path) -> None:
    """A file that is cut, changed, too new or absent makes no database, and no other file."""
    data = bytearray(file.read_bytes())
    if damage == "cut":
        del data[-40:]
    elif damage == "flipped":
        data[len(data) // 2] ^= 4
    else:
        data[18] = 9
    bad = file.with_name("bad")
    if damage != "absent":
        bad.write_bytes(data)
    expected = FileNotFoundError if damage == "absent" else BackupError
    with pytest.raises(expected):
        restore(bad, str(room / "registry.db"))
    with pytest.raises(expected):
        check(bad)
    assert list(room.iterdir()) == []


def test_a_failure_in_the_middle_leaves_nothing(
    file: Path, room: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever stops it before it is complete, there is no database and no other file."""
    commits = BackupSnapshot.commits

    async def contradicting(self: BackupSnapshot, after: int) -> Any:
        async for part in commits(self, after):
            yield part[:-1]

    async def failing(self: BackupSnapshot, after: int) -> Any:
        async for part in commits(self, after):
            yield part
        raise OSError(5, "the disk gives up")

    monkeypatch.setattr(BackupSnapshot, "commits", contradicting)
    with pytest.raises(BackupError, match="contradicts itself"):
        restore(file, str(room / "registry.db"))
    with pytest.raises(BackupError, match="contradicts itself"):
        check(file)
    monkeypatch.setattr(BackupSnapshot, "commits", failing)
    with pytest.raises(OSError, match="gives up"):
        restore(file, str(room / "registry.db"))
    assert list(room.iterdir()) == []


def test_somebody_else_was_faster(file: Path, room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that comes to be there meanwhile is not replaced."""
    database = room / "registry.db"
    sync = module._sync

    def slow(path: Path) -> None:
        sync(path)
        if not database.exists():
            monkeypatch.setattr(module, "_sync", sync)
            restore(file, str(database))

    monkeypatch.setattr(module, "_sync", slow)
    with pytest.raises(ConfigError, match="holds a registry"):
        restore(file, str(database))


async def test_a_restored_file_is_complete_in_itself(file: Path, room: Path) -> None:
    """It is one file, without a log beside it, and can be copied as it is."""
    await restored(file, room / "registry.db")
    assert await asyncio.to_thread(os.listdir, room) == ["registry.db"]
    data = await asyncio.to_thread((room / "registry.db").read_bytes)
    await asyncio.to_thread((room / "copy.db").write_bytes, data)
    async with serving(room / "copy.db") as copy:
        assert (await copy.client.get_entity("a")).name == "a"
        options = ReadOptions(at_revision=GENESIS + 1)
        assert await copy.server.engine.read_revision(options, 1) == GENESIS + 1
        assert isinstance(await copy.client.get_entity("b", at_revision=GENESIS + 1), Entity)
