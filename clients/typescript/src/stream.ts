// The worker stream: one WebSocket, over which jobs come and reports go, both without waiting for the other. When it
// breaks it comes back by its resume token; what was sent and not answered is then sent again. docs/reference/stream.md
// of the server has the frames.
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { WebSocket } from 'ws';
import { errorOf, FatalError, RetryableError, UserError, type WorkmillError } from './errors.js';
import { answerError, connectionError, parseUrl, tlsOptions, type TlsOptions } from './http.js';
import { areJobs, areResults, areTexts, isObject, isProblem } from './ours.js';
import type { Report } from './reports.js';
import { backoffMs, type Retry } from './retry.js';
import { after, timerMaxMs } from './timer.js';
import { charactersPerFrame, reportsPerFrame, type Desk, type Transport } from './transport.js';
import type { QueueChoice } from './types.js';
import type * as wire from './wire.js';

export interface StreamOptions {
  url: string;
  token: string | undefined;
  tls: TlsOptions | undefined;
  queues: QueueChoice[];
  credit: number;
  lease: string;
  name: string;
  connectTimeoutMs: number;
  /** A turn: how often it is looked whether the server has said something. */
  quietMs: number;
}

type Refusal = wire.Problem & { retry_after?: number };

type Frame = {
  subscribed?: { resume: string; resumed?: boolean; direct?: boolean };
  jobs?: wire.LeasedJob[];
  reports?: wire.ReportResult[];
  cancel?: string[];
  error?: Refusal;
  drained?: true;
};

const reconnect: Retry = { attempts: Infinity, firstMs: 50, factor: 2, capMs: 2_000 };
// What the socket has not taken yet: reports wait with the worker beyond that.
const unsentBytesMax = 4 * 1024 * 1024;
// Messages of jobs are bounded by the server, far below this.
const messageBytesMax = 256 * 1024 * 1024;
const refusalBytesMax = 64 * 1024;
// Silent for so many turns, 5 s each, and the server is asked. While jobs are held it pings by itself after 5 s, and else
// after 50 s (by default), so that neither comes to this where all is well.
const busyTurns = 2;
const idleTurns = 12;
/** And left, when it has said nothing for so many more. */
const answerTurns = 2;
/**
 * Of the kernel, where nobody is between: each stream has a second of its own, as its queues overflow where thousands ask in the
 * same moment. How often it asks then, and when it gives up, Node sets itself and lets nobody
 * choose: on Linux after ten times, a second each; on other systems these may be the system's own, minutes in all.
 */
const keepAliveMs = () => 60_000 + Math.floor(Math.random() * 60) * 1_000;
const neverMind = new Set(['unauthorized', 'forbidden']);

/** An address and its port, as the server sees them where nobody is between. */
function nameOf({ localAddress, localPort }: Socket): string | undefined {
  const address = localAddress?.replace(/%.*/, ''); // The zone has another number at the other side.
  if (!address || !localPort) return undefined;
  return address.includes(':') ? `[${address}]:${localPort}` : `${address}:${localPort}`;
}

/** Members that are not known are of a newer server, for newer clients. */
function isFrame(value: unknown): value is Frame {
  if (!isObject(value)) return false;
  const { subscribed, jobs, reports, cancel, error } = value;
  return (
    (jobs === undefined || areJobs(jobs)) &&
    (reports === undefined || areResults(reports)) &&
    (cancel === undefined || areTexts(cancel)) &&
    (subscribed === undefined || (isObject(subscribed) && typeof subscribed['resume'] === 'string')) &&
    (error === undefined ||
      (isProblem(error) && ['number', 'undefined'].includes(typeof (error as Refusal).retry_after)))
  );
}

/** What a close without a word before it means. */
function closeError(code: number): WorkmillError {
  const message = `the stream was closed with code ${code}`;
  if (code === 1009) return new UserError(`${message}: a message was too large`, { code: 'payload_too_large' });
  if (code === 1007 || code === 1008) return new UserError(message, { code: 'malformed_request' });
  return new RetryableError(message, { code: 'no_server' });
}

export class Stream implements Transport {
  readonly #desk: Desk;
  readonly #options: StreamOptions;
  readonly #url: string;
  readonly #tls: TlsOptions | undefined;
  #socket: WebSocket | undefined;
  /** What it stands on. */
  #tcp: Socket | undefined;
  /** Nobody is between us and the server, which says so. */
  #direct = false;
  #subscribed = false;
  #everSubscribed = false;
  #resume: string | undefined;
  /** The frames of reports that are not answered, oldest first. */
  #unanswered: Report[][] = [];
  /** Why this connection ends, where it was said. */
  #reason: WorkmillError | undefined;
  #openedAt = 0;
  #failures = 0;
  #reconnecting: NodeJS.Timeout | undefined;
  #pulse: NodeJS.Timeout | undefined;
  #quietTicks = 0;
  #draining = false;
  #closed = false;

