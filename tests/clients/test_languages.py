"""The clients in Go and TypeScript: their own tests, and this registry as they see it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import tomllib
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import yaml

from nexus_registry import conformance
from ose.registry.client import AsyncRegistryClient, Entity, Mutation
from ose.registry.v1.registry_service_pb2 import WriteRequest
from tests.support.servers import program, serving
from tests.support.tools import ROOT, require_tool, unavailable

CLIENTS = ROOT / "clients"
STORIES = sorted(Path(conformance.__file__).parent.glob("stories/*.yaml"))
SECONDS = 240
pytestmark = pytest.mark.timeout(300)

TOUR = """\
registered tour-ledger with a lease
found tour-ledger
found tour-billing
without it breaks tour-billing in 1 step
not deleted, for its 1 relationship
watched tour-ledger become {unhealthy}
"""


@dataclass(frozen=True)
class Language:
    """A client, and how it is built, tested and run; commands run in its folder.

    `needs` are programs, and `installed` what has to be there besides. The file of the README's
    program is put at `program`, below a folder for it or below the client's own, and follows `run`.
    """

    name: str
    needs: tuple[str, ...]
    installed: str
    build: tuple[str, ...]
    check: tuple[str, ...]
    stories: tuple[str, ...]
    joined: tuple[str, ...]
    follow: tuple[str, ...]
    run: tuple[str, ...]
    tour: str
    program: str
    unhealthy: str
    transports: tuple[str, ...] = ("grpc",)

    @property
    def folder(self) -> Path:
        """Where it is."""
        return CLIENTS / self.name


GO = Language(
    name="go",
    needs=("go",),
    installed=".",
    build=("go", "vet", "./..."),
    check=("go", "test", "./..."),
    stories=("go", "test", "-count=1", "-v", "-run", "TestStories", "."),
    joined=("go", "test", "-count=1", "-v", "-run", "TestAnswersAreThoseOfSingleCalls", "."),
    follow=("go", "test", "-count=1", "-v", "-run", "TestRestarts", "."),
    run=("go", "run"),
    tour="./examples/tour",
    program="{tmp}/main.go",
    unhealthy="HEALTH_STATUS_UNHEALTHY",
)
TYPESCRIPT = Language(
    name="typescript",
    needs=("node", "npm"),
    installed="node_modules/.bin/tsc",
    build=("npm", "run", "build"),
    check=(
        *("node", "--test", "dist/tests/client.test.js", "dist/tests/coalescing.test.js"),
        "dist/tests/watch.test.js",
    ),
    stories=("node", "--test", "--test-reporter=spec", "dist/tests/stories.test.js"),
    joined=(
        *("node", "--test", "--test-reporter=spec", "--test-name-pattern=a registry"),
        "dist/tests/coalescing.test.js",
    ),
    follow=("node", "dist/tests/follow.js"),
    run=("node",),
    tour="dist/examples/tour.js",
    # From here Node.js finds the package by its name.
    program="dist/quick-start.mjs",
    unhealthy="UNHEALTHY",
    transports=("grpc", "http"),
)


async def run(*command: str, folder: Path, **environment: str) -> str:
    """What a command prints; fails with it if the command does."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, stdout=PIPE, stderr=STDOUT, env={**os.environ, **environment}
    )
    try:
        async with asyncio.timeout(SECONDS):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    text = output.decode()
    assert process.returncode == 0, f"{' '.join(command)}\n{text}"
    return text


@asynccontextmanager
async def served(files: list[Path], transport: str = "grpc") -> AsyncIterator[dict[str, str]]:
    """Serves a new registry for each of some stories; what tells a client's tests where."""
    async with AsyncExitStack() as stack:
        targets = {}
        for file in files:
            registry = await stack.enter_async_context(serving())
            targets[str(file)] = registry.url if transport == "http" else registry.target
        yield {"REGISTRY_STORIES": json.dumps(targets)}


@cache
def build(language: Language) -> None:
    """Builds a client, once."""
    asyncio.run(run(*language.build, folder=language.folder))


@pytest.fixture(scope="module", params=[GO, TYPESCRIPT], ids=lambda one: one.name)
def language(request: pytest.FixtureRequest) -> Language:
    """A client whose tools are here, built."""
    one: Language = request.param
    for tool in one.needs:
        require_tool(tool)
    if not (one.folder / one.installed).exists():
        unavailable(f"needs what clients/{one.name} is built with: make client-deps")
    build(one)
    return one


async def test_its_own_tests(language: Language) -> None:
    """Retries, errors, and the watch over connections that break in every way."""
    await run(*language.check, folder=language.folder)


each_transport = pytest.mark.parametrize(
    ("language", "transport"),
    [(one, transport) for one in (GO, TYPESCRIPT) for transport in one.transports],
    indirect=["language"],
    ids=lambda one: one.name if isinstance(one, Language) else one,
)


@each_transport
async def test_stories(language: Language, transport: str) -> None:
    """It is answered every step of every story as the Python client is."""
    async with served(STORIES, transport) as where:
        told = await run(*language.stories, folder=language.folder, **where)
    for file in STORIES:
        assert re.search(rf"(PASS: |✔ ).*{re.escape(file.name)}", told), told


