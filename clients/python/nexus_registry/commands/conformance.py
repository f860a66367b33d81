"""`nexus-registry conformance`."""

from __future__ import annotations

import asyncio
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

import click

from nexus_registry.failures import ERROR, UNAVAILABLE, Failure
from nexus_registry.program import command as make_command
from nexus_registry.rendering.output import Cell
from nexus_registry.session import Session, pass_session
from nexus_registry.settings import DURATION, server_address
from nexus_registry.targets import target

if TYPE_CHECKING:
    from nexus_registry.conformance.report import Report, Verdict
    from nexus_registry.conformance.suite import Options

_HTTP_MISSING = "--http needs httpx: pip install 'ose-registry[conformance]' brings it"
_NO_DATABASE = (
    "--database {0}: only a registry that is served can be checked; start one by 'nexus-registry"
    " serve --database {0}' and give its address by --server"
)
_STYLES = {"KEPT": "green", "PARTLY": "green", "BROKEN": "bold red", "NOT_CHECKED": "yellow"}


@make_command(
    "conformance",
    examples="""
    nexus-registry conformance --server localhost:50051
    nexus-registry conformance --http http://localhost:8080
    nexus-registry conformance --server replica1:50051 --server replica2:50051
    nexus-registry conformance --compact --output json
    nexus-registry conformance --junit conformance.xml
    nexus-registry conformance --clean
    """,
)
@click.option(
    "--server",
    multiple=True,
    metavar="HOST:PORT",
    help="The registry's gRPC address. Given more than once, for replicas of one registry, calls go"
    " to each in turn, so that what is written on one is read on another.",
)
@click.option(
    "--http",
    "urls",
    multiple=True,
    metavar="URL",
    help="The registry's HTTP address, to check that too. May be given more than once.",
)
@click.option(
    "--time",
    "seconds",
    type=DURATION,
    default="4s",
    show_default=True,
    metavar="DURATION",
    help="How long many clients work at once, over each transport.",
)
@click.option(
    "--compact",
    "compacts",
    is_flag=True,
    help="Compact the registry to check what is said of compaction. It forgets everybody's past.",
)
@click.option(
    "--junit",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Write the report to a file as well, in the form of JUnit, which CI systems show.",
)
@click.option("--seed", type=int, default=0, help="Repeat what the clients of a run chose.")
@click.option("--clean", "only_clean", is_flag=True, help="Only delete what killed runs have left.")
@pass_session
def command(
    session: Session,
    server: tuple[str, ...],
    urls: tuple[str, ...],
    seconds: float,
    compacts: bool,
    junit: str | None,
    seed: int,
    only_clean: bool,
) -> None:
    """Check whether a registry keeps its promises.

    Plays stories of every method, lets many clients write, read and watch at once, and holds what
    they were told against the audit log. It runs beside other data: what it makes has names that
    begin with conformance-, and is deleted at the end, also when it is interrupted.

    The report tells of every promise whether it is kept, broken, or not checked, and why not. Exits
    with 1 if one is broken.
    """
    from nexus_registry.conformance.suite import Options

    if database := session.settings.database:
        raise click.UsageError(_NO_DATABASE.format(database))
    try:
        targets = [server_address(one) for one in server or [session.settings.server]]
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    options = Options(targets, urls, seconds, compacts, seed)
    try:
        report = asyncio.run(_run(session, options, only_clean))
    except TimeoutError:
        raise Failure(f"cannot reach a registry at {', '.join(targets)}", UNAVAILABLE) from None
    except asyncio.CancelledError:
        raise click.Abort from None
    except ModuleNotFoundError as error:
        if error.name != "httpx":
            raise
        raise Failure(_HTTP_MISSING) from None
    if report is None:
        return
    if session.as_table:
        _show(session, report)
    else:
        session.output.value(report.form())
    if junit is not None:
        _write(report, junit)
    if not report.is_kept:
        click.get_current_context().exit(ERROR)


def _write(report: Report, file: str) -> None:
    from nexus_registry.conformance.junit import junit

    try:
        with target(file, "wb") as stream:
            stream.write(junit(report))
    except OSError as error:
        raise Failure(f"cannot write {file}: {error.strerror}") from error


async def _run(session: Session, options: Options, only_clean: bool) -> Report | None:
    from nexus_registry.conformance.cleaning import clean
    from nexus_registry.conformance.suite import Suite, connected, reachable

    task = asyncio.current_task()
    assert task is not None
    # SIGINT is asyncio's own to turn into a cancellation; SIGTERM is one too, where there are both.
    with suppress(NotImplementedError, RuntimeError, ValueError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with connected(options) as (stubs, http):
        await reachable(stubs)
        if only_clean:
            for line in await clean(stubs):
                session.note(f"not deleted: {line}")
            return None
        return await Suite(options, stubs, http, session.note).run()


def _show(session: Session, report: Report) -> None:
    session.output.table(("PROMISE", "", "VERDICT", "BY"), map(_row, report.promises))
    session.output.line()
    session.output.table(("METHOD", "", "VERDICT", "BY"), map(_row, report.methods))
    for verdict in (*report.promises, *report.methods):
        for objection in verdict.objections:
            session.output.line(Cell(f"{verdict.name}: ", "bold red"), objection)
    for line in report.left_behind:
        session.note(f"not deleted: {line}")
    session.output.line()
    session.output.line(
        "every promise that was checked is kept" if report.is_kept else "NOT every promise is kept",
        f" (seed {report.seed})",
    )


def _row(verdict: Verdict) -> list[str | Cell]:
    state = verdict.state
    told = "; not ".join(filter(None, (verdict.checked, verdict.not_checked)))
    if not verdict.checked:
        told = verdict.not_checked
    return [verdict.name, verdict.about, Cell(state.value, _STYLES[state.name]), told]
