"""A server of our own for a measurement: started, killed, and asked over HTTP. For the scripts beside this one."""

import http.client
import os
import pathlib
import resource
import signal
import subprocess
import sys
import time

from peers.peer import free_port


def raise_descriptor_limit():
    """As far as it may be, for us and for what we start: a connection is a descriptor on both sides."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Server:
    def __init__(self, binary, folder, *options):
        self.folder = folder
        self.port = free_port()
        self.command = [binary, "serve", "--data", folder, "--listen", f"127.0.0.1:{self.port}", *options]
        self.log = open(os.path.join(os.path.dirname(folder), os.path.basename(folder) + ".log"), "ab")
        self.process = None

    def start(self):
        self.started = time.perf_counter()
        self.process = subprocess.Popen(self.command, stdout=self.log, stderr=self.log)

    def connect(self, deadline=120.0):
        """The first connection that the server takes, and when that was, in seconds after its start."""
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
            try:
                connection.connect()
                return connection
            except ConnectionRefusedError:
                if self.process.poll() is not None:
                    sys.exit(f"the server ended with {self.process.returncode}: see {self.log.name}")
                if time.perf_counter() - self.started > deadline:
                    sys.exit("the server does not listen")
                time.sleep(0.001)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def resident_bytes(self):
        fields = dict(
            line.split(":", 1) for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        )
        return int(fields["VmRSS"].split()[0]) * 1024


def post(connection, path, body):
    connection.request("POST", path, body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = response.read()
    if response.status not in (200, 201):
        sys.exit(f"POST {path}: {response.status} {answer[:300]!r}")
    return answer
