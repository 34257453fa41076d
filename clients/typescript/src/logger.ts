/**
 * Where structured lines go: the shape of pino, of `console`, and of most others. One that throws loses its line and nothing
 * else; Node warns of the first.
 */
export interface Logger {
  debug(fields: object, message: string): void;
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

const levels = ['debug', 'info', 'warn', 'error'] as const;
export type LogLevel = (typeof levels)[number];

/** One JSON object a line, on standard error, from this level up. */
export function consoleLogger(level: LogLevel = 'warn'): Logger {
  const from = levels.indexOf(level);
  const line = (name: LogLevel) => (fields: object, message: string) => {
    if (levels.indexOf(name) < from) return;
    console.error(JSON.stringify({ time: new Date().toISOString(), level: name, message, ...fields }));
  };
  return { debug: line('debug'), info: line('info'), warn: line('warn'), error: line('error') };
}

const nothing = () => {};
const silent: Logger = { debug: nothing, info: nothing, warn: nothing, error: nothing };

function guarded(logger: Logger): Logger {
  let hasThrown = false;
  const line = (name: LogLevel) => (fields: object, message: string) => {
    try {
      logger[name](fields, message);
    } catch (error) {
      if (!hasThrown) process.emitWarning(`a logger throws: ${error instanceof Error ? error.message : typeof error}`);
      hasThrown = true;
    }
  };
  return { debug: line('debug'), info: line('info'), warn: line('warn'), error: line('error') };
}

/** `false` is silence; without a word, warnings and errors go to standard error. It throws nothing. */
export function loggerOf(option: Logger | false | undefined): Logger {
  return option === false ? silent : guarded(option ?? consoleLogger());
}
