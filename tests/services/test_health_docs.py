"""What the page on health shows, run as it stands there."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.services.test_http_docs import ROOT, blocks, run
from tests.support.servers import Running

PAGE = ROOT / "docs" / "health.md"

PRINTED = """\
[]
['orders', 'shop'] 2
[('db', 2)]
"""


async def test_the_page(
    require: Callable[[str], Path],
    registry: Running,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every command, in order, on one registry, prints what is shown; and then the program."""
    require("curl")
    monkeypatch.setenv("REGISTRY_SERVER", registry.target)
    for block in blocks(PAGE):
        for command, (output, code) in zip(
            block, await run(block, registry, tmp_path), strict=True
        ):
            assert code == 0, f"{command.text}\n{output}"
            assert command.accepts(output), f"{command.text}\n{output}"
    [program] = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", program),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert (out.decode(), err.decode()) == (PRINTED, "")
