"""What entities of some types say, kept at hand by following the log."""

from __future__ import annotations

import asyncio
import re
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from typing import Protocol

import numpy as np

from hyper_registry.model.errors import NotServing
from hyper_registry.model.health import turns_of
from hyper_registry.model.revision import Change, Kind, Position
from hyper_registry.query.selection import Turns
from hyper_registry.registry import codec
from hyper_registry.registry.feed import Feed
from hyper_registry.registry.pins import Pins
from hyper_registry.registry.propagation import rows_of
from hyper_registry.registry.table import TYPE
from hyper_registry.registry.view import View
from hyper_registry.watch.following import Follower
from hyper_registry.watch.log import Block


class Registry(Protocol):
    """What is needed of a registry."""

    @property
    def view(self) -> View:
        """The read model."""

    @property
    def feed(self) -> Feed:
        """The log."""

    @property
    def pins(self) -> Pins:
        """What keeps revisions readable."""


class Keeper(Follower):
    """Follows the entities of some types. `start` when the registry has, `aclose` at the end.

    Everything here belongs to the event loop that `start` runs on.
    """

    types: tuple[str, ...]
    """The types, in the order in which those that are there at the start are taken in."""

    def __init__(self, registry: Registry) -> None:
        super().__init__(registry.feed, registry.pins)
        self._view = registry.view
        fields = map(re.escape, map(codec.type_field, self.types))
        self._may_be_meant = re.compile(b"|".join(fields)).search
        self._moved = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._is_closed = False
        self._is_stale = True

    def start(self) -> None:
        """Begins to follow; all that there is comes first."""
        self._task = asyncio.create_task(self._run(), name=type(self).__name__.lower())

    async def aclose(self) -> None:
        """Ends; who waits is told that the server stops."""
        self._end()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        self._pin.close()

    async def reached(self, revision: int, seconds: float | None) -> None:
        """Waits until this revision was taken in.

        Raises NotServing if that takes longer than `seconds`, or if the server stops.
        """
        try:
            async with asyncio.timeout(seconds):
                while self.tail.revision < revision or self._is_stale:
                    if self._is_closed:
                        raise self.ended()
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            raise NotServing("what is kept of the log is behind: try again") from None

    async def settled(self, revision: int, seconds: float | None) -> None:
        """Waits as `reached` does, for as long as there is time."""
        with suppress(NotServing):
            await self.reached(revision, seconds)

    @abstractmethod
    def _forget(self) -> None:
        """Forgets everything that was taken in."""

    @abstractmethod
    def _take(self, record: bytes) -> None:
        """Takes in an entity of one of the types."""

    @abstractmethod
    def _drop(self, type_: str, entity_id: str) -> None:
        """Forgets an entity of one of the types, if it is known."""

    def _see(self, type_: str, change: Change) -> None:
        """Takes in a change of an entity of one of the types; it may come again."""
        self._drop(type_, change.id)
        if change.after is not None:
            self._take(change.after)

    def _turn(self, entity_id: str, health: int) -> None:
        """An entity of one of the types has another effective health, by what it depends on."""

    async def _settle(self) -> None:
        """What is to be done when everything up to some revision was taken in."""

    async def _run(self) -> None:
        await self._pace()
        await self._follow()
        self._end()

    def _end(self) -> None:
        self._is_closed = True
        self._moved.set()

    async def _pace(self) -> None:
        if self._is_stale:
            await self._load()

    def _skip(self) -> None:
        self._is_stale = True

    async def _load(self) -> None:
        revision = self._view.visible
        self._move(Position(revision))
        self._forget()
        turns = Turns()
        for type_ in self.types:
            for record in records_of_type(self._view, type_, revision):
                self._take(record)
                await turns()
        await self._settle()
        self._is_stale = False
        self._moved.set()

    async def _dispatch(self, block: Block) -> None:
        turns = Turns()
        for entry in block.entries:
            change = entry.change
            if change.kind is Kind.HEALTH:
                self._see_turns(change)
            elif change.kind is Kind.ENTITY:
                record = change.after or change.before or b""
                # Most are of other types: reading what type that is takes longer than this.
                if not self._may_be_meant(record):
                    continue
                type_ = codec.record_type(record)
                if type_ in self.types:
                    self._see(type_, change)
            await turns()
        await self._settle()
        self._move(block.end)
        self._moved.set()

    def _see_turns(self, change: Change) -> None:
        turns, table = turns_of(change), self._view.generation.entities
        rows = rows_of(table, turns.ordinals)
        known = self._view.entity_types.codes
        codes = [known[type_] for type_ in self.types if type_ in known]
        for place in np.flatnonzero(np.isin(table.rows.array[rows, TYPE], codes)).tolist():
            slot = table.latest(int(rows[place]))
            self._turn(codec.record_id(table.written(slot)), int(turns.after[place]))


def records_of_type(view: View, type_: str, revision: int) -> Iterator[bytes]:
    """The records of all entities of a type at a revision, in order of creation."""
    code = view.entity_types.codes.get(type_)
    if code is None:
        return
    table = view.generation.entities
    for row in np.flatnonzero(table.rows.array[: table.rows.length, TYPE] == code).tolist():
        slot = table.at(row, revision)
        # A row whose life has not begun leads to an earlier one, which has a row of its own.
        if slot >= 0 and table.row_of(slot) == row:
            yield table.record(slot)
