"""What Kubernetes, Gateway API and Istio manifests say of services and who needs them.

    mesh_node (gateway) ─routes_to─► route ─routes_to─► service ─depends_on─► workload
                                                           ▲                     │ │
                                                           └──────provides───────┘ │
                                            (another) service ◄─────depends_on─────┘

A Service depends on the workloads that its selector matches, which provide it; a workload depends
on the services whose hosts its environment names. A route to a subset of a service, which Istio's
DestinationRule describes, leads to the workloads of the subset too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from nexus_registry.discovery.compose import image_version
from nexus_registry.discovery.hosts import Mention, mentions
from nexus_registry.discovery.kubernetes_objects import Object, Objects, read_objects
from nexus_registry.discovery.kubernetes_routes import ROUTE_KINDS, Target, gateways_of, targets_of
from nexus_registry.discovery.loose import entries, mapping, text, texts, working
from nexus_registry.discovery.sketch import DEPENDS_ON, PROVIDES, Sketch, ownership
from nexus_registry.discovery.source import Discovery, Source, SourceError

__all__ = ["SOURCE", "object_id", "sketch"]

SERVICE: Final = "service"
WORKLOAD: Final = "workload"
ROUTE: Final = "route"
GATEWAY: Final = "mesh_node"
EXTERNAL: Final = "external_service"
ROUTES_TO: Final = "routes_to"

_ISTIO: Final = "networking.istio.io"
_WORKLOADS: Final = (
    "CronJob", "DaemonSet", "Deployment", "Job", "Pod", "ReplicaSet", "ReplicationController",
    "StatefulSet",
)  # fmt: skip
_OTHERS: Final = ("Service", "Gateway", "ServiceEntry")
# They become no entities, and are looked at.
_READ: Final = ("ConfigMap", "DestinationRule")
_METADATA: Final = frozenset(
    {
        "environment", "external_name", "file", "hosts", "images", "kubernetes_labels", "namespace",
        "ports", "replicas", "selector", "service_account", "service_type", "subsets",
        "traffic_policy",
    }
)  # fmt: skip
_EDGE_METADATA: Final = frozenset({"alternative", "matches", "ports", "subsets", "variables"})


@dataclass(frozen=True, slots=True)
class _Workload:
    """A workload's object, its pods' labels and their containers."""

    object: Object
    labels: Mapping[str, str]
    pod: Mapping[str, Any]

    def containers(self) -> Iterator[dict[str, Any]]:
        """Its containers, those of the start first."""
        yield from entries(self.pod.get("initContainers"))
        yield from entries(self.pod.get("containers"))


def object_id(one: Object) -> str:
    """The id of an object's entity. Istio and the Gateway API both have gateways."""
    kind = one.kind.lower()
    if one.kind == "Gateway" and one.group == _ISTIO:
        kind = "istio-gateway"
    return f"kubernetes:{one.namespace}:{kind}:{one.name}"


def sketch(objects: Objects, scope: str, broken: list[str]) -> Sketch:
    """What is to be registered of some objects."""
    found = Sketch(ownership("kubernetes", scope, _METADATA, _EDGE_METADATA, weights=True), broken)
    _Cluster(objects, found).fill()
    known = {*_WORKLOADS, *_OTHERS, *ROUTE_KINDS, *_READ}
    found.passed_over.update(one.kind for one in objects if one.kind not in known)
    return found


