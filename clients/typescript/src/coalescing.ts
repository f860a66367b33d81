import {
  clone,
  create,
  type DescMessage,
  type DescMethodUnary,
  fromBinary,
  type Message,
  type MessageInitShape,
  toBinary,
} from "@bufbuild/protobuf";
import { Code, ConnectError, type Transport, type UnaryResponse } from "@connectrpc/connect";

import { RegistryError } from "./errors.js";
import { type Entity, EntitySchema } from "./gen/ose/registry/v1/entity_pb.js";
import { EntityService, type GetEntityRequest } from "./gen/ose/registry/v1/entity_service_pb.js";
import { RegistryService } from "./gen/ose/registry/v1/registry_service_pb.js";
import { batchGet, isRead, missing, mutationOf, optionsOf, refusal } from "./joined.js";

// A call costs a client and a server several times what is done for it. So what is asked while calls like it
// are under way is gathered, and asked for together as soon as one of them has returned: who is alone never
// waits, and the more there is to do the less each of it costs.

const LANES = 2;
/** How many calls are joined at most, and how large they are together: reads have to fit into a URL. */
const READS = { count: 100, size: 6 << 10 };
const WRITES = { count: 250, size: 1 << 20 };

/** Makes a call for a whole batch. */
type Call = <I extends DescMessage, O extends DescMessage>(
  method: DescMethodUnary<I, O>,
  input: MessageInitShape<I>,
) => Promise<UnaryResponse<I, O>>;

/**
 * Makes calls over another transport, whose deadline for calls that are given none is told, and few of those
 * that are made at the same time and may be joined: see `coalesce` of ClientOptions.
 */
export function coalescing(transport: Transport, defaultMs: number): Transport {
  const gatherings = new Map<string, Gathering>();

  function gathering(kind: string, reads: boolean, header: Headers): Gathering {
    let found = gatherings.get(kind);
    if (found === undefined) {
      const call = (signal: AbortSignal, timeoutMs: number | undefined): Call =>
        (method, input) => transport.unary(method, signal, timeoutMs, header, input);
      found = new Gathering(reads, call, () => gatherings.delete(kind));
      gatherings.set(kind, found);
    }
    return found;
  }

  return {
    stream: (...call) => transport.stream(...call),

    async unary<I extends DescMessage, O extends DescMessage>(
      method: DescMethodUnary<I, O>,
      signal: AbortSignal | undefined,
      timeoutMs: number | undefined,
      header: HeadersInit | undefined,
      input: MessageInitShape<I>,
    ): Promise<UnaryResponse<I, O>> {
      const sent = new Headers(header);
      const [kind, request, size] = joinable(method, sent, input);
      if (kind === undefined || signal?.aborted) {
        return transport.unary(method, signal, timeoutMs, header, input);
      }
      const alone = (leftMs: number | undefined) =>
        transport.unary(method, signal, leftMs, sent, request as MessageInitShape<I>);
      const one = new Waiting(request, size, alone, timeoutMs ?? (defaultMs || undefined), signal);
      gathering(kind, isRead(request), sent).add(one);
      const { response, message } = await one.outcome;
      return {
        stream: false,
        service: method.parent,
        method,
        header: new Headers(response.header),
        trailer: new Headers(response.trailer),
        message: message as UnaryResponse<I, O>["message"],
      };
    },
  };
}

/**
 * What calls that are joined have in common, if a call may be, with a copy of its request, which the caller may
 * go on with, and its size.
 */
function joinable(
  method: DescMethodUnary,
  header: Headers,
  input: MessageInitShape<DescMessage>,
): [string, Message, number] | [undefined] {
  const given = create(method.input, input) as Message;
  const sent = JSON.stringify([...header]);
  try {
    if (isRead(given)) {
      const size = new URLSearchParams({ ids: given.id }).toString().length + 1;
      return [`read ${optionsOf(given)} ${sent}`, clone(method.input, given), size];
    }
    if (mutationOf(given) === undefined) {
      return [undefined];
    }
    const bytes = toBinary(method.input, given);
    return [`write ${sent}`, fromBinary(method.input, bytes), bytes.length];
  } catch {
    return [undefined]; // What cannot be written is to fail by itself.
  }
}

interface Outcome {
  /** What was answered to the call, or to all that were joined. */
  readonly response: UnaryResponse;
  /** What that has for the one. */
  readonly message: Message;
}

/** A call that waits until it is made, and then for its outcome. */
class Waiting {
  readonly outcome: Promise<Outcome>;
  /** When its caller has waited long enough. */
  readonly deadline: number;
  /** Is told when the caller gives up before that. */
  onLeave: () => void = () => undefined;
  private resolve!: (outcome: Outcome) => void;
  private reject!: (error: RegistryError) => void;

