"""Jobs: sent, read, listed, changed, cancelled, retried, forgotten."""

import base64
import json
import time

import pytest

from harness import RFC3339_UTC_MS, UUID_V7, Background, Raw, eventually, request_bytes, seconds_of

# ---- Enqueue and read back.


def test_a_job_needs_only_a_type(api):
    made = api.post("/v1/jobs", {"type": "thumbnail"}, expect=201)

    assert made["state"] == "ready"
    assert made["duplicate"] is False
    job = api.job(made["id"])
    assert (job["type"], job["queue"], job["state"]) == ("thumbnail", "default", "ready")
    assert job["priority"] == 5
    assert job["max_attempts"] == 20
    assert job["attempt"] == 0
    assert job["backoff"] == {"first": "15s", "factor": 2.0, "cap": "1h", "jitter": 0.2}
    assert job["lease"] in ("60s", "1m")  # Two ways to write one duration.
    assert job["keep_result"] == "1h"


def test_a_job_is_read_back_as_it_was_sent(api):
    sent = {
        "type": "invoice",
        "queue": api.queue,
        "payload": {"n": [1, 2.5, None, True], "text": 'grüße\n"\\ \u0001'},
        "id": f"{api.queue}:mine",
        "priority": 7,
        "delay": "30s",
        "expires_in": "1h",
        "max_attempts": 3,
        "backoff": {"first": "250ms", "factor": 1.5, "cap": "10m", "jitter": 0.5},
        "lease": "90s",
        "unique": {"key": "invoice-42 ü", "while": "queued", "for": "2h"},
        "group": "tenant-7",
        "tags": ["nightly", "b"],
        "keep_result": "1h30m",
        "meta": {"user": "u1", "deep": {"a": [1]}},
    }
    before = time.time()

    id = api.post("/v1/jobs", sent, expect=201)["id"]

    assert id == sent["id"]
    job = api.job(id)
    for field in (
        "type",
        "queue",
        "payload",
        "id",
        "priority",
        "expires_in",
        "max_attempts",
        "backoff",
        "unique",
        "group",
        "tags",
        "keep_result",
        "meta",
    ):
        assert job[field] == sent[field], field
    assert job["lease"] == "1m30s"
    assert job["state"] == "scheduled"
    assert before - 1 <= seconds_of(job["created_at"]) <= time.time() + 1
    assert 29.9 <= seconds_of(job["ready_at"]) - seconds_of(job["created_at"]) <= 30.1


@pytest.mark.parametrize(
    "payload",
    [
        "null",
        "false",
        "0",
        "-0.5e-3",
        '""',
        "[]",
        "{}",
        '"\\u0000\\ud83d\\ude00"',
        '{"a":{"b":[[],{}]}}',
        "123456789012345678901234567890",
        "0.10",
        '{"same":1,"same":2}',
    ],
)
def test_a_json_payload_reaches_the_worker_unchanged(api, payload):
    body = f'{{"type": "test", "queue": "{api.queue}", "payload": {payload}}}'
    api.call("POST", "/v1/jobs", data=body.encode(), expect=201)

    answer = api.call("POST", "/v1/leases", {"queues": [api.queue]}, expect=200)

    assert f'"payload":{payload}'.encode() in answer.body.replace(b'"payload": ', b'"payload":'), answer


def test_raw_bytes_travel_as_base64(api):
    raw = bytes(range(256))
    text = base64.b64encode(raw).decode()

    id = api.enqueue_id(payload_base64=text)

    assert api.job(id)["payload_base64"] == text
    assert "payload" not in api.job(id)
    leased = api.lease_one()
    assert base64.b64decode(leased["payload_base64"]) == raw


def test_a_large_payload_comes_back_whole(api):
    payload = {"text": "x" * 300_000, "numbers": list(range(20_000))}
    id = api.enqueue_id(payload=payload)

    assert api.job(id)["payload"] == payload
    assert api.lease_one()["payload"] == payload


