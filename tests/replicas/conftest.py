"""Two servers of one database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from tests.support.postgres import Cluster
from tests.support.servers import Running, serving


@pytest.fixture
async def two(cluster: Cluster) -> AsyncIterator[tuple[Running, Running]]:
    """Two servers in this process that share nothing but a new database."""
    async with AsyncExitStack() as stack:
        url = cluster.create()
        one = await stack.enter_async_context(serving(url))
        other = await stack.enter_async_context(serving(url))
        yield one, other
