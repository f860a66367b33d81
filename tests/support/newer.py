"""What a newer version of the registry writes."""

from __future__ import annotations

from typing import cast

from hyper_registry.model.revision import Action, Change, Head, Kind, sealed
from hyper_registry.store.base import Batch, Store

UNKNOWN = cast(Kind, 99)
"""A kind of change that this version does not have."""


async def write_as_newer(store: Store) -> int:
    """Commits a change of an unknown kind to a store that is open; answers its revision."""
    transaction = await store.begin()
    head = transaction.head
    changes = (Change(UNKNOWN, Action.UPDATE, "roles", 0, b"before", b"after"),)
    commit = sealed(
        head.hash, head.revision + 1, head.time + 1, "ann", "SetRoles", "request", changes
    )
    after = Head(commit.revision, head.epoch, head.floor, commit.time, commit.hash)
    await transaction.commit(Batch([commit], after), 0)
    return commit.revision
