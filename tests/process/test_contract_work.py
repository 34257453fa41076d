"""Leases and reports."""

import time

import pytest

from harness import Background, Raw, check_problem, lease_of, request_bytes, seconds_of

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


# ---- What a worker is given.


def test_a_leased_job_carries_what_its_worker_needs(api):
    id = api.enqueue_id(
        type="resize",
        payload={"w": 1},
        max_attempts=4,
        meta={"user": "u"},
        tags=["t"],
        group="g",
        headers={"traceparent": TRACEPARENT},
    )
    before = time.time()

    job = api.lease_one(worker="host-1")

    assert (job["id"], job["type"], job["queue"], job["payload"]) == (id, "resize", api.queue, {"w": 1})
    assert (job["attempt"], job["max_attempts"], job["meta"]) == (1, 4, {"user": "u"})
    assert job["traceparent"] == TRACEPARENT
    assert isinstance(job["lease"], str) and job["lease"]
    assert before + 59 < seconds_of(job["lease_expires_at"]) < time.time() + 61
    shown = api.job(id)
    assert (shown["state"], shown["attempt"], shown["worker"]) == ("leased", 1, "host-1")
    assert shown["lease"] in ("60s", "1m")  # The duration; the token is its worker's secret.


@pytest.mark.parametrize(
    "header",
    [
        "nonsense",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        TRACEPARENT.upper(),
    ],
)
def test_an_invalid_traceparent_is_ignored(api, header):
    api.enqueue(headers={"traceparent": header})
    assert api.lease_one().get("traceparent") != header


def test_each_job_is_leased_once(api):
    made = {job["id"] for job in api.enqueue_many([{}] * 200)}
    workers = [Background(api.lease, max=30) for _ in range(8)]
    leased = [job["id"] for worker in workers for job in worker.result()]

    assert len(leased) == 200
    assert set(leased) == made
    assert api.lease() == []


def test_no_more_than_max_are_leased(api):
    api.enqueue_many([{}] * 5)
    assert len(api.lease(max=3)) == 3
    assert len(api.lease(max=3)) == 2


def test_a_lease_lasts_as_its_worker_asks_else_as_the_job_says(api):
    api.enqueue_many([{"lease": "10m"}, {"lease": "10m"}])
    now = time.time()
    first, second = api.lease_one(), api.lease_one(lease="5m")
    assert abs(seconds_of(first["lease_expires_at"]) - now - 600) < 5
    assert abs(seconds_of(second["lease_expires_at"]) - now - 300) < 5


# ---- In what order.


def test_jobs_of_one_priority_come_first_in_first_out(api):
    ids = [job["id"] for job in api.enqueue_many([{}] * 50)]
    ids += [api.enqueue_id() for _ in range(5)]
    assert [job["id"] for job in api.lease(max=100)] == ids


def test_higher_priorities_come_first(api):
    order = [5, 0, 9, 3, 9, 1, 8, 2, 7, 4, 6, 0]
    made = api.enqueue_many([{"priority": priority} for priority in order])
    wanted = sorted(range(len(order)), key=lambda n: (-order[n], n))

    assert [job["id"] for job in api.lease(max=100)] == [made[n]["id"] for n in wanted]


def test_groups_take_turns(api):
    made = api.enqueue_many([{"group": "noisy"}] * 6 + [{"group": "quiet"}] * 2 + [{}])
    ids = [job["id"] for job in made]

    order = [ids.index(api.lease_one()["id"]) for _ in range(9)]

    assert [n for n in order if n < 6] == [0, 1, 2, 3, 4, 5]  # First in, first out inside a group.
    assert order.index(6) < 4 and order.index(7) < 7 and order.index(8) < 4  # Nobody waits for all of the noisy one's.


def test_queues_are_served_in_the_order_of_preference(api):
    a, b = api.queue + ".a", api.queue + ".b"
    in_a = [api.enqueue_id(queue=a) for _ in range(2)]
    in_b = [api.enqueue_id(queue=b) for _ in range(2)]

    assert [job["id"] for job in api.lease(max=3, queues=[b, a])] == [*in_b, in_a[0]]
    assert [job["id"] for job in api.lease(max=3, queues=[b, a])] == [in_a[1]]


