"""Batches, as the clients and the in-memory server have them. Against the real one: clients/conformance."""

from __future__ import annotations

import asyncio
import datetime
import json
import re

import pytest
from test_http import Scripted, answer

from workmill import AsyncClient, BatchCallback, Client, FatalError, RetryPolicy, UserError, Worker

PUBLISH = {"type": "publish", "queue": "after"}
REPORT = {"type": "report", "queue": "after"}


class Waited:
    """An AsyncClient's batches, whose methods are waited for."""

    def __init__(self, batches):
        self._batches = batches

    def __getattr__(self, name):
        method = getattr(self._batches, name)
        return lambda *args, **options: asyncio.run(method(*args, **options))

    def list(self, **options):
        async def all_of_them():
            return [batch async for batch in self._batches.list(**options)]

        return asyncio.run(all_of_them())


@pytest.fixture(params=["sync", "async"])
def batches(request, fake):
    return fake.batches if request.param == "sync" else Waited(fake.async_client().batches)


@pytest.fixture
def worker():
    one = Worker(["q"])

    @one.job("row")
    def row(ctx):
        assert ctx.batch == "b"
        if ctx.payload == "bad":
            raise FatalError("no such row", code="no_row")

    return one


def fill(fake, *payloads):
    return [fake.enqueue("row", payload, queue="q", batch="b").id for payload in payloads]


def called(fake):
    return [job.type for job in fake.jobs(queue="after")][::-1]


def test_the_end_of_all_jobs_enqueues_both_callbacks_once(fake, batches, worker):
    made = batches.create("b", on_success=PUBLISH, on_finish={**REPORT, "payload": 7}, meta={"import": 7})
    ids = fill(fake, 1, 2)
    assert fake.drain(worker) == 2
    assert called(fake) == []

    closed = batches.close("b")
    again = batches.close("b")

    seen = batches.get("b")
    assert called(fake) == ["publish", "report"]
    assert (made.total, made.closed_at, made.on_finish) == (0, None, BatchCallback("waiting"))
    assert (closed.total, closed.completed, closed.closed_at) == (2, 2, again.closed_at)
    assert (seen.pending, seen.on_success.state, seen.meta) == (0, "enqueued", {"import": 7})
    assert fake.get(seen.on_finish.job).payload == 7
    assert [job.id for job in fake.jobs(batch="b")] == ids[::-1]


def test_jobs_are_not_found_by_a_batch_that_is_not_there(fake):
    for find in (lambda: list(fake.jobs(batch="nowhere")), lambda: fake.retry_all(batch="nowhere")):
        with pytest.raises(UserError) as error:
            find()
        assert error.value.code == "batch_not_found"


def test_where_one_is_dead_only_the_end_is_told_until_it_is_retried(fake, batches, worker):
    batches.create("b", on_success=PUBLISH, on_finish=REPORT)
    dead, _ = fill(fake, "bad", 1)
    batches.close("b")

    fake.drain(worker)
    assert called(fake) == ["report"]
    assert (batches.get("b").dead, batches.get("b").on_success) == (1, BatchCallback("waiting"))

    worker = Worker(["q"])
    worker.job("row")(lambda ctx: None)
    assert fake.retry_all(batch="b", state="dead") == 1
    assert batches.get("b").pending == 1
    fake.drain(worker)
    assert called(fake) == ["report", "publish"]
    assert fake.get(dead).state == "completed"


def test_what_is_deleted_or_cancelled_has_ended(fake, batches):
    batches.create("b", on_success=PUBLISH, on_finish=REPORT)
    deleted, cancelled = fill(fake, 1, 2)
    batches.close("b")

    fake.delete(deleted)
    fake.cancel(cancelled)

    seen = batches.get("b")
    assert (seen.total, seen.deleted, seen.cancelled, seen.pending) == (2, 1, 1, 0)
    assert seen.on_success == BatchCallback("not_coming")
    assert called(fake) == ["report"]


def test_a_batch_without_jobs_ends_as_it_is_closed(fake, batches):
    id = batches.create(on_finish=REPORT).id
    batches.close(id)

    assert called(fake) == ["report"]
    assert batches.get(id).on_success is None


