"""Which resources are meant: filters as values, the same for listings, exports and watches.

A filter is normalised when it is parsed, so that equal conditions are equal filters: they hash and
compare alike, and what is computed for one watcher serves all that have the same filter. What an
expression says that a field can say becomes the field's, so it does not matter which way it was
said, and whatever routes, narrows or judges by the fields does so for expressions too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any as Anything
from typing import Self, TypeAlias

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
from hyper_registry.query.language.conditions import (
    Any,
    Condition,
    Equal,
    Like,
    Present,
    all_of,
    conjuncts,
)
from hyper_registry.query.language.expression import Expression, compile_filter
from hyper_registry.query.language.fields import ENTITY, RELATIONSHIP, Resource
from hyper_registry.query.language.narrowing import (
    ByEnd,
    ByFeature,
    ById,
    ByLabel,
    ByPrefix,
    Codes,
    Cover,
    both,
    codes_of,
    covers_of,
)
from hyper_registry.query.language.predicates import Belongs
from hyper_registry.query.tokens import digest_of
from ose.registry.v1.entity_pb2 import Entity as EntityMessage
from ose.registry.v1.relationship_pb2 import Relationship as RelationshipMessage

MAX_IDS = 1000
MAX_TYPES = 100
MAX_LABELS = 32

Names: TypeAlias = Mapping[str, str]
"""What a request calls a filter's fields, where that differs; violations name its fields."""

LISTING_NAMES: Names = {"types": "type", "statuses": "status", "healths": "health"}
"""ListEntitiesRequest's names of EntityFilter's fields."""


class _Filter:
    """What the filters of both kinds have in common."""

    __slots__ = ()

    expression: Expression | None

    def and_also(self, condition: Condition, now: int = 0) -> Self:
        """This filter, with a condition in normal form that must hold too."""
        found, rest = self, list[Condition]()
        for part in conjuncts(condition):
            folded = found._folded(part)
            if folded is None:
                rest.append(part)
            else:
                found = folded
        if found._condition is not None:
            rest.append(found._condition)
        return found._with(expression=Expression.of(all_of(rest), now)) if rest else found

    def at(self, now: int) -> Self:
        """The same filter, with `ago(...)` counted from another time."""
        return self if self.expression is None else self._with(expression=self.expression.at(now))

    @property
    def moves(self) -> bool:
        """Whether what it means moves with time."""
        return self.expression is not None and self.expression.moves

    @property
    def _condition(self) -> Condition | None:
        return None if self.expression is None else self.expression.condition

    def _folded(self, part: Condition) -> Self | None:
        """This filter with a condition that its fields can say; None if they cannot."""
        raise NotImplementedError

    def _with(self, **fields: Anything) -> Self:
        return replace(self, **fields)  # type: ignore[type-var]

    def _with_set(self, field: str, wanted: frozenset[Anything]) -> Self | None:
        """The filter with fewer values; None if none is left, which an empty set does not say."""
        now: frozenset[Anything] = getattr(self, field)
        narrowed = now & wanted if now else wanted
        return self._with(**{field: narrowed}) if narrowed else None


