"""The validators at work: servers that break one promise each, and who objects.

Each build has one component replaced by one that makes a plausible mistake. Exactly the validator
of the promise that it breaks must object.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import pytest

from hyper_registry import app
from hyper_registry.model import revision
from hyper_registry.model.errors import HistoryChanged, StoreFull
from hyper_registry.model.revision import Commit
from hyper_registry.query import listing, tokens
from hyper_registry.query.graph import GraphPage, GraphReader
from hyper_registry.query.tokens import PageToken, ResumeToken, open_page, open_resume
from hyper_registry.query.traversal import UNLIMITED
from hyper_registry.registry import committer, engine
from hyper_registry.registry.committer import Committer
from hyper_registry.registry.engine import Engine, ReadOptions
from hyper_registry.registry.feed import Feed
from hyper_registry.registry.mutations import WriteRequest
from hyper_registry.registry.view import View
from hyper_registry.services import graph_service
from hyper_registry.services.calls import Answer, Call
from hyper_registry.services.entity_service import EntityService
from hyper_registry.services.registry_service import RegistryService
from hyper_registry.store.memory import MemoryDisk, MemoryStore
from hyper_registry.watch import hub as hub_module
from hyper_registry.watch.hub import WatchHub
from hyper_registry.watch.stream import Watch
from nexus_registry.conformance.auditing import AuditLog
from nexus_registry.conformance.history import History, WatchStream
from nexus_registry.conformance.validators import VALIDATORS, judge
from nexus_registry.conformance.workload import Workload, World
from ose.registry.v1 import entity_service_pb2, registry_service_pb2
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.watch_service_pb2 import EventType, WatchRequest, WatchResponse
from tests.support.servers import serving
from tests.support.store_log import read_log

SECONDS = 0.8
ATTEMPTS = 4
NAMESPACE = "e-"

SEEN_IN_STORE = {
    "loses_commits_in_a_crash",
    "stops_the_clock",
    "reads_a_little_behind",
    "takes_any_token_for_its_own",
}
"""What reaches the audit log too, so that more promises than its own look broken from outside."""

Patch = pytest.MonkeyPatch
Break = Callable[[Patch], None]
BUILDS: list[tuple[str, str, Break, bool]] = []


def breaks(promise: str, hops: bool = True) -> Callable[[Break], Break]:
    """A build that breaks this promise. Without `hops` no watcher of the workload resumes."""

    def add(build: Break) -> Break:
        BUILDS.append((promise, build.__name__, build, hops))
        return build

    return add


async def run(patch: Patch, seed: int, hops: bool, from_store: bool) -> dict[str, list[str]]:
    """A run of the workload against what `patch` has made of the server, judged.

    The truth is the audit log, as for any server that is asked from outside, or `from_store` what
    the store has when the server is gone.
    """
    # The loop's debug mode halves what happens at the same time.
    asyncio.get_running_loop().set_debug(False)
    disk = MemoryDisk()
    patch.setattr(app, "open_store", lambda _url, _migrates: Store.type(disk))
    async with serving() as running:
        audit = AuditLog(running.stubs, "" if from_store else NAMESPACE)
        await audit.open()
        begin, world = (0, World()) if from_store else (audit.begin, World(NAMESPACE))
        workload = Workload(running.stubs, seed, "run", world, begin, before_compaction=audit.read)
        await workload.run(SECONDS, hops)
        await audit.read()
    workload.history.log = audit.log()
    if from_store:
        store = MemoryStore(disk)
        await store.open()
        workload.history.log = await read_log(store)
        await store.aclose()
    return judge(workload.history)


class Store:
    """Which store a server has; builds replace it."""

    type: Callable[[MemoryDisk], MemoryStore] = MemoryStore


# Consistency


@breaks("C1")
def loses_commits_in_a_crash(patch: Patch) -> None:
    """The store says OK before anything is on the disk: the last revisions go with the process."""

    class Unsynced(MemoryStore):
        def __init__(self, disk: MemoryDisk) -> None:
            super().__init__(disk)
            self._lost = disk

        async def aclose(self) -> None:
            await super().aclose()
            disk = self._lost
            del disk.log[-3:]
            last = disk.log[-1]
            disk.head = replace(disk.head, revision=last.revision, time=last.time, hash=last.hash)

    patch.setattr(Store, "type", Unsynced)


@breaks("C1")
def shows_what_is_not_committed(patch: Patch) -> None:
    """A write is seen before its commit, which then fails."""
    ghosts: dict[str, bytes] = {}
    write, find = Committer._write, View.entity
    chance = random.Random(1)

    async def failing(self: Committer, transaction: Any, batch: Any) -> None:
        if batch.head.revision > 9 and batch.commits and chance.random() < 0.3:
            for commit in batch.commits:
                ghosts.update((c.id, c.after) for c in commit.changes if c.after and c.id[0] == "e")
            await transaction.rollback()
            transaction.rollback = _nothing
            raise StoreFull
        await write(self, transaction, batch)

    def entity(self: View, entity_id: str, revision: int) -> bytes | None:
        return ghosts.pop(entity_id, None) or find(self, entity_id, revision)

    patch.setattr(Committer, "_write", failing)
    patch.setattr(View, "entity", entity)


async def _nothing() -> None:
    """Stands for a rollback that has been made."""


@breaks("C2")
def splits_batches(patch: Patch) -> None:
    """Write commits its mutations one by one."""
    write = RegistryService.write

    async def one_by_one(
        self: RegistryService, request: registry_service_pb2.WriteRequest, call: Call
    ) -> Answer:
        if request.idempotency_key or request.preconditions or request.dry_run:
            return await write(self, request, call)
        joined = registry_service_pb2.WriteResponse()
        for mutation in request.mutations:
            single = registry_service_pb2.WriteRequest(mutations=[mutation])
            answer = await write(self, single, call)
            assert isinstance(answer, bytes)
            part = registry_service_pb2.WriteResponse.FromString(answer)
            joined.revision = part.revision
            joined.results.extend(part.results)
        return joined

    patch.setattr(RegistryService, "write", one_by_one)


@breaks("C3")
def mixes_revisions_in_a_batch(patch: Patch) -> None:
    """BatchGetEntities takes every other entity of some revisions ago."""

    async def batch_get(
        self: EntityService, request: entity_service_pb2.BatchGetEntitiesRequest, call: Call
    ) -> Answer:
        options = ReadOptions(request.at_revision, request.min_revision)
        revision = await self._engine.read_revision(options, call.remaining())
        answer = entity_service_pb2.BatchGetEntitiesResponse(revision=revision)
        for number, id_ in enumerate(request.ids):
            record = self._engine.view.entity(id_, max(2, revision - number % 2 * 6))
            if record is not None:
                answer.entities.append(Entity.FromString(record))
        return answer

    patch.setattr(EntityService, "batch_get_entities", batch_get)


@breaks("C3")
def stops_the_clock(patch: Patch) -> None:
    """Commit times do not rise: the clock's word is taken as it is."""
    sealed = revision.sealed

    def unordered(before: bytes, number: int, time: int, *rest: Any) -> Commit:
        return sealed(before, number, time - time % 500_000, *rest)

    patch.setattr(committer, "sealed", unordered)


