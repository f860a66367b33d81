"""RelationshipService, one relationship at a time, and its listing."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from nexus_registry.conformance.stubs import Stubs
from ose.registry.v1.relationship_pb2 import HealthCoupling, Relationship
from ose.registry.v1.relationship_service_pb2 import (
    CreateRelationshipRequest,
    DeleteRelationshipRequest,
    GetRelationshipRequest,
    ListRelationshipsRequest,
    UpdateRelationshipRequest,
)
from tests.services.samples import build, create, dependency, struct
from tests.support.refusals import refused
from tests.support.servers import Running

CODE = grpc.StatusCode
SOFT = HealthCoupling.HEALTH_COUPLING_SOFT


async def link(stubs: Stubs, relationship: Relationship, **options: bool) -> Relationship:
    """CreateRelationship."""
    request = CreateRelationshipRequest(relationship=relationship, **options)  # type: ignore[arg-type]
    return await stubs.relationships.CreateRelationship(request)


async def get(stubs: Stubs, id_: str, at_revision: int = 0) -> Relationship:
    """GetRelationship."""
    request = GetRelationshipRequest(id=id_, at_revision=at_revision)
    return await stubs.relationships.GetRelationship(request)


async def update(
    stubs: Stubs, relationship: Relationship, *paths: str, expected_revision: int = 0
) -> Relationship:
    """UpdateRelationship; without paths there is no mask."""
    request = UpdateRelationshipRequest(
        relationship=relationship,
        update_mask=FieldMask(paths=paths) if paths else None,
        expected_revision=expected_revision,
    )
    return await stubs.relationships.UpdateRelationship(request)


async def listed(stubs: Stubs, **fields: object) -> list[str]:
    """The ids of one page of ListRelationships."""
    request = ListRelationshipsRequest(**fields)  # type: ignore[arg-type]
    answer = await stubs.relationships.ListRelationships(request)
    return [relationship.id for relationship in answer.relationships]


async def test_create_answers_the_relationship_as_it_is_stored(stored: Running) -> None:
    """All fields come back; without a weight it is 1, without an id one is made."""
    stubs = stored.stubs
    built = await build(stubs, ["a", "b"])
    wanted = dependency(
        "a", "b", weight=0.0, metadata=struct(k=1), bidirectional=True, version_constraint=">=1,<2",
        health_coupling=SOFT, any_of="some",
    )  # fmt: skip
    made = await link(stubs, wanted)
    assert await get(stubs, "a-b") == made
    assert made.revision == made.create_revision == built.revision + 1
    assert made.created_at == made.updated_at
    for field in ("revision", "create_revision", "created_at", "updated_at"):
        made.ClearField(field)
    assert made == wanted
    plain = await link(stubs, Relationship(source_id="a", target_id="a", type="mine"))
    assert plain.weight == 1.0
    assert len(plain.id) == 36


async def test_ends_must_exist(stubs: Stubs) -> None:
    """ENDPOINT_MISSING says which end."""
    await create(stubs, "a")
    for source, target, field in (("a", "x", "target_id"), ("x", "a", "source_id")):
        await refused(
            link(stubs, dependency(source, target)),
            CODE.FAILED_PRECONDITION,
            "ENDPOINT_MISSING",
            field=field,
            id="x",
        )


async def test_what_is_unique(stubs: Stubs) -> None:
    """The id, and (source, target, type); other types and the other direction are free."""
    await build(stubs, ["a", "b"], [dependency("a", "b")])
    await refused(
        link(stubs, dependency("b", "a", id="a-b")), CODE.ALREADY_EXISTS, "ID_TAKEN", id="a-b"
    )
    await refused(
        link(stubs, dependency("a", "b", id="other")),
        CODE.ALREADY_EXISTS,
        "RELATIONSHIP_TAKEN",
        source_id="a",
        target_id="b",
        type="depends_on",
        id="a-b",
    )
    await link(stubs, dependency("b", "a"))
    await link(stubs, dependency("a", "b", id="other", type="requires"))


@pytest.mark.parametrize(
    ("field", "relationship"),
    [
        ("relationship", None),
        ("relationship.id", dependency("a", "b", id="a/b")),
        ("relationship.source_id", dependency("", "b")),
        ("relationship.target_id", dependency("a", "b c")),
        ("relationship.type", dependency("a", "b", type="")),
        ("relationship.type", dependency("a", "b", type="relationship")),
        ("relationship.weight", dependency("a", "b", weight=-1.0)),
        ("relationship.weight", dependency("a", "b", weight=float("nan"))),
        ("relationship.version_constraint", dependency("a", "b", version_constraint="x" * 1025)),
        ("relationship.metadata.n", dependency("a", "b", metadata=struct(n=float("nan")))),
    ],
)
async def test_malformed_relationships_are_refused(
    stubs: Stubs, field: str, relationship: Relationship | None
) -> None:
    """INVALID_FIELD names the field."""
    request = CreateRelationshipRequest(relationship=relationship)
    call = stubs.relationships.CreateRelationship(request)
    error = await refused(call, CODE.INVALID_ARGUMENT, "INVALID_FIELD")
    assert field in [violation.field for violation in error.field_violations]


async def test_update(stored: Running) -> None:
    """The mask says what changes; ends and type cannot; the same again is no revision."""
    stubs = stored.stubs
    await build(stubs, ["a", "b"], [dependency("a", "b", weight=2.0, version_constraint=">=1")])
    changed = await update(stubs, Relationship(id="a-b", metadata=struct(k=1, l=2)))
    assert (changed.weight, changed.version_constraint) == (2.0, ">=1")
    assert changed.revision == changed.create_revision + 1
    changed = await update(
        stubs, Relationship(id="a-b", bidirectional=True, health_coupling=SOFT),
        "weight", "bidirectional", "versionConstraint", "metadata.k", "healthCoupling",
    )  # fmt: skip
    assert (changed.weight, changed.version_constraint) == (1.0, "")
    assert changed.metadata == struct(l=2)
    assert changed.bidirectional
    assert await update(stubs, Relationship(id="a-b", weight=1.0)) == changed
    for paths, relationship, field in (
        (["source_id"], Relationship(id="a-b", source_id="b"), "update_mask"),
        ([], Relationship(id="a-b", type="requires"), "relationship.type"),
        ([], Relationship(id="a-b", target_id="a"), "relationship.target_id"),
        (["weight"], Relationship(id="a-b", weight=-1), "relationship.weight"),
    ):
        call = update(stubs, relationship, *paths)
        await refused(call, CODE.INVALID_ARGUMENT, "INVALID_FIELD", field=field)
    gone = update(stubs, Relationship(id="x", weight=1))
    await refused(gone, CODE.NOT_FOUND, "RELATIONSHIP_NOT_FOUND", id="x")


async def test_expected_revision(stubs: Stubs) -> None:
    """One that is not current is ABORTED, of updates and deletions."""
    built = await build(stubs, ["a", "b"], [dependency("a", "b")])
    await update(stubs, Relationship(id="a-b", weight=2), expected_revision=built.revision)
    call = update(stubs, Relationship(id="a-b", weight=3), expected_revision=built.revision)
    stale = {"id": "a-b", "expected": built.revision, "actual": built.revision + 1}
    await refused(call, CODE.ABORTED, "REVISION_MISMATCH", **stale)
    request = DeleteRelationshipRequest(id="a-b", expected_revision=built.revision)
    deletion = stubs.relationships.DeleteRelationship(request)
    await refused(deletion, CODE.ABORTED, "REVISION_MISMATCH", **stale)


async def test_delete_dry_run_and_idempotency(stored: Running) -> None:
    """A dry run leaves it; a repeated deletion answers the first one's revision; its ends stay."""
    stubs = stored.stubs
    built = await build(stubs, ["a", "b"], [dependency("a", "b")])
    request = DeleteRelationshipRequest(id="a-b", dry_run=True)
    tried = await stubs.relationships.DeleteRelationship(request)
    assert tried.revision == built.revision
    await get(stubs, "a-b")
    request = DeleteRelationshipRequest(id="a-b", idempotency_key="k")
    done = await stubs.relationships.DeleteRelationship(request)
    assert done.revision == built.revision + 1
    assert await stubs.relationships.DeleteRelationship(request) == done
    again = DeleteRelationshipRequest(id="a-b")
    await refused(
        stubs.relationships.DeleteRelationship(again),
        CODE.NOT_FOUND,
        "RELATIONSHIP_NOT_FOUND",
        id="a-b",
        revision=done.revision,
    )
    assert (await get(stubs, "a-b", built.revision)).source_id == "a"
    await link(stubs, dependency("a", "b"))


