"""`nexus-plugin-manager list`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import click

from nexus_registry.arguments import (
    STATUSES,
    ListType,
    Point,
    filter_option,
    flat,
    read_of,
    read_options,
    status_numbers,
)
from nexus_registry.completion import complete_feature
from nexus_registry.failures import NOT_FOUND, Failure
from nexus_registry.program import command as make_command
from nexus_registry.rendering.plugins import PLUGIN_COLUMNS, UNCLASSIFIED, plugin_rows
from nexus_registry.rendering.words import clean, counted
from nexus_registry.session import Session, pass_session
from ose.registry.jsonform import to_dict

if TYPE_CHECKING:
    from ose.registry.client import PluginListing

_ORDERS = ("name", "create_revision", "revision", "updated_at")
_TEXTS = ("name", "event", "command", "endpoint", "filter", "order_by")


@make_command(
    "list",
    examples="""
    nexus-plugin-manager list
    nexus-plugin-manager list ai-ml
    nexus-plugin-manager list unclassified
    nexus-plugin-manager list --status error --status disabled
    nexus-plugin-manager list --event "prediction.*" -o json | jq -r '.[].name'
    nexus-plugin-manager list --filter "metadata.license = MIT" --order-by "updated_at desc"
    """,
)
@click.argument("feature", required=False, default="", shell_complete=complete_feature)
@click.option(
    "--status",
    type=ListType("list", STATUSES),
    multiple=True,
    metavar="STATUS",
    help=f"Only these: {', '.join(STATUSES)}.",
)
@click.option("--name", metavar="TEXT", help="Only of this name; * stands for any letters.")
@click.option("--event", metavar="TEXT", help="Only what emits this event; * as above.")
@click.option("--command", metavar="TEXT", help="Only what has this command; * as above.")
@click.option("--endpoint", metavar="PATH", help="Only what serves this path; * as above.")
@filter_option("Only what")
@click.option(
    "--order-by",
    metavar="FIELD",
    help=f"One of {', '.join(_ORDERS)}; 'FIELD desc' for the reverse. Default: name.",
)
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="This many at most.")
@read_options
@pass_session
def command(
    session: Session,
    feature: str,
    status: tuple[tuple[str, ...], ...],
    limit: int | None,
    at: Point | None,
    min_revision: int | None,
    **texts: Any,
) -> None:
    """List plugins.

    FEATURE is the id of a feature, such as ai-ml, or unclassified for those that belong to none;
    without it all are listed. Plugins that were created as entities are listed too.
    """
    listing: dict[str, Any] = {
        "feature": feature,
        "status": status_numbers(flat(status)),
        **{name: texts[name] or "" for name in _TEXTS},
        **read_of(at, min_revision),
    }
    found = session.client.list_plugins(max_results=limit, **cast("PluginListing", listing))
    plugins = list(found)
    if not plugins and feature:
        _refuse_unknown(session, feature)
    if not session.as_table:
        session.output.values(map(to_dict, plugins))
        return
    session.output.table(PLUGIN_COLUMNS, plugin_rows(plugins), ("ID", "HEALTH"))
    if session.output.terminal is not None:
        session.note(counted(len(plugins), "plugin"))


def _refuse_unknown(session: Session, feature: str) -> None:
    """Raises Failure (3) if the feature that nothing belongs to does not exist."""
    known = [one.id for one in session.client.list_features()]
    if feature not in (UNCLASSIFIED, *known):
        raise Failure(
            f"there is no feature {clean(feature)!r}",
            NOT_FOUND,
            details=[f"there are {', '.join(known)}"],
        )
