"""Everything that is served over HTTP, as one ASGI application."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from hyper_registry.transcoding.application import EXPOSED_HEADERS
from hyper_registry.web.origins import Origins

_API = "/api/"
_SAFE = ("GET", "HEAD", "OPTIONS")
_CORS_SECONDS = 3600


def site(api: ASGIApp, pages: ASGIApp, cors_origins: Sequence[str] = ()) -> ASGIApp:
    """The API at `/api/`, and pages everywhere else.

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
        return serve
    return CORSMiddleware(
        serve,
        allow_origins=cors_origins,
        allow_methods=("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT"),
        allow_headers=("*",),
        expose_headers=EXPOSED_HEADERS,
        max_age=_CORS_SECONDS,
    )
