"""Feature flags over real sockets: docs/reference/flags.md."""

import json
import subprocess

import pytest

from harness import ROOT, Raw, eventually, request_bytes
from streams import Stream
from test_cli import Cli
from test_metrics import page
from test_tokens import new_token

SWITCH = {"variants": {"on": True, "off": False}, "default": "off"}
GATE = {"variants": {"open": True, "shut": False}, "default": "open"}


def put(api, key, definition, **options):
    options.setdefault("expect", 200)
    return api.call("PUT", f"/v1/flags/{key}", definition, **options).json


def ask(api, key, context=None, **options):
    context = {"targetingKey": "user-1", **(context or {})}
    return api.call("POST", f"/ofrep/v1/evaluate/flags/{key}", {"context": context}, **options)


def ask_all(api, context, **options):
    return api.call("POST", "/ofrep/v1/evaluate/flags", {"context": context}, **options)


def gate(api, key, types, is_open):
    put(api, key, {**GATE, "gates": types, "default": "open" if is_open else "shut"})


def kept(api, key):
    page = api.get(f"/v1/flags/{key}/history", query={"limit": 1000})
    assert page["next"] is None
    return [(change["version"], change["default"]) for change in page["items"]]


@pytest.fixture
def server(start):
    return start()


# ---- Definitions


def test_a_flag_is_answered_as_it_was_set(server):
    api = server.api()
    definition = {
        "variants": {"blue": {"rgb": [0, 0, 255]}, "red": {"rgb": []}},
        "default": "red",
        "enabled": False,
        "rules": [
            {"if": {"plan": ["pro", "team"], "age": [1, 2.5], "a \"b\"": [True]}, "variant": "blue"},
            {"if": {"beta": [False]}, "rollout": {"blue": 1, "red": 0}},
            {"rollout": {"blue": 25, "red": 75}},
        ],
        "gates": [],
    }
    made = put(api, "colour", definition)
    assert {name: made[name] for name in definition} == definition
    assert (made["key"], made["version"]) == ("colour", 1) and "updated_by" not in made
    assert api.get("/v1/flags/colour") == made
    assert put(api, "colour", made) == made, "the same again is no change"
    changed = put(api, "colour", {**made, "enabled": True})
    assert changed["version"] == 2 and changed["enabled"]
    assert [each["version"] for each in api.get("/v1/flags/colour/history")["items"]] == [2, 1]


def test_a_history_is_read_in_pages(server):
    api = server.api()
    for i in range(60):
        put(api, "f", {**SWITCH, "default": "on" if i % 2 else "off"})
    first = api.get("/v1/flags/f/history")
    assert [change["version"] for change in first["items"]] == list(range(60, 10, -1)), "50 where nothing is said"
    rest = api.get("/v1/flags/f/history", query={"cursor": first["next"]})
    assert [change["version"] for change in rest["items"]] == list(range(10, 0, -1)) and rest["next"] is None
    found, cursor = [], {}
    while cursor is not None:
        page_of = api.get("/v1/flags/f/history", query={"limit": 7, **cursor})
        found += [change["version"] for change in page_of["items"]]
        cursor = {"cursor": page_of["next"]} if page_of["next"] else None
        put(api, "f", {**SWITCH, "default": "on" if len(found) % 2 else "off"})  # What comes meanwhile is not in it.
    assert found == list(range(60, 0, -1))
    for bad in ("nonsense", "MA", "!"):
        api.refused("GET", "/v1/flags/f/history", query={"cursor": bad}, code="invalid_field", field="cursor")
    api.refused("GET", "/v1/flags/f/history", query={"limit": 0}, code="invalid_field", field="limit")


