"""Durations, times, JSON and retries: what needs no server."""

from __future__ import annotations

import datetime
import json
import ssl

import pytest

from workmill import (
    AsyncClient,
    AsyncWorker,
    Client,
    JobNotFound,
    NoServer,
    RetryableError,
    RetryPolicy,
    UserError,
    Worker,
    _calls,
    _json,
    _reports,
)
from workmill._errors import from_problem
from workmill._http import Address
from workmill._retry import Attempts
from workmill._time import duration_seconds, duration_text, parse_time, time_text
from workmill._wait import Wait

JOB = {"id": "a", "lease": "0000000000000001", "type": "t", "queue": "q", "attempt": 1, "max_attempts": 3}


@pytest.mark.parametrize(
    "value, text",
    [
        ("1h30m", "1h30m"),
        (0, "0s"),
        (90, "90s"),
        (0.25, "250ms"),
        (1.5, "1s500ms"),
        (datetime.timedelta(hours=2), "7200s"),
    ],
)
def test_a_duration_is_text_seconds_or_a_timedelta(value, text):
    assert duration_text(value) == text


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), datetime.timedelta(seconds=-1)])
def test_a_duration_that_makes_no_sense_is_refused_at_once(value):
    with pytest.raises(ValueError):
        duration_text(value)


@pytest.mark.parametrize("text, seconds", [("250ms", 0.25), ("1h30m", 5400), ("7d", 604_800), ("1m1s1ms", 61.001)])
def test_a_text_of_a_duration_is_read(text, seconds):
    assert duration_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "5x", "ms", "1s1h", "-1s"])
def test_a_text_that_is_no_duration_is_refused(text):
    with pytest.raises(ValueError):
        duration_seconds(text)


def test_a_time_is_written_in_utc_with_milliseconds_and_read_back():
    zone = datetime.timezone(datetime.timedelta(hours=2))
    when = datetime.datetime(2026, 11, 28, 1, 2, 3, 456_789, zone)

    text = time_text(when)

    assert text == "2026-11-27T23:02:03.456Z"
    assert parse_time(text) == datetime.datetime(2026, 11, 27, 23, 2, 3, 456_000, datetime.timezone.utc)


def test_a_time_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="zone"):
        time_text(datetime.datetime(2026, 1, 1))


@pytest.mark.parametrize("dumps", [_json.dumps, _json._dumps_slowly])
def test_both_ways_of_writing_json_refuse_what_is_none(dumps):
    for value in ("\ud800", object(), {"a": {1, 2}}):
        with pytest.raises((TypeError, ValueError)):
            dumps(value)


def test_whole_numbers_of_any_length_are_written():
    assert json.loads(_json.dumps({"n": 2**200})) == {"n": 2**200}


def test_json_nested_too_deeply_is_found_out():
    deep = json.loads("[" * 129 + "]" * 129)
    text_with_brackets = ["[" * 1000, '\\"' + "{" * 500]

    with pytest.raises(ValueError, match="deep"):
        _json.checked(_json._dumps_slowly(deep))
    assert _json.checked(_json.dumps(text_with_brackets)) == _json.dumps(text_with_brackets)
    assert _json.checked(_json.dumps(deep[0])) == b"[" * 128 + b"]" * 128


@pytest.mark.parametrize("loads", [_json.loads, _json._loads_slowly])
def test_json_that_no_server_would_nest_so_deeply_is_none(loads):
    with pytest.raises(ValueError):
        loads("[" * 100_000 + "]" * 100_000)


@pytest.mark.parametrize(
    "result, error",
    [
        (object(), "result_not_json"),
        ("\ud800", "result_not_json"),
        ({1: {2, 3}}, "result_not_json"),
        ("x" * (8 * 1024 * 1024 - 1), "result_too_large"),
        (b"x" * (8 * 1024 * 1024 + 1), "result_too_large"),
    ],
)
def test_a_result_that_cannot_be_sent_fails_the_job_for_good(result, error):
    report = json.loads(_reports.completed(JOB, result))

    assert (report["outcome"], report["error"]["class"], report["error"]["code"]) == ("failed", "fatal", error)


