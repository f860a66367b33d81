"""Paths between two entities, the best first, at one revision.

The order is total, and the same on every replica and after every restart. By hops, a path with
fewer relationships is better; by weight, one whose weights add up to less, then one with fewer
relationships. Equals are in the order of their relationships: where two paths part, the one that
goes on along the relationship that was created first comes first. So relationships of different
types between the same two entities make different paths.

A search walks from both ends, breadth first, until it knows a part of the graph that holds all
paths up to some length or weight, and takes this part out (see `arcs`); `path_kernels.search` finds
the paths in it. If they are too few, the search goes on with a larger part.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from enum import IntEnum
from functools import cached_property

import numpy as np

from hyper_registry.model.errors import RegistryError, TokenInvalid
from hyper_registry.model.relationship import Direction
from hyper_registry.model.rules import ID_RULE, is_id, shown
from hyper_registry.query import kernels
from hyper_registry.query import path_kernels as finding
from hyper_registry.query.arcs import REVERSED, Arcs, links_of, numbered
from hyper_registry.query.found import Found
from hyper_registry.query.graph import Reason
from hyper_registry.query.problems import Problems
from hyper_registry.query.tokens import (
    PAGE_FIELD,
    History,
    Kind,
    PageToken,
    digest_of,
    open_page,
)
from hyper_registry.query.traversal import (
    DEFAULT_BYTES,
    UNLIMITED,
    GraphQuestion,
    Limits,
    Walk,
    Walker,
)
from hyper_registry.query.working import Paused, in_thread
from hyper_registry.registry.columns import Bytes, IntColumns, Ints, distinct
from hyper_registry.registry.table import LINKS
from ose.registry.v1.graph_service_pb2 import Path

MOST_STEPS = 10_000_000
"""How many relationships the search for one page looks at, about, before it gives up.
"""

MOST_LOOKS, MOST_LABELS = 10_000_000, 1 << 21
"""How many relationships the search for one path looks at before it is given up for good.

And how many ways it remembers, at some 72 bytes each.
"""

# What a response has beside records and paths, and what a path takes beside its own bytes.
_ENVELOPE, _FRAME = 1024, 8
_FARTHEST = 1 << 40
_LOW = (1 << 32) - 1
_NOTHING: Ints = np.zeros(0, dtype=np.int64)
_ANY_HOPS = (1 << finding.HOP_BITS) - 1
# How many list entries a search looks at from either end before it first tries with what it knows,
# and how many times more the next time.
_FIRST_ENTRIES = 2048
_GROWTH = 4


class PathCost(IntEnum):
    """What makes a path better. The numbers are the API's."""

    HOPS = 1
    WEIGHT = 2


@dataclass(frozen=True)
class PathQuestion:
    """Between which entities, along what, and what makes a path better.

    `forward` asks what can be reached from the source, `backward` what the target can be reached
    from; `max_hops` None is no limit.
    """

    forward: GraphQuestion
    backward: GraphQuestion
    cost: PathCost = PathCost.HOPS
    max_hops: int | None = None

    @classmethod
    def parse(
        cls,
        source_id: str,
        target_id: str,
        cost: int,
        max_hops: int | None,
        types: Collection[str],
        direction: int,
        entity_types: Collection[str],
        filter: str = "",  # noqa: A002 - the request's name for it
    ) -> PathQuestion:
        """The question of a request's fields; 0 and what is empty are left out.

        Raises InvalidArgument with every field that is malformed; LimitExceeded or FilterInvalid if
        that is all that is wrong.
        """
        wrong = Problems()
        with wrong:
            forward = GraphQuestion.parse(
                source_id,
                direction or Direction.OUT,
                None if max_hops is None else max(max_hops, 1),
                types,
                entity_types,
                "source_id",
                filter,
            )
        if not is_id(target_id):
            wrong.add("target_id", f"{ID_RULE}, got {shown(target_id)}")
        if cost and cost not in {*PathCost}:
            wrong.add("cost", f"a value of its enum, got {cost}")
        if max_hops is not None and max_hops < 1:
            wrong.add("max_hops", f"1 or more, got {max_hops}")
        wrong.check()
        backward = replace(forward, root_id=target_id, direction=REVERSED[forward.direction])
        return cls(forward, backward, PathCost(cost or PathCost.HOPS), max_hops)

    @cached_property
    def digest(self) -> str:
        """The same for equal questions, in every process."""
        return digest_of(self.forward.digest, self.backward.root_id, self.cost)

    @property
    def restricted(self) -> bool:
        """Whether paths may not pass through every entity."""
        return self.forward.entity_types is not None or self.forward.filter is not None


