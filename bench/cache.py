#!/usr/bin/env python3
"""The cache beside others.

    bench/cache.py hot [--rounds 5] [--seconds 4] [--connections 64] [--value 1024] [--pin SERVER,CLIENT]
    bench/cache.py stampede [--rounds 5] [--callers 10000]

hot: one value, read over 64 connections as fast as it is answered: GET over HTTP with one and with two I/O threads,
beside nginx answering a constant 204, and memcached and Redis over their own protocols. All are driven by wm_bench_hot, one
thread that does as little as it can with an answer. They take turns, and medians of the rounds are printed, with the CPU time
per request of each server. memcached runs with one thread and with its default of four: it is compared with the better.
stampede: 10,000 callers ask at once for what is not there. Prints how many jobs that made, and how long after the job's
completion the last caller had the value.

One line of JSON on standard output, a table on standard error. What it starts it stops; everything lives in a temporary
folder and on loopback.
"""

import argparse
import getpass
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
import urllib.request

from server import free_port, raise_descriptor_limit

TICK = 1 / os.sysconf("SC_CLK_TCK")

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


def on_core(core, command):
    return ["taskset", "-c", core, *command] if core else command


class Peer:
    """A server that holds the value, and how wm_bench_hot asks it for that."""

    def __init__(self, name, command, port, root, core, speaks, key, value_bytes):
        self.name, self.port = name, port
        self.asks = ["--speaks", speaks, "--key", key, "--value", value_bytes, "--server", f"127.0.0.1:{port}"]
        log = open(os.path.join(root, name.replace(" ", "-") + ".log"), "wb")
        self.process = subprocess.Popen(on_core(core, [str(word) for word in command]), stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"{name} did not start: {pathlib.Path(log.name).read_text()[-500:]}")
                time.sleep(0.02)

    def say(self, data, wanted):
        """To a server with a protocol of its own."""
        with socket.create_connection(("127.0.0.1", self.port), 10) as connection:
            connection.sendall(data)
            answer = connection.recv(100)
        if answer != wanted:
            sys.exit(f"{self.name} did not take the value: {answer!r}")

    def cpu_seconds(self):
        """Of the process and its children: nginx works in a child."""
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        total = 0
        for pid in [self.process.pid, *map(int, children)]:
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


