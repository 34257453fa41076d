"""The worker stream over real sockets: docs/reference/stream.md."""

import base64
import contextlib
import json
import os
import pathlib
import signal
import socket
import ssl

import pytest

from harness import Raw, eventually, request_bytes
from streams import Stream, report_on
from test_metrics import page
from test_tls import Secure
from test_tokens import new_token, rotate

KEY = base64.b64encode(b"0123456789abcdef").decode()
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Version": "13",
}


def enqueue(api, queue, count, **more):
    jobs = [{"type": "t", "queue": queue, "payload": n, **more} for n in range(count)]
    return [job["id"] for job in api.post("/v1/jobs", {"jobs": jobs}, expect=201)["jobs"]]


def read(api, job):
    return api.get(f"/v1/jobs/{job}", expect=200)


def depth(api, queue):
    return api.get(f"/v1/queues/{queue}", expect=200)["depth"]


def ended(server, reason):
    return page(server).value("workmill_streams_ended_total", reason=reason)


def upgrade_request(**changes):
    """The request for a stream. None takes a header away."""
    headers = {**UPGRADE, **{name.replace("_", "-"): value for name, value in changes.items()}}
    return request_bytes("GET", "/v1/worker", headers=[f"{k}: {v}" for k, v in headers.items() if v is not None])


def frame(opcode, payload, first=0x80):
    """A frame of a client, under a mask of zeros."""
    length = len(payload)
    head = bytes([0x80 | length]) if length < 126 else bytes([0x80 | 126]) + length.to_bytes(2, "big")
    return bytes([first | opcode]) + head + b"\0\0\0\0" + payload


def upgraded(server, token=None, receive_buffer=None):
    """A connection that has become a stream, for bytes."""
    raw = Raw(server.port)
    if receive_buffer:
        raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    raw.send(upgrade_request())
    while b"\r\n\r\n" not in raw._buffer:
        assert raw._more()
    assert raw._buffer.startswith(b"HTTP/1.1 101 "), raw._buffer
    return raw


@pytest.fixture(params=["1", "2"])
def threads(request):
    return request.param


# ---- Jobs, reports and credit.


def test_jobs_come_as_they_become_ready_and_reports_are_answered(shared, api):
    with Stream(shared) as stream:
        subscribed = stream.subscribe(api.queue, 10, worker="host-1", lease="90s")
        assert subscribed == {"resume": stream.resume, "reconnect_within": "5s", "resumed": False, "lease": "1m30s"}
        ids = enqueue(api, api.queue, 3)

        jobs = stream.jobs(3)

        assert [job["id"] for job in jobs] == ids
        assert [job["payload"] for job in jobs] == [0, 1, 2]
        assert stream.reported(jobs, result={"ok": 1}) == [{"id": id, "ok": True} for id in ids]
    job = read(api, ids[0])
    assert (job["state"], job["result"], job["worker"]) == ("completed", {"ok": 1}, "host-1")


def test_a_job_is_sent_as_a_lease_gives_it(shared, api):
    sent = {"type": "t", "queue": api.queue, "payload": {"a": [1]}, "meta": {"u": 1}, "tags": ["x"], "group": "g"}
    with Stream(shared) as stream:
        stream.subscribe(api.queue, 1)
        api.post("/v1/jobs", sent, expect=201)
        streamed = stream.jobs(1)[0]
        stream.send({"credit": 0})
        stream.reported([streamed], "released")
        leased = api.lease_one()
    for job in streamed, leased:
        for changing in "lease", "lease_expires_at":
            del job[changing]
    assert streamed == leased


def test_never_are_more_jobs_out_than_the_credit(shared, api):
    enqueue(api, api.queue, 10)
    with Stream(shared) as stream:
        stream.subscribe(api.queue, 3)
        jobs = stream.jobs(3)
        stream.reported(jobs[:1])
        jobs += stream.jobs(1)
        stream.send({"credit": 5})
        jobs += stream.jobs(2)
        stream.send({"credit": 0})
        stream.reported(jobs[1:])
        stream.send({"drain": True})
        # Nothing else is on its way: what is asked next is answered next.
        assert stream.receive() == ("drained", True)
    assert depth(api, api.queue)["ready"] == 4


def test_messages_are_answered_in_their_order_however_many_are_sent_at_once(shared, api):
    ids = enqueue(api, api.queue, 300)
    with Stream(shared) as stream:
        stream.subscribe(api.queue, 300)
        jobs = stream.jobs(300)
        for job in jobs:
            stream.report([job])
        answers = [stream.get("reports") for _ in jobs]
    assert answers == [[{"id": id, "ok": True}] for id in ids]


