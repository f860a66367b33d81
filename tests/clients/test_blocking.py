"""The blocking client: the same answers from threads, and a tidy end."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import pytest
from google.protobuf.message import Message
from grpc import StatusCode

from ose.registry.client import (
    Cancelled,
    Entity,
    Mutation,
    NotFound,
    RegistryClient,
    WatchKind,
)
from ose.registry.client._portal import HAND_OVER_ITEMS
from ose.registry.v1.entity_service_pb2 import GetEntityRequest, ListEntitiesResponse
from ose.registry.v1.watch_service_pb2 import WatchRequest
from tests.clients.conftest import QUICK
from tests.clients.scripted import Context, Hanging, ScriptedServer, answers, fails, streams
from tests.clients.test_import import IMPORT, Registry, batch
from tests.clients.test_watch import WATCH, changes

T = TypeVar("T")
CLIENTS = Path(__file__).parents[2] / "clients" / "python"


def threads() -> list[threading.Thread]:
    """The threads of blocking clients."""
    return [one for one in threading.enumerate() if one.name == "ose-registry-client"]


@pytest.fixture
def blocking(server: ScriptedServer) -> Iterator[RegistryClient]:
    """A blocking client of the scripted server, which runs in the test's loop."""
    assert threads() == []
    with RegistryClient(server.target, retry=QUICK, timeout=5) as client:
        yield client
    assert threads() == []


async def in_thread(work: Callable[[], T]) -> T:
    """What blocks, done beside the loop that the server runs in."""
    return await asyncio.to_thread(work)


async def test_calls(server: ScriptedServer, blocking: RegistryClient) -> None:
    """A call blocks until it is answered, with retries, or raises the error of the tree."""
    a = Entity(id="a")
    server.on("EntityService/GetEntity", fails(StatusCode.UNAVAILABLE), answers(a))
    assert await in_thread(lambda: blocking.get_entity("a", min_revision=3)) == a
    server.on("EntityService/GetEntity", fails(StatusCode.NOT_FOUND, "ENTITY_NOT_FOUND"))
    with pytest.raises(NotFound, match="ENTITY_NOT_FOUND"):
        await in_thread(lambda: blocking.get_entity("b"))


async def test_many_threads(server: ScriptedServer, blocking: RegistryClient) -> None:
    """Threads share a client: each gets its own answers."""

    async def echo(request: GetEntityRequest, context: Context) -> Message:
        await asyncio.sleep(0.001)
        return Entity(id=request.id)

    server.on("EntityService/GetEntity", echo)

    def one(thread: int) -> bool:
        ids = [f"{thread}-{n}" for n in range(20)]
        return [blocking.get_entity(each).id for each in ids] == ids

    assert all(await asyncio.gather(*(asyncio.to_thread(one, n) for n in range(8))))


async def test_listing(server: ScriptedServer, blocking: RegistryClient) -> None:
    """What yields is a generator, in order, over all pages."""
    pages = [
        ListEntitiesResponse(
            entities=[Entity(id=f"{page}-{n}") for n in range(300)],
            next_page_token="" if page == 4 else f"p{page + 1}",
        )
        for page in range(5)
    ]
    server.on("EntityService/ListEntities", *(answers(page) for page in pages))
    found = await in_thread(lambda: [entity.id for entity in blocking.list_entities()])
    assert found == [f"{page}-{n}" for page in range(5) for n in range(300)]


async def test_hand_over_is_bounded(server: ScriptedServer, blocking: RegistryClient) -> None:
    """No more pages are fetched than the hand-over takes."""
    count = 0

    async def page(request: Any, context: Context) -> Message:
        nonlocal count
        count += 1
        return ListEntitiesResponse(entities=[Entity(id=str(count))], next_page_token="on")

    server.on("EntityService/ListEntities", page)
    listing = blocking.list_entities()
    assert (await in_thread(lambda: next(listing))).id == "1"
    await asyncio.sleep(0.5)
    # One was taken; the rest fills the hand-over, and one more waits at its door.
    assert count <= HAND_OVER_ITEMS + 2
    rest = await in_thread(lambda: [next(listing).id for _ in range(100)])
    assert rest == [str(n) for n in range(2, 102)]
    listing.close()


async def test_leaving_a_loop(server: ScriptedServer, blocking: RegistryClient) -> None:
    """Leaving the loop over a watch ends its stream at the server."""
    ended = asyncio.Event()

    async def handler(request: WatchRequest, context: Context) -> AsyncIterator[Message]:
        try:
            yield changes(1)
            await asyncio.Event().wait()
        finally:
            ended.set()

    server.on(WATCH, handler)

    def first() -> WatchKind:
        for update in blocking.watch(start_revision=1):
            return update.kind
        raise AssertionError("no update")

    assert await in_thread(first) is WatchKind.CHANGES
    await asyncio.wait_for(ended.wait(), 5)


