#!/usr/bin/env python3
"""What the copying of survivors costs: the whole life of jobs over HTTP, one a call, on two servers that take turns. One
holds nothing else; the other holds jobs scheduled for next year, which it copies ahead each time its log comes round.

    bench/survivors.py [--scheduled 100000] [--rounds 5] [--jobs 100000] [--binary build/release/workmill]

The log's files are small, so that it comes round often; what lives then decides how much is copied, not the files.
Prints one line of JSON, and a table on standard error.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import urllib.request

from server import Server, post

SEGMENT = "4MiB"
BULK = 10_000


def figure(server, name):
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as answer:
        return float(re.search(rf"^{name} (\S+)$", answer.read().decode(), re.M)[1])


def live(binary, server, jobs):
    """`jobs` are enqueued, leased and reported by 16 producers and 16 workers."""
    command = [binary, "bench", "end-to-end", "--json", "--jobs", jobs, "--server", f"http://127.0.0.1:{server.port}"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"workmill bench: {done.stderr}")
    load = json.loads(done.stdout)["items"][0]
    return {"per_second": load["jobs_per_second"], "cpu_us": load["server_cpu_us_per_job"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scheduled", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--binary", default="build/release/workmill")
    options = parser.parse_args()
    binary = os.path.abspath(options.binary)
    root = tempfile.mkdtemp(prefix="workmill-bench-")
    servers = {name: Server(binary, os.path.join(root, name), "--segment-size", SEGMENT) for name in ("none", "some")}
    try:
        for server in servers.values():
            server.start()
            server.connect().close()
        job = json.dumps({"type": "report", "delay": "365d", "payload": "x" * 98}, separators=(",", ":"))
        connection = servers["some"].connect()
        for left in range(options.scheduled, 0, -BULK):
            post(connection, "/v1/jobs", '{"jobs":[' + ",".join([job] * min(BULK, left)) + "]}")
        # Until every one of them was copied once: from here on it goes round.
        while figure(servers["some"], "workmill_log_copied_jobs_total") < options.scheduled:
            live(binary, servers["some"], options.jobs)
        copied = figure(servers["some"], "workmill_log_copied_jobs_total")
        rounds = [{name: live(binary, server, options.jobs) for name, server in servers.items()}
                  for _ in range(options.rounds)]
        copied = figure(servers["some"], "workmill_log_copied_jobs_total") - copied
        result = {
            "scheduled": options.scheduled,
            "copied_a_job": round(copied / options.rounds / options.jobs, 3),
            "throughput": round(statistics.median(r["some"]["per_second"] / r["none"]["per_second"] for r in rounds), 3),
            "cpu": round(statistics.median(r["some"]["cpu_us"] / r["none"]["cpu_us"] for r in rounds), 3),
            "per_second": {name: round(statistics.median(r[name]["per_second"] for r in rounds)) for name in servers},
            "cpu_us": {name: round(statistics.median(r[name]["cpu_us"] for r in rounds), 2) for name in servers},
        }
        for name, value in result.items():
            print(f"{name:16} {value}", file=sys.stderr)
        print(json.dumps(result))
    finally:
        for server in servers.values():
            if server.process and server.process.poll() is None:
                server.kill()
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
