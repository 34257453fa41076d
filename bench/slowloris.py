#!/usr/bin/env python3
"""What clients notice of thousands of sockets that never finish their request's head.

    bench/slowloris.py [--sockets 5000] [--rate 10000] [--rounds 8] [--seconds 3] [--durability sync]
    bench/slowloris.py drips [--sockets 5000] [--seconds 10]

The first: 64 clients send a server so many jobs a second. The 99th percentile of their answers' times is taken alone;
among so many slow sockets at the same server; and beside the same sockets at another process, which reads what they send
and does nothing (wm_bench_sink). What that last one changes is the machine's doing, which shares its cores between all
of them: so what is left of the second is the server's. Windows of a few seconds follow each other, of one kind before and
after those of another, as in A B B A; compared are neighbours, and all windows of a kind taken as one. The intervals hold 95 %
of what 1,000 drawings of the rounds, with repetition, come to (a bootstrap). With `--durability os` no answer waits for the
disk, whose slow moments fall on windows of any kind: what the slow sockets do is then seen with fewer of them.

drips: the CPU time of the server, and of that other process, for each line that a slow socket sends by itself. Steadier
than any percentile. Both print one line of JSON.
"""

import argparse
import glob
import json
import os
import random
import selectors
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from server import Server, raise_descriptor_limit

CLIENTS = 64
LINE = b"X-Slow: y\r\n"
LINE_EVERY = 4.0  # Seconds, for each socket.
# Seconds. What the slow sockets do is spread evenly, as five thousand that know nothing of each other would do it. In steps
# of 4 ms five lines and three connections came together, a tenth of a millisecond of work: and in 3 % of the time there was
# one to meet, so that it stood in the 99th percentile.
TICK = 0.001
OPENED_A_TICK = 1
SINK_PATIENCE = 11  # Seconds. As the server's `header_timeout` comes to, with the sweep that sees it.


def open_slow(port):
    one = socket.create_connection(("127.0.0.1", port), 30)
    one.setblocking(False)
    one.send(b"POST /v1/jobs HTTP/1.1\r\nHost: slow\r\n")
    return one


def trickle(port, count):
    """Until it is killed: `count` sockets, each of which sends another header line every four seconds. Says so when all
    are open for the first time: the server ends each after `header_timeout`, so they are opened at a rate that outruns it."""
    raise_descriptor_limit()
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # An attacker has a machine of his own.
    waiting, said = selectors.DefaultSelector(), False
    slots, free, tick = [None] * count, list(range(count)), 0
    lanes = round(LINE_EVERY / TICK)
    while True:
        began = time.monotonic()
        for _ in range(min(OPENED_A_TICK, len(free))):
            try:
                one = open_slow(port)
            except OSError:
                break  # Too many for now: with the next tick.
            slot = free.pop()
            slots[slot] = one
            waiting.register(one, selectors.EVENT_READ, slot)
        if count - len(free) >= count * 0.95 and not said:
            said = True
            print("open", flush=True)
        for key, _ in waiting.select(0):  # An answer, or the end: either way it is over.
            waiting.unregister(key.fileobj)
            key.fileobj.close()
            slots[key.data] = None
            free.append(key.data)
        for one in slots[tick % lanes :: lanes]:
            try:
                if one is not None:
                    one.send(LINE)
            except OSError:
                pass  # Seen as its end with the next tick.
        tick += 1
        time.sleep(max(0.0, TICK - (time.monotonic() - began)))


# ---- What is started, and stopped again.


class Slow:
    """The slow sockets, in a process of their own, at that port."""

    def __init__(self, options, port):
        self.process = subprocess.Popen([sys.executable, __file__, "trickle", "--port", str(port), "--sockets",
                                         str(options.sockets)], stdout=subprocess.PIPE, text=True)

    def __enter__(self):
        if self.process.stdout.readline() != "open\n":
            sys.exit("the slow sockets could not be opened")

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        time.sleep(1)  # Their ends come to the server all at once, and are none of the next window's.


class Sink:
    def __init__(self, options, patience=SINK_PATIENCE):
        self.process = subprocess.Popen([os.path.join(options.build, "wm_bench_sink"), "--patience", str(patience)],
                                        stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())

    def kill(self):
        self.process.kill()
        self.process.wait()