@breaks("C4")
def ignores_at_revision(patch: Patch) -> None:
    """GetEntity answers the present, whatever was asked."""
    get = EntityService.get_entity

    async def present(
        self: EntityService, request: entity_service_pb2.GetEntityRequest, call: Call
    ) -> Answer:
        if 0 < request.at_revision < self._engine.view.visible:
            request.at_revision = 0
        return await get(self, request, call)

    patch.setattr(EntityService, "get_entity", present)


@breaks("C4")
def reads_a_little_behind(patch: Patch) -> None:
    """Reads are of a replica that lags."""
    read_revision = Engine.read_revision

    async def behind(self: Engine, options: ReadOptions, seconds: float | None) -> int:
        revision = await read_revision(self, options, seconds)
        return revision if options.at_revision else max(2, self.view.floor, revision - 2)

    patch.setattr(Engine, "read_revision", behind)


@breaks("C5")
def goes_on_at_another_revision(patch: Patch) -> None:
    """The second page of a listing is of the present."""

    def renewed(token: str, kind: Any, digest: str, history: Any) -> PageToken:
        return replace(open_page(token, kind, digest, history), revision=history.view.visible)

    patch.setattr(listing, "open_page", renewed)


@breaks("C6")
def forgets_idempotency_keys(patch: Patch) -> None:
    """Every call is a new one."""
    _rewrite_requests(patch, lambda request: replace(request, key=None))


