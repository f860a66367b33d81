"""`nexus-registry lease keep-alive`."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import click

from nexus_registry.commands.following import end_if_unread
from nexus_registry.completion import complete_lease
from nexus_registry.failures import NOT_FOUND, Failure
from nexus_registry.program import command as make_command
from nexus_registry.rendering.words import counted
from nexus_registry.session import Session, pass_session
from nexus_registry.settings import DURATION
from ose.registry.jsonform import to_dict

if TYPE_CHECKING:
    from ose.registry.v1.lease_service_pb2 import KeepAliveResponse


@make_command(
    "keep-alive",
    examples="""
    nexus-registry lease keep-alive node-1
    nexus-registry lease keep-alive node-1 node-2 --interval 5s -o json
    nexus-registry lease keep-alive node-1 --revoke
    """,
)
@click.argument(
    "leases", metavar="LEASE...", nargs=-1, required=True, shell_complete=complete_lease
)
@click.option(
    "--interval",
    type=DURATION,
    metavar="DURATION",
    help="How often to renew them. Default: a third of the shortest --ttl of them.",
)
@click.option("--revoke", is_flag=True, help="Revoke them at the end.")
@pass_session
def command(
    session: Session, leases: tuple[str, ...], interval: float | None, revoke: bool
) -> None:
    """Renew leases until interrupted.

    Ctrl-C and SIGTERM end it, with exit code 130; the leases then expire in their time, or at once
    with --revoke. A connection that breaks is made again. A lease that has expired is told, and not
    renewed any more; with none left the command ends, with exit code 3. With --output json every
    line is one JSON object, for each time that they were renewed.
    """
    if interval is not None and interval <= 0:
        raise click.UsageError("--interval must be more than 0")
    left = dict.fromkeys(leases)
    # A wrong address is an error now; a connection that breaks later is made again.
    session.client.check_health()
    with _ended_by_sigterm():
        try:
            for number, answer in enumerate(session.client.keep_alive(leases, interval=interval)):
                for gone in answer.missing:
                    del left[gone]
                _show(session, answer, is_first=number == 0)
        finally:
            if revoke:
                _revoke(session, left)
    raise Failure("all leases have expired", NOT_FOUND)


def _show(session: Session, answer: KeepAliveResponse, is_first: bool) -> None:
    if not session.as_table:
        session.output.record(to_dict(answer))
    else:
        for gone in answer.missing:
            session.output.line(f"{gone} has expired")
        if is_first and answer.renewed:
            session.note(f"renewing {counted(len(answer.renewed), 'lease')}; Ctrl-C ends it")
        sys.stdout.flush()
    end_if_unread("bookmark")


def _revoke(session: Session, leases: Iterable[str]) -> None:
    from ose.registry.client import NotFound

    for lease in leases:
        try:
            session.client.revoke_lease(lease)
        except NotFound:
            continue
        if session.as_table:
            session.note(f"revoked {lease}")


@contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Lets SIGTERM end the block as Ctrl-C does, so that what is to be done at the end is done."""

    def interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
