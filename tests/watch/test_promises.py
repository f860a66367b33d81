"""What the README promises of Watch, promise by promise."""

from __future__ import annotations

import asyncio
from copy import deepcopy
from dataclasses import replace

import pytest
from google.protobuf.duration_pb2 import Duration

from hyper_registry.model.entity import Entity
from hyper_registry.model.errors import (
    HistoryChanged,
    RevisionCompacted,
    TokenInvalid,
)
from hyper_registry.model.relationship import Relationship
from hyper_registry.query.tokens import ResumeToken
from hyper_registry.registry import engine
from hyper_registry.registry.mutations import (
    CreateRelationship,
    DeleteEntity,
    DeleteRelationship,
    UpdateEntity,
    UpdateRelationship,
)
from hyper_registry.store.memory import MemoryDisk
from hyper_registry.watch.frames import MAX_BYTES
from hyper_registry.watch.hub import Limits
from ose.registry.v1.watch_service_pb2 import WatchResponse
from tests.watch.world import (
    CREATED,
    DELETED,
    UPDATED,
    brief,
    create,
    events,
    is_silent,
    link,
    of_feature,
    receive,
    request,
    touch,
    until,
    world,
)

BOOKMARK = WatchResponse.MARK_BOOKMARK
SNAPSHOT_END = WatchResponse.MARK_SNAPSHOT_END
SERVICES = {"types": ["service"]}
SOON = Duration(nanos=100_000_000)


async def test_w1_ordered() -> None:
    """Events come in the order of their revisions, and within one in the order of its changes."""
    async with world() as w:
        watch = await w.hub.open(request(w.revision + 1))
        first = w.revision + 1
        await w.write(create("b"), create("a"))
        await asyncio.gather(*(w.create(f"c{number}") for number in range(20)))
        last = await w.write(touch("a", "2"), link("a", "b"), touch("b", "2"))
        messages = await until(watch, last)
        revisions = [event.revision for event in events(messages)]
        assert revisions == sorted(revisions)
        assert brief(messages)[:2] == [(CREATED, first, "b"), (CREATED, first, "a")]
        assert brief(messages)[-3:] == [
            (UPDATED, last, "a"),
            (CREATED, last, "a-depends_on-b"),
            (UPDATED, last, "b"),
        ]
        assert all(event.commit_time == event.entity.updated_at for event in events(messages)[:2])


async def test_w2_unique() -> None:
    """An event comes once, whether the watcher keeps up, falls behind or reads the backlog."""
    async with world() as w:
        watch = await w.hub.open(request(1, entities=SERVICES))
        backlog = [await w.create(f"a{number}") for number in range(50)]
        messages = await until(watch, backlog[-1])
        for number in range(50):
            revision = await w.create(f"b{number}")
            if number % 7 == 0 or number == 49:
                messages += await until(watch, revision)
        names = [name for _, _, name in brief(messages)]
        assert names == [f"{letter}{number}" for letter in "ab" for number in range(50)]


async def test_w3_reliable() -> None:
    """Exactly what matches is sent, whatever else is written between."""
    async with world() as w:
        everything = await w.hub.open(request())
        relationships = await w.hub.open(request(relationships={"types": ["depends_on"]}))
        one = await w.hub.open(request(entities={"ids": ["b"]}))
        first = await w.write(create("a"), create("b", "plugin"), create("c"))
        await w.write(link("a", "b"), link("a", "c", "provides"))
        last = await w.write(touch("b", "2"), touch("c", "2"))
        assert brief(await until(everything, last)) == [
            (CREATED, first, "a"),
            (CREATED, first, "b"),
            (CREATED, first, "c"),
            (CREATED, first + 1, "a-depends_on-b"),
            (CREATED, first + 1, "a-provides-c"),
            (UPDATED, last, "b"),
            (UPDATED, last, "c"),
        ]
        assert brief(await until(relationships, first + 1)) == [
            (CREATED, first + 1, "a-depends_on-b")
        ]
        assert brief(await until(one, last)) == [(CREATED, first, "b"), (UPDATED, last, "b")]


async def test_w4_atomic() -> None:
    """A revision is in one message, however many there are to be sent."""
    async with world() as w:
        watch = await w.hub.open(request())
        for number in range(30):
            last = await w.write(*(create(f"e{number}-{part}") for part in range(40)))
        messages = await until(watch, last)
        assert len(messages) > 1
        assert not any(message.more for message in messages)
        for message in messages:
            counts = [event.revision for event in message.events]
            assert all(counts.count(revision) == 40 for revision in set(counts))
            assert message.revision == counts[-1]


