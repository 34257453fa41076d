import type { BatchesApi } from './batches.js';
import type { CacheApi } from './cache.js';
import type {
  CallOptions,
  EnqueueCallOptions,
  Enqueued,
  Job,
  JobChanges,
  JobFilter,
  JobOptions,
  JobState,
  LeaseRequest,
  LeasedJobs,
  ListOptions,
  NewJob,
  Payload,
  Queue,
  QueueChanges,
  Report,
  ReportResult,
  WaitOptions,
} from './types.js';
import type { Bulk, Status } from './wire.js';

/** What `Client` and the fake of `workmill/testing` both are: let your code ask for this one. */
export interface WorkmillApi {
  readonly cache: CacheApi;
  readonly batches: BatchesApi;
  enqueue<In = Payload>(type: string, payload?: In, options?: JobOptions, call?: EnqueueCallOptions): Promise<Enqueued>;
  enqueueMany(jobs: Iterable<NewJob> | AsyncIterable<NewJob>, call?: EnqueueCallOptions): Promise<Enqueued[]>;
  get<In = any, Out = any>(id: string, call?: CallOptions): Promise<Job<In, Out>>;
  waitFor<In = any, Out = any>(id: string, options?: WaitOptions): Promise<Job<In, Out>>;
  result<Out = any>(id: string, options?: WaitOptions): Promise<Out>;
  cancel(id: string, call?: CallOptions): Promise<void>;
  retry(id: string, call?: CallOptions): Promise<void>;
  delete(id: string, call?: CallOptions): Promise<void>;
  update(id: string, changes: JobChanges, call?: CallOptions): Promise<Job>;
  log(id: string, call?: CallOptions): Promise<string[]>;
  list(filter?: JobFilter, options?: ListOptions): AsyncIterableIterator<Job>;
  queues(options?: ListOptions): AsyncIterableIterator<Queue>;
  queue(name: string, call?: CallOptions): Promise<Queue>;
  updateQueue(name: string, changes: QueueChanges, call?: CallOptions): Promise<Queue>;
  bulk(action: Bulk['action'], where: Omit<JobFilter, 'q'>, call?: CallOptions): Promise<number>;
  purge(queue: string, state?: JobState, call?: CallOptions): Promise<number>;
  status(call?: CallOptions): Promise<Status>;
  lease(request: LeaseRequest, call?: CallOptions): Promise<LeasedJobs>;
  report(reports: Report[], call?: CallOptions): Promise<ReportResult[]>;
  close(): void;
}
