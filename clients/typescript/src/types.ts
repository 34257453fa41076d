// What programs send and read. Names are in camelCase here and in snake_case on the wire; these types are computed from
// those that are made from the server's OpenAPI document, so that a field which it gains or loses shows when this
// package is compiled.
import type * as wire from './wire.js';

export type { ErrorClass, JobState, JobError, Progress, Enqueued } from './wire.js';

/** A time span: milliseconds, or a text such as `"250ms"`, `"30s"`, `"5m"`, `"1h30m"`, `"7d"`. */
export type Duration = number | string;

type CamelName<S> = S extends `${infer Head}_${infer Tail}` ? `${Head}${Capitalize<CamelName<Tail>>}` : S;
/** The outermost names only: what lies deeper is the user's own, or has one-word names. */
type Camel<T> = T extends unknown ? { [K in keyof T as K extends string ? CamelName<K> : K]: T[K] } : never;
/** An option that is there and undefined is as one that is not there. */
type Loose<T> = { [K in keyof T]: T[K] | undefined };
type Without<T, K extends string> = { [P in keyof T as P extends K ? never : P]: T[P] };

/** What JSON can say of it comes back; a Uint8Array is kept as raw bytes and comes back as a Buffer. */
export type Payload = unknown;

export type Backoff = Loose<Without<wire.Backoff, 'first' | 'cap'>> & {
  /** Default: 15s. */
  first?: Duration | undefined;
  /** Default: 1h. */
  cap?: Duration | undefined;
};

export type Unique = Loose<Without<wire.Unique, 'for' | 'key'>> & {
  key: string;
  for?: Duration | undefined;
};

type DurationField = 'delay' | 'expiresIn' | 'lease' | 'keepResult';

/** What there is to say of a job besides its type and payload. */
export type JobOptions = Loose<
  Without<Camel<wire.Job>, 'type' | 'payload' | 'payloadBase64' | 'runAt' | 'backoff' | 'unique' | DurationField>
> & {
  /** Not before this time. At most one of `runAt` and `delay`. */
  runAt?: Date | string | undefined;
  /** Not before so long from now. */
  delay?: Duration | undefined;
  /** Not leased by then: dead, with the error `expired`. */
  expiresIn?: Duration | undefined;
  /** How long a worker may be silent. Default: 60s. */
  lease?: Duration | undefined;
  /** How long the finished job is known. Default: 1h. */
  keepResult?: Duration | undefined;
  /** When it runs again after a failure. */
  backoff?: Backoff | undefined;
  /** Another job with the same key in the queue is no second job: the answer names the first. */
  unique?: Unique | undefined;
};

/** A job to be sent. */
export type NewJob<In = Payload> = JobOptions & { type: string; payload?: In };

/** A job that a batch enqueues when its time has come. What it says of times is counted from then. */
export type Callback<In = Payload> = Without<NewJob<In>, 'id' | 'unique' | 'batch'>;

/**
 * How far a batch is: `total` jobs were put into it, of which so many are `pending` (scheduled, ready or leased), `completed`,
 * `dead`, `cancelled`, or were `deleted` before they were finished. Of its callbacks there are those that it was made with, each
 * with its `state` (`waiting`, `enqueued`, `not_coming`) and, once it is enqueued, the id of its `job`.
 */
export type Batch = Camel<wire.Batch>;

/**
 * `open`: it takes jobs. `closed`: it waits for the end of jobs, or for the retry of dead or cancelled ones. `over`: nothing
 * more comes of it.
 */
export type BatchState = 'open' | 'closed' | 'over';

export interface BatchFilter {
  state?: BatchState | undefined;
}

/**
 * Sees a job before it is sent, and may change it: it is a copy, but for what lies deeper in it. A promise is waited for.
 * What it throws is the enqueue's error, and the job is not sent. In the middle of `enqueueMany`, the jobs of the calls before
 * it are enqueued, and the error's `enqueued` has their answers.
 */
export type EnqueueHook = (job: NewJob) => void | Promise<void>;

/** A job as read. Times are RFC 3339 texts in UTC, durations texts such as `"1m"`. */
export type Job<In = any, Out = any> = Without<
  Camel<wire.JobAsRead>,
  'payload' | 'payloadBase64' | 'result' | 'resultBase64'
> & {
  payload: In;
  /** What its worker gave back, once it is completed. */
  result?: Out;
};

/** A job that is leased to us, to be worked on. */
export type LeasedJob<In = any> = Without<Camel<wire.LeasedJob>, 'payload' | 'payloadBase64' | 'checkpoint'> & {
  payload: In;
  /** What an earlier attempt left by `ctx.checkpoint`. */
  checkpoint?: any;
};

export type JobFilter = Loose<Camel<wire.JobFilter>> & {
  /** In its type, id, payload or error. */
  q?: string | undefined;
};

export type JobChanges = Loose<Without<Camel<wire.JobChanges>, 'runAt'>> & { runAt?: Date | string | undefined };

export type Queue = Without<Camel<wire.Queue>, 'settings' | 'depth'> & {
  depth: Record<wire.JobState, number>;
  settings: Camel<wire.QueueSettings>;
};

export type QueueChanges = Loose<Camel<wire.QueueChanges>>;

/** One name, or a name with a weight. */
export type QueueChoice = wire.QueueChoice;

export type LeaseRequest = Loose<Without<Camel<wire.LeaseRequest>, 'queues' | 'wait' | 'lease' | 'reports'>> & {
  queues: QueueChoice[];
  /** How long to wait for a first job. At most 5m; 0s by default. */
  wait?: Duration | undefined;
  /** Instead of the jobs' own. */
  lease?: Duration | undefined;
  /** Of earlier jobs: decided first, in the same flush. */
  reports?: Report[] | undefined;
};

/** What a worker says of its lease. */
export type Report = Camel<wire.Report>;

export type ReportResult = Camel<Without<wire.ReportResult, 'error'>> & { error?: wire.Problem };

export type LeasedJobs = { jobs: LeasedJob[]; reports: ReportResult[] };

/** For all calls. */
export interface CallOptions {
  /** Gives the call up: it then rejects with the signal's reason. */
  signal?: AbortSignal | undefined;
  /** How long one try may take, instead of the client's `requestTimeout`. What the server is asked to wait comes on top. */
  timeout?: Duration | undefined;
}

export interface EnqueueCallOptions extends CallOptions {
  /** Instead of one that is made for each call: the same key never enqueues twice, for 24 hours. */
  idempotencyKey?: string | undefined;
}

export interface ListOptions extends CallOptions {
  /** How many a call to the server, 1 to 1,000. Default: 200. */
  pageSize?: number | undefined;
}

export interface WaitOptions {
  /** How long at most; for ever without it. */
  timeout?: Duration | undefined;
  signal?: AbortSignal | undefined;
}
