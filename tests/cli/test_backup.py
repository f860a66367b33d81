"""`backup` and `restore` as a user runs them."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from nexus_registry.failures import SERVER_MISSING
from tests.support.servers import serving

Nexus = Callable[..., Result]


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _ok(result: Result) -> str:
    assert result.exit_code == 0, result.stderr
    return result.stdout


@pytest.fixture
def made(nexus: Nexus, tmp_path: Path) -> dict[str, Any]:
    """A backup, and what the command said of it."""
    file = tmp_path / "registry.backup"
    _ok(nexus("create", "service", f"for-{tmp_path.name}"))
    found: dict[str, Any] = json.loads(_ok(nexus("backup", str(file), "-o", "json")))
    return found


def test_backup_says_what_it_wrote(nexus: Nexus, tmp_path: Path) -> None:
    """Revision, size and checksum, to standard error: the file is the result."""
    file = tmp_path / "registry.backup"
    result = nexus("backup", str(file))
    assert _ok(result) == ""
    checksum = hashlib.sha256(file.read_bytes()).hexdigest()
    assert result.stderr.startswith("backed up revision ")
    assert result.stderr.endswith(f"KiB, SHA-256 {checksum}\n")
    assert nexus("backup", str(file), "--quiet").stderr == ""
    assert _names(tmp_path) == ["registry.backup"]


def test_backup_as_json(made: dict[str, Any]) -> None:
    """The same for programs."""
    data = Path(made["file"]).read_bytes()
    assert made["size"] == str(len(data))
    assert made["sha256"] == hashlib.sha256(data).hexdigest()
    assert int(made["revision"]) > 1


def test_backup_to_standard_output(
    spawn: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    """As `-` the file is what comes out, and what is said goes elsewhere."""
    with (tmp_path / "piped").open("wb") as pipe:
        process = spawn("backup", "-", "-o", "json", stdout=pipe)
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 0
    checksum = hashlib.sha256((tmp_path / "piped").read_bytes()).hexdigest()
    assert errors.startswith("backed up revision ")
    assert errors.endswith(f"SHA-256 {checksum}\n")


def test_backup_replaces_only_by_a_whole_one(
    nexus: Nexus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it fails, what was there stays, and nothing else is left."""
    from ose.registry.client import _backup

    file = tmp_path / "registry.backup"
    file.write_text("the one before")
    with monkeypatch.context() as patch:
        patch.setattr(_backup, "_DIGEST_BYTES", 31)
        failed = nexus("backup", str(file))
    assert failed.exit_code == 1
    assert "did not arrive whole" in failed.stderr
    assert file.read_text() == "the one before"
    assert _names(tmp_path) == ["registry.backup"]
    _ok(nexus("backup", str(file)))
    assert file.read_bytes()[:1] == b"\x89"
    assert nexus("backup", str(tmp_path / "no" / "folder" / "x")).exit_code == 3


def test_check_tells_what_is_in_a_backup(nexus: Nexus, made: dict[str, Any]) -> None:
    """Verified, counted, and nothing is made."""
    text = _ok(nexus("restore", made["file"], "--check"))
    assert f"{made['revision']}, readable from" in text
    assert made["sha256"] in text
    found = json.loads(_ok(nexus("restore", made["file"], "--check", "-o", "json")))
    assert {key: found[key] for key in ("revision", "size", "sha256")} == {
        key: made[key] for key in ("revision", "size", "sha256")
    }
    assert int(found["entities"]) >= 9
    assert "database" not in found
    assert _names(Path(made["file"]).parent) == ["registry.backup"]


async def test_restore_makes_a_database(nexus: Nexus, made: dict[str, Any]) -> None:
    """Of a backup of a registry in memory as of any other; a server serves it."""
    database = Path(made["file"]).with_name("registry.db")
    options = ("restore", made["file"], "--database", str(database))
    found = json.loads(_ok(await asyncio.to_thread(nexus, *options, "-o", "json")))
    assert found["database"] == str(database)
    assert found["epoch"] != found["backup_epoch"]
    async with serving(database) as running:
        statistics = await running.client.get_statistics()
        assert str(statistics.revision) == made["revision"]
        assert statistics.epoch == found["epoch"]
        again = await asyncio.to_thread(nexus, *options)
        assert again.exit_code == 1
        assert "another server has it open" in again.stderr
    again = await asyncio.to_thread(nexus, *options)
    assert again.exit_code == 1
    assert f"holds a registry of revision {made['revision']}" in again.stderr


