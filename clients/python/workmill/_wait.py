"""Waits that take longer than a call: for a job, for a value that a job computes."""

from __future__ import annotations

import time
from typing import Generic, Optional, TypeVar

from ._calls import POLL
from ._errors import NoServer, RetryableError, WorkmillError
from ._retry import RETRY_AFTER_MAX, TRIED_ALREADY, RetryPolicy
from ._time import DurationLike, duration_seconds

T = TypeVar("T")


def is_wait(timeout: Optional[DurationLike]) -> bool:
    """Whether so long is waited at all. Where not, the call is one like others."""
    return timeout is None or duration_seconds(timeout) > 0


class Wait(Generic[T]):
    """A wait as several long polls, over errors too: as long as there is time a server that is away is asked again,
    however many attempts a call has, and no less often than by another call, however short the time. A connection that
    has died unnoticed costs one poll, and no more. Who sleeps and asks is somebody else."""

    def __init__(self, timeout: Optional[DurationLike], policy: RetryPolicy) -> None:
        self._end = float("inf") if timeout is None else time.monotonic() + duration_seconds(timeout)
        self._asked = 0.0  # When the poll that is under way began, and
        self._part = 0.0  # how long it may wait.
        self._pause = policy.pause()
        self._attempts_left = policy.attempts  # That another call would have.
        self._answer: Optional[T] = None
        self._may_have_happened = False  # A poll was heard, or nobody knows whether it was.

    def next_poll(self) -> float:
        """How long it waits, in seconds: 1 ms at least, since a wait of nothing is no wait."""
        self._asked = time.monotonic()
        self._part = max(0.001, min(POLL, self._end - self._asked))
        return self._part

    def pause_after(self, answer: T) -> Optional[float]:
        """Seconds until the next poll, after an answer that is not what is waited for; None where the wait is over."""
        self._answer = answer
        self._may_have_happened = True
        now = time.monotonic()
        if now >= self._end:
            return None
        # A server that lets nobody wait any more, or stops, answers at once: it must not be asked again and again.
        if now - self._asked < self._part / 2:
            return min(self._pause.next(), self._end - now)
        self._pause.reset()
        return 0.0

    def pause_after_error(self, error: WorkmillError) -> Optional[float]:
        """The same. Raises `error` where the wait is over, and there was no answer; at once, where it is not worth another
        poll, or the server asks for a pause that is longer than the wait and than anybody would sit through for it. Its
        may_have_happened is that of all polls then."""
        self._may_have_happened = error.may_have_happened = self._may_have_happened or error.may_have_happened
        if not isinstance(error, RetryableError) or error.code in TRIED_ALREADY:
            raise error
        self._attempts_left -= 1
        left = self._end - time.monotonic()
        pause = self._pause.next(error.retry_after)
        if left > (error.retry_after or 0.0):
            return min(pause, left)
        if self._answer is not None:
            return None
        # A server that is there and says nothing has taken more time than there was, and would take it again.
        is_silence = isinstance(error, NoServer) and error.timed_out
        if self._attempts_left <= 0 or is_silence or pause > RETRY_AFTER_MAX:
            raise error
        return pause

    def last_answer(self) -> T:
        assert self._answer is not None
        return self._answer
