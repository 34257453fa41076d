"""The server under test: one process on a data folder and a port of its own, which both stay over restarts."""

from __future__ import annotations

import http.client
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import time
from typing import Any, Optional

DEADLINE = float(os.environ.get("WORKMILL_CONFORMANCE_DEADLINE", "60"))  # Seconds. Nothing waits so long
# when all is well; sanitizer builds on a busy machine are slow.


class Failed(Exception):
    """What was seen is not what the scenario wants."""


def free_port() -> int:
    """A port nobody listens on, from below the range that outgoing connections are given."""
    while True:
        port = random.SystemRandom().randrange(10_000, 30_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Server:
    def __init__(self, binary: pathlib.Path, folder: pathlib.Path, settings: dict):
        self._binary = binary
        self.data = folder / "data"
        self._log = folder / "server.log"
        self._config = folder / "workmill.toml"
        # Small segments: the tests start many servers, and each preallocates one.
        settings = {"segment_size": "4MiB", "disk_reserve": "16MiB", **settings}
        self._config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items()))
        self.port = free_port()
        self._process: Optional[subprocess.Popen] = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def new_token(self, name: str, scopes: list, queues: list) -> str:
        self.data.mkdir(exist_ok=True)
        command = [str(self._binary), "token", "new", "--name", name, "--scope", ",".join(scopes)]
        command += [part for queue in queues for part in ("--queue", queue)] + ["--data", str(self.data)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def start(self) -> None:
        """Starts it and waits until it is ready."""
        for _ in range(5):
            command = [str(self._binary), "serve", "--config", str(self._config), "--data", str(self.data)]
            with open(self._log, "ab") as log:
                self._process = subprocess.Popen(
                    command + ["--listen", f"127.0.0.1:{self.port}"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
            end = time.monotonic() + DEADLINE
            while self._process.poll() is None:
                if self._is_ready():
                    return
                if time.monotonic() > end:
                    raise Failed(f"the server was not ready within {DEADLINE:.0f} s:\n{self.log_tail()}")
                time.sleep(0.005)
            if "in use" not in self.log_tail():
                break  # Else somebody had the port for a moment, such as a connection of our own to itself.
        raise Failed(f"the server ended with {self._process.poll()} before it was ready:\n{self.log_tail()}")

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        assert self._process is not None
        self._process.terminate()
        try:
            code = self._process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            raise Failed(f"the server still runs {DEADLINE:.0f} s after SIGTERM:\n{self.log_tail()}") from None
        if code != 0:
            raise Failed(f"the server's exit code is {code} after SIGTERM:\n{self.log_tail()}")

    def pause(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """Whatever state it is in."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def log_tail(self, characters: int = 3_000) -> str:
        try:
            return self._log.read_text(errors="replace")[-characters:]
        except FileNotFoundError:
            return ""

    def metric(self, name: str) -> float:
        """By its name, with its labels where it has some."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        try:
            connection.request("GET", "/metrics")
            lines = connection.getresponse().read().decode().splitlines()
        finally:
            connection.close()
        for line in lines:
            if line.startswith(f"{name} "):
                return float(line.split(" ")[1])
        raise Failed(f"there is no metric {name}")

    def http(self, method: str, path: str, body: Any = None, token: Optional[str] = None) -> dict:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=DEADLINE)
        try:
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            data = None if body is None else json.dumps(body).encode()
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            text = answer.read()
            return {"status": answer.status, "body": json.loads(text) if text else None}
        finally:
            connection.close()
