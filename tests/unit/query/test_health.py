"""Causes, what would be, and single points of failure, against an oracle that is plain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyper_registry.model.entity import Health
from hyper_registry.model.errors import EntityNotFound
from hyper_registry.query.causes import CauseReader
from hyper_registry.query.filters import EntityFilter
from hyper_registry.query.listing import EntityQuestion, Window, list_entities
from hyper_registry.query.ordering import By, Order
from hyper_registry.query.simulation import Assumption, Simulator
from hyper_registry.registry.engine import Engine
from hyper_registry.registry.mutations import CreateEntity, UpdateEntity
from ose.registry.v1.entity_service_pb2 import ListEntitiesResponse
from ose.registry.v1.health_service_pb2 import ExplainHealthResponse, SimulateHealthResponse
from tests.unit.registry.oracle import Oracle, State
from tests.unit.registry.support import entity, oracle_of, packed, running, write
from tests.unit.registry.test_propagation import IDS, healths, histories, needs, play, starts

_WELL, _ILL = {1, 4}, {2, 3}


def _needs(state: State, source: str) -> list[list[tuple[str, str]]]:
    """What an entity needs: each need as the relationships and targets, one of which must work."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for id_, one in state.relationships.items():
        if one["source_id"] == source and state.carries_health(one):
            groups.setdefault(one["any_of"] or f"only {id_}", []).append((id_, one["target_id"]))
    return [*groups.values()]


def _failing(state: State, source: str, failed: set[str]) -> list[tuple[str, str]]:
    """The relationships, and targets, of the needs that have failed."""
    found = [need for need in _needs(state, source) if failed.issuperset(t for _, t in need)]
    return [one for need in found for one in need]


def _distances(state: State, start: str, failed: set[str]) -> dict[str, int]:
    """How far everything is that has failed for an entity."""
    found, level = {start: 0}, [start]
    while level:
        reached = {target for id_ in level for _, target in _failing(state, id_, failed)}
        level = [id_ for id_ in reached if id_ not in found]
        found |= dict.fromkeys(level, max(found.values()) + 1)
    return found


def _check_explanation(state: State, id_: str, found: ExplainHealthResponse) -> None:
    failed = state.failed()
    distances = _distances(state, id_, failed)
    order = [*state.entities]
    causes = sorted(
        (one for one in distances if state.entities[one]["reported_health"] == Health.UNHEALTHY),
        key=lambda one: (distances[one], order.index(one)),
    )
    assert [cause.entity_id for cause in found.health_causes] == causes
    assert found.nodes[0].id == id_
    nodes = {node.id: node for node in found.nodes}
    assert len(nodes) == len(found.nodes)
    edges = {one.id for one in found.edges}
    for cause in found.health_causes:
        way, links = [*cause.path.entity_ids], [*cause.path.relationship_ids]
        assert (way[0], way[-1]) == (id_, cause.entity_id)
        assert len(links) == len(way) - 1 == distances[cause.entity_id]
        for source, link, target in zip(way, links, way[1:], strict=False):
            assert (link, target) in _failing(state, source, failed)
        weights = [state.relationships[link]["weight"] for link in links]
        assert [*cause.weights] == weights
        assert cause.path.weight == pytest.approx(sum(weights))
        assert {*way} <= nodes.keys()
        assert {*links} <= edges
    assert (found.total_causes, found.complete) == (len(causes), True)


async def _explained(engine: Engine, id_: str, revision: int) -> ExplainHealthResponse:
    made = await CauseReader(engine).explain(id_, 100, revision)
    response = ExplainHealthResponse.FromString(made.nodes_bytes + made.edges_bytes)
    response.health_causes.extend(made.causes)
    response.total_causes, response.complete = made.total, len(made.causes) == made.total
    return response


@settings(max_examples=60)
@given(start=starts, history=histories)
async def test_causes_are_what_a_naive_search_finds(start: Any, history: Any) -> None:
    """All of them, by shortest paths along what has failed, of every entity at every revision."""
    async with running() as engine:
        oracle = oracle_of(engine)
        await play(engine, oracle, start, history)
        for revision in range(1, oracle.revision + 1):
            state = oracle.states[revision]
            for id_ in state.entities:
                _check_explanation(state, id_, await _explained(engine, id_, revision))


# What would be


