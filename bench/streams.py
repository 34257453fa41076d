#!/usr/bin/env python3
"""Workers at full speed: what docs/performance.md asks of streams and workers, measured at a server of our own.

    bench/streams.py life      [--rounds 5]   whole life over a stream in batches, durable
    bench/streams.py http      [--rounds 5]   whole life over HTTP, 16 producers and 16 workers, one job a call, beside Redis
    bench/streams.py latency   [--rounds 5]   one stream, 1,000 jobs/s: enqueue to handler start, beside Redis and the disk alone
    bench/streams.py idle      [--streams 10000] [--seconds S] [--only direct|silent|clients]   memory and CPU of the server with idle streams
    bench/streams.py probes    [--rounds 5] [--streams 5000]      what the kernel spends on asking for a connection that is quiet
    bench/streams.py killed    [--rounds 5] [--jobs 1000]         SIGKILL of a worker: until all of its jobs run elsewhere

One line of JSON on standard output each, for people on standard error. --build says where workmill and wm_bench_redis are.
What it starts it stops; everything lives in a temporary folder and on loopback.
"""

import argparse
import base64
import json
import multiprocessing
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


def flush_times(folder, flushes):
    """What the disk alone takes for 4 KiB a millisecond, written into blocks that are there already, as a log ahead of
    its end has them: the least that a durable job can take."""
    size, blocks = 4_096, 4_096
    times = []
    with open(os.path.join(folder, "flushes"), "w+b") as file:
        file.write(b"x" * (size * blocks))
        file.flush()
        os.fsync(file.fileno())
        due = time.monotonic()
        for number in range(flushes):
            due += 0.001
            time.sleep(max(0.0, due - time.monotonic()))
            began = time.monotonic()
            os.pwrite(file.fileno(), b"y" * size, number % blocks * size)
            os.fdatasync(file.fileno())
            times.append((time.monotonic() - began) * 1e6)
    os.unlink(file.name)
    times.sort()
    return {"jobs_per_second": 1_000, "p50_us": times[len(times) // 2], "p99_us": times[len(times) * 99 // 100]}


def latency(options):
    """Takes turns with a Redis list under the same load, and with a program that does nothing but write and flush."""
    jobs = options.jobs or 5_000
    redis_load = os.path.abspath(os.path.join(options.build, "wm_bench_redis"))
    runs = {"workmill": [], "redis": [], "flush": []}
    with Started(options) as started:
        redis = Redis(started.root) if shutil.which("redis-server") and os.path.exists(redis_load) else None
        try:
            for round_ in range(options.rounds + 1):
                figures = {"workmill": started.bench("latency", "--transport", "stream", "--jobs", jobs),
                           "flush": flush_times(started.root, jobs)}
                if redis:
                    figures["redis"] = run(redis_load, "--server", f"127.0.0.1:{redis.port}", "--jobs", jobs, "--producers", 1,
                                           "--workers", 1, "--rate", 1_000)
                for name, one in figures.items() if round_ > 0 else ():
                    runs[name].append(one)
        finally:
            if redis:
                redis.stop()
    names = {"workmill": "one stream, 1,000 jobs/s", "redis": "Redis lists, always", "flush": "the disk alone"}
    result = {"rounds": options.rounds}
    for name, some in runs.items():
        if some:
            result[name] = medians(some)
            tell(names[name], result[name])
    for name in ("redis", "flush") if redis else ("flush",):
        for part in ("p50_us", "p99_us"):
            ratios = [ours[part] / theirs[part] for ours, theirs in zip(runs["workmill"], runs[name])]
            result[f"{part[:3]}_of_{name}"] = round(statistics.median(ratios), 2)
    return result


# ---- Streams by hand (RFC 6455), as many as one process can hold.


def frame(opcode, payload):
    """As a client sends it, under a mask of zeros: nobody between us and the server reads it."""
    size = len(payload)
    head = struct.pack("!BB", 0x80 | opcode, 0x80 | size) if size < 126 else struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
    return head + b"\0\0\0\0" + payload


class Stream:
    def __init__(self, port, queue, worker, credit, says_where=True):
        """`says_where`: it names the address that it has here, as our clients do."""
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
        if says_where:
            subscribe["from"] = "{}:{}".format(*self.socket.getsockname())
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


class Crowd:
    """Streams of this process, which answer pings and do nothing else."""

    def __init__(self, server, count, says_where):
        self.by_descriptor, self.poller = {}, select.epoll()
        for number in range(count):
            stream = Stream(server.port, f"idle-{number % 100}", f"w-{number}", 10, says_where)
            self.by_descriptor[stream.socket.fileno()] = stream
            self.poller.register(stream.socket, select.EPOLLIN)
            if number % 500 == 499:
                self.wait(0)

    def wait(self, seconds):
        until = time.monotonic() + seconds
        while True:
            left = until - time.monotonic()
            for descriptor, _ in self.poller.poll(max(left, 0)):
                self.by_descriptor[descriptor].answer_pings()
            if left <= 0:
                return

    def close(self):
        for stream in self.by_descriptor.values():
            stream.socket.close()


class ClientWorkers:
    """Workers of the C++ client, a few thousand in a process: each has a thread and four descriptors."""

    def __init__(self, server, count, build):
        program = os.path.abspath(os.path.join(build, "clients/cpp/wm_client_idle"))
        environment = {**os.environ, "WORKMILL_URL": f"http://127.0.0.1:{server.port}"}
        environment.pop("WORKMILL_TOKEN", None)
        share = 2_500
        self.processes = [subprocess.Popen([program, str(min(share, count - begun))], stdin=subprocess.PIPE, env=environment)
                          for begun in range(0, count, share)]
        deadline = time.monotonic() + 300
        while metrics(server)["workmill_streams"] < count:
            if time.monotonic() > deadline or any(process.poll() is not None for process in self.processes):
                sys.exit(f"not all of the {count:,} workers came")
            time.sleep(0.5)

    def wait(self, seconds):
        time.sleep(seconds)

    def close(self):
        for process in self.processes:
            process.stdin.close()
        for process in self.processes:
            process.wait()


def metrics(server):
    """Those without labels."""
    connection = server.connect()
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    pairs = [line.split(" ") for line in lines if not line.startswith("#")]
    return {pair[0]: float(pair[1]) for pair in pairs if len(pair) == 2}


def keep_alive_probes():
    """Sent by this machine's kernel since it started."""
    with open("/proc/net/netstat") as file:
        names, values = [line.split() for line in file if line.startswith("TcpExt:")]
    return int(values[names.index("TCPKeepAlive")])


def idle(options):
    """Streams that wait for jobs that never come, on a server of their own each time: `direct` ones say which address they
    have, `silent` ones do not and answer the server's pings, `clients` are workers of the C++ client. CPU is that of the
    server, beside what it used without any. The windows begin anywhere and are multiples of the times at which the kernel
    asks for a direct stream (60 s), and the server for another (50 s)."""
    raise_descriptor_limit()
    result = {"streams": options.streams}
    make = {"direct": lambda server: Crowd(server, options.streams, True),
            "silent": lambda server: Crowd(server, options.streams, False),
            "clients": lambda server: ClientWorkers(server, options.streams, options.build)}
    for name in options.only or make:
        seconds = options.seconds or {"silent": 100}.get(name, 120)
        with Started(options) as started:
            result[name] = idle_on(started.server, make[name], seconds, options.streams)
        tell_idle(name, options.streams, result[name])
    return result


def idle_on(server, make, seconds, count):
    def window():
        return {"cpu": cpu_seconds(server.process.pid), "pings": metrics(server)["workmill_stream_pings_total"],
                "probes": keep_alive_probes(), "at": time.monotonic()}

    time.sleep(1)
    empty_bytes, before = server.resident_bytes(), window()
    time.sleep(min(seconds, 30))
    after = window()
    cpu_without = (after["cpu"] - before["cpu"]) / (after["at"] - before["at"])
    crowd = make(server)
    crowd.wait(2)
    direct, before = metrics(server)["workmill_streams_direct"], window()
    crowd.wait(seconds)
    after = window()
    resident = server.resident_bytes()
    crowd.close()
    took = after["at"] - before["at"]
    return {"seconds": round(took, 1), "direct": int(direct), "resident_mb": round(resident / 1e6, 1),
            "resident_mb_without": round(empty_bytes / 1e6, 1), "bytes_a_stream": round((resident - empty_bytes) / count),
            "cpu_percent": round((after["cpu"] - before["cpu"]) / took * 100, 3), "cpu_percent_without": round(cpu_without * 100, 3),
            "pings": int(after["pings"] - before["pings"]), "keep_alive_probes": after["probes"] - before["probes"]}


def tell_idle(name, count, one):
    print(f"{count:,} idle streams, {name}: {one['resident_mb']} MB resident ({one['resident_mb_without']} without), "
          f"{one['bytes_a_stream']:,} bytes each; {one['cpu_percent']:.3f} % of a core ({one['cpu_percent_without']:.3f} without) over "
          f"{one['seconds']} s, with {one['pings']:,} pings by the server and {one['keep_alive_probes']:,} probes by the kernel; "
          f"{one['direct']:,} are direct", file=sys.stderr)


def count_on(cpu, counter):
    """In a process of its own: takes all that this CPU has to give, and counts."""
    os.sched_setaffinity(0, {cpu})
    while True:
        for _ in range(1_000):
            pass
        counter.value += 1


def probes(options):
    """Keep-alive is the kernel's work, in interrupts that are charged to nobody. So it is measured by what it takes from
    others: a process on each CPU counts as fast as it can, while the kernel asks for connections over loopback each
    second, from both ends, and while it does not, by turns. A probe is one packet and its answer."""
    raise_descriptor_limit()
    count = min(options.streams, 9_000)  # Both ends are ours.
    listener = socket.create_server(("127.0.0.1", 0), backlog=1_024)
    ends = []
    for _ in range(count):
        ends += [socket.create_connection(listener.getsockname()), listener.accept()[0]]
    for end in ends:
        for option, value in (("TCP_KEEPIDLE", 1), ("TCP_KEEPINTVL", 1)):
            end.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
    cpus = sorted(os.sched_getaffinity(0))
    counters = [multiprocessing.RawValue("Q", 0) for _ in cpus]
    counting = [multiprocessing.Process(target=count_on, args=pair, daemon=True) for pair in zip(cpus, counters)]
    for process in counting:
        process.start()

    def window():
        time.sleep(2)  # The first probes come a second after they are wanted.
        before, sent, began = sum(one.value for one in counters), keep_alive_probes(), time.monotonic()
        time.sleep(5)
        took = time.monotonic() - began
        return (sum(one.value for one in counters) - before) / took, (keep_alive_probes() - sent) / took

    costs, rates = [], []
    for _ in range(options.rounds):
        speeds = []
        for is_on in (0, 1, 1, 0):
            for end in ends:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, is_on)
            speeds.append(window())
        without, with_them = speeds[0][0] + speeds[3][0], speeds[1][0] + speeds[2][0]
        rates.append((speeds[1][1] + speeds[2][1]) / 2)
        costs.append((1 - with_them / without) * len(cpus) / rates[-1] * 1e6)
    for process in counting:
        process.kill()
    result = {"connections": count, "rounds": options.rounds, "probes_per_second": round(statistics.median(rates)),
              "us_a_probe": round(statistics.median(costs), 2), "us_a_probe_each": [round(cost, 2) for cost in costs]}
    print(f"{result['probes_per_second']:,} probes a second over {count:,} connections: {result['us_a_probe']} us of the machine's time "
          f"each ({min(costs):.2f} to {max(costs):.2f})", file=sys.stderr)
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
    parser.add_argument("what", choices=["life", "http", "latency", "idle", "probes", "killed", "hold"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--only", action="append", choices=["direct", "silent", "clients"])
    parser.add_argument("--build", default="build/release")
    parser.add_argument("--set", action="append", default=[], help="a line for the server's configuration file")
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--queue", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.what == "hold":
        return hold(options.port, options.queue, options.jobs)
    measured = {"life": life, "http": http, "latency": latency, "idle": idle, "probes": probes, "killed": killed}[options.what](options)
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
