"""Random filter expressions, each with a naive reading of what it says."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from hypothesis import strategies as st

from hyper_registry.model.entity import Entity, Health, Status
from hyper_registry.model.relationship import Relationship
from tests.unit.query.world import EDGE_TYPES, ENTITY_TYPES, IDS, State, naive_belongs, plain

Resource: TypeAlias = Entity | Relationship
Holds: TypeAlias = Callable[[State, Any], bool]

_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_MISSING = object()


@dataclass(frozen=True)
class Asked:
    """An expression, and whether it holds of a resource, found out in the plainest way."""

    text: str
    holds: Holds

    def __repr__(self) -> str:
        return f"Asked({self.text!r})"


def looks_like(pattern: str, text: object) -> bool:
    """Whether a text is what a value with wildcards says."""
    regex = ".*".join(map(re.escape, pattern.split("*")))
    return isinstance(text, str) and re.fullmatch(regex, text, re.DOTALL) is not None


def quoted(draw: st.DrawFn, value: str) -> str:
    """A text as a value, in one of the ways to write it."""
    return draw(st.sampled_from((f'"{value}"', f"'{value}'", value or '""')))


def compared(op: str, found: object, value: str, optional: bool) -> bool:
    """Whether a text, perhaps a missing one, compares so."""
    if not isinstance(found, str):
        return False
    match op:
        case "=":
            return looks_like(value, found)
        case "!=":
            return not looks_like(value, found)
        case ":" if value == "*":
            return optional or bool(found)
        case ":":
            return looks_like(f"*{value}*", found)
    return _ORDERS[op](found, value)


@st.composite
def _text(draw: st.DrawFn, field: str, values: Sequence[str], ops: str = "= != : < >=") -> Asked:
    op, value = draw(st.sampled_from(ops.split())), draw(st.sampled_from(values))
    if op in _ORDERS:
        value = value.replace("*", "")
    return Asked(
        f"{field} {op} {quoted(draw, value)}",
        lambda _, it: compared(op, getattr(it, field), value, False),
    )


@st.composite
def _several(draw: st.DrawFn, field: str, values: Sequence[str]) -> Asked:
    chosen = draw(st.lists(st.sampled_from(values), min_size=1, max_size=3))
    return Asked(
        f"{field} = ({' OR '.join(chosen)})",
        lambda _, it: any(looks_like(value, getattr(it, field)) for value in chosen),
    )


@st.composite
def _choice(draw: st.DrawFn, field: str, kind: type[Status | Health]) -> Asked:
    value, op = draw(st.sampled_from(list(kind)[:3])), draw(st.sampled_from(("=", "!=")))
    prefix = "ENTITY_STATUS_" if kind is Status else "HEALTH_STATUS_"
    name = draw(st.sampled_from((value.name, value.name.lower(), prefix + value.name)))
    return Asked(f"{field}{op}{name}", lambda _, it: (getattr(it, field) == value) == (op == "="))


@st.composite
def _number(draw: st.DrawFn, field: str, values: Sequence[str]) -> Asked:
    op, text = draw(st.sampled_from(("=", "!=", *_ORDERS))), draw(st.sampled_from(values))
    orders = {"=": operator.eq, "!=": operator.ne, **_ORDERS}
    return Asked(
        f"{field} {op} {text}", lambda _, it: bool(orders[op](getattr(it, field), float(text)))
    )


@st.composite
def _time(draw: st.DrawFn, field: str) -> Asked:
    op, micros = draw(st.sampled_from(("=", "!=", *_ORDERS))), draw(st.integers(0, 30))
    orders = {"=": operator.eq, "!=": operator.ne, **_ORDERS}
    text = draw(
        st.sampled_from(
            (
                f"1970-01-01T00:00:00.{micros:06}Z",
                f'"1970-01-01T02:00:00.{micros:06}000+02:00"',
            )
        )
    )
    return Asked(f"{field}{op}{text}", lambda _, it: bool(orders[op](getattr(it, field), micros)))


@st.composite
def _label(draw: st.DrawFn) -> Asked:
    key, op = draw(st.sampled_from("kl")), draw(st.sampled_from(("=", "!=", ":", "<", ">=")))
    value = draw(st.sampled_from(("0", "1", "*", "0*")))
    if op in _ORDERS:
        value = value.replace("*", "")
    if draw(st.booleans()) and op == ":":
        return Asked(f"labels:{key}", lambda _, it: key in it.labels)
    return Asked(
        f"labels.{key} {op} {quoted(draw, value)}",
        lambda _, it: compared(op, it.labels.get(key), value, True),
    )


_REGIONS = st.sampled_from(("eu", "us", "local", "e*", "*", "x")).map(
    lambda value: Asked(
        f"regions:{value}", lambda _, it: any(looks_like(value, region) for region in it.regions)
    )
)


@st.composite
def _feature(draw: st.DrawFn) -> Asked:
    feature, op = draw(st.sampled_from("abz")), draw(st.sampled_from(("=", "!=")))
    return Asked(
        f"feature {op} {feature}",
        lambda state, it: naive_belongs(state, it, feature) == (op == "="),
    )


_PATHS = (
    "feature",
    "other",
    "on",
    "deep",
    "deep.n",
    "deep.t",
    "deep.none",
    "tags",
    "items",
    "no.x",
)


def _at(value: object, path: Iterable[str]) -> object:
    for key in path:
        if not isinstance(value, dict) or key not in value:
            return _MISSING
        value = value[key]
    return value


def _reached(value: object, path: Sequence[str]) -> Iterable[object]:
    """What a path leads to, through the elements of lists on the way."""
    if not path:
        yield value
        return
    for one in value if isinstance(value, list) else [value]:
        if isinstance(one, dict) and path[0] in one:
            yield from _reached(one[path[0]], path[1:])


def _same(found: object, value: str, strict: bool) -> bool:
    """Whether a value of metadata equals a written one, that is only a text if it is strict."""
    if isinstance(found, str):
        return looks_like(value, found)
    if strict:
        return False
    if isinstance(found, bool):
        return value == str(found).lower()
    return (
        isinstance(found, int | float)
        and value in ("1", "1.5", "2", "3")
        and (found == float(value))
    )


def _has(found: object, value: str, strict: bool) -> bool:
    match found:
        case str():
            return looks_like(f"*{value}*", found)
        case dict():
            return any(looks_like(value, key) for key in found)
        case list():
            return any(_same(one, value, strict) for one in found)
    return _same(found, value, strict)


@st.composite
def _metadata(draw: st.DrawFn) -> Asked:
    path = draw(st.sampled_from((*_PATHS, "items.n", "items.t"))).split(".")
    op = draw(st.sampled_from(("=", "!=", ":", ":", ":*", "<", ">=")))
    name = ".".join(("metadata", *path))
    if op == ":*":
        return Asked(
            f"{name}:*", lambda _, it: _at(plain(it.metadata), path) not in (_MISSING, None)
        )
    value = draw(st.sampled_from(("1", "1.5", "2", "true", "x", "x*", "*", "n", "a")))
    strict = draw(st.booleans())
    if op in _ORDERS:
        return _ordered_metadata(name, path, op, value.replace("*", "x"), strict)
    text = f"{name} {op} " + (f'"{value}"' if strict else value)
    match op:
        case "=":
            return Asked(text, lambda _, it: _same(_at(plain(it.metadata), path), value, strict))
        case "!=":
            return Asked(
                text,
                lambda _, it: (
                    (found := _at(plain(it.metadata), path)) not in (_MISSING, None)
                    and not _same(found, value, strict)
                ),
            )
    if value == "*":
        return Asked(text, lambda _, it: _at(plain(it.metadata), path) not in (_MISSING, None))
    return Asked(
        text,
        lambda _, it: any(
            _has(found, value, strict) for found in _reached(plain(it.metadata), path)
        ),
    )


def _ordered_metadata(name: str, path: Sequence[str], op: str, value: str, strict: bool) -> Asked:
    is_number = not strict and value in ("1", "1.5", "2")

    def holds(_: State, it: Resource) -> bool:
        found = _at(plain(it.metadata), path)
        if is_number:
            return (
                isinstance(found, int | float)
                and not isinstance(found, bool)
                and _ORDERS[op](found, float(value))
            )
        return isinstance(found, str) and _ORDERS[op](found, value)

    return Asked(f"{name} {op} " + (f'"{value}"' if strict else value), holds)


_METADATA_KEYS = st.sampled_from(("other", "tags", "no", "d*")).map(
    lambda key: Asked(
        f"metadata:{key}", lambda _, it: any(looks_like(key, name) for name in plain(it.metadata))
    )
)

_ID_VALUES = (*IDS[:4], "*", "a*", "unheard-of")
_NAME_VALUES = ("x", "xy", "y", "x*", "*y", "*y*", "x*z", "a", "*", "**")

_COMMON = (
    _metadata(),
    _metadata(),
    _METADATA_KEYS,
    _number("revision", ("1", "3", "5", "2.5", "-1")),
    _number("create_revision", ("1", "2", "4")),
    _time("created_at"),
    _time("updated_at"),
)

_ENTITY_COMPARISONS = st.one_of(
    _text("id", _ID_VALUES),
    _text("name", _NAME_VALUES),
    _text("type", (*ENTITY_TYPES, "p*", "unheard-of"), "= != :"),
    _text("version", (*IDS[:3], "*", "q"), "= != :"),
    _several("type", (*ENTITY_TYPES, "s*")),
    _several("id", _ID_VALUES),
    _choice("status", Status),
    _choice("health", Health),
    _label(),
    _label(),
    _feature(),
    _feature(),
    _REGIONS,
    *_COMMON,
)

_RELATIONSHIP_COMPARISONS = st.one_of(
    _text("id", ("a-depends_on-b", "a*", "*requires*", "no")),
    _text("source_id", _ID_VALUES),
    _text("target_id", _ID_VALUES),
    _several("source_id", _ID_VALUES),
    _several("target_id", _ID_VALUES),
    _text("type", (*EDGE_TYPES, "*s*", "unheard-of"), "= != :"),
    _text("version_constraint", ("", "*", "1"), "= != :"),
    _number("weight", ("1", "1.0", "2.5", "0", "1e0")),
    st.sampled_from(("true", "false")).map(
        lambda text: Asked(
            f"bidirectional = {text}", lambda _, it: it.bidirectional == (text == "true")
        )
    ),
    *_COMMON,
)


def _combined(comparisons: st.SearchStrategy[Asked]) -> st.SearchStrategy[Asked]:
    return st.recursive(
        comparisons,
        lambda inner: st.one_of(
            st.builds(_group, st.lists(inner, min_size=2, max_size=3), st.booleans()),
            st.builds(_not, inner, st.sampled_from(("NOT ", "-", "NOT"))),
        ),
        max_leaves=6,
    )


def _group(parts: Sequence[Asked], every: bool) -> Asked:
    text = (" AND " if every else "\n OR ").join(f"({part.text})" for part in parts)
    fold = all if every else any
    return Asked(text, lambda state, it: fold(part.holds(state, it) for part in parts))


def _not(part: Asked, sign: str) -> Asked:
    return Asked(f"{sign}({part.text})", lambda state, it: not part.holds(state, it))


entity_expressions = _combined(_ENTITY_COMPARISONS)
relationship_expressions = _combined(_RELATIONSHIP_COMPARISONS)
