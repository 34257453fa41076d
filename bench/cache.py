#!/usr/bin/env python3
"""The cache beside others.

    bench/cache.py hot [--rounds 5] [--seconds 4] [--connections 64] [--value 1024] [--pin SERVER,CLIENT]
    bench/cache.py scale [--pipeline 16]
    bench/cache.py stampede [--rounds 5] [--callers 10000]
    bench/cache.py cold [--rounds 5] [--seconds 4] [--value 65536] [--reads 1000]

hot: one value, read over 64 connections as fast as it is answered: GET over HTTP with one and with two I/O threads,
beside nginx answering a constant 204, and memcached and Redis over their own protocols. All are driven by wm_bench_hot, one
thread that does as little as it can with an answer. They take turns, and medians of the rounds are printed, with the CPU time
per request of each server. memcached runs with one thread and with its default of four: it is compared with the better.
scale: the same, 16 requests deep on each connection, so that the client's part is small, and memcached with one thread and
with two: what a second thread adds.
stampede: 10,000 callers ask at once for what is not there. Prints how many jobs that made, and how long after the job's
completion the last caller had the value; and in turns with that the same of a program that does nothing but send, with one
thread and with two: what the kernel takes.
cold: what those who enqueue notice of others who read values that are on the disk only. The 99th percentile of 64 clients that
send 5,000 jobs a second, alone, beside so many reads a second of values in memory, and beside as many of values on the disk, which the kernel does not have in memory
either.

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
import subprocess
import sys
import threading
import time
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


# ---- Values on the disk.

COLD_KEYS, WARM_KEYS = 5_000, 4  # So many that none is read twice in a window of five seconds.
READERS = 8


def read_on(options):
    """Until it is killed: reads the keys of that kind in turn, so many a second over a few connections."""
    keys = COLD_KEYS if options.key == "cold" else WARM_KEYS

    def reader(mine):
        with socket.create_connection(("127.0.0.1", options.port), 30) as connection:
            answers = connection.makefile("rb")
            due, number = time.monotonic(), mine
            while True:
                connection.sendall(f"GET /v1/cache/{options.key}-{number % keys} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                head = b"".join(iter(answers.readline, b"\r\n"))
                if not head.startswith(b"HTTP/1.1 200"):
                    print(f"a value was not there: {head!r}", file=sys.stderr, flush=True)
                    os._exit(1)
                answers.read(options.value)
                number += READERS
                due = max(due + READERS / options.reads, time.monotonic() - 0.1)
                time.sleep(max(0.0, due - time.monotonic()))

    for thread in [threading.Thread(target=reader, args=(number,)) for number in range(READERS)]:
        thread.start()


def cold_reads(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
        return next(int(line.split()[1]) for line in page.read().decode().splitlines()
                    if line.startswith("workmill_cache_cold_reads_total "))


def drop_pages(folder):
    """Has the kernel forget what it keeps of these files: else they are read from its memory, and not from the disk."""
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            with open(path, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cold(options, root):
    config = os.path.join(root, "workmill.toml")
    with open(config, "w") as file:
        file.write('cache_memory = "4MiB"\ncache_disk = "1GiB"\n')
    port = free_port()
    peer = Peer("workmill", workmill(options.binary, f"{root}/data", port, "--config", config), port, root)

    def enqueue():
        return json.loads(run([os.path.join(os.path.dirname(options.binary), "wm_bench_load"), "--server",
                               f"http://127.0.0.1:{port}", "--connections", 64, "--rate", 5_000, "--seconds",
                               options.seconds, "--warm-up", 0.5, "--steady"]))

    def beside(kind):
        drop_pages(f"{root}/data")
        before = cold_reads(port)
        reader = subprocess.Popen([sys.executable, __file__, "read", "--port", str(port), "--key", kind, "--value",
                                   str(options.value), "--reads", str(options.reads)])
        try:
            time.sleep(0.5)
            out = enqueue()
            if reader.poll() is not None:
                sys.exit("the reader has ended")
        finally:
            reader.kill()
            reader.wait()
        return {**out, "cold_reads": cold_reads(port) - before}

    try:
        for kind, count in (("cold", COLD_KEYS), ("warm", WARM_KEYS)):
            for number in range(count):
                put(port, f"{kind}-{number}", bytes(options.value))
        rounds = []
        for _ in range(options.rounds):
            rounds.append({"alone": enqueue(), "warm": beside("warm"), "cold": beside("cold")})
            print(", ".join(f"{one['p99_ms']:.2f} ms {kind}" for kind, one in rounds[-1].items()), file=sys.stderr)
    finally:
        peer.stop()
    result = {"value_bytes": options.value, "reads_per_second": options.reads}
    for kind in ("alone", "warm", "cold"):
        result[kind] = {key: round(statistics.median(one[kind][key] for one in rounds), 3) for key in ("p50_ms", "p99_ms")}
    for kind in ("warm", "cold"):
        result[kind]["cold_reads"] = sum(one[kind]["cold_reads"] for one in rounds)
    pairs = [(one["cold"]["p99_ms"], one["warm"]["p99_ms"]) for one in rounds]
    result["p99_of_warm"] = round(statistics.median(a / b for a, b in pairs), 3)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["hot", "scale", "stampede", "cold", "read"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--pipeline", type=int, help="requests under way on each; 1 for hot, 16 for scale")
    parser.add_argument("--value", type=int, help="bytes: 1024, and 65536 for cold")
    parser.add_argument("--reads", type=float, default=1_000, help="a second")
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--key", help=argparse.SUPPRESS)
    parser.add_argument("--callers", type=int, default=10_000)
    parser.add_argument("--pin", metavar="SERVER,CLIENT", help="cores, as taskset names them", default=",")
    parser.add_argument("--build", default="build/release", help="where workmill, wm_bench_hot and wm_bench_stampede are")
    options = parser.parse_args()
    options.value = options.value or (65_536 if options.what == "cold" else 1_024)
    if options.what == "read":
        return read_on(options)
    build = os.path.abspath(options.build)
    options.binary = os.path.join(build, "workmill")
    options.client = os.path.join(build, "wm_bench_stampede" if options.what == "stampede" else "wm_bench_hot")
    options.pipeline = options.pipeline or (16 if options.what == "scale" else 1)
    root = make_root()
    try:
        print(json.dumps({"hot": hot, "scale": hot, "stampede": stampede, "cold": cold}[options.what](options, root)))
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
