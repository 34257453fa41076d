// The helpers for other programs' tests.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { JobFailedError, UserError, Worker, type WorkmillApi } from 'workmill';
import { FakeWorkmill } from 'workmill/testing';

const quiet = { logger: false } as const;

test('drain runs what is queued, by a worker that never meets a server', async () => {
  const fake = new FakeWorkmill();
  const worker = new Worker({ queues: ['mail'], ...quiet });
  worker.on<{ to: string }, string>('greet', async (job, ctx) => {
    ctx.progress(50, 'half');
    ctx.log('greeting');
    return `Hello, ${job.payload.to}`;
  });
  const signUp = (api: WorkmillApi, to: string) => api.enqueue('greet', { to }, { queue: 'mail' });

  const { id } = await signUp(fake, 'Ada');
  const { completed, failed } = await fake.drain(worker);

  assert.deepEqual([completed.length, failed.length], [1, 0]);
  assert.equal(await fake.result(id), 'Hello, Ada');
  assert.deepEqual((await fake.get(id)).progress, { percent: 50, message: 'half' });
  assert.deepEqual(await fake.log(id), ['greeting']);
});

test('delayed jobs wait until the clock is turned', async () => {
  const fake = new FakeWorkmill();
  const worker = new Worker(quiet).on('t', () => 1);
  const { id } = await fake.enqueue('t', null, { delay: '1h' });

  await fake.drain(worker);
  assert.equal((await fake.get(id)).state, 'scheduled');
  fake.clock.advance('59m');
  await fake.drain(worker);
  assert.equal((await fake.get(id)).state, 'scheduled');
  fake.clock.advance('1m');
  await fake.drain(worker);
  assert.equal((await fake.get(id)).state, 'completed');
});

test('what fails is tried again by its backoff, and is dead after its attempts', async () => {
  const fake = new FakeWorkmill();
  const attempts: Array<[number, string]> = [];
  const worker = new Worker(quiet).on('t', (job) => {
    attempts.push([job.attempt, fake.clock.now.toISOString().slice(11, 19)]);
    throw new RangeError('too far');
  });
  const { id } = await fake.enqueue('t', null, { maxAttempts: 3, backoff: { first: '10s', factor: 2 } });

  const { failed } = await fake.drain(worker, { advance: true });

  assert.deepEqual(attempts, [
    [1, '00:00:00'],
    [2, '00:00:10'],
    [3, '00:00:30'],
  ]);
  assert.deepEqual(
    failed.map(({ state }) => state),
    ['scheduled', 'scheduled', 'dead'],
  );
  await assert.rejects(fake.result(id), (error: JobFailedError) => error.job.errors?.length === 3);
  await fake.retry(id);
  assert.equal((await fake.get(id)).state, 'ready');
});

test('an error of class user ends a job, as the server does', async () => {
  const fake = new FakeWorkmill();
  const worker = new Worker(quiet).on('t', () => {
    throw new UserError('no such street', { code: 'bad_address' });
  });
  const { id } = await fake.enqueue('t');

  await fake.drain(worker);

  const job = await fake.get(id);
  assert.deepEqual([job.state, job.error?.class, job.error?.code], ['dead', 'user', 'bad_address']);
});

test('a unique key is held while its job is unfinished', async () => {
  const fake = new FakeWorkmill();
  const worker = new Worker(quiet).on('t', () => 1);
  const unique = { key: 'invoice-42' };

  const first = await fake.enqueue('t', 1, { unique });
  assert.deepEqual(await fake.enqueue('t', 2, { unique }), { id: first.id, state: 'ready', duplicate: true });
  assert.equal((await fake.enqueue('t', 2, { unique, queue: 'other' })).duplicate, false);

  await fake.drain(worker);
  assert.equal((await fake.enqueue('t', 3, { unique })).duplicate, false);
});

test('a checkpoint is there in the next attempt', async () => {
  const fake = new FakeWorkmill();
  const worker = new Worker(quiet).on('t', async (job, ctx) => {
    if (job.checkpoint) return job.checkpoint;
    await ctx.checkpoint({ row: 700 });
    throw new Error('cut off');
  });
  const { id } = await fake.enqueue('t');

  await fake.drain(worker, { advance: true });

  assert.deepEqual(await fake.result(id), { row: 700 });
});

test('jobs come by priority, and then in their order', async () => {
  const fake = new FakeWorkmill();
  const seen: unknown[] = [];
  const worker = new Worker({ queues: ['a', 'b'], ...quiet }).on('t', (job) => void seen.push(job.payload));
  await fake.enqueueMany([
    { type: 't', queue: 'b', payload: 'b' },
    { type: 't', queue: 'a', payload: 'low', priority: 1 },
    { type: 't', queue: 'a', payload: 'first' },
    { type: 't', queue: 'a', payload: 'second' },
  ]);

  await fake.drain(worker);

  assert.deepEqual(seen, ['first', 'second', 'low', 'b']);
});