def test_weighted_queues_share_by_their_weights(api):
    a, b = api.queue + ".a", api.queue + ".b"
    api.enqueue_many([{"queue": a}] * 400 + [{"queue": b}] * 400)

    got = [
        job["queue"]
        for _ in range(10)
        for job in api.lease(max=20, queues=[{"name": a, "weight": 3}, {"name": b, "weight": 1}])
    ]

    assert len(got) == 200
    assert 110 <= got.count(a) <= 190  # 150 of 200, chance allowed for.


# ---- Waiting.


def test_a_waiting_worker_gets_the_next_job_at_once(api):
    waiting = Background(api.lease_one, wait="30s", worker="patient")
    api.settle()
    id = api.enqueue_id(payload="hello")
    job = waiting.result()
    assert (job["id"], job["payload"]) == (id, "hello")


def test_waiting_workers_are_served_in_the_order_they_came(api, shared):
    wait = request_bytes("POST", "/v1/leases", {"queues": [api.queue], "wait": "30s"})
    with Raw(shared.port) as first, Raw(shared.port) as second:
        for worker in (first, second):
            worker.send(wait)
            api.settle()

        one = api.enqueue_id()
        assert [job["id"] for job in first.answer().json["jobs"]] == [one]
        two = api.enqueue_id()
        assert [job["id"] for job in second.answer().json["jobs"]] == [two]


def test_many_waiting_workers_get_one_job_each(api):
    workers = [Background(api.lease_one) for _ in range(10)]
    api.settle()
    made = {job["id"] for job in api.enqueue_many([{}] * 10)}
    assert {worker.result()["id"] for worker in workers} == made


def test_a_worker_waits_on_several_queues(api):
    a, b = api.queue + ".a", api.queue + ".b"
    waiting = Background(api.lease_one, queues=[a, b])
    api.settle()
    assert waiting.result is not None
    id = api.enqueue_id(queue=b)
    assert waiting.result()["id"] == id


def test_a_waiting_worker_gets_a_job_whose_time_has_come(api):
    id = api.enqueue_id(delay="150ms")
    assert api.lease_one(wait="30s")["id"] == id


def test_a_waiting_worker_gets_a_job_that_failed_elsewhere(api):
    id = api.enqueue_id()
    leased = api.lease_one()
    waiting = Background(api.lease_one)
    api.settle()
    api.fail(leased, retry_in="10ms")
    assert waiting.result()["id"] == id


def test_nobody_waits_longer_than_asked(api):
    assert api.lease(wait="50ms") == []
    assert api.lease() == []


def test_a_worker_that_went_away_takes_no_job_with_it(api, shared):
    with Raw(shared.port) as gone:
        gone.send(request_bytes("POST", "/v1/leases", {"queues": [api.queue], "wait": "60s"}))
        api.settle()
    api.settle()

    id = api.enqueue_id()

    assert api.lease_one()["id"] == id
    assert api.job(id)["attempt"] == 1


# ---- Completed.


@pytest.mark.parametrize("result", [None, 0, "", [], {"a": [1, {"b": "ü"}]}, "x" * 100_000])
def test_a_result_is_read_back(api, result):
    id = api.enqueue_id()
    api.complete(api.lease_one(), result=result)
    assert api.job(id)["result"] == result


def test_a_job_completed_without_a_result_has_none(api):
    id = api.enqueue_id()
    api.complete(api.lease_one())
    job = api.job(id)
    assert job["state"] == "completed"
    assert job.get("result") is None


def test_reports_are_answered_one_by_one_in_order(api):
    api.enqueue_many([{}] * 3)
    jobs = api.lease(max=3)
    reports = [
        {**lease_of(jobs[0]), "outcome": "completed"},
        {"id": "nope", "lease": jobs[1]["lease"], "outcome": "completed"},
        {**lease_of(jobs[1]), "outcome": "completed", "result": 1},
        {**lease_of(jobs[0]), "outcome": "completed"},
        {**lease_of(jobs[2]), "outcome": "released"},
    ]

    answers = api.post("/v1/reports", {"reports": reports}, expect=200)["reports"]

    assert [answer["id"] for answer in answers] == [report["id"] for report in reports]
    assert [answer["ok"] for answer in answers] == [True, False, True, False, True]
    for answer in (answers[1], answers[3]):
        check_problem(answer["error"])
    assert answers[3]["error"]["code"] == "lease_lost"
    assert [api.state(job["id"]) for job in jobs] == ["completed", "completed", "ready"]


