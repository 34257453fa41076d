"""What a worker says of a server that it cannot reach."""

from __future__ import annotations

import logging
import socket
import threading

import pytest

from workmill import NoServer, RetryableError, Worker
from workmill._outage import Outage

DEADLINE = 30


class Lines(logging.Handler):
    """Keeps what is logged. wait_for(n): until there are so many lines."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._changed = threading.Condition()
        self.lines: list = []

    def emit(self, record):
        with self._changed:
            self.lines.append((record.levelname, record.getMessage()))
            self._changed.notify_all()

    def wait_for(self, count):
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.lines) >= count, DEADLINE), self.lines
            return self.lines[:count]


@pytest.fixture
def lines():
    logger, handler = logging.getLogger("workmill"), Lines()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


def test_it_is_a_warning_once_for_each_reason_and_anew_after_it_was_over(lines):
    outage = Outage("here")
    assert not outage.is_over()

    for error in [
        NoServer("nobody answers", trace_id="1"),
        NoServer("nobody answers", trace_id="2"),
        RetryableError("busy", code="overloaded"),
        RetryableError("busy", code="overloaded"),
    ]:
        outage.failed(error, 0.1)
    assert outage.is_over()
    outage.failed(None, 0.1)

    assert [level for level, _ in lines.lines] == ["WARNING", "INFO", "WARNING", "INFO", "WARNING"]
    assert lines.lines[0][1] == "no connection with here: no_server: nobody answers; it is tried again"


@pytest.mark.parametrize("transport", ["stream", "http"])
def test_a_worker_that_finds_nobody_warns_once(lines, transport):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    worker = Worker(["q"], url=url, transport=transport)

    worker.start()
    seen = lines.wait_for(3)
    worker.stop(timeout=0)

    assert [level for level, _ in seen] == ["WARNING", "INFO", "INFO"]
    assert all(url in text for _, text in seen)
