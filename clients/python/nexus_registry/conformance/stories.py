"""Golden files: what a caller of each service asks and is answered, step by step.

A story is a list of steps in YAML, each a call with its request as JSON and what it is answered.
Steps are:

    call: EntityService/GetEntity     a unary or a server-streaming method, with `request`;
    requests: [...]                   a client-streaming method's messages, instead of `request`
    keep: {name: path.of.the.answer}  later requests may say `$name`
    open: w                           the watch stream `w` begins with this step's `call`
    read: w, events: 3                the next events of it; `changes`, of a graph that is watched
    read: w, until: MARK_SNAPSHOT_END what comes up to that mark
    alone: true                       the answer tells of all that the registry holds, or the call
                                      changes more than the story's own: only for a new registry
    among: true                       the answer tells of more than the story's own, which is among
                                      it: fields and items may be more, and numbers larger

What differs from run to run is replaced: made ids, times and tokens by names, equal ones by equal
names. `ns-` before a name stands for the namespace of the run. Revisions are counted as if the
registry had been new, which only holds as long as nobody else writes.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import grpc
import yaml
from google.api.annotations_pb2 import http
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message_factory import GetMessageClass

from nexus_registry.conformance.bindings import only_reads
from nexus_registry.conformance.details import check_details
from nexus_registry.conformance.stubs import Stubs
from ose.registry.client._errors import from_rpc_error
from ose.registry.v1 import (
    admin_service_pb2,
    entity_service_pb2,
    feature_service_pb2,
    graph_service_pb2,
    health_service_pb2,
    lease_service_pb2,
    plugin_service_pb2,
    registry_service_pb2,
    relationship_service_pb2,
    search_service_pb2,
    watch_service_pb2,
)

__all__ = [
    "METHODS",
    "Player",
    "Revisions",
    "Step",
    "Story",
    "differences",
    "is_served",
    "stories",
    "unlike",
]

_SERVICES = {
    name: service
    for module in (
        admin_service_pb2, entity_service_pb2, feature_service_pb2, graph_service_pb2,
        health_service_pb2, lease_service_pb2, plugin_service_pb2, registry_service_pb2,
        relationship_service_pb2, search_service_pb2, watch_service_pb2,
    )
    for name, service in module.DESCRIPTOR.services_by_name.items()
}  # fmt: skip

METHODS = {
    f"{service}/{method.name}": method.GetOptions().HasExtension(http)
    for service, descriptor in _SERVICES.items()
    for method in descriptor.methods
}
"""Every method of the registry, and whether it is there over HTTP too."""

_TIMES = {"created_at", "updated_at", "commit_time", "started_at", "time", "now"}
_TOKENS = {"next_page_token", "resume_token"}
# What depends on the store, the build, the namespace or the size of encodings.
_LEFT_OUT = {"epoch", "token_epoch", "store", "store_bytes", "record_bytes", "server_version"}
_LEFT_OUT |= {"request_id", "memory_bytes", "data", "remaining", "manifest_digest"}
_MOMENTARY = {"now", "memoryBytes", "storeBytes", "data", "remaining"}
_REVISIONS = {"actual", "current", "expected", "oldest", "revision"}
_SECONDS = 10
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z")
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_NAMESPACE = re.compile(r"\bns-")

Step = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Story:
    """A story: its file's name, what it is about, and its steps."""

    name: str
    title: str
    steps: list[Step]


def stories() -> list[Story]:
    """All of them, by name."""
    folder = files("nexus_registry.conformance") / "stories"
    return [_read(one) for one in sorted(folder.iterdir(), key=lambda one: one.name)]


def _read(file: Traversable) -> Story:
    told = yaml.safe_load(file.read_text(encoding="utf-8"))
    return Story(file.name.removesuffix(".yaml"), told["story"], told["steps"])


def is_served(step: Step, transport: str) -> bool:
    """Whether the step's method is there over `grpc` or `http`."""
    return transport == "grpc" or "call" not in step or METHODS[step["call"]]


def asked_of(step: Step) -> Step:
    """A step without what it is answered."""
    return {k: v for k, v in step.items() if k not in {"answer", "answers", "error"}}


class Revisions:
    """Counts revisions as a story does: 1 is the one that it begins at, then come its own."""

    def __init__(self, begin: int) -> None:
        self._begin = begin

    def told(self, revision: int) -> int:
        """The number in the story of a revision; 1 of whatever was before it."""
        if revision <= 0:
            return revision
        return max(1, revision - self._begin + 1)

    def real(self, number: int) -> int:
        """The revision of a number in the story."""
        if number <= 0:
            return number
        return self._begin - 1 + number


