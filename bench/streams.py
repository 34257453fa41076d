#!/usr/bin/env python3
"""Workers at full speed: what docs/performance.md asks of streams and workers, measured at a server of our own.

    bench/streams.py life      [--rounds 5]   whole life over a stream in batches, durable
    bench/streams.py http      [--rounds 5]   whole life over HTTP, 16 producers and 16 workers, one job a call, beside Redis
    bench/streams.py latency   [--rounds 5]   one stream, 1,000 jobs/s: enqueue to handler start
    bench/streams.py idle      [--streams 10000] [--seconds 30]   memory and CPU of the server with idle streams
    bench/streams.py killed    [--rounds 5] [--jobs 1000]         SIGKILL of a worker: until all of its jobs run elsewhere

One line of JSON on standard output each, for people on standard error. --build says where workmill and wm_bench_redis are.
What it starts it stops; everything lives in a temporary folder and on loopback.
"""

import argparse
import base64
import json
import os
import select
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time

from server import Server, free_port, post, raise_descriptor_limit

TICK = 1 / os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * TICK


def run(*command):
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: {done.stderr or done.stdout}")
    return json.loads(done.stdout)


class Started:
    """A server with nothing in it, and the folder it lives in."""

    def __init__(self, options):
        self.binary = os.path.abspath(os.path.join(options.build, "workmill"))
        self.root = tempfile.mkdtemp(prefix="workmill-bench-")
        config = os.path.join(self.root, "workmill.toml")
        with open(config, "w") as file:
            file.write("\n".join(options.set) + "\n")
        self.server = Server(self.binary, os.path.join(self.root, "data"), "--config", config)

    def __enter__(self):
        self.server.start()
        self.server.connect().close()
        return self

    def __exit__(self, *_):
        self.server.kill()
        shutil.rmtree(self.root, ignore_errors=True)

    def bench(self, load, *more):
        url = f"http://127.0.0.1:{self.server.port}"
        return run(self.binary, "bench", load, "--json", "--server", url, *more)["items"][0]


def medians(runs):
    keys = ("jobs_per_second", "p50_us", "p99_us", "server_cpu_us_per_job")
    return {key: round(statistics.median(one[key] for one in runs), 2) for key in keys if all(key in one for one in runs)}


def tell(name, figures):
    cpu = figures.get("server_cpu_us_per_job")
    print(f"{name:24}{figures['jobs_per_second']:>12,.0f} jobs/s   p50 {figures['p50_us'] / 1e3:8.2f} ms   p99 "
          f"{figures['p99_us'] / 1e3:8.2f} ms" + (f"   {cpu:6.2f} us of the server's CPU a job" if cpu else ""), file=sys.stderr)


# ---- Whole lives.


def life(options):
    """Jobs are enqueued over HTTP, `batch` a call, leased and reported over one stream; the credit bounds what is out."""
    runs = []
    with Started(options) as started:
        for round_ in range(options.rounds + 1):  # The first is a warm-up.
            figures = started.bench("end-to-end", "--transport", "stream", "--producers", 2, "--workers", 1, "--batch", 500,
                                    "--credit", 5_000, "--jobs", options.jobs or 1_500_000)
            runs += [figures] if round_ > 0 else []
    result = {"rounds": options.rounds, **medians(runs), "rates": [round(one["jobs_per_second"]) for one in runs]}
    tell("stream, batches of 500", result)
    return result


class Redis:
    def __init__(self, root):
        self.port = free_port()
        log = open(os.path.join(root, "redis.log"), "wb")
        self.process = subprocess.Popen(
            ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", root, "--save", "",
             "--appendonly", "yes", "--appendfsync", "always"], stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    sys.exit("redis-server did not start")
                time.sleep(0.02)

    def stop(self):
        self.process.terminate()
        self.process.wait()


