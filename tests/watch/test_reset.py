"""Streams that fall behind compaction and begin anew, and streams that begin at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from hyper_registry.model.errors import (
    HistoryChanged,
    InvalidArgument,
    NotServing,
    RevisionCompacted,
    TokenInvalid,
)
from hyper_registry.query.tokens import ResumeToken
from hyper_registry.store.memory import MemoryDisk
from hyper_registry.watch.hub import Limits
from hyper_registry.watch.stream import Watch
from ose.registry.v1.watch_service_pb2 import WatchRequest, WatchResponse
from tests.watch.world import (
    CREATED,
    World,
    brief,
    create,
    is_silent,
    link,
    of_feature,
    receive,
    request,
    until,
    world,
)

RESET = WatchResponse.MARK_RESET
SNAPSHOT_END = WatchResponse.MARK_SNAPSHOT_END
SERVICES = {"types": ["service"]}
NOTHING_KEPT = Limits(cache_bytes=1)
"""Of the past there is only the log: who is behind a compaction has lost it."""


def resetting(start: int | str | None = None, **fields: Any) -> WatchRequest:
    """A request that asks for resets."""
    return request(start, reset_on_compaction=True, **fields)


def at(micros: int) -> Timestamp:
    """A time as a request has it."""
    stamp = Timestamp()
    stamp.FromMicroseconds(micros)
    return stamp


def now() -> int:
    """The time in microseconds."""
    return time.time_ns() // 1000


async def past(micros: int) -> None:
    """Waits until a time has passed."""
    await asyncio.sleep(max(0, micros - now()) / 1e6 + 0.002)


@pytest.fixture
async def w() -> AsyncIterator[World]:
    """A server that keeps nothing of the past but its log."""
    async with world(window_bytes=1, limits=NOTHING_KEPT) as made:
        yield made


async def renewed(watch: Watch) -> tuple[list[WatchResponse], set[str]]:
    """The messages from RESET to the end of the snapshot, and the ids that the snapshot has."""
    messages = [await receive(watch)]
    while messages[-1].mark != SNAPSHOT_END:
        messages.append(await receive(watch))
    assert messages[0].mark == RESET
    assert not any(message.events for message in messages)
    assert all(m.more and not m.revision and not m.resume_token for m in messages[:-1])
    assert all(not m.mark for m in messages[1:-1])
    resources: list[Any] = [r for m in messages for r in (*m.entities, *m.relationships)]
    assert len({one.id for one in resources}) == len(resources)
    return messages, {one.id for one in resources}


async def test_w12_a_stream_that_falls_behind_resets(w: World) -> None:
    """RESET, what matches now, its end, the changes after it: no gap, and nothing twice."""
    watch = await w.hub.open(resetting(w.revision + 1, entities=SERVICES))
    plain = await w.hub.open(request(w.revision + 1, entities=SERVICES))
    await w.create("a")
    for each in (watch, plain):
        assert brief(await until(each, w.revision)) == [(CREATED, w.revision, "a")]
    for name in "bcd":
        await w.create(name)
    await w.delete("b")
    await w.create("p", "plugin")
    floor = await w.engine.compact(w.revision, "me", "")
    last = await w.create("e")
    with pytest.raises(RevisionCompacted):
        await receive(plain)
    messages, ids = await renewed(watch)
    assert ids == {"a", "c", "d", "e"}
    assert messages[-1].revision == last > floor
    new = [await w.create(name) for name in "fg"]
    assert brief(await until(watch, new[-1])) == [(CREATED, new[0], "f"), (CREATED, new[1], "g")]
    # It goes on from any of its tokens as from those of any other stream.
    resumed = await w.hub.open(request(messages[-1].resume_token, entities=SERVICES))
    assert brief(await until(resumed, new[-1])) == [(CREATED, new[0], "f"), (CREATED, new[1], "g")]


async def test_w12_what_is_written_meanwhile_comes_after_the_snapshot(w: World) -> None:
    """What is committed between RESET and the end of the snapshot is a change, once."""
    watch = await w.hub.open(resetting(w.revision + 1, entities=SERVICES))
    large = of_feature("x" * 60_000)
    for number in range(40):
        await w.create(f"e{number}", metadata=large)
    await w.engine.compact(w.revision, "me", "")
    assert (await receive(watch)).mark == RESET
    base = w.revision
    seen = [one.id for one in (await receive(watch)).entities]
    during = await w.delete("e39")
    assert base in w.engine.pins
    message = await receive(watch)
    while message.mark != SNAPSHOT_END:
        seen += [one.id for one in message.entities]
        message = await receive(watch)
    assert message.revision == base
    assert seen == [f"e{number}" for number in range(40)]
    assert [(e.revision, e.entity.id) for e in (await receive(watch)).events] == [(during, "e39")]
    assert base not in w.engine.pins


async def test_w12_starts_that_are_compacted_reset(w: World) -> None:
    """A revision, a token or a time that is compacted begins with RESET, if that is asked for."""
    token = ResumeToken(w.engine.lineage(w.revision), w.revision).encode()
    began = now()
    for name in "abc":
        await w.create(name)
    await w.engine.compact(w.revision, "me", "")
    for start in (2, token, at(began)):
        asked = {"start_time": start} if isinstance(start, Timestamp) else {}
        place = start if not isinstance(start, Timestamp) else None
        with pytest.raises(RevisionCompacted):
            await w.hub.open(request(place, entities=SERVICES, **asked))
        watch = await w.hub.open(resetting(place, entities=SERVICES, **asked))
        messages, ids = await renewed(watch)
        assert ids == {"a", "b", "c"}
        assert messages[-1].revision == w.revision
        await watch.aclose()
    # What is held begins where it did.
    watch = await w.hub.open(resetting(w.revision, entities=SERVICES))
    last = await w.create(f"d{w.revision}")
    assert [revision for _, revision, _ in brief(await until(watch, last))] == [last]


async def test_w12_a_stream_resets_as_often_as_it_must(w: World) -> None:
    """After a reset it is a stream like any other, and may fall behind again."""
    watch = await w.hub.open(resetting(w.revision + 1, entities=SERVICES))
    for turn in range(3):
        for number in range(3):
            await w.create(f"{turn}-{number}")
        await w.engine.compact(w.revision, "me", "")
        _, ids = await renewed(watch)
        assert ids == {f"{t}-{n}" for t in range(turn + 1) for n in range(3)}
    await watch.aclose()
    assert w.hub.statistics().watches == 0


async def test_w12_a_reset_within_a_large_revision(w: World) -> None:
    """A stream that is reset in the middle of a revision's parts does not end that revision."""
    watch = await w.hub.open(resetting(w.revision + 1, entities=SERVICES))
    large = of_feature("x" * 60_000)
    await w.write(*(create(f"e{number}", metadata=large) for number in range(40)))
    first = await receive(watch)
    assert first.more
    await w.create("after")
    await w.engine.compact(w.revision, "me", "")
    messages, ids = await renewed(watch)
    assert ids == {*(f"e{number}" for number in range(40)), "after"}
    assert messages[-1].revision == w.revision


