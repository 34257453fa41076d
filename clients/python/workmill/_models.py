"""What the server tells, as Python objects. They are read-only; `raw` is the JSON that they were made of."""

from __future__ import annotations

import base64
import datetime
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, TypedDict, Union

from . import _json
from ._time import DurationLike, parse_time

if TYPE_CHECKING:
    from typing_extensions import Literal

    JobState = Literal["scheduled", "ready", "leased", "completed", "dead", "cancelled"]
    ErrorClass = Literal["retryable", "user", "fatal"]
    CallbackState = Literal["waiting", "enqueued", "not_coming"]
    BatchState = Literal["open", "closed", "over"]

FINISHED = frozenset(("completed", "dead", "cancelled"))


class Backoff(TypedDict, total=False):
    """When a failed job runs again: first × factor^n, at most cap, give or take the jitter (0 to 1)."""

    first: DurationLike
    factor: float
    cap: DurationLike
    jitter: float


# With "for" and "while", which are Python's own words.
Unique = TypedDict("Unique", {"key": str, "while": str, "for": DurationLike}, total=False)


class JobOptions(TypedDict, total=False):
    """What can be said of a job beside its type and payload. What is left out is as the server has it."""

    queue: str
    id: str
    priority: int
    delay: DurationLike
    run_at: Union[str, datetime.datetime]
    expires_in: DurationLike
    max_attempts: int
    backoff: Backoff
    lease: DurationLike
    unique: Unique
    group: str
    tags: List[str]
    batch: str
    keep_result: DurationLike
    meta: Dict[str, Any]


class NewJob(JobOptions, total=False):
    """A job to be enqueued, for enqueue_many(). `type` is required. A `payload` of bytes is sent as raw bytes."""

    type: str
    payload: Any


@dataclass(frozen=True)
class Enqueued:
    id: str
    state: JobState
    duplicate: bool  # It was there already, by its id or its unique key.


@dataclass(frozen=True)
class JobError:
    error_class: ErrorClass
    code: str
    message: str
    attempt: int
    at: datetime.datetime
    detail: Any = None


@dataclass(frozen=True)
class Progress:
    percent: int
    message: str = ""


@dataclass(frozen=True)
class Job:
    """A job as it was when it was asked for."""

    id: str
    type: str
    queue: str
    state: JobState
    attempt: int  # 1 for the first run; 0 before it.
    max_attempts: int
    priority: int
    created_at: datetime.datetime
    payload: Any = None
    result: Any = None
    error: Optional[JobError] = None  # The last.
    errors: List[JobError] = field(default_factory=list)  # Newest first.
    progress: Optional[Progress] = None
    ready_at: Optional[datetime.datetime] = None
    started_at: Optional[datetime.datetime] = None
    finished_at: Optional[datetime.datetime] = None
    worker: Optional[str] = None
    group: Optional[str] = None
    tags: List[str] = field(default_factory=list)
    batch: Optional[str] = None
    meta: Dict[str, Any] = field(default_factory=dict)
    traceparent: Optional[str] = None
    cancel_requested: bool = False
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def finished(self) -> bool:
        return self.state in FINISHED


@dataclass(frozen=True)
class Queue:
    name: str
    paused: bool
    depth: Dict[str, int]  # By state.
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class BatchCallback:
    """What has become of it. waiting: for the end of jobs, or for the batch to be closed. not_coming: a job is gone that was
    not completed."""

    state: CallbackState
    job: Optional[str] = None  # Where it is enqueued: its id. The job itself may be gone by now.


@dataclass(frozen=True)
class Batch:
    """A batch as it was when it was asked for. Of its jobs, `total` in all, so many are pending (scheduled, ready or leased),
    completed, dead or cancelled, whether they are kept still or not, or were deleted before they were finished."""

    id: str
    created_at: datetime.datetime
    closed_at: Optional[datetime.datetime]  # None: it is open.
    total: int
    pending: int
    completed: int
    dead: int
    cancelled: int
    deleted: int
    on_success: Optional[BatchCallback] = None  # None: it was made without one.
    on_finish: Optional[BatchCallback] = None
    meta: Dict[str, Any] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Leased:
    """A job that is leased to the caller, by Client.lease(). `lease` is the token for its reports."""

    id: str
    type: str
    queue: str
    lease: str
    attempt: int
    max_attempts: int
    lease_expires_at: datetime.datetime
    payload: Any = None
    checkpoint: Any = None
    batch: Optional[str] = None
    meta: Dict[str, Any] = field(default_factory=dict)
    traceparent: Optional[str] = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Reported:
    """What became of one report. `error`: why it was not accepted. `not_stored`: keys of cached values that came with
    it, and that no budget of the server's cache can hold; the report counts all the same."""

    id: str
    ok: bool
    cancel_requested: bool = False
    error: Optional[Exception] = None
    not_stored: List[str] = field(default_factory=list)


