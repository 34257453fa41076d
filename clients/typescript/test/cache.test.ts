// The cache, as the client and the fake have it. Against the real server: clients/conformance.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { CachePendingError, Client, UserError, Worker, type ComputeOptions, type NewJob } from 'workmill';
import { FakeWorkmill } from 'workmill/testing';

const quiet = { logger: false } as const;
const sum = { type: 'sum', queue: 'q', payload: [1, 2] };

function adder(): Worker {
  const worker = new Worker({ queues: ['q'], ...quiet });
  return worker.on<number[], number>('sum', (job) => job.payload.reduce((a, b) => a + b, 0));
}

test('a value is there until its windows are over', async () => {
  const fake = new FakeWorkmill();

  const etag = await fake.cache.put('user/7 ü', { name: 'Ada' }, { fresh: '1m', stale: 30_000 });
  const fresh = await fake.cache.get('user/7 ü');
  fake.clock.advance('61s');
  const stale = await fake.cache.get('user/7 ü');
  fake.clock.advance('29s');

  assert.deepEqual([fresh?.value, fresh?.fresh, fresh?.ageMs, fresh?.etag], [{ name: 'Ada' }, true, 0, etag]);
  assert.deepEqual([stale?.value, stale?.fresh, stale?.ageMs], [{ name: 'Ada' }, false, 61_000]);
  assert.equal(await fake.cache.get('user/7 ü'), undefined);
});

test('values come back as they were', async () => {
  const { cache } = new FakeWorkmill();

  for (const value of [null, false, 'text', 7, [1, { a: null }], Buffer.from([0, 255]), Buffer.alloc(0)]) {
    await cache.put('k', value);
    assert.deepEqual((await cache.get('k'))?.value, value);
  }
  await cache.put('k', '<p>ä', { contentType: 'text/html' });
  const page = await cache.get('k');

  assert.deepEqual([page?.value, page?.contentType], [Buffer.from('<p>ä'), 'text/html']);
  await assert.rejects(
    cache.put('k', () => 1),
    UserError,
  );
});

test('a missing value is computed by one job, for all who wait', async () => {
  const fake = new FakeWorkmill();

  const asked = [1, 2, 3].map(() => fake.cache.getOrCompute<number>('sum', sum));
  const { completed } = await fake.drain(adder());
  const found = await Promise.all(asked);
  const hit = await fake.cache.getOrCompute('sum', sum);

  assert.equal(completed.length, 1);
  assert.deepEqual(
    found.map(({ value, computed, collapsed }) => [value, computed, collapsed]),
    [
      [3, true, false],
      [3, true, true],
      [3, true, true],
    ],
  );
  assert.deepEqual([hit.value, hit.fresh, hit.computed], [3, true, false]);
});

for (const [name, hook] of [
  ['at once', (job: NewJob) => void (job.priority = 9)],
  [
    'in a while',
    async (job: NewJob) => {
      for (let i = 0; i < 3; i += 1) await setImmediate();
      job.priority = 9;
    },
  ],
] as const) {
  test(`a drain runs the job of who asks for a value, where a hook sees it ${name}`, { timeout: 60_000 }, async () => {
    const fake = new FakeWorkmill({ onEnqueue: [hook, hook] });

    const asked = fake.cache.getOrCompute<number>('sum', sum);
    const { completed } = await fake.drain(adder());

    assert.deepEqual(
      completed.map(({ priority }) => priority),
      [9],
    );
    assert.equal((await asked).value, 3);
  });
}

test('what a hook throws is the error of who asks for a value, and a drain ends', { timeout: 60_000 }, async () => {
  for (const refuse of [
    () => {
      throw new RangeError('no');
    },
    async () => {
      await setImmediate();
      throw new RangeError('no');
    },
  ]) {
    const fake = new FakeWorkmill({ onEnqueue: [refuse] });

    const refused = assert.rejects(fake.cache.getOrCompute('sum', sum), RangeError);
    assert.deepEqual(await fake.drain(adder()), { completed: [], failed: [] });
    await refused;
  }
});

test('who waits no longer is told which job computes it', async () => {
  const fake = new FakeWorkmill();

  const waiting = fake.cache.getOrCompute('sum', sum, { wait: '10s' });
  const rejected = assert.rejects(waiting, (error: CachePendingError) => error.state === 'ready');
  fake.clock.advance('10s');
  await rejected;
  const atOnce = (await fake.cache.getOrCompute('sum', sum, { wait: 0 }).catch((error) => error)) as CachePendingError;
  await fake.drain(adder());

  assert.equal(atOnce.code, 'cache_pending');
  assert.equal((await fake.get(atOnce.jobId)).state, 'completed');
});

