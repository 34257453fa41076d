import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { milliseconds } from 'workmill';

test('the types are what the OpenAPI document of the server says', () => {
  const script = fileURLToPath(new URL('../../scripts/generate-wire.mjs', import.meta.url));

  const { status, stderr } = spawnSync(process.execPath, [script, '--check'], { encoding: 'utf8' });

  assert.equal(status, 0, stderr);
});

test('durations are milliseconds or texts', () => {
  assert.deepEqual(
    ['250ms', '30s', '5m', '1h30m', '7d', '1d2h3m4s5ms', 42, 1.6].map(milliseconds),
    [250, 30_000, 300_000, 5_400_000, 604_800_000, 93_784_005, 42, 2],
  );
  for (const wrong of ['', '5', '1s1m', 's', '-1s', '1 s', -1, NaN, Infinity]) {
    assert.throws(() => milliseconds(wrong), { code: 'invalid_field' }, String(wrong));
  }
});
