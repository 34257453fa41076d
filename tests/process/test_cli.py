"""The command line, against a server and without one: what it prints, and its exit codes.

0, 1 failed, 2 usage, 69 no server.
"""

import base64
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from harness import BINARY, DEADLINE, eventually, free_port


class Cli:
    """Runs `workmill …` against one server."""

    def __init__(self, url, folder):
        self.url, self.folder = url, folder

    def _environment(self):
        return {**os.environ, "WORKMILL_URL": self.url, "TMPDIR": str(self.folder)}

    def run(self, *args, input=None, expect=0, deadline=DEADLINE, env=None):
        done = subprocess.run(
            [BINARY, *map(str, args)],
            input=input,
            capture_output=True,
            timeout=deadline,
            cwd=self.folder,
            env={**self._environment(), **(env or {})},
        )
        done.out, done.err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        assert done.returncode == expect, f"{args}: exit code {done.returncode}\n{done.out}\n{done.err}"
        return done

    def json(self, *args, **options):
        return json.loads(self.run(*args, "--json", **options).out)

    def start(self, *args):
        """A command that goes on: a worker."""
        return subprocess.Popen(
            [BINARY, *map(str, args)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.folder,
            env=self._environment(),
        )


@pytest.fixture
def cli(shared, tmp_path):
    return Cli(shared.url, tmp_path)


@pytest.fixture
def worker(cli):
    """worker(queue, command…) starts `workmill work`; it is stopped at the end."""
    running = []

    def start(queue, *command, options=()):
        process = cli.start("work", "--queue", queue, *options, "--", *command)
        running.append(process)
        return process

    yield start
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


def finish(process, deadline=DEADLINE):
    """SIGTERM, and the exit code."""
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=deadline)
    return process.returncode, out.decode(), err.decode()


def python(code):
    return [sys.executable, "-c", code]


# ---- Sending.


def test_enqueue_prints_the_id_of_the_job(cli, api):
    out = cli.run("enqueue", "resize", '{"w": 10}', "--queue", api.queue).out

    id = out.split()[0]
    job = api.job(id)
    assert (job["type"], job["queue"], job["payload"], job["state"]) == ("resize", api.queue, {"w": 10}, "ready")


def test_enqueue_reads_the_payload_from_standard_input(cli, api):
    answer = cli.json("enqueue", "resize", "-", "--queue", api.queue, input=b'{"from": "stdin"}')
    assert api.job(answer["id"])["payload"] == {"from": "stdin"}


def test_enqueue_takes_a_server_as_an_option(cli, shared, api):
    done = subprocess.run(
        [BINARY, "enqueue", "t", "1", "--queue", api.queue, "--server", shared.url],
        capture_output=True,
        env={**os.environ, "WORKMILL_URL": "http://127.0.0.1:1"},
        timeout=DEADLINE,
    )
    assert done.returncode == 0, done
    assert api.depth()["ready"] == 1


def test_enqueue_makes_a_job_of_each_line(cli, api, tmp_path):
    lines = [{"type": "t", "queue": api.queue, "payload": n} for n in range(2_500)]
    (tmp_path / "jobs.ndjson").write_text("".join(json.dumps(line) + "\n" for line in lines))

    cli.run("enqueue", "--lines", "jobs.ndjson")

    assert api.depth()["ready"] == 2_500
    assert sorted(job["payload"] for job in api.jobs(queue=api.queue)) == list(range(2_500))


def test_enqueue_lines_names_the_line_that_is_wrong(cli, api, tmp_path):
    (tmp_path / "jobs.ndjson").write_text('{"type": "t", "queue": "%s"}\n{"type": 5}\n' % api.queue)
    done = cli.run("enqueue", "--lines", "jobs.ndjson", expect=1)
    assert "2" in done.err and "type" in done.err, done.err


def test_enqueue_shows_why_a_job_was_refused(cli, api):
    api.call("PATCH", f"/v1/queues/{api.queue}", {"max_depth": 0}, expect=200)
    done = cli.run("enqueue", "t", "1", "--queue", api.queue, expect=1)
    assert "queue_full" in done.err and api.queue in done.err, done.err


