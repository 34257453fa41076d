"""What holds for every call: errors, unknown fields, names, times, headers."""

import re

import pytest

from harness import RFC3339_UTC_MS, Raw, request_bytes

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"


def test_a_problem_names_its_code_class_and_field(api):
    answer = api.call("POST", "/v1/jobs", {"type": "t", "priority": 10})

    problem = answer.json
    assert answer.headers["Content-Type"].split(";")[0] == "application/problem+json"
    assert problem["type"] == "/errors/invalid_field"
    assert (problem["code"], problem["class"], problem["field"]) == ("invalid_field", "user", "priority")
    assert problem["status"] == answer.status
    assert problem["title"] and problem["detail"]
    assert re.fullmatch("[0-9a-f]{32}", problem["trace_id"])


def test_a_problem_belongs_to_the_trace_of_its_request(api):
    answer = api.call("GET", "/v1/jobs/nope", headers={"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01"})
    assert answer.json["trace_id"] == TRACE_ID


def test_two_problems_have_two_traces(api):
    assert api.call("GET", "/v1/jobs/nope").json["trace_id"] != api.call("GET", "/v1/jobs/nope").json["trace_id"]


@pytest.mark.parametrize(
    "body, field",
    [
        ({"type": "t", "queu": "x"}, "queu"),
        ({"type": "t", "backoff": {"frist": "1s"}}, "backoff.frist"),
        ({"type": "t", "unique": {"key": "k", "until": "x"}}, "unique.until"),
        ({"jobs": [{"type": "t"}, {"type": "t", "Type": "t"}]}, "jobs[1].Type"),
        ({"jobs": [{"type": "t"}], "typ": 1}, "typ"),
        ({"type": "t", 'ü"\n': 1}, 'ü"\n'),
    ],
)
def test_unknown_fields_are_refused_by_name(api, body, field):
    api.refused("POST", "/v1/jobs", body, code="unknown_field", field=field)


@pytest.mark.parametrize(
    "fields, field",
    [
        ({"type": ""}, "type"),
        ({"type": "a b"}, "type"),
        ({"type": "x" * 129}, "type"),
        ({"type": 5}, "type"),
        ({"type": None}, "type"),
        ({"queue": "ü"}, "queue"),
        ({"queue": "a/b"}, "queue"),
        ({"queue": ""}, "queue"),
        ({"id": "a b"}, "id"),
        ({"id": "x" * 129}, "id"),
        ({"id": 7}, "id"),
        ({"priority": -1}, "priority"),
        ({"priority": 10}, "priority"),
        ({"priority": 2.5}, "priority"),
        ({"priority": "5"}, "priority"),
        ({"priority": 10**30}, "priority"),
        ({"priority": True}, "priority"),
        ({"delay": "soon"}, "delay"),
        ({"delay": "-1s"}, "delay"),
        ({"delay": "1m2h"}, "delay"),
        ({"delay": "1.5s"}, "delay"),
        ({"delay": 30}, "delay"),
        ({"delay": "99999999999d"}, "delay"),
        ({"delay": ""}, "delay"),
        ({"run_at": "2030-01-01"}, "run_at"),
        ({"run_at": "2030-01-01T00:00:00"}, "run_at"),
        ({"run_at": "2030-02-30T00:00:00Z"}, "run_at"),
        ({"run_at": "yesterday"}, "run_at"),
        ({"run_at": 0}, "run_at"),
        ({"expires_in": "x"}, "expires_in"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"max_attempts": 10_001}, "max_attempts"),
        ({"backoff": 5}, "backoff"),
        ({"backoff": {"first": "x"}}, "backoff.first"),
        ({"backoff": {"factor": 0.5}}, "backoff.factor"),
        ({"backoff": {"jitter": 1.5}}, "backoff.jitter"),
        ({"backoff": {"first": "1h", "cap": "1s"}}, "backoff.cap"),
        ({"lease": "10ms"}, "lease"),
        ({"lease": "8d"}, "lease"),
        ({"unique": "k"}, "unique"),
        ({"unique": {"key": ""}}, "unique.key"),
        ({"unique": {"key": "x" * 257}}, "unique.key"),
        ({"unique": {"key": "k", "while": "ever"}}, "unique.while"),
        ({"unique": {"key": "k", "for": "?"}}, "unique.for"),
        ({"group": "a b"}, "group"),
        ({"tags": "x"}, "tags"),
        ({"tags": ["ok", "not ok"]}, "tags[1]"),
        ({"tags": [1]}, "tags[0]"),
        ({"tags": [f"t{n}" for n in range(21)]}, "tags"),
        ({"keep_result": "x"}, "keep_result"),
        ({"meta": []}, "meta"),
        ({"meta": "text"}, "meta"),
        ({"payload_base64": "?"}, "payload_base64"),
        ({"payload_base64": 1}, "payload_base64"),
        ({"payload": 1, "payload_base64": "AA=="}, "payload_base64"),
    ],
)
def test_a_field_that_makes_no_sense_is_refused_by_name(api, fields, field):
    api.refused("POST", "/v1/jobs", {"type": "t", "queue": api.queue, **fields}, code="invalid_field", field=field)
    assert api.jobs(queue=api.queue) == []


