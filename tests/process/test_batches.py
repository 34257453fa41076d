"""Batches over real sockets: docs/reference/batches.md, and what its guide tells to paste."""

import json
import re
import shutil

import pytest

from harness import RFC3339_UTC_MS, ROOT, UNSET, UUID_V7, eventually
from streams import Stream
from test_cli import Cli
from test_metrics import page
from test_openapi import fill_in
from test_readme import paste
from test_tokens import Keys

SUCCESS, FINISH = {"type": "publish", "payload": {"n": 7}}, {"type": "report"}


class Batches:
    """A batch's calls, with callbacks in a queue of their own."""

    def __init__(self, api):
        self.api, self.after = api, f"{api.queue}-after"

    def make(self, expect=201, **fields):
        if not {"on_success", "on_finish"} & set(fields):
            fields |= {"on_success": dict(SUCCESS), "on_finish": dict(FINISH)}
        for name in {"on_success", "on_finish"} & set(fields):
            fields[name] = {"queue": self.after, **fields[name]}
        return self.api.call("POST", "/v1/batches", fields, expect=expect).json

    def get(self, id, expect=200):
        return self.api.call("GET", f"/v1/batches/{id}", expect=expect).json

    def close(self, id, expect=200):
        return self.api.call("POST", f"/v1/batches/{id}/close", expect=expect).json

    def forget(self, id, expect=200):
        return self.api.call("DELETE", f"/v1/batches/{id}", expect=expect).json

    def fill(self, id, count, **fields):
        jobs = [{"batch": id, "max_attempts": 1, **fields} for _ in range(count)]
        return [job["id"] for job in self.api.enqueue_many(jobs)]

    def work_off(self, *outcomes):
        """Leases one job after another, and ends each as is said: completed or failed for good."""
        for outcome in outcomes:
            job = self.api.lease_one()
            if outcome == "completed":
                self.api.complete(job)
            else:
                self.api.fail(job, error_class="fatal")

    def called(self):
        """The types of all callbacks that were enqueued, by age."""
        return [job["type"] for job in reversed(self.api.jobs(queue=self.after))]


@pytest.fixture
def batches(api):
    return Batches(api)


def counts(batch):
    return {name: batch[name] for name in ("total", "pending", "completed", "dead", "cancelled", "deleted") if batch[name]}


def states(batch):
    return {name: batch[name]["state"] for name in ("on_success", "on_finish") if name in batch}


# ---- Life


def test_when_all_of_a_batch_is_completed_both_callbacks_come_once(batches):
    api = batches.api
    made = batches.make(id=f"{api.queue}-import")
    assert made["id"] == f"{api.queue}-import" and RFC3339_UTC_MS.fullmatch(made["created_at"])
    assert "closed_at" not in made and counts(made) == {}
    assert states(made) == {"on_success": "waiting", "on_finish": "waiting"}

    batches.fill(made["id"], 3)
    batches.work_off("completed", "completed")
    assert counts(batches.get(made["id"])) == {"total": 3, "pending": 1, "completed": 2}
    batches.work_off("completed")
    assert batches.called() == [], "it is open: more may come"
    closed = batches.close(made["id"])
    assert RFC3339_UTC_MS.fullmatch(closed["closed_at"]) and counts(closed) == {"total": 3, "completed": 3}

    eventually(lambda: len(batches.called()) == 2, "both callbacks are enqueued")
    done = batches.get(made["id"])
    assert states(done) == {"on_success": "enqueued", "on_finish": "enqueued"}
    success = api.job(done["on_success"]["job"])
    assert (success["type"], success["queue"], success["payload"]) == ("publish", batches.after, {"n": 7})
    assert api.job(done["on_finish"]["job"])["type"] == "report"
    assert batches.close(made["id"])["closed_at"] == closed["closed_at"], "once more is no error"
    assert sorted(batches.called()) == ["publish", "report"]


