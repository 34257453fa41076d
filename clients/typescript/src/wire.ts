// Made from the OpenAPI document of the server by `npm run generate`: do not edit.

/** 1 to 128 of A-Z a-z 0-9 . _ : - */
export type Name = string;

/** A UUIDv7 made by the server, or the id that the client brought. */
export type JobId = string;

/** Number-unit pairs, large units first: d h m s ms. */
export type Duration = string;

/** RFC 3339 with a zone; written in UTC with milliseconds. */
export type Time = string;

export type JobState = 'scheduled' | 'ready' | 'leased' | 'completed' | 'dead' | 'cancelled';

/** user: mend the request. retryable: try again. fatal: give it up. */
export type ErrorClass = 'user' | 'retryable' | 'fatal';

/** When a failed job runs again: first × factor^n, at most cap, give or take the jitter. */
export type Backoff = {
  /** Default: "15s". */
  first?: Duration;
  /** Default: 2. */
  factor?: number;
  /** Default: "1h". */
  cap?: Duration;
  /** Default: 0.2. */
  jitter?: number;
};

export type Unique = {
  key: string;
  /** Default: "unfinished". */
  while?: 'scheduled' | 'queued' | 'unfinished';
  for?: Duration;
};

/** A job as sent. At most one of payload and payload_base64, and of delay and run_at. */
export type Job = {
  type: Name;
  /** Default: "default". */
  queue?: Name;
  /** Any JSON. */
  payload?: unknown;
  /** Raw bytes. */
  payload_base64?: string;
  /** An id of the client's own. Sent again, it answers the job already there. */
  id?: JobId;
  /** 9 first. Default: 5. */
  priority?: number;
  delay?: Duration;
  run_at?: Time;
  /** Not leased by then: dead, with the error expired. */
  expires_in?: Duration;
  /** Default: 20. */
  max_attempts?: number;
  backoff?: Backoff;
  /** Default: "60s". */
  lease?: Duration;
  unique?: Unique;
  /** A tenant: groups take turns within their priority. */
  group?: Name;
  tags?: Name[];
  /** The batch, not closed yet, that it belongs to. */
  batch?: BatchId;
  /** Default: "1h". */
  keep_result?: Duration;
  /** Handed to the worker as it is. */
  meta?: { [name: string]: unknown };
};

export type Jobs = {
  jobs: Job[];
};

export type Enqueued = {
  id: JobId;
  state: JobState;
  /** It was there already, by its id or its unique key. */
  duplicate: boolean;
};

export type EnqueuedJobs = {
  jobs: Enqueued[];
};

export type JobError = {
  class: ErrorClass;
  code: Name;
  message: string;
  /** Any JSON. */
  detail?: unknown;
  attempt: number;
  at: Time;
};

export type Progress = {
  percent: number;
  message?: string;
};

/** What was sent, with what holds by default, and what became of it. What a job does not have is left out. */
export type JobAsRead = {
  id: JobId;
  state: JobState;
  /** Its worker has been asked to stop. */
  cancel_requested?: boolean;
  type: Name;
  queue: Name;
  payload?: unknown;
  payload_base64?: string;
  priority: number;
  delay?: Duration;
  run_at?: Time;
  expires_in?: Duration;
  backoff?: Backoff;
  lease?: Duration;
  keep_result?: Duration;
  unique?: Unique;
  group?: Name;
  tags?: Name[];
  batch?: BatchId;
  meta?: { [name: string]: unknown };
  traceparent?: string;
  tracestate?: string;
  /** 1 for the first run; 0 before it. */
  attempt: number;
  max_attempts: number;
  created_at: Time;
  ready_at?: Time;
  lease_expires_at?: Time;
  started_at?: Time;
  finished_at?: Time;
  worker?: Name;
  progress?: Progress;
  /** What an attempt left for the next one, if any did. Gone when the job is completed. */
  checkpoint?: unknown;
  result?: unknown;
  result_base64?: string;
  /** The last one. */
  error?: JobError;
  /** Newest first. */
  errors?: JobError[];
};

export type JobsPage = {
  items: JobAsRead[];
  /** The cursor of the next page. */
  next: string | null;
};

export type JobChanges = {
  priority?: number;
  run_at?: Time;
  queue?: Name;
  tags?: Name[];
  max_attempts?: number;
};

export type JobFilter = {
  state?: JobState;
  queue?: Name;
  type?: Name;
  tag?: Name;
  group?: Name;
  batch?: BatchId;
};

export type Bulk = {
  action: 'retry' | 'cancel' | 'delete';
  where: JobFilter;
};

export type Count = {
  count: number;
};

/** Nothing more to say. */
export type Done = { [name: string]: unknown };

export type JobLog = {
  /** Oldest first; the newest 64 KiB are kept. */
  lines: string[];
};

