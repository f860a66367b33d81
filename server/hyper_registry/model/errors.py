"""Everything that the registry refuses or fails at, as one tree.

RegistryError
├── InvalidArgument          a field of the request is malformed: `violations` names each
│   ├── FilterInvalid        a filter expression is wrong, at a position
│   ├── LimitExceeded        a documented limit is passed
│   ├── TokenInvalid         a page or resume token is not one of ours, or of another request
│   └── UnsupportedMedia     the body is of a kind that is not taken
├── NotFound
│   ├── EntityNotFound
│   ├── RelationshipNotFound
│   └── NoSuchPath
├── AlreadyExists
│   ├── IdTaken
│   ├── NameTaken
│   ├── RelationshipTaken
│   ├── ManifestDiffers
│   └── IdempotencyKeyReused
├── FailedPrecondition
│   ├── EndpointMissing
│   ├── HasRelationships
│   ├── CascadeTooLarge
│   ├── ChangeTooLarge
│   ├── AnswerTooLarge
│   ├── IllegalTransition
│   ├── StillRequired
│   ├── BuiltIn
│   └── HistoryChanged
├── Aborted
│   ├── RevisionMismatch
│   └── PreconditionFailed
├── OutOfRange
│   ├── RevisionCompacted
│   ├── RevisionInFuture
│   └── TokenExpired
├── DeadlineExceeded
│   ├── CallTimedOut
│   └── RevisionNotReached
├── ResourceExhausted
│   ├── BodyTooLarge
│   ├── ResolutionTooLarge
│   ├── StoreFull
│   └── TooManyStreams
├── Unimplemented
│   └── MethodNotAllowed
└── Unavailable
    ├── StoreUnavailable
    │   └── StoreLost        what is open is no longer what the store's name leads to
    ├── CommitUnknown
    └── NotServing

The leaves carry the `ErrorReason` of the API by name and its metadata as text; the branches are
what a status code is chosen by (`interceptors/errors.py` has the table). Anything else that escapes
is a bug and is answered as INTERNAL.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

# An error travels in trailers, which clients take only up to 8 KiB. What callers have sent may be
# large, and comes back in messages and paths.
_MESSAGE_BYTES = 700
_PATH_BYTES = 200
_DESCRIPTION_BYTES = 400
_VIOLATIONS_BYTES = 2000
_MOST_DEPENDENTS = 10


@dataclass(frozen=True, slots=True)
class Violation:
    """A malformed field: its path in the request, and what was expected of it."""

    field: str
    description: str


class RegistryError(Exception):
    """The root: a message for people, a reason and metadata for programs."""

    reason = "INTERNAL"

    def __init__(self, message: str, **metadata: object) -> None:
        self.message = _cut(message, _MESSAGE_BYTES)
        super().__init__(self.message)
        self.metadata = {key: str(value) for key, value in metadata.items()}


class InvalidArgument(RegistryError):
    """One or more fields are malformed: the first of them, if there are very many."""

    reason = "INVALID_FIELD"

    def __init__(self, violations: Iterable[Violation], **metadata: object) -> None:
        self.violations = tuple(_fitting(violations))
        super().__init__(
            "; ".join(f"{v.field}: {v.description}" for v in self.violations),
            **({"field": self.violations[0].field} | metadata),
        )

    @classmethod
    def of(cls, field: str, description: str) -> InvalidArgument:
        """The error of a single field."""
        return cls([Violation(field, description)])

    def prefixed(self, path: str) -> InvalidArgument:
        """The same error seen from a message that holds the malformed one in the field `path`."""
        error = InvalidArgument(
            [
                Violation(f"{path}.{v.field}" if v.field else path, v.description)
                for v in self.violations
            ],
            **{key: value for key, value in self.metadata.items() if key != "field"},
        )
        error.reason = self.reason
        return error


class FilterInvalid(InvalidArgument):
    """A filter expression is wrong; `position` counts its characters from 1."""

    reason = "FILTER_INVALID"

    def __init__(self, field: str, position: int, problem: str) -> None:
        super().__init__(
            [Violation(field, f"at position {position}: {problem}")], position=position
        )


class LimitExceeded(InvalidArgument):
    """The request is larger than a documented limit."""

    reason = "LIMIT_EXCEEDED"

    def __init__(self, field: str, limit: str, maximum: int, actual: int) -> None:
        super().__init__(
            [Violation(field, f"at most {maximum} ({limit}), got {actual}")],
            limit=limit,
            maximum=maximum,
            actual=actual,
        )


class TokenInvalid(InvalidArgument):
    """A token is malformed or belongs to another request."""

    reason = "TOKEN_INVALID"

    def __init__(self, field: str, description: str) -> None:
        super().__init__([Violation(field, description)])


class UnsupportedMedia(InvalidArgument):
    """The body is of a kind, or in an encoding, that is not taken; `field` is the header's name."""

    reason = "UNSUPPORTED_MEDIA"

    def __init__(self, field: str, description: str) -> None:
        super().__init__([Violation(field, description)])


