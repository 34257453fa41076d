"""For the tests of programs that use Workmill: a server in memory, and drain(), which runs queued jobs at once.

fake = FakeWorkmill()
sign_up(fake, "ada@example.org")        # the code under test; it takes a Client
fake.drain(worker)                      # the worker with the real handlers, not running
assert fake.result(id) == "sent"
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import datetime
from typing import Any, Callable, Coroutine, Dict, List, Mapping, Optional, Sequence, Union

from . import _json, _reports
from ._async_client import AsyncClient
from ._calls import Answer
from ._client import Client
from ._context import AsyncJobContext, JobContext
from ._errors import from_problem
from ._cache import AsyncCache, Cache
from ._fake_problem import Problem
from ._fake_server import FakeServer
from ._handlers import TASK, Handler
from ._held import Held
from ._http_async import CallOff
from ._hooks import AsyncEnqueueHook, EnqueueHook, hooked, hooked_async
from ._models import Job
from ._retry import RetryPolicy
from ._time import DurationLike, duration_seconds
from ._running import Runner
from ._worker import AsyncWorker, Worker

DRAIN_MAX = 100_000  # Attempts of one drain(): a job that enqueues itself ends nowhere else.


class _Transport:
    def __init__(self, server: FakeServer) -> None:
        self._server = server

    def request(
        self, method: str, path: str, headers: Mapping[str, str], body: Optional[bytes], timeout: float
    ) -> Answer:
        return self._server.request(method, path, headers, body)

    def close(self) -> None:
        pass


class _AsyncTransport:
    def __init__(self, server: FakeServer) -> None:
        self._server = server

    async def request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: Optional[bytes],
        timeout: float,
        call_off: Optional[CallOff] = None,
    ) -> Answer:
        return self._server.request(method, path, headers, body)

    async def close(self) -> None:
        pass


class FakeWorkmill(Client):
    """A Client whose server is in memory. The same methods, errors, unique keys, priorities, delays and retries;
    backoff has no jitter here. Time stands still until advance(). wait(), result() and cache.get_or_compute() do not
    wait: nothing could happen meanwhile, so they look at the job as it is. Cached values live as long as they are told
    to, without jitter and early refreshes."""

    def __init__(self, *, now: Optional[datetime.datetime] = None, on_enqueue: Sequence[EnqueueHook] = ()) -> None:
        self._server = FakeServer(now)
        super().__init__(
            "http://in.memory",
            token="",
            retry=RetryPolicy(first=0, cap=0),
            on_enqueue=on_enqueue,
            transport=_Transport(self._server),
        )

    def async_client(self, *, on_enqueue: Sequence[AsyncEnqueueHook] = ()) -> AsyncClient:
        """An AsyncClient of the same server. on_enqueue: hooks of its own, which come after those of the fake, and may be
        coroutine functions."""
        return _FakeAsyncClient(
            "http://in.memory",
            token="",
            retry=RetryPolicy(first=0, cap=0),
            on_enqueue=[*self._on_enqueue, *on_enqueue],
            transport=_AsyncTransport(self._server),
        )

    def wait(self, id: str, timeout: Optional[DurationLike] = None) -> Job:
        return self.get(id)

    @property
    def cache(self) -> Cache:
        return Cache(self, lambda job: hooked(job, self._on_enqueue), waits=False)

    @property
    def now(self) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(self._server.now, datetime.timezone.utc)

    def advance(self, by: DurationLike) -> None:
        """Turns the clock: delayed jobs become ready, leases run out."""
        self._server.advance(duration_seconds(by))

    def refuse(
        self, times: int = 1, *, status: int = 503, code: str = "overloaded", error_class: str = "retryable"
    ) -> None:
        """The next requests are refused with this error, to see what the program makes of it."""
        self._server.refuse(Problem(status, code, "as the test says", error_class), times)

    def drain(self, worker: Union[Worker, AsyncWorker], *, through_time: bool = False) -> int:
        """Runs jobs of the worker's queues that are ready, one after another, in this thread, and those that they
        enqueue,
        until none is left. Failures are noted with the job, and not raised. `through_time`: also what is due later
        (delays, retries), the clock turned as needed. Returns the number of attempts. For an AsyncWorker outside of
        a running loop."""
        return asyncio.run(self.drain_async(worker, through_time=through_time))

    async def drain_async(self, worker: Union[Worker, AsyncWorker], *, through_time: bool = False) -> int:
        """The same inside of a running loop."""
        inline = _Inline(self._server, worker)
        attempts = 0
        while attempts < DRAIN_MAX:
            job = inline.lease()
            if job is not None:
                attempts += 1
                await inline.work(job)
                continue
            due = self._server.next_time() if through_time else None
            if due is None:
                return attempts
            self._server.advance(max(0.0, due - self._server.now))
        raise RuntimeError(f"there is no end of jobs: {DRAIN_MAX} have run")


class _FakeAsyncClient(AsyncClient):
    async def wait(self, id: str, timeout: Optional[DurationLike] = None) -> Job:
        return await self.get(id)

    @property
    def cache(self) -> AsyncCache:
        return AsyncCache(self, lambda job: hooked_async(job, self._on_enqueue), waits=False)


class _Inline(Runner):
    """In place of a worker's engine: what a context tells goes straight to the server."""

    def __init__(self, server: FakeServer, worker: Union[Worker, AsyncWorker]) -> None:
        self._server = server
        self.settings = worker._settings
        self._entries = worker._registry.entries(self._in_thread)

    def lease(self) -> Optional[Dict[str, Any]]:
        settings = self.settings
        names = [one if isinstance(one, (str, Mapping)) else one[0] for one in settings.queues]
        body = {"queues": names, "lease": settings.lease_text, "worker": settings.worker}
        jobs: List[Dict[str, Any]] = self._ask("/v1/leases", _json.dumps(body))["jobs"]
        return jobs[0] if jobs else None

    def _ask(self, path: str, body: bytes) -> Any:
        return _json.loads(self._server.request("POST", path, {}, body).body)

    async def work(self, job: Dict[str, Any]) -> None:
        held = Held(job, 0.0)
        entry = self._entries.get(job["type"])
        if entry is None:
            self._say(_reports.unknown_type(job))
        elif entry.how is TASK:
            self._say(await self.run_coroutine(held, entry.run, AsyncJobContext(self, held)))
        else:
            self._say(self.run_function(held, entry.run, JobContext(self, held, False)))

    def _in_thread(self, handler: Handler, context: AsyncJobContext) -> Coroutine[Any, Any, Any]:
        async def at_once() -> Any:
            return handler(JobContext(self, context._held, False))

        return at_once()

    def tell(self, held: Held, data: bytes, waiter: Optional[concurrent.futures.Future[None]] = None) -> None:
        answer = self._say(data)
        if answer.get("cancel_requested"):
            held.cancel()
        if waiter is not None:
            if answer["ok"]:
                waiter.set_result(None)
            else:
                waiter.set_exception(from_problem(answer["error"]))

    def _say(self, report: bytes) -> Mapping[str, Any]:
        answers: List[Dict[str, Any]] = self._ask("/v1/reports", b'{"reports":[' + report + b"]}")["reports"]
        return answers[0]


__all__ = ["FakeWorkmill"]
