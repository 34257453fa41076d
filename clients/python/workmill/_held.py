"""A job that is being worked on, and the seam through which its handler tells the server of it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from typing import Any, Dict, Mapping, Optional, Sequence

from . import _reports


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


class Teller:
    """Who passes on what a handler says while it works."""

    def tell(self, held: Held, data: bytes, waiter: Optional[concurrent.futures.Future[None]] = None) -> None:
        """For any thread: a report that does not end its job. `waiter` hears what the server says to it."""
        raise NotImplementedError
