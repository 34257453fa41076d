// The same over plain HTTP, where WebSockets do not get through: leases by long polls, with the reports that are due
// riding along. Two requests at most are under way: a poll, and reports that come up while it waits. Reports are in one of
// them at most, so that those of a job come in their order.
import { FatalError, isWorkmillError, RetryableError, type WorkmillError } from './errors.js';
import { answerError, type Http } from './http.js';
import { areJobs, areResults } from './ours.js';
import type { Report } from './reports.js';
import { backoffMs, type Retry } from './retry.js';
import { after } from './timer.js';
import { charactersPerFrame, reportsPerFrame, type Desk, type Transport } from './transport.js';
import type { QueueChoice } from './types.js';
import type * as wire from './wire.js';

export interface PollOptions {
  queues: QueueChoice[];
  lease: string;
  name: string;
  requestTimeoutMs: number;
}

const again: Retry = { attempts: Infinity, firstMs: 50, factor: 2, capMs: 2_000 };
const waitMs = 20_000;
// What no report is at fault for, and no further request mends.
const neverMind = new Set(['unauthorized', 'forbidden']);

/** An answer to a lease or to reports. */
const isOurs = ({ jobs = [], reports = [] }: { jobs?: unknown; reports?: unknown }) =>
  areJobs(jobs) && areResults(reports);

const notOurs = (where: string, cause: unknown) =>
  new FatalError(`what answers ${where} is no Workmill server`, {
    code: 'protocol_error',
    cause,
    mayHaveHappened: true,
  });

const isRefusal = (error: WorkmillError) => error.class === 'user' && !neverMind.has(error.code);

export class Poll implements Transport {
  readonly #desk: Desk;
  readonly #http: Http;
  readonly #options: PollOptions;
  readonly #stop = new AbortController();
  #polling = false;
  /** Calls off a poll that waits and has nothing else to do: jobs that it has got by then come all the same. */
  #waiting: AbortController | undefined;
  /** Reports are under way, with a poll or by themselves. */
  #reporting = false;
  #resting: NodeJS.Timeout | undefined;
  #failures = 0;
  #everAnswered = false;
  #connected = false;
  #draining = false;
  #closed = false;

  constructor(desk: Desk, http: Http, options: PollOptions) {
    this.#desk = desk;
    this.#http = http;
    this.#options = options;
  }

  start(): void {
    this.kick();
  }

