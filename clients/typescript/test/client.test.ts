// The client against the real server.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Client, JobFailedError, WorkmillError, type NewJob } from 'workmill';
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

test('a job that is sent can be read back, as it was meant', async () => {
  const sent = await client.enqueue(
    'thumbnail',
    { file: 'ä.png' },
    {
      queue: 'sent',
      priority: 9,
      delay: 3_600_000,
      backoff: { first: 250, factor: 3 },
      unique: { key: 'k', for: '2h' },
      keepResult: '1d',
      expiresIn: '2d',
      maxAttempts: 3,
      tags: ['nightly'],
      meta: { max_size: 7 },
    },
  );

  assert.equal(sent.state, 'scheduled');
  const job = await client.get<{ file: string }>(sent.id);
  assert.equal(job.payload.file, 'ä.png');
  assert.deepEqual(
    [job.queue, job.priority, job.delay, job.maxAttempts, job.keepResult, job.expiresIn, job.tags, job.unique],
    ['sent', 9, '1h', 3, '1d', '2d', ['nightly'], { key: 'k', for: '2h', while: 'unfinished' }],
  );
  assert.equal(job.backoff?.first, '250ms');
  assert.deepEqual(job.meta, { max_size: 7 }); // What is the user's own is left as it is.
});

test('a date is a time, and bytes are bytes', async () => {
  const { id } = await client.enqueue('t', Buffer.from([0, 255]), { runAt: new Date('2100-01-01T00:00:00Z') });

  const job = await client.get(id);

  assert.equal(job.runAt, '2100-01-01T00:00:00.000Z');
  assert.deepEqual(job.payload, Buffer.from([0, 255]));
});

test('many jobs go out in several calls, and come back in order', async () => {
  function* jobs(): Generator<NewJob> {
    for (let i = 0; i < 10_050; i += 1) yield { type: 't', queue: 'many', id: `many-${i}` };
  }

  const answers = await client.enqueueMany(jobs());

  assert.equal(answers.length, 10_050);
  assert.equal(answers[10_049]?.id, 'many-10049');
  assert.equal((await client.queue('many')).depth.ready, 10_050);
  assert.deepEqual(await client.enqueueMany([]), []);
});

test('where the second call of many is refused, the error says what the first one was answered', async () => {
  const jobs: NewJob[] = Array.from({ length: 10_001 }, (_, i) => ({ type: 't', queue: 'part', id: `part-${i}` }));
  jobs[10_000]!.priority = 77;

  await assert.rejects(client.enqueueMany(jobs), (error: WorkmillError) => {
    assert.equal(error.enqueued?.length, 10_000);
    assert.equal(error.field, 'jobs[10000].priority');
    return true;
  });
});

test('the same idempotency key enqueues once', async () => {
  const key = { idempotencyKey: 'say "once" \\' };

  const first = await client.enqueue('t', 1, { queue: 'once' }, key);
  const second = await client.enqueue('t', 1, { queue: 'once' }, key);

  assert.equal(second.id, first.id);
  await assert.rejects(client.enqueue('t', 2, { queue: 'once' }, key), { code: 'idempotency_key_reused' });
});

test('a key holds for many jobs, in however many calls they go', async () => {
  const jobs = Array.from({ length: 10_001 }, (_, i) => ({ type: 't', queue: 'keyed', payload: i }));
  const others = [{ type: 't', queue: 'keyed', payload: 'other' }];

  for (const idempotencyKey of ['k', 'k'.repeat(253), 'k'.repeat(255)]) {
    const first = await client.enqueueMany(jobs, { idempotencyKey });
    assert.deepEqual(await client.enqueueMany(jobs, { idempotencyKey }), first);
    await assert.rejects(client.enqueueMany(others, { idempotencyKey }), { code: 'idempotency_key_reused' });
  }
  assert.equal((await client.queue('keyed')).depth.ready, 3 * 10_001);
});

test('what is no key is refused before anything is sent', async () => {
  const refused = { code: 'invalid_field', field: 'idempotencyKey' };
  const jobs = [{ type: 't', queue: 'no key' }];
  for (const idempotencyKey of ['', 'k'.repeat(256), 'kü', 'a\nb']) {
    await assert.rejects(client.enqueue('t', null, { queue: 'no-key' }, { idempotencyKey }), refused);
    await assert.rejects(client.enqueueMany(jobs, { idempotencyKey }), refused);
  }
});