@dataclass(frozen=True, slots=True)
class PathPage:
    """Some paths, or all there are; the fields are those of FindPathsResponse.

    `nodes_bytes` and `edges_bytes` are serialised fields.
    """

    nodes_bytes: bytes
    edges_bytes: bytes
    paths: list[Path]
    revision: int
    incomplete_reason: Reason = Reason.NONE
    incomplete_limit: int = 0
    next_page_token: str = ""


class _Side:
    """What is known from one end: a walk that gets farther, level by level."""

    def __init__(self, walk: Walk) -> None:
        self.walk = walk
        self.whole = False
        walk.turn(0, 0, Limits())

    @property
    def root(self) -> int:
        """The row of the end."""
        return int(self.walk.scratch.nodes.cells[kernels.IDENTITY] >> 32)

    @property
    def rows(self) -> Ints:
        """The rows of its nodes."""
        rows: Ints = self.identities >> 32
        return rows

    @property
    def identities(self) -> Ints:
        """`row << 32 | slot` of its nodes."""
        identities: Ints = self.walk.scratch.nodes.array[: self.walk.node_count, kernels.IDENTITY]
        return identities

    @property
    def radius(self) -> int:
        """How far everything is known, and all that is between; -1 if nothing is."""
        walk = self.walk
        return int(walk.scratch.nodes.array[walk.node_count, kernels.DISTANCE]) - 1

    @property
    def near(self) -> bool:
        """Whether at least everything next to the end is known."""
        return self.whole or self.radius >= 1

    @property
    def rim(self) -> Ints:
        """The rows of the nodes from which a path leaves what is known."""
        rim: Ints = self.rows[self.walk.distances == self.radius]
        return rim

    def met(self, other: _Side) -> bool:
        """Whether it has come to the other end."""
        scratch = self.walk.scratch
        mark = scratch.marks.cells[other.root * kernels.MARK_WIDTH + kernels.MARK]
        return mark >> 32 == scratch.stamp

    def grow(self, entries: int) -> None:
        """Walks on, looking at so many list entries."""
        if self.whole:
            return
        done = self.walk.node_count
        status = self.walk.advance(entries)
        if (
            status == kernels.WORKING
            and self.walk.node_count == done
            and self.walk.cells[kernels.ASKED]
        ):
            # Its filter has to be asked about more records at once than a walk with a budget does.
            status = self.walk.advance(UNLIMITED)
        self.whole = status == kernels.COMPLETE


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """A part of the graph that holds every path below a bound."""

    versions: Ints
    links: Ints
    arcs: Arcs
    guide: finding.Guide
    tables: finding.Tables


@dataclass(slots=True)
class _Room:
    """The memory of a search that may grow. It is taken only as used."""

    paths: IntColumns = field(default_factory=lambda: IntColumns(finding.PATH_WIDTH, 1 << 24))
    pool: IntColumns = field(default_factory=lambda: IntColumns(1, 1 << 28))
    choices: IntColumns = field(default_factory=lambda: IntColumns(finding.CHOICE_WIDTH, 1 << 26))
    waiting: IntColumns = field(default_factory=lambda: IntColumns(1, 1 << 26))
    bans: IntColumns = field(default_factory=lambda: IntColumns(finding.BAN_WIDTH, 1 << 26))

    def tables(self, nodes: int, arcs: int) -> finding.Tables:
        """The tables of a search in a part of this size."""
        return finding.Tables(
            self.paths.array,
            self.pool.array[:, 0],
            self.choices.array,
            self.waiting.array[:, 0],
            self.bans.array,
            np.zeros(nodes, dtype=np.int64),
            np.zeros(nodes, dtype=np.int64),
            np.zeros(arcs, dtype=np.int64),
        )


