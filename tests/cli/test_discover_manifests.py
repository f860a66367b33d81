"""`nexus-plugin-manager discover` of manifests, and how it follows them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from nexus_registry.commands.plugins import discovering
from nexus_registry.registering import Outcome, Registrar
from nexus_registry.rendering.outcomes import Teller
from nexus_registry.session import Session
from ose.registry.client import RegistryClient, Unavailable
from ose.registry.manifest import Change
from tests.plugins.samples import manifest

Run = Callable[..., Result]
Spawn = Callable[..., "subprocess.Popen[str]"]

PROGRAM = "from nexus_registry.plugin_manager import main; main()"


@pytest.fixture
def tag() -> str:
    """A word that no other test uses."""
    return f"t{uuid.uuid4().hex[:10]}"


@pytest.fixture
def spawn_manager(address: str) -> Iterator[Spawn]:
    """`spawn_manager("discover")` starts nexus-plugin-manager as a process of its own."""
    running: list[subprocess.Popen[str]] = []

    def start(*args: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *args],
            text=True,
            env=os.environ | {"REGISTRY_SERVER": address},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def _put(path: Path, *manifests: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    written = path.with_name(".new")
    written.write_text("\n".join(map(json.dumps, manifests)), encoding="utf-8")
    return written.replace(path)


def _said(outcomes: Iterator[Outcome]) -> list[tuple[str, str]]:
    return [(one.what, one.name) for one in outcomes]


def test_all_below_some_folders(manager: Run, tag: str, tmp_path: Path) -> None:
    """What is new is told, what is unchanged counted; a changed one replaces what was there."""
    one = _put(tmp_path / "one" / "plugin.json", manifest(f"{tag}-a"))
    _put(tmp_path / "one" / "in" / "plugin.json", manifest(f"{tag}-b"))
    two = _put(tmp_path / "two" / "plugin.json", manifest(f"{tag}-c"), manifest("a b"))
    roots = (str(tmp_path / "one"), str(tmp_path / "two"))
    first = manager("discover", *roots)
    assert first.exit_code == 1
    *told, counts = first.stdout.splitlines()
    assert [line.split(",")[0].split()[1] for line in told] == [
        f"plugin/{tag}-{letter}@1.0.0" for letter in "abc"
    ]
    assert counts == "3 registered, 1 broken"
    assert first.stderr.startswith(f"{two}:2:")
    _put(one, manifest(f"{tag}-a", author="ann"))
    _put(two, manifest(f"{tag}-c"))
    dry = manager("discover", *roots, "--dry-run")
    assert dry.stdout.splitlines()[0].startswith(f"would replace plugin/{tag}-a@1.0.0")
    assert "(dry run: nothing was written)" in dry.stdout
    again = json.loads(manager("discover", *roots, "-o", "json").stdout)
    assert [one["outcome"] for one in again] == ["replaced", "unchanged", "unchanged"]


def test_where_it_looks(
    manager: Run, tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the folders of the environment, or else in the working directory too."""
    here = _put(tmp_path / "here" / "plugin.json", manifest(f"{tag}-here")).parent
    there = _put(tmp_path / "there" / "plugin.json", manifest(f"{tag}-there")).parent
    monkeypatch.chdir(here)
    assert f"plugin/{tag}-here@" in manager("discover").stdout
    monkeypatch.setenv("PLUGIN_REGISTRY_PATH", f"{there}{os.pathsep}")
    told = manager("discover").stdout
    assert f"plugin/{tag}-there@" in told
    assert "1 registered" in told
    monkeypatch.setenv("PLUGIN_REGISTRY_PATH", str(tmp_path / "nowhere"))
    missing = manager("discover")
    assert missing.exit_code == 1
    assert "nowhere: there is no such file" in missing.stderr
    (tmp_path / "empty").mkdir()
    empty = manager("discover", str(tmp_path / "empty"))
    assert empty.exit_code == 0
    assert empty.stderr.startswith("no plugin.yaml, plugin.yml or plugin.json below ")


@pytest.mark.parametrize(
    "args",
    [
        ("--scope", "x"),
        ("--prune",),
        ("--from", "compose", "--watch"),
        ("--from", "compose", ".", ".."),
        ("--from", "nothing"),
        ("no/such/folder",),
    ],
)
def test_what_does_not_go_together(manager: Run, args: tuple[str, ...]) -> None:
    """Is wrong usage."""
    assert manager("discover", *args).exit_code == 2


def test_following(manager: Run, spawn_manager: Spawn, tag: str, tmp_path: Path) -> None:
    """What comes, changes, breaks and goes is told as it happens; Ctrl-C ends it."""
    path = _put(tmp_path / "a" / "plugin.json", manifest(f"{tag}-a"))
    with spawn_manager("discover", str(tmp_path), "--watch", "--prune") as process:
        out, err = process.stdout, process.stderr
        assert out is not None
        assert err is not None
        assert err.readline() == f"following {tmp_path}; Ctrl-C ends it\n"
        assert out.readline().startswith(f"registered plugin/{tag}-a@1.0.0")
        _put(path, manifest(f"{tag}-a", author="ann"))
        assert out.readline().startswith(f"replaced plugin/{tag}-a@1.0.0")
        _put(path, manifest(f"{tag}-a", author=3))
        assert ": metadata.author: " in err.readline()
        _put(tmp_path / "b" / "plugin.json", manifest(f"{tag}-b"))
        assert out.readline().startswith(f"registered plugin/{tag}-b@1.0.0")
        path.unlink()
        assert out.readline() == f"unregistered plugin/{tag}-a@1.0.0\n"
        process.send_signal(signal.SIGINT)
        assert (process.wait(20), err.read()) == (130, "")
    assert manager("show", f"{tag}-a").exit_code == 3