def test_ids_are_uuid7_and_sort_by_the_time_of_their_making(api):
    ids = [api.enqueue_id() for _ in range(20)]
    ids += [job["id"] for job in api.enqueue_many([{}] * 200)]

    assert all(UUID_V7.fullmatch(id) for id in ids)
    assert ids == sorted(ids)
    assert len(set(ids)) == len(ids)
    made_at = int(ids[-1].replace("-", "")[:12], 16) / 1000
    assert abs(made_at - time.time()) < 60
    assert abs(made_at - seconds_of(api.job(ids[-1])["created_at"])) < 0.01


def test_a_job_sent_again_under_its_own_id_is_a_duplicate(api):
    first = api.enqueue(id=f"{api.queue}.order-1", payload=1)

    again = api.enqueue(id=f"{api.queue}.order-1", payload=2)

    assert first == {"id": f"{api.queue}.order-1", "state": "ready", "duplicate": False}
    assert again == {"id": f"{api.queue}.order-1", "state": "ready", "duplicate": True}
    assert api.job(first["id"])["payload"] == 1
    assert api.depth()["ready"] == 1


def test_an_id_that_looks_like_one_of_ours_may_be_brought_by_a_client(api):
    id = "0192f0c4-7e1a-7b3c-8d4e-" + f"{abs(hash(api.queue)) % 16**12:012x}"

    assert api.enqueue(id=id)["id"] == id
    assert api.job(id)["id"] == id
    assert api.lease_one()["id"] == id


def test_many_jobs_are_taken_in_one_request_and_answered_in_order(api):
    sent = [{"payload": n, "priority": n % 10} for n in range(10_000)]

    answers = api.enqueue_many(sent)

    assert len(answers) == 10_000
    assert len({job["id"] for job in answers}) == 10_000
    for n in (0, 1, 4_999, 9_999):
        assert api.job(answers[n]["id"])["payload"] == n
    assert api.depth()["ready"] == 10_000


def test_of_many_jobs_all_are_taken_or_none(api):
    jobs = [api.job_as_sent({}) for _ in range(5)]
    jobs[3]["priority"] = 10

    api.refused("POST", "/v1/jobs", {"jobs": jobs}, code="invalid_field", field="jobs[3].priority")

    assert api.jobs(queue=api.queue) == []


def test_more_jobs_than_a_request_may_hold_are_refused(api):
    jobs = [{"type": "t", "queue": api.queue}] * 10_001
    api.refused("POST", "/v1/jobs", {"jobs": jobs}, code="invalid_field", field="jobs")
    assert api.jobs(queue=api.queue) == []


def test_an_unknown_job_is_not_found(api):
    for path in ("/v1/jobs/nope", "/v1/jobs/0192f0c4-7e1a-7b3c-8d4e-000000000000", "/v1/jobs/nope/log"):
        api.refused("GET", path, code="job_not_found")
    for path in ("/v1/jobs/nope/cancel", "/v1/jobs/nope/retry"):
        api.refused("POST", path, code="job_not_found")
    api.refused("PATCH", "/v1/jobs/nope", {"priority": 1}, code="job_not_found")
    api.refused("DELETE", "/v1/jobs/nope", code="job_not_found")


# ---- When it runs.


def test_a_delayed_job_becomes_ready_when_its_time_has_come(api):
    made = api.enqueue(delay="200ms")
    assert made["state"] == "scheduled"
    job = api.job(made["id"])

    leased = api.lease_one()

    assert leased["id"] == made["id"]
    assert time.time() >= seconds_of(job["ready_at"]) - 0.05  # The clock may be set meanwhile.


def test_run_at_takes_any_zone(api):
    in_an_hour = time.strftime("%Y-%m-%dT%H:%M:%S+02:00", time.gmtime(time.time() + 3 * 3600))
    job = api.job(api.enqueue_id(run_at=in_an_hour))

    assert job["state"] == "scheduled"
    assert abs(seconds_of(job["ready_at"]) - time.time() - 3600) < 5
    assert job["run_at"].endswith("Z")


def test_a_run_at_in_the_past_means_now(api):
    assert api.enqueue(run_at="2020-01-01T00:00:00Z")["state"] == "ready"
    assert api.enqueue(delay="0s")["state"] == "ready"


def test_delay_and_run_at_exclude_each_other(api):
    problem = api.refused(
        "POST", "/v1/jobs", api.job_as_sent({"delay": "1s", "run_at": "2030-01-01T00:00:00Z"}), code="invalid_field"
    )
    assert problem["field"] in ("delay", "run_at")


