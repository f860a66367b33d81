"""Golden files: what a caller of each service asks and is answered, step by step.

A story is a list of steps in YAML, each a call with its request as JSON and what it is answered.
Both stores must answer alike over both transports, but for what differs from run to run: made ids,
times, tokens and the epoch are replaced by names, equal ones by equal names. What changed nothing
is then asked again over the other transport, and must be answered the very same. Steps are:

    call: EntityService/GetEntity     a unary or a server-streaming method, with `request`;
    requests: [...]                   a client-streaming method's messages, instead of `request`
    keep: {name: path.of.the.answer}  later requests may say `$name`
    open: w                           the watch stream `w` begins with this step's `call`
    read: w, events: 3                the next events of it; `changes`, of a graph that is watched
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
from google.api.annotations_pb2 import http
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.timestamp_pb2 import Timestamp

from nexus_registry.conformance.http_channel import rules_of
from nexus_registry.conformance.stubs import Stubs
from ose.registry.client._errors import from_rpc_error
from ose.registry.v1 import (
    admin_service_pb2,
    entity_service_pb2,
    feature_service_pb2,
    graph_service_pb2,
    lease_service_pb2,
    plugin_service_pb2,
    registry_service_pb2,
    relationship_service_pb2,
    search_service_pb2,
    watch_service_pb2,
)
from tests.support.refusals import check_details
from tests.support.servers import serving

STORIES = sorted((Path(__file__).parent / "stories").glob("*.yaml"))
_SERVICES = {
    name: service
    for module in (
        admin_service_pb2, entity_service_pb2, feature_service_pb2, graph_service_pb2,
        lease_service_pb2, plugin_service_pb2, registry_service_pb2, relationship_service_pb2,
         search_service_pb2, watch_service_pb2,
    )
    for name, service in module.DESCRIPTOR.services_by_name.items()
}  # fmt: skip
_TIMES = {"created_at", "updated_at", "commit_time", "started_at", "time", "now"}
_TOKENS = {"next_page_token", "resume_token"}
# What depends on the store, the build or the size of encodings.
_LEFT_OUT = {"epoch", "token_epoch", "store", "store_bytes", "record_bytes", "server_version"}
_LEFT_OUT |= {"request_id", "memory_bytes", "data", "remaining"}
_MOMENTARY = {"now", "memoryBytes", "storeBytes", "data", "remaining"}
_SECONDS = 10
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


class Story:
    """One run of a story: what it has kept, and which streams are open.

    It is played through the first stubs; the others, on the same server, are asked what changes
    nothing once more.
    """

    def __init__(self, stubs: Stubs, others: Stubs) -> None:
        self._stubs = stubs
        self._others = others
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
        forms = step["requests"] if method.client_streaming else [step.get("request", {})]
        requests = [json_format.ParseDict(self._filled(form), request_type()) for form in forms]
        if "open" in step:
            call = _stub(self._stubs, method)(requests[0])
            self._streams[step["open"]] = (call, aiter(call))
            return {}
        messages, error = await ask(self._stubs, method, requests)
        if error is not None or _only_reads(method):
            again = await ask(self._others, method, requests)
            assert _exact(messages, error) == _exact(*again), "the transports differ"
        if error is not None:
            raise error
        if method.server_streaming:
            return {"answers": [self._told(message) for message in messages]}
        for variable, field in step.get("keep", {}).items():
            value: Any = messages[0]
            for part in field.split("."):
                value = value[int(part)] if part.isdigit() else getattr(value, part)
            is_time = isinstance(value, Timestamp)
            self._kept[variable] = value.ToJsonString() if is_time else str(value)
        return {"answer": self._told(messages[0])}

    async def _read(self, step: dict[str, Any]) -> list[Any]:
        _, messages = self._streams[step["read"]]
        found: list[Any] = []
        part = next((name for name in ("events", "changes") if name in step), "")
        async with asyncio.timeout(10):
            while len(found) < step.get(part, 1 << 30):
                told = self._told(await anext(messages))
                # How many revisions come in one message depends on the moment.
                found += told.pop(part, []) if part else [told]
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


async def ask(
    stubs: Stubs, method: MethodDescriptor, requests: list[Any]
) -> tuple[list[Any], grpc.aio.AioRpcError | None]:
    """Makes a call; what was answered, and what ended it if that is an error."""
    options: Any = {"timeout": _SECONDS, "metadata": (("x-request-id", "story"),)}
    call, messages = _stub(stubs, method), list[Any]()
    try:
        if method.server_streaming:
            asked = iter(requests) if method.client_streaming else requests[0]
            async for message in call(asked, **options):
                messages.append(message)
        else:
            messages.append(await call(requests[0], **options))
    except grpc.aio.AioRpcError as error:
        return messages, error
    return messages, None


def _stub(stubs: Stubs, method: MethodDescriptor) -> Any:
    kinds = ["stream" if s else "unary" for s in (method.client_streaming, method.server_streaming)]
    return getattr(stubs.channel, "_".join(kinds))(
        f"/{method.containing_service.full_name}/{method.name}",
        GetMessageClass(method.input_type).SerializeToString,
        GetMessageClass(method.output_type).FromString,
    )


def _only_reads(method: MethodDescriptor) -> bool:
    (rule, *_) = rules_of(method)
    return bool(rule.get) or rule.post.endswith("/search")


def _exact(messages: list[Any], error: grpc.aio.AioRpcError | None) -> Any:
    """All of an outcome but the moment of it: of an error its code, message and every detail."""
    found = [*messages, *([] if error is None else [check_details(error)])]
    return [_timeless(json_format.MessageToDict(message)) for message in found]


def _timeless(value: Any, field: str = "") -> Any:
    match value:
        case dict():
            return {
                key: _timeless(inner, key) for key, inner in value.items() if key not in _MOMENTARY
            }
        case list():
            return [_timeless(inner) for inner in value]
        case str() if field == "message":
            return _TIME.sub("<time>", value)
    return value


def read(file: Path) -> dict[str, Any]:
    """A story."""
    return yaml.safe_load(file.read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def write(file: Path, story: dict[str, Any]) -> None:
    """Writes a story as it reads best."""
    text = yaml.safe_dump(story, sort_keys=False, width=100, allow_unicode=True)
    file.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("transport", ["grpc", "http"])
@pytest.mark.parametrize("store", ["memory", "sqlite"])
@pytest.mark.parametrize("file", STORIES, ids=[file.stem for file in STORIES])
async def test_story(
    file: Path, store: str, transport: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Each step of the story is answered as the file says, by either store and transport."""
    told = read(file)
    database = "memory://" if store == "memory" else tmp_path / "registry.db"
    regenerate = request.config.getoption("--regenerate", default=False)
    async with (
        serving(database) as running,
        running.stubs_over(transport) as stubs,
        running.stubs_over("grpc" if transport == "http" else "http") as others,
    ):
        story = Story(stubs, others)
        for number, step in enumerate(told["steps"]):
            asked = {k: v for k, v in step.items() if k not in {"answer", "answers", "error"}}
            found = {**asked, **await story.play(asked)}
            if regenerate:
                told["steps"][number] = found
            else:
                assert found == step, f"step {number} of {file.name}: {step.get('why', '')}"
        story.close()
    if regenerate and (store, transport) == ("memory", "grpc"):
        write(file, told)


def test_every_service_has_a_story() -> None:
    """Each method of each service that is there over both transports is called in some story."""
    called = {step["call"] for file in STORIES for step in read(file)["steps"] if "call" in step}
    methods = [(f"{name}/{m.name}", m) for name, s in _SERVICES.items() for m in s.methods]
    assert called == {name for name, m in methods if m.GetOptions().HasExtension(http)}
