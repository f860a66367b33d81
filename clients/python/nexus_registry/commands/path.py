"""`nexus-registry path`."""

from __future__ import annotations

from typing import Any

import click

from nexus_registry.arguments import (
    entity_argument,
    entity_types_option,
    filter_option,
    flat,
    read_of,
    read_options,
    types_option,
)
from nexus_registry.program import command as make_command
from nexus_registry.rendering.chains import Chains, cut_short
from nexus_registry.rendering.words import counted, entity_name
from nexus_registry.resolver import resolve
from nexus_registry.session import Session, pass_session
from ose.registry.jsonform import to_dict


@make_command(
    "path",
    examples="""
    nexus-registry path web db
    nexus-registry path web db --limit 5 --by weight
    nexus-registry path service/web plugin/auth --direction both --type depends_on,requires
    nexus-registry path web db --limit 1000 --max-hops 4 -o json
    """,
)
@entity_argument("from")
@entity_argument("to")
@click.option(
    "--by",
    type=click.Choice(["hops", "weight"]),
    default="hops",
    show_default=True,
    help="What makes a path better: fewer relationships, or a smaller sum of their weights.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Show this many at most, the best first.",
)
@click.option(
    "--max-hops",
    type=click.IntRange(min=1),
    metavar="N",
    help="No path with more relationships. With a large limit: every path up to that length.",
)
@types_option("The relationships to walk. Default: all.")
@click.option(
    "--direction",
    type=click.Choice(["out", "in", "both"]),
    default="out",
    show_default=True,
    help="Which way to walk: from source to target, against it, or either.",
)
@entity_types_option("Pass only through entities of these types.")
@filter_option("Pass only through entities that")
@click.option("--ids", is_flag=True, help="Show ids instead of names.")
@read_options
@pass_session
def command(session: Session, ids: bool, **values: Any) -> None:
    """Show the best paths from one entity to another.

    FROM and TO are ids, names (their newest version), type/name or type/name@version. A path meets
    no entity twice; relationships of different types between the same two entities make different
    paths.
    """
    from ose.registry.client import Direction, PathCost

    read = read_of(values["at"], values["min_revision"])
    source = resolve(session.client, values["from"], read)
    target = resolve(session.client, values["to"], read)
    answer = session.client.find_paths(
        source.id,
        target.id,
        cost=PathCost.Value(f"PATH_COST_{values['by'].upper()}"),
        limit=values["limit"],
        max_hops=values["max_hops"],
        types=flat(values["types"]),
        direction=Direction.Value(f"DIRECTION_{values['direction'].upper()}"),
        entity_types=flat(values["entity_types"]),
        filter=values["filter"],
        **read,
    )
    if not session.as_table:
        session.output.value(to_dict(answer))
    elif answer.paths:
        chains = Chains.of(answer, ids)
        session.output.lines(chains.paths(answer.paths, weights=values["by"] == "weight"))
    elif answer.complete:
        session.output.line(f"no path leads from {entity_name(source)} to {entity_name(target)}")
    if session.output.terminal is not None:
        session.note(f"{counted(len(answer.paths), 'path')}, revision {answer.revision}")
    # Who asked for so many knows that there may be more.
    if len(answer.paths) < values["limit"] and (cut := cut_short(answer)):
        session.note(cut)