def test_a_job_nobody_takes_in_time_expires(api):
    id = api.enqueue_id(expires_in="100ms")

    eventually(lambda: api.state(id) == "dead", "the job expires")

    job = api.job(id)
    assert job["error"]["code"] == "expired"
    assert job["attempt"] == 0
    assert api.lease() == []


def test_a_job_that_was_leased_in_time_does_not_expire(api, shared):
    with Raw(shared.port) as worker:  # Waits for it already, so that it is leased at once.
        worker.send(request_bytes("POST", "/v1/leases", {"queues": [api.queue], "wait": "30s"}))
        api.settle()
        id = api.enqueue_id(expires_in="300ms")
        (leased,) = worker.answer().json["jobs"]
    other = api.enqueue_id(expires_in="300ms")
    eventually(lambda: api.state(other) == "dead", "the other job expires")

    api.complete(leased)

    assert api.state(id) == "completed"


# ---- Reading.


def test_a_read_waits_for_the_job_to_finish(api):
    id = api.enqueue_id()
    leased = api.lease_one()
    waiting = Background(api.job, id, wait="30s")
    api.settle()
    assert not waiting.done()

    api.complete(leased, result={"answer": 42})

    job = waiting.result()
    assert (job["state"], job["result"]) == ("completed", {"answer": 42})


def test_a_read_that_has_waited_long_enough_shows_the_job_as_it_is(api):
    id = api.enqueue_id()
    assert api.job(id, wait="50ms")["state"] == "ready"


def test_a_read_of_a_finished_job_does_not_wait(api):
    id = api.enqueue_id()
    api.call("POST", f"/v1/jobs/{id}/cancel", expect=200)
    assert api.job(id, wait="5m")["state"] == "cancelled"


def test_a_job_that_dies_or_is_cancelled_or_deleted_ends_the_wait_for_it(api):
    dying, cancelled, deleted = (api.enqueue_id(max_attempts=1) for _ in range(3))
    waits = [Background(api.call, "GET", f"/v1/jobs/{id}?wait=30s") for id in (dying, cancelled, deleted)]
    api.settle()

    leased = api.lease_one()
    assert leased["id"] == dying
    api.fail(leased)
    api.call("POST", f"/v1/jobs/{cancelled}/cancel", expect=200)
    api.call("DELETE", f"/v1/jobs/{deleted}", expect=(200, 204))

    answers = [wait.result() for wait in waits]
    assert [answer.json["state"] for answer in answers[:2]] == ["dead", "cancelled"]
    assert answers[2].status == 404


@pytest.mark.parametrize("wait", ["soon", "-1s", "1", "", "1s1s", "1y"])
def test_a_wait_that_is_no_duration_is_refused(api, wait):
    id = api.enqueue_id()
    api.refused("GET", f"/v1/jobs/{id}", query={"wait": wait}, code="invalid_field", field="wait")


def test_jobs_are_found_by_what_they_are(api):
    plain = api.enqueue_id(type="plain")
    tagged = api.enqueue_id(type="other", tags=["x", "y"])
    grouped = api.enqueue_id(type="other", group="g1", payload={"needle": "in the hay"})
    api.call("POST", f"/v1/jobs/{plain}/cancel", expect=200)

    def found(**query):
        return {job["id"] for job in api.jobs(queue=api.queue, **query)}

    assert found() == {plain, tagged, grouped}
    assert found(state="cancelled") == {plain}
    assert found(state="ready") == {tagged, grouped}
    assert found(type="other") == {tagged, grouped}
    assert found(tag="y") == {tagged}
    assert found(group="g1") == {grouped}
    assert found(q="in the hay") == {grouped}
    assert found(q=tagged[-20:]) == {tagged}
    assert found(q="plai") == {plain}
    assert found(type="other", tag="z") == set()


def test_a_job_is_found_by_the_text_of_its_error(api):
    id = api.enqueue_id(max_attempts=1)
    api.enqueue_id()
    api.fail(api.lease_one(), message="connection to the moon refused")

    assert [job["id"] for job in api.jobs(queue=api.queue, q="to the moon")] == [id]


