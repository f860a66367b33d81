"""Sharing, limits, and beginning and ending."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from hyper_registry.model.errors import NotServing, StoreUnavailable, TooManyStreams
from hyper_registry.model.revision import Position
from hyper_registry.watch import following
from hyper_registry.watch import group as group_module
from hyper_registry.watch import hub as hub_module
from hyper_registry.watch.hub import Limits, WatchHub
from hyper_registry.watch.log import Entry
from hyper_registry.watch.matching import Matcher
from ose.registry.v1.watch_service_pb2 import WatchResponse
from tests.watch.world import (
    CREATED,
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

SERVICES = {"types": ["service"]}


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[Entry]:
    """Every change that some matcher has looked at."""
    entries: list[Entry] = []
    match = Matcher.match

    def recorded(self: Matcher, entry: Entry) -> bytes:
        entries.append(entry)
        return match(self, entry)

    monkeypatch.setattr(Matcher, "match", recorded)
    return entries


async def test_watchers_of_one_question_share_the_work(judged: list[Entry]) -> None:
    """A write is matched once for all watchers of a question, who are sent the same bytes."""
    async with world() as w:
        watches = [await w.hub.open(request(entities=SERVICES)) for _ in range(20)]
        assert w.hub.statistics().groups == 1
        waiting = [asyncio.create_task(anext(watch)) for watch in watches]
        await asyncio.sleep(0)
        await w.create("a")
        messages = await asyncio.gather(*waiting)
        assert len({id(message) for message in messages}) == 1
        assert len(judged) == 1


async def test_a_backlog_is_read_once(judged: list[Entry]) -> None:
    """Watchers who start at one revision share reading, matching and messages."""
    async with world() as w:
        for number in range(30):
            last = await w.create(f"e{number}")
        await w.followed()
        watches = [await w.hub.open(request(1, entities=SERVICES)) for _ in range(20)]
        received = await asyncio.gather(*(until(watch, last) for watch in watches))
        assert len({str(messages) for messages in received}) == 1
        assert len(judged) == last - 1 + 8  # each change once, and the first revision has eight


async def test_a_write_costs_nothing_to_those_it_cannot_concern(judged: list[Entry]) -> None:
    """Who watches other ids, types or ends is not asked, and not woken."""
    async with world() as w:
        others = [
            await w.hub.open(asked)
            for asked in (
                request(entities={"ids": ["x"]}),
                request(entities={"types": ["robot"]}),
                request(relationships={"source_ids": ["x"]}),
                request(relationships={"target_ids": ["x"]}),
                request(relationships={"entity_ids": ["x"]}),
                request(relationships={"types": ["provides"]}),
            )
        ]
        all_ = await w.hub.open(request(entities={}))
        last = await w.write(create("a"), create("b"), link("a", "b"))
        assert len(brief(await until(all_, last))) == 2
        assert len(judged) == 2
        for each in others:
            assert await is_silent(each, 0.01)
        last = await w.write(create("x", "robot"), link("x", "a", "provides"), link("a", "x"))
        found = [brief(await until(each, last)) for each in others]
        assert [len(each) for each in found] == [1, 1, 1, 1, 2, 1]


async def test_the_last_watcher_takes_its_group_away() -> None:
    """What was kept for a question goes with the last who asked it."""
    async with world() as w:
        one = await w.hub.open(request(entities=SERVICES))
        async with aclosing(w.hub.watch(request(entities=SERVICES))) as other:
            waiting = asyncio.create_task(anext(other))
            await asyncio.sleep(0.01)
            assert (w.hub.statistics().watches, w.hub.statistics().groups) == (2, 1)
            await one.aclose()
            await one.aclose()
            last = await w.create("a")
            assert WatchResponse.FromString(await waiting).revision == last
        assert (w.hub.statistics().watches, w.hub.statistics().groups) == (0, 0)
        again = await w.hub.open(request(last, entities=SERVICES))
        assert brief(await until(again, last)) == [(CREATED, last, "a")]


async def test_limit_of_watches() -> None:
    """One more than the limit is refused, until one leaves."""
    async with world(limits=Limits(max_watches=2)) as w:
        watches = [await w.hub.open(request()) for _ in range(2)]
        with pytest.raises(TooManyStreams) as refused:
            await w.hub.open(request())
        assert refused.value.metadata == {"limit": "max_watches", "maximum": "2"}
        await watches[0].aclose()
        await w.hub.open(request())


async def test_refused_watches_leave_nothing() -> None:
    """A request that fails takes no place."""
    async with world(limits=Limits(max_watches=1)) as w:
        for _ in range(3):
            with pytest.raises(Exception, match="resume_token"):
                await w.hub.open(request("?"))
        await w.hub.open(request())


async def test_a_cancelled_wait_loses_nothing() -> None:
    """A consumer that gives up waiting, at any moment, finds everything when it asks again."""
    async with world() as w:
        watch = await w.hub.open(request(1))
        messages = []
        for number in range(60):
            revision = await w.create(f"e{number}")
            waiting = asyncio.create_task(receive(watch))
            for _ in range(number % 7):
                await asyncio.sleep(0)
            waiting.cancel()
            messages += [m for m in await asyncio.gather(waiting, return_exceptions=True)
                         if isinstance(m, WatchResponse)]  # fmt: skip
        if messages[-1].revision < revision:
            messages += await until(watch, revision)
        assert [name for _, _, name in brief(messages)[8:]] == [f"e{n}" for n in range(60)]


async def test_shutdown_delivers_what_is_committed() -> None:
    """When the log ends a watch delivers what is there, then says that the server leaves."""
    async with world() as w:
        behind = await w.hub.open(request(1, entities=SERVICES))
        waiting = await w.hub.open(request(entities={"types": ["robot"]}))
        blocked = asyncio.create_task(anext(waiting))
        last = await w.create("a")
        w.engine.feed.close()
        assert brief(await until(behind, last)) == [(CREATED, last, "a")]
        for left in (behind, waiting):
            with pytest.raises(NotServing):
                await (blocked if left is waiting else receive(left))
        with pytest.raises(NotServing):
            await w.hub.open(request())


async def test_aclose_ends_all_at_once() -> None:
    """The hub that is closed sends nothing more, whatever there is to be sent."""
    async with world() as w:
        behind = await w.hub.open(request(1))
        in_snapshot = await w.hub.open(request(snapshot=True))
        blocked = asyncio.create_task(anext(await w.hub.open(request())))
        await asyncio.sleep(0)
        await w.hub.aclose()
        for each in (receive(behind), receive(in_snapshot), blocked):
            with pytest.raises(NotServing):
                await each


async def test_not_started() -> None:
    """Before it follows the log a hub opens nothing."""
    async with world() as w:
        with pytest.raises(NotServing):
            await WatchHub(w.engine).open(request())


async def test_what_cannot_be_judged_fails_those_who_need_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A defect in judging a change is met by those who follow it, and by nobody else.

    They are not sent what comes after it, as if nothing had been there.
    """
    async with world() as w:
        hit = await w.hub.open(request(entities={"types": ["robot"]}))
        other = await w.hub.open(request(entities=SERVICES))
        match = Matcher.match

        def broken(self: Matcher, entry: Entry) -> bytes:
            entities = self.question.entities
            if entry.change.id == "bad" and entities and "robot" in entities.types:
                raise ZeroDivisionError
            return match(self, entry)

        monkeypatch.setattr(Matcher, "match", broken)
        await w.create("bad", "robot")
        last = await w.create("good")
        with pytest.raises(ZeroDivisionError):
            await receive(hit)
        assert brief(await until(other, last)) == [(CREATED, last, "good")]


