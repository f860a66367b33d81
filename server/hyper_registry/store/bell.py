"""Telling the other servers of a database that there is something new, and being told.

By NOTIFY, in a transaction of its own: PostgreSQL lets transactions that notify commit one by one.
Nothing depends on it. Whoever is told nothing finds out a little later by looking.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import closing
from threading import Event, Thread
from typing import Any

import psycopg
from psycopg.sql import SQL, Identifier

_Connect = Callable[[], psycopg.Connection[tuple[Any, ...]]]

_RETRY_SECONDS = 1.0
_PATIENCE_SECONDS = 1.0
# Of this schema alone: there may be other registries in the database.
_CHANNEL = "SELECT 'registry_' || hashtext(current_schema())::int8 + 4294967296"


class Bell:
    """Rings at other servers, and hears them. Made on an event loop; `close` blocks.

    A thread and a connection for each way. What fails is tried again; it is not worth a word, since
    it fails elsewhere too.
    """

    def __init__(self, connect: _Connect) -> None:
        self._connect = connect
        self._loop = asyncio.get_running_loop()
        self._heard = asyncio.Event()
        self._to_ring = Event()
        self._closed = Event()
        self._threads = [
            Thread(target=self._again_and_again, args=(work,), name=name, daemon=True)
            for name, work in (("bell-ringer", self._ring), ("bell-listener", self._listen))
        ]
        for thread in self._threads:
            thread.start()

    def ring(self) -> None:
        """Says that something has been committed. From any thread, without waiting."""
        self._to_ring.set()

    async def rung(self, seconds: float) -> None:
        """Waits until somebody rang since this last returned, so many seconds at most."""
        try:
            async with asyncio.timeout(seconds):
                await self._heard.wait()
        except TimeoutError:
            return
        self._heard.clear()

    def close(self) -> None:
        """Ends it."""
        self._closed.set()
        self._to_ring.set()
        for thread in self._threads:
            thread.join()

    def _again_and_again(
        self, work: Callable[[psycopg.Connection[tuple[Any, ...]], str], None]
    ) -> None:
        while not self._closed.is_set():
            try:
                with closing(self._connect()) as connection:
                    row = connection.execute(_CHANNEL).fetchone()
                    assert row is not None
                    work(connection, str(row[0]))
            except psycopg.Error:
                self._closed.wait(_RETRY_SECONDS)

    def _ring(self, connection: psycopg.Connection[tuple[Any, ...]], channel: str) -> None:
        is_closed = False
        while not is_closed:
            self._to_ring.wait()
            # First: what is committed from here on needs a ring of its own.
            self._to_ring.clear()
            # The last one is for our own listener.
            is_closed = self._closed.is_set()
            connection.execute("SELECT pg_notify(%s, '')", [channel])

    def _listen(self, connection: psycopg.Connection[tuple[Any, ...]], channel: str) -> None:
        connection.execute(SQL("LISTEN {}").format(Identifier(channel)))
        while not self._closed.is_set():
            for _ in connection.notifies(timeout=_PATIENCE_SECONDS, stop_after=1):
                self._hear()

    def _hear(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._heard.set)
        except RuntimeError:
            # The loop has been closed: nobody listens any more.
            self._closed.set()
