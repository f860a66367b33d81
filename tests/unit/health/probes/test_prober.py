"""Probes of real servers on this machine, on a clock that the test sets."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from grpc_health.v1 import health_pb2
from hypothesis import given, settings
from hypothesis import strategies as st

from hyper_registry.health.probes.addresses import Allowed
from hyper_registry.health.probes.asking import MAX_BODY_BYTES
from hyper_registry.health.probes.prober import MOST_AT_ONCE, Prober, Status
from hyper_registry.health.probes.resolving import look_up
from hyper_registry.model.entity import Entity, Health
from hyper_registry.model.errors import StoreUnavailable
from hyper_registry.model.revision import Position
from hyper_registry.registry.codec import decode_entity, pack
from hyper_registry.registry.engine import Engine
from hyper_registry.registry.mutations import DeleteEntity, UpdateEntity, WriteRequest
from hyper_registry.store.memory import MemoryStore
from tests.services.samples import struct
from tests.support.targets import endless, free_port, grpc_target, http_target, silent
from tests.support.waiting import eventually
from tests.watch.world import create, revision_of

CODE = health_pb2.HealthCheckResponse
LOOPBACK = "127.0.0.0/8"


class World:
    """A registry with a prober whose time the test sets."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.time = 1000.0
        self.prober: Prober

    async def write(self, *mutations: object) -> None:
        """Writes all of it as one revision, and waits until the prober knows of it."""
        request = WriteRequest(mutations, revision_of, "Write")  # type: ignore[arg-type]
        revision = int(await self.engine.committer.submit(request))
        await self.prober.reached(revision, 10)

    async def service(self, id_: str, port: int, **probe: Any) -> None:
        """Creates a mesh service that is to be probed; at once, if the test does not say else."""
        quick = {"type": "http", "host": "127.0.0.1", "healthy_threshold": 1}
        probe = quick | {"unhealthy_threshold": 1} | probe
        metadata = pack(struct(mesh={"port": port}, probe=probe))
        await self.write(create(id_, metadata=metadata))

    async def rounds(self, count: int = 1, seconds: float = 10) -> None:
        """Lets so many intervals pass, and every probe of them end."""
        for _ in range(count):
            self.time += seconds
            self.prober.tick()
            await self.prober.idle()
            await self.prober.reached(self.engine.view.visible, 10)

    def status(self, id_: str = "s") -> Status:
        """How a service stands."""
        return {one.id: one for one in self.prober.statuses()}[id_]

    def came_to(self, id_: str = "s") -> tuple[str, str]:
        """State and latest outcome of a service."""
        return self.status(id_).state, self.status(id_).outcome

    def health(self, id_: str = "s") -> Health:
        """What an entity's health is."""
        record = self.engine.view.entity(id_, self.engine.view.visible)
        assert record is not None
        return Health(decode_entity(record).health)


@asynccontextmanager
async def world(*allowed: str, lookup: Any = look_up) -> AsyncIterator[World]:
    """A registry that may probe these networks."""
    engine = Engine(MemoryStore())
    await engine.start()
    made = World(engine)
    # In the middle of what chance may do: in the middle of the interval, and after all of one.
    made.prober = Prober(engine, Allowed(allowed), lookup, lambda: made.time, lambda: 0.5)
    # Only the following: ticks are the test's.
    super(Prober, made.prober).start()
    await made.prober.reached(engine.view.visible, 10)
    try:
        yield made
    finally:
        await made.prober.aclose()
        await engine.aclose()


# What is asked, and how it is understood


async def test_http() -> None:
    """A status that is expected is a success; the request says who asks, and for which path."""
    async with world(LOOPBACK) as w, http_target() as target:
        await w.service("s", target.port, path="/healthz?deep=1")
        await w.rounds()
        assert w.came_to() == ("healthy", "success")
        [request] = target.requests
        first, *headers = request.split("\r\n")
        assert first == "GET /healthz?deep=1 HTTP/1.1"
        assert f"Host: 127.0.0.1:{target.port}" in headers
        assert any(line.startswith("User-Agent: universal-registry-probe/") for line in headers)
        target.answer = b"HTTP/1.1 503 Down\r\nContent-Length: 0\r\n\r\n"
        await w.rounds()
        assert w.came_to() == ("unhealthy", "failure")
        assert w.status().detail == "status 503 is not expected"
        assert w.health() == Health.UNHEALTHY


