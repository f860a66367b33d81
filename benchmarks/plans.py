"""What the load generator can be asked to do, and what it tells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

MARK = rb"[@|](\d{8})"
"""How a change is numbered, so that it can be found in whatever message it is sent in."""


def mark(number: int, sign: str = "@") -> str:
    """The number of a change, as it is put into it; `sign` is @ or |."""
    return f"{sign}{number:08d}"


@dataclass(frozen=True)
class Calls:
    """Unary calls, `in_flight` at a time, for `seconds`, or until the requests run out.

    Requests that `repeat` are taken again and again. Those that do not fit into a frame are sent by
    an ordinary client, which takes more time. `warm_up` seconds are not counted. A `token` is sent
    as the caller's, with each of them. The calls are on so many `connections`, the same number on
    each.
    """

    port: int
    path: str
    requests: Sequence[bytes]
    in_flight: int
    seconds: float
    repeat: bool = True
    warm_up: float = 0.5
    token: str = ""
    connections: int = 1


@dataclass(frozen=True)
class Gets:
    """HTTP requests for paths, again and again, on `connections` of their own, for `seconds`."""

    port: int
    paths: Sequence[str]
    connections: int
    seconds: float
    warm_up: float = 0.5


@dataclass(frozen=True)
class Stream:
    """Messages on one bidirectional call, `window` of them unanswered at most.

    `count` is how many things they hold. With `one_answer`, all are answered at the end, together.
    """

    port: int
    path: str
    messages: Sequence[bytes]
    count: int
    window: int = 8
    one_answer: bool = False
    token: str = ""


@dataclass(frozen=True)
class Paced:
    """Messages on bidirectional calls by turns, `per_second` in all, again and again.

    An answer that is not as long as its message has failed. `warm_up` seconds are not counted.
    """

    port: int
    path: str
    messages: Sequence[bytes]
    streams: int
    per_second: float
    seconds: float
    warm_up: float = 2.0


@dataclass(frozen=True)
class Fetch:
    """Large answers, page by page, until one is complete; `count` of the report is bytes.

    The page token of a request has the number `token_field`, that of an answer `next_field`. It is
    done so many `times`, of which the report has the median, after one time that is not counted.
    """

    port: int
    path: str
    request: bytes
    token_field: int
    next_field: int
    times: int = 1


@dataclass(frozen=True)
class Backlog:
    """Watches that begin in the past, timed until each has had what has the number `last`.

    After `patience` seconds it is late.
    """

    port: int
    path: str
    request: bytes
    watchers: int
    connections: int
    events: int
    last: int
    half_close: bool = True
    token: str = ""
    patience: float = 120.0


@dataclass(frozen=True)
class Live:
    """Watches that follow writes as they are made, `per_second`, each with its number in it.

    The latencies of the report are from sending a write to receiving it, one for each watcher and
    write; `answers` are from sending a write to its answer.
    """

    port: int
    watch_path: str
    watch_request: bytes
    watchers: int
    connections: int
    write_path: str
    writes: Sequence[bytes]
    per_second: float
    half_close: bool = True
    token: str = ""


@dataclass(frozen=True)
class Statements:
    """A SQL statement, prepared, on `connections` to a PostgreSQL, for `seconds`.

    Parameters that `repeat` are taken again and again; they are text. `warm_up` seconds are not
    counted.
    """

    port: int
    user: str
    statement: str
    parameters: Sequence[tuple[bytes, ...]]
    connections: int
    seconds: float
    repeat: bool = True
    warm_up: float = 0.5


@dataclass(frozen=True)
class Notified:
    """As `Live`, of a PostgreSQL: connections that listen, and a statement that notifies them."""

    port: int
    user: str
    channel: str
    watchers: int
    statement: str
    writes: Sequence[tuple[bytes, ...]]
    per_second: float


@dataclass(frozen=True)
class Embedded:
    """Statements of an embedded database, by `threads` of a process that opens it.

    `script` is run first, each of it timed in `answers`; opening it is the first of them. Then
    `statement` is, with each of `parameters`, until `seconds` have passed if they `repeat`. `warm`
    reads with all of them once before.
    """

    database: str
    script: Sequence[str] = ()
    statement: str = ""
    parameters: Sequence[dict[str, str | int | bytes]] = ()
    threads: int = 1
    seconds: float = 0.0
    repeat: bool = False
    warm: bool = False
    buffer_mib: int = 1024


Plan = Calls | Gets | Stream | Paced | Fetch | Backlog | Live | Statements | Notified | Embedded


@dataclass
class Report:
    """What was measured; times are in seconds, `own_cpu` is the load generator's.

    It is late if calls were not answered that were made in time. `memory_mib` and `rows` are told
    of an embedded database only: what its process holds, and how many rows all answers had.
    """

    count: int = 0
    seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    answers: list[float] = field(default_factory=list)
    failed: int = 0
    is_late: bool = False
    own_cpu: float = 0.0
    server_cpu: float = 0.0
    memory_mib: float = 0.0
    rows: int = 0

    @property
    def per_second(self) -> float:
        """How much was done in a second."""
        return self.count / self.seconds if self.seconds else 0.0
