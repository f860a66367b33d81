"""What `discover` does with manifests: registers them, and follows them if wanted."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nexus_registry.failures import ERROR
from nexus_registry.registering import Outcome, Registrar
from nexus_registry.rendering.outcomes import Teller
from nexus_registry.rendering.words import counted
from ose.registry.manifest import Change, find_manifests, follow

if TYPE_CHECKING:
    from nexus_registry.session import Session

__all__ = ["DEFAULT_FOLDER", "PATH_VARIABLE", "discover_manifests"]

DEFAULT_FOLDER: Final = "/var/lib/ose/plugins"
PATH_VARIABLE: Final = "PLUGIN_REGISTRY_PATH"

_AGAIN_SECONDS: Final = 2.0


def discover_manifests(
    session: Session, paths: Sequence[str], *, dry_run: bool, watch: bool, prune: bool
) -> None:
    """Registers every manifest below some folders; with `watch`, what becomes of them too.

    Without paths it is the folders that the environment names, or else the two of old. Raises
    Failure if a manifest could not be registered; with `watch` that is only told.
    """
    roots = paths or _configured()
    registrar = Registrar(session.client, replace=True, dry_run=dry_run, prune=prune)
    teller = Teller(session, dry_run, changes_only=True)
    if watch:
        # A wrong address is an error now; a connection that breaks later is made again.
        session.client.check_health()
        asyncio.run(_follow(session, roots, registrar, teller))
    else:
        _register(session, roots, registrar, teller)


def _configured() -> Sequence[str]:
    if named := os.environ.get(PATH_VARIABLE):
        return [part for part in named.split(os.pathsep) if part]
    return [folder for folder in (DEFAULT_FOLDER, ".") if Path(folder).is_dir()]


def _register(session: Session, roots: Sequence[str], registrar: Registrar, teller: Teller) -> None:
    found = find_manifests(roots)

    def outcomes() -> Iterator[Outcome]:
        for path in found.paths:
            yield from registrar.take(path)
        for problem in found.problems:
            yield Outcome("broken", problem.file, problems=[problem], exit_code=ERROR)

    if session.as_table:
        for outcome in outcomes():
            teller.tell(outcome)
        teller.tell_needs()
        if not found.paths:
            session.note(f"no plugin.yaml, plugin.yml or plugin.json below {', '.join(roots)}")
        teller.sum_up()
    else:
        session.output.values(teller.forms(outcomes()))
    teller.end()


async def _follow(
    session: Session, roots: Sequence[str], registrar: Registrar, teller: Teller
) -> None:
    session.note(f"following {', '.join(roots)}; Ctrl-C ends it")
    async with aclosing(follow(roots)) as changes:
        async for some in changes:
            await _take(session, some, registrar, teller)


async def _take(
    session: Session, changes: Sequence[Change], registrar: Registrar, teller: Teller
) -> None:
    """Takes in what changed, again and again if the registry cannot be asked."""
    from ose.registry.client import DeadlineExceeded, Unavailable

    # What moved to another file is there before it is missed.
    pending = sorted(changes, key=lambda change: change.removed)
    is_told = False
    while pending:
        try:
            await asyncio.to_thread(_take_one, session, pending[0], registrar, teller)
        except (DeadlineExceeded, Unavailable) as error:
            if not is_told:
                session.note(f"the registry cannot be asked, trying again: {error.message}")
            is_told = True
            await asyncio.sleep(_AGAIN_SECONDS)
        else:
            del pending[0]
    if is_told:
        session.note(f"the registry answers again; took in {counted(len(changes), 'change')}")


def _take_one(session: Session, change: Change, registrar: Registrar, teller: Teller) -> None:
    take = registrar.drop if change.removed else registrar.take
    for outcome in take(change.path):
        if session.as_table:
            teller.tell(outcome)
        else:
            session.output.record(outcome.form())
    if session.as_table:
        teller.tell_needs()
        sys.stdout.flush()
