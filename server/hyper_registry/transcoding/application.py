"""The ASGI application that serves the API: finds the call that a request means, and makes it.

It runs on the loop of the HTTP server. Requests are read and answers written there; the methods
run on the registry's loop, but for those that only look something up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog
from google.protobuf.message import Message
from starlette.types import Receive, Scope, Send

from hyper_registry.interceptors.errors import code_name
from hyper_registry.model.errors import InvalidArgument, PreconditionFailed
from hyper_registry.services.calls import Answer, Call
from hyper_registry.services.methods import Door, Method, look, require
from hyper_registry.transcoding import headers as said
from hyper_registry.transcoding.bindings import Binding
from hyper_registry.transcoding.bodies import Body, ClientGone, has_body
from hyper_registry.transcoding.bridge import Bridge, Pipe, Remote
from hyper_registry.transcoding.encoders import StreamEncoder, encoder
from hyper_registry.transcoding.exchange import Exchange
from hyper_registry.transcoding.offloading import LARGE_BYTES, in_thread_if, size_of
from hyper_registry.transcoding.replies import ETAG, Reply, ReplyWriter, failure, refusal
from hyper_registry.transcoding.requests import (
    EXPECTED_REVISION,
    IDEMPOTENCY_KEY,
    RESUME_TOKEN,
    RequestReader,
)
from hyper_registry.transcoding.routes import Captures, Routes
from hyper_registry.transcoding.waiting import Guard

DEFAULT_SECONDS: Final = 60.0
"""How long a call that is no stream may take if its caller says nothing."""

EXPOSED_HEADERS: Final = (
    "ETag", "Link", "Registry-Revision", "Retry-After", "X-Next-Page-Token", "X-Request-Id",
)  # fmt: skip
"""The headers of responses that scripts of other origins need to see."""

_TRANSPORT = "http"
_AHEAD_BYTES = 1 << 20
# Many clients read nothing until they have sent everything: acknowledgements wait for them.
_ACKNOWLEDGED_BYTES = 16 << 20
# How long a stream may take to fail with a status of its own, before it is begun without a word.
_FIRST_SECONDS = 0.2
_HEARTBEAT_SECONDS = 15.0

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Served:
    """A binding, and what is made once to serve it."""

    binding: Binding
    reader: RequestReader
    writer: ReplyWriter


class Transcoder:
    """Serves the methods of services that have an HTTP annotation.

    `generation` is that of the view (see `methods.look`), `max_bytes` is how large a request's body
    is at most. With `looks`, methods that only look at the view are called on HTTP's own loop.
    Raises TemplateError for two bindings that cannot be told from each other.
    """

    def __init__(
        self,
        bindings: Iterable[Binding],
        bridge: Bridge,
        door: Door,
        generation: Callable[[], object],
        max_bytes: int,
        *,
        looks: bool = True,
    ) -> None:
        self._looks = looks
        self._bridge = bridge
        self._door = door
        self._generation = generation
        self._max_bytes = max_bytes
        self._routes: Routes[_Served] = Routes()
        for binding in bindings:
            served = _Served(binding, RequestReader(binding), ReplyWriter(binding))
            self._routes.add(binding.http_method, binding.template, served)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        exchange = Exchange(scope, receive, send)
        try:
            if exchange.method == "OPTIONS" and (allowed := self._routes.allowed(exchange.path)):
                await exchange.reply(Reply(204, headers=[(b"allow", ", ".join(allowed).encode())]))
                return
            served, captures = self._routes.find(exchange.method, exchange.path)
            call = _call(exchange, served.binding.method)
        except Exception as error:  # noqa: BLE001 - the caller gets a status for everything
            await exchange.reply(refusal(error, exchange.path, exchange.request_id))
            return
        streams = served.binding.method.descriptor.server_streaming
        telemetry, headers = self._door.telemetry, exchange.all_headers
        with telemetry.serving(call, _TRANSPORT, headers, streams=streams) as measured:
            await self._answer(exchange, served, captures, call)
            measured.code = exchange.code

    async def _answer(
        self, exchange: Exchange, served: _Served, captures: Captures, call: Call
    ) -> None:
        method = served.binding.method
        try:
            require(self._door.ready)
            if method.descriptor.server_streaming:
                await self._serve_stream(exchange, served, captures, call)
            else:
                await exchange.reply(await self._serve(exchange, served, captures, call))
        except ClientGone:
            exchange.code = "CANCELLED"
        except Exception as error:  # noqa: BLE001 - the caller gets a status for everything
            exchange.code = code_name(error)
            has_condition = b"if-match" in exchange.headers
            await exchange.reply(refusal(error, method.name, exchange.request_id, has_condition))

    # Calls with one answer

    async def _serve(
        self, exchange: Exchange, served: _Served, captures: Captures, call: Call
    ) -> Reply:
        request = await self._read(exchange, served, captures)
        method = served.binding.method
        may_look = self._looks and method.is_look
        answer = look(method, request, call, self._generation) if may_look else None
        if answer is None:
            answer = await self._ask(exchange, lambda: method.behaviour(request, call), call)
        write = partial(served.writer.write, answer, exchange.path, exchange.query)
        size = size_of(answer)
        reply = write() if size <= LARGE_BYTES else await asyncio.to_thread(write)
        return _conditional(exchange, reply) if exchange.is_safe else reply

    async def _read(self, exchange: Exchange, served: _Served, captures: Captures) -> Message:
        read = served.reader.read
        if has_body(exchange.headers):
            body = await Body(exchange.headers, exchange.receive, self._max_bytes).whole()
            request = await in_thread_if(len(body), read, captures, exchange.query, body)
        else:
            request = read(captures, exchange.query, b"")
        _read_headers(exchange, served, request)
        return request

    async def _ask(
        self, exchange: Exchange, work: Callable[[], Awaitable[Answer]], call: Call
    ) -> Answer:
        remote = self._bridge.call(work)

        def give_up(error: Exception) -> None:
            if not remote.outcome.done():
                remote.outcome.set_exception(error)

        guard = Guard(give_up, exchange.receive, _left(call))
        guard.listen()
        try:
            return await remote.outcome
        finally:
            guard.close()
            remote.cancel()

    # Streams

    async def _serve_stream(
        self, exchange: Exchange, served: _Served, captures: Captures, call: Call
    ) -> None:
        form = encoder(exchange.header(b"accept"), served.writer)
        if exchange.method == "HEAD":
            await exchange.reply(Reply(200, headers=list(form.headers)))
            return
        method = served.binding.method
        if method.descriptor.client_streaming:
            body = Body(exchange.headers, exchange.receive, self._max_bytes, has_lines=True)
            requests: Pipe[Message] = self._bridge.upload(_AHEAD_BYTES)
            answers = self._bridge.download(_ACKNOWLEDGED_BYTES)
            remote = stream_into(
                answers, self._bridge, lambda: method.behaviour(requests.each(), call)
            )
            guard = Guard(answers.fail, exchange.receive, _left(call))
            sending = asyncio.create_task(_upload(body, served.reader, requests, guard))
        else:
            request = await self._read(exchange, served, captures)
            answers = self._bridge.download(_AHEAD_BYTES)
            remote = stream_into(answers, self._bridge, lambda: method.behaviour(request, call))
            guard, sending = Guard(answers.fail, exchange.receive, _left(call)), None
            guard.listen()
        try:
            await _send_stream(exchange, answers, form, call)
        finally:
            guard.close()
            remote.cancel()
            if sending is not None:
                sending.cancel()


def _call(exchange: Exchange, method: Method) -> Call:
    """The call that a request is. Raises InvalidArgument for a timeout that is none."""
    seconds = said.timeout(exchange.headers)
    if seconds is None and not method.descriptor.server_streaming:
        seconds = DEFAULT_SECONDS
    return Call(
        method.name,
        request_id=exchange.request_id,
        deadline=None if seconds is None else time.monotonic() + seconds,
    )


def _left(call: Call) -> float | None:
    return None if call.deadline is None else max(0.0, call.deadline - time.monotonic())


def _read_headers(exchange: Exchange, served: _Served, request: Message) -> None:
    """Sets the fields that headers stand for. Raises InvalidArgument or PreconditionFailed."""
    headers, put = exchange.headers, served.reader.put_header
    if b"idempotency-key" in headers:
        put(request, IDEMPOTENCY_KEY, exchange.header(b"idempotency-key"), "idempotency-key")
    if b"last-event-id" in headers:
        put(request, RESUME_TOKEN, exchange.header(b"last-event-id"), "last-event-id")
    if b"if-match" in headers and not exchange.is_safe:
        revision = said.expected_revision(exchange.header(b"if-match"), exchange.path)
        if revision and not put(request, EXPECTED_REVISION, revision, "if-match"):
            raise InvalidArgument.of("if-match", "none: this method has no expected_revision")


def _conditional(exchange: Exchange, reply: Reply) -> Reply:
    """The reply to a read that may have had conditions on the entity tag."""
    if b"if-none-match" not in exchange.headers and b"if-match" not in exchange.headers:
        return reply
    etag = next((value for name, value in reply.headers if name == ETAG), None)
    if etag is None:
        return reply
    tag = etag.decode()
    if b"if-match" in exchange.headers:
        wanted = exchange.header(b"if-match")
        if not said.is_match(wanted, tag, "if-match"):
            raise PreconditionFailed(exchange.path, f"if-match {wanted}")
    if b"if-none-match" in exchange.headers and said.is_match(
        exchange.header(b"if-none-match"), tag, "if-none-match"
    ):
        return Reply(304, headers=[(ETAG, etag)])
    return reply


def stream_into(
    answers: Pipe[Answer], bridge: Bridge, begin: Callable[[], AsyncGenerator[Answer, None]]
) -> Remote[None]:
    """Has everything that a method streams, and how it ends, sent into a pipe."""
    remote = bridge.call(lambda: _pump(begin(), answers))
    remote.outcome.add_done_callback(partial(_end, answers))
    return remote


async def _pump(stream: AsyncGenerator[Answer, None], answers: Pipe[Answer]) -> None:
    """On the registry's loop: sends everything that a method streams."""
    async with aclosing(stream):
        async for answer in stream:
            await answers.send(answer, size_of(answer))
    answers.end()


