"""The audit log: who changed what, newest first, with conditions, page by page."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hyper_registry.model.entity import Health
from hyper_registry.model.errors import HistoryChanged, RegistryError, TokenExpired, TokenInvalid
from hyper_registry.model.health import turns_of
from hyper_registry.model.revision import Action, Change, Commit, Kind
from hyper_registry.query import audit, tokens
from hyper_registry.query.audit import AuditQuestion, list_audit_entries
from hyper_registry.query.history import entity_history
from hyper_registry.query.listing import MAX_PAGE_BYTES, Page, Window
from hyper_registry.query.tokens import PageToken
from hyper_registry.registry import pins
from hyper_registry.registry.engine import Engine
from hyper_registry.registry.mutations import CreateEntity, DeleteEntity, UpdateEntity
from hyper_registry.store.memory import MemoryDisk, MemoryStore
from ose.registry.jsonform import to_dict
from ose.registry.v1.admin_service_pb2 import AuditEntry, ListAuditEntriesResponse
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.relationship_pb2 import Relationship
from tests.unit.registry.strategies import ENTITY_IDS, RELATIONSHIP_IDS, Resolve, groups
from tests.unit.registry.support import (
    edge,
    entity,
    link,
    log_of,
    oracle_of,
    packed,
    ready,
    reorganise,
    running,
    submit_all,
    write,
)

ACTORS = ("", "ann", "bob", "registry")
METHODS = ("p.v1.S/Set", "p.v1.T/Set", "p.v1.S/Reset", "Set")
Json = dict[str, Any]


async def page_of(
    engine: Engine, question: AuditQuestion, limit: int = 1000, token: str = "", revision: int = 0
) -> Page:
    """A page of the audit log."""
    window = Window(limit, 0, token)
    revision = revision or engine.view.visible
    return await list_audit_entries(engine, engine.store, question, window, revision)


def entries_of(page: Page) -> list[AuditEntry]:
    """The entries of a page."""
    entries = list(ListAuditEntriesResponse.FromString(page.records).entries)
    assert len(entries) == page.count
    return entries


async def all_of(
    engine: Engine, question: AuditQuestion | None = None, limit: int = 1000, revision: int = 0
) -> list[AuditEntry]:
    """The entries of all pages."""
    question = question or AuditQuestion()
    page = await page_of(engine, question, limit, "", revision)
    found = entries_of(page)
    while page.next_page_token:
        assert page.count <= limit
        page = await page_of(engine, question, limit, page.next_page_token)
        found += entries_of(page)
    return found


# What the log tells, the slow way


def naive_entries(log: list[Commit], question: AuditQuestion, revision: int) -> list[Json]:
    """The entries that a question means, from all of the log."""
    return [
        naive_entry(commit, change)
        for commit in reversed(log)
        for change in reversed(commit.changes)
        if commit.revision <= revision
        and (not question.resource_id or change.id == question.resource_id)
        and (not question.actor or commit.actor == question.actor)
        and (not question.method or question.method in names_of(commit.method))
        and (question.start is None or commit.time >= question.start)
        and (question.end is None or commit.time < question.end)
    ]


def names_of(method: str) -> tuple[str, str]:
    """What a method may be called."""
    return method, method.split("/")[-1]


def naive_entry(commit: Commit, change: Change) -> Json:
    """One entry as plain values."""
    entry: Json = {
        "revision": commit.revision, "time": commit.time, "actor": commit.actor,
        "method": commit.method.split("/")[-1], "request_id": commit.request_id,
        "action": {1: "create", 2: "update", 3: "delete"}[change.action],
        "kind": {1: "entity", 2: "relationship", 3: "compaction", 4: "health"}[change.kind],
        "resource_id": change.id, "changed_fields": [], "before": {}, "after": {},
        "resource_type": "", "resource_name": "",
    }  # fmt: skip
    if change.kind == Kind.COMPACTION:
        assert change.after is not None
        floor = change.after.decode()
        return entry | {
            "changed_fields": ["compacted_revision"],
            "after": {"compacted_revision": floor},
        }
    if change.kind == Kind.HEALTH:
        turns = turns_of(change)
        before, after = (
            {Health(one).name.lower(): healths.count(one) for one in healths}
            for healths in (turns.before.tolist(), turns.after.tolist())
        )
        return entry | {"changed_fields": ["health"], "before": before, "after": after}
    kind = Entity if change.kind == Kind.ENTITY else Relationship
    before, after = (
        {} if image is None else to_dict(kind.FromString(image))
        for image in (change.before, change.after)
    )
    named = after or before
    entry["resource_type"] = named["type"]
    if kind is Entity:
        version = f"@{named['version']}" if named["version"] else ""
        entry["resource_name"] = named["name"] + version
    else:
        entry["resource_name"] = f"{named['source_id']}->{named['target_id']}"
    if change.action != Action.UPDATE:
        return entry | {"before": before, "after": after}
    fields = sorted(naive_differences(before, after))
    only = [_kept(form, fields) for form in (before, after)]
    return entry | {"changed_fields": fields, "before": only[0], "after": only[1]}


def naive_differences(before: Json, after: Json) -> Iterator[str]:
    """The paths of what differs in two resources, but for what every update changes."""
    for field in {*before, *after} - {"revision", "updated_at"}:
        old, new = before.get(field), after.get(field)
        if field not in ("metadata", "labels"):
            if old != new:
                yield field
            continue
        assert old is not None
        assert new is not None
        for key in {*old, *new}:
            if old.get(key, "missing") != new.get(key, "missing"):
                yield f"{field}.{key}"


def _kept(form: Json, paths: list[str]) -> Json:
    kept: Json = {}
    for field, value in form.items():
        if field in paths:
            kept[field] = value
        elif isinstance(value, dict):
            some = {key: value[key] for key in value if f"{field}.{key}" in paths}
            kept |= {field: some} if some else {}
    return kept


def told(entry: AuditEntry) -> Json:
    """An entry as plain values."""
    form = to_dict(entry)
    form["revision"], form["time"] = entry.revision, entry.time.ToMicroseconds()
    form["changed_fields"] = sorted(entry.changed_fields)
    return form


_upheavals = st.tuples(
    st.sampled_from(["restart", "compact", "reorganise", "trim"]), st.floats(0, 1)
)
_callers = st.tuples(st.sampled_from(ACTORS), st.sampled_from(METHODS))
_steps = st.lists(st.tuples(_callers, groups | _upheavals), min_size=1, max_size=10)
_conditions = st.fixed_dictionaries(
    {},
    optional={
        "resource_id": st.sampled_from(["", *ENTITY_IDS, *RELATIONSHIP_IDS, "ai-ml", "nobody"]),
        "actor": st.sampled_from(ACTORS),
        "method": st.sampled_from([*METHODS, "Reset", "Compact", "Other", "S/Set", "set", ""]),
        # Of a commit of the log, counted from either end; and whether the time is a little later.
        "start": st.tuples(st.integers(-9, 9), st.booleans()),
        "end": st.tuples(st.integers(-9, 9), st.booleans()),
    },
)


@given(_steps, st.lists(_conditions, min_size=1, max_size=6), st.integers(1, 3), st.integers(1, 9))
@settings(max_examples=80)
async def test_the_audit_log_is_the_log(
    steps: list[tuple[tuple[str, str], list[Resolve] | tuple[str, float]]],
    conditions: list[Json],
    limit: int,
    looked_at: int,
) -> None:
    """After any history, forgetting and restarting, every question has the entries of the log.

    They are the same in one page, and in many that each look at little.
    """
    disk = MemoryDisk()
    engine = Engine(MemoryStore(disk))
    await engine.start()
    oracle = oracle_of(engine)
    try:
        for (actor, method), step in steps:
            match step:
                case "restart", _:
                    await engine.aclose()
                    engine = Engine(MemoryStore(disk))
                    await engine.start()
                case "compact", float(share):
                    before = engine.view.floor
                    await engine.compact(round(share * oracle.revision), actor, "c")
                    if engine.view.floor > before:
                        oracle.states.append(oracle.now)
                case "reorganise", _:
                    reorganise(engine, engine.pins.oldest(engine.view.floor))
                case "trim", _:
                    while await engine.store.trim(engine.view.floor, 2):
                        pass
                case list(group):
                    made = [replace(r(oracle), actor=actor, method=method) for r in group]
                    await submit_all(engine, oracle, made)
        log = await log_of(engine)
        for one in conditions:
            question = AuditQuestion(**_timed(one, log))
            for revision in {max(1, engine.view.floor), oracle.revision}:
                expected = naive_entries(log, question, revision)
                found = await all_of(engine, question, revision=revision)
                assert [told(entry) for entry in found] == expected
                with patch.object(audit, "MAX_LOOKED_AT", looked_at):
                    assert await all_of(engine, question, limit, revision) == found
    finally:
        await engine.aclose()


def _timed(conditions: Json, log: list[Commit]) -> Json:
    """Conditions with times in place of places in the log."""
    times = [commit.time for commit in log] or [0]
    return conditions | {
        name: times[conditions[name][0] % len(times)] + conditions[name][1]
        for name in ("start", "end")
        if name in conditions
    }


async def test_what_each_change_is_told_as() -> None:
    """Creations and deletions have the whole resource, updates what they changed, in JSON."""
    async with running() as engine:
        who = {"actor": "ann", "method": "p.v1.S/Set", "request_id": "r"}
        await write(engine, CreateEntity(entity("a", version="1", metadata=packed(k=1))), **who)
        await link(engine, "r", "a", "a", weight=2.0)
        change = entity("a", status=2, labels={"x": "y"}, metadata=packed(k=2, n={"m": [1]}))
        await write(engine, UpdateEntity(change, ("status", "labels", "metadata")), **who)
        await engine.compact(1, "bob", "c", "p.v1.AdminService/Compact")
        await write(engine, DeleteEntity("a", cascade=True), **who)
        entity_gone, edge_gone, compacted, updated, linked, created = await all_of(engine)
        assert (created.revision, created.action, created.kind) == (2, "create", "entity")
        assert (created.actor, created.method, created.request_id) == ("ann", "Set", "r")
        assert (created.resource_type, created.resource_name) == ("service", "a@1")
        whole = to_dict(Entity.FromString(engine.view.entity("a", 2) or b""))
        form = to_dict(created)
        assert (form["before"], form["after"], form["changed_fields"]) == ({}, whole, [])
        assert (linked.kind, linked.resource_type, linked.resource_name) == (
            "relationship", "uses", "a->a",
        )  # fmt: skip
        assert linked.after["weight"] == 2
        assert updated.changed_fields == ["status", "metadata.k", "metadata.n", "labels.x"]
        form = to_dict(updated)
        assert form["before"] == {"status": "active", "metadata": {"k": 1}}
        assert form["after"] == {
            "status": "inactive", "metadata": {"k": 2, "n": {"m": [1]}}, "labels": {"x": "y"},
        }  # fmt: skip
        assert (compacted.kind, compacted.action, compacted.resource_id) == (
            "compaction", "update", "",
        )  # fmt: skip
        assert (compacted.actor, compacted.method) == ("bob", "Compact")
        assert to_dict(compacted)["after"] == {"compacted_revision": "1"}
        assert entity_gone.revision == edge_gone.revision == 6
        assert (entity_gone.action, edge_gone.action) == ("delete", "delete")
        form = to_dict(entity_gone)
        assert (form["before"]["labels"], form["after"]) == ({"x": "y"}, {})


async def test_changes_within_a_revision_are_all_told() -> None:
    """What a revision undoes itself was done: it is an entry, unlike a version of a history."""
    async with running() as engine:
        await write(
            engine,
            CreateEntity(entity("a")),
            UpdateEntity(entity("a", "b"), ("name",)),
            UpdateEntity(entity("a", "a"), ("name",)),
            DeleteEntity("a"),
        )
        found = [(one.action, one.resource_name) for one in await all_of(engine)][:-8]
        assert found == [("delete", "a"), ("update", "a"), ("update", "b"), ("create", "a")]
        assert [(one.action, one.resource_name) for one in await all_of(engine, limit=1)][:-8] == (
            found
        )


async def test_what_was_there_at_the_floor_has_no_entry() -> None:
    """Of the past that is forgotten nothing is told, whether the log has been trimmed or not."""
    async with running() as engine:
        for number in range(4):
            await ready(engine, f"e{number}")
        await engine.compact(3, "", "")
        found = await all_of(engine)
        assert [one.revision for one in found] == [6, 5, 4]
        assert [one.revision for one in await all_of(engine, revision=5)] == [5, 4]
        assert await all_of(engine, revision=3) == []
        while await engine.store.trim(3, 100):
            pass
        assert await all_of(engine) == found


async def test_at_most_so_many_fields() -> None:
    """A change of many fields is told by the first of them, and their values."""
    async with running() as engine:
        await ready(engine, "a")
        many = {f"k{number:03}": number for number in range(250)}
        await write(engine, UpdateEntity(entity("a", metadata=packed(**many)), ("metadata",)))
        entry = (await all_of(engine))[0]
        first = sorted(many)[:100]
        assert entry.changed_fields == [f"metadata.{key}" for key in first]
        assert to_dict(entry)["after"] == {"metadata": {key: many[key] for key in first}}


async def test_pages_are_of_limited_size() -> None:
    """Large changes make short pages that a client takes, of one entry at least."""
    async with running() as engine:
        labels = {f"{number}": "" for number in range(64)}
        regions = tuple(f"{number}" for number in range(64))
        for number in range(16):
            text = packed(text=str(number % 10) * 250_000)
            made = entity(f"e{number}", metadata=text, labels=labels, regions=regions)
            await write(engine, CreateEntity(made))
        question, found, token = AuditQuestion(), list[AuditEntry](), ""
        while not found or token:
            page = await page_of(engine, question, token=token)
            assert len(page.records) <= MAX_PAGE_BYTES
            found, token = found + entries_of(page), page.next_page_token
        assert [one.resource_id for one in found[:16]] == [f"e{n}" for n in reversed(range(16))]


async def test_many_small_changes_fit_a_client() -> None:
    """A page of the most entries, of what grows the most on the way to JSON, is small enough."""
    async with running() as engine:
        labels = {f"{number}": "" for number in range(64)}
        regions = tuple(f"{number}" for number in range(64))
        made = [entity(f"e{n}", labels=labels, regions=regions) for n in range(1000)]
        await write(engine, *map(CreateEntity, made), request_id="r" * 64)
        page = await page_of(engine, AuditQuestion())
        assert page.count > 500
        assert len(page.records) <= MAX_PAGE_BYTES


async def test_a_page_token_keeps_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compaction between two pages takes nothing from the later one, for a minute."""
    async with running() as engine:
        now = [0.0]
        monkeypatch.setattr(engine.pins, "_clock", lambda: now[0])
        for number in range(4):
            await ready(engine, f"e{number}")
        whole = await all_of(engine)
        page = await page_of(engine, AuditQuestion(), 2)
        await engine.compact(5, "", "")
        await engine._forget()
        rest = await page_of(engine, AuditQuestion(), 1000, page.next_page_token)
        assert entries_of(page) + entries_of(rest) == whole
        assert (rest.revision, rest.next_page_token) == (5, "")
        now[0] = pins.PIN_SECONDS + 1
        with pytest.raises(TokenExpired):
            await page_of(engine, AuditQuestion(), 2, page.next_page_token)