def test_callbacks_come_when_the_last_job_of_a_closed_batch_ends(batches):
    id = batches.make()["id"]
    assert UUID_V7.fullmatch(id)
    batches.fill(id, 2)
    batches.close(id)
    batches.work_off("completed")
    assert batches.called() == []
    batches.work_off("completed")
    eventually(lambda: sorted(batches.called()) == ["publish", "report"], "both callbacks are enqueued")


def test_where_a_job_dies_only_on_finish_comes_until_it_is_retried(batches):
    api, id = batches.api, batches.make()["id"]
    batches.fill(id, 2)
    batches.close(id)
    batches.work_off("completed", "failed")
    eventually(lambda: batches.called() == ["report"], "on_finish is enqueued")
    seen = batches.get(id)
    assert counts(seen) == {"total": 2, "completed": 1, "dead": 1}
    assert states(seen) == {"on_success": "waiting", "on_finish": "enqueued"}

    retried = api.post("/v1/jobs/bulk", {"action": "retry", "where": {"batch": id, "state": "dead"}})
    assert retried == {"count": 1}
    assert counts(batches.get(id)) == {"total": 2, "pending": 1, "completed": 1}
    batches.work_off("completed")
    eventually(lambda: batches.called() == ["report", "publish"], "on_success is enqueued, and nothing twice")
    assert states(batches.get(id)) == {"on_success": "enqueued", "on_finish": "enqueued"}


@pytest.mark.parametrize("how", ["cancel", "delete"])
def test_what_is_taken_out_ends_a_batch_and_is_no_success(batches, how):
    api, id = batches.api, batches.make()["id"]
    one, two = batches.fill(id, 2)
    batches.close(id)
    api.complete(api.lease_one())
    path = f"/v1/jobs/{two}" + ("/cancel" if how == "cancel" else "")
    api.call("POST" if how == "cancel" else "DELETE", path, expect=200)
    eventually(lambda: batches.called() == ["report"], "on_finish is enqueued")
    seen = batches.get(id)
    assert counts(seen) == {"total": 2, "completed": 1, "cancelled" if how == "cancel" else "deleted": 1}
    assert states(seen)["on_success"] == ("waiting" if how == "cancel" else "not_coming")
    if how == "cancel":  # Once it is deleted it cannot be retried any more.
        api.call("DELETE", f"/v1/jobs/{two}", expect=200)
        assert batches.get(id) == {**seen, "on_success": {"state": "not_coming"}}
    assert batches.called() == ["report"]


def test_a_completed_job_that_is_deleted_counts_as_completed(batches):
    api, id = batches.api, batches.make()["id"]
    (one,) = batches.fill(id, 1)
    batches.work_off("completed")
    api.call("DELETE", f"/v1/jobs/{one}", expect=200)
    assert counts(batches.close(id)) == {"total": 1, "completed": 1}
    eventually(lambda: sorted(batches.called()) == ["publish", "report"], "both callbacks are enqueued")


def test_an_empty_batch_calls_back_when_it_is_closed(batches):
    id = batches.make()["id"]
    batches.close(id)
    eventually(lambda: sorted(batches.called()) == ["publish", "report"], "both callbacks are enqueued")


def test_a_batch_may_have_one_callback(batches):
    one, two = batches.make(on_success=SUCCESS), batches.make(on_finish=FINISH)
    assert (list(states(one)), list(states(two))) == (["on_success"], ["on_finish"])
    batches.close(one["id"])
    eventually(lambda: batches.called() == ["publish"], "on_success is enqueued")
    batches.close(two["id"])
    eventually(lambda: batches.called() == ["publish", "report"], "on_finish is enqueued")


def test_a_forgotten_batch_leaves_its_jobs_and_never_calls_back(batches):
    api, id = batches.api, batches.make()["id"]
    (job,) = batches.fill(id, 1)
    batches.close(id)
    batches.forget(id)
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/close")):
        api.refused(method, f"/v1/batches/{id}{path}", code="batch_not_found")
    assert api.state(job) == "ready"
    batches.work_off("completed")
    other = batches.make()["id"]  # What comes behind it is there by the time that it would have come.
    batches.close(other)
    eventually(lambda: sorted(batches.called()) == ["publish", "report"], "those of the other batch alone")


