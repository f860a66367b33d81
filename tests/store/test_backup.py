"""The file format of backups: what is written comes back, and no damage passes."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyper_registry import __version__
from hyper_registry.model.entity import Entity
from hyper_registry.model.errors import RevisionCompacted, StoreUnavailable
from hyper_registry.model.relationship import Relationship
from hyper_registry.model.revision import Action, Change, Commit, Head, Kind
from hyper_registry.store import backup as module
from hyper_registry.store.backup import (
    MAGIC,
    PIECE_BYTES,
    BackupError,
    BackupSnapshot,
    Counts,
    written,
)
from hyper_registry.store.base import (
    EntityColumns,
    EntityRow,
    Part,
    RelationshipRow,
    ResultKey,
    Store,
    StoredResult,
)
from hyper_registry.store.memory import MemoryStore
from tests.store.builders import (
    Contents,
    commits,
    contents,
    create,
    created,
    entity,
    relationship,
    result,
    rows_of,
    write,
)
from tests.store.test_filling import EMPTY, HEAD, PARTS, parts


async def file_of(store: Store) -> bytes:
    """The backup of a store."""
    snapshot = await store.snapshot()
    try:
        return b"".join([piece async for piece in written(snapshot)])
    finally:
        await snapshot.aclose()


async def results_of(snapshot: Any) -> list[StoredResult]:
    """The results of a snapshot."""
    return [one async for part in snapshot.results() for one in part]


async def contents_of(backup: BackupSnapshot, chunk: int = 3) -> Contents:
    """What a backup holds."""
    return Contents(
        backup.head,
        [row async for part in backup.entities(chunk) for row in rows_of(part)],
        [row async for part in backup.relationships(chunk) for row in rows_of(part)],
        [row async for part in backup.healths(chunk) for row in part],
        [one async for part in backup.commits(backup.head.floor) for one in part],
    )


@pytest.fixture
async def filled() -> AsyncIterator[MemoryStore]:
    """A store that holds something of every kind."""
    store = MemoryStore()
    await store.open()
    await store.fill(HEAD, parts(PARTS))
    yield store
    await store.aclose()


@pytest.fixture
async def good(filled: MemoryStore) -> bytes:
    """A backup of it."""
    return await file_of(filled)


@pytest.fixture
def saved(tmp_path: Path) -> Callable[[bytes], Path]:
    """Writes a file; answers its path."""
    return partial(put, tmp_path / "registry.backup")


def put(path: Path, data: bytes) -> Path:
    """Writes a file; answers its path."""
    path.write_bytes(data)
    return path


def refusal(data: bytes, path: Path) -> str:
    """Why a file is not taken."""
    path.write_bytes(data)
    with pytest.raises(BackupError) as refused:
        BackupSnapshot(path)
    return str(refused.value)


async def test_what_is_written_comes_back(store: Store, saved: Callable[[bytes], Path]) -> None:
    """A backup of any store, read back, is the snapshot that it was made of."""
    await store.fill(HEAD, parts(PARTS))
    path = saved(await file_of(store))
    backup = await BackupSnapshot.open(path)
    assert await contents_of(backup) == await contents(store)
    snapshot = await store.snapshot()
    assert await results_of(backup) == await results_of(snapshot) == [*PARTS[-1].results]
    await snapshot.aclose()
    summary = backup.summary
    assert summary.head == backup.head == snapshot.head
    assert summary.counts == Counts(70, 5, 3, 76, 3)
    assert summary.server_version == __version__
    assert (summary.size, summary.sha256) == (
        path.stat().st_size,
        hashlib.sha256(path.read_bytes()).hexdigest(),
    )
    await backup.aclose()


async def test_a_backup_is_of_one_revision(store: Store, saved: Callable[[bytes], Path]) -> None:
    """What is written while the backup goes on is not in it."""
    await create(store, "a", "b")
    before = await contents(store)
    snapshot = await store.snapshot()
    pieces = written(snapshot)
    data = await anext(pieces)
    await create(store, "c")
    data += b"".join([piece async for piece in pieces])
    await snapshot.aclose()
    backup = await BackupSnapshot.open(saved(data))
    assert await contents_of(backup) == before
    await backup.aclose()


async def test_the_log_behind_a_place(good: bytes, saved: Callable[[bytes], Path]) -> None:
    """`commits` begins behind the revision that is asked for, and not below the floor."""
    backup = await BackupSnapshot.open(saved(good))
    for after in range(4):
        found = [one.revision async for part in backup.commits(after) for one in part]
        assert found == [*range(after + 1, 4)]
    backup.head = replace(backup.head, floor=2)
    with pytest.raises(RevisionCompacted):
        await anext(backup.commits(1))
    await backup.aclose()


async def test_readers_do_not_disturb_each_other(
    good: bytes, saved: Callable[[bytes], Path]
) -> None:
    """Any number may read at once, each from the start, in parts that are not larger than asked."""
    backup = await BackupSnapshot.open(saved(good))
    expected = await contents_of(backup)
    found = await asyncio.gather(*(contents_of(backup, chunk) for chunk in (1, 7, 1000)))
    assert found == [expected] * 3
    assert [len(part.ids) async for part in backup.entities(32)] == [32, 32, 6]
    await backup.aclose()
    with pytest.raises(StoreUnavailable, match="closed"):
        await anext(backup.entities())


async def test_pieces_are_small(store: Store) -> None:
    """However large the file is, a piece has at most 1 MiB, and nothing but the last has less."""
    noise = random.Random(1).randbytes
    big = [Change(Kind.COMPACTION, Action.UPDATE, "", 0, None, noise(300_000)) for _ in range(9)]
    await write(store, *([one] for one in big))
    snapshot = await store.snapshot()
    sizes = [len(piece) async for piece in written(snapshot)]
    await snapshot.aclose()
    assert len(sizes) == 3
    assert sizes[:-1] == [PIECE_BYTES] * 2


async def test_no_more_is_read_than_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backup that nobody takes on holds a block or two, and stops when it is closed."""
    monkeypatch.setattr(module, "_ROWS", 5)
    monkeypatch.setattr(module, "PIECE_BYTES", 100)
    store = MemoryStore()
    await store.open()
    await store.fill(HEAD, parts(PARTS))
    snapshot = await store.snapshot()
    read = 0

    async def counted() -> AsyncIterator[Any]:
        nonlocal read
        async for part in type(snapshot).entities(snapshot, 5):
            read += 1
            yield part

    monkeypatch.setattr(snapshot, "entities", lambda _chunk: counted())
    pieces = written(snapshot)
    for _ in range(3):
        await anext(pieces)
    assert read <= 3
    await pieces.aclose()
    assert read <= 3
    await snapshot.aclose()
    await store.aclose()


