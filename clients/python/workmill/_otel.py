"""OpenTelemetry context in and out, where the user has `opentelemetry-api` installed. Without it all of this is
nothing."""

from __future__ import annotations

import contextlib
from typing import Any, Callable, ContextManager, Dict, Iterator, Mapping, Optional

from ._errors import WorkmillError, shown

try:
    from opentelemetry import context, propagate, trace
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode
except ImportError:
    _is_installed = False
else:
    _is_installed = True


def inject(headers: Dict[str, str]) -> None:
    """Puts the current span's traceparent (and what else the user's propagators carry) into a request's headers."""
    if _is_installed:
        propagate.inject(headers)


def is_wanted(job: Mapping[str, Any]) -> bool:
    """Whether there is anything to do for this job: so that an untraced one costs next to nothing."""
    return _is_installed and ("traceparent" in job or _is_set_up())


def _is_set_up() -> bool:
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


# Takes the id of the job that was sent, where it is one.
Sent = Callable[[Optional[str]], None]


def sending(queue: str, count: int, is_wanted: bool) -> ContextManager[Sent]:
    """Around an enqueue of so many jobs: a span of kind PRODUCER, which a request that is made inside of it carries on.
    An exception that passes is recorded in it."""
    if is_wanted and _is_installed and _is_set_up():
        return _sending(queue, count)
    return contextlib.nullcontext(_ignore)


def _ignore(_: Optional[str]) -> None:
    pass


@contextlib.contextmanager
def _sending(queue: str, count: int) -> Iterator[Sent]:
    attributes = _about("send", queue)
    if count > 1:
        attributes["messaging.batch.message_count"] = count
    with _started(f"send {queue}", SpanKind.PRODUCER, attributes) as current:
        yield lambda id: None if id is None else current.set_attribute("messaging.message.id", id)


def _about(operation: str, queue: str) -> Dict[str, Any]:
    """As the semantic conventions for messaging have it."""
    return {
        "messaging.system": "workmill",
        "messaging.operation.name": operation,
        "messaging.operation.type": operation,
        "messaging.destination.name": queue,
    }


@contextlib.contextmanager
def _started(name: str, kind: SpanKind, attributes: Mapping[str, Any]) -> Iterator[Span]:
    tracer = trace.get_tracer("workmill")
    with tracer.start_as_current_span(
        name, kind=kind, attributes=attributes, record_exception=False, set_status_on_exception=False
    ) as current:
        try:
            yield current
        except Exception as error:
            what = shown(error.code) if isinstance(error, WorkmillError) else type(error).__name__
            current.set_attribute("error.type", what)
            with contextlib.suppress(Exception):  # One that cannot be shown stays what it is.
                current.record_exception(error)
            current.set_status(Status(StatusCode.ERROR, shown(error)))
            raise


@contextlib.contextmanager
def span(job: Mapping[str, Any]) -> Iterator[None]:
    """Around a handler: a span under that of the enqueue. An exception that passes is recorded in it."""
    carrier = {name: str(job[name]) for name in ("traceparent", "tracestate") if name in job}
    attributes = {
        **_about("process", job["queue"]),
        "messaging.message.id": job["id"],
        "workmill.job.type": job["type"],
        "workmill.job.attempt": job["attempt"],
    }
    token = context.attach(propagate.extract(carrier))
    try:
        with _started(f"process {job['queue']}", SpanKind.CONSUMER, attributes):
            yield
    finally:
        context.detach(token)
