"""What the page on clients shows of other people's tools, run as it stands there."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.services import test_http_docs
from tests.services.test_http_docs import PATH, ROOT, blocks, run
from tests.support.servers import Running
from tests.support.sessions import Command

PAGE = ROOT / "docs" / "clients.md"
TOOLS = ("grpcurl", "buf", "grpc_health_probe", "curl")


async def test_the_commands(
    require: Callable[[str], Path],
    registry: Running,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every command, in order, on one registry, prints what is shown."""
    folders = [str(require(tool).parent) for tool in TOOLS]
    monkeypatch.setattr(test_http_docs, "PATH", os.pathsep.join([*folders, PATH]))
    for block in blocks(PAGE):
        here = [
            Command(command.text.replace("localhost:50051", registry.target), command.shown)
            for command in block
        ]
        for command, (output, code) in zip(here, await run(here, registry, tmp_path), strict=True):
            assert code == 0, f"{command.text}\n{output}"
            assert command.accepts(output), f"{command.text}\n{output}"


def test_each_tool_is_shown() -> None:
    """There is a command of each, and a check of what it prints."""
    commands = [command for block in blocks(PAGE) for command in block]
    shown = {re.split(r"\s", command.text)[0] for command in commands if command.shown}
    assert shown == set(TOOLS)
