"""A change that is thought about: what would come and go with it, and whom it would reach."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from hyper_registry.model.errors import EntityNotFound
from hyper_registry.plugins import mesh, reading
from hyper_registry.plugins.mesh import MeshService
from hyper_registry.plugins.reading import DEPENDS_ON, PLUGIN, REQUIRES, SERVICE
from hyper_registry.plugins.requirements import PROVIDERS, candidate
from hyper_registry.plugins.resolving import Addition, Candidate, Change, Removal
from hyper_registry.query.selection import Turns
from hyper_registry.registry.view import View
from ose.registry.v1.entity_pb2 import Entity

COMING = "to come"
"""The id of what does not exist yet; no entity can have it."""

MAX_REACHED = 200_000
"""How many entities are counted as reached at most."""

_NEEDS = frozenset({DEPENDS_ON, REQUIRES})
_PLUGIN, _SERVICE = frozenset({PLUGIN}), frozenset({SERVICE})


def registering(
    view: View, coming: Candidate, service: MeshService | None, revision: int
) -> Iterator[Change]:
    """What would come and go if a plugin were registered; one that is not there yet is `COMING`."""
    there = reading.named(view, coming.name, _PLUGIN, revision)
    found = next((one for one in there if one.version == coming.version), None)
    coming = replace(coming, id=COMING if found is None else found.id)
    if found is not None:
        for orphan in mesh.orphans(view, found.id, revision):
            if service is None or orphan.name != service.name:
                yield Removal(candidate(orphan))
    yield Addition(coming)
    if service is not None:
        same = reading.named(view, service.name, _SERVICE, revision)
        id_ = same[0].id if same else f"{coming.id}/{service.name}"
        yield Addition(Candidate(id_, SERVICE, service.name, coming.version))


def unregistering(view: View, plugin_id: str, revision: int) -> Iterator[Change]:
    """What would go if a plugin were unregistered. Raises EntityNotFound."""
    yield Removal(candidate(_provider(view, plugin_id, _PLUGIN, revision)))
    for orphan in mesh.orphans(view, plugin_id, revision):
        yield Removal(candidate(orphan))


def upgrading(view: View, entity_id: str, version: str, revision: int) -> Iterator[Change]:
    """What would change if a plugin or service had another version. Raises EntityNotFound."""
    one = _provider(view, entity_id, PROVIDERS, revision)
    yield Addition(replace(candidate(one), version=version))
    for service in mesh.provided(view, entity_id, revision):
        if not service.version:
            yield Addition(replace(candidate(service), version=version))


async def reached(view: View, ids: list[str], revision: int) -> list[str]:
    """Those, and everything that depends on them, the nearest first. The revision must be held."""
    seen, waiting, turns = dict.fromkeys(ids), list(ids), Turns()
    for entity_id in waiting:
        for edge in reading.incoming(view, entity_id, _NEEDS, revision):
            if edge.source_id not in seen and len(seen) < MAX_REACHED:
                seen[edge.source_id] = None
                waiting.append(edge.source_id)
        await turns()
    return list(seen)


def _provider(view: View, entity_id: str, types: frozenset[str], revision: int) -> Entity:
    found = reading.entity(view, entity_id, revision)
    if found is None or found.type not in types:
        raise EntityNotFound(entity_id, revision)
    return found
