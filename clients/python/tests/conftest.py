"""Fixtures for all tests of this client."""

from __future__ import annotations

import os
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "clients/conformance"))
sys.path.insert(0, str(ROOT / "clients/python"))

import server as conformance_server  # noqa: E402
from fake_stream import FakeStream  # noqa: E402

from workmill.testing import FakeWorkmill  # noqa: E402

BINARY = pathlib.Path(os.environ.get("WORKMILL_BIN", ROOT / "build/release/workmill")).resolve()


def pytest_configure(config):
    os.environ.pop("WORKMILL_URL", None)
    os.environ.pop("WORKMILL_TOKEN", None)


@pytest.fixture
def server(tmp_path):
    """The real one, on a folder of this test's own."""
    if not BINARY.exists():
        pytest.fail(f"{BINARY} is not there: build it, or name it in WORKMILL_BIN")
    one = conformance_server.Server(BINARY, tmp_path, {})
    one.start()
    yield one
    one.end()


@pytest.fixture
def fake():
    return FakeWorkmill()


@pytest.fixture
def stream(fake):
    one = FakeStream(fake)
    yield one
    one.close()
