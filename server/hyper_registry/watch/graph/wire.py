"""WatchGraphResponses, put together from records and changes that are serialised already."""

from __future__ import annotations

from collections.abc import Sequence

from ose.registry.v1.graph_service_pb2 import WatchGraphResponse

CHANGES_TAG = 0x1A
"""`changes` of WatchGraphResponse. Nodes and edges have the fields that records are framed with."""

_Mark = WatchGraphResponse.Mark


def part(records: bytes, distances: Sequence[int] = ()) -> bytes:
    """A part of the answer; the distances are those of its nodes."""
    return records + WatchGraphResponse(more=True, distances=distances).SerializeToString()


def snapshot_end(revision: int, token: str) -> bytes:
    """The answer is complete, and of this revision."""
    return _marked(_Mark.MARK_SNAPSHOT_END, revision, token)


def bookmark(revision: int, token: str) -> bytes:
    """Nothing has changed up to this revision."""
    return _marked(_Mark.MARK_BOOKMARK, revision, token)


def reset() -> bytes:
    """The whole answer follows."""
    return WatchGraphResponse(mark=_Mark.MARK_RESET, more=True).SerializeToString()


def more_changes(changes: bytes, from_revision: int) -> bytes:
    """A part of a difference that is not the last."""
    rest = WatchGraphResponse(more=True, from_revision=from_revision)
    return changes + rest.SerializeToString()


def last_changes(changes: bytes, from_revision: int, revision: int, token: str) -> bytes:
    """The last part of a difference, or all of it."""
    rest = WatchGraphResponse(revision=revision, resume_token=token, from_revision=from_revision)
    return changes + rest.SerializeToString()


def _marked(mark: WatchGraphResponse.Mark.ValueType, revision: int, token: str) -> bytes:
    return WatchGraphResponse(mark=mark, revision=revision, resume_token=token).SerializeToString()
