"""Progress bars: on a terminal, for people who wait."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

    from nexus_registry.session import Session

__all__ = ["progress_bar"]


@contextmanager
def progress_bar(
    session: Session, label: str, total: int | None
) -> Iterator[Callable[[int], None]]:
    """A bar on standard error; the block calls what it gets with how many more are done.

    Nothing is shown if standard error is no terminal, or with `--quiet`. A total of None: unknown.
    """
    if session.settings.quiet or not sys.stderr.isatty():
        yield lambda _done: None
        return
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True, no_color=True if not session.settings.color else None)
    with Progress(*_columns(total is not None), console=console, transient=True) as bar:
        task = bar.add_task(label, total=total, count="")

        def advance(done: int) -> None:
            bar.advance(task, done)
            bar.update(task, count=f"{bar.tasks[task].completed:,.0f}")

        yield advance


def _columns(known: bool) -> Sequence[ProgressColumn]:
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
    )

    label, elapsed = TextColumn("{task.description}"), TimeElapsedColumn()
    if known:
        return label, BarColumn(), MofNCompleteColumn(), elapsed
    return SpinnerColumn("line"), label, TextColumn("{task.fields[count]}"), elapsed
