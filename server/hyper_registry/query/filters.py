"""Which resources are meant: filters as values, the same for listings, exports and watches.

A filter is normalised when it is parsed, so that equal conditions are equal filters: they hash and
compare alike, and what is computed for one watcher serves all that have the same filter.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from hyper_registry.model.entity import Entity, Health, Status
from hyper_registry.model.errors import InvalidArgument, LimitExceeded, Violation
from hyper_registry.model.relationship import FEATURE_TYPE, Relationship
from hyper_registry.model.rules import (
    ID_RULE,
    TEXT_RULE,
    check_entity,
    check_type,
    is_id,
    is_text,
    shown,
)
from hyper_registry.query.tokens import digest_of
from hyper_registry.registry.codec import metadata
from ose.registry.v1.entity_pb2 import Entity as EntityMessage

MAX_IDS = 1000
MAX_TYPES = 100
MAX_LABELS = 32

Belongs: TypeAlias = Callable[[str, str, int], bool]
"""`belongs(entity_id, feature, revision)`: whether it has a `belongs_to` to the feature then."""

Names: TypeAlias = Mapping[str, str]
"""What a request calls a filter's fields, where that differs; violations name its fields."""

LISTING_NAMES: Names = {"types": "type", "statuses": "status", "healths": "health"}
"""ListEntitiesRequest's names of EntityFilter's fields."""


@dataclass(frozen=True, slots=True)
class EntityFilter:
    """Conditions that must all hold; an empty one sets no condition.

    A label is `(key, value)`, or `(key, None)` for having the label at all.
    """

    ids: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    statuses: frozenset[int] = frozenset()
    healths: frozenset[int] = frozenset()
    feature: str = ""
    labels: frozenset[tuple[str, str | None]] = frozenset()
    name_prefix: str = ""

    @classmethod
    def parse(
        cls,
        *,
        ids: Collection[str] = (),
        types: Collection[str] = (),
        statuses: Collection[int] = (),
        healths: Collection[int] = (),
        feature: str = "",
        labels: Collection[str] = (),
        name_prefix: str = "",
        names: Names | None = None,
    ) -> EntityFilter:
        """The filter of a request's fields.

        Raises LimitExceeded, or InvalidArgument with every field that is malformed.
        """
        names = names or {}
        _check_count(names, "ids", ids, MAX_IDS)
        _check_count(names, "types", types, MAX_TYPES)
        _check_count(names, "labels", labels, MAX_LABELS)
        violations = [
            *_check_ids(names, "ids", ids),
            *_check_types(names, "types", types),
            *_check_numbers(names, "statuses", statuses, {*Status}),
            *_check_numbers(names, "healths", healths, {*Health}),
            *(_check_ids(names, "feature", [feature]) if feature else ()),
            *_check_labels(names, labels),
        ]
        if not is_text(name_prefix):
            field = names.get("name_prefix", "name_prefix")
            violations.append(Violation(field, f"{TEXT_RULE}, got {shown(name_prefix)}"))
        if violations:
            raise InvalidArgument(violations)
        return cls(
            ids=frozenset(ids),
            types=frozenset(types),
            statuses=frozenset(map(int, statuses)),
            healths=frozenset(map(int, healths)),
            feature=feature,
            labels=_labels(labels),
            name_prefix=name_prefix,
        )

    @property
    def reads_records(self) -> bool:
        """Whether it asks for more than the codes of a version tell."""
        return bool(self.ids or self.feature or self.labels or self.name_prefix)

    def digest(self) -> str:
        """The same for equal filters, in every process."""
        return digest_of(
            self.ids,
            self.types,
            self.statuses,
            self.healths,
            self.feature,
            self.labels,
            self.name_prefix,
        )

    def matches(self, entity: Entity, revision: int, belongs: Belongs) -> bool:
        """Whether an entity, as it is at a revision, is meant."""
        return self._matches(entity) and (
            not self.feature
            or metadata(entity.metadata).feature == self.feature
            or belongs(entity.id, self.feature, revision)
        )

    def matches_message(self, message: EntityMessage, revision: int, belongs: Belongs) -> bool:
        """The same of an entity's API message."""
        return self._matches(message) and (
            not self.feature
            or _feature(message) == self.feature
            or belongs(message.id, self.feature, revision)
        )

    def affected_by(self, relationship: Relationship) -> tuple[str, ...]:
        """The ids of the entities that may start or stop to match with this relationship.

        What an entity's own change does is seen at that change. But with a `feature` condition an
        entity matches as long as it has a `belongs_to` to the feature, so the creation and the
        deletion of one are changes of what matches, too: `matches` at the revision before and at
        that revision tells which. Other changes of a relationship never are, for its ends and type
        stay as they are.
        """
        if (
            self.feature
            and relationship.type == FEATURE_TYPE
            and relationship.target_id == self.feature
        ):
            return (relationship.source_id,)
        return ()

    def _matches(self, entity: Entity | EntityMessage) -> bool:
        return (
            (not self.types or entity.type in self.types)
            and (not self.statuses or entity.status in self.statuses)
            and (not self.healths or entity.health in self.healths)
            and (not self.ids or entity.id in self.ids)
            and entity.name.startswith(self.name_prefix)
            and (not self.labels or self._has_labels(entity.labels))
        )

    def _has_labels(self, labels: Mapping[str, str]) -> bool:
        return all(
            key in labels and (value is None or labels[key] == value) for key, value in self.labels
        )


