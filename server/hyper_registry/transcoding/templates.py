"""The path templates of `google.api.http`.

    Template = "/" Segments [ ":" Verb ]
    Segments = Segment { "/" Segment }
    Segment  = "*" | "**" | literal | "{" field.path [ "=" Segments ] "}"

`*` is one segment that is not empty, `**` is whatever is left, be it nothing: it can only be the
last. A variable without a pattern is `*`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from hyper_registry.model.errors import InvalidArgument

STAR, DEEP = "*", "**"

_LITERAL = re.compile(r"[A-Za-z0-9._~!$&'()+,;@-]+")
_VERB = re.compile(r"[A-Za-z0-9._~!$&'()+,;@:-]+")
_FIELD_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_PARTS = re.compile(r"\{[^{}]*\}|[^/{}]+|[/{}]")
_SLASH = re.compile("(%2[Ff])")
_BROKEN = re.compile("%(?![0-9A-Fa-f]{2})")


class TemplateError(ValueError):
    """A template, or what it is used for, is wrong. It is found when the server is built."""


@dataclass(frozen=True, slots=True)
class Variable:
    """A part of the path that becomes the value of a field: segments `start` up to `end`.

    `end` is None for all that are left.
    """

    field: str
    start: int
    end: int | None

    def value(self, segments: Sequence[str]) -> str:
        """The value in the segments of a path, not decoded. Raises InvalidArgument.

        Of a single segment everything is decoded. Where several are joined an encoded slash stays
        as it is, so that it can be told from one that separates.
        """
        if self.end == self.start + 1:
            return decoded(segments[self.start], self.field)
        text = "/".join(segments[self.start : self.end])
        parts = _SLASH.split(text)
        parts[::2] = [decoded(part, self.field) for part in parts[::2]]
        return "".join(parts)


@dataclass(frozen=True, slots=True)
class Template:
    """A parsed template: literals, `*` and `**` in `segments`, and a verb, '' for none."""

    text: str
    segments: tuple[str, ...]
    verb: str
    variables: tuple[Variable, ...]

    @property
    def is_literal(self) -> bool:
        """Whether it matches one path only."""
        return STAR not in self.segments and DEEP not in self.segments

    @property
    def is_leaf(self) -> bool:
        """Whether it is literal but for its last segment, which is its variable."""
        return (
            self.segments[-1] == STAR
            and STAR not in self.segments[:-1]
            and not self.verb
            and [(v.start, v.end) for v in self.variables]
            == [(len(self.segments) - 1, len(self.segments))]
        )


def decoded(text: str, field: str) -> str:
    """A part of a path without its percent encoding. Raises InvalidArgument, naming the field."""
    if "%" not in text:
        return text
    if not _BROKEN.search(text):
        try:
            return unquote_to_bytes(text).decode()
        except UnicodeDecodeError:
            pass
    raise InvalidArgument.of(field, "percent-encoded UTF-8 in the path")


def parse(text: str) -> Template:
    """A template from its text. Raises TemplateError."""
    if not text.startswith("/"):
        raise TemplateError(f"{text!r} does not start with a slash")
    path, verb = _split_verb(text)
    segments, variables = list[str](), list[Variable]()
    for part in _separated(path[1:], text):
        if part.startswith("{"):
            field, _, pattern = part[1:-1].partition("=")
            if not _FIELD_PATH.fullmatch(field):
                raise TemplateError(f"{text!r}: {field!r} is no field path")
            inner = _segments(pattern, text) if "=" in part else [STAR]
            start = len(segments)
            segments += inner
            end = None if inner[-1] == DEEP else len(segments)
            variables.append(Variable(field, start, end))
        else:
            segments += _segments(part, text)
    if DEEP in segments[:-1]:
        raise TemplateError(f"{text!r}: only the last segment can be **")
    if len({variable.field for variable in variables}) < len(variables):
        raise TemplateError(f"{text!r} names a field twice")
    return Template(text, tuple(segments), verb, tuple(variables))


def _split_verb(text: str) -> tuple[str, str]:
    """The path and the verb: what follows the first colon that is in no variable."""
    bare = re.sub(r"\{[^{}]*\}", lambda found: "x" * len(found[0]), text)
    at = bare.find(":", bare.rfind("/"))
    if at < 0:
        return text, ""
    verb = text[at + 1 :]
    if not _VERB.fullmatch(verb) or verb.endswith(":"):
        raise TemplateError(f"{text!r}: {verb!r} is no verb")
    return text[:at], verb


def _separated(path: str, text: str) -> list[str]:
    """The segments and variables of a path: exactly one between two slashes."""
    parts = _PARTS.findall(path)
    if "".join(parts) != path or parts[1::2] != ["/"] * (len(parts) // 2) or not len(parts) % 2:
        raise TemplateError(f"{text!r} has an empty segment, or one that is more than a segment")
    return list(parts[::2])


def _segments(pattern: str, text: str) -> list[str]:
    segments = pattern.split("/")
    for segment in segments:
        if segment not in (STAR, DEEP) and not _LITERAL.fullmatch(segment):
            raise TemplateError(f"{text!r}: {segment!r} is no segment")
    return segments
