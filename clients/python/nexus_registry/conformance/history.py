"""What clients asked and were told, and what the log has: the material of the validators.

A history is recorded at the clients, with the time at which each call began and ended, and is
completed with the log. The log is the truth that answers are held against: it is read past the
server's view, feed and watches, so that a mistake of theirs shows. A server in which others write
too has more in its log than a history is about: `Log.begin` is where the history starts, and what
is not the run's own is left out of it.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from enum import Enum, IntEnum
from typing import Any, Literal

import grpc
from google.protobuf.message import Message

from ose.registry.client import RegistryError
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.relationship_pb2 import Relationship
from ose.registry.v1.watch_service_pb2 import WatchRequest, WatchResponse


class Kind(Enum):
    """What a change is about."""

    ENTITY = "entity"
    RELATIONSHIP = "relationship"
    COMPACTION = "compaction"


class Action(IntEnum):
    """What a change did. The numbers are those of `EventType`."""

    CREATE = 1
    UPDATE = 2
    DELETE = 3


Record = Entity | Relationship
Key = tuple[Kind, str]
"""A resource: its kind and its id."""

NOT_TOLD = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
}
"""Codes that leave it open whether a call was done."""


@dataclass(eq=False)
class Operation:
    """One call: what was asked, what was told, and when.

    `answer` is the response; of Export and Import the list of responses. `group` is shared by the
    pages of one listing or graph answer. `key` is the request's idempotency key.
    """

    number: int
    client: str
    method: str
    request: Any
    request_id: str
    began: float
    group: int = 0
    ended: float = math.inf
    answer: Any = None
    error: RegistryError | None = None

    @property
    def outcome(self) -> Literal["ok", "refused", "unknown"]:
        """Whether it was done, was refused for good, or nobody can tell."""
        if self.error is None:
            return "unknown" if self.answer is None else "ok"
        return "unknown" if self.error.code in NOT_TOLD else "refused"

    @property
    def key(self) -> str:
        """The idempotency key; empty without one."""
        return str(getattr(self.request, "idempotency_key", ""))

    @property
    def is_write(self) -> bool:
        """Whether it is to change something."""
        return self.method in WRITES and not getattr(self.request, "dry_run", False)

    @property
    def revision(self) -> int:
        """The revision that an answer is of, or that a write got; 0 if it does not say."""
        answer = self.answer
        if isinstance(answer, list):
            return max((part.revision for part in answer), default=0)
        return int(answer.revision) if answer is not None else 0

    def records(self) -> Iterator[Record]:
        """Every record in the answer."""
        for answer in self.answer if isinstance(self.answer, list) else [self.answer]:
            if isinstance(answer, Entity | Relationship):
                yield answer
                continue
            for name in ("entities", "relationships", "nodes", "edges"):
                yield from (r for r in getattr(answer, name, ()) if not isinstance(r, str))
            for result in getattr(answer, "results", ()):
                if kind := result.WhichOneof("resource"):
                    yield getattr(result, kind)

    def __str__(self) -> str:
        told = self.error if self.error is not None else type(self.answer).__name__
        request = " ".join(str(self.request).split())[:200]
        return f"{self.client} {self.method}({request}) [{self.request_id}] -> {told}"


WRITES = {
    "CreateEntity", "UpdateEntity", "DeleteEntity", "CreateRelationship", "UpdateRelationship",
    "DeleteRelationship", "Write", "Import", "Compact",
}  # fmt: skip


@dataclass(eq=False)
class WatchStream:
    """One stream of a watcher: its request, and each message with the time when it came.

    `resumed_at` is the revision of the message whose token it continues; -1 if it does not. The
    token of a `foreign` one is of another history.
    """

    watcher: str
    request: WatchRequest
    began: float
    resumed_at: int = -1
    foreign: bool = False
    received: list[tuple[float, WatchResponse]] = field(default_factory=list)
    ended: float = math.inf
    error: RegistryError | None = None

    @property
    def messages(self) -> list[WatchResponse]:
        """What came."""
        return [message for _, message in self.received]

    @property
    def reached(self) -> int:
        """The revision up to which everything has come, by what the stream says."""
        return max((message.revision for message in self.messages), default=0)

    def lives(self) -> list[WatchStream]:
        """The stream between its resets: behind one it is a stream that began with a snapshot.

        What had come of a revision before a reset is not part of anything.
        """
        found = [self]
        for number, (at, message) in enumerate(self.received):
            if message.mark == WatchResponse.MARK_RESET:
                before, after = copy(found[-1]), WatchRequest()
                after.CopyFrom(self.request)
                after.ClearField("start")
                after.snapshot = True
                begun = len(self.received) - len(before.received)
                before.received = self.received[begun:number]
                while before.received and before.received[-1][1].more:
                    before.received.pop()
                before.ended, before.error = at, None
                rest = self.received[number + 1 :]
                found[-1] = before
                found.append(replace(self, request=after, began=at, resumed_at=-1, received=rest))
        return found

    def __str__(self) -> str:
        return f"{self.watcher}[{' '.join(str(self.request).split())[:120]}]"


@dataclass(frozen=True)
class Change:
    """One resource before and after, as the log has it."""

    kind: Kind
    action: Action
    id: str
    ordinal: int
    before: Any
    after: Any
    derived: bool = False

    @property
    def key(self) -> Key:
        """The resource."""
        return self.kind, self.id


@dataclass(frozen=True)
class Revision:
    """One revision of the log, its time in microseconds since 1970."""

    revision: int
    time: int
    request_id: str
    changes: tuple[Change, ...]

    @property
    def told(self) -> list[Change]:
        """What the request changed itself, less what followed for the health of others."""
        return [change for change in self.changes if not change.derived]

    def find(self, record: Record) -> Change | None:
        """The change that made this very record."""
        return next((change for change in self.changes if change.after == record), None)


class Log:
    """The revisions behind `begin`, in order, and the state at each of them.

    At `begin` there is nothing that the history is about. `is_whole` says that every revision is
    there, and not only those that changed an entity or a relationship, or compacted. `floor` is the
    oldest revision that could be read at `begin`, `head` the last one if that is not among them.
    """

    def __init__(
        self,
        revisions: Iterable[Revision],
        begin: int = 0,
        floor: int = 0,
        head: int = 0,
        *,
        is_whole: bool = True,
    ) -> None:
        self.begin = begin
        self.is_whole = is_whole
        self.revisions: dict[int, Revision] = {}
        self.by_request: dict[str, list[Revision]] = defaultdict(list)
        self._versions: dict[Key, list[tuple[int, Any, int]]] = defaultdict(list)
        self._states: dict[int, State] = {}
        self._floors = [(begin, floor)]
        for revision in revisions:
            for change in revision.changes:
                if change.kind == Kind.COMPACTION:
                    self._floors.append((revision.revision, change.after))
                else:
                    entry = (revision.revision, change.after, change.ordinal)
                    self._versions[change.key].append(entry)
            self.revisions[revision.revision] = revision
            self.by_request[revision.request_id].append(revision)
        self.head = max(begin, head, *self.revisions)
        self.floor = self._floors[-1][1]

    def floor_at(self, revision: int) -> int:
        """The oldest revision that could be read when this one was made."""
        place = bisect_right(self._floors, revision, key=lambda entry: entry[0])
        return self._floors[place - 1][1] if place else 0

    def at(self, key: Key, revision: int) -> Any:
        """The record of a resource at a revision; None if there was none."""
        found = self._at(key, revision)
        return None if found is None else found[1]

    def has(self, record: Record) -> bool:
        """Whether the log made this very record."""
        since = record.health_revision if isinstance(record, Entity) else 0
        revision = self.revisions.get(max(record.revision, since))
        return revision is not None and revision.find(record) is not None

    def state(self, revision: int) -> State:
        """Everything that existed at a revision."""
        if revision not in self._states:
            living: dict[Kind, list[tuple[int, Any]]] = {Kind.ENTITY: [], Kind.RELATIONSHIP: []}
            for key in self._versions:
                found = self._at(key, revision)
                if found is not None and found[1] is not None:
                    living[key[0]].append((found[2], found[1]))
            self._states[revision] = State(
                *([r for _, r in sorted(rows, key=lambda row: row[0])] for rows in living.values())
            )
        return self._states[revision]

    def _at(self, key: Key, revision: int) -> tuple[int, Any, int] | None:
        versions = self._versions.get(key, [])
        place = bisect_right(versions, revision, key=lambda version: version[0])
        return versions[place - 1] if place else None


@dataclass(frozen=True)
class State:
    """All records of one revision, in order of creation."""

    entities: list[Entity]
    relationships: list[Relationship]


@dataclass
class History:
    """All of it. `interval` is how often an idle watch must say something, in seconds."""

    operations: list[Operation] = field(default_factory=list)
    streams: list[WatchStream] = field(default_factory=list)
    log: Log = field(default_factory=lambda: Log([]))
    interval: float = 10.0

    def known(self, moment: float) -> int:
        """The highest revision that anyone had been told of by then."""
        times, revisions = self._told()
        place = bisect_right(times, moment)
        return revisions[place - 1] if place else 0

    def watchers(self) -> dict[str, list[WatchStream]]:
        """The streams of each watcher, in order."""
        found: dict[str, list[WatchStream]] = defaultdict(list)
        for stream in self.streams:
            found[stream.watcher].append(stream)
        return found

    def _told(self) -> tuple[list[float], list[int]]:
        cached = self.__dict__.get("_told_cache")
        if cached is None:
            told = [
                (operation.ended, told_revision(operation))
                for operation in self.operations
                if operation.outcome == "ok" and all(map(self.log.has, operation.records()))
            ]
            told += [(at, m.revision) for s in self.streams for at, m in s.received]
            told.sort()
            highest, revisions = 0, []
            for _, revision in told:
                # What is not in the log cannot be reached: that it was told is for C1 to say.
                if revision <= self.log.head:
                    highest = max(highest, revision)
                revisions.append(highest)
            cached = self.__dict__["_told_cache"] = ([at for at, _ in told], revisions)
        return cached


def told_revision(operation: Operation) -> int:
    """The highest revision that an answer tells to have happened; 0 if it tells none."""
    if getattr(operation.request, "dry_run", False):
        return 0
    return max(operation.revision, *(r.revision for r in operation.records()), 0)


def same(left: Sequence[Message], right: Sequence[Message]) -> bool:
    """Whether two lists of messages are equal."""
    return len(left) == len(right) and all(a == b for a, b in zip(left, right, strict=True))
