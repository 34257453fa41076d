"""How many jobs a second one worker of this package does, with a handler that does nothing.

    python clients/python/bench/worker.py [--jobs 200000] [--concurrency 1000] [--transport stream|http] [--queue NAME]
        [--handler inline|thread|task]

Against the server at WORKMILL_URL; bench/clients.py of the repository starts one and calls this. Prints one JSON
object: how long it took to enqueue the jobs, and from the worker's start until the last report was answered.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time

from workmill import AsyncWorker, Client, Worker


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=200_000)
    parser.add_argument("--concurrency", type=int, default=1_000)
    parser.add_argument("--transport", choices=("stream", "http"), default="stream")
    parser.add_argument("--queue", default=f"bench-{os.getpid()}")
    parser.add_argument("--handler", choices=("inline", "thread", "task"), default="inline")
    options = parser.parse_args()

    with Client() as client:
        began = time.perf_counter()
        client.enqueue_many(
            {"type": "bench", "queue": options.queue, "payload": {"i": number}, "keep_result": 0}
            for number in range(options.jobs)
        )
        enqueue_seconds = time.perf_counter() - began

    # Threads that wait for tiny jobs only get into each other's way.
    concurrency = min(options.concurrency, 16) if options.handler == "thread" else options.concurrency
    make = AsyncWorker if options.handler == "task" else Worker
    worker = make([options.queue], concurrency=concurrency, credit=options.concurrency * 2, transport=options.transport)
    left = options.jobs

    def done() -> None:
        nonlocal left
        left -= 1
        if left == 0:
            worker.drain()  # run() returns when every report is answered.

    if isinstance(worker, AsyncWorker):

        @worker.job("bench")
        async def handle_as_task(ctx):
            done()
            return ctx.payload["i"]

    else:

        @worker.job("bench", inline=options.handler == "inline")
        def handle(ctx):
            done()
            return ctx.payload["i"]

    cpu = time.process_time()
    began = time.perf_counter()
    if isinstance(worker, AsyncWorker):
        asyncio.run(worker.run())
    else:
        worker.run()
    seconds = time.perf_counter() - began
    cpu = time.process_time() - cpu
    print(
        json.dumps(
            {
                "client": "python",
                "handler": options.handler,
                "transport": options.transport,
                "jobs": options.jobs,
                "concurrency": concurrency,
                "enqueue_jobs_per_second": round(options.jobs / enqueue_seconds),
                "seconds": round(seconds, 3),
                "jobs_per_second": round(options.jobs / seconds),
                "cpu_us_per_job": round(cpu / options.jobs * 1e6, 1),
            }
        )
    )


if __name__ == "__main__":
    main()
