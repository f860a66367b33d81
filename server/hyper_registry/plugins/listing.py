"""What plugins require, listed page by page, all pages at one revision."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hyper_registry.model.errors import TokenInvalid
from hyper_registry.plugins.binding import Bound, bound
from hyper_registry.plugins.reading import PLUGIN
from hyper_registry.plugins.requirements import needs_of
from hyper_registry.query.listing import Window
from hyper_registry.query.selection import Turns
from hyper_registry.query.tokens import (
    PAGE_FIELD,
    History,
    Kind,
    PageToken,
    digest_of,
    open_page,
)
from hyper_registry.registry.columns import Ints
from hyper_registry.registry.table import ORDINAL, TYPE
from ose.registry.v1.entity_pb2 import Entity

MAX_LOOKED_AT = 20_000
"""How many plugins are looked at for one page."""


@dataclass(frozen=True, slots=True)
class RequirementQuestion:
    """Which requirements: of this plugin, of this name (each '' for any), unsatisfied ones only."""

    plugin_id: str
    name: str
    unsatisfied: bool

    @property
    def digest(self) -> str:
        """The same for equal questions, in every process."""
        return digest_of(self.plugin_id, self.name, self.unsatisfied)

    def of(self, history: History, plugin: Entity, revision: int) -> list[Bound]:
        """The requirements of one plugin that are meant."""
        if self.name and all(need.name != self.name for need in needs_of(plugin)):
            return []
        return [
            one
            for one in bound(history.view, plugin, revision)
            if self.name in ("", one.need.name) and not (self.unsatisfied and one.to)
        ]


@dataclass(frozen=True, slots=True)
class RequirementPage:
    """A part of a listing: plugin ids with their requirements."""

    found: list[tuple[str, list[Bound]]]
    revision: int
    next_page_token: str


async def list_requirements(
    history: History, question: RequirementQuestion, window: Window, revision: int
) -> RequirementPage:
    """A page of requirements at `revision`, or the one behind a token at the token's own.

    Raises what `open_page` raises for a bad token.
    """
    first = 0
    if window.page_token:
        token = open_page(window.page_token, Kind.REQUIREMENTS, question.digest, history)
        revision, first = token.revision, _place(token)
    with history.pins.hold(revision):
        return await _page(history, question, window.limit, revision, first)


async def _page(
    history: History, question: RequirementQuestion, limit: int, revision: int, first: int
) -> RequirementPage:
    found: list[tuple[str, list[Bound]]] = []
    turns, table = Turns(), history.view.generation.entities
    for number, row in enumerate(_rows(history, question, first).tolist()):
        if len(found) == limit or number == MAX_LOOKED_AT:
            token = _token(history, question, revision, table.ordinal(row))
            return RequirementPage(found, revision, token)
        slot = table.at(row, revision)
        if slot >= 0 and table.row_of(slot) == row:
            plugin = Entity.FromString(table.record(slot))
            if meant := question.of(history, plugin, revision):
                found.append((plugin.id, meant))
        await turns()
    return RequirementPage(found, revision, "")


def _rows(history: History, question: RequirementQuestion, first: int) -> Ints:
    """The rows of the plugins to look at, from one ordinal on, in order of creation."""
    view = history.view
    table = view.generation.entities
    if question.plugin_id:
        row = table.ids.get(question.plugin_id)
        rows = np.array([] if row is None else [row], dtype=np.int64)
    else:
        rows = np.flatnonzero(
            table.rows.array[: table.rows.length, TYPE] == view.entity_types.codes.get(PLUGIN, -1)
        )
    later: Ints = rows[table.rows.array[rows, ORDINAL] >= first]
    return later


def _token(history: History, question: RequirementQuestion, revision: int, ordinal: int) -> str:
    history.pins.touch(revision)
    lineage = history.lineage(revision)
    return PageToken(Kind.REQUIREMENTS, lineage, revision, question.digest, (ordinal,)).encode()


def _place(token: PageToken) -> int:
    match token.key:
        case [int(ordinal)] if ordinal >= 0:
            return ordinal
    raise TokenInvalid(PAGE_FIELD, "it is not a token of this registry")
