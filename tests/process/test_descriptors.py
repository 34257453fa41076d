"""More connections than a process may open files: the log never runs short of them. And thousands of connections: whatever
ends the server says why."""

import contextlib
import json
import resource
import socket

import pytest
from crowd import connections_allowed
from harness import DEADLINE, Raw, eventually, request_bytes


@contextlib.contextmanager
def connected(server, count, addresses=8):
    """So many connections of clients that say nothing, from so many addresses."""
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(
                socket.create_connection(
                    ("127.0.0.1", server.port), timeout=DEADLINE, source_address=(f"127.0.0.{2 + i % addresses}", 0)
                )
            )
            for i in range(count)
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


def with_limit(server, how):
    server.prefix = ["sh", "-c", f'ulimit {how} && exec "$@"', "sh"]
    return server.start()


@pytest.mark.parametrize("threads", [1, 2])
def test_the_log_never_runs_short_of_descriptors(start, threads):
    server = with_limit(start("--segment-size", "64KiB", "--io-threads", str(threads), run=False), "-n 512")
    api = server.api(queue="q")  # It keeps the connection that it has.
    room = metric(api, 'workmill_bound_limit{bound="http_connections"}')
    assert 100 < room < 512

    fewer = "fewer connections than connections_max, as the process may not open so many files"
    (warning,) = eventually(lambda: log_lines(server, fewer), "the log says it")  # A thread of its own writes it.
    assert warning["severity"] == "WARN" and warning["open_files_max"] == 512, warning
    assert warning["connections_each_thread"] * threads == room

    with connected(server, int(room)):
        # Whoever comes beyond the bound hears so, as beyond connections_max.
        with Raw(server.port) as late:
            late.send(request_bytes("GET", "/healthz"))
            answer = late.answer()
            assert answer.status == 503 and answer.code == "overloaded"

        with connected(server, 600):
            ids = [api.enqueue_id(payload="x" * 20_000) for _ in range(100)]
            eventually(lambda: metric(api, "workmill_log_segments") > 20, "the log gets new segments")
            assert [job["id"] for job in api.lease(max=100)] == ids, "they are read back"
            assert metric(api, "process_open_fds") < 512
            assert metric(api, "workmill_http_connections_turned_away_total") > 100

    def is_served():
        with Raw(server.port) as late:
            late.send(request_bytes("GET", "/healthz"))
            return late.answer().status == 200

    eventually(is_served, "a newcomer is served again")
    server.stop()


@pytest.mark.parametrize("limit", [512, 400])
def test_one_address_gets_no_more_of_what_there_is_than_its_part(start, limit):
    """Those of it that are turned away are none of what there is: they would fill the others' part, where that is small."""
    server = with_limit(start(run=False), f"-n {limit}")
    room = int(metric(server.api(), 'workmill_bound_limit{bound="http_connections"}'))
    part = room * 4 // 5  # As 16,000 of 20,000.

    with connected(server, room + 10, addresses=1) as all_of_one:
        too_many = all_of_one[part]
        too_many.sendall(request_bytes("GET", "/healthz"))
        assert b" 429 " in too_many.recv(4096).split(b"\r\n")[0]
        last = all_of_one[part - 1]
        last.sendall(request_bytes("GET", "/healthz"))
        assert b" 200 " in last.recv(4096).split(b"\r\n")[0]
        with Raw(server.port) as other:
            other.send(request_bytes("GET", "/healthz"))
            assert other.answer().status == 200, "another address is served"


def test_the_limit_is_raised_as_far_as_the_system_lets_it(start):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    server = with_limit(start(run=False), "-S -n 256")

    assert metric(server.api(), "process_max_fds") == hard


def test_too_few_for_a_server_are_refused(start):
    server = start(run=False)
    server.prefix = ["sh", "-c", 'ulimit -n 100 && exec "$@"', "sh"]
    server.spawn()

    assert server.wait_for_exit() == 1
    (reason,) = log_lines(server, "stopped by an error")
    assert reason["code"] == "bad_configuration" and "ulimit -n" in reason["error"], reason
