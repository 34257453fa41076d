// The batches of the fake: which jobs are in them, and what is enqueued at their end.
import { randomUUID } from 'node:crypto';
import type { BatchesApi, NewBatch } from '../batches.js';
import { hooked, keyHeader } from '../enqueue.js';
import { isWorkmillError } from '../errors.js';
import type {
  Batch,
  BatchFilter,
  BatchState,
  CallOptions,
  EnqueueCallOptions,
  EnqueueHook,
  ListOptions,
  NewJob,
} from '../types.js';
import { checkPageSize, invalid, name, overTheWire, user, type Stored } from './store.js';

/** What the batches ask of the fake whose they are. */
export interface BatchesOwner {
  now(): number;
  check(call: { signal?: AbortSignal | undefined }): void;
  readonly onEnqueue: EnqueueHook[];
  /** Throws what the server would say of such a job. */
  checkJob(job: NewJob): void;
  /** Does what is due. */
  settle(): void;
  isGone(stored: Stored): boolean;
}

interface Called {
  sent: NewJob;
  /** The id that it is enqueued with. */
  job: string | undefined;
}

interface Kept {
  id: string;
  /** What it was made from. */
  content: string;
  createdAt: string;
  closedAt: string | undefined;
  onSuccess: Called | undefined;
  onFinish: Called | undefined;
  meta: Record<string, unknown> | undefined;
  jobs: Stored[];
}

const callbackBytesMax = 64 * 1024;
const metaBytesMax = 16 * 1024;
const states: BatchState[] = ['open', 'closed', 'over'];
const notOfCallbacks = ['id', 'unique', 'batch'];
const notFound = (field?: string) =>
  user('batch_not_found', 'there is no such batch', { status: 404, ...(field === undefined ? {} : { field }) });

export class FakeBatches implements BatchesApi {
  readonly #owner: BatchesOwner;
  readonly #batches = new Map<string, Kept>();
  readonly #keys = new Map<string, { content: string; id: string }>();

  /** @internal */
  constructor(owner: BatchesOwner) {
    this.#owner = owner;
  }

