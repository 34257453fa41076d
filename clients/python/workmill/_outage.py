"""What a worker says of a server that it cannot reach."""

from __future__ import annotations

import logging
from typing import Optional

from ._errors import WorkmillError

logger = logging.getLogger("workmill")


class Outage:
    """A warning when it begins, and when its reason is another one: those tries that change nothing are for who wants to
    know all."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._reason: Optional[str] = None

    def failed(self, error: Optional[Exception], pause: float) -> None:
        # Not the whole text of ours, which names the request: that is another one each time.
        reason = f"{error.code}: {error.message}" if isinstance(error, WorkmillError) else str(error or "it was closed")
        level = logging.INFO if reason == self._reason else logging.WARNING
        self._reason = reason
        logger.log(level, "no connection with %s: %s; it is tried again", self._where, reason, extra={"pause": pause})

    def is_over(self) -> bool:
        """Whether there was one. From now on there is none."""
        was, self._reason = self._reason is not None, None
        return was
