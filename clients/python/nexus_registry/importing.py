"""From the values of a file to the entities and relationships that it lists.

A file may hold, in any mixture:

- entities and relationships as they are (a relationship is what has a source or a target), which is
  what `export` writes;
- lists of them; objects with such lists (`entities`, `relationships`, `nodes`, `edges`), which is
  what `graph --output json` writes; the `{"result": ...}` lines of the HTTP API's export;
- `{"entity": ...}` and `{"relationship": ...}`, as in the lines of `watch --output json`.

Everything is read and checked before anything is sent, and all that is wrong is told at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from google.protobuf.message import Message

from nexus_registry.documents import Document, parse
from nexus_registry.failures import USAGE, Failure
from nexus_registry.rendering.words import counted
from ose.registry.jsonform import FormError, from_dict
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.mutation_pb2 import Mutation
from ose.registry.v1.relationship_pb2 import Relationship

__all__ = ["Contents", "read_contents"]

M = TypeVar("M", bound=Message)

_LISTS: Final = ("entities", "nodes", "relationships", "edges")
_ENDS: Final = ("source_id", "target_id", "sourceId", "targetId")
_MAX_TOLD: Final = 20


@dataclass(slots=True)
class Contents:
    """What a file lists, and the line of each."""

    entities: list[Entity] = field(default_factory=list)
    relationships: list[Relationship] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    """Of the entities, then of the relationships."""

    def __len__(self) -> int:
        return len(self.entities) + len(self.relationships)

    def mutations(self) -> Iterator[Mutation]:
        """What to send: the entities first, since both ends of a relationship must exist."""
        for entity in self.entities:
            yield Mutation(put_entity=entity)
        for relationship in self.relationships:
            yield Mutation(put_relationship=relationship)


def read_contents(data: bytes, name: str) -> Contents:
    """Reads and checks a file. Raises Failure (2) that tells what is wrong, each with its line."""
    found: list[tuple[Entity | Relationship, int]] = []
    problems: list[str] = []
    for document in parse(data, name):
        for value in _resources(document.value):
            try:
                found.append((_resource(value), document.line))
            except FormError as error:
                problems += [_told(document, problem) for problem in error.violations]
    if problems:
        raise _failure(name, problems)
    entities = [(one, line) for one, line in found if isinstance(one, Entity)]
    edges = [(one, line) for one, line in found if isinstance(one, Relationship)]
    return Contents(
        [one for one, _ in entities],
        [one for one, _ in edges],
        [line for _, line in entities] + [line for _, line in edges],
    )


def _told(document: Document, problem: object) -> str:
    return f"line {document.line}: {problem}"


def _failure(name: str, problems: list[str]) -> Failure:
    told = problems[:_MAX_TOLD]
    if len(problems) > _MAX_TOLD:
        told.append(f"and {len(problems) - _MAX_TOLD:,} more")
    return Failure(f"{name}: {counted(len(problems), 'problem')}, nothing was sent", USAGE,
                   details=told)  # fmt: skip


def _resources(value: Any) -> Iterator[Any]:
    """The objects of entities and relationships in a value, unpacked from what wraps them."""
    if isinstance(value, list):
        yield from _all(value)
    elif not isinstance(value, dict):
        yield value
    elif isinstance(result := value.get("result"), dict):
        yield from _resources(result)
    elif isinstance(wrapped := value.get("entity", value.get("relationship")), dict):
        yield wrapped
    elif any(isinstance(value.get(name), list) for name in _LISTS) and "type" not in value:
        for name in _LISTS:
            yield from _all(value.get(name) or [])
    elif not _is_mark(value):
        yield value


def _all(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        yield from _resources(value)


def _is_mark(value: dict[str, Any]) -> bool:
    """Whether it is a line of a watch that says how far that came, and nothing else."""
    return value.get("type") in ("snapshot_end", "bookmark") and "name" not in value


def _resource(value: Any) -> Entity | Relationship:
    if isinstance(value, dict) and any(value.get(end) for end in _ENDS):
        return _complete(from_dict(value, Relationship()), ("source_id", "target_id", "type"))
    return _complete(from_dict(value, Entity()), ("type", "name"))


def _complete(message: M, required: tuple[str, ...]) -> M:
    from ose.registry.jsonform import Violation

    missing = [Violation(name, "is required") for name in required if not getattr(message, name)]
    if missing:
        raise FormError(missing)
    return message
