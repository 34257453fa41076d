// What an enqueue is made of besides the job: hooks that see it first, and the key under which it counts once.
import { createHash } from 'node:crypto';
import { UserError } from './errors.js';
import type { Enqueued, EnqueueHook, NewJob } from './types.js';

const keyLengthMax = 255;

/** The job as the hooks make it, one after another: at once, but for those that return a promise. */
export function hooked(job: NewJob, hooks: EnqueueHook[]): NewJob | Promise<NewJob> {
  const changed = { ...job };
  const from = (first: number): NewJob | Promise<NewJob> => {
    for (let i = first; i < hooks.length; i += 1) {
      const done: unknown = hooks[i]!(changed);
      if (isThenable(done)) return Promise.resolve(done).then(() => from(i + 1));
    }
    return changed;
  };
  return from(0);
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as { then?: unknown } | null | undefined)?.then === 'function';
}

/** An idempotency key as a header. Throws a UserError for what is none. */
export function keyHeader(key: string): string {
  if (!/^[\x20-\x7e]+$/.test(key) || key.length > keyLengthMax) {
    throw new UserError(`an idempotency key is 1 to ${keyLengthMax} characters of printable ASCII`, {
      code: 'invalid_field',
      field: 'idempotencyKey',
    });
  }
  return `"${key.replace(/["\\]/g, '\\$&')}"`;
}

/**
 * Many jobs are several calls: each has a key of its own, and the same one when all are sent again. The clients of other
 * languages make the same ones.
 */
export function keyOfPart(key: string, part: number): string {
  if (part === 0) return key;
  const suffix = `.${part}`;
  if (key.length + suffix.length <= keyLengthMax) return key + suffix;
  return `sha256:${createHash('sha256').update(key).digest('hex')}${suffix}`;
}

/**
 * Has what ended an `enqueueMany` say what the calls before it were answered. It may be any error, a hook's too; one that
 * takes no properties stays as it is.
 */
export function tellOfAll(error: unknown, answers: Enqueued[]): void {
  if (error instanceof Error) Reflect.set(error, 'enqueued', answers);
}