def test_what_is_no_definition_is_refused_by_its_field(server):
    api = server.api()

    def refused(field, code="invalid_field", **changes):
        definition = {name: value for name, value in {**SWITCH, **changes}.items() if value is not None}
        api.refused("PUT", "/v1/flags/f", definition, code=code, field=field)

    refused("variants", "missing_field", variants=None)
    refused("default", "missing_field", default=None)
    refused("odd", "unknown_field", odd=1)
    refused("default", default="nope")
    refused("variants", variants={})
    refused("variants.b", variants={"a": 1, "b": "1"}, default="a")
    refused("variants.a", variants={"a": None}, default="a")
    refused("rules[0]", rules=[{"if": {"a": [1]}}])
    refused("rules[0]", rules=[{"variant": "on", "rollout": {"on": 1}}])
    refused("rules[1].variant", rules=[{"variant": "on"}, {"variant": "nope"}])
    refused("rules[0].rollout", rules=[{"rollout": {"nope": 1}}])
    refused("rules[0].rollout", rules=[{"rollout": {"on": 0}}])
    refused("rules[0].rollout.on", rules=[{"rollout": {"on": -1}}])
    refused("rules[0].if.a", rules=[{"if": {"a": []}, "variant": "on"}])
    refused("rules[0].if.a[1]", rules=[{"if": {"a": [1, None]}, "variant": "on"}])
    refused("rules[0].odd", "unknown_field", rules=[{"odd": 1}])
    refused("gates", variants={"a": "x"}, default="a", gates=["mail"])
    refused("gates[0]", gates=["no name"])
    refused("key", key="another")
    refused("enabled", enabled="yes")
    api.refused("PUT", "/v1/flags/f", {"variants": {"a": "x" * 17_000}, "default": "a"}, code="invalid_field")
    long_rules = [{"if": {"a": ["x" * 900]}, "variant": "on"}] * 20
    api.refused("PUT", "/v1/flags/f", {**SWITCH, "rules": long_rules}, code="payload_too_large")
    api.refused("PUT", "/v1/flags/no%20name", SWITCH, code="invalid_field", field="key")
    assert api.call("PUT", "/v1/flags/f", data=b"{", expect=400).code == "malformed_json"
    assert api.get("/v1/flags") == {"items": [], "next": None}


def test_a_change_names_the_version_that_it_is_of(server):
    api = server.api()
    api.refused("PUT", "/v1/flags/f", {**SWITCH, "version": 1}, code="wrong_state", field="version")
    first = put(api, "f", {**SWITCH, "version": 0})
    put(api, "f", {**SWITCH, "default": "on"})
    api.refused("PUT", "/v1/flags/f", {**first, "enabled": False}, code="wrong_state")
    assert api.get("/v1/flags/f")["version"] == 2


def test_flags_come_in_pages_by_key(server):
    api = server.api()
    for key in ("c", "a", "b"):
        put(api, key, SWITCH)
    first = api.get("/v1/flags?limit=2")
    assert [flag["key"] for flag in first["items"]] == ["a", "b"]
    second = api.get("/v1/flags", query={"limit": 2, "cursor": first["next"]})
    assert [flag["key"] for flag in second["items"]] == ["c"] and second["next"] is None


def test_no_more_flags_than_may_be(server):
    api = server.api()
    with Raw(server.port) as raw:
        for begin in range(0, 1_000, 50):  # Fifty at a time, one behind the other.
            raw.send(b"".join(request_bytes("PUT", f"/v1/flags/f{n}", SWITCH) for n in range(begin, begin + 50)))
            assert [raw.answer().status for _ in range(50)] == [200] * 50
    assert api.refused("PUT", "/v1/flags/one-more", SWITCH, code="wrong_state")["status"] == 409
    assert put(api, "f7", {**SWITCH, "enabled": False})["version"] == 2
    api.call("DELETE", "/v1/flags/f8", expect=200)
    put(api, "one-more", SWITCH)
    bounds = {bound["name"]: bound for bound in api.get("/v1/status")["bounds"]}
    assert (bounds["flags"]["used"], bounds["flags"]["limit"]) == (1_000, 1_000)


# ---- OpenFeature's remote evaluation


def test_evaluations_say_why(server):
    api = server.api()
    rules = [{"if": {"plan": ["pro"]}, "variant": "on"}, {"if": {"plan": ["split"]}, "rollout": {"on": 1, "off": 0}}]
    put(api, "f", {**SWITCH, "rules": rules})
    put(api, "plain", {"variants": {"a": 2.5, "b": 1}, "default": "a"})

    got = ask(api, "f", {"plan": "pro"}, expect=200).json
    assert got == {
        "key": "f",
        "reason": "TARGETING_MATCH",
        "variant": "on",
        "value": True,
        "metadata": {"version": 1},
    }
    assert ask(api, "f", {"plan": "split"}).json["reason"] == "SPLIT"
    assert ask(api, "f", {"plan": "free"}).json["reason"] == "UNKNOWN"
    assert ask(api, "f", {"plan": ["pro"], "x": None, "y": {"z": 1}}).json["variant"] == "off"
    plain = ask(api, "plain").json
    assert (plain["reason"], plain["value"]) == ("STATIC", 2.5)
    put(api, "f", {**SWITCH, "rules": rules, "enabled": False})
    off = ask(api, "f", {"plan": "pro"}).json
    assert (off["reason"], off["variant"], off["metadata"]) == ("DISABLED", "off", {"version": 2})