def offer(options, port, *pids):
    """Beside the figures of the load, the CPU time of these processes meanwhile, in percent of a core."""
    command = [os.path.join(options.build, "wm_bench_load"), "--server", f"http://127.0.0.1:{port}", "--connections",
               CLIENTS, "--rate", options.rate, "--seconds", options.seconds, "--warm-up", min(0.5, options.seconds),
               "--steady", "--buckets"]
    before, began = [cpu_seconds(pid) for pid in pids], time.monotonic()
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"wm_bench_load: {done.stderr}")
    took = time.monotonic() - began
    cpu = [100 * (cpu_seconds(pid) - earlier) / took for pid, earlier in zip(pids, before)]
    return {**json.loads(done.stdout), "cpu": cpu}


def cpu_seconds(pid):
    """In all threads, to the nanosecond."""
    return sum(int(open(name).read().split()[0]) for name in glob.glob(f"/proc/{pid}/task/*/schedstat")) / 1e9


# ---- What is made of it.


KINDS = ("alone", "among", "beside")


def added_up(windows):
    """How many answers took so many ns, over all of these windows."""
    counts = {}
    for window in windows:
        for upper, count in window["latency_buckets"]:
            counts[upper] = counts.get(upper, 0) + count
    return counts


def p99_ms(histograms):
    """Over all of these, which have their steps in common."""
    steps, *_ = histograms
    wanted, seen = 0.99 * sum(map(sum, (one.values() for one in histograms))), 0
    for upper in sorted(steps):
        seen += sum(one[upper] for one in histograms)
        if seen >= wanted:
            return upper / 1e6
    return 0.0


def pair_ratios(rounds, kind):
    return [slow["p99_ms"] / alone["p99_ms"] for one in rounds for alone, slow in one["pairs"][kind]]


def ratios(rounds):
    """Of the 99th percentiles: over the answers of all windows of a kind, and as the median of neighbours."""
    pooled = {kind: p99_ms([one["histograms"][kind] for one in rounds]) for kind in KINDS}
    among, beside = (statistics.median(pair_ratios(rounds, kind)) for kind in ("among", "beside"))
    return {
        ("among", "pooled"): pooled["among"] / pooled["alone"],
        ("among", "of_pairs"): among,
        ("beside", "pooled"): pooled["beside"] / pooled["alone"],
        ("beside", "of_pairs"): beside,
        ("ours", "pooled"): pooled["among"] / pooled["beside"],
        ("ours", "of_pairs"): among / beside,
    }


def figures(rounds, draws=1000):
    for one in rounds:
        one["histograms"] = {kind: added_up(one["windows"][kind]) for kind in KINDS}
    steps = {upper for one in rounds for counts in one["histograms"].values() for upper in counts}
    for one in rounds:
        for kind, counts in one["histograms"].items():
            one["histograms"][kind] = {upper: counts.get(upper, 0) for upper in steps}
    chance = random.Random(1)
    drawn = [ratios([chance.choice(rounds) for _ in rounds]) for _ in range(draws)]
    result = {what: {} for what in ("among", "beside", "ours")}
    for (what, how), ratio in ratios(rounds).items():
        values = sorted(one[what, how] for one in drawn)
        bounds = [round(values[int(draws * part)], 3) for part in (0.025, 0.975)]
        result[what][how] = {"ratio": round(ratio, 3), "interval": bounds}
    for kind in ("among", "beside"):
        result[kind]["ratios"] = [round(one, 3) for one in pair_ratios(rounds, kind)]
    result["p99_ms"] = {kind: round(p99_ms([one["histograms"][kind] for one in rounds]), 3) for kind in KINDS}
    of_kind = {kind: [window for one in rounds for window in one["windows"][kind]] for kind in KINDS}
    server, sink = ({kind: statistics.median(window["cpu"][process] for window in of_kind[kind]) for kind in KINDS}
                    for process in (0, 1))
    result["cpu_percent_for_slow_sockets"] = {"server": round(server["among"] - server["alone"], 2),
                                              "sink": round(sink["beside"] - sink["alone"], 2)}
    every = [window for windows in of_kind.values() for window in windows]
    result["refused"] = sum(one["refused_503"] + one["refused_429"] for one in every)
    result["not_sent"] = sum(one["not_sent"] for one in every)
    return result


