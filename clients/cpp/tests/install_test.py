#!/usr/bin/env python3
"""What the README and the examples tell, done to the letter: the first example is pasted into an empty folder, built
against an installed client, and run against a server; the pipeline is built against the installed engine.

With --by-itself the client is built and installed as the README tells a user of Debian to, by g++ and without the server's
build, and the example is optimised as well: another compiler, other flags, other bugs.

usage: install_test.py BUILD_FOLDER CXX
       install_test.py BUILD_FOLDER --by-itself
"""
import os
import pathlib
import random
import re
import shlex
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve()
CLIENT = HERE.parents[1]
ROOT = HERE.parents[3]
DEADLINE = 120


def run(*command, **options):
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout}"
    return done.stdout


def blocks(kind):
    return re.findall(rf"^```{kind}\n(.*?)^```", (CLIENT / "README.md").read_text(), re.MULTILINE | re.DOTALL)


def free_port():
    while True:
        port = random.SystemRandom().randrange(10_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def is_ready(url):
    try:
        with urllib.request.urlopen(url + "/readyz", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


# The README's own commands, but for what they ask of the machine, and with folders of the test's.
def install_by_itself(folder, prefix):
    build = folder / "client"
    commands = [line for line in blocks("sh")[0].splitlines() if line.startswith("cmake ")]
    assert len(commands) == 3, commands
    parallel = dict(os.environ, CMAKE_BUILD_PARALLEL_LEVEL=str(os.cpu_count()))
    for command in commands:
        assert "build/client" in command, command
        # Not optimised, which takes minutes: this asks whether it builds.
        there = command.replace("build/client", str(build)).replace("$HOME/.local", str(prefix)).replace("=Release", "=Debug")
        run(*shlex.split(there), cwd=ROOT, env=parallel)


def first_example(build, prefix, folder, compiler, flags=""):
    first = folder / "first"
    first.mkdir()
    (first / "CMakeLists.txt").write_text(blocks("cmake")[0])
    (first / "main.cpp").write_text(blocks("cpp")[0])
    run("cmake", "-S", first, "-B", first / "build", f"-DCMAKE_PREFIX_PATH={prefix}", f"-DCMAKE_CXX_COMPILER={compiler}",
        f"-DCMAKE_CXX_FLAGS={flags}")
    run("cmake", "--build", first / "build")

    url = f"http://127.0.0.1:{free_port()}"
    command = [build / "workmill", "serve", "--data", folder / "data", "--listen", url.removeprefix("http://")]
    server = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + DEADLINE
        while not is_ready(url):
            assert server.poll() is None and time.monotonic() < end, "the server does not start"
            time.sleep(0.01)
        said = run(first / "build" / "first", env={"WORKMILL_URL": url}, timeout=DEADLINE)
    finally:
        server.kill()
        server.wait()
    assert said == "cat.png@200\n", said


def pipeline(prefix, folder, compiler):
    build = folder / "pipeline"
    run("cmake", "-S", ROOT / "examples/pipeline", "-B", build, f"-DCMAKE_PREFIX_PATH={prefix}", f"-DCMAKE_CXX_COMPILER={compiler}",
        "-DCMAKE_BUILD_TYPE=Release")
    run("cmake", "--build", build)
    run(sys.executable, ROOT / "examples/pipeline/pipeline_test.py", build / "pipeline")


def main():
    build, compiler = pathlib.Path(sys.argv[1]).resolve(), sys.argv[2]
    with tempfile.TemporaryDirectory(prefix="workmill-install-") as temporary:
        folder = pathlib.Path(temporary)
        prefix = folder / "prefix"
        if compiler == "--by-itself":
            install_by_itself(folder, prefix)
            first_example(build, prefix, folder, "g++", "-O2")
        else:
            run("cmake", "--install", build, "--component", "client", "--prefix", prefix)
            first_example(build, prefix, folder, compiler)
            pipeline(prefix, folder, compiler)
    print("passed")


if __name__ == "__main__":
    main()