def test_a_batch_that_is_deleted_calls_nobody(fake, batches, worker):
    batches.create("b", on_finish=REPORT)
    fill(fake, 1)
    batches.close("b")
    batches.delete("b")

    fake.drain(worker)

    assert called(fake) == []
    with pytest.raises(UserError) as error:
        batches.get("b")
    assert error.value.code == "batch_not_found"


@pytest.mark.parametrize("close, code", [(False, "batch_not_found"), (True, "batch_closed")])
def test_jobs_of_a_batch_that_takes_none_are_refused_all_or_none(fake, batches, close, code):
    id = "nowhere"
    if close:
        id = batches.create("b", on_finish=REPORT).id
        there = fake.enqueue("row", queue="q", batch=id, id="there")
        batches.close(id)
        # Whose answer was lost asks again.
        assert fake.enqueue("row", queue="q", batch=id, id="there").id == there.id

    with pytest.raises(UserError) as error:
        fake.enqueue_many([{"type": "row", "queue": "new"}, {"type": "row", "queue": "new", "batch": id}])

    assert (error.value.code, error.value.field) == (code, "batch")
    assert list(fake.jobs(queue="new")) == []


def test_the_same_batch_again_is_the_one_that_is_there(fake, batches):
    batches.create("b", on_finish=REPORT)
    fill(fake, 1)

    assert batches.create("b", on_finish=REPORT).total == 1
    with pytest.raises(UserError) as error:
        batches.create("b", on_finish=PUBLISH)
    assert (error.value.code, error.value.field) == ("batch_exists", "id")
    by_key = [batches.create(on_finish=REPORT, idempotency_key="k").id for _ in range(2)]
    assert len(set(by_key)) == 1


@pytest.mark.parametrize(
    "field, callbacks",
    [
        ("on_finish", {}),
        ("on_finish.priority", {"on_finish": {**REPORT, "priority": 10}}),
        ("on_success.type", {"on_success": {}}),
        ("on_finish.id", {"on_finish": {**REPORT, "id": "x"}}),
        ("on_finish.unique", {"on_finish": {**REPORT, "unique": {"key": "k"}}}),
        ("on_success.batch", {"on_success": {**REPORT, "batch": "b"}}),
        ("on_finish", {"on_finish": {**REPORT, "payload": "x" * 65_536}}),
        ("meta", {"on_finish": REPORT, "meta": {"x": "x" * 16_384}}),
        ("id", {"on_finish": REPORT, "id": "no name"}),
    ],
)
def test_what_is_no_batch_is_refused_by_its_field(batches, field, callbacks):
    with pytest.raises(UserError) as error:
        batches.create(**callbacks)

    assert error.value.field == field


def test_lists_show_batches_by_their_state_newest_first(fake, batches, worker):
    for id in ("open", "waits", "b", "lost", "empty"):
        batches.create(id, on_success=PUBLISH, meta={"of": id})
    waits = fake.enqueue("row", queue="elsewhere", batch="waits").id
    fill(fake, 1)
    fake.delete(fake.enqueue("row", queue="elsewhere", batch="lost").id)
    for id in ("waits", "b", "lost", "empty"):
        batches.close(id)
    fake.drain(worker)

    def ids(**options):
        return [batch.id for batch in batches.list(**options)]

    assert ids() == ids(page=2) == ["empty", "lost", "b", "waits", "open"]
    assert (ids(state="open"), ids(state="closed")) == (["open"], ["waits"])
    assert ids(state="over", page=1) == ["empty", "lost", "b"]
    assert [batch.meta for batch in batches.list(state="open")] == [{"of": "open"}]

    fake.cancel(waits)  # To be retried, perhaps.
    assert ids(state="closed") == ["waits"]
    batches.delete("waits")
    assert ids(state="closed") == []


@pytest.mark.parametrize("field, options", [("state", {"state": "odd"}), ("limit", {"page": 0}), ("limit", {"page": 1_001})])
def test_what_is_no_list_is_refused_by_its_field(fake, batches, field, options):
    with pytest.raises(UserError) as error:
        list(batches.list(**options))
    assert (error.value.code, error.value.field) == ("invalid_field", field)

    if field == "limit":
        with pytest.raises(UserError) as error:
            list(fake.jobs(**options))
        assert error.value.field == "limit"


