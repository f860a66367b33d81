"""The log in blocks, read and decoded once for everyone who needs it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

from hyper_registry.model.health import count_of, turns_of
from hyper_registry.model.revision import Action, Change, Commit, Kind, Position
from hyper_registry.registry.codec import record_id
from hyper_registry.registry.feed import Feed, Part
from hyper_registry.registry.propagation import rows_of
from hyper_registry.registry.table import Table
from hyper_registry.registry.view import View
from hyper_registry.watch import wire
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.relationship_pb2 import Relationship

BLOCK_CHANGES = 512
BLOCK_BYTES = 2 << 20

# More than one change can have: two records, each of metadata and labels at their limits.
_LARGEST_CHANGE = 1 << 20

_TAGS = {
    Kind.ENTITY: (wire.ENTITY, wire.PREVIOUS_ENTITY),
    Kind.RELATIONSHIP: (wire.RELATIONSHIP, wire.PREVIOUS_RELATIONSHIP),
}

# What was read last of each log: those who keep up all ask for the same, one after the other.
_latest: WeakKeyDictionary[Feed, tuple[Position, int, Block]] = WeakKeyDictionary()

Entities = tuple[Entity | None, Entity | None]
Relationships = tuple[Relationship | None, Relationship | None]


class Stamp:
    """The fields that all events of a commit share, made when somebody asks first."""

    __slots__ = ("_commit", "_fields")

    def __init__(self, commit: Commit) -> None:
        self._commit = commit
        self._fields = b""

    def fields(self) -> bytes:
        """Serialised."""
        if not self._fields:
            self._fields = wire.stamp(self._commit.revision, self._commit.time)
        return self._fields


class Entry:
    """A change of the log at its place, with what has been worked out of it.

    It is shared by all groups: its records are decoded, and its event is made, when somebody asks
    first.
    """

    __slots__ = (
        "_entities", "_event", "_form", "_parts", "_relationships", "change", "index", "revision",
        "stamp",
    )  # fmt: skip

    def __init__(self, change: Change, revision: int, index: int, stamp: Stamp) -> None:
        self.change = change
        self.revision = revision
        self.index = index
        self.stamp = stamp
        self._entities: Entities | None = None
        self._relationships: Relationships | None = None
        self._parts: Sequence[Entry] | None = None
        # Nearly always one form is asked for, by all.
        self._form: tuple[int, bool] | None = None
        self._event = b""

    @property
    def start(self) -> Position:
        """The place before this change."""
        return Position(self.revision - 1, self.index)

    @property
    def end(self) -> Position:
        """The place behind this change, inside its revision."""
        return Position(self.revision - 1, self.index + 1)

    def entities(self) -> Entities:
        """The entity before and after. The change must be an entity's."""
        if self._entities is None:
            before, after = self.change.before, self.change.after
            self._entities = (
                None if before is None else Entity.FromString(before),
                None if after is None else Entity.FromString(after),
            )
        return self._entities

    def relationships(self) -> Relationships:
        """The relationship before and after. The change must be a relationship's."""
        if self._relationships is None:
            before, after = self.change.before, self.change.after
            self._relationships = (
                None if before is None else Relationship.FromString(before),
                None if after is None else Relationship.FromString(after),
            )
        return self._relationships

    def parts(self, view: View) -> Sequence[Entry]:
        """What a change of `Kind.HEALTH` does to each entity, as if those were changes of theirs.

        The view must hold the revision, and the one before.
        """
        if self._parts is None:
            table = view.generation.entities
            turns = turns_of(self.change)
            rows = rows_of(table, turns.ordinals).tolist()
            self._parts = [
                self._part(table, row, ordinal)
                for row, ordinal in zip(rows, turns.ordinals.tolist(), strict=True)
            ]
        return self._parts

    def _part(self, table: Table, row: int, ordinal: int) -> Entry:
        after = table.record(table.at(row, self.revision))
        before = table.record(table.at(row, self.revision - 1))
        change = Change(Kind.ENTITY, Action.UPDATE, record_id(after), ordinal, before, after)
        return Entry(change, self.revision, self.index, self.stamp)

    def event(self, type_: int, with_previous: bool) -> bytes:
        """The change as an event of this type; of a deletion, the resource is the one before."""
        form = (type_, with_previous)
        if form != self._form:
            before = self.change.before
            record = before if type_ == Action.DELETE else self.change.after
            assert record is not None
            tag, previous_tag = _TAGS[self.change.kind]
            previous = before if with_previous else None
            self._event = wire.event(
                type_, self.stamp.fields(), tag, record, previous_tag, previous
            )
            self._form = form
        return self._event

    def entity_event(self, type_: int, record: bytes, with_previous: bool) -> bytes:
        """The event of an entity that this change, of a relationship, makes match or not."""
        previous = record if with_previous else None
        return wire.event(
            type_, self.stamp.fields(), wire.ENTITY, record, wire.PREVIOUS_ENTITY, previous
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of the log: its changes, and the place behind them.

    It ends with a whole revision, unless it holds nothing but a part of a single one. `weight` is
    about how many bytes it takes in memory, decoded.
    """

    entries: Sequence[Entry]
    end: Position
    weight: int


async def read_block(feed: Feed, after: Position) -> Block | None:
    """The next block after a position, None if there is nothing yet.

    Raises RevisionCompacted and StoreUnavailable.
    """
    place = after, feed.revision
    if feed in _latest and _latest[feed][:2] == place:
        return _latest[feed][2]
    block = await _read_block(feed, after)
    if block is not None and place[1] == feed.revision:
        _latest[feed] = *place, block
    return block


async def _read_block(feed: Feed, after: Position) -> Block | None:
    parts = await feed.read(after, BLOCK_CHANGES, BLOCK_BYTES)
    if not parts:
        return None
    entries = [entry for part in parts for entry in _entries(part)]
    size = sum(_size(entry.change) for entry in entries)
    commit, index = parts[-1]
    end = Position(commit.revision)
    # An answer of several parts has whole ones only, and one that is far from the limits as well.
    may_be_cut = len(entries) >= BLOCK_CHANGES or size + _LARGEST_CHANGE > BLOCK_BYTES
    if len(parts) == 1 and may_be_cut:
        inside = Position(commit.revision - 1, index + len(commit.changes))
        rest = await feed.read(inside, 1, 1)
        if rest and rest[0][0].revision == commit.revision and rest[0][0].changes:
            end = inside
    # A change of health is taken apart when somebody looks at it.
    count = sum(_count(entry.change) for entry in entries)
    return Block(entries, end, 200 + 1000 * count + 2 * size)


def _entries(part: Part) -> Iterator[Entry]:
    commit, first = part
    stamp = Stamp(commit)
    for index, change in enumerate(commit.changes, first):
        yield Entry(change, commit.revision, index, stamp)


def _count(change: Change) -> int:
    return count_of(change) if change.kind == Kind.HEALTH else 1


def _size(change: Change) -> int:
    return len(change.before or b"") + len(change.after or b"")
