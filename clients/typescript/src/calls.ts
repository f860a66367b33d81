import {
  clone,
  create,
  type DescMessage,
  type DescMethodStreaming,
  type DescMethodUnary,
  type Message,
  type MessageInitShape,
} from "@bufbuild/protobuf";
import { reflect } from "@bufbuild/protobuf/reflect";
import { Code, type StreamResponse, type Transport, type UnaryResponse } from "@connectrpc/connect";

import { RegistryError } from "./errors.js";
import { delay, type RetryPolicy } from "./retry.js";
import { setTimeout } from "./timer.js";

/** What all calls of a client have in common. */
export interface CallSettings {
  /** The deadline of unary calls that are given none, in milliseconds, retries included. */
  readonly timeoutMs: number;
  /** How calls that are UNAVAILABLE are repeated. */
  readonly retry: RetryPolicy;
  /** Sent with every call. */
  readonly headers: Readonly<Record<string, string>>;
}

/**
 * Makes calls over another transport as a registry's client makes them: with a deadline, repeated while
 * they are UNAVAILABLE, writes with an idempotency key, and failing with RegistryError.
 */
export function careful(transport: Transport, settings: CallSettings): Transport {
  function headers(given: HeadersInit | undefined): Headers {
    const all = new Headers(settings.headers);
    new Headers(given).forEach((value, name) => all.set(name, value));
    return all;
  }

  async function repeated<T>(
    attempt: (leftMs: number | undefined) => Promise<T>,
    timeoutMs: number | undefined,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    const deadline = timeoutMs === undefined ? Infinity : performance.now() + timeoutMs;
    for (let failures = 1; ; failures++) {
      try {
        const left = deadline - performance.now();
        return await attempt(left === Infinity ? undefined : Math.max(1, Math.ceil(left)));
      } catch (thrown) {
        const error = RegistryError.from(thrown);
        const wait = delay(settings.retry, failures);
        const again = error.code === Code.Unavailable && failures < settings.retry.maxAttempts;
        if (!again || signal?.aborted || performance.now() + wait >= deadline) {
          throw error;
        }
        await setTimeout(wait, signal).catch((reason: unknown) => {
          throw RegistryError.from(reason);
        });
      }
    }
  }

  return {
    async unary<I extends DescMessage, O extends DescMessage>(
      method: DescMethodUnary<I, O>,
      signal: AbortSignal | undefined,
      timeoutMs: number | undefined,
      header: HeadersInit | undefined,
      input: MessageInitShape<I>,
    ): Promise<UnaryResponse<I, O>> {
      const request = settings.retry.maxAttempts > 1 ? keyed(method.input, input) : input;
      return repeated(
        (left) => transport.unary(method, signal, left, headers(header), request),
        timeoutMs ?? (settings.timeoutMs || undefined),
        signal,
      );
    },

    async stream<I extends DescMessage, O extends DescMessage>(
      method: DescMethodStreaming<I, O>,
      signal: AbortSignal | undefined,
      timeoutMs: number | undefined,
      header: HeadersInit | undefined,
      input: AsyncIterable<MessageInitShape<I>>,
    ): Promise<StreamResponse<I, O>> {
      // A watch goes on in its own way, and the requests of the caller are there only once.
      const once = method.methodKind !== "server_streaming" || method.name.startsWith("Watch");
      const request = once ? input : replayable(input);
      const begin = async (left: number | undefined) => {
        const response = await transport.stream(method, signal, left, headers(header), request);
        return once ? response : { ...response, message: await begun(response.message) };
      };
      const response = await (once
        ? begin(timeoutMs).catch((thrown: unknown) => {
            throw RegistryError.from(thrown);
          })
        : repeated(begin, timeoutMs, signal));
      return { ...response, message: translated(response.message) };
    },
  };
}

/** A write with an idempotency key, if it has none and is more than a rehearsal; else as it was. */
function keyed<I extends DescMessage>(schema: I, input: MessageInitShape<I>): MessageInitShape<I> {
  const key = schema.field["idempotencyKey"];
  if (key === undefined) {
    return input;
  }
  const given = create(schema, input) as Message;
  const dry = schema.field["dryRun"];
  const fields = reflect(schema, given as never);
  if (fields.get(key) !== "" || (dry !== undefined && fields.get(dry) === true)) {
    return input;
  }
  // The caller's message is not touched.
  const copied = clone(schema, given as never);
  reflect(schema, copied).set(key, globalThis.crypto.randomUUID());
  return copied as MessageInitShape<I>;
}

/** The one request of a server-streaming method, for every attempt. */
function replayable<T>(input: AsyncIterable<T>): AsyncIterable<T> {
  const all: Promise<T[]> = (async () => {
    const found: T[] = [];
    for await (const one of input) {
      found.push(one);
    }
    return found;
  })();
  return {
    async *[Symbol.asyncIterator]() {
      yield* await all;
    },
  };
}

/** A stream whose first message has come, or whose end has. */
async function begun<T>(messages: AsyncIterable<T>): Promise<AsyncIterable<T>> {
  const iterator = messages[Symbol.asyncIterator]();
  let first: IteratorResult<T> | undefined = await iterator.next();
  return {
    [Symbol.asyncIterator]: () => ({
      next: async () => {
        const next = first ?? (await iterator.next());
        first = undefined;
        return next;
      },
      return: async () => (await iterator.return?.()) ?? { done: true, value: undefined },
    }),
  };
}

async function* translated<T>(messages: AsyncIterable<T>): AsyncGenerator<T> {
  try {
    yield* messages;
  } catch (thrown) {
    throw RegistryError.from(thrown);
  }
}