async def test_w12_who_keeps_up_is_not_reset() -> None:
    """Compaction takes nothing from a stream that the server still has the changes for."""
    async with world() as w:
        watch = await w.hub.open(resetting(entities=SERVICES))
        made = [await w.create(f"e{number}") for number in range(5)]
        await w.engine.compact(w.revision, "me", "")
        await w.followed()
        assert [revision for _, revision, _ in brief(await until(watch, made[-1]))] == made


async def test_w12_a_closed_reset_lets_go(w: World) -> None:
    """Who leaves within the snapshot of a reset leaves no pin behind, nor a watch."""
    await w.create("a")
    await w.engine.compact(w.revision, "me", "")
    watch = await w.hub.open(resetting(2))
    assert (await receive(watch)).mark == RESET
    base = w.revision
    await w.create("b")
    assert base in w.engine.pins
    await watch.aclose()
    await w.create("c")
    await w.followed()
    assert base not in w.engine.pins
    assert w.hub.statistics().watches == 0


async def test_w12_a_cancelled_reader_of_a_reset_misses_nothing(w: World) -> None:
    """Whoever reads may be cancelled at any message; what it would have got comes next."""
    watch = await w.hub.open(resetting(w.revision + 1))
    for name in "abc":
        await w.create(name)
    await w.engine.compact(w.revision, "me", "")
    messages: list[WatchResponse] = []
    while not messages or messages[-1].mark != SNAPSHOT_END:
        reading = asyncio.create_task(anext(watch))
        await asyncio.sleep(0)
        reading.cancel()
        results = await asyncio.gather(reading, return_exceptions=True)
        if isinstance(results[0], bytes):
            messages.append(WatchResponse.FromString(results[0]))
        else:
            messages.append(await receive(watch))
    ids = [one.id for message in messages for one in message.entities]
    assert ids[-3:] == ["a", "b", "c"]
    assert len(set(ids)) == len(ids) == 11
    assert [m.mark for m in messages].count(RESET) == 1


