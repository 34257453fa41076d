"""Tokens: who may do what, on every route, over real sockets. docs/security.md names these tests."""

import json
import os
import pathlib
import re
import signal
import stat
import subprocess

import pytest

from harness import BINARY, DEADLINE, ROOT, Raw, eventually, request_bytes
from test_openapi import fill_in

SCOPES = ("enqueue", "work", "read", "admin")

# What each route asks, written down a second time: by name, (METHOD, path, body, scope), scope None where it is open
# "server read" where it shows the whole server, and "cache read" where the cache.
ROUTES = {
    "create_jobs": ("POST", "/v1/jobs", {"type": "t", "queue": "{q}"}, "enqueue"),
    "lease_jobs": ("POST", "/v1/leases", {"queues": ["{q}"]}, "work"),
    "report_jobs": ("POST", "/v1/reports", {"reports": [{"id": "x", "lease": "0" * 16, "outcome": "released"}]}, "work"),
    "worker_stream": ("GET", "/v1/worker", None, "work"),  # 426, where it is let in.
    "get_job": ("GET", "/v1/jobs/{id}", None, "read"),
    "list_jobs": ("GET", "/v1/jobs", None, "read"),
    "cancel_job": ("POST", "/v1/jobs/{id}/cancel", None, "admin"),
    "retry_job": ("POST", "/v1/jobs/{id}/retry", None, "admin"),
    "patch_job": ("PATCH", "/v1/jobs/{id}", {"priority": 3}, "admin"),
    "delete_job": ("DELETE", "/v1/jobs/nope", None, "admin"),
    "bulk_jobs": ("POST", "/v1/jobs/bulk", {"action": "cancel", "where": {"type": "nope"}}, "admin"),
    "get_job_log": ("GET", "/v1/jobs/{id}/log", None, "read"),
    "list_queues": ("GET", "/v1/queues", None, "read"),
    "get_queue": ("GET", "/v1/queues/{q}", None, "read"),
    "patch_queue": ("PATCH", "/v1/queues/{q}", {"paused": False}, "admin"),
    "purge_queue": ("DELETE", "/v1/queues/{q}/jobs?state=dead", None, "admin"),
    "create_batch": ("POST", "/v1/batches", {"id": "b", "on_finish": {"type": "t", "queue": "{q}"}}, "enqueue"),
    "list_batches": ("GET", "/v1/batches", None, "read"),
    "get_batch": ("GET", "/v1/batches/b", None, "read"),
    "close_batch": ("POST", "/v1/batches/b/close", None, "enqueue"),
    "delete_batch": ("DELETE", "/v1/batches/nope", None, "enqueue"),
    "put_cached": ("PUT", "/v1/cache/k", {"any": "json"}, "cache enqueue"),
    "get_cached": ("GET", "/v1/cache/k", None, "cache read"),
    "compute_cached": ("POST", "/v1/cache/c", {"job": {"type": "t", "queue": "{q}"}, "wait": "0s"}, "enqueue"),
    "forget_cached": ("DELETE", "/v1/cache/k", None, "cache enqueue"),
    "forget_cached_by": ("DELETE", "/v1/cache?tag=t", None, "cache enqueue"),
    "list_flags": ("GET", "/v1/flags", None, "server read"),
    "get_flag": ("GET", "/v1/flags/nope", None, "server read"),
    "set_flag": ("PUT", "/v1/flags/f", {"variants": {"on": True}, "default": "on"}, "server admin"),
    "remove_flag": ("DELETE", "/v1/flags/nope", None, "server admin"),
    "get_flag_history": ("GET", "/v1/flags/nope/history", None, "server read"),
    "evaluate_flag": ("POST", "/ofrep/v1/evaluate/flags/nope", {"context": {"targetingKey": "u"}}, "read"),
    "evaluate_flags": ("POST", "/ofrep/v1/evaluate/flags", {"context": {"targetingKey": "u"}}, "read"),
    "healthz": ("GET", "/healthz", None, None),
    "livez": ("GET", "/livez", None, None),
    "readyz": ("GET", "/readyz", None, None),
    "metrics": ("GET", "/metrics", None, "server read"),
    "status": ("GET", "/v1/status", None, "server read"),
    "cpu_profile": ("GET", "/v1/debug/cpu-profile?seconds=0", None, "server admin"),  # 400, where it is let in.
    "heap": ("GET", "/v1/debug/heap", None, "server admin"),
    "list_tokens": ("GET", "/v1/tokens", None, "server admin"),
    "openapi": ("GET", "/openapi.json", None, "read"),
    "home": ("GET", "/", None, "read"),
}


def workmill(*args, expect=0, env=None):
    done = subprocess.run(
        [BINARY, *map(str, args)], capture_output=True, timeout=DEADLINE, env={**os.environ, **(env or {})}, text=True
    )
    assert done.returncode == expect, f"{args}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def new_token(data, name, scopes, *args):
    pathlib.Path(data).mkdir(exist_ok=True)
    return workmill("token", "new", "--data", data, "--name", name, "--scope", scopes, *args).stdout.strip()


