"""The contract that every store keeps; `tests/store` holds one suite for all of them.

A store knows rows, not rules: what may be written has been decided by the committer. All of a
store's methods may be awaited from one event loop; blocking work is done in threads of the store's
own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from hyper_registry.model.entity import Entity
from hyper_registry.model.relationship import Relationship
from hyper_registry.model.revision import Change, Commit, Head, Header, Position


@dataclass(frozen=True, slots=True)
class ResultKey:
    """Whose repetition a request may be: who called which method with which idempotency key."""

    principal: str
    method: str
    key: str


@dataclass(frozen=True, slots=True)
class StoredResult:
    """The first result of a request with an idempotency key.

    `body_hash` is of the request, `response` the serialised answer, `expires_at` microseconds since
    1970.
    """

    key: ResultKey
    body_hash: bytes
    revision: int
    response: bytes
    expires_at: int


class EntityRow(NamedTuple):
    """An entity as the table has it: its values, and the serialised API message `record`.

    `create_index` is the number of its creating change within `entity.create_revision`, below 2^20:
    entities are in order of creation by that pair. `feature` is `metadata.feature` if that is a
    string.
    """

    entity: Entity
    create_index: int
    feature: str
    metadata_json: str
    record: bytes


class RelationshipRow(NamedTuple):
    """A relationship as the table has it; see EntityRow."""

    relationship: Relationship
    create_index: int
    metadata_json: str
    record: bytes


class HealthRow(NamedTuple):
    """The effective health of an entity, where it is not what its record says.

    It was derived at `revision`, after the record was written. The entity is known by its ordinal,
    as in `Change.ordinal`.
    """

    ordinal: int
    health: int
    revision: int


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction writes.

    `commits` are consecutive revisions after the transaction's head; there may be none, if there
    are results or a new epoch. Each has at least one change. The rows are the last state of what
    they changed, each id at most once over rows and deletions; an id that is deleted and created
    again is a row with its new `create_revision`. Unique keys may be passed on from row to row
    within a batch. `results` have distinct keys.

    `healths` are new; `cleared_healths` are as they were: those that are no more, and those that
    are another one now. `restated` tells what the log does not, of entities that are changed or
    deleted: the image before that it has, and the record that was written before, where those
    differ.
    """

    commits: Sequence[Commit]
    head: Head
    entities: Sequence[EntityRow] = ()
    deleted_entities: Sequence[str] = ()
    relationships: Sequence[RelationshipRow] = ()
    deleted_relationships: Sequence[str] = ()
    results: Sequence[StoredResult] = ()
    healths: Sequence[HealthRow] = ()
    cleared_healths: Sequence[HealthRow] = ()
    restated: Sequence[tuple[bytes, bytes]] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """A part of what a store is filled with.

    Over all parts, rows are in order of creation and commits in order of revision. The first commit
    may be that of the floor, without its changes.
    """

    entities: Sequence[EntityRow] = ()
    relationships: Sequence[RelationshipRow] = ()
    commits: Sequence[Commit] = ()
    results: Sequence[StoredResult] = ()
    healths: Sequence[HealthRow] = ()


@dataclass(frozen=True, slots=True)
class EntityColumns:
    """A part of the entity table, in order of creation, by columns of equal length.

    `labels` are JSON objects as text, `ordinals` as `Change.ordinal`. Columns, because a view of
    millions is built from them.
    """

    ids: Sequence[str]
    types: Sequence[str]
    names: Sequence[str]
    versions: Sequence[str]
    statuses: Sequence[int]
    healths: Sequence[int]
    features: Sequence[str]
    labels: Sequence[str]
    revisions: Sequence[int]
    ordinals: Sequence[int]
    records: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class RelationshipColumns:
    """A part of the relationship table, in order of creation, by columns of equal length."""

    ids: Sequence[str]
    source_ids: Sequence[str]
    target_ids: Sequence[str]
    types: Sequence[str]
    bidirectional: Sequence[int]
    revisions: Sequence[int]
    ordinals: Sequence[int]
    records: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class LogQuestion:
    """Which changes of the log: those between two positions for which all conditions hold.

    `after` is a revision; what it and those before it changed is left out. `before` is a position;
    what is behind it is left out. An empty text is no condition. `id` is a change's, `actor` and
    `method` are its revision's; a method without a `/` is the last part of any service's method.
    """

    after: int
    before: Position
    id: str = ""
    actor: str = ""
    method: str = ""


class LoggedChange(NamedTuple):
    """A change with the revision that made it; `index` is its number there."""

    header: Header
    index: int  # type: ignore[assignment]  # nobody asks it for tuple.index
    change: Change

    @property
    def position(self) -> Position:
        """The position in the log that everything before this change is before."""
        return Position(self.header.revision - 1, self.index)


@dataclass(frozen=True, slots=True)
class LogLimits:
    """How much of the log is answered and looked at, each at least one.

    `size` counts the images before and after, in bytes; the first change is answered however large.
    """

    changes: int
    size: int
    looked_at: int


