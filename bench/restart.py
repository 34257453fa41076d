#!/usr/bin/env python3
"""How long a server takes from kill -9 to its first lease, and what a queued job costs in memory.

    bench/restart.py [--jobs 1000000] [--rounds 3] [--binary build/release/workmill]

Fills a fresh data folder over HTTP in bulk, kills the server with SIGKILL, starts it again, and takes the time from the
start of the process to the answer of a POST /v1/leases that brings a job. Resident memory is read from the restarted
server, before that lease. Prints one line of JSON, and a table on standard error.
"""

import argparse
import json
import os
import pathlib
import shutil
import statistics
import sys
import tempfile
import time

from server import Server, post

PAYLOAD = "x" * 98  # With its quotes a payload of 100 bytes.
BULK = 10_000


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--binary", default="build/release/workmill")
    options = parser.parse_args()
    root = tempfile.mkdtemp(prefix="workmill-bench-")
    server = Server(os.path.abspath(options.binary), os.path.join(root, "data"))
    try:
        server.start()
        connection = server.connect()
        job = json.dumps({"type": "bench", "payload": PAYLOAD}, separators=(",", ":"))
        begun = time.perf_counter()
        for left in range(options.jobs, 0, -BULK):
            post(connection, "/v1/jobs", '{"jobs":[' + ",".join([job] * min(BULK, left)) + "]}")
        filled = time.perf_counter() - begun
        first_lease, resident = [], []
        for _ in range(options.rounds):
            server.kill()
            server.start()
            connection = server.connect()
            resident.append(server.resident_bytes())
            leased = json.loads(post(connection, "/v1/leases", '{"queues":["default"],"max":1,"worker":"bench"}'))
            first_lease.append(time.perf_counter() - server.started)
            if len(leased["jobs"]) != 1:
                sys.exit("the first lease brought no job")
        log_bytes = sum(f.stat().st_size for f in pathlib.Path(root, "data").glob("*.wal"))
        result = {
            "jobs": options.jobs,
            "enqueued_per_second": round(options.jobs / filled),
            "restart_to_first_lease_s": round(statistics.median(first_lease), 3),
            "restart_to_first_lease_s_all": [round(s, 3) for s in first_lease],
            "resident_mb": round(statistics.median(resident) / 1e6, 1),
            "resident_bytes_per_job": round(statistics.median(resident) / options.jobs, 1),
            "log_mb": round(log_bytes / 1e6),
        }
        for name, value in result.items():
            print(f"{name:32} {value}", file=sys.stderr)
        print(json.dumps(result))
    finally:
        if server.process and server.process.poll() is None:
            server.kill()
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
