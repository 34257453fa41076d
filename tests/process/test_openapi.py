"""/openapi.json is valid, complete and true: each route is driven, and every answer is held against its schema."""

import re

import jsonschema
import openapi_spec_validator
import pytest

from harness import ROOT, Api, Document


@pytest.fixture
def fresh(shared, monkeypatch):
    """The document anew, so that what it has seen is what this test did."""
    document = Document(shared.api(checked=False).get("/openapi.json"))
    monkeypatch.setattr(Api, "document", document)
    return document


def test_the_document_is_valid_openapi_3_1(fresh):
    assert re.fullmatch(r"3\.1\.\d+", fresh.json["openapi"])
    openapi_spec_validator.validate(fresh.json)


def test_every_operation_is_described(fresh):
    ids = set()
    for method, template in fresh.operations():
        operation = fresh.json["paths"][template][method.lower()]
        assert operation["summary"], (method, template)
        assert operation["operationId"] not in ids, operation["operationId"]
        ids.add(operation["operationId"])
        assert any(status[0] == "2" or status == "101" for status in operation["responses"]), (method, template)


def test_the_document_has_the_routes_of_the_router(fresh):
    router = (ROOT / "src/protocols/http/router.cpp").read_text()
    methods = {"get": "GET", "post": "POST", "put": "PUT", "patch": "PATCH", "remove": "DELETE"}
    routed = {
        (methods[method], re.sub(r"\{\w+\}", "{}", pattern))
        for method, pattern in re.findall(r'\{Route::\w+, Method::(\w+), "([^"]+)"', router)
    }
    assert len(routed) > 15

    documented = {(method, re.sub(r"\{\w+\}", "{}", template)) for method, template in fresh.operations()}

    assert routed - documented == set()
    assert {entry for entry in documented if entry[0] != "OPTIONS"} - routed == set()


