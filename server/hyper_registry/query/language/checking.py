"""From syntax to conditions: every name and type is looked at before anything is asked."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from difflib import get_close_matches
from math import isfinite
from typing import NoReturn, TypeAlias

from hyper_registry.model.rules import is_id, is_label_key, shown
from hyper_registry.query.language.conditions import (
    All,
    Any,
    Condition,
    Equal,
    Holds,
    Like,
    Not,
    Ordered,
    Path,
    Present,
    Scalar,
    Type,
    contains,
    tidy,
)
from hyper_registry.query.language.fields import Field, Kind, Resource
from hyper_registry.query.language.grammar import (
    MAX_COMPARISONS,
    Comparison,
    FunctionCall,
    Group,
    Literal,
    Negation,
    Syntax,
    SyntaxProblem,
)

Value: TypeAlias = Literal | FunctionCall

_ORDERINGS = ("<", "<=", ">", ">=")

_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?", re.ASCII)
_TIME = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[Tt](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d))?", re.ASCII
)
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?[dhms])+", re.ASCII)
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)([dhms])", re.ASCII)
_UNITS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}
_NANOS = 1_000_000_000
_EXACT = 2**53
_LONGEST_AGO = 100 * 365 * 86_400 * _NANOS


class Checker:
    """Checks the expressions of one request. `may_move`: whether its answer may move with time."""

    def __init__(self, resource: Resource, may_move: bool) -> None:
        self._resource = resource
        self._may_move = may_move
        self._comparisons = 0

    def check(self, syntax: Syntax) -> Condition:
        """The condition that syntax stands for, not yet normal. Raises SyntaxProblem."""
        match syntax:
            case Group(every, parts):
                conditions = tuple(map(self.check, parts))
                return All(conditions) if every else Any(conditions)
            case Negation(inner):
                return Not(self.check(inner))
            case Comparison():
                self._comparisons += 1
                if self._comparisons > MAX_COMPARISONS:
                    _refuse(syntax.position, f"more than {MAX_COMPARISONS} comparisons")
                return self._comparison(syntax)

    def _comparison(self, asked: Comparison) -> Condition:
        fields = self._resource.fields
        field = fields.get(asked.path[0])
        if field is None:
            known = f"the fields are {', '.join(fields)}"
            close = get_close_matches(asked.path[0], fields, 1)
            hint = f"did you mean {close[0]}?" if close else known
            noun = self._resource.noun
            _refuse(asked.position, f"no field {shown(asked.path[0])} of {noun}: {hint}")
        if len(asked.path) > 1 and field.kind not in (Kind.LABELS, Kind.METADATA):
            _refuse(asked.position, f"{field.name} has no parts")
        if len(asked.values) > 1 and asked.operator not in "=:":
            _refuse(asked.operator_position, "several values go with = and : only")
        conditions = tuple(self._one(field, asked, value) for value in asked.values)
        if len(conditions) == 1:
            return conditions[0]
        return All(conditions) if asked.every else Any(conditions)

    def _one(self, field: Field, asked: Comparison, value: Value) -> Condition:
        if isinstance(value, FunctionCall) and field.kind is not Kind.TIME:
            _refuse(value.position, _no_function(value.name))
        return _CHECKS[field.kind](self, field, asked, value)

    def _text(self, _: Field, asked: Comparison, value: Literal) -> Condition:
        return _text(asked.path, asked, value)

    def _word(self, field: Field, asked: Comparison, value: Literal) -> Condition:
        if asked.operator in _ORDERINGS:
            what = f"{field.name} has no order here: compare with = != or :, and * for any letters"
            _refuse(asked.operator_position, what)
        return _text(asked.path, asked, value)

    def _choice(self, field: Field, asked: Comparison, value: Literal) -> Condition:
        _allow(field.name, asked, "= !=")
        number = field.choices.get(value.text.lower())
        if number is None:
            names = [name for name in field.choices if "status_" not in name]
            close = get_close_matches(value.text.lower(), names, 1)
            hint = f"did you mean {close[0]}? " if close else ""
            problem = f"{hint}{field.name} is one of {', '.join(names)}"
            _refuse(value.position, f"{problem}, got {shown(value.text)}")
        return _signed(asked, Equal(asked.path, Type.ENUM, frozenset((number,))))

    def _feature(self, field: Field, asked: Comparison, value: Literal) -> Condition:
        _allow(field.name, asked, "= !=")
        if len(value.parts) > 1 or not is_id(value.text):
            what = f"{field.name} is compared with a whole id, got {shown(value.text)}"
            _refuse(value.position, what)
        return _signed(asked, Equal(asked.path, Type.TEXT, frozenset((value.text,))))

    def _number(self, field: Field, asked: Comparison, value: Literal) -> Condition:
        _allow(field.name, asked, "= != < <= > >=")
        number = _number(value)
        if number is None:
            _refuse(value.position, f"{field.name} is a number, got {shown(value.text)}")
        return _ordered(asked, Type.NUMBER, number)

    def _bool(self, field: Field, asked: Comparison, value: Literal) -> Condition:
        _allow(field.name, asked, "= !=")
        if value.text not in ("true", "false"):
            _refuse(value.position, f"{field.name} is true or false, got {shown(value.text)}")
        return _signed(asked, Equal(asked.path, Type.BOOL, frozenset((value.text == "true",))))

    def _time(self, field: Field, asked: Comparison, value: Value) -> Condition:
        _allow(field.name, asked, "= != < <= > >=")
        if isinstance(value, Literal):
            return _ordered(asked, Type.TIME, _time(field, value))
        if asked.operator not in _ORDERINGS:
            _refuse(asked.operator_position, "ago(...) goes with < <= > >= only")
        if not self._may_move:
            _refuse(
                value.position,
                "ago(...) moves with time, which the answer here must not do: write a time",
            )
        return Ordered(asked.path, Type.TIME, asked.operator, _ago(value), ago=True)

    def _texts(self, field: Field, asked: Comparison, value: Literal) -> Condition:
        if asked.operator != ":":
            _refuse(
                asked.operator_position, f"{field.name} is a list: {field.name}:VALUE looks in it"
            )
        return Holds(asked.path, Type.TEXT, tidy(value.parts))

    def _labels(self, _: Field, asked: Comparison, value: Literal) -> Condition:
        if len(asked.path) == 1:
            if asked.operator != ":":
                _refuse(asked.operator_position, "labels are asked for as labels.KEY or labels:KEY")
            if len(value.parts) == 1:
                return Present(("labels", _label_key(value.position, value.text)))
            return Holds(asked.path, Type.TEXT, tidy(value.parts))
        # Keys have points and slashes, and are not nested: all of the path is the key.
        path = ("labels", _label_key(asked.position, ".".join(asked.path[1:])))
        if asked.operator == ":" and value.parts == ("", ""):
            return Present(path)
        condition = _text(path, asked, value)
        return All((Present(path), condition)) if asked.operator == "!=" else condition

    def _metadata(self, _: Field, asked: Comparison, value: Literal) -> Condition:
        path, operator = asked.path, asked.operator
        if len(path) == 1 and operator == ":":
            return Holds(path, Type.TEXT, tidy(value.parts))
        if operator == ":":
            return Present(path) if value.parts == ("", "") else Any(tuple(_held(path, value)))
        if len(path) == 1:
            _refuse(
                asked.operator_position, "metadata is asked for as metadata.KEY or metadata:KEY"
            )
        number = None if value.quoted else _number(value)
        if operator in _ORDERINGS:
            if number is not None:
                return Ordered(path, Type.NUMBER, operator, number)
            return _text(path, asked, value)
        if not value.quoted and value.text == "null":
            _refuse(
                value.position,
                'what is not there is asked for as NOT metadata.KEY:*, the text as "null"',
            )
        equal = Any(tuple(_equals(path, value)))
        return All((Present(path), Not(equal))) if operator == "!=" else equal


_Check: TypeAlias = Callable[..., Condition]
_CHECKS: Mapping[Kind, _Check] = {
    Kind.TEXT: Checker._text,
    Kind.WORD: Checker._word,
    Kind.CHOICE: Checker._choice,
    Kind.FEATURE: Checker._feature,
    Kind.NUMBER: Checker._number,
    Kind.BOOL: Checker._bool,
    Kind.TIME: Checker._time,
    Kind.TEXTS: Checker._texts,
    Kind.LABELS: Checker._labels,
    Kind.METADATA: Checker._metadata,
}


def _refuse(position: int, problem: str) -> NoReturn:
    raise SyntaxProblem(position, problem)


def _allow(name: str, asked: Comparison, operators: str) -> None:
    if asked.operator not in operators.split():
        _refuse(asked.operator_position, f"{name} is compared with {operators}")


def _no_function(name: str) -> str:
    if name == "ago":
        return "ago(...) is a time, and goes with created_at and updated_at only"
    return f"no function {shown(name)}: there is ago(...) only"


def _signed(asked: Comparison, equal: Condition) -> Condition:
    return Not(equal) if asked.operator == "!=" else equal


def _ordered(asked: Comparison, type_: Type, value: Scalar) -> Condition:
    if asked.operator in _ORDERINGS:
        return Ordered(asked.path, type_, asked.operator, value)
    return _signed(asked, Equal(asked.path, type_, frozenset((value,))))


def _text(path: Path, asked: Comparison, value: Literal) -> Condition:
    parts = tidy(value.parts)
    if asked.operator == ":":
        if parts == ("", ""):
            return Not(Equal(path, Type.TEXT, frozenset(("",))))
        return Like(path, contains(parts))
    if asked.operator in _ORDERINGS:
        if len(parts) > 1:
            _refuse(value.position, 'a text with * has no order: "\\*" is the letter')
        return Ordered(path, Type.TEXT, asked.operator, value.text)
    return _signed(asked, _matching(path, parts))


def _matching(path: Path, parts: tuple[str, ...]) -> Condition:
    if len(parts) == 1:
        return Equal(path, Type.TEXT, frozenset(parts))
    return Like(path, parts)


def _equals(path: Path, value: Literal) -> Iterable[Condition]:
    """What a value of metadata may be equal to: unquoted it is also what it looks like."""
    yield _matching(path, tidy(value.parts))
    if not value.quoted:
        if (number := _number(value)) is not None:
            yield Equal(path, Type.NUMBER, frozenset((number,)))
        if value.text in ("true", "false"):
            yield Equal(path, Type.BOOL, frozenset((value.text == "true",)))


def _held(path: Path, value: Literal) -> Iterable[Condition]:
    yield Holds(path, Type.TEXT, tidy(value.parts))
    if not value.quoted:
        if (number := _number(value)) is not None:
            yield Holds(path, Type.NUMBER, number)
        if value.text in ("true", "false"):
            yield Holds(path, Type.BOOL, value.text == "true")


def _label_key(position: int, key: str) -> str:
    if not is_label_key(key):
        _refuse(
            position,
            "keys of labels have 1 to 63 letters, digits, _ - . / and start and end with a letter "
            f"or digit, got {shown(key)}",
        )
    return key


def _number(value: Literal) -> int | float | None:
    if not _NUMBER.fullmatch(value.text):
        return None
    number = float(value.text)
    if not isfinite(number):
        _refuse(value.position, "a number that is not too large to be one")
    if value.text.lstrip("-").isdigit():
        return int(value.text)
    return int(number) if number.is_integer() and abs(number) <= _EXACT else number


def _time(field: Field, value: Literal) -> int:
    """Nanoseconds since 1970."""
    match = _TIME.fullmatch(value.text)
    if match is not None:
        day, time, fraction, zone = match.groups()
        zone = (zone or "Z").upper().replace("Z", "+00:00")
        try:
            moment = datetime.fromisoformat(f"{day}T{time or '00:00:00'}{zone}")
            seconds = (moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
            return int(seconds) * _NANOS + int((fraction or "").ljust(9, "0"))
        except ValueError:
            pass
    _refuse(
        value.position,
        f"{field.name} is a time as 2026-01-31, 2026-01-31T10:00:00Z or ago(1h30m), got "
        f"{shown(value.text)}",
    )


def _ago(call: FunctionCall) -> int:
    """How many nanoseconds ago a call of `ago` is."""
    if call.name != "ago":
        _refuse(call.position, _no_function(call.name))
    text = call.argument.text if call.argument else ""
    position = call.argument.position if call.argument else call.position
    if not _DURATION.fullmatch(text):
        _refuse(position, f"a duration such as 90s, 1h30m or 7d, got {shown(text)}")
    seconds = sum(float(n) * _UNITS[unit] for n, unit in _DURATION_PART.findall(text))
    if not seconds * _NANOS <= _LONGEST_AGO:
        _refuse(position, f"a duration of 100 years at most, got {shown(text)}")
    return round(seconds * _NANOS)