def test_a_page_holds_fifty_and_leads_to_the_next(api):
    made = [job["id"] for job in api.enqueue_many([{"payload": n} for n in range(230)])]
    pages, cursor = [], None

    while True:
        page = api.get("/v1/jobs", query={"queue": api.queue, **({"cursor": cursor} if cursor else {})})
        pages.append([job["id"] for job in page["items"]])
        if len(pages) == 2:  # What comes meanwhile upsets nothing.
            api.enqueue_many([{}] * 10)
        cursor = page["next"]
        if cursor is None:
            break

    assert [len(page) for page in pages] == [50, 50, 50, 50, 30]
    assert [id for page in pages for id in page] == made[::-1]  # Newest first.


def test_a_page_of_a_rare_kind_of_job_misses_none(api):
    """A filter that looks at many jobs for few still pages through all of them."""
    made = api.enqueue_many([{"tags": ["rare"]} if n % 400 == 7 else {} for n in range(4_000)])
    wanted = [job["id"] for n, job in enumerate(made) if n % 400 == 7]

    found, cursor, pages = [], None, 0
    while pages < 100:
        page = api.get(
            "/v1/jobs", query={"queue": api.queue, "tag": "rare", "limit": 3, **({"cursor": cursor} if cursor else {})}
        )
        found += [job["id"] for job in page["items"]]
        cursor, pages = page["next"], pages + 1
        if cursor is None:
            break

    assert found == wanted[::-1]


@pytest.mark.parametrize(
    "query, field",
    [
        ({"limit": "0"}, "limit"),
        ({"limit": "1001"}, "limit"),
        ({"limit": "ten"}, "limit"),
        ({"cursor": "!"}, "cursor"),
        ({"cursor": "AAAA"}, "cursor"),
        ({"state": "odd"}, "state"),
    ],
)
def test_a_listing_refuses_what_it_does_not_understand(api, query, field):
    api.refused("GET", "/v1/jobs", query=query, code="invalid_field", field=field)


def test_a_listing_refuses_unknown_parameters_by_name(api):
    api.refused("GET", "/v1/jobs", query={"stat": "ready"}, code="unknown_field", field="stat")


# ---- Cancel, retry, change, forget.


def test_a_job_that_nobody_runs_is_cancelled_at_once(api):
    ready, scheduled = api.enqueue_id(), api.enqueue_id(delay="1h")

    for id in (ready, scheduled):
        api.call("POST", f"/v1/jobs/{id}/cancel", expect=200)
        assert api.state(id) == "cancelled"
        assert RFC3339_UTC_MS.fullmatch(api.job(id)["finished_at"])

    assert api.lease() == []
    assert api.depth()["cancelled"] == 2


def test_a_finished_job_cannot_be_cancelled(api):
    id = api.enqueue_id()
    api.complete(api.lease_one())

    api.refused("POST", f"/v1/jobs/{id}/cancel", code="wrong_state")

    assert api.state(id) == "completed"


def test_cancelling_a_leased_job_lets_its_report_decide(api):
    id = api.enqueue_id()
    leased = api.lease_one()

    api.call("POST", f"/v1/jobs/{id}/cancel", expect=(200, 202))
    assert api.state(id) == "leased"
    answer = api.report_ok(leased, "progress", percent=50)
    assert answer["cancel_requested"] is True  # How a worker without a stream learns of it.
    api.complete(leased, result="done all the same")

    assert api.job(id)["state"] == "completed"


def test_a_cancelled_job_that_fails_is_not_tried_again(api):
    failed, released = api.enqueue_id(priority=9), api.enqueue_id()
    leases = [api.lease_one(), api.lease_one()]
    for id in (failed, released):
        api.call("POST", f"/v1/jobs/{id}/cancel", expect=(200, 202))

    api.fail(leases[0])
    api.report_ok(leases[1], "released")

    assert [api.state(id) for id in (failed, released)] == ["cancelled", "cancelled"]


def test_a_dead_job_is_retried_with_its_attempts_counted_anew(api):
    id = api.enqueue_id(max_attempts=1)
    api.fail(api.lease_one())
    assert api.state(id) == "dead"

    api.call("POST", f"/v1/jobs/{id}/retry", expect=200)

    assert api.state(id) == "ready"
    leased = api.lease_one()
    assert (leased["id"], leased["attempt"]) == (id, 1)