@pytest.mark.parametrize(
    "body, field",
    [
        ({}, "type"),
        ({"queue": "q"}, "type"),
        ({"jobs": [{"type": "a"}, {}]}, "jobs[1].type"),
        ({"type": "t", "unique": {"while": "queued"}}, "unique.key"),
    ],
)
def test_a_missing_field_is_named(api, body, field):
    api.refused("POST", "/v1/jobs", body, code="missing_field", field=field)


@pytest.mark.parametrize("name", ["a", "Z9", "a.b_c:d-e", "x" * 128, "-", "..", "0"])
def test_names_are_made_of_what_the_contract_says(api, name):
    id = api.post("/v1/jobs", {"type": name, "queue": api.queue, "group": name, "tags": [name]}, expect=201)["id"]
    assert api.job(id)["type"] == name


@pytest.mark.parametrize(
    "written, read",
    [
        ("250ms", "250ms"),
        ("30s", "30s"),
        ("5m", "5m"),
        ("1h30m", "1h30m"),
        ("7d", "7d"),
        ("90s", "1m30s"),
        ("3600s", "1h"),
    ],
)
def test_durations_are_texts(api, written, read):
    assert api.job(api.enqueue_id(keep_result=written))["keep_result"] == read


def test_times_are_rfc3339_in_utc_with_milliseconds(api):
    id = api.enqueue_id()
    ready = api.job(id)
    leased = api.lease_one()
    api.complete(leased)
    job = api.job(id)
    for time in (
        ready["ready_at"],
        job["created_at"],
        job["started_at"],
        job["finished_at"],
        leased["lease_expires_at"],
    ):
        assert RFC3339_UTC_MS.fullmatch(time)


def test_a_path_that_is_not_there_is_not_found(api):
    for path in (
        "/v1",
        "/v1/",
        "/v1/job",
        "/v2/jobs",
        "/v1/jobs/",
        "/v1/queues/q/job",
        "/V1/jobs",
        "/v1/jobs/a/b/c",
        "/v1//jobs",
        "/favicon.ico",
    ):
        api.refused("GET", path, code="not_found")


def test_a_method_that_a_path_does_not_have_is_answered_with_those_it_has(api):
    for method, path, allowed in (
        ("DELETE", "/v1/jobs", {"GET", "POST"}),
        ("GET", "/v1/leases", {"POST"}),
        ("PUT", "/v1/reports", {"POST"}),
        ("POST", "/healthz", {"GET"}),
        ("POST", "/v1/jobs/x", {"GET", "PATCH", "DELETE"}),
    ):
        answer = api.call(method, path)
        assert (answer.status, answer.code) == (405, "method_not_allowed"), answer
        assert allowed <= {word.strip() for word in answer.headers["Allow"].split(",")}


@pytest.mark.parametrize(
    "type",
    [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON",
        "application/x-www-form-urlencoded",
        "text/plain",
    ],
)
def test_a_body_is_json_whatever_its_type_says(api, type):
    """`curl -d` says of anything that it is a form."""
    api.call("POST", "/v1/jobs", api.job_as_sent({}), headers={"Content-Type": type}, expect=201)


def test_a_compressed_body_is_not_understood(api):
    api.refused("POST", "/v1/jobs", data=b"{}", headers={"Content-Encoding": "gzip"}, code="unsupported_media_type")


