"""The benchmarks' own parts: what peers are sent, light clients, and what is written."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.unknown_fields import UnknownFieldSet

from benchmarks import bench_growth, comparison, harness, pgwire, report
from benchmarks.comparison import LATENCY, RATE, Cell, Line, Table
from benchmarks.harness import Program, Row
from benchmarks.peers import base, etcd, spicedb
from benchmarks.peers.base import Cannot, Dataset, Missing, Side
from benchmarks.plans import Report, mark
from benchmarks.wire import Connection


def fields(message: bytes, *nested: int) -> dict[int, Any]:
    """The fields of a message by their numbers, as protobuf reads them; `nested` leads inwards."""
    parsed = UnknownFieldSet(Empty.FromString(message))
    found = {parsed[index].field_number: parsed[index].data for index in range(len(parsed))}
    return fields(found[nested[0]], *nested[1:]) if nested else found


# What peers are sent


def test_etcd_is_sent_what_its_protocol_says() -> None:
    """Put, Range of a prefix, Txn and Watch have their fields where etcd's protocol has them."""
    assert fields(etcd.put(b"k", b"v")) == {1: b"k", 2: b"v"}
    assert fields(etcd.page(b"e/ab", 100)) == {1: b"e/ab", 2: b"e/ac", 3: 100}
    transaction = etcd.transaction([etcd.put(b"k", b"v")])
    assert fields(transaction, 2, 2) == {1: b"k", 2: b"v"}
    assert fields(etcd.watch(b"k", 7), 1) == {1: b"k", 3: 7}


def test_spicedb_is_sent_what_its_protocol_says() -> None:
    """Objects, relations and full consistency are where SpiceDB's protocol has them."""
    update = spicedb.touch([spicedb.relationship("debian:a", "debian:b.c")])
    assert fields(update, 1)[1] == 2
    assert fields(update, 1, 2, 1) == {1: b"entity", 2: b"debian/a"}
    assert fields(update, 1, 2)[2] == b"depends_on"
    assert fields(update, 1, 2, 3, 1) == {1: b"entity", 2: b"debian/b|c"}
    check = spicedb.check("a", "b")
    assert fields(check, 1) == {4: 1}
    assert fields(check, 4, 1)[2] == b"b"
    needs, needed = spicedb.lookup_subjects("a"), spicedb.lookup_resources("a")
    assert (fields(needs)[3], fields(needs, 2)[2]) == (b"needs", b"a")
    assert (fields(needed)[3], fields(needed, 4, 1)[2]) == (b"needs", b"a")
    assert fields(spicedb.read("debian:a", 100), 2) == {1: b"entity", 5: b"debian/a"}
    assert fields(spicedb.watch(b"token"), 2) == {1: b"token"}


# Light clients


