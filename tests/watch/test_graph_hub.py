"""Watching answers about the graph: what is sent, when, and what it costs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from hyper_registry.model.errors import (
    AnswerTooLarge,
    EntityNotFound,
    FilterInvalid,
    HistoryChanged,
    InvalidArgument,
    NotServing,
    TokenInvalid,
    TooManyStreams,
)
from hyper_registry.query.answers import AnswerReader, Bounds
from hyper_registry.query.tokens import ResumeToken
from hyper_registry.watch.graph import group, hub, stream
from hyper_registry.watch.graph.stream import GraphWatch
from ose.registry.v1.graph_service_pb2 import GraphQuestion, WatchGraphResponse
from tests.watch.graph_world import (
    BOOKMARK,
    CHANGED,
    ENTERED,
    LEFT,
    RESET,
    SNAPSHOT_END,
    Following,
    GraphWorld,
    graph_world,
    receive,
    until_end,
)
from tests.watch.world import create, link

DEPENDENCIES = GraphQuestion.GRAPH_QUESTION_DEPENDENCIES
IMPACT = GraphQuestion.GRAPH_QUESTION_IMPACT


@pytest.fixture
async def w() -> AsyncIterator[GraphWorld]:
    """`app` needs `db`, and `db` needs `disk`; `other` stands alone."""
    async with graph_world() as made:
        await made.create("app", "db", "disk", "other")
        await made.write(link("app", "db"), link("db", "disk", "requires"))
        yield made


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The revisions at which answers were walked."""
    walked: list[int] = []
    honest = AnswerReader.read

    async def read(self: AnswerReader, question: object, revision: int, bounds: Bounds) -> object:
        walked.append(revision)
        return await honest(self, question, revision, bounds)  # type: ignore[arg-type]

    monkeypatch.setattr(AnswerReader, "read", read)
    return walked


class Gate:
    """Holds up those who walk the graph, until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()
        honest = AnswerReader.read

        async def read(
            reader: AnswerReader, question: object, revision: int, bounds: Bounds
        ) -> object:
            self.reached.set()
            await self.opened.wait()
            return await honest(reader, question, revision, bounds)  # type: ignore[arg-type]

        monkeypatch.setattr(AnswerReader, "read", read)


def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """No time has to pass between two differences."""
    monkeypatch.setattr(group, "STEP_SECONDS", 0.0)


async def step(watch: GraphWatch, following: Following) -> list[tuple[int, str]]:
    """The changes of the next difference: their types and ids."""
    found: list[tuple[int, str]] = []
    while True:
        message = await receive(watch)
        following.take(message)
        found += [(one.type, one.entity.id or one.relationship.id) for one in message.changes]
        if found and not message.more:
            return found


async def is_silent(watch: GraphWatch) -> bool:
    """Whether nothing comes for a while."""
    try:
        await receive(watch, 0.05)
    except TimeoutError:
        return True
    return False


async def test_the_answer_then_its_changes(w: GraphWorld) -> None:
    """First comes the answer, nearest first, then a mark, then what enters, changes and leaves."""
    async with await w.open(question=DEPENDENCIES) as watch:
        following = await until_end(watch)
        assert following.distances == {"app": 0, "db": 1, "disk": 2}
        assert [*following.edges] == ["app-depends_on-db", "db-requires-disk"]
        assert following.revision == w.revision
        assert following.marks == [SNAPSHOT_END]
        await w.link("disk", "other")
        assert await step(watch, following) == [
            (ENTERED, "other"), (ENTERED, "disk-depends_on-other"),
        ]  # fmt: skip
        await w.touch("disk", "2")
        assert await step(watch, following) == [(CHANGED, "disk")]
        await w.delete("disk")
        assert await step(watch, following) == [
            (LEFT, "disk"), (LEFT, "other"), (LEFT, "db-requires-disk"),
            (LEFT, "disk-depends_on-other"),
        ]  # fmt: skip
        assert following.nodes.keys() == {"app", "db"}


async def test_only_what_touches_the_answer_is_looked_at(
    w: GraphWorld, reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Changes elsewhere, of types that are not walked, and against the way, cost no walk.

    A bookmark says that nothing changed.
    """
    at_once(monkeypatch)
    async with await w.open(question=DEPENDENCIES) as watch:
        await until_end(watch)
        reads.clear()
        await w.touch("other", "2")
        await w.link("app", "other", "belongs_to")
        await w.link("other", "app")
        await w.create("more")
        assert await is_silent(watch)
        assert not reads
        watch._interval = 0.0
        bookmark = await receive(watch)
        assert (bookmark.mark, bookmark.revision) == (BOOKMARK, w.revision)


