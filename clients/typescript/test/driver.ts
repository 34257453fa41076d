// The driver of clients/conformance for this client: does what it is told, a line at a time. See the README there.
import { createInterface } from 'node:readline';
import {
  CachePendingError,
  Client,
  FatalError,
  isWorkmillError,
  RetryableError,
  UserError,
  Worker,
  type Cached,
  type JobContext,
  type LeasedJob,
  type NewJob,
} from 'workmill';

type Command = { n: number; do: string } & Record<string, any>;

const clients = new Map<string, Client>();
const workers = new Map<string, Worker>();
const gates = new Map<string, { open: boolean; waiting: Array<() => void> }>();

const say = (line: object) => process.stdout.write(`${JSON.stringify(line)}\n`);

const camelName = (name: string) => name.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
const snakeName = (name: string) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
const renamed = (object: object, rename: (name: string) => string) =>
  Object.fromEntries(Object.entries(object).map(([name, value]) => [rename(name), value]));
const newJob = (job: object) => renamed(job, camelName) as unknown as NewJob;

function errorOf(error: unknown): object {
  if (!isWorkmillError(error)) throw error;
  return {
    class: error.class,
    code: error.code,
    message: error.message,
    ...(error.field === undefined ? {} : { field: error.field }),
    ...(error.traceId === undefined ? {} : { trace_id: error.traceId }),
    ...(error instanceof CachePendingError ? { job_id: error.jobId, state: error.state } : {}),
  };
}

function cached(found: Cached | undefined): object | null {
  if (!found) return null;
  const { value, fresh, ageMs, etag, contentType, computed } = found;
  const about = { fresh, age: ageMs / 1_000, etag, content_type: contentType, computed };
  return value instanceof Uint8Array
    ? { ...about, value_base64: Buffer.from(value).toString('base64') }
    : { ...about, value };
}

const given = (command: Record<string, any>) =>
  'value_base64' in command ? Buffer.from(command['value_base64'], 'base64') : command['value'];
const windows = ({ fresh, stale, tags }: Record<string, any>) => ({ fresh, stale, tags });

function gate(name: string) {
  let known = gates.get(name);
  if (!known) gates.set(name, (known = { open: false, waiting: [] }));
  return known;
}

function passed(name: string, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason as Error);
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
    const { open, waiting } = gate(name);
    if (open) resolve();
    else waiting.push(resolve);
  });
}

const classes = { retryable: RetryableError, user: UserError, fatal: FatalError };

async function script(worker: string, job: LeasedJob, ctx: JobContext): Promise<unknown> {
  for (const [action, ...args] of job.payload.do as Array<[string, ...any[]]>) {
    switch (action) {
      case 'return':
        return args[0];
      case 'echo':
        return job.payload.data;
      case 'return_long':
        return 'x'.repeat(args[0]);
      case 'return_attempt':
        return job.attempt;
      case 'return_batch':
        if (job.batch !== undefined) return job.batch;
        break;
      case 'return_checkpoint':
        if (job.checkpoint !== undefined) return job.checkpoint;
        break;
      case 'fail_until':
        if (job.attempt < args[0]) throw new RangeError(`attempt ${job.attempt} fails`);
        break;
      case 'throw': {
        const { class: name, code, message, retry_in: retryIn } = args[0];
        throw new classes[name as keyof typeof classes](message, { code, retryIn });
      }
      case 'throw_long':
        throw new RetryableError('x'.repeat(args[0]), { code: 'long' });
      case 'progress_long':
        ctx.progress(50, 'x'.repeat(args[0]));
        break;
      case 'progress':
        ctx.progress(args[0], args[1]);
        break;
      case 'log':
        ctx.log(...args);
        break;
      case 'checkpoint':
        await ctx.checkpoint(args[0]);
        say({ event: 'checkpointed', worker, id: job.id });
        break;
      case 'cache':
        ctx.cache(args[0].key, given(args[0]), windows(args[0]));
        break;
      case 'hold':
      case 'hold_first':
        if (action === 'hold' || job.attempt === 1) await passed(args[0], ctx.signal);
        break;
      default:
        throw new FatalError(`no such action: ${action}`, { code: 'bug' });
    }
  }
  return null;
}