test('hooks see each job before it is sent, and may change it', async () => {
  const seen: string[] = [];
  const hooking = new Client({
    url: server.url,
    onEnqueue: [
      (job) => {
        job.meta = { ...job.meta, tenant: 't1' };
      },
      async (job) => {
        await Promise.resolve();
        seen.push(`${job.type} ${job.meta?.['tenant']}`);
        job.queue = 'hooked';
      },
    ],
  });
  const options = { meta: { user: 'ada' } };

  const { id } = await hooking.enqueue('one', { n: 1 }, options);
  await hooking.enqueueMany([{ type: 'two' }, { type: 'three', queue: 'other' }]);
  await assert.rejects(hooking.cache.getOrCompute('hooked', { type: 'four' }, { wait: 0 }), { code: 'cache_pending' });

  assert.deepEqual(seen, ['one t1', 'two t1', 'three t1', 'four t1']);
  assert.deepEqual(
    [(await client.get(id)).meta, (await client.get(id)).payload],
    [{ user: 'ada', tenant: 't1' }, { n: 1 }],
  );
  assert.equal((await client.queue('hooked')).depth.ready, 4);
  assert.deepEqual(options, { meta: { user: 'ada' } });
  hooking.close();
});

test('what a hook throws is the error of the enqueue, and nothing is sent', async () => {
  const refusing = new Client({
    url: server.url,
    onEnqueue: [
      () => {
        throw new RangeError('not on a Sunday');
      },
    ],
  });

  await assert.rejects(refusing.enqueue('t', null, { queue: 'sunday' }), RangeError);
  await assert.rejects(refusing.enqueueMany([{ type: 't', queue: 'sunday' }]), RangeError);

  await assert.rejects(client.queue('sunday'), { code: 'not_found' });
  refusing.close();
});

test('what goes wrong with a later job of many says what those before it were answered', async () => {
  const refusing = new Client({
    url: server.url,
    onEnqueue: [
      (job) => {
        if (job.type === 'sunday') throw new RangeError('not on a Sunday');
        if (job.type === 'monday') throw Object.freeze(new RangeError('not on a Monday'));
      },
    ],
  });
  function* jobs(queue: string, last: NewJob | undefined): Generator<NewJob> {
    for (let i = 0; i < 10_001; i += 1) yield { type: 't', queue };
    if (last === undefined) throw new TypeError('no more');
    yield last;
  }
  const cases: Array<[string, NewJob | undefined, string]> = [
    ['by-hook', { type: 'sunday' }, 'RangeError'],
    ['by-jobs', undefined, 'TypeError'],
    ['by-payload', { type: 't', payload: () => 1 }, 'UserError'],
  ];

  for (const [queue, last, name] of cases) {
    await assert.rejects(refusing.enqueueMany(jobs(queue, last)), (error: WorkmillError) => {
      assert.deepEqual([error.name, error.enqueued?.length], [name, 10_000]);
      return true;
    });
    assert.equal((await client.queue(queue)).depth.ready, 10_000);
  }
  await assert.rejects(refusing.enqueueMany([{ type: 'monday' }]), { message: 'not on a Monday' });
  refusing.close();
});

test('an error has class, code, field and trace', async () => {
  await assert.rejects(client.enqueue('t', null, { priority: 10 }), (error: WorkmillError) => {
    assert.equal(error.name, 'UserError');
    assert.deepEqual([error.class, error.code, error.field, error.status], ['user', 'invalid_field', 'priority', 400]);
    assert.match(error.traceId!, /^[0-9a-f]{32}$/);
    return true;
  });
  await assert.rejects(client.get('nobody'), { code: 'job_not_found', class: 'user' });
  await assert.rejects(client.enqueue('t', null, { colour: 'red' } as object), { field: 'colour' });
  await assert.rejects(
    client.enqueue('t', () => 1),
    { code: 'invalid_field', field: 'payload' },
  );
  assert.throws(() => new Client({ url: 'ftp://x' }), { code: 'invalid_field', field: 'url' });
});

test('lease and report, the low level: each report is decided for itself', async () => {
  const { id } = await client.enqueue('t', { n: 1 }, { queue: 'low' });
  const { jobs } = await client.lease({ queues: ['low'], max: 5, wait: '20s', lease: 30_000, worker: 'me' });
  assert.deepEqual(
    jobs.map((job) => [job.id, job.payload, job.attempt, job.maxAttempts]),
    [[id, { n: 1 }, 1, 20]],
  );
  const lease = jobs[0]!.lease;

  const results = await client.report([
    { id, lease, outcome: 'progress', percent: 50 },
    { id, lease, outcome: 'failed', error: { class: 'retryable', code: 'later' }, retryIn: '1h' },
    { id, lease, outcome: 'completed' },
  ]);

  assert.deepEqual(
    results.map(({ ok, error }) => error?.code ?? ok),
    [true, true, 'lease_lost'],
  );
  assert.equal((await client.get(id)).state, 'scheduled');
});

