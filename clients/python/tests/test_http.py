"""Both HTTP transports against servers that misbehave: a socket that says what the test has written down."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
import socketserver
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from workmill import (
    AsyncClient,
    AsyncWorker,
    Client,
    FatalError,
    JobNotFound,
    NoServer,
    RetryableError,
    RetryPolicy,
    UserError,
    Worker,
)
from workmill._calls import Answer
from workmill._http import Address
from workmill._http_async import AsyncHttpTransport
from workmill._within import within

ONCE = RetryPolicy(attempts=1)
ONCE_AT_ONCE = RetryPolicy(attempts=1, first=0, cap=0)
TWICE = RetryPolicy(attempts=2, first=0, cap=0)


def answer(body: str, *, status: str = "200 OK", headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\n\r\n{body}".encode()


QUEUE = '{"name": "q", "paused": false, "depth": {}}'


class Scripted:
    """Listens; its n-th connection gives the n-th list of answers, one for each request, and ends then. Nobody listens
    after the last one. `requests` has what came."""

    def __init__(self, *connections: list) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._script = connections
        self.requests: list = []
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with self._listener:
            for answers in self._script:
                connection, _ = self._listener.accept()
                with connection:
                    for data in answers:
                        self.requests.append(self._read(connection))
                        connection.sendall(data)
                    connection.shutdown(socket.SHUT_WR)

    @staticmethod
    def _read(connection: socket.socket) -> bytes:
        """With its body: a connection that is closed with something unread takes the answer with it."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += connection.recv(65_536)
        head, _, body = data.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)^content-length: *(\d+)", head, re.MULTILINE)
        while length is not None and len(body) < int(length[1]):
            body += connection.recv(65_536)
        return head + b"\r\n\r\n" + body

    def join(self) -> None:
        self._thread.join(30)
        assert not self._thread.is_alive(), "fewer requests came than the test has written answers for"


@pytest.fixture(params=["sync", "async"])
def ask(request):
    """ask(url, retry, n): asks n times for a queue with one client. Gives the last answer."""

    def ask_sync(url: str, retry: RetryPolicy, times: int = 1):
        with Client(url, retry=retry) as client:
            return [client.queue("q") for _ in range(times)][-1]

    def ask_async(url: str, retry: RetryPolicy, times: int = 1):
        async def run():
            async with AsyncClient(url, retry=retry) as client:
                return [await client.queue("q") for _ in range(times)][-1]

        return asyncio.run(run())

    return ask_sync if request.param == "sync" else ask_async


def test_a_connection_is_used_again(ask):
    server = Scripted([answer(QUEUE)] * 3)

    assert ask(server.url, ONCE, 3).name == "q"

    server.join()


def test_a_connection_that_the_server_has_closed_meanwhile_costs_no_attempt(ask):
    # The answer says so itself; else the next request may be sent before the end is seen.
    closing = answer(QUEUE, headers="Connection: close\r\n")
    server = Scripted([closing], [closing])

    assert ask(server.url, ONCE, 2).name == "q"

    server.join()


def test_an_answer_in_chunks_is_read(ask):
    chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked += f"5\r\n{QUEUE[:5]}\r\n{len(QUEUE) - 5:x}\r\n{QUEUE[5:]}\r\n0\r\n\r\n"
    server = Scripted([chunked.encode()])

    assert ask(server.url, ONCE).name == "q"

    server.join()