async def test_listing_filters(stored: Running) -> None:
    """By types, source, target and either end; all conditions hold; in order of creation."""
    stubs = stored.stubs
    await build(
        stubs,
        ["a", "b", "c"],
        [
            dependency("a", "b"),
            dependency("b", "c"),
            dependency("c", "a", type="requires"),
            dependency("b", "b", type="mine"),
        ],
    )
    assert await listed(stubs) == ["a-b", "b-c", "c-a", "b-b"]
    assert await listed(stubs, types=["requires", "mine"]) == ["c-a", "b-b"]
    assert await listed(stubs, types=["nothing_has_it"]) == []
    assert await listed(stubs, source_id="b") == ["b-c", "b-b"]
    assert await listed(stubs, target_id="b") == ["a-b", "b-b"]
    assert await listed(stubs, entity_id="c") == ["b-c", "c-a"]
    assert await listed(stubs, entity_id="c", source_id="c") == ["c-a"]
    assert await listed(stubs, source_id="nobody") == []
    await update(stubs, Relationship(id="a-b", weight=3))
    assert await listed(stubs) == ["a-b", "b-c", "c-a", "b-b"]


async def test_listing_pages(stored: Running) -> None:
    """Pages joined are the whole, all of one revision, whatever is written meanwhile."""
    stubs = stored.stubs
    names = [f"n{number:02}" for number in range(25)]
    await build(stubs, ["hub", *names], [dependency(name, "hub") for name in names])
    expected = [f"{name}-hub" for name in names]
    seen: list[str] = []
    request = ListRelationshipsRequest(target_id="hub", limit=7)
    revisions = set()
    while True:
        page = await stubs.relationships.ListRelationships(request)
        seen += [relationship.id for relationship in page.relationships]
        revisions.add(page.revision)
        if not page.next_page_token:
            break
        request.page_token = page.next_page_token
        await stubs.relationships.DeleteRelationship(DeleteRelationshipRequest(id=expected[-1]))
        await link(stubs, dependency(names[-1], "hub"))
    assert seen == expected
    assert len(revisions) == 1
    assert await listed(stubs, limit=3, offset=5) == expected[5:8]
    other = ListRelationshipsRequest(source_id="hub", page_token=request.page_token)
    call = stubs.relationships.ListRelationships(other)
    await refused(call, CODE.INVALID_ARGUMENT, "TOKEN_INVALID", field="page_token")