# (METHOD, path, body, status). {q} is a queue of the test's own, {id} a job in it that nobody has touched.
CALLS = [
    ("POST", "/v1/jobs", {"type": "t", "queue": "{q}"}, 201),
    ("POST", "/v1/jobs", {"jobs": [{"type": "t", "queue": "{q}", "payload": {"a": 1}, "delay": "1h"}]}, 201),
    ("POST", "/v1/jobs", {"type": "t", "odd": 1}, 400),
    ("GET", "/v1/jobs?queue={q}&state=ready&limit=5", None, 200),
    ("GET", "/v1/jobs?limit=0", None, 400),
    ("GET", "/v1/jobs/{id}", None, 200),
    ("GET", "/v1/jobs/{id}?wait=1ms", None, 200),
    ("GET", "/v1/jobs/nope", None, 404),
    ("GET", "/v1/jobs/{id}/log", None, 200),
    ("GET", "/v1/jobs/nope/log", None, 404),
    ("PATCH", "/v1/jobs/{id}", {"priority": 9, "tags": ["a"]}, 200),
    ("PATCH", "/v1/jobs/{id}", {"prio": 9}, 400),
    ("PATCH", "/v1/jobs/nope", {"priority": 9}, 404),
    ("POST", "/v1/jobs/{id}/cancel", None, 200),
    ("POST", "/v1/jobs/{id}/cancel", None, (200, 409)),
    ("POST", "/v1/jobs/nope/cancel", None, 404),
    ("POST", "/v1/jobs/{id}/retry", None, 200),
    ("POST", "/v1/jobs/{id}/retry", None, 409),
    ("POST", "/v1/jobs/nope/retry", None, 404),
    ("POST", "/v1/leases", {"queues": ["{q}"], "max": 1, "lease": "5m", "worker": "w"}, 200),
    ("DELETE", "/v1/jobs/{id}", None, 409),
    ("POST", "/v1/leases", {"queues": ["{q}"], "wait": "1ms"}, 200),
    ("POST", "/v1/leases", {"queues": []}, 400),
    ("POST", "/v1/reports", {"reports": [{"id": "{id}", "lease": "0000000000000001", "outcome": "completed"}]}, 200),
    ("POST", "/v1/reports", {"reports": [{"id": "{id}"}]}, 400),
    ("GET", "/v1/worker", None, 426),
    ("POST", "/v1/jobs/bulk", {"action": "cancel", "where": {"queue": "{q}", "state": "scheduled"}}, 200),
    ("POST", "/v1/jobs/bulk", {"action": "eat", "where": {}}, 400),
    ("DELETE", "/v1/jobs/nope", None, 404),
    ("GET", "/v1/queues?limit=2", None, 200),
    ("GET", "/v1/queues?limit=x", None, 400),
    ("GET", "/v1/queues/{q}", None, 200),
    ("GET", "/v1/queues/nowhere", None, 404),
    ("PATCH", "/v1/queues/{q}", {"paused": True, "max_depth": 7, "when_full": "refuse"}, 200),
    ("PATCH", "/v1/queues/{q}", {"paused": 1}, 400),
    ("DELETE", "/v1/queues/{q}/jobs?state=cancelled", None, 200),
    ("DELETE", "/v1/queues/{q}/jobs?state=odd", None, 400),
    ("POST", "/v1/batches", {"id": "{q}", "on_finish": {"type": "t", "queue": "{q}"}}, 201),
    ("POST", "/v1/batches", {"id": "{q}", "on_finish": {"type": "t", "queue": "{q}"}}, 200),
    ("POST", "/v1/batches", {"id": "{q}", "on_success": {"type": "t", "queue": "{q}"}}, 409),
    ("POST", "/v1/batches", {"id": "{q}"}, 400),
    ("POST", "/v1/batches", {"on_finish": {"type": "t", "id": "x"}}, 400),
    ("GET", "/v1/batches?state=open&limit=2", None, 200),
    ("GET", "/v1/batches?state=odd", None, 400),
    ("GET", "/v1/batches/{q}", None, 200),
    ("GET", "/v1/batches/nope", None, 404),
    ("POST", "/v1/jobs", {"type": "t", "queue": "{q}", "batch": "{q}", "delay": "1h"}, 201),
    ("POST", "/v1/jobs", {"type": "t", "queue": "{q}", "batch": "nope"}, 404),
    ("GET", "/v1/jobs?batch={q}", None, 200),
    ("GET", "/v1/jobs?batch=nope", None, 404),
    ("POST", "/v1/jobs/bulk", {"action": "cancel", "where": {"batch": "nope"}}, 404),
    ("POST", "/v1/jobs/bulk", {"action": "cancel", "where": {"batch": "{q}"}}, 200),
    ("POST", "/v1/batches/{q}/close", None, 200),
    ("POST", "/v1/batches/nope/close", None, 404),
    ("POST", "/v1/jobs", {"type": "t", "queue": "{q}", "batch": "{q}"}, 409),
    ("DELETE", "/v1/batches/{q}", None, 200),
    ("DELETE", "/v1/batches/{q}", None, 404),
    ("PUT", "/v1/cache/{q}%2Fa?fresh=5m&stale=1h&tags=a,{id}", {"any": "json"}, 204),
    ("PUT", "/v1/cache/{q}%2Fa?fresh=soon", 1, 400),
    ("GET", "/v1/cache/{q}%2Fa", None, 200),
    ("GET", "/v1/cache/{q}%2Fnone", None, 404),
    ("POST", "/v1/cache/{q}%2Fa", {"job": {"type": "t", "queue": "{q}"}, "fresh": "5m", "error_for": "1s"}, 200),
    ("POST", "/v1/cache/{q}%2Fb", {"job": {"type": "t", "queue": "{q}"}, "wait": "0s", "tags": ["a"]}, 202),
    ("POST", "/v1/cache/{q}%2Fb", {"jobs": []}, 400),
    ("DELETE", "/v1/cache/{q}%2Fa", None, 204),
    ("DELETE", "/v1/cache/{q}%2Fa", None, 404),
    ("DELETE", "/v1/cache?tag={id}", None, 200),
    ("DELETE", "/v1/cache?prefix={q}%2F", None, 200),
    ("DELETE", "/v1/cache", None, 400),
    ("PUT", "/v1/flags/{q}", {"variants": {"a": 1, "b": 2.5}, "default": "a", "rules": [{"rollout": {"a": 1}}]}, 200),
    ("PUT", "/v1/flags/{q}", {"variants": {"on": True}, "default": "on", "version": 7}, 409),
    ("PUT", "/v1/flags/{q}", {"variants": {"on": True}, "default": "on", "odd": 1}, 400),
    ("GET", "/v1/flags?limit=2", None, 200),
    ("GET", "/v1/flags?limit=x", None, 400),
    ("GET", "/v1/flags/{q}", None, 200),
    ("GET", "/v1/flags/nope", None, 404),
    ("GET", "/v1/flags/{q}/history", None, 200),
    ("GET", "/v1/flags/nope/history", None, 404),
    ("POST", "/ofrep/v1/evaluate/flags/{q}", {"context": {"targetingKey": "u"}}, 200),
    ("POST", "/ofrep/v1/evaluate/flags/{q}", {"context": {}}, 400),
    ("POST", "/ofrep/v1/evaluate/flags/nope", {"context": {"targetingKey": "u"}}, 404),
    ("POST", "/ofrep/v1/evaluate/flags", {"context": {"targetingKey": "u", "a": [1]}}, 200),
    ("POST", "/ofrep/v1/evaluate/flags", {"user": "u"}, 400),
    ("DELETE", "/v1/flags/{q}", None, 200),
    ("DELETE", "/v1/flags/{q}", None, 404),
    ("GET", "/healthz", None, 200),
    ("GET", "/livez", None, 200),
    ("GET", "/readyz", None, 200),
    ("GET", "/metrics", None, 200),
    ("GET", "/v1/status", None, 200),
    ("GET", "/v1/debug/cpu-profile?seconds=1", None, (200, 404)),  # 404: a build with sanitizers has none.
    ("GET", "/v1/debug/cpu-profile?seconds=0", None, 400),
    ("GET", "/v1/debug/heap", None, 200),
    ("GET", "/v1/tokens?limit=2", None, 200),
    ("GET", "/openapi.json", None, 200),
    ("GET", "/", None, 200),
]


