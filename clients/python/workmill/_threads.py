"""Threads that run handlers. Not concurrent.futures: its threads hold up the end of the program, and a handler that
does not end must not."""

from __future__ import annotations

import queue
import threading
from typing import Callable, List, Optional


class Threads:
    """Up to `most` threads, started as they are needed. submit() belongs to one thread."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._tasks: queue.SimpleQueue[Optional[Callable[[], None]]] = queue.SimpleQueue()
        self._threads: List[threading.Thread] = []

    def submit(self, task: Callable[[], None], under_way: int) -> None:
        """`under_way`: how many tasks there are, with this one. They never exceed `most`."""
        self._tasks.put(task)
        if len(self._threads) < min(under_way, self._most):
            thread = threading.Thread(target=self._work, name=f"workmill-{len(self._threads) + 1}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        while True:
            task = self._tasks.get()
            if task is None:
                return
            task()

    def close(self) -> None:
        """Lets the threads go that have nothing to do. Waits for none."""
        for _ in self._threads:
            self._tasks.put(None)
