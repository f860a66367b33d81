"""`nexus-registry search`."""

from __future__ import annotations

import click

from nexus_registry.arguments import entity_types_option, filter_option, flat
from nexus_registry.program import command as make_command
from nexus_registry.rendering.matches import MATCH_COLUMNS, match_rows
from nexus_registry.rendering.words import counted
from nexus_registry.session import Session, pass_session
from ose.registry.client import SearchResult
from ose.registry.jsonform import to_dict
from ose.registry.v1.search_service_pb2 import SearchEntitiesResponse


@make_command(
    "search",
    examples="""
    nexus-registry search tensorflow
    nexus-registry search "inference gpu" --type plugin --type service
    nexus-registry search postgres --filter "labels.tier = gold" --limit 10
    nexus-registry search tensrflow -o json | jq -r '.[].id'
    """,
)
@click.argument("query", nargs=-1, required=True, metavar="QUERY...")
@entity_types_option("Only entities of these types.", "--type")
@filter_option("Only what")
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=50,
    show_default=True,
    metavar="N",
    help="This many at most.",
)
@click.option(
    "--offset",
    type=click.IntRange(0, 10_000),
    default=0,
    metavar="N",
    help="Pass over so many first, to see what comes behind them.",
)
@click.option(
    "--min-revision",
    type=click.IntRange(min=1),
    metavar="N",
    help="Wait until this revision is reached.",
)
@click.option(
    "--explain",
    is_flag=True,
    help="With -o json or yaml: say why each was found, not only which.",
)
@pass_session
def command(
    session: Session,
    query: tuple[str, ...],
    entity_types: tuple[tuple[str, ...], ...],
    filter: str,  # noqa: A002 - the option's name
    limit: int,
    offset: int,
    min_revision: int | None,
    explain: bool,
) -> None:
    """Find entities by words: in names, ids, types, versions, tags, labels and metadata.

    Every word must be found. The last one may be the start of a word, and words of four letters or
    more may have a typo, of eight or more two if nothing else is found. The best match comes first:
    a name that is what was asked for, then names that have the words, then what an entity is known
    by (id, type, version, tags, labels), then anything else; what was found with a typo comes last.
    """
    if explain and session.as_table:
        raise click.UsageError("--explain goes with -o json or -o yaml")
    found = session.client.search(
        " ".join(query),
        entity_types=flat(entity_types),
        filter=filter,
        limit=limit,
        offset=offset,
        min_revision=min_revision or 0,
    )
    if session.as_table:
        session.output.table(MATCH_COLUMNS, match_rows(found), ("ID", "VERSION"))
        _note(session, found, offset)
    elif explain:
        session.output.value(to_dict(_answer(found)))
    else:
        session.output.values(map(to_dict, found.entities))
        _note_more(session, found, offset)


def _answer(found: SearchResult) -> SearchEntitiesResponse:
    return SearchEntitiesResponse(
        entities=found.entities,
        matches=found.matches,
        revision=found.revision,
        has_more=found.has_more,
    )


def _note(session: Session, found: SearchResult, offset: int) -> None:
    if session.output.terminal is not None:
        session.note(counted(len(found), "entity") if len(found) else "nothing found")
    _note_more(session, found, offset)


def _note_more(session: Session, found: SearchResult, offset: int) -> None:
    if found.has_more and not len(found):
        session.note("too many have the words for all to be looked at: ask for rarer ones")
    elif found.has_more:
        session.note(f"there are more: --offset {offset + len(found)} shows what comes next")