/** A UUIDv7 made by the server, or the id that the client brought. */
export type BatchId = string;

/** At least one of on_success and on_finish. */
export type BatchAsSent = {
  /** An id of the client's own. */
  id?: BatchId;
  /** Enqueued once, when the batch is closed and all of its jobs are completed. */
  on_success?: Callback;
  /** Enqueued once, when the batch is closed and none of its jobs is pending for the first time: each is completed, dead, cancelled or deleted. */
  on_finish?: Callback;
  /** Shown with the batch as it is; 16 KiB at most. */
  meta?: { [name: string]: unknown };
};

/** A job as sent to /v1/jobs, but without id, unique and batch; 64 KiB at most. */
export type Callback = {
  type: Name;
  /** Default: "default". */
  queue?: Name;
  /** Any JSON. */
  payload?: unknown;
  /** Raw bytes. */
  payload_base64?: string;
  /** 9 first. Default: 5. */
  priority?: number;
  /** From when it is enqueued. */
  delay?: Duration;
  run_at?: Time;
  /** Not leased by then, from when it is enqueued: dead, with the error expired. */
  expires_in?: Duration;
  /** Default: 20. */
  max_attempts?: number;
  backoff?: Backoff;
  /** Default: "60s". */
  lease?: Duration;
  group?: Name;
  tags?: Name[];
  /** Default: "1h". */
  keep_result?: Duration;
  /** Handed to the worker as it is. */
  meta?: { [name: string]: unknown };
};

export type CallbackState = {
  /** not_coming: a job is gone that was not completed. */
  state: 'waiting' | 'enqueued' | 'not_coming';
  /** Where it is enqueued. The job itself may be gone by now. */
  job?: JobId;
};

/** How far a batch is. Of its callbacks there are those that it was made with. */
export type Batch = {
  id: BatchId;
  created_at: Time;
  /** Left out while it is open. */
  closed_at?: Time;
  /** Jobs that were sent with it. */
  total: number;
  /** Of them, those that are scheduled, ready or leased. */
  pending: number;
  /** Those that are completed, whether they are kept still or not. */
  completed: number;
  /** Those that are dead, or were so when they went. */
  dead: number;
  /** Likewise. */
  cancelled: number;
  /** Those that were deleted before they were finished. */
  deleted: number;
  on_success?: CallbackState;
  on_finish?: CallbackState;
  meta?: { [name: string]: unknown };
};

export type BatchesPage = {
  items: Batch[];
  /** The cursor of the next page. */
  next: string | null;
};

/** 1 to 512 bytes of UTF-8 without control characters. */
export type CacheKey = string;

export type CacheTags = Name[];

export type ComputeRequest = {
  /** What computes the value, as sent to /v1/jobs, but without unique, id, delay and run_at. Its result is the value, as application/json; result_base64 as application/octet-stream. */
  job: Job;
  /** How long it is good as it is. Default: "1m". */
  fresh?: Duration;
  /** How much longer it is better than none. With `fresh` 365d at most. Default: "0s". */
  stale?: Duration;
  /** 5m at most. Default: "30s". */
  wait?: Duration;
  /** How long a failure is remembered. 24h at most. Default: "0s". */
  error_for?: Duration;
  tags?: CacheTags;
};

export type Computing = {
  job_id: JobId;
  state: JobState;
};

/** A value to be kept. Exactly one of value and value_base64. */
export type CacheEntry = {
  key: CacheKey;
  /** Any JSON, kept as its text. */
  value?: unknown;
  value_base64?: string;
  /** application/json of a value, application/octet-stream of value_base64. */
  content_type?: string;
  /** Default: "1m". */
  fresh?: Duration;
  /** Default: "0s". */
  stale?: Duration;
  tags?: CacheTags;
};

/** Fences the lease: a report under another token changes nothing. */
export type LeaseToken = string;

export type ReportError = {
  /** Default: "retryable". */
  class?: ErrorClass;
  /** Default: "failed". */
  code?: Name;
  message?: string;
  /** Any JSON. */
  detail?: unknown;
};

/** What a worker says of its lease. */
export type Report = {
  id: JobId;
  lease: LeaseToken;
  outcome: 'completed';
  /** Any JSON. */
  result?: unknown;
  result_base64?: string;
  /** Values to be kept, in the same commit. Of a key that comes twice the last one counts. */
  cache?: CacheEntry[];
} | {
  id: JobId;
  lease: LeaseToken;
  outcome: 'failed';
  error: ReportError;
  /** Instead of the backoff. */
  retry_in?: Duration;
} | {
  id: JobId;
  lease: LeaseToken;
  outcome: 'extend';
  /** From now. */
  for: Duration;
} | {
  id: JobId;
  lease: LeaseToken;
  outcome: 'progress';
  percent: number;
  message?: string;
} | {
  id: JobId;
  lease: LeaseToken;
  outcome: 'log';
  lines: string[];
} | {
  id: JobId;
  lease: LeaseToken;
  /** Handed to the next attempt. Takes the place of the checkpoint before. */
  outcome: 'checkpoint';
  /** Any JSON, 1 MiB at most. */
  data: unknown;
} | {
  id: JobId;
  lease: LeaseToken;
  /** Back to ready, the attempt not counted. */
  outcome: 'released';
};