@breaks("C7")
def ignores_expected_revisions(patch: Patch) -> None:
    """Whoever writes last wins."""

    def unconditional(request: WriteRequest) -> WriteRequest:
        mutations = [
            replace(mutation, expected_revision=0)  # type: ignore[type-var]
            if hasattr(mutation, "expected_revision")
            else mutation
            for mutation in request.mutations
        ]
        return replace(request, mutations=mutations, preconditions=())

    _rewrite_requests(patch, unconditional)


def _rewrite_requests(patch: Patch, change: Callable[[WriteRequest], WriteRequest]) -> None:
    submit = Committer.submit

    async def changed(self: Committer, request: WriteRequest) -> bytes:
        return await submit(self, change(request))

    patch.setattr(Committer, "submit", changed)


# Watch


class Tampered:
    """A watch whose messages are changed on their way."""

    def __init__(
        self, watch: Watch, change: Callable[[WatchResponse], Iterable[WatchResponse]]
    ) -> None:
        self._watch = watch
        self._change = change
        self._ready: deque[bytes] = deque()

    async def __aenter__(self) -> Self:
        await self._watch.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._watch.__aexit__(kind, error, traceback)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not self._ready:
            message = WatchResponse.FromString(await anext(self._watch))
            self._ready.extend(m.SerializeToString() for m in self._change(message))
        return self._ready.popleft()


def _tamper(
    patch: Patch,
    change: Callable[[WatchHub, WatchResponse], Iterable[WatchResponse]] = lambda _, m: [m],
    request: Callable[[WatchHub, WatchRequest], None] = lambda _, __: None,
) -> None:
    """Changes requests before the hub sees them, and messages before the caller does."""
    open_ = WatchHub.open

    async def tampered(self: WatchHub, asked: WatchRequest) -> Any:
        request(self, asked)
        return Tampered(await open_(self, asked), lambda message: change(self, message))

    patch.setattr(WatchHub, "open", tampered)


@breaks("W1")
def turns_messages_around(patch: Patch) -> None:
    """The events of a message come last first."""

    def around(_: WatchHub, message: WatchResponse) -> list[WatchResponse]:
        events = [*message.events][::-1]
        del message.events[:]
        message.events.extend(events)
        return [message]

    _tamper(patch, around)


@breaks("W2")
def repeats_events(patch: Patch) -> None:
    """The last event of a message comes twice."""

    def twice(_: WatchHub, message: WatchResponse) -> list[WatchResponse]:
        message.events.extend(message.events[-1:])
        return [message]

    _tamper(patch, twice)


@breaks("W3", hops=False)
def drops_changes(patch: Patch) -> None:
    """The feed hands the log on without one change in every seventh revision."""

    class Leaky(Feed):
        def append(self, commits: Sequence[Commit]) -> None:
            super().append(
                [
                    commit if commit.revision % 7 else replace(commit, changes=commit.changes[:-1])
                    for commit in commits
                ]
            )

    patch.setattr(engine, "Feed", Leaky)


@breaks("W3")
def forgets_previous_values(patch: Patch) -> None:
    """`include_previous` is passed over."""

    def forget(_: WatchHub, request: WatchRequest) -> None:
        request.include_previous = False

    _tamper(patch, request=forget)