def run(command, core=""):
    done = subprocess.run(on_core(core, [str(word) for word in command]), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{command[0]}: {done.stderr or done.stdout}")
    return done.stdout


def put(port, key, value):
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/cache/{key}?fresh=1d", value, method="PUT")
    request.add_header("Content-Type", "application/octet-stream")
    with urllib.request.urlopen(request) as answer:
        answer.read()


def start_all(options, root, core):
    """Gives each as soon as it runs, so that all can be stopped whatever comes next."""
    value = b"v" * options.value

    def start(name, command, speaks, key, value_bytes=options.value):
        return Peer(name, command(port := free_port()), port, root, core, speaks, key, value_bytes)

    def nginx(port):
        pathlib.Path(root, "nginx.conf").write_text(NGINX.format(root=root, port=port))
        return ["nginx", "-c", f"{root}/nginx.conf", "-e", f"{root}/nginx.log"]

    yield start("nginx 204", nginx, "http", "/", 0)
    for threads in (1, 4):
        peer = start(f"memcached {threads}", lambda port: ["memcached", "-l", "127.0.0.1", "-p", port, "-U", 0, "-t", threads,
                                                           "-u", getpass.getuser()], "memcached", "hot")
        yield peer
        peer.say(b"set hot 0 0 %d\r\n%s\r\n" % (len(value), value), b"STORED\r\n")
    peer = start("redis", lambda port: ["redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", root, "--save", "",
                                        "--appendonly", "no"], "redis", "hot")
    yield peer
    peer.say(b"*3\r\n$3\r\nSET\r\n$3\r\nhot\r\n$%d\r\n%s\r\n" % (len(value), value), b"+OK\r\n")
    for threads in (1, 2):
        data = f"{root}/data-{threads}"
        peer = start(f"workmill {threads}", lambda port: [os.path.join(options.build, "workmill"), "serve", "--data", data,
                                                          "--listen", f"127.0.0.1:{port}", "--io-threads", threads],
                     "http", "/v1/cache/hot")
        yield peer
        put(peer.port, "hot", value)


def hot(options, root):
    server_core, client_core = options.pin.split(",")
    peers = []
    try:
        for peer in start_all(options, root, server_core):
            peers.append(peer)
        figures = {peer.name: [] for peer in peers}
        for number in range(options.rounds + 1):  # The first is a warm-up.
            for peer in peers:
                before = peer.cpu_seconds()
                # No warm-up of its own: the CPU time is of all its requests.
                out = json.loads(run([os.path.join(options.build, "wm_bench_hot"), "--connections", options.connections,
                                      "--warm-up", 0, "--seconds", options.seconds, *peer.asks], client_core))
                out["cpu_us"] = (peer.cpu_seconds() - before) * 1e6 / out["requests"]
                if number > 0:
                    figures[peer.name].append(out)
    finally:
        for peer in peers:
            peer.stop()
    medians = {name: {key: round(statistics.median(one[key] for one in rounds), 2)
                      for key in ("per_second", "p50_us", "p99_us", "cpu_us", "client_cpu_us")}
               for name, rounds in figures.items()}
    memcached = max((name for name in figures if name.startswith("memcached")), key=lambda name: medians[name]["per_second"])
    result = {"connections": options.connections, "value_bytes": options.value, "memcached": memcached, "servers": medians}
    for threads in (1, 2):
        mine = figures[f"workmill {threads}"]

        def ratio(other, key="per_second"):
            # Round by round: the machine's slow minutes fall on both.
            return round(statistics.median(a[key] / b[key] for a, b in zip(mine, figures[other])), 3)

        result[f"io_threads_{threads}"] = {"of_nginx": ratio("nginx 204"), "of_memcached": ratio(memcached),
                                           "of_redis": ratio("redis"), "p99_of_memcached": ratio(memcached, "p99_us")}
    print(f"{'':12} {'per second':>12} {'p50 µs':>9} {'p99 µs':>9} {'CPU µs':>8} {'client µs':>10}", file=sys.stderr)
    for name, one in medians.items():
        print(f"{name:12} {one['per_second']:12,.0f} {one['p50_us']:9.0f} {one['p99_us']:9.0f} {one['cpu_us']:8.2f} "
              f"{one['client_cpu_us']:10.2f}", file=sys.stderr)
    return result


def stampede(options, root):
    raise_descriptor_limit()
    rounds = []
    for threads in (1, 2):
        port = free_port()
        peer = Peer(f"workmill {threads}", [os.path.join(options.build, "workmill"), "serve", "--data", f"{root}/data-{threads}",
                                            "--listen", f"127.0.0.1:{port}", "--io-threads", threads], port, root, "", "http", "", 0)
        try:
            for number in range(options.rounds):
                out = json.loads(run([os.path.join(options.build, "wm_bench_stampede"), "--server", f"http://127.0.0.1:{port}",
                                      "--callers", options.callers, "--key", f"absent-{number}"]))
                rounds.append({"io_threads": threads, **out})
                print(rounds[-1], file=sys.stderr)
        finally:
            peer.stop()
    result = {"callers": options.callers, "jobs_each": sorted({one["jobs"] for one in rounds}),
              "without_value": sum(one["callers"] - one["with_value"] for one in rounds),
              "refused": sum(one["refused"] for one in rounds)}
    for threads in (1, 2):
        mine = [one for one in rounds if one["io_threads"] == threads]
        result[f"io_threads_{threads}"] = {
            key: round(statistics.median(one[key] for one in mine), 2)
            for key in ("last_answer_after_report_ms", "last_answer_after_completion_ms", "p50_ms")}
        result[f"io_threads_{threads}"]["max_ms"] = round(max(one["last_answer_after_report_ms"] for one in mine), 2)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["hot", "stampede"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--value", type=int, default=1024, help="bytes")
    parser.add_argument("--callers", type=int, default=10_000)
    parser.add_argument("--pin", metavar="SERVER,CLIENT", help="cores, as taskset names them", default=",")
    parser.add_argument("--build", default="build/release", help="where workmill, wm_bench_hot and wm_bench_stampede are")
    options = parser.parse_args()
    options.build = os.path.abspath(options.build)
    root = tempfile.mkdtemp(prefix="workmill-bench-")
    os.chmod(root, 0o755)  # nginx's worker and memcached may be other users.
    try:
        print(json.dumps({"hot": hot, "stampede": stampede}[options.what](options, root)))
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