  async create(batch: NewBatch, call: EnqueueCallOptions = {}): Promise<Batch> {
    this.#owner.check(call);
    const { id, meta } = batch;
    if (batch.onSuccess === undefined && batch.onFinish === undefined) {
      throw user('missing_field', 'a batch needs a callback', { field: 'on_finish' });
    }
    const onSuccess = await this.#callback('on_success', batch.onSuccess as NewJob | undefined);
    const onFinish = await this.#callback('on_finish', batch.onFinish as NewJob | undefined);
    if (id !== undefined && !name.test(id)) throw invalid('id', `${id} is no name`);
    if (Buffer.byteLength(JSON.stringify(meta ?? {})) > metaBytesMax) {
      throw user('payload_too_large', `must be ${metaBytesMax} bytes at most`, { field: 'meta', status: 413 });
    }
    const content = JSON.stringify([onSuccess, onFinish, meta]);
    return this.#once(call.idempotencyKey, JSON.stringify([id, content]), () => {
      const before = id === undefined ? undefined : this.#batches.get(id);
      if (before && before.content !== content) {
        throw user('batch_exists', 'another batch has this id', { field: 'id', status: 409 });
      }
      if (before) return before;
      const kept: Kept = {
        id: id ?? randomUUID(),
        content,
        createdAt: this.#now(),
        closedAt: undefined,
        onSuccess: onSuccess && { sent: onSuccess, job: undefined },
        onFinish: onFinish && { sent: onFinish, job: undefined },
        meta: overTheWire(meta),
        jobs: [],
      };
      this.#batches.set(kept.id, kept);
      return kept;
    });
  }

  async close(id: string, call: CallOptions = {}): Promise<Batch> {
    const kept = this.#find(id, call);
    kept.closedAt ??= this.#now();
    return this.#view(kept); // As on the server: what comes of it comes after that.
  }

  async get(id: string, call: CallOptions = {}): Promise<Batch> {
    return this.#view(this.#find(id, call));
  }

  async *list(filter: BatchFilter = {}, options: ListOptions = {}): AsyncIterableIterator<Batch> {
    this.#owner.check(options);
    checkPageSize(options);
    const { state } = filter;
    if (state !== undefined && !states.includes(state)) throw invalid('state', `one of ${states.join(', ')}`);
    this.#owner.settle();
    for (const kept of [...this.#batches.values()].reverse()) {
      const batch = this.#view(kept);
      if (state === undefined || stateOf(batch) === state) yield batch;
    }
  }

  async delete(id: string, call: CallOptions = {}): Promise<void> {
    this.#find(id, call);
    this.#batches.delete(id);
  }

  /** @internal */
  open(id: string): { jobs: Stored[] } {
    const kept = this.#batches.get(id);
    if (!kept) throw notFound('batch');
    if (kept.closedAt !== undefined) {
      throw user('batch_closed', 'the batch takes no more jobs: it is closed', { field: 'batch', status: 409 });
    }
    return kept;
  }

  /** @internal Throws where jobs are to be found by a batch that is not there. */
  checkThere(id: string, field: string): void {
    if (!this.#batches.has(id)) throw notFound(field);
  }

  /** @internal */
  *due(isGone: (stored: Stored) => boolean): Iterable<Called> {
    for (const kept of this.#batches.values()) {
      const { pending, completed, total } = countOf(kept.jobs, isGone);
      if (kept.closedAt === undefined || pending > 0) continue;
      if (kept.onSuccess && kept.onSuccess.job === undefined && completed === total) yield kept.onSuccess;
      if (kept.onFinish && kept.onFinish.job === undefined) yield kept.onFinish;
    }
  }

  #now(): string {
    return new Date(this.#owner.now()).toISOString();
  }

  #find(id: string, call: CallOptions): Kept {
    this.#owner.check(call);
    this.#owner.settle();
    const kept = this.#batches.get(id);
    if (!kept) throw notFound();
    return kept;
  }

  #once(key: string | undefined, content: string, make: () => Kept): Batch {
    this.#owner.settle();
    const before = key === undefined ? undefined : this.#keys.get(keyHeader(key));
    if (before && before.content !== content) {
      throw user('idempotency_key_reused', 'the key came with another body before', { status: 422 });
    }
    if (before) {
      const kept = this.#batches.get(before.id);
      if (!kept) throw notFound();
      return this.#view(kept);
    }
    const kept = make();
    if (key !== undefined) this.#keys.set(keyHeader(key), { content, id: kept.id });
    return this.#view(kept);
  }

  async #callback(field: string, given: NewJob | undefined): Promise<NewJob | undefined> {
    if (given === undefined) return undefined;
    const { payload, ...rest } = await hooked(given, this.#owner.onEnqueue);
    const job = { ...overTheWire(rest), payload: overTheWire(payload) };
    try {
      this.#owner.checkJob(job);
    } catch (error) {
      if (isWorkmillError(error)) error.field = error.field === undefined ? field : `${field}.${error.field}`;
      throw error;
    }
    for (const of of notOfCallbacks) {
      if (of in job) throw invalid(`${field}.${of}`, 'cannot be set for a callback: it is enqueued whatever is there');
    }
    if (Buffer.byteLength(JSON.stringify(job)) > callbackBytesMax) {
      throw user('payload_too_large', `must be ${callbackBytesMax} bytes at most`, { field, status: 413 });
    }
    return job;
  }

  #view({ id, createdAt, closedAt, onSuccess, onFinish, meta, jobs }: Kept): Batch {
    const isGone = (stored: Stored) => this.#owner.isGone(stored);
    const isLost = jobs.some((stored) => isGone(stored) && stored.job.state !== 'completed');
    const called = ({ job }: Called, isOver: boolean) =>
      job !== undefined
        ? { state: 'enqueued' as const, job }
        : { state: isOver ? ('not_coming' as const) : ('waiting' as const) };
    return {
      id,
      createdAt,
      ...(closedAt === undefined ? {} : { closedAt }),
      ...countOf(jobs, isGone),
      ...(onSuccess && { onSuccess: called(onSuccess, isLost) }),
      ...(onFinish && { onFinish: called(onFinish, false) }),
      ...(meta === undefined ? {} : { meta: overTheWire(meta) }),
    };
  }
}

function stateOf({ closedAt, pending, onSuccess, onFinish }: Batch): BatchState {
  if (closedAt === undefined) return 'open';
  return pending > 0 || onSuccess?.state === 'waiting' || onFinish?.state === 'waiting' ? 'closed' : 'over';
}

function countOf(jobs: Stored[], isGone: (stored: Stored) => boolean) {
  const counts = { total: jobs.length, pending: 0, completed: 0, dead: 0, cancelled: 0, deleted: 0 };
  for (const stored of jobs) {
    const { state } = stored.job;
    if (state === 'completed' || state === 'dead' || state === 'cancelled') counts[state] += 1;
    else counts[isGone(stored) ? 'deleted' : 'pending'] += 1;
  }
  return counts;
}
