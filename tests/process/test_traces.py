"""Traces, as a receiver gets them (docs/tracing.md): one for a job's whole life, and a server that never waits for it."""

import json
import os
import re
import subprocess

import pytest
from harness import BINARY, eventually, free_port, requests_session, seconds_of
from otlp import Receiver
from test_tokens import new_token

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CLIENT_SPAN = "00f067aa0ba902b7"
TRACEPARENT = {"traceparent": f"00-{TRACE}-{CLIENT_SPAN}-01"}
SOON = {"OTEL_BSP_SCHEDULE_DELAY": "20"}


@pytest.fixture
def receiver():
    it = Receiver()
    yield it
    it.close()


def metric(server, name):
    text = requests_session().get(server.url + "/metrics", timeout=30).text
    return float(re.search(rf"^{name} (\S+)$", text, re.MULTILINE).group(1))


def by_start(spans):
    return sorted(spans, key=lambda span: span.start)


def test_one_trace_shows_an_enqueue_two_failed_attempts_and_success(start, receiver):
    server = start("--otlp-endpoint", receiver.url, env=SOON)
    api = server.api(queue="emails")
    sent = api.enqueue(type="welcome", payload={"to": "you"}, max_attempts=3, headers=TRACEPARENT)
    contexts = []
    for outcome in ("failed", "failed", "completed"):
        job = api.lease_one(worker="mailer-1")
        contexts.append(job["traceparent"])
        if outcome == "failed":
            api.fail(job, code="smtp_421", retry_in="10ms")
        else:
            api.complete(job)
    server.stop()

    spans = receiver.spans()
    assert {span.trace for span in spans} == {TRACE}
    assert {span.resource["service.name"] for span in spans} == {"workmill"}
    (request,) = [span for span in spans if span.name == "POST /v1/jobs"]
    (send,) = [span for span in spans if span.name == "send emails"]
    process = by_start(span for span in spans if span.name == "process emails")
    assert (request.parent, request.kind) == (CLIENT_SPAN, 2)
    assert (send.parent, send.kind) == (request.id, 4)
    assert send.attributes["messaging.system"] == "workmill"
    assert send.attributes["messaging.message.id"] == sent["id"]
    assert [(span.parent, span.kind) for span in process] == [(send.id, 5)] * 3
    assert [span.attributes["workmill.job.attempt"] for span in process] == [1, 2, 3]
    assert [span.attributes["workmill.job.outcome"] for span in process] == ["failed", "failed", "completed"]
    assert [span.attributes.get("error.type") for span in process] == ["smtp_421", "smtp_421", None]
    assert [span.failed for span in process] == [True, True, False]
    assert {span.attributes["messaging.client.id"] for span in process} == {"mailer-1"}
    # What the worker was given is the attempt's own span: its spans nest there.
    assert contexts == [f"00-{TRACE}-{span.id}-01" for span in process]
    settle = by_start(span for span in spans if span.attributes.get("messaging.operation.type") == "settle")
    assert [span.name for span in settle] == ["fail emails", "fail emails", "complete emails"]
    assert [span.parent for span in settle] == [span.id for span in process]
    for span in spans:
        assert send.start <= span.start <= span.end, span
    for earlier, later in zip(process, process[1:]):
        assert earlier.end <= later.start
    assert len(spans) == 8


def test_a_worker_that_is_traced_itself_is_linked_to_what_it_receives(start, receiver):
    server = start("--otlp-endpoint", receiver.url, env=SOON)
    api = server.api(queue="emails")
    api.enqueue(headers=TRACEPARENT)
    worker = {"traceparent": f"00-{'1' * 32}-{'2' * 16}-01"}
    job = api.post("/v1/leases", {"queues": ["emails"], "wait": "20s", "max": 1}, headers=worker)["jobs"][0]
    server.stop()

    (receive,) = receiver.spans_called("receive emails")
    assert receive.trace == "1" * 32
    (link,) = receive.links
    assert job["traceparent"] == f"00-{link['traceId']}-{link['spanId']}-01"


def test_what_is_not_sampled_costs_no_span(start, receiver):
    server = start("--otlp-endpoint", receiver.url, "--trace-sample", "0", env=SOON)
    api = server.api(queue="emails")
    unsampled = f"00-{TRACE}-{CLIENT_SPAN}-00"
    api.enqueue(headers={"traceparent": unsampled})
    api.enqueue()
    jobs = api.lease(max=2)
    assert sorted(job.get("traceparent", "") for job in jobs) == ["", unsampled]
    for job in jobs:
        api.complete(job)
    assert metric(server, "workmill_trace_spans_total") == 0
    server.stop()

    assert receiver.requests == []


