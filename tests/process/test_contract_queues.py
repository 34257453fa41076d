"""Queues: made on first use, looked at, paused, bounded, purged."""

import time

import pytest

from harness import Background, seconds_of


def test_a_queue_is_made_by_its_first_job(api):
    api.refused("GET", f"/v1/queues/{api.queue}", code="not_found")

    api.enqueue()

    queue = api.get(f"/v1/queues/{api.queue}")
    assert queue["name"] == api.queue
    assert queue["paused"] is False
    assert queue["depth"] == {"scheduled": 0, "ready": 1, "leased": 0, "completed": 0, "dead": 0, "cancelled": 0}
    assert {"oldest_ready_at", "rates", "settings"} <= set(queue)


def test_a_queue_counts_its_jobs_by_state(api):
    api.enqueue_many([{"max_attempts": 1}] * 6 + [{"delay": "1h"}])
    jobs = api.lease(max=4)
    api.complete(jobs[0])
    api.fail(jobs[1])
    api.report_ok(jobs[2], "released")
    api.call("POST", f"/v1/jobs/{api.jobs(queue=api.queue, state='ready')[0]['id']}/cancel", expect=200)

    assert api.depth() == {"scheduled": 1, "ready": 2, "leased": 1, "completed": 1, "dead": 1, "cancelled": 1}


def test_a_queue_tells_how_long_its_first_job_has_waited(api):
    before = time.time()
    api.enqueue()
    api.enqueue()
    at = seconds_of(api.get(f"/v1/queues/{api.queue}")["oldest_ready_at"])
    assert before - 1 <= at <= time.time() + 1

    api.lease(max=2)

    assert api.get(f"/v1/queues/{api.queue}")["oldest_ready_at"] is None