def _assumed(state: State, assumptions: Sequence[Assumption]) -> dict[str, int]:
    """The effective health of everything if this were so; without what is gone."""
    changed, gone = deepcopy(state), {one.entity_id for one in assumptions if one.removed}
    for one in assumptions:
        told = Health.UNHEALTHY if one.removed else one.health
        changed.entities[one.entity_id]["reported_health"] = told
    failed = changed.failed()
    return {id_: changed.health_of(id_, failed) for id_ in changed.entities if id_ not in gone}


async def _simulated(
    engine: Engine, assumptions: Sequence[Assumption], revision: int, limit: int = 1000
) -> SimulateHealthResponse:
    made = await Simulator(engine).simulate(assumptions, limit, revision)
    response = SimulateHealthResponse.FromString(made.nodes_bytes)
    response.changes.extend(made.changes)
    response.degraded, response.healed = made.degraded, made.healed
    response.by_distance.extend(made.by_distance)
    response.by_type.update(made.by_type)
    response.by_feature.update(made.by_feature)
    return response


def _check_simulation(
    state: State, assumptions: Sequence[Assumption], found: SimulateHealthResponse
) -> None:
    before = {id_: one["health"] for id_, one in state.entities.items()}
    after = _assumed(state, assumptions)
    expected = {id_: (before[id_], new) for id_, new in after.items() if before[id_] != new}
    got = {one.entity_id: (one.before, one.after) for one in found.changes}
    assert got == expected
    assert [node.id for node in found.nodes] == [one.entity_id for one in found.changes]
    assert all(node.health == before[node.id] for node in found.nodes)
    turned = [*expected.values()]
    assert found.degraded == sum(old in _WELL and new == 2 for old, new in turned)
    assert found.healed == sum(old in _ILL and new in _WELL for old, new in turned)
    assert found.by_type == Counter(state.entities[id_]["type"] for id_ in expected)
    assert [*found.by_distance] == _by_distance(found)
    order = [*state.entities]
    keys = [(one.distance, order.index(one.entity_id)) for one in found.changes]
    assert keys == sorted(keys)
    nearest = {one.entity_id for one in assumptions}
    for one in found.changes:
        assert (one.distance == 0) == (one.entity_id in nearest)


def _by_distance(found: SimulateHealthResponse) -> list[int]:
    counts = Counter(one.distance for one in found.changes)
    return [counts[distance] for distance in range(max(counts, default=-1) + 1)]


_assumptions = st.dictionaries(
    st.sampled_from(IDS), st.tuples(healths, st.booleans()), min_size=1, max_size=4
)


@settings(max_examples=80)
@given(start=starts, history=histories, assumed=_assumptions)
async def test_what_would_be_is_what_a_naive_derivation_says(
    start: Any, history: Any, assumed: Mapping[str, tuple[int, bool]]
) -> None:
    """Of any assumptions, at every revision, and nothing is changed by asking."""
    async with running() as engine:
        oracle = oracle_of(engine)
        await play(engine, oracle, start, history)
        for revision in range(2, oracle.revision + 1):
            state = oracle.states[revision]
            assumptions = [
                Assumption(id_, health, removed)
                for id_, (health, removed) in assumed.items()
                if id_ in state.entities
            ]
            if assumptions:
                found = await _simulated(engine, assumptions, revision)
                _check_simulation(state, assumptions, found)
        assert engine.view.visible == oracle.revision


@settings(max_examples=60)
@given(start=starts, history=histories)
async def test_failure_points_are_those_of_one_simulation_each(start: Any, history: Any) -> None:
    """Who would degrade how many, and the worst first."""
    async with running() as engine:
        oracle = oracle_of(engine)
        await play(engine, oracle, start, history)
        for revision in {2, oracle.revision}:
            expected = _failure_points(oracle, revision)
            found = await Simulator(engine).failure_points(frozenset(), 1000, revision)
            assert [(one.entity_id, one.degraded) for one in found.points] == expected
            assert found.total == len(expected)
            few = await Simulator(engine).failure_points(frozenset({"service"}), 2, revision)
            types = {id_: one["type"] for id_, one in oracle.states[revision].entities.items()}
            services = [one for one in expected if types[one[0]] == "service"]
            assert [(one.entity_id, one.degraded) for one in few.points] == services[:2]
            assert few.total == len(services)


