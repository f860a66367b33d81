"""`nexus-plugin-manager mesh register`."""

from __future__ import annotations

import click

from nexus_registry.arguments import json_values, read_metadata_file
from nexus_registry.completion import complete_plugin
from nexus_registry.program import command as make_command
from nexus_registry.rendering.words import entity_name
from nexus_registry.reports import show_written
from nexus_registry.resolver import resolve_plugin
from nexus_registry.session import Session, pass_session

_PROTOCOLS = ("HTTP", "HTTPS", "HTTP2", "GRPC", "TCP", "TLS", "UDP")


@make_command(
    "register",
    examples="""
    nexus-plugin-manager mesh register ai-service --port 8080 --plugin my-plugin
    nexus-plugin-manager mesh register cache --port 6379 --protocol TCP --config replicas=3
    nexus-plugin-manager mesh register ai-service --config-file traffic.yaml --dry-run
    """,
)
@click.argument("name")
@click.option(
    "--plugin",
    metavar="PLUGIN",
    help="The plugin that provides it.",
    shell_complete=complete_plugin,
)
@click.option(
    "--port", type=click.IntRange(1, 65535), metavar="N", help="The port that it listens on."
)
@click.option(
    "--protocol",
    type=click.Choice(_PROTOCOLS, case_sensitive=False),
    help="How it is spoken to. Default: HTTP.",
)
@click.option(
    "-c",
    "--config",
    multiple=True,
    metavar="KEY=VALUE",
    help="Anything else; repeatable. A value that is JSON is taken as such.",
)
@click.option("--config-file", metavar="FILE", help="The same as an object of JSON or YAML.")
@click.option("--dry-run", is_flag=True, help="Tell what would happen, and write nothing.")
@pass_session
def command(
    session: Session,
    name: str,
    plugin: str | None,
    port: int | None,
    protocol: str | None,
    config: tuple[str, ...],
    config_file: str | None,
    dry_run: bool,
) -> None:
    """Create or change a mesh service.

    NAME is the service's; what is registered of it already is changed. PLUGIN is an id, a name (its
    newest version) or name@version. Without --config and --config-file its settings stay.
    """
    settings = read_metadata_file(config_file) if config_file else {}
    settings |= json_values("--config", config)
    written = session.client.register_mesh_service(
        name,
        plugin_id="" if plugin is None else resolve_plugin(session.client, plugin).id,
        port=port or 0,
        protocol=protocol or "",
        config=settings or None,
        dry_run=dry_run,
    )
    verb = "would register" if dry_run else "registered"
    show_written(session, written, f"{verb} {entity_name(written)}")
