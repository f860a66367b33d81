"""Random histories and questions: who follows an answer has, at every revision, the naive one."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hyper_registry.model.entity import Entity, Status
from hyper_registry.model.errors import EntityNotFound, RegistryError
from hyper_registry.model.relationship import Relationship
from hyper_registry.query.asking import asked
from hyper_registry.query.traversal import GraphQuestion
from hyper_registry.registry.mutations import (
    CreateRelationship,
    DeleteEntity,
    DeleteRelationship,
    Mutation,
    UpdateEntity,
    UpdateRelationship,
)
from hyper_registry.watch.graph import group, hub, stream
from hyper_registry.watch.graph.touch import Reach
from ose.registry.v1.graph_service_pb2 import WatchGraphRequest, WatchGraphResponse
from tests.unit.query.test_differences import Naive
from tests.unit.query.world import State, naive_belongs, naive_graph
from tests.watch.graph_world import Following, GraphWorld, graph_world, states
from tests.watch.world import create, of_feature

IDS = ["a", "b", "c", "d", "e", "f"]
TYPES = ["depends_on", "requires", "belongs_to"]
FEATURE = "ai-ml"

#: What the filters of the questions mean.
FILTERS: dict[str, Callable[[State, Entity], bool]] = {
    "": lambda _, __: True,
    "status = active": lambda _, entity: entity.status == Status.ACTIVE,
    "health = healthy": lambda _, entity: entity.health == 1,
    "labels.tier = gold": lambda _, entity: entity.labels.get("tier") == "gold",
    "feature = ai-ml": lambda state, entity: naive_belongs(state, entity, FEATURE),
}

questions = st.fixed_dictionaries(
    {"root_id": st.sampled_from(IDS[:2])},
    optional={
        "question": st.integers(1, 3),
        "depth": st.integers(0, 3),
        "types": st.lists(st.sampled_from(TYPES), max_size=2, unique=True),
        "entity_types": st.just(["service"]),
        "filter": st.sampled_from([*FILTERS]),
        "direction": st.integers(1, 3),
    },
)


# What is written


def _mutation(chance: random.Random) -> Mutation:
    one = chance.choice(IDS)
    other, type_ = chance.choice([*IDS, FEATURE]), chance.choice(TYPES)
    edge = chance.choice(["x", f"{one}-{type_}-{other}"])
    match chance.choices(range(8), (4, 4, 1, 12, 3, 4, 1, 4))[0]:
        case 0:
            metadata = of_feature(FEATURE) if chance.random() < 0.3 else b""
            return create(one, "robot" if one == "f" else "service", metadata=metadata)
        case 1:
            labels = {"tier": chance.choice(["gold", "tin"])}
            status = chance.choice([Status.ACTIVE, Status.ERROR])
            return UpdateEntity(
                Entity(one, "", "", labels=labels, status=status), ("labels", "status")
            )
        case 2:
            return DeleteEntity(one, cascade=True)
        case 3:
            twofold = chance.random() < 0.2
            return CreateRelationship(Relationship(edge, one, other, type_, bidirectional=twofold))
        case 4:
            weight, twofold = chance.random(), chance.random() < 0.5
            return UpdateRelationship(
                Relationship(edge, "", "", "", weight=weight, bidirectional=twofold),
                ("weight", "bidirectional"),
            )
        case 5:
            return DeleteRelationship(edge)
        case 7:
            reported = chance.choice([1, 3, 3])
            return UpdateEntity(Entity(one, "", "", reported_health=reported), ("reported_health",))
        case _:
            return DeleteEntity(one)


async def _write(w: GraphWorld, chance: random.Random) -> None:
    """One revision of a few mutations, or none if the registry refuses them."""
    count = chance.choice([1, 1, 1, 2, 3])
    for _ in range(20):
        with suppress(RegistryError):
            await w.write(*(_mutation(chance) for _ in range(count)))
            return


# What is expected


def _naive(state: State, question: GraphQuestion, filter_: str) -> Naive:
    if question.root_id not in state.entities:
        return Naive()
    enters = FILTERS[filter_]
    distances, edges = naive_graph(state, question, lambda entity: enters(state, entity))
    nodes = {node_id: state.entities[node_id] for node_id in distances}
    return Naive(nodes, {one: state.relationships[one] for one in edges}, distances)


class _Follower:
    """Follows one question over many watches, at a pace of its own, and keeps what it had when."""

    def __init__(self, w: GraphWorld, fields: dict[str, object], chance: random.Random) -> None:
        if fields.get("question", 1) != 1:
            fields = {key: value for key, value in fields.items() if key != "direction"}
        self.request = WatchGraphRequest(**fields)  # type: ignore[arg-type]
        self.request.bookmark_interval.FromMilliseconds(100)
        self.following = Following()
        self.had: list[tuple[int, dict[str, Entity], dict[str, Relationship]]] = []
        self._world = w
        self._chance = chance

    async def run(self) -> None:
        """Follows until cancelled: each watch goes on where the last one broke off."""
        while True:
            try:
                async with await self._world.hub.open(self.request) as watch:
                    for _ in range(self._chance.choice([1, 2, 5, 1000])):
                        self.take(WatchGraphResponse.FromString(await anext(watch)))
                        if self._chance.random() < 0.3:
                            await asyncio.sleep(self._chance.choice([0, 0.001, 0.02]))
            except EntityNotFound:
                await asyncio.sleep(0.001)
            self.request.resume_token = self.following.token
            if self.following.token:
                self.following.broken()
            else:
                self.following = Following()

    def take(self, message: WatchGraphResponse) -> None:
        """Takes a message in."""
        following = self.following
        following.take(message)
        if following.is_whole:
            self.had.append((following.revision, {**following.nodes}, {**following.edges}))

    def check(self, history: list[State]) -> None:
        """At every revision that a message named, it had the naive answer."""
        question, filter_ = asked(self.request), self.request.filter
        for revision, nodes, edges in self.had:
            expected = _naive(history[revision], question, filter_)
            assert nodes == expected.nodes, (revision, self.request)
            assert edges == expected.edges, (revision, self.request)


async def _run(seed: int, fields: Sequence[dict[str, object]], tiny: bool) -> list[_Follower]:
    chance = random.Random(seed)
    async with graph_world(cache_bytes=2000 if tiny else 64 << 20) as w:
        for _ in range(20):
            await _write(w, chance)
        followers = [_Follower(w, each, chance) for each in fields for _ in range(2)]
        tasks = [asyncio.create_task(follower.run()) for follower in followers]
        try:
            for _ in range(60):
                await _write(w, chance)
                if chance.random() < 0.5:
                    await asyncio.sleep(chance.choice([0, 0, 0.001, 0.003]))
                if chance.random() < 0.1:
                    await w.forget()
            roots = [create(root) for root in IDS[:2] if not _exists(w, root)]
            await w.write(*roots, create("last"))
            await _reached(w.revision, followers, tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        history = states(await w.history())
        for follower in followers:
            follower.check(history)
        return followers


async def _reached(
    revision: int, followers: Sequence[_Follower], tasks: Sequence[asyncio.Task[None]]
) -> None:
    """Waits until all have come to a revision. Raises what one fails with."""
    async with asyncio.timeout(10):
        while any(follower.following.revision < revision for follower in followers):
            for task in tasks:
                if task.done():
                    task.result()
            await asyncio.sleep(0.002)


def _exists(w: GraphWorld, entity_id: str) -> bool:
    return w.engine.view.entity(entity_id, w.revision) is not None


def _run_hastily(seed: int, fields: Sequence[dict[str, object]], tiny: bool) -> list[_Follower]:
    """With little time between differences, and, if `tiny`, room and patience for nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(group, "STEP_SECONDS", 0.002)
        patch.setattr(hub, "_TIDY_SECONDS", 0.001)
        patch.setattr("hyper_registry.registry.engine._REORGANISE_LEAST", 1)
        patch.setattr("hyper_registry.registry.engine._REORGANISE_SHARE", 0.0)
        if tiny:
            # Everything goes out in pieces, the hub pauses wherever it may, and nothing is kept.
            patch.setattr(stream, "PART_BYTES", 300)
            patch.setattr(group, "PART_BYTES", 300)
            patch.setattr(hub, "_SLICE_SECONDS", -1.0)
            patch.setattr(hub, "_LONGEST_PAUSE_SECONDS", 0.002)
            patch.setattr(stream, "HOLD_SECONDS", 0.002)
        return asyncio.run(_run(seed, fields, tiny))


