#!/usr/bin/env python3
"""Tells the scenarios to a driver. See README.md beside this."""

from __future__ import annotations

import argparse
import concurrent.futures
import fnmatch
import json
import os
import pathlib
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ElementTree
from typing import NamedTuple, Optional

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))

from driver import ClientError, Driver  # noqa: E402
from server import Failed  # noqa: E402
from steps import Story  # noqa: E402


def scenarios(only: str) -> list:
    found = []
    for path in sorted((HERE / "scenarios").glob("*.json")):
        scenario = json.loads(path.read_text(encoding="utf-8"))
        scenario["file"] = path.stem
        if fnmatch.fnmatch(path.stem, only) or fnmatch.fnmatch(scenario["name"], only):
            found.append(scenario)
    return found


def abilities(command: list) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        driver = Driver(command, pathlib.Path(folder) / "log")
        try:
            return driver.call({"do": "hello"})
        finally:
            driver.end()


def tell(binary: pathlib.Path, command: list, scenario: dict, transport: str) -> str:
    """Runs it once. Returns what was wrong, with the logs; nothing where all was right."""
    with tempfile.TemporaryDirectory(prefix="workmill-conformance-") as folder:
        story = None
        wrong = ""
        try:
            story = Story(binary, command, pathlib.Path(folder), scenario, transport)
            story.run()
        except (Failed, ClientError) as failed:
            wrong = str(failed)
        except Exception as error:  # A scenario's own mistake must not end the others.
            wrong = f"{type(error).__name__}: {error}"
        try:
            said = story.end() if story is not None else ""
        except Failed as failed:
            wrong, said = wrong or str(failed), ""
        return f"{wrong}\n{said}" if wrong else ""


class Outcome(NamedTuple):
    name: str
    missing: list  # Abilities that the driver does not have.
    wrong: str
    seconds: float

    @property
    def verdict(self) -> str:
        return "skipped" if self.missing else "failed" if self.wrong else "passed"

    def show(self) -> None:
        why = f" (needs {', '.join(self.missing)})" if self.missing else ""
        print(f"{self.verdict:8}{self.seconds:6.1f} s  {self.name}{why}", flush=True)
        if self.wrong:
            print(self.wrong, flush=True)

    def as_xml(self, of: str) -> ElementTree.Element:
        case = ElementTree.Element("testcase", name=self.name, classname=of, time=f"{self.seconds:.3f}")
        if self.missing:
            ElementTree.SubElement(case, "skipped", message=f"needs {', '.join(self.missing)}")
        elif self.wrong:
            text = "".join(c for c in self.wrong if c.isprintable() or c == "\n")  # XML has no control characters.
            ElementTree.SubElement(case, "failure", message=text.splitlines()[0]).text = text
        return case


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="*", metavar="PATTERN", help="files or names that match, such as 'lease*'")
    parser.add_argument("--transport", help="only this one: stream, http or embedded")
    parser.add_argument("--jobs", type=int, default=8, help="scenarios at once; they mostly wait")
    parser.add_argument("-x", "--stop", action="store_true", help="end with the first that fails")
    parser.add_argument("--junit", type=pathlib.Path, help="writes the results there")
    parser.add_argument("--list", action="store_true", help="only say which scenarios there are")
    parser.add_argument("driver", nargs="*", help="the command that runs the driver, after --")
    options = parser.parse_args()
    chosen = scenarios(options.only)
    if options.list:
        for scenario in chosen:
            print(f"{scenario['file']}: {scenario['name']} ({', '.join(scenario['transports'])})")
        return 0
    if not options.driver:
        parser.error("which driver? Its command comes after --")
    binary = pathlib.Path(os.environ.get("WORKMILL_BIN", ROOT / "build/release/workmill")).resolve()
    if not binary.exists():
        parser.error(f"{binary} is not there: build it, or name it in WORKMILL_BIN")
    for name in ("WORKMILL_URL", "WORKMILL_TOKEN"):
        os.environ.pop(name, None)

    about = abilities(options.driver)
    suite = ElementTree.Element("testsuite", name=f"conformance-{about['client']}")
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    runs = [
        (scenario, transport)
        for scenario in chosen
        for transport in scenario["transports"]
        if options.transport in (None, transport) and transport in about["can"]
    ]
    is_over = threading.Event()

    def run(scenario: dict, transport: str) -> Optional[Outcome]:
        if is_over.is_set():
            return None
        missing = [need for need in scenario.get("needs", []) if need not in about["can"]]
        began = time.monotonic()
        wrong = "" if missing else tell(binary, options.driver, scenario, transport)
        if wrong and options.stop:
            is_over.set()
        return Outcome(f"{scenario['name']} [{transport}]", missing, wrong, time.monotonic() - began)

    with concurrent.futures.ThreadPoolExecutor(max_workers=options.jobs) as pool:
        for done in concurrent.futures.as_completed([pool.submit(run, *one) for one in runs]):
            outcome = done.result()
            if outcome is not None:
                counts[outcome.verdict] += 1
                outcome.show()
                suite.append(outcome.as_xml(f"conformance.{about['client']}"))
    for name, key in (("tests", None), ("failures", "failed"), ("skipped", "skipped")):
        suite.set(name, str(sum(counts.values()) if key is None else counts[key]))
    if options.junit:
        ElementTree.ElementTree(suite).write(options.junit, encoding="utf-8", xml_declaration=True)
    print(f"{about['client']}: " + ", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    return 1 if counts["failed"] or not counts["passed"] else 0


if __name__ == "__main__":
    sys.exit(main())