async def test_import(server: ScriptedServer, blocking: RegistryClient) -> None:
    """Batches are made in the consumer's thread, which may block and call the client meanwhile."""
    registry = Registry(7, 2)
    server.on(IMPORT, registry)
    server.on("EntityService/GetEntity", answers(Entity(id="a")))
    makers = set()

    def batches() -> Iterator[Sequence[Mutation]]:
        for number in range(30):
            makers.add(threading.get_ident())
            blocking.get_entity("a")
            yield batch(number)

    def load() -> tuple[int, list[int]]:
        numbers = [r.sequence for r in blocking.import_batches(batches(), window=4)]
        return threading.get_ident(), numbers

    consumer, numbers = await in_thread(load)
    assert numbers == list(range(1, 31))
    assert registry.applied == list(range(30))
    assert makers == {consumer}


async def test_failing_source(server: ScriptedServer, blocking: RegistryClient) -> None:
    """What the batches' iterable raises is raised in the loop over the acknowledgements."""
    server.on(IMPORT, Registry())

    def batches() -> Iterator[Sequence[Mutation]]:
        yield batch(0)
        raise OSError("the file is broken")

    responses = blocking.import_batches(batches())
    assert (await in_thread(lambda: next(responses))).sequence == 1
    with pytest.raises(OSError, match="the file is broken"):
        await in_thread(lambda: next(responses))


async def test_closing_ends_calls(server: ScriptedServer, blocking: RegistryClient) -> None:
    """Closing the client ends the calls and loops of other threads; later calls are a mistake."""
    hanging = Hanging()
    server.on("EntityService/GetEntity", hanging)
    server.on(WATCH, streams(changes(1), "hang"))
    call = asyncio.create_task(in_thread(lambda: blocking.get_entity("a")))
    loop = asyncio.create_task(in_thread(lambda: list(blocking.watch(start_revision=1))))
    await hanging.arrived.wait()
    await asyncio.sleep(0.1)
    await in_thread(blocking.close)
    for waiting in (call, loop):
        with pytest.raises(Cancelled):
            await waiting
    assert threads() == []
    with pytest.raises(RuntimeError, match="the client is closed"):
        blocking.get_entity("a")
    with pytest.raises(RuntimeError, match="the client is closed"):
        next(blocking.watch())
    blocking.close()


async def test_forgotten_clients(server: ScriptedServer) -> None:
    """A client that nobody holds any more is closed, its thread with it."""
    server.on("EntityService/GetEntity", answers(Entity(id="a")))

    def use() -> None:
        RegistryClient(server.target).get_entity("a")

    await in_thread(use)
    gc.collect()
    assert threads() == []


async def test_generators_hold_their_client(server: ScriptedServer) -> None:
    """A client lives as long as what it yields from, and no longer."""
    page = ListEntitiesResponse(entities=[Entity(id="a")])
    server.on("EntityService/ListEntities", answers(page))
    found = await in_thread(lambda: list(RegistryClient(server.target).list_entities()))
    assert found == list(page.entities)
    gc.collect()
    assert threads() == []


def test_fork() -> None:
    """In a forked child the client refuses, instead of waiting for a thread that is not there."""
    client = RegistryClient("127.0.0.1:1")
    child = os.fork()
    if child == 0:
        try:
            client.get_entity("a")
        except RuntimeError as error:
            client.close()
            os._exit(0 if "fork" in str(error) else 1)
        os._exit(2)
    _, status = os.waitpid(child, 0)
    client.close()
    assert os.waitstatus_to_exitcode(status) == 0


def run(program: str, **options: Any) -> subprocess.Popen[str]:
    """Starts a program of its own that uses the client."""
    return subprocess.Popen(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONPATH": str(CLIENTS)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


async def test_end_of_a_program(server: ScriptedServer) -> None:
    """A program that never closes its client ends all the same, at once and in silence."""
    server.on("EntityService/GetEntity", answers(Entity(id="a")))
    server.on(WATCH, streams(changes(1), "hang"))
    program = run(
        "from ose.registry.client import RegistryClient\n"
        f"client = RegistryClient({server.target!r})\n"
        "watch = client.watch(start_revision=1)\n"
        "print(client.get_entity('a').id, next(watch).revision)\n"
    )
    out, err = await in_thread(lambda: program.communicate(timeout=30))
    assert (out, err, program.returncode) == ("a 1\n", "", 0)


async def test_interrupt(server: ScriptedServer) -> None:
    """Ctrl-C ends a program that waits for changes."""
    server.on(WATCH, streams(changes(1), "hang"))
    program = run(
        "from ose.registry.client import RegistryClient\n"
        f"with RegistryClient({server.target!r}) as client:\n"
        "    try:\n"
        "        for update in client.watch(start_revision=1):\n"
        "            print(update.revision, flush=True)\n"
        "    except KeyboardInterrupt:\n"
        "        print('interrupted')\n"
    )
    assert program.stdout is not None
    assert await in_thread(program.stdout.readline) == "1\n"
    await in_thread(lambda: time.sleep(0.2))
    program.send_signal(signal.SIGINT)
    out, err = await in_thread(lambda: program.communicate(timeout=30))
    assert (out, err, program.returncode) == ("interrupted\n", "", 0)
