"""`python -m hyper_registry` is `nexus-registry serve`."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import click

from hyper_registry import __version__
from hyper_registry.config import SYSTEM_CONFIG, Config, ConfigError, default_database, read_file

# Connections are read by the thread that hands what comes to Python, not by others that hand it to
# that one: those took a fifth of what a call costs.
_GRPC_EXPERIMENTS = "-event_engine_listener"


def _load_file(context: click.Context, _option: click.Parameter, value: Path | None) -> None:
    path = value or (SYSTEM_CONFIG if SYSTEM_CONFIG.exists() else None)
    if path is None:
        return
    known = {p.name: p for p in context.command.params if p.name not in {"config", "version"}}
    try:
        context.default_map = read_file(path, known)
    except ConfigError as error:
        raise click.ClickException(str(error)) from None


_HELP = """Serve a registry until SIGTERM or SIGINT.

\b
Examples:
  nexus-registry serve
  nexus-registry serve --database /data/registry.db --grpc-address 127.0.0.1:50051
  REGISTRY_DB=memory:// nexus-registry serve
  nexus-registry serve --database postgresql://registry@db1,db2/registry --workers 4
"""


@click.command(
    "serve",
    help=_HELP,
    context_settings={"auto_envvar_prefix": "REGISTRY", "show_default": True},
    epilog="A flag is stronger than the environment, and that is stronger than the file.",
)
@click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=_load_file,
    expose_value=False,
    is_eager=True,
    envvar="REGISTRY_CONFIG",
    show_envvar=True,
    default=None,
    show_default=f"{SYSTEM_CONFIG}, if it is there",
    help="A YAML file with these options, by their long names.",
)
@click.option(
    "--database",
    envvar="REGISTRY_DB",
    show_envvar=True,
    default=default_database,
    show_default=default_database(),
    help="Where to keep everything: a path, sqlite:///PATH, postgresql://HOST/DATABASE, which any "
    "number of servers may share, or memory:// to keep nothing.",
)
@click.option(
    "--migrate/--no-migrate",
    default=True,
    show_envvar=True,
    help="Make an older schema of the database the newest one at the start, or refuse it: see "
    "nexus-registry migrate.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1, max=64),
    show_envvar=True,
    default=1,
    help="How many processes serve, each a replica behind the same ports. More than one needs "
    "PostgreSQL.",
)
@click.option(
    "--grpc-address", show_envvar=True, default="127.0.0.1:50051", help="Where to serve gRPC."
)
@click.option(
    "--http-address", show_envvar=True, default="127.0.0.1:8080", help="Where to serve HTTP."
)
@click.option(
    "--insecure",
    is_flag=True,
    show_envvar=True,
    help="Allow addresses that other machines can reach, without TLS or authentication.",
)
@click.option(
    "--retention-seconds",
    type=click.FloatRange(min=0),
    show_envvar=True,
    default=3600.0,
    help="How long all of the past is kept.",
)
@click.option(
    "--retention-changes",
    type=click.IntRange(min=0),
    show_envvar=True,
    default=1_000_000,
    help="How many changes older than that are kept.",
)
@click.option(
    "--max-watches",
    type=click.IntRange(min=1),
    show_envvar=True,
    default=10_000,
    help="How many Watch streams may be open at once.",
)
@click.option(
    "--lease-hold-share",
    type=click.FloatRange(0, 1),
    show_envvar=True,
    default=0.15,
    help="Of which share of all leases, overdue at once, none expires; 1 holds none back.",
)
@click.option(
    "--lease-hold-least",
    type=click.IntRange(min=0),
    show_envvar=True,
    default=10,
    help="How many overdue leases always expire.",
)
@click.option(
    "--probes",
    is_flag=True,
    show_envvar=True,
    help="Probe mesh services as their metadata.probe says, and report their health.",
)
@click.option(
    "--probe-allow",
    multiple=True,
    show_envvar=True,
    metavar="CIDR",
    help="A network whose addresses may be probed; may be repeated. None by default. Loopback, "
    "link-local and metadata addresses only by a network within their range.",
)
@click.option(
    "--feature-registry",
    show_envvar=True,
    default="",
    metavar="FILE",
    help="Features and classification rules beside those that come with the server. Default: "
    "/etc/ose/registry/feature_registry.yaml, if it is there.",
)
@click.option(
    "--cors-origins",
    multiple=True,
    show_envvar=True,
    metavar="ORIGIN",
    help="An origin whose scripts browsers let use the HTTP API, or * for all; may be repeated. "
    "None by default.",
)
@click.option(
    "--allowed-hosts",
    multiple=True,
    show_envvar=True,
    metavar="NAME",
    help="A name under which HTTP may be asked, as *.example.org all below it, or * for any; may "
    "be repeated. localhost and addresses always may. By default no other where only this machine "
    "reaches the server, and any elsewhere.",
)
@click.option(
    "--grace-seconds",
    type=click.FloatRange(min=0),
    show_envvar=True,
    default=3.0,
    help="How long a shutdown waits for calls in flight.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    show_envvar=True,
    default="info",
    help="What to log, to standard error: for people on a terminal, JSON lines elsewhere.",
)
@click.option(
    "--access-log", is_flag=True, show_envvar=True, help="Log every call, when it has ended."
)
@click.option(
    "--otlp-endpoint",
    envvar=["REGISTRY_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"],
    show_envvar=True,
    default="",
    metavar="URL",
    help="Where to send spans of calls and commits, by OTLP over gRPC. Nowhere by default.",
)
@click.version_option(__version__, prog_name="nexus-registry serve")
def serve(**options: Any) -> None:
    """Serves until SIGTERM or SIGINT."""
    # gRPC reads it when it is imported.
    os.environ.setdefault("GRPC_EXPERIMENTS", _GRPC_EXPERIMENTS)
    # Imported here, so that --help and mistakes are answered at once.
    from hyper_registry import logs
    from hyper_registry.model.errors import RegistryError

    config = Config(**options)
    logs.configure(config.log_level)
    try:
        if config.workers > 1:
            _supervise(config)
        else:
            _serve(config)
    except (ConfigError, RegistryError) as error:
        raise click.ClickException(str(error)) from None


def _serve(config: Config) -> None:
    from hyper_registry.app import run

    run_until_stopped(lambda: run(config))


def _supervise(config: Config) -> None:
    from hyper_registry.workers import supervise

    config.check()
    supervise(config)


def run_until_stopped(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs a program on the fastest event loop that there is."""
    if sys.platform == "win32":
        asyncio.run(main())
        return
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


if __name__ == "__main__":
    serve(prog_name="python -m hyper_registry")