def test_strangers_are_not_traced(start, receiver, tmp_path):
    data = tmp_path / "data"
    token = new_token(data, "one", "enqueue")
    server = start("--otlp-endpoint", receiver.url, "--trace-sample", "1", data=data, env=SOON)
    stranger, guesser = server.api(), server.api(token=token[:-1])
    for method, path in (("GET", "/v1/queues"), ("POST", "/v1/jobs"), ("GET", "/nowhere"), ("GET", "/healthz")):
        for api in (stranger, guesser):
            api.call(method, path, headers=TRACEPARENT)
    server.api(checked=False).call("OPTIONS", "/v1/jobs", headers=TRACEPARENT)
    server.api(token=token).post("/v1/jobs", {"type": "t", "queue": "q"}, headers=TRACEPARENT)
    server.api(token=token).refused("GET", "/v1/queues", headers=TRACEPARENT, code="forbidden")
    server.stop()

    assert sorted(span.name for span in receiver.spans()) == ["GET /v1/queues", "POST /v1/jobs", "send q"]


def test_without_a_trace_one_is_begun_as_the_ratio_says(start, receiver):
    server = start("--otlp-endpoint", receiver.url, "--trace-sample", "1", env=SOON)
    api = server.api(queue="emails")
    api.enqueue()
    api.complete(api.lease_one())
    server.stop()

    (root,) = receiver.spans_called("POST /v1/jobs")
    (process,) = receiver.spans_called("process emails")
    assert root.parent is None
    assert process.trace == root.trace


def test_an_attempt_goes_on_over_a_restart(start, receiver):
    server = start("--otlp-endpoint", receiver.url, env=SOON)
    api = server.api(queue="emails")
    api.enqueue(headers=TRACEPARENT)
    job = api.lease_one(worker="mailer-1")
    server.kill()
    server.start()
    started_at = api.job(job["id"])["started_at"]
    api.complete(job)
    server.stop()

    (process,) = receiver.spans_called("process emails")
    assert f"00-{TRACE}-{process.id}-01" == job["traceparent"]
    assert process.attributes["messaging.client.id"] == "mailer-1"
    assert process.start == round(seconds_of(started_at) * 1000) * 1_000_000


def test_a_command_of_the_worker_continues_the_trace(start, receiver, tmp_path):
    server = start("--otlp-endpoint", receiver.url, env=SOON)
    env = {**os.environ, "WORKMILL_URL": server.url, "TRACEPARENT": TRACEPARENT["traceparent"], "TRACESTATE": "a=b"}
    subprocess.run([BINARY, "enqueue", "--queue", "q", "welcome"], env=env, check=True, timeout=60, capture_output=True)
    seen = tmp_path / "seen"
    script = f'printf "%s %s" "$TRACEPARENT" "$TRACESTATE" >{seen}'
    work = [BINARY, "work", "--queue", "q", "--until-empty", "--", "sh", "-c", script]
    subprocess.run(work, env={**env, "TRACEPARENT": "", "TRACESTATE": ""}, check=True, timeout=60, capture_output=True)
    server.stop()

    (request,) = receiver.spans_called("POST /v1/jobs")
    (process,) = receiver.spans_called("process q")
    assert request.parent == CLIENT_SPAN
    assert seen.read_text() == f"00-{TRACE}-{process.id}-01 a=b"
    assert process.json["traceState"] == "a=b"


def test_batches_go_over_one_connection_with_the_headers_that_are_set(start, config, receiver):
    server = start(*config(otlp_endpoint=receiver.url, otlp_headers="x-token=s3cr%65t"), env=SOON)
    api = server.api(queue="emails")
    for batch in range(3):
        api.enqueue(headers=TRACEPARENT)
        eventually(lambda: len(receiver.requests) > batch, "a batch has come")
    server.stop()

    assert {path for path, _, _ in receiver.requests} == {"/v1/traces"}
    assert {headers["x-token"] for _, headers, _ in receiver.requests} == {"s3cret"}
    assert len({address for _, _, address in receiver.requests}) == 1
    assert "s3cret" not in server.log() and "s3cr%65t" not in server.log()