@breaks("W4", hops=False)
def splits_revisions(patch: Patch) -> None:
    """The last event of a revision comes in a message of its own."""

    def split(hub: WatchHub, message: WatchResponse) -> list[WatchResponse]:
        events = [*message.events]
        if message.more or len(events) < 2 or events[-1].revision != events[-2].revision:
            return [message]
        before = events[-1].revision - 1
        token = ResumeToken(hub._registry.lineage(before), before).encode()
        part = WatchResponse(events=events[:-1], revision=before, resume_token=token)
        del message.events[:-1]
        return [part, message]

    _tamper(patch, split)


@breaks("W5")
def repeats_on_resumption(patch: Patch) -> None:
    """A resumed stream begins with the revision that the token had delivered."""
    _tamper(patch, request=_resumed(lambda revision: revision))


@breaks("W5")
def skips_on_resumption(patch: Patch) -> None:
    """A resumed stream begins one revision too late."""
    _tamper(patch, request=_resumed(lambda revision: revision + 2))


def _resumed(start: Callable[[int], int]) -> Callable[[WatchHub, WatchRequest], None]:
    def change(hub: WatchHub, request: WatchRequest) -> None:
        if request.resume_token:
            token = open_resume(request.resume_token, hub._registry.epoch)
            request.start_revision = start(token.revision)

    return change


@breaks("W6", hops=False)
def says_too_much(patch: Patch) -> None:
    """A bookmark comes before the events that it covers."""

    def ahead(_: WatchHub, message: WatchResponse) -> list[WatchResponse]:
        if not message.events or message.more:
            return [message]
        bookmark = WatchResponse(
            revision=message.revision,
            resume_token=message.resume_token,
            mark=WatchResponse.MARK_BOOKMARK,
        )
        return [bookmark, message]

    _tamper(patch, ahead)


@breaks("W7")
def stalls(patch: Patch) -> None:
    """After some messages a stream says only that it is alive, and where it was."""
    counts: dict[int, int] = {}
    said: dict[int, WatchResponse] = {}
    open_ = WatchHub.open

    async def stalling(self: WatchHub, asked: WatchRequest) -> Any:
        number = len(counts)
        counts[number] = 0

        def change(message: WatchResponse) -> list[WatchResponse]:
            counts[number] += 1
            if counts[number] <= 12 or number not in said:
                if not message.more:
                    said[number] = message
                return [message]
            return [
                WatchResponse(
                    revision=said[number].revision,
                    resume_token=said[number].resume_token,
                    mark=WatchResponse.MARK_BOOKMARK,
                )
            ]

        return Tampered(await open_(self, asked), change)

    patch.setattr(WatchHub, "open", stalling)


@breaks("W8")
def begins_where_it_can(patch: Patch) -> None:
    """A compacted start is moved to the oldest revision, in silence."""

    def move(hub: WatchHub, request: WatchRequest) -> None:
        if request.start_revision:
            request.start_revision = max(request.start_revision, hub._registry.feed.floor + 1)

    _tamper(patch, request=move)


@breaks("W9")
def does_not_wait(patch: Patch) -> None:
    """A start in the future is taken for now."""

    def now(hub: WatchHub, request: WatchRequest) -> None:
        if request.start_revision:
            request.start_revision = min(request.start_revision, hub.revision + 1)

    _tamper(patch, request=now)


@breaks("W10")
def mistakes_new_matches(patch: Patch) -> None:
    """What starts to match is an update, as it is in the log."""

    def as_logged(_: WatchHub, message: WatchResponse) -> list[WatchResponse]:
        for event in message.events:
            if event.type == EventType.EVENT_TYPE_CREATED and (
                event.entity.create_revision != event.revision
            ):
                event.type = EventType.EVENT_TYPE_UPDATED
        return [message]

    _tamper(patch, as_logged)


@breaks("W11")
def leaves_out_of_snapshots(patch: Patch) -> None:
    """A snapshot lacks the first entity."""

    def without(_: WatchHub, message: WatchResponse) -> list[WatchResponse]:
        del message.entities[:1]
        return [message]

    _tamper(patch, without)


@breaks("W12")
def cuts_off_who_asked_for_a_reset(patch: Patch) -> None:
    """`reset_on_compaction` is passed over."""

    def pass_over(_: WatchHub, request: WatchRequest) -> None:
        request.reset_on_compaction = False

    _tamper(patch, request=pass_over)


