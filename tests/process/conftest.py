"""Fixtures. `api`: a server shared by all tests, and a queue of this test's own. `start`: servers of one's own."""

import itertools
import os
import re

import pytest

from harness import BINARY, Api, Document, Server

_servers = []  # All that run, so that a failing test can show what they said.


def pytest_addoption(parser):
    parser.addoption(
        "--rounds", type=int, help="how many rounds of the tests that kill or cut the power (default: few)"
    )
    parser.addoption("--every-k", action="store_true", help="let every single call fail, and not only some")


def pytest_configure(config):
    if not BINARY.exists():
        raise pytest.UsageError(f"{BINARY} is not there: build it, or name it in WORKMILL_BIN")
    os.environ.pop("WORKMILL_URL", None)
    os.environ.pop("WORKMILL_TOKEN", None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        for server in _servers:
            report.sections.append((f"server {server.data.name}", server.log_tail(4_000)))
    return report


def _end(server):
    _servers.remove(server)
    try:
        if server.running():
            server.process.kill()
            server.process.wait()
    finally:
        server.check_log()


def _learn_document(server):
    if Api.document is None:
        answer = server.api(checked=False).call("GET", "/openapi.json", expect=(200, 401))  # 401: it has tokens.
        if answer.status == 200 and "paths" in answer.json:  # Else test_openapi.py says so.
            Api.document = Document(answer.json)


@pytest.fixture
def start(tmp_path):
    """start() gives a running server on a new folder; start(data=…, run=False) does what it says. All are ended."""
    made = []
    numbers = itertools.count(1)

    def make(*args, data=None, run=True, env=None):
        server = Server(data or tmp_path / f"data{next(numbers)}", *args, env=env)
        made.append(server)
        _servers.append(server)
        if run:
            server.start()
            _learn_document(server)
        return server

    yield make
    for server in made:
        _end(server)


@pytest.fixture(scope="session")
def _shared(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("shared") / "data")
    _servers.append(server)
    yield server
    if server.running():
        server.stop()
    _end(server)


_numbers = itertools.count(1)


@pytest.fixture
def shared(_shared):
    """The server that the tests which do not stop it share."""
    if not _shared.running():
        _shared.start()
        _learn_document(_shared)
    yield _shared
    assert _shared.running(), f"the server ended with {_shared.process.poll()} during this test:\n{_shared.log_tail()}"


@pytest.fixture
def api(shared, request):
    """The shared server, and as api.queue a queue that no other test uses."""
    name = re.sub(r"[^A-Za-z0-9_]", "_", request.node.name)[:90]
    return shared.api(queue=f"{name}.{next(_numbers)}")


@pytest.fixture
def config(tmp_path):
    """config(segment_size="4MiB", …) gives the arguments that make a server read those settings from a file."""

    def make(**settings):
        path = tmp_path / "workmill.toml"
        path.write_text(
            "".join(
                f"{name} = {value if value.isdigit() or value in ('true', 'false') else chr(34) + value + chr(34)}\n"
                for name, value in settings.items()
            )
        )
        return ["--config", str(path)]

    return make
