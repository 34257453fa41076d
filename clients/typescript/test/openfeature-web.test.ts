// The same by the SDK of browsers, which asks for all flags at once, keeps what it was told, and polls for changes.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { OFREPWebProvider } from '@openfeature/ofrep-web-provider';
import { OpenFeature, ProviderEvents, type Provider } from '@openfeature/web-sdk';
import { eventually, Server } from './server.js';

test('an SDK that keeps values has all at once, is answered 304 while nothing changes, and sees a change', async (context) => {
  const server = await new Server().start();
  context.after(async () => {
    await OpenFeature.close();
    await server.remove();
  });
  const put = async (key: string, definition: object) => {
    const answer = await fetch(`${server.url}/v1/flags/${key}`, { method: 'PUT', body: JSON.stringify(definition) });
    assert.equal(answer.status, 200, await answer.text());
  };
  const asked: Array<[string, number]> = [];
  const count = (status: number) => asked.filter((one) => one[1] === status).length;
  const provider = new OFREPWebProvider({
    baseUrl: server.url,
    pollInterval: 10,
    cacheMode: 'disabled', // Else the values stay in the browser's storage, where there is one.
    fetchImplementation: async (...request: Parameters<typeof fetch>) => {
      const answer = await fetch(...request);
      asked.push([new URL(answer.url).pathname, answer.status]);
      return answer;
    },
  });
  await put('switch', {
    variants: { on: true, off: false },
    default: 'off',
    rules: [{ if: { plan: ['pro'] }, variant: 'on' }],
  });
  await put('text', { variants: { a: 'héllo' }, default: 'a' });

  await OpenFeature.setContext({ targetingKey: 'user-1', plan: 'pro' });
  await OpenFeature.setProviderAndWait(provider as Provider);
  const client = OpenFeature.getClient();
  assert.equal(client.getBooleanValue('switch', false), true);
  assert.equal(client.getStringValue('text', ''), 'héllo');
  assert.equal(client.getStringValue('none', 'mine'), 'mine');

  await eventually(() => count(304) > 0);
  assert.equal(count(200), 1);
  const changed = new Promise<string[] | undefined>((resolve) => {
    client.addHandler(ProviderEvents.ConfigurationChanged, (details) => resolve(details?.flagsChanged));
  });
  await put('switch', { variants: { on: true, off: false }, default: 'off' });

  assert.deepEqual(await changed, ['switch']);
  assert.equal(client.getBooleanValue('switch', true), false);
  assert.equal(client.getStringValue('text', ''), 'héllo');
  assert.equal(count(200), 2);
  assert.deepEqual([...new Set(asked.map(([path]) => path))], ['/ofrep/v1/evaluate/flags']);
});