class Player:
    """Plays a story: what it has kept, and which streams are open.

    It plays through the first stubs; the others, on the same registry, are asked what changes
    nothing once more, and must answer the very same.
    """

    def __init__(
        self, stubs: Stubs, others: Stubs | None, namespace: str, revisions: Revisions
    ) -> None:
        self._stubs = stubs
        self._others = others
        self._namespace = namespace
        self._revisions = revisions
        self._kept: dict[str, str] = {}
        self._names: dict[str, dict[str, str]] = {"time": {}, "id": {}}
        self._streams: dict[str, tuple[Any, AsyncIterator[Any]]] = {}
        self._is_among = False

    async def play(self, step: Step) -> Step:
        """Does a step; answers it with what it is answered: `answer`, `answers` or `error`."""
        asked = asked_of(step)
        self._is_among = step.get("among", False)
        try:
            if "read" in asked:
                return {**asked, "answers": await self._read(asked)}
            return {**asked, **await self._call(asked)}
        except grpc.aio.AioRpcError as caught:
            error = from_rpc_error(caught)
            told: Step = {"code": error.code.name, "reason": error.reason_text}
            if error.metadata:
                told["metadata"] = self._normal(dict(sorted(error.metadata.items())))
            if error.field_violations:
                told["fields"] = [violation.field for violation in error.field_violations]
            return {**asked, "error": told}

    def close(self) -> None:
        """Ends the streams."""
        for call, _ in self._streams.values():
            call.cancel()

    def method_of(self, step: Step) -> MethodDescriptor:
        """The method that a step calls, and with it the messages that it is called with."""
        service, _, name = step["call"].partition("/")
        method: MethodDescriptor = _SERVICES[service].methods_by_name[name]
        return method

    async def _call(self, step: Step) -> Step:
        method = self.method_of(step)
        request_type = GetMessageClass(method.input_type)
        forms = step["requests"] if method.client_streaming else [step.get("request", {})]
        requests = [json_format.ParseDict(self._filled(form), request_type()) for form in forms]
        if "open" in step:
            call = _stub(self._stubs, method)(requests[0])
            self._streams[step["open"]] = (call, aiter(call))
            return {}
        messages, error = await self._ask(self._stubs, method, requests)
        if self._others is not None and (error is not None or only_reads(method)):
            again = await self._ask(self._others, method, requests)
            if _exact(messages, error) != _exact(*again):
                raise Unlike(f"{step['call']} answers otherwise over the other transport")
        if error is not None:
            raise error
        if method.server_streaming:
            return {"answers": [self._told(message) for message in messages]}
        for variable, field in step.get("keep", {}).items():
            value: Any = messages[0]
            for part in field.split("."):
                value = value[int(part)] if part.isdigit() else getattr(value, part)
            is_time = hasattr(value, "ToJsonString")
            self._kept[variable] = value.ToJsonString() if is_time else str(value)
        return {"answer": self._told(messages[0])}

    async def _ask(
        self, stubs: Stubs, method: MethodDescriptor, requests: list[Any]
    ) -> tuple[list[Any], grpc.aio.AioRpcError | None]:
        """Makes a call; what was answered, and what ended it if that is an error."""
        request_id = f"{self._namespace}story"
        options: Any = {"timeout": _SECONDS, "metadata": (("x-request-id", request_id),)}
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

    async def _read(self, step: Step) -> list[Any]:
        _, messages = self._streams[step["read"]]
        found: list[Any] = []
        part = next((name for name in ("events", "changes") if name in step), "")
        async with asyncio.timeout(_SECONDS):
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
            case str() if _is_revision(field) and value.isdecimal():
                return str(self._revisions.told(int(value)))
            case str():
                return value.replace(self._namespace, "ns-")
        return value

    def _name(self, kind: str, value: str) -> str:
        names = self._names[kind]
        if self._is_among:
            # What belongs to others has no names here.
            return names.get(value, value)
        return names.setdefault(value, f"<{kind} {len(names) + 1}>")

    def _filled(self, value: Any, field: str = "") -> Any:
        match value:
            case dict():
                return {self._filled(key): self._filled(one, key) for key, one in value.items()}
            case list():
                return [self._filled(inner, field) for inner in value]
            case str() if value.startswith("$"):
                return self._kept[value[1:]]
            case str() | int() if _is_revision(field) and str(value).isdecimal():
                return str(self._revisions.real(int(value)))
            case str():
                return _NAMESPACE.sub(self._namespace, value)
        return value


class Unlike(Exception):
    """One transport answers otherwise than the other."""


def unlike(step: Step, found: Step) -> list[str]:
    """Where what a step was answered differs from what it should be, as text."""
    return differences(step, found, is_among=step.get("among", False))


def differences(wanted: Any, found: Any, path: str = "", *, is_among: bool = False) -> list[str]:
    """Where two answers differ, as text: the path, what was wanted and what was found.

    With `is_among`, what was found may be more: fields and items beside those that were wanted,
    and numbers that are larger.
    """
    match wanted, found:
        case dict(), dict():
            keys = [*wanted, *(key for key in found if key not in wanted and not is_among)]
            return [
                line
                for key in keys
                for line in differences(
                    wanted.get(key),
                    found.get(key),
                    f"{path}.{key}" if path else key,
                    is_among=is_among,
                )
            ]
        case list(), list() if is_among:
            return [
                f"{path}: lacks {_short(one)}"
                for one in wanted
                if all(differences(one, other, is_among=True) for other in found)
            ]
        case list(), list() if len(wanted) == len(found):
            return [
                line
                for number, (a, b) in enumerate(zip(wanted, found, strict=True))
                for line in differences(a, b, f"{path}[{number}]")
            ]
        case _ if is_among and _is_number(wanted) and _is_number(found):
            return [] if float(found) >= float(wanted) else [f"{path}: {found}, not {wanted}"]
    if wanted == found:
        return []
    return [f"{path}: {_short(found)}, not {_short(wanted)}"]


def _short(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= 120 else f"{text[:119]}…"


def _is_number(value: Any) -> bool:
    # 64-bit numbers are strings in JSON.
    return isinstance(value, int | float) or (isinstance(value, str) and value.isdecimal())


def _is_revision(field: str) -> bool:
    return field in _REVISIONS or field.endswith("_revision")


def _stub(stubs: Stubs, method: MethodDescriptor) -> Any:
    kinds = ["stream" if s else "unary" for s in (method.client_streaming, method.server_streaming)]
    return getattr(stubs.channel, "_".join(kinds))(
        f"/{method.containing_service.full_name}/{method.name}",
        GetMessageClass(method.input_type).SerializeToString,
        GetMessageClass(method.output_type).FromString,
    )


def _exact(messages: Sequence[Any], error: grpc.aio.AioRpcError | None) -> Any:
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