  kick(): void {
    if (this.#closed || this.#resting) return;
    if (!this.#polling && !this.#draining && this.#desk.room() > 0) this.#run(this.#poll());
    if (!this.#reporting) this.#run(this.#report());
  }

  /** Whatever an answer may hold, it does not end the process. */
  #run(request: Promise<void>): void {
    request.catch((cause: unknown) => {
      if (!this.#closed) this.#failed([], notOurs(this.#http.url.host, cause), false);
    });
  }

  drain(): void {
    this.#draining = true;
    this.#waiting?.abort(new RetryableError('the worker stops', { code: 'shutting_down' }));
    this.kick();
    this.#leaveIfNothingIsHeld();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#resting);
    this.#stop.abort(new FatalError('the worker is closed', { code: 'closed' }));
    this.#http.close();
  }

  async #poll(): Promise<void> {
    const { queues, lease, name } = this.#options;
    const stop = new AbortController();
    const none = this.#reporting || this.#desk.alone();
    const reports = none ? [] : this.#desk.take(reportsPerFrame, charactersPerFrame);
    // With reports it does not wait: their answers would have to wait too.
    const wait = reports.length > 0 ? 0 : waitMs;
    const max = Math.min(1_000, this.#desk.room());
    const request = { queues, max, wait: `${wait}ms`, lease, worker: name };
    const body =
      reports.length > 0
        ? `${JSON.stringify(request).slice(0, -1)},"reports":[${reports.map((r) => r.text).join(',')}]}`
        : JSON.stringify(request);
    this.#polling = true;
    if (reports.length === 0) this.#waiting = stop;
    else this.#reporting = true;
    const callOff = stop.signal;
    const answer = await this.#post<wire.LeasedJobs>('/v1/leases', 'jobs', reports.length, body, wait, { callOff });
    this.#polling = false;
    this.#waiting = undefined;
    if (reports.length > 0) this.#reporting = false;
    if (this.#closed) return;
    if (answer instanceof Error) {
      // Or the poll is at fault: by themselves, they show it.
      if (isRefusal(answer)) for (const report of reports) report.alone = true;
      this.#failed(reports, answer, false);
    } else {
      this.#answered();
      this.#desk.answered(reports, answer.reports ?? []);
      this.#desk.accept(answer.jobs);
    }
    this.#goOn();
  }

  async #report(): Promise<void> {
    const reports = this.#desk.take(reportsPerFrame, charactersPerFrame);
    if (reports.length === 0) return;
    this.#reporting = true;
    const body = `{"reports":[${reports.map((r) => r.text).join(',')}]}`;
    const { signal } = this.#stop;
    const answer = await this.#post<wire.ReportResults>('/v1/reports', 'reports', reports.length, body, 0, { signal });
    this.#reporting = false;
    if (this.#closed) return;
    if (answer instanceof Error) {
      this.#failed(reports, answer, true);
    } else {
      this.#answered();
      this.#desk.answered(reports, answer.reports);
    }
    this.#goOn();
  }

  /** The answer, which has a list of this name and an answer to each report, or why there is none. */
  async #post<T extends object>(
    path: string,
    list: keyof T,
    reports: number,
    body: string,
    wait: number,
    { signal, callOff }: { signal?: AbortSignal; callOff?: AbortSignal },
  ): Promise<T | WorkmillError> {
    const timeoutMs = this.#options.requestTimeoutMs + wait;
    let cause: unknown;
    try {
      const answer = await this.#http.request('POST', path, body, undefined, timeoutMs, signal, callOff);
      if (answer.status !== 200) return answerError(answer.status, answer.headers, answer.body);
      const content = JSON.parse(answer.body) as (T & { reports?: unknown }) | null;
      const answers = Array.isArray(content?.reports) ? content.reports.length : 0;
      if (content && Array.isArray(content[list]) && isOurs(content) && answers === reports) return content;
    } catch (error) {
      if (isWorkmillError(error)) return error;
      cause = error;
    }
    return notOurs(path, cause);
  }

  #answered(): void {
    this.#failures = 0;
    this.#everAnswered = true;
    if (this.#connected) return;
    this.#connected = true;
    this.#desk.connected(false);
  }

  /** `areAtFault`: where the server would not have the request, it is for these. */
  #failed(reports: Report[], error: WorkmillError, areAtFault: boolean): void {
    if (this.#draining && error.code === 'shutting_down' && error.status === undefined) {
      this.#desk.returned(reports);
      return;
    }
    if (isRefusal(error) && reports.length > 0) {
      if (areAtFault) this.#desk.refused(reports, error);
      else this.#desk.returned(reports);
      return;
    }
    this.#desk.returned(reports);
    // A token that does not hold, or a wrong queue: it will not get better. Everything else may.
    if (error.class === 'user' && (!this.#everAnswered || neverMind.has(error.code))) {
      this.close();
      this.#desk.failed(error);
      return;
    }
    if (this.#connected || !this.#everAnswered) {
      this.#connected = false;
      this.#desk.disconnected(error);
    }
    this.#failures += 1;
    const pause = Math.max(error.retryAfterMs ?? 0, backoffMs(again, this.#failures));
    clearTimeout(this.#resting);
    this.#resting = after(pause, () => {
      this.#resting = undefined;
      this.kick();
    });
  }

  #goOn(): void {
    if (this.#closed || this.#leaveIfNothingIsHeld()) return;
    this.kick();
  }

  #leaveIfNothingIsHeld(): boolean {
    if (!this.#draining || this.#polling || this.#reporting || this.#desk.held().length > 0) return false;
    this.close();
    this.#desk.drained();
    return true;
  }
}