def test_a_cancelled_and_a_scheduled_job_can_be_made_ready(api):
    cancelled, scheduled = api.enqueue_id(), api.enqueue_id(delay="1h")
    api.call("POST", f"/v1/jobs/{cancelled}/cancel", expect=200)

    for id in (cancelled, scheduled):
        api.call("POST", f"/v1/jobs/{id}/retry", expect=200)

    assert {job["id"] for job in api.lease(max=5)} == {cancelled, scheduled}


def test_a_job_that_is_ready_or_leased_or_completed_is_not_retried(api):
    id = api.enqueue_id()
    api.refused("POST", f"/v1/jobs/{id}/retry", code="wrong_state")
    leased = api.lease_one()
    problem = api.call("POST", f"/v1/jobs/{id}/retry", expect=409)
    assert problem.code in ("job_leased", "wrong_state")
    api.complete(leased)
    api.refused("POST", f"/v1/jobs/{id}/retry", code="wrong_state")
    assert api.state(id) == "completed"


def test_a_waiting_job_can_be_changed(api):
    api.enqueue_id(priority=6)
    id = api.enqueue_id(priority=1, payload={"kept": 1}, tags=["old"])

    api.call("PATCH", f"/v1/jobs/{id}", {"priority": 9, "tags": ["a", "b"], "max_attempts": 2}, expect=200)

    job = api.job(id)
    assert (job["priority"], job["tags"], job["max_attempts"], job["payload"]) == (9, ["a", "b"], 2, {"kept": 1})
    assert [found["id"] for found in api.jobs(queue=api.queue, tag="b")] == [id]
    assert api.jobs(queue=api.queue, tag="old") == []
    leased = api.lease_one()
    assert (leased["id"], leased["max_attempts"]) == (id, 2)


def test_a_waiting_job_can_be_moved_in_time_and_to_another_queue(api):
    id = api.enqueue_id()
    api.call("PATCH", f"/v1/jobs/{id}", {"run_at": "2050-01-01T00:00:00Z"}, expect=200)
    assert (api.state(id), api.job(id)["ready_at"]) == ("scheduled", "2050-01-01T00:00:00.000Z")

    api.call("PATCH", f"/v1/jobs/{id}", {"run_at": "2001-01-01T00:00:00Z", "queue": api.queue + ".other"}, expect=200)

    assert (api.state(id), api.job(id)["queue"]) == ("ready", api.queue + ".other")
    assert api.lease() == []
    assert api.lease_one(queues=[api.queue + ".other"])["id"] == id


def test_a_changed_job_reaches_a_worker_that_waits_on_its_new_queue(api):
    id = api.enqueue_id()
    waiting = Background(api.lease_one, queues=[api.queue + ".other"])
    api.settle()

    api.call("PATCH", f"/v1/jobs/{id}", {"queue": api.queue + ".other"}, expect=200)

    assert waiting.result()["id"] == id


def test_a_leased_job_is_neither_changed_nor_forgotten(api):
    id = api.enqueue_id(priority=3)
    leased = api.lease_one()

    api.refused("PATCH", f"/v1/jobs/{id}", {"priority": 1}, code="job_leased")
    api.refused("DELETE", f"/v1/jobs/{id}", code="job_leased")

    assert api.job(id)["priority"] == 3
    api.complete(leased)


def test_a_change_names_what_it_does_not_know(api):
    id = api.enqueue_id()
    api.refused("PATCH", f"/v1/jobs/{id}", {"payload": 1}, code="unknown_field", field="payload")
    api.refused("PATCH", f"/v1/jobs/{id}", {"priority": 11}, code="invalid_field", field="priority")
    api.refused("PATCH", f"/v1/jobs/{id}", {"tags": "x"}, code="invalid_field", field="tags")


def test_a_forgotten_job_is_gone(api):
    ready, done = api.enqueue_id(), api.enqueue_id(priority=9)
    api.complete(api.lease_one())

    for id in (ready, done):
        api.call("DELETE", f"/v1/jobs/{id}", expect=(200, 204))
        api.refused("GET", f"/v1/jobs/{id}", code="job_not_found")
        api.refused("DELETE", f"/v1/jobs/{id}", code="job_not_found")

    assert api.lease() == []
    assert sum(api.depth().values()) == 0


