import { create, type MessageInitShape } from "@bufbuild/protobuf";
import type { Client } from "@connectrpc/connect";

import { RegistryError, unavailable } from "./errors.js";
import type { Entity } from "./gen/ose/registry/v1/entity_pb.js";
import type { Relationship } from "./gen/ose/registry/v1/relationship_pb.js";
import {
  type Event,
  type WatchRequest,
  WatchRequestSchema,
  type WatchResponse,
  WatchResponse_Mark as Mark,
  type WatchService,
} from "./gen/ose/registry/v1/watch_service_pb.js";
import { Outage, type RetryPolicy } from "./retry.js";

/** One thing that a watch has to say; `kind` says what, and which fields there are. */
export type WatchUpdate =
  | {
      /** A part of the current state. Relationships come after all entities. */
      readonly kind: "snapshot";
      readonly entities: Entity[];
      readonly relationships: Relationship[];
    }
  /** The snapshot is complete, and is of `revision`. */
  | ({ readonly kind: "snapshotEnd" } & Place)
  /** Changes, of one or more whole revisions, in the order in which they were committed. */
  | ({ readonly kind: "changes"; readonly events: Event[] } & Place)
  /** Nothing else matched up to `revision`. */
  | ({ readonly kind: "bookmark" } & Place)
  /** What happened meanwhile is compacted: drop everything, a snapshot follows. */
  | { readonly kind: "reset" }
  /** The connection broke within the snapshot: drop its parts, all of them come again. */
  | { readonly kind: "restarted" };

/** How far a watch has come. */
export interface Place {
  /** All that matches up to and including it has been handed over. */
  readonly revision: bigint;
  /** Continues after this update, also in another process. */
  readonly resumeToken: string;
}

/** How a watch goes on. */
export interface WatchOptions {
  /** Ends it. */
  readonly signal?: AbortSignal;
  /** For how many milliseconds of failures to try to continue; for ever when it is left out. */
  readonly giveUpAfterMs?: number;
  /** After how many milliseconds without a word the server is taken for dead; three times the time between bookmarks. */
  readonly silenceMs?: number;
}

const BOOKMARK_MS = 10_000;

/** One watch: where it is, and how it goes on. Its request asks for what comes next. */
export class Follower {
  private readonly request: WatchRequest;
  private readonly outage: Outage;
  private readonly silenceMs: number;
  private fragments: Event[] = [];
  private snapshotBegun = false;

  constructor(
    private readonly changes: Client<typeof WatchService>,
    private readonly currentRevision: (signal?: AbortSignal) => Promise<bigint>,
    retry: RetryPolicy,
    request: MessageInitShape<typeof WatchRequestSchema>,
    private readonly options: WatchOptions,
  ) {
    // The caller's message is not touched.
    this.request = create(WatchRequestSchema, { ...request });
    this.outage = new Outage(retry, options.giveUpAfterMs);
    const asked = this.request.bookmarkInterval;
    const bookmarks = asked ? Number(asked.seconds) * 1_000 + asked.nanos / 1e6 : 0;
    this.silenceMs = options.silenceMs ?? 3 * Math.max(bookmarks, BOOKMARK_MS);
  }

  /** Yields updates, over as many connections as it takes. */
  async *updates(): AsyncGenerator<WatchUpdate, void, undefined> {
    const { signal } = this.options;
    for (;;) {
      try {
        yield* this.connection();
        throw unavailable("the server ended the stream");
      } catch (thrown) {
        const error = RegistryError.from(thrown);
        if (signal?.aborted || !error.isBrokenStream) {
          throw error;
        }
        await this.outage.failed(error, signal).catch((reason: unknown) => {
          throw RegistryError.from(reason);
        });
      }
      if (this.snapshotBegun) {
        this.snapshotBegun = false;
        yield { kind: "restarted" };
      }
    }
  }

  /** Yields the updates of one connection. */
  private async *connection(): AsyncGenerator<WatchUpdate, void, undefined> {
    const { signal } = this.options;
    await this.begin(signal);
    const ended = new AbortController();
    const abort = () => ended.abort(signal?.reason);
    signal?.addEventListener("abort", abort, { once: true });
    let silent = false;
    let silence: ReturnType<typeof globalThis.setTimeout> | undefined;
    try {
      for await (const message of this.changes.watch(this.request, { signal: ended.signal })) {
        // The time that the caller takes is not the server's.
        clearTimeout(silence);
        this.outage.over();
        yield* this.absorb(message);
        silence = globalThis.setTimeout(() => {
          silent = true;
          ended.abort();
        }, this.silenceMs);
      }
    } catch (thrown) {
      throw silent ? unavailable(`nothing was heard of the server for ${this.silenceMs} ms`) : thrown;
    } finally {
      clearTimeout(silence);
      signal?.removeEventListener("abort", abort);
      ended.abort();
    }
  }

  /** Drops what is half there. Makes "after now" a number, so that a break before the first token loses nothing. */
  private async begin(signal: AbortSignal | undefined): Promise<void> {
    this.fragments = [];
    if (this.request.start.case === undefined && !this.request.snapshot) {
      const value = (await this.currentRevision(signal)) + 1n;
      this.request.start = { case: "startRevision", value };
    }
  }

  /** Takes a message in; yields what is whole by it. */
  private *absorb(message: WatchResponse): Generator<WatchUpdate> {
    if (message.mark === Mark.RESET) {
      // From here on a break makes it begin with a snapshot: to continue leads here again.
      this.fragments = [];
      this.snapshotBegun = false;
      this.request.start = { case: undefined };
      this.request.snapshot = true;
      yield { kind: "reset" };
    } else if (this.request.snapshot) {
      yield* this.absorbSnapshot(message);
    } else {
      this.fragments.push(...message.events);
      if (!message.more) {
        const events = this.fragments;
        this.fragments = [];
        const place = this.arrived(message);
        yield events.length > 0
          ? { kind: "changes", events, ...place }
          : { kind: "bookmark", ...place };
      }
    }
  }

  private *absorbSnapshot(message: WatchResponse): Generator<WatchUpdate> {
    const { entities, relationships } = message;
    if (entities.length + relationships.length > 0) {
      this.snapshotBegun = true;
      yield { kind: "snapshot", entities, relationships };
    }
    if (message.mark === Mark.SNAPSHOT_END) {
      this.snapshotBegun = false;
      yield { kind: "snapshotEnd", ...this.arrived(message) };
    }
  }

  /** Where a whole message leads to; the next stream continues after it. */
  private arrived({ revision, resumeToken }: WatchResponse): Place {
    this.request.snapshot = false;
    if (resumeToken !== "") {
      this.request.start = { case: "resumeToken", value: resumeToken };
    }
    return { revision, resumeToken };
  }
}