class PathSearch:
    """A search, as far as it is. It belongs to one thread at a time; `cancel` may come from any."""

    def __init__(
        self, question: PathQuestion, forward: Walk, backward: Walk, edge_types: Bytes
    ) -> None:
        self.question = question
        self.revision = forward.revision
        self.generation = forward.generation
        self.sides = (_Side(forward), _Side(backward))
        self._edge_types = edge_types
        self._state = np.zeros(finding.STATE_WIDTH, dtype=np.int64)
        self._flag = np.zeros(1, dtype=np.int64)
        self._room = _Room()
        self._entries = _FIRST_ENTRIES
        self._part: _Part | None = None
        self._whole = False

    @property
    def steps(self) -> int:
        """How many relationships it has looked at."""
        return int(self._state[finding.STEPS])

    @property
    def found(self) -> int:
        """How many paths it has found."""
        return int(self._state[finding.FOUND])

    @property
    def source(self) -> int:
        """The version of the entity that it starts at."""
        return int(self.sides[0].walk.scratch.nodes.cells[kernels.IDENTITY] & _LOW)

    def cancel(self) -> None:
        """Makes `find` end soon."""
        self._flag[0] = 1
        for side in self.sides:
            side.walk.cancel()

    def find(self, wanted: int, most_steps: int) -> int:
        """Goes on until so many paths are found; answers as `path_kernels.search` does.

        Gives up when it has made `most_steps` in all.
        """
        self._state[finding.BUDGET] = most_steps
        while not self._flag[0]:
            part = self._part or self._grown()
            status = finding.search(
                self._state, wanted, part.arcs, part.guide, part.tables, self._flag
            )
            if status != finding.EXHAUSTED or self._whole:
                return int(status)
            # What was found is the beginning of what is found with more of the graph.
            self._part = None
        return finding.CANCELLED

    def path(self, number: int) -> tuple[list[int], list[int]]:
        """The versions of the entities and of the relationships of a path that was found."""
        part = self._part
        assert part is not None
        start, length = part.tables.paths[number].tolist()
        arcs = part.tables.pool[start : start + length]
        nodes = np.concatenate(([self._state[finding.SOURCE]], part.arcs.heads[arcs]))
        return part.versions[nodes].tolist(), part.links[part.arcs.links[arcs]].tolist()

    def _grown(self) -> _Part:
        """Walks on from both ends until more is known, and takes that out."""
        while True:
            for side in self.sides:
                side.grow(self._entries)
            # Bounds by weight are weak: what is tried in between is mostly in vain.
            self._entries *= _GROWTH if self.question.cost == PathCost.HOPS else _GROWTH**2
            first, second = self.sides
            if self._flag[0] or self._holds_all(first, second) or self._holds_all(second, first):
                self._whole = True
                break
            if first.near and second.near:
                self._whole = first.radius + second.radius >= self._most_hops
                break
        self._part = self._taken_out()
        return self._part

    def _holds_all(self, side: _Side, other: _Side) -> bool:
        """Whether every path leads through what is known from this side.

        But the other end, if paths may not pass through entities like it.
        """
        return side.whole and (not self.question.restricted or side.met(other) or other.near)

    def _taken_out(self) -> _Part:
        question, generation = self.question, self.generation
        sides = [
            side for side, other in (self.sides, self.sides[::-1]) if side.whole and side.met(other)
        ][:1] or self.sides
        known = [side.identities for side in sides] + [self._ends()]
        identities = distinct(np.concatenate(known))
        rows, versions = identities >> 32, identities & _LOW
        slots = generation.relationships.slots.array
        edges = np.concatenate([side.walk.edge_slots for side in sides] + [self._direct()])
        edges = distinct((slots[edges, LINKS] & _LOW) << 32 | edges) & _LOW
        links = numbered(links_of(slots, edges), rows)
        arcs = links.arcs(question.forward.direction, len(rows))
        backwards = links.arcs(question.backward.direction, len(rows))
        source, target = (int(np.searchsorted(rows, side.root)) for side in self.sides)
        high, low = self._costs(edges)
        to_high, to_low = finding.distances(backwards, high, low, target, self._flag)
        ways = finding.cheapest_ways(arcs, high, low, to_high, to_low)
        least_hops = self._least_hops(backwards, target)
        guide = finding.Guide(high, low, to_high, to_low, ways, least_hops)
        self._begin(source, target, self._bound(rows, arcs, guide, source))
        tables = self._room.tables(len(rows), len(arcs.heads))
        return _Part(versions, edges, arcs, guide, tables)

    def _direct(self) -> Ints:
        """The relationships between the two ends, which no walk shows that enters neither."""
        if not self.question.restricted:
            return _NOTHING
        graph, direction = self.generation.graph, self.question.forward.direction
        source, target = (side.root for side in self.sides)
        lists = {
            Direction.OUT: (graph.outgoing,),
            Direction.IN: (graph.incoming,),
            Direction.BOTH: (graph.outgoing, graph.incoming),
        }
        entries = np.concatenate([side.entries(source) for side in lists[direction]])
        entries = entries[entries >> 32 == target]
        slots = self.generation.relationships.slots.array
        direct = np.empty(len(entries), dtype=np.int64)
        count = kernels.select_edges(
            entries, slots, self.revision, self._edge_types, _NOTHING, _NOTHING, _NOTHING, direct
        )
        return direct[:count] & _LOW

    def _ends(self) -> Ints:
        ends: Ints = np.concatenate(
            [side.walk.scratch.nodes.array[:1, kernels.IDENTITY] for side in self.sides]
        )
        return ends

    def _costs(self, edges: Ints) -> tuple[Ints, Ints]:
        if self.question.cost == PathCost.HOPS:
            return _hops(len(edges))
        table = self.generation.relationships
        return finding.weights(edges, table.slots.array, table.arena.array)

    def _least_hops(self, backwards: Arcs, target: int) -> Ints:
        if self.question.cost == PathCost.HOPS or self.question.max_hops is None:
            return _NOTHING
        high, low = _hops(len(backwards.links))
        return finding.distances(backwards, high, low, target, self._flag)[1]

    def _bound(self, rows: Ints, arcs: Arcs, guide: finding.Guide, source: int) -> int:
        """The cost below which all paths are known.

        One that is not known comes to the rim of what is known from its source, and later from the
        rim of what is known from its target: it is as long as both ways at least, and as heavy.
        """
        by_hops = self.question.cost == PathCost.HOPS
        if self._whole:
            return self._most_hops + 1 if by_hops else finding.FAR << finding.WORD_BITS
        if by_hops:
            return sum(side.radius for side in self.sides) + 1
        ways = (
            finding.distances(arcs, guide.high, guide.low, source, self._flag),
            (guide.to_high, guide.to_low),
        )
        return sum(
            _lightest(*way, np.searchsorted(rows, side.rim))
            for way, side in zip(ways, self.sides, strict=True)
        )

    @property
    def _most_hops(self) -> int:
        return min(self.question.max_hops or _ANY_HOPS, _ANY_HOPS)

    def _begin(self, source: int, target: int, bound: int) -> None:
        """Sets the state to that of a search that has found nothing; its steps count on."""
        state = self._state
        steps, budget = self.steps, state[finding.BUDGET]
        state[:] = 0
        state[finding.STEPS], state[finding.BUDGET] = steps, budget
        state[finding.LOOK_STEPS], state[finding.LOOK_LABELS] = MOST_LOOKS, MOST_LABELS
        state[finding.SOURCE], state[finding.TARGET] = source, target
        state[finding.MOST_HOPS], state[finding.LAST] = self._most_hops, -1
        state[finding.BOUND_HIGH], state[finding.BOUND_LOW] = divmod(bound, 1 << finding.WORD_BITS)


