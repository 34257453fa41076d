import { milliseconds } from '../duration.js';
import type { Duration } from '../types.js';

/** The time of a fake, which stands still until it is told otherwise. */
export class FakeClock {
  #now: number;
  readonly #moved: () => void;

  /** @internal */
  constructor(start: Date, moved: () => void) {
    this.#now = start.getTime();
    this.#moved = moved;
  }

  get now(): Date {
    return new Date(this.#now);
  }

  /** Jobs whose time has come meanwhile are ready, leases that ran out are over. */
  advance(duration: Duration): void {
    this.#now += milliseconds(duration);
    this.#moved();
  }

  /** To this time; never back. */
  advanceTo(time: Date): void {
    this.advance(Math.max(0, time.getTime() - this.#now));
  }
}
