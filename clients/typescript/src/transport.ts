// Between a worker and the two ways in which it can reach the server.
import type { WorkmillError } from './errors.js';
import type { Report } from './reports.js';
import type * as wire from './wire.js';

/** What a transport does. It owns its connection and its timers, and ends them all in close(). */
export interface Transport {
  /** Connects, and goes on connecting whenever the connection breaks. */
  start(): void;
  /** There is something to send, or room for more jobs. */
  kick(): void;
  /** No more jobs. Calls desk.drained() once none is out any more. */
  drain(): void;
  close(): void;
}

/** What it asks and tells of the worker. */
export interface Desk {
  /** Reports that are due: so many at most, and not many more characters than that. Its caller sends or returns them. */
  take(max: number, characters: number): Report[];
  /** Whether the next one has to be sent alone, and nothing else while it is not answered. */
  alone(): boolean;
  /** One for each that was taken, in order. */
  answered(reports: Report[], results: wire.ReportResult[]): void;
  /** They were taken, and nobody knows what became of them: they will be taken again. */
  returned(reports: Report[]): void;
  /** The server would not have these, as a whole. */
  refused(reports: Report[], error: WorkmillError): void;
  accept(jobs: wire.LeasedJob[]): void;
  cancel(ids: string[]): void;
  /** The ids of all jobs that are in hand or whose reports are not answered. */
  held(): string[];
  /** How many jobs more there is room for. */
  room(): number;
  connected(resumed: boolean): void;
  disconnected(error: WorkmillError): void;
  drained(): void;
  /** It makes no sense to go on: the server will never have us. */
  failed(error: WorkmillError): void;
}

export const reportsPerFrame = 1_000;
/** A third of the server's limit for a message, as a character may be three bytes. */
export const charactersPerFrame = 2 * 1024 * 1024;
