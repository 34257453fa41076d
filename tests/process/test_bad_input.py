"""Whatever comes in is refused with a clear error and its code, changes nothing and loses nothing."""

import os
import random
import re
import subprocess

import pytest
import requests

from harness import BINARY, DEADLINE, Raw, eventually, free_port, request_bytes

LEAST = b'{"type":"t"}'


def post(raw, body, path="/v1/jobs", headers=()):
    return raw.send(request_bytes("POST", path, body, headers=headers)).answer()


# ---- Bodies.


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b"}",
        b"nonsense",
        b'{"type":"t"',
        b'{"type":"t",}',
        b"{'type':'t'}",
        b'{"type":"t"} x',
        b'{"type":"t"}{}',
        b'{"type":tru}',
        b'{"type":NaN}',
        b'{"type":"t","priority":01}',
        b'{"type":"t","priority":+1}',
        b'{"type" "t"}',
        b'{"type":"t\n"}',
        b'{"type":"\\x"}',
        b'{"type":"\\u12"}',
        b'{"type":"t\x00"}',
        b"\x00",
        b'{"type":"t", /* */ "id":"a"}',
        b'{"type":"t","payload":{"a":[1,2}}',
        b'{"type":"t","payload":tru}',
        b'{"type":"t","payload":"\\q"}',
        b'{"type":"t","payload":1.}',
        b'{"type":"t","payload":[1 2]}',
        b'{"type":"t","payload":{"a" 1}}',
        b"[" * 100_000,
        b'{"type":"t","payload":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    ],
)
def test_malformed_json_is_refused(api, shared, body):
    with Raw(shared.port) as raw:
        answer = post(raw, body.replace(b'"t"', b'"t","queue":"%s"' % api.queue.encode(), 1))
        assert (answer.status, answer.code) == (400, "malformed_json")
        assert raw.send(request_bytes("GET", "/healthz")).answer().status == 200  # Its connection goes on.
    assert api.jobs(queue=api.queue) == []


