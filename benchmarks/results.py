"""What was measured, kept in build/bench/results until the report is written."""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
from pathlib import Path
from typing import Any

from benchmarks.paths import BUILD

_FOLDER = BUILD / "bench" / "results"


def save(name: str, content: dict[str, Any]) -> None:
    """Keeps results under a name, with the machine, the time and how busy it was."""
    _FOLDER.mkdir(parents=True, exist_ok=True)
    path = _path(name)
    path.with_suffix(".new").write_text(json.dumps({**circumstances(), **content}, indent=1))
    path.with_suffix(".new").replace(path)


def circumstances() -> dict[str, Any]:
    """On what, when and beside how much else something was measured."""
    return {
        "machine": machine(),
        "measured_at": _now(),
        "load": os.getloadavg()[0],
        "processors": os.cpu_count(),
    }


def saved(name: str) -> dict[str, Any] | None:
    """What was kept under a name; None if nothing was."""
    path = _path(name)
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def names(prefix: str) -> list[str]:
    """The names that begin so, in order."""
    return sorted(path.stem for path in _FOLDER.glob(f"{prefix}*.json"))


def slug(title: str) -> str:
    """A title as a part of a name."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def machine() -> str:
    """The processor, how many of them, the memory, the system and the Python."""
    model = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+)", _read("/proc/meminfo"), re.MULTILINE)
    parts = [
        f"{os.cpu_count()} processors ({model[1].strip() if model else platform.machine()})",
        f"{int(memory[1]) / 2**20:.0f} GiB" if memory else "",
        f"{platform.system()} {platform.release().split('-')[0]}",
        f"Python {platform.python_version()}",
    ]
    return ", ".join(part for part in parts if part)


def _path(name: str) -> Path:
    return _FOLDER / f"{name}.json"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
