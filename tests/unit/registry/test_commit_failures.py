"""A commit that fails leaves the registry as it was or as it should be, and nobody is misled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyper_registry.model.errors import (
    CommitUnknown,
    IdempotencyKeyReused,
    IdTaken,
    NotServing,
    StoreFull,
    StoreUnavailable,
    TooManyStreams,
)
from hyper_registry.model.rules import new_id
from hyper_registry.registry import committer as committing
from hyper_registry.registry.engine import Engine
from hyper_registry.registry.mutations import (
    Compact,
    CreateEntity,
    CreateRelationship,
    Decision,
    DeleteEntity,
    UpdateEntity,
    WriteRequest,
)
from tests.unit.registry.oracle import Oracle
from tests.unit.registry.stores import (
    BUG_DONE,
    BUG_LOST,
    FULL,
    UNAVAILABLE,
    UNKNOWN_DONE,
    UNKNOWN_LOST,
    TriedStore,
)
from tests.unit.registry.strategies import Resolve, groups
from tests.unit.registry.support import (
    check,
    compare,
    edge,
    entity,
    oracle_of,
    outcomes,
    ready,
    request,
    running,
    submit,
    submit_all,
    write,
)

LOST = {FULL: StoreFull, UNAVAILABLE: StoreUnavailable}
LOST |= {UNKNOWN_LOST: StoreUnavailable, BUG_LOST: StoreUnavailable}


@pytest.fixture
def store() -> TriedStore:
    """A store that can be told to fail."""
    return TriedStore()


@pytest.fixture
async def engine(store: TriedStore) -> AsyncIterator[Engine]:
    """A running engine over that store."""
    async with running(store) as engine:
        yield engine


async def _settled(engine: Engine) -> None:
    async with asyncio.timeout(5):
        while engine.committer.unknown:  # noqa: ASYNC110 - nobody is told
            await asyncio.sleep(0.01)


def create(id_: str, **options: Any) -> WriteRequest:
    """A request that creates an entity."""
    return request(CreateEntity(entity(id_)), **options)


_faults = st.sampled_from(["", "", *LOST, UNKNOWN_DONE, BUG_DONE])


@given(st.lists(st.tuples(groups, _faults), min_size=1, max_size=6))
@settings(max_examples=40)
async def test_random_failures_against_the_oracle(
    history: list[tuple[list[Resolve], str]],
) -> None:
    """Whether a failed commit happened or not, the view, the log and the tables agree on it."""
    store = TriedStore()
    async with running(store) as engine:
        oracle = oracle_of(engine)
        for group, fault in history:
            requests = [resolve(oracle) for resolve in group]
            store.faults.extend([fault] if fault else [])
            answers, made = await submit(engine, requests)
            struck = bool(fault) and not store.faults
            store.faults.clear()
            if not struck:
                compare(oracle, requests, answers, made)
            elif fault in LOST:
                assert {type(answer) for answer in answers} == {LOST[fault]}
            elif _decided(oracle, requests).revision == oracle.revision:
                # What is unknown is only whether a result is kept: to do it again is harmless.
                assert {type(answer) for answer in answers} == {StoreUnavailable}
                oracle = _decided(oracle, requests)
            else:
                compare(oracle, requests, answers, made)
        await check(engine, oracle)


def _decided(oracle: Oracle, requests: list[WriteRequest]) -> Oracle:
    """An oracle that has decided these requests."""
    trial = Oracle()
    trial.states, trial.keys = [*oracle.states], {**oracle.keys}
    for one in requests:
        trial.decide(one, lambda _: new_id())
    return trial


@pytest.mark.parametrize("fault", LOST)
async def test_nothing_is_left_of_a_commit_that_failed(
    store: TriedStore, engine: Engine, fault: str
) -> None:
    """Everyone in the commit gets its error; the view is as before, and the next write works."""
    await ready(engine, "a", "b")
    before = engine.view.visible
    store.faults.append(fault)
    answers = await outcomes(
        engine,
        create("c"),
        request(CreateRelationship(edge("r", "a", "b"))),
        request(UpdateEntity(entity("a", version="2"), ("version",))),
        create("c"),
    )
    assert [type(answer) for answer in answers] == [LOST[fault]] * 4
    assert engine.view.visible == engine.view.tip == before
    assert engine.view.entity("c", before) is None
    assert [*engine.view.living_relationships("a")] == []
    assert await outcomes(engine, create("c")) == [str(before + 1).encode()]
    assert await write(engine, DeleteEntity("a")) == before + 2


@pytest.mark.parametrize("fault", [UNKNOWN_DONE, BUG_DONE])
async def test_a_commit_that_happened_after_all_is_answered(
    store: TriedStore, engine: Engine, fault: str
) -> None:
    """If it can be found out at once that it happened, its requests succeed."""
    store.faults.append(fault)
    assert await outcomes(engine, create("a"), create("b"), create("a")) == [b"2", b"3", _is_taken]
    assert not engine.committer.unknown
    assert engine.view.entity("b", 3) is not None


class _Taken:
    """Equals an IdTaken."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IdTaken)

    __hash__ = None  # type: ignore[assignment]


