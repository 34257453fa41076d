"""Web pages of other origins: what their browsers ask, and what they are told."""

from harness import Api, eventually

GOOD, BAD = "https://ops.example.org", "https://evil.example.org"


def cors_headers(answer):
    return {name for name in map(str.lower, answer.headers) if name.startswith("access-control-")}


def preflight(api, origin, path="/v1/jobs"):
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST"}
    # OPTIONS is in no OpenAPI document: it is answered for every path.
    return Api(api.url, checked=False).call("OPTIONS", path, headers=headers, expect=204)


def with_origins(start, tmp_path, *origins):
    config = tmp_path / "cors.toml"
    config.write_text(f"cors_origins = {list(origins)}\n".replace("'", '"'))
    return start("--config", config)


def test_pages_of_other_origins_are_told_nothing(api, start, tmp_path):
    assert cors_headers(preflight(api, GOOD)) == set()
    assert cors_headers(api.call("GET", "/v1/queues", headers={"Origin": GOOD})) == set()
    named = with_origins(start, tmp_path, GOOD).api()
    for origin in (BAD, GOOD + ".evil.org", GOOD + "/", GOOD.upper(), "null", "*"):
        assert cors_headers(preflight(named, origin)) == set(), origin
        assert cors_headers(named.call("GET", "/v1/queues", headers={"Origin": origin})) == set(), origin


def test_named_origins_may_read_answers_and_are_told_what_they_may_send(start, tmp_path):
    api = with_origins(start, tmp_path, "http://localhost:3000", GOOD).api()
    asked = preflight(api, GOOD)
    assert asked.headers["Access-Control-Allow-Origin"] == GOOD and asked.headers["Vary"] == "Origin"
    assert "POST" in asked.headers["Access-Control-Allow-Methods"]
    assert "authorization" in asked.headers["Access-Control-Allow-Headers"].lower()
    for method, path in (("GET", "/v1/queues"), ("GET", "/v1/jobs/nope"), ("GET", "/readyz"), ("GET", "/metrics")):
        answer = api.call(method, path, headers={"Origin": GOOD})
        assert answer.headers["Access-Control-Allow-Origin"] == GOOD, path
        assert "Access-Control-Allow-Credentials" not in answer.headers
    unasked = api.call("GET", "/v1/queues")
    assert cors_headers(unasked) == set() and unasked.headers["Vary"] == "Origin"
    assert preflight(api, BAD).headers["Vary"] == "Origin"


def test_pages_may_read_how_long_they_are_to_wait(start, tmp_path):
    api = with_origins(start, tmp_path, GOOD).api()
    exposed = api.call("GET", "/v1/queues", headers={"Origin": GOOD}).headers["Access-Control-Expose-Headers"]
    assert {"RateLimit", "RateLimit-Policy", "Retry-After"} <= set(exposed.split(", "))


def test_where_no_origin_is_named_answers_do_not_differ_by_it(api):
    assert "Vary" not in api.call("GET", "/v1/queues", headers={"Origin": GOOD}).headers


def test_a_page_cannot_send_a_form_as_a_job(api):
    headers = {"Origin": BAD, "Content-Type": "text/plain"}
    answer = api.call("POST", "/v1/jobs", data=b'{"type": "t"}', headers=headers)
    assert (answer.status, answer.code) == (415, "unsupported_media_type")
    answer = api.call("POST", "/v1/jobs", data=b'{"type": "t"}', headers={"Sec-Fetch-Site": "cross-site", "Content-Type": "text/plain"})
    assert answer.status == 415


def test_origins_that_are_none_are_refused_at_start(start, tmp_path):
    for wrong in ("*", "example.org", "https://example.org/", "https://a\\r\\nX: y"):
        config = tmp_path / "wrong.toml"
        config.write_text(f'cors_origins = ["{wrong}"]\n')
        server = start("--config", config, run=False)
        server.spawn()
        assert server.wait_for_exit() == 2
        assert eventually(lambda: "cors_origins" in server.log(), "it says which setting")
