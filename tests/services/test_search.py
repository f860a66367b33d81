"""SearchEntities over gRPC: fresh, exact about what it refuses, and of the present."""

from __future__ import annotations

import asyncio
import threading
from unittest.mock import patch

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from hyper_registry.query.search.indexer import Indexer
from nexus_registry.conformance.stubs import Stubs
from ose.registry.client import AsyncRegistryClient, EntityStatus, InvalidArgument, Unavailable
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.relationship_pb2 import Relationship
from ose.registry.v1.search_service_pb2 import SearchEntitiesRequest, SearchEntitiesResponse
from tests.services.samples import build, create, service, struct
from tests.support.refusals import refused
from tests.support.servers import Running, serving

CODE = grpc.StatusCode


async def answer(stubs: Stubs, query: str, **fields: object) -> SearchEntitiesResponse:
    """One answer."""
    request = SearchEntitiesRequest(query=query, **fields)  # type: ignore[arg-type]
    return await stubs.search.SearchEntities(request)


async def ids(stubs: Stubs, query: str, **fields: object) -> list[str]:
    """The ids of one answer."""
    return [entity.id for entity in (await answer(stubs, query, **fields)).entities]


async def test_answer(stored: Running) -> None:
    """Entities as they are stored, and for each in its order why it was found."""
    await build(
        stored.stubs,
        [
            service("web", metadata=struct(description="Shows what Billing computes")),
            service("billing", labels={"team": "billing"}),
        ],
    )
    found = await answer(stored.stubs, "billing")
    assert [entity.id for entity in found.entities] == ["billing", "web"]
    assert found.entities[0] == await stored.client.get_entity("billing")
    assert found.revision == found.entities[0].revision
    first, second = found.matches
    assert first.score > second.score > 0
    assert [highlight.field for highlight in first.highlights] == ["name", "id", "labels.team"]
    [highlight] = second.highlights
    assert highlight.field == "metadata.description"
    [span] = highlight.spans
    assert highlight.text[span.start : span.end] == "Billing"
    assert not found.has_more


async def test_a_search_sees_what_was_written_before(stored: Running) -> None:
    """Created, changed and deleted: each is seen by a search that begins right after it."""
    client, stubs = stored.client, stored.stubs
    for number in range(30):
        entity = await create(stubs, f"fresh{number}", name=f"alpha{number}x")
        found = await answer(stubs, f"alpha{number}x")
        assert [one.id for one in found.entities] == [entity.id]
        assert found.revision >= entity.revision
        entity.name = f"beta{number}x"
        await client.update_entity(entity, ["name"])
        assert await ids(stubs, f"alpha{number}x") == []
        assert await ids(stubs, f"beta{number}x") == [entity.id]
        await client.delete_entity(entity.id)
        assert await ids(stubs, f"beta{number}x") == []
        assert await ids(stubs, f"fresh{number}") == []


async def test_writers_and_searchers_at_once(registry: Running) -> None:
    """However many write and search at once, each finds its own write."""

    async def one(number: int) -> list[str]:
        await create(registry.stubs, f"own-{number}-thing", name=f"owned{number}owned")
        return await ids(registry.stubs, f"owned{number}owned")

    found = await asyncio.gather(*map(one, range(100)))
    assert found == [[f"own-{number}-thing"] for number in range(100)]
    assert len(await ids(registry.stubs, "own thing", limit=1000)) == 100


async def test_changes_that_no_word_tells_of(registry: Running) -> None:
    """What is answered is the entity as it is now, also if its words have stayed the same."""
    entity = await create(registry.stubs, "billing")
    await ids(registry.stubs, "billing")
    changed = await registry.client.update_entity(
        Entity(id="billing", status=EntityStatus.ENTITY_STATUS_DEPRECATED)
    )
    found = await answer(registry.stubs, "billing")
    assert list(found.entities) == [changed]
    assert found.revision == changed.revision > entity.revision


async def test_created_again(registry: Running) -> None:
    """An id that is given again stands for the new entity only."""
    await create(registry.stubs, "a", name="first")
    await ids(registry.stubs, "first")
    await registry.client.delete_entity("a")
    await create(registry.stubs, "a", name="second")
    assert await ids(registry.stubs, "first") == []
    assert await ids(registry.stubs, "second") == ["a"]