async def test_compaction_takes_nothing_from_a_page_that_is_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is forgotten while a page is made is on it all the same."""
    async with running() as engine:
        for number in range(4):
            await ready(engine, f"e{number}")
        whole = await all_of(engine)
        search = engine.store.search_log

        async def late(*asked: Any) -> Any:
            await engine.compact(5, "", "")
            await engine._forget()
            return await search(*asked)

        monkeypatch.setattr(engine.store, "search_log", late)
        page = await page_of(engine, AuditQuestion(), 2)
        assert entries_of(page) == whole[:2]
        assert page.next_page_token


async def test_a_start_that_compaction_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing from before the start is told, though the store cannot say any more where it is."""
    async with running() as engine:
        for number in range(4):
            await ready(engine, f"e{number}")
        times = {commit.revision: commit.time for commit in await log_of(engine)}
        revision_at = engine.store.revision_at

        async def late(time: int) -> int | None:
            await engine.compact(5, "", "")
            return await revision_at(time)

        monkeypatch.setattr(engine.store, "revision_at", late)
        page = await page_of(engine, AuditQuestion(start=times[4]), revision=5)
        assert [one.revision for one in entries_of(page)] == [5, 4]


async def test_times_that_have_not_come() -> None:
    """A start in the future means nothing, and an end there everything, on every page."""
    async with running() as engine:
        await ready(engine, "a")
        ahead = engine.now() + 10**15
        assert await all_of(engine, AuditQuestion(start=ahead)) == []
        whole = await all_of(engine)
        for question in (AuditQuestion(end=ahead), AuditQuestion(start=-5), AuditQuestion(start=0)):
            assert await all_of(engine, question, 2) == whole
        assert await all_of(engine, AuditQuestion(end=0)) == []


