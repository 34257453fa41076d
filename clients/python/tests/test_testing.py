"""The in-memory server and drain(), as a user's tests see them."""

from __future__ import annotations

import asyncio
import datetime

import pytest

from workmill import (
    AsyncWorker,
    CachePending,
    Client,
    JobFailed,
    JobNotFound,
    RetryableError,
    RetryPolicy,
    UserError,
    Worker,
)
from workmill.testing import FakeWorkmill


@pytest.fixture
def worker():
    one = Worker(["q"])

    @one.job("double")
    def double(ctx):
        return ctx.payload * 2

    return one


def test_it_is_a_client(fake):
    assert isinstance(fake, Client)


def test_drain_runs_what_is_queued_and_what_that_enqueues(fake, worker):
    @worker.job("fan-out")
    def fan_out(ctx):
        for number in range(3):
            fake.enqueue("double", number, queue="q")

    fake.enqueue("fan-out", queue="q")

    assert fake.drain(worker) == 4
    assert fake.queue("q").depth["completed"] == 4


def test_a_result_is_there_after_a_drain(fake, worker):
    id = fake.enqueue("double", 21, queue="q").id

    with pytest.raises(TimeoutError):
        fake.result(id)
    fake.drain(worker)

    assert fake.result(id) == 42


def test_jobs_run_by_priority_then_in_their_order(fake):
    seen = []
    worker = Worker(["q"])
    worker.job("note")(lambda ctx: seen.append(ctx.payload))
    for name, priority in (("late", 1), ("first", 9), ("then", 5), ("and then", 5)):
        fake.enqueue("note", name, queue="q", priority=priority)

    fake.drain(worker)

    assert seen == ["first", "then", "and then", "late"]


def test_a_delayed_job_waits_for_the_clock(fake, worker):
    id = fake.enqueue("double", 1, queue="q", delay="1h").id

    assert fake.drain(worker) == 0
    fake.advance(3599)
    assert fake.drain(worker) == 0
    fake.advance(datetime.timedelta(seconds=1))
    assert fake.drain(worker) == 1
    assert fake.result(id) == 2


def test_a_drain_through_time_does_not_wait_for_the_clock(fake, worker):
    before = fake.now
    id = fake.enqueue("double", 1, queue="q", delay="1h").id

    assert fake.drain(worker, through_time=True) == 1
    assert fake.result(id) == 2
    assert fake.now == before + datetime.timedelta(hours=1)


def test_failures_are_retried_after_their_backoff_until_the_job_is_dead(fake):
    worker = Worker(["q"])

    @worker.job("broken")
    def broken(ctx):
        raise LookupError(f"attempt {ctx.attempt}")

    id = fake.enqueue("broken", queue="q", max_attempts=3, backoff={"first": "10s", "factor": 3}).id

    assert fake.drain(worker) == 1
    assert (fake.get(id).ready_at - fake.now).total_seconds() == 10
    fake.advance(10)
    assert fake.drain(worker) == 1
    assert (fake.get(id).ready_at - fake.now).total_seconds() == 30
    fake.advance(30)
    assert fake.drain(worker) == 1
    job = fake.get(id)
    assert job.state == "dead"
    assert [error.message for error in job.errors] == ["attempt 3", "attempt 2", "attempt 1"]
    assert job.error.code == "LookupError"
    with pytest.raises(JobFailed) as failed:
        fake.result(id)
    assert failed.value.code == "LookupError"


def test_retry_in_comes_before_the_backoff(fake):
    worker = Worker(["q"])

    @worker.job("busy")
    def busy(ctx):
        raise RetryableError("later", retry_in="2h")

    id = fake.enqueue("busy", queue="q").id
    fake.drain(worker)

    assert (fake.get(id).ready_at - fake.now) == datetime.timedelta(hours=2)


def test_unique_keys_hold_while_a_job_is_unfinished(fake, worker):
    first = fake.enqueue("double", 1, queue="q", unique={"key": "k"})
    second = fake.enqueue("double", 2, queue="q", unique={"key": "k"})
    fake.drain(worker)
    third = fake.enqueue("double", 3, queue="q", unique={"key": "k"})

    assert (second.duplicate, second.id) == (True, first.id)
    assert not third.duplicate


def test_mistakes_are_refused_as_by_the_server(fake):
    with pytest.raises(UserError) as unknown:
        fake.enqueue_job({"type": "t", "colour": "red"})
    with pytest.raises(UserError) as invalid:
        fake.enqueue_many([{"type": "t"}, {"type": "t", "priority": 12}])
    with pytest.raises(JobNotFound):
        fake.get("nobody")

    assert (unknown.value.code, unknown.value.field) == ("unknown_field", "colour")
    assert (invalid.value.code, invalid.value.field) == ("invalid_field", "jobs[1].priority")
    assert list(fake.jobs()) == []


