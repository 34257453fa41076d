// What an enqueue is made of besides the job: hooks that see it first, and the key under which it counts once.
import { createHash } from 'node:crypto';
import { UserError } from './errors.js';
import type { Enqueued, EnqueueHook, NewJob } from './types.js';

const keyLengthMax = 255;

/** The job as the hooks make it, one after another. */
export async function hooked(job: NewJob, hooks: EnqueueHook[]): Promise<NewJob> {
  const changed = { ...job };
  for (const hook of hooks) await hook(changed);
  return changed;
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
