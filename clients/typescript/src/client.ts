import { randomUUID } from 'node:crypto';
import { Batches } from './batches.js';
import { Cache } from './cache.js';
import { durationText, milliseconds } from './duration.js';
import { hooked, keyHeader, keyOfPart, tellOfAll } from './enqueue.js';
import { FatalError, isWorkmillError, JobFailedError, RetryableError, WorkmillError } from './errors.js';
import { answerError, Http, tokenOf, urlOf, type HttpAnswer, type TlsOptions } from './http.js';
import {
  camel,
  enqueuedFromWire,
  jobFromWire,
  jobToWire,
  leasedJobsFromWire,
  newJobToWire,
  queueFromWire,
  reportToWire,
  snake,
} from './names.js';
import {
  backoffMs,
  bounded,
  retryAfterMaxMs,
  retryOf,
  sleep,
  triedAlready,
  type Retry,
  type RetryOptions,
} from './retry.js';
import { isObject, listOf, read } from './ours.js';
import { loadTelemetry, type Telemetry } from './telemetry.js';
import { isWait, Wait } from './wait.js';
import type { WorkmillApi } from './api.js';
import type {
  CallOptions,
  Duration,
  EnqueueCallOptions,
  EnqueueHook,
  Job,
  JobChanges,
  JobFilter,
  JobOptions,
  LeaseRequest,
  LeasedJobs,
  ListOptions,
  NewJob,
  Payload,
  Queue,
  QueueChanges,
  Report,
  ReportResult,
  WaitOptions,
} from './types.js';
import type * as wire from './wire.js';

export interface ClientOptions {
  /** Default: the environment's WORKMILL_URL, or http://127.0.0.1:7330. */
  url?: string | undefined;
  /** Default: the environment's WORKMILL_TOKEN. */
  token?: string | undefined;
  /** Connections at most. They are kept open between calls, and hold no process back from ending. Default: 32. */
  maxConnections?: number | undefined;
  /**
   * Calls at most that wait in the server, such as `waitFor` and `cache.getOrCompute`: on connections of their own, so that
   * they are in no other call's way. Default: 1,000.
   */
  maxLongPolls?: number | undefined;
  /** Calls that may wait for a connection; one more is refused with the code `pool_full`. Default: 10,000. */
  maxWaiting?: number | undefined;
  /** Default: 5s. */
  connectTimeout?: Duration | undefined;
  /** For each try of a call, waiting for a connection included. Default: 30s. */
  requestTimeout?: Duration | undefined;
  /** What is `retryable`, and broken connections, are tried again. Default: 5 tries, 100 ms doubled up to 5 s, full jitter. */
  retry?: RetryOptions | undefined;
  /**
   * For https; with another address it is refused. Without `ca`, whom the file that WORKMILL_CA_FILE names vouches for is
   * believed.
   */
  tls?: TlsOptions | undefined;
  /** false: no spans, though OpenTelemetry is installed. */
  tracing?: boolean | undefined;
  /** Called for each job before it is sent, one after another. */
  onEnqueue?: EnqueueHook[] | undefined;
}

const jobsPerCall = 10_000;
// Far under the server's default limit of 12 MiB a body, even if each of these is three bytes.
const charactersPerCall = 2 * 1024 * 1024;
const gone = new Set(['batch_not_found', 'cache_miss', 'job_not_found']);
const deleted: HttpAnswer = { status: 204, headers: {}, bytes: Buffer.from('{}'), body: '{}' };
const finished = new Set<wire.JobState>(['completed', 'dead', 'cancelled']);

type Query = Record<string, string | number | undefined>;

function pathWith(path: string, query: Query): string {
  const given = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value !== undefined) given.set(name, String(value));
  return given.size > 0 ? `${path}?${given.toString()}` : path;
}

const jobPath = (id: string, rest = '') => `/v1/jobs/${encodeURIComponent(id)}${rest}`;
const queuePath = (name: string, rest = '') => `/v1/queues/${encodeURIComponent(name)}${rest}`;