@dataclass(frozen=True, slots=True)
class RelationshipFilter:
    """Conditions that must all hold; an empty one sets no condition."""

    types: frozenset[str] = frozenset()
    source_ids: frozenset[str] = frozenset()
    target_ids: frozenset[str] = frozenset()
    entity_ids: frozenset[str] = frozenset()

    @classmethod
    def parse(
        cls,
        *,
        types: Collection[str] = (),
        source_ids: Collection[str] = (),
        target_ids: Collection[str] = (),
        entity_ids: Collection[str] = (),
        names: Names | None = None,
    ) -> RelationshipFilter:
        """The filter of a request's fields.

        Raises LimitExceeded, or InvalidArgument with every field that is malformed.
        """
        names = names or {}
        ends = {"source_ids": source_ids, "target_ids": target_ids, "entity_ids": entity_ids}
        _check_count(names, "types", types, MAX_TYPES)
        violations = [*_check_types(names, "types", types)]
        for field, ids in ends.items():
            _check_count(names, field, ids, MAX_IDS)
            violations += _check_ids(names, field, ids)
        if violations:
            raise InvalidArgument(violations)
        return cls(
            frozenset(types), frozenset(source_ids), frozenset(target_ids), frozenset(entity_ids)
        )

    @property
    def has_ends(self) -> bool:
        """Whether it names an entity."""
        return bool(self.source_ids or self.target_ids or self.entity_ids)

    def digest(self) -> str:
        """The same for equal filters, in every process."""
        return digest_of(self.types, self.source_ids, self.target_ids, self.entity_ids)

    def matches(self, relationship: Relationship) -> bool:
        """Whether a relationship is meant; API messages will do as well."""
        source, target = relationship.source_id, relationship.target_id
        return (
            (not self.types or relationship.type in self.types)
            and (not self.source_ids or source in self.source_ids)
            and (not self.target_ids or target in self.target_ids)
            and (not self.entity_ids or source in self.entity_ids or target in self.entity_ids)
        )


def parse_types(field: str, types: Collection[str]) -> frozenset[str]:
    """A request's list of type names. Raises LimitExceeded or InvalidArgument."""
    _check_count({}, field, types, MAX_TYPES)
    if violations := [*_check_types({}, field, types)]:
        raise InvalidArgument(violations)
    return frozenset(types)


def _feature(message: EntityMessage) -> str:
    # Looking a field up in the map would add it.
    fields = message.metadata.fields
    return fields["feature"].string_value if "feature" in fields else ""


def _labels(selectors: Iterable[str]) -> frozenset[tuple[str, str | None]]:
    """The parsed selectors, less those that others imply."""
    parsed = {_label(selector) for selector in selectors}
    valued = {key for key, value in parsed if value is not None}
    return frozenset(pair for pair in parsed if pair[1] is not None or pair[0] not in valued)


def _label(selector: str) -> tuple[str, str | None]:
    key, equals, value = selector.partition("=")
    return key, value if equals else None


def _check_count(names: Names, field: str, values: Collection[object], most: int) -> None:
    if len(values) > most:
        raise LimitExceeded(names.get(field, field), f"max_{field}", most, len(values))


def _check_ids(names: Names, field: str, ids: Iterable[str]) -> Iterator[Violation]:
    for value in ids:
        if not is_id(value):
            yield Violation(names.get(field, field), f"{ID_RULE}, got {shown(value)}")


def _check_types(names: Names, field: str, types: Iterable[str]) -> Iterator[Violation]:
    for value in types:
        yield from check_type(names.get(field, field), value)


def _check_numbers(
    names: Names, field: str, numbers: Iterable[int], known: Collection[int]
) -> Iterator[Violation]:
    for number in numbers:
        if number not in known:
            yield Violation(names.get(field, field), f"a value of its enum, got {int(number)}")


def _check_labels(names: Names, selectors: Iterable[str]) -> Iterator[Violation]:
    for selector in selectors:
        key, value = _label(selector)
        # What no entity can have is malformed; the rules for entities say what they can have.
        probe = Entity("x", "x", "x", labels={key: value or ""})
        for violation in check_entity(probe):
            yield Violation(
                names.get("labels", "labels"),
                f"key or key=value, got {shown(selector)}: {violation.description}",
            )
