"""Clients and workers against the real server over TLS."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess

import pytest
import server as conformance_server
from conftest import BINARY

from workmill import AsyncClient, Client, NoServer, RetryPolicy, Worker


class TlsServer(conformance_server.Server):
    def _is_ready(self):
        # Its certificate is what the tests are about; here it is enough that it shakes hands.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as plain:
                with context.wrap_socket(plain) as connection:
                    connection.sendall(b"GET /readyz HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
                    return connection.recv(100).startswith(b"HTTP/1.1 200")
        except OSError:
            return False


@pytest.fixture
def url(tmp_path, monkeypatch):
    """Of a server whose certificate is vouched for by WORKMILL_CA_FILE."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=workmill", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    key.chmod(0o600)
    monkeypatch.setenv("WORKMILL_CA_FILE", str(certificate))
    server = TlsServer(BINARY, tmp_path, {"tls_certificate": str(certificate), "tls_key": str(key)})
    server.start()
    yield server.url.replace("http://", "https://")
    server.end()


@pytest.mark.parametrize("transport", ["stream", "http"])
def test_jobs_go_over_tls(url, transport):
    worker = Worker(["q"], url=url, transport=transport)
    worker.job("double")(lambda ctx: ctx.payload * 2)
    worker.start()

    with Client(url) as client:
        id = client.enqueue("double", 21, queue="q").id
        assert client.result(id, timeout=60) == 42
    worker.stop()

    async def ask():
        async with AsyncClient(url) as client:
            return await client.result(id)

    assert asyncio.run(ask()) == 42


def test_a_certificate_that_nobody_vouches_for_is_refused(url, monkeypatch):
    monkeypatch.delenv("WORKMILL_CA_FILE")

    async def ask():
        async with AsyncClient(url, retry=RetryPolicy(attempts=1)) as client:
            await client.status()

    with Client(url, retry=RetryPolicy(attempts=1)) as client, pytest.raises(NoServer, match="certificate"):
        client.status()
    with pytest.raises(NoServer, match="certificate"):
        asyncio.run(ask())