@pytest.mark.parametrize("type", ["application/x-www-form-urlencoded", "text/plain", ""])
def test_a_web_page_cannot_make_a_browser_send_jobs(api, type):
    """These are the bodies that browsers send across sites unasked. They always say where from."""
    headers = {"Origin": "http://somewhere.example", "Content-Type": type}
    api.refused("POST", "/v1/jobs", data=b'{"type":"t"}', headers=headers, code="unsupported_media_type")
    headers = {"Sec-Fetch-Site": "cross-site", "Content-Type": type}
    api.refused("POST", "/v1/jobs", data=b'{"type":"t"}', headers=headers, code="unsupported_media_type")


def test_a_body_without_a_content_type_is_read_as_json(shared, api):
    with Raw(shared.port) as raw:
        body = b'{"type":"t","queue":"%s"}' % api.queue.encode()
        raw.send(b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        assert raw.answer().status == 201


def test_answers_are_json_and_not_cached(api):
    answer = api.call("GET", f"/v1/jobs/{api.enqueue_id()}")
    assert answer.headers["Content-Type"].split(";")[0] == "application/json"
    assert "max-age" not in answer.headers.get("Cache-Control", "")


def test_a_connection_is_kept_open_unless_asked_otherwise(shared):
    with Raw(shared.port) as raw:
        for _ in range(3):
            assert raw.send(request_bytes("GET", "/healthz")).answer().status == 200
        answer = raw.send(request_bytes("GET", "/healthz", headers=["Connection: close"])).answer()
        assert answer.status == 200
        assert answer.headers["Connection"].lower() == "close"
        assert raw.closed()


def test_http_1_0_is_answered_and_closed(shared):
    with Raw(shared.port) as raw:
        assert raw.send(b"GET /healthz HTTP/1.0\r\n\r\n").answer().status == 200
        assert raw.closed()


def test_a_body_in_chunks_is_read(shared, api):
    body = b'{"type":"t","queue":"%s"}' % api.queue.encode()
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(body[n : n + 7]), body[n : n + 7]) for n in range(0, len(body), 7))
    with Raw(shared.port) as raw:
        raw.send(b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n")
        assert raw.answer().status == 201
        assert raw.send(request_bytes("GET", "/healthz")).answer().status == 200
    assert api.depth()["ready"] == 1


def test_a_client_that_asks_whether_to_send_its_body_is_told_to(shared, api):
    body = b'{"type":"t","queue":"%s"}' % api.queue.encode()
    with Raw(shared.port) as raw:
        raw.send(b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
        assert raw.answer().status == 100
        assert raw.send(body).answer().status == 201


def test_escapes_in_a_path_and_query_are_understood(api):
    id = api.enqueue_id(id=f"{api.queue}:a", tags=["x:y"])
    assert api.job(id.replace(":", "%3A"))["id"] == id
    page = api.call("GET", f"/v1/jobs?queue={api.queue}&tag=x%3Ay", expect=200).json
    assert [job["id"] for job in page["items"]] == [id]


# ---- Around it.


def test_the_server_is_alive_and_ready(api):
    assert api.call("GET", "/healthz").status == 200
    assert api.call("GET", "/readyz").status == 200


def test_the_status_tells_version_uptime_and_limits(api):
    status = api.get("/v1/status")
    assert re.match(r"\d+\.\d+\.\d+", status["version"])
    assert status["uptime"]


def test_metrics_are_in_prometheus_text_form(api):
    api.enqueue()
    api.complete(api.lease_one())
    answer = api.call("GET", "/metrics", expect=200)

    assert answer.headers["Content-Type"].startswith("text/plain")
    assert "version=0.0.4" in answer.headers["Content-Type"]
    lines = answer.body.decode().split("\n")
    assert lines[-1] == ""
    sample = re.compile(r'([a-zA-Z_:][a-zA-Z0-9_:]*)(\{([a-zA-Z_][a-zA-Z0-9_]*="(\\["\\n]|[^"\\])*",?)*\})? (\S+)')
    families, seen = {}, set()
    for line in lines[:-1]:
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in families, f"{name} twice"
            families[name] = kind
        elif not line.startswith("#"):
            match = sample.fullmatch(line)
            assert match, line
            float(match.group(5))
            assert (match.group(1), match.group(2)) not in seen, f"twice: {line}"
            seen.add((match.group(1), match.group(2)))
            base = re.sub(r"_(bucket|sum|count)$", "", match.group(1))
            assert match.group(1) in families or families.get(base) == "histogram", line
            assert match.group(1).startswith(("workmill_", "process_")), line
    assert all(name.endswith("_total") for name, kind in families.items() if kind == "counter")
    assert any(f'"{api.queue}"' in line for line in lines), "metrics by queue"