class PathReader:
    """Answers questions about paths; lives on the event loop, and searches in a thread."""

    def __init__(self, history: History, walker: Walker) -> None:
        self._history = history
        self._walker = walker
        self._paused = Paused[PathSearch](self._drop)

    async def answer(
        self, question: PathQuestion, limit: int, revision: int, page_token: str = ""
    ) -> PathPage:
        """The best `limit` paths at `revision`, or those behind a token at the token's own.

        The revision must be readable. From an entity to itself there is one path, which has no
        relationship. Raises EntityNotFound for either end, and what `open_page` raises for a bad
        token.
        """
        first = steps = 0
        if page_token:
            token = open_page(page_token, Kind.PATHS, question.digest, self._history)
            match token.key:
                case [int(first), int(steps)] if 0 <= first < _FARTHEST and 0 <= steps < _FARTHEST:
                    revision = token.revision
                case _:
                    raise TokenInvalid(PAGE_FIELD, "it is not a token of this registry")
        with self._history.pins.hold(revision):
            return await self._page(question, limit, revision, first, steps)

    async def _page(
        self, question: PathQuestion, limit: int, revision: int, first: int, steps: int
    ) -> PathPage:
        search = self._paused.take((question.digest, revision, first, steps))
        if search is None:
            search = self._begin(question, revision)
        if question.forward.root_id == question.backward.root_id:
            return self._nowhere(search)
        page = await self._in_thread(search, first, limit, steps + MOST_STEPS)
        if page.next_page_token:
            self._history.pins.touch(revision)
            key = question.digest, revision, first + len(page.paths), search.steps
            self._paused.put(key, search)
        else:
            self._drop(search)
        return page

    def _begin(self, question: PathQuestion, revision: int) -> PathSearch:
        forward = self._walker.begin(question.forward, revision)
        try:
            backward = self._walker.begin(question.backward, revision)
        except RegistryError:
            self._walker.pool.give(forward.scratch)
            raise
        edge_types = self._walker.edge_types.of(question.forward.types)
        return PathSearch(question, forward, backward, edge_types)

    async def _in_thread(
        self, search: PathSearch, first: int, limit: int, most_steps: int
    ) -> PathPage:
        lineage = self._history.lineage(search.revision)

        def work() -> PathPage:
            # One more shows whether there are more.
            status = search.find(first + limit + 1, most_steps)
            if status == finding.CANCELLED:
                self._drop(search)
            return _page(search, lineage, first, limit, status)

        return await in_thread(work, search.cancel)

    def _nowhere(self, search: PathSearch) -> PathPage:
        """The path from an entity to itself."""
        found, node = Found(search.generation), [search.source]
        found.nodes.add(node)
        path = found.path(node, [])
        self._drop(search)
        return PathPage(found.nodes.joined(), b"", [path], search.revision)

    def _drop(self, search: PathSearch) -> None:
        for side in search.sides:
            self._walker.pool.give(side.walk.scratch)