class Keys:
    """A server, and tokens of every kind."""

    def __init__(self, start, data, *args):
        self.tokens = {scope: new_token(data, scope, scope) for scope in SCOPES}
        self.all = new_token(data, "all", ",".join(SCOPES), "--expires", "1h")
        self.limited = new_token(data, "limited", ",".join(SCOPES), "--queue", "mine", "--queue", "mine.too")
        self.expired = new_token(data, "expired", ",".join(SCOPES), "--expires", "1ms")
        self.revoked = new_token(data, "revoked", ",".join(SCOPES))
        workmill("token", "revoke", "revoked", "--data", data)
        self.server = start(*args, data=data)

    def api(self, token, **options):
        return self.server.api(token=token, **options)


@pytest.fixture
def keys(start, tmp_path):
    return Keys(start, tmp_path / "data")


def test_every_route_has_its_scope_here_and_in_the_router():
    router = (ROOT / "src/protocols/http/router.cpp").read_text()
    routed = dict(re.findall(r"\{Route::(\w+), Method::\w+, \"[^\"]*\", \"[^\"]*\",\s+Access::(\w+)\}", router))
    assert len(routed) == router.count("{Route::") > 15

    def written(scope):
        return "open" if scope is None else scope.replace(" ", "_")

    assert {name: written(scope) for name, (_, _, _, scope) in ROUTES.items()} == routed


def test_every_route_answers_every_kind_of_token_as_it_should(start, tmp_path):
    data, every = tmp_path / "data", ",".join(SCOPES)
    own_keys = ("--cache-prefix", "k", "--cache-prefix", "c")  # As ROUTES has them.
    of_keys = new_token(data, "of-keys", every, *own_keys)
    of_other_keys = new_token(data, "of-other-keys", every, "--cache-prefix", "other:")
    tenant = new_token(data, "tenant", every, "--queue", "mine", *own_keys)
    old, overdue = new_token(data, "rotated", every), new_token(data, "rotated-long-ago", every)
    rotated, replaced = rotate(data, "rotated", "--grace", "1h"), rotate(data, "rotated-long-ago", "--grace", "1ms")
    keys = Keys(start, data)
    full = keys.api(keys.all)
    words = {"q": "mine", "id": full.post("/v1/jobs", {"type": "t", "queue": "mine"})["id"]}
    wrong = keys.all[:-1] + ("0" if keys.all[-1] != "0" else "1")
    strangers = {"none": None, "malformed": "abc", "cut": keys.all[:-1], "unknown": wrong}
    strangers |= {"expired": keys.expired, "revoked": keys.revoked, "rotated, after its grace": overdue}
    friends = {"all": keys.all, "rotated": rotated, "rotated, within its grace": old, "rotated long ago": replaced}

    addresses = (f"127.0.{high}.{low}" for high in range(1, 9) for low in range(1, 251))

    def ask(token, route):
        method, path, body, _ = ROUTES[route]
        kind = {} if body is None else {"data": json.dumps(fill_in(body, words)).encode()}
        return keys.api(token).call(method, fill_in(path, words), **kind)

    def ask_as_a_stranger(token, route):  # Each from an address of his own, else they would be locked out.
        method, path, body, _ = ROUTES[route]
        body = None if body is None else fill_in(body, words)
        show = [] if token is None else [f"Authorization: Bearer {token}"]
        with Raw(keys.server.port, source=next(addresses)) as raw:
            return raw.send(request_bytes(method, fill_in(path, words), body, headers=show)).answer()

    for route, (_, _, _, scope) in ROUTES.items():
        for kind, token in strangers.items():
            answer = ask_as_a_stranger(token, route)
            if scope is None:
                assert answer.status == 200, (route, kind, answer)
            else:
                assert (answer.status, answer.code) == (401, "unauthorized"), (route, kind, answer)
                assert answer.headers["WWW-Authenticate"].startswith("Bearer"), (route, kind)
        for held in SCOPES:
            answer = ask(keys.tokens[held], route)
            if scope is None or held in scope.split():
                assert answer.status not in (401, 403), (route, held, answer)
            else:
                assert (answer.status, answer.code) == (403, "forbidden"), (route, held, answer)
        for token, kind, closed in (
            (keys.limited, "of some queues", scope is not None and scope.startswith(("server", "cache"))),
            (of_keys, "of some keys", False),
            (of_other_keys, "of other keys", ROUTES[route][1].startswith("/v1/cache/")),
            (tenant, "of some queues and keys", scope is not None and scope.startswith("server")),
        ):
            answer = ask(token, route)
            if closed:
                assert (answer.status, answer.code) == (403, "forbidden"), (route, kind, answer)
            else:
                assert answer.status not in (401, 403), (route, kind, answer)
        for kind, token in friends.items():
            answer = ask(token, route)
            assert answer.status not in (401, 403), (route, kind, answer)


