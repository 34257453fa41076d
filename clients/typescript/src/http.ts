// One HTTP request, once: a bounded pool of kept connections, time-outs, and what went wrong as an error with a class.
// node:http and its Agent, not fetch: measured against the server, 16 calls at once, fetch costs six times the CPU.
import { readFileSync } from 'node:fs';
import { Agent as HttpAgent, request as httpRequest, type ClientRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { errorOf, FatalError, RetryableError, UserError, type WorkmillError } from './errors.js';
import { after } from './timer.js';
import type { Problem } from './wire.js';

/** What `node:tls` is told, where the address begins with https. */
export interface TlsOptions {
  ca?: string | Buffer | Array<string | Buffer>;
  cert?: string | Buffer;
  key?: string | Buffer;
  servername?: string;
  rejectUnauthorized?: boolean;
}

export interface HttpOptions {
  url: string;
  token: string | undefined;
  tls: TlsOptions | undefined;
  maxConnections: number;
  maxWaiting: number;
  connectTimeoutMs: number;
}

export interface HttpAnswer {
  status: number;
  headers: IncomingMessage['headers'];
  bytes: Buffer;
  /** The bytes as text. */
  readonly body: string;
}

// More than any page of jobs that a program would want in memory at once.
const answerBytesMax = 256 * 1024 * 1024;

const maxFreeSockets = 32; // Kept for the next request.

const calledOffMs = 5_000; // So long has a server to end what is called off.

const connectTimeout = 'CONNECT_TIMEOUT';
const neverConnected = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EADDRNOTAVAIL',
  connectTimeout,
]);

/** The address that is given, or that of the environment. */
export function urlOf(given: string | undefined): string {
  return given ?? (process.env['WORKMILL_URL'] || 'http://127.0.0.1:7330');
}

/** Where the server is: `host:port`, or with `http://` or `https://`. Throws a UserError for what is no such address. */
export function parseUrl(text: string): URL {
  let url: URL | undefined;
  try {
    url = new URL(text.includes('://') ? text : `http://${text}`);
  } catch {
    // Said below.
  }
  if (url?.username || url?.password) {
    throw new UserError('an address holds no user or password: say token, or WORKMILL_TOKEN', {
      code: 'invalid_field',
      field: 'url',
    });
  }
  if (!url || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    const shown = text.includes('@') ? 'this' : JSON.stringify(text); // Before an @ there may be a password.
    throw new UserError(`${shown} is no address of a server: it is such as http://127.0.0.1:7330`, {
      code: 'invalid_field',
      field: 'url',
    });
  }
  return url;
}

/**
 * What `node:tls` is told for this address: the option `tls`, and where that has no `ca`, the file that WORKMILL_CA_FILE
 * names. Throws a UserError where that cannot be read, and where `tls` would go unheard.
 */
export function tlsOptions(url: URL, given: TlsOptions | undefined): TlsOptions | undefined {
  if (url.protocol !== 'https:' && given !== undefined) {
    // The token would go in clear.
    throw new UserError(`tls is for https addresses, and this is none: http://${url.host}`, {
      code: 'bad_configuration',
      field: 'tls',
    });
  }
  const file = process.env['WORKMILL_CA_FILE'];
  if (url.protocol !== 'https:' || given?.ca !== undefined || !file) return given;
  try {
    return { ...given, ca: readFileSync(file) };
  } catch (error) {
    throw new UserError(`WORKMILL_CA_FILE cannot be read: ${(error as Error).message}`, {
      code: 'bad_configuration',
      cause: error,
    });
  }
}

/**
 * The token that is given, or the environment's WORKMILL_TOKEN. Throws a UserError for what would be no header: without
 * its text, which is a secret.
 */
export function tokenOf(given: string | undefined): string | undefined {
  const token = given ?? process.env['WORKMILL_TOKEN'];
  if (token !== undefined && !/^[ -~]*$/.test(token)) {
    throw new UserError('the token has a character that no token has, such as a line break at its end', {
      code: 'bad_configuration',
      field: 'token',
    });
  }
  return token;
}

