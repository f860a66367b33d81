/** Clients in browsers, and wherever there is `fetch`: the registry's HTTP API. */
import {
  create,
  createRegistry,
  type DescField,
  type DescMessage,
  type DescMethod,
  type DescMethodStreaming,
  type DescMethodUnary,
  fromJson,
  getOption,
  hasOption,
  type JsonObject,
  type JsonValue,
  type Message,
  type MessageInitShape,
  type MessageShape,
  ScalarType,
  toBinary,
  toJson,
} from "@bufbuild/protobuf";
import { type ReflectMessage, reflect } from "@bufbuild/protobuf/reflect";
import { base64Encode } from "@bufbuild/protobuf/wire";
import type { FieldMask } from "@bufbuild/protobuf/wkt";
import {
  Code,
  ConnectError,
  type StreamResponse,
  type Transport,
  type UnaryResponse,
} from "@connectrpc/connect";

import { type ClientOptions, RegistryClient } from "./client.js";
import { http } from "./gen/google/api/annotations_pb.js";
import type { HttpRule } from "./gen/google/api/http_pb.js";
import { file_google_rpc_error_details } from "./gen/google/rpc/error_details_pb.js";

/**
 * Makes a client of the registry whose HTTP API is at a URL: that of the page when it is left out. Every
 * method of the API that HTTP has is there, and called as over gRPC: what is missing is
 * `LeaseService.KeepAlive`. Of `RegistryService.Import` all requests are sent before the first answer.
 */
export function connect(
  url: string = globalThis.location?.origin ?? "http://localhost:8080",
  options: ClientOptions = {},
): RegistryClient {
  const calls = new Calls();
  return new RegistryClient(transport(url, calls), options, () => calls.close());
}

function transport(base: string, calls: Calls): Transport {
  async function send(
    method: DescMethod,
    requests: Message[],
    header: HeadersInit | undefined,
    timeoutMs: number | undefined,
    signal: AbortSignal,
  ): Promise<[Response, HttpRule]> {
    const rule = wholeRule(method);
    const [verb, path, body] = transcoded(method, rule, requests);
    const headers = new Headers(header);
    if (timeoutMs !== undefined) {
      headers.set("Grpc-Timeout", `${Math.ceil(timeoutMs)}m`);
    }
    if (body !== undefined) {
      const kind = method.methodKind === "bidi_streaming" ? "x-ndjson" : "json";
      headers.set("Content-Type", `application/${kind}`);
    }
    const url = base.replace(/\/$/, "") + path;
    const response = await fetch(url, { method: verb, headers, body: body ?? null, signal });
    if (!response.ok) {
      throw refusal(await response.json().catch(() => ({})), response);
    }
    return [response, rule];
  }

  return {
    async unary<I extends DescMessage, O extends DescMessage>(
      method: DescMethodUnary<I, O>,
      signal: AbortSignal | undefined,
      timeoutMs: number | undefined,
      header: HeadersInit | undefined,
      input: MessageInitShape<I>,
    ): Promise<UnaryResponse<I, O>> {
      const call = calls.begin(timeoutMs, signal);
      try {
        const request = create(method.input, input) as Message;
        const [response, rule] = await send(method, [request], header, timeoutMs, call.signal);
        const message = answer(method.output, rule, await response.json(), response.headers);
        return {
          stream: false,
          service: method.parent,
          method,
          header: response.headers,
          trailer: new Headers(),
          message,
        };
      } catch (thrown) {
        throw call.failure(thrown);
      } finally {
        call.over();
      }
    },

    async stream<I extends DescMessage, O extends DescMessage>(
      method: DescMethodStreaming<I, O>,
      signal: AbortSignal | undefined,
      timeoutMs: number | undefined,
      header: HeadersInit | undefined,
      input: AsyncIterable<MessageInitShape<I>>,
    ): Promise<StreamResponse<I, O>> {
      const call = calls.begin(timeoutMs, signal);
      try {
        const requests: Message[] = [];
        for await (const one of input) {
          requests.push(create(method.input, one) as Message);
        }
        const [response] = await send(method, requests, header, timeoutMs, call.signal);
        return {
          stream: true,
          service: method.parent,
          method,
          header: response.headers,
          trailer: new Headers(),
          message: messages(method.output, response, call),
        };
      } catch (thrown) {
        call.over();
        throw call.failure(thrown);
      }
    },
  };
}

/** The calls of a client, which end with it. */
class Calls {
  private readonly open = new Set<Call>();
  private closed = false;

  begin(timeoutMs: number | undefined, signal: AbortSignal | undefined): Call {
    const call = new Call(timeoutMs, signal, () => this.open.delete(call));
    this.open.add(call);
    if (this.closed) {
      call.abort();
    }
    return call;
  }

  close(): void {
    this.closed = true;
    for (const call of this.open) {
      call.abort();
    }
  }
}

/** What ends a call: its caller, its deadline, or its client. */
class Call {
  private readonly controller = new AbortController();
  private readonly timer: ReturnType<typeof setTimeout> | undefined;
  private late = false;

