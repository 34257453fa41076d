"""Workers over HTTP, on the in-memory server. The real one: clients/conformance."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re

import pytest

from workmill import AsyncClient, AsyncWorker, RetryPolicy, UserError, _http_async
from workmill._calls import Answer
from workmill._http import Address
from workmill._http_async import AsyncHttpTransport
from workmill._polling import Polling

ONCE = RetryPolicy(attempts=1)


class Transport:
    """To the in-memory server. `spoil(path, body)` may give an answer instead, as (status, problem)."""

    def __init__(self, fake):
        self.fake = fake
        self.spoil = lambda path, body: None

    async def request(self, method, path, headers, body, timeout, call_off=None):
        await asyncio.sleep(0.001)  # The fake's long polls do not wait: others get their turn here.
        spoilt = self.spoil(path, body)
        if spoilt is None:
            return self.fake._server.request(method, path, headers, body)
        return Answer(spoilt[0], {}, json.dumps(spoilt[1]).encode())

    async def close(self):
        pass


def problem(code, kind="user"):
    return {"code": code, "class": kind, "detail": "as the test says"}


@pytest.fixture
def transport(fake):
    return Transport(fake)


def work_until(worker, transport, check):
    worker._make_link = lambda engine: Polling(engine, AsyncClient("http://in.memory", retry=ONCE, transport=transport), "it")

    async def main():
        running = asyncio.ensure_future(worker.run())
        while not check() and not running.done():
            await asyncio.sleep(0.001)
        await worker.stop()
        await running

    asyncio.run(asyncio.wait_for(main(), 30))


def echo_worker():
    worker = AsyncWorker(["q"], transport="http")

    @worker.job("t")
    async def echo(ctx):
        return ctx.payload

    return worker


def test_jobs_are_polled_for_and_reported(fake, transport):
    ids = [fake.enqueue("t", number, queue="q").id for number in range(50)]

    work_until(echo_worker(), transport, lambda: fake.queue("q").depth["completed"] == 50)

    assert [fake.result(id) for id in ids] == list(range(50))


def test_one_report_that_spoils_a_request_does_not_spoil_the_others(fake, transport):
    def spoil(path, body):
        return (400, problem("invalid_field")) if path == "/v1/reports" and b"poison" in body else None

    transport.spoil = spoil
    ids = [fake.enqueue("t", payload, queue="q").id for payload in ("a", "poison", "b")]

    work_until(echo_worker(), transport, lambda: all(fake.get(id).finished for id in ids))

    assert [fake.get(id).state for id in ids] == ["completed", "dead", "completed"]
    assert fake.get(ids[1]).error.code == "report_refused"


def once(answer, wanted):
    """For Transport.spoil: that answer in place of the first one that is wanted."""
    left = [answer]
    return lambda path, body: (200, left.pop()) if left and wanted(path, body) else None


JOB = {"id": "x", "type": "t", "queue": "q", "lease": "l", "attempt": 1, "max_attempts": 1}


@pytest.mark.parametrize(
    "spoilt",
    [
        None,
        {"jobs": [None]},
        {"jobs": None},
        {"jobs": [{**JOB, "id": 1}]},
        {"jobs": [{**JOB, "max_attempts": None}]},
        {"jobs": [{**JOB, "payload_base64": 1}]},
    ],
)
def test_an_answer_with_something_else_in_it_than_jobs_is_no_answer(fake, transport, spoilt):
    transport.spoil = once(spoilt, lambda path, body: path == "/v1/leases")
    id = fake.enqueue("t", 1, queue="q").id

    work_until(echo_worker(), transport, lambda: fake.get(id).finished)

    assert fake.result(id) == 1


@pytest.mark.parametrize(
    "spoilt",
    [None, {"reports": [None]}, {"reports": []}, {"reports": [{"ok": False}]}, {"reports": [{"ok": False, "error": {}}]}],
)
def test_an_answer_with_something_else_in_it_than_reports_is_no_answer(fake, transport, spoilt):
    transport.spoil = once(spoilt, lambda path, body: path == "/v1/reports")
    id = fake.enqueue("t", 1, queue="q").id

    work_until(echo_worker(), transport, lambda: fake.get(id).finished)

    assert fake.result(id) == 1


async def serve(fake, reader, writer, sent):
    """One connection with the in-memory server. `sent(writer, answer)` sends what has jobs in it."""
    with contextlib.suppress(asyncio.IncompleteReadError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            method, path = head.split()[:2]
            body = await reader.readexactly(int(re.search(r"(?i)content-length: (\d+)", head)[1]))
            answer = fake._server.request(method, path, {}, body).body
            data = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer)
            await asyncio.sleep(0.001)  # The fake's long polls do not wait.
            if b'"jobs":[{' in answer:
                await sent(writer, data)
            else:
                writer.write(data)
    writer.close()


@pytest.mark.parametrize("first", [None, 1, 40])  # Bytes that come by themselves.
def test_jobs_whose_first_bytes_are_there_when_a_worker_drains_are_given_back(fake, monkeypatch, first):
    worker = echo_worker()
    feed_data = asyncio.StreamReader.feed_data
    begin = []

    def feed(reader, data):
        feed_data(reader, data)
        if begin and data == begin[0]:
            worker.drain()  # In the middle of a turn of the loop: nobody has read them yet.

    monkeypatch.setattr(asyncio.StreamReader, "feed_data", feed)

    async def main():
        async def sent(writer, data):
            begin.append(data[:first])
            writer.write(data[:first])
            for _ in range(10):
                await asyncio.sleep(0)  # What was called off would have gone by now.
            writer.write(data[len(begin[0]) :])

        server = await asyncio.start_server(lambda *streams: serve(fake, *streams, sent), "127.0.0.1", 0)
        url = "http://127.0.0.1:{}".format(server.sockets[0].getsockname()[1])
        worker._make_link = lambda engine: Polling(engine, AsyncClient(url, retry=ONCE), url)
        await worker.run()
        server.close()

    id = fake.enqueue("t", 1, queue="q").id
    asyncio.run(asyncio.wait_for(main(), 30))

    assert fake.get(id).state == "ready"


def drain_with_jobs_on_their_way(fake, turns, server_tls=None, client_tls=None):
    """With an answer that has been sent in the same step of the loop, so that it is in the socket, unread; or that is sent so many
    turns later, when the server does not know yet that nobody wants it."""
    worker = echo_worker()

    async def main():
        async def sent(writer, data):
            if turns > 0:
                worker.drain()
            for _ in range(turns):
                await asyncio.sleep(0)
            writer.write(data)
            if turns == 0:
                worker.drain()

        server = await asyncio.start_server(
            lambda *streams: serve(fake, *streams, sent), "127.0.0.1", 0, ssl=server_tls
        )
        scheme = "http" if server_tls is None else "https"
        url = "{}://127.0.0.1:{}".format(scheme, server.sockets[0].getsockname()[1])
        worker._make_link = lambda engine: Polling(engine, AsyncClient(url, retry=ONCE, tls=client_tls), url)
        await worker.run()
        server.close()

    asyncio.run(asyncio.wait_for(main(), 30))


@pytest.mark.parametrize("turns", [0, 1, 2, 3, 10])
def test_jobs_that_are_on_their_way_when_a_worker_drains_are_given_back(fake, turns):
    id = fake.enqueue("t", 1, queue="q").id

    drain_with_jobs_on_their_way(fake, turns)

    assert fake.get(id).state == "ready"


def test_a_server_that_does_not_take_back_a_poll_keeps_no_worker_from_ending(monkeypatch):
    monkeypatch.setattr(_http_async, "CALLED_OFF_WAIT", 0.01)

    async def main():
        asked, done = asyncio.Event(), asyncio.Event()

        async def silent(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            asked.set()
            await done.wait()
            writer.close()

        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        url = "http://127.0.0.1:{}".format(server.sockets[0].getsockname()[1])
        worker = echo_worker()
        worker._make_link = lambda engine: Polling(engine, AsyncClient(url, retry=ONCE), url)
        running = asyncio.ensure_future(worker.run())
        await asked.wait()
        worker.drain()
        await running
        done.set()
        server.close()

    asyncio.run(asyncio.wait_for(main(), 30))


def test_a_poll_that_waits_is_called_off_by_a_drain_and_its_connection_closed(fake):
    async def main():
        asked, gone = asyncio.Event(), asyncio.Event()

        async def wait(reader, writer):
            await reader.readuntil(b"\r\n\r\n")
            asked.set()
            await reader.read()  # The body, and that it is over.
            gone.set()
            writer.close()

        server = await asyncio.start_server(wait, "127.0.0.1", 0)
        url = "http://127.0.0.1:{}".format(server.sockets[0].getsockname()[1])
        worker = echo_worker()
        worker._make_link = lambda engine: Polling(engine, AsyncClient(url, retry=ONCE), url)
        running = asyncio.ensure_future(worker.run())
        await asked.wait()
        worker.drain()
        await running
        await gone.wait()
        server.close()

    asyncio.run(asyncio.wait_for(main(), 30))


def test_jobs_that_come_in_the_moment_in_which_a_worker_drains_are_given_back(fake):
    async def request(free, method, path, headers, body, call_off):
        answer = fake._server.request(method, path, headers, body)
        if path == "/v1/leases" and json.loads(answer.body)["jobs"]:
            worker.drain()  # The answer is there, and its caller does not know it yet.
        return answer

    transport = AsyncHttpTransport(Address.parse("http://127.0.0.1:1"))
    transport._request = request
    worker = echo_worker()
    id = fake.enqueue("t", 1, queue="q").id

    work_until(worker, transport, lambda: False)

    assert fake.get(id).state == "ready"


def test_a_server_that_is_busy_is_asked_again(fake, transport):
    left = [3]

    def spoil(path, body):
        if path != "/v1/leases" or left[0] == 0:
            return None
        left[0] -= 1
        return 503, problem("overloaded", "retryable")

    transport.spoil = spoil
    id = fake.enqueue("t", 1, queue="q").id

    work_until(echo_worker(), transport, lambda: fake.get(id).finished)

    assert fake.result(id) == 1


def test_a_worker_that_may_not_ends_with_the_error(fake, transport):
    transport.spoil = lambda path, body: (403, problem("forbidden"))

    with pytest.raises(UserError) as error:
        work_until(echo_worker(), transport, lambda: False)

    assert error.value.code == "forbidden"
