"""OpenTelemetry context in and out, where the user has `opentelemetry-api` installed. Without it all of this is
nothing."""

from __future__ import annotations

import contextlib
from typing import Any, Dict, Iterator, Mapping

try:
    from opentelemetry import context, propagate, trace
    from opentelemetry.trace import SpanKind, Status, StatusCode
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
    return _is_installed and (
        "traceparent" in job or not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    )


@contextlib.contextmanager
def span(job: Mapping[str, Any]) -> Iterator[None]:
    """Around a handler: a span under that of the enqueue. An exception that passes is recorded in it."""
    carrier = {name: str(job[name]) for name in ("traceparent", "tracestate") if name in job}
    attributes: Dict[str, Any] = {
        "messaging.system": "workmill",
        "messaging.operation.type": "process",
        "messaging.destination.name": job["queue"],
        "messaging.message.id": job["id"],
        "workmill.job.type": job["type"],
        "workmill.job.attempt": job["attempt"],
    }
    token = context.attach(propagate.extract(carrier))
    try:
        with trace.get_tracer("workmill").start_as_current_span(
            f"process {job['type']}", kind=SpanKind.CONSUMER, attributes=attributes, set_status_on_exception=False
        ) as current:
            try:
                yield
            except Exception as error:
                current.set_status(Status(StatusCode.ERROR, type(error).__name__))
                raise
    finally:
        context.detach(token)
