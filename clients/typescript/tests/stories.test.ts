import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { basename } from "node:path";
import process from "node:process";
import { describe, test } from "node:test";

import {
  createRegistry,
  type DescMethod,
  fromJson,
  hasOption,
  type JsonObject,
  type JsonValue,
  type Message,
  toJson,
} from "@bufbuild/protobuf";
import { Code } from "@connectrpc/connect";
import { parse } from "yaml";

import * as services from "./services.js";
import { http } from "../src/gen/google/api/annotations_pb.js";
import { type RegistryClient, RegistryError } from "../src/index.js";
import { connect as connectNode } from "../src/node.js";
import { connect as connectWeb } from "../src/web.js";

interface Step extends JsonObject {
  call?: string;
  request?: JsonObject;
  requests?: JsonObject[];
  keep?: Record<string, string>;
  open?: string;
  read?: string;
  among?: boolean;
  until?: string;
}

// A JSON object of story files, each with where a new server is: host:port of gRPC, or a URL of HTTP.
const served = process.env["REGISTRY_STORIES"];

// What depends on the store, the build or the size of encodings.
const LEFT_OUT = new Set([
  "epoch", "token_epoch", "store", "store_bytes", "record_bytes", "server_version", "request_id",
  "memory_bytes", "data", "remaining", "manifest_digest",
]);
const NAME = /^<(time|id) \d+>$/;
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const registry = createRegistry(...services.all);

/** One run of a story: what it has kept, and which streams are open. */
class Story {
  private readonly kept = new Map<string, JsonValue>();
  private readonly names = new Map<string, string>();
  private readonly values = new Map<string, string>();
  private among = false;
  private readonly streams = new Map<string, [DescMethod, AsyncIterator<Message>]>();

  constructor(
    private readonly client: RegistryClient,
    private readonly signal: AbortSignal,
  ) {}

  /** Does a step; answers what it adds to the step: `answer`, `answers` or `error`. */
  async play(step: Step): Promise<JsonObject> {
    this.among = step.among ?? false;
    try {
      return step.read === undefined
        ? await this.call(step)
        : { answers: await this.read(step.read, step) };
    } catch (thrown) {
      if (!(thrown instanceof RegistryError)) {
        throw thrown;
      }
      const error: JsonObject = { code: status(thrown.code), reason: thrown.reasonText };
      if (Object.keys(thrown.metadata).length > 0) {
        error["metadata"] = { ...thrown.metadata };
      }
      if (thrown.fieldViolations.length > 0) {
        error["fields"] = thrown.fieldViolations.map((one) => one.field);
      }
      return { error };
    }
  }

  private async call(step: Step): Promise<JsonObject> {
    const method = methodOf(step.call ?? "");
    const stub = this.client.service(method.parent) as Record<string, (...args: unknown[]) => unknown>;
    const called = stub[method.localName];
    assert.ok(called);
    const requests = (step.requests ?? [step.request ?? {}]).map((form) =>
      fromJson(method.input, this.filled(form)),
    );
    const options = { signal: this.signal };
    if (method.methodKind === "unary") {
      const answer = told(method, (await called(requests[0], options)) as Message);
      for (const [variable, path] of Object.entries(step.keep ?? {})) {
        this.kept.set(variable, at(answer, path.split(".")));
      }
      return { answer };
    }
    const input = method.methodKind === "server_streaming" ? requests[0] : each(requests);
    const stream = called(input, options) as AsyncIterable<Message>;
    if (step.open !== undefined) {
      const iterator = stream[Symbol.asyncIterator]();
      this.streams.set(step.open, [method, iterator]);
      return {};
    }
    const answers: JsonObject[] = [];
    for await (const answer of stream) {
      answers.push(told(method, answer));
    }
    return { answers };
  }

  private async read(name: string, step: Step): Promise<JsonValue[]> {
    const [method, messages] = this.streams.get(name) ?? assert.fail(name);
    const part = ["events", "changes"].find((one) => one in step);
    const wanted = part === undefined ? Infinity : Number(step[part]);
    const found: JsonValue[] = [];
    while (found.length < wanted) {
      const next = await messages.next();
      assert.ok(!next.done, `${name} has ended`);
      const answer = told(method, next.value);
      // How many revisions come in one message depends on the moment.
      found.push(...(part === undefined ? [answer] : ((answer[part] ?? []) as JsonValue[])));
      if ("mark" in answer && answer["mark"] === step.until) {
        break;
      }
    }
    return found;
  }

  /** A request with what was kept in the place of `$name`. */
  private filled(value: JsonValue): JsonValue {
    if (typeof value === "string" && value.startsWith("$")) {
      return this.kept.get(value.slice(1)) ?? assert.fail(value);
    }
    if (Array.isArray(value)) {
      return value.map((one) => this.filled(one));
    }
    if (value !== null && typeof value === "object") {
      return Object.fromEntries(
        Object.entries(value).map(([key, inner]) => [key, this.filled(inner)]),
      );
    }
    return value;
  }

