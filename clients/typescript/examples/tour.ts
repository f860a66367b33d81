// Registers a service that lives as long as this program does, finds it, asks what would break without it,
// and watches what becomes of it.
import { pages, RegistryError, walk } from "ose-registry";
import { connect } from "ose-registry/node";
import { HealthStatus } from "ose-registry/v1/entity";

const registry = connect(); // $REGISTRY_SERVER, else localhost:50051

async function tour(): Promise<void> {
  // One revision: a service, another one that needs it, and the edge between them.
  const ledger = {
    id: "tour-ledger",
    type: "service",
    name: "tour-ledger",
    version: "1.4.0",
    health: HealthStatus.HEALTHY,
  };
  const billing = { id: "tour-billing", type: "service", name: "tour-billing" };
  const needs = { sourceId: "tour-billing", targetId: "tour-ledger", type: "depends_on" };
  const written = await registry.registry.write({
    mutations: [
      { operation: { case: "putEntity", value: ledger } },
      { operation: { case: "putEntity", value: billing } },
      { operation: { case: "putRelationship", value: needs } },
    ],
  });

  // The ledger is healthy as long as this program says so.
  const lease = await registry.keepLease({
    ttl: { seconds: 10n },
    entityIds: ["tour-ledger"],
    owner: "tour",
  });
  console.log("registered", lease.entityIds[0], "with a lease");

  // Discovery: whatever is a healthy service.
  const filter = `type = service AND health = healthy AND name : "tour"`;
  for await (const page of pages(registry.entities.listEntities, { filter })) {
    for (const entity of page.entities) {
      console.log("found", entity.id);
    }
  }

  // The graph: what breaks when the ledger does, and along which way.
  const impact = await walk(registry.graph.analyzeImpact, { id: "tour-ledger" });
  for (const { id } of impact.nodes.slice(1)) {
    console.log("without it breaks", id, "in", (impact.pathTo(id)?.length ?? 1) - 1, "step");
  }

  // A refusal says why.
  try {
    await registry.entities.deleteEntity({ id: "tour-ledger" });
  } catch (error) {
    if (!(error instanceof RegistryError && error.reason === "HAS_RELATIONSHIPS")) {
      throw error;
    }
    console.log("not deleted, for its", error.metadata["count"], "relationship");
  }

  // The watch: the lease ends, so the ledger becomes unhealthy.
  await lease.release();
  const watch = registry.watch({
    entities: { ids: ["tour-ledger"] },
    start: { case: "startRevision", value: written.revision + 1n },
  });
  for await (const update of watch) {
    for (const { resource } of update.kind === "changes" ? update.events : []) {
      if (resource.case === "entity") {
        console.log("watched", resource.value.id, "become", HealthStatus[resource.value.health]);
        return;
      }
    }
  }
}

try {
  await tour();
} finally {
  registry.close();
}
