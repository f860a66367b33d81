"""A small graph of its own: nodes numbered from 0, and the arcs between them.

What looks at the graph more than once, such as a search for many paths, takes the part that matters
out of the view first. There no revision, type or filter is left to be checked, and numbers say what
was created before what: nodes and links are in order of creation, and so are the arcs of a node.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np

from hyper_registry.model.relationship import Direction
from hyper_registry.registry.columns import Ints
from hyper_registry.registry.table import ENDS, SIZE_CODES

_LOW = (1 << 32) - 1


class Arcs(NamedTuple):
    """The arcs by the node that they leave: those of `v` are `starts[v]` to `starts[v + 1]`.

    `heads` says where each arc leads, `links` which link it is a way along. A link that may be
    walked either way has two arcs.
    """

    starts: Ints
    heads: Ints
    links: Ints


class Links(NamedTuple):
    """Relationships between numbered nodes, in order of creation.

    `both` is 1 for those that may be walked either way whatever the direction.
    """

    sources: Ints
    targets: Ints
    both: Ints

    def arcs(self, direction: Direction, count: int) -> Arcs:
        """The ways along them in a direction; `count` is the number of nodes."""
        return Arcs(*arcs_of(*self, int(direction), count))

    def of(self, chosen: Ints) -> Links:
        """Some of them."""
        return Links(self.sources[chosen], self.targets[chosen], self.both[chosen])


REVERSED = {
    Direction.OUT: Direction.IN,
    Direction.IN: Direction.OUT,
    Direction.BOTH: Direction.BOTH,
}
"""The direction in which the same ways are walked backwards."""


def reversed_arcs(arcs: Arcs) -> Arcs:
    """The same arcs by the node that they lead to; `heads` then says where they come from."""
    count = len(arcs.starts) - 1
    tails = np.repeat(np.arange(count), np.diff(arcs.starts))
    starts, heads, places = arcs_of(arcs.heads, tails, np.zeros_like(tails), 1, count)
    return Arcs(starts, heads, arcs.links[places])


def links_of(slots: Ints, versions: Ints) -> Links:
    """The links of these versions of relationships; nodes are the rows of the entities."""
    ends = slots[versions, ENDS]
    return Links(ends >> 32, ends & _LOW, slots[versions, SIZE_CODES] & 1)


def numbered(links: Links, rows: Ints) -> Links:
    """The same links between nodes that are numbered by their place in `rows`, which rise.

    Both ends of each are among them.
    """
    # Most of it is never touched: a search in `rows` for each end takes ten times as long.
    places = np.empty(int(rows[-1]) + 1, dtype=np.int64)
    places[rows] = np.arange(len(rows))
    return Links(places[links.sources], places[links.targets], links.both)


@numba.njit(cache=True, nogil=True)
def arcs_of(
    sources: Ints, targets: Ints, both: Ints, direction: int, count: int
) -> tuple[Ints, Ints, Ints]:
    """The columns of `Arcs`. A link from a node to itself has one arc."""
    starts = np.zeros(count + 1, dtype=np.int64)
    for link in range(len(sources)):
        source, target = sources[link], targets[link]
        forward = direction & 1 or both[link]
        if forward:
            starts[source + 1] += 1
        if (direction & 2 or both[link]) and not (forward and source == target):
            starts[target + 1] += 1
    for node in range(count):
        starts[node + 1] += starts[node]
    heads, links = np.empty(starts[count], dtype=np.int64), np.empty(starts[count], dtype=np.int64)
    free = starts.copy()
    for link in range(len(sources)):
        source, target = sources[link], targets[link]
        forward = direction & 1 or both[link]
        if forward:
            heads[free[source]], links[free[source]] = target, link
            free[source] += 1
        if (direction & 2 or both[link]) and not (forward and source == target):
            heads[free[target]], links[free[target]] = source, link
            free[target] += 1
    return starts, heads, links


def warm_up() -> None:
    """Compiles the kernel, or loads it from the cache, so that no request has to wait for it."""
    nothing = np.zeros(0, dtype=np.int64)
    arcs_of(nothing, nothing, nothing, 1, 0)