def _page(search: PathSearch, lineage: str, first: int, limit: int, status: int) -> PathPage:
    found, paths, size = Found(search.generation), list[Path](), _ENVELOPE
    last = min(search.found, first + limit)
    for number in range(first, last):
        nodes, edges = search.path(number)
        path = found.path(nodes, edges)
        size += path.ByteSize() + _FRAME
        if paths and found.bytes + found.size_of(nodes, edges) + size > DEFAULT_BYTES:
            break
        found.nodes.add(nodes)
        found.edges.add(edges)
        paths.append(path)
    end = first + len(paths)
    reason, most = _cut(search, end, last, first + limit, limit, status)
    token = PageToken(
        Kind.PATHS, lineage, search.revision, search.question.digest, (end, search.steps)
    )
    return PathPage(
        nodes_bytes=found.nodes.joined(),
        edges_bytes=found.edges.joined(),
        paths=paths,
        revision=search.revision,
        incomplete_reason=reason,
        incomplete_limit=most,
        next_page_token=token.encode() if reason and (status != finding.FULL or end < last) else "",
    )


def _cut(
    search: PathSearch, end: int, last: int, asked: int, limit: int, status: int
) -> tuple[Reason, int]:
    """What cut a page that ends behind so many paths, and the limit."""
    if end < last:
        return Reason.BYTE_LIMIT, DEFAULT_BYTES
    if status == finding.EXHAUSTED and end == search.found:
        return Reason.NONE, 0
    if end == asked and status != finding.FULL:
        return Reason.RESULT_LIMIT, limit
    return Reason.WORK_LIMIT, MOST_STEPS


def _hops(count: int) -> tuple[Ints, Ints]:
    """The costs of links of which each counts as much."""
    return np.zeros(count, dtype=np.int64), np.ones(count, dtype=np.int64)


def _lightest(high: Ints, low: Ints, nodes: Ints) -> int:
    """The least weight among the costs of some nodes, as a cost without relationships."""
    least = int(high[nodes].min())
    weights = low[nodes][high[nodes] == least] >> finding.HOP_BITS << finding.HOP_BITS
    return (least << finding.WORD_BITS) + int(weights.min())
