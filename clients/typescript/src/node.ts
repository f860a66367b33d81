/** Clients in Node.js: gRPC over HTTP/2. */
import process from "node:process";

import { createGrpcTransport, Http2SessionManager } from "@connectrpc/connect-node";

import { type ClientOptions, RegistryClient } from "./client.js";

/** The server that is connected to when none is named. */
export const DEFAULT_TARGET = "localhost:50051";

/**
 * Makes a client of the registry at a target: `host:port`, or `https://host:port` for TLS;
 * `$REGISTRY_SERVER`, else `localhost:50051`, when it is left out. The connection is made when it is first
 * needed, and made again when it breaks. `close()` lets the process end.
 */
export function connect(
  target: string = process.env["REGISTRY_SERVER"] || DEFAULT_TARGET,
  options: ClientOptions = {},
): RegistryClient {
  const baseUrl = target.includes("://") ? target : `http://${target}`;
  // A peer that vanished is noticed within 40 s.
  const sessionManager = new Http2SessionManager(baseUrl, {
    pingIntervalMs: 30_000,
    pingTimeoutMs: 10_000,
  });
  const transport = createGrpcTransport({ baseUrl, sessionManager });
  return new RegistryClient(transport, options, () => sessionManager.abort());
}