def test_a_result_is_as_large_as_a_cached_value_may_be():
    most = 8 * 1024 * 1024
    for result in ("x" * (most - 2), b"x" * most):
        assert json.loads(_reports.completed(JOB, result))["outcome"] == "completed"
    entry = _reports.cache_entry("k", b"x" * most, None, None, (), None)
    _reports.check_cache({"k": entry})
    with pytest.raises(UserError, match="payload_too_large.*8388608"):
        _reports.cache_entry("k", b"x" * (most + 1), None, None, (), None)
    with pytest.raises(UserError, match="payload_too_large.*as sent"):
        _reports.check_cache({"k": entry, "l": entry})
    report = json.loads(_reports.completed(JOB, "x" * 1_000_000, [entry]))
    assert report["error"]["code"] == "result_too_large"


def test_an_ordinary_exception_is_retryable_with_its_type_as_code():
    report = json.loads(_reports.failed(JOB, ZeroDivisionError("half \ud800"), False))

    assert report["error"]["class"] == "retryable"
    assert report["error"]["code"] == "ZeroDivisionError"
    assert report["error"]["message"] == "half ?"


def test_a_code_is_made_to_fit():
    report = json.loads(_reports.failed(JOB, UserError("no", code="bad address/ü"), False))

    assert report["error"]["code"] == "bad_address__"


def test_a_detail_that_is_no_json_is_told_as_text():
    report = json.loads(_reports.failed(JOB, UserError("no", detail={1, 2}), False))

    assert report["error"]["detail"] == "{1, 2}"


def test_a_job_is_sent_as_the_server_has_it():
    sent = _calls.job_as_sent(
        {
            "type": "t",
            "payload": b"\x00\xff",
            "delay": 1.5,
            "run_at": datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),
            "backoff": {"first": datetime.timedelta(seconds=3), "factor": 2},
            "unique": {"key": "k", "for": 3600},
            "tags": ["a"],
        }
    )

    assert sent == {
        "type": "t",
        "payload_base64": "AP8=",
        "delay": "1s500ms",
        "run_at": "2026-01-01T00:00:00.000Z",
        "backoff": {"first": "3s", "factor": 2},
        "unique": {"key": "k", "for": "3600s"},
        "tags": ["a"],
    }


def test_a_bulk_is_cut_by_number_and_by_size():
    by_number = list(_calls.enqueue_many({"type": "t"} for _ in range(20_001)))
    by_size = list(_calls.enqueue_many({"type": "t", "payload": "x" * 1_500_000} for _ in range(5)))

    assert [len(json.loads(bulk.call().body)["jobs"]) for bulk in by_number] == [10_000, 10_000, 1]
    assert [len(json.loads(bulk.call().body)["jobs"]) for bulk in by_size] == [2, 2, 1]


def test_each_enqueue_has_a_key_of_its_own_which_it_keeps():
    one, other = _calls.enqueue({"type": "t"}, None), _calls.enqueue({"type": "t"}, None)

    assert one.headers["Idempotency-Key"] != other.headers["Idempotency-Key"]
    assert _calls.enqueue({"type": "t"}, "mine").headers["Idempotency-Key"] == '"mine"'


def test_an_id_is_escaped_in_a_path():
    assert _calls.get("a/b?c").path == "/v1/jobs/a%2Fb%3Fc"


def test_only_retryable_errors_are_tried_again_so_often_and_not_before_retry_after():
    policy = RetryPolicy(attempts=3, first=0.1, cap=0.2)
    attempts = Attempts(policy)

    assert attempts.pause_after(RetryableError("busy", retry_after=7)) == 7
    assert 0 <= attempts.pause_after(RetryableError("busy")) <= 0.2
    assert attempts.pause_after(RetryableError("busy")) is None
    assert Attempts(policy).pause_after(UserError("no")) is None


def test_nobody_sits_through_a_pause_of_more_than_a_minute_inside_a_call():
    attempts = Attempts(RetryPolicy(attempts=3))

    assert attempts.pause_after(RetryableError("busy", retry_after=60)) == 60
    assert attempts.pause_after(RetryableError("busy", retry_after=61)) is None


def test_a_short_wait_is_tried_as_often_as_other_calls_and_ends_where_there_was_an_answer():
    busy = RetryableError("busy", retry_after=7)  # Longer than either wait.

    short: Wait[str] = Wait("1ms", RetryPolicy(attempts=3))
    assert [short.pause_after_error(busy), short.pause_after_error(busy)] == [7, 7]
    with pytest.raises(RetryableError):
        short.pause_after_error(busy)

    answered: Wait[str] = Wait(5, RetryPolicy(attempts=3))
    answered.next_poll()
    assert answered.pause_after("pending") is not None
    assert answered.pause_after_error(busy) is None
    assert answered.last_answer() == "pending"


