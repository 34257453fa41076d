// A real server for tests, on a free port and a folder of its own.
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { TestContext } from 'node:test';
import { fileURLToPath } from 'node:url';

export const binary =
  process.env['WORKMILL_BIN'] ?? fileURLToPath(new URL('../../../../build/release/workmill', import.meta.url));

// Nothing waits this long when all is well: two slow cores with other tests beside us need room.
export const deadlineMs = 60_000;

export class Server {
  readonly #folder = mkdtempSync(join(tmpdir(), 'workmill-ts-'));
  readonly #lines: string[] = [];
  #port = 0;
  #process: ChildProcess | undefined;

  get url(): string {
    return `http://127.0.0.1:${this.#port}`;
  }

  /** Resolves when it answers. Started again, it has the same port and the same jobs. */
  async start(...more: string[]): Promise<this> {
    const listen = ['--listen', `127.0.0.1:${this.#port}`];
    const server = spawn(binary, ['serve', '--data', join(this.#folder, 'data'), ...listen, ...more], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#process = server;
    const listening = new Promise<number>((resolve, reject) => {
      for (const stream of [server.stdout, server.stderr]) {
        createInterface({ input: stream }).on('line', (line) => {
          this.#lines.push(line);
          const port = /"body":"listening".*"port":(\d+)/.exec(line)?.[1];
          if (port !== undefined) resolve(Number(port));
        });
      }
      server.once('error', reject);
      server.once('exit', (code) => reject(new Error(`the server ended with ${code}:\n${this.#lines.join('\n')}`)));
    });
    listening.catch(() => {}); // It also ends when it is stopped.
    this.#port = await listening;
    return this;
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const server = this.#process;
    this.#process = undefined;
    if (!server || server.exitCode !== null || server.signalCode !== null) return;
    const exited = once(server, 'exit');
    server.kill(signal);
    await exited;
  }

  async remove(): Promise<void> {
    await this.stop('SIGKILL');
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/** What Node says of timers that were given more than they take. They go off at once. */
export function overflows(context: TestContext): string[] {
  const told: string[] = [];
  const note = ({ name, message }: Error) => {
    if (name === 'TimeoutOverflowWarning') told.push(message);
  };
  process.on('warning', note);
  context.after(() => process.off('warning', note));
  return told;
}

/** A promise, and what settles it. */
export function gate<T = void>(): { promise: Promise<T>; open: (value: T) => void } {
  let open!: (value: T) => void;
  const promise = new Promise<T>((resolve) => {
    open = resolve;
  });
  return { promise, open };
}

/** Asks until it is so. */
export async function eventually<T>(ask: () => Promise<T | undefined | false> | T | undefined | false): Promise<T> {
  const end = Date.now() + deadlineMs;
  for (;;) {
    const value = await ask();
    if (value) return value;
    if (Date.now() > end) throw new Error(`did not happen: ${ask}`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
