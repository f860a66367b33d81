"""A bare gRPC server of the registry's flavour: what a call costs when nothing is done in it.

The first four bytes of a request say how long the answer is.
"""

from __future__ import annotations

import asyncio
import signal
from functools import lru_cache
from typing import Any

import grpc
import uvloop

PATH = "/bench.Echo/Echo"


def request(size: int, answer: int) -> bytes:
    """A request of `size` bytes that is answered by `answer` bytes."""
    return answer.to_bytes(4, "big").ljust(size, b"x")


@lru_cache(maxsize=4096)
def _answer(size: int) -> bytes:
    return bytes(size)


async def _echo(message: bytes, _context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    return _answer(int.from_bytes(message[:4], "big"))


async def _serve() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    handler: grpc.RpcMethodHandler[Any, Any] = grpc.unary_unary_rpc_method_handler(_echo)
    service = grpc.method_handlers_generic_handler("bench.Echo", {"Echo": handler})
    server.add_generic_rpc_handlers([service])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"serving on {port}", flush=True)
    await stop.wait()
    await server.stop(None)


if __name__ == "__main__":
    uvloop.run(_serve())
