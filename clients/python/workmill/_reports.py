"""What a worker says of its jobs, as the bytes that are sent: made once, when they arise, so that their size is
known."""

from __future__ import annotations

import base64
import logging
import re
import traceback
from typing import Any, Dict, Mapping, Optional, Sequence

from . import _calls, _json
from ._errors import Cancelled, UserError, WorkmillError, shown
from ._time import DurationLike, duration_seconds, duration_text

logger = logging.getLogger("workmill")

RESULT_BYTES_MAX = 8 * 1024 * 1024  # As the server takes it; and of each value that it sets in the cache.
# Of a result and all that a report sets beside it, as sent (bytes are a third longer): below what a server takes that is
# not told otherwise.
REPORT_BYTES_MAX = 23 * 1024 * 1024 // 2
CHECKPOINT_BYTES_MAX = 1024 * 1024
CACHE_ENTRIES_MAX = 100
_CACHE_KEY_BYTES_MAX = 512
_CACHE_TAGS_MAX = 20
_CACHE_SECONDS_MAX = 365 * 86_400.0  # Fresh and stale together.
_CACHE_FRESH = 60.0  # Of one that is not told.
_RETRY_IN_MAX = 36_525 * 86_400.0
TEXT_MAX = 8_192  # What the server keeps of a message or a detail, and
LINE_MAX = 4_096  # of a line of a log. More is not sent.
_TRACE_MAX = 6_000  # Characters.
_NAME_MAX = 128
_NAME = re.compile(r"[A-Za-z0-9._:-]{1,%d}" % _NAME_MAX)
_NOT_IN_KEYS = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def _head(job: Mapping[str, Any], outcome: str) -> bytes:
    # Ids and tokens hold nothing that JSON would escape.
    return f'{{"id":"{job["id"]}","lease":"{job["lease"]}","outcome":"{outcome}"'.encode()


def completed(job: Mapping[str, Any], result: Any, cache: Sequence[bytes] = ()) -> bytes:
    """A result that cannot be sent makes the job fail for good: it would be the same in the next attempt."""
    entries = b',"cache":[' + b",".join(cache) + b"]" if cache else b""
    if result is None:
        return b"".join((_head(job, "completed"), entries, b"}"))
    try:
        if isinstance(result, (bytes, bytearray, memoryview)):
            size = memoryview(result).nbytes
            name, data = b"result_base64", b'"' + base64.b64encode(result) + b'"'
        else:
            name, data = b"result", _json.checked(_json.dumps(result))
            size = len(data)
    except (TypeError, ValueError, RecursionError) as error:
        return _failed(job, "fatal", "result_not_json", f"the handler returned what is no JSON: {error}")
    if size > RESULT_BYTES_MAX:
        message = f"a result has {RESULT_BYTES_MAX} bytes at most, not {size}"
        return _failed(job, "fatal", "result_too_large", message)
    sent = len(data) + len(entries)
    if sent > REPORT_BYTES_MAX:
        message = f"a result and what is cached with it have {REPORT_BYTES_MAX} bytes at most, as sent, not {sent}"
        return _failed(job, "fatal", "result_too_large", message)
    return b"".join((_head(job, "completed"), b',"', name, b'":', data, entries, b"}"))


def cache_entry(
    key: str,
    value: Any,
    fresh: Optional[DurationLike],
    stale: Optional[DurationLike],
    tags: Sequence[str],
    content_type: Optional[str],
) -> bytes:
    """One of a report's `cache`. Raises TypeError or ValueError where the value is no JSON, and UserError for what the
    server would refuse, and with it the report."""
    check_cache_entry(key, fresh, stale, tags, content_type)
    data, kind = _calls.cache_value(value, content_type)
    if len(data) > RESULT_BYTES_MAX:
        raise _too_much(f"a cached value has {RESULT_BYTES_MAX} bytes at most, not {len(data)}")
    entry: Dict[str, Any] = {"key": key}
    for name, duration in (("fresh", fresh), ("stale", stale)):
        if duration is not None:
            entry[name] = duration_text(duration)
    if tags:
        entry["tags"] = list(tags)
    if kind == "application/json" and content_type is None:
        return b"".join((_json.dumps(entry)[:-1], b',"value":', _json.checked(data), b"}"))
    return _json.dumps({**entry, "value_base64": base64.b64encode(data).decode(), "content_type": kind})