def test_queues_are_listed_page_by_page(api):
    names = [f"{api.queue}.{n:03}" for n in range(120)]
    api.enqueue_many([{"queue": name} for name in names])

    found, cursor = [], None
    while True:
        page = api.get("/v1/queues", query={"limit": 50, **({"cursor": cursor} if cursor else {})})
        assert len(page["items"]) <= 50
        found += [queue["name"] for queue in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break

    assert len(found) == len(set(found))
    assert [name for name in found if name.startswith(api.queue + ".")] == names


def test_a_paused_queue_gives_no_jobs_and_takes_all_else(api):
    api.enqueue()
    held = api.lease_one()
    changed = api.call("PATCH", f"/v1/queues/{api.queue}", {"paused": True}, expect=200).json
    assert changed["paused"] is True

    id = api.enqueue_id()
    assert api.lease() == []
    assert api.lease(wait="50ms") == []
    api.complete(held)
    assert api.state(id) == "ready"

    api.call("PATCH", f"/v1/queues/{api.queue}", {"paused": False}, expect=200)
    assert api.lease_one()["id"] == id


def test_resuming_a_queue_serves_those_who_wait(api):
    api.enqueue()
    api.call("PATCH", f"/v1/queues/{api.queue}", {"paused": True}, expect=200)
    waiting = Background(api.lease_one)
    api.settle()

    api.call("PATCH", f"/v1/queues/{api.queue}", {"paused": False}, expect=200)

    waiting.result()


def test_a_paused_queue_does_not_hold_up_another(api):
    api.enqueue()
    api.call("PATCH", f"/v1/queues/{api.queue}", {"paused": True}, expect=200)
    other = api.enqueue_id(queue=api.queue + ".other")

    assert api.lease_one(queues=[api.queue, api.queue + ".other"])["id"] == other


def test_a_queue_can_be_set_up_before_its_first_job(api):
    api.call("PATCH", f"/v1/queues/{api.queue}", {"paused": True, "max_depth": 10}, expect=200)

    queue = api.get(f"/v1/queues/{api.queue}")

    assert queue["paused"] is True
    assert queue["settings"]["max_depth"] == 10


def test_a_full_queue_refuses_politely(api):
    api.call("PATCH", f"/v1/queues/{api.queue}", {"max_depth": 3, "when_full": "refuse"}, expect=200)
    api.enqueue_many([{}, {"delay": "1h"}])

    problem = api.refused("POST", "/v1/jobs", {"jobs": [api.job_as_sent({}) for _ in range(2)]}, code="queue_full")
    assert problem["class"] == "retryable"
    assert sum(api.depth().values()) == 2  # All or none.
    api.enqueue()
    answer = api.call("POST", "/v1/jobs", api.job_as_sent({}))
    assert answer.code == "queue_full"
    assert int(answer.headers["Retry-After"]) > 0

    api.complete(api.lease_one())
    api.enqueue()


def test_a_duplicate_finds_room_in_a_full_queue(api):
    """It adds nothing."""
    api.call("PATCH", f"/v1/queues/{api.queue}", {"max_depth": 1}, expect=200)
    first = api.enqueue(unique={"key": "k"})
    assert api.enqueue(unique={"key": "k"}) == {**first, "duplicate": True}


def test_a_full_queue_may_drop_its_oldest_job_instead(api):
    api.call("PATCH", f"/v1/queues/{api.queue}", {"max_depth": 2, "when_full": "drop_oldest"}, expect=200)
    important, old, new = api.enqueue_id(priority=9), api.enqueue_id(), api.enqueue_id()

    assert [api.state(id) for id in (important, old, new)] == ["ready", "cancelled", "ready"]
    assert [job["id"] for job in api.lease(max=5)] == [important, new]


def test_a_limit_of_depth_can_be_lifted(api):
    api.call("PATCH", f"/v1/queues/{api.queue}", {"max_depth": 1}, expect=200)
    api.enqueue()
    api.call("PATCH", f"/v1/queues/{api.queue}", {"max_depth": None}, expect=200)
    api.enqueue()
    assert api.depth()["ready"] == 2


@pytest.mark.parametrize(
    "body, code, field",
    [
        ({"pausd": True}, "unknown_field", "pausd"),
        ({"paused": "yes"}, "invalid_field", "paused"),
        ({"max_depth": -1}, "invalid_field", "max_depth"),
        ({"max_depth": 1.5}, "invalid_field", "max_depth"),
        ({"when_full": "explode"}, "invalid_field", "when_full"),
    ],
)
def test_settings_that_make_no_sense_are_refused(api, body, code, field):
    api.enqueue()
    before = api.get(f"/v1/queues/{api.queue}")["settings"]
    api.refused(
        "PATCH",
        f"/v1/queues/{api.queue}",
        {"paused": True, **body} if "paused" not in body else body,
        code=code,
        field=field,
    )
    queue = api.get(f"/v1/queues/{api.queue}")
    assert (queue["settings"], queue["paused"]) == (before, False)


def test_a_queue_has_a_proper_name(api):
    for name in ("a%20b", "x" * 129, "%C3%BC"):
        problem = api.call("PATCH", f"/v1/queues/{name}", {"paused": True})
        assert problem.code in ("invalid_field", "not_found") and problem.json["class"] == "user"


def test_a_purge_empties_a_queue_of_one_state(api):
    api.enqueue_many([{}] * 5 + [{"delay": "1h"}] * 3)
    api.complete(api.lease_one())

    def purge(**query):
        return api.call("DELETE", f"/v1/queues/{api.queue}/jobs", query=query, expect=200).json["count"]

    assert purge(state="scheduled") == 3
    assert purge(state="dead") == 0
    assert purge(state="completed") == 1
    assert api.depth()["ready"] == 4
    assert purge() == 4
    assert sum(api.depth().values()) == 0


def test_a_purge_leaves_leased_jobs_to_their_workers(api):
    api.enqueue_many([{}] * 2_500)
    held = api.lease_one()

    count = api.call("DELETE", f"/v1/queues/{api.queue}/jobs", expect=200).json["count"]

    assert count == 2_499
    api.complete(held)
    api.refused("DELETE", f"/v1/queues/{api.queue}/jobs", query={"state": "odd"}, code="invalid_field", field="state")


def test_settings_and_counts_outlive_a_restart(start):
    server = start()
    api = server.api(queue="q")
    api.call("PATCH", "/v1/queues/q", {"paused": True, "max_depth": 5, "when_full": "drop_oldest"}, expect=200)
    api.enqueue_many([{}] * 3 + [{"delay": "1h"}])
    before = api.get("/v1/queues/q")
    server.kill()

    server.start()

    after = api.get("/v1/queues/q")
    for field in ("name", "paused", "depth", "settings", "oldest_ready_at"):
        assert after[field] == before[field], field
    assert api.lease() == []
