/** What a timer of Node takes: nearly 25 days. With more it goes off at once. */
export const timerMaxMs = 2 ** 31 - 1;

/** As setTimeout, for any time span: what is longer than a timer takes is that. */
export function after(ms: number, run: () => void): NodeJS.Timeout {
  return setTimeout(run, Math.min(ms, timerMaxMs));
}