def test_many_jobs_are_cancelled_retried_and_forgotten_at_once(api):
    ids = [job["id"] for job in api.enqueue_many([{"tags": ["a" if n % 3 else "b"]} for n in range(3_000)])]

    def bulk(action, **where):
        return api.post("/v1/jobs/bulk", {"action": action, "where": {"queue": api.queue, **where}}, expect=200)[
            "count"
        ]

    assert bulk("cancel", tag="b") == 1_000
    assert api.depth()["cancelled"] == 1_000
    assert bulk("cancel", tag="b") == 0
    assert bulk("retry", state="cancelled") == 1_000
    assert api.depth()["ready"] == 3_000
    assert bulk("delete", tag="a", state="ready") == 2_000
    assert len(api.jobs(queue=api.queue)) == 1_000
    assert not api.exists(ids[1]) and api.exists(ids[0])


def test_a_bulk_deletion_leaves_leased_jobs_alone(api):
    api.enqueue_many([{}] * 5)
    leased = api.lease(max=2)

    count = api.post("/v1/jobs/bulk", {"action": "delete", "where": {"queue": api.queue}}, expect=200)["count"]

    assert count == 3
    for job in leased:
        api.complete(job)


@pytest.mark.parametrize(
    "body, code, field",
    [
        ({"action": "eat", "where": {}}, "invalid_field", "action"),
        ({"where": {}}, "missing_field", "action"),
        ({"action": "retry", "where": {"stat": "dead"}}, "unknown_field", "where.stat"),
        ({"action": "retry", "where": {"state": "odd"}}, "invalid_field", "where.state"),
        ({"action": "retry", "where": {}, "limit": 3}, "unknown_field", "limit"),
    ],
)
def test_a_bulk_action_refuses_what_it_does_not_understand(api, body, code, field):
    api.refused("POST", "/v1/jobs/bulk", body, code=code, field=field)


# ---- Unique.


def test_a_unique_job_stands_for_its_duplicates_until_it_is_finished(api):
    first = api.enqueue(unique={"key": "k"})

    assert api.enqueue(unique={"key": "k"}) == {**first, "duplicate": True}
    leased = api.lease_one()
    assert api.enqueue(unique={"key": "k"}) == {"id": first["id"], "state": "leased", "duplicate": True}
    api.complete(leased)
    second = api.enqueue(unique={"key": "k"})

    assert second["duplicate"] is False
    assert second["id"] != first["id"]


def test_a_unique_job_waits_out_its_retries_as_one(api):
    first = api.enqueue(unique={"key": "k"}, backoff={"first": "1h"})
    api.fail(api.lease_one())

    assert api.enqueue(unique={"key": "k"}) == {"id": first["id"], "state": "scheduled", "duplicate": True}
    api.call("POST", f"/v1/jobs/{first['id']}/cancel", expect=200)
    assert api.enqueue(unique={"key": "k"})["duplicate"] is False


def test_unique_while_queued_ends_with_the_lease(api):
    unique = {"key": "k", "while": "queued"}
    first = api.enqueue(unique=unique)
    assert api.enqueue(unique=unique)["id"] == first["id"]

    api.lease_one()

    assert api.enqueue(unique=unique)["duplicate"] is False


def test_unique_while_scheduled_ends_when_the_job_becomes_ready(api):
    unique = {"key": "k", "while": "scheduled"}
    first = api.enqueue(unique=unique, delay="1h")
    assert api.enqueue(unique=unique, delay="2h")["id"] == first["id"]

    api.call("POST", f"/v1/jobs/{first['id']}/retry", expect=200)

    assert api.state(first["id"]) == "ready"
    assert api.enqueue(unique=unique)["duplicate"] is False


def test_a_unique_key_is_free_again_after_its_time(api):
    unique = {"key": "k", "for": "100ms"}
    first = api.enqueue(unique=unique)

    def another():
        made = api.enqueue(unique=unique)
        return made if not made["duplicate"] else None

    second = eventually(another, "the key is free")

    assert second["id"] != first["id"]
    assert api.state(first["id"]) == "ready"


