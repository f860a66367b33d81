"""EntityService: create, get, update, delete and batch-get, one entity at a time."""

from __future__ import annotations

import re

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from hyper_registry.model.rules import MAX_METADATA_DEPTH
from nexus_registry.conformance.stubs import Stubs
from ose.registry.client import EntityStatus, HealthStatus
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.entity_service_pb2 import (
    BatchGetEntitiesRequest,
    CreateEntityRequest,
    DeleteEntityRequest,
    GetEntityRequest,
    UpdateEntityRequest,
)
from ose.registry.v1.relationship_service_pb2 import GetRelationshipRequest
from tests.services.samples import GENESIS, build, create, dependency, service, struct
from tests.support.refusals import refused
from tests.support.servers import Running

CODE = grpc.StatusCode


async def get(stubs: Stubs, id_: str, **options: int) -> Entity:
    """GetEntity."""
    return await stubs.entities.GetEntity(GetEntityRequest(id=id_, **options))  # type: ignore[arg-type]


async def update(stubs: Stubs, entity: Entity, *paths: str, **options: int) -> Entity:
    """UpdateEntity; without paths there is no mask."""
    mask = FieldMask(paths=paths) if paths else None
    request = UpdateEntityRequest(entity=entity, update_mask=mask, **options)  # type: ignore[arg-type]
    return await stubs.entities.UpdateEntity(request)


async def test_create_answers_the_entity_as_it_is_stored(stored: Running) -> None:
    """All fields come back, with defaults, times and revisions, and Get answers the same."""
    wanted = Entity(
        id="billing:eu",
        type="service",
        name="Billing",
        version="1.2.0",
        metadata=struct(owner="payments", ports=[80, 443], nested={"deep": True}, nothing=None),
        labels={"tier": "1", "example.org/team": ""},
        status=EntityStatus.ENTITY_STATUS_PENDING,
        health=HealthStatus.HEALTH_STATUS_DEGRADED,
        regions=["eu", "us"],
    )
    made = await stored.stubs.entities.CreateEntity(CreateEntityRequest(entity=wanted))
    assert await get(stored.stubs, "billing:eu") == made
    assert made.revision == made.create_revision == GENESIS + 1
    assert made.health_revision == made.revision
    assert made.reported_health == made.health
    assert made.created_at == made.updated_at
    for field in (
        "revision", "create_revision", "created_at", "updated_at", "reported_health",
        "health_revision",
    ):  # fmt: skip
        made.ClearField(field)
    assert made == wanted


async def test_create_fills_in_what_is_left_out(stubs: Stubs) -> None:
    """No id: a UUIDv7. No status, health or regions: active, healthy, local."""
    made = await stubs.entities.CreateEntity(
        CreateEntityRequest(entity=Entity(type="widget", name="w"))
    )
    assert re.fullmatch(
        r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", made.id
    )
    assert made.status == EntityStatus.ENTITY_STATUS_ACTIVE
    assert made.health == HealthStatus.HEALTH_STATUS_HEALTHY
    assert made.regions == ["local"]
    assert made.version == ""


async def test_create_ignores_output_only_fields(stubs: Stubs) -> None:
    """What a caller says of revisions and times is not taken over."""
    wanted = service("a", revision=900, create_revision=900)
    wanted.created_at.FromSeconds(1)
    made = await stubs.entities.CreateEntity(CreateEntityRequest(entity=wanted))
    assert made.revision == made.create_revision == GENESIS + 1
    assert made.created_at.seconds > 1_000_000_000


async def test_ids_and_names_are_unique(stubs: Stubs) -> None:
    """A taken id is ID_TAKEN; a taken (type, name, version) is NAME_TAKEN and says by whom."""
    await create(stubs, "a", version="1")
    again = CreateEntityRequest(entity=service("a", name="other"))
    await refused(stubs.entities.CreateEntity(again), CODE.ALREADY_EXISTS, "ID_TAKEN", id="a")
    same_name = CreateEntityRequest(entity=service("b", name="a", version="1"))
    await refused(
        stubs.entities.CreateEntity(same_name),
        CODE.ALREADY_EXISTS,
        "NAME_TAKEN",
        type="service",
        name="a",
        version="1",
        id="a",
    )
    # Another version, and no version, are other entities.
    await create(stubs, "b", name="a", version="2")
    await create(stubs, "c", name="a")


