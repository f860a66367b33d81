import assert from "node:assert/strict";
import { createServer } from "node:net";
import { test } from "node:test";

import { create, fromBinary, toBinary } from "@bufbuild/protobuf";

import {
  Code,
  Graph,
  KeptLease,
  pages,
  type Reason,
  RegistryError,
  walk,
} from "../src/index.js";
import { EntitySchema, EntityStatus, HealthStatus } from "../src/gen/ose/registry/v1/entity_pb.js";
import type { CreateEntityRequest } from "../src/gen/ose/registry/v1/entity_service_pb.js";
import { GraphResponseSchema } from "../src/gen/ose/registry/v1/graph_service_pb.js";
import { connect } from "../src/node.js";
import { connect as connectHttp } from "../src/web.js";
import { client, failing, gone, refusal } from "./scripted.js";

const entity = { id: "billing" };

async function thrown(promise: Promise<unknown>): Promise<RegistryError> {
  try {
    await promise;
  } catch (error) {
    assert.ok(error instanceof RegistryError, String(error));
    return error;
  }
  return assert.fail("it worked");
}

function creation(errors: Error[], options = {}) {
  const script = failing<CreateEntityRequest>(errors, () => entity);
  return { ...client({ entities: { createEntity: script.call } }, options), ...script };
}

test("a write that is UNAVAILABLE is made again, with the key of its first attempt", async () => {
  const script = creation([gone, gone]);
  await script.client.entities.createEntity({ entity });
  const keys = script.requests.map((one) => one.idempotencyKey);
  assert.equal(keys.length, 3);
  assert.equal(new Set(keys).size, 1);
  assert.ok((keys[0]?.length ?? 0) > 20);
});

test("the caller's key is kept, a rehearsal has none, and without retries there is none", async () => {
  const script = creation([]);
  const request = { entity };
  await script.client.entities.createEntity({ entity, idempotencyKey: "mine" });
  await script.client.entities.createEntity({ entity, dryRun: true });
  await script.client.entities.createEntity(request);
  const keys = script.requests.map((one) => one.idempotencyKey);
  assert.deepEqual(keys.slice(0, 2), ["mine", ""]);
  assert.notEqual(keys[2], "");
  assert.deepEqual(Object.keys(request), ["entity"]);
  const once = creation([gone], { retry: { maxAttempts: 1 } });
  await thrown(once.client.entities.createEntity({ entity }));
  assert.deepEqual(once.requests.map((one) => one.idempotencyKey), [""]);
});

test("nothing but UNAVAILABLE is repeated, and that not for ever", async () => {
  const refused = creation([refusal(Code.Aborted, "REVISION_MISMATCH")]);
  await thrown(refused.client.entities.createEntity({ entity }));
  assert.equal(refused.requests.length, 1);
  const out = creation(Array(9).fill(gone), { retry: { maxAttempts: 3 } });
  await thrown(out.client.entities.createEntity({ entity }));
  assert.equal(out.requests.length, 3);
});

test("a refusal has all that the server said", async () => {
  const script = creation([refusal(Code.NotFound, "ENTITY_NOT_FOUND")]);
  const error = await thrown(script.client.entities.createEntity({ entity }));
  const reason: Reason | undefined = error.reason;
  assert.equal(reason, "ENTITY_NOT_FOUND");
  assert.equal(error.code, Code.NotFound);
  assert.deepEqual(error.metadata, { id: "billing" });
  assert.deepEqual(error.fieldViolations, [{ field: "entity.id", description: "no spaces" }]);
  assert.equal(error.message, "ENTITY_NOT_FOUND: because\n  entity.id: no spaces");
});

test("a reason that this client is too old to know is there as text", async () => {
  const script = creation([refusal(Code.Aborted, "OF_NEXT_YEAR")]);
  const error = await thrown(script.client.entities.createEntity({ entity }));
  assert.equal(error.reason, undefined);
  assert.equal(error.reasonText, "OF_NEXT_YEAR");
});

test("a stream is made again before its first message, and not after it", async () => {
  const errors = [gone, gone];
  let calls = 0;
  const script = client({
    registry: {
      async *export() {
        calls++;
        const error = errors.shift();
        if (error !== undefined) {
          throw error;
        }
        yield { revision: 7n };
        throw gone;
      },
    },
  });
  const found: bigint[] = [];
  const error = await thrown(
    (async () => {
      for await (const part of script.client.registry.export({})) {
        found.push(part.revision);
      }
    })(),
  );
  assert.deepEqual([found, calls, error.code], [[7n], 3, Code.Unavailable]);
});

test("a call without a deadline has the client's, and a caller ends a call by its signal", async () => {
  const silent = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => silent.once("listening", resolve));
  const { port } = silent.address() as { port: number };
  const registry = connect(`127.0.0.1:${port}`, { timeoutMs: 30 });
  try {
    const late = await thrown(registry.entities.getEntity({ id: "a" }));
    assert.equal(late.code, Code.DeadlineExceeded);
    const signal = AbortSignal.timeout(5);
    const ended = await thrown(registry.entities.getEntity({ id: "a" }, { signal, timeoutMs: 9_000 }));
    assert.equal(ended.code, Code.Canceled);
  } finally {
    registry.close();
    silent.close();
  }
});

