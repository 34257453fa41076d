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
import os
import pathlib
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

TICK = 1 / os.sysconf("SC_CLK_TCK")

LUA = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"type":"bench","payload":"' .. string.rep("x", 98) .. '"}'
"""

NGINX = """
worker_processes 1; daemon off; pid {root}/nginx.pid; error_log {root}/nginx.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000000;
  client_body_temp_path {root}/b; proxy_temp_path {root}/p; fastcgi_temp_path {root}/f;
  uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;
  server {{ listen 127.0.0.1:{port}; location / {{ return 204; }} }}
}}
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def on_core(core, command):
    return ["taskset", "-c", core, *command] if core else command


class Server:
    def __init__(self, name, command, port, root, core):
        self.name, self.port = name, port
        log = open(os.path.join(root, name + ".log"), "wb")
        self.process = subprocess.Popen(on_core(core, command), stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"{name} did not start: {pathlib.Path(log.name).read_text()[-500:]}")
                time.sleep(0.02)

    def processes(self):
        """The process and its children: nginx works in a child."""
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [self.process.pid, *map(int, children)]

    def cpu_seconds(self):
        total = 0
        for pid in self.processes():
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        return total * TICK

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def run(command, core):
    done = subprocess.run(on_core(core, command), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{command[0]}: {done.stderr or done.stdout}")
    return done.stdout


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
    root = tempfile.mkdtemp(prefix="workmill-bench-")
    os.chmod(root, 0o755)
    pathlib.Path(root, "post.lua").write_text(LUA)
    servers = []
    try:
        port = free_port()
        pathlib.Path(root, "nginx.conf").write_text(NGINX.format(root=root, port=port))
        servers.append(Server("nginx", ["nginx", "-c", f"{root}/nginx.conf", "-e", f"{root}/nginx.log"], port, root,
                              server_core))
        port = free_port()
        servers.append(Server("redis", ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--dir", root, "--save",
                                        "", "--appendonly", "yes", "--appendfsync", "always"], port, root, server_core))
        port = free_port()
        servers.append(Server("workmill", [os.path.abspath(options.binary), "serve", "--data", f"{root}/data", "--listen",
                                           f"127.0.0.1:{port}"], port, root, server_core))
        figures = {server.name: [] for server in servers}
        for round_ in range(options.rounds + 1):  # The first is a warm-up.
            for server in servers:
                before = server.cpu_seconds()
                figure = (drive_redis if server.name == "redis" else drive_http)(server, options, root)
                figure["cpu_us"] = (server.cpu_seconds() - before) * 1e6 / figure["requests"]
                if round_ > 0:
                    figures[server.name].append(figure)
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
