"""/metrics and what is made of it: formats, names, what the documents, the alert rules and the board say of them."""

import gzip
import json
import re
import shutil
import subprocess

import pytest

from harness import ROOT, eventually, requests_session

RULES = ROOT / "deploy/prometheus/workmill.rules.yml"
RULES_TEST = ROOT / "deploy/prometheus/workmill.rules.test.yml"
BOARD = ROOT / "deploy/grafana/workmill.json"
OPENMETRICS = "application/openmetrics-text; version=1.0.0"

SAMPLE = re.compile(r'(?P<name>[a-z_]\w*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)')
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
# Made by Prometheus itself, or by the recording rules.
NOT_OURS = {"up"}


class Page:
    """A page of metrics: families by name with their type, and samples."""

    def __init__(self, text):
        self.text = text
        self.types, self.helps, self.samples = {}, {}, {}
        for line in text.splitlines():
            if line.startswith("# TYPE "):
                _, _, name, kind = line.split(" ")
                assert name not in self.types, f"{name} is there twice"
                self.types[name] = kind
            elif line.startswith("# HELP "):
                self.helps[line.split(" ")[2]] = line.split(" ", 3)[3]
            elif not line.startswith("#"):
                match = SAMPLE.fullmatch(line)
                assert match, line
                labels = tuple(sorted(LABEL.findall(match["labels"] or "")))
                key = (match["name"], labels)
                assert key not in self.samples, f"{line} is there twice"
                self.samples[key] = float(match["value"])

    def value(self, name, **labels):
        return self.samples[(name, tuple(sorted(labels.items())))]

    def sum(self, name, **labels):
        wanted = set(labels.items())
        return sum(value for (each, have), value in self.samples.items() if each == name and wanted <= set(have))

    def sample_names(self):
        return {name for name, _ in self.samples}


def scrape(server, **headers):
    headers = {"Accept-Encoding": "identity", **{name.replace("_", "-"): value for name, value in headers.items()}}
    got = requests_session().get(server.url + "/metrics", headers=headers, timeout=60)
    assert got.status_code == 200, got
    return got


def page(server):
    return Page(scrape(server).text)


def promtool(*args, text=None):
    tool = shutil.which("promtool")
    assert tool, "promtool is missing: ./dev setup test installs Debian's prometheus"
    ran = subprocess.run([tool, *map(str, args)], input=text, capture_output=True, text=True)
    assert ran.returncode == 0, f"promtool {args}: {ran.stdout}{ran.stderr}"


def live(api):
    """One job through its life, so that every metric that there can be is there."""
    api.enqueue()
    api.complete(api.lease_one())


def test_promtool_finds_nothing_to_say_of_a_live_page(shared, api):
    live(api)

    promtool("check", "metrics", text=scrape(shared).text)


