// Values under keys, which jobs compute where they are missing: `client.cache`.
import { durationText } from './duration.js';
import { hooked } from './enqueue.js';
import { FatalError, isWorkmillError, RetryableError, UserError } from './errors.js';
import type { HttpAnswer } from './http.js';
import { newJobToWire } from './names.js';
import { sleep, type Retry } from './retry.js';
import { isWait, Wait } from './wait.js';
import type { CallOptions, Duration, EnqueueHook, JobState, NewJob } from './types.js';

/** A value of the cache, as it was when it was asked for. */
export interface Cached<T = any> {
  /** What its JSON says; a Buffer where it is none. */
  value: T;
  /** Else it is stale: given while it is computed anew. */
  fresh: boolean;
  /** How long ago it was stored, in whole seconds. */
  ageMs: number;
  etag: string;
  contentType: string;
  /** It was missing, and a job has computed it for this call, */
  computed: boolean;
  /** which another call had begun. */
  collapsed: boolean;
  /** As it is stored. */
  bytes: Buffer;
}

/** What can be said of a value besides itself. */
export interface CacheOptions {
  /** Given without further ado for so long. Default: 1m. */
  fresh?: Duration | undefined;
  /** Then for so long more it is still given, while one job computes it anew. Default: 0s. */
  stale?: Duration | undefined;
  /** By which it can be forgotten together with others: 20 at most. */
  tags?: string[] | undefined;
  /** Of a Uint8Array (default: application/octet-stream), or of a text that is to be kept as it is, and not as JSON. */
  contentType?: string | undefined;
}

export interface ComputeOptions extends Omit<CacheOptions, 'contentType'> {
  /** How long to wait for the job; 0: not at all. Default: 30s. */
  wait?: Duration | undefined;
  /** For so long after a failure all who ask get its error, and no further job runs. Default: 0s. */
  errorFor?: Duration | undefined;
}

/** What `client.cache` and that of the fake of `workmill/testing` both are. */
export interface CacheApi {
  /** What is there, fresh or stale; undefined where nothing is. */
  get<T = any>(key: string, call?: CallOptions): Promise<Cached<T> | undefined>;
  /** Sets it; resolves to its ETag when it is on disk. A value is any JSON, or a Uint8Array: 8 MiB at most. */
  put(key: string, value: unknown, options?: CacheOptions, call?: CallOptions): Promise<string>;
  /**
   * What is there; else what the job gives back, which is then there for all.
   *
   * However many ask for a key that is missing, one job runs, and all get its result. A stale value is given at once,
   * while one job refreshes it. Restarts of the server change nothing of this: as long as there is time, what is retryable
   * is tried again, whatever the client's `retry` says.
   *
   * Rejects with a `CachePendingError` where the job is not done after `wait`: ask again later. Where the job fails for
   * good and no stale value is left, with an error of the class of the job's and the code `compute_failed`, which is not
   * tried again here, as the job has been.
   */
  getOrCompute<T = any>(key: string, job: NewJob, options?: ComputeOptions, call?: CallOptions): Promise<Cached<T>>;
  /** Forgets the value; resolves to whether there was one, or to true where a try's answer was lost. */
  delete(key: string, call?: CallOptions): Promise<boolean>;
  /** Forgets all values with this tag; resolves to how many. */
  deleteByTag(tag: string, call?: CallOptions): Promise<number>;
  /** Forgets all values whose keys begin so; resolves to how many. */
  deleteByPrefix(prefix: string, call?: CallOptions): Promise<number>;
}

/** The job that computes the value was not done in time. It runs on, and its result will be there. */
export class CachePendingError extends RetryableError {
  readonly jobId: string;
  readonly state: JobState;

  constructor(jobId: string, state: JobState) {
    super(`job ${jobId}, which computes the value, is ${state}`, { code: 'cache_pending', mayHaveHappened: true });
    this.jobId = jobId;
    this.state = state;
  }
}

