"""Everybody asks at once for what nobody has: one computation at a time, whatever happens to the server."""

import pytest

from crowd import Crowd, connections_allowed, is_sanitized
from harness import eventually, request_bytes

WANTED = 10_000
WANTED_SANITIZED = 1_500  # A server several times slower, twice beside another on two cores.

QUEUE = "stampede"
JOB = {"type": "compute", "queue": QUEUE, "payload": "x" * 100, "backoff": {"first": "1ms", "cap": "1ms"}}


def asking(key):
    return request_bytes("POST", f"/v1/cache/{key}", {"job": JOB, "fresh": "1h", "wait": "2m"})


@pytest.fixture
def crowd_size(record_property):
    wanted = WANTED_SANITIZED if is_sanitized() else WANTED
    count = connections_allowed(wanted)
    record_property("callers", count)
    if count < wanted:
        print(f"this machine allows {count} connections instead of {wanted} (RLIMIT_NOFILE)")
    return count


def test_ten_thousand_callers_and_a_kill_in_the_middle_of_the_flight(start, crowd_size):
    server = start()
    api = server.api(queue=QUEUE)
    with Crowd(server.port, crowd_size, asking("hot")) as crowd:
        crowd.ask(crowd.callers[:1])
        job = api.lease_one(lease="5m")
        crowd.ask(crowd.callers[1:])
        api.settle()
        assert api.lease(max=10) == []

        server.kill()
        crowd.wait()
        told = crowd.told_to_retry()
        assert len(told) == crowd_size, "nobody can have the value already"
        server.start()

        # The same flight, under the same lease: nobody else gets the job, however many ask.
        late = crowd.callers[-crowd_size // 10 :]
        crowd.ask(crowd.callers[: -len(late)])
        api.settle()
        assert api.lease(max=10) == []
        assert [(one["id"], one["state"], one["attempt"]) for one in api.jobs(queue=QUEUE)] == [(job["id"], "leased", 1)]

        api.complete(job, result={"by": job["id"]})
        crowd.ask(late)
        crowd.insist()

    assert {caller.status for caller in crowd.callers} == {200}
    assert all(caller.json == {"by": job["id"]} for caller in crowd.callers)
    assert [(one["id"], one["state"], one["attempt"]) for one in api.jobs(queue=QUEUE)] == [(job["id"], "completed", 1)]
    server.restart()
    assert api.get("/v1/cache/hot") == {"by": job["id"]}


def test_a_worker_that_is_late_after_a_kill_computes_for_nobody(start):
    server = start()
    api = server.api(queue=QUEUE)
    with Crowd(server.port, 100, asking("hot")) as crowd:
        crowd.ask()
        late = api.lease_one(lease="1s")
        server.kill()
        server.start()
        crowd.wait()
        crowd.ask(crowd.told_to_retry())

        second = api.lease_one(lease="5m")  # When the first lease is over, and not before.
        assert (second["id"], second["attempt"]) == (late["id"], 2)
        refused = api.report(late, "completed", result="late")
        api.complete(second, result="second")
        crowd.insist()

    assert (refused["ok"], refused["error"]["code"]) == (False, "lease_lost")
    assert {(caller.status, caller.json) for caller in crowd.callers} == {(200, "second")}
    assert len(api.jobs(queue=QUEUE)) == 1


def test_kills_again_and_again_leave_one_flight(start):
    server = start()
    api = server.api(queue=QUEUE)
    with Crowd(server.port, 200, asking("hot")) as crowd:
        crowd.ask()
        for _ in range(3):
            server.kill()
            crowd.wait()
            server.start()
            crowd.ask(crowd.told_to_retry())
        # Each call that was acknowledged or not: one job at most.
        eventually(lambda: len(api.jobs(queue=QUEUE)) == 1, "one job is there")
        api.complete(api.lease_one(lease="5m"), result=1)
        crowd.insist()

    assert {(caller.status, caller.json) for caller in crowd.callers} == {(200, 1)}
    assert len(api.jobs(queue=QUEUE)) == 1
