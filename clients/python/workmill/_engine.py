"""The mind of a worker, whichever its transport and the kind of its handlers.

It belongs to one event loop. A link (_stream.py, _polling.py) brings it jobs, cancellations and answers, and takes
reports from it. What other threads may call says so.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import sys
from collections import deque
from typing import (
    Any,
    Awaitable,
    Callable,
    Coroutine,
    Deque,
    Dict,
    Iterable,
    List,
    Mapping,
    Optional,
    Protocol,
    Sequence,
    Set,
    Tuple,
    Union,
)

from . import _reports
from ._calls import REPORTS_MAX
from ._context import AsyncJobContext, JobContext
from ._errors import LeaseLost, WorkmillError, from_problem
from ._handlers import INLINE, THREAD, Entry, Handler, Registry
from ._held import Held
from ._running import Runner, logger
from ._settings import Settings
from ._threads import Threads

FRAME_BYTES_MAX = 4 * 1024 * 1024  # Of reports that are sent together; one that is longer goes alone.
# What handlers have told (progress, log) and the server has not taken: more is dropped while it is away.
TOLD_BYTES_MAX = 16 * 1024 * 1024
INLINE_AT_ONCE = 1_000  # Inline handlers that run before the loop gets a turn.


class Report:
    """On its way to the server."""

    __slots__ = ("held", "data", "is_final", "waiter", "is_suspect")

    def __init__(
        self, held: Held, data: bytes, is_final: bool, waiter: Optional[concurrent.futures.Future[None]]
    ) -> None:
        self.held, self.data, self.is_final, self.waiter = held, data, is_final, waiter
        # It was sent when the server refused a message as a whole: it goes alone, to see whether it is the one.
        self.is_suspect = False

    @property
    def is_told(self) -> bool:
        return not self.is_final and self.waiter is None


class Link(Protocol):
    async def run(self) -> None:
        """Until the engine is finished. Raises what ends the worker."""

    def wake(self) -> None:
        """There are reports, or room for jobs."""

    def drain(self) -> None:
        """No further jobs are wanted."""


class Engine(Runner):
    def __init__(self, settings: Settings, registry: Registry, make_link: Callable[[Engine], Link]) -> None:
        self.settings = settings
        self._loop = asyncio.get_running_loop()
        self._entries: Dict[str, Entry] = registry.entries(self._in_thread)
        self._threads = Threads(settings.concurrency)
        self._held: Dict[str, Held] = {}  # By lease: a job may come again while an older attempt of it still runs.
        self._waiting: Deque[Held] = deque()  # Held, not begun.
        self._active = 0  # Begun, not over.
        self._outbox: Deque[Report] = deque()
        self._delayed: Set[Report] = set()  # To be sent again after a while.
        self._told_bytes = 0  # In the outbox, of reports that end no job and that nobody waits for.
        self._has_dropped = False
        self._answered_later = 0  # Reports taken by the link and not answered.
        self._is_pumping = False
        self.is_draining = False
        self._is_left = False
        self._left: asyncio.Future[None] = self._loop.create_future()  # The same, for who waits for it.
        self._over: asyncio.Future[None] = self._loop.create_future()
        self._drain_timer: Optional[asyncio.TimerHandle] = None
        # From threads, in the order of each: what handlers tell, and how they end.
        self._inbox: Deque[Union[Report, Tuple[Held, bytes]]] = deque()
        self._is_collecting = False
        self._link = make_link(self)

    # ---- The whole.

    async def run(self) -> None:
        """Until it has drained, or has to leave. Raises the error that ends the worker."""
        link = asyncio.ensure_future(self._link.run())
        ticker = asyncio.ensure_future(self._extend_leases())
        try:
            await asyncio.wait({link, self._over, ticker}, return_when=asyncio.FIRST_COMPLETED)
            for one in (link, ticker):
                if one.done():
                    one.result()
        finally:
            self._leave()
            for one in (link, ticker):
                one.cancel()
            tasks = [held.task for held in self._held.values() if held.task is not None]
            await asyncio.gather(link, ticker, return_exceptions=True)
            if tasks:  # They were cancelled; what does not end by that is left.
                await asyncio.wait(tasks, timeout=1)
            self._threads.close()
            if self._drain_timer is not None:
                self._drain_timer.cancel()
            gone = WorkmillError("the worker has ended", code="worker_ended")
            for report in [*self._outbox, *self._inbox, *self._delayed]:
                if isinstance(report, Report):
                    _answer_waiter(report, gone)

    def drain(self, timeout: Optional[float] = None) -> None:
        """What runs is finished, what has not begun is given back. After `timeout` seconds it leaves nevertheless."""
        if self._over.done():
            return
        if not self.is_draining:
            self.is_draining = True
            running, waiting = self._active, len(self._waiting)
            extra = {"running": running, "waiting": waiting}
            logger.info("the worker drains: %d run, and %d are given back", running, waiting, extra=extra)
            while self._waiting:
                self._finish(self._waiting.popleft(), None)
            self._link.drain()
        if self._drain_timer is not None:
            self._drain_timer.cancel()
        seconds = self.settings.drain_timeout if timeout is None else timeout
        self._drain_timer = self._loop.call_later(seconds, self.leave)
        self._link.wake()

    def leave(self) -> None:
        """At once. Handlers are told to stop and not waited for; their leases run out."""
        if not self._over.done():
            if self._active:
                logger.warning("the worker leaves while %d handlers run", self._active, extra={"running": self._active})
            self._over.set_result(None)

    def _leave(self) -> None:
        self._is_left = True
        self._left.set_result(None)
        for held in list(self._held.values()):
            self._cancel(held)

    @property
    def is_finished(self) -> bool:
        """Whether nothing is left to say. Only while draining."""
        return self.is_draining and self._has_nothing()

    @property
    def is_idle(self) -> bool:
        """Whether it waits for jobs and for nothing else."""
        return not self.is_draining and self._has_nothing()

    def _has_nothing(self) -> bool:
        return not self._held and not self._outbox and not self._answered_later

    # ---- For links.

    def room(self) -> int:
        """How many more jobs it would take."""
        return 0 if self.is_draining else max(0, self.settings.credit - len(self._held))

    def held_ids(self) -> List[str]:
        return [str(held.job["id"]) for held in self._held.values()]

    def on_jobs(self, jobs: Iterable[Mapping[str, Any]]) -> None:
        now = self._loop.time()
        for job in jobs:
            if job["lease"] in self._held:
                continue  # Sent again after a reconnection, while we have it.
            held = Held(job, now)
            self._held[job["lease"]] = held
            if self.is_draining:
                self._finish(held, None)
            else:
                self._waiting.append(held)
        self._pump()

    def on_cancel(self, ids: Iterable[str]) -> None:
        wanted = set(ids)
        for held in [held for held in self._held.values() if held.job["id"] in wanted]:
            self._cancel(held)

    def take_reports(self) -> List[Report]:
        """The next ones to send together; to be answered with on_answers() or put_back()."""
        taken: List[Report] = []
        size = 0
        outbox = self._outbox
        while outbox and len(taken) < REPORTS_MAX:
            report = outbox[0]
            size += len(report.data)
            if taken and (size > FRAME_BYTES_MAX or report.is_suspect):
                break
            outbox.popleft()
            if report.is_told:
                self._told_bytes -= len(report.data)
            taken.append(report)
            if report.is_suspect:
                break
        self._answered_later += len(taken)
        return taken

    @property
    def is_next_suspect(self) -> bool:
        return bool(self._outbox) and self._outbox[0].is_suspect

    def put_back(self, reports: Sequence[Report]) -> None:
        """Their answer was lost: they are sent again, before all others."""
        self._answered_later -= len(reports)
        self._outbox.extendleft(reversed(reports))
        self._told_bytes += sum(len(report.data) for report in reports if report.is_told)

    def on_answers(self, reports: Sequence[Report], answers: Sequence[Mapping[str, Any]]) -> None:
        self._answered_later -= len(reports)
        for report, answer in zip(reports, answers):
            if not answer["ok"]:
                self._refused(report, from_problem(answer["error"]))
                continue
            held = report.held
            if report.is_final:
                self._held.pop(held.job["lease"], None)
                if answer.get("not_stored"):
                    _tell_not_stored(held, answer["not_stored"])
            else:
                held.is_extending = False
                if answer.get("cancel_requested") and not held.is_cancelled:
                    self._cancel(held)
                if report.waiter is not None:
                    _answer_waiter(report, None)
        self._link.wake()

    def on_refused(self, reports: Sequence[Report], error: WorkmillError) -> None:
        """The server refused these as a whole. One of them is at fault, and the others must not suffer for it."""
        if len(reports) > 1:
            for report in reports:
                report.is_suspect = True
            self.put_back(reports)
        else:
            self._answered_later -= 1
            self._refused(reports[0], error)
        self._link.wake()

    def _refused(self, report: Report, error: WorkmillError) -> None:
        held = report.held
        extra = {"job_id": held.job["id"], "code": error.code}
        if isinstance(error, LeaseLost) or error.code == "job_not_found":
            if not held.is_lost and not held.is_done:
                logger.warning(
                    "%s %s is no longer this worker's: its handler is told to stop", *_named(held), extra=extra
                )
            held.is_lost = True
            self._held.pop(held.job["lease"], None)
            if not held.is_done:
                self._cancel(held)
            _answer_waiter(report, error)
        elif error.error_class == "retryable":
            self._delayed.add(report)
            self._loop.call_later(max(error.retry_after or 0.0, 0.1), self._again, report)
        else:
            logger.error("a report on %s %s was refused: %s", *_named(held), error, extra=extra)
            held.is_extending = False
            if report.is_final:
                # Else the job would be stuck here until its lease ends, and come back for the same.
                where = f" ({error.field})" if error.field is not None else ""
                said = WorkmillError(f"the worker's report was refused: {error.message}{where}", code="report_refused")
                again = _reports.failed(held.job, said, False)
                if again == report.data:
                    self._held.pop(held.job["lease"], None)
                else:
                    self._put(Report(held, again, True, None))
            _answer_waiter(report, error)

    def _again(self, report: Report) -> None:
        self._delayed.discard(report)
        self._put(report)

    def _put(self, report: Report) -> None:
        if report.is_told:
            self._told_bytes += len(report.data)
        self._outbox.append(report)
        self._link.wake()

    # ---- Handlers.

    def _pump(self) -> None:
        """Begins what may begin. Inline handlers run here, so it is not entered twice."""
        if self._is_pumping:
            return
        self._is_pumping = True
        try:
            waiting, concurrency = self._waiting, self.settings.concurrency
            begun = 0
            while waiting and self._active < concurrency:
                if begun == INLINE_AT_ONCE:
                    self._loop.call_soon(self._pump)
                    break
                begun += 1
                self._begin(waiting.popleft())
        finally:
            self._is_pumping = False

    def _begin(self, held: Held) -> None:
        if held.is_cancelled:
            if not held.is_lost:
                self._finish(held, _reports.failed(held.job, asyncio.CancelledError(), True))
            return
        entry = self._entries.get(held.job["type"])
        if entry is None:
            extra = {"job_id": held.job["id"], "job_type": held.job["type"]}
            logger.warning("no handler for %s %s: another worker may have one", *_named(held), extra=extra)
            self._finish(held, _reports.unknown_type(held.job))
        elif entry.how is INLINE:
            self._finish(held, self.run_function(held, entry.run, JobContext(self, held, True)))
        elif entry.how is THREAD:
            self._active += 1
            self._threads.submit(lambda: self._work_in_thread(held, entry.run), self._active)
        else:
            self._active += 1
            held.task = _eager_task(self._loop, self._work_as_task(held, entry.run))

    def _work_in_thread(self, held: Held, handler: Handler) -> None:
        try:
            report = self.run_function(held, handler, JobContext(self, held, False))
        except BaseException as error:  # Such as SystemExit: it ends the handler, and not the thread.
            report = self.failed(held, error)
        self._bring((held, report))

    def _bring(self, what: Union[Report, Tuple[Held, bytes]]) -> None:
        """For any thread. One call for all that comes before the loop looks: it looks after it has cleared the flag."""
        self._inbox.append(what)
        if not self._is_collecting:
            self._is_collecting = True
            try:
                self._loop.call_soon_threadsafe(self._collect)
            except RuntimeError:
                pass  # The loop is gone, and nothing matters any more.

    def _collect(self) -> None:
        self._is_collecting = False
        inbox = self._inbox
        while inbox:
            what = inbox.popleft()
            if isinstance(what, Report):
                self._tell(what)
            else:
                self._active -= 1
                self._finish(*what)
        self._pump()

    async def _work_as_task(self, held: Held, handler: Handler) -> None:
        report = await self.run_coroutine(held, handler, AsyncJobContext(self, held))
        self._active -= 1
        if not self._is_left:
            self._finish(held, report)
            self._pump()

    def _in_thread(self, handler: Handler, context: AsyncJobContext) -> Awaitable[Any]:
        """A plain function with asynchronous middleware around it."""
        held = context._held
        done: concurrent.futures.Future[Any] = concurrent.futures.Future()
        done.set_running_or_notify_cancel()  # Nobody can call it off.

        def work() -> None:
            try:
                done.set_result(handler(JobContext(self, held, False)))
            except BaseException as error:
                done.set_exception(_for_task(error))

        self._threads.submit(work, self._active)
        return self._until_done(asyncio.wrap_future(done))

    async def _until_done(self, future: asyncio.Future[Any]) -> Any:
        """Whoever is told to stop waits for the thread all the same, which cannot be interrupted; but not when the worker
        leaves."""
        while not (future.done() or self._left.done()):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({future, self._left}, return_when=asyncio.FIRST_COMPLETED)
        if future.done():
            return future.result()
        future.cancel()  # What comes of it is not heard.
        raise asyncio.CancelledError

    def _finish(self, held: Held, report: Optional[bytes]) -> None:
        """Its last report; None gives it back."""
        held.is_done = True
        held.task = None
        if held.is_lost or self._is_left:
            self._held.pop(held.job["lease"], None)
        else:
            data = _reports.released(held.job) if report is None else report
            self._put(Report(held, data, True, None))

    def _cancel(self, held: Held) -> None:
        if held.is_cancelled or held.is_done:
            return
        held.cancel()
        if held.task is not None:
            held.task.cancel()

    def tell(self, held: Held, data: bytes, waiter: Optional[concurrent.futures.Future[None]] = None) -> None:
        """For any thread: a report that does not end its job. `waiter` hears what the server says to it."""
        report = Report(held, data, False, waiter)
        try:
            is_ours = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            is_ours = False
        if is_ours:
            self._tell(report)
        else:
            self._bring(report)
            if self._is_left:  # Looked at after it was brought: else both sides might leave it to the other.
                _answer_waiter(report, WorkmillError("the worker has ended", code="worker_ended"))

    def _tell(self, report: Report) -> None:
        if report.held.is_lost:
            _answer_waiter(report, LeaseLost("the job is no longer this worker's", code="lease_lost"))
        elif self._is_left or report.held.is_done:
            _answer_waiter(report, WorkmillError("the job has ended", code="worker_ended"))
        elif report.is_told and self._told_bytes > TOLD_BYTES_MAX:
            if not self._has_dropped:
                self._has_dropped = True
                logger.warning("progress and log lines are dropped: the server takes none")
        else:
            self._put(report)

    # ---- Leases.

    async def _extend_leases(self) -> None:
        """Of all jobs that are held, those that wait for a handler too, when a third of the time is over."""
        lease = self.settings.lease
        while True:
            await asyncio.sleep(lease / 9)
            now = self._loop.time()
            # is_extending: while there is no connection one is enough.
            due = [
                held
                for held in self._held.values()
                if now - held.extended_at >= lease / 3 and not held.is_done and not held.is_extending
            ]
            for held in due:
                held.is_extending = True
                held.extended_at = now
                self._put(Report(held, _reports.extend(held.job, self.settings.lease_text), False, None))


def _named(held: Held) -> Tuple[str, str]:
    """For the log: type and id."""
    return held.job["type"], held.job["id"]


def _tell_not_stored(held: Held, keys: Sequence[str]) -> None:
    what = ", ".join(repr(key) for key in keys)
    extra = {"job_id": held.job["id"], "keys": list(keys)}
    logger.warning("%s %s is completed, but no budget of the cache can hold %s", *_named(held), what, extra=extra)


def _for_task(error: BaseException) -> BaseException:
    """What the handler of a thread raised, as something that a task can raise, too: no future takes a StopIteration before
    Python 3.12, and what is no Exception would end the task, or the loop."""
    is_fit = isinstance(error, (Exception, SystemExit, asyncio.CancelledError)) and not isinstance(error, StopIteration)
    if is_fit:
        return error
    fit = RuntimeError(f"the handler raised {type(error).__name__}")
    fit.__cause__ = error
    return fit


def _answer_waiter(report: Report, error: Optional[WorkmillError]) -> None:
    """At the end two threads may say the same at once: the second is not heard."""
    if report.waiter is not None:
        with contextlib.suppress(concurrent.futures.InvalidStateError):
            if error is None:
                report.waiter.set_result(None)
            else:
                report.waiter.set_exception(error)


def _eager_task(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Since Python 3.12 a handler that never waits is over at once, without a turn of the loop."""
    if sys.version_info >= (3, 12):
        return asyncio.Task(work, loop=loop, eager_start=True)  # novm
    return loop.create_task(work)