async def test_w13_a_reset_is_no_way_around_another_history() -> None:
    """Tokens of another history, and broken ones, are refused with a reset as without."""
    async with world() as one:
        token = (await receive(await one.hub.open(request(1)))).resume_token
    async with world(MemoryDisk()) as other:
        for _ in range(3):
            await other.create(f"e{other.revision}")
        await other.engine.compact(other.revision, "me", "")
        with pytest.raises(HistoryChanged):
            await other.hub.open(resetting(token))
        with pytest.raises(TokenInvalid):
            await other.hub.open(resetting(token[:-3]))


# Times


async def test_a_start_at_a_time(w: World) -> None:
    """What was committed after the time comes, and nothing that was committed by then."""
    before = await w.create("a")
    middle = now()
    await asyncio.sleep(0.002)
    after = await w.create("b")
    [commit] = [one for one in await w.history() if one.revision == before]
    for start, expected in (
        (middle, ["b"]),
        (commit.time, ["b"]),
        (commit.time - 1, ["a", "b"]),
        (0, ["a", "b"]),
    ):
        watch = await w.hub.open(request(entities=SERVICES, start_time=at(start)))
        assert [name for *_, name in brief(await until(watch, after))] == expected
        await watch.aclose()


async def test_a_time_that_is_compacted(w: World) -> None:
    """RevisionCompacted; the time of the oldest revision that is held is not."""
    began = now()
    made = [await w.create(name) for name in "abc"]
    times = {one.revision: one.time for one in await w.history()}
    await w.engine.compact(made[1], "me", "")
    for gone in (0, began, times[made[1]] - 1):
        with pytest.raises(RevisionCompacted):
            await w.hub.open(request(start_time=at(gone)))
    watch = await w.hub.open(request(entities=SERVICES, start_time=at(times[made[1]])))
    assert brief(await until(watch, made[2])) == [(CREATED, made[2], "c")]


async def test_w9_a_time_to_come_is_waited_for(w: World) -> None:
    """Nothing that is committed before the time comes, not even a bookmark that says so."""
    comes = now() + 300_000
    watch = await w.hub.open(request(entities=SERVICES, start_time=at(comes)))
    resets = await w.hub.open(resetting(entities=SERVICES, start_time=at(comes)))
    reading = [asyncio.create_task(receive(each)) for each in (watch, resets)]
    early: list[int] = []
    while now() < comes - 100_000:
        early.append(await w.create(f"early-{len(early)}"))
        await asyncio.sleep(0.02)
    assert early
    assert not any(task.done() for task in reading)
    assert w.hub.statistics().lag == 0
    await past(comes)
    last = await w.create("late")
    for task in reading:
        assert brief([await task]) == [(CREATED, last, "late")]


async def test_a_time_to_come_that_is_compacted_when_it_is_read(w: World) -> None:
    """Who reads long after the time has come is behind like anybody else."""
    comes = now() + 50_000
    plain = await w.hub.open(request(entities=SERVICES, start_time=at(comes)))
    resets = await w.hub.open(resetting(entities=SERVICES, start_time=at(comes)))
    await past(comes)
    for name in "abc":
        await w.create(name)
    await w.engine.compact(w.revision, "me", "")
    with pytest.raises(RevisionCompacted):
        await receive(plain)
    _, ids = await renewed(resets)
    assert ids == {"a", "b", "c"}


async def test_who_waits_for_a_time_ends_with_the_server() -> None:
    """A stream whose time is far away does not hold up a shutdown."""
    async with world() as w:
        watch = await w.hub.open(request(start_time=at(now() + 3_600_000_000)))
        reading = asyncio.create_task(receive(watch, 5))
        await asyncio.sleep(0.01)
        w.engine.feed.close()
        with pytest.raises(NotServing):
            await reading


async def test_who_waits_for_a_time_counts_and_may_leave(w: World) -> None:
    """It is one of the streams; cancelled and closed it is gone."""
    watch = await w.hub.open(request(start_time=at(now() + 3_600_000_000)))
    assert w.hub.statistics().watches == 1
    assert await is_silent(watch, 0.02)
    await watch.aclose()
    assert w.hub.statistics().watches == 0


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"start_time": Timestamp(nanos=-1)}, "start_time.nanos"),
        ({"start_time": Timestamp(seconds=1 << 60)}, "start_time.seconds"),
        ({"start_time": Timestamp(seconds=1), "snapshot": True}, "snapshot"),
    ],
)
async def test_malformed_times(w: World, fields: dict[str, Any], field: str) -> None:
    """The field is named."""
    with pytest.raises(InvalidArgument) as refused:
        await w.hub.open(request(**fields))
    assert refused.value.metadata["field"] == field


