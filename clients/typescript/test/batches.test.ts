// Batches, as the client and the fake have them. Against the real server: clients/conformance.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { Client, FatalError, Worker, type NewBatch } from 'workmill';
import { FakeWorkmill } from 'workmill/testing';

const publish = { type: 'publish', queue: 'after' };
const report = { type: 'report', queue: 'after' };

function rows(isBad = false): Worker {
  return new Worker({ queues: ['q'], logger: false }).on('row', (job) => {
    assert.equal(job.batch, 'b');
    if (isBad && job.payload === 'bad') throw new FatalError('no such row', { code: 'no_row' });
    return null;
  });
}

async function fill(fake: FakeWorkmill, ...payloads: unknown[]): Promise<string[]> {
  const jobs = payloads.map((payload) => ({ type: 'row', queue: 'q', batch: 'b', payload }));
  return (await fake.enqueueMany(jobs)).map(({ id }) => id);
}

async function called(fake: FakeWorkmill): Promise<string[]> {
  const types: string[] = [];
  for await (const job of fake.list({ queue: 'after' })) types.unshift(job.type);
  return types;
}

test('the end of all jobs enqueues both callbacks once', async () => {
  const fake = new FakeWorkmill();
  const made = await fake.batches.create({
    id: 'b',
    onSuccess: publish,
    onFinish: { ...report, payload: 7 },
    meta: { import: 7 },
  });
  await fill(fake, 1, 2);
  assert.equal((await fake.drain(rows())).completed.length, 2);
  assert.deepEqual(await called(fake), []);

  const closed = await fake.batches.close('b');
  fake.clock.advance('1m');
  const again = await fake.batches.close('b');

  const seen = await fake.batches.get('b');
  assert.deepEqual(await called(fake), ['publish', 'report']);
  assert.deepEqual([made.total, made.closedAt, made.onFinish], [0, undefined, { state: 'waiting' }]);
  assert.deepEqual([closed.total, closed.completed, closed.closedAt], [2, 2, again.closedAt]);
  assert.deepEqual([seen.pending, seen.onSuccess?.state, seen.meta], [0, 'enqueued', { import: 7 }]);
  assert.equal((await fake.get(seen.onFinish!.job!)).payload, 7);
});

test('where one is dead only the end is told, until it is retried', async () => {
  const fake = new FakeWorkmill();
  await fake.batches.create({ id: 'b', onSuccess: publish, onFinish: report });
  await fill(fake, 'bad', 1);
  await fake.batches.close('b');

  await fake.drain(rows(true));
  assert.deepEqual(await called(fake), ['report']);
  const { dead, onSuccess } = await fake.batches.get('b');
  assert.deepEqual([dead, onSuccess], [1, { state: 'waiting' }]);

  assert.equal(await fake.bulk('retry', { batch: 'b', state: 'dead' }), 1);
  assert.equal((await fake.batches.get('b')).pending, 1);
  await fake.drain(rows());
  assert.deepEqual(await called(fake), ['report', 'publish']);
});

test('what is deleted or cancelled has ended', async () => {
  const fake = new FakeWorkmill();
  await fake.batches.create({ id: 'b', onSuccess: publish, onFinish: report });
  const [deleted, cancelled] = await fill(fake, 1, 2);
  await fake.batches.close('b');

  await fake.delete(deleted!);
  await fake.cancel(cancelled!);

  const { total, pending, onSuccess, ...seen } = await fake.batches.get('b');
  assert.deepEqual([total, pending, seen.deleted, seen.cancelled], [2, 0, 1, 1]);
  assert.deepEqual(onSuccess, { state: 'not_coming' });
  assert.deepEqual(await called(fake), ['report']);
});

test('a batch without jobs ends as it is closed, and one that is deleted calls nobody', async () => {
  const fake = new FakeWorkmill();
  const { id } = await fake.batches.create({ onFinish: report });
  await fake.batches.create({ id: 'b', onFinish: publish });

  await fake.batches.close(id);
  await fake.batches.delete('b');

  assert.deepEqual(await called(fake), ['report']);
  assert.equal((await fake.batches.get(id)).onSuccess, undefined);
  await assert.rejects(fake.batches.close('b'), { code: 'batch_not_found' });
});

