"""What the page on plugins shows, run as it stands there."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from hyper_registry.model.entity import Status
from hyper_registry.plugins.lifecycle import FOLLOWS
from tests.services.test_http_docs import ROOT, play, printed
from tests.support.servers import Running

PAGE = ROOT / "docs" / "plugins.md"

TEXT = PAGE.read_text(encoding="utf-8")

PRINTED = """\
store>=1 -> 1.0
['store 1.0', 'shop 1.0']
1 would break
STILL_REQUIRED shop@1.0
"""


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
    """It prints what it should, without a warning."""
    monkeypatch.setenv("REGISTRY_SERVER", registry.target)
    assert await printed(PAGE) == (PRINTED, "")


def test_the_table_of_statuses() -> None:
    """It is what the server has: no status is missing, nor what can follow it."""
    table = TEXT.partition("| status | can become |")[2].partition("\n\n")[0]
    rows = re.findall(r"^\| `(\w+)` \| ([\w, ]+) \|$", table, re.MULTILINE)
    told = {Status[name.upper()]: follows.split(", ") for name, follows in rows}
    assert {name: {Status[one.upper()] for one in ones} for name, ones in told.items()} == FOLLOWS