# Damage


@pytest.fixture
async def small() -> bytes:
    """A backup with one of everything."""
    store = MemoryStore()
    await store.open()
    row = entity("a")
    edge = relationship("r", "a", "a", created=(1, 1))
    await write(
        store,
        [created(row), created(edge)],
        entities=[row],
        relationships=[edge],
        results=[result("k", 5)],
    )
    try:
        return await file_of(store)
    finally:
        await store.aclose()


def test_every_flipped_bit_shows(small: bytes, tmp_path: Path) -> None:
    """A bit that is another one, in whatever part of the file, is found before anything is read."""
    path, chance = tmp_path / "flipped", random.Random(1)
    for place in range(len(small)):
        flipped = bytearray(small)
        flipped[place] ^= 1 << chance.randrange(8)
        assert refusal(bytes(flipped), path), place


def test_every_cut_shows(small: bytes, tmp_path: Path) -> None:
    """A file that ends early, anywhere, is refused, and one that goes on as well."""
    path = tmp_path / "cut"
    assert refusal(b"", path) == "it is empty"
    for length in range(1, len(small)):
        message = refusal(small[:length], path)
        assert "cut off" in message or (length < len(MAGIC) and "not a backup" in message), length
    for more in (b"\0", small):
        assert "damaged" in refusal(small + more, path)