test('a stale value is given while one job refreshes it', async () => {
  const fake = new FakeWorkmill();
  await fake.cache.put('sum', 'old', { fresh: '1m', stale: '1h' });
  fake.clock.advance('2m');

  const stale = await Promise.all([1, 2, 3].map(() => fake.cache.getOrCompute('sum', sum)));
  const { completed } = await fake.drain(adder());

  assert.deepEqual(
    stale.map(({ value, fresh }) => [value, fresh]),
    [1, 2, 3].map(() => ['old', false]),
  );
  assert.equal(completed.length, 1);
  assert.equal((await fake.cache.get('sum'))?.value, 3);
});

test('a failure is an error of its class, and is remembered for errorFor', async () => {
  const fake = new FakeWorkmill();
  const worker = new Worker({ queues: ['q'], ...quiet }).on('sum', () => {
    throw new UserError('no such row', { code: 'no_row' });
  });
  const failed = { class: 'user', code: 'compute_failed', message: 'no_row: no such row' };

  const first = assert.rejects(fake.cache.getOrCompute('sum', sum, { errorFor: '10s' }), failed);
  await fake.drain(worker);
  await first;
  await assert.rejects(fake.cache.getOrCompute('sum', sum), failed);
  fake.clock.advance('10s');

  await assert.rejects(fake.cache.getOrCompute('sum', sum, { wait: 0 }), CachePendingError);
});

test('a handler sets keys with its completion, and only then', async () => {
  const fake = new FakeWorkmill();
  const worker = new Worker({ queues: ['q'], ...quiet }).on('report', (job, ctx) => {
    ctx.cache('total', 1);
    ctx.cache('total', job.attempt, { fresh: '1h', tags: ['reports'] });
    ctx.cache('raw', Buffer.from([1]), { contentType: 'image/x' });
    if (job.attempt === 1) throw new RangeError('not yet');
  });
  await fake.enqueue('report', null, { queue: 'q' });

  await fake.drain(worker);
  assert.equal(await fake.cache.get('total'), undefined);
  await fake.drain(worker, { advance: true });

  assert.equal((await fake.cache.get('total'))?.value, 2);
  assert.deepEqual((await fake.cache.get('raw'))?.value, Buffer.from([1]));
  assert.equal(await fake.cache.deleteByTag('reports'), 1);
});

test('what a report cannot hold is refused where it is set', async () => {
  const fake = new FakeWorkmill();
  const refused: string[] = [];
  const worker = new Worker({ queues: ['q'], ...quiet }).on('much', (_job, ctx) => {
    for (let n = 0; n < 100; n += 1) ctx.cache(`k${n}`, n);
    const tries: Array<[string, unknown]> = [
      ['one more', 1],
      ['k1', Buffer.alloc(8 * 1024 * 1024 + 1)],
      ['k2', undefined],
    ];
    for (const [key, value] of tries) {
      try {
        ctx.cache(key, value);
      } catch (error) {
        refused.push((error as UserError).code);
      }
    }
  });
  await fake.enqueue('much', null, { queue: 'q' });
  await fake.drain(worker);

  assert.deepEqual(refused, ['payload_too_large', 'payload_too_large', 'invalid_field']);
  assert.equal((await fake.cache.get('k1'))?.value, 1);
});

test('a content type that would be no header is refused before anything is sent', () =>
  against([], async (client) => {
    for (const { cache } of [client, new FakeWorkmill()]) {
      for (const contentType of ['text/plain\r\nx: y', 'text/ü', '', ' text/plain']) {
        const refused = { code: 'invalid_field', field: 'contentType' };
        await assert.rejects(cache.put('k', 'text', { contentType }), refused);
      }
    }
  }));

test('values are forgotten by key, tag and prefix', async () => {
  const { cache } = new FakeWorkmill();
  for (const n of [0, 1, 2, 3]) await cache.put(`user/${n}`, n, { tags: ['users', `team-${n % 2}`] });
  await cache.put('other', 1, { tags: ['team-0'] });

  assert.deepEqual([await cache.delete('user/0'), await cache.delete('user/0')], [true, false]);
  assert.equal(await cache.deleteByTag('team-0'), 2);
  assert.equal(await cache.deleteByPrefix('user/'), 2);
  await assert.rejects(cache.get('a\nb'), { code: 'invalid_field', field: 'key' });
});