@pytest.mark.parametrize("window_bytes", [64 << 20, 1])
async def test_w4_atomic_revision_that_is_too_large(window_bytes: int) -> None:
    """One that does not fit comes in parts: `more` on all but the last, which has the token."""
    async with world(window_bytes=window_bytes) as w:
        watch = await w.hub.open(request())
        before = await w.create("before")
        await until(watch, before)
        large = of_feature("x" * 60_000)
        revision = await w.write(*(create(f"e{n}", metadata=large) for n in range(40)))
        last = await w.create("after")
        messages = await until(watch, last)
        parts = [m for m in messages if m.events and m.events[0].revision == revision]
        assert len(parts) >= 3
        assert [part.more for part in parts] == [True] * (len(parts) - 1) + [False]
        assert all(part.ByteSize() <= MAX_BYTES + 1000 for part in parts)
        assert all(part.revision == 0 and not part.resume_token for part in parts[:-1])
        assert brief(messages) == [
            *((CREATED, revision, f"e{n}") for n in range(40)),
            (CREATED, last, "after"),
        ]


async def test_w5_resumable() -> None:
    """After any message another watch goes on with its token, on another server as well."""
    disk = MemoryDisk()
    async with world(disk) as w:
        for number in range(10):
            last = await w.write(create(f"a{number}"), create(f"b{number}"))
        whole = brief(await until(await w.hub.open(request(1)), last))
        tokens = []
        for start in range(1, last + 1):
            message = await receive(await w.hub.open(request(start)))
            tokens.append((message.revision, message.resume_token))
            if start > 1:
                one = ResumeToken(w.engine.lineage(start - 1), start - 1).encode()
                resumed = await until(await w.hub.open(request(one)), last)
                assert brief(resumed) == [event for event in whole if event[1] >= start]
    async with world(disk) as w:
        end = await w.create("end")
        for revision, token in tokens:
            resumed = await until(await w.hub.open(request(token)), end)
            assert brief(resumed) == [
                *(event for event in whole if event[1] > revision),
                (CREATED, end, "end"),
            ]


async def test_w6_bookmarked() -> None:
    """A watcher hears how far it is: when all is quiet, and while others' changes pass."""
    async with world() as w:
        watch = await w.hub.open(request(entities={"types": ["robot"]}, bookmark_interval=SOON))
        idle = await receive(watch)
        assert (idle.mark, idle.revision) == (BOOKMARK, w.revision)
        passing = await w.create("a")
        mark = (await until(watch, passing))[-1]
        assert (mark.mark, mark.revision, len(mark.events)) == (BOOKMARK, passing, 0)
        robot = await w.create("r2", "robot")
        resumed = await w.hub.open(request(mark.resume_token, entities={"types": ["robot"]}))
        for each in (watch, resumed):
            assert brief(await until(each, robot)) == [(CREATED, robot, "r2")]


async def test_w6_bookmarked_only_when_silent() -> None:
    """Messages with changes put the next bookmark off."""
    async with world() as w:
        watch = await w.hub.open(request(bookmark_interval=SOON))
        for number in range(10):
            revision = await w.create(f"e{number}")
            message = await receive(watch)
            assert (message.mark, message.revision) == (0, revision)
            await asyncio.sleep(0.03)


async def test_w7_reached() -> None:
    """A watch that was open before a write returned reaches its revision, by an event or a mark."""
    async with world() as w:
        watches = [
            await w.hub.open(request(entities=entities, bookmark_interval=SOON))
            for entities in (SERVICES, {"types": ["robot"]}, {"ids": ["e3"]})
        ]
        for number in range(5):
            revision = await w.create(f"e{number}")
            for watch in watches:
                assert (await until(watch, revision))[-1].revision >= revision


