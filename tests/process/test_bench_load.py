"""`workmill bench`, and the programs behind bench/overload.py and bench/crowd.py, run, so that they do not rot. What they
measure is not looked at."""

import json
import subprocess
import sys
import xml.etree.ElementTree

import pytest

from harness import BINARY, ROOT

GENERATOR = BINARY.with_name("wm_bench_load")


@pytest.mark.skipif(not GENERATOR.exists(), reason="only the release build has benchmarks")
def test_the_generator_counts_all_that_it_offers(api):
    command = [GENERATOR, "--server", api.url, "--queue", api.queue, "--connections", "20", "--rate", "2000"]
    done = subprocess.run([*command, "--seconds", "0.3", "--warm-up", "0.1"], capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    answered = figures["admitted"] + figures["refused_503"] + figures["refused_429"] + figures["other"]
    # Those under way at the end are neither.
    assert figures["offered"] - 20 <= answered + figures["not_sent"] <= figures["offered"]
    assert figures["other"] == 0
    assert api.depth()["ready"] >= figures["admitted_in_all"]
    assert figures["sampled_ids"] and all(api.exists(name) for name in figures["sampled_ids"][:20])


def bench(api, *arguments):
    command = [BINARY, "bench", "--json", "--server", api.url, *arguments]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return {item["load"]: item for item in json.loads(done.stdout)["items"]}


def is_emptied(api, load):
    return not any(api.get(f"/v1/queues/bench.{load}")["depth"].values())


def test_each_load_does_all_of_its_jobs_and_leaves_none(api):
    items = bench(api, "--jobs", 250, "--rate", 20000)

    assert list(items) == ["enqueue", "drain", "end-to-end", "mixed", "latency"]
    for load, item in items.items():
        assert (item["jobs"], item["transport"]) == (250, "http"), item
        assert item["p50_us"] <= item["p90_us"] <= item["p99_us"] <= item["max_us"]
        assert item["seconds"] > 0 and item["server_cpu_us_per_job"] >= 0
        assert item["cpu_from"] in ("/proc", "/metrics")
        assert is_emptied(api, load)


def test_a_load_goes_on_for_a_time_in_batches(api):
    items = bench(api, "end-to-end", "--seconds", "200ms", "--batch", 20, "--producers", 2, "--workers", 3, "--payload", 300)

    item = items["end-to-end"]
    assert (item["producers"], item["workers"], item["batch"]) == (2, 3, 20)
    assert item["jobs"] > 0 and item["seconds"] >= 0.2
    assert is_emptied(api, "end-to-end")


@pytest.mark.parametrize("load", ["drain", "end-to-end", "mixed", "latency"])
def test_a_load_runs_over_streams(api, load):
    item = bench(api, load, "--transport", "stream", "--jobs", 1500, "--rate", 20000, "--batch", 50, "--credit", 200)[load]

    assert (item["jobs"], item["transport"]) == (1500, "stream")
    assert is_emptied(api, load)


def test_a_batch_that_does_not_divide_the_jobs_is_no_matter(api):
    assert bench(api, "end-to-end", "--jobs", 103, "--batch", 10)["end-to-end"]["jobs"] == 103


def test_a_time_that_is_none_is_refused(api):
    command = [BINARY, "bench", "drain", "--seconds", "nonsense", "--server", api.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stderr


@pytest.mark.skipif(not GENERATOR.exists(), reason="only the release build has benchmarks")
@pytest.mark.parametrize(
    "arguments",
    [
        ["life", "--rounds", "1", "--jobs", "2500"],
        ["http", "--rounds", "1", "--jobs", "500"],
        ["latency", "--rounds", "1", "--jobs", "100"],
        ["idle", "--streams", "20", "--seconds", "0.2"],
        ["killed", "--rounds", "1", "--jobs", "50", "--set", "stream_reconnect_within = '200ms'"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_the_script_of_streams_measures_something(api, arguments):
    command = [sys.executable, ROOT / "bench/streams.py", *arguments, "--build", BINARY.parent]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)

    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    assert figures and all(value is not None for value in figures.values())


@pytest.mark.skipif(not GENERATOR.exists(), reason="only the release build has benchmarks")
@pytest.mark.parametrize(
    "arguments", [["--rounds", "1", "--seconds", "0.3"], ["drips", "--rounds", "1", "--seconds", "0.3"]], ids=["p99", "cpu"]
)
def test_the_script_of_slow_sockets_measures_something(arguments):
    command = [sys.executable, ROOT / "bench/slowloris.py", *arguments, "--sockets", "20", "--rate", "500", "--build", BINARY.parent]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)

    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout)
    if arguments[0] == "drips":
        assert all(len(figures["us_a_drip"][each]) == 1 for each in ("server", "sink"))
    else:
        assert all(figures["p99_ms"][kind] > 0 for kind in ("alone", "among", "beside"))
        assert all(figures[what][how]["ratio"] > 0 for what in ("among", "beside", "ours") for how in ("of_pairs", "pooled"))


@pytest.mark.skipif(not GENERATOR.exists(), reason="only the release build has benchmarks")
def test_the_script_of_many_connections_measures_something():
    command = [sys.executable, ROOT / "bench/crowd.py", "--connections", "20", "--seconds", "1", "--build", BINARY.parent]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["admitted"] > 0


def test_a_plot_is_well_formed_whatever_is_in_it():
    code = (
        "import svg; print(svg.plot('A < B & C', 'x', [0.1, 1, 10], [{'label': 'l', 'lines': {'a': [1, None, 3]}},"
        "{'label': 'm', 'log': True, 'lines': {'b': [0.5, 20, 3e6], 'c': [1, 1, 1]}}, {'label': 'n', 'lines': {'d': []}}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "bench", capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
    assert xml.etree.ElementTree.fromstring(done.stdout).tag.endswith("svg")