def test_a_full_queue_refuses_no_callback(batches):
    api = batches.api
    api.call("PATCH", f"/v1/queues/{batches.after}", {"max_depth": 0}, expect=200)
    id = batches.make()["id"]
    batches.close(id)
    eventually(lambda: sorted(batches.called()) == ["publish", "report"], "both callbacks are enqueued")


def test_callbacks_run_as_they_were_sent(batches):
    api = batches.api
    sent = {"type": "later", "priority": 8, "delay": "1h", "max_attempts": 3, "tags": ["x"], "meta": {"who": "me"}}
    id = batches.make(on_finish=sent)["id"]
    batches.close(id)
    eventually(lambda: batches.called() == ["later"], "on_finish is enqueued")
    (job,) = api.jobs(queue=batches.after)
    assert job["state"] == "scheduled" and {name: job[name] for name in sent} == sent
    assert "batch" not in job


# ---- Its jobs


def test_jobs_show_their_batch_and_are_found_by_it(batches):
    api, id = batches.api, batches.make()["id"]
    mine = batches.fill(id, 3)
    other = api.enqueue_id()
    assert api.job(mine[0])["batch"] == id and "batch" not in api.job(other)
    assert sorted(job["id"] for job in api.jobs(batch=id)) == sorted(mine)
    leased = api.lease(max=10)
    assert {job["id"]: job.get("batch") for job in leased} == {**dict.fromkeys(mine, id), other: None}
    for job in leased:
        api.report_ok(job, "released")

    assert api.post("/v1/jobs/bulk", {"action": "cancel", "where": {"batch": id}}) == {"count": 3}
    assert counts(batches.get(id)) == {"total": 3, "cancelled": 3}
    assert api.state(other) == "ready"


def test_jobs_are_not_chosen_by_a_batch_that_is_not_there(batches):
    api, id = batches.api, batches.make()["id"]
    (job,) = batches.fill(id, 1)
    batches.work_off("failed")
    batches.forget(id)
    assert api.job(job)["batch"] == id, "it shows where it was"
    for gone in (id, "never-was", "no%20name"):
        api.refused("GET", f"/v1/jobs?batch={gone}", code="batch_not_found", field="batch")
    for extra in ({}, {"tag": "t"}):
        retry = {"action": "retry", "where": {"batch": id, **extra}}
        problem = api.refused("POST", "/v1/jobs/bulk", retry, code="batch_not_found", field="where.batch")
        assert problem["status"] == 404
    assert api.state(job) == "dead"


def test_a_worker_stream_shows_the_batch_too(batches, shared):
    api, id = batches.api, batches.make()["id"]
    batches.fill(id, 1)
    with Stream(shared) as stream:
        stream.subscribe([api.queue], credit=1)
        (job,) = stream.jobs(1)
        assert job["batch"] == id
        stream.reported([job])


def test_a_job_of_an_unknown_or_closed_batch_is_refused_and_nothing_is_enqueued(batches):
    api, id = batches.api, batches.make()["id"]
    batches.close(id)
    api.refused("POST", "/v1/jobs", {"type": "t", "queue": api.queue, "batch": "nowhere"}, code="batch_not_found")
    jobs = [{"type": "t", "queue": api.queue}, {"type": "t", "queue": api.queue, "batch": id}]
    problem = api.refused("POST", "/v1/jobs", {"jobs": jobs}, code="batch_closed")
    assert problem["status"] == 409
    assert api.jobs(queue=api.queue) == []
    api.refused("POST", "/v1/jobs", {"type": "t", "batch": "no name"}, code="invalid_field", field="batch")


