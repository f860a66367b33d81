"""Doing once for many: whoever comes in time shares, and nobody gets what began before he came."""

from __future__ import annotations

import asyncio

import pytest

from hyper_registry.model.errors import NotServing, StoreUnavailable
from hyper_registry.registry.rounds import Rounds


async def test_who_comes_while_a_round_runs_gets_the_next() -> None:
    """A round serves those who came before it began, with all that they brought."""
    done: list[set[str]] = []
    gates = [asyncio.Event() for _ in range(3)]

    async def work(brought: set[str]) -> None:
        number = len(done)
        done.append(brought)
        await gates[number].wait()

    rounds = Rounds(work)
    first = asyncio.create_task(rounds.join(["a"]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    others = [asyncio.create_task(rounds.join([id_])) for id_ in "bc"]
    await asyncio.sleep(0)
    gates[0].set()
    await first
    assert not any(one.done() for one in others)
    gates[1].set()
    await asyncio.gather(*others)
    assert done == [{"a"}, {"b", "c"}]
    gates[2].set()
    await rounds.join()
    assert done[2] == set()


async def test_a_round_that_fails() -> None:
    """All who shared it are told, the next one is another, and one who left disturbs nobody."""
    errors = [StoreUnavailable("once"), None]

    async def work(_: set[str]) -> None:
        await asyncio.sleep(0)
        if (error := errors.pop(0)) is not None:
            raise error

    rounds = Rounds(work)
    waiting = [asyncio.create_task(rounds.join()) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    told = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(one) for one in told] == [asyncio.CancelledError, *[StoreUnavailable] * 2]
    await rounds.join()


async def test_the_end() -> None:
    """Who waits when it ends is told so."""
    rounds = Rounds(lambda _: asyncio.Event().wait())  # type: ignore[arg-type,return-value]
    waiting = asyncio.create_task(rounds.join())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await rounds.aclose()
    with pytest.raises(NotServing):
        await waiting
