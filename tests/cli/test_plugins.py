"""`nexus-plugin-manager`, command by command, against a server."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from click.shell_completion import BashComplete
from click.testing import CliRunner, Result

from nexus_registry import cli, plugin_manager
from nexus_registry.commands.plugins import features, mesh, plan, rules
from nexus_registry.session import Session
from ose.registry.manifest import schema_text
from tests.cli.fake import FakeRegistry
from tests.plugins.samples import manifest

Run = Callable[..., Result]

GROUPS = {"features": features, "mesh": mesh, "plan": plan, "rules": rules}
NESTED = [(group, name) for group, module in GROUPS.items() for name in module.COMMANDS]


def _ok(result: Result) -> str:
    assert result.exit_code == 0, result.stderr
    return result.stdout


def _json(result: Result) -> Any:
    return json.loads(_ok(result))


def _rows(result: Result) -> list[list[str]]:
    """The cells of a table, without its headings."""
    return [line.split() for line in _ok(result).splitlines()[1:]]


@pytest.fixture
def tag() -> str:
    """A word that no other test uses."""
    return f"t{uuid.uuid4().hex[:10]}"


@pytest.fixture
def add(manager: Run, tmp_path: Path) -> Callable[..., Any]:
    """`add("a", "1.0", ...)` registers a manifest; its entity as JSON."""

    def register(*args: Any, **metadata: Any) -> Any:
        path = _write(tmp_path / f"{uuid.uuid4().hex}.json", manifest(*args, **metadata))
        [outcome] = _json(manager("register", str(path), "-o", "json"))
        assert outcome["outcome"] == "registered"
        return outcome["plugin"]

    return register


def _write(path: Path, *manifests: Any) -> Path:
    """A file of manifests: JSON, one a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(json.dumps, manifests)), encoding="utf-8")
    return path


@pytest.mark.parametrize(("group", "name"), NESTED)
def test_every_command_of_a_group_has_help_with_examples(group: str, name: str) -> None:
    """And its line in the list of commands is the first sentence of its help."""
    result = CliRunner().invoke(plugin_manager.manager, [group, name, "--help"])
    assert result.exit_code == 0
    for part in (f"Usage: nexus-plugin-manager {group} {name} ", "Examples:", "Exit codes:"):
        assert part in result.stdout
    lazy = GROUPS[group].COMMANDS[name]
    module, _, attribute = lazy.target.partition(":")
    help_ = getattr(import_module(module), attribute).help
    assert " ".join(help_.split("\n\n")[0].split()).startswith(lazy.help.rstrip("."))


@pytest.mark.parametrize("group", ["features", "mesh", "rules"])
def test_a_group_alone_lists(manager: Run, group: str) -> None:
    """`mesh` is `mesh list`, also with global options; what is no command is refused."""
    assert _json(manager(group, "-o", "json")) == _json(manager(group, "list", "-o", "json"))
    assert manager(group, "nothing").exit_code == 2
    assert "Commands:" in _ok(manager(group, "--help"))


# --- Registering ----------------------------------------------------------------------------------


def test_registering_a_folder(manager: Run, tag: str, tmp_path: Path) -> None:
    """Its own manifest; the same again changes nothing, which is told too."""
    _write(tmp_path / "plugin.json", manifest(tag, feature="ai-ml"))
    _write(tmp_path / "examples" / "plugin.json", manifest(f"{tag}-example"))
    told = _ok(manager("register", str(tmp_path)))
    assert told.startswith(f"registered plugin/{tag}@1.0.0 in ai-ml (id ")
    again = _ok(manager("register", str(tmp_path)))
    assert again.startswith(f"unchanged plugin/{tag}@1.0.0 ")
    assert _ok(manager("register", str(tmp_path), "-q")).strip() in told
    assert manager("show", f"{tag}-example").exit_code == 3


