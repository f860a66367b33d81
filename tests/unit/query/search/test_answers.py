"""The order of answers, and what is marked in them, by examples."""

from __future__ import annotations

import asyncio
import threading
from typing import Any
from unittest.mock import patch

import pytest

from hyper_registry.model.errors import DeadlineExceeded
from hyper_registry.query.filters import EntityFilter
from hyper_registry.query.search import searching
from hyper_registry.query.search.fields import Terms
from hyper_registry.query.search.indexer import Indexer
from hyper_registry.query.search.matching import MAX_SNIPPET
from hyper_registry.query.search.question import SearchQuestion
from hyper_registry.query.search.searching import Found, search
from hyper_registry.query.search.textindex import SAMPLED, TextIndex
from hyper_registry.query.selection import EntitySelection
from tests.unit.query.search.oracle import caught_up, entities
from tests.unit.query.world import World, struct


def found(world: World, query: str, **window: int) -> Found:
    """What a world answers."""
    question = SearchQuestion.parse(query, EntityFilter(), **window)
    snapshot = caught_up(Indexer(), world.view)
    return asyncio.run(search(world.view, snapshot, question))


def ids(world: World, query: str, **window: int) -> list[str]:
    """The ids of what a world answers."""
    return [entity.id for entity in entities(found(world, query, **window))]


def only(**fields: Any) -> World:
    """A world of one entity."""
    world = World()
    world.put_entity(fields.pop("id", "e1"), **{"name": "thing", **fields})
    world.publish()
    return world


def marked(world: World, query: str) -> list[tuple[str, str]]:
    """The marked texts of the first hit, with their fields."""
    hit = found(world, query).hits[0]
    return [
        (field, text[start:end]) for field, text, spans in hit.highlights for start, end in spans
    ]


def test_order() -> None:
    """The name itself, words in the name, what it is known by, other metadata, and typos last.

    In each the word itself comes before the start of one; among equals short names come first, and
    of these the newest.
    """
    world = World()
    expected: list[dict[str, Any]] = [
        {"name": "Cache"},
        {"name": "new-cache"},
        {"name": "old-cache"},
        {"name": "cache-of-many-words"},
        {"name": "cachet"},
        {"name": "labelled", "labels": {"use": "cache"}},
        {"name": "tagged", "metadata": struct(tags=["cached"])},
        {"name": "described", "metadata": struct(description="It has a cache.")},
        {"name": "deep", "metadata": struct(a={"b": [1, "caching", "cachets"]})},
        {"name": "cahce"},
        {"name": "mistaken", "metadata": struct(note="cahce")},
    ]
    for number, fields in reversed(list(enumerate(expected))):
        world.put_entity(f"e{number}", version=str(number), **fields)
    world.put_entity("none", name="cash")
    world.publish()
    assert ids(world, "cache") == [f"e{number}" for number in range(len(expected))]
    assert ids(world, "cache", limit=3, offset=2) == ["e2", "e3", "e4"]


def test_two_typos_are_a_last_resort() -> None:
    """They are looked for only if nothing is found with fewer, and three are not."""
    world = World()
    world.put_entity("two", name="tensrofolw")
    world.put_entity("one", name="other", metadata=struct(note="tensrflow"))
    world.put_entity("three", name="tnsrofolw")
    world.publish()
    assert ids(world, "tensorflow") == ["one"]
    world.delete_entity("one")
    world.publish()
    assert ids(world, "tensorflow") == ["two"]


def test_every_word_must_be_found() -> None:
    """Words may be in different fields, but each must be in one; only the last may be a start."""
    world = World()
    world.put_entity("both", name="billing", labels={"team": "payments"})
    world.put_entity("one", name="billing", version="2")
    world.publish()
    assert ids(world, "billing payments") == ["both"]
    assert ids(world, "payments billing") == ["both"]
    assert ids(world, "payments bill") == ["both"]
    assert ids(world, "bill payments") == []