class NotFound(RegistryError):
    """There is no such resource at the revision that was read."""


class EntityNotFound(NotFound):
    """No entity has this id."""

    reason = "ENTITY_NOT_FOUND"

    def __init__(self, entity_id: str, revision: int, kind: str = "entity") -> None:
        super().__init__(f"no {kind} {entity_id!r}", id=entity_id, revision=revision)


class RelationshipNotFound(NotFound):
    """No relationship has this id."""

    reason = "RELATIONSHIP_NOT_FOUND"

    def __init__(self, relationship_id: str, revision: int) -> None:
        super().__init__(
            f"no relationship {relationship_id!r}", id=relationship_id, revision=revision
        )


class NoSuchPath(NotFound):
    """Nothing is served at this path."""

    reason = "NO_SUCH_PATH"

    def __init__(self, path: str) -> None:
        path = _cut(path, _PATH_BYTES)
        super().__init__(f"nothing is served at {path}", path=path)


class AlreadyExists(RegistryError):
    """Something that must be unique is taken."""


class IdTaken(AlreadyExists):
    """The id is taken."""

    reason = "ID_TAKEN"

    def __init__(self, resource_id: str) -> None:
        super().__init__(f"the id {resource_id!r} is taken", id=resource_id)


class NameTaken(AlreadyExists):
    """Another entity has the same type, name and version."""

    reason = "NAME_TAKEN"

    def __init__(self, type_: str, name: str, version: str, entity_id: str) -> None:
        super().__init__(
            f"the {type_} {name!r} {version!r} exists as {entity_id!r}",
            type=type_,
            name=name,
            version=version,
            id=entity_id,
        )


class RelationshipTaken(AlreadyExists):
    """Another relationship has the same source, target and type."""

    reason = "RELATIONSHIP_TAKEN"

    def __init__(self, source: str, target: str, type_: str, relationship_id: str) -> None:
        super().__init__(
            f"{source!r} {type_} {target!r} exists as {relationship_id!r}",
            source_id=source,
            target_id=target,
            type=type_,
            id=relationship_id,
        )


class ManifestDiffers(AlreadyExists):
    """Another manifest is registered under the same name and version."""

    reason = "MANIFEST_DIFFERS"

    def __init__(self, plugin_id: str, name: str, version: str) -> None:
        super().__init__(
            f"another manifest is registered as {name!r} {version!r} ({plugin_id}): set replace, "
            "or give it another version",
            id=plugin_id,
            name=name,
            version=version,
        )


class IdempotencyKeyReused(AlreadyExists):
    """The idempotency key was used with another body."""

    reason = "IDEMPOTENCY_KEY_REUSED"

    def __init__(self, key: str, revision: int) -> None:
        super().__init__(
            f"the idempotency key {key!r} was used with another body",
            idempotency_key=key,
            revision=revision,
        )


class FailedPrecondition(RegistryError):
    """The state does not allow it."""


class EndpointMissing(FailedPrecondition):
    """A relationship names an entity that does not exist."""

    reason = "ENDPOINT_MISSING"

    def __init__(self, field: str, entity_id: str) -> None:
        super().__init__(f"{field}: no entity {entity_id!r}", field=field, id=entity_id)


class HasRelationships(FailedPrecondition):
    """The entity has relationships, and a cascade was not asked for."""

    reason = "HAS_RELATIONSHIPS"

    def __init__(self, entity_id: str, count: int) -> None:
        super().__init__(
            f"{entity_id!r} has {count} relationships: delete them first, or set cascade",
            id=entity_id,
            count=count,
        )


class CascadeTooLarge(FailedPrecondition):
    """A cascade would take more than the limit."""

    reason = "CASCADE_TOO_LARGE"

    def __init__(self, entity_id: str, count: int, maximum: int) -> None:
        super().__init__(
            f"deleting {entity_id!r} would take {count} relationships, more than {maximum}: "
            "set allow_large",
            id=entity_id,
            count=count,
            maximum=maximum,
        )


