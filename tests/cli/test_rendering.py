"""How results look: `nexus_registry.rendering`."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from nexus_registry.rendering.events import changed_fields, update_forms, update_lines
from nexus_registry.rendering.graphs import (
    TreeStyle,
    edge_rows,
    graph_form,
    incompleteness,
    to_dot,
    to_mermaid,
    tree_lines,
)
from nexus_registry.rendering.output import Cell, Output, Row, aligned
from nexus_registry.rendering.words import clean, counted, relationship_name, scalar, size
from nexus_registry.rendering.yamlform import documents, dump
from nexus_registry.settings import Settings
from ose.registry.client import (
    EventType,
    Graph,
    HealthStatus,
    IncompleteReason,
    WatchKind,
    WatchUpdate,
)
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.relationship_pb2 import Relationship
from ose.registry.v1.watch_service_pb2 import Event

HEALTHY = HealthStatus.HEALTH_STATUS_HEALTHY


def graph_of(*edges: str, parents: str, types: dict[str, str] | None = None) -> Graph:
    """A graph from `a>b` edges; `parents` names the node before each, `-` for the root."""
    names = [pair.partition("<")[0] for pair in parents.split()]
    before = [pair.partition("<")[2] for pair in parents.split()]
    places = [names.index(name) if name else -1 for name in before]
    distances: list[int] = []
    for place in places:
        distances.append(0 if place < 0 else distances[place] + 1)
    return Graph(
        nodes=tuple(
            Entity(id=f"id-{n}", type=(types or {}).get(n, "t"), name=n, version="1",
                   health=HEALTHY)
            for n in names
        ),
        edges=tuple(
            Relationship(
                id=text, source_id=f"id-{text[0]}", target_id=f"id-{text[2]}", type="depends_on",
                weight=1, version_constraint=text[3:], bidirectional="=" in text[1],
            )
            for text in edges
        ),
        distances=tuple(distances),
        parents=tuple(places),
        root_id=f"id-{names[0]}",
        depth=max(distances),
        revision=7,
        complete=True,
    )  # fmt: skip


def _tree(graph: Graph, **style: Any) -> str:
    lines = tree_lines(graph, TreeStyle(**style))
    return "\n".join("".join(c.text if isinstance(c, Cell) else c for c in line) for line in lines)


def test_an_entity_is_opened_once_where_it_is_nearest() -> None:
    """Every relationship is one line; elsewhere (*) says that it goes on."""
    graph = graph_of("a>b", "a>c", "b>c", "c>d", "d>a", parents="a b<a c<a d<c")
    assert _tree(graph) == (
        "a@1\n"
        "├── b@1\n"
        "│   └── c@1 (*)\n"
        "└── c@1\n"
        "    └── d@1\n"
        "        └── a@1 (*)"
    )  # fmt: skip


def test_constraints_and_sickness_are_shown() -> None:
    """And types where there are several."""
    graph = graph_of("a>b>=2", "a>c", parents="a b<a c<a", types={"c": "service"})
    graph.nodes[1].health = HealthStatus.HEALTH_STATUS_DEGRADED
    graph.edges[1].type = "requires"
    assert _tree(graph, ascii=True, ids=True) == (
        "a@1 t id-a\n|-- depends_on b@1 t [degraded] id-b (>=2)\n`-- requires c@1 service id-c"
    )


def test_a_walk_against_the_arrows_and_one_both_ways() -> None:
    """The tree hangs from the root whichever way was walked, every relationship drawn once."""
    inward = graph_of("b>a", "c>b", parents="a b<a c<b")
    assert _tree(inward, way="in") == "a@1\n└── b@1\n    └── c@1"
    both = graph_of("a>b", "c>a", "c>b", parents="a b<a c<a")
    drawn = _tree(both, way="both")
    assert drawn.count("depends_on") == 3
    assert "->depends_on b@1" in drawn
    assert "<-depends_on c@1" in drawn


def test_a_bidirectional_relationship_is_walked_from_its_target() -> None:
    """As the registry walks it."""
    assert _tree(graph_of("b=a", parents="a b<a")) == "a@1\n└── b@1"


def test_a_relationship_to_itself_and_a_root_alone() -> None:
    """The smallest graphs."""
    assert _tree(graph_of(parents="a")) == "a@1"
    assert _tree(graph_of("a>a", parents="a")) == "a@1\n└── a@1 (*)"


def test_a_long_chain_is_no_stack_overflow() -> None:
    """Dependencies may be thousands of steps deep."""
    count = 3000
    graph = Graph(
        nodes=tuple(Entity(id=str(n), name=str(n)) for n in range(count)),
        edges=tuple(
            Relationship(id=str(n), source_id=str(n), target_id=str(n + 1))
            for n in range(count - 1)
        ),
        distances=tuple(range(count)),
        parents=tuple(range(-1, count - 1)),
        root_id="0", depth=count, revision=1, complete=True,
    )  # fmt: skip
    assert sum(1 for _ in tree_lines(graph, TreeStyle())) == count


def test_the_table_of_a_graph_has_names() -> None:
    """Entities by name and version, not by id."""
    (row,) = edge_rows(graph_of("a>b>=2", parents="a b<a"))
    assert [c.text if isinstance(c, Cell) else c for c in row] == [
        "a@1", "depends_on", "b@1", ">=2", "1",
    ]  # fmt: skip


def test_diagrams_quote_what_means_something_to_them() -> None:
    """A name cannot end its label."""
    graph = graph_of("a>b", parents="a b<a")
    graph.nodes[0].name = 'x"] evil --> \\ <b>'
    dot = "\n".join(to_dot(graph))
    assert r'"id-a" [label="x\"] evil --> \\ <b>@1\nt"' in dot
    assert '"id-a" -> "id-b" [label="depends_on"]' in dot
    mermaid = "\n".join(to_mermaid(graph))
    assert '  n0["x#34;#93; evil --#62; #92; #60;b#62;@1<br/>t"]' in mermaid
    assert '  n0 -->|"depends_on"| n1' in mermaid


def test_the_json_of_a_graph_is_that_of_the_api() -> None:
    """All pages joined in one answer."""
    form = graph_form(graph_of("a>b", parents="a b<a"))
    assert form["root_id"] == "id-a"
    assert form["revision"] == "7"
    assert form["distances"] == [0, 1]
    assert form["parents"] == [-1, 0]
    assert form["incomplete_reason"] == "unspecified"


def test_an_answer_that_was_cut_says_why() -> None:
    """With the limit."""
    graph = graph_of(parents="a")
    assert incompleteness(graph) == ""
    cut = Graph(
        nodes=graph.nodes, edges=(), distances=(0,), parents=(-1,), root_id="a", depth=0,
        revision=1, complete=False, incomplete_limit=1000,
        incomplete_reason=IncompleteReason.INCOMPLETE_REASON_NODE_LIMIT,
    )  # fmt: skip
    assert incompleteness(cut) == "incomplete: the node limit of 1,000 was reached"


def test_columns_stand_below_each_other_whatever_the_letters() -> None:
    """Wide letters take two places, and nothing trails."""
    lines = list(aligned([("NAME", "X"), ("日本", "1"), ("a", ""), (Cell("é", "red"), "2")]))
    assert lines == ["NAME  X", "日本  1", "a", "é     2"]


@pytest.mark.parametrize(
    ("width", "headings"),
    [
        (100, ["ID", "NAME", "STATUS", "WEIGHT"]),
        (45, ["ID", "NAME", "WEIGHT"]),
        (30, ["ID", "NAME"]),
    ],
)
def test_a_narrow_terminal_gets_fewer_columns(width: int, headings: list[str]) -> None:
    """Empty ones go first, then the optional ones in their order; long texts are folded."""
    out = io.StringIO()
    output = Output(Settings())
    output.__dict__["terminal"] = Console(file=out, width=width, color_system=None)
    columns = ("ID", "NAME", "STATUS", "EMPTY", "WEIGHT")
    rows: list[Row] = [["x" * 36, Cell("n" * 10, "bold"), "deprecated", "", "0.5"]]
    output.table(columns, rows, ("STATUS", "WEIGHT"))
    first, *lines = out.getvalue().splitlines()
    assert first.split() == headings
    assert "".join(line.split()[0] for line in lines).startswith("x" * 36)
    assert max(map(len, lines)) <= width


def test_what_would_steer_the_terminal_is_written_out() -> None:
    """Escape sequences, newlines, marks that turn the direction of writing."""
    assert clean("a\x1b[31mb\nc\x9b\u202e") == "a\\x1b[31mb\\nc\\x9b\\u202e"
    assert clean("naïve 日本") == "naïve 日本"


def test_short_texts() -> None:
    """Numbers with their words."""
    assert counted(1, "entity") == "1 entity"
    assert counted(2000, "entity") == "2,000 entities"
    assert size(0) == "0 B"
    assert size(1536) == "1.5 KiB"
    assert scalar({"a": [1, True, None], "b": "x"}) == "a=1, true, null, b=x"
    edge = Relationship(source_id="a", target_id="b", type="t", bidirectional=True)
    assert relationship_name(edge) == "a <-t-> b"


_printable = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff\ufffe\uffff")
_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(_printable)
    | st.from_regex(r"[-+]?0?[0-9._:eExo]{1,8}", fullmatch=True)
    | st.sampled_from(["no", "on", "y", "null", "~", "2025-01-01", "<<", "=", "-", "0o7", ".inf"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abno~=<1"), inner),
    max_leaves=6,
)  # fmt: skip


@given(_json)
def test_yaml_reads_back_by_us_and_by_others(value: Any) -> None:
    """What is written is quoted for readers of YAML 1.1 and 1.2 alike."""
    text = dump({"value": value})
    assert [found for found, _ in documents(text)] == [{"value": value}]
    assert yaml.safe_load(text) == {"value": value}


def test_yaml_takes_texts_for_texts() -> None:
    """The surprises of YAML 1.1 are not here."""
    text = "a: no\nb: 007\nc: 12:30\nd: 2025-01-01\ne: 1e3\nf: [true, ~, 0x10, -3, .5]\ng: on\n"
    ((value, line),) = documents(text)
    assert line == 1
    assert value == {
        "a": "no", "b": "007", "c": "12:30", "d": "2025-01-01", "e": 1000.0,
        "f": [True, None, 16, -3, 0.5], "g": "on",
    }  # fmt: skip


def test_lists_are_valid_json_and_yaml_however_long(capsys: pytest.CaptureFixture[str]) -> None:
    """They are written as they come."""
    for count in range(3):
        values = [{"n": n, "t": "x\ny"} for n in range(count)]
        Output(Settings(output="json")).values(iter(values))
        assert json.loads(capsys.readouterr().out) == values
        Output(Settings(output="yaml")).values(iter(values))
        assert yaml.safe_load(capsys.readouterr().out) == values


def _event(**fields: Any) -> Event:
    entity = Entity(id="a", type="plugin", name="n", version="1", labels={"x": "2"}, revision=9)
    return Event(type=EventType.EVENT_TYPE_UPDATED, revision=9, entity=entity, **fields)


def test_the_last_line_of_an_update_has_the_token() -> None:
    """A reader that stops after it goes on without missing anything."""
    update = WatchUpdate(WatchKind.CHANGES, 9, "token", events=(_event(), _event()))
    forms = list(update_forms(update, bookmarks=False))
    assert [form["type"] for form in forms] == ["updated", "updated"]
    assert "resume_token" not in forms[0]
    assert forms[1]["resume_token"] == "token"


def test_marks_and_snapshots_are_lines_of_their_own() -> None:
    """Bookmarks only for those who asked."""
    bookmark = WatchUpdate(WatchKind.BOOKMARK, 9, "t")
    assert list(update_forms(bookmark, bookmarks=False)) == []
    assert list(update_forms(bookmark, bookmarks=True)) == [
        {"type": "bookmark", "revision": "9", "resume_token": "t"}
    ]
    end = WatchUpdate(WatchKind.SNAPSHOT_END, 9, "t")
    assert next(update_forms(end, bookmarks=False))["type"] == "snapshot_end"
    part = WatchUpdate(WatchKind.SNAPSHOT, entities=(Entity(id="a"),))
    (form,) = update_forms(part, bookmarks=False)
    assert (form["type"], form["entity"]["id"]) == ("snapshot", "a")


def test_an_update_says_what_changed_if_what_was_before_is_known() -> None:
    """Key by key; the revision and the time, which always change, are left out."""
    before = Entity(id="a", type="plugin", name="n", version="0", labels={"y": "1"}, revision=3)
    update = WatchUpdate(WatchKind.CHANGES, 9, "t", events=(_event(previous_entity=before),))
    ((*_, changes),) = update_lines(update, bookmarks=False)
    assert isinstance(changes, Cell)
    assert changes.text == "  version: 0 => 1, labels.y: 1 => -, labels.x: - => 2"
    assert list(changed_fields({"a": 1}, {"a": 1})) == []
