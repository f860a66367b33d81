"""What the workers behind one port tell each other, so that each can answer for all of them.

Each listens on a socket of this machine that has a name and no file. It is asked a question, a
word and the end of the line, and closes the connection behind its answer.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing, suppress

Answers = Mapping[str, Callable[[], Awaitable[bytes]]]
"""What is answered to which question."""

PATIENCE_SECONDS = 2.0
"""For so long a worker is waited for; one that stands still must not keep the others' answers."""

_READ_BYTES = 64 << 10
_LARGEST_QUESTION_BYTES = 64


class Siblings:
    """The workers of a group, of which this one has a `number` from 1 to `count`."""

    def __init__(self, group: str, number: int, count: int) -> None:
        self.number = number
        self._group = group
        self._others = [n for n in range(1, count + 1) if n != number]
        self._server: asyncio.Server | None = None
        self._answers: Answers = {}

    async def start(self, answers: Answers) -> None:
        """Begins to answer the others. Raises OSError."""
        self._answers = answers
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listening.bind(self._address(self.number))
            self._server = await asyncio.start_unix_server(
                self._answer, sock=listening, limit=_LARGEST_QUESTION_BYTES
            )
        except BaseException:
            listening.close()
            raise

    async def aclose(self) -> None:
        """Answers no more."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def ask(self, question: str) -> dict[int, bytes | None]:
        """What each of the others answers; None of those that do not, or not in time."""
        asked = [asyncio.to_thread(self._ask, number, question) for number in self._others]
        return dict(zip(self._others, await asyncio.gather(*asked), strict=True))

    def _address(self, number: int) -> str:
        return f"\0nexus-registry-{self._group}-{number}"

    def _ask(self, number: int, question: str) -> bytes | None:
        answer = bytearray()
        try:
            with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as line:
                line.settimeout(PATIENCE_SECONDS)
                line.connect(self._address(number))
                line.sendall(f"{question}\n".encode())
                while piece := line.recv(_READ_BYTES):
                    answer += piece
        except OSError:
            return None
        return bytes(answer) or None

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(OSError, ValueError, TimeoutError):
                async with asyncio.timeout(PATIENCE_SECONDS):
                    asked = await reader.readline()
                    answer = self._answers.get(asked.decode(errors="replace").strip())
                    if answer is not None:
                        writer.write(await answer())
                        await writer.drain()
        finally:
            writer.close()