def test_a_thousand_reports_go_in_one_request_and_no_more(api):
    api.enqueue_many([{}] * 1_000)
    jobs = api.lease(max=1_000)
    reports = [{**lease_of(job), "outcome": "completed"} for job in jobs]
    api.refused("POST", "/v1/reports", {"reports": reports + reports[:1]}, code="invalid_field", field="reports")
    assert api.depth()["leased"] == 1_000

    answers = api.post("/v1/reports", {"reports": reports}, expect=200)["reports"]

    assert all(answer["ok"] for answer in answers)
    assert api.depth()["completed"] == 1_000


def test_reports_and_the_next_lease_go_in_one_request(api):
    ids = [job["id"] for job in api.enqueue_many([{}] * 3)]
    first, second = api.lease(max=2)

    answer = api.post(
        "/v1/leases",
        {
            "queues": [api.queue],
            "max": 5,
            "reports": [
                {**lease_of(first), "outcome": "completed", "result": "r"},
                {**lease_of(second), "outcome": "released"},
            ],
        },
        expect=200,
    )

    assert [report["ok"] for report in answer["reports"]] == [True, True]
    assert {job["id"] for job in answer["jobs"]} == {ids[1], ids[2]}  # What was released is there to be had.
    assert api.job(ids[0])["result"] == "r"


def test_reports_that_come_with_a_wait_are_not_kept_waiting(api):
    """They count at once, though the answer to the lease comes later."""
    id = api.enqueue_id()
    leased = api.lease_one()
    waiting = Background(
        api.post,
        "/v1/leases",
        {"queues": [api.queue], "wait": "30s", "reports": [{**lease_of(leased), "outcome": "completed"}]},
    )

    assert api.job(id, wait="20s")["state"] == "completed"
    api.enqueue()

    answer = waiting.result()
    assert answer["reports"][0]["ok"] is True
    assert len(answer["jobs"]) == 1


# ---- Failed.


def test_a_failed_job_runs_again_after_the_backoff(api):
    id = api.enqueue_id(backoff={"first": "40s", "factor": 3, "cap": "1h", "jitter": 0})

    for attempt, wait in ((1, 40), (2, 120), (3, 360)):
        leased = api.lease_one()
        assert leased["attempt"] == attempt
        now = time.time()
        api.fail(leased)
        job = api.job(id)
        assert (job["state"], job["attempt"]) == ("scheduled", attempt)
        assert abs(seconds_of(job["ready_at"]) - now - wait) < 5
        api.call("PATCH", f"/v1/jobs/{id}", {"run_at": "2001-01-01T00:00:00Z"}, expect=200)


def test_the_backoff_is_spread_by_its_jitter_and_ends_at_its_cap(api):
    ids = [job["id"] for job in api.enqueue_many([{"backoff": {"first": "100s", "cap": "100s", "jitter": 0.5}}] * 40)]
    jobs = api.lease(max=40)
    now = time.time()
    for job in jobs:
        api.fail(job)

    waits = [seconds_of(api.job(id)["ready_at"]) - now for id in ids]

    assert all(45 <= wait <= 160 for wait in waits)
    assert max(waits) - min(waits) > 10


def test_a_worker_may_say_when_to_try_again(api):
    id = api.enqueue_id(backoff={"first": "1h"})
    now = time.time()
    api.fail(api.lease_one(), retry_in="2m")
    assert abs(seconds_of(api.job(id)["ready_at"]) - now - 120) < 5


def test_a_job_that_fails_too_often_is_dead(api):
    id = api.enqueue_id(max_attempts=3, backoff={"first": "1ms", "jitter": 0})
    for attempt in (1, 2, 3):
        leased = api.lease_one()
        assert leased["attempt"] == attempt
        api.fail(leased, message=f"failure {attempt}")

    job = api.job(id)
    assert (job["state"], job["attempt"], len(job["errors"])) == ("dead", 3, 3)
    assert job["error"]["message"] == "failure 3"
    assert job["finished_at"]
    assert api.lease() == []


