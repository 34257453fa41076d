"""Clients and workers against the real server over TLS."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import subprocess
import threading
import time

import pytest
import server as conformance_server
from conftest import BINARY
from test_polling import drain_with_jobs_on_their_way

from workmill import AsyncClient, Client, FatalError, NoServer, RetryPolicy, UserError, Worker, WorkmillError
from workmill._http_async import CALLED_OFF_WAIT


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
def pair(tmp_path):
    """A certificate that vouches for itself, and its key: files."""
    certificate, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=workmill", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    key.chmod(0o600)
    return certificate, key


@pytest.fixture
def url(tmp_path, monkeypatch, pair):
    """Of a server whose certificate is vouched for by WORKMILL_CA_FILE."""
    certificate, key = pair
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


@pytest.mark.parametrize("turns", [0, 1])
def test_jobs_that_are_on_their_way_over_tls_when_a_worker_drains_are_given_back(fake, pair, turns):
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_tls.load_cert_chain(*pair)
    id = fake.enqueue("t", 1, queue="q").id

    drain_with_jobs_on_their_way(fake, turns, server_tls, ssl.create_default_context(cafile=pair[0]))

    assert fake.get(id).state == "ready"


def test_a_worker_that_waits_over_tls_ends_at_once(url):
    worker = Worker(["q"], url=url, transport="http")
    worker.start()
    with Client(url) as client:
        while not any(bound["name"] == "waiters" and bound["used"] for bound in client.status()["bounds"]):
            time.sleep(0.01)

    begun = time.monotonic()
    worker.stop()

    assert time.monotonic() - begun < CALLED_OFF_WAIT


def test_a_certificate_that_nobody_vouches_for_is_refused(url, monkeypatch):
    monkeypatch.delenv("WORKMILL_CA_FILE")

    async def ask():
        async with AsyncClient(url) as client:
            await client.wait("a")

    with Client(url) as client, pytest.raises(FatalError, match="protocol_error: no TLS with .*certificate") as error:
        client.wait("a")
    with pytest.raises(FatalError, match="protocol_error: no TLS with .*certificate") as error_async:
        asyncio.run(ask())

    assert not error.value.may_have_happened and not error_async.value.may_have_happened


class Demanding:
    """Takes TLS connections of those who show a certificate that it knows, and lets nobody have anything. `names` are
    those who came."""

    def __init__(self, certificate, key):
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        self._context.load_verify_locations(certificate)
        self._context.verify_mode = ssl.CERT_REQUIRED
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self._listener.getsockname()[1]}"
        self.names = []
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        body = b'{"code": "forbidden", "class": "user", "detail": "nobody"}'
        head = b"HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(body)
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self._listener.accept()
                with contextlib.suppress(OSError), plain, self._context.wrap_socket(plain, server_side=True) as one:
                    self.names.append(dict(pair[0] for pair in one.getpeercert()["subject"])["commonName"])
                    one.recv(65_536)
                    one.sendall(head + body)

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def test_where_tls_breaks_after_the_request_it_may_have_been_done(pair):
    """A record that is none comes in place of the answer."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)

    def spoil():
        for _ in range(2):
            plain, _ = listener.accept()
            with plain:
                into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
                one = context.wrap_bio(into, out, server_side=True)
                is_asked = False
                while not is_asked:
                    try:
                        one.do_handshake()
                        is_asked = bool(one.read(65_536))
                    except ssl.SSLWantReadError:
                        plain.sendall(out.read())
                        into.write(plain.recv(65_536))
                plain.sendall(b"\x17\x03\x03\x00\x20" + bytes(32))
                plain.recv(65_536)

    async def ask(url, tls):
        async with AsyncClient(url, tls=tls) as client:
            await client.cancel("a")

    tls = ssl.create_default_context(cafile=pair[0])
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=spoil, daemon=True).start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        with Client(url, tls=tls) as client, pytest.raises(FatalError, match="no TLS with") as error:
            client.cancel("a")
        with pytest.raises(FatalError, match="no TLS with") as error_async:
            asyncio.run(ask(url, tls))

    assert error.value.may_have_happened and error_async.value.may_have_happened


def test_a_certificate_of_ones_own_is_shown(pair):
    server = Demanding(*pair)
    tls = ssl.create_default_context(cafile=pair[0])
    stranger = ssl.create_default_context(cafile=pair[0])
    tls.load_cert_chain(*pair)

    async def ask():
        async with AsyncClient(server.url, tls=tls) as client:
            await client.status()

    with pytest.raises(UserError, match="forbidden"), Client(server.url, tls=tls) as client:
        client.status()
    with pytest.raises(UserError, match="forbidden"):
        asyncio.run(ask())
    for transport in ("stream", "http"):
        with pytest.raises(UserError, match="forbidden"):
            Worker(["q"], url=server.url, tls=tls, transport=transport).run()
    assert server.names == ["workmill"] * 4
    with pytest.raises(WorkmillError), Client(server.url, tls=stranger, retry=RetryPolicy(attempts=1)) as client:
        client.status()

    server.close()
    assert server.names == ["workmill"] * 4


def test_the_time_to_connect_has_a_bound_of_its_own():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        options = {"connect_timeout": "10ms", "timeout": 1000, "retry": RetryPolicy(attempts=1)}

        async def ask():
            async with AsyncClient(url, **options) as client:
                await client.status()

        with pytest.raises(NoServer, match="nobody answers"), Client(url, **options) as client:
            client.status()
        with pytest.raises(NoServer, match="nobody answers"):
            asyncio.run(ask())


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_authorities_that_cannot_be_read_are_told_by_the_name_of_the_setting(monkeypatch, tmp_path, content):
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)
    monkeypatch.setenv("WORKMILL_CA_FILE", str(tmp_path / "ca.pem"))

    with pytest.raises(UserError, match="bad_configuration: WORKMILL_CA_FILE"):
        Client("https://127.0.0.1")


def test_what_speaks_no_tls_is_told_at_once(server):
    url = server.url.replace("http", "https")
    with pytest.raises(FatalError, match="protocol_error: no TLS with"), Client(url) as client:
        client.status()
