"""What a handler gets: its job, and what it can say while it works."""

from __future__ import annotations

import asyncio
import concurrent.futures
from typing import Any, Dict, List, Mapping, Optional, Sequence

from . import _reports
from ._errors import Cancelled
from ._held import Held, Teller
from ._models import value_of
from ._time import DurationLike


class BaseContext:
    """The job, and what can be asked and told without waiting. Made by a worker, for one attempt."""

    def __init__(self, teller: Teller, held: Held) -> None:
        self._teller = teller
        self._held = held

    @property
    def job(self) -> Mapping[str, Any]:
        """The job as the server sent it."""
        return self._held.job

    @property
    def id(self) -> str:
        return str(self._held.job["id"])

    @property
    def type(self) -> str:
        return str(self._held.job["type"])

    @property
    def queue(self) -> str:
        return str(self._held.job["queue"])

    @property
    def payload(self) -> Any:
        """JSON, or bytes where the job was sent with bytes."""
        return value_of(self._held.job, "payload")

    @property
    def attempt(self) -> int:
        """1 for the first."""
        return int(self._held.job["attempt"])

    @property
    def max_attempts(self) -> int:
        return int(self._held.job["max_attempts"])

    @property
    def meta(self) -> Dict[str, Any]:
        return dict(self._held.job.get("meta") or {})

    @property
    def tags(self) -> List[str]:
        return list(self._held.job.get("tags") or ())

    @property
    def batch(self) -> Optional[str]:
        """The batch that the job was put into; None: into none."""
        return self._held.job.get("batch")

    @property
    def traceparent(self) -> Optional[str]:
        return self._held.job.get("traceparent")

    @property
    def last_checkpoint(self) -> Any:
        """What the last attempt that called checkpoint() has saved; None where none did."""
        return self._held.job.get("checkpoint")

    @property
    def cancelled(self) -> bool:
        """Whether the handler should stop: the job was cancelled, its lease is lost, or the worker has to go."""
        return self._held.is_cancelled

    def check(self) -> None:
        """Raises Cancelled if the handler should stop. To be called now and then in long loops."""
        if self._held.is_cancelled:
            raise Cancelled()

    def progress(self, percent: float, message: str = "") -> None:
        """How far it is, 0 to 100. Sent soon, with other reports; does not wait."""
        self._teller.tell(self._held, _reports.progress(self._held.job, percent, message))

    def log(self, *lines: str) -> None:
        """Lines for the job's log, which Client.log() shows. Sent soon; does not wait."""
        for first in range(0, len(lines), 1_000):
            self._teller.tell(self._held, _reports.log(self._held.job, lines[first : first + 1_000]))

    def cache(
        self,
        key: str,
        value: Any,
        *,
        fresh: Optional[DurationLike] = None,
        stale: Optional[DurationLike] = None,
        tags: Sequence[str] = (),
        content_type: Optional[str] = None,
    ) -> None:
        """Sets a key of the cache, as Client.cache.put() does, together with the job's completion: both are durable, or
        neither. Nothing is set where the attempt fails. Of a key's values the last counts; 100 keys a job at most.
        Raises ValueError or TypeError where the value is no JSON; UserError for a key, tag, time or content type that the
        server would refuse, and where the value, or all that was set, is too large (`payload_too_large`)."""
        self._held.cache(key, _reports.cache_entry(key, value, fresh, stale, tags, content_type))


class JobContext(BaseContext):
    """For plain functions. All of it may be called from any thread."""

    def __init__(self, teller: Teller, held: Held, is_inline: bool) -> None:
        super().__init__(teller, held)
        self._is_inline = is_inline

    def checkpoint(self, data: Any) -> None:
        """Saves `data` (any JSON, 1 MiB at most) with the job, for the next attempt. Returns when it is durable. Raises
        LeaseLost where the job is no longer this worker's; TypeError or ValueError where `data` is no JSON; UserError
        where it is too large."""
        if self._is_inline:
            raise RuntimeError("an inline handler cannot wait: register it without inline=True to use checkpoints")
        done: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._teller.tell(self._held, _reports.checkpoint(self._held.job, data), done)
        done.result()

    def wait_cancelled(self, timeout: Optional[float] = None) -> bool:
        """Sleeps for `timeout` seconds, and wakes early where the handler should stop. Returns `cancelled`."""
        if self._is_inline:
            raise RuntimeError("an inline handler cannot wait: register it without inline=True")
        return self._held.event().wait(timeout)


class AsyncJobContext(BaseContext):
    """For coroutine functions. They are cancelled (asyncio.CancelledError) where they should stop."""

    async def checkpoint(self, data: Any) -> None:
        """As JobContext.checkpoint."""
        done: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._teller.tell(self._held, _reports.checkpoint(self._held.job, data), done)
        await asyncio.wrap_future(done)