test('jobs are not found by a batch that is not there', async () => {
  const fake = new FakeWorkmill();
  const where = { batch: 'nowhere' };

  await assert.rejects(fake.list(where).next(), { code: 'batch_not_found', field: 'batch' });
  await assert.rejects(fake.bulk('retry', where), { code: 'batch_not_found', field: 'where.batch' });
});

test('jobs of a batch that takes none are refused, all or none', async () => {
  const fake = new FakeWorkmill();
  await fake.batches.create({ id: 'closed', onFinish: report });
  const there = await fake.enqueue('row', null, { batch: 'closed', id: 'there' });
  await fake.batches.close('closed');

  for (const [batch, code] of [
    ['nowhere', 'batch_not_found'],
    ['closed', 'batch_closed'],
  ] as const) {
    const jobs = [
      { type: 'row', queue: 'new' },
      { type: 'row', queue: 'new', batch },
    ];
    await assert.rejects(fake.enqueueMany(jobs), { code, field: 'batch' });
    await assert.rejects(fake.enqueue('row', null, { queue: 'new', batch }), { code, field: 'batch' });
  }
  // Whose answer was lost asks again.
  const again = await fake.enqueue('row', null, { batch: 'closed', id: 'there' });
  assert.deepEqual([again.id, again.duplicate], [there.id, true]);
  for await (const job of fake.list({ queue: 'new' })) assert.fail(job.id);
});

test('the same batch again is the one that is there', async () => {
  const fake = new FakeWorkmill();
  await fake.batches.create({ id: 'b', onFinish: report });
  await fill(fake, 1);

  assert.equal((await fake.batches.create({ id: 'b', onFinish: report })).total, 1);
  await assert.rejects(fake.batches.create({ id: 'b', onFinish: publish }), { code: 'batch_exists', field: 'id' });
  const call = { idempotencyKey: 'k' };
  const first = await fake.batches.create({ onFinish: report }, call);
  assert.equal((await fake.batches.create({ onFinish: report }, call)).id, first.id);
  await assert.rejects(fake.batches.create({ onFinish: publish }, call), { code: 'idempotency_key_reused' });
});

test('what is no batch is refused by its field', async () => {
  const { batches } = new FakeWorkmill();
  const wrong: Array<[string, object]> = [
    ['on_finish', {}],
    ['on_finish.priority', { onFinish: { ...report, priority: 10 } }],
    ['on_success.type', { onSuccess: {} }],
    ['on_finish.id', { onFinish: { ...report, id: 'x' } }],
    ['on_finish.unique', { onFinish: { ...report, unique: { key: 'k' } } }],
    ['on_success.batch', { onSuccess: { ...report, batch: 'b' } }],
    ['on_finish', { onFinish: { ...report, payload: 'x'.repeat(65_536) } }],
    ['meta', { onFinish: report, meta: { x: 'x'.repeat(16_384) } }],
    ['id', { id: 'no name', onFinish: report }],
  ];

  for (const [field, batch] of wrong) await assert.rejects(batches.create(batch as NewBatch), { field });
});

test('lists show batches by their state, newest first', async () => {
  const fake = new FakeWorkmill();
  const { batches } = fake;
  for (const id of ['open', 'waits', 'b', 'lost', 'empty']) await batches.create({ id, onSuccess: publish });
  const waits = await fake.enqueue('row', null, { queue: 'elsewhere', batch: 'waits' });
  await fill(fake, 1);
  await fake.delete((await fake.enqueue('row', null, { queue: 'elsewhere', batch: 'lost' })).id);
  for (const id of ['waits', 'b', 'lost', 'empty']) await batches.close(id);
  await fake.drain(rows());

  const ids = async (...options: Parameters<typeof batches.list>) => {
    const found: string[] = [];
    for await (const { id } of batches.list(...options)) found.push(id);
    return found;
  };

  assert.deepEqual(await ids(), ['empty', 'lost', 'b', 'waits', 'open']);
  assert.deepEqual([await ids({ state: 'open' }), await ids({ state: 'closed' })], [['open'], ['waits']]);
  assert.deepEqual(await ids({ state: 'over' }, { pageSize: 1 }), ['empty', 'lost', 'b']);

  await fake.cancel(waits.id); // To be retried, perhaps.
  assert.deepEqual(await ids({ state: 'closed' }), ['waits']);
  await batches.delete('waits');
  assert.deepEqual(await ids({ state: 'closed' }), []);
  await assert.rejects(ids({ state: 'odd' as 'open' }), { code: 'invalid_field', field: 'state' });
  for (const pageSize of [0, 1_001]) {
    const refused = { code: 'invalid_field', field: 'limit' };
    await assert.rejects(ids({}, { pageSize }), refused);
    await assert.rejects(fake.list({}, { pageSize }).next(), refused);
    await assert.rejects(fake.queues({ pageSize }).next(), refused);
  }
});

