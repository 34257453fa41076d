"""Workers: Worker for plain functions, in threads; AsyncWorker for coroutine functions."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterator, Optional, Sequence, TypeVar

from ._async_client import AsyncClient
from ._calls import QueueChoice
from ._engine import Engine, Link
from ._handlers import Middleware, Registry, job_decorator
from ._http import CONNECT_TIMEOUT, Address, headers_for, token_from
from ._polling import ONCE, Polling
from ._running import logger
from ._settings import Settings
from ._stream import Stream
from ._time import DurationLike, duration_seconds, duration_text

if TYPE_CHECKING:
    from typing_extensions import Literal

    Transport = Literal["stream", "http"]

F = TypeVar("F", bound=Callable[..., Any])
M = TypeVar("M", bound=Middleware)


class _Base:
    _is_async = False

    def __init__(
        self,
        queues: Sequence[QueueChoice] = ("default",),
        *,
        url: Optional[str] = None,
        token: Optional[str] = None,
        concurrency: int = 10,
        credit: Optional[int] = None,
        lease: DurationLike = 60,
        name: Optional[str] = None,
        transport: Transport = "stream",
        drain_timeout: DurationLike = 30,
        connect_timeout: DurationLike = CONNECT_TIMEOUT,
        tls: Optional[ssl.SSLContext] = None,
        tracing: bool = True,
    ) -> None:
        """
        queues: names in the order of preference, or (name, weight). url, token, connect_timeout, tls, tracing: as for
        Client.
        concurrency: handlers at once. credit: jobs held at once, those that wait here for a handler included;
        concurrency × 2 by default, so that the next job is there when a handler ends. More for very short jobs.
        lease: how long the server waits for a sign of life; it is extended while a job is held (1 s or more is wise).
        name: of this worker, shown with its jobs; by default host and process.
        transport: "http" where networks let no WebSocket pass.
        drain_timeout: how long handlers may take to finish after SIGTERM or stop().
        """
        if concurrency < 1:
            raise ValueError("concurrency is 1 or more")
        if transport not in ("stream", "http"):
            raise ValueError(f'transport is "stream" or "http", not {transport!r}')
        if credit is not None and credit < concurrency:
            raise ValueError("credit is concurrency or more: else handlers have nothing to do")
        self._address = Address.parse(url, tls)
        self._connect_timeout = duration_seconds(connect_timeout)
        self._token = token_from(token)
        self._transport = transport
        seconds = duration_seconds(lease)
        self._settings = Settings(
            queues=list(queues) if not isinstance(queues, str) else [queues],
            concurrency=concurrency,
            credit=min(credit if credit is not None else concurrency * 2, 10_000),
            lease=seconds,
            lease_text=duration_text(lease),
            worker=name if name is not None else _default_name(),
            drain_timeout=duration_seconds(drain_timeout),
            tracing=tracing,
        )
        self._registry = Registry(self._is_async)
        self._busy = threading.Lock()  # Held while it runs.
        self._engine: Optional[Engine] = None
        self._loop: Optional[asyncio.AbstractEventLoop] = None

    def job(self, type: str, *, inline: bool = False) -> Callable[[F], F]:
        """Decorates the handler of a type. It gets the job's context and returns the result (JSON, or bytes).

        inline: for a plain function that is quick and never waits: it runs in the worker's own loop, without a thread.
        That is several times faster for tiny jobs, and holds up everything else meanwhile."""
        return job_decorator(self._registry, type, inline)

    def middleware(self, function: M) -> M:
        """Decorates a function (context, call_next) that is called around every handler, the first one outermost."""
        self._registry.add_middleware(function)
        return function

    def _make_link(self, engine: Engine) -> Link:
        headers = headers_for(self._address, self._token)
        if self._transport == "stream":
            return Stream(engine, self._address, headers, self._connect_timeout)
        url = str(self._address)
        client = AsyncClient(
            url,
            token=self._token or "",
            retry=ONCE,
            connect_timeout=self._connect_timeout,
            tls=self._address.tls,
        )
        return Polling(engine, client, url)

    async def _run(self, handle_signals: bool, started: Optional[Callable[[], None]] = None) -> None:
        if not self._busy.acquire(blocking=False):
            raise RuntimeError("this worker runs already")
        try:
            self._loop = asyncio.get_running_loop()
            self._engine = Engine(self._settings, self._registry, self._make_link)
            with _signals(self._engine) if handle_signals else contextlib.nullcontext():
                if started is not None:
                    started()
                await self._engine.run()
        finally:
            self._engine = None
            self._busy.release()


class Worker(_Base):
    """Runs plain functions as jobs come in, each in a thread.

    worker = Worker(["mail"])

    @worker.job("greet")
    def greet(ctx):
        return f"Hello, {ctx.payload['to']}"

    worker.run()
    """

    _thread: Optional[threading.Thread] = None
    _error: Optional[BaseException] = None

    def run(self) -> None:
        """Works until SIGTERM or SIGINT (in the main thread), or stop(). The first signal drains: what runs is
        finished, what has
        not begun is given back. A second one, or drain_timeout, leaves at once. Raises the error that ends the worker,
        such as a token that is not good; connections that break are made again for ever."""
        is_main = threading.current_thread() is threading.main_thread()
        asyncio.run(self._run(is_main))

    def start(self) -> None:
        """The same in a thread of its own; returns when it runs. End it with stop(). RuntimeError where it runs
        already."""
        if self._thread is not None or self._busy.locked():
            raise RuntimeError("this worker runs already")
        running = threading.Event()
        self._error = None
        is_begun = False

        def begun() -> None:
            nonlocal is_begun
            is_begun = True
            running.set()

        def run() -> None:
            try:
                asyncio.run(self._run(False, begun))
            except BaseException as error:
                if is_begun:  # Whoever has started it may ask for it late, or never.
                    logger.error("the worker has ended: %s", error)
                self._error = error
            finally:
                running.set()

        self._thread = threading.Thread(target=run, name="workmill-worker", daemon=True)
        self._thread.start()
        running.wait()
        if not is_begun:
            self.join()  # Raises why.

    def drain(self, timeout: Optional[DurationLike] = None) -> None:
        """Begins to drain, and does not wait. For any thread."""
        engine, loop = self._engine, self._loop
        if engine is not None and loop is not None:
            with contextlib.suppress(RuntimeError):  # It has just ended.
                loop.call_soon_threadsafe(engine.drain, None if timeout is None else duration_seconds(timeout))

    def stop(self, timeout: Optional[DurationLike] = None) -> None:
        """Drains (see run()), for `timeout` at most, and waits for the end of what start() has begun. Raises the error
        that ended the worker, if one did."""
        self.drain(timeout)
        self.join()

    def join(self) -> None:
        """Waits for the end of what start() has begun, and raises the error that ended it, if one did."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        error, self._error = self._error, None
        if error is not None:
            raise error


