"""Tests of tools/count_results: what a run left behind, and the line it closes with."""
import pathlib
import subprocess
import sys
import tempfile
import unittest

TOOL = pathlib.Path(__file__).resolve().parent / "count_results"

GTEST = """<testsuites><testsuite name="Leases">
<testcase name="Passes" status="run" classname="Leases"/>
<testcase name="IsDisabled" status="notrun" classname="Leases"/>
{more}</testsuite></testsuites>"""
FAILING = '<testcase name="Fails" status="run" classname="Leases"><failure message="no"/></testcase>\n'
CTEST = """<testsuite>{cases}</testsuite>"""
ENGINE_RAN = '<testcase name="engine" classname="engine" status="run"/>'
ENGINE_FAILED = '<testcase name="engine" classname="engine" status="fail"><failure message=""/></testcase>'
TIDY_RAN = '<testcase name="tidy" classname="tidy" status="run"/>'


class CountResultsTest(unittest.TestCase):
    def setUp(self):
        holder = tempfile.TemporaryDirectory()
        self.addCleanup(holder.cleanup)
        self.folder = pathlib.Path(holder.name)
        (self.folder / "gcc").mkdir()

    def count(self, *failed_steps):
        run = subprocess.run([sys.executable, TOOL, self.folder, *failed_steps], capture_output=True, text=True, check=False)
        return run.returncode, run.stdout.splitlines()

    def ctest(self, *cases):
        (self.folder / "gcc-ctest.xml").write_text(CTEST.format(cases="".join(cases)))

    def gtest(self, more=""):
        (self.folder / "gcc" / "engine.xml").write_text(GTEST.format(more=more))

    def test_a_gtest_program_counts_by_its_tests_and_other_entries_by_one(self):
        self.ctest(ENGINE_RAN, TIDY_RAN)
        self.gtest()

        self.assertEqual((0, ["skipped: gcc: Leases.IsDisabled", "2 passed, 0 failed"]), self.count())

    def test_a_failing_test_is_named_and_its_step_is_not_counted_again(self):
        self.ctest(ENGINE_FAILED)
        self.gtest(FAILING)

        status, lines = self.count("gcc: unit tests")

        self.assertEqual(1, status)
        self.assertEqual(["failed: gcc: Leases.Fails", "1 passed, 1 failed"], lines[1:])

    def test_a_program_that_died_counts_although_it_left_no_word(self):
        self.ctest(ENGINE_FAILED)

        self.assertEqual((1, ["failed: gcc: engine", "0 passed, 1 failed"]), self.count("gcc: unit tests"))

    def test_a_program_that_died_after_its_tests_passed_still_failed(self):
        self.ctest(ENGINE_FAILED)
        self.gtest()

        self.assertEqual("1 passed, 1 failed", self.count("gcc: unit tests")[1][-1])

    def test_a_program_that_was_not_found_is_a_failure(self):
        self.ctest('<testcase name="engine" classname="engine" status="notrun"><skipped message=""/></testcase>')

        self.assertEqual(1, self.count()[0])

    def test_a_build_that_failed_is_one_failure(self):
        self.assertEqual((1, ["failed: gcc: build", "0 passed, 1 failed"]), self.count("gcc: build"))

    def test_process_tests_count_too(self):
        (self.folder / "asan-process.xml").write_text(
            '<testsuites><testsuite><testcase classname="tests.process.test_kill" name="test_a"/>'
            '<testcase classname="tests.process.test_kill" name="test_b"><failure message="no"/></testcase>'
            '</testsuite></testsuites>')

        self.assertEqual((1, ["failed: asan: tests.process.test_kill.test_b", "1 passed, 1 failed"]),
                         self.count("asan: process tests"))


if __name__ == "__main__":
    unittest.main()