class ChangeTooLarge(FailedPrecondition):
    """A change would be of more than may be changed at once."""

    reason = "CHANGE_TOO_LARGE"

    def __init__(self, what: str, maximum: int) -> None:
        super().__init__(
            f"more than {maximum} {what} would change at once: set allow_large", maximum=maximum
        )


class AnswerTooLarge(FailedPrecondition):
    """An answer about the graph is larger than what can be followed or compared."""

    reason = "ANSWER_TOO_LARGE"

    def __init__(self, limit: str, maximum: int) -> None:
        super().__init__(
            f"the answer has more than {maximum} {limit.rpartition('_')[2]} ({limit}): ask for "
            "less of the graph",
            limit=limit,
            maximum=maximum,
        )


class IllegalTransition(FailedPrecondition):
    """A plugin cannot go from its status to another; `allowed` are those that can follow."""

    reason = "ILLEGAL_TRANSITION"

    def __init__(self, plugin_id: str, before: str, after: str, allowed: Iterable[str]) -> None:
        possible = ", ".join(sorted(allowed))
        super().__init__(
            f"{plugin_id!r} is {before} and cannot become {after}: it can become {possible}",
            id=plugin_id,
            to=after,
            allowed=possible,
            **{"from": before},
        )


class StillRequired(FailedPrecondition):
    """Other plugins need this one, and nothing else will do for them."""

    reason = "STILL_REQUIRED"

    def __init__(self, plugin_id: str, dependents: Sequence[str]) -> None:
        named = ", ".join(dependents[:_MOST_DEPENDENTS])
        more = len(dependents) - _MOST_DEPENDENTS
        super().__init__(
            f"{plugin_id!r} is needed by {named}{f' and {more} more' if more > 0 else ''}, and "
            "nothing else will do: unregister them first, or set force",
            id=plugin_id,
            count=len(dependents),
            dependents=named,
        )


class BuiltIn(FailedPrecondition):
    """What comes with the server cannot be changed."""

    reason = "BUILT_IN"

    def __init__(self, resource_id: str) -> None:
        super().__init__(f"{resource_id!r} comes with the server", id=resource_id)


class HistoryChanged(FailedPrecondition):
    """A token is of another history of this registry."""

    reason = "HISTORY_CHANGED"

    def __init__(self, token_epoch: str, epoch: str) -> None:
        super().__init__(
            "the token is of another history of this registry: start again from a snapshot",
            token_epoch=token_epoch,
            epoch=epoch,
        )


class Aborted(RegistryError):
    """A condition on the state no longer holds."""


class RevisionMismatch(Aborted):
    """The resource has changed since `expected_revision`."""

    reason = "REVISION_MISMATCH"

    def __init__(self, resource_id: str, expected: int, actual: int) -> None:
        super().__init__(
            f"{resource_id!r} is at revision {actual}, not {expected}",
            id=resource_id,
            expected=expected,
            actual=actual,
        )


class PreconditionFailed(Aborted):
    """A precondition of a batch does not hold."""

    reason = "PRECONDITION_FAILED"

    def __init__(self, resource_id: str, condition: str) -> None:
        super().__init__(
            f"{resource_id!r}: {condition} does not hold", id=resource_id, condition=condition
        )


class OutOfRange(RegistryError):
    """A revision cannot be read."""


class RevisionCompacted(OutOfRange):
    """What was asked for has been compacted: a revision, or (as text) a time."""

    reason = "REVISION_COMPACTED"

    def __init__(self, asked: int | str, oldest: int) -> None:
        if isinstance(asked, int):
            message = f"revision {asked} is compacted; the oldest held is {oldest}"
            super().__init__(message, revision=asked, oldest=oldest)
        else:
            message = f"{asked} is compacted; the oldest revision held is {oldest}"
            super().__init__(message, time=asked, oldest=oldest)


class RevisionInFuture(OutOfRange):
    """What was asked for has not happened: a revision, or (as text) a time.

    `current` is the current revision, or the time that it is.
    """

    reason = "REVISION_IN_FUTURE"

    def __init__(self, asked: int | str, current: int | str) -> None:
        if isinstance(asked, int):
            message = f"revision {asked} has not happened; the current one is {current}"
            super().__init__(message, revision=asked, current=current)
        else:
            message = f"{asked} has not come; for the registry it is {current}"
            super().__init__(message, time=asked, now=current)


class TokenExpired(OutOfRange):
    """A page token's revision is no longer held."""

    reason = "TOKEN_EXPIRED"

    def __init__(self, revision: int, oldest: int) -> None:
        super().__init__(
            f"the token's revision {revision} is no longer held (the oldest is {oldest}): "
            "start again",
            revision=revision,
            oldest=oldest,
        )


