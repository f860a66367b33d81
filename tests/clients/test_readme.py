"""The programs in the client's README run as they stand there."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from grpc import StatusCode

from ose.registry.client import Entity, Relationship
from ose.registry.v1.entity_service_pb2 import (
    BatchGetEntitiesResponse,
    GetEntityRequest,
    ListEntitiesResponse,
)
from ose.registry.v1.graph_service_pb2 import GraphResponse
from ose.registry.v1.lease_pb2 import Lease
from ose.registry.v1.lease_service_pb2 import RenewLeaseResponse, RevokeLeaseResponse
from ose.registry.v1.registry_service_pb2 import ImportRequest, ImportResponse
from tests.clients.scripted import Context, ScriptedServer, answers, refuse, streams
from tests.clients.test_watch import WATCH, part, snapshot_end

CLIENTS = Path(__file__).parents[2] / "clients" / "python"
README = (CLIENTS / "README.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)

EXPECTED = [
    "billing \nledger 1.4.0\nif ledger fails: ['billing']\nENTITY_NOT_FOUND no-such-service\n",
    "ledger is at revision 7\nthere is billing\nthere is ledger\n",
    "".join(f"{n} 100\n" for n in range(1, 11)),
    "['billing', 'ledger']\n",
    "billing lives as long as this block runs: True\n",
]

LEDGER = Entity(id="ledger", type="service", name="ledger", version="1.4.0", revision=7)
BILLING = Entity(id="billing", type="service", name="billing")


async def get(request: GetEntityRequest, context: Context) -> Message:
    """Knows one entity."""
    if request.id != "ledger":
        facts = {"id": request.id, "revision": "9"}
        await refuse(context, StatusCode.NOT_FOUND, "ENTITY_NOT_FOUND", facts)
    return LEDGER


async def load(
    requests: AsyncIterator[ImportRequest], context: Context
) -> AsyncIterator[ImportResponse]:
    """Acknowledges each batch."""
    async for request in requests:
        yield ImportResponse(sequence=request.sequence, created=len(request.mutations))


@pytest.mark.parametrize(("program", "expected"), list(zip(PROGRAMS, EXPECTED, strict=True)))
async def test_programs(server: ScriptedServer, program: str, expected: str) -> None:
    """Each program prints what it should, without a warning, and ends."""
    server.on("EntityService/CreateEntity", answers(LEDGER))
    server.on("EntityService/GetEntity", get)
    server.on(
        "EntityService/ListEntities", answers(ListEntitiesResponse(entities=[BILLING, LEDGER]))
    )
    server.on("RelationshipService/CreateRelationship", answers(Relationship()))
    impact = GraphResponse(nodes=[LEDGER, BILLING], parents=[-1, 0], complete=True)
    server.on("GraphService/AnalyzeImpact", answers(impact))
    server.on(WATCH, streams(part("billing", "ledger"), snapshot_end(9), "hang"))
    server.on("RegistryService/Import", load)
    both = BatchGetEntitiesResponse(entities=[BILLING, LEDGER])
    server.on("EntityService/BatchGetEntities", answers(both))
    granted = Lease(id="l", ttl=Duration(seconds=10), entity_ids=["billing"])
    server.on("LeaseService/GrantLease", answers(granted))
    server.on("LeaseService/RenewLease", answers(RenewLeaseResponse(ttl=granted.ttl)))
    server.on("LeaseService/RevokeLease", answers(RevokeLeaseResponse()))
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        "-c",
        program.replace("localhost:50051", server.target),
        env={**os.environ, "PYTHONPATH": str(CLIENTS), "REGISTRY_SERVER": server.target},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert (out.decode(), err.decode(), process.returncode) == (expected, "", 0)
