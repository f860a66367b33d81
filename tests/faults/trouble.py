"""What goes wrong outside the server: made here, by the tools that the system has for it."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.servers import Program
from tests.support.tools import find_tool, require_tool, unavailable

_MIB = 1 << 20


@asynccontextmanager
async def failing_calls(server: Program, calls: str, error: str) -> AsyncIterator[None]:
    """System calls of a running server on its database fail while the block runs.

    `calls` are names, separated by commas, and `error` is a name like EIO. Only strace can do that
    to a program as it is.
    """
    strace = require_tool("strace")
    paths = [argument for end in ("", "-wal", "-shm") for argument in ("-P", server.database + end)]
    tracing = await asyncio.create_subprocess_exec(
        strace, "-f", "-p", str(server.pid), *paths, "-e", f"trace={calls}",
        "-e", f"inject={calls}:error={error}", "-o", "/dev/null",
        stdin=DEVNULL, stdout=DEVNULL, stderr=PIPE,
    )  # fmt: skip
    assert tracing.stderr is not None
    try:
        said = await asyncio.wait_for(tracing.stderr.readline(), 10)
        if b"attached" not in said:
            unavailable(f"needs strace to attach to a process: {said.decode().strip()}")
        yield
    finally:
        if tracing.returncode is None:
            tracing.terminate()
        await asyncio.wait_for(tracing.stderr.read(), 10)
        await tracing.wait()


@dataclass(frozen=True)
class SmallDisk:
    """A file system of its own, of a few MiB.

    `folder` is where a server that is started `within` a command finds it, and `seen` where the
    test does, given the server's process number.
    """

    kind: str
    folder: Path
    within: Sequence[str] = ()

    def seen(self, server: Program) -> Path:
        """The folder as the test sees it."""
        if not self.within:
            return self.folder
        return Path(f"/proc/{server.pid}/root{self.folder}")

    def fill(self, server: Program) -> int:
        """Takes all the room that there is; answers how much that was."""
        taken = 0
        descriptor = os.open(self.seen(server) / "filler", os.O_WRONLY | os.O_CREAT)
        try:
            for size in (_MIB, 4096, 1):
                while True:
                    try:
                        os.posix_fallocate(descriptor, taken, size)
                    except OSError as error:
                        if error.errno != errno.ENOSPC:
                            raise
                        break
                    taken += size
        finally:
            os.close(descriptor)
        return taken

    def free(self, server: Program) -> None:
        """Gives the room back."""
        (self.seen(server) / "filler").unlink()


@contextmanager
def small_disk(folder: Path, size: int) -> Iterator[SmallDisk]:
    """The best small file system that may be made here: a real one in a file, else one in memory.

    Without root, a namespace of the server's own has one in memory.
    """
    mount = find_tool("mount")
    make = find_tool("mkfs.ext4") or find_tool("/sbin/mkfs.ext4")
    folder.mkdir()
    if os.getuid() == 0 and mount is not None and make is not None:
        image = folder.with_suffix(".img")
        with image.open("wb") as file:
            file.truncate(size)
        _run(make, "-q", "-F", "-m", "0", image)
        if _run(mount, "-o", "loop", image, folder):
            try:
                yield SmallDisk("ext4 in a loop device", folder)
            finally:
                _run("umount", folder)
                image.unlink()
            return
        image.unlink()
    script = f'mount -t tmpfs -o size={size} none "{folder}" && exec "$@"'
    within = ("unshare", "-Urm", "sh", "-c", script, "sh")
    if find_tool("unshare") is None or not _run(*within, "true"):
        unavailable("needs a small file system: root and loop devices, or user namespaces")
    yield SmallDisk("tmpfs in a namespace", folder, within)


class SetClock:
    """The time of day for a program that is started with `environment`, set while it runs.

    Its other clocks go on as they are, as they do when somebody sets a machine's clock.
    """

    def __init__(self, path: Path) -> None:
        require_tool("faketime")
        library = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
        if library is None:
            unavailable("needs libfaketime.so.1 under /usr/lib, which comes with faketime")
        self._path = path
        self.set(0)
        self.environment = {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(path),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            # The times of files are for others to fake.
            "NO_FAKE_STAT": "1",
        }

    def set(self, seconds: int) -> None:
        """Sets the clock so far ahead of the true time, at once."""
        new = self._path.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n", encoding="utf-8")
        new.replace(self._path)


def _run(*command: str | Path) -> bool:
    return subprocess.run(command, stdin=DEVNULL, capture_output=True, check=False).returncode == 0
