// Sends a job for each PNG of a folder, and shows how far they are: node send.mjs FOLDER TARGET [SIZE]
import { readdir } from 'node:fs/promises';
import { resolve } from 'node:path';
import { Client } from 'workmill';

const [folder, target, size = '160'] = process.argv.slice(2);
if (!folder || !target || !/^[1-9]\d{0,3}$/.test(size)) {
  console.error('usage: node send.mjs FOLDER TARGET [SIZE]');
  process.exit(2);
}

const client = new Client();
const files = (await readdir(folder)).filter((file) => file.toLowerCase().endsWith('.png')).sort();
const sent = await client.enqueueMany(
  files.map((file) => ({
    type: 'thumbnail',
    queue: 'thumbnails',
    payload: { file: resolve(folder, file), target: resolve(target, file), size: Number(size) },
    unique: { key: resolve(target, file) },
    maxAttempts: 5,
  })),
);

const screen = process.stdout.isTTY;
const jobs = await Promise.all(
  sent.map(async ({ id }, i) => {
    for (;;) {
      const job = await client.waitFor(id, { timeout: '1s' });
      if (job.finishedAt) return job;
      if (screen && job.progress) console.log(`${files[i]}  ${job.progress.percent} %  ${job.progress.message ?? ''}`);
    }
  }),
);

for (const [i, job] of jobs.entries()) {
  if (job.state === 'completed') console.log(`${files[i]}  ${job.result.width}×${job.result.height}`);
  else console.log(`${files[i]}  ${job.state}: ${job.error?.message ?? ''}`);
}
process.exitCode = jobs.every((job) => job.state === 'completed') ? 0 : 1;
