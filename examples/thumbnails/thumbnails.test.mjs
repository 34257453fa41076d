// The example as a person would run it: a server, a worker, a folder of pictures.
import assert from 'node:assert/strict';
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { PNG } from 'pngjs';
import { Client } from 'workmill';
import { resize } from './resize.mjs';

const here = fileURLToPath(new URL('.', import.meta.url));
const binary = process.env.WORKMILL_BIN ?? fileURLToPath(new URL('../../build/release/workmill', import.meta.url));

function picture(width, height) {
  const png = new PNG({ width, height });
  for (let i = 0; i < width * height; i += 1) {
    png.data.set([i % 256, (i >> 8) % 256, (i * 7) % 256, 255], i * 4);
  }
  return PNG.sync.write(png);
}

async function serve(data) {
  const server = spawn(binary, ['serve', '--data', data, '--listen', '127.0.0.1:0'], { stdio: ['ignore', 'pipe', 'pipe'] });
  const port = await new Promise((found, failed) => {
    for (const stream of [server.stdout, server.stderr]) {
      createInterface({ input: stream }).on('line', (line) => {
        const listening = /"body":"listening".*"port":(\d+)/.exec(line);
        if (listening) found(listening[1]);
      });
    }
    server.once('exit', (code) => failed(new Error(`the server ended with ${code}`)));
  });
  return { server, url: `http://127.0.0.1:${port}` };
}

test('each picture of a folder becomes a thumbnail, and what is none ends its job', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'workmill-thumbnails-'));
  const pictures = join(folder, 'pictures');
  mkdirSync(pictures);
  writeFileSync(join(pictures, 'tall.png'), picture(300, 900));
  writeFileSync(join(pictures, 'tiny.png'), picture(3, 2));
  writeFileSync(join(pictures, 'wide.png'), picture(640, 480));
  writeFileSync(join(pictures, 'zzz.png'), 'no picture');
  const { server, url } = await serve(join(folder, 'data'));
  const env = { ...process.env, WORKMILL_URL: url };
  const worker = spawn(process.execPath, ['worker.mjs'], { cwd: here, env, stdio: ['ignore', 'inherit', 'ignore'] });

  const sent = await new Promise((resolve) => {
    const args = ['send.mjs', pictures, join(folder, 'small'), '64'];
    execFile(process.execPath, args, { cwd: here, env }, (error, stdout) => resolve({ code: error?.code ?? 0, stdout }));
  });

  assert.match(sent.stdout, /^tall\.png  21×64\ntiny\.png  3×2\nwide\.png  64×48\nzzz\.png  dead: .*is no PNG/);
  assert.equal(sent.code, 1);
  const small = PNG.sync.read(readFileSync(join(folder, 'small/wide.png')));
  assert.deepEqual([small.width, small.height], [64, 48]);
  const client = new Client({ url });
  for await (const job of client.list({ queue: 'thumbnails', state: 'completed' })) {
    assert.deepEqual(job.progress, { percent: 90, message: 'writing' });
    assert.match((await client.log(job.id))[0], /→/);
  }

  worker.kill('SIGTERM');
  assert.deepEqual(await once(worker, 'exit'), [0, null]);
  client.close();
  server.kill('SIGTERM');
  await once(server, 'exit');
  rmSync(folder, { recursive: true });
});

test('a thumbnail is the mean of what it covers, and what is transparent lends no colour', async () => {
  const data = Buffer.from([200, 0, 0, 255, 100, 50, 0, 255, 0, 0, 0, 0, 0, 0, 0, 0]);

  const small = await resize({ width: 2, height: 2, data }, 1, async () => {});

  assert.deepEqual([small.width, small.height, [...small.data]], [1, 1, [150, 25, 0, 128]]);
});
