"""What a store has to know of health that was derived, beside the records and the log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from hyper_registry.registry.columns import Ints
from hyper_registry.store.base import HealthRow


@dataclass(slots=True)
class Derived:
    """What a request brings.

    `written` are the rows that come, `cleared` those that go, which may have come with a request
    before it. `restated` has the images before in the log, and the records in the rows, of what was
    written anew: they differ in the health.
    """

    written: list[HealthRow] = field(default_factory=list)
    cleared: list[HealthRow] = field(default_factory=list)
    restated: list[tuple[bytes, bytes]] = field(default_factory=list)


def together(parts: Sequence[Derived], base: int) -> Derived:
    """What requests that are committed together bring, after revision `base`."""
    whole = Derived()
    for part in parts:
        whole.written += part.written
        whole.cleared += part.cleared
        whole.restated += part.restated
    # What came and went meanwhile is never written.
    if passing := {row for row in whole.cleared if row.revision > base}:
        whole.written = [row for row in whole.written if row not in passing]
        whole.cleared = [row for row in whole.cleared if row not in passing]
    return whole


def health_rows(ordinals: Ints, healths: Ints, revisions: Ints) -> Iterator[HealthRow]:
    """The rows of these columns."""
    return map(HealthRow, ordinals.tolist(), healths.tolist(), revisions.tolist())
