"""The one writer: collects requests, decides them, commits them together, and tells.

While one transaction is being committed the next requests queue up; they go into the next one
together, so the cost of making a write durable is shared. `docs/architecture.md` follows a write
through here.
"""

from __future__ import annotations

import asyncio
import itertools
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import structlog

from hyper_registry.model.errors import (
    CommitUnknown,
    IdempotencyKeyReused,
    NotServing,
    RegistryError,
    RevisionCompacted,
    StoreFull,
    StoreLost,
    StoreUnavailable,
    TooManyStreams,
)
from hyper_registry.model.health import Turns, turns_of
from hyper_registry.model.revision import Change, Commit, Head, Kind, Position, chain, sealed
from hyper_registry.registry import codec
from hyper_registry.registry.decide import Decider
from hyper_registry.registry.derived import together
from hyper_registry.registry.feed import Feed
from hyper_registry.registry.mutations import WriteRequest
from hyper_registry.registry.observing import CommitObserver, CommitReport, Unobserved
from hyper_registry.registry.propagation import follow
from hyper_registry.registry.view import Tally, View
from hyper_registry.registry.wallclock import WallClock
from hyper_registry.store.base import (
    Batch,
    EntityRow,
    KnownResults,
    RelationshipRow,
    ResultKey,
    Store,
    StoredResult,
    Transaction,
)

MAX_QUEUE = 20_000
"""How many requests wait at most; more are refused with TOO_MANY_STREAMS."""

MAX_QUEUE_BYTES = 256 << 20
"""How large requests are at most, together, that are not answered yet; likewise."""

RESULT_SECONDS = 24 * 3600
"""How long the result of an idempotency key is kept."""

_ROUND_MUTATIONS = 10_000
_SLICE_SECONDS = 0.003
# How long a round waits for those who are likely to come: for each of them about what the event
# loop takes to bring its call, and at most. Measured with 64 writers at once: 24 requests a commit
# instead of 8, and 4 to 15% more of them; from clients that keep the loop busy 20 instead of 2, and
# 60% more.
_GATHER_SECONDS = 400e-6
_GATHER_MOST = 0.006
_POPULATION_SECONDS = 0.1
_READ_BYTES = 16 << 20
_ATTEMPT = ResultKey("", "", "attempt to write")
_EARLIER = "an earlier write's outcome is not known yet; nothing was written of this one"
_RETRY_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0)
# After how many of them whoever waits for his turn is told.
_PATIENCE = 2

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Waiting:
    request: WriteRequest
    answer: asyncio.Future[bytes]
    asked: object


@dataclass(slots=True)
class _Round:
    """What one transaction is going to write, and who waits for it.

    `asked` are the keys of requests that were refused: whether the store has a result for them
    shows when the transaction commits.
    """

    base: Head
    known: dict[ResultKey, StoredResult]
    commits: list[Commit] = field(default_factory=list)
    deciders: list[Decider] = field(default_factory=list)
    results: dict[ResultKey, StoredResult] = field(default_factory=dict)
    asked: set[ResultKey] = field(default_factory=set)
    answers: list[tuple[_Waiting, bytes | Exception]] = field(default_factory=list)
    head: Head = field(init=False)

    def __post_init__(self) -> None:
        self.head = self.base

    def append(self, decider: Decider, commit: Commit) -> None:
        """Adds a decided revision."""
        self.commits.append(commit)
        self.deciders.append(decider)
        self.head = Head(commit.revision, self.base.epoch, decider.floor, commit.time, commit.hash)

    def is_empty(self) -> bool:
        """Whether there is nothing to write or to ask."""
        return not (self.commits or self.results or self.asked)


