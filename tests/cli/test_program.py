"""Both programs as such: where options stand, help, exit codes, errors."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import import_module
from typing import Any

import click
import pytest
from click.testing import CliRunner

from nexus_registry import cli, plugin_manager
from nexus_registry.failures import Failure, failure_of
from nexus_registry.program import Program
from nexus_registry.session import Session
from nexus_registry.settings import DURATION, server_address
from ose.registry.client import (
    Aborted,
    AlreadyExists,
    DeadlineExceeded,
    FieldViolation,
    InvalidArgument,
    RegistryError,
    Unavailable,
)
from ose.registry.v1.entity_pb2 import Entity
from tests.cli.fake import FakeRegistry

PROGRAMS = ((cli.cli, cli.COMMANDS), (plugin_manager.manager, plugin_manager.COMMANDS))
OWN_COMMANDS = [
    (program, name, lazy)
    for program, commands in PROGRAMS
    for name, lazy in commands.items()
    if lazy.target.startswith("nexus_registry")
]


def _registry() -> FakeRegistry:
    return FakeRegistry([Entity(id="a", type="plugin", name="alpha", version="1.0")])


@pytest.mark.parametrize(
    "args",
    [
        ("--server", "there:1", "-o", "json", "--timeout", "5s", "get", "a"),
        ("get", "--server", "there:1", "-o", "json", "--timeout", "5s", "a"),
        ("get", "a", "--server", "there:1", "-o", "json", "--timeout", "5s"),
        ("--server", "elsewhere", "get", "a", "-ojson", "--server=there:1", "--timeout=5"),
    ],
)
def test_global_options_stand_before_or_after_the_command(args: tuple[str, ...]) -> None:
    """Both places mean the same, and the last one counts."""
    registry = _registry()
    result = registry.run(cli.cli, *args)
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout)["name"] == "alpha"
    assert registry.settings is not None
    assert (registry.settings.server, registry.settings.timeout) == ("there:1", 5.0)


def test_the_plugin_manager_takes_them_in_both_places_too() -> None:
    """One mechanism serves both programs."""
    for args in (("-o", "json", "get", "a"), ("get", "a", "-o", "json")):
        result = _registry().run(plugin_manager.manager, *args)
        assert json.loads(result.stdout)["name"] == "alpha"


def test_the_environment_says_which_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """$REGISTRY_SERVER, else localhost:50051; an option is stronger."""
    assert Session().settings.server == "localhost:50051"
    monkeypatch.setenv("REGISTRY_SERVER", "from-env")
    assert Session().settings.server == "from-env:50051"
    registry = _registry()
    registry.run(cli.cli, "get", "a", "--server", "option:9")
    assert registry.settings is not None
    assert registry.settings.server == "option:9"


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("localhost", "localhost:50051"),
        ("localhost:1", "localhost:1"),
        ("::1", "[::1]:50051"),
        ("[::1]", "[::1]:50051"),
        ("[::1]:7", "[::1]:7"),
        ("unix:/run/registry.sock", "unix:/run/registry.sock"),
        ("dns:///registry:50051", "dns:///registry:50051"),
    ],
)
def test_an_address_without_a_port_gets_the_default_one(given: str, address: str) -> None:
    """GRPC itself would take 443."""
    assert server_address(given) == address


@pytest.mark.parametrize("given", ["http://localhost:8080", "a b", ""])
def test_what_is_no_address_is_refused(given: str) -> None:
    """The HTTP address is a likely mistake, and is told."""
    result = _registry().run(cli.cli, "get", "a", "--server", given)
    assert result.exit_code == 2
    assert "host:port" in result.stderr or "localhost:50051" in result.stderr


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5", 5), ("500ms", 0.5), ("30s", 30), ("1h30m", 5400), ("1.5h", 5400), ("7d", 604800)],
)
def test_durations(text: str, seconds: float) -> None:
    """With a unit, several of them, or as a number of seconds."""
    assert DURATION.convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1", "5x", "1h 30m", "nan", "999999999h"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """As a usage error."""
    with pytest.raises(click.BadParameter):
        DURATION.convert(text, None, None)


@pytest.mark.parametrize(
    ("program", "name", "lazy"), OWN_COMMANDS, ids=[name for _, name, _ in OWN_COMMANDS]
)
def test_every_command_has_help_with_examples(program: Program, name: str, lazy: Any) -> None:
    """And its line in the list of commands is the first sentence of its help."""
    result = CliRunner().invoke(program, [name, "--help"])
    assert result.exit_code == 0
    assert "Examples:" in result.stdout
    assert "Exit codes:" in result.stdout
    assert "Global options:" in result.stdout
    module, _, attribute = lazy.target.partition(":")
    command = getattr(import_module(module), attribute)
    assert (
        command.help.split("\n\n")[0]
        .replace("\n", " ")
        .rstrip(".:")
        .startswith(lazy.help.rstrip("."))
    )


@pytest.mark.parametrize("program", [cli.cli, plugin_manager.manager])
def test_the_programs_explain_themselves(program: Program) -> None:
    """Help on standard output; without a command, on standard error and with exit code 2."""
    asked = CliRunner().invoke(program, ["--help"])
    assert asked.exit_code == 0
    assert "Exit codes: 0 done" in asked.stdout
    lost = CliRunner().invoke(program, [])
    assert lost.exit_code == 2
    assert "Commands:" in lost.stderr


def test_help_loads_neither_grpc_nor_rich_nor_yaml() -> None:
    """Starting the program is fast: what is slow to import is imported by who needs it."""
    code = (
        "import sys\n"
        "from nexus_registry.cli import cli\n"
        "cli.main(['--help'], standalone_mode=False)\n"
        "slow = {'grpc', 'rich', 'yaml', 'google.protobuf', 'hyper_registry'} & set(sys.modules)\n"
        "assert not slow, slow\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_serve_without_the_server_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client is useful without the server, and says how to get it."""
    monkeypatch.setitem(sys.modules, "hyper_registry", None)
    monkeypatch.delitem(sys.modules, "hyper_registry.__main__", raising=False)
    result = CliRunner().invoke(cli.cli, ["serve"])
    assert result.exit_code == 1
    assert "pip install 'ose-registry[server]'" in result.stderr


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (Unavailable("no"), 5),
        (DeadlineExceeded("late"), 5),
        (AlreadyExists("taken", "NAME_TAKEN"), 4),
        (Aborted("moved", "REVISION_MISMATCH"), 4),
        (InvalidArgument("bad", "INVALID_FIELD"), 1),
        (RegistryError("odd"), 1),
    ],
)
def test_exit_codes_follow_the_status(error: RegistryError, exit_code: int) -> None:
    """Scripts decide by them."""
    failure = failure_of(error, "there:1")
    assert failure is not None
    assert failure.exit_code == exit_code