def test_strangers_are_not_told_which_paths_there_are(keys):
    for path in ("/v1/nope", "/v1/jobs/bulk", "/v1/leases"):
        assert keys.api(None).call("GET", path).status == 401, path
    assert keys.api(keys.tokens["read"]).call("GET", "/v1/nope").status == 404
    assert keys.api(keys.tokens["work"]).call("GET", "/v1/leases").status == 405


def test_a_refusal_comes_before_the_body_is_read(keys):
    with Raw(keys.server.port) as raw:
        raw.send(request_bytes("POST", "/v1/jobs", b"{not json"))
        assert raw.answer().status == 401
        raw.send(request_bytes("POST", "/v1/jobs", headers=["Content-Length: 1000000"]))  # And it never comes.
        assert raw.answer().status == 401


def test_a_token_for_some_queues_stays_in_them(keys):
    limited, full = keys.api(keys.limited), keys.api(keys.all)
    foreign = full.post("/v1/jobs", {"type": "t", "queue": "foreign", "id": "their-id", "tags": ["x"]})["id"]
    mine = limited.post("/v1/jobs", {"type": "t", "queue": "mine", "tags": ["x"]})["id"]

    def no_job(method, path, body=...):
        kind = {} if body is ... else {"data": json.dumps(body).encode()}
        seen = limited.call(method, path.format(foreign), **kind)
        unknown = limited.call(method, path.format("never-was"), **kind)
        assert (seen.status, seen.code) == (404, "job_not_found"), (method, path, seen)
        differing = {"trace_id"}
        assert {k: v for k, v in seen.json.items() if k not in differing} == {
            k: v for k, v in unknown.json.items() if k not in differing
        }

    no_job("GET", "/v1/jobs/{}")
    no_job("GET", "/v1/jobs/{}?wait=1ms")
    no_job("GET", "/v1/jobs/{}/log")
    no_job("POST", "/v1/jobs/{}/cancel")
    no_job("POST", "/v1/jobs/{}/retry")
    no_job("DELETE", "/v1/jobs/{}")
    no_job("PATCH", "/v1/jobs/{}", {"priority": 1})

    limited.refused("POST", "/v1/jobs", {"type": "t", "queue": "foreign"}, code="forbidden", field="queue")
    limited.refused("POST", "/v1/jobs", {"type": "t"}, code="forbidden", field="queue")  # To "default".
    limited.refused("POST", "/v1/jobs", {"type": "t", "queue": "mine", "id": "their-id"}, code="forbidden", field="id")
    limited.refused("POST", "/v1/leases", {"queues": ["mine", "foreign"]}, code="forbidden")
    limited.refused("PATCH", f"/v1/jobs/{mine}", {"queue": "foreign"}, code="forbidden", field="queue")
    limited.refused("GET", "/v1/jobs?queue=foreign", code="forbidden")
    limited.refused("GET", "/v1/queues/foreign", code="forbidden")
    limited.refused("GET", "/v1/queues/nowhere", code="forbidden")
    limited.refused("PATCH", "/v1/queues/foreign", {"paused": True}, code="forbidden")
    limited.refused("DELETE", "/v1/queues/foreign/jobs", code="forbidden")
    bulk = {"action": "delete", "where": {"queue": "foreign"}}
    limited.refused("POST", "/v1/jobs/bulk", bulk, code="forbidden", field="where.queue")

    assert [job["id"] for job in limited.get("/v1/jobs")["items"]] == [mine]
    assert [job["id"] for job in limited.get("/v1/jobs?tag=x&q=t")["items"]] == [mine]
    assert [queue["name"] for queue in limited.get("/v1/queues")["items"]] == ["mine"]
    assert limited.post("/v1/jobs/bulk", {"action": "cancel", "where": {}}) == {"count": 1}
    assert limited.post("/v1/jobs/bulk", {"action": "delete", "where": {"tag": "x"}}) == {"count": 1}
    leased = full.post("/v1/leases", {"queues": ["foreign"]})["jobs"][0]
    report = {"id": foreign, "lease": leased["lease"], "outcome": "completed"}
    answer = limited.post("/v1/reports", {"reports": [report]})["reports"][0]
    assert answer["ok"] is False and answer["error"]["code"] == "job_not_found"
    assert full.get(f"/v1/jobs/{foreign}")["state"] == "leased"


def test_idempotency_keys_are_their_caller_s_own(keys):
    headers = {"Idempotency-Key": '"same"'}
    one = keys.api(keys.all).post("/v1/jobs", {"type": "t", "queue": "mine"}, headers=headers)
    two = keys.api(keys.limited).post("/v1/jobs", {"type": "other", "queue": "mine"}, headers=headers)
    again = keys.api(keys.all).post("/v1/jobs", {"type": "t", "queue": "mine"}, headers=headers)
    assert one["id"] != two["id"] and again == one