def test_following_for_programs(spawn_manager: Spawn, tag: str, tmp_path: Path) -> None:
    """One JSON object a line; without --prune what is gone stays registered."""
    path = _put(tmp_path / "plugin.json", manifest(tag))
    with spawn_manager("discover", str(tmp_path), "--watch", "-o", "json", "-q") as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())["outcome"] == "registered"
        path.unlink()
        gone = json.loads(process.stdout.readline())
        assert (gone["outcome"], gone["name"]) == ("gone", f"{tag}@1.0.0")
        process.send_signal(signal.SIGINT)
        process.wait(20)


def test_a_wrong_address_is_told_at_once(manager: Run, tmp_path: Path) -> None:
    """Only a connection that breaks later is made again."""
    args = ("--watch", "--server", "127.0.0.1:1", "--timeout", "1s")
    assert manager("discover", str(tmp_path), *args).exit_code == 5


# --- What a registrar knows of its files ----------------------------------------------------------


@pytest.fixture
def registrar(address: str) -> Iterator[Registrar]:
    """One that replaces and prunes, as a follower does."""
    with RegistryClient(address) as client:
        yield Registrar(client, replace=True, prune=True)


def test_a_manifest_that_moves(registrar: Registrar, tag: str, tmp_path: Path) -> None:
    """Stays, though its first file goes."""
    one, two = (_put(tmp_path / name, manifest(tag)) for name in ("1.json", "2.json"))
    assert _said(registrar.take(one)) == [("registered", f"{tag}@1.0.0")]
    assert _said(registrar.take(two)) == [("unchanged", f"{tag}@1.0.0")]
    one.unlink()
    assert _said(registrar.drop(one)) == []
    assert _said(registrar.drop(two)) == [("unregistered", f"{tag}@1.0.0")]
    assert _said(registrar.drop(two)) == []


def test_two_manifests_of_a_version(registrar: Registrar, tag: str, tmp_path: Path) -> None:
    """The first one holds, until it is gone: then the other one does."""
    one = _put(tmp_path / "1.json", manifest(tag))
    two = _put(tmp_path / "2.json", manifest(tag, author="ann"))
    assert _said(registrar.take(one)) == [("registered", f"{tag}@1.0.0")]
    assert _said(registrar.take(two)) == [("broken", f"{tag}@1.0.0")]
    _put(one, manifest(f"{tag}-other"))
    assert _said(registrar.take(one)) == [
        ("registered", f"{tag}-other@1.0.0"),
        ("replaced", f"{tag}@1.0.0"),
    ]


def test_another_version_in_a_file(registrar: Registrar, tag: str, tmp_path: Path) -> None:
    """Takes the place of the one before; who needs that keeps it."""
    path = _put(tmp_path / "1.json", manifest(tag, "1"))
    user = _put(tmp_path / "2.json", manifest(f"{tag}-user", plugins=[f"{tag}<2"]))
    assert _said(registrar.take(path)) == [("registered", f"{tag}@1")]
    assert _said(registrar.take(user)) == [("registered", f"{tag}-user@1.0.0")]
    _put(path, manifest(tag, "2"))
    assert _said(registrar.take(path)) == [("registered", f"{tag}@2"), ("refused", f"{tag}@1")]


def test_a_file_that_breaks_is_not_one_that_is_gone(
    registrar: Registrar, tag: str, tmp_path: Path
) -> None:
    """Its plugin stays, for the manifest may still be meant."""
    path = _put(tmp_path / "1.json", manifest(tag))
    assert _said(registrar.take(path)) == [("registered", f"{tag}@1.0.0")]
    path.write_text("{", encoding="utf-8")
    assert _said(registrar.take(path)) == [("broken", "")]
    _put(path, manifest(tag))
    assert _said(registrar.take(path)) == [("unchanged", f"{tag}@1.0.0")]


def test_what_was_not_done_is_done_later(
    registrar: Registrar, tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A registry that cannot be asked just then forgets nothing."""
    one = _put(tmp_path / "1.json", manifest(tag))
    two = _put(tmp_path / "2.json", manifest(tag, author="ann"))
    assert _said(registrar.take(one)) == [("registered", f"{tag}@1.0.0")]
    assert _said(registrar.take(two)) == [("broken", f"{tag}@1.0.0")]

    def fail(*_args: Any, **_options: Any) -> None:
        raise Unavailable("it stops")

    with monkeypatch.context() as patch:
        patch.setattr(registrar.client, "register_plugin", fail)
        with pytest.raises(Unavailable):
            _said(registrar.drop(one))
    assert _said(registrar.drop(one)) == [("replaced", f"{tag}@1.0.0")]


async def test_a_registry_that_is_away_for_a_while(
    registrar: Registrar,
    address: str,
    tag: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A follower says so once, tries again, and takes in everything."""
    monkeypatch.setattr(discovering, "_AGAIN_SECONDS", 0.01)
    register, away = registrar.client.register_plugin, iter(range(3))

    def sometimes(*args: Any, **options: Any) -> Any:
        for _ in away:
            raise Unavailable("it stops")
        return register(*args, **options)

    monkeypatch.setattr(registrar.client, "register_plugin", sometimes)
    changes = [
        Change(_put(tmp_path / f"{letter}.json", manifest(f"{tag}-{letter}"))) for letter in "ab"
    ]
    session = Session()
    session.settings.server = address
    await discovering._take(session, changes, registrar, Teller(session))
    told = capsys.readouterr()
    assert told.err.splitlines() == [
        "the registry cannot be asked, trying again: it stops",
        "the registry answers again; took in 2 changes",
    ]
    names = [line.split()[1].rstrip(",") for line in told.out.splitlines()]
    assert names == [f"plugin/{tag}-a@1.0.0", f"plugin/{tag}-b@1.0.0"]