def test_the_errors_of_evaluations_are_those_of_the_protocol(server):
    api = server.api()
    put(api, "f", SWITCH)

    def refused(path, data, status, code, key):
        answer = api.call("POST", "/ofrep/v1/evaluate/flags" + path, data=data, expect=status)
        assert answer.headers["Content-Type"] == "application/json"
        assert answer.json["errorCode"] == code and answer.json["errorDetails"], answer
        assert answer.json.get("key") == key, answer

    for path, key in (("/f", "f"), ("", None)):
        refused(path, b"{", 400, "PARSE_ERROR", key)
        refused(path, b'{"context": {"targetingKey": "a"}} x', 400, "PARSE_ERROR", key)
        refused(path, b"[]", 400, "INVALID_CONTEXT", key)
        refused(path, b"{}", 400, "INVALID_CONTEXT", key)
        refused(path, b'{"context": []}', 400, "INVALID_CONTEXT", key)
        refused(path, b'{"context": {"targetingKey": 1}}', 400, "INVALID_CONTEXT", key)
        refused(path, b'{"context": {"targetingKey": ["a"]}}', 400, "INVALID_CONTEXT", key)
        refused(path, b'{"context": {}}', 400, "TARGETING_KEY_MISSING", key)
        refused(path, b'{"context": {"targetingKey": ""}}', 400, "TARGETING_KEY_MISSING", key)
        many = {"targetingKey": "a", **{f"a{n}": n for n in range(256)}}
        refused(path, json.dumps({"context": many}).encode(), 400, "INVALID_CONTEXT", key)
    refused("/nope", b'{"context": {"targetingKey": "a"}}', 404, "FLAG_NOT_FOUND", "nope")
    refused("/no%20name", b'{"context": {"targetingKey": "a"}}', 404, "FLAG_NOT_FOUND", "no name")


def test_a_roll_out_is_stable_and_as_wide_as_it_says(server):
    api = server.api()
    put(api, "f", {**SWITCH, "rules": [{"rollout": {"on": 25, "off": 75}}]})

    def on():
        with Raw(server.port) as raw:
            users = [f"user-{n}" for n in range(400)]
            chosen = set()
            for user in users:
                body = {"context": {"targetingKey": user}}
                raw.send(request_bytes("POST", "/ofrep/v1/evaluate/flags/f", body))
                if raw.answer().json["value"]:
                    chosen.add(user)
            return chosen

    first = on()
    assert 70 <= len(first) <= 130, len(first)  # Always the same, as the hash is.
    server.kill()
    server.start()
    assert on() == first
    put(api, "f", {**SWITCH, "rules": [{"rollout": {"on": 50, "off": 50}}]})
    assert first < on(), "who had it keeps it"


def test_all_flags_at_once_and_again_only_when_something_has_changed(server):
    api = server.api()
    put(api, "b", {**SWITCH, "rules": [{"if": {"plan": ["pro"]}, "variant": "on"}]})
    put(api, "a", {"variants": {"x": "text"}, "default": "x"})
    user, other = {"targetingKey": "u", "plan": "pro"}, {"targetingKey": "u", "plan": "free"}

    first = ask_all(api, user, expect=200)
    assert [(flag["key"], flag["value"]) for flag in first.json["flags"]] == [("a", "text"), ("b", True)]
    tag = first.headers["ETag"]
    again = ask_all(api, user, headers={"If-None-Match": tag}, expect=304)
    assert again.body == b"" and again.headers["ETag"] == tag
    assert ask_all(api, user, headers={"If-None-Match": f'"x", W/{tag}'}, expect=304).body == b""
    assert ask_all(api, other, headers={"If-None-Match": tag}, expect=200).headers["ETag"] != tag
    put(api, "b", {**SWITCH, "enabled": False})
    changed = ask_all(api, user, headers={"If-None-Match": tag}, expect=200)
    assert changed.json["flags"][1]["reason"] == "DISABLED"
    query = "?flagConfigEtag=x&flagConfigLastModified=1"
    api.call("POST", "/ofrep/v1/evaluate/flags" + query, {"context": user}, expect=200)


# ---- Live to all, and durable