  constructor(
    readonly request: Message,
    readonly size: number,
    private readonly call: (timeoutMs: number | undefined) => Promise<UnaryResponse>,
    timeoutMs: number | undefined,
    signal: AbortSignal | undefined,
  ) {
    this.deadline = timeoutMs === undefined ? Infinity : performance.now() + timeoutMs;
    const late = () => this.leave(new ConnectError("no answer came in time", Code.DeadlineExceeded));
    const abort = () => this.leave(ConnectError.from(signal?.reason, Code.Canceled));
    const timer = timeoutMs === undefined ? undefined : globalThis.setTimeout(late, timeoutMs);
    signal?.addEventListener("abort", abort);
    this.outcome = new Promise<Outcome>((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    }).finally(() => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
    });
  }

  answered(response: UnaryResponse, message: Message): void {
    this.resolve({ response, message });
  }

  failed(error: RegistryError): void {
    this.reject(error);
  }

  /** Makes the call as it was asked for. */
  async alone(): Promise<void> {
    try {
      const response = await this.call(left(this.deadline));
      this.answered(response, response.message);
    } catch (thrown) {
      this.failed(RegistryError.from(thrown));
    }
  }

  private leave(reason: ConnectError): void {
    this.failed(RegistryError.from(reason));
    this.onLeave();
  }
}

/** Gathers calls of one kind while others of it are under way; `over` is called when there are none. */
class Gathering {
  private readonly waiting = new Set<Waiting>();
  private underWay = 0;
  private isPlanned = false;

  constructor(
    private readonly reads: boolean,
    private readonly call: (signal: AbortSignal, timeoutMs: number | undefined) => Call,
    private readonly over: () => void,
  ) {}

  add(one: Waiting): void {
    one.onLeave = () => this.waiting.delete(one);
    this.waiting.add(one);
    this.plan();
  }

  private plan(): void {
    if (!this.isPlanned && this.underWay < LANES) {
      this.isPlanned = true;
      // Whoever else asks in this turn is taken along.
      queueMicrotask(() => this.begin());
    }
  }

  private begin(): void {
    this.isPlanned = false;
    const batch = this.take();
    if (batch.length > 0) {
      this.underWay++;
      void this.make(batch).finally(() => {
        this.underWay--;
        this.plan();
      });
    }
    if (this.waiting.size > 0) {
      this.plan();
    } else if (this.underWay === 0) {
      this.over();
    }
  }

  private take(): Waiting[] {
    const limits = this.reads ? READS : WRITES;
    const batch: Waiting[] = [];
    let size = 0;
    for (const one of this.waiting) {
      size += one.size;
      if (batch.length === limits.count || (batch.length > 0 && size > limits.size)) {
        break;
      }
      this.waiting.delete(one);
      batch.push(one);
    }
    return batch;
  }

  private async make(batch: Waiting[]): Promise<void> {
    const ended = new AbortController();
    let callers = batch.length;
    for (const one of batch) {
      // A batch that nobody waits for any more is not, either.
      one.onLeave = () => --callers > 0 || ended.abort();
    }
    if (batch.length === 1) {
      return batch[0]?.alone();
    }
    const call = this.call(ended.signal, left(Math.max(...batch.map((one) => one.deadline))));
    try {
      await (this.reads ? read(batch, call) : write(batch, call));
    } catch (thrown) {
      const error = RegistryError.from(thrown);
      // Each has one of its own.
      batch.forEach((one) => one.failed(RegistryError.from(error.cause)));
    }
  }
}

function left(deadline: number): number | undefined {
  return deadline === Infinity ? undefined : deadline - performance.now();
}

async function read(batch: Waiting[], call: Call): Promise<void> {
  const requests = batch.map((one) => one.request as GetEntityRequest);
  const together = batchGet(requests[0] as GetEntityRequest);
  together.ids = [...new Set(requests.map(({ id }) => id))];
  try {
    const response = await call(EntityService.method.batchGetEntities, together);
    const found = new Map<string, Entity>();
    response.message.entities.forEach((entity) => found.set(entity.id, entity));
    requests.forEach(({ id }, number) => {
      const entity = found.get(id);
      if (entity === undefined) {
        batch[number]?.failed(missing(id, response.message.revision));
      } else {
        // Several may have asked for it, and each has its own.
        batch[number]?.answered(response, clone(EntitySchema, entity));
      }
    });
  } catch (thrown) {
    if (!(thrown instanceof RegistryError && thrown.code === Code.InvalidArgument)) {
      throw thrown;
    }
    // It is one of them, and each is to hear of its own.
    await Promise.all(batch.map((one) => one.alone()));
  }
}

async function write(batch: Waiting[], call: Call): Promise<void> {
  const response = await call(RegistryService.method.write, {
    mutations: batch.flatMap(({ request }) => mutationOf(request) ?? []),
    independent: true,
    idempotencyKey: globalThis.crypto.randomUUID(),
  });
  batch.forEach((one, number) => {
    const result = response.message.results[number];
    if (result?.error !== undefined) {
      one.failed(refusal(result.error));
    } else if (result?.resource.value !== undefined) {
      one.answered(response, result.resource.value);
    } else {
      one.failed(RegistryError.from(new ConnectError("a mutation without a result", Code.Internal)));
    }
  });
}
