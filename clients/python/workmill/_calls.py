"""The HTTP API as values: each function makes a Call, which says what to send and how to read the answer. Both clients
run the same calls; no I/O is here."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import uuid
from dataclasses import dataclass, field
from typing import (
    Any,
    Callable,
    Dict,
    Generic,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
    TypeVar,
    Union,
)
from urllib.parse import quote, urlencode

from . import _json, _ours
from ._errors import CachePending, NoServer, UserError, WorkmillError, from_problem, protocol_error
from ._models import (
    Batch,
    Cached,
    Enqueued,
    Job,
    Leased,
    Queue,
    Reported,
    batch_from,
    cached_from,
    job_from,
    leased_from,
    queue_from,
)
from ._retry import Attempts
from ._time import DurationLike, duration_seconds, duration_text, time_text

T = TypeVar("T")

BULK_MAX = 10_000  # Jobs of one call, as the server takes them.
REPORTS_MAX = 1_000
# A call's body stays below the server's default body_size_max of 12 MiB, so that a bulk of big jobs is sent in pieces.
BULK_BYTES_MAX = 4 * 1024 * 1024
KEY_LENGTH_MAX = 255  # Of an idempotency key, as the server takes them.
_CONTENT_TYPE = re.compile(r"(?! )[ -~]{1,255}(?<! )")
# With these a gateway says in its own words that it reaches no server, or that it has more to do than it can.
OF_GATEWAYS = (429, 502, 503, 504)
POLL = 30.0  # Seconds of one long poll; a longer wait is several.

QueueChoice = Union[str, Tuple[str, int], Mapping[str, Any]]


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]  # Names in lower case.
    body: bytes


@dataclass(frozen=True)
class Call(Generic[T]):
    method: str
    path: str
    parse: Callable[[Any], T]
    body: Optional[bytes] = None
    headers: Dict[str, str] = field(default_factory=dict)
    wait: float = 0.0  # Seconds that the server may take besides, as asked.
    # In place of `parse`, for an answer that is more than its JSON.
    read_answer: Optional[Callable[[Answer], T]] = None
    # Whether it may be sent again where nobody knows if it was done.
    is_repeatable: bool = True
    # What it comes to that nothing is kept under the key; where it is None: to an error.
    on_miss: Optional[Callable[[], T]] = None


def settled(call: Call[T], error: WorkmillError, attempts: Attempts) -> Optional[Callable[[], T]]:
    """What an error means that is an answer like others. None: it is an error."""
    if attempts.has_deleted(call.method, error):
        return lambda: call.parse(None)
    return call.on_miss if error.code == "cache_miss" else None


def read(call: Call[T], answer: Answer) -> T:
    """What the answer means. Raises the error that it tells of."""
    if call.read_answer is not None and 200 <= answer.status < 300:
        return call.read_answer(answer)
    try:
        content = _json.loads(answer.body) if answer.body else None
    except ValueError:
        raise _not_ours(call, answer, "without JSON") from None
    if 200 <= answer.status < 300:
        try:
            return call.parse(content)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, WorkmillError):
                raise
            raise protocol_error(f"{call.method} {call.path} was answered in a form that is not known") from error
    raise problem_error(content, answer.headers) or _not_ours(call, answer, "without a problem")


def problem_error(content: Any, headers: Mapping[str, str]) -> Optional[WorkmillError]:
    """None: it is no problem of ours."""
    return from_problem(content, retry_after(headers)) if _ours.is_problem(content) else None


def _not_ours(call: Call[T], answer: Answer, how: str) -> WorkmillError:
    what = f"{call.method} {call.path} was answered {answer.status}"
    if answer.status not in OF_GATEWAYS:
        return protocol_error(f"{what} {how}")
    return NoServer(
        what,
        may_have_happened=answer.status != 429,
        status=answer.status,
        retry_after=retry_after(answer.headers),
    )


def retry_after(headers: Mapping[str, str]) -> Optional[float]:
    """`headers` has names in lower case. Workmill sends no dates."""
    text = headers.get("retry-after", "")
    return float(text) if text.isdecimal() else None


def job_as_sent(job: Mapping[str, Any]) -> Dict[str, Any]:
    """With Python's durations, times and bytes made into the server's. What is not known passes: the server refuses it
    by name."""
    sent: Dict[str, Any] = {}
    for name, value in job.items():
        if name in ("delay", "expires_in", "lease", "keep_result"):
            value = duration_text(value)
        elif name == "run_at":
            value = time_text(value)
        elif name in ("backoff", "unique") and isinstance(value, Mapping):
            value = {
                key: duration_text(part) if key in ("first", "cap", "for") else part for key, part in value.items()
            }
        elif name == "payload" and isinstance(value, (bytes, bytearray, memoryview)):
            name, value = "payload_base64", base64.b64encode(value).decode()
        sent[name] = value
    return sent


def _nothing(_: Any) -> None:
    return None


def _enqueued(raw: Mapping[str, Any]) -> Enqueued:
    return Enqueued(raw["id"], raw["state"], raw["duplicate"])


def _creating(key: Optional[str]) -> Dict[str, str]:
    return {"Idempotency-Key": _key_header(key) if key is not None else uuid.uuid4().hex}


def _key_header(key: str) -> str:
    if not key or len(key) > KEY_LENGTH_MAX or not all(" " <= character <= "~" for character in key):
        message = f"an idempotency key is 1 to {KEY_LENGTH_MAX} characters of printable ASCII"
        raise UserError(message, code="invalid_field", field="idempotency_key")
    escaped = key.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _key_of_part(key: Optional[str], part: int) -> Optional[str]:
    """Many jobs are several calls: each has a key of its own, and the same one when all are sent again. The clients of
    other languages make the same ones."""
    if key is None or part == 0:
        return key
    suffix = f".{part}"
    if len(key) + len(suffix) <= KEY_LENGTH_MAX:
        return key + suffix
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}{suffix}"


def enqueue(job: Mapping[str, Any], key: Optional[str]) -> Call[Enqueued]:
    return Call("POST", "/v1/jobs", _enqueued, _json.dumps(job_as_sent(job)), _creating(key))


@dataclass(frozen=True)
class Bulk:
    """Jobs that go in one call, and the queue of the first one."""

    items: Sequence[bytes]
    queue: str
    key: Optional[str]

    def call(self) -> Call[List[Enqueued]]:
        body = b'{"jobs":[' + b",".join(self.items) + b"]}"
        headers = _creating(self.key)
        return Call("POST", "/v1/jobs", lambda raw: [_enqueued(job) for job in raw["jobs"]], body, headers)


class Bulks:
    """Jobs as they come, in as many calls as are needed."""

    def __init__(self, key: Optional[str]) -> None:
        if key is not None:
            _key_header(key)  # Refused before the first call, not with the second.
        self._key = key
        self._part = 0
        self._items: List[bytes] = []
        self._size = 0
        self._queue = ""

    def add(self, job: Mapping[str, Any]) -> Optional[Bulk]:
        """Those before it, where it has no room beside them."""
        item = _json.dumps(job_as_sent(job))
        is_full = len(self._items) == BULK_MAX or self._size + len(item) > BULK_BYTES_MAX
        full = self.rest() if is_full else None
        if not self._items:
            self._queue = queue_of(job)
        self._items.append(item)
        self._size += len(item) + 1
        return full

    def rest(self) -> Optional[Bulk]:
        """Those that were in none yet, if there are any."""
        if not self._items:
            return None
        bulk = Bulk(self._items, self._queue, _key_of_part(self._key, self._part))
        self._part += 1
        self._items, self._size = [], 0
        return bulk


def enqueue_many(jobs: Iterable[Mapping[str, Any]], key: Optional[str] = None) -> Iterator[Bulk]:
    bulks = Bulks(key)
    for job in jobs:
        full = bulks.add(job)
        if full is not None:
            yield full
    last = bulks.rest()
    if last is not None:
        yield last


@contextlib.contextmanager
def counting(before: List[Enqueued]) -> Iterator[None]:
    """Makes the error of a bulk one for who has sent more than it: its field is counted from the first job of all."""
    try:
        yield
    except WorkmillError as error:
        match = _FIELD_OF_BULK.match(error.field or "")
        if match is not None:
            error.field = f"jobs[{len(before) + int(match[1])}]{match[2]}"
        raise


def tell_of_all(error: Exception, before: List[Enqueued]) -> None:
    """Has the error of a bulk, or of the user's hooks and jobs, say what the bulks before it were answered."""
    with contextlib.suppress(AttributeError, TypeError):  # A class of the user's may take no attributes.
        setattr(error, "enqueued", before)


