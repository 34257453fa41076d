// Client and worker over TLS, with a certificate that signs itself.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Client, Worker } from 'workmill';
import { Server } from './server.js';

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

  await assert.rejects(client.get('x'), { code: 'protocol_error', class: 'fatal' });
  client.close();
});
