// The texts of reports. Each is made into JSON on its own, as soon as it is known: a result that is no JSON then fails
// its own job, and no other.
import { isWorkmillError, UserError } from './errors.js';
import { durationText, milliseconds } from './duration.js';
import { toBase64 } from './names.js';
import type { Run } from './run.js';

/** One report on its way to the server. */
export interface Report {
  run: Run;
  text: string;
  kind: 'final' | 'extend' | 'said' | 'checkpoint';
  /** It was in a frame that the server refused as a whole: it is sent alone, to see whether it is the one. */
  alone: boolean;
  /** In place of one that was refused; if this one is too, there is nothing left to say. */
  last?: boolean;
  /** Of a checkpoint: tells the handler. */
  settle?: (error?: unknown) => void;
}

// The server's bounds. Of a message and a detail it keeps the beginning.
const resultBytesMax = 8 * 1024 * 1024;
// Of a result and all that is cached beside it, as sent (bytes are a third longer): below what a server takes that is not
// told otherwise.
export const reportBytesMax = 11.5 * 1024 * 1024;
const checkpointBytesMax = 1024 * 1024;
const messageCharactersMax = 8 * 1024;
const retryInMsMax = 36_525 * 86_400_000;

// Ids and tokens have no character that JSON would escape.
const head = (run: Run, outcome: string) => `{"id":"${run.job.id}","lease":"${run.job.lease}","outcome":"${outcome}"`;

export const releasedText = (run: Run): string => `${head(run, 'released')}}`;
export const extendText = (run: Run, leaseMs: number): string =>
  `${head(run, 'extend')},"for":"${durationText(leaseMs)}"}`;
export const linesText = (run: Run, lines: string[]): string => `${head(run, 'log')},"lines":${JSON.stringify(lines)}}`;
export const progressText = (run: Run, percent: number, message: string | undefined): string =>
  `${head(run, 'progress')},"percent":${percent}${message === undefined ? '' : `,"message":${JSON.stringify(message)}`}}`;

/** Throws where `data` is no JSON, or too large. */
export function checkpointText(run: Run, data: unknown): string {
  const json = (JSON.stringify(data) as string | undefined) ?? 'null';
  if (Buffer.byteLength(json) > checkpointBytesMax) {
    throw new UserError(`a checkpoint of ${Buffer.byteLength(json)} bytes; ${checkpointBytesMax} are allowed`, {
      code: 'payload_too_large',
    });
  }
  return `${head(run, 'checkpoint')},"data":${json}}`;
}

export function completedText(run: Run, result: unknown): string {
  const { cached } = run;
  const tail = cached === undefined ? '}' : `,"cache":${cached}}`;
  const extra = cached === undefined ? 0 : Buffer.byteLength(cached);
  if (result === undefined) return head(run, 'completed') + tail;
  if (result instanceof Uint8Array) {
    if (result.byteLength > resultBytesMax) return tooLarge(run, result.byteLength);
    const sent = Math.ceil(result.byteLength / 3) * 4 + extra;
    if (sent > reportBytesMax) return tooLarge(run, sent, true);
    return `${head(run, 'completed')},"result_base64":"${toBase64(result)}"${tail}`;
  }
  let json: string | undefined;
  try {
    json = JSON.stringify(result) as string | undefined;
  } catch (error) {
    return failedText(run, {
      class: 'fatal',
      code: 'result_not_json',
      message: `the result is no JSON: ${String(error)}`,
    });
  }
  if (json === undefined) return head(run, 'completed') + tail; // A function or a symbol.
  if (json.length * 3 + extra > resultBytesMax) {
    const bytes = Buffer.byteLength(json);
    if (bytes > resultBytesMax) return tooLarge(run, bytes);
    if (bytes + extra > reportBytesMax) return tooLarge(run, bytes + extra, true);
  }
  return `${head(run, 'completed')},"result":${json}${tail}`;
}