@pytest.mark.parametrize("status", [429, 503])
def test_a_receiver_that_is_busy_is_asked_again(start, receiver, status):
    receiver.answers += [(status, {"Retry-After": "1"}, b"{}")]
    server = start("--otlp-endpoint", receiver.url, env=SOON)
    server.api(queue="emails").enqueue(headers=TRACEPARENT)
    eventually(lambda: receiver.spans_called("send emails"), "the second attempt")

    assert metric(server, "workmill_trace_export_retries_total") >= 1
    assert metric(server, "workmill_trace_spans_failed_total") == 0


@pytest.mark.parametrize("status", [400, 500])
def test_a_receiver_that_refuses_is_not_asked_again(start, receiver, status):
    receiver.answers += [(status, {}, b'{"message":"no"}')] * 2
    server = start("--otlp-endpoint", receiver.url, env=SOON)
    server.api(queue="emails").enqueue(headers=TRACEPARENT)
    eventually(lambda: metric(server, "workmill_trace_spans_failed_total") == 2, "both spans are given up")

    assert metric(server, "workmill_trace_export_retries_total") == 0
    assert "a batch of spans was dropped" in server.final_log()


def test_spans_that_a_receiver_rejects_are_counted_and_its_words_logged(start, receiver):
    words = {"partialSuccess": {"rejectedSpans": "1", "errorMessage": "too old"}}
    receiver.answers += [(200, {}, json.dumps(words).encode())]
    server = start("--otlp-endpoint", receiver.url, env={"OTEL_BSP_SCHEDULE_DELAY": "200"})
    server.api(queue="emails").enqueue(headers=TRACEPARENT)
    eventually(lambda: metric(server, "workmill_trace_spans_failed_total") == 1, "the rejected span is counted")

    server.wait_for_log("too old")
    assert metric(server, "workmill_trace_export_retries_total") == 0


def test_a_receiver_that_hangs_holds_up_no_job_and_what_has_no_room_is_counted(start, receiver):
    receiver.gate.clear()
    env = {**SOON, "OTEL_BSP_MAX_QUEUE_SIZE": "8", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4"}
    env["OTEL_EXPORTER_OTLP_TIMEOUT"] = "100000"  # The first batch is under way as long as this takes.
    server = start("--otlp-endpoint", receiver.url, env=env)
    api = server.api(queue="emails")
    for _ in range(30):
        api.enqueue(headers=TRACEPARENT)
        api.complete(api.lease_one())

    # Four spans for each job; four are under way, eight wait.
    assert metric(server, "workmill_trace_spans_total") == 120
    assert metric(server, "workmill_trace_spans_dropped_total") >= 120 - 4 - 8
    assert metric(server, "workmill_trace_queue_spans") == metric(server, "workmill_trace_queue_spans_limit") == 8
    receiver.gate.set()
    server.stop()


def test_a_receiver_that_is_away_holds_up_neither_jobs_nor_the_end(start):
    server = start("--otlp-endpoint", f"http://127.0.0.1:{free_port()}", env=SOON)
    api = server.api(queue="emails")
    for _ in range(10):
        api.enqueue(headers=TRACEPARENT)
        api.complete(api.lease_one())
    assert metric(server, "workmill_trace_spans_exported_total") == 0

    assert "a batch of spans was dropped" in server.final_log()


@pytest.mark.parametrize("setting", [{"otlp_endpoint": "localhost:4318"}, {"otlp_endpoint": "http://localhost:4318?key=s3cret"}, {"otlp_endpoint": "http://"}, {"otlp_headers": "s3cret"}, {"trace_sample": "2"}, {"trace_sample": "all"}])
def test_settings_that_make_no_sense_are_refused(config, setting):
    run = subprocess.run([BINARY, "serve", *config(**setting)], capture_output=True, text=True, timeout=60)

    assert run.returncode == 2, run
    assert next(iter(setting)) in run.stderr and "s3cret" not in run.stderr, run.stderr


def test_variables_that_make_no_sense_are_warned_of_and_left_out(start, receiver):
    env = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
        "OTEL_EXPORTER_OTLP_HEADERS": "s3cret",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "abc",
        "OTEL_TRACES_SAMPLER": "traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": "7",
        "OTEL_BSP_MAX_QUEUE_SIZE": "-1",
    }
    server = start(env=SOON | env)
    log = server.wait_for_log("a variable was not followed", 4)
    assert "s3cret" not in log
    assert metric(server, "workmill_trace_queue_spans_limit") == 2048
