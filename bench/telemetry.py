#!/usr/bin/env python3
"""What telemetry costs: the same load on a server with it and on one without (telemetry = false), which take turns, so that
the machine's moods hit both alike.

    bench/telemetry.py [--rounds 5] [--jobs 100000] [--load enqueue] [--binary build/release/workmill] [--instructions]

Prints one line of JSON, and a table on standard error. --instructions counts, with `perf stat`, those that the servers take
for a job in user space: on a busy machine they say more than time.
"""

import argparse
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile

from server import Server


def run_load(binary, server, load, jobs):
    command = [binary, "bench", load, "--json", "--jobs", jobs, "--server", f"http://127.0.0.1:{server.port}"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"workmill bench: {done.stderr}")
    items = json.loads(done.stdout)["items"][0]
    return {"per_second": items["jobs_per_second"], "cpu_us": items["server_cpu_us_per_job"]}


def count_instructions(server, run, jobs):
    """What `run` returns, with the server's instructions for a job while it ran."""
    perf = subprocess.Popen(
        ["perf", "stat", "-x,", "-e", "instructions:u", "-p", str(server.process.pid)],
        stderr=subprocess.PIPE,
        text=True,
    )
    figures = run()
    perf.send_signal(signal.SIGINT)
    found = re.search(r"^(\d+),", perf.communicate()[1], re.M)
    if found is None:
        sys.exit("perf counts no instructions here")
    return {**figures, "instructions": int(found[1]) / jobs}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=100_000)
    parser.add_argument("--load", default="enqueue")
    parser.add_argument("--binary", default="build/release/workmill")
    parser.add_argument("--instructions", action="store_true")
    options = parser.parse_args()
    binary = os.path.abspath(options.binary)
    root = tempfile.mkdtemp(prefix="workmill-bench-")
    servers, rounds = {}, {"off": [], "on": []}
    try:
        for name in rounds:
            config = os.path.join(root, name + ".toml")
            with open(config, "w") as file:
                file.write(f"telemetry = {'true' if name == 'on' else 'false'}\n")
            servers[name] = Server(binary, os.path.join(root, name), "--config", config)
            servers[name].start()
            servers[name].connect().close()
        for number in range(options.rounds + 1):
            # The second is a little worse off: each is second half of the time.
            for name in sorted(rounds, reverse=number % 2 == 0):
                server = servers[name]

                def once():
                    return run_load(binary, server, options.load, options.jobs)

                figures = count_instructions(server, once, options.jobs) if options.instructions else once()
                if number > 0:  # The first round warms up.
                    rounds[name].append(figures)
    finally:
        for server in servers.values():
            server.kill()
        shutil.rmtree(root, ignore_errors=True)

    medians = {
        name: {key: statistics.median(each[key] for each in figures) for key in figures[0]}
        for name, figures in rounds.items()
    }
    ratios = {key: medians["on"][key] / medians["off"][key] for key in medians["on"]}
    for name, figures in medians.items():
        print(f"telemetry {name:3}  " + "  ".join(f"{key} {value:,.2f}" for key, value in figures.items()), file=sys.stderr)
    print("on / off       " + "  ".join(f"{key} {value:.3f}" for key, value in ratios.items()), file=sys.stderr)
    result = {"load": options.load, "rounds": options.rounds, "jobs": options.jobs, "medians": medians, "on_over_off": ratios}
    print(json.dumps(result))


if __name__ == "__main__":
    main()
