"""What the committer tells of its work, to whoever measures it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol


@dataclass(slots=True)
class CommitReport:
    """What became of one transaction.

    `revisions` and `changes` are 0 if there was nothing to write; `failure` is the reason of the
    error that all its requests were told, '' if there is none.
    """

    revisions: int = 0
    changes: int = 0
    failure: str = ""


class CommitObserver(Protocol):
    """Is told of requests and of transactions, on the event loop."""

    def asked(self) -> object:
        """A request comes, in its caller's context; `committing` gets what this answers."""

    def committing(self, asked: Sequence[object]) -> AbstractContextManager[CommitReport]:
        """Transactions run inside of this, with the requests that they decide."""


class Unobserved:
    """An observer that does nothing."""

    def asked(self) -> object:
        """Nothing is noted."""
        return None

    def committing(self, asked: Sequence[object]) -> AbstractContextManager[CommitReport]:
        """The report is not read."""
        return nullcontext(CommitReport())
