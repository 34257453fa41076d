#!/usr/bin/env python3
"""One job per HTTP call, 64 connections, on disk before the answer: beside nginx answering a constant 204, driven by the
same generator (wrk), and beside Redis XADD with appendfsync always (redis-benchmark), in one run.

    bench/peers/http.py [--rounds 5] [--seconds 4] [--connections 64] [--pin SERVER,CLIENT] [--binary build/release/workmill]

The three take turns, and the medians of the rounds are printed with the server's CPU time per request. Server and
client share the machine's cores as the kernel sees fit; --pin 0,1 gives them a core each. One line of JSON on standard
output, a table on standard error. What it starts it stops; everything lives in a temporary folder and on loopback.
"""

import argparse
import json
import pathlib
import re
import shutil
import statistics
import sys

from peer import Peer, free_port, make_root, nginx, redis, run, take_turns, workmill

LUA = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"type":"bench","payload":"' .. string.rep("x", 98) .. '"}'
"""

def drive_http(server, options, root):
    out = run(["wrk", "-t1", f"-c{options.connections}", f"-d{options.seconds}s", "--latency", "-s", f"{root}/post.lua",
               f"http://127.0.0.1:{server.port}/v1/jobs"], options.client_core)
    if "Non-2xx" in out or "Socket errors" in out:
        sys.exit(f"{server.name}: {out}")
    p99 = re.search(r"99%\s+([\d.]+)(us|ms|s)", out)
    return {
        "requests": int(re.search(r"(\d+) requests in", out)[1]),
        "per_second": float(re.search(r"Requests/sec:\s+([\d.]+)", out)[1]),
        "p99_us": float(p99[1]) * {"us": 1, "ms": 1e3, "s": 1e6}[p99[2]],
    }


def drive_redis(server, options, _root):
    requests = int(options.seconds * 60_000)
    out = run(["redis-benchmark", "-p", str(server.port), "-c", str(options.connections), "-n", str(requests), "--csv",
               "XADD", "jobs", "*", "payload", "x" * 100], options.client_core)
    fields = out.strip().splitlines()[-1].replace('"', "").split(",")
    return {"requests": requests, "per_second": float(fields[1]), "p99_us": float(fields[6]) * 1e3}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--pin", metavar="SERVER,CLIENT", help="cores, as taskset names them", default=",")
    parser.add_argument("--binary", default="build/release/workmill")
    options = parser.parse_args()
    server_core, options.client_core = options.pin.split(",")
    root = make_root()
    pathlib.Path(root, "post.lua").write_text(LUA)
    servers = []
    try:
        def start(name, command):
            port = free_port()
            servers.append(Peer(name, command(port), port, root, server_core))

        start("nginx", lambda port: nginx(root, port))
        start("redis", lambda port: redis(root, port, "--appendonly", "yes", "--appendfsync", "always"))
        start("workmill", lambda port: workmill(options.binary, f"{root}/data", port))
        figures = take_turns(servers, options.rounds,
                             lambda server: (drive_redis if server.name == "redis" else drive_http)(server, options, root))
        medians = {
            name: {key: round(statistics.median(f[key] for f in rounds), 2) for key in rounds[0]}
            for name, rounds in figures.items()
        }
        result = {
            "connections": options.connections,
            "rounds": options.rounds,
            "servers": medians,
            "of_nginx": round(statistics.median(
                w["per_second"] / n["per_second"] for w, n in zip(figures["workmill"], figures["nginx"])), 3),
            "of_redis": round(statistics.median(
                w["per_second"] / r["per_second"] for w, r in zip(figures["workmill"], figures["redis"])), 3),
        }
        print(f"{'':10}{'requests/s':>12}{'p99 us':>10}{'CPU us':>8}", file=sys.stderr)
        for name, median in medians.items():
            print(f"{name:10}{median['per_second']:12,.0f}{median['p99_us']:10,.0f}{median['cpu_us']:8.2f}",
                  file=sys.stderr)
        print(f"workmill / nginx {result['of_nginx']:.2f}   workmill / redis {result['of_redis']:.2f}", file=sys.stderr)
        print(json.dumps(result))
    finally:
        for server in servers:
            server.stop()
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
