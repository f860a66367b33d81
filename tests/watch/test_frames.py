"""Where the log is cut into messages."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hyper_registry.model.revision import Position
from hyper_registry.registry.table import varint
from hyper_registry.watch import wire
from hyper_registry.watch.frames import JOIN_BYTES, JOIN_EVENTS, MAX_BYTES, Draft, Frame
from hyper_registry.watch.wire import event, stamp
from ose.registry.v1.watch_service_pb2 import Event, EventType, WatchResponse

SIZES = [20, 1000, JOIN_BYTES // 3, MAX_BYTES // 3, MAX_BYTES - 100, 2 * MAX_BYTES]


def _trailer(revision: int) -> bytes:
    return wire.position(revision, f"t{revision}")


def _event(revision: int, size: int) -> bytes:
    # An unknown field of the record's is as good as any to give it a size.
    return event(1, stamp(revision, 0), wire.ENTITY, b"\x0a" + _length(size) + b"x" * size, 0, None)


def _length(size: int) -> bytes:
    return varint(size)


def _cut(log: list[tuple[int, int, bytes]], start: Position, end: Position) -> Frame:
    draft = Draft(start)
    for revision, index, data in log:
        if Position(revision - 1, index) >= start and not draft.add(revision, index, data):
            break
    if not draft.is_full:
        draft.end = end
    return draft.frame(_trailer)


def _all_frames(log: list[tuple[int, int, bytes]], end: Position) -> list[Frame]:
    frames = [_cut(log, Position(0), end)]
    while frames[-1].end != end:
        frames.append(_cut(log, frames[-1].end, end))
    return frames


@given(st.lists(st.lists(st.sampled_from(SIZES), max_size=6), max_size=12))
def test_frames_are_whole_revisions_within_the_limits(revisions: list[list[int]]) -> None:
    """Everything is sent once and in order, however large revisions are.

    Only a revision that has no room in a message is cut, into parts of a message each.
    """
    log = [
        (revision, index, _event(revision, size))
        for revision, sizes in enumerate(revisions, 1)
        for index, size in enumerate(sizes)
    ]
    end = Position(len(revisions))
    frames = _all_frames(log, end)
    messages = [WatchResponse.FromString(frame.payload) for frame in frames]
    sent = [each.SerializeToString() for message in messages for each in message.events]
    assert sent == [
        WatchResponse.FromString(data).events[0].SerializeToString() for _, _, data in log
    ]
    sizes = {
        revision: sum(len(data) for other, _, data in log if other == revision)
        for revision, _, _ in log
    }
    for frame, message in zip(frames, messages, strict=True):
        within = {each.revision for each in message.events} or {0}
        assert message.more == frame.more == (frame.end.index > 0)
        assert frame.changes == len(message.events)
        assert len(frame.payload) < MAX_BYTES + 100 or len(message.events) == 1
        earlier = [each for each in message.events if each.revision < max(within)]
        assert len(earlier) < JOIN_EVENTS
        assert sum(each.ByteSize() for each in earlier) < JOIN_BYTES
        if frame.more:
            assert sizes[max(within)] > MAX_BYTES
            assert len(within) == 1
            assert (message.revision, message.resume_token) == (0, "")
        elif frame.payload:
            assert (message.revision, message.resume_token) == (
                frame.end.revision,
                f"t{frame.end.revision}",
            )


def test_small_revisions_are_joined_up_to_a_limit() -> None:
    """Who is behind gets many revisions in a message, but not more than serves anybody."""
    log = [(revision, 0, _event(revision, 20)) for revision in range(1, 2001)]
    frames = _all_frames(log, Position(2000))
    assert [frame.changes for frame in frames] == [JOIN_EVENTS] * 4
    assert [frame.end for frame in frames] == [Position(500 * n) for n in range(1, 5)]


def test_nothing_to_send() -> None:
    """Where nothing matches there is only further to go."""
    assert _cut([], Position(3), Position(9)) == Frame(Position(9))


def test_event_is_parsed_back() -> None:
    """The events that these tests make are events."""
    parsed = WatchResponse.FromString(_event(3, 20)).events[0]
    assert parsed == Event(
        type=EventType.EVENT_TYPE_CREATED,
        revision=3,
        commit_time=parsed.commit_time,
        entity=parsed.entity,
    )
    assert parsed.entity.id == "x" * 20
