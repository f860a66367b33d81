"""A registry inside this process: a file, and no server to run.

    with EmbeddedRegistry("registry.db") as embedded:
        with RegistryClient(embedded.target) as registry:
            registry.get_entity("ai-ml")

It is the server itself, in a thread, reached by a socket in a directory that only this user can
enter. It needs the extra `ose-registry[server]`.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures.thread  # noqa: F401 - so that its end comes after ours
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from ose.registry.client._errors import Unavailable

T = TypeVar("T")

__all__ = ["EmbeddedRegistry", "ServerMissing"]

_STOP_SECONDS = 30.0

_open: weakref.WeakSet[EmbeddedRegistry] = weakref.WeakSet()


def _close_all() -> None:
    for registry in [*_open]:
        registry.close()


# Before the interpreter lets no thread pool work any more, which is earlier than `atexit`: closing
# a database needs one. It is how `concurrent.futures` itself learns of the end.
getattr(threading, "_register_atexit", atexit.register)(_close_all)


class ServerMissing(ImportError):
    """The server is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "a registry in this process needs the server: pip install 'ose-registry[server]', or "
            "name a server to use"
        )


class EmbeddedRegistry:
    """A registry of one database, in a thread of this process until `close`.

    `target` is what clients connect to. A database is a path, `sqlite:///PATH` or `memory://`; a
    file that another process has open is refused.
    """

    def __init__(self, database: str | os.PathLike[str]) -> None:
        """Opens the database.

        Raises ServerMissing, ValueError for what cannot be a database, and Unavailable for one that
        cannot be opened: another process has it, or it is damaged.
        """
        try:
            from hyper_registry import logs
            from hyper_registry.app import Server
            from hyper_registry.config import Config
        except ImportError as error:
            if not (error.name or "").startswith("hyper_registry"):
                raise
            raise ServerMissing from None
        logs.hand_over()
        self._directory = tempfile.mkdtemp(prefix="registry-")
        self.target = f"unix:{Path(self._directory, 'grpc.sock')}"
        config = Config(os.fspath(database), grpc_address=self.target, http_address="")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="embedded-registry", daemon=True
        )
        self._thread.start()
        self._server: Any = None
        try:
            self._server = self._wait(_started(Server(config)))
        except BaseException:
            self.close()
            raise
        _open.add(self)

    def close(self) -> None:
        """Ends it, and closes the database. What is left open of clients fails from now on."""
        _open.discard(self)
        if self._loop.is_closed():
            return
        try:
            if self._server is not None:
                self._wait(self._server.aclose())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_STOP_SECONDS)
            self._loop.close()
            shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()


async def _started(server: Any) -> Any:
    """The server, when it serves. The client is typed without the server's package."""
    from hyper_registry.config import ConfigError
    from hyper_registry.model.errors import RegistryError

    try:
        await server.start()
    except ConfigError as error:
        raise ValueError(str(error)) from error
    except RegistryError as error:
        raise Unavailable(error.message, error.reason, error.metadata) from error
    return server