async def test_conditions(registry: Running) -> None:
    """Types and the filter must hold too, the filter of a feature by its relationship as well."""
    await build(
        registry.stubs,
        [
            service("one", name="shared one", labels={"tier": "gold"}),
            service("two", name="shared two"),
            Entity(id="three", type="plugin", name="shared three"),
        ],
        [Relationship(source_id="two", target_id="ai-ml", type="belongs_to")],
    )
    search = registry.stubs
    assert await ids(search, "shared") == ["three", "two", "one"]
    assert await ids(search, "shared", entity_types=["service"]) == ["two", "one"]
    assert await ids(search, "shared", entity_types=["plugin", "none"]) == ["three"]
    assert await ids(search, "shared", entity_types=["none"]) == []
    assert await ids(search, "shared", filter="labels.tier = gold") == ["one"]
    assert await ids(search, "shared", filter="feature = ai-ml") == ["two"]
    assert await ids(search, "shared", filter="NOT labels.tier = gold") == ["three", "two"]
    both = {"filter": "labels.tier = gold", "entity_types": ["plugin"]}
    assert await ids(search, "shared", **both) == []


async def test_pages(registry: Running) -> None:
    """Pages by offset are one answer cut in pieces, and only the last says that nothing follows."""
    await build(registry.stubs, [service(f"s{number:03d}", name=f"paged {number}")
                                 for number in range(125)])  # fmt: skip
    everything = await answer(registry.stubs, "paged", limit=1000)
    assert len(everything.entities) == 125
    assert len((await answer(registry.stubs, "paged")).entities) == 50
    pages = [
        await answer(registry.stubs, "paged", limit=25, offset=offset)
        for offset in range(0, 150, 25)
    ]
    assert [e for page in pages for e in page.entities] == list(everything.entities)
    assert [m for page in pages for m in page.matches] == list(everything.matches)
    assert [page.has_more for page in pages] == [True] * 4 + [False] * 2


async def test_min_revision(registry: Running) -> None:
    """A search waits for a revision to come, and says so if it does not."""
    entity = await create(registry.stubs, "now")
    later = asyncio.create_task(answer(registry.stubs, "later", min_revision=entity.revision + 1))
    await asyncio.sleep(0)
    await create(registry.stubs, "later")
    found = await later
    assert found.revision >= entity.revision + 1
    assert [one.id for one in found.entities] == ["later"]
    request = SearchEntitiesRequest(query="now", min_revision=1000)
    await refused(
        registry.stubs.search.SearchEntities(request, timeout=1.0),
        CODE.DEADLINE_EXCEEDED, "REVISION_NOT_REACHED", min_revision=1000,
    )  # fmt: skip
    assert await ids(registry.stubs, "now", stale_ok=True) == ["now"]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({}, "query"),
        ({"query": " *()\" "}, "query"),
        ({"query": "a", "at_revision": 1}, "at_revision"),
        ({"query": "a", "at_revision": -1}, "at_revision"),
        ({"query": "a", "at_time": Timestamp(seconds=1)}, "at_time"),
        ({"query": "a", "min_revision": -1}, "min_revision"),
        ({"query": "a", "limit": -1}, "limit"),
        ({"query": "a", "limit": 1001}, "limit"),
        ({"query": "a", "offset": -1}, "offset"),
        ({"query": "a", "offset": 10_001}, "offset"),
        ({"query": "a", "entity_types": ["no type"]}, "entity_types"),
    ],
)  # fmt: skip
async def test_malformed(registry: Running, fields: dict[str, object], named: str) -> None:
    """What is malformed is refused, with its field."""
    request = SearchEntitiesRequest(**fields)  # type: ignore[arg-type]
    call = registry.stubs.search.SearchEntities(request)
    await refused(call, CODE.INVALID_ARGUMENT, "INVALID_FIELD", field=named)