@pytest.mark.parametrize(
    "cut", [b"", b"HTTP/1.1 200 OK\r\nConte", b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf"]
)
def test_an_answer_that_breaks_off_is_asked_for_again(ask, cut):
    server = Scripted([cut], [answer(QUEUE)])

    assert ask(server.url, TWICE).name == "q"

    server.join()
    assert len(server.requests) == 2


def test_an_answer_that_breaks_off_again_and_again_is_no_server(ask):
    server = Scripted([b""], [b""])

    with pytest.raises(NoServer) as error:
        ask(server.url, TWICE)

    assert error.value.code == "no_server"
    server.join()


@pytest.mark.parametrize(
    "data",
    [b"SSH-2.0-OpenSSH\r\n\r\n", answer("<html>"), answer("[1]"), answer("{}"), answer("gone", status="404 Not Found")],
)
def test_what_is_no_workmill_is_a_protocol_error_and_not_tried_again(ask, data):
    server = Scripted([data])

    with pytest.raises(FatalError) as error:
        ask(server.url, TWICE)

    assert error.value.code == "protocol_error"
    assert error.value.may_have_happened  # It was sent, and something between may have spoilt the answer.
    server.join()


def test_a_proxy_that_reaches_no_server_is_tried_again(ask):
    # It says that it closes: else the second attempt may go out on the first connection, and find its end.
    bad = answer("<html>", status="502 Bad Gateway", headers="Connection: close\r\n")
    server = Scripted([bad], [answer(QUEUE)])

    assert ask(server.url, TWICE).name == "q"

    server.join()


@pytest.mark.parametrize("body", ["busy", '{"message": "busy"}', '{"code": 503, "class": null}', "[1]", ""])
@pytest.mark.parametrize("status", ["429 Too Many Requests", "502 Bad Gateway", "503 Unavailable", "504 Gateway Timeout"])
def test_what_a_gateway_says_in_its_own_words_is_tried_again_and_not_before_it_asks_for_that(ask, status, body):
    closing = "Connection: close\r\n"
    now, later = (answer(body, status=status, headers=f"{closing}Retry-After: {after}\r\n") for after in (0, 7))
    server = Scripted([now], [answer(QUEUE, headers=closing)], [later])

    assert ask(server.url, TWICE).name == "q"
    with pytest.raises(NoServer) as error:
        ask(server.url, ONCE)

    server.join()
    assert (error.value.code, error.value.retry_after) == ("no_server", 7)
    assert error.value.may_have_happened is (status[:3] != "429")


def test_a_refusal_is_the_error_that_the_server_tells(ask):
    problem = '{"code": "not_found", "class": "user", "detail": "no such queue", "status": 404, "trace_id": "0f"}'
    server = Scripted([answer(problem, status="404 Not Found")])

    with pytest.raises(UserError) as error:
        ask(server.url, TWICE)

    assert (error.value.code, error.value.status, error.value.trace_id) == ("not_found", 404, "0f")
    server.join()


def test_those_that_wait_hold_up_nobody_else(server):
    at_once = dict(connections=1, timeout=1, retry=ONCE)

    def main_sync():
        with Client(server.url, **at_once) as client, ThreadPoolExecutor(3) as pool:
            id = client.enqueue("t").id
            waits = [pool.submit(client.wait, id, 60) for _ in range(3)]
            wait_until_all_wait(server, 3)
            client.cancel(id)
            return [wait.result().state for wait in waits]

    async def main_async():
        async with AsyncClient(server.url, **at_once) as client:
            id = (await client.enqueue("t")).id
            waits = [asyncio.ensure_future(client.wait(id, 60)) for _ in range(3)]
            await asyncio.get_running_loop().run_in_executor(None, wait_until_all_wait, server, 3)
            await client.cancel(id)
            return [(await wait).state for wait in waits]

    assert main_sync() == ["cancelled"] * 3
    assert asyncio.run(main_async()) == ["cancelled"] * 3


def wait_until_all_wait(server, count):
    """Until the server holds so many long polls."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        bounds = server.http("GET", "/v1/status")["body"]["bounds"]
        if next(bound["used"] for bound in bounds if bound["name"] == "waiters") >= count:
            return
    raise AssertionError(f"there are not {count} who wait")


def test_a_call_has_the_timeout_that_it_is_given():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        # Its own is longer than a test may take.
        client = Client(f"http://127.0.0.1:{silent.getsockname()[1]}", retry=ONCE, timeout=1000)
        with pytest.raises(NoServer):
            client.with_options(timeout=0.01).queue("q")
        client.close()


def test_whoever_is_cancelled_as_his_answer_comes_is_cancelled():
    async def main():
        came = asyncio.get_running_loop().create_future()
        transport = AsyncHttpTransport(Address.parse("http://127.0.0.1:1"))

        async def request(*_):
            return await came

        transport._request = request
        asking = asyncio.ensure_future(transport.request("GET", "/", {}, None, 30))
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # Now it waits.
        came.set_result(Answer(200, {}, b""))
        await asyncio.sleep(0)  # Now it has come, and who waits does not know it yet.
        is_told = asking.cancel()  # Since Python 3.12 he has it already.
        await asyncio.wait({asking})
        return is_told, asking.cancelled()

    is_told, is_cancelled = asyncio.run(main())
    assert is_cancelled is is_told


def test_a_connection_that_comes_about_as_its_caller_is_cancelled_is_closed():
    async def main():
        closed = []
        came = asyncio.get_running_loop().create_future()

        async def connect():
            return await came

        connecting = asyncio.ensure_future(within(30, connect(), undo=closed.append))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        came.set_result("a connection")
        await asyncio.sleep(0)
        is_told = connecting.cancel()
        await asyncio.wait({connecting})
        return is_told, closed

    is_told, closed = asyncio.run(main())
    assert closed == (["a connection"] if is_told else [])


HEAD = b"HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize("begun", [b"", HEAD + b"X: ", HEAD + b"Content-Length: 1000000\r\n\r\n"])
@pytest.mark.parametrize("make", [Client, AsyncClient])
def test_an_answer_that_comes_in_drops_takes_no_more_time_than_none(make, begun):
    is_over = threading.Event()

    def drip():
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            Scripted._read(connection)
            connection.sendall(begun)
            while not is_over.wait(0.001):
                connection.sendall(b"H")

    async def ask():
        answer = client.queue("q")
        return await answer if make is AsyncClient else answer

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=drip, daemon=True).start()
        client = make(f"http://127.0.0.1:{listener.getsockname()[1]}", retry=ONCE, timeout=0.1)
        with pytest.raises(NoServer, match="no answer in time"):
            asyncio.run(ask())
        is_over.set()


def test_a_host_is_reached_at_any_of_its_addresses(monkeypatch):
    server = Scripted([answer(QUEUE)])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = taken.getsockname()
    somebody = ("127.0.0.1", int(server.url.rpartition(":")[2]))
    found = [(9_999, socket.SOCK_STREAM, 0, "", nobody)]  # Of a kind that this system does not know.
    found += [(socket.AF_INET, socket.SOCK_STREAM, 0, "", where) for where in (nobody, somebody)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)

    with Client(server.url, retry=ONCE) as client:
        assert client.queue("q").name == "q"

    server.join()


OVERLOADED = '{"code": "overloaded", "class": "retryable", "detail": "busy"}'


def job_as(state: str) -> bytes:
    counts = '"attempt": 0, "max_attempts": 20, "priority": 5'
    times = '"created_at": "2030-01-01T00:00:00.000Z"'
    return answer(f'{{"id": "a", "type": "t", "queue": "q", "state": "{state}", {counts}, {times}, "result": 5}}')


@pytest.fixture(params=["sync", "async"])
def wait(request):
    """wait(url, method, patience, **client): client.wait or client.result of the job "a"."""

    def wait_sync(url: str, method: str, patience, **options):
        with Client(url, **options) as client:
            return getattr(client, method)("a", patience)

    def wait_async(url: str, method: str, patience, **options):
        async def run():
            async with AsyncClient(url, **options) as client:
                return await getattr(client, method)("a", patience)

        return asyncio.run(run())

    return wait_sync if request.param == "sync" else wait_async


@pytest.mark.parametrize("timeout", [None, 30])
def test_a_wait_goes_on_while_the_server_is_away_however_few_attempts_a_call_has(wait, timeout):
    away = [[answer(OVERLOADED, status="503 Service Unavailable")], []] * 10
    server = Scripted([job_as("ready")], *away, [job_as("completed")])

    assert wait(server.url, "result", timeout, retry=ONCE_AT_ONCE) == 5

    server.join()


def test_where_the_time_of_a_wait_is_over_the_job_is_as_it_was_seen(wait):
    server = Scripted([job_as("ready")])

    job = wait(server.url, "wait", 0.3, retry=ONCE_AT_ONCE, timeout=0.1)

    server.join()
    assert job.state == "ready"


def test_a_wait_for_which_there_was_never_a_server_tells_so_when_its_time_is_over(wait):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    with pytest.raises(NoServer):
        wait(f"http://127.0.0.1:{port}", "wait", 0.1)


@pytest.mark.parametrize("nothing", [0, "0s"])
def test_a_wait_of_nothing_is_tried_as_often_as_other_calls(wait, nothing):
    busy = answer(OVERLOADED, status="503 Service Unavailable")
    server = Scripted([busy, job_as("ready")], [busy] * 2)

    assert wait(server.url, "wait", nothing, retry=TWICE).state == "ready"
    with pytest.raises(RetryableError, match="overloaded"):
        wait(server.url, "wait", nothing, retry=TWICE)

    server.join()


def test_a_silent_server_takes_no_more_of_a_waits_time_than_one_try(wait):
    held = []
    with socket.create_server(("127.0.0.1", 0)) as silent:

        def accept():
            with contextlib.suppress(OSError):
                while True:
                    held.append(silent.accept()[0])

        threading.Thread(target=accept, daemon=True).start()
        with pytest.raises(NoServer, match="no answer in time"):
            wait(f"http://127.0.0.1:{silent.getsockname()[1]}", "wait", "20ms", timeout="20ms")
        silent.shutdown(socket.SHUT_RDWR)

    assert len(held) == 1
    held[0].close()


def test_a_short_wait_is_told_at_once_that_the_server_wants_a_long_pause(wait):
    server = Scripted([answer(OVERLOADED, status="429 Too Many Requests", headers="Retry-After: 300\r\n")])

    with pytest.raises(RetryableError) as error:
        wait(server.url, "result", "1s")

    server.join()
    assert error.value.retry_after == 300


def test_a_wait_for_what_is_not_there_is_not_tried_again(wait):
    server = Scripted([answer('{"code": "job_not_found", "class": "user", "detail": "no"}', status="404 Not Found")])

    with pytest.raises(JobNotFound):
        wait(server.url, "wait", None)

    server.join()


BULK = [{"type": "t"}] * 10_001
JOB = '{"id": "x", "state": "ready", "duplicate": false}'
ANSWERS = [answer(f'{{"jobs": [{",".join([JOB] * count)}]}}') for count in (10_000, 1)]
HASHED = "sha256:b2cce414fdbcd96622ff0ff342b2770f692768779637f1e4ae3b53aadc073b7f.1"  # Of 254 times k.


@pytest.mark.parametrize("key, second", [("k", "k.1"), ("k" * 253, "k" * 253 + ".1"), ("k" * 254, HASHED)])
def test_each_call_of_many_has_a_key_of_its_own_which_is_that_of_the_clients_in_other_languages(key, second):
    server = Scripted(ANSWERS, ANSWERS)

    async def enqueue():
        async with AsyncClient(server.url) as client:
            return await client.enqueue_many(BULK, idempotency_key=key)

    with Client(server.url) as client:
        assert len(client.enqueue_many(BULK, idempotency_key=key)) == 10_001
    assert len(asyncio.run(enqueue())) == 10_001

    server.join()
    keys = [re.search(rb"(?i)^idempotency-key: (.*)\r\n", request, re.MULTILINE)[1] for request in server.requests]
    assert keys == [f'"{key}"'.encode(), f'"{second}"'.encode()] * 2


def test_an_error_of_many_counts_over_all_and_says_what_those_before_it_were_answered():
    refused = '{"code": "invalid_field", "class": "user", "detail": "no", "field": "jobs[0].priority"}'
    server = Scripted([ANSWERS[0], answer(refused, status="400 Bad Request")])

    with Client(server.url) as client, pytest.raises(UserError) as error:
        client.enqueue_many(BULK)

    server.join()
    assert error.value.field == "jobs[10000].priority"
    assert len(error.value.enqueued) == 10_000


class SlottedError(Exception):
    enqueued = property()  # Takes no value.


@pytest.mark.parametrize("kind", [RuntimeError, UserError, SlottedError])
@pytest.mark.parametrize("who", ["hook", "jobs", "payload"])
def test_what_goes_wrong_with_a_later_job_of_many_says_what_those_before_it_were_answered(kind, who):
    server = Scripted([ANSWERS[0]], [ANSWERS[0]])

    def jobs():
        yield from BULK
        if who == "jobs":
            raise kind("no more")
        yield {"type": "last", "payload": object() if who == "payload" else 1}

    def hook(job):
        if who == "hook" and job["type"] == "last":
            raise kind("not this one")

    async def enqueue():
        async with AsyncClient(server.url, on_enqueue=[hook]) as client:
            await client.enqueue_many(jobs())

    wanted = TypeError if who == "payload" else kind
    with Client(server.url, on_enqueue=[hook]) as client, pytest.raises(wanted) as error:
        client.enqueue_many(jobs())
    with pytest.raises(wanted) as error_async:
        asyncio.run(enqueue())

    server.join()
    if wanted is not SlottedError:
        assert [len(one.value.enqueued) for one in (error, error_async)] == [10_000, 10_000]


@pytest.mark.parametrize("key", ["", "k" * 256, "kü", "a\nb"])
def test_what_is_no_key_is_refused_before_anything_is_sent(fake, key):
    with pytest.raises(UserError) as one:
        fake.enqueue("t", idempotency_key=key)
    with pytest.raises(UserError) as many:
        fake.enqueue_many([{"type": "t"}], idempotency_key=key)

    for error in (one.value, many.value):
        assert (error.code, error.field) == ("invalid_field", "idempotency_key")


def test_a_key_holds_for_all_parts_of_many_jobs(server):
    with Client(server.url) as client:
        for key in ('say "once" \\', "k" * 255):
            first = client.enqueue_many(BULK, idempotency_key=key)
            assert client.enqueue_many(BULK, idempotency_key=key) == first
            with pytest.raises(UserError, match="idempotency_key_reused"):
                client.enqueue_many(BULK[:1], idempotency_key=key)
        assert client.queue("default").depth["ready"] == 2 * 10_001


REFUSED = answer(OVERLOADED, status="503 Service Unavailable")


@pytest.mark.parametrize("method, args", [("retry", ["a"]), ("retry_all", []), ("lease", [["q"]])])
def test_what_would_be_done_twice_is_not_sent_again_where_its_answer_is_lost(method, args):
    # A second connection, which nobody may ask for; and a refusal, after which there is another attempt.
    done = [REFUSED, answer('{"count": 1, "jobs": []}')]
    server, busy = Scripted([b""], [b""]), Scripted(done, done)

    async def ask(url):
        async with AsyncClient(url, retry=TWICE) as client:
            await getattr(client, method)(*args)

    with Client(server.url, retry=TWICE) as client, pytest.raises(NoServer):
        getattr(client, method)(*args)
    assert len(server.requests) == 1
    with pytest.raises(NoServer):
        asyncio.run(ask(server.url))
    with Client(busy.url, retry=TWICE) as client:
        getattr(client, method)(*args)
    asyncio.run(ask(busy.url))

    server.join()
    busy.join()
    assert len(server.requests) == 2


class Dying:
    """Takes one request, and is gone before it answers: whoever comes back is refused."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        connection, _ = self._listener.accept()
        with connection:
            Scripted._read(connection)
            self._listener.close()


def test_where_an_attempt_may_have_been_done_the_error_says_so_though_the_later_ones_were_refused():
    often = RetryPolicy(attempts=3, first=0, cap=0)

    async def enqueue(url):
        async with AsyncClient(url, retry=often) as client:
            await client.enqueue("t")

    url = Dying().url
    with Client(url, retry=often) as client:
        with pytest.raises(NoServer, match="nobody answers") as lost:
            client.enqueue("t")
        with pytest.raises(NoServer, match="nobody answers") as never_sent:
            client.enqueue("t")
    with pytest.raises(NoServer, match="nobody answers") as lost_async:
        asyncio.run(enqueue(Dying().url))

    assert lost.value.may_have_happened and lost_async.value.may_have_happened
    assert not never_sent.value.may_have_happened


def test_an_error_of_any_class_says_that_an_attempt_before_it_may_have_been_done():
    problem = '{"code": "wrong_state", "class": "user", "detail": "it is cancelled"}'
    refusal = [answer(problem, status="409 Conflict", headers="Connection: close\r\n")]
    server = Scripted([b""], refusal, refusal)

    with Client(server.url, retry=TWICE) as client:
        with pytest.raises(UserError) as second:
            client.cancel("a")
        with pytest.raises(UserError) as only:
            client.cancel("a")

    server.join()
    assert second.value.may_have_happened
    assert not only.value.may_have_happened


def test_an_error_that_ends_a_wait_for_a_job_says_that_a_poll_before_it_may_have_been_heard():
    problem = '{"code": "unauthorized", "class": "user", "detail": "who?"}'
    refusal = [answer(problem, status="401 Unauthorized")]
    server = Scripted([b""], refusal, [b""], refusal)

    async def wait():
        async with AsyncClient(server.url, retry=ONCE_AT_ONCE) as client:
            await client.wait("a", timeout=60)

    with Client(server.url, retry=ONCE_AT_ONCE) as client, pytest.raises(UserError) as error:
        client.wait("a", timeout=60)
    with pytest.raises(UserError) as error_async:
        asyncio.run(wait())

    server.join()
    assert error.value.may_have_happened and error_async.value.may_have_happened


def test_a_cancellation_whose_answer_is_lost_is_sent_again():
    # It says that it closes: else the next call may go out on the same connection, and find its end.
    done = answer("{}", headers="Connection: close\r\n")
    server = Scripted([b""], [done], [b""], [answer('{"count": 1}')])

    with Client(server.url, retry=TWICE) as client:
        client.cancel("a")
        assert client.cancel_all() == 1

    server.join()


def test_a_report_says_what_came_with_it_and_was_not_stored():
    server = Scripted([answer('{"reports": [{"id": "a", "ok": true, "not_stored": ["k"]}, {"id": "b", "ok": true}]}')])

    with Client(server.url) as client:
        said = client.report([{"id": "a"}, {"id": "b"}])

    server.join()
    assert [one.not_stored for one in said] == [["k"], []]


def test_where_nobody_listens_there_is_no_server(ask):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    with pytest.raises(NoServer):
        ask(f"http://127.0.0.1:{port}", ONCE)


@pytest.mark.parametrize("token", ["wm_x\n", "wm\r\nX: y", "wm_\x00", "wm_ü"])
@pytest.mark.parametrize("make", [Client, AsyncClient, Worker, AsyncWorker])
def test_a_token_that_would_be_no_header_is_refused_and_not_shown(monkeypatch, make, token):
    with pytest.raises(UserError) as error:
        make(token=token)
    assert error.value.code == "bad_configuration"
    assert "wm" not in str(error.value)

    if "\x00" not in token:
        monkeypatch.setenv("WORKMILL_TOKEN", token)
        with pytest.raises(UserError):
            make()


def test_a_token_is_shown(monkeypatch):
    server = Scripted([answer(QUEUE)], [answer(QUEUE)])
    monkeypatch.setenv("WORKMILL_TOKEN", "wm_environment")

    for options in ({"token": "wm_mine"}, {}):
        with Client(server.url, **options) as client:
            client.queue("q")

    server.join()
    assert b"Authorization: Bearer wm_mine\r\n" in server.requests[0]
    assert b"Authorization: Bearer wm_environment\r\n" in server.requests[1]


@pytest.mark.parametrize("timeout", [float("inf"), "30d", 10**12])
def test_a_time_out_may_be_longer_than_the_system_takes(ask_with, timeout):
    server = Scripted([answer(QUEUE)])

    assert ask_with(server.url, timeout=timeout, connect_timeout=timeout).name == "q"

    server.join()


@pytest.fixture(params=["sync", "async"])
def ask_with(request):
    """ask_with(url, **options of the client)"""

    def ask_sync(url, **options):
        with Client(url, retry=ONCE, **options) as client:
            return client.queue("q")

    async def ask_async(url, **options):
        async with AsyncClient(url, retry=ONCE, **options) as client:
            return await client.queue("q")

    return ask_sync if request.param == "sync" else lambda url, **options: asyncio.run(ask_async(url, **options))


class Ports(socketserver.StreamRequestHandler):
    """Answers each request, and notes from where it came."""

    def handle(self):
        while self.rfile.readline() != b"":
            while self.rfile.readline() != b"\r\n":
                pass
            self.server.seen.append(self.client_address[1])
            self.wfile.write(answer(QUEUE))


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_child_that_is_forked_takes_no_connection_of_its_parents():
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Ports) as server:
        server.seen, server.daemon_threads = [], True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with Client(f"http://127.0.0.1:{server.server_address[1]}", connections=1) as client:
            client.queue("q")
            client._transport._free.acquire()  # As if another thread were in the middle of a call, which the child does not have.

            child = os.fork()
            if child == 0:
                with contextlib.suppress(BaseException):
                    client.with_options(timeout=30).queue("q")
                    os._exit(0)
                os._exit(1)
            assert os.waitpid(child, 0)[1] == 0

            client._transport._free.release()
            client.queue("q")
        server.shutdown()

    parent, of_child, again = server.seen
    assert parent == again != of_child