def test_registering_many(manager: Run, tag: str, tmp_path: Path) -> None:
    """All below a folder without one of its own; what is wrong is told, and stops nothing else."""
    _write(tmp_path / "a" / "plugin.json", manifest(f"{tag}-a"), manifest(f"{tag}-b"))
    broken = _write(
        tmp_path / "b" / "plugin.json",
        manifest(f"{tag}-c", mesh="x y"),
        manifest(f"{tag}-d", feature="no-such"),
        manifest(f"{tag}-e", plugins=[f"{tag}-a", f"{tag}-z>1"]),
    )
    result = manager("register", str(tmp_path))
    assert result.exit_code == 1
    told = [line.split(",")[0].split()[:2] for line in result.stdout.splitlines()]
    names = [f"plugin/{tag}-{letter}@1.0.0" for letter in "abe"]
    assert told == [["registered", name] for name in names]
    first, second, needs, end = result.stderr.splitlines()
    assert first.startswith(f"{broken}:2:1: metadata.feature: ")
    assert second.startswith(f"{broken}:1:")
    assert ": mesh_integration.service_name: " in second
    assert needs == f"{tag}-e@1.0.0 needs what is not there yet: {tag}-z>1"
    assert end == "Error: 2 of 5 manifests could not be registered"


def test_outcomes_as_json(manager: Run, tag: str, tmp_path: Path) -> None:
    """One for each manifest, and the mistakes with their places."""
    path = _write(tmp_path / "x.json", manifest(tag), manifest(f"{tag} ", "1"))
    result = manager("register", str(path), "-o", "json")
    assert result.exit_code == 1
    good, bad = json.loads(result.stdout)
    assert (good["outcome"], good["line"], good["plugin"]["name"]) == ("registered", 1, tag)
    assert (bad["outcome"], bad["problems"][0]["path"]) == ("broken", "metadata.name")
    assert bad["problems"][0]["line"] == 2


def test_another_manifest_of_a_version(manager: Run, tag: str, tmp_path: Path) -> None:
    """It is refused with a hint, replaced if asked to; two of one run are refused even then."""
    path = _write(tmp_path / "plugin.json", manifest(tag))
    _ok(manager("register", str(path)))
    _write(path, manifest(tag, author="ann"))
    refused = manager("register", str(path))
    assert refused.exit_code == 4
    assert refused.stderr.startswith(f"{path}:1:1: {tag}@1.0.0: another manifest is registered")
    assert "(--replace)" in refused.stderr
    assert _ok(manager("register", str(path), "--replace")).startswith("replaced ")
    other = _write(tmp_path / "other.json", manifest(tag, author="bob"))
    both = manager("register", str(path), str(other), "--replace")
    assert both.exit_code == 1
    assert f"{other}:1:1: metadata: {tag}@1.0.0 stands in {path} too" in both.stderr


def test_a_dry_run_registers_nothing(manager: Run, tag: str, tmp_path: Path) -> None:
    """It says what would be."""
    path = _write(tmp_path / "plugin.json", manifest(tag))
    told = _ok(manager("register", str(path), "--dry-run"))
    assert told.startswith(f"would register plugin/{tag}@1.0.0")
    assert manager("show", tag).exit_code == 3


def test_paths_that_hold_nothing(manager: Run, tmp_path: Path) -> None:
    """A folder without manifests is told, one that is not there is wrong usage."""
    empty = manager("register", str(tmp_path))
    assert empty.exit_code == 1
    assert "there is no plugin.yaml, plugin.yml or plugin.json" in empty.stderr
    assert manager("register", str(tmp_path / "nothing")).exit_code == 2


