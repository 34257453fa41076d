"""Tokens for some keys of the cache, over real sockets. docs/security.md names these tests."""

import json
import urllib.parse

import pytest

from streams import Stream
from test_tokens import new_token, workmill


class Tenants:
    """A server whose cache two share: "mine:" is what the limited token is for."""

    def __init__(self, start, data, *limits):
        every = new_token(data, "every", "enqueue,work,read")
        self.token = new_token(data, "limited", "enqueue,work,read", "--cache-prefix", "mine:", *limits)
        self.server = start(data=data)
        self.owner = self.server.api(token=every)
        self.limited = self.server.api(queue="q", token=self.token)
        for key in ("mine:1", "yours:1"):
            self.owner.call("PUT", path(key) + "?tags=t", data=b"1", expect=204)

    def has(self, key):
        return self.owner.call("GET", path(key), expect=(200, 404)).status == 200


def path(key):
    return "/v1/cache/" + urllib.parse.quote(key, safe="")


def compute(api, key, queue="q", expect=200, **fields):
    body = {"job": {"type": "t", "queue": queue}, "wait": "0s", **fields}
    return api.call("POST", path(key), body, expect=expect)


@pytest.fixture
def tenants(start, tmp_path):
    return lambda *limits: Tenants(start, tmp_path / "data", *limits)


def test_a_token_for_some_keys_touches_no_other_by_any_call(tenants):
    both = tenants()
    limited = both.limited
    # The same answer for a key that is there, one that is not, and one that only nearly begins so.
    for key in ("yours:1", "yours:2", "mine", "Mine:1", "%6dine:1"):
        for method in ("GET", "HEAD", "DELETE"):
            assert limited.call(method, path(key)).status == 403, (method, key)
        assert limited.call("PUT", path(key), data=b"2").status == 403, key
        refused = compute(limited, key, expect=403)
        assert (refused.code, refused.json["field"]) == ("forbidden", "key")
    for prefix in ("yours:", "m", "mine"):
        limited.refused("DELETE", f"/v1/cache?prefix={prefix}", code="forbidden", field="prefix")

    assert limited.call("GET", path("mine:1"), expect=200).body == b"1"
    assert compute(limited, "mine:1").body == b"1"
    compute(limited, "mine:absent", expect=202)
    limited.call("PUT", path("mine:2") + "?tags=t", data=b"2", expect=204)
    limited.call("PUT", path("mine:3/x"), data=b"3", expect=204)
    limited.call("DELETE", path("mine:1"), expect=204)
    assert limited.call("DELETE", "/v1/cache?tag=t", expect=200).json == {"count": 1}  # mine:2, and not yours:1.
    assert limited.call("DELETE", "/v1/cache?prefix=mine:3", expect=200).json == {"count": 1}
    assert [key for key in ("mine:1", "mine:2", "mine:3/x", "yours:1") if both.has(key)] == ["yours:1"]


def test_reports_of_a_token_for_some_keys_set_no_other_over_http_and_stream(tenants):
    both = tenants()
    good, bad = [{"key": "mine:new", "value": 1}], [{"key": "mine:new", "value": 1}, {"key": "yours:new", "value": 1}]
    jobs = [both.limited.enqueue() for _ in range(3)]

    refused = both.limited.report(both.limited.lease_one(), "completed", cache=bad)
    assert (refused["error"]["code"], refused["error"]["field"]) == ("forbidden", "cache")
    by_lease = both.limited.post(
        "/v1/leases",
        {"queues": ["none"], "reports": [report_of(both.limited.lease_one(), bad)]},
    )
    assert by_lease["reports"][0]["error"]["code"] == "forbidden"
    with Stream(both.server, token=both.token) as stream:
        stream.subscribe(["q"], credit=1)
        [job] = stream.jobs(1)
        answer = stream.reported([job], cache=bad)
        assert [each["error"]["code"] for each in answer] == ["forbidden"]
        assert not both.has("mine:new") and not both.has("yours:new")
        assert [each["ok"] for each in stream.reported([job], cache=good)] == [True]

    assert both.has("mine:new") and not both.has("yours:new")
    assert sorted(both.owner.get(f"/v1/jobs/{job['id']}")["state"] for job in jobs) == ["completed", "leased", "leased"]


def report_of(job, cache):
    return {"id": job["id"], "lease": job["lease"], "outcome": "completed", "cache": cache}


def test_a_token_for_some_queues_and_keys_is_held_to_both(tenants):
    both = tenants("--queue", "q")
    assert both.limited.call("GET", path("mine:1"), expect=200).body == b"1"
    both.limited.call("PUT", path("mine:2"), data=b"2", expect=204)
    assert both.limited.call("GET", path("yours:1")).status == 403
    assert compute(both.limited, "yours:1", expect=403).json["field"] == "key"
    assert compute(both.limited, "mine:3", queue="other", expect=403).json["field"] == "job.queue"
    compute(both.limited, "mine:3", expect=202)
    both.limited.refused("POST", "/v1/jobs", {"type": "t", "queue": "other"}, code="forbidden", field="queue")
    both.limited.refused("GET", "/v1/status", code="forbidden")


def test_prefixes_are_listed_and_bad_ones_refused(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    make = ("token", "new", "--json", "--data", data, "--scope", "read", "--name")
    made = json.loads(workmill(*make, "a", "--cache-prefix", "a b,ä:", "--cache-prefix", "c").stdout)
    assert made["cache_prefixes"] == ["a b,ä:", "c"] and made["queues"] is None
    assert json.loads(workmill(*make, "b").stdout)["cache_prefixes"] is None
    workmill(*make, "c", "--cache-prefix", "", expect=2)
    workmill(*make, "c", "--cache-prefix", "a\nb", expect=2)
    workmill(*make, "c", "--cache-prefix", "x" * 513, expect=2)
    listed = json.loads(workmill("token", "list", "--json", "--data", data).stdout)["items"]
    assert [item["cache_prefixes"] for item in listed] == [["a b,ä:", "c"], None]
    assert "a b,ä:,c" in workmill("token", "list", "--data", data).stdout
