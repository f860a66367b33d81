"""`nexus-plugin-manager schema`."""

from __future__ import annotations

import sys

from nexus_registry.program import command as make_command
from nexus_registry.session import Session, pass_session


@make_command(
    "schema",
    examples="""
    nexus-plugin-manager schema > plugin_schema.yaml
    nexus-plugin-manager schema -o json | jq '.properties.metadata.required'
    """,
)
@pass_session
def command(session: Session) -> None:
    """Write plugin_schema.yaml, which says what a manifest may say.

    It is JSON Schema 2020-12 written as YAML, with comments; with -o json it is JSON. Editors that
    know YAML check manifests with it.
    """
    from ose.registry.manifest import schema, schema_text

    if session.settings.output == "json":
        session.output.value(schema())
    else:
        sys.stdout.write(schema_text())
