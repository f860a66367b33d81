"""Clients and servers of different ages: what one of them does not know yet does no harm."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass
from grpc import StatusCode

from nexus_registry.conformance.stories import Player, Revisions, Step, Story, stories
from ose.registry.client import AsyncRegistryClient, Entity, Unimplemented
from tests.clients.scripted import ScriptedServer, answers
from tests.support.servers import serving
from tests.support.tools import ROOT

# Of a newer server: id "a", status 999, and "new" in a field that is not there today.
NEWER = b"\x0a\x01a\x38\xe7\x07\xfa\x7f\x03new"


async def test_what_a_newer_server_says_is_kept(
    server: ScriptedServer, client: AsyncRegistryClient
) -> None:
    """Unknown fields and enum values survive a read and the write of what was read."""
    server.on("EntityService/GetEntity", answers(Entity.FromString(NEWER)))
    server.on("EntityService/UpdateEntity", answers(Entity()))
    entity = await client.get_entity("a")
    assert entity.status == 999
    await client.update_entity(entity)
    [call] = server.received["EntityService/UpdateEntity"]
    assert call.request.entity.SerializeToString() == NEWER


async def test_an_older_server_does_not_know_the_method(
    server: ScriptedServer, client: AsyncRegistryClient
) -> None:
    """It is told as what it is, at once, and not repeated."""
    with pytest.raises(Unimplemented) as caught:
        await client.get_statistics()
    assert caught.value.code is StatusCode.UNIMPLEMENTED


@cache
def last_release() -> dict[str, MethodDescriptor]:
    """The methods of the last release, as its protos have them."""
    files = FileDescriptorSet.FromString((ROOT / "proto" / "baseline.binpb").read_bytes())
    pool = DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return {
        f"{service.name}/{method.name}": method
        for file in files.file
        for service in pool.FindFileByName(file.name).services_by_name.values()
        for method in service.methods
    }


class OlderPlayer(Player):
    """Plays with the messages of the last release whatever those can say."""

    def method_of(self, step: Step) -> MethodDescriptor:
        """The method of the last release; today's where that did not have what the step needs."""
        method = last_release().get(step["call"])
        if method is not None and self._can_say(step, method):
            return method
        return super().method_of(step)

    def _can_say(self, step: Step, method: MethodDescriptor) -> bool:
        request_type = GetMessageClass(method.input_type)
        try:
            for form in step.get("requests", [step.get("request", {})]):
                json_format.ParseDict(self._filled(form), request_type())
        except json_format.ParseError:
            return False
        return True


def is_part(found: Any, told: Any) -> bool:
    """Whether an older client's answer is today's, but for what it does not know."""
    match found, told:
        case dict(), dict():
            return all(key in told and is_part(found[key], told[key]) for key in found)
        case list(), list():
            return len(found) == len(told) and all(map(is_part, found, told))
        case int(), str():
            # An enum value that it has no name for.
            return not told.isdecimal()
    return bool(found == told)


@pytest.mark.parametrize("story", stories(), ids=[story.name for story in stories()])
async def test_the_client_of_the_last_release(story: Story) -> None:
    """It is answered, of every method that it has, what it knows of today's answer."""
    async with serving() as running:
        player = OlderPlayer(running.stubs, None, "ns-", Revisions(1))
        for number, step in enumerate(story.steps):
            found = await player.play(step)
            assert found.keys() == step.keys(), f"step {number}: {found}"
            for part in ("answer", "answers", "error"):
                if part in step and not step.get("among"):
                    assert is_part(found[part], step[part]), f"step {number}: {found[part]}"
        player.close()
