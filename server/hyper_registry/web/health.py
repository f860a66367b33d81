"""Health over HTTP: `/health` for people, `/livez` and `/readyz` for probes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the registry serves, and what it holds."""

    serving: bool
    entities: int
    relationships: int
    revision: int


def application(look: Callable[[], Health]) -> Starlette:
    """The ASGI application; `look` is called from another thread than the registry's."""

    # Coroutines, since plain functions would each take a thread of a pool.
    async def health(_request: Request) -> Response:
        state = look()
        body = {
            "status": "healthy" if state.serving else "unhealthy",
            "timestamp": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "stats": {
                "total_entities": state.entities,
                "total_relationships": state.relationships,
                "revision": state.revision,
            },
        }
        return JSONResponse(body, status_code=200 if state.serving else 503)

    async def live(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def ready(_request: Request) -> Response:
        serving = look().serving
        return PlainTextResponse("ok\n" if serving else "not serving\n", 200 if serving else 503)

    return Starlette(
        routes=[Route("/health", health), Route("/livez", live), Route("/readyz", ready)]
    )
