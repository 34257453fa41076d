import { UserError } from './errors.js';
import type { Duration } from './types.js';

const units = { d: 86_400_000, h: 3_600_000, m: 60_000, s: 1_000, ms: 1 } as const;
const pattern = /^(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?$/;

/** In milliseconds. Throws a `UserError` for what is no time span. */
export function milliseconds(duration: Duration): number {
  if (typeof duration === 'number') {
    if (Number.isFinite(duration) && duration >= 0) return Math.round(duration);
  } else {
    const parts = duration === '' ? null : pattern.exec(duration);
    if (parts) {
      const [, d = 0, h = 0, m = 0, s = 0, ms = 0] = parts.map(Number).map((n) => (Number.isNaN(n) ? 0 : n));
      return d * units.d + h * units.h + m * units.m + s * units.s + ms;
    }
  }
  throw new UserError(`${JSON.stringify(duration)} is no duration: write milliseconds, or such as "1h30m"`, {
    code: 'invalid_field',
  });
}

/** As the server wants it. */
export function durationText(duration: Duration): string {
  return typeof duration === 'number' ? `${milliseconds(duration)}ms` : duration;
}
