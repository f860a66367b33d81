"""Searching without an index: every entity is looked at, and everything is sorted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hyper_registry.model.entity import Entity
from hyper_registry.query.search.fields import Scope, texts
from hyper_registry.query.search.follower import Snapshot
from hyper_registry.query.search.indexer import Indexer, Mark
from hyper_registry.query.search.question import Kind, SearchQuestion, Word
from hyper_registry.query.search.searching import Found, search
from hyper_registry.query.search.stages import STAGES, Stage
from hyper_registry.query.search.textindex import MAX_LENGTH
from hyper_registry.query.search.words import tokens, whole
from hyper_registry.registry.codec import encode_entity
from hyper_registry.registry.view import View
from ose.registry.v1.entity_pb2 import Entity as EntityMessage
from ose.registry.v1.search_service_pb2 import SearchEntitiesResponse
from tests.unit.query.world import State

SCOPES = tuple(Scope)


def naive_search(
    state: State, question: SearchQuestion, means: Callable[[Entity], bool]
) -> list[str]:
    """The ids of all that is found, the best first; `means` stands for the question's filter."""
    found = []
    for number, entity in enumerate(state.entities.values()):
        stage = first_stage(entity, question)
        if stage is not None and means(entity):
            length = min(len(whole(entity.name).split()) or 1, MAX_LENGTH)
            found.append((stage, length, -number, entity.id))
    far_fetched = {number for number, stage in enumerate(STAGES) if stage.kind == Kind.TYPOS}
    if any(stage not in far_fetched for stage, *_ in found):
        found = [one for one in found if one[0] not in far_fetched]
    return [entity_id for *_, entity_id in sorted(found)]


def first_stage(entity: Entity, question: SearchQuestion) -> int | None:
    """The number of the first stage that an entity meets; None if it meets none."""
    message = EntityMessage.FromString(encode_entity(entity))
    return next(
        (n for n, stage in enumerate(STAGES) if _meets(message, stage, question)),
        None,
    )


def _meets(message: EntityMessage, stage: Stage, question: SearchQuestion) -> bool:
    if stage.is_whole:
        return question.whole in (whole(message.name), whole(message.id))
    scopes = SCOPES[: SCOPES.index(stage.scope) + 1]
    there = {
        word for scope, _, text in texts(message) if scope in scopes for _, _, word in tokens(text)
    }

    def has(word: Word, kind: Kind) -> bool:
        return any(word.is_in(text, kind) for text in there)

    return all(
        has(word, stage.kind)
        or (bool(word.parts) and all(has(part, stage.kind) for part in word.parts))
        for word in question.words
    )


def mark(view: View) -> Mark:
    """How far a view is."""
    table = view.generation.entities
    return Mark(table, table.slots.length, view.visible)


def caught_up(indexer: Indexer, view: View, most: int = 1000) -> Snapshot:
    """Brings an indexer to where the view is."""
    at = mark(view)
    while (reader := indexer.advance(at, most)) is None:
        pass
    return Snapshot(at.revision, reader)


async def answers(
    view: View, snapshot: Snapshot, questions: Sequence[SearchQuestion]
) -> list[Found]:
    """What is found for each question."""
    return [await search(view, snapshot, question) for question in questions]


def entities(found: Found) -> list[EntityMessage]:
    """The entities of an answer."""
    return list(SearchEntitiesResponse.FromString(found.records).entities)
