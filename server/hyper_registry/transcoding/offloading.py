"""Work that takes longer the larger something is: off the event loop if that is large."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, ParamSpec, TypeVar

from hyper_registry.services.calls import Answer

LARGE_BYTES: Final = 64 << 10
"""Reading or writing JSON of this size takes about a millisecond; of more, a thread does it."""

P = ParamSpec("P")
T = TypeVar("T")


async def in_thread_if(size: int, work: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
    """What `work` answers, done in a thread if `size` is large."""
    if size > LARGE_BYTES:
        return await asyncio.to_thread(work, *args, **named)
    return work(*args, **named)


def size_of(answer: Answer) -> int:
    """How many bytes an answer has in its wire form."""
    return len(answer) if isinstance(answer, bytes) else answer.ByteSize()
