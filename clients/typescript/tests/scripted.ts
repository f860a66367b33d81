// A server whose failures are scripted: what a real one cannot be made to do at the right moment.
import type { MessageInitShape } from "@bufbuild/protobuf";
import { Code, ConnectError, createRouterTransport, type ServiceImpl } from "@connectrpc/connect";

import { type ClientOptions, RegistryClient } from "../src/index.js";
import { BadRequestSchema, ErrorInfoSchema } from "../src/gen/google/rpc/error_details_pb.js";
import { EntityService } from "../src/gen/ose/registry/v1/entity_service_pb.js";
import { LeaseService } from "../src/gen/ose/registry/v1/lease_service_pb.js";
import { RegistryService } from "../src/gen/ose/registry/v1/registry_service_pb.js";
import {
  type WatchRequest,
  type WatchResponseSchema,
  WatchService,
} from "../src/gen/ose/registry/v1/watch_service_pb.js";

export type Message = MessageInitShape<typeof WatchResponseSchema>;
/** What one watch stream sends, waits for, and what ends it; "hang" is a server that falls silent. */
export type Connection = (Message | Promise<void> | Error | "hang")[];

export const gone = new ConnectError("a restart", Code.Unavailable);

/** An error as the registry makes it. */
export function refusal(code: Code, reason: string): ConnectError {
  return new ConnectError("because", code, undefined, [
    { desc: ErrorInfoSchema, value: { reason, domain: "registry.ose", metadata: { id: "billing" } } },
    {
      desc: BadRequestSchema,
      value: { fieldViolations: [{ field: "entity.id", description: "no spaces" }] },
    },
  ]);
}

/** A client without a wait between attempts, of a server that does what is given. */
export function client(
  scripts: {
    entities?: Partial<ServiceImpl<typeof EntityService>>;
    leases?: Partial<ServiceImpl<typeof LeaseService>>;
    registry?: Partial<ServiceImpl<typeof RegistryService>>;
    watch?: Connection[];
  },
  options: ClientOptions = {},
): { client: RegistryClient; watches: WatchRequest[] } {
  const watches: WatchRequest[] = [];
  const left = [...(scripts.watch ?? [])];
  const transport = createRouterTransport(({ service }) => {
    service(EntityService, scripts.entities ?? {});
    service(LeaseService, scripts.leases ?? {});
    service(RegistryService, scripts.registry ?? {});
    service(WatchService, {
      async *watch(request, { signal }) {
        watches.push(request);
        for (const one of left.shift() ?? ["hang" as const]) {
          if (one === "hang") {
            await new Promise((resolve) => signal.addEventListener("abort", resolve));
          } else if (one instanceof Promise) {
            await one;
          } else if (one instanceof Error) {
            throw one;
          } else {
            yield one;
          }
        }
      },
    });
  });
  const retry = { initialBackoffMs: 0.01, ...options.retry };
  return { client: new RegistryClient(transport, { ...options, retry }), watches };
}

/** A copy of what fails so many times before it works. */
export function failing<T>(errors: Error[], answer: (request: T) => object) {
  const requests: T[] = [];
  return {
    requests,
    call: (request: T): never => {
      requests.push(request);
      const error = errors.shift();
      if (error !== undefined) {
        throw error;
      }
      return answer(request) as never;
    },
  };
}

