"""The cache of a client: values under keys, that jobs compute where they are missing. `client.cache` is one."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Awaitable, Callable, List, Mapping, Optional, Protocol, Sequence, TypeVar, Union

from . import _calls
from ._calls import Call
from ._errors import CachePending, WorkmillError
from ._models import Cached, NewJob
from ._retry import RetryPolicy
from ._time import DurationLike
from ._wait import Wait, is_wait

T = TypeVar("T")
Hooked = Callable[[Union[NewJob, Mapping[str, Any]]], Mapping[str, Any]]
HookedAsync = Callable[[Union[NewJob, Mapping[str, Any]]], Awaitable[Mapping[str, Any]]]

WAIT = 30.0  # Seconds that get_or_compute() waits, where it is not told otherwise.


class Runs(Protocol):
    """Of a client: makes a call, and again where that is worth it; or once."""

    _retry: RetryPolicy

    def _run(self, call: Call[T]) -> T: ...

    def _try(self, call: Call[T]) -> T: ...

    def _traced(self, call: Call[T]) -> Call[T]: ...


class RunsAsync(Protocol):
    _retry: RetryPolicy

    async def _run(self, call: Call[T]) -> T: ...

    async def _try(self, call: Call[T]) -> T: ...

    def _traced(self, call: Call[T]) -> Call[T]: ...


class Cache:
    """What a server caches, for all clients. Safe for several threads, as the client is.

    A key is any text of 1 to 512 bytes without control characters. A value is any JSON, or bytes: 8 MiB at most. It is
    `fresh` for so long, and then for `stale` longer it is still given, while one job computes it anew.
    """

    def __init__(self, client: Runs, hooked: Hooked, waits: bool = True) -> None:
        self._client = client
        self._hooked = hooked
        self._waits = waits

    def get(self, key: str) -> Optional[Cached]:
        """What is there, fresh or stale; None where nothing is."""
        return self._client._run(_calls.cache_get(key))

    def put(
        self,
        key: str,
        value: Any,
        *,
        fresh: Optional[DurationLike] = None,
        stale: Optional[DurationLike] = None,
        tags: Sequence[str] = (),
        content_type: Optional[str] = None,
    ) -> str:
        """Sets it, durably, and returns its ETag. Bytes are kept as they are, and text is with a `content_type`; all
        else, and text without, is JSON. fresh: 1m by default. stale: nothing by default."""
        return self._client._run(_calls.cache_put(key, value, fresh, stale, tags, content_type))

    def get_or_compute(
        self,
        key: str,
        job: Union[NewJob, Mapping[str, Any]],
        *,
        fresh: Optional[DurationLike] = None,
        stale: Optional[DurationLike] = None,
        wait: DurationLike = WAIT,
        error_for: Optional[DurationLike] = None,
        tags: Sequence[str] = (),
    ) -> Cached:
        """What is there; else what `job`, as enqueue_job() takes it, gives as its result, which is then there for all.

        However many ask for a key that is missing, one job runs, and all get its result. A stale value is returned at
        once, while one job refreshes it. Restarts of the server change nothing of this: as long as there is time, errors
        that are worth it are tried again, whatever the client's `retry` says.

        Raises CachePending where the job is not done after `wait` (0: it is not waited for; ask again later). Where the
        job fails for good and no stale value is left: an error of the class of the job's, with the code
        `compute_failed`, which is not tried again here, since the job has been. `error_for`: for so long all who ask
        get that error, and no further job runs.
        """
        call = computing(self._hooked(job), key, fresh, stale, error_for, tags)
        if not (self._waits and is_wait(wait)):
            return computed(self._client._run(self._client._traced(call(0))))
        waiting: Wait[CachePending] = Wait(wait, self._client._retry)
        while True:
            try:
                answer = self._client._try(self._client._traced(call(waiting.next_poll())))
                if isinstance(answer, Cached):
                    return answer
                pause = waiting.pause_after(answer)
            except WorkmillError as error:
                pause = waiting.pause_after_error(error)
            if pause is None:
                raise waiting.last_answer()
            time.sleep(pause)

    def delete(self, key: str) -> bool:
        """Forgets the value. Returns whether there was one; True also where an attempt's answer was lost."""
        return self._client._run(_calls.cache_delete(key))

    def delete_by_tag(self, tag: str) -> int:
        """Forgets all values with this tag. Returns how many."""
        return self._client._run(_calls.cache_delete_by("tag", tag))

    def delete_by_prefix(self, prefix: str) -> int:
        """Forgets all values whose keys begin so. Returns how many."""
        return self._client._run(_calls.cache_delete_by("prefix", prefix))


class AsyncCache:
    """Cache for asyncio; see there."""

    def __init__(self, client: RunsAsync, hooked: HookedAsync, waits: bool = True) -> None:
        self._client = client
        self._hooked = hooked
        self._waits = waits

    async def get(self, key: str) -> Optional[Cached]:
        return await self._client._run(_calls.cache_get(key))

    async def put(
        self,
        key: str,
        value: Any,
        *,
        fresh: Optional[DurationLike] = None,
        stale: Optional[DurationLike] = None,
        tags: Sequence[str] = (),
        content_type: Optional[str] = None,
    ) -> str:
        return await self._client._run(_calls.cache_put(key, value, fresh, stale, tags, content_type))

    async def get_or_compute(
        self,
        key: str,
        job: Union[NewJob, Mapping[str, Any]],
        *,
        fresh: Optional[DurationLike] = None,
        stale: Optional[DurationLike] = None,
        wait: DurationLike = WAIT,
        error_for: Optional[DurationLike] = None,
        tags: Sequence[str] = (),
    ) -> Cached:
        call = computing(await self._hooked(job), key, fresh, stale, error_for, tags)
        if not (self._waits and is_wait(wait)):
            return computed(await self._client._run(self._client._traced(call(0))))
        waiting: Wait[CachePending] = Wait(wait, self._client._retry)
        while True:
            try:
                answer = await self._client._try(self._client._traced(call(waiting.next_poll())))
                if isinstance(answer, Cached):
                    return answer
                pause = waiting.pause_after(answer)
            except WorkmillError as error:
                pause = waiting.pause_after_error(error)
            if pause is None:
                raise waiting.last_answer()
            await asyncio.sleep(pause)

    async def delete(self, key: str) -> bool:
        return await self._client._run(_calls.cache_delete(key))

    async def delete_by_tag(self, tag: str) -> int:
        return await self._client._run(_calls.cache_delete_by("tag", tag))

    async def delete_by_prefix(self, prefix: str) -> int:
        return await self._client._run(_calls.cache_delete_by("prefix", prefix))


# ---- Shared by both.


def computing(
    job: Mapping[str, Any],
    key: str,
    fresh: Optional[DurationLike],
    stale: Optional[DurationLike],
    error_for: Optional[DurationLike],
    tags: Sequence[str],
) -> Callable[[float], Call[Union[Cached, CachePending]]]:
    """The call, for each time that it may wait."""
    listed: List[str] = list(tags)
    return lambda wait: _calls.cache_compute(key, job, fresh, stale, error_for, listed, wait)


def computed(answer: Union[Cached, CachePending]) -> Cached:
    """Where nobody waits any longer."""
    if isinstance(answer, Cached):
        return answer
    raise answer