def test_a_flag_that_is_switched_off_is_off_on_every_thread_when_the_answer_comes(start):
    server = start("--io-threads", "4")
    api = server.api()
    put(api, "f", {**SWITCH, "default": "on"})
    question = request_bytes("POST", "/ofrep/v1/evaluate/flags/f", {"context": {"targetingKey": "u"}})
    readers = [Raw(server.port) for _ in range(32)]  # The kernel spreads them over the threads.
    try:
        for enabled in (False, True, False):
            put(api, "f", {**SWITCH, "default": "on", "enabled": enabled})
            for reader in readers:
                reader.send(question)
            reasons = [reader.answer().json["reason"] for reader in readers]
            assert reasons == ["STATIC" if enabled else "DISABLED"] * len(readers)
    finally:
        for reader in readers:
            reader.__exit__()


def test_flags_and_their_history_outlive_kills(server):
    api = server.api()
    for default in ("on", "off", "on"):
        put(api, "f", {**SWITCH, "default": default})
    put(api, "gone", SWITCH)
    api.call("DELETE", "/v1/flags/gone", expect=200)
    before, flag = kept(api, "f"), api.get("/v1/flags/f")
    tag = ask_all(api, {"targetingKey": "u"}, expect=200).headers["ETag"]
    for _ in range(2):
        server.kill()
        server.start()
        assert kept(api, "f") == before == [(3, "on"), (2, "off"), (1, "on")]
        assert api.get("/v1/flags/f") == flag
        api.call("GET", "/v1/flags/gone", expect=404)
        ask_all(api, {"targetingKey": "u"}, headers={"If-None-Match": tag}, expect=304)


def test_a_flag_outlives_the_segments_that_it_was_written_to(start):
    server = start("--segment-size", "64KiB")
    api = server.api()
    gate(api, "f", ["held"], False)
    put(api, "g", SWITCH)
    put(api, "g", {**SWITCH, "default": "on"})
    held = api.enqueue_id(type="held", queue="q")
    for _ in range(30):
        api.post("/v1/jobs", {"jobs": [{"type": "t", "queue": "fill", "payload": "x" * 400} for _ in range(50)]})
        api.call("DELETE", "/v1/queues/fill/jobs", expect=200)

    def first_is_gone():
        return page(server).value("workmill_log_trimmed_segments_total") >= 3

    eventually(first_is_gone, "segments are dropped")
    server.kill()
    server.start()
    assert kept(api, "g") == [(2, "on"), (1, "off")]
    assert api.lease(queues=["q"]) == []
    gate(api, "f", ["held"], True)
    assert [job["id"] for job in api.lease(queues=["q"])] == [held]


# ---- Gates


def test_off_its_jobs_wait_and_on_they_are_leased_in_their_order(server):
    api = server.api()
    gate(api, "mailer", ["mail"], False)
    mails, others = [], []
    for _ in range(5):
        mails.append(api.enqueue_id(type="mail", queue="q"))
        others.append(api.enqueue_id(type="other", queue="q"))
    assert [job["id"] for job in api.lease(max=20, queues=["q"])] == others
    assert api.lease(max=20, queues=["q"], wait="10ms") == []
    assert api.get("/v1/queues/q")["depth"]["ready"] == 5
    assert page(server).value("workmill_gated_jobs") == 5

    server.kill()
    server.start()

    assert api.lease(max=20, queues=["q"]) == []
    gate(api, "mailer", ["mail"], True)
    assert [job["id"] for job in api.lease(max=20, queues=["q"])] == mails
    assert page(server).value("workmill_gated_jobs") == 0


def test_who_waits_gets_the_jobs_that_are_let_through(server):
    api = server.api()
    gate(api, "mailer", ["mail"], False)
    job = api.enqueue_id(type="mail", queue="q")
    with Raw(server.port) as waiting:
        waiting.send(request_bytes("POST", "/v1/leases", {"queues": ["q"], "wait": "1m"}))
        other = api.enqueue_id(type="other", queue="elsewhere")  # Time for it to wait; not needed.
        assert api.job(other)["state"] == "ready"
        gate(api, "mailer", ["mail"], True)
        assert [leased["id"] for leased in waiting.answer().json["jobs"]] == [job]