test('a remembered failure is forgotten as values are', async () => {
  const fake = new FakeWorkmill();
  const { cache } = fake;
  const worker = new Worker({ queues: ['q'], ...quiet }).on('sum', () => {
    throw new UserError('no such row', { code: 'no_row' });
  });
  const options: ComputeOptions = { errorFor: '10s', tags: ['sums'], wait: 0 };
  const fail = async (...keys: string[]) => {
    // A new job, whatever was remembered.
    for (const key of keys) await assert.rejects(cache.getOrCompute(key, sum, options), CachePendingError);
    await fake.drain(worker);
    for (const key of keys) await assert.rejects(cache.getOrCompute(key, sum, options), { code: 'compute_failed' });
  };

  await fail('sum/1', 'sum/2', 'other');
  assert.deepEqual([await cache.delete('sum/1'), await cache.delete('sum/1')], [true, false]);
  await fail('sum/1');
  assert.equal(await cache.deleteByTag('sums'), 0);
  assert.deepEqual([await cache.deleteByPrefix('sum/'), await cache.deleteByPrefix('sum/')], [2, 0]);
  await fail('sum/1', 'sum/2');
  fake.clock.advance('10s');
  assert.deepEqual([await cache.delete('other'), await cache.deleteByPrefix('sum/')], [false, 0]);
});

test('a stale value whose refresh failed is forgotten as one', async () => {
  const fake = new FakeWorkmill();
  const worker = new Worker({ queues: ['q'], ...quiet }).on('sum', () => {
    throw new UserError('no such row', { code: 'no_row' });
  });

  await fake.cache.put('sum', 1, { fresh: '1s', stale: '1h' });
  fake.clock.advance('2s');
  assert.equal((await fake.cache.getOrCompute('sum', sum, { errorFor: '1h' })).value, 1);
  await fake.drain(worker);
  assert.equal(await fake.cache.deleteByPrefix('sum'), 1);
  await assert.rejects(fake.cache.getOrCompute('sum', sum, { wait: 0 }), CachePendingError);
});

// ---- Over HTTP, against what a test has written down.

type Answer = (request: IncomingMessage, body: Buffer, response: ServerResponse) => void;