export type Reports = {
  reports: Report[];
};

export type ReportResult = {
  id: JobId;
  ok: boolean;
  /** Somebody wants this job to stop. */
  cancel_requested?: boolean;
  /** Keys of cached values that came with it and that no budget of the cache can hold. The report counts; these keys have no value now. */
  not_stored?: string[];
  error?: Problem;
};

export type ReportResults = {
  /** In the order of the request. */
  reports: ReportResult[];
};

export type QueueChoice = Name | {
  name: Name;
  weight: number;
};

export type LeaseRequest = {
  /** In the order of preference, or weighted. */
  queues: QueueChoice[];
  /** No job comes behind those that are of 16 MiB together. Default: 1. */
  max?: number;
  /** At most 5m. Default: "0s". */
  wait?: Duration;
  /** Instead of the job's own. */
  lease?: Duration;
  worker?: Name;
  /** Of earlier jobs: decided first, in the same flush. */
  reports?: Report[];
};

export type LeasedJob = {
  id: JobId;
  type: Name;
  queue: Name;
  payload?: unknown;
  payload_base64?: string;
  attempt: number;
  max_attempts: number;
  lease: LeaseToken;
  lease_expires_at: Time;
  priority: number;
  created_at: Time;
  traceparent?: string;
  tracestate?: string;
  meta?: { [name: string]: unknown };
  group?: Name;
  tags?: Name[];
  batch?: BatchId;
  /** What an earlier attempt left, if any did. */
  checkpoint?: unknown;
};

export type LeasedJobs = {
  jobs: LeasedJob[];
  reports?: ReportResult[];
};

export type QueueSettings = {
  paused: boolean;
  max_depth: number | null;
  when_full: 'refuse' | 'drop_oldest';
};

export type QueueChanges = {
  paused?: boolean;
  /** Of scheduled, ready and leased jobs together; null lifts the limit. */
  max_depth?: number | null;
  when_full?: 'refuse' | 'drop_oldest';
};

export type Queue = {
  name: Name;
  paused: boolean;
  depth: { [name: string]: number };
  oldest_ready_at: string | null;
  /** Jobs a second, over the last ten or so. */
  rates: { [name: string]: number };
  counters: { [name: string]: number };
  settings: QueueSettings;
};

export type TokensPage = {
  items: Array<{
    name: Name;
    id: string;
    scopes: Array<'enqueue' | 'work' | 'read' | 'admin'>;
    /** null: all. */
    queues: Name[] | null;
    /** Of the keys of the cache that it is for. null: all, or, where it is limited to queues, none. */
    cache_prefixes: string[] | null;
    created_at: Time;
    expires_at: Time | null;
    /** With either secret. null: not, as far as the server knows. */
    last_used_at: Time | null;
    /** Of a token that was rotated: the secret before, which holds until it expires. null: none. */
    old_secret: {
      expires_at: Time;
      last_used_at: Time | null;
    } | null;
  }>;
  next: string | null;
};

export type QueuesPage = {
  items: Queue[];
  next: string | null;
};

export type FlagValue = boolean | string | number | { [name: string]: unknown };

/** Attributes of the context, each with the values of which it must have one. */
export type FlagConditions = { [name: string]: Array<boolean | string | number> };

export type FlagChoice = {
  if?: FlagConditions;
  variant: Name;
};

export type FlagRollout = {
  if?: FlagConditions;
  /** Variants with their weights, in this order; by a stable hash of the targeting key. */
  rollout: { [name: string]: number };
};

/** Where all conditions hold (or there are none), it decides: for a variant, or by a roll-out. */
export type FlagRule = FlagChoice | FlagRollout;

/** 16 KiB at most. */
export type FlagDefinition = {
  key?: Name;
  /** All of one type. */
  variants: { [name: string]: FlagValue };
  default: Name;
  /** false: the default, whoever asks. Default: true. */
  enabled?: boolean;
  rules?: FlagRule[];
  /** Types of jobs that wait while the flag is not true for them. Only of booleans. */
  gates?: Name[];
  /** Only if this is the flag's version now; 0: only if there is none of this key. */
  version?: number;
  /** Left out of account. */
  updated_at?: unknown;
  /** Left out of account. */
  updated_by?: unknown;
};

export type Flag = {
  key: Name;
  variants: { [name: string]: FlagValue };
  default: Name;
  enabled: boolean;
  rules: FlagRule[];
  gates: Name[];
  version: number;
  updated_at: Time;
  updated_by?: Name;
};

