import assert from "node:assert/strict";
import process from "node:process";
import { test } from "node:test";

import { create, type Message, type MessageInitShape } from "@bufbuild/protobuf";
import { TimestampSchema } from "@bufbuild/protobuf/wkt";
import { type CallOptions, Code, ConnectError } from "@connectrpc/connect";

import { type ClientOptions, type RegistryClient, RegistryError } from "../src/index.js";
import {
  type BatchGetEntitiesRequest,
  type CreateEntityRequest,
  type GetEntityRequest,
  GetEntityRequestSchema,
} from "../src/gen/ose/registry/v1/entity_service_pb.js";
import type { WriteRequest } from "../src/gen/ose/registry/v1/registry_service_pb.js";
import { connect as connectNode } from "../src/node.js";
import { connect as connectWeb } from "../src/web.js";
import { client, refusal } from "./scripted.js";

// A new registry: host:port of gRPC, or a URL of HTTP.
const served = process.env["REGISTRY_COALESCING"];

/** A gate that calls wait at, and how many have come to it. */
class Gate {
  arrived = 0;
  open!: () => void;
  private readonly isOpen = new Promise<void>((resolve) => (this.open = resolve));

  pass(): Promise<void> {
    this.arrived++;
    return this.isOpen;
  }
}

/**
 * A client that coalesces, of a server that knows the entities whose ids begin with "a", answers no batch before the
 * gate is open, and fails batches with what is given.
 */
function joining({ gate, fails }: { gate?: Gate; fails?: Error } = {}, options: ClientOptions = {}) {
  const gets: GetEntityRequest[] = [];
  const creates: CreateEntityRequest[] = [];
  const batches: BatchGetEntitiesRequest[] = [];
  const writes: WriteRequest[] = [];
  const ends: unknown[] = [];
  const thing = (id: string) => ({ id, labels: { a: "b" } });
  const passed = async (signal?: AbortSignal) => {
    signal?.addEventListener("abort", () => ends.push(signal.reason));
    await gate?.pass();
    if (signal !== undefined && fails !== undefined) {
      throw fails;
    }
  };
  const scripted = client(
    {
      entities: {
        async getEntity(request) {
          gets.push(request);
          await passed();
          if (!request.id.startsWith("a")) {
            throw refusal(Code.NotFound, "ENTITY_NOT_FOUND");
          }
          return thing(request.id);
        },
        async batchGetEntities(request, { signal }) {
          batches.push(request);
          await passed(signal);
          const entities = request.ids.filter((id) => id.startsWith("a")).map(thing);
          return { entities, revision: 7n };
        },
        async createEntity(request) {
          creates.push(request);
          await passed();
          return request.entity ?? {};
        },
      },
      registry: {
        async write(request, { signal }) {
          writes.push(request);
          await passed(signal);
          return {
            results: request.mutations.map(({ operation }) => ({
              resource: { case: "entity", value: operation.value as never },
            })),
          };
        },
      },
    },
    { coalesce: true, ...options },
  );
  return { ...scripted, gets, creates, batches, writes, ends };
}

async function thrown(promise: Promise<unknown>): Promise<RegistryError> {
  const error = await promise.then(() => assert.fail("it worked"), (reason: unknown) => reason);
  assert.ok(error instanceof RegistryError, String(error));
  return error;
}

function each<T>(count: number, make: (number: number) => T): T[] {
  return Array.from({ length: count }, (_, number) => make(number));
}

async function until(done: () => boolean): Promise<void> {
  while (!done()) {
    await new Promise(setImmediate);
  }
}

test("reads that are made at once are few, each with the answer of a single one", async () => {
  const { client, gets, batches } = joining();
  const missing = thrown(client.entities.getEntity({ id: "b" }));
  const found = await Promise.all(
    each(198, (n) => client.entities.getEntity({ id: `a${n >> 1}` })),
  );
  assert.deepEqual(found.map(({ id }) => id), each(198, (n) => `a${n >> 1}`));
  assert.deepEqual([gets.length, ...batches.map(({ ids }) => ids.length)], [0, 51, 50]);
  const [one, other] = found;
  assert.ok(one && other);
  one.labels["a"] = "mine";
  assert.deepEqual(other.labels, { a: "b" });
  const { code, reason, metadata } = await missing;
  assert.deepEqual([code, reason], [Code.NotFound, "ENTITY_NOT_FOUND"]);
  assert.deepEqual(metadata, { id: "b", revision: "7" });
});

test("who is alone makes a call alone, and what comes meanwhile is gathered", async () => {
  const gate = new Gate();
  const { client, gets, batches } = joining({ gate });
  const calls: Promise<unknown>[] = [];
  for (const expected of [1, 2, 2, 2, 2]) {
    calls.push(client.entities.getEntity({ id: `a${calls.length}` }));
    await new Promise(setImmediate);
    await until(() => gets.length >= expected);
    assert.deepEqual([gets.length, batches.length], [expected, 0]);
  }
  gate.open();
  await Promise.all(calls);
  assert.deepEqual(batches.map(({ ids }) => ids), [["a2", "a3", "a4"]]);
});