def test_a_job_that_is_there_already_is_not_counted_twice(batches):
    api, id = batches.api, batches.make()["id"]
    for duplicate in (False, True):
        assert api.enqueue(id=f"{api.queue}-1", batch=id)["duplicate"] is duplicate
    assert counts(batches.get(id)) == {"total": 1, "pending": 1}
    batches.close(id)
    # Whose answer was lost asks again, also when somebody has closed the batch by then.
    assert api.enqueue(id=f"{api.queue}-1", batch=id)["duplicate"] is True


def test_a_job_keeps_its_batch_when_it_is_changed(batches):
    api, id = batches.api, batches.make()["id"]
    (job,) = batches.fill(id, 1)
    assert api.call("PATCH", f"/v1/jobs/{job}", {"priority": 9}, expect=200).json["batch"] == id
    assert counts(batches.get(id)) == {"total": 1, "pending": 1}
    with_key = api.enqueue(batch=id, headers={"Idempotency-Key": f"{api.queue}-k"})
    assert api.enqueue(batch=id, headers={"Idempotency-Key": f"{api.queue}-k"}) == with_key
    assert counts(batches.get(id)) == {"total": 2, "pending": 2}


# ---- Asked again, and refused


def test_the_same_request_again_answers_the_batch_that_is_there(batches):
    id = f"{batches.api.queue}-again"
    batches.make(id=id)
    batches.fill(id, 1)
    again = batches.make(id=id, expect=200)
    assert counts(again) == {"total": 1, "pending": 1}
    for other in ({"on_finish": FINISH}, {"on_success": SUCCESS, "on_finish": {**FINISH, "priority": 9}}):
        other = {name: {"queue": batches.after, **job} for name, job in other.items()}
        problem = batches.api.refused("POST", "/v1/batches", {"id": id, **other}, code="batch_exists", field="id")
        assert problem["status"] == 409
    assert counts(batches.get(id)) == {"total": 1, "pending": 1}


def test_an_idempotency_key_makes_one_batch(batches):
    key = {"Idempotency-Key": f"{batches.api.queue}-key"}
    body = {"on_finish": {"queue": batches.after, **FINISH}, "meta": {"who": ["me", 1.50]}}

    first = batches.api.call("POST", "/v1/batches", body, headers=key, expect=201)
    assert UUID_V7.fullmatch(first.json["id"]) and first.json["meta"] == {"who": ["me", 1.5]}
    again = batches.api.call("POST", "/v1/batches", body, headers=key, expect=201)
    assert again.json == first.json and again.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers
    other = {**body, "meta": {"who": "you"}}
    batches.api.refused("POST", "/v1/batches", other, headers=key, code="idempotency_key_reused")
    batches.close(first.json["id"])
    eventually(lambda: batches.called() == ["report"], "one callback")


def test_what_is_no_batch_is_refused_by_its_field(batches):
    def refused(field, body, code="invalid_field"):
        batches.api.refused("POST", "/v1/batches", body, code=code, field=field)

    refused("on_finish", {}, "missing_field")
    refused("on_finish", {"id": "b"}, "missing_field")
    refused("odd", {"on_finish": FINISH, "odd": 1}, "unknown_field")
    refused("on_finish", {"on_finish": None})
    refused("on_finish", {"on_finish": "report"})
    refused("on_finish.type", {"on_finish": {}}, "missing_field")
    refused("on_finish.odd", {"on_finish": {"type": "t", "odd": 1}}, "unknown_field")
    refused("on_success.priority", {"on_finish": FINISH, "on_success": {"type": "t", "priority": 10}})
    refused("on_success.jobs", {"on_success": {"type": "t", "jobs": []}}, "unknown_field")
    for field, value in (("id", "x"), ("unique", {"key": "k"}), ("batch", "b")):
        refused(f"on_finish.{field}", {"on_finish": {"type": "t", field: value}})
    refused("id", {"id": "no name", "on_finish": FINISH})
    refused("id", {"id": "", "on_finish": FINISH})
    large = {"type": "t", "payload": "x" * (64 << 10)}
    refused("on_finish", {"on_finish": large}, "payload_too_large")
    refused("on_finish.payload", {"on_finish": {"type": "t", "payload": "x" * (6 << 20)}}, "payload_too_large")
    refused("meta", {"on_finish": FINISH, "meta": 1})
    refused("meta", {"on_finish": FINISH, "meta": {"x": "x" * (16 << 10)}}, "payload_too_large")
    assert batches.api.call("POST", "/v1/batches", data=b"{", expect=400).code == "malformed_json"


