"""An in-memory server for tests: the part of the HTTP API that clients use, on a clock that the test turns.

It answers requests as the real one does, so the real clients sit on it unchanged. It is small rather than complete:
what it
does not know it refuses, as the server does with what it does not know. One lock makes it safe for several threads.
"""

from __future__ import annotations

import base64
import datetime
import re
import threading
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Callable, Deque, Dict, Iterator, List, Mapping, Optional, Tuple
from urllib.parse import parse_qsl, unquote, urlsplit

from . import _json
from ._calls import BULK_MAX, REPORTS_MAX, Answer
from ._fake_batches import FakeBatches
from ._fake_cache import FakeCache
from ._fake_problem import Problem, limit_of
from ._models import FINISHED
from ._time import duration_seconds, parse_time, time_text

_NAME = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_JOB_FIELDS = frozenset(
    "type queue payload payload_base64 id priority delay run_at expires_in max_attempts backoff lease unique group"
    " tags batch keep_result meta".split()
)
_STATES = ("scheduled", "ready", "leased", "completed", "dead", "cancelled")
_UNIQUE_STATES = {
    "scheduled": frozenset(("scheduled",)),
    "queued": frozenset(("scheduled", "ready")),
    "unfinished": frozenset(("scheduled", "ready", "leased")),
}


@dataclass
class FakeJob:
    sent: Dict[str, Any]  # As it was enqueued.
    id: str
    number: int
    state: str
    created_at: float
    ready_at: float
    order: int  # Among those of its priority.
    attempt: int = 0
    started_at: Optional[float] = None
    finished_at: Optional[float] = None
    lease: Optional[str] = None
    lease_ends: float = 0.0
    cancel_requested: bool = False
    worker: Optional[str] = None
    errors: List[Dict[str, Any]] = field(default_factory=list)
    progress: Optional[Dict[str, Any]] = None
    outcome: Dict[str, Any] = field(default_factory=dict)  # result or result_base64.
    checkpoint: Any = None
    log: List[str] = field(default_factory=list)

    @property
    def queue(self) -> str:
        return str(self.sent.get("queue", "default"))


