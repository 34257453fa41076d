"""Memory that runs out: a defined answer where the server's own bound is met, and a word where the system has no more."""

import json
import re
import resource
import signal
import subprocess

import pytest
import requests

from crowd import is_sanitized
from harness import BINARY, eventually

MiB = 1 << 20


def address_space(pid):
    with open(f"/proc/{pid}/status") as status:
        return int(re.search(r"VmSize:\s+(\d+) kB", status.read()).group(1)) << 10


@pytest.mark.parametrize("threads", ["1", "3"])
def test_a_server_without_memory_says_so_and_ends(start, threads):
    """With the allocator that ships: not every one calls a handler before it gives up."""
    if is_sanitized():
        pytest.skip("sanitizers bring their own allocator, and take terabytes of address space")
    server = start("--durability", "os", "--io-threads", threads)
    # A thread's heap takes tens of MiB of addresses as it begins: each thread has had a connection by then.
    for n in range(20):
        server.api(queue="q").enqueue_id(payload=n)
    room = address_space(server.process.pid) + 48 * MiB
    resource.prlimit(server.process.pid, resource.RLIMIT_AS, (room, room))
    api = server.api(queue="q", checked=False)
    accepted = []

    def fill():
        for _ in range(1_000):
            answer = api.call("POST", "/v1/jobs", {"jobs": [api.job_as_sent({"payload": n}) for n in range(2_000)]})
            if answer.status == 201:
                accepted.extend(job["id"] for job in answer.json["jobs"])
            else:
                assert (answer.status, answer.code) == (503, "overloaded")

    with pytest.raises(requests.RequestException):
        fill()

    assert server.wait_for_exit() == 1
    assert server.log().endswith("workmill: out of memory\n")
    assert accepted
    server.start()  # Without the limit.
    assert server.api().get("/v1/status")["jobs"]["total"] >= len(accepted)


# ---- The server's own bound.


def offer(api, count=1):
    jobs = [api.job_as_sent({"payload": n}) for n in range(count)]
    return api.call("POST", "/v1/jobs", {"jobs": jobs}, expect=(201, 503))


@pytest.mark.parametrize("threads", ["1", "3"])
def test_jobs_beyond_their_memory_are_refused_and_all_else_goes_on(start, config, threads):
    server = start("--io-threads", threads, *config(jobs_memory_max="1MiB"))
    api = server.api(queue="q")
    answers = [offer(api, 1_000)]
    while answers[-1].status == 201:
        answers.append(offer(api, 1_000))
    refused = answers[-1]

    assert (refused.code, refused.json["class"]) == ("overloaded", "retryable")
    assert "jobs_memory_max" in refused.json["detail"]
    assert int(refused.headers["Retry-After"]) >= 1
    accepted = 1_000 * (len(answers) - 1)
    status = api.get("/v1/status")
    assert status["jobs"]["total"] == accepted
    assert status["readiness"] == "ready"
    [bound] = [each for each in status["bounds"] if each["name"] == "jobs_memory"]
    assert bound["used"] >= bound["limit"] == MiB
    assert f'workmill_bound_limit{{bound="jobs_memory"}} {MiB}\n' in api.call("GET", "/metrics").body.decode()
    said = subprocess.run(
        [BINARY, "doctor", server.url, "--for", "300ms", "--json"], capture_output=True, text=True, timeout=60
    )
    assert "jobs_memory" in [finding["code"] for finding in json.loads(said.stdout)["findings"]]

    leased = api.lease(max=2)
    api.complete(leased[0])
    api.fail(leased[1])
    api.call("PUT", "/v1/cache/key", data=b"1", query={"fresh": "1h"}, expect=204)
    api.call("POST", "/v1/cache/absent", {"job": api.job_as_sent({}), "wait": "0s"}, expect=503)
    api.call("DELETE", f"/v1/jobs/{api.jobs(queue='q', state='ready')[0]['id']}", expect=(200, 204))
    api.call("DELETE", "/v1/queues/q/jobs", expect=200)

    eventually(lambda: offer(api).status == 201, "jobs are let in again once others have gone")


def test_the_bound_of_memory_changes_with_a_reload(start, config):
    server = start(*config(jobs_memory_max="1MiB"))
    api = server.api(queue="q")
    while offer(api, 1_000).status == 201:
        pass

    config(jobs_memory_max="1GiB")
    server.process.send_signal(signal.SIGHUP)

    eventually(lambda: offer(api).status == 201, "jobs are let in under the new bound")