@pytest.mark.parametrize(
    "bad", [b"\xff", b"\xc3", b"\xc3\x28", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80"]
)
@pytest.mark.parametrize(
    "where",
    [
        b'{"type":"%s"}',
        b'{"type":"t","payload":{"a":"%s"}}',
        b'{"type":"t","%s":1}',
        b'{"type":"t","meta":{"%s":1}}',
        b'{"type":"t","unique":{"key":"%s"}}',
    ],
)
def test_bytes_that_are_not_utf8_are_refused(shared, api, bad, where):
    with Raw(shared.port) as raw:
        answer = post(
            raw,
            where.replace(b"%s", b"a" + bad + b"z").replace(b'{"type"', b'{"queue":"%s","type"' % api.queue.encode()),
        )
        assert (answer.status, answer.code) == (400, "malformed_json")
    assert api.jobs(queue=api.queue) == []


@pytest.mark.parametrize("body", [b"1", b'"text"', b"null", b"true", b"[]", b'[{"type":"t"}]'])
def test_a_body_that_is_no_object_is_refused(shared, body):
    with Raw(shared.port) as raw:
        answer = post(raw, body)
        assert answer.status in (400, 422)
        assert answer.code in ("invalid_field", "malformed_json")


@pytest.mark.parametrize(
    "body",
    [
        {"jobs": "x"},
        {"jobs": {}},
        {"jobs": [1]},
        {"jobs": [[]]},
        {"jobs": [None]},
        {"jobs": [{"type": "t"}], "type": "t"},
    ],
)
def test_a_list_of_jobs_must_be_one(api, body):
    answer = api.call("POST", "/v1/jobs", body)
    assert answer.status in (400, 422)
    assert answer.json["class"] == "user"


def test_texts_that_are_half_a_character_do_no_harm(api):
    """A lone surrogate is JSON by its grammar, and no Unicode."""
    body = b'{"type":"t","queue":"%s","payload":"\\ud800"}' % api.queue.encode()
    answer = api.call("POST", "/v1/jobs", data=body)
    assert answer.status in (201, 400)
    if answer.status == 201:
        assert b"\\ud800" in api.call("GET", f"/v1/jobs/{answer.json['id']}", expect=200).body.lower()
    api.refused(
        "POST",
        "/v1/jobs",
        data=b'{"type":"\\ud800","queue":"%s"}' % api.queue.encode(),
        code="malformed_json" if answer.status == 400 else "invalid_field",
    )


def test_a_body_over_the_limit_is_refused_before_it_is_sent(shared, api):
    for headers in (
        b"Content-Length: 1000000000000\r\n",
        b"Content-Length: 99999999999999999999999999\r\n",
        b"Transfer-Encoding: chunked\r\n",
    ):
        with Raw(shared.port) as raw:
            raw.send(b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n" + headers + b"\r\n")
            if b"chunked" in headers:
                raw.send(b"FFFFFFFFFF\r\n{")
            answer = raw.answer()
            assert answer.status in (413, 400)
            assert answer.code in ("payload_too_large", "malformed_request")
            assert raw.closed()


def test_a_body_just_over_the_limit_is_refused_and_one_just_under_is_taken(start, config):
    server = start(*config(body_size_max="64KiB"))
    api = server.api(queue="q")
    head, tail = b'{"type":"t","queue":"q","payload":"', b'"}'
    fill = 64 * 1024 - len(head) - len(tail)

    api.call("POST", "/v1/jobs", data=head + b"x" * fill + tail, expect=201)
    answer = api.call("POST", "/v1/jobs", data=head + b"x" * (fill + 1) + tail)

    assert (answer.status, answer.code) == (413, "payload_too_large")
    assert api.depth()["ready"] == 1


# ---- Requests.


@pytest.mark.parametrize(
    "request_",
    [
        b"\r\n\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /healthz\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\n\r\n",
        b"GET /healthz HTTP/2.0\r\nHost: x\r\n\r\n",
        b"GET  /healthz HTTP/1.1\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\n: no name\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nA B: c\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nA: \x00\r\n\r\n",
        b"GET \x01 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"G\x00T /healthz HTTP/1.1\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\nContent-Length: 13\r\n\r\n" + LEAST + b"x",
        b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: 12\r\nTransfer-Encoding: chunked\r\n\r\n" + LEAST,
        b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + LEAST,
        b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n" + LEAST,
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40,
        b"\xff" * 1000 + b"\r\n\r\n",
    ],
)
def test_what_is_no_http_is_refused_and_the_connection_closed(shared, api, request_):
    before = {job["id"] for job in api.jobs(queue="default")}
    with Raw(shared.port) as raw:
        answer = raw.send(request_).finish_sending().answer()
        if answer is not None:
            assert 400 <= answer.status <= 505, answer
            assert answer.json["class"] == "user"
        assert raw.closed()
    assert {job["id"] for job in api.jobs(queue="default")} <= before


@pytest.mark.parametrize("cut", [1, 10, 30, 60, 90, -1])
def test_a_request_that_is_never_finished_changes_nothing(shared, api, cut):
    whole = request_bytes("POST", "/v1/jobs", {"type": "t", "queue": api.queue})
    with Raw(shared.port) as raw:
        raw.send(whole[:cut]).finish_sending()
        answer = raw.answer()
        assert answer is None or answer.json["class"] in ("user", "retryable")
        assert raw.closed()
    with Raw(shared.port) as raw:  # The same, without saying goodbye.
        raw.send(whole[:cut])
    assert api.jobs(queue=api.queue) == []


def test_a_request_may_come_in_single_bytes(shared, api):
    with Raw(shared.port) as raw:
        for byte in request_bytes("POST", "/v1/jobs", {"type": "t", "queue": api.queue}):
            raw.send(bytes([byte]))
        assert raw.answer().status == 201


def test_headers_over_the_limit_are_refused(shared):
    for headers in (b"X: " + b"x" * 1_000_000 + b"\r\n", b"".join(b"X%d: y\r\n" % n for n in range(50_000))):
        with Raw(shared.port) as raw:
            try:
                raw.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + headers + b"\r\n")
            except (BrokenPipeError, ConnectionResetError):
                pass  # It need not read all of it.
            try:
                answer = raw.answer()
            except OSError:
                answer = None
            if answer is not None:
                assert (answer.status, answer.code) == (431, "headers_too_large")
            assert raw.closed()


def test_a_long_path_is_refused(shared):
    with Raw(shared.port) as raw:
        answer = raw.send(b"GET /v1/jobs/" + b"x" * 4_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n").answer()
        assert answer.status in (400, 404, 414, 431)
    with Raw(shared.port) as raw:
        try:
            answer = raw.send(b"GET /" + b"x" * 500_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n").answer()
        except OSError:
            answer = None
        assert answer is None or answer.status in (414, 431)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/jobs/../queues",
        "/v1/./jobs",
        "/v1/jobs/%2e%2e/queues",
        "/v1/jobs/..%2f..%2fetc%2fpasswd",
        "/../../etc/passwd",
        "/v1/jobs/%00",
        "/v1/jobs/%",
        "/v1/jobs/%zz",
        "/v1/jobs/%c3%28",
        "/v1/jobs/%ff",
        "/v1/jobs/a%2Fb",
        "/v1%2Fjobs",
        "/%2fv1/jobs",
        "/v1/jobs;x=1",
        "/v1/jobs/?",
        "/v1/jobs//",
        "//",
        "*",
        "/v1/jobs/a?wait=%zz",
        "/v1/jobs?%zz=1",
        "/v1/jobs?limit",
        "/v1/jobs?=5",
        "/v1/jobs?limit=5&limit=6",
        "/v1/queues/..",
        "/v1/queues/%2e%2e/jobs",
    ],
)
def test_tricks_in_a_path_lead_nowhere(shared, path):
    with Raw(shared.port) as raw:
        answer = raw.send(request_bytes("GET", path)).answer()
        assert 400 <= answer.status < 500, answer
        assert answer.json["class"] == "user"


def test_a_target_in_absolute_form_is_understood(shared):
    with Raw(shared.port) as raw:
        assert raw.send(b"GET http://x/healthz HTTP/1.1\r\nHost: x\r\n\r\n").answer().status in (200, 400)


def test_pipelined_requests_are_answered_in_order(shared, api):
    requests, wanted = [], []
    for n in range(300):
        kind = n % 4
        if kind == 0:
            requests.append(
                request_bytes("POST", "/v1/jobs", {"type": "t", "queue": api.queue, "id": f"{api.queue}.{n}"})
            )
            wanted.append((201, f"{api.queue}.{n}"))
        elif kind == 1:
            requests.append(request_bytes("GET", f"/v1/jobs/{api.queue}.{n - 1}"))
            wanted.append((200, f"{api.queue}.{n - 1}"))
        elif kind == 2:
            requests.append(request_bytes("POST", "/v1/jobs", b"{"))
            wanted.append((400, None))
        else:
            requests.append(request_bytes("GET", "/nowhere"))
            wanted.append((404, None))
    with Raw(shared.port) as raw:
        raw.send(b"".join(requests))
        for status, id in wanted:
            answer = raw.answer()
            assert answer.status == status, answer
            if id is not None:
                assert answer.json["id"] == id


def test_a_pipelined_wait_does_not_overtake_or_block_for_ever(shared, api):
    with Raw(shared.port) as raw:
        raw.send(
            request_bytes("POST", "/v1/leases", {"queues": [api.queue], "wait": "30s"})
            + request_bytes("GET", "/healthz")
        )
        api.settle()
        id = api.enqueue_id()
        assert raw.answer().json["jobs"][0]["id"] == id
        assert raw.answer().status == 200


def memory_kib(pid):
    with open(f"/proc/{pid}/status") as status:
        return int(re.search(r"VmRSS:\s+(\d+) kB", status.read()).group(1))


def test_a_client_that_does_not_read_its_answers_holds_up_nobody(start):
    server = start()
    api = server.api(queue="q")
    id = api.enqueue_id(payload="x" * 300_000)
    before = memory_kib(server.process.pid)
    with Raw(server.port) as slow:
        slow.socket.settimeout(0.5)
        try:
            for _ in range(2_000):
                slow.send(request_bytes("GET", f"/v1/jobs/{id}"))
        except TimeoutError:
            pass  # The server reads no more from it: just so.
        for _ in range(50):
            api.enqueue()
        assert memory_kib(server.process.pid) - before < 100_000
        slow.socket.settimeout(DEADLINE)
        for _ in range(100):
            assert slow.answer().json["id"] == id


def test_random_damage_to_requests_never_stops_the_server(shared, api):
    seed = int(os.environ.get("WORKMILL_SEED", random.SystemRandom().randrange(2**32)))
    print(f"WORKMILL_SEED={seed}")
    chance = random.Random(seed)
    good = [
        request_bytes(
            "POST",
            "/v1/jobs",
            {
                "type": "t",
                "queue": api.queue,
                "delay": "1h",
                "tags": ["a"],
                "backoff": {"factor": 2},
                "payload": {"a": [1, "ü", None]},
                "unique": {"key": "k"},
                "meta": {},
            },
        ),
        request_bytes(
            "POST",
            "/v1/leases",
            {
                "queues": [api.queue, {"name": "b", "weight": 2}],
                "max": 3,
                "reports": [
                    {
                        "id": "x",
                        "lease": "00",
                        "outcome": "failed",
                        "error": {"class": "user", "code": "c", "message": "m"},
                    }
                ],
            },
        ),
        request_bytes(
            "POST", "/v1/reports", {"reports": [{"id": "x", "lease": "00", "outcome": "log", "lines": ["a"]}]}
        ),
        request_bytes("GET", f"/v1/jobs?queue={api.queue}&limit=3&q=%20a&state=ready"),
        request_bytes("PATCH", f"/v1/queues/{api.queue}", {"paused": False, "max_depth": None}),
    ]
    for _ in range(400):
        data = bytearray(chance.choice(good))
        for _ in range(chance.randrange(1, 5)):
            at = chance.randrange(len(data))
            what = chance.randrange(4)
            if what == 0:
                data[at] = chance.randrange(256)
            elif what == 1:
                del data[at : at + chance.randrange(1, 9)]
            elif what == 2:
                data[at:at] = chance.choice(
                    [b"{", b"[", b'"', b"\\", b"\r\n", b"9" * 30, b"\xff", b"\x00", b"%", b"null"]
                )
            else:
                data[at:at] = data[at : at + chance.randrange(1, 50)]
        with Raw(shared.port) as raw:
            raw.send(bytes(data)).finish_sending()
            while (answer := raw.answer()) is not None:
                assert answer.status < 500 or answer.code != "internal", (bytes(data), answer)
    assert shared.running()
    api.enqueue()


# ---- Starting.


def run_serve(*args, deadline=DEADLINE):
    done = subprocess.run([BINARY, "serve", *map(str, args)], capture_output=True, text=True, timeout=deadline)
    return done.returncode, done.stdout + done.stderr


def test_a_second_server_on_a_folder_is_refused_and_does_not_disturb_the_first(start):
    server = start()
    api = server.api(queue="q")
    id = api.enqueue_id()

    code, said = run_serve("--data", server.data, "--listen", f"127.0.0.1:{free_port()}")

    assert code not in (0, 2)
    assert "log_in_use" in said and str(server.data) in said, said
    assert api.lease_one()["id"] == id
    server.restart()
    assert api.exists(id)


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        code, said = run_serve("--data", folder, "--listen", f"127.0.0.1:{free_port()}")
        assert code not in (0, 2)
        assert str(folder) in said, said
    assert (tmp_path / "file").read_text() == "not a folder"


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, mount):
    folder = mount("size=64k", "ro")
    code, said = run_serve("--data", folder, "--listen", f"127.0.0.1:{free_port()}")
    assert code not in (0, 2)
    assert str(folder) in said, said
    assert "io_failed" in said or "ead-only" in said, said