test('a list goes on behind a page that is empty', async (context) => {
  const counts = { total: 0, pending: 0, completed: 0, dead: 0, cancelled: 0, deleted: 0 };
  const batch = (id: string) => ({ id, created_at: '2026-11-22T09:00:00.000Z', ...counts });
  const pages = [
    { items: [batch('first')], next: 'c 1' },
    { items: [], next: 'c 2' },
    { items: [batch('last')], next: null },
  ];
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(request.url!);
    response.end(JSON.stringify(pages[asked.length - 1]));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  context.after(() => server.close());
  const client = new Client({ url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` });
  context.after(() => client.close());

  const found: string[] = [];
  for await (const { id, createdAt } of client.batches.list({ state: 'closed' }, { pageSize: 7 })) {
    found.push(id);
    assert.equal(createdAt, '2026-11-22T09:00:00.000Z');
  }

  assert.deepEqual(found, ['first', 'last']);
  assert.deepEqual(asked, [
    '/v1/batches?state=closed&limit=7',
    '/v1/batches?state=closed&limit=7&cursor=c+1',
    '/v1/batches?state=closed&limit=7&cursor=c+2',
  ]);
});

test('hooks see callbacks', async () => {
  const fake = new FakeWorkmill({ onEnqueue: [(job) => void (job.tags = ['seen'])] });

  const { id } = await fake.batches.create({ onSuccess: publish, onFinish: report });
  await fake.batches.close(id);

  for await (const job of fake.list({ queue: 'after' })) assert.deepEqual(job.tags, ['seen']);
  assert.equal((await called(fake)).length, 2);
});

test('what is asked of a server, and how its answer is read', async (context) => {
  const batch = {
    id: 'b 1',
    created_at: '2026-11-22T09:00:00.000Z',
    closed_at: '2026-11-22T09:00:07.500Z',
    ...{ total: 3, pending: 0, completed: 2, dead: 1, cancelled: 0, deleted: 0 },
    on_success: { state: 'waiting' },
    on_finish: { state: 'enqueued', job: 'j' },
  };
  const gone = { code: 'batch_not_found', class: 'user', status: 404, title: 'gone', detail: 'gone' };
  const asked: Array<{ line: string; key: IncomingMessage['headers'][string]; body: string }> = [];
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request) body += String(chunk);
    const line = `${request.method} ${request.url}`;
    const again = asked.some((before) => before.line === line);
    asked.push({ line, key: request.headers['idempotency-key'], body });
    // The first answers are lost: of the making, and of the deletion, which has been done then.
    if (!again && !line.endsWith('/close')) request.socket.destroy();
    else if (request.method === 'DELETE') response.writeHead(404).end(JSON.stringify(gone));
    else response.end(JSON.stringify(batch));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  context.after(() => server.close());
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const client = new Client({ url, retry: { first: 1, cap: 1 } });
  context.after(() => client.close());

  const onSuccess = { ...publish, delay: 60_000, payload: Buffer.from([0]) };
  const made = await client.batches.create({ id: 'b 1', onSuccess, meta: { n: 1 } });
  const closed = await client.batches.close('b 1');
  await client.batches.delete('b 1');

  assert.deepEqual(
    asked.map(({ line }) => line),
    [
      'POST /v1/batches',
      'POST /v1/batches',
      'POST /v1/batches/b%201/close',
      'DELETE /v1/batches/b%201',
      'DELETE /v1/batches/b%201',
    ],
  );
  assert.ok(asked[0]!.key);
  assert.equal(asked[0]!.key, asked[1]!.key);
  assert.deepEqual(JSON.parse(asked[1]!.body), {
    id: 'b 1',
    on_success: { ...publish, delay: '60000ms', payload_base64: 'AA==' },
    meta: { n: 1 },
  });
  assert.deepEqual(made, closed);
  assert.deepEqual(
    [made.closedAt, made.dead, made.onSuccess, made.onFinish],
    ['2026-11-22T09:00:07.500Z', 1, { state: 'waiting' }, { state: 'enqueued', job: 'j' }],
  );
});
