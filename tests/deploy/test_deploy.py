"""The files of `deploy/` are well-formed, agree with the programs, and their commands work."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import httpx
import pytest
import yaml
from click.testing import CliRunner
from kubernetes_validate.utils import validate

from hyper_registry.__main__ import serve
from hyper_registry.registry.engine import Engine
from hyper_registry.store import is_postgres, open_store
from nexus_registry.cli import COMMANDS, cli
from ose.registry.v1.admin_service_pb2 import GetStatisticsRequest
from tests.support.postgres import Cluster
from tests.support.servers import program, serving
from tests.support.tools import ROOT

DEPLOY = ROOT / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))


def documents(file: Path) -> list[Any]:
    """The documents of a YAML file."""
    return list(yaml.safe_load_all(file.read_text(encoding="utf-8")))


def instructions() -> Iterator[tuple[str, str]]:
    """The instructions of the Dockerfile, and what stands behind them."""
    lines = re.sub(r"\\\n\s*", "", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"))
    for line in lines.splitlines():
        if line and not line.startswith("#"):
            name, _, rest = line.partition(" ")
            yield name, rest


def image_environment() -> dict[str, str]:
    """What the image sets."""
    found = [shlex.split(rest) for name, rest in instructions() if name == "ENV"]
    return dict(pair.partition("=")[::2] for pairs in found for pair in pairs)


def options_of_serve() -> set[str]:
    """The environment variables that `serve` knows."""
    known = {f"REGISTRY_{one.name}".upper() for one in serve.params if one.name}
    return known | {one.envvar for one in serve.params if isinstance(one.envvar, str)}


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: file.stem)
def test_manifests_are_kubernetes(file: Path) -> None:
    """Every object is what Kubernetes' own schemas allow, without a field that they do not know."""
    for document in documents(file):
        validate(document, "1.30", strict=True)


@pytest.mark.parametrize("file", MANIFESTS, ids=lambda file: file.stem)
def test_manifests_agree_with_themselves(file: Path) -> None:
    """Selectors find the pods, mounts have volumes, probes have ports, and nobody is root."""
    objects = documents(file)
    [workload] = [one for one in objects if one["kind"] in {"Deployment", "StatefulSet"}]
    pod = workload["spec"]["template"]
    labels = pod["metadata"]["labels"].items()
    assert workload["spec"]["selector"]["matchLabels"].items() <= labels
    [container] = pod["spec"]["containers"]
    volumes = {one["name"] for one in pod["spec"]["volumes"]}
    volumes |= {one["metadata"]["name"] for one in workload["spec"].get("volumeClaimTemplates", ())}
    assert {one["name"] for one in container["volumeMounts"]} == volumes
    ports = {one["name"]: one["containerPort"] for one in container["ports"]}
    assert container["readinessProbe"]["grpc"]["port"] == ports["grpc"]
    assert container["startupProbe"]["grpc"]["port"] == ports["grpc"]
    assert container["livenessProbe"]["httpGet"]["port"] in ports
    for service in (one for one in objects if one["kind"] == "Service"):
        assert service["spec"]["selector"].items() <= labels
        assert {one["targetPort"] for one in service["spec"]["ports"]} <= ports.keys()
    for budget in (one for one in objects if one["kind"] == "PodDisruptionBudget"):
        assert budget["spec"]["selector"]["matchLabels"].items() <= labels
        assert budget["spec"]["minAvailable"] < workload["spec"]["replicas"]
    [user] = [rest for name, rest in instructions() if name == "USER"]
    assert pod["spec"]["securityContext"]["runAsUser"] == int(user.partition(":")[0]) > 0
    assert {one["name"] for one in container["env"]} <= options_of_serve()
    assert container["args"][0] in COMMANDS
    # The image's kernels are behind the volume, which has to be where the program looks.
    mounts = {one["mountPath"] for one in container["volumeMounts"]}
    assert image_environment()["NUMBA_CACHE_DIR"] in mounts
    has_file = any(one["name"] == "REGISTRY_DB" and "value" in one for one in container["env"])
    assert workload["spec"]["replicas"] == (1 if has_file else 3)
    if has_file:
        assert "/data" in mounts


