// What the client does when answers are late, lost, or not ours. The server here is a few lines of the test.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http';
import { createServer as createTcpServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { Client, UserError, Worker, type WorkmillError } from 'workmill';
import { eventually, overflows } from './server.js';

/** Runs `use` against a server that answers so. */
async function against(server: Server, use: (url: string) => Promise<void>): Promise<void> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => {});
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  try {
    await use(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  } finally {
    for (const socket of sockets) socket.destroy();
    server.close();
    await once(server, 'close');
  }
}

const answering = (listener: RequestListener) => createServer(listener) as unknown as Server;

async function bodyOf(request: IncomingMessage): Promise<string> {
  let body = '';
  for await (const chunk of request) body += String(chunk);
  return body;
}

const made = JSON.stringify({ id: 'x', state: 'ready', duplicate: false });
const overloaded = { type: '/errors/overloaded', title: '', status: 503, detail: 'busy', code: 'overloaded' };
const busy = JSON.stringify({ ...overloaded, class: 'retryable' });
const quick = { retry: { first: 1, cap: 1 } };

test('what is retryable is tried again under the same key, with the same bytes', async () => {
  const seen: string[] = [];
  const server = answering(async (request, response) => {
    seen.push(`${request.headers['idempotency-key']} ${await bodyOf(request)}`);
    if (seen.length < 3) response.writeHead(503, { 'retry-after': '0' }).end(busy);
    else response.writeHead(201).end(made);
  });
  await against(server, async (url) => {
    const client = new Client({ url, ...quick });

    assert.equal((await client.enqueue('t', { a: 1 })).id, 'x');

    assert.equal(seen.length, 3);
    assert.equal(new Set(seen).size, 1);
    assert.match(seen[0]!, /^"[0-9a-f-]{36}" \{"type":"t","payload":\{"a":1\}\}$/);
    client.close();
  });
});

test('each call of many has a key of its own, which is that of the clients in other languages', async () => {
  const seen: unknown[] = [];
  const server = answering(async (request, response) => {
    seen.push(request.headers['idempotency-key']);
    const { jobs } = JSON.parse(await bodyOf(request)) as { jobs: unknown[] };
    response.writeHead(201).end(JSON.stringify({ jobs: jobs.map(() => JSON.parse(made)) }));
  });
  await against(server, async (url) => {
    const client = new Client({ url });
    const jobs = Array.from({ length: 10_001 }, () => ({ type: 't' }));

    for (const idempotencyKey of ['k', 'k'.repeat(254)]) await client.enqueueMany(jobs, { idempotencyKey });

    const hashed = 'sha256:b2cce414fdbcd96622ff0ff342b2770f692768779637f1e4ae3b53aadc073b7f.1';
    assert.deepEqual(seen, ['"k"', '"k.1"', `"${'k'.repeat(254)}"`, `"${hashed}"`]);
    client.close();
  });
});

test('a connection that breaks after the request is tried again', async () => {
  let requests = 0;
  const server = answering(async (request, response) => {
    await bodyOf(request);
    requests += 1;
    if (requests === 1) request.socket.destroy();
    else if (requests === 2) response.writeHead(201, { 'content-length': 1_000 }).write('{"id"');
    else response.writeHead(201).end(made);
    if (requests === 2) request.socket.end();
  });
  await against(server, async (url) => {
    const client = new Client({ url, ...quick });

    assert.equal((await client.enqueue('t')).id, 'x');

    assert.equal(requests, 3);
    client.close();
  });
});

test('what would be done twice is not sent again where its answer is lost', async () => {
  const seen: string[] = [];
  let answer: (response: ServerResponse) => unknown = (response) => response.socket!.destroy();
  const server = answering(async (request, response) => {
    seen.push(`${request.url} ${await bodyOf(request)}`);
    if (seen.length % 2 === 1) answer(response);
    else response.writeHead(200).end('{"count":1,"jobs":[]}');
  });
  await against(server, async (url) => {
    const client = new Client({ url, ...quick });

    await client.cancel('x');
    assert.equal(await client.bulk('cancel', {}), 1);
    assert.equal(seen.length, 4);
    const twice = [
      () => client.retry('x'),
      () => client.bulk('retry', {}),
      () => client.lease({ queues: ['q'] }),
      () => client.lease({ queues: ['q'], wait: '1s' }),
    ];
    for (const ask of twice) {
      seen.length = 0;
      await assert.rejects(ask(), { code: 'no_server' });
      assert.equal(seen.length, 1);
    }
    answer = (response) => response.writeHead(503).end(busy);
    for (const ask of twice) {
      seen.length = 0;
      await ask();
      assert.equal(seen.length, 2);
    }
    client.close();
  });
});