def check_cache_entry(
    key: str,
    fresh: Optional[DurationLike],
    stale: Optional[DurationLike],
    tags: Sequence[str],
    content_type: Optional[str],
) -> None:
    if not 1 <= len(key.encode("utf-8", "replace")) <= _CACHE_KEY_BYTES_MAX or _NOT_IN_KEYS.search(key):
        raise _bad_field("key", f"is 1 to {_CACHE_KEY_BYTES_MAX} bytes without control characters", key)
    if isinstance(tags, str) or len(tags) > _CACHE_TAGS_MAX:
        raise _bad_field("tags", f"is a list of {_CACHE_TAGS_MAX} at most", tags)
    for tag in tags:
        if not _NAME.fullmatch(tag):
            raise _bad_field("tags", f"have 1 to {_NAME_MAX} of the characters A-Z a-z 0-9 . _ : -", tag)
    if content_type is not None:
        _calls.check_content_type(content_type)
    seconds = 0.0
    for name, window in (("fresh", _CACHE_FRESH if fresh is None else fresh), ("stale", 0 if stale is None else stale)):
        try:
            part = duration_seconds(window)
        except ValueError as error:
            raise _bad_field(name, "is a duration", window) from error
        seconds += part
        if not (part >= 0 and seconds <= _CACHE_SECONDS_MAX):
            raise _bad_field(name, "is not negative, and fresh and stale are 365d at most together", window)


def _bad_field(name: str, rule: str, value: Any) -> UserError:
    """As the server would say it."""
    return UserError(f"{name} {rule}, and not {repr(value)[:1_000]}", code="invalid_field", field=name)


def check_cache(entries: Mapping[str, bytes]) -> None:
    """Raises UserError where a report cannot hold them."""
    if len(entries) > CACHE_ENTRIES_MAX:
        raise _too_much(f"a job sets {CACHE_ENTRIES_MAX} keys at most")
    size = sum(map(len, entries.values()))
    if size > REPORT_BYTES_MAX:
        raise _too_much(f"what a job caches has {REPORT_BYTES_MAX} bytes at most, as sent, not {size}")


def _too_much(message: str) -> UserError:
    """It would be as much in the next attempt."""
    return UserError(message, code="payload_too_large", field="cache")


def failed(job: Mapping[str, Any], error: BaseException, was_cancelled: bool) -> bytes:
    """How an exception ends an attempt."""
    if was_cancelled or isinstance(error, Cancelled):
        return _failed(job, "retryable", "cancelled", "stopped, as it was asked to")
    if isinstance(error, WorkmillError):
        return _failed(job, error.error_class, error.code, error.message, error.detail, error.retry_in)
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    detail = {"traceback": "".join(lines)[-_TRACE_MAX:]}
    return _failed(job, "retryable", type(error).__name__, error, detail)


def unknown_type(job: Mapping[str, Any]) -> bytes:
    return _failed(job, "retryable", "unknown_type", f"this worker has no handler for the type {job['type']}")


def _failed(
    job: Mapping[str, Any], kind: str, code: Any, message: Any, detail: Any = None, retry_in: Optional[Any] = None
) -> bytes:
    error = {"class": kind, "code": _name(code), "message": _text(message)}
    rest: Dict[str, Any] = {"error": error}
    if retry_in is not None:
        try:
            if duration_seconds(retry_in) <= _RETRY_IN_MAX:
                rest["retry_in"] = duration_text(retry_in)
        except (TypeError, ValueError):
            pass
        if "retry_in" not in rest:
            logger.warning("retry_in is no duration, and the backoff decides: %r", retry_in, extra={"job_id": job["id"]})
    if detail is not None:
        try:
            whole = _with(job, "failed", {**rest, "error": {**error, "detail": detail}})
            if len(whole) <= 3 * TEXT_MAX:
                return whole
        except (TypeError, ValueError, RecursionError):
            pass
        error["detail"] = _text(shown(detail, repr))
    return _with(job, "failed", rest)


def _with(job: Mapping[str, Any], outcome: str, rest: Mapping[str, Any]) -> bytes:
    return _head(job, outcome) + b"," + _json.checked(_json.dumps(rest))[1:]


def released(job: Mapping[str, Any]) -> bytes:
    return _head(job, "released") + b"}"


def extend(job: Mapping[str, Any], lease: str) -> bytes:
    return _with(job, "extend", {"for": lease})


def progress(job: Mapping[str, Any], percent: float, message: str) -> bytes:
    rest = {"percent": min(100, max(0, int(percent)))}
    return _with(job, "progress", {**rest, "message": _text(message)} if message else rest)


def log(job: Mapping[str, Any], lines: Sequence[str]) -> bytes:
    return _with(job, "log", {"lines": [_text(line, LINE_MAX) for line in lines]})


def checkpoint(job: Mapping[str, Any], data: Any) -> bytes:
    """Raises TypeError or ValueError where it is no JSON, UserError where it is too large."""
    text = _json.checked(_json.dumps(data))
    if len(text) > CHECKPOINT_BYTES_MAX:
        message = f"a checkpoint has {CHECKPOINT_BYTES_MAX} bytes at most, not {len(text)}"
        raise UserError(message, code="payload_too_large", field="data")
    return b"".join((_head(job, "checkpoint"), b',"data":', text, b"}"))


def _name(text: Any) -> str:
    """Made to fit the server's names."""
    return re.sub(r"[^A-Za-z0-9._:-]", "_", shown(text))[:_NAME_MAX] or "failed"


def _text(text: Any, most: int = TEXT_MAX) -> str:
    """Without halves of surrogate pairs, which are no UTF-8."""
    return shown(text)[:most].encode("utf-8", "replace").decode("utf-8")
