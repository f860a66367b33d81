"""What both programs are made of: subcommands that are imported when they are used.

Importing gRPC, rich and YAML takes longer than most questions. So a program knows the names and
one-line descriptions of its commands, and imports the one that is called.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from gettext import gettext as _
from importlib import import_module
from typing import Any, Final, NamedTuple

import click

from nexus_registry.failures import (
    EXIT_CODES_HELP,
    FILTER_KEY,
    INTERRUPTED,
    OUTPUT_CLOSED,
    Failure,
    failure_of,
)
from nexus_registry.session import Session
from nexus_registry.settings import GlobalOption, global_options

__all__ = ["Command", "LazyCommand", "Program", "command"]


class LazyCommand(NamedTuple):
    """A command that is not imported yet."""

    target: str
    """`module:attribute`."""
    help: str
    """Its line in the list of commands; the first sentence of its own help."""
    missing: str = ""
    """What to say if the module's distribution is not installed; empty if it always is."""


class _WithGlobalOptions(click.Command):
    """Shows the global options as a section of their own, and examples below the help."""

    examples = ""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the command's own options, then the global ones."""
        own: list[tuple[str, str]] = []
        shared: list[tuple[str, str]] = []
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                (shared if isinstance(param, GlobalOption) else own).append(record)
        for title, records in ((_("Options"), own), (_("Global options"), shared)):
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the examples as they are, then the epilog."""
        if self.examples:
            with formatter.section("Examples"):
                for line in self.examples.strip().splitlines():
                    formatter.write(f"{'':{formatter.current_indent}}{line.strip()}\n")
        super().format_epilog(ctx, formatter)


class Command(_WithGlobalOptions):
    """A subcommand: takes the global options too."""

    def __init__(self, *args: Any, examples: str = "", **attrs: Any) -> None:
        super().__init__(*args, **attrs)
        own = {param.name for param in self.params}
        self.params += [option for option in global_options() if option.name not in own]
        self.examples = examples


def command(name: str, *, examples: str = "") -> Callable[[Callable[..., Any]], click.Command]:
    """Makes a function a `Command`. The examples are one command line each."""
    return click.command(name, cls=Command, examples=examples, epilog=EXIT_CODES_HELP)


class Program(_WithGlobalOptions, click.Group):
    """A group whose commands are imported when they are called, and whose errors are one line.

    It may be a command of another one. `default` is the command that runs when none is named.
    """

    def __init__(
        self,
        name: str,
        commands: Mapping[str, LazyCommand],
        *,
        examples: str = "",
        default: str = "",
        **attrs: Any,
    ) -> None:
        if default:
            attrs |= {"invoke_without_command": True, "callback": self._run_default}
        attrs.setdefault("epilog", EXIT_CODES_HELP)
        attrs.setdefault("context_settings", {"help_option_names": ["-h", "--help"]})
        super().__init__(name, **attrs)
        self.params += global_options()
        self.examples = examples
        self._lazy: Final = dict(commands)
        self._default: Final = default

    def _run_default(self) -> None:
        ctx = click.get_current_context()
        if ctx.invoked_subcommand is None:
            command = self.get_command(ctx, self._default)
            assert command is not None, self._default
            ctx.invoke(command)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the commands, in the order in which they are declared."""
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports a command; None if there is no such one."""
        lazy = self._lazy.get(cmd_name)
        if lazy is None:
            return None
        module, _colon, attribute = lazy.target.partition(":")
        try:
            found = getattr(import_module(module), attribute)
        except ModuleNotFoundError as error:
            if lazy.missing and error.name in (module, module.partition(".")[0]):
                raise Failure(lazy.missing) from error
            raise
        assert isinstance(found, click.Command), lazy.target
        return found

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the commands first, which is what most people look for, then the options."""
        rows = [(name, lazy.help) for name, lazy in self._lazy.items()]
        with formatter.section(_("Commands")):
            formatter.write_dl(rows)
        super().format_options(ctx, formatter)

    def make_context(
        self,
        info_name: str | None,
        args: list[str],
        parent: click.Context | None = None,
        **extra: Any,
    ) -> click.Context:
        """Gives the run its session, unless the caller brought one."""
        if parent is None and extra.get("obj") is None:
            extra["obj"] = Session()
        return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the subcommand; what it raises becomes an exit code and one clear line."""
        session = ctx.find_object(Session)
        assert session is not None
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError:
            _abandon_output()
            raise click.exceptions.Exit(OUTPUT_CLOSED) from None
        except (KeyboardInterrupt, click.Abort):
            raise click.exceptions.Exit(INTERRUPTED) from None
        except Failure as failure:
            failure.as_json = session.settings.output == "json"
            raise
        except (click.ClickException, click.exceptions.Exit):
            raise
        except Exception as error:
            filters = ctx.meta.get(FILTER_KEY, {})
            failure_or_none = failure_of(error, session.settings.server, filters)
            if failure_or_none is None:
                raise
            failure_or_none.as_json = session.settings.output == "json"
            raise failure_or_none from error
        return result


def _abandon_output() -> None:
    """Lets Python's own flush at exit write into nothing: nobody reads it any more."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def run(program: Program, args: Sequence[str] | None = None) -> None:
    """Runs a program as the operating system calls it; ends with SystemExit."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a letter shows its code instead.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    program.main(args=None if args is None else list(args), prog_name=program.name)
