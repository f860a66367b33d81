import { clone, create, type MessageInitShape } from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";

import type { RegistryClient } from "./client.js";
import { RegistryError } from "./errors.js";
import { HealthStatus } from "./gen/ose/registry/v1/entity_pb.js";
import { type Lease, LeaseSchema } from "./gen/ose/registry/v1/lease_pb.js";
import { Outage, type RetryPolicy } from "./retry.js";
import { setTimeout } from "./timer.js";

/** How a lease is kept. */
export interface KeepOptions {
  /** Leave the entities as they are when the lease is released. */
  readonly keepEntities?: boolean;
  /**
   * Called when the lease was found to have expired, before another one is granted: it may create anew what
   * was removed. What it throws is passed over.
   */
  readonly onLost?: (lease: Lease) => void | Promise<void>;
}

const LEAST_PATIENCE_MS = 1_000;

/** A lease that is kept alive in the background; see `RegistryClient.keepLease`. */
export class KeptLease {
  private readonly stopped = new AbortController();
  private readonly reports = new Map<string, HealthStatus>();
  private readonly renewing: Promise<void>;
  private lost = false;

  private constructor(
    private readonly registry: RegistryClient,
    private readonly retry: RetryPolicy,
    private readonly options: KeepOptions,
    private lease: Lease,
    private renewed: number,
  ) {
    this.renewing = this.renew().catch(() => undefined); // It ends when it is stopped.
  }

  /** Grants a lease and begins to keep it alive. */
  static async begin(
    registry: RegistryClient,
    retry: RetryPolicy,
    lease: MessageInitShape<typeof LeaseSchema>,
    options: KeepOptions,
  ): Promise<KeptLease> {
    const sent = performance.now();
    const granted = await registry.leases.grantLease({ lease: create(LeaseSchema, lease) });
    return new KeptLease(registry, retry, options, granted, sent);
  }

  /** The lease's id; it stays when the lease is granted anew. */
  get id(): string {
    return this.lease.id;
  }

  /** The ids of its entities, as it was granted or changed last. */
  get entityIds(): readonly string[] {
    return this.lease.entityIds;
  }

  /**
   * How many milliseconds it lasts for certain if the registry is not reached any more: 0 while it is known
   * to have expired, until it is granted anew.
   */
  get remainingMs(): number {
    return this.lost ? 0 : Math.max(0, this.renewed + this.ttlMs - performance.now());
  }

  /** Adds entities to it. FAILED_PRECONDITION if one is not there. */
  async attach(...entityIds: string[]): Promise<void> {
    this.lease = await this.registry.leases.attachToLease({ id: this.id, entityIds });
  }

  /** Takes entities out of it. */
  async detach(...detachIds: string[]): Promise<void> {
    this.lease = await this.registry.leases.attachToLease({ id: this.id, detachIds });
  }

  /** Reports how its entities are: those that are named, else all of them. */
  async report(health: HealthStatus, ...entityIds: string[]): Promise<void> {
    const ids = entityIds.length > 0 ? entityIds : this.entityIds;
    const reports = Object.fromEntries(ids.map((id) => [id, health]));
    ids.forEach((id) => this.reports.set(id, health));
    await this.registry.leases.renewLease({ id: this.id, reports });
  }

  /**
   * Ends the renewals and revokes the lease, as if it had expired: its entities are marked or removed. One
   * that has expired already is no error. On any other error the lease expires by itself.
   */
  async release(): Promise<void> {
    this.stopped.abort();
    await this.renewing;
    const keepEntities = this.options.keepEntities ?? false;
    try {
      await this.registry.leases.revokeLease({ id: this.id, keepEntities });
    } catch (error) {
      if (RegistryError.from(error).code !== Code.NotFound) {
        throw error;
      }
    }
  }

  private get ttlMs(): number {
    return Number(this.lease.ttl?.seconds ?? 0) * 1_000 + (this.lease.ttl?.nanos ?? 0) / 1e6;
  }

  /** Renews it three times within its ttl, until it is stopped. */
  private async renew(): Promise<void> {
    const { signal } = this.stopped;
    const outage = new Outage(this.retry);
    for (;;) {
      // Not at the same moment as all others.
      const due = this.renewed + (this.ttlMs / 3) * (0.8 + 0.2 * Math.random());
      await setTimeout(Math.max(0, due - performance.now()), signal);
      const sent = performance.now();
      const timeoutMs = Math.max(this.ttlMs / 3, LEAST_PATIENCE_MS);
      try {
        await this.registry.leases.renewLease({ id: this.id }, { signal, timeoutMs });
        this.renewed = sent;
        outage.over();
      } catch (thrown) {
        const error = RegistryError.from(thrown);
        await (error.code === Code.NotFound ? this.regain() : outage.failed(error, signal));
      }
    }
  }

  /** Grants it anew, until that works or it is stopped. */
  private async regain(): Promise<void> {
    const { signal } = this.stopped;
    const outage = new Outage(this.retry);
    this.lost = true;
    try {
      await this.options.onLost?.(this.lease);
    } catch {
      // The mistakes of whoever wants to know are not the lease's.
    }
    for (;;) {
      const sent = performance.now();
      try {
        this.lease = await this.grantAnew(signal);
        this.renewed = sent;
        this.lost = false;
        return;
      } catch (error) {
        await outage.failed(error, signal);
      }
    }
  }

  private async grantAnew(signal: AbortSignal): Promise<Lease> {
    const { entities, leases } = this.registry;
    const lease = clone(LeaseSchema, this.lease);
    const ids = lease.entityIds;
    const found =
      ids.length > 0 ? (await entities.batchGetEntities({ ids }, { signal })).entities : [];
    lease.entityIds = found.map((entity) => entity.id);
    const granted = await leases.grantLease({ lease }, { signal }).catch((error: unknown) => {
      // As if an earlier attempt had come through, whose answer has not.
      if (RegistryError.from(error).code === Code.AlreadyExists) {
        return leases.getLease({ id: lease.id }, { signal });
      }
      throw error;
    });
    // What the expiry may have marked.
    const marked = found.filter((entity) => entity.health === HealthStatus.UNHEALTHY);
    const reports = Object.fromEntries(
      marked.map(({ id }) => [id, this.reports.get(id) ?? HealthStatus.HEALTHY]),
    );
    if (marked.length > 0) {
      await leases.renewLease({ id: lease.id, reports }, { signal });
    }
    return granted;
  }
}