def test_without_a_tokens_file_nobody_is_asked(start):
    server = start()
    server.api().get("/v1/queues")
    server.api(token="nonsense").get("/v1/queues")


def test_a_server_whose_last_token_was_revoked_lets_nobody_in(start, tmp_path):
    data = tmp_path / "data"
    new_token(data, "only", "read")
    workmill("token", "revoke", "only", "--data", data)
    server = start(data=data)
    assert server.api().call("GET", "/v1/queues").status == 401


def test_with_tokens_the_server_listens_to_the_world(start, tmp_path):
    data = tmp_path / "data"
    token = new_token(data, "one", "read")
    server = start(data=data, run=False)
    server.address = "0.0.0.0"
    server.start()
    server.api(token=token).get("/v1/queues")
    assert server.api().call("GET", "/v1/queues").status == 401


def test_a_tokens_file_that_is_not_as_it_should_be_is_refused_at_start(start, tmp_path):
    data = tmp_path / "data"
    new_token(data, "one", "read")
    good = (data / "tokens").read_text()

    def refused(words):
        server = start(data=data, run=False)
        server.spawn()
        assert server.wait_for_exit() == 2
        assert words in server.log(), server.log_tail()

    (data / "tokens").write_text(good.replace("# end", "v1 rubbish\n# end"))
    refused("line 6")
    (data / "tokens").write_text(good)
    (data / "tokens").chmod(0o620)
    refused("chmod 600")
    (data / "tokens").chmod(0o600)
    server = start("--tokens-file", tmp_path / "nowhere", data=data, run=False)
    server.spawn()
    assert server.wait_for_exit() == 2
    assert "nowhere" in server.log()


def test_the_tokens_file_is_its_owner_s_alone_and_holds_no_secret(tmp_path):
    data = tmp_path / "data"
    old_mask = os.umask(0)
    try:
        token = new_token(data, "one", "read")
    finally:
        os.umask(old_mask)
    path = data / "tokens"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    secret = token.split("_")[2]
    assert len(secret) == 64 and secret not in path.read_text()
    assert [each.name for each in data.iterdir()] == ["tokens"]