async def test_writes_meanwhile_are_not_listed() -> None:
    """All pages are up to the revision of the first one."""
    async with running() as engine:
        await ready(engine, "a", "b", "c")
        whole = await all_of(engine)
        page = await page_of(engine, AuditQuestion(), 2)
        await ready(engine, "d")
        rest = await page_of(engine, AuditQuestion(), 1000, page.next_page_token)
        assert entries_of(page) + entries_of(rest) == whole
        assert rest.revision == page.revision == 2


@pytest.mark.parametrize(
    "other",
    [
        AuditQuestion(),
        AuditQuestion(resource_id="a", actor="ann"),
        AuditQuestion(resource_id="a", method="Set"),
        AuditQuestion(resource_id="a", start=0),
        AuditQuestion(resource_id="a", end=10**16),
        AuditQuestion(resource_id="b"),
        AuditQuestion(actor="a"),
    ],
)
async def test_a_token_is_of_its_question(other: AuditQuestion) -> None:
    """With other conditions, even where they would mean the same, it is refused."""
    async with running() as engine:
        await write(engine, CreateEntity(entity("a")))
        await write(engine, UpdateEntity(entity("a", "b"), ("name",)))
        question = AuditQuestion(resource_id="a")
        token = (await page_of(engine, question, 1)).next_page_token
        with pytest.raises(TokenInvalid):
            await page_of(engine, other, 1, token)
        [entry] = entries_of(await page_of(engine, question, 9, token))
        assert entry.action == "create"


