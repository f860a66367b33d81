"""Bits that flip in the database file: refused at the start or at the read, never served.

FLIPS says how many, FLIPS_SEED which.
"""

from __future__ import annotations

import os
import random
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from hyper_registry.model.errors import RegistryError
from hyper_registry.model.revision import Commit, Position
from hyper_registry.registry.engine import Engine
from hyper_registry.store.base import StoredResult
from hyper_registry.store.sqlite import SqliteStore
from nexus_registry.conformance.stubs import Stubs
from ose.registry.client._errors import from_rpc_error
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.mutation_pb2 import Mutation
from ose.registry.v1.registry_service_pb2 import ExportRequest, WriteRequest
from ose.registry.v1.relationship_pb2 import Relationship
from ose.registry.v1.watch_service_pb2 import WatchRequest
from tests.services.samples import struct
from tests.support.servers import Program, program

FLIPS = int(os.environ.get("FLIPS", "150"))
_ENTITIES = 120
_PAGE = 4096
_DELETION = Mutation(delete_entity=Mutation.DeleteEntity(id="entity-0", cascade=True))


async def _fill(stubs: Stubs) -> None:
    """Some of everything: rows, changed rows, deleted ones, a log, results, a floor."""
    for round_ in range(4):
        mutations = [
            Mutation(
                put_entity=Entity(
                    id=f"entity-{n}",
                    type=f"type-{n % 3}",
                    name=f"name of {n}",
                    version=f"1.{round_}",
                    labels={"team": f"team-{n % 5}"},
                    metadata=struct(text=f"the text of {n} in round {round_}"),
                )
            )
            for n in range(round_, _ENTITIES)
        ]
        mutations += [
            Mutation(
                put_relationship=Relationship(
                    source_id=f"entity-{n}", target_id=f"entity-{n + 1}", type="depends_on"
                )
            )
            for n in range(round_, _ENTITIES - 1)
        ]
        request = WriteRequest(mutations=mutations, idempotency_key=f"round-{round_}")
        await stubs.registry.Write(request, timeout=20)


@dataclass(frozen=True)
class Contents:
    """All that a registry says."""

    entities: list[tuple[Any, ...]]
    relationships: list[tuple[Any, ...]]
    log: list[tuple[Commit, int]]
    results: list[StoredResult]


async def _read(path: Path) -> Contents:
    """Starts a registry on a file and reads all of it. Raises RegistryError if it refuses."""
    store = SqliteStore(path)
    engine = Engine(store)
    try:
        await engine.start()
        snapshot = await store.snapshot()
        try:
            found = Contents(
                [r async for part in snapshot.entities() for r in _rows(part)],
                [r async for part in snapshot.relationships() for r in _rows(part)],
                list(await store.read_log(Position(0), 1 << 40, 1 << 60)),
                [r async for part in snapshot.results() for r in part],
            )
        finally:
            await snapshot.aclose()
        counts = engine.view.counts
        assert counts.entities_by_type.total() == len(found.entities)
        return found
    finally:
        await engine.aclose()


def _rows(columns: Any) -> list[tuple[Any, ...]]:
    return list(zip(*columns.by_name().values(), strict=True))


@asynccontextmanager
async def _filled(path: Path) -> AsyncIterator[tuple[Program, Stubs]]:
    """A server that has some of everything in its database."""
    async with program(path) as server:
        stubs = Stubs(server.target)
        try:
            await _fill(stubs)
            yield server, stubs
        finally:
            await stubs.aclose()


@pytest.mark.timeout(300)
async def test_flipped_bits(disk: Path) -> None:
    """Wherever a bit flips, a registry refuses the file, or all that it says is what it was."""
    path = disk / "registry.db"
    async with _filled(path) as (server, _):
        assert await server.terminate() == 0
    whole = path.read_bytes()
    expected = await _read(path)
    whole = path.read_bytes()
    seed = int(os.environ.get("FLIPS_SEED", "0")) or random.SystemRandom().randrange(1 << 30)
    print(f"FLIPS_SEED={seed}, {len(whole) // _PAGE} pages")  # noqa: T201
    random_ = random.Random(seed)
    reasons: Counter[str] = Counter()
    unharmed = 0
    for _ in range(FLIPS):
        place, bit = random_.randrange(len(whole)), 1 << random_.randrange(8)
        damaged = bytearray(whole)
        damaged[place] ^= bit
        path.write_bytes(damaged)
        try:
            found = await _read(path)
        except RegistryError as error:
            reasons[error.message.partition(": ")[2]] += 1
        else:
            assert found == expected, f"byte {place}, bit {bit} passed for the truth"
            unharmed += 1
    refused = reasons.total()
    print(f"{FLIPS} flipped bits: {refused} refused, {unharmed} of no consequence")  # noqa: T201
    assert refused > FLIPS / 3
    advice = (
        "restore it from a backup",
        "not a SQLite database",
        "schema version",
        "another program",
    )
    assert not [reason for reason in reasons if not any(one in reason for one in advice)]


async def test_a_server_on_a_damaged_file(disk: Path) -> None:
    """The program does not serve a file with a flipped bit: it says what is damaged, and where."""
    path = disk / "registry.db"
    async with _filled(path) as (server, _):
        assert await server.terminate() == 0
        whole = path.read_bytes()
        text = b"the text of 77 in round 3"
        # The first is in the column that is there for other readers.
        record = whole.find(text, whole.find(text) + 1)
        image = whole.rfind(text)
        assert 0 < record < image
        for what, place in (("header", 1), ("record", record), ("image", image)):
            damaged = bytearray(whole)
            damaged[place] ^= 4
            path.write_bytes(damaged)
            began = time.monotonic()
            await server.spawn()
            assert await server.wait() == 1
            said = server.logs[-1]["text"]
            assert said.startswith(f"Error: {path}: "), said
            print(f"{what}: {time.monotonic() - began:.1f} s, {said}")  # noqa: T201
        path.write_bytes(whole)
        await server.start()


async def test_a_log_that_is_damaged_under_a_server(disk: Path) -> None:
    """What is damaged after the start is refused when it is read; the rest is served on."""
    path = disk / "registry.db"
    async with _filled(path) as (server, stubs):
        await server.terminate()
        await server.start()
        # The channel may have tried to connect meanwhile, and be waiting to try again.
        deletion = WriteRequest(mutations=[_DELETION])
        await stubs.registry.Write(deletion, wait_for_ready=True, timeout=20)
        # The first round is in the log alone, and in what is left of rows that have changed.
        whole = path.read_bytes()
        with path.open("r+b") as file:
            for found in re.finditer(b"the text of 77 in round 0", whole):
                file.seek(found.start())
                file.write(b"T")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            async for _ in stubs.watch.Watch(WatchRequest(start_revision=2), timeout=20):
                pass
        error = from_rpc_error(refused.value)
        assert error.reason_text == "STORE_UNAVAILABLE"
        assert "is damaged: restore it from a backup" in error.message
        parts = [part async for part in stubs.registry.Export(ExportRequest(), timeout=20)]
        assert sum(len(part.entities) for part in parts) >= _ENTITIES - 1
        print(error.message)  # noqa: T201
