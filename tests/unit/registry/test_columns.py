"""Arrays that grow without moving."""

from __future__ import annotations

import gc
import mmap
from typing import Any

import pytest

from hyper_registry.registry.columns import IntColumns


def test_addresses_that_garbage_has_are_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """When there are none left, what is no longer used gives its own; then there are."""
    real, collected = mmap.mmap, list[bool]()

    def full_until_collected(*arguments: Any, **options: Any) -> mmap.mmap:
        if not collected:
            raise OSError(12, "Cannot allocate memory")
        return real(*arguments, **options)

    monkeypatch.setattr(mmap, "mmap", full_until_collected)
    monkeypatch.setattr(gc, "collect", lambda: collected.append(True))
    made = IntColumns(1, 8)
    made.grow(1)
    assert collected == [True]
    assert made.array[0, 0] == 0
