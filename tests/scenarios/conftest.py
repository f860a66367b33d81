"""The flag that writes the stories' answers anew."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds `--regenerate`."""
    parser.addoption(
        "--regenerate",
        action="store_true",
        help="write the answers of the stories anew, as the store in memory gives them",
    )