_FIELD_OF_BULK = re.compile(r"jobs\[(\d+)\](.*)")


def queue_of(job: Mapping[str, Any]) -> str:
    return str(job.get("queue", "default"))


def _job_path(id: str, rest: str = "") -> str:
    return f"/v1/jobs/{quote(id, safe='')}{rest}"


def get(id: str, wait: float = 0.0) -> Call[Job]:
    query = f"?wait={duration_text(wait)}" if wait > 0 else ""
    return Call("GET", _job_path(id, query), job_from, wait=wait)


# A retry is not repeatable: its jobs may have run, and died once more, meanwhile.
def act(id: str, action: str) -> Call[None]:
    return Call("POST", _job_path(id, f"/{action}"), _nothing, is_repeatable=action != "retry")


def delete(id: str) -> Call[None]:
    return Call("DELETE", _job_path(id), _nothing)


def change(id: str, changes: Mapping[str, Any]) -> Call[Job]:
    return Call("PATCH", _job_path(id), job_from, _json.dumps(job_as_sent(changes)))


def log(id: str) -> Call[List[str]]:
    return Call("GET", _job_path(id, "/log"), lambda raw: list(raw["lines"]))


def bulk(action: str, where: Mapping[str, Any]) -> Call[int]:
    body = _json.dumps({"action": action, "where": _given(where)})
    return Call("POST", "/v1/jobs/bulk", lambda raw: int(raw["count"]), body, is_repeatable=action != "retry")


