"""`nexus-plugin-manager check`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import click

from nexus_registry.completion import complete_plugin
from nexus_registry.failures import CONFLICT, USAGE, Failure
from nexus_registry.program import command as make_command
from nexus_registry.progress import progress_bar
from nexus_registry.rendering.output import Cell, Row
from nexus_registry.rendering.words import counted, versioned
from nexus_registry.session import Session, pass_session

if TYPE_CHECKING:
    from ose.registry.v1.entity_pb2 import Entity

_COLUMNS: Final = ("PLUGIN", "REQUIREMENT", "STATUS", "FOUND", "HOW")
_STYLES: Final = {"ok": "green", "missing": "bold red", "wrong version": "bold red"}
_PATH: Final = re.compile(r"[.~]?/.*|\.{1,2}(/.*)?|.*\.(yaml|yml|json)")


class _Finding(NamedTuple):
    """How a requirement stands, in words."""

    status: str
    found: str
    how: str


@make_command(
    "check",
    examples="""
    nexus-plugin-manager check ./plugin.yaml
    nexus-plugin-manager check my-plugin search@2.0.0
    nexus-plugin-manager check
    nexus-plugin-manager check --strict --quiet && echo this machine will do
    """,
)
@click.argument("targets", nargs=-1, metavar="[PATH|PLUGIN]...", shell_complete=complete_plugin)
@click.option("--strict", is_flag=True, help="What cannot be told counts as not there.")
@pass_session
def command(session: Session, targets: tuple[str, ...], strict: bool) -> None:
    """Tell whether this machine has what plugins need of it.

    PATH is a manifest or a folder, as for register; PLUGIN an id, a name (its newest version) or
    name@version. What exists as a file is a PATH: plugin/NAME says that the plugin is meant.
    Without any, all plugins of the registry are checked.

    Each requirement on the system is ok, missing, there in a wrong version, or unknown, with what
    was found and how. Packages of dpkg and rpm, pkg-config, the interpreters on PATH and CUDA's
    toolkits are looked at. Only programs that are known to answer their version are run. The exit
    code is 4 if something is missing or wrong, with --strict also if it is unknown. Whether other
    plugins are there is for requirements and resolve.
    """
    wanted = [pair for target in targets for pair in _wanted(session, target)]
    if not targets:
        wanted = [pair for plugin in session.client.list_plugins() for pair in _needs(plugin)]
    found = _look(session, list(dict.fromkeys(text for _, text in wanted)))
    if session.as_table:
        _show(session, wanted, found)
    else:
        session.output.values(
            {"plugin": who, "requirement": text, **found[text]._asdict()} for who, text in wanted
        )
    bad = {"missing", "wrong version"} | ({"unknown"} if strict else set())
    failed = sum(finding.status in bad for finding in found.values())
    if failed:
        unmet = f"{failed} of {counted(len(found), 'requirement')}"
        raise Failure(f"{unmet} on the machine are not met", CONFLICT)


def _wanted(session: Session, target: str) -> Iterator[tuple[str, str]]:
    """Who needs what of the machine, of the manifests or the plugin that is named."""
    if Path(target).exists() or _PATH.fullmatch(target):
        yield from _of_manifests(target)
        return
    from nexus_registry.resolver import resolve_plugin

    yield from _needs(resolve_plugin(session.client, target))


def _of_manifests(path: str) -> Iterator[tuple[str, str]]:
    from nexus_registry.registering import own_manifests
    from ose.registry.manifest import read_manifests

    found = own_manifests([path])
    files = [read_manifests(one) for one in found.paths]
    problems = [*found.problems, *(problem for file in files for problem in file.problems)]
    if problems:
        raise Failure(f"{path} has mistakes", USAGE, details=[str(one) for one in problems])
    for file in files:
        for placed in file.manifests:
            name = f"{placed.manifest.name}@{placed.manifest.version}"
            for text in placed.manifest.dependencies.system:
                yield name, text


def _needs(plugin: Entity) -> Iterator[tuple[str, str]]:
    """What its manifest says; of a plugin that has none, what reads like it."""
    dependencies = plugin.metadata.fields["dependencies"].struct_value
    for value in dependencies.fields["system"].list_value.values:
        if value.string_value:
            yield versioned(plugin), value.string_value


def _look(session: Session, texts: Sequence[str]) -> Mapping[str, _Finding]:
    found = {}
    with progress_bar(session, "looking at this machine", len(texts)) as advance:
        for text in texts:
            found[text] = _finding(text)
            advance(1)
    return found


def _finding(text: str) -> _Finding:
    from ose.registry.versions import SystemRequirement, VersionError, check_system

    try:
        finding = check_system(SystemRequirement.parse(text))
    except VersionError as error:
        return _Finding("unknown", "", f"it cannot be read: {error}")
    return _Finding(finding.status.value, finding.found, finding.how)


def _show(
    session: Session, wanted: Sequence[tuple[str, str]], found: Mapping[str, _Finding]
) -> None:
    if session.settings.quiet:
        return
    if not wanted:
        session.output.line("nothing is needed of the machine")
        return
    session.output.table(_COLUMNS, _rows(wanted, found))


def _rows(wanted: Iterable[tuple[str, str]], found: Mapping[str, _Finding]) -> Iterator[Row]:
    for who, text in wanted:
        finding = found[text]
        status = Cell(finding.status, _STYLES.get(finding.status, "yellow"))
        yield who, text, status, finding.found, finding.how