@pytest.mark.parametrize(
    ("name", "queries"),
    [
        ("tensorflow-inference-service", ("inference", "Tensorflow Inference", "tensorflow-inf",
                                          "tensorflow-inference-service", "SERVICE tensorflow")),
        ("libFooBar2", ("lib", "foo", "bar", "bar2", "fooBar", "libfoobar2", "LibFoo", "libfoo")),
        ("my_service.v2", ("my", "service v2", "my_service.v2", "my-service")),
        ("数据库-Überblick", ("数据库", "据", "uberblick", "ÜBERBLICK", "数据 über")),
    ],
)  # fmt: skip
def test_identifiers(name: str, queries: tuple[str, ...]) -> None:
    """An identifier is found by its parts and as a whole, whatever the case."""
    world = only(name=name)
    assert [query for query in queries if ids(world, query) != ["e1"]] == []


def test_fields() -> None:
    """Everything that an entity says is found, and the field is named as a user would name it."""
    world = only(
        id="e-one", name="Name", version="7.1-beta", labels={"team/sub": "red", "flag": ""},
        metadata=struct(
            description="An amber thing", tags=["green"], port=8080, nested={"list": ["blue"]}
        ),
    )  # fmt: skip
    expected = {
        "name": "name", "one": "id", "plugin": "type", "beta": "version", "green": "metadata.tags",
        "red": "labels.team/sub", "flag": "labels.flag", "sub": "labels.team/sub",
        "amber": "metadata.description", "8080": "metadata.port", "blue": "metadata.nested.list",
    }  # fmt: skip
    assert {word: marked(world, word)[0][0] for word in expected} == expected


def test_marks_are_exact() -> None:
    """What is marked are the words, in code points, whatever the script."""
    world = only(
        name="數Straße-libFooBar2", metadata=struct(description="\U0001d518 die STRASSE, straßen")
    )
    assert marked(world, "strasse") == [
        ("name", "Straße"),
        ("metadata.description", "STRASSE"),
        ("metadata.description", "straßen"),
    ]
    assert marked(world, "foo bar") == [("name", "Foo"), ("name", "Bar2")]
    assert marked(world, "libfoobar2") == [("name", "libFooBar2")]
    assert marked(world, "數") == [("name", "數")]
    assert marked(world, "starsse") == [("name", "Straße"), ("metadata.description", "STRASSE")]


def test_marks_are_what_was_asked_for() -> None:
    """The start of a word counts for the last word only, a typo only if nothing else is there."""
    world = only(name="tens tensor tesnor", labels={"k": "tensors"})
    assert marked(world, "tens tensor") == [
        ("name", "tens"),
        ("name", "tensor"),
        ("labels.k", "tensors"),
    ]
    assert marked(world, "tensor tens")[0:3] == [
        ("name", "tens"),
        ("name", "tensor"),
        ("labels.k", "tensors"),
    ]


def test_long_texts_are_cut_around_the_words() -> None:
    """A snippet has the word, says where it was cut, and its places are those in the snippet."""
    world = only(metadata=struct(note="lorem " * 500 + "needle " + "ipsum " * 500))
    [(field, text, spans)] = found(world, "needle").hits[0].highlights
    assert field == "metadata.note"
    assert len(text) == MAX_SNIPPET + 2
    assert text[0] == text[-1] == "…"
    assert [text[start:end] for start, end in spans] == ["needle"]


def test_every_word_is_shown() -> None:
    """However many fields have the first word, one that has the second is shown as well."""
    labels = {f"k{number}": "red" for number in range(9)}
    shown = marked(only(labels=labels, metadata=struct(note="rare")), "red rare")
    assert ("metadata.note", "rare") in shown
    assert len(shown) == 6


def test_the_best_are_tried_first() -> None:
    """Trying the best documents first changes no answer, whether they are enough or not."""
    world = World()
    for number in range(300):
        name = "thing" if number % 2 else "another thing that is longer"
        rare = " rare" if number % 50 == 0 else ""
        world.put_entity(f"e{number:03d}", name=f"{name}{rare}", version=str(number))
    world.publish()
    queries = [("thing", limit, offset) for limit in (1, 70, 1000) for offset in (0, 10, 200)]
    queries += [("rare", 3, 0), ("thing rare", 3, 2), ("thi", 5, 0)]
    asked = [found(world, query, limit=limit, offset=offset) for query, limit, offset in queries]
    with patch.multiple("hyper_registry.query.search.textindex", SAMPLED=1, SHARE=2):
        again = [
            found(world, query, limit=limit, offset=offset) for query, limit, offset in queries
        ]
    assert asked == again
    assert [entity.id for entity in entities(asked[0])] == ["e299"]


