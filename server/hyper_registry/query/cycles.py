"""Where the graph goes in circles, at one revision.

A group is a strongly connected component with a circle in it. A bidirectional relationship may be
walked either way, but no relationship is used twice in a circle, so what hangs together by a single
one only is not one group. Taking the bidirectional relationships away that are bridges leaves the
groups: what is strongly connected and has no bridge can be walked in circles with every
relationship in one way only (Boesch and Tindell).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np

from hyper_registry.model.errors import TokenInvalid
from hyper_registry.model.relationship import DEPENDENCY_TYPES, Direction
from hyper_registry.model.rules import ID_RULE, is_id, shown
from hyper_registry.query import component_kernels as finding
from hyper_registry.query import kernels
from hyper_registry.query.arcs import Arcs, reversed_arcs
from hyper_registry.query.filters import EntityFilter, parse_types
from hyper_registry.query.found import Found
from hyper_registry.query.graph import Reason
from hyper_registry.query.judging import Judge
from hyper_registry.query.problems import Problems
from hyper_registry.query.region import Region
from hyper_registry.query.tokens import PAGE_FIELD, History, Kind, PageToken, digest_of, open_page
from hyper_registry.query.traversal import DEFAULT_BYTES, GraphQuestion, Limits, Walk, Walker
from hyper_registry.query.working import Paused, in_thread
from hyper_registry.registry.columns import Bytes, Ints
from hyper_registry.registry.table import SIZE_CODES, TYPE
from hyper_registry.registry.view import Generation
from ose.registry.v1.graph_service_pb2 import CycleGroup

MOST_STEPS = 10_000_000
"""How many relationships the search for the cycles of a group looks at before it gives up.

