"""The shared cache, over real sockets: hits, stale values, flights, failures, restarts, and who may."""

import base64
import json
import re
import time
import urllib.parse

import pytest

from harness import Background, eventually
from streams import Stream
from test_tokens import new_token

MiB = 1 << 20


class Cache:
    """The cache of one server, in few words. Keys begin with a name of this test's own."""

    def __init__(self, api):
        self.api, self.name = api, api.queue

    def path(self, key):
        return "/v1/cache/" + urllib.parse.quote(f"{self.name}/{key}", safe="")

    def get(self, key, expect=200, **options):
        return self.api.call("GET", self.path(key), expect=expect, **options)

    def put(self, key, data, content_type="application/octet-stream", expect=204, **query):
        return self.api.call(
            "PUT", self.path(key), data=data, headers={"Content-Type": content_type}, query=query, expect=expect
        )

    def compute(self, key, expect=200, job=None, **fields):
        job = self.api.job_as_sent(dict(job or {}))
        return self.api.call("POST", self.path(key), {"job": job, **fields}, expect=expect)

    def background(self, key, **fields):
        return Background(self.compute, key, **fields)

    def forget(self, key, expect=204):
        return self.api.call("DELETE", self.path(key), expect=expect)

    def put_stale(self, key, data, **query):
        """A value that is stale already."""
        self.put(key, data, "application/json", fresh="1ms", stale="1h", **query)
        eventually(lambda: ttl(self.get(key)) < 0, "the value is stale")

    def jobs(self):
        return self.api.jobs(queue=self.api.queue)


def status(answer):
    return answer.headers["Cache-Status"]


def ttl(answer):
    return int(re.fullmatch(r"workmill; hit; ttl=(-?\d+)", status(answer)).group(1))


@pytest.fixture
def cache(api):
    return Cache(api)


@pytest.fixture
def settings(tmp_path):
    """settings('cache_volatile = ["v:"]') gives the arguments of a server that has them."""

    def make(text):
        path = tmp_path / "workmill.toml"
        path.write_text(text + "\n")
        return ["--config", str(path)]

    return make


# ---- What is put.


def test_what_was_put_is_there_as_it_was(cache):
    body = bytes(range(256))
    began = time.monotonic()
    etag = cache.put("k", body, "image/x-test", fresh="5m").headers["ETag"]

    got = cache.get("k")
    took = time.monotonic() - began
    assert (got.body, got.headers["Content-Type"], got.headers["ETag"]) == (body, "image/x-test", etag)
    assert 0 <= int(got.headers["Age"]) <= took + 1 and 0 <= ttl(got) <= 300


def test_an_empty_value_is_a_value(cache):
    cache.put("k", b"")
    assert cache.get("k").body == b""


def test_a_value_is_replaced(cache):
    first = cache.put("k", b"1").headers["ETag"]
    second = cache.put("k", b"2").headers["ETag"]
    assert first != second and cache.get("k").body == b"2"
    assert cache.put("k", b"1").headers["ETag"] == first


def test_a_value_that_is_not_there_is_told_so(cache):
    answer = cache.get("k", expect=404)
    assert (answer.code, status(answer)) == ("cache_miss", "workmill; fwd=uri-miss")


def test_a_value_is_gone_when_its_time_is_over(cache):
    cache.put("k", b"1", fresh="1ms")
    eventually(lambda: cache.get("k", expect=(200, 404)).status == 404, "the value is over")


def test_who_has_the_value_is_not_sent_it_again(cache):
    etag = cache.put("k", b"12345").headers["ETag"]
    for tags in (etag, f'"x", W/{etag}', "*"):
        answer = cache.get("k", expect=304, headers={"If-None-Match": tags})
        assert answer.body == b"" and answer.headers["ETag"] == etag and "hit" in status(answer)
    cache.put("k", b"6")
    assert cache.get("k", headers={"If-None-Match": etag}).body == b"6"


