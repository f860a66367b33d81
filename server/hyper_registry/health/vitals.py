"""How the registry itself is: whether its store can be read and written, and its log is followed.

It is looked at every second. A write that failed is followed by attempts to write, so that a
registry to which nobody sends anything any more, because it said so, notices that it is well again.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog

from hyper_registry.model.errors import CommitUnknown, RegistryError, StoreFull
from hyper_registry.registry.engine import Engine
from hyper_registry.watch.following import Follower

LEAST_ROOM_BYTES = 1 << 20
"""With less room on its disk than this, the registry says that the disk is full."""

PATIENCE_SECONDS = 15.0
"""How long the store may leave the registry without an answer."""

LAG_SECONDS = 30.0
"""For so long those who follow the log may be behind what was committed."""

PARTS = ("store", "disk", "log")
"""What is looked at."""

_LOOK_SECONDS = 1.0
_UNKNOWN = "it is not known what the last commit did"

_log = structlog.get_logger(__name__)


class Vitals:
    """What is wrong with one registry. `start` when it serves, `aclose` before it ends.

    `changed` is called when the registry turns, with whether it is well. `problems` says what is
    wrong, by part, and is replaced as a whole, so that it may be read in any thread.
    """

    def __init__(
        self,
        engine: Engine,
        followers: Sequence[Follower],
        changed: Callable[[bool], Awaitable[None]],
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self.problems: Mapping[str, str] = {}
        self._engine = engine
        self._followers = followers
        self._changed = changed
        self._steady = steady
        # When which revision was the latest, for as long as followers may be behind.
        self._seen: deque[tuple[float, int]] = deque()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begins to look."""
        self._task = asyncio.create_task(self._run(), name="vitals")

    async def aclose(self) -> None:
        """Ends; nothing turns any more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def look(self) -> None:
        """Looks once, and tells if the registry has turned."""
        found = {
            part: problem
            for part, problem in zip(
                PARTS, (self._store(), await self._disk(), self._lag()), strict=True
            )
            if problem
        }
        failure = await self._writing()
        if failure is not None:
            part = "disk" if isinstance(failure, StoreFull) else "store"
            is_unknown = isinstance(failure, CommitUnknown)
            found.setdefault(part, _UNKNOWN if is_unknown else failure.message)
        before, self.problems = self.problems, found
        if bool(found) != bool(before):
            event = "registry_unwell" if found else "registry_well_again"
            _log.warning(event, **found)
            await self._changed(not found)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                await self.look()
            except Exception:  # noqa: BLE001 - the next look may do better
                _log.exception("vitals_not_known")

    def _store(self) -> str:
        engine = self._engine
        if engine.committer.lost is not None:
            return engine.committer.lost.message
        if engine.committer.unknown:
            return _UNKNOWN
        if self._steady() - engine.verified_at > PATIENCE_SECONDS:
            return f"it has not answered for {PATIENCE_SECONDS:g} s"
        return engine.unverified

    async def _disk(self) -> str:
        try:
            room = await self._engine.store.room()
        except OSError:
            # What is wrong is seen where the store is read.
            return ""
        is_full = room is not None and room < LEAST_ROOM_BYTES
        return f"there are less than {LEAST_ROOM_BYTES >> 20} MiB of room" if is_full else ""

    def _lag(self) -> str:
        if self._engine.outdated:
            return self._engine.outdated
        now, visible = self._steady(), self._engine.view.visible
        self._seen.append((now, visible))
        while len(self._seen) > 1 and self._seen[1][0] <= now - LAG_SECONDS:
            self._seen.popleft()
        since, revision = self._seen[0]
        if since > now - LAG_SECONDS:
            return ""
        behind = [one for one in self._followers if one.tail.revision < revision]
        names = ", ".join(sorted(type(one).__name__.lower() for one in behind))
        return f"{names}: more than {LAG_SECONDS:g} s behind it" if behind else ""

    async def _writing(self) -> RegistryError | None:
        """What keeps the registry from writing, after a write that failed."""
        committer = self._engine.committer
        if committer.failure is None or committer.unknown:
            return None
        try:
            await committer.attempt()
        except RegistryError:
            return committer.failure
        return None
