// The same over plain HTTP, where WebSockets do not get through: leases by long polls, with the reports that are due
// riding along. Two requests at most are under way: a poll, and reports that come up while it waits.
import { FatalError, type WorkmillError, RetryableError } from './errors.js';
import { answerError, type Http } from './http.js';
import { backoffMs, type Retry } from './retry.js';
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

export class Poll implements Transport {
  readonly #desk: Desk;
  readonly #http: Http;
  readonly #options: PollOptions;
  readonly #stop = new AbortController();
  #polling = false;
  /** Ends a poll that waits and has nothing else to do: nothing is lost by that. */
  #waiting: AbortController | undefined;
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
    if (!this.#polling && !this.#draining && this.#desk.room() > 0) void this.#poll();
    else if (!this.#reporting) void this.#report();
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
    const reports = this.#desk.take(reportsPerFrame, charactersPerFrame);
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
    try {
      const answer = await this.#post<wire.LeasedJobs>('/v1/leases', body, wait, stop.signal);
      this.#polling = false;
      this.#waiting = undefined;
      if (this.#closed) return;
      this.#answered();
      this.#desk.answered(reports, answer.reports ?? []);
      this.#desk.accept(answer.jobs);
    } catch (error) {
      this.#polling = false;
      this.#waiting = undefined;
      this.#failed(reports, error as WorkmillError);
    }
    this.#goOn();
  }

  async #report(): Promise<void> {
    const reports = this.#desk.take(reportsPerFrame, charactersPerFrame);
    if (reports.length === 0) return;
    this.#reporting = true;
    try {
      const body = `{"reports":[${reports.map((r) => r.text).join(',')}]}`;
      const answer = await this.#post<wire.ReportResults>('/v1/reports', body, 0, this.#stop.signal);
      this.#reporting = false;
      if (this.#closed) return;
      this.#answered();
      this.#desk.answered(reports, answer.reports);
    } catch (error) {
      this.#reporting = false;
      this.#failed(reports, error as WorkmillError);
    }
    this.#goOn();
  }

  async #post<T>(path: string, body: string, wait: number, signal: AbortSignal): Promise<T> {
    const answer = await this.#http.request(
      'POST',
      path,
      body,
      undefined,
      this.#options.requestTimeoutMs + wait,
      signal,
    );
    if (answer.status !== 200) throw answerError(answer.status, answer.headers, answer.body);
    return JSON.parse(answer.body) as T;
  }

  #answered(): void {
    this.#failures = 0;
    this.#everAnswered = true;
    if (this.#connected) return;
    this.#connected = true;
    this.#desk.connected(false);
  }

  #failed(reports: ReturnType<Desk['take']>, error: WorkmillError): void {
    if (this.#closed) return;
    if (this.#draining && error.code === 'shutting_down' && error.status === undefined) {
      this.#desk.returned(reports);
      return;
    }
    const badToken = error.code === 'unauthorized' || error.code === 'forbidden';
    if (error.class === 'user' && reports.length > 0 && !badToken) {
      this.#desk.refused(reports, error);
      return;
    }
    this.#desk.returned(reports);
    // A token that does not hold, or a wrong queue: it will not get better. Everything else may.
    if (error.class === 'user' && (!this.#everAnswered || badToken)) {
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
    this.#resting = setTimeout(() => {
      this.#resting = undefined;
      this.kick();
      this.kick(); // The poll, and reports beside it.
    }, pause);
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
