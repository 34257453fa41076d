"""OpenTelemetry where it is installed: the trace goes from who enqueues through the server to the handler."""

from __future__ import annotations

import asyncio

import pytest

trace = pytest.importorskip("opentelemetry.trace")
sdk = pytest.importorskip("opentelemetry.sdk.trace")

from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: E402
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: E402

from workmill import AsyncWorker, CachePending, UserError, Worker  # noqa: E402


@pytest.fixture(scope="module")
def _exporter():
    exporter = InMemorySpanExporter()
    provider = sdk.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture
def exporter(_exporter):
    _exporter.clear()
    return _exporter


def enqueue_in_span(fake, type):
    with trace.get_tracer("test").start_as_current_span("request") as span:
        return fake.enqueue(type, queue="q", max_attempts=1).id, span.get_span_context()


def test_a_handler_runs_in_the_trace_of_its_enqueue(fake, exporter):
    worker = Worker(["q"])

    @worker.job("t")
    def handler(ctx):
        with trace.get_tracer("test").start_as_current_span("inside"):
            return ctx.traceparent

    id, context = enqueue_in_span(fake, "t")
    fake.drain(worker)

    spans = {span.name: span for span in exporter.get_finished_spans()}
    send, process, inside = spans["send q"], spans["process q"], spans["inside"]
    assert f"{context.trace_id:032x}-{send.context.span_id:016x}" in fake.result(id)
    assert [send.kind, process.kind] == [trace.SpanKind.PRODUCER, trace.SpanKind.CONSUMER]
    assert send.parent.span_id == context.span_id
    assert process.parent.span_id == send.context.span_id
    assert inside.parent.span_id == process.context.span_id
    assert send.attributes["messaging.message.id"] == process.attributes["messaging.message.id"] == id


def test_a_failure_is_in_the_span(fake, exporter):
    worker = Worker(["q"])

    @worker.job("t")
    def handler(ctx):
        raise LookupError("lost")

    enqueue_in_span(fake, "t")
    fake.drain(worker)

    span = next(span for span in exporter.get_finished_spans() if span.name == "process q")
    assert (span.status.is_ok, span.status.description) == (False, "lost")
    assert span.attributes["error.type"] == "LookupError"
    assert [event.name for event in span.events] == ["exception"]


def test_an_enqueue_that_fails_and_one_of_several_show_so_in_their_spans(fake, exporter):
    with pytest.raises(UserError):
        fake.enqueue("t", queue="q", priority=77)
    fake.enqueue_many([{"type": "t", "queue": "q"}, {"type": "t", "queue": "other"}])

    failed, several = exporter.get_finished_spans()
    assert (failed.name, failed.status.is_ok, failed.attributes["error.type"]) == ("send q", False, "invalid_field")
    assert (several.name, several.attributes["messaging.batch.message_count"]) == ("send q", 2)


def test_a_job_that_computes_a_cached_value_is_in_the_trace_of_who_asks(fake, exporter):
    with trace.get_tracer("test").start_as_current_span("request") as span:
        with pytest.raises(CachePending) as pending:
            fake.cache.get_or_compute("k", {"type": "t"})

    assert format(span.get_span_context().trace_id, "032x") in fake.get(pending.value.job_id).traceparent


def test_where_it_is_not_wanted_nothing_is_traced(fake, exporter):
    fake._tracing = False
    worker = Worker(["q"], tracing=False)
    worker.job("t")(lambda ctx: ctx.traceparent)

    with trace.get_tracer("test").start_as_current_span("request"):
        one = fake.enqueue("t", queue="q").id
        (several,) = fake.enqueue_many([{"type": "t", "queue": "q"}])
        with pytest.raises(CachePending):
            fake.cache.get_or_compute("k", {"type": "t", "queue": "q"})

    assert fake.drain(worker) == 3
    assert [fake.result(one), fake.result(several.id)] == [None, None]
    assert fake.cache.get("k").value is None
    assert [span.name for span in exporter.get_finished_spans()] == ["request"]


def test_an_asynchronous_enqueue_is_a_span_too_and_its_trace_goes_on(fake, exporter):
    async def enqueue():
        client = fake.async_client()
        with trace.get_tracer("test").start_as_current_span("request"):
            one = await client.enqueue("t", queue="q")
            return [one, *await client.enqueue_many([{"type": "t", "queue": "q"}])]

    jobs = [fake.get(job.id) for job in asyncio.run(enqueue())]

    *sends, request = exporter.get_finished_spans()
    assert [span.name for span in sends] == ["send q", "send q"]
    for job, span in zip(jobs, sends):
        assert span.parent.span_id == request.context.span_id
        assert f"{span.context.trace_id:032x}-{span.context.span_id:016x}" in job.traceparent


def test_a_coroutine_runs_in_the_trace_too(fake, exporter):
    worker = AsyncWorker(["q"])

    @worker.job("t")
    async def handler(ctx):
        await asyncio.sleep(0)
        return format(trace.get_current_span().get_span_context().trace_id, "032x")

    id, context = enqueue_in_span(fake, "t")
    fake.drain(worker)

    assert fake.result(id) == f"{context.trace_id:032x}"


def test_what_a_handler_enqueues_is_in_the_same_trace(fake, exporter):
    worker = Worker(["q"])
    made = []
    worker.job("t")(lambda ctx: made.append(fake.enqueue("next", queue="other").id))

    _, context = enqueue_in_span(fake, "t")
    fake.drain(worker)

    assert f"{context.trace_id:032x}" in fake.get(made[0]).traceparent
