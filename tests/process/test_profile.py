"""The routes that tell what the process does with CPU and memory."""

import re
import shutil
import struct
import subprocess

import pytest

from harness import BINARY, Raw, eventually


def built_in(api):
    """Builds with sanitizers have no profiler, and say so."""
    answer = api.call("GET", "/v1/debug/cpu-profile?seconds=1", expect=(200, 404))
    if answer.status == 404:
        assert answer.code == "not_found" and "profiler" in answer.json["detail"]
        return None
    return answer


def check_profile(profile):
    """The form of gperftools: words of eight bytes, a header of 0, 3, 0, the period in microseconds, 0; the list of what
    is mapped at the end."""
    header = struct.unpack_from("<5Q", profile)
    assert header[:3] == (0, 3, 0) and header[3] > 0 and header[4] == 0, header
    assert b"workmill" in profile


def samples_of(profile):
    """How many samples: behind the header records of a count, a depth and so many addresses, then 0, 1, 0."""
    at, samples = 40, 0
    while True:
        count, depth = struct.unpack_from("<2Q", profile, at)
        if (count, depth) == (0, 1):
            return samples
        samples += count
        at += 16 + 8 * depth


def test_a_profile_is_one_that_pprof_reads(start, tmp_path):
    server = start()
    api = server.api()
    if built_in(api) is None:
        return
    tool = shutil.which("google-pprof")
    assert tool, "google-pprof is missing: ./dev setup test installs Debian's google-perftools"
    file = tmp_path / "cpu.prof"
    # What sleeps is not in a profile, so there must be load until there are samples.
    load = subprocess.Popen(
        [BINARY, "bench", "enqueue", "--jobs", "10000000", "--server", server.url],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:

        def taken():
            answer = api.call("GET", "/v1/debug/cpu-profile?seconds=1", expect=200)
            assert answer.headers["Content-Type"] == "application/octet-stream"
            check_profile(answer.body)
            file.write_bytes(answer.body)
            return samples_of(answer.body) > 0

        eventually(taken, "a profile has samples")
    finally:
        load.kill()
        load.wait()

    ran = subprocess.run([tool, "--text", BINARY, file], capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0 and re.search(r"Total: \d+ samples", ran.stdout + ran.stderr), ran


def test_there_is_one_profile_at_a_time_and_the_server_serves_meanwhile(start):
    server = start()
    api = server.api(queue="q")
    if built_in(api) is None:
        return
    with Raw(server.port) as first:
        first.send(b"GET /v1/debug/cpu-profile?seconds=60 HTTP/1.1\r\nHost: h\r\n\r\n")
        api.settle()

        api.refused("GET", "/v1/debug/cpu-profile", code="wrong_state")
        api.enqueue()
        api.complete(api.lease_one())
        server.stop()  # It does not wait for the minute, and hands over what there is.

        answer = first.answer()
    assert answer.status == 200, answer
    check_profile(answer.body)


def test_a_client_that_goes_does_not_block_the_next_for_ever(start):
    server = start()
    api = server.api()
    if built_in(api) is None:
        return
    with Raw(server.port) as first:
        first.send(b"GET /v1/debug/cpu-profile?seconds=60 HTTP/1.1\r\nHost: h\r\n\r\n")
        api.settle()

    answer = eventually(
        lambda: (got := api.call("GET", "/v1/debug/cpu-profile?seconds=1", expect=(200, 409))).status == 200 and got
    )
    check_profile(answer.body)


@pytest.mark.parametrize("seconds", ["0", "61", "-1", "1.5", "", "x", "99999999999999999999"])
def test_the_length_of_a_profile_is_bounded(api, seconds):
    api.refused("GET", f"/v1/debug/cpu-profile?seconds={seconds}", code="invalid_field", field="seconds")


def test_the_heap_is_accounted_for(api):
    api.enqueue()

    heap = api.get("/v1/debug/heap")

    parts = {part["name"]: part["bytes"] for part in heap["parts"]}
    assert set(parts) == {
        "engine", "http_buffers", "log_unflushed", "log_checksums", "cache_values", "cache_values_lost"
    }
    assert parts["engine"] > 0
    if heap["allocator"] is not None:
        assert heap["allocator"]["resident_bytes"] > parts["engine"]
        assert heap["allocator"]["resident_bytes_peak"] >= heap["allocator"]["resident_bytes"]