@pytest.mark.parametrize("error_class", ["user", "fatal"])
def test_an_error_that_cannot_be_mended_by_trying_kills_the_job_at_once(api, error_class):
    id = api.enqueue_id()
    api.fail(api.lease_one(), error_class, code="no_such_file", message="it is not there", detail={"path": "/x"})

    job = api.job(id)
    assert (job["state"], job["attempt"]) == ("dead", 1)
    error = job["error"]
    assert (error["class"], error["code"], error["message"]) == (error_class, "no_such_file", "it is not there")
    assert error["detail"] == {"path": "/x"}


def test_a_long_error_text_is_cut_and_does_no_harm(api):
    id = api.enqueue_id(max_attempts=1)
    api.fail(api.lease_one(), message="ü" * 20_000)
    message = api.job(id)["error"]["message"]
    assert set(message) <= {"ü", "…"}
    assert 1_000 < len(message.encode()) <= 8 * 1024 + 8


# ---- Released, extended, progress.


def test_a_released_job_is_ready_again_and_its_attempt_not_counted(api):
    id = api.enqueue_id(max_attempts=1)

    for _ in range(3):
        leased = api.lease_one()
        assert leased["attempt"] == 1
        api.report_ok(leased, "released")
        assert (api.state(id), api.job(id)["attempt"]) == ("ready", 0)


def test_an_extended_lease_lives_on(api):
    api.enqueue_id()
    other = api.enqueue_id()
    long, short = api.lease(max=2, lease="2s")  # Time enough to extend one of them.
    api.report_ok(long, "extend", **{"for": "10m"})

    assert api.lease_one()["id"] == other  # The other lease has run out by now.

    assert abs(seconds_of(api.job(long["id"])["lease_expires_at"]) - time.time() - 600) < 30
    api.complete(long)
    assert api.report(short, "completed")["error"]["code"] == "lease_lost"


def test_progress_is_shown_and_counts_nothing(api):
    id = api.enqueue_id()
    leased = api.lease_one()
    for percent in (0, 50, 100):
        api.report_ok(leased, "progress", percent=percent, message=f"at {percent}")
    assert api.job(id)["progress"]["percent"] == 100
    assert api.state(id) == "leased"
    api.complete(leased)


# ---- Checkpoints.


def test_what_an_attempt_left_is_handed_to_the_next(api):
    id = api.enqueue_id()
    first = api.lease_one()
    assert "checkpoint" not in first
    api.report_ok(first, "checkpoint", data={"row": 1})
    api.report_ok(first, "checkpoint", data={"row": 12.50, "text": "grüße"})
    assert api.job(id)["checkpoint"] == {"row": 12.50, "text": "grüße"}
    api.fail(first, retry_in="0s")

    second = api.lease_one()
    assert (second["id"], second["checkpoint"]) == (id, {"row": 12.50, "text": "grüße"})
    api.report_ok(second, "released")
    third = api.lease_one()
    assert third["checkpoint"] == {"row": 12.50, "text": "grüße"}
    api.complete(third)

    assert "checkpoint" not in api.job(id)


@pytest.mark.parametrize("data", [None, 0, False, "", [], {}, "x" * (1024 * 1024 - 2)])
def test_a_checkpoint_is_any_json_and_is_handed_on_as_it_is(api, data):
    api.enqueue_id()
    leased = api.lease_one(lease="100ms")
    api.report_ok(leased, "checkpoint", data=data)

    again = api.lease_one()  # The lease ran out: nobody reported the end of that attempt.

    assert again["checkpoint"] == data
    api.complete(again)


def test_a_checkpoint_that_is_too_large_is_refused_and_the_one_before_holds(api):
    id = api.enqueue_id()
    leased = api.lease_one()
    api.report_ok(leased, "checkpoint", data=1)
    body = {"reports": [{"id": id, "lease": leased["lease"], "outcome": "checkpoint", "data": "x" * 1024 * 1024}]}
    api.refused("POST", "/v1/reports", body, code="payload_too_large", field="reports[0].data")

    assert api.job(id)["checkpoint"] == 1
    api.complete(leased)


def test_a_dead_job_that_is_retried_goes_on_from_its_checkpoint(api):
    id = api.enqueue_id(max_attempts=1)
    leased = api.lease_one()
    api.report_ok(leased, "checkpoint", data="so far")
    api.fail(leased)
    assert (api.state(id), api.job(id)["checkpoint"]) == ("dead", "so far")
    api.call("POST", f"/v1/jobs/{id}/retry", expect=200)

    again = api.lease_one()

    assert (again["attempt"], again["checkpoint"]) == (1, "so far")
    api.complete(again)