async def test_statuses_that_are_expected() -> None:
    """They are those that were named, and no others."""
    async with (
        world(LOOPBACK) as w,
        http_target(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n") as target,
    ):
        await w.service("s", target.port, expected_status=[204, "400-403"])
        await w.rounds()
        assert w.came_to() == ("healthy", "success")
        target.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        await w.rounds()
        assert w.came_to() == ("unhealthy", "failure")


async def test_a_redirect_is_not_followed() -> None:
    """Where it leads to hears nothing; it counts as the status that it is."""
    async with http_target() as other:
        location = f"http://127.0.0.1:{other.port}/"
        answer = f"HTTP/1.1 302 Found\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
        async with world(LOOPBACK) as w, http_target(answer.encode()) as target:
            await w.service("s", target.port)
            await w.service("redirecting", target.port, expected_status=[302])
            await w.rounds()
            assert w.came_to() == ("unhealthy", "failure")
            assert w.came_to("redirecting") == ("healthy", "success")
        assert other.requests == []


async def test_a_huge_body_is_not_read() -> None:
    """A body without end is left after its beginning, and the status counts."""
    answer = b"HTTP/1.1 200 OK\r\n\r\n"
    async with world(LOOPBACK) as w, http_target(answer, endless) as target:
        await w.service("s", target.port)
        await w.rounds()
        assert w.came_to() == ("healthy", "success")
        # What lies in the buffers of the system and of the libraries has been sent too.
        assert target.sent < MAX_BODY_BYTES + (16 << 20)


async def test_endless_headers_are_a_failure() -> None:
    """They are given up after some; nothing of them is told."""
    answer = b"HTTP/1.1 200 OK\r\nX: "
    async with world(LOOPBACK) as w, http_target(answer, endless) as target:
        await w.service("s", target.port)
        await w.rounds()
        assert w.came_to() == ("unhealthy", "failure")
        assert "xxx" not in w.status().detail


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"],
    ids=["nothing", "half a head", "half a body"],
)
async def test_a_slow_server_is_given_up(answer: bytes) -> None:
    """The whole exchange has the time that `timeout` gives it, wherever the server stops."""
    async with world(LOOPBACK) as w, http_target(answer, silent) as target:
        await w.service("s", target.port, timeout="50ms")
        began = time.monotonic()
        await w.rounds()
        assert time.monotonic() - began < 5
        assert w.came_to() == ("unhealthy", "timeout")
        assert w.status().detail == "no answer within 0.05 s"


async def test_what_is_not_http_is_a_failure() -> None:
    """And what was sent instead is not told: it may be nobody's business."""
    async with world(LOOPBACK) as w, http_target(b"220 secret.example ESMTP\r\n") as target:
        await w.service("s", target.port)
        await w.rounds()
        assert w.came_to() == ("unhealthy", "failure")
        assert w.status().detail == "the answer is not HTTP, or breaks off"


@pytest.mark.parametrize("type_", ["http", "tcp"])
async def test_nobody_listens(type_: str) -> None:
    """That is a failure, and the system's word for it is told."""
    async with world(LOOPBACK) as w:
        await w.service("s", free_port(), type=type_)
        await w.rounds()
        assert w.came_to() == ("unhealthy", "failure")
        assert w.status().detail == "Connection refused"


async def test_tcp() -> None:
    """That somebody takes the connection is enough; nothing is sent."""
    async with world(LOOPBACK) as w, http_target() as target:
        await w.service("s", target.port, type="tcp")
        await w.rounds()
        assert w.came_to() == ("healthy", "success")
        await eventually(lambda: target.requests == [""])


async def test_grpc() -> None:
    """What the standard health service says of a service, SERVING being well."""
    async with world(LOOPBACK) as w, grpc_target() as (port, servicer):
        await servicer.set("a.B", CODE.SERVING)
        await w.service("s", port, type="grpc", service="a.B")
        await w.service("other", port, type="grpc", service="c.D")
        await w.service("nobody", free_port(), type="grpc")
        await w.rounds()
        assert w.came_to() == ("healthy", "success")
        assert w.came_to("other") == ("unhealthy", "failure")
        assert w.status("other").detail == "gRPC status NOT_FOUND"
        assert w.status("nobody").detail == "gRPC status UNAVAILABLE"
        await servicer.set("a.B", CODE.NOT_SERVING)
        await w.rounds()
        assert w.came_to() == ("unhealthy", "failure")
        assert w.status().detail == "NOT_SERVING"