A page ends, too, when its groups have taken so many together.
"""

_MOST_CYCLES = 100
_LOW = (1 << 32) - 1
_FARTHEST = 1 << 40
# What a response has beside records, groups and cycles, what each of those takes beside its own
# bytes, and the most that an id takes.
_ENVELOPE, _FRAME, _ID_BYTES = 1024, 32, 1024


@dataclass(frozen=True)
class CycleQuestion:
    """In what to look for circles: in the group of one entity, or everywhere.

    `types` are those of relationships to walk. Only entities of `entity_types` (None: all) that
    `filter` means take part, the root no less than others.
    """

    root_id: str | None
    types: frozenset[str]
    entity_types: frozenset[str] | None = None
    filter: EntityFilter | None = None
    cycles_per_group: int = 1

    @classmethod
    def parse(
        cls,
        root_id: str,
        types: Collection[str],
        entity_types: Collection[str],
        filter: str,  # noqa: A002 - the request's name for it
        cycles_per_group: int,
    ) -> CycleQuestion:
        """The question of a request's fields; 0 and what is empty are left out.

        Raises InvalidArgument with every field that is malformed; LimitExceeded or FilterInvalid if
        that is all that is wrong.
        """
        wrong = Problems()
        if root_id and not is_id(root_id):
            wrong.add("root_id", f"{ID_RULE}, got {shown(root_id)}")
        if cycles_per_group and not 1 <= cycles_per_group <= _MOST_CYCLES:
            wrong.add("cycles_per_group", f"1 to {_MOST_CYCLES}, got {cycles_per_group}")
        with wrong:
            walked = parse_types("types", types or DEPENDENCY_TYPES)
        with wrong:
            entered = parse_types("entity_types", entity_types) or None
        with wrong:
            condition = EntityFilter.parse(filter=filter) if filter.strip() else None
        wrong.check()
        return cls(root_id or None, walked, entered, condition, cycles_per_group or 1)

    @cached_property
    def digest(self) -> str:
        """The same for equal questions, in every process."""
        return digest_of(
            self.root_id,
            self.types,
            self.entity_types,
            self.filter and self.filter.digest(),
            self.cycles_per_group,
        )


@dataclass(frozen=True, slots=True)
class CyclePage:
    """Some groups, or all there are; the fields are those of FindCyclesResponse.

    `nodes_bytes` and `edges_bytes` are serialised fields.
    """

    nodes_bytes: bytes
    edges_bytes: bytes
    groups: list[CycleGroup]
    revision: int
    incomplete_reason: Reason
    incomplete_limit: int
    next_page_token: str


_Way: TypeAlias = tuple[list[int], list[int]]
"""The versions of the entities and of the relationships of a cycle."""


@dataclass(frozen=True, slots=True)
class _Cycles:
    """The cycles of a group, whether the search for them was given up, and its steps."""

    ways: list[_Way]
    cut: bool
    steps: int


class CycleSearch:
    """All groups of an answer. It belongs to one thread at a time; `cancel` may come from any.

    `masks` are those of the relationship and entity types. `walk` is one from the root, if there is
    one; so restricted already.
    """

    def __init__(
        self,
        question: CycleQuestion,
        generation: Generation,
        revision: int,
        masks: tuple[Bytes, Bytes],
        judge: Judge | None,
        walk: Walk | None,
    ) -> None:
        self.question = question
        self.generation = generation
        self.revision = revision
        self.walk = walk
        self.groups: list[Ints] = []
        self._masks = masks
        self._judge = judge
        self._flag = np.zeros(1, dtype=np.int64)
        self._region: Region | None = None

    @property
    def cancelled(self) -> bool:
        """Whether nobody waits for it any more: what it finds is of no use."""
        return bool(self._flag[0])

    def cancel(self) -> None:
        """Makes the search end soon."""
        self._flag[0] = 1
        if self.walk is not None:
            self.walk.cancel()

    def prepare(self) -> None:
        """Finds the groups, unless that is done: the largest first, equals in order of creation.

        A group is the numbers of its nodes, in order of creation.
        """
        if self._region is not None:
            return
        region, labels = self._circling(self._whole())
        if self._judge is not None:
            # Only what is in a circle is worth asking about: asking is slow.
            members = _members(region)
            kept = np.zeros(len(region.nodes), dtype=np.bool_)
            kept[members] = self._judge(region.nodes[members], lambda: self.cancelled)
            links = region.links
            among = np.flatnonzero(kept[links.sources] & kept[links.targets])
            region, labels = self._circling(region.of(among))
        members = _members(region)
        members = members[np.argsort(labels[members], kind="stable")]
        groups = np.split(members, np.flatnonzero(np.diff(labels[members])) + 1)
        self.groups = sorted(
            (group for group in groups if self._is_asked_for(group, region)),
            key=lambda group: (-len(group), group[0]),
        )
        self._arcs = region.links.arcs(Direction.OUT, len(region.nodes))
        self._places = np.full(len(region.nodes), -1, dtype=np.int64)
        self._region = region

    def versions(self, nodes: Ints) -> Ints:
        """The versions of the entities that nodes are."""
        assert self._region is not None
        versions: Ints = self._region.nodes[nodes]
        return versions

    def cycles(self, group: Ints) -> _Cycles:
        """The shortest cycles in a group."""
        region, wanted = self._region, self.question.cycles_per_group
        assert region is not None
        arcs = Arcs(*finding.inner(self._arcs, group, self._places))
        count = len(group)
        tables = finding.CycleTables(
            np.empty(wanted * count, dtype=np.int64),
            np.zeros(wanted + 1, dtype=np.int64),
            *(np.zeros(count + 1, dtype=np.int64) for _ in range(6)),
        )
        state = np.zeros(finding.STATE_WIDTH, dtype=np.int64)
        state[finding.BUDGET] = MOST_STEPS
        status = finding.shortest_cycles(
            state, arcs, reversed_arcs(arcs), region.links.both, wanted, tables, self._flag
        )
        found = []
        for number in range(state[finding.FOUND]):
            way = tables.pool[tables.ends[number] : tables.ends[number + 1]]
            nodes = group[np.concatenate((arcs.heads[way[-1:]], arcs.heads[way]))]
            found.append((region.nodes[nodes].tolist(), region.edges[arcs.links[way]].tolist()))
        return _Cycles(found, status == finding.CUT, int(state[finding.STEPS]))

    def _whole(self) -> Region:
        walk, (edge_types, entity_types) = self.walk, self._masks
        if walk is None:
            return Region.whole(self.generation, self.revision, edge_types, entity_types)
        walk.turn(0, 0, Limits())
        walk.advance()
        return Region.walked(walk)

    def _circling(self, region: Region) -> tuple[Region, Ints]:
        """A region with the links within its groups only, and the number of each node's group."""
        count = len(region.nodes)
        arcs = region.links.arcs(Direction.OUT, count)
        labels, _ = finding.components(arcs, False, self._flag)
        region = _within(region, labels)
        if region.links.both.any():
            arcs = region.links.arcs(Direction.BOTH, count)
            labels, _ = finding.components(arcs, True, self._flag)
            region = _within(region, labels)
        return region, labels

    def _is_asked_for(self, group: Ints, region: Region) -> bool:
        if self.walk is None:
            return len(group) > 0
        identity = self.walk.scratch.nodes.cells[kernels.IDENTITY]
        row_type = self.generation.entities.rows.array[identity >> 32, TYPE]
        entity_types = self._masks[1]
        if len(entity_types) and not entity_types[row_type]:
            return False
        return bool(np.any(region.nodes[group] == identity & _LOW))


