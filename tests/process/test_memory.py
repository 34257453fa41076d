"""Memory that runs out: a defined answer where the server's own bound is met, and a word where the system has no more."""

import re
import resource

import pytest
import requests

from crowd import is_sanitized

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
