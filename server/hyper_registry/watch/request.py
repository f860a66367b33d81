"""Reading a watch request: what is asked, and whether it can be."""

from __future__ import annotations

from dataclasses import dataclass

from google.protobuf.duration_pb2 import Duration

from hyper_registry.model import times
from hyper_registry.model.errors import InvalidArgument
from hyper_registry.query.filters import EntityFilter, RelationshipFilter
from hyper_registry.watch.matching import Question
from ose.registry.v1.entity_pb2 import EntityFilter as EntityFilterMessage
from ose.registry.v1.relationship_pb2 import RelationshipFilter as RelationshipFilterMessage
from ose.registry.v1.watch_service_pb2 import WatchRequest

DEFAULT_BOOKMARK_SECONDS = 10.0
SHORTEST_BOOKMARK_SECONDS = 0.1
LONGEST_BOOKMARK_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Plan:
    """A request that is well-formed.

    At most one of `start_revision` (0: none), `resume_token` (None: none), `start_time` (None:
    none; microseconds since 1970) and `snapshot` is set.
    """

    question: Question
    start_revision: int
    resume_token: str | None
    start_time: int | None
    snapshot: bool
    bookmark_seconds: float
    resets: bool


def read_request(request: WatchRequest) -> Plan:
    """The plan of a request.

    Raises InvalidArgument with every field that is malformed; of a single one, what it is.
    """
    start = request.WhichOneof("start")
    errors: list[InvalidArgument] = []
    if start == "start_revision" and request.start_revision < 1:
        errors.append(
            InvalidArgument.of("start_revision", f"1 or more, got {request.start_revision}")
        )
    if start is not None and request.snapshot:
        errors.append(InvalidArgument.of("snapshot", f"not together with {start}"))
    question = Question(None, None)
    seconds, time = DEFAULT_BOOKMARK_SECONDS, None
    try:
        if start == "start_time":
            time = times.micros("start_time", request.start_time.seconds, request.start_time.nanos)
    except InvalidArgument as error:
        errors.append(error)
    try:
        question = _question(request)
    except InvalidArgument as error:
        errors.append(error)
    try:
        if request.HasField("bookmark_interval"):
            seconds = bookmark_seconds(request.bookmark_interval)
    except InvalidArgument as error:
        errors.append(error)
    _raise(errors)
    return Plan(
        question=question,
        start_revision=request.start_revision,
        resume_token=request.resume_token if start == "resume_token" else None,
        start_time=time,
        snapshot=request.snapshot,
        bookmark_seconds=seconds,
        resets=request.reset_on_compaction,
    )


def _raise(errors: list[InvalidArgument]) -> None:
    """Raises the only error as it is, several as one."""
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise InvalidArgument([violation for error in errors for violation in error.violations])


def _question(request: WatchRequest) -> Question:
    has_entities, has_relationships = (
        request.HasField("entities"),
        request.HasField("relationships"),
    )
    if not has_entities and not has_relationships:
        return Question(EntityFilter(), RelationshipFilter(), request.include_previous)
    return Question(
        _entities(request.entities) if has_entities else None,
        _relationships(request.relationships) if has_relationships else None,
        request.include_previous,
    )


def _entities(message: EntityFilterMessage) -> EntityFilter:
    try:
        return EntityFilter.parse(
            ids=message.ids,
            types=message.types,
            statuses=message.statuses,
            healths=message.healths,
            feature=message.feature,
            labels=message.labels,
            name_prefix=message.name_prefix,
            filter=message.filter,
        )
    except InvalidArgument as error:
        raise error.prefixed("entities") from None


def _relationships(message: RelationshipFilterMessage) -> RelationshipFilter:
    try:
        return RelationshipFilter.parse(
            types=message.types,
            source_ids=message.source_ids,
            target_ids=message.target_ids,
            entity_ids=message.entity_ids,
            filter=message.filter,
        )
    except InvalidArgument as error:
        raise error.prefixed("relationships") from None


def bookmark_seconds(interval: Duration) -> float:
    """A request's `bookmark_interval`. Raises InvalidArgument."""
    seconds = interval.seconds + interval.nanos / 1e9
    if not SHORTEST_BOOKMARK_SECONDS <= seconds <= LONGEST_BOOKMARK_SECONDS:
        raise InvalidArgument.of("bookmark_interval", f"100 ms to 1 hour, got {seconds:g} s")
    return seconds
