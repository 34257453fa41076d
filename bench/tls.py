#!/usr/bin/env python3
"""What TLS costs: the same requests over plain HTTP and over TLS, on connections that are kept alive.

usage: bench/tls.py [--seconds 5] [--connections 64] [--rounds 3] [--workmill build/release/workmill]

Needs wrk and openssl. Rounds take turns, so that what else the machine does hits both. Prints requests a second and the
ratio, and the time of a handshake; asserts nothing.
"""
import argparse
import pathlib
import re
import socket
import ssl
import statistics
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
POST = """
wrk.method = "POST"
wrk.path = "/v1/jobs"
wrk.headers["Content-Type"] = "application/json"
wrk.body = '{"type":"bench","payload":{"n":1}}'
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(workmill, folder, port, *args):
    process = subprocess.Popen(
        [workmill, "serve", "--data", folder, "--listen", f"127.0.0.1:{port}", "--log-level", "warn", *args]
    )
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process
        assert process.poll() is None, "the server ended"
        time.sleep(0.01)


def rate(url, script, seconds, connections):
    out = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", *(["-s", script] if script else []), url],
        capture_output=True, text=True, check=True,
    ).stdout
    assert "Non-2xx" not in out, out
    return float(re.search(r"Requests/sec:\s+([\d.]+)", out).group(1))


def handshakes(port, certificate, count):
    """Seconds for each, one after another, without tickets."""
    context = ssl.create_default_context(cafile=certificate)
    began = time.perf_counter()
    for _ in range(count):
        with socket.create_connection(("127.0.0.1", port)) as raw:
            context.wrap_socket(raw, server_hostname="127.0.0.1").close()
    return (time.perf_counter() - began) / count


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workmill", default=ROOT / "build/release/workmill")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        certificate, key = folder / "tls.crt", folder / "tls.key"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
             "-out", certificate, "-days", "30", "-subj", "/CN=bench", "-addext", "subjectAltName=IP:127.0.0.1"],
            check=True, capture_output=True,
        )
        script = folder / "post.lua"
        script.write_text(POST)
        ports = {"plain": free_port(), "tls": free_port()}
        servers = [
            start(args.workmill, folder / "plain", ports["plain"]),
            start(args.workmill, folder / "tls", ports["tls"], "--tls-certificate", certificate, "--tls-key", key),
        ]
        try:
            urls = {"plain": f"http://127.0.0.1:{ports['plain']}", "tls": f"https://127.0.0.1:{ports['tls']}"}
            print(f"{'':24} {'plain/s':>10} {'TLS/s':>10} {'ratio':>6}   {args.connections} connections, keep-alive")
            for what, path, lua in (("GET /healthz", "/healthz", None), ("POST /v1/jobs, durable", "/v1/jobs", script)):
                rates = {kind: [] for kind in urls}
                for _ in range(args.rounds):
                    for kind, url in urls.items():
                        rates[kind].append(rate(url + path, lua, args.seconds, args.connections))
                plain, tls = (statistics.median(rates[kind]) for kind in ("plain", "tls"))
                print(f"{what:24} {plain:10,.0f} {tls:10,.0f} {tls / plain:6.2f}")
            print(f"{'a handshake (P-256)':24} {handshakes(ports['tls'], certificate, 200) * 1e3:10.2f} ms, client included")
        finally:
            for server in servers:
                server.terminate()
            for server in servers:
                server.wait()


if __name__ == "__main__":
    main()
