// With OpenTelemetry in the program: the trace of whoever enqueues goes on in the handler.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { context, SpanKind, SpanStatusCode, trace } from '@opentelemetry/api';
import { InMemorySpanExporter, NodeTracerProvider, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-node';
import { Client, Worker } from 'workmill';
import { Server } from './server.js';

const exporter = new InMemorySpanExporter();
const provider = new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
let server: Server;
before(async () => {
  provider.register();
  server = await new Server().start();
});
after(async () => {
  await provider.shutdown();
  await server.remove();
});

test('one trace from the caller over the job into its handler', async () => {
  const tracer = trace.getTracer('test');
  const client = new Client({ url: server.url });
  const worker = new Worker({ url: server.url, transport: 'http', signals: false, logger: false });
  worker.on('t', () => {
    tracer.startSpan('inside').end();
    throw new RangeError('too far');
  });
  const running = worker.run();

  const root = tracer.startSpan('root');
  const { id } = await context.with(trace.setSpan(context.active(), root), () =>
    client.enqueue('t', null, { maxAttempts: 1 }),
  );
  root.end();
  assert.equal((await client.waitFor(id)).state, 'dead');
  await worker.stop();
  await running;
  client.close();

  const spans = exporter.getFinishedSpans();
  const named = (name: string) => spans.find((span) => span.name === name)!;
  const [send, process, inside] = [named('send default'), named('process default'), named('inside')];
  assert.deepEqual([send.kind, process.kind], [SpanKind.PRODUCER, SpanKind.CONSUMER]);
  assert.equal(new Set([root, send, process, inside].map((span) => span.spanContext?.().traceId)).size, 1);
  assert.equal(send.parentSpanContext?.spanId, root.spanContext().spanId);
  assert.equal(process.parentSpanContext?.spanId, send.spanContext().spanId);
  assert.equal(inside.parentSpanContext?.spanId, process.spanContext().spanId);
  assert.equal(process.attributes['messaging.system'], 'workmill');
  assert.equal(process.attributes['messaging.message.id'], id);
  assert.equal(send.attributes['messaging.message.id'], id);
  assert.equal(process.attributes['error.type'], 'RangeError');
  assert.deepEqual(
    process.events.map(({ name, attributes }) => [name, attributes?.['exception.message']]),
    [['exception', 'too far']],
  );
  assert.equal(process.status.code, SpanStatusCode.ERROR);
});

test('a handler may throw anything', async () => {
  exporter.reset();
  const client = new Client({ url: server.url });
  const worker = new Worker({ url: server.url, queues: ['odd'], signals: false, logger: false });
  worker.on('odd', () => {
    throw null;
  });
  const running = worker.run();

  const { id } = await client.enqueue('odd', null, { queue: 'odd', maxAttempts: 1 });
  const { error } = await client.waitFor(id);
  await worker.stop();
  await running;
  client.close();

  assert.deepEqual([error?.code, error?.message], ['thrown', 'null']);
  const span = exporter.getFinishedSpans().find(({ name }) => name === 'process odd')!;
  assert.deepEqual([span.status.code, span.status.message], [SpanStatusCode.ERROR, 'null']);
});

test('an enqueue that fails, and one of several, show so in their spans', async () => {
  exporter.reset();
  const client = new Client({ url: server.url });

  await assert.rejects(client.enqueue('t', null, { queue: 'q', priority: 77 }));
  await client.enqueueMany([
    { type: 't', queue: 'q' },
    { type: 't', queue: 'q' },
  ]);
  await new Client({ url: server.url, tracing: false }).enqueue('t');
  client.close();

  const [failed, several, ...others] = exporter.getFinishedSpans();
  assert.deepEqual([failed!.name, several!.name, others.length], ['send q', 'send q', 0]);
  assert.deepEqual([failed!.attributes['error.type'], failed!.status.code], ['invalid_field', SpanStatusCode.ERROR]);
  assert.equal(several!.attributes['messaging.batch.message_count'], 2);
});
