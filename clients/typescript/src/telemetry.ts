// OpenTelemetry, where the program has `@opentelemetry/api` installed: nothing here depends on it otherwise. Spans are
// named and attributed as the semantic conventions for messaging say.
import type * as otel from '@opentelemetry/api';
import { messageOf, stackOf } from './reports.js';
import type { LeasedJob } from './types.js';

export interface Telemetry {
  /** Runs `call` in a span of kind PRODUCER, whose context is in the headers that it is given. */
  send<T>(destination: string, count: number, call: (headers: Record<string, string>) => Promise<T>): Promise<T>;
  /** The current context, as headers. */
  inject(): Record<string, string>;
  /** Runs a handler in a span of kind CONSUMER, child of the job's own context. */
  process<T>(job: LeasedJob, handler: () => T | Promise<T>): Promise<T>;
}

let loading: Promise<Telemetry | undefined> | undefined;

/** Looks once a process whether the API is there. */
export function loadTelemetry(): Promise<Telemetry | undefined> {
  loading ??= import('@opentelemetry/api').then(
    (api) => new Tracing(api),
    () => undefined,
  );
  return loading;
}

class Tracing implements Telemetry {
  readonly #api: typeof otel;
  readonly #tracer: otel.Tracer;

  constructor(api: typeof otel) {
    this.#api = api;
    this.#tracer = api.trace.getTracer('workmill');
  }

  send<T>(destination: string, count: number, call: (headers: Record<string, string>) => Promise<T>): Promise<T> {
    const { context, propagation, trace, SpanKind } = this.#api;
    const attributes: otel.Attributes = {
      'messaging.system': 'workmill',
      'messaging.operation.name': 'send',
      'messaging.operation.type': 'send',
      'messaging.destination.name': destination,
    };
    if (count > 1) attributes['messaging.batch.message_count'] = count;
    const span = this.#tracer.startSpan(`send ${destination}`, { kind: SpanKind.PRODUCER, attributes });
    const headers: Record<string, string> = {};
    const inside = trace.setSpan(context.active(), span);
    propagation.inject(inside, headers);
    return this.#ended(span, async () => {
      const answer = await context.with(inside, call, undefined, headers);
      const { id } = answer as { id?: string };
      if (count === 1 && id !== undefined) span.setAttribute('messaging.message.id', id);
      return answer;
    });
  }

  inject(): Record<string, string> {
    const { context, propagation } = this.#api;
    const headers: Record<string, string> = {};
    propagation.inject(context.active(), headers);
    return headers;
  }

  process<T>(job: LeasedJob, handler: () => T | Promise<T>): Promise<T> {
    const { context, propagation, trace, SpanKind, ROOT_CONTEXT } = this.#api;
    const carrier = { traceparent: job.traceparent, tracestate: job.tracestate };
    const parent = job.traceparent === undefined ? ROOT_CONTEXT : propagation.extract(ROOT_CONTEXT, carrier);
    const span = this.#tracer.startSpan(
      `process ${job.queue}`,
      {
        kind: SpanKind.CONSUMER,
        attributes: {
          'messaging.system': 'workmill',
          'messaging.operation.name': 'process',
          'messaging.operation.type': 'process',
          'messaging.destination.name': job.queue,
          'messaging.message.id': job.id,
          'workmill.job.type': job.type,
          'workmill.job.attempt': job.attempt,
        },
      },
      parent,
    );
    return this.#ended(span, () => context.with(trace.setSpan(parent, span), async () => handler()));
  }

  async #ended<T>(span: otel.Span, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      // It may be anything that a handler threw, null too.
      const { code, name, message } = Object(error) as { code?: unknown; name?: unknown; message?: unknown };
      const [type, shown, stack] = [messageOf(code ?? name ?? 'unknown'), messageOf(message ?? error), stackOf(error)];
      span.setAttribute('error.type', type);
      span.recordException({ name: type, message: shown, ...(stack === undefined ? {} : { stack }) });
      span.setStatus({ code: this.#api.SpanStatusCode.ERROR, message: shown });
      throw error;
    } finally {
      span.end();
    }
  }
}
