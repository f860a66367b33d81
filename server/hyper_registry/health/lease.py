"""The lease as a value, and as the entity that keeps it; what is decided of it under the lock."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

from google.protobuf.struct_pb2 import Struct

from hyper_registry.model.entity import Entity, Health
from hyper_registry.model.errors import (
    EndpointMissing,
    EntityNotFound,
    InvalidArgument,
    LimitExceeded,
)
from hyper_registry.registry import codec
from hyper_registry.registry.mutations import CreateEntity, DeleteEntity, Mutation, UpdateEntity
from hyper_registry.registry.view import View
from ose.registry.v1.entity_pb2 import Entity as Message

LEASE = "lease"
"""The type of entity that a lease is kept as."""

MAX_ENTITIES = 1000
"""How many entities a lease holds at most."""

MIN_TTL_SECONDS, MAX_TTL_SECONDS = 1, 7 * 24 * 3600
"""How long a lease lasts without being renewed."""


class Policy(IntEnum):
    """What becomes of a lease's entities when it expires. The numbers are the API's."""

    MARK_UNHEALTHY = 1
    REMOVE = 2


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease. `entity_ids` are in the order in which they were attached; `ttl` is in seconds."""

    id: str
    ttl: float
    policy: Policy
    entity_ids: tuple[str, ...] = ()
    owner: str = ""

    def metadata(self) -> bytes:
        """What the metadata of its entity says."""
        metadata = Struct()
        metadata.update(
            {
                "ttl_seconds": self.ttl,
                "policy": self.policy.name.lower(),
                "entity_ids": list(self.entity_ids),
            }
        )
        if self.owner:
            metadata["owner"] = self.owner
        return codec.pack(metadata)


def lease_of(entity: Message) -> Lease | None:
    """The lease that an entity keeps; None if it was changed by hand and keeps none."""
    fields = entity.metadata.fields
    policy, ttl = fields.get("policy"), fields.get("ttl_seconds")
    if policy is None or ttl is None or policy.string_value.upper() not in Policy.__members__:
        return None
    if not MIN_TTL_SECONDS <= ttl.number_value <= MAX_TTL_SECONDS:
        return None
    ids = fields["entity_ids"].list_value.values if "entity_ids" in fields else ()
    return Lease(
        entity.id,
        ttl.number_value,
        Policy[policy.string_value.upper()],
        tuple(value.string_value for value in ids),
        fields["owner"].string_value if "owner" in fields else "",
    )


# What is decided at the tip of the view


def grant(view: View, lease: Lease) -> Iterator[Mutation]:
    """Creates a lease. Raises EndpointMissing for an entity that is not there."""
    _require_all(view, lease.entity_ids, "lease.entity_ids")
    yield CreateEntity(Entity(lease.id, LEASE, lease.id, metadata=lease.metadata()))


def attach(
    view: View, lease_id: str, added: Sequence[str], removed: Sequence[str]
) -> Iterator[Mutation]:
    """Adds entities to a lease and takes others out of it.

    Raises EntityNotFound, EndpointMissing or LimitExceeded.
    """
    lease = at_tip(view, lease_id)
    _require_all(view, added, "entity_ids")
    ids = [one for one in dict.fromkeys((*lease.entity_ids, *added)) if one not in {*removed}]
    if len(ids) > MAX_ENTITIES:
        raise LimitExceeded("entity_ids", "max_lease_entities", MAX_ENTITIES, len(ids))
    changed = Lease(lease.id, lease.ttl, lease.policy, tuple(ids), lease.owner)
    yield UpdateEntity(
        Entity(lease_id, LEASE, lease_id, metadata=changed.metadata()), ("metadata.entity_ids",)
    )


def report(view: View, lease_id: str, reports: Mapping[str, Health]) -> Iterator[Mutation]:
    """Reports how entities of a lease are. Raises EntityNotFound or InvalidArgument."""
    lease = at_tip(view, lease_id)
    for entity_id, health in reports.items():
        if entity_id not in lease.entity_ids:
            raise InvalidArgument.of(f"reports[{entity_id}]", "an entity of the lease")
        if _is_there(view, entity_id):
            yield _reported(entity_id, health)


@dataclass(slots=True)
class Ending:
    """The end of a lease, with what its policy says unless the entities are kept.

    `entity_ids` are those that were marked or deleted, once it was composed. `is_due` is asked when
    it is decided: one that was renewed meanwhile does not end.
    """

    lease_id: str
    keeps_entities: bool = False
    is_due: Callable[[], bool] = lambda: True
    entity_ids: tuple[str, ...] = ()

    def compose(self, view: View) -> Iterator[Mutation]:
        """The mutations; none if it is not due. Raises EntityNotFound."""
        self.entity_ids = ()
        if not self.is_due():
            return
        lease = at_tip(view, self.lease_id)
        yield DeleteEntity(lease.id, cascade=True, allow_large=True)
        if self.keeps_entities:
            return
        self.entity_ids = tuple(one for one in lease.entity_ids if _is_there(view, one))
        for entity_id in self.entity_ids:
            if lease.policy is Policy.REMOVE:
                yield DeleteEntity(entity_id, cascade=True, allow_large=True)
            else:
                yield _reported(entity_id, Health.UNHEALTHY)


def at_tip(view: View, lease_id: str) -> Lease:
    """The lease of an id at the tip. Raises EntityNotFound."""
    return at_revision(view, lease_id, view.tip + 1)


def at_revision(view: View, lease_id: str, revision: int) -> Lease:
    """The lease of an id at a revision. Raises EntityNotFound."""
    record = view.entity(lease_id, revision)
    entity = None if record is None else Message.FromString(record)
    lease = lease_of(entity) if entity is not None and entity.type == LEASE else None
    if lease is None:
        raise EntityNotFound(lease_id, min(revision, view.tip), LEASE)
    return lease


def _reported(entity_id: str, health: Health) -> Mutation:
    return UpdateEntity(Entity(entity_id, "", "", reported_health=health), ("reported_health",))


def _is_there(view: View, entity_id: str) -> bool:
    return view.generation.entities.living(entity_id) >= 0


def _require_all(view: View, ids: Sequence[str], field: str) -> None:
    for number, entity_id in enumerate(ids):
        if not _is_there(view, entity_id):
            raise EndpointMissing(f"{field}[{number}]", entity_id)