export type FlagsPage = {
  items: Flag[];
  next: string | null;
};

export type FlagHistory = {
  items: Flag[];
  /** The cursor of the next page; null at the end. */
  next: string | null;
};

export type EvaluationRequest = {
  context: {
    targetingKey: string;
  };
};

export type Evaluation = {
  key: string;
  reason: 'STATIC' | 'TARGETING_MATCH' | 'SPLIT' | 'DISABLED' | 'UNKNOWN';
  variant: string;
  value: FlagValue;
  metadata: {
    version?: number;
  };
};

export type Evaluations = {
  flags: Evaluation[];
  metadata: { [name: string]: unknown };
};

export type EvaluationFailure = {
  key?: string;
  errorCode: 'PARSE_ERROR' | 'TARGETING_KEY_MISSING' | 'INVALID_CONTEXT' | 'FLAG_NOT_FOUND' | 'GENERAL';
  errorDetails?: string;
};

/** How the server does: what it holds, where its time goes, how full its bounds are. New members may come. */
export type Status = {
  version: string;
  readiness: 'ready' | 'recovering' | 'disk_full' | 'draining';
  now: Time;
  uptime: Duration;
  uptime_seconds?: number;
  jobs: { [name: string]: number };
  queues: number;
  batches?: { [name: string]: number };
  idempotency_keys?: number;
  engine_memory_bytes?: number;
  time: { [name: string]: unknown };
  log: { [name: string]: unknown };
  recovery: { [name: string]: unknown };
  bounds: Array<{
    name: string;
    used: number;
    limit: number;
  }>;
  /** Where the time of requests goes: parse, wait, decide, flush, reply. Empty where telemetry is off. */
  stages: { [name: string]: Times };
  /** How long jobs took from state to state: enqueued_to_ready, ready_to_leased, leased_to_done. */
  job_stages: { [name: string]: Times };
  threads: Array<{
    name: string;
    busy: number;
    waiting: number;
    cpu_seconds_total: number;
  }>;
  /** The 20 types of job of which most were enqueued, and all others as (other). */
  types: Array<{
    type: string;
    enqueued_total: number;
    completed_total: number;
    failed_total: number;
  }>;
  http: {
    connections_total: number;
    requests_total: number;
    refused_total: number;
  };
  /** Not there where the server keeps no cache. */
  cache?: {
    entries: number;
    /** Jobs that compute a value now. */
    flights: number;
    memory_bytes: number;
    disk_bytes: number;
    evicted_from_memory_total?: number;
    evicted_from_disk_total?: number;
    /** GET and POST for a value, by what came of them. */
    calls_total: { [name: string]: number };
  };
};

export type Heap = {
  /** What mimalloc says of the process. null in builds with sanitizers. */
  allocator: {
    name: string;
    resident_bytes: number;
    resident_bytes_peak: number;
    committed_bytes: number;
    committed_bytes_peak: number;
    page_faults: number;
  } | null;
  /** What of it the server can account for. */
  parts: Array<{
    name: string;
    bytes: number;
  }>;
};

/** How often something took time, how much in all, and how much at most for half and for 99 of 100, by the bounds of a histogram. */
export type Times = {
  count: number;
  seconds_total: number;
  p50_us: number;
  p99_us: number;
};

/** RFC 9457. Programs look at code and class. */
export type Problem = {
  type: string;
  title: string;
  status: number;
  detail: string;
  code: 'queue_full' | 'lease_lost' | 'malformed_json' | 'invalid_field' | 'unknown_field' | 'missing_field' | 'not_found' | 'job_not_found' | 'job_leased' | 'wrong_state' | 'idempotency_key_reused' | 'method_not_allowed' | 'payload_too_large' | 'headers_too_large' | 'malformed_request' | 'unsupported_media_type' | 'request_timeout' | 'payload_damaged' | 'unauthorized' | 'forbidden' | 'too_many_attempts' | 'upgrade_required' | 'stream_replaced' | 'cache_miss' | 'batch_not_found' | 'batch_closed' | 'batch_exists' | 'batches_full' | 'outcome_unknown' | 'overloaded' | 'shutting_down' | 'disk_full' | 'recovering' | 'too_many_requests' | 'deadline_exceeded' | 'compute_failed' | 'io_failed' | 'log_corrupt' | 'log_in_use' | 'log_version' | 'log_fenced' | 'bad_configuration' | 'internal' | 'no_server' | 'protocol_error';
  class: ErrorClass;
  trace_id?: string;
  /** Which field of the request is at fault. */
  field?: string;
  /** Of compute_failed: the error of the job. The problem's class is that of this one. */
  cause?: {
    class: ErrorClass;
    code: string;
    message: string;
  };
};
