"""The index of words: tantivy's, in memory.

A document is one life of an entity, and its `key` the entity's ordinal. Answers come in the order
of `rank`: the fewest words in the name first, then the newest. So no scores are computed, and the
order is that of every replica.

Tantivy works without the GIL. It was chosen by measuring, beside SQLite's FTS5: see docs/search.md.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from tantivy import (
    Document,
    FieldType,
    Index,
    Occur,
    Query,
    Schema,
    SchemaBuilder,
    Searcher,
    TextAnalyzerBuilder,
    Tokenizer,
)

from hyper_registry.model.revision import INDEX_BITS
from hyper_registry.query.search.fields import Scope, Terms
from hyper_registry.query.search.question import Kind, Word
from hyper_registry.query.search.stages import Stage

_KEY, _RANK, _TYPE, _WHOLE = "key", "rank", "type", "whole"
_WORDS = "words"
# What tantivy holds of documents that it has not yet made a segment of. More makes fewer segments
# when all entities are indexed at once; what is not needed is not taken.
_BUFFER_BYTES = 64_000_000
# A rank is a length and an ordinal. So ordinals have 60 bits, enough for 1e12 revisions.
_ORDINAL_BITS = 60
_ORDINALS = (1 << _ORDINAL_BITS) - 1
_HIGHEST_RANK = (1 << 64) - 1
MAX_LENGTH = 15
"""Longer names are as if they had so many words."""

_FIRST, _GROWTH, _LAST = 64, 8, 1 << 16

SAMPLED, SHARE = 64, 64
"""One in so many documents is sampled, and one of so many is among the best that are tried first.
"""

assert _ORDINAL_BITS - INDEX_BITS >= 40


@dataclass(frozen=True, slots=True)
class Within:
    """What is looked at: entities of some types only, or these alone; None sets no condition."""

    types: Collection[str] | None = None
    ordinals: Collection[int] | None = None


class TextIndex:
    """Documents, and what finds them. One thread writes; what it commits is read by any."""

    def __init__(self) -> None:
        self._schema = _schema()
        self._index = Index(self._schema)
        words = TextAnalyzerBuilder(Tokenizer.whitespace()).build()
        self._index.register_tokenizer(_WORDS, words)
        # By itself it would reload in a thread of its own, whenever that gets its turn.
        self._index.config_reader("manual")
        self._writer = self._index.writer(_BUFFER_BYTES, 1)
        self._added = 0
        # The ranks of some documents, in order, the removed included: it need not be exact.
        self._sample: list[int] = []

    def add(self, ordinal: int, terms: Terms) -> None:
        """Adds a document; it must not be there."""
        document, number = Document(), rank(ordinal, terms.length)
        # Of a type whose values can be deleted by: unsigned ones cannot.
        document.add_integer(_KEY, ordinal)
        document.add_unsigned(_RANK, number)
        document.add_text(_TYPE, terms.type)
        for text in terms.wholes:
            document.add_text(_WHOLE, text)
        for scope, text in (
            (Scope.NAME, terms.name),
            (Scope.TAGS, f"{terms.name} {terms.tags}"),
            (Scope.TEXT, f"{terms.name} {terms.tags} {terms.text}"),
        ):
            document.add_text(scope, text)
        self._writer.add_document(document)
        self._added += 1
        if self._added % SAMPLED == 0:
            insort(self._sample, number)

    def remove(self, ordinal: int) -> None:
        """Removes a document, if it is there."""
        self._writer.delete_documents_by_term(_KEY, ordinal)

    def commit(self) -> Reader:
        """Answers a reader of everything that was added and removed until now."""
        self._writer.commit()
        self._index.reload()
        searcher = self._index.searcher()
        # Those that were removed are in it: half of it tells as much, once they are the most.
        while len(self._sample) > 2 * searcher.num_docs // SAMPLED + SAMPLED:
            del self._sample[::2]
        best = len(self._sample) // SHARE
        return Reader(searcher, self._schema, self._sample[-best] if best else None)


class Reader:
    """What an index had when it was committed."""

    def __init__(self, searcher: Searcher, schema: Schema, best: int | None) -> None:
        """With `best`, ranks from there on are tried first."""
        self._searcher = searcher
        self._schema = schema
        self._best = best

    def __len__(self) -> int:
        return self._searcher.num_docs

    def find(
        self, stage: Stage, words: Sequence[Word], whole: str, within: Within, first: int
    ) -> Iterator[list[int]]:
        """The ranks of what is found in a stage, the best first, in lists, at first `first`."""
        query = self._query(stage, words, whole, within)
        offset, size = 0, max(first, _FIRST)
        if self._best is not None:
            # What is common is among the best as well: a fortieth of the time, if it is enough.
            best = Query.range_query(
                self._schema, _RANK, FieldType.Unsigned, self._best, _HIGHEST_RANK
            )
            ranks = self._ranks(_all([query, best]), size, 0)
            if len(ranks) == size:
                yield ranks
                offset, size = _next(offset, size)
        while True:
            ranks = self._ranks(query, size, offset)
            yield ranks
            if len(ranks) < size:
                return
            offset, size = _next(offset, size)

    def _ranks(self, query: Query, size: int, offset: int) -> list[int]:
        found = self._searcher.search(query, size, count=False, order_by_field=_RANK, offset=offset)
        return [int(value) for value, _ in found.hits]

    def _query(self, stage: Stage, words: Sequence[Word], whole: str, within: Within) -> Query:
        if stage.is_whole:
            wanted = [Query.term_query(self._schema, _WHOLE, whole)]
        else:
            wanted = [self._either(stage, word) for word in words]
        for field, values in ((_TYPE, within.types), (_KEY, within.ordinals)):
            if values is not None:
                wanted.append(Query.term_set_query(self._schema, field, list(values)))
        return _all(wanted)

    def _either(self, stage: Stage, word: Word) -> Query:
        """What has the word as a whole, or all of its parts."""
        whole = self._one(stage, word)
        if not word.parts:
            return whole
        return _any([whole, _all([self._one(stage, part) for part in word.parts])])

    def _one(self, stage: Stage, word: Word) -> Query:
        schema, scope, text = self._schema, stage.scope.value, word.text
        typos = word.typos(stage.kind)
        ways = []
        if word.is_last and stage.kind >= Kind.PREFIX:
            ways.append(Query.fuzzy_term_query(schema, scope, text, 0, prefix=True))
        if typos:
            ways.append(Query.fuzzy_term_query(schema, scope, text, typos))
        return _any(ways) if ways else Query.term_query(schema, scope, text)


def _next(offset: int, size: int) -> tuple[int, int]:
    """The next part of an answer: larger parts are asked for when small ones were not enough."""
    return offset + size, min(size * _GROWTH, max(size, _LAST))


def rank(ordinal: int, length: int) -> int:
    """What documents are ordered by, from the highest to the lowest."""
    return MAX_LENGTH - min(length, MAX_LENGTH) << _ORDINAL_BITS | ordinal & _ORDINALS


def ordinal_of_rank(number: int) -> int:
    """The ordinal in a rank."""
    return number & _ORDINALS


def brevity(number: int) -> int:
    """The other half of a rank: the more, the fewer words the name has; at most 14."""
    return number >> _ORDINAL_BITS


def _schema() -> Schema:
    builder = SchemaBuilder()
    builder.add_integer_field(_KEY, indexed=True)
    builder.add_unsigned_field(_RANK, fast=True)
    for name in (_TYPE, _WHOLE):
        builder.add_text_field(name, tokenizer_name="raw", index_option="basic")
    for scope in Scope:
        builder.add_text_field(scope.value, tokenizer_name=_WORDS, index_option="basic")
    return builder.build()


def _all(queries: Sequence[Query]) -> Query:
    return _joined(Occur.Must, queries)


def _any(queries: Sequence[Query]) -> Query:
    return _joined(Occur.Should, queries)


def _joined(occur: Occur, queries: Sequence[Query]) -> Query:
    if len(queries) == 1:
        return queries[0]
    return Query.boolean_query([(occur, query) for query in queries])
