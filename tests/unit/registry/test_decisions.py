"""Every request comes to what a naive registry makes of it, and every revision stays as it was."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.registry.strategies import Resolve, groups
from tests.unit.registry.support import check, oracle_of, running, submit_all


@given(st.lists(groups, min_size=1, max_size=8))
@settings(max_examples=60)
async def test_random_requests_against_the_oracle(history: list[list[Resolve]]) -> None:
    """Groups of requests, each submitted at once, are answered as if one by one, and atomically."""
    async with running() as engine:
        oracle = oracle_of(engine)
        for group in history:
            await submit_all(engine, oracle, [resolve(oracle) for resolve in group])
        await check(engine, oracle)
