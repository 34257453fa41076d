import { randomBytes } from 'node:crypto';
import { EventEmitter } from 'node:events';
import { hostname } from 'node:os';
import { durationText, milliseconds } from './duration.js';
import { errorOf, FatalError, isWorkmillError, RetryableError, UserError, type WorkmillError } from './errors.js';
import { Http, tokenOf, urlOf, type TlsOptions } from './http.js';
import { loggerOf, type Logger } from './logger.js';
import { Poll } from './poll.js';
import {
  checkpointText,
  completedText,
  extendText,
  failedText,
  failureOf,
  linesText,
  progressText,
  releasedText,
  stackOf,
  type Report,
} from './reports.js';
import { bounded } from './retry.js';
import { jobOf, Run, type JobContext, type RunOwner } from './run.js';
import { Stream } from './stream.js';
import { loadTelemetry, type Telemetry } from './telemetry.js';
import { after } from './timer.js';
import { reportsPerFrame, type Desk, type Transport } from './transport.js';
import type { Duration, LeasedJob, QueueChoice } from './types.js';
import type * as wire from './wire.js';

export interface WorkerOptions {
  /** Default: the environment's WORKMILL_URL, or http://127.0.0.1:7330. */
  url?: string | undefined;
  /** Default: the environment's WORKMILL_TOKEN. It needs the scope `work`. */
  token?: string | undefined;
  tls?: TlsOptions | undefined;
  /** In the order of preference, or with weights. Default: `default`. */
  queues?: QueueChoice[] | undefined;
  /** Handlers at once. Default: 10. */
  concurrency?: number | undefined;
  /** Jobs that are leased to this worker at most, those that wait here included. Default: twice the concurrency. */
  credit?: number | undefined;
  /** How long the server waits for a sign of life of a job. Extended at a third of it while a handler runs. Default: 60s. */
  lease?: Duration | undefined;
  /** 1 to 128 of `A-Z a-z 0-9 . _ : -`, and no other worker's. Default: made of the host, the process and chance. */
  name?: string | undefined;
  /** `http` where WebSockets do not get through. Default: `stream`. */
  transport?: 'stream' | 'http' | undefined;
  /** How long handlers may go on after `stop()` or a signal. Default: 30s. */
  drainTimeout?: Duration | undefined;
  /** false: `run()` does not look after SIGTERM and SIGINT. */
  signals?: boolean | undefined;
  /** false: silence. Default: warnings and errors as JSON lines on standard error. */
  logger?: Logger | false | undefined;
  /** false: no spans, though OpenTelemetry is installed. */
  tracing?: boolean | undefined;
  connectTimeout?: Duration | undefined;
  requestTimeout?: Duration | undefined;
  /** @internal For tests: how often it is looked whether the server of a stream has said something. */
  quietMs?: number;
}

/** Does one job. What it gives back is the job's result; what it throws decides what becomes of it. */
export type Handler<In = any, Out = unknown> = (job: LeasedJob<In>, ctx: JobContext) => Out | Promise<Out>;

/** Around every handler, the first one outermost. It gives back what `next()` does, or something else. */
export type Middleware = (job: LeasedJob, ctx: JobContext, next: () => Promise<unknown>) => unknown;

/** What a listener throws is logged, and changes nothing else. */
export interface WorkerEvents {
  /** The server can be reached; `resumed` where it takes us for the stream that we were before. */
  connected: [{ resumed: boolean }];
  disconnected: [WorkmillError];
  /** A handler came to its end, and its result is on its way. */
  completed: [LeasedJob, unknown];
  failed: [LeasedJob, unknown];
  /** Somebody asked for this job to be cancelled. */
  cancelled: [LeasedJob];
  /** The job has gone to another worker, or is forgotten: nothing we say of it counts. */
  leaseLost: [LeasedJob];
}

type State = 'new' | 'running' | 'draining' | 'stopped';

const lost = new Set(['lease_lost', 'job_not_found']);

function defaultName(): string {
  const host = hostname()
    .replace(/[^A-Za-z0-9._:-]/g, '-')
    .slice(0, 64);
  return `${host}-${process.pid}-${randomBytes(4).toString('hex')}`;
}