def test_enqueue_takes_words_as_they_are(cli, api):
    answer = cli.json("enqueue", "t", "how many words are these", "--queue", api.queue)
    assert api.job(answer["id"])["payload"] == "how many words are these"


# ---- The cache.


def test_cache_keeps_a_file_and_gives_it_back(cli, api, tmp_path):
    body = bytes(range(256))
    (tmp_path / "value.bin").write_bytes(body)
    key = f"{api.queue}/a b"

    assert key in cli.run("cache", "put", key, "value.bin", "--fresh", "5m", "--stale", "1h").out
    assert cli.run("cache", "get", key).stdout == body
    shown = cli.json("cache", "get", key)
    assert (shown["key"], shown["content_type"], shown["stale"]) == (key, "application/octet-stream", False)
    assert base64.b64decode(shown["value_base64"]) == body and 200 < shown["ttl"] <= 300


def test_cache_takes_json_for_json_and_any_type_it_is_told(cli, api):
    key = f"{api.queue}/k"
    etag = cli.json("cache", "put", key, "-", input=b'{"a": 1}')["etag"]
    shown = cli.json("cache", "get", key)
    assert (shown["value"], shown["content_type"], shown["etag"]) == ({"a": 1}, "application/json", etag)
    cli.run("cache", "put", key, "-", "--content-type", "text/plain", input=b"{}")
    assert cli.json("cache", "get", key)["content_type"] == "text/plain"
    cli.run("cache", "put", key, "-", input=b"")
    assert cli.run("cache", "get", key).stdout == b""


def test_cache_forgets_by_key_tag_and_prefix(cli, api):
    tag = api.queue[-100:]
    for name in "abcd":
        cli.run("cache", "put", f"{api.queue}/{name}", "-", "--tag", tag, "--tag", "other", input=b"1")
    assert cli.run("cache", "rm", f"{api.queue}/a").out == "1 value forgotten\n"
    done = cli.run("cache", "rm", f"{api.queue}/a", f"{api.queue}/b", expect=1)
    assert f"{api.queue}/a is not there" in done.err and done.out == "1 value forgotten\n"
    assert cli.json("cache", "rm", "--tag", tag) == {"count": 2}
    assert cli.json("cache", "rm", "--prefix", f"{api.queue}/") == {"count": 0}


def test_cache_says_what_is_wrong(cli, api):
    assert "cache_miss" in cli.run("cache", "get", f"{api.queue}/none", expect=1).err
    assert "No such file" in cli.run("cache", "put", "k", "no-such-file", expect=1).err
    assert "invalid_field" in cli.run("cache", "put", "k", "-", "--stale", "400d", input=b"1", expect=1).err
    cli.run("cache", "put", "k", "-", "--fresh", "soon", input=b"1", expect=2)
    cli.run("cache", "rm", expect=2)
    cli.run("cache", "rm", "k", "--tag", "t", expect=2)
    cli.run("cache", expect=2)
    cli.run("cache", "get", "k", "--server", "http://127.0.0.1:1", expect=69)


# ---- Looking and changing.


def test_job_shows_a_job(cli, api):
    id = api.enqueue_id(payload={"a": 1})
    assert id in cli.run("job", id).out
    shown = cli.json("job", id)
    assert (shown["id"], shown["payload"], shown["state"]) == (id, {"a": 1}, "ready")


def test_job_of_an_unknown_id_fails(cli):
    done = cli.run("job", "nope", expect=1)
    assert "job_not_found" in done.err, done.err


def items_of(shown):
    return shown["items"] if isinstance(shown, dict) else shown


def test_jobs_lists_jobs(cli, api):
    ids = {job["id"] for job in api.enqueue_many([{}] * 3)}
    api.enqueue(queue=api.queue + ".other")
    assert {job["id"] for job in items_of(cli.json("jobs", "--queue", api.queue))} == ids
    out = cli.run("jobs", "--queue", api.queue, "--state", "ready").out
    assert all(id in out for id in ids)


