"""Everything that is served over HTTP, as one ASGI application."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from hyper_registry.model.errors import InvalidArgument
from hyper_registry.model.rules import shown
from hyper_registry.services.methods import REQUEST_ID
from hyper_registry.transcoding import headers as said
from hyper_registry.transcoding.application import EXPOSED_HEADERS
from hyper_registry.transcoding.bodies import Headers
from hyper_registry.transcoding.replies import refusal as reply_of
from hyper_registry.web.hosts import Hosts
from hyper_registry.web.origins import Origins

_API = "/api/"
_SAFE = ("GET", "HEAD", "OPTIONS")
_CORS_SECONDS = 3600


def site(api: ASGIApp, pages: ASGIApp, cors_origins: Sequence[str], hosts: Hosts) -> ASGIApp:
    """The API at `/api/`, and pages everywhere else, for who asks one of the `hosts`.

    Browsers let scripts of `cors_origins` use it, `*` being all origins, and of none by default.
    What pages of other origins send without asking is refused, unless it only reads.
    """
    origins = Origins(cors_origins)
    refusal = PlainTextResponse("this origin is not allowed\n", 403)

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        chosen = pages
        if scope["type"] == "http" and scope["path"].startswith(_API):
            is_safe = scope["method"] in _SAFE or origins.are_welcome(dict(scope["headers"]))
            chosen = api if is_safe else refusal
        await chosen(scope, receive, send)

    if not cors_origins:
        return _of_hosts(serve, hosts)
    shared = CORSMiddleware(
        serve,
        allow_origins=cors_origins,
        allow_methods=("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"),
        allow_headers=("*",),
        expose_headers=EXPOSED_HEADERS,
        max_age=_CORS_SECONDS,
    )
    return _of_hosts(shared, hosts)


def _of_hosts(application: ASGIApp, hosts: Hosts) -> ASGIApp:
    """Refuses whatever is for another host."""
    if hosts.are_all:
        return application

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        if hosts.are_welcome(scope["headers"]):
            await application(scope, receive, send)
            return
        response = _misdirected(dict(scope["headers"]))
        if scope["type"] == "websocket":
            await WebSocket(scope, receive, send).send_denial_response(response)
        else:
            await response(scope, receive, send)

    return serve


def _misdirected(headers: Headers) -> Response:
    expected = "localhost, an address, or a name that --allowed-hosts has"
    error = InvalidArgument.of("host", f"{expected}, got {shown(said.text(headers, b'host'))}")
    request_id = said.request_id(headers)
    reply = reply_of(error, "", request_id)
    return Response(
        reply.body, reply.status, {REQUEST_ID: request_id}, media_type="application/json"
    )