def test_reports_that_do_not_hold_are_answered_one_by_one(shared, api):
    enqueue(api, api.queue, 2)
    with Stream(shared) as stream:
        stream.subscribe(api.queue, 2)
        jobs = stream.jobs(2)
        stream.send({"reports": [report_on(jobs[0]), report_on(jobs[0]), report_on({"id": "nope", "lease": "0" * 16})]})
        good, twice, unknown = stream.get("reports")
        assert good["ok"] and not twice["ok"] and not unknown["ok"]
        assert (twice["error"]["code"], unknown["error"]["code"]) == ("lease_lost", "job_not_found")
        progress = stream.reported(jobs[1:], "progress", percent=5)
        assert progress[0]["ok"]


def test_jobs_are_shared_out_between_streams(shared, api):
    with Stream(shared) as one, Stream(shared) as two:
        one.subscribe(api.queue, 100)
        two.subscribe(api.queue, 100)
        enqueue(api, api.queue, 10)
        assert len(one.jobs(5)) == len(two.jobs(5)) == 5


def test_a_cancellation_is_told(shared, api):
    named = api.enqueue_id(id=f"{api.queue}-mine")
    other = api.enqueue_id()
    with Stream(shared) as stream:
        stream.subscribe(api.queue, 5)
        jobs = stream.jobs(2)
        api.post(f"/v1/jobs/{named}/cancel", None)
        api.post(f"/v1/jobs/{other}/cancel", None)
        assert stream.get("cancel") + stream.get("cancel") == [named, other]
        stream.reported(jobs, "failed", error={"class": "user", "code": "stopped"})
    assert read(api, named)["state"] == read(api, other)["state"] == "cancelled"


# ---- The end of a stream, and coming back.


def test_a_drained_stream_gets_no_more_and_is_told_when_nothing_is_out(shared, api):
    enqueue(api, api.queue, 2)
    with Stream(shared) as stream:
        stream.subscribe(api.queue, 2)
        jobs = stream.jobs(2)
        stream.send({"drain": True})
        enqueue(api, api.queue, 2)
        stream.reported(jobs)
        assert stream.get("drained") is True
    assert depth(api, api.queue)["ready"] == 2


def test_who_comes_back_in_time_goes_on_with_the_same_leases(start, config, threads):
    server = start(*config(stream_reconnect_within="1h", io_threads=threads))
    api = server.api()
    enqueue(api, "q", 3)
    with Stream(server) as stream:
        stream.subscribe("q", 3, worker="host-1")
        jobs = stream.jobs(3)
        stream.break_off()
    eventually(lambda: ended(server, "gone"), "the server has seen it go")
    with Stream(server) as back:
        subscribed = back.subscribe("q", 3, worker="host-1", resume=stream.resume, held=[jobs[1]["id"]])
        assert subscribed["resumed"] is True
        assert back.resume != stream.resume
        again = back.jobs(2)
        assert [job["lease"] for job in again] == [jobs[0]["lease"], jobs[2]["lease"]]
        assert again[0] == jobs[0]
        assert all(answer["ok"] for answer in back.reported(jobs))
    assert [read(api, job["id"])["attempt"] for job in jobs] == [1, 1, 1]


def test_the_jobs_of_who_does_not_come_back_go_to_others(start, config, threads):
    server = start(*config(stream_reconnect_within="50ms", io_threads=threads))
    api = server.api()
    ids = enqueue(api, "q", 1_000)
    with Stream(server) as gone, Stream(server) as other:
        gone.subscribe("q", 1_000, lease="1h")
        gone.jobs(1_000)
        other.subscribe("q", 1_000, lease="1h")
        gone.break_off()
        jobs = other.jobs(1_000)
        assert sorted(job["id"] for job in jobs) == sorted(ids)
        assert {job["attempt"] for job in jobs} == {2}
        assert read(api, ids[0])["error"]["code"] == "lease_expired"
        with Stream(server) as late:
            assert late.subscribe("q", 1, resume=gone.resume)["resumed"] is False
            answers = late.reported([{"id": ids[0], "lease": "0" * 16}])
            assert answers[0]["error"]["code"] == "lease_lost"