class KnownResults(Exception):
    """Some of a batch's idempotency keys have an unexpired result already; nothing was written."""

    def __init__(self, results: Sequence[StoredResult]) -> None:
        super().__init__(f"{len(results)} known results")
        self.results = tuple(results)


class Transaction(ABC):
    """A write transaction that holds the head: no other writer can commit until it ends.

    It ends with `commit` or `rollback`, whichever comes first; both may be called once.
    """

    head: Head

    @abstractmethod
    async def commit(self, batch: Batch, now: int) -> None:
        """Writes the batch, durably and whole, and ends the transaction.

        Raises KnownResults if a result that has not expired by `now` exists for a key of the batch,
        StoreFull or StoreUnavailable if nothing was written (a batch that breaks uniqueness is
        StoreUnavailable, one that would leave a gap in the log ValueError: bugs of the writer),
        CommitUnknown if that is not known. A caller that is cancelled does not stop it.
        """

    @abstractmethod
    async def rollback(self) -> None:
        """Ends the transaction; nothing was written."""

    async def renewals(self, lease_ids: Sequence[str]) -> Mapping[str, int]:
        """How often these leases have been renewed; 0 of those that never were.

        Until the transaction ends, nobody renews them. For a SharedStore alone.
        """
        raise NotImplementedError


class Snapshot(ABC):
    """A read transaction: the tables and the log as they are at `head`. Closed by `aclose`."""

    head: Head

    @abstractmethod
    def entities(self, chunk: int = 16_384) -> AsyncIterator[EntityColumns]:
        """All entities, in order of creation, in parts of at most `chunk`."""

    @abstractmethod
    def relationships(self, chunk: int = 16_384) -> AsyncIterator[RelationshipColumns]:
        """All relationships, in order of creation, in parts of at most `chunk`."""

    @abstractmethod
    def healths(self, chunk: int = 16_384) -> AsyncIterator[Sequence[HealthRow]]:
        """What the entities' records do not tell of their health, by ordinal, in such parts."""

    @abstractmethod
    def commits(self, after: int) -> AsyncIterator[Sequence[Commit]]:
        """The log after revision `after`, in order, whole revisions at a time.

        Raises RevisionCompacted if the log no longer reaches back to it.
        """

    @abstractmethod
    async def at_floor(self) -> Commit | None:
        """The floor's revision without its changes; None if that is 0, or was never known here."""

    async def hash_at_floor(self) -> bytes:
        """The hash of the floor's revision; empty if that is 0, or was never known here."""
        floor = await self.at_floor()
        return b"" if floor is None else floor.hash

    @abstractmethod
    def results(self, chunk: int = 16_384) -> AsyncIterator[Sequence[StoredResult]]:
        """All results, in order of their keys, in parts of at most `chunk`."""

    @abstractmethod
    async def aclose(self) -> None:
        """Ends the read transaction."""


