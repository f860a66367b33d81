"""One validator per promise. Each answers what it objects to; none looks at another's business.

So that a broken server is told apart: what is no record of the log is C1's alone, the first message
after a resumption W5's, and so on. The docstrings say what each looks at.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from math import isfinite
from typing import Any

from nexus_registry.conformance.history import (
    Action,
    History,
    Kind,
    Log,
    Operation,
    State,
    WatchStream,
    same,
    told_revision,
)
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.graph_service_pb2 import (
    GetDependenciesRequest,
    GetGraphRequest,
    GraphResponse,
    IncompleteReason,
)
from ose.registry.v1.mutation_pb2 import MutationResult
from ose.registry.v1.relationship_pb2 import Direction, Relationship
from ose.registry.v1.watch_service_pb2 import Event, WatchRequest, WatchResponse

Objections = list[str]
Validator = Callable[[History], Objections]

_SLACK = 4.0
"""How many seconds late an idle watch may say something, on a machine that is busy."""


_NO_ROOM = {"STORE_FULL", "TOO_MANY_STREAMS"}
"""Reasons that say nothing of the request."""


def judge(history: History) -> dict[str, Objections]:
    """The objections of every validator that has any."""
    found = {name: validator(history) for name, validator in VALIDATORS.items()}
    return {name: objections for name, objections in found.items() if objections}


# Consistency


def c1_durable(history: History) -> Objections:
    """C1: what was told to be written is in the log, and so is whatever anyone read."""
    log, objections = history.log, list[str]()
    for operation in _ok(history):
        if getattr(operation.request, "dry_run", False):
            continue
        told = told_revision(operation)
        if told > log.head:
            objections.append(f"{operation}: revision {told} is not in the log ({log.head})")
            continue
        objections += [
            f"{operation}: the log has not {record.id} as of {record.revision}"
            for record in operation.records()
            if not log.has(record)
        ]
        if operation.method == "DeleteEntity" and not _deleted(
            log, operation.revision, Kind.ENTITY, operation.request.id
        ):
            objections.append(f"{operation}: the log has not this deletion")
    for stream in history.streams:
        for message in stream.messages:
            records: list[Any] = [*message.entities, *message.relationships]
            records += [_resource(event) for event in message.events]
            objections += [
                f"{stream}: the log has not {record.id} as of {record.revision}"
                for record in records
                if not log.has(record)
            ]
    return objections


def c2_atomic(history: History) -> Objections:
    """C2: a request is at most one revision (an import's, one per message), whole, or nothing."""
    log, objections = history.log, list[str]()
    for operation in history.operations:
        made = log.by_request.get(operation.request_id, [])
        numbers = [revision.revision for revision in made]
        if operation.method == "Import":
            objections += _import_objections(operation, log)
            continue
        if operation.outcome == "refused" and made:
            objections.append(f"{operation}: refused, and yet it made {numbers}")
        if not operation.is_write and made:
            objections.append(f"{operation}: it writes nothing, and yet made {numbers}")
        if len(made) > 1:
            objections.append(f"{operation}: it is more than one revision: {numbers}")
        elif operation.outcome == "ok" and operation.method == "Write" and operation.is_write:
            objections += _write_objections(operation, log)
    return objections


def _import_objections(operation: Operation, log: Log) -> Iterator[str]:
    for acknowledged in operation.answer or ():
        changed = acknowledged.created + acknowledged.updated + acknowledged.deleted
        revision = log.revisions.get(acknowledged.revision)
        if changed and revision is not None and len(revision.told) != changed:
            yield f"{operation}: message {acknowledged.sequence} is not all of its revision"


def _write_objections(operation: Operation, log: Log) -> Iterator[str]:
    expected: Counter[tuple[Kind, str]] = Counter()
    for mutation, result in zip(operation.request.mutations, operation.answer.results, strict=True):
        if result.outcome == MutationResult.OUTCOME_UNCHANGED:
            continue
        kind = mutation.WhichOneof("operation")
        is_entity = "entity" in kind
        record = result.entity if is_entity else result.relationship
        id_ = record.id or getattr(mutation, kind).id
        expected[Kind.ENTITY if is_entity else Kind.RELATIONSHIP, id_] += 1
        expected.update((Kind.RELATIONSHIP, gone) for gone in result.relationships)
    revision = log.revisions.get(operation.revision)
    if expected and revision is not None:
        changed = Counter(change.key for change in revision.told)
        if changed != expected:
            yield f"{operation}: revision {revision.revision} has {changed}, not {expected}"


def c3_ordered(history: History) -> Objections:
    """C3: the log has no gap, its times rise, writes one after the other have rising revisions.

    And no answer about many resources shows a revision without the lower ones.
    """
    log, objections = history.log, list[str]()
    if log.is_whole and sorted(log.revisions) != [*range(log.begin + 1, log.head + 1)]:
        objections.append("the log has a gap")
    objections += [
        f"revision {b.revision} is not later than the one before"
        for a, b in pairwise(log.revisions.values())
        if b.time <= a.time
    ]
    writes = [o for o in _ok(history) if o.is_write and log.by_request.get(o.request_id)]
    by_end = deque(sorted(writes, key=lambda operation: operation.ended))
    highest, last = 0, ""
    for operation in sorted(writes, key=lambda operation: operation.began):
        while by_end and by_end[0].ended < operation.began:
            before = by_end.popleft()
            made = log.by_request[before.request_id][-1].revision
            if made > highest:
                highest, last = made, str(before)
        first = log.by_request[operation.request_id][0].revision
        if first <= highest:
            objections.append(f"{operation} made {first}, after {last} had made {highest}")
    for operation in _readable(history, "BatchGetEntities", "Export"):
        state = log.state(operation.revision)
        if operation.method == "Export":
            entities = [e for part in operation.answer for e in part.entities]
            relationships = [r for part in operation.answer for r in part.relationships]
            wanted, links = _exported(state, operation.request.entity_types)
            whole = same(entities, wanted) and same(relationships, links)
        else:
            found = {entity.id: entity for entity in state.entities}
            wanted = [found[id_] for id_ in operation.request.ids if id_ in found]
            whole = same(operation.answer.entities, wanted)
        if not whole:
            objections.append(f"{operation}: not what there was at {operation.revision}")
    return objections


def _exported(
    state: State, types: Sequence[str]
) -> tuple[Sequence[Entity], Sequence[Relationship]]:
    if not types:
        return state.entities, state.relationships
    entities = [entity for entity in state.entities if entity.type in types]
    ids = {entity.id for entity in entities}
    return entities, [r for r in state.relationships if {r.source_id, r.target_id} <= ids]


def c4_current(history: History) -> Objections:
    """C4: a read sees what anyone was told before it began; the past is as it was."""
    objections: Objections = []
    for operation in history.operations:
        request = operation.request
        if not hasattr(request, "at_revision") or operation.outcome == "unknown":
            continue
        if getattr(request, "page_token", ""):
            continue
        objections += _stale(history, operation)
    return objections


def _stale(history: History, operation: Operation) -> Iterator[str]:
    log, request = history.log, operation.request
    known = history.known(operation.began)
    least = max(known, request.min_revision)
    at = request.at_revision
    metadata = {} if operation.error is None else operation.error.metadata
    reason = "" if operation.error is None else operation.error.reason_text
    if reason == "REVISION_NOT_REACHED":
        if request.min_revision <= known:
            yield f"{operation}: {known} had been reached"
    elif reason == "REVISION_IN_FUTURE":
        if at <= known:
            yield f"{operation}: {known} had happened"
    elif reason == "REVISION_COMPACTED":
        if at >= log.floor:
            yield f"{operation}: {at} is not compacted ({log.floor})"
    elif reason in {"ENTITY_NOT_FOUND", "RELATIONSHIP_NOT_FOUND"}:
        revision = int(metadata["revision"])
        if revision != at if at else revision < least:
            yield f"{operation}: looked at {revision}, {least} was to be seen"
        elif revision <= log.head and log.at(_asked(operation), revision) is not None:
            yield f"{operation}: it existed at {revision}"
    elif reason:
        yield f"{operation}: refused for no reason"
    elif not all(map(log.has, operation.records())):
        return
    elif operation.method == "Export" and not operation.answer:
        # An export of nothing has no message that says of which revision it is.
        candidates = _candidates(history, at, least)
        if all(any(_exported(log.state(one), request.entity_types)) for one in candidates):
            yield f"{operation}: something was there since {least}, at {at}"
    elif operation.method in {"GetEntity", "GetRelationship"}:
        candidates = _candidates(history, at, least)
        key = _asked(operation)
        if not any(log.at(key, revision) == operation.answer for revision in candidates):
            yield f"{operation}: {operation.revision} is not current since {least}, at {at}"
    elif operation.revision != at if at else 0 < operation.revision < least:
        yield f"{operation}: of {operation.revision}, {least} was to be seen"


def _candidates(history: History, at: int, least: int) -> Iterable[int]:
    """The revisions that a read may be of: the one that it names, else any from `least` on."""
    log = history.log
    return [at] if at else range(max(least, log.begin), log.head + 1)


def _asked(operation: Operation) -> tuple[Kind, str]:
    request = operation.request
    kind = Kind.RELATIONSHIP if operation.method == "GetRelationship" else Kind.ENTITY
    return kind, getattr(request, "id", "") or request.root_id


def c5_paged(history: History) -> Objections:
    """C5: the pages of a listing are of one revision, and joined are what matched at it."""
    log, objections = history.log, list[str]()
    for pages in _groups(history, "ListEntities", "ListRelationships"):
        first, answers = pages[0], [page.answer for page in pages]
        revisions = {answer.revision for answer in answers}
        if len(revisions) > 1:
            objections.append(f"{first}: pages of {sorted(revisions)}")
            continue
        found = [r for page in pages for r in page.records()]
        if not all(map(log.has, found)):
            continue
        wanted = _listed(log.state(first.revision), first)
        is_whole = not answers[-1].next_page_token
        if not same(found, wanted if is_whole else wanted[: len(found)]):
            objections.append(f"{first}: not what matched at {first.revision}")
    return objections


def _listed(state: State, operation: Operation) -> Sequence[Any]:
    request = operation.request
    if operation.method == "ListRelationships":
        return [r for r in state.relationships if not request.types or r.type in request.types]
    found = [e for e in state.entities if not request.type or e.type in request.type]
    field, _, direction = request.order_by.partition(" ")
    field = field or "create_revision"
    # Stable in both directions: equals stay in order of creation.
    return sorted(found, key=lambda entity: getattr(entity, field), reverse=bool(direction))


def c6_retried(history: History) -> Objections:
    """C6: a repeated key with the same body has one answer and one effect, with another none."""
    log, objections = history.log, list[str]()
    groups: dict[tuple[str, str], list[Operation]] = defaultdict(list)
    for operation in history.operations:
        if operation.key and operation.is_write:
            groups[operation.method, operation.key].append(operation)
    for operations in groups.values():
        done = [operation for operation in operations if operation.outcome == "ok"]
        made = {r.revision for o in operations for r in log.by_request.get(o.request_id, ())}
        if len(made) > 1:
            objections.append(f"{operations[0]}: one key made {sorted(made)}")
        for operation in operations:
            body = operation.request
            for first in done:
                if first is operation:
                    continue
                if operation.outcome == "ok":
                    if first.request != body:
                        objections.append(f"{operation}: the key is that of {first}")
                    elif first.answer != operation.answer:
                        objections.append(f"{operation}: {first} was answered otherwise")
                elif operation.outcome == "refused" and first.ended < operation.began:
                    assert operation.error is not None
                    reason = operation.error.reason_text
                    if reason in _NO_ROOM:
                        continue
                    if first.request == body or reason != "IDEMPOTENCY_KEY_REUSED":
                        objections.append(f"{operation}: refused, after {first}")
    return objections


def c7_no_lost_update(history: History) -> Objections:
    """C7: a write with conditions was done only where they held, right before it."""
    log, objections = history.log, list[str]()
    for operation in _ok(history):
        if not operation.is_write or told_revision(operation) > log.head:
            continue
        for kind, id_, wanted in _conditions(operation):
            found = log.at((kind, id_), _decided_at(operation))
            actual = 0 if found is None else found.revision
            if (actual > 0) != wanted if isinstance(wanted, bool) else actual != wanted:
                objections.append(f"{operation}: {id_} was {actual}, not {wanted}")
    return objections


def _decided_at(operation: Operation) -> int:
    """The revision that a write was decided against: that before its own, if it made one."""
    request, answer = operation.request, operation.answer
    if operation.method == "Write":
        made = any(r.outcome != MutationResult.OUTCOME_UNCHANGED for r in answer.results)
    else:
        # An update of nothing answers the revision that was there, and so was expected.
        made = request.expected_revision != answer.revision
    return int(answer.revision) - made


def _conditions(operation: Operation) -> Iterator[tuple[Kind, str, int | bool]]:
    request = operation.request
    kind = Kind.RELATIONSHIP if "Relationship" in operation.method else Kind.ENTITY
    if getattr(request, "expected_revision", 0):
        target = getattr(request, "entity", None) or getattr(request, "relationship", request)
        yield kind, target.id, request.expected_revision
    for condition in getattr(request, "preconditions", ()):
        resource, name = condition.WhichOneof("resource"), condition.WhichOneof("condition")
        wanted = (
            condition.expected_revision if name == "expected_revision" else name == "must_exist"
        )
        on = Kind.ENTITY if resource == "entity_id" else Kind.RELATIONSHIP
        yield on, getattr(condition, resource), wanted


# Watch


def w1_ordered(history: History) -> Objections:
    """W1: within a stream events come in log order, and the stream never says a lower revision."""
    objections = []
    for stream in _running(history):
        events = [e for message in _judged(stream) for e in message.events]
        if any(b.revision < a.revision for a, b in pairwise(events)):
            objections.append(f"{stream}: revisions go back")
        said = [message.revision for message in stream.messages if not message.more]
        if any(b < a for a, b in pairwise(said)):
            objections.append(f"{stream}: it says lower revisions again")
        for revision, found in _by_revision(events).items():
            wanted = _expected(history.log, stream.request, revision)
            keys = [_identity(event) for event in found]
            in_order = [_identity(event) for event in wanted]
            if keys != in_order and Counter(keys) == Counter(in_order):
                objections.append(f"{stream}: revision {revision} is not in its order")
    return objections


def w2_unique(history: History) -> Objections:
    """W2: within a stream no event comes twice."""
    objections = []
    for stream in _running(history):
        events = [e for message in _judged(stream) for e in message.events]
        for revision, found in _by_revision(events).items():
            wanted = Counter(map(_identity, _expected(history.log, stream.request, revision)))
            again = {
                key: count
                for key, count in Counter(map(_identity, found)).items()
                if 0 < wanted[key] < count
            }
            if again:
                objections.append(f"{stream}: again in {revision}: {[*again]}")
    return objections


def w3_reliable(history: History) -> Objections:
    """W3: exactly what matches comes: nothing is left out, and each event is as the log has it."""
    log, objections = history.log, list[str]()
    for stream in _running(history):
        begin = _judged_from(stream, log)
        events = [e for m in _judged(stream) for e in m.events if e.revision > begin]
        found = _by_revision(events)
        for revision in range(begin + 1, min(stream.reached, log.head) + 1):
            wanted = Counter(map(_content, _expected(log, stream.request, revision)))
            actual = Counter(map(_content, found.get(revision, ())))
            if missing := [key for key in wanted if not actual[key]]:
                objections.append(f"{stream}: left out of {revision}: {missing}"[:400])
            if unknown := [key for key in actual if not wanted[key]]:
                objections.append(f"{stream}: not of {revision}: {unknown}"[:400])
    return objections


def w4_atomic(history: History) -> Objections:
    """W4: a revision is in one message, or in messages of which all but the last say `more`."""
    objections = []
    for stream in _running(history):
        last = 0
        for parts in _wholes(stream.messages):
            revisions = {event.revision for part in parts for event in part.events}
            if last in revisions:
                objections.append(f"{stream}: revision {last} is split")
            last = max(revisions, default=0)
            if any(part.revision or part.resume_token for part in parts if part.more):
                objections.append(f"{stream}: a part has a revision of its own")
            if not parts[-1].more and not parts[-1].resume_token:
                objections.append(f"{stream}: a whole message has no token")
    return objections


def w5_resumable(history: History) -> Objections:
    """W5: a resumed stream goes on right behind its token."""
    objections = []
    for stream in _running(history):
        if stream.resumed_at < 0:
            continue
        events = [event for message in stream.messages for event in message.events]
        if any(event.revision <= stream.resumed_at for event in events):
            objections.append(f"{stream}: it repeats what was before {stream.resumed_at}")
        first = next(iter(_wholes(stream.messages)), [])
        if not first or first[-1].more:
            continue
        found = [_content(event) for part in first for event in part.events]
        wanted = [
            _content(event)
            for revision in range(stream.resumed_at + 1, first[-1].revision + 1)
            for event in _expected(history.log, stream.request, revision)
        ]
        if Counter(wanted) - Counter(found):
            objections.append(f"{stream}: it leaves something out behind {stream.resumed_at}")
    return objections


def w6_bookmarked(history: History) -> Objections:
    """W6: what a stream says to have sent has been sent; and it says something when it is idle."""
    objections = []
    for stream in _running(history):
        reached = 0
        for message in stream.messages:
            if any(event.revision <= reached for event in message.events):
                objections.append(f"{stream}: it had said {reached}")
            if message.mark == WatchResponse.MARK_BOOKMARK and message.events:
                objections.append(f"{stream}: a bookmark with events")
            reached = max(reached, message.revision)
        times = [at for at, _ in stream.received]
        if isfinite(stream.ended):
            times.append(stream.ended)
        silence = max((b - a for a, b in pairwise(times)), default=0.0)
        if silence > history.interval + _SLACK:
            objections.append(f"{stream}: silent for {silence:.1f} s")
    return objections


def w7_reached(history: History) -> Objections:
    """W7: every watcher reaches every revision that a write returned."""
    told = [told_revision(o) for o in _ok(history) if o.is_write]
    final = max((revision for revision in told if revision <= history.log.head), default=0)
    return [
        f"{streams[-1]}: it came to {reached}, a write had returned {final}"
        for streams in history.watchers().values()
        if streams[-1].error is None
        and not streams[-1].foreign
        and (reached := max(stream.reached for stream in streams)) < final
        and streams[-1].request.start_revision <= final
    ]


def w8_compacted(history: History) -> Objections:
    """W8: a compacted start is refused, and told the oldest revision; no other one is."""
    log, objections = history.log, list[str]()
    for stream in (stream.lives()[0] for stream in history.streams):
        start = stream.request.start_revision or stream.resumed_at + 1
        if not start or stream.foreign:
            continue
        floor = log.floor_at(history.known(stream.began))
        reason = "" if stream.error is None else stream.error.reason_text
        if reason == "REVISION_COMPACTED":
            assert stream.error is not None
            oldest = int(stream.error.metadata["oldest"])
            if not floor < oldest <= log.floor + 1:
                objections.append(f"{stream}: the oldest is {floor + 1}, not {oldest}")
            if start > log.floor:
                objections.append(f"{stream}: {start} is not compacted ({log.floor})")
        elif start <= floor and stream.received:
            objections.append(f"{stream}: {start} is compacted ({floor}), and it runs")
    return objections


def w9_future(history: History) -> Objections:
    """W9: nothing comes that is older than the start."""
    return [
        f"{stream}: {event.revision} is older than its start"
        for stream in _running(history)
        for message in stream.messages
        for event in message.events
        if event.revision < stream.request.start_revision
    ]


def w10_matching(history: History) -> Objections:
    """W10: an event's type says whether the resource starts, goes on or stops to match."""
    objections = []
    for stream in _running(history):
        events = [event for message in stream.messages for event in message.events]
        for revision, found in _by_revision(events).items():
            wanted = _expected(history.log, stream.request, revision)
            if [*map(_identity, found)] == [*map(_identity, wanted)]:
                objections += [
                    f"{stream}: {_resource(a).id} in {revision} is {a.type}, not {b.type}"
                    for a, b in zip(found, wanted, strict=True)
                    if a.type != b.type
                ]
    return objections


def w11_snapshot(history: History) -> Objections:
    """W11: a snapshot is what matched at the revision that its end names, whole and in order."""
    log, objections = history.log, list[str]()
    for stream in _running(history):
        if not stream.request.snapshot or not stream.messages:
            continue
        messages = stream.messages
        ends = [n for n, m in enumerate(messages) if m.mark == WatchResponse.MARK_SNAPSHOT_END]
        if not ends:
            if any(message.events for message in messages):
                objections.append(f"{stream}: changes without the end of the snapshot")
            continue
        end = ends[0]
        state = log.state(min(messages[end].revision, log.head))
        entities = [e for message in messages[:end] for e in message.entities]
        relationships = [r for message in messages[:end] for r in message.relationships]
        if len(ends) > 1 or any(m.entities or m.relationships for m in messages[end + 1 :]):
            objections.append(f"{stream}: more than one snapshot")
        if not same(entities, [e for e in state.entities if _wants(stream.request, e)]) or not same(
            relationships, [r for r in state.relationships if _wants(stream.request, r)]
        ):
            objections.append(f"{stream}: not what matched at {messages[end].revision}")
    return objections


def w12_reset(history: History) -> Objections:
    """W12: who asks for it is reset and never cut off, where changes are compacted and only there.

    What a reset says is a snapshot: no changes come before its end. (What it costs a slow consumer,
    and what it does not cost the others, shows in no history: `tests/watch` and `tests/faults`.)
    """
    objections = []
    for stream in history.streams:
        asked = stream.request.reset_on_compaction
        reason = "" if stream.error is None else stream.error.reason_text
        if asked and reason == "REVISION_COMPACTED":
            objections.append(f"{stream}: it asked for a reset, and was cut off")
        lives = stream.lives()
        if len(lives) > 1 and not asked:
            objections.append(f"{stream}: it did not ask for a reset")
        for before in lives[:-1]:
            start = max(before.request.start_revision - 1, before.resumed_at)
            reached = max(before.reached, start)
            if reached >= history.log.floor:
                objections.append(f"{stream}: reset at {reached}, and nothing is compacted there")
        for after in lives[1:]:
            first = next((m for m in after.messages if m.mark or m.events), None)
            if first is not None and first.mark != WatchResponse.MARK_SNAPSHOT_END:
                objections.append(f"{stream}: no snapshot behind a reset")
    return objections


def w13_history(history: History) -> Objections:
    """W13: a token of another history is refused as such, and no other one is."""
    objections = []
    for stream in history.streams:
        reason = "" if stream.error is None else stream.error.reason_text
        if stream.foreign and (stream.received or reason not in {"HISTORY_CHANGED", ""}):
            told = reason or "taken"
            objections.append(f"{stream}: a token of another history, and it is {told}")
        if not stream.foreign and reason == "HISTORY_CHANGED":
            objections.append(f"{stream}: its token is of this history")
    return objections


# Graph


def g1_complete_or_said_so(history: History) -> Objections:
    """G1: an answer has its revision, and is whole, or says what cut it and how to go on."""
    log, objections = history.log, list[str]()
    for pages in _groups(history, "GetGraph", "GetDependencies", "AnalyzeImpact"):
        first = pages[0]
        for page in pages:
            answer = page.answer
            cut = answer.incomplete_reason != IncompleteReason.INCOMPLETE_REASON_UNSPECIFIED
            if not answer.revision or answer.complete == cut:
                objections.append(f"{page}: complete is {answer.complete}, cut is {cut}")
            if cut != bool(answer.next_page_token) or cut != bool(answer.incomplete_limit):
                objections.append(f"{page}: no limit or token")
        if pages[-1].answer.complete and all(map(log.has, _all(pages))):
            nodes, edges = walk(log.state(first.revision), first.request)
            found_nodes, found_edges = _ids(pages)
            is_less = (found_nodes, found_edges) != (set(nodes), edges)
            is_part = found_nodes <= set(nodes) and found_edges <= edges
            if is_less and is_part and not _of_another(log, pages):
                objections.append(f"{first}: it is not all of {first.revision}")
    return objections


def g3_one_snapshot(history: History) -> Objections:
    """G3: nodes and edges are those of one revision, on every page, and as far as they say."""
    log, objections = history.log, list[str]()
    for pages in _groups(history, "GetGraph", "GetDependencies", "AnalyzeImpact"):
        first = pages[0]
        revisions = {page.answer.revision for page in pages}
        if len(revisions) > 1:
            objections.append(f"{first}: pages of {sorted(revisions)}")
            continue
        records = [*_all(pages)]
        if not all(map(log.has, records)):
            continue
        for record in records:
            kind = Kind.ENTITY if isinstance(record, Entity) else Kind.RELATIONSHIP
            if log.at((kind, record.id), first.revision) != record:
                objections.append(f"{first}: {record.id} is not as of {first.revision}")
        nodes, edges = walk(log.state(first.revision), first.request)
        distances = {
            node.id: distance
            for page in pages
            for node, distance in zip(page.answer.nodes, page.answer.distances, strict=True)
        }
        _, found_edges = _ids(pages)
        is_part = distances.items() <= nodes.items() and found_edges <= edges
        if not is_part or _of_another(log, pages):
            objections.append(f"{first}: it is not the graph of {first.revision}")
    return objections


def _of_another(log: Log, pages: Sequence[Operation]) -> bool:
    """Whether a whole answer is that of some revision before or after, and not of its own.

    One that a limit may have cut says nothing here: a part is whole at many revisions.
    """
    first = pages[0]
    if not pages[-1].answer.complete or first.request.node_limit:
        return False
    found, revision = _ids(pages), int(first.revision)
    around = [revision, *range(max(1, revision - 20), min(log.head, revision + 20) + 1)]
    for other in around:
        nodes, edges = walk(log.state(other), first.request)
        if (set(nodes), edges) == found:
            return bool(other != revision)
    return False


def walk(state: State, request: Any) -> tuple[dict[str, int], set[str]]:
    """The obviously correct answer to a graph question: distances of nodes, ids of edges."""
    root = getattr(request, "root_id", "") or request.id
    if isinstance(request, GetGraphRequest):
        direction = request.direction or Direction.DIRECTION_OUT
        depth = request.depth if request.HasField("depth") else 1
        types = set(request.types)
    else:
        direction = (
            Direction.DIRECTION_OUT
            if isinstance(request, GetDependenciesRequest)
            else Direction.DIRECTION_IN
        )
        depth = request.depth if request.HasField("depth") else 1 << 30
        types = set(request.types) or {"depends_on", "requires"}
    enters = {
        e.id for e in state.entities if not request.entity_types or e.type in request.entity_types
    } | {root}
    steps: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for edge in state.relationships:
        if types and edge.type not in types:
            continue
        both = edge.bidirectional or direction == Direction.DIRECTION_BOTH
        if both or direction == Direction.DIRECTION_OUT:
            steps[edge.source_id].append((edge.target_id, edge.id))
        if both or direction == Direction.DIRECTION_IN:
            steps[edge.target_id].append((edge.source_id, edge.id))
    distances, edges, queue = {root: 0}, set(), deque([root])
    while queue:
        node = queue.popleft()
        if distances[node] >= depth:
            continue
        for other, edge_id in steps[node]:
            if other not in enters:
                continue
            edges.add(edge_id)
            if other not in distances:
                distances[other] = distances[node] + 1
                queue.append(other)
    return distances, edges


VALIDATORS: dict[str, Validator] = {
    "C1": c1_durable,
    "C2": c2_atomic,
    "C3": c3_ordered,
    "C4": c4_current,
    "C5": c5_paged,
    "C6": c6_retried,
    "C7": c7_no_lost_update,
    "W1": w1_ordered,
    "W2": w2_unique,
    "W3": w3_reliable,
    "W4": w4_atomic,
    "W5": w5_resumable,
    "W6": w6_bookmarked,
    "W7": w7_reached,
    "W8": w8_compacted,
    "W9": w9_future,
    "W10": w10_matching,
    "W11": w11_snapshot,
    "W12": w12_reset,
    "W13": w13_history,
    "G1": g1_complete_or_said_so,
    "G3": g3_one_snapshot,
}


# What they share


def _ok(history: History) -> Iterator[Operation]:
    return (operation for operation in history.operations if operation.outcome == "ok")


def _readable(history: History, *methods: str) -> Iterator[Operation]:
    """Answers of these methods whose records and revision the log has."""
    for operation in _ok(history):
        is_known = 0 < operation.revision <= history.log.head
        if (
            operation.method in methods
            and is_known
            and all(map(history.log.has, operation.records()))
        ):
            yield operation


def _groups(history: History, *methods: str) -> Iterable[list[Operation]]:
    """The pages of each answer, in order."""
    groups: dict[int, list[Operation]] = defaultdict(list)
    for operation in _ok(history):
        if operation.method in methods and operation.revision <= history.log.head:
            groups[operation.group].append(operation)
    return [pages for pages in groups.values() if not getattr(pages[0].request, "page_token", "")]


def _all(pages: Iterable[Operation]) -> Iterator[Any]:
    for page in pages:
        yield from page.records()


def _ids(pages: Iterable[Operation]) -> tuple[set[str], set[str]]:
    answers: list[GraphResponse] = [page.answer for page in pages]
    return (
        {node.id for answer in answers for node in answer.nodes},
        {edge.id for answer in answers for edge in answer.edges},
    )


def _deleted(log: Log, revision: int, kind: Kind, id_: str) -> bool:
    found = log.revisions.get(revision)
    return found is not None and any(
        change.key == (kind, id_) and change.action == Action.DELETE for change in found.changes
    )


def _running(history: History) -> Iterator[WatchStream]:
    """The streams that said something, each of their lives for itself; foreign ones are W13's."""
    return (
        life
        for stream in history.streams
        if not stream.foreign
        for life in stream.lives()
        if life.received
    )


def _wholes(messages: Sequence[WatchResponse]) -> Iterator[list[WatchResponse]]:
    """The messages with changes, each with the parts before it."""
    parts: list[WatchResponse] = []
    for message in messages:
        if message.entities or message.relationships:
            continue
        parts.append(message)
        if not message.more:
            yield parts
            parts = []
    if parts:
        yield parts


def _judged(stream: WatchStream) -> list[WatchResponse]:
    """The messages behind the first whole one of a resumed stream, which is W5's."""
    if stream.resumed_at < 0:
        return stream.messages
    wholes = [*_wholes(stream.messages)]
    return [part for parts in wholes[1:] for part in parts]


def _judged_from(stream: WatchStream, log: Log) -> int:
    """The revision behind which a stream must have everything; what is compacted is W8's."""
    messages = stream.messages
    if stream.resumed_at >= 0:
        first = next(iter(_wholes(messages)), [])
        return first[-1].revision if first and not first[-1].more else log.head
    if stream.request.snapshot:
        ends = [m.revision for m in messages if m.mark == WatchResponse.MARK_SNAPSHOT_END]
        return ends[0] if ends else log.head
    start = stream.request.start_revision - 1
    return max(start, _floor_before(messages, log) if start < log.floor else start)


def _floor_before(messages: Sequence[WatchResponse], log: Log) -> int:
    """The floor when the first message came: from there on a stream that runs has everything."""
    return log.floor_at(next((m.revision for m in messages if m.revision), 0))


def _by_revision(events: Iterable[Event]) -> dict[int, list[Event]]:
    found: dict[int, list[Event]] = defaultdict(list)
    for event in events:
        found[event.revision].append(event)
    return found


def _resource(event: Event) -> Any:
    return getattr(event, event.WhichOneof("resource") or "entity")


def _identity(event: Event) -> tuple[str | None, str, int]:
    resource = _resource(event)
    return event.WhichOneof("resource"), resource.id, resource.revision


def _content(event: Event) -> tuple[object, ...]:
    previous = event.WhichOneof("previous")
    return (
        event.revision,
        event.commit_time.ToNanoseconds(),
        event.WhichOneof("resource"),
        _resource(event).SerializeToString(deterministic=True),
        getattr(event, previous).SerializeToString(deterministic=True) if previous else b"",
    )


def _expected(log: Log, request: WatchRequest, revision: int) -> list[Event]:
    """The events of a revision that match a request, in order."""
    found = log.revisions.get(revision)
    events = []
    for change in () if found is None else found.changes:
        if change.kind == Kind.COMPACTION:
            continue
        before = change.before is not None and _wants(request, change.before)
        after = change.after is not None and _wants(request, change.after)
        if before or after:
            event = Event(revision=revision, type=_TYPES[before, after])
            assert found is not None
            event.commit_time.FromMicroseconds(found.time)
            name = "entity" if change.kind == Kind.ENTITY else "relationship"
            getattr(event, name).CopyFrom(change.after if after else change.before)
            if request.include_previous and change.before is not None:
                getattr(event, f"previous_{name}").CopyFrom(change.before)
            events.append(event)
    return events


_TYPES: dict[tuple[bool, bool], Any] = {
    (False, True): Action.CREATE,
    (True, True): Action.UPDATE,
    (True, False): Action.DELETE,
}


def _wants(request: WatchRequest, record: Entity | Relationship) -> bool:
    if not request.HasField("entities") and not request.HasField("relationships"):
        return True
    if isinstance(record, Relationship):
        links = request.relationships
        return request.HasField("relationships") and (not links.types or record.type in links.types)
    wanted = request.entities
    return (
        request.HasField("entities")
        and (not wanted.types or record.type in wanted.types)
        and (not wanted.healths or record.health in wanted.healths)
        and all(_has_label(record, label) for label in wanted.labels)
    )


def _has_label(entity: Entity, selector: str) -> bool:
    key, equals, value = selector.partition("=")
    return key in entity.labels and (not equals or entity.labels[key] == value)
