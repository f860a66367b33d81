"""`nexus-plugin-manager discover`."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import click

from nexus_registry.batching import batches
from nexus_registry.failures import USAGE, Failure
from nexus_registry.program import command as make_command
from nexus_registry.progress import progress_bar
from nexus_registry.rendering.words import counted
from nexus_registry.session import Session, pass_session

if TYPE_CHECKING:
    from nexus_registry.discovery.source import Discovery, Source
    from nexus_registry.reconcile import Changes, Existing, Ownership, Plan, Wanted
    from ose.registry.v1.entity_pb2 import Entity
    from ose.registry.v1.mutation_pb2 import Mutation
    from ose.registry.v1.relationship_pb2 import Relationship

_SOURCES: Final = {
    "backstage": "nexus_registry.discovery.backstage",
    "compose": "nexus_registry.discovery.compose",
    "debian": "nexus_registry.discovery.debian_packages",
    "kubernetes": "nexus_registry.discovery.kubernetes",
    "python": "nexus_registry.discovery.python",
}
_KINDS: Final = ("created", "updated", "removed")
_MANIFESTS: Final = "manifests"
_FEW: Final = 10
"""So many may always be removed, whatever share of all they are."""


@make_command(
    "discover",
    examples="""
    nexus-plugin-manager discover
    nexus-plugin-manager discover ./plugins /opt/plugins --dry-run
    nexus-plugin-manager discover ./plugins --watch
    nexus-plugin-manager discover --from debian
    nexus-plugin-manager discover --from debian --dry-run
    nexus-plugin-manager discover --from debian ./Packages.xz --no-prune
    nexus-plugin-manager discover --from python
    nexus-plugin-manager discover --from python ~/projects/shop/.venv
    nexus-plugin-manager discover --from compose ./compose.yaml
    nexus-plugin-manager discover --from kubernetes ./deploy --scope shop
    nexus-plugin-manager discover --from backstage .
    """,
)
@click.argument("paths", nargs=-1, metavar="[PATH]...", type=click.Path(exists=True))
@click.option(
    "--from",
    "name",
    type=click.Choice([_MANIFESTS, *_SOURCES]),
    default=_MANIFESTS,
    show_default=True,
    help="What to look at.",
)
@click.option("--watch", is_flag=True, help="Keep following the manifests, until interrupted.")
@click.option(
    "--scope",
    default="",
    metavar="NAME",
    help=(
        "What the things found belong to: the project of compose (its name by default), or whatever"
        " a folder of kubernetes or backstage is to be known by (its path by default). Only what"
        " was found in the same scope before is deleted when it is gone."
    ),
)
@click.option("--dry-run", is_flag=True, help="Tell what would change, and write nothing.")
@click.option(
    "--prune/--no-prune",
    default=None,
    help=(
        "Whether to delete what was discovered before and is gone. When neither is said it is"
        " deleted, unless it is more than a third of everything."
    ),
)
@click.option(
    "--show",
    type=click.IntRange(min=0),
    default=20,
    show_default=True,
    metavar="N",
    help="How many names of each kind of change to show.",
)
@pass_session
def command(
    session: Session,
    paths: tuple[str, ...],
    name: str,
    watch: bool,
    scope: str,
    dry_run: bool,
    prune: bool | None,
    show: int,
) -> None:
    """Register what exists on this machine.

    manifests: the plugins whose manifests (plugin.yaml, plugin.yml or plugin.json) are in the
    folders PATH or below them, or in those of $PLUGIN_REGISTRY_PATH, with colons between them;
    without either in /var/lib/ose/plugins and the working directory. A manifest that was changed
    replaces the one of its name and version. With --watch those that change, come and go are
    followed; a plugin whose manifest is gone stays, unless --prune is given too. What is broken
    does not stop the rest; the exit code is 1 then.

    debian: the packages that apt knows here, or those of the Packages file PATH, plain or
    compressed; entities of type package, with the id debian:NAME.

    python: the distributions installed in the environment that runs this program, or in the one
    that PATH is the directory or the interpreter of; entities of type distribution, with the id
    python:NAME.

    compose: the services of a Compose project, of the file PATH or of the directory PATH with a
    compose.yaml; entities of type service, with the id compose:PROJECT:NAME.

    kubernetes: the services, workloads, routes and gateways of Kubernetes, Gateway API and Istio
    manifests in the file or below the directory PATH, with ids such as
    kubernetes:NAMESPACE:service:NAME.

    backstage: the software catalog of the catalog-info.yaml files below the directory PATH, or of
    the file PATH and what its locations name, with ids such as backstage:component:NAMESPACE:NAME.

    For these three PATH is the working directory if it is left out. Values of environment
    variables are looked at for the names of services, and never registered.

    Every dependency becomes a depends_on relationship with its constraint, or, if only an extra of
    a Python distribution asks for it, an optionally_depends_on one. Everything is marked with its
    source, for entities in a label: source=debian. Running it again writes only what has changed: a
    new version is an update of the same entity. Labels, metadata and relationships that others
    added stay, and so does what is gone as long as others' relationships hold it.
    """
    if name == _MANIFESTS:
        _discover_manifests(session, paths, watch, scope, dry_run, prune)
        return
    source: Source = import_module(_SOURCES[name]).SOURCE
    if scope and not source.scoped:
        raise click.UsageError(f"--scope is not for --from {name}")
    if watch or len(paths) > 1:
        what = "--watch is" if watch else "several paths are"
        raise click.UsageError(f"{what} for manifests, not for --from {name}")
    path = paths[0] if paths else None
    with _no_collections():
        _discover(session, source, path, scope, dry_run, prune, show)


def _discover_manifests(
    session: Session,
    paths: tuple[str, ...],
    watch: bool,
    scope: str,
    dry_run: bool,
    prune: bool | None,
) -> None:
    from nexus_registry.commands.plugins.discovering import discover_manifests

    if scope:
        raise click.UsageError("--scope is not for manifests")
    if prune and not watch:
        raise click.UsageError("--prune goes with --watch for manifests")
    discover_manifests(session, paths, dry_run=dry_run, watch=watch, prune=bool(prune))


@contextmanager
def _no_collections() -> Iterator[None]:
    """Switches cyclic garbage collection off: hundreds of thousands of objects, and no cycles.

    It takes 40 percent of the time otherwise.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _discover(
    session: Session,
    source: Source,
    path: str | None,
    scope: str,
    dry_run: bool,
    prune: bool | None,
    show: int,
) -> None:
    from nexus_registry.reconcile import reconcile

    found = _read(session, source, path, scope)
    wanted, owner = found.wanted, found.owner or source.owner
    existing = _registered(session, source)
    prune = _prune(session, source, owner, wanted, existing, prune)
    protected = _protected(session, wanted, existing, owner) if prune else frozenset()
    plan = reconcile(wanted, existing, owner, prune=prune, protected=protected)
    if not dry_run:
        _send(session, plan)
    if session.as_table:
        _show(session, source, found, plan, show, dry_run)
    else:
        session.output.value(_form(source, found, plan, show, dry_run))
    if protected:
        session.note(
            f"{counted(len(protected), source.noun)} that are gone were kept: relationships of"
            " others hold them"
        )


