"""The OpenTelemetry collector (tests/collector), started and stopped like a server of our own. What it has taken it sends
on to a Receiver, as JSON, before it answers: nothing is queued in it."""

import json
import os
import pathlib
import signal
import socket
import subprocess

from harness import DEADLINE, ROOT, eventually, free_port

COLLECTOR = pathlib.Path(os.environ.get("WORKMILL_COLLECTOR", ROOT / "build/collector/collector")).resolve()


class Collector:
    """`header`: (name, value) that a request must have, or it is answered 401."""

    def __init__(self, receiver, log_path, header=None):
        assert COLLECTOR.exists(), f"{COLLECTOR} is not there: `./dev collector` builds it"
        self.port, self.log_path, self.process = free_port(), log_path, None
        http = {"endpoint": f"127.0.0.1:{self.port}"}
        service = {"pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["otlp_http"]}}}
        on_to = {"endpoint": receiver.url, "encoding": "json", "compression": "none"}
        at_once = {"sending_queue": {"enabled": False}, "retry_on_failure": {"enabled": False}}
        self.config = {
            "receivers": {"otlp": {"protocols": {"http": http}}},
            "exporters": {"otlp_http": on_to | at_once},
            "service": service,
        }
        if header:
            name, value = header
            self.config["extensions"] = {"wants_header": {"name": name, "value": value}}
            service["extensions"] = ["wants_header"]
            http["auth"] = {"authenticator": "wants_header"}
        self.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [COLLECTOR, "--config", "yaml:" + json.dumps(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        eventually(self._listens, "the collector listens")

    def _listens(self):
        assert self.process.poll() is None, self.log_path.read_text()[-4_000:]
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(DEADLINE) == 0, self.log_path.read_text()[-4_000:]

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
