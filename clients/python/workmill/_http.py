"""HTTP/1.1 to one server: what both ways of doing it share, and the blocking one, by http.client."""

from __future__ import annotations

import http.client
import io
import os
import select
import socket
import ssl
import threading
import time
import weakref
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Deque, Dict, Mapping, Optional, Protocol, cast
from urllib.parse import urlsplit

from ._calls import Answer
from ._errors import NoServer, UserError, WorkmillError, protocol_error

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

CONNECT_TIMEOUT = 5.0  # Seconds.
REQUEST_TIMEOUT = 30.0
CONNECTIONS_MAX = 64  # Of one client. Who wants a further one waits for one that is in use.
# Of one client, for calls that wait in the server: they have connections of their own, so that they are in nobody's way.
WAITS_MAX = 1_000
IDLE_MAX = 64  # Connections that are kept for the next request.
TIMEOUT_MAX = 1_000_000.0  # Seconds. The system's calls take no more than some such number.


@dataclass(frozen=True)
class Address:
    """Where a server is. `url` is host:port, http://host:port or https://host. UserError where `tls` would go unheard."""

    host: str
    port: int
    tls: Optional[ssl.SSLContext]

    @staticmethod
    def parse(url: Optional[str], tls: Optional[ssl.SSLContext] = None) -> Address:
        text = url or os.environ.get("WORKMILL_URL") or "http://127.0.0.1:7330"
        if "@" in text:  # Looked at first: what follows shows the text.
            raise ValueError("an address holds no user or password: say token=… or WORKMILL_TOKEN")
        parts = urlsplit(text if "://" in text else f"http://{text}")
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
            raise ValueError(f"not the address of a server, such as http://127.0.0.1:7330: {text!r}")
        if parts.scheme == "http":
            if tls is not None:  # The token would go in clear.
                message = f"tls is for https addresses, and this is none: http://{parts.netloc}"
                raise UserError(message, code="bad_configuration", field="tls")
            return Address(parts.hostname, parts.port or 80, None)
        return Address(parts.hostname, parts.port or 443, tls if tls is not None else _tls_of_environment())

    @property
    def netloc(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.netloc}"


def _tls_of_environment() -> ssl.SSLContext:
    file = os.environ.get("WORKMILL_CA_FILE") or None
    try:
        return ssl.create_default_context(cafile=file)
    except OSError as error:  # ssl.SSLError is one.
        message = f"WORKMILL_CA_FILE, {file!r}, is no file of certificates in PEM: {error}"
        raise UserError(message, code="bad_configuration") from error


def token_from(token: Optional[str]) -> Optional[str]:
    """The token that is given, or that of the environment. UserError for what would be no header: without its text, which
    is a secret."""
    given = token if token is not None else os.environ.get("WORKMILL_TOKEN") or None
    if given and not all(" " <= character <= "~" for character in given):
        message = "the token has a character that no token has, such as a line break at its end"
        raise UserError(message, code="bad_configuration", field="token")
    return given


def connection_error(address: Address, error: Exception, happened: str, may_have_happened: bool) -> WorkmillError:
    """What a connection that `happened` to break or not to come about means."""
    # A certificate that does not hold, or is wanted, or no TLS at all: trying again mends nothing.
    is_no_tls = isinstance(error, ssl.SSLError) and not isinstance(
        error, (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
    )
    if is_no_tls:
        return protocol_error(f"no TLS with {address}: {error}", may_have_happened)
    message = f"{happened}: {error}" if str(error) else happened
    return NoServer(message, may_have_happened=may_have_happened)


class Transport(Protocol):
    """One request and its answer, which take `timeout` seconds at most. Raises NoServer where there is none. Safe for
    several threads."""

    def request(
        self, method: str, path: str, headers: Mapping[str, str], body: Optional[bytes], timeout: float
    ) -> Answer: ...

    def close(self) -> None: ...


class HttpTransport:
    """Keeps connections open for the next request, last used first. Safe for several threads, and a child that is forked
    begins without any."""

    def __init__(
        self, address: Address, connections_max: int = CONNECTIONS_MAX, connect_timeout: float = CONNECT_TIMEOUT
    ) -> None:
        self._address = address
        self._connections_max = connections_max
        self._connect_timeout = connect_timeout
        self._is_closed = False
        self._begin()
        _transports.add(self)

    def _begin(self) -> None:
        self._idle: Deque[_Connection] = deque()
        self._lock = threading.Lock()
        self._free = threading.Semaphore(self._connections_max)

    def request(
        self, method: str, path: str, headers: Mapping[str, str], body: Optional[bytes], timeout: float
    ) -> Answer:
        timeout = min(timeout, TIMEOUT_MAX)
        end = time.monotonic() + timeout
        if not self._free.acquire(timeout=timeout):
            raise NoServer("all connections of this client are in use", may_have_happened=False)
        try:
            return self._request(method, path, headers, body, end)
        finally:
            self._free.release()

    def _request(
        self, method: str, path: str, headers: Mapping[str, str], body: Optional[bytes], end: float
    ) -> Answer:
        connection = self._take() or self._connect(end)
        is_reusable = False
        try:
            connection.begin(end)
            try:
                connection.request(method, path, body, dict(headers))
            except (BrokenPipeError, ConnectionResetError):
                # A server may refuse a request by its head alone, and close before it has read the body. Its answer
                # may be there all the same.
                pass
            answer = connection.getresponse()
            if answer.length is None and not answer.chunked:
                # http.client takes a head that breaks off for a whole one. Whole ones say how long the body is.
                raise http.client.IncompleteRead(b"")
            content = answer.read()
            is_reusable = not answer.will_close
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, content)
        except (OSError, http.client.HTTPException) as error:
            if isinstance(error, http.client.BadStatusLine) and not isinstance(error, http.client.RemoteDisconnected):
                raise protocol_error(f"what answers at {self._address} does not speak HTTP") from None
            if isinstance(error, socket.timeout):
                raise NoServer(f"{self._address}: no answer in time", timed_out=True) from error
            raise connection_error(self._address, error, f"{self._address}: the connection broke", True) from error
        finally:
            if is_reusable:
                self._give_back(connection)
            else:
                connection.close()

    def _connect(self, end: float) -> _Connection:
        try:
            return _Connection(self._address, min(end, time.monotonic() + self._connect_timeout))
        except OSError as error:
            raise connection_error(self._address, error, f"nobody answers at {self._address}", False) from error

    def _take(self) -> Optional[_Connection]:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection = self._idle.pop()
            if not connection.has_ended():
                return connection
            connection.close()

    def _give_back(self, connection: _Connection) -> None:
        with self._lock:
            if not self._is_closed and len(self._idle) < IDLE_MAX:
                self._idle.append(connection)
                return
        connection.close()

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            idle, self._idle = list(self._idle), deque()
        for connection in idle:
            connection.close()