def test_what_is_no_job_and_a_decorator_without_a_type_are_told_so(fake):
    for wrong in ("greet", ["greet"], None):
        with pytest.raises(TypeError, match="a job is a dict"):
            fake.enqueue_many([wrong])
    for make in (Worker, AsyncWorker):
        with pytest.raises(TypeError, match="worker.job"):

            @make(["q"]).job
            def greet(ctx):
                pass


def test_the_log_says_which_job_failed(fake, caplog):
    worker = Worker(["q"])

    @worker.job("t")
    def handler(ctx):
        raise UserError("no such row", code="no_row")

    id = fake.enqueue("t", queue="q", max_attempts=3).id
    fake.drain(worker)

    (record,) = caplog.records
    assert record.getMessage() == f"t {id} failed in attempt 1 of 3: no_row: no such row"


def test_what_is_too_large_for_the_server_is_too_large_for_the_fake(fake):
    most = 6 * 1024 * 1024
    fake.enqueue("t", "x" * (most - 2))

    for too_large, field in (("x" * (most - 1), "payload"), (b"x" * (most + 1), "payload")):
        with pytest.raises(UserError) as error:
            fake.enqueue("t", too_large)
        assert (error.value.code, error.value.status, error.value.field) == ("payload_too_large", 413, field)
    with pytest.raises(UserError) as error:
        fake.enqueue_many([{"type": "t", "payload": "x" * most}])
    assert error.value.field == "jobs[0].payload"


def test_other_options_are_for_the_same_client(fake):
    fake.refuse(2)

    with pytest.raises(RetryableError):
        fake.with_options(retry=RetryPolicy(attempts=1)).enqueue("t")

    assert fake.with_options(timeout="1s").enqueue("t").state == "ready"


def test_refusals_can_be_ordered(fake):
    fake.refuse(2)
    assert not fake.enqueue("t").duplicate

    fake.refuse(9)
    with pytest.raises(RetryableError) as refused:
        fake.enqueue("t")
    assert refused.value.code == "overloaded"


def test_what_a_handler_tells_can_be_read(fake):
    worker = Worker(["q"])

    @worker.job("talk")
    def talk(ctx):
        ctx.progress(40, "half")
        ctx.log("one", "two")
        if ctx.last_checkpoint is None:
            ctx.checkpoint({"row": 7})
            raise RetryableError("again", retry_in=0)
        return ctx.last_checkpoint

    id = fake.enqueue("talk", queue="q").id
    fake.drain(worker)

    assert fake.result(id) == {"row": 7}
    assert fake.get(id).progress.percent == 40
    assert fake.log(id) == ["one", "two", "one", "two"]


def test_a_cancelled_job_does_not_run(fake, worker):
    id = fake.enqueue("double", 1, queue="q").id
    fake.cancel(id)

    assert fake.drain(worker) == 0
    assert fake.get(id).state == "cancelled"


def test_a_handler_that_is_told_to_stop_sees_it(fake):
    worker = Worker(["q"])

    @worker.job("long")
    def long(ctx):
        fake.cancel(ctx.id)
        ctx.progress(1)  # Its answer says that the job is cancelled.
        ctx.check()

    id = fake.enqueue("long", queue="q").id
    fake.drain(worker)

    assert fake.get(id).state == "cancelled"


def test_a_lease_that_runs_out_returns_the_job(fake):
    fake.enqueue("t", queue="q")
    first = fake.lease(["q"], lease=10)[0]
    fake.advance(11)
    second = fake.lease(["q"])[0]

    late, good = fake.report(
        [
            {"id": first.id, "lease": first.lease, "outcome": "completed"},
            {"id": second.id, "lease": second.lease, "outcome": "completed", "result": 2},
        ]
    )

    assert (second.attempt, late.ok, late.error.code, good.ok) == (2, False, "lease_lost", True)
    assert fake.result(first.id) == 2


def test_lists_have_pages_newest_first(fake):
    ids = [fake.enqueue("t", queue="q", tags=["even"] if number % 2 == 0 else []).id for number in range(7)]

    assert [job.id for job in fake.jobs(page=2)] == ids[::-1]
    assert [job.id for job in fake.jobs(tag="even", page=2)] == ids[::2][::-1]
    assert fake.delete_all(tag="even") == 4
    assert [queue.name for queue in fake.queues()] == ["q"]


