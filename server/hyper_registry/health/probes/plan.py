"""How a service is to be probed: what `metadata.probe` of a mesh service says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from google.protobuf.json_format import MessageToDict

from ose.registry.v1.entity_pb2 import Entity

SERVICE, MESH, PROBE = "service", "mesh", "probe"
"""The type of entity that is probed, and the keys of its metadata that count."""

HTTP, TCP, GRPC = "http", "tcp", "grpc"
"""What `type` may be."""

MIN_INTERVAL_SECONDS, MAX_INTERVAL_SECONDS = 1.0, 24 * 3600.0
"""How often a service is probed; `timeout` is at most the interval, and at most a minute."""

_MIN_TIMEOUT_SECONDS, _MAX_TIMEOUT_SECONDS = 0.01, 60.0
_MOST_IN_A_ROW = 100
_MOST_MISTAKES = 20
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)(ms|s|m|h)")
_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?")
_PATH = re.compile(r"/[!-\"$-~]{0,2047}")
_STATUS_RANGE = re.compile(r"([1-5][0-9]{2})-([1-5][0-9]{2})")
_STATUSES = "a list of HTTP status codes, or ranges of them such as 200-299"
_OF_TYPE = {HTTP: {"path", "expected_status"}, TCP: set[str](), GRPC: {"service"}}
_KEYS = (
    "type", "host", "port", "path", "service", "interval", "timeout", "healthy_threshold",
    "unhealthy_threshold", "expected_status",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Plan:
    """How a service is probed. Times are in seconds; `host` is a name or an address.

    `path` and `expected_status` are of HTTP, and `service` of gRPC. So many results in a row as
    the thresholds say change what is said of the service.
    """

    type: str
    host: str
    port: int
    path: str = "/"
    service: str = ""
    interval: float = 10.0
    timeout: float = 2.0
    healthy_threshold: int = 2
    unhealthy_threshold: int = 3
    expected_status: frozenset[int] = frozenset(range(200, 300))

    @property
    def authority(self) -> str:
        """Host and port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def target(self) -> str:
        """What is probed, as a URL."""
        rest = self.path if self.type == HTTP else f"/{self.service}" if self.service else ""
        return f"{self.type}://{self.authority}{rest}"


@dataclass(frozen=True, slots=True)
class Malformed:
    """What says how to probe a service, and cannot be followed: its mistakes, the first 20."""

    mistakes: tuple[str, ...]


class _Mistake(Exception):
    """One field is not as it must be."""


def plan_of(entity: Entity) -> Plan | Malformed | None:
    """How an entity says that it is to be probed; None if it says nothing of that."""
    fields = entity.metadata.fields
    if PROBE not in fields:
        return None
    if MESH not in fields:
        return Malformed(("metadata.probe is for mesh services, which have metadata.mesh",))
    mesh = fields[MESH].struct_value.fields
    try:
        said: Any = MessageToDict(fields[PROBE])
        known = {key: MessageToDict(mesh[key]) for key in ("host", "port") if key in mesh}
    except ValueError:
        return Malformed(("metadata: a number that is not finite",))
    if not isinstance(said, dict):
        return Malformed(("metadata.probe: an object",))
    return _Reading(said, known, entity.name).plan()