def test_hooks_see_callbacks(fake):
    tag = lambda job: job.update(tags=["seen"])  # noqa: E731
    client = Client("http://in.memory", transport=fake._transport, on_enqueue=[tag])

    id = client.batches.create(on_success=PUBLISH, on_finish=REPORT).id
    client.batches.close(id)

    assert [job.tags for job in fake.jobs(queue="after")] == [["seen"], ["seen"]]


BATCH = {
    "id": "b 1",
    "created_at": "2026-11-22T09:00:00.000Z",
    "closed_at": "2026-11-22T09:00:07.500Z",
    **dict(total=3, pending=0, completed=2, dead=1, cancelled=0, deleted=0),
    "on_success": {"state": "waiting"},
    "on_finish": {"state": "enqueued", "job": "j"},
}


@pytest.mark.parametrize("make", [Client, AsyncClient])
def test_what_is_asked_of_a_server_and_how_its_answer_is_read(make):
    gone = json.dumps({"code": "batch_not_found", "class": "user", "detail": "gone"})
    # Two answers are lost: of the first request, and of the deletion, which has been done then.
    script = [b""], [answer(json.dumps(BATCH))] * 2 + [b""], [answer(gone, status="404 No")]
    server = Scripted(*script)

    async def ask():
        client = make(server.url, retry=RetryPolicy(attempts=3, first=0, cap=0))
        calls = [
            lambda: client.batches.create("b 1", on_success={**PUBLISH, "delay": 60, "payload": b"\0"}, meta={"n": 1}),
            lambda: client.batches.close("b 1"),
            lambda: client.batches.delete("b 1"),
        ]
        answers = [await call() if make is AsyncClient else call() for call in calls]
        closing = client.close()
        if closing is not None:
            await closing
        return answers

    made, closed, deleted = asyncio.run(ask())

    server.join()
    heads, bodies = zip(*(request.decode().split("\r\n\r\n") for request in server.requests))
    assert [head.split(" HTTP")[0] for head in heads] == [
        *["POST /v1/batches"] * 2,
        "POST /v1/batches/b%201/close",
        *["DELETE /v1/batches/b%201"] * 2,
    ]
    assert len({re.search("(?i)idempotency-key: .*", head)[0] for head in heads[:2]}) == 1
    callback = {"type": "publish", "queue": "after", "delay": "60s", "payload_base64": "AA=="}
    assert json.loads(bodies[1]) == {"id": "b 1", "meta": {"n": 1}, "on_success": callback}
    assert (made, deleted) == (closed, None)
    assert made.closed_at == datetime.datetime(2026, 11, 22, 9, 0, 7, 500_000, tzinfo=datetime.timezone.utc)
    assert (made.dead, made.on_success, made.on_finish) == (1, BatchCallback("waiting"), BatchCallback("enqueued", "j"))


@pytest.mark.parametrize("make", [Client, AsyncClient])
def test_a_list_goes_on_behind_a_page_that_is_empty(make):
    pages = [{"items": [BATCH], "next": "c 1"}, {"items": [], "next": "c 2"}, {"items": [{**BATCH, "id": "last"}], "next": None}]
    server = Scripted([answer(json.dumps(page)) for page in pages])

    async def ask():
        client = make(server.url)
        batches = client.batches.list(state="closed", page=7)
        found = [batch async for batch in batches] if make is AsyncClient else list(batches)
        closing = client.close()
        if closing is not None:
            await closing
        return [batch.id for batch in found]

    ids = asyncio.run(ask())

    server.join()
    assert ids == ["b 1", "last"]
    assert [request.decode().split(" HTTP")[0] for request in server.requests] == [
        "GET /v1/batches?state=closed&limit=7",
        "GET /v1/batches?state=closed&limit=7&cursor=c+1",
        "GET /v1/batches?state=closed&limit=7&cursor=c+2",
    ]
