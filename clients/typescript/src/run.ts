// One job in a worker's hands: what its handler is given, and what the worker knows of it.
import { checkContentType, jsonOf, storedValue, type CacheOptions } from './cache.js';
import { durationText, milliseconds } from './duration.js';
import { FatalError, UserError } from './errors.js';
import { fromBase64, toBase64 } from './names.js';
import { messageOf, reportBytesMax, textOf } from './reports.js';
import type { LeasedJob } from './types.js';
import type * as wire from './wire.js';

/** What a handler is given besides its job. Everything that it says goes out gathered, without a call for each. */
export interface JobContext {
  /** Aborted when the job should stop: somebody cancelled it, its lease is lost, or the worker must end now. */
  readonly signal: AbortSignal;
  /** The same as a flag. */
  readonly cancelled: boolean;
  /** How far it is: 0 to 100. Of several in a row only the last one is sent. */
  progress(percent: number, message?: string): void;
  /** Lines for the job's log, which `client.log(id)` reads. */
  log(...lines: string[]): void;
  /**
   * Keeps `data` (JSON, 1 MiB at most) for the next attempt, which finds it as `job.checkpoint`. Resolves when it is on
   * disk; rejects with the code `lease_lost` where the job is not ours any more.
   */
  checkpoint(data: unknown): Promise<void>;
  /**
   * Sets a key of the cache, as `client.cache.put` does, together with the job's completion: both are on disk, or
   * neither. Nothing is set where the attempt fails. Of a key's values the last counts; 100 keys a job at most. Throws a
   * `UserError` where the value is no JSON, where all that was set is too large for a report, and for a key, tag, time or
   * content type that the server would refuse.
   */
  cache(key: string, value: unknown, options?: CacheOptions): void;
}

/** Why a handler's signal was aborted: `cancelled`, `lease_lost` or `shutting_down` in its `code`. */
export class JobStoppedError extends FatalError {}

/** What a run needs of whoever runs it. */
export interface RunOwner {
  /** There is progress or a log line that has to go out. */
  said(run: Run): void;
  checkpoint(run: Run, data: unknown): Promise<void>;
}

// Lines that wait to be sent: more are dropped, and counted. The server keeps 64 KiB of a job's lines, 4 KiB of each.
const linesMax = 1_000;
const lineCharactersMax = 4 * 1024;
const charactersMax = 256 * 1024;
const cacheEntriesMax = 100;
const cacheValueBytesMax = 8 * 1024 * 1024;

const cacheKeyBytesMax = 512;
const cacheTagsMax = 20;
const cacheMsMax = 365 * 86_400_000;

/** Throws for what the server would refuse, and with it the report. */
function checkEntry(key: string, options: CacheOptions): void {
  const { fresh = '1m', stale = 0, tags = [], contentType } = options;
  const bad = (field: string, message: string) =>
    new UserError(`${field} ${message}`, { code: 'invalid_field', field });
  if (key === '' || Buffer.byteLength(key) > cacheKeyBytesMax || /[\p{Cc}\p{Cs}]/u.test(key))
    throw bad('key', `is 1 to ${cacheKeyBytesMax} bytes without control characters`);
  if (!Array.isArray(tags) || tags.length > cacheTagsMax) throw bad('tags', `is a list of ${cacheTagsMax} at most`);
  for (const tag of tags)
    if (!/^[A-Za-z0-9._:-]{1,128}$/.test(tag)) throw bad('tags', 'have 1 to 128 of the characters A-Z a-z 0-9 . _ : -');
  checkContentType(contentType);
  if (milliseconds(fresh) > cacheMsMax) throw bad('fresh', 'is 365 days at most');
  if (milliseconds(fresh) + milliseconds(stale) > cacheMsMax) throw bad('stale', 'is 365 days at most, with fresh');
}

export class Run implements JobContext {
  readonly job: LeasedJob;
  /** Its final report is made. Nothing is said of the job after that. */
  reported = false;
  /** It is not ours any more: whatever the handler gives is dropped. */
  lost = false;
  begun = false;
  cancelRequested = false;
  /** When its lease was last granted or extended, by performance.now(). */
  extendedAt: number;
  extending = false;
  /** What was said and is not sent yet. */
  saidPercent: number | undefined;
  saidMessage: string | undefined;
  saidLines: string[] | undefined;
  droppedLines = 0;
  #characters = 0;
  /** What its report sets in the cache, by key, as JSON. Most handlers set nothing. */
  #cached: Map<string, string> | undefined;
  /** In the owner's list of those that have something to say. */
  listed = false;
  readonly #owner: RunOwner;
  #stop: AbortController | undefined;
  #reason: JobStoppedError | undefined;

  constructor(owner: RunOwner, job: LeasedJob, now: number) {
    this.#owner = owner;
    this.job = job;
    this.extendedAt = now;
  }