def test_a_stream_is_sent_no_job_of_a_gated_type_until_it_is_let_through(server):
    api = server.api()
    gate(api, "mailer", ["mail"], False)
    with Stream(server) as stream:
        stream.subscribe("q", 100)
        mails = [api.enqueue_id(type="mail", queue="q") for _ in range(10)]
        other = api.enqueue_id(type="other", queue="q")
        assert [job["id"] for job in stream.jobs(1)] == [other]
        gate(api, "mailer", ["mail"], True)
        leased = stream.jobs(10)
        assert [job["id"] for job in leased] == mails
        gate(api, "mailer", ["mail"], False)
        # What is leased goes on; what comes back waits.
        stream.reported(leased[:9])
        stream.reported(leased[9:], "released")
        assert [api.state(id) for id in mails] == ["completed"] * 9 + ["ready"]
        last = api.enqueue_id(type="other", queue="q")
        assert [job["id"] for job in stream.jobs(1)] == [last]


def test_a_gate_is_decided_for_each_type_and_all_flags_have_their_say(server):
    api = server.api()
    rules = [{"if": {"type": ["mail"]}, "variant": "open"}]
    put(api, "a", {**GATE, "default": "shut", "rules": rules, "gates": ["mail", "export"]})
    jobs = {kind: api.enqueue_id(type=kind, queue="q") for kind in ("mail", "export", "other")}
    put(api, "b", {**GATE, "enabled": False, "default": "shut", "gates": ["other"]})
    assert [job["id"] for job in api.lease(max=9, queues=["q"])] == [jobs["mail"]]
    api.call("DELETE", "/v1/flags/b", expect=200)
    assert [job["id"] for job in api.lease(max=9, queues=["q"])] == [jobs["other"]]
    api.call("DELETE", "/v1/flags/a", expect=200)
    assert [job["id"] for job in api.lease(max=9, queues=["q"])] == [jobs["export"]]


# ---- Around it


def test_the_history_and_the_audit_log_say_who_changed_what(start, tmp_path):
    data = tmp_path / "data"
    tokens = {name: new_token(data, name, scopes) for name, scopes in {"ops": "admin", "app": "read"}.items()}
    limited = new_token(data, "limited", "read,admin", "--queue", "mine")
    server = start("--log-format", "json", data=data)
    put(server.api(token=tokens["ops"]), "f", SWITCH)
    app = server.api(token=tokens["app"])
    assert app.get("/v1/flags/f")["updated_by"] == "ops"
    assert app.get("/v1/flags/f/history")["items"][0]["updated_by"] == "ops"
    app.refused("PUT", "/v1/flags/f", SWITCH, code="forbidden")
    assert ask(app, "f", expect=200).json["value"] is False
    few = server.api(token=limited)
    few.refused("GET", "/v1/flags/f", code="forbidden")
    few.refused("PUT", "/v1/flags/f", SWITCH, code="forbidden")
    few.refused("DELETE", "/v1/flags/f", code="forbidden")
    assert ask(few, "f", expect=200).json["value"] is False

    lines = [json.loads(line) for line in server.final_log().splitlines() if '"admin action"' in line]
    assert [(line["action"], line["target"], line["status"]) for line in lines if line["who"].startswith("ops ")] == [
        ("set_flag", "f", 200)
    ]


def test_ofrep_takes_a_token_as_its_api_key_and_no_other_route_does(start, tmp_path):
    data = tmp_path / "data"
    tokens = {name: new_token(data, name, scope) for name, scope in {"ops": "admin", "app": "read"}.items()}
    server = start("--log-level", "debug", data=data)
    put(server.api(token=tokens["ops"]), "f", SWITCH)
    stranger = server.api(token=None)
    key, said = {"X-API-Key": tokens["app"]}, ""

    def asked(expect, headers):
        nonlocal said
        answer = ask(stranger, "f", headers=headers, expect=expect)
        said += answer.body.decode() + str(answer.headers)
        return answer

    assert asked(200, key).json["value"] is False
    assert ask_all(stranger, {"targetingKey": "u"}, headers=key, expect=200).json["flags"][0]["value"] is False
    asked(401, {})
    # Four that do not hold: with a few more the address would be locked out, as with any other token.
    asked(401, {"X-API-Key": "Bearer " + tokens["app"]})
    asked(401, {"X-API-Key": tokens["app"][:-1] + "x"})
    asked(401, {"Authorization": tokens["app"]})
    asked(403, {"X-API-Key": tokens["ops"]})
    asked(401, {**key, "Authorization": "Bearer nonsense"})
    asked(200, {"X-API-Key": "nonsense", "Authorization": "Bearer " + tokens["app"]})
    for method, path in (("GET", "/v1/flags"), ("GET", "/v1/queues"), ("GET", "/metrics"), ("GET", "/ofrep/v1/nope")):
        answer = stranger.call(method, path, headers=key, expect=401)
        said += answer.body.decode() + str(answer.headers)

    # On one connection, too: what was shown to one route is not remembered for the next.
    body = json.dumps({"context": {"targetingKey": "u"}}).encode()
    shown = [f"X-API-Key: {tokens['app']}"]
    with Raw(server.port) as raw:
        evaluate = request_bytes("POST", "/ofrep/v1/evaluate/flags/f", body, headers=shown)
        assert raw.send(evaluate).answer().status == 200
        assert raw.send(request_bytes("GET", "/v1/queues", headers=shown)).answer().status == 401
        assert raw.send(evaluate).answer().status == 200
        twice = request_bytes("POST", "/ofrep/v1/evaluate/flags/f", body, headers=shown * 2)
        assert raw.send(twice).answer().status == 400

    said += server.final_log()
    for token in tokens.values():
        assert token.split("_")[2][:32] not in said