def test_openmetrics_is_the_same_in_its_own_form(shared, api):
    live(api)
    plain = page(shared)

    got = scrape(shared, Accept=OPENMETRICS)

    assert got.headers["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert got.text.endswith("# EOF\n") and got.text.count("# EOF") == 1
    families = dict(re.findall(r"^# TYPE (\w+) (\w+)$", got.text, re.MULTILINE))
    assert len(families) == got.text.count("# TYPE "), "two families of one name"
    # A counter's family has no suffix there; nothing else changes.
    assert {name + ("_total" if kind == "counter" else "") for name, kind in families.items()} == set(plain.types)
    for name in families:
        others = [each for each in families if each.startswith(name + "_")]
        clash = {name + end for end in ("_total", "_count", "_sum", "_bucket", "_created")}
        assert not clash & set(others), f"{name} and {clash & set(others)}"


def test_the_page_is_packed_for_those_who_ask(shared, api):
    live(api)
    plain = scrape(shared)
    packed = requests_session().get(
        shared.url + "/metrics", headers={"Accept-Encoding": "gzip"}, timeout=60, stream=True
    )
    body = packed.raw.read(decode_content=False)

    assert packed.headers["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in packed.headers["Vary"]
    assert int(packed.headers["Content-Length"]) == len(body) < len(plain.content) / 3
    assert set(Page(gzip.decompress(body).decode()).types) == set(Page(plain.text).types)
    assert "Content-Encoding" not in plain.headers


def documented():
    """name → type, of docs/reference/metrics.md."""
    text = (ROOT / "docs/reference/metrics.md").read_text()
    rows = re.findall(r"^\| `(\w+)`(?: \*\*t\*\*)? \| (counter|gauge|histogram) \|([^|]*)\|([^|]*)\|", text, re.MULTILINE)
    assert rows
    assert len(rows) == len({name for name, *_ in rows}), "a metric stands there twice"
    assert all(unit.strip() for _, _, _, unit in rows), "a metric without a unit"
    return {name: kind for name, kind, *_ in rows}


def test_the_document_has_every_metric_and_no_other(shared, api):
    live(api)
    api.call("PATCH", f"/v1/queues/{api.queue}", {"max_depth": 1_000}, expect=200)  # Some are of such queues alone.
    types = page(shared).types
    if "workmill_allocations_total" not in types:  # Sanitizers bring their own operators.
        types |= {"workmill_allocations_total": "counter"}

    assert documented() == types


def test_labels_are_those_of_the_document(shared, api):
    live(api)
    text = (ROOT / "docs/reference/metrics.md").read_text()
    rows = re.findall(r"^\| `(\w+)`(?: \*\*t\*\*)? \| (?:counter|gauge|histogram) \|([^|]*)\|", text, re.MULTILINE)
    labels = {name: set(re.findall(r"`(\w+)`", cell)) for name, cell in rows}
    have = page(shared)

    for (name, sample_labels), _ in have.samples.items():
        family = name if name in have.types else re.sub(r"_(bucket|sum|count)$", "", name)
        assert {label for label, _ in sample_labels} - {"le"} == labels[family], name


def test_the_rules_are_right_and_do_what_their_test_says():
    promtool("check", "rules", RULES)
    promtool("test", "rules", RULES_TEST)


def metrics_in(expression):
    """Names of metrics in a PromQL expression: words outside of labels, strings and functions."""
    bare = re.sub(r"\{[^}]*\}|\"[^\"]*\"|\[[^\]]*\]", " ", expression)
    bare = re.sub(r"\b(by|without|on|ignoring)\s*\([^)]*\)", " ", bare)
    return {word for word in re.findall(r"\b[a-z_][a-z0-9_:]*\b(?!\s*\()", bare)} - {"and", "or", "unless", "bool"}


@pytest.fixture
def names(start):
    """Of all samples that there can be, those of the export of traces included."""
    server = start("--otlp-endpoint", "http://127.0.0.1:1")
    live(server.api(queue="q"))
    return page(server).sample_names()


def test_every_metric_in_the_rules_is_there(names):
    expressions = re.findall(r"expr: (?:\|\n((?: {10}.*\n)+)|(.*)\n)", RULES.read_text())
    assert len(expressions) == RULES.read_text().count("expr:")

    used = set().union(*(metrics_in(block or line) for block, line in expressions))

    assert len(used) > 10
    assert used - names - NOT_OURS == set()


def test_every_expression_on_the_board_is_one(tmp_path):
    board = json.loads(BOARD.read_text())
    expressions = [target["expr"] for panel in panels() for target in panel["targets"]]
    expressions += [each["expr"] for each in board["annotations"]["list"]]
    known = {"__rate_interval": "5m", "instance": ".*"}
    rules = [
        {"record": f"board:{number}", "expr": re.sub(r"\$(\w+)", lambda variable: known[variable[1]], expression)}
        for number, expression in enumerate(expressions)
    ]
    path = tmp_path / "board.rules.yml"
    path.write_text(json.dumps({"groups": [{"name": "board", "rules": rules}]}))  # JSON is YAML, too.

    promtool("check", "rules", path)

    assert len(rules) > 50


def panels():
    return [each for each in json.loads(BOARD.read_text())["panels"] if each["type"] != "row"]


def test_every_metric_on_the_board_is_there(names):
    used = set().union(*(metrics_in(target["expr"]) for panel in panels() for target in panel["targets"]))

    assert len(used) > 20
    assert used - names - {"workmill_allocations_total"} == set()


def test_every_panel_has_a_unit_and_a_description_and_a_place_of_its_own():
    places = set()
    for panel in panels():
        assert panel["title"] and panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & places and at["x"] + at["w"] <= 24, panel["title"]
        places |= cells
    assert len({panel["title"] for panel in panels()}) == len(panels())


def test_what_happens_to_jobs_shows(start):
    server = start()  # One of its own: where there are many queues, as in the shared one, some are shown as one.
    api = server.api(queue="shown")
    api.enqueue(type="shown.type")
    api.enqueue(type="shown.type")
    api.complete(api.lease_one())
    api.fail(api.lease_one())

    have = page(server)

    assert have.value("workmill_job_type_events_total", type="shown.type", event="enqueued") == 2
    assert have.value("workmill_job_type_events_total", type="shown.type", event="completed") == 1
    assert have.value("workmill_job_type_events_total", type="shown.type", event="failed") == 1
    assert have.value("workmill_jobs_enqueued_total", queue=api.queue) == 2
    for stage in ("parse", "wait", "decide", "flush", "reply"):
        assert have.value("workmill_stage_seconds_count", stage=stage) > 0
    assert have.value("workmill_request_seconds_count", protocol="http", route="create_jobs") >= 2
    assert have.value("workmill_log_flush_seconds_count") > 0
    assert have.value("process_resident_memory_bytes") > 1e6
    assert have.sum("workmill_build_info") == 1


def test_many_queues_are_shown_as_one_but_none_is_lost(start):
    server = start()
    api = server.api()
    jobs = [{"type": "t", "queue": f"queue.{number:04}"} for number in range(230)]
    api.post("/v1/jobs", {"jobs": jobs}, expect=201)

    have = page(server)

    assert have.value("workmill_queues_folded") == 30
    assert have.value("workmill_jobs", queue="(other)", state="ready") == 30
    assert have.sum("workmill_jobs", state="ready") == 230
    assert have.sum("workmill_jobs_enqueued_total") == 230


def test_without_telemetry_stages_are_not_measured(start, config):
    server = start(*config(telemetry="false"))
    api = server.api(queue="q")
    live(api)

    have = page(server)
    status = api.get("/v1/status")

    assert "workmill_stage_seconds" not in have.types
    assert have.sum("workmill_job_stage_seconds_count") == 0
    assert status["stages"] == {} and status["types"] == []


def test_status_tells_where_time_goes(shared, api):
    live(api)
    status = eventually(lambda: (now := api.get("/v1/status"))["threads"] and now, "the threads were sampled")

    assert set(status["stages"]) == {"parse", "wait", "decide", "flush", "reply"}
    for times in status["stages"].values():
        assert times["count"] > 0 and times["seconds_total"] > 0 and 0 < times["p50_us"] <= times["p99_us"]
    assert set(status["job_stages"]) == {"enqueued_to_ready", "ready_to_leased", "leased_to_done"}
    assert status["job_stages"]["leased_to_done"]["count"] >= 1
    assert "workmill" in {thread["name"] for thread in status["threads"]}
    assert status["http"]["requests_total"] > 0 and status["http"]["connections_total"] > 0
    assert {"inbox", "http_connections"} <= {bound["name"] for bound in status["bounds"]}
    assert len(status["types"]) <= 21


def test_status_has_each_bound_that_the_metrics_have(shared, api):
    names = {bound["name"] for bound in api.get("/v1/status")["bounds"]}
    bounds = {labels[0][1] for name, labels in page(shared).samples if name == "workmill_bound_limit"}
    assert "log_lines" in bounds
    assert bounds == names


def test_the_document_has_every_bound_and_no_other(start, config):
    server = start(*config(jobs_memory_max="1GiB"))
    text = (ROOT / "docs/reference/metrics.md").read_text()
    section = re.search(r"^## Bounds\n(.*?)^## ", text, re.MULTILINE | re.DOTALL).group(1)
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \|$", section, re.MULTILINE)

    have = {dict(labels)["bound"] for name, labels in page(server).samples if name == "workmill_bound_limit"}

    assert len(rows) == len(set(rows)), "a bound stands there twice"
    assert set(rows) == have


def test_a_queue_with_a_bound_tells_it(start):
    server = start()
    api = server.api()
    for queue in ("bounded", "boundless"):
        api.enqueue(queue=queue)
    api.call("PATCH", "/v1/queues/bounded", {"max_depth": 7}, expect=200)

    have = page(server)

    assert have.value("workmill_queue_max_depth", queue="bounded") == 7
    assert not [labels for name, labels in have.samples if name == "workmill_queue_max_depth" and "boundless" in str(labels)]


def test_a_stage_of_a_job_goes_on_over_a_restart(start):
    server = start()
    api = server.api(queue="q")
    api.enqueue(type="long")
    job = api.lease_one()

    server.restart()
    api.complete(job)

    times = api.get("/v1/status")["job_stages"]["leased_to_done"]
    assert times["count"] == 1
    assert times["seconds_total"] > 0, "the time before the restart is counted in"


def test_the_types_are_the_busiest_and_the_rest(start):
    api = start().api(queue="q")
    jobs = [{"type": f"type.{number:02}", "queue": "q"} for number in range(30) for _ in range(number + 1)]
    api.post("/v1/jobs", {"jobs": jobs}, expect=201)

    types = api.get("/v1/status")["types"]

    assert [each["type"] for each in types] == [f"type.{number:02}" for number in range(29, 9, -1)] + ["(other)"]
    assert sum(each["enqueued_total"] for each in types) == len(jobs)


def test_a_refused_request_is_counted(start, config):
    server = start(*config(header_size_max="4KiB"))
    api = server.api(checked=False)
    before = api.get("/v1/status")["http"]["refused_total"]

    api.call("GET", "/v1/status", headers={"X-Long": "x" * 5_000}, expect=431)

    assert api.get("/v1/status")["http"]["refused_total"] == before + 1


@pytest.mark.slow
def test_with_several_threads_each_is_named(start):
    server = start("--io-threads", "2")
    api = server.api(queue="q")
    live(api)

    names = eventually(
        lambda: {thread["name"] for thread in api.get("/v1/status")["threads"]} >= {"workmill", "wm-io-1", "wm-shard"},
        "all threads are there",
    )
    assert names
    for stage in ("parse", "wait", "decide", "flush", "reply"):
        assert page(server).value("workmill_stage_seconds_count", stage=stage) > 0
