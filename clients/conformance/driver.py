"""The other end of a driver: sends commands, and sorts out the answers and events that come back."""

from __future__ import annotations

import json
import pathlib
import signal
import subprocess
import threading
import time
from typing import Any, Optional

from match import difference
from server import DEADLINE, Failed


class ClientError(Exception):
    """The client under test has given this error."""

    def __init__(self, error: dict):
        super().__init__(json.dumps(error))
        self.error = error


class Driver:
    """One driver process. Safe for several threads."""

    def __init__(self, command: list, log: pathlib.Path):
        self._log = log
        with open(log, "ab") as errors:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, encoding="utf-8"
            )
        self._changed = threading.Condition()
        self._answers: dict = {}
        self._events: list = []
        self._count = 0
        self._is_over = False
        self._bug: Optional[str] = None
        self._writing = threading.Lock()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                message = json.loads(line)
            except ValueError:
                message = {"event": "bug", "line": line}
            with self._changed:
                if message.get("event") == "bug":
                    self._bug = json.dumps(message)
                elif "event" in message:
                    self._events.append(message)
                else:
                    self._answers[message["n"]] = message
                self._changed.notify_all()
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def call(self, command: dict) -> Any:
        """Does it and returns what is `ok`. Raises ClientError with what is `error`."""
        with self._changed:
            self._count += 1
            number = self._count
        line = json.dumps({"n": number, **command}, ensure_ascii=False) + "\n"
        assert self._process.stdin is not None
        try:
            with self._writing:
                self._process.stdin.write(line)
                self._process.stdin.flush()
        except OSError:
            raise Failed(f"the driver is gone:\n{self.log_tail()}") from None
        end = time.monotonic() + 2 * DEADLINE
        with self._changed:
            while number not in self._answers:
                self._check_bug()
                if self._is_over:
                    raise Failed(f"the driver ended during {_short(line)}\n{self.log_tail()}")
                if not self._changed.wait(end - time.monotonic()):
                    raise Failed(f"no answer within {2 * DEADLINE:.0f} s to {_short(line)}")
            answer = self._answers.pop(number)
        if "bug" in answer:
            raise Failed(f"the driver has a bug: {answer['bug']}")
        if "error" in answer:
            raise ClientError(answer["error"])
        return answer.get("ok")

    def take_event(self, match: dict) -> dict:
        """Waits for an event like that and takes it out of those that have come."""
        end = time.monotonic() + DEADLINE
        with self._changed:
            while True:
                self._check_bug()
                for number, event in enumerate(self._events):
                    if difference(match, event) is None:
                        return self._events.pop(number)
                if self._is_over or not self._changed.wait(end - time.monotonic()):
                    came = "; ".join(json.dumps(event) for event in self._events[-10:])
                    raise Failed(f"no event like {json.dumps(match)} came. The last others: {came or 'none'}")

    def _check_bug(self) -> None:
        if self._bug is not None:
            raise Failed(f"the driver has a bug: {self._bug}")

    def has_event(self, match: dict) -> Optional[dict]:
        with self._changed:
            return next((event for event in self._events if difference(match, event) is None), None)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()

    def signal(self, name: str) -> None:
        self._process.send_signal(getattr(signal, f"SIG{name}"))

    def end(self) -> None:
        """Closes its input, upon which it must go."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            with self._writing:
                self._process.stdin.close()
        except OSError:
            pass
        try:
            code = self._process.wait(DEADLINE / 2)
        except subprocess.TimeoutExpired:
            self.kill()
            raise Failed("the driver still runs though its input has ended") from None
        self._reader.join()
        self._process.stdout.close()
        if code != 0:
            raise Failed(f"the driver ended with {code}:\n{self.log_tail()}")

    def log_tail(self, characters: int = 3_000) -> str:
        try:
            return self._log.read_text(errors="replace")[-characters:]
        except FileNotFoundError:
            return ""


def _short(line: str) -> str:
    return line if len(line) <= 300 else f"{line[:300]}…"
