// What the server's engine does with jobs, small and in memory: the states and moves of docs/states.md. Left out is what
// a test of a program has no use for: groups taking turns, jitter, budgets for finished jobs.
import { randomUUID } from 'node:crypto';
import { milliseconds } from '../duration.js';
import { FatalError, RetryableError, UserError, type ErrorDetails } from '../errors.js';
import { fromBase64 } from '../names.js';
import type {
  Duration,
  Enqueued,
  Job,
  JobChanges,
  JobError,
  JobOptions,
  JobState,
  LeasedJob,
  ListOptions,
  NewJob,
  Queue,
  QueueChanges,
  QueueChoice,
  Report,
  ReportResult,
} from '../types.js';
import type { CacheEntry } from '../wire.js';

export interface Stored {
  job: Job;
  options: JobOptions;
  createdMs: number;
  /** When a scheduled job becomes ready, or a leased one's lease ends. */
  dueMs: number;
  /** Its place in its line. */
  order: number;
  lease: string | undefined;
  leaseMs: number;
  everLeased: boolean;
  lines: string[];
}

/** What the store asks of the batches. */
export interface StoredBatches {
  /** Throws where jobs cannot be put into it. */
  open(id: string): { jobs: Stored[] };
  /** The callbacks whose time has come. `isGone`: whether a job is there no more. */
  due(isGone: (stored: Stored) => boolean): Iterable<{ sent: NewJob; job: string | undefined }>;
}

export const name = /^[A-Za-z0-9._:-]{1,128}$/;
// Checked by the compiler: a field that jobs gain is known here or does not compile.
const known: Record<keyof Required<JobOptions>, true> = {
  queue: true,
  id: true,
  priority: true,
  runAt: true,
  delay: true,
  expiresIn: true,
  maxAttempts: true,
  backoff: true,
  lease: true,
  unique: true,
  group: true,
  tags: true,
  keepResult: true,
  meta: true,
  batch: true,
};
const finished = new Set<JobState>(['completed', 'dead', 'cancelled']);

export const user = (code: string, message: string, details: ErrorDetails = {}) =>
  new UserError(message, { code, ...details });
export const invalid = (field: string, message: string) => user('invalid_field', message, { field });

/** Throws what the server would say of such a page. */
export function checkPageSize({ pageSize = 200 }: ListOptions): void {
  if (!(Number.isInteger(pageSize) && pageSize >= 1 && pageSize <= 1_000))
    throw invalid('limit', 'a page is 1 to 1,000');
}

/** As it comes out at the other end of a connection. */
export function overTheWire<T>(value: T): T {
  if (value instanceof Uint8Array) return Buffer.from(value) as unknown as T;
  return value === undefined ? value : (JSON.parse(JSON.stringify(value)) as T);
}

const payloadBytesMax = 6 * 1024 * 1024;

function checkSize(payload: unknown): void {
  const bytes = payload instanceof Uint8Array ? payload.byteLength : Buffer.byteLength(JSON.stringify(payload) ?? '');
  if (bytes <= payloadBytesMax) return;
  throw user('payload_too_large', `must be ${payloadBytesMax} bytes at most`, { field: 'payload', status: 413 });
}

const mayGiveWay = ({ job }: Stored) => job.state !== 'leased';
const queueFull = (queue: string) =>
  new RetryableError(`the queue ${queue} has reached its maxDepth`, { code: 'queue_full' });

export class Store {
  readonly jobs = new Map<string, Stored>();
  readonly #paused = new Map<string, QueueChanges>();
  readonly #now: () => number;
  readonly #ended: (job: Job, entries?: CacheEntry[]) => void;
  readonly #batches: StoredBatches;
  #order = 0;

  /** `ended`: is told of each job that is finished or forgotten, and what its report sets in the cache. */
  constructor(now: () => number, batches: StoredBatches, ended: (job: Job, entries?: CacheEntry[]) => void) {
    this.#now = now;
    this.#batches = batches;
    this.#ended = ended;
  }

