"""A bound on the time that something may take."""

from __future__ import annotations

import asyncio
import sys
from typing import Any, Callable, Coroutine, TypeVar

T = TypeVar("T")


async def within(seconds: float, work: Coroutine[Any, Any, T], undo: Callable[[T], Any] = lambda _: None) -> T:
    """What `work` gives; asyncio.TimeoutError where that takes longer. As asyncio.wait_for(), which before Python 3.12 may
    swallow that its caller is cancelled, where the work is done in the same moment: `undo` is for what nobody gets then.
    Since then what is done is got."""
    if sys.version_info >= (3, 12):
        return await asyncio.wait_for(work, seconds)
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
    except asyncio.CancelledError:
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled() and task.exception() is None:
            undo(task.result())
        raise
    if task.cancelled():
        raise asyncio.TimeoutError
    return task.result()
