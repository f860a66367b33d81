import { Code, ConnectError } from "@connectrpc/connect";

import { BadRequestSchema, ErrorInfoSchema } from "./gen/google/rpc/error_details_pb.js";
import { ErrorReason } from "./gen/ose/registry/v1/error_reason_pb.js";

/** The domain of the registry's own reasons. */
export const DOMAIN = "registry.ose";

/** Why a call was refused: the values of ErrorReason, whose comments have the facts of each. */
export type Reason = Exclude<keyof typeof ErrorReason, "UNSPECIFIED">;

/** One malformed field of a request. */
export interface FieldViolation {
  /** Its path, such as `entity.labels.tier`. */
  readonly field: string;
  /** What was expected of it. */
  readonly description: string;
}

/**
 * What a call failed with.
 *
 *     if (error instanceof RegistryError && error.reason === "ENTITY_NOT_FOUND") {
 *       console.log(error.metadata.id);
 *     }
 */
export class RegistryError extends Error {
  override readonly name = "RegistryError";
  /** What kind of failure it is: a gRPC status code. */
  readonly code: Code;
  /** Exactly what happened; undefined if the registry did not say, or said what this client is too old to know. */
  readonly reason: Reason | undefined;
  /** The reason as it was sent; empty if there was none of the registry's own. */
  readonly reasonText: string;
  /** Where the reason comes from: "registry.ose", if it is the registry's own. */
  readonly domain: string;
  /** The facts that belong to the reason. */
  readonly metadata: Readonly<Record<string, string>>;
  /** The malformed fields of the request. */
  readonly fieldViolations: readonly FieldViolation[];

  private constructor(cause: ConnectError) {
    const info = cause.findDetails(ErrorInfoSchema)[0];
    const ours = info?.domain === DOMAIN;
    const violations = cause.findDetails(BadRequestSchema).flatMap((bad) => bad.fieldViolations);
    const label = ours ? info.reason : Code[codeOf(cause, info === undefined)];
    const lines = violations.map((one) => `\n  ${one.field}: ${one.description}`);
    super(`${label}: ${cause.rawMessage}${lines.join("")}`, { cause });
    this.code = codeOf(cause, info === undefined);
    this.domain = info?.domain ?? "";
    this.reasonText = ours ? info.reason : "";
    this.reason = isReason(this.reasonText) ? this.reasonText : undefined;
    this.metadata = ours ? { ...info.metadata } : {};
    this.fieldViolations = violations.map(({ field, description }) => ({ field, description }));
  }

  /** The error that anything thrown by a call is to callers. */
  static from(thrown: unknown): RegistryError {
    return thrown instanceof RegistryError ? thrown : new RegistryError(ConnectError.from(thrown));
  }

  /**
   * Whether a stream ended for a reason that a new one may not have: UNAVAILABLE, or what HTTP/2 makes
   * of a stream that is reset, which is not the registry's.
   */
  get isBrokenStream(): boolean {
    const reset = this.code === Code.Internal || this.code === Code.Canceled;
    return this.code === Code.Unavailable || (reset && this.domain === "");
  }
}

/** The transport says ABORTED of a connection that broke; the registry's own ABORTED has a reason. */
function codeOf(error: ConnectError, isOfTransport: boolean): Code {
  return error.code === Code.Aborted && isOfTransport ? Code.Unavailable : error.code;
}

function isReason(text: string): text is Reason {
  return text !== "UNSPECIFIED" && text in ErrorReason;
}

/** An error of this side that another attempt may not have. */
export function unavailable(message: string): RegistryError {
  return RegistryError.from(new ConnectError(message, Code.Unavailable));
}
