"""A worker's link by the stream, GET /v1/worker: one WebSocket, credit, reports in batches, both directions
pipelined."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import socket as sockets
import sys
from collections import deque
from typing import Any, Deque, Dict, List, Optional, Union

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from . import _calls, _json, _ours
from ._engine import Engine, Report
from ._errors import UserError, WorkmillError, from_problem, protocol_error
from ._http import Address
from ._outage import Outage
from ._retry import Pause
from ._silence import TURN, Silence
from ._within import within

logger = logging.getLogger("workmill")

MESSAGE_BYTES_MAX = 64 * 1024 * 1024
# Messages of reports that may wait for their answers. The server stops reading at some such number as well.
UNANSWERED_MAX = 16
# What no report is at fault for, and no further connection mends.
NEVER_MIND = ("unauthorized", "forbidden")
RECONNECT_FIRST, RECONNECT_CAP = 0.05, 2.0  # Seconds.
# Seconds after which the kernel asks a server from which it has heard nothing. Each stream has one of these: where thousands
# ask in the same moment, the kernel's queues overflow.
KEEP_ALIVE_IDLE = range(60, 120)


class Connection(ClientConnection):
    """Knows whether something has come."""

    is_heard = False

    def data_received(self, data: bytes) -> None:
        self.is_heard = True
        super().data_received(data)

    def take_heard(self) -> bool:
        heard, self.is_heard = self.is_heard, False
        return heard

    @property
    def own_name(self) -> Optional[str]:
        return name_of(self.local_address)

    def keep_alive(self) -> None:
        keep_alive(self.transport.get_extra_info("socket"))


def name_of(address: Any) -> Optional[str]:
    """The address of a socket and its port, as the server sees them where nobody is between. None: it has none, as
    one that was closed."""
    if not isinstance(address, tuple) or not address[0]:
        return None
    host, port = address[:2]
    host = host.partition("%")[0]  # The zone has another number at the other side.
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def keep_alive(socket: Any) -> None:
    """From now on the kernel finds out whether the other side is there."""
    idle, interval, count = random.choice(KEEP_ALIVE_IDLE), 10, 4
    # Where the last is set, Linux goes by that and counts no questions. What is sent and not confirmed for so long ends the
    # connection too.
    wanted = {
        "TCP_KEEPIDLE": idle,
        "TCP_KEEPINTVL": interval,
        "TCP_KEEPCNT": count,
        "TCP_USER_TIMEOUT": (idle + interval * count) * 1_000,
    }
    options = [(sockets.IPPROTO_TCP, option_of(name), value) for name, value in wanted.items()]
    for level, option, value in [*options, (sockets.SOL_SOCKET, sockets.SO_KEEPALIVE, 1)]:
        # A system may lack an option, or know its name alone; then its own time counts. And on a connection that has just
        # broken some refuse all of them: whoever reads from it finds out. Neither is a reason to connect again.
        with contextlib.suppress(OSError):
            if option is not None:
                socket.setsockopt(level, option, value)


def option_of(name: str) -> Optional[int]:
    """Its number, or None where the system has none."""
    if name == "TCP_KEEPIDLE" and sys.platform == "darwin":
        return 0x10  # TCP_KEEPALIVE there; Python has that name from 3.10 on.
    return getattr(sockets, name, None)


class Stream:
    def __init__(self, engine: Engine, address: Address, headers: Dict[str, str], connect_timeout: float) -> None:
        self._engine = engine
        self._connect_timeout = connect_timeout
        scheme = "wss" if address.tls else "ws"
        self._uri = f"{scheme}://{address.netloc}/v1/worker"
        self._tls = address.tls
        self._headers = {name: headers[name] for name in headers if name not in ("Host", "Content-Type", "User-Agent")}
        self._agent = headers.get("User-Agent")
        self._resume: Optional[str] = None
        self._is_direct = False  # Nobody is between us and the server, which says so.
        self._unanswered: Deque[List[Report]] = deque()
        self._wakeup = asyncio.Event()
        self._pause = Pause(RECONNECT_FIRST, RECONNECT_CAP)
        self._where = str(address)
        self._outage = Outage(self._where)

    def wake(self) -> None:
        self._wakeup.set()

    def drain(self) -> None:
        self._wakeup.set()

    async def run(self) -> None:
        while not self._engine.is_finished:
            error: Optional[Exception] = None
            try:
                await self._connect_and_serve()
                if self._engine.is_finished:
                    return
            except InvalidStatus as refused:
                error = _refusal(refused)
            except ConnectionClosed as closed:
                error = closed if closed.rcvd is not None else ConnectionError("the connection broke")
            except (OSError, asyncio.TimeoutError, WebSocketException, WorkmillError) as why:
                error = why
            if isinstance(error, UserError):
                raise error
            wait = self._pause.next(error.retry_after if isinstance(error, WorkmillError) else None)
            # Where it ended as the server would not have a report, it is there: the engine says which report.
            if not (isinstance(error, WorkmillError) and error.code == "report_refused"):
                self._outage.failed(error, wait)
            await asyncio.sleep(wait)

    async def _connect_and_serve(self) -> None:
        options: Dict[str, Any] = {"ssl": self._tls} if self._tls else {}
        async with connect(
            self._uri,
            additional_headers=self._headers,
            user_agent_header=self._agent,
            compression=None,
            open_timeout=self._connect_timeout,
            ping_interval=None,  # See _watch.
            close_timeout=1,
            max_size=MESSAGE_BYTES_MAX,
            proxy=None,
            create_connection=Connection,
            **options,
        ) as socket:
            assert isinstance(socket, Connection)
            await self._subscribe(socket)
            sender = asyncio.ensure_future(self._send(socket))
            watch = asyncio.ensure_future(self._watch(socket))
            refusal: Optional[UserError] = None
            try:
                await self._receive(socket)
            except ConnectionClosed as closed:
                if watch.done():
                    raise WorkmillError("the server has fallen silent", code="no_server") from None
                refusal = self._refusal(closed)
                if refusal is None:
                    raise
            except UserError as error:
                refusal = self._refusal(error)
                if refusal is None:
                    raise
            finally:
                # First, since the wait below may be cancelled. The sender touches none of it once it is cancelled.
                sender.cancel()
                watch.cancel()
                lost = [report for reports in self._unanswered for report in reports]
                self._unanswered.clear()
                if refusal is None:
                    self._engine.put_back(lost)
                else:
                    self._engine.on_refused(lost, refusal)
                await asyncio.gather(sender, watch, return_exceptions=True)
            if refusal is not None:
                raise WorkmillError(f"reports were refused: {refusal}", code="report_refused") from refusal

    def _refusal(self, why: Exception) -> Optional[UserError]:
        """Where the stream ended as the server would not have a message of reports: what it said of it."""
        if not self._unanswered:
            return None
        if isinstance(why, UserError):
            return None if why.code in NEVER_MIND else why
        # A close without an error before it, as of a proxy that bounds messages.
        assert isinstance(why, ConnectionClosed)
        code = why.rcvd.code if why.rcvd is not None else None
        if code == 1009:
            return UserError("a message was too large", code="payload_too_large")
        return UserError(f"the stream was closed with code {code}") if code in (1007, 1008) else None

    async def _watch(self, socket: Connection) -> None:
        """Until the server has been silent for too long; then it ends the connection."""
        silence = Silence()
        while True:
            await asyncio.sleep(TURN)
            finding = silence.turn(socket.take_heard(), self._engine.is_idle, self._is_direct)
            if finding == "gone":
                socket.transport.abort()
                return
            if finding == "ask":
                asking = asyncio.ensure_future(_ping(socket))
                try:
                    # Not wait_for: before Python 3.12 it may swallow that we are cancelled, and we would go on.
                    await asyncio.wait({asking}, timeout=TURN)
                finally:
                    asking.cancel()

    async def _subscribe(self, socket: Connection) -> None:
        settings = self._engine.settings
        wanted: Dict[str, Any] = {
            "queues": _calls.queue_choices(settings.queues),
            "credit": 0 if self._engine.is_draining else settings.credit,
            "lease": settings.lease_text,
        }
        if socket.own_name is not None:
            wanted["from"] = socket.own_name
        if settings.worker is not None:
            wanted["worker"] = settings.worker
        if self._resume is not None:
            wanted["resume"], wanted["held"] = self._resume, self._engine.held_ids()
        await self._send_text(socket, _json.dumps({"subscribe": wanted}))
        first = self._read(await within(self._connect_timeout * 2, socket.recv()))
        if "error" in first:
            raise self._problem(first["error"])
        subscribed = first.get("subscribed")
        if not (isinstance(subscribed, dict) and isinstance(subscribed.get("resume"), str)):
            raise protocol_error("the stream did not begin with an answer")
        self._resume = subscribed["resume"]
        self._is_direct = bool(subscribed.get("direct", False))
        if self._is_direct:
            socket.keep_alive()
        self._pause.reset()
        self._outage.is_over()
        is_resumed = subscribed.get("resumed", False)
        logger.info("connected with %s as %s", self._where, settings.worker, extra={"resumed": is_resumed})

    @staticmethod
    async def _send_text(socket: ClientConnection, data: bytes) -> None:
        await socket.send(data, text=True)

    async def _send(self, socket: ClientConnection) -> None:
        """Sends what there is whenever the loop gets to it: so what arose together goes out together."""
        has_drained = False
        try:
            while True:
                self._wakeup.clear()
                if self._engine.is_draining and not has_drained:
                    has_drained = True
                    await self._send_text(socket, b'{"drain":true}')
                while self._may_send():
                    reports = self._engine.take_reports()
                    if not reports:
                        break
                    self._unanswered.append(reports)
                    await self._send_text(socket, _calls.reports_body([report.data for report in reports]))
                await self._wakeup.wait()
        except ConnectionClosed:
            pass  # The receiver says why.

    def _may_send(self) -> bool:
        """Whether a message of reports may go out now. A suspect waits until all are answered, and all wait for the
        answer to a suspect: a refusal does not say which message it is of."""
        if not self._unanswered:
            return True
        is_suspect = self._unanswered[0][0].is_suspect or self._engine.is_next_suspect
        return len(self._unanswered) < UNANSWERED_MAX and not is_suspect

    async def _receive(self, socket: ClientConnection) -> None:
        engine = self._engine
        async for text in socket:
            message = self._read(text)
            if "jobs" in message:
                engine.on_jobs(_ours.jobs_of(message))
            elif "reports" in message:
                if not self._unanswered:
                    raise protocol_error("reports were answered that were not sent")
                answers = _ours.answers_of(message, len(self._unanswered[0]))
                engine.on_answers(self._unanswered.popleft(), answers)
            elif "cancel" in message:
                engine.on_cancel(_ours.ids_of(message["cancel"]))
            elif "error" in message:
                raise self._problem(message["error"])
            elif "drained" in message:
                if engine.is_finished:
                    return

    @staticmethod
    def _read(text: Union[str, bytes]) -> Dict[str, Any]:
        try:
            message = _json.loads(text)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            raise protocol_error("the stream brought what is no message")
        return message

    def _problem(self, problem: Any) -> WorkmillError:
        if not _ours.is_problem(problem):
            return protocol_error("the stream brought an error that is none")
        error = from_problem(problem)
        if error.code == "stream_replaced":
            # A stream of ours took over that we have lost sight of. What it holds is given to others after a while.
            self._resume = None
            return WorkmillError(error.message, code=error.code)
        return error


async def _ping(socket: ClientConnection) -> None:
    """Waits only where the connection takes no more."""
    with contextlib.suppress(ConnectionClosed):
        await socket.ping()


def _refusal(refused: InvalidStatus) -> WorkmillError:
    """What the server says instead of opening the stream."""
    response = refused.response
    headers = {"retry-after": response.headers.get("Retry-After", "")}
    try:
        problem = _json.loads(bytes(response.body or b""))
    except ValueError:
        problem = None
    what, after = f"the stream was answered {response.status_code}", _calls.retry_after(headers)
    return _calls.problem_error(problem, headers) or WorkmillError(what, code="no_server", retry_after=after)
