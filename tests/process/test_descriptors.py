"""Thousands of connections: whatever ends the server says why."""

import contextlib
import json
import resource
import socket

import pytest
from crowd import connections_allowed
from harness import DEADLINE, eventually


@contextlib.contextmanager
def connected(server, count):
    """So many connections of clients that say nothing."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE))
            for _ in range(count)
        ]


def log_lines(server, body):
    lines = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
    return [line for line in lines if line["body"] == body]


def metric(api, name):
    text = api.call("GET", "/metrics", expect=200).body.decode()
    return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name + " "))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_server_that_has_to_stop_says_why_however_many_are_connected(start, threads):
    server = start("--io-threads", str(threads), run=False)
    # What is beyond the largest file is refused with a signal, unless that is ignored.
    server.prefix = ["sh", "-c", 'trap "" XFSZ; exec "$@"', "sh"]
    server.start()
    count = connections_allowed(3_000)

    with connected(server, count):
        eventually(lambda: metric(server.api(), "workmill_http_connections") >= count, "all are connected")
        largest = 64 * 1024
        assert len(server.log()) < largest / 2, "there is no room for the reason"
        resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (largest, largest))
        with contextlib.suppress(Exception):  # It is answered by nobody.
            server.api().enqueue_id(payload="x" * 2 * largest)

        assert server.wait_for_exit() == 1

    reason, *others = log_lines(server, "stopped by an error")
    assert reason["code"] == "io_failed", reason
    assert not others
    assert "assertion" not in server.log()
