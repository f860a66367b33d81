"""Fixtures of the registry's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, MutableMapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from hyper_registry.registry import decide
from hyper_registry.registry.engine import Engine
from tests.unit.registry.support import running


@pytest.fixture(autouse=True)
def logs() -> Iterator[list[MutableMapping[str, Any]]]:
    """What is logged; printing every trace of a failure that a test made takes seconds."""
    with capture_logs() as entries:
        yield entries


@pytest.fixture(autouse=True)
def together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever can be decided together with others is, even if it is alone."""
    monkeypatch.setattr(decide, "_LEAST_TOGETHER", 1)


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    """A new registry in memory."""
    async with running() as engine:
        yield engine