def _failure_points(oracle: Oracle, revision: int) -> list[tuple[str, int]]:
    state = oracle.states[revision]
    failed, found = state.failed(), []
    for id_ in state.entities:
        if id_ not in failed:
            after = _assumed(state, [Assumption(id_)])
            count = sum(
                state.entities[one]["health"] in _WELL and health == 2
                for one, health in after.items()
            )
            if count:
                found.append((id_, count))
    order = [*state.entities]
    return sorted(found, key=lambda one: (-one[1], order.index(one[0])))


async def test_features_that_would_be_hurt() -> None:
    """By metadata and by relationship; who is in a feature both ways counts once."""
    async with running() as engine:
        await write(
            engine,
            CreateEntity(entity("db")),
            CreateEntity(entity("a", metadata=packed(feature="ai-ml"))),
            CreateEntity(entity("b", metadata=packed(feature="ai-ml"))),
            CreateEntity(entity("c", type_="plugin")),
            CreateEntity(entity("d", metadata=packed(feature="system-ops"))),
            *(needs(source, "db") for source in "abc"),
        )
        links = [("b", "ai-ml"), ("b", "cloud-native"), ("c", "cloud-native"), ("d", "ai-ml")]
        for source, target in links:
            await write(engine, needs(source, target, type_="belongs_to"))
        found = await _simulated(engine, [Assumption("db")], engine.view.visible)
        assert found.by_feature == {"ai-ml": 2, "cloud-native": 2}
        assert found.by_type == {"service": 3, "plugin": 1}
        assert [*found.by_distance] == [1, 3]
        few = await _simulated(engine, [Assumption("db")], engine.view.visible, limit=2)
        assert [one.entity_id for one in few.changes] == ["db", "a"]
        assert few.degraded == 3


@pytest.mark.parametrize("descending", [False, True])
async def test_derived_health_leaves_the_order_of_changes(descending: bool) -> None:
    """Listed by revision, what is degraded stands where its own change is, on any page."""
    async with running() as engine:
        for id_ in "abcx":
            await write(engine, CreateEntity(entity(id_, type_="t")))
        await write(engine, *(needs(id_, "x") for id_ in "abc"))
        sick = UpdateEntity(entity("x", type_="t", reported_health=3), ("reported_health",))
        revision = await write(engine, sick)
        question = EntityQuestion(
            EntityFilter(types=frozenset({"t"})), Order(By.CHANGED, descending)
        )
        found, token = list[str](), ""
        while token or not found:
            window = Window(2, page_token=token)
            page = await list_entities(engine, question, window, 0 if token else revision)
            entities = ListEntitiesResponse.FromString(page.records).entities
            found, token = found + [one.id for one in entities], page.next_page_token
        assert found == [*("xcba" if descending else "abcx")]


async def test_limits_and_missing_entities() -> None:
    """The nearest causes come first; who is not there is named."""
    async with running() as engine:
        ids = [f"x{number}" for number in range(5)]
        await write(
            engine, CreateEntity(entity("a")),
            *(CreateEntity(entity(id_, reported_health=Health.UNHEALTHY)) for id_ in ids),
            *(needs("a", id_) for id_ in ids),
        )  # fmt: skip
        found = await CauseReader(engine).explain("a", 2, engine.view.visible)
        assert [cause.entity_id for cause in found.causes] == ["x0", "x1"]
        assert found.total == 5
        with pytest.raises(EntityNotFound):
            await CauseReader(engine).explain("nobody", 2, engine.view.visible)
        with pytest.raises(EntityNotFound):
            await Simulator(engine).simulate([Assumption("nobody")], 2, engine.view.visible)


async def test_an_answer_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Causes and changes stop where their records would be more than a client takes."""
    for module in ("causes", "simulation"):
        monkeypatch.setattr(f"hyper_registry.query.{module}.DEFAULT_BYTES", 3000)
    async with running() as engine:
        ids = [f"x{number}" for number in range(50)]
        await write(
            engine, CreateEntity(entity("a")),
            *(CreateEntity(entity(id_, reported_health=Health.UNHEALTHY)) for id_ in ids),
            *(needs("a", id_) for id_ in ids),
        )  # fmt: skip
        found = await CauseReader(engine).explain("a", 100, engine.view.visible)
        assert 0 < len(found.causes) < found.total == 50
        assert len(found.nodes_bytes) + len(found.edges_bytes) <= 3000
        healed = [Assumption(id_, Health.HEALTHY) for id_ in ids]
        simulated = await Simulator(engine).simulate(healed, 100, engine.view.visible)
        assert 0 < len(simulated.changes) < simulated.total == 51
        assert (simulated.healed, simulated.degraded) == (51, 0)
