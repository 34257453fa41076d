#!/usr/bin/env python3
"""What the server does when more is offered than it can do: goodput and latency against the offered load, as a table, and
as a plot with --svg; what reports do meanwhile; memory; and an audit of acknowledged jobs after kill -9 in the middle.

    bench/overload.py [--connections 1000] [--seconds 10] [--long 60] [--ratios 0.1,0.3,…,10] [--svg FILE] [--quick]

The capacity is what 64 connections get done that ask again at once. Then wm_bench_load offers multiples of it, as clients do
that come by chance (Poisson), over --connections connections with a request each; a job that comes due while none of them
is free is not sent, and counted. The highest load lasts --long seconds. The queue keeps its newest 100,000 jobs, so what
memory does is not what the backlog does. Prints one line of JSON, and the table on standard error.
"""

import argparse
import http.client
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import svg
from server import Server, post, raise_descriptor_limit

KEPT = 100_000
RATIOS = (0.1, 0.3, 0.5, 0.7, 0.9, 1, 1.5, 2, 4, 7, 10)


def offer(generator, server, queue, connections, rate, seconds, *more):
    command = [generator, "--server", f"http://127.0.0.1:{server.port}", "--queue", queue, "--connections", connections,
               "--rate", rate, "--seconds", seconds, *more]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"wm_bench_load: {done.stderr}")
    return json.loads(done.stdout)


