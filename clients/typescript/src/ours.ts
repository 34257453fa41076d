// Whether what a server tells makes sense. Of a worker it is looked at before any of it is taken: what throws in the middle
// would end the process, or leave half of it done.
import { FatalError } from './errors.js';
import type * as wire from './wire.js';

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function areJobs(list: unknown): list is wire.LeasedJob[] {
  return Array.isArray(list) && list.every(isJob);
}

export function areResults(list: unknown): list is wire.ReportResult[] {
  return Array.isArray(list) && list.every(isResult);
}

export function areTexts(list: unknown): list is string[] {
  return Array.isArray(list) && list.every((one) => typeof one === 'string');
}

export function isProblem(value: unknown): value is wire.Problem {
  return isObject(value) && typeof value['code'] === 'string' && typeof value['class'] === 'string';
}

// On every job's path: no list is made of its members.
function isJob(one: unknown): boolean {
  return (
    isObject(one) &&
    typeof one['id'] === 'string' &&
    typeof one['type'] === 'string' &&
    typeof one['lease'] === 'string' &&
    (one['payload_base64'] === undefined || typeof one['payload_base64'] === 'string')
  );
}

function isResult(one: unknown): boolean {
  return isObject(one) && (one['ok'] === true || isProblem(one['error']));
}

const notOurs = (what: string, cause?: unknown) =>
  new FatalError(what, { code: 'protocol_error', cause, mayHaveHappened: true });

/** What an answer says. Where that makes no sense, it is no answer of a Workmill server. */
export function read<Sent, T>(how: (sent: Sent) => T, sent: Sent): T {
  try {
    return how(sent);
  } catch (cause) {
    throw notOurs('an answer in a form that is not known', cause);
  }
}

export function listOf<T>(value: T[]): T[] {
  if (Array.isArray(value)) return value;
  throw notOurs('an answer without the list that was asked for');
}