async def test_grpc_that_does_not_answer() -> None:
    """A server that takes the connection and says nothing is given up in time."""
    async with world(LOOPBACK) as w, http_target(b"", silent) as target:
        await w.service("s", target.port, type="grpc", timeout="100ms")
        await w.rounds()
        assert w.came_to() == ("unhealthy", "timeout")


# Where to


async def test_what_is_not_allowed_is_refused() -> None:
    """Nothing is sent, nothing is reported, and the service's state says what to allow."""
    async with world("10.0.0.0/8", "0.0.0.0/0") as w, http_target() as target:
        await w.service("s", target.port)
        await w.service("cloud", 80, host="169.254.169.254")
        before = w.engine.view.visible
        await w.rounds(3)
        assert w.came_to() == ("refused", "refused")
        assert "--probe-allow 127.0.0.0/8" in w.status().detail
        assert w.came_to("cloud") == ("refused", "refused")
        assert target.requests == []
        assert w.engine.view.visible == before
        assert w.prober.outcomes["refused"] == 6


async def test_the_address_that_was_judged_is_connected_to() -> None:
    """A name that is another address a moment later leads nowhere else; it is judged anew."""
    answers = iter([["127.0.0.1"], ["169.254.169.254"], ["127.0.0.1"]])
    asked: list[str] = []

    def rebinding(host: str) -> Sequence[str]:
        asked.append(host)
        return next(answers)

    async with world(LOOPBACK, lookup=rebinding) as w, http_target() as target:
        await w.service("s", target.port, host="rebind.test")
        await w.rounds()
        assert w.came_to() == ("healthy", "success")
        assert asked == ["rebind.test"]
        assert f"Host: rebind.test:{target.port}" in target.requests[0]
        await w.rounds()
        assert w.came_to() == ("refused", "refused")
        assert w.status().address == "169.254.169.254"
        await w.rounds()
        assert w.came_to() == ("healthy", "success")
        assert (len(asked), len(target.requests)) == (3, 2)


@pytest.mark.parametrize("type_", ["http", "tcp", "grpc"])
async def test_no_kind_of_probe_looks_up_the_name_again(type_: str) -> None:
    """The name exists nowhere but in this look-up, and the probe reaches its server."""
    async with (
        world(LOOPBACK, lookup=lambda _: ["::ffff:127.0.0.1"]) as w,
        http_target() as http,
        grpc_target() as (port, servicer),
    ):
        await servicer.set("", CODE.SERVING)
        await w.service("s", port if type_ == "grpc" else http.port, type=type_, host="no.invalid")
        await w.rounds()
        assert w.came_to() == ("healthy", "success")
        assert w.status().address == "127.0.0.1"


async def test_the_first_address_that_is_allowed() -> None:
    """A name with several addresses is probed at the first of them that may be."""
    addresses = ["169.254.169.254", "10.0.0.1", "127.0.0.1"]
    async with world(LOOPBACK, lookup=lambda _: addresses) as w, http_target() as target:
        await w.service("s", target.port, host="many.test")
        # So often that a look-up that never ended would be missed.
        await w.rounds(20)
        assert w.came_to() == ("healthy", "success")
        assert w.prober.outcomes["success"] == 20


async def test_a_name_without_an_address() -> None:
    """That is a failure: nobody can reach the service by it."""

    def lookup(host: str) -> list[str]:
        if host == "wrong.test":
            raise OSError("no such name")
        return []

    async with world(LOOPBACK, lookup=lookup) as w:
        await w.service("s", 80, host="wrong.test")
        await w.service("empty", 80, host="empty.test")
        await w.rounds()
        assert w.status().detail == "wrong.test has no address"
        assert w.status("empty").detail == "empty.test has no address"
        assert w.came_to("empty") == ("unhealthy", "failure")


async def test_a_resolver_that_hangs_holds_up_nobody() -> None:
    """Who asked it is timed out; others are probed meanwhile."""
    release = threading.Event()

    def lookup(_host: str) -> list[str]:
        release.wait(30)
        return ["127.0.0.1"]

    async with world(LOOPBACK, lookup=lookup) as w, http_target() as target:
        try:
            for number in range(3):
                host = f"slow{number}.test"
                await w.service(f"slow{number}", target.port, host=host, timeout="50ms")
            await w.service("s", target.port)
            await w.rounds()
            assert w.came_to() == ("healthy", "success")
            assert w.came_to("slow0") == ("unhealthy", "timeout")
        finally:
            release.set()


# What is made of it