def test_a_checkpoint_rides_on_a_lease_call_like_any_report(api):
    first = api.enqueue_id()
    leased = api.lease_one()
    report = {"id": first, "lease": leased["lease"], "outcome": "checkpoint", "data": [1]}
    answer = api.post("/v1/leases", {"queues": [api.queue], "reports": [report]})

    assert answer["reports"] == [{"id": first, "ok": True}]
    assert api.job(first)["checkpoint"] == [1]
    api.complete(leased)


# ---- The token.


def test_a_lease_that_ran_out_counts_as_an_attempt(api):
    id = api.enqueue_id()
    first = api.lease_one(lease="100ms", worker="lost")

    second = api.lease_one()

    assert (second["id"], second["attempt"]) == (id, 2)
    job = api.job(id)
    assert job["error"]["code"] == "lease_expired"
    assert job["error"]["class"] == "retryable"
    assert len(job["errors"]) == 1
    assert second["lease"] != first["lease"]


def test_a_lease_that_runs_out_at_the_last_attempt_leaves_a_dead_job(api):
    id = api.enqueue_id(max_attempts=1)
    api.lease_one(lease="100ms")

    assert api.job(id, wait="30s")["state"] == "dead"
    assert api.job(id)["error"]["code"] == "lease_expired"


@pytest.mark.parametrize(
    "outcome, fields",
    [
        ("completed", {"result": 1}),
        ("failed", {"error": {"class": "fatal", "code": "x", "message": "m"}}),
        ("extend", {"for": "1m"}),
        ("progress", {"percent": 1}),
        ("log", {"lines": ["x"]}),
        ("checkpoint", {"data": {"row": 1}}),
        ("released", {}),
    ],
)
def test_a_worker_that_lost_its_lease_changes_nothing(api, outcome, fields):
    id = api.enqueue_id()
    late = api.lease_one(lease="100ms")
    current = api.lease_one()
    before = api.job(id)

    answer = api.report(late, outcome, **fields)

    assert answer["ok"] is False
    check_problem(answer["error"])
    assert (answer["error"]["code"], answer["error"]["class"], answer["error"]["status"]) == (
        "lease_lost",
        "fatal",
        409,
    )
    assert api.job(id) == before
    assert api.get(f"/v1/jobs/{id}/log")["lines"] == []
    api.complete(current)


def test_retrying_a_dead_job_does_not_revive_its_old_lease(api):
    id = api.enqueue_id(max_attempts=1)
    old = api.lease_one(lease="100ms")
    assert api.job(id, wait="30s")["state"] == "dead"
    api.call("POST", f"/v1/jobs/{id}/retry", expect=200)

    assert api.report(old, "completed")["error"]["code"] == "lease_lost"
    assert api.state(id) == "ready"


def test_a_report_under_another_jobs_lease_is_refused(api):
    api.enqueue_many([{}] * 2)
    a, b = api.lease(max=2)
    assert api.report({"id": a["id"], "lease": b["lease"]}, "completed")["error"]["code"] == "lease_lost"
    assert [api.state(job["id"]) for job in (a, b)] == ["leased", "leased"]
    api.complete(a)
    api.complete(b)


@pytest.mark.parametrize("token", ["", "0", "0000000000000000", "ffffffffffffffff", "zzzz", "x" * 5_000, "ü"])
def test_an_invented_lease_is_refused(api, token):
    id = api.enqueue_id()
    api.lease_one()
    assert api.report({"id": id, "lease": token}, "completed")["error"]["code"] == "lease_lost"
    assert api.state(id) == "leased"


def test_a_report_on_a_finished_job_is_refused(api):
    id = api.enqueue_id()
    leased = api.lease_one()
    api.complete(leased, result=1)

    for outcome, fields in (("completed", {"result": 2}), ("released", {}), ("extend", {"for": "1m"})):
        assert api.report(leased, outcome, **fields)["error"]["code"] == "lease_lost"

    assert api.job(id)["result"] == 1


def test_a_report_on_a_job_nobody_knows_is_refused(api):
    answer = api.report({"id": "unheard-of", "lease": "0000000000000001"}, "completed")
    assert answer["ok"] is False
    assert answer["error"]["code"] in ("lease_lost", "job_not_found")


