"""Servers that are measured side by side: started, their CPU time read, stopped. For the scripts here and in the folder
above. It imports nothing that needs Python's own `http`, which the script beside it hides."""

import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time

TICK = 1 / os.sysconf("SC_CLK_TCK")

NGINX = """
worker_processes 1; daemon off; pid {root}/nginx.pid; error_log {root}/nginx.log;
events {{ worker_connections 1024; }}
http {{
  access_log off; keepalive_requests 1000000000;
  client_body_temp_path {root}/b; proxy_temp_path {root}/p; fastcgi_temp_path {root}/f;
  uwsgi_temp_path {root}/u; scgi_temp_path {root}/s;
  server {{ listen 127.0.0.1:{port}; location / {{ return 204; }} }}
}}
"""


def free_port():
    """From below the range that outgoing connections are given, or one of them could have it before the server does; and
    from above the one that tests take theirs from."""
    while True:
        port = random.SystemRandom().randrange(30_000, 32_700)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


def make_root():
    """A temporary folder that others may read: nginx's worker and memcached may be other users."""
    root = tempfile.mkdtemp(prefix="workmill-bench-")
    os.chmod(root, 0o755)
    return root


def nginx(root, port):
    """The command of one that answers a constant 204."""
    pathlib.Path(root, "nginx.conf").write_text(NGINX.format(root=root, port=port))
    return ["nginx", "-c", f"{root}/nginx.conf", "-e", f"{root}/nginx.log"]


def redis(root, port, *settings):
    return ["redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", root, "--save", "", *settings]


def workmill(binary, data, port, *options):
    return [os.path.abspath(binary), "serve", "--data", data, "--listen", f"127.0.0.1:{port}", *options]


def on_core(core, command):
    command = [str(word) for word in command]
    return ["taskset", "-c", core, *command] if core else command


def run(command, core=""):
    """What it prints."""
    done = subprocess.run(on_core(core, command), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{command[0]}: {done.stderr or done.stdout}")
    return done.stdout


class Peer:
    """A server that listens on the port when this is made."""

    def __init__(self, name, command, port, root, core=""):
        self.name, self.port = name, port
        log = open(os.path.join(root, name.replace(" ", "-") + ".log"), "wb")
        self.process = subprocess.Popen(on_core(core, command), stdout=log, stderr=log)
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    sys.exit(f"{name} did not start: {pathlib.Path(log.name).read_text()[-500:]}")
                time.sleep(0.02)

    def cpu_seconds(self):
        """Of the process and its children: nginx works in a child."""
        children = pathlib.Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        total = 0
        for pid in [self.process.pid, *map(int, children)]:
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += int(fields[11]) + int(fields[12])
        return total * TICK

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def take_turns(peers, rounds, drive):
    """The figures of each round by peer's name: drive(peer) gives a round's, with its `requests`, to which the server's
    CPU time for each is added. The first round is a warm-up."""
    figures = {peer.name: [] for peer in peers}
    for number in range(rounds + 1):
        for peer in peers:
            before = peer.cpu_seconds()
            figure = drive(peer)
            figure["cpu_us"] = (peer.cpu_seconds() - before) * 1e6 / figure["requests"]
            if number > 0:
                figures[peer.name].append(figure)
    return figures