async def test_a_store_that_fails_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the log cannot be read, those who keep up wait and those who need it are told.

    Then all goes on where it was.
    """
    monkeypatch.setattr(following, "_RETRY_SECONDS", 0.01)
    async with world(window_bytes=1) as w:
        live = await w.hub.open(request(entities=SERVICES))
        late = await w.hub.open(request(1, entities=SERVICES))
        read, feed = w.engine.feed.read, w.engine.feed

        async def failing(*_args: object) -> None:
            raise StoreUnavailable

        monkeypatch.setattr(feed, "read", failing)
        first = await w.create("a")
        with pytest.raises(StoreUnavailable):
            await receive(late)
        assert await is_silent(live)
        monkeypatch.setattr(feed, "read", read)
        last = await w.create("b")
        for watch in (live, late):
            assert brief(await until(watch, last)) == [(CREATED, first, "a"), (CREATED, last, "b")]


async def test_a_revision_that_is_half_followed_is_not_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """While a large revision is being judged, watchers who come, or look, see none of it yet."""
    monkeypatch.setattr(hub_module, "_SLICE_SECONDS", -1.0)
    async with world() as w:
        early = await w.hub.open(request(entities=SERVICES))
        writing = asyncio.create_task(w.write(*(create(f"e{n}") for n in range(200))))
        while w.hub.tail.index == 0:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
        assert w.hub.tail == Position(1, w.hub.tail.index)
        middle = await w.hub.open(request(1, entities=SERVICES))
        blocked = [asyncio.create_task(receive(watch)) for watch in (early, middle)]
        revision = await writing
        for message in await asyncio.gather(*blocked):
            assert (len(message.events), message.revision) == (200, revision)


async def test_revisions_larger_than_what_is_read_at_once() -> None:
    """A revision of any number of changes arrives whole, to those who keep up and who do not."""
    async with world() as w:
        live = await w.hub.open(request(entities=SERVICES))
        mutations = [create(f"e{n}", metadata=of_feature("x" * 9000)) for n in range(700)]
        revision = await w.write(*mutations)
        after = await w.create("after")
        await w.followed()
        late = await w.hub.open(request(2, entities=SERVICES))
        for watch in (live, late):
            messages = await until(watch, after)
            assert brief(messages) == [
                *((CREATED, revision, f"e{n}") for n in range(700)),
                (CREATED, after, "after"),
            ]
            assert sum(message.more for message in messages) >= 5


async def test_few_matches_in_a_large_revision_are_one_message() -> None:
    """What counts is what is sent: a large revision of which little matches is not cut."""
    async with world() as w:
        live = await w.hub.open(request(entities={"types": ["robot"]}))
        few = await w.hub.open(request(entities={"ids": ["e0"]}))
        # Those who wait while it is followed are woken at its end.
        waiting = [asyncio.create_task(receive(watch, 5)) for watch in (live, few)]
        await asyncio.sleep(0)
        many = [create(f"e{n}", "robot" if n % 100 == 0 else "service") for n in range(1000)]
        revision = await w.write(*many)
        await w.followed()
        late = await w.hub.open(request(2, entities={"types": ["robot"], "name_prefix": "e"}))
        messages = [*await asyncio.gather(*waiting), await receive(late)]
        assert [len(message.events) for message in messages] == [10, 1, 10]
        assert {message.revision for message in messages} == {revision}


async def test_memory_is_shared_out_by_age(monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the limit the oldest events of all are forgotten first, and read again if need be."""
    monkeypatch.setattr(group_module, "_TIDY", 4)
    async with world(limits=Limits(cache_bytes=8000)) as w:
        services = await w.hub.open(request(entities=SERVICES))
        robots = await w.hub.open(request(entities={"types": ["robot"]}))
        for number in range(40):
            await w.create(f"s{number}")
        for number in range(40):
            last = await w.create(f"r{number}", "robot")
        marks = [w.hub.statistics().cached_bytes]
        for watch, letter in ((services, "s"), (robots, "r")):
            messages = [await receive(watch)]
            while len(brief(messages)) < 40:
                messages.append(await receive(watch))
                marks.append(w.hub.statistics().cached_bytes)
            assert [name for _, _, name in brief(messages)] == [f"{letter}{n}" for n in range(40)]
        assert max(marks) <= 8000
        assert w.hub.statistics().revision == last
