"""More than the server lets in: who is refused, how, and that nothing happened by it. And bounds of connections and polls."""

import pytest

from harness import Background, Raw, eventually, request_bytes

JOB = {"type": "t", "queue": "adm"}


@pytest.fixture
def narrow(start, config):
    """A server that lets in one request at a time and is quick to refuse the next."""
    return start(*config(in_flight_min="1", in_flight_max="1"))


def crowd(server, *requests):
    """The answers to requests that come in one piece, and so before any of them is answered."""
    with Raw(server.port) as raw:
        raw.send(b"".join(requests))
        return [raw.answer() for _ in requests]


def refused(server, *requests):
    """The same, of a time when one was refused: the kernel may hand over a piece in pieces."""

    def once():
        answers = crowd(server, *requests)
        return answers if any(answer.status in (429, 503) for answer in answers) else None

    return eventually(once, "something is refused")


def test_of_requests_that_come_together_more_than_the_limit_are_refused_and_the_connection_goes_on(narrow):
    answers = refused(narrow, *[request_bytes("POST", "/v1/jobs", JOB)] * 5, request_bytes("GET", "/healthz"))

    assert {answer.status for answer in answers} == {200, 201, 503}
    assert answers[-1].status == 200
    problem = next(answer for answer in answers if answer.status == 503)
    assert problem.code == "overloaded" and int(problem.headers["Retry-After"]) >= 1
    assert "Connection" not in problem.headers


def test_what_is_refused_did_not_happen_and_what_is_not_did(narrow):
    api = narrow.api(queue="adm")
    taken = 0
    for _ in range(20):
        answers = crowd(narrow, *[request_bytes("POST", "/v1/jobs", JOB)] * 8)
        taken += sum(answer.status == 201 for answer in answers)

    assert 20 <= taken < 160
    assert api.depth()["ready"] == taken


def test_reports_pass_while_new_jobs_are_refused(narrow):
    api = narrow.api(queue="adm")
    jobs = []
    for _ in range(6):
        api.enqueue()
        jobs.append(api.lease_one())
    reports = [
        request_bytes("POST", "/v1/reports", {"reports": [{"id": j["id"], "lease": j["lease"], "outcome": "completed"}]})
        for j in jobs
    ]
    answers = refused(narrow, *[request_bytes("POST", "/v1/jobs", JOB)] * 3, *reports, request_bytes("GET", "/v1/status"))

    assert [answer.status for answer in answers[3:]] == [200] * 7


def test_switched_off_nobody_is_refused(start, config, tmp_path):
    path = tmp_path / "off.toml"
    path.write_text("admission = false\nin_flight_min = 1\nin_flight_max = 1\n")
    answers = crowd(start("--config", str(path)), *[request_bytes("POST", "/v1/jobs", JOB)] * 20)

    assert {answer.status for answer in answers} == {201}


def test_a_request_whose_time_is_over_when_its_turn_comes_is_not_decided(start, config):
    running = start(*config(io_threads="2", admission="false"))
    api = running.api(queue="adm")
    many = {"jobs": [{"type": "t", "queue": "many", "payload": "x" * 100}] * 10_000}
    late = request_bytes("POST", "/v1/jobs", JOB, headers=["Request-Timeout: 0.001"])

    def once():  # The shard's thread decides many for longer than that, while the other takes the next request.
        first, second = crowd(running, request_bytes("POST", "/v1/jobs", many), late)
        assert first.status == 201
        return second if second.status != 201 else None

    answer = eventually(once, "it came too late")

    assert answer.status == 504 and answer.code == "deadline_exceeded"
    before = api.depth()["ready"] if "adm" in {q["name"] for q in api.get("/v1/queues")["items"]} else 0
    assert api.enqueue(headers={"Request-Timeout": "30"})
    assert api.depth()["ready"] == before + 1


def test_a_long_poll_ends_when_its_client_gives_up(api):
    assert api.call("POST", "/v1/leases", {"queues": [api.queue], "wait": "60s"}, headers={"Request-Timeout": "0.2"},
                    expect=200).json["jobs"] == []


def test_connections_of_one_address_have_a_bound(start, config):
    running = start(*config(connections_per_address_max="3"))

    def once():
        held = [Raw(running.port) for _ in range(5)]  # Those that asked whether it is ready may still be open, too.
        try:
            answers = [raw.send(request_bytes("GET", "/healthz")).answer() for raw in held]
            return answers if answers[0].status == 200 and answers[4].status == 429 else None
        finally:
            for raw in held:
                raw.socket.close()

    answers = eventually(once, "the first is served and the last is not")

    assert answers[4].code == "too_many_requests" and answers[4].headers["Connection"] == "close"


def test_long_polls_have_a_bound_and_a_metric(start, config):
    running = start(*config(waiters_max="1"))
    api = running.api(queue="adm")
    waiting = Background(api.lease, wait="30s")
    eventually(lambda: bound(api, "waiters")["used"] == 1, "one waits")

    assert api.lease(wait="30s") == []  # At once: there is no room to wait in.
    assert bound(api, "waiters")["limit"] == 1
    api.enqueue()
    assert len(waiting.result()) == 1


def test_the_bounds_of_the_front_end_are_shown_with_how_full_they_are(api):
    for name in ("http_connections", "http_connections_of_one_address", "http_in_flight", "http_buffered_bytes"):
        assert 0 <= bound(api, name)["used"] <= bound(api, name)["limit"]


def bound(api, name):
    return next(each for each in api.get("/v1/status")["bounds"] if each["name"] == name)
