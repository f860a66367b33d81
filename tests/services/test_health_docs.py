"""What the page on health shows, run as it stands there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.services.test_http_docs import ROOT, play, printed
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
    await play(PAGE, registry, tmp_path)
    assert await printed(PAGE) == (PRINTED, "")
