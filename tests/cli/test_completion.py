"""What a shell completes while somebody types."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner

from nexus_registry import cli, plugin_manager
from nexus_registry.session import Session
from ose.registry.client import Unavailable
from ose.registry.v1.entity_pb2 import Entity

ENTITIES = (
    Entity(id="1", type="service", name="billing", version="1"),
    Entity(id="2", type="service", name="billing", version="2"),
    Entity(id="3", type="service", name="search"),
    Entity(id="4", type="plugin", name="search"),
    Entity(id="5", type="plugin", name="bills"),
)


class Registry:
    """What completion asks of a client."""

    def __init__(self) -> None:
        self.closed = 0

    def list_entities(
        self,
        *,
        name_prefix: str,
        type: list[str],  # noqa: A002
        max_results: int,
    ) -> Iterator[Entity]:
        """The entities of the types whose names start so."""
        found = [one for one in ENTITIES if one.name.startswith(name_prefix)]
        yield from [one for one in found if not type or one.type in type][:max_results]

    def get_statistics(self) -> Any:
        """The types in use."""
        return SimpleNamespace(
            entities_by_type={"plugin": 2, "service": 3},
            relationships_by_type={"depends_on": 1, "provides": 1},
        )

    def close(self) -> None:
        """Notes that it was closed."""
        self.closed += 1


def complete(*words: str, client: Any = None) -> list[str]:
    """What is offered for the last word."""
    asked: Any = client or Registry()
    session = Session(connect=lambda _settings: asked)
    shell = BashComplete(cli.cli, {"obj": session}, "nexus-registry", "_NEXUS_REGISTRY_COMPLETE")
    return [one.value for one in shell.get_completions([*words[:-1]], words[-1])]


def test_commands_and_options() -> None:
    """Their names, from the program itself."""
    assert {"get", "graph"} <= {*complete("g")}
    assert "--depth" in complete("graph", "billing", "--d")


def test_entities_by_name() -> None:
    """Each name once, however many versions it has; with its type if others have the name too."""
    assert complete("get", "bil") == ["billing", "bills"]
    assert complete("get", "sea") == ["plugin/search", "service/search"]


def test_entities_of_a_type() -> None:
    """`type/` narrows them, and stays."""
    assert complete("deps", "service/") == ["service/billing", "service/search"]


def test_types_in_use() -> None:
    """Entity types and relationship types; of a list with commas, its last part."""
    assert complete("list", "pl") == ["plugin"]
    assert complete("deps", "billing", "--type", "depends_on,pro") == ["depends_on,provides"]
    assert complete("graph", "billing", "--entity-type", "") == ["plugin", "service"]


def test_a_registry_that_does_not_answer_offers_nothing() -> None:
    """Typing goes on: no error, no wait beyond a second, and the client is closed."""

    class Down(Registry):
        def get_statistics(self) -> Any:
            raise Unavailable("not there", "", {})

    down = Down()
    assert complete("list", "pl", client=down) == []
    assert down.closed == 1


def test_the_server_that_was_typed_is_asked() -> None:
    """A global option before the word counts, and the time is a second at most."""
    asked = []

    def connect(settings: Any) -> Any:
        asked.append((settings.server, settings.timeout))
        return Registry()

    shell = BashComplete(cli.cli, {"obj": Session(connect=connect)}, "nexus-registry", "_X")
    assert shell.get_completions(["--server", "there:7", "list"], "plu")
    assert asked == [("there:7", 1.0)]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_names_its_program(shell: str) -> None:
    """Each program completes itself."""
    for program in (cli.cli, plugin_manager.manager):
        result = CliRunner().invoke(program, ["completion", shell], prog_name=program.name)
        assert result.exit_code == 0, result.stderr
        assert str(program.name) in result.stdout
        assert f"_{program.name}_COMPLETE".replace("-", "_").upper() in result.stdout


def test_bash_completes_a_command_line(tmp_path: Path, require: Callable[[str], Path]) -> None:
    """The script, loaded by bash itself, offers the commands that the program has."""
    bash = require("bash")
    script = CliRunner().invoke(cli.cli, ["completion", "bash"], prog_name="nexus-registry").stdout
    (tmp_path / "completion.bash").write_text(script)
    programs = Path(sys.executable).parent
    ask = (
        f"PATH={programs}:$PATH; source {tmp_path}/completion.bash;"
        "COMP_WORDS=(nexus-registry imp); COMP_CWORD=1;"
        "_nexus_registry_completion nexus-registry; echo ${COMPREPLY[@]}"
    )
    done = subprocess.run([bash, "-c", ask], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["impact", "import"], done.stderr