def _within(region: Region, labels: Ints) -> Region:
    """The region without the links from one group to another."""
    links = region.links
    return region.of(np.flatnonzero(labels[links.sources] == labels[links.targets]))


def _members(region: Region) -> Ints:
    """The nodes that have a link."""
    linked = np.zeros(len(region.nodes), dtype=np.bool_)
    linked[region.links.sources] = True
    linked[region.links.targets] = True
    return np.flatnonzero(linked)


class CycleReader:
    """Answers questions about circles; lives on the event loop, and searches in a thread."""

    def __init__(self, history: History, walker: Walker) -> None:
        self._history = history
        self._walker = walker
        self._paused = Paused[CycleSearch](self._drop)

    async def answer(
        self, question: CycleQuestion, limit: int, revision: int, page_token: str = ""
    ) -> CyclePage:
        """The `limit` largest groups at `revision`, or those behind a token at the token's own.

        The revision must be readable. Raises EntityNotFound for a root that is not there, and what
        `open_page` raises for a bad token.
        """
        place = 0, 0
        if page_token:
            token = open_page(page_token, Kind.CYCLES, question.digest, self._history)
            match token.key:
                case [int(number), int(at)] if 0 <= number < _FARTHEST and 0 <= at < _FARTHEST:
                    place, revision = (number, at), token.revision
                case _:
                    raise TokenInvalid(PAGE_FIELD, "it is not a token of this registry")
        with self._history.pins.hold(revision):
            return await self._page(question, limit, revision, place)

    async def _page(
        self, question: CycleQuestion, limit: int, revision: int, place: tuple[int, int]
    ) -> CyclePage:
        search = self._paused.take((question.digest, revision, *place))
        if search is None:
            search = self._begin(question, revision)
        lineage = self._history.lineage(revision)

        def work() -> tuple[CyclePage, tuple[int, int]]:
            search.prepare()
            if search.cancelled:
                self._drop(search)
            return _page(search, lineage, place, limit)

        page, following = await in_thread(work, search.cancel)
        if page.next_page_token:
            self._history.pins.touch(revision)
            self._paused.put((question.digest, revision, *following), search)
        else:
            self._drop(search)
        return page

    def _begin(self, question: CycleQuestion, revision: int) -> CycleSearch:
        view = self._history.view
        generation, walk, judge = view.generation, None, None
        if question.root_id is not None:
            root = GraphQuestion(
                question.root_id, types=question.types, entity_types=question.entity_types
            )
            walk = self._walker.begin(root, revision)
        if question.filter is not None:
            judge = Judge(view, generation, question.filter, revision)
        walker = self._walker
        masks = walker.edge_types.of(question.types), walker.entity_types.of(question.entity_types)
        return CycleSearch(question, generation, revision, masks, judge, walk)

    def _drop(self, search: CycleSearch) -> None:
        if search.walk is not None:
            self._walker.pool.give(search.walk.scratch)


