"""Page and resume tokens: places in an answer or in the log, as text that callers hand back.

A token carries the revision that it is of, and what names the history up to there, so it is
refused, never silently wrong, when it outlives either. A page token also carries a digest of the
question, and is of use only with that. Tokens are checked against damage, not against forgery: they
grant nothing.
"""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from typing import Any, Protocol

import orjson

from hyper_registry.model.errors import HistoryChanged, RevisionInFuture, TokenExpired, TokenInvalid
from hyper_registry.registry.pins import Pins
from hyper_registry.registry.view import View

PAGE_FIELD = "page_token"
RESUME_FIELD = "resume_token"

_VERSION = 1
_CHECK_BYTES = 6
_LONGEST = 4096


class History(Protocol):
    """What the readers of a registry know of it."""

    @property
    def view(self) -> View:
        """The read model."""

    @property
    def pins(self) -> Pins:
        """What keeps revisions readable."""

    @property
    def epoch(self) -> str:
        """The identity of the history."""

    def lineage(self, revision: int) -> str:
        """What names the history up to a revision: its epoch, `:`, and a mark of the revision."""

    def readable(self, revision: int) -> bool:
        """Whether this revision can be read now."""


class Kind(StrEnum):
    """What a token is a place in. The letters are part of the token."""

    ENTITIES = "e"
    RELATIONSHIPS = "r"
    GRAPH = "g"
    HISTORY = "h"
    GRAPH_STREAM = "s"
    GRAPH_DIFF = "d"
    GRAPH_WATCH = "l"
    PATHS = "p"
    CYCLES = "c"
    ORDER = "o"
    REQUIREMENTS = "q"
    AUDIT = "a"
    LOG = "w"


@dataclass(frozen=True, slots=True)
class PageToken:
    """Where the next page starts: `key` is what the question's kind needs to find the place."""

    kind: Kind
    lineage: str
    revision: int
    digest: str
    key: tuple[int | str, ...]

    def encode(self) -> str:
        """The token as text."""
        return _encode(self.kind, [self.lineage, self.revision, self.digest, *self.key])


@dataclass(frozen=True, slots=True)
class ResumeToken:
    """Everything up to and including this revision of this history was delivered.

    `digest` is that of the question whose answer is followed; empty for the log.
    """

    lineage: str
    revision: int
    digest: str = ""

    def encode(self) -> str:
        """The token as text."""
        if self.digest:
            return _encode(Kind.GRAPH_WATCH, [self.lineage, self.revision, self.digest])
        return _encode(Kind.LOG, [self.lineage, self.revision])

    def check(self, lineage: str) -> None:
        """Compares with what names the history up to its revision now. Raises HistoryChanged."""
        if self.lineage != lineage:
            raise HistoryChanged(self.lineage, lineage)


def open_page(token: str, kind: Kind, digest: str, history: History) -> PageToken:
    """Checks a page token against the question that it came with and against the registry.

    Raises TokenInvalid (malformed, or of another question), HistoryChanged, TokenExpired (its
    revision is no longer held) or RevisionInFuture (this replica has not reached its revision).
    """
    found, values = _decode(PAGE_FIELD, token)
    match values:
        case [str(lineage), int(revision), str(asked), *key]:
            pass
        case _:
            raise _malformed(PAGE_FIELD)
    _check_epoch(lineage, history.epoch)
    if found != kind or asked != digest:
        raise TokenInvalid(PAGE_FIELD, "it is of another question")
    if revision > history.view.visible:
        raise RevisionInFuture(revision, history.view.visible)
    if not history.readable(revision):
        raise TokenExpired(revision, history.view.floor)
    if lineage != history.lineage(revision):
        raise HistoryChanged(lineage, history.lineage(revision))
    return PageToken(kind, lineage, revision, digest, tuple(key))


def open_resume(token: str, epoch: str, digest: str = "") -> ResumeToken:
    """Reads a resume token; `digest` is that of the question whose answer is followed.

    Raises TokenInvalid (malformed, or of another question), or HistoryChanged if it is of another
    epoch. When its revision has come, `ResumeToken.check` shows whether that is the same one.
    """
    kind, values = _decode(RESUME_FIELD, token)
    match values:
        case [str(lineage), int(revision)] if kind == Kind.LOG:
            asked = ""
        case [str(lineage), int(revision), str(asked)] if kind == Kind.GRAPH_WATCH:
            pass
        case _:
            raise _malformed(RESUME_FIELD)
    _check_epoch(lineage, epoch)
    if asked != digest:
        raise TokenInvalid(RESUME_FIELD, "it is of another question")
    return ResumeToken(lineage, revision, digest)


def _check_epoch(lineage: str, epoch: str) -> None:
    found = lineage.partition(":")[0]
    if found != epoch:
        raise HistoryChanged(found, epoch)


def digest_of(*question: object) -> str:
    """A short name for a question: the same for equal ones, in every process."""
    data = orjson.dumps(question, default=_canonical)
    return blake2b(data, digest_size=9).hexdigest()


def _canonical(value: object) -> Any:
    if isinstance(value, frozenset | set):
        # None sorts with nothing, so each item is sorted by its JSON.
        return sorted(orjson.dumps(item).decode() for item in value)
    raise TypeError(f"{value!r} is not part of a question")


def _encode(kind: Kind, values: list[Any]) -> str:
    data = bytes((_VERSION,)) + kind.encode() + orjson.dumps(values)
    return urlsafe_b64encode(_check(data) + data).rstrip(b"=").decode()


def _decode(field: str, token: str) -> tuple[Kind, list[Any]]:
    if len(token) > _LONGEST:
        raise _malformed(field)
    try:
        text = token.encode("ascii")
        raw = urlsafe_b64decode(text + b"=" * (-len(text) % 4))
        check, data = raw[:_CHECK_BYTES], raw[_CHECK_BYTES:]
        # Base64 has several spellings of the same bytes; only ours is a token.
        if _check(data) != check or urlsafe_b64encode(raw).rstrip(b"=") != text:
            raise _malformed(field)
        if data[:1] != bytes((_VERSION,)):
            raise TokenInvalid(field, "it is of another version of the server")
        kind, values = Kind(data[1:2].decode()), orjson.loads(data[2:])
    except ValueError:
        raise _malformed(field) from None
    return kind, values if isinstance(values, list) else []


def _check(data: bytes) -> bytes:
    return blake2b(data, digest_size=_CHECK_BYTES, person=b"ose-token").digest()


def _malformed(field: str) -> TokenInvalid:
    return TokenInvalid(field, "it is not a token of this registry")