  constructor(desk: Desk, options: StreamOptions) {
    this.#desk = desk;
    this.#options = options;
    const url = parseUrl(options.url);
    this.#tls = tlsOptions(url, options.tls);
    url.protocol = url.protocol === 'https:' ? 'wss:' : 'ws:';
    url.pathname = `${url.pathname.replace(/\/$/, '')}/v1/worker`;
    this.#url = url.href;
  }

  start(): void {
    this.#connect();
  }

  kick(): void {
    const socket = this.#socket;
    if (!socket || !this.#subscribed) return;
    while (socket.bufferedAmount < unsentBytesMax && this.#maySend()) {
      const reports = this.#desk.take(reportsPerFrame, charactersPerFrame);
      if (reports.length === 0) return;
      this.#unanswered.push(reports);
      let frame = '{"reports":[';
      for (let i = 0; i < reports.length; i += 1) frame += i === 0 ? reports[i]!.text : `,${reports[i]!.text}`;
      socket.send(`${frame}]}`);
    }
    // Its answers will come, and each brings us here again.
  }

  /** A refusal does not say which frame it is of: who is under suspicion goes when nothing else is under way. */
  #maySend(): boolean {
    const oldest = this.#unanswered[0]?.[0];
    return oldest === undefined || !(oldest.alone || this.#desk.alone());
  }

  drain(): void {
    if (this.#draining) return;
    this.#draining = true;
    if (this.#subscribed) this.#socket?.send('{"drain":true}');
    else this.#leaveIfNothingIsHeld();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#reconnecting);
    clearInterval(this.#pulse);
    this.#socket?.terminate();
  }

  #connect(): void {
    const { token, connectTimeoutMs } = this.#options;
    const socket = new WebSocket(this.#url, {
      ...this.#tls,
      headers: token ? { authorization: `Bearer ${token}` } : {},
      handshakeTimeout: Math.min(connectTimeoutMs, timerMaxMs),
      perMessageDeflate: false,
      maxPayload: messageBytesMax,
      followRedirects: false,
    });
    this.#socket = socket;
    this.#reason = undefined;
    this.#openedAt = performance.now();
    this.#quietTicks = 0;
    clearInterval(this.#pulse);
    this.#pulse = setInterval(() => this.#listen(socket), this.#options.quietMs);
    const alive = () => {
      this.#quietTicks = 0;
    };
    socket.on('upgrade', (response: IncomingMessage) => {
      this.#tcp = response.socket;
    });
    socket.on('open', () => this.#subscribe(socket));
    socket.on('ping', alive);
    socket.on('pong', alive);
    socket.on('message', (data: Buffer) => {
      this.#quietTicks = 0;
      this.#message(socket, data);
    });
    socket.on('unexpected-response', (_request, response: IncomingMessage) => this.#refused(socket, response));
    socket.on('error', (error: Error) => {
      this.#reason ??= /handshake has timed out/.test(error.message)
        ? new RetryableError(`no connection to ${this.#url} within ${connectTimeoutMs} ms`, { code: 'no_server' })
        : connectionError(error, this.#url, false);
    });
    socket.on('close', (code: number) => this.#ended(code));
  }

  #subscribe(socket: WebSocket): void {
    const { queues, credit, lease, name } = this.#options;
    const back = this.#resume === undefined ? {} : { resume: this.#resume, held: this.#desk.held() };
    const from = this.#tcp && nameOf(this.#tcp);
    const subscribe = { queues, credit: this.#draining ? 0 : credit, lease, worker: name, from, ...back };
    socket.send(JSON.stringify({ subscribe }));
  }

  // Counted in turns of the timer and not by the clock: after a handler that held the loop for a minute, what the
  // server said meanwhile is read before the next turn.
  #listen(socket: WebSocket): void {
    // Nobody waits for anything but jobs. A report may be on its way though no job is held: of one that was lost meanwhile.
    const waits = this.#unanswered.length > 0 || this.#desk.held().length > 0;
    const idle = this.#subscribed && !this.#draining && !waits;
    // The kernel finds out by itself whether the server is there.
    this.#quietTicks = idle && this.#direct ? 0 : this.#quietTicks + 1;
    const patience = idle ? idleTurns : busyTurns;
    if (this.#quietTicks >= patience + answerTurns) {
      this.#reason ??= new RetryableError('the server has fallen silent', { code: 'no_server' });
      socket.terminate();
    } else if (this.#quietTicks >= patience && socket.readyState === WebSocket.OPEN) {
      socket.ping();
    }
  }

  #message(socket: WebSocket, data: Buffer): void {
    // What has come together with a spoilt message is not heard: answers to reports go by their order.
    if (socket.readyState !== WebSocket.OPEN) return;
    let frame: unknown;
    try {
      frame = JSON.parse(data.toString('utf8'));
    } catch (error) {
      this.#spoilt(socket, 'a message of the server is no JSON', error);
      return;
    }
    if (!isFrame(frame)) {
      this.#spoilt(socket, 'a message of the server makes no sense');
      return;
    }
    if (frame.jobs) {
      this.#desk.accept(frame.jobs);
    } else if (frame.reports) {
      const reports = this.#unanswered.shift();
      if (reports && reports.length === frame.reports.length) {
        this.#desk.answered(reports, frame.reports);
        this.kick();
      } else {
        if (reports) this.#unanswered.unshift(reports);
        this.#spoilt(socket, 'an answer to reports that were not sent');
      }
    } else if (frame.cancel) {
      this.#desk.cancel(frame.cancel);
    } else if (frame.subscribed) {
      this.#resume = frame.subscribed.resume;
      this.#direct = frame.subscribed.direct ?? false;
      if (this.#direct) this.#tcp?.setKeepAlive(true, keepAliveMs());
      this.#subscribed = true;
      this.#everSubscribed = true;
      this.#desk.connected(frame.subscribed.resumed ?? false);
      if (this.#draining) socket.send('{"drain":true}');
      this.kick();
    } else if (frame.drained) {
      this.#closed = true;
      clearInterval(this.#pulse);
      socket.close(1000);
      // A server that does not answer the close shall hold up nobody.
      setTimeout(() => socket.terminate(), 1_000).unref();
      this.#desk.drained();
    } else if (frame.error) {
      const seconds = frame.error.retry_after;
      this.#reason = errorOf(frame.error, seconds === undefined ? undefined : seconds * 1_000);
    }
    // Other frames are of a newer server, for newer clients.
  }

  /** The other side does not speak as a Workmill does. It is asked again, as after any break. */
  #spoilt(socket: WebSocket, why: string, cause?: unknown): void {
    this.#reason = new FatalError(why, { code: 'protocol_error', cause });
    socket.terminate();
  }

  /** Before there was a stream: an ordinary answer. */
  #refused(socket: WebSocket, response: IncomingMessage): void {
    let body = '';
    response.setEncoding('utf8');
    response.on('data', (chunk: string) => {
      if (body.length < refusalBytesMax) body += chunk;
    });
    const end = () => {
      this.#reason ??= answerError(response.statusCode ?? 0, response.headers, body);
      socket.terminate();
    };
    response.once('end', end);
    response.once('error', end);
  }

  #ended(code: number): void {
    clearInterval(this.#pulse);
    const subscribed = this.#subscribed;
    this.#subscribed = false;
    this.#direct = false;
    this.#socket = undefined;
    this.#tcp = undefined;
    if (this.#closed) return;
    const error = this.#reason ?? closeError(code);
    const unanswered = this.#unanswered;
    this.#unanswered = [];

    // A token that does not hold, or a wrong queue: it will not get better. Everything else may.
    const hopeless = error.class === 'user' && (!this.#everSubscribed || neverMind.has(error.code));
    if (hopeless) {
      this.#closed = true;
      this.#desk.failed(error);
      return;
    }
    // A report that the server cannot even read ends the stream, and would end the next one too. Answers to frames before
    // it may be on their way still: it is any of those that are not answered.
    const reports = unanswered.flat();
    const refused = subscribed && error.class === 'user' && error.code !== 'stream_replaced' && reports.length > 0;
    if (refused) this.#desk.refused(reports, error);
    else this.#desk.returned(reports);
    this.#desk.disconnected(error);
    if (this.#draining && this.#leaveIfNothingIsHeld()) return;

    // The jobs of this worker that are well shall not wait long for one that is not.
    const isWell = subscribed && (refused || performance.now() - this.#openedAt > 1_000);
    this.#failures = isWell ? 1 : this.#failures + 1;
    const wait = Math.max(error.retryAfterMs ?? 0, backoffMs(reconnect, this.#failures));
    this.#reconnecting = after(wait, () => this.#connect());
  }

  #leaveIfNothingIsHeld(): boolean {
    if (this.#desk.held().length > 0) return false;
    this.close();
    this.#desk.drained();
    return true;
  }
}