def test_keys_are_any_text(cache):
    for key in ("a/b", "ä ö", "%2F", "a?b#c&d=e", "k" * (500 - len(cache.name)), "\U0001f600"):
        cache.put(key, key.encode())
        assert cache.get(key).body == key.encode(), key
    for bad in ("", "%00", "%0A", "%FF", "a" * 513):
        assert cache.api.call("GET", "/v1/cache/" + bad).status in (400, 404, 405), bad


def test_large_values_come_back_whole(cache):
    body = bytes(range(256)) * (8 * MiB // 256)
    cache.put("large", body)
    assert cache.get("large").body == body
    answer = cache.put("larger", body + b"1", expect=413)
    assert answer.code == "payload_too_large"


def test_a_value_that_no_budget_can_hold_is_refused_and_nothing_is_lost_by_it(start, settings):
    server = start(*settings('cache_memory = "1MiB"\ncache_disk = "1MiB"\ncache_volatile = ["q/v"]'))
    cache = Cache(server.api(queue="q"))
    for key in ("small", "k", "v"):
        cache.put(key, b"before", fresh="1h")

    for key, size in (("k", MiB), ("v", 600_000)):
        answer = cache.put(key, b"x" * size, expect=413)
        assert (answer.code, answer.json["field"]) == ("payload_too_large", "value")
        assert cache.get(key).body == b"before"
    assert cache.get("small").body == b"before"
    cache.put("k", b"x" * 1_000_000, fresh="1h")
    server.kill()
    server.start()
    assert cache.get("k").body == b"x" * 1_000_000


def test_a_result_that_no_budget_can_hold_is_given_to_those_who_wait_and_not_kept(start, settings):
    server = start(*settings('cache_disk = "1MiB"'))
    cache = Cache(server.api(queue="q"))
    cache.put("k", b"old", fresh="0s", stale="1h")
    cache.put("small", b"s", fresh="1h")
    assert cache.compute("k", wait="0s").body == b"old"  # Stale: a refresh has begun.
    refresh = eventually(lambda: cache.api.lease(), "the refresh is there")[0]
    large = "x" * MiB
    assert cache.api.report_ok(refresh, "completed", result=large)["not_stored"] == ["q/k"]
    cache.get("k", expect=404)

    asking = cache.background("k")
    job = cache.api.lease_one()
    entries = [{"key": "q/also", "value": large}, {"key": "q/small", "value": "new"}]
    said = cache.api.report_ok(job, "completed", result=large, cache=entries)
    assert said["not_stored"] == ["q/also", "q/k"] and cache.api.state(job["id"]) == "completed"
    answer = asking.result()
    assert (answer.json, status(answer)) == (large, "workmill; fwd=uri-miss")
    cache.get("also", expect=404)
    assert cache.get("small").json == "new"


def test_a_put_that_makes_no_sense_is_refused(cache):
    for query, field in (({"fresh": "x"}, "fresh"), ({"stale": "366d"}, "stale"), ({"tags": "a b"}, "tags[0]")):
        assert cache.put("k", b"1", expect=400, **query).json["field"] == field
    cache.get("k", expect=404)


# ---- Forgetting.


def test_values_are_forgotten_by_key_tag_and_prefix(cache):
    tag = cache.name[-100:]
    for i in range(30):
        cache.put(f"{'even' if i % 2 == 0 else 'odd'}/{i}", b"1", tags=f"{tag},other" if i < 20 else "")
    cache.forget("odd/1")
    cache.forget("odd/1", expect=404)

    assert cache.api.call("DELETE", "/v1/cache", query={"tag": tag}, expect=200).json == {"count": 19}
    cache.get("even/0", expect=404)
    assert cache.get("even/20")
    prefix = f"{cache.name}/even/"
    assert cache.api.call("DELETE", "/v1/cache", query={"prefix": prefix}, expect=200).json == {"count": 5}
    cache.get("even/28", expect=404)
    assert cache.get("odd/29")
    assert cache.api.call("DELETE", "/v1/cache", query={"prefix": prefix}, expect=200).json == {"count": 0}


# ---- Computing.


def test_an_absent_value_is_computed_by_a_worker_and_kept(cache):
    asking = cache.background("k", fresh="5m", job={"payload": {"n": 7}})
    job = cache.api.lease_one()
    assert job["payload"] == {"n": 7}
    cache.api.complete(job, result={"rows": [1, 2]})

    answer = asking.result()
    assert answer.json == {"rows": [1, 2]} and answer.headers["Content-Type"] == "application/json"
    assert status(answer) == "workmill; fwd=uri-miss; stored"
    again = cache.compute("k", fresh="5m")
    assert again.json == {"rows": [1, 2]} and ttl(again) > 0
    assert cache.get("k").headers["ETag"] == answer.headers["ETag"] == again.headers["ETag"]
    assert len(cache.jobs()) == 1


def test_an_absent_value_is_computed_over_a_worker_stream(cache, shared):
    with Stream(shared) as stream:
        stream.subscribe(cache.api.queue, 10)
        asking = cache.background("k")
        stream.reported(stream.jobs(1), result=[True])
        assert asking.result().json == [True]


def test_results_that_are_bytes_or_nothing_are_values_too(cache):
    asking = cache.background("bytes")
    cache.api.complete(cache.api.lease_one(), result_base64="AP8=")
    answer = asking.result()
    assert (answer.body, answer.headers["Content-Type"]) == (b"\x00\xff", "application/octet-stream")
    asking = cache.background("nothing")
    cache.api.complete(cache.api.lease_one())
    assert asking.result().json is None


def test_many_who_ask_for_one_key_are_answered_by_one_job(cache):
    crowd = [cache.background("k", job={"payload": i}) for i in range(40)]
    job = cache.api.lease_one()
    waiting = 'workmill_bound_used{bound="waiters"}'
    eventually(lambda: metric(cache.api, waiting) >= 40, "all of them wait")
    cache.api.complete(job, result=1)

    answers = [each.result() for each in crowd]
    assert {answer.body for answer in answers} == {b"1"}
    collapsed = [answer for answer in answers if status(answer).endswith("; collapsed")]
    assert len(collapsed) == len(answers) - 1
    assert len(cache.jobs()) == 1


def metric(api, name):
    text = api.call("GET", "/metrics", expect=200).body.decode()
    found = re.search("^" + re.escape(name) + r" (\S+)$", text, re.MULTILINE)
    return float(found.group(1)) if found else 0.0


def test_who_has_waited_long_enough_is_told_of_the_job(cache):
    answer = cache.compute("k", wait="0s", expect=202)
    assert answer.json["state"] in ("ready", "scheduled")
    assert answer.headers["Location"] == "/v1/jobs/" + answer.json["job_id"]
    job = cache.api.lease_one()
    assert job["id"] == answer.json["job_id"]
    later = cache.compute("k", wait="1ms", expect=202)
    assert later.json == {"job_id": job["id"], "state": "leased"}

    asking = cache.background("k")
    cache.api.complete(job, result="there")
    assert asking.result().json == "there"
    assert len(cache.jobs()) == 1


def test_a_stale_value_is_served_while_one_job_computes_it_anew(cache):
    cache.put_stale("k", b'"old"')

    answers = [each.result() for each in [cache.background("k", stale="1h") for _ in range(20)]]

    assert {answer.body for answer in answers} == {b'"old"'} and all(ttl(answer) < 0 for answer in answers)
    job = cache.api.lease_one()
    assert cache.compute("k").json == "old"
    cache.api.complete(job, result="new")
    eventually(lambda: cache.get("k").json == "new", "the new value is there")
    assert ttl(cache.get("k")) >= 0
    assert len(cache.jobs()) == 1


def test_an_attempt_that_fails_is_tried_again_and_its_callers_wait(cache):
    asking = cache.background("k", job={"max_attempts": 3, "backoff": {"first": "1ms"}})
    cache.api.fail(cache.api.lease_one())
    job = cache.api.lease_one()
    assert job["attempt"] == 2 and not asking.done()
    cache.api.complete(job, result=2)
    assert asking.result().json == 2


def test_a_failure_is_told_and_not_remembered(cache):
    asking = cache.background("k", expect=502)
    cache.api.fail(cache.api.lease_one(), "fatal", code="no_such_row", message="row 7")

    answer = asking.result()
    assert (answer.code, answer.json["class"]) == ("compute_failed", "fatal")
    assert answer.json["cause"] == {"class": "fatal", "code": "no_such_row", "message": "row 7"}
    assert status(answer) == "workmill; fwd=uri-miss; fwd-status=502"
    asking = cache.background("k")
    cache.api.complete(cache.api.lease_one(), result=1)
    assert asking.result().json == 1


def test_a_failure_is_remembered_for_as_long_as_was_asked(cache):
    asking = cache.background("k", expect=502, error_for="1h")
    cache.api.fail(cache.api.lease_one(), "user")
    asking.result()

    again = cache.compute("k", expect=502)
    assert status(again).endswith("; fwd-status=502; detail=negative") and "Retry-After" not in again.headers
    assert again.json["cause"]["code"] == "test_error"
    cache.get("k", expect=404)
    assert len(cache.jobs()) == 1

    cache.forget("k")
    assert cache.compute("k", wait="0s", expect=202)


def test_a_failure_that_may_pass_says_when_to_ask_again(cache):
    asking = cache.background("k", expect=502, error_for="1h", job={"max_attempts": 1})
    cache.api.fail(cache.api.lease_one(), "retryable")
    for answer in (asking.result(), cache.compute("k", expect=502)):
        assert answer.json["class"] == "retryable" and int(answer.headers["Retry-After"]) > 3_000


def test_a_stale_value_is_better_than_a_failure(cache):
    cache.put_stale("k", b"1")
    assert cache.compute("k", error_for="1h").json == 1
    cache.api.fail(cache.api.lease_one(), "fatal")

    answer = cache.compute("k", error_for="1h")
    assert answer.json == 1 and ttl(answer) < 0
    assert len(cache.jobs()) == 1  # And nobody tries again while the failure is remembered.


def test_a_flight_that_was_cancelled_answers_those_who_wait(cache):
    asking = cache.background("k", expect=502)
    job = eventually(cache.jobs, "the job is there")[0]
    cache.api.call("POST", f"/v1/jobs/{job['id']}/cancel", expect=200)
    assert asking.result().json["class"] == "retryable"
    assert cache.compute("k", wait="0s", expect=202).json["job_id"] != job["id"]


def test_what_is_deleted_while_a_job_computes_it_does_not_come_back(cache):
    asked_before = cache.background("k")
    old = cache.api.lease_one()
    cache.forget("k", expect=404)  # There is no value. The computation is reached all the same.
    asked_after = cache.background("k")
    new = cache.api.lease_one()

    cache.api.complete(old, result="old")
    answer = asked_before.result()
    assert (answer.json, status(answer)) == ("old", "workmill; fwd=uri-miss")
    cache.get("k", expect=404)
    cache.api.complete(new, result="new")
    answer = asked_after.result()
    assert (answer.json, status(answer)) == ("new", "workmill; fwd=uri-miss; stored")
    assert cache.get("k").json == "new"


def test_what_is_put_or_set_while_a_job_computes_it_stays(cache):
    for key in ("put", "set"):
        asking = cache.background(key)
        job = cache.api.lease_one()
        if key == "put":
            cache.put(key, b'"newer"', "application/json")
        else:
            cache.api.enqueue()
            cache.api.complete(cache.api.lease_one(), cache=[{"key": f"{cache.name}/set", "value": "newer"}])
        answer = asking.result()  # Who waited has what is newer at once.
        assert answer.json == "newer" and "hit" in status(answer)
        cache.api.complete(job, result="older")
        assert cache.get(key).json == "newer"


def waiting(api):
    return next(bound["used"] for bound in api.get("/v1/status")["bounds"] if bound["name"] == "waiters")


@pytest.fixture
def stuck(start):
    """Callers of one key, the first of whom has sent its job to a queue that nobody works: cache, key, job, callers."""
    server = start()
    cache = Cache(server.api(queue="q"))

    def begin(expect):
        asking = [cache.background("k", job={"queue": "nobody"}, expect=expect) for _ in range(3)]
        eventually(lambda: waiting(cache.api) == 3, "all of them wait")
        (job,) = cache.api.jobs(queue="nobody")
        return cache, job["id"], asking

    return begin


def test_what_is_put_is_for_all_who_wait(stuck):
    cache, job, asking = stuck(expect=200)
    cache.put("k", b"1", "application/json", fresh="5m")
    for one in asking:
        answer = one.result()
        assert answer.json == 1 and "hit" in status(answer)
    assert cache.api.state(job) == "ready", "the flight had not begun, and goes on"


@pytest.mark.parametrize("by", ["put", "report"])
def test_what_is_put_is_for_all_who_wait_also_where_it_is_too_large_to_stay_in_memory(start, settings, by):
    server = start(*settings('cache_memory = "1MiB"'))
    cache = Cache(server.api(queue="q"))
    asking = [cache.background("k", job={"queue": "nobody"}, wait="30s") for _ in range(2)]
    eventually(lambda: waiting(cache.api) == 2, "both of them wait")
    if by == "put":
        cache.put("k", b"x" * 600_000, fresh="5m")
    else:
        cache.api.enqueue()
        encoded = base64.b64encode(b"x" * 600_000).decode()
        cache.api.complete(cache.api.lease_one(), cache=[{"key": "q/k", "value_base64": encoded}])
    assert [one.result().body for one in asking] == [b"x" * 600_000] * 2
    assert cache.get("k").body == b"x" * 600_000


def test_a_flight_in_a_queue_that_nobody_works_goes_with_its_job_and_not_with_its_key(stuck):
    cache, job, asking = stuck(expect=502)
    cache.forget("k", expect=404)  # It has not begun, and so it is left alone.
    assert cache.compute("k", wait="0s", expect=202).json["job_id"] == job
    cache.api.call("POST", f"/v1/jobs/{job}/cancel", expect=200)
    for one in asking:
        answer = one.result()
        assert (answer.json["class"], answer.json["cause"]["code"]) == ("retryable", "cancelled")
    assert cache.compute("k", wait="0s", expect=202).json["job_id"] != job


def test_a_flight_in_a_queue_that_nobody_works_can_be_moved_to_another(stuck):
    cache, job, asking = stuck(expect=200)
    cache.api.call("PATCH", f"/v1/jobs/{job}", {"queue": "q"}, expect=200)
    cache.api.complete(cache.api.lease_one(), result=7)
    assert [one.result().json for one in asking] == [7, 7, 7]


@pytest.mark.parametrize("query", [{"prefix": "q/k"}, {"tag": "t"}])
def test_a_deletion_of_many_keys_reaches_what_is_computed_over_a_kill(start, query):
    server = start()
    cache = Cache(server.api(queue="q"))
    cache.compute("k1", wait="0s", tags=["t"], expect=202)
    cache.compute("other", wait="0s", expect=202)
    jobs = [cache.api.lease_one(), cache.api.lease_one()]
    assert cache.api.call("DELETE", "/v1/cache", query=query, expect=200).json == {"count": 0}

    server.kill()
    server.start()
    for job in jobs:
        cache.api.complete(job, result=1)

    cache.get("k1", expect=404)
    assert cache.get("other").json == 1


def test_a_computation_that_makes_no_sense_is_refused(cache):
    for body, field in (
        ({}, "job"),
        ({"job": {}}, "job.type"),
        ({"job": {"type": "t", "unique": {"key": "k"}}}, "job.unique"),
        ({"job": {"type": "t", "id": "mine"}}, "job.id"),
        ({"job": {"type": "t", "delay": "1s"}}, "job.delay"),
        ({"job": {"type": "t"}, "wait": "6m"}, "wait"),
        ({"job": {"type": "t"}, "fresh": "366d"}, "fresh"),
        ({"job": {"type": "t"}, "odd": 1}, "odd"),
    ):
        answer = cache.api.call("POST", cache.path("k"), body, expect=400)
        assert answer.json["field"] == field, answer


# ---- What a report brings.


def test_a_report_sets_keys_in_the_commit_of_its_job(cache):
    job = cache.api.enqueue_id() and cache.api.lease_one()
    entries = [
        {"key": f"{cache.name}/json", "value": {"a": [1, 2]}, "fresh": "5m", "tags": ["t"]},
        {"key": f"{cache.name}/bytes", "value_base64": "AP8=", "content_type": "image/x-test"},
        {"key": f"{cache.name}/twice", "value": 1},
        {"key": f"{cache.name}/twice", "value": 2},
    ]
    cache.api.complete(job, result=0, cache=entries)

    assert cache.get("json").body == b'{"a": [1, 2]}'
    assert ttl(cache.get("json")) > 200
    assert (cache.get("bytes").body, cache.get("bytes").headers["Content-Type"]) == (b"\x00\xff", "image/x-test")
    assert cache.get("twice").json == 2


def test_a_result_of_8_mib_is_a_value_in_any_form_over_http_and_stream(start):
    """JSON, and bytes, which base64 makes larger by a third."""
    server = start()
    cache = Cache(server.api(queue="q"))
    text, body = "x" * (8 * MiB - 2), bytes(range(256)) * (8 * MiB // 256)
    encoded = base64.b64encode(body).decode()
    for key, result, want in (
        ("json", {"result": text}, json.dumps(text).encode()),
        ("bytes", {"result_base64": encoded}, body),
        ("set", {"cache": [{"key": "q/set", "value_base64": encoded}]}, body),
    ):
        asking = cache.background(key, fresh="1h")
        cache.api.complete(cache.api.lease_one(), **result)
        assert asking.result().body == want
        assert cache.get(key).body == want
    asking = cache.background("stream", fresh="1h")
    with Stream(server) as stream:
        stream.subscribe("q", 1)
        stream.reported(stream.jobs(1), result_base64=encoded)
    assert asking.result().body == body

    cache.compute("larger", wait="0s", expect=202)
    job = cache.api.lease_one()
    report = {"id": job["id"], "lease": job["lease"], "outcome": "completed", "result": text + "x"}
    answer = cache.api.call("POST", "/v1/reports", {"reports": [report]}, expect=413)
    assert (answer.code, answer.json["field"]) == ("payload_too_large", "reports[0].result")
    # A job keeps what was sent to it and what came of it in one record, as long as both are at their largest, too.
    whole = cache.api.enqueue_id(payload="p" * (6 * MiB - 2))
    cache.api.complete(cache.api.lease_one(), result=text)
    server.kill()
    server.start()
    job = cache.api.job(whole)
    assert (len(job["payload"]), job["result"]) == (6 * MiB - 2, text)
    assert cache.get("bytes").body == body


def test_a_report_over_a_stream_sets_keys(cache, shared):
    cache.api.enqueue()
    with Stream(shared) as stream:
        stream.subscribe(cache.api.queue, 1)
        stream.reported(stream.jobs(1), cache=[{"key": f"{cache.name}/k", "value": "v"}])
    assert cache.get("k").json == "v"


def test_a_report_that_does_not_count_sets_nothing(cache):
    cache.api.enqueue()
    job = cache.api.lease_one()
    cache.api.complete(job)
    answer = cache.api.report(job, "completed", cache=[{"key": f"{cache.name}/k", "value": 1}])
    assert answer["ok"] is False and answer["error"]["code"] == "lease_lost"
    cache.get("k", expect=404)


def test_what_a_flights_report_says_of_its_key_goes_over_its_result(cache):
    asking = cache.background("k")
    entry = {"key": f"{cache.name}/k", "value": "said", "content_type": "application/json", "fresh": "10m"}
    cache.api.complete(cache.api.lease_one(), result="result", cache=[entry])
    assert asking.result().json == "said"
    assert ttl(cache.get("k")) > 300


def test_an_entry_that_makes_no_sense_is_refused_by_its_name(cache):
    cache.api.enqueue()
    job = cache.api.lease_one()
    for entry, field in (
        ({"value": 1}, "key"),
        ({"key": "k"}, "value"),
        ({"key": "", "value": 1}, "key"),
        ({"key": "k", "value": 1, "value_base64": "AA=="}, "value_base64"),
        ({"key": "k", "value": 1, "content_type": "a\nb"}, "content_type"),
        ({"key": "k", "value": 1, "fresh": "366d"}, "fresh"),
        ({"key": "k", "value": 1, "tags": [""]}, "tags[0]"),
    ):
        report = {"id": job["id"], "lease": job["lease"], "outcome": "completed", "cache": [entry]}
        answer = cache.api.call("POST", "/v1/reports", {"reports": [report]}, expect=400)
        assert answer.json["field"] == f"reports[0].cache[0].{field}", answer
    failed = {"id": job["id"], "lease": job["lease"], "outcome": "released", "cache": []}
    assert cache.api.call("POST", "/v1/reports", {"reports": [failed]}, expect=400).json["field"] == "reports[0].cache"


# ---- Restarts, disks, memory.


def test_all_that_is_cached_is_there_after_a_kill(start):
    server = start()
    cache = Cache(server.api(queue="q"))
    etag = cache.put("put", b"1", "text/plain", fresh="1h", tags="t").headers["ETag"]
    asking = cache.background("computed", fresh="1h")
    cache.api.complete(cache.api.lease_one(), result=[2])
    asking.result()
    cache.put("forgotten", b"3", fresh="1h")
    cache.forget("forgotten")
    asking = cache.background("failed", expect=502, error_for="1h")
    cache.api.fail(cache.api.lease_one(), "fatal")
    asking.result()
    flight = cache.compute("flight", wait="0s", expect=202).json["job_id"]
    leased = cache.api.lease_one()

    server.kill()
    server.start()

    got = cache.get("put")
    assert (got.body, got.headers["Content-Type"], got.headers["ETag"]) == (b"1", "text/plain", etag)
    assert cache.get("computed").json == [2]
    cache.get("forgotten", expect=404)
    assert status(cache.compute("failed", expect=502)).endswith("detail=negative")
    asking = cache.background("flight")
    cache.api.complete(leased, result="landed")
    assert asking.result().json == "landed"
    assert leased["id"] == flight
    assert cache.api.call("DELETE", "/v1/cache", query={"tag": "t"}, expect=200).json == {"count": 1}


def test_volatile_keys_are_gone_after_a_restart(start, settings):
    server = start(*settings('cache_volatile = ["v:", "w:"]'))
    api = server.api(queue="q")
    for key in ("v:1", "w:1", "x:v:1"):
        api.call("PUT", f"/v1/cache/{key}", data=b"1", query={"fresh": "1h"}, expect=204)
        api.call("GET", f"/v1/cache/{key}", expect=200)

    server.restart()

    assert [api.call("GET", f"/v1/cache/{key}").status for key in ("v:1", "w:1", "x:v:1")] == [404, 404, 200]


def test_values_beyond_the_memory_are_read_back_from_the_disk(start, settings):
    server = start(*settings('cache_memory = "1MiB"'))
    cache = Cache(server.api(queue="q"))
    plain = server.api(checked=False)  # HEAD is GET without its body, and so not in the OpenAPI document.
    bodies = {str(i): bytes([i]) * 100_000 for i in range(40)}
    for key, body in bodies.items():
        cache.put(key, body, fresh="1h")

    for key, body in bodies.items():
        assert cache.get(key).body == body, key
    assert metric(cache.api, 'workmill_cache_bytes{place="memory"}') <= MiB
    assert metric(cache.api, "workmill_cache_cold_reads_total") > 0
    etag = cache.get("0").headers["ETag"]
    reads = metric(cache.api, "workmill_cache_cold_reads_total")
    for key, body in bodies.items():  # Who wants no body waits for no disk.
        head = plain.call("HEAD", cache.path(key), expect=200)
        assert head.headers["Content-Length"].strip() == str(len(body))
        assert head.headers["Content-Type"] == "application/octet-stream"
        assert cache.get(key, expect=304, headers={"If-None-Match": head.headers["ETag"]})
    assert metric(cache.api, "workmill_cache_cold_reads_total") == reads
    server.restart()
    assert plain.call("HEAD", cache.path("0"), expect=200).headers["ETag"] == etag
    for key, body in bodies.items():
        assert cache.get(key).body == body, key


# ---- Figures.


def test_calls_are_counted_by_what_came_of_them(start):
    server = start()
    cache = Cache(server.api(queue="q"))
    cache.get("none", expect=404)
    cache.put("k", b"1", fresh="1h")
    cache.get("k")
    cache.put_stale("old", b"1")
    cache.compute("none", wait="0s", expect=202)

    def counted(result):
        return metric(cache.api, f'workmill_cache_requests_total{{result="{result}"}}')

    assert counted("miss") == 1 and counted("pending") == 1
    assert counted("hit") >= 1 and counted("stale") >= 1
    assert metric(cache.api, "workmill_cache_entries") >= 2
    assert metric(cache.api, "workmill_cache_flights") == 1
    assert metric(cache.api, 'workmill_cache_budget_bytes{place="memory"}') == 256 * MiB
    names = {bound["name"] for bound in cache.api.get("/v1/status")["bounds"]}
    assert {"cache_memory", "cache_disk"} <= names


# ---- Who may.


def test_a_token_that_is_limited_to_queues_may_compute_in_them_and_nothing_else(start, tmp_path):
    data = tmp_path / "data"
    every = new_token(data, "all", "enqueue,work,read")
    limited = new_token(data, "limited", "enqueue,work,read", "--queue", "mine")
    server = start(data=data)
    cache = Cache(server.api(queue="mine", token=limited))
    owner = Cache(server.api(queue="mine", token=every))

    assert cache.put("k", b"1", expect=403).code == "forbidden"
    cache.get("k", expect=403)
    cache.forget("k", expect=403)
    assert cache.api.call("DELETE", "/v1/cache", query={"tag": "t"}).status == 403
    owner.put("k", b"1", "application/json")
    assert cache.compute("k").json == 1
    for key in ("k", "absent"):
        answer = cache.compute(key, expect=403, job={"queue": "other"})
        assert (answer.code, answer.json["field"]) == ("forbidden", "job.queue")

    asking = cache.background("absent")
    job = cache.api.lease_one()
    answer = cache.api.report(job, "completed", cache=[{"key": "x", "value": 1}])
    assert answer["ok"] is False and answer["error"]["code"] == "forbidden"
    cache.api.complete(job, result=json.loads("5"))
    assert asking.result().json == 5
    assert owner.api.call("GET", "/v1/cache/x").status == 404