class Reporter(threading.Thread):
    """A worker that takes a job ten times a second and reports it: are reports still answered, and when?"""

    def __init__(self, port, queue):
        super().__init__(daemon=True)
        self.port, self.queue, self.done = port, queue, threading.Event()
        self.times, self.not_answered, self.leases_refused = [], 0, 0

    def run(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

        def ask(path, body):
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            response = connection.getresponse()
            return response.status, json.loads(response.read())

        while not self.done.wait(0.1):
            status, answer = ask("/v1/leases", {"queues": [self.queue], "max": 1, "worker": "reporter"})
            if status != 200:
                self.leases_refused += 1
                continue
            for job in answer["jobs"]:
                began = time.perf_counter()
                report = {"id": job["id"], "lease": job["lease"], "outcome": "completed"}
                status, answer = ask("/v1/reports", {"reports": [report]})
                if status == 200 and answer["reports"][0]["ok"]:
                    self.times.append(time.perf_counter() - began)
                else:
                    self.not_answered += 1

    def finish(self):
        self.done.set()
        self.join()
        times = sorted(self.times) or [0]
        return {"reports": len(self.times), "reports_not_answered": self.not_answered,
                "leases_refused": self.leases_refused, "report_p99_ms": times[int(len(times) * 0.99)] * 1e3}


def audit(binary, generator, root, connections, rate):
    """Kills the server in the middle, starts it again, and looks for what it had acknowledged."""
    server = Server(binary, os.path.join(root, "audited"))
    server.start()
    server.connect().close()
    killer = threading.Timer(4, server.kill)
    killer.start()
    result = offer(generator, server, "audited", connections, rate, 60, "--until-cut-off")
    killer.join()
    server.start()
    connection = server.connect()
    connection.request("GET", "/v1/queues/audited")
    there = json.loads(connection.getresponse().read())["depth"]["ready"]
    missing = 0
    for name in result["sampled_ids"]:
        connection.request("GET", f"/v1/jobs/{name}")
        response = connection.getresponse()
        response.read()
        missing += response.status != 200
    server.kill()
    lost = max(result["admitted_in_all"] - there, 0)
    return {"acknowledged": result["admitted_in_all"], "there": there, "lost": lost,
            "looked_up": len(result["sampled_ids"]), "looked_up_missing": missing}


def table(rows):
    print(f"{'offered':>8} {'offered/s':>11} {'sent/s':>9} {'goodput/s':>10} {'refused/s':>10} {'p50 ms':>8} {'p99 ms':>8} "
          f"{'refused p50 ms':>15} {'reports':>8} {'p99 ms':>8} {'MiB':>6}", file=sys.stderr)
    for row in rows:
        sent = (row["offered"] - row["not_sent"]) / row["seconds"]
        print(f"{row['ratio']:>7}x {row['offered_per_second']:>11,.0f} {sent:>9,.0f} {row['goodput_per_second']:>10,.0f} "
              f"{row['refused_per_second']:>10,.0f} {row['p50_ms']:>8.2f} {row['p99_ms']:>8.2f} {row['refused_p50_ms']:>15.1f} "
              f"{row['reports']:>8} {row['report_p99_ms']:>8.2f} {row['resident_mib']:>6.0f}", file=sys.stderr)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=1_000)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--long", type=float, default=60, help="for the highest load")
    parser.add_argument("--ratios", default=",".join(map(str, RATIOS)))
    parser.add_argument("--svg", help="write the plot to this file")
    parser.add_argument("--quick", action="store_true", help="two seconds each, ten for the highest")
    parser.add_argument("--build", default="build/release", help="where workmill and wm_bench_load are")
    parser.add_argument("--set", action="append", default=[], help="a line for the server's configuration file")
    options = parser.parse_args()
    if options.quick:
        options.seconds, options.long = 2, 10
    binary, generator = (os.path.abspath(os.path.join(options.build, name)) for name in ("workmill", "wm_bench_load"))
    ratios = [float(text) for text in options.ratios.split(",")]
    raise_descriptor_limit()
    root = tempfile.mkdtemp(prefix="workmill-bench-")
    config = pathlib.Path(root, "workmill.toml")
    config.write_text("\n".join(options.set) + "\n")
    server = Server(binary, os.path.join(root, "data"), "--config", config)
    try:
        server.start()
        connection = server.connect()
        connection.request("PATCH", "/v1/queues/offered", json.dumps({"max_depth": KEPT, "when_full": "drop_oldest"}))
        answer = connection.getresponse()
        if answer.status != 200:
            sys.exit(answer.read())
        answer.read()
        # Fewer than are ever refused, asking again at once. The first run fills the queue.
        offer(generator, server, "offered", 64, 1e7, 3)
        capacity = offer(generator, server, "offered", 64, 1e7, 3 if options.quick else 10)["goodput_per_second"]
        before = server.resident_bytes()
        rows = []
        for ratio in ratios:
            reporter = Reporter(server.port, "offered")
            reporter.start()
            seconds = options.long if ratio == max(ratios) else options.seconds
            row = offer(generator, server, "offered", options.connections, capacity * ratio, seconds)
            del row["sampled_ids"]
            rows.append({"ratio": ratio, **row, **reporter.finish(), "resident_mib": server.resident_bytes() / 2**20})
            if len(rows) == 1:
                before = server.resident_bytes()
        after = server.resident_bytes()
        server.kill()
        table(rows)
        peak = max(row["goodput_per_second"] for row in rows)
        at_70 = min(rows, key=lambda row: abs(row["ratio"] - 0.7))
        highest = rows[ratios.index(max(ratios))]
        result = {
            "capacity_per_second": round(capacity),
            "peak_per_second": round(peak),
            "goodput_of_peak": round(highest["goodput_per_second"] / peak, 3),
            "p99_of_70": round(highest["p99_ms"] / at_70["p99_ms"], 2),
            "p99_ms": {"0.7": round(at_70["p99_ms"], 3), "highest": round(highest["p99_ms"], 3)},
            "memory_mib": {"before": round(before / 2**20), "after": round(after / 2**20)},
            "reports_not_answered": sum(row["reports_not_answered"] for row in rows),
            "audit": audit(binary, generator, root, options.connections, capacity * max(ratios)),
            "rows": rows,
        }
        if options.svg:
            pathlib.Path(options.svg).write_text(svg.plot(
                "Under more than it can do", "offered load, in multiples of the capacity", ratios,
                [{"label": "jobs a second", "lines": {"goodput": [r["goodput_per_second"] for r in rows],
                                                      "refused": [r["refused_per_second"] for r in rows]}},
                 {"label": "ms, of those let in", "log": True, "lines": {"p50": [r["p50_ms"] for r in rows],
                                                                         "p99": [r["p99_ms"] for r in rows]}}]))
        for name, value in result.items():
            if name != "rows":
                print(f"{name:22} {value}", file=sys.stderr)
        print(json.dumps(result))
    finally:
        if server.process and server.process.poll() is None:
            server.kill()
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
