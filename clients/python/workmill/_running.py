"""How a handler is run, and what becomes of what it returns or raises: the same in a worker and in a test's drain()."""

from __future__ import annotations

import asyncio
import logging

from . import _otel, _reports
from ._context import AsyncJobContext, JobContext
from ._errors import WorkmillError, shown
from ._handlers import Handler
from ._held import Held, Teller
from ._settings import Settings

logger = logging.getLogger("workmill")


class Runner(Teller):
    """Runs handlers. Who inherits it says what becomes of that which they tell."""

    settings: Settings

    def run_function(self, held: Held, handler: Handler, context: JobContext) -> bytes:
        """Runs a plain function, in this thread or another. Returns the report on it."""
        job = held.job
        try:
            if self.settings.tracing and _otel.is_wanted(job):
                with _otel.span(job):
                    result = handler(context)
            else:
                result = handler(context)
            return _reports.completed(job, result, held.cached())
        except (Exception, SystemExit) as error:  # An exit ends the handler, and not the worker.
            return self.failed(held, error)

    def failed(self, held: Held, error: BaseException) -> bytes:
        if not held.is_cancelled:
            job = held.job
            extra = {"job_id": job["id"], "job_type": job["type"], "attempt": job["attempt"]}
            attempt = f"{job['attempt']} of {job['max_attempts']}"
            logger.warning(
                "%s %s failed in attempt %s: %s",
                job["type"],
                job["id"],
                attempt,
                shown(error),
                exc_info=None if isinstance(error, WorkmillError) else error,
                extra=extra,
            )
        return _reports.failed(held.job, error, held.is_cancelled)

    async def run_coroutine(self, held: Held, handler: Handler, context: AsyncJobContext) -> bytes:
        """The same for a coroutine function."""
        job = held.job
        try:
            if self.settings.tracing and _otel.is_wanted(job):
                with _otel.span(job):
                    result = await handler(context)
            else:
                result = await handler(context)
            return _reports.completed(job, result, held.cached())
        except (Exception, SystemExit, asyncio.CancelledError) as error:
            return self.failed(held, error)
