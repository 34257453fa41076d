// What can go wrong, as classes. Each error has a class, which says what a program does next, and a code, which says
// what it was; docs/reference/errors.md of the server lists its codes. The client has some of its own: `no_server`
// (nobody there, no answer in time, or a connection that broke), `pool_full`, `not_finished`, `closed` and `protocol_error`.
import type { Duration, Job } from './types.js';
import type { Enqueued, ErrorClass, Problem } from './wire.js';

export type { ErrorClass } from './wire.js';

export interface ErrorDetails {
  /** What it was, for programs: 1 to 128 of `A-Z a-z 0-9 . _ : -`. */
  code?: string | undefined;
  /** Anything that JSON can say. Thrown by a handler, it stands with the job's error. */
  detail?: unknown;
  /** Thrown by a handler: when to try again, instead of the job's backoff. Of a `RetryableError` only. */
  retryIn?: Duration | undefined;
  cause?: unknown;
  traceId?: string | undefined;
  field?: string | undefined;
  status?: number | undefined;
  retryAfterMs?: number | undefined;
  /** Of an error of the client: see `WorkmillError`. */
  mayHaveHappened?: boolean | undefined;
}

// A program may load this package twice, as ESM and as CommonJS; `instanceof` then tells the two apart, this does not.
const brand = Symbol.for('workmill.error');

/** The base of all errors of this package. */
export class WorkmillError extends Error {
  /** `retryable`: try again. `user`: mend the request, or the payload. `fatal`: give it up. */
  readonly class: ErrorClass;
  /** What it was, for programs; `message` is for people. */
  readonly code: string;
  /** By which the server's log knows it. */
  readonly traceId: string | undefined;
  /** Which field of the request is at fault. */
  field: string | undefined;
  /** The status of the HTTP answer, where there was one. */
  readonly status: number | undefined;
  /** How long the server asked to wait, in milliseconds. */
  readonly retryAfterMs: number | undefined;
  /**
   * Of an error of the client: what was asked for may have been done all the same, by this try or by one before it whose
   * answer was lost. Of a retryable one, false says that it has surely not been done.
   */
  mayHaveHappened: boolean;
  readonly detail: unknown;
  readonly retryIn: Duration | undefined;
  /**
   * Of `enqueueMany`, which sends in parts: what the parts before the failed one were answered, in order. Errors of other
   * classes, such as a hook's own, have it too.
   */
  enqueued?: Enqueued[];
  /** @internal */
  readonly [brand] = true;

  constructor(errorClass: ErrorClass, message: string, details: ErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = new.target.name;
    this.class = errorClass;
    this.code = details.code ?? 'failed';
    this.traceId = details.traceId;
    this.field = details.field;
    this.status = details.status;
    this.retryAfterMs = details.retryAfterMs;
    this.mayHaveHappened = details.mayHaveHappened ?? false;
    this.detail = details.detail;
    this.retryIn = details.retryIn;
  }
}

/** It may work another time. A handler that throws it has its job tried again. */
export class RetryableError extends WorkmillError {
  constructor(message: string, details?: ErrorDetails) {
    super('retryable', message, details);
  }
}

/** Whoever asked must mend it: a wrong field, a payload that makes no sense. A handler that throws it ends its job. */
export class UserError extends WorkmillError {
  constructor(message: string, details?: ErrorDetails) {
    super('user', message, details);
  }
}

/** Neither time nor mending helps. A handler that throws it ends its job. */
export class FatalError extends WorkmillError {
  constructor(message: string, details?: ErrorDetails) {
    super('fatal', message, details);
  }
}

/** A job whose result was waited for came to another end. `job` is what became of it. */
export class JobFailedError extends WorkmillError {
  readonly job: Job;

  constructor(job: Job) {
    const error = job.error;
    super(error?.class ?? 'fatal', `job ${job.id} is ${job.state}${error ? `: ${error.message}` : ''}`, {
      code: error?.code ?? job.state,
      detail: error?.detail,
    });
    this.job = job;
  }
}

/** Whether it is an error of this package, of any copy of it. */
export function isWorkmillError(error: unknown): error is WorkmillError {
  return typeof error === 'object' && error !== null && brand in error;
}

/** The error that an answer of the server is. */
export function errorOf(problem: Problem, retryAfterMs?: number): WorkmillError {
  const details: ErrorDetails = {
    code: problem.code,
    traceId: problem.trace_id,
    field: problem.field,
    status: problem.status,
    retryAfterMs,
    mayHaveHappened: problem.code === 'outcome_unknown',
  };
  const message = problem.field === undefined ? problem.detail : `${problem.detail} (${problem.field})`;
  switch (problem.class) {
    case 'retryable':
      return new RetryableError(message, details);
    case 'user':
      return new UserError(message, details);
    default:
      return new FatalError(message, details);
  }
}