def test_compose() -> None:
    """What services depend on is there, files that are mounted too, and settings are known."""
    [compose] = documents(DEPLOY / "compose.yaml")
    services = compose["services"]
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            assert how["condition"] != "service_healthy" or "healthcheck" in services[other]
        for mount in service.get("volumes", ()):
            source = mount.partition(":")[0]
            assert (DEPLOY / source).exists() if source[0] == "." else source in compose["volumes"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
    for name in ("registry-1", "registry-2"):
        environment = services[name]["environment"]
        assert environment.keys() <= options_of_serve()
        assert is_postgres(environment["REGISTRY_DB"])
        build = services[name]["build"]
        assert (DEPLOY / build["context"] / build["dockerfile"]).is_file()
    [prometheus] = documents(DEPLOY / "prometheus.yml")
    [scrape] = prometheus["scrape_configs"]
    targets = [one for group in scrape["static_configs"] for one in group["targets"]]
    assert {one.partition(":")[0] for one in targets} <= services.keys()


def test_the_image_sets_what_the_server_knows() -> None:
    """Its environment has the server's own options, and binds what other containers can reach."""
    environment = image_environment()
    ours = {name for name in environment if name.startswith("REGISTRY_")}
    assert ours <= options_of_serve()
    exposed = next(rest for name, rest in instructions() if name == "EXPOSE").split()
    addresses = [environment["REGISTRY_GRPC_ADDRESS"], environment["REGISTRY_HTTP_ADDRESS"]]
    assert addresses == [f"0.0.0.0:{port}" for port in exposed]


async def ends(command: list[str], environment: dict[str, str]) -> int:
    """Runs a command; answers its exit code."""
    process = await asyncio.create_subprocess_exec(*command, env=environment)
    async with asyncio.timeout(40):
        return await process.wait()


async def test_the_commands_of_the_image(cluster: Cluster) -> None:
    """What is run when it is built works; its program serves, its health check says so, or not."""
    environment = {
        **os.environ,
        **image_environment(),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    # To compile everything anew takes a minute.
    del environment["NUMBA_CACHE_DIR"]
    [compile_] = [
        json.loads(rest) for name, rest in instructions() if name == "RUN" and rest[0] == "["
    ]
    assert await ends(compile_, environment) == 0
    [entry] = [json.loads(rest) for name, rest in instructions() if name == "ENTRYPOINT"]
    [arguments] = [json.loads(rest) for name, rest in instructions() if name == "CMD"]
    [check] = [rest for name, rest in instructions() if name == "HEALTHCHECK"]
    health = json.loads(check.partition("CMD ")[2])
    assert [*entry, *arguments] == ["nexus-registry", "serve"]
    # The ports are others; the addresses stay such as everyone can reach.
    kept = {"REGISTRY_INSECURE": environment["REGISTRY_INSECURE"]}
    async with program(cluster.create(), environment=kept) as server:
        check_command = [one.replace("localhost:50051", server.target) for one in health]
        assert await ends(check_command, environment) == 0
        await server.terminate()
        assert await ends(check_command, environment) != 0


async def test_the_dashboard_asks_for_what_there_is() -> None:
    """Every metric of the dashboard is one that a server has."""
    dashboard = json.loads((DEPLOY / "grafana" / "registry.json").read_text(encoding="utf-8"))
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked = set(re.findall(r"\b(?:registry|rpc_server|process)_[a-z_]+", " ".join(expressions)))
    assert len(asked) > 15
    async with serving() as running, httpx.AsyncClient() as http:
        await running.stubs.admin.GetStatistics(GetStatisticsRequest())
        text = (await http.get(f"{running.url}/metrics")).text
    families = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    parts = {f"{name}{end}" for name in families for end in ("", "_bucket", "_count", "_total")}
    # Only there when there was one.
    assert asked - parts <= {"registry_commit_failures_total", "registry_streams_active"}


PAGES = [
    ROOT / "docs" / "postgresql.md",
    ROOT / "docs" / "deploy.md",
    *MANIFESTS,
    DEPLOY / "compose.yaml",
]


def told_commands() -> list[str]:
    """The command lines of our programs that the pages and files show."""
    found = []
    for page in PAGES:
        for line in page.read_text(encoding="utf-8").splitlines():
            if line.startswith("nexus-registry "):
                found.append(line)
            elif "ose-universal-registry " in line and line.startswith("docker run"):
                found.append("nexus-registry " + line.partition("ose-universal-registry ")[2])
    return found


@pytest.mark.parametrize("line", told_commands())
def test_the_commands_that_are_told(line: str, cluster: Cluster, tmp_path: Path) -> None:
    """Every command line of the pages is one that the program takes; what ends by itself is run."""
    url = cluster.create()
    _, name, *arguments = shlex.split(line)
    arguments = [url if one.startswith("postgresql://") else one for one in arguments]
    arguments = [
        str(tmp_path / "made.db") if one == "/data/registry.db" else one for one in arguments
    ]
    if name not in {"copy", "migrate"}:
        context = click.Context(cli)
        command = cli.get_command(context, name)
        assert command is not None
        command.make_context(name, arguments, parent=context)
        return
    if name == "copy":
        assert CliRunner().invoke(cli, ["migrate", "--database", arguments[1]]).exit_code == 0
        asyncio.run(_begin(arguments[1]))
    done = CliRunner().invoke(cli, [name, *arguments])
    assert done.exit_code == 0, done.output


async def _begin(database: str) -> None:
    engine = Engine(open_store(database))
    await engine.start()
    await engine.aclose()
