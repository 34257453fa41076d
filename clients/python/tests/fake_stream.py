"""A server of worker streams in a thread of its own, on top of the in-memory server: it keeps to the frames, and does
on command what a network or a server does in bad moments."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any, Callable, List, Optional

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from workmill.testing import FakeWorkmill

DEADLINE = 30.0


class FakeStream:
    """fake: the jobs. subscribed: every subscribe message that came. reports: every report, in order."""

    def __init__(self, fake: FakeWorkmill) -> None:
        self.fake = fake
        self.subscribed: List[dict] = []
        self.reports: List[dict] = []
        self.sees: List[str] = []  # Where each of them came from: address and port.
        self.is_direct = False  # It says that nobody is between.
        self.not_stored: List[str] = []  # Keys, of every job that is completed.
        self.answers_to_lose = 0  # So many messages of reports are decided, and not answered: the connection ends.
        self.answers_to_hold = 0  # So many are decided, and their answers are late: an error may come before them.
        self.poison: Callable[[dict], bool] = lambda report: False  # A message with such a report is refused as a whole.
        self.says_why = True  # Else it only closes the connection, as a proxy that bounds messages.
        self.first: List[Any] = []  # What the next connections begin with, in place of `subscribed`.
        self.refusal: Optional[dict] = None  # A problem, in place of `subscribed`.
        self.status: Optional[int] = None  # In place of the stream.
        self._changed = threading.Condition()
        self._connection: Optional[ServerConnection] = None
        self._silent: List[ServerConnection] = []
        self._credit = 0
        self._out: set = set()
        self._is_draining = False
        self._loop = asyncio.new_event_loop()
        self._server: Optional[Server] = None
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        ready.wait()

    def _run(self, ready: threading.Event) -> None:
        async def main() -> None:
            self._end = asyncio.Event()
            self._server = await serve(self._serve, "127.0.0.1", 0, compression=None, process_request=self._request)
            self.port = next(iter(self._server.sockets)).getsockname()[1]
            ready.set()
            await self._end.wait()
            for connection in self._silent:
                connection.transport.abort()  # Nothing that is not read will end it.
            self._server.close()
            await self._server.wait_closed()

        self._loop.run_until_complete(main())
        self._loop.close()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    # ---- For tests.

    def wait_for(self, check: Callable[[], Any]) -> Any:
        """Until `check` is true. Called again whenever a message has come."""
        with self._changed:
            assert self._changed.wait_for(check, DEADLINE), "it did not happen"
            return check()

    def send(self, message: Any) -> None:
        asyncio.run_coroutine_threadsafe(self._send(message), self._loop).result(DEADLINE)

    def give_jobs(self) -> None:
        """Those that are ready, as far as there is credit."""
        asyncio.run_coroutine_threadsafe(self._give(), self._loop).result(DEADLINE)

    def drop(self) -> None:
        """The connection breaks, without a close frame."""
        connection = self._connection
        assert connection is not None
        self._loop.call_soon_threadsafe(connection.transport.abort)

    def fall_silent(self) -> None:
        """What comes is not read any more, so that pings are not answered either; until the next connection."""
        connection = self._connection
        assert connection is not None
        self._silent.append(connection)
        self._loop.call_soon_threadsafe(connection.transport.pause_reading)

    def outcomes(self) -> List[str]:
        return [report["outcome"] for report in self.reports]

    # ---- The server.

    def _request(self, connection: ServerConnection, request: Any) -> Any:
        if self.status is None:
            return None
        problem = {"code": "unauthorized", "class": "user", "detail": "who?", "status": self.status}
        return connection.respond(self.status, json.dumps(problem))

    async def _send(self, message: Any) -> None:
        assert self._connection is not None
        await self._connection.send(json.dumps(message))

    async def _give(self) -> None:
        room = self._credit - len(self._out)
        if room <= 0 or self._is_draining or self._connection is None:
            return
        jobs = self._ask("/v1/leases", {"queues": self.subscribed[-1]["queues"], "max": room})["jobs"]
        if jobs:
            self._out.update(job["id"] for job in jobs)
            await self._send({"jobs": jobs})

    def _ask(self, path: str, body: dict) -> dict:
        return json.loads(self.fake._server.request("POST", path, {}, json.dumps(body).encode()).body)

    async def _serve(self, connection: ServerConnection) -> None:
        try:
            first = json.loads(await connection.recv())["subscribe"]
            if self.refusal is not None:
                await connection.send(json.dumps({"error": self.refusal}))
                return
            if self.first:
                await connection.send(json.dumps(self.first.pop(0)))
                await connection.wait_closed()
                return
            self._connection = connection
            self._is_draining = False
            self._credit = first["credit"]
            resumed = "resume" in first
            answer = {"resume": f"token-{len(self.subscribed)}", "reconnect_within": "5s", "resumed": resumed}
            if self.is_direct:
                answer["direct"] = True
            self.sees.append("{}:{}".format(*connection.remote_address))
            await connection.send(json.dumps({"subscribed": {**answer, "lease": first["lease"]}}))
            self._note(lambda: self.subscribed.append(first))
            await self._give()
            async for text in connection:
                await self._on_message(json.loads(text))
        except ConnectionClosed:
            pass

    def _note(self, change: Callable[[], Any]) -> None:
        with self._changed:
            change()
            self._changed.notify_all()

    async def _on_message(self, message: dict) -> None:
        if any(self.poison(report) for report in message.get("reports", ())):
            assert self._connection is not None
            problem = {"code": "invalid_field", "class": "user", "detail": "no", "field": "reports[0]", "status": 400}
            if self.says_why:
                await self._send({"error": problem})
            await self._connection.close(1008 if self.says_why else 1009)
            return
        if "reports" in message:
            answers = self._ask("/v1/reports", message)["reports"]
            for report, answer in zip(message["reports"], answers):
                if self.not_stored and report["outcome"] == "completed":
                    answer["not_stored"] = self.not_stored
            self._out = {job.id for job in self.fake.jobs(state="leased") if job.id in self._out}
            is_lost = self.answers_to_lose > 0
            self.answers_to_lose -= 1 if is_lost else 0
            self._note(lambda: self.reports.extend(message["reports"]))
            if is_lost:
                assert self._connection is not None
                self._connection.transport.abort()
                return
            if self.answers_to_hold > 0:
                self.answers_to_hold -= 1
                return
            await self._send({"reports": answers})
            await self._give()
        elif "drain" in message:
            self._is_draining = True
        if self._is_draining and not self._out:
            await self._send({"drained": True})
