// Client and worker over TLS, with a certificate that signs itself.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { after, before, test } from 'node:test';
import type { TLSSocket } from 'node:tls';
import { Client, Worker } from 'workmill';
import { leased } from './fake-stream.js';
import { eventually, gate, Server } from './server.js';

const folder = mkdtempSync(join(tmpdir(), 'workmill-tls-'));
const [key, certificate] = [join(folder, 'key.pem'), join(folder, 'certificate.pem')];
let server: Server;
let url: string;
before(async () => {
  const subject = ['-subj', '/CN=workmill', '-addext', 'subjectAltName=IP:127.0.0.1'];
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  const files = ['-keyout', key, '-out', certificate, '-days', '2'];
  execFileSync('openssl', ['req', '-x509', ...curve, ...files, ...subject], { stdio: 'ignore' });
  server = await new Server().start('--tls-certificate', certificate, '--tls-key', key);
  url = server.url.replace('http:', 'https:');
});
after(async () => {
  await server.remove();
  rmSync(folder, { recursive: true });
});

for (const transport of ['stream', 'http'] as const) {
  test(`a job goes to its worker and back, over ${transport}`, async () => {
    const tls = { ca: readFileSync(certificate) };
    const client = new Client({ url, tls });
    const worker = new Worker({ url, tls, queues: [transport], transport, signals: false, logger: false });
    worker.on<string>('t', (job) => job.payload.toUpperCase());
    const running = worker.run();

    const { id } = await client.enqueue('t', 'quiet', { queue: transport });

    assert.equal(await client.result(id), 'QUIET');
    await worker.stop();
    await running;
    client.close();
  });
}

test('a worker that waits for a job stops at once, over http', async () => {
  const tls = { ca: readFileSync(certificate) };
  const client = new Client({ url, tls });
  const worker = new Worker({ url, tls, queues: ['nobody'], transport: 'http', signals: false, logger: false });
  const running = worker.run();
  await eventually(async () => (await client.status()).bounds.some(({ name, used }) => name === 'waiters' && used > 0));

  const begun = performance.now();
  await worker.stop();
  await running;

  assert.ok(performance.now() - begun < 5_000); // So long would it wait for a server that says nothing.
  client.close();
});

test('jobs that are on their way when a worker stops are given back, over http', async (context) => {
  const asked = gate<ServerResponse>();
  const reported = gate<string>();
  const holding = createServer(
    { cert: readFileSync(certificate), key: readFileSync(key) },
    async (request, response) => {
      let body = '';
      for await (const chunk of request) body += String(chunk);
      if (request.url === '/v1/leases') return asked.open(response);
      reported.open(body);
      response.end('{"reports":[{"id":"a","ok":true}]}');
    },
  );
  holding.listen(0, '127.0.0.1');
  await once(holding, 'listening');
  context.after(() => {
    holding.closeAllConnections();
    holding.close();
  });
  const at = `https://127.0.0.1:${(holding.address() as AddressInfo).port}`;
  const tls = { ca: readFileSync(certificate) };
  const worker = new Worker({ url: at, tls, transport: 'http', signals: false, logger: false });
  const running = worker.run();

  (await asked.promise).end(JSON.stringify({ jobs: [leased('a')] }));
  const stopped = worker.stop();

  assert.match(await reported.promise, /"outcome":"released"/);
  await stopped;
  await running;
});

for (const transport of ['stream', 'http'] as const) {
  test(`over ${transport}, whom WORKMILL_CA_FILE names is believed without a word in the program`, async () => {
    process.env['WORKMILL_CA_FILE'] = certificate;
    try {
      const client = new Client({ url });
      const queues = [`${transport}-by-file`];
      const worker = new Worker({ url, queues, transport, signals: false, logger: false });
      worker.on<string>('t', (job) => job.payload.toUpperCase());
      const running = worker.run();

      const { id } = await client.enqueue('t', 'quiet', { queue: queues[0] as string });

      assert.equal(await client.result(id), 'QUIET');
      await worker.stop();
      await running;
      client.close();
    } finally {
      delete process.env['WORKMILL_CA_FILE'];
    }
  });
}

test('a WORKMILL_CA_FILE that cannot be read is said at once, for https alone', () => {
  process.env['WORKMILL_CA_FILE'] = '/nowhere';
  try {
    assert.throws(() => new Client({ url }), { code: 'bad_configuration', class: 'user' });
    new Client({ url: 'http://127.0.0.1:1' }).close();
    new Client({ url, tls: { ca: readFileSync(certificate) } }).close();
  } finally {
    delete process.env['WORKMILL_CA_FILE'];
  }
});

test('a certificate that nobody vouches for ends the call, and is not tried again', async () => {
  const client = new Client({ url });

  await assert.rejects(client.get('x'), { code: 'protocol_error', class: 'fatal', mayHaveHappened: false });
  client.close();
});

test('a certificate of ones own is shown to who asks for one', async () => {
  const names: unknown[] = [];
  const nameOf = (request: IncomingMessage) => (request.socket as TLSSocket).getPeerCertificate().subject.CN;
  const [cert, secret] = [readFileSync(certificate), readFileSync(key)];
  const demanding = createServer(
    { cert, key: secret, ca: cert, requestCert: true, rejectUnauthorized: true },
    (request, response) => {
      names.push(nameOf(request));
      const problem = { code: 'forbidden', class: 'user', detail: 'nobody', status: 403 };
      response.writeHead(403).end(JSON.stringify(problem));
    },
  );
  demanding.on('upgrade', (request: IncomingMessage, socket: Duplex) => {
    names.push(nameOf(request));
    socket.end('HTTP/1.1 403 Forbidden\r\ncontent-length: 36\r\n\r\n{"code":"forbidden","class":"user" }\n');
  });
  demanding.listen(0, '127.0.0.1');
  await once(demanding, 'listening');
  const at = `https://127.0.0.1:${(demanding.address() as AddressInfo).port}`;
  const tls = { ca: cert, cert, key: secret };

  const client = new Client({ url: at, tls });
  await assert.rejects(client.get('x'), { code: 'forbidden' });
  for (const transport of ['stream', 'http'] as const) {
    const worker = new Worker({ url: at, tls, transport, signals: false, logger: false });
    await assert.rejects(worker.run(), { code: 'forbidden' });
  }
  const stranger = new Client({ url: at, tls: { ca: cert } });
  // It has sent its request by the time at which it is told.
  await assert.rejects(stranger.get('x'), { code: 'protocol_error', mayHaveHappened: true });

  assert.deepEqual(names, ['workmill', 'workmill', 'workmill']);
  client.close();
  stranger.close();
  demanding.close();
  demanding.closeAllConnections();
  await once(demanding, 'close');
});