def test_a_port_that_is_taken_is_refused(start, tmp_path):
    server = start()
    code, said = run_serve("--data", tmp_path / "other", "--listen", f"127.0.0.1:{server.port}")
    assert code not in (0, 2)
    assert str(server.port) in said and "in use" in said, said


@pytest.mark.parametrize(
    "args",
    [
        ["--listen", "nonsense"],
        ["--listen", "127.0.0.1:99999"],
        ["--durability", "perhaps"],
        ["--no-such-option"],
        ["--config", "/no/such/file"],
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path, args):
    code, said = run_serve("--data", tmp_path / "data", *args)
    assert code in (1, 2)
    assert args[0].removeprefix("--") in said or args[-1] in said, said


def test_listening_to_the_world_without_tokens_must_be_wanted(tmp_path):
    code, said = run_serve("--data", tmp_path / "data", "--listen", f"0.0.0.0:{free_port()}")
    assert code not in (0,)
    assert "--insecure" in said, said


# ---- Damage on the disk.


def flip(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 0x55]))


def find_in_segments(server, needle):
    for path in server.segments():
        at = path.read_bytes().find(needle)
        if at >= 0:
            return path, at
    raise AssertionError(f"{needle} stands in none of {server.segments()}")


def test_damage_before_the_tail_is_refused_and_says_where(start):
    server = start()
    api = server.api(queue="q")
    ids = [api.enqueue_id(payload=f"needle-{n}-in-a-haystack") for n in range(5)]
    server.kill()
    path, offset = find_in_segments(server, b"needle-1-in-a-haystack")
    flip(path, offset)
    before = path.read_bytes()

    server.spawn()
    code = server.wait_for_exit()

    said = server.log()
    assert code not in (0, 2)
    assert "log_corrupt" in said, said
    assert path.name in said, said
    numbers = [int(number) for number in re.findall(r"\b\d+\b", said[said.index("log_corrupt") :])]
    assert any(0 <= offset - number < 1_000 for number in numbers), f"no number near {offset} in: {said}"
    assert path.read_bytes() == before  # Nothing was "mended".

    flip(path, offset)
    server.start()
    assert all(api.exists(id) for id in ids)