test("writes are joined, as many as 250 and as large as 1 MiB together", async () => {
  const many = joining();
  const made = await Promise.all(
    each(260, (n) => many.client.entities.createEntity({ entity: { id: String(n) } })),
  );
  assert.deepEqual(made.map(({ id }) => id), each(260, String));
  assert.deepEqual(many.writes.map(({ mutations }) => mutations.length), [250, 10]);
  assert.ok(many.writes.every(({ independent }) => independent));
  assert.equal(new Set(["", ...many.writes.map((one) => one.idempotencyKey)]).size, 3);
  const large = joining();
  const name = "x".repeat(400 << 10);
  await Promise.all(each(5, (n) => large.client.entities.createEntity({ entity: { id: `${n}`, name } })));
  assert.deepEqual(large.writes.map(({ mutations }) => mutations.length), [2, 2]);
  assert.equal(large.creates.length, 1);
});

test("reads that are joined fit into a URL", async () => {
  const { client, batches } = joining();
  await Promise.all(each(50, (n) => client.entities.getEntity({ id: `a${n}`.padEnd(255, "ä") })));
  const sizes = batches.map(({ ids }) => new URLSearchParams(ids.map((id) => ["ids", id])));
  assert.ok(sizes.every((query) => query.toString().length <= 6 << 10));
  assert.ok(batches.length > 1 && batches.length < 20);
});

test("what a batch fails with is told to each caller, in an error of its own", async () => {
  const { client } = joining({ fails: refusal(Code.ResourceExhausted, "OVERLOADED") });
  const create = (id: string) => thrown(client.entities.createEntity({ entity: { id } }));
  const [one, other] = await Promise.all([create("1"), create("2")]);
  assert.notEqual(one, other);
  assert.deepEqual([one.reasonText, other.reasonText], ["OVERLOADED", "OVERLOADED"]);
});

test("a batch of reads that is malformed is asked for one by one", async () => {
  const { client, gets, batches } = joining({ fails: refusal(Code.InvalidArgument, "INVALID_FIELD") });
  const missing = thrown(client.entities.getEntity({ id: "b" }));
  const found = await client.entities.getEntity({ id: "a" });
  assert.deepEqual([found.id, (await missing).code], ["a", Code.NotFound]);
  assert.deepEqual([gets.length, batches.length], [2, 1]);
});

test("who gives up is alone with that, and a batch lasts as long as its callers", async () => {
  const gate = new Gate();
  const { client, batches, ends } = joining({ gate });
  const controller = new AbortController();
  const get = (options?: CallOptions) => client.entities.getEntity({ id: "a" }, options);
  const waits = [get(), get()];
  const left = thrown(get({ signal: controller.signal }));
  const late = thrown(get({ timeoutMs: 5 }));
  assert.equal((await late).code, Code.DeadlineExceeded);
  controller.abort();
  assert.equal((await left).code, Code.Canceled);
  // So is one that is not made yet, because there are two under way.
  waits.push(get());
  await until(() => gate.arrived === 2);
  const queued = thrown(client.entities.getEntity({ id: "a9" }, { timeoutMs: 5 }));
  assert.equal((await queued).code, Code.DeadlineExceeded);
  const never = thrown(get({ signal: controller.signal, timeoutMs: 1_000 }));
  assert.equal((await never).code, Code.Canceled);
  assert.deepEqual(ends, []);
  gate.open();
  assert.deepEqual((await Promise.all(waits)).map(({ id }) => id), ["a", "a", "a"]);
  assert.deepEqual(batches.map(({ ids }) => ids), [["a"]]);
  const silence = new Gate();
  const shut = joining({ gate: silence });
  const signal = AbortSignal.timeout(5);
  const all = each(2, (n) => thrown(shut.client.entities.getEntity({ id: `a${n}` }, { signal })));
  assert.deepEqual((await Promise.all(all)).map(({ code }) => code), [Code.Canceled, Code.Canceled]);
  await until(() => shut.ends.length === 1);
  assert.equal(shut.batches.length, 1);
  assert.notEqual(ConnectError.from(shut.ends[0]).code, Code.DeadlineExceeded);
  silence.open();
});