/**
 * All that a program asks of a server. One for a process is enough: it is made without waiting, connects when it is
 * first used, and any number of calls may be under way at once.
 *
 * Calls reject with a `WorkmillError`, or with the reason of their `signal`. A retry after a broken connection cannot
 * know whether the first try counted: enqueuing carries an Idempotency-Key and never counts twice; a second `cancel` or
 * `report` may be answered `wrong_state` or `lease_lost` though the first one did it. `retry`, of one job and by `bulk`, is
 * not sent again then: its jobs may have run, and died once more. Nor is `lease`: its jobs are leased, and to nobody.
 */
export class Client implements WorkmillApi {
  /** Values that jobs compute, shared by all clients. */
  readonly cache: Cache;
  /** Sets of jobs whose end enqueues another. */
  readonly batches: Batches;
  readonly #http: Http;
  /** For calls that wait in the server. */
  readonly #polls: Http;
  readonly #retry: Retry;
  readonly #requestTimeoutMs: number;
  readonly #tracing: boolean;
  readonly #onEnqueue: EnqueueHook[];

  constructor(options: ClientOptions = {}) {
    this.#retry = retryOf(options.retry);
    this.#requestTimeoutMs = milliseconds(options.requestTimeout ?? '30s');
    this.#tracing = options.tracing ?? true;
    this.#onEnqueue = [...(options.onEnqueue ?? [])];
    const server = {
      url: urlOf(options.url),
      token: tokenOf(options.token),
      tls: options.tls,
      maxWaiting: bounded('maxWaiting', options.maxWaiting ?? 10_000, 0, 1_000_000),
      connectTimeoutMs: milliseconds(options.connectTimeout ?? '5s'),
    };
    const maxConnections = bounded('maxConnections', options.maxConnections ?? 32, 1, 10_000);
    const maxLongPolls = bounded('maxLongPolls', options.maxLongPolls ?? 1_000, 1, 10_000);
    this.#http = new Http({ ...server, maxConnections });
    this.#polls = new Http({ ...server, maxConnections: maxLongPolls });
    const shared = {
      onEnqueue: this.#onEnqueue,
      traceHeaders: async () => (this.#tracing ? ((await loadTelemetry())?.inject() ?? {}) : {}),
    };
    this.cache = new Cache({ ...shared, retry: this.#retry, ask: (...request) => this.#ask(...request) });
    this.batches = new Batches({
      ...shared,
      call: (method, path, body, call, headers) => this.#call(method, path, body, call, 0, headers),
      pages: (path, query, options) => this.#pages(path, query, options),
    });
  }

  /** Sends a job; resolves when it is on disk. */
  async enqueue<In = Payload>(
    type: string,
    payload?: In,
    options?: JobOptions,
    call: EnqueueCallOptions = {},
  ): Promise<wire.Enqueued> {
    const job =
      this.#onEnqueue.length > 0
        ? newJobToWire(await hooked({ ...options, type, payload }, this.#onEnqueue))
        : jobToWire(type, payload, options);
    return read(enqueuedFromWire, await this.#send(JSON.stringify(job), job.queue ?? 'default', 1, call));
  }

  /**
   * Sends many, in calls of up to 10,000, each of which counts as a whole or not at all. Answers are in the order of the
   * jobs. Where a call fails, the error's `enqueued` has the answers of those before it; so it is where a hook or `jobs`
   * itself throws an error. With an idempotency key, the same jobs that are sent again are enqueued once, those of the
   * calls that were answered too.
   */
  async enqueueMany(
    jobs: Iterable<NewJob> | AsyncIterable<NewJob>,
    call: EnqueueCallOptions = {},
  ): Promise<wire.Enqueued[]> {
    const { idempotencyKey, ...rest } = call;
    if (idempotencyKey !== undefined) keyHeader(idempotencyKey); // Before the first call, not with the second.
    let part = 0;
    const answers: wire.Enqueued[] = [];
    let texts: string[] = [];
    let characters = 0;
    let queue: string | undefined;
    const flush = async () => {
      const body = `{"jobs":[${texts.join(',')}]}`;
      const count = texts.length;
      texts = [];
      characters = 0;
      const key = idempotencyKey === undefined ? {} : { idempotencyKey: keyOfPart(idempotencyKey, part) };
      part += 1;
      try {
        const answer = await this.#send<wire.EnqueuedJobs>(body, queue ?? 'default', count, { ...rest, ...key });
        for (const one of listOf(answer.jobs)) answers.push(read(enqueuedFromWire, one));
      } catch (error) {
        if (error instanceof WorkmillError) {
          // Counted in this call by the server; by the caller in all that he gave.
          error.field = error.field?.replace(
            /^jobs\[(\d+)\]/,
            (_, at: string) => `jobs[${answers.length + Number(at)}]`,
          );
        }
        throw error;
      }
    };
    try {
      for await (const given of jobs) {
        const job = this.#onEnqueue.length > 0 ? await hooked(given, this.#onEnqueue) : given;
        const text = JSON.stringify(newJobToWire(job));
        if (texts.length > 0 && (texts.length === jobsPerCall || characters + text.length > charactersPerCall))
          await flush();
        queue ??= job.queue;
        texts.push(text);
        characters += text.length;
      }
      if (texts.length > 0) await flush();
    } catch (error) {
      // Its signal's reason may be that of other calls, too.
      if (error !== call.signal?.reason) tellOfAll(error, answers);
      throw error;
    }
    return answers;
  }

  /** The job as it is. Rejects with the code `job_not_found` where there is none. */
  async get<In = any, Out = any>(id: string, call: CallOptions = {}): Promise<Job<In, Out>> {
    return read(jobFromWire<In, Out>, await this.#call<wire.JobAsRead>('GET', jobPath(id), undefined, call));
  }

  /**
   * The job once it is finished (completed, dead or cancelled), or as it is when `timeout` is over; 0: as `get`. Rides out
   * restarts of the server: as long as there is time, what is retryable is tried again, whatever `retry` says.
   */
  async waitFor<In = any, Out = any>(id: string, options: WaitOptions = {}): Promise<Job<In, Out>> {
    const call = { signal: options.signal };
    if (!isWait(options.timeout)) return this.get(id, call);
    const wait = new Wait(options.timeout, this.#retry);
    let job: Job<In, Out> | undefined;
    for (;;) {
      let pauseMs: number | undefined;
      try {
        const waitMs = wait.nextPollMs();
        const path = pathWith(jobPath(id), { wait: `${waitMs}ms` });
        const sent = await this.#call<wire.JobAsRead>('GET', path, undefined, call, waitMs, undefined, 1);
        job = read(jobFromWire<In, Out>, sent);
        if (finished.has(job.state)) return job;
        pauseMs = wait.pauseMs();
      } catch (error) {
        if (!isWorkmillError(error) || error === call.signal?.reason || !wait.isWorthAnother(error)) throw error;
        pauseMs = wait.pauseMsAfter(error);
        if (pauseMs === undefined && job === undefined) throw error;
      }
      if (pauseMs === undefined) return job!;
      if (pauseMs > 0) await sleep(pauseMs, options.signal);
    }
  }

  /**
   * What the job's worker gave back, once it is completed. Rejects with a `JobFailedError` where it came to another end,
   * and with the code `not_finished` when `timeout` is over.
   */
  async result<Out = any>(id: string, options: WaitOptions = {}): Promise<Out> {
    const job = await this.waitFor<unknown, Out>(id, options);
    if (!finished.has(job.state)) {
      throw new RetryableError(`job ${id} is ${job.state} after ${options.timeout}`, { code: 'not_finished' });
    }
    if (job.state !== 'completed') throw new JobFailedError(job);
    return job.result as Out;
  }

  /** Not yet leased: it is cancelled. Leased: its worker is told, and decides. */
  async cancel(id: string, call: CallOptions = {}): Promise<void> {
    await this.#call('POST', jobPath(id, '/cancel'), undefined, call);
  }

  /** A dead, cancelled or scheduled job becomes ready now, its attempts counted anew. */
  async retry(id: string, call: CallOptions = {}): Promise<void> {
    await this.#call('POST', jobPath(id, '/retry'), undefined, call, 0, undefined, undefined, false);
  }

  /** Forgets a job. Rejects with the code `job_leased` where a worker has it. */
  async delete(id: string, call: CallOptions = {}): Promise<void> {
    await this.#call('DELETE', jobPath(id), undefined, call);
  }

  /** Changes a job that is not leased. */
  async update(id: string, changes: JobChanges, call: CallOptions = {}): Promise<Job> {
    const sent = snake(changes);
    if (changes.runAt instanceof Date) sent['run_at'] = changes.runAt.toISOString();
    return read(jobFromWire, await this.#call<wire.JobAsRead>('PATCH', jobPath(id), JSON.stringify(sent), call));
  }

  /** The lines that its workers logged, oldest first. */
  async log(id: string, call: CallOptions = {}): Promise<string[]> {
    return listOf((await this.#call<wire.JobLog>('GET', jobPath(id, '/log'), undefined, call)).lines);
  }

  /** All jobs that match, newest first, fetched page by page as they are asked for. */
  async *list(filter: JobFilter = {}, options: ListOptions = {}): AsyncIterableIterator<Job> {
    const jobs = this.#pages<wire.JobAsRead>('/v1/jobs', snake(filter) as Query, options);
    for await (const job of jobs) yield read(jobFromWire, job);
  }

  /** All queues, by name. */
  async *queues(options: ListOptions = {}): AsyncIterableIterator<Queue> {
    for await (const queue of this.#pages<wire.Queue>('/v1/queues', {}, options)) yield read(queueFromWire, queue);
  }

  async queue(name: string, call: CallOptions = {}): Promise<Queue> {
    return read(queueFromWire, await this.#call<wire.Queue>('GET', queuePath(name), undefined, call));
  }

  /** Pauses or bounds a queue. One that is not there is made. */
  async updateQueue(name: string, changes: QueueChanges, call: CallOptions = {}): Promise<Queue> {
    const body = JSON.stringify(snake(changes));
    return read(queueFromWire, await this.#call<wire.Queue>('PATCH', queuePath(name), body, call));
  }

  /** Retries, cancels or deletes all that match; resolves to how many. */
  async bulk(action: wire.Bulk['action'], where: Omit<JobFilter, 'q'>, call: CallOptions = {}): Promise<number> {
    const body = JSON.stringify({ action, where: snake(where) });
    const repeatable = action !== 'retry';
    const path = '/v1/jobs/bulk';
    return (await this.#call<wire.Count>('POST', path, body, call, 0, undefined, undefined, repeatable)).count;
  }

  /** Forgets a queue's jobs, or those in one state, but never the leased ones; resolves to how many. */
  async purge(queue: string, state?: wire.JobState, call: CallOptions = {}): Promise<number> {
    const path = pathWith(queuePath(queue, '/jobs'), { state });
    return (await this.#call<wire.Count>('DELETE', path, undefined, call)).count;
  }

  /** What the server says of itself. */
  status(call: CallOptions = {}): Promise<wire.Status> {
    return this.#call<wire.Status>('GET', '/v1/status', undefined, call);
  }

  /**
   * Takes jobs to work on: the low level under `Worker`. What is not reported on in time goes to others; so do, in the end,
   * the jobs of an answer that is lost.
   */
  async lease(request: LeaseRequest, call: CallOptions = {}): Promise<LeasedJobs> {
    const { wait = 0, lease, reports, ...rest } = request;
    const sent: wire.LeaseRequest = { ...(rest as { queues: wire.QueueChoice[] }), wait: durationText(wait) };
    if (lease !== undefined) sent.lease = durationText(lease);
    if (reports !== undefined) sent.reports = reports.map(reportToWire);
    const waitMs = milliseconds(wait);
    const body = JSON.stringify(sent);
    // Not repeatable: the jobs of a lost answer are leased, and to nobody.
    return read(
      leasedJobsFromWire,
      await this.#call<wire.LeasedJobs>('POST', '/v1/leases', body, call, waitMs, undefined, undefined, false),
    );
  }

  /** Says what became of leased jobs, 1,000 at most. Each is decided for itself: look at every `ok`. */
  async report(reports: Report[], call: CallOptions = {}): Promise<ReportResult[]> {
    const body = JSON.stringify({ reports: reports.map(reportToWire) });
    const answer = await this.#call<wire.ReportResults>('POST', '/v1/reports', body, call);
    return listOf(answer.reports).map((result) => camel(result) as ReportResult);
  }

  /** Closes the connections, those in use too: what is under way fails, and so does every later call. */
  close(): void {
    this.#http.close();
    this.#polls.close();
  }

  async #send<T = wire.Enqueued>(body: string, queue: string, count: number, call: EnqueueCallOptions): Promise<T> {
    const headers = { 'idempotency-key': keyHeader(call.idempotencyKey ?? randomUUID()) };
    const post = (more?: Record<string, string>) =>
      this.#call<T>('POST', '/v1/jobs', body, call, 0, more ? { ...headers, ...more } : headers);
    const telemetry: Telemetry | undefined = this.#tracing ? await loadTelemetry() : undefined;
    return telemetry ? telemetry.send(queue, count, post) : post();
  }

  async *#pages<T>(path: string, query: Query, options: ListOptions): AsyncGenerator<T> {
    let cursor: string | null = null;
    do {
      const next: Query = { ...query, limit: options.pageSize ?? 200, ...(cursor === null ? {} : { cursor }) };
      const page: { items: T[]; next: string | null } = await this.#call(
        'GET',
        pathWith(path, next),
        undefined,
        options,
      );
      yield* listOf(page.items);
      cursor = page.next ?? null;
    } while (cursor !== null);
  }

  async #call<T>(
    method: string,
    path: string,
    body: string | undefined,
    call: CallOptions,
    waitMs = 0,
    headers?: Record<string, string>,
    attempts?: number,
    repeatable?: boolean,
  ): Promise<T> {
    return parse<T>(await this.#ask(method, path, body, call, waitMs, headers, attempts, repeatable));
  }

  /**
   * Tries until it is answered; `waitMs` is how long the server was asked to hold the answer back. Not `repeatable`: another
   * try only where the one before has surely done nothing.
   */
  async #ask(
    method: string,
    path: string,
    body: string | Uint8Array | undefined,
    call: CallOptions,
    waitMs = 0,
    headers?: Record<string, string>,
    attempts = this.#retry.attempts,
    repeatable = true,
  ): Promise<HttpAnswer> {
    const timeoutMs = (call.timeout === undefined ? this.#requestTimeoutMs : milliseconds(call.timeout)) + waitMs;
    let lost = false;
    for (let failures = 1; ; failures += 1) {
      try {
        return await this.#once(method, path, body, headers, timeoutMs, call.signal, waitMs > 0);
      } catch (error) {
        if (!isWorkmillError(error) || error === call.signal?.reason) throw error;
        // A try before has deleted it, and its answer was lost.
        if (lost && method === 'DELETE' && gone.has(error.code)) return deleted;
        const isLost = error.mayHaveHappened;
        lost ||= isLost;
        error.mayHaveHappened = lost;
        if (!(error instanceof RetryableError) || failures >= attempts) throw error;
        if (triedAlready.has(error.code)) throw error;
        const after = error.retryAfterMs ?? 0;
        if (after > retryAfterMaxMs) throw error;
        if (isLost && !repeatable) throw error;
        await sleep(Math.max(after, backoffMs(this.#retry, failures)), call.signal);
      }
    }
  }

  async #once(
    method: string,
    path: string,
    body: string | Uint8Array | undefined,
    headers: Record<string, string> | undefined,
    timeoutMs: number,
    signal: AbortSignal | undefined,
    waits: boolean,
  ): Promise<HttpAnswer> {
    const http = waits ? this.#polls : this.#http;
    const answer = await http.request(method, path, body, headers, timeoutMs, signal);
    if (answer.status >= 200 && answer.status < 300) return answer;
    throw answerError(answer.status, answer.headers, answer.body);
  }
}

/** An answer, which is an object whatever is asked. */
function parse<T>(answer: HttpAnswer): T {
  let content: unknown;
  let cause: unknown;
  try {
    content = JSON.parse(answer.body);
  } catch (error) {
    cause = error;
  }
  if (isObject(content)) return content as T;
  throw new FatalError(`an answer that is no object of JSON: ${answer.body.slice(0, 200)}`, {
    code: 'protocol_error',
    status: answer.status,
    cause,
    mayHaveHappened: true,
  });
}