@pytest.mark.parametrize(
    ("field", "entity"),
    [
        ("entity", None),
        ("entity.id", service("a/b")),
        ("entity.id", service("a b")),
        ("entity.id", service("x" * 256)),
        ("entity.type", service("a", type="")),
        ("entity.type", service("a", type="9lives")),
        ("entity.type", service("a", type="relationship")),
        ("entity.name", service("a", name="")),
        ("entity.name", service("a", name="line\nbreak")),
        ("entity.version", service("a", version="v" * 256)),
        ("entity.labels", service("a", labels={"-x": "1"})),
        ("entity.labels.k", service("a", labels={"k": "v" * 256})),
        ("entity.regions", service("a", regions=["eu", "eu"])),
        ("entity.regions", service("a", regions=[""])),
        ("entity.status", service("a", status=99)),
        ("entity.health", service("a", health=99)),
        ("entity.metadata.n", service("a", metadata=struct(n=float("inf")))),
    ],
)  # fmt: skip
async def test_malformed_entities_are_refused(
    stubs: Stubs, field: str, entity: Entity | None
) -> None:
    """INVALID_FIELD names the field."""
    call = stubs.entities.CreateEntity(CreateEntityRequest(entity=entity))
    error = await refused(call, CODE.INVALID_ARGUMENT, "INVALID_FIELD", field=field)
    assert field in [violation.field for violation in error.field_violations]


async def test_every_malformed_field_is_named(stubs: Stubs) -> None:
    """One answer tells all that is wrong."""
    entity = Entity(id="a b", type="9", labels={"": "x"})
    call = stubs.entities.CreateEntity(CreateEntityRequest(entity=entity))
    error = await refused(call, CODE.INVALID_ARGUMENT, "INVALID_FIELD")
    assert {violation.field for violation in error.field_violations} == {
        "entity.id", "entity.type", "entity.name", "entity.labels",
    }  # fmt: skip


async def test_limits_of_metadata_and_labels(stubs: Stubs) -> None:
    """Metadata of 256 KiB, of the documented depth, and 64 labels are the most there may be."""
    await create(stubs, "labels", labels={f"k{n}": "v" for n in range(64)})
    await create(stubs, "large", metadata=struct(text="x" * (255 << 10)))
    deep: dict[str, object] = {"end": 1}
    for _ in range(MAX_METADATA_DEPTH - 2):
        deep = {"d": deep}
    await create(stubs, "deep", metadata=struct(**deep))
    for entity in (
        service("x", labels={f"k{n}": "v" for n in range(65)}),
        service("x", metadata=struct(text="x" * (257 << 10))),
        service("x", metadata=struct(d={"d": deep})),
    ):
        call = stubs.entities.CreateEntity(CreateEntityRequest(entity=entity))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is CODE.INVALID_ARGUMENT


async def test_get_of_nothing(stubs: Stubs) -> None:
    """NOT_FOUND tells the id and the revision that was looked at; a bad id is malformed."""
    request = GetEntityRequest(id="nobody")
    await refused(
        stubs.entities.GetEntity(request),
        CODE.NOT_FOUND,
        "ENTITY_NOT_FOUND",
        id="nobody",
        revision=GENESIS,
    )
    for id_ in ("", "a/b"):
        call = stubs.entities.GetEntity(GetEntityRequest(id=id_))
        await refused(call, CODE.INVALID_ARGUMENT, "INVALID_FIELD", field="id")