def _read(session: Session, source: Source, path: str | None, scope: str) -> Discovery:
    from nexus_registry.discovery.source import SourceError

    try:
        with progress_bar(session, f"looking at {path or f'this machine ({source.name})'}", None):
            return source.read(path, scope)
    except SourceError as error:
        raise Failure(str(error), USAGE) from error


def _registered(session: Session, source: Source) -> Existing:
    """What is registered of the source's types, at one revision."""
    from nexus_registry.reconcile import Existing

    entities: list[Entity] = []
    relationships: list[Relationship] = []
    with progress_bar(session, "reading what is registered", None) as advance:
        for part in session.client.export(
            entity_types=source.entity_types, types=source.relationship_types
        ):
            entities += part.entities
            relationships += part.relationships
            advance(len(part.entities) + len(part.relationships))
    return Existing.of(entities, relationships)


def _prune(
    session: Session,
    source: Source,
    owner: Ownership,
    wanted: Wanted,
    existing: Existing,
    asked: bool | None,
) -> bool:
    """Whether to delete what is gone. A wrong or partial index must not empty the registry."""
    from nexus_registry.reconcile import surplus

    gone = len(surplus(wanted, existing, owner))
    if asked is not None or not gone:
        return bool(asked)
    owned = sum(map(owner.owns_entity, existing.entities.values()))
    if gone <= _FEW or gone * 3 <= owned:
        return True
    registered = counted(owned, f"registered {source.noun}")
    session.note(
        f"{gone:,} of {registered} are gone, which is more than a third:"
        " they are kept; --prune deletes them"
    )
    return False