def test_validating_needs_no_registry(tag: str, tmp_path: Path) -> None:
    """Every mistake is a line, and with --quiet there is nothing else."""
    registry = FakeRegistry()
    good = _write(tmp_path / "a" / "plugin.json", manifest(tag))
    told = registry.run(plugin_manager.manager, "validate", str(tmp_path))
    assert (told.exit_code, told.stdout) == (0, f"{good}:1: {tag}@1.0.0 is fine\n")
    bad = _write(tmp_path / "b" / "plugin.json", manifest("a b", mesh="c d"))
    told = registry.run(plugin_manager.manager, "validate", str(tmp_path), "-q")
    assert told.exit_code == 1
    assert [line.split(":")[:2] for line in told.stdout.splitlines()] == [[str(bad), "1"]] * 2
    assert told.stderr == "Error: 1 of 2 files with mistakes\n"
    form = registry.run(plugin_manager.manager, "validate", str(tmp_path), "-o", "json")
    first, second = json.loads(form.stdout)
    assert [one["name"] for one in first["manifests"]] == [tag]
    assert {one["path"] for one in second["problems"]} == {
        "metadata.name", "mesh_integration.service_name",
    }  # fmt: skip
    assert registry.settings is None


# --- What is there --------------------------------------------------------------------------------


def test_listing(manager: Run, nexus: Run, add: Callable[..., Any], tag: str) -> None:
    """By feature and whatever else; those that were created as entities are there too."""
    add(f"{tag}-a", feature="ai-ml")
    add(f"{tag}-b", feature="data-engineering")
    created = nexus("create", "plugin", f"{tag}-c", "--version", "1.0.0", "--feature", "ai-ml")
    _ok(created)
    found = [row for row in _rows(manager("list", "ai-ml")) if row[0].startswith(tag)]
    assert [row[:5] for row in found] == [
        [f"{tag}-a", "1.0.0", "registered", "healthy", "ai-ml"],
        [f"{tag}-c", "1.0.0", "active", "healthy", "ai-ml"],
    ]
    asked = ("list", "--name", f"{tag}-*", "--order-by", "name desc", "-o", "json")
    assert [one["name"][-1] for one in _json(manager(*asked))] == ["c", "b", "a"]
    assert len(_json(manager(*asked, "--status", "active,error"))) == 1
    assert len(_json(manager(*asked, "--limit", "2"))) == 2
    unknown = manager("list", "no-such-feature")
    assert (unknown.exit_code, unknown.stdout) == (3, "")
    assert "there are ai-ml, " in unknown.stderr


def test_finding_by_what_is_offered(manager: Run, tag: str, tmp_path: Path) -> None:
    """Events, commands and endpoints."""
    offers = {"events": [f"{tag}.done"], "commands": [tag], "api_endpoints": [{"path": f"/{tag}"}]}
    path = _write(tmp_path / "plugin.json", manifest(tag) | {"capabilities": offers})
    _ok(manager("register", str(path)))
    for option, value in (("event", f"{tag}.*"), ("command", tag), ("endpoint", f"/{tag}")):
        assert [row[0] for row in _rows(manager("list", f"--{option}", value))] == [tag]


def test_showing(manager: Run, add: Callable[..., Any], tag: str) -> None:
    """What it is, offers and needs, with what that is bound to; `get` is the same."""
    add(f"{tag}-db", "2.1")
    needs = [f"{tag}-db>=2", f"{tag}-no"]
    plugin = add(tag, "1", needs, f"{tag}-svc", description="Trains neural networks")
    told = _ok(manager("show", tag))
    lines = dict(line.split("  ", 1) for line in told.splitlines() if line[:1] != " ")
    lines = {name: text.strip() for name, text in lines.items()}
    assert lines["id"] == plugin["id"]
    assert lines["mesh service"] == f"{tag}-svc (HTTP 8080)"
    assert lines["feature"].startswith("ai-ml (0.")
    bound = [line.split() for line in told.splitlines() if line[:1] == " "]
    assert bound == [[f"{tag}-db>=2", f"{tag}-db@2.1"], [f"{tag}-no", "nothing"]]
    assert _ok(manager("get", f"{tag}@1")) == told
    assert _json(manager("show", plugin["id"], "-o", "json")) == plugin


