"""`nexus-plugin-manager features list`."""

from __future__ import annotations

from nexus_registry.program import command as make_command
from nexus_registry.rendering.plugins import FEATURE_COLUMNS, feature_rows
from nexus_registry.rendering.words import counted
from nexus_registry.session import Session, pass_session
from ose.registry.jsonform import to_dict


@make_command(
    "list",
    examples="""
    nexus-plugin-manager features list
    nexus-plugin-manager features list -o json
    """,
)
@pass_session
def command(session: Session) -> None:
    """List features.

    They are in order of creation, each with the number of its plugins.
    """
    found = session.client.list_features()
    if not session.as_table:
        session.output.values(map(to_dict, found))
        return
    session.output.table(FEATURE_COLUMNS, feature_rows(found), ("NAMESPACE", "CATEGORY", "ICON"))
    if session.output.terminal is not None:
        session.note(counted(len(found), "feature"))
