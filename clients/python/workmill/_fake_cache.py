"""The cache of the in-memory server: values, their windows, and the jobs that compute them.

Without the server's chance: no jitter of windows, and no early refresh. Times are seconds of the fake's clock.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Protocol, Tuple
from urllib.parse import parse_qsl, unquote, urlsplit

from . import _json
from ._calls import Answer
from ._fake_problem import Problem
from ._time import DurationLike, duration_seconds

_KEY_BYTES_MAX = 512
_VALUE_BYTES_MAX = 8 * 1024 * 1024
_TAGS_MAX = 20
_ENTRIES_MAX = 100  # Of a report.
_COMPUTE_FIELDS = frozenset("job fresh stale wait error_for tags".split())
_NOT_OF_A_FLIGHT = ("id", "unique", "delay", "run_at", "after", "batch")


@dataclass
class _Entry:
    data: bytes
    content_type: str
    stored_at: float
    fresh_until: float
    stale_until: float
    tags: List[str]

    @property
    def etag(self) -> str:
        return hashlib.sha256(self.content_type.encode() + b"\n" + self.data).hexdigest()[:16]


@dataclass
class _Flight:
    """A job that computes a key's value, and what becomes of that."""

    job: str
    fresh: float
    stale: float
    error_for: float
    tags: List[str] = field(default_factory=list)


@dataclass
class _Failure:
    problem: Problem
    until: float


class Jobs(Protocol):
    """What the cache asks of the server whose it is."""

    now: float

    def add_flight(self, job: Any, headers: Mapping[str, str]) -> str:
        """Enqueues it; its id."""

    def state_of(self, id: str) -> str: ...


