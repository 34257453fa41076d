#!/usr/bin/env python3
"""How long a server takes from kill -9 to its first lease, and what a queued job costs in memory.

    tools/bench/restart.py [--jobs 1000000] [--rounds 3] [--binary build/release/workmill]

Fills a fresh data folder over HTTP in bulk, kills the server with SIGKILL, starts it again, and takes the time from the
start of the process to the answer of a POST /v1/leases that brings a job. Resident memory is read from the restarted
server, before that lease. Prints one line of JSON, and a table on standard error.
"""

import argparse
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

PAYLOAD = "x" * 98  # With its quotes a payload of 100 bytes.
BULK = 10_000


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    def __init__(self, binary, folder):
        self.port = free_port()
        self.command = [binary, "serve", "--data", folder, "--listen", f"127.0.0.1:{self.port}"]
        self.log = open(os.path.join(os.path.dirname(folder), "server.log"), "ab")
        self.process = None

    def start(self):
        self.started = time.perf_counter()
        self.process = subprocess.Popen(self.command, stdout=self.log, stderr=self.log)

    def connect(self, deadline=120.0):
        """The first connection that the server takes, and when that was, in seconds after its start."""
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
            try:
                connection.connect()
                return connection
            except ConnectionRefusedError:
                if self.process.poll() is not None:
                    sys.exit(f"the server ended with {self.process.returncode}: see {self.log.name}")
                if time.perf_counter() - self.started > deadline:
                    sys.exit("the server does not listen")
                time.sleep(0.001)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def resident_bytes(self):
        fields = dict(
            line.split(":", 1) for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        )
        return int(fields["VmRSS"].split()[0]) * 1024


def post(connection, path, body):
    connection.request("POST", path, body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = response.read()
    if response.status not in (200, 201):
        sys.exit(f"POST {path}: {response.status} {answer[:300]!r}")
    return answer


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