function tooLarge(run: Run, bytes: number, isReport = false): string {
  const what = isReport ? 'a result and what is cached with it' : 'a result';
  const most = isReport ? `${reportBytesMax} are allowed as sent` : `${resultBytesMax} are allowed`;
  const message = `${what} of ${bytes} bytes; ${most}: give back where it is instead`;
  return failedText(run, { class: 'fatal', code: 'result_too_large', message });
}

export interface Failure {
  class: 'retryable' | 'user' | 'fatal';
  code: string;
  message: string;
  detail?: unknown;
  retryIn?: string;
}

export function failedText(run: Run, failure: Failure): string {
  const { retryIn, ...error } = failure;
  return `${head(run, 'failed')},"error":${JSON.stringify(error)}${retryIn === undefined ? '' : `,"retry_in":"${retryIn}"`}}`;
}

/** As a text, whatever it is: what a handler threw may throw again where it is to be shown. */
function shown(value: unknown): string {
  try {
    return String(value);
  } catch {
    return 'something that cannot be shown';
  }
}

/** Node makes it when it is looked at, of what the error has then, and that may throw. */
export function stackOf(error: unknown): string | undefined {
  try {
    const stack = error instanceof Error ? (error.stack as unknown) : undefined;
    return typeof stack === 'string' ? stack : undefined;
  } catch {
    return undefined;
  }
}

const nameOf = (text: unknown) =>
  shown(text)
    .replace(/[^A-Za-z0-9._:-]/g, '_')
    .slice(0, 128) || 'failed';

/** What a handler threw, as the server is told. Whatever it is, this throws nothing. */
export function failureOf(thrown: unknown): Failure {
  if (isWorkmillError(thrown)) {
    const failure: Failure = { class: thrown.class, code: nameOf(thrown.code), message: messageOf(thrown.message) };
    const detail = detailOf(thrown.detail);
    if (detail !== undefined) failure.detail = detail;
    if (thrown.class === 'retryable' && thrown.retryIn !== undefined) {
      try {
        if (milliseconds(thrown.retryIn) <= retryInMsMax) failure.retryIn = durationText(thrown.retryIn);
      } catch {
        // Not a duration: the backoff decides, as it does for one that is too long.
      }
    }
    return failure;
  }
  if (thrown instanceof Error) {
    const failure: Failure = { class: 'retryable', code: nameOf(thrown.name), message: messageOf(thrown.message) };
    const stack = stackOf(thrown);
    if (stack !== undefined) failure.detail = { stack: textOf(stack, 4_000) };
    return failure;
  }
  return { class: 'retryable', code: 'thrown', message: messageOf(thrown) };
}

/**
 * The beginning of it, in whole characters: half a surrogate pair, which a cut may leave and which the server refuses, is
 * none.
 */
export function textOf(value: unknown, charactersMax: number): string {
  const text = shown(value);
  if (text.length <= charactersMax) return text.toWellFormed();
  const isBetween = /[\uD800-\uDBFF]/.test(text[charactersMax - 1]!) && /[\uDC00-\uDFFF]/.test(text[charactersMax]!);
  return text.slice(0, isBetween ? charactersMax - 1 : charactersMax).toWellFormed();
}

export const messageOf = (message: unknown): string => textOf(message, messageCharactersMax);

/** What JSON can say of it; only the beginning, as a text, where that is long. */
function detailOf(value: unknown): unknown {
  try {
    const json = JSON.stringify(value) as string | undefined;
    if (json === undefined) return value;
    // A half of a surrogate pair is the only one of them that is escaped. Behind an escaped backslash it is but text.
    const whole = json.replace(/\\\\|\\ud[89a-f][0-9a-f]{2}/g, (found) => (found === '\\\\' ? found : '\\ufffd'));
    if (whole.length > messageCharactersMax) return messageOf(whole);
    return whole === json ? value : (JSON.parse(whole) as unknown);
  } catch {
    return undefined;
  }
}
