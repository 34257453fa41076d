"""Stands between a client and the server, and breaks what a network breaks. It passes bytes, and knows of HTTP only
where one request's head and body end."""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import Optional


class Proxy:
    """A port that leads to the server's. Changes of its mode hold at once, for open connections too. All methods are
    safe for any thread; each connection has two threads of its own, which end with it."""

    def __init__(self, target_port: int):
        self._target = target_port
        self._lock = threading.Condition()
        self._mode = "pass"
        self._answers_to_lose = 0
        self._refusals: list = []  # Whole answers, one a request.
        self._connections: set = set()
        self._seen = {"refused": 0, "lost": 0, "held": 0}
        self._refused_at: Optional[float] = None
        self._gap: Optional[float] = None
        self._listener: Optional[socket.socket] = None
        self.port = 0
        self._listen()

    def _listen(self) -> None:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(256)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def close(self) -> None:
        with self._lock:
            self._mode = "closed"
            self._close_listener()
        self.cut()

    def _close_listener(self) -> None:
        if self._listener is not None:
            # A thread in accept() is not woken by close() alone.
            try:
                self._listener.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            self._listener.close()
            self._listener = None

    # ---- What the steps ask for.

    def set_mode(self, mode: str) -> None:
        """`pass`, `silence` or `block`."""
        with self._lock:
            self._mode = mode
            if mode == "block":
                self._close_listener()
            elif self._listener is None:
                self._listen()
            self._lock.notify_all()
        if mode == "block":
            self.cut()

    def cut(self) -> None:
        with self._lock:
            connections = list(self._connections)
        for one in connections:
            _close(one)

    def lose_answers(self, count: int) -> None:
        with self._lock:
            self._answers_to_lose = count

    def refuse(self, count: int, status: int, headers: dict, body: object) -> None:
        data = json.dumps(body).encode()
        lines = [f"HTTP/1.1 {status} Refused", "Content-Type: application/problem+json", f"Content-Length: {len(data)}"]
        lines += ["Connection: close", *(f"{name}: {value}" for name, value in headers.items())]
        with self._lock:
            self._refusals = ["\r\n".join(lines).encode() + b"\r\n\r\n" + data] * count
        self.cut()  # So that each request comes on a connection which is looked at from its beginning.

    def seen(self) -> dict:
        with self._lock:
            gap = None if self._gap is None else int(self._gap * 1000)
            return {**self._seen, "gap_ms_min": gap}

    # ---- Connections.

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                self._connections.add(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            if self._refused(client):
                return
            with self._lock:
                self._hold()
            server = socket.create_connection(("127.0.0.1", self._target), timeout=30)
            server.settimeout(None)
        except OSError:
            return
        else:
            with self._lock:
                self._connections.add(server)
            back = threading.Thread(target=self._pump, args=(server, client, True), daemon=True)
            back.start()
            self._pump(client, server, False)
            back.join()
            self._forget(server)
        finally:
            self._forget(client)

    def _hold(self) -> None:
        """Waits while nothing passes."""
        if self._mode == "silence":
            self._seen["held"] += 1
        while self._mode == "silence":
            self._lock.wait()

    def _forget(self, one: socket.socket) -> None:
        with self._lock:
            self._connections.discard(one)
        _close(one)
        one.close()

    def _refused(self, client: socket.socket) -> bool:
        """Answers a request itself, if that is asked for. Waits for the request before it takes a refusal for it: a
        connection on which nothing is asked uses none up."""
        with self._lock:
            if not self._refusals and self._refused_at is None:
                return False
        head = client.recv(65_536, socket.MSG_PEEK)
        if not head:
            return True
        with self._lock:
            if self._refused_at is not None:
                gap = time.monotonic() - self._refused_at
                self._gap = gap if self._gap is None else min(gap, self._gap)
                self._refused_at = None
            if not self._refusals:
                return False
            answer = self._refusals.pop()
        _read_request(client)
        with self._lock:
            self._seen["refused"] += 1
            self._refused_at = time.monotonic()
        client.sendall(answer)
        return True

    def _pump(self, source: socket.socket, sink: socket.socket, is_answer: bool) -> None:
        try:
            while True:
                data = source.recv(65_536)
                if not data:
                    break
                with self._lock:
                    self._hold()
                    if is_answer and self._answers_to_lose > 0:
                        self._answers_to_lose -= 1
                        self._seen["lost"] += 1
                        break
                sink.sendall(data)
        except OSError:
            pass
        _close(source)
        _close(sink)


def _close(one: socket.socket) -> None:
    """Ends it for both sides, and wakes the threads that use it. The descriptor is closed by its owner only."""
    try:
        one.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


def _read_request(client: socket.socket) -> None:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = client.recv(65_536)
        if not piece:
            return
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            length = int(value)
    while len(body) < length:
        piece = client.recv(65_536)
        if not piece:
            return
        body += piece
