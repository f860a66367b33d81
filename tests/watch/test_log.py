"""The log in blocks: followers at the same place share them."""

from __future__ import annotations

from hyper_registry.model.revision import Position
from hyper_registry.registry.engine import Engine
from hyper_registry.store.memory import MemoryStore
from hyper_registry.watch.log import read_block
from tests.unit.registry.support import ready


async def test_who_comes_to_the_same_place_gets_the_same_block() -> None:
    """It is decoded once, until there is more behind that place; nothing is kept of other ones."""
    engine = Engine(MemoryStore())
    await engine.start()
    try:
        await ready(engine, "a")
        first = await read_block(engine.feed, Position(1))
        assert first is not None
        assert await read_block(engine.feed, Position(1)) is first
        assert await read_block(engine.feed, Position(2)) is None
        await ready(engine, "b")
        second = await read_block(engine.feed, Position(2))
        again = await read_block(engine.feed, Position(1))
        assert second is not None
        assert again is not None
        ids = [[entry.change.id for entry in block.entries] for block in (first, second, again)]
        assert ids == [["a"], ["b"], ["a", "b"]]
    finally:
        await engine.aclose()