def tell(what, of):
    low, high = of["pooled"]["interval"]
    pair_low, pair_high = of["of_pairs"]["interval"]
    print(f"{what:46} {of['pooled']['ratio']:.3f} pooled ({low:.3f} to {high:.3f}), {of['of_pairs']['ratio']:.3f} by pairs "
          f"({pair_low:.3f} to {pair_high:.3f})", file=sys.stderr)


def measure(options, server):
    sink = Sink(options)
    ports = {"among": server.port, "beside": sink.port}
    rounds = []

    def window():
        return offer(options, server.port, server.process.pid, sink.process.pid)

    try:
        for number in range(options.rounds):
            windows, pairs = {kind: [] for kind in KINDS}, {}
            for kind in ("among", "beside") if number % 2 == 0 else ("beside", "among"):
                before = window()
                with Slow(options, ports[kind]):
                    windows[kind] += [window(), window()]
                after = window()
                windows["alone"] += [before, after]
                pairs[kind] = list(zip((before, after), windows[kind]))
            rounds.append({"windows": windows, "pairs": pairs})
            seen = ", ".join(f"{p99_ms([added_up(windows[kind])]):.3f} {kind}" for kind in KINDS)
            print(f"round {number + 1}: p99 in ms {seen}", file=sys.stderr, flush=True)
    finally:
        sink.kill()
    result = {"sockets": options.sockets, "rounds": options.rounds, "seconds": options.seconds,
              "durability": options.durability, **figures(rounds)}
    tell(f"p99 among {options.sockets:,} slow sockets, of that alone", result["among"])
    tell("beside them, at a process that only reads", result["beside"])
    tell("so the server's own part", result["ours"])
    print("CPU for the slow sockets, of a core: {server} % the server, {sink} % the process that only reads".format(
        **result["cpu_percent_for_slow_sockets"]), file=sys.stderr)
    return result


# ---- CPU time.


def cpu_us_a_drip(options, pid, port):
    time.sleep(1)
    before = cpu_seconds(pid)
    time.sleep(options.seconds / 2)
    at_rest = (cpu_seconds(pid) - before) / (options.seconds / 2)
    sockets = [open_slow(port) for _ in range(options.sockets)]
    time.sleep(1)
    gap, drips = LINE_EVERY / options.sockets, 0
    before, began = cpu_seconds(pid), time.monotonic()
    while time.monotonic() < began + options.seconds:
        sockets[drips % options.sockets].send(LINE)
        drips += 1
        time.sleep(max(0.0, began + drips * gap - time.monotonic()))
    time.sleep(0.05)
    used = cpu_seconds(pid) - before - at_rest * (time.monotonic() - began)
    for one in sockets:
        one.close()
    return round(used * 1e6 / max(drips, 1), 2)


def drips(options, server):
    sink = Sink(options, patience=100_000)
    try:
        result = {"sockets": options.sockets, "us_a_drip": {"server": [], "sink": []}}
        for _ in range(options.rounds):
            result["us_a_drip"]["server"].append(cpu_us_a_drip(options, server.process.pid, server.port))
            result["us_a_drip"]["sink"].append(cpu_us_a_drip(options, sink.process.pid, sink.port))
    finally:
        sink.kill()
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="?", default="measure", choices=["measure", "drips", "trickle"])
    parser.add_argument("--sockets", type=int, default=5_000)
    parser.add_argument("--rate", type=float, default=10_000)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--durability", default="sync", choices=["sync", "interval", "os"], help="the server's")
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--build", default="build/release", help="where workmill, wm_bench_load and wm_bench_sink are")
    options = parser.parse_args()
    if options.what == "trickle":
        return trickle(options.port, options.sockets)
    options.rounds = options.rounds or (8 if options.what == "measure" else 3)
    options.seconds = options.seconds or (3 if options.what == "measure" else 10)
    raise_descriptor_limit()
    root = tempfile.mkdtemp(prefix="workmill-bench-")
    config = os.path.join(root, "workmill.toml")
    with open(config, "w") as file:  # What drips for a CPU's time is not to be ended meanwhile.
        file.write("" if options.what == "measure" else 'header_timeout = "1h"\nrequest_timeout = "1h"\n')
    server = Server(os.path.abspath(os.path.join(options.build, "workmill")), os.path.join(root, "data"), "--config", config,
                    "--durability", options.durability)
    try:
        server.start()
        server.connect().close()
        print(json.dumps({"measure": measure, "drips": drips}[options.what](options, server)))
    finally:
        if server.process and server.process.poll() is None:
            server.kill()
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
