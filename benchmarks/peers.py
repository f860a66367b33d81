"""The peers: etcd, built as a Go module, and PostgreSQL, from the operating system's packages.

Each is measured where it is to be had; the reason why not is a text that goes into the table.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.fields import bytes_field, number_field
from benchmarks.harness import BUILD, Program, Served, server_cpus

ETCD_VERSION = "v3.6.16"

PUT = "/etcdserverpb.KV/Put"
RANGE = "/etcdserverpb.KV/Range"
WATCH = "/etcdserverpb.Watch/Watch"

_BUILD_SECONDS = 1200.0
_POSTGRES_USER = "postgres"
_VERSIONS = Path("/usr/lib/postgresql")
_SETTINGS = (
    "shared_buffers=1GB",
    "work_mem=512MB",
    "maintenance_work_mem=512MB",
    "max_wal_size=8GB",
    "jit=off",
    # It is only read from, so how safely it is filled does not matter.
    "fsync=off",
    "autovacuum=off",
)


class Missing(Exception):
    """A peer is not to be had here; the text says why."""


# etcd


def put(key: bytes, value: bytes) -> bytes:
    """A PutRequest."""
    return bytes_field(1, key) + bytes_field(2, value)


def range_(key: bytes) -> bytes:
    """A RangeRequest for one key."""
    return bytes_field(1, key)


def watch(key: bytes, start_revision: int) -> bytes:
    """A WatchRequest for one key."""
    return bytes_field(1, bytes_field(1, key) + number_field(3, start_revision))


@contextlib.contextmanager
def etcd(directory: Path) -> Iterator[Served]:
    """An etcd with an empty store. Raises Missing."""
    program = _build_etcd()
    port, peer = _free_port(), _free_port()
    client_url, peer_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{peer}"
    data = directory / f"etcd-{port}"
    command = [str(program), "--data-dir", str(data), "--listen-client-urls", client_url]
    command += ["--advertise-client-urls", client_url, "--listen-peer-urls", peer_url]
    command += ["--initial-advertise-peer-urls", peer_url]
    command += ["--initial-cluster", f"default={peer_url}", "--quota-backend-bytes", str(6 << 30)]
    # As many threads as it has processors: what Go decides before it is moved to one.
    threads = {"GOMAXPROCS": str(len(server_cpus()))}
    running = Program(command, directory / "etcd.log", server_cpus(), threads)
    try:
        running.wait_for("serving client traffic insecurely")
        yield Served(running, port)
    finally:
        running.stop()
        shutil.rmtree(data, ignore_errors=True)


def _build_etcd() -> Path:
    program = BUILD / "bin" / f"etcd-{ETCD_VERSION}"
    if program.exists():
        return program
    if shutil.which("go") is None:
        raise Missing("etcd is built with Go, which is not here")
    # Its module has replacements, with which `go install` refuses it; a module around it does not.
    module = BUILD / "bench" / "etcd"
    module.mkdir(parents=True, exist_ok=True)
    (module / "go.mod").write_text("module peer\n\ngo 1.24\n")
    server = "go.etcd.io/etcd/server/v3"
    environment = {**os.environ, "GOFLAGS": "-mod=mod", "CGO_ENABLED": "0"}
    for command in (
        ("go", "get", f"{server}@{ETCD_VERSION}"),
        ("go", "build", "-o", str(program), server),
    ):
        built = subprocess.run(
            command,
            cwd=module,
            env=environment,
            timeout=_BUILD_SECONDS,
            capture_output=True,
            text=True,
            check=False,
        )
        if built.returncode:
            raise Missing(f"etcd could not be built: {built.stderr.strip().splitlines()[-1:]}")
    return program


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


# PostgreSQL


@dataclass(frozen=True)
class Database:
    """A PostgreSQL server with nothing in it, and how to reach it."""

    program: Program
    address: str

    def connect(self) -> Any:
        """A psycopg connection that commits by itself."""
        psycopg = importlib.import_module("psycopg")
        return psycopg.connect(self.address, autocommit=True)


@contextlib.contextmanager
def postgres() -> Iterator[Database]:
    """A PostgreSQL in a directory of its own. Raises Missing."""
    if importlib.util.find_spec("psycopg") is None:
        raise Missing("psycopg is not installed: requirements-bench.txt has it")
    binaries, user = _postgres_binaries(), _postgres_user()
    # Not in the checkout, which that user may not be allowed to reach.
    with tempfile.TemporaryDirectory(prefix="bench-postgres-") as parent:
        directory = Path(parent)
        directory.chmod(0o755)
        data, port = directory / "data", _free_port()
        data.mkdir()
        if user is not None:
            shutil.chown(data, user)
        _initialise(binaries, data, user)
        command = [str(binaries / "postgres"), "-D", str(data), "-p", str(port)]
        command += ["-h", "127.0.0.1", "-k", ""]
        command += [part for setting in _SETTINGS for part in ("-c", setting)]
        program = Program(command, directory / "postgres.log", server_cpus(), user=user)
        try:
            program.wait_for("ready to accept connections")
            address = f"host=127.0.0.1 port={port} user={_POSTGRES_USER} dbname=postgres"
            yield Database(program, address)
        finally:
            program.stop()


def _initialise(binaries: Path, data: Path, user: str | None) -> None:
    made = subprocess.run(
        [str(binaries / "initdb"), "-D", str(data), "-U", _POSTGRES_USER, "-A", "trust"],
        cwd=data,
        user=user,
        capture_output=True,
        text=True,
        check=False,
    )
    if made.returncode:
        raise Missing(f"initdb failed: {made.stderr.strip()[-200:]}")


def _postgres_binaries() -> Path:
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    versions = sorted(_VERSIONS.glob("*/bin/initdb"), key=lambda path: float(path.parts[-3]))
    if not versions:
        raise Missing("PostgreSQL is not installed")
    return versions[-1].parent


def _postgres_user() -> str | None:
    """Whom PostgreSQL is run as: None is whoever runs this. It refuses to be root's."""
    if os.geteuid() != 0:
        return None
    try:
        return pwd.getpwnam(_POSTGRES_USER).pw_name
    except KeyError:
        raise Missing("PostgreSQL does not run as root, and there is no other user") from None