  /**
   * Fails unless what was found is what is told. Times, made ids and tokens have names in the files: equal ones
   * have equal names, and others have others. Where the answer tells of more than the story's own, that is
   * among it: fields and items may be more, and numbers larger.
   */
  check(path: string, expected: JsonValue | undefined, found: JsonValue | undefined): void {
    if (this.among && Array.isArray(expected) && Array.isArray(found)) {
      for (const one of expected) {
        assert.ok(found.some((other) => this.same(one, other)), `${path} lacks ${show(one)}`);
      }
    } else if (this.among && isNumber(expected) && isNumber(found)) {
      assert.ok(Number(found) >= Number(expected), `${path}: ${show(found)}`);
    } else if (Array.isArray(expected)) {
      assert.ok(Array.isArray(found) && found.length === expected.length, `${path}: ${show(found)}`);
      expected.forEach((one, index) => this.check(`${path}.${index}`, one, found[index]));
    } else if (expected !== null && typeof expected === "object") {
      assert.ok(found !== null && typeof found === "object" && !Array.isArray(found), path);
      const rest = new Set(Object.keys(found).filter((key) => !LEFT_OUT.has(key)));
      for (const [key, inner] of Object.entries(expected)) {
        const actual = this.names.get(key) ?? key;
        assert.ok(rest.delete(actual), `${path} lacks ${key}: ${show(found)}`);
        this.check(`${path}.${key}`, inner, found[actual]);
      }
      assert.deepEqual(this.among ? [] : [...rest], [], `${path} has more: ${show(found)}`);
    } else if (typeof expected === "string") {
      const same = typeof found === "string" && this.means(expected, found);
      assert.ok(same, `${path}: told ${expected}, found ${show(found)}`);
    } else {
      assert.equal(found, expected, `${path}: told ${show(expected)}, found ${show(found)}`);
    }
  }

  private same(expected: JsonValue, found: JsonValue): boolean {
    try {
      this.check("", expected, found);
      return true;
    } catch {
      return false;
    }
  }

  private means(expected: string, found: string): boolean {
    if (this.among) {
      return (this.names.get(expected) ?? expected) === found;
    }
    if (expected === "<token>") {
      return found !== "";
    }
    const kind = NAME.exec(expected)?.[1];
    if (kind === undefined) {
      return expected === found;
    }
    const [value, name] = [this.names.get(expected), this.values.get(found)];
    if (value !== undefined || name !== undefined) {
      return value === found && name === expected;
    }
    this.names.set(expected, found);
    this.values.set(found, expected);
    return kind === "id" ? UUID.test(found) : !Number.isNaN(Date.parse(found));
  }
}

function methodOf(call: string): DescMethod {
  const [service, name] = call.split("/");
  const described = registry.getService(`ose.registry.v1.${service}`);
  return described?.methods.find((one) => one.name === name) ?? assert.fail(call);
}

function isNumber(value: JsonValue | undefined): boolean {
  return typeof value === "number" || (typeof value === "string" && /^\d+$/.test(value));
}

function told(method: DescMethod, message: Message): JsonObject {
  return toJson(method.output, message, { registry, useProtoFieldName: true }) as JsonObject;
}

function at(value: JsonValue, path: string[]): JsonValue {
  return path.reduce((inner, part) => (inner as JsonObject)[part] ?? assert.fail(part), value);
}

function show(value: JsonValue | undefined): string {
  return JSON.stringify(value, undefined, 1);
}

function status(code: Code): string {
  const name = (Code[code] ?? "").replace(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();
  return name === "CANCELED" ? "CANCELLED" : name;
}

async function* each<T>(values: T[]): AsyncGenerator<T> {
  yield* values;
}

describe("TestStories", { skip: served === undefined }, () => {
  for (const [file, target] of Object.entries<string>(JSON.parse(served ?? "{}"))) {
    test(`${basename(file)} is answered as it says`, { timeout: 60_000 }, async () => {
      const overHttp = target.startsWith("http");
      const client = overHttp ? connectWeb(target) : connectNode(target);
      const ended = new AbortController();
      const story = new Story(client, ended.signal);
      try {
        const { steps } = parse(readFileSync(file, "utf8")) as { steps: Step[] };
        for (const [number, step] of steps.entries()) {
          if (overHttp && step.call !== undefined && !hasOption(methodOf(step.call), http)) {
            continue;
          }
          const found = await story.play(step);
          for (const part of ["answer", "answers", "error"]) {
            const path = `step ${number} (${String(step["why"])}): ${part}`;
            assert.equal(part in found, part in step, `${path}: found ${show(found)}`);
            story.check(path, step[part], found[part]);
          }
        }
      } finally {
        ended.abort();
        client.close();
      }
    });
  }
});
