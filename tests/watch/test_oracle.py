"""Random histories and filters, against what the whole log says when it is read naively."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyper_registry.model.entity import Entity
from hyper_registry.model.errors import RegistryError
from hyper_registry.model.health import turns_of
from hyper_registry.model.relationship import Relationship
from hyper_registry.model.revision import Change, Commit, Kind
from hyper_registry.registry.mutations import (
    CreateRelationship,
    DeleteEntity,
    DeleteRelationship,
    Mutation,
    UpdateEntity,
    UpdateRelationship,
)
from hyper_registry.watch import hub
from hyper_registry.watch.hub import Limits
from ose.registry.v1.entity_pb2 import Entity as EntityMessage
from ose.registry.v1.relationship_pb2 import Relationship as RelationshipMessage
from ose.registry.v1.watch_service_pb2 import Event, WatchRequest, WatchResponse
from tests.watch.world import (
    CREATED,
    DELETED,
    UPDATED,
    World,
    create,
    of_feature,
    receive,
    request,
    until,
    world,
)

IDS = ["a", "b", "c", "d"]
FEATURES = ["ai-ml", "devops-platform"]
RELATIONSHIP_TYPES = ["belongs_to", "depends_on"]

# Filter expressions, and what they say.
EXPRESSIONS: dict[str, Callable[[_Naive, EntityMessage], bool]] = {
    "labels.tier = gold OR metadata.feature = ai-ml": lambda _, it: (
        it.labels.get("tier") == "gold" or _named_feature(it) == "ai-ml"
    ),
    "NOT labels:tier AND type = (service OR robot)": lambda _, it: (
        "tier" not in it.labels and it.type in ("service", "robot")
    ),
    "NOT feature = ai-ml": lambda naive, it: not naive.belongs(it, "ai-ml"),
    "health = degraded AND NOT reported_health = degraded": lambda _, it: (
        it.health == 2 and it.reported_health != 2
    ),
    "feature = (ai-ml OR devops-platform) OR id = a": lambda naive, it: (
        it.id == "a" or any(naive.belongs(it, feature) for feature in FEATURES)
    ),
}
EDGE_EXPRESSIONS: dict[str, Callable[[RelationshipMessage], bool]] = {
    "weight < 0.5 OR id = x": lambda it: it.weight < 0.5 or it.id == "x",
    "type != depends_on": lambda it: it.type != "depends_on",
}

State = dict[tuple[str, str], bytes]
"""The records that match, by kind and id."""


# What is written


def _mutation(random_: random.Random) -> Mutation:
    id_ = random_.choice(IDS)
    match random_.randrange(12):
        case 0 | 1:
            type_ = "robot" if id_ == "d" else "service"
            feature = random_.choice(["", *FEATURES])
            return create(id_, type_, metadata=of_feature(feature) if feature else b"")
        case 2:
            return UpdateEntity(
                Entity(id_, "", "", labels=random_.choice([{}, {"tier": "gold"}, {"tier": "tin"}])),
                ("labels",),
            )
        case 3:
            feature = random_.choice(["", *FEATURES])
            metadata = of_feature(feature) if feature else b""
            return UpdateEntity(Entity(id_, "", "", metadata=metadata), ("metadata",))
        case 4:
            return DeleteEntity(id_, cascade=True)
        case 5 | 6:
            target, type_ = random_.choice([*FEATURES, *IDS]), random_.choice(RELATIONSHIP_TYPES)
            # An id that does not say what it is may come back as something else.
            edge = random_.choice(["x", "y", f"{id_}-{type_}-{target}"])
            return CreateRelationship(Relationship(edge, id_, target, type_))
        case 7:
            edge = random_.choice(["x", "y", "a-belongs_to-ai-ml"])
            return UpdateRelationship(
                Relationship(edge, "", "", "", weight=random_.random()), ("weight",)
            )
        case 8 | 9 | 10:
            return UpdateEntity(
                Entity(id_, "", "", reported_health=random_.choice([1, 2, 3, 3, 4])),
                ("reported_health",),
            )
        case _:
            return DeleteRelationship(
                random_.choice(["x", "y", *(f"{i}-belongs_to-ai-ml" for i in IDS)])
            )


async def _write(w: World, random_: random.Random) -> None:
    """One revision of a few mutations, or none if the registry refuses them."""
    with suppress(RegistryError):
        await w.write(*(_mutation(random_) for _ in range(random_.choice([1, 1, 1, 2, 3, 5]))))


# What is expected


@dataclass
class _Naive:
    """All that exists at a revision, and a filter that is applied to it in the most direct way."""

    request: WatchRequest
    entities: dict[str, EntityMessage] = field(default_factory=dict)
    relationships: dict[str, RelationshipMessage] = field(default_factory=dict)
    ids: dict[int, str] = field(default_factory=dict)

    def apply(self, commit: Commit) -> None:
        for change in commit.changes:
            if change.kind == Kind.ENTITY:
                self.ids[change.ordinal] = change.id
                self.entities.pop(change.id, None)
                if change.after is not None:
                    self.entities[change.id] = EntityMessage.FromString(change.after)
            elif change.kind == Kind.RELATIONSHIP:
                self.relationships.pop(change.id, None)
                if change.after is not None:
                    self.relationships[change.id] = RelationshipMessage.FromString(change.after)
            elif change.kind == Kind.HEALTH:
                for entity in self.turned(change, commit.revision):
                    self.entities[entity.id] = entity

    def turned(self, change: Change, revision: int) -> list[EntityMessage]:
        """The entities of which a change of health is, as they are after it."""
        found, turns = [], turns_of(change)
        for ordinal, health in zip(turns.ordinals.tolist(), turns.after.tolist(), strict=True):
            entity = EntityMessage()
            entity.CopyFrom(self.entities[self.ids[ordinal]])
            entity.health, entity.health_revision = health, revision
            found.append(entity)
        return found

    def matching(self) -> State:
        found: State = {}
        either = self.request.HasField("entities") or self.request.HasField("relationships")
        if self.request.HasField("entities") or not either:
            for entity in self.entities.values():
                if self.is_meant(entity):
                    found["entity", entity.id] = entity.SerializeToString(deterministic=True)
        if self.request.HasField("relationships") or not either:
            for edge in self.relationships.values():
                if self.is_edge_meant(edge):
                    found["relationship", edge.id] = edge.SerializeToString(deterministic=True)
        return found

    def is_meant(self, entity: EntityMessage, ignore_feature: bool = False) -> bool:
        wanted = self.request.entities
        labels = (label.split("=") for label in wanted.labels)
        return (
            (not wanted.ids or entity.id in wanted.ids)
            and (not wanted.types or entity.type in wanted.types)
            and all(entity.labels.get(key) == value for key, value in labels)
            and (not wanted.healths or entity.health in wanted.healths)
            and entity.name.startswith(wanted.name_prefix)
            and (ignore_feature or not wanted.feature or self.belongs(entity, wanted.feature))
            and (not wanted.filter or EXPRESSIONS[wanted.filter](self, entity))
        )

    def is_edge_meant(self, edge: RelationshipMessage) -> bool:
        wanted = self.request.relationships
        ends = {edge.source_id, edge.target_id}
        return (
            (not wanted.types or edge.type in wanted.types)
            and (not wanted.source_ids or edge.source_id in wanted.source_ids)
            and (not wanted.target_ids or edge.target_id in wanted.target_ids)
            and (not wanted.entity_ids or bool(ends & {*wanted.entity_ids}))
            and (not wanted.filter or EDGE_EXPRESSIONS[wanted.filter](edge))
        )

    def belongs(self, entity: EntityMessage, feature: str) -> bool:
        return _named_feature(entity) == feature or any(
            (edge.source_id, edge.type, edge.target_id) == (entity.id, "belongs_to", feature)
            for edge in self.relationships.values()
        )


def _named_feature(entity: EntityMessage) -> str:
    fields = entity.metadata.fields
    return fields["feature"].string_value if "feature" in fields else ""


def _looks_at_records_only(asked: WatchRequest) -> bool:
    return not asked.entities.feature and " feature" not in f" {asked.entities.filter}"


def _states(history: Sequence[Commit], asked: WatchRequest) -> list[State]:
    """What matches at each revision, from 0 on."""
    naive = _Naive(asked)
    states = [naive.matching()]
    for commit in history:
        naive.apply(commit)
        states.append(naive.matching())
    return states


def _expected(history: Sequence[Commit], asked: WatchRequest) -> list[tuple[int, int, str, str]]:
    """Of each event: revision, type, kind and id. For filters that look at the record alone."""
    naive = _Naive(asked)
    both = not asked.HasField("entities") and not asked.HasField("relationships")
    found = []
    for commit in history:
        # Changes of health come last, and are of entities that nothing else has changed.
        naive.apply(replace(commit, changes=_others(commit)))
        for change in commit.changes:
            if change.kind == Kind.HEALTH and (both or asked.HasField("entities")):
                for turned in naive.turned(change, commit.revision):
                    before = naive.is_meant(naive.entities[turned.id])
                    after = naive.is_meant(turned)
                    if before or after:
                        type_ = UPDATED if before and after else CREATED if after else DELETED
                        found.append((commit.revision, type_, "entity", turned.id))
                continue
            if change.kind == Kind.ENTITY and (both or asked.HasField("entities")):
                before, after = (
                    record is not None and naive.is_meant(EntityMessage.FromString(record))
                    for record in (change.before, change.after)
                )
                kind = "entity"
            elif change.kind == Kind.RELATIONSHIP and (both or asked.HasField("relationships")):
                before, after = (
                    record is not None
                    and naive.is_edge_meant(RelationshipMessage.FromString(record))
                    for record in (change.before, change.after)
                )
                kind = "relationship"
            else:
                continue
            if before or after:
                type_ = UPDATED if before and after else CREATED if after else DELETED
                found.append((commit.revision, type_, kind, change.id))
        naive.apply(replace(commit, changes=commit.changes[len(_others(commit)) :]))
    return found


def _others(commit: Commit) -> tuple[Change, ...]:
    return tuple(change for change in commit.changes if change.kind != Kind.HEALTH)


# What came


@dataclass
class _Received:
    """Folds a stream: the state that it tells of, and the events as they came."""

    state: State = field(default_factory=dict)
    events: list[tuple[int, int, str, str]] = field(default_factory=list)
    pending: list[Event] = field(default_factory=list)
    revision: int = 0
    token: str = ""

    def take(self, message: WatchResponse, states: list[State] | None) -> None:
        for entity in message.entities:
            self.state["entity", entity.id] = entity.SerializeToString(deterministic=True)
        for edge in message.relationships:
            self.state["relationship", edge.id] = edge.SerializeToString(deterministic=True)
        self.pending += message.events
        if message.more:
            assert not message.revision
            assert not message.resume_token
            return
        for event in self.pending:
            self._apply(event)
        self.pending.clear()
        assert message.revision >= self.revision
        self.revision, self.token = message.revision, message.resume_token
        if states is not None and self.revision < len(states):
            assert self.state == states[self.revision]

    def _apply(self, event: Event) -> None:
        kind = event.WhichOneof("resource")
        assert kind is not None
        resource = event.entity if kind == "entity" else event.relationship
        assert event.revision > self.revision
        self.events.append((event.revision, event.type, kind, resource.id))
        key = kind, resource.id
        assert (event.type == CREATED) == (key not in self.state)
        record = resource.SerializeToString(deterministic=True)
        if event.type == DELETED:
            assert self.state.pop(key) == record or event.revision == resource.revision
        else:
            self.state[key] = record


filters = st.fixed_dictionaries(
    {},
    optional={
        "entities": st.fixed_dictionaries(
            {},
            optional={
                "ids": st.lists(st.sampled_from(IDS), max_size=2),
                "types": st.lists(st.sampled_from(["service", "robot", "feature"]), max_size=2),
                "labels": st.lists(st.sampled_from(["tier=gold", "tier=tin"]), max_size=1),
                "healths": st.lists(st.integers(1, 3), max_size=2),
                "feature": st.sampled_from(["", *FEATURES]),
                "name_prefix": st.sampled_from(["", "a"]),
                "filter": st.sampled_from(["", *EXPRESSIONS]),
            },
        ),
        "relationships": st.fixed_dictionaries(
            {},
            optional={
                "types": st.lists(st.sampled_from(RELATIONSHIP_TYPES), max_size=1),
                "source_ids": st.lists(st.sampled_from(IDS), max_size=2),
                "target_ids": st.lists(st.sampled_from(["a", "ai-ml"]), max_size=2),
                "entity_ids": st.lists(st.sampled_from(IDS), max_size=2),
                "filter": st.sampled_from(["", *EDGE_EXPRESSIONS]),
            },
        ),
    },
)


async def _follow(
    w: World, first: WatchRequest, received: _Received, random_: random.Random
) -> None:
    """Follows until cancelled, over several watches: each goes on where the last one broke off."""
    asked = first
    while True:
        async with await w.hub.open(asked) as watch:
            for _ in range(random_.choice([1, 2, 5, 1000])):
                received.take(WatchResponse.FromString(await anext(watch)), None)
                if random_.random() < 0.2:
                    await asyncio.sleep(0.001)
        if received.token:
            received.pending.clear()
            asked = WatchRequest()
            asked.CopyFrom(first)
            asked.ClearField("snapshot")
            asked.resume_token = received.token
        elif first.snapshot:
            received.state.clear()


async def _reach(revision: int, followers: Sequence[tuple[_Received, asyncio.Task[None]]]) -> None:
    """Lets the followers run until all have come to a revision. Raises what one fails with."""
    try:
        async with asyncio.timeout(20):
            while any(received.revision < revision for received, _ in followers):
                for _, task in followers:
                    if task.done():
                        task.result()
                await asyncio.sleep(0.005)
    finally:
        for _, task in followers:
            task.cancel()
        await asyncio.gather(*(task for _, task in followers), return_exceptions=True)


async def _run(seed: int, fields: Sequence[dict[str, object]], tiny: bool) -> None:
    random_ = random.Random(seed)
    window_bytes = 2000 if tiny else 64 << 20
    limits = Limits(cache_bytes=4000) if tiny else None
    async with world(window_bytes=window_bytes, limits=limits) as w:
        followers: list[tuple[WatchRequest, _Received, asyncio.Task[None]]] = []
        for number in range(40):
            await _write(w, random_)
            if number % 8 == 3:
                for each in fields:
                    asked = WatchRequest(**each)  # type: ignore[arg-type]
                    asked.bookmark_interval.FromMilliseconds(100)
                    if random_.random() < 0.5:
                        asked.snapshot = True
                    else:
                        asked.start_revision = 1
                    received = _Received()
                    task = asyncio.create_task(_follow(w, asked, received, random_))
                    followers.append((asked, received, task))
        last = w.revision
        history = await w.history()
        await _reach(last, [(received, task) for _, received, task in followers])
        for asked, received, _ in followers:
            assert received.state == _states(history, asked)[-1]
            if not asked.snapshot and _looks_at_records_only(asked):
                assert received.events == _expected(history, asked)


@pytest.mark.slow
@given(
    seed=st.integers(0, 2**32), fields=st.lists(filters, min_size=1, max_size=3), tiny=st.booleans()
)
@settings(max_examples=40)
def test_watchers_receive_what_the_log_says(
    seed: int, fields: list[dict[str, object]], tiny: bool
) -> None:
    """Whenever watches begin, break off and go on, they are sent what the log says.

    The events of a filter on records are those of the log; the events of any filter, after its
    snapshot or from the first revision on, come to exactly what matches.
    """
    with pytest.MonkeyPatch.context() as patch:
        if tiny:
            # The hub pauses after every change, so that anything may come between.
            patch.setattr(hub, "_SLICE_SECONDS", -1.0)
        asyncio.run(_run(seed, fields, tiny))


@pytest.mark.parametrize("tiny", [False, True])
@pytest.mark.parametrize(
    "wanted",
    [{}, {"feature": "ai-ml"}, {"healths": [2, 3]}, *({"filter": text} for text in EXPRESSIONS)],
)
async def test_every_revision_comes_to_what_matches(wanted: dict[str, str], tiny: bool) -> None:
    """Folded up to any revision that a message names, the events are the state of that revision."""
    random_ = random.Random(7)
    limits = Limits(cache_bytes=4000) if tiny else None
    async with world(window_bytes=2000 if tiny else 64 << 20, limits=limits) as w:
        asked = request(1, entities=wanted, relationships={"types": ["belongs_to"]})
        asked.bookmark_interval.FromMilliseconds(100)
        live = await w.hub.open(asked)
        messages: list[WatchResponse] = []
        for _ in range(400):
            await _write(w, random_)
            with suppress(TimeoutError):
                while random_.random() < 0.5:
                    messages.append(await receive(live, 0.002))
        last = w.revision
        if not messages or messages[-1].revision < last:
            messages += await until(live, last)
        states = _states(await w.history(), asked)
        received = _Received()
        for message in messages:
            received.take(message, states)
        for revision in random_.sample(range(last), 20):
            resumed = _Received(state={**states[revision]}, revision=revision)
            asked.start_revision = revision + 1
            async with await w.hub.open(asked) as watch:
                resumed.take(WatchResponse.FromString(await anext(watch)), states)
