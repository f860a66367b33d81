"""What can be asked of the log: mutations, conditions, and the request that carries them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

from hyper_registry.model.entity import Entity
from hyper_registry.model.relationship import Relationship
from hyper_registry.model.revision import Change
from hyper_registry.registry.codec import Metadata
from hyper_registry.registry.view import View
from hyper_registry.store.base import ResultKey

MAX_MUTATIONS = 1000
"""How many mutations, and how many preconditions, one request has at most."""

MAX_CASCADE = 10_000
"""How many relationships a cascade takes without `allow_large`."""


class CreateEntity(NamedTuple):
    """Create this entity, which is well-formed. With an empty id one is made.

    `body` is its `codec.entity_body`, and `described` what its metadata says, if they are known.
    """

    entity: Entity
    body: bytes | None = None
    described: Metadata | None = None


class PutEntity(NamedTuple):
    """Create this entity, or replace what may change, but for the fields that it `keeps`.

    The entity that is meant has the id; if that is empty, the type, name and version.
    """

    entity: Entity
    keeps: frozenset[str]


@dataclass(frozen=True, slots=True)
class UpdateEntity:
    """Set the fields at `paths` to what they are in `entity`."""

    entity: Entity
    paths: tuple[str, ...]
    expected_revision: int = 0


@dataclass(frozen=True, slots=True)
class DeleteEntity:
    """Delete an entity, with its relationships if `cascade` is set."""

    id: str
    cascade: bool = False
    allow_large: bool = False
    expected_revision: int = 0


class CreateRelationship(NamedTuple):
    """Create this relationship, which is well-formed. With an empty id one is made.

    `body` and `described` are as of an entity.
    """

    relationship: Relationship
    body: bytes | None = None
    described: Metadata | None = None


class PutRelationship(NamedTuple):
    """Create this relationship, or replace what may change.

    The one that is meant has the id; if that is empty, the source, target and type.
    """

    relationship: Relationship


@dataclass(frozen=True, slots=True)
class UpdateRelationship:
    """Set the fields at `paths` to what they are in `relationship`."""

    relationship: Relationship
    paths: tuple[str, ...]
    expected_revision: int = 0


@dataclass(frozen=True, slots=True)
class DeleteRelationship:
    """Delete a relationship."""

    id: str
    expected_revision: int = 0


@dataclass(frozen=True, slots=True)
class Compact:
    """Let `floor` be the oldest revision that can be read. A lower floor than now is no change."""

    floor: int


@dataclass(frozen=True, slots=True)
class DeriveHealth:
    """Derive the health of every entity that has not the one that follows from what there is.

    There is none but in a store that was written by another version of the registry.
    """


class Composed(NamedTuple):
    """What comes of the exact state: `compose` looks at the view's tip, and answers mutations.

    They are applied as they are answered, so that what follows sees what came before; each has a
    result of its own. It is called on the event loop while nothing else is decided, and again if
    the batch is decided anew.
    """

    compose: Callable[[View], Iterator[Mutation]]


Mutation = (
    CreateEntity
    | PutEntity
    | UpdateEntity
    | DeleteEntity
    | CreateRelationship
    | PutRelationship
    | UpdateRelationship
    | DeleteRelationship
    | Compact
    | DeriveHealth
    | Composed
)

ENTITY_PATHS = frozenset(
    {"name", "version", "metadata", "labels", "status", "reported_health", "regions"},
)
"""The fields of an entity that may change; `metadata.KEY` and `labels.KEY` are paths too."""

RELATIONSHIP_PATHS = frozenset(
    {
        "weight",
        "metadata",
        "bidirectional",
        "version_constraint",
        "health_coupling",
        "any_of",
    }
)
"""The fields of a relationship that may change; `metadata.KEY` is a path too."""


@dataclass(frozen=True, slots=True)
class Precondition:
    """What must be true before a batch; exactly one of the three conditions is set."""

    resource_id: str
    is_relationship: bool
    expected_revision: int | None = None
    must_exist: bool = False
    must_not_exist: bool = False


class Outcome(IntEnum):
    """What became of a mutation. The numbers are the API's."""

    CREATED = 1
    UPDATED = 2
    UNCHANGED = 3
    DELETED = 4


class Result(NamedTuple):
    """What became of one mutation: the record as it is now, or what a cascade took."""

    outcome: Outcome
    is_relationship: bool
    record: bytes | None = None
    relationships: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """What a request comes to. Without changes, `revision` is the one that it was decided at."""

    revision: int
    changes: tuple[Change, ...]
    results: tuple[Result, ...]


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """One mutating call: all of it or nothing.

    `respond` makes the serialised answer, which is kept with `key` when there is one; `body_hash`
    tells a repetition from another request. `bulk` lets others go first; errors of a mutation of
    `is_batch` say which it was. `size` is about how many bytes it came in. Of a store that servers
    share, `renewed` is told how often the `leases` were renewed, before anything is decided, and
    nobody renews them until it is committed.
    """

    mutations: Sequence[Mutation]
    respond: Callable[[Decision], bytes]
    method: str
    actor: str = ""
    request_id: str = ""
    preconditions: Sequence[Precondition] = ()
    key: ResultKey | None = None
    body_hash: bytes = b""
    dry_run: bool = False
    bulk: bool = False
    is_batch: bool = False
    size: int = 0
    leases: Sequence[str] = ()
    renewed: Callable[[Mapping[str, int]], None] = lambda _: None
