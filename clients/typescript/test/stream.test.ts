// What the worker does on its stream, against a server that does what the test says.
import assert from 'node:assert/strict';
import { Socket } from 'node:net';
import { after, before, test, type TestContext } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { FatalError, RetryableError, UserError, Worker, type WorkerOptions } from 'workmill';
import { FakeStreamServer, leased, problem, type Message, type Peer } from './fake-stream.js';
import { eventually, gate, overflows } from './server.js';

let server: FakeStreamServer;
before(async () => {
  server = await FakeStreamServer.start();
});
after(() => server.stop());

const make = (options: WorkerOptions & { quietMs?: number } = {}) =>
  new Worker({ url: server.url, signals: false, logger: false, name: 'me', ...options } as WorkerOptions);

/** The worker's end, once all is answered. */
async function end(worker: Worker, running: Promise<void>, peer: Peer): Promise<void> {
  const stopping = worker.stop();
  await peer.drained();
  await stopping;
  await running;
}

test('the first message subscribes, with a credit of twice the concurrency', async () => {
  const worker = make({ queues: ['a', { name: 'b', weight: 3 }], concurrency: 7, lease: 5_000, token: 'wm_x' });
  const running = worker.run();
  const peer = await server.peer();

  const subscribe = await peer.subscribed();

  assert.deepEqual(subscribe, {
    queues: ['a', { name: 'b', weight: 3 }],
    credit: 14,
    lease: '5000ms',
    worker: 'me',
    from: peer.from,
  });
  assert.equal(server.upgrades.at(-1)?.url, '/v1/worker');
  assert.equal(server.upgrades.at(-1)?.headers.authorization, 'Bearer wm_x');
  await end(worker, running, peer);
});

test('reports of jobs that end together go out together', async () => {
  const worker = make({ concurrency: 5_000, credit: 10_000 }).on('t', async (job) => job.payload);
  const running = worker.run();
  const peer = await server.peer();
  await peer.subscribed();

  peer.send({ jobs: Array.from({ length: 2_500 }, (_, i) => leased(`j${i}`, { payload: i })) });

  const frames = [await peer.reports(), await peer.reports(), await peer.reports()];
  assert.deepEqual(
    frames.map((frame) => frame.length),
    [1_000, 1_000, 500],
  );
  assert.deepEqual(frames[0]![0], { id: 'j0', lease: '00000000000000aa', outcome: 'completed', result: 0 });
  await end(worker, running, peer);
});

test('no more handlers run than may, and the rest waits here', async () => {
  const { promise, open } = gate();
  const worker = make({ concurrency: 2 }).on('t', () => promise);
  const running = worker.run();
  const peer = await server.peer();
  await peer.subscribed();

  peer.send({ jobs: ['a', 'b', 'c'].map((id) => leased(id)) });
  await eventually(() => worker.load.running === 2);
  assert.equal(worker.load.waiting, 1);

  open();
  assert.deepEqual((await peer.reportsOf(3)).map(({ id }) => id).sort(), ['a', 'b', 'c']);
  await end(worker, running, peer);
});

test('what a handler says goes out before its result, and progress only as it stands last', async () => {
  const worker = make().on('t', async (_job, ctx) => {
    ctx.progress(10);
    ctx.log('one', 'two');
    ctx.progress(200.4, 'nearly');
    return undefined;
  });
  const running = worker.run();
  const peer = await server.peer();
  await peer.subscribed();

  peer.send({ jobs: [leased('a')] });

  const lease = '00000000000000aa';
  assert.deepEqual(await peer.reportsOf(3), [
    { id: 'a', lease, outcome: 'log', lines: ['one', 'two'] },
    { id: 'a', lease, outcome: 'progress', percent: 100, message: 'nearly' },
    { id: 'a', lease, outcome: 'completed' },
  ]);
  await end(worker, running, peer);
});

