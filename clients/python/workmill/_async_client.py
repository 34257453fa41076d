"""The client for asyncio: the methods of Client, to be awaited."""

from __future__ import annotations

import asyncio
import copy
import ssl
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Dict,
    Iterable,
    List,
    Mapping,
    Optional,
    Sequence,
    Type,
    TypeVar,
    Union,
)

from . import _calls, _otel
from ._batches import AsyncBatches
from ._cache import AsyncCache
from ._calls import Bulk, Bulks, Call, Page, QueueChoice
from ._client import job_of, result_of
from ._errors import WorkmillError
from ._hooks import AsyncEnqueueHook, hooked_async
from ._http import CONNECT_TIMEOUT, CONNECTIONS_MAX, REQUEST_TIMEOUT, WAITS_MAX, Address, headers_for, token_from
from ._http_async import AsyncHttpTransport, AsyncTransport, CallOff
from ._models import Enqueued, Job, JobOptions, Leased, NewJob, Queue, Reported
from ._retry import Attempts, RetryPolicy
from ._time import DurationLike, duration_seconds
from ._wait import Wait, is_wait

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar("T")
OneJob = Union[NewJob, Mapping[str, Any]]
Jobs = Union[Iterable[OneJob], AsyncIterable[OneJob]]


class AsyncClient:
    """Client for asyncio; see there. It belongs to the event loop that it is first used in.

    on_enqueue: hooks may be coroutine functions, too.
    """

    def __init__(
        self,
        url: Optional[str] = None,
        *,
        token: Optional[str] = None,
        retry: Optional[RetryPolicy] = None,
        timeout: DurationLike = REQUEST_TIMEOUT,
        connections: int = CONNECTIONS_MAX,
        connect_timeout: DurationLike = CONNECT_TIMEOUT,
        tls: Optional[ssl.SSLContext] = None,
        tracing: bool = True,
        on_enqueue: Sequence[AsyncEnqueueHook] = (),
        transport: Optional[AsyncTransport] = None,
    ) -> None:
        if connections < 1:
            raise ValueError("connections is 1 or more")
        address, connecting = Address.parse(url, tls), duration_seconds(connect_timeout)
        self._transport: AsyncTransport = transport or AsyncHttpTransport(address, connections, connecting)
        self._for_waits: AsyncTransport = transport or AsyncHttpTransport(address, WAITS_MAX, connecting)
        self._headers = headers_for(address, token_from(token))
        self._retry = retry if retry is not None else RetryPolicy()
        self._timeout = duration_seconds(timeout)
        self._tracing = tracing
        self._on_enqueue = tuple(on_enqueue)

    async def close(self) -> None:
        """Closes the connections that are idle."""
        await self._transport.close()
        await self._for_waits.close()

    async def __aenter__(self: C) -> C:
        return self

    async def __aexit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        await self.close()

    def with_options(self: C, *, timeout: Optional[DurationLike] = None, retry: Optional[RetryPolicy] = None) -> C:
        other = copy.copy(self)
        if timeout is not None:
            other._timeout = duration_seconds(timeout)
        if retry is not None:
            other._retry = retry
        return other

    async def _run(self, call: Call[T]) -> T:
        attempts = Attempts(self._retry)
        while True:
            try:
                return await self._try(call)
            except WorkmillError as error:
                answer_instead = _calls.settled(call, error, attempts)
                if answer_instead is not None:
                    return answer_instead()
                pause = attempts.pause_after(error, call.is_repeatable)
                if pause is None:
                    raise
            await asyncio.sleep(pause)

    async def _try(self, call: Call[T], call_off: Optional[CallOff] = None) -> T:
        """Once. `call_off`: see AsyncTransport."""
        headers = {**self._headers, **call.headers}
        transport = self._for_waits if call.wait > 0 else self._transport
        timeout = self._timeout + call.wait
        answer = await transport.request(call.method, call.path, headers, call.body, timeout, call_off)
        return _calls.read(call, answer)

    def _traced(self, call: Call[T]) -> Call[T]:
        """With the current trace's context, which each of its attempts carries."""
        if self._tracing:
            _otel.inject(call.headers)
        return call

    # ---- Enqueue.

    async def enqueue(
        self, type: str, payload: Any = None, *, idempotency_key: Optional[str] = None, **options: Unpack[JobOptions]
    ) -> Enqueued:
        return await self.enqueue_job(job_of(type, payload, options), idempotency_key=idempotency_key)

    async def enqueue_job(
        self, job: Union[NewJob, Mapping[str, Any]], *, idempotency_key: Optional[str] = None
    ) -> Enqueued:
        sent = await hooked_async(job, self._on_enqueue)
        with _otel.sending(_calls.queue_of(sent), 1, self._tracing) as done:
            answer = await self._run(self._traced(_calls.enqueue(sent, idempotency_key)))
            done(answer.id)
        return answer

    async def enqueue_many(self, jobs: Jobs, *, idempotency_key: Optional[str] = None) -> List[Enqueued]:
        """As Client has it; the jobs may also come from an asynchronous iterator."""
        answers: List[Enqueued] = []
        try:
            async for bulk in self._bulks(jobs, idempotency_key):
                with _otel.sending(bulk.queue, len(bulk.items), self._tracing), _calls.counting(answers):
                    several = await self._run(self._traced(bulk.call()))
                answers += several
        except Exception as error:
            _calls.tell_of_all(error, answers)
            raise
        return answers

    async def _bulks(self, jobs: Jobs, key: Optional[str]) -> AsyncIterator[Bulk]:
        bulks = Bulks(key)
        async for job in _each(jobs):
            full = bulks.add(await hooked_async(job, self._on_enqueue))
            if full is not None:
                yield full
        last = bulks.rest()
        if last is not None:
            yield last

    # ---- The cache.

    @property
    def cache(self) -> AsyncCache:
        return AsyncCache(self, lambda job: hooked_async(job, self._on_enqueue))

    # ---- Batches.

    @property
    def batches(self) -> AsyncBatches:
        return AsyncBatches(self, lambda job: hooked_async(job, self._on_enqueue))

    # ---- Jobs.

    async def get(self, id: str) -> Job:
        return await self._run(_calls.get(id))

    async def wait(self, id: str, timeout: Optional[DurationLike] = None) -> Job:
        if not is_wait(timeout):
            return await self.get(id)
        wait: Wait[Job] = Wait(timeout, self._retry)
        while True:
            try:
                job = await self._try(_calls.get(id, wait.next_poll()))
                if job.finished:
                    return job
                pause = wait.pause_after(job)
            except WorkmillError as error:
                pause = wait.pause_after_error(error)
            if pause is None:
                return wait.last_answer()
            await asyncio.sleep(pause)

    async def result(self, id: str, timeout: Optional[DurationLike] = None) -> Any:
        return result_of(await self.wait(id, timeout))

    async def cancel(self, id: str) -> None:
        await self._run(_calls.act(id, "cancel"))

    async def retry(self, id: str) -> None:
        await self._run(_calls.act(id, "retry"))

    async def delete(self, id: str) -> None:
        await self._run(_calls.delete(id))

    async def change(self, id: str, **changes: Any) -> Job:
        return await self._run(_calls.change(id, changes))

    async def log(self, id: str) -> List[str]:
        return await self._run(_calls.log(id))

    def jobs(
        self,
        *,
        queue: Optional[str] = None,
        state: Optional[str] = None,
        type: Optional[str] = None,
        tag: Optional[str] = None,
        group: Optional[str] = None,
        batch: Optional[str] = None,
        q: Optional[str] = None,
        page: int = 100,
    ) -> AsyncIterator[Job]:
        where = {"queue": queue, "state": state, "type": type, "tag": tag, "group": group, "batch": batch, "q": q}
        return self._pages(lambda cursor: _calls.jobs_page(where, page, cursor))

    async def retry_all(self, **where: str) -> int:
        return await self._run(_calls.bulk("retry", where))

    async def cancel_all(self, **where: str) -> int:
        return await self._run(_calls.bulk("cancel", where))

    async def delete_all(self, **where: str) -> int:
        return await self._run(_calls.bulk("delete", where))

    # ---- Queues.

    def queues(self, *, page: int = 100) -> AsyncIterator[Queue]:
        return self._pages(lambda cursor: _calls.queues_page(page, cursor))

    async def queue(self, name: str) -> Queue:
        return await self._run(_calls.queue(name))

    async def change_queue(self, name: str, **changes: Any) -> Queue:
        return await self._run(_calls.change_queue(name, changes))

    async def pause(self, name: str) -> Queue:
        return await self.change_queue(name, paused=True)

    async def resume(self, name: str) -> Queue:
        return await self.change_queue(name, paused=False)

    async def purge(self, name: str, state: Optional[str] = None) -> int:
        return await self._run(_calls.purge(name, state))

    # ---- Work, by hand. AsyncWorker does all this.

    async def lease(
        self,
        queues: Sequence[QueueChoice],
        *,
        max: int = 1,
        wait: DurationLike = 0,
        lease: DurationLike = 60,
        worker: Optional[str] = None,
    ) -> List[Leased]:
        return await self._run(_calls.lease(queues, max, wait, lease, worker))

    async def report(self, reports: Sequence[Mapping[str, Any]]) -> List[Reported]:
        return await self._run(_calls.report(reports))

    async def status(self) -> Dict[str, Any]:
        return await self._run(_calls.status())

    async def _pages(self, call: Callable[[Optional[str]], Call[Page[T]]]) -> AsyncIterator[T]:
        cursor: Optional[str] = None
        while True:
            items, cursor = await self._run(call(cursor))
            for item in items:
                yield item
            if cursor is None:
                return


C = TypeVar("C", bound=AsyncClient)


async def _each(jobs: Jobs) -> AsyncIterator[OneJob]:
    if isinstance(jobs, AsyncIterable):
        async for job in jobs:
            yield job
    else:
        for job in jobs:
            yield job
