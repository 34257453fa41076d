"""The log of the server: its lines, its levels, and what it holds back (docs/reference/logs.md)."""

import contextlib
import json
import os
import re
import signal
import subprocess

import pytest
from harness import BINARY, DEADLINE, Api, eventually, free_port

COMPONENTS = {"server", "shard", "log", "http", "auth", "audit", "trace"}


def lines(server):
    """Those that are whole: one may be on its way into the file."""
    return [json.loads(line) for line in server.log().split("\n")[:-1]]


def lines_with(server, body):
    return [line for line in lines(server) if line["body"] == body]


def test_every_line_is_a_json_object_that_says_when_how_bad_who_and_what(start):
    server = start()
    server.stop()

    seen = lines(server)
    for line in seen:
        assert list(line)[:4] == ["timestamp", "severity", "component", "body"], line
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["timestamp"]), line
        assert line["severity"] in ("DEBUG", "INFO", "WARN", "ERROR"), line
        assert line["component"] in COMPONENTS, line
    assert [line["component"] for line in seen if line["body"] in ("created", "listening", "stopped")] == [
        "shard",
        "server",
        "server",
    ]


def test_a_component_has_a_level_of_its_own_and_its_lines_name_the_trace(start):
    server = start("--log-level", "error,http=debug")

    problem = server.api().refused("GET", "/v1/jobs/nobody", code="job_not_found")

    errors = eventually(lambda: lines_with(server, "a request was answered with an error"), "the line of the request")
    assert [line["trace_id"] for line in errors] == [problem["trace_id"]]
    assert {line["component"] for line in lines(server)} == {"http"}


def test_what_repeats_is_held_back_and_counted(start):
    server = start("--log-level", "http=debug")
    api = server.api()
    for _ in range(30):
        api.refused("GET", "/v1/jobs/nobody", code="job_not_found")
    metrics = api.call("GET", "/metrics", expect=200).body.decode()
    server.stop()

    body = "a request was answered with an error"
    held = [line for line in lines(server) if line["body"] == "a message that repeats was held back"]
    assert {line["message"] for line in held} == {body}
    # However many windows the requests fell into.
    assert len(lines_with(server, body)) + sum(line["lines"] for line in held) == 30
    assert re.search(r"^workmill_log_lines_held_back_total [1-9]", metrics, re.MULTILINE), metrics
    assert "workmill_log_lines_dropped_total 0" in metrics


@pytest.mark.parametrize("level", ["loud", "info,htp=debug", "info,warn", ""])
def test_levels_that_make_no_sense_are_refused(level):
    run = subprocess.run([BINARY, "serve", "--log-level", level], capture_output=True, text=True, timeout=60)

    assert run.returncode == 2, run
    assert "bad_configuration" in run.stderr, run.stderr


@pytest.fixture
def full_pipe():
    """The end that is written to of a pipe that nobody reads, and that has no room left."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(write, b"x" * 4096)
    os.set_blocking(write, True)
    yield write
    os.close(read)
    os.close(write)


def serve_into(pipe, data, port):
    return subprocess.Popen([BINARY, "serve", "--data", data, "--listen", f"127.0.0.1:{port}"], stderr=pipe)


def test_a_server_whose_log_nobody_reads_serves_and_ends(full_pipe, tmp_path):
    port = free_port()
    process = serve_into(full_pipe, tmp_path / "data", port)
    try:
        api = Api(f"http://127.0.0.1:{port}", queue="q")

        def is_ready():
            assert process.poll() is None
            with contextlib.suppress(OSError):
                return api.call("GET", "/readyz").status == 200

        eventually(is_ready, "the server is ready")
        api.enqueue_id()

        process.send_signal(signal.SIGTERM)

        assert process.wait(DEADLINE) == 0
    finally:
        process.kill()
        process.wait()


def test_one_that_cannot_start_ends_too(full_pipe, tmp_path, start):
    other = start()
    process = serve_into(full_pipe, other.data, free_port())
    try:
        assert process.wait(DEADLINE) == 1
    finally:
        process.kill()
        process.wait()
