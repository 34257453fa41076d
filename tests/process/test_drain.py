"""SIGTERM: the server finishes what is under way, answers who waits, and ends with 0. Nothing is lost."""

import fcntl
import os
import pty
import subprocess
import termios
import threading

import requests

from harness import BINARY, DEADLINE, Background, Raw, eventually, request_bytes


def test_an_idle_server_ends_at_once(start):
    server = start()
    server.stop()


def test_who_waits_for_a_job_is_answered(start):
    server = start()
    api = server.api(queue="q")
    with Raw(server.port) as lease, Raw(server.port) as read:
        id = api.enqueue_id(queue="other")
        lease.send(request_bytes("POST", "/v1/leases", {"queues": ["q"], "wait": "60s"}))
        read.send(request_bytes("GET", f"/v1/jobs/{id}?wait=60s"))
        api.settle()

        server.terminate()

        answer = lease.answer()
        assert answer.status == 200 and answer.json["jobs"] == []
        answer = read.answer()
        assert answer.status == 200 and answer.json["state"] == "ready"
        assert lease.closed() and read.closed()
    assert server.wait_for_exit() == 0


def test_a_request_under_way_is_finished(start):
    server = start()
    api = server.api(queue="q")
    whole = request_bytes("POST", "/v1/jobs", {"type": "t", "queue": "q", "id": "under-way"})
    with Raw(server.port) as raw:
        raw.send(whole[:-5])
        api.settle()
        server.terminate()
        eventually(lambda: not accepts(server), "no new connection is taken")
        raw.send(whole[-5:])
        answer = raw.answer()
        assert answer is not None
        assert answer.status == 201 or answer.code == "shutting_down"
        assert raw.closed()
    assert server.wait_for_exit() == 0

    server.start()
    assert api.exists("under-way") == (answer.status == 201)


def accepts(server):
    try:
        Raw(server.port).socket.close()
        return True
    except OSError:
        return False


def test_an_idle_connection_is_closed_and_does_not_delay_the_end(start):
    server = start()
    with Raw(server.port) as idle, Raw(server.port) as silent:
        assert idle.send(request_bytes("GET", "/healthz")).answer().status == 200
        server.terminate()
        assert idle.closed() and silent.closed()
        assert server.wait_for_exit() == 0


def test_a_second_sigterm_does_no_harm(start):
    server = start()
    server.terminate()
    server.terminate()
    assert server.wait_for_exit() in (0, -15)


def test_a_server_ended_under_load_has_kept_all_that_it_acknowledged(start):
    server = start()
    api = server.api(queue="q", checked=False)
    acknowledged, completed = [], []
    enough = threading.Event()

    def produce():
        while True:
            try:
                answer = api.call("POST", "/v1/jobs", {"type": "t", "queue": "q"})
            except requests.RequestException:
                return  # Refused, or closed in between.
            if answer.status != 201:
                assert answer.code == "shutting_down", answer
                return
            acknowledged.append(answer.json["id"])
            if len(acknowledged) > 300:
                enough.set()

    def work():
        while True:
            try:
                jobs = api.lease(max=5, wait="10s")
                for job in jobs:
                    if api.report(job, "completed")["ok"]:
                        completed.append(job["id"])
            except (requests.RequestException, AssertionError):
                return

    threads = [Background(produce) for _ in range(3)] + [Background(work) for _ in range(2)]
    assert enough.wait(30)

    server.stop()
    for thread in threads:
        thread.result()

    server.start()
    state = {job["id"]: job["state"] for job in api.jobs(queue="q")}
    assert set(acknowledged) <= set(state)
    assert {state[id] for id in completed} <= {"completed"}


def test_what_was_there_before_the_end_is_there_after_the_start(start):
    server = start()
    api = server.api(queue="q")
    ids = [job["id"] for job in api.enqueue_many([{"payload": n} for n in range(500)])]
    held = api.lease_one()

    for _ in range(3):
        server.restart()

    assert api.depth() == {"scheduled": 0, "ready": 499, "leased": 1, "completed": 0, "dead": 0, "cancelled": 0}
    api.complete(held)
    assert [job["id"] for job in api.lease(max=1000)] == ids[1:]


def test_a_server_whose_terminal_is_closed_ends_in_order(tmp_path):
    side, other = pty.openpty()
    process = subprocess.Popen(
        [BINARY, "serve", "--data", tmp_path / "data", "--listen", "127.0.0.1:0"],
        stdin=other,
        stdout=other,
        stderr=other,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    try:
        os.close(other)
        said = b""
        while b"listening" not in said:
            said += os.read(side, 4096)
        os.close(side)
        assert process.wait(DEADLINE) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