def _end(answers: Pipe[Answer], outcome: asyncio.Future[None]) -> None:
    """Ends a stream as its method did."""
    if not outcome.cancelled() and (error := outcome.exception()) is not None:
        answers.fail(error)


async def _upload(body: Body, reader: RequestReader, requests: Pipe[Message], guard: Guard) -> None:
    """Sends every line of a body, as a message, to the registry's loop."""
    number = 0
    try:
        async for line in body.lines():
            number += 1
            message = await in_thread_if(len(line), reader.read_line, line, number)
            await requests.send(message, len(line))
    except ClientGone as error:
        guard.give_up(error)
    except Exception as error:  # noqa: BLE001 - the method tells it to the caller
        requests.end(error)
    else:
        requests.end()
        guard.listen()


async def _send_stream(
    exchange: Exchange, answers: Pipe[Answer], form: StreamEncoder, call: Call
) -> None:
    """Sends what a method streams as it comes.

    Raises what the stream begins with, if that is an error.
    """
    patience = _FIRST_SECONDS
    is_begun = False
    while True:
        try:
            async with asyncio.timeout(patience):
                found = await answers.receive()
        except TimeoutError:
            data = form.heartbeat if is_begun else b""
        except ClientGone:
            raise
        except Exception as error:
            if not is_begun:
                raise
            await _break(exchange, form, error, call)
            return
        else:
            data = await in_thread_if(sum(map(size_of, found)), _joined, form, found)
            if not found:
                break
        if not is_begun:
            await exchange.start_stream(form.headers, form.is_compressible)
            is_begun, patience = True, _HEARTBEAT_SECONDS
        if data:
            await exchange.part(data)
    if not is_begun:
        await exchange.start_stream(form.headers, form.is_compressible)
    await exchange.end_stream()


def _joined(form: StreamEncoder, answers: Iterable[Answer]) -> bytes:
    return b"".join(map(form.item, answers))


async def _break(exchange: Exchange, form: StreamEncoder, error: Exception, call: Call) -> None:
    """Ends a stream with an error."""
    exchange.code = code_name(error)
    last = form.error(failure(error, call.method, exchange.request_id))
    if last is None:
        _log.warning("stream_broken", method=call.method, request_id=call.request_id)
        return
    await exchange.part(last)
    await exchange.end_stream()