# Anything

step = st.one_of(
    st.tuples(st.just("create"), st.integers(0, 9)),
    st.tuples(st.just("create"), st.integers(0, 9)),
    st.tuples(st.just("delete"), st.integers(0, 9)),
    st.tuples(st.just("link"), st.integers(0, 9)),
    st.tuples(st.just("compact"), st.integers(0, 3)),
    st.tuples(st.just("read"), st.integers(1, 4)),
    st.tuples(st.just("resume"), st.just(0)),
)


class Follower:
    """Somebody who keeps in step by a stream, as the API says that one can."""

    def __init__(self) -> None:
        self.state: dict[str, int] = {}
        self.revision = 0
        self.token = ""
        self.resets = 0

    def take(self, message: WatchResponse) -> None:
        """Takes a message; fails if it does not fit what came before."""
        if message.mark == RESET:
            self.state.clear()
            self.resets += 1
        resources: list[Any] = [*message.entities, *message.relationships]
        for resource in resources:
            assert resource.id not in self.state, "twice in a snapshot"
            self.state[resource.id] = resource.revision
        for event in message.events:
            one = event.entity if event.HasField("entity") else event.relationship
            assert event.revision > self.revision, "twice, or behind"
            if event.type == CREATED:
                assert one.id not in self.state
            else:
                assert one.id in self.state
            if event.type == 3:
                del self.state[one.id]
            else:
                self.state[one.id] = one.revision
        if not message.more:
            assert message.revision >= self.revision
            self.revision, self.token = message.revision, message.resume_token


@given(steps=st.lists(step, max_size=40), window=st.sampled_from([1, 2000]))
@settings(max_examples=60)
async def test_w12_whoever_follows_is_in_step(steps: list[tuple[str, int]], window: int) -> None:
    """However slow it is, whenever it resumes, whatever is compacted: its state is the registry's.

    At each revision that the stream says, and in the end at the last one.
    """
    async with world(window_bytes=window, limits=Limits(cache_bytes=window)) as w:
        follower, states = Follower(), {w.revision: state(w)}
        watch = await w.hub.open(resetting(1, entities={}, relationships={}))

        def take(message: WatchResponse) -> None:
            follower.take(message)
            if not message.more:
                assert follower.state == states[follower.revision]

        for what, number in steps:
            if what == "create" and f"e{number}" not in state(w):
                await w.create(f"e{number}")
            elif what == "delete" and f"e{number}" in state(w):
                await w.delete(f"e{number}")
            elif what == "link":
                await some_link(w, number)
            elif what == "compact":
                await w.engine.compact(max(0, w.revision - number), "me", "")
                while await w.engine.store.trim(w.engine.view.floor, 1000):
                    pass
            elif what == "resume" and follower.token:
                await watch.aclose()
                watch = await w.hub.open(resetting(follower.token, entities={}, relationships={}))
            elif what == "read":
                for _ in range(number):
                    if (message := await what_comes(watch)) is not None:
                        take(message)
            states[w.revision] = state(w)
        last = await w.create("last")
        states[last] = state(w)
        while follower.revision < last:
            take(await receive(watch))
        assert follower.state == states[last]
        await watch.aclose()


async def what_comes(watch: Watch) -> WatchResponse | None:
    """The next message, if one comes at once."""
    reading = asyncio.create_task(anext(watch))
    for _ in range(100):
        if reading.done():
            break
        await asyncio.sleep(0)
    reading.cancel()
    [found] = await asyncio.gather(reading, return_exceptions=True)
    if isinstance(found, bytes):
        return WatchResponse.FromString(found)
    assert isinstance(found, asyncio.CancelledError), found
    return None


async def some_link(w: World, number: int) -> None:
    """Links two entities that are there, if there are two and no such link."""
    there = [id_ for id_ in state(w) if id_[0] == "e" and "-" not in id_]
    if len(there) > 1:
        source, target = there[number % len(there)], there[(number + 1) % len(there)]
        if f"{source}-depends_on-{target}" not in state(w):
            await w.write(link(source, target))


def state(w: World) -> dict[str, int]:
    """The id and revision of everything that there is now, by the view."""
    found: dict[str, int] = {}
    for table in (w.engine.view.generation.entities, w.engine.view.generation.relationships):
        for id_ in table.ids:
            slot = table.find(id_, w.revision)
            if slot >= 0:
                found[id_] = table.born(slot)
    return found