/** What the cache needs of its client: a call that is tried again where that is worth it, or so often, and its whole answer. */
export interface CacheCaller {
  readonly retry: Retry;
  ask(
    method: string,
    path: string,
    body: string | Uint8Array | undefined,
    call: CallOptions,
    waitMs?: number,
    headers?: Record<string, string>,
    attempts?: number,
  ): Promise<HttpAnswer>;
  readonly onEnqueue: EnqueueHook[];
  /** The current trace's context. */
  traceHeaders(): Promise<Record<string, string>>;
}

const jsonType = /^application\/(?:[^;/]+\+)?json\s*(?:;|$)/i;
const keyPath = (key: string, query = '') => `/v1/cache/${encodeURIComponent(key)}${query}`;

/** Throws for what the server would refuse; and what becomes a header must not become two. */
export function checkContentType(text: string | undefined): void {
  if (text === undefined || /^(?! )[ -~]{1,255}(?<! )$/.test(text)) return;
  throw new UserError('contentType is 1 to 255 visible ASCII characters', {
    code: 'invalid_field',
    field: 'contentType',
  });
}

/** A value as it is stored. Throws a UserError for what is no JSON. */
export function storedValue(
  value: unknown,
  contentType: string | undefined,
): { bytes: Uint8Array; contentType: string } {
  if (value instanceof Uint8Array) return { bytes: value, contentType: contentType ?? 'application/octet-stream' };
  if (contentType !== undefined) {
    if (typeof value === 'string') return { bytes: Buffer.from(value), contentType };
    throw new UserError('with a contentType a value is a Uint8Array or a text', {
      code: 'invalid_field',
      field: 'value',
    });
  }
  return { bytes: Buffer.from(jsonOf(value)), contentType: 'application/json' };
}

/** Throws a UserError where there is none. */
export function jsonOf(value: unknown): string {
  let json: string | undefined;
  try {
    json = JSON.stringify(value) as string | undefined;
  } catch (cause) {
    throw new UserError(`the value is no JSON: ${String(cause)}`, { code: 'invalid_field', field: 'value', cause });
  }
  if (json === undefined) throw new UserError('the value is no JSON', { code: 'invalid_field', field: 'value' });
  return json;
}

/** A value as its reader gets it. Throws where it says that it is JSON, and is none. */
export function valueOf(bytes: Buffer, contentType: string): unknown {
  return jsonType.test(contentType) ? JSON.parse(bytes.toString('utf8')) : bytes;
}

function cachedOf<T>(answer: HttpAnswer): Cached<T> {
  const { headers, bytes } = answer;
  // RFC 9211: the cache's name, and what it says.
  const said = String(headers['cache-status'] ?? '')
    .split(';')
    .map((part) => part.trim());
  const ttl = said.find((part) => part.startsWith('ttl='));
  const hit = said.includes('hit');
  const contentType = headers['content-type'] ?? '';
  try {
    if (said[0] === '') throw new SyntaxError('no Cache-Status');
    return {
      value: valueOf(bytes, contentType) as T,
      fresh: !hit || ttl === undefined || Number(ttl.slice(4)) >= 0,
      ageMs: Number(headers.age ?? 0) * 1_000,
      etag: (headers.etag ?? '').replace(/^"|"$/g, ''),
      contentType,
      computed: !hit,
      collapsed: said.includes('collapsed'),
      bytes,
    };
  } catch (cause) {
    throw notOurs('an answer that is no cached value', cause);
  }
}

function notOurs(message: string, cause?: unknown): FatalError {
  return new FatalError(message, { code: 'protocol_error', cause, mayHaveHappened: true });
}

/** `client.cache`. */
export class Cache implements CacheApi {
  readonly #client: CacheCaller;

  /** @internal */
  constructor(client: CacheCaller) {
    this.#client = client;
  }

