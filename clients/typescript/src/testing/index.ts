// For the tests of programs that use Workmill: no server, no sockets, no waiting.
import { randomUUID } from 'node:crypto';
import { milliseconds } from '../duration.js';
import { hooked, keyHeader, tellOfAll } from '../enqueue.js';
import { FatalError, isWorkmillError, JobFailedError, RetryableError, UserError } from '../errors.js';
import { failureOf } from '../reports.js';
import { Run, type RunOwner } from '../run.js';
import type { WorkmillApi } from '../api.js';
import type {
  CallOptions,
  Enqueued,
  EnqueueCallOptions,
  EnqueueHook,
  Job,
  JobChanges,
  JobFilter,
  JobOptions,
  JobState,
  LeasedJobs,
  LeaseRequest,
  ListOptions,
  NewJob,
  Payload,
  Queue,
  QueueChanges,
  Report,
  ReportResult,
  WaitOptions,
} from '../types.js';
import type { Bulk, CacheEntry, Status } from '../wire.js';
import type { Worker } from '../worker.js';
import { FakeBatches } from './batches.js';
import { FakeCache } from './cache.js';
import { FakeClock } from './clock.js';
import { checkPageSize, closed, overTheWire, Store } from './store.js';

export { FakeClock } from './clock.js';

export interface FakeOptions {
  /** When it begins. Default: the start of the year 2030. */
  now?: Date;
  /** As those of `Client`. */
  onEnqueue?: EnqueueHook[];
}

export interface DrainOptions {
  /** Whenever nothing is ready, go on to the time of the next delayed job or retry, until there is none. Default: false. */
  advance?: boolean;
  /** More jobs than this in one drain are an error: a job that enqueues itself would go on for ever. Default: 10,000. */
  limit?: number;
}

export interface Drained {
  /** Jobs that were completed, as they then were, in order. */
  completed: Job[];
  /** Attempts that failed: the job as it was after each. */
  failed: Job[];
}

/** So that nobody changes what is in here. */
function copyOf(job: Job): Job {
  const { payload, result, ...rest } = job;
  const copy = { ...structuredClone(rest), payload: overTheWire(payload) };
  return result === undefined ? copy : { ...copy, result: overTheWire(result) };
}

const jobsPerCall = 10_000;
const finished = new Set(['completed', 'dead', 'cancelled']);

interface Waiter {
  id: string;
  endMs: number;
  resolve: (job: Job) => void;
  reject: (error: unknown) => void;
}

/**
 * A Workmill in memory, with what `Client` has: give it to the code under test in a client's place. Its clock stands
 * still until you `clock.advance(…)`; jobs run when you `drain(worker)`. It keeps to the states, retries, unique keys and
 * delays of the server; retries come without jitter, and groups take no turns.
 */
export class FakeWorkmill implements WorkmillApi {
  readonly clock: FakeClock;
  /** Values live as long as they are told to, without jitter and early refreshes. */
  readonly cache: FakeCache;
  readonly batches: FakeBatches;
  readonly #store: Store;
  readonly #onEnqueue: EnqueueHook[];
  readonly #keys = new Map<string, { body: string; answers: Enqueued[] }>();
  #waiters: Waiter[] = [];
  #closed = false;

