"""The cache, as the clients and the in-memory server have it. Against the real one: clients/conformance."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest
import server as conformance_server
from conftest import BINARY
from test_http import Scripted

from workmill import (
    AsyncClient,
    AsyncWorker,
    CachePending,
    Client,
    FatalError,
    NoServer,
    RetryableError,
    RetryPolicy,
    UserError,
    Worker,
    WorkmillError,
)

SUM = {"type": "sum", "payload": [1, 2], "queue": "q"}


@pytest.fixture
def worker():
    one = Worker(["q"])
    one.job("sum")(lambda ctx: sum(ctx.payload))
    return one


class Waited:
    """An AsyncClient's cache, whose methods are waited for."""

    def __init__(self, cache):
        self._cache = cache

    def __getattr__(self, name):
        method = getattr(self._cache, name)
        return lambda *args, **options: asyncio.run(method(*args, **options))


@pytest.fixture(params=["sync", "async"])
def cache(request, fake):
    return fake.cache if request.param == "sync" else Waited(fake.async_client().cache)


def test_a_value_is_there_until_its_windows_are_over(fake, cache):
    etag = cache.put("user/7 ü", {"name": "Ada"}, fresh="1m", stale=30)

    fresh = cache.get("user/7 ü")
    fake.advance("90s")
    gone = cache.get("user/7 ü")

    assert (fresh.value, fresh.fresh, fresh.age, fresh.etag) == ({"name": "Ada"}, True, 0, etag)
    assert (fresh.content_type, fresh.data, fresh.computed) == ("application/json", b'{"name":"Ada"}', False)
    assert gone is None


@pytest.mark.parametrize("value", [None, False, "text", 7, [1, {"a": None}], b"\x00\xff", b""])
def test_values_come_back_as_they_were(cache, value):
    cache.put("k", value)

    assert cache.get("k").value == value


def test_text_of_another_kind_is_bytes_of_that_kind(cache):
    cache.put("page", "<p>ä", content_type="text/html; charset=utf-8")

    page = cache.get("page")

    assert (page.value, page.content_type) == ("<p>ä".encode(), "text/html; charset=utf-8")


def test_what_is_no_json_is_not_sent(cache):
    with pytest.raises(TypeError):
        cache.put("k", object())
    with pytest.raises(TypeError):
        cache.put("k", {}, content_type="text/plain")


@pytest.mark.parametrize("kind", ["text/plain\r\nX: y", "text/ü", "", " text/plain"])
def test_a_content_type_that_would_be_no_header_is_refused(cache, kind):
    with pytest.raises(UserError) as error:
        cache.put("k", "text", content_type=kind)

    assert (error.value.code, error.value.field) == ("invalid_field", "content_type")


def test_a_missing_value_is_computed_by_one_job(fake, cache, worker):
    for _ in range(3):
        with pytest.raises(CachePending) as pending:
            cache.get_or_compute("sum", SUM, fresh="1m")
    assert fake.drain(worker) == 1
    hit = cache.get_or_compute("sum", SUM)

    assert fake.get(pending.value.job_id).state == "completed"
    assert (pending.value.state, pending.value.code) == ("ready", "cache_pending")
    assert (hit.value, hit.fresh) == (3, True)


def test_a_stale_value_is_given_while_one_job_refreshes_it(fake, cache, worker):
    cache.put("sum", "old", fresh="1m", stale="1h")
    fake.advance("2m")

    stale = [cache.get_or_compute("sum", SUM, fresh="1m", stale="1h") for _ in range(3)]
    assert fake.drain(worker) == 1

    assert {(one.value, one.fresh, one.age) for one in stale} == {("old", False, 120)}
    assert (cache.get("sum").value, cache.get("sum").fresh) == (3, True)


def test_a_failure_is_an_error_of_its_class_and_is_remembered_for_error_for(fake, cache):
    worker = Worker(["q"])

    @worker.job("sum")
    def broken(ctx):
        raise UserError("no such row", code="no_row")

    with pytest.raises(CachePending):
        cache.get_or_compute("sum", SUM, error_for="10s")
    fake.drain(worker)
    with pytest.raises(UserError, match="no_row: no such row") as failed:
        cache.get_or_compute("sum", SUM, error_for="10s")
    fake.advance("10s")
    with pytest.raises(CachePending):
        cache.get_or_compute("sum", SUM)

    assert (failed.value.code, failed.value.status) == ("compute_failed", 502)