@pytest.mark.parametrize("how", ["flip", "zeros", "garbage"])
def test_a_torn_tail_is_cut_and_reported(start, how):
    server = start()
    api = server.api(queue="q")
    kept = api.enqueue_id(payload="kept")
    api.enqueue_id(payload="torn-away-needle")
    server.kill()
    path, offset = find_in_segments(server, b"torn-away-needle")
    with open(path, "r+b") as file:  # As if the disk had written only a part of the last batch.
        file.seek(offset)
        rest = len(file.read().rstrip(b"\0"))
        file.seek(offset)
        file.write({"flip": b"T", "zeros": b"\0" * rest, "garbage": os.urandom(rest)}[how])
        file.seek(0, os.SEEK_END)
    said_before = len(server.log())

    server.start()

    assert api.job(kept)["payload"] == "kept"
    assert [job["id"] for job in api.jobs(queue="q")] == [kept]
    again = api.enqueue_id(payload="after")
    server.wait_for_log("a torn tail was cut off")
    server.kill()
    said = server.log()[said_before:]
    assert path.name in said or f'"segment":{int(path.stem)}' in said, said
    server.start()
    assert api.exists(kept) and api.exists(again)


def test_what_is_missing_after_an_orderly_end_was_lost_and_not_torn(start):
    server = start()
    api = server.api(queue="q")
    api.enqueue_id(payload="the-last-needle")
    server.stop()
    path, offset = find_in_segments(server, b"the-last-needle")
    flip(path, offset)

    server.spawn()

    assert server.wait_for_exit() not in (0, 2)
    assert "log_corrupt" in server.log()