  constructor(options: FakeOptions = {}) {
    this.#onEnqueue = [...(options.onEnqueue ?? [])];
    this.clock = new FakeClock(options.now ?? new Date('2030-01-01T00:00:00Z'), () => this.#changed());
    const now = () => this.clock.now.getTime();
    this.batches = new FakeBatches({
      now,
      check: (call) => this.#check(call),
      onEnqueue: this.#onEnqueue,
      checkJob: (job) => this.#store.check(job),
      settle: () => this.#store.settle(),
      isGone: (stored) => this.#store.jobs.get(stored.job.id) !== stored,
    });
    this.#store = new Store(now, this.batches, (job, entries) => this.cache.ended(job, entries));
    this.cache = new FakeCache({
      now,
      check: (call) => this.#check(call),
      onEnqueue: this.#onEnqueue,
      enqueue: (job) => {
        this.#store.settle();
        return this.#store.find(this.#store.enqueue(job, randomUUID).id).job;
      },
      state: (id) => this.#store.find(id).job.state,
    });
  }

  /**
   * Runs the jobs that are ready in the worker's queues by its handlers, middleware and all, one after another in the
   * order of the server, until there are none. The worker is not started.
   */
  async drain(worker: Worker, options: DrainOptions = {}): Promise<Drained> {
    const limit = options.limit ?? 10_000;
    const drained: Drained = { completed: [], failed: [] };
    for (let ran = 0; ; ran += 1) {
      let [leased] = this.#store.lease(worker.queues, 1, undefined, worker.name);
      for (let hooks = this.cache.hooking; !leased && hooks; hooks = this.cache.hooking) {
        await hooks; // What they let through is to be run, too.
        [leased] = this.#store.lease(worker.queues, 1, undefined, worker.name);
      }
      if (!leased) {
        const due = options.advance ? this.#store.nextDue(worker.queues) : undefined;
        if (due === undefined) return drained;
        this.clock.advanceTo(new Date(due));
        continue;
      }
      if (ran >= limit) throw new FatalError(`more than ${limit} jobs in one drain`, { code: 'drain_limit' });
      const ref = { id: leased.id, lease: leased.lease };
      const stored = this.#store.find(leased.id);
      const owner: RunOwner = {
        said: (run) => {
          run.listed = false;
          const lines = run.takeLines();
          if (lines) this.#store.report({ ...ref, outcome: 'log', lines });
          if (run.saidPercent === undefined) return;
          const message = run.saidMessage === undefined ? {} : { message: run.saidMessage };
          this.#store.report({ ...ref, outcome: 'progress', percent: run.saidPercent, ...message });
          run.saidPercent = undefined;
        },
        checkpoint: async (_run, data) => {
          this.#store.report({ ...ref, outcome: 'checkpoint', data });
        },
      };
      const run = new Run(owner, leased, 0);
      let result: unknown;
      try {
        result = overTheWire(await worker.perform(leased, run));
        const cache = run.cached === undefined ? {} : { cache: JSON.parse(run.cached) as CacheEntry[] };
        this.#store.report({ ...ref, outcome: 'completed', result, ...cache });
        drained.completed.push(copyOf(stored.job));
      } catch (error) {
        const { retryIn, ...failure } = failureOf(error);
        this.#store.report({
          ...ref,
          outcome: 'failed',
          error: failure,
          ...(retryIn === undefined ? {} : { retryIn }),
        });
        drained.failed.push(copyOf(stored.job));
      }
      run.reported = true;
      this.#changed();
    }
  }

  async enqueue<In = Payload>(
    type: string,
    payload?: In,
    options: JobOptions = {},
    call: EnqueueCallOptions = {},
  ): Promise<Enqueued> {
    this.#check(call);
    const job = { ...options, type, payload };
    const sent = this.#onEnqueue.length > 0 ? await hooked(job, this.#onEnqueue) : job;
    return this.#once([sent], call, () => [this.#store.enqueue(sent, randomUUID)])[0]!;
  }

  async enqueueMany(
    jobs: Iterable<NewJob> | AsyncIterable<NewJob>,
    call: EnqueueCallOptions = {},
  ): Promise<Enqueued[]> {
    this.#check(call);
    const sent: NewJob[] = [];
    try {
      for await (const job of jobs) sent.push(this.#onEnqueue.length > 0 ? await hooked(job, this.#onEnqueue) : job);
    } catch (error) {
      tellOfAll(error, []); // Here all jobs are seen before the first is enqueued.
      throw error;
    }
    return this.#once(sent, call, () => this.#enqueueAll(sent));
  }

  /** As the client sends them: so many at once, each time all or none. */
  #enqueueAll(jobs: NewJob[]): Enqueued[] {
    const answers: Enqueued[] = [];
    for (let from = 0; from < jobs.length; from += jobsPerCall) {
      const together = jobs.slice(from, from + jobsPerCall);
      // What is wrong with one of them comes first, as with the server.
      together.forEach((job, i) => {
        try {
          this.#store.check(job);
        } catch (error) {
          if (isWorkmillError(error)) {
            error.enqueued = answers;
            error.field = `jobs[${from + i}]${error.field === undefined ? '' : `.${error.field}`}`;
          }
          throw error;
        }
      });
      try {
        this.#store.checkBatches(together);
        this.#store.checkRoom(together);
      } catch (error) {
        tellOfAll(error, answers);
        throw error;
      }
      for (const job of together) answers.push(this.#store.enqueue(job, randomUUID));
    }
    return answers;
  }

  /** What an earlier call with the same key was answered, or what this one is. */
  #once(jobs: NewJob[], { idempotencyKey: key }: EnqueueCallOptions, enqueue: () => Enqueued[]): Enqueued[] {
    const body = key === undefined ? '' : JSON.stringify([keyHeader(key), ...jobs]);
    const before = key === undefined ? undefined : this.#keys.get(key);
    if (before) {
      if (before.body === body) return before.answers;
      throw new UserError('the key came with another body before', { code: 'idempotency_key_reused' });
    }
    this.#store.settle();
    const answers = enqueue();
    if (key !== undefined) this.#keys.set(key, { body, answers });
    return answers;
  }

  async get<In = any, Out = any>(id: string, call: CallOptions = {}): Promise<Job<In, Out>> {
    this.#check(call);
    return copyOf(this.#store.find(id).job);
  }

  /** `timeout` is of the fake's clock. */
  waitFor<In = any, Out = any>(id: string, options: WaitOptions = {}): Promise<Job<In, Out>> {
    return new Promise((resolve, reject) => {
      this.#check(options);
      this.#store.find(id);
      const wait = options.timeout === undefined ? Infinity : milliseconds(options.timeout);
      const waiter: Waiter = { id, endMs: this.clock.now.getTime() + wait, resolve, reject };
      this.#waiters.push(waiter);
      options.signal?.addEventListener('abort', () => reject(options.signal?.reason as Error), { once: true });
      this.#changed();
    });
  }

  async result<Out = any>(id: string, options: WaitOptions = {}): Promise<Out> {
    const job = await this.waitFor<unknown, Out>(id, options);
    if (!finished.has(job.state)) throw new RetryableError(`job ${id} is ${job.state}`, { code: 'not_finished' });
    if (job.state !== 'completed') throw new JobFailedError(job);
    return job.result as Out;
  }

  async cancel(id: string, call: CallOptions = {}): Promise<void> {
    this.#check(call);
    this.#store.cancel(id);
    this.#changed();
  }

  async retry(id: string, call: CallOptions = {}): Promise<void> {
    this.#check(call);
    this.#store.retry(id);
  }

  async delete(id: string, call: CallOptions = {}): Promise<void> {
    this.#check(call);
    this.#store.delete(id);
    this.#changed();
  }

  async update(id: string, changes: JobChanges, call: CallOptions = {}): Promise<Job> {
    this.#check(call);
    return copyOf(this.#store.update(id, changes));
  }

  async log(id: string, call: CallOptions = {}): Promise<string[]> {
    this.#check(call);
    return [...this.#store.find(id).lines];
  }

  async *list(filter: JobFilter = {}, options: ListOptions = {}): AsyncIterableIterator<Job> {
    this.#check(options);
    checkPageSize(options);
    this.#store.settle();
    const text = (job: Job) => `${job.type}\n${job.id}\n${JSON.stringify(job.payload)}\n${JSON.stringify(job.error)}`;
    for (const job of this.#matching(filter).reverse()) {
      if (filter.q === undefined || text(job).includes(filter.q)) yield copyOf(job);
    }
  }

  #matching({ state, queue, type, group, tag, batch }: JobFilter, prefix = ''): Job[] {
    if (batch !== undefined) this.batches.checkThere(batch, `${prefix}batch`);
    return [...this.#store.jobs.values()]
      .map(({ job }) => job)
      .filter(
        (job) =>
          (state === undefined || job.state === state) &&
          (queue === undefined || job.queue === queue) &&
          (type === undefined || job.type === type) &&
          (group === undefined || job.group === group) &&
          (tag === undefined || job.tags?.includes(tag)) &&
          (batch === undefined || job.batch === batch),
      );
  }

  async bulk(action: Bulk['action'], where: Omit<JobFilter, 'q'>, call: CallOptions = {}): Promise<number> {
    this.#check(call);
    if ('q' in where) throw new UserError('there is no such field', { code: 'unknown_field', field: 'where.q' });
    this.#store.settle();
    let count = 0;
    for (const { id } of this.#matching(where, 'where.')) {
      try {
        this.#store[action](id);
        count += 1;
      } catch {
        // Those whose state does not allow it are left out.
      }
    }
    this.#changed();
    return count;
  }

  purge(queue: string, state?: JobState, call: CallOptions = {}): Promise<number> {
    return this.bulk('delete', state === undefined ? { queue } : { queue, state }, call);
  }

  /** Of what a server measures there is nothing. */
  async status(call: CallOptions = {}): Promise<Status> {
    this.#check(call);
    this.#store.settle();
    const jobs = { total: 0, scheduled: 0, ready: 0, leased: 0, completed: 0, dead: 0, cancelled: 0 };
    for (const { job } of this.#store.jobs.values()) {
      jobs.total += 1;
      jobs[job.state] += 1;
    }
    return {
      version: 'fake',
      readiness: 'ready',
      now: this.clock.now.toISOString(),
      uptime: '0s',
      jobs,
      queues: this.#store.queueNames().length,
      time: {},
      log: {},
      recovery: {},
      bounds: [],
      stages: {},
      job_stages: {},
      threads: [],
      types: [],
      http: { connections_total: 0, requests_total: 0, refused_total: 0 },
    };
  }

  async *queues(options: ListOptions = {}): AsyncIterableIterator<Queue> {
    this.#check(options);
    checkPageSize(options);
    for (const name of this.#store.queueNames()) yield this.#store.queue(name);
  }

  async queue(name: string, call: CallOptions = {}): Promise<Queue> {
    this.#check(call);
    if (!this.#store.queueNames().includes(name)) throw new UserError(`no queue ${name}`, { code: 'not_found' });
    return this.#store.queue(name);
  }

  async updateQueue(name: string, changes: QueueChanges, call: CallOptions = {}): Promise<Queue> {
    this.#check(call);
    return this.#store.updateQueue(name, changes);
  }

  /** Answers at once, whatever `wait` says. */
  async lease(request: LeaseRequest, call: CallOptions = {}): Promise<LeasedJobs> {
    this.#check(call);
    const reports = (request.reports ?? []).map((report) => this.#store.report(report));
    const jobs = this.#store.lease(request.queues, request.max ?? 1, request.lease, request.worker);
    this.#changed();
    return { jobs, reports };
  }

  async report(reports: Report[], call: CallOptions = {}): Promise<ReportResult[]> {
    this.#check(call);
    const results = reports.map((report) => this.#store.report(report));
    this.#changed();
    return results;
  }

  close(): void {
    this.#closed = true;
    for (const waiter of this.#waiters.splice(0)) waiter.reject(closed());
    this.cache.close(closed());
  }

  #check(call: { signal?: AbortSignal | undefined }): void {
    if (this.#closed) throw closed();
    call.signal?.throwIfAborted();
  }

  /** Tells those that wait. */
  #changed(): void {
    this.#store.settle();
    this.cache.settle();
    const now = this.clock.now.getTime();
    this.#waiters = this.#waiters.filter((waiter) => {
      const stored = this.#store.jobs.get(waiter.id);
      if (!stored) waiter.reject(new UserError(`there is no job ${waiter.id}`, { code: 'job_not_found' }));
      else if (finished.has(stored.job.state) || waiter.endMs <= now) waiter.resolve(copyOf(stored.job));
      else return true;
      return false;
    });
  }
}
