"""OpenTelemetry where it is installed: the trace goes from who enqueues through the server to the handler."""

from __future__ import annotations

import asyncio

import pytest

trace = pytest.importorskip("opentelemetry.trace")
sdk = pytest.importorskip("opentelemetry.sdk.trace")

from opentelemetry.sdk.trace.export import SimpleSpanProcessor  # noqa: E402
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter  # noqa: E402

from workmill import AsyncWorker, Worker  # noqa: E402


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
    assert f"{context.trace_id:032x}-{context.span_id:016x}" in fake.result(id)
    assert spans["process t"].parent.span_id == context.span_id
    assert spans["inside"].parent.span_id == spans["process t"].context.span_id
    assert spans["process t"].attributes["messaging.message.id"] == id


def test_a_failure_is_in_the_span(fake, exporter):
    worker = Worker(["q"])

    @worker.job("t")
    def handler(ctx):
        raise LookupError("lost")

    enqueue_in_span(fake, "t")
    fake.drain(worker)

    span = next(span for span in exporter.get_finished_spans() if span.name == "process t")
    assert not span.status.is_ok
    assert [event.name for event in span.events] == ["exception"]


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