test('where a try may have been done the error says so, though the later ones were refused', async () => {
  const dying = createTcpServer((socket) => {
    // Nobody listens any more when the first one learns that it was in vain.
    socket.once('data', () => {
      dying.close();
      socket.destroy();
    });
  });
  dying.listen(0, '127.0.0.1');
  await once(dying, 'listening');
  const url = `http://127.0.0.1:${(dying.address() as AddressInfo).port}`;
  const client = new Client({ url, retry: { attempts: 3, first: 1, cap: 1 } });

  const refused = { code: 'no_server', message: /^nobody answers/ };
  await assert.rejects(client.enqueue('t'), { ...refused, mayHaveHappened: true });
  await assert.rejects(client.enqueue('t'), { ...refused, mayHaveHappened: false });
  client.close();
});

test('an error of any class says that a try before it may have been done', async () => {
  let requests = 0;
  const refusal = JSON.stringify({ code: 'wrong_state', class: 'user', detail: 'it is cancelled' });
  const server = answering((request, response) => {
    requests += 1;
    if (requests === 1) request.socket.destroy();
    else response.writeHead(409).end(refusal);
  });
  await against(server, async (url) => {
    const client = new Client({ url, ...quick });

    await assert.rejects(client.cancel('x'), { code: 'wrong_state', mayHaveHappened: true });
    await assert.rejects(client.cancel('x'), { code: 'wrong_state', mayHaveHappened: false });
    client.close();
  });
});

test('where there was no connection in time, nothing has been done', { timeout: 60_000 }, async () => {
  let connections = 0;
  const silent = createTcpServer(() => (connections += 1)); // No TLS comes of it.
  await against(silent, async (url) => {
    const retry = { attempts: 3, first: 1, cap: 1 };
    const client = new Client({ url: url.replace('http:', 'https:'), connectTimeout: 50, retry });

    await assert.rejects(client.retry('x'), { code: 'no_server' });

    while (connections < 3) await setImmediate(); // They may be noticed later than their end.
    client.close();
  });
});

test('after the last try the last refusal is the error', async () => {
  let requests = 0;
  const server = answering((_request, response) => {
    requests += 1;
    response.writeHead(503).end(busy);
  });
  await against(server, async (url) => {
    const client = new Client({ url, retry: { attempts: 3, first: 1 } });

    await assert.rejects(client.get('x'), { code: 'overloaded', class: 'retryable', status: 503 });

    assert.equal(requests, 3);
    client.close();
  });
});

test('a wait that the server asks for and nobody would sit through is left to the caller', async () => {
  const server = answering((_request, response) => response.writeHead(429, { 'retry-after': '300' }).end(busy));
  await against(server, async (url) => {
    const client = new Client({ url });

    await assert.rejects(client.get('x'), { retryAfterMs: 300_000 });
    client.close();
  });
});

test('a short wait is told at once that the server wants a long pause', async () => {
  let requests = 0;
  const server = answering((_request, response) => {
    requests += 1;
    response.writeHead(429, { 'retry-after': '300' }).end(busy);
  });
  await against(server, async (url) => {
    const client = new Client({ url });

    const wanted = { retryAfterMs: 300_000 };
    await assert.rejects(client.waitFor('x', { timeout: '1s' }), wanted);
    await assert.rejects(client.cache.getOrCompute('k', { type: 't' }, { wait: '1s' }), wanted);

    assert.equal(requests, 2);
    client.close();
  });
});

test('a server that takes the request and says nothing is a time-out', async () => {
  await against(createTcpServer(), async (url) => {
    const client = new Client({ url, requestTimeout: 30, retry: { attempts: 2, first: 1 } });

    await assert.rejects(client.get('x'), { code: 'no_server', class: 'retryable' });
    await assert.rejects(client.get('x', { timeout: 5 }), { message: /within 5 ms/ });
    client.close();
  });
});

test('a time-out of a month is not over at once', async (context) => {
  const told = overflows(context);
  const server = answering((_request, response) => response.end('{"lines":[]}'));
  await against(server, async (url) => {
    const client = new Client({ url, requestTimeout: '30d', connectTimeout: '30d' });

    assert.deepEqual(await client.log('x'), []);

    assert.deepEqual(told, []);
    client.close();
  });
});

test('a silent server takes no more of the time of a wait than one try', async () => {
  let connections = 0;
  const silent = createTcpServer(() => (connections += 1));
  await against(silent, async (url) => {
    const client = new Client({ url, requestTimeout: 20, retry: { first: 1 } });

    await assert.rejects(client.waitFor('x', { timeout: 20 }), { code: 'no_server' });

    assert.equal(connections, 1);
    client.close();
  });
});

