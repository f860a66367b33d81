"""A registry in memory with a hub, and what tests ask of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager

from google.protobuf.struct_pb2 import Struct

from hyper_registry.model.entity import Entity
from hyper_registry.model.relationship import Relationship
from hyper_registry.model.revision import Commit, Position
from hyper_registry.registry.codec import pack
from hyper_registry.registry.engine import Engine
from hyper_registry.registry.mutations import (
    CreateEntity,
    CreateRelationship,
    Decision,
    DeleteEntity,
    Mutation,
    UpdateEntity,
    WriteRequest,
)
from hyper_registry.store.base import Store
from hyper_registry.store.memory import MemoryDisk, MemoryStore
from hyper_registry.watch.hub import Limits, WatchHub
from hyper_registry.watch.stream import Watch
from ose.registry.v1.watch_service_pb2 import Event, WatchRequest, WatchResponse

CREATED, UPDATED, DELETED = 1, 2, 3


class World:
    """One server: its engine and its hub."""

    def __init__(self, engine: Engine, hub: WatchHub) -> None:
        self.engine = engine
        self.hub = hub

    @property
    def revision(self) -> int:
        """The newest revision."""
        return self.engine.view.visible

    async def write(self, *mutations: Mutation) -> int:
        """Writes all of it as one revision; answers that."""
        request = WriteRequest(mutations, revision_of, "Write")
        return int(await self.engine.committer.submit(request))

    async def create(self, id_: str, type_: str = "service", **fields: object) -> int:
        """Creates an entity whose name is its id."""
        return await self.write(create(id_, type_, **fields))

    async def touch(self, id_: str, version: str) -> int:
        """Updates an entity."""
        return await self.write(touch(id_, version))

    async def delete(self, id_: str) -> int:
        """Deletes an entity and its relationships."""
        return await self.write(DeleteEntity(id_, cascade=True))

    async def followed(self) -> None:
        """Waits until the hub has followed all that is committed."""
        async with asyncio.timeout(10):
            while self.hub.tail != Position(self.revision):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0)

    async def history(self) -> Sequence[Commit]:
        """The whole log."""
        parts = await self.engine.store.read_log(Position(0), 1 << 40, 1 << 60)
        return [commit for commit, _ in parts]


@asynccontextmanager
async def world(
    disk: MemoryDisk | None = None,
    window_bytes: int = 64 << 20,
    limits: Limits | None = None,
    store: Store | None = None,
) -> AsyncIterator[World]:
    """A server that runs while the block does."""
    engine = Engine(store or MemoryStore(disk), feed_window_bytes=window_bytes)
    await engine.start()
    hub = WatchHub(engine, limits)
    hub.start()
    try:
        yield World(engine, hub)
    finally:
        await hub.aclose()
        await engine.aclose()


def create(id_: str, type_: str = "service", **fields: object) -> CreateEntity:
    """Create an entity whose name is its id."""
    return CreateEntity(Entity(id_, type_, id_, **fields))  # type: ignore[arg-type]


def touch(id_: str, version: str) -> UpdateEntity:
    """Give an entity another version."""
    return UpdateEntity(Entity(id_, "", "", version), ("version",))


def link(source: str, target: str, type_: str = "depends_on") -> CreateRelationship:
    """Create a relationship whose id says what it is."""
    return CreateRelationship(Relationship(f"{source}-{type_}-{target}", source, target, type_))


def of_feature(feature: str) -> bytes:
    """Metadata that names a feature."""
    struct = Struct()
    struct.update({"feature": feature})
    return pack(struct)


def request(start: int | str | None = None, **fields: object) -> WatchRequest:
    """A request that starts at a revision, after a token, or now; filters are given as fields."""
    message = WatchRequest(**fields)  # type: ignore[arg-type]
    if isinstance(start, int):
        message.start_revision = start
    elif start is not None:
        message.resume_token = start
    return message


async def receive(watch: Watch, seconds: float = 10.0) -> WatchResponse:
    """The next message."""
    async with asyncio.timeout(seconds):
        return WatchResponse.FromString(await anext(watch))


async def until(watch: Watch, revision: int) -> list[WatchResponse]:
    """The messages up to the one that reaches a revision."""
    messages = [await receive(watch)]
    while messages[-1].revision < revision:
        messages.append(await receive(watch))
    return messages


async def is_silent(watch: Watch, seconds: float = 0.05) -> bool:
    """Whether nothing comes for a while."""
    try:
        await receive(watch, seconds)
    except TimeoutError:
        return True
    return False


def events(messages: Iterable[WatchResponse]) -> list[Event]:
    """The events of messages."""
    return [event for message in messages for event in message.events]


def brief(messages: Iterable[WatchResponse]) -> list[tuple[int, int, str]]:
    """Of each event: its type, its revision and the id of its resource."""
    return [
        (event.type, event.revision, event.entity.id or event.relationship.id)
        for event in events(messages)
    ]


def revision_of(decision: Decision) -> bytes:
    """The answer of a request that asks for its revision."""
    return str(decision.revision).encode()
