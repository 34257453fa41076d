"""Workers on a stream, against a server that does what the test says. The real one: clients/conformance."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import threading
import types

import pytest
from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response

from workmill import AsyncWorker, Cancelled, LeaseLost, RetryableError, UserError, Worker, WorkmillError, _stream
from workmill._silence import Silence
from workmill._stream import KEEP_ALIVE_IDLE, Connection, Stream, keep_alive, name_of

DEADLINE = 30


@pytest.fixture
def start(stream):
    """start(worker): in a thread of its own; all are stopped at the end."""
    workers = []

    def begin(worker):
        worker.start()
        workers.append(worker)
        return worker

    yield begin
    for worker in workers:
        worker.drain(0)
        worker.join()


def make(stream, **options):
    return Worker(["q"], url=stream.url, name="w", **options)


def finished(fake, id):
    return lambda: fake.get(id).finished


def test_jobs_run_and_their_results_are_reported(fake, stream, start):
    ids = [fake.enqueue("double", number, queue="q").id for number in range(100)]
    worker = make(stream, concurrency=3)
    worker.job("double")(lambda ctx: ctx.payload * 2)

    start(worker)

    stream.wait_for(lambda: len(stream.reports) == 100)
    assert [fake.result(id) for id in ids] == [number * 2 for number in range(100)]
    assert stream.subscribed == [{"queues": ["q"], "credit": 6, "lease": "60s", "worker": "w", "from": stream.sees[0]}]


@pytest.mark.parametrize("inline", [True, False])
def test_a_crowd_of_jobs_goes_through(fake, stream, start, inline):
    for number in range(1_000):
        fake.enqueue("t", number, queue="q")
    worker = make(stream, concurrency=50, credit=700)
    worker.job("t", inline=inline)(lambda ctx: ctx.payload)

    start(worker)

    stream.wait_for(lambda: len(stream.reports) == 1_000)
    assert fake.queue("q").depth["completed"] == 1_000


def test_after_a_break_it_comes_back_with_what_it_holds(fake, stream, start):
    gate = threading.Event()
    started = threading.Semaphore(0)
    worker = make(stream, concurrency=1)

    @worker.job("t")
    def hold(ctx):
        started.release()
        assert gate.wait(DEADLINE)
        return ctx.attempt

    ids = [fake.enqueue("t", queue="q").id for _ in range(2)]
    start(worker)
    assert started.acquire(timeout=DEADLINE)

    stream.drop()
    stream.wait_for(lambda: len(stream.subscribed) == 2)
    gate.set()

    stream.wait_for(lambda: len(stream.reports) == 2)
    again = stream.subscribed[1]
    assert (again["resume"], again["worker"]) == ("token-0", "w")
    assert sorted(again["held"]) == sorted(ids)
    assert [fake.result(id) for id in ids] == [1, 1]


def test_a_job_that_is_sent_again_does_not_run_twice(fake, stream, start):
    gate, runs = threading.Event(), []
    worker = make(stream)

    @worker.job("t")
    def hold(ctx):
        runs.append(ctx.id)
        assert gate.wait(DEADLINE)

    id = fake.enqueue("t", queue="q").id
    leased = fake.lease(["q"])[0]
    start(worker)
    stream.wait_for(lambda: stream.subscribed)
    for _ in range(2):
        stream.send({"jobs": [dict(leased.raw)]})
    gate.set()

    stream.wait_for(finished(fake, id))
    assert runs == [id]


def test_a_report_whose_answer_is_lost_is_sent_again_and_is_no_failure(fake, stream, start):
    stream.answers_to_lose = 1
    worker = make(stream)
    worker.job("t")(lambda ctx: 1)
    id = fake.enqueue("t", queue="q").id

    start(worker)

    stream.wait_for(lambda: stream.outcomes() == ["completed", "completed"])
    assert fake.result(id) == 1
    next_id = fake.enqueue("t", queue="q").id
    stream.give_jobs()
    stream.wait_for(finished(fake, next_id))


JOB = {"id": "x", "type": "t", "queue": "q", "lease": "l", "attempt": 1, "max_attempts": 1}


@pytest.mark.parametrize(
    "spoilt",
    [
        None,
        [],
        {"jobs": [None]},
        {"jobs": {}},
        {"jobs": [{**JOB, "lease": None}]},
        {"jobs": [{**JOB, "attempt": "first"}]},
        {"jobs": [{**JOB, "payload_base64": None}]},
        {"reports": [None]},
        {"reports": []},
        {"reports": True},
        {"reports": [{"id": "a", "ok": False}]},
        {"cancel": True},
        {"cancel": [[]]},
        {"error": None},
        {"error": {}},
    ],
)
def test_a_server_that_makes_no_sense_is_left_and_asked_again(fake, stream, start, spoilt):
    stream.answers_to_hold = 1
    worker = make(stream)
    worker.job("t")(lambda ctx: ctx.payload)
    id = fake.enqueue("t", 1, queue="q").id
    start(worker)
    stream.wait_for(lambda: stream.reports)

    stream.send(spoilt)

    stream.wait_for(lambda: len(stream.reports) == 2)
    assert [again.get("held") for again in stream.subscribed] == [None, [id]]
    assert stream.reports[0] == stream.reports[1]


def test_answers_to_reports_that_were_not_sent_make_no_sense(stream, start):
    start(make(stream))
    stream.wait_for(lambda: stream.subscribed)

    stream.send({"reports": [{"id": "x", "ok": True}]})

    stream.wait_for(lambda: len(stream.subscribed) == 2)


@pytest.mark.parametrize("spoilt", [None, {}, {"resume": None}])
def test_a_stream_that_begins_with_no_subscription_is_asked_again(stream, start, spoilt):
    stream.first = [{"subscribed": spoilt}]

    start(make(stream))

    stream.wait_for(lambda: stream.subscribed)
    assert stream.first == []


def test_what_a_handler_tells_goes_out_in_its_order(fake, stream, start):
    worker = make(stream)

    @worker.job("t")
    def talk(ctx):
        ctx.progress(50, "half")
        ctx.log("one", "two")
        ctx.checkpoint({"row": 7})
        assert [report["outcome"] for report in stream.reports] == ["progress", "log", "checkpoint"]
        return "done"

    id = fake.enqueue("t", queue="q").id
    start(worker)

    stream.wait_for(finished(fake, id))
    assert fake.result(id) == "done"
    assert fake.log(id) == ["one", "two"]


def test_what_is_told_last_is_not_lost_however_many_threads_end_at_once(fake, stream, start):
    worker = make(stream, concurrency=16, credit=600)
    worker.job("t")(lambda ctx: ctx.log(f"last words of {ctx.payload}"))
    ids = [fake.enqueue("t", number, queue="q").id for number in range(600)]

    start(worker)

    stream.wait_for(lambda: stream.outcomes().count("completed") == 600)
    assert [fake.log(id) for id in ids] == [[f"last words of {number}"] for number in range(600)]


def test_a_handler_that_waits_for_its_checkpoint_hears_of_the_end(fake, stream, start):
    stream.answers_to_lose = 1_000_000
    errors, told = [], threading.Event()
    worker = make(stream)

    @worker.job("t")
    def save(ctx):
        try:
            ctx.checkpoint(1)
        except WorkmillError as error:
            errors.append(error.code)
            told.set()
            raise

    fake.enqueue("t", queue="q")
    start(worker)
    stream.wait_for(lambda: "checkpoint" in stream.outcomes())

    worker.stop(timeout=0)

    assert told.wait(DEADLINE)
    assert errors == ["worker_ended"]


def test_cancelling_reaches_the_handler(fake, stream, start):
    started, seen = threading.Event(), []
    worker = make(stream)

    @worker.job("t")
    def wait(ctx):
        started.set()
        seen.append(ctx.wait_cancelled(DEADLINE))
        ctx.check()

    id = fake.enqueue("t", queue="q").id
    start(worker)
    assert started.wait(DEADLINE)

    fake.cancel(id)
    stream.send({"cancel": [id]})

    stream.wait_for(lambda: stream.outcomes() == ["failed"])
    assert seen == [True]
    assert stream.reports[0]["error"]["code"] == "cancelled"
    assert fake.get(id).state == "cancelled"


def test_a_lost_lease_stops_the_handler_and_nothing_more_is_said_of_it(fake, stream, start):
    gate, started, told, errors = threading.Event(), threading.Event(), threading.Event(), []
    worker = make(stream)

    @worker.job("t")
    def late(ctx):
        started.set()
        assert gate.wait(DEADLINE)
        try:
            ctx.checkpoint(1)
        except LeaseLost as lost:
            errors.append(lost.code)
            errors.append(ctx.cancelled)
            told.set()
            raise

    worker.job("other")(lambda ctx: "next")
    fake.enqueue("t", queue="q")
    start(worker)
    assert started.wait(DEADLINE)
    fake.pause("q")  # So that the job does not come back.
    fake.advance(61)
    gate.set()
    assert told.wait(DEADLINE)

    assert errors == ["lease_lost", True]
    worker.stop()
    assert stream.outcomes() == ["checkpoint"]


def test_leases_are_extended_while_jobs_are_held(fake, stream, start):
    gate = threading.Event()
    worker = make(stream, concurrency=1, lease=0.3)
    worker.job("t")(lambda ctx: gate.wait(DEADLINE))
    ids = [fake.enqueue("t", queue="q").id for _ in range(2)]
    start(worker)

    def extended():
        return {report["id"] for report in stream.reports if report["outcome"] == "extend"}

    stream.wait_for(lambda: extended() == set(ids))  # That which waits for its turn, too.
    gate.set()
    stream.wait_for(lambda: stream.outcomes().count("completed") == 2)
    assert {report["for"] for report in stream.reports if report["outcome"] == "extend"} == {"300ms"}


def test_stopping_finishes_what_runs_and_gives_back_the_rest(fake, stream, start):
    gate, started = threading.Event(), threading.Event()
    worker = make(stream, concurrency=1)

    @worker.job("t")
    def hold(ctx):
        started.set()
        assert gate.wait(DEADLINE)
        return "finished"

    ids = [fake.enqueue("t", queue="q").id for _ in range(2)]
    start(worker)
    assert started.wait(DEADLINE)

    worker.drain()
    stream.wait_for(lambda: stream.outcomes() == ["released"])
    gate.set()
    worker.join()

    assert fake.result(ids[0]) == "finished"
    waiting = fake.get(ids[1])
    assert (waiting.state, waiting.attempt) == ("ready", 0)


def test_a_break_while_draining_loses_nothing(fake, stream, start):
    gate, started = threading.Event(), threading.Event()
    worker = make(stream)

    @worker.job("t")
    def hold(ctx):
        started.set()
        assert gate.wait(DEADLINE)
        return "finished"

    id = fake.enqueue("t", queue="q").id
    start(worker)
    assert started.wait(DEADLINE)
    worker.drain()
    stream.drop()
    stream.wait_for(lambda: len(stream.subscribed) == 2)
    gate.set()
    worker.join()

    assert stream.subscribed[1]["credit"] == 0
    assert fake.result(id) == "finished"


def test_a_handler_that_does_not_end_is_left_behind(fake, stream, start):
    gate, started = threading.Event(), threading.Event()
    seen = []
    worker = make(stream)

    @worker.job("t")
    def stubborn(ctx):
        started.set()
        gate.wait(DEADLINE)
        seen.append(ctx.cancelled)

    fake.enqueue("t", queue="q")
    start(worker)
    assert started.wait(DEADLINE)

    worker.stop(timeout=0.01)

    assert stream.reports == []
    gate.set()
    stream.wait_for(lambda: True)


@pytest.mark.parametrize("how", ["status", "refusal"])
def test_a_worker_that_is_not_let_in_ends_with_the_error(stream, how, caplog):
    if how == "status":
        stream.status = 401
    else:
        stream.refusal = {"code": "unauthorized", "class": "user", "detail": "who?"}
    worker = make(stream)
    worker.start()

    with pytest.raises(UserError) as error:
        worker.join()

    assert error.value.code == "unauthorized"
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == [
        "the worker has ended: unauthorized: who?"
    ]


@pytest.mark.parametrize("body", [b"busy", b'{"message": "busy"}', b'{"code": "overloaded", "class": "retryable"}'])
def test_whoever_refuses_a_stream_is_not_asked_again_before_he_wants_to_be(body):
    response = Response(503, "busy", Headers({"Retry-After": "7"}), body)

    assert _stream._refusal(InvalidStatus(response)).retry_after == 7


def test_a_worker_that_is_told_to_come_later_does(fake, stream, start):
    stream.refusal = {"code": "overloaded", "class": "retryable", "detail": "busy", "retry_after": 0}
    worker = make(stream)
    worker.job("t")(lambda ctx: 1)
    id = fake.enqueue("t", queue="q").id
    start(worker)
    stream.refusal = None

    stream.wait_for(finished(fake, id))


def test_a_report_that_is_refused_fails_its_job_and_not_the_worker(fake, stream, start, monkeypatch):
    real = fake._server._report

    def picky(report):
        if report.get("result") == "poison":
            problem = {"code": "invalid_field", "class": "user", "detail": "no", "status": 400}
            return {"id": report["id"], "ok": False, "error": problem}
        return real(report)

    monkeypatch.setattr(fake._server, "_report", picky)
    worker = make(stream)
    worker.job("t")(lambda ctx: ctx.payload)
    bad, good = (fake.enqueue("t", payload, queue="q").id for payload in ("poison", "fine"))

    start(worker)

    stream.wait_for(lambda: fake.get(bad).finished and fake.get(good).finished)
    assert (fake.get(bad).state, fake.get(bad).error.code) == ("dead", "report_refused")
    assert fake.result(good) == "fine"


def test_a_message_that_is_refused_as_a_whole_fails_the_job_at_fault_and_not_the_worker(fake, stream, start):
    stream.poison = lambda report: report.get("result") == "poison"
    worker = make(stream, concurrency=1, credit=20)
    worker.job("t")(lambda ctx: ctx.payload)
    payloads = [*range(6), "poison", *range(6)]
    ids = [fake.enqueue("t", payload, queue="q").id for payload in payloads]

    start(worker)

    stream.wait_for(lambda: all(fake.get(id).finished for id in ids))
    bad = fake.get(ids[6])
    assert (bad.state, bad.error.code, bad.attempt) == ("dead", "report_refused", 1)
    assert "reports[0]" in bad.error.message
    assert [fake.result(id) for id in ids if id != bad.id] == [*range(6), *range(6)]
    later = fake.enqueue("t", "later", queue="q").id
    stream.give_jobs()
    stream.wait_for(finished(fake, later))


def test_a_checkpoint_that_is_refused_with_its_message_is_its_handlers_error(fake, stream, start):
    stream.poison = lambda report: report["outcome"] == "checkpoint"
    worker = make(stream)
    worker.job("t")(lambda ctx: ctx.checkpoint(1))
    id = fake.enqueue("t", queue="q").id

    start(worker)

    stream.wait_for(finished(fake, id))
    assert (fake.get(id).state, fake.get(id).error.code) == ("dead", "invalid_field")


def test_a_report_whose_answer_was_under_way_is_not_taken_for_the_one_that_was_refused(fake, stream, start):
    stream.poison = lambda report: report.get("result") == "poison"
    stream.answers_to_hold = 1
    worker = make(stream, concurrency=1)
    worker.job("t")(lambda ctx: ctx.payload)
    good = fake.enqueue("t", "good", queue="q").id
    start(worker)
    stream.wait_for(finished(fake, good))
    bad = fake.enqueue("t", "poison", queue="q").id
    stream.give_jobs()

    stream.wait_for(finished(fake, bad))

    assert fake.get(bad).error.code == "report_refused"
    assert [report["outcome"] for report in stream.reports if report["id"] == good] == ["completed", "completed"]


def test_what_no_budget_of_the_cache_can_hold_is_told_in_the_log(fake, stream, start, caplog):
    stream.not_stored = ["a", "b"]
    worker = make(stream)
    worker.job("t")(lambda ctx: 1)
    id = fake.enqueue("t", queue="q").id

    start(worker)
    stream.wait_for(finished(fake, id))
    worker.stop()

    assert f"t {id} is completed, but no budget of the cache can hold 'a', 'b'" in caplog.messages


def test_a_close_without_a_word_says_that_a_message_was_too_large(fake, stream, start):
    stream.poison, stream.says_why = (lambda report: report.get("result") == "poison"), False
    worker = make(stream)
    worker.job("t")(lambda ctx: ctx.payload)
    id = fake.enqueue("t", "poison", queue="q").id

    start(worker)

    stream.wait_for(finished(fake, id))
    assert fake.get(id).error.code == "report_refused"
    assert "too large" in fake.get(id).error.message


def test_what_a_handler_may_not_send_is_its_own_error(fake, stream, start):
    worker = make(stream)
    told = []

    @worker.job("t")
    def misuse(ctx):
        for wrong in (
            lambda: ctx.checkpoint("x" * (1024 * 1024)),
            lambda: ctx.cache("k" * 513, 1),
            lambda: ctx.cache("", 1),
            lambda: ctx.cache("line\nbreak", 1),
            lambda: ctx.cache("k", 1, tags=["a space"]),
            lambda: ctx.cache("k", 1, tags=[f"t{number}" for number in range(21)]),
            lambda: ctx.cache("k", 1, tags="text"),
            lambda: ctx.cache("k", 1, fresh="soon"),
            lambda: ctx.cache("k", 1, fresh="200d", stale="200d"),
            lambda: ctx.cache("k", 1, stale=-1),
            lambda: ctx.cache("k", b"1", content_type="text/plain\r\nX: y"),
        ):
            try:
                wrong()
            except UserError as error:
                told.append((error.code, error.field))
        ctx.cache("k" * 512, 1, fresh="364d", stale=0, tags=["a", "b.c:d"], content_type=None)

    id = fake.enqueue("t", queue="q").id
    start(worker)

    stream.wait_for(finished(fake, id))
    assert told[0] == ("payload_too_large", "data")
    fields = ["key"] * 3 + ["tags"] * 3 + ["fresh", "stale", "stale", "content_type"]
    assert told[1:] == [("invalid_field", field) for field in fields]
    assert stream.outcomes() == ["completed"]


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize("retry_in", ["soon", "99999999d", -5, float("nan"), object()])
def test_where_retry_in_is_no_duration_the_backoff_decides(fake, stream, start, inline, retry_in):
    worker = make(stream)

    @worker.job("t", inline=inline)
    def fail(ctx):
        raise RetryableError("busy", code="busy", retry_in=retry_in)

    id = fake.enqueue("t", queue="q", max_attempts=1).id
    start(worker)

    stream.wait_for(finished(fake, id))
    assert "retry_in" not in stream.reports[0]
    assert fake.get(id).error.code == "busy"


def test_an_inline_handler_cannot_wait(fake, stream, start):
    worker = make(stream)
    worker.job("t", inline=True)(lambda ctx: ctx.checkpoint(1))
    id = fake.enqueue("t", queue="q", max_attempts=1).id

    start(worker)

    stream.wait_for(finished(fake, id))
    assert "inline" in fake.get(id).error.message


def test_a_worker_that_runs_is_not_started_again_and_hears_of_its_end(fake, stream):
    worker = make(stream)
    worker.job("t")(lambda ctx: 1)
    running = threading.Thread(target=worker.run, daemon=True)
    running.start()
    stream.wait_for(lambda: stream.subscribed)

    for again in (worker.start, worker.run):
        with pytest.raises(RuntimeError):
            again()
    worker.drain()

    running.join(DEADLINE)
    assert not running.is_alive()
    worker.start()
    with pytest.raises(RuntimeError):
        worker.start()
    worker.stop()


def test_stopping_waits_for_a_worker_that_somebody_tried_to_run_again(fake, stream):
    async def main():
        worker = AsyncWorker(["q"], url=stream.url)
        running = asyncio.ensure_future(worker.run())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError):
            await worker.run()
        await worker.stop()
        await asyncio.sleep(0)
        return running.done()

    assert asyncio.run(main())


def test_a_handler_that_exits_fails_its_job_and_not_the_worker(fake, stream, start):
    worker = make(stream)

    @worker.job("exit")
    def leave(ctx):
        raise SystemExit(3)

    worker.job("t")(lambda ctx: 1)
    ids = [fake.enqueue(type, queue="q", max_attempts=1).id for type in ("exit", "t")]

    start(worker)

    stream.wait_for(lambda: all(fake.get(id).finished for id in ids))
    assert fake.get(ids[0]).error.code == "SystemExit"
    assert fake.result(ids[1]) == 1


class Unshowable(Exception):
    def __str__(self):
        return self.there_is_no_such_attribute

    __repr__ = __str__


ODD_ERRORS = [
    (Unshowable(), "Unshowable"),
    (RetryableError("busy", code=42), "42"),
    (RetryableError(Unshowable(), code="odd"), "odd"),
    (RetryableError("busy", code="odd", detail=Unshowable()), "odd"),
]


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize("error, code", ODD_ERRORS)
def test_an_error_that_cannot_be_shown_fails_its_job_and_not_the_worker(fake, stream, start, inline, error, code):
    worker = make(stream, concurrency=1)

    @worker.job("odd", inline=inline)
    def odd(ctx):
        raise error

    worker.job("t")(lambda ctx: 1)
    ids = [fake.enqueue(type, queue="q", max_attempts=1).id for type in ("odd", "t")]

    start(worker)

    stream.wait_for(lambda: all(fake.get(id).finished for id in ids))
    assert fake.get(ids[0]).error.code == code
    assert fake.result(ids[1]) == 1


def test_a_worker_that_has_ended_leaves_signals_as_it_found_them(stream):
    def mine(number, frame):
        pass

    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, mine) for number in numbers]
    try:
        worker = make(stream)
        asking = threading.Thread(target=lambda: (stream.wait_for(lambda: stream.subscribed), worker.drain()))
        asking.start()
        worker.run()
        asking.join()

        assert [signal.getsignal(number) for number in numbers] == [mine, mine]
    finally:
        for number, handler in zip(numbers, before):
            signal.signal(number, handler)


# ---- A server that says nothing.


def turns_until(silence, finding, **how):
    """So many turns without a word, until that is found."""
    for turn in range(1, 1_000):
        if silence.turn(is_heard=False, **how) == finding:
            return turn
    return None


def test_an_idle_worker_asks_a_silent_server_later_than_one_with_jobs_and_gives_it_up_where_it_does_not_answer():
    assert [turns_until(Silence(), finding, is_idle=False, is_direct=False) for finding in ("ask", "gone")] == [2, 4]
    assert [turns_until(Silence(), finding, is_idle=True, is_direct=False) for finding in ("ask", "gone")] == [12, 14]


def test_an_idle_worker_leaves_a_silent_server_to_the_kernel_where_nobody_is_between():
    silence = Silence()
    assert turns_until(silence, "ask", is_idle=True, is_direct=True) is None
    assert turns_until(silence, "ask", is_idle=False, is_direct=True) == 2


def test_a_word_of_the_server_begins_its_time_anew():
    silence = Silence()
    assert turns_until(silence, "ask", is_idle=True, is_direct=False) == 12

    assert silence.turn(is_heard=True, is_idle=True, is_direct=False) == "fine"

    assert turns_until(silence, "gone", is_idle=True, is_direct=False) == 14


@pytest.mark.parametrize("is_direct", [False, True])
def test_the_kernel_looks_after_a_stream_that_nobody_is_between(stream, start, is_direct, monkeypatch):
    stream.is_direct = is_direct
    sockets = []
    subscribe = Stream._subscribe

    async def noting(self, socket):
        await subscribe(self, socket)
        sockets.append(socket.transport.get_extra_info("socket"))

    monkeypatch.setattr(Stream, "_subscribe", noting)
    worker = make(stream)
    worker.job("t")(lambda ctx: 1)
    start(worker)

    stream.fake.enqueue("t", queue="q")
    stream.wait_for(lambda: stream.subscribed)
    stream.give_jobs()
    stream.wait_for(lambda: stream.reports)

    assert bool(sockets[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)) is is_direct


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other options")
def test_the_kernel_asks_each_ten_seconds_and_gives_up_after_four_answers_that_did_not_come():
    with socket.socket() as one:
        keep_alive(one)

        assert one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        names = ["TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT", "TCP_USER_TIMEOUT"]
        idle, *others = [one.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in names]
        assert others == [10, 4, (idle + 40) * 1_000]


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have other options")
def test_the_kernel_asks_for_each_stream_at_another_second_of_the_second_minute():
    many = [Picky() for _ in range(200)]
    for one in many:
        keep_alive(one)

    seconds = {one.set[socket.IPPROTO_TCP, socket.TCP_KEEPIDLE] for one in many}
    assert len(seconds) > 10
    assert min(seconds) >= 60 and max(seconds) < 120


class Picky:
    """A socket that refuses one option."""

    def __init__(self, refuses=None):
        self.refuses = refuses
        self.set = {}

    def setsockopt(self, level, option, value):
        if (level, option) == self.refuses:
            raise OSError("no such option")
        self.set[level, option] = value


def test_an_option_that_the_system_does_not_have_keeps_none_of_the_others_from_being_set(monkeypatch):
    monkeypatch.setattr("workmill._stream.KEEP_ALIVE_IDLE", [77])
    every = Picky()
    keep_alive(every)
    assert len(every.set) > 1

    for refused in every.set:
        one = Picky(refused)
        keep_alive(one)
        assert one.set == {option: value for option, value in every.set.items() if option != refused}


def test_the_idle_time_has_another_name_on_macos(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.delattr(socket, "TCP_KEEPIDLE", raising=False)
    one = Picky()
    keep_alive(one)
    assert one.set[socket.IPPROTO_TCP, 0x10] in KEEP_ALIVE_IDLE


@pytest.mark.parametrize(
    ("address", "name"),
    [
        (("10.0.0.7", 4711), "10.0.0.7:4711"),
        (("fe80::1%eth0", 4711, 0, 2), "[fe80::1]:4711"),
        (("", 0), None),
        ("", None),
        (None, None),
    ],
)
def test_what_a_worker_says_of_its_address(address, name):
    assert name_of(address) == name


def test_a_worker_that_does_not_know_its_address_says_none(stream, start, monkeypatch):
    monkeypatch.setattr(Connection, "local_address", None)
    start(make(stream))

    stream.wait_for(lambda: stream.subscribed)

    assert "from" not in stream.subscribed[0]


def test_whoever_watches_a_silent_server_ends_when_he_is_told_to_though_a_ping_has_just_gone_out(monkeypatch):
    monkeypatch.setattr("workmill._stream.TURN", 0.001)

    async def main():
        pings = []

        async def ping():
            pings.append(1)
            watch.cancel()  # And then the ping is done, before the other learns of it.

        transport = types.SimpleNamespace(abort=lambda: None)
        quiet = types.SimpleNamespace(take_heard=lambda: False, ping=ping, transport=transport)
        busy = types.SimpleNamespace(_engine=types.SimpleNamespace(is_idle=False), _is_direct=False)
        watch = asyncio.ensure_future(Stream._watch(busy, quiet))
        await asyncio.wait({watch})
        return watch.cancelled(), len(pings)

    assert asyncio.run(main()) == (True, 1)


def test_a_server_that_falls_silent_is_left_for_the_next(fake, stream, start, monkeypatch):
    monkeypatch.setattr("workmill._stream.TURN", 0.01)
    worker = make(stream)
    worker.job("t")(lambda ctx: 1)
    start(worker)
    stream.wait_for(lambda: stream.subscribed)

    stream.fall_silent()

    stream.wait_for(lambda: len(stream.subscribed) >= 2)


def test_a_server_that_falls_silent_while_jobs_are_held_is_left_though_nobody_is_between(
    fake, stream, start, monkeypatch
):
    monkeypatch.setattr("workmill._stream.TURN", 0.01)
    stream.is_direct = True
    gate, started = threading.Event(), threading.Event()
    worker = make(stream)

    @worker.job("t")
    def hold(ctx):
        started.set()
        assert gate.wait(DEADLINE)

    fake.enqueue("t", queue="q")
    start(worker)
    assert started.wait(DEADLINE)

    stream.fall_silent()

    stream.wait_for(lambda: len(stream.subscribed) >= 2)
    gate.set()


# ---- AsyncWorker.


def run_async(stream, worker, until):
    """Runs it until `until` (called in a thread) returns."""

    async def main():
        running = asyncio.ensure_future(worker.run())
        await asyncio.get_running_loop().run_in_executor(None, until)
        await worker.stop()
        await running

    asyncio.run(main())


def make_async(stream, **options):
    return AsyncWorker(["q"], url=stream.url, name="w", **options)


def test_coroutines_run_side_by_side(fake, stream):
    worker = make_async(stream, concurrency=5)
    together = []

    @worker.job("t")
    async def meet(ctx):
        together.append(ctx.id)
        while len(together) < 5:
            await asyncio.sleep(0)
        await ctx.checkpoint(1)
        return len(together)

    ids = [fake.enqueue("t", queue="q").id for _ in range(5)]

    run_async(stream, worker, lambda: stream.wait_for(lambda: stream.outcomes().count("completed") == 5))

    assert [fake.result(id) for id in ids] == [5] * 5


def test_plain_functions_run_in_threads_beside_them(fake, stream):
    worker = make_async(stream)
    names = []

    @worker.job("plain")
    def plain(ctx):
        names.append(threading.current_thread().name)
        ctx.checkpoint(1)
        return 1

    @worker.job("inline", inline=True)
    def inline(ctx):
        names.append(threading.current_thread().name)
        return 2

    @worker.middleware
    async def around(ctx, call_next):
        return await call_next(ctx) * 10

    ids = [fake.enqueue(type, queue="q").id for type in ("plain", "inline")]

    run_async(stream, worker, lambda: stream.wait_for(lambda: all(fake.get(id).finished for id in ids)))

    assert [fake.result(id) for id in ids] == [10, 20]
    assert "workmill-1" in names and threading.main_thread().name in names


@pytest.mark.parametrize("error, code", ODD_ERRORS)
def test_an_error_of_a_coroutine_that_cannot_be_shown_fails_its_job_and_not_the_worker(fake, stream, error, code):
    worker = make_async(stream, concurrency=1)

    @worker.job("odd")
    async def odd(ctx):
        raise error

    @worker.job("t")
    async def one(ctx):
        return 1

    ids = [fake.enqueue(type, queue="q", max_attempts=1).id for type in ("odd", "t")]

    run_async(stream, worker, lambda: stream.wait_for(lambda: all(fake.get(id).finished for id in ids)))

    assert fake.get(ids[0]).error.code == code
    assert fake.result(ids[1]) == 1


@pytest.mark.parametrize("kind", [StopIteration, GeneratorExit])
def test_a_plain_function_that_raises_what_no_task_can_fails_its_job_and_not_the_worker(fake, stream, kind):
    worker = make_async(stream, concurrency=1)

    @worker.job("t")
    def end(ctx):
        if ctx.payload == "raise":
            raise kind
        return 1

    @worker.middleware
    async def around(ctx, call_next):
        return await call_next(ctx)

    ids = [fake.enqueue("t", payload, queue="q", max_attempts=1).id for payload in ("raise", "return")]

    run_async(stream, worker, lambda: stream.wait_for(lambda: all(fake.get(id).finished for id in ids)))

    assert fake.get(ids[0]).error.code == "RuntimeError"
    assert kind.__name__ in fake.get(ids[0]).error.message
    assert fake.result(ids[1]) == 1


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_a_plain_function_that_does_not_end_is_left_behind_with_its_task(fake, stream, is_cancelled):
    worker = make_async(stream)
    started, told, gate = threading.Event(), threading.Event(), threading.Event()
    tasks_left = []

    @worker.job("t")
    def hang(ctx):
        started.set()
        ctx.wait_cancelled(DEADLINE)
        told.set()
        gate.wait(DEADLINE)

    @worker.middleware
    async def around(ctx, call_next):
        return await call_next(ctx)

    id = fake.enqueue("t", queue="q").id

    def hanging():
        assert started.wait(DEADLINE)
        if is_cancelled:
            stream.send({"cancel": [id]})
            assert told.wait(DEADLINE)

    async def main():
        running = asyncio.ensure_future(worker.run())
        await asyncio.get_running_loop().run_in_executor(None, hanging)
        await worker.stop(timeout=0)
        await running
        tasks_left.append(asyncio.all_tasks() - {asyncio.current_task()})

    # In a thread: where its task does not end, no loop does.
    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    thread.join(DEADLINE)

    assert not thread.is_alive()
    assert tasks_left == [set()]
    gate.set()


def test_a_task_is_cancelled_with_its_job(fake, stream):
    worker = make_async(stream)
    started, ended = threading.Event(), []

    @worker.job("t")
    async def wait(ctx):
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append(ctx.cancelled)
            raise

    id = fake.enqueue("t", queue="q").id

    def cancel():
        assert started.wait(DEADLINE)
        fake.cancel(id)
        stream.send({"cancel": [id]})
        stream.wait_for(finished(fake, id))

    run_async(stream, worker, cancel)

    assert ended == [True]
    assert fake.get(id).state == "cancelled"


def test_cancelled_is_an_error_that_handlers_may_raise(fake):
    worker = Worker(["q"])

    @worker.job("t")
    def stop(ctx):
        raise Cancelled()

    id = fake.enqueue("t", queue="q", max_attempts=1).id
    fake.drain(worker)

    assert fake.get(id).error.code == "cancelled"