def http(options):
    """Takes turns with Redis lists (LPUSH, BLMOVE, LREM), the fastest durable queue of those that we have measured. A worker of
    ours sends its reports with its next lease call; one of Redis sends its LREM with its next BLMOVE. And, in turns of their own,
    waits for the answer to each call, as client libraries do it."""
    jobs = options.jobs or 150_000
    redis_load = os.path.abspath(os.path.join(options.build, "wm_bench_redis"))
    ours, theirs = [], {"redis": [], "redis_call_by_call": []}
    with Started(options) as started:
        redis = Redis(started.root) if shutil.which("redis-server") and os.path.exists(redis_load) else None
        try:
            for round_ in range(options.rounds + 1):
                figures = started.bench("end-to-end", "--producers", 16, "--workers", 16, "--jobs", jobs)
                ours += [figures] if round_ > 0 else []
                for name, runs in theirs.items() if redis else ():
                    before = cpu_seconds(redis.process.pid)
                    how = ["--acks-alone"] if name == "redis_call_by_call" else []
                    figures = run(redis_load, "--server", f"127.0.0.1:{redis.port}", "--jobs", jobs, *how)
                    figures["server_cpu_us_per_job"] = (cpu_seconds(redis.process.pid) - before) * 1e6 / jobs
                    runs += [figures] if round_ > 0 else []
        finally:
            if redis:
                redis.stop()
    result = {"rounds": options.rounds, "workmill": medians(ours)}
    tell("workmill", result["workmill"])
    for name, runs in theirs.items() if redis else ():
        result[name] = medians(runs)
        tell({"redis": "Redis lists, always", "redis_call_by_call": "the same, call by call"}[name], result[name])
        ratios = [one["jobs_per_second"] / other["jobs_per_second"] for one, other in zip(ours, runs)]
        result[f"of_{name}"] = round(statistics.median(ratios), 2)
    return result


def latency(options):
    runs = []
    with Started(options) as started:
        for round_ in range(options.rounds + 1):
            figures = started.bench("latency", "--transport", "stream", "--jobs", options.jobs or 5_000)
            runs += [figures] if round_ > 0 else []
    result = {"rounds": options.rounds, **medians(runs)}
    tell("one stream, 1,000 jobs/s", result)
    return result


# ---- Streams by hand (RFC 6455), as many as one process can hold.


def frame(opcode, payload):
    """As a client sends it, under a mask of zeros: nobody between us and the server reads it."""
    size = len(payload)
    head = struct.pack("!BB", 0x80 | opcode, 0x80 | size) if size < 126 else struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
    return head + b"\0\0\0\0" + payload


class Stream:
    def __init__(self, port, queue, worker, credit):
        self.socket = socket.create_connection(("127.0.0.1", port), 30)
        self.pending = b""
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall((f"GET /v1/worker HTTP/1.1\r\nHost: bench\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                             f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n").encode())
        while b"\r\n\r\n" not in self.pending:
            self._receive()
        head, _, self.pending = self.pending.partition(b"\r\n\r\n")
        if b" 101 " not in head.split(b"\r\n")[0]:
            sys.exit(f"no worker stream: {head.decode()} {self.pending.decode()}")
        subscribe = {"queues": [queue], "credit": credit, "lease": "60s", "worker": worker}
        self.socket.sendall(frame(1, json.dumps({"subscribe": subscribe}).encode()))
        assert "subscribed" in self.message()

    def _receive(self):
        data = self.socket.recv(1 << 20)
        if not data:
            sys.exit("the server closed a worker stream")
        self.pending += data

    def message(self):
        """The next text message, as JSON. Pings are answered on the way."""
        while True:
            opcode, payload = self._frame()
            if opcode == 1:
                return json.loads(payload)
            if opcode == 9:
                self.socket.sendall(frame(10, payload))
            elif opcode == 8:
                sys.exit(f"the server closed a worker stream: {payload[2:].decode()}")

    def _frame(self):
        while True:
            if len(self.pending) >= 2:
                size, at = self.pending[1] & 0x7F, 2
                if size >= 126:
                    width = 2 if size == 126 else 8
                    size, at = int.from_bytes(self.pending[2 : 2 + width], "big"), 2 + width
                    if len(self.pending) < at:
                        size = 1 << 62
                if len(self.pending) >= at + size:
                    opcode, payload = self.pending[0] & 0x0F, self.pending[at : at + size]
                    self.pending = self.pending[at + size :]
                    return opcode, payload
            self._receive()

    def answer_pings(self):
        self.socket.setblocking(False)
        try:
            while True:
                self._receive()
        except BlockingIOError:
            pass
        self.socket.setblocking(True)
        while len(self.pending) >= 2 and len(self.pending) >= 2 + (self.pending[1] & 0x7F):
            opcode, payload = self._frame()
            if opcode == 9:
                self.socket.sendall(frame(10, payload))