def test_an_id_that_no_batch_can_have_is_that_of_none(batches):
    for id in ("nope", "no%20name", "x" * 200, "%00"):
        batches.api.refused("GET", f"/v1/batches/{id}", code="batch_not_found")
        batches.api.refused("POST", f"/v1/batches/{id}/close", code="batch_not_found")
        batches.api.refused("DELETE", f"/v1/batches/{id}", code="batch_not_found")


# ---- Who may


def test_a_token_for_some_queues_knows_no_batch_that_calls_back_in_another(start, tmp_path):
    keys = Keys(start, tmp_path / "data")
    limited, full = keys.api(keys.limited), keys.api(keys.all)
    mine, foreign = {"type": "t", "queue": "mine"}, {"type": "t", "queue": "foreign"}
    full.post("/v1/batches", {"id": "theirs", "on_success": mine, "on_finish": foreign})
    full.post("/v1/batches", {"id": "shared", "on_finish": mine})
    full.post("/v1/jobs", {**foreign, "batch": "shared"})

    for method, path, body in (
        ("GET", "/v1/batches/{}", None),
        ("POST", "/v1/batches/{}/close", None),
        ("DELETE", "/v1/batches/{}", None),
        ("GET", "/v1/jobs?batch={}", None),
        ("POST", "/v1/jobs", {**mine, "batch": "{}"}),
        ("POST", "/v1/jobs/bulk", {"action": "retry", "where": {"batch": "{}"}}),
    ):
        seen, unknown = (
            limited.call(method, path.format(id), UNSET if body is None else fill_in(body, {"": id}))
            for id in ("theirs", "never-was")
        )
        assert (seen.status, seen.code) == (404, "batch_not_found"), (method, path, seen)
        assert {**seen.json, "trace_id": ""} == {**unknown.json, "trace_id": ""}
    limited.refused("POST", "/v1/batches", {"on_finish": foreign}, code="forbidden", field="on_finish.queue")
    limited.refused("POST", "/v1/batches", {"on_success": {"type": "t"}}, code="forbidden", field="on_success.queue")
    limited.refused("POST", "/v1/batches", {"id": "theirs", "on_finish": mine}, code="forbidden", field="id")

    own = limited.post("/v1/jobs", {**mine, "id": "own"})
    for id in ("theirs", "never-was"):  # Of a job that is there already it makes no difference.
        again = limited.call("POST", "/v1/jobs", {**mine, "id": "own", "batch": id}).json
        assert again == {**own, "duplicate": True}
    limited.post("/v1/jobs", {**mine, "batch": "shared"})
    assert counts(limited.get("/v1/batches/shared")) == {"total": 2, "pending": 2}
    assert [job["queue"] for job in limited.get("/v1/jobs?batch=shared")["items"]] == ["mine"]
    bulk = {"action": "cancel", "where": {"batch": "shared"}}
    assert limited.post("/v1/jobs/bulk", bulk) == {"count": 1}
    limited.call("POST", "/v1/batches/shared/close", expect=200)
    full.get("/v1/batches/theirs")


