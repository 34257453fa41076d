"""`workmill top`: how a server is doing, for people and for scripts."""

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios

import pytest

from harness import BINARY, eventually


def top(*args, **options):
    environment = {**os.environ, "NO_COLOR": "1", **options.pop("env", {})}
    return subprocess.run(
        [BINARY, "top", *args], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, env=environment
    )


def test_once_prints_one_picture(shared, api):
    api.enqueue_many([{"type": "thumbnail"}] * 7)

    ran = top("--once", "--every", "200ms", "--server", shared.url)

    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("workmill ")
    assert shared.url in ran.stdout
    assert re.search(r"^ready [\d,]+  scheduled", ran.stdout, re.MULTILINE)
    assert re.search(r"^QUEUE +ready", ran.stdout, re.MULTILINE)
    assert "\x1b" not in ran.stdout


def test_json_has_rates_the_status_and_the_queues(shared, api):
    api.enqueue()

    ran = top("--json", "--every", "200ms", "--server", shared.url)

    assert ran.returncode == 0, ran.stderr
    said = json.loads(ran.stdout)
    assert said["seconds"] > 0
    assert said["rates"]["commands"] >= 0
    assert said["status"]["readiness"] == "ready"
    assert api.queue in [queue["name"] for queue in said["queues"]["items"]]


def test_without_a_server_it_says_so(start):
    server = start(run=False)

    ran = top("--once", "--server", server.url)

    assert ran.returncode == 69
    assert "no server answers" in ran.stderr


def test_it_wants_a_terminal_unless_told_otherwise(shared):
    ran = top("--server", shared.url)

    assert ran.returncode == 2
    assert "--once" in ran.stderr


class Terminal:
    """A pseudo-terminal with `workmill top` in it."""

    def __init__(self, server, rows=24, columns=80):
        self.side, self.other = pty.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self.other)
        self.process = subprocess.Popen(
            [BINARY, "top", "--every", "100ms", "--server", server.url],
            stdin=self.other,
            stdout=self.other,
            stderr=self.other,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={**os.environ, "TERM": "xterm"},
        )
        os.set_blocking(self.side, False)
        self.text = b""

    def resize(self, rows, columns):
        fcntl.ioctl(self.side, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self):
        try:
            self.text += os.read(self.side, 65_536)
        except BlockingIOError:
            pass
        return self.text

    def frames(self):
        return self.read().count(b"\x1b[H")

    def wait_for_frames(self, count):
        seen = self.frames()
        eventually(lambda: self.frames() >= seen + count, "frames are drawn")

    def end(self):
        eventually(lambda: (self.read(), self.process.poll() is not None)[1], "it ends")
        self.read()
        return self.process.returncode

    def is_restored(self):
        return self.text.rstrip().endswith(b"\x1b[?1049l") and termios.tcgetattr(self.other) == self.before

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.side)
        os.close(self.other)


@pytest.fixture
def terminal(shared):
    made = Terminal(shared)
    yield made
    made.close()


@pytest.mark.parametrize("end", ["q", "Ctrl-C", "SIGTERM", "SIGHUP"])
def test_the_live_view_gives_the_terminal_back_however_it_ends(terminal, end):
    terminal.wait_for_frames(2)

    if end == "q":
        os.write(terminal.side, b"q")
    elif end == "Ctrl-C":
        os.write(terminal.side, b"\x03")
    else:
        terminal.process.send_signal(getattr(signal, end))

    wanted = {"q": 0, "Ctrl-C": 0, "SIGTERM": 128 + signal.SIGTERM, "SIGHUP": 128 + signal.SIGHUP}
    assert terminal.end() == wanted[end]
    assert terminal.is_restored()


def test_the_live_view_follows_the_size_of_the_terminal(terminal):
    terminal.wait_for_frames(2)
    terminal.resize(10, 40)
    terminal.wait_for_frames(3)

    frame = terminal.text.split(b"\x1b[H")[-2]
    lines = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]|\r", b"", frame).decode().split("\n")
    assert len(lines) <= 10
    assert all(len(line) <= 40 for line in lines)


def test_the_live_view_outlives_its_server(start):
    server = start()
    terminal = Terminal(server)
    try:
        terminal.wait_for_frames(2)
        server.stop()
        eventually(lambda: b"no answer, trying again" in terminal.read(), "it says that nobody answers")
        server.start()
        terminal.text = b""
        eventually(lambda: b"ready" in terminal.read(), "it shows the server again")
        os.write(terminal.side, b"q")
        assert terminal.end() == 0
    finally:
        terminal.close()
