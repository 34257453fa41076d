"""SIGHUP: the configuration is read again, as a whole or not at all."""

import os
import re
import signal
import subprocess

import pytest

from harness import BINARY, ROOT, Raw, eventually, request_bytes

# For each setting of the reference another value than its default.
OTHER_VALUES = {
    "listen": '"127.0.0.1:1"',
    "durability": '"os"',
    "sync_interval": '"70ms"',
    "segment_size": '"32MiB"',
    "disk_reserve": '"1MiB"',
    "jobs_memory_max": '"1GiB"',
    "verify_rate": '"9MiB"',
    "verify_every": '"2h"',
    "flush_by": '"turn"',
    "connections_max": "1234",
    "connections_per_address_max": "1233",
    "waiters_max": "1232",
    "admission": "false",
    "admission_delay": '"4ms"',
    "in_flight_min": "127",
    "in_flight_max": "16000",
    "header_timeout": '"9s"',
    "handshakes_max": "900",
    "upload_rate_min": '"300B"',
    "download_rate_min": '"301B"',
    "body_size_max": '"1MiB"',
    "header_size_max": '"8KiB"',
    "pipelined_max": "63",
    "buffered_size_max": '"256MiB"',
    "idle_timeout": '"4m"',
    "request_timeout": '"29s"',
    "write_timeout": '"29s"',
    "drain_timeout": '"19s"',
    "cache_memory": '"64MiB"',
    "cache_disk": '"1GiB"',
    "cache_volatile": '["session:"]',
    "cache_jitter": "0.2",
    "finished_kept": "1000",
    "idempotency_keys_max": "900000",
    "batches_max": "50000",
    "batches_memory_max": '"128MiB"',
    "batch_keep": '"2h"',
    "otlp_endpoint": '"http://127.0.0.1:1"',
    "otlp_headers": '"x=s3cret"',
    "trace_sample": "0.5",
    "log_level": '"debug"',
    "log_format": '"json"',
    "log_repeats_max": "30",
}


class Configured:
    """A server that reads its settings from a file."""

    def __init__(self, start, tmp_path, *args, **settings):
        self.path = tmp_path / "workmill.toml"
        self.write(**settings)
        self.server = start("--config", str(self.path), *args)

    def write(self, **settings):
        self.path.write_text("".join(f"{name} = {value}\n" for name, value in settings.items()))

    def reload(self):
        """Waits for the end of it, and returns the lines that it logged."""
        before = len(self.server.log())
        self.server.process.send_signal(signal.SIGHUP)
        end = re.compile(r'("body":"reloaded"|not reloaded).*\n')
        eventually(lambda: end.search(self.server.log()[before:]), "the server says how reloading went")
        return self.server.log()[before:]

    def limit(self, name, api=None):
        bounds = (api or self.server.api()).get("/v1/status")["bounds"]
        return next(bound["limit"] for bound in bounds if bound["name"] == name)


@pytest.mark.parametrize("threads", ["1", "3"])
def test_a_limit_changes_on_every_thread_and_for_connections_that_are_open(start, tmp_path, threads):
    configured = Configured(start, tmp_path, "--io-threads", threads, body_size_max='"1MiB"', connections_max=500)
    connections = [Raw(configured.server.port) for _ in range(6)]

    configured.write(body_size_max='"2KiB"', connections_max=300, disk_reserve='"1GiB"')
    said = configured.reload()

    assert '"changed":"body_size_max,connections_max,disk_reserve","needs_restart":""' in said

    def limits():
        answers = [raw.send(request_bytes("GET", "/v1/status")).answer().json for raw in connections]
        return {bound["limit"] for answer in answers for bound in answer["bounds"] if bound["name"] == "http_connections"}

    eventually(lambda: limits() == {300}, "each thread has the new limit")
    for raw in connections:
        raw.socket.close()
    large = {"type": "t", "payload": "x" * 3_000}
    for _ in range(4):  # A connection for each, so one for each thread.
        with Raw(configured.server.port) as raw:
            assert raw.send(request_bytes("POST", "/v1/jobs", large)).answer().code == "payload_too_large"