test('a result can be waited for', async () => {
  const { id } = await client.enqueue('t', null, { queue: 'wait' });
  const waiting = client.result<number>(id, { timeout: '60s' });

  const { jobs } = await client.lease({ queues: ['wait'] });
  await client.report([{ id, lease: jobs[0]!.lease, outcome: 'completed', result: 42 }]);

  assert.equal(await waiting, 42);
});

test('who waits for a result of a job that comes to another end gets its error', async () => {
  const { id } = await client.enqueue('t', null, { queue: 'dead' });
  const { jobs } = await client.lease({ queues: ['dead'] });
  const error = { class: 'fatal', code: 'gone', message: 'no more' } as const;
  await client.report([{ id, lease: jobs[0]!.lease, outcome: 'failed', error }]);

  await assert.rejects(client.result(id), (failed: JobFailedError) => {
    assert.ok(failed instanceof JobFailedError);
    assert.deepEqual([failed.code, failed.class, failed.job.state], ['gone', 'fatal', 'dead']);
    return true;
  });
});

test('a wait whose time is over answers the job as it is', async () => {
  const { id } = await client.enqueue('t', null, { queue: 'still' });

  assert.equal((await client.waitFor(id, { timeout: 1 })).state, 'ready');
  await assert.rejects(client.result(id, { timeout: 1 }), { code: 'not_finished' });
});

test('a wait goes on over a restart of the server', async () => {
  const own = await new Server().start();
  const patient = new Client({ url: own.url });
  const { id } = await patient.enqueue('t');
  const waiting = patient.waitFor(id);

  await own.stop('SIGKILL');
  await own.start();
  const { jobs } = await patient.lease({ queues: ['default'], wait: '30s' });
  await patient.report([{ id, lease: jobs[0]!.lease, outcome: 'completed' }]);

  assert.equal((await waiting).state, 'completed');
  patient.close();
  await own.remove();
});

test('a call that is given up rejects with the reason of its signal', async () => {
  const stop = new AbortController();
  const waiting = client.lease({ queues: ['nothing'], wait: '5m' }, { signal: stop.signal });

  stop.abort(new Error('enough'));

  await assert.rejects(waiting, { message: 'enough' });
  await assert.rejects(client.get('x', { signal: AbortSignal.abort(new Error('before')) }), { message: 'before' });
});

test('lists are fetched page by page, as far as somebody reads', async () => {
  await client.enqueueMany(Array.from({ length: 7 }, (_, i) => ({ type: 't', queue: 'pages', tags: [`n${i}`] })));

  const tags: string[] = [];
  for await (const job of client.list({ queue: 'pages' }, { pageSize: 3 })) tags.push(job.tags![0]!);
  assert.deepEqual(tags, ['n6', 'n5', 'n4', 'n3', 'n2', 'n1', 'n0']);

  for await (const job of client.list({ tag: 'n2' })) assert.equal(job.queue, 'pages');
  const names: string[] = [];
  for await (const queue of client.queues({ pageSize: 1 })) names.push(queue.name);
  assert.ok(names.includes('pages'));
});

test('jobs and queues can be changed', async () => {
  const { id } = await client.enqueue('t', null, { queue: 'change' });

  assert.equal((await client.update(id, { priority: 9, runAt: new Date('2100-01-01T00:00:00Z') })).state, 'scheduled');
  await client.retry(id);
  assert.equal((await client.get(id)).state, 'ready');
  await client.cancel(id);
  assert.equal(await client.bulk('retry', { queue: 'change', state: 'cancelled' }), 1);
  const queue = await client.updateQueue('change', { paused: true, maxDepth: 1 });
  assert.deepEqual([queue.paused, queue.settings.maxDepth], [true, 1]);
  await assert.rejects(
    new Client({ url: server.url, retry: { attempts: 1 } }).enqueue('t', null, { queue: 'change' }),
    {
      code: 'queue_full',
      class: 'retryable',
    },
  );
  assert.deepEqual(await client.log(id), []);
  assert.equal(await client.purge('change', 'ready'), 1);
  await assert.rejects(client.delete(id), { code: 'job_not_found' });
  assert.equal((await client.status()).readiness, 'ready');
});
