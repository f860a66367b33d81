import assert from "node:assert/strict";
import { setTimeout } from "node:timers/promises";
import { test } from "node:test";

import { ConnectError } from "@connectrpc/connect";

import { Code, type RegistryClient, RegistryError, type WatchUpdate } from "../src/index.js";
import { type WatchRequest, WatchResponse_Mark as Mark } from "../src/gen/ose/registry/v1/watch_service_pb.js";
import { client, type Connection, gone, type Message, refusal } from "./scripted.js";

const from = (value: bigint) => ({ start: { case: "startRevision" as const, value } });

function fragment(...revisions: bigint[]): Message {
  return { events: revisions.map((revision) => ({ revision })), more: true };
}

function changes(...revisions: bigint[]): Message {
  const revision = revisions.at(-1) ?? 0n;
  return { ...fragment(...revisions), more: false, revision, resumeToken: `t${revision}` };
}

function mark(mark: Mark, revision: bigint): Message {
  return { mark, revision, resumeToken: `t${revision}` };
}

function part(...ids: string[]): Message {
  return { entities: ids.map((id) => ({ id })), more: true };
}

/** What an update says, in short. */
function said(update: WatchUpdate): string {
  switch (update.kind) {
    case "changes":
      return `changes ${update.events.map(({ revision }) => revision).join(" ")}`;
    case "snapshot":
      return `snapshot ${update.entities.map(({ id }) => id).join(" ")}`;
    default:
      return update.kind;
  }
}

function starts(watches: WatchRequest[]): string[] {
  return watches.map(({ start, snapshot }) => `${start.value ?? ""}${snapshot ? "snapshot" : ""}`);
}

async function take(
  registry: RegistryClient,
  request: Parameters<RegistryClient["watch"]>[0],
  count: number,
): Promise<string[]> {
  const updates: string[] = [];
  for await (const update of registry.watch(request, { signal: AbortSignal.timeout(10_000) })) {
    updates.push(said(update));
    if (updates.length === count) {
      break;
    }
  }
  return updates;
}

test("over connections that end in every way, nothing comes twice, is missing or is halved", async () => {
  const reset = new ConnectError("RST_STREAM", Code.Internal);
  const script = client({
    watch: [
      [gone],
      [changes(3n, 4n), mark(Mark.BOOKMARK, 9n), fragment(10n), fragment(10n), gone],
      [fragment(10n, 10n), fragment(10n), changes(10n), reset],
      [changes(12n)],
      [changes(13n), gone],
    ],
  });
  assert.deepEqual(await take(script.client, from(3n), 5), [
    "changes 3 4", "bookmark", "changes 10 10 10 10", "changes 12", "changes 13",
  ]);
  assert.deepEqual(starts(script.watches), ["3", "3", "t9", "t10", "t12"]);
});

test("without a start it begins after the current revision, also when that breaks at once", async () => {
  const script = client({
    entities: { listEntities: () => ({ revision: 41n }) },
    watch: [[gone], [changes(50n)]],
  });
  const request = {};
  await take(script.client, request, 1);
  assert.deepEqual(starts(script.watches), ["42", "42"]);
  assert.deepEqual(request, {});
});

test("a snapshot that breaks comes again, and then the changes", async () => {
  const script = client({
    watch: [
      [gone],
      [part("a"), gone],
      [part("a"), part("b"), mark(Mark.SNAPSHOT_END, 7n), gone],
      [changes(8n)],
    ],
  });
  assert.deepEqual(await take(script.client, { snapshot: true }, 6), [
    "snapshot a", "restarted", "snapshot a", "snapshot b", "snapshotEnd", "changes 8",
  ]);
  assert.deepEqual(starts(script.watches), ["snapshot", "snapshot", "snapshot", "t7"]);
});

test("a break within the snapshot after a reset leads to a snapshot, not to the reset again", async () => {
  const script = client({
    watch: [
      [fragment(3n), { mark: Mark.RESET, more: true }, part("a"), gone],
      [part("a"), mark(Mark.SNAPSHOT_END, 7n), changes(8n)],
    ],
  });
  assert.deepEqual(await take(script.client, { ...from(2n), resetOnCompaction: true }, 6), [
    "reset", "snapshot a", "restarted", "snapshot a", "snapshotEnd", "changes 8",
  ]);
  assert.deepEqual(starts(script.watches), ["2", "snapshot"]);
});

test("a refusal, an outage that lasts too long and a signal end it, each with its error", async () => {
  async function end(watch: Connection[], options: Parameters<RegistryClient["watch"]>[1]) {
    try {
      for await (const update of client({ watch }).client.watch(from(2n), options)) {
        assert.fail(update.kind);
      }
    } catch (error) {
      assert.ok(error instanceof RegistryError, String(error));
      return error;
    }
    return assert.fail("it ended");
  }
  const compacted = refusal(Code.OutOfRange, "REVISION_COMPACTED");
  assert.equal((await end([[compacted]], {})).reason, "REVISION_COMPACTED");
  const out = await end(Array<Connection>(2_000).fill([gone]), { giveUpAfterMs: 20 });
  assert.equal(out.code, Code.Unavailable);
  const ended = new AbortController();
  const [canceled] = await Promise.all([
    end([["hang"]], { signal: ended.signal }),
    setTimeout(10).then(() => ended.abort()),
  ]);
  assert.equal(canceled.code, Code.Canceled);
});

test("a server that falls silent is taken for dead; the time of the loop's body does not count", async () => {
  let rested = (): void => undefined;
  const rest = new Promise<void>((resolve) => (rested = resolve));
  const script = client({ watch: [[changes(3n), rest, changes(4n), "hang"], [changes(5n)]] });
  const updates: string[] = [];
  const signal = AbortSignal.timeout(5_000);
  for await (const update of script.client.watch(from(2n), { silenceMs: 200, signal })) {
    updates.push(said(update));
    if (updates.length === 1) {
      await setTimeout(300);
      rested();
    } else if (updates.length === 3) {
      break;
    }
  }
  assert.deepEqual(updates, ["changes 3", "changes 4", "changes 5"]);
});