def test_restore_by_the_environment(nexus: Nexus, made: dict[str, Any]) -> None:
    """Without --database it is $REGISTRY_DB, which `serve` uses as well."""
    database = Path(made["file"]).with_name("other.db")
    text = _ok(nexus("restore", made["file"], env={"REGISTRY_DB": str(database)}))
    assert str(database) in text
    assert database.is_file()
    refused = nexus("restore", made["file"], env={"REGISTRY_DB": "memory://"})
    assert refused.exit_code == 1
    assert "memory:// keeps nothing" in refused.stderr


def test_restore_refuses_bad_files(nexus: Nexus, made: dict[str, Any], tmp_path: Path) -> None:
    """Exit code 1 and one clear line that names the file; no trace of a database."""
    data, bad = Path(made["file"]).read_bytes(), tmp_path / "bad"
    for content, message in (
        (data[:-1], "it is cut off"),
        (data[:200] + bytes([data[200] ^ 1]) + data[201:], "damaged"),
        (data[:18] + b"\x07" + data[19:], "this program reads up to 2"),
        (b"something else", "it is not a backup of a registry"),
        (b"", "it is empty"),
    ):
        bad.write_bytes(content)
        for options in (["--check"], ["--database", str(tmp_path / "new.db")]):
            result = nexus("restore", str(bad), *options)
            assert result.exit_code == 1
            assert result.stderr.startswith(f"Error: {bad}: ")
            assert message in result.stderr
            assert result.stderr.count("\n") == 1
    assert _names(tmp_path) == ["bad", "registry.backup"]
    absent = nexus("restore", str(tmp_path / "absent"), "--check")
    assert absent.exit_code == 3
    assert "No such file" in absent.stderr


def test_restore_without_the_server(made: dict[str, Any], tmp_path: Path) -> None:
    """Where only the client is installed it says how to get the server."""
    (tmp_path / "hyper_registry.py").write_text(
        "raise ModuleNotFoundError('it is not there', name='hyper_registry')"
    )
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from nexus_registry.cli import main; main()"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, "restore", made["file"], "--check"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
        check=False,
    )
    assert (result.returncode, result.stderr) == (1, f"Error: {SERVER_MISSING}\n")


def test_watch_resets(nexus: Nexus, spawn: Callable[..., subprocess.Popen[str]]) -> None:
    """A compacted start fails; with --reset it says so, and begins anew with a snapshot."""
    kind = "reset-probe"
    for name in ("one", "two"):
        _ok(nexus("create", kind, name))
    _ok(nexus("compact", "--age", "0"))
    failed = nexus("watch", "--entity-type", kind, "--from", "2")
    assert failed.exit_code == 1
    assert "compacted" in failed.stderr
    watch = spawn("watch", "--entity-type", kind, "--from", "2", "--reset", "-o", "json")
    assert watch.stdout is not None
    lines = [json.loads(watch.stdout.readline()) for _ in range(4)]
    assert [line["type"] for line in lines] == ["reset", "snapshot", "snapshot", "snapshot_end"]
    watch.terminate()
    shown = spawn("watch", "--entity-type", kind, "--from", "2", "--reset")
    assert shown.stdout is not None
    assert "it begins anew" in shown.stdout.readline()
    shown.terminate()


def test_watch_from_a_time(nexus: Nexus, spawn: Callable[..., subprocess.Popen[str]]) -> None:
    """--from takes a time as well as a revision: what was committed behind it comes."""
    kind = "timed-probe"
    _ok(nexus("compact", "--age", "0"))
    _ok(nexus("create", kind, "one"))
    one = json.loads(_ok(nexus("get", f"{kind}/one", "-o", "json")))
    _ok(nexus("create", kind, "two"))
    watch = spawn("watch", "--entity-type", kind, "--from", one["created_at"], "-o", "json")
    assert watch.stdout is not None
    assert json.loads(watch.stdout.readline())["entity"]["name"] == "two"
    watch.terminate()
    assert nexus("watch", "--from", "2 fortnights").exit_code == 2
