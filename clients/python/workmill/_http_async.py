"""HTTP/1.1 to one server for asyncio: streams for the bytes, h11 for what they mean."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import deque
from typing import Any, Callable, Coroutine, Deque, Mapping, Optional, Protocol, Set, Tuple, TypeVar

import h11

from ._calls import Answer
from ._errors import NoServer, protocol_error
from ._http import CONNECT_TIMEOUT, CONNECTIONS_MAX, IDLE_MAX, Address, connection_error
from ._within import within

T = TypeVar("T")

_PIECE = 65_536  # Bytes read at once.
CALLED_OFF_WAIT = 5.0  # Seconds that a server has to end what is called off.

CallOff = asyncio.Future[None]  # Whoever sets its result calls a request off.


class CalledOff(Exception):
    """The request was, before any of its answer came."""


class AsyncTransport(Protocol):
    """As Transport. `call_off`: when it is done, the server is told that nobody wants an answer that it has not given yet, and
    CalledOff is raised where it has not. One that has begun, or is on its way, is waited for: unlike one whose caller is
    cancelled, it does not get lost."""

    async def request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: Optional[bytes],
        timeout: float,
        call_off: Optional[CallOff] = ...,
    ) -> Answer: ...

    async def close(self) -> None: ...


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.state = h11.Connection(h11.CLIENT)
        self._is_ended = False  # We have said all that we ever say.

    @property
    def is_usable(self) -> bool:
        return not (self._is_ended or self.reader.at_eof() or self.writer.is_closing())

    async def ask(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: Optional[bytes],
        call_off: Optional[CallOff],
    ) -> Answer:
        fields = list(headers.items())
        if body is not None or method == "POST":
            fields.append(("Content-Length", str(len(body or b""))))
        data = self.state.send(h11.Request(method=method, target=path, headers=fields)) or b""
        if body:
            data += self.state.send(h11.Data(data=body)) or b""
        data += self.state.send(h11.EndOfMessage()) or b""
        self.writer.write(data)
        # An answer may come before all is sent, and instead of its being read: so a broken pipe is no reason to stop.
        with contextlib.suppress(ConnectionError):
            await self.writer.drain()
        return await self._answer(await self._first_bytes(call_off))

    async def _first_bytes(self, call_off: Optional[CallOff]) -> bytes:
        """Of the answer. That nothing is there when it is called off says little: it may be in the socket, or on its way. But a
        server whose client has ended its side takes back what it has not answered, and ends its own."""
        if call_off is None:
            return await self.reader.read(_PIECE)
        reading = asyncio.ensure_future(self.reader.read(_PIECE))
        try:
            either: Set[asyncio.Future[Any]] = {reading, call_off}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done() and self._end():
                await asyncio.wait({reading}, timeout=CALLED_OFF_WAIT)
            is_begun = reading.done() and reading.exception() is None and reading.result() != b""
            if call_off.done() and not is_begun:
                raise CalledOff
            return reading.result()
        finally:
            if not reading.done():
                reading.cancel()
                await asyncio.wait({reading})

    def _end(self) -> bool:
        """Ends our side of the connection. False: it cannot be done."""
        self._is_ended = True
        try:
            if self.writer.can_write_eof():
                self.writer.write_eof()
            else:  # TLS has no such half of an end. The connection below it has.
                self.writer.get_extra_info("socket").shutdown(socket.SHUT_WR)
        except (OSError, RuntimeError, TypeError, AttributeError):  # Loops that are not asyncio's own may not let us.
            return False
        return True

    async def _answer(self, begin: bytes) -> Answer:
        self.state.receive_data(begin)
        status, headers, parts = 0, {}, []
        while True:
            event = self.state.next_event()
            if event is h11.NEED_DATA:
                self.state.receive_data(await self.reader.read(_PIECE))
            elif isinstance(event, h11.Response):
                status = event.status_code
                headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in event.headers}
            elif isinstance(event, h11.Data):
                parts.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                return Answer(status, headers, b"".join(parts))
            elif isinstance(event, h11.ConnectionClosed):
                raise ConnectionResetError("the server closed the connection")

    def finish(self) -> bool:
        """Whether it is ready for a next request."""
        if self.state.our_state is not h11.DONE or self.state.their_state is not h11.DONE:
            return False
        self.state.start_next_cycle()
        return self.is_usable


class AsyncHttpTransport:
    """Keeps connections open for the next request, last used first. Belongs to one event loop."""

    def __init__(
        self, address: Address, connections_max: int = CONNECTIONS_MAX, connect_timeout: float = CONNECT_TIMEOUT
    ) -> None:
        self._address = address
        self._connect_timeout = connect_timeout
        self._connections_max = connections_max
        self._idle: Deque[_Connection] = deque()
        # Made with the first request: until Python 3.10 it takes hold of the loop that is current when it is made.
        self._free: Optional[asyncio.Semaphore] = None
        self._is_closed = False

    async def request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: Optional[bytes],
        timeout: float,
        call_off: Optional[CallOff] = None,
    ) -> Answer:
        if self._free is None:
            self._free = asyncio.Semaphore(self._connections_max)
        try:
            return await within(timeout, self._request(self._free, method, path, headers, body, call_off))
        except asyncio.TimeoutError:
            raise NoServer(f"{self._address}: no answer in time", timed_out=True) from None

    async def _request(
        self,
        free: asyncio.Semaphore,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: Optional[bytes],
        call_off: Optional[CallOff],
    ) -> Answer:
        async with free:
            connection = self._take()
            if connection is None:
                connection = await _unless(call_off, self._connect(), lambda made: made.writer.close())
            is_reusable = False
            try:
                answer = await connection.ask(method, path, headers, body, call_off)
                is_reusable = connection.finish()
                return answer
            except OSError as error:
                raise connection_error(self._address, error, f"{self._address}: the connection broke", True) from error
            except h11.RemoteProtocolError as error:
                # h11 says the same of an answer that was cut off.
                if connection.reader.at_eof():
                    raise NoServer(f"{self._address}: the connection broke: {error}", code="no_server") from error
                raise protocol_error(f"what answers at {self._address} does not speak HTTP: {error}") from error
            finally:
                # A request that was given up (time-out, cancellation, called off) closes its connection, which takes back
                # a long poll.
                if is_reusable and not self._is_closed and len(self._idle) < IDLE_MAX:
                    self._idle.append(connection)
                else:
                    connection.writer.close()

    async def _connect(self) -> _Connection:
        address = self._address
        try:
            streams: Tuple[asyncio.StreamReader, asyncio.StreamWriter] = await within(
                self._connect_timeout,
                asyncio.open_connection(address.host, address.port, ssl=address.tls),
                undo=lambda streams: streams[1].close(),
            )
        except (OSError, asyncio.TimeoutError) as error:
            raise connection_error(address, error, f"nobody answers at {address}", False) from error
        return _Connection(*streams)

    def _take(self) -> Optional[_Connection]:
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable:
                return connection
            connection.writer.close()
        return None

    async def close(self) -> None:
        self._is_closed = True
        idle, self._idle = list(self._idle), deque()
        for connection in idle:
            connection.writer.close()
        for connection in idle:
            with contextlib.suppress(OSError):
                await connection.writer.wait_closed()


async def _unless(
    call_off: Optional[CallOff], work: Coroutine[Any, Any, T], undo: Callable[[T], Any] = lambda _: None
) -> T:
    """What `work` gives, unless it is called off before there is anything. `undo` is for what nobody gets then."""
    if call_off is None:
        return await work
    task = asyncio.ensure_future(work)
    try:
        either: Set[asyncio.Future[Any]] = {task, call_off}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise CalledOff
    except BaseException:
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled() and task.exception() is None:
            undo(task.result())
        raise
    return task.result()
