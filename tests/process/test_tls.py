"""TLS as clients meet it: versions, suites, ALPN, plain HTTP on the port, slow hands, a new certificate, several threads."""

import os
import re
import signal
import socket
import ssl
import stat
import subprocess

import pytest

from harness import BINARY, DEADLINE, eventually, free_port, request_bytes



def make_certificate(folder, name, days=2):
    """A key and a certificate for 127.0.0.1 that signs itself."""
    key, certificate = folder / f"{name}.key", folder / f"{name}.crt"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        + ["-keyout", key, "-out", certificate, "-days", str(days), "-subj", f"/CN={name}"]
        + ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"],
        check=True,
        capture_output=True,
    )
    key.chmod(0o600)
    return certificate, key


class Secure:
    """A server that speaks TLS. Its harness cannot ask it over plain HTTP, so it waits for the log line."""

    def __init__(self, start, folder, *args, name="one"):
        self.folder = folder
        self.certificate, self.key = make_certificate(folder, name)
        tls = ["--tls-certificate", self.certificate, "--tls-key", self.key]
        self.server = start(*tls, "--log-format", "json", *args, run=False)
        self.server.start(ready=lambda: '"listening"' in self.server.log())

    @property
    def port(self):
        return self.server.port

    def context(self, certificate=None):
        context = ssl.create_default_context(cafile=str(certificate or self.certificate))
        return context

    def connect(self, context=None):
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=DEADLINE)
        return (context or self.context()).wrap_socket(raw, server_hostname="127.0.0.1")


@pytest.fixture
def secure(start, tmp_path):
    return Secure(start, tmp_path)


def ask(connection, path="/readyz", method="GET", body=None):
    connection.sendall(request_bytes(method, path, body))
    return read_answer(connection)


def read_answer(connection):
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65_536)
        assert piece, data
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    length = int(re.search(rb"(?i)content-length: *(\d+)", head).group(1))
    while len(body) < length:
        piece = connection.recv(65_536)
        assert piece
        body += piece
    return int(head.split()[1]), body


def test_requests_go_over_tls_with_keep_alive_and_large_bodies(secure):
    with secure.connect() as connection:
        assert ask(connection)[0] == 200
        large = {"type": "t", "payload": "x" * 3_000_000}
        status, body = ask(connection, "/v1/jobs", "POST", large)
        assert status == 201, body
        status, body = ask(connection, "/v1/jobs?limit=1")
        assert status == 200 and len(body) > 3_000_000
        assert connection.version() == "TLSv1.3"


def test_pipelined_requests_over_tls_are_answered_in_their_order(secure):
    with secure.connect() as connection:
        connection.sendall(request_bytes("GET", "/readyz") * 50)
        data = b""
        while data.count(b"HTTP/1.1 200") < 50:
            piece = connection.recv(65_536)
            assert piece
            data += piece


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_1_3_are_spoken(secure, version):
    context = secure.context()
    context.minimum_version = context.maximum_version = version
    with secure.connect(context) as connection:
        assert ask(connection)[0] == 200


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_older_versions_are_refused(secure, version):
    context = secure.context()
    context.minimum_version = context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, OSError)):
        secure.connect(context)
    with secure.connect() as connection:
        assert ask(connection)[0] == 200


@pytest.mark.parametrize("suite", ["AES128-SHA", "AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-SHA", "NULL", "aNULL", "kDHE"])
def test_suites_without_forward_secrecy_or_an_aead_are_refused(secure, suite):
    context = secure.context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.set_ciphers(suite + ":@SECLEVEL=0")
    except ssl.SSLError:
        return  # Not even our own library would say it.
    with pytest.raises((ssl.SSLError, OSError)):
        secure.connect(context)


def test_alpn_chooses_http_1_1_and_refuses_a_client_that_wants_something_else(secure):
    context = secure.context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with secure.connect(context) as connection:
        assert connection.selected_alpn_protocol() == "http/1.1"
        assert ask(connection)[0] == 200
    context = secure.context()
    context.set_alpn_protocols(["h2"])
    with pytest.raises((ssl.SSLError, OSError)):
        secure.connect(context)