def test_evaluations_are_counted_by_their_reason(server):
    api = server.api()
    put(api, "f", {**SWITCH, "enabled": False})
    put(api, "g", SWITCH)
    ask(api, "f")
    ask_all(api, {"targetingKey": "u"})
    ask(api, "nope")
    figures = page(server)
    assert figures.value("workmill_flags") == 2
    assert figures.value("workmill_flag_evaluations_total", reason="disabled") == 2
    assert figures.value("workmill_flag_evaluations_total", reason="static") == 1
    assert figures.value("workmill_flag_evaluations_total", reason="error") == 1


def test_the_command_line_lists_changes_and_tries_flags(server, tmp_path):
    cli = Cli(server.url, tmp_path)
    assert cli.run("flags").out == ""
    (tmp_path / "f.json").write_text(json.dumps({**SWITCH, "rules": [{"if": {"plan": ["pro"]}, "variant": "on"}]}))
    assert cli.run("flags", "set", "f", "f.json").out == "f, version 1: its rules decide\n"
    got = cli.run("flags", "get", "f").out
    assert json.loads(got)["version"] == 1
    assert cli.json("flags", "set", "f", "-", input=got.encode())["version"] == 1
    assert cli.run("flags", "eval", "f", "--context", '{"targetingKey": "u", "plan": "pro"}').out == "true\n"
    assert cli.json("flags", "eval", "f")["reason"] == "UNKNOWN"
    assert cli.run("flags", "off", "f").out == "f, version 2: off, its default for everybody\n"
    assert cli.json("flags", "eval", "f")["reason"] == "DISABLED"
    assert cli.json("flags", "on", "f")["enabled"] is True
    assert [flag["key"] for flag in cli.json("flags")["items"]] == ["f"]
    assert "f " in cli.run("flags").out and "on,off" in cli.run("flags").out
    assert [change["enabled"] for change in cli.json("flags", "history", "f")["items"]] == [True, False, True]
    assert len(cli.run("flags", "history", "f").out.splitlines()) == 4
    assert "FLAG_NOT_FOUND" in cli.run("flags", "eval", "nope", expect=1).err
    assert "TARGETING_KEY_MISSING" in cli.run("flags", "eval", "f", "--context", "{}", expect=1).err
    (tmp_path / "bad.json").write_text("{}")
    assert "missing_field" in cli.run("flags", "set", "f", "bad.json", expect=1).err
    assert cli.run("flags", "set", "f", "nowhere.json", expect=1).err
    assert cli.run("flags", "rm", "f").out == "f is removed\n"
    assert "not_found" in cli.run("flags", "off", "f", expect=1).err
    cli.run("flags", "get", expect=2)


def test_the_command_line_says_of_a_gate_whose_jobs_wait(server, tmp_path):
    cli = Cli(server.url, tmp_path)
    rules = [{"if": {"type": ["mail"]}, "variant": "open"}]
    (tmp_path / "g.json").write_text(json.dumps({**GATE, "default": "shut", "rules": rules, "gates": ["mail", "report"]}))
    said = cli.run("flags", "set", "g", "g.json").out
    assert said == "g, version 1: its rules decide; jobs of type report wait; jobs of type mail are let through\n"
    said = cli.run("flags", "off", "g").out
    assert said == "g, version 2: off, its default for everybody; jobs of type mail, report wait\n"