def test_a_token_for_some_queues_lists_the_batches_that_it_may_see(start, tmp_path):
    keys = Keys(start, tmp_path / "data")
    limited, full = keys.api(keys.limited), keys.api(keys.all)
    mine, foreign = {"type": "t", "queue": "mine"}, {"type": "t", "queue": "foreign"}
    full.post("/v1/batches", {"id": "a", "on_finish": mine})
    full.post("/v1/batches", {"id": "b", "on_success": mine, "on_finish": foreign})
    full.post("/v1/batches", {"id": "c", "on_success": foreign})
    full.post("/v1/batches", {"id": "d", "on_success": mine})
    assert [batch["id"] for batch in full.get("/v1/batches")["items"]] == ["d", "c", "b", "a"]
    first = limited.get("/v1/batches?limit=1")
    rest = limited.get(f"/v1/batches?limit=1&cursor={first['next']}")
    assert [batch["id"] for batch in first["items"] + rest["items"]] == ["d", "a"]
    assert rest["next"] is None


# ---- Bounds, and what outlives what


def test_batches_are_listed_newest_first_by_what_is_left_for_them_to_do(start):
    server = start()
    api = server.api(queue="q")
    batches = Batches(api)

    def listed(query=""):
        return [batch["id"] for batch in api.get(f"/v1/batches{query}")["items"]]

    def counted():
        return {state: page(server).value("workmill_batches", state=state) for state in ("open", "closed", "over")}

    assert api.get("/v1/batches") == {"items": [], "next": None}
    for id in ("open", "waits", "over", "young"):
        batches.make(id=id, meta={"of": id})
    batches.fill("waits", 1)
    batches.close("waits")
    batches.close("over")
    eventually(lambda: listed("?state=over") == ["over"], "it has called back")
    assert listed() == ["young", "over", "waits", "open"]
    assert (listed("?state=open"), listed("?state=closed")) == (["young", "open"], ["waits"])
    assert api.get("/v1/batches?state=closed")["items"] == [batches.get("waits")]
    assert api.get("/v1/status")["batches"] == {"total": 4, "open": 2, "closed": 1, "over": 1}
    assert counted() == {"open": 2, "closed": 1, "over": 1}

    seen, cursor = [], ""
    while cursor is not None:
        one = api.get(f"/v1/batches?limit=1{cursor and '&cursor=' + cursor}")
        assert len(one["items"]) <= 1
        seen += [batch["id"] for batch in one["items"]]
        cursor = one["next"]
    assert seen == listed()
    for query in ("state=odd", "limit=0", "cursor=odd", "limit=1001"):
        api.refused("GET", f"/v1/batches?{query}", code="invalid_field", field=query.split("=")[0])

    batches.work_off("failed")
    eventually(lambda: states(batches.get("waits"))["on_finish"] == "enqueued", "it has called back")
    assert listed("?state=closed") == ["waits"], "it may be retried"
    batches.forget("open")
    server.kill()
    server.start()
    assert (listed("?state=open"), listed("?state=closed"), listed("?state=over")) == (["young"], ["waits"], ["over"])
    assert counted() == {"open": 1, "closed": 1, "over": 1}


def test_the_bound_counts_the_batches_that_do_not_give_way(start, config):
    server = start(*config(batches_max="2"))
    batches = Batches(server.api(queue="q"))

    def bound():
        return next(it["used"] for it in batches.api.get("/v1/status")["bounds"] if it["name"] == "batches")

    for id in ("a", "b"):
        batches.make(id=id, on_finish=FINISH)
    assert bound() == 2
    batches.close("a")
    eventually(lambda: bound() == 1, "it is over")
    assert batches.api.get("/v1/status")["batches"]["total"] == 2
    batches.make(id="c")
    assert bound() == 2
    batches.api.refused("POST", "/v1/batches", {"on_finish": FINISH}, code="batches_full")