def test_a_paused_queue_gives_nothing(fake, worker):
    fake.enqueue("double", 1, queue="q")
    fake.pause("q")
    assert fake.drain(worker) == 0
    fake.resume("q")
    assert fake.drain(worker) == 1


def test_hooks_and_middleware_run(fake):
    worker = Worker(["q"])
    order = []

    @worker.middleware
    def outer(ctx, call_next):
        order.append("outer")
        return call_next(ctx) + 1

    @worker.middleware
    def inner(ctx, call_next):
        order.append("inner")
        return call_next(ctx) * 10

    worker.job("t")(lambda ctx: 4)
    id = fake.enqueue("t", queue="q").id
    fake.drain(worker)

    assert (fake.result(id), order) == (41, ["outer", "inner"])


def test_an_enqueue_hook_may_change_the_job():
    fake = FakeWorkmill(on_enqueue=[lambda job: job.setdefault("meta", {}).update(tenant="t1")])

    assert fake.get(fake.enqueue("t").id).meta == {"tenant": "t1"}
    assert fake.get(fake.enqueue_many([{"type": "t"}])[0].id).meta == {"tenant": "t1"}
    assert fake.get(asyncio.run(fake.async_client().enqueue("t")).id).meta == {"tenant": "t1"}
    with pytest.raises(CachePending) as pending:
        fake.cache.get_or_compute("k", {"type": "t"})
    assert fake.get(pending.value.job_id).meta == {"tenant": "t1"}


def test_hooks_of_an_asynchronous_client_may_be_coroutine_functions(fake):
    async def hook(job):
        await asyncio.sleep(0)
        job["meta"] = {"tenant": "t1"}

    client = fake.async_client(on_enqueue=[hook, lambda job: job.update(queue="q")])

    async def jobs():
        for number in range(3):
            await asyncio.sleep(0)
            yield {"type": "t", "payload": number}

    async def enqueue():
        with pytest.raises(CachePending):
            await client.cache.get_or_compute("k", {"type": "t"})
        return [await client.enqueue("t"), *await client.enqueue_many(jobs())]

    asyncio.run(enqueue())

    assert [(job.queue, job.meta) for job in fake.jobs()] == [("q", {"tenant": "t1"})] * 5
    with pytest.raises(TypeError, match="use AsyncClient"):
        Client(on_enqueue=[hook])


def test_a_hook_of_a_blocking_client_that_returns_an_awaitable_is_not_passed_over():
    async def later(job):
        job["meta"] = {"tenant": "t1"}

    class Hook:
        async def __call__(self, job):
            await later(job)

    class Future:
        def __await__(self):
            yield

    for hook in (lambda job: later(job), Hook(), lambda job: Future()):
        fake = FakeWorkmill(on_enqueue=[hook])
        with pytest.raises(TypeError, match="use AsyncClient"):
            fake.enqueue("t")
        assert list(fake.jobs()) == []


def test_hooks_of_an_asynchronous_client_come_after_those_of_its_fake():
    order = []

    async def later(job):
        order.append("later")

    fake = FakeWorkmill(on_enqueue=[lambda job: order.append("first")])
    asyncio.run(fake.async_client(on_enqueue=[later]).enqueue("t"))
    fake.enqueue("t")

    assert order == ["first", "later", "first"]


def test_bytes_pass_both_ways(fake):
    worker = Worker(["q"])
    worker.job("t")(lambda ctx: ctx.payload[::-1])
    id = fake.enqueue("t", b"\x00\x01\xff", queue="q").id
    fake.drain(worker)

    assert fake.result(id) == b"\xff\x01\x00"


def test_an_asynchronous_program_is_tested_the_same_way(fake):
    worker = AsyncWorker(["q"])

    @worker.middleware
    async def around(ctx, call_next):
        return {"got": await call_next(ctx)}

    @worker.job("a")
    async def a(ctx):
        await asyncio.sleep(0)
        await ctx.checkpoint(1)
        return ctx.payload

    worker.job("b")(lambda ctx: ctx.payload)

    async def program():
        async with fake.async_client() as client:
            ids = [(await client.enqueue(type, type, queue="q")).id for type in ("a", "b")]
            await fake.drain_async(worker)
            return [await client.result(id) for id in ids]

    assert asyncio.run(program()) == [{"got": "a"}, {"got": "b"}]


def test_a_coroutine_function_needs_an_asynchronous_worker():
    async def handler(ctx):
        return None

    with pytest.raises(TypeError, match="AsyncWorker"):
        Worker().job("t")(handler)
    with pytest.raises(ValueError, match="already"):
        worker = Worker()
        worker.job("t")(lambda ctx: 1)
        worker.job("t")(lambda ctx: 2)
