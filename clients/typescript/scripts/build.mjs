// dist/esm and dist/cjs from src; with --tests, dist/test from test, which uses the package as its users do.
import { spawn } from 'node:child_process';
import { copyFileSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const tsc = fileURLToPath(new URL('../node_modules/typescript/bin/tsc', import.meta.url));

const compile = (project) =>
  new Promise((resolve, reject) => {
    const process = spawn(globalThis.process.execPath, [tsc, '-p', project], { cwd: root, stdio: 'inherit' });
    process.on('exit', (code) => (code === 0 ? resolve() : reject(new Error(`tsc -p ${project} failed`))));
  });

rmSync(new URL('../dist', import.meta.url), { recursive: true, force: true });
mkdirSync(new URL('../dist/cjs', import.meta.url), { recursive: true });
// What says to Node and to compilers which kind of modules these files are.
writeFileSync(new URL('../dist/cjs/package.json', import.meta.url), '{"type":"commonjs"}\n');

copyFileSync(new URL('../../../LICENSE', import.meta.url), new URL('../LICENSE', import.meta.url)); // For npm pack.

try {
  await Promise.all([compile('tsconfig.json'), compile('tsconfig.cjs.json')]);
  if (process.argv.includes('--tests')) await compile('tsconfig.test.json');
} catch (error) {
  console.error(String(error.message));
  process.exitCode = 1;
}
