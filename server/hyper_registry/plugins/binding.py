"""Binding what plugins need to what is there: the `depends_on` relationships that follow from it.

A need is bound to the newest version that meets it. That is a function of the state, so binding
anew is safe at any time and by anyone: it changes what is not as it should be, and otherwise
nothing. A relationship made here carries its requirement in its metadata; one that a user made is
left alone, and counts as what it is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from google.protobuf.struct_pb2 import Struct

from hyper_registry.model.relationship import Relationship
from hyper_registry.plugins import reading
from hyper_registry.plugins.reading import DEPENDS_ON
from hyper_registry.plugins.requirements import PROVIDERS, Need, candidate, needs_of
from hyper_registry.plugins.resolving import Candidate
from hyper_registry.plugins.resolving import bind as choose
from hyper_registry.registry import codec
from hyper_registry.registry.mutations import (
    CreateRelationship,
    DeleteRelationship,
    Mutation,
    UpdateRelationship,
)
from hyper_registry.registry.view import View
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.relationship_pb2 import Relationship as Message

REQUIREMENT = "requirement"
"""The key of a relationship's metadata that says which requirement made it."""

_DEPENDS_ON = frozenset({DEPENDS_ON})


class Bound(NamedTuple):
    """A need, and what meets it; None if nothing does."""

    need: Need
    to: Candidate | None


def wanted(view: View, plugin: Entity, revision: int, without: Collection[str] = ()) -> list[Bound]:
    """What each need of a plugin should be bound to, in the order of its manifest.

    Not to itself, and not to the entities whose ids are in `without`.
    """
    found = []
    for need in needs_of(plugin):
        candidates = [
            candidate(one)
            for one in reading.named(view, need.name, PROVIDERS, revision)
            if one.id != plugin.id and one.id not in without
        ]
        found.append(Bound(need, choose(candidates, *need.parts)))
    return found


def bound(view: View, plugin: Entity, revision: int) -> list[Bound]:
    """What each need of a plugin is bound to, in the order of its manifest."""
    to: dict[str, Candidate] = {}
    for edge in reading.outgoing(view, plugin.id, _DEPENDS_ON, revision):
        target = reading.entity(view, edge.target_id, revision)
        if target is not None and (is_binding(edge) or target.name not in to):
            to[target.name] = candidate(target)
    return [Bound(need, to.get(need.name)) for need in needs_of(plugin)]


def bind(view: View, plugin_id: str, revision: int) -> Iterator[Mutation]:
    """What makes the bindings of a plugin, which are seen at a revision, as they should be."""
    plugin = reading.entity(view, plugin_id, revision)
    if plugin is None:
        return
    needed = _by_target(wanted(view, plugin, revision))
    for old in reading.outgoing(view, plugin_id, _DEPENDS_ON, revision):
        need = needed.pop(old.target_id, None)
        if not is_binding(old):
            continue
        if need is None:
            yield DeleteRelationship(old.id)
        elif old.version_constraint != need.constraint or _requirement(old) != need.text:
            yield UpdateRelationship(
                _relationship(plugin_id, old.target_id, need, old.id),
                ("metadata", "version_constraint"),
            )
    for target_id, need in needed.items():
        yield CreateRelationship(_relationship(plugin_id, target_id, need))


def is_binding(relationship: Message) -> bool:
    """Whether a relationship was made by binding, and not by a user."""
    return REQUIREMENT in relationship.metadata.fields


def _by_target(bindings: list[Bound]) -> dict[str, Need]:
    """The needs that are met, by what meets them. No two have a target in common: names differ."""
    return {one.to.id: one.need for one in bindings if one.to is not None}


def _requirement(relationship: Message) -> str:
    return relationship.metadata.fields[REQUIREMENT].string_value


def _relationship(source: str, target: str, need: Need, id_: str = "") -> Relationship:
    metadata = Struct()
    metadata[REQUIREMENT] = need.text
    return Relationship(
        id=id_,
        source_id=source,
        target_id=target,
        type=DEPENDS_ON,
        metadata=codec.pack(metadata),
        version_constraint=need.constraint,
    )
