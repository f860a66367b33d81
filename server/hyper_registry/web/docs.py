"""The API for people: `/openapi.json`, and `/docs`, which shows it and tries it out.

Swagger UI comes with its package and is served from here: a registry may be where the internet is
not.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

_ASSETS = ("swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png")
_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Universal Registry: the API</title>
<link rel="icon" href="docs/favicon-32x32.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_START = """\
SwaggerUIBundle({
  url: "openapi.json", dom_id: "#ui", deepLinking: true, docExpansion: "list",
  defaultModelsExpandDepth: 0, displayRequestDuration: true, filter: true, validatorUrl: null,
});
"""
# Swagger UI styles its elements, and draws with images that are in its style sheet.
_POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
_SECURITY = {
    "content-security-policy": _POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


def routes(document: Callable[[], dict[str, Any]]) -> list[BaseRoute]:
    """`/openapi.json`, `/docs` and what that loads, and `/`, which leads there.

    `document` makes the OpenAPI document; it is asked once.
    """
    made: list[bytes] = []

    async def openapi(_request: Request) -> Response:
        if not made:
            made.append(orjson.dumps(document(), option=orjson.OPT_INDENT_2))
        return Response(made[0], media_type="application/json")

    async def page(_request: Request) -> Response:
        return HTMLResponse(_PAGE, headers=_SECURITY)

    async def start(_request: Request) -> Response:
        return Response(_START, media_type="text/javascript")

    async def root(_request: Request) -> Response:
        return RedirectResponse("docs")

    async def without_slash(_request: Request) -> Response:
        return RedirectResponse("../docs")

    return [
        Route("/", root),
        Route("/openapi.json", openapi),
        Route("/docs", page),
        Route("/docs/", without_slash),
        Route("/docs/start.js", start),
        Mount("/docs", _Assets()),
    ]


class _Assets(StaticFiles):
    """The files of Swagger UI that the page loads, and no others of its package."""

    def __init__(self) -> None:
        # The package's own module is not imported: it brings web frameworks' adapters.
        found = find_spec("swagger_ui")
        assert found is not None, "swagger-ui-py is a dependency of this distribution"
        assert found.submodule_search_locations is not None
        super().__init__(directory=Path(found.submodule_search_locations[0], "static"))

    def lookup_path(self, path: str) -> tuple[str, Any]:
        """The file of a path, if it is one of those."""
        return super().lookup_path(path) if path in _ASSETS else ("", None)