@dataclass(frozen=True)
class Cached:
    """A value of the cache, as it was when it was asked for."""

    value: Any  # What its JSON says, or bytes where it is none.
    fresh: bool  # Else it is stale: given while it is computed anew.
    age: int  # Whole seconds since it was stored.
    etag: str
    content_type: str
    computed: bool = False  # It was missing, and a job has computed it for this call,
    collapsed: bool = False  # which another call had begun.
    data: bytes = field(default=b"", repr=False, compare=False)  # As it is stored.


_JSON_TYPE = re.compile(r"application/(?:[^;/]+\+)?json\s*(?:;.*)?", re.IGNORECASE)


def cached_from(headers: Mapping[str, str], body: bytes) -> Cached:
    """Of an answer with a value. Raises ValueError where it is none, and LookupError where it lacks a header."""
    # RFC 9211: the cache's name, and what it says.
    said = [part.strip() for part in headers["cache-status"].split(";")]
    ttl = next((int(part[4:]) for part in said if part.startswith("ttl=")), 0)
    kind = headers.get("content-type", "")
    return Cached(
        value=_json.loads(body) if _JSON_TYPE.fullmatch(kind) else body,
        # The last second of the fresh time is ttl=0. What was computed just now is fresh.
        fresh="hit" not in said or ttl >= 0,
        age=int(headers.get("age", "0")),
        etag=headers.get("etag", "").strip('"'),
        content_type=kind,
        computed="hit" not in said,
        collapsed="collapsed" in said,
        data=body,
    )


def value_of(raw: Mapping[str, Any], name: str) -> Any:
    """A payload or the like: JSON, or bytes where it was sent as bytes."""
    encoded = raw.get(f"{name}_base64")
    return raw.get(name) if encoded is None else base64.b64decode(encoded)


def _time(raw: Mapping[str, Any], name: str) -> Optional[datetime.datetime]:
    text = raw.get(name)
    return None if text is None else parse_time(text)


def _error(raw: Mapping[str, Any]) -> JobError:
    return JobError(raw["class"], raw["code"], raw["message"], raw["attempt"], parse_time(raw["at"]), raw.get("detail"))


def job_from(raw: Mapping[str, Any]) -> Job:
    progress = raw.get("progress")
    errors = [_error(error) for error in raw.get("errors") or ()]
    last = raw.get("error")
    return Job(
        id=raw["id"],
        type=raw["type"],
        queue=raw["queue"],
        state=raw["state"],
        attempt=raw["attempt"],
        max_attempts=raw["max_attempts"],
        priority=raw["priority"],
        created_at=parse_time(raw["created_at"]),
        payload=value_of(raw, "payload"),
        result=value_of(raw, "result"),
        error=_error(last) if last is not None else (errors[0] if errors else None),
        errors=errors,
        progress=None if progress is None else Progress(progress["percent"], progress.get("message", "")),
        ready_at=_time(raw, "ready_at"),
        started_at=_time(raw, "started_at"),
        finished_at=_time(raw, "finished_at"),
        worker=raw.get("worker"),
        group=raw.get("group"),
        tags=list(raw.get("tags") or ()),
        batch=raw.get("batch"),
        meta=dict(raw.get("meta") or {}),
        traceparent=raw.get("traceparent"),
        cancel_requested=bool(raw.get("cancel_requested", False)),
        raw=raw,
    )


def queue_from(raw: Mapping[str, Any]) -> Queue:
    return Queue(raw["name"], raw["paused"], dict(raw["depth"]), raw)


def _callback(raw: Mapping[str, Any], name: str) -> Optional[BatchCallback]:
    callback = raw.get(name)
    return None if callback is None else BatchCallback(callback["state"], callback.get("job"))


def batch_from(raw: Mapping[str, Any]) -> Batch:
    return Batch(
        id=raw["id"],
        created_at=parse_time(raw["created_at"]),
        closed_at=_time(raw, "closed_at"),
        total=raw["total"],
        pending=raw["pending"],
        completed=raw["completed"],
        dead=raw["dead"],
        cancelled=raw["cancelled"],
        deleted=raw["deleted"],
        on_success=_callback(raw, "on_success"),
        on_finish=_callback(raw, "on_finish"),
        meta=dict(raw.get("meta") or {}),
        raw=raw,
    )


def leased_from(raw: Mapping[str, Any]) -> Leased:
    return Leased(
        id=raw["id"],
        type=raw["type"],
        queue=raw["queue"],
        lease=raw["lease"],
        attempt=raw["attempt"],
        max_attempts=raw["max_attempts"],
        lease_expires_at=parse_time(raw["lease_expires_at"]),
        payload=value_of(raw, "payload"),
        checkpoint=raw.get("checkpoint"),
        batch=raw.get("batch"),
        meta=dict(raw.get("meta") or {}),
        traceparent=raw.get("traceparent"),
        raw=raw,
    )