_transports: weakref.WeakSet[HttpTransport] = weakref.WeakSet()


def _after_fork() -> None:
    """In the child. The connections are the parent's, who would get our answers, and we his; closed here, they stay open there.
    Whoever held a lock or had a connection is a thread of the parent's."""
    for transport in list(_transports):
        theirs = transport._idle
        transport._begin()
        for connection in theirs:
            connection.close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class _Connection(http.client.HTTPConnection):
    """Is there once it is made; OSError where it is not there at `end`, by time.monotonic()."""

    auto_open = 0

    def __init__(self, address: Address, end: float) -> None:
        super().__init__(address.host, address.port)
        plain = _connected(address, end)
        try:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if address.tls is not None:
                plain.settimeout(_left(end))
                plain = address.tls.wrap_socket(plain, server_hostname=address.host)
        except BaseException:
            plain.close()
            raise
        self._timed = _Timed(plain)
        self.sock = cast(socket.socket, self._timed)

    def begin(self, end: float) -> None:
        """A request that is over at `end`, with its answer."""
        self._timed.end = end

    def has_ended(self) -> bool:
        """Nobody asks anything on it, so what can be read from it is its end."""
        plain = self._timed.plain
        if hasattr(select, "poll"):
            poller = select.poll()
            poller.register(plain, select.POLLIN)
            return bool(poller.poll(0))
        return bool(select.select([plain], [], [], 0)[0])


def _left(end: float) -> float:
    """Seconds, more than none."""
    left = end - time.monotonic()
    if left <= 0:
        raise socket.timeout("timed out")
    return left


def _connected(address: Address, end: float) -> socket.socket:
    """Each of the host's addresses has its part of the time that is left: one that says nothing does not use it all up. How
    long a name takes to be looked up is the system's."""
    why: Optional[OSError] = None
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    for others, (family, kind, protocol, _, where) in zip(range(len(found), 0, -1), found):
        try:
            one = socket.socket(family, kind, protocol)
        except OSError as error:  # Such as a system without IPv6.
            why = error
            continue
        try:
            one.settimeout(_left(end) / others)
            one.connect(where)
            return one
        except OSError as error:
            one.close()
            why = error
    raise why if why is not None else OSError(f"no address of {address.host} is known")


class _Timed:
    """A socket as http.client uses it. A time-out of the socket's own is that of one call, and begins anew with each piece
    that comes: here all of them are over at `end`."""

    def __init__(self, plain: socket.socket) -> None:
        self.plain = plain
        self.end = 0.0

    def wait_at_most(self) -> None:
        self.plain.settimeout(_left(self.end))

    def sendall(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            self.wait_at_most()
            left = left[self.plain.send(left) :]

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self))

    def close(self) -> None:
        self.plain.close()


class _TimedReader(io.RawIOBase):
    def __init__(self, timed: _Timed) -> None:
        self._timed = timed
        self._file = timed.plain.makefile("rb", buffering=0)  # The socket is open until this is closed, too.

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> Optional[int]:
        self._timed.wait_at_most()
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


def headers_for(address: Address, token: Optional[str]) -> Dict[str, str]:
    headers = {"Host": address.netloc, "Content-Type": "application/json", "User-Agent": "workmill-python/0.1.0"}
    if token:  # An empty one says that none is meant, whatever WORKMILL_TOKEN says.
        headers["Authorization"] = f"Bearer {token}"
    return headers
