"""What the protos say about each thing: see `comments.json` beside the generated messages."""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

import orjson

_BEHAVIOURS = re.compile(r"^((?:Optional|Required|Output only|Immutable)\. ?)+")
_ELSEWHERE = re.compile(r"^As in (?:the request of )?(\w+)([.,;:].*)?$", re.DOTALL)


def comment_of(full_name: str) -> str:
    """The comment of a service, method, message, field, enum or value; '' if it has none.

    A field whose comment is `As in GetGraphRequest.` has that of the field of the same name there,
    and of its behaviours (`Optional.`) nothing is left: a schema says them itself.
    """
    said = _BEHAVIOURS.sub("", _comments().get(full_name, ""))
    if elsewhere := _ELSEWHERE.match(said):
        message, name = full_name.rpartition(".")[::2]
        there = comment_of(f"{message.rpartition('.')[0]}.{elsewhere[1]}.{name}")
        rest = (elsewhere[2] or "").strip(" .,;:")
        if there and there != said:
            return f"{there} {rest[:1].upper()}{rest[1:]}." if rest else there
    return said


def summary_of(comment: str) -> str:
    """The first sentence of a comment, without its full stop."""
    return re.split(r"\.\s|\.$|:\s", comment, maxsplit=1)[0]


@cache
def _comments() -> dict[str, str]:
    found = resources.files("ose.registry.v1").joinpath("comments.json").read_bytes()
    return orjson.loads(found)  # type: ignore[no-any-return]