class _Cluster:
    """Fills a sketch with what some objects say."""

    def __init__(self, objects: Objects, found: Sketch) -> None:
        self._objects = objects
        self._found = found
        self._workloads = [_workload(one) for one in objects.of(*_WORKLOADS)]
        self._services = {(one.namespace, one.name): one for one in objects.of("Service", group="")}
        self._externals = {
            host.lower(): one
            for one in objects.of("ServiceEntry")
            for host in texts(one.spec.get("hosts"))
        }
        self._configs = {(one.namespace, one.name): one for one in objects.of("ConfigMap")}
        self._subsets: dict[tuple[str, str, str], Mapping[str, str]] = {}

    def fill(self) -> None:
        for workload in self._workloads:
            self._add_workload(workload)
        for service in self._services.values():
            self._add_service(service)
        for entry in self._objects.of("ServiceEntry"):
            self._add_external(entry)
        for gateway in self._objects.of("Gateway"):
            self._add_gateway(gateway)
        for rule in self._objects.of("DestinationRule"):
            self._take_rule(rule)
        for route in self._objects.of(*ROUTE_KINDS):
            self._add_route(route)
        for workload in self._workloads:
            self._link_workload(workload)

    # --- entities ---

    def _add(self, one: Object, type_: str, version: str = "", **details: Any) -> None:
        self._found.add(
            object_id(one),
            type_,
            one.full_name,
            kind=one.kind,
            version=version,
            file=one.file,
            namespace=one.namespace,
            kubernetes_labels=one.labels,
            **details,
        )

    def _add_workload(self, workload: _Workload) -> None:
        images = [text(one.get("image")) for one in entries(workload.pod.get("containers"))]
        labels = {**workload.labels, **workload.object.labels}
        version = labels.get("app.kubernetes.io/version") or labels.get("version")
        replicas = workload.object.spec.get("replicas")
        self._add(
            workload.object,
            WORKLOAD,
            version or image_version(images[0] if images else ""),
            images=[image for image in images if image],
            environment=sorted({name for name, _ in self._variables(workload)}),
            replicas=replicas if isinstance(replicas, int) else None,
            service_account=text(workload.pod.get("serviceAccountName")),
        )

    def _add_service(self, service: Object) -> None:
        spec = service.spec
        selector = {key: text(value) for key, value in mapping(spec.get("selector")).items()}
        self._add(
            service,
            SERVICE,
            service_type=text(spec.get("type")) or "ClusterIP",
            external_name=text(spec.get("externalName")),
            selector=selector,
            ports=[*_ports(spec.get("ports"))],
        )
        backing = self._selected(service.namespace, selector) if selector else []
        for workload in backing:
            one = object_id(workload.object)
            self._found.link(
                object_id(service), one, DEPENDS_ON, "selector", alternative=len(backing) > 1
            )
            self._found.link(one, object_id(service), PROVIDES, "selector")

    def _add_external(self, entry: Object) -> None:
        hosts = texts(entry.spec.get("hosts"))
        self._add(entry, EXTERNAL, hosts=hosts, ports=[*_ports(entry.spec.get("ports"))])

    def _add_gateway(self, gateway: Object) -> None:
        spec = gateway.spec
        servers = [*entries(spec.get("servers")), *entries(spec.get("listeners"))]
        hosts: list[str] = []
        for one in servers:
            hosts += texts(one.get("hosts")) + texts(one.get("hostname"))
        ports = [mapping(one.get("port")) or one for one in servers]
        selector = {key: text(value) for key, value in mapping(spec.get("selector")).items()}
        self._add(gateway, GATEWAY, hosts=hosts, ports=[*_ports(ports)], selector=selector)

    def _take_rule(self, rule: Object) -> None:
        """What a DestinationRule says belongs to the service that it is about."""
        host = text(rule.spec.get("host"))
        service = self._service(host, rule.namespace)
        if service is None:
            self._found.miss(rule.full_name, f"host {host}")
            return
        subsets = [*entries(rule.spec.get("subsets"))]
        for subset in subsets:
            labels = {key: text(value) for key, value in mapping(subset.get("labels")).items()}
            key = (service.namespace, service.name, text(subset.get("name")))
            self._subsets[key] = labels
        self._found.note(
            object_id(service),
            subsets=[text(one.get("name")) for one in subsets],
            traffic_policy=mapping(rule.spec.get("trafficPolicy")),
        )

    # --- routes ---

    def _add_route(self, route: Object) -> None:
        hosts = texts(route.spec.get("hosts")) + texts(route.spec.get("hostnames"))
        for rule in entries(route.spec.get("rules")) if route.kind == "Ingress" else ():
            hosts += texts(rule.get("host"))
        self._add(route, ROUTE, hosts=hosts)
        for gateway in gateways_of(route):
            self._link_gateway(route, *gateway)
        for target in targets_of(route):
            self._link_target(route, target)

    def _link_gateway(self, route: Object, namespace: str, name: str) -> None:
        group = _ISTIO if route.group == _ISTIO else "gateway.networking.k8s.io"
        for gateway in self._objects.of("Gateway", group=group):
            if (gateway.namespace, gateway.name) == (namespace, name):
                self._found.link(object_id(gateway), object_id(route), ROUTES_TO)
                return
        self._found.miss(route.full_name, f"gateway {name}.{namespace}")

    def _link_target(self, route: Object, target: Target) -> None:
        service = self._service(target.host, target.namespace)
        external = self._externals.get(target.host.lower())
        reached = service or external
        if reached is None:
            self._found.miss(route.full_name, f"service {target.host}")
            return
        details: dict[str, Any] = {
            "matches": [*target.matches],
            "ports": [target.port] if target.port else [],
            "subsets": [target.subset] if target.subset else [],
        }
        self._route(route, reached, target, details)
        if service is not None and target.subset:
            self._link_subset(route, service, target, details)

    def _link_subset(
        self, route: Object, service: Object, target: Target, details: dict[str, Any]
    ) -> None:
        labels = self._subsets.get((service.namespace, service.name, target.subset))
        if labels is None:
            self._found.miss(route.full_name, f"subset {target.subset} of {service.full_name}")
            return
        selector = {key: text(v) for key, v in mapping(service.spec.get("selector")).items()}
        for workload in self._selected(service.namespace, {**selector, **labels}):
            self._route(route, workload.object, target, details)

    def _route(self, route: Object, to: Object, target: Target, details: dict[str, Any]) -> None:
        self._found.link(object_id(route), object_id(to), ROUTES_TO, weight=target.share, **details)

    # --- dependencies ---

    def _link_workload(self, workload: _Workload) -> None:
        own = workload.object
        for variable, value in self._variables(workload):
            for mention in mentions(variable, value):
                service = self._service(mention.host, own.namespace)
                reached = service or self._externals.get(mention.host)
                if reached is not None:
                    self._found.link(
                        object_id(own),
                        object_id(reached),
                        DEPENDS_ON,
                        "environment",
                        variables=[variable],
                    )
                elif _is_of_cluster(mention):
                    self._found.miss(own.full_name, f"{variable}={mention.host}")

    def _variables(self, workload: _Workload) -> Iterator[tuple[str, str]]:
        """The variables of a workload's containers, those of ConfigMaps too."""
        namespace = workload.object.namespace
        for container in workload.containers():
            for source in entries(container.get("envFrom")):
                name = text(mapping(source.get("configMapRef")).get("name"))
                prefix = text(source.get("prefix"))
                for key, value in self._config(namespace, name).items():
                    yield prefix + key, text(value)
            for variable in entries(container.get("env")):
                given = mapping(mapping(variable.get("valueFrom")).get("configMapKeyRef"))
                config = self._config(namespace, text(given.get("name")))
                value = variable.get("value", config.get(text(given.get("key"))))
                if name := text(variable.get("name")):
                    yield name, text(value)

    def _config(self, namespace: str, name: str) -> dict[str, Any]:
        config = self._configs.get((namespace, name))
        return mapping(config.body.get("data")) if config else {}

    def _selected(self, namespace: str, selector: Mapping[str, str]) -> list[_Workload]:
        return [
            one
            for one in self._workloads
            if one.object.namespace == namespace and selector.items() <= one.labels.items()
        ]

    def _service(self, host: str, namespace: str) -> Object | None:
        """The service that a host means, as seen from a namespace."""
        name, _, rest = host.lower().partition(".")
        space, _, domain = rest.partition(".")
        if domain not in ("", "svc", "svc.cluster.local"):
            return None
        return self._services.get((space or namespace, name))


