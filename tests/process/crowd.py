"""Thousands of callers on one thread: each sends one request on a connection of its own, and waits for the answer."""

import json
import resource
import selectors
import socket
import time

from harness import BINARY, DEADLINE


def connections_allowed(wanted, kept=500):
    """How many connections a test may have at once: `wanted`, or what the machine lets it. Raises the limit of this
    process and of the servers that it starts from now on as far as it goes."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY:
        hard = max(resource.getrlimit(resource.RLIMIT_NOFILE)[0], wanted + kept)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    return min(wanted, hard - kept)


def is_sanitized():
    """Whether the server under test was built with a sanitizer, which makes it several times slower."""
    program = BINARY.read_bytes()
    return b"__asan_init" in program or b"__tsan_init" in program


class Caller:
    """What became of its request: `status` and `body` of the answer, or `is_cut`, where the connection broke."""

    __slots__ = ("socket", "received", "status", "body", "is_cut", "asked")

    def __init__(self):
        self.socket = None
        self.received = b""
        self.status = self.body = None
        self.is_cut = False
        self.asked = 0

    @property
    def is_waiting(self):
        return self.socket is not None

    @property
    def is_told_to_retry(self):
        return self.is_cut or self.status in (202, 429, 503)

    @property
    def json(self):
        return json.loads(self.body)


class Crowd:
    def __init__(self, port, count, request):
        self._port = port
        self._request = request
        self._selector = selectors.EpollSelector()
        self.callers = [Caller() for _ in range(count)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for caller in self.callers:
            self._close(caller)
        self._selector.close()

    def ask(self, callers=None):
        """All of them, or those, each on a new connection. What is answered meanwhile is read."""
        for number, caller in enumerate(list(self.callers if callers is None else callers)):
            caller.received, caller.status, caller.body, caller.is_cut = b"", None, None, False
            caller.asked += 1
            try:
                caller.socket = socket.create_connection(("127.0.0.1", self._port), timeout=DEADLINE)
                caller.socket.setblocking(False)
                self._selector.register(caller.socket, selectors.EVENT_READ, caller)
                caller.socket.send(self._request)  # A few hundred bytes: a new socket takes them.
            except OSError:
                self._close(caller)
                caller.is_cut = True
            if number % 256 == 0:
                self._read(0)

    def wait(self, deadline=2 * DEADLINE):
        """Until nobody waits for an answer any more."""
        end = time.monotonic() + deadline
        while any(caller.is_waiting for caller in self.callers):
            assert time.monotonic() < end, f"{sum(caller.is_waiting for caller in self.callers)} still wait"
            self._read(1)

    def told_to_retry(self):
        return [caller for caller in self.callers if caller.is_told_to_retry]

    def insist(self, deadline=2 * DEADLINE):
        """Until all are answered: those that are told to retry do so."""
        end = time.monotonic() + deadline
        self.wait(deadline)
        while again := self.told_to_retry():
            assert time.monotonic() < end, f"{len(again)} were told to retry again and again, such as {again[0].status}"
            self.ask(again)
            self.wait(deadline)

    def _read(self, patience):
        for key, _ in self._selector.select(patience):
            caller = key.data
            try:
                piece = caller.socket.recv(65_536)
            except OSError:
                piece = b""
            caller.received += piece
            head, separator, body = caller.received.partition(b"\r\n\r\n")
            if not piece:
                caller.is_cut = True
                self._close(caller)
            elif separator and len(body) >= _length_of(head):
                caller.status, caller.body = int(head[9:12]), body
                self._close(caller)

    def _close(self, caller):
        if caller.socket is not None:
            if caller.socket.fileno() in self._selector.get_map():
                self._selector.unregister(caller.socket)
            caller.socket.close()
            caller.socket = None


def _length_of(head):
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0