Page = Tuple[List[T], Optional[str]]


def jobs_page(where: Mapping[str, Any], limit: int, cursor: Optional[str]) -> Call[Page[Job]]:
    query = urlencode({**_given(where), "limit": limit, **_given({"cursor": cursor})})
    return Call("GET", f"/v1/jobs?{query}", lambda raw: ([job_from(job) for job in raw["items"]], raw["next"]))


def queues_page(limit: int, cursor: Optional[str]) -> Call[Page[Queue]]:
    query = urlencode({"limit": limit, **_given({"cursor": cursor})})
    return Call("GET", f"/v1/queues?{query}", lambda raw: ([queue_from(queue) for queue in raw["items"]], raw["next"]))


def queue(name: str) -> Call[Queue]:
    return Call("GET", f"/v1/queues/{quote(name, safe='')}", queue_from)


def change_queue(name: str, changes: Mapping[str, Any]) -> Call[Queue]:
    return Call("PATCH", f"/v1/queues/{quote(name, safe='')}", queue_from, _json.dumps(changes))


def purge(name: str, state: Optional[str]) -> Call[int]:
    query = f"?{urlencode({'state': state})}" if state else ""
    return Call("DELETE", f"/v1/queues/{quote(name, safe='')}/jobs{query}", lambda raw: int(raw["count"]))


def queue_choices(queues: Sequence[QueueChoice]) -> List[Any]:
    """("name", weight) is short for {"name": …, "weight": …}."""
    if isinstance(queues, str):
        raise TypeError(f"queues is a list of names: [{queues!r}]")
    return [{"name": one[0], "weight": one[1]} if isinstance(one, tuple) else one for one in queues]


def lease_request(
    queues: Sequence[QueueChoice], max: int, wait: DurationLike, lease: DurationLike, worker: Optional[str]
) -> Call[List[Mapping[str, Any]]]:
    body = {"queues": queue_choices(queues), "max": max, "wait": duration_text(wait), "lease": duration_text(lease)}
    body.update(_given({"worker": worker}))
    return Call("POST", "/v1/leases", _ours.jobs_of, _json.dumps(body), wait=duration_seconds(wait))


def lease(
    queues: Sequence[QueueChoice], max: int, wait: DurationLike, lease: DurationLike, worker: Optional[str]
) -> Call[List[Leased]]:
    call = lease_request(queues, max, wait, lease, worker)

    def parse(raw: Any) -> List[Leased]:
        return [leased_from(job) for job in raw["jobs"]]

    # Not repeatable: the jobs of a lost answer are leased, and to nobody.
    return Call(call.method, call.path, parse, call.body, wait=call.wait, is_repeatable=False)


def reports_body(items: Sequence[bytes]) -> bytes:
    return b'{"reports":[' + b",".join(items) + b"]}"


def reports_request(items: Sequence[bytes]) -> Call[List[Mapping[str, Any]]]:
    return Call("POST", "/v1/reports", lambda raw: _ours.answers_of(raw, len(items)), reports_body(items))


def report(reports: Sequence[Mapping[str, Any]]) -> Call[List[Reported]]:
    def one(raw: Mapping[str, Any]) -> Reported:
        error = raw.get("error")
        return Reported(
            raw["id"],
            raw["ok"],
            bool(raw.get("cancel_requested", False)),
            None if error is None else from_problem(error),
            list(raw.get("not_stored", ())),
        )

    body = _json.dumps({"reports": list(reports)})
    return Call("POST", "/v1/reports", lambda raw: [one(item) for item in raw["reports"]], body)


# ---- Batches.


def _batch_path(id: str, rest: str = "") -> str:
    return f"/v1/batches/{quote(id, safe='')}{rest}"


def create_batch(
    id: Optional[str],
    on_success: Optional[Mapping[str, Any]],
    on_finish: Optional[Mapping[str, Any]],
    meta: Optional[Mapping[str, Any]],
    key: Optional[str],
) -> Call[Batch]:
    callbacks = _given({"on_success": on_success, "on_finish": on_finish})
    sent = {name: job_as_sent(job) for name, job in callbacks.items()}
    body = {**_given({"id": id, "meta": meta}), **sent}
    # Without an id of its own, too, a lost answer makes no second batch.
    return Call("POST", "/v1/batches", batch_from, _json.dumps(body), _creating(key))