function startWorker(command: Command): void {
  const { name, types = ['script'], signals = false, ...rest } = command;
  const worker = new Worker({
    url: rest['url'],
    token: rest['token'],
    transport: rest['transport'],
    queues: rest['queues'],
    concurrency: rest['concurrency'],
    lease: rest['lease'],
    name: rest['worker'],
    signals,
  });
  for (const type of types as string[]) {
    worker.on(type, async (job, ctx) => {
      say({ event: 'started', worker: name, id: job.id, type: job.type, attempt: job.attempt });
      let how = 'returned';
      try {
        return await script(name, job, ctx);
      } catch (error) {
        how = ctx.cancelled && error === ctx.signal.reason ? 'cancelled' : 'raised';
        throw error;
      } finally {
        say({ event: 'ended', worker: name, id: job.id, attempt: job.attempt, how });
      }
    });
  }
  workers.set(name, worker);
  worker.run().then(
    () => say({ event: 'stopped', worker: name }),
    (error: unknown) => say({ event: 'stopped', worker: name, error: errorOf(error) }),
  );
}

async function perform(command: Command): Promise<unknown> {
  const client = clients.get(command['client'] ?? 'main')!;
  const { id } = command;
  switch (command.do) {
    case 'hello':
      return { client: 'typescript', can: ['http', 'stream', 'checkpoint', 'signals', 'cache', 'batches'] };
    case 'client':
      clients.get(command['name'])?.close();
      clients.set(
        command['name'],
        new Client({
          url: command['url'],
          token: command['token'],
          retry: command['retry'],
          requestTimeout: command['request_timeout'],
        }),
      );
      return null;
    case 'enqueue': {
      const { type, payload, ...options } = newJob(command['job']);
      return client.enqueue(type, payload, options, { idempotencyKey: command['idempotency_key'] });
    }
    case 'bulk':
      return client.enqueueMany((command['jobs'] as object[]).map(newJob));
    case 'get':
      return renamed(await client.get(id), snakeName);
    case 'wait':
      return renamed(await client.waitFor(id, { timeout: command['for'] }), snakeName);
    case 'cancel':
      await client.cancel(id);
      return null;
    case 'retry':
      await client.retry(id);
      return null;
    case 'delete':
      await client.delete(id);
      return null;
    case 'list': {
      const ids: string[] = [];
      for await (const job of client.list(command['filter'], { pageSize: command['page'] })) ids.push(job.id);
      return ids;
    }
    case 'queue':
      return renamed(await client.queue(command['name']), snakeName);
    case 'pause':
    case 'resume':
      await client.updateQueue(command['name'], { paused: command.do === 'pause' });
      return null;
    case 'cache_get':
      return cached(await client.cache.get(command['key']));
    case 'cache_put':
      return client.cache.put(command['key'], given(command), windows(command));
    case 'cache_compute': {
      const options = { ...windows(command), wait: command['wait'], errorFor: command['error_for'] };
      return cached(await client.cache.getOrCompute(command['key'], newJob(command['job']), options));
    }
    case 'cache_delete':
      if ('tag' in command) return client.cache.deleteByTag(command['tag']);
      if ('prefix' in command) return client.cache.deleteByPrefix(command['prefix']);
      return client.cache.delete(command['key']);
    case 'batch_create': {
      const { on_success: onSuccess, on_finish: onFinish, ...rest } = command['batch'];
      const callbacks = {
        ...(onSuccess === undefined ? {} : { onSuccess: newJob(onSuccess) }),
        ...(onFinish === undefined ? {} : { onFinish: newJob(onFinish) }),
      };
      const options = { idempotencyKey: command['idempotency_key'] };
      return renamed(await client.batches.create({ ...rest, ...callbacks }, options), snakeName);
    }
    case 'batch_close':
      return renamed(await client.batches.close(id), snakeName);
    case 'batch_get':
      return renamed(await client.batches.get(id), snakeName);
    case 'batch_list': {
      const ids: string[] = [];
      const pages = client.batches.list({ state: command['state'] }, { pageSize: command['page'] });
      for await (const batch of pages) ids.push(batch.id);
      return ids;
    }
    case 'batch_delete':
      await client.batches.delete(id);
      return null;
    case 'worker':
      startWorker(command);
      return null;
    case 'stop':
      await workers.get(command['worker'] ?? 'w')!.stop({ timeout: command['timeout'] });
      return null;
    case 'open': {
      const opened = gate(command['gate']);
      opened.open = true;
      for (const go of opened.waiting.splice(0)) go();
      return null;
    }
    default:
      throw new Error(`no such command: ${command.do}`);
  }
}

async function answer(line: string): Promise<void> {
  const command = JSON.parse(line) as Command;
  try {
    say({ n: command.n, ok: (await perform(command)) ?? null });
  } catch (error) {
    if (isWorkmillError(error)) say({ n: command.n, error: errorOf(error) });
    else say({ n: command.n, bug: String((error as Error).stack ?? error) });
  }
}

const lines = createInterface({ input: process.stdin });
lines.on('line', (line) => void answer(line));
lines.on('close', () => process.exit(0));