@each_transport
async def test_joined_calls(language: Language, transport: str) -> None:
    """A client that joins calls is answered as one that does not, whatever each call comes to."""
    async with serving() as registry:
        # Which revision a call gets is chance; what is compared tells those of two digits as one.
        for number in range(10):
            mutation = Mutation(put_entity=Entity(id="others", type="t", name=str(number)))
            await registry.stubs.registry.Write(WriteRequest(mutations=[mutation]))
        target = registry.url if transport == "http" else registry.target
        told = await run(*language.joined, folder=language.folder, REGISTRY_COALESCING=target)
    assert re.search(r"(PASS: TestAnswers|✔ a registry answers joined)", told), told


@pytest.mark.parametrize(("field", "wrong"), [("revision", "3"), ("commit_time", "<time 9>")])
async def test_a_wrong_story(language: Language, field: str, wrong: str, tmp_path: Path) -> None:
    """An answer that is another one is noticed, and one that is the same where it may not be."""
    story = yaml.safe_load((STORIES[0].parent / "watching.yaml").read_text(encoding="utf-8"))
    story["steps"] = story["steps"][:3]
    story["steps"][2]["answers"][0][field] = wrong
    file = tmp_path / "wrong.yaml"
    file.write_text(yaml.safe_dump(story), encoding="utf-8")
    async with served([file]) as where:
        with pytest.raises(AssertionError, match=rf"answers\.0\.{field}: told"):
            await run(*language.stories, folder=language.folder, **where)


async def test_restarts(language: Language, tmp_path: Path) -> None:
    """A watch over a server that is killed and started again has every change once, in order."""
    names = ["a", "last"]
    heard: list[tuple[str, str]] = []
    async with (
        program(tmp_path / "registry.db") as server,
        AsyncRegistryClient(server.target, timeout=30) as client,
        asyncio.timeout(SECONDS),
    ):
        follow = await asyncio.create_subprocess_exec(
            *language.follow,
            cwd=language.folder,
            stdout=PIPE,
            env={**os.environ, "REGISTRY_RESTARTS": server.target},
        )
        assert follow.stdout is not None
        for name in names:
            await client.create_entity(Entity(id=name, type="host", name=name))
            while (line := (await follow.stdout.readline()).decode()) and name not in line.split():
                assert "event" not in line, line
            heard += re.findall(r"event (\d+) (\S+)", line)
            if name != names[-1]:
                await server.kill()
                await server.start()
        rest, _ = await follow.communicate()
    assert heard == [(str(revision), name) for revision, name in enumerate(names, 2)]
    assert (b"event" in rest, follow.returncode) == (False, 0)


async def test_the_tour(language: Language) -> None:
    """The example says what happens, also when it is run again."""
    expected = TOUR.format(unhealthy=language.unhealthy)
    async with serving() as registry:
        for _ in range(2):
            told = await run(
                *(*language.run, language.tour),
                folder=language.folder,
                REGISTRY_SERVER=registry.target,
            )
            assert told == expected


async def test_the_tour_in_python() -> None:
    """The example of the Python client says what the others say."""
    program = CLIENTS / "python" / "examples" / "tour.py"
    async with serving() as registry:
        told = await run(
            *(sys.executable, "-W", "error", str(program)),
            folder=program.parent,
            REGISTRY_SERVER=registry.target,
        )
    assert told == TOUR.format(unhealthy="HEALTH_STATUS_UNHEALTHY")


async def test_the_quick_start(language: Language, tmp_path: Path) -> None:
    """The README's first program prints what it should, as it stands there."""
    text = (language.folder / "README.md").read_text(encoding="utf-8")
    shown = re.search(r"```(?:go|ts)\n(.*?)```", text, re.DOTALL)
    assert shown is not None
    async with serving() as registry:
        file = language.folder / language.program.format(tmp=tmp_path)
        file.write_text(shown[1].replace("localhost:50051", registry.target), encoding="utf-8")
        told = await run(*language.run, str(file), folder=language.folder)
    assert re.sub("HEALTH_STATUS_", "", told) == (
        "ledger HEALTHY\nthere is no no-such-service\nthere is ledger\n"
    )


def versions() -> Iterator[tuple[str, str]]:
    """Where a version stands, and which."""
    for name in ("clients/python", "server"):
        file = ROOT / name / "pyproject.toml"
        yield name, tomllib.loads(file.read_text(encoding="utf-8"))["project"]["version"]
    said = re.search(
        r'Version = "(.*)"', (CLIENTS / "go" / "client.go").read_text(encoding="utf-8")
    )
    assert said is not None
    yield "clients/go", said[1]
    package = json.loads((CLIENTS / "typescript" / "package.json").read_text(encoding="utf-8"))
    yield "clients/typescript", package["version"]


def test_versions_are_in_step() -> None:
    """Server and clients of one release have one version."""
    assert len({version for _, version in versions()}) == 1, dict(versions())