def test_who_comes_back_replaces_a_connection_that_is_still_there(start, threads):
    server = start("--io-threads", threads)
    api = server.api()
    enqueue(api, "q", 1)
    with Stream(server) as old, Stream(server) as back:
        old.subscribe("q", 1, worker="w")
        jobs = old.jobs(1)
        assert back.subscribe("q", 1, worker="w", resume=old.resume)["resumed"] is True
        problem, code = old.refused()
        assert (problem["code"], code) == ("stream_replaced", 1008)
        assert back.jobs(1) == jobs
        assert back.reported(jobs)[0]["ok"]


def test_leases_outlive_a_server_that_is_killed(start):
    server = start()
    api = server.api()
    enqueue(api, "q", 2)
    with Stream(server) as stream:
        stream.subscribe("q", 2, worker="w", lease="1h")
        jobs = stream.jobs(2)
        server.kill()
        server.start()
    with Stream(server) as back:
        subscribed = back.subscribe("q", 2, worker="w", resume=stream.resume, held=[job["id"] for job in jobs])
        assert subscribed["resumed"] is False
        assert all(answer["ok"] for answer in back.reported(jobs))
    assert {read(api, job["id"])["state"] for job in jobs} == {"completed"}


def test_a_server_that_stops_answers_what_came_and_says_so(start, threads):
    server = start("--io-threads", threads)
    api = server.api()
    enqueue(api, "q", 10)
    with Stream(server) as stream, Stream(server) as idle, contextlib.closing(upgraded(server).socket):
        stream.subscribe("q", 5, worker="w", lease="1h")
        idle.subscribe("nothing", 5)
        jobs = stream.jobs(5)
        stream.reported(jobs[:1])
        jobs += stream.jobs(1)
        server.terminate()
        assert stream.closed() == idle.closed() == 1001
        assert server.wait_for_exit() == 0
    server.start()
    assert depth(api, "q")["leased"] == 5
    with Stream(server) as back:
        back.subscribe("q", 0, worker="w", resume=stream.resume, held=[job["id"] for job in jobs])
        assert all(answer["ok"] for answer in back.reported(jobs[1:]))


# ---- Time and memory.


def test_a_peer_that_answers_no_ping_is_dropped(start, config):
    server = start(*config(stream_ping="1s", stream_idle_ping="2s", stream_reconnect_within="10ms"))
    api = server.api()
    enqueue(api, "q", 1)
    with upgraded(server) as silent, Stream(server) as answering:
        answering.subscribe("other", 1)
        silent.send(frame(1, b'{"subscribe":{"queues":["q"],"credit":1,"lease":"1h"}}'))
        eventually(lambda: depth(api, "q")["leased"] == 1, "it was sent the job")
        eventually(lambda: ended(server, "silent") == 1, "it is dropped")
        eventually(lambda: depth(api, "q")["ready"] == 1, "its job is there for others")
        eventually(lambda: page(server).value("workmill_stream_pings_total") >= 3, "the other is pinged, too")
        enqueue(api, "other", 1)
        assert len(answering.jobs(1)) == 1


def test_a_stream_is_watched_closely_while_its_worker_has_jobs(start, config):
    server = start(*config(stream_ping="1s", stream_idle_ping="1h", stream_reconnect_within="10ms"))
    api = server.api()
    with upgraded(server) as silent:
        silent.send(frame(1, b'{"subscribe":{"queues":["q"],"credit":1,"lease":"1h"}}'))
        eventually(lambda: page(server).value("workmill_streams") == 1, "it is open")
        pings = page(server).value("workmill_stream_pings_total")
        enqueue(api, "q", 1)
        eventually(lambda: ended(server, "silent") == 1, "it is dropped")
        assert page(server).value("workmill_stream_pings_total") == pings + 1
        eventually(lambda: depth(api, "q")["ready"] == 1, "its job is there for others")


def own_name(stream):
    """The address and port of its worker's end."""
    host, port = stream.ws.socket.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def direct(server):
    return page(server).value("workmill_streams_direct")


def test_a_stream_is_direct_where_its_worker_names_the_address_that_the_server_sees(start):
    server = start()
    with Stream(server) as stream, Stream(server) as other:
        assert stream.subscribe("q", 1, **{"from": own_name(stream)})["direct"] is True
        assert "direct" not in other.subscribe("q", 1, **{"from": own_name(stream)})
        assert direct(server) == 1
    eventually(lambda: direct(server) == 0, "it has ended")


