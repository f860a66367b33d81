"""Effective health against an oracle that derives it from nothing, at every revision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyper_registry.model.entity import Entity, Health
from hyper_registry.model.errors import InvalidArgument, RegistryError
from hyper_registry.model.health import MAX_ENTITIES, Turns, turns_of
from hyper_registry.model.relationship import HealthCoupling, Relationship
from hyper_registry.model.revision import Kind
from hyper_registry.registry import codec, health_kernels
from hyper_registry.registry import mutations as m
from hyper_registry.registry.engine import Engine
from hyper_registry.registry.propagation import failed_at, settle_from_nothing
from hyper_registry.store.memory import MemoryDisk
from tests.unit.registry.oracle import Oracle
from tests.unit.registry.support import (
    check,
    edge,
    entity,
    log_of,
    oracle_of,
    packed,
    ready,
    reorganise,
    request,
    running,
    submit_all,
    write,
)

IDS = [f"e{number}" for number in range(9)]
_numbers = st.integers(0, 1 << 16)
_some = st.sampled_from(IDS)
healths = st.sampled_from([1, 1, 2, 3, 3, 3, 4])
_couplings = st.sampled_from([0, 0, 0, 1, 2])
_groups = st.sampled_from(["", "", "a", "a", "b"])
_types = st.sampled_from(["depends_on", "depends_on", "requires", "uses"])

# What is done, with numbers that choose among what there is then.
_steps = st.one_of(
    st.tuples(st.just("report"), _some, healths),
    st.tuples(st.just("report"), _some, healths),
    st.tuples(st.just("link"), _some, _some, _types, _couplings, _groups),
    st.tuples(st.just("link"), _some, _some, _types, _couplings, _groups),
    st.tuples(st.just("link"), _some, _some, _types, _couplings, _groups),
    st.tuples(st.just("unlink"), _numbers),
    st.tuples(st.just("delete"), _some),
    st.tuples(st.just("configure"), _types, st.sampled_from(["hard", "soft", "", "gone"])),
)
_Steps = Sequence[tuple[Any, ...]]
histories = st.lists(st.lists(_steps, min_size=1, max_size=5), min_size=1, max_size=12)
starts = st.lists(
    st.tuples(st.just("link"), _some, _some, _types, _couplings, _groups), max_size=25
)


def _mutations(oracle: Oracle, steps: _Steps) -> list[m.Mutation]:
    """The mutations that steps stand for; those that would fail are left out."""
    living, edges = {*oracle.now.entities}, {*oracle.now.relationships}
    made: list[m.Mutation] = []
    for name, *values in steps:
        if name == "report":
            id_, health = values
            made.append(m.PutEntity(entity(id_, reported_health=health), frozenset()))
            living.add(id_)
        elif name == "link" and {*values[:2]} <= living:
            source, target, type_, coupling, group = values
            id_ = f"{source}>{target}:{type_}"
            made.append(
                m.PutRelationship(
                    edge(id_, source, target, type_, health_coupling=coupling, any_of=group)
                )
            )
            edges.add(id_)
        elif name == "unlink" and edges:
            id_ = sorted(edges)[values[0] % len(edges)]
            made.append(m.DeleteRelationship(id_))
            edges.remove(id_)
        elif name == "configure":
            type_, said = values
            id_ = f"about-{type_}"
            if said != "gone":
                about = packed(health_coupling=said) if said else b""
                wanted = entity(id_, type_, "relationship_type", metadata=about)
                made.append(m.PutEntity(wanted, frozenset()))
                living.add(id_)
            elif id_ in living:
                made.append(m.DeleteEntity(id_))
                living.remove(id_)
        elif name == "delete" and values[0] in living:
            made.append(m.DeleteEntity(values[0], cascade=True))
            living.remove(values[0])
            edges = {id_ for id_ in edges if values[0] not in id_.partition(":")[0].split(">")}
    return made


async def play(engine: Engine, oracle: Oracle, start: _Steps, history: Sequence[_Steps]) -> None:
    """Writes what a start and a history stand for, and has the oracle decide it too."""
    everything = [("report", id_, 1) for id_ in IDS]
    for steps in (everything, start, *history):
        if mutations := _mutations(oracle, steps):
            await submit_all(engine, oracle, [request(*mutations)])
            _check_ranks(engine)


def _check_ranks(engine: Engine) -> None:
    """What has failed at the tip is what does if it is worked out from nothing."""
    generation = engine.view.generation
    count = generation.entities.rows.length
    ranks = np.zeros((count + 1, 1), dtype=np.int64)
    spread = failed_at(generation, engine.view.health_types, engine.view.visible, ranks)
    while not spread.work(1):
        pass
    assert ((ranks[:count] > 0) == (generation.ranks.array[:count] > 0)).all()


@settings(max_examples=150)
@given(start=starts, history=histories)
async def test_health_is_what_follows(start: _Steps, history: list[_Steps]) -> None:
    """Of circles, alternatives, soft relationships and whatever is done to them, in any order."""
    disk = MemoryDisk()
    async with running(disk) as engine:
        oracle = oracle_of(engine)
        await play(engine, oracle, start, history)
        await check(engine, oracle)
    async with running(disk) as engine:
        # What a server has that starts is what one has that ran.
        await check(engine, oracle)
        assert not len(settle_from_nothing(engine.view))


@settings(max_examples=40)
@given(start=starts, history=histories, more=histories, share=st.floats(0, 1))
async def test_health_survives_compaction(
    start: _Steps, history: list[_Steps], more: list[_Steps], share: float
) -> None:
    """In memory and in the store, before a restart and after; what comes then is derived alike."""
    disk = MemoryDisk()
    async with running(disk) as engine:
        oracle = oracle_of(engine)
        await play(engine, oracle, start, history)
        floor = round(share * engine.view.visible)
        await engine.compact(floor, "", "")
        oracle.states.extend(oracle.states[-1:] * (engine.view.visible - oracle.revision))
        reorganise(engine, floor)
        await play(engine, oracle, (), more)
        await check(engine, oracle)
        while await engine.store.trim(floor, 100):
            pass
    async with running(disk) as engine:
        await check(engine, oracle)
        _check_ranks(engine)
        reorganise(engine, floor)
        await check(engine, oracle)


@settings(max_examples=40)
@given(start=starts, history=histories, others=histories)
async def test_what_is_taken_back_leaves_no_trace(
    start: _Steps, history: list[_Steps], others: list[_Steps]
) -> None:
    """Dry runs, and requests that fail at their last mutation, change nothing of what follows."""
    async with running() as engine:
        oracle = oracle_of(engine)
        await play(engine, oracle, start, ())
        for steps, other in zip(history, others, strict=False):
            tried = _mutations(oracle, other)
            await submit_all(engine, oracle, [
                request(*tried, dry_run=True),
                request(*tried, m.DeleteEntity("nobody")),
            ])  # fmt: skip
            _check_ranks(engine)
            await play(engine, oracle, (), [steps])
        await check(engine, oracle)


def _now(engine: Engine, id_: str, revision: int = 0) -> Entity:
    record = engine.view.entity(id_, revision or engine.view.visible)
    assert record is not None
    return codec.decode_entity(record)


def _report(id_: str, health: Health) -> m.Mutation:
    return m.UpdateEntity(entity(id_, reported_health=health), ("reported_health",))


def needs(source: str, target: str, type_: str = "depends_on", **values: Any) -> m.Mutation:
    """Makes an entity need another one."""
    return m.CreateRelationship(edge(f"{source}>{target}", source, target, type_, **values))


async def test_a_circle_heals() -> None:
    """Two that need each other are degraded by a third, and heal with it."""
    async with running() as engine:
        await ready(engine, "a", "b", "c")
        await write(engine, needs("a", "b"), needs("b", "a"), needs("b", "c"))
        failed = await write(engine, _report("c", Health.UNHEALTHY))
        for id_ in "ab":
            found = _now(engine, id_)
            assert (found.health, found.reported_health) == (Health.DEGRADED, Health.HEALTHY)
            assert (found.health_revision, found.revision) == (failed, 2)
        healed = await write(engine, _report("c", Health.HEALTHY))
        for id_ in "abc":
            assert (_now(engine, id_).health, _now(engine, id_).health_revision) == (1, healed)
            assert _now(engine, id_, failed).health == (3 if id_ == "c" else 2)


async def test_only_what_is_reported_unhealthy_is_a_cause() -> None:
    """Degraded and unknown do not reach others, and the worse of told and derived counts."""
    async with running() as engine:
        await ready(engine, "a", "b", "c", "d")
        await write(engine, needs("a", "b"), needs("c", "b"), needs("d", "b"))
        await write(engine, _report("c", Health.UNKNOWN), _report("d", Health.UNHEALTHY))
        for mild in (Health.DEGRADED, Health.UNKNOWN):
            await write(engine, _report("b", mild))
            assert [_now(engine, id_).health for id_ in "abcd"] == [1, mild, 4, 3]
        await write(engine, _report("b", Health.UNHEALTHY))
        assert [_now(engine, id_).health for id_ in "abcd"] == [2, 3, 2, 3]
        await write(engine, m.DeleteEntity("b", cascade=True))
        assert [_now(engine, id_).health for id_ in "acd"] == [1, 4, 3]


async def test_alternatives_fail_together() -> None:
    """One of several providers is enough; which are alternatives is per source."""
    async with running() as engine:
        await ready(engine, "a", "b", "x", "y")
        await write(
            engine, needs("a", "x", any_of="db"), needs("a", "y", any_of="db"),
            needs("b", "y", any_of="db"),
        )  # fmt: skip
        await write(engine, _report("y", Health.UNHEALTHY))
        assert [_now(engine, id_).health for id_ in "ab"] == [1, 2]
        await write(engine, m.DeleteRelationship("a>x"))
        assert _now(engine, "a").health == 2
        await write(engine, needs("a", "x", any_of="db"))
        assert _now(engine, "a").health == 1
        await write(engine, _report("x", Health.UNHEALTHY))
        assert _now(engine, "a").health == 2
        await write(engine, m.DeleteRelationship("a>x"), _report("x", Health.HEALTHY))
        assert _now(engine, "a").health == 2
        await write(engine, needs("a", "x", any_of="db"))
        assert _now(engine, "a").health == 1


async def test_hard_and_soft_say_more_than_the_type() -> None:
    """A soft dependency carries no health, and a hard relationship of any type does."""
    async with running() as engine:
        await ready(engine, "a", "b", "c", "d", "x")
        await write(
            engine,
            needs("a", "x"),
            needs("b", "x", health_coupling=HealthCoupling.SOFT),
            m.CreateRelationship(edge("c>x", "c", "x", "uses")),
            m.CreateRelationship(
                edge("d>x", "d", "x", "uses", health_coupling=HealthCoupling.HARD)
            ),
            _report("x", Health.UNHEALTHY),
        )
        assert [_now(engine, id_).health for id_ in "abcd"] == [2, 1, 1, 2]
        hard = Relationship("b>x", "", "", "", health_coupling=HealthCoupling.HARD)
        soft = Relationship("d>x", "", "", "", health_coupling=HealthCoupling.SOFT)
        await write(
            engine, *(m.UpdateRelationship(one, ("health_coupling",)) for one in (hard, soft))
        )
        assert [_now(engine, id_).health for id_ in "abcd"] == [2, 2, 1, 1]


def _about(name: str, **values: Any) -> m.Mutation:
    """Says of a type of relationships whether it carries health."""
    wanted = entity(f"about-{name}", name, "relationship_type", metadata=packed(**values))
    return m.PutEntity(wanted, frozenset())


async def test_types_are_configured_by_entities() -> None:
    """What is said of a type holds at once, for what there is and what comes, and in the past."""
    disk = MemoryDisk()
    async with running(disk) as engine:
        await ready(engine, "a", "b", "x")
        await write(engine, m.CreateRelationship(edge("a>x", "a", "x", "uses")), needs("b", "x"))
        first = await write(engine, _report("x", Health.UNHEALTHY))
        await write(engine, _about("uses", health_coupling="hard"))
        await write(engine, _about("depends_on", health_coupling="soft"))
        last = await write(engine, m.DeleteEntity("about-uses"))
        expected = {first: [1, 2], first + 1: [2, 2], first + 2: [2, 1], last: [1, 1]}
        found = {
            revision: [_now(engine, id_, revision).health for id_ in "ab"] for revision in expected
        }
        assert found == expected
        with pytest.raises(InvalidArgument, match=r"metadata\.health_coupling"):
            await write(engine, _about("uses", health_coupling="sometimes"))
        renamed = entity("about-depends_on", "uses", metadata=packed(health_coupling="hard"))
        await write(engine, m.UpdateEntity(renamed._replace(type=""), ("name", "metadata")))
        assert [_now(engine, id_).health for id_ in "ab"] == [2, 2]
    async with running(disk) as engine:
        # One that starts reads what is configured, and finds nothing to derive anew.
        assert [_now(engine, id_).health for id_ in "ab"] == [2, 2]
        await write(engine, _report("x", Health.HEALTHY))
        assert [_now(engine, id_).health for id_ in "ab"] == [1, 1]


async def test_the_answer_has_the_health_in_the_end() -> None:
    """Of what is created, changed or left as it is, the final record is answered."""
    async with running() as engine:
        await ready(engine, "x", "y")
        decisions: list[m.Decision] = []
        await write(
            engine,
            m.CreateEntity(entity("a")),
            m.PutEntity(entity("y"), frozenset()),
            needs("a", "x"), needs("y", "x"), _report("x", Health.UNHEALTHY),
            decisions=decisions,
        )  # fmt: skip
        created, unchanged, *_ = decisions[0].results
        for result, id_ in ((created, "a"), (unchanged, "y")):
            assert result.record == engine.view.entity(id_, engine.view.visible)
            assert _now(engine, id_).health == Health.DEGRADED
        assert unchanged.outcome == m.Outcome.UNCHANGED
        assert engine.view.counts.entities_by_health[Health.DEGRADED] == 2


async def test_many_turn_in_parts() -> None:
    """The log has a change for every few hundred entities, after all others of the revision."""
    async with running() as engine:
        await ready(engine, "x")
        ids = [f"n{number}" for number in range(2 * MAX_ENTITIES + 1)]
        await write(engine, *(m.CreateEntity(entity(id_)) for id_ in ids))
        await write(engine, *(needs(id_, "x") for id_ in ids))
        revision = await write(engine, _report("x", Health.UNHEALTHY))
        changes = (await log_of(engine))[revision - 1].changes
        assert [change.kind for change in changes] == [Kind.ENTITY] + 3 * [Kind.HEALTH]
        turns = [turns_of(change) for change in changes[1:]]
        assert [len(turn) for turn in turns] == [MAX_ENTITIES, MAX_ENTITIES, 1]
        ordinals = np.concatenate([turn.ordinals for turn in turns])
        assert (np.diff(ordinals) > 0).all()
        assert {*np.concatenate([turn.after for turn in turns]).tolist()} == {Health.DEGRADED}


async def test_turning_takes_no_room_for_records() -> None:
    """A derived version has the bytes of the one before, also when memory is reorganised."""
    async with running() as engine:
        await ready(engine, "a", "x")
        await write(engine, needs("a", "x"))
        sizes = []
        for number in range(6):
            # The record of x, and nothing of a.
            health = Health.HEALTHY if number % 2 else Health.UNHEALTHY
            await write(engine, _report("x", health))
            reorganise(engine, 0)
            sizes.append(engine.view.generation.entities.arena.length)
        # The commit time of one may have a byte less than that of another.
        records = [len(engine.view.entity("x", revision) or b"") for revision in range(5, 10)]
        assert np.diff(sizes).tolist() == [size + 2 for size in records]
        assert [_now(engine, "a", revision).health for revision in range(4, 10)] == [2, 1] * 3


@given(
    sizes=st.lists(st.integers(1, 400), min_size=1, max_size=700),
    room=st.integers(1, 1000),
)
def test_turns_are_packed_whole(sizes: list[int], room: int) -> None:
    """Packed and read again they are the same; no part is larger than it may be, but of one."""
    numbers = np.arange(len(sizes))
    whole = Turns(numbers * 7, numbers % 5, numbers * 3, (numbers + 1) % 5)
    parts = [turns_of(change) for change in whole.packed(np.array(sizes), room)]
    for name in Turns.__slots__:
        joined = np.concatenate([getattr(part, name) for part in parts])
        assert (joined == getattr(whole, name)).all()
    start = 0
    for part in parts:
        assert 0 < len(part) <= MAX_ENTITIES
        assert len(part) == 1 or sum(sizes[start : start + len(part)]) <= room
        start += len(part)


@pytest.mark.parametrize("count", [1, 3])
async def test_too_many_groups_of_alternatives(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """They are numbered per source, and there is a limit."""
    monkeypatch.setattr("hyper_registry.registry.health_kernels.MAX_GROUPS", count)
    async with running() as engine:
        await ready(engine, "a", "b", *(f"x{number}" for number in range(5)))
        for number in range(count):
            await write(engine, needs("a", f"x{number}", any_of=f"g{number}"))
            await write(engine, needs("b", f"x{number}", any_of=f"g{number}"))
        with pytest.raises(Exception, match="max_groups"):
            await write(engine, needs("a", "x4", any_of="one more"))


async def test_groups_that_were_taken_back_count_for_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is only tried, or refused, uses up no group of alternatives."""
    monkeypatch.setattr(health_kernels, "MAX_GROUPS", 2)
    async with running(MemoryDisk()) as engine:
        await ready(engine, "a", "x", "y")
        for number in range(3):
            await write(engine, needs("a", "x", any_of=f"tried {number}"), dry_run=True)
            with pytest.raises(RegistryError):
                await write(
                    engine, needs("a", "x", any_of=f"refused {number}"), needs("a", "nobody")
                )
        await write(engine, needs("a", "x", any_of="one"), needs("a", "y", any_of="two"))