def _workload(one: Object) -> _Workload:
    if one.kind == "Pod":
        return _Workload(one, one.labels, one.spec)
    spec = one.spec
    if one.kind == "CronJob":
        spec = mapping(mapping(spec.get("jobTemplate")).get("spec"))
    template = mapping(spec.get("template"))
    labels = mapping(mapping(template.get("metadata")).get("labels"))
    return _Workload(
        one, {key: text(v) for key, v in labels.items()}, mapping(template.get("spec"))
    )


def _ports(value: Any) -> Iterator[str]:
    """As `http 80/TCP`, whatever of it is said."""
    for one in entries(value):
        number = text(one.get("port")) or text(one.get("number"))
        protocol = text(one.get("protocol"))
        place = f"{number}/{protocol}" if protocol else number
        if said := " ".join(filter(None, (text(one.get("name")), place))):
            yield said


def _is_of_cluster(mention: Mention) -> bool:
    """Whether a host that is not there should have been: one of a service, and surely a host."""
    return mention.certain and ("." not in mention.host or ".svc" in mention.host)


def _read(path: str | None, scope: str) -> Discovery:
    place = working(path)
    broken: list[str] = []
    objects = read_objects(place, broken)
    if not any(True for _ in objects):
        told = f" ({'; '.join(broken[:3])})" if broken else ""
        raise SourceError(f"{place} has no Kubernetes objects{told}")
    return sketch(objects, scope or str(place.resolve()), broken).discovery()


SOURCE: Final = Source(
    name="kubernetes",
    noun="object",
    owner=ownership("kubernetes", "", _METADATA, _EDGE_METADATA, weights=True),
    entity_types=(SERVICE, WORKLOAD, ROUTE, GATEWAY, EXTERNAL),
    relationship_types=(DEPENDS_ON, PROVIDES, ROUTES_TO),
    read=_read,
    scoped=True,
)
