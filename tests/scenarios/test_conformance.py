"""The conformance suite: kept promises are found kept beside other data, broken ones broken."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from hyper_registry.query.graph import GraphPage
from hyper_registry.registry import health_kernels
from hyper_registry.services import graph_service
from nexus_registry.cli import cli
from nexus_registry.conformance.auditing import AuditLog
from nexus_registry.conformance.graphs import walks_exactly
from nexus_registry.conformance.history import History, Log
from nexus_registry.conformance.promises import PROMISES
from nexus_registry.conformance.report import State
from nexus_registry.conformance.stories import METHODS
from nexus_registry.conformance.suite import Options, Suite, connected
from nexus_registry.conformance.validators import judge
from nexus_registry.conformance.workload import Workload, World
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.entity_service_pb2 import ListEntitiesRequest
from ose.registry.v1.graph_service_pb2 import GraphResponse
from ose.registry.v1.lease_service_pb2 import ListLeasesRequest
from ose.registry.v1.mutation_pb2 import Mutation
from ose.registry.v1.registry_service_pb2 import WriteRequest
from tests.scenarios.test_broken_builds import ignores_expected_revisions
from tests.support.postgres import database_of
from tests.support.servers import Running, serving
from tests.support.store_log import read_log


@asynccontextmanager
async def busy(running: Running) -> AsyncIterator[None]:
    """Other data, and somebody who writes all the time while the block runs."""

    async def put(count: int) -> None:
        entities = [
            Entity(id=id_, type="plugin", name=id_, version=str(count))
            for id_ in ("a", "billing", "shop")
        ]
        mutations = [Mutation(put_entity=entity) for entity in entities]
        await running.stubs.registry.Write(WriteRequest(mutations=mutations))

    async def write() -> None:
        for count in range(1, 1 << 30):
            await put(count)
            await asyncio.sleep(0.5)

    await put(0)
    writing = asyncio.create_task(write())
    try:
        yield
    finally:
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)


async def everything(running: Running) -> tuple[list[str], int]:
    """The ids of all entities, and how many leases there are."""
    listed = await running.stubs.entities.ListEntities(ListEntitiesRequest(limit=1000))
    leases = await running.stubs.leases.ListLeases(ListLeasesRequest())
    return [entity.id for entity in listed.entities], len(leases.leases)


@pytest.mark.parametrize(("store", "replicas"), [("memory", 1), ("sqlite", 1), ("postgresql", 3)])
async def test_a_good_server_keeps_every_promise(
    store: str, replicas: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Beside other data and another writer, over both transports; what was there is as before."""
    asyncio.get_running_loop().set_debug(False)
    is_memory = store == "memory"
    database = database_of(store, tmp_path, request)
    async with AsyncExitStack() as stack:
        all_ = [await stack.enter_async_context(serving(database)) for _ in range(replicas)]
        await stack.enter_async_context(busy(all_[0]))
        before = await everything(all_[0])
        options = Options(
            [one.target for one in all_],
            [one.url for one in all_] if is_memory else [],
            1.0,
            compacts=not is_memory,
        )
        async with connected(options) as (stubs, http):
            report = await Suite(options, stubs, http).run()
        assert await everything(all_[0]) == before
    broken = [o for o in (*report.promises, *report.methods) if o.state is State.BROKEN]
    assert broken == []
    assert report.left_behind == []
    assert {one.name for one in report.promises} == set(PROMISES)
    assert {one.name for one in report.methods} == set(METHODS)
    not_checked = {o.name for o in report.promises if o.state is State.NOT_CHECKED}
    assert not_checked == ({"W8", "W14"} if is_memory else {"W14"})
    unasked = {o.name for o in report.methods if o.state is State.NOT_CHECKED}
    compact = {"AdminService/Compact"} if is_memory else set()
    assert unasked == {"AdminService/Backup", "LeaseService/ExpireHeldLeases"} | compact
    # No promise of which a part cannot be seen is told to be kept.
    partly = {one.name for one in report.promises if one.state is State.PARTLY}
    assert partly == {"C1", "W12", "W13"}


async def test_an_interrupted_run_leaves_nothing_behind() -> None:
    """Cancelled in the middle of a crowd of clients, it deletes what it has made all the same."""
    async with serving() as running:
        before = await everything(running)
        options = Options([running.target], seconds=60.0)
        crowd = asyncio.Event()

        def tell(text: str) -> None:
            if "at once" in text:
                crowd.set()

        async with connected(options) as (stubs, http):
            task = asyncio.create_task(Suite(options, stubs, http, tell).run())
            await crowd.wait()
            async with asyncio.timeout(20):
                while len((await everything(running))[0]) <= len(before[0]) + 10:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert await everything(running) == before