test("whoever closes a client over HTTP ends its calls, however many, and nothing warns of them", async () => {
  const silent = createServer().listen(0, "127.0.0.1");
  await new Promise((resolve) => silent.once("listening", resolve));
  const { port } = silent.address() as { port: number };
  const many = 20;
  let connected = 0;
  const allConnected = new Promise<void>((resolve) => {
    silent.on("connection", () => ++connected === many && resolve());
  });
  const warnings: string[] = [];
  const warned = (warning: Error) => warnings.push(warning.message);
  process.on("warning", warned);
  const registry = connectHttp(`http://127.0.0.1:${port}`);
  try {
    const call = () => thrown(registry.entities.getEntity({ id: "a" }));
    const calls = Array.from({ length: many }, call);
    await allConnected;
    registry.close();
    for (const ended of [...calls, call()]) {
      assert.equal((await ended).code, Code.Canceled);
    }
    assert.deepEqual(warnings, []);
  } finally {
    process.off("warning", warned);
    silent.close();
  }
});

test("pages asks for each page when it is needed, and for no other", async () => {
  const asked: object[] = [];
  const list = async (request: { namePrefix: string; pageToken?: string }) => {
    asked.push(request);
    return { nextPageToken: asked.length < 3 ? String(asked.length) : "" };
  };
  const request = { namePrefix: "b" };
  for await (const page of pages(list, request)) {
    assert.equal(asked.length, Number(page.nextPageToken || 3));
  }
  const tokens = [undefined, "1", "2"].map((pageToken) => ({ namePrefix: "b", pageToken }));
  assert.deepEqual(asked.map((one) => ({ pageToken: undefined, ...one })), tokens);
});

test("walk joins the pages of a graph, and a path leads over them", async () => {
  const part = (ids: string[], parents: number[], firstPosition: number, nextPageToken: string) =>
    create(GraphResponseSchema, {
      nodes: ids.map((id) => ({ id })),
      parents,
      firstPosition,
      nextPageToken,
      complete: nextPageToken === "",
    });
  const rest = part(["c", "d"], [0, 1], 2, "");
  const ask = async (question: { nodeLimit?: number; pageToken?: string }) =>
    question.pageToken === "more" ? rest : part(["a", "b"], [-1, 0], 0, "more");
  const whole = await walk(ask, {});
  assert.ok(whole.complete);
  assert.deepEqual(whole.pathTo("d")?.map(({ id }) => id), ["a", "b", "d"]);
  assert.equal(whole.pathTo("x"), undefined);
  const cut = await walk(ask, { nodeLimit: 2 });
  assert.deepEqual([cut.complete, cut.nodes.length], [false, 2]);
  assert.equal(new Graph([rest]).pathTo("d"), undefined);
});

test("what a newer server says is kept: unknown fields and enum values survive", () => {
  assert.equal(EntitySchema.field.status.number, 7);
  const newer = Uint8Array.from([
    0x0a, 0x01, 0x61, // Field 1, id: "a".
    0x38, 0xe7, 0x07, // Field 7, status: 999.
    0xfa, 0x7f, 0x03, 0x6e, 0x65, 0x77, // Field 2047, of the future: "new".
  ]);
  const read = fromBinary(EntitySchema, newer);
  assert.equal(read.status, 999 as EntityStatus);
  assert.deepEqual(toBinary(EntitySchema, read), newer);
});

test("a lease that was lost is granted anew, and what the expiry marked is reported as it was", async () => {
  const grants: string[][] = [];
  const reports: Record<string, HealthStatus>[] = [];
  const revoked: string[] = [];
  let renewals = 0;
  let enough: () => void;
  const renewed = new Promise<void>((resolve) => (enough = resolve));
  const script = client({
    entities: {
      batchGetEntities: ({ ids }) => ({
        entities: ids.slice(0, -1).map((id) => ({ id, health: HealthStatus.UNHEALTHY })),
      }),
    },
    leases: {
      grantLease({ lease }) {
        assert.ok(lease);
        grants.push(lease.entityIds);
        return lease;
      },
      renewLease(request) {
        if (Object.keys(request.reports).length > 0) {
          reports.push(request.reports);
        } else if (++renewals === 2) {
          throw gone;
        } else if (renewals === 3) {
          throw refusal(Code.NotFound, "LEASE_NOT_FOUND");
        } else if (renewals === 5) {
          enough();
        }
        return {};
      },
      revokeLease({ id }) {
        revoked.push(id);
        throw refusal(Code.NotFound, "LEASE_NOT_FOUND");
      },
    },
  });
  const lost: string[] = [];
  const lease: KeptLease = await script.client.keepLease(
    { id: "l", ttl: { nanos: 30_000_000 }, entityIds: ["a", "b", "gone"] },
    {
      onLost({ id }) {
        lost.push(id);
        throw new Error("a mistake of the caller");
      },
    },
  );
  await lease.report(HealthStatus.DEGRADED, "b");
  await renewed;
  assert.ok(lease.remainingMs > 0);
  await lease.release();
  assert.deepEqual(lost, ["l"]);
  assert.deepEqual(grants, [["a", "b", "gone"], ["a", "b"]]);
  const told = { a: HealthStatus.HEALTHY, b: HealthStatus.DEGRADED };
  assert.deepEqual(reports, [{ b: HealthStatus.DEGRADED }, told]);
  assert.deepEqual(revoked, ["l"]);
});
