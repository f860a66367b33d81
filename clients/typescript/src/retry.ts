import { setTimeout as timer } from "./timer.js";

/**
 * How calls that fail with UNAVAILABLE are repeated: exponential backoff with full jitter. Nothing else is
 * ever repeated.
 */
export interface RetryPolicy {
  /** How often a call is made at most, the first time included; 1 means no retries. */
  readonly maxAttempts: number;
  /** The longest wait before the second attempt, in milliseconds. */
  readonly initialBackoffMs: number;
  /** The longest wait before any attempt, in milliseconds. */
  readonly maxBackoffMs: number;
  /** By how much the longest wait grows with every attempt. */
  readonly multiplier: number;
}

/** The policy of a client that is given none. */
export const DEFAULT_RETRY: RetryPolicy = {
  maxAttempts: 5,
  initialBackoffMs: 100,
  maxBackoffMs: 2_000,
  multiplier: 2,
};

/** How many milliseconds to wait after so many failures in a row (1 or more). */
export function delay(policy: RetryPolicy, failures: number): number {
  // Beyond 60 every backoff has reached its maximum; the bound keeps the power finite.
  const ceiling = policy.initialBackoffMs * policy.multiplier ** Math.min(failures - 1, 60);
  return Math.random() * Math.min(ceiling, policy.maxBackoffMs);
}

/** Counts the failures of a stream since it last worked. */
export class Outage {
  private failures = 0;
  private began = 0;

  constructor(
    private readonly policy: RetryPolicy,
    private readonly giveUpAfterMs = Infinity,
  ) {}

  /** The stream works again. */
  over(): void {
    this.failures = 0;
  }

  /** Counts a failure and waits before the next attempt; throws it if it is time to give up. */
  async failed(error: unknown, signal?: AbortSignal): Promise<void> {
    const now = performance.now();
    if (this.failures === 0) {
      this.began = now;
    }
    this.failures++;
    const wait = delay(this.policy, this.failures);
    if (now + wait - this.began >= this.giveUpAfterMs) {
      throw error;
    }
    await timer(wait, signal);
  }
}