def test_a_session_is_resumed_by_its_ticket(secure):
    context = secure.context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # Whose tickets come within the handshake.
    with secure.connect(context) as connection:
        ask(connection)
        session = connection.session
    raw = socket.create_connection(("127.0.0.1", secure.port), timeout=DEADLINE)
    with context.wrap_socket(raw, server_hostname="127.0.0.1", session=session) as connection:
        assert connection.session_reused
        assert ask(connection)[0] == 200


def test_plain_http_on_the_tls_port_is_told_so(secure):
    with socket.create_connection(("127.0.0.1", secure.port), timeout=DEADLINE) as plain:
        plain.sendall(request_bytes("GET", "/readyz"))
        status, body = read_answer(plain)
        assert status == 400 and b"https" in body
        assert plain.recv(1) == b""


def test_rubbish_on_the_tls_port_closes_the_connection_and_nothing_else(secure):
    for rubbish in (b"\x00" * 100, b"\x16\x03\x01\xff\xff" + b"\x00" * 200, b"SSH-2.0-x\r\n", b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"):
        with socket.create_connection(("127.0.0.1", secure.port), timeout=DEADLINE) as raw:
            raw.sendall(rubbish)
            raw.shutdown(socket.SHUT_WR)
            try:
                while raw.recv(4_096):
                    pass
            except ConnectionResetError:
                pass
    with secure.connect() as connection:
        assert ask(connection)[0] == 200


def test_a_handshake_that_does_not_go_on_is_ended(start, tmp_path):
    config = tmp_path / "slow.toml"
    config.write_text('handshake_timeout = "1s"\nidle_timeout = "1d"\n')
    secure = Secure(start, tmp_path, "--config", config)
    with socket.create_connection(("127.0.0.1", secure.port), timeout=DEADLINE) as raw:
        raw.sendall(b"\x16\x03\x01")
        assert raw.recv(1) == b""


def test_handshakes_under_way_have_a_bound(start, tmp_path):
    config = tmp_path / "few.toml"
    config.write_text('handshakes_max = 1\nhandshake_timeout = "1h"\n')
    secure = Secure(start, tmp_path, "--config", config)
    with socket.create_connection(("127.0.0.1", secure.port), timeout=DEADLINE) as slow:

        def connects():
            try:
                with secure.connect() as connection:
                    return ask(connection)[0] == 200
            except (ssl.SSLError, OSError):
                return False

        eventually(lambda: not connects(), "there is no room for a second")
        slow.close()
        eventually(connects, "there is room again")


def test_a_certificate_and_a_key_that_do_not_fit_are_refused_at_start(start, tmp_path):
    one, _ = make_certificate(tmp_path, "one")
    _, key = make_certificate(tmp_path, "two")

    def refused(certificate, key, words):
        server = start("--tls-certificate", certificate, "--tls-key", key, run=False)
        server.spawn()
        assert server.wait_for_exit() == 2
        assert words in server.log(), server.log_tail()

    refused(one, key, "mismatch")
    refused(tmp_path / "none", key, "tls_certificate")
    refused(one, one, "tls_key")
    key.chmod(0o604)
    refused(one, key, "chmod 600")
    server = start("--tls-certificate", one, run=False)
    server.spawn()
    assert server.wait_for_exit() == 2
    assert stat.S_IMODE(key.stat().st_mode) == 0o604


def test_the_command_line_speaks_https(secure):
    def workmill(*args, expect=0, **env):
        done = subprocess.run(
            [BINARY, *args], capture_output=True, text=True, timeout=DEADLINE, env={**os.environ, **env}
        )
        assert done.returncode == expect, done
        return done.stdout + done.stderr

    url = f"https://127.0.0.1:{secure.port}"
    assert workmill("enqueue", "t", WORKMILL_URL=url, WORKMILL_CA_FILE=str(secure.certificate)).strip()
    assert "t" in workmill("--server", url, "--ca-file", str(secure.certificate), "jobs")
    workmill("queues", WORKMILL_URL=url, expect=69)  # Nobody vouches for it.
    workmill("queues", WORKMILL_URL=url, WORKMILL_CA_FILE=str(secure.folder / "none"), expect=2)


def test_connections_over_tls_are_shared_by_several_threads(start, tmp_path):
    config = tmp_path / "threads.toml"
    config.write_text("io_threads = 3\n")
    secure = Secure(start, tmp_path, "--config", config)
    connections = [secure.connect() for _ in range(9)]
    for round in range(3):
        for connection in connections:
            assert ask(connection, "/v1/jobs", "POST", {"type": "t", "payload": round})[0] == 201
    for connection in connections:
        connection.close()


def test_a_drain_ends_connections_over_tls_in_order(secure):
    with secure.connect() as connection:
        assert ask(connection)[0] == 200
        secure.server.terminate()
        assert connection.recv(1) == b""
        assert secure.server.wait_for_exit() == 0


def test_a_connection_that_says_nothing_does_not_hold_up_the_end(start, tmp_path):
    config = tmp_path / "patient.toml"
    config.write_text('handshake_timeout = "1h"\ndrain_timeout = "1h"\n')
    secure = Secure(start, tmp_path, "--config", config)
    with socket.create_connection(("127.0.0.1", secure.port), timeout=DEADLINE) as silent:
        with secure.connect() as connection:  # Once this is answered, the other has been taken, too.
            assert ask(connection)[0] == 200
        secure.server.stop()
        assert silent.recv(1) == b""


def test_a_new_certificate_is_shown_after_sighup_and_old_connections_live_on(secure):
    with secure.connect() as old:
        assert ask(old)[0] == 200
        certificate, key = make_certificate(secure.folder, "two")
        secure.certificate.write_bytes(certificate.read_bytes())
        secure.key.write_bytes(key.read_bytes())
        secure.server.process.send_signal(signal.SIGHUP)

        def shows_the_new_one():
            try:
                with secure.connect(secure.context(certificate)) as connection:
                    return ask(connection)[0] == 200
            except ssl.SSLError:
                return False

        eventually(shows_the_new_one, "the new certificate is shown")
        secure.server.wait_for_log('"action":"reload"')
        said = secure.server.log()
        assert re.search(r'"the certificate has changed".*"valid_until":"20', said), said
        assert '"changed":"certificate"' in said and '"changes":"certificate(valid until 20' in said
        assert ask(old)[0] == 200
        # One that cannot be used changes nothing.
        secure.key.write_text("rubbish")
        secure.server.process.send_signal(signal.SIGHUP)
        secure.server.wait_for_log("tls_key")
        assert shows_the_new_one()


def test_other_certificates_behind_the_same_one_are_a_change(secure):
    def reloads(count):
        secure.server.process.send_signal(signal.SIGHUP)
        secure.server.wait_for_log('"action":"reload"', count)
        return secure.server.log().count('"the certificate has changed"')

    own = secure.certificate.read_text()
    two, three = (make_certificate(secure.folder, name)[0].read_text() for name in ("two", "three"))
    assert reloads(1) == 0
    secure.certificate.write_text(own + two)
    assert reloads(2) == 1
    secure.certificate.write_text(own + three)
    assert reloads(3) == 2
    assert reloads(4) == 2
    secure.certificate.write_text(own)
    assert reloads(5) == 3


@pytest.mark.parametrize("setting", ["tls_certificate", "tls_key"])
def test_a_pipe_in_place_of_the_certificate_or_the_key_is_not_read_again(secure, setting):
    path = secure.certificate if setting == "tls_certificate" else secure.key
    trusted = secure.context()
    path.unlink()
    os.mkfifo(path, 0o600)

    secure.server.process.send_signal(signal.SIGHUP)

    said = secure.server.wait_for_log("not reloaded")
    assert f"{setting}: {path} is no ordinary file" in said, said
    with secure.connect(trusted) as connection:
        assert ask(connection)[0] == 200


@pytest.mark.parametrize("turned", ["on", "off"])
def test_turning_tls_on_or_off_in_the_file_waits_for_a_restart(start, tmp_path, turned):
    certificate, key = make_certificate(tmp_path, "one")
    tls, plain = f'tls_certificate = "{certificate}"\ntls_key = "{key}"\n', ""
    config = tmp_path / "workmill.toml"
    config.write_text(tls if turned == "off" else plain)
    server = start("--config", config, "--log-format", "json", run=False)
    server.start(ready=lambda: '"listening"' in server.log())

    config.write_text((tls if turned == "on" else plain) + "connections_max = 77\n")
    if turned == "off":  # Nobody needs them any more, it seems.
        certificate.unlink()
        key.unlink()
    server.process.send_signal(signal.SIGHUP)

    said = server.wait_for_log('"action":"reload"')
    assert '"changed":"connections_max","needs_restart":"tls_certificate,tls_key"' in said, said
    assert "not reloaded" not in said