_is_taken = _Taken()


@pytest.mark.parametrize("fault", [UNKNOWN_DONE, UNKNOWN_LOST])
async def test_writes_stay_closed_until_the_outcome_is_known(
    store: TriedStore, engine: Engine, fault: str
) -> None:
    """Who waits is told that it is not known, reads see the state before, and no write gets in."""
    store.faults.append(fault)
    store.doors_after_fault = 3
    with pytest.raises(CommitUnknown):
        await engine.committer.submit(create("a", key="k", body=b"1"))
    assert engine.committer.unknown
    assert engine.view.visible == 1
    with pytest.raises(CommitUnknown):
        await engine.committer.submit(create("b"))
    await _settled(engine)
    happened = fault == UNKNOWN_DONE
    assert engine.view.visible == 1 + happened
    assert (engine.view.entity("a", 2) is not None) == happened
    # The same key answers the first result, or does it now.
    assert await outcomes(engine, create("a", key="k", body=b"1")) == [b"2"]
    assert await outcomes(engine, create("b")) == [b"3"]


async def test_who_queues_meanwhile_is_decided_afterwards(
    store: TriedStore, engine: Engine
) -> None:
    """A request that was queued before the trouble waits for the truth and is decided by it."""
    store.gate = asyncio.Event()
    store.faults.append(UNKNOWN_DONE)
    store.doors_after_fault = 2
    first = asyncio.create_task(engine.committer.submit(create("a")))
    await store.at_gate.wait()
    second = asyncio.create_task(engine.committer.submit(create("a")))
    third = asyncio.create_task(engine.committer.submit(create("b")))
    await asyncio.sleep(0)
    store.gate.set()
    with pytest.raises(CommitUnknown):
        await first
    with pytest.raises(IdTaken):
        await second
    assert await third == b"3"


async def test_who_queues_is_told_when_the_trouble_lasts(store: TriedStore, engine: Engine) -> None:
    """Who was queued before the trouble does not wait for as long as that lasts."""
    store.gate = asyncio.Event()
    store.faults.append(UNKNOWN_LOST)
    store.doors_after_fault = 1_000_000
    first = asyncio.create_task(engine.committer.submit(create("a")))
    await store.at_gate.wait()
    second = asyncio.create_task(engine.committer.submit(create("b")))
    await asyncio.sleep(0)
    store.gate.set()
    for waiting in (first, second):
        with pytest.raises(CommitUnknown):
            await asyncio.wait_for(waiting, 5)
    store.closed_doors = 0
    await _settled(engine)
    assert await outcomes(engine, create("b")) == [b"2"]


async def test_closing_ends_the_search_for_the_outcome(store: TriedStore) -> None:
    """A server that stops does not wait for a store that cannot tell; the next one knows."""
    async with running(store) as engine:
        store.faults.append(UNKNOWN_DONE)
        store.doors_after_fault = 1_000_000
        with pytest.raises(CommitUnknown):
            await engine.committer.submit(create("a"))
    store.closed_doors = 0
    async with running(store) as engine:
        assert engine.view.entity("a", 2) is not None