def test_values_are_forgotten_by_key_tag_and_prefix(cache):
    for number in range(4):
        cache.put(f"user/{number}", number, tags=["users", f"team-{number % 2}"])
    cache.put("other", 1, tags=["team-0"])

    assert cache.delete("user/0") and not cache.delete("user/0")
    assert cache.delete_by_tag("team-0") == 2
    assert cache.delete_by_prefix("user/") == 2
    assert cache.get("other") is None


def test_a_remembered_failure_is_forgotten_as_values_are(fake, cache):
    worker = Worker(["q"])

    @worker.job("sum")
    def broken(ctx):
        raise UserError("no such row", code="no_row")

    def fail(*keys):
        for key in keys:
            with pytest.raises(CachePending):  # A new job, whatever was remembered.
                cache.get_or_compute(key, SUM, error_for="10s", tags=["sums"], wait=0)
        assert fake.drain(worker) == len(keys)

    fail("sum/1", "sum/2", "other")
    assert cache.delete("sum/1") and not cache.delete("sum/1")
    fail("sum/1")
    assert cache.delete_by_tag("sums") == 0
    assert cache.delete_by_prefix("sum/") == 2 and cache.delete_by_prefix("sum/") == 0
    fail("sum/1", "sum/2")
    fake.advance("10s")
    assert not cache.delete("other") and cache.delete_by_prefix("sum/") == 0


def test_a_stale_value_whose_refresh_failed_is_forgotten_as_one(fake, cache):
    worker = Worker(["q"])

    @worker.job("sum")
    def broken(ctx):
        raise UserError("no such row", code="no_row")

    cache.put("sum", 1, fresh="1s", stale="1h")
    fake.advance("2s")
    assert cache.get_or_compute("sum", SUM, error_for="1h").value == 1
    fake.drain(worker)
    assert cache.delete_by_prefix("sum") == 1
    with pytest.raises(CachePending):
        cache.get_or_compute("sum", SUM, wait=0)


def test_a_handler_sets_keys_with_its_completion_and_only_then(fake, worker):
    attempts = []

    @worker.job("report")
    def report(ctx):
        attempts.append(ctx.attempt)
        ctx.cache("total", 1)
        ctx.cache("total", ctx.attempt, fresh="1h", tags=["reports"])
        ctx.cache("raw", b"\x01", content_type="image/x")
        if ctx.attempt == 1:
            raise LookupError("not yet")

    fake.enqueue("report", queue="q", backoff={"first": 1})
    fake.drain(worker)
    assert fake.cache.get("total") is None
    fake.drain(worker, through_time=True)

    assert attempts == [1, 2]
    assert fake.cache.get("total").value == 2
    assert (fake.cache.get("raw").value, fake.cache.get("raw").content_type) == (b"\x01", "image/x")
    assert fake.cache.delete_by_tag("reports") == 1


def test_coroutines_set_keys_too(fake):
    worker = AsyncWorker(["q"])

    @worker.job("report")
    async def report(ctx):
        ctx.cache("total", 5)

    fake.enqueue("report", queue="q")
    fake.drain(worker)

    assert fake.cache.get("total").value == 5


def test_what_a_report_cannot_hold_is_refused_where_it_is_set(fake, worker):
    refused = []
    large = b"x" * (8 * 1024 * 1024)

    @worker.job("much")
    def much(ctx):
        for number in range(100):
            ctx.cache(f"k{number}", number)
        for key, value in (("one more", 1), ("k1", large + b"x"), ("k2", object())):
            with pytest.raises((UserError, TypeError)) as error:
                ctx.cache(key, value)
            refused.append(error.value)
        ctx.cache("k3", large)
        ctx.cache("k4", large)  # Both are too much for one report: for each attempt.

    id = fake.enqueue("much", queue="q").id
    assert fake.drain(worker) == 1
    assert (fake.get(id).state, fake.get(id).error.code) == ("dead", "payload_too_large")

    assert [type(error) for error in refused] == [UserError, UserError, TypeError]
    assert [(error.code, error.field) for error in refused[:2]] == [("payload_too_large", "cache")] * 2


def test_what_was_set_before_a_refusal_is_kept(fake, worker):
    @worker.job("much")
    def much(ctx):
        ctx.cache("k1", 1)
        with pytest.raises(UserError):
            ctx.cache("k1", b"x" * (8 * 1024 * 1024 + 1))

    fake.enqueue("much", queue="q")
    fake.drain(worker)

    assert fake.cache.get("k1").value == 1