  // Made when somebody looks: an AbortController for each job would cost more than the rest of a run.
  get signal(): AbortSignal {
    if (this.#stop === undefined) {
      this.#stop = new AbortController();
      if (this.#reason) this.#stop.abort(this.#reason);
    }
    return this.#stop.signal;
  }

  get cancelled(): boolean {
    return this.#reason !== undefined;
  }

  stop(code: 'cancelled' | 'lease_lost' | 'shutting_down', message: string): void {
    if (this.#reason) return;
    this.#reason = new JobStoppedError(message, { code });
    this.#stop?.abort(this.#reason);
  }

  get stopReason(): JobStoppedError | undefined {
    return this.#reason;
  }

  progress(percent: number, message?: string): void {
    if (this.reported || this.lost) return;
    this.saidPercent = Math.max(0, Math.min(100, Math.round(percent) || 0));
    this.saidMessage = message === undefined ? undefined : messageOf(message);
    this.#owner.said(this);
  }

  log(...lines: string[]): void {
    if (this.reported || this.lost) return;
    this.saidLines ??= [];
    for (const line of lines) {
      const text = textOf(line, lineCharactersMax);
      if (this.saidLines.length < linesMax - 1 && this.#characters + text.length <= charactersMax) {
        this.saidLines.push(text);
        this.#characters += text.length;
      } else {
        this.droppedLines += 1;
      }
    }
    this.#owner.said(this);
  }

  checkpoint(data: unknown): Promise<void> {
    const kept = this.#checkpoint(data);
    kept.catch(() => {}); // A handler may care or not. That it does not must not end the process.
    return kept;
  }

  #checkpoint(data: unknown): Promise<void> {
    if (this.reported) return Promise.reject(new FatalError('the job is finished', { code: 'lease_lost' }));
    if (this.lost) return Promise.reject(new FatalError('the lease is over', { code: 'lease_lost' }));
    return this.#owner.checkpoint(this, data);
  }

  cache(key: string, value: unknown, options: CacheOptions = {}): void {
    checkEntry(key, options);
    const { fresh, stale, tags, contentType } = options;
    const entry: Record<string, unknown> = { key };
    if (fresh !== undefined) entry['fresh'] = durationText(fresh);
    if (stale !== undefined) entry['stale'] = durationText(stale);
    if (tags?.length) entry['tags'] = tags;
    let text: string;
    let valueBytes: number;
    if (value instanceof Uint8Array || contentType !== undefined) {
      const stored = storedValue(value, contentType);
      valueBytes = stored.bytes.byteLength;
      text = JSON.stringify({ ...entry, value_base64: toBase64(stored.bytes), content_type: stored.contentType });
    } else {
      const json = jsonOf(value);
      valueBytes = Buffer.byteLength(json);
      text = `${JSON.stringify(entry).slice(0, -1)},"value":${json}}`;
    }
    const cached = new Map(this.#cached).set(key, text);
    const tooMuch = (message: string) => new UserError(message, { code: 'payload_too_large', field: 'cache' });
    if (cached.size > cacheEntriesMax) throw tooMuch(`a job sets ${cacheEntriesMax} keys at most`);
    let bytes = 0;
    for (const one of cached.values()) bytes += Buffer.byteLength(one);
    if (valueBytes > cacheValueBytesMax)
      throw tooMuch(`a cached value has ${cacheValueBytesMax} bytes at most, not ${valueBytes}`);
    if (bytes > reportBytesMax)
      throw tooMuch(`what a job caches has ${reportBytesMax} bytes at most, as sent, not ${bytes}`);
    this.#cached = cached;
  }

  /** For its report: a JSON array, if it has set anything. */
  get cached(): string | undefined {
    return this.#cached && `[${[...this.#cached.values()].join(',')}]`;
  }

  /** The lines to be sent, and a word on those that were dropped. */
  takeLines(): string[] | undefined {
    const lines = this.saidLines;
    if (lines && this.droppedLines > 0)
      lines.push(`(${this.droppedLines} lines more came faster than they could be sent)`);
    this.saidLines = undefined;
    this.droppedLines = 0;
    this.#characters = 0;
    return lines;
  }
}

/**
 * The job of a frame, as handlers see it. Field by field, as this is on every job's path: an object that is
 * made from names in a loop costs several times as much.
 */
export function jobOf(sent: wire.LeasedJob): LeasedJob {
  const job = {
    id: sent.id,
    type: sent.type,
    queue: sent.queue,
    payload: sent.payload_base64 === undefined ? sent.payload : fromBase64(sent.payload_base64),
    attempt: sent.attempt,
    maxAttempts: sent.max_attempts,
    lease: sent.lease,
    leaseExpiresAt: sent.lease_expires_at,
    priority: sent.priority,
    createdAt: sent.created_at,
  } as LeasedJob;
  if (sent.checkpoint !== undefined) job.checkpoint = sent.checkpoint;
  if (sent.traceparent !== undefined) job.traceparent = sent.traceparent;
  if (sent.tracestate !== undefined) job.tracestate = sent.tracestate;
  if (sent.meta !== undefined) job.meta = sent.meta;
  if (sent.group !== undefined) job.group = sent.group;
  if (sent.tags !== undefined) job.tags = sent.tags;
  if (sent.batch !== undefined) job.batch = sent.batch;
  return job;
}