def test_queues_lists_queues(cli, api):
    api.enqueue()
    assert api.queue in cli.run("queues").out
    shown = {queue["name"]: queue for queue in items_of(cli.json("queues"))}
    assert shown[api.queue]["depth"]["ready"] == 1


def test_cancel_and_retry_change_a_job(cli, api):
    id = api.enqueue_id()
    cli.run("cancel", id)
    assert api.state(id) == "cancelled"
    cli.run("retry", id)
    assert api.state(id) == "ready"
    done = cli.run("retry", id, expect=1)
    assert "wrong_state" in done.err, done.err


def test_pause_and_resume_change_a_queue(cli, api):
    api.enqueue()
    cli.run("pause", api.queue)
    assert api.get(f"/v1/queues/{api.queue}")["paused"] is True
    cli.run("resume", api.queue)
    assert api.get(f"/v1/queues/{api.queue}")["paused"] is False


# ---- Usage, and no server.


@pytest.mark.parametrize(
    "args",
    [
        ["--no-such-option"],
        ["nonsense"],
        ["enqueue"],
        ["job"],
        ["work"],
        ["work", "--queue", "q"],
        ["retry"],
        ["pause"],
        ["jobs", "--limit", "many"],
        ["enqueue", "t", "--priority", "x"],
        ["enqueue", "not a name", "1"],
    ],
)
def test_wrong_usage_is_explained(cli, args):
    done = cli.run(*args, expect=2)
    assert done.err.strip(), "an explanation"


def test_help_teaches(cli):
    top = cli.run("--help").out
    for command in ("serve", "enqueue", "work", "jobs", "job", "queues", "retry", "cancel", "pause", "resume", "bench"):
        assert command in top, command
        assert cli.run(command, "--help").out.strip()
    assert "WORKMILL_URL" in cli.run("enqueue", "--help").out + top
    assert cli.run("--version").out.strip()


@pytest.mark.parametrize(
    "args",
    [
        ["enqueue", "t", "1"],
        ["jobs"],
        ["job", "x"],
        ["queues"],
        ["retry", "x"],
        ["cancel", "x"],
        ["pause", "q"],
        ["resume", "q"],
    ],
)
def test_without_a_server_the_exit_code_is_69(cli, args):
    url = f"http://127.0.0.1:{free_port()}"
    done = cli.run(*args, "--server", url, expect=69)
    assert url in done.err or url.removeprefix("http://") in done.err, done.err
    assert "workmill serve" in done.err, done.err


def test_an_address_that_is_none_is_refused(cli):
    done = cli.run("jobs", "--server", "nonsense://x", expect=2)
    assert "nonsense" in done.err


def test_bench_runs_against_a_server(start, tmp_path):
    server = start()
    done = Cli(server.url, tmp_path).run("bench", "--help")
    assert done.out.strip()


# ---- Working.


def test_a_worker_runs_its_command_on_each_job(cli, api, worker):
    ids = [api.enqueue_id(payload={"n": n}) for n in range(20)]
    process = worker(
        api.queue,
        *python(
            "import json,sys; n = json.load(sys.stdin)['n']\n"
            "print('working on', n, file=sys.stderr)\n"
            "print(json.dumps({'square': n*n}))"
        ),
        options=["--concurrency", "4"],
    )

    for n, id in enumerate(ids):
        job = api.job(id, wait="30s")
        assert (job["state"], job["result"], job["attempt"]) == ("completed", {"square": n * n}, 1)
    assert api.get(f"/v1/jobs/{ids[7]}/log")["lines"] == ["working on 7"]

    code, _, err = finish(process)
    assert code == 0, err


