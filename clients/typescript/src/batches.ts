// Sets of jobs whose end enqueues one or two more: `client.batches`.
import { randomUUID } from 'node:crypto';
import { hooked, keyHeader } from './enqueue.js';
import { batchFromWire, newJobToWire } from './names.js';
import { read } from './ours.js';
import type {
  Batch,
  BatchFilter,
  CallOptions,
  Callback,
  EnqueueCallOptions,
  EnqueueHook,
  ListOptions,
  NewJob,
} from './types.js';
import type * as wire from './wire.js';

/** At least one of `onSuccess` and `onFinish`. */
export interface NewBatch {
  /** One of your own. The same batch sent again under it answers the one that is there. Default: the server makes one. */
  id?: string | undefined;
  /** Enqueued once, when the batch is closed and all of its jobs are completed. */
  onSuccess?: Callback | undefined;
  /**
   * Enqueued once, when the batch is closed and each of its jobs has ended for the first time: completed, dead, cancelled or
   * deleted.
   */
  onFinish?: Callback | undefined;
  /** Shown with the batch. */
  meta?: Record<string, unknown> | undefined;
}

/** What `client.batches` and that of the fake of `workmill/testing` both are. */
export interface BatchesApi {
  /**
   * Makes a batch; resolves when it is on disk. Jobs are put into it by their option `batch`, from any program, until it is
   * closed. Its callbacks are jobs without `id`, `unique` and `batch`, 64 KiB at most, and are checked now.
   *
   * Rejects with the code `batch_exists` where another batch has this id.
   */
  create(batch: NewBatch, call?: EnqueueCallOptions): Promise<Batch>;
  /** All its jobs are sent: it takes no more, and calls back when its time has come. Once more is no error. */
  close(id: string, call?: CallOptions): Promise<Batch>;
  /** How far it is. Rejects with the code `batch_not_found` where there is none, or no longer. */
  get(id: string, call?: CallOptions): Promise<Batch>;
  /** All batches, or those in one state, newest first, fetched page by page as they are asked for. */
  list(filter?: BatchFilter, options?: ListOptions): AsyncIterableIterator<Batch>;
  /** Forgets it. Its jobs stay, and what it has not enqueued by then never comes. */
  delete(id: string, call?: CallOptions): Promise<void>;
}

/** What it needs of its client. */
export interface BatchesCaller {
  call<T>(
    method: string,
    path: string,
    body: string | undefined,
    call: CallOptions,
    headers?: Record<string, string>,
  ): Promise<T>;
  pages<T>(path: string, query: { state: string | undefined }, options: ListOptions): AsyncIterable<T>;
  readonly onEnqueue: EnqueueHook[];
  /** The current trace's context. */
  traceHeaders(): Promise<Record<string, string>>;
}

const batchPath = (id: string, rest = '') => `/v1/batches/${encodeURIComponent(id)}${rest}`;

/** `client.batches`. */
export class Batches implements BatchesApi {
  readonly #client: BatchesCaller;

  /** @internal */
  constructor(client: BatchesCaller) {
    this.#client = client;
  }

  async create(batch: NewBatch, call: EnqueueCallOptions = {}): Promise<Batch> {
    const { id, onSuccess, onFinish, meta } = batch;
    const sent: Record<string, unknown> = { id, meta };
    if (onSuccess !== undefined) sent['on_success'] = await this.#sent(onSuccess);
    if (onFinish !== undefined) sent['on_finish'] = await this.#sent(onFinish);
    // Without an id of its own, too, a lost answer makes no second batch.
    const key = { 'idempotency-key': keyHeader(call.idempotencyKey ?? randomUUID()) };
    const headers = { ...(await this.#client.traceHeaders()), ...key };
    const made = await this.#client.call<wire.Batch>('POST', '/v1/batches', JSON.stringify(sent), call, headers);
    return read(batchFromWire, made);
  }

  async close(id: string, call: CallOptions = {}): Promise<Batch> {
    return read(batchFromWire, await this.#client.call<wire.Batch>('POST', batchPath(id, '/close'), undefined, call));
  }

  async get(id: string, call: CallOptions = {}): Promise<Batch> {
    return read(batchFromWire, await this.#client.call<wire.Batch>('GET', batchPath(id), undefined, call));
  }

  async *list(filter: BatchFilter = {}, options: ListOptions = {}): AsyncIterableIterator<Batch> {
    const batches = this.#client.pages<wire.Batch>('/v1/batches', { state: filter.state }, options);
    for await (const batch of batches) yield read(batchFromWire, batch);
  }

  async delete(id: string, call: CallOptions = {}): Promise<void> {
    await this.#client.call('DELETE', batchPath(id), undefined, call);
  }

  async #sent(callback: Callback): Promise<wire.Job> {
    return newJobToWire(await hooked(callback as NewJob, this.#client.onEnqueue));
  }
}
