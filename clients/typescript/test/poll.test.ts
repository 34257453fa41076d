// What a worker without a stream sends, against a server that answers when the test says so.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test, type TestContext } from 'node:test';
import { Worker } from 'workmill';
import { leased, problem, type Message } from './fake-stream.js';
import { eventually, gate } from './server.js';

/** A request of the worker, and its answer. */
interface Asked {
  path: string;
  body: Message;
  answer: (content: Message, status?: number) => void;
}

async function polled(context: TestContext) {
  const asked: Asked[] = [];
  const server = createServer(async (request, response: ServerResponse) => {
    let text = '';
    for await (const chunk of request) text += String(chunk);
    const answer = (content: Message, status = 200) => void response.writeHead(status).end(JSON.stringify(content));
    asked.push({ path: request.url!, body: JSON.parse(text) as Message, answer });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  context.after(() => {
    server.closeAllConnections();
    server.close();
  });
  /** The next request of this path; those of others wait. */
  const next = (path: string) =>
    eventually(() => {
      const at = asked.findIndex((one) => one.path === path);
      return at < 0 ? undefined : asked.splice(at, 1)[0];
    });
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  // Without spans what a plain handler gives is there before the next poll.
  const options = { url, name: 'me', transport: 'http', signals: false, logger: false, tracing: false } as const;
  const make = () => {
    const worker = new Worker(options);
    context.after(() => worker.stop({ timeout: 0 }));
    return worker;
  };
  return { next, make };
}

const counted = ({ body }: Asked) => ({
  jobs: [],
  reports: (body['reports'] as Message[]).map(({ id }) => ({ id, ok: true })),
});
const outcomes = ({ body }: Asked) => (body['reports'] as Message[]).map(({ outcome }) => outcome as string);

test('reports are in one request at a time, so that those of a job come in their order', async (context) => {
  const { next, make } = await polled(context);
  const [begin, end] = [gate(), gate()];
  const worker = make().on('t', async (_job, ctx) => {
    await begin.promise;
    ctx.progress(50);
    await end.promise;
  });
  const running = worker.run();

  (await next('/v1/leases')).answer({ jobs: [leased('a')] });
  const waiting = await next('/v1/leases');
  begin.open();
  const progress = await next('/v1/reports');
  end.open();
  await eventually(() => worker.load.running === 0);
  waiting.answer({ jobs: [] });
  const meanwhile = await next('/v1/leases');
  assert.equal(meanwhile.body['reports'], undefined);

  progress.answer(counted(progress));
  const last = await next('/v1/reports');
  assert.deepEqual([outcomes(progress), outcomes(last)], [['progress'], ['completed']]);

  last.answer(counted(last));
  await worker.stop();
  await running;
});

test('no report pays for a poll that is refused', async (context) => {
  const { next, make } = await polled(context);
  const worker = make().on('t', () => 1);
  const running = worker.run();

  (await next('/v1/leases')).answer({ jobs: [leased('a')] });
  const both = await next('/v1/leases');
  assert.deepEqual(outcomes(both), ['completed']);
  both.answer(problem('invalid_field', 'user'), 400);
  const alone = await next('/v1/reports');
  assert.deepEqual(outcomes(alone), ['completed']);

  alone.answer(counted(alone));
  await worker.stop();
  await running;
});

// Sent in the same tick, so that it is in the socket, unread; or when the server does not know yet that nobody wants it.
for (const isSentBefore of [true, false]) {
  test(`jobs that are on their way when a worker stops are given back, sent before: ${isSentBefore}`, async (context) => {
    const { next, make } = await polled(context);
    const worker = make().on('t', () => 1);
    const running = worker.run();

    const waiting = await next('/v1/leases');
    if (isSentBefore) waiting.answer({ jobs: [leased('a')] });
    const stopped = worker.stop();
    if (!isSentBefore) waiting.answer({ jobs: [leased('a')] });
    const last = await next('/v1/reports');
    assert.deepEqual(outcomes(last), ['released']);

    last.answer(counted(last));
    await stopped;
    await running;
  });
}

test('an answer with something else in it is no answer', async (context) => {
  const { next, make } = await polled(context);
  const worker = make().on('t', () => 1);
  const reasons: string[] = [];
  worker.events.on('disconnected', (error) => reasons.push(error.code));
  const running = worker.run();

  (await next('/v1/leases')).answer({ jobs: [null] });
  (await next('/v1/leases')).answer({ jobs: [leased('a')] });
  (await next('/v1/leases')).answer({ jobs: [] }); // And none to the report that came with it.
  const third = await next('/v1/leases');
  assert.deepEqual(reasons, ['protocol_error', 'protocol_error']);
  third.answer({ jobs: [], reports: [null] });
  const again = await next('/v1/leases');
  assert.deepEqual(outcomes(again), ['completed']);

  again.answer(counted(again));
  await worker.stop();
  await running;
});

test('an answer to reports alone with something else in it is no answer', async (context) => {
  const { next, make } = await polled(context);
  const begin = gate();
  const worker = make().on('t', () => begin.promise);
  const running = worker.run();

  (await next('/v1/leases')).answer({ jobs: [leased('a')] });
  await next('/v1/leases');
  begin.open();
  (await next('/v1/reports')).answer({ reports: [null] });
  (await next('/v1/reports')).answer({ reports: [] });
  const again = await next('/v1/reports');
  assert.deepEqual(outcomes(again), ['completed']);

  again.answer(counted(again));
  await worker.stop();
  await running;
});
