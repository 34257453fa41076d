#!/usr/bin/env python3
"""The cache beside others.

    bench/cache.py hot [--rounds 5] [--seconds 4] [--connections 64] [--value 1024] [--pin SERVER,CLIENT]
    bench/cache.py scale [--pipeline 16]
    bench/cache.py stampede [--rounds 5] [--callers 10000]

hot: one value, read over 64 connections as fast as it is answered: GET over HTTP with one and with two I/O threads,
beside nginx answering a constant 204, and memcached and Redis over their own protocols. All are driven by wm_bench_hot, one
thread that does as little as it can with an answer. They take turns, and medians of the rounds are printed, with the CPU time
per request of each server. memcached runs with one thread and with its default of four: it is compared with the better.
scale: the same, 16 requests deep on each connection, so that the client's part is small, and memcached with one thread and
with two: what a second thread adds.
stampede: 10,000 callers ask at once for what is not there. Prints how many jobs that made, and how long after the job's
completion the last caller had the value; and in turns with that the same of a program that does nothing but send, with one
thread and with two: what the kernel takes.

One line of JSON on standard output, a table on standard error. What it starts it stops; everything lives in a temporary
folder and on loopback.
"""

import argparse
import getpass
import json
import os
import shutil
import socket
import statistics
import sys
import urllib.request

from peers.peer import Peer, free_port, make_root, nginx, redis, run, take_turns, workmill
from server import raise_descriptor_limit

# What each is compared with: the better of one and of its default, or the same numbers of threads as ours.
MEMCACHED_THREADS = {"hot": (1, 4), "scale": (1, 2)}

class Holder(Peer):
    """A server that holds the value, and how wm_bench_hot asks it for that."""

    def __init__(self, name, command, port, root, core, speaks, key, value_bytes):
        self.asks = ["--speaks", speaks, "--key", key, "--value", value_bytes, "--server", f"127.0.0.1:{port}"]
        super().__init__(name, command, port, root, core)

    def say(self, data, wanted):
        """To a server with a protocol of its own."""
        with socket.create_connection(("127.0.0.1", self.port), 10) as connection:
            connection.sendall(data)
            answer = connection.recv(100)
        if answer != wanted:
            sys.exit(f"{self.name} did not take the value: {answer!r}")


def put(port, key, value):
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/cache/{key}?fresh=1d", value, method="PUT")
    request.add_header("Content-Type", "application/octet-stream")
    with urllib.request.urlopen(request) as answer:
        answer.read()


def start_all(options, root, core):
    """Gives each as soon as it runs, so that all can be stopped whatever comes next."""
    value = b"v" * options.value

    def start(name, command, speaks, key, value_bytes=options.value):
        return Holder(name, command(port := free_port()), port, root, core, speaks, key, value_bytes)

    yield start("nginx 204", lambda port: nginx(root, port), "http", "/", 0)
    for threads in MEMCACHED_THREADS[options.what]:
        peer = start(f"memcached {threads}", lambda port: ["memcached", "-l", "127.0.0.1", "-p", port, "-U", 0, "-t", threads,
                                                           "-u", getpass.getuser()], "memcached", "hot")
        yield peer
        peer.say(b"set hot 0 0 %d\r\n%s\r\n" % (len(value), value), b"STORED\r\n")
    peer = start("redis", lambda port: redis(root, port, "--appendonly", "no"), "redis", "hot")
    yield peer
    peer.say(b"*3\r\n$3\r\nSET\r\n$3\r\nhot\r\n$%d\r\n%s\r\n" % (len(value), value), b"+OK\r\n")
    for threads in (1, 2):
        peer = start(f"workmill {threads}",
                     lambda port: workmill(options.binary, f"{root}/data-{threads}", port, "--io-threads", threads),
                     "http", "/v1/cache/hot")
        yield peer
        put(peer.port, "hot", value)


def ratio(figures, mine, other, key="per_second"):
    """Round by round: the machine's slow minutes fall on both."""
    return round(statistics.median(a[key] / b[key] for a, b in zip(figures[mine], figures[other])), 3)