def test_nobody_sits_through_a_long_pause_for_a_short_wait():
    policy = RetryPolicy(attempts=3, first=0, cap=0)
    minute, more = RetryableError("busy", retry_after=60), RetryableError("busy", retry_after=61)

    short: Wait[str] = Wait("1s", policy)
    assert short.pause_after_error(minute) == 60
    with pytest.raises(RetryableError):
        short.pause_after_error(more)
    assert Wait(100, policy).pause_after_error(more) == 61
    assert Wait(None, policy).pause_after_error(RetryableError("busy", retry_after=300)) == 300


def test_a_delete_that_was_never_sent_has_deleted_nothing():
    attempts = Attempts(RetryPolicy())
    gone = JobNotFound("gone", code="job_not_found")

    attempts.pause_after(NoServer("refused", may_have_happened=False))
    assert not attempts.has_deleted("DELETE", gone)
    attempts.pause_after(NoServer("no answer in time"))
    assert attempts.has_deleted("DELETE", gone)
    assert not attempts.has_deleted("PATCH", gone)


def test_what_is_not_repeatable_has_another_attempt_where_it_has_surely_not_been_done():
    attempts = Attempts(RetryPolicy(attempts=9))

    for harmless in (NoServer("refused", may_have_happened=False), RetryableError("busy", code="overloaded")):
        assert attempts.pause_after(harmless, False) is not None
    for lost in (NoServer("it broke"), RetryableError("perhaps", code="outcome_unknown")):
        assert attempts.pause_after(lost, False) is None
        assert attempts.pause_after(lost) is not None


def test_the_last_error_says_whether_any_attempt_may_have_been_done():
    refused = [NoServer("refused", may_have_happened=False) for _ in range(3)]
    polls: Wait[str] = Wait("1ms", RetryPolicy(attempts=3))

    attempts = Attempts(RetryPolicy(attempts=3))
    for error in (refused[0], NoServer("it broke"), refused[1]):
        attempts.pause_after(error)
    polls.pause_after_error(NoServer("it broke"))
    polls.pause_after_error(refused[2])

    assert [error.may_have_happened for error in refused] == [False, True, True]


def test_a_problem_becomes_the_exception_of_its_class():
    problem = {"code": "x", "class": "user", "detail": "why", "status": 400, "field": "jobs[3].type", "trace_id": "0f"}

    error = from_problem(problem)

    assert type(error) is UserError
    assert (error.code, error.message, error.field, error.trace_id, error.status) == (
        "x",
        "why",
        "jobs[3].type",
        "0f",
        400,
    )
    assert str(error) == "x: why (field jobs[3].type) [trace 0f]"


@pytest.mark.parametrize(
    "url, host, port, is_tls",
    [
        ("http://h:1", "h", 1, False),
        ("h:1", "h", 1, False),
        ("https://h", "h", 443, True),
        ("http://[::1]:5/", "::1", 5, False),
        ("http://h", "h", 80, False),
        (None, "127.0.0.1", 7330, False),
    ],
)
def test_an_address_is_read(url, host, port, is_tls):
    address = Address.parse(url)

    assert (address.host, address.port, address.tls is not None) == (host, port, is_tls)


WITH_SECRETS = ["http://user:secret@h", "http://user:secret@h/path", "ftp://user:secret@h", "http://user:secret@"]
WITH_SECRETS += ["http://user:sec/secret@h", "http:/user:secret@h", "user:secret@h", "http://user:secret@h:port"]


@pytest.mark.parametrize("url", ["ftp://h", "http://", "http://h/path", *WITH_SECRETS])
def test_what_is_no_address_is_refused(url):
    with pytest.raises(ValueError) as refused:
        Address.parse(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("make", [Client, AsyncClient, Worker, AsyncWorker])
@pytest.mark.parametrize("url", ["jobs.example:443", "http://jobs.example", None])
def test_tls_is_not_left_out_without_a_word(monkeypatch, make, url):
    monkeypatch.delenv("WORKMILL_CA_FILE", raising=False)
    tls = ssl.create_default_context()

    with pytest.raises(UserError) as refused:
        make(url=url, tls=tls, token="wm_secret")
    assert (refused.value.code, refused.value.field) == ("bad_configuration", "tls")
    assert Address.parse("https://jobs.example", tls).tls is tls
