import { create, type Message, type MessageInitShape, toBinary } from "@bufbuild/protobuf";
import { anyUnpack } from "@bufbuild/protobuf/wkt";
import { Code, ConnectError } from "@connectrpc/connect";

import { DOMAIN, RegistryError } from "./errors.js";
import { BadRequestSchema, ErrorInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import type { Status } from "./gen/google/rpc/status_pb.js";
import {
  type BatchGetEntitiesRequest,
  BatchGetEntitiesRequestSchema,
  type CreateEntityRequest,
  type GetEntityRequest,
  type UpdateEntityRequest,
} from "./gen/ose/registry/v1/entity_service_pb.js";
import type { MutationSchema } from "./gen/ose/registry/v1/mutation_pb.js";
import type {
  CreateRelationshipRequest,
  UpdateRelationshipRequest,
} from "./gen/ose/registry/v1/relationship_service_pb.js";

/** What a field is in within a mutation, and in the request of a single call. */
const PREFIXES = [
  ["create_entity.", "entity."],
  ["create_relationship.", "relationship."],
  ["update_entity.", ""],
  ["update_relationship.", ""],
] as const;

type Write =
  | CreateEntityRequest
  | CreateRelationshipRequest
  | UpdateEntityRequest
  | UpdateRelationshipRequest;

/** Whether a request is a single read. */
export function isRead(request: Message): request is GetEntityRequest {
  return request.$typeName === "ose.registry.v1.GetEntityRequest";
}

/** How a single read reads, without what. Both requests have the same fields but for the ids. */
export function batchGet(read: GetEntityRequest): BatchGetEntitiesRequest {
  const { $typeName, $unknown, id, ...options } = read;
  return create(BatchGetEntitiesRequestSchema, options);
}

/** A text that is the same for reads that read in the same way. */
export function optionsOf(read: GetEntityRequest): string {
  return toBinary(BatchGetEntitiesRequestSchema, batchGet(read)).join();
}

/** The error of a read of what is not there. */
export function missing(id: string, revision: bigint): RegistryError {
  const metadata = { id, revision: String(revision) };
  const details = [
    { desc: ErrorInfoSchema, value: { reason: "ENTITY_NOT_FOUND", domain: DOMAIN, metadata } },
  ];
  return RegistryError.from(new ConnectError(`no entity '${id}'`, Code.NotFound, undefined, details));
}

/**
 * What a write does that may be joined: one without a key of its own that is no rehearsal. One that lacks what it
 * is to write is left to be refused as it is.
 */
export function mutationOf(request: Message): MessageInitShape<typeof MutationSchema> | undefined {
  const write = request as Write;
  if (write.idempotencyKey || write.dryRun) {
    return undefined;
  }
  switch (write.$typeName) {
    case "ose.registry.v1.CreateEntityRequest":
      return write.entity && { operation: { case: "createEntity", value: write.entity } };
    case "ose.registry.v1.CreateRelationshipRequest":
      return (
        write.relationship && {
          operation: { case: "createRelationship", value: write.relationship },
        }
      );
    case "ose.registry.v1.UpdateEntityRequest": {
      const { $typeName, $unknown, idempotencyKey, dryRun, ...value } = write;
      return value.entity && { operation: { case: "updateEntity", value } };
    }
    case "ose.registry.v1.UpdateRelationshipRequest": {
      const { $typeName, $unknown, idempotencyKey, dryRun, ...value } = write;
      return value.relationship && { operation: { case: "updateRelationship", value } };
    }
    default:
      return undefined;
  }
}

/** What a mutation failed with, as a call of its own says it: with the names of its own fields. */
export function refusal(status: Status): RegistryError {
  let message = status.message;
  const details = status.details.map((detail) => {
    const bad = anyUnpack(detail, BadRequestSchema);
    bad?.fieldViolations.forEach((one) => (one.field = ownField(one.field)));
    const info = anyUnpack(detail, ErrorInfoSchema);
    const field = info?.metadata["field"];
    if (info !== undefined && field !== undefined) {
      info.metadata["field"] = ownField(field);
      message = message.replace(`${field}: `, () => `${ownField(field)}: `);
    }
    if (bad !== undefined) {
      return { desc: BadRequestSchema, value: bad };
    }
    return info === undefined
      ? { type: detail.typeUrl.replace(/^.*\//, ""), value: detail.value }
      : { desc: ErrorInfoSchema, value: info };
  });
  const error = new ConnectError(message, status.code as Code);
  error.details = details;
  return RegistryError.from(error);
}

function ownField(field: string): string {
  const [prefix, own] = PREFIXES.find(([prefix]) => field.startsWith(prefix)) ?? ["", ""];
  return own + field.slice(prefix.length);
}