async def test_a_broken_server_is_told_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The command names the promise and the step of a story, and exits with 1; JUnit's form too."""
    asyncio.get_running_loop().set_debug(False)
    ignores_expected_revisions(monkeypatch)
    async with serving() as running:
        arguments = ["conformance", "--server", running.target, "--time", "1s", "--output", "json"]
        arguments += ["--quiet", "--junit", str(tmp_path / "report.xml")]
        result = await asyncio.to_thread(CliRunner().invoke, cli, arguments)
    assert result.exit_code == 1, result.output
    report = json.loads(result.stdout)
    suites = ElementTree.parse(tmp_path / "report.xml").getroot()
    for suite, verdicts in zip(suites, (report["promises"], report["methods"]), strict=True):
        cases = suite.findall("testcase")
        assert [case.attrib["name"].partition(":")[0] for case in cases] == [
            one["name"] for one in verdicts
        ]
        for state, element in (("broken", "failure"), ("not_checked", "skipped")):
            told = [case.find(element) is not None for case in cases]
            assert told == [one["state"] == state for one in verdicts]
        assert int(suite.attrib["tests"]) == len(cases)
        assert int(suite.attrib["failures"]) == len(suite.findall("testcase/failure")) > 0
        assert int(suite.attrib["skipped"]) == len(suite.findall("testcase/skipped"))
    broken = {one["name"] for one in report["promises"] if one["state"] == "broken"}
    assert broken == {"C7"}
    methods = {one["name"] for one in report["methods"] if one["state"] == "broken"}
    assert "EntityService/UpdateEntity" in methods
    assert not report["kept"]


async def crowd(running: Running) -> tuple[History, Log]:
    """What many clients were told, with the log as it is told outside; and the store's own log."""
    asyncio.get_running_loop().set_debug(False)
    audit = AuditLog(running.stubs, "ns-")
    await audit.open()
    workload = Workload(
        running.stubs, 1, "run", World("ns-"), audit.begin, before_compaction=audit.read
    )
    await workload.run(0.8)
    await audit.read()
    workload.history.log = audit.log()
    return workload.history, await read_log(running.server.engine.store)


async def test_derived_health_is_worked_out_as_the_store_has_it() -> None:
    """The log that is made of audit entries is the store's, with what followed for others."""
    async with serving() as running:
        history, stored = await crowd(running)
    told = history.log.revisions
    assert any(change.derived for revision in told.values() for change in revision.changes)
    compared = told.keys() & stored.revisions.keys()
    assert len(compared) > 20
    for number in compared:
        assert changes_of(history.log, number) == changes_of(stored, number)


def changes_of(log: Log, number: int) -> list[tuple[object, ...]]:
    """A revision's changes, but for the ordinals, which are not told outside."""
    changes = log.revisions[number].changes
    return [(c.key, c.action, c.before, c.after, c.derived) for c in changes]


async def test_health_that_follows_from_nothing_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that degrades nobody is found broken, though its log, reads and watches agree."""
    monkeypatch.setattr(health_kernels, "turned", lambda *_: 0)
    async with serving() as running:
        history, _ = await crowd(running)
    assert {"C1", "W3"} <= judge(history).keys()


def test_a_file_is_not_checked(tmp_path: Path) -> None:
    """What is checked is a server; who names a file is told how to serve it."""
    file = tmp_path / "registry.db"
    result = CliRunner().invoke(cli, ["conformance", "--database", str(file)])
    assert result.exit_code == 2
    assert f"nexus-registry serve --database {file}" in " ".join(result.output.split())
    assert not file.exists()


async def test_a_wrong_walk_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """G2: answers that lack a relationship are not those of the naive walk."""
    wire = graph_service._wire

    def lacking(page: GraphPage) -> bytes:
        answer = GraphResponse.FromString(wire(page))
        del answer.edges[-1:]
        return answer.SerializeToString()

    async with serving() as running:
        assert (await walks_exactly(running.stubs, "right-", 1))[1] == []
        monkeypatch.setattr(graph_service, "_wire", lacking)
        assert (await walks_exactly(running.stubs, "wrong-", 1))[1] != []
