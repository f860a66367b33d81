"""What the page on leases shows, run as it stands there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.services.test_http_docs import ROOT, play, printed
from tests.support.servers import Running

PAGE = ROOT / "docs" / "leases.md"


async def test_the_commands(
    require: Callable[[str], Path],
    registry: Running,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every command, in order, on one registry, prints what is shown."""
    require("curl")
    monkeypatch.setenv("REGISTRY_SERVER", registry.target)
    await play(PAGE, registry, tmp_path)


async def test_the_program(registry: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """It prints what it should, and its entity is gone with its lease."""
    monkeypatch.setenv("REGISTRY_SERVER", registry.target)
    assert await printed(PAGE) == ("working as worker-1\n", "")
    found = await registry.client.batch_get_entities(["worker-1"])
    assert found.missing_ids == ["worker-1"]
