"""The log: what changed, in which order, by whom."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

INDEX_BITS = 20

MAX_CREATE_INDEX = (1 << INDEX_BITS) - 1
"""The last change of a revision that can create something; that leaves room for 8.8e12 revisions.
"""


def ordinal_of(create_revision: int, create_index: int) -> int:
    """The place in the order of creation of what change `create_index` of a revision created.

    Raises ValueError beyond MAX_CREATE_INDEX.
    """
    if create_index > MAX_CREATE_INDEX:
        raise ValueError(f"change {create_index} of revision {create_revision} cannot create")
    return create_revision << INDEX_BITS | create_index


class Kind(IntEnum):
    """What a change is about. The numbers are stored: never reuse one."""

    ENTITY = 1
    RELATIONSHIP = 2
    COMPACTION = 3
    HEALTH = 4


class Action(IntEnum):
    """What a change did. The numbers are stored, and are the API's event types."""

    CREATE = 1
    UPDATE = 2
    DELETE = 3


class Change(NamedTuple):
    """One resource before and after.

    A tuple, as all that is made for every change: a frozen dataclass takes three times as long.

    `ordinal` is the resource's place in the order of creation: `create_revision << 20 |
    create_index`, where the index is the number of the creating change in its revision; 0 of what
    is not a resource. `before` and `after` are the resource's serialised API message; None where it
    did not exist. Of a compaction, `id` is empty and `after` the new floor in decimal. Of a change
    of health, which comes after all others of its revision, `id` is empty, and it is that of up to
    a few hundred entities, packed: see `model.health`.
    """

    kind: Kind
    action: Action
    id: str
    ordinal: int
    before: bytes | None
    after: bytes | None


@dataclass(frozen=True, slots=True)
class Commit:
    """One revision: everything that one request changed, with who and when.

    `time` is microseconds since 1970, UTC, and larger than that of every earlier revision. `hash`
    chains the history: it covers this revision and the hash of the one before.
    """

    revision: int
    time: int
    actor: str
    method: str
    request_id: str
    changes: tuple[Change, ...]
    hash: bytes = b""

    @property
    def header(self) -> Header:
        """The revision without its changes."""
        return Header(self.revision, self.time, self.actor, self.method, self.request_id)


class Header(NamedTuple):
    """A revision without its changes: see Commit."""

    revision: int
    time: int
    actor: str
    method: str
    request_id: str


class Position(NamedTuple):
    """A place in the log: everything before change number `index` of the revision after `revision`.

    `(r, 0)` is the boundary behind revision r; `(r, i)` is inside revision r + 1, behind its first
    i changes. Positions compare in log order.
    """

    revision: int
    index: int = 0  # type: ignore[assignment]  # nobody asks a position for tuple.index


@dataclass(frozen=True, slots=True)
class Head:
    """The latest state of a history.

    `epoch` names the history and changes when it is restored or rewound; `floor` is the oldest
    revision that can be read; `time` and `hash` are those of the latest revision.
    """

    revision: int
    epoch: str
    floor: int
    time: int
    hash: bytes


def sealed(
    previous: bytes,
    revision: int,
    time: int,
    actor: str,
    method: str,
    request_id: str,
    changes: tuple[Change, ...],
) -> Commit:
    """The commit of these values whose hash continues the history that has the hash `previous`."""
    parts = [
        f"{revision}\0{time}\0{actor}\0{method}\0{request_id}\0{len(changes)}".encode(),
    ]
    for kind, action, id_, ordinal, old, new in changes:
        before, after = old or b"", new or b""
        # No record is empty, so a length of 0 says that there is none.
        parts.append(
            b"\0%d\0%d\0%b\0%d\0%d\0%d\0"
            % (kind, action, id_.encode(), ordinal, len(before), len(after))
        )
        parts += (before, after)
    digest = hashlib.blake2b(previous, digest_size=16)
    digest.update(b"".join(parts))
    return Commit(revision, time, actor, method, request_id, changes, digest.digest())


def chain(previous: bytes, commit: Commit) -> bytes:
    """The hash that a commit has if it continues the history that has the hash `previous`."""
    return sealed(
        previous,
        commit.revision,
        commit.time,
        commit.actor,
        commit.method,
        commit.request_id,
        commit.changes,
    ).hash