async def test_a_token_is_sent_with_every_call() -> None:
    """The second call names headers by their places in a table: they are those of the first."""

    async def whoami(_request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        sent = dict(context.invocation_metadata() or ())
        return str(sent.get("authorization", "nobody")).encode()

    server = grpc.aio.server()
    handler: grpc.RpcMethodHandler[Any, Any] = grpc.unary_unary_rpc_method_handler(whoami)
    service = grpc.method_handlers_generic_handler("bench.Who", {"Who": handler})
    server.add_generic_rpc_handlers([service])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        for token, wanted in (("", b"nobody"), ("secret", b"Bearer secret")):
            connection = await Connection.open(port, "/bench.Who/Who", token)
            for _ in range(2):
                answer = Answer()
                connection.start(b"", answer)
                await answer.done.wait()
                assert b"".join(answer.chunks)[5:] == wanted
            connection.close()
    finally:
        await server.stop(None)


class Answer:
    """Collects what comes back for one call."""

    def __init__(self) -> None:
        self.done = asyncio.Event()
        self.chunks: list[bytes] = []

    def data(self, chunk: bytes, now: float) -> None:
        """Keeps a part."""
        self.chunks.append(chunk)

    def end(self, now: float) -> None:
        """Notes the end."""
        self.done.set()


BOUND, ROW, READY = b"2\0\0\0\4", b"D\0\0\0\x0b\0\1\0\0\0\1x", b"Z\0\0\0\5I"
ERROR = b"E\0\0\0\6S\0"


@pytest.mark.parametrize(
    ("chunks", "has_data"),
    [
        ([BOUND + ROW + READY] * 2, [True, True]),
        ([BOUND + ROW + READY + BOUND + ROW + READY], [True, True]),
        ([BOUND + ROW + READY[:3], READY[3:] + BOUND, ROW + READY], [True, True]),
        ([ERROR + READY, BOUND + ROW + READY], [False, True]),
        ([BOUND + ERROR + READY, BOUND + READY], [False, True]),
    ],
)
async def test_answers_of_postgresql_end_where_it_is_ready(
    chunks: Sequence[bytes], has_data: Sequence[bool]
) -> None:
    """However the bytes of two answers are cut, each statement gets its own end; errors no data."""
    received = asyncio.Event()
    accepted: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(writer)
        for _ in range(2):
            await reader.read(1 << 16)
            writer.write(b"R\0\0\0\x08\0\0\0\0" + READY)
        asked = b""
        while asked.count(b"S\0\0\0\4") < 2:
            asked += await reader.read(1 << 16)
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
            await asyncio.sleep(0)
        await received.wait()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        connection = await pgwire.Connection.open(port, "someone", "SELECT $1")
        answers = [Answer(), Answer()]
        for answer in answers:
            connection.start((b"1",), answer)
        for answer in answers:
            await answer.done.wait()
        connection.close()
        received.set()
        accepted[0].close()
    assert [bool(answer.chunks) for answer in answers] == has_data


# Comparing


class Fake(Side):
    """A side that takes a given time; with none it has nothing of the kind."""

    note = "made up"

    def __init__(self, title: str, seconds: float | None) -> None:
        super().__init__(Path())
        self.title = title
        self._seconds = seconds
        self.asked = 0

    @property
    def programs(self) -> Sequence[Program]:
        """None."""
        return []

    def start(self) -> None:
        """Does nothing."""

    def measured(self) -> Report:
        """Ten things in the given time."""
        self.asked += 1
        if self._seconds is None:
            raise Cannot("it has none")
        if self._seconds < 0:
            raise RuntimeError("it fell over")
        return Report(count=10, seconds=self._seconds, latencies=[self._seconds / 10] * 10)


def test_ratios_say_how_many_times_better_the_first_is() -> None:
    """Above 1 the first is better, whether more is better or less; who fails is not asked again."""
    sides = [Fake("ours", 1.0), Fake("slow", 2.0), Fake("fast", 0.5), Fake("none", None)]
    broken, absent = Fake("broken", -1), Fake("absent", 1.0)
    absent.absent = "it could not be built"
    lines = comparison.compare(
        "work",
        [RATE, LATENCY],
        [*sides, broken, absent],
        3,
        lambda side, _: side.measured(),  # type: ignore[attr-defined]
    )
    for line in lines:
        assert line.cells["ours"].ratio is None
        assert line.cells["slow"].ratio == pytest.approx(2)
        assert line.cells["fast"].ratio == pytest.approx(0.5)
        assert line.cells["none"] == Cell(why="it has none")
        assert line.cells["broken"] == Cell(why="failed: it fell over")
        assert line.cells["absent"] == Cell(why="it could not be built")
    assert [side.asked for side in (sides[0], sides[3], broken, absent)] == [3, 1, 1, 0]


def test_tables_show_where_the_first_loses_and_why_there_is_no_figure() -> None:
    """What is worse is bold; the same reason has one letter, and results read back are the same."""
    cells = {
        "ours": Cell([1234.0]),
        "slow": Cell([617.0], 2.0),
        "fast": Cell([4936.0], 0.25),
        "none": Cell(why="it has none"),
    }
    line = Line("work", "a second", True, cells)
    table = Table("Kind", [line, line], ["A remark."])
    assert comparison.from_json(json.loads(json.dumps(table.as_json()))) == table
    assert comparison.markdown([table], list(cells)).splitlines() == [
        "| Kind | | ours | slow | fast | none |",
        "|---|---|---:|---:|---:|---:|",
        "| work | a second | 1,234 | 617 (2.00) | 4,936 (**0.25**) | - [a] |",
        "| work | a second | 1,234 | 617 (2.00) | 4,936 (**0.25**) | - [a] |",
        "",
        "A remark. a: it has none.",
    ]


def test_tables_of_different_runs_each_say_when_they_were_measured() -> None:
    """Each has its own time, rounds and company, and a dash for who was not there."""
    measured = {"machine": "a machine", "measured_at": "today", "load": 1.0, "processors": 2}
    one = Line("work", "ms", False, {"ours": Cell([2.0]), "theirs": Cell([4.0], 2.0)})
    other = Line("work", "ms", False, {"ours": Cell([3.0])})
    tables = [
        Table("Small", [one], measured={**measured, "rounds": 3}),
        Table("Large", [other], measured={**measured, "rounds": 1, "load": 9.0}),
    ]
    kept = {
        "notes": {"ours": "a note", "theirs": "another"},
        "tables": [table.as_json() for table in tables],
    }
    assert report.peers(json.loads(json.dumps(kept))).splitlines() == [
        "| Small | | ours | theirs |",
        "|---|---|---:|---:|",
        "| work | ms | 2 | 4 (2.00) |",
        "",
        "Measured on today: a machine; the median of 3 rounds by turns.",
        "",
        "| Large | | ours | theirs |",
        "|---|---|---:|---:|",
        "| work | ms | 3 | - |",
        "",
        "Measured on today: a machine; **load average 9.0**; the median of 1 rounds by turns.",
        "",
        "- ours: a note",
        "- theirs: another",
    ]


def test_a_dataset_asks_for_what_there_is(tmp_path: Path) -> None:
    """Sections and prefixes have a page at least; roots need something and are needed."""
    path = tmp_path / "data.db"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE entities (ordinal, id, name, labels, record)")
        database.execute("CREATE TABLE relationships (ordinal, source_id, target_id, record)")
        for number in range(150):
            name = f"{'a' if number < 120 else 'b'}{number:03d}"
            labels = json.dumps({"section": name[0]})
            database.execute(
                "INSERT INTO entities VALUES (?, ?, ?, ?, x'01')",
                (number, f"debian:{name}", name, labels),
            )
        edges = [("debian:a001", "debian:a002"), ("debian:a002", "debian:a003")]
        for number, edge in enumerate(edges):
            database.execute("INSERT INTO relationships VALUES (?, ?, ?, x'02')", (number, *edge))
    data = Dataset("made up", path, "debian:a003")
    assert data.sizes == (150, 2)
    assert data.sections == ["a"]
    assert set(data.prefixes) == {"a", "a0", ""}
    assert data.roots(5, seed=1) == ["debian:a002"]
    assert next(data.entities()) == ("debian:a000", "a", b"\x01")
    assert list(data.relationships()) == [(*edge, b"\x02") for edge in edges]


def test_a_peer_that_cannot_be_built_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without Go there is a reason for the table, and not an end of the run."""
    monkeypatch.setattr(base, "BUILD", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Missing, match="is built with Go, which is not here"):
        base.build("etcd", "a/module", "a/package", "v1.0.0")


# Reporting


MEASURED = {"machine": "a machine", "measured_at": "today", "load": 1.5, "processors": 2}


def test_a_part_of_the_page_is_replaced_and_nothing_else() -> None:
    """What is between two marks is new; a page without them is refused."""
    page = "before\n<!-- peers: written by make bench-report -->\nold\n<!-- /peers -->\nafter\n"
    written = report.replaced(page, "peers", r"new \1")
    assert written == page.replace("\nold\n", "\n\nnew \\1\n\n")
    assert report.replaced(written, "peers", r"new \1") == written
    with pytest.raises(ValueError, match="no part budgets"):
        report.replaced(page, "budgets", "new")


def test_the_page_has_a_place_for_each_part() -> None:
    """The pages have the marks that the report is written between."""
    parts = [(report.PAGE, name) for name in ("peers", "budgets", "growth")]
    for path, name in [*parts, (report.SCALING, "projection")]:
        report.replaced(path.read_text(encoding="utf-8"), name, "")


def test_each_row_of_the_budgets_says_whether_it_held() -> None:
    """The report counts what held, and leaves out of the count what was not measured."""
    rows = [
        harness.at_least("P1", "reads", 0.9, 0.85, ""),
        harness.at_most("P2", "starts", 2.0, 1.0, ""),
        harness.at_least("P2", "walks", 3.0, 3.0, ""),
        harness.not_measured("P3", "writes", "3", "no etcd"),
    ]
    text = report.budgets([{**MEASURED, "title": "Some", "rows": [vars(row) for row in rows]}])
    assert "\n\nMeasured on today: a machine.\n\n" in text
    assert text.startswith("2 of 3 rows hold.")
    assert "| P1 | reads | at least 0.85 | 0.90 | yes |  |" in text
    assert "| P2 | starts | at most 1 | 2.00 | **no** |  |" in text
    assert "| P3 | writes | 3 | not measured | - | no etcd |" in text
    assert isinstance(rows[0], Row)


def test_every_curve_of_growth_is_in_a_table() -> None:
    """The table of growth has a line for each curve and a column for each size."""
    curve = bench_growth.Curve("GetEntity", "ms", [1.0, 1.05], is_promised=True)
    kept = {**MEASURED, "load": 9.0, "sizes": [10_000, 30_000], "curves": [vars(curve)]}
    lines = report.growth(kept).splitlines()
    assert "load average" in lines[0]
    assert "| what | | 10,000 | 30,000 |" in lines
    assert "| GetEntity | ms | 1 | 1.05 |" in lines


def test_larger_sizes_are_worked_out_from_the_largest() -> None:
    """Everything that grows does so as many times as there are more entities."""
    costs = {
        "memory for an entity of 0.5 KB": 2**20 - 5 * 2**17,
        "memory for a relationship": 2**17,
        "database file": 1024.0,
        "start-up, beyond an empty one": 6.0,
        "import, in messages of 500": 60.0,
    }
    curves = [{"what": what, "unit": "", "costs": [0.0, cost]} for what, cost in costs.items()]
    text = report.projection({"sizes": [10, 2**20], "edges": 5, "curves": curves})
    assert text.startswith("Worked out from what was measured with 1,048,576.")
    assert "| with 5 relationships each | | 10,000,000 | 100,000,000 |" in text
    times = 10_000_000 / 2**20
    assert f"| memory | GiB | {comparison.number(1024 * times)} |" in text
    assert f"| start-up | minutes | {comparison.number(0.1 * times)} |" in text
    assert "| to load it all by Import | hours | 1 | 10 |" in text


def test_marks_are_found_whatever_sign_they_have() -> None:
    """Changes are numbered for all: with a sign that each allows in what it is sent."""
    assert (mark(7), mark(7, "|")) == ("@00000007", "|00000007")
