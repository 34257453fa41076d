// The worker against the real server, where the conformance suite does not look.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { Client, UserError, Worker } from 'workmill';
import { Server } from './server.js';

let server: Server;
let client: Client;
before(async () => {
  server = await new Server().start();
  client = new Client({ url: server.url });
});
after(async () => {
  client.close();
  await server.remove();
});

for (const transport of ['stream', 'http'] as const) {
  test(`thousands of quick jobs each run once and are each reported, over ${transport}`, async () => {
    const queue = `quick-${transport}`;
    const jobs = 5_000;
    await client.enqueueMany(Array.from({ length: jobs }, (_, i) => ({ type: 't', queue, payload: i })));
    const worker = new Worker({ url: server.url, queues: [queue], concurrency: 700, transport, signals: false });
    const ran = new Map<number, number>();
    worker.on<number>('t', async (job) => {
      ran.set(job.payload, (ran.get(job.payload) ?? 0) + 1);
      if (ran.size === jobs) void worker.stop();
      return job.payload;
    });
    let lost = 0;
    worker.events.on('leaseLost', () => (lost += 1));

    await worker.run();

    assert.deepEqual(
      [...ran.values()].filter((times) => times !== 1),
      [],
    );
    assert.equal(lost, 0);
    const { depth } = await client.queue(queue);
    assert.deepEqual([depth.completed, depth.leased, depth.ready], [jobs, 0, 0]);
  });

  test(`the second SIGTERM ends a process whose handler does not end, over ${transport}`, async () => {
    const queue = `stuck-${transport}`;
    const program = `
      import { Worker } from 'workmill';
      const worker = new Worker({ queues: ['${queue}'], transport: '${transport}', logger: false });
      worker.on('t', async (job, ctx) => {
        ctx.signal.addEventListener('abort', () => console.log('told'));
        console.log('started');
        await new Promise(() => {});
      });
      process.once('SIGTERM', () => console.log('heard'));
      await worker.run();
    `;
    const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
      cwd: new URL('../..', import.meta.url),
      env: { ...process.env, WORKMILL_URL: server.url },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const exited = once(child, 'exit');
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    await client.enqueue('t', null, { queue });

    assert.equal((await lines.next()).value, 'started');
    child.kill('SIGTERM');
    assert.equal((await lines.next()).value, 'heard');
    child.kill('SIGTERM');

    assert.equal((await lines.next()).value, 'told');
    assert.deepEqual(await exited, [null, 'SIGTERM']);
  });
}

test('a worker that is stopped before it has begun never begins', async () => {
  const worker = new Worker({ url: server.url, signals: false });

  await worker.stop();

  await assert.rejects(worker.run(), { code: 'wrong_state' });
});

test('what makes no sense is refused when a worker is made', () => {
  assert.throws(() => new Worker({ concurrency: 0 }), { code: 'invalid_field', field: 'concurrency' });
  assert.throws(() => new Worker({ name: 'no name!' }), { code: 'invalid_field', field: 'name' });
  assert.throws(() => new Worker({ lease: 'long' }), { code: 'invalid_field' });
  assert.throws(() => new Worker().on('t', () => 1).on('t', () => 2), { code: 'handler_exists' });
});

test('the log says which job failed, and where an error that nobody meant came from', async () => {
  const lines: Array<Record<string, unknown>> = [];
  const line = (fields: object, message: string) => void lines.push({ ...fields, message });
  const logger = { debug: () => {}, info: () => {}, warn: line, error: line };
  const worker = new Worker({ url: server.url, queues: ['failing'], signals: false, logger });
  worker.on('meant', () => {
    throw new UserError('no such row', { code: 'no_row' });
  });
  worker.on('a-bug', () => {
    throw new RangeError('too far');
  });
  const running = worker.run();

  const meant = await client.enqueue('meant', null, { queue: 'failing' });
  const bug = await client.enqueue('a-bug', null, { queue: 'failing', maxAttempts: 1 });
  for (const { id } of [meant, bug]) assert.equal((await client.waitFor(id)).state, 'dead');
  await worker.stop();
  await running;

  const of = (id: string) => lines.find(({ job }) => job === id)!;
  assert.deepEqual([of(meant.id)['code'], of(meant.id)['stack']], ['no_row', undefined]);
  assert.equal(of(bug.id)['attempt'], 1);
  assert.match(String(of(bug.id)['stack']), /RangeError: too far\n.*worker\.test\.js/);
});

test('what is no handler is refused at once', () => {
  assert.throws(() => new Worker().on('t', undefined as never), { code: 'invalid_field', field: 'handler' });
});