@breaks("W12")
def resets_for_nothing(patch: Patch) -> None:
    """A stream that may be reset is, some time, although everything is held."""
    next_of_log = Watch._next_of_log
    counts: dict[Watch, int] = {}

    async def sometimes(self: Watch) -> bytes:
        counts[self] = counts.get(self, 0) + 1
        if self._resets and counts[self] == 15:
            return self._reset()
        return await next_of_log(self)

    patch.setattr(Watch, "_next_of_log", sometimes)


@breaks("W13")
def takes_any_token_for_its_own(patch: Patch) -> None:
    """A resume token is a revision, and nothing else is looked at."""

    def careless(token: str, _epoch: str, digest: str = "") -> ResumeToken:
        _, values = tokens._decode(tokens.RESUME_FIELD, token)
        return ResumeToken(values[0], values[1], digest)

    patch.setattr(hub_module, "open_resume", careless)
    patch.setattr(ResumeToken, "check", lambda *_: None)


@breaks("W13")
def loses_its_own_history(patch: Patch) -> None:
    """Who comes back is told that the history is another one, and it is not."""
    open_ = WatchHub.open

    async def forgetful(self: WatchHub, asked: WatchRequest) -> Any:
        if asked.resume_token:
            raise HistoryChanged("", self._registry.epoch)
        return await open_(self, asked)

    patch.setattr(WatchHub, "open", forgetful)


# Graph


@breaks("G1")
def says_complete(patch: Patch) -> None:
    """An answer that was cut is called complete."""
    wire = graph_service._wire

    def boast(page: GraphPage) -> bytes:
        return wire(
            replace(
                page,
                complete=True,
                incomplete_reason=type(page.incomplete_reason)(0),
                incomplete_limit=0,
                next_page_token="",
            )
        )

    patch.setattr(graph_service, "_wire", boast)


@breaks("G3")
def walks_an_old_graph(patch: Patch) -> None:
    """The graph is walked as it was some revisions ago, and called the present's."""
    answer = GraphReader.answer

    async def old(
        self: GraphReader, question: Any, limits: Any, revision: int, page_token: str = ""
    ) -> GraphPage:
        view = self._history.view
        past = max(view.floor + 1, revision - 6)
        whole = limits.nodes == UNLIMITED
        if page_token or not whole or view.entity(question.root_id, past) is None:
            return await answer(self, question, limits, revision, page_token)
        return replace(await answer(self, question, limits, past), revision=revision)

    patch.setattr(GraphReader, "answer", old)


@pytest.mark.parametrize(
    ("promise", "build", "hops"),
    [pytest.param(p, build, hops, id=f"{p}-{name}") for p, name, build, hops in BUILDS],
)
async def test_the_right_validator_objects(
    promise: str, build: Break, hops: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server with one broken component: the validator of its promise objects, and no other."""
    build(monkeypatch)
    for seed in range(1, ATTEMPTS + 1):
        found = await run(monkeypatch, seed, hops, build.__name__ in SEEN_IN_STORE)
        assert set(found) <= {promise}, found
        if found:
            return
    raise AssertionError(f"{promise} was broken {ATTEMPTS} times, and nobody objected")


def test_silence_is_objected_to() -> None:
    """A stream that says nothing for much longer than its interval: W6, whatever it said before."""
    message = WatchResponse(revision=3, resume_token="t", mark=WatchResponse.MARK_BOOKMARK)
    stream = WatchStream("one", WatchRequest(start_revision=4), 0.0)
    stream.received = [(number / 5, message) for number in range(10)]
    stream.ended = 2.0
    history = History(streams=[stream], interval=0.2)
    assert judge(history) == {}
    stream.ended = 9.0
    assert set(judge(history)) == {"W6"}


def test_every_promise_has_a_broken_build() -> None:
    """No validator goes without being shown to object."""
    assert {promise for promise, *_ in BUILDS} == set(VALIDATORS)
