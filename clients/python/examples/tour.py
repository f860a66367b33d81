"""Registers a service that lives as long as this program does, finds it, and watches it go.

In between it asks what would break without the service. The blocking client has the same methods.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing

from ose.registry.client import (
    AsyncRegistryClient,
    Entity,
    EntityFilter,
    ErrorReason,
    FailedPrecondition,
    HealthStatus,
    Mutation,
    Relationship,
)


async def tour(registry: AsyncRegistryClient) -> None:
    """Walks through what a registry is for."""
    # One revision: a service, another one that needs it, and the edge between them.
    ledger = Entity(
        id="tour-ledger",
        type="service",
        name="tour-ledger",
        version="1.4.0",
        health=HealthStatus.HEALTH_STATUS_HEALTHY,
    )
    billing = Entity(id="tour-billing", type="service", name="tour-billing")
    needs = Relationship(source_id="tour-billing", target_id="tour-ledger", type="depends_on")
    written = await registry.write(
        [
            Mutation(put_entity=ledger),
            Mutation(put_entity=billing),
            Mutation(put_relationship=needs),
        ]
    )

    # The ledger is healthy as long as this program says so.
    async with registry.lease(10, entity_ids=["tour-ledger"], owner="tour") as lease:
        print("registered", *lease.entity_ids, "with a lease")

        # Discovery: whatever is a healthy service.
        condition = 'type = service AND health = healthy AND name : "tour"'
        async for entity in registry.list_entities(filter=condition):
            print("found", entity.id)

        # The graph: what breaks when the ledger does, and along which way.
        impact = await registry.analyze_impact("tour-ledger")
        for node in impact.nodes[1:]:
            print("without it breaks", node.id, "in", len(impact.path_to(node.id)) - 1, "step")

        # A refusal says why.
        try:
            await registry.delete_entity("tour-ledger")
        except FailedPrecondition as error:
            if error.reason != ErrorReason.ERROR_REASON_HAS_RELATIONSHIPS:
                raise
            print("not deleted, for its", error.metadata["count"], "relationship")

    # The watch: the lease has ended, so the ledger became unhealthy.
    this = EntityFilter(ids=["tour-ledger"])
    watch = registry.watch(entities=this, start_revision=written.revision + 1)
    async with aclosing(watch):
        async for update in watch:
            for event in update.events:
                health = HealthStatus.Name(event.entity.health)
                print("watched", event.entity.id, "become", health)
                return


async def main() -> None:
    """Tours the registry at `$REGISTRY_SERVER`, else at localhost:50051."""
    async with AsyncRegistryClient() as registry:
        await tour(registry)


if __name__ == "__main__":
    asyncio.run(main())
