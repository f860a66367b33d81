export { Code } from "@connectrpc/connect";

export { type ClientOptions, RegistryClient } from "./client.js";
export { DOMAIN, type FieldViolation, type Reason, RegistryError } from "./errors.js";
export { Graph, walk } from "./graph.js";
export { type KeepOptions, KeptLease } from "./lease.js";
export { pages } from "./pages.js";
export { DEFAULT_RETRY, type RetryPolicy } from "./retry.js";
export type { Place, WatchOptions, WatchUpdate } from "./watch.js";