async def test_health_changes_when_the_damped_state_does() -> None:
    """Three failures in a row, then two successes; results between them write nothing."""
    async with world(LOOPBACK) as w, http_target() as target:
        well, ill = target.answer, b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
        await w.service("s", target.port, healthy_threshold=2, unhealthy_threshold=3)
        before = w.engine.view.visible
        found = []
        for answer in (well, well, ill, ill, well, ill, ill, ill, ill, well, ill, well, well):
            target.answer = answer
            await w.rounds()
            found.append((w.status().state, w.health()))
        pending, healthy = ("pending", Health.HEALTHY), ("healthy", Health.HEALTHY)
        unhealthy = ("unhealthy", Health.UNHEALTHY)
        assert found == [pending] + [healthy] * 6 + [unhealthy] * 5 + [healthy]
        assert w.engine.view.visible == before + 2


@settings(max_examples=15, deadline=None)
@given(st.lists(st.booleans(), max_size=12), st.integers(1, 3), st.integers(1, 3))
async def test_reports_are_as_a_naive_reading_of_the_results(
    results: list[bool], healthy: int, unhealthy: int
) -> None:
    """Whatever the servers say: health is what the last long enough run of results says."""
    async with world(LOOPBACK) as w, http_target() as target:
        await w.service("s", target.port, healthy_threshold=healthy, unhealthy_threshold=unhealthy)
        expected, run = Health.HEALTHY, list[bool]()
        for result in results:
            status = b"200" if result else b"500"
            target.answer = b"HTTP/1.1 " + status + b" X\r\nContent-Length: 0\r\n\r\n"
            await w.rounds()
            run = [*run, result] if not run or run[-1] is result else [result]
            if len(run) >= (healthy if result else unhealthy):
                expected = Health.HEALTHY if result else Health.UNHEALTHY
            assert w.health() == expected


async def test_a_report_is_in_the_log_as_the_probers() -> None:
    """Who made it, and by which method, is told as of any other change."""
    async with world(LOOPBACK) as w:
        await w.service("s", free_port())
        await w.rounds()
        after = Position(w.engine.view.visible - 1)
        [(commit, _)] = await w.engine.store.read_log(after, 10, 1 << 20)
        assert (commit.method, commit.actor) == ("Probe", "prober")


async def test_a_service_that_answers_may_be_degraded() -> None:
    """A probe that succeeds does not see more than that: what somebody reported stays."""
    async with world(LOOPBACK) as w, http_target() as target:
        await w.service("s", target.port)
        degraded = UpdateEntity(
            Entity("s", "", "", reported_health=Health.DEGRADED), ("reported_health",)
        )
        await w.write(degraded)
        await w.rounds()
        assert (w.status().state, w.health()) == ("healthy", Health.DEGRADED)


async def test_what_others_report_stays_until_the_next_change() -> None:
    """A probe that says what it said before writes nothing, whatever was reported meanwhile."""
    async with world(LOOPBACK) as w, http_target() as target:
        await w.service("s", target.port)
        await w.rounds()
        await w.write(
            UpdateEntity(
                Entity("s", "", "", reported_health=Health.UNHEALTHY), ("reported_health",)
            )
        )
        await w.rounds(3)
        assert (w.status().state, w.health()) == ("healthy", Health.UNHEALTHY)
        target.answer = b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"
        await w.rounds()
        target.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        await w.rounds()
        assert (w.status().state, w.health()) == ("healthy", Health.HEALTHY)


