"""Everything that is served over HTTP, as one ASGI application."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from hyper_registry.transcoding.application import EXPOSED_HEADERS

_API = "/api/"
_CORS_SECONDS = 3600


def site(api: ASGIApp, pages: ASGIApp, cors_origins: Sequence[str] = ()) -> ASGIApp:
    """The API at `/api/`, and pages everywhere else.

    Browsers let scripts of `cors_origins` use it, `*` being all origins, and of none by default.
    """

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        is_api = scope["type"] == "http" and scope["path"].startswith(_API)
        await (api if is_api else pages)(scope, receive, send)

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
