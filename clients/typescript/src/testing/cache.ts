// The cache of the fake: values, their windows, and the jobs that compute them. Without the server's chance: no jitter of
// windows, and no early refresh.
import { createHash } from 'node:crypto';
import {
  CachePendingError,
  checkContentType,
  storedValue,
  valueOf,
  type CacheApi,
  type Cached,
  type CacheOptions,
  type ComputeOptions,
} from '../cache.js';
import { milliseconds } from '../duration.js';
import { hooked } from '../enqueue.js';
import { FatalError, RetryableError, UserError, type WorkmillError } from '../errors.js';
import { fromBase64 } from '../names.js';
import type { CallOptions, Duration, EnqueueHook, Job, JobState, NewJob } from '../types.js';
import type { CacheEntry } from '../wire.js';

/** What the cache asks of the fake whose it is. */
export interface CacheOwner {
  now(): number;
  check(call: { signal?: AbortSignal | undefined }): void;
  readonly onEnqueue: EnqueueHook[];
  enqueue(job: NewJob): Job;
  state(id: string): JobState;
}

interface Entry {
  bytes: Buffer;
  contentType: string;
  storedMs: number;
  freshUntilMs: number;
  staleUntilMs: number;
  tags: string[];
}

interface Waiter {
  endMs: number;
  /** This caller began the flight. */
  first: boolean;
  resolve: (cached: Cached) => void;
  reject: (error: unknown) => void;
}

/** A job that computes a key's value, and who waits for it. */
interface Flight {
  key: string;
  job: string;
  fresh: Duration | undefined;
  stale: Duration | undefined;
  tags: string[] | undefined;
  errorForMs: number;
  waiters: Waiter[];
}

const bytesMax = 8 * 1024 * 1024;
const notOfAFlight = ['id', 'unique', 'batch', 'delay', 'runAt'];
const invalid = (field: string, message: string) => new UserError(message, { code: 'invalid_field', field });

export class FakeCache implements CacheApi {
  readonly #owner: CacheOwner;
  readonly #entries = new Map<string, Entry>();
  readonly #failures = new Map<string, { error: WorkmillError; untilMs: number }>();
  readonly #hooking = new Set<Promise<NewJob>>();
  #flights: Flight[] = [];

  /** @internal */
  constructor(owner: CacheOwner) {
    this.#owner = owner;
  }

  async get<T = any>(key: string, call: CallOptions = {}): Promise<Cached<T> | undefined> {
    this.#owner.check(call);
    checkKey(key);
    return this.#find(key);
  }

  async put(key: string, value: unknown, options: CacheOptions = {}, call: CallOptions = {}): Promise<string> {
    this.#owner.check(call);
    checkContentType(options.contentType);
    const stored = storedValue(value, options.contentType);
    return this.#put(key, Buffer.from(stored.bytes), stored.contentType, options);
  }

  /** `wait` is of the fake's clock. */
  async getOrCompute<T = any>(
    key: string,
    given: NewJob,
    options: ComputeOptions = {},
    call: CallOptions = {},
  ): Promise<Cached<T>> {
    this.#owner.check(call);
    const { onEnqueue } = this.#owner;
    const made = onEnqueue.length > 0 ? hooked(given, onEnqueue) : given;
    const job = made instanceof Promise ? await this.#watched(made) : made;
    checkKey(key);
    checkTags(options.tags);
    for (const name of notOfAFlight) {
      if (name in job) throw invalid(`job.${name}`, `not of a job that computes a value`);
    }
    const now = this.#owner.now();
    const there = this.#find<T>(key);
    if (there?.fresh) return there;
    const failure = this.#failures.get(key);
    if (failure && now < failure.untilMs) {
      if (there) return there;
      throw failure.error;
    }
    let flight = this.#flights.find((one) => one.key === key);
    const first = flight === undefined;
    if (flight === undefined) {
      flight = {
        key,
        job: this.#owner.enqueue(job).id,
        fresh: options.fresh,
        stale: options.stale,
        tags: options.tags,
        errorForMs: milliseconds(options.errorFor ?? 0),
        waiters: [],
      };
      this.#flights.push(flight);
    }
    if (there) return there;
    const { waiters } = flight;
    return new Promise<Cached<T>>((resolve, reject) => {
      waiters.push({ endMs: now + milliseconds(options.wait ?? '30s'), first, resolve, reject });
      call.signal?.addEventListener('abort', () => reject(call.signal?.reason as Error), { once: true });
      this.settle();
    });
  }

