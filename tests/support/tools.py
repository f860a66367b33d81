"""Programs that some tests drive, and what happens where one is missing."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

#: Where the project's own targets put programs; `PATH` comes after them.
TOOL_FOLDERS = (Path(sys.executable).parent, ROOT / ".venv" / "bin", ROOT / "build" / "bin")

#: How to get what is missing; for any other program: by its package.
HINTS = {
    "buf": "make install-dev",
    "grpc_health_probe": "make tools",
    "grpcurl": "make tools",
}


def find_tool(name: str) -> Path | None:
    """Finds a program in the project's own folders, then on `PATH`; None if it is in neither."""
    search = os.pathsep.join([*map(str, TOOL_FOLDERS), os.environ.get("PATH", os.defpath)])
    found = shutil.which(name, path=search)
    return Path(found) if found else None


def require_tool(name: str) -> Path:
    """Answers a program's path; without it, skips the test, or fails it if `REQUIRE_ALL=1`."""
    found = find_tool(name)
    if found is None:
        unavailable(f"needs {name}: {HINTS.get(name, 'install it')}")
    return found


def unavailable(reason: str) -> NoReturn:
    """Ends the test for want of something outside it: skipped, or failed if `REQUIRE_ALL=1`."""
    if os.environ.get("REQUIRE_ALL", "0") not in {"", "0"}:
        pytest.fail(f"{reason} (REQUIRE_ALL is set, so this is no skip)", pytrace=False)
    pytest.skip(reason)