class Store(ABC):
    """The log, the tables and the results of one registry."""

    name: str
    """What `GetStatistics.store` says: `memory`, `sqlite`, `postgresql`."""

    doubts: Sequence[str] = ()
    """The settings, found when it was opened, for which a crash may lose what was committed."""

    @property
    def is_shared(self) -> bool:
        """Whether other servers may have it open too, and write to it."""
        return isinstance(self, SharedStore)

    @abstractmethod
    async def open(self) -> Head:
        """Opens the store, makes its schema where there is none, and answers the head.

        A new history has revision 0, floor 0 and an epoch of its own. One that is there is opened
        without room, too, if reading needs none; else StoreFull. Raises StoreUnavailable if the
        store cannot be opened, is held by another server, or has a schema that is not known.
        """

    @abstractmethod
    async def begin(self) -> Transaction:
        """Starts a write transaction and reads the head under its lock; waits for other writers.

        Raises StoreUnavailable or StoreFull. After a commit whose outcome was unknown it first
        finds that out: the head that it answers is the truth.
        """

    @abstractmethod
    async def snapshot(self) -> Snapshot:
        """Starts a read transaction at the current head. Raises StoreUnavailable."""

    @abstractmethod
    async def fill(self, head: Head, parts: AsyncIterator[Part]) -> Head:
        """Makes an empty store hold what another one does, durably; answers its head.

        All of the parts, or nothing if anything raises. Revision, floor, time and hash become those
        of `head`, and commits keep their hashes, so the log continues the other's chain; the epoch
        stays the store's own, so nobody takes the one history for the other. Raises
        StoreUnavailable if the store is not empty or cannot be written (rows that break uniqueness
        included), StoreFull, CommitUnknown, ValueError for a log that does not lead from the floor
        to the head, and what `parts` raises.
        """

    @abstractmethod
    async def read_log(
        self, after: Position, max_changes: int, max_bytes: int
    ) -> Sequence[tuple[Commit, int]]:
        """Parts of the log after a position: commits, each with the index of its first change.

        All but the first start at index 0. As many whole revisions as the limits allow; if not even
        the first (the rest of it, behind a position inside), as much of it as they allow, and at
        least one change if there is one. `max_bytes` counts the images before and after. A commit
        that is answered in part has its revision's own `hash`. What is below the floor can be read
        until it is trimmed; then, when the log no longer reaches back to the position, this raises
        RevisionCompacted. Raises StoreUnavailable.
        """

    @abstractmethod
    async def search_log(
        self, question: LogQuestion, limits: LogLimits
    ) -> tuple[Sequence[LoggedChange], Position]:
        """Changes that a question means, the newest first, and how far back was looked for them.

        That is a position: with it as `before`, the same question finds what comes next. It is that
        of the last change that is answered if there may be more than the limits allow, and
        `Position(question.after)` when there is nothing left. Raises RevisionCompacted if the log
        no longer reaches back to `after`, and StoreUnavailable.
        """

    @abstractmethod
    async def revision_at(self, time: int) -> int | None:
        """The last revision committed at or before this time; revision 0 was always there.

        None if that is below the floor, or if it may be the floor, and when that was committed was
        never known here.
        """

    @abstractmethod
    async def headers(self, revisions: Sequence[int]) -> Mapping[int, Header]:
        """Who made these revisions, when and how, by revision; those that are trimmed are left out.

        The header of the highest revision that has been trimmed is kept.
        """

    @abstractmethod
    async def revision_keeping(self, changes: int) -> int:
        """The lowest revision from the floor on that has at most this many changes after it."""

    @abstractmethod
    async def trim(self, floor: int, limit: int) -> int:
        """Deletes at most `limit` changes of revisions up to `floor`; answers how many. 0: done.

        A floor above the head's counts as the head's. The header of `floor` itself is kept, since
        it says from when on what can be read was current.
        """

    @abstractmethod
    async def forget_results(self, now: int, limit: int) -> int:
        """Deletes at most `limit` results that have expired by `now`, those that did first.

        Answers how many. 0: done.
        """

    @abstractmethod
    async def verify(self) -> None:
        """Raises StoreLost if what is open is no longer what would be found by opening it now.

        StoreUnavailable if that cannot be told.
        """

    @abstractmethod
    async def size(self) -> int:
        """How many bytes the store takes on disk; 0 in memory."""

    async def room(self) -> int | None:
        """How many bytes there are on the disk of the store; None where that is not limited.

        Raises OSError.
        """
        return None

    @abstractmethod
    async def aclose(self) -> None:
        """Closes the store; what was committed stays."""


class Seat(NamedTuple):
    """Who does what one server does at a time.

    `term` is another one with every other holder, and `beat` with everything that a holder says.
    """

    holder: str = ""
    term: int = 0
    beat: int = 0


class Hold(IntEnum):
    """Whether a lease that is overdue is kept from expiring. The numbers are stored.

    One that is LET_GO was held, until somebody said that it is to expire.
    """

    NONE = 0
    HELD = 1
    LET_GO = 2


class Renewals(NamedTuple):
    """How often a lease was renewed, and whether it has been held back since."""

    number: int = 0
    hold: Hold = Hold.NONE


class SharedStore(Store):
    """A store that several servers have open at once. `Transaction.renewals` works there."""

    @abstractmethod
    async def head(self) -> Head:
        """The head as it is; a commit that was answered before this was called is in it.

        Raises StoreUnavailable.
        """

    @abstractmethod
    async def woken(self, seconds: float) -> None:
        """Returns when another server may have written, or after so many seconds."""

    @abstractmethod
    async def take_seat(self, duty: str, holder: str, found: Seat) -> Seat:
        """Takes a seat, or says that its holder is alive, if it is as it was found.

        Not where a newer version has changed the schema. Answers the seat as it then is, whoever
        has it. Raises StoreUnavailable.
        """

    @abstractmethod
    async def renew(self, lease_ids: Collection[str]) -> None:
        """Counts one more renewal of each of these leases, none of which is held back then.

        Waits for those that a transaction has. A crash of the database may forget the last ones.
        Raises StoreUnavailable.
        """

    @abstractmethod
    async def all_renewals(self) -> Mapping[str, Renewals]:
        """What is known of each lease that was ever renewed or held. Raises StoreUnavailable."""

    @abstractmethod
    async def hold_back(self, renewals: Mapping[str, int], ended: Collection[str]) -> None:
        """Says of leases that they are held back, and of those in `ended` that they no longer are.

        The number is how often each had been renewed: who was renewed since is not held. Raises
        StoreUnavailable.
        """

    @abstractmethod
    async def let_go(self) -> None:
        """Says that every lease that is held back may expire. Raises StoreUnavailable."""

    @abstractmethod
    async def forget_renewals(self, lease_ids: Sequence[str]) -> None:
        """Forgets leases that are no more. Raises StoreUnavailable."""
