"""Pages of the difference between an answer at one revision and the same answer at another."""

from __future__ import annotations

from dataclasses import dataclass

from hyper_registry.model.errors import EntityNotFound, TokenExpired, TokenInvalid
from hyper_registry.query.answers import Answer, AnswerReader, Bounds, off_the_loop
from hyper_registry.query.differences import Difference, compare
from hyper_registry.query.problems import parse_limit
from hyper_registry.query.tokens import PAGE_FIELD, History, Kind, PageToken, open_page
from hyper_registry.query.traversal import DEFAULT_BYTES, GraphQuestion, Walker
from hyper_registry.query.working import Paused

BOUNDS = Bounds("max_compared_nodes", 1_000_000, 10_000_000)
"""The largest answers that are compared."""

MOST_CHANGES = 100_000
DEFAULT_CHANGES = 10_000

CHANGES_TAG = 0x0A
"""`changes` of DiffGraphResponse."""

# What a response has beside changes.
_ENVELOPE = 1024

_Key = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class DiffPage:
    """A part of a difference, or all of it; the fields are those of DiffGraphResponse.

    `changes_bytes` are serialised fields. What cut the page is a number of changes if `limit` is
    one, else a number of bytes; both are 0 if nothing did.
    """

    changes_bytes: bytes
    from_revision: int
    revision: int
    limit: int
    byte_limit: int
    next_page_token: str


class DiffReader:
    """Compares answers; lives on the event loop, and does what takes long in a thread."""

    def __init__(self, history: History, walker: Walker) -> None:
        self._history = history
        self._answers = AnswerReader(walker)
        self._paused = Paused[Difference]()

    async def first(
        self,
        question: GraphQuestion,
        from_revision: int,
        revision: int,
        limit: int,
        with_previous: bool,
    ) -> DiffPage:
        """The first page of a difference; both revisions must be readable, either may be earlier.

        Raises InvalidArgument, EntityNotFound (there is no root at either), AnswerTooLarge.
        """
        key = (question.digest, from_revision, revision)
        return await self._page(question, key, 0, _limit(limit), with_previous)

    async def next(
        self, question: GraphQuestion, page_token: str, limit: int, with_previous: bool
    ) -> DiffPage:
        """The page behind a token. Raises what `first` and `open_page` raise."""
        limit = _limit(limit)
        token = open_page(page_token, Kind.GRAPH_DIFF, question.digest, self._history)
        match token.key:
            case [int(from_revision), int(start)] if from_revision >= 0 and start > 0:
                pass
            case _:
                raise TokenInvalid(PAGE_FIELD, "it is not a token of this registry")
        if not self._history.readable(from_revision):
            raise TokenExpired(from_revision, self._history.view.floor)
        key = (question.digest, from_revision, token.revision)
        return await self._page(question, key, start, limit, with_previous)

    async def _page(
        self, question: GraphQuestion, key: _Key, start: int, limit: int, with_previous: bool
    ) -> DiffPage:
        pins, (_, from_revision, revision) = self._history.pins, key
        with pins.hold(from_revision), pins.hold(revision):
            difference = self._paused.take(key)
            if difference is None:
                difference = await self._compared(question, from_revision, revision)
            if start and start >= len(difference):
                raise TokenInvalid(PAGE_FIELD, "it is not a token of this registry")
            room = DEFAULT_BYTES - _ENVELOPE
            data, end = await off_the_loop(
                min(limit, len(difference) - start),
                lambda: difference.part(CHANGES_TAG, start, limit, room, with_previous),
            )
            if end < len(difference):
                pins.touch(from_revision)
                pins.touch(revision)
        if end == len(difference):
            return DiffPage(data, from_revision, revision, 0, 0, "")
        self._paused.put(key, difference)
        token = PageToken(
            Kind.GRAPH_DIFF,
            self._history.lineage(revision),
            revision,
            question.digest,
            (from_revision, end),
        )
        by_count = end - start == limit
        return DiffPage(
            data,
            from_revision,
            revision,
            limit if by_count else 0,
            0 if by_count else DEFAULT_BYTES,
            token.encode(),
        )

    async def _compared(
        self, question: GraphQuestion, from_revision: int, revision: int
    ) -> Difference:
        before, after = await self._answers.read_both(question, from_revision, revision, BOUNDS)
        if not before.size and not after.size:
            raise EntityNotFound(question.root_id, revision)
        return await difference_of(before, after)


async def difference_of(before: Answer, after: Answer) -> Difference:
    """What is different between two answers of one generation; of large ones, from a thread."""
    return await off_the_loop(before.size + after.size, lambda: compare(before, after))


def _limit(limit: int) -> int:
    return parse_limit(limit, DEFAULT_CHANGES, MOST_CHANGES)