  /** Moves what is due. Everything that reads or changes jobs comes through here first. */
  settle(): void {
    const now = this.#now();
    for (const stored of this.jobs.values()) {
      const { job, options } = stored;
      if (job.state === 'leased' && stored.dueMs <= now) {
        this.#end(stored, { class: 'retryable', code: 'lease_expired', message: 'the lease ran out' }, 0);
      }
      if (job.state === 'scheduled' && stored.dueMs <= now) this.#ready(stored);
      const waits = job.state === 'scheduled' || job.state === 'ready';
      if (waits && options.expiresIn !== undefined && !stored.everLeased) {
        if (stored.createdMs + milliseconds(options.expiresIn) <= now) {
          this.#fail(stored, { class: 'user', code: 'expired', message: 'nobody took it in time' });
          this.#finish(stored, 'dead');
        }
      }
      if (finished.has(job.state) && job.state !== 'dead') {
        const kept = milliseconds(options.keepResult ?? '1h');
        if (Date.parse(job.finishedAt!) + kept < now) this.jobs.delete(job.id);
      }
    }
    for (const callback of this.#batches.due((stored) => this.jobs.get(stored.job.id) !== stored)) {
      const { type, payload, ...options } = callback.sent;
      callback.job = this.#add(type, payload, options, randomUUID()).job.id;
    }
  }

  /** Throws what the server would say of such a job. */
  check({ type, payload, ...options }: NewJob): void {
    this.#validate(type, options);
    checkSize(payload);
  }

