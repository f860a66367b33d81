"""Where routes lead: of Ingress, the Gateway API and Istio's VirtualService."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from nexus_registry.discovery.kubernetes_objects import Object
from nexus_registry.discovery.loose import entries, mapping, text, texts

__all__ = ["ROUTE_KINDS", "Target", "gateways_of", "targets_of"]

_GATEWAY_API: Final = ("GRPCRoute", "HTTPRoute", "TCPRoute", "TLSRoute", "UDPRoute")
ROUTE_KINDS: Final = ("Ingress", "VirtualService", *_GATEWAY_API)

_MESH: Final = "mesh"
"""What Istio calls the traffic that passes no gateway."""


@dataclass(frozen=True, slots=True)
class Target:
    """A service that a route leads to, by its host as it is seen from a namespace.

    `share` is how much of the traffic goes there, 0 to 1, if all of `matches` hold.
    """

    host: str
    namespace: str
    share: float = 1.0
    subset: str = ""
    port: str = ""
    matches: tuple[str, ...] = ()


def targets_of(route: Object) -> Iterator[Target]:
    """All targets of a route, one for each rule that names it."""
    if route.kind == "Ingress":
        yield from _of_ingress(route)
    elif route.kind == "VirtualService":
        yield from _of_virtual_service(route)
    else:
        yield from _of_gateway_api(route)


def gateways_of(route: Object) -> Iterator[tuple[str, str]]:
    """The gateways that a route is attached to: namespace and name."""
    if route.kind == "VirtualService":
        for one in texts(route.spec.get("gateways")):
            namespace, _, name = one.rpartition("/")
            if name != _MESH:
                yield namespace or route.namespace, name
    elif route.kind in _GATEWAY_API:
        for parent in entries(route.spec.get("parentRefs")):
            if text(parent.get("kind")) in ("", "Gateway"):
                yield text(parent.get("namespace")) or route.namespace, text(parent.get("name"))


def _of_ingress(route: Object) -> Iterator[Target]:
    spec = route.spec
    default = spec.get("defaultBackend") or spec.get("backend")
    yield from _backend(mapping(default), route.namespace, ())
    for rule in entries(spec.get("rules")):
        host = text(rule.get("host"))
        for path in entries(mapping(rule.get("http")).get("paths")):
            match = f"{host}{text(path.get('path')) or '/'}"
            yield from _backend(mapping(path.get("backend")), route.namespace, (match,))


def _backend(
    backend: Mapping[str, Any], namespace: str, matches: tuple[str, ...]
) -> Iterator[Target]:
    """A backend as Ingress has it, or as its beta version had."""
    service = mapping(backend.get("service"))
    name = text(service.get("name")) or text(backend.get("serviceName"))
    port = mapping(service.get("port"))
    shown = text(port.get("number")) or text(port.get("name")) or text(backend.get("servicePort"))
    if name:
        yield Target(name, namespace, port=shown, matches=matches)


def _of_gateway_api(route: Object) -> Iterator[Target]:
    for rule in entries(route.spec.get("rules")):
        matches = tuple(_match(one) for one in entries(rule.get("matches")))
        backends = [
            one
            for one in entries(rule.get("backendRefs"))
            if text(one.get("kind")) in ("", "Service")
        ]
        for one, share in zip(
            backends, _shares([one.get("weight", 1) for one in backends]), strict=True
        ):
            yield Target(
                text(one.get("name")),
                text(one.get("namespace")) or route.namespace,
                share,
                port=text(one.get("port")),
                matches=matches,
            )


def _of_virtual_service(route: Object) -> Iterator[Target]:
    for protocol in ("http", "tls", "tcp"):
        for rule in entries(route.spec.get(protocol)):
            matches = tuple(_match(one) for one in entries(rule.get("match")))
            ways = [*entries(rule.get("route"))]
            for way, share in zip(
                ways, _shares([one.get("weight", 0) for one in ways]), strict=True
            ):
                to = mapping(way.get("destination"))
                yield Target(
                    text(to.get("host")),
                    route.namespace,
                    share,
                    text(to.get("subset")),
                    text(mapping(to.get("port")).get("number")),
                    matches,
                )


def _shares(weights: Sequence[Any]) -> list[float]:
    """Weights as shares of 1. All of it goes to a single one, and nothing known is even."""
    numbers = [float(one) if _is_weight(one) else 0.0 for one in weights]
    whole = sum(numbers)
    if not whole:
        return [1 / len(numbers) for _ in numbers]
    return [round(number / whole, 6) for number in numbers]


def _is_weight(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e9


def _match(match: Mapping[str, Any]) -> str:
    """A condition on one line: `uri.prefix=/static, headers.end-user.exact=jason`."""
    return ", ".join(f"{path}={value}" for path, value in _leaves(match, ""))


def _leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for key, one in value.items():
            yield from _leaves(one, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for one in value:
            yield from _leaves(one, path)
    elif said := text(value):
        yield path, said
