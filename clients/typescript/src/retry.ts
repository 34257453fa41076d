import { milliseconds } from './duration.js';
import { UserError } from './errors.js';
import { after } from './timer.js';
import type { Duration } from './types.js';

/** The job that computes a cached value has had all its attempts: to ask again would be another job with as many. */
export const triedAlready = new Set(['compute_failed']);

/** Longer than this nobody waits inside a call: it fails, and `retryAfterMs` says how long the server wanted. */
export const retryAfterMaxMs = 60_000;

/** How often and when what failed is tried again. */
export interface RetryOptions {
  /** Tries in all, the first one included. 1: never again. Default: 5. */
  attempts?: number | undefined;
  /** The longest wait before the second try. Default: 100ms. */
  first?: Duration | undefined;
  /** Default: 2. */
  factor?: number | undefined;
  /** The longest wait of all. Default: 5s. */
  cap?: Duration | undefined;
}

/** The same in numbers. */
export interface Retry {
  attempts: number;
  firstMs: number;
  factor: number;
  capMs: number;
}

export function retryOf(options: RetryOptions = {}): Retry {
  const factor = options.factor ?? 2;
  if (!(factor >= 1))
    throw new UserError('retry.factor is 1 or more', { code: 'invalid_field', field: 'retry.factor' });
  return {
    attempts: bounded('retry.attempts', options.attempts ?? 5, 1, 1_000_000),
    firstMs: milliseconds(options.first ?? '100ms'),
    factor,
    capMs: milliseconds(options.cap ?? '5s'),
  };
}

/**
 * How long to wait after the `failures`-th failure in a row: anything from nothing to first × factor^(failures-1), so
 * that clients which failed together do not come back together ("full jitter").
 */
export function backoffMs(retry: Retry, failures: number): number {
  const longest = Math.min(retry.capMs, retry.firstMs * retry.factor ** Math.min(failures - 1, 64));
  return Math.random() * longest;
}

/** Resolves after so many ms; rejects with the signal's reason as soon as it is aborted. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason as Error);
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason as Error);
    };
    const timer = after(ms, () => {
      signal?.removeEventListener('abort', stop);
      resolve();
    });
    signal?.addEventListener('abort', stop, { once: true });
  });
}

/** A number that an option may hold; UserError otherwise. */
export function bounded(name: string, value: number, min: number, max: number): number {
  if (Number.isInteger(value) && value >= min && value <= max) return value;
  throw new UserError(`${name} is a whole number from ${min} to ${max}, not ${value}`, {
    code: 'invalid_field',
    field: name,
  });
}