@pytest.mark.parametrize(
    "call, field",
    [
        (lambda cache: cache.get("a\nb"), "key"),
        (lambda cache: cache.put("k" * 513, 1), "key"),
        (lambda cache: cache.put("k", 1, fresh="soon"), "fresh"),
        (lambda cache: cache.put("k", 1, tags=[f"t{n}" for n in range(21)]), "tags"),
        (lambda cache: cache.get_or_compute("k", {**SUM, "id": "mine"}), "job.id"),
        (lambda cache: cache.get_or_compute("k", {**SUM, "priority": 10}), "job.priority"),
    ],
)
def test_mistakes_are_refused_by_name(cache, call, field):
    with pytest.raises(UserError) as refused:
        call(cache)

    assert refused.value.field == field


# ---- Over HTTP, against what a test has written down.


def answered(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


VALUE = answered(
    b"[1]", "Content-Type: application/json", 'ETag: "00ff"', "Age: 7", "Cache-Status: workmill; hit; ttl=53"
)
STALE = answered(b"x", "Content-Type: text/plain", 'ETag: "1"', "Age: 70", "Cache-Status: workmill; hit; ttl=-10")
JOINED = answered(
    b"2", "Content-Type: application/json", 'ETag: "2"', "Cache-Status: workmill; fwd=uri-miss; stored; collapsed"
)
PENDING = answered(b'{"job_id": "j", "state": "leased"}', "Content-Type: application/json", status="202 Accepted")


def problem(status: str, **content: object) -> bytes:
    body = {"type": "/errors/x", "title": "x", "status": int(status[:3]), "detail": "d", "trace_id": "0", **content}
    return answered(json.dumps(body).encode(), "Content-Type: application/problem+json", "Retry-After: 0", status=status)


@pytest.fixture(params=["sync", "async"])
def ask(request):
    """ask(url, method, …): one call of the cache of a client of its own."""

    def ask_sync(url, name, *args, **options):
        with Client(url, retry=RetryPolicy(attempts=3, first=0)) as client:
            return getattr(client.cache, name)(*args, **options)

    def ask_async(url, name, *args, **options):
        async def run():
            async with AsyncClient(url, retry=RetryPolicy(attempts=3, first=0)) as client:
                return await getattr(client.cache, name)(*args, **options)

        return asyncio.run(run())

    return ask_sync if request.param == "sync" else ask_async


def test_the_headers_say_how_it_was_found(ask):
    server = Scripted([VALUE], [STALE], [JOINED])

    hit = ask(server.url, "get", "a/b c")
    stale = ask(server.url, "get", "k")
    joined = ask(server.url, "get_or_compute", "k", SUM)
    server.join()

    assert (hit.value, hit.fresh, hit.age, hit.etag, hit.computed) == ([1], True, 7, "00ff", False)
    assert (stale.value, stale.fresh, stale.age) == (b"x", False, 70)
    assert (joined.value, joined.fresh, joined.computed, joined.collapsed) == (2, True, True, True)
    assert server.requests[0].startswith(b"GET /v1/cache/a%2Fb%20c HTTP/1.1\r\n")


def test_a_job_that_is_not_done_is_asked_for_until_the_wait_is_over(ask):
    server = Scripted([PENDING, VALUE], [PENDING])

    assert ask(server.url, "get_or_compute", "k", SUM, wait="30s").value == [1]
    with pytest.raises(CachePending) as pending:
        ask(server.url, "get_or_compute", "k", SUM, wait=0)
    server.join()

    assert (pending.value.job_id, pending.value.state, pending.value.error_class) == ("j", "leased", "retryable")
    assert pending.value.may_have_happened


def test_a_wait_for_a_value_goes_on_while_the_server_is_away_however_few_attempts_a_call_has(ask):
    away = [[problem("503 Service Unavailable", code="overloaded", **{"class": "retryable"})], []] * 5
    server = Scripted(*away, [PENDING], *away, [VALUE])

    assert ask(server.url, "get_or_compute", "k", SUM, wait="30s").value == [1]

    server.join()


def test_where_the_time_of_a_wait_is_over_the_job_is_told_or_why_nobody_knows_of_one(ask):
    server = Scripted([PENDING])
    with socket.create_server(("127.0.0.1", 0)) as taken:
        nobody = f"http://127.0.0.1:{taken.getsockname()[1]}"

    with pytest.raises(CachePending) as pending:
        ask(server.url, "get_or_compute", "k", SUM, wait=0.3)
    with pytest.raises(NoServer):
        ask(nobody, "get_or_compute", "k", SUM, wait=0.1)

    server.join()
    assert pending.value.job_id == "j"


def test_an_error_that_ends_a_wait_for_a_value_says_what_the_polls_before_it_may_have_done(ask):
    refusal = problem("401 Unauthorized", code="unauthorized", **{"class": "user"})
    failed = problem("502 Bad Gateway", code="compute_failed", **{"class": "retryable"})
    servers = [Scripted([b""], [refusal]), Scripted([PENDING, refusal]), Scripted([b""], [failed]), Scripted([refusal])]

    said = []
    for server in servers:
        with pytest.raises(WorkmillError, match="unauthorized|compute_failed") as error:
            ask(server.url, "get_or_compute", "k", SUM)
        server.join()
        said.append(error.value.may_have_happened)

    assert said == [True, True, True, False]


def test_who_does_not_wait_for_the_job_has_the_tries_of_any_call(ask):
    busy = problem("503 Service Unavailable", code="overloaded", **{"class": "retryable"})
    server = Scripted([busy, busy, VALUE], [busy] * 3)

    assert ask(server.url, "get_or_compute", "k", SUM, wait=0).value == [1]
    with pytest.raises(RetryableError, match="overloaded"):
        ask(server.url, "get_or_compute", "k", SUM, wait="0s")

    server.join()


def test_a_refusal_is_tried_again_and_a_failed_job_is_not(ask):
    busy = problem("503 Service Unavailable", code="overloaded", **{"class": "retryable"})
    failed = problem("502 Bad Gateway", code="compute_failed", **{"class": "retryable"})
    server = Scripted([busy, failed])

    with pytest.raises(Exception, match="compute_failed") as error:
        ask(server.url, "get_or_compute", "k", SUM)
    server.join()

    assert (error.value.error_class, error.value.retry_after) == ("retryable", 0)


def test_a_value_is_sent_as_what_it_is(ask):
    server = Scripted([answered(b"", 'ETag: "5"', status="204 No Content")])

    etag = ask(server.url, "put", "k", b"\x00", fresh=90, stale="1h", tags=["a", "b"], content_type="image/png")
    server.join()

    head = server.requests[0].lower()
    assert etag == "5"
    assert head.startswith(b"put /v1/cache/k?fresh=90s&stale=1h&tags=a%2cb http/1.1\r\n")
    assert b"content-type: image/png\r\n" in head and b"application/json" not in head


@pytest.mark.parametrize("body", [answered(b"1", "Content-Type: application/json"), answered(b"{", status="202 Accepted")])
def test_what_is_no_cached_value_is_a_protocol_error(ask, body):
    server = Scripted([body])

    with pytest.raises(FatalError, match="protocol_error") as error:
        ask(server.url, "get_or_compute", "k", SUM)
    server.join()

    assert error.value.may_have_happened


# ---- Against the real server.


@pytest.mark.parametrize("transport", ["stream", "http"])
def test_what_no_budget_of_the_cache_can_hold_is_in_the_workers_log(tmp_path, caplog, transport):
    server = conformance_server.Server(BINARY, tmp_path, {"cache_disk": "1MiB"})
    server.start()
    try:
        with Client(server.url) as client:
            worker = Worker(["q"], url=server.url, transport=transport)
            worker.job("t")(lambda ctx: ctx.cache("large", "x" * 1_048_576))
            worker.start()
            id = client.enqueue("t", queue="q").id
            assert client.wait(id, timeout=60).state == "completed"
            worker.stop()
            assert client.cache.get("large") is None

            id_by_hand = client.enqueue("t", queue="by-hand").id
            (job,) = client.lease(["by-hand"])
            entries = [{"key": "large", "value": "x" * 1_048_576}, {"key": "small", "value": 1}]
            report = {"id": id_by_hand, "lease": job.lease, "outcome": "completed", "cache": entries}
            (said,) = client.report([report])
            assert (said.ok, said.not_stored) == (True, ["large"])
    finally:
        server.end()

    assert f"t {id} is completed, but no budget of the cache can hold 'large'" in caplog.messages


@pytest.mark.parametrize("transport", ["stream", "http"])
def test_a_result_as_large_as_they_go_comes_back(server, transport):
    worker = Worker(["q"], url=server.url, transport=transport)
    worker.job("t")(lambda ctx: b"\xff" * 8 * 1_048_576)
    worker.start()

    with Client(server.url) as client:
        assert client.result(client.enqueue("t", queue="q").id, timeout=60) == b"\xff" * 8 * 1_048_576
    worker.stop()
