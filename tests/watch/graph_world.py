"""A registry in memory whose graph is watched, what tests ask of it, and what should come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from hyper_registry.model.entity import Entity
from hyper_registry.model.health import turns_of
from hyper_registry.model.relationship import Relationship
from hyper_registry.model.revision import Commit, Kind, Position
from hyper_registry.query.traversal import Walker
from hyper_registry.registry.codec import decode_entity, decode_relationship
from hyper_registry.registry.engine import Engine
from hyper_registry.registry.mutations import Decision, DeleteEntity, Mutation, WriteRequest
from hyper_registry.store.memory import MemoryDisk, MemoryStore
from hyper_registry.watch.graph.hub import GraphHub
from hyper_registry.watch.graph.stream import GraphWatch
from hyper_registry.watch.seats import Seats
from ose.registry.v1.graph_service_pb2 import (
    GraphChange,
    GraphChangeType,
    WatchGraphRequest,
    WatchGraphResponse,
)
from tests.unit.query.world import State
from tests.watch.world import create, link, touch

ENTERED = GraphChangeType.GRAPH_CHANGE_TYPE_ENTERED
CHANGED = GraphChangeType.GRAPH_CHANGE_TYPE_CHANGED
LEFT = GraphChangeType.GRAPH_CHANGE_TYPE_LEFT
BOOKMARK = WatchGraphResponse.MARK_BOOKMARK
SNAPSHOT_END = WatchGraphResponse.MARK_SNAPSHOT_END
RESET = WatchGraphResponse.MARK_RESET


class GraphWorld:
    """One server: its engine and its hub."""

    def __init__(self, engine: Engine, hub: GraphHub, seats: Seats) -> None:
        self.engine = engine
        self.hub = hub
        self.seats = seats

    @property
    def revision(self) -> int:
        """The newest revision."""
        return self.engine.view.visible

    async def write(self, *mutations: Mutation) -> int:
        """Writes all of it as one revision; answers that."""
        return int(await self.engine.committer.submit(WriteRequest(mutations, _revision, "Write")))

    async def create(self, *ids: str) -> int:
        """Creates services whose names are their ids."""
        return await self.write(*map(create, ids))

    async def link(self, source: str, target: str, type_: str = "depends_on") -> int:
        """Creates a relationship whose id says what it is."""
        return await self.write(link(source, target, type_))

    async def touch(self, id_: str, version: str) -> int:
        """Updates an entity."""
        return await self.write(touch(id_, version))

    async def delete(self, id_: str) -> int:
        """Deletes an entity and its relationships."""
        return await self.write(DeleteEntity(id_, cascade=True))

    async def forget(self) -> None:
        """Compacts everything before the current revision, and makes the memory anew."""
        await self.engine.compact(self.revision, "test", "")

    async def open(self, root_id: str = "app", token: str = "", **fields: object) -> GraphWatch:
        """A watch."""
        return await self.hub.open(
            WatchGraphRequest(root_id=root_id, resume_token=token, **fields)  # type: ignore[arg-type]
        )

    async def history(self) -> Sequence[Commit]:
        """The whole log."""
        parts = await self.engine.store.read_log(Position(0), 1 << 40, 1 << 60)
        return [commit for commit, _ in parts]


@asynccontextmanager
async def graph_world(
    disk: MemoryDisk | None = None, cache_bytes: int = 64 << 20, max_watches: int = 1000
) -> AsyncIterator[GraphWorld]:
    """A server that runs while the block does."""
    engine = Engine(MemoryStore(disk))
    await engine.start()
    seats = Seats(max_watches)
    hub = GraphHub(engine, Walker(engine.view), seats, cache_bytes)
    hub.start()
    try:
        yield GraphWorld(engine, hub, seats)
    finally:
        await hub.aclose()
        await engine.aclose()


async def receive(watch: GraphWatch, seconds: float = 10.0) -> WatchGraphResponse:
    """The next message."""
    async with asyncio.timeout(seconds):
        return WatchGraphResponse.FromString(await anext(watch))


async def until_end(watch: GraphWatch) -> Following:
    """What is followed, once the answer is complete."""
    following = Following()
    while not following.is_whole or not following.revision:
        following.take(await receive(watch))
    return following


@dataclass
class Following:
    """An answer as one who is sent messages has it. Takes only what may come."""

    nodes: dict[str, Entity] = field(default_factory=dict)
    edges: dict[str, Relationship] = field(default_factory=dict)
    distances: dict[str, int] = field(default_factory=dict)
    revision: int = 0
    token: str = ""
    is_whole: bool = True
    marks: list[int] = field(default_factory=list)
    steps: list[tuple[int, int, int]] = field(default_factory=list)
    """Of each difference: between which revisions, and of how many changes."""
    _pending: list[GraphChange] = field(default_factory=list)

    def take(self, message: WatchGraphResponse) -> None:
        """Takes a message in."""
        assert message.more == (not message.revision) == (not message.resume_token)
        if message.mark:
            assert not message.changes
            self.marks.append(message.mark)
        if message.mark == RESET:
            assert message.more
            self.nodes, self.edges, self.distances, self._pending = {}, {}, {}, []
            self.token = ""
        for node, distance in zip(message.nodes, message.distances, strict=True):
            assert node.id not in self.nodes
            self.nodes[node.id] = decode_entity(node.SerializeToString())
            self.distances[node.id] = distance
        for edge in message.edges:
            assert edge.id not in self.edges
            assert {edge.source_id, edge.target_id} <= self.nodes.keys()
            self.edges[edge.id] = decode_relationship(edge.SerializeToString())
        self._pending += message.changes
        self.is_whole = not message.more
        if message.more:
            assert not message.changes or message.from_revision == self.revision
            return
        if self._pending:
            assert message.from_revision == self.revision
            assert not message.mark
            self.steps.append((message.from_revision, message.revision, len(self._pending)))
        for change in self._pending:
            self._apply(change)
        assert message.revision >= self.revision
        self._pending = []
        self.revision, self.token = message.revision, message.resume_token

    def broken(self) -> None:
        """The stream broke: what was half there comes again."""
        self._pending = []
        self.is_whole = True

    def _apply(self, change: GraphChange) -> None:
        if change.WhichOneof("resource") == "entity":
            held: dict[str, object] = self.nodes  # type: ignore[assignment]
            record: object = decode_entity(change.entity.SerializeToString())
            key = change.entity.id
        else:
            held = self.edges  # type: ignore[assignment]
            record = decode_relationship(change.relationship.SerializeToString())
            key = change.relationship.id
        if change.type == ENTERED:
            assert key not in held
            held[key] = record
        elif change.type == CHANGED:
            assert held.get(key, record) != record
            held[key] = record
        else:
            assert change.type == LEFT
            assert held.pop(key, None) == record


def states(history: Sequence[Commit]) -> list[State]:
    """Everything that exists at each revision, from 0 on."""
    found, ids = [State()], dict[int, str]()
    for commit in history:
        entities, relationships = {**found[-1].entities}, {**found[-1].relationships}
        for change in commit.changes:
            if change.kind == Kind.HEALTH:
                turns = turns_of(change)
                for ordinal, health in zip(*map(list, (turns.ordinals, turns.after)), strict=True):
                    entities[ids[ordinal]] = entities[ids[ordinal]]._replace(
                        health=health, health_revision=commit.revision
                    )
            elif change.kind == Kind.ENTITY:
                ids[change.ordinal] = change.id
                entities.pop(change.id, None)
                if change.after is not None:
                    entities[change.id] = decode_entity(change.after)
            elif change.kind == Kind.RELATIONSHIP:
                relationships.pop(change.id, None)
                if change.after is not None:
                    relationships[change.id] = decode_relationship(change.after)
        found.append(State(entities, relationships))
    return found


def _revision(decision: Decision) -> bytes:
    return str(decision.revision).encode()