async def test_w8_compacted() -> None:
    """A start that is compacted is refused with the oldest that is not, and that one then works."""
    async with world() as w:
        for number in range(10):
            await w.create(f"e{number}")
        old = ResumeToken(w.engine.lineage(4), 4).encode()
        await w.engine.compact(6, "me", "")
        for start in (1, 6, old):
            with pytest.raises(RevisionCompacted) as refused:
                await w.hub.open(request(start))
            assert refused.value.metadata["oldest"] == "7"
        watch = await w.hub.open(request(7))
        assert brief(await until(watch, 7)) == [
            (CREATED, revision, f"e{revision - 2}") for revision in range(7, 12)
        ]
        await w.hub.open(request(ResumeToken(w.engine.lineage(6), 6).encode()))


async def test_w8_compacted_while_running() -> None:
    """A watcher that compaction overtakes is told, and is not sent what comes after the gap."""
    async with world(window_bytes=1, limits=Limits(cache_bytes=0)) as w:
        watch = await w.hub.open(request())
        for number in range(10):
            revision = await w.create(f"e{number}")
        await w.engine.compact(revision, "me", "")
        with pytest.raises(RevisionCompacted) as refused:
            await receive(watch)
        assert refused.value.metadata == {"revision": "2", "oldest": str(revision + 1)}