async def test_update_changes_what_the_mask_names(stored: Running) -> None:
    """Named fields are replaced, emptied or get their default; the others stay."""
    stubs = stored.stubs
    await create(
        stubs, "a", version="1", labels={"x": "1", "y": "2"}, metadata=struct(k=1, l=2),
        status=EntityStatus.ENTITY_STATUS_PENDING, regions=["eu"],
    )  # fmt: skip
    changed = await update(
        stubs,
        Entity(id="a", name="ignored", version="2", labels={"x": "9", "z": "3"}),
        "version",
        "labels.x",
        "labels.y",
        "status",
    )
    assert (changed.name, changed.version) == ("a", "2")
    # A key that is named and not set is gone; one that is not named stays as it is not.
    assert changed.labels == {"x": "9"}
    assert changed.status == EntityStatus.ENTITY_STATUS_ACTIVE
    assert changed.regions == ["eu"]
    assert changed.revision == changed.create_revision + 1
    assert changed.updated_at.ToNanoseconds() > changed.created_at.ToNanoseconds()
    changed = await update(stubs, Entity(id="a", metadata=struct(k=5)), "metadata.k")
    assert changed.metadata == struct(k=5, l=2)
    changed = await update(stubs, Entity(id="a", metadata=struct(m=1)), "metadata")
    assert changed.metadata == struct(m=1)
    changed = await update(stubs, Entity(id="a"), "labels", "metadata")
    assert not changed.labels
    assert not changed.metadata.fields


async def test_update_without_a_mask(stubs: Stubs) -> None:
    """The fields that are set are changed."""
    await create(stubs, "a", version="1", labels={"x": "1"})
    changed = await update(stubs, Entity(id="a", version="2"))
    assert (changed.name, changed.version, dict(changed.labels)) == ("a", "2", {"x": "1"})


async def test_update_of_everything(stubs: Stubs) -> None:
    """`*` replaces all that can be; id and type stay."""
    await create(stubs, "a", version="1", labels={"x": "1"}, regions=["eu"])
    changed = await update(stubs, Entity(id="a", type="service", name="b"), "*")
    assert (changed.id, changed.type, changed.name) == ("a", "service", "b")
    assert (changed.version, len(changed.labels), [*changed.regions]) == ("", 0, ["local"])


async def test_update_takes_camel_case_and_output_only_paths(stubs: Stubs) -> None:
    """Masks as JSON writes them are taken, and what is output only is passed over."""
    await create(stubs, "a")
    changed = await update(stubs, Entity(id="a", name="b"), "name", "updatedAt", "create_revision")
    assert changed.name == "b"


async def test_update_to_the_same_is_no_revision(stubs: Stubs) -> None:
    """A change of nothing answers the entity with the revision that it has."""
    made = await create(stubs, "a", version="1")
    assert await update(stubs, Entity(id="a", version="1")) == made
    assert (await create(stubs, "b")).revision == made.revision + 1


@pytest.mark.parametrize(
    ("paths", "entity", "field"),
    [
        (["colour"], Entity(id="a"), "update_mask"),
        (["name.x"], Entity(id="a"), "update_mask"),
        (["labels."], Entity(id="a"), "update_mask"),
        (["name"], Entity(id="a"), "entity.name"),
        (["type"], Entity(id="a", type="plugin"), "update_mask"),
        ([], Entity(id="a", type="plugin"), "entity.type"),
        ([], Entity(name="a"), "entity.id"),
    ],
)
async def test_updates_that_are_refused(
    stubs: Stubs, paths: list[str], entity: Entity, field: str
) -> None:
    """Unknown paths, malformed values and another type are INVALID_FIELD."""
    await create(stubs, "a")
    call = update(stubs, entity, *paths)
    await refused(call, CODE.INVALID_ARGUMENT, "INVALID_FIELD", field=field)


async def test_update_of_nothing_and_to_a_taken_name(stubs: Stubs) -> None:
    """NOT_FOUND without the entity, NAME_TAKEN where another has the name."""
    await create(stubs, "a")
    await create(stubs, "b")
    await refused(update(stubs, Entity(id="c", name="x")), CODE.NOT_FOUND, "ENTITY_NOT_FOUND")
    call = update(stubs, Entity(id="b", name="a"))
    await refused(call, CODE.ALREADY_EXISTS, "NAME_TAKEN", id="a")