test('more lines than can be sent are dropped, and counted', async () => {
  const worker = make().on('t', (_job, ctx) => {
    for (let i = 0; i < 1_500; i += 1) ctx.log(`line ${i}`);
  });
  const running = worker.run();
  const peer = await server.peer();
  await peer.subscribed();

  peer.send({ jobs: [leased('a')] });

  const [log] = await peer.reportsOf(2);
  assert.equal(log!['lines'].length, 1_000);
  assert.match(log!['lines'][999], /^\(501 lines more/);
  await end(worker, running, peer);
});

test('listeners and loggers that throw change nothing of the work', async () => {
  const broken = () => {
    throw new Error('the disk is full');
  };
  const logger = { debug: broken, info: broken, warn: broken, error: broken };
  const worker = make({ concurrency: 1, logger }).on('t', (job) => {
    if (job.payload === 'throw') throw new RangeError('too far');
    return job.payload === 'later' ? Promise.resolve(1) : 1;
  });
  const events = ['connected', 'disconnected', 'completed', 'failed', 'cancelled', 'leaseLost'] as const;
  for (const event of events) worker.events.on(event, broken);
  const running = worker.run();
  const first = await server.peer();
  await first.subscribed();
  first.cut();
  const peer = await server.peer();
  await peer.subscribed();

  const payloads = ['now', 'throw', 'later', 'now'];
  peer.send({ jobs: payloads.map((payload, n) => leased(`${n}`, { payload })) });

  assert.deepEqual(
    (await peer.reportsOf(4)).map(({ id, outcome }) => [id, outcome]),
    [
      ['0', 'completed'],
      ['1', 'failed'],
      ['2', 'completed'],
      ['3', 'completed'],
    ],
  );
  await end(worker, running, peer);
});

test('what a listener throws is told in the log', async () => {
  const told: Array<[object, string]> = [];
  const line = (fields: object, message: string) => void told.push([fields, message]);
  const logger = { debug: () => {}, info: () => {}, warn: line, error: line };
  const worker = make({ logger }).on('t', () => 1);
  worker.events.on('completed', () => {
    throw 'just text';
  });
  const running = worker.run();
  const peer = await server.peer();
  await peer.subscribed();

  peer.send({ jobs: [leased('a')] });
  await peer.reportsOf(1);
  await end(worker, running, peer);

  assert.deepEqual(told, [[{ worker: 'me', event: 'completed' }, 'a listener of completed threw: just text']]);
});

test('what no budget of the cache can hold is told in the log', async () => {
  const told: object[] = [];
  const line = (fields: object) => void told.push(fields);
  const logger = { debug: () => {}, info: () => {}, warn: line, error: line };
  const worker = make({ logger }).on('t', () => 1);
  const running = worker.run();
  const peer = await server.peer();
  await peer.subscribed();

  peer.send({ jobs: [leased('a')] });
  await peer.next('reports');
  peer.send({ reports: [{ id: 'a', ok: true, not_stored: ['k'] }] });
  await end(worker, running, peer);

  assert.deepEqual(told, [{ worker: 'me', job: 'a', type: 't', keys: ['k'] }]);
});

test('a checkpoint is kept when the server says so, and not before', async () => {
  let kept = false;
  const worker = make().on('t', async (job, ctx) => {
    await ctx.checkpoint({ row: 7 });
    kept = true;
    return job.checkpoint;
  });
  const running = worker.run();
  const peer = await server.peer();
  await peer.subscribed();

  peer.send({ jobs: [leased('a', { checkpoint: { row: 3 } })] });
  const [report] = await peer.next('reports');
  assert.deepEqual(report, { id: 'a', lease: '00000000000000aa', outcome: 'checkpoint', data: { row: 7 } });
  assert.equal(kept, false);
  peer.send({ reports: [{ id: 'a', ok: true }] });

  assert.deepEqual((await peer.reports())[0]!['result'], { row: 3 });
  assert.equal(kept, true);
  await end(worker, running, peer);
});

test("a checkpoint that nobody waits for is nobody else's business", async () => {
  const [saved, over] = [gate(), gate()];
  const worker = make().on('t', async (_job, ctx) => {
    void ctx.checkpoint(1);
    await saved.promise;
    void ctx.checkpoint(2); // The lease is over by now.
    void ctx.checkpoint('x'.repeat(1024 * 1024));
    over.open();
  });
  worker.events.on('leaseLost', () => saved.open());
  const running = worker.run();
  const peer = await server.peer();
  await peer.subscribed();

  peer.send({ jobs: [leased('a')] });
  await peer.reports({ ok: false, error: problem('lease_lost', 'fatal') });
  await over.promise;

  await setImmediate();
  await end(worker, running, peer);
});

test('a stream that breaks comes back by its token, and sends again what was not answered', async () => {
  const { promise, open } = gate();
  let runs = 0;
  const worker = make({ concurrency: 4 }).on('t', async (job) => {
    runs += 1;
    if (job.id === 'slow') await promise;
    return job.id;
  });
  const running = worker.run();
  const first = await server.peer();
  await first.subscribed({ resume: 'first' });
  first.send({ jobs: [leased('quick'), leased('slow')] });
  const [sent] = await first.next('reports');
  assert.equal(sent.id, 'quick');

  first.cut(); // The report may have counted, or not.
  const second = await server.peer();
  const subscribe = await second.subscribed({ resume: 'second', resumed: true });
  assert.equal(subscribe['resume'], 'first');
  assert.deepEqual([...subscribe['held']].sort(), ['quick', 'slow']);
  second.send({ jobs: [leased('slow')] }); // Sent again all the same: it is in hand.
  assert.deepEqual(await second.reports({ ok: false, error: problem('lease_lost', 'fatal') }), [sent]);

  open();
  assert.equal((await second.reports())[0]!['result'], 'slow');
  assert.equal(runs, 2);
  await end(worker, running, second);
});

for (const spoilt of [
  null,
  [],
  'jobs',
  { jobs: [null] },
  { jobs: {} },
  { jobs: [leased('b', { lease: null })] },
  { jobs: [leased('b', { payload_base64: null })] },
  { reports: [null] },
  { reports: [{ id: 'a', ok: false }] },
  { reports: true },
  { cancel: 'a' },
  { cancel: [1] },
  { subscribed: true },
  { error: true },
  { error: { ...problem('overloaded', 'retryable'), retry_after: 'soon' } },
]) {
  test(`a server that says ${JSON.stringify(spoilt)} is left, and asked again`, async () => {
    const worker = make({ concurrency: 1 }).on('t', (job) => job.id);
    const reasons: string[] = [];
    worker.events.on('disconnected', (error) => reasons.push(error.code));
    const running = worker.run();
    const peer = await server.peer();
    await peer.subscribed();
    peer.send({ jobs: [leased('a')] });
    const sent = await peer.next('reports');

    peer.send(spoilt);

    const next = await server.peer();
    assert.deepEqual(await next.subscribed().then(({ resume, held }) => [resume, held]), ['token', ['a']]);
    assert.deepEqual(reasons, ['protocol_error']);
    assert.deepEqual(await next.reports(), sent);
    await end(worker, running, next);
  });
}

test('what comes together with a spoilt message is not heard', async () => {
  const worker = make({ concurrency: 1 }).on('t', (job) => job.id);
  const running = worker.run();
  const peer = await server.peer();
  await peer.subscribed();
  for (const id of ['a', 'b']) {
    peer.send({ jobs: [leased(id)] });
    await peer.next('reports');
  }

  // The second would be taken for the answer of the first report.
  peer.sendTogether({ reports: [null] }, { reports: [{ id: 'b', ok: true }] });

  const next = await server.peer();
  assert.deepEqual((await next.subscribed())['held'], ['a', 'b']);
  assert.equal((await next.reportsOf(2)).length, 2);
  await end(worker, running, next);
});

test('on a stream that is not the old one, leases are extended at once to see whether they hold', async () => {
  const { promise, open } = gate();
  const worker = make().on('t', async (_job, ctx) => {
    await promise;
    return ctx.cancelled;
  });
  const lost = gate<string>();
  worker.events.on('leaseLost', (job) => lost.open(job.id));
  const running = worker.run();
  const first = await server.peer();
  await first.subscribed();
  first.send({ jobs: [leased('kept'), leased('gone')] });
  await eventually(() => worker.load.running === 2);

  first.close(1001);
  const second = await server.peer();
  await second.subscribed({ resumed: false });
  const extensions = (await second.next('reports')) as Array<Record<string, unknown>>;
  assert.deepEqual(
    extensions.map(({ id, outcome, for: time }) => [id, outcome, time]),
    [
      ['kept', 'extend', '60000ms'],
      ['gone', 'extend', '60000ms'],
    ],
  );
  second.send({
    reports: [
      { id: 'kept', ok: true },
      { id: 'gone', ok: false, error: problem('lease_lost', 'fatal') },
    ],
  });

  assert.equal(await lost.promise, 'gone');
  open();
  assert.deepEqual(
    (await second.reports()).map(({ id, result }) => [id, result]),
    [['kept', false]],
  );
  await end(worker, running, second);
});

test('a job that comes again under a new lease runs again, and the old run is told to stop', async () => {
  const told = gate<string>();
  const worker = make().on('t', async (job, ctx) => {
    if (job.attempt > 1) return 'again';
    await new Promise<void>((resolve) => ctx.signal.addEventListener('abort', () => resolve()));
    told.open((ctx.signal.reason as FatalError).code);
    return 'too late';
  });
  const running = worker.run();
  const peer = await server.peer();
  await peer.subscribed();
  peer.send({ jobs: [leased('a')] });
  await eventually(() => worker.load.running === 1);

  peer.send({ jobs: [leased('a', { attempt: 2, lease: '00000000000000bb' })] });

  const [report] = await peer.reports();
  assert.deepEqual([report!['lease'], report!['result']], ['00000000000000bb', 'again']);
  assert.equal(await told.promise, 'lease_lost');
  await eventually(() => worker.load.running === 0);
  await end(worker, running, peer);
});

test('what may take a month is not over at once', async (context) => {
  const told = overflows(context);
  const { promise, open } = gate();
  const worker = make({ connectTimeout: '30d', drainTimeout: '30d' }).on('t', () => promise);
  const running = worker.run();
  const peer = await server.peer();
  await peer.subscribed();
  peer.send({ jobs: [leased('a')] });
  await eventually(() => worker.load.running === 1);

  const stopping = worker.stop();
  await peer.next('drain');
  await setImmediate();
  open();
  assert.equal((await peer.reports())[0]!['outcome'], 'completed');
  peer.send({ drained: true });
  await stopping;
  await running;
  assert.deepEqual(told, []);
});

test('a server that wants to be left alone for a month is not asked at once', async (context) => {
  const told = overflows(context);
  const body = JSON.stringify(problem('overloaded', 'retryable', 503));
  server.refusals.push({ status: 503, headers: { 'retry-after': '2592000' }, body });
  const worker = make();
  const refused = gate();
  worker.events.on('disconnected', () => refused.open());
  const running = worker.run();

  await refused.promise;
  await setImmediate();
  await worker.stop();
  await running;

  assert.deepEqual(told, []);
});

test('a lease is extended while its handler runs', async () => {
  const { promise, open } = gate();
  const worker = make({ lease: 120 }).on('t', () => promise);
  const running = worker.run();
  const peer = await server.peer();
  await peer.subscribed();
  peer.send({ jobs: [leased('a')] });

  for (let i = 0; i < 3; i += 1) assert.equal((await peer.reports())[0]!['outcome'], 'extend');

  open();
  await eventually(async () => (await peer.reports()).some(({ outcome }) => outcome === 'completed'));
  await end(worker, running, peer);
});

test('a cancelled job ends its handler, or never begins it', async () => {
  const worker = make({ concurrency: 1 }).on('t', async (_job, ctx) => {
    await new Promise((_, reject) => ctx.signal.addEventListener('abort', () => reject(ctx.signal.reason as Error)));
  });
  const running = worker.run();
  const peer = await server.peer();
  await peer.subscribed();
  peer.send({ jobs: [leased('runs'), leased('waits')] });
  await eventually(() => worker.load.running === 1);

  peer.send({ cancel: ['waits', 'runs', 'nobody'] });

  assert.deepEqual(
    (await peer.reportsOf(2)).map(({ id, outcome, error }) => [id, outcome, error?.code]),
    [
      ['waits', 'released', undefined],
      ['runs', 'failed', 'cancelled'],
    ],
  );
  await end(worker, running, peer);
});

test('what a handler throws decides the class of the failure', async () => {
  const errors: Record<string, () => unknown> = {
    plain: () => new RangeError('too far'),
    user: () => new UserError('no such street', { code: 'bad_address', detail: { street: 1 } }),
    fatal: () => new FatalError('gone', { code: 'gone' }),
    nothing: () => 'just text',
  };
  const worker = make({ concurrency: 1 }).on('t', (job) => {
    throw errors[job.payload as string]!();
  });
  const running = worker.run();
  const peer = await server.peer();
  await peer.subscribed();

  const jobs = Object.keys(errors).map((payload) => leased(payload, { payload }));
  peer.send({ jobs: [...jobs, leased('x', { type: 'x' })] });

  const reports = await peer.reportsOf(5);
  assert.deepEqual(
    reports.map(({ error }) => [error.class, error.code, error.message]),
    [
      ['retryable', 'RangeError', 'too far'],
      ['user', 'bad_address', 'no such street'],
      ['fatal', 'gone', 'gone'],
      ['retryable', 'thrown', 'just text'],
      ['retryable', 'unknown_type', 'this worker has no handler for the type x'],
    ],
  );
  assert.deepEqual(reports[1]!['error'].detail, { street: 1 });
  await end(worker, running, peer);
});

test('whatever a handler throws or gives back, it is about its own job', async () => {
  const odd: Record<string, () => unknown> = {
    number: () => {
      throw new RetryableError('busy', { code: 42 as never });
    },
    nameless: () => {
      throw Object.assign(new Error('who am I'), { name: undefined });
    },
    shapeless: async () => {
      throw Object.assign(new Error(), { message: Object.create(null) as unknown });
    },
    nothing: async () => {
      throw null;
    },
    throwing: () => ({
      then: () => {
        throw new RangeError('too far');
      },
    }),
    twice: () => ({
      then: (resolve: (value: number) => void) => {
        resolve(1);
        resolve(2);
      },
    }),
  };
  const worker = make({ concurrency: 1 }).on('t', (job) => odd[job.id]!());
  const running = worker.run();
  const peer = await server.peer();
  await peer.subscribed();

  peer.send({ jobs: Object.keys(odd).map((id) => leased(id)) });

  const reports = await peer.reportsOf(6);
  assert.deepEqual(
    reports.map(({ id, error, result }) => [id, error?.code, error?.message ?? result]),
    [
      ['number', '42', 'busy'],
      ['nameless', 'undefined', 'who am I'],
      ['shapeless', 'Error', 'something that cannot be shown'],
      ['nothing', 'thrown', 'null'],
      ['throwing', 'RangeError', 'too far'],
      ['twice', undefined, 1],
    ],
  );
  assert.equal(worker.load.running, 0);
  await end(worker, running, peer);
});

test('a result that is no JSON fails its own job and no other', async () => {
  const circle: any = {};
  circle.self = circle;
  const results: Record<string, unknown> = { circle, bigint: 1n, large: 'x'.repeat(8 * 1024 * 1024), good: [1] };
  const worker = make().on('t', (job) => results[job.id]);
  const running = worker.run();
  const peer = await server.peer();
  await peer.subscribed();

  peer.send({ jobs: Object.keys(results).map((id) => leased(id)) });

  assert.deepEqual(
    (await peer.reportsOf(4)).map(({ id, outcome, error }) => [id, outcome, error?.code]),
    [
      ['circle', 'failed', 'result_not_json'],
      ['bigint', 'failed', 'result_not_json'],
      ['large', 'failed', 'result_too_large'],
      ['good', 'completed', undefined],
    ],
  );
  await end(worker, running, peer);
});

test('whatever a handler says is cut to what a message can hold', async () => {
  const worker = make().on('t', async (_job, ctx) => {
    ctx.log(...Array.from({ length: 900 }, () => 'x'.repeat(100_000)));
    await assert.rejects(ctx.checkpoint('x'.repeat(2_000_000)), { code: 'payload_too_large' });
    throw new UserError('y'.repeat(9_000_000), { detail: { long: 'z'.repeat(9_000_000) } });
  });
  const running = worker.run();
  const peer = await server.peer();
  await peer.subscribed();

  peer.send({ jobs: [leased('a')] });

  const [log, failed] = await peer.reportsOf(2);
  assert.equal(log!['lines'].length, 65);
  assert.match(log!['lines'][64], /^\(836 lines more/);
  assert.equal(failed!['error'].message.length, 8_192);
  assert.equal(failed!['error'].detail.length, 8_192);
  await end(worker, running, peer);
});

test('a message that is too large, with no word but the close, is no reason to send it for ever', async () => {
  const worker = make().on('t', () => 'large');
  const running = worker.run();
  const first = await server.peer();
  await first.subscribed();
  first.send({ jobs: [leased('a')] });
  await first.next('reports');
  first.close(1009);

  const second = await server.peer();
  await second.subscribed({ resumed: true });
  const [report] = await second.reports();
  assert.deepEqual([report!['outcome'], report!['error'].code], ['failed', 'report_refused']);
  await end(worker, running, second);
});

test('bytes come and go as bytes', async () => {
  const worker = make().on<Buffer>('t', (job) => Buffer.concat([job.payload, Buffer.from([255])]));
  const running = worker.run();
  const peer = await server.peer();
  await peer.subscribed();
  const { payload: _, ...job } = leased('a', { payload_base64: 'AQI=' });

  peer.send({ jobs: [job] });

  assert.equal((await peer.reports())[0]!['result_base64'], 'AQL/');
  await end(worker, running, peer);
});

test('a report for which the server ends the stream is found, and only its own job fails', async () => {
  const worker = make().on('t', (job) => job.id);
  const running = worker.run();
  let peer = await server.peer();
  await peer.subscribed();
  peer.send({ jobs: ['a', 'bad', 'c'].map((id) => leased(id)) });

  const settled: Record<string, string> = {};
  while (Object.keys(settled).length < 3) {
    const reports = (await peer.next('reports')) as Array<Record<string, any>>;
    if (reports.some(({ id, outcome }) => id === 'bad' && outcome === 'completed')) {
      peer.send({ error: problem('invalid_field', 'user') });
      peer.close(1008);
      peer = await server.peer();
      await peer.subscribed({ resumed: true });
      continue;
    }
    for (const report of reports) settled[report['id']] = report['error']?.code ?? report['outcome'];
    peer.send({ reports: reports.map(({ id }) => ({ id, ok: true })) });
  }

  assert.deepEqual(settled, { a: 'completed', bad: 'report_refused', c: 'completed' });
  await end(worker, running, peer);
});

test('a report whose answer was under way is not taken for the one that was refused', async () => {
  const worker = make({ concurrency: 1 }).on('t', (job) => job.id);
  const running = worker.run();
  let peer = await server.peer();
  await peer.subscribed();
  peer.send({ jobs: [leased('good')] });
  await peer.next('reports'); // Its answer does not come in time.
  peer.send({ jobs: [leased('bad')] });
  await peer.next('reports');
  peer.send({ error: problem('invalid_field', 'user') });
  peer.close(1008);

  peer = await server.peer();
  await peer.subscribed({ resumed: true });
  const [good, ...others] = await peer.reports();
  assert.deepEqual([good!['id'], good!['outcome'], others], ['good', 'completed', []]);
  const bad = await peer.next('reports');
  assert.deepEqual([bad.length, bad[0].id, bad[0].outcome], [1, 'bad', 'completed']);
  peer.send({ error: problem('invalid_field', 'user') });
  peer.close(1008);

  peer = await server.peer();
  await peer.subscribed({ resumed: true });
  const [report] = await peer.reports();
  assert.deepEqual([report!['id'], report!['error'].code], ['bad', 'report_refused']);
  await end(worker, running, peer);
});

test('while a report is under suspicion, nothing else is under way', async () => {
  const worker = make({ concurrency: 1 }).on('t', (job) => job.id);
  const running = worker.run();
  let peer = await server.peer();
  await peer.subscribed();
  peer.send({ jobs: [leased('a'), leased('b')] });
  await peer.next('reports');
  peer.send({ error: problem('invalid_field', 'user') });
  peer.close(1008);

  peer = await server.peer();
  await peer.subscribed({ resumed: true });
  const [a] = await peer.next('reports');
  peer.send({ jobs: [leased('c')] });
  await peer.heard();
  peer.send({ reports: [{ id: a.id, ok: true }] });

  const rest = [];
  while (rest.length < 2) {
    const reports = await peer.reports();
    assert.equal(reports.length, 1);
    rest.push(reports[0]!['id']);
  }
  assert.deepEqual([a.id, ...rest], ['a', 'b', 'c']);
  await end(worker, running, peer);
});

test('what a handler may not send is its own error', async () => {
  const told: unknown[] = [];
  const worker = make().on('t', (job, ctx) => {
    const wrongs: Array<() => void> = [
      () => ctx.cache('k'.repeat(513), 1),
      () => ctx.cache('', 1),
      () => ctx.cache('line\nbreak', 1),
      () => ctx.cache('half a pair \ud83c', 1),
      () => ctx.cache('k', 1, { tags: ['a space'] }),
      () => ctx.cache('k', 1, { tags: Array.from({ length: 21 }, (_, i) => `t${i}`) }),
      () => ctx.cache('k', 1, { fresh: '200d', stale: '200d' }),
      () => ctx.cache('k', Buffer.from('1'), { contentType: 'text/plain\r\nX: y' }),
    ];
    for (const wrong of wrongs) {
      try {
        wrong();
      } catch (error) {
        told.push((error as UserError).field);
      }
    }
    ctx.cache('k'.repeat(512), 1, { fresh: '364d', tags: ['a', 'b.c:d'] });
    if (job.id === 'later') throw new RetryableError('busy', { code: 'busy', retryIn: '99999999d' });
  });
  const running = worker.run();
  const peer = await server.peer();
  await peer.subscribed();
  peer.send({ jobs: [leased('a')] });
  assert.equal((await peer.reports())[0]!['outcome'], 'completed');
  assert.deepEqual(told, ['key', 'key', 'key', 'key', 'tags', 'tags', 'stale', 'contentType']);

  peer.send({ jobs: [leased('later')] });
  const [later] = await peer.reports();
  assert.deepEqual([later!['error'].code, later!['retry_in']], ['busy', undefined]);
  await end(worker, running, peer);
});

test('what is cut is cut at a whole character, and half a character is replaced', async () => {
  const pair = '\u{1f389}';
  const half = pair[0]!;
  const worker = make()
    .on('error', () => {
      const error = new Error(`${'x'.repeat(8_191)}${pair}`);
      error.stack = `${'s'.repeat(3_999)}${pair}`;
      throw error;
    })
    .on('said', (_job, ctx) => {
      ctx.log('y'.repeat(4_095) + pair, half);
      ctx.progress(1, 'z'.repeat(8_191) + pair);
    })
    .on('half', () => {
      throw new UserError(`a ${half} b`, { detail: { [half]: half, text: '\\ud83c', long: pair } });
    })
    .on('long', () => {
      throw new UserError('', { detail: 'd'.repeat(8_190) + pair });
    });
  const running = worker.run();
  const peer = await server.peer();
  await peer.subscribed();
  const said = async (type: string, count: number) => {
    peer.send({ jobs: [leased(type, { type })] });
    return peer.reportsOf(count);
  };

  const [error] = await said('error', 1);
  assert.deepEqual(error!['error'].message, 'x'.repeat(8_191));
  assert.deepEqual(error!['error'].detail, { stack: 's'.repeat(3_999) });

  const [lines, progress] = await said('said', 3);
  assert.deepEqual(lines!['lines'], ['y'.repeat(4_095), '\ufffd']);
  assert.equal(progress!['message'], 'z'.repeat(8_191));

  const [halves] = await said('half', 1);
  assert.equal(halves!['error'].message, 'a \ufffd b');
  assert.deepEqual(halves!['error'].detail, { '\ufffd': '\ufffd', text: '\\ud83c', long: pair });

  const [long] = await said('long', 1);
  assert.equal(long!['error'].detail, `"${'d'.repeat(8_190)}`);
  await end(worker, running, peer);
});

test('a report that the server cannot decide just now is sent again', async () => {
  const worker = make().on('t', () => 1);
  const running = worker.run();
  const peer = await server.peer();
  await peer.subscribed();
  peer.send({ jobs: [leased('a')] });

  const first = await peer.reports({ ok: false, error: problem('outcome_unknown', 'retryable') });

  assert.deepEqual(await peer.reports(), first);
  await end(worker, running, peer);
});

/** A server that answers nothing, and turns of a worker that go round when the test says so. */
async function silence(context: TestContext) {
  context.mock.timers.enable({ apis: ['setInterval'] });
  const quiet = await FakeStreamServer.start({ autoPong: false });
  context.after(() => quiet.stop());
  const turns = (count: number) => context.mock.timers.tick(count * 5_000);
  return { quiet, turns };
}

/** The worker's end, though the server says nothing. */
async function leave(worker: Worker, running: Promise<void>): Promise<void> {
  await worker.stop({ timeout: 1 });
  await running;
}

test('a quiet server is asked whether it is there, and left where it does not answer', async (context) => {
  const { quiet, turns } = await silence(context);
  const worker = make({ url: quiet.url });
  const running = worker.run();
  const silent = await quiet.peer();
  await silent.subscribed();

  turns(11);
  await silent.heard(); // A word of the server, from which it counts anew.
  assert.equal(silent.pings, 0);
  turns(12);
  await eventually(() => silent.pings === 1);
  turns(2);
  await silent.closed;

  const next = await quiet.peer();
  await next.subscribed();
  await end(worker, running, next);
});

test('where nobody is between, a quiet server is left to the kernel until jobs are held', async (context) => {
  const { quiet, turns } = await silence(context);
  const keepAlive = context.mock.method(Socket.prototype, 'setKeepAlive');
  context.mock.method(Math, 'random', () => 0.51); // Each has another second of the second minute.
  const { promise, open } = gate();
  const worker = make({ url: quiet.url }).on('t', () => promise);
  const running = worker.run();
  const peer = await quiet.peer();
  await peer.subscribed({ direct: true });
  assert.deepEqual(
    keepAlive.mock.calls.map((call) => call.arguments),
    [[true, 90_000]],
  );

  turns(100);
  await peer.heard();
  assert.equal(peer.pings, 0);

  peer.send({ jobs: [leased('a')] });
  await eventually(() => worker.load.running === 1);
  turns(2);
  await eventually(() => peer.pings === 1);
  turns(2);
  await peer.closed;
  open();
  await leave(worker, running);
});

test('the kernel is asked for nothing where the server does not say that nobody is between', async (context) => {
  const keepAlive = context.mock.method(Socket.prototype, 'setKeepAlive');
  const worker = make();
  const running = worker.run();
  const peer = await server.peer();

  await peer.subscribed();

  assert.equal(keepAlive.mock.callCount(), 0);
  await end(worker, running, peer);
});

test('a server that owes an answer is watched though nobody is between and no job is held', async (context) => {
  const { quiet, turns } = await silence(context);
  const [saved, lost] = [gate(), gate()];
  const worker = make({ url: quiet.url }).on('t', async (_job, ctx) => {
    void ctx.checkpoint(1).catch(() => lost.open());
    await saved.promise;
    ctx.log('one more');
    await new Promise(() => {});
  });
  const running = worker.run();
  const peer = await quiet.peer();
  await peer.subscribed({ direct: true });
  peer.send({ jobs: [leased('a')] });
  const [checkpoint] = (await peer.next('reports')) as Message[];
  saved.open();
  await peer.next('reports'); // It gets no answer.
  peer.send({ reports: [{ id: checkpoint!['id'], ok: false, error: problem('lease_lost', 'user', 409) }] });
  await lost.promise;
  await peer.heard();

  turns(2);
  await eventually(() => peer.pings === 1);
  turns(2);
  await peer.closed;

  await leave(worker, running);
});

test('a worker whom the server will not have ends with its error', async () => {
  const refused = [
    { status: 401, body: JSON.stringify(problem('unauthorized', 'user', 401)) },
    { status: 403, body: JSON.stringify(problem('forbidden', 'user', 403)) },
  ];
  for (const refusal of refused) {
    server.refusals = [refusal];
    await assert.rejects(make().run(), { code: JSON.parse(refusal.body).code, status: refusal.status });
  }

  const running = make({ queues: ['no name!'] }).run();
  const peer = await server.peer();
  await peer.next('subscribe');
  peer.send({ error: { ...problem('invalid_field', 'user'), field: 'subscribe.queues[0]' } });
  peer.close(1008);
  await assert.rejects(running, { code: 'invalid_field', field: 'subscribe.queues[0]' });
});

test('a worker whom the server cannot have just now comes again', async () => {
  server.refusals = [
    { status: 503, headers: { 'retry-after': '0' }, body: JSON.stringify(problem('overloaded', 'retryable', 503)) },
    { status: 502, body: '<html>a proxy</html>' },
  ];
  const worker = make();
  const codes: string[] = [];
  worker.events.on('disconnected', (error) => codes.push(error.code));
  const running = worker.run();

  const peer = await server.peer();
  await peer.subscribed();

  assert.deepEqual(codes, ['overloaded', 'no_server']);
  await end(worker, running, peer);
});

test('stopping gives back what has not begun, and waits for what has', async () => {
  const { promise, open } = gate();
  const worker = make({ concurrency: 1 }).on('t', () => promise);
  const running = worker.run();
  const peer = await server.peer();
  await peer.subscribed();
  peer.send({ jobs: [leased('runs'), leased('waits')] });
  await eventually(() => worker.load.running === 1);

  const stopping = worker.stop();
  assert.deepEqual(
    (await peer.reports()).map(({ id, outcome }) => [id, outcome]),
    [['waits', 'released']],
  );
  await peer.next('drain');
  peer.send({ jobs: [leased('late')] }); // It was on its way.
  assert.equal((await peer.reports())[0]!['outcome'], 'released');
  open();
  assert.equal((await peer.reports())[0]!['outcome'], 'completed');
  peer.send({ drained: true });

  await stopping;
  await running;
});

test('a worker that stops while it is cut off comes back once more, to report', async () => {
  const { promise, open } = gate();
  const worker = make().on('t', () => promise);
  const running = worker.run();
  const first = await server.peer();
  await first.subscribed();
  first.send({ jobs: [leased('a')] });
  await eventually(() => worker.load.running === 1);
  server.refusals = [{ status: 503, body: JSON.stringify(problem('shutting_down', 'retryable', 503)) }];

  first.cut();
  await first.closed;
  const stopping = worker.stop();
  open();

  const second = await server.peer();
  assert.equal((await second.subscribed({ resumed: true }))['credit'], 0);
  assert.equal((await second.reports())[0]!['outcome'], 'completed');
  second.send({ drained: true });
  await stopping;
  await running;
});

test('a handler that does not end in time is told to stop, and left', async () => {
  const told = gate<unknown>();
  const worker = make().on('t', async (_job, ctx) => {
    ctx.signal.addEventListener('abort', () => told.open(ctx.signal.reason));
    await new Promise(() => {});
  });
  const running = worker.run();
  const peer = await server.peer();
  await peer.subscribed();
  peer.send({ jobs: [leased('a')] });
  await eventually(() => worker.load.running === 1);

  await worker.stop({ timeout: 10 });

  assert.equal(((await told.promise) as FatalError).code, 'shutting_down');
  await running;
  await peer.closed;
});

test('middleware goes around every handler, the first one outermost', async () => {
  const order: string[] = [];
  const worker = make()
    .use(async (job, _ctx, next) => {
      order.push(`outer ${job.id}`);
      const result = await next();
      order.push('outer again');
      return { wrapped: result };
    })
    .use((_job, _ctx, next) => {
      order.push('inner');
      return next();
    })
    .on('t', () => {
      order.push('handler');
      return 1;
    });
  const running = worker.run();
  const peer = await server.peer();
  await peer.subscribed();

  peer.send({ jobs: [leased('a')] });

  assert.deepEqual((await peer.reports())[0]!['result'], { wrapped: 1 });
  assert.deepEqual(order, ['outer a', 'inner', 'handler', 'outer again']);
  await end(worker, running, peer);
});