  /** Throws where a queue has no room for its share of these: duplicates among them, and what gives way, counted. */
  checkRoom(jobs: NewJob[]): void {
    if (![...this.#paused.values()].some(({ maxDepth }) => typeof maxDepth === 'number')) return;
    const rooms = new Map<string, { unfinished: number; droppable: number }>();
    const ids = new Set<string>();
    const keys = new Set<string>();
    for (const options of jobs) {
      const queue = options.queue ?? 'default';
      const { id, unique } = options;
      const key = unique && `${queue}\n${unique.key}`;
      if (this.#twinOf(queue, options) || (id !== undefined && ids.has(id)) || (key && keys.has(key))) continue;
      const { maxDepth, whenFull } = this.#paused.get(queue) ?? {};
      if (maxDepth !== undefined && maxDepth !== null) {
        let room = rooms.get(queue);
        if (!room) {
          const unfinished = this.#unfinished(queue);
          room = { unfinished: unfinished.length, droppable: unfinished.filter(mayGiveWay).length };
          rooms.set(queue, room);
        }
        if (room.unfinished >= maxDepth) {
          if (whenFull !== 'drop_oldest' || room.droppable === 0) throw queueFull(queue);
          room.droppable -= 1;
          room.unfinished -= 1;
        }
        room.unfinished += 1;
        room.droppable += 1;
      }
      if (id !== undefined) ids.add(id);
      const isScheduled = this.#dueMs(options) > this.#now();
      if (key && (isScheduled || unique.while !== 'scheduled')) keys.add(key);
    }
  }

  /** Throws where one names a batch that takes no jobs; but not for a job that is there already. */
  checkBatches(jobs: NewJob[]): void {
    for (const job of jobs) {
      if (job.batch !== undefined && !this.#twinOf(job.queue ?? 'default', job)) this.#batches.open(job.batch);
    }
  }

  enqueue(sent: NewJob, makeId: () => string): Enqueued {
    this.check(sent);
    const { type, payload, ...options } = sent;
    const queue = options.queue ?? 'default';
    const twin = this.#twinOf(queue, options);
    if (twin) return { id: twin.job.id, state: twin.job.state, duplicate: true };
    const batch = options.batch === undefined ? undefined : this.#batches.open(options.batch);
    this.#makeRoom(queue);
    const stored = this.#add(type, payload, options, options.id ?? makeId());
    batch?.jobs.push(stored);
    return { id: stored.job.id, state: stored.job.state, duplicate: false };
  }

  /** As it is, whatever the queue holds. */
  #add(type: string, payload: unknown, options: JobOptions, id: string): Stored {
    const now = this.#now();
    const dueMs = this.#dueMs(options);
    const { delay: _delay, runAt: _runAt, expiresIn: _expiresIn, lease: _lease, keepResult: _keep, ...rest } = options;
    const job = {
      ...overTheWire(rest),
      id,
      type,
      queue: options.queue ?? 'default',
      state: 'scheduled',
      payload: overTheWire(payload),
      priority: options.priority ?? 5,
      attempt: 0,
      maxAttempts: options.maxAttempts ?? 20,
      createdAt: this.#text(now),
    } as unknown as Job;
    const stored: Stored = {
      job,
      options,
      createdMs: now,
      dueMs,
      order: 0,
      lease: undefined,
      leaseMs: milliseconds(options.lease ?? '60s'),
      everLeased: false,
      lines: [],
    };
    this.jobs.set(id, stored);
    if (dueMs <= now) this.#ready(stored);
    return stored;
  }

  find(id: string): Stored {
    this.settle();
    const stored = this.jobs.get(id);
    if (!stored) throw user('job_not_found', `there is no job ${id}`);
    return stored;
  }

  cancel(id: string): void {
    const stored = this.find(id);
    const { job } = stored;
    if (job.state === 'leased') job.cancelRequested = true;
    else if (job.state === 'scheduled' || job.state === 'ready') this.#finish(stored, 'cancelled');
    else if (job.state !== 'cancelled') throw user('wrong_state', `job ${id} is ${job.state}`);
  }

  retry(id: string): void {
    const stored = this.find(id);
    const { job } = stored;
    if (job.state !== 'dead' && job.state !== 'cancelled' && job.state !== 'scheduled') {
      throw user('wrong_state', `job ${id} is ${job.state}`);
    }
    job.attempt = 0;
    delete job.finishedAt;
    delete job.cancelRequested;
    this.#ready(stored);
  }

  delete(id: string): void {
    const { job } = this.find(id);
    if (job.state === 'leased') throw user('job_leased', `job ${id} is held by a worker`);
    this.jobs.delete(id);
    this.#ended(job);
  }

  update(id: string, changes: JobChanges): Job {
    const stored = this.find(id);
    const { job } = stored;
    if (job.state === 'leased') throw user('job_leased', `job ${id} is held by a worker`);
    this.#validate(job.type, changes);
    const { runAt, ...rest } = changes;
    for (const [key, value] of Object.entries(rest)) if (value !== undefined) (job as any)[key] = overTheWire(value);
    if (runAt !== undefined) {
      stored.dueMs = new Date(runAt).getTime();
      job.state = 'scheduled';
    }
    this.settle();
    return job;
  }

  queue(queue: string): Queue {
    this.settle();
    const depth = { scheduled: 0, ready: 0, leased: 0, completed: 0, dead: 0, cancelled: 0 };
    let oldest: string | null = null;
    for (const { job } of this.jobs.values()) {
      if (job.queue !== queue) continue;
      depth[job.state] += 1;
      if (job.state === 'ready' && (oldest === null || job.readyAt! < oldest)) oldest = job.readyAt!;
    }
    const set = this.#paused.get(queue);
    const settings = {
      paused: set?.paused ?? false,
      maxDepth: set?.maxDepth ?? null,
      whenFull: set?.whenFull ?? ('refuse' as const),
    };
    return { name: queue, paused: settings.paused, depth, oldestReadyAt: oldest, rates: {}, counters: {}, settings };
  }

  queueNames(): string[] {
    this.settle();
    return [...new Set([...this.#paused.keys(), ...[...this.jobs.values()].map(({ job }) => job.queue)])].sort();
  }

  updateQueue(queue: string, changes: QueueChanges): Queue {
    this.#paused.set(queue, { ...this.#paused.get(queue), ...changes });
    return this.queue(queue);
  }

  /** The next jobs of these queues, leased. */
  lease(queues: QueueChoice[], max: number, lease: Duration | undefined, worker: string | undefined): LeasedJob[] {
    this.settle();
    const leased: LeasedJob[] = [];
    for (const choice of queues) {
      const queue = typeof choice === 'string' ? choice : choice.name;
      if (this.#paused.get(queue)?.paused) continue;
      const line = [...this.jobs.values()]
        .filter(({ job }) => job.queue === queue && job.state === 'ready')
        .sort((a, b) => b.job.priority - a.job.priority || a.order - b.order);
      for (const stored of line.slice(0, max - leased.length)) leased.push(this.#grant(stored, lease, worker));
    }
    return leased;
  }

  report(report: Report): ReportResult {
    this.settle();
    const stored = this.jobs.get(report.id);
    if (!stored) return this.#refusal(report.id, 404, 'job_not_found', 'user');
    const { job } = stored;
    if (job.state !== 'leased' || stored.lease !== report.lease) {
      return this.#refusal(report.id, 409, 'lease_lost', 'fatal');
    }
    const now = this.#now();
    switch (report.outcome) {
      case 'completed':
        if (report.resultBase64 !== undefined) job.result = fromBase64(report.resultBase64);
        else if (report.result !== undefined) job.result = overTheWire(report.result);
        delete job.checkpoint;
        this.#finish(stored, 'completed', report.cache);
        break;
      case 'failed': {
        const { class: errorClass = 'retryable', code = 'failed', message = '', detail } = report.error;
        const error = { class: errorClass, code, message, ...(detail === undefined ? {} : { detail }) };
        this.#end(stored, error, report.retryIn === undefined ? undefined : milliseconds(report.retryIn));
        break;
      }
      case 'released':
        job.attempt -= 1;
        if (job.cancelRequested) this.#finish(stored, 'cancelled');
        else this.#ready(stored);
        break;
      case 'extend':
        stored.dueMs = now + milliseconds(report.for);
        break;
      case 'progress':
        job.progress = {
          percent: report.percent,
          ...(report.message === undefined ? {} : { message: report.message }),
        };
        break;
      case 'log':
        stored.lines.push(...report.lines);
        break;
      case 'checkpoint':
        job.checkpoint = overTheWire(report.data);
        break;
    }
    return { id: report.id, ok: true, ...(job.cancelRequested ? { cancelRequested: true } : {}) };
  }

  /** When the next job of these queues that waits for its time is due. */
  nextDue(queues: QueueChoice[]): number | undefined {
    const names = new Set(queues.map((choice) => (typeof choice === 'string' ? choice : choice.name)));
    let next: number | undefined;
    for (const { job, dueMs } of this.jobs.values()) {
      if (job.state === 'scheduled' && names.has(job.queue) && (next === undefined || dueMs < next)) next = dueMs;
    }
    return next;
  }

  #grant(stored: Stored, lease: Duration | undefined, worker: string | undefined): LeasedJob {
    const { job } = stored;
    const now = this.#now();
    stored.lease = (this.#order += 1).toString(16).padStart(16, '0');
    stored.dueMs = now + (lease === undefined ? stored.leaseMs : milliseconds(lease));
    stored.everLeased = true;
    job.state = 'leased';
    job.attempt += 1;
    job.startedAt = this.#text(now);
    if (worker !== undefined) job.worker = worker;
    const leased = {
      id: job.id,
      type: job.type,
      queue: job.queue,
      payload: overTheWire(job.payload),
      attempt: job.attempt,
      maxAttempts: job.maxAttempts,
      lease: stored.lease,
      leaseExpiresAt: this.#text(stored.dueMs),
      priority: job.priority,
      createdAt: job.createdAt,
    } as LeasedJob;
    if (job.checkpoint !== undefined) leased.checkpoint = overTheWire(job.checkpoint);
    if (job.meta !== undefined) leased.meta = job.meta;
    if (job.group !== undefined) leased.group = job.group;
    if (job.tags !== undefined) leased.tags = job.tags;
    if (job.batch !== undefined) leased.batch = job.batch;
    return leased;
  }

  /** An attempt is over and did not complete. */
  #end(stored: Stored, error: Omit<JobError, 'attempt' | 'at'>, retryInMs: number | undefined): void {
    const { job, options } = stored;
    this.#fail(stored, error);
    if (job.cancelRequested) return this.#finish(stored, 'cancelled');
    if (error.class !== 'retryable' || job.attempt >= job.maxAttempts) return this.#finish(stored, 'dead');
    const first = milliseconds(options.backoff?.first ?? '15s');
    const cap = milliseconds(options.backoff?.cap ?? Math.max(first, 3_600_000));
    const wait = retryInMs ?? Math.min(cap, first * (options.backoff?.factor ?? 2) ** (job.attempt - 1));
    stored.lease = undefined;
    stored.dueMs = this.#now() + wait;
    job.state = 'scheduled';
    if (wait === 0) this.#ready(stored);
  }

  #fail(stored: Stored, error: Omit<JobError, 'attempt' | 'at'>): void {
    const { job } = stored;
    const entry: JobError = { ...error, attempt: job.attempt, at: this.#text(this.#now()) };
    job.error = entry;
    job.errors = [entry, ...(job.errors ?? [])].slice(0, 10);
  }

  #ready(stored: Stored): void {
    stored.lease = undefined;
    stored.order = this.#order += 1;
    stored.job.state = 'ready';
    stored.job.readyAt = this.#text(this.#now());
  }

  #finish(stored: Stored, state: JobState, entries?: CacheEntry[]): void {
    stored.lease = undefined;
    stored.job.state = state;
    stored.job.finishedAt = this.#text(this.#now());
    this.#ended(stored.job, entries);
  }

  #dueMs({ delay, runAt }: JobOptions): number {
    if (runAt !== undefined) return new Date(runAt).getTime();
    return this.#now() + (delay === undefined ? 0 : milliseconds(delay));
  }

  /** The job that is there already for this one. */
  #twinOf(queue: string, options: JobOptions): Stored | undefined {
    return (options.id !== undefined && this.jobs.get(options.id)) || this.#holderOf(queue, options);
  }

  #holderOf(queue: string, options: JobOptions): Stored | undefined {
    if (!options.unique) return undefined;
    for (const stored of this.jobs.values()) {
      const { job } = stored;
      const unique = stored.options.unique;
      if (job.queue !== queue || unique?.key !== options.unique.key) continue;
      if (unique.for !== undefined && stored.createdMs + milliseconds(unique.for) <= this.#now()) continue;
      const held = {
        scheduled: ['scheduled'],
        queued: ['scheduled', 'ready'],
        unfinished: ['scheduled', 'ready', 'leased'],
      };
      if (held[unique.while ?? 'unfinished'].includes(job.state)) return stored;
    }
    return undefined;
  }

  #makeRoom(queue: string): void {
    const { maxDepth, whenFull } = this.#paused.get(queue) ?? {};
    if (maxDepth === undefined || maxDepth === null) return;
    const unfinished = this.#unfinished(queue);
    if (unfinished.length < maxDepth) return;
    const oldest = unfinished
      .filter(mayGiveWay)
      .sort((a, b) => a.job.priority - b.job.priority || a.order - b.order)[0];
    if (whenFull !== 'drop_oldest' || !oldest) throw queueFull(queue);
    this.#finish(oldest, 'cancelled');
  }

  #unfinished(queue: string): Stored[] {
    return [...this.jobs.values()].filter(({ job }) => job.queue === queue && !finished.has(job.state));
  }

  #validate(type: unknown, options: object): void {
    if (type === undefined) throw user('missing_field', 'a job needs a type', { field: 'type' });
    if (typeof type !== 'string' || !name.test(type)) throw invalid('type', `${String(type)} is no name`);
    for (const [field, value] of Object.entries(options)) {
      if (!(field in known)) throw user('unknown_field', `a job has no ${field}`, { field });
      if (value === undefined) continue;
      const isName = field === 'queue' || field === 'id' || field === 'group' || field === 'batch';
      if (isName && !name.test(String(value))) throw invalid(field, `${String(value)} is no name`);
    }
    const { priority, maxAttempts, delay, runAt } = options as JobOptions;
    if (priority !== undefined && !(Number.isInteger(priority) && priority >= 0 && priority <= 9)) {
      throw invalid('priority', 'a priority is 0 to 9');
    }
    if (maxAttempts !== undefined && !(Number.isInteger(maxAttempts) && maxAttempts >= 1 && maxAttempts <= 10_000)) {
      throw invalid('max_attempts', 'attempts are 1 to 10,000');
    }
    if (delay !== undefined) milliseconds(delay);
    if (delay !== undefined && runAt !== undefined) throw invalid('run_at', 'either delay or run_at');
    if (runAt !== undefined && Number.isNaN(new Date(runAt).getTime())) throw invalid('run_at', 'this is no time');
  }

  #refusal(
    id: string,
    status: number,
    code: 'job_not_found' | 'lease_lost',
    errorClass: 'user' | 'fatal',
  ): ReportResult {
    const detail = code === 'lease_lost' ? 'the lease is over' : `there is no job ${id}`;
    const error = { type: `/errors/${code}`, title: detail, status, detail, code, class: errorClass };
    return { id, ok: false, error };
  }

  #text(ms: number): string {
    return new Date(ms).toISOString();
  }
}

/** Nobody waits for it any more. */
export const closed = () => new FatalError('the client is closed', { code: 'closed' });