/** What a failure below HTTP means. `wasSent`: a request, on a connection that had come about. */
export function connectionError(error: Error & { code?: string }, where: string, wasSent: boolean): WorkmillError {
  const code = error.code ?? '';
  if (!wasSent && neverConnected.has(code)) {
    return new RetryableError(`nobody answers at ${where}: ${error.message || code}`, {
      code: 'no_server',
      cause: error,
    });
  }
  // A certificate that does not hold, or something that speaks another language.
  if (/CERT|TLS|SSL|SELF_SIGNED|UNABLE_TO_|^HPE_|^EPROTO/.test(code)) {
    return new FatalError(`cannot talk to ${where}: ${error.message}`, {
      code: 'protocol_error',
      cause: error,
      mayHaveHappened: wasSent,
    });
  }
  return new RetryableError(`the connection to ${where} broke: ${error.message || code}`, {
    code: 'no_server',
    cause: error,
    mayHaveHappened: true,
  });
}

/** Whether somebody is there, who said nothing for as long as was waited. */
export function isSilence(error: WorkmillError): boolean {
  return (error.cause as { code?: string } | undefined)?.code === 'ETIMEDOUT';
}

const silence = (message: string) => withCause(message, 'ETIMEDOUT');

function withCause(message: string, code: string): RetryableError {
  const cause = Object.assign(new Error(message), { code });
  return new RetryableError(message, { code: 'no_server', cause, mayHaveHappened: !neverConnected.has(code) });
}

/** The seconds of a Retry-After header, in ms. Workmill sends no dates. */
export function retryAfterMs(header: string | string[] | undefined): number | undefined {
  const seconds = Number(header);
  return header !== undefined && Number.isFinite(seconds) && seconds >= 0 ? seconds * 1_000 : undefined;
}

/** The error that an answer with such a status is. */
export function answerError(status: number, headers: IncomingMessage['headers'], body: string): WorkmillError {
  const pauseMs = retryAfterMs(headers['retry-after']);
  try {
    const problem = JSON.parse(body) as Problem;
    if (typeof problem.code === 'string' && typeof problem.class === 'string') return errorOf(problem, pauseMs);
  } catch {
    // Not ours: a proxy between, or no Workmill server at all.
  }
  const message = `an answer with status ${status} that is not Workmill's: ${body.slice(0, 200)}`;
  const details = { status, retryAfterMs: pauseMs, mayHaveHappened: status !== 429 };
  // A proxy that has no server to ask says so in its own way.
  if (status === 429 || status >= 500) return new RetryableError(message, { ...details, code: 'no_server' });
  return new FatalError(message, { ...details, code: 'protocol_error' });
}

export class Http {
  readonly url: URL;
  readonly #options: HttpOptions;
  readonly #agent: HttpAgent;
  readonly #prefix: string;
  readonly #headers: Record<string, string>;
  #inFlight = 0;
  /** Ends those that are under way, or wait for a connection. */
  readonly #ends = new Set<() => void>();
  #closed = false;

  constructor(options: HttpOptions) {
    this.#options = options;
    this.url = parseUrl(options.url);
    this.#prefix = this.url.pathname.replace(/\/$/, '');
    const pool = { keepAlive: true, maxSockets: options.maxConnections, maxFreeSockets, scheduling: 'lifo' as const };
    const tls = tlsOptions(this.url, options.tls);
    this.#agent = this.url.protocol === 'https:' ? new HttpsAgent({ ...pool, ...tls }) : new HttpAgent(pool);
    this.#headers = { accept: 'application/json' };
    if (options.token) this.#headers['authorization'] = `Bearer ${options.token}`;
  }

