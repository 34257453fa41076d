"""`workmill doctor URL`: what limits a server now, in situations that are staged for it.

Each one goes on until the doctor has named it first: no speed of the machine is assumed, only which limit is met."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading

import pytest

import faults
from harness import BINARY, Api, Background, Raw, eventually, request_bytes
from test_tls import Secure

STAGED = 100.0  # Seconds that a situation has to become clear. Nothing takes so long when all is well.


def doctor(server, *args, watched="1s"):
    ran = subprocess.run(
        [BINARY, "doctor", server.url, "--for", watched, "--json", *args], capture_output=True, text=True, timeout=90
    )
    assert ran.returncode in (0, 1), ran.stderr
    said = json.loads(ran.stdout)
    assert (said["verdict"] == "nothing") == (ran.returncode == 0)
    return said


def named_first(server, code):
    """Asks until this is what the doctor says first."""
    seen = []

    def asked():
        said = doctor(server)
        seen.append((said["verdict"], said["figures"]))
        return (said["findings"] or [said])[0] if said["verdict"] == code else None

    try:
        return eventually(asked, f"the doctor says {code}", STAGED)
    except AssertionError as late:
        raise AssertionError(f"{late}; it said {seen[-5:]}") from None


class Crowd:
    """Threads that do something again and again until the end of the test."""

    def __init__(self):
        self._over = threading.Event()
        self._threads = []

    def add(self, work, count=1):
        def run():
            with contextlib.suppress(OSError, EOFError):
                while not self._over.is_set():
                    work()

        self._threads += [Background(run) for _ in range(count)]

    def pause(self, seconds):
        self._over.wait(seconds)

    def end(self):
        self._over.set()
        for thread in self._threads:
            thread.result(60)


@pytest.fixture
def crowd():
    made = Crowd()
    yield made
    made.end()


def quick(start, *args, **options):
    """A server that no disk limits."""
    return start("--durability", "os", *args, **options)


def test_an_idle_server_is_limited_by_nothing(start):
    server = quick(start)
    said = doctor(server, watched="300ms")
    assert said["verdict"] == "nothing" and said["findings"] == []

    ran = subprocess.run([BINARY, "doctor", server.url, "--for", "300ms"], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0
    assert "Nothing limits it now" in ran.stdout


def test_the_server_may_be_named_as_for_all_commands(start):
    server = quick(start)
    ran = subprocess.run(
        [BINARY, "doctor", "--for", "100ms"],
        capture_output=True, text=True, timeout=60, env={**os.environ, "WORKMILL_URL": server.url},
    )
    assert ran.returncode == 0 and server.url in ran.stdout


def test_where_nobody_answers_it_says_so_and_a_server_cannot_be_repaired(start):
    server = start(run=False)
    ran = subprocess.run([BINARY, "doctor", server.url], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 69 and "no server answers" in ran.stderr
    ran = subprocess.run([BINARY, "doctor", server.url, "--repair"], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 2


def test_connections_up_to_the_limit(start):
    server = quick(start, "--connections-max", "40")
    with contextlib.ExitStack() as held:
        for _ in range(37):
            held.enter_context(Raw(server.port)).send(request_bytes("GET", "/healthz")).answer()
        finding = named_first(server, "full_bound")
        assert "connections" in finding["what"]

        for _ in range(4):  # Now nobody else gets in, the doctor neither.
            held.enter_context(Raw(server.port))
        finding = named_first(server, "full_bound")
        assert "turns this request away" in finding["what"]


def test_a_server_may_be_named_without_its_scheme(start, tmp_path):
    server = start()
    named = f"127.0.0.1:{server.port}"
    done = subprocess.run([BINARY, "doctor", named, "--for", "100ms"], capture_output=True, text=True, timeout=90)
    assert done.returncode == 0 and named in done.stdout, done
    folder = subprocess.run([BINARY, "doctor", "no-such-folder"], capture_output=True, text=True, timeout=90)
    assert folder.returncode == 1 and "folder" in folder.stderr, folder


def test_workers_that_fail(start, crowd):
    server = start()
    api = Api(server.url, queue="mail", checked=False)

    def fail():
        api.enqueue(max_attempts=1)
        for job in api.lease(wait="1s"):
            api.fail(job)
        crowd.pause(0.02)

    crowd.add(fail)

    finding = named_first(server, "failing_jobs")

    assert finding["what"].startswith("Workers of mail fail: "), finding


def test_a_reload_that_was_refused_is_named_until_one_is_not(start, config):
    args = config(log_level="info")
    server = start(*args)
    assert doctor(server, watched="100ms")["verdict"] == "nothing"
    config(log_level="loud")
    server.process.send_signal(signal.SIGHUP)
    named_first(server, "reload_refused")

    config(log_level="warn")
    server.process.send_signal(signal.SIGHUP)

    named_first(server, "nothing")


def test_a_certificate_that_ends_soon_is_named(start, tmp_path):
    secure = Secure(start, tmp_path)  # Its certificate holds for two days.
    done = subprocess.run(
        [BINARY, "doctor", f"https://127.0.0.1:{secure.port}", "--ca-file", secure.certificate, "--for", "100ms", "--json"],
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert json.loads(done.stdout)["verdict"] == "certificate", done


def test_a_queue_at_its_max_depth(start, crowd):
    server = quick(start)
    api = Api(server.url, queue="q1", checked=False)
    api.call("PATCH", "/v1/queues/q1", {"max_depth": 5}, expect=200)
    api.enqueue_many([{}] * 5)

    def ask():
        with Raw(server.port) as raw:  # On a connection of its own, as such clients do: that is not what limits them.
            body = b'{"type":"t","queue":"q1"}'
            assert raw.send(request_bytes("POST", "/v1/jobs", body)).answer().status == 429
        crowd.pause(0.02)

    crowd.add(ask, 2)

    finding = eventually(
        lambda: (first := doctor(server)["findings"][0]) and "of all requests are refused" in first["what"] and first,
        "the doctor has seen refusals",
    )
    assert finding["code"] == "queue_full"
    assert finding["what"].startswith("Queue q1 is full: 5 of 5 jobs (max_depth); ")


@pytest.mark.slow
def test_a_disk_that_flushes_slowly(start, tmp_path, crowd):
    faults.need_library()
    data, journal = tmp_path / "slow", tmp_path / "journal"
    journal.mkdir()
    server = start(
        data=data, env=faults.environment(data=data.resolve(), journal=journal.resolve(), sync_us=60_000)
    )
    api = Api(server.url, queue="q", checked=False)
    crowd.add(api.enqueue, 4)

    finding = named_first(server, "disk_flush")

    assert "of the time goes into flushing" in finding["what"]


@pytest.mark.slow
def test_one_hot_queue(start, crowd):
    server = quick(start)
    hot, cold = Api(server.url, queue="hot", checked=False), Api(server.url, queue="cold", checked=False)

    def fill():
        hot.enqueue_many([{}] * 200)
        crowd.pause(0.05)

    def work(api):
        for job in api.lease(20, wait="1s"):
            api.complete(job)
        crowd.pause(0.05)

    def trickle():
        cold.enqueue()
        crowd.pause(0.2)

    crowd.add(fill)
    crowd.add(trickle)
    crowd.add(lambda: work(hot))
    crowd.add(lambda: work(cold), 2)

    assert "hot" in named_first(server, "hot_queue")["what"]


@pytest.mark.slow
def test_slow_consumers(start, crowd):
    server = quick(start)
    api = Api(server.url, queue="mail", checked=False)

    def fill():
        api.enqueue_many([{}] * 20)
        crowd.pause(0.2)

    def work():
        for job in api.lease(1, wait="1s"):
            crowd.pause(0.5)
            api.complete(job)

    crowd.add(fill)
    crowd.add(work)

    finding = named_first(server, "slow_consumers")

    assert finding["what"].startswith("Workers of mail are too slow or too few")


@pytest.mark.slow
def test_clients_that_do_not_keep_their_connections(start, crowd):
    server = quick(start)


    def ask():
        with Raw(server.port) as raw:
            assert raw.send(request_bytes("GET", "/healthz")).answer().status == 200

    crowd.add(ask, 2)

    assert "new connections" in named_first(server, "no_keep_alive")["what"]


# Requests by the dozen in one send, their answers read in large pieces: the client's part is small, the server's not.
def flood(port, request, at_once, crowd):
    connection = socket.create_connection(("127.0.0.1", port))
    connection.settimeout(60)
    block = request * at_once

    def reader():
        if not connection.recv(1 << 20):
            raise EOFError

    def writer():
        connection.sendall(block)

    crowd.add(reader)
    crowd.add(writer)
    return connection


@pytest.mark.slow
def test_the_cpu_of_the_io_threads(start, crowd):
    server = quick(start, "--io-threads", "2")
    connection = flood(server.port, request_bytes("GET", "/healthz"), 500, crowd)  # One of the threads.

    finding = named_first(server, "io_cpu")

    assert "of the I/O threads limits" in finding["what"]
    connection.shutdown(socket.SHUT_RDWR)


@pytest.mark.slow
def test_the_cpu_of_the_shard(start, crowd):
    server = quick(start, "--io-threads", "2")
    api = Api(server.url, queue="q", checked=False)
    for _ in range(5):
        api.enqueue_many([{"tags": ["hay"]}] * 4_000)
    # Which jobs have a tag only the log knows: each of them is read again for it.
    search = {"action": "cancel", "where": {"tag": "needle"}}
    crowd.add(lambda: api.post("/v1/jobs/bulk", search, expect=200), 3)

    assert "deciding commands and reading jobs" in named_first(server, "shard_cpu")["what"]