def test_unique_keys_of_two_queues_do_not_meet(api):
    api.enqueue(unique={"key": "k"})
    assert api.enqueue(unique={"key": "k"}, queue=api.queue + ".other")["duplicate"] is False


def test_a_unique_key_twice_in_one_request_makes_one_job(api):
    answers = api.enqueue_many([{"unique": {"key": "k"}}, {"unique": {"key": "k"}}, {}])

    assert [job["duplicate"] for job in answers] == [False, True, False]
    assert answers[0]["id"] == answers[1]["id"]
    assert api.depth()["ready"] == 2


def test_a_forgotten_unique_job_frees_its_key(api):
    first = api.enqueue_id(unique={"key": "k"})
    api.call("DELETE", f"/v1/jobs/{first}", expect=(200, 204))
    assert api.enqueue(unique={"key": "k"})["duplicate"] is False


# ---- What is kept.


def test_a_result_is_kept_as_long_as_was_asked_and_then_forgotten(api):
    short, long = api.enqueue_id(keep_result="100ms", priority=9), api.enqueue_id(keep_result="1h")
    for _ in range(2):
        api.complete(api.lease_one(), result=[1])

    eventually(lambda: not api.exists(short), "the first result is forgotten")

    assert api.job(long)["result"] == [1]


def test_a_job_shows_what_became_of_it(api):
    id = api.enqueue_id(backoff={"first": "1ms", "jitter": 0})
    api.fail(api.lease_one(worker="first"), code="E1", message="one", detail={"at": "line 1"})
    leased = api.lease_one(worker="second")
    api.report_ok(leased, "progress", percent=40, message="nearly")

    job = api.job(id)
    assert (job["state"], job["attempt"], job["worker"]) == ("leased", 2, "second")
    assert job["progress"]["percent"] == 40
    assert job["progress"]["message"] == "nearly"
    assert job["error"]["code"] == "E1"
    api.complete(leased, result={"pages": 3})

    job = api.job(id)
    assert (job["state"], job["attempt"], job["result"]) == ("completed", 2, {"pages": 3})
    assert len(job["errors"]) == 1
    assert job["errors"][0]["message"] == "one"
    assert job["errors"][0]["class"] == "retryable"
    assert job["errors"][0]["detail"] == {"at": "line 1"}
    times = [seconds_of(job[name]) for name in ("created_at", "started_at", "finished_at")]
    assert times == sorted(times)


def test_the_last_ten_errors_are_kept_newest_first(api):
    id = api.enqueue_id(backoff={"first": "1ms", "jitter": 0, "cap": "1ms"})
    for n in range(12):
        api.fail(api.lease_one(), message=f"error {n}")

    job = api.job(id)

    assert [error["message"] for error in job["errors"]] == [f"error {n}" for n in range(11, 1, -1)]
    assert job["error"] == job["errors"][0]


def test_a_job_keeps_what_its_worker_logged(api):
    id = api.enqueue_id()
    leased = api.lease_one()
    api.report_ok(leased, "log", lines=["one", "zwei ü"])
    api.report_ok(leased, "log", lines=["three"])
    api.complete(leased)

    assert api.get(f"/v1/jobs/{id}/log")["lines"] == ["one", "zwei ü", "three"]


def test_a_job_that_logged_nothing_has_an_empty_log(api):
    assert api.get(f"/v1/jobs/{api.enqueue_id()}/log")["lines"] == []


def test_of_a_long_log_the_newest_lines_are_kept(api):
    id = api.enqueue_id()
    leased = api.lease_one()
    for n in range(30):
        api.report_ok(leased, "log", lines=[f"{n}.{line} " + "x" * 90 for line in range(100)])

    lines = api.get(f"/v1/jobs/{id}/log")["lines"]

    assert lines[-1].startswith("29.99 ")
    assert 32 * 1024 < sum(map(len, lines)) <= 64 * 1024


# ---- Idempotency.


def test_a_request_repeated_under_its_key_gets_the_first_answer(api):
    body = api.job_as_sent({"payload": 1})
    headers = {"Idempotency-Key": f'"{api.queue}-1"'}
    first = api.call("POST", "/v1/jobs", body, headers=headers, expect=201)
    api.complete(api.lease_one())

    again = api.call("POST", "/v1/jobs", body, headers=headers, expect=201)

    assert again.json == first.json
    assert sum(api.depth().values()) == 1
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"


