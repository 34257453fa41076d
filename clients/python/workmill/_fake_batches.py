"""The batches of the in-memory server: which jobs are in them, and what is enqueued at their end."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Mapping, Optional, Protocol

from . import _json
from ._fake_problem import Problem, limit_of
from ._models import FINISHED

if TYPE_CHECKING:
    from ._fake_server import FakeJob

_NAME = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_FIELDS = frozenset(("id", "on_success", "on_finish", "meta"))
_CALLBACKS = ("on_success", "on_finish")
_STATES = ("open", "closed", "over")
_NOT_OF_CALLBACKS = ("id", "unique", "batch")
CALLBACK_BYTES_MAX = 64 * 1024
META_BYTES_MAX = 16 * 1024


class Owner(Protocol):
    """The server whose they are."""

    now: float

    def check_job(self, job: Any, prefix: str) -> None:
        """Raises Problem for what no job may be."""

    def there_already(self, sent: Mapping[str, Any]) -> Optional[FakeJob]:
        """The job that a new one would be."""

    def add_callback(self, job: Mapping[str, Any]) -> str:
        """Enqueues it, whatever is there. Returns its id."""

    def is_gone(self, job: FakeJob) -> bool: ...

    def time(self, seconds: float) -> str: ...


@dataclass
class _Batch:
    id: str
    number: int  # In the order in which they were made.
    content: Dict[str, Any]  # Callbacks and meta, as they were asked for.
    trace: Dict[str, str]
    created_at: float
    closed_at: Optional[float] = None
    jobs: List[FakeJob] = field(default_factory=list)  # Those that are gone, too.
    enqueued: Dict[str, str] = field(default_factory=dict)  # By callback: the id of its job.


class FakeBatches:
    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._batches: Dict[str, _Batch] = {}
        self._made = 0

    # ---- Calls.

    def create(self, body: Any, trace: Mapping[str, str]) -> Dict[str, Any]:
        for name in body:
            if name not in _FIELDS:
                raise Problem(400, "unknown_field", "a batch does not have it", field=name)
        if not any(name in body for name in _CALLBACKS):
            raise Problem(400, "missing_field", "a batch needs a callback", field="on_finish")
        for name in _CALLBACKS:
            if name in body:
                self._check_callback(name, body[name])
        if not _NAME.fullmatch(str(body.get("id", "x"))):
            raise Problem(400, "invalid_field", "1 to 128 of A-Z a-z 0-9 . _ : -", field="id")
        if len(_json.dumps(body.get("meta", {}))) > META_BYTES_MAX:
            raise Problem(413, "payload_too_large", f"must be {META_BYTES_MAX} bytes at most", field="meta")
        content = {name: body[name] for name in (*_CALLBACKS, "meta") if name in body}
        id = str(body.get("id") or uuid.uuid4())
        batch = self._batches.get(id)
        if batch is None:
            self._made += 1
            batch = self._batches[id] = _Batch(id, self._made, content, dict(trace), self._owner.now)
        if batch.content != content:
            raise Problem(409, "batch_exists", "another batch has this id", field="id")
        return self._view(batch)

    def close(self, id: str) -> Dict[str, Any]:
        batch = self._find(id)
        if batch.closed_at is None:
            batch.closed_at = self._owner.now
        return self._view(batch)

    def get(self, id: str) -> Dict[str, Any]:
        return self._view(self._find(id))

    def list(self, query: Mapping[str, str]) -> Dict[str, Any]:
        for name in query:
            if name not in ("state", "limit", "cursor"):
                raise Problem(400, "unknown_field", "the call does not have it", field=name)
        state = query.get("state")
        if state not in (None, *_STATES):
            raise Problem(400, "invalid_field", f"one of {', '.join(_STATES)}", field="state")
        before = int(query.get("cursor", self._made + 1))
        newest = [
            batch
            for batch in reversed(self._batches.values())
            if batch.number < before and state in (None, self._state(batch))
        ]
        page = newest[: limit_of(query)]
        return {
            "items": [self._view(batch) for batch in page],
            "next": str(page[-1].number) if len(page) < len(newest) else None,
        }

    def delete(self, id: str) -> Dict[str, Any]:
        del self._batches[self._find(id).id]
        return {}

    # ---- Of jobs.

    def check(self, jobs: Iterable[Mapping[str, Any]]) -> None:
        """Raises Problem where one names a batch that takes no jobs; but not for a job that is there already."""
        for job in jobs:
            if "batch" not in job or self._owner.there_already(job) is not None:
                continue
            batch = self._batches.get(job["batch"])
            if batch is None:
                raise Problem(404, "batch_not_found", "there is no such batch", field="batch")
            if batch.closed_at is not None:
                raise Problem(409, "batch_closed", "the batch takes no more jobs: it is closed", field="batch")

    def join(self, id: str, job: FakeJob) -> None:
        self._batches[id].jobs.append(job)

    def settle(self) -> None:
        """Enqueues the callbacks whose time has come. After whatever may have ended a job or closed a batch."""
        for batch in self._batches.values():
            counts = self._count(batch)
            if batch.closed_at is None or counts["pending"]:
                continue
            for name in _CALLBACKS:
                is_due = name == "on_finish" or counts["completed"] == counts["total"]
                if is_due and name in batch.content and name not in batch.enqueued:
                    batch.enqueued[name] = self._owner.add_callback({**batch.trace, **batch.content[name]})

    def check_filter(self, where: Mapping[str, str], field: str) -> None:
        """Raises Problem where jobs are to be found by a batch that is not there."""
        if "batch" in where and where["batch"] not in self._batches:
            raise Problem(404, "batch_not_found", "there is no such batch", field=field)

    # ---- Views.

    def _find(self, id: str) -> _Batch:
        if id not in self._batches:
            raise Problem(404, "batch_not_found", "there is no such batch")
        return self._batches[id]

    def _check_callback(self, name: str, job: Any) -> None:
        if not isinstance(job, dict):
            raise Problem(400, "invalid_field", "not an object", field=name)
        self._owner.check_job(job, f"{name}.")
        for of in _NOT_OF_CALLBACKS:
            if of in job:
                message = "cannot be set for a callback: it is enqueued whatever is there"
                raise Problem(400, "invalid_field", message, field=f"{name}.{of}")
        if len(_json.dumps(job)) > CALLBACK_BYTES_MAX:
            raise Problem(413, "payload_too_large", f"must be {CALLBACK_BYTES_MAX} bytes at most", field=name)

    def _count(self, batch: _Batch) -> Dict[str, int]:
        counts = dict.fromkeys(("total", "pending", "completed", "dead", "cancelled", "deleted"), 0)
        for job in batch.jobs:
            counts["total"] += 1
            if job.state in FINISHED:
                counts[job.state] += 1
            else:
                counts["deleted" if self._owner.is_gone(job) else "pending"] += 1
        return counts

    def _state(self, batch: _Batch) -> str:
        if batch.closed_at is None:
            return "open"
        seen = self._view(batch)
        waits = seen["pending"] or any(name in seen and seen[name]["state"] == "waiting" for name in _CALLBACKS)
        return "closed" if waits else "over"

    def _view(self, batch: _Batch) -> Dict[str, Any]:
        seen: Dict[str, Any] = {"id": batch.id, "created_at": self._owner.time(batch.created_at)}
        if batch.closed_at is not None:
            seen["closed_at"] = self._owner.time(batch.closed_at)
        seen.update(self._count(batch))
        for name in _CALLBACKS:
            if name in batch.enqueued:
                seen[name] = {"state": "enqueued", "job": batch.enqueued[name]}
            elif name in batch.content:
                is_lost = any(job.state != "completed" and self._owner.is_gone(job) for job in batch.jobs)
                seen[name] = {"state": "not_coming" if is_lost and name == "on_success" else "waiting"}
        if "meta" in batch.content:
            seen["meta"] = batch.content["meta"]
        return seen
