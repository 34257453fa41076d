#!/usr/bin/env python3
"""How many jobs a second one worker of a client does over the stream, its server on the same machine, durable: a
handler that does nothing, whole life but the enqueue.

    bench/clients.py python|typescript [--rounds 3] [--jobs 200000] [--transport stream|http]
        [--handler inline|thread|task] [--python build/python-client/bin/python] [--node node]
        [--binary build/release/workmill]

`./dev test` makes what they need: build/python-client, and clients/typescript/dist. --handler is Python's. Each round
has a server and a folder of its own. Prints one line of JSON with the median of the rounds, and a table on standard
error.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

from server import Server

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGETS = {"python": 15_000, "typescript": 40_000}  # Jobs a second that each is to reach.


def command(options):
    """The program of that language; all of them take --jobs and --transport, and print one JSON object."""
    shared = ["--jobs", str(options.jobs), "--transport", options.transport]
    if options.language == "python":
        return [options.python, ROOT / "clients/python/bench/worker.py", *shared, "--handler", options.handler]
    return [options.node, ROOT / "clients/typescript/bench/worker.mjs", *shared]


def one_round(options):
    with tempfile.TemporaryDirectory(prefix="workmill-bench-") as root:
        server = Server(os.path.abspath(options.binary), os.path.join(root, "data"))
        server.start()
        try:
            server.connect().close()
            environment = {**os.environ, "WORKMILL_URL": f"http://127.0.0.1:{server.port}"}
            environment.pop("WORKMILL_TOKEN", None)
            environment["PYTHONPATH"] = str(ROOT / "clients/python")  # As it stands here, not as it may be installed.
            before = cpu_seconds(server.process.pid)
            done = subprocess.run(
                list(map(str, command(options))), stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
            )
            if done.returncode != 0:
                sys.exit(f"the worker ended with {done.returncode}")
            result = json.loads(done.stdout)
            result["server_cpu_us_per_job"] = round((cpu_seconds(server.process.pid) - before) / options.jobs * 1e6, 1)
            return result
        finally:
            server.kill()


def cpu_seconds(pid):
    # After the name, which may hold anything, come state and then numbers: the 12th and 13th are user and system time.
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("language", choices=TARGETS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=200_000)
    parser.add_argument("--transport", choices=("stream", "http"), default="stream")
    parser.add_argument("--handler", choices=("inline", "thread", "task"), default="inline")
    parser.add_argument("--python", default=ROOT / "build/python-client/bin/python")
    parser.add_argument("--node", default="node")
    parser.add_argument("--binary", default=ROOT / "build/release/workmill")
    options = parser.parse_args()

    rounds = []
    for number in range(1, options.rounds + 1):
        rounds.append(one_round(options))
        one = rounds[-1]
        print(
            f"{number}: {one['jobs_per_second']:9,.0f} jobs/s, {one['cpu_us_per_job']} µs CPU a job here, "
            f"{one['server_cpu_us_per_job']} µs in the server; enqueued at {one['enqueue_jobs_per_second']:,.0f}/s",
            file=sys.stderr,
        )
    rate = statistics.median(one["jobs_per_second"] for one in rounds)
    result = {**rounds[0], "jobs_per_second": rate, "rounds": len(rounds), "target": TARGETS[options.language]}
    print(json.dumps({**result, "holds": rate >= TARGETS[options.language]}))


if __name__ == "__main__":
    main()
