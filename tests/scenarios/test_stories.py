"""Golden files: what a caller of each service asks and is answered, step by step.

A story is a list of steps in YAML, each a call with its request as JSON and what it is answered.
Both stores must answer alike, but for what differs from run to run: made ids, times, tokens and the
epoch are replaced by names, equal ones by equal names. Steps are:

    call: EntityService/GetEntity     a unary or a server-streaming method, with `request`;
    requests: [...]                   a client-streaming method's messages, instead of `request`
    keep: {name: path.of.the.answer}  later requests may say `$name`
    open: w                           the watch stream `w` begins with this step's `call`
    read: w, events: 3                the next events of it
    read: w, until: MARK_SNAPSHOT_END what comes up to that mark

A story's answers are written anew with

    pytest tests/scenarios/test_stories.py --regenerate

which takes them from the store in memory. Read the difference before it is committed.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from google.protobuf import json_format
from google.protobuf.message_factory import GetMessageClass

from ose.registry.client._errors import from_rpc_error
from ose.registry.v1 import (
    admin_service_pb2,
    entity_service_pb2,
    graph_service_pb2,
    registry_service_pb2,
    relationship_service_pb2,
    watch_service_pb2,
)
from tests.support.servers import Stubs, serving

STORIES = sorted((Path(__file__).parent / "stories").glob("*.yaml"))
_SERVICES = {
    name: service
    for module in (
        admin_service_pb2, entity_service_pb2, graph_service_pb2, registry_service_pb2,
        relationship_service_pb2, watch_service_pb2,
    )
    for name, service in module.DESCRIPTOR.services_by_name.items()
}  # fmt: skip
_TIMES = {"created_at", "updated_at", "commit_time", "started_at"}
_TOKENS = {"next_page_token", "resume_token"}
# What depends on the store, the build or the size of encodings.
_LEFT_OUT = {"epoch", "token_epoch", "store", "store_bytes", "record_bytes", "server_version"}
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


class Story:
    """One run of a story: what it has kept, and which streams are open."""

    def __init__(self, stubs: Stubs) -> None:
        self._stubs = stubs
        self._kept: dict[str, str] = {}
        self._names: dict[str, dict[str, str]] = {"time": {}, "id": {}}
        self._streams: dict[str, tuple[Any, AsyncIterator[Any]]] = {}

    async def play(self, step: dict[str, Any]) -> dict[str, Any]:
        """Does a step; answers what it adds to the step: `answer`, `answers` or `error`."""
        try:
            if "read" in step:
                return {"answers": await self._read(step)}
            return await self._call(step)
        except grpc.aio.AioRpcError as caught:
            error = from_rpc_error(caught)
            told: dict[str, Any] = {"code": error.code.name, "reason": error.reason_text}
            if error.metadata:
                told["metadata"] = self._normal(dict(sorted(error.metadata.items())))
            if error.field_violations:
                told["fields"] = [violation.field for violation in error.field_violations]
            return {"error": told}

    def close(self) -> None:
        """Ends the streams."""
        for call, _ in self._streams.values():
            call.cancel()

    async def _call(self, step: dict[str, Any]) -> dict[str, Any]:
        service, _, name = step["call"].partition("/")
        method = _SERVICES[service].methods_by_name[name]
        request_type = GetMessageClass(method.input_type)
        answer_type = GetMessageClass(method.output_type)

        def parse(values: Any) -> Any:
            return json_format.ParseDict(self._filled(values), request_type())

        path = f"/{_SERVICES[service].full_name}/{name}"
        codecs = (request_type.SerializeToString, answer_type.FromString)
        channel, seconds = self._stubs.channel, 10
        if method.client_streaming:
            requests = [parse(values) for values in step["requests"]]
            both = channel.stream_stream(path, *codecs)(iter(requests), timeout=seconds)
            return {"answers": [self._told(message) async for message in both]}
        request = parse(step.get("request", {}))
        if "open" in step:
            call = channel.unary_stream(path, *codecs)(request)
            self._streams[step["open"]] = (call, aiter(call))
            return {}
        if method.server_streaming:
            stream = channel.unary_stream(path, *codecs)(request, timeout=seconds)
            return {"answers": [self._told(message) async for message in stream]}
        answer = await channel.unary_unary(path, *codecs)(request, timeout=seconds)
        for variable, field in step.get("keep", {}).items():
            value: Any = answer
            for part in field.split("."):
                value = value[int(part)] if part.isdigit() else getattr(value, part)
            self._kept[variable] = str(value)
        return {"answer": self._told(answer)}

    async def _read(self, step: dict[str, Any]) -> list[Any]:
        _, messages = self._streams[step["read"]]
        found: list[Any] = []
        async with asyncio.timeout(10):
            while len(found) < step.get("events", 1 << 30):
                told = self._told(await anext(messages))
                # How many revisions come in one message depends on the moment.
                found += told.pop("events", []) if "events" in step else [told]
                if "mark" in told and told["mark"] == step.get("until"):
                    break
        return found

    def _told(self, message: Any) -> Any:
        return self._normal(json_format.MessageToDict(message, preserving_proto_field_name=True))

    def _normal(self, value: Any, field: str = "") -> Any:
        match value:
            case dict():
                return {
                    str(self._normal(key)): self._normal(inner, key)
                    for key, inner in value.items()
                    if key not in _LEFT_OUT
                }
            case list():
                return [self._normal(inner, field) for inner in value]
            case str() if field in _TIMES:
                return self._name("time", value)
            case str() if field in _TOKENS:
                return "<token>"
            case str() if _UUID.fullmatch(value):
                return self._name("id", value)
        return value

    def _name(self, kind: str, value: str) -> str:
        names = self._names[kind]
        return names.setdefault(value, f"<{kind} {len(names) + 1}>")

    def _filled(self, value: Any) -> Any:
        match value:
            case dict():
                return {key: self._filled(inner) for key, inner in value.items()}
            case list():
                return [self._filled(inner) for inner in value]
            case str() if value.startswith("$"):
                return self._kept[value[1:]]
        return value


def read(file: Path) -> dict[str, Any]:
    """A story."""
    return yaml.safe_load(file.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def write(file: Path, story: dict[str, Any]) -> None:
    """Writes a story as it reads best."""
    text = yaml.safe_dump(story, sort_keys=False, width=100, allow_unicode=True)
    file.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("store", ["memory", "sqlite"])
@pytest.mark.parametrize("file", STORIES, ids=[file.stem for file in STORIES])
async def test_story(
    file: Path, store: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Each step of the story is answered as the file says, by either store."""
    told = read(file)
    database = "memory://" if store == "memory" else tmp_path / "registry.db"
    regenerate = request.config.getoption("--regenerate", default=False)
    async with serving(database) as running:
        story = Story(running.stubs)
        for number, step in enumerate(told["steps"]):
            asked = {k: v for k, v in step.items() if k not in {"answer", "answers", "error"}}
            found = {**asked, **await story.play(asked)}
            if regenerate:
                told["steps"][number] = found
            else:
                assert found == step, f"step {number} of {file.name}: {step.get('why', '')}"
        story.close()
    if regenerate and store == "memory":
        write(file, told)


def test_every_service_has_a_story() -> None:
    """Each method of each service is called in some story."""
    called = {step["call"] for file in STORIES for step in read(file)["steps"] if "call" in step}
    methods = {f"{name}/{m.name}" for name, s in _SERVICES.items() for m in s.methods}
    assert called == methods