test('a job that enqueues itself does not go on for ever', async () => {
  const fake = new FakeWorkmill();
  const worker = new Worker(quiet).on('t', async () => {
    await fake.enqueue('t');
  });
  await fake.enqueue('t');

  await assert.rejects(fake.drain(worker, { limit: 20 }), { code: 'drain_limit' });
});

test('what the server refuses the fake refuses, with the same code', async () => {
  const fake = new FakeWorkmill();

  await assert.rejects(fake.enqueue('t', null, { priority: 10 }), { code: 'invalid_field', field: 'priority' });
  await assert.rejects(fake.enqueue('t', null, { colour: 'red' } as object), { code: 'unknown_field' });
  await assert.rejects(fake.enqueue('no type!'), { code: 'invalid_field', field: 'type' });
  await assert.rejects(fake.get('nobody'), { code: 'job_not_found' });
  await fake.updateQueue('small', { maxDepth: 1 });
  await fake.enqueue('t', null, { queue: 'small' });
  await assert.rejects(fake.enqueue('t', null, { queue: 'small' }), { code: 'queue_full', class: 'retryable' });
});

test('many jobs at once are cancelled, tried again and forgotten, and counted', async () => {
  const workmill = new FakeWorkmill();
  for (const [queue, tags] of [
    ['a', ['x']],
    ['a', []],
    ['b', ['x']],
  ] as const) {
    await workmill.enqueue('t', 1, { queue, tags: [...tags] });
  }
  await workmill.enqueue('t', 1, { queue: 'leased' });
  await workmill.lease({ queues: ['leased'] });
  assert.equal(await workmill.bulk('cancel', { tag: 'x' }), 2);
  assert.equal(await workmill.bulk('retry', { queue: 'a' }), 1);
  assert.equal(await workmill.purge('b', 'ready'), 0);
  assert.equal(await workmill.purge('b'), 1);
  assert.equal(await workmill.purge('leased'), 0);
  await assert.rejects(workmill.bulk('delete', { q: 'x' } as object), { code: 'unknown_field', field: 'where.q' });

  const { jobs, queues, readiness } = await workmill.status();
  assert.deepEqual(
    [jobs, queues, readiness],
    [{ total: 3, scheduled: 0, ready: 2, leased: 1, completed: 0, dead: 0, cancelled: 0 }, 2, 'ready'],
  );
});

test('what is too large for the server is too large for the fake', async () => {
  const workmill = new FakeWorkmill();
  const most = 6 * 1024 * 1024;
  await workmill.enqueue('t', 'x'.repeat(most - 2));
  await workmill.enqueue('t', undefined);

  for (const payload of ['x'.repeat(most - 1), 'ä'.repeat(most / 2), new Uint8Array(most + 1)]) {
    await assert.rejects(workmill.enqueue('t', payload), { code: 'payload_too_large', field: 'payload', status: 413 });
  }
});

test('leases run out by the clock, and old tokens count for nothing', async () => {
  const fake = new FakeWorkmill();
  const { id } = await fake.enqueue('t');
  const first = await fake.lease({ queues: ['default'], lease: '10s' });
  fake.clock.advance('10s');
  const second = await fake.lease({ queues: ['default'] });
  assert.equal(second.jobs[0]?.attempt, 2);

  const results = await fake.report([
    { id, lease: first.jobs[0]!.lease, outcome: 'completed' },
    { id, lease: second.jobs[0]!.lease, outcome: 'completed', result: 'late but right' },
  ]);

  assert.deepEqual(
    results.map(({ ok, error }) => error?.code ?? ok),
    ['lease_lost', true],
  );
  assert.equal(await fake.result(id), 'late but right');
});

test('a leased job that is to be cancelled is so when its worker gives it up', async () => {
  const fake = new FakeWorkmill();
  const { id } = await fake.enqueue('t');
  const { jobs } = await fake.lease({ queues: ['default'] });

  await fake.cancel(id);
  const [result] = await fake.report([{ id, lease: jobs[0]!.lease, outcome: 'progress', percent: 1 }]);
  assert.equal(result?.cancelRequested, true);
  await fake.report([{ id, lease: jobs[0]!.lease, outcome: 'released' }]);

  assert.equal((await fake.get(id)).state, 'cancelled');
});