def test_an_error_is_one_line_and_its_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    """No stack trace; with JSON output it is a google.rpc.Status on one line."""
    registry = _registry()
    error = InvalidArgument(
        "the request is\nmalformed",
        "INVALID_FIELD",
        {"field": "entity.name"},
        (FieldViolation("entity.name", "is too long"),),
    )

    def refuse(*_args: Any, **_options: Any) -> Entity:
        raise error

    monkeypatch.setattr(registry, "create_entity", refuse)
    text = registry.run(cli.cli, "create", "plugin", "x")
    assert text.exit_code == 1
    assert text.stdout == ""
    assert text.stderr == "Error: the request is malformed\n  entity.name: is too long\n"
    form = json.loads(registry.run(cli.cli, "create", "plugin", "x", "-o", "json").stderr)
    assert form["code"] == 3
    assert form["details"][0]["reason"] == "INVALID_FIELD"
    assert form["details"][1]["field_violations"][0]["field"] == "entity.name"


def test_not_found_is_exit_code_3_in_both_forms() -> None:
    """The program's own errors are a Status too."""
    assert _registry().run(cli.cli, "get", "nothing").exit_code == 3
    result = _registry().run(cli.cli, "get", "nothing", "-o", "json")
    assert result.exit_code == 3
    assert json.loads(result.stderr)["code"] == 5


def test_an_interruption_is_exit_code_130(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the command was doing."""
    registry = _registry()

    def interrupt(*_args: Any, **_options: Any) -> Entity:
        raise KeyboardInterrupt

    monkeypatch.setattr(registry, "get_entity", interrupt)
    assert registry.run(cli.cli, "get", "a").exit_code == 130


def test_a_reader_that_left_is_exit_code_141(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if SIGPIPE had ended the program, and without a word."""
    registry = _registry()

    def leave(*_args: Any, **_options: Any) -> Entity:
        raise BrokenPipeError

    monkeypatch.setattr(registry, "get_entity", leave)
    result = registry.run(cli.cli, "get", "a")
    assert (result.exit_code, result.stderr) == (141, "")


def test_a_failure_of_the_program_itself_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is neither the registry's nor the system's error keeps its trace."""
    registry = _registry()

    def fail(*_args: Any, **_options: Any) -> Entity:
        raise ZeroDivisionError

    monkeypatch.setattr(registry, "get_entity", fail)
    assert isinstance(registry.run(cli.cli, "get", "a").exception, ZeroDivisionError)


def test_a_failure_shows_its_details() -> None:
    """One to a line."""
    failure = Failure("no", details=["a", "b"])
    assert failure.status["message"] == "no; a; b"