class FakeServer:
    def __init__(self, now: Optional[datetime.datetime] = None) -> None:
        start = now if now is not None else datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
        self.now = start.timestamp()
        self._lock = threading.RLock()
        self._jobs: Dict[str, FakeJob] = {}  # In the order in which they came.
        self._paused: Dict[str, bool] = {}  # Every queue that is known.
        self._answers: Dict[str, Tuple[bytes, Answer]] = {}  # By idempotency key.
        self._numbers = 0
        self._refusals: Deque[Problem] = deque()
        self._cache = FakeCache(self)
        self._batches = FakeBatches(self)

    # ---- For tests.

    def advance(self, seconds: float) -> None:
        with self._lock:
            self.now += seconds
            self._tick()

    def refuse(self, problem: Problem, count: int) -> None:
        """The next requests are refused."""
        with self._lock:
            self._refusals.extend([problem] * count)

    def next_time(self) -> Optional[float]:
        """When something is due by itself: a delayed job, the end of a lease."""
        with self._lock:
            times = [job.ready_at for job in self._jobs.values() if job.state == "scheduled"]
            times += [job.lease_ends for job in self._jobs.values() if job.state == "leased"]
            return min(times, default=None)

    # ---- Requests.

    def request(self, method: str, path: str, headers: Mapping[str, str], body: Optional[bytes]) -> Answer:
        with self._lock:
            self._tick()
            key = headers.get("Idempotency-Key")
            before = self._answers.get(key) if key is not None and method == "POST" else None
            try:
                if self._refusals:
                    raise self._refusals.popleft()
                if len(body or b"") > BODY_BYTES_MAX:
                    raise Problem(413, "payload_too_large", f"the body is over the limit of {BODY_BYTES_MAX} bytes")
                if urlsplit(path).path.startswith("/v1/cache"):
                    return self._cache.call(method, path, headers, body or b"")
                if before is not None:
                    if before[0] != body:
                        raise Problem(422, "idempotency_key_reused", "the key came with another body")
                    return before[1]
                content = self._route(method, path, _json.loads(body) if body else None, headers)
                self._batches.settle()
                answer = Answer(201 if key is not None else 200, {}, _json.dumps(content))
            except Problem as problem:
                more = {"retry-after": "0"} if problem.content["class"] == "retryable" else {}
                answer = Answer(problem.status, more, _json.dumps(problem.content))
            if key is not None and answer.status < 300:
                self._answers[key] = (body or b"", answer)
            return answer

    def _route(self, method: str, target: str, body: Any, headers: Mapping[str, str]) -> Any:
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query))
        segments = [unquote(part) for part in parts.path.split("/") if part]
        if segments[:1] != ["v1"]:
            raise Problem(404, "not_found", "there is nothing at this path")
        shape = (method, *("*" if number == 1 else part for number, part in enumerate(segments[1:])))
        name = segments[2] if len(segments) > 2 else ""
        routes: Dict[Tuple[str, ...], Callable[[], Any]] = {
            ("POST", "jobs"): lambda: self._enqueue(body, headers),
            ("GET", "jobs"): lambda: self._list(query),
            ("GET", "jobs", "*"): lambda: self.view(self._job(name)),
            ("DELETE", "jobs", "*"): lambda: self._delete(self._job(name)),
            ("PATCH", "jobs", "*"): lambda: self._change(self._job(name), body),
            ("POST", "jobs", "*", "cancel"): lambda: self._cancel(self._job(name)),
            ("POST", "jobs", "*", "retry"): lambda: self._retry(self._job(name)),
            ("GET", "jobs", "*", "log"): lambda: {"lines": self._job(name).log},
            ("POST", "leases"): lambda: self._lease(body),
            ("POST", "reports"): lambda: {"reports": [self._report(one) for one in body["reports"][:REPORTS_MAX]]},
            ("GET", "queues"): lambda: {"items": [self._queue(one) for one in sorted(self._paused)], "next": None},
            ("GET", "queues", "*"): lambda: self._known_queue(name),
            ("PATCH", "queues", "*"): lambda: self._change_queue(name, body),
            ("DELETE", "queues", "*", "jobs"): lambda: self._purge(name, query.get("state")),
            ("POST", "batches"): lambda: self._batches.create(body, _trace_of(headers)),
            ("GET", "batches"): lambda: self._batches.list(query),
            ("GET", "batches", "*"): lambda: self._batches.get(name),
            ("POST", "batches", "*", "close"): lambda: self._batches.close(name),
            ("DELETE", "batches", "*"): lambda: self._batches.delete(name),
            ("GET", "status"): lambda: {"version": "fake", "readiness": "ready", "jobs": self._count(None)},
        }
        if shape == ("POST", "jobs", "*") and name == "bulk":
            return self._bulk(body)
        if shape not in routes:
            raise Problem(404, "not_found", "the in-memory server does not have this call")
        return routes[shape]()

    # ---- Enqueue.

    def _enqueue(self, body: Any, headers: Mapping[str, str]) -> Any:
        trace = _trace_of(headers)
        if "jobs" not in body:
            _check_job(body, "")
            self._batches.check([body])
            return self._add({**body, **trace})
        if len(body["jobs"]) > BULK_MAX:
            raise Problem(400, "invalid_field", f"{BULK_MAX} jobs at most", field="jobs")
        for number, job in enumerate(body["jobs"]):
            _check_job(job, f"jobs[{number}].")
        self._batches.check(body["jobs"])
        return {"jobs": [self._add({**job, **trace}) for job in body["jobs"]]}

    def _add(self, sent: Dict[str, Any]) -> Dict[str, Any]:
        there = self.there_already(sent)
        if there is not None:
            return {"id": there.id, "state": there.state, "duplicate": True}
        job = self._make(sent)
        if "batch" in sent:
            self._batches.join(sent["batch"], job)
        return {"id": job.id, "state": job.state, "duplicate": False}

    def _make(self, sent: Dict[str, Any]) -> FakeJob:
        self._numbers += 1
        ready_at = self.now
        if "delay" in sent:
            ready_at = self.now + duration_seconds(sent["delay"])
        elif "run_at" in sent:
            ready_at = parse_time(sent["run_at"]).timestamp()
        state = "scheduled" if ready_at > self.now else "ready"
        id = sent.get("id") or str(uuid.UUID(int=(int(self.now * 1000) << 80) | (7 << 76) | (2 << 62) | self._numbers))
        job = FakeJob(sent, id, self._numbers, state, self.now, ready_at, self._numbers)
        self._jobs[id] = job
        self._paused.setdefault(job.queue, False)
        return job

    def there_already(self, sent: Mapping[str, Any]) -> Optional[FakeJob]:
        if sent.get("id") in self._jobs:
            return self._jobs[sent["id"]]
        unique = sent.get("unique")
        if unique is None:
            return None
        states = _UNIQUE_STATES[unique.get("while", "unfinished")]
        for job in self._jobs.values():
            other = job.sent.get("unique")
            if other is None or other["key"] != unique["key"] or job.queue != sent.get("queue", "default"):
                continue
            is_recent = "for" not in other or self.now < job.created_at + duration_seconds(other["for"])
            if job.state in states and is_recent:
                return job
        return None

    def add_flight(self, job: Any, headers: Mapping[str, str]) -> str:
        """Of the cache: a job that computes a value."""
        _check_job(job, "job.")
        return str(self._add({**job, **_trace_of(headers)})["id"])

    def add_callback(self, job: Mapping[str, Any]) -> str:
        """Of a batch."""
        return self._make(dict(job)).id

    def check_job(self, job: Any, prefix: str) -> None:
        _check_job(job, prefix)

    def is_gone(self, job: FakeJob) -> bool:
        return self._jobs.get(job.id) is not job

    def state_of(self, id: str) -> str:
        return self._jobs[id].state

    # ---- Time.

    def _tick(self) -> None:
        for job in self._jobs.values():
            if job.state == "scheduled" and job.ready_at <= self.now:
                self._make_ready(job)
            elif job.state == "leased" and job.lease_ends <= self.now:
                error = {"class": "retryable", "code": "lease_expired", "message": "its worker fell silent"}
                self._fail(job, error, 0.0)
            if job.state == "ready" and "expires_in" in job.sent:
                if self.now >= job.created_at + duration_seconds(job.sent["expires_in"]):
                    self._note_error(job, {"class": "fatal", "code": "expired", "message": "nobody took it in time"})
                    self._finish(job, "dead")
        self._batches.settle()

    def _make_ready(self, job: FakeJob) -> None:
        self._numbers += 1
        job.state, job.order, job.lease = "ready", self._numbers, None

    # ---- Work.

    def _lease(self, body: Mapping[str, Any]) -> Any:
        names = [one if isinstance(one, str) else one["name"] for one in body["queues"]]
        leased: List[Dict[str, Any]] = []
        for job in self._ready(names):
            if len(leased) == body.get("max", 1):
                break
            self._numbers += 1
            job.state, job.lease, job.attempt = "leased", f"{self._numbers:016x}", job.attempt + 1
            job.started_at, job.worker = self.now, body.get("worker")
            job.lease_ends = self.now + duration_seconds(body.get("lease") or job.sent.get("lease", "60s"))
            leased.append(self._leased_view(job))
        return {"jobs": leased}

    def _ready(self, names: List[str]) -> Iterator[FakeJob]:
        ready = [job for job in self._jobs.values() if job.state == "ready" and not self._paused[job.queue]]
        for name in names:
            mine = [job for job in ready if job.queue == name]
            yield from sorted(mine, key=lambda job: (-int(job.sent.get("priority", 5)), job.order))

    def _report(self, report: Mapping[str, Any]) -> Dict[str, Any]:
        job = self._jobs.get(report["id"])
        if job is None or job.state != "leased" or job.lease != report["lease"]:
            problem = Problem(409, "lease_lost", "the job is not leased under this token", "fatal")
            return {"id": report["id"], "ok": False, "error": problem.content}
        try:
            self._cache.check_report(report.get("cache", ()))
        except Problem as problem:
            return {"id": report["id"], "ok": False, "error": problem.content}
        was_cancelled = job.cancel_requested
        getattr(self, f"_on_{report['outcome']}")(job, report)
        answer: Dict[str, Any] = {"id": job.id, "ok": True}
        if was_cancelled:
            answer["cancel_requested"] = True
        return answer

    def _on_completed(self, job: FakeJob, report: Mapping[str, Any]) -> None:
        job.outcome = {name: report[name] for name in ("result", "result_base64") if name in report}
        self._finish(job, "completed")
        self._cache.on_completed(job.id, report)

    def _on_failed(self, job: FakeJob, report: Mapping[str, Any]) -> None:
        retry_in = report.get("retry_in")
        self._fail(job, report["error"], None if retry_in is None else duration_seconds(retry_in))

    def _on_extend(self, job: FakeJob, report: Mapping[str, Any]) -> None:
        job.lease_ends = self.now + duration_seconds(report["for"])

    def _on_progress(self, job: FakeJob, report: Mapping[str, Any]) -> None:
        job.progress = {name: report[name] for name in ("percent", "message") if name in report}

    def _on_log(self, job: FakeJob, report: Mapping[str, Any]) -> None:
        job.log.extend(report["lines"])

    def _on_checkpoint(self, job: FakeJob, report: Mapping[str, Any]) -> None:
        job.checkpoint = report["data"]

    def _on_released(self, job: FakeJob, report: Mapping[str, Any]) -> None:
        job.attempt -= 1
        if job.cancel_requested:
            self._finish(job, "cancelled")
        else:
            self._make_ready(job)

    def _fail(self, job: FakeJob, error: Mapping[str, Any], retry_in: Optional[float]) -> None:
        self._note_error(job, error)
        is_last = job.attempt >= int(job.sent.get("max_attempts", 20))
        if job.cancel_requested:
            self._finish(job, "cancelled")
        elif error.get("class", "retryable") != "retryable" or is_last:
            self._finish(job, "dead")
        else:
            job.ready_at = self.now + (self._backoff(job) if retry_in is None else retry_in)
            job.lease = None
            if job.ready_at > self.now:
                job.state = "scheduled"
            else:
                self._make_ready(job)

    @staticmethod
    def _backoff(job: FakeJob) -> float:
        """Without its jitter: tests want to know."""
        options = job.sent.get("backoff", {})
        first = duration_seconds(options.get("first", "15s"))
        cap = duration_seconds(options.get("cap", "1h"))
        return float(min(max(cap, first), first * options.get("factor", 2.0) ** (job.attempt - 1)))

    def _note_error(self, job: FakeJob, error: Mapping[str, Any]) -> None:
        whole = {"class": "retryable", "code": "failed", "message": "", **error}
        job.errors.insert(0, {**whole, "attempt": job.attempt, "at": self.time(self.now)})
        del job.errors[10:]

    def _finish(self, job: FakeJob, state: str) -> None:
        job.state, job.finished_at, job.lease = state, self.now, None
        if state != "completed":
            self._cache.on_failed(job.id, job.errors[0] if state == "dead" else None)

    # ---- Jobs and queues.

    def _job(self, id: str) -> FakeJob:
        if id not in self._jobs:
            raise Problem(404, "job_not_found", "there is no job with this id")
        return self._jobs[id]

    def _cancel(self, job: FakeJob) -> Any:
        if job.state == "leased":
            job.cancel_requested = True
        elif job.state in ("completed", "dead"):
            raise Problem(409, "wrong_state", f"the job is {job.state}")
        else:
            self._finish(job, "cancelled")
        return {}

    def _retry(self, job: FakeJob) -> Any:
        if job.state not in ("dead", "cancelled", "scheduled"):
            raise Problem(409, "wrong_state", f"the job is {job.state}")
        job.attempt, job.cancel_requested, job.finished_at = 0, False, None
        self._make_ready(job)
        return {}

    def _delete(self, job: FakeJob) -> Any:
        if job.state == "leased":
            raise Problem(409, "job_leased", "the job is held by a worker")
        self._cache.on_failed(job.id, None)
        del self._jobs[job.id]
        return {}

    def _change(self, job: FakeJob, changes: Mapping[str, Any]) -> Any:
        if job.state == "leased":
            raise Problem(409, "job_leased", "the job is held by a worker")
        _check_job({"type": "t", **changes}, "")
        job.sent.update(changes)
        self._paused.setdefault(job.queue, False)
        if "run_at" in changes and job.state not in FINISHED:
            job.ready_at, job.state = parse_time(changes["run_at"]).timestamp(), "scheduled"
            self._tick()
        return self.view(job)

    def _bulk(self, body: Mapping[str, Any]) -> Any:
        act = {"cancel": self._cancel, "retry": self._retry, "delete": self._delete}[body["action"]]
        self._batches.check_filter(body["where"], "where.batch")
        count = 0
        for job in [job for job in self._jobs.values() if _matches(job, body["where"])]:
            try:
                act(job)
                count += 1
            except Problem:
                pass  # Those whose state does not allow it are left out.
        return {"count": count}

    def _purge(self, name: str, state: Optional[str]) -> Any:
        where = {"queue": name} if state is None else {"queue": name, "state": state}
        return self._bulk({"action": "delete", "where": where})

    def _list(self, query: Mapping[str, str]) -> Any:
        where = {name: value for name, value in query.items() if name not in ("limit", "cursor")}
        self._batches.check_filter(where, "batch")
        before = int(query.get("cursor", self._numbers + 1))
        newest = [job for job in reversed(list(self._jobs.values())) if job.number < before and _matches(job, where)]
        page = newest[: limit_of(query)]
        return {
            "items": [self.view(job) for job in page],
            "next": str(page[-1].number) if len(page) < len(newest) else None,
        }

    def _known_queue(self, name: str) -> Any:
        if name not in self._paused:
            raise Problem(404, "not_found", "there is no such queue")
        return self._queue(name)

    def _queue(self, name: str) -> Any:
        settings = {"paused": self._paused[name], "max_depth": None, "when_full": "refuse"}
        return {"name": name, "paused": self._paused[name], "depth": self._count(name), "settings": settings}

    def _change_queue(self, name: str, changes: Mapping[str, Any]) -> Any:
        for setting in changes:
            if setting != "paused":
                raise Problem(400, "unknown_field", "the in-memory server does not have this setting", field=setting)
        self._paused[name] = bool(changes.get("paused", self._paused.get(name, False)))
        return self._queue(name)

    def _count(self, queue: Optional[str]) -> Dict[str, int]:
        depth = dict.fromkeys(_STATES, 0)
        for job in self._jobs.values():
            if queue in (None, job.queue):
                depth[job.state] += 1
        return depth

    # ---- Views.

    @staticmethod
    def time(seconds: float) -> str:
        return time_text(datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc))

    def view(self, job: FakeJob) -> Dict[str, Any]:
        with self._lock:
            seen = {"queue": "default", "priority": 5, "max_attempts": 20, **job.sent}
            seen.update(id=job.id, state=job.state, attempt=job.attempt, created_at=self.time(job.created_at))
            seen["ready_at"] = self.time(job.ready_at)
            for name in ("started_at", "finished_at"):
                if getattr(job, name) is not None:
                    seen[name] = self.time(getattr(job, name))
            if job.errors:
                seen["error"], seen["errors"] = job.errors[0], list(job.errors)
            if job.progress is not None:
                seen["progress"] = job.progress
            if job.worker is not None:
                seen["worker"] = job.worker
            if job.cancel_requested:
                seen["cancel_requested"] = True
            return {**seen, **job.outcome}

    def _leased_view(self, job: FakeJob) -> Dict[str, Any]:
        names = ("payload", "payload_base64", "meta", "group", "tags", "batch", "traceparent", "tracestate")
        seen = {name: job.sent[name] for name in names if name in job.sent}
        seen.update(id=job.id, type=job.sent["type"], queue=job.queue, attempt=job.attempt, lease=job.lease)
        seen.update(priority=job.sent.get("priority", 5), max_attempts=job.sent.get("max_attempts", 20))
        seen.update(created_at=self.time(job.created_at), lease_expires_at=self.time(job.lease_ends))
        if job.checkpoint is not None:
            seen["checkpoint"] = job.checkpoint
        return seen


