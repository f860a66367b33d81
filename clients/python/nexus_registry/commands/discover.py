"""`nexus-plugin-manager discover`."""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import click

from nexus_registry.batching import batches
from nexus_registry.failures import USAGE, Failure
from nexus_registry.program import command as make_command
from nexus_registry.progress import progress_bar
from nexus_registry.rendering.words import counted
from nexus_registry.session import Session, pass_session

if TYPE_CHECKING:
    from nexus_registry.discovery.debian import PackageGraph
    from nexus_registry.reconcile import Changes, Existing, Ownership, Plan, Wanted
    from ose.registry.v1.entity_pb2 import Entity
    from ose.registry.v1.mutation_pb2 import Mutation
    from ose.registry.v1.relationship_pb2 import Relationship

_KINDS: Final = ("created", "updated", "removed")
_FEW: Final = 10
"""So many may always be removed, whatever share of all they are."""


@make_command(
    "discover",
    examples="""
    nexus-plugin-manager discover --from debian
    nexus-plugin-manager discover --from debian --dry-run
    nexus-plugin-manager discover --from debian --packages-file ./Packages.xz --no-prune
    """,
)
@click.option(
    "--from",
    "source",
    type=click.Choice(["debian"]),
    required=True,
    help="What to look at: debian is the packages that apt knows here.",
)
@click.option(
    "--packages-file",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="A Packages file (plain or compressed) to read instead of what apt knows.",
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
    source: str,
    packages_file: str | None,
    dry_run: bool,
    prune: bool | None,
    show: int,
) -> None:
    """Register what exists on this machine.

    Every Debian package becomes an entity of type package with the id debian:NAME and the label
    source=debian, every dependency a depends_on relationship. Running it again writes only what has
    changed: a new version is an update of the same entity. Labels, metadata and relationships that
    others added stay, and so does a package that is gone as long as others' relationships hold it.
    """
    with _no_collections():
        _discover(session, source, packages_file, dry_run, prune, show)


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
    source: str,
    packages_file: str | None,
    dry_run: bool,
    prune: bool | None,
    show: int,
) -> None:
    from nexus_registry.packages import DEBIAN, wanted_packages
    from nexus_registry.reconcile import reconcile

    graph = _read(session, packages_file)
    wanted = wanted_packages(graph)
    existing = _registered(session, DEBIAN)
    prune = _prune(session, wanted, existing, DEBIAN, prune)
    protected = _protected(session, wanted, existing, DEBIAN) if prune else frozenset()
    plan = reconcile(wanted, existing, DEBIAN, prune=prune, protected=protected)
    if not dry_run:
        _send(session, plan)
    if session.as_table:
        _show(session, source, graph, plan, show, dry_run)
    else:
        session.output.value(_form(source, graph, plan, show, dry_run))
    if protected:
        session.note(
            f"{counted(len(protected), 'package')} that are gone were kept: relationships of others"
            " hold them"
        )


def _read(session: Session, packages_file: str | None) -> PackageGraph:
    from nexus_registry.discovery.debian import (
        PackageIndexError,
        build_graph,
        read_apt_index,
        read_packages_file,
    )

    try:
        with progress_bar(session, "reading the package index", None):
            if packages_file is not None:
                graph = build_graph(read_packages_file(packages_file))
            else:
                index = read_apt_index()
                graph = build_graph(index.stanzas, index.architecture)
    except PackageIndexError as error:
        raise Failure(str(error), USAGE) from error
    if not graph.packages:
        raise Failure(f"{packages_file or 'the package index'} holds no packages", USAGE)
    return graph


def _registered(session: Session, owner: Ownership) -> Existing:
    """What is registered of the discoverer's types, at one revision."""
    from nexus_registry.packages import ENTITY_TYPE, RELATIONSHIP_TYPE
    from nexus_registry.reconcile import Existing

    entities: list[Entity] = []
    relationships: list[Relationship] = []
    with progress_bar(session, "reading what is registered", None) as advance:
        for part in session.client.export(entity_types=[ENTITY_TYPE], types=[RELATIONSHIP_TYPE]):
            entities += part.entities
            relationships += part.relationships
            advance(len(part.entities) + len(part.relationships))
    return Existing.of(entities, relationships)


def _prune(
    session: Session, wanted: Wanted, existing: Existing, owner: Ownership, asked: bool | None
) -> bool:
    """Whether to delete what is gone. A wrong or partial index must not empty the registry."""
    from nexus_registry.reconcile import surplus

    gone = len(surplus(wanted, existing, owner))
    if asked is not None or not gone:
        return bool(asked)
    owned = sum(map(owner.owns_entity, existing.entities.values()))
    if gone <= _FEW or gone * 3 <= owned:
        return True
    session.note(
        f"{gone:,} of {counted(owned, 'registered package')} are gone, which is more than a third:"
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
    session: Session, source: str, graph: PackageGraph, plan: Plan, limit: int, dry_run: bool
) -> None:
    packages, edges = len(graph.packages), len(graph.edges)
    session.output.line(
        f"{source}: {counted(packages, 'package')}, {counted(edges, 'dependency')}"
        + (" (dry run: nothing was written)" if dry_run else "")
    )
    columns = ("", "CREATED", "UPDATED", "REMOVED", "UNCHANGED", "KEPT")
    changes = {"packages": plan.entities, "dependencies": plan.relationships}
    session.output.table(columns, [[name, *_counts(found)] for name, found in changes.items()])
    for kind in _KINDS:
        names = getattr(plan.entities, kind)
        if names and limit:
            more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
            session.output.line(f"{kind}: {', '.join(names[:limit])}{more}")
    if graph.unsatisfied:
        count = counted(len(graph.unsatisfied), "dependency")
        session.note(f"{count} of the index cannot be met by any package in it")


def _counts(changes: Changes) -> list[str]:
    lists = (changes.created, changes.updated, changes.removed)
    numbers = [*map(len, lists), changes.unchanged, len(changes.kept)]
    return [f"{number:,}" for number in numbers]


def _form(
    source: str, graph: PackageGraph, plan: Plan, limit: int, dry_run: bool
) -> dict[str, Any]:
    return {
        "source": source,
        "dry_run": dry_run,
        "packages": len(graph.packages),
        "dependencies": len(graph.edges),
        "unsatisfied": len(graph.unsatisfied),
        "entities": _changes_form(plan.entities, limit),
        "relationships": _changes_form(plan.relationships, limit),
    }


def _changes_form(changes: Changes, limit: int) -> dict[str, Any]:
    form: dict[str, Any] = {}
    for kind in (*_KINDS, "kept"):
        names = getattr(changes, kind)
        form[kind] = {"count": len(names), "names": names[:limit]}
    return form | {"unchanged": {"count": changes.unchanged}}