  async get<T = any>(key: string, call: CallOptions = {}): Promise<Cached<T> | undefined> {
    try {
      return cachedOf<T>(await this.#client.ask('GET', keyPath(key), undefined, call));
    } catch (error) {
      if (isMiss(error)) return undefined;
      throw error;
    }
  }

  async put(key: string, value: unknown, options: CacheOptions = {}, call: CallOptions = {}): Promise<string> {
    checkContentType(options.contentType);
    const stored = storedValue(value, options.contentType);
    const query = new URLSearchParams();
    if (options.fresh !== undefined) query.set('fresh', durationText(options.fresh));
    if (options.stale !== undefined) query.set('stale', durationText(options.stale));
    if (options.tags?.length) query.set('tags', options.tags.join(','));
    const path = keyPath(key, query.size > 0 ? `?${query.toString()}` : '');
    const headers = { 'content-type': stored.contentType };
    const answer = await this.#client.ask('PUT', path, stored.bytes, call, 0, headers);
    return (answer.headers.etag ?? '').replace(/^"|"$/g, '');
  }

  async getOrCompute<T = any>(
    key: string,
    job: NewJob,
    options: ComputeOptions = {},
    call: CallOptions = {},
  ): Promise<Cached<T>> {
    const { wait = '30s', errorFor, fresh, stale, tags } = options;
    const asked: Record<string, unknown> = { job: newJobToWire(await hooked(job, this.#client.onEnqueue)) };
    if (fresh !== undefined) asked['fresh'] = durationText(fresh);
    if (stale !== undefined) asked['stale'] = durationText(stale);
    if (errorFor !== undefined) asked['error_for'] = durationText(errorFor);
    if (tags?.length) asked['tags'] = tags;
    const headers = await this.#client.traceHeaders();
    const ask = (waitMs: number, attempts?: number) => {
      const body = JSON.stringify({ ...asked, wait: `${waitMs}ms` });
      return this.#client.ask('POST', keyPath(key), body, call, waitMs, headers, attempts);
    };
    if (!isWait(wait)) return computedOf<T>(await ask(0));
    const waiting = new Wait(wait, this.#client.retry);
    let pending: CachePendingError | undefined;
    for (;;) {
      let pauseMs: number | undefined;
      try {
        const answer = await ask(waiting.nextPollMs(), 1);
        if (answer.status !== 202) return cachedOf<T>(answer);
        pending = pendingOf(answer);
        pauseMs = waiting.pauseMs();
      } catch (error) {
        if (!isWorkmillError(error) || error === call.signal?.reason || !waiting.isWorthAnother(error)) throw error;
        pauseMs = waiting.pauseMsAfter(error);
        if (pauseMs === undefined) throw pending ?? error;
      }
      if (pauseMs === undefined) throw pending;
      if (pauseMs > 0) await sleep(pauseMs, call.signal);
    }
  }

  async delete(key: string, call: CallOptions = {}): Promise<boolean> {
    try {
      await this.#client.ask('DELETE', keyPath(key), undefined, call);
      return true;
    } catch (error) {
      if (isMiss(error)) return false;
      throw error;
    }
  }

  deleteByTag(tag: string, call: CallOptions = {}): Promise<number> {
    return this.#deleteBy({ tag }, call);
  }

  deleteByPrefix(prefix: string, call: CallOptions = {}): Promise<number> {
    return this.#deleteBy({ prefix }, call);
  }

  async #deleteBy(what: Record<string, string>, call: CallOptions): Promise<number> {
    const answer = await this.#client.ask(
      'DELETE',
      `/v1/cache?${new URLSearchParams(what).toString()}`,
      undefined,
      call,
    );
    try {
      return (JSON.parse(answer.body) as { count: number }).count;
    } catch (cause) {
      throw notOurs('an answer that is no count', cause);
    }
  }
}

/** Where nobody waits any longer. */
function computedOf<T>(answer: HttpAnswer): Cached<T> {
  if (answer.status === 202) throw pendingOf(answer);
  return cachedOf<T>(answer);
}

const isMiss = (error: unknown) => isWorkmillError(error) && error.code === 'cache_miss';

function pendingOf(answer: HttpAnswer): CachePendingError {
  try {
    const { job_id: jobId, state } = JSON.parse(answer.body) as { job_id: string; state: JobState };
    return new CachePendingError(jobId, state);
  } catch (cause) {
    throw notOurs('an answer that names no job', cause);
  }
}
