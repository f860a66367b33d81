"""Fixtures of the client's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from ose.registry.client import AsyncRegistryClient, RetryPolicy
from tests.clients.scripted import ScriptedServer

#: Retries that do not hold a test up.
QUICK = RetryPolicy(initial_backoff=0.01, max_backoff=0.05)


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    """A scripted server that listens."""
    scripted = ScriptedServer()
    await scripted.start()
    yield scripted
    await scripted.stop()


@pytest.fixture
async def client(server: ScriptedServer) -> AsyncIterator[AsyncRegistryClient]:
    """A client of the scripted server."""
    async with AsyncRegistryClient(server.target, retry=QUICK, timeout=5) as made:
        yield made