@given(st.data())
@settings(max_examples=100)
async def test_other_damage_shows(data: st.DataObject) -> None:
    """Bytes that are lost, doubled, exchanged or overwritten do not pass."""
    store = MemoryStore()
    await store.open()
    await store.fill(HEAD, parts(PARTS))
    good = await file_of(store)
    await store.aclose()
    start = data.draw(st.integers(0, len(good) - 1))
    end = data.draw(st.integers(start + 1, len(good)))
    put = data.draw(
        st.sampled_from([b"", good[start:end] * 2, good[start:end][::-1], os.urandom(end - start)])
    )
    bad = good[:start] + put + good[end:]
    with tempfile.TemporaryDirectory() as directory:
        if bad != good:
            assert refusal(bad, Path(directory, "bad"))


def test_what_is_no_backup(tmp_path: Path) -> None:
    """Other files are told from damaged ones; so is what an export or a database is."""
    path = tmp_path / "other"
    for data in (b"SQLite format 3\0" + bytes(4000), b'{"id": "a"}\n', MAGIC[1:], bytes(40)):
        assert refusal(data, path) == "it is not a backup of a registry"
    # What copies text makes of it.
    assert "not a backup" in refusal(MAGIC.replace(b"\r\n", b"\n") + bytes(40), path)


def test_a_newer_format_is_refused(good: bytes, tmp_path: Path) -> None:
    """It says which format it has, which can be read, and what to do."""
    newer = good[: len(MAGIC)] + b"\0\x07" + good[len(MAGIC) + 2 :]
    assert refusal(newer, tmp_path / "newer") == (
        "it has format 7, and this program reads up to 2: use the version that wrote it, or a "
        "newer one"
    )


HEADER = {
    "head": {"revision": 1, "epoch": "e", "floor": 0, "time": 1, "hash": b""},
    "floor": None,
    "made_at": 1,
    "server_version": "1",
}
ONE_ENTITY = {name: ["a"] for name in EntityColumns.__slots__}
COUNTS = {"entities": 0, "relationships": 0, "revisions": 0, "changes": 0, "results": 0}


def made_of(*blocks: tuple[module.Kind, object]) -> bytes:
    """A file with these blocks and the right checksum."""
    packer = module._Packer()
    data = packer.begin(Head(1, "e", 0, 1, b""), None)[: len(MAGIC) + 2]
    packer._digest = hashlib.sha256(data)
    data += b"".join(packer._block(kind, value) for kind, value in blocks)
    return data + packer._digest.digest()


@pytest.mark.parametrize(
    "blocks",
    [
        [(module.Kind.HEADER, {}), (module.Kind.END, COUNTS)],
        [(module.Kind.HEADER, [1]), (module.Kind.END, COUNTS)],
        [(module.Kind.HEADER, HEADER | {"head": {"revision": 1}}), (module.Kind.END, COUNTS)],
        [(module.Kind.HEADER, HEADER), (module.Kind.END, {"more": 1})],
        [(module.Kind.END, COUNTS)],
        [(module.Kind.HEADER, HEADER), (module.Kind.HEADER, HEADER), (module.Kind.END, COUNTS)],
    ],
)
def test_a_header_of_another_form(blocks: Sequence[Any], tmp_path: Path) -> None:
    """A file that some other program made, with a right checksum, is refused all the same."""
    assert refusal(made_of(*blocks), tmp_path / "made")


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (module.Kind.ENTITIES, 7),
        (module.Kind.ENTITIES, {"ids": ["a"]}),
        (module.Kind.ENTITIES, ONE_ENTITY | {"records": []}),
        (module.Kind.RELATIONSHIPS, {"ids": ["a"], "more": []}),
        (module.Kind.COMMITS, 7),
        (module.Kind.COMMITS, [[1, 2, "", "", "", b""]]),
        (module.Kind.COMMITS, [[1, 2, "", "", "", b"", [["1", 1, "", 0, None, None]]]]),
        (module.Kind.COMMITS, [[1, 2, "", "", "", b"", [[1, None, "", 0, None, None]]]]),
        (module.Kind.COMMITS, [[1, 2, "", "", "", b"", [[1]]]]),
        (module.Kind.RESULTS, [["a"]]),
        (module.Kind.RESULTS, None),
    ],
)  # fmt: skip
async def test_values_of_another_form(
    kind: module.Kind, value: object, saved: Callable[[bytes], Path]
) -> None:
    """Reading what no backup holds is BackupError, and nothing else."""
    data = made_of((module.Kind.HEADER, HEADER), (kind, value), (module.Kind.END, COUNTS))
    backup = await BackupSnapshot.open(saved(data))
    read = results_of if kind == module.Kind.RESULTS else contents_of
    with pytest.raises(BackupError, match="what no backup does"):
        await read(backup)
    await backup.aclose()


