"""Health over HTTP: `/health` for people, `/livez` and `/readyz` for probes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from hyper_registry.web.siblings import Siblings

QUESTION = "health"
"""What one worker asks another to know whether it serves."""

SERVING, NOT_SERVING = b"serving", b"not serving"
"""What that answers."""


@dataclass(frozen=True, slots=True)
class Health:
    """Whether the registry serves, what of it is in order, and what it holds.

    `serving` is what the gRPC health service says, and `checks` whether each part is in order.
    `notes` are what somebody should look at, by the part that it is about.
    """

    serving: bool
    checks: Mapping[str, bool]
    entities: int
    relationships: int
    revision: int
    notes: Mapping[str, str]


def routes(look: Callable[[], Health], siblings: Siblings | None = None) -> list[BaseRoute]:
    """The routes; `look` is called from another thread than the registry's.

    What is told is how this server is; which of its `siblings` do not serve is a note.
    """

    async def looked() -> Health:
        state = look()
        if siblings is None:
            return state
        found = await siblings.ask(QUESTION)
        silent = [str(number) for number, answer in found.items() if answer != SERVING]
        note = {"workers": f"{', '.join(silent)} not serving"} if silent else {}
        return replace(state, notes={**state.notes, **note})

    # Coroutines, since plain functions would each take a thread of a pool.
    async def health(_request: Request) -> Response:
        state = await looked()
        body: dict[str, object] = {
            "status": "healthy" if state.serving else "unhealthy",
            "timestamp": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "stats": {
                "total_entities": state.entities,
                "total_relationships": state.relationships,
                "revision": state.revision,
            },
        }
        if state.notes:
            body["notes"] = dict(state.notes)
        return JSONResponse(body, status_code=200 if state.serving else 503)

    async def live(_request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def ready(request: Request) -> Response:
        is_verbose = "verbose" in request.query_params
        state = await looked() if is_verbose else look()
        text = "ok\n" if state.serving else "not serving\n"
        if is_verbose:
            lines = [f"[{'+' if is_ok else '-'}] {name}\n" for name, is_ok in state.checks.items()]
            lines += [f"[!] {name}: {note}\n" for name, note in state.notes.items()]
            text = "".join(lines) + text
        return PlainTextResponse(text, 200 if state.serving else 503)

    return [Route("/health", health), Route("/livez", live), Route("/readyz", ready)]