@pytest.mark.slow
@given(
    seed=st.integers(0, 2**32),
    fields=st.lists(questions, min_size=1, max_size=3),
    tiny=st.booleans(),
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_followers_have_the_naive_answer(
    seed: int, fields: list[dict[str, object]], tiny: bool
) -> None:
    """Whenever watches begin, break off, fall behind and go on, each revision is the naive answer.

    While entities and relationships come, change, go and come again, and the past is forgotten.
    """
    _run_hastily(seed, fields, tiny)


BUSY: list[dict[str, object]] = [
    {"root_id": "a", "question": 2},
    {"root_id": "a", "depth": 3, "direction": 3, "filter": "labels.tier = gold"},
    {"root_id": "b", "question": 3, "filter": "feature = ai-ml"},
]


def test_what_happens_in_these_histories() -> None:
    """The histories are worth it: differences are joined, resumed ones come, and resets happen."""
    followers = [one for seed in range(6) for one in _run_hastily(seed, BUSY, seed % 2 == 1)]
    steps = [step for one in followers for step in one.following.steps]
    assert any(last - first > 3 for first, last, _ in steps)
    assert any(last - first == 1 for first, last, _ in steps)
    marks = {mark for one in followers for mark in one.following.marks}
    assert marks == {1, 2, 3}


def _run_many(count: int) -> None:
    for seed in range(count):
        _run_hastily(seed, BUSY, False)


@pytest.mark.parametrize("missed", ["_walks", "_borders", "is_touched"])
def test_a_missed_change_is_found_out(missed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one of the rules for looking again, followers do not have the naive answer."""
    honest = Reach.is_touched

    def only_relationships(reach: Reach, touch: object) -> bool:
        touch.entities.clear()  # type: ignore[attr-defined]
        touch.created.clear()  # type: ignore[attr-defined]
        return honest(reach, touch)  # type: ignore[arg-type]

    broken = only_relationships if missed == "is_touched" else lambda *_: False
    monkeypatch.setattr(Reach, missed, broken)
    with pytest.raises(AssertionError):
        _run_many(20)
