"""What a shell completes beside commands and options: entities of the registry, types in use.

The shell asks while somebody types, so an answer comes quickly or not at all, and nothing that goes
wrong is said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Final

import click

from nexus_registry.session import Session

if TYPE_CHECKING:
    from ose.registry.client import RegistryClient
    from ose.registry.v1.entity_pb2 import Entity

__all__ = [
    "complete_entity",
    "complete_entity_type",
    "complete_feature",
    "complete_lease",
    "complete_plugin",
    "complete_relationship_type",
]

_SECONDS: Final = 1.0
_MOST: Final = 50
_MOST_LOOKED_AT: Final = 1000


def complete_entity(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Entities whose name starts with what was typed, which may be `type/` and a name."""
    kind, slash, prefix = incomplete.rpartition("/")

    def ask(client: RegistryClient) -> Iterable[str]:
        found = client.list_entities(
            name_prefix=prefix, type=[kind] if kind else [], max_results=_MOST
        )
        return _ways_to_say([*found], kind + slash)

    return _asked(ctx, ask)


def complete_plugin(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Names of plugins."""

    def ask(client: RegistryClient) -> Iterable[str]:
        found = client.list_entities(name_prefix=incomplete, type=["plugin"], max_results=_MOST)
        return [entity.name for entity in found]

    return _asked(ctx, ask)


def complete_feature(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Ids of features."""

    def ask(client: RegistryClient) -> Iterable[str]:
        found = [feature.id for feature in client.list_features()]
        return [one for one in found if one.startswith(incomplete)][:_MOST]

    return _asked(ctx, ask)


def complete_lease(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Ids of leases."""

    def ask(client: RegistryClient) -> Iterable[str]:
        found = [lease.id for lease in client.list_leases(max_results=_MOST_LOOKED_AT)]
        return [one for one in found if one.startswith(incomplete)][:_MOST]

    return _asked(ctx, ask)


def complete_entity_type(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Entity types in use; of a list with commas, for its last part."""
    return _of_list(incomplete, _asked(ctx, lambda c: c.get_statistics().entities_by_type))


def complete_relationship_type(
    ctx: click.Context, _param: click.Parameter, incomplete: str
) -> list[str]:
    """Relationship types in use; of a list with commas, for its last part."""
    return _of_list(incomplete, _asked(ctx, lambda c: c.get_statistics().relationships_by_type))


def _of_list(incomplete: str, names: Iterable[str]) -> list[str]:
    before, comma, last = incomplete.rpartition(",")
    return [before + comma + name for name in names if name.startswith(last)]


def _asked(ctx: click.Context, ask: Callable[[RegistryClient], Iterable[str]]) -> list[str]:
    with suppress(Exception):
        session = ctx.find_root().ensure_object(Session)
        session.settings.timeout = min(session.settings.timeout, _SECONDS)
        with closing(session.client) as client:
            return sorted(set(ask(client)))
    return []


def _ways_to_say(entities: list[Entity], before: str) -> Iterable[str]:
    """The name of each, or its id if entities of several types have the name."""
    types = {(entity.name, entity.type) for entity in entities}
    homonyms = Counter(name for name, _type in types)
    for entity in entities:
        if before or homonyms[entity.name] == 1:
            yield before + entity.name
        else:
            yield f"{entity.type}/{entity.name}"
