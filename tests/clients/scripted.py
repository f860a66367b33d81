"""A registry that does what a test tells it to: the faults that a real one does not have on demand.

It speaks the real protocol over real sockets. A test gives each method a script, a handler for each
call of it; the last one stays.

    server.on("EntityService/GetEntity", fails(StatusCode.UNAVAILABLE), answers(Entity(id="a")))
"""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_health.v1 import health_pb2
from grpc_status import rpc_status

PACKAGE = "ose.registry.v1"
HEALTH = health_pb2.DESCRIPTOR.package

Context = grpc.aio.ServicerContext[Any, Any]
Unary = Callable[[Any, Context], Awaitable[Message]]
Stream = Callable[[Any, Context], AsyncIterator[Message]]


@dataclass(frozen=True)
class Received:
    """One call that the server got."""

    method: str
    request: Any
    """The request; of a method that takes a stream, nothing."""
    metadata: dict[str, str | bytes]
    seconds_left: float
    """How long the caller waits."""


class ScriptedServer(grpc.GenericRpcHandler):
    """Answers each call by the next handler of its method's script."""

    def __init__(self) -> None:
        self._scripts: dict[str, deque[Unary | Stream]] = {}
        self._server: grpc.aio.Server | None = None
        self.port = 0
        self.received: dict[str, list[Received]] = defaultdict(list)

    @property
    def target(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    def on(self, method: str, *handlers: Unary | Stream) -> None:
        """Sets the script of a method, named `Service/Method`."""
        self._scripts[method] = deque(handlers)

    async def start(self) -> None:
        """Listens, on the port of the time before if there was one."""
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        self._server.add_generic_rpc_handlers([self])
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()

    async def stop(self) -> None:
        """Cuts all connections and listens no more."""
        if self._server is not None:
            await self._server.stop(0)
            self._server = None

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Finds how a method is called, from the descriptors."""
        service, name = details.method.lstrip("/").split("/")
        method = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
        short = f"{service.rpartition('.')[2]}/{name}"
        if short not in self._scripts:
            return None
        make = {
            (False, False): grpc.unary_unary_rpc_method_handler,
            (False, True): grpc.unary_stream_rpc_method_handler,
            (True, True): grpc.stream_stream_rpc_method_handler,
        }[method.client_streaming, method.server_streaming]
        behaviour = self._stream(short) if method.server_streaming else self._unary(short)
        return make(
            behaviour,
            request_deserializer=GetMessageClass(method.input_type).FromString,
            response_serializer=GetMessageClass(method.output_type).SerializeToString,
        )

    def _unary(self, method: str) -> Any:
        async def behaviour(request: Any, context: Context) -> Message:
            handler: Any = self._next(method, request, context)
            answer: Message = await handler(request, context)
            return answer

        return behaviour

    def _stream(self, method: str) -> Any:
        async def behaviour(request: Any, context: Context) -> AsyncIterator[Message]:
            handler: Any = self._next(method, request, context)
            async for message in handler(request, context):
                yield message

        return behaviour

    def _next(self, method: str, request: Any, context: Context) -> Unary | Stream:
        metadata = dict(context.invocation_metadata() or ())
        single = request if isinstance(request, Message) else None
        self.received[method].append(Received(method, single, metadata, context.time_remaining()))
        script = self._scripts[method]
        return script.popleft() if len(script) > 1 else script[0]


def answers(message: Message) -> Unary:
    """A handler that answers this."""

    async def handler(request: Any, context: Context) -> Message:
        return message

    return handler


def fails(
    code: grpc.StatusCode,
    reason: str = "",
    metadata: dict[str, str] | None = None,
    violations: dict[str, str] | None = None,
    domain: str = "registry.ose",
) -> Unary:
    """A handler that fails, with the details that the registry gives."""

    async def handler(request: Any, context: Context) -> Message:
        await refuse(context, code, reason, metadata, violations, domain)
        raise AssertionError("not reached")

    return handler


async def refuse(
    context: Context,
    code: grpc.StatusCode,
    reason: str = "",
    metadata: dict[str, str] | None = None,
    violations: dict[str, str] | None = None,
    domain: str = "registry.ose",
) -> None:
    """Ends a call with an error."""
    details: list[Message] = []
    if reason:
        details.append(ErrorInfo(reason=reason, domain=domain, metadata=metadata or {}))
    if violations:
        fields = [
            BadRequest.FieldViolation(field=field, description=text)
            for field, text in violations.items()
        ]
        details.append(BadRequest(field_violations=fields))
    packed = []
    for detail in details:
        packed.append(AnyMessage())
        packed[-1].Pack(detail)
    status = Status(code=code.value[0], message="as scripted", details=packed)
    await context.abort_with_status(rpc_status.to_status(status))


class Hanging:
    """A handler that never answers."""

    def __init__(self) -> None:
        self.arrived = asyncio.Event()
        self.ended = asyncio.Event()

    async def __call__(self, request: Any, context: Context) -> Message:
        """Waits until the call is cancelled."""
        self.arrived.set()
        try:
            await asyncio.sleep(math.inf)
        finally:
            self.ended.set()
        raise AssertionError("not reached")


def streams(*steps: Message | grpc.StatusCode | str) -> Stream:
    """A handler that sends messages; a status code breaks the stream, "hang" keeps it open."""

    async def handler(request: Any, context: Context) -> AsyncIterator[Message]:
        for step in steps:
            if isinstance(step, grpc.StatusCode):
                await context.abort(step, "as scripted")
            elif isinstance(step, str):
                await asyncio.Event().wait()
            else:
                yield step

    return handler


class Cable:
    """A TCP relay to a server that can be cut: how a connection is lost without a word."""

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._listener: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []
        self._pumps: set[asyncio.Task[None]] = set()
        self.port = 0
        self.connections = 0

    @property
    def target(self) -> str:
        """Where a client connects to."""
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listens."""
        self._listener = await asyncio.start_server(self._connect, "127.0.0.1", self.port)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _connect(self, near: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        far, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        self._writers += [writer, far_writer]
        for source, sink in ((near, far_writer), (far, writer)):
            pump = asyncio.create_task(self._pump(source, sink))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            sink.close()

    def cut(self) -> None:
        """Resets all connections."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def stop(self) -> None:
        """Cuts everything and listens no more."""
        if self._listener is not None:
            self._listener.close()
        self.cut()
        if self._pumps:
            await asyncio.wait(self._pumps)