def fill_in(value, words):
    if isinstance(value, dict):
        return {key: fill_in(each, words) for key, each in value.items()}
    if isinstance(value, list):
        return [fill_in(each, words) for each in value]
    if isinstance(value, str):
        for name, word in words.items():
            value = value.replace("{" + name + "}", word)
    return value


def test_every_route_answers_as_it_is_documented(api, fresh):
    words = {"q": api.queue, "id": api.enqueue_id(priority=8)}
    for method, path, body, status in CALLS:
        path = fill_in(path, words)
        if body is None:
            api.call(method, path, expect=status)
        else:
            api.call(method, path, fill_in(body, words), expect=status)
    # What needs the token of a lease.
    api.call("PATCH", f"/v1/queues/{api.queue}", {"paused": False, "max_depth": None}, expect=200)
    one, two = (api.enqueue_id(max_attempts=1, priority=9) for _ in range(2))
    for _ in range(2):
        leased = api.lease_one(worker="w")
        api.report_ok(leased, "progress", percent=1, message="m")
        api.report_ok(leased, "log", lines=["line"])
        api.report_ok(leased, "checkpoint", data={"row": 1})
        if leased["id"] == one:
            api.complete(leased, result={"r": 1})
        else:
            api.fail(leased, detail={"d": 1})
    for id in (one, two):
        api.call("GET", f"/v1/jobs/{id}", expect=200)
        api.call("DELETE", f"/v1/jobs/{id}", expect=(200, 204))

    answered = {(method, template) for method, template, status in fresh.seen if status < 300}
    answered.add(("GET", "/v1/worker"))  # test_stream.py: a client for HTTP does not get through.
    if ("GET", "/v1/debug/cpu-profile", 404) in fresh.seen:
        answered.add(("GET", "/v1/debug/cpu-profile"))
    assert fresh.operations() - answered - {(m, t) for m, t in fresh.operations() if m in ("HEAD", "OPTIONS")} == set()


def request_schema(document, method, template):
    body = document["paths"][template][method.lower()].get("requestBody")
    while body is not None and "$ref" in body:
        name = body["$ref"].removeprefix("#/components/requestBodies/")
        body = document["components"]["requestBodies"][name]
    return body["content"]["application/json"]["schema"] if body else None


@pytest.mark.parametrize(
    "template, method",
    [
        ("/v1/jobs", "POST"),
        ("/v1/leases", "POST"),
        ("/v1/reports", "POST"),
        ("/v1/jobs/bulk", "POST"),
        ("/v1/batches", "POST"),
        ("/v1/jobs/{id}", "PATCH"),
        ("/v1/queues/{queue}", "PATCH"),
        ("/v1/flags/{key}", "PUT"),
        ("/ofrep/v1/evaluate/flags", "POST"),
    ],
)
def test_what_the_server_takes_and_refuses_is_what_its_request_schemas_say(fresh, template, method):
    schema = request_schema(fresh.json, method, template)
    assert schema is not None
    validator = jsonschema.Draft202012Validator({**schema, "components": fresh.json["components"]})
    for call_method, path, body, status in CALLS:
        pattern = re.sub(r"\{\w+\}", "[^/]+", template)
        if (
            call_method == method
            and body is not None
            and re.fullmatch(pattern, path.split("?")[0])
            and not (template == "/v1/jobs/{id}" and path == "/v1/jobs/bulk")
        ):
            body = fill_in(body, {"q": "q", "id": "0192f0c4-7e1a-7b3c-8d4e-000000000000"})
            assert validator.is_valid(body) == (status != 400), (path, body)


def test_a_document_that_was_read_once_need_not_be_read_again(api):
    first = api.call("GET", "/openapi.json", expect=200)
    assert first.headers["Content-Type"].split(";")[0] == "application/json"
    if "ETag" in first.headers:
        api.call("GET", "/openapi.json", headers={"If-None-Match": first.headers["ETag"]}, expect=(200, 304))