def test_what_a_command_leaves_in_its_checkpoint_the_next_attempt_finds(cli, api, worker):
    id = api.enqueue_id(backoff={"first": "1ms", "jitter": 0})
    process = worker(
        api.queue,
        *python(
            "import json,os,sys; path = os.environ['WORKMILL_CHECKPOINT']\n"
            "rows = json.load(open(path))['rows'] if os.path.exists(path) else 0\n"
            "open(path + '.new', 'w').write(json.dumps({'rows': rows + 1})); os.rename(path + '.new', path)\n"
            "print(rows); sys.exit(0 if rows == 2 else 75)"
        ),
    )

    job = api.job(id, wait="30s")

    assert (job["state"], job["result"], job["attempt"]) == ("completed", 2, 3)
    assert "checkpoint" not in job
    assert finish(process)[0] == 0


def test_a_checkpoint_is_sent_while_its_command_runs(cli, api, worker):
    id = api.enqueue_id(lease="4s")  # At half of it the worker learns of the cancellation.
    process = worker(api.queue, "sh", "-c", 'printf "[1]" > "$WORKMILL_CHECKPOINT"; exec sleep 60')

    eventually(lambda: api.job(id).get("checkpoint") == [1], "the checkpoint is there")
    assert api.state(id) == "leased"
    api.call("POST", f"/v1/jobs/{id}/cancel", expect=200)  # So that nobody has to wait for its command.
    assert api.job(id, wait="30s")["state"] == "cancelled"
    assert finish(process)[0] == 0


@pytest.mark.parametrize(
    "exit_code, state, error_class",
    [
        (0, "completed", None),
        (65, "dead", "user"),
        (75, "scheduled", "retryable"),
        (1, "scheduled", "retryable"),
        (200, "scheduled", "retryable"),
    ],
)
def test_the_exit_code_of_the_command_decides(cli, api, worker, exit_code, state, error_class):
    id = api.enqueue_id(backoff={"first": "1h"})
    worker(api.queue, "sh", "-c", f"cat >/dev/null; echo why >&2; exit {exit_code}")

    eventually(lambda: api.state(id) == state, f"the job is {state}")

    job = api.job(id)
    assert job["attempt"] == 1
    assert api.get(f"/v1/jobs/{id}/log")["lines"] == ["why"]
    if error_class is not None:
        assert job["error"]["class"] == error_class
        assert str(exit_code) in job["error"]["message"] + job["error"]["code"]


def test_a_command_that_is_killed_is_tried_again(cli, api, worker):
    id = api.enqueue_id(backoff={"first": "1h"})
    worker(api.queue, "sh", "-c", "kill -9 $$")
    eventually(lambda: api.state(id) == "scheduled", "the job is to be tried again")
    assert api.job(id)["error"]["class"] == "retryable"


def test_a_command_that_is_not_there_ends_the_worker_or_fails_the_job(cli, api, worker):
    id = api.enqueue_id(backoff={"first": "1h"})
    process = worker(api.queue, "/no/such/command")
    eventually(
        lambda: process.poll() is not None or api.state(id) != "ready" and api.job(id).get("error"), "somebody is told"
    )
    assert api.state(id) != "completed"


def test_output_that_is_no_json_is_a_text(cli, api, worker):
    id = api.enqueue_id()
    worker(api.queue, "sh", "-c", "cat >/dev/null; echo plain words")
    job = api.job(id, wait="30s")
    assert job["state"] == "completed"
    assert job["result"].strip() == "plain words"


def test_a_large_payload_and_a_large_result_pass_through(cli, api, worker):
    payload = {"text": "äx" * 200_000}
    id = api.enqueue_id(payload=payload)
    worker(api.queue, "cat")
    job = api.job(id, wait="30s")
    assert (job["state"], job["result"]) == ("completed", payload)


def test_a_command_that_does_not_read_its_payload_does_no_harm(cli, api, worker):
    id = api.enqueue_id(payload="x" * 500_000)
    worker(api.queue, "sh", "-c", "echo '1'")
    assert api.job(id, wait="30s")["state"] == "completed"