class FakeCache:
    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs
        self._entries: Dict[str, _Entry] = {}
        self._flights: Dict[str, _Flight] = {}  # By key.
        self._failures: Dict[str, _Failure] = {}

    # ---- Calls. All raise Problem.

    def call(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query))
        key = unquote(parts.path[len("/v1/cache") :].lstrip("/"))
        if not key:
            return self._delete_by(method, query)
        _check_key(key, "key")
        if method == "GET":
            return self._find(key) or _missed()
        if method == "POST":
            return self._compute(key, _json.loads(body), headers)
        if method == "DELETE":
            if not self._delete(key):
                return _missed()
            return Answer(204, {}, b"")
        if len(body) > _VALUE_BYTES_MAX:
            raise Problem(413, "payload_too_large", f"a value has {_VALUE_BYTES_MAX} bytes at most")
        kind = headers.get("Content-Type", "application/octet-stream")
        tags = [tag for tag in query.get("tags", "").split(",") if tag]
        etag = self._put(key, body, kind, _windows(query, ""), tags)
        return Answer(204, {"etag": f'"{etag}"'}, b"")

    def _find(self, key: str) -> Optional[Answer]:
        entry, now = self._entries.get(key), self._jobs.now
        if entry is None or entry.stale_until <= now:
            self._entries.pop(key, None)
            return None
        left = int((entry.fresh_until - now) // 1)  # Over by a part of a second is over.
        headers = {
            "content-type": entry.content_type,
            "etag": f'"{entry.etag}"',
            "age": str(int(now - entry.stored_at)),
            "cache-status": f"workmill; hit; ttl={left}",
        }
        return Answer(200, headers, entry.data)

    def _compute(self, key: str, body: Mapping[str, Any], request: Mapping[str, str]) -> Answer:
        for name in body:
            if name not in _COMPUTE_FIELDS:
                raise Problem(400, "unknown_field", "the call does not have it", field=name)
        if "job" not in body:
            raise Problem(400, "missing_field", "the job that computes the value", field="job")
        for name in _NOT_OF_A_FLIGHT:
            if name in body["job"]:
                raise Problem(400, "invalid_field", "not of a job that computes a value", field=f"job.{name}")
        windows = _windows(body, "")
        error_for = _duration(body.get("error_for", "0s"), "error_for")
        there, now = self._find(key), self._jobs.now
        if there is not None and now < self._entries[key].fresh_until:
            return there
        failure = self._failures.get(key)
        if failure is not None and now < failure.until:
            if there is None:
                raise failure.problem
            return there
        if key not in self._flights:
            tags = list(body.get("tags", ()))
            _check_tags(tags, "tags")
            job = self._jobs.add_flight(body["job"], request)
            self._flights[key] = _Flight(job, *windows, error_for, tags)
        job = self._flights[key].job
        if there is not None:
            return there
        # Nothing could happen while it waited.
        said = {"job_id": job, "state": self._jobs.state_of(job)}
        return Answer(202, {"location": f"/v1/jobs/{job}"}, _json.dumps(said))

    def _put(self, key: str, data: bytes, kind: str, windows: Tuple[float, float], tags: List[str]) -> str:
        _check_tags(tags, "tags")
        now, (fresh, stale) = self._jobs.now, windows
        entry = _Entry(data, kind, now, now + fresh, now + fresh + stale, tags)
        self._entries[key] = entry
        self._failures.pop(key, None)
        return entry.etag

    def _delete(self, key: str) -> bool:
        """Also what is remembered of a failure, which counts as there until its time is over."""
        failure = self._failures.pop(key, None)
        is_failure_there = failure is not None and self._jobs.now < failure.until
        is_there = self._find(key) is not None or is_failure_there
        self._entries.pop(key, None)
        return is_there

    def _delete_by(self, method: str, query: Mapping[str, str]) -> Answer:
        if method != "DELETE":
            raise Problem(405, "method_not_allowed", "a key is missing")
        if len(query) != 1 or next(iter(query)) not in ("tag", "prefix"):
            raise Problem(400, "missing_field", "either tag or prefix", field="tag")
        name, wanted = next(iter(query.items()))
        if name == "tag":  # Failures have none.
            keys = [key for key, entry in self._entries.items() if wanted in entry.tags]
        else:
            keys = [key for key in {**self._entries, **self._failures} if key.startswith(wanted)]
        count = sum(self._delete(key) for key in keys)
        return Answer(200, {}, _json.dumps({"count": count}))

    # ---- What becomes of jobs.

    @staticmethod
    def check_report(entries: Any) -> None:
        """Of a `completed` report."""
        if len(entries) > _ENTRIES_MAX:
            raise Problem(400, "invalid_field", f"{_ENTRIES_MAX} keys at most", field="cache")
        for number, entry in enumerate(entries):
            _check_key(entry["key"], f"cache[{number}].key")
            _check_tags(entry.get("tags", ()), f"cache[{number}].tags")
            _windows(entry, f"cache[{number}].")

    def on_completed(self, job: str, report: Mapping[str, Any]) -> None:
        """What the report sets, and the result of a flight's job, unless the report sets that very key."""
        flown = self._take_flight(job)
        if flown is not None:
            key, flight = flown
            self._put(key, *_value_of(report, "result"), (flight.fresh, flight.stale), flight.tags)
        for entry in report.get("cache", ()):
            data, kind = _value_of(entry, "value")
            tags = list(entry.get("tags", ()))
            self._put(entry["key"], data, entry.get("content_type", kind), _windows(entry, ""), tags)

    def on_failed(self, job: str, error: Optional[Mapping[str, Any]]) -> None:
        """It is dead, by this error; or cancelled, or deleted."""
        flown = self._take_flight(job)
        if flown is None:
            return
        key, flight = flown
        if error is None or flight.error_for <= 0:
            return
        detail = f"{error['code']}: {error['message']}"
        problem = Problem(502, "compute_failed", detail, error["class"])
        self._failures[key] = _Failure(problem, self._jobs.now + flight.error_for)

    def _take_flight(self, job: str) -> Optional[Tuple[str, _Flight]]:
        for key, flight in self._flights.items():
            if flight.job == job:
                return key, self._flights.pop(key)
        return None


def _missed() -> Answer:
    raise Problem(404, "cache_miss", "there is no value under this key")


def _value_of(raw: Mapping[str, Any], name: str) -> Tuple[bytes, str]:
    encoded = raw.get(f"{name}_base64")
    if encoded is not None:
        return base64.b64decode(encoded), "application/octet-stream"
    return _json.dumps(raw.get(name)), "application/json"


def _windows(raw: Mapping[str, Any], prefix: str) -> Tuple[float, float]:
    fresh = _duration(raw.get("fresh", "1m"), f"{prefix}fresh")
    return fresh, _duration(raw.get("stale", "0s"), f"{prefix}stale")


def _duration(value: DurationLike, where: str) -> float:
    try:
        return duration_seconds(value)
    except (TypeError, ValueError):
        raise Problem(400, "invalid_field", "not a duration", field=where) from None


def _check_key(key: str, where: str) -> None:
    is_plain = not any(ord(one) < 0x20 or ord(one) == 0x7F for one in key)
    if not (is_plain and 1 <= len(key.encode()) <= _KEY_BYTES_MAX):
        raise Problem(400, "invalid_field", f"1 to {_KEY_BYTES_MAX} bytes, no control characters", field=where)


def _check_tags(tags: Any, where: str) -> None:
    if len(tags) > _TAGS_MAX:
        raise Problem(400, "invalid_field", f"{_TAGS_MAX} tags at most", field=where)
