"""`nexus-registry update`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from nexus_registry.arguments import (
    HEALTHS,
    LIST,
    STATUSES,
    coupling_option,
    entity_argument,
    flat,
    json_values,
    key_values,
    read_metadata_file,
)
from nexus_registry.program import command as make_command
from nexus_registry.rendering.words import entity_name, relationship_name
from nexus_registry.reports import show_written
from nexus_registry.resolver import relationship_id, resolve
from nexus_registry.session import Session, pass_session

if TYPE_CHECKING:
    from ose.registry.v1.entity_pb2 import Entity
    from ose.registry.v1.relationship_pb2 import Relationship

Change = tuple[dict[str, Any], list[str]]
"""The new values, as JSON, and the mask that says which fields they are for."""

_OF_ENTITIES: Final = ("name", "version", "status", "health", "feature", "label", "region")
_OF_RELATIONSHIPS: Final = ("weight", "constraint", "bidirectional", "health_coupling", "any_of")
_KEYED: Final = ("labels.", "metadata.")
_UNSETTABLE: Final = {
    "Entity": ("version", "labels", "metadata", "regions", "status", "health"),
    "Relationship": (
        *("weight", "metadata", "version_constraint", "bidirectional", "health_coupling", "any_of"),
    ),
}


@make_command(
    "update",
    examples="""
    nexus-registry update my-plugin --status deprecated --label owner=platform
    nexus-registry update my-plugin --metadata replicas=3 --unset labels.tier
    nexus-registry update plugin/my-plugin@1.0.0 --version 1.0.1 --expected-revision 12
    nexus-registry update relationship/0199d0f4-6a5e-7c3f-9d2b-3e8f1a2b4c5d --weight 0.5
    """,
)
@entity_argument()
@click.option("--name", metavar="TEXT", help="A new name.")
@click.option("--version", metavar="TEXT", help="A new version.")
@click.option("--status", type=click.Choice(STATUSES), help="A new status.")
@click.option("--health", type=click.Choice(HEALTHS), help="The health that is reported.")
@click.option("--feature", metavar="ID", help="The same as --metadata feature=ID.")
@click.option("-l", "--label", multiple=True, metavar="KEY=VALUE", help="Set a label; repeatable.")
@click.option(
    "-m",
    "--metadata",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set metadata; repeatable. A value that is JSON is taken as such.",
)
@click.option(
    "--metadata-file",
    metavar="FILE",
    help="Replace all metadata by an object of JSON or YAML; - for stdin.",
)
@click.option("--region", type=LIST, multiple=True, metavar="NAME", help="Replace the regions.")
@click.option("--weight", type=float, metavar="NUMBER", help="Of a relationship: a new weight.")
@click.option("--constraint", metavar="TEXT", help="Of a relationship: a new version constraint.")
@click.option(
    "--bidirectional/--no-bidirectional",
    default=None,
    help="Of a relationship: whether it is walked both ways.",
)
@coupling_option("Of a relationship: whether it carries health.")
@click.option(
    "--any-of",
    metavar="NAME",
    help="Of a relationship: the need that it meets together with others of its source.",
)
@click.option(
    "--unset",
    multiple=True,
    metavar="FIELD",
    help="Empty a field: labels.KEY, metadata.KEY, or version, labels and so on; repeatable.",
)
@click.option(
    "--expected-revision",
    type=click.IntRange(min=1),
    metavar="N",
    help="Change nothing unless this is its revision.",
)
@click.option("--dry-run", is_flag=True, help="Tell what would happen, and write nothing.")
@click.option("--idempotency-key", metavar="KEY", help="Makes a repetition of the command safe.")
@pass_session
def command(
    session: Session,
    entity: str,
    expected_revision: int | None,
    dry_run: bool,
    idempotency_key: str | None,
    **values: Any,
) -> None:
    """Change an entity, or a relationship.

    Only what is named changes; labels and metadata keep their other keys. ENTITY is an id, a name
    (its newest version), type/name or type/name@version; or relationship/ID.
    """
    options = {
        "expected_revision": expected_revision or 0,
        "dry_run": dry_run,
        "idempotency_key": idempotency_key,
    }
    edge_id = relationship_id(entity)
    if edge_id is None:
        _refuse(values, _OF_RELATIONSHIPS, "an entity")
        _update_entity(session, entity, _entity_change(values), options)
    else:
        _refuse(values, _OF_ENTITIES, "a relationship")
        _update_relationship(session, edge_id, _relationship_change(values), options)


def _refuse(values: dict[str, Any], names: tuple[str, ...], what: str) -> None:
    for name in names:
        if values[name] not in (None, ()):
            raise click.UsageError(f"{what} has no --{name.replace('_', '-')}")


def _update_entity(session: Session, text: str, change: Change, options: dict[str, Any]) -> None:
    from ose.registry.jsonform import from_dict
    from ose.registry.v1.entity_pb2 import Entity

    form, mask = change
    before = resolve(session.client, text)
    wanted = from_dict(form, Entity(id=before.id))
    after: Entity = session.client.update_entity(wanted, mask, **options)
    verb = _verb(after.revision != before.revision, options["dry_run"], after == before)
    show_written(session, after, f"{verb} {entity_name(after)}")


def _update_relationship(
    session: Session, edge_id: str, change: Change, options: dict[str, Any]
) -> None:
    from ose.registry.jsonform import from_dict
    from ose.registry.v1.relationship_pb2 import Relationship

    form, mask = change
    before = session.client.get_relationship(edge_id)
    wanted = from_dict(form, Relationship(id=edge_id))
    after: Relationship = session.client.update_relationship(wanted, mask, **options)
    verb = _verb(after.revision != before.revision, options["dry_run"], after == before)
    show_written(session, after, f"{verb} {relationship_name(after)}")


def _verb(new_revision: bool, dry_run: bool, same: bool) -> str:
    if dry_run:
        return "would leave" if same else "would update"
    return "updated" if new_revision else "unchanged:"


def _entity_change(values: dict[str, Any]) -> Change:
    form, mask = _plain(values, ("name", "version", "status", "health"))
    if regions := flat(values["region"]):
        form["regions"] = regions
        mask.append("regions")
    if labels := key_values("--label", values["label"]):
        form["labels"] = labels
        mask += [f"labels.{key}" for key in labels]
    metadata = json_values("--metadata", values["metadata"])
    if values["feature"] is not None:
        metadata["feature"] = values["feature"]
    _add_metadata(form, mask, metadata, values["metadata_file"])
    return _with_unset(form, mask, values["unset"], _UNSETTABLE["Entity"])


def _relationship_change(values: dict[str, Any]) -> Change:
    values = values | {"version_constraint": values["constraint"]}
    plain = ("weight", "version_constraint", "bidirectional", "health_coupling", "any_of")
    form, mask = _plain(values, plain)
    metadata = json_values("--metadata", values["metadata"])
    _add_metadata(form, mask, metadata, values["metadata_file"])
    return _with_unset(form, mask, values["unset"], _UNSETTABLE["Relationship"])


def _plain(values: dict[str, Any], names: tuple[str, ...]) -> Change:
    form = {name: values[name] for name in names if values[name] is not None}
    return form, list(form)


def _add_metadata(
    form: dict[str, Any], mask: list[str], metadata: dict[str, Any], file: str | None
) -> None:
    if file is not None:
        form["metadata"] = read_metadata_file(file) | metadata
        mask.append("metadata")
    elif metadata:
        form["metadata"] = metadata
        mask += [f"metadata.{key}" for key in metadata]


def _with_unset(
    form: dict[str, Any], mask: list[str], unset: tuple[str, ...], fields: tuple[str, ...]
) -> Change:
    for path in unset:
        keyed = path.startswith(_KEYED) and path.partition(".")[0] in fields
        if not keyed and path not in fields:
            keys = [f"{prefix}KEY" for prefix in _KEYED if prefix[:-1] in fields]
            known = ", ".join([*fields, *keys])
            raise click.UsageError(f"--unset takes one of {known}; not {path!r}")
        if any(path == other or other.startswith(f"{path}.") for other in mask):
            raise click.UsageError(f"--unset {path} contradicts another option")
    mask += unset
    if not mask:
        raise click.UsageError("nothing to change: give at least one of the options")
    return form, mask