/** Runs `use` with a client of a server that gives these answers, one after another. */
async function against(answers: Answer[], use: (client: Client) => Promise<void>): Promise<void> {
  const server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    answers.shift()!(request, Buffer.concat(chunks), response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const client = new Client({
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    retry: { attempts: 3, first: 1 },
  });
  try {
    await use(client);
    assert.equal(answers.length, 0);
  } finally {
    client.close();
    server.close();
    server.closeAllConnections();
    await once(server, 'close');
  }
}

const value =
  (body: string, type: string, status: string, age = 0): Answer =>
  (_request, _body, response) =>
    void response
      .writeHead(200, { 'content-type': type, etag: '"00ff"', age: String(age), 'cache-status': status })
      .end(body);

const pending: Answer = (_request, _body, response) =>
  void response.writeHead(202, { 'content-type': 'application/json' }).end('{"job_id":"j","state":"leased"}');

const problem =
  (status: number, code: string): Answer =>
  (_request, _body, response) => {
    const content = { type: `/errors/${code}`, title: code, status, detail: code, code, class: 'retryable' };
    response.writeHead(status, { 'retry-after': '0' }).end(JSON.stringify(content));
  };

test('the heads of an answer say how a value was found', () =>
  against(
    [
      value('[1]', 'application/json', 'workmill; hit; ttl=53', 7),
      value('x', 'text/plain', 'workmill; hit; ttl=-10', 70),
      value('2', 'application/json', 'workmill; fwd=uri-miss; stored; collapsed'),
    ],
    async ({ cache }) => {
      const hit = await cache.get('a/b c');
      const stale = await cache.get('k');
      const joined = await cache.getOrCompute('k', sum);

      assert.deepEqual([hit?.value, hit?.fresh, hit?.ageMs, hit?.etag], [[1], true, 7_000, '00ff']);
      assert.deepEqual([stale?.value, stale?.fresh, stale?.ageMs], [Buffer.from('x'), false, 70_000]);
      assert.deepEqual([joined.value, joined.computed, joined.collapsed], [2, true, true]);
    },
  ));

test('a job that is not done is asked for until the wait is over', () =>
  against([pending, value('1', 'application/json', 'workmill; hit; ttl=5'), pending], async ({ cache }) => {
    assert.equal((await cache.getOrCompute('k', sum)).value, 1);
    await assert.rejects(cache.getOrCompute('k', sum, { wait: 0 }), {
      jobId: 'j',
      state: 'leased',
      class: 'retryable',
      mayHaveHappened: true,
    });
  }));

const lost: Answer = (request) => void request.socket.destroy();

test('a wait for a value goes on while the server is away, however few tries a call has', () => {
  const away = [problem(503, 'overloaded'), lost, problem(503, 'overloaded'), lost];
  return against([...away, pending, ...away, value('1', 'application/json', 'workmill')], async ({ cache }) => {
    assert.equal((await cache.getOrCompute('k', sum, { wait: '1m' })).value, 1);
  });
});

test('where the time of a wait is over the job is told, or why nobody knows of one', async () => {
  const client = new Client({ url: 'http://127.0.0.1:1', retry: { first: 1 } });
  await assert.rejects(client.cache.getOrCompute('k', sum, { wait: 50 }), { code: 'no_server' });
  client.close();

  let answers = 0;
  const server = createServer((request, response) => {
    if (answers++ > 0) request.socket.destroy();
    else pending(request, Buffer.alloc(0), response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const other = new Client({ url, retry: { attempts: 1, first: 1 } });

  await assert.rejects(other.cache.getOrCompute('k', sum, { wait: 100 }), { code: 'cache_pending', jobId: 'j' });

  other.close();
  server.close();
  await once(server, 'close');
});

test('an error that ends a wait says what the polls before it may have done', async () => {
  const refusal: Answer = (_request, _body, response) => {
    const content = { code: 'unauthorized', class: 'user', detail: 'who?', status: 401 };
    response.writeHead(401).end(JSON.stringify(content));
  };
  const said: unknown[] = [];
  const tell = (error: unknown) => void said.push([(error as Error & { code: string }).code, happened(error)]);
  const happened = (error: unknown) => (error as { mayHaveHappened: boolean }).mayHaveHappened;
  const failed = problem(502, 'compute_failed');
  for (const answers of [[lost, refusal], [pending, refusal], [lost, failed], [refusal]])
    await against(answers, ({ cache }) => cache.getOrCompute('k', sum).then(tell, tell));
  for (const answers of [[lost, refusal], [refusal]])
    await against(answers, (client) => client.waitFor('x').then(tell, tell));

  assert.deepEqual(said, [
    ['unauthorized', true],
    ['unauthorized', true],
    ['compute_failed', true],
    ['unauthorized', false],
    ['unauthorized', true],
    ['unauthorized', false],
  ]);
});

test('who does not wait for the job has the tries of any call', () => {
  const busy = [problem(503, 'overloaded'), problem(503, 'overloaded')];
  const answers = [...busy, value('1', 'application/json', 'workmill; hit'), ...busy, problem(503, 'overloaded')];
  return against(answers, async ({ cache }) => {
    assert.equal((await cache.getOrCompute('k', sum, { wait: 0 })).value, 1);
    await assert.rejects(cache.getOrCompute('k', sum, { wait: '0s' }), { code: 'overloaded' });
  });
});

test('a refusal is tried again, and a job that has failed is not', () =>
  against([problem(503, 'overloaded'), problem(502, 'compute_failed')], async ({ cache }) => {
    await assert.rejects(cache.getOrCompute('k', sum), { code: 'compute_failed', class: 'retryable' });
  }));

test('a value is sent as what it is', () =>
  against(
    [
      (request, body, response) => {
        assert.equal(request.url, '/v1/cache/a%2Fb?fresh=90000ms&stale=1h&tags=a%2Cb');
        assert.equal(request.headers['content-type'], 'image/png');
        assert.deepEqual([...body], [0, 255]);
        response.writeHead(204, { etag: '"5"' }).end();
      },
    ],
    async ({ cache }) => {
      const options = { fresh: 90_000, stale: '1h', tags: ['a', 'b'], contentType: 'image/png' };
      assert.equal(await cache.put('a/b', Buffer.from([0, 255]), options), '5');
    },
  ));

test('what is no cached value is a protocol error', () =>
  against(
    [value('{', 'application/json', 'workmill; hit; ttl=5'), value('1', 'application/json', '')],
    async ({ cache }) => {
      const notOurs = { code: 'protocol_error', class: 'fatal', mayHaveHappened: true };
      await assert.rejects(cache.get('k'), notOurs);
      await assert.rejects(cache.get('k'), notOurs);
    },
  ));
