"""A service manager around the server: what it is told, its watchdog, and the socket that it keeps while the server is
restarted."""

import contextlib
import itertools
import pathlib
import shutil
import signal
import socket
import sys
import tempfile
import threading

import pytest

from harness import Background, Raw, eventually, request_bytes


class Manager:
    """What systemd would be: hears what the server says of itself, and holds its listening socket."""

    # Descriptor 3, and a number of a process that only exec() keeps: both are the protocol's.
    HAND_OVER = (
        "import os, sys; os.dup2(int(sys.argv[1]), 3); "
        "os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='1', LISTEN_FDNAMES='http'); "
        "os.execv(sys.argv[2], sys.argv[2:])"
    )

    def __init__(self):
        self.folder = tempfile.mkdtemp()  # pytest's own folders have names too long for a socket.
        self.heard = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.folder + "/notify")
        self._socket.setblocking(False)
        self.listening = None

    def environment(self, **more):
        return {"NOTIFY_SOCKET": self.folder + "/notify", **more}

    def listen(self, server, address="127.0.0.1"):
        """The server gets this socket at each start."""
        self.listening = socket.create_server((address, 0), backlog=1024)
        server.port = self.listening.getsockname()[1]
        server.pass_fds = (self.listening.fileno(),)
        server.prefix = [sys.executable, "-c", self.HAND_OVER, str(self.listening.fileno())]

    def listen_to(self):
        with contextlib.suppress(BlockingIOError):
            while True:
                self.heard.append(self._socket.recv(4096).decode())
        return self.heard

    def wait_for(self, text, count=1):
        eventually(lambda: sum(text in message for message in self.listen_to()) >= count, f"{text} is heard {count} times")

    def close(self):
        self._socket.close()
        if self.listening:
            self.listening.close()
        shutil.rmtree(self.folder)


@pytest.fixture
def manager():
    made = Manager()
    yield made
    made.close()


@pytest.mark.parametrize("threads", ["1", "2"])
def test_the_manager_hears_when_the_server_is_ready_reloads_and_stops(start, manager, threads):
    server = start("--io-threads", threads, env=manager.environment())
    manager.wait_for("READY=1")

    server.process.send_signal(signal.SIGHUP)
    manager.wait_for("RELOADING=1\nMONOTONIC_USEC=")
    manager.wait_for("READY=1", 2)

    server.stop()
    manager.wait_for("STOPPING=1")
    said = "".join(manager.heard)
    assert said.index("RELOADING=1") < said.rindex("READY=1") < said.index("STOPPING=1")
    assert "EXTEND_TIMEOUT_USEC=" in said[said.index("STOPPING=1") :]


@pytest.mark.parametrize("threads", ["1", "3"])
def test_the_watchdog_is_fed_as_long_as_the_server_turns(start, manager, threads):
    server = start("--io-threads", threads, env=manager.environment(WATCHDOG_USEC="400000"))
    manager.wait_for("WATCHDOG=1", 3)

    server.process.send_signal(signal.SIGSTOP)
    eventually(lambda: states_of(server.process.pid) == {"T"}, "it stands still")
    manager.listen_to()
    manager.heard.clear()
    assert not manager.listen_to()
    server.process.send_signal(signal.SIGCONT)
    manager.wait_for("WATCHDOG=1", 2)
    server.stop()


def states_of(pid):
    """Of all its threads."""
    return {path.read_text().rpartition(")")[2].split()[0] for path in pathlib.Path(f"/proc/{pid}/task").glob("*/stat")}


def test_without_a_watchdog_nothing_is_fed(start, manager):
    server = start(env=manager.environment())
    server.stop()
    assert "WATCHDOG" not in "".join(manager.listen_to())


def test_an_inherited_socket_that_strangers_reach_needs_leave_like_any_other(start, manager):
    server = start(run=False)
    manager.listen(server, "0.0.0.0")
    server.spawn()
    assert server.wait_for_exit() == 1
    assert "is not a loopback address" in server.log()


def test_an_inherited_descriptor_that_is_no_socket_is_refused(start, manager, tmp_path):
    server = start(run=False)
    with open(tmp_path / "file", "wb") as file:
        server.pass_fds = (file.fileno(),)
        server.prefix = [sys.executable, "-c", Manager.HAND_OVER, str(file.fileno())]
        server.spawn()
        assert server.wait_for_exit() == 1
    assert "the inherited descriptor 3 is no socket" in server.log()


class Client:
    """Enqueues one job after another, each under an id of its own, until it is told to stop. What no server may do to it
    is an exception: a connection that is refused, or taken and dropped without an answer."""

    def __init__(self, port, name, keep_alive):
        self.port, self.name, self.keep_alive = port, name, keep_alive
        self.acknowledged, self.put_off = [], 0
        self.enough = threading.Event()
        self.work = Background(self.run)

    def run(self):
        connection, used = None, False
        for number in itertools.count():
            if self.enough.is_set():
                return
            id = f"{self.name}-{number}"
            while True:
                if connection is None:
                    connection, used = Raw(self.port), False
                answer = self.ask(connection, id, used)
                used = True
                ended = answer is None or answer.headers.get("Connection") == "close" or not self.keep_alive
                if ended:
                    connection.socket.close()
                    connection = None
                if answer is not None and answer.status == 201:
                    self.acknowledged.append(id)
                    break
                assert answer is None or answer.code == "shutting_down", answer
                self.put_off += 1

    def ask(self, connection, id, used):
        request = request_bytes("POST", "/v1/jobs", {"type": "t", "queue": "q", "id": id})
        try:
            connection.send(request)
            answer = connection.answer()
        except OSError:
            answer = None
        # A connection may be closed while it rests between two requests; one that is new may not.
        assert used or answer is not None, f"{id}: a new connection was dropped without an answer"
        return answer


@pytest.mark.parametrize("threads", ["1", "3"])
def test_a_restart_behind_an_inherited_socket_loses_no_client_and_no_job(start, manager, threads):
    server = start("--io-threads", threads, run=False, env=manager.environment())
    manager.listen(server)
    server.spawn()
    manager.wait_for("READY=1")
    clients = [Client(server.port, f"c{i}", keep_alive=i % 2 == 0) for i in range(6)]

    def progress(by):
        goal = [len(client.acknowledged) + by for client in clients]
        eventually(
            lambda: all(len(client.acknowledged) >= count or client.work.done() for client, count in zip(clients, goal)),
            "all clients get on",
        )

    for restart in range(2, 5):
        progress(20)
        server.stop()
        assert "accepting from an inherited socket" in server.log()
        server.spawn()
        manager.wait_for("READY=1", restart)
    progress(20)
    for client in clients:
        client.enough.set()
    for client in clients:
        client.work.result()

    stored = {job["id"] for job in server.api().jobs(queue="q")}
    assert {id for client in clients for id in client.acknowledged} <= stored
    server.stop()