def test_a_worker_runs_no_more_commands_at_once_than_told(cli, api, worker, tmp_path):
    """Each command counts those that run beside it."""
    ids = [api.enqueue_id() for _ in range(12)]
    code = (
        "import os,sys,time,pathlib\n"
        "mark = pathlib.Path('running') / str(os.getpid()); mark.touch()\n"
        "most = 0\n"
        "for _ in range(10):\n"
        "    most = max(most, len(list(pathlib.Path('running').iterdir()))); time.sleep(0.01)\n"
        "mark.unlink(); print(most)\n"
    )
    (tmp_path / "running").mkdir()
    worker(api.queue, *python(code), options=["--concurrency", "3"])

    most = [api.job(id, wait="30s")["result"] for id in ids]

    assert max(most) == 3


def test_a_lease_is_kept_alive_while_the_command_runs(cli, api, worker):
    id = api.enqueue_id(lease="2s", max_attempts=3)
    worker(api.queue, "sh", "-c", "cat >/dev/null; sleep 5; echo 1")
    job = api.job(id, wait="60s")
    assert (job["state"], job["attempt"]) == ("completed", 1)


def test_a_worker_that_is_told_to_stop_finishes_what_it_has(cli, api, worker, tmp_path):
    first, second = api.enqueue_id(), api.enqueue_id()
    process = worker(
        api.queue,
        "sh",
        "-c",
        "touch started; while [ ! -e go ]; do sleep 0.02; done; echo 1",
        options=["--concurrency", "1"],
    )
    eventually((tmp_path / "started").exists, "the command runs")

    process.send_signal(signal.SIGTERM)
    assert process.poll() is None
    (tmp_path / "go").touch()
    process.communicate(timeout=DEADLINE)

    assert process.returncode == 0
    assert api.state(first) == "completed"
    assert (api.state(second), api.job(second)["attempt"]) == ("ready", 0)


def test_a_worker_outlives_a_server_that_is_killed_and_comes_back(start, tmp_path):
    server = start()
    api = server.api(queue="q")
    cli = Cli(server.url, tmp_path)
    ids = [api.enqueue_id(payload=n) for n in range(30)]
    # A lease may be on disk when the server is killed, and its answer not sent: that job comes again when it runs out.
    work = ["work", "--queue", "q", "--concurrency", "2", "--lease", "5s"]
    process = cli.start(*work, "--", "sh", "-c", "echo run >>runs.$(cat); sleep 0.05; echo 1")
    try:
        eventually(lambda: api.depth()["completed"] >= 5, "some jobs are done")
        server.kill()
        time.sleep(0.3)  # Commands end while nobody takes their reports.
        server.start()

        for id in ids:
            job = api.job(id, wait="30s")
            assert job["state"] == "completed", job
        assert all((tmp_path / f"runs.{n}").read_text() == "run\n" for n in range(30)), "each ran once"
        code, _, err = finish(process)
        assert code == 0, err
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


def test_a_worker_without_a_server_says_so(cli):
    url = f"http://127.0.0.1:{free_port()}"
    process = cli.start("work", "--queue", "q", "--server", url, "--", "true")
    try:
        out, err = process.communicate(timeout=DEADLINE)
        assert process.returncode == 69, (out, err)
    except subprocess.TimeoutExpired:  # Or it waits for one, and has said so.
        process.kill()
        _, err = process.communicate()
        assert url.removeprefix("http://") in err.decode()


def test_a_job_deleted_or_cancelled_meanwhile_does_not_trouble_the_worker(cli, api, worker, tmp_path):
    id = api.enqueue_id()
    worker(api.queue, "sh", "-c", "touch started; while [ ! -e go ]; do sleep 0.02; done; echo 1")
    eventually((tmp_path / "started").exists, "the command runs")
    api.call("POST", f"/v1/jobs/{id}/cancel", expect=(200, 202))
    (tmp_path / "go").touch()
    eventually(lambda: api.state(id) in ("completed", "cancelled"), "the job ends")
    assert api.job(api.enqueue_id(), wait="30s")["state"] == "completed"
