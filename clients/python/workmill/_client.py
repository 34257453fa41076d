"""The blocking client."""

from __future__ import annotations

import copy
import ssl
import time
from types import TracebackType
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Type, TypeVar, Union
from typing import TYPE_CHECKING

from . import _calls, _otel
from ._batches import Batches
from ._cache import Cache
from ._calls import Call, Page, QueueChoice
from ._errors import JobFailed, WorkmillError
from ._hooks import EnqueueHook, hooked, plain
from ._http import (
    CONNECT_TIMEOUT,
    CONNECTIONS_MAX,
    REQUEST_TIMEOUT,
    WAITS_MAX,
    Address,
    HttpTransport,
    Transport,
    headers_for,
    token_from,
)
from ._models import Enqueued, Job, JobOptions, Leased, NewJob, Queue, Reported
from ._retry import Attempts, RetryPolicy
from ._time import DurationLike, duration_seconds
from ._wait import Wait, is_wait

if TYPE_CHECKING:
    from typing_extensions import Unpack

T = TypeVar("T")


class Client:
    """Asks a Workmill server. Safe for several threads: share one.

    url: by default from WORKMILL_URL, else http://127.0.0.1:7330. token: by default from WORKMILL_TOKEN.
    tls: for https://, whom to trust, and a certificate of one's own where it is asked for. Without it the system's
    authorities are trusted, or those in the file that WORKMILL_CA_FILE names. UserError with an address that is not https.
    retry: when calls are tried again. timeout: of each attempt, from the wait for a free connection to the end of the
    answer, beyond the waiting that a call asks for. with_options() gives the same client with others. connect_timeout: for a
    connection, TLS included. connections: at once at most; calls that wait in the server, such as wait(), have others.
    tracing: False makes no spans, though OpenTelemetry is installed.
    on_enqueue: hooks that see each job before it is sent, and may change it (a dict as the API has it).

    Every method raises a WorkmillError (RetryableError, UserError or FatalError). Errors that are worth it have been
    tried again by then, as have broken connections; an enqueue is never doubled by that. Other calls may have taken
    effect though their answer was lost: a second cancel() is then refused with `wrong_state`. retry() and retry_all()
    are not sent again then: their jobs may have run, and died once more. Nor is lease(): its jobs are leased, and to nobody.
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
        on_enqueue: Sequence[EnqueueHook] = (),
        transport: Optional[Transport] = None,
    ) -> None:
        if connections < 1:
            raise ValueError("connections is 1 or more")
        address, connecting = Address.parse(url, tls), duration_seconds(connect_timeout)
        self._transport: Transport = transport or HttpTransport(address, connections, connecting)
        self._for_waits: Transport = transport or HttpTransport(address, WAITS_MAX, connecting)
        self._headers = headers_for(address, token_from(token))
        self._retry = retry if retry is not None else RetryPolicy()
        self._timeout = duration_seconds(timeout)
        self._tracing = tracing
        self._on_enqueue = plain(on_enqueue)

    def close(self) -> None:
        """Closes the connections that are idle."""
        self._transport.close()
        self._for_waits.close()

    def __enter__(self: C) -> C:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        trace: Optional[TracebackType],
    ) -> None:
        self.close()

    def with_options(self: C, *, timeout: Optional[DurationLike] = None, retry: Optional[RetryPolicy] = None) -> C:
        """The same client, with another `timeout` or `retry`, for one call or for many. It shares the connections."""
        other = copy.copy(self)
        if timeout is not None:
            other._timeout = duration_seconds(timeout)
        if retry is not None:
            other._retry = retry
        return other

    def _run(self, call: Call[T]) -> T:
        attempts = Attempts(self._retry)
        while True:
            try:
                return self._try(call)
            except WorkmillError as error:
                answer_instead = _calls.settled(call, error, attempts)
                if answer_instead is not None:
                    return answer_instead()
                pause = attempts.pause_after(error, call.is_repeatable)
                if pause is None:
                    raise
            time.sleep(pause)

    def _try(self, call: Call[T]) -> T:
        """Once."""
        headers = {**self._headers, **call.headers}
        transport = self._for_waits if call.wait > 0 else self._transport
        answer = transport.request(call.method, call.path, headers, call.body, self._timeout + call.wait)
        return _calls.read(call, answer)

    def _traced(self, call: Call[T]) -> Call[T]:
        """With the current trace's context, which each of its attempts carries."""
        if self._tracing:
            _otel.inject(call.headers)
        return call

    # ---- Enqueue.

    def enqueue(
        self, type: str, payload: Any = None, *, idempotency_key: Optional[str] = None, **options: Unpack[JobOptions]
    ) -> Enqueued:
        """Returns when the job is durable. `payload` is any JSON, or bytes; `options` as in JobOptions."""
        return self.enqueue_job(job_of(type, payload, options), idempotency_key=idempotency_key)

    def enqueue_job(self, job: Union[NewJob, Mapping[str, Any]], *, idempotency_key: Optional[str] = None) -> Enqueued:
        """The same for a job as the API has it. The key makes a call that is repeated answer as the first did."""
        sent = hooked(job, self._on_enqueue)
        with _otel.sending(_calls.queue_of(sent), 1, self._tracing) as done:
            answer = self._run(self._traced(_calls.enqueue(sent, idempotency_key)))
            done(answer.id)
        return answer

    def enqueue_many(
        self, jobs: Iterable[Union[NewJob, Mapping[str, Any]]], *, idempotency_key: Optional[str] = None
    ) -> List[Enqueued]:
        """Any number of jobs, in calls of up to 10,000 jobs or 4 MiB, each all or none. Where one fails, those of the
        calls before it are enqueued, and the error's `enqueued` has their answers; so it is where a hook or `jobs` itself
        raises. With a key, or ids of their own, the same jobs can all be sent again, and none is enqueued twice."""
        answers: List[Enqueued] = []
        try:
            for bulk in _calls.enqueue_many((hooked(job, self._on_enqueue) for job in jobs), idempotency_key):
                with _otel.sending(bulk.queue, len(bulk.items), self._tracing), _calls.counting(answers):
                    several = self._run(self._traced(bulk.call()))
                answers += several
        except Exception as error:
            _calls.tell_of_all(error, answers)
            raise
        return answers

    # ---- The cache.

    @property
    def cache(self) -> Cache:
        """Values that jobs compute, shared by all clients."""
        return Cache(self, lambda job: hooked(job, self._on_enqueue))

    # ---- Batches.

    @property
    def batches(self) -> Batches:
        """Sets of jobs whose end enqueues another."""
        return Batches(self, lambda job: hooked(job, self._on_enqueue))

    # ---- Jobs.

    def get(self, id: str) -> Job:
        return self._run(_calls.get(id))

    def wait(self, id: str, timeout: Optional[DurationLike] = None) -> Job:
        """The job when it is finished, or as it is after `timeout` (None: however long it takes; 0: as get()). Rides
        out restarts of the server: as long as there is time, errors that are worth it are tried again, whatever `retry`
        says."""
        if not is_wait(timeout):
            return self.get(id)
        wait: Wait[Job] = Wait(timeout, self._retry)
        while True:
            try:
                job = self._try(_calls.get(id, wait.next_poll()))
                if job.finished:
                    return job
                pause = wait.pause_after(job)
            except WorkmillError as error:
                pause = wait.pause_after_error(error)
            if pause is None:
                return wait.last_answer()
            time.sleep(pause)

    def result(self, id: str, timeout: Optional[DurationLike] = None) -> Any:
        """Waits for what the job's handler returned. JobFailed where it is dead or cancelled; TimeoutError."""
        return result_of(self.wait(id, timeout))

    def cancel(self, id: str) -> None:
        """A job that waits is cancelled; of one that runs the worker is told, and its report decides."""
        self._run(_calls.act(id, "cancel"))

    def retry(self, id: str) -> None:
        """A dead, cancelled or scheduled job becomes ready now; its attempts are counted anew."""
        self._run(_calls.act(id, "retry"))

    def delete(self, id: str) -> None:
        self._run(_calls.delete(id))

    def change(self, id: str, **changes: Any) -> Job:
        """Changes priority, run_at, queue, tags, max_attempts of a job that is not leased."""
        return self._run(_calls.change(id, changes))

    def log(self, id: str) -> List[str]:
        """The lines that the job's handlers have logged, oldest first."""
        return self._run(_calls.log(id))

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
    ) -> Iterator[Job]:
        """All jobs that match, newest first, `page` a call (1,000 at most). `q`: a part of type, id, payload or
        error."""
        where = {"queue": queue, "state": state, "type": type, "tag": tag, "group": group, "batch": batch, "q": q}
        return self._pages(lambda cursor: _calls.jobs_page(where, page, cursor))

    def retry_all(self, **where: str) -> int:
        """All jobs that match queue, state, type, tag, group, batch. Returns how many."""
        return self._run(_calls.bulk("retry", where))

    def cancel_all(self, **where: str) -> int:
        return self._run(_calls.bulk("cancel", where))

    def delete_all(self, **where: str) -> int:
        return self._run(_calls.bulk("delete", where))

    # ---- Queues.

    def queues(self, *, page: int = 100) -> Iterator[Queue]:
        return self._pages(lambda cursor: _calls.queues_page(page, cursor))

    def queue(self, name: str) -> Queue:
        return self._run(_calls.queue(name))

    def change_queue(self, name: str, **changes: Any) -> Queue:
        """Changes paused, max_depth, when_full. The queue is made where it is missing."""
        return self._run(_calls.change_queue(name, changes))

    def pause(self, name: str) -> Queue:
        """No job of it is leased until resume()."""
        return self.change_queue(name, paused=True)

    def resume(self, name: str) -> Queue:
        return self.change_queue(name, paused=False)

    def purge(self, name: str, state: Optional[str] = None) -> int:
        """Deletes the queue's jobs (in that state) that are not leased. Returns how many."""
        return self._run(_calls.purge(name, state))

    # ---- Work, by hand. Worker does all this.

    def lease(
        self,
        queues: Sequence[QueueChoice],
        *,
        max: int = 1,
        wait: DurationLike = 0,
        lease: DurationLike = 60,
        worker: Optional[str] = None,
    ) -> List[Leased]:
        """Up to `max` jobs, waiting up to `wait` for the first. `queues` in the order of preference, or ("name",
        weight). Where the answer is lost, the jobs in it come back when their leases are over."""
        return self._run(_calls.lease(queues, max, wait, lease, worker))

    def report(self, reports: Sequence[Mapping[str, Any]]) -> List[Reported]:
        """Up to 1,000 reports as the API has them. Look at each answer: one may be refused while others are not."""
        return self._run(_calls.report(reports))

    def status(self) -> Dict[str, Any]:
        """How the server does, as /v1/status has it."""
        return self._run(_calls.status())

    def _pages(self, call: Callable[[Optional[str]], Call[Page[T]]]) -> Iterator[T]:
        cursor: Optional[str] = None
        while True:
            items, cursor = self._run(call(cursor))
            yield from items
            if cursor is None:
                return


C = TypeVar("C", bound=Client)


# ---- Shared with the other client.


def job_of(type: str, payload: Any, options: Mapping[str, Any]) -> Dict[str, Any]:
    job: Dict[str, Any] = {"type": type, **options}
    if payload is not None:
        job["payload"] = payload
    return job


def result_of(job: Job) -> Any:
    if job.state == "completed":
        return job.result
    if job.finished:
        raise JobFailed(job)
    raise TimeoutError(f"the job {job.id} is still {job.state}")
