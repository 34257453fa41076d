// Builds (not with --built), and runs all tests, or those whose file names are given: npm test -- stream http. With JUNIT
// set to a file, the results go there too.
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const only = process.argv.slice(2).filter((argument) => argument !== '--built');
const run = (...args) => spawnSync(process.execPath, args, { cwd: root, stdio: 'inherit' }).status ?? 1;

process.exitCode = process.argv.includes('--built') ? 0 : run('scripts/build.mjs', '--tests');
if (process.exitCode === 0) {
  const files = readdirSync(new URL('../dist/test', import.meta.url))
    .filter((file) => file.endsWith('.test.js') && (only.length === 0 || only.includes(file.replace('.test.js', ''))))
    .map((file) => `dist/test/${file}`);
  const { JUNIT } = process.env;
  const reporters = ['--test-reporter=spec', '--test-reporter-destination=stdout'];
  if (JUNIT) reporters.push('--test-reporter=junit', `--test-reporter-destination=${JUNIT}`);
  process.exitCode = run('--test', ...reporters, ...files);
}
