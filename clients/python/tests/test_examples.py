"""What README.md tells to paste, and the programs in examples/, against the real server."""

from __future__ import annotations

import os
import pathlib
import re
import shutil
import sqlite3
import subprocess
import sys
import time
import zipfile

import pytest
from conftest import ROOT

import workmill

PACKAGE = ROOT / "clients/python"
DEADLINE = 60


@pytest.fixture
def run(server, tmp_path):
    """run(program, …): starts it in an empty folder, against the server. What still runs at the end is killed."""
    running = []
    folder = tmp_path / "empty"
    folder.mkdir()
    environment = {**os.environ, "WORKMILL_URL": server.url, "PYTHONPATH": str(PACKAGE), "PYTHONUNBUFFERED": "1"}

    def start(program, *arguments):
        command = [sys.executable, str(program), *map(str, arguments)]
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def ended(process, code=0):
    """Its output, when it has ended with that code."""
    out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == code, f"exit code {process.returncode}\n{out}\n{err}"
    return out


def until(check):
    """Until it is true, with a deadline."""
    end = time.monotonic() + DEADLINE
    while not check():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def examples(path, language="python"):
    """(file name, text) of the blocks that begin with a comment naming their file."""
    blocks = re.findall(rf"```{language}\n(.*?)```", path.read_text(encoding="utf-8"), re.S)
    return {match[1]: block for block in blocks if (match := re.match(r"# (\w+\.py)", block))}


def test_the_first_example_runs_as_it_is_pasted(run, server, tmp_path):
    pasted = examples(PACKAGE / "README.md")
    for name in ("worker.py", "send.py"):
        (tmp_path / "empty" / name).write_text(pasted[name], encoding="utf-8")

    worker = run("worker.py")
    assert ended(run("send.py")) == "Hello, Ada\n"

    worker.terminate()
    ended(worker)


def test_the_asynchronous_example_runs(run, tmp_path):
    (tmp_path / "empty" / "both.py").write_text(examples(PACKAGE / "README.md")["both.py"], encoding="utf-8")

    assert ended(run("both.py")) == "[0, 1, 4, 9, 16]\n"


def test_the_example_of_a_test_passes(run, tmp_path):
    text = examples(PACKAGE / "README.md")["test_greet.py"]
    folder = tmp_path / "empty"
    (folder / "worker.py").write_text(
        examples(PACKAGE / "README.md")["worker.py"].replace("worker.run()", 'if __name__ == "__main__": worker.run()')
    )
    (folder / "test_greet.py").write_text(text, encoding="utf-8")
    (folder / "go.py").write_text("import pytest, sys; sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider']))")

    ended(run("go.py"))


def test_the_guide_to_caching_runs_as_it_is_pasted(run, tmp_path):
    folder = tmp_path / "empty"
    for name, text in examples(ROOT / "docs/guides/caching.md").items():
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "go.py").write_text("import pytest, sys; sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider']))")

    ended(run("go.py"))
    worker = run("prices.py")
    assert ended(run("page.py")) == "tea 4.00\ntea 4.00\ncoal we do not have that\n"

    worker.terminate()
    ended(worker)


def test_an_import_that_is_killed_goes_on_where_it_was(run, server, tmp_path):
    program = ROOT / "examples/import/importer.py"
    file, database, rows = tmp_path / "customers.csv", tmp_path / "customers.db", 20_000
    ended(run(program, "sample", file, "--rows", rows))
    id = ended(run(program, "enqueue", file)).strip()

    # So slow that it would take 20 s: it is killed long before.
    first = run(program, "work", database, "--pace", 1_000, "--lease", "2s")
    with workmill.Client(server.url) as client:
        until(lambda: client.get(id).progress is not None)
    first.kill()
    first.wait()
    second = run(program, "work", database, "--lease", "2s")

    last_line = ended(run(program, "wait", id)).splitlines()[-1]
    match = re.fullmatch(rf"{rows} rows; the last attempt \(2\) began at row (\d+)", last_line)
    assert match, last_line
    assert 0 < int(match[1]) < rows
    with sqlite3.connect(database) as connection:
        assert connection.execute("SELECT count(*), max(id) FROM customers").fetchone() == (rows, rows)
    second.terminate()
    ended(second)


def test_an_import_of_a_file_that_is_not_there_is_dead_at_once(run, server, tmp_path):
    program = ROOT / "examples/import/importer.py"
    id = ended(run(program, "enqueue", tmp_path / "nowhere.csv")).strip()
    run(program, "work", tmp_path / "customers.db")

    process = run(program, "wait", id)
    _, err = process.communicate(timeout=DEADLINE)

    assert process.returncode == 1 and "there is no file" in err
    with workmill.Client(server.url) as client:
        assert client.get(id).attempt == 1


def test_the_link_checker_finds_what_is_broken(run):
    out = ended(run(ROOT / "examples/link-checker/link_checker.py"), code=1)

    readme = (ROOT / "examples/link-checker/README.md").read_text(encoding="utf-8")
    assert out in readme, out


def test_the_package_holds_all_its_modules_and_its_types(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(PACKAGE, source)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--no-build-isolation", "--no-index", "--wheel-dir", str(tmp_path), str(source)]

    subprocess.run(command, check=True, cwd=tmp_path)

    with zipfile.ZipFile(next(tmp_path.glob("workmill-*.whl"))) as wheel:
        packed = {name for name in wheel.namelist() if name.startswith("workmill/")}
    assert packed == {f"workmill/{path.name}" for path in (PACKAGE / "workmill").iterdir() if path.is_file()}


def test_the_readme_names_files_that_exist():
    for path in (PACKAGE / "README.md", ROOT / "examples/import/README.md", ROOT / "examples/link-checker/README.md"):
        for link in re.findall(r"\]\(([^)#:]+)", path.read_text(encoding="utf-8")):
            assert (path.parent / link).exists(), f"{path.name}: {link}"
    assert pathlib.Path(ROOT / "clients/python/workmill/py.typed").exists()