test("reads of one kind read as each does, and others are not joined with them", async () => {
  const kinds: MessageInitShape<typeof GetEntityRequestSchema>[] = [
    {}, { atRevision: 3n }, { minRevision: 4n }, { staleOk: true }, { atTime: { seconds: 10n } },
  ];
  const { client, batches, gets } = joining();
  await Promise.all(
    kinds.flatMap((kind) => each(2, (n) => client.entities.getEntity({ ...kind, id: `a${n}` }))),
  );
  const asked = batches.map(({ $typeName, ids, ...options }) => options);
  const expected = kinds.map((kind) => ({
    atRevision: 0n,
    minRevision: 0n,
    staleOk: false,
    ...kind,
    ...(kind.atTime && { atTime: { $typeName: TimestampSchema.typeName, nanos: 0, ...kind.atTime } }),
  }));
  assert.deepEqual([asked, gets], [expected, []]);
});

test("keys, rehearsals and other headers are not joined", async () => {
  const { client, writes, creates } = joining();
  const entity = { id: "a" };
  const create = client.entities.createEntity;
  await Promise.all([
    create({ entity, idempotencyKey: "mine" }),
    create({ entity, idempotencyKey: "mine" }),
    create({ entity, dryRun: true }),
    create({ entity, dryRun: true }),
    create({}),
    create({}),
    create({ entity }),
    create({ entity }, { headers: { "x-user": "a" } }),
  ]);
  assert.deepEqual([creates.length, writes.length], [8, 0]);
});

test("a request may be used again, and is not changed", async () => {
  const { client, batches } = joining();
  const request = create(GetEntityRequestSchema, { id: "a0" });
  const one = client.entities.getEntity(request);
  request.id = "a1";
  const other = client.entities.getEntity(request);
  assert.deepEqual([(await one).id, (await other).id], ["a0", "a1"]);
  assert.deepEqual(batches.map(({ ids }) => ids), [["a0", "a1"]]);
});

type AnyCall = () => Promise<Message>;

/** Rounds of calls whose ids have a prefix. */
function rounds({ entities, relationships }: RegistryClient, prefix: string): AnyCall[][] {
  const thing = (id: unknown) => ({ id: `${prefix}${id}`, type: "thing", name: `${prefix}${id}` });
  const needs = (id: string, target: number) => ({
    id: prefix + id,
    type: "needs",
    sourceId: `${prefix}1`,
    targetId: prefix + target,
  });
  const get = (id: unknown, more = {}) => entities.getEntity({ id: `${prefix}${id}`, ...more });
  const create = (entity?: object) => entities.createEntity({ ...(entity && { entity }) });
  const update = (entity?: object, more = {}) =>
    entities.updateEntity({ ...(entity && { entity }), ...more });
  const relate = (id: string, target: number) =>
    relationships.createRelationship({ relationship: needs(id, target) });
  const weigh = (id: string) =>
    relationships.updateRelationship({ relationship: { id: prefix + id, weight: 0.5 } });
  return [
    each(20, (n) => () => create(thing(n))),
    [
      () => create(thing(3)),
      () => create({ ...thing("x"), type: "no type" }),
      () => create(),
      () => relate("r2", 2),
      () => relate("r3", 3),
      () => relate("r77", 77),
      () => update({ ...thing(1), version: "2" }),
      () => update(thing(1), { updateMask: { paths: ["nothing"] } }),
      () => update(thing(9), { expectedRevision: 1n }),
      () => update(thing("none")),
      () => update(),
    ],
    [
      ...each(25, (n) => () => get(n)),
      () => get(1, { atRevision: 1_000_000n }),
      ...["r2", "r3", "r9"].map((id) => () => weigh(id)),
    ],
    [() => get(1), () => get("none"), () => get("\u0007 no id")],
  ];
}

test("a registry answers joined calls as it answers single ones", { skip: served === undefined }, async () => {
  const target = served ?? "";
  const connect = target.startsWith("http") ? connectWeb : connectNode;
  const found = [true, false].map(async (coalesce) => {
    const registry = connect(target, { coalesce });
    const prefix = coalesce ? "one-" : "two-";
    const told: string[] = [];
    const tell = async (call: AnyCall) => {
      const said = await call().then(
        (answer) => `${answer.$typeName} ${"id" in answer ? answer.id : ""}`,
        (error: unknown) => {
          assert.ok(error instanceof RegistryError, String(error));
          const { code, message, metadata, fieldViolations } = error;
          // A map of protobuf has no order of its own.
          const details = Object.entries({ ...metadata, revision: "" }).sort();
          return JSON.stringify([code, message, details, fieldViolations]);
        },
      );
      return said.replaceAll(prefix, "").replaceAll(/\d{2,}/g, "N");
    };
    for (const calls of rounds(registry, prefix)) {
      if (coalesce) {
        told.push(...(await Promise.all(calls.map(tell))));
      } else {
        for (const call of calls) {
          told.push(await tell(call));
        }
      }
    }
    registry.close();
    return told;
  });
  const [joined, single] = await Promise.all(found);
  assert.deepEqual(joined, single);
  assert.ok(new Set(joined).size > 15);
});