class DeadlineExceeded(RegistryError):
    """The caller's time ran out."""


class CallTimedOut(DeadlineExceeded):
    """The call took longer than it may."""

    reason = "CALL_TIMED_OUT"

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the call took longer than {seconds:.3g} s", seconds=f"{seconds:.3g}")


class RevisionNotReached(DeadlineExceeded):
    """The deadline passed before `min_revision` was reached."""

    reason = "REVISION_NOT_REACHED"

    def __init__(self, min_revision: int, current: int) -> None:
        super().__init__(
            f"revision {min_revision} was not reached in time; the current one is {current}",
            min_revision=min_revision,
            current=current,
        )


class ResourceExhausted(RegistryError):
    """There is no room for it."""


class BodyTooLarge(ResourceExhausted):
    """The body of a request is larger than what is taken, in bytes."""

    reason = "BODY_TOO_LARGE"

    def __init__(self, maximum: int) -> None:
        super().__init__(f"a body is at most {maximum} bytes long", maximum=maximum)


class StoreFull(ResourceExhausted):
    """The store has no room; nothing was written."""

    reason = "STORE_FULL"

    def __init__(self, detail: str = "the store has no room; nothing was written") -> None:
        super().__init__(detail)


class ResolutionTooLarge(ResourceExhausted):
    """Dependencies are too many, or too entangled, to be resolved."""

    reason = "RESOLUTION_TOO_LARGE"

    def __init__(self, limit: str, maximum: int) -> None:
        super().__init__(
            f"the dependencies cannot be resolved within {maximum} ({limit}): ask for fewer roots, "
            "or narrow their constraints",
            limit=limit,
            maximum=maximum,
        )


class TooManyStreams(ResourceExhausted):
    """Too many calls or streams of this kind are open, or too much is queued."""

    reason = "TOO_MANY_STREAMS"

    def __init__(self, limit: str, maximum: int) -> None:
        super().__init__(f"at most {maximum} at once ({limit})", limit=limit, maximum=maximum)


class Unimplemented(RegistryError):
    """This cannot be asked for in this way."""


class MethodNotAllowed(Unimplemented):
    """The path is served, but not for this method of HTTP."""

    reason = "METHOD_NOT_ALLOWED"

    def __init__(self, method: str, allowed: str) -> None:
        super().__init__(
            f"{_cut(method, _PATH_BYTES)} is not served at this path, but {allowed}",
            method=_cut(method, _PATH_BYTES),
            allowed=allowed,
        )


class Unavailable(RegistryError):
    """It cannot be done now; later, or elsewhere, it can."""


class StoreUnavailable(Unavailable):
    """The store cannot be written or read; nothing was written."""

    reason = "STORE_UNAVAILABLE"

    def __init__(self, detail: str = "the store is unavailable; nothing was written") -> None:
        super().__init__(detail)


class StoreLost(StoreUnavailable):
    """The store was replaced, removed, cut or set back while it was open: nobody can go on with it.

    The server ends.
    """

    reason = "STORE_LOST"


class CommitUnknown(Unavailable):
    """It is not known whether the write happened."""

    reason = "COMMIT_UNKNOWN"

    def __init__(
        self,
        detail: str = "it is not known whether the write happened: "
        "retry with the same idempotency key",
    ) -> None:
        super().__init__(detail)


class NotServing(Unavailable):
    """The server is shutting down or still building its view.

    Or it `is_outdated`: a newer version of the registry has written what it does not know. That
    cannot be passed over, since whatever follows from it would be wrong.
    """

    reason = "NOT_SERVING"

    def __init__(
        self, detail: str = "the server is not serving", *, is_outdated: bool = False
    ) -> None:
        super().__init__(detail)
        self.is_outdated = is_outdated


def _fitting(violations: Iterable[Violation]) -> Iterator[Violation]:
    """As many violations as an error holds, and at least one; long texts are cut."""
    room = _VIOLATIONS_BYTES
    for number, violation in enumerate(violations):
        field = _cut(violation.field, _PATH_BYTES)
        description = _cut(violation.description, _DESCRIPTION_BYTES)
        room -= len(field.encode()) + len(description.encode())
        if room < 0 and number:
            break
        yield Violation(field, description)


def _cut(text: str, limit: int) -> str:
    """The text, or as much of its start as has `limit` bytes in UTF-8."""
    data = text.encode(errors="replace")
    return text if len(data) <= limit else data[:limit].decode(errors="ignore") + "…"
