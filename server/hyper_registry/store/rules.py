"""What every engine must decide alike: which batch contradicts itself, where an answer ends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

import orjson

from hyper_registry.model.errors import NotServing, StoreLost, StoreUnavailable
from hyper_registry.model.revision import Action, Change, Commit, Head, Kind, chain
from hyper_registry.store.base import Batch, LoggedChange, LogQuestion

_KINDS = {int(kind): kind for kind in Kind}
_ACTIONS = {int(action): action for action in Action}


def labels_json(labels: Mapping[str, str]) -> str:
    """Labels as a JSON object in order of key."""
    return orjson.dumps(dict(labels), option=orjson.OPT_SORT_KEYS).decode() if labels else "{}"


@lru_cache(maxsize=1024)
def regions_json(regions: tuple[str, ...]) -> str:
    """Regions as a JSON array."""
    return orjson.dumps(regions).decode()


def completed_record(record: bytes, health: int, revision: int) -> bytes:
    """An entity's record with the two fields that older versions of the registry did not write.

    They have the highest numbers, so they come last, where a record has them that is written whole:
    14, what was reported, and 15, since when that is the health, in eight bytes.
    """
    return record + bytes((14 << 3, health, 15 << 3 | 1)) + revision.to_bytes(8, "little")


def known_change(revision: int, change: Change) -> Change:
    """A change whose kind and action are numbers, as it was read.

    Raises NotServing for numbers that only a newer version can have written.
    """
    kind, action, id_, ordinal, before, after = change
    if kind not in _KINDS or action not in _ACTIONS:
        raise NotServing(
            f"revision {revision} has a change of a kind ({kind}.{action}) that this version of "
            "the registry does not know: a newer version wrote it; use that one",
            is_outdated=True,
        )
    return Change(_KINDS[kind], _ACTIONS[action], id_, ordinal, before, after)


def check_batch(batch: Batch, head: Head) -> None:
    """Raises ValueError for a batch that would leave a gap in the log: a bug of the writer."""
    expected = head.revision
    for commit in batch.commits:
        expected += 1
        if commit.revision != expected or not commit.changes:
            count = len(commit.changes)
            raise ValueError(f"revision {commit.revision} of {count} changes is not {expected}")
    if batch.head.revision != expected:
        raise ValueError(f"the head is {batch.head.revision}, the last revision {expected}")


def check_same(known: Head, found: Head) -> None:
    """Raises StoreLost if a head that was found later does not continue the one that is known."""
    if (
        found.epoch != known.epoch
        or found.revision < known.revision
        or (found.revision == known.revision and found.hash != known.hash)
    ):
        raise StoreLost("the store has been set back to an older state while it was open")


def check_empty(head: Head) -> None:
    """Raises StoreUnavailable if the store whose head this is cannot be filled."""
    if head.revision:
        raise StoreUnavailable(f"it holds a registry of revision {head.revision} already")


class LogCheck:
    """Sees to it that the log of a store that is filled leads up to `head` without a gap.

    Both methods raise ValueError.
    """

    def __init__(self, head: Head) -> None:
        self._head = head
        self._last: Commit | None = None

    def follow(self, commits: Iterable[Commit]) -> None:
        """Checks the next commits: their numbers, and that each hash covers the one before.

        The first may be that of the floor, without its changes.
        """
        for commit in commits:
            last = self._last
            if last is None and commit.revision == self._head.floor > 0 and not commit.changes:
                self._last = commit
                continue
            expected = self._head.floor + 1 if last is None else last.revision + 1
            if commit.revision != expected or not commit.changes:
                raise ValueError(f"the log has revision {commit.revision} in place of {expected}")
            # What the hash of the first one covers is not held if the floor's own is not known.
            before = b"" if expected == 1 else None if last is None else last.hash
            if before is not None and chain(before, commit) != commit.hash:
                raise ValueError(f"the log's hash of revision {expected} does not fit")
            self._last = commit

    def end(self) -> None:
        """Checks that the last one was the head's."""
        head, last = self._head, self._last
        reached = (head.floor, head.hash) if last is None else (last.revision, last.hash)
        if reached != (head.revision, head.hash):
            raise ValueError(f"the log ends at revision {reached[0]}, not {head.revision}")


def image_bytes(before: bytes | None, after: bytes | None) -> int:
    """What a change counts against a limit of bytes."""
    return len(before or b"") + len(after or b"")


def fitting(changes: Iterable[tuple[int, int]], max_changes: int, max_bytes: int) -> int:
    """How many of these changes, given as (revision, bytes) in log order, an answer takes.

    As many whole revisions as the limits allow; if not even the first, as much of it as they allow,
    and at least one change.
    """
    count = size = whole = 0
    current = None
    for revision, change_bytes in changes:
        if revision != current:
            current, whole = revision, count
        size += change_bytes
        if count and (count >= max_changes or size > max_bytes):
            return whole or count
        count += 1
    return count


def is_meant(found: LoggedChange, question: LogQuestion) -> bool:
    """Whether the conditions of a question hold for a change; where it is does not matter."""
    header, method = found.header, question.method
    return (
        question.id in ("", found.change.id)
        and question.actor in ("", header.actor)
        and (method in ("", header.method) or header.method.endswith(f"/{method}"))
    )


def with_changes(commit: Commit, changes: tuple[Change, ...]) -> Commit:
    """A part of a commit; the hash stays that of the whole."""
    return Commit(
        commit.revision,
        commit.time,
        commit.actor,
        commit.method,
        commit.request_id,
        changes,
        commit.hash,
    )
