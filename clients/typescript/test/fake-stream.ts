// A server of worker streams that does what a test says, and nothing by itself: for what a real one does rarely.
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server as HttpServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { WebSocketServer, type WebSocket } from 'ws';
import { deadlineMs } from './server.js';

export type Message = Record<string, any>;

/** Hands out what arrives, in order, to those that wait for it. */
class Arrivals<T> {
  readonly #items: T[] = [];
  #wake: () => void = () => {};

  push(item: T): void {
    this.#items.push(item);
    this.#wake();
  }

  async next(what: string): Promise<T> {
    while (this.#items.length === 0) {
      await new Promise<void>((resolve, reject) => {
        const timer = setTimeout(() => reject(new Error(`${what} did not come`)), deadlineMs);
        this.#wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    return this.#items.shift()!;
  }
}

/** One connection of a worker. */
export class Peer {
  readonly #socket: WebSocket;
  readonly #tcp: IncomingMessage['socket'];
  readonly #messages = new Arrivals<Message>();
  readonly closed: Promise<unknown>;
  /** Where it comes from: address and port. */
  readonly from: string;
  pings = 0;

  constructor(socket: WebSocket, tcp: IncomingMessage['socket']) {
    this.#socket = socket;
    this.#tcp = tcp;
    this.from = `${tcp.remoteAddress}:${tcp.remotePort}`;
    this.closed = once(socket, 'close');
    socket.on('ping', () => (this.pings += 1));
    socket.on('message', (data) => this.#messages.push(JSON.parse(String(data)) as Message));
  }

  /** The next message that has this member; others before it are passed over. */
  async next(member: string): Promise<any> {
    for (;;) {
      const message = await this.#messages.next(`a message with ${member}`);
      if (member in message) return message[member];
    }
  }

  /** Any JSON, for what is no message. */
  send(message: unknown): void {
    this.#socket.send(JSON.stringify(message));
  }

  /** In one piece, as TCP gives them: the worker has read all of them before it can do anything about the first. */
  sendTogether(...messages: Message[]): void {
    this.#tcp.cork();
    for (const message of messages) this.send(message);
    this.#tcp.uncork();
  }

  /** The subscription, answered; resolves when the worker has read the answer. */
  async subscribed(answer: Message = {}): Promise<Message> {
    const subscribe = (await this.next('subscribe')) as Message;
    this.send({ subscribed: { resume: 'token', reconnect_within: '5s', resumed: false, lease: '60s', ...answer } });
    await this.heard();
    return subscribe;
  }

  /** Resolves when the worker has read what was sent to it, and what it had sent by then has come. */
  async heard(): Promise<void> {
    const read = once(this.#socket, 'pong');
    this.#socket.ping();
    await read;
  }

  /** The next frame of reports, each answered as given, or with ok. */
  async reports(answer: Message = { ok: true }): Promise<Message[]> {
    const reports = (await this.next('reports')) as Message[];
    this.send({ reports: reports.map(({ id }) => ({ id, ...answer })) });
    return reports;
  }

  /** As many reports as this, in however many frames. */
  async reportsOf(count: number): Promise<Message[]> {
    const all: Message[] = [];
    while (all.length < count) all.push(...(await this.reports()));
    return all;
  }

  async drained(): Promise<void> {
    await this.next('drain');
    this.send({ drained: true });
  }

  close(code: number): void {
    this.#socket.close(code);
  }

  /** No goodbye. */
  cut(): void {
    this.#socket.terminate();
  }
}

export class FakeStreamServer {
  readonly #http: HttpServer;
  readonly #sockets: WebSocketServer;
  readonly #peers = new Arrivals<Peer>();
  /** The next upgrades are answered so instead. */
  refusals: Array<{ status: number; headers?: Record<string, string>; body: string }> = [];
  readonly upgrades: IncomingMessage[] = [];

  private constructor(autoPong: boolean) {
    this.#http = createServer((_request, response) => response.writeHead(404).end());
    this.#sockets = new WebSocketServer({ noServer: true, autoPong });
    this.#http.on('upgrade', (request, socket, head) => {
      this.upgrades.push(request);
      const refusal = this.refusals.shift();
      if (refusal) {
        const headers = Object.entries({ 'content-length': Buffer.byteLength(refusal.body), ...refusal.headers });
        const lines = headers.map(([name, value]) => `${name}: ${value}\r\n`).join('');
        socket.end(`HTTP/1.1 ${refusal.status} No\r\n${lines}connection: close\r\n\r\n${refusal.body}`);
        return;
      }
      this.#sockets.handleUpgrade(request, socket, head, (webSocket) => {
        this.#peers.push(new Peer(webSocket, request.socket));
      });
    });
  }

  /** `autoPong: false`: one that is connected and answers nothing. */
  static async start({ autoPong = true } = {}): Promise<FakeStreamServer> {
    const server = new FakeStreamServer(autoPong);
    server.#http.listen(0, '127.0.0.1');
    await once(server.#http, 'listening');
    return server;
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#http.address() as AddressInfo).port}`;
  }

  /** The next worker that connects. */
  peer(): Promise<Peer> {
    return this.#peers.next('a worker');
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets.clients) socket.terminate();
    this.#http.closeAllConnections();
    const closed = once(this.#http, 'close');
    this.#http.close();
    await closed;
  }
}

/** A job as the server sends it. */
export function leased(id: string, more: Message = {}): Message {
  return {
    id,
    type: 't',
    queue: 'default',
    payload: null,
    attempt: 1,
    max_attempts: 20,
    lease: '00000000000000aa',
    lease_expires_at: '2030-01-01T00:01:00.000Z',
    priority: 5,
    created_at: '2030-01-01T00:00:00.000Z',
    ...more,
  };
}

export function problem(code: string, errorClass: string, status = 400): Message {
  return { type: `/errors/${code}`, title: code, status, detail: code, code, class: errorClass };
}
