"""The server's options: from flags, the environment and a file, in that order of strength."""

from __future__ import annotations

import ipaddress
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs
import yaml

from hyper_registry.health.probes.addresses import Allowed
from hyper_registry.store import is_postgres

SYSTEM_DATABASE = Path("/var/lib/ose/registry/registry.db")
SYSTEM_CONFIG = Path("/etc/ose/registry/registry.yaml")

PLANNED = {
    "auth": "authentication",
    "jwt": "authentication",
    "roles": "role-based access",
    "tls": "TLS",
    "sync": "multi-region sync",
    "graphql": "GraphQL",
    "kubernetes": "the Kubernetes controller",
}
"""Keys of a configuration file that the integration guide shows and this version does not serve."""
REGISTRY_FILE_KEYS = frozenset({"classification_rules", "features"})
"""Keys that the integration guide shows, and that a feature registry file has."""


# Ends as an Origin header does: without a slash.
_ORIGIN = re.compile(r"https?://(\[[0-9a-f:]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?")
_HOST = re.compile(r"(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_ENDPOINT = re.compile(r"https?://[^\s/?#]+/?")


class ConfigError(Exception):
    """The options cannot be used; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that a server is started with.

    `database` is a path, `sqlite:///PATH`, `postgresql://HOST/DATABASE` or `memory://`. Addresses
    are `HOST:PORT`, port 0 being any free one; gRPC may also be served on `unix:PATH`, and HTTP not
    at all (''). HTTP is answered under `localhost`, addresses, and the names `allowed_hosts`,
    `*.example.org` being all below that one and `*` any; of none, any where other machines reach
    it.
    `retention_seconds` and `retention_changes` say how much of the past compaction by itself keeps.
    `cors_origins` are the origins whose scripts browsers let use the HTTP API, `*` being all.
    `grace_seconds` is how long a shutdown waits for calls in flight. `access_log` logs every call,
    and `otlp_endpoint`, a URL, is where spans of calls and commits are sent, if it is set. Overdue
    leases are held back if they are more than the share `lease_hold_share` of all, and more than
    `lease_hold_least`. `probes` lets the registry probe services, at addresses in the networks
    `probe_allow` only. `migrate` makes an older schema of the database the newest one at the start;
    without it, that is refused. `workers` is how many processes serve.
    """

    database: str
    grpc_address: str = "127.0.0.1:50051"
    http_address: str = "127.0.0.1:8080"
    insecure: bool = False
    retention_seconds: float = 3600.0
    retention_changes: int = 1_000_000
    max_watches: int = 10_000
    cors_origins: tuple[str, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    grace_seconds: float = 3.0
    log_level: str = "info"
    access_log: bool = False
    otlp_endpoint: str = ""
    feature_registry: str = ""
    lease_hold_share: float = 0.15
    lease_hold_least: int = 10
    probes: bool = False
    probe_allow: tuple[str, ...] = ()
    migrate: bool = True
    workers: int = 1

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names under which HTTP is answered beside localhost and addresses."""
        if self.allowed_hosts or not self.http_address:
            return self.allowed_hosts
        host, _ = split_address("http_address", self.http_address)
        # Where others reach it, it has names that nobody knows here.
        return () if is_loopback(host) else ("*",)

    def check(self) -> None:
        """Refuses what must not be served. Raises ConfigError."""
        for option in ("grpc_address", "http_address"):
            address = getattr(self, option)
            if is_local(option, address):
                continue
            host, _ = split_address(option, address)
            if not self.insecure and not is_loopback(host):
                raise ConfigError(
                    f"{option} {address} can be reached from other machines, and this version has "
                    "neither TLS nor authentication: bind a loopback address, or say --insecure"
                )
        self._check_workers()
        if self.otlp_endpoint and not _ENDPOINT.fullmatch(self.otlp_endpoint):
            raise ConfigError(
                f"otlp_endpoint is a URL such as http://localhost:4317, got {self.otlp_endpoint!r}"
            )
        try:
            Allowed(self.probe_allow)
        except ValueError as error:
            raise ConfigError(f"probe_allow are networks such as 10.0.0.0/8: {error}") from None
        for origin in self.cors_origins:
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise ConfigError(
                    f"cors_origins are * or as https://app.example.org:8443, got {origin!r}"
                )

        for host in self.allowed_hosts:
            if host != "*" and not _HOST.fullmatch(host):
                raise ConfigError(
                    "allowed_hosts are * or as registry.example.org or *.example.org, without a "
                    f"port, got {host!r}"
                )

    def _check_workers(self) -> None:
        if self.workers == 1:
            return
        if not is_postgres(self.database):
            raise ConfigError(
                f"{self.workers} workers need a database that they can share: name PostgreSQL's, "
                "--database postgresql://HOST/DATABASE, or leave --workers out"
            )
        if sys.platform != "linux":
            raise ConfigError(
                "workers share a port as Linux alone does it: run one server for each"
            )
        for option in ("grpc_address", "http_address"):
            address = getattr(self, option)
            if is_local(option, address):
                if address:
                    raise ConfigError(f"{option} {address}: workers share ports, not sockets")
            elif split_address(option, address)[1] == 0:
                raise ConfigError(f"{option} {address}: workers need a port to share, not any one")


def is_local(option: str, address: str) -> bool:
    """Whether an address is none of a network: a socket in the file system, or nothing."""
    if option == "grpc_address":
        return address.startswith("unix:") and len(address) > len("unix:")
    return not address


def split_address(option: str, address: str) -> tuple[str, int]:
    """Host and port of an address. Raises ConfigError."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"{option} is HOST:PORT, got {address!r}")
    return host.strip("[]"), int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def default_database() -> str:
    """Where a server keeps its data by default: the system's place if it may, else the user's."""
    directory = SYSTEM_DATABASE.parent
    if os.access(directory, os.W_OK):
        return str(SYSTEM_DATABASE)
    return str(Path(platformdirs.user_data_dir("ose-registry", appauthor=False), "registry.db"))


def make_default_directory(database: str) -> None:
    """Makes the directory of the default database; any other one is its owner's to make.

    Raises ConfigError.
    """
    if database == default_database():
        try:
            Path(database).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"{Path(database).parent}: {error.strerror}") from None


def read_file(path: Path, known: Mapping[str, object]) -> dict[str, Any]:
    """The options in a YAML file, whose keys are those of the flags. Raises ConfigError."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: a mapping of options, got a {type(values).__name__}")
    for key in values:
        name = str(key).replace("-", "_")
        if name in PLANNED:
            raise ConfigError(f"{path}: {key}: {PLANNED[name]} is not part of this version")
        if name in REGISTRY_FILE_KEYS:
            raise ConfigError(
                f"{path}: {key} belong in a file of their own: name it with feature-registry"
            )
        if name not in known:
            raise ConfigError(f"{path}: no option {key!r}; options are {', '.join(sorted(known))}")
    return {str(key).replace("-", "_"): value for key, value in values.items()}
