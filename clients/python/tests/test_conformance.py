"""The shared suite's own tools: what compares, fills in, and breaks connections."""

from __future__ import annotations

import json
import socket

import pytest
from conftest import ROOT
from match import difference, fill_in
from proxy import Proxy

from workmill import Client, RetryPolicy


@pytest.mark.parametrize(
    "wanted, seen",
    [
        ({"a": 1}, {"a": 1, "b": 2}),
        ([1, {"x": True}], [1, {"x": True, "y": 0}]),
        ({"n": {"$at_least": 3}}, {"n": 3}),
        ({"n": {"$absent": True}}, {}),
        ({"n": {"$one_of": [None, {"$absent": True}]}}, {}),
        ({"$contains": "b"}, ["a", "b"]),
        ({"$contains": "lo"}, "hello"),
        ({"$length": 2}, [1, 2]),
        ({"$all": {"n": 1}}, [{"n": 1, "m": 2}, {"n": 1}]),
        ({"n": {"$any": True}}, {"n": None}),
    ],
)
def test_what_is_as_expected_has_no_difference(wanted, seen):
    assert difference(wanted, seen) is None


@pytest.mark.parametrize(
    "wanted, seen",
    [
        ({"a": 1}, {"a": True}),
        ({"a": 1}, {}),
        ({"a": {}}, {"a": []}),
        ([1], [1, 2]),
        ({"n": {"$at_least": 3}}, {"n": 2}),
        ({"n": {"$at_least": 3}}, {"n": None}),
        ({"n": {"$absent": True}}, {"n": None}),
        ({"n": {"$any": True}}, {}),
        ({"$length": 2}, 2),
        ({"$all": {"n": 1}}, [{"n": 1}, {"n": 2}]),
    ],
)
def test_what_is_not_is_told(wanted, seen):
    assert difference(wanted, seen)


def test_saved_values_are_filled_in():
    names = {"job": {"id": "x", "list": [1, 2]}, "i": 7}

    filled = fill_in({"id": "$job.id", "two": "$job.list.1", "n": "$i", "name": "job-$i", "text": "$$i"}, names)

    assert filled == {"id": "x", "two": 2, "n": 7, "name": "job-7", "text": "$i"}
    assert fill_in({"$repeat": ["ab", 3]}, {}) == "ababab"


def test_every_scenario_can_be_read_and_says_what_it_is_about():
    for path in (ROOT / "clients/conformance/scenarios").glob("*.json"):
        scenario = json.loads(path.read_text(encoding="utf-8"))
        assert set(scenario) <= {"name", "transports", "needs", "server", "steps"}, path.name
        assert scenario["name"] and scenario["steps"] and set(scenario["transports"]) <= {"stream", "http", "embedded"}


@pytest.fixture
def proxy():
    """In front of nobody: a port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    one = Proxy(port)
    yield one
    one.close()


def test_the_proxy_refuses_by_itself_and_counts(proxy):
    problem = {"code": "overloaded", "class": "retryable", "detail": "busy", "status": 503}
    proxy.refuse(2, 503, {"Retry-After": "0"}, problem)

    with Client(f"http://127.0.0.1:{proxy.port}", retry=RetryPolicy(attempts=2, first=0)) as client:
        with pytest.raises(Exception, match="overloaded"):
            client.queue("q")

    assert proxy.seen()["refused"] == 2
    assert proxy.seen()["gap_ms_min"] is not None


def test_the_proxy_can_be_unreachable_and_come_back(proxy):
    proxy.set_mode("block")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", proxy.port))

    proxy.set_mode("pass")
    socket.create_connection(("127.0.0.1", proxy.port)).close()
