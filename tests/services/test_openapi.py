"""`/openapi.json`: it is a valid document, and the server keeps to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.services.samples import build, create, dependency, struct
from tests.support.servers import Running

# The statuses that are no failure of the server. 504: the examples ask it to wait for revisions.
# A null is a field that is left out, and only that call needs none, so nothing else refuses it.
_SETTINGS = """\
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", 504]

[[operations]]
include-operation-id = "FeatureService_Reclassify"
checks = { negative_data_rejection = { enabled = false } }
"""
_OPTIONS = (
    "--phases", "coverage,fuzzing,stateful", "--max-examples", "5", "--generation-deterministic",
    "--no-shrink", "--continue-on-failure", "--request-timeout", "10", "--no-color",
    # So that streams end.
    "--header", "Grpc-Timeout: 250m",
    # Its lines are more than the tool can write; limits of fields are more than the document says.
    "--exclude-operation-id", "RegistryService_Import",
    "--exclude-checks", "positive_data_acceptance", "--warnings", "off",
)  # fmt: skip


@pytest.fixture
async def http(registry: Running) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of the registry in memory."""
    async with httpx.AsyncClient(base_url=registry.url, timeout=20) as client:
        yield client


@pytest.fixture
async def document(http: httpx.AsyncClient) -> Any:
    """The document."""
    return (await http.get("/openapi.json")).json()


async def test_the_document_is_valid(document: Any) -> None:
    """It is OpenAPI 3.1, and so is every schema in it."""
    OpenAPIV31SpecValidator(document).validate()


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_the_server_keeps_to_the_document(
    registry: Running, require: Callable[[str], Path], tmp_path: Path
) -> None:
    """Requests that follow from it, and break it: no failure, no status, body or header it lacks.

    What breaks it is refused.
    """
    program = require("schemathesis")
    await build(registry.stubs, ["a", "b"], [dependency("a", "b")])
    settings = tmp_path / "schemathesis.toml"
    settings.write_text(_SETTINGS, encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        program, "--config-file", settings, "run", f"{registry.url}/openapi.json", *_OPTIONS,
        cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


async def test_streams_keep_to_the_document(
    registry: Running, http: httpx.AsyncClient, document: Any
) -> None:
    """Each line of a stream, and its error, is of the documented schema, and so is an upload's."""
    await build(registry.stubs, ["a", "b"], [dependency("a", "b", metadata=struct(x=1))])
    await create(registry.stubs, "c", metadata=struct(x=[1, {"y": None}]))
    seen = set()
    for path, query in (
        ("/api/v1/registry:export", ""),
        ("/api/v1/watch", "start_revision=2"),
        ("/api/v1/watch", "snapshot=true"),
        ("/api/v1/graph:stream", "root_id=a"),
        ("/api/v1/graph:watch", "root_id=a"),
        ("/api/v1/admin:backup", ""),
    ):
        answer = await http.get(f"{path}?{query}", headers={"grpc-timeout": "700m"})
        seen |= judged(document, path, "get", answer)
    lines = [{"sequence": 1, "mutations": [{"create_entity": {"type": "x", "name": "x"}}]}, {}]
    content = "".join(json.dumps(line) + "\n" for line in lines)
    headers = {"content-type": "application/x-ndjson"}
    answer = await http.post("/api/v1/registry:import", content=content, headers=headers)
    seen |= judged(document, "/api/v1/registry:import", "post", answer)
    assert seen == {"result", "error"}
    streams = [
        path
        for path, operations in document["paths"].items()
        for operation in operations.values()
        if "application/x-ndjson" in operation["responses"]["200"].get("content", {})
    ]
    assert len(streams) == 6, f"some of {streams} are not here"


def judged(document: Any, path: str, method: str, answer: httpx.Response) -> set[str]:
    """Checks the lines of an answer; says which kinds of them there were."""
    assert answer.status_code == 200, answer.text
    content = document["paths"][path][method]["responses"]["200"]["content"]
    schema = content["application/x-ndjson"]["schema"] | {"components": document["components"]}
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert lines
    for line in lines:
        OAS31Validator(schema).validate(line)
    return {kind for line in lines for kind in line}
