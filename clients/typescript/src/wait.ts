// Waits that take longer than a call: for a job, for a value that a job computes.
import { milliseconds } from './duration.js';
import { RetryableError, type WorkmillError } from './errors.js';
import { isSilence } from './http.js';
import { backoffMs, retryAfterMaxMs, triedAlready, type Retry } from './retry.js';
import type { Duration } from './types.js';

// Of one call; a longer wait is several.
const pollMs = 20_000;

/** Whether so long is waited at all. Where not, the call is one like others. */
export function isWait(timeout: Duration | undefined): boolean {
  return timeout === undefined || milliseconds(timeout) > 0;
}

/**
 * A wait as several long polls, over errors too: as long as there is time a server that is away is asked again, however
 * many tries a call has, and no less often than by another call, however short the time. A connection that has died
 * unnoticed costs one poll, and no more. Who sleeps and asks is somebody else.
 */
export class Wait {
  readonly #retry: Retry;
  readonly #end: number;
  #asked = 0; // When the poll that is under way began, and
  #partMs = 0; // how long it may wait.
  #inARow = 0; // Pauses.
  #triesLeft: number; // That another call would have.
  #answered = false;
  #mayHaveHappened = false; // A poll was heard, or nobody knows whether it was.

  constructor(timeout: Duration | undefined, retry: Retry) {
    this.#retry = retry;
    this.#triesLeft = retry.attempts;
    this.#end = timeout === undefined ? Infinity : performance.now() + milliseconds(timeout);
  }

  /** How long the next poll waits: 1 ms at least, since a wait of nothing is no wait. */
  nextPollMs(): number {
    this.#asked = performance.now();
    this.#partMs = Math.max(1, Math.min(pollMs, Math.ceil(this.#end - this.#asked)));
    return this.#partMs;
  }

  /** How long to pause before it, after an answer that is not what is waited for; undefined where the wait is over. */
  pauseMs(): number | undefined {
    this.#answered = true;
    this.#mayHaveHappened = true;
    const now = performance.now();
    if (now >= this.#end) return undefined;
    // A server that lets nobody wait any more, or stops, answers at once: it must not be asked again and again.
    if (now - this.#asked < this.#partMs / 2) return this.#nextPause(0, this.#end - now);
    this.#inARow = 0;
    return 0;
  }

  /** Whether another poll may mend it. The error's mayHaveHappened is that of all polls from then on. */
  isWorthAnother(error: WorkmillError): error is RetryableError {
    this.#mayHaveHappened ||= error.mayHaveHappened;
    error.mayHaveHappened = this.#mayHaveHappened;
    return error instanceof RetryableError && !triedAlready.has(error.code);
  }

  /** As pauseMs(), after such an error. It is over at once where the server asks for a pause that nobody would sit through. */
  pauseMsAfter(error: RetryableError): number | undefined {
    this.#triesLeft -= 1;
    const leftMs = this.#end - performance.now();
    const atLeastMs = error.retryAfterMs ?? 0;
    if (leftMs > atLeastMs) return this.#nextPause(atLeastMs, leftMs);
    // A server that is there and says nothing has taken more time than there was, and would take it again.
    if (this.#answered || this.#triesLeft <= 0 || isSilence(error)) return undefined;
    const pauseMs = this.#nextPause(atLeastMs, Infinity);
    return pauseMs > retryAfterMaxMs ? undefined : pauseMs;
  }

  #nextPause(atLeastMs: number, atMostMs: number): number {
    this.#inARow += 1;
    return Math.min(Math.max(atLeastMs, backoffMs(this.#retry, this.#inARow)), atMostMs);
  }
}
