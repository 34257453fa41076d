#!/usr/bin/env python3
"""Many connections at once.

    bench/crowd.py [--connections 10000] [--seconds 30]

So many keep-alive connections each send a job a second, evenly spread. Prints how long the answers took, as one line of JSON.
What slow ones do to others: bench/slowloris.py.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile

from server import Server, raise_descriptor_limit


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--build", default="build/release", help="where workmill and wm_bench_load are")
    options = parser.parse_args()
    raise_descriptor_limit()
    root = tempfile.mkdtemp(prefix="workmill-bench-")
    server = Server(os.path.abspath(os.path.join(options.build, "workmill")), os.path.join(root, "data"))
    try:
        server.start()
        server.connect().close()
        command = [os.path.join(options.build, "wm_bench_load"), "--server", f"http://127.0.0.1:{server.port}", "--connections",
                   options.connections, "--rate", options.connections, "--seconds", options.seconds, "--warm-up", 2, "--steady"]
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"wm_bench_load: {done.stderr}")
        result = json.loads(done.stdout)
        del result["sampled_ids"]
        print(json.dumps(result))
    finally:
        if server.process and server.process.poll() is None:
            server.kill()
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