def test_a_file_of_another_kind_among_the_segments_is_refused(start):
    server = start()
    server.api(queue="q").enqueue()
    server.stop()
    path = server.segments()[0]
    with open(path, "r+b") as file:
        file.write(b"this is no segment of anything, really")

    server.spawn()

    assert server.wait_for_exit() not in (0, 2)
    assert path.name in server.log()
    assert "log_corrupt" in server.log() or "log_version" in server.log()


# ---- A disk that fills up.


@pytest.fixture
def mount(tmp_path):
    """mount(options…) gives a folder on a file system of its own, in memory; needs the right to mount."""
    folders = []

    def make(*options):
        folder = tmp_path / f"mounted{len(folders)}"
        folder.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", folder], capture_output=True)
        if done.returncode != 0:
            pytest.skip("no right to mount a file system here")
        folders.append(folder)
        return folder

    yield make
    for folder in folders:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_disk_running_full_is_refused_ahead_of_time_and_work_goes_on(start, mount, config):
    """Small segments and a small reserve, so that a small disk shows what a large one does."""
    server = start(*config(segment_size="4MiB", disk_reserve="12MiB"), data=mount("size=48m") / "data")
    api = server.api(queue="q")
    held = None
    accepted = []
    for _ in range(200):
        answer = api.call("POST", "/v1/jobs", api.job_as_sent({"payload": "x" * 400_000}))
        if answer.status != 201:
            break
        accepted.append(answer.json["id"])
        if held is None:
            held = api.lease_one(lease="10m")
    assert answer.code == "disk_full", answer
    assert answer.json["class"] == "retryable"
    assert len(accepted) > 5
    assert api.call("GET", "/readyz").status == 503

    api.complete(held, result="done on a full disk")  # What frees space still passes.
    for id in accepted[1:]:
        api.call("DELETE", f"/v1/jobs/{id}", expect=(200, 204))
    assert api.job(accepted[0])["result"] == "done on a full disk"

    def taken():
        return api.call("POST", "/v1/jobs", api.job_as_sent({})).status == 201

    eventually(taken, "jobs are taken again once there is room")
    server.kill()
    server.start()
    assert api.job(accepted[0])["state"] == "completed"
    assert not any(api.exists(id) for id in accepted[1:])