def test_only_plugins_are_meant(
    manager: Run, nexus: Run, add: Callable[..., Any], tag: str
) -> None:
    """Whatever else has the name, and even the id, counts for nothing."""
    _ok(nexus("create", "service", tag, "--id", tag))
    refused = manager("show", tag)
    assert refused.exit_code == 3
    assert f"service/{tag} (id {tag}) is no plugin" in refused.stderr
    add(tag, "1.0")
    newest = add(tag, "1.10")
    for text in (tag, f"plugin/{tag}", f"{tag}@1.10", newest["id"]):
        assert _json(manager("show", text, "-o", "json"))["version"] == "1.10"
    assert _json(manager("show", f"plugin/{tag}@1.0", "-o", "json"))["version"] == "1.0"
    assert manager("show", f"service/{tag}").exit_code == 3
    assert manager("show", f"{tag}@2").exit_code == 3


def test_requirements(manager: Run, add: Callable[..., Any], tag: str) -> None:
    """Of all plugins or of one, and what each is bound to."""
    db = add(f"{tag}-db", "2.1")
    add(tag, "1", [f"{tag}-db>=2", f"{tag}-no<3"])
    assert _rows(manager("requirements", tag)) == [
        [f"{tag}@1", f"{tag}-db>=2", f"{tag}-db@2.1", db["id"]],
        [f"{tag}@1", f"{tag}-no<3", "nothing"],
    ]
    unmet = _json(manager("requirements", "--unsatisfied", "--name", f"{tag}-no", "-o", "json"))
    assert [(one["text"], one["bound_id"]) for one in unmet] == [(f"{tag}-no<3", "")]
    assert _json(manager("requirements", "--name", f"{tag}-x", "-o", "json")) == []


# --- What becomes of a plugin ---------------------------------------------------------------------


def test_moving_to_another_status(
    manager: Run, nexus: Run, add: Callable[..., Any], tag: str
) -> None:
    """With a reason that is shown; what cannot follow is refused with what can."""
    plugin = add(tag)
    dry = _ok(manager("status", tag, "active", "--dry-run"))
    assert dry.startswith(f"plugin/{tag}@1.0.0 would be active, and was registered (id ")
    told = _ok(manager("status", tag, "active", "--reason", "rolled out"))
    assert told.startswith(f"plugin/{tag}@1.0.0 is active, and was registered (id ")
    assert "active (rolled out)" in _ok(manager("show", tag))
    refused = manager("status", tag, "registered")
    assert refused.exit_code == 4
    assert "it can become deprecated, disabled, error" in refused.stderr
    assert manager("status", tag, "asleep").exit_code == 2
    assert manager("status", tag, "error", "--expected-revision", "1").exit_code == 4
    [entry, *_] = _json(nexus("audit", plugin["id"], "-o", "json"))
    assert entry["method"] == "UpdatePluginStatus"