async def test_w8_compaction_of_all_that_is_past(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watcher who keeps up stays when everything is compacted at once, and still misses nothing.

    What it is about to be sent is in memory, even if the writes and the compaction were faster.
    """
    async with world() as w:
        watches = [
            await w.hub.open(request(entities=entities))
            for entities in (SERVICES, {"feature": "ai-ml"})
        ]
        for watch in watches:
            assert await is_silent(watch, 0.01)
        # Whatever is dead is dropped from the view as soon as it may be.
        monkeypatch.setattr(engine, "_REORGANISE_LEAST", 0)
        monkeypatch.setattr(engine, "_REORGANISE_SHARE", 0)
        going_on = asyncio.Event()
        monkeypatch.setattr(w.hub, "_pace", going_on.wait)
        await w.create("a")
        joined = await w.write(link("a", "ai-ml", "belongs_to"))
        left = await w.write(DeleteRelationship("a-belongs_to-ai-ml"))
        compaction = await w.engine.compact(left, "me", "")
        assert compaction == left + 1
        last = await w.create("b", metadata=of_feature("ai-ml"))
        going_on.set()
        assert brief(await until(watches[0], last)) == [
            (CREATED, joined - 1, "a"),
            (CREATED, last, "b"),
        ]
        assert brief(await until(watches[1], last)) == [
            (CREATED, joined, "a"),
            (DELETED, left, "a"),
            (CREATED, last, "b"),
        ]
        assert w.engine.pins.oldest(last + 1) == last


async def test_w8_compacted_though_it_was_read_before() -> None:
    """What is still in memory of the log is not judged with a past that the view has dropped."""
    async with world() as w:
        await w.write(create("a"), link("a", "ai-ml", "belongs_to"))
        last = await w.write(DeleteRelationship("a-belongs_to-ai-ml"))
        await w.followed()
        late = await w.hub.open(request(2, entities={"feature": "ai-ml"}))
        assert len(brief(await until(await w.hub.open(request(2)), last))) == 3
        await w.engine.compact(last, "me", "")
        with pytest.raises(RevisionCompacted):
            await receive(late)


async def test_w9_future() -> None:
    """A start in the future waits for its revision; nothing before it is sent, no mark either."""
    async with world() as w:
        start = w.revision + 3
        watch = await w.hub.open(request(start, bookmark_interval=SOON))
        await w.create("a")
        assert await is_silent(watch, 0.25)
        await w.create("b")
        mark = await receive(watch)
        assert (mark.mark, mark.revision) == (BOOKMARK, start - 1)
        await w.create("c")
        assert brief(await until(watch, start)) == [(CREATED, start, "c")]


async def test_w10_starts_and_stops_to_match() -> None:
    """What an update makes match is created; what it makes stop is deleted, as it matched."""
    async with world() as w:
        watch = await w.hub.open(request(entities={"labels": ["tier=gold"]}, include_previous=True))

        async def label(**labels: str) -> int:
            return await w.write(UpdateEntity(Entity("a", "", "", labels=labels), ("labels",)))

        await w.create("a")
        gained = await label(tier="gold")
        kept = await label(tier="gold", more="yes")
        lost = await label(more="yes")
        await label()
        regained = await label(tier="gold")
        gone = await w.delete("a")
        messages = await until(watch, gone)
        assert brief(messages) == [
            (CREATED, gained, "a"),
            (UPDATED, kept, "a"),
            (DELETED, lost, "a"),
            (CREATED, regained, "a"),
            (DELETED, gone, "a"),
        ]
        stopped = events(messages)[2]
        assert stopped.entity.labels == {"tier": "gold", "more": "yes"}
        assert stopped.entity.revision == kept
        assert stopped.previous_entity == stopped.entity
        assert dict(events(messages)[0].previous_entity.labels) == {}


async def test_w10_features_by_relationship() -> None:
    """An entity starts and stops to be of a feature with its relationship, and is sent then."""
    async with world() as w:
        watch = await w.hub.open(request(entities={"feature": "ai-ml", "types": ["service"]}))
        edge = link("a", "ai-ml", "belongs_to")
        created = await w.create("a")
        joined = await w.write(edge)
        changed = await w.touch("a", "2")
        await w.write(
            UpdateRelationship(Relationship(edge.relationship.id, "", "", "", 2.0), ("weight",))
        )
        left = await w.write(DeleteRelationship(edge.relationship.id))
        named = await w.write(
            UpdateEntity(Entity("a", "", "", metadata=of_feature("ai-ml")), ("metadata",))
        )
        await w.write(edge)
        last = await w.delete("a")
        messages = await until(watch, last)
        assert brief(messages) == [
            (CREATED, joined, "a"),
            (UPDATED, changed, "a"),
            (DELETED, left, "a"),
            (CREATED, named, "a"),
            (DELETED, last, "a"),
        ]
        assert events(messages)[0].entity.revision == created
        assert events(messages)[2].entity.version == "2"


async def test_w10_features_within_one_revision() -> None:
    """Of a revision counts what it comes to: made with its tie, an entity is created once."""
    async with world() as w:
        watch = await w.hub.open(request(entities={"feature": "ai-ml"}))
        edge = link("a", "ai-ml", "belongs_to")
        again = Relationship("again", "a", "ai-ml", "belongs_to")
        both = await w.write(create("a"), edge)
        await w.write(DeleteRelationship(edge.relationship.id), type(edge)(again))
        replaced = await w.write(DeleteEntity("a", cascade=True), create("a"), edge)
        left = await w.write(touch("a", "2"), DeleteRelationship(edge.relationship.id))
        joined = await w.write(touch("a", "3"), edge, touch("a", "4"))
        last = await w.write(touch("a", "5"), DeleteEntity("a", cascade=True))
        assert brief(await until(watch, last)) == [
            (CREATED, both, "a"),
            (DELETED, replaced, "a"),
            (CREATED, replaced, "a"),
            (DELETED, left, "a"),
            (CREATED, joined, "a"),
            (UPDATED, joined, "a"),
            # The revision takes its tie, so it matches no more from its first change on.
            (DELETED, last, "a"),
        ]


async def test_w10_features_by_ties_that_come_and_go_within_one_revision() -> None:
    """However often an entity is tied and untied within a revision, it is sent at most once."""
    async with world() as w:
        watch = await w.hub.open(request(entities={"feature": "ai-ml"}))
        one, two = (
            CreateRelationship(Relationship(id_, "a", "ai-ml", "belongs_to")) for id_ in ("1", "2")
        )
        not_one, not_two = DeleteRelationship("1"), DeleteRelationship("2")
        await w.create("a")
        await w.write(one, not_one)
        joined = await w.write(one, not_one, one, not_one, two, not_two, one)
        await w.write(not_one, two, not_two, one, not_one, two)
        left = await w.write(not_two, one, not_one, two, not_two)
        last = await w.create("b", metadata=of_feature("ai-ml"))
        assert brief(await until(watch, last)) == [
            (CREATED, joined, "a"),
            (DELETED, left, "a"),
            (CREATED, last, "b"),
        ]


async def test_w11_snapshot_then_follow() -> None:
    """The state of one revision, its end, then the changes after it; the state stays readable."""
    async with world() as w:
        await w.write(create("a"), create("b", "plugin"), link("a", "b"))
        await w.write(create("c"), touch("a", "2"))
        at = w.revision
        watch = await w.hub.open(request(entities=SERVICES, relationships={}, snapshot=True))
        assert at in w.engine.pins
        await w.delete("c")
        new = await w.touch("a", "3")
        messages = await until(watch, at)
        assert [(e.id, e.version) for m in messages for e in m.entities] == [("a", "2"), ("c", "")]
        assert [r.id for m in messages for r in m.relationships] == ["a-depends_on-b"]
        assert all(m.more and not m.revision and not m.resume_token for m in messages[:-1])
        end = messages[-1]
        assert (end.mark, end.revision, end.more) == (SNAPSHOT_END, at, False)
        assert brief(await until(watch, new)) == [(DELETED, new - 1, "c"), (UPDATED, new, "a")]
        resumed = await w.hub.open(request(end.resume_token, entities=SERVICES))
        assert brief(await until(resumed, new)) == [(DELETED, new - 1, "c"), (UPDATED, new, "a")]


async def test_w11_snapshot_of_nothing() -> None:
    """Where nothing matches, the end of the snapshot comes at once."""
    async with world() as w:
        watch = await w.hub.open(request(entities={"types": ["robot"]}, snapshot=True))
        assert (await receive(watch)).mark == SNAPSHOT_END


async def test_w12_slow_consumer() -> None:
    """One who is far behind takes bounded memory, reads the log again and misses nothing."""
    limit = 100_000
    async with world(window_bytes=20_000, limits=Limits(cache_bytes=limit)) as w:
        slow = await w.hub.open(request(entities=SERVICES))
        fast = await w.hub.open(request(entities=SERVICES))
        metadata = of_feature("x" * 500)
        seen = []
        for number in range(600):
            revision = await w.create(f"e{number}", metadata=metadata)
            if number % 10 == 9:
                seen += await until(fast, revision)
            assert w.hub.statistics().cached_bytes <= limit
        assert w.hub.statistics().lag >= 599
        late = await until(slow, revision)
        assert brief(late) == brief(seen)
        assert [name for _, _, name in brief(late)] == [f"e{number}" for number in range(600)]
        assert w.hub.statistics().cached_bytes <= limit


async def test_w13_token_of_another_history() -> None:
    """A token knows its history: another one refuses it, and nobody takes it for a revision."""
    async with world() as one, world() as other:
        revision = await one.create("a")
        await other.create("b")
        message = await receive(await one.hub.open(request(revision)))
        with pytest.raises(HistoryChanged) as refused:
            await other.hub.open(request(message.resume_token))
        assert refused.value.metadata == {
            "token_epoch": one.engine.epoch,
            "epoch": other.engine.epoch,
        }
        with pytest.raises(TokenInvalid):
            await one.hub.open(request(message.resume_token[:-1]))
        with pytest.raises(TokenInvalid):
            await one.hub.open(request(""))


async def test_w13_token_of_a_future() -> None:
    """A token that is ahead is waited for a little, as a replica's may be, and then refused."""
    async with world(limits=Limits(replica_lag_seconds=0.05)) as w:
        ahead = ResumeToken(w.engine.lineage(w.revision), w.revision + 1).encode()
        with pytest.raises(HistoryChanged):
            await w.hub.open(request(ahead))
    async with world(limits=Limits(replica_lag_seconds=10)) as w:
        ahead = ResumeToken(w.engine.lineage(w.revision), w.revision + 1).encode()
        opening = asyncio.create_task(w.hub.open(request(ahead)))
        await asyncio.sleep(0.02)
        assert not opening.done()
        # It comes, and is not what the token is of.
        await w.create("a")
        with pytest.raises(HistoryChanged):
            await opening


async def test_w13_history_set_back() -> None:
    """Where the store was set back and others wrote on, tokens of what was lost are refused.

    Those of before are not, and nothing is passed off for what was lost, whenever it is asked for.
    """
    disk = MemoryDisk()
    async with world(disk) as w:
        kept = await w.create("a")
        old = deepcopy(replace(disk, held=False))
        await w.create("lost")
        tokens = {r: ResumeToken(w.engine.lineage(r), r).encode() for r in (kept, kept + 1)}
    async with world(old, limits=Limits(replica_lag_seconds=0.01)) as w:
        with pytest.raises(HistoryChanged):
            await w.hub.open(request(tokens[kept + 1]))
        last = await w.create("other")
        assert last == kept + 1
        with pytest.raises(HistoryChanged):
            await w.hub.open(request(tokens[kept + 1]))
        watch = await w.hub.open(request(tokens[kept]))
        assert brief(await until(watch, last)) == [(CREATED, last, "other")]