# Anything that a store can hold

texts = st.text(st.characters(codec="utf-8"), max_size=20)
numbers = st.integers(0, 2**62)
images = st.none() | st.binary(max_size=60)
changes = st.builds(
    Change, st.sampled_from(Kind), st.sampled_from(Action), texts, numbers, images, images
)


@st.composite
def kept(draw: st.DrawFn) -> tuple[Head, list[Part]]:
    """A head, and what leads to it."""
    log: list[Commit] = commits(
        EMPTY, *draw(st.lists(st.lists(changes, min_size=1, max_size=4), min_size=1, max_size=6))
    )
    floor = draw(st.integers(0, len(log)))
    known = [replace(log[floor - 1], changes=())] if floor and draw(st.booleans()) else []
    entities = [
        EntityRow(
            Entity(
                f"{number} {text}", text, str(number), version=text, status=number, health=size,
                labels=draw(st.dictionaries(texts, texts, max_size=3)), revision=size,
                create_revision=1,
            ),
            number, text, "{}", draw(st.binary(min_size=1, max_size=40)),
        )
        for number, (text, size) in enumerate(draw(st.lists(st.tuples(texts, numbers), max_size=9)))
    ]  # fmt: skip
    relationships = [
        RelationshipRow(
            Relationship(str(number), text, str(number), text, bidirectional=bool(number % 2)),
            number, "{}", record,
        )
        for number, (text, record) in enumerate(
            draw(st.lists(st.tuples(texts, st.binary(min_size=1)), max_size=9))
        )
    ]  # fmt: skip
    keys = draw(st.sets(st.builds(ResultKey, texts, texts, texts), max_size=5))
    results = [StoredResult(key, b"h", draw(numbers), draw(st.binary()), 5) for key in keys]
    head = Head(log[-1].revision, "e", floor, draw(numbers), log[-1].hash)
    return head, [
        Part(entities=entities),
        Part(relationships=relationships),
        Part(commits=[*known, *log[floor:]], results=results),
    ]


@given(kept=kept(), rows=st.integers(1, 5), group=st.integers(1, 5))
@settings(max_examples=100)
async def test_anything_comes_back(kept: tuple[Head, list[Part]], rows: int, group: int) -> None:
    """Whatever texts, bytes and numbers a store holds, in blocks of whatever size: all of it."""
    head, given_ = kept
    store = MemoryStore()
    await store.open()
    await store.fill(head, parts(given_))
    snapshot = await store.snapshot()
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_ROWS", rows)
        patch.setattr(module, "_CHANGES", group)
        backup = await BackupSnapshot.open(put(Path(directory, "backup"), await file_of(store)))
        assert await contents_of(backup) == await contents(store)
        assert await results_of(backup) == await results_of(snapshot)
        assert await backup.at_floor() == await snapshot.at_floor()
        await backup.aclose()
    await snapshot.aclose()
    await store.aclose()