def test_a_disk_that_is_full_after_all_ends_the_server_and_loses_nothing(start, mount, config):
    """Without a reserve a flush fails at last. Nobody knows then what is on the disk, so the process ends."""
    folder = mount("size=24m")
    server = start(*config(segment_size="4MiB", disk_reserve="0"), data=folder / "data")
    api = server.api(queue="q", checked=False)
    acknowledged = []
    try:
        for n in range(200):
            answer = api.call("POST", "/v1/jobs", api.job_as_sent({"payload": f"{n}" + "x" * 400_000}))
            if answer.status != 201:
                break
            acknowledged.append(answer.json["id"])
    except requests.RequestException:
        pass
    if not server.running() or answer.status == 201:
        assert server.wait_for_exit() not in (0, 2)
        assert "io_failed" in server.log() or "disk_full" in server.log()
    else:  # It saw it coming all the same.
        assert answer.code == "disk_full"
        server.kill()
    assert len(acknowledged) > 5

    subprocess.run(["mount", "-o", "remount,size=64m", folder], check=True)
    server.start()

    assert [job["id"] for job in api.jobs(queue="q")] == acknowledged[::-1]


# ---- Clients that are slow, and clients that are many.


def test_a_request_that_does_not_arrive_in_time_is_refused(start, config):
    server = start(*config(request_timeout="1s"))
    api = server.api(queue="q")
    whole = request_bytes("POST", "/v1/jobs", {"type": "t", "queue": "q"})
    for cut in (10, -1):  # In the head, and in the body.
        with Raw(server.port) as raw:
            answer = raw.send(whole[:cut]).answer()
            assert answer is None or (answer.status, answer.code) == (408, "request_timeout")
            assert raw.closed()
    assert api.jobs(queue="q") == []


def test_a_request_that_trickles_in_is_refused_in_the_end(start, config):
    """Each byte comes soon enough; all of them do not."""
    server = start(*config(request_timeout="1s"))
    with Raw(server.port) as raw:
        raw.socket.settimeout(0.1)

        def given_up():
            try:
                raw.send(b"x")
                return raw.socket.recv(1_000) is not None  # An answer, or the end.
            except TimeoutError:
                return False
            except OSError:
                return True

        raw.send(b"GET /")
        eventually(given_up, "the server gives up listening")


def test_an_idle_connection_is_closed_after_a_while(start, config):
    server = start(*config(idle_timeout="1s"))
    with Raw(server.port) as silent, Raw(server.port) as idle:
        idle.send(request_bytes("GET", "/healthz")).answer()
        assert silent.closed() and idle.closed()


def test_a_wait_is_not_idle(start, config):
    server = start(*config(idle_timeout="1s", request_timeout="1s", write_timeout="1s"))
    with Raw(server.port) as waiting, Raw(server.port) as silent:
        waiting.send(request_bytes("POST", "/v1/leases", {"queues": ["q"], "wait": "30s"}))
        assert silent.closed()  # As long as that it has waited by now.
        server.api(queue="q").enqueue()
        assert len(waiting.answer().json["jobs"]) == 1


def test_a_client_that_takes_no_answer_is_dropped(start, config):
    server = start(*config(write_timeout="1s"))
    api = server.api(queue="q")
    id = api.enqueue_id(payload="x" * 500_000)
    with Raw(server.port) as slow:
        slow.socket.settimeout(0.2)
        try:
            for _ in range(3_000):
                slow.send(request_bytes("GET", f"/v1/jobs/{id}"))
        except TimeoutError:
            pass

        def dropped():
            try:
                slow.socket.send(b"x")
                return False
            except TimeoutError:
                return False
            except OSError:
                return True

        eventually(dropped, "the connection is dropped")
    api.enqueue()


def test_connections_beyond_the_limit_are_turned_away_and_do_no_harm(start, config):
    server = start(*config(connections_max="20"))
    api = server.api(queue="q")
    open_ones = [Raw(server.port) for _ in range(60)]
    served = 0
    for raw in open_ones:
        try:
            answer = raw.send(request_bytes("GET", "/healthz")).answer()
        except OSError:
            answer = None
        if answer is not None and answer.status == 200:
            served += 1
        elif answer is not None:
            assert (answer.status, answer.code) == (503, "overloaded")
    assert 10 <= served <= 20
    for raw in open_ones:
        raw.socket.close()

    def works():
        try:
            return api.call("POST", "/v1/jobs", api.job_as_sent({})).status == 201
        except requests.RequestException:
            return False

    eventually(works, "there is room again")
