// Makes thumbnails until it is told to stop: node worker.mjs
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setImmediate as turn } from 'node:timers/promises';
import { PNG } from 'pngjs';
import { UserError, Worker } from 'workmill';
import { resize } from './resize.mjs';

const worker = new Worker({ queues: ['thumbnails'], concurrency: 2 });

worker.on('thumbnail', async (job, ctx) => {
  const { file, target, size } = job.payload;
  ctx.progress(0, 'reading');
  const picture = decode(await readFile(file), file);

  const small = await resize(picture, size, async (part) => {
    ctx.progress(10 + 80 * part, 'scaling');
    await turn(); // Others get their turn: leases are extended, cancellations heard.
    ctx.signal.throwIfAborted();
  });

  ctx.progress(90, 'writing');
  const bytes = PNG.sync.write(small);
  await mkdir(dirname(target), { recursive: true });
  // Whole or not at all, however often this runs.
  await writeFile(`${target}.${job.id}`, bytes);
  await rename(`${target}.${job.id}`, target);
  ctx.log(`${file}: ${picture.width}×${picture.height} → ${small.width}×${small.height}`);
  return { target, width: small.width, height: small.height, bytes: bytes.length };
});

/** Trying again makes no picture of it: the job ends. A file that cannot be read is another matter, and is tried again. */
function decode(bytes, file) {
  try {
    return PNG.sync.read(bytes);
  } catch (error) {
    throw new UserError(`${file} is no PNG: ${error.message}`, { code: 'not_a_picture', cause: error });
  }
}

await worker.run();
