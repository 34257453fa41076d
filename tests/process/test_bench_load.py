"""The programs behind bench/overload.py and bench/crowd.py run, so that they do not rot. What they measure is not looked at."""

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


def test_a_plot_is_well_formed_whatever_is_in_it():
    code = (
        "import svg; print(svg.plot('A < B & C', 'x', [0.1, 1, 10], [{'label': 'l', 'lines': {'a': [1, None, 3]}},"
        "{'label': 'm', 'log': True, 'lines': {'b': [0.5, 20, 3e6], 'c': [1, 1, 1]}}, {'label': 'n', 'lines': {'d': []}}]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "bench", capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stderr
    assert xml.etree.ElementTree.fromstring(done.stdout).tag.endswith("svg")