async def test_a_refusal_is_told_only_when_its_cause_is_durable(
    store: TriedStore, engine: Engine
) -> None:
    """An id that is taken by a request whose commit fails was never taken."""
    store.gate = asyncio.Event()
    store.faults.append(FULL)
    tasks = [asyncio.create_task(engine.committer.submit(create("a"))) for _ in range(2)]
    await store.at_gate.wait()
    await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)
    store.gate.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(answer) for answer in answers] == [StoreFull, StoreFull]


async def test_a_repeated_key_answers_the_first_result(store: TriedStore, engine: Engine) -> None:
    """A repetition gets the first answer even where, decided anew, it would be refused (C6)."""
    assert await outcomes(engine, create("a", key="k", body=b"1")) == [b"2"]
    assert await outcomes(engine, create("a", key="k", body=b"1")) == [b"2"]
    assert await write(engine, DeleteEntity("a")) == 3
    assert await outcomes(engine, create("a", key="k", body=b"1")) == [b"2"]
    assert engine.view.visible == 3
    [reused] = await outcomes(engine, create("c", key="k", body=b"2"))
    assert isinstance(reused, IdempotencyKeyReused)
    assert reused.metadata == {"idempotency_key": "k", "revision": "2"}
    assert engine.view.entity("c", 3) is None


async def test_keys_within_one_commit(store: TriedStore, engine: Engine) -> None:
    """Repetitions that arrive together join; another body among them is refused."""
    answers = await outcomes(
        engine,
        create("a", key="k", body=b"1"),
        create("a", key="k", body=b"1"),
        create("b", key="k", body=b"2"),
        create("c"),
    )
    assert answers[:2] == [b"2", b"2"]
    assert isinstance(answers[2], IdempotencyKeyReused)
    assert answers[3] == b"3"
    assert len(store.batches[-1].commits) == 2


async def test_known_results_leave_the_others_alone(store: TriedStore, engine: Engine) -> None:
    """A commit that finds old results is decided again without them, and nothing is done twice."""
    await outcomes(engine, create("a", key="k", body=b"1"))
    await write(engine, DeleteEntity("a"))
    answers = await outcomes(
        engine,
        create("b"),
        create("a", key="k", body=b"1"),
        # Refused beside the repetition that was about to create it, allowed without.
        create("a"),
        create("c", key="k", body=b"other"),
    )
    assert answers[:3] == [b"4", b"2", b"5"]
    assert isinstance(answers[3], IdempotencyKeyReused)
    assert engine.view.visible == 5


async def test_only_successes_are_remembered(engine: Engine) -> None:
    """A refused request leaves its key free: the cause removed, the same request succeeds."""
    await ready(engine, "a")
    [refused] = await outcomes(engine, create("a", key="k", body=b"1"))
    assert isinstance(refused, IdTaken)
    await write(engine, DeleteEntity("a"))
    assert await outcomes(engine, create("a", key="k", body=b"1")) == [b"4"]
    assert await outcomes(engine, create("a", key="k", body=b"1")) == [b"4"]


async def test_no_change_is_remembered_too(store: TriedStore, engine: Engine) -> None:
    """A request with a key that changes nothing has a result as well, and no revision."""
    same = UpdateEntity(entity("ai-ml", type_="feature"), ())
    assert await outcomes(engine, request(same, key="k", body=b"1")) == [b"1"]
    await ready(engine, "a")
    assert await outcomes(engine, request(same, key="k", body=b"1")) == [b"1"]
    assert store.batches[1].commits == []


async def test_a_key_is_free_again_when_its_result_has_expired() -> None:
    """After 24 hours a key may be used for something else."""
    now = [1_000_000_000 * 10**9]
    async with running(TriedStore(), clock=lambda: now[0]) as engine:
        assert await outcomes(engine, create("a", key="k", body=b"1")) == [b"2"]
        now[0] += 24 * 3600 * 10**9 - 10**9
        assert await outcomes(engine, create("a", key="k", body=b"1")) == [b"2"]
        now[0] += 2 * 10**9
        assert await outcomes(engine, create("b", key="k", body=b"2")) == [b"3"]


