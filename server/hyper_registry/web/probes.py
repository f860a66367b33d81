"""`GET /health/probes`: how the services stand that are probed, as JSON."""

from __future__ import annotations

from dataclasses import asdict

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hyper_registry.health.probes.prober import STATES, Prober

_JSON = "application/json"


def route(prober: Prober | None) -> Route:
    """The route; there is no prober where probes are off. `?state=` asks for those of one state."""

    async def serve(request: Request) -> Response:
        state = request.query_params.get("state", "")
        if state and state not in STATES:
            error = {"error": f"state is one of {', '.join(STATES)}"}
            return Response(orjson.dumps(error), 400, media_type=_JSON)
        body: dict[str, object] = {"enabled": prober is not None, "allowed": [], "services": []}
        if prober is not None:
            body["allowed"] = [str(network) for network in prober.allowed.networks]
            found = prober.statuses()
            body["services"] = [asdict(one) for one in found if not state or one.state == state]
        return Response(orjson.dumps(body), media_type=_JSON)

    return Route("/health/probes", serve)
