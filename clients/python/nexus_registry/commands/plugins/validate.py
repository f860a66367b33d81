"""`nexus-plugin-manager validate`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from nexus_registry.failures import ERROR, Failure
from nexus_registry.program import command as make_command
from nexus_registry.rendering.output import Cell
from nexus_registry.rendering.words import counted
from nexus_registry.session import Session, pass_session

if TYPE_CHECKING:
    from ose.registry.manifest import ManifestFile


@make_command(
    "validate",
    examples="""
    nexus-plugin-manager validate ./plugin.yaml
    nexus-plugin-manager validate plugins --quiet
    nexus-plugin-manager validate plugins -o json | jq -r '.[].problems[].problem'
    """,
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(exists=True))
@pass_session
def command(session: Session, paths: tuple[str, ...]) -> None:
    """Tell what is wrong with manifests, without a registry.

    PATH is a manifest, or a folder, as for register. Every mistake is a line with file, line,
    column, path, and what was expected; with --quiet only mistakes are shown. The exit code is 1 if
    there is one. Whether the feature exists and whether requirements can be met is known to a
    registry only: register --dry-run, plan register.
    """
    files = list(_files(paths))
    if session.as_table:
        _show(session, files)
    else:
        session.output.values(map(_form, files))
    broken = sum(bool(one.problems) for one in files)
    if broken:
        raise Failure(f"{broken} of {counted(len(files), 'file')} with mistakes", ERROR)


def _files(paths: Sequence[str]) -> Iterator[ManifestFile]:
    from nexus_registry.registering import own_manifests
    from ose.registry.manifest import ManifestFile, read_manifests

    found = own_manifests(paths)
    yield from map(read_manifests, found.paths)
    for problem in found.problems:
        yield ManifestFile(problem.file, (), (problem,))


def _show(session: Session, files: Sequence[ManifestFile]) -> None:
    for file in files:
        for placed in () if session.settings.quiet else file.manifests:
            name = f"{placed.manifest.name}@{placed.manifest.version}"
            place = f"{file.file}:{placed.line}"
            session.output.line(f"{place}: {name} is ", Cell("fine", "green"))
        for problem in file.problems:
            session.output.line(str(problem))


def _form(file: ManifestFile) -> dict[str, Any]:
    from nexus_registry.registering import problem_form

    manifests = [
        {
            "name": placed.manifest.name,
            "version": placed.manifest.version,
            "line": placed.line,
            "digest": placed.manifest.digest,
        }
        for placed in file.manifests
    ]
    problems = [problem_form(problem) for problem in file.problems]
    return {"file": file.file, "manifests": manifests, "problems": problems}