def test_batches_outlive_kills_and_call_back_once(start):
    server = start()
    batches = Batches(server.api(queue="q"))
    open_one, closed_one = batches.make(id="open"), batches.make(id="closed")
    batches.fill("open", 2)
    batches.fill("closed", 1, queue="other")
    batches.close("closed")
    for _ in range(2):
        before = batches.get("open"), batches.get("closed")
        server.kill()
        server.start()
        assert (batches.get("open"), batches.get("closed")) == before
    batches.work_off("completed", "completed")
    batches.close("open")
    eventually(lambda: sorted(batches.called()) == ["publish", "report"], "both callbacks are enqueued")
    server.kill()
    server.start()
    assert sorted(batches.called()) == ["publish", "report"]
    assert states(batches.get("open")) == {"on_success": "enqueued", "on_finish": "enqueued"}
    batches.api.complete(batches.api.lease_one(queues=["other"]))
    eventually(lambda: sorted(batches.called()) == ["publish"] * 2 + ["report"] * 2, "those of the other batch")
    assert open_one["created_at"] == batches.get("open")["created_at"]
    assert closed_one["created_at"] == batches.get("closed")["created_at"]


def test_a_batch_outlives_the_segments_that_it_was_written_to(start):
    server = start("--segment-size", "64KiB")
    api = server.api(queue="q")
    batches = Batches(api)
    id = batches.make(id="b")["id"]
    batches.fill(id, 2)
    batches.work_off("completed")
    for _ in range(30):
        api.post("/v1/jobs", {"jobs": [{"type": "t", "queue": "fill", "payload": "x" * 400} for _ in range(50)]})
        api.call("DELETE", "/v1/queues/fill/jobs", expect=200)
    eventually(lambda: page(server).value("workmill_log_trimmed_segments_total") >= 3, "segments are dropped")
    server.kill()
    server.start()
    assert counts(batches.get(id)) == {"total": 2, "pending": 1, "completed": 1}
    batches.close(id)
    batches.work_off("completed")
    eventually(lambda: sorted(batches.called()) == ["publish", "report"], "both callbacks are enqueued")
    assert api.job(batches.get(id)["on_success"]["job"])["payload"] == {"n": 7}


def test_no_more_batches_than_may_be(start, config):
    server = start(*config(batches_max="3"))
    batches = Batches(server.api(queue="q"))
    for n in range(3):
        batches.make(id=f"b{n}")
    problem = batches.api.refused("POST", "/v1/batches", {"on_finish": FINISH}, code="batches_full")
    assert problem["status"] == 429
    batches.make(id="b0", expect=200)  # Which is there.
    bounds = {bound["name"]: bound for bound in batches.api.get("/v1/status")["bounds"]}
    assert (bounds["batches"]["used"], bounds["batches"]["limit"]) == (3, 3)
    assert page(server).value("workmill_bound_used", bound="batches") == 3
    batches.forget("b1")
    batches.make(id="one-more")
    batches.close("b2")  # Once it is kept only to be looked at, it gives way.
    eventually(lambda: states(batches.get("b2")) == {"on_success": "enqueued", "on_finish": "enqueued"}, "b2 is over")
    batches.make(id="and-one-more")
    batches.get("b2", expect=404)


def test_callbacks_take_no_more_memory_than_they_may(start, config):
    server = start(*config(batches_memory_max="1MiB"))
    batches = Batches(server.api(queue="q"))
    large = {"type": "t", "payload": "x" * 60_000}

    def bound():
        return next(it for it in batches.api.get("/v1/status")["bounds"] if it["name"] == "batch_bytes")

    made = 0
    while (got := batches.api.call("POST", "/v1/batches", {"id": f"b{made}", "on_finish": large})).status == 201:
        made += 1
    assert (got.status, got.code, made) == (429, "batches_full", 17)
    assert 17 * 60_000 < bound()["used"] <= bound()["limit"] == 1 << 20
    batches.close("b0")
    eventually(lambda: bound()["used"] < 17 * 60_000, "its callback is enqueued")
    batches.make(id="one-more", on_finish=large)


