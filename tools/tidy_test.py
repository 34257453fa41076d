"""Tests of tools/tidy: each rule is shown one file that breaks it and one that does not."""
import importlib.machinery
import importlib.util
import json
import pathlib
import tempfile
import unittest

TOOL = pathlib.Path(__file__).resolve().parent / "tidy"
loader = importlib.machinery.SourceFileLoader("tidy", str(TOOL))
spec = importlib.util.spec_from_loader("tidy", loader)
tidy = importlib.util.module_from_spec(spec)
loader.exec_module(tidy)


class TidyTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.root = pathlib.Path(self.folder.name)
        for header in ["base/error.h", "model/job.h", "log/log.h", "log/memory/memory_log.h", "engine/engine.h",
                       "shard/shard_loop.h", "service/service.h", "protocols/http/codec.h", "protocols/sqs/codec.h"]:
            self.write("src/" + header, "#pragma once\n")

    def write(self, path, text):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def found(self, path, text):
        self.write(path, text)
        return [(number, what) for name, number, what in tidy.findings(self.root) if name == path]

    def assert_found(self, path, text, line, part):
        found = self.found(path, text)
        self.assertEqual([line], [number for number, _ in found], found)
        self.assertIn(part, found[0][1])

    def assert_clean(self, path, text):
        self.assertEqual([], self.found(path, text))

    def test_a_layer_includes_what_the_table_allows(self):
        self.assert_clean("src/shard/x.cpp", '#include "engine/engine.h"\n#include "log/memory/memory_log.h"\n')
        self.assert_clean("src/protocols/http/x.cpp", '#include "protocols/http/codec.h"\n#include "service/service.h"\n')
        self.assert_clean("src/app/x.cpp", '#include "shard/shard_loop.h"\n')
        self.assert_clean("src/engine/commands/x.cpp", '#include "engine/engine.h"\n#include "model/job.h"\n')

    def test_a_layer_does_not_include_what_lies_above_or_two_below(self):
        self.assert_found("src/engine/x.cpp", '#include "shard/shard_loop.h"\n', 1, "engine must not include")
        self.assert_found("src/service/x.cpp", '#include "engine/engine.h"\n', 1, "service must not include")
        self.assert_found("src/base/x.cpp", '#include "model/job.h"\n', 1, "base must not include")

    def test_one_protocol_does_not_include_another(self):
        self.assert_found("src/protocols/http/x.cpp", '#include "protocols/sqs/codec.h"\n', 1, "must not include")

    def test_a_test_may_use_all_that_lies_below_its_layer(self):
        self.assert_clean("src/service/x_test.cpp", '#include "log/memory/memory_log.h"\n')
        self.assert_found("src/engine/x_test.cpp", '#include "shard/shard_loop.h"\n', 1, "must not include")

    def test_an_unknown_folder_is_not_a_layer(self):
        self.assert_found("src/utils/x.cpp", "int x;\n", 1, "not a layer")

    def test_includes_are_paths_from_src(self):
        self.assert_found("src/engine/x.cpp", '#include "engine.h"\n', 1, "no path from src/")

    def test_an_include_in_a_comment_does_not_count(self):
        self.assert_clean("src/engine/x.cpp", '// #include "shard/shard_loop.h"\n/*\n#include "shard/shard_loop.h"\n*/\n')

    def test_the_engine_names_no_clock_thread_chance_or_await(self):
        self.assert_found("src/engine/x.cpp", "\nauto t = Clock::now();\n", 2, "now(")
        self.assert_found("src/engine/x.cpp", "#include <thread>\n", 1, "thread")
        self.assert_found("src/engine/x.cpp", "std::random_device device;\n", 1, "random_device")
        self.assert_found("src/engine/x.cpp", "co_await something();\n", 1, "co_await")

    def test_banned_words_may_stand_in_comments_strings_and_tests(self):
        self.assert_clean("src/engine/x.cpp", "// EngineClock has no now().\n/* one thread\n only */ int x;\n")
        self.assert_clean("src/engine/x.cpp", 'auto s = "thread \\" now()"; auto r = R"(co_await)";\n')
        self.assert_clean("src/engine/x_test.cpp", "std::jthread runner;\n")
        self.assert_clean("src/shard/x.cpp", "std::jthread runner;\n")

    def test_a_digit_separator_does_not_open_a_string(self):
        self.assert_found("src/engine/x.cpp", "int a = 1'000;\nint b = 2'000; std::thread t;\n", 2, "thread")

    def test_nothing_is_detached(self):
        self.assert_found("src/net/x.cpp", "co_spawn(io, f(), asio::detached);\n", 1, "detached")
        self.assert_found("src/app/x.cpp", "thread.detach();\n", 1, "detach")

    def test_only_the_system_clock_asks_for_the_time(self):
        self.assert_found("src/net/x.cpp", "auto t = std::chrono::steady_clock::now();\n", 1, "system_clock.h")
        self.assert_clean("src/shard/system_clock.cpp", "auto t = std::chrono::system_clock::now();\n")

    def test_only_the_file_device_talks_to_the_disk(self):
        self.assert_found("src/shard/x.cpp", "::fdatasync(fd);\n", 1, "log/file")
        self.assert_clean("src/log/file/x.cpp", "::fdatasync(fd);\n")

    def test_what_a_variant_holds_is_asked_in_one_comparison(self):
        self.assert_found("sim/x.cpp", "return std::holds_alternative<Lease>(command);\n", 1, "base/variant.h")
        self.assert_clean("sim/x.cpp", "return holds<Lease>(command);\n")

    def test_heavy_headers_stay_out_of_headers(self):
        self.assert_found("src/service/x.h", "#pragma once\n#include <boost/asio.hpp>\n", 2, "heavy")
        self.assert_clean("src/net/x.h", "#pragma once\n#include <boost/asio.hpp>\n")
        self.assert_clean("src/app/x.cpp", "#include <boost/asio.hpp>\n")

    def test_a_todo_says_which_kind_and_now_is_no_kind(self):
        self.assert_found("src/app/x.cpp", "// TODO(" "now): mend\n", 1, "do it now")
        self.assert_found("src/app/x.cpp", "// TODO" ": mend\n", 1, "which kind")
        self.assert_clean("src/app/x.cpp", "// TODO(soon): mend\n")

    def test_pragma_once_comes_first_in_a_header(self):
        self.assert_found("src/base/x.h", "// What it is for.\n#include <span>\n#pragma once\n", 2, "#pragma once")
        self.assert_clean("src/base/x.h", "// What it is for.\n#pragma once\n#include <span>\n")

    def test_the_own_header_comes_first(self):
        self.assert_found("src/engine/engine.cpp", '#include <span>\n#include "engine/engine.h"\n', 1, "own header first")
        self.assert_found("src/engine/engine_test.cpp", '#include "model/job.h"\n', 1, "own header first")
        self.assert_clean("src/engine/engine.cpp", '#include "engine/engine.h"\n\n#include <span>\n')

    def test_a_test_file_that_nobody_compiles_is_found(self):
        self.write("src/engine/in_test.cpp", "")
        self.write("src/engine/out_test.cpp", "")
        self.write("build/compile_commands.json",
                   json.dumps([{"directory": str(self.root), "file": str(self.root / "src/engine/in_test.cpp")}]))

        found = list(tidy.findings(self.root, self.root / "build"))

        self.assertEqual([("src/engine/out_test.cpp", 1, "no build rule compiles this test")], found)

    def test_a_test_file_that_several_are_compiled_with_is_no_finding(self):
        self.write("src/engine/in_test.cpp", "")
        self.write("src/engine/out_test.cpp", "")
        self.write("build/x.dir/Unity/unity_0_cxx.cxx",
                   f'/* made */\n#include "{(self.root / "src/engine/in_test.cpp").resolve()}"\n')
        self.write("build/compile_commands.json",
                   json.dumps([{"directory": str(self.root / "build"), "file": "x.dir/Unity/unity_0_cxx.cxx"}]))

        found = list(tidy.findings(self.root, self.root / "build"))

        self.assertEqual([("src/engine/out_test.cpp", 1, "no build rule compiles this test")], found)

    def test_a_python_test_that_pytest_would_miss_is_found(self):
        self.assert_found("tests/process/kill_test.py", "", 1, "test_kill.py")


if __name__ == "__main__":
    unittest.main()
