"""Sets of names and numbers in the form that kernels test them in."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np

from hyper_registry.query.kernels import MAX_CODES
from hyper_registry.registry.columns import Bytes
from hyper_registry.registry.view import Names

_KEPT = 256


def mask_of(names: Names, wanted: Collection[str] | None) -> Bytes:
    """One byte per type code, 1 for those that are wanted; empty for all, which None asks for."""
    if wanted is None:
        return np.zeros(0, dtype=np.uint8)
    mask = np.zeros(MAX_CODES, dtype=np.uint8)
    for name in wanted:
        if (code := names.codes.get(name)) is not None:
            mask[code] = 1
    return mask


def bits_of(numbers: Iterable[int] | None) -> int:
    """A set of small numbers as bits; all of them for None."""
    return -1 if numbers is None else sum(1 << number for number in numbers)


class Masks:
    """Masks by sets of names, remembered as long as no name gets a code."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._known = 0
        self._masks: dict[frozenset[str] | None, Bytes] = {}

    def of(self, wanted: frozenset[str] | None) -> Bytes:
        """As `mask_of`."""
        if len(self._names.names) != self._known or len(self._masks) > _KEPT:
            self._masks = {}
            self._known = len(self._names.names)
        mask = self._masks.get(wanted)
        if mask is None:
            mask = self._masks[wanted] = mask_of(self._names, wanted)
        return mask
