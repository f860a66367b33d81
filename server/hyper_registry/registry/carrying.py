"""Which types of relationships carry health, by themselves or because an entity says so.

An entity of the type `relationship_type` is about the relationships whose type is its name. Its
`metadata.health_coupling` says whether they carry health. So this is in the log like everything
else: replicas agree, and the past is read as it was configured then.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from google.protobuf.struct_pb2 import Struct

from hyper_registry.model.entity import Entity
from hyper_registry.model.errors import InvalidArgument
from hyper_registry.model.relationship import HEALTH_TYPES
from hyper_registry.registry import codec
from hyper_registry.registry.columns import Bytes
from hyper_registry.registry.table import TYPE, Table

RELATIONSHIP_TYPE = "relationship_type"
"""The type of the entities that are about a type of relationships."""

MAX_TYPES = 1 << 15
"""How many different types there are at most."""

_KEY = "health_coupling"
_COUPLINGS = {"hard": True, "soft": False}


class Codes(Protocol):
    """Numbers of names."""

    codes: dict[str, int]

    def code(self, name: str) -> int:
        """The number of a name, a new one if need be."""


def check(entity: Entity) -> None:
    """Raises InvalidArgument if an entity is about a type, and says what cannot be of it."""
    fields = Struct.FromString(entity.metadata).fields if _is_about_a_type(entity) else {}
    if _KEY in fields and fields[_KEY].string_value not in _COUPLINGS:
        raise InvalidArgument.of(f"metadata.{_KEY}", "'hard' or 'soft', or none for the default")


def carries(name: str, metadata: bytes = b"") -> bool:
    """Whether a type of relationships carries health, with what an entity's metadata says of it."""
    fields = Struct.FromString(metadata).fields
    said = fields[_KEY].string_value if _KEY in fields else ""
    return _COUPLINGS.get(said, name in HEALTH_TYPES)


def types_by_default(types: Codes) -> Bytes:
    """By the number of a type, 1 if it carries health when nothing is said of it."""
    found: Bytes = np.zeros(MAX_TYPES, dtype=np.uint8)
    for name in HEALTH_TYPES:
        found[types.code(name)] = 1
    return found


def types_at(entities: Table, entity_types: Codes, types: Codes, revision: int) -> Bytes:
    """By the number of a type, 1 if it carries health at a revision."""
    found = types_by_default(types)
    code = entity_types.codes.get(RELATIONSHIP_TYPE)
    if code is None:
        return found
    rows = entities.rows.array[: entities.rows.length, TYPE]
    for row in np.flatnonzero(rows == code).tolist():
        slot = entities.at(row, revision)
        entity = codec.decode_entity(entities.record(slot)) if slot >= 0 else None
        if entity is not None and entity.name in types.codes and _is_about_a_type(entity):
            found[types.code(entity.name)] = carries(entity.name, entity.metadata)
    return found


def _is_about_a_type(entity: Entity) -> bool:
    """A version of such an entity is about nothing."""
    return entity.type == RELATIONSHIP_TYPE and not entity.version
