"""Requests that many tests need."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Iterable
from typing import Any, TypeVar

from google.protobuf.struct_pb2 import Struct

from nexus_registry.conformance.stubs import Stubs
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.entity_service_pb2 import CreateEntityRequest
from ose.registry.v1.mutation_pb2 import Mutation
from ose.registry.v1.registry_service_pb2 import WriteRequest, WriteResponse
from ose.registry.v1.relationship_pb2 import Relationship

T = TypeVar("T")

GENESIS = 1
"""The revision of an empty registry: that of the eight features."""


def service(id_: str, **fields: Any) -> Entity:
    """A service whose name is its id."""
    return Entity(**{"id": id_, "type": "service", "name": id_, **fields})


def dependency(source: str, target: str, **fields: Any) -> Relationship:
    """A `depends_on` whose id is `source-target`."""
    values = {"id": f"{source}-{target}", "type": "depends_on", **fields}
    return Relationship(source_id=source, target_id=target, **values)


def struct(**values: Any) -> Struct:
    """A Struct of these values."""
    made = Struct()
    made.update(values)
    return made


async def create(stubs: Stubs, id_: str, **fields: Any) -> Entity:
    """Creates a service."""
    return await stubs.entities.CreateEntity(CreateEntityRequest(entity=service(id_, **fields)))


async def build(
    stubs: Stubs, entities: Iterable[Entity | str], relationships: Iterable[Relationship] = ()
) -> WriteResponse:
    """Creates all of it in as few revisions as it takes; the answer is the last one's."""
    mutations = [
        Mutation(create_entity=service(one) if isinstance(one, str) else one) for one in entities
    ]
    mutations += [Mutation(create_relationship=one) for one in relationships]
    answer = WriteResponse()
    for start in range(0, len(mutations), 1000):
        batch = WriteRequest(mutations=mutations[start : start + 1000])
        answer = await stubs.registry.Write(batch)
    return answer


async def collect(stream: AsyncIterable[T]) -> list[T]:
    """Everything that a stream sends."""
    return [message async for message in stream]


async def first(stream: AsyncIterable[T]) -> T:
    """The next message of a stream."""
    return await anext(aiter(stream))


async def ids(answer: Awaitable[Any]) -> list[str]:
    """The ids of the entities or nodes of an answer."""
    message = await answer
    return [one.id for one in getattr(message, "entities", None) or message.nodes]
