"""The global options: where the registry is, and how output looks.

They may stand before or after the subcommand. Every command carries copies of them; whichever is
given last counts.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import click
from click.core import ParameterSource

__all__ = [
    "DURATION",
    "DurationType",
    "OutputFormat",
    "Settings",
    "global_options",
    "seconds_of",
]

OutputFormat = Literal["table", "json", "yaml"]

DEFAULT_SERVER: Final = "localhost:50051"
DEFAULT_PORT: Final = 50051
DEFAULT_TIMEOUT: Final = 30.0

_DURATION_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)", re.ASCII)
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604_800.0}
_LONGEST: Final = 100 * 365 * 86400.0


@dataclass(slots=True)
class Settings:
    """What the global options say."""

    server: str = DEFAULT_SERVER
    """`host:port`, or another target that gRPC understands."""
    database: str = ""
    """A database to open in this process, instead of asking a server; empty for a server."""
    output: OutputFormat = "table"
    timeout: float = DEFAULT_TIMEOUT
    """Seconds that one question may take. Streams (watch, import, export) are not bound by it."""
    color: bool = True
    """Whether a terminal gets colours; no one else does."""
    quiet: bool = False
    """Nothing but the result: no progress bars, no notes."""


class DurationType(click.ParamType[float]):
    """A length of time in seconds: `500ms`, `30s`, `5m`, `1h30m`, `1w`, or a number of seconds."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The seconds; fails with a usage error."""
        if isinstance(value, int | float):
            return float(value)
        text = str(value).strip()
        seconds = float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else seconds_of(text)
        if seconds is None:
            self.fail(f"{value!r} is not a duration such as 500ms, 30s, 5m or 1h30m", param, ctx)
        if seconds > _LONGEST:
            self.fail(f"{value!r} is longer than a hundred years", param, ctx)
        return seconds


DURATION: Final = DurationType()


def seconds_of(text: str) -> float | None:
    """The seconds of a length of time with units, such as `1h30m`; None if it is something else."""
    parts = _DURATION_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        return None
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def server_address(text: str) -> str:
    """The target for gRPC of what a user calls the server: port 50051 unless it says another.

    Raises ValueError for a URL, which is an address of the HTTP side.
    """
    if text.startswith(("http://", "https://")):
        raise ValueError(f"{text!r} is a URL; the gRPC address of a registry is host:port")
    if not text or any(c.isspace() for c in text):
        raise ValueError(f"{text!r} is not an address such as localhost:50051")
    if "/" in text or text.startswith(("unix:", "dns:", "ipv4:", "ipv6:")):
        return text
    if re.fullmatch(r"\[[^\]]*\]|[^:]*", text):
        return f"{text}:{DEFAULT_PORT}"
    return f"[{text}]:{DEFAULT_PORT}" if text.count(":") > 1 and "]" not in text else text


def _set_server(settings: Settings, value: str) -> None:
    try:
        settings.server = server_address(value)
    except ValueError as error:
        raise click.UsageError(str(error)) from error


def _set_database(settings: Settings, value: str) -> None:
    settings.database = value


def _set_output(settings: Settings, value: OutputFormat) -> None:
    settings.output = value


def _set_timeout(settings: Settings, value: float) -> None:
    if value <= 0:
        raise click.UsageError("--timeout must be more than 0")
    settings.timeout = value


def _set_no_color(settings: Settings, value: bool) -> None:
    settings.color = not value


def _set_quiet(settings: Settings, value: bool) -> None:
    settings.quiet = value


class GlobalOption(click.Option):
    """An option that is noted in the session's settings, wherever on the line it stands."""

    def __init__(
        self, names: Sequence[str], note: Callable[[Settings, Any], None], **attrs: Any
    ) -> None:
        self._note = note
        super().__init__(names, expose_value=False, is_eager=True, callback=self._take, **attrs)

    def _take(self, ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        source = ctx.get_parameter_source(self.name or "")
        if source is ParameterSource.COMMANDLINE:
            self._note(ctx.find_root().obj.settings, value)
        return value


def global_options() -> list[click.Parameter]:
    """A new set of the options, for one command."""
    return [
        GlobalOption(
            ["--server"],
            metavar="HOST:PORT",
            note=_set_server,
            help=f"The registry. Default: $REGISTRY_SERVER, else {DEFAULT_SERVER}.",
        ),
        GlobalOption(
            ["--database"],
            metavar="FILE",
            note=_set_database,
            help="Open this file here, without a server. One that a server has open is refused.",
        ),
        GlobalOption(
            ["-o", "--output"],
            type=click.Choice(["table", "json", "yaml"]),
            note=_set_output,
            help="How the result is written. Default: table.",
        ),
        GlobalOption(
            ["--timeout"],
            type=DURATION,
            metavar="DURATION",
            note=_set_timeout,
            help="How long one question may take, such as 5s or 2m. Default: 30s.",
        ),
        GlobalOption(
            ["--no-color"],
            is_flag=True,
            note=_set_no_color,
            help="No colours on a terminal. $NO_COLOR does the same.",
        ),
        GlobalOption(
            ["-q", "--quiet"],
            is_flag=True,
            note=_set_quiet,
            help="Only the result: no progress, no notes; of what was written, only the id.",
        ),
    ]


def settings_from_environment() -> Settings:
    """The settings before any option was read. Raises click.UsageError for a wrong address."""
    settings = Settings()
    if server := os.environ.get("REGISTRY_SERVER"):
        _set_server(settings, server)
    return settings