async def test_expected_revision_of_updates_and_deletions(stored: Running) -> None:
    """The current revision is taken, any other one is ABORTED and told both."""
    stubs = stored.stubs
    made = await create(stubs, "a")
    changed = await update(stubs, Entity(id="a", version="2"), expected_revision=made.revision)
    stale = {"expected": made.revision, "actual": changed.revision, "id": "a"}
    call = update(stubs, Entity(id="a", version="3"), expected_revision=made.revision)
    await refused(call, CODE.ABORTED, "REVISION_MISMATCH", **stale)
    request = DeleteEntityRequest(id="a", expected_revision=made.revision)
    await refused(stubs.entities.DeleteEntity(request), CODE.ABORTED, "REVISION_MISMATCH", **stale)
    assert await get(stubs, "a") == changed
    request.expected_revision = changed.revision
    await stubs.entities.DeleteEntity(request)
    request.expected_revision = -1
    deletion = stubs.entities.DeleteEntity(request)
    await refused(deletion, CODE.INVALID_ARGUMENT, "INVALID_FIELD", field="expected_revision")


async def test_delete(stored: Running) -> None:
    """It is gone, its past stays, its id and name are free, and a new life has a new beginning."""
    stubs = stored.stubs
    made = await create(stubs, "a")
    answer = await stubs.entities.DeleteEntity(DeleteEntityRequest(id="a"))
    assert (answer.revision, len(answer.relationships)) == (made.revision + 1, 0)
    await refused(get(stubs, "a"), CODE.NOT_FOUND, "ENTITY_NOT_FOUND", revision=answer.revision)
    await refused(
        stubs.entities.DeleteEntity(DeleteEntityRequest(id="a")), CODE.NOT_FOUND, "ENTITY_NOT_FOUND"
    )
    again = await create(stubs, "a")
    assert again.create_revision == answer.revision + 1
    assert await get(stubs, "a", at_revision=made.revision) == made
    gone = get(stubs, "a", at_revision=answer.revision)
    await refused(gone, CODE.NOT_FOUND, "ENTITY_NOT_FOUND", revision=answer.revision)


async def test_delete_with_relationships(stored: Running) -> None:
    """Refused with the count; with `cascade` they go with it, in one revision, and are listed."""
    stubs = stored.stubs
    edges = [dependency("a", "b"), dependency("c", "a"), dependency("b", "c"), dependency("a", "a")]
    built = await build(stubs, ["a", "b", "c"], edges)
    request = DeleteEntityRequest(id="a")
    call = stubs.entities.DeleteEntity(request)
    await refused(call, CODE.FAILED_PRECONDITION, "HAS_RELATIONSHIPS", id="a", count=3)
    request.cascade = request.dry_run = True
    tried = await stubs.entities.DeleteEntity(request)
    assert sorted(tried.relationships) == ["a-a", "a-b", "c-a"]
    assert tried.revision == built.revision
    request.dry_run = False
    done = await stubs.entities.DeleteEntity(request)
    assert done.relationships == tried.relationships
    assert done.revision == built.revision + 1
    for id_ in done.relationships:
        lookup = stubs.relationships.GetRelationship(GetRelationshipRequest(id=id_))
        await refused(lookup, CODE.NOT_FOUND, "RELATIONSHIP_NOT_FOUND", revision=done.revision)
    await stubs.relationships.GetRelationship(GetRelationshipRequest(id="b-c"))


async def test_large_cascades_need_a_word(stubs: Stubs) -> None:
    """More than 10,000 relationships go only with `allow_large`."""
    names = [f"n{number}" for number in range(10_001)]
    await build(stubs, ["hub", *names], [dependency(name, "hub") for name in names])
    request = DeleteEntityRequest(id="hub", cascade=True)
    call = stubs.entities.DeleteEntity(request)
    await refused(
        call, CODE.FAILED_PRECONDITION, "CASCADE_TOO_LARGE", id="hub", count=10_001, maximum=10_000
    )
    request.allow_large = True
    assert len((await stubs.entities.DeleteEntity(request)).relationships) == 10_001


