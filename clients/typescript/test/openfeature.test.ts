// The flags of a real server, asked by the SDK that applications ask: OpenFeature's, by its remote evaluation protocol.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { OFREPProvider } from '@openfeature/ofrep-provider';
import { ErrorCode, OpenFeature, StandardResolutionReasons } from '@openfeature/server-sdk';
import { Server } from './server.js';

const server = new Server();

async function put(key: string, definition: object): Promise<void> {
  const answer = await fetch(`${server.url}/v1/flags/${key}`, { method: 'PUT', body: JSON.stringify(definition) });
  assert.equal(answer.status, 200, await answer.text());
}

before(async () => {
  await server.start();
  await OpenFeature.setProviderAndWait(new OFREPProvider({ baseUrl: server.url }));
});
after(async () => {
  await OpenFeature.close();
  await server.remove();
});

const user = { targetingKey: 'user-1', plan: 'pro', age: 42, beta: true };

test('an SDK is answered with values of every type', async () => {
  const client = OpenFeature.getClient();
  await put('switch', { variants: { on: true, off: false }, default: 'on' });
  await put('text', { variants: { a: 'héllo' }, default: 'a' });
  await put('number', { variants: { a: 2.5 }, default: 'a' });
  await put('object', { variants: { a: { sizes: [1, 2] } }, default: 'a' });

  assert.equal(await client.getBooleanValue('switch', false, user), true);
  assert.equal(await client.getStringValue('text', '', user), 'héllo');
  assert.equal(await client.getNumberValue('number', 0, user), 2.5);
  assert.deepEqual(await client.getObjectValue('object', {}, user), { sizes: [1, 2] });
});

test('an SDK learns the variant, the reason and the version', async () => {
  const client = OpenFeature.getClient();
  const rules = [
    { if: { plan: ['team', 'pro'], age: [42], beta: [true] }, variant: 'on' },
    { rollout: { on: 0, off: 1 } },
  ];
  await put('rules', { variants: { on: true, off: false }, default: 'off', rules });

  const matched = await client.getBooleanDetails('rules', false, user);
  assert.equal(matched.value, true);
  assert.equal(matched.variant, 'on');
  assert.equal(matched.reason, StandardResolutionReasons.TARGETING_MATCH);
  assert.deepEqual(matched.flagMetadata, { version: 1 });

  const split = await client.getBooleanDetails('rules', true, { ...user, plan: 'free' });
  assert.equal(split.value, false);
  assert.equal(split.reason, StandardResolutionReasons.SPLIT);
});

test('an SDK falls back to its own default where there is no answer, and says why', async () => {
  const client = OpenFeature.getClient();
  await put('text', { variants: { a: 'x' }, default: 'a' });

  const unknown = await client.getBooleanDetails('nope', true, user);
  assert.equal(unknown.value, true);
  assert.equal(unknown.errorCode, ErrorCode.FLAG_NOT_FOUND);
  const nobody = await client.getStringDetails('text', 'mine', {});
  assert.equal(nobody.value, 'mine');
  assert.equal(nobody.errorCode, ErrorCode.TARGETING_KEY_MISSING);
  const mismatch = await client.getBooleanDetails('text', true, user);
  assert.equal(mismatch.value, true);
  assert.equal(mismatch.errorCode, ErrorCode.TYPE_MISMATCH);
});

test('a flag that is switched off is off for the next who asks', async () => {
  const client = OpenFeature.getClient();
  await put('kill', { variants: { on: true, off: false }, default: 'off', rules: [{ variant: 'on' }] });
  assert.equal(await client.getBooleanValue('kill', false, user), true);

  await put('kill', { variants: { on: true, off: false }, default: 'off', enabled: false, rules: [{ variant: 'on' }] });

  const details = await client.getBooleanDetails('kill', true, user);
  assert.equal(details.value, false);
  assert.equal(details.reason, StandardResolutionReasons.DISABLED);
});

test('a roll-out gives a user the same each time, also after a restart', async () => {
  const client = OpenFeature.getClient();
  await put('rollout', { variants: { a: 'a', b: 'b' }, default: 'a', rules: [{ rollout: { a: 50, b: 50 } }] });
  const ask = () =>
    Promise.all(
      Array.from({ length: 40 }, (_, n) => client.getStringValue('rollout', '', { targetingKey: `user-${n}` })),
    );
  const first = await ask();
  assert.ok(first.includes('a') && first.includes('b'));

  await server.stop('SIGKILL');
  await server.start();

  assert.deepEqual(await ask(), first);
});