test('who waits is told when the job is finished, or when the time is over', async () => {
  const fake = new FakeWorkmill();
  const worker = new Worker(quiet).on('t', () => 5);
  const { id } = await fake.enqueue('t');

  const short = fake.waitFor(id, { timeout: '1s' });
  fake.clock.advance('1s');
  assert.equal((await short).state, 'ready');

  const waiting = fake.result(id);
  await fake.drain(worker);
  assert.equal(await waiting, 5);
});

test('hooks and keys are as those of the client', async () => {
  const fake = new FakeWorkmill({
    onEnqueue: [(job) => void (job.queue = 'q'), async (job) => void (job.priority = 9)],
  });
  const jobs = [{ type: 'a' }, { type: 'b' }];

  const { id } = await fake.enqueue('t', { n: 1 });
  const many = await fake.enqueueMany(jobs, { idempotencyKey: 'k' });
  const again = await fake.enqueueMany(jobs, { idempotencyKey: 'k' });
  await assert.rejects(fake.cache.getOrCompute('k', { type: 'c' }, { wait: 0 }), { code: 'cache_pending' });

  const { queue, priority, payload } = await fake.get(id);
  assert.deepEqual([queue, priority, payload], ['q', 9, { n: 1 }]);
  assert.deepEqual(again, many);
  assert.equal((await fake.queue('q')).depth.ready, 4);
  await assert.rejects(fake.enqueueMany([{ type: 'a' }], { idempotencyKey: 'k' }), { code: 'idempotency_key_reused' });
  await assert.rejects(fake.enqueue('t', null, {}, { idempotencyKey: 'kü' }), { code: 'invalid_field' });
});

test('many jobs are enqueued all or none, and an error says which one is at fault', async () => {
  const fake = new FakeWorkmill();

  await assert.rejects(fake.enqueueMany([{ type: 'a' }, { type: 'b', priority: 12 }]), {
    code: 'invalid_field',
    field: 'jobs[1].priority',
    enqueued: [],
  });

  assert.equal((await fake.status()).queues, 0);
});

test('a queue that has no room for all of many takes none of them', async () => {
  const fake = new FakeWorkmill();
  const job = { type: 't', queue: 'q' };
  await fake.updateQueue('q', { maxDepth: 3 });
  await fake.enqueue('t', null, { queue: 'q', id: 'there' });

  await assert.rejects(fake.enqueueMany([{ type: 't' }, job, job, job]), { code: 'queue_full', enqueued: [] });
  assert.deepEqual([(await fake.status()).jobs['total'], (await fake.queue('q')).depth.ready], [1, 1]);

  // Duplicates need no room.
  const unique = { key: 'k' };
  const many = [
    { ...job, id: 'there' },
    { ...job, id: 'a' },
    { ...job, id: 'a' },
    { ...job, unique },
    { ...job, unique },
  ];
  const answers = await fake.enqueueMany(many);
  assert.deepEqual(
    answers.map(({ duplicate }) => duplicate),
    [true, false, true, false, true],
  );
  assert.equal((await fake.queue('q')).depth.ready, 3);
  // A key that only a job which waits for its time holds is held by no job that is ready.
  const scheduled = { key: 's', while: 'scheduled' } as const;
  await fake.updateQueue('q', { maxDepth: 4 });
  await assert.rejects(fake.enqueueMany([1, 2].map(() => ({ ...job, unique: scheduled }))), { code: 'queue_full' });
  await fake.enqueueMany([1, 2].map(() => ({ ...job, unique: scheduled, delay: '1h' })));
  assert.deepEqual((await fake.queue('q')).depth, { ...none, ready: 3, scheduled: 1 });
});

const none = { scheduled: 0, ready: 0, leased: 0, completed: 0, dead: 0, cancelled: 0 };

test('where the oldest give way, many of a queue find room unless all are held by workers', async () => {
  const fake = new FakeWorkmill();
  const job = { type: 't', queue: 'q' };
  await fake.updateQueue('q', { maxDepth: 2, whenFull: 'drop_oldest' });
  await fake.enqueueMany([job, job]);

  await fake.enqueueMany([job, job, job]);
  assert.deepEqual((await fake.queue('q')).depth, { ...none, ready: 2, cancelled: 3 });

  await fake.lease({ queues: ['q'], max: 2 });
  await fake.updateQueue('other', { maxDepth: 1, whenFull: 'drop_oldest' });
  await fake.enqueueMany([{ type: 't', queue: 'other' }]);
  await assert.rejects(fake.enqueueMany([{ type: 't', queue: 'other' }, job]), { code: 'queue_full' });
  assert.deepEqual((await fake.queue('other')).depth, { ...none, ready: 1 });
});