  constructor(
    timeoutMs: number | undefined,
    private readonly caller: AbortSignal | undefined,
    private readonly ended: () => void,
  ) {
    caller?.addEventListener("abort", this.abort);
    if (caller?.aborted) {
      this.abort();
    }
    if (timeoutMs !== undefined) {
      this.timer = setTimeout(() => {
        this.late = true;
        this.abort();
      }, timeoutMs);
    }
  }

  get signal(): AbortSignal {
    return this.controller.signal;
  }

  /** Nothing ends it any more. */
  over(): void {
    clearTimeout(this.timer);
    this.caller?.removeEventListener("abort", this.abort);
    this.ended();
  }

  /** What something that was thrown means. */
  failure(thrown: unknown): ConnectError {
    if (this.late) {
      return new ConnectError("the deadline has passed", Code.DeadlineExceeded);
    }
    if (this.signal.aborted) {
      return new ConnectError("the call was aborted", Code.Canceled);
    }
    if (thrown instanceof ConnectError) {
      return thrown;
    }
    // That is what fetch throws of a connection that could not be made, or broke.
    const code = thrown instanceof TypeError ? Code.Unavailable : Code.Internal;
    return new ConnectError(String(thrown), code, undefined, undefined, thrown);
  }

  readonly abort = () => this.controller.abort();
}

/** The messages of a stream, one in a line. */
async function* messages<O extends DescMessage>(
  schema: O,
  response: Response,
  call: Call,
): AsyncGenerator<MessageShape<O>> {
  try {
    for await (const line of lines(response)) {
      const { result, error } = JSON.parse(line) as { result?: JsonValue; error?: JsonObject };
      if (error !== undefined) {
        throw refusal(error, response);
      }
      yield fromJson(schema, standard(schema, result ?? {}), READING);
    }
  } catch (thrown) {
    throw call.failure(thrown);
  } finally {
    call.over();
  }
}

async function* lines(response: Response): AsyncGenerator<string> {
  const reader = (response.body ?? new ReadableStream()).getReader();
  const decoder = new TextDecoder();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) {
        return;
      }
      const parts = (rest + decoder.decode(value as Uint8Array, { stream: true })).split("\n");
      rest = parts.pop() ?? "";
      yield* parts;
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

/** The binding that answers the most of a method's message. */
function wholeRule(method: DescMethod): HttpRule {
  if (!hasOption(method, http)) {
    throw new ConnectError(`${method.name} is not served over HTTP`, Code.Unimplemented);
  }
  const rule = getOption(method, http);
  return [rule, ...rule.additionalBindings].find((one) => one.responseBody === "") ?? rule;
}

/** A request's method, its path with its query, and its body. */
function transcoded(
  method: DescMethod,
  rule: HttpRule,
  requests: Message[],
): [string, string, string | undefined] {
  const forms = requests.map((one) => form(reflect(method.input, one)));
  const rest = forms[0] ?? {};
  const pattern = String(rule.pattern.value);
  const path = pattern.replace(/\{([^}=]+)\}/g, (_, name: string) => {
    const steps = name.split(".");
    const last = steps.pop() ?? "";
    const owner = steps.reduce((inner, step) => (inner[step] ?? {}) as JsonObject, rest);
    const value = String(owner[last] ?? "");
    delete owner[last];
    if (["", ".", ".."].includes(value)) {
      const problem = `${name} is ${JSON.stringify(value)}, which cannot stand in a path`;
      throw new ConnectError(problem, Code.InvalidArgument);
    }
    return encodeURIComponent(value);
  });
  const verb = (rule.pattern.case ?? "").toUpperCase();
  if (rule.body === "*") {
    return [verb, path, forms.map((one) => JSON.stringify(one)).join("\n")];
  }
  let body: string | undefined;
  if (rule.body !== "") {
    body = JSON.stringify(rest[rule.body] ?? {});
    delete rest[rule.body];
  }
  const query = new URLSearchParams([...parameters(rest, method.input)]).toString();
  return [verb, query === "" ? path : `${path}?${query}`, body];
}

/** Fields as query parameters: those of messages with dots between the names. */
function* parameters(
  value: JsonObject,
  schema: DescMessage,
  prefix = "",
): Generator<[string, string]> {
  for (const [key, inner] of Object.entries(value)) {
    const name = prefix + key;
    const field = schema.fields.find((one) => one.name === key);
    if (Array.isArray(inner)) {
      yield* inner.map((one): [string, string] => [name, String(one).replaceAll(",", "\\,")]);
    } else if (inner !== null && typeof inner === "object" && field?.message !== undefined) {
      const parts = [...parameters(inner, field.message, `${name}.`)];
      // That a message is there and empty is said by one of its fields being empty.
      const text = field.message.fields.find((one) => one.scalar === ScalarType.STRING);
      yield* parts.length > 0 ? parts : ([[`${name}.${text?.name}`, ""]] as [string, string][]);
    } else {
      yield [name, String(inner)];
    }
  }
}

