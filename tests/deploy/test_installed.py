"""What the distributions ask for is all that their programs need: an image has nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.tools import ROOT

# A server that is asked over HTTP, and by a WebSocket's handshake, without what tests bring along.
_PROGRAM = """
import asyncio, json, socket, sys

class Missing:
    names = frozenset(json.loads(sys.argv[1]))

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
from hyper_registry.app import Server
from hyper_registry.config import Config

UPGRADE = ("Connection: Upgrade\\r\\nUpgrade: websocket\\r\\nSec-WebSocket-Version: 13\\r\\n"
           "Sec-WebSocket-Key: MDEyMzQ1Njc4OTAxMjM0NQ==\\r\\n")

async def ask(port, path, headers=""):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\\r\\nHost: localhost\\r\\n{headers}\\r\\n".encode())
    print(path, (await reader.readline()).split()[1].decode())
    writer.close()

async def main():
    config = Config("memory://", "127.0.0.1:0", "127.0.0.1:0", otlp_endpoint="http://127.0.0.1:9")
    server = Server(config)
    await server.start()
    for path in ("/readyz", "/metrics", "/docs", "/openapi.json", "/api/v1/entities"):
        await ask(server.http_port, path)
    await ask(server.http_port, "/ws", UPGRADE)
    await server.aclose()

asyncio.run(main())
"""


def required(name: str) -> set[str]:
    """The names of a distribution and of all that it asks for, here and now."""
    found = set[tuple[str, str]]()
    waiting = [(name, "")]
    while waiting:
        one = waiting.pop()
        if one in found:
            continue
        found.add(one)
        for text in metadata.requires(one[0]) or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": one[1]}):
                waiting += [(requirement.name, extra) for extra in ("", *requirement.extras)]
    return {canonicalize_name(name) for name, _ in found}


def test_a_server_needs_nothing_else() -> None:
    """It serves without everything that is installed for other reasons."""
    needed = required("hyper-registry")
    missing = sorted(
        module
        for module, owners in metadata.packages_distributions().items()
        if needed.isdisjoint(map(canonicalize_name, owners))
    )
    assert {"pytest", "httpx", "hypothesis"} <= {*missing}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, json.dumps(missing)],
        cwd=ROOT / "server",
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    answers = [line for line in done.stdout.splitlines() if line.startswith("/")]
    assert answers == [
        "/readyz 200",
        "/metrics 200",
        "/docs 200",
        "/openapi.json 200",
        "/api/v1/entities 200",
        "/ws 101",
    ]
