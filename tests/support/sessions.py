"""The shell sessions of a page: its commands, and what it shows that they print.

In a block with prompts, what follows `$ ` is a command, which goes on until it is complete; what
follows that is its output. There, `...` stands for anything. Other blocks are commands only.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

_BLOCK = re.compile(r"^```(?:sh|console)\n(.*?)^```", re.DOTALL | re.MULTILINE)
# What differs from run to run.
_CHANGING = (
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"), "<time>"),
    (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"), "<id>"),
    (re.compile(r"\s+"), ""),
)


@dataclass(frozen=True)
class Command:
    """A command, and the output that the page shows; None if it shows none."""

    text: str
    shown: str | None

    def accepts(self, output: str) -> bool:
        """Whether an output is the one that is shown."""
        if self.shown is None:
            return True
        pattern = re.escape(_lasting(self.shown)).replace(re.escape("..."), ".*")
        return re.fullmatch(pattern, _lasting(output)) is not None


def sessions(page: str) -> list[list[Command]]:
    """The blocks of a page."""
    return [
        [*_commands(text.splitlines())] if text.startswith("$ ") else [Command(text, None)]
        for text in _BLOCK.findall(page)
    ]


def _commands(lines: list[str]) -> Iterator[Command]:
    position = 0
    while position < len(lines):
        text = lines[position][2:]
        position += 1
        while not _is_complete(text):
            text += f"\n{lines[position]}"
            position += 1
        start = position
        while position < len(lines) and not lines[position].startswith("$ "):
            position += 1
        yield Command(text, "\n".join(lines[start:position]))


def _is_complete(text: str) -> bool:
    """Whether a shell would run it, and not ask for more."""
    if text.endswith("\\"):
        return False
    checked = subprocess.run(["bash", "-n", "-c", text], capture_output=True, check=False)
    return checked.returncode == 0 and not checked.stderr


def _lasting(text: str) -> str:
    for pattern, name in _CHANGING:
        text = pattern.sub(name, text)
    return text
