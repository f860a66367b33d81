"""The commands that the pages show for HTTP, run as they stand there."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.support.servers import Running, serving
from tests.support.sessions import Command, sessions

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "http.md"
OTHERS = sorted(
    {*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("clients/*/*.md")} - {PAGE}
)
SERVER = "localhost:8080"
# What a page says of Python is said of one that has the packages of ours.
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
_END = "the end of the output of one command"


def blocks(page: Path) -> list[list[Command]]:
    """The shell sessions of a page."""
    return sessions(page.read_text(encoding="utf-8"))


async def run(
    commands: Sequence[Command], registry: Running, folder: Path
) -> list[tuple[str, int]]:
    """Runs commands in one shell; what each prints, and its exit code."""
    script = "".join(f'{one.text}\necho "\n{_END} $?"\n' for one in commands)
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", script.replace(SERVER, registry.url.removeprefix("http://")),
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT, cwd=folder,
        env={**os.environ, "PATH": PATH, "NO_PROXY": "*"},
    )  # fmt: skip
    printed, _ = await process.communicate()
    parts = re.split(rf"\n{_END} (\d+)\n", printed.decode())
    return list(zip(parts[::2], map(int, parts[1::2]), strict=False))


async def play(page: Path, registry: Running, folder: Path) -> None:
    """Runs every command of a page, in order; each has to print what is shown."""
    for block in blocks(page):
        for command, (output, code) in zip(block, await run(block, registry, folder), strict=True):
            assert code == 0, f"{command.text}\n{output}"
            assert command.accepts(output), f"{command.text}\n{output}"


def programs(page: Path) -> list[str]:
    """What a page has of Python."""
    return re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)


async def printed(page: Path) -> tuple[str, str]:
    """What the one program in Python of a page prints, and complains of."""
    [program] = programs(page)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-c", program),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return out.decode(), err.decode()


async def test_the_page(require: Callable[[str], Path], tmp_path: Path) -> None:
    """Every command of the page on HTTP, in order, on one registry, prints what is shown."""
    require("curl")
    async with serving(cors_origins=("https://app.example.org",)) as registry:
        for block in blocks(PAGE):
            outcomes = await run(block, registry, tmp_path)
            for command, (output, code) in zip(block, outcomes, strict=True):
                assert code == 0, f"{command.text}\n{output}"
                if command.shown is None:
                    assert "google.rpc.ErrorInfo" not in output, f"{command.text}\n{output}"
                assert command.accepts(output), f"{command.text}\n{output}"


@pytest.mark.parametrize("page", OTHERS, ids=[str(page.relative_to(ROOT)) for page in OTHERS])
async def test_other_pages(
    page: Path, require: Callable[[str], Path], registry: Running, tmp_path: Path
) -> None:
    """What they have of curl is answered, and not with an error."""
    require("curl")
    commands = [
        Command(command.text, None)
        for block in blocks(page)
        for command in block
        if command.text.startswith("curl ") and SERVER in command.text
    ]
    for command, (output, code) in zip(
        commands, await run(commands, registry, tmp_path), strict=True
    ):
        assert code == 0, f"{command.text}\n{output}"
        assert "google.rpc.ErrorInfo" not in output, f"{command.text}\n{output}"
