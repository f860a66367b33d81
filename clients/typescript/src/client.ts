import type { DescService, MessageInitShape } from "@bufbuild/protobuf";
import { type Client, createClient, type Transport } from "@connectrpc/connect";

import { careful } from "./calls.js";
import { coalescing } from "./coalescing.js";
import { AdminService } from "./gen/ose/registry/v1/admin_service_pb.js";
import { EntityService } from "./gen/ose/registry/v1/entity_service_pb.js";
import { FeatureService } from "./gen/ose/registry/v1/feature_service_pb.js";
import { GraphService } from "./gen/ose/registry/v1/graph_service_pb.js";
import { HealthService } from "./gen/ose/registry/v1/health_service_pb.js";
import type { LeaseSchema } from "./gen/ose/registry/v1/lease_pb.js";
import { LeaseService } from "./gen/ose/registry/v1/lease_service_pb.js";
import { PluginService } from "./gen/ose/registry/v1/plugin_service_pb.js";
import { RegistryService } from "./gen/ose/registry/v1/registry_service_pb.js";
import { RelationshipService } from "./gen/ose/registry/v1/relationship_service_pb.js";
import { SearchService } from "./gen/ose/registry/v1/search_service_pb.js";
import { type WatchRequestSchema, WatchService } from "./gen/ose/registry/v1/watch_service_pb.js";
import { type KeepOptions, KeptLease } from "./lease.js";
import { DEFAULT_RETRY, type RetryPolicy } from "./retry.js";
import { Follower, type WatchOptions, type WatchUpdate } from "./watch.js";

/** How a client makes its calls. */
export interface ClientOptions {
  /** The deadline of unary calls that are given none, in milliseconds, retries included; 10,000 when it is left out, none when it is 0. */
  readonly timeoutMs?: number;
  /** How calls that are UNAVAILABLE are repeated. */
  readonly retry?: Partial<RetryPolicy>;
  /** Sent with every call. */
  readonly headers?: Readonly<Record<string, string>>;
  /**
   * Join calls that are made at the same time: getEntity into batchGetEntities, and createEntity, updateEntity,
   * createRelationship and updateRelationship into a write whose mutations are independent. What is called while
   * two calls like it are under way is gathered until one of them has returned. Answers, errors, deadlines and
   * signals are those of single calls. It pays from a few calls at once on. Calls with the same headers are
   * joined, and reads that read in the same way; a write with an idempotency key and a dry run are made alone.
   */
  readonly coalesce?: boolean;
}

/**
 * A client of one registry: typed stubs of its services, and what every caller would have to write.
 *
 * It is made by `connect` of `ose-registry/node` or of `ose-registry/web`.
 */
export class RegistryClient {
  readonly admin: Client<typeof AdminService>;
  readonly entities: Client<typeof EntityService>;
  readonly features: Client<typeof FeatureService>;
  readonly graph: Client<typeof GraphService>;
  readonly health: Client<typeof HealthService>;
  readonly leases: Client<typeof LeaseService>;
  readonly plugins: Client<typeof PluginService>;
  readonly registry: Client<typeof RegistryService>;
  readonly relationships: Client<typeof RelationshipService>;
  readonly search: Client<typeof SearchService>;

  private readonly transport: Transport;
  private readonly retry: RetryPolicy;
  private readonly end: () => void;

  /** Makes a client that calls over a transport, and ends it by `end`. */
  constructor(transport: Transport, options: ClientOptions = {}, end: () => void = () => undefined) {
    this.retry = { ...DEFAULT_RETRY, ...options.retry };
    const timeoutMs = options.timeoutMs ?? 10_000;
    const headers = options.headers ?? {};
    const calls = careful(transport, { timeoutMs, retry: this.retry, headers });
    this.transport = options.coalesce ? coalescing(calls, timeoutMs) : calls;
    this.end = end;
    this.admin = this.service(AdminService);
    this.entities = this.service(EntityService);
    this.features = this.service(FeatureService);
    this.graph = this.service(GraphService);
    this.health = this.service(HealthService);
    this.leases = this.service(LeaseService);
    this.plugins = this.service(PluginService);
    this.registry = this.service(RegistryService);
    this.relationships = this.service(RelationshipService);
    this.search = this.service(SearchService);
  }

  /** The stub of any service that the server has, called as all others are. */
  service<Service extends DescService>(service: Service): Client<Service> {
    return createClient(service, this.transport);
  }

  /** Ends the connection and all calls on it. */
  close(): void {
    this.end();
  }

  /**
   * Yields the changes that match, in order, each once, none skipped, until the loop is left or `signal` is
   * aborted. A revision is never split over two updates. When the connection breaks or the server restarts,
   * the watch goes on where it was. Without a start and without `snapshot` it begins with the changes after
   * the revision that is current when the loop begins.
   *
   * It throws RegistryError: OUT_OF_RANGE if the place to begin or to go on is compacted and
   * `resetOnCompaction` is not set; FAILED_PRECONDITION if a token is of another history, because the registry
   * was restored from a backup: begin again with `snapshot`.
   */
  watch(
    request: MessageInitShape<typeof WatchRequestSchema> = {},
    options: WatchOptions = {},
  ): AsyncGenerator<WatchUpdate, void, undefined> {
    const current = async (signal?: AbortSignal) =>
      (await this.entities.listEntities({ limit: 1 }, signal && { signal })).revision;
    const changes = this.service(WatchService);
    return new Follower(changes, current, this.retry, request, options).updates();
  }

  /**
   * Grants a lease and renews it three times within its `ttl`, until it is released.
   *
   * One that has expired all the same, because the registry was away from here for too long or somebody revoked
   * it, is granted anew under its id, with those of its entities that are there. Those that are unhealthy then
   * are reported as `report` did last, else healthy.
   */
  keepLease(
    lease: MessageInitShape<typeof LeaseSchema>,
    options: KeepOptions = {},
  ): Promise<KeptLease> {
    return KeptLease.begin(this, this.retry, lease, options);
  }
}
