"""A run: stories of every method, many clients at once, a random graph; then the verdicts.

Everything that a run makes has names in one namespace, and is deleted at its end, also when it is
interrupted.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc

from nexus_registry.conformance.auditing import AuditLog
from nexus_registry.conformance.cleaning import PREFIX, clean
from nexus_registry.conformance.graphs import walks_exactly
from nexus_registry.conformance.history import History
from nexus_registry.conformance.promises import METHODS_LEFT_OUT, NO_COMPACTION, NOT_SEEN, PROMISES
from nexus_registry.conformance.report import Report, Verdict
from nexus_registry.conformance.stories import (
    METHODS,
    Player,
    Revisions,
    Story,
    is_served,
    stories,
    unlike,
)
from nexus_registry.conformance.stubs import InTurn, Stubs
from nexus_registry.conformance.validators import VALIDATORS, judge
from nexus_registry.conformance.workload import Workload, World
from ose.registry.client._errors import from_rpc_error
from ose.registry.v1.admin_service_pb2 import GetStatisticsRequest

__all__ = ["Options", "Suite", "connected"]

_ATTEMPTS = 5
_SHOWN = 5
_Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Options:
    """What to check. `servers` are gRPC targets and `urls` HTTP addresses of one registry."""

    servers: Sequence[str]
    urls: Sequence[str] = ()
    seconds: float = 4.0
    compacts: bool = False
    seed: int = 0
    wait_seconds: float = 10.0


@asynccontextmanager
async def connected(options: Options) -> AsyncIterator[tuple[Stubs, Stubs | None]]:
    """Stubs over gRPC, and over HTTP if there are URLs. Raises TimeoutError without a server."""
    channels = [Stubs(server).channel for server in options.servers]
    over_grpc = Stubs(options.servers[0], InTurn(channels))
    over_http = None
    try:
        async with asyncio.timeout(options.wait_seconds):
            await asyncio.gather(*(channel.channel_ready() for channel in channels))
        if options.urls:
            from nexus_registry.conformance.http_channel import HttpChannel

            over_http = Stubs(options.urls[0], InTurn([HttpChannel(url) for url in options.urls]))
        yield over_grpc, over_http
    finally:
        await over_grpc.aclose()
        if over_http is not None:
            await over_http.aclose()


@dataclass(slots=True)
class _Findings:
    """What the stories said of each method."""

    steps: Counter[str] = field(default_factory=Counter)
    objections: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


class Suite:
    """One run on one registry. `tell` is told what it is doing."""

    def __init__(
        self, options: Options, stubs: Stubs, http: Stubs | None, tell: _Tell = lambda _: None
    ) -> None:
        self._options = options
        self._stubs = stubs
        self._http = http
        self._tell = tell
        self.seed = options.seed or secrets.randbelow(1 << 30)
        self.namespace = f"{PREFIX}{secrets.token_hex(3)}-"

    async def run(self) -> Report:
        """Checks everything; the registry is as before when it answers, or raises."""
        targets = [*self._options.servers, *self._options.urls]
        report = Report(targets, self.namespace, self.seed)
        try:
            await self._check(report)
        finally:
            # Not even an interrupt leaves things behind.
            cleaning = asyncio.ensure_future(clean(self._stubs, self.namespace))
            try:
                report.left_behind = await asyncio.shield(cleaning)
            except asyncio.CancelledError:
                await cleaning
                raise
        return report

    async def _check(self, report: Report) -> None:
        transports = [("gRPC", self._stubs, self._http)]
        if self._http is not None:
            transports.append(("HTTP", self._http, self._stubs))
        findings, broken = _Findings(), defaultdict[str, list[str]](list)
        operations = 0
        for name, stubs, others in transports:
            for story in stories():
                self._tell(f"{name}: {story.title}")
                await self._story(story, stubs, others, findings, name)
            self._tell(f"{name}: many clients at once")
            history = await self._history(stubs, name)
            operations += len(history.operations) + len(history.streams)
            for promise, objections in judge(history).items():
                broken[promise] += [f"{name}: {objection}" for objection in objections]
        self._tell("a random graph")
        asked, wrong = await walks_exactly(self._stubs, f"{self.namespace}g-", self.seed)
        broken["G2"] += wrong
        by = dict.fromkeys(VALIDATORS, f"{operations:,} calls and streams of many clients")
        by["G2"] = f"{asked} questions of a random graph"
        report.promises = [self._verdict(name, by.get(name, ""), broken[name]) for name in PROMISES]
        report.methods = [self._of_method(name, findings) for name in METHODS]

    def _verdict(self, name: str, checked: str, objections: list[str]) -> Verdict:
        missing = [NOT_SEEN.get(name, "")]
        if not self._options.compacts:
            missing.append(NO_COMPACTION.get(name, ""))
        if name == "W8" and not self._options.compacts:
            checked = ""
        more = [f"and {len(objections) - _SHOWN} more"] if len(objections) > _SHOWN else []
        shown = tuple(objections[:_SHOWN] + more)
        left = "; ".join(filter(None, missing))
        return Verdict(name, PROMISES[name], checked, left, shown)

    def _of_method(self, name: str, findings: _Findings) -> Verdict:
        steps, objections = findings.steps[name], tuple(findings.objections[name])
        checked = f"{steps} step{'' if steps == 1 else 's'} of stories" if steps else ""
        if name == "AdminService/Compact" and self._options.compacts:
            checked = "a compaction among many clients"
        missing = "" if checked else METHODS_LEFT_OUT.get(name, "others wrote meanwhile")
        return Verdict(name, "", checked, missing, objections)

    async def _history(self, stubs: Stubs, transport: str) -> History:
        namespace = f"{self.namespace}{transport.lower()}-"
        audit = AuditLog(self._stubs, namespace)
        await audit.open()
        workload = Workload(
            stubs,
            self.seed,
            f"{namespace}run",
            World(namespace),
            audit.begin,
            compacts=self._options.compacts,
            before_compaction=audit.read,
        )
        await workload.run(self._options.seconds)
        await audit.read(workload.known)
        workload.history.log = audit.log()
        return workload.history

    async def _story(
        self, story: Story, stubs: Stubs, others: Stubs | None, findings: _Findings, transport: str
    ) -> None:
        """Plays a story; again, in a namespace of its own, if others wrote meanwhile."""
        for attempt in range(_ATTEMPTS):
            namespace = f"{self.namespace}{transport.lower()}{attempt}-{story.name}-"
            audit = AuditLog(self._stubs, namespace)
            await audit.open()
            revisions = Revisions(audit.begin)
            player = Player(stubs, others, namespace, revisions)
            try:
                steps, objection = await _played(story, player, transport)
            finally:
                player.close()
            if objection is None:
                break
            await audit.read()
            if not audit.others(f"{namespace}story"):
                break
            # Revisions of others are among the story's own: this says nothing of the server.
            objection = None
        findings.steps.update(steps)
        if objection is not None:
            findings.objections[objection[0]].append(objection[1])


async def _played(
    story: Story, player: Player, transport: str
) -> tuple[list[str], tuple[str, str] | None]:
    """The methods of the steps that were as the story says, and the first one that was not."""
    steps: list[str] = []
    streams: dict[str, str] = {}
    for number, step in enumerate(story.steps):
        if step.get("alone") or not is_served(step, transport.lower()):
            continue
        method = step["call"] if "call" in step else streams[step["read"]]
        if "open" in step:
            streams[step["open"]] = method
        where = f"{transport}: {story.name}, step {number}"
        try:
            found = await player.play(step)
        except (TimeoutError, StopAsyncIteration):
            return steps, (method, f"{where}: the stream does not bring what it should")
        except Exception as error:  # noqa: BLE001 - whatever an answer breaks is its objection
            return steps, (method, f"{where}: {type(error).__name__}: {error}")
        if different := unlike(step, found):
            return steps, (method, f"{where}: {'; '.join(different[:3])}")
        steps.append(method)
    return steps, None


async def reachable(stubs: Stubs) -> None:
    """Asks for a sign of life. Raises RegistryError."""
    try:
        await stubs.admin.GetStatistics(GetStatisticsRequest(), timeout=10)
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error
