"""The services of a Compose project, and what they need of each other.

A service is an entity of type `service`, id `compose:PROJECT:NAME`, called `NAME.PROJECT`. It
depends on what it is said to depend on, link to, or share a network or volumes with, and on the
services whose hosts its environment names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from nexus_registry.discovery.compose_files import Project, environment, read_project
from nexus_registry.discovery.hosts import mentions
from nexus_registry.discovery.loose import mapping, sequence, text, texts, working
from nexus_registry.discovery.sketch import DEPENDS_ON, OPTIONALLY, Sketch, is_name, ownership
from nexus_registry.discovery.source import Discovery, Source

__all__ = ["SOURCE", "image_version", "service_id", "sketch"]

_TYPE: Final = "service"
_METADATA: Final = frozenset(
    {
        "build", "container_name", "environment", "expose", "file", "image", "labels", "networks",
        "ports", "profiles", "project", "replicas", "restart", "volumes",
    }
)  # fmt: skip
_EDGE_METADATA: Final = frozenset({"condition", "restart", "variables"})
_SHARED: Final = ("network_mode", "pid", "ipc")


def service_id(project: str, name: str) -> str:
    """The id of a service's entity."""
    return f"compose:{project}:{name}"


def image_version(image: str) -> str:
    """The tag of an image; '' without one."""
    tail = image.partition("@")[0].rpartition("/")[2]
    return tail.partition(":")[2]


def sketch(project: Project) -> Sketch:
    """What is to be registered of a project."""
    owner = ownership("compose", project.name, _METADATA, _EDGE_METADATA)
    found = Sketch(owner, [*project.broken])
    services = {name: mapping(one) for name, one in project.services.items() if is_name(name)}
    for name in project.services.keys() - services.keys():
        found.broken.append(f"services.{name}: the name must be letters, digits and . _ -")
    for name, service in services.items():
        _add(found, project.name, name, service)
    hosts = {host: name for name, one in services.items() for host in _hosts(name, one)}
    hosts |= {name.lower(): name for name in services}
    for name, service in services.items():
        _link(found, project.name, name, service, hosts)
    return found


def _add(found: Sketch, project: str, name: str, service: Mapping[str, Any]) -> None:
    image = text(service.get("image"))
    build = service.get("build")
    found.add(
        service_id(project, name),
        _TYPE,
        f"{name}.{project}",
        kind="compose-service",
        version=image_version(image),
        project=project,
        file=text(service.get("x-file")),
        image=image,
        build=text(build) or text(mapping(build).get("context")),
        container_name=text(service.get("container_name")),
        environment=sorted(environment(service)),
        expose=texts(service.get("expose")),
        labels={key: text(one) for key, one in mapping(service.get("labels")).items()},
        networks=sorted(mapping(service.get("networks"))),
        ports=[*_ports(service.get("ports"))],
        profiles=texts(service.get("profiles")),
        replicas=_replicas(service),
        restart=text(service.get("restart")),
        volumes=[*_volumes(service.get("volumes"))],
    )


def _ports(value: Any) -> Iterator[str]:
    """As the short form has them: `127.0.0.1:8080:80/tcp`."""
    for one in sequence(value):
        if not isinstance(one, dict):
            yield text(one)
            continue
        places = (text(one.get(key)) for key in ("host_ip", "published", "target"))
        protocol = text(one.get("protocol"))
        yield ":".join(filter(None, places)) + (f"/{protocol}" if protocol else "")


def _volumes(value: Any) -> Iterator[str]:
    """The named ones. What is mounted of the host's files says nothing about other services."""
    for one in sequence(value):
        source = text(one.get("source")) if isinstance(one, dict) else text(one).partition(":")[0]
        if is_name(source) and (isinstance(one, dict) or ":" in text(one)):
            yield source


def _replicas(service: Mapping[str, Any]) -> int | None:
    value = mapping(service.get("deploy")).get("replicas", service.get("scale"))
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _hosts(name: str, service: Mapping[str, Any]) -> Iterator[str]:
    """The names by which others reach it, beside its own."""
    yield from map(str.lower, (text(service.get(key)) for key in ("container_name", "hostname")))
    for network in mapping(service.get("networks")).values():
        yield from map(str.lower, texts(mapping(network).get("aliases")))


def _link(
    found: Sketch,
    project: str,
    name: str,
    service: Mapping[str, Any],
    hosts: Mapping[str, str],
) -> None:
    own = service_id(project, name)

    def need(target: str, via: str, *, required: bool = True, **details: Any) -> None:
        other = service_id(project, target)
        if other not in found:
            found.miss(f"{name}.{project}", f"{via} {target}")
            return
        found.link(own, other, DEPENDS_ON if required else OPTIONALLY, via, **details)

    for target, how in mapping(service.get("depends_on")).items():
        need(
            target,
            "depends_on",
            required=mapping(how).get("required") is not False,
            condition=text(mapping(how).get("condition")),
            restart=mapping(how).get("restart") is True or None,
        )
    for link in texts(service.get("links")):
        need(link.partition(":")[0], "links")
    for volumes in texts(service.get("volumes_from")):
        if not volumes.startswith("container:"):
            need(volumes.partition(":")[0], "volumes_from")
    for key in _SHARED:
        kind, _, target = text(service.get(key)).partition(":")
        if kind == "service" and target:
            need(target, key)
    for variable, value in environment(service).items():
        for mention in mentions(variable, value):
            if mention.host in hosts:
                need(hosts[mention.host], "environment", variables=[variable])


def _read(path: str | None, scope: str) -> Discovery:
    return sketch(read_project(working(path), scope)).discovery()


SOURCE: Final = Source(
    name="compose",
    noun="service",
    owner=ownership("compose", "", _METADATA, _EDGE_METADATA),
    entity_types=(_TYPE,),
    relationship_types=(DEPENDS_ON, OPTIONALLY),
    read=_read,
    scoped=True,
)
