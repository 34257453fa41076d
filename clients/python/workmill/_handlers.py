"""Which function does which type of job, and what is around it."""

from __future__ import annotations

import functools
import inspect
from typing import Any, Awaitable, Callable, Dict, List, NamedTuple, TypeVar

# A handler takes the job's context and returns its result: any JSON, or bytes.
Handler = Callable[..., Any]
Middleware = Callable[[Any, Callable[[Any], Any]], Any]
F = TypeVar("F", bound=Callable[..., Any])

THREAD, INLINE, TASK = "thread", "inline", "task"


class Entry(NamedTuple):
    how: str  # THREAD: in one of the worker's threads. INLINE: at once, in its loop. TASK: as a task of its loop.
    run: Handler  # With the middleware around it.


class Registry:
    """Handlers by type. `is_async`: middleware is asynchronous, and handlers may be."""

    def __init__(self, is_async: bool) -> None:
        self._is_async = is_async
        self._handlers: Dict[str, "tuple[Handler, bool]"] = {}
        self._middleware: List[Middleware] = []

    def add(self, type: str, handler: Handler, inline: bool) -> None:
        if type in self._handlers:
            raise ValueError(f"the type {type!r} has a handler already")
        if inspect.iscoroutinefunction(handler):
            if not self._is_async:
                raise TypeError(f"{handler!r} is a coroutine function: use AsyncWorker")
            if inline:
                raise ValueError("a coroutine function is never inline")
        self._handlers[type] = (handler, inline)

    def add_middleware(self, middleware: Middleware) -> None:
        if inspect.iscoroutinefunction(middleware) != self._is_async:
            wanted = "a coroutine function" if self._is_async else "a plain function"
            raise TypeError(f"middleware of this worker is {wanted}: {middleware!r}")
        self._middleware.append(middleware)

    def entries(self, in_thread: Callable[[Handler, Any], Awaitable[Any]]) -> Dict[str, Entry]:
        """What to run for each type. `in_thread(handler, context)` runs a plain function of an asynchronous worker
        elsewhere, where middleware must be awaited around it."""
        return {type: self._entry(handler, inline, in_thread) for type, (handler, inline) in self._handlers.items()}

    def _entry(self, handler: Handler, inline: bool, in_thread: Callable[[Handler, Any], Awaitable[Any]]) -> Entry:
        if inspect.iscoroutinefunction(handler):
            return Entry(TASK, self._wrapped(handler))
        if not self._is_async or not self._middleware:
            return Entry(INLINE if inline else THREAD, self._wrapped(handler))
        if inline:

            async def at_once(context: Any) -> Any:
                return handler(context)

            return Entry(TASK, self._wrapped(at_once))
        return Entry(TASK, self._wrapped(functools.partial(in_thread, handler)))

    def _wrapped(self, handler: Handler) -> Handler:
        run = handler
        for middleware in reversed(self._middleware):
            run = functools.partial(_around, middleware, run)
        return run


def _around(middleware: Middleware, inner: Handler, context: Any) -> Any:
    return middleware(context, inner)


def job_decorator(registry: Registry, type: str, inline: bool) -> Callable[[F], F]:
    if not isinstance(type, str):
        raise TypeError(f'a handler is for a type of jobs: write @worker.job("…") over {type!r}')

    def register(handler: F) -> F:
        registry.add(type, handler, inline)
        return handler

    return register