def test_unregistering(
    manager: Run, add: Callable[..., Any], tag: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who needs it keeps it, until forced; at a terminal it is asked first."""
    db = add(f"{tag}-db", "1", [], f"{tag}-svc")
    add(tag, "1", [f"{tag}-db"])
    refused = manager("unregister", f"{tag}-db")
    assert refused.exit_code == 4
    assert f"is needed by {tag}@1" in refused.stderr
    assert "(--force)" in refused.stderr
    dry = _ok(manager("unregister", f"{tag}-db", "--force", "--dry-run"))
    assert dry.startswith(f"would unregister plugin/{tag}-db@1 and 2 relationships, 1 mesh service")
    monkeypatch.setattr(Session, "interactive", True)
    asked = manager("unregister", f"{tag}-db", "--force", input="n\n")
    assert asked.exit_code == 1
    assert f"  {tag}@1 needs {tag}-db: bound to nothing\n" in asked.stderr
    told = _ok(manager("unregister", f"{tag}-db", "--force", "--yes"))
    assert told.startswith(f"unregistered plugin/{tag}-db@1 ")
    assert f"(id {db['id']}, revision " in told
    assert f"  {tag}@1 needs {tag}-db: bound to nothing\n" in told
    assert manager("show", f"{tag}-db").exit_code == 3
    assert _ok(manager("unregister", tag, "-q", "-y")).count("\n") == 1


# --- Features, rules, classification --------------------------------------------------------------


def test_features(manager: Run, add: Callable[..., Any], tag: str) -> None:
    """They are listed with the number of their plugins, and created."""
    told = _ok(manager("features", "create", f"Feature {tag}", "--id", tag, "--icon", "q"))
    assert told.startswith(f"created feature Feature {tag} (id {tag}, revision ")
    add(f"{tag}-a", feature=tag)
    [row] = [row for row in _rows(manager("features")) if row[0] == tag]
    assert row == [tag, "Feature", tag, "q", "1"]
    assert manager("features", "create", "x", "--id", tag).exit_code == 4


def test_rules(manager: Run, tag: str) -> None:
    """A rule tells features from then on; those of the server stay."""
    dry = _ok(manager("rules", "add", tag, f"{tag}-f", "--id", tag, "--dry-run"))
    assert dry.startswith(f"would create a rule for {tag}-f (id {tag}")
    add = ("rules", "add", tag, f"{tag}-f", "--id", tag, "--field", "name,tags")
    _ok(manager(*add, "--confidence", "0.95"))
    listed = _rows(manager("rules", "list", "--users-only", "--feature", f"{tag}-f"))
    assert listed == [[tag, f"{tag}-f", "0.95", tag, "name,", "tags", "user"]]
    told = _ok(manager("classify", f"a-{tag}"))
    assert told.startswith(f"{tag}-f (95% sure)\n  {tag}-f 0.95\n    name: a-{tag}  ({tag})\n")
    wrong = manager("rules", "add", "(", "x")
    assert wrong.exit_code == 1
    assert "at position 1" in wrong.stderr
    assert manager("rules", "add", "x", "x", "--confidence", "0").exit_code == 2
    assert _ok(manager("rules", "delete", tag)).startswith(f"deleted the rule (id {tag}, revision ")
    assert manager("rules", "delete", tag).exit_code == 3
    assert manager("rules", "delete", "ai-ml.learning").exit_code == 4


def test_classifying(manager: Run, tag: str) -> None:
    """Candidates with what speaks for them, cut to what is around it; or nothing sure enough."""
    text = f"{'and so on ' * 9}it trains a neural network {'and so on ' * 9}"
    told = _ok(manager("classify", tag, "--description", text, "--tag", "pytorch"))
    assert told.startswith("ai-ml (")
    assert "    tags[0]: pytorch  (ai-ml.frameworks)\n" in told
    assert "…n and so on it trains a neural network and so on and s…" in told
    assert _json(manager("classify", tag, "-o", "json"))["candidates"] == []
    assert _ok(manager("classify", "zzyzx")) == "unclassified: nothing is sure enough\n"


def test_reclassifying(manager: Run, add: Callable[..., Any], tag: str, tmp_path: Path) -> None:
    """With the rules of a file, as the guide writes them; a dry run only tells."""
    add(f"{tag}-a")
    path = tmp_path / "rules.yaml"
    path.write_text(
        f'classification_rules:\n  - match: ".*({tag}).*"\n    feature: {tag}-f\n'
        f"    confidence: 0.95\n    id: {tag}-r\n",
        encoding="utf-8",
    )
    dry = _ok(manager("reclassify", "--add", str(path), "--dry-run"))
    assert dry.startswith("would move 1 of ")
    assert dry.splitlines()[2].split() == ["unclassified", f"{tag}-f", "1", f"{tag}-a@1.0.0"]
    assert _json(manager("show", f"{tag}-a", "-o", "json"))["metadata"]["feature"] == "unclassified"
    assert _ok(manager("reclassify", "--add", str(path))).startswith("moved 1 of ")
    assert _json(manager("show", f"{tag}-a", "-o", "json"))["metadata"]["feature"] == f"{tag}-f"
    moved = _json(manager("reclassify", "--delete", f"{tag}-r", "-o", "json"))
    assert (moved["moved"], moved["moves"][0]["to"]) == (1, "")
    for content in ("rules: []", "- match: 1\n  feature: [x]", "- 1"):
        path.write_text(content, encoding="utf-8")
        assert manager("reclassify", "--add", str(path)).exit_code == 2
    assert manager("reclassify", "--add", str(tmp_path / "nothing.yaml")).exit_code == 3


# --- The mesh -------------------------------------------------------------------------------------


def test_mesh_services(manager: Run, nexus: Run, add: Callable[..., Any], tag: str) -> None:
    """Those of manifests and those of hand; a second call changes what it names."""
    add(tag, "1", [], f"{tag}-b", feature="ai-ml")
    made = ("mesh", "register", f"{tag}-a", "--port", "9000", "--protocol", "grpc")
    told = _ok(manager(*made, "--plugin", tag, "-c", "replicas=3"))
    assert told.startswith(f"registered service/{tag}-a (id ")
    rows = _rows(manager("mesh", "list", "--plugin", tag))
    assert [row[:6] for row in rows] == [
        [f"{tag}-a", "GRPC", "9000", f"{tag}@1", "ai-ml", "healthy"],
        [f"{tag}-b", "HTTP", "8080", f"{tag}@1", "ai-ml", "healthy"],
    ]
    _ok(manager("mesh", "register", f"{tag}-a", "--port", "9001"))
    mesh_ = _json(nexus("get", f"service/{tag}-a", "-o", "json"))["metadata"]["mesh"]
    assert (mesh_["port"], mesh_["replicas"]) == (9001, 3)
    services = _ok(nexus("list", "service", "--feature", "ai-ml"))
    assert f"{tag}-a" in services
    assert f"{tag}-b" in services
    assert manager("mesh", "register", "x", "--plugin", f"{tag}-no").exit_code == 3
    assert manager("mesh", "register", "x", "--port", "70000").exit_code == 2


# --- Resolving and planning -----------------------------------------------------------------------


@pytest.fixture
def shelf(add: Callable[..., Any], tag: str) -> str:
    """The tag of four plugins: two of base, and two of lib that need one each."""
    for version, need in (("1.0", "<2"), ("2.0", ">=2")):
        add(f"{tag}-base", version)
        add(f"{tag}-lib", version, [f"{tag}-base{need}"])
    return tag


def test_resolving(manager: Run, add: Callable[..., Any], shelf: str) -> None:
    """A lock that resolves to itself, a tree, or everything."""
    add(f"{shelf}-app", "1.0", [f"{shelf}-lib", f"{shelf}-base<2"])
    lock = _ok(manager("resolve", f"{shelf}-app"))
    head, *pins = lock.splitlines()
    assert head.startswith("# revision ")
    exact = [line.split()[0] for line in pins]
    assert exact == [f"{shelf}-{one}==1.0" for one in ("base", "lib", "app")]
    assert f"{shelf}-app 1.0 needs {shelf}-lib" in pins[1]
    locked = _ok(manager("resolve", *exact)).splitlines()[1:]
    assert [line.split()[0] for line in locked] == exact
    tree = _ok(manager("resolve", f"{shelf}-app", "--format", "tree"))
    assert tree == (
        f"{shelf}-app 1.0\n"
        f"├── {shelf}-base 1.0  ({shelf}-base<2)\n"
        f"└── {shelf}-lib 1.0\n"
        f"    └── {shelf}-base 1.0  ({shelf}-base<2)\n"
    )
    form = _json(manager("resolve", f"{shelf}-app", "--format", "json"))
    assert [pin["name"] for pin in form["pins"]] == [f"{shelf}-{n}" for n in ("base", "lib", "app")]
    older = _ok(manager("resolve", f"{shelf}-lib (<< 2)", "--scheme", "debian"))
    assert f"{shelf}-lib==1.0" in older


def test_a_conflict_is_explained(manager: Run, shelf: str) -> None:
    """Which requirements collide, and through whom; for programs on standard output."""
    asked = ("resolve", f"{shelf}-lib==2.0", f"{shelf}-base<2")
    told = manager(*asked)
    assert (told.exit_code, told.stdout) == (4, "")
    lines = told.stderr.splitlines()
    assert lines[0] == "Error: nothing fits together"
    assert f"no version of {shelf}-base does for all of these (there is 2.0, 1.0):" in lines[1]
    assert {line.strip() for line in lines[2:]} == {
        f"asked for: {shelf}-base<2", f"{shelf}-lib 2.0 needs {shelf}-base>=2",
    }  # fmt: skip
    form = manager(*asked, "-o", "json")
    assert form.exit_code == 4
    assert json.loads(form.stdout)["conflicts"][0]["name"] == f"{shelf}-base"
    wrong = manager("resolve", "a b")
    assert wrong.exit_code == 1
    assert "roots[0]" in wrong.stderr


def test_what_everything_needs_of_the_machine(manager: Run, tag: str, tmp_path: Path) -> None:
    """It is told beside the lock and the tree."""
    needs = {"dependencies": {"system": ["python>=3.10", "cuda-11.8"]}}
    _ok(manager("register", str(_write(tmp_path / "plugin.json", manifest(tag) | needs))))
    assert "# needs of the machine: python>=3.10, cuda-11.8\n" in _ok(manager("resolve", tag))
    tree = _ok(manager("resolve", tag, "--format", "tree"))
    assert tree == f"{tag} 1.0.0\nneeds of the machine: python>=3.10, cuda-11.8\n"


def test_planning(manager: Run, nexus: Run, shelf: str, tmp_path: Path) -> None:
    """What breaks, is bound anew or met, whom it reaches; nothing is written."""
    upgrade = _ok(manager("plan", "upgrade", f"{shelf}-base@1.0", "3.0")).splitlines()
    assert upgrade[0].startswith(f"plugin/{shelf}-base@1.0 as 3.0 (revision ")
    assert [line.split() for line in upgrade[1:]] == [
        ["breaks", f"{shelf}-lib@1.0", "needs", f"{shelf}-base<2:", f"{shelf}-base@1.0", "=>",
         "nothing"],
        ["rebinds", f"{shelf}-lib@2.0", "needs", f"{shelf}-base>=2:", f"{shelf}-base@2.0", "=>",
         f"{shelf}-base@3.0"],
        ["reaches", f"{shelf}-lib@1.0"],
    ]  # fmt: skip
    removal = manager("plan", "unregister", f"{shelf}-base@2.0", "--exit-code")
    assert removal.exit_code == 4
    assert removal.stderr == "Error: 1 requirement would break\n"
    path = _write(tmp_path / "plugin.json", manifest(f"{shelf}-base", "1.5", [f"{shelf}-z"]))
    coming = _ok(manager("plan", "register", str(path)))
    rebinds = f"rebinds {shelf}-lib@1.0 needs {shelf}-base<2: {shelf}-base@1.0"
    assert f"{rebinds} => {shelf}-base@1.5\n" in coming
    assert f"lacks   {shelf}-z: nothing meets it" in coming
    nothing = _ok(manager("plan", "upgrade", f"{shelf}-lib", "9"))
    assert nothing.endswith("  nobody's requirements change\n")
    _ok(nexus("create", "service", f"{shelf}-svc", "--version", "1"))
    assert _ok(manager("plan", "upgrade", f"{shelf}-svc", "2")).startswith(f"service/{shelf}-svc@1")
    assert manager("plan", "upgrade", f"{shelf}-no", "2").exit_code == 3
    _write(path, manifest("a"), manifest("b"))
    assert manager("plan", "register", str(path)).exit_code == 2
    form = _json(manager("plan", "unregister", f"{shelf}-lib", "-o", "json"))
    assert form["broken"] == []


# --- This machine, and the schema -----------------------------------------------------------------


def test_checking_the_machine(
    manager: Run, tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Manifests without a registry, and plugins of it: what is here, is not, or cannot be told."""
    tools = tmp_path / "bin"
    tools.mkdir()
    mute = tools / f"{tag}-mute"
    mute.write_text("#!/bin/sh\n", encoding="utf-8")
    mute.chmod(0o755)
    needs = {"dependencies": {"system": [f"{tag}-mute", f"{tag}-mute>=2", f"{tag}-none"]}}
    path = _write(tmp_path / "plugin.json", manifest(tag) | needs)
    _ok(manager("register", str(path)))
    monkeypatch.setenv("PATH", str(tools))
    told = FakeRegistry().run(plugin_manager.manager, "check", str(path))
    assert told.exit_code == 4
    rows = [line.split()[:3] for line in told.stdout.splitlines()[1:]]
    assert rows == [
        [f"{tag}@1.0.0", f"{tag}-mute", "ok"],
        [f"{tag}@1.0.0", f"{tag}-mute>=2", "unknown"],
        [f"{tag}@1.0.0", f"{tag}-none", "missing"],
    ]
    assert told.stderr == "Error: 1 of 3 requirements on the machine are not met\n"
    named = manager("check", tag, "--strict", "-o", "json")
    assert named.exit_code == 4
    assert [one["status"] for one in json.loads(named.stdout)] == ["ok", "unknown", "missing"]
    assert "2 of 3 requirements" in named.stderr
    everything = manager("check", "-q")
    assert (everything.exit_code, everything.stdout) == (4, "")
    monkeypatch.chdir(tmp_path)
    (tmp_path / tag).mkdir()
    assert manager("check", tag).exit_code == 2
    assert manager("check", f"plugin/{tag}").exit_code == 4
    assert manager("check", f"{tag}-no").exit_code == 3


def test_requirements_that_cannot_be_read(manager: Run, nexus: Run, tag: str) -> None:
    """Plugins that were created as entities may say anything of what they need."""
    odd = json.dumps({"system": ["a b", 3, "python"]})
    _ok(nexus("create", "plugin", f"{tag}-a", "-m", f"dependencies={odd}"))
    _ok(nexus("create", "plugin", f"{tag}-b", "-m", "dependencies=none"))
    found = _json(manager("check", f"{tag}-a", f"{tag}-b", "-o", "json"))
    assert [(one["requirement"], one["status"]) for one in found] == [
        ("a b", "unknown"), ("python", "ok"),
    ]  # fmt: skip
    assert _ok(manager("check", f"{tag}-b")) == "nothing is needed of the machine\n"


def test_the_schema(manager: Run) -> None:
    """As it is written, or as JSON."""
    assert _ok(manager("schema")) == schema_text()
    assert _json(manager("schema", "-o", "json"))["title"] == "Plugin"


def test_names_are_completed(address: str, add: Callable[..., Any], tag: str) -> None:
    """Of plugins and of features."""
    add(f"{tag}-a")

    def completed(command: str, typed: str) -> list[str]:
        session = Session()
        session.settings.server = address
        shell = BashComplete(plugin_manager.manager, {"obj": session}, "nexus-plugin-manager", "_X")
        return [one.value for one in shell.get_completions([command], typed)]

    assert completed("unregister", tag) == [f"{tag}-a"]
    assert "ai-ml" in completed("list", "ai")


def test_the_commands_of_the_guide(
    manager: Run, nexus: Run, tag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every printed line of its chapter on the programs works."""
    _write(tmp_path / "plugin.json", manifest(tag, "2.0.0", feature="ai-ml"))
    monkeypatch.chdir(tmp_path)
    for line in (
        "discover", "list ai-ml", f"register {tmp_path}", "features", "mesh",
    ):  # fmt: skip
        _ok(manager(*line.split()))
    plugin = _ok(
        nexus("create", "plugin", tag, "--version", "1.0.0", "--feature", "ai-ml", "--quiet")
    ).strip()
    for line in (
        "list plugin", "list service --feature ai-ml", f"get {plugin}", "search tensorflow",
        f"graph {plugin} --depth 5", "stats", "health",
    ):  # fmt: skip
        _ok(nexus(*line.split()))
    assert cli.cli.name == "nexus-registry"
