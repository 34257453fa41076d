"""Hooks that see each job before it is sent, and may change it."""

from __future__ import annotations

import inspect
from typing import Any, Awaitable, Callable, Dict, Mapping, Sequence, Tuple, Union

# Gets a job as the API has it, and may change it: a copy, but for what lies deeper in it.
EnqueueHook = Callable[[Dict[str, Any]], None]
# Of a client for asyncio: what it returns is awaited, where that can be.
AsyncEnqueueHook = Callable[[Dict[str, Any]], Union[None, Awaitable[None]]]


def plain(hooks: Sequence[EnqueueHook]) -> Tuple[EnqueueHook, ...]:
    """Those of a blocking client. TypeError for one that would have to be awaited."""
    for hook in hooks:
        if inspect.iscoroutinefunction(hook):
            raise TypeError(f"{hook!r} is a coroutine function: use AsyncClient")
    return tuple(hooks)


def hooked(job: Mapping[str, Any], hooks: Sequence[EnqueueHook]) -> Mapping[str, Any]:
    """The job as they make it, one after another. TypeError where one returns what would have to be awaited: it has not
    done yet what it is to do, and never would."""
    if not hooks:
        return checked(job)
    changed = dict(checked(job))
    for hook in hooks:
        done: object = hook(changed)
        if inspect.isawaitable(done):
            if inspect.iscoroutine(done):
                done.close()  # Else Python warns of it, besides.
            raise TypeError(f"{hook!r} returns what is to be awaited: use AsyncClient")
    return changed


async def hooked_async(job: Mapping[str, Any], hooks: Sequence[AsyncEnqueueHook]) -> Mapping[str, Any]:
    if not hooks:
        return checked(job)
    changed = dict(checked(job))
    for hook in hooks:
        done = hook(changed)
        if inspect.isawaitable(done):
            await done
    return changed


def checked(job: Mapping[str, Any]) -> Mapping[str, Any]:
    """TypeError for what is none."""
    if not isinstance(job, Mapping):
        raise TypeError(f'a job is a dict, such as {{"type": "greet"}}, and not {job!r}')
    return job