class Committer:
    """Writes the log of one registry. `run` must be running for `submit` to answer.

    `unknown` is whether it is not known what the last COMMIT did. `failure` is what writing failed
    with when it was tried last, None if it did not. `lost` is set when the store turns out to hold
    another history than the view: then nothing can be written any more.
    """

    def __init__(
        self,
        store: Store,
        view: View,
        feed: Feed,
        clock: WallClock | None = None,
        observer: CommitObserver | None = None,
    ) -> None:
        self._store = store
        self._observer = observer or Unobserved()
        self._view = view
        self._feed = feed
        self._clock = clock or WallClock()
        self._interactive: deque[_Waiting] = deque()
        self._bulk: deque[_Waiting] = deque()
        # Of what is not answered yet: the bytes, of the small and of what is loaded in bulk.
        self._waiting_bytes = [0, 0]
        self._wake = asyncio.Event()
        self._closed = False
        self._pause = asyncio.Lock()
        # Held by whoever changes the view. Taken after `_pause`, where both are.
        self._changing = asyncio.Lock()
        self._population = 0
        self._counted_at = 0.0
        self._gathered: asyncio.Future[None] | None = None
        self._head = Head(0, "", 0, 0, b"")
        self._between = asyncio.Event()
        self._between.set()
        self._closed_time = 0
        self.unknown = False
        self.failure: RegistryError | None = None
        self.lost: StoreLost | None = None

    @property
    def head(self) -> Head:
        """The latest published head."""
        return self._head

    def start(self, head: Head) -> None:
        """Says where the log stands; the view has been built up to there."""
        self._head = head

    async def submit(self, request: WriteRequest) -> bytes:
        """Waits until the request is durable and visible; answers what its `respond` made.

        Raises what the request is refused with, StoreFull, StoreUnavailable, CommitUnknown,
        NotServing or TooManyStreams. A caller that is cancelled while its request waits takes it
        back; one that is cancelled later does not.
        """
        if self._closed:
            raise NotServing("the server is shutting down")
        if self.unknown:
            raise CommitUnknown(_EARLIER)
        queue = self._bulk if request.bulk else self._interactive
        if len(queue) >= MAX_QUEUE:
            raise TooManyStreams("max_queued_writes", MAX_QUEUE)
        if self._waiting_bytes[request.bulk] + request.size > MAX_QUEUE_BYTES:
            raise TooManyStreams("max_queued_bytes", MAX_QUEUE_BYTES)
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        waiting = _Waiting(request, answer, self._observer.asked())
        queue.append(waiting)
        self._wake.set()
        if self._gathered is not None and len(self._interactive) >= self._population:
            _release(self._gathered)
        self._waiting_bytes[request.bulk] += request.size
        try:
            return await answer
        finally:
            self._waiting_bytes[request.bulk] -= request.size

    async def close_time(self, time: int) -> None:
        """Makes final what has been committed up to a time, which must have come.

        Waits for what is being committed, unless it cannot be known whether it is, and lets nothing
        later be committed at or before the time, wherever the clock goes. Raises StoreUnavailable
        or CommitUnknown where other servers have to be told.
        """
        self._closed_time = max(self._closed_time, time)
        if self._store.is_shared:
            await self._close_everywhere(time)
        else:
            await self._between.wait()

    async def _close_everywhere(self, time: int) -> None:
        """Sets the time of the head, which every server's next commit is after."""
        async with self._pause:
            transaction = await self._store.begin()
            async with self._changing:
                try:
                    head = transaction.head
                    if head.hash != self._head.hash:
                        await self._catch_up(head)
                    if head.time < time:
                        head = replace(head, time=time)
                        await transaction.commit(Batch((), head), 0)
                    self._head = head
                finally:
                    await transaction.rollback()

    @asynccontextmanager
    async def pause(self) -> AsyncIterator[None]:
        """Keeps the committer between two transactions, and the view as it is."""
        async with self._pause, self._changing:
            yield

    async def follow(self, head: Head) -> None:
        """Applies what others have committed up to a head that was found in the store.

        Waits for a commit of our own. Raises StoreUnavailable; StoreLost if it is another history.
        """
        async with self._changing:
            if head.revision > self._head.revision:
                await self._catch_up(head)

    async def rename(self) -> None:
        """Gives a history that is not the one that was followed a name of its own.

        Nothing, if somebody has done so, or if it is the same after all. Raises StoreUnavailable or
        CommitUnknown.
        """
        transaction = await self._store.begin()
        try:
            head = transaction.head
            if head.epoch == self._head.epoch and not await self._is_continued_by(head):
                batch = Batch((), replace(head, epoch=uuid.uuid4().hex))
                await transaction.commit(batch, self._clock.cautious(RESULT_SECONDS))
        finally:
            await transaction.rollback()

    async def _is_continued_by(self, head: Head) -> bool:
        """Whether a head's history is ours up to where we are, as far as the log can tell."""
        ours = self._head
        if head.revision <= ours.revision:
            return (head.revision, head.hash) == (ours.revision, ours.hash)
        try:
            parts = await self._store.read_log(Position(ours.revision - 1), 1, _READ_BYTES)
        except RevisionCompacted:
            return True
        return parts[0][0].hash == ours.hash

    async def attempt(self) -> None:
        """Writes what says nothing, to find out whether writing works again; makes no revision.

        Raises StoreFull, StoreUnavailable or CommitUnknown, and `failure` is that then.
        """
        async with self._pause:
            try:
                transaction = await self._store.begin()
                batch = Batch((), transaction.head, results=[_question(_ATTEMPT)])
                await transaction.commit(batch, self._clock.cautious(RESULT_SECONDS))
            except RegistryError as error:
                self.failure = error
                raise
            self.failure = None

    async def run(self) -> None:
        """Commits until `aclose`, then what is still queued."""
        while not (self._closed and not self._interactive and not self._bulk):
            await self._wake.wait()
            self._wake.clear()
            while True:
                await self._gather()
                if not (waiting := self._take()):
                    break
                async with self._pause:
                    self._between.clear()
                    try:
                        with self._observer.committing([one.asked for one in waiting]) as report:
                            await self._commit(waiting, report)
                    finally:
                        self._between.set()
                small = sum(not one.request.bulk for one in waiting)
                self._population = small + len(self._interactive)
                self._counted_at = time.monotonic()

    async def aclose(self) -> None:
        """Refuses new requests; `run` returns when those in the queue are answered."""
        self._closed = True
        self._wake.set()
        if self._gathered is not None:
            _release(self._gathered)

    async def _gather(self) -> None:
        """Waits a moment for as many requests as there were writers a moment ago.

        Those who were just answered are about to write again. Who writes alone does not wait, but
        for once when the others have just left.
        """
        if time.monotonic() > self._counted_at + _POPULATION_SECONDS:
            self._population = 0
        if not 0 < len(self._interactive) < self._population or self._closed:
            return
        loop = asyncio.get_running_loop()
        self._gathered = loop.create_future()
        delay = min(_GATHER_MOST, _GATHER_SECONDS * self._population)
        timer = loop.call_later(delay, _release, self._gathered)
        try:
            await self._gathered
        finally:
            timer.cancel()
            self._gathered = None

    def _take(self) -> list[_Waiting]:
        """The next requests to commit together: the small ones first, and at most one bulk one."""
        taken: list[_Waiting] = []
        room = _ROUND_MUTATIONS
        while self._interactive and room > 0:
            waiting = self._interactive.popleft()
            if not waiting.answer.done():
                taken.append(waiting)
                room -= len(waiting.request.mutations)
        while self._bulk:
            waiting = self._bulk.popleft()
            if not waiting.answer.done():
                taken.append(waiting)
                break
        return taken

    async def _commit(self, waiting: list[_Waiting], report: CommitReport) -> None:
        known: dict[ResultKey, StoredResult] = {}
        try:
            while (batch := await self._try(waiting, known)) is None:
                pass
            report.revisions = len(batch.commits)
            report.changes = sum(len(commit.changes) for commit in batch.commits)
        except RegistryError as error:
            report.failure = error.reason
            self.failure = error
            _fail(waiting, error)
        except Exception:  # noqa: BLE001 - whoever waits must be told
            report.failure = StoreUnavailable.reason
            self.failure = StoreUnavailable()
            _log.exception("commit_failed")
            _fail(waiting, self.failure)
        else:
            for one, answer in batch.answers:
                if one.answer.done():
                    continue
                if isinstance(answer, Exception):
                    one.answer.set_exception(answer)
                else:
                    one.answer.set_result(answer)

    async def _try(
        self, waiting: list[_Waiting], known: dict[ResultKey, StoredResult]
    ) -> _Round | None:
        """Decides and writes; None if there are results, then `known`, so it has to begin anew."""
        transaction = await self._store.begin()
        # Only now: while others hold the head, what they commit can be followed.
        async with self._changing:
            try:
                if transaction.head.hash != self._head.hash:
                    await self._catch_up(transaction.head)
                await self._tell_renewals(waiting, transaction)
                batch = await self._decide(waiting, transaction.head, known)
                if batch.is_empty():
                    await transaction.rollback()
                else:
                    await self._write(transaction, batch)
                    self.failure = None
                return batch
            except KnownResults as found:
                # Rare, so that everyone else does not pay for a look-up of their own.
                self._view.rollback(0)
                known |= {result.key: result for result in found.results}
                return None
            except BaseException:
                self._view.rollback(0)
                await transaction.rollback()
                raise

    async def _tell_renewals(self, waiting: Sequence[_Waiting], transaction: Transaction) -> None:
        """Tells requests that ask for it how often leases were renewed, and keeps it so."""
        asking = [one.request for one in waiting if one.request.leases]
        if asking and self._store.is_shared:
            ids = {lease_id for request in asking for lease_id in request.leases}
            counters = await transaction.renewals(sorted(ids))
            for request in asking:
                request.renewed(counters)

    async def _catch_up(self, head: Head) -> None:
        """Applies what another process has committed."""
        if head.revision <= self._head.revision or head.epoch != self._head.epoch:
            raise self._forked()
        held: tuple[Change, ...] = ()  # what has been read of the next revision
        while self._head.revision < head.revision:
            parts = await self._read_log(Position(self._head.revision, len(held)))
            for commit, index in parts:
                whole = replace(commit, changes=held + commit.changes)
                if index == len(held) and chain(self._head.hash, whole) == commit.hash:
                    held = ()
                    tally = apply(self._view, whole)
                    reached = Head(
                        commit.revision, head.epoch, self._view.floor, commit.time, commit.hash
                    )
                    self._publish([whole], [tally], reached)
                elif index == len(held) and commit is parts[-1][0]:
                    held = whole.changes  # a large revision comes in parts
                else:
                    parts = ()
                    break
            if not parts:
                raise self._forked()

    async def _read_log(self, after: Position) -> Sequence[tuple[Commit, int]]:
        try:
            return await self._store.read_log(after, _ROUND_MUTATIONS, _READ_BYTES)
        except RevisionCompacted:
            self.lost = StoreLost("the store has forgotten what this server has not read")
            raise self.lost from None

    async def _decide(
        self, waiting: Sequence[_Waiting], base: Head, known: dict[ResultKey, StoredResult]
    ) -> _Round:
        batch = _Round(base, known)
        until = time.perf_counter() + _SLICE_SECONDS
        for one in waiting:
            if one.answer.done():
                continue
            head = batch.head
            time_ = max(self._clock.micros(), head.time + 1, self._closed_time + 1)
            decider = Decider(self._view, head.revision + 1, time_, head.floor)
            try:
                if not self._answered_before(one, batch):
                    for _ in decider.steps(one.request):
                        # Readers, and the streams, go on while a large batch is decided.
                        if time.perf_counter() > until:
                            await asyncio.sleep(0)
                            until = time.perf_counter() + _SLICE_SECONDS
                    self._conclude(one, decider, batch)
            except Exception as error:  # noqa: BLE001 - one request's bug is its own
                decider.take_back()
                # Told with the others: it may be refused for what they do, and that is not yet so.
                batch.answers.append((one, error))
                key = one.request.key
                if key is not None and key not in known and not one.request.dry_run:
                    batch.asked.add(key)
        return batch

    def _answered_before(self, one: _Waiting, batch: _Round) -> bool:
        """Whether this repeats a request that has a result, of old or of this very batch."""
        key = one.request.key
        if key is None or one.request.dry_run:
            return False
        result = batch.known.get(key) or batch.results.get(key)
        if result is None:
            return False
        if result.body_hash != one.request.body_hash:
            raise IdempotencyKeyReused(key.key, result.revision)
        batch.answers.append((one, result.response))
        return True

    def _conclude(self, one: _Waiting, decider: Decider, batch: _Round) -> None:
        head = batch.head
        decision = decider.decision(head.revision, one.request.dry_run)
        response = one.request.respond(decision)
        if one.request.dry_run:
            decider.take_back()
            batch.answers.append((one, response))
            return
        if decision.changes:
            self._view.tip = decider.revision
            request = one.request
            commit = sealed(
                head.hash, decider.revision, decider.time, request.actor, request.method,
                request.request_id, decision.changes,
            )  # fmt: skip
            batch.append(decider, commit)
        if one.request.key is not None:
            batch.results[one.request.key] = StoredResult(
                one.request.key,
                one.request.body_hash,
                decision.revision,
                response,
                decider.time + RESULT_SECONDS * 1_000_000,
            )
        batch.answers.append((one, response))

    async def _write(self, transaction: Transaction, batch: _Round) -> None:
        try:
            await transaction.commit(_stored(batch), self._clock.cautious(RESULT_SECONDS))
        except (KnownResults, StoreFull, StoreUnavailable):
            raise
        except Exception as error:  # noqa: BLE001 - a bug does not tell what was written either
            if not isinstance(error, CommitUnknown):
                _log.exception("commit_failed")
            if not await self._settle(batch):
                raise StoreUnavailable from None
        if batch.commits:
            tallies = [decider.tally for decider in batch.deciders]
            self._publish(batch.commits, tallies, batch.head)

    async def _settle(self, batch: _Round) -> bool:
        """Finds out what a failed COMMIT did; answers whether it is committed.

        If that cannot be found out at once, those who wait are told so, and nothing else is written
        until it can. Raises CommitUnknown when the committer is closed meanwhile.
        """
        if not batch.commits:
            # Whether the results are kept or not, a repetition comes to the same.
            return False
        try:
            return await self._is_committed(batch)
        except Exception:  # noqa: BLE001 - whatever it was, it is not known
            self.unknown = True
            self._between.set()
        _log.error("commit_unknown", revision=batch.head.revision)
        _fail([waiting for waiting, _ in batch.answers], CommitUnknown())
        for attempt in itertools.count():
            await asyncio.sleep(_RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)])
            if self._closed:
                break
            try:
                committed = await self._is_committed(batch)
            except Exception as error:  # noqa: BLE001 - as above
                _log.warning("commit_still_unknown", error=str(error))
                if attempt >= _PATIENCE:
                    self._give_up()
                continue
            self.unknown = False
            _log.warning("commit_settled", revision=batch.head.revision, committed=committed)
            return committed
        raise CommitUnknown

    def _give_up(self) -> None:
        """Refuses those who came before it was unknown: the store may not work for long."""
        _fail([*self._interactive, *self._bulk], CommitUnknown(_EARLIER))
        self._interactive.clear()
        self._bulk.clear()

    async def _is_committed(self, batch: _Round) -> bool:
        transaction = await self._store.begin()
        await transaction.rollback()
        head = transaction.head
        if head.hash in (batch.base.hash, batch.head.hash):
            return head.hash == batch.head.hash
        # Others have written since, upon this batch or in its place.
        parts = await self._read_log(Position(batch.base.revision))
        if not parts or head.epoch != batch.base.epoch:
            raise self._forked()
        return parts[0][0].hash == batch.commits[0].hash

    def _forked(self) -> StoreLost:
        self.lost = StoreLost("the store's history is not the one that this server follows")
        return self.lost

    def _publish(self, commits: Sequence[Commit], tallies: Sequence[Tally], head: Head) -> None:
        view = self._view
        view.floor = head.floor
        view.publish(head.revision)
        for tally in tallies:
            view.count(tally)
        self._head = head
        self._feed.floor = head.floor
        self._feed.append(commits)