def close_batch(id: str) -> Call[Batch]:
    return Call("POST", _batch_path(id, "/close"), batch_from)


def get_batch(id: str) -> Call[Batch]:
    return Call("GET", _batch_path(id), batch_from)


def batches_page(state: Optional[str], limit: int, cursor: Optional[str]) -> Call[Page[Batch]]:
    query = urlencode(_given({"state": state, "limit": limit, "cursor": cursor}))
    return Call("GET", f"/v1/batches?{query}", lambda raw: ([batch_from(one) for one in raw["items"]], raw["next"]))


def delete_batch(id: str) -> Call[None]:
    return Call("DELETE", _batch_path(id), _nothing)


# ---- The cache.


def _cache_path(key: str, query: Mapping[str, Any]) -> str:
    text = urlencode(_given(query))
    return f"/v1/cache/{quote(key, safe='')}" + (f"?{text}" if text else "")


def _text_of(duration: Optional[DurationLike]) -> Optional[str]:
    return None if duration is None else duration_text(duration)


def cache_get(key: str) -> Call[Optional[Cached]]:
    return Call("GET", _cache_path(key, {}), _no_cached, read_answer=_cached, on_miss=lambda: None)


def cache_put(
    key: str,
    value: Any,
    fresh: Optional[DurationLike],
    stale: Optional[DurationLike],
    tags: Sequence[str],
    content_type: Optional[str],
) -> Call[str]:
    if content_type is not None:
        check_content_type(content_type)
    body, kind = cache_value(value, content_type)
    path = _cache_path(key, {"fresh": _text_of(fresh), "stale": _text_of(stale), "tags": ",".join(tags) or None})

    def etag(answer: Answer) -> str:
        return answer.headers.get("etag", "").strip('"')

    return Call("PUT", path, str, body, {"Content-Type": kind}, read_answer=etag)


def check_content_type(text: str) -> None:
    """Raises UserError, as the server would: what becomes a header must not become two."""
    if not _CONTENT_TYPE.fullmatch(text):
        message = f"content_type is 1 to 255 visible ASCII characters, and not {text!r}"
        raise UserError(message[:1_000], code="invalid_field", field="content_type")


def cache_value(value: Any, content_type: Optional[str]) -> Tuple[bytes, str]:
    """A value as it is stored. Raises TypeError or ValueError where it is no JSON."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value), content_type or "application/octet-stream"
    if content_type is None:
        return _json.dumps(value), "application/json"
    if not isinstance(value, str):
        raise TypeError(f"with a content_type a value is bytes or text, not {type(value).__name__}")
    return value.encode(), content_type


def cache_compute(
    key: str,
    job: Mapping[str, Any],
    fresh: Optional[DurationLike],
    stale: Optional[DurationLike],
    error_for: Optional[DurationLike],
    tags: Sequence[str],
    wait: float,
) -> Call[Union[Cached, CachePending]]:
    body: Dict[str, Any] = {"job": job_as_sent(job), "wait": duration_text(wait)}
    windows = {"fresh": _text_of(fresh), "stale": _text_of(stale), "error_for": _text_of(error_for)}
    body.update(_given({**windows, "tags": list(tags) or None}))
    return Call(
        "POST", _cache_path(key, {}), _no_cached, _json.dumps(body), wait=wait, read_answer=_cached_or_pending
    )


def cache_delete(key: str) -> Call[bool]:
    return Call("DELETE", _cache_path(key, {}), lambda _: True, on_miss=lambda: False)


def cache_delete_by(name: str, value: str) -> Call[int]:
    return Call("DELETE", f"/v1/cache?{urlencode({name: value})}", lambda raw: int(raw["count"]))


def _no_cached(_: Any) -> Any:
    raise ValueError("not a cached value")  # Never called: read_answer is.


def _cached(answer: Answer) -> Cached:
    try:
        return cached_from(answer.headers, answer.body)
    except (ValueError, LookupError) as error:
        raise protocol_error(f"a cached value was answered in a form that is not known: {error}") from error


def _cached_or_pending(answer: Answer) -> Union[Cached, CachePending]:
    if answer.status != 202:
        return _cached(answer)
    try:
        raw = _json.loads(answer.body)
        return CachePending(raw["job_id"], raw["state"])
    except (ValueError, TypeError, LookupError) as error:
        raise protocol_error("a job that computes a value was answered in a form that is not known") from error


def status() -> Call[Dict[str, Any]]:
    return Call("GET", "/v1/status", dict)


def _given(values: Mapping[str, Any]) -> Dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