@dataclass(frozen=True, slots=True)
class EntityFilter(_Filter):
    """Conditions that must all hold; an empty one sets no condition.

    A label is `(key, value)`, or `(key, None)` for having the label at all. `expression` is what of
    a filter expression the other fields cannot say.
    """

    ids: frozenset[str] = frozenset()
    types: frozenset[str] = frozenset()
    statuses: frozenset[int] = frozenset()
    healths: frozenset[int] = frozenset()
    feature: str = ""
    labels: frozenset[tuple[str, str | None]] = frozenset()
    name_prefix: str = ""
    expression: Expression | None = None

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
        filter: str = "",  # noqa: A002 - the request's name for it
        names: Names | None = None,
        now: int | None = None,
    ) -> EntityFilter:
        """The filter of a request's fields.

        `now`, in nanoseconds since 1970, is what `ago(...)` in the expression counts from; it is
        refused without one, for what outlives the request. Raises LimitExceeded, or InvalidArgument
        with every field that is malformed; FilterInvalid if the expression is all that is wrong.
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
        condition = _condition(violations, filter, ENTITY, now)
        found = cls(
            ids=frozenset(ids),
            types=frozenset(types),
            statuses=frozenset(map(int, statuses)),
            healths=frozenset(map(int, healths)),
            feature=feature,
            labels=_labels(map(_label, labels)),
            name_prefix=name_prefix,
        )
        return found if condition is None else found.and_also(condition, now or 0)

    @property
    def reads_records(self) -> bool:
        """Whether it asks for more than the codes of a version tell."""
        return bool(self.ids or self.feature or self.labels or self.name_prefix or self.expression)

    @property
    def codes(self) -> Codes:
        """The codes that what matches can have."""
        return both(
            Codes(self.types or None, self.statuses or None, self.healths or None),
            codes_of(self._condition),
        )

    @property
    def covers(self) -> Iterator[Cover]:
        """Sets of indexes each of which has all that matches; none if there is none to use."""
        if self.ids:
            yield frozenset(map(ById, self.ids))
        if self.feature:
            yield frozenset((ByFeature(self.feature),))
        for key, value in self.labels:
            yield frozenset((ByLabel(key, value),))
        if self.name_prefix:
            yield frozenset((ByPrefix(self.name_prefix),))
        yield from covers_of(self._condition)

    @property
    def features(self) -> frozenset[str]:
        """The features that it speaks of: a `belongs_to` to one may change what matches."""
        named = frozenset((self.feature,)) if self.feature else frozenset[str]()
        return named if self.expression is None else named | self.expression.features

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
            self.expression and self.expression.key,
        )

    def matches_record(self, record: bytes, revision: int, belongs: Belongs) -> bool:
        """Whether an entity's record, as it is at a revision, is meant."""
        return self.matches_message(EntityMessage.FromString(record), revision, belongs)

    def matches_message(self, message: EntityMessage, revision: int, belongs: Belongs) -> bool:
        """The same of a record that has been read."""
        return (
            self._matches(message)
            and (
                not self.feature
                or _feature(message) == self.feature
                or belongs(message.id, self.feature, revision)
            )
            and (self.expression is None or self.expression.test(message, revision, belongs))
        )

    def affected_by(self, relationship: Relationship) -> tuple[str, ...]:
        """The ids of the entities that may start or stop to match with this relationship.

        What an entity's own change does is seen at that change. But whether a condition on a
        feature holds depends on a `belongs_to` to the feature as well, so the creation and the
        deletion of one are changes of what matches, too: `matches_message` at the revision before
        and at that revision tells which. Other changes of a relationship never are, for its ends
        and type stay as they are.
        """
        if relationship.type == FEATURE_TYPE and relationship.target_id in self.features:
            return (relationship.source_id,)
        return ()

    def _folded(self, part: Condition) -> Self | None:
        match part:
            case Equal((name,), _, values) if name in _ENTITY_SETS:
                return self._with_set(_ENTITY_SETS[name], values)
            case Equal(("feature",), _, values) if len(values) == 1:
                [feature] = map(str, values)
                return self._with(feature=feature) if self.feature in ("", feature) else None
            case Equal(("labels", key), _, values) if len(values) == 1:
                [value] = map(str, values)
                return self._with(labels=_labels([*self.labels, (key, value)]))
            case Present(("labels", key)):
                return self._with(labels=_labels([*self.labels, (key, None)]))
            case Like(("name",), (prefix, "")):
                one, other = sorted((self.name_prefix, prefix), key=len)
                return self._with(name_prefix=other) if other.startswith(one) else None
        return None

    def _matches(self, entity: EntityMessage) -> bool:
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
class RelationshipFilter(_Filter):
    """Conditions that must all hold; an empty one sets no condition. As EntityFilter."""

    types: frozenset[str] = frozenset()
    source_ids: frozenset[str] = frozenset()
    target_ids: frozenset[str] = frozenset()
    entity_ids: frozenset[str] = frozenset()
    expression: Expression | None = None

    @classmethod
    def parse(
        cls,
        *,
        types: Collection[str] = (),
        source_ids: Collection[str] = (),
        target_ids: Collection[str] = (),
        entity_ids: Collection[str] = (),
        filter: str = "",  # noqa: A002 - the request's name for it
        names: Names | None = None,
        now: int | None = None,
    ) -> RelationshipFilter:
        """The filter of a request's fields; arguments and errors are as EntityFilter's."""
        names = names or {}
        ends = {"source_ids": source_ids, "target_ids": target_ids, "entity_ids": entity_ids}
        _check_count(names, "types", types, MAX_TYPES)
        violations = [*_check_types(names, "types", types)]
        for field, ids in ends.items():
            _check_count(names, field, ids, MAX_IDS)
            violations += _check_ids(names, field, ids)
        condition = _condition(violations, filter, RELATIONSHIP, now)
        found = cls(
            frozenset(types), frozenset(source_ids), frozenset(target_ids), frozenset(entity_ids)
        )
        return found if condition is None else found.and_also(condition, now or 0)

    @property
    def reads_records(self) -> bool:
        """Whether it asks for more than type and ends."""
        return self.expression is not None

    @property
    def codes(self) -> Codes:
        """The codes that what matches can have."""
        of_expression = codes_of(self._condition)
        return both(Codes(self.types or None), of_expression)

    @property
    def covers(self) -> Iterator[Cover]:
        """Sets of indexes each of which has all that matches; none if there is none to use."""
        if self.source_ids:
            yield frozenset(ByEnd(True, entity_id) for entity_id in self.source_ids)
        if self.target_ids:
            yield frozenset(ByEnd(False, entity_id) for entity_id in self.target_ids)
        if self.entity_ids:
            yield frozenset(ByEnd(side, one) for one in self.entity_ids for side in (True, False))
        yield from covers_of(self._condition)

    def digest(self) -> str:
        """The same for equal filters, in every process."""
        return digest_of(
            self.types,
            self.source_ids,
            self.target_ids,
            self.entity_ids,
            self.expression and self.expression.key,
        )

    def matches_record(self, record: bytes) -> bool:
        """Whether a relationship's record is meant."""
        return self.matches_message(RelationshipMessage.FromString(record))

    def matches_message(self, message: RelationshipMessage) -> bool:
        """The same of a record that has been read."""
        source, target = message.source_id, message.target_id
        return (
            (not self.types or message.type in self.types)
            and (not self.source_ids or source in self.source_ids)
            and (not self.target_ids or target in self.target_ids)
            and (not self.entity_ids or source in self.entity_ids or target in self.entity_ids)
            and (self.expression is None or self.expression.test(message, 0, _belongs_nowhere))
        )

    def _folded(self, part: Condition) -> Self | None:
        match part:
            case Equal((name,), _, values) if name in _RELATIONSHIP_SETS:
                return self._with_set(_RELATIONSHIP_SETS[name], values)
            case Any((Equal(("source_id",), _, sources), Equal(("target_id",), _, targets))):
                return self._with_set("entity_ids", sources) if sources == targets else None
        return None