def test_a_lease_outlives_a_restart_and_grows_by_the_time_away(start):
    server = start()
    api = server.api(queue="q")
    id = api.enqueue_id()
    held = api.lease_one(lease="30s", worker="w")
    server.kill()

    server.start()

    assert api.state(id) == "leased"
    assert seconds_of(api.job(id)["lease_expires_at"]) >= seconds_of(held["lease_expires_at"])
    assert api.lease() == []
    api.complete(held, result="held over")
    assert api.job(id)["result"] == "held over"


# ---- Requests that make no sense.


@pytest.mark.parametrize(
    "body, code, field",
    [
        ({}, "missing_field", "queues"),
        ({"queues": []}, "invalid_field", "queues"),
        ({"queues": [f"q{n}" for n in range(101)]}, "invalid_field", "queues"),
        ({"queues": ["a", "b", "a"]}, "invalid_field", "queues[2]"),
        ({"queues": "q"}, "invalid_field", "queues"),
        ({"queues": ["a b"]}, "invalid_field", "queues[0]"),
        ({"queues": ["q", {"nam": "q"}]}, "unknown_field", "queues[1].nam"),
        ({"queues": ["q"], "max": 0}, "invalid_field", "max"),
        ({"queues": ["q"], "max": 1_001}, "invalid_field", "max"),
        ({"queues": ["q"], "max": "1"}, "invalid_field", "max"),
        ({"queues": ["q"], "wait": "long"}, "invalid_field", "wait"),
        ({"queues": ["q"], "wait": "6m"}, "invalid_field", "wait"),
        ({"queues": ["q"], "wait": 20}, "invalid_field", "wait"),
        ({"queues": ["q"], "lease": "1ms"}, "invalid_field", "lease"),
        ({"queues": ["q"], "lease": "8d"}, "invalid_field", "lease"),
        ({"queues": ["q"], "worker": "a b"}, "invalid_field", "worker"),
        ({"queues": ["q"], "credit": 1}, "unknown_field", "credit"),
        ([], "invalid_field", None),
    ],
)
def test_a_lease_request_that_makes_no_sense_is_refused(api, body, code, field):
    api.refused("POST", "/v1/leases", body, code=code, field=field)


@pytest.mark.parametrize(
    "change, code, field",
    [
        ({"outcome": "finished"}, "invalid_field", "reports[0].outcome"),
        ({"outcome": None}, "invalid_field", "reports[0].outcome"),
        ({"outcome": "extend"}, "missing_field", "reports[0].for"),
        ({"outcome": "extend", "for": "0s"}, "invalid_field", "reports[0].for"),
        ({"outcome": "progress", "percent": 101}, "invalid_field", "reports[0].percent"),
        ({"outcome": "progress", "percent": -1}, "invalid_field", "reports[0].percent"),
        ({"outcome": "failed"}, "missing_field", "reports[0].error"),
        ({"outcome": "failed", "error": {"class": "odd"}}, "invalid_field", "reports[0].error.class"),
        ({"outcome": "failed", "error": {"class": "user", "wat": 1}}, "unknown_field", "reports[0].error.wat"),
        (
            {"outcome": "failed", "error": {"class": "retryable"}, "retry_in": "-1s"},
            "invalid_field",
            "reports[0].retry_in",
        ),
        ({"outcome": "log", "lines": "one"}, "invalid_field", "reports[0].lines"),
        ({"outcome": "completed", "resul": 1}, "unknown_field", "reports[0].resul"),
        ({"lease": 7}, "invalid_field", "reports[0].lease"),
    ],
)
def test_a_report_that_makes_no_sense_is_refused_and_changes_nothing(api, change, code, field):
    api.enqueue_many([{}] * 2)
    spoilt, good = api.lease(max=2)
    reports = [{**lease_of(spoilt), "outcome": "completed", **change}, {**lease_of(good), "outcome": "completed"}]

    api.refused("POST", "/v1/reports", {"reports": reports}, code=code, field=field)

    assert [api.state(job["id"]) for job in (spoilt, good)] == ["leased", "leased"]


def test_a_report_must_say_which_job_under_which_lease_and_what(api):
    for missing in ("id", "lease", "outcome"):
        report = {"id": "x", "lease": "0000000000000001", "outcome": "completed"}
        del report[missing]
        api.refused("POST", "/v1/reports", {"reports": [report]}, code="missing_field", field=f"reports[0].{missing}")
