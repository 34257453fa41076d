"""What a worker was told of how it shall work."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Sequence

from ._calls import QueueChoice


@dataclass(frozen=True)
class Settings:
    queues: Sequence[QueueChoice]
    concurrency: int
    credit: int  # Jobs that are out at once: those that run, and the next ones.
    lease: float  # Seconds.
    lease_text: str
    worker: Optional[str]
    drain_timeout: float
    tracing: bool = True
