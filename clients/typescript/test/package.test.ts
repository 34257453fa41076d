// The package as its users get it: packed, installed into an empty folder, used from both kinds of modules.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { Server } from './server.js';

const run = promisify(execFile);
const root = fileURLToPath(new URL('../..', import.meta.url));
const readme = readFileSync(join(root, 'README.md'), 'utf8');
const folder = mkdtempSync(join(tmpdir(), 'workmill-package-'));
let server: Server;

before(async () => {
  server = await new Server().start();
  // What is built is packed: to build again would pull it from under the tests beside us.
  const { stdout } = await run('npm', ['pack', '--ignore-scripts', '--silent', '--pack-destination', folder], {
    cwd: root,
  });
  const install = ['install', '--no-audit', '--no-fund', '--prefer-offline', '--silent', join(folder, stdout.trim())];
  await run('npm', install, { cwd: folder });
});
after(async () => {
  await server.remove();
  rmSync(folder, { recursive: true, force: true });
});

const tsc = join(root, 'node_modules/typescript/bin/tsc');
const types = ['--types', 'node', '--typeRoots', join(root, 'node_modules/@types')];
const modules = ['--module', 'nodenext', '--target', 'es2022', '--strict'];

/** Compiles with these arguments; what is wrong is the failure. */
const compile = (cwd: string, ...args: string[]) =>
  run(process.execPath, [tsc, ...modules, ...types, ...args], { cwd }).catch((error: { stdout: string }) =>
    assert.fail(error.stdout),
  );

const node = (file: string) =>
  run(process.execPath, [file], { cwd: folder, env: { ...process.env, WORKMILL_URL: server.url } });

test('the first example of the README runs in an empty folder', async () => {
  const example = /^```js\n(.*?)^```/ms.exec(readme)?.[1];
  assert.ok(example);
  writeFileSync(join(folder, 'hello.mjs'), example);

  const { stdout, stderr } = await node('hello.mjs');

  assert.equal(stdout, 'Hello, Ada\n');
  assert.equal(stderr, '');
});

test('it can be required as well', async () => {
  writeFileSync(
    join(folder, 'hello.cjs'),
    `const { Client, UserError } = require('workmill');
     const { FakeWorkmill } = require('workmill/testing');
     const client = new Client();
     client.enqueue('t', null, { priority: 10 }).catch((error) => {
       console.log(error instanceof UserError, error.code, typeof new FakeWorkmill().drain);
     });`,
  );

  const { stdout } = await node('hello.cjs');

  assert.equal(stdout, 'true invalid_field function\n');
});

test('it brings types for both, and one dependency', async () => {
  const use = `import { Client, Worker, type Job } from 'workmill';
    import { FakeWorkmill } from 'workmill/testing';
    interface In { file: string }
    const worker = new Worker().on<In, number>('t', async (job, ctx) => { ctx.progress(1); return job.payload.file.length; });
    export async function main(client: Client | FakeWorkmill): Promise<number> {
      const { id } = await client.enqueue<In>('t', { file: 'a' }, { runAt: new Date(), backoff: { first: '1s' } });
      const job: Job<In, number> = await client.get<In, number>(id);
      void worker.run;
      // @ts-expect-error: no such option.
      await client.enqueue('t', null, { colour: 'red' });
      return (job.result ?? 0) + (await client.result<number>(id));
    }`;
  writeFileSync(join(folder, 'use.mts'), use);
  writeFileSync(join(folder, 'use.cts'), use);
  await compile(folder, '--noEmit', 'use.mts', 'use.cts');

  const lock = JSON.parse(readFileSync(join(folder, 'package-lock.json'), 'utf8')) as { packages: object };
  assert.deepEqual(Object.keys(lock.packages), ['', 'node_modules/workmill', 'node_modules/ws']);
});

test('all that the README shows in TypeScript compiles', async () => {
  const blocks = [...readme.matchAll(/^```ts\n(.*?)^```/gms)].map(([, text]) => text!);
  const files = blocks.map((text, i) => {
    const resize = text.includes('interface Resize') ? '' : 'interface Resize { file: string; width: number }\n';
    const given = `declare const files: string[];
      declare function signUp(workmill: import('workmill').WorkmillApi, to: string): Promise<void>;
      ${text.includes('const worker') ? '' : "declare const worker: import('workmill').Worker;"}\n`;
    writeFileSync(join(folder, `block${i}.mts`), text + resize + given);
    return `block${i}.mts`;
  });

  await compile(folder, '--noEmit', ...files);

  assert.equal(files.length, 5);
});

test('the program of the guide compiles, and its test passes', async () => {
  const guide = readFileSync(join(root, '../../docs/guides/typescript.md'), 'utf8');
  const project = join(folder, 'guide');
  mkdirSync(join(project, 'src'), { recursive: true });
  writeFileSync(join(project, 'package.json'), '{"type": "module"}');
  let named = '';
  for (const [, file, text] of guide.matchAll(/`(src\/[a-z.]+\.ts)`|^```ts\n(.*?)^```/gms)) {
    if (file !== undefined) named = file;
    else writeFileSync(join(project, named), text!);
  }

  await compile(project, '--outDir', 'dist', '--rootDir', 'src', 'src/main.ts', 'src/mail.test.ts');
  // Without what makes the test runner above it take this for one of its own.
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const { stdout } = await run(process.execPath, ['--test', 'dist/mail.test.js'], { cwd: project, env });

  assert.match(stdout, /pass 1/);
});