async def test_tokens_of_others_are_refused() -> None:
    """Of another kind of listing, of another history, and what is none."""
    async with running() as engine, running() as other:
        for one in (engine, other):
            await write(one, CreateEntity(entity("a")))
            await write(one, UpdateEntity(entity("a", "b"), ("name",)))
        window = Window(1, 0, "")
        history = await entity_history(engine, engine.store, "a", window, 3)
        theirs = (await page_of(other, AuditQuestion(), 1)).next_page_token
        wrong: list[tuple[str, type[RegistryError]]] = [
            (history.next_page_token, TokenInvalid),
            (theirs, HistoryChanged),
            ("nonsense", TokenInvalid),
            ((await page_of(engine, AuditQuestion(), 1)).next_page_token[:-1], TokenInvalid),
        ]
        for token, error in wrong:
            with pytest.raises(error):
                await page_of(engine, AuditQuestion(), 1, token)


@pytest.mark.parametrize(
    "key",
    [
        (),
        (0, 1),
        ("0", 1, 0),
        (0, 1, -1),
        (-1, 1, 0),
        (3, 2, 0),
        (0, 99, 0),
        (0, 2, 1),
        (0, 2, 1 << 62),
        (0, 1, 0, 0),
    ],
)
async def test_a_token_that_nobody_made(key: tuple[int | str, ...]) -> None:
    """A place that cannot be is refused, and does no harm."""
    async with running() as engine:
        await ready(engine, "a")
        question = AuditQuestion()
        made = PageToken(tokens.Kind.AUDIT, engine.lineage(2), 2, question.digest, key)
        with pytest.raises(TokenInvalid):
            await page_of(engine, question, 1, made.encode())