async def test_a_report_that_failed_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that cannot be written costs the report one interval, and is not lost."""
    async with world(LOOPBACK) as w:
        await w.service("s", free_port())
        submit = w.engine.committer.submit

        async def fail(_request: WriteRequest) -> bytes:
            raise StoreUnavailable

        monkeypatch.setattr(w.engine.committer, "submit", fail)
        await w.rounds()
        assert (w.status().state, w.health()) == ("unhealthy", Health.HEALTHY)
        monkeypatch.setattr(w.engine.committer, "submit", submit)
        await w.rounds()
        assert w.health() == Health.UNHEALTHY


# Who is probed when


async def test_each_in_its_interval() -> None:
    """A service is probed once in each interval, whatever others are."""
    async with world(LOOPBACK) as w, http_target() as often, http_target() as seldom:
        await w.service("often", often.port, interval="5s")
        await w.service("seldom", seldom.port, interval="60s")
        await w.rounds(120, 1)
        assert (len(often.requests), len(seldom.requests)) == (24, 2)


async def test_what_is_malformed_is_told_and_breaks_nothing() -> None:
    """It stands in the list with its mistakes; the others are probed. It may be mended."""
    async with world(LOOPBACK) as w, http_target() as target:
        await w.service("bad", target.port, type="icmp")
        await w.service("s", target.port)
        await w.rounds()
        assert w.came_to() == ("healthy", "success")
        assert w.status("bad").state == "malformed"
        [mistake] = w.status("bad").mistakes
        assert mistake.startswith("metadata.probe.type: ")
        assert w.prober.states() == {
            "pending": 0, "healthy": 1, "unhealthy": 0, "refused": 0, "malformed": 1,
        }  # fmt: skip
        metadata = pack(struct(mesh={"port": target.port}, probe={"type": "tcp", "host": "[::1]"}))
        await w.write(UpdateEntity(Entity("bad", "", "", metadata=metadata), ("metadata",)))
        await w.rounds()
        assert w.status("bad").state == "refused"


async def test_what_is_gone_is_not_probed() -> None:
    """Neither a service that was deleted, nor one that says nothing of probes any more."""
    async with world(LOOPBACK) as w, http_target() as target:
        await w.service("deleted", target.port)
        await w.service("quiet", target.port)
        await w.write(DeleteEntity("deleted"))
        await w.write(UpdateEntity(Entity("quiet", "", "", metadata=b""), ("metadata",)))
        await w.rounds(3)
        assert target.requests == []
        assert w.prober.statuses() == []


async def test_a_service_that_goes_while_it_is_probed() -> None:
    """Nothing is written of it, nor of one whose probe was taken away, and nothing breaks."""
    async with world(LOOPBACK) as w, http_target(b"", silent) as target:
        await w.service("s", target.port, timeout="500ms")
        await w.service("quiet", target.port, timeout="500ms")
        w.time += 10
        w.prober.tick()
        await eventually(lambda: len(target.requests) == 2)
        await w.write(
            DeleteEntity("s"), UpdateEntity(Entity("quiet", "", "", metadata=b""), ("metadata",))
        )
        before = w.engine.view.visible
        await w.prober.idle()
        assert w.engine.view.visible == before


async def test_results_go_on_when_something_else_changes() -> None:
    """A change that leaves the probe as it is does not begin the counting anew; another does."""
    async with world(LOOPBACK) as w:
        await w.service("s", free_port(), unhealthy_threshold=3)
        await w.rounds(2)
        await w.write(UpdateEntity(Entity("s", "", "renamed"), ("name",)))
        assert (w.status().streak, w.status().name) == (2, "renamed")
        await w.rounds()
        assert w.health() == Health.UNHEALTHY
        await w.service("t", free_port(), unhealthy_threshold=3)
        await w.rounds(2)
        probe = {"type": "tcp", "host": "127.0.0.1"}
        metadata = pack(struct(mesh={"port": free_port()}, probe=probe))
        await w.write(UpdateEntity(Entity("t", "", "", metadata=metadata), ("metadata",)))
        assert w.status("t").streak == 0


async def test_so_many_at_once() -> None:
    """Slow services take what room there is; the others wait for it, and get it."""
    async with world(LOOPBACK) as w, http_target(b"", silent) as target:
        count = MOST_AT_ONCE + 6
        for number in range(count):
            await w.service(f"s{number}", target.port, timeout="800ms", interval="60s")
        w.time += 30
        w.prober.tick()
        await eventually(lambda: len(target.requests) == MOST_AT_ONCE)
        w.prober.tick()
        await asyncio.sleep(0.05)
        assert len(target.requests) == MOST_AT_ONCE
        await w.prober.idle()
        assert len(target.requests) == count


async def test_a_server_that_stood_still_says_nothing_of_others() -> None:
    """A probe whose end nobody could see is not held against the service."""
    async with world(LOOPBACK) as w, http_target(b"", silent) as target:
        await w.service("s", target.port, timeout="500ms")
        w.time += 10
        w.prober.tick()
        await eventually(lambda: bool(target.requests))
        w.time += 60
        await w.prober.idle()
        assert w.came_to() == ("pending", "stalled")
        assert w.health() == Health.HEALTHY


async def test_the_end_waits_for_nobody() -> None:
    """Probes that are under way are given up."""
    async with world(LOOPBACK) as w, http_target(b"", silent) as target:
        await w.service("s", target.port, timeout="60s", interval="60s")
        w.time += 60
        w.prober.tick()
        await eventually(lambda: bool(target.requests))
        began = time.monotonic()
        await w.prober.aclose()
        assert time.monotonic() - began < 5