  /** Nobody can wait for its job to be enqueued, as who calls waits for the value: so `drain` does. */
  #watched(hooks: Promise<NewJob>): Promise<NewJob> {
    this.#hooking.add(hooks);
    const forget = () => void this.#hooking.delete(hooks);
    hooks.then(forget, forget);
    return hooks;
  }

  async delete(key: string, call: CallOptions = {}): Promise<boolean> {
    this.#owner.check(call);
    checkKey(key);
    return this.#delete(key);
  }

  async deleteByTag(tag: string, call: CallOptions = {}): Promise<number> {
    this.#owner.check(call);
    return this.#deleteWhere((_key, tags) => tags.includes(tag));
  }

  async deleteByPrefix(prefix: string, call: CallOptions = {}): Promise<number> {
    this.#owner.check(call);
    return this.#deleteWhere((key) => key.startsWith(prefix));
  }

  // ---- For the fake.

  /** Resolves when those hooks are through that are under way: their jobs are enqueued then. Undefined: there are none. */
  get hooking(): Promise<unknown> | undefined {
    return this.#hooking.size > 0 ? Promise.allSettled(this.#hooking) : undefined;
  }

  /** Tells those whose wait is over. */
  settle(): void {
    const now = this.#owner.now();
    for (const flight of this.#flights) {
      const over = flight.waiters.filter((waiter) => waiter.endMs <= now);
      flight.waiters = flight.waiters.filter((waiter) => waiter.endMs > now);
      for (const { reject } of over) reject(new CachePendingError(flight.job, this.#owner.state(flight.job)));
    }
  }

  /** A job is finished, or forgotten in a state that is no end. `entries`: what its report sets. */
  ended(job: Job, entries: CacheEntry[] = []): void {
    const flight = this.#flights.find((one) => one.job === job.id);
    this.#flights = this.#flights.filter((one) => one !== flight);
    const isDone = job.state === 'completed';
    const isSet = entries.some(({ key }) => key === flight?.key);
    const result = storedValue(job.result ?? null, undefined);
    if (flight && isDone && !isSet) this.#put(flight.key, Buffer.from(result.bytes), result.contentType, flight);
    for (const entry of entries) {
      const isBytes = entry.value_base64 !== undefined;
      const bytes = isBytes ? fromBase64(entry.value_base64!) : Buffer.from(JSON.stringify(entry.value ?? null));
      const kind = entry.content_type ?? (isBytes ? 'application/octet-stream' : 'application/json');
      this.#put(entry.key, bytes, kind, entry);
    }
    if (flight && isDone) this.#land(flight, result);
    else if (flight) this.#crash(flight, job);
  }

  /** Nobody waits any more. */
  close(error: WorkmillError): void {
    for (const { waiters } of this.#flights) for (const { reject } of waiters.splice(0)) reject(error);
  }

  #land(flight: Flight, result: { bytes: Uint8Array; contentType: string }): void {
    // Who waited gets it, even if it was to be kept for no time at all.
    const { bytes, contentType } = result;
    const now = this.#owner.now();
    const times = { storedMs: now, freshUntilMs: now + 1, staleUntilMs: now + 1 };
    const entry = this.#entries.get(flight.key) ?? { bytes: Buffer.from(bytes), contentType, tags: [], ...times };
    for (const { resolve, first } of flight.waiters) {
      resolve({ ...this.#seen(entry), fresh: true, computed: true, collapsed: !first });
    }
  }

  #crash(flight: Flight, job: Job): void {
    let error: WorkmillError = new RetryableError(`job ${job.id} is gone`, { code: 'compute_failed' });
    if (job.state === 'dead' && job.error) {
      const { class: errorClass, code, message } = job.error;
      const kinds = { retryable: RetryableError, user: UserError, fatal: FatalError };
      error = new kinds[errorClass](`${code}: ${message}`, { code: 'compute_failed', status: 502 });
      if (flight.errorForMs > 0) {
        this.#failures.set(flight.key, { error, untilMs: this.#owner.now() + flight.errorForMs });
      }
    }
    const stale = this.#find(flight.key);
    for (const { resolve, reject } of flight.waiters) stale ? resolve(stale) : reject(error);
  }

  #find<T = any>(key: string): Cached<T> | undefined {
    const entry = this.#entries.get(key);
    if (entry && entry.staleUntilMs > this.#owner.now()) return this.#seen<T>(entry);
    this.#entries.delete(key);
    return undefined;
  }

  #seen<T = any>(entry: Entry): Cached<T> {
    const now = this.#owner.now();
    return {
      value: valueOf(entry.bytes, entry.contentType) as T,
      fresh: now < entry.freshUntilMs,
      ageMs: Math.floor((now - entry.storedMs) / 1_000) * 1_000,
      etag: createHash('sha256').update(entry.contentType).update(entry.bytes).digest('hex').slice(0, 16),
      contentType: entry.contentType,
      computed: false,
      collapsed: false,
      bytes: Buffer.from(entry.bytes),
    };
  }

  #put(
    key: string,
    bytes: Buffer,
    contentType: string,
    options: { fresh?: Duration | undefined; stale?: Duration | undefined; tags?: string[] | undefined },
  ): string {
    checkKey(key);
    checkTags(options.tags);
    if (bytes.byteLength > bytesMax) throw new UserError('8 MiB at most', { code: 'payload_too_large' });
    const fresh = milliseconds(options.fresh ?? '1m');
    const stale = milliseconds(options.stale ?? 0);
    const now = this.#owner.now();
    const times = { storedMs: now, freshUntilMs: now + fresh, staleUntilMs: now + fresh + stale };
    const entry = { bytes, contentType, tags: [...(options.tags ?? [])], ...times };
    this.#entries.set(key, entry);
    this.#failures.delete(key);
    return this.#seen(entry).etag;
  }

  #delete(key: string): boolean {
    const failure = this.#failures.get(key);
    const isFailureThere = failure !== undefined && this.#owner.now() < failure.untilMs;
    const there = this.#find(key) !== undefined || isFailureThere;
    this.#entries.delete(key);
    this.#failures.delete(key);
    return there;
  }

  /** Keys with a value, or with a remembered failure, which has no tags. */
  #deleteWhere(matches: (key: string, tags: string[]) => boolean): number {
    const all = new Set([...this.#entries.keys(), ...this.#failures.keys()]);
    const keys = [...all].filter((key) => matches(key, this.#entries.get(key)?.tags ?? []));
    return keys.filter((key) => this.#delete(key)).length;
  }
}

function checkKey(key: string): void {
  const bytes = Buffer.byteLength(key);
  if (bytes < 1 || bytes > 512 || /[\u0000-\u001f\u007f]/.test(key)) {
    throw invalid('key', 'a key is 1 to 512 bytes without control characters');
  }
}

function checkTags(tags: string[] | undefined): void {
  if (tags && tags.length > 20) throw invalid('tags', 'a value has 20 tags at most');
}
