"""Names to addresses, so that a resolver that hangs holds up nobody but who asked it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from ipaddress import ip_address
from threading import Thread

from hyper_registry.health.probes.addresses import Address

Lookup = Callable[[str], Sequence[str]]
"""Answers the addresses of a name; called in a thread. Raises OSError."""

_MOST_AT_ONCE = 16


def look_up(host: str) -> list[str]:
    """The addresses of a name, as the system knows them, in its order. Raises OSError."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [_with_scope(str(where[0]), where) for _, _, _, _, where in found]


class Resolver:
    """Looks up names, a few at a time.

    Each look-up has a thread of its own that nobody waits for at the end: the system's resolver
    cannot be interrupted, and neither the others nor the end of the server are to wait for it.
    """

    def __init__(self, lookup: Lookup = look_up) -> None:
        self._lookup = lookup
        self._room = asyncio.Semaphore(_MOST_AT_ONCE)

    async def resolve(self, host: str) -> list[Address]:
        """The addresses of a host, looked up once; an address is its own. Raises OSError."""
        with suppress(ValueError):
            return [ip_address(host)]
        await self._room.acquire()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[Address]] = loop.create_future()

        def settle(found: list[Address], error: OSError | None) -> None:
            self._room.release()
            if answer.cancelled():
                return
            if error is None:
                answer.set_result(found)
            else:
                answer.set_exception(error)

        def work() -> None:
            found, error = list[Address](), None
            try:
                found = [ip_address(address) for address in self._lookup(host)]
            except OSError as wrong:
                error = wrong
            except Exception:  # noqa: BLE001 - whoever waits must be told
                error = OSError(f"{host} cannot be looked up")
            # Raised if the loop has been closed: nobody waits any more.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, found, error)

        try:
            Thread(target=work, name="probe-lookup", daemon=True).start()
        except RuntimeError:
            self._room.release()
            raise OSError("no more threads can be had") from None
        return await answer


def _with_scope(address: str, where: tuple[object, ...]) -> str:
    is_scoped = len(where) == 4 and where[3] and "%" not in address
    return f"{address}%{where[3]}" if is_scoped else address
