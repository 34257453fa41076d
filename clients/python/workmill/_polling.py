"""A worker's link by plain HTTP: one long poll for jobs, and reports beside it. For networks that let no WebSocket
pass."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Dict, List, Mapping, Optional

from . import _calls
from ._async_client import AsyncClient
from ._engine import Engine, Report
from ._errors import UserError, WorkmillError
from ._http_async import CalledOff, CallOff
from ._outage import Outage
from ._retry import Pause, RetryPolicy
from ._stream import NEVER_MIND, RECONNECT_CAP, RECONNECT_FIRST

logger = logging.getLogger("workmill")

POLL = 20.0  # Seconds.
LEASES_MAX = 1_000  # Of one call.


class Polling:
    """Owns `client`, and closes it. `where`: the server, for the log."""

    def __init__(self, engine: Engine, client: AsyncClient, where: str) -> None:
        self._engine = engine
        self._client = client
        self._wakeups: Dict[str, asyncio.Event] = {"leases": asyncio.Event(), "reports": asyncio.Event()}
        self._leasing: Optional[asyncio.Task[None]] = None
        self._call_off: Optional[CallOff] = None  # While a poll is under way.
        self._outage = Outage(where)

    def wake(self) -> None:
        for event in self._wakeups.values():
            event.set()

    def drain(self) -> None:
        # Ends our side of the connection that polls, upon which the server takes back what it was about to give. Jobs that
        # it has given by then, wherever they are, are the worker's to give back.
        if self._call_off is not None:
            self._call_off.set_result(None)
        elif self._leasing is not None:
            self._leasing.cancel()

    async def run(self) -> None:
        leasing = self._leasing = asyncio.ensure_future(self._lease())
        leasing.add_done_callback(lambda _: self.wake())
        reporting = asyncio.ensure_future(self._report(leasing))
        try:
            while not reporting.done():
                wanted = {one for one in (leasing, reporting) if not one.done()}
                await asyncio.wait(wanted, return_when=asyncio.FIRST_COMPLETED)
                if leasing.done() and not leasing.cancelled():
                    leasing.result()
            reporting.result()
        finally:
            leasing.cancel()
            reporting.cancel()
            await asyncio.gather(leasing, reporting, return_exceptions=True)
            await self._client.close()

    async def _lease(self) -> None:
        engine = self._engine
        pause = Pause(RECONNECT_FIRST, RECONNECT_CAP)
        while not engine.is_draining:
            room = min(engine.room(), LEASES_MAX)
            if room == 0:
                await self._wait("leases")
                continue
            try:
                jobs = await self._poll(room)
            except UserError:
                raise
            except CalledOff:
                return
            except WorkmillError as error:
                if engine.is_draining:
                    return
                await self._back_off(pause, error)
                continue
            self._reached(pause)
            engine.on_jobs(jobs)

    async def _poll(self, room: int) -> List[Mapping[str, Any]]:
        settings = self._engine.settings
        call = _calls.lease_request(settings.queues, room, POLL, settings.lease_text, settings.worker)
        self._call_off = asyncio.get_running_loop().create_future()
        try:
            return await self._client._try(call, self._call_off)
        finally:
            self._call_off = None

    async def _report(self, leasing: asyncio.Task[None]) -> None:
        engine = self._engine
        pause = Pause(RECONNECT_FIRST, RECONNECT_CAP)
        while not (engine.is_finished and leasing.done()):  # Its last answer may bring jobs to give back.
            reports = engine.take_reports()
            if not reports:
                await self._wait("reports")
                continue
            try:
                await self._send(reports)
                self._reached(pause)
            except _AreBack as back:
                await self._back_off(pause, back.error)

    async def _send(self, reports: List[Report]) -> None:
        try:
            answers = await self._client._try(_calls.reports_request([report.data for report in reports]))
        except UserError as error:
            if error.code in NEVER_MIND:
                self._engine.put_back(reports)
                raise
            self._engine.on_refused(reports, error)
        except WorkmillError as error:
            self._engine.put_back(reports)
            raise _AreBack(error) from None
        except asyncio.CancelledError:
            self._engine.put_back(reports)
            raise
        else:
            self._engine.on_answers(reports, answers)

    async def _wait(self, name: str) -> None:
        event = self._wakeups[name]
        await event.wait()
        event.clear()

    def _reached(self, pause: Pause) -> None:
        pause.reset()
        if self._outage.is_over():
            logger.info("the server answers")

    async def _back_off(self, pause: Pause, error: WorkmillError) -> None:
        wait = pause.next(error.retry_after)
        self._outage.failed(error, wait)
        await asyncio.sleep(wait)


class _AreBack(Exception):
    """Reports could not be sent now, and have been put back."""

    def __init__(self, error: WorkmillError) -> None:
        super().__init__(str(error))
        self.error = error


# Its calls are tried again by the loops above, for ever.
ONCE = RetryPolicy(attempts=1)