async def test_a_dry_run_ignores_keys(engine: Engine) -> None:
    """A dry run neither uses nor leaves a result."""
    assert await outcomes(engine, create("a", key="k", body=b"1", dry_run=True)) == [b"1"]
    assert await outcomes(engine, create("b", key="k", body=b"2")) == [b"2"]
    [refused] = await outcomes(engine, create("b", key="k", body=b"2", dry_run=True))
    assert isinstance(refused, IdTaken)


async def test_a_bug_in_one_request_is_its_own(engine: Engine) -> None:
    """What a request's `respond` raises is told to its caller; the others are committed."""

    def broken(_decision: Decision) -> bytes:
        raise ZeroDivisionError

    answers = await outcomes(
        engine,
        create("a"),
        WriteRequest([CreateEntity(entity("b"))], broken, "Write"),
        create("c"),
    )
    assert answers[0::2] == [b"2", b"3"]
    assert isinstance(answers[1], ZeroDivisionError)
    assert engine.view.entity("b", 3) is None


async def test_a_compaction_keeps_its_floor_beside_other_writes(engine: Engine) -> None:
    """The floor that a compaction sets stays whatever is committed together with it."""
    await ready(engine, "a")
    await outcomes(engine, request(Compact(2)), create("b"), request(Compact(1)), create("c"))
    assert engine.view.floor == engine.committer.head.floor == engine.feed.floor == 2
    assert engine.view.visible == 5


async def test_a_request_is_taken_back_while_it_waits(store: TriedStore, engine: Engine) -> None:
    """A caller that leaves before its request is taken up leaves nothing behind."""
    store.gate = asyncio.Event()
    first = asyncio.create_task(engine.committer.submit(create("a")))
    await store.at_gate.wait()
    waiting = [asyncio.create_task(engine.committer.submit(create(id_))) for id_ in "bcd"]
    await asyncio.sleep(0)
    waiting[1].cancel()
    await asyncio.sleep(0)
    store.gate.set()
    assert await asyncio.gather(first, *waiting, return_exceptions=True) == [
        b"2", b"3", _is_cancelled, b"4",
    ]  # fmt: skip
    assert engine.view.entity("c", engine.view.visible) is None


class _Cancelled:
    """Equals a CancelledError."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, asyncio.CancelledError)

    __hash__ = None  # type: ignore[assignment]


_is_cancelled = _Cancelled()


async def test_leaving_while_it_commits_takes_nothing_back(
    store: TriedStore, engine: Engine
) -> None:
    """A caller that leaves when its request is being committed misses the answer only."""
    store.gate = asyncio.Event()
    tasks = [asyncio.create_task(engine.committer.submit(create(id_))) for id_ in "ab"]
    await store.at_gate.wait()
    tasks[0].cancel()
    await asyncio.sleep(0)
    store.gate.set()
    assert await tasks[1] == b"3"
    assert tasks[0].cancelled()
    assert engine.view.entity("a", 3) is not None


async def test_leaving_while_a_large_request_is_decided(engine: Engine) -> None:
    """A large request whose caller leaves half-way and that is refused then disturbs nobody."""
    large = [CreateEntity(entity(f"e{number}")) for number in range(900)]
    refused = asyncio.create_task(
        engine.committer.submit(request(*large, CreateEntity(entity("e0"))))
    )
    other = asyncio.create_task(engine.committer.submit(create("b")))
    # It is decided in slices; the loop turns between them.
    while engine.view.generation.entities.rows.length < 40:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert not refused.done()
    refused.cancel()
    assert await other == b"2"
    assert refused.cancelled()


async def test_the_queue_is_limited(
    store: TriedStore, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who comes when too many wait is told so; those who wait are served."""
    monkeypatch.setattr(committing, "MAX_QUEUE", 3)
    store.gate = asyncio.Event()
    first = asyncio.create_task(engine.committer.submit(create("first")))
    await store.at_gate.wait()
    waiting = [asyncio.create_task(engine.committer.submit(create(id_))) for id_ in "abc"]
    await asyncio.sleep(0)
    with pytest.raises(TooManyStreams) as caught:
        await engine.committer.submit(create("d"))
    assert caught.value.metadata == {"limit": "max_queued_writes", "maximum": "3"}
    # What is loaded in bulk has a queue of its own.
    bulk = asyncio.create_task(engine.committer.submit(create("bulk", bulk=True)))
    await asyncio.sleep(0)
    store.gate.set()
    assert await asyncio.gather(first, *waiting, bulk) == [b"2", b"3", b"4", b"5", b"6"]