def test_token_commands_list_and_refuse(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    made = json.loads(
        workmill("token", "new", "--json", "--data", data, "--name", "a", "--scope", "read,work", "--queue", "q").stdout
    )
    assert made["scopes"] == ["work", "read"] and made["queues"] == ["q"] and made["expires_at"] is None
    assert re.fullmatch(r"wm_[0-9a-f]{12}_[0-9a-f]{64}", made["token"]) and made["id"] in made["token"]
    listed = workmill("token", "list", "--json", "--data", data).stdout
    assert [item["name"] for item in json.loads(listed)["items"]] == ["a"]
    assert made["token"].split("_")[2] not in listed + workmill("token", "list", "--data", data).stdout
    workmill("token", "new", "--data", data, "--name", "a", "--scope", "read", expect=2)
    workmill("token", "new", "--data", data, "--scope", "root", expect=2)
    workmill("token", "new", "--data", data, "--scope", "", expect=2)
    workmill("token", "revoke", "nobody", "--data", data, expect=1)
    workmill("token", "revoke", "a", "--data", data)
    assert json.loads(workmill("token", "list", "--json", "--data", data).stdout)["items"] == []


def test_the_command_line_shows_its_token_from_environment_or_file_and_never_prints_it(keys, tmp_path):
    file = tmp_path / "secret"
    file.write_text(keys.all + "\n")
    url = {"WORKMILL_URL": keys.server.url}
    shown = workmill("queues", expect=1, env=url).stderr
    assert "unauthorized" in shown and "WORKMILL_TOKEN" in shown and "--token-file" in shown
    workmill("queues", env={**url, "WORKMILL_TOKEN": keys.all})
    workmill("--token-file", file, "queues", env={**url, "WORKMILL_TOKEN": "overruled"})
    workmill("--token-file", tmp_path / "none", "queues", expect=2, env=url)
    denied = workmill("enqueue", "t", expect=1, env={**url, "WORKMILL_TOKEN": keys.tokens["read"]})
    assert "forbidden" in denied.stderr and keys.tokens["read"] not in denied.stderr


def test_no_secret_stands_in_logs_answers_or_metrics(start, tmp_path):
    keys = Keys(start, tmp_path / "data", "--log-level", "debug")
    said = ""
    for token in [keys.all, keys.limited, keys.expired, keys.revoked, *keys.tokens.values(), keys.all[:-1] + "x"]:
        for method, path in (("GET", "/v1/queues"), ("GET", "/v1/nope"), ("POST", "/v1/jobs"), ("GET", "/metrics")):
            answer = keys.api(token).call(method, path)
            said += answer.body.decode() + str(answer.headers)
    keys.server.stop()
    said += keys.server.log()
    for token in [keys.all, keys.limited, keys.expired, keys.revoked, *keys.tokens.values()]:
        assert token.split("_")[2][:32] not in said


def test_tokens_are_read_again_on_sighup_and_old_connections_too(keys):
    data = keys.server.data
    with Raw(keys.server.port) as raw:
        show = [f"Authorization: Bearer {keys.tokens['read']}"]
        assert raw.send(request_bytes("GET", "/v1/queues", headers=show)).answer().status == 200
        late = new_token(data, "late", "read")
        assert keys.api(late).call("GET", "/v1/queues").status == 401
        workmill("token", "revoke", "read", "--data", data)
        keys.server.process.send_signal(signal.SIGHUP)
        eventually(lambda: keys.api(late).call("GET", "/v1/queues").status == 200, "the new token is known")
        assert raw.send(request_bytes("GET", "/v1/queues", headers=show)).answer().status == 401


def test_a_tokens_file_that_is_spoilt_or_gone_changes_nothing_on_sighup(keys):
    path = keys.server.data / "tokens"
    good = path.read_text()
    for spoil in (lambda: path.write_text("v1 rubbish\n"), path.unlink):
        spoil()
        before = keys.server.log().count("not reloaded")
        keys.server.process.send_signal(signal.SIGHUP)
        eventually(lambda: keys.server.log().count("not reloaded") > before, "the server says so")
        assert keys.api(keys.all).call("GET", "/v1/queues").status == 200
        assert keys.api(None).call("GET", "/v1/queues").status == 401
        path.write_text(good)
        path.chmod(0o600)


def test_a_tokens_file_that_is_cut_is_refused_at_start_and_on_sighup(keys):
    path, server = keys.server.data / "tokens", keys.server
    whole = path.read_text()
    for cut in ("", whole[: len(whole) // 2], whole[: whole.index("# end")], whole.replace("# end: 7", "# end: 8")):
        path.write_text(cut)
        before = server.log().count("not reloaded")
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: server.log().count("not reloaded") > before, "the server says so")
        assert keys.api(keys.all).call("GET", "/v1/queues").status == 200
        assert "tokens file" in workmill("token", "list", "--data", server.data, expect=2).stderr
        workmill("token", "revoke", "read", "--data", server.data, expect=2)
        assert path.read_text() == cut
    server.stop()
    server.spawn()
    assert server.wait_for_exit() == 2
    path.write_text(whole)
    server.start()
    assert keys.api(keys.all).call("GET", "/v1/queues").status == 200


def test_a_tokens_file_without_an_end_mark_holds_and_gets_one(start, tmp_path):
    data = tmp_path / "data"
    token = new_token(data, "one", "read")
    path = data / "tokens"
    line = next(line for line in path.read_text().splitlines() if line.startswith("v1 "))
    path.write_text("# Access tokens of a Workmill server, made by `workmill token`.\n" + line + "\n")
    assert start(data=data).api(token=token).call("GET", "/v1/queues").status == 200
    new_token(data, "two", "read")
    assert path.read_text().endswith("\n# end: 2 tokens\n") and line in path.read_text()


def rotate(data, name, *args, **options):
    return workmill("token", "rotate", name, "--data", data, *args, **options).stdout.strip()


def test_a_rotated_token_holds_with_both_secrets_until_its_grace_is_over(start, tmp_path):
    keys = Keys(start, tmp_path / "data", "--log-format", "json")
    server, before = keys.server, keys.limited
    with Raw(server.port) as raw:
        show = [f"Authorization: Bearer {before}"]
        assert raw.send(request_bytes("GET", "/v1/queues", headers=show)).answer().status == 200
        after = rotate(server.data, "limited", "--grace", "2s")
        lines = reloaded(server)
        assert raw.send(request_bytes("GET", "/v1/queues", headers=show)).answer().status == 200
        assert keys.api(after).call("GET", "/v1/queues").status == 200
        assert keys.api(after).call("GET", "/v1/queues/foreign").status == 403
        eventually(
            lambda: raw.send(request_bytes("GET", "/v1/queues", headers=show)).answer().status == 401, "its end"
        )
    refused = keys.api(before).call("GET", "/v1/queues")
    assert refused.status in (401, 429) and keys.api(after).call("GET", "/v1/queues").status == 200
    assert before.split("_")[1] == after.split("_")[1] and before != after
    (change,) = said(lines, "the tokens have changed")
    assert (change["rotated"], change["added"], change["removed"], change["changed"]) == ("limited", "", "", "")
    (audit,) = said(lines, "admin action")
    assert (audit["who"], audit["changes"]) == ("SIGHUP", "tokens(*limited)")
    log, file = server.final_log(), (server.data / "tokens").read_text()
    for token in (before, after):
        assert token.split("_")[2][:16] not in log + file


def test_without_a_grace_the_old_secret_is_over_with_the_reload(keys):
    before = keys.all
    after = rotate(keys.server.data, "all", "--grace", "0s")
    keys.server.process.send_signal(signal.SIGHUP)
    eventually(lambda: keys.api(after).call("GET", "/v1/queues").status == 200, "the new secret is known")
    answer = keys.api(before).call("GET", "/v1/queues")
    assert answer.status == 401 and "rotated" in answer.json["detail"]


def test_a_worker_whose_token_is_rotated_stays_the_same_caller(keys):
    """What goes by the token's name: a request that is sent again under its key."""
    headers = {"Idempotency-Key": '"same"'}
    once = keys.api(keys.all).post("/v1/jobs", {"type": "t", "queue": "mine"}, headers=headers)
    after = rotate(keys.server.data, "all")
    keys.server.process.send_signal(signal.SIGHUP)
    eventually(lambda: keys.api(after).call("GET", "/v1/queues").status == 200, "the new secret is known")
    assert keys.api(after).post("/v1/jobs", {"type": "t", "queue": "mine"}, headers=headers) == once


def test_an_old_secret_that_is_over_is_not_written_again(tmp_path):
    data = tmp_path / "data"
    new_token(data, "a", "read")
    rotate(data, "a", "--grace", "1ms")
    assert re.search("^v3 ", (data / "tokens").read_text(), re.M)
    new_token(data, "b", "read")
    assert not re.search("^v3 ", (data / "tokens").read_text(), re.M), "servers of before can read it"


def test_the_rotate_command_tells_what_it_did_and_refuses_what_would_cut_a_grace_short(tmp_path):
    data = tmp_path / "data"
    first = new_token(data, "a", "read,work", "--queue", "q", "--expires", "1d")
    made = json.loads(rotate(data, "a", "--json"))
    assert made["name"] == "a" and made["queues"] == ["q"] and made["scopes"] == ["work", "read"]
    assert made["id"] == first.split("_")[1] and made["token"] != first and made["old_secret_until"]
    assert made["old_secret_until"] <= made["expires_at"]
    shown = workmill("token", "rotate", "a", "--data", data, expect=2)
    assert made["old_secret_until"] in shown.stderr and shown.stdout == ""
    last = workmill("token", "rotate", "a", "--data", data, "--grace", "0s", "--expires", "90d")
    assert last.stdout.strip() not in last.stderr and "no longer" in last.stderr
    (item,) = json.loads(workmill("token", "list", "--json", "--data", data).stdout)["items"]
    assert item["old_secret"] is None and item["expires_at"] > made["expires_at"]
    cut = json.loads(rotate(data, "a", "--expires", "1h", "--json"))
    assert cut["old_secret_until"] == cut["expires_at"], "the old secret holds no longer than the token"
    rotate(data, "nobody", expect=1)
    rotate(data, "a", "--grace", "soon", expect=2)
    new_token(data, "over", "read", "--expires", "1ms")
    assert "--expires" in workmill("token", "rotate", "over", "--data", data, expect=2).stderr
    assert json.loads(rotate(data, "over", "--expires", "1d", "--json"))["old_secret_until"] is None


def test_when_tokens_were_used_last_is_known_after_a_restart_and_to_the_command_line(start, tmp_path):
    keys = Keys(start, tmp_path / "data")
    server = keys.server

    def listed():
        answer = json.loads(workmill("token", "list", "--json", "--data", server.data).stdout)
        return {item["name"]: (item["last_used_at"], item["old_secret"]) for item in answer["items"]}

    def served():
        items = keys.api(keys.tokens["admin"]).get("/v1/tokens")["items"]
        return {item["name"]: (item["last_used_at"], item["old_secret"]) for item in items}

    assert "unknown" in workmill("token", "list", "--data", server.data).stdout
    keys.api(keys.tokens["work"]).post("/v1/leases", {"queues": ["q"]})
    keys.api(keys.limited).call("GET", "/v1/queues", expect=200)
    before = served()
    assert before["work"][0] and before["limited"][0] and not before["read"][0]
    server.stop()
    assert stat.S_IMODE((server.data / "tokens-used").stat().st_mode) == 0o600
    assert {name: listed()[name] for name in ("work", "limited", "read")} == {
        name: before[name] for name in ("work", "limited", "read")
    }
    table = workmill("token", "list", "--data", server.data).stdout
    assert before["work"][0] in table and "OLD SECRET" not in table
    rotate(server.data, "limited")  # While no server runs.
    assert before["limited"][0] == listed()["limited"][1]["last_used_at"]
    assert "OLD SECRET UNTIL" in workmill("token", "list", "--data", server.data).stdout

    server.start()

    after = served()
    assert after["work"] == before["work"] and not after["read"][0]
    assert after["limited"][0] == after["limited"][1]["last_used_at"] == before["limited"][0]
    server.kill()
    (server.data / "tokens-used").write_bytes(b"\x00rubbish\n" * 100)
    server.start()
    assert not served()["work"][0]


def reloaded(server):
    """SIGHUP, and what was logged by it, as objects."""
    before = len(server.log())
    server.process.send_signal(signal.SIGHUP)
    eventually(lambda: '"action":"reload"' in server.log()[before:], "the server says how reloading went")
    return [json.loads(line) for line in server.log()[before:].splitlines() if line.startswith("{")]


def said(lines, body):
    return [line for line in lines if line["body"] == body]


def test_the_log_says_which_tokens_a_reload_brings_and_takes(start, tmp_path):
    keys = Keys(start, tmp_path / "data", "--log-format", "json")
    data = keys.server.data
    late = new_token(data, "late", "read")
    workmill("token", "revoke", "read", "--data", data)

    lines = reloaded(keys.server)

    (change,) = said(lines, "the tokens have changed")
    assert (change["component"], change["severity"]) == ("auth", "INFO")
    assert (change["before"], change["after"]) == (7, 7)
    assert (change["added"], change["removed"], change["changed"]) == ("late", "read", "")
    assert said(lines, "reloaded")[0]["changed"] == "tokens"
    (audit,) = said(lines, "admin action")
    assert audit["component"] == "audit"
    assert (audit["who"], audit["changes"], audit["result"]) == ("SIGHUP", "tokens(+late -read)", "done")

    lines = reloaded(keys.server)

    assert not said(lines, "the tokens have changed") and said(lines, "reloaded")[0]["changed"] == ""
    assert late.split("_")[2][:16] not in keys.server.final_log()


def test_a_tokens_file_that_has_become_empty_is_warned_of(start, tmp_path):
    keys = Keys(start, tmp_path / "data", "--log-format", "json")
    warning = "the tokens file has no token left: nobody is let in"
    (keys.server.data / "tokens").write_text("# none\n")

    lines = reloaded(keys.server)

    assert said(lines, "the tokens have changed")[0]["after"] == 0
    assert [line["severity"] for line in said(lines, warning)] == ["WARN"]
    assert keys.api(keys.all).call("GET", "/v1/queues").status == 401

    keys.server.restart()
    keys.server.wait_for_log(warning)


def test_who_guesses_is_locked_out_and_a_good_token_from_the_same_address_is_not(keys):
    guesser = keys.api(keys.all[:-4] + "0000")
    for _ in range(5):
        assert guesser.call("GET", "/v1/queues").status == 401
    locked = guesser.call("GET", "/v1/queues")
    assert (locked.status, locked.code) == (429, "too_many_attempts")
    assert int(locked.headers["Retry-After"]) >= 1 and locked.headers["Connection"] == "close"
    assert keys.api(keys.all).call("GET", "/v1/queues").status == 200
    assert keys.api(None).call("GET", "/v1/queues").status == 401
    said = [line for line in keys.server.final_log().splitlines() if "one after another" in line]
    assert len(said) == 1 and "127.0.0.1" in said[0] and keys.all.split("_")[2][:16] not in keys.server.log()


def test_admin_actions_are_in_the_audit_log(start, tmp_path):
    keys = Keys(start, tmp_path / "data", "--log-format", "json")
    admin, reader = keys.api(keys.tokens["admin"]), keys.api(keys.tokens["read"])
    job = keys.api(keys.all).post("/v1/jobs", {"type": "t", "queue": "mine", "payload": "a-secret-payload"})["id"]
    admin.post(f"/v1/jobs/{job}/cancel", {})
    admin.refused("POST", "/v1/jobs/never-was/retry", code="job_not_found")
    admin.post("/v1/jobs/bulk", {"action": "retry", "where": {"queue": "mine", "state": "cancelled"}})
    admin.call("PATCH", "/v1/queues/mine", {"paused": True}, expect=200)
    admin.call("GET", "/v1/tokens", expect=200)
    reader.refused("DELETE", f"/v1/jobs/{job}", code="forbidden")
    keys.api(None).refused("DELETE", f"/v1/jobs/{job}", code="unauthorized")
    reader.get(f"/v1/jobs/{job}")
    keys.server.stop()

    lines = [json.loads(line) for line in keys.server.log().splitlines() if '"admin action"' in line]
    assert all(line["component"] == "audit" and line["from"] == "127.0.0.1" for line in lines)
    told = [(line["action"], line["target"], line["status"], line.get("result", line.get("count"))) for line in lines]
    assert told == [
        ("cancel_job", job, 200, "done"),
        ("retry_job", "never-was", 404, "job_not_found"),
        ("bulk_jobs", "retry state=cancelled queue=mine", 200, 1),
        ("patch_queue", "mine", 200, "done"),
        ("list_tokens", "", 200, "done"),
        ("delete_job", job, 403, "forbidden"),
    ]
    assert [line["who"].split(" ")[0] for line in lines] == ["admin"] * 5 + ["read"]
    assert keys.tokens["admin"].split("_")[1] in lines[0]["who"]
    assert "a-secret-payload" not in keys.server.log()


def test_the_audit_log_tells_what_is_changed(start, tmp_path):
    keys = Keys(start, tmp_path / "data", "--log-format", "json")
    admin = keys.api(keys.tokens["admin"])
    flag = {"variants": {"on": True, "off": False}, "default": "off", "enabled": False}
    job = keys.api(keys.all).post("/v1/jobs", {"type": "t", "queue": "mine", "delay": "1h"})["id"]
    admin.call("PATCH", "/v1/queues/mine", {"paused": True, "max_depth": 10}, expect=200)
    admin.call("PATCH", "/v1/queues/mine", {"paused": False, "max_depth": None}, expect=200)
    admin.call("PATCH", f"/v1/jobs/{job}", {"priority": 9, "tags": ["a-secret-tag"]}, expect=200)
    admin.call("PATCH", "/v1/jobs/never-was", {"priority": 1}, expect=404)
    admin.call("PUT", "/v1/flags/f", flag)
    admin.call("DELETE", "/v1/queues/mine/jobs?state=dead")
    log = keys.server.final_log()

    lines = [json.loads(line) for line in log.splitlines() if '"admin action"' in line]
    assert [(line["action"], line["target"], line.get("changes")) for line in lines] == [
        ("patch_queue", "mine", "paused=true max_depth=10"),
        ("patch_queue", "mine", "paused=false max_depth=null"),
        ("patch_job", job, "priority=9 tags"),
        ("patch_job", "never-was", "priority=1"),
        ("set_flag", "f", "enabled=false default=off variants=2 rules=0 gates=0"),
        ("purge_queue", "mine state=dead", None),
    ]
    assert "a-secret-tag" not in log


def test_a_bulk_action_that_is_refused_is_in_the_audit_log_with_what_is_known_of_it(start, tmp_path):
    keys = Keys(start, tmp_path / "data", "--log-format", "json")
    bulk = {"action": "delete", "where": {"queue": "foreign", "state": "dead"}}
    keys.api(keys.tokens["read"]).refused("POST", "/v1/jobs/bulk", bulk, code="forbidden")
    keys.api(keys.limited).refused("POST", "/v1/jobs/bulk", bulk, code="forbidden")
    admin = keys.api(keys.tokens["admin"])
    admin.refused("POST", "/v1/jobs/bulk", {"action": "burn", "where": {}}, code="invalid_field")
    admin.call("POST", "/v1/jobs/bulk", data=b"{", headers={"Content-Type": "application/json"}, expect=400)

    lines = [json.loads(line) for line in keys.server.final_log().splitlines() if '"admin action"' in line]
    assert [(line["who"].split(" ")[0], line["target"], line["status"], line["result"]) for line in lines] == [
        ("read", "(not known: refused before the body)", 403, "forbidden"),
        ("limited", "delete state=dead queue=foreign", 403, "forbidden"),
        ("admin", "(not known: the body was refused)", 400, "invalid_field"),
        ("admin", "(not known: the body was refused)", 400, "malformed_json"),
    ]


def test_without_tokens_nothing_is_audited(start):
    server = start()
    server.api().call("PATCH", "/v1/queues/mine", {"paused": True}, expect=200)
    assert "audit" not in server.final_log()


def core_limit(server):
    limits = pathlib.Path(f"/proc/{server.process.pid}/limits").read_text()
    return re.search(r"Max core file size\s+(\S+)\s+(\S+)", limits).groups()


def test_a_server_with_tokens_leaves_no_core_behind(keys):
    assert core_limit(keys.server) == ("0", "0")


def test_a_server_that_gets_its_first_tokens_while_it_runs_leaves_none_either(start):
    server = start()
    new_token(server.data, "first", "read")
    server.process.send_signal(signal.SIGHUP)
    eventually(lambda: server.api().call("GET", "/v1/queues").status == 401, "tokens are asked for")
    assert core_limit(server) == ("0", "0")


def test_the_list_of_tokens_shows_when_each_was_used_last_and_no_secret(keys):
    keys.api(keys.tokens["work"]).post("/v1/leases", {"queues": ["q"]})
    admin = keys.api(keys.all)
    first = admin.get("/v1/tokens?limit=3")
    second = admin.get("/v1/tokens?limit=100&cursor=" + first["next"])
    items = {item["name"]: item for item in first["items"] + second["items"]}
    assert list(items) == sorted(items) and second["next"] is None
    assert set(items) == {*SCOPES, "all", "limited", "expired"}
    assert items["work"]["last_used_at"] and items["all"]["last_used_at"] and not items["read"]["last_used_at"]
    assert items["limited"]["queues"] == ["mine", "mine.too"] and items["all"]["queues"] is None
    assert keys.all.split("_")[2][:16] not in json.dumps(items) and items["all"]["id"] in keys.all
