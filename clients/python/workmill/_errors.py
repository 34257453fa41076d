"""What goes wrong, by what a program does next.

The same three classes go both ways: the client raises them, and a handler raises them to say how its job failed.
Programs look at the class of the exception, or at `code`; people read the message.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Optional, Type

from ._time import DurationLike

if TYPE_CHECKING:
    from ._models import Enqueued


class WorkmillError(Exception):
    """The base of all errors here. Raise one of its three classes, not this one.

    code: stable, for programs: one of the server's error codes, or a handler's own (A-Z a-z 0-9 . _ : -).
    field: the field of the request that is at fault, such as "jobs[3].priority".
    trace_id: names the request in the server's log.
    status: of the HTTP answer. retry_after: seconds, where the server said so.
    may_have_happened: of an error of the client: what was asked for may have been done all the same, by this attempt or by
        one before it whose answer was lost. False: it has surely not been done.
    detail: any JSON; of a handler's error, kept with the job.
    enqueued: of enqueue_many(), which sends in parts: what those before the failed one were answered, in order.
    retry_in: of a handler's error: when the next attempt is due, instead of the job's backoff. What is no duration,
        or one over 100 years, is not heard.
    """

    error_class = "fatal"

    def __init__(
        self,
        message: str = "",
        *,
        code: str = "failed",
        detail: Any = None,
        retry_in: Optional[DurationLike] = None,
        field: Optional[str] = None,
        trace_id: Optional[str] = None,
        status: Optional[int] = None,
        retry_after: Optional[float] = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.detail = detail
        self.retry_in = retry_in
        self.field = field
        self.trace_id = trace_id
        self.status = status
        self.retry_after = retry_after
        self.may_have_happened = code == "outcome_unknown"
        self.enqueued: List[Enqueued] = []

    def __str__(self) -> str:
        text = f"{self.code}: {self.message}" if self.message else self.code
        if self.field is not None:
            text += f" (field {self.field})"
        return text if self.trace_id is None else f"{text} [trace {self.trace_id}]"


class RetryableError(WorkmillError):
    """Try again. From a handler: the job runs again after its backoff."""

    error_class = "retryable"


class UserError(WorkmillError):
    """Mend the request. From a handler: the job is dead at once."""

    error_class = "user"


class FatalError(WorkmillError):
    """Give it up. From a handler: the job is dead at once."""

    error_class = "fatal"


class NoServer(RetryableError):
    """Nobody answers, or the connection broke and its outcome is not known. `timed_out`: there is somebody, who says
    nothing."""

    def __init__(
        self,
        message: str = "",
        *,
        code: str = "no_server",
        may_have_happened: bool = True,
        timed_out: bool = False,
        **more: Any,
    ) -> None:
        super().__init__(message, code=code, **more)
        self.may_have_happened = may_have_happened
        self.timed_out = timed_out


class JobNotFound(UserError):
    """There is no such job: it never was, or was deleted, or its time is over."""


class LeaseLost(FatalError):
    """The job is no longer this worker's."""


class Cancelled(FatalError):
    """Raised by `ctx.check()` in a handler that should stop. Let it pass."""

    def __init__(self, message: str = "the job was cancelled") -> None:
        super().__init__(message, code="cancelled")


class JobFailed(FatalError):
    """What `result()` raises for a job that ended without one. `code` is that of the job's error; `job` the job."""

    def __init__(self, job: Any) -> None:
        error = job.error
        message = error.message if error is not None else f"the job was {job.state}"
        super().__init__(message, code=error.code if error is not None else str(job.state))
        self.job = job


class CachePending(RetryableError):
    """What `cache.get_or_compute()` raises where the job was not done in time. It runs on, and its result will be there.
    `job_id`, `state`: of the job."""

    def __init__(self, job_id: str, state: str) -> None:
        super().__init__(f"the job {job_id}, which computes the value, is {state}", code="cache_pending")
        self.may_have_happened = True
        self.job_id = job_id
        self.state = state


_BY_CLASS: Dict[str, Type[WorkmillError]] = {"retryable": RetryableError, "user": UserError, "fatal": FatalError}
_BY_CODE: Dict[str, Type[WorkmillError]] = {"job_not_found": JobNotFound, "lease_lost": LeaseLost}


def from_problem(problem: Mapping[str, Any], retry_after: Optional[float] = None) -> WorkmillError:
    """The exception for a problem as the server writes it (RFC 9457)."""
    code = str(problem["code"])
    kind = _BY_CODE.get(code) or _BY_CLASS.get(str(problem.get("class")), FatalError)
    if retry_after is None and isinstance(problem.get("retry_after"), (int, float)):
        retry_after = float(problem["retry_after"])
    return kind(
        str(problem.get("detail") or problem.get("title") or ""),
        code=code,
        field=problem.get("field"),
        trace_id=problem.get("trace_id"),
        status=problem.get("status"),
        retry_after=retry_after,
    )


def protocol_error(message: str, may_have_happened: bool = True) -> FatalError:
    """What answers is no Workmill server, or one behind something else that spoils its answers: it may have heard."""
    error = FatalError(message, code="protocol_error")
    error.may_have_happened = may_have_happened
    return error


def shown(value: Any, how: Callable[[Any], str] = str) -> str:
    """As text, whatever it is: what a handler has raised may raise again where it is to be shown."""
    try:
        return how(value)
    except Exception:
        return f"({type(value).__name__}, which cannot be shown)"
