"""Every request comes to what a naive registry makes of it, and every revision stays as it was."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyper_registry.model.errors import (
    CascadeTooLarge,
    EntityNotFound,
    HasRelationships,
    IdTaken,
    InvalidArgument,
    LimitExceeded,
    NameTaken,
    RegistryError,
    RevisionMismatch,
    StoreFull,
)
from hyper_registry.registry import decide
from hyper_registry.registry import view as views
from hyper_registry.registry.engine import Engine
from hyper_registry.registry.mutations import (
    CreateEntity,
    CreateRelationship,
    DeleteEntity,
    DeleteRelationship,
    Mutation,
    Precondition,
    PutEntity,
    UpdateEntity,
    UpdateRelationship,
)
from hyper_registry.registry.table import Table
from tests.unit.registry.stores import TriedStore
from tests.unit.registry.strategies import Resolve, groups, requests
from tests.unit.registry.support import (
    check,
    compare,
    edge,
    entity,
    link,
    oracle_of,
    outcomes,
    packed,
    ready,
    reorganise,
    request,
    running,
    submit,
    submit_all,
    write,
)


@given(st.lists(groups, min_size=1, max_size=6))
@settings(max_examples=40)
async def test_random_requests_against_the_oracle(history: list[list[Resolve]]) -> None:
    """Groups of requests, each submitted at once, are answered as if one by one, and atomically."""
    async with running() as engine:
        oracle = oracle_of(engine)
        for group in history:
            await submit_all(engine, oracle, [resolve(oracle) for resolve in group])
        await check(engine, oracle)


_pauses = st.lists(st.integers(0, 6), min_size=10, max_size=10)


@given(st.lists(requests(), min_size=1, max_size=10), _pauses, st.integers(0, 6))
@settings(max_examples=40)
async def test_requests_that_come_while_others_commit(
    resolved: list[Resolve], pauses: list[int], turns: int
) -> None:
    """However requests fall into commits, they are decided in the order in which they came."""
    store = TriedStore()
    async with running(store) as engine:
        oracle = oracle_of(engine)
        store.turns = turns
        made = [resolve(oracle) for resolve in resolved]
        compare(oracle, made, *await submit(engine, made, pauses))
        store.turns = 0
        await check(engine, oracle)


async def refused(engine: Engine, *mutations: Mutation, **options: Any) -> RegistryError:
    """The error that a request is refused with; it leaves nothing behind."""
    before = engine.view.visible
    [error] = await outcomes(engine, request(*mutations, **options))
    assert isinstance(error, RegistryError)
    assert engine.view.visible == engine.view.tip == before
    return error


async def test_a_batch_fails_as_one(engine: Engine) -> None:
    """One mutation that is refused takes the others of its request with it, and is named."""
    await ready(engine, "a")
    error = await refused(
        engine,
        CreateEntity(entity("b")),
        CreateRelationship(edge("r", "a", "b")),
        DeleteEntity("nobody"),
    )
    assert isinstance(error, EntityNotFound)
    assert error.metadata["mutation"] == "2"
    assert error.message.startswith("mutations[2]: ")
    assert engine.view.entity("b", engine.view.visible) is None


async def test_what_a_refused_batch_created_is_gone(engine: Engine) -> None:
    """A relationship of a refused request neither blocks a deletion nor takes its place."""
    await ready(engine, "a", "b")
    for _ in range(3):
        await refused(engine, CreateRelationship(edge("r", "a", "b")), DeleteEntity("nobody"))
        await write(engine, CreateRelationship(edge("r", "a", "b")), dry_run=True)
    assert [*engine.view.living_relationships("a")] == []
    assert engine.view.find_relationship("a", "b", "uses") is None
    await link(engine, "r", "a", "b")
    await write(engine, DeleteRelationship("r"))
    await write(engine, DeleteEntity("b"))


async def test_names_can_be_passed_on(engine: Engine) -> None:
    """Within one request a name may be freed and taken; what is refused gives it back."""
    await ready(engine, "a", "b")
    rename = [
        UpdateEntity(entity("a", "spare"), ("name",)),
        UpdateEntity(entity("b", "a"), ("name",)),
        UpdateEntity(entity("a", "b"), ("name",)),
    ]
    await refused(engine, *rename, DeleteEntity("nobody"))
    assert isinstance(await refused(engine, CreateEntity(entity("c", "a"))), NameTaken)
    await write(engine, *rename)
    taken = await refused(engine, CreateEntity(entity("c", "a")))
    assert isinstance(taken, NameTaken)
    assert taken.metadata["id"] == "b"
    await write(engine, CreateEntity(entity("c", "spare")))


async def test_a_condition_is_on_the_state_before(engine: Engine) -> None:
    """Preconditions hold before the batch; an expected revision of 0 means that it is not there."""
    await ready(engine, "a")
    absent = Precondition("b", False, 0)
    assert await write(engine, CreateEntity(entity("b")), preconditions=[absent]) == 3
    error = await refused(engine, DeleteEntity("b"), preconditions=[absent])
    assert isinstance(error, RevisionMismatch)
    assert error.metadata == {"id": "b", "expected": "0", "actual": "3"}


async def test_a_dry_run_tells_and_does_nothing(engine: Engine) -> None:
    """It answers what would become of each mutation, at the revision that it was decided at."""
    await ready(engine, "a")
    made: list[Any] = []
    answer = await write(engine, CreateEntity(entity("b")), dry_run=True, decisions=made)
    assert answer == 2
    assert [result.outcome.name for result in made[0].results] == ["CREATED"]
    assert engine.view.visible == 2
    assert engine.view.entity("b", 3) is None


async def test_large_cascades_have_to_be_allowed(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cascade over more relationships than the limit needs `allow_large`."""
    monkeypatch.setattr(decide, "MAX_CASCADE", 3)
    await ready(engine, "hub", *(f"e{number}" for number in range(4)))
    for number in range(4):
        await link(engine, f"r{number}", "hub", f"e{number}")
    assert isinstance(await refused(engine, DeleteEntity("hub")), HasRelationships)
    error = await refused(engine, DeleteEntity("hub", cascade=True))
    assert isinstance(error, CascadeTooLarge)
    assert error.metadata == {"id": "hub", "count": "4", "maximum": "3"}
    await write(engine, DeleteRelationship("r0"))
    await write(engine, DeleteEntity("hub", cascade=True), dry_run=True)
    await link(engine, "r0", "hub", "e0")
    made: list[Any] = []
    await write(engine, DeleteEntity("hub", cascade=True, allow_large=True), decisions=made)
    assert {*made[0].results[0].relationships} == {"r0", "r1", "r2", "r3"}