test('a wait between tries ends when the call is given up', async () => {
  const stop = new AbortController();
  const server = answering((_request, response) => {
    response.writeHead(503, { 'retry-after': '50' }).end(busy);
    response.on('close', () => stop.abort(new Error('enough')));
  });
  await against(server, async (url) => {
    const client = new Client({ url });

    await assert.rejects(client.get('x', { signal: stop.signal }), { message: 'enough' });
    client.close();
  });
});

const jobAs = (state: string) => JSON.stringify({ id: 'a', type: 't', queue: 'q', state, result: 5 });

test('a wait for a job goes on while the server is away, however few tries a call has', async () => {
  let requests = 0;
  const server = answering((request, response) => {
    requests += 1;
    if (requests === 1) response.end(jobAs('ready'));
    else if (requests > 7) response.end(jobAs('completed'));
    else if (requests % 2 === 0) request.socket.destroy();
    else response.writeHead(503, { 'retry-after': '0' }).end(busy);
  });
  await against(server, async (url) => {
    const client = new Client({ url, retry: { attempts: 1, first: 1 } });

    assert.equal(await client.result('a', { timeout: '1m' }), 5);
    client.close();
  });
});

test('where the time of a wait is over the job is as it was seen', async () => {
  let requests = 0;
  const server = answering((request, response) => {
    if (requests++ === 0) response.end(jobAs('ready'));
    else request.socket.destroy();
  });
  await against(server, async (url) => {
    const client = new Client({ url, retry: { attempts: 1, first: 1 } });

    assert.equal((await client.waitFor('a', { timeout: 100 })).state, 'ready');
    client.close();
  });
});

test('a wait of nothing is tried as often as other calls', async () => {
  for (const timeout of [0, '0s']) {
    let requests = 0;
    const server = answering((_request, response) => {
      requests += 1;
      if (requests === 2) response.end(jobAs('ready'));
      else response.writeHead(503, { 'retry-after': '0.1' }).end(busy);
    });
    await against(server, async (url) => {
      const client = new Client({ url, retry: { attempts: 2, first: 1 } });

      assert.equal((await client.waitFor('a', { timeout })).state, 'ready');
      await assert.rejects(client.waitFor('a', { timeout }), { code: 'overloaded' });

      assert.equal(requests, 4);
      client.close();
    });
  }
});

test('nobody there is no_server; something else there is protocol_error', async () => {
  const client = new Client({ url: 'http://127.0.0.1:1', retry: { attempts: 2, first: 1 } });
  await assert.rejects(client.get('x'), { code: 'no_server', class: 'retryable', mayHaveHappened: false });
  client.close();

  // It was sent, and something between may have spoilt the answer.
  const notOurs = { code: 'protocol_error', class: 'fatal', mayHaveHappened: true };
  const pages = answering((_request, response) => response.writeHead(200).end('<html>'));
  await against(pages, async (there) => {
    await assert.rejects(new Client({ url: there }).get('x'), notOurs);
  });
  const speech = createTcpServer((socket) => socket.end('220 mail.example ready\r\n'));
  await against(speech, async (there) => {
    await assert.rejects(new Client({ url: there }).get('x'), notOurs);
  });
});

test('JSON that is no answer to what was asked is no answer', async () => {
  let body = '';
  const server = answering((_request, response) => response.writeHead(200).end(body));
  await against(server, async (url) => {
    const client = new Client({ url, retry: { attempts: 1 } });
    const calls: Record<string, () => Promise<unknown>> = {
      get: () => client.get('x'),
      waitFor: () => client.waitFor('x'),
      enqueue: () => client.enqueue('t'),
      enqueueMany: () => client.enqueueMany([{ type: 't' }]),
      list: () => client.list().next(),
      log: () => client.log('x'),
      queue: () => client.queue('q'),
      queues: () => client.queues().next(),
      lease: () => client.lease({ queues: ['q'] }),
      report: () => client.report([]),
      batch: () => client.batches.get('b'),
      batches: () => client.batches.list().next(),
    };
    const item = '{"items": [null], "jobs": [null], "lines": 1, "reports": 1}';

    for (body of ['null', '[]', '1', '{}', '{"items": {}, "jobs": {}, "lines": {}, "reports": {}}', item]) {
      for (const [name, call] of Object.entries(calls)) {
        await assert.rejects(call(), { code: 'protocol_error', mayHaveHappened: true }, `${name}: ${body}`);
      }
    }

    body = '{"items": []}'; // Without a word on the next page.
    assert.deepEqual(await client.list().next(), { done: true, value: undefined });
    client.close();
  });
});

