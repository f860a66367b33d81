"""From text to syntax: what stands where, before names and types are looked at."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TypeAlias, cast

from lark import Lark, Token, Transformer
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from hyper_registry.model.rules import shown

MAX_DEPTH = 32
"""How deep groups and negations may be nested; parentheses that group nothing do not count."""

MAX_COMPARISONS = 100
"""How many comparisons an expression may have: each may have to look at a large record."""

# What may stand at a place tells words from names. Every terminal is matched in linear time.
_GRAMMAR = r"""
start: expression
?expression: term
    | term (AND term)+ -> every
    | term (OR term)+ -> some
?term: (NOT | MINUS) term -> negation
    | "(" expression ")"
    | comparison
comparison: path OPERATOR (value | "(" value (OR value)* ")")
    | path OPERATOR "(" value (AND value)+ ")" -> every_value
path: (NAME | STRING) ("." (NAME | STRING))*
value: WORD | STRING
    | FUNCTION (WORD | STRING)? ")" -> call

AND.2: /AND(?![\w\-\/.:])/
OR.2: /OR(?![\w\-\/.:])/
NOT.2: /NOT(?![\w\-\/.:])/
MINUS: "-"
FUNCTION.2: /[A-Za-z_]\w*\(/
OPERATOR: /<=|>=|!=|[<>=:]/
STRING: /"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/s
NAME: /\w[\w\-\/]*/
WORD: /[^\s()"',=<>!:\\&|][^\s()"',=<>!\\&|]*/
%ignore /\s+/
"""

_ESCAPED = "\\\"'*"


class SyntaxProblem(Exception):
    """What is wrong with a text, and where: `position` counts characters from 1."""

    def __init__(self, position: int, problem: str) -> None:
        super().__init__(problem)
        self.position = position
        self.problem = problem


@dataclass(frozen=True, slots=True)
class Literal:
    """A value as it was written: `parts` are what stands between its wildcards."""

    parts: tuple[str, ...]
    quoted: bool
    position: int

    @property
    def text(self) -> str:
        """The value where `*` is a letter like any other."""
        return "*".join(self.parts)


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """A function with its argument."""

    name: str
    argument: Literal | None
    position: int


@dataclass(frozen=True, slots=True)
class Comparison:
    """A field, an operator, and values: `every` if it is to hold of all of them, else of one."""

    path: tuple[str, ...]
    position: int
    operator: str
    operator_position: int
    values: tuple[Literal | FunctionCall, ...]
    every: bool = False
    depth: int = 1


@dataclass(frozen=True, slots=True)
class Negation:
    """What must not hold."""

    inner: Syntax
    position: int
    depth: int


@dataclass(frozen=True, slots=True)
class Group:
    """All of which, or one of which, must hold."""

    every: bool
    parts: tuple[Syntax, ...]
    position: int
    depth: int


Syntax: TypeAlias = Comparison | Negation | Group


def parse(text: str) -> Syntax:
    """The syntax of an expression. Raises SyntaxProblem."""
    try:
        tree = _parser().parse(text)
    except UnexpectedInput as error:
        raise _problem(text, error) from None
    assert isinstance(tree, Comparison | Negation | Group)
    return tree


def warm_up() -> None:
    """Makes the parser, which takes some 20 ms, so that no request has to wait for it."""
    _parser()


class _Build(Transformer[Token, Syntax]):
    """Makes syntax while it is parsed, from the inside out."""

    def start(self, children: list[Syntax]) -> Syntax:
        return children[0]

    def every(self, children: list[Syntax | Token]) -> Syntax:
        return self._group(True, children)

    def some(self, children: list[Syntax | Token]) -> Syntax:
        return self._group(False, children)

    def negation(self, children: list[Syntax | Token]) -> Syntax:
        sign, inner = children
        assert isinstance(sign, Token)
        assert not isinstance(inner, Token)
        return Negation(inner, _position(sign), _deeper(_position(sign), [inner]))

    def comparison(self, children: list[object]) -> Syntax:
        return self._comparison(children)

    def every_value(self, children: list[object]) -> Syntax:
        return self._comparison(children, every=True)

    def path(self, names: list[Token]) -> tuple[Literal, ...]:
        return tuple(map(_literal, names))

    def value(self, children: list[Token]) -> Literal:
        return _literal(children[0])

    def call(self, children: list[Token]) -> FunctionCall:
        name, *arguments = children
        argument = _literal(arguments[0]) if arguments else None
        return FunctionCall(name[:-1], argument, _position(name))

    def _group(self, every: bool, children: list[Syntax | Token]) -> Syntax:
        parts = tuple(child for child in children if not isinstance(child, Token))
        return Group(every, parts, parts[0].position, _deeper(parts[0].position, parts))

    def _comparison(self, children: list[object], every: bool = False) -> Syntax:
        path, operator, *rest = children
        assert isinstance(path, tuple)
        assert isinstance(operator, Token)
        values = tuple(value for value in rest if isinstance(value, Literal | FunctionCall))
        names = tuple(name.text for name in path)
        position = path[0].position
        return Comparison(names, position, str(operator), _position(operator), values, every)


@cache
def _parser() -> Lark:
    return Lark(_GRAMMAR, parser="lalr", transformer=_Build())


def _position(token: Token) -> int:
    assert token.start_pos is not None
    return token.start_pos + 1


def _deeper(position: int, parts: Sequence[Syntax]) -> int:
    depth = 1 + max(part.depth for part in parts)
    if depth > MAX_DEPTH:
        raise SyntaxProblem(position, f"nested more than {MAX_DEPTH} deep")
    return depth


def _literal(token: Token) -> Literal:
    position = _position(token)
    if token.type != "STRING":
        return Literal(tuple(token.split("*")), False, position)
    parts, letters = list[str](), list[str]()
    rest = iter(enumerate(token[1:-1], start=position + 1))
    for place, letter in rest:
        if letter == "\\":
            _, escaped = next(rest)
            if escaped not in _ESCAPED:
                raise SyntaxProblem(
                    place, f"a backslash stands before \" ' * or another one, got {escaped!r}"
                )
            letters.append(escaped)
        elif letter == "*":
            parts.append("".join(letters))
            letters = []
        else:
            letters.append(letter)
    return Literal((*parts, "".join(letters)), True, position)


# What could have stood at a place, in the words of a message.
_EXPECTED = (
    ("NAME", "a field"),
    ("OPERATOR", "an operator (= != < <= > >= :)"),
    ("WORD", "a value"),
    ("AND", "AND"),
    ("OR", "OR"),
    ("RPAR", ")"),
    ("$END", "the end"),
)

# What people write who know another language; it is looked for where the error is.
_HINTS = tuple(
    (re.compile(pattern, re.IGNORECASE), hint)
    for pattern, hint in (
        (r"and\b|&", "AND is written in capitals, as a word"),
        (r"or\b|\|", "OR is written in capitals, as a word"),
        (r"not\b|!", "NOT is written in capitals, as a word"),
        (r"==?", "one = is enough"),
        (r"=?~|like\b|matches\b", "* in a value stands for any letters"),
        (r"in\b", "several values are written as field = (one OR other)"),
        (r"[\"']", "the quotation mark is not closed"),
    )
)
_CLAUSE = re.compile(r"\S+")


def _problem(text: str, error: UnexpectedInput) -> SyntaxProblem:
    place, allowed = len(text.rstrip()), set[str]()
    if isinstance(error, UnexpectedToken):
        allowed = set(error.accepts or ())
        if error.token.type != "$END":
            place = _position(error.token) - 1
    elif isinstance(error, UnexpectedCharacters):
        # lark declares it as None, which it never is here.
        place, allowed = cast("int", error.pos_in_stream), set(error.allowed or ())
    found = _CLAUSE.match(text, place)
    problem = f"expected {_any_of(allowed)}"
    problem += f", got {shown(found[0], 20)}" if found else ", got nothing"
    hint = _hint(text, place, allowed)
    return SyntaxProblem(place + 1, f"{problem}{hint and f': {hint}'}")


def _hint(text: str, place: int, allowed: Collection[str]) -> str:
    rest, before = text[place:], text[:place].split()
    if rest.startswith("=") and "WORD" not in allowed:
        return ""
    if "OPERATOR" in allowed and before and before[-1].lower() == "not":
        return "NOT is written in capitals, as a word"
    if re.match(r"(AND|OR)\b", rest) and {"AND", "OR"} & set(allowed):
        return "AND and OR side by side need parentheses"
    return next((hint for pattern, hint in _HINTS if pattern.match(rest)), "")


def _any_of(allowed: Collection[str]) -> str:
    words = [word for name, word in _EXPECTED if name in allowed]
    return " or ".join(filter(None, (", ".join(words[:-1]), words[-1]))) if words else "the end"