def test_operators_mean_nothing() -> None:
    """Whatever other search programs take for syntax is passed over."""
    world = only(name="and or not")
    for query in (
        "and",
        '"and',
        "+and -or",
        "and* OR",
        "name:and^2",
        "(and",
        "[and TO or]",
        "a\0nd~",
    ):
        found(world, query)
    assert ids(world, "(and) & [or] ~ 'not'") == ["e1"]


def test_time_is_kept() -> None:
    """A search whose time is over stops."""
    world = only()
    question = SearchQuestion.parse("thing", EntityFilter())
    snapshot = caught_up(Indexer(), world.view)
    with pytest.raises(DeadlineExceeded):
        asyncio.run(search(world.view, snapshot, question, until=0.0))


def test_work_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search looks at so many entities at most, and says so; what it found is answered."""
    world = World()
    for number in range(600):
        world.put_entity(f"e{number}", name="thing", version=str(number))
    world.publish()
    condition = EntityFilter.parse(filter="version = 250 OR version = 599")
    question = SearchQuestion.parse("thing", condition)
    snapshot = caught_up(Indexer(), world.view)
    for most, versions, has_more in (
        (601, ["599", "250"], False),
        (300, ["599"], True),
        (400, ["599", "250"], True),
    ):
        monkeypatch.setattr(searching, "MAX_LOOKED_AT", most)
        monkeypatch.setattr(searching, "_PIECE", 50)
        answer = asyncio.run(search(world.view, snapshot, question))
        assert [entity.version for entity in entities(answer)] == versions
        assert answer.has_more is has_more


async def test_a_search_ends_when_nobody_waits_for_it() -> None:
    """A caller that is cancelled cancels the search: it looks at little more."""
    world = World()
    for number in range(2000):
        world.put_entity(f"e{number}", name="thing", version=str(number))
    world.publish()
    question = SearchQuestion.parse("thing", EntityFilter.parse(filter="version = x"))
    snapshot = caught_up(Indexer(), world.view)
    looking, go, ended, looked = threading.Event(), threading.Event(), threading.Event(), 0
    run, is_meant = searching._search, EntitySelection.is_meant

    def slow(selection: EntitySelection, slot: int) -> bool:
        nonlocal looked
        looked += 1
        looking.set()
        assert go.wait(30)
        return is_meant(selection, slot)

    def watched(*arguments: Any) -> Found:
        try:
            return run(*arguments)
        finally:
            ended.set()

    with (
        patch.object(EntitySelection, "is_meant", slow),
        patch.object(searching, "_search", watched),
    ):
        task = asyncio.create_task(search(world.view, snapshot, question))
        assert await asyncio.to_thread(looking.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        go.set()
        assert await asyncio.to_thread(ended.wait, 30)
    assert looked <= searching._PIECE


def test_what_is_changed_often_takes_no_more_memory() -> None:
    """The sample of ranks is of what there is: changes leave it as large as it was."""
    index, terms = TextIndex(), Terms("t", ("a",), "a", "a", "a", 1)
    for ordinal in range(40):
        index.add(ordinal, terms)
    for _ in range(30):
        for ordinal in range(40):
            for _ in range(20):
                index.remove(ordinal)
                index.add(ordinal, terms)
        index.commit()
    assert len(index._sample) <= 2 * SAMPLED


def test_large_entities_make_short_pages() -> None:
    """A page ends before it is too large, and says that there is more."""
    world = World()
    for number in range(20):
        note = struct(note="x " * 120_000)
        world.put_entity(f"e{number:02d}", name=f"big {number}", version=str(number), metadata=note)
    world.publish()
    first = found(world, "big")
    assert 10 < len(first.hits) < 20
    assert first.has_more
    rest = found(world, "big", offset=len(first.hits))
    assert len(first.hits) + len(rest.hits) == 20
    assert not rest.has_more
