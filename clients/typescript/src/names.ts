// Between the names of the wire and those of TypeScript. Only the outermost names of an object: what lies deeper is
// the user's (payload, meta, result) or has names of one word.
import { durationText } from './duration.js';
import { UserError } from './errors.js';
import type { Batch, Job, JobOptions, LeasedJob, LeasedJobs, NewJob, Queue, Report, ReportResult } from './types.js';
import type * as wire from './wire.js';

const toCamel = new Map<string, string>();
const toSnake = new Map<string, string>();

function camelName(name: string): string {
  let known = toCamel.get(name);
  if (known === undefined) {
    known = name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
    if (toCamel.size < 1_000) toCamel.set(name, known);
  }
  return known;
}

function snakeName(name: string): string {
  let known = toSnake.get(name);
  if (known === undefined) {
    known = name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    if (toSnake.size < 1_000) toSnake.set(name, known);
  }
  return known;
}

export function camel(object: object): Record<string, unknown> {
  const result: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(object)) result[camelName(name)] = value;
  return result;
}

/** Without what is undefined. */
export function snake(object: object): Record<string, unknown> {
  const result: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(object)) if (value !== undefined) result[snakeName(name)] = value;
  return result;
}

export const toBase64 = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('base64');
export const fromBase64 = (text: string): Buffer => Buffer.from(text, 'base64');

const durations = ['delay', 'expires_in', 'lease', 'keep_result'];

/** A job as it is sent. */
export function jobToWire(type: string, payload: unknown, options: JobOptions | undefined): wire.Job {
  const sent = snake(options ?? {});
  for (const name of durations) {
    const value = sent[name];
    if (typeof value === 'number') sent[name] = durationText(value);
  }
  if (sent['run_at'] instanceof Date) sent['run_at'] = sent['run_at'].toISOString();
  if (options?.backoff) {
    const { first, cap, ...rest } = options.backoff;
    sent['backoff'] = {
      ...(first === undefined ? {} : { first: durationText(first) }),
      ...rest,
      ...(cap === undefined ? {} : { cap: durationText(cap) }),
    };
  }
  if (options?.unique?.for !== undefined) sent['unique'] = { ...options.unique, for: durationText(options.unique.for) };
  sent['type'] = type;
  if (typeof payload === 'function' || typeof payload === 'symbol') {
    // JSON would leave it out without a word.
    throw new UserError(`a ${typeof payload} is no payload`, { code: 'invalid_field', field: 'payload' });
  }
  if (payload instanceof Uint8Array) sent['payload_base64'] = toBase64(payload);
  else if (payload !== undefined) sent['payload'] = payload;
  return sent as wire.Job;
}

export function newJobToWire(job: NewJob): wire.Job {
  const { type, payload, ...options } = job;
  return jobToWire(type, payload, options);
}

/** Throws where that is no name: then what came is something else. */
function check(name: unknown): void {
  if (typeof name !== 'string') throw new TypeError('it has no name');
}

export function enqueuedFromWire(sent: wire.Enqueued): wire.Enqueued {
  check(sent.id);
  return sent;
}

export function batchFromWire(sent: wire.Batch): Batch {
  check(sent.id);
  return camel(sent) as Batch;
}

export function jobFromWire<In, Out>(sent: wire.JobAsRead): Job<In, Out> {
  check(sent.id);
  const { payload_base64, result_base64, ...rest } = sent;
  const job = camel(rest);
  if (payload_base64 !== undefined) job['payload'] = fromBase64(payload_base64);
  if (result_base64 !== undefined) job['result'] = fromBase64(result_base64);
  return job as Job<In, Out>;
}

export function leasedFromWire<In>(sent: wire.LeasedJob): LeasedJob<In> {
  check(sent.id);
  const { payload_base64, ...rest } = sent;
  const job = camel(rest);
  if (payload_base64 !== undefined) job['payload'] = fromBase64(payload_base64);
  return job as LeasedJob<In>;
}

export function leasedJobsFromWire(sent: wire.LeasedJobs): LeasedJobs {
  return {
    jobs: sent.jobs.map((job) => leasedFromWire(job)),
    reports: (sent.reports ?? []).map((result) => camel(result) as ReportResult),
  };
}

export function queueFromWire(sent: wire.Queue): Queue {
  check(sent.name);
  return { ...camel(sent), settings: camel(sent.settings) } as Queue;
}

export const reportToWire = (report: Report): wire.Report => snake(report) as wire.Report;