class AsyncWorker(_Base):
    """Runs coroutine functions as jobs come in, each as a task of the loop; plain functions in threads.

        worker = AsyncWorker(["mail"])

        @worker.job("greet")
        async def greet(ctx):
            return f"Hello, {ctx.payload['to']}"

        asyncio.run(worker.run())

    A task whose job is cancelled, or whose lease is lost, is cancelled (asyncio.CancelledError).
    """

    _is_async = True

    async def run(self, *, handle_signals: bool = True) -> None:
        """As Worker.run(). Cancelling it leaves at once."""
        if self._busy.locked():
            raise RuntimeError("this worker runs already")
        is_main = threading.current_thread() is threading.main_thread()
        self._ended = asyncio.Event()
        try:
            await self._run(handle_signals and is_main)
        finally:
            self._ended.set()

    def drain(self, timeout: Optional[DurationLike] = None) -> None:
        """Begins to drain, and does not wait. In the worker's loop."""
        if self._engine is not None:
            self._engine.drain(None if timeout is None else duration_seconds(timeout))

    async def stop(self, timeout: Optional[DurationLike] = None) -> None:
        """Drains, for `timeout` at most, and waits until run() is about to return."""
        if self._engine is not None:
            ended = self._ended
            self.drain(timeout)
            await ended.wait()


def _default_name() -> str:
    host = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in socket.gethostname())
    return f"{host[:100] or 'worker'}-{os.getpid()}"


@contextlib.contextmanager
def _signals(engine: Engine) -> Iterator[None]:
    """The first SIGTERM or SIGINT drains, the second leaves. Afterwards they do what they did before."""
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if engine.is_draining:
            engine.leave()
        else:
            engine.drain()

    before: Dict[signal.Signals, Any] = {}
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(NotImplementedError, RuntimeError):  # Windows' loops have none.
            handler = signal.getsignal(number)
            loop.add_signal_handler(number, on_signal)
            before[number] = handler
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            if handler is not None:  # Of a library in C there is nothing that could be set again.
                signal.signal(number, handler)