def _protected(
    session: Session, wanted: Wanted, existing: Existing, owner: Ownership
) -> frozenset[str]:
    """The ids of what is gone and is held by relationships that the discoverer did not make."""
    from nexus_registry.reconcile import surplus

    held = set()
    gone = surplus(wanted, existing, owner)
    with progress_bar(session, "checking what is gone", len(gone)) as advance:
        for entity in gone:
            edges = session.client.list_relationships(entity_id=entity.id)
            if not all(map(owner.owns_edge, edges)):
                held.add(entity.id)
            advance(1)
    return frozenset(held)


def _send(session: Session, plan: Plan) -> None:
    if not len(plan):
        return
    sizes: deque[int] = deque()

    def parts() -> Iterator[list[Mutation]]:
        for part in batches(plan.mutations()):
            sizes.append(len(part))
            yield part

    with progress_bar(session, "registering", len(plan)) as advance:
        for _ in session.client.import_batches(parts()):
            advance(sizes.popleft())


def _show(
    session: Session, source: Source, found: Discovery, plan: Plan, limit: int, dry_run: bool
) -> None:
    entities, edges = len(found.wanted.entities), len(found.wanted.relationships)
    session.output.line(
        f"{source.name}: {counted(entities, source.noun)}, {counted(edges, 'dependency')}"
        + (" (dry run: nothing was written)" if dry_run else "")
    )
    columns = ("", "CREATED", "UPDATED", "REMOVED", "UNCHANGED", "KEPT")
    changes = {f"{source.noun}s": plan.entities, "dependencies": plan.relationships}
    session.output.table(columns, [[name, *_counts(kind)] for name, kind in changes.items()])
    for kind in _KINDS:
        names = getattr(plan.entities, kind)
        if names and limit:
            session.output.line(f"{kind}: {_some(names, limit)}")
    _complain(session, found, limit)


def _complain(session: Session, found: Discovery, limit: int) -> None:
    """Says what was found wanting: all of it if it is little, and the number if not."""
    if found.unsatisfied:
        wishes = [f"{who}: {wish}" for who, wish in found.unsatisfied]
        few = f": {'; '.join(wishes)}" if len(wishes) <= limit else ""
        session.note(f"{counted(len(wishes), 'dependency')} cannot be met by what is here{few}")
    for problem in found.broken:
        session.note(f"passed over: {problem}")


def _some(names: Sequence[str], limit: int) -> str:
    more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return f"{', '.join(names[:limit])}{more}"


def _counts(changes: Changes) -> list[str]:
    lists = (changes.created, changes.updated, changes.removed)
    numbers = [*map(len, lists), changes.unchanged, len(changes.kept)]
    return [f"{number:,}" for number in numbers]


def _form(
    source: Source, found: Discovery, plan: Plan, limit: int, dry_run: bool
) -> dict[str, Any]:
    return {
        "source": source.name,
        "dry_run": dry_run,
        f"{source.noun}s": len(found.wanted.entities),
        "dependencies": len(found.wanted.relationships),
        "unsatisfied": len(found.unsatisfied),
        "broken": list(found.broken),
        "entities": _changes_form(plan.entities, limit),
        "relationships": _changes_form(plan.relationships, limit),
    }


def _changes_form(changes: Changes, limit: int) -> dict[str, Any]:
    form: dict[str, Any] = {}
    for kind in (*_KINDS, "kept"):
        names = getattr(changes, kind)
        form[kind] = {"count": len(names), "names": names[:limit]}
    return form | {"unchanged": {"count": changes.unchanged}}
