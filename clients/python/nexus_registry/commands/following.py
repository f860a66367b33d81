"""What `watch --graph` does, and what all kinds of watches have in common."""

from __future__ import annotations

import select
import sys
from typing import TYPE_CHECKING, Any, Final

import click

from nexus_registry.commands.questions import question_of, walk_of
from nexus_registry.rendering.differences import graph_update_forms, graph_update_lines
from nexus_registry.resolver import resolve

if TYPE_CHECKING:
    from nexus_registry.session import Session
    from ose.registry.client import GraphUpdate

__all__ = ["end_if_unread", "follow_answer"]

_OF_THE_LOG: Final = {
    "labels": "--label",
    "feature": "--feature",
    "ids": "--id",
    "ends": "--of",
    "link_filter": "--link-filter",
    "snapshot": "--snapshot",
    "start": "--from",
    "reset": "--reset",
}


def follow_answer(session: Session, values: dict[str, Any]) -> None:
    """Shows an answer about the graph, and what changes in it, until it is interrupted."""
    for name, option in _OF_THE_LOG.items():
        if values[name]:
            raise click.UsageError(f"{option} is not for --graph")
    question, walk = question_of(values), walk_of(values)
    # A wrong address or name is an error now; a connection that breaks later is made again.
    root_id = _root(session, values)
    seen = False
    for update in session.client.watch_graph(
        root_id,
        **question,
        **walk,
        resume_token=values["resume"] or "",
        include_previous=values["previous"],
        bookmark_interval=values["bookmark"],
    ):
        _show(session, update, bookmarks=values["bookmark"] is not None, is_new=seen)
        seen = True


def _root(session: Session, values: dict[str, Any]) -> str:
    """The id of the root. One that is resumed may be gone by now: then it is taken for an id."""
    from nexus_registry.failures import NOT_FOUND, Failure

    try:
        return resolve(session.client, values["graph"]).id
    except Failure as failure:
        if values["resume"] and failure.exit_code == NOT_FOUND:
            return str(values["graph"])
        raise


def _show(session: Session, update: GraphUpdate, *, bookmarks: bool, is_new: bool) -> None:
    is_reset = is_new and update.kind.value == "answer"
    if session.as_table:
        if is_reset:
            session.output.line("  what happened meanwhile is forgotten: it begins anew")
        session.output.lines(graph_update_lines(update, bookmarks=bookmarks))
        sys.stdout.flush()
    else:
        if is_reset:
            session.output.record({"type": "reset"})
        for form in graph_update_forms(update, bookmarks=bookmarks):
            session.output.record(form)
    end_if_unread(update.kind.value)


def end_if_unread(kind: str) -> None:
    """Raises BrokenPipeError at a bookmark if nobody reads standard output any more.

    Writing tells so only at the next event.
    """
    if kind == "bookmark" and _reader_is_gone():
        raise BrokenPipeError


def _reader_is_gone() -> bool:
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return any(event & select.POLLERR for _, event in poll.poll(0))
    except (AttributeError, OSError, ValueError):
        return False  # no such call on this system, or no such file
