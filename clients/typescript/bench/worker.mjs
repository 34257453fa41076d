// How many jobs a second one worker of this package does, with a handler that does nothing: node bench/worker.mjs.
// Against the server at WORKMILL_URL; bench/clients.py of the repository starts one and calls this.
//
//   --jobs N (200000)  --concurrency N (2000)  --transport stream|http  --queue NAME
//
// Prints one JSON object: how long it took to enqueue the jobs, and from the worker's start until the last report was
// answered.
import { parseArgs } from 'node:util';
import { Client, Worker } from 'workmill';

const { values } = parseArgs({
  options: {
    jobs: { type: 'string', default: '200000' },
    concurrency: { type: 'string', default: '2000' },
    transport: { type: 'string', default: 'stream' },
    queue: { type: 'string', default: `bench-${process.pid}` },
  },
});
const jobs = Number(values.jobs);
const concurrency = Number(values.concurrency);
const { queue, transport } = values;

function* toSend() {
  for (let i = 0; i < jobs; i += 1) yield { type: 'bench', queue, payload: { i }, keepResult: 0 };
}

const client = new Client();
let began = performance.now();
await client.enqueueMany(toSend());
const enqueueSeconds = (performance.now() - began) / 1_000;
client.close();

const worker = new Worker({ queues: [queue], concurrency, transport, signals: false });
let left = jobs;
worker.on('bench', async (job) => {
  left -= 1;
  if (left === 0) void worker.stop(); // It resolves run() when every report is answered.
  return job.payload.i;
});
const cpu = process.cpuUsage();
began = performance.now();
await worker.run();
const seconds = (performance.now() - began) / 1_000;
const { user, system } = process.cpuUsage(cpu);

console.log(
  JSON.stringify({
    client: 'typescript',
    transport,
    jobs,
    concurrency,
    enqueue_jobs_per_second: Math.round(jobs / enqueueSeconds),
    seconds: Number(seconds.toFixed(3)),
    jobs_per_second: Math.round(jobs / seconds),
    cpu_us_per_job: Number(((user + system) / jobs).toFixed(1)),
  }),
);