class _Page:
    """A page of groups that is being filled."""

    def __init__(self, search: CycleSearch) -> None:
        self.found = Found(search.generation)
        self.groups: list[CycleGroup] = []
        self.steps = 0
        self._search = search
        self._size = _ENVELOPE

    def add(self, group: Ints, position: int) -> int:
        """Adds what there is room for of a group from a position on; answers where that ends.

        Only the first group of a page may be cut: of another one, it is all or nothing.
        """
        versions = self._search.versions(group[position:])
        if self.groups and self._fitting(versions, 0) < len(versions):
            return position
        message = CycleGroup(size=len(group), first_position=position)
        shown = self._cycles(group, message) if position == 0 else []
        on_cycles = [slot for nodes, _ in shown for slot in nodes]
        edges = [slot for _, some in shown for slot in some]
        count = self._fitting(versions, message.ByteSize() + self.found.size_of(on_cycles, edges))
        if self.groups and count < len(versions):
            return position
        nodes = versions[: max(count, 1)].tolist()
        message.entity_ids.extend(self.found.ids(nodes))
        self.found.nodes.add(nodes)
        self.found.nodes.add(on_cycles)
        self.found.edges.add(edges)
        self.groups.append(message)
        self._size += message.ByteSize() + _FRAME
        return position + len(nodes)

    def _fitting(self, versions: Ints, reserved: int) -> int:
        """How many of these entities there is room for, with their ids."""
        sizes = self._search.generation.entities.slots.array[versions, SIZE_CODES] >> 32
        # An id is a part of its record.
        sizes += np.minimum(sizes, _ID_BYTES)
        room = DEFAULT_BYTES - self._size - self.found.bytes - reserved
        return int(np.searchsorted(np.cumsum(sizes), room, side="right"))

    def _cycles(self, group: Ints, message: CycleGroup) -> list[_Way]:
        """Gives a group its cycles, at most half a page full; answers what they lead along."""
        cycles = self._search.cycles(group)
        self.steps += cycles.steps
        message.cycles_cut = cycles.cut
        shown, added = list[_Way](), Found(self._search.generation)
        for nodes, edges in cycles.ways:
            path = added.path(nodes, edges)
            added.nodes.add(nodes)
            added.edges.add(edges)
            if added.bytes + message.ByteSize() + path.ByteSize() > DEFAULT_BYTES // 2:
                message.cycles_cut = True
                break
            message.cycles.append(path)
            shown.append((nodes, edges))
        return shown


def _page(
    search: CycleSearch, lineage: str, place: tuple[int, int], limit: int
) -> tuple[CyclePage, tuple[int, int]]:
    """The page that starts at a group and a position in it; and where the next one does."""
    page, (number, position) = _Page(search), place
    reason, most = Reason.NONE, 0
    while number < len(search.groups):
        if len(page.groups) == limit:
            reason, most = Reason.RESULT_LIMIT, limit
        elif page.steps >= MOST_STEPS:
            reason, most = Reason.WORK_LIMIT, MOST_STEPS
        else:
            group = search.groups[number]
            position = page.add(group, position)
            if position == len(group):
                number, position = number + 1, 0
                continue
            reason, most = Reason.BYTE_LIMIT, DEFAULT_BYTES
        break
    key = number, position
    token = PageToken(Kind.CYCLES, lineage, search.revision, search.question.digest, key)
    answer = CyclePage(
        nodes_bytes=page.found.nodes.joined(),
        edges_bytes=page.found.edges.joined(),
        groups=page.groups,
        revision=search.revision,
        incomplete_reason=reason,
        incomplete_limit=most,
        next_page_token=token.encode() if reason else "",
    )
    return answer, key