class _Reading:
    """Reads one configuration, and collects its mistakes."""

    def __init__(self, said: Mapping[str, Any], mesh: Mapping[str, Any], name: str) -> None:
        self._said = said
        self._mesh = mesh
        self._name = name
        self._mistakes: list[str] = []

    def plan(self) -> Plan | Malformed:
        type_ = self._read("type", None, _type)
        self._mistakes += self._strangers(type_)
        interval = self._read("interval", "10s", _interval)
        timeout = self._read("timeout", "2s", _timeout)
        values = {
            "type": type_,
            "host": self._read("host", self._mesh.get("host", self._name), _host),
            "port": self._read("port", self._mesh.get("port"), _port),
            "path": self._read("path", "/", _path),
            "service": self._read("service", "", _service),
            "interval": interval,
            "timeout": timeout,
            "healthy_threshold": self._read("healthy_threshold", 2, _threshold),
            "unhealthy_threshold": self._read("unhealthy_threshold", 3, _threshold),
            "expected_status": self._read("expected_status", ["200-299"], _statuses),
        }
        if interval and timeout and timeout > interval:
            if "timeout" in self._said:
                self._mistakes.append("metadata.probe.timeout: at most the interval")
            values["timeout"] = interval
        return (
            Malformed(tuple(self._mistakes[:_MOST_MISTAKES])) if self._mistakes else Plan(**values)
        )

    def _read(self, key: str, default: Any, parse: Callable[[Any], Any]) -> Any:
        try:
            return parse(self._said.get(key, default))
        except _Mistake as mistake:
            got = self._said.get(key, default)
            was = "nothing" if got is None else _shown(got)
            self._mistakes.append(f"metadata.probe.{key}: {mistake}, got {was}")
            return None

    def _strangers(self, type_: str | None) -> Iterator[str]:
        for key in sorted(self._said):
            if key not in _KEYS:
                yield f"metadata.probe.{_shown(key)}: not known; known are {', '.join(_KEYS)}"
                continue
            owners = [owner for owner, keys in _OF_TYPE.items() if key in keys]
            if type_ is not None and owners and type_ not in owners:
                yield f"metadata.probe.{key}: for type {owners[0]} only"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _type(value: Any) -> str:
    if not isinstance(value, str) or value.lower() not in _OF_TYPE:
        raise _Mistake("http, tcp or grpc")
    return value.lower()


def _host(value: Any) -> str:
    if isinstance(value, str):
        host = value.removeprefix("[").removesuffix("]")
        if _HOST.fullmatch(host) or _is_address(host):
            return host
    raise _Mistake("a host name or an IP address")


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _port(value: Any) -> int:
    if value is None:
        raise _Mistake("1 to 65535, here or in metadata.mesh.port")
    return _whole(value, 1, 65535)


def _threshold(value: Any) -> int:
    return _whole(value, 1, _MOST_IN_A_ROW)


def _whole(value: Any, least: int, most: int) -> int:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or value != value // 1 or not least <= value <= most:
        raise _Mistake(f"a whole number from {least} to {most}")
    return int(value)


def _path(value: Any) -> str:
    if not isinstance(value, str) or not _PATH.fullmatch(value):
        raise _Mistake("a path from /, at most 2048 visible ASCII characters, without #")
    return value


def _service(value: Any) -> str:
    if not isinstance(value, str) or len(value) > 255:
        raise _Mistake("the name of a gRPC service, at most 255 characters")
    return value


def _interval(value: Any) -> float:
    return _duration(value, MIN_INTERVAL_SECONDS, MAX_INTERVAL_SECONDS, "1s to 24h, such as 10s")


def _timeout(value: Any) -> float:
    return _duration(value, _MIN_TIMEOUT_SECONDS, _MAX_TIMEOUT_SECONDS, "10ms to 60s, such as 2s")


def _duration(value: Any, least: float, most: float, expected: str) -> float:
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    seconds = float(found[1]) * _UNITS[found[2]] if found else -1.0
    if not least <= seconds <= most:
        raise _Mistake(f"a duration of {expected}")
    return seconds


def _statuses(value: Any) -> frozenset[int]:
    if isinstance(value, list) and value:
        return frozenset(status for one in value for status in _range(one))
    raise _Mistake(_STATUSES)


def _range(value: Any) -> range:
    if isinstance(value, str):
        found = _STATUS_RANGE.fullmatch(value)
        low, high = (int(found[1]), int(found[2])) if found else (1, 0)
    else:
        low = high = _status(value)
    if low > high:
        raise _Mistake(_STATUSES)
    return range(low, high + 1)


def _status(value: Any) -> int:
    try:
        return _whole(value, 100, 599)
    except _Mistake:
        raise _Mistake(_STATUSES) from None
