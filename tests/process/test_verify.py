"""Bits that turn on the disk while a server runs: found in the background, and never served."""

import os
import pathlib
import re

import requests
from harness import eventually, requests_session


def metric(server, name):
    text = requests_session().get(server.url + "/metrics", timeout=30).text
    return float(re.search(rf"^{name} (\S+)$", text, re.MULTILINE).group(1))


def find(server, needle):
    return next((path, path.read_bytes().find(needle)) for path in server.segments() if needle in path.read_bytes())


def flip(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x20]))


def fill(api, count):
    for _ in range(count):
        api.enqueue_many([{"payload": "x" * 100_000}] * 10)


def test_full_segments_are_read_again_and_damage_is_reported_once(start, config):
    server = start(*config(verify_rate="500MiB", verify_every="1s", segment_size="1MiB"))
    api = server.api(queue="q")
    needle = api.enqueue_id(payload="a needle in a haystack")
    fill(api, 4)
    eventually(lambda: metric(server, "workmill_verify_bytes_total") > 2_000_000, "two segments have been verified")
    assert metric(server, "workmill_verify_damaged_total") == 0
    path, offset = find(server, b"a needle in a haystack")

    flip(path, offset)

    eventually(lambda: metric(server, "workmill_verify_damaged_total") == 1, "the damage is found")
    passes = metric(server, "workmill_verify_passes_total")
    eventually(lambda: metric(server, "workmill_verify_passes_total") >= passes + 2, "two more passes")
    assert metric(server, "workmill_verify_damaged_total") == 1
    assert requests.get(server.url + "/readyz", timeout=30).status_code == 200
    api.enqueue(payload="goes on")
    flip(path, offset)
    lines = [line for line in server.final_log().splitlines() if "damaged on the disk" in line]
    assert len(lines) == 1 and str(path) in lines[0] and '"severity":"ERROR"' in lines[0], lines
    assert 0 < offset - int(re.search(r'"offset":(\d+)', lines[0]).group(1)) < 1_000
    server.start()
    assert api.exists(needle)


def test_nothing_is_read_again_where_that_is_off(start):
    server = start("--verify-rate", "0")
    assert "workmill_verify" not in requests_session().get(server.url + "/metrics", timeout=30).text


def test_a_payload_that_turned_on_the_disk_is_never_served_and_ends_its_job_only(start):
    server = start("--segment-size", "1MiB", "--verify-rate", "0")
    api = server.api(queue="first")
    before = api.enqueue_id(payload="before it")
    damaged = api.enqueue_id(payload="a needle in a haystack")
    after = api.enqueue_id(payload="after it")
    fill(server.api(queue="second"), 8)  # Beyond what the server remembers of its last writes.
    path, offset = find(server, b"a needle in a haystack")
    flip(path, offset)

    shown = api.call("GET", f"/v1/jobs/{damaged}")
    leased = api.call("POST", "/v1/leases", {"queues": ["first"], "max": 3})

    assert [(job["id"], job["payload"]) for job in leased.json["jobs"]] == [(before, "before it"), (after, "after it")]
    assert b"eedle" not in shown.body and b"eedle" not in leased.body
    assert shown.json["state"] == "ready" and "payload" not in shown.json
    for job in (shown.json, api.call("GET", f"/v1/jobs/{damaged}").json):
        assert job["error"]["code"] == "payload_damaged" and job["error"]["class"] == "fatal", job
    assert job["state"] == "dead"
    assert metric(server, "workmill_damaged_jobs_total") == 1
    api.enqueue(payload="goes on")
    flip(path, offset)
    lines = [line for line in server.final_log().splitlines() if "damaged on the disk" in line]
    assert len(lines) == 1 and path.name in lines[0] and damaged in lines[0] and '"severity":"ERROR"' in lines[0], lines
    server.start()
    assert api.call("GET", f"/v1/jobs/{damaged}").json["state"] == "dead"


def test_no_thread_of_the_server_is_so_low_that_its_death_waits_for_a_quiet_machine(start):
    """Killed, it is gone when its last thread has run once more. At a niceness of 19 that took 20 s beside two compilers."""
    tasks = pathlib.Path(f"/proc/{start().process.pid}/task").iterdir()
    assert all(os.getpriority(os.PRIO_PROCESS, int(task.name)) <= 10 for task in tasks)
