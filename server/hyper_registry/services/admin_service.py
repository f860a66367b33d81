"""AdminService."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import aclosing

import psutil
from google.protobuf.timestamp_pb2 import Timestamp

from hyper_registry import __version__
from hyper_registry.health.leases import Leases
from hyper_registry.model import times
from hyper_registry.model.entity import Health, Status
from hyper_registry.model.errors import InvalidArgument, TooManyStreams
from hyper_registry.query.audit import AuditQuestion, list_audit_entries
from hyper_registry.query.listing import Window
from hyper_registry.query.problems import Problems
from hyper_registry.registry.engine import Engine, ReadOptions
from hyper_registry.services import parsing
from hyper_registry.services.calls import Answer, Call, Stream, micros
from hyper_registry.store.backup import written
from hyper_registry.watch.hub import WatchStatistics
from ose.registry.v1 import admin_service_pb2 as api

MAX_BACKUPS = 4
"""How many backups may be under way: each has a snapshot of the store open until it is taken."""


class AdminService:
    """Serves `ose.registry.v1.AdminService`. `watching` tells how watching goes."""

    descriptor = api.DESCRIPTOR.services_by_name["AdminService"]

    def __init__(
        self, engine: Engine, watching: Callable[[], WatchStatistics], leases: Leases
    ) -> None:
        self._engine = engine
        self._watching = watching
        self._leases = leases
        self._backups = 0
        self._process = psutil.Process()
        self._started = Timestamp(seconds=int(time.time()))

    async def get_statistics(self, _request: api.GetStatisticsRequest, call: Call) -> Answer:
        """Answers what the registry holds and how it is doing."""
        await self._engine.current(call.remaining())
        engine, view = self._engine, self._engine.view
        counts, generation = view.counts, view.generation
        tables = (generation.entities, generation.relationships)
        watching = self._watching()
        return api.GetStatisticsResponse(
            revision=view.visible,
            compacted_revision=view.floor,
            total_entities=counts.entities_by_type.total(),
            total_relationships=counts.relationships_by_type.total(),
            entities_by_type=+counts.entities_by_type,
            relationships_by_type=+counts.relationships_by_type,
            entities_by_status={
                Status(number).name.lower(): count
                for number, count in (+counts.entities_by_status).items()
            },
            entities_by_health={
                Health(number).name.lower(): count
                for number, count in (+counts.entities_by_health).items()
            },
            versions_held=sum(table.slots.length for table in tables),
            record_bytes=sum(table.arena.length for table in tables),
            store_bytes=await engine.store.size(),
            watchers=watching.watches,
            watch_lag=watching.lag,
            memory_bytes=self._process.memory_info().rss,
            epoch=engine.epoch,
            started_at=self._started,
            server_version=__version__,
            store=engine.store.name,
            leases=len(self._leases),
            held_leases=self._leases.held,
        )

    async def compact(self, request: api.CompactRequest, call: Call) -> Answer:
        """Forgets the past before a revision."""
        floor = await self._floor(request)
        revision = await self._engine.compact(floor, call.actor, call.request_id, call.method)
        return api.CompactResponse(compacted_revision=self._engine.view.floor, revision=revision)

    async def backup(self, _request: api.BackupRequest, _call: Call) -> Stream:
        """Sends everything as one file, of the revision that is current when it begins."""
        if self._backups >= MAX_BACKUPS:
            raise TooManyStreams("max_backups", MAX_BACKUPS)
        self._backups += 1
        try:
            async with (
                aclosing(await self._engine.store.snapshot()) as snapshot,
                aclosing(written(snapshot)) as pieces,
            ):
                async for piece in pieces:
                    yield api.BackupResponse(data=piece, revision=snapshot.head.revision)
        finally:
            self._backups -= 1

    async def list_audit_entries(self, request: api.ListAuditEntriesRequest, call: Call) -> Answer:
        """Lists who changed what, newest first."""
        wrong = Problems()
        with wrong:
            question = _audit_question(request)
        with wrong:
            window = Window.parse(request.limit, 0, request.page_token)
        wrong.check()
        engine, options = self._engine, ReadOptions(min_revision=request.min_revision)
        revision = await engine.read_revision(options, call.remaining())
        page = await list_audit_entries(engine, engine.store, question, window, revision)
        rest = api.ListAuditEntriesResponse(
            revision=page.revision, next_page_token=page.next_page_token
        )
        return page.records + rest.SerializeToString()

    async def _floor(self, request: api.CompactRequest) -> int:
        match request.WhichOneof("keep"):
            case "revision":
                if request.revision < 1:
                    raise InvalidArgument.of("revision", f"1 or more, got {request.revision}")
                return request.revision
            case "age":
                age = request.age.seconds + request.age.nanos / 1e9
                if age < 0:
                    raise InvalidArgument.of("age", "not negative")
                return await self._engine.floor_keeping(age)
            case "time":
                return await self._engine.floor_since(micros("time", request.time))
            case _:
                return await self._engine.retained_floor()


def _audit_question(request: api.ListAuditEntriesRequest) -> AuditQuestion:
    """The conditions of a request. Raises InvalidArgument."""
    if request.resource_id:
        parsing.resource_id("resource_id", request.resource_id)
    start = _moment("start_time", request.start_time) if request.HasField("start_time") else None
    end = _moment("end_time", request.end_time) if request.HasField("end_time") else None
    if start is not None and end is not None and start >= end:
        raise InvalidArgument.of("end_time", f"after start_time, got {times.shown(end)}")
    return AuditQuestion(request.resource_id, request.actor, request.method, start, end)


def _moment(field: str, time: Timestamp) -> int:
    """The first microsecond that is not before a time: commit times have no smaller parts."""
    return micros(field, time) + (time.nanos % 1000 > 0)