async def test_a_refused_deletion_reads_no_relationship(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To count them is enough: those of a hub would keep everyone waiting for seconds."""
    monkeypatch.setattr(decide, "MAX_CASCADE", 1)
    await ready(engine, "hub", "a", "b")
    await link(engine, "r0", "a", "hub")
    await link(engine, "r1", "b", "hub")
    read: list[int] = []
    record = Table.record

    def noted(table: Table, slot: int) -> bytes:
        if table is engine.view.generation.relationships:
            read.append(slot)
        return record(table, slot)

    monkeypatch.setattr(Table, "record", noted)
    await refused(engine, DeleteEntity("hub"))
    await refused(engine, DeleteEntity("hub", cascade=True))
    assert read == []
    await write(engine, DeleteEntity("hub", cascade=True, allow_large=True))
    assert len(read) == 2


async def test_limits_hold_for_what_a_change_adds_up_to(engine: Engine) -> None:
    """A key more than the labels may have, or metadata grown too large, is refused by its path."""
    labels = {f"k{number}": "" for number in range(64)}
    metadata = packed(x="x" * 200_000)
    await write(engine, CreateEntity(entity("a", labels=labels, metadata=metadata)))
    one_more = UpdateEntity(entity("a", labels={"more": ""}), ("labels.more",))
    error = await refused(engine, one_more)
    assert isinstance(error, InvalidArgument)
    assert error.violations[0].field == "entity.labels"
    larger = UpdateEntity(entity("a", metadata=packed(y="y" * 100_000)), ("metadata.y",))
    error = await refused(engine, DeleteEntity("ai-ml"), larger)
    assert isinstance(error, InvalidArgument)
    assert error.reason == LimitExceeded.reason
    assert error.violations[0].field == "mutations[1].update_entity.entity.metadata"


@pytest.mark.parametrize(
    ("mutation", "field"),
    [
        (UpdateEntity(entity("a", type_="plugin"), ("version",)), "entity.type"),
        (PutEntity(entity("a", type_="plugin"), frozenset()), "type"),
        (UpdateRelationship(edge("r", "b", "", ""), ()), "relationship.source_id"),
        (UpdateRelationship(edge("r", "", "", "other"), ()), "relationship.type"),
    ],
    ids=str,
)
async def test_what_cannot_change(engine: Engine, mutation: Mutation, field: str) -> None:
    """The type of a resource and the ends of a relationship stay; the error names the field."""
    await ready(engine, "a", "b")
    await link(engine, "r", "a", "b")
    error = await refused(engine, mutation)
    assert isinstance(error, InvalidArgument)
    assert [violation.field for violation in error.violations] == [field]


async def test_a_full_view_refuses_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """When there is no room for another version, that request alone fails, and room can be made."""
    monkeypatch.setattr(views, "_ENTITY_SLOTS", 12)
    monkeypatch.setattr(views, "_EDGE_SLOTS", 2)
    async with running() as engine:
        await ready(engine, "a", "b")
        for _ in range(2):
            error = await refused(
                engine,
                UpdateEntity(entity("a", "later"), ("name",)),
                CreateEntity(entity("c", "a")),
                CreateEntity(entity("d")),
            )
            assert isinstance(error, StoreFull)
            reorganise(engine, engine.view.visible)
        assert isinstance(await refused(engine, CreateEntity(entity("c", "a"))), NameTaken)
        await write(engine, UpdateEntity(entity("a", "later"), ("name",)))
        await link(engine, "r", "a", "b")
        await link(engine, "s", "b", "a")
        error = await refused(engine, CreateRelationship(edge("t", "a", "a")))
        assert isinstance(error, StoreFull)
        assert len([*engine.view.living_relationships("a")]) == 2


async def test_a_full_arena_leaves_no_half_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that does not fit leaves no version behind that a compaction would keep."""
    monkeypatch.setattr(views, "_ENTITY_BYTES", 3000)
    async with running() as engine:
        await ready(engine, "a")
        large = entity("b", metadata=packed(x="x" * 3000))
        assert isinstance(await refused(engine, CreateEntity(large)), StoreFull)
        assert isinstance(await refused(engine, DeleteEntity("a"), CreateEntity(large)), StoreFull)
        count = engine.view.generation.entities.slots.length
        reorganise(engine, engine.view.visible)
        assert engine.view.generation.entities.slots.length == count == 9
        await ready(engine, "b")


async def test_too_many_types(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is room for so many different types; one more is refused as the documented error."""
    monkeypatch.setattr(views, "MAX_TYPES", 2)
    async with running() as engine:
        await ready(engine, "a")
        error = await refused(engine, CreateEntity(entity("b", type_="third")))
        assert isinstance(error, StoreFull)


async def test_order_of_a_batch(engine: Engine) -> None:
    """Later mutations of a request see what earlier ones did."""
    await write(
        engine,
        CreateEntity(entity("a")),
        UpdateEntity(entity("a", version="1"), ("version",)),
        CreateRelationship(edge("r", "a", "a")),
        DeleteEntity("a", cascade=True),
        CreateEntity(entity("a")),
    )
    assert isinstance(await refused(engine, CreateEntity(entity("a"))), IdTaken)
    assert engine.view.relationship("r", engine.view.visible) is None
