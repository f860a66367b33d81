"""`GET /ws`: changes as they happen, for browsers, as one JSON object a message.

The query parameters are those of `GET /api/v1/watch`, and so are the resume tokens. What comes:

| `type` | what it tells |
|---|---|
| `entity_created`, `entity_updated`, `entity_deleted` | a change, with the `entity` |
| `relationship_created`, `relationship_updated`, `relationship_deleted` | the same of those |
| `health_changed` | after an `entity_updated` that changed it: `health` and `previous_health` |
| `entity`, `relationship` | a part of the snapshot, if that was asked for |
| `snapshot_end`, `reset` | the marks of a watch |
| `ping` | nothing happened, and all is well |
| `error` | why the stream ends: a `google.rpc.Status` |

The last message of what is sent together, which is a revision or several, and every ping has the
`resume_token` that continues behind it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, cast

import orjson
from starlette.responses import Response
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from hyper_registry.interceptors.errors import code_name
from hyper_registry.model.errors import RegistryError, Unavailable
from hyper_registry.services.calls import Answer, Call
from hyper_registry.services.methods import REQUEST_ID, Door, require
from hyper_registry.transcoding import headers as said
from hyper_registry.transcoding.application import stream_into
from hyper_registry.transcoding.bindings import Binding
from hyper_registry.transcoding.bridge import Bridge, Pipe
from hyper_registry.transcoding.offloading import LARGE_BYTES, in_thread_if
from hyper_registry.transcoding.replies import Header, failure, refusal
from hyper_registry.transcoding.requests import RequestReader
from hyper_registry.web.origins import Origins
from ose.registry.jsonform import JsonObject, enum_name, to_dict
from ose.registry.v1.watch_service_pb2 import Event, EventType, WatchRequest, WatchResponse

_PATH: Final = "/ws"
_TRANSPORT: Final = "websocket"
_AHEAD_BYTES = 1 << 20
_PING_SECONDS = 15
# Reasons for closing, of RFC 6455 and the registry of codes beside it.
_POLICY, _FAILED, _RESTART = 1008, 1011, 1012
_MOST_REASON_BYTES = 123
_EVENT_TYPES = EventType.DESCRIPTOR
_Mark = WatchResponse.Mark
_MARKS = {
    _Mark.MARK_BOOKMARK: "ping",
    _Mark.MARK_SNAPSHOT_END: "snapshot_end",
    _Mark.MARK_RESET: "reset",
}


class EventSocket:
    """Serves watches over WebSockets.

    `watch` is the binding of the Watch method. A page of another origin than the server's own is
    refused unless it is among `origins`, `*` being all: browsers do not ask before they connect.
    """

    def __init__(
        self, watch: Binding, bridge: Bridge, door: Door, origins: Collection[str]
    ) -> None:
        self._method = watch.method
        self._reader = RequestReader(watch)
        self._bridge = bridge
        self._door = door
        self._origins = Origins(origins)
        self.connections = 0

    def route(self) -> WebSocketRoute:
        """Where it is served."""
        return WebSocketRoute(_PATH, self._serve)

    async def _serve(self, socket: WebSocket) -> None:
        request_id = said.request_id(dict(socket.scope["headers"]))
        call = Call(self._method.name, request_id=request_id)
        telemetry, headers = self._door.telemetry, socket.headers
        with telemetry.serving(call, _TRANSPORT, lambda: headers, streams=True) as measured:
            measured.code = await self._answer(socket, call)

    async def _answer(self, socket: WebSocket, call: Call) -> str:
        """Serves a connection; answers how that ended, by the name of its gRPC code."""
        try:
            require(self._door.ready)
            if not self._origins.are_welcome(dict(socket.scope["headers"])):
                await socket.send_denial_response(Response("this origin is not allowed\n", 403))
                return "PERMISSION_DENIED"
            request = cast("WatchRequest", self._reader.read((), socket.scope["query_string"], b""))
        except RegistryError as error:
            await socket.send_denial_response(_denial(error, call))
            return code_name(error)
        await socket.accept(headers=[_named(call)])
        self.connections += 1
        try:
            return await self._follow(socket, request, call)
        finally:
            self.connections -= 1

    async def _follow(self, socket: WebSocket, request: WatchRequest, call: Call) -> str:
        wants_previous = request.include_previous
        # Whether a health has changed is seen by what was before.
        request.include_previous = True
        if not request.HasField("bookmark_interval"):
            request.bookmark_interval.seconds = _PING_SECONDS
        answers: Pipe[Answer] = self._bridge.download(_AHEAD_BYTES)
        remote = stream_into(answers, self._bridge, lambda: self._method.behaviour(request, call))
        listening = asyncio.create_task(_until_gone(socket, answers))
        try:
            while found := await answers.receive():
                await _send(socket, cast("Sequence[bytes]", found), wants_previous)
            await socket.close(_RESTART)
        except WebSocketDisconnect:
            return "CANCELLED"
        except Exception as error:  # noqa: BLE001 - the caller is told, whatever it is
            await _say_why(socket, failure(error, call.method, call.request_id), error)
            return code_name(error)
        finally:
            listening.cancel()
            remote.cancel()
        return "OK"


async def _send(socket: WebSocket, answers: Sequence[bytes], with_previous: bool) -> None:
    sent = 0
    for message in await in_thread_if(sum(map(len, answers)), _messages, answers, with_previous):
        await socket.send_text(message)
        sent += len(message)
        if sent > LARGE_BYTES:
            # To send does not suspend as long as there is room, and others want their turn.
            await asyncio.sleep(0)
            sent = 0


def _messages(answers: Iterable[bytes], with_previous: bool) -> list[str]:
    found: list[str] = []
    for answer in answers:
        make = _shared_messages_of if len(answer) <= LARGE_BYTES else _messages_of
        found += make(answer, with_previous)
    return found


def _messages_of(answer: bytes, with_previous: bool) -> tuple[str, ...]:
    """The messages of a WatchResponse in its wire form."""
    response = WatchResponse.FromString(answer)
    forms = [*_forms(response, with_previous)]
    if forms and response.resume_token:
        forms[-1]["resume_token"] = response.resume_token
    return tuple(orjson.dumps(form).decode() for form in forms)


# Watchers of one question are sent the same bytes. What is large is not kept.
_shared_messages_of = lru_cache(maxsize=128)(_messages_of)


def _forms(response: WatchResponse, with_previous: bool) -> Iterator[JsonObject]:
    for entity in response.entities:
        yield {"type": "entity", "entity": to_dict(entity)}
    for relationship in response.relationships:
        yield {"type": "relationship", "relationship": to_dict(relationship)}
    for event in response.events:
        yield from _event_forms(event, with_previous)
    if kind := _MARKS.get(response.mark):
        now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        yield {"type": kind, "revision": str(response.revision), "timestamp": now}


def _event_forms(event: Event, with_previous: bool) -> Iterator[JsonObject]:
    form = to_dict(event)
    kind = "entity" if event.HasField("entity") else "relationship"
    form["type"] = f"{kind}_{enum_name(_EVENT_TYPES, event.type)}"
    previous = form.get(f"previous_{kind}") if with_previous else form.pop(f"previous_{kind}", None)
    yield form
    if event.type == EventType.EVENT_TYPE_UPDATED and event.HasField("previous_entity"):
        before, after = event.previous_entity.health, event.entity.health
        if before != after:
            yield {
                "type": "health_changed",
                "revision": form["revision"],
                "commit_time": form["commit_time"],
                "entity": form["entity"],
                "health": form["entity"]["health"],
                "previous_health": previous["health"] if previous else "",
            }


def _denial(error: RegistryError, call: Call) -> Response:
    reply = refusal(error, call.method, call.request_id)
    response = Response(reply.body, reply.status)
    response.raw_headers = [
        *reply.headers, (b"content-length", b"%d" % len(reply.body)), _named(call),
    ]  # fmt: skip
    return response


def _named(call: Call) -> Header:
    return REQUEST_ID.encode(), call.request_id.encode()


async def _say_why(socket: WebSocket, status: JsonObject, error: Exception) -> None:
    code = _RESTART if isinstance(error, Unavailable) else _FAILED
    if isinstance(error, RegistryError) and code == _FAILED:
        code = _POLICY
    with suppress(WebSocketDisconnect, RuntimeError):
        await socket.send_text(orjson.dumps({"type": "error", "error": status}).decode())
        reason = status["message"].encode()[:_MOST_REASON_BYTES].decode(errors="ignore")
        await socket.close(code, reason)


async def _until_gone(socket: WebSocket, answers: Pipe[Answer]) -> None:
    """Ends the answers when the client leaves. What it says is not listened to."""
    with suppress(WebSocketDisconnect):
        while (await socket.receive())["type"] != "websocket.disconnect":
            pass
    answers.fail(WebSocketDisconnect())