async def test_dry_runs_write_nothing(stubs: Stubs) -> None:
    """They answer, or refuse, as the real thing would, and leave no trace."""
    made = await create(stubs, "a")
    tried = await stubs.entities.CreateEntity(
        CreateEntityRequest(entity=service("b"), dry_run=True, idempotency_key="k")
    )
    assert tried.id == "b"
    await refused(get(stubs, "b"), CODE.NOT_FOUND, "ENTITY_NOT_FOUND", revision=made.revision)
    changed = await stubs.entities.UpdateEntity(
        UpdateEntityRequest(entity=Entity(id="a", version="7"), dry_run=True)
    )
    assert changed.version == "7"
    assert await get(stubs, "a") == made
    await stubs.entities.DeleteEntity(DeleteEntityRequest(id="a", dry_run=True))
    assert await get(stubs, "a") == made
    taken = CreateEntityRequest(entity=service("a"), dry_run=True)
    await refused(stubs.entities.CreateEntity(taken), CODE.ALREADY_EXISTS, "ID_TAKEN")
    # Its key was not used up.
    real = CreateEntityRequest(entity=service("b", version="other"), idempotency_key="k")
    assert (await stubs.entities.CreateEntity(real)).revision == made.revision + 1


async def test_idempotency_keys(stored: Running) -> None:
    """Repeated with the same body the first answer comes again; with another it is refused."""
    stubs = stored.stubs
    request = CreateEntityRequest(entity=Entity(type="service", name="a"), idempotency_key="k")
    made = await stubs.entities.CreateEntity(request)
    await update(stubs, Entity(id=made.id, version="2"))
    assert await stubs.entities.CreateEntity(request) == made
    other = CreateEntityRequest(entity=Entity(type="service", name="b"), idempotency_key="k")
    call = stubs.entities.CreateEntity(other)
    await refused(
        call, CODE.ALREADY_EXISTS, "IDEMPOTENCY_KEY_REUSED", idempotency_key="k",
        revision=made.revision,
    )  # fmt: skip
    # A key belongs to its method.
    deletion = DeleteEntityRequest(id=made.id, idempotency_key="k")
    deleted = await stubs.entities.DeleteEntity(deletion)
    assert await stubs.entities.DeleteEntity(deletion) == deleted
    # Only successes are kept: a refusal may turn out otherwise later.
    missing = UpdateEntityRequest(entity=Entity(id="x", version="1"), idempotency_key="later")
    await refused(stubs.entities.UpdateEntity(missing), CODE.NOT_FOUND, "ENTITY_NOT_FOUND")
    await create(stubs, "x")
    assert (await stubs.entities.UpdateEntity(missing)).version == "1"
    long = CreateEntityRequest(entity=service("y"), idempotency_key="k" * 256)
    call = stubs.entities.CreateEntity(long)
    await refused(call, CODE.INVALID_ARGUMENT, "INVALID_FIELD", field="idempotency_key")


async def test_batch_get(stored: Running) -> None:
    """Entities in the order that was asked for, what is missing apart, all of one revision."""
    stubs = stored.stubs
    built = await build(stubs, ["a", "b", "c"])
    await update(stubs, Entity(id="b", version="2"))
    request = BatchGetEntitiesRequest(ids=["c", "nobody", "a", "b", "ai-ml", "none"])
    answer = await stubs.entities.BatchGetEntities(request)
    assert [entity.id for entity in answer.entities] == ["c", "a", "b", "ai-ml"]
    assert answer.missing_ids == ["nobody", "none"]
    assert answer.revision == built.revision + 1
    request.at_revision = built.revision
    answer = await stubs.entities.BatchGetEntities(request)
    assert answer.revision == built.revision
    assert answer.entities[2].version == ""


async def test_batch_get_limits(stubs: Stubs) -> None:
    """1 to 1,000 ids, each well-formed."""
    most = await stubs.entities.BatchGetEntities(
        BatchGetEntitiesRequest(ids=[f"x{n}" for n in range(1000)])
    )
    assert len(most.missing_ids) == 1000
    for ids, reason, field in (
        ([], "INVALID_FIELD", "ids"),
        (["x"] * 1001, "LIMIT_EXCEEDED", "ids"),
        (["a", "b/c"], "INVALID_FIELD", "ids[1]"),
    ):
        call = stubs.entities.BatchGetEntities(BatchGetEntitiesRequest(ids=ids))
        await refused(call, CODE.INVALID_ARGUMENT, reason, field=field)