  close(): void {
    this.#closed = true;
    // Those that wait, too: the agent would make new connections for them.
    for (const end of [...this.#ends]) end();
    this.#agent.destroy();
  }

  /**
   * Sends it and reads the whole answer, whatever its status. `timeoutMs` counts from here, waiting for a connection
   * included. Rejects with a RetryableError where no answer came, and with the signal's reason where it was aborted.
   *
   * `callOff` tells the server that nobody wants an answer that it has not given yet, and rejects with its reason where it has
   * not. One that has begun, or is on its way, is read all the same: unlike that of a request whose `signal` is aborted, it
   * does not get lost.
   */
  request(
    method: string,
    path: string,
    body: string | Uint8Array | undefined,
    headers: Record<string, string> | undefined,
    timeoutMs: number,
    signal: AbortSignal | undefined,
    callOff?: AbortSignal,
  ): Promise<HttpAnswer> {
    const { maxConnections, maxWaiting } = this.#options;
    if (this.#closed) return Promise.reject(new FatalError('the client is closed', { code: 'closed' }));
    if (this.#inFlight >= maxConnections + maxWaiting) {
      const message = `${this.#inFlight} calls are under way or wait for a connection already`;
      return Promise.reject(new RetryableError(message, { code: 'pool_full' }));
    }
    this.#inFlight += 1;
    return new Promise<HttpAnswer>((resolve, reject) => {
      for (const given of [signal, callOff]) if (given?.aborted) return reject(given.reason as Error);
      const all: Record<string, string | number> = { ...this.#headers, ...headers };
      // What is not begun when we have given up need not be done.
      all['request-timeout'] = timeoutMs / 1_000;
      if (body !== undefined) {
        all['content-type'] ??= 'application/json';
        all['content-length'] = Buffer.byteLength(body);
      } else if (method === 'POST') {
        all['content-length'] = 0;
      }
      const send = this.url.protocol === 'https:' ? httpsRequest : httpRequest;
      const request: ClientRequest = send({
        agent: this.#agent,
        protocol: this.url.protocol,
        hostname: this.url.hostname.replace(/^\[(.*)\]$/, '$1'),
        port: this.url.port,
        method,
        path: this.#prefix + path,
        headers: all,
      });

      let connecting: NodeJS.Timeout | undefined;
      let isConnected = false;
      let isAnswered = false;
      let ending: NodeJS.Timeout | undefined;
      const give = (error: unknown) => {
        finish();
        request.destroy();
        reject(error as Error);
      };
      const end = () => give(new FatalError('the client is closed', { code: 'closed', mayHaveHappened: isConnected }));
      this.#ends.add(end);
      const aborted = () => give(signal?.reason);
      const calledOff = () => {
        if (!isConnected) return give(callOff?.reason);
        // The server takes back what it has not answered where we have ended our side, and ends its own.
        request.socket?.end();
        if (!isAnswered) ending = after(calledOffMs, () => give(callOff?.reason));
      };
      const timer = after(timeoutMs, () => give(silence(`no answer of ${this.url.host} within ${timeoutMs} ms`)));
      const finish = () => {
        clearTimeout(timer);
        clearTimeout(connecting);
        clearTimeout(ending);
        this.#ends.delete(end);
        signal?.removeEventListener('abort', aborted);
        callOff?.removeEventListener('abort', calledOff);
      };
      signal?.addEventListener('abort', aborted, { once: true });
      callOff?.addEventListener('abort', calledOff, { once: true });

      request.on('socket', (socket: Socket | TLSSocket) => {
        isConnected = !socket.connecting;
        if (isConnected) return;
        const limit = this.#options.connectTimeoutMs;
        const message = `no connection to ${this.url.host} within ${limit} ms`;
        connecting = after(limit, () => give(withCause(message, connectTimeout)));
        socket.once('encrypted' in socket ? 'secureConnect' : 'connect', () => {
          isConnected = true;
          clearTimeout(connecting);
        });
      });
      request.on('error', (error) =>
        give(callOff?.aborted ? callOff.reason : connectionError(error, this.url.host, isConnected)),
      );
      request.on('response', (response) => {
        isAnswered = true;
        clearTimeout(ending);
        const chunks: Buffer[] = [];
        let length = 0;
        response.on('data', (chunk: Buffer) => {
          length += chunk.length;
          if (length > answerBytesMax) {
            const message = `an answer of more than ${answerBytesMax} bytes`;
            give(new FatalError(message, { code: 'protocol_error', mayHaveHappened: true }));
          }
          chunks.push(chunk);
        });
        response.on('error', (error) => give(connectionError(error, this.url.host, true)));
        response.on('end', () => {
          finish();
          const bytes = chunks.length === 1 ? (chunks[0] as Buffer) : Buffer.concat(chunks);
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            bytes,
            get body() {
              return bytes.toString('utf8');
            },
          });
        });
      });
      request.end(body);
    }).finally(() => {
      this.#inFlight -= 1;
    });
  }
}