async def test_limits(registry: Running) -> None:
    """What passes a limit is refused, with the limit; so is a filter that is wrong."""
    for fields, limit in (
        ({"query": "a" * 1025}, "max_query_characters"),
        ({"query": "a " * 33}, "max_query_words"),
        ({"query": "a", "entity_types": ["t"] * 101}, "max_types"),
    ):
        call = registry.stubs.search.SearchEntities(SearchEntitiesRequest(**fields))
        await refused(call, CODE.INVALID_ARGUMENT, "LIMIT_EXCEEDED", limit=limit)
    wrong = registry.stubs.search.SearchEntities(SearchEntitiesRequest(query="a", filter="type ="))
    await refused(wrong, CODE.INVALID_ARGUMENT, "FILTER_INVALID", field="filter")


async def test_after_a_restart(tmp_path_factory: pytest.TempPathFactory) -> None:
    """A restarted server answers the same, in the same order, dead versions in its log or not."""
    database = tmp_path_factory.mktemp("search") / "registry.db"
    async with serving(database) as running:
        await build(running.stubs, [service(f"s{n}", name=f"thing {n}") for n in range(20)])
        for number in range(0, 20, 3):
            await running.client.delete_entity(f"s{number}")
        await running.client.update_entity(Entity(id="s1", name="thing renamed twice"))
        before = await answer(running.stubs, "thing")
    async with serving(database) as running:
        assert await answer(running.stubs, "thing") == before


async def test_while_the_index_is_made() -> None:
    """The server serves before the index is there; a search waits, and says why it gives up."""
    advance, may_go_on = Indexer.advance, threading.Event()

    def held(self: Indexer, *arguments: object) -> object:
        may_go_on.wait()
        return advance(self, *arguments)  # type: ignore[arg-type]

    with patch.object(Indexer, "advance", held):
        async with serving() as running:
            try:
                await running.client.get_entity("ai-ml")
                request = SearchEntitiesRequest(query="learning")
                error = await refused(
                    running.stubs.search.SearchEntities(request, timeout=1.0),
                    CODE.UNAVAILABLE, "NOT_SERVING",
                )  # fmt: skip
                assert "search index" in error.message
                waiting = asyncio.create_task(ids(running.stubs, "learning"))
                await asyncio.sleep(0)
            finally:
                may_go_on.set()
            assert "ai-ml" in await waiting


async def test_at_the_end() -> None:
    """A search that waits when the server stops is told so, and does not hold it up."""
    advance, may_go_on = Indexer.advance, threading.Event()

    def held(self: Indexer, *arguments: object) -> object:
        may_go_on.wait()
        return advance(self, *arguments)  # type: ignore[arg-type]

    with patch.object(Indexer, "advance", held):
        async with serving(grace_seconds=20.0) as running:
            request = SearchEntitiesRequest(query="learning")
            call = asyncio.ensure_future(
                refused(
                    running.stubs.search.SearchEntities(request), CODE.UNAVAILABLE, "NOT_SERVING"
                )
            )
            await running.client.get_entity("ai-ml")
            with patch("hyper_registry.app._LAST_WORDS_SECONDS", 0.0):
                closing = asyncio.create_task(running.server.aclose())
                try:
                    await call
                finally:
                    may_go_on.set()
                await closing


async def test_a_broken_index_is_made_anew() -> None:
    """An error in the index is logged, and searches get their answer from a new one."""
    advance, broken = Indexer.advance, iter([True])

    def breaks(self: Indexer, *arguments: object) -> object:
        if next(broken, False):
            raise ValueError("broken on purpose")
        return advance(self, *arguments)  # type: ignore[arg-type]

    with (
        patch.object(Indexer, "advance", breaks),
        patch("hyper_registry.query.search.follower._RETRY_SECONDS", 0.0),
    ):
        async with serving() as running:
            assert "ai-ml" in await ids(running.stubs, "learning")


async def test_client(registry: Running) -> None:
    """The client answers entities with their matches, and raises its own errors."""
    client: AsyncRegistryClient = registry.client
    await build(
        registry.stubs, [service(f"s{number}", name=f"thing {number}") for number in range(3)]
    )
    found = await client.search("thing", entity_types="service", limit=2)
    assert [entity.id for entity, _ in found] == ["s2", "s1"]
    assert all(match.highlights[0].field == "name" for _, match in found)
    assert (len(found), found.has_more) == (2, True)
    assert len(await client.search("thing", offset=2, filter="type = service")) == 1
    with pytest.raises(InvalidArgument):
        await client.search("")
    assert not issubclass(InvalidArgument, Unavailable)