async def test_what_waits_is_limited_in_bytes(
    store: TriedStore, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few that are large are as much as many, until they are answered or have left."""
    monkeypatch.setattr(committing, "MAX_QUEUE_BYTES", 100)
    committer = engine.committer
    store.gate = asyncio.Event()
    first = asyncio.create_task(committer.submit(replace(create("first"), size=50)))
    await store.at_gate.wait()
    leaving = asyncio.create_task(committer.submit(replace(create("leaving"), size=50)))
    await asyncio.sleep(0)
    with pytest.raises(TooManyStreams) as caught:
        await committer.submit(replace(create("a"), size=1))
    assert caught.value.metadata == {"limit": "max_queued_bytes", "maximum": "100"}
    bulk = asyncio.create_task(committer.submit(replace(create("bulk", bulk=True), size=100)))
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    waiting = asyncio.create_task(committer.submit(replace(create("b"), size=50)))
    await asyncio.sleep(0)
    store.gate.set()
    assert [*await asyncio.gather(first, waiting, bulk)] == [b"2", b"3", b"4"]
    assert await committer.submit(replace(create("c"), size=100)) == b"5"


async def test_the_small_go_before_the_bulk(store: TriedStore, engine: Engine) -> None:
    """A commit takes what people wait for, and one message of a bulk load at most."""
    store.gate = asyncio.Event()
    tasks = [asyncio.create_task(engine.committer.submit(create("first")))]
    await store.at_gate.wait()
    for number in range(3):
        bulk = create(f"bulk{number}", bulk=True)
        tasks.append(asyncio.create_task(engine.committer.submit(bulk)))
        tasks.append(asyncio.create_task(engine.committer.submit(create(f"small{number}"))))
    await asyncio.sleep(0)
    store.gate.set()
    answers = await asyncio.gather(*tasks)
    assert answers == [b"2", b"6", b"3", b"7", b"4", b"8", b"5"]
    assert [len(batch.commits) for batch in store.batches[1:]] == [1, 4, 1, 1]


async def test_closing_answers_what_is_queued(store: TriedStore) -> None:
    """A server that stops commits what has been accepted and refuses what comes later."""
    async with running(store) as engine:
        store.gate = asyncio.Event()
        tasks = [asyncio.create_task(engine.committer.submit(create("a")))]
        await store.at_gate.wait()
        tasks += [
            asyncio.create_task(engine.committer.submit(create(id_, bulk=id_ == "c")))
            for id_ in "bc"
        ]
        await asyncio.sleep(0)
        closing = asyncio.create_task(engine.aclose())
        await asyncio.sleep(0)
        with pytest.raises(NotServing):
            await engine.committer.submit(create("d"))
        store.gate.set()
        await closing
        assert await asyncio.gather(*tasks) == [b"2", b"3", b"4"]
    async with running(store) as engine:
        assert engine.view.visible == 4


async def test_a_store_that_cannot_begin(store: TriedStore, engine: Engine) -> None:
    """While the store does not let anyone write, writes fail, reads go on, and it heals."""
    store.closed_doors = 2
    for id_ in ("a", "b"):
        with pytest.raises(StoreUnavailable):
            await engine.committer.submit(create(id_))
    assert engine.view.entity("ai-ml", engine.view.visible) is not None
    assert await outcomes(engine, create("a")) == [b"2"]


async def test_time_never_goes_back() -> None:
    """Commit times rise although the clock stands still or is set back."""
    now = [2_000_000_000 * 10**9]
    async with running(TriedStore(), clock=lambda: now[0]) as engine:
        oracle = oracle_of(engine)
        for step in (0, 0, -(10**12), 10**6):
            now[0] += step
            await submit_all(engine, oracle, [create(f"e{len(oracle.states)}") for _ in "ab"])
        await check(engine, oracle)