test('connections are bounded and kept, and so is the number of those that wait for one', async () => {
  const waiting: Array<() => void> = [];
  const ports = new Set<number>();
  const server = answering((request, response) => {
    ports.add(request.socket.remotePort!);
    waiting.push(() => response.writeHead(200).end('{"lines":[]}'));
    if (waiting.length === 2) for (const answer of waiting.splice(0)) answer();
  });
  await against(server, async (url) => {
    const client = new Client({ url, maxConnections: 2, maxWaiting: 4, retry: { attempts: 1 } });

    const calls = Array.from({ length: 6 }, () => client.log('x'));
    await assert.rejects(client.log('x'), { code: 'pool_full', class: 'retryable' });

    await Promise.all(calls);
    assert.equal(ports.size, 2);
    client.close();
    await assert.rejects(client.log('x'), { code: 'closed' });
  });
});

test('closing a client ends what is under way, and what waits for a connection', async () => {
  const asked: string[] = [];
  const server = answering((request) => void asked.push(request.url!));
  await against(server, async (url) => {
    const client = new Client({ url, maxConnections: 1 });
    const calls = ['sent', 'waiting'].map((id) => client.get(id));
    await eventually(() => asked.length === 1);

    client.close();

    const ends = await Promise.allSettled(calls);
    assert.deepEqual(
      ends.map((end) => end.status === 'rejected' && [end.reason.code, end.reason.mayHaveHappened]),
      [
        ['closed', true],
        ['closed', false],
      ],
    );
    assert.deepEqual(asked, ['/v1/jobs/sent']);
  });
});

test('calls that wait in the server hold up no others', async () => {
  const waiting: ServerResponse[] = [];
  const server = answering((request, response) => {
    if (request.url!.includes('wait=')) waiting.push(response);
    else response.writeHead(200).end('{"lines":[]}');
  });
  await against(server, async (url) => {
    const client = new Client({ url, maxConnections: 1, maxLongPolls: 3, maxWaiting: 0, retry: { attempts: 1 } });

    const waits = Array.from({ length: 3 }, () => client.waitFor('x'));
    await client.log('x');

    while (waiting.length < 3) await setImmediate();
    for (const response of waiting) response.writeHead(404).end(JSON.stringify(gone));
    for (const wait of waits) await assert.rejects(wait, { code: 'job_not_found' });
    client.close();
  });
});

const gone = { code: 'job_not_found', class: 'user', detail: 'there is none', status: 404 };

test('an address may lack its scheme, or be that of the environment', async (context) => {
  const server = answering((_request, response) => response.end('{"lines":[]}'));
  context.after(() => delete process.env['WORKMILL_URL']);
  await against(server, async (url) => {
    process.env['WORKMILL_URL'] = url.replace('http://', '');
    const client = new Client();

    assert.deepEqual(await client.log('x'), []);
    client.close();
  });
  process.env['WORKMILL_URL'] = '';
  assert.doesNotThrow(() => new Client());
});

test('what is no address is refused at once', () => {
  const secrets = ['http://user:secret@h', 'ftp://user:secret@h', 'http://user:secret@', 'http://user:secret@h:port'];
  for (const url of ['', 'ftp://h', 'http://', 'http://h:port', ...secrets]) {
    assert.throws(
      () => new Client({ url }),
      (error: WorkmillError) => error.field === 'url' && !error.message.includes('secret'),
      url,
    );
  }
});

test('tls is not left out without a word', async () => {
  const tls = { rejectUnauthorized: true };
  const refused = { class: 'user', code: 'bad_configuration', field: 'tls' };
  for (const url of ['jobs.example:443', 'http://jobs.example', undefined]) {
    assert.throws(() => new Client({ url, tls, token: 'wm_secret' }), refused);
    for (const transport of ['stream', 'http'] as const) {
      await assert.rejects(new Worker({ url, tls, transport, signals: false, logger: false }).run(), refused);
    }
  }
  new Client({ url: 'https://jobs.example', tls }).close();
});

test('a token that would be no header is refused at once, and not shown', (context) => {
  const refused = (error: WorkmillError) =>
    error instanceof UserError && error.code === 'bad_configuration' && !error.message.includes('wm');
  for (const token of ['wm_x\n', 'wm\r\nX: y', 'wm_\0', 'wm_ü']) {
    assert.throws(() => new Client({ token }), refused);
    assert.throws(() => new Worker({ token }), refused);
  }
  process.env['WORKMILL_TOKEN'] = 'wm_x\n';
  context.after(() => delete process.env['WORKMILL_TOKEN']);
  assert.throws(() => new Client(), refused);
  assert.throws(() => new Worker({ transport: 'http' }), refused);
});

test('the prefix of an address and the token are in every request', async () => {
  const seen: unknown[] = [];
  const server = answering((request, response) => {
    seen.push(request.url, request.headers.authorization);
    response.writeHead(200).end('{"lines":[]}');
  });
  await against(server, async (url) => {
    const client = new Client({ url: `${url}/mill/`, token: 'wm_secret' });

    await client.log('a/b');

    assert.deepEqual(seen, ['/mill/v1/jobs/a%2Fb/log', 'Bearer wm_secret']);
    client.close();
  });
});
