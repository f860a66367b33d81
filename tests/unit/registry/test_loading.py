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
from hyper_registry.model.relationship import Direction, Relationship
from hyper_registry.query import graph, kernels, listing, traversal
from hyper_registry.query.filters import EntityFilter, RelationshipFilter
from hyper_registry.query.listing import EntityQuestion, Window
from hyper_registry.registry import adjacency, compaction, table
from hyper_registry.registry.compaction import compacted
from hyper_registry.registry.mutations import CreateRelationship
from hyper_registry.registry.table import Table, frame
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
    ids = [str(number) for number in numbers]
    many.extend(ids, numbers, numbers, numbers, numbers, None, tag, records)
    for number, record in enumerate(records):
        assert many.framed(number) == frame(tag, record)
        assert many.record(number) == record


def _compiled() -> dict[str, int]:
    modules = (adjacency, compaction, kernels, table)
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
    assert _compiled() == before


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
