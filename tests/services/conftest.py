"""A registry for each test, and one on either store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from nexus_registry.conformance.stubs import Stubs
from tests.support.servers import Running, serving


@pytest.fixture
async def registry() -> AsyncIterator[Running]:
    """A new registry in memory, served in this process."""
    async with serving() as running:
        yield running


@pytest.fixture(params=["memory", "sqlite"])
async def stored(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Running]:
    """A new registry on each of the stores."""
    database = "memory://" if request.param == "memory" else tmp_path / "registry.db"
    async with serving(database) as running:
        yield running


@pytest.fixture
def stubs(registry: Running) -> Stubs:
    """The generated stubs, connected to the registry in memory."""
    return registry.stubs
