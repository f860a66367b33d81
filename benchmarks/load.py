"""The load generator: carries out a plan from standard input in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import pickle
import re
import resource
import statistics
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import uvloop

from benchmarks import embedded, http1, pgwire
from benchmarks.fields import field_of, with_field
from benchmarks.plans import (
    MARK,
    Backlog,
    Calls,
    Embedded,
    Fetch,
    Gets,
    Live,
    Notified,
    Paced,
    Plan,
    Report,
    Statements,
    Stream,
    mark,
)
from benchmarks.wire import Connection

_LARGEST = 16_000
_OVERTIME = 5.0
"""How long calls may take that were made in time; others are late, and not waited for."""
_SETTLING = 1.0
_FRAME = 5
_QUIET = 20.0
_TICKS = os.sysconf("SC_CLK_TCK")
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def _cpu(pids: Sequence[int]) -> float:
    """The processor time that processes have had."""
    total = 0
    for pid in pids:
        values = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(values[11]) + int(values[12])
    return total / _TICKS


class _Meter:
    """Notes time and processor time between `start` and `stop`."""

    def __init__(self, pids: Sequence[int]) -> None:
        self.report = Report()
        self._pids = pids
        self.started_at = 0.0
        self._begun = (0.0, 0.0, 0.0)

    def start(self) -> None:
        self.started_at = time.perf_counter()
        self._begun = (self.started_at, time.process_time(), _cpu(self._pids))

    def stop(self) -> Report:
        at, own, others = self._begun
        report = self.report
        report.seconds = time.perf_counter() - at
        report.own_cpu = time.process_time() - own
        report.server_cpu = _cpu(self._pids) - others
        return report


# Unary calls


class _Caller:
    """Makes one call after the other."""

    def __init__(self, plan: Calls, connection: Connection, requests: Iterator[bytes]) -> None:
        self.done = asyncio.Event()
        self.calls: list[tuple[float, float]] = []
        self.failed = 0
        self._connection = connection
        self._requests = requests
        self._until = time.perf_counter() + plan.warm_up + plan.seconds
        self._begun = 0.0
        self._has_answer = False

    def next(self) -> None:
        self._begun = time.perf_counter()
        request = next(self._requests, None)
        if request is None or self._begun >= self._until:
            self.done.set()
            return
        self._has_answer = False
        self._connection.start(request, self)

    def data(self, chunk: bytes, now: float) -> None:
        self._has_answer = True

    def end(self, now: float) -> None:
        if not self._has_answer:
            self.failed += 1
            self.done.set()
            return
        self.calls.append((self._begun, now))
        self.next()


async def _calls(plan: Calls, meter: _Meter) -> None:
    requests = itertools.cycle(plan.requests) if plan.repeat else iter(plan.requests)
    if max(map(len, plan.requests)) > _LARGEST:
        calls, failed = await _ordinary_calls(plan, requests, meter)
    else:
        connections = [
            await Connection.open(plan.port, plan.path, plan.token) for _ in range(plan.connections)
        ]
        callers = [
            _Caller(plan, connections[number % plan.connections], requests)
            for number in range(plan.in_flight)
        ]
        for caller in callers:
            caller.next()
        await _metered(plan, meter, [caller.done.wait() for caller in callers])
        for connection in connections:
            connection.close()
        calls = [call for caller in callers for call in caller.calls]
        failed = sum(caller.failed for caller in callers)
    _count(calls, failed, meter)


async def _ordinary_calls(
    plan: Calls, requests: Iterator[bytes], meter: _Meter
) -> tuple[list[tuple[float, float]], int]:
    calls: list[tuple[float, float]] = []
    until = time.perf_counter() + plan.warm_up + plan.seconds

    async def work(call: Callable[[bytes], Awaitable[bytes]]) -> None:
        for request in requests:
            begun = time.perf_counter()
            if begun >= until:
                return
            await call(request)
            calls.append((begun, time.perf_counter()))

    async with grpc.aio.insecure_channel(f"127.0.0.1:{plan.port}", options=_OPTIONS) as channel:
        call: Any = channel.unary_unary(plan.path)
        await _metered(plan, meter, [work(call) for _ in range(plan.in_flight)])
    return calls, 0


async def _gets(plan: Gets, meter: _Meter) -> None:
    requests = itertools.cycle(map(http1.get, plan.paths))
    until = time.perf_counter() + plan.warm_up + plan.seconds
    callers = [await http1.Caller.open(plan.port, requests, until) for _ in range(plan.connections)]
    await _metered(plan, meter, [caller.done.wait() for caller in callers])
    failed = sum(caller.failed for caller in callers)
    _count([call for caller in callers for call in caller.calls], failed, meter)


async def _metered(
    plan: Calls | Gets | Statements, meter: _Meter, workers: Sequence[Awaitable[Any]]
) -> None:
    """Waits for workers, and measures what is behind the warm-up."""
    everything = asyncio.gather(*workers)
    if plan.warm_up:
        await asyncio.wait([everything], timeout=plan.warm_up)
    meter.start()
    await asyncio.wait([everything], timeout=plan.seconds)
    meter.stop()
    _, late = await asyncio.wait([everything], timeout=_OVERTIME)
    if late:
        everything.cancel()
        await asyncio.wait([everything])
        with contextlib.suppress(asyncio.CancelledError):
            everything.exception()
        meter.report.is_late = True


def _count(calls: Sequence[tuple[float, float]], failed: int, meter: _Meter) -> None:
    report = meter.report
    first, last = meter.started_at, meter.started_at + report.seconds
    report.latencies = [end - begun for begun, end in calls if first <= end <= last]
    report.count = len(report.latencies)
    report.failed = failed


class _Statement:
    """Carries out one statement after the other, on a connection of its own."""

    def __init__(
        self, connection: pgwire.Connection, parameters: Iterator[tuple[bytes, ...]], until: float
    ) -> None:
        self.done = asyncio.Event()
        self.calls: list[tuple[float, float]] = []
        self.failed = 0
        self._connection = connection
        self._parameters = parameters
        self._until = until
        self._begun = 0.0
        self._has_answer = False

    def next(self) -> None:
        self._begun = time.perf_counter()
        parameters = next(self._parameters, None)
        if parameters is None or self._begun >= self._until:
            self.done.set()
            return
        self._has_answer = False
        self._connection.start(parameters, self)

    def data(self, chunk: bytes, now: float) -> None:
        self._has_answer = True

    def end(self, now: float) -> None:
        if not self._has_answer:
            self.failed += 1
            self.done.set()
            return
        self.calls.append((self._begun, now))
        self.next()


async def _statements(plan: Statements, meter: _Meter) -> None:
    parameters = itertools.cycle(plan.parameters) if plan.repeat else iter(plan.parameters)
    connections = [
        await pgwire.Connection.open(plan.port, plan.user, plan.statement)
        for _ in range(plan.connections)
    ]
    until = time.perf_counter() + plan.warm_up + plan.seconds
    callers = [_Statement(connection, parameters, until) for connection in connections]
    for caller in callers:
        caller.next()
    await _metered(plan, meter, [caller.done.wait() for caller in callers])
    for connection in connections:
        connection.close()
    failed = sum(caller.failed for caller in callers)
    _count([call for caller in callers for call in caller.calls], failed, meter)


# Streams


async def _stream(plan: Stream, meter: _Meter) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{plan.port}", options=_OPTIONS) as channel:
        await channel.channel_ready()
        method: Any = channel.stream_stream(plan.path)
        room = asyncio.Semaphore(len(plan.messages) if plan.one_answer else plan.window)
        meter.start()
        call = method(metadata=_metadata(plan.token))
        sending = asyncio.create_task(_send(call, plan.messages, room))
        answered = 0
        async for _ in call:
            answered += 1
            room.release()
        await sending
        meter.stop()
    meter.report.count = plan.count
    meter.report.failed = (1 if plan.one_answer else len(plan.messages)) - answered


def _metadata(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),) if token else ()


async def _send(call: Any, messages: Sequence[bytes], room: asyncio.Semaphore) -> None:
    for message in messages:
        await room.acquire()
        await call.write(message)
    await call.done_writing()


async def _paced(plan: Paced, meter: _Meter) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{plan.port}", options=_OPTIONS) as channel:
        await channel.channel_ready()
        method: Any = channel.stream_stream(plan.path)
        talks = [_Talk(method()) for _ in range(plan.streams)]
        begun, is_metered = time.perf_counter(), False
        turns = zip(itertools.cycle(talks), itertools.cycle(plan.messages), strict=False)
        for number, (talk, message) in enumerate(turns):
            await asyncio.sleep(begun + number / plan.per_second - time.perf_counter())
            passed = time.perf_counter() - begun
            if not is_metered and passed >= plan.warm_up:
                is_metered = True
                meter.start()
            if passed >= plan.warm_up + plan.seconds:
                break
            await talk.say(message)
        meter.stop()
        for talk in talks:
            await talk.end()
    _count([call for talk in talks for call in talk.calls], sum(t.failed for t in talks), meter)


class _Talk:
    """A bidirectional call whose messages are answered in order."""

    def __init__(self, call: Any) -> None:
        self.calls: list[tuple[float, float]] = []
        self.failed = 0
        self._call = call
        self._waiting: deque[tuple[float, int]] = deque()
        self._listening = asyncio.create_task(self._listen())

    async def say(self, message: bytes) -> None:
        self._waiting.append((time.perf_counter(), len(message)))
        await self._call.write(message)

    async def end(self) -> None:
        await self._call.done_writing()
        await self._listening
        self.failed += len(self._waiting)

    async def _listen(self) -> None:
        async for answer in self._call:
            said, size = self._waiting.popleft()
            self.calls.append((said, time.perf_counter()))
            self.failed += len(answer) != size


class _Pages:
    """Takes one answer after the other, whole."""

    def __init__(self) -> None:
        self.done = asyncio.Event()
        self.ended_at = 0.0
        self._chunks: list[bytes] = []

    def data(self, chunk: bytes, now: float) -> None:
        self._chunks.append(chunk)

    def end(self, now: float) -> None:
        self.ended_at = now
        self.done.set()

    def take(self) -> bytes:
        """The message, without the frame that gRPC puts around it; empty if there was none."""
        chunks, self._chunks = self._chunks, []
        self.done.clear()
        return b"".join(chunks)[_FRAME:]


async def _fetch(plan: Fetch, meter: _Meter) -> None:
    """Fetches once more than is counted: a new connection has to find its windows first."""
    connection = await Connection.open(plan.port, plan.path)
    await _fetch_pages(connection, plan)
    meter.start()
    fetched = [await _fetch_pages(connection, plan) for _ in range(plan.times)]
    meter.stop()
    connection.close()
    meter.report.failed = sum(not received for received, _ in fetched)
    meter.report.latencies = [seconds for _, seconds in fetched]
    meter.report.count = fetched[0][0]
    meter.report.seconds = statistics.median(meter.report.latencies)


async def _fetch_pages(connection: Connection, plan: Fetch) -> tuple[int, float]:
    """How many bytes came, none if there was no answer, and how long that took."""
    pages, request, received, seconds = _Pages(), plan.request, 0, 0.0
    while True:
        begun = time.perf_counter()
        connection.start(request, pages)
        await pages.done.wait()
        seconds += pages.ended_at - begun
        answer = pages.take()
        if not answer:
            return 0, seconds
        received += len(answer)
        # Looking for it by hand takes longer than an ordinary client's parsing: not counted.
        token = field_of(answer, plan.next_field)
        if not token:
            return received, seconds
        request = with_field(plan.request, plan.token_field, token)


# Watching


class _Reader:
    """Reads a watch until a change has come."""

    def __init__(self, last: bytes) -> None:
        self.done = asyncio.Event()
        self.size = 0
        self.failed = False
        self._last = last
        self._tail = b""

    def data(self, chunk: bytes, now: float) -> None:
        self.size += len(chunk)
        if self._last in chunk or self._last in self._tail + chunk[: len(self._last)]:
            self.done.set()
        self._tail = chunk[-len(self._last) :]

    def end(self, now: float) -> None:
        self.failed = not self.done.is_set()
        self.done.set()


async def _connections(plan: Backlog | Live, path: str) -> list[Connection]:
    opening = [Connection.open(plan.port, path, plan.token) for _ in range(plan.connections)]
    return [await connection for connection in opening]


async def _backlog(plan: Backlog, meter: _Meter) -> None:
    connections = await _connections(plan, plan.path)
    # The eight digits, whatever sign is before them.
    readers = [_Reader(mark(plan.last)[1:].encode()) for _ in range(plan.watchers)]
    meter.start()
    for reader, connection in zip(readers, itertools.cycle(connections), strict=False):
        connection.start(plan.request, reader, plan.half_close)
    try:
        async with asyncio.timeout(plan.patience):
            for reader in readers:
                await reader.done.wait()
    except TimeoutError:
        meter.report.is_late = True
    meter.stop()
    for connection in connections:
        connection.close()
    meter.report.count = plan.events * plan.watchers
    meter.report.failed = sum(reader.failed for reader in readers)


class _Follower:
    """Notes when each change came, the first time."""

    def __init__(self) -> None:
        self.seen: dict[int, float] = {}
        self._tail = b""

    def data(self, chunk: bytes, now: float) -> None:
        # The end of the last chunk is shorter than a mark, so none is seen twice.
        for number in re.findall(MARK, self._tail + chunk):
            self.seen.setdefault(int(number), now)
        self._tail = chunk[-8:]

    def end(self, now: float) -> None:
        self.seen[-1] = now


class _Write:
    """Notes when a write was answered."""

    def __init__(self) -> None:
        self.sent_at = time.perf_counter()
        self.answered_at = 0.0

    def data(self, chunk: bytes, now: float) -> None:
        self.answered_at = now

    def end(self, now: float) -> None:
        pass


async def _live(plan: Live, meter: _Meter) -> None:
    connections = await _connections(plan, plan.watch_path)
    followers = [_Follower() for _ in range(plan.watchers)]
    for follower, connection in zip(followers, itertools.cycle(connections), strict=False):
        connection.start(plan.watch_request, follower, plan.half_close)
    await asyncio.sleep(_SETTLING)
    writer = await Connection.open(plan.port, plan.write_path, plan.token)
    meter.start()
    writes = await _write(plan, lambda number, write: writer.start(plan.writes[number], write))
    await _quiet(followers, writes)
    meter.stop()
    for connection in (*connections, writer):
        connection.close()
    _tell_live(followers, writes, meter.report)


async def _notified(plan: Notified, meter: _Meter) -> None:
    followers = [_Follower() for _ in range(plan.watchers)]
    listening = []
    for follower in followers:
        connection = await pgwire.Connection.open(plan.port, plan.user, "SELECT 1")
        await connection.listen(plan.channel, follower.data)
        listening.append(connection)
    writer = await pgwire.Connection.open(plan.port, plan.user, plan.statement)
    await asyncio.sleep(_SETTLING)
    meter.start()
    writes = await _write(plan, lambda number, write: writer.start(plan.writes[number], write))
    await _quiet(followers, writes)
    meter.stop()
    for connection in (*listening, writer):
        connection.close()
    _tell_live(followers, writes, meter.report)


async def _write(plan: Live | Notified, send: Callable[[int, _Write], None]) -> list[_Write]:
    """Makes the writes, at their times."""
    writes: list[_Write] = []
    begun = time.perf_counter()
    for number in range(len(plan.writes)):
        await asyncio.sleep(begun + number / plan.per_second - time.perf_counter())
        writes.append(_Write())
        send(number, writes[-1])
    return writes


async def _quiet(followers: Sequence[_Follower], writes: Sequence[_Write]) -> None:
    """Waits until all have had everything, and all writes an answer, but not for ever."""
    until = time.perf_counter() + _QUIET
    while time.perf_counter() < until:
        has_seen = all(len(follower.seen) >= len(writes) for follower in followers)
        # A watcher may hear of a write before its writer does.
        if has_seen and all(write.answered_at for write in writes):
            return
        await asyncio.sleep(0.01)


def _tell_live(followers: Sequence[_Follower], writes: Sequence[_Write], report: Report) -> None:
    sent = [write.sent_at for write in writes]
    report.latencies = [
        at - sent[number]
        for follower in followers
        for number, at in follower.seen.items()
        if number >= 0
    ]
    report.answers = [write.answered_at - write.sent_at for write in writes]
    report.count = len(report.latencies)
    report.failed = len(followers) * len(writes) - report.count
    report.failed += sum(not write.answered_at for write in writes)


async def _carry_out(plan: Plan, meter: _Meter) -> None:
    match plan:
        case Calls():
            await _calls(plan, meter)
        case Gets():
            await _gets(plan, meter)
        case Stream():
            await _stream(plan, meter)
        case Paced():
            await _paced(plan, meter)
        case Fetch():
            await _fetch(plan, meter)
        case Backlog():
            await _backlog(plan, meter)
        case Live():
            await _live(plan, meter)
        case Statements():
            await _statements(plan, meter)
        case Notified():
            await _notified(plan, meter)
        case Embedded():
            # It is called, not served: nothing else runs in this loop.
            meter.report = embedded.carry_out(plan)


def main() -> None:
    """Reads a plan, carries it out and writes the report."""
    # Both are of the script that started this one.
    plan, pids = pickle.loads(sys.stdin.buffer.read())
    meter = _Meter(pids)
    # A thousand connections are more than many shells allow.
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    uvloop.run(_carry_out(plan, meter))
    sys.stdout.buffer.write(pickle.dumps(meter.report))


if __name__ == "__main__":
    main()
