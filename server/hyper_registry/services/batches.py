"""Batches, as domain values: what nearly all mutations of large ones are is read in one go."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from struct import Struct

import numpy as np
from google.protobuf.descriptor import Descriptor

from hyper_registry.model.entity import DEFAULT_REGIONS, Entity, Health, Status
from hyper_registry.model.relationship import Relationship
from hyper_registry.model.rules import check_entity, check_relationship
from hyper_registry.registry import codec
from hyper_registry.registry.mutations import CreateEntity, CreateRelationship, Mutation
from hyper_registry.services import parsing
from hyper_registry.services.batch_kernels import BODY, FEATURE, JSON, KIND, WIDTH, split
from ose.registry.v1 import entity_pb2, mutation_pb2, registry_service_pb2, relationship_pb2

_FEW = 4
"""So many mutations are sooner read one by one."""

# A run of bytes that many entities share; longer ones are not worth to be kept.
_SHORT = 512
_ENTITY, _RELATIONSHIP = 1, 2
_ENTITIES, _RELATIONSHIPS = entity_pb2.Entity.DESCRIPTOR, relationship_pb2.Relationship.DESCRIPTOR
_DOUBLE = Struct("<d").unpack_from
_ONE = codec.weight(1.0)


Batch = registry_service_pb2.WriteRequest | registry_service_pb2.ImportRequest
"""A request message with mutations."""

_TAGS = {
    message: message.DESCRIPTOR.fields_by_name["mutations"].number << 3 | 2
    for message in (registry_service_pb2.WriteRequest, registry_service_pb2.ImportRequest)
}


def mutations(request: Batch) -> list[Mutation]:
    """The mutations of a request. Raises InvalidArgument, as `parsing.mutations` does."""
    messages = request.mutations
    parsing.check_count(messages)
    if len(messages) < _FEW:
        return parsing.mutations(messages)
    request.DiscardUnknownFields()
    data = request.SerializeToString(deterministic=True)
    rows, texts = _split(_TAGS[type(request)], data, len(messages))
    parsed: list[Mutation] = []
    for number, row in enumerate(rows):
        kind = row[KIND]
        mutation: Mutation | None = None
        if kind == _ENTITY:
            mutation = _create_entity(row, data, texts)
        elif kind == _RELATIONSHIP:
            mutation = _create_relationship(row, data, texts)
        # Read as a message it is the same, or it is refused.
        parsed.append(mutation or parsing.numbered_mutation(number, messages[number]))
    return parsed


def _kind(
    field: str, kind: int, message: Descriptor, last: str, repeated: Sequence[str] = ()
) -> tuple[int, ...]:
    """See `split`."""
    described = mutation_pb2.Mutation.DESCRIPTOR.fields_by_name[field]
    fields = message.fields_by_name
    runs = sum(1 << fields[name].number for name in repeated)
    return (
        described.number << 3 | 2,
        kind,
        fields["metadata"].number,
        fields[last].number,
        runs,
    )


_KINDS = np.array(
    [
        _kind("create_entity", _ENTITY, _ENTITIES, "labels", ("labels", "regions")),
        _kind("create_relationship", _RELATIONSHIP, _RELATIONSHIPS, "version_constraint"),
    ],
    dtype=np.int64,
)


def _split(tag: int, data: bytes, count: int) -> tuple[list[list[int]], bytes]:
    rows = np.zeros((count, WIDTH), dtype=np.int64)
    # Most of it is never touched, and so takes no memory.
    out = np.empty(6 * len(data) + 16, dtype=np.uint8)
    written = split(np.frombuffer(data, dtype=np.uint8), tag, _KINDS, rows, out)
    return rows.tolist(), out[:written].tobytes()


def _columns(message: Descriptor, *names: str) -> list[int]:
    """The columns of `split` that have these fields."""
    return [2 * message.fields_by_name[name].number for name in names]


(
    _E_ID, _E_TYPE, _E_NAME, _E_VERSION, _E_METADATA, _E_LABELS, _E_STATUS, _E_HEALTH,
    _E_REPORTED, _E_REGIONS,
) = _columns(
    _ENTITIES,
    "id", "type", "name", "version", "metadata", "labels", "status", "health",
    "reported_health", "regions",
)  # fmt: skip

(
    _R_ID, _R_SOURCE, _R_TARGET, _R_TYPE, _R_WEIGHT, _R_METADATA, _R_BIDIRECTIONAL,
    _R_CONSTRAINT, _R_COUPLING, _R_ANY_OF,
) = _columns(
    _RELATIONSHIPS,
    "id", "source_id", "target_id", "type", "weight", "metadata", "bidirectional",
    "version_constraint", "health_coupling", "any_of",
)  # fmt: skip


def _create_entity(row: list[int], data: bytes, texts: bytes) -> CreateEntity | None:
    """What a row says; None if it is malformed."""
    status, health, reported = row[_E_STATUS], row[_E_HEALTH], row[_E_REPORTED]
    if not parsing.are_known(status, health, reported):
        return None
    labels = data[row[_E_LABELS] : row[_E_LABELS + 1]]
    regions = data[row[_E_REGIONS] : row[_E_REGIONS + 1]]
    entity = Entity(
        data[row[_E_ID] : row[_E_ID + 1]].decode(),
        data[row[_E_TYPE] : row[_E_TYPE + 1]].decode(),
        data[row[_E_NAME] : row[_E_NAME + 1]].decode(),
        data[row[_E_VERSION] : row[_E_VERSION + 1]].decode(),
        data[row[_E_METADATA] : row[_E_METADATA + 1]],
        _known_labels(labels) if len(labels) <= _SHORT else _labels(labels),
        status or Status.ACTIVE,
        reported or health or Health.HEALTHY,
        _known_regions(regions) if regions else DEFAULT_REGIONS,
    )
    if check_entity(entity, is_new=True):
        return None
    body = data[row[BODY] : row[BODY + 1]]
    return CreateEntity(entity, body, _described(row, entity.metadata, data, texts))


def _create_relationship(row: list[int], data: bytes, texts: bytes) -> CreateRelationship | None:
    """Likewise."""
    if not parsing.is_coupling(row[_R_COUPLING]):
        return None
    start, middle, end = row[BODY], row[_R_TYPE + 1], row[BODY + 1]
    if row[_R_WEIGHT + 1]:
        weight = _DOUBLE(data, row[_R_WEIGHT])[0]
        body = data[start:end]
    else:
        weight = 1.0
        body = data[start:middle] + _ONE + data[middle:end]
    relationship = Relationship(
        data[row[_R_ID] : row[_R_ID + 1]].decode(),
        data[row[_R_SOURCE] : row[_R_SOURCE + 1]].decode(),
        data[row[_R_TARGET] : row[_R_TARGET + 1]].decode(),
        data[row[_R_TYPE] : middle].decode(),
        weight,
        data[row[_R_METADATA] : row[_R_METADATA + 1]],
        bool(row[_R_BIDIRECTIONAL]),
        data[row[_R_CONSTRAINT] : row[_R_CONSTRAINT + 1]].decode(),
        health_coupling=row[_R_COUPLING],
        any_of=data[row[_R_ANY_OF] : row[_R_ANY_OF + 1]].decode(),
    )
    if check_relationship(relationship, is_new=True):
        return None
    described = _described(row, relationship.metadata, data, texts)
    return CreateRelationship(relationship, body, described)


def _described(row: list[int], metadata: bytes, data: bytes, texts: bytes) -> codec.Metadata:
    if not row[JSON + 1]:
        return codec.metadata(metadata)
    feature = data[row[FEATURE] : row[FEATURE + 1]].decode()
    return codec.Metadata(texts[row[JSON] : row[JSON + 1]].decode(), feature)


def _labels(run: bytes) -> dict[str, str]:
    return codec.labels_of(entity_pb2.Entity.FromString(run))


def _regions(run: bytes) -> tuple[str, ...]:
    return tuple(entity_pb2.Entity.FromString(run).regions)


# Shared by all that have the same; nobody changes them.
_known_labels = lru_cache(maxsize=4096)(_labels)
_known_regions = lru_cache(maxsize=1024)(_regions)


def warm_up() -> None:
    """Compiles what is compiled, or loads it from the cache, so that no request waits for it."""
    request = registry_service_pb2.WriteRequest()
    for _ in range(_FEW):
        entity = request.mutations.add().create_entity
        entity.type = entity.name = "x"
        entity.metadata["x"] = 1
    mutations(request)
