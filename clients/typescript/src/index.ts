export { Client, type ClientOptions } from './client.js';
export { Batches, type BatchesApi, type NewBatch } from './batches.js';
export {
  Cache,
  CachePendingError,
  type CacheApi,
  type Cached,
  type CacheOptions,
  type ComputeOptions,
} from './cache.js';
export { Worker, type Handler, type Middleware, type WorkerEvents, type WorkerOptions } from './worker.js';
export {
  FatalError,
  isWorkmillError,
  JobFailedError,
  RetryableError,
  UserError,
  WorkmillError,
  type ErrorDetails,
} from './errors.js';
export { JobStoppedError, type JobContext } from './run.js';
export { consoleLogger, type Logger, type LogLevel } from './logger.js';
export { milliseconds } from './duration.js';
export type { RetryOptions } from './retry.js';
export type { TlsOptions } from './http.js';
export type { WorkmillApi } from './api.js';
export type * from './types.js';
