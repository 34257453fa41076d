#!/usr/bin/env python3
"""Many connections at once.

    bench/crowd.py connections [--connections 10000] [--seconds 30]
    bench/crowd.py slowloris [--sockets 5000] [--rate 10000] [--rounds 5] [--seconds 10]

connections: so many keep-alive connections each send a job a second, evenly spread; prints how long the answers took.
slowloris: what 64 clients notice of so many sockets that never finish their request's head: the answers' 99th percentile
with them and without, in turns. The sockets send a line every four seconds, and are opened again when the server has had
enough of them. Prints one line of JSON.
"""

import argparse
import json
import os
import selectors
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from server import Server, raise_descriptor_limit


def offer(options, server, connections, rate, seconds):
    command = [os.path.join(options.build, "wm_bench_load"), "--server", f"http://127.0.0.1:{server.port}", "--connections",
               connections, "--rate", rate, "--seconds", seconds, "--warm-up", 2, "--steady"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"wm_bench_load: {done.stderr}")
    result = json.loads(done.stdout)
    del result["sampled_ids"]
    return result


def connections(options, server):
    return offer(options, server, options.connections, options.connections, options.seconds)


TICK = 0.004  # Seconds. What the slow sockets do is spread evenly, as five thousand that know nothing of each other would
OPENED_A_TICK = 3  # do it: forty at once every 20 ms are half a millisecond of work, which every fiftieth request meets.


def trickle(port, count):
    """Until it is killed: `count` sockets, each of which sends another header line every four seconds. Says so when all
    are open for the first time: the server ends each after `header_timeout`, so they are opened at a rate that outruns it."""
    raise_descriptor_limit()
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))  # An attacker has a machine of his own.
    waiting, said = selectors.DefaultSelector(), False
    slots, free, tick = [None] * count, list(range(count)), 0
    lanes = round(4 / TICK)
    while True:
        began = time.monotonic()
        for _ in range(min(OPENED_A_TICK, len(free))):
            try:
                one = socket.create_connection(("127.0.0.1", port), 30)
                one.setblocking(False)
                one.send(b"POST /v1/jobs HTTP/1.1\r\nHost: slow\r\n")
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
                    one.send(b"X-Slow: y\r\n")
            except OSError:
                pass  # Seen as its end with the next tick.
        tick += 1
        time.sleep(max(0.0, TICK - (time.monotonic() - began)))


def slowloris(options, server):
    rounds = []
    for _ in range(options.rounds):
        without = offer(options, server, 64, options.rate, options.seconds)
        holder = subprocess.Popen([sys.executable, __file__, "trickle", "--port", str(server.port), "--sockets",
                                   str(options.sockets)], stdout=subprocess.PIPE, text=True)
        try:
            if holder.stdout.readline() != "open\n":
                sys.exit("the slow sockets could not be opened")
            among = offer(options, server, 64, options.rate, options.seconds)
        finally:
            holder.kill()
            holder.wait()
        rounds.append((without, among))
    return {
        "sockets": options.sockets,
        "p99_ms": {"without": statistics.median(a["p99_ms"] for a, _ in rounds),
                   "among": statistics.median(b["p99_ms"] for _, b in rounds)},
        "ratio": round(statistics.median(b["p99_ms"] / a["p99_ms"] for a, b in rounds), 3),
        "ratios": [round(b["p99_ms"] / a["p99_ms"], 3) for a, b in rounds],
        "refused": sum(each["refused_503"] + each["refused_429"] for pair in rounds for each in pair),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["connections", "slowloris", "trickle"])
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--sockets", type=int, default=5_000)
    parser.add_argument("--rate", type=float, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--port", type=int)
    parser.add_argument("--build", default="build/release", help="where workmill and wm_bench_load are")
    options = parser.parse_args()
    if options.what == "trickle":
        return trickle(options.port, options.sockets)
    raise_descriptor_limit()
    root = tempfile.mkdtemp(prefix="workmill-bench-")
    server = Server(os.path.abspath(os.path.join(options.build, "workmill")), os.path.join(root, "data"))
    try:
        server.start()
        server.connect().close()
        print(json.dumps({"connections": connections, "slowloris": slowloris}[options.what](options, server)))
    finally:
        if server.process and server.process.poll() is None:
            server.kill()
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
