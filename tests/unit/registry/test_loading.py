"""What a view is built from in bulk is what single writes would have made."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher

from hyper_registry.app import warm_up
from hyper_registry.model.entity import Entity
from hyper_registry.model.relationship import Direction, Relationship
from hyper_registry.query import graph, kernels, listing, traversal
from hyper_registry.query.filters import EntityFilter, RelationshipFilter
from hyper_registry.query.listing import EntityQuestion, Window
from hyper_registry.registry import adjacency, codec, compaction, ids, table
from hyper_registry.registry.compaction import compacted
from hyper_registry.registry.mutations import CreateRelationship
from hyper_registry.registry.table import Table, frame
from hyper_registry.store import packed
from hyper_registry.store.memory import MemoryDisk
from tests.unit.registry.support import ready, running, write

ROOT = Path(__file__).resolve().parents[3]

# Around each size at which the frame gets a byte longer.
SIZES = [1, 126, 127, 128, 129, (1 << 14) - 1, 1 << 14, (1 << 14) + 1, (1 << 21) - 1, 1 << 21]


@pytest.mark.parametrize("tag", [0x0A, 0x12])
def test_records_are_framed_alike(tag: int) -> None:
    """A record that is added with many has the frame that it gets alone, whatever its size."""
    records = [bytes([number % 251]) * size for number, size in enumerate(SIZES)]
    many, numbers = Table(64, 64, 1 << 24), np.arange(len(records))
    joined = np.frombuffer(b"".join(records), dtype=np.uint8)
    sizes = np.array(SIZES)
    many.extend(numbers, numbers, numbers, numbers, None, tag, joined, sizes)
    for number, record in enumerate(records):
        assert many.framed(number) == frame(tag, record)
        assert many.record(number) == record


def _compiled() -> dict[str, int]:
    modules = (adjacency, compaction, ids, kernels, packed, table)
    found = {
        f"{module.__name__}.{name}": len(value.signatures)
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, Dispatcher)
    }
    assert len(found) > 10
    return found


def test_no_call_waits_for_a_compiler() -> None:
    """After a server's warm-up no write, load, query or compaction compiles anything."""
    # In a process of its own: in this one other tests may have compiled what is missing.
    code = f"import {__name__} as it; it.check_warm_up()"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def check_warm_up() -> None:
    """Fails if something that a server does compiles a kernel after the warm-up."""
    warm_up()
    before = _compiled()
    asyncio.run(_use_everything())
    after = _compiled()
    assert after == before


async def _use_everything() -> None:
    disk = MemoryDisk()
    async with running(disk) as engine:
        await ready(engine, *"abcd")
        for source, target in ("ab", "ac", "bc", "cd", "da", "bd"):
            edge = Relationship(f"{source}{target}", source, target, "depends_on")
            await write(engine, CreateRelationship(edge))
    async with running(disk) as engine:
        revision = engine.view.visible
        question = traversal.GraphQuestion("a", Direction.BOTH)
        reader = graph.GraphReader(engine, traversal.Walker(engine.view))
        await reader.answer(question, traversal.Limits(nodes=2), revision)
        await reader.answer(question, traversal.Limits(), revision)
        await listing.list_entities(
            engine, EntityQuestion(EntityFilter(types=frozenset({"service"}))), Window(), revision
        )
        for condition in (RelationshipFilter(), RelationshipFilter(source_ids=frozenset("a"))):
            await listing.list_relationships(engine, condition, Window(), revision)
        compacted(engine.view.generation, revision)


async def test_ids_are_found_among_many() -> None:
    """An id is found, whatever its length, by its newest row; what was taken back is as before."""
    names = [str(n) for n in range(500)] + ["ü" * n for n in range(1, 256)] + ["x" * 255]
    entities = [Entity(name, "service", name) for name in names]
    joined = [codec.encode_entity(entity) for entity in entities]
    many, numbers = Table(2048, 2048, 1 << 24), np.arange(len(names))
    octets = np.frombuffer(b"".join(joined), dtype=np.uint8)
    sizes = np.array([*map(len, joined)])
    many.extend(numbers, numbers, numbers, numbers, None, codec.ENTITY_TAG, octets, sizes)
    assert "7" not in many.ids
    many.index()
    assert [many.ids[name] for name in names] == numbers.tolist()
    assert sorted(many.ids) == sorted(names)
    assert many.ids.get("500") is None
    assert "" not in many.ids
    with pytest.raises(KeyError):
        many.ids["500"]
    row = many.add_row("7", 1 << 30, 0)
    assert many.ids["7"] == row
    many.ids["7"] = 7
    assert many.ids["7"] == 7
    new = many.add_row("500", 1 << 31, 0)
    assert many.ids["500"] == new
    del many.ids["500"]
    assert "500" not in many.ids