/**
 * Takes jobs and runs a handler for each:
 *
 *     const worker = new Worker({ queues: ['mail'] });
 *     worker.on<{ to: string }, string>('greet', async (job) => `Hello, ${job.payload.to}`);
 *     await worker.run(); // Until SIGTERM.
 *
 * A handler that throws has its job tried again by the job's backoff; one that throws a `UserError` or `FatalError` ends
 * it. A connection that breaks is no matter for handlers: they go on, and what they gave is sent when it is back.
 */
export class Worker {
  /** What happens. No listener, no cost. */
  readonly events = new EventEmitter<WorkerEvents>();
  readonly name: string;
  readonly queues: QueueChoice[];
  readonly #options: WorkerOptions;
  readonly #token: string | undefined;
  readonly #logger: Logger;
  readonly #concurrency: number;
  readonly #credit: number;
  readonly #leaseMs: number;
  readonly #drainTimeoutMs: number;
  readonly #handlers = new Map<string, Handler>();
  readonly #middleware: Middleware[] = [];
  /** The same, with what goes around them. */
  readonly #ready = new Map<string, Handler>();
  #telemetry: Telemetry | undefined;
  #transport: Transport | undefined;
  #state: State = 'new';

  /** Every job that is leased to us, until its final report is answered. */
  readonly #held = new Map<string, Run>();
  /** Those that have not begun, from #next on. */
  #waiting: Run[] = [];
  #next = 0;
  #running = 0;
  #starting = false;
  /** Reports that are due, in order. */
  #pending: Report[] = [];
  /** Runs with progress or lines that are not reports yet. */
  #talking: Run[] = [];
  /** Reports that the server could not decide just now. */
  #later: Report[] = [];
  #laterTimer: NodeJS.Timeout | undefined;
  /** Those that a handler waits for, wherever they are. */
  readonly #checkpoints = new Set<Report>();
  #scheduled = false;
  #tick: NodeJS.Timeout | undefined;
  #drainTimer: NodeJS.Timeout | undefined;
  #everConnected = false;
  #outage: string | undefined; // Why it is not connected, as it was told.
  #done: Promise<void> | undefined;
  #resolve: () => void = () => {};
  #reject: (error: unknown) => void = () => {};
  readonly #onSignal = (signal: NodeJS.Signals) => this.#signalled(signal);
  readonly #flush = () => {
    this.#scheduled = false;
    this.#transport?.kick();
  };
  readonly #owner: RunOwner = {
    said: (run) => {
      if (!run.listed) {
        run.listed = true;
        this.#talking.push(run);
      }
      this.#schedule();
    },
    checkpoint: (run, data) => this.#checkpoint(run, data),
  };

  constructor(options: WorkerOptions = {}) {
    this.#options = options;
    this.#token = tokenOf(options.token);
    this.#logger = loggerOf(options.logger);
    this.#concurrency = bounded('concurrency', options.concurrency ?? 10, 1, 10_000);
    this.#credit = bounded('credit', options.credit ?? Math.min(10_000, 2 * this.#concurrency), 1, 10_000);
    this.#leaseMs = milliseconds(options.lease ?? '60s');
    this.#drainTimeoutMs = milliseconds(options.drainTimeout ?? '30s');
    this.queues = options.queues ?? ['default'];
    this.name = options.name ?? defaultName();
    if (!/^[A-Za-z0-9._:-]{1,128}$/.test(this.name)) {
      throw new UserError(`${JSON.stringify(this.name)} is no name of a worker: 1 to 128 of A-Z a-z 0-9 . _ : -`, {
        code: 'invalid_field',
        field: 'name',
      });
    }
  }

  /** What is to be done with jobs of this type. */
  on<In = any, Out = unknown>(type: string, handler: Handler<In, Out>): this {
    if (typeof handler !== 'function') {
      throw new UserError(`the handler for ${type} is no function`, { code: 'invalid_field', field: 'handler' });
    }
    if (this.#handlers.has(type)) {
      throw new UserError(`there is a handler for ${type} already`, { code: 'handler_exists' });
    }
    this.#handlers.set(type, handler as Handler);
    return this;
  }

  /** Goes around all handlers, those of earlier calls of `on` too. */
  use(middleware: Middleware): this {
    this.#middleware.push(middleware);
    this.#ready.clear();
    return this;
  }

  /** Handlers that run, and jobs that wait here for one of them. */
  get load(): { running: number; waiting: number } {
    return { running: this.#running, waiting: this.#waiting.length - this.#next };
  }

  /**
   * Works until `stop()` is called, or SIGTERM or SIGINT comes. Resolves when everything is reported; rejects where the
   * server will not have this worker at all, such as for a wrong token.
   */
  run(): Promise<void> {
    if (this.#state !== 'new') {
      return Promise.reject(new UserError('a worker runs once: make a new one', { code: 'wrong_state' }));
    }
    this.#state = 'running';
    this.#done = new Promise<void>((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    if (this.#options.signals ?? true) {
      process.on('SIGTERM', this.#onSignal);
      process.on('SIGINT', this.#onSignal);
    }
    void this.#start();
    return this.#done;
  }

  /**
   * Takes no more jobs, gives back those that have not begun, waits for the handlers that run, and resolves when all is
   * reported. After `timeout` (that of `drainTimeout` without it) their signals are aborted, and what they would still
   * say is not heard: their jobs go to other workers.
   */
  stop(options: { timeout?: Duration | undefined } = {}): Promise<void> {
    if (this.#state === 'new') {
      this.#state = 'stopped';
      return Promise.resolve();
    }
    if (this.#state === 'running') {
      const timeoutMs = options.timeout === undefined ? this.#drainTimeoutMs : milliseconds(options.timeout);
      this.#state = 'draining';
      this.#logger.info({ worker: this.name, ...this.load }, 'the worker stops');
      for (let i = this.#next; i < this.#waiting.length; i += 1) this.#release(this.#waiting[i]!);
      this.#waiting = [];
      this.#next = 0;
      this.#drainTimer = after(timeoutMs, () => this.#leave('the time to stop is over'));
      this.#transport?.kick();
      this.#transport?.drain();
    }
    // Who calls stop() wants to know when; that it failed is for whom run() was called by.
    return this.#done?.catch(() => {}) ?? Promise.resolve();
  }

  /** @internal Runs a job's handler, with what goes around it. For the test helpers. */
  async perform(job: LeasedJob, ctx: JobContext): Promise<unknown> {
    const handler = this.#find(job.type);
    if (!handler) throw noHandler(job.type);
    return handler(job, ctx);
  }

  async #start(): Promise<void> {
    const { url, tls } = this.#options;
    try {
      if (this.#options.tracing ?? true) this.#telemetry = await loadTelemetry();
      const server = {
        url: urlOf(url),
        token: this.#token,
        tls,
        connectTimeoutMs: milliseconds(this.#options.connectTimeout ?? '5s'),
      };
      const quietMs = this.#options.quietMs ?? 5_000;
      const work = { queues: this.queues, lease: durationText(this.#leaseMs), name: this.name };
      if (this.#options.transport === 'http') {
        const requestTimeoutMs = milliseconds(this.#options.requestTimeout ?? '30s');
        const http = new Http({ ...server, maxConnections: 2, maxWaiting: 2 });
        this.#transport = new Poll(this.#desk(), http, { ...work, requestTimeoutMs });
      } else {
        this.#transport = new Stream(this.#desk(), { ...server, ...work, credit: this.#credit, quietMs });
      }
      if (this.#state !== 'running') return this.#finish();
      this.#tick = setInterval(() => this.#extend(false), Math.max(10, Math.min(5_000, this.#leaseMs / 12)));
      this.#transport.start();
    } catch (error) {
      this.#finish(error);
    }
  }

  #desk(): Desk {
    return {
      take: (max, characters) => this.#take(max, characters),
      alone: () => this.#pending[0]?.alone ?? false,
      answered: (reports, results) => this.#answered(reports, results),
      returned: (reports) => this.#returned(reports),
      refused: (reports, error) => this.#refused(reports, error),
      accept: (jobs) => this.#accept(jobs),
      cancel: (ids) => {
        for (const id of ids) {
          const run = this.#held.get(id);
          if (run) this.#cancel(run);
        }
      },
      held: () => [...this.#held.keys()],
      room: () => (this.#state === 'running' ? this.#credit - this.#held.size : 0),
      connected: (resumed) => {
        this.#outage = undefined;
        this.#logger.info({ worker: this.name, resumed }, 'connected');
        this.#emit('connected', { resumed });
        // On a new stream nobody keeps our leases for us: whether they hold is known when they are extended.
        if (this.#everConnected && !resumed) this.#extend(true);
        this.#everConnected = true;
      },
      disconnected: (error) => {
        const reason = `${error.code}: ${error.message}`;
        if (reason !== this.#outage) {
          this.#logger.warn({ worker: this.name, code: error.code }, `disconnected: ${error.message}`);
        }
        this.#outage = reason;
        this.#emit('disconnected', error);
      },
      drained: () => this.#finish(),
      failed: (error) => {
        this.#stopAll(`the server refuses this worker: ${error.message}`);
        this.#finish(error);
      },
    };
  }

  // ---- Jobs ----

  #accept(jobs: wire.LeasedJob[]): void {
    const now = performance.now();
    for (const sent of jobs) {
      const before = this.#held.get(sent.id);
      if (before) {
        // Sent again as we came back, though we have it; or the same job under a new lease: the old one is over then.
        if (before.job.lease === sent.lease) continue;
        this.#lose(before);
      }
      const run = new Run(this.#owner, jobOf(sent), now);
      this.#held.set(sent.id, run);
      if (this.#state === 'running') this.#waiting.push(run);
      else this.#release(run);
    }
    this.#startMore();
  }

  #startMore(): void {
    if (this.#starting) return; // A handler that is no promise ends inside of this loop.
    this.#starting = true;
    try {
      while (this.#running < this.#concurrency && this.#next < this.#waiting.length) {
        const run = this.#waiting[this.#next]!;
        this.#next += 1;
        if (!run.lost && !run.reported) this.#begin(run);
      }
    } finally {
      this.#starting = false;
    }
    if (this.#next === this.#waiting.length) {
      this.#waiting = [];
      this.#next = 0;
    } else if (this.#next > 10_000) {
      this.#waiting = this.#waiting.slice(this.#next);
      this.#next = 0;
    }
  }

  #begin(run: Run): void {
    run.begun = true;
    this.#running += 1;
    let result: unknown;
    let isPromise: boolean;
    try {
      const handler = this.#find(run.job.type);
      if (!handler) throw noHandler(run.job.type);
      result = handler(run.job, run);
      isPromise = result !== null && typeof (result as Promise<unknown> | undefined)?.then === 'function';
    } catch (error) {
      this.#failed(run, error);
      return;
    }
    if (isPromise) {
      // A promise is itself by that. What only looks like one may throw, or settle twice.
      Promise.resolve(result).then(
        (value) => this.#completed(run, value),
        (error: unknown) => this.#failed(run, error),
      );
    } else {
      this.#completed(run, result);
    }
  }

  #emit<Event extends keyof WorkerEvents>(event: Event, ...about: WorkerEvents[Event]): void {
    if (this.events.listenerCount(event) === 0) return;
    try {
      (this.events as EventEmitter).emit(event, ...(about as unknown[]));
    } catch (error) {
      const stack = error instanceof Error ? { stack: stackOf(error) } : {};
      const { message } = failureOf(error);
      this.#logger.error({ worker: this.name, event, ...stack }, `a listener of ${event} threw: ${message}`);
    }
  }

  #find(type: string): Handler | undefined {
    let ready = this.#ready.get(type);
    if (ready === undefined) {
      const handler = this.#handlers.get(type);
      if (handler === undefined) return undefined;
      ready = this.#around(handler);
      this.#ready.set(type, ready);
    }
    return ready;
  }

  #around(handler: Handler): Handler {
    let inner = handler;
    for (const middleware of [...this.#middleware].reverse()) {
      const next = inner;
      inner = async (job, ctx) => middleware(job, ctx, async () => next(job, ctx));
    }
    const telemetry = this.#telemetry;
    if (!telemetry) return inner;
    return (job, ctx) => telemetry.process(job, () => inner(job, ctx));
  }

  #completed(run: Run, result: unknown): void {
    this.#running -= 1;
    if (!run.lost) {
      this.#finalReport(run, completedText(run, result));
      this.#emit('completed', run.job, result);
    }
    this.#startMore();
  }

  #failed(run: Run, error: unknown): void {
    this.#running -= 1;
    if (!run.lost) {
      const failure = failureOf(error);
      // Whatever it threw, it was stopped as somebody asked: its job will be cancelled, and not tried again.
      if (run.cancelRequested) failure.code = 'cancelled';
      this.#finalReport(run, failedText(run, failure));
      if (!run.cancelRequested) {
        const { id, type, queue, attempt } = run.job;
        const fields = {
          worker: this.name,
          job: id,
          type,
          queue,
          attempt,
          class: failure.class,
          code: failure.code,
          // Of what nobody threw on purpose: where it came from.
          ...(error instanceof Error && !isWorkmillError(error) ? { stack: stackOf(error) } : {}),
        };
        this.#logger.warn(fields, `a job failed: ${failure.message}`);
        this.#emit('failed', run.job, error);
      }
    }
    this.#startMore();
  }

  #cancel(run: Run): void {
    if (run.cancelRequested || run.reported) return;
    run.cancelRequested = true;
    run.stop('cancelled', `job ${run.job.id} is to be cancelled`);
    this.#emit('cancelled', run.job);
    if (!run.begun) this.#release(run);
  }

  #release(run: Run): void {
    if (!run.reported && !run.lost) this.#finalReport(run, releasedText(run));
  }

  #lose(run: Run): void {
    if (this.#held.get(run.job.id) === run) this.#held.delete(run.job.id);
    if (run.lost) return;
    run.lost = true;
    run.stop('lease_lost', `the lease of job ${run.job.id} is over`);
    for (const report of this.#checkpoints) if (report.run === run) report.settle?.(run.stopReason);
    this.#logger.warn({ worker: this.name, job: run.job.id, type: run.job.type }, 'the lease of a job is over');
    this.#emit('leaseLost', run.job);
  }

  // ---- Reports ----

  #schedule(): void {
    if (this.#pending.length >= reportsPerFrame) {
      this.#transport?.kick();
    } else if (!this.#scheduled) {
      // Once the loop has nothing else to do: whatever ends until then goes along.
      this.#scheduled = true;
      setImmediate(this.#flush);
    }
  }

  #finalReport(run: Run, text: string): void {
    this.#speak(run);
    run.reported = true;
    this.#pending.push({ run, text, kind: 'final', alone: false });
    this.#schedule();
  }

  /** Makes reports of what it has said. */
  #speak(run: Run): void {
    run.listed = false;
    const lines = run.takeLines();
    if (lines) this.#pending.push({ run, text: linesText(run, lines), kind: 'said', alone: false });
    if (run.saidPercent !== undefined) {
      const text = progressText(run, run.saidPercent, run.saidMessage);
      run.saidPercent = undefined;
      this.#pending.push({ run, text, kind: 'said', alone: false });
    }
  }

  #checkpoint(run: Run, data: unknown): Promise<void> {
    return new Promise((resolve, reject) => {
      const text = checkpointText(run, data); // Throws into the promise.
      this.#speak(run);
      const settle = (error?: unknown) => {
        this.#checkpoints.delete(report);
        if (error === undefined) resolve();
        else reject(error as Error);
      };
      const report: Report = { run, text, kind: 'checkpoint', alone: false, settle };
      this.#checkpoints.add(report);
      this.#pending.push(report);
      this.#schedule();
    });
  }

  /** Extends what has had a third of its lease, or everything. One timer for all jobs. */
  #extend(everything: boolean): void {
    const now = performance.now();
    let some = false;
    for (const run of this.#held.values()) {
      if (run.reported || run.extending) continue;
      if (!everything && now - run.extendedAt < this.#leaseMs / 3) continue;
      run.extending = true;
      run.extendedAt = now;
      this.#pending.push({ run, text: extendText(run, this.#leaseMs), kind: 'extend', alone: false });
      some = true;
    }
    if (some) this.#schedule();
  }

  #take(max: number, characters: number): Report[] {
    if (this.#talking.length > 0) {
      const talking = this.#talking;
      this.#talking = [];
      for (const run of talking) if (run.listed && !run.lost) this.#speak(run);
    }
    const pending = this.#pending;
    if (pending.length === 0) return []; // Not that array itself, which goes on growing.
    let taken = 1;
    let length = pending[0]!.text.length;
    if (!pending[0]!.alone) {
      while (taken < pending.length && taken < max) {
        const report = pending[taken]!;
        length += report.text.length;
        if (report.alone || length > characters) break;
        taken += 1;
      }
    }
    if (taken === pending.length) {
      this.#pending = [];
      return pending;
    }
    return pending.splice(0, taken);
  }

  #answered(reports: Report[], results: wire.ReportResult[]): void {
    for (let i = 0; i < reports.length; i += 1) {
      const report = reports[i]!;
      const result = results[i];
      if (result === undefined) this.#pending.push(report);
      else if (result.ok) this.#counted(report, result);
      else this.#notCounted(report, errorOf(result.error!));
    }
  }

  #counted(report: Report, result: wire.ReportResult): void {
    const { run } = report;
    switch (report.kind) {
      case 'final':
        if (this.#held.get(run.job.id) === run) this.#held.delete(run.job.id);
        if (result.not_stored?.length) {
          const fields = { worker: this.name, job: run.job.id, type: run.job.type, keys: result.not_stored };
          this.#logger.warn(fields, 'a job is completed, but no budget of the cache can hold all that came with it');
        }
        return;
      case 'extend':
        run.extending = false;
        break;
      case 'checkpoint':
        report.settle?.();
        break;
      case 'said':
        break;
    }
    if (result.cancel_requested) this.#cancel(run);
  }

  #notCounted(report: Report, error: WorkmillError): void {
    const { run } = report;
    if (report.kind === 'extend') run.extending = false;
    if (lost.has(error.code)) {
      report.settle?.(error);
      this.#lose(run);
    } else if (error.class === 'retryable') {
      if (report.kind === 'extend') return; // The next turn of the timer extends it.
      this.#later.push(report);
      this.#laterTimer ??= setTimeout(
        () => {
          this.#laterTimer = undefined;
          for (const one of this.#later) this.#pending.push(one);
          this.#later = [];
          this.#schedule();
        },
        200 + Math.random() * 300,
      );
    } else {
      this.#refused([report], error);
    }
  }

  #returned(reports: Report[]): void {
    const again: Report[] = [];
    for (const report of reports) {
      if (report.kind === 'extend') {
        report.run.extending = false;
        report.run.extendedAt = -Infinity; // Due at the next turn of the timer.
      } else if (!report.run.lost) {
        again.push(report);
      }
    }
    if (again.length > 0) this.#pending = again.concat(this.#pending);
  }

  #refused(reports: Report[], error: WorkmillError): void {
    if (reports.length > 1) {
      // One of them is at fault. Alone, it shows which.
      for (const report of reports) report.alone = true;
      this.#returned(reports);
      return;
    }
    const report = reports[0];
    if (!report) return;
    const { run } = report;
    this.#logger.error(
      { worker: this.name, job: run.job.id, type: run.job.type, code: error.code },
      `a report was refused: ${error.message}`,
    );
    report.settle?.(error);
    if (report.kind !== 'final') return;
    if (report.last) {
      // Not even that: the lease will run out.
      this.#lose(run);
      return;
    }
    const failure = { class: 'fatal', code: 'report_refused', message: error.message } as const;
    this.#pending.push({ run, text: failedText(run, failure), kind: 'final', alone: true, last: true });
    this.#schedule();
  }

  // ---- The end ----

  #signalled(signal: NodeJS.Signals): void {
    if (this.#state === 'running') {
      void this.stop();
      return;
    }
    // The second one: whoever sends it has no patience left. We go, and the signal does what it does by default.
    this.#leave(`a second ${signal}`);
    process.kill(process.pid, signal);
  }

  #leave(why: string): void {
    if (this.#state === 'stopped') return;
    this.#logger.warn({ worker: this.name, running: this.#running, held: this.#held.size }, `left behind: ${why}`);
    this.#stopAll('the worker ends now');
    this.#transport?.close();
    this.#finish();
  }

  #stopAll(message: string): void {
    for (const run of this.#held.values()) {
      run.lost = true;
      run.stop('shutting_down', message);
    }
    const over = new FatalError(message, { code: 'shutting_down' });
    for (const report of this.#checkpoints) report.settle?.(over);
    this.#pending = [];
    this.#held.clear();
  }

  #finish(error?: unknown): void {
    if (this.#state === 'stopped') return;
    this.#state = 'stopped';
    clearInterval(this.#tick);
    clearTimeout(this.#drainTimer);
    clearTimeout(this.#laterTimer);
    process.off('SIGTERM', this.#onSignal);
    process.off('SIGINT', this.#onSignal);
    if (error === undefined) this.#resolve();
    else this.#reject(error);
  }
}

function noHandler(type: string): Error {
  // Another worker, or a newer version of this one, may know it.
  return new RetryableError(`this worker has no handler for the type ${type}`, { code: 'unknown_type' });
}
