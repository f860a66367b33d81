"""What is served over HTTP beside the API: health, the API's description, and the way there."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from grpc_health.v1 import health_pb2

from hyper_registry import __version__
from tests.support.servers import Running


@pytest.fixture
async def http(registry: Running) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of the registry in memory."""
    url = f"http://127.0.0.1:{registry.server.http_port}"
    async with httpx.AsyncClient(base_url=url) as client:
        yield client


async def test_health_agrees_everywhere(registry: Running, http: httpx.AsyncClient) -> None:
    """`/health`, `/livez`, `/readyz` and the gRPC health service say the same of a registry."""
    answer = await registry.stubs.health.Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    health = await http.get("/health")
    assert (health.status_code, health.json()["status"]) == (200, "healthy")
    assert health.json()["stats"]["total_entities"] == 8
    assert (await http.get("/livez")).text == "ok\n"
    ready = await http.get("/readyz")
    assert (ready.status_code, ready.text) == (200, "ok\n")


async def test_readiness_in_detail(registry: Running, http: httpx.AsyncClient) -> None:
    """`verbose` says of each part whether it is in order."""
    answer = await http.get("/readyz?verbose")
    assert answer.text == "[+] view\n[+] store\n[+] disk\n[+] log\n[+] serving\nok\n"
    registry.server.engine.committer.unknown = True
    assert "[-] store" in (await http.get("/readyz?verbose")).text
    registry.server.engine.committer.unknown = False


async def test_the_root_leads_to_the_documentation(http: httpx.AsyncClient) -> None:
    """Whoever opens the address in a browser finds the API described."""
    answer = await http.get("/", follow_redirects=True)
    assert answer.url.path == "/docs"
    assert answer.headers["content-type"].startswith("text/html")
    assert (await http.get("/docs/", follow_redirects=True)).url.path == "/docs"


async def test_the_documentation_needs_nobody_else(http: httpx.AsyncClient) -> None:
    """Everything that the page loads is served from here, and it may load nothing else."""
    page = await http.get("/docs")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert "://" not in page.text
    for path, kind in (
        ("docs/swagger-ui.css", "text/css"),
        ("docs/swagger-ui-bundle.js", "javascript"),
        ("docs/start.js", "javascript"),
        ("docs/favicon-32x32.png", "image/png"),
    ):
        assert f'"{path}"' in page.text
        answer = await http.get(f"/{path}")
        assert answer.status_code == 200
        assert kind in answer.headers["content-type"]
    for other in ("/docs/swagger-editor-bundle.js", "/docs/../app.py", "/docs/index.css"):
        assert (await http.get(other)).status_code == 404


async def test_the_description_is_of_this_server(http: httpx.AsyncClient) -> None:
    """Version, every method's path, and a schema that is explained by the protos' comments."""
    answer = await http.get("/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    document = answer.json()
    assert document["openapi"] == "3.1.0"
    assert document["info"]["version"] == __version__
    get = document["paths"]["/api/v1/entities/{id}"]["get"]
    assert get["operationId"] == "EntityService_GetEntity"
    assert get["summary"] == "Answers one entity"
    # PATCH names the field `entity.id`, and is the same path all the same.
    assert "patch" in document["paths"]["/api/v1/entities/{id}"]
    listing = document["paths"]["/api/v1/entities"]["get"]["responses"]["200"]
    assert listing["content"]["application/json"]["schema"]["type"] == "array"
    assert set(listing["headers"]) == {"Registry-Revision", "X-Next-Page-Token", "Link"}
    entity = document["components"]["schemas"]["Entity"]
    assert entity["properties"]["revision"]["readOnly"] is True
    assert "1 to 255 characters" in entity["properties"]["name"]["description"]
    assert document["components"]["schemas"]["HealthStatus"]["enum"][1:] == [
        "healthy", "degraded", "unhealthy", "unknown",
    ]  # fmt: skip
    # A comment that refers to another field's is that field's.
    impact = document["paths"]["/api/v1/entities/{id}/impact"]["get"]["parameters"]
    limit = next(one for one in impact if one["name"] == "node_limit")
    assert limit["description"].startswith("How many nodes to answer at most")
