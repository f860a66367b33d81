"""Calling the server's package, which may not be there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from nexus_registry.failures import SERVER_MISSING, Failure

T = TypeVar("T")


def of_server(work: Callable[[], T], file: Path | None = None) -> T:
    """What the server's package answers; raises Failure for what it refuses, or if it is not there.

    A problem of the backup `file` names it; others name what they are about themselves.
    """
    try:
        from hyper_registry.config import ConfigError
        from hyper_registry.model.errors import RegistryError
        from hyper_registry.store.backup import BackupError
    except ModuleNotFoundError as error:
        if error.name != "hyper_registry":
            raise
        raise Failure(SERVER_MISSING) from error
    try:
        return work()
    except BackupError as error:
        raise Failure(f"{file}: {error}") from error
    except (ConfigError, RegistryError) as error:
        raise Failure(str(error)) from error
