"""RegistryService.Write: atomic batches."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from nexus_registry.conformance.stubs import Stubs
from ose.registry.client import EntityStatus
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.entity_service_pb2 import GetEntityRequest, ListEntitiesRequest
from ose.registry.v1.mutation_pb2 import Mutation, MutationResult, Precondition
from ose.registry.v1.registry_service_pb2 import (
    ImportRequest,
    WriteRequest,
    WriteResponse,
)
from ose.registry.v1.relationship_pb2 import Relationship
from tests.services.samples import GENESIS, build, create, dependency, service, struct
from tests.support.refusals import refused
from tests.support.servers import Running

CODE = grpc.StatusCode
CREATED, UPDATED, UNCHANGED, DELETED = (
    MutationResult.OUTCOME_CREATED,
    MutationResult.OUTCOME_UPDATED,
    MutationResult.OUTCOME_UNCHANGED,
    MutationResult.OUTCOME_DELETED,
)


async def write(stubs: Stubs, *mutations: Mutation, **options: Any) -> WriteResponse:
    """Write."""
    return await stubs.registry.Write(WriteRequest(mutations=mutations, **options))


def outcomes(answer: WriteResponse) -> list[int]:
    """What became of each mutation."""
    return [result.outcome for result in answer.results]


async def test_a_batch_is_one_revision(stored: Running) -> None:
    """Later mutations see earlier ones, results are in order, all of it has one revision."""
    stubs = stored.stubs
    answer = await write(
        stubs,
        Mutation(create_entity=service("a")),
        Mutation(create_entity=service("b")),
        Mutation(create_relationship=dependency("a", "b")),
        Mutation(
            update_entity=Mutation.UpdateEntity(
                entity=Entity(id="b", version="2"), update_mask=FieldMask(paths=["version"])
            )
        ),
        Mutation(
            update_relationship=Mutation.UpdateRelationship(
                relationship=Relationship(id="a-b", weight=5)
            )
        ),
        Mutation(create_entity=service("c")),
        Mutation(delete_entity=Mutation.DeleteEntity(id="c")),
        Mutation(put_entity=service("a")),
    )
    assert outcomes(answer) == [
        CREATED, CREATED, CREATED, UPDATED, UPDATED, CREATED, DELETED, UNCHANGED,
    ]  # fmt: skip
    assert answer.revision == GENESIS + 1
    for result in answer.results[:6]:
        record = result.entity if result.HasField("entity") else result.relationship
        assert record.revision == record.create_revision == answer.revision
    assert answer.results[3].entity.version == "2"
    assert answer.results[4].relationship.weight == 5
    assert answer.results[6].WhichOneof("resource") is None


async def test_all_or_nothing(stored: Running) -> None:
    """One mutation that fails fails the batch: the error has its number, nothing stays."""
    stubs = stored.stubs
    await create(stubs, "taken")
    batch = [
        Mutation(create_entity=service("a")),
        Mutation(create_entity=service("b")),
        Mutation(create_relationship=dependency("a", "b")),
        Mutation(create_entity=service("taken")),
    ]
    error = await refused(
        write(stubs, *batch), CODE.ALREADY_EXISTS, "ID_TAKEN", id="taken", mutation=3
    )
    assert "mutations[3]" in error.message
    for id_ in "ab":
        await refused(
            stubs.entities.GetEntity(GetEntityRequest(id=id_)),
            CODE.NOT_FOUND,
            "ENTITY_NOT_FOUND",
            revision=GENESIS + 1,
        )
    # What it took is free again, and no revision was used up.
    answer = await write(stubs, *batch[:3])
    assert answer.revision == GENESIS + 2


FAILURES: list[tuple[Mutation, grpc.StatusCode, str]] = [
    (
        Mutation(create_entity=service("x", name="a")),
        CODE.ALREADY_EXISTS,
        "NAME_TAKEN",
    ),
    (
        Mutation(create_relationship=dependency("a", "y")),
        CODE.FAILED_PRECONDITION,
        "ENDPOINT_MISSING",
    ),
    (
        Mutation(create_relationship=dependency("a", "b", id="n")),
        CODE.ALREADY_EXISTS,
        "RELATIONSHIP_TAKEN",
    ),
    (
        Mutation(delete_entity=Mutation.DeleteEntity(id="a")),
        CODE.FAILED_PRECONDITION,
        "HAS_RELATIONSHIPS",
    ),
    (
        Mutation(delete_entity=Mutation.DeleteEntity(id="nobody")),
        CODE.NOT_FOUND,
        "ENTITY_NOT_FOUND",
    ),
    (
        Mutation(delete_relationship=Mutation.DeleteRelationship(id="n")),
        CODE.NOT_FOUND,
        "RELATIONSHIP_NOT_FOUND",
    ),
    (
        Mutation(
            update_entity=Mutation.UpdateEntity(
                entity=Entity(id="a", name="b"), expected_revision=1
            )
        ),
        CODE.ABORTED,
        "REVISION_MISMATCH",
    ),
    (
        Mutation(delete_relationship=Mutation.DeleteRelationship(id="a-b", expected_revision=1)),
        CODE.ABORTED,
        "REVISION_MISMATCH",
    ),
]


@pytest.mark.parametrize(("mutation", "code", "reason"), FAILURES)
async def test_every_kind_of_failure_names_its_mutation(
    stubs: Stubs, mutation: Mutation, code: grpc.StatusCode, reason: str
) -> None:
    """Whatever the second mutation fails with, the first is not applied."""
    await build(stubs, ["a", "b"], [dependency("a", "b")])
    call = write(stubs, Mutation(create_entity=service("new")), mutation)
    await refused(call, code, reason, mutation=1)
    missing = stubs.entities.GetEntity(GetEntityRequest(id="new"))
    await refused(missing, CODE.NOT_FOUND, "ENTITY_NOT_FOUND")


@pytest.mark.parametrize(
    ("mutation", "field"),
    [
        (Mutation(), "mutations[1].operation"),
        (Mutation(create_entity=service("a b")), "mutations[1].create_entity.id"),
        (Mutation(put_entity=Entity(type="service")), "mutations[1].put_entity.name"),
        (Mutation(update_entity=Mutation.UpdateEntity()), "mutations[1].update_entity.entity"),
        (
            Mutation(update_entity=Mutation.UpdateEntity(entity=Entity(name="x"))),
            "mutations[1].update_entity.entity.id",
        ),
        (
            Mutation(delete_entity=Mutation.DeleteEntity(id="x", expected_revision=-1)),
            "mutations[1].delete_entity.expected_revision",
        ),
        (
            Mutation(create_relationship=Relationship(source_id="a", target_id="b")),
            "mutations[1].create_relationship.type",
        ),
        (
            Mutation(put_relationship=dependency("a", "b", weight=-1)),
            "mutations[1].put_relationship.weight",
        ),
    ],
)
async def test_malformed_mutations(stubs: Stubs, mutation: Mutation, field: str) -> None:
    """INVALID_FIELD names the field within the mutation."""
    call = write(stubs, Mutation(create_entity=service("a")), mutation)
    await refused(call, CODE.INVALID_ARGUMENT, "INVALID_FIELD", field=field)


async def test_size_of_a_batch(stubs: Stubs) -> None:
    """1 to 1,000 mutations."""
    await refused(write(stubs), CODE.INVALID_ARGUMENT, "INVALID_FIELD", field="mutations")
    many = [Mutation(create_entity=service(f"n{number}")) for number in range(1001)]
    await refused(
        write(stubs, *many), CODE.INVALID_ARGUMENT, "LIMIT_EXCEEDED",
        field="mutations", limit="max_mutations", maximum=1000, actual=1001,
    )  # fmt: skip
    assert len((await write(stubs, *many[:1000])).results) == 1000


async def test_put(stored: Running) -> None:
    """Creates, or replaces by id or else by name; state that is left out stays."""
    stubs = stored.stubs
    put = Mutation(put_entity=service("", name="a", version="1", labels={"x": "1"}))
    made = await write(stubs, put)
    id_ = made.results[0].entity.id
    assert outcomes(made) == [CREATED]
    assert outcomes(await write(stubs, put)) == [UNCHANGED]
    put.put_entity.labels["x"] = "2"
    put.put_entity.status = EntityStatus.ENTITY_STATUS_ERROR
    put.put_entity.regions.append("eu")
    answer = await write(stubs, put)
    assert outcomes(answer) == [UPDATED]
    assert answer.results[0].entity.id == id_
    plain = Mutation(put_entity=Entity(id=id_, type="service", name="renamed"))
    after = (await write(stubs, plain)).results[0].entity
    assert (after.name, after.version, dict(after.labels)) == ("renamed", "", {})
    assert after.status == EntityStatus.ENTITY_STATUS_ERROR
    assert after.regions == ["eu"]
    other = Mutation(put_entity=Entity(id=id_, type="plugin", name="renamed"))
    await refused(write(stubs, other), CODE.INVALID_ARGUMENT, "INVALID_FIELD")
    await create(stubs, "b")
    edge = Mutation(put_relationship=Relationship(source_id=id_, target_id="b", type="mine"))
    first = await write(stubs, edge)
    assert outcomes(await write(stubs, edge)) == [UNCHANGED]
    edge.put_relationship.weight = 4
    second = await write(stubs, edge)
    assert outcomes(second) == [UPDATED]
    assert second.results[0].relationship.id == first.results[0].relationship.id
    edge.put_relationship.id = second.results[0].relationship.id
    edge.put_relationship.type = "other"
    await refused(write(stubs, edge), CODE.INVALID_ARGUMENT, "INVALID_FIELD")


async def test_preconditions(stored: Running) -> None:
    """They are about the state before the batch; one that does not hold is ABORTED."""
    stubs = stored.stubs
    built = await build(stubs, ["a", "b"], [dependency("a", "b")])
    revision = built.revision
    held = [
        Precondition(entity_id="a", expected_revision=revision),
        Precondition(relationship_id="a-b", expected_revision=revision),
        Precondition(entity_id="a", must_exist=True),
        Precondition(relationship_id="a-b", must_exist=True),
        Precondition(entity_id="x", must_not_exist=True),
        Precondition(relationship_id="x", must_not_exist=True),
        Precondition(entity_id="x", expected_revision=0),
    ]
    new = Mutation(create_entity=service("x"))
    answer = await write(stubs, new, preconditions=held)
    assert answer.revision == revision + 1
    failing = {
        "must_exist": Precondition(entity_id="y", must_exist=True),
        "must_not_exist": Precondition(relationship_id="a-b", must_not_exist=True),
    }
    for condition, precondition in failing.items():
        call = write(stubs, Mutation(create_entity=service("z")), preconditions=[precondition])
        await refused(call, CODE.ABORTED, "PRECONDITION_FAILED", condition=condition)
    stale = Precondition(entity_id="x", expected_revision=1)
    call = write(stubs, Mutation(create_entity=service("z")), preconditions=[stale])
    await refused(call, CODE.ABORTED, "REVISION_MISMATCH", expected=1, actual=revision + 1)
    for precondition, field in (
        (Precondition(must_exist=True), "preconditions[0].resource"),
        (Precondition(entity_id="a"), "preconditions[0].condition"),
        (Precondition(entity_id="a", must_exist=False), "preconditions[0].must_exist"),
        (Precondition(entity_id="a b", must_exist=True), "preconditions[0].entity_id"),
    ):
        call = write(stubs, Mutation(create_entity=service("z")), preconditions=[precondition])
        await refused(call, CODE.INVALID_ARGUMENT, "INVALID_FIELD", field=field)
    many = [Precondition(entity_id="a", must_exist=True)] * 1001
    call = write(stubs, Mutation(create_entity=service("z")), preconditions=many)
    await refused(call, CODE.INVALID_ARGUMENT, "LIMIT_EXCEEDED", field="preconditions")


async def test_cascade_in_a_batch_and_dry_run(stored: Running) -> None:
    """The result of a deletion lists the relationships that went; a dry run tells it before."""
    stubs = stored.stubs
    built = await build(stubs, ["a", "b", "c"], [dependency("a", "b"), dependency("c", "b")])
    batch = [
        Mutation(delete_entity=Mutation.DeleteEntity(id="b", cascade=True)),
        Mutation(create_entity=service("b", version="new")),
    ]
    tried = await write(stubs, *batch, dry_run=True)
    assert tried.revision == built.revision
    assert outcomes(tried) == [DELETED, CREATED]
    assert tried.results[0].relationships == ["a-b", "c-b"]
    done = await write(stubs, *batch)
    assert done.revision == built.revision + 1
    assert done.results[0].relationships == ["a-b", "c-b"]
    assert done.results[1].entity.create_revision == done.revision


async def test_a_batch_that_changes_nothing(stubs: Stubs) -> None:
    """It has the revision that it was decided at, and makes none."""
    made = await create(stubs, "a")
    answer = await write(stubs, Mutation(put_entity=service("a")))
    assert (answer.revision, outcomes(answer)) == (made.revision, [UNCHANGED])
    assert (await create(stubs, "b")).revision == made.revision + 1


async def test_idempotency(stored: Running) -> None:
    """The first result comes again, also for calls at the same time; another body is refused."""
    stubs = stored.stubs
    batch = [Mutation(create_entity=Entity(type="service", name="a", metadata=struct(k=1)))]
    answers = await asyncio.gather(*(write(stubs, *batch, idempotency_key="k") for _ in range(20)))
    assert all(answer == answers[0] for answer in answers)
    call = write(stubs, Mutation(create_entity=service("b")), idempotency_key="k")
    await refused(call, CODE.ALREADY_EXISTS, "IDEMPOTENCY_KEY_REUSED", idempotency_key="k")
    listing = await stubs.entities.ListEntities(ListEntitiesRequest(type=["service"]))
    assert len(listing.entities) == 1


async def test_concurrent_creations_of_one_name(stored: Running) -> None:
    """Exactly one wins, whoever is committed with whom."""
    stubs = stored.stubs

    async def attempt(number: int) -> bool:
        try:
            await write(stubs, Mutation(create_entity=service(f"x{number}", name="one")))
        except grpc.aio.AioRpcError as error:
            assert error.code() is CODE.ALREADY_EXISTS  # noqa: PT017 - the others succeed
            return False
        return True

    assert sum(await asyncio.gather(*map(attempt, range(30)))) == 1


async def test_what_waits_is_limited_in_bytes(
    stubs: Stubs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a request came in counts, so that a crowd of large ones does not fill the memory."""
    monkeypatch.setattr("hyper_registry.registry.committer.MAX_QUEUE_BYTES", 500)
    large = Mutation(put_entity=service("large", labels={"text": "x" * 250, "more": "x" * 250}))
    imported = stubs.registry.Import(iter([ImportRequest(sequence=1, mutations=[large])]))
    for call in (write(stubs, large), imported.read()):
        await refused(
            call, CODE.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS", limit="max_queued_bytes", maximum=500
        )
    assert (await write(stubs, Mutation(put_entity=service("small")))).revision == GENESIS + 1
