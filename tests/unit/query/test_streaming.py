"""An answer in parts is the answer, whoever takes them, and wherever the stream breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hyper_registry.model.errors import EntityNotFound, TokenExpired, TokenInvalid
from hyper_registry.model.relationship import Direction
from hyper_registry.query import graph, streaming
from hyper_registry.query.graph import GraphPage, GraphReader, Reason
from hyper_registry.query.streaming import GraphStreamer
from hyper_registry.query.traversal import GraphQuestion, Limits
from tests.unit.query.test_graph import Answer, check, questions, star
from tests.unit.query.world import World, worlds

# A part has a kibibyte for what is beside the records.
SMALL = patch.multiple(streaming, FIRST_PART_BYTES=1100, PART_BYTES=1300)


def streamer(world: World) -> GraphStreamer:
    """One that has nothing kept from before."""
    return GraphStreamer(world, GraphReader(world, world.walker))


async def take(
    stream: AsyncGenerator[GraphPage, None], answer: Answer, most: int = 1 << 30
) -> list[GraphPage]:
    """Adds some parts to an answer, then breaks the stream off."""
    parts: list[GraphPage] = []
    async with aclosing(stream):
        async for part in stream:
            answer.add(part)
            parts.append(part)
            if len(parts) == most:
                break
    return parts


@SMALL
@given(world=worlds(), question=questions, breaks=st.lists(st.integers(1, 3), max_size=4))
def test_parts_are_the_whole(world: World, question: GraphQuestion, breaks: list[int]) -> None:
    """All parts joined are the answer, also when the stream breaks and another replica goes on."""
    revision = world.revision

    async def ask() -> tuple[Answer, list[GraphPage]]:
        answer, parts = Answer(), list[GraphPage]()
        token = ""
        for most in (*breaks, 1 << 30):
            stream = streamer(world).parts(question, Limits(), revision, token)
            parts += await take(stream, answer, most)
            token = parts[-1].next_page_token
            if not token:
                break
            world.compact(revision)
        return answer, parts

    if question.root_id not in world.now.entities:
        with pytest.raises(EntityNotFound):
            asyncio.run(ask())
        return
    answer, parts = asyncio.run(ask())
    check(world, question, revision, answer)
    assert [part.complete for part in parts] == [False] * (len(parts) - 1) + [True]
    assert all(part.incomplete_reason == Reason.NONE for part in parts)


@SMALL
@pytest.mark.parametrize("limit", ["nodes", "edges"])
@pytest.mark.parametrize("most", [1, 2, 1 << 30])
async def test_limits_are_of_all_parts(limit: str, most: int) -> None:
    """A limit is counted over all parts and broken streams; behind it, the count begins anew."""
    world = star(60)
    question = GraphQuestion("hub", Direction.IN)
    limits = Limits(**{limit: 40})
    answer, ends = Answer(), list[int]()
    token = ""
    while True:
        stream = streamer(world).parts(question, limits, world.revision, token)
        part = (await take(stream, answer, most))[-1]
        token = part.next_page_token
        if part.incomplete_reason:
            assert part.incomplete_reason.name == f"{limit[:-1].upper()}_LIMIT"
            assert part.incomplete_limit == 40
            ends.append(len(getattr(answer, limit)))
        if not token:
            break
    check(world, question, world.revision, answer)
    assert ends == [40 * (n + 1) for n in range((len(getattr(answer, limit)) - 1) // 40)]


async def test_the_first_part_is_early() -> None:
    """The first part needs a small part of the walk only, and a stream keeps no walk at its end."""
    world = star(3000)
    question = GraphQuestion("hub", Direction.IN)
    reader = GraphReader(world, world.walker)
    with patch.multiple(streaming, FIRST_PART_BYTES=2000, PART_BYTES=4000):
        stream = GraphStreamer(world, reader).parts(question, Limits(), world.revision)
        async with aclosing(stream):
            await anext(stream)
            ((_, waiting),) = reader._paused._waiting.items()
            assert waiting.work.node_count < 300
            assert world.revision in world.pins
        assert not len(reader._paused)
        # For a minute, so that who lost the connection can go on.
        assert world.revision in world.pins
        assert not world.pins._held


async def test_many_slow_readers_hold_little() -> None:
    """Of many streams that nobody reads on, the walks of a few are kept; all go on all the same."""
    world = star(200)
    question = GraphQuestion("hub", Direction.IN)
    with SMALL, patch.object(graph, "_PAUSED_MOST", 3):
        reader = GraphReader(world, world.walker)
        first = world.revision
        streams = []
        for _ in range(10):
            world.put_entity("hub", version=str(world.revision))
            world.publish()
            streams.append(GraphStreamer(world, reader).parts(question, Limits(), world.revision))
        answers = [Answer() for _ in streams]
        for stream, answer in zip(streams, answers, strict=True):
            answer.add(await anext(stream))
        assert len(reader._paused) == 3
        for number, (stream, answer) in enumerate(zip(streams, answers, strict=True), 1):
            await take(stream, answer)
            check(world, question, first + number, answer)


async def test_a_stream_that_takes_too_long() -> None:
    """A revision is kept for a stream for a limited time; then it may be gone, which is said."""
    world = star(50)
    question = GraphQuestion("hub", Direction.IN)
    with SMALL, patch.object(streaming, "LONGEST_SECONDS", 0.0):
        stream = streamer(world).parts(question, Limits(), world.revision)
        await anext(stream)
        while world.revision in world.pins:  # noqa: ASYNC110 - the timer is due
            await asyncio.sleep(0)
        world.publish()
        world.compact(world.revision)
        with pytest.raises(TokenExpired):
            await anext(stream)


async def test_tokens_are_checked() -> None:
    """A token of a page is not one of a stream, nor is one with a place that cannot be."""
    world = star(50)
    question, reader = GraphQuestion("hub", Direction.IN), GraphReader(world, world.walker)
    page = await reader.answer(question, Limits(nodes=5), world.revision)
    streams = GraphStreamer(world, reader)
    with pytest.raises(TokenInvalid):
        await anext(streams.parts(question, Limits(), 0, page.next_page_token))
    with SMALL:
        part = await anext(streams.parts(question, Limits(), world.revision))
    with pytest.raises(TokenInvalid):
        await reader.answer(question, Limits(), 0, part.next_page_token)
    other = GraphQuestion("hub", Direction.BOTH)
    with pytest.raises(TokenInvalid):
        await anext(streams.parts(other, Limits(), 0, part.next_page_token))