def test_a_batch_that_has_nothing_more_to_do_goes_after_its_time(start, config):
    server = start(*config(batch_keep="100ms"))
    batches = Batches(server.api(queue="q"))
    kept, gone = batches.make(id="open")["id"], batches.make(id="done")["id"]
    batches.close(gone)
    eventually(lambda: batches.api.call("GET", f"/v1/batches/{gone}").status == 404, "it is forgotten")
    assert batches.get(kept)["id"] == kept
    assert sorted(batches.called()) == ["publish", "report"]


# ---- The command line and the guide


def test_a_batch_from_the_command_line(start, tmp_path):
    server = start()
    cli, api = Cli(server.url, tmp_path), server.api(queue="q")
    callbacks = ("--on-success", json.dumps({"queue": "after", **SUCCESS}), "--on-finish", json.dumps(FINISH))

    assert cli.run("batch", "new", "--id", "b", *callbacks, "--meta", '{"a": [1]}').out == "b\n"
    cli.run("enqueue", "row", "--queue", "q", "--batch", "b", "--lines", "-", input=b"one\ntwo\n")
    assert [job["payload"] for job in cli.json("jobs", "--batch", "b")["items"]] == ["two", "one"]
    assert "batch           b\n" in cli.run("job", api.jobs(batch="b")[0]["id"]).out
    cli.run("cancel", "--batch", "b")
    assert counts(cli.json("batch", "close", "b")) == {"total": 2, "cancelled": 2}
    cli.run("retry", "--batch", "b", "--state", "cancelled")
    cli.run("work", "--queue", "q", "--until-empty", "--", "cat")
    eventually(lambda: api.jobs(queue="after"), "on_success is enqueued")

    shown = cli.run("batch", "get", "b").out
    assert re.search(r"^closed +\S+ \(.+\)$", shown, re.MULTILINE) and "completed   2\n" in shown
    assert re.search(r"^on_success +enqueued \S+$", shown, re.MULTILINE) and 'meta        {"a": [1]}' in shown
    assert cli.json("batch", "get", "b") == api.get("/v1/batches/b")
    table = cli.run("batch", "list").out.splitlines()
    assert re.fullmatch(r"ID +AGE +CLOSED +JOBS +PENDING +DEAD +ON SUCCESS +ON FINISH", table[0])
    assert re.fullmatch(r"b +\S+ +\S+ +2 +0 +0 +enqueued +enqueued", table[1])
    cli.run("batch", "new", "--id", "left", *callbacks)
    assert cli.json("batch", "list", "--state", "open") == api.get("/v1/batches?state=open")
    first = cli.run("batch", "list", "--limit", "1")
    assert "left " in first.out and "1 batch, and there are more" in first.err
    assert [batch["id"] for batch in cli.json("batch", "list", "--limit", "1", "--all")["items"]] == ["left", "b"]
    assert cli.run("batch", "list", "--state", "closed").err == "no such batches\n"
    cli.run("batch", "list", "--state", "odd", expect=2)
    assert cli.run("batch", "rm", "b").out == "b is forgotten\n"
    for command in ("jobs", "retry", "cancel"):
        assert cli.run(command, "--batch", "b", expect=1).err.startswith("workmill: batch_not_found"), command
    assert cli.run("batch", "get", "b", expect=1).err.startswith("workmill: batch_not_found")
    assert cli.run("batch", "new", "--on-finish", "report", expect=1).err.startswith("workmill: malformed_json")
    cli.run("batch", "new", expect=1)




@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="needs curl and jq")
def test_the_guide_works_as_pasted(start, tmp_path):
    server = start()
    text = (ROOT / "docs/guides/batches.md").read_text()
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    said = [paste(block, server, tmp_path) for block in blocks]
    api = server.api()
    assert [job["type"] for job in api.jobs(queue="import", state="completed")] != []
    batch = api.get("/v1/batches/import-7")
    assert json.loads(said[-1]) == batch
    assert states(batch) == {"on_success": "enqueued", "on_finish": "enqueued"}
    types = {name: api.job(batch[name]["job"])["type"] for name in ("on_success", "on_finish")}
    assert types == {"on_success": "import.publish", "on_finish": "import.report"}