async def test_a_lone_change_comes_at_once_and_the_next_waits(
    w: GraphWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Differences are apart by a time; what happens within it comes as one, with its revisions."""
    monkeypatch.setattr(group, "STEP_SECONDS", 0.3)
    now = asyncio.get_running_loop().time
    async with await w.open() as watch:
        following = await until_end(watch)
        began = now()
        first = await w.touch("db", "2")
        assert await step(watch, following) == [(CHANGED, "db")]
        assert now() - began < 0.25
        for version in "3456":
            await w.touch("db", version)
        await w.touch("app", "2")
        assert await step(watch, following) == [(CHANGED, "app"), (CHANGED, "db")]
        assert now() - began > 0.29
        assert following.steps[-1] == (first, w.revision, 2)


async def test_what_goes_back_is_not_told(w: GraphWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes and goes between two differences is in none; who joins meanwhile is told it left.

    One who has the answer of before has that of afterwards, but not one who came in between.
    """
    monkeypatch.setattr(group, "STEP_SECONDS", 0.2)
    async with await w.open() as watch:
        following = await until_end(watch)
        await w.touch("app", "2")
        await step(watch, following)
        await w.link("app", "other")
        async with await w.open() as late:
            other = await until_end(late)
            assert "other" in other.nodes
            await w.delete("other")
            assert await step(late, other) == [(LEFT, "other"), (LEFT, "app-depends_on-other")]
        await w.touch("db", "2")
        assert await step(watch, following) == [(CHANGED, "db")]


async def test_watchers_of_a_question_share_the_work(
    w: GraphWorld, reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A question is walked once a revision, however many watch it, and written once."""
    at_once(monkeypatch)
    async with AsyncExitStack() as stack:
        watches = [await stack.enter_async_context(await w.open()) for _ in range(30)]
        followings = [await until_end(watch) for watch in watches]
        assert len(reads) == 1
        waiting = [asyncio.create_task(anext(watch)) for watch in watches]
        await asyncio.sleep(0)
        revision = await w.touch("db", "2")
        messages = await asyncio.gather(*waiting)
        assert reads[1:] == [revision]
        assert len(set(messages)) == 1
        assert w.seats.taken == len(followings) == 30
    assert not w.hub._groups
    assert w.seats.taken == 0


async def test_a_slow_watcher_takes_larger_steps(
    w: GraphWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who does not keep up gets what is different from what it has, in one step."""
    at_once(monkeypatch)
    async with await w.open() as slow, await w.open() as quick:
        following, keeping = await until_end(slow), await until_end(quick)
        began = following.revision
        for version in "2345":
            await w.touch("db", version)
            await step(quick, keeping)
        await w.link("app", "disk")
        await step(quick, keeping)
        assert await step(slow, following) == [
            (CHANGED, "db"), (ENTERED, "disk"), (ENTERED, "app-depends_on-disk"),
        ]  # fmt: skip
        assert following.steps == [(began, w.revision, 3)]
        assert following.nodes == keeping.nodes


async def test_resuming(w: GraphWorld) -> None:
    """A token continues after its message: with one difference, or the word that there is none."""
    async with await w.open() as watch:
        following = await until_end(watch)
    began = following.revision
    async with await w.open(token=following.token) as watch:
        assert (await receive(watch)).mark == BOOKMARK
    await w.touch("db", "2")
    await w.create("new")
    await w.link("app", "new")
    async with await w.open(token=following.token) as watch:
        changes = [(CHANGED, "db"), (ENTERED, "new"), (ENTERED, "app-depends_on-new")]
        assert await step(watch, following) == changes
        assert following.steps == [(began, w.revision, 3)]
        assert await is_silent(watch)
    await w.touch("other", "9")
    async with await w.open(token=following.token) as watch:
        bookmark = await receive(watch)
        assert (bookmark.mark, bookmark.revision) == (BOOKMARK, w.revision)


async def test_tokens_are_checked(w: GraphWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """A token is of use with its own question and history only."""
    monkeypatch.setattr(hub, "_REPLICA_LAG_SECONDS", 0.01)
    async with await w.open() as watch:
        token = (await until_end(watch)).token
    for bad, fields in (
        (token, {"depth": 2}),
        (token[:-1] + "x", {}),
        (ResumeToken(w.engine.lineage(w.revision), w.revision).encode(), {}),
    ):
        with pytest.raises(TokenInvalid):
            await w.open(token=bad, **fields)  # type: ignore[arg-type]
    digest = watch._group.question.digest
    for lineage, revision in (
        ("another", w.revision),
        (f"{w.engine.epoch}:another", w.revision),
        (w.engine.lineage(w.revision), w.revision + 1),
    ):
        with pytest.raises(HistoryChanged):
            await w.open(token=ResumeToken(lineage, revision, digest).encode())


async def test_a_forgotten_base_resets(w: GraphWorld) -> None:
    """When what came since a token is compacted, the stream begins anew, and says so."""
    async with await w.open() as watch:
        following = await until_end(watch)
    await w.touch("db", "2")
    await w.touch("db", "3")
    await w.forget()
    async with await w.open(token=following.token) as watch:
        while not following.marks[1:] or not following.is_whole:
            following.take(await receive(watch))
        assert following.marks == [SNAPSHOT_END, RESET, SNAPSHOT_END]
        assert following.nodes["db"].version == "3"
        await w.touch("db", "4")
        assert await step(watch, following) == [(CHANGED, "db")]


async def test_a_watcher_keeps_its_base_for_a_while(
    w: GraphWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Compaction does not take what a slow watcher needs, until that takes too long."""
    at_once(monkeypatch)
    for patience in (60.0, 0.0):
        monkeypatch.setattr(stream, "HOLD_SECONDS", patience)
        async with await w.open() as slow, await w.open() as quick:
            following, keeping = await until_end(slow), await until_end(quick)
            await w.touch("db", str(w.revision))
            await step(quick, keeping)
            while slow._holding.is_active != bool(patience):  # noqa: ASYNC110 - the timer is due
                await asyncio.sleep(0)
            await w.touch("db", str(w.revision))
            await w.forget()
            await step(quick, keeping)
            following.take(await receive(slow))
            if patience:
                assert following.nodes["db"] == keeping.nodes["db"]
            else:
                assert following.marks == [SNAPSHOT_END, RESET]


async def test_memory_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """An idle watch does not hold on to what compaction has replaced, nor to its first revision."""
    monkeypatch.setattr(hub, "_TIDY_SECONDS", 0.0)
    monkeypatch.setattr("hyper_registry.registry.engine._REORGANISE_LEAST", 1)
    monkeypatch.setattr("hyper_registry.registry.engine._REORGANISE_SHARE", 0.0)
    async with graph_world() as made:
        await made.create("app")
        async with await made.open() as watch:
            following = await until_end(watch)
            waiting = asyncio.create_task(anext(watch))
            await asyncio.sleep(0)
            for version in range(5):
                await made.create(f"other{version}")
            await made.delete("other1")
            before = made.engine.view.generation
            await made.forget()
            assert made.engine.view.generation is not before
            assert made.engine.pins.oldest(made.revision) > following.revision
            async with asyncio.timeout(10):
                while made.hub.sources.answers.bytes:  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0)
            await made.touch("app", "2")
            following.take(WatchGraphResponse.FromString(await waiting))
            assert following.nodes["app"].version == "2"


async def test_the_root_comes_and_goes(w: GraphWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its root at the start there is no watch; when it is deleted, everything leaves.

    The stream stays, and when the root is made again, it enters.
    """
    at_once(monkeypatch)
    with pytest.raises(EntityNotFound):
        await w.open("nobody")
    assert w.seats.taken == 0
    async with await w.open("db", question=IMPACT) as watch:
        following = await until_end(watch)
        await w.delete("db")
        assert await step(watch, following) == [
            (LEFT, "db"), (LEFT, "app"), (LEFT, "app-depends_on-db"),
        ]  # fmt: skip
        gone = following.token
        await w.touch("app", "2")
        assert await is_silent(watch)
        async with await w.open("db", token=gone, question=IMPACT) as again:
            assert (await receive(again)).mark == BOOKMARK
        await w.write(create("db"), link("app", "db"))
        assert await step(watch, following) == [
            (ENTERED, "db"), (ENTERED, "app"), (ENTERED, "app-depends_on-db"),
        ]  # fmt: skip


async def test_too_large_an_answer(w: GraphWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that is too large is not followed, and one that becomes it is no more."""
    at_once(monkeypatch)
    monkeypatch.setattr(group, "BOUNDS", Bounds("max_watched_nodes", 3, 9))
    async with await w.open(question=DEPENDENCIES) as watch:
        await until_end(watch)
        await w.link("disk", "other")
        with pytest.raises(AnswerTooLarge) as caught:
            await receive(watch)
        assert caught.value.metadata == {"limit": "max_watched_nodes", "maximum": "3"}
        with pytest.raises(AnswerTooLarge):
            await w.open(question=DEPENDENCIES)
    await w.delete("other")
    async with await w.open(question=DEPENDENCIES) as watch:
        assert len((await until_end(watch)).nodes) == 3


async def test_large_answers_and_differences_come_in_parts(
    w: GraphWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is too much for a message comes in several that belong together."""
    monkeypatch.setattr(stream, "PART_BYTES", 1000)
    monkeypatch.setattr(group, "PART_BYTES", 1000)
    names = [f"n{number}" for number in range(100)]
    await w.create(*names)
    await w.write(*(link("app", name) for name in names[:50]))
    async with await w.open(include_previous=True) as watch:
        following = Following()
        sizes = []
        while not following.revision:
            data = await anext(watch)
            sizes.append(len(data))
            following.take(WatchGraphResponse.FromString(data))
        assert len(following.nodes) == 52
        await w.write(*(link("app", name) for name in names[50:]))
        parts = 0
        while not following.steps:
            data = await anext(watch)
            sizes.append(len(data))
            following.take(WatchGraphResponse.FromString(data))
            parts += 1
        assert parts > 5
        assert len(following.nodes) == 102
        assert max(sizes) < 1200


async def test_what_was_before(w: GraphWorld) -> None:
    """What a changed resource was comes along if it is asked for, and only of what was changed."""
    async with await w.open(include_previous=True) as asking, await w.open() as watch:
        for each in (asking, watch):
            await until_end(each)
        await w.touch("db", "2")
        with_previous, without = await receive(asking), await receive(watch)
        (change,) = with_previous.changes
        assert (change.entity.version, change.previous_entity.version) == ("2", "")
        assert change.previous_entity.id == "db"
        assert change.distance == 1
        assert not without.changes[0].HasField("previous_entity")


async def test_a_filter_at_the_border(w: GraphWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entity beside the answer enters when the filter lets it in, and leaves otherwise."""
    at_once(monkeypatch)
    async with await w.open(question=DEPENDENCIES, filter='version = "2"') as watch:
        following = await until_end(watch)
        assert [*following.nodes] == ["app"]
        await w.touch("disk", "2")
        assert await is_silent(watch)
        await w.touch("db", "2")
        assert [one for _, one in await step(watch, following)] == [
            "db", "disk", "app-depends_on-db", "db-requires-disk",
        ]  # fmt: skip
        await w.touch("db", "3")
        assert {kind for kind, _ in await step(watch, following)} == {LEFT}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"root_id": "a/b"}, "root_id"),
        ({"question": 9}, "question"),
        ({"question": DEPENDENCIES, "direction": 2}, "direction"),
        ({"direction": 9}, "direction"),
        ({"depth": -1}, "depth"),
        ({"types": ["9"]}, "types"),
        ({"bookmark_interval": {"nanos": 1}}, "bookmark_interval"),
    ],
)
async def test_malformed_requests(w: GraphWorld, fields: dict[str, object], field: str) -> None:
    """Each field that is malformed is named."""
    with pytest.raises(InvalidArgument) as caught:
        await w.open(**fields)  # type: ignore[arg-type]
    assert caught.value.violations[0].field == field


async def test_a_filter_that_is_wrong_or_moves(w: GraphWorld) -> None:
    """A filter must be one, and must not count from now: an answer changes by changes only."""
    for bad in ("type =", "updated_at > ago(1h)"):
        with pytest.raises(FilterInvalid):
            await w.open(filter=bad)


async def test_there_are_so_many_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond max_watches, or beyond what all answers may have, there is no further one."""
    async with graph_world(max_watches=2) as w:
        await w.create("app", "db")
        async with await w.open(), await w.open() as second:
            with pytest.raises(TooManyStreams):
                await w.open()
            await second.aclose()
            await second.aclose()
            assert w.seats.taken == 1
            monkeypatch.setattr(group, "MAX_NODES", 1)
            with pytest.raises(TooManyStreams, match="max_followed_nodes"):
                await w.open("db")
            async with await w.open():
                pass


async def test_watches_that_are_opened_at_once_share_the_room(
    w: GraphWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How large an answer is shows when it is there: of those that come together, one fits.

    So it is when they are resumed. What an answer took is given back with its last watch.
    """
    async with await w.open("other") as watch:
        token = (await until_end(watch)).token
    monkeypatch.setattr(group, "MAX_NODES", 1)
    async with AsyncExitStack() as stack:
        opening = [w.open(), w.open("db"), w.open("disk", question=IMPACT)]
        found = await asyncio.gather(*opening, return_exceptions=True)
        opened = [one for one in found if isinstance(one, GraphWatch)]
        for one in opened:
            await stack.enter_async_context(one)
        assert len(opened) == w.seats.taken == 1
        assert sum(isinstance(one, TooManyStreams) for one in found) == 2
    assert w.hub.sources.followed == 0
    gate = Gate(monkeypatch)
    async with await w.open("other", token) as resumed:
        waiting = asyncio.create_task(receive(resumed))
        await gate.reached.wait()
        also = asyncio.create_task(w.open("db"))
        await asyncio.sleep(0)
        gate.opened.set()
        outcomes = await asyncio.gather(waiting, also, return_exceptions=True)
        assert sum(isinstance(one, TooManyStreams) for one in outcomes) == 1
        if isinstance(outcomes[1], GraphWatch):
            await outcomes[1].aclose()


async def test_nothing_is_missed_while_a_group_looks(
    w: GraphWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What touches an answer that is being walked is told, however much happens meanwhile."""
    at_once(monkeypatch)
    monkeypatch.setattr(group, "_MOST_PENDING", 1)
    async with await w.open(question=DEPENDENCIES) as watch:
        following = await until_end(watch)
        gate = Gate(monkeypatch)
        waiting = asyncio.create_task(step(watch, following))
        await w.link("disk", "other")
        await gate.reached.wait()
        await w.create("elsewhere")
        await w.hub._followed(w.revision)
        # Only the answer that is being walked has this one.
        await w.hub._followed(await w.touch("other", "2"))
        gate.opened.set()
        assert await waiting == [(ENTERED, "other"), (ENTERED, "disk-depends_on-other")]
        assert await step(watch, following) == [(CHANGED, "other")]


async def test_draining(w: GraphWorld) -> None:
    """When the server goes, what is committed is delivered; then the watches end."""
    async with await w.open() as watch:
        following = await until_end(watch)
        await w.touch("db", "2")
        w.engine.feed.close()
        assert await step(watch, following) == [(CHANGED, "db")]
        with pytest.raises(NotServing):
            await receive(watch)
        with pytest.raises(NotServing):
            await w.open()


async def test_closing_ends_a_wait(w: GraphWorld) -> None:
    """A hub that is closed ends its watches at once."""
    async with await w.open() as watch:
        await until_end(watch)
        waiting = asyncio.create_task(anext(watch))
        await asyncio.sleep(0)
        await w.hub.aclose()
        with pytest.raises(NotServing):
            await waiting


async def test_closing_ends_an_opening(w: GraphWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is still waiting for the answer then is told that nothing is served."""
    gate = Gate(monkeypatch)
    opening = [asyncio.create_task(w.open(root)) for root in ("app", "app", "db")]
    await gate.reached.wait()
    await w.hub.aclose()
    found = await asyncio.gather(*opening, return_exceptions=True)
    assert [type(one) for one in found] == [NotServing] * 3
    assert w.seats.taken == 0


async def test_a_failure_is_told(w: GraphWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug ends the watches that it concerns, with an error, and no others."""
    async with await w.open() as watch, await w.open("other") as other:
        await until_end(watch)
        await until_end(other)

        def broken(*_: object) -> None:
            raise ZeroDivisionError

        with monkeypatch.context() as patch:
            patch.setattr("hyper_registry.watch.graph.group.difference_of", broken)
            await w.touch("db", "2")
            with pytest.raises(ZeroDivisionError):
                await receive(watch)
        await w.touch("other", "2")
        assert (await receive(other)).changes[0].type == CHANGED
        async with await w.open() as again:
            await until_end(again)
