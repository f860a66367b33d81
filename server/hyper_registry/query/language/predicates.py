"""From conditions to functions that test a message.

A test never fails: what is not there, or is of another type, does not match. It adds nothing to the
message, and takes time in proportion to what it looks at: texts with wildcards are found part by
part, without going back.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any as Anything
from typing import Literal, TypeAlias

from google.protobuf.struct_pb2 import Value

from hyper_registry.query.language.conditions import (
    FEATURE,
    All,
    Any,
    Condition,
    Equal,
    Holds,
    Leaf,
    Like,
    Not,
    Ordered,
    Parts,
    Path,
    Present,
    Scalar,
    Type,
    contains,
)

Belongs: TypeAlias = Callable[[str, str, int], bool]
"""`belongs(entity_id, feature, revision)`: whether it has a `belongs_to` to the feature then."""

Test: TypeAlias = Callable[[Anything, int, Belongs], bool]
"""`test(message, revision, belongs)`: whether the message, as it is at a revision, matches."""

_ORDERS: Mapping[str, Callable[[Anything, Anything], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_KINDS: Mapping[Type, Literal["string_value", "number_value", "bool_value"]] = {
    Type.TEXT: "string_value",
    Type.NUMBER: "number_value",
    Type.BOOL: "bool_value",
}
_NANOS = 1_000_000_000


def test_of(condition: Condition, now: int) -> Test:
    """The test for a normal condition; `now`, in nanoseconds, is what `ago` counts from."""
    match condition:
        case Not(inner):
            test = test_of(inner, now)
            return lambda message, revision, belongs: not test(message, revision, belongs)
        case All(conditions):
            return _all([test_of(part, now) for part in sorted(conditions, key=_cost)])
        case Any(conditions):
            return _any([test_of(part, now) for part in sorted(conditions, key=_cost)])
        case Equal(path, _, values) if path == FEATURE:
            return _feature_test(frozenset(map(str, values)))
        case _:
            return _leaf_test(condition, now)


def _cost(condition: Condition) -> int:
    """What is cheap to find out is asked first."""
    match condition:
        case Not(inner):
            return _cost(inner)
        case All(conditions) | Any(conditions):
            return max(map(_cost, conditions), default=0)
        case Equal(path) if path == FEATURE:
            return 4
        case Holds():
            return 3
        case _:
            return {"labels": 1, "metadata": 2}.get(condition.path[0], 0)


def _all(tests: list[Test]) -> Test:
    def test(message: Anything, revision: int, belongs: Belongs) -> bool:
        for part in tests:  # noqa: SIM110 - twice as fast
            if not part(message, revision, belongs):
                return False
        return True

    return test


def _any(tests: list[Test]) -> Test:
    def test(message: Anything, revision: int, belongs: Belongs) -> bool:
        for part in tests:  # noqa: SIM110 - twice as fast
            if part(message, revision, belongs):
                return True
        return False

    return test


def _feature_test(features: frozenset[str]) -> Test:
    def test(message: Anything, revision: int, belongs: Belongs) -> bool:
        named = _value(message, ("metadata", "feature"))
        if named is not None and named.string_value in features:
            return True
        return any(belongs(message.id, feature, revision) for feature in features)

    return test


def _leaf_test(leaf: Leaf, now: int) -> Test:
    match leaf:
        case Present(path):
            if path[0] == "labels":
                key = path[1]
                return lambda message, _r, _b: key in message.labels
            return lambda message, _r, _b: _is_present(_value(message, path))
        case Holds():
            return _holds_test(leaf)
        case Equal(path, type_, values):
            return _scalar_test(path, type_, values.__contains__)
        case Like(path, parts):
            return _scalar_test(path, Type.TEXT, _like(parts))
        case Ordered(path, type_, sign, value, ago):
            limit = now - int(value) if ago else value
            order = _ORDERS[sign]
            return _scalar_test(path, type_, lambda found: order(found, limit))


def _scalar_test(path: Path, type_: Type, holds: Callable[[Anything], bool]) -> Test:
    """The test of a single value that is of the type."""
    if path[0] == "metadata":
        kind = _KINDS[type_]

        def test(message: Anything, _revision: int, _belongs: Belongs) -> bool:
            value = _value(message, path)
            return value is not None and value.HasField(kind) and holds(getattr(value, kind))

        return test
    if path[0] == "labels":
        key = path[1]
        return lambda message, _r, _b: key in message.labels and holds(message.labels[key])
    read = operator.attrgetter(path[0])
    if type_ is Type.TIME:
        return lambda message, _r, _b: holds(_nanos(read(message)))
    return lambda message, _r, _b: holds(read(message))


def _holds_test(leaf: Holds) -> Test:
    path, type_ = leaf.path, leaf.type
    if path[0] != "metadata":
        read = operator.attrgetter(path[0])
        like = _like(_parts(leaf.value))
        # A map yields its keys.
        return lambda message, _r, _b: any(map(like, read(message)))
    if type_ is not Type.TEXT:
        kind, wanted = _KINDS[type_], leaf.value
        return lambda message, _r, _b: any(
            value.HasField(kind) and getattr(value, kind) == wanted
            for value in _elements(message, path)
        )
    whole = _like(_parts(leaf.value))
    within = whole if leaf.whole else _like(contains(_parts(leaf.value)))
    return lambda message, _r, _b: _holds_text(message, path, whole, within)


def _holds_text(
    message: Anything, path: Path, whole: Callable[[str], bool], within: Callable[[str], bool]
) -> bool:
    if len(path) == 1:
        return any(map(whole, message.metadata.fields))
    for value in _reached(message.metadata.fields, path[1:]):
        match value.WhichOneof("kind"):
            case "string_value":
                found = within(value.string_value)
            case "struct_value":
                found = any(map(whole, value.struct_value.fields))
            case "list_value":
                found = any(
                    each.HasField("string_value") and whole(each.string_value)
                    for each in value.list_value.values
                )
            case _:
                found = False
        if found:
            return True
    return False


def _elements(message: Anything, path: Path) -> Iterator[Value]:
    """What a path leads to: values, and the elements of lists."""
    for value in _reached(message.metadata.fields, path[1:]):
        if value.HasField("list_value"):
            yield from value.list_value.values
        else:
            yield value


def _reached(fields: Mapping[str, Value], path: Path) -> Iterator[Value]:
    """The values that a path leads to; of lists on the way, through each element."""
    # Looking a key up would add it.
    reached: Iterable[Value] = [fields[path[0]]] if path[0] in fields else []
    for key in path[1:]:
        reached = [
            one.struct_value.fields[key]
            for value in reached
            for one in (value.list_value.values if value.HasField("list_value") else (value,))
            if one.HasField("struct_value") and key in one.struct_value.fields
        ]
    yield from reached


def _value(message: Anything, path: Path) -> Value | None:
    """The value of metadata at a path; lists on the way have none."""
    fields: Mapping[str, Value] = message.metadata.fields
    for key in path[1:-1]:
        if key not in fields:
            return None
        # A value that is no struct reads as an empty one.
        fields = fields[key].struct_value.fields
    return fields.get(path[-1])


def _is_present(value: Value | None) -> bool:
    return value is not None and not value.HasField("null_value")


def _parts(value: Scalar | Parts) -> Parts:
    assert isinstance(value, tuple)
    return value


def _like(parts: Parts) -> Callable[[str], bool]:
    """The test whether a text begins with the first part, ends with the last and has all."""
    first, last, middle = parts[0], parts[-1], tuple(filter(None, parts[1:-1]))
    if len(parts) == 1:
        return first.__eq__
    if not middle and not last:
        return lambda text: text.startswith(first)
    if not middle and not first:
        return lambda text: text.endswith(last)
    if not first and not last and len(middle) == 1:
        within = middle[0]
        return lambda text: within in text
    shortest = len(first) + len(last)

    def test(text: str) -> bool:
        if len(text) < shortest or not text.startswith(first) or not text.endswith(last):
            return False
        place, end = len(first), len(text) - len(last)
        for part in middle:
            found = text.find(part, place, end)
            if found < 0:
                return False
            place = found + len(part)
        return True

    return test


def _nanos(time: Anything) -> int:
    return int(time.seconds) * _NANOS + int(time.nanos)