def idle(options):
    """Streams that wait for jobs that never come, and answer the server's pings. CPU is that of the server, beside what it
    used without any."""
    raise_descriptor_limit()
    seconds = options.seconds or 30
    with Started(options) as started:
        server = started.server
        time.sleep(1)
        empty_bytes, before = server.resident_bytes(), cpu_seconds(server.process.pid)
        time.sleep(seconds)
        cpu_without = (cpu_seconds(server.process.pid) - before) / seconds
        streams = []
        for number in range(options.streams):
            streams.append(Stream(server.port, f"idle-{number % 100}", f"w-{number}", 10))
            if number % 500 == 499:
                for stream in streams:
                    stream.answer_pings()
        by_descriptor = {stream.socket.fileno(): stream for stream in streams}
        poller = select.epoll()
        for descriptor in by_descriptor:
            poller.register(descriptor, select.EPOLLIN)

        def wait(how_long):
            until = time.monotonic() + how_long
            while (left := until - time.monotonic()) > 0:
                for descriptor, _ in poller.poll(left):
                    by_descriptor[descriptor].answer_pings()

        wait(2)
        before = cpu_seconds(server.process.pid)
        wait(seconds)
        cpu = (cpu_seconds(server.process.pid) - before) / seconds
        resident = server.resident_bytes()
    result = {"streams": options.streams, "resident_mb": round(resident / 1e6, 1), "resident_mb_without": round(empty_bytes / 1e6, 1),
              "bytes_a_stream": round((resident - empty_bytes) / options.streams), "cpu_percent": round(cpu * 100, 2),
              "cpu_percent_without": round(cpu_without * 100, 2)}
    print(f"{options.streams:,} idle streams: {result['resident_mb']} MB resident ({result['resident_mb_without']} without), "
          f"{result['bytes_a_stream']:,} bytes each; {result['cpu_percent']} % of a core ({result['cpu_percent_without']} without)",
          file=sys.stderr)
    return result


def hold(port, queue, jobs):
    """In a process of its own: takes `jobs` jobs over a stream, says so, and does nothing with them."""
    stream = Stream(port, queue, "victim", jobs)
    taken = 0
    while taken < jobs:
        taken += len(stream.message().get("jobs", []))
    print("holding", flush=True)
    signal.pause()


def killed(options):
    """Another stream waits with credit for all of them. From the kill to the message that brings the last one; each must come
    again with its attempt counted, and none twice."""
    jobs = options.jobs or 1_000
    took = []
    with Started(options) as started:
        port = started.server.port
        for round_ in range(options.rounds):
            queue = f"killed-{round_}"
            connection = started.server.connect()
            made = json.loads(post(connection, "/v1/jobs", json.dumps({"jobs": [{"type": "t", "queue": queue}] * jobs})))
            victim = subprocess.Popen([sys.executable, __file__, "hold", "--port", str(port), "--queue", queue, "--jobs", str(jobs)],
                                      stdout=subprocess.PIPE, text=True)
            if victim.stdout.readline().strip() != "holding":
                sys.exit("the worker that was to be killed did not take its jobs")
            heir = Stream(port, queue, "heir", jobs)
            began = time.perf_counter()
            victim.kill()
            attempts = {}
            while len(attempts) < jobs:
                for job in heir.message().get("jobs", []):
                    if job["id"] in attempts:
                        sys.exit(f"{job['id']} came twice")
                    attempts[job["id"]] = job["attempt"]
            took.append(time.perf_counter() - began)
            victim.wait()
            if set(attempts) != {job["id"] for job in made["jobs"]} or set(attempts.values()) != {2}:
                sys.exit("not each job came again with its attempt counted")
            heir.socket.close()
    result = {"jobs": jobs, "rounds": options.rounds, "seconds": round(statistics.median(took), 2), "seconds_max": round(max(took), 2)}
    print(f"SIGKILL of a worker with {jobs:,} jobs: all run elsewhere after {result['seconds']} s (at most {result['seconds_max']})",
          file=sys.stderr)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["life", "http", "latency", "idle", "killed", "hold"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--set", action="append", default=[], help="a line for the server's configuration file")
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--queue", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.what == "hold":
        return hold(options.port, options.queue, options.jobs)
    measured = {"life": life, "http": http, "latency": latency, "idle": idle, "killed": killed}[options.what](options)
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