def _release(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def apply(view: View, commit: Commit) -> Tally:
    """Applies a commit that was decided elsewhere."""
    tally, turns = Tally(), list[Turns]()
    for index, change in enumerate(commit.changes):
        match change.kind:
            case Kind.ENTITY:
                _apply_entity(view, change, commit.revision, index, tally)
            case Kind.RELATIONSHIP:
                _apply_relationship(view, change, commit.revision, index, tally)
            case Kind.COMPACTION:
                assert change.after is not None
                view.floor = int(change.after)
            case Kind.HEALTH:
                turns.append(turns_of(change))
    follow(view, turns, commit.revision)
    for turn in turns:
        tally.healths.subtract(turn.before.tolist())
        tally.healths.update(turn.after.tolist())
    return tally


def _apply_entity(view: View, change: Change, revision: int, index: int, tally: Tally) -> None:
    before = None if change.before is None else codec.decode_entity(change.before)
    after = None if change.after is None else codec.decode_entity(change.after)
    if after is not None and change.after is not None:
        view.put_entity(after, change.after, before, index)
    elif before is not None:
        view.delete_entity(before, revision)
    tally.entities.append((before, after))


def _apply_relationship(
    view: View, change: Change, revision: int, index: int, tally: Tally
) -> None:
    if change.after is not None:
        relationship = codec.decode_relationship(change.after)
        view.put_relationship(relationship, change.after, change.before is None, index)
        if change.before is None:
            tally.relationships.append((relationship.type, 1))
    elif change.before is not None:
        view.delete_relationship(change.id, revision)
        type_ = codec.decode_relationship(change.before).type
        tally.relationships.append((type_, -1))


def _stored(batch: _Round) -> Batch:
    entities: dict[str, EntityRow | None] = {}
    relationships: dict[str, RelationshipRow | None] = {}
    for decider in batch.deciders:
        entities |= decider.entities
        relationships |= decider.relationships
    derived = together([decider.derived for decider in batch.deciders], batch.base.revision)
    return Batch(
        commits=batch.commits,
        head=batch.head,
        entities=[row for row in entities.values() if row is not None],
        deleted_entities=[key for key, row in entities.items() if row is None],
        relationships=[row for row in relationships.values() if row is not None],
        deleted_relationships=[key for key, row in relationships.items() if row is None],
        results=[
            *batch.results.values(),
            *(_question(key) for key in batch.asked - batch.results.keys()),
        ],
        healths=derived.written,
        cleared_healths=derived.cleared,
        restated=derived.restated,
    )


def _question(key: ResultKey) -> StoredResult:
    """A result that has expired already: writing it shows whether there is one that has not."""
    return StoredResult(key, b"", 0, b"", 0)


def _fail(waiting: Sequence[_Waiting], error: RegistryError) -> None:
    for one in waiting:
        if not one.answer.done():
            one.answer.set_exception(error)
