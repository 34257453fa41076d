"""How a handler is run, and what becomes of what it returns or raises: the same in a worker and in a test's drain()."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
from typing import Any, Dict, Mapping, Optional, Sequence

from . import _otel, _reports
from ._context import AsyncJobContext, JobContext
from ._errors import WorkmillError
from ._handlers import Handler

logger = logging.getLogger("workmill")


class Held:
    """A job that this worker has, until the server has decided its last report."""

    __slots__ = (
        "job",
        "is_done",
        "is_lost",
        "is_cancelled",
        "is_extending",
        "extended_at",
        "task",
        "_event",
        "_cache",
    )

    def __init__(self, job: Mapping[str, Any], now: float) -> None:
        self.job = job
        self.is_done = False  # Its last report is made.
        self.is_lost = False  # The server has given it to somebody else.
        self.is_cancelled = False
        self.is_extending = False
        self.extended_at = now
        self.task: Optional[asyncio.Task[None]] = None
        self._event: Optional[threading.Event] = None
        self._cache: Optional[Dict[str, bytes]] = None  # What its report sets, by key; most handlers set nothing.

    def cache(self, key: str, entry: bytes) -> None:
        """For any thread."""
        with _events_lock:
            entries = {**(self._cache or {}), key: entry}
            _reports.check_cache(entries)
            self._cache = entries

    def cached(self) -> Sequence[bytes]:
        """For the job's report."""
        return () if self._cache is None else list(self._cache.values())

    def event(self) -> threading.Event:
        """Set when it is cancelled. For any thread; made late, since most handlers never ask."""
        with _events_lock:
            if self._event is None:
                self._event = threading.Event()
                if self.is_cancelled:
                    self._event.set()
            return self._event

    def cancel(self) -> None:
        with _events_lock:
            self.is_cancelled = True
            if self._event is not None:
                self._event.set()


_events_lock = threading.Lock()


class Runner:
    """Runs handlers. Who inherits it says what becomes of that which they tell."""

    def tell(self, held: Held, data: bytes, waiter: Optional[concurrent.futures.Future[None]] = None) -> None:
        """For any thread: a report that does not end its job. `waiter` hears what the server says to it."""
        raise NotImplementedError

    def run_function(self, held: Held, handler: Handler, context: JobContext) -> bytes:
        """Runs a plain function, in this thread or another. Returns the report on it."""
        job = held.job
        try:
            if _otel.is_wanted(job):
                with _otel.span(job):
                    result = handler(context)
            else:
                result = handler(context)
            return _reports.completed(job, result, held.cached())
        except (Exception, SystemExit) as error:  # An exit ends the handler, and not the worker.
            return self.failed(held, error)

    def failed(self, held: Held, error: BaseException) -> bytes:
        if not held.is_cancelled:
            extra = {"job_id": held.job["id"], "job_type": held.job["type"], "attempt": held.job["attempt"]}
            is_expected = isinstance(error, WorkmillError)
            logger.warning("a handler failed: %s", error, exc_info=None if is_expected else error, extra=extra)
        return _reports.failed(held.job, error, held.is_cancelled)

    async def run_coroutine(self, held: Held, handler: Handler, context: AsyncJobContext) -> bytes:
        """The same for a coroutine function."""
        job = held.job
        try:
            if _otel.is_wanted(job):
                with _otel.span(job):
                    result = await handler(context)
            else:
                result = await handler(context)
            return _reports.completed(job, result, held.cached())
        except (Exception, SystemExit, asyncio.CancelledError) as error:
            return self.failed(held, error)
