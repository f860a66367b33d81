"""RegistryService's streams: Import and Export."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
import pytest

from nexus_registry.conformance.stubs import Stubs
from ose.registry.v1.admin_service_pb2 import GetStatisticsRequest
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.entity_service_pb2 import DeleteEntityRequest, GetEntityRequest
from ose.registry.v1.mutation_pb2 import Mutation
from ose.registry.v1.registry_service_pb2 import ExportRequest, ImportRequest, ImportResponse
from ose.registry.v1.relationship_pb2 import Relationship
from tests.services.samples import GENESIS, build, collect, create, dependency, service, struct
from tests.support.refusals import explained, refused
from tests.support.servers import Running

CODE = grpc.StatusCode


def message(sequence: int, *names: str, import_id: str = "") -> ImportRequest:
    """A message that puts services."""
    mutations = [Mutation(put_entity=service(name)) for name in names]
    return ImportRequest(import_id=import_id, sequence=sequence, mutations=mutations)


async def run(
    stubs: Stubs, messages: Iterable[ImportRequest]
) -> tuple[list[ImportResponse], grpc.aio.AioRpcError | None]:
    """An import; answers its acknowledgements and what it failed with.

    grpc.aio says INTERNAL, and loses the server's status, when it writes to a stream that the
    server has just ended; then it is tried again.
    """
    messages = list(messages)

    async def requests() -> AsyncIterator[ImportRequest]:
        for one in messages:
            yield one

    for _ in range(20):
        answers: list[ImportResponse] = []
        try:
            async for answer in stubs.registry.Import(requests()):
                answers.append(answer)  # noqa: PERF401 - what came before an error counts
        except grpc.aio.AioRpcError as error:
            if error.code() is CODE.INTERNAL and "from Core" in str(error.details()):
                continue
            return answers, error
        return answers, None
    raise AssertionError("the server's status is always lost")


async def acknowledged(call: Any) -> ImportResponse:
    """The next acknowledgement."""
    answer = await call.read()
    assert isinstance(answer, ImportResponse)
    return answer


async def export(stubs: Stubs, **fields: Any) -> tuple[list[str], list[str], set[int]]:
    """The ids of all entities and relationships of an export, and the revisions of its parts."""
    parts = await collect(stubs.registry.Export(ExportRequest(**fields)))
    kinds = ["e" if part.entities else "r" for part in parts]
    assert kinds == sorted(kinds), "all entities come before all relationships"
    return (
        [entity.id for part in parts for entity in part.entities],
        [relationship.id for part in parts for relationship in part.relationships],
        {part.revision for part in parts},
    )


async def test_each_message_is_a_revision_and_acknowledged(stored: Running) -> None:
    """In order, by its number, with what it did."""
    stubs = stored.stubs
    messages = [
        message(1, "a", "b"),
        message(5, "b", "c"),
        message(6, "a"),
        ImportRequest(
            sequence=7,
            mutations=[
                Mutation(put_relationship=dependency("a", "b")),
                Mutation(update_entity=Mutation.UpdateEntity(entity=Entity(id="c", version="2"))),
            ],
        ),
        ImportRequest(
            sequence=8,
            mutations=[Mutation(delete_entity=Mutation.DeleteEntity(id="a", cascade=True))],
        ),
    ]
    answers, error = await run(stubs, messages)
    assert error is None
    assert [
        (a.sequence, a.revision - GENESIS, a.created, a.updated, a.deleted, a.unchanged)
        for a in answers
    ] == [
        (1, 1, 2, 0, 0, 0),
        (5, 2, 1, 0, 0, 1),
        (6, 2, 0, 0, 0, 1),
        (7, 3, 1, 1, 0, 0),
        (8, 4, 0, 0, 2, 0),
    ]


async def test_an_acknowledgement_does_not_wait_for_the_next_message(stubs: Stubs) -> None:
    """A message is applied and acknowledged as it comes, whatever the client sends later."""
    call = stubs.registry.Import()
    await call.write(message(1, "a"))
    assert (await acknowledged(call)).sequence == 1
    await stubs.entities.GetEntity(GetEntityRequest(id="a"))
    await call.write(message(2, "b"))
    assert (await acknowledged(call)).sequence == 2
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is CODE.OK


async def test_what_is_sent_again_is_not_applied_again(stored: Running) -> None:
    """With the same id and number it is acknowledged as the first time; new numbers go on."""
    stubs = stored.stubs

    def creating(sequence: int) -> ImportRequest:
        made = Mutation(create_entity=service(f"n{sequence}"))
        return ImportRequest(import_id="load", sequence=sequence, mutations=[made])

    first, error = await run(stubs, map(creating, range(1, 4)))
    assert error is None
    await create(stubs, "between")
    again, error = await run(stubs, map(creating, range(2, 6)))
    assert error is None
    assert again[:2] == first[1:]
    assert [a.sequence for a in again] == [2, 3, 4, 5]
    assert again[2].revision == first[-1].revision + 2
    # The same number with other content is another import's.
    changed = creating(3)
    changed.mutations[0].create_entity.version = "other"
    answers, error = await run(stubs, [changed])
    assert answers == []
    assert error is not None
    explained(error, CODE.ALREADY_EXISTS, "IDEMPOTENCY_KEY_REUSED")


async def test_a_refusal_ends_the_stream_and_keeps_what_was_before(stored: Running) -> None:
    """The bad message is all or nothing, those before it stay, those after it count for nothing."""
    stubs = stored.stubs
    bad = ImportRequest(
        sequence=2,
        mutations=[
            Mutation(put_entity=service("half")),
            Mutation(put_relationship=dependency("a", "nobody")),
        ],
    )
    answers, error = await run(stubs, [message(1, "a"), bad, message(3, "never")])
    assert [a.sequence for a in answers] == [1]
    assert error is not None
    explained(error, CODE.FAILED_PRECONDITION, "ENDPOINT_MISSING", mutation=1, id="nobody")
    await stubs.entities.GetEntity(GetEntityRequest(id="a"))
    for id_ in ("half", "never"):
        call = stubs.entities.GetEntity(GetEntityRequest(id=id_))
        await refused(call, CODE.NOT_FOUND, "ENTITY_NOT_FOUND")


@pytest.mark.parametrize(
    ("messages", "count", "reason", "field"),
    [
        ([message(0, "a")], 0, "INVALID_FIELD", "sequence"),
        ([message(2, "a"), message(2, "b")], 1, "INVALID_FIELD", "sequence"),
        ([message(2, "a"), message(1, "b")], 1, "INVALID_FIELD", "sequence"),
        ([message(1)], 0, "INVALID_FIELD", "mutations"),
        ([message(1, "a", import_id="i" * 129)], 0, "LIMIT_EXCEEDED", "import_id"),
        ([message(1, *(f"n{n}" for n in range(1001)))], 0, "LIMIT_EXCEEDED", "mutations"),
        ([message(1, "a"), message(2, "b c")], 1, "INVALID_FIELD", "mutations[0].put_entity.id"),
    ],
)  # fmt: skip
async def test_malformed_messages(
    stubs: Stubs, messages: list[ImportRequest], count: int, reason: str, field: str
) -> None:
    """Numbers rise, a message has 1 to 1,000 mutations; those before a bad one stay."""
    answers, error = await run(stubs, messages)
    assert len(answers) == count
    assert error is not None
    explained(error, CODE.INVALID_ARGUMENT, reason, field=field)


async def test_a_message_has_4_mib_at_most(stubs: Stubs) -> None:
    """One that is larger is LIMIT_EXCEEDED, and the next import works."""
    large = struct(text="x" * (250 << 10))
    mutations = [Mutation(put_entity=service(f"n{n}", metadata=large)) for n in range(17)]
    answers, error = await run(stubs, [ImportRequest(sequence=1, mutations=mutations)])
    assert not answers
    assert error is not None
    explained(error, CODE.INVALID_ARGUMENT, "LIMIT_EXCEEDED", limit="max_import_bytes")
    answers, error = await run(stubs, [ImportRequest(sequence=1, mutations=mutations[:15])])
    assert error is None
    assert answers[0].created == 15


async def test_an_import_that_is_cancelled_keeps_what_it_acknowledged(stored: Running) -> None:
    """A caller that leaves ends the stream; what was acknowledged is there."""
    stubs = stored.stubs
    call = stubs.registry.Import()
    for number in range(1, 6):
        await call.write(message(number, f"n{number}"))
    for number in range(1, 4):
        assert (await acknowledged(call)).sequence == number
    call.cancel()
    for number in range(1, 4):
        await stubs.entities.GetEntity(GetEntityRequest(id=f"n{number}"))
    await create(stubs, "after")


async def test_imports_do_not_starve_small_writes(stored: Running) -> None:
    """While a large import runs, a small write is committed among its messages."""
    stubs = stored.stubs
    names = [[f"n{batch}-{n}" for n in range(1000)] for batch in range(20)]
    loading = asyncio.create_task(
        run(stubs, [message(number, *batch) for number, batch in enumerate(names, 1)])
    )
    revisions: list[int] = []
    while not loading.done():
        revisions.append((await create(stubs, f"small{len(revisions)}")).revision)
        await asyncio.sleep(0.01)
    answers, error = await loading
    assert error is None
    assert answers[0].revision < answers[-1].revision
    between = [r for r in revisions if r < answers[-1].revision]
    assert len(between) >= 2
    statistics = await stubs.admin.GetStatistics(GetStatisticsRequest())
    assert statistics.entities_by_type["service"] == 20_000 + len(revisions)


async def test_the_client_imports(registry: Running) -> None:
    """The typed client numbers batches and yields their acknowledgements."""
    batches = [[Mutation(put_entity=service(f"n{b}-{n}")) for n in range(50)] for b in range(10)]
    answers = await collect(registry.client.import_batches(batches))
    assert [a.sequence for a in answers] == [*range(1, 11)]
    assert sum(a.created for a in answers) == 500


async def test_export_is_everything_in_order(stored: Running) -> None:
    """All entities, then all relationships, in order of creation, of one revision."""
    stubs = stored.stubs
    built = await build(
        stubs,
        ["b", "a", Entity(id="p", type="plugin", name="p")],
        [
            dependency("b", "a"),
            dependency("a", "p"),
            Relationship(id="x", source_id="p", target_id="p", type="mine"),
        ],
    )
    entities, relationships, revisions = await export(stubs)
    assert entities[-3:] == ["b", "a", "p"]
    assert len(entities) == 11  # with the features
    assert relationships == ["b-a", "a-p", "x"]
    assert revisions == {built.revision}
    # Only entities of these types, and relationships between them.
    assert (await export(stubs, entity_types=["service"]))[:2] == (["b", "a"], ["b-a"])
    only = await export(stubs, entity_types=["service", "plugin"], types=["mine"])
    assert only[:2] == (["b", "a", "p"], ["x"])
    assert await export(stubs, entity_types=["nothing_has_it"], types=["nor_this"]) == (
        [],
        [],
        set(),
    )


async def test_export_of_the_past(stored: Running) -> None:
    """`at_revision` exports what there was."""
    stubs = stored.stubs
    built = await build(stubs, ["a", "b"], [dependency("a", "b")])
    await stubs.entities.DeleteEntity(DeleteEntityRequest(id="a", cascade=True))
    entities, relationships, revisions = await export(stubs, at_revision=built.revision)
    assert (entities[-2:], relationships, revisions) == (["a", "b"], ["a-b"], {built.revision})
    assert (await export(stubs))[1] == []
    future = collect(stubs.registry.Export(ExportRequest(at_revision=99)))
    await refused(future, CODE.OUT_OF_RANGE, "REVISION_IN_FUTURE", revision=99)
    bad = collect(stubs.registry.Export(ExportRequest(types=["9"])))
    await refused(bad, CODE.INVALID_ARGUMENT, "INVALID_FIELD", field="types")
    bad = collect(stubs.registry.Export(ExportRequest(entity_types=["9"])))
    await refused(bad, CODE.INVALID_ARGUMENT, "INVALID_FIELD", field="entity_types")


async def test_export_holds_its_revision_while_writes_go_on(stored: Running) -> None:
    """Parts of about 1 MiB; what is written between two of them does not show."""
    stubs = stored.stubs
    large = struct(text="x" * 5000)
    names = [f"n{number:04}" for number in range(2000)]
    for start in range(0, 2000, 500):
        await build(stubs, [service(name, metadata=large) for name in names[start : start + 500]])
    seen: list[str] = []
    parts = 0
    async for part in stubs.registry.Export(ExportRequest(entity_types=["service"])):
        assert part.ByteSize() < 2 << 20
        assert {entity.version for entity in part.entities} <= {""}
        seen += [entity.id for entity in part.entities]
        await stubs.entities.DeleteEntity(DeleteEntityRequest(id=names[-1 - parts]))
        parts += 1
    assert parts > 5
    assert seen == names