_ENTITY_SETS = {"id": "ids", "type": "types", "status": "statuses", "health": "healths"}
_RELATIONSHIP_SETS = {"type": "types", "source_id": "source_ids", "target_id": "target_ids"}


def _condition(
    violations: list[Violation], text: str, resource: Resource, now: int | None
) -> Condition | None:
    """The condition of an expression. Raises what was found to be wrong, before it or with it."""
    condition = None
    try:
        condition = compile_filter(text, resource, may_move=now is not None)
    except InvalidArgument as error:
        if not violations:
            raise
        violations += error.violations
    if violations:
        raise InvalidArgument(violations)
    return condition


def _belongs_nowhere(_id: str, _feature: str, _revision: int) -> bool:
    return False


def parse_types(field: str, types: Collection[str]) -> frozenset[str]:
    """A request's list of type names. Raises LimitExceeded or InvalidArgument."""
    if not types:
        return frozenset()
    _check_count({}, field, types, MAX_TYPES)
    if violations := [*_check_types({}, field, types)]:
        raise InvalidArgument(violations)
    return frozenset(types)


def _feature(message: EntityMessage) -> str:
    # Looking a field up in the map would add it.
    fields = message.metadata.fields
    return fields["feature"].string_value if "feature" in fields else ""


def _labels(selectors: Iterable[tuple[str, str | None]]) -> frozenset[tuple[str, str | None]]:
    """The selectors, less those that others imply."""
    parsed = set(selectors)
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
