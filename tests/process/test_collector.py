"""Traces through the real OpenTelemetry collector, which reads OTLP as its makers do (docs/tracing.md). What a receiver
may do besides is in test_traces.py, which needs no collector."""

import json

import pytest
import requests
from collector import Collector
from otlp import Receiver
from harness import eventually
from test_traces import CLIENT_SPAN, SOON, TRACE, TRACEPARENT, by_start, metric

pytestmark = pytest.mark.collector
GZIP = {"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip"}


@pytest.fixture
def behind():
    """Where the collector sends on what it has taken."""
    it = Receiver()
    yield it
    it.close()


@pytest.fixture
def collector(behind, tmp_path):
    made = []

    def make(**options):
        made.append(Collector(behind, tmp_path / "collector.log", **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


def fail_twice_then_succeed(api, **fields):
    api.enqueue(type="welcome", payload={"to": "you"}, max_attempts=3, headers=TRACEPARENT, **fields)
    for outcome in ("failed", "failed", "completed"):
        job = api.lease_one(worker="mailer-1")
        if outcome == "failed":
            api.fail(job, code="smtp_421", retry_in="10ms")
        else:
            api.complete(job)


@pytest.mark.parametrize("env", [{}, GZIP], ids=["plain", "gzip"])
def test_one_trace_from_enqueue_over_two_failures_to_success(start, config, collector, behind, env):
    it = collector(header=("x-token", "s3cret"))
    server = start(*config(otlp_endpoint=it.url, otlp_headers="x-token=s3cr%65t"), env=SOON | env)
    fail_twice_then_succeed(server.api(queue="emails"))
    eventually(lambda: metric(server, "workmill_trace_spans_exported_total") == 8, "the collector has taken all")

    assert metric(server, "workmill_trace_spans_failed_total") == 0
    assert metric(server, "workmill_trace_export_retries_total") == 0
    # It answers with "partialSuccess": {}, which is no rejection.
    assert "did not take all" not in server.final_log()
    spans = behind.spans()
    assert len(spans) == 8 and {span.trace for span in spans} == {TRACE}
    assert {span.resource["service.name"] for span in spans} == {"workmill"}
    (request,) = [span for span in spans if span.name == "POST /v1/jobs"]
    (send,) = [span for span in spans if span.name == "send emails"]
    process = by_start(span for span in spans if span.name == "process emails")
    assert (request.parent, send.parent) == (CLIENT_SPAN, request.id)
    assert [(span.parent, span.kind) for span in process] == [(send.id, 5)] * 3
    assert [span.attributes["workmill.job.attempt"] for span in process] == [1, 2, 3]
    assert [span.attributes["workmill.job.outcome"] for span in process] == ["failed", "failed", "completed"]
    assert [span.failed for span in process] == [True, True, False]
    settle = by_start(span for span in spans if span.attributes.get("messaging.operation.type") == "settle")
    assert [(span.name, span.parent) for span in settle] == [
        ("fail emails", process[0].id),
        ("fail emails", process[1].id),
        ("complete emails", process[2].id),
    ]


def test_one_trace_from_a_batch_over_the_failures_of_its_job_to_its_callback(start, collector, behind):
    it = collector()
    server = start("--otlp-endpoint", it.url, env=SOON)
    api = server.api(queue="emails")
    after = {"type": "summary", "queue": "after", "max_attempts": 2}
    api.post("/v1/batches", {"id": "b", "on_success": after}, headers=TRACEPARENT)
    fail_twice_then_succeed(api, batch="b")
    api.call("POST", "/v1/batches/b/close", expect=200)  # By somebody who is not traced.
    seen = metric(server, "workmill_trace_spans_total")
    eventually(lambda: metric(server, "workmill_trace_spans_exported_total") == seen, "what there is so far has gone")
    server.kill()  # The trace is in the log, with the callback.
    server.start()
    first = api.lease_one(queues=["after"], worker="closer-1")
    api.fail(first, code="busy", retry_in="10ms")
    second = api.lease_one(queues=["after"], worker="closer-1")
    api.complete(second)
    eventually(lambda: len(behind.spans_called("complete after")) == 1, "the callback's end comes through")
    server.stop()

    spans = behind.spans()
    assert {span.trace for span in spans} == {TRACE}
    (made,) = behind.spans_called("POST /v1/batches")
    attempts = by_start(behind.spans_called("process after"))
    assert (made.parent, made.attributes["http.response.status_code"]) == (CLIENT_SPAN, 201)
    assert [(span.parent, span.attributes["workmill.job.outcome"]) for span in attempts] == [
        (made.id, "failed"),
        (made.id, "completed"),
    ]
    assert {span.attributes["messaging.message.id"] for span in attempts} == {first["id"], second["id"]}
    assert first["id"] == second["id"]
    # What its worker was given is the attempt's own span.
    assert [job["traceparent"] for job in (first, second)] == [f"00-{TRACE}-{span.id}-01" for span in attempts]
    assert by_start(behind.spans_called("process emails"))[-1].end <= attempts[0].start


def test_without_the_header_that_the_collector_wants_spans_are_refused_and_counted(start, collector, behind):
    it = collector(header=("x-token", "s3cret"))
    server = start("--otlp-endpoint", it.url, env=SOON)
    server.api(queue="emails").enqueue(headers=TRACEPARENT)
    eventually(lambda: metric(server, "workmill_trace_spans_failed_total") == 2, "the spans are given up")

    assert metric(server, "workmill_trace_export_retries_total") == 0
    assert '"status":401' in server.final_log()
    assert behind.spans() == []


def test_links_events_and_every_attribute_come_through_as_they_were_sent(start, collector, behind):
    direct, it = Receiver(), collector()
    try:
        sent = {}
        for receiver, seen in ((direct, direct), (it, behind)):
            server = start("--otlp-endpoint", receiver.url, env=SOON | {"OTEL_RESOURCE_ATTRIBUTES": "a=%C3%A4"})
            api = server.api(queue="emails")
            api.enqueue(id="the-job", headers=TRACEPARENT)
            worker = {"traceparent": f"00-{'1' * 32}-{'2' * 16}-01"}
            api.post("/v1/leases", {"queues": ["emails"], "wait": "20s", "max": 1}, headers=worker)
            server.stop()
            sent[receiver] = sorted((span.name, span.kind, len(span.links), span.resource["a"], sorted(span.attributes))
                                    for span in seen.spans())
    finally:
        direct.close()
    assert sent[direct] == sent[it]
    assert [links for name, _, links, _, _ in sent[it] if name == "receive emails"] == [1]


def test_what_the_collector_cannot_pass_on_is_tried_again_and_what_it_refuses_is_not(start, collector, behind):
    behind.answers += [(503, {}, b"{}"), (200, {}, b"{}"), (400, {}, b"{}")]
    server = start("--otlp-endpoint", collector().url, env=SOON | {"OTEL_BSP_SCHEDULE_DELAY": "500"})
    api = server.api(queue="emails")
    api.enqueue(headers=TRACEPARENT)
    eventually(lambda: metric(server, "workmill_trace_spans_exported_total") == 2, "the second attempt")
    assert metric(server, "workmill_trace_export_retries_total") == 1

    api.enqueue(headers=TRACEPARENT)
    eventually(lambda: metric(server, "workmill_trace_spans_failed_total") == 2, "the refused batch is given up")
    assert metric(server, "workmill_trace_export_retries_total") == 1
    assert metric(server, "workmill_trace_spans_exported_total") == 2


def test_of_spans_that_the_collector_s_next_rejects_it_says_nothing_and_they_count_as_taken(start, collector, behind):
    words = {"partialSuccess": {"rejectedSpans": "1", "errorMessage": "too old"}}
    behind.answers += [(200, {}, json.dumps(words).encode())]
    it = collector()
    server = start("--otlp-endpoint", it.url, env=SOON | {"OTEL_BSP_SCHEDULE_DELAY": "500"})
    server.api(queue="emails").enqueue(headers=TRACEPARENT)
    eventually(lambda: metric(server, "workmill_trace_spans_exported_total") == 2, "both spans count as taken")

    assert metric(server, "workmill_trace_spans_failed_total") == 0
    assert "too old" in it.log_path.read_text() and "too old" not in server.final_log()


def test_while_the_collector_is_away_jobs_go_on_drops_are_counted_and_later_spans_arrive(start, collector, behind):
    it = collector()
    env = SOON | {"OTEL_BSP_MAX_QUEUE_SIZE": "8", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4"}
    server = start("--otlp-endpoint", it.url, env=env)
    api = server.api(queue="emails")
    fail_twice_then_succeed(api)
    eventually(lambda: metric(server, "workmill_trace_spans_exported_total") == 8, "the first job's spans")

    it.stop()
    for _ in range(30):
        api.enqueue(headers=TRACEPARENT)
        api.complete(api.lease_one())
    # Four spans for each job; four are under way, eight wait.
    assert metric(server, "workmill_trace_spans_total") == 128
    assert metric(server, "workmill_trace_spans_dropped_total") >= 120 - 4 - 8
    it.start()
    # The batch that was under way is sent at last.
    eventually(lambda: metric(server, "workmill_trace_spans_exported_total") >= 12, "spans arrive again")
    assert metric(server, "workmill_trace_export_retries_total") >= 1
    eventually(lambda: metric(server, "workmill_trace_queue_spans") == 0, "the queue is empty")
    api.enqueue(id="afterwards", headers=TRACEPARENT)
    server.stop()

    of_jobs = [span.attributes.get("messaging.message.id") for span in behind.spans_called("send emails")]
    assert "afterwards" in of_jobs
    assert len({span.id for span in behind.spans()}) == len(behind.spans())  # None of them twice.


def test_a_collector_that_is_away_at_the_end_does_not_hold_it_up(start, collector):
    it = collector()
    server = start("--otlp-endpoint", it.url, env=SOON)
    api = server.api(queue="emails")
    fail_twice_then_succeed(api)
    it.stop()
    fail_twice_then_succeed(api)

    assert "a batch of spans was dropped" in server.final_log()


def test_the_collector_itself_refuses_what_is_no_otlp(collector):
    """So that what the tests above show is the collector's word, and not that it takes anything."""
    it = collector()
    for body in (b"{", b'{"resourceSpans": 7}', b'{"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "xyz"}]}]}]}'):
        answer = requests.post(it.url + "/v1/traces", body, headers={"Content-Type": "application/json"}, timeout=30)
        assert answer.status_code == 400, (body, answer.text)
