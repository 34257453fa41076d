"""When a call is tried again. Pure: who sleeps is somebody else."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Optional

from ._errors import RetryableError, WorkmillError
from ._time import DurationLike, duration_seconds


# The job that computes a cached value has had all its attempts: to ask again would be another job with as many.
TRIED_ALREADY = frozenset(("compute_failed",))
# Seconds. Nobody waits longer than this inside a call: it fails, and `retry_after` says how long the server wanted.
RETRY_AFTER_MAX = 60.0
_GONE = frozenset(("batch_not_found", "cache_miss", "job_not_found"))


@dataclass(frozen=True)
class RetryPolicy:
    """Up to `attempts` calls in all. The pause between two is drawn from 0 to first × 2^n, at most to cap ("full
    jitter", so that clients which failed together do not come back together), and is no shorter than the server
    asks. Where it asks for more than a minute the call fails at once, and `retry_after` of its error says for how long."""

    attempts: int = 5
    first: DurationLike = 0.1
    cap: DurationLike = 5.0

    def pause(self) -> Pause:
        return Pause(duration_seconds(self.first), duration_seconds(self.cap))


class Attempts:
    """The attempts of one call."""

    def __init__(self, policy: RetryPolicy) -> None:
        self._left = policy.attempts - 1
        self._pause = policy.pause()
        self._lost = False  # An attempt of which nobody knows whether it was done.

    def has_deleted(self, method: str, error: WorkmillError) -> bool:
        """Whether a DELETE finds nothing as an attempt before it, whose answer was lost, may have deleted it."""
        return self._lost and method == "DELETE" and error.code in _GONE

    def pause_after(self, error: WorkmillError, is_repeatable: bool = True) -> Optional[float]:
        """Seconds until the next attempt; None where there is none, and `error` is for the caller: its may_have_happened is
        that of all attempts then. What is not repeatable has another one only where the server has surely not done it."""
        is_lost = error.may_have_happened
        self._lost = error.may_have_happened = self._lost or is_lost
        if not isinstance(error, RetryableError) or self._left <= 0 or error.code in TRIED_ALREADY:
            return None
        if (error.retry_after or 0.0) > RETRY_AFTER_MAX:
            return None
        if is_lost and not is_repeatable:
            return None
        self._left -= 1
        return self._pause.next(error.retry_after)


class Pause:
    """Pauses that grow, for who tries again and again. reset() when it has worked."""

    def __init__(self, first: float, cap: float) -> None:
        self._first = first
        self._cap = cap
        self._bound = first

    def next(self, at_least: Optional[float] = None) -> float:
        pause = random.uniform(0, min(self._bound, self._cap))
        self._bound = min(self._bound * 2, self._cap)
        return max(pause, at_least or 0.0)

    def reset(self) -> None:
        self._bound = self._first