def asked_in(server):
    """In how many seconds the kernel asks for each of the server's connections: its keep-alive timers in /proc."""
    port = f":{server.port:04X}"
    tick = os.sysconf("SC_CLK_TCK")
    lines = [line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
    timers = [fields[5] for fields in lines if fields[1].endswith(port)]
    return [int(when, 16) / tick for kind, when in (timer.split(":") for timer in timers) if kind == "02"]


def test_direct_streams_are_asked_for_at_different_times(start):
    """A kernel that asks for thousands in one moment loses what it cannot queue, and ends sound connections for it."""
    server = start()
    with contextlib.ExitStack() as streams:
        for number in range(20):
            stream = streams.enter_context(Stream(server))
            assert stream.subscribe(f"q{number}", 1, **{"from": own_name(stream)})["direct"] is True
        eventually(lambda: len(asked_in(server)) == 20, "all are left to the kernel")
        times = asked_in(server)
    assert max(times) <= 120
    assert max(times) - min(times) > 10


def test_a_direct_stream_that_is_idle_is_not_pinged_and_one_with_jobs_is(start, config):
    server = start(*config(stream_ping="1s", stream_idle_ping="1s", stream_reconnect_within="10ms"))
    api = server.api()
    with Stream(server) as stream, Stream(server) as other, upgraded(server) as silent:
        stream.subscribe("idle", 1, **{"from": own_name(stream)})
        other.subscribe("idle", 1)
        name = "{}:{}".format(*silent.socket.getsockname())
        subscribe = {"queues": ["q"], "credit": 1, "lease": "1h", "from": name}
        silent.send(frame(1, json.dumps({"subscribe": subscribe}).encode()))
        eventually(lambda: direct(server) == 2, "both are open")
        eventually(lambda: page(server).value("workmill_stream_pings_total") >= 3, "the third is pinged")
        assert ended(server, "silent") == 0  # Though one of them answers nothing.
        enqueue(api, "q", 1)
        eventually(lambda: ended(server, "silent") == 1, "it is dropped")
        eventually(lambda: depth(api, "q")["ready"] == 1, "its job is there for others")


def test_a_stream_that_takes_nothing_is_leased_no_more_and_dropped_in_the_end(start, config):
    server = start(*config(stream_window="64KiB", write_timeout="1s", stream_reconnect_within="10ms"))
    api = server.api()
    count = 400  # More than the sockets between us take.
    for _ in range(4):
        enqueue(api, "q", count // 4, meta={"text": "x" * 50_000})
    with upgraded(server, receive_buffer=4_096) as slow:
        slow.send(frame(1, b'{"subscribe":{"queues":["q"],"credit":1000,"lease":"1h"}}'))
        eventually(lambda: depth(api, "q")["leased"] > 0, "it is sent jobs")
        eventually(lambda: ended(server, "slow") == 1, "it is dropped")
        eventually(lambda: depth(api, "q")["ready"] == count, "its jobs are there for others")
        assert api.get("/v1/queues/q")["counters"]["leased"] < count
    with Stream(server) as reader:
        reader.subscribe("q", 1_000)
        assert len(reader.jobs(count)) == count


def test_a_stream_without_a_subscription_and_a_message_without_an_end_are_not_waited_for(start, config):
    server = start(*config(header_timeout="1s", request_timeout="1s"))
    with upgraded(server) as waits, upgraded(server) as trickles:
        trickles.send(frame(1, b'{"subscribe":{"queues":["q"],"credit":1}}') + frame(1, b'{"credit":', first=0))
        for raw in waits, trickles:
            while b"request_timeout" not in raw._buffer:
                assert raw._more()
            assert raw.closed()
    assert ended(server, "slow") == 2


def test_streams_over_the_limit_are_refused(start, config):
    server = start(*config(streams_max="1"))
    with Stream(server) as stream:
        stream.subscribe("q", 1)
        with Raw(server.port) as raw:
            answer = raw.send(upgrade_request()).answer()
            assert (answer.status, answer.code) == (503, "overloaded")
            assert int(answer.headers["Retry-After"]) >= 1


# ---- What is no request, no message, or not allowed.


@pytest.mark.parametrize(
    "changes, status, code",
    [
        ({"Upgrade": None}, 426, "upgrade_required"),
        ({"Connection": "keep-alive"}, 426, "upgrade_required"),
        ({"Upgrade": "h2c"}, 426, "upgrade_required"),
        ({"Sec-WebSocket-Version": "8"}, 426, "upgrade_required"),
        ({"Sec-WebSocket-Key": "short"}, 400, "malformed_request"),
        ({"Sec-WebSocket-Key": None}, 400, "malformed_request"),
        ({"Origin": "https://elsewhere.example"}, 403, "forbidden"),
    ],
)
def test_a_request_that_is_for_no_stream_is_answered(shared, changes, status, code):
    with Raw(shared.port) as raw:
        answer = raw.send(upgrade_request(**changes)).answer()
        assert (answer.status, answer.code) == (status, code)
        if status == 426:
            assert answer.headers["Upgrade"] == "websocket"
        assert raw.send(request_bytes("GET", "/healthz")).answer().status == 200


def test_requests_before_it_on_the_same_connection_are_answered_first(shared, api):
    with Raw(shared.port) as raw:
        assert raw.send(request_bytes("GET", "/healthz")).answer().status == 200
        raw.send(upgrade_request() + frame(1, b'{"nonsense":1}'))
        while b"unknown_field" not in raw._buffer:
            assert raw._more()
        assert raw._buffer.startswith(b"HTTP/1.1 101 ")
        waits = {"queues": [api.queue], "wait": "30s"}
    with Raw(shared.port) as raw:
        raw.send(request_bytes("POST", "/v1/leases", waits) + upgrade_request())
        enqueue(api, api.queue, 1)
        assert raw.answer().status == 200
        assert raw.answer().code == "malformed_request"


SUBSCRIBE = {"subscribe": {"queues": ["nowhere"], "credit": 1}}


@pytest.mark.parametrize(
    "messages, error, field, close",
    [
        (["no json"], "malformed_json", None, 1007),
        (['{"subscribe"'], "malformed_json", None, 1007),
        ([{}], "invalid_field", None, 1008),
        ([{"credit": 1}], "malformed_request", None, 1002),
        ([{"reports": [{"id": "x", "lease": "0" * 16, "outcome": "released"}]}], "malformed_request", None, 1002),
        ([{"subscribe": {"credit": 1}}], "missing_field", "subscribe.queues", 1008),
        ([{"subscribe": {"queues": ["q"]}}], "missing_field", "subscribe.credit", 1008),
        ([{"subscribe": {"queues": [], "credit": 1}}], "invalid_field", "subscribe.queues", 1008),
        ([{"subscribe": {"queues": ["q"], "credit": 10_001}}], "invalid_field", "subscribe.credit", 1008),
        ([{"subscribe": {"queues": ["q"], "credit": 1, "lease": "1ms"}}], "invalid_field", "subscribe.lease", 1008),
        ([{"subscribe": {"queues": ["q"], "credit": 1, "worker": "a b"}}], "invalid_field", "subscribe.worker", 1008),
        ([{"subscribe": {"queues": ["q"], "credit": 1, "max": 1}}], "unknown_field", "subscribe.max", 1008),
        ([{"subscribe": {"queues": ["q"], "credit": 1, "from": "q:1"}}], "invalid_field", "subscribe.from", 1008),
        ([{"subscribe": {"queues": ["q"], "credit": 1, "from": 1}}], "invalid_field", "subscribe.from", 1008),
        ([SUBSCRIBE, SUBSCRIBE], "malformed_request", None, 1002),
        ([SUBSCRIBE, {"credit": -1}], "invalid_field", "credit", 1008),
        ([SUBSCRIBE, {"drain": False}], "invalid_field", "drain", 1008),
        ([SUBSCRIBE, {"reports": []}], "invalid_field", "reports", 1008),
        ([SUBSCRIBE, {"credit": 1, "drain": True}], "invalid_field", "drain", 1008),
        ([SUBSCRIBE, {"reports": [{"id": "x", "outcome": "released"}]}], "missing_field", "reports[0].lease", 1008),
        ([b"binary"], "unsupported_media_type", None, 1003),
    ],
)
def test_a_message_that_makes_no_sense_ends_the_stream(shared, messages, error, field, close):
    with Stream(shared) as stream:
        for message in messages:
            stream.ws.send(message if isinstance(message, (str, bytes)) else json.dumps(message))
        problem, code = stream.refused()
    assert (problem["code"], problem.get("field"), code) == (error, field, close)


@pytest.mark.parametrize(
    "sent, error, close",
    [
        (b"\xc1\x80\0\0\0\0", "malformed_request", 1002),
        (b"\x81\x02{}", "malformed_request", 1002),
        (frame(1, b"\xff\xfe"), "malformed_json", 1007),
        (b"\x81\xff\0\0\0\0\x7f\0\0\0\0\0\0\0", "payload_too_large", 1009),
    ],
)
def test_bytes_that_are_no_frame_end_the_stream(shared, sent, error, close):
    with upgraded(shared) as raw:
        raw.send(sent)
        while error.encode() not in raw._buffer or close.to_bytes(2, "big") not in raw._buffer:
            assert raw._more(), raw._buffer
        assert raw.closed()


def test_a_token_is_asked_for_and_its_queues_hold(start, tmp_path):
    data = tmp_path / "data"
    worker = new_token(data, "worker", "work", "--queue", "mine")
    everything = new_token(data, "all", "enqueue,work,read")
    reader = new_token(data, "reader", "read")
    server = start(data=data)
    api = server.api(token=everything)
    for token, status in ((None, 401), (reader, 403)):
        with Raw(server.port) as raw:
            shown = f"Bearer {token}" if token else None
            assert raw.send(upgrade_request(Authorization=shown)).answer().status == status
    other = enqueue(api, "other", 1)[0]
    mine = enqueue(api, "mine", 1)[0]
    with Stream(server, everything) as stream, Stream(server, worker) as limited, Stream(server, worker) as refused:
        refused.send({"subscribe": {"queues": ["mine", "other"], "credit": 1}})
        problem, code = refused.refused()
        assert (problem["code"], code) == ("forbidden", 1008)
        stream.subscribe("other", 1)
        theirs = stream.jobs(1)
        limited.subscribe("mine", 1, worker="w")
        assert [job["id"] for job in limited.jobs(1)] == [mine]
        assert limited.reported(theirs)[0]["error"]["code"] == "job_not_found"
        assert read(api, other)["state"] == "leased"
        # Another's stream is not to be taken over, whoever knows its token.
        with Stream(server, everything) as thief:
            assert thief.subscribe("mine", 1, worker="w", resume=limited.resume)["resumed"] is False


def test_a_stream_whose_token_is_revoked_is_ended(start, tmp_path):
    data = tmp_path / "data"
    token = new_token(data, "worker", "work")
    server = start(data=data)
    with Stream(server, token) as stream:
        stream.subscribe("q", 1)
        os.remove(data / "tokens")
        new_token(data, "other", "work")
        server.process.send_signal(signal.SIGHUP)
        problem, code = stream.refused()
    assert (problem["code"], code) == ("unauthorized", 1008)


def test_a_stream_outlives_the_rotation_of_its_token_and_ends_with_the_old_secret(start, tmp_path):
    data = tmp_path / "data"
    token = new_token(data, "worker", "work,enqueue")
    server = start(data=data)
    with Stream(server, token) as stream:
        stream.subscribe("q", 2, worker="w")
        after = rotate(data, "worker", "--grace", "2s")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_log('"action":"reload"')
        enqueue(server.api(token=after), "q", 1)
        held = stream.jobs(1)
        problem, code = stream.refused()
        assert (problem["code"], code) == ("unauthorized", 1008)
        # With the new secret it is the same worker: the job that is out stays his.
        with Stream(server, after) as again:
            subscribed = again.subscribe("q", 2, worker="w", resume=stream.resume, held=[held[0]["id"]])
            assert subscribed["resumed"] is True
            assert again.reported(held)[0]["ok"]


def test_a_stream_whose_token_loses_a_queue_is_ended(start, tmp_path):
    data = tmp_path / "data"
    token = new_token(data, "worker", "work", "--queue", "a", "--queue", "b")
    server = start(data=data)
    with Stream(server, token) as stays, Stream(server, token) as stream:
        stays.subscribe("a", 1)
        stream.subscribe(["a", "b"], 1)
        tokens = data / "tokens"
        text = tokens.read_text()
        assert text.count(" a,b ") == 1
        tokens.write_text(text.replace(" a,b ", " a "))
        server.process.send_signal(signal.SIGHUP)
        problem, code = stream.refused()
        assert (problem["code"], code) == ("forbidden", 1008)
        stays.send({"drain": True})
        assert stays.get("drained") is True


def test_over_tls_it_is_the_same(start, tmp_path):
    secure = Secure(start, tmp_path)
    context = secure.context()
    # The library reads in one thread and writes in another, which OpenSSL does not allow on one connection. TLS 1.3 sends
    # its tickets after the handshake, and then they get in each other's way: now and then the reader waited for ever.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with Stream(secure, tls=context) as stream:
        assert stream.subscribe("q", 1, **{"from": own_name(stream)})["direct"] is True
        stream.send({"drain": True})
        assert stream.get("drained") is True
