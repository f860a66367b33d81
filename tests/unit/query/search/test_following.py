"""The index keeps in step with the view, and answers as a search without one does."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from hyper_registry.model.entity import Entity, Status
from hyper_registry.query.filters import EntityFilter
from hyper_registry.query.search.follower import Snapshot
from hyper_registry.query.search.indexer import Indexer
from hyper_registry.query.search.question import Kind, SearchQuestion, Word, within
from hyper_registry.query.search.searching import Found
from hyper_registry.query.search.words import fold
from tests.unit.query.search.oracle import (
    answers,
    caught_up,
    entities,
    mark,
    naive_search,
)
from tests.unit.query.world import IDS, World, plain, struct

WORDS = (
    "cache", "Caches", "cahce", "redis", "libFoo", "foo", "python3", "python", "3", "数据", "über",
    "uber", "international", "internatoinal", "intrenatinal", "a", "ab", "abcd", "2024",
)  # fmt: skip
QUERIES = (
    "cache", "cach", "cahce", "redis cache", "cache redis", "libfoo", "LibFoo", "foo", "python3",
    "python", "pyth", "据", "uber", "ÜBER", "international", "internatiunal", "intxrnatixnal", "a",
    "abcd ab", "axcd", "20", "plugin", "b", "service cache",
)  # fmt: skip
FILTERS: tuple[tuple[str, Callable[[Entity], bool]], ...] = (
    ("", lambda _: True),
    ("labels.k:*", lambda entity: "k" in entity.labels),
    ("type = service", lambda entity: entity.type == "service"),
    ("status = deprecated", lambda entity: entity.status == Status.DEPRECATED),
    ("metadata.n > 1", lambda entity: plain(entity.metadata).get("n", 0) > 1),
)
TYPES = ((), (), ("plugin",), ("plugin", "service"), ("nothing",))
WINDOWS = ((0, 0), (0, 0), (2, 0), (2, 1), (1, 3))


@dataclass(frozen=True)
class Asked:
    """A question, and what stands for its filter."""

    question: SearchQuestion
    means: Callable[[Entity], bool]


def questions(chance: random.Random) -> list[Asked]:
    """A few questions, some with a filter, some of a page in the middle."""
    return [question(chance, query) for query in chance.sample(QUERIES, 8)]


def question(chance: random.Random, query: str) -> Asked:
    """A question for these words."""
    types, (text, holds) = chance.choice(TYPES), chance.choice((FILTERS[0], *FILTERS))
    condition = EntityFilter.parse(types=types, filter=text)
    return Asked(
        SearchQuestion.parse(query, condition, *chance.choice(WINDOWS)),
        lambda entity: holds(entity) and (not types or entity.type in types),
    )


def put(world: World, chance: random.Random) -> None:
    """Creates or changes an entity; often only what no word of it says."""
    entity_id = chance.choice(IDS)
    there = world.now.entities.get(entity_id)
    if there is not None and chance.random() < 0.3:
        world.put_entity(entity_id, status=chance.randint(1, 4), health=chance.randint(1, 2))
        return

    def text(most: int) -> str:
        return chance.choice(" -_").join(chance.choices(WORDS, k=chance.randint(1, most)))

    fields: dict[str, object] = (
        {"version": entity_id}
        if there
        else {
            "version": entity_id,
            "type": chance.choice(("plugin", "service")),
        }
    )
    if chance.random() < 0.8:
        fields["name"] = text(3)
    if chance.random() < 0.5:
        fields["labels"] = {key: text(1) for key in "kl" if chance.random() < 0.5}
    if chance.random() < 0.5:
        fields["metadata"] = struct(
            description=text(4),
            tags=[text(1), text(1)],
            n=chance.randint(0, 3),
            deep={"x": text(2)},
        )
    world.put_entity(entity_id, **fields)


def shown(found: Sequence[Found]) -> list[object]:
    """Everything that an answer says."""
    return [(one.records, one.hits, one.has_more, one.revision) for one in found]


@given(st.integers(0, 1 << 32))
@settings(max_examples=40, deadline=None)
def test_following_is_building_anew(seed: int) -> None:
    """An index that followed a random log answers as one built of its end, and as no index would.

    The log is followed in pieces, of which some end in the middle of a revision that is not yet
    published and may be taken back; compaction takes tables away meanwhile, and what was deleted is
    cleared away at any time. The best documents are tried first, or not.
    """
    chance = random.Random(seed)
    index = "hyper_registry.query.search.textindex"
    sampled, share, first = chance.choice([(64, 64, 64), (1, 2, 1), (1, 1, 2)])
    with patch.multiple(index, SAMPLED=sampled, SHARE=share, _FIRST=first):
        follow_and_compare(chance)


def follow_and_compare(chance: random.Random) -> None:
    """Follows a random log, and compares what is answered at its end."""
    world, indexer = World(), Indexer()
    snapshot: Snapshot | None = None
    with patch("hyper_registry.query.search.indexer.SWEEP_LEAST", chance.choice([1, 3, 1000])):
        for _ in range(chance.randint(1, 60)):
            match chance.choices(range(7), (12, 3, 6, 2, 4, 4, 1))[0]:
                case 0:
                    put(world, chance)
                case 1 if world.now.entities:
                    world.delete_entity(chance.choice(list(world.now.entities)))
                case 2:
                    world.publish()
                case 3:
                    world.abandon()
                case 4:
                    at = mark(world.view)
                    if (reader := indexer.advance(at, chance.randint(1, 5))) is not None:
                        snapshot = Snapshot(at.revision, reader)
                case 5:
                    snapshot = caught_up(indexer, world.view, chance.randint(1, 5))
                case 6:
                    # As the pin of the follower has it: what was reached stays readable.
                    world.publish()
                    floor = world.revision if snapshot is None else snapshot.revision
                    world.compact(chance.randint(0, floor))
        world.publish()
        followed = caught_up(indexer, world.view, chance.randint(1, 5))
    asked = questions(chance)
    built = caught_up(Indexer(), world.view)
    assert followed.revision == built.revision == world.revision
    told = [one.question for one in asked]
    answered = asyncio.run(answers(world.view, followed, told))
    assert shown(answered) == shown(asyncio.run(answers(world.view, built, told)))
    for one, found in zip(asked, answered, strict=True):
        expected = naive_search(world.states[-1], one.question, one.means)
        first, last = one.question.offset, one.question.offset + one.question.limit
        ids = [entity.id for entity in entities(found)]
        assert ids == expected[first:last], one.question
        assert found.has_more == (len(expected) > last)
        scores = [hit.score for hit in found.hits]
        assert scores == sorted(scores, reverse=True)
        check_marks(one.question, found)


def check_marks(question: SearchQuestion, found: Found) -> None:
    """Every span has a word that was asked for, and every word that was asked for has one."""
    for hit in found.hits:
        assert hit.highlights
        assert all(spans for *_, spans in hit.highlights)
        marked = [
            fold(text[start:end]) for _, text, spans in hit.highlights for start, end in spans
        ]
        every = [one for word in question.words for one in word.all()]
        assert all(any(explains(text, word) for word in every) for text in marked)
        for word in question.words:
            options = [(word,), word.parts] if word.parts else [(word,)]
            assert any(
                all(any(explains(text, one) for text in marked) for one in option)
                for option in options
            ), (word, hit)


def explains(text: str, word: Word) -> bool:
    """Whether a marked text has a word, perhaps with typos."""
    typos = word.typos(Kind.TYPOS)
    return word.text in text or (typos > 0 and within(word.text, text, typos))


def test_deleted_are_cleared_away() -> None:
    """What was deleted leaves the index in the end, also if the table was compacted meanwhile."""
    world, indexer = World(), Indexer()
    for entity_id in IDS:
        world.put_entity(entity_id, name=f"thing {entity_id}", version=entity_id)
    world.publish()
    assert len(caught_up(indexer, world.view).reader) == len(IDS)
    for entity_id in IDS[:4]:
        world.delete_entity(entity_id)
    world.publish()
    with patch("hyper_registry.query.search.indexer.SWEEP_LEAST", 1):
        assert not indexer.is_at(mark(world.view))
        assert len(caught_up(indexer, world.view).reader) == len(IDS) - 4
        assert indexer.is_at(mark(world.view))
    for entity_id in IDS[4:6]:
        world.delete_entity(entity_id)
    world.publish()
    reached = caught_up(indexer, world.view)
    assert len(reached.reader) == len(IDS) - 4
    world.compact(reached.revision)
    assert len(caught_up(indexer, world.view).reader) == len(IDS) - 6


def test_same_words_are_not_indexed_again() -> None:
    """A change that no word tells of leaves the index alone."""
    world, indexer = World(), Indexer()
    world.put_entity("a", name="thing")
    world.publish()
    first = caught_up(indexer, world.view).reader
    world.put_entity("a", status=2)
    world.publish()
    assert caught_up(indexer, world.view).reader is first
    world.put_entity("a", name="other")
    world.publish()
    assert caught_up(indexer, world.view).reader is not first


def test_back_to_the_same_words_in_one_round() -> None:
    """A change that is taken back before the index is committed is taken back there as well."""
    world, indexer = World(), Indexer()
    world.put_entity("a", name="first")
    world.publish()
    caught_up(indexer, world.view)
    world.put_entity("a", name="second")
    world.put_entity("b", name="other", version="b")
    world.publish()
    assert indexer.advance(mark(world.view), 1) is None
    world.put_entity("a", name="first")
    world.publish()
    snapshot = caught_up(indexer, world.view, 1)
    for query, expected in (("first", ["a"]), ("second", [])):
        asked = SearchQuestion.parse(query, EntityFilter())
        [found] = asyncio.run(answers(world.view, snapshot, [asked]))
        assert [entity.id for entity in entities(found)] == expected