async def test_pages_that_look_at_little_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page may be empty; its token says so, and what is rare is found in the end."""
    monkeypatch.setattr(audit, "MAX_LOOKED_AT", 3)
    async with running() as engine:
        question = AuditQuestion(resource_id="ai-ml")
        await ready(engine, *(f"e{number}" for number in range(10)))
        pages = [await page_of(engine, question)]
        while pages[-1].next_page_token:
            pages.append(await page_of(engine, question, token=pages[-1].next_page_token))
        counts = [page.count for page in pages]
        assert len(pages) == 6
        assert sum(counts) == 1
        assert counts[0] == 0
        assert all(a.next_page_token != b.next_page_token for a, b in pairwise(pages))


async def test_a_relationship_is_found_by_its_id() -> None:
    """Its creation, and what of it was changed and how it went."""
    async with running() as engine:
        await ready(engine, "a", "b")
        await link(engine, "r", "a", "b")
        await write(engine, DeleteEntity("b", cascade=True), actor="ann")
        gone, made = await all_of(engine, AuditQuestion(resource_id="r"))
        assert (gone.action, gone.actor, made.action) == ("delete", "ann", "create")
        assert gone.resource_name == made.resource_name == "a->b"
        assert to_dict(gone)["before"] == to_dict(made)["after"]
        assert edge("r", "a", "b").type == gone.resource_type