def hot(options, root):
    server_core, client_core = options.pin.split(",")

    def drive(peer):
        # No warm-up of its own: the CPU time is of all its requests.
        return json.loads(run([options.client, "--connections", options.connections, "--pipeline", options.pipeline,
                               "--warm-up", 0, "--seconds", options.seconds, *peer.asks], client_core))

    peers = []
    try:
        for peer in start_all(options, root, server_core):
            peers.append(peer)
        figures = take_turns(peers, options.rounds, drive)
    finally:
        for peer in peers:
            peer.stop()
    medians = {name: {key: round(statistics.median(one[key] for one in rounds), 2)
                      for key in ("per_second", "p50_us", "p99_us", "cpu_us", "client_cpu_us")}
               for name, rounds in figures.items()}
    memcached = max((name for name in figures if name.startswith("memcached")), key=lambda name: medians[name]["per_second"])
    result = {"connections": options.connections, "pipeline": options.pipeline, "value_bytes": options.value,
              "memcached": memcached, "servers": medians}
    for threads in (1, 2):
        mine = f"workmill {threads}"
        result[f"io_threads_{threads}"] = {
            "of_nginx": ratio(figures, mine, "nginx 204"), "of_memcached": ratio(figures, mine, memcached),
            "of_redis": ratio(figures, mine, "redis"), "p99_of_memcached": ratio(figures, mine, memcached, "p99_us")}
    result["two_threads_of_one"] = ratio(figures, "workmill 2", "workmill 1")
    if options.what == "scale":
        result["memcached_two_threads_of_one"] = ratio(figures, "memcached 2", "memcached 1")
        result["two_threads_of_memcached_two"] = ratio(figures, "workmill 2", "memcached 2")
    print(f"{'':12} {'per second':>12} {'p50 µs':>9} {'p99 µs':>9} {'CPU µs':>8} {'client µs':>10}", file=sys.stderr)
    for name, one in medians.items():
        print(f"{name:12} {one['per_second']:12,.0f} {one['p50_us']:9.0f} {one['p99_us']:9.0f} {one['cpu_us']:8.2f} "
              f"{one['client_cpu_us']:10.2f}", file=sys.stderr)
    return result


def stampede(options, root):
    raise_descriptor_limit()
    peers = {}
    rounds = {}

    def crowd(name, *more):
        out = json.loads(run([options.client, "--callers", options.callers, *more]))
        rounds.setdefault(name, []).append(out)
        print({"of": name, **out}, file=sys.stderr)

    try:
        for threads in (1, 2):
            port = free_port()
            peers[threads] = Peer(f"workmill {threads}", workmill(options.binary, f"{root}/data-{threads}", port,
                                                                  "--io-threads", threads), port, root)
        for number in range(options.rounds):
            for threads, peer in peers.items():
                crowd(f"io_threads_{threads}", "--server", f"http://127.0.0.1:{peer.port}", "--key", f"absent-{number}")
                crowd(f"floor_{threads}", "--floor", threads)
    finally:
        for peer in peers.values():
            peer.stop()
    ours = [one for name, of in rounds.items() if name.startswith("io_threads") for one in of]
    result = {"callers": options.callers, "jobs_each": sorted({one["jobs"] for one in ours}),
              "without_value": sum(one["callers"] - one["with_value"] for one in ours),
              "refused": sum(one["refused"] for one in ours)}
    last = "last_answer_after_report_ms"
    for name, of in rounds.items():
        result[name] = {key: round(statistics.median(one[key] for one in of), 2)
                        for key in (last, "last_answer_after_completion_ms", "report_ms", "p50_ms", "client_cpu_us")}
        result[name]["all_ms"] = sorted(round(one[last], 1) for one in of)
    for threads in (1, 2):
        result[f"io_threads_{threads}"]["of_floor"] = ratio(rounds, f"io_threads_{threads}", f"floor_{threads}", last)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["hot", "scale", "stampede"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--pipeline", type=int, help="requests under way on each; 1 for hot, 16 for scale")
    parser.add_argument("--value", type=int, default=1024, help="bytes")
    parser.add_argument("--callers", type=int, default=10_000)
    parser.add_argument("--pin", metavar="SERVER,CLIENT", help="cores, as taskset names them", default=",")
    parser.add_argument("--build", default="build/release", help="where workmill, wm_bench_hot and wm_bench_stampede are")
    options = parser.parse_args()
    build = os.path.abspath(options.build)
    options.binary = os.path.join(build, "workmill")
    options.client = os.path.join(build, "wm_bench_stampede" if options.what == "stampede" else "wm_bench_hot")
    options.pipeline = options.pipeline or (16 if options.what == "scale" else 1)
    root = make_root()
    try:
        print(json.dumps({"hot": hot, "scale": hot, "stampede": stampede}[options.what](options, root)))
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
