"""Fixtures and settings of every test."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.support.postgres import HASTY, Cluster, running_cluster
from tests.support.tools import require_tool

# Time limits are pytest's: hypothesis's own per-example deadline only measures how busy the machine
# is. In the CI the examples are the same in every run, so that a failure is the change's own.
hypothesis.settings.register_profile("default", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture
def require() -> Callable[[str], Path]:
    """`require("grpcurl")` answers the program's path, or skips the test in one clear line.

    It looks in `.venv/bin`, `build/bin` and `PATH`. With `REQUIRE_ALL=1` in the environment what
    is missing fails the test instead. Fixtures of a wider scope call
    `tests.support.tools.require_tool`.
    """
    return require_tool


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL server of the whole run; tests create schemas of their own in it."""
    with running_cluster(HASTY) as made:
        yield made
