"""Files: `nexus_registry.documents` and `nexus_registry.importing`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nexus_registry import cli
from nexus_registry.documents import parse
from nexus_registry.failures import Failure
from nexus_registry.importing import read_contents
from ose.registry.jsonform import from_dict
from ose.registry.v1.entity_pb2 import Entity
from tests.cli.fake import FakeRegistry

A = {"id": "a", "type": "plugin", "name": "a"}
B = {"id": "b", "type": "plugin", "name": "b"}
EDGE = {"source_id": "a", "target_id": "b", "type": "depends_on"}

FORMS = {
    "one JSON object after the other": "\n".join(map(json.dumps, (EDGE, A, B))),
    "a JSON list": json.dumps([EDGE, A, B], indent=1),
    "an object with lists": json.dumps({"entities": [A, B], "relationships": [EDGE]}),
    "the answer to a graph query": json.dumps({"nodes": [A, B], "edges": [EDGE], "root_id": "a"}),
    "lines of the HTTP export": "\n".join(
        json.dumps({"result": part})
        for part in ({"entities": [A, B], "revision": "3"}, {"relationships": [EDGE]})
    ),
    "lines of a watch": "\n".join(
        map(
            json.dumps,
            (
                {"type": "snapshot", "entity": A},
                {"type": "created", "revision": "3", "entity": B},
                {"type": "created", "relationship": EDGE},
                {"type": "snapshot_end", "revision": "4"},
            ),
        )
    ),
    "YAML documents": (
        "# a comment\nid: a\ntype: plugin\nname: a\n---\n"
        "- {source_id: a, target_id: b, type: depends_on}\n- {id: b, type: plugin, name: b}\n---\n"
    ),
}


@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS.keys())
def test_every_form_is_understood(text: str) -> None:
    """Entities come first, whatever the order in the file."""
    contents = read_contents(text.encode(), "-")
    assert sorted(entity.id for entity in contents.entities) == ["a", "b"]
    assert [edge.source_id for edge in contents.relationships] == ["a"]
    kinds = [mutation.WhichOneof("operation") for mutation in contents.mutations()]
    assert kinds == ["put_entity", "put_entity", "put_relationship"]
    assert len(contents) == len(contents.lines) == 3


def test_all_problems_are_told_with_their_lines() -> None:
    """Nothing is sent before the whole file is right."""
    text = (
        '{"type": "plugin", "name": 1}\n\n{"type": "plugin"}\n'
        '{"name": "x", "typo": 1, "type": "t"}\n3\n'
    )
    with pytest.raises(Failure, match="4 problems, nothing was sent") as caught:
        read_contents(text.encode(), "f.json")
    assert caught.value.exit_code == 2
    assert [line.partition(":")[0] for line in caught.value.details] == [
        "line 1", "line 3", "line 4", "line 5",
    ]  # fmt: skip
    assert "name: is required" in caught.value.details[1]


def test_many_problems_are_cut() -> None:
    """A file of another kind does not fill the screen."""
    with pytest.raises(Failure) as caught:
        read_contents(b"{}\n" * 500, "f")
    assert len(caught.value.details) == 21
    assert caught.value.details[-1] == "and 980 more"


@pytest.mark.parametrize(
    ("data", "name", "where"),
    [
        (b'{"a": 1}\n{"a": }', "f.json", "f.json, line 2, column 7"),
        (b'{"a": NaN}', "f", "f, line 1: JSON has no number NaN"),
        (b"a: [1\nb: 2", "f.yaml", "f.yaml, line 2"),
        (b"a: 1\n\xff", "f", "f, line 2: not UTF-8"),
        (b"[" * 100_000, "f", "nested too deep"),
    ],
)
def test_what_is_neither_json_nor_yaml_is_told_with_its_place(
    data: bytes, name: str, where: str
) -> None:
    """As a failure of the file, not of the program."""
    with pytest.raises(Failure) as caught:
        list(parse(data, name))
    assert where in caught.value.message
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("data", [b"", b"\n  \n", b"---\n---\n", b"\xef\xbb\xbf"])
def test_an_empty_file_is_no_error(data: bytes) -> None:
    """There is nothing in it."""
    assert len(read_contents(data, "f")) == 0


def test_import_counts_and_sends_in_batches(tmp_path: Path) -> None:
    """The command end to end, against a registry in memory."""
    file = tmp_path / "f.ndjson"
    file.write_text(FORMS["one JSON object after the other"])
    registry = FakeRegistry()
    result = registry.run(cli.cli, "import", str(file), "--batch-size", "2")
    assert result.exit_code == 0, result.stderr
    assert result.stdout == (
        "imported 2 entities and 1 relationship: 3 created, 0 updated, 0 unchanged (revision 3)\n"
    )
    assert [len(batch) for batch in registry.batches] == [2, 1]


def test_a_dry_run_reads_and_sends_nothing() -> None:
    """From standard input too."""
    registry = FakeRegistry()
    text = FORMS["a JSON list"]
    result = registry.run(cli.cli, "import", "-", "--dry-run", "-o", "json", input=text)
    assert json.loads(result.stdout) == {"dry_run": True, "entities": 2, "relationships": 1}
    assert registry.batches == []


def test_a_missing_file_is_exit_code_3() -> None:
    """With its name."""
    result = FakeRegistry().run(cli.cli, "import", "no-such-file")
    assert (result.exit_code, result.stderr) == (
        3,
        "Error: no-such-file: No such file or directory\n",
    )


def test_what_export_writes_import_reads(tmp_path: Path) -> None:
    """As JSON lines and as YAML, to a file that appears when it is complete."""
    registry = FakeRegistry([from_dict(A, Entity()), from_dict(B, Entity())])
    for form in ("json", "yaml"):
        file = tmp_path / f"out.{form}"
        result = registry.run(cli.cli, "export", str(file), "-o", form)
        assert result.exit_code == 0, result.stderr
        assert "exported 2 entities and 0 relationships of revision 2" in result.stderr
        contents = read_contents(file.read_bytes(), str(file))
        assert [entity.id for entity in contents.entities] == ["a", "b"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.json", "out.yaml"]
