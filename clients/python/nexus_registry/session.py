"""What one run of a program has: its settings, its client, its output."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import click

from nexus_registry.failures import SERVER_MISSING, Failure
from nexus_registry.settings import Settings, settings_from_environment

if TYPE_CHECKING:
    from nexus_registry.rendering.output import Output
    from ose.registry.client import RegistryClient

__all__ = ["Session", "pass_session"]


class Session:
    """One run of a program. The client and the output are made when they are first used."""

    def __init__(
        self,
        settings: Settings | None = None,
        connect: Callable[[Settings], RegistryClient] | None = None,
    ) -> None:
        self.settings = settings or settings_from_environment()
        self._connect = connect or _connect

    @cached_property
    def client(self) -> RegistryClient:
        """The client of the registry; it is closed when the command ends."""
        opened = ExitStack()
        client = self._connect(_reached(self.settings, opened))
        opened.callback(client.close)
        if (ctx := click.get_current_context(silent=True)) is not None:
            ctx.find_root().call_on_close(opened.close)
        return client

    @cached_property
    def output(self) -> Output:
        """Where results go."""
        from nexus_registry.rendering.output import Output

        return Output(self.settings)

    @property
    def as_table(self) -> bool:
        """Whether the result is for people, not for programs."""
        return self.settings.output == "table"

    @property
    def interactive(self) -> bool:
        """Whether there is somebody at a terminal who can be asked."""
        return sys.stdin.isatty() and sys.stderr.isatty()

    def note(self, text: str) -> None:
        """Tells something beside the result, on standard error; nothing if `--quiet`."""
        if not self.settings.quiet:
            click.echo(text, err=True)


def _connect(settings: Settings) -> RegistryClient:
    from ose.registry.client import RegistryClient  # imports gRPC, which takes 0.1 s

    return RegistryClient(settings.server, timeout=settings.timeout)


def _reached(settings: Settings, opened: ExitStack) -> Settings:
    """The settings with a server to ask: one in this process, if they name a database."""
    if not settings.database:
        return settings
    from ose.registry.embedded import EmbeddedRegistry, ServerMissing

    try:
        embedded = opened.enter_context(EmbeddedRegistry(settings.database))
    except ServerMissing:
        raise Failure(SERVER_MISSING) from None
    except ValueError as error:
        raise click.UsageError(f"--database {settings.database}: {error}") from error
    return replace(settings, server=embedded.target)


def pass_session(function: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a command the session of the run, as its first argument."""
    return click.make_pass_decorator(Session)(function)