def _matches(job: FakeJob, where: Mapping[str, str]) -> bool:
    tests: Dict[str, Callable[[str], bool]] = {
        "state": lambda wanted: job.state == wanted,
        "queue": lambda wanted: job.queue == wanted,
        "type": lambda wanted: bool(job.sent["type"] == wanted),
        "group": lambda wanted: bool(job.sent.get("group") == wanted),
        "batch": lambda wanted: bool(job.sent.get("batch") == wanted),
        "tag": lambda wanted: wanted in job.sent.get("tags", ()),
        "q": lambda wanted: wanted in _json.dumps([job.sent, job.id, job.errors[:1]]).decode(),
    }
    for name in where:
        if name not in tests:
            raise Problem(400, "unknown_field", "the call does not have it", field=name)
    return all(tests[name](wanted) for name, wanted in where.items())


PAYLOAD_BYTES_MAX = 6 * 1024 * 1024
BODY_BYTES_MAX = 12 * 1024 * 1024  # As a server has it that is not told otherwise.


def _trace_of(headers: Mapping[str, str]) -> Dict[str, str]:
    return {name: headers[name] for name in ("traceparent", "tracestate") if name in headers}


def _check_job(job: Mapping[str, Any], prefix: str) -> None:
    """The mistakes that are made most."""
    if "payload" in job and len(_json.dumps(job["payload"])) > PAYLOAD_BYTES_MAX:
        raise Problem(413, "payload_too_large", f"must be {PAYLOAD_BYTES_MAX} bytes at most", field=f"{prefix}payload")
    for name in job:
        if name not in _JOB_FIELDS:
            raise Problem(400, "unknown_field", "a job does not have it", field=prefix + name)
    if "type" not in job:
        raise Problem(400, "missing_field", "a job has a type", field=f"{prefix}type")
    for name in ("type", "queue", "id", "group", "batch"):
        if name in job and not (isinstance(job[name], str) and _NAME.fullmatch(job[name])):
            raise Problem(400, "invalid_field", "1 to 128 of A-Z a-z 0-9 . _ : -", field=prefix + name)
    _check_number(job, prefix, "priority", 0, 9)
    _check_number(job, prefix, "max_attempts", 1, 10_000)
    for name in ("delay", "expires_in", "lease", "keep_result"):
        try:
            duration_seconds(job.get(name, "1s"))
        except (TypeError, ValueError):
            raise Problem(400, "invalid_field", "not a duration", field=prefix + name) from None
    if "delay" in job and "run_at" in job:
        raise Problem(400, "invalid_field", "delay or run_at, not both", field=f"{prefix}run_at")
    if "payload_base64" in job:
        try:
            payload = base64.b64decode(job["payload_base64"], validate=True)
        except (TypeError, ValueError):
            raise Problem(400, "invalid_field", "not base64", field=f"{prefix}payload_base64") from None
        if len(payload) > PAYLOAD_BYTES_MAX:
            message = f"must be {PAYLOAD_BYTES_MAX} bytes at most"
            raise Problem(413, "payload_too_large", message, field=f"{prefix}payload")


def _check_number(job: Mapping[str, Any], prefix: str, name: str, least: int, most: int) -> None:
    value = job.get(name, least)
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise Problem(400, "invalid_field", f"{name} is {least} to {most}", field=prefix + name)