def test_a_key_means_the_same_with_and_without_quotes(api):
    body = api.job_as_sent({})
    first = api.call("POST", "/v1/jobs", body, headers={"Idempotency-Key": f'"{api.queue}"'}, expect=201)
    again = api.call("POST", "/v1/jobs", body, headers={"Idempotency-Key": api.queue}, expect=201)
    assert again.json == first.json


def test_a_key_used_for_another_body_is_refused(api):
    headers = {"Idempotency-Key": f"{api.queue}-1"}
    api.call("POST", "/v1/jobs", api.job_as_sent({"payload": 1}), headers=headers, expect=201)

    answer = api.call("POST", "/v1/jobs", api.job_as_sent({"payload": 2}), headers=headers)

    assert (answer.status, answer.code) == (422, "idempotency_key_reused")
    assert api.depth()["ready"] == 1


def test_a_refused_request_does_not_use_up_its_key(api):
    headers = {"Idempotency-Key": f"{api.queue}-1"}
    api.refused("POST", "/v1/jobs", api.job_as_sent({"priority": 10}), headers=headers, code="invalid_field")
    api.call("POST", "/v1/jobs", api.job_as_sent({"priority": 9}), headers=headers, expect=201)


def test_many_jobs_under_one_key_are_made_once(api):
    body = {"jobs": [api.job_as_sent({"payload": n}) for n in range(100)]}
    headers = {"Idempotency-Key": api.queue}
    first = api.post("/v1/jobs", body, headers=headers)
    assert api.post("/v1/jobs", body, headers=headers) == first
    assert api.depth()["ready"] == 100


def test_concurrent_requests_under_one_key_make_one_job(api):
    body = api.job_as_sent({"payload": 1})
    calls = [Background(api.call, "POST", "/v1/jobs", body, headers={"Idempotency-Key": api.queue}) for _ in range(8)]
    answers = [call.result() for call in calls]

    assert all(answer.status in (201, 409) for answer in answers)
    assert len({answer.json["id"] for answer in answers if answer.status == 201}) == 1
    assert api.depth()["ready"] == 1


@pytest.mark.parametrize("key", ["", '""', "x" * 300])
def test_a_key_that_is_empty_or_too_long_is_refused(api, key):
    api.refused(
        "POST",
        "/v1/jobs",
        api.job_as_sent({}),
        headers={"Idempotency-Key": key},
        code="invalid_field",
        field="Idempotency-Key",
    )
    assert api.jobs(queue=api.queue) == []


def test_beyond_the_keys_that_may_be_remembered_the_oldest_is_forgotten_early(start, config):
    server = start(*config(idempotency_keys_max="2"))
    api = server.api(queue="q")

    def send(key):
        return api.post("/v1/jobs", api.job_as_sent({"payload": key}), headers={"Idempotency-Key": key})["id"]

    first = {key: send(key) for key in "abc"}

    assert send("b") == first["b"] and send("c") == first["c"]
    server.restart()
    assert send("b") == first["b"] and send("c") == first["c"]
    assert send("a") != first["a"]


def test_jobs_answers_and_results_outlive_a_restart(start):
    server = start()
    api = server.api(queue="q")
    body = api.job_as_sent({"payload": {"a": 1}, "id": "mine", "unique": {"key": "u"}, "tags": ["t"]})
    first = api.post("/v1/jobs", body, headers={"Idempotency-Key": "k"})
    done = api.enqueue_id(priority=9)
    leased = api.lease_one()
    api.report_ok(leased, "log", lines=["a line"])
    api.complete(leased, result={"r": [1, 2]})
    later = api.enqueue_id(delay="1h")
    before = {id: json.dumps(api.job(id), sort_keys=True) for id in ("mine", done, later)}

    server.restart()

    assert {id: json.dumps(api.job(id), sort_keys=True) for id in before} == before
    assert api.get(f"/v1/jobs/{done}/log")["lines"] == ["a line"]
    assert api.post("/v1/jobs", body, headers={"Idempotency-Key": "k"}) == first
    assert api.enqueue(unique={"key": "u"})["id"] == "mine"
    assert api.lease_one()["id"] == "mine"