def test_what_is_wrong_in_the_file_changes_nothing(start, tmp_path):
    configured = Configured(start, tmp_path, connections_max=500)
    for wrong in ({"connections_max": 400, "idle_timeout": '"soon"'}, {"connections_max": 400, "nonsense": 1}, {"io_threads": 0}):
        configured.write(**wrong)

        said = configured.reload()

        assert "not reloaded" in said and "bad_configuration" in said
        assert configured.limit("http_connections") == 500
    configured.path.unlink()
    assert "not reloaded" in configured.reload()
    assert configured.limit("http_connections") == 500


def test_a_pipe_in_place_of_the_file_is_refused(start, tmp_path):
    configured = Configured(start, tmp_path, connections_max=500)
    configured.path.unlink()
    os.mkfifo(configured.path)

    said = configured.reload()

    assert "not reloaded" in said and "is a pipe" in said
    assert configured.limit("http_connections") == 500


def test_the_log_level_changes_at_once(start, tmp_path):
    configured = Configured(start, tmp_path, log_level='"error"')
    assert '"listening"' not in configured.server.log()

    configured.write(log_level='"info"')

    assert '"setting":"log_level","before":"error","after":"info"' in configured.reload()


def test_the_level_of_one_component_changes_at_once(start, tmp_path):
    configured = Configured(start, tmp_path, log_level='"info"')
    api = configured.server.api()
    body = "a request was answered with an error"
    api.refused("GET", "/v1/jobs/nobody", code="job_not_found")

    configured.write(log_level='"info,http=debug"')
    configured.reload()
    problem = api.refused("GET", "/v1/jobs/nobody", code="job_not_found")

    eventually(lambda: problem["trace_id"] in configured.server.log(), "the request is in the log")
    assert configured.server.log().count(body) == 1

    configured.write(log_level='"info"')
    configured.reload()
    api.refused("GET", "/v1/jobs/nobody", code="job_not_found")
    configured.server.stop()
    assert configured.server.log().count(body) == 1


def test_what_the_command_line_said_holds_against_the_file(start, tmp_path):
    configured = Configured(start, tmp_path, "--connections-max", "77")

    configured.write(connections_max=500, pipelined_max=50)

    assert '"changed":"pipelined_max"' in configured.reload()
    assert configured.limit("http_connections") == 77


def test_without_a_file_sighup_harms_nobody(start):
    server = start()
    server.process.send_signal(signal.SIGHUP)
    eventually(lambda: '"body":"reloaded"' in server.log(), "the server says how reloading went")
    server.stop()


def test_the_reference_says_truly_what_changes_live(start, tmp_path):
    text = (ROOT / "docs/reference/configuration.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\|[^|]*\| ([^|]*) \|", text, re.MULTILINE)
    documented = {name: column.strip() for name, column in rows}
    assert documented.keys() >= OTHER_VALUES.keys()
    assert set(documented.values()) == {"live", "restart"}

    configured = Configured(start, tmp_path)
    configured.write(**{name: value for name, value in OTHER_VALUES.items() if name != "listen"})
    said = configured.reload()

    changed, waiting = re.search(r'"changed":"([^"]*)","needs_restart":"([^"]*)"', said).groups()
    seen = {name: "live" for name in changed.split(",")} | {name: "restart" for name in waiting.split(",")}
    wanted = {name: documented[name] for name in OTHER_VALUES if name != "listen"}
    assert {name: seen.get(name) for name in wanted} == wanted
    assert "s3cret" not in said


@pytest.mark.parametrize(
    "setting", ["connections_max = 0", 'idle_timeout = "2d"', "cache_jitter = 1", 'listen = "here"', 'otlp_headers = "x"']
)
def test_a_value_out_of_range_is_refused_at_start_with_file_and_line(tmp_path, setting):
    path = tmp_path / "workmill.toml"
    path.write_text(f"# what the operator wrote\nlog_level = 'warn'\n{setting}\n")

    run = subprocess.run([BINARY, "serve", "--config", path], capture_output=True, text=True, timeout=60, cwd=tmp_path)

    assert run.returncode == 2, run
    assert f"{path}:3: {setting.split()[0]}: " in run.stderr, run.stderr


def test_what_is_wrong_on_the_command_line_is_not_said_of_the_file(tmp_path):
    path = tmp_path / "workmill.toml"
    path.write_text("connections_max = 5\n")

    run = subprocess.run(
        [BINARY, "serve", "--config", path, "--connections-max", "0"], capture_output=True, text=True, timeout=60, cwd=tmp_path
    )

    assert run.returncode == 2, run
    assert "connections_max: " in run.stderr and str(path) not in run.stderr, run.stderr
