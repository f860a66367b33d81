"""The bytes that are put together by hand are those that protobuf means."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hyper_registry.watch import wire
from ose.registry.v1.entity_pb2 import Entity
from ose.registry.v1.relationship_pb2 import Relationship
from ose.registry.v1.watch_service_pb2 import Event, EventType, WatchResponse

revisions = st.integers(1, 2**63 - 1)
times = st.integers(0, 253_402_300_799 * 1_000_000)
# Around the sizes at which a length takes one more byte.
texts = st.one_of(
    st.text(max_size=20), st.integers(90, 140).map("x".__mul__), st.just("y" * 17_000)
)


def _event(type_: EventType.ValueType, revision: int, time: int) -> Event:
    event = Event(type=type_, revision=revision)
    event.commit_time.seconds, micros = divmod(time, 1_000_000)
    event.commit_time.nanos = micros * 1000
    event.commit_time.SetInParent()
    return event


@given(revisions, times, st.sampled_from(EventType.values()[1:]), texts, st.none() | texts)
def test_entity_events(
    revision: int, time: int, type_: EventType.ValueType, name: str, previous: str | None
) -> None:
    """An event of an entity, framed, is the `events` field of a response."""
    expected = _event(type_, revision, time)
    expected.entity.name = name
    if previous is not None:
        expected.previous_entity.name = previous
    made = wire.event(
        type_,
        wire.stamp(revision, time),
        wire.ENTITY,
        Entity(name=name).SerializeToString(),
        wire.PREVIOUS_ENTITY,
        None if previous is None else Entity(name=previous).SerializeToString(),
    )
    expected.entity.SetInParent()
    assert WatchResponse.FromString(made) == WatchResponse(events=[expected])


@given(revisions, times, texts)
def test_relationship_events(revision: int, time: int, name: str) -> None:
    """So is an event of a relationship."""
    record = Relationship(id=name)
    expected = _event(EventType.EVENT_TYPE_UPDATED, revision, time)
    expected.relationship.CopyFrom(record)
    expected.previous_relationship.CopyFrom(record)
    made = wire.event(
        2,
        wire.stamp(revision, time),
        wire.RELATIONSHIP,
        record.SerializeToString(),
        wire.PREVIOUS_RELATIONSHIP,
        record.SerializeToString(),
    )
    assert WatchResponse.FromString(made) == WatchResponse(events=[expected])


@given(revisions, st.text(st.characters(codec="ascii"), min_size=1, max_size=300))
def test_trailers(revision: int, token: str) -> None:
    """The fields behind the events can be joined to them in any combination."""
    position = wire.position(revision, token)
    mark = WatchResponse.Mark
    assert WatchResponse.FromString(position) == WatchResponse(
        revision=revision, resume_token=token
    )
    assert WatchResponse.FromString(wire.MORE) == WatchResponse(more=True)
    assert WatchResponse.FromString(position + wire.BOOKMARK) == WatchResponse(
        revision=revision, resume_token=token, mark=mark.MARK_BOOKMARK
    )
    assert WatchResponse.FromString(position + wire.SNAPSHOT_END) == WatchResponse(
        revision=revision, resume_token=token, mark=mark.MARK_SNAPSHOT_END
    )