/** The fields of a message that are set, as JSON in the API's own spelling. */
function form(message: ReflectMessage): JsonObject {
  const made: JsonObject = {};
  for (const field of message.fields.filter((one) => message.isSet(one))) {
    if (field.fieldKind === "list") {
      made[field.name] = [...message.get(field)].map((one) => oneForm(field, one));
    } else if (field.fieldKind === "map") {
      const entries = [...message.get(field)].map(([key, one]) => [String(key), oneForm(field, one)]);
      made[field.name] = Object.fromEntries(entries) as JsonObject;
    } else {
      made[field.name] = oneForm(field, message.get(field));
    }
  }
  return made;
}

function oneForm(field: DescField, value: unknown): JsonValue {
  if (field.message !== undefined) {
    const message = value as ReflectMessage;
    if (field.message.typeName === "google.protobuf.FieldMask") {
      // Protobuf's own JSON cannot say every path.
      return (message.message as FieldMask).paths.join(",");
    }
    return isKnown(field.message) ? toJson(field.message, message.message) : form(message);
  }
  if (field.enum !== undefined) {
    return field.enum.value[value as number]?.name ?? (value as number);
  }
  if (value instanceof Uint8Array) {
    return base64Encode(value);
  }
  const isNumber = typeof value === "number" && Number.isFinite(value);
  return isNumber || typeof value === "boolean" ? value : String(value);
}

/** A message from an answer; what is not in its body is in its headers. */
function answer<O extends DescMessage>(
  schema: O,
  rule: HttpRule,
  body: JsonValue,
  headers: Headers,
): MessageShape<O> {
  if (rule.responseBody === "") {
    return fromJson(schema, standard(schema, body), READING);
  }
  const whole: JsonObject = {
    [rule.responseBody]: body,
    revision: headers.get("Registry-Revision") ?? "0",
  };
  if (schema.fields.some((field) => field.name === "next_page_token")) {
    whole["next_page_token"] = headers.get("X-Next-Page-Token") ?? "";
  }
  return fromJson(schema, standard(schema, whole), READING);
}

/**
 * The API's JSON as protobuf's reader takes it: enum values by their numbers, and no metadata that is empty,
 * which the API always has.
 */
function standard(schema: DescMessage, value: JsonValue): JsonValue {
  if (value === null || typeof value !== "object" || Array.isArray(value)) {
    return value;
  }
  if (schema.typeName === ANY) {
    // A detail of a kind that this client is too old to know has no form.
    return DETAILS.getMessage(typeOf(value)) === undefined ? {} : value;
  }
  if (isKnown(schema)) {
    return value;
  }
  const made: JsonObject = {};
  for (const [name, inner] of Object.entries(value)) {
    const field = schema.fields.find((one) => one.name === name);
    if (field === undefined) {
      continue; // A newer server says more.
    }
    if (Array.isArray(inner)) {
      made[name] = inner.map((one) => oneStandard(field, one));
    } else if (field.fieldKind === "map") {
      const entries = Object.entries(inner as JsonObject);
      made[name] = Object.fromEntries(entries.map(([key, one]) => [key, oneStandard(field, one)]));
    } else if (!(field.message?.typeName === STRUCT && isEmpty(inner))) {
      made[name] = oneStandard(field, inner);
    }
  }
  return made;
}

function oneStandard(field: DescField, value: JsonValue): JsonValue {
  if (field.message !== undefined) {
    return standard(field.message, value);
  }
  if (field.enum !== undefined && typeof value === "string") {
    const prefix = field.enum.sharedPrefix?.toUpperCase() ?? "";
    const full = prefix + value.toUpperCase();
    const known = field.enum.values.find((one) => one.name === full);
    // A value that this client is too old to know is unspecified.
    return known?.number ?? 0;
  }
  return value;
}

const STRUCT = "google.protobuf.Struct";
const ANY = "google.protobuf.Any";

function isEmpty(value: JsonValue): boolean {
  return value !== null && typeof value === "object" && Object.keys(value).length === 0;
}

function isKnown(schema: DescMessage): boolean {
  return schema.typeName.startsWith("google.protobuf.");
}

const DETAILS = createRegistry(file_google_rpc_error_details);
const READING = { registry: DETAILS };

/** The type of a google.protobuf.Any in JSON. */
function typeOf(value: JsonObject): string {
  return String(value["@type"]).replace(/^.*\//, "");
}

/** The error that a google.rpc.Status in JSON says. */
function refusal(body: JsonObject, response: Response): ConnectError {
  const code = typeof body["code"] === "number" ? body["code"] : Code.Unavailable;
  const message = typeof body["message"] === "string" ? body["message"] : response.statusText;
  const error = new ConnectError(message, code as Code, response.headers);
  for (const detail of (body["details"] ?? []) as JsonObject[]) {
    const { "@type": _url, ...said } = detail;
    const type = typeOf(detail);
    const schema = DETAILS.getMessage(type);
    if (schema !== undefined) {
      const value = toBinary(schema, fromJson(schema, said, { ignoreUnknownFields: true }));
      error.details.push({ type, value });
    }
  }
  return error;
}
