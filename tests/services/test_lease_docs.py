"""What the page on leases shows, run as it stands there."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.services.test_http_docs import ROOT, blocks, run
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
    for block in blocks(PAGE):
        for command, (output, code) in zip(
            block, await run(block, registry, tmp_path), strict=True
        ):
            assert code == 0, f"{command.text}\n{output}"
            assert command.accepts(output), f"{command.text}\n{output}"


async def test_the_program(registry: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """It prints what it should, and its entity is gone with its lease."""
    monkeypatch.setenv("REGISTRY_SERVER", registry.target)
    [program] = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", program),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert (out.decode(), err.decode()) == ("working as worker-1\n", "")
    found = await registry.client.batch_get_entities(["worker-1"])
    assert found.missing_ids == ["worker-1"]
