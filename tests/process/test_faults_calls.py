"""The k-th system call fails, and the k-th allocation, for every k until a run passes untouched (faults.py): a short
run that starts a server, sends jobs through it, and stops it. It may end, with a message and a status that is not 0. It
may not hang, nor say yes to what is not there afterwards.

    ./dev faults        every k; or: pytest tests/process/test_faults_calls.py -s --every-k
"""

import collections
import random
import re
import shutil
import signal
import socket
import subprocess
import time

import pytest
from faults import Counts, environment, need_library
from harness import Server
from kill import Segments, seed
from ledger import Connection, Lost

SAMPLE = 10  # So many k of each kind where not every one is asked for.
HANG_S = 20.0
ARGUMENTS = {"segment_size": "64KiB", "drain_timeout": "1s"}


# An error in the log, last words, or, from before main() on, what the C++ library says of an allocation that failed.
SAYS_WHY = r'"severity":"ERROR"|^workmill: |^terminate called after throwing .*bad_alloc'


class Run:
    """One short life of a server on which a fault falls."""

    def __init__(self, server, first=0):
        self.server, self.first = server, first
        self.jobs = {}  # id → the states it may be in from now on.
        self.deleted = set()
        self.wrong = []
        self.outcome = None

    def execute(self):
        process = self.server.spawn()
        if self._until_it_listens():
            try:
                self._work()
            except Lost:
                pass
        if process.poll() is None:
            process.terminate()
        try:
            code = process.wait(HANG_S)
        except subprocess.TimeoutExpired:
            self.wrong.append("it hangs after SIGTERM")
            process.kill()
            process.wait()
            code = None
        said = self.server.log()
        self.outcome = "went on" if code == 0 else "ended"
        if code not in (None, 0, -signal.SIGTERM) and not re.search(SAYS_WHY, said, re.MULTILINE):
            self.wrong.append(f"it ended with {code} and did not say why")
        return self

    def _until_it_listens(self):
        began = time.monotonic()
        while self.server.process.poll() is None:
            if '"listening"' in self.server.log():
                return True
            waited = time.monotonic() - began
            if waited > 2:  # Perhaps it was the line in the log that failed.
                try:
                    socket.create_connection(("127.0.0.1", self.server.port)).close()
                    return True
                except OSError:
                    pass
            if waited > HANG_S:
                self.wrong.append("it hangs before it listens")
                return False
            time.sleep(0.002)
        return False

    def _call(self, method, path, body=None, key=None):
        """Asks until there is an answer. One failed call may cost one connection, and no more than that."""
        attempts, end = 0, time.monotonic() + HANG_S
        while attempts < 6 and time.monotonic() < end:
            connection = Connection(self.server.port, timeout=5)
            try:
                status, answer = connection.call(method, path, body, {"Idempotency-Key": key} if key else None)
            except Lost:
                if self.server.process.poll() is not None:
                    raise
                attempts += 1
                time.sleep(0.01 * attempts)  # It may be about to end.
                continue
            except AssertionError:
                if self.server.process.poll() is None:
                    self.wrong.append(f"{method} {path}: no answer, and the server is still there")
                raise Lost(sent=True) from None
            if status >= 500 and answer["class"] == "retryable":  # Such as when it cannot tell how full the disk is.
                time.sleep(0.05)
                continue
            return status, answer
        if self.server.process.poll() is None:
            self.wrong.append(f"{method} {path}: no answer by six connections, and the server is still there")
        raise Lost(sent=True)

    def _enqueue(self, number, **fields):
        job = {"type": "t", "queue": "q", "payload": {"number": number, "pad": "x" * 15_000}, **fields}
        status, answer = self._call("POST", "/v1/jobs", job, key=f"k{number}")
        if status != 201:
            self.wrong.append(f"enqueue {number}: {status} {answer}")
        else:
            self.jobs[answer["id"]] = {"ready", "leased", "completed", "scheduled"}

    def _work(self):
        """Enough to fill a segment, so that the next is made, and the first one dropped."""
        for number in range(self.first, self.first + 6):
            self._enqueue(number)
        self._enqueue(self.first + 6, delay="1h")
        status, answer = self._call("POST", "/v1/leases", {"queues": ["q"], "max": 5, "wait": "100ms", "lease": "1h"})
        leased = answer["jobs"] if status == 200 else []
        for job in leased[:3]:
            report = {"id": job["id"], "lease": job["lease"], "outcome": "completed", "result": job["id"]}
            status, answer = self._call("POST", "/v1/reports", {"reports": [report]})
            # A report whose answer was lost may have counted, and asking again says that the lease is over.
            if status == 200 and answer["reports"][0]["ok"]:
                self.jobs[job["id"]] = {"completed"}
        for job in leased[:2]:
            if self.jobs.get(job["id"]) == {"completed"}:
                del self.jobs[job["id"]]  # From here on it may be gone.
                status, _ = self._call("DELETE", f"/v1/jobs/{job['id']}")
                if status in (200, 204, 404):
                    self.deleted.add(job["id"])
        for number in range(self.first + 7, self.first + 10):
            self._enqueue(number)
        self._call("GET", "/v1/jobs?limit=3")

    def audit(self, server):
        """`server` is untouched, on the same folder."""
        server.start()
        connection = Connection(server.port)
        status, page = connection.call("GET", "/v1/jobs?limit=1000")
        assert status == 200, page
        found = {job["id"]: job for job in page["items"]}
        for id, states in self.jobs.items():
            if id not in found:
                self.wrong.append(f"acknowledged job {id} is gone")
            elif found[id]["state"] not in states:
                self.wrong.append(f"{id} is {found[id]['state']} and was {states}")
            elif found[id]["state"] == "completed" and states == {"completed"} and found[id]["result"] != id:
                self.wrong.append(f"{id} has another result: {found[id]}")
        for id in self.deleted & set(found):
            self.wrong.append(f"{id} is there after its deletion was acknowledged")
        numbers = collections.Counter(job["payload"]["number"] for job in found.values())
        self.wrong += [f"number {number} is there {count} times" for number, count in numbers.items() if count > 1]
        status, answer = connection.call("POST", "/v1/jobs", {"type": "t", "queue": "q", "payload": {"number": -1}})
        if status != 201:
            self.wrong.append(f"no job is taken any more: {answer}")
        server.process.kill()
        server.process.wait()


class Loop:
    """Runs with a fault at k, for one k after another."""

    def __init__(self, tmp_path, arguments, kind, prepared=None):
        self.folder, self.arguments, self.kind, self.prepared = tmp_path, arguments, kind, prepared
        self.outcomes = collections.Counter()
        self.wrong = {}
        self.failed_calls = collections.Counter()

    def run(self, k):
        """False where there was no k-th any more."""
        data = self.folder / "data"
        shutil.rmtree(data, ignore_errors=True)
        (self.folder / "counts").unlink(missing_ok=True)
        server = Server(data, *self.arguments, "--log-format", "json")
        server.log_path.unlink(missing_ok=True)
        counts = Counts(self.folder / "counts")
        # What comes before a server's own start, such as the loading of its libraries, is not reached by any k.
        server.env.update(environment(state=counts.path, fail=f"{self.kind} {k}"))
        run = Run(server, first=100)
        if self.prepared:
            shutil.copytree(self.prepared.data, data)
            run.jobs, run.deleted = dict(self.prepared.jobs), set(self.prepared.deleted)
        began = time.monotonic()
        run.execute()
        took = time.monotonic() - began
        touched = counts.path.exists() and counts.failed > 0
        said = server.log()
        if data.exists():
            run.audit(Server(data, *self.arguments, "--log-format", "json"))
        call = re.search(r"faults: (.+?), the call", said)
        if call:
            self.failed_calls[call.group(1)] += 1
        self.outcomes[run.outcome] += 1
        if took > 4:
            print(f"{self.kind} {k}, {call.group(1) if call else 'untouched'}: took {took:.1f} s", flush=True)
        if run.wrong:
            self.wrong[k] = (call.group(0) if call else "untouched", run.wrong[:3], said[-1500:])
            print(f"{self.kind} {k}: {self.wrong[k]}", flush=True)
        return touched

    def total(self):
        """How many there are in a run that nothing falls on."""
        assert not self.run(10**12), "untouched"
        assert not self.wrong, self.wrong
        counts = Counts(self.folder / "counts")
        return counts.news if self.kind == "new" else counts.calls


class Prepared:
    """A folder with a history: several segments, and a torn tail."""

    def __init__(self, folder, arguments):
        server = Server(folder / "prepared", *arguments, "--log-format", "json")
        server.start()
        run = Run(server)
        run._work()
        server.process.kill()
        server.process.wait()
        assert not run.wrong, run.wrong
        self.data, self.jobs, self.deleted = server.data, run.jobs, run.deleted
        path, frames = Segments(self.data).frames()
        with open(path, "r+b") as file:
            file.seek(frames[-1].end)
            file.write(b"WMrF and what follows was being written when the power went")


@pytest.mark.timeout(0)
@pytest.mark.parametrize(
    ("kind", "start_from", "threads"),
    [
        ("any", "nothing", "1"),
        ("any", "a folder with a history", "1"),
        ("any", "nothing", "2"),
        ("new", "nothing", "1"),
        ("new", "a folder with a history", "1"),
    ],
)
def test_whatever_call_fails_the_server_says_so_and_loses_nothing(
    tmp_path, config, pytestconfig, kind, start_from, threads
):
    need_library()
    arguments = config(io_threads=threads, **ARGUMENTS)
    prepared = Prepared(tmp_path, arguments) if start_from != "nothing" else None
    loop = Loop(tmp_path, arguments, kind, prepared)
    total = loop.total()
    chance = random.Random(seed())
    began = time.monotonic()

    if pytestconfig.getoption("--every-k"):
        k = 1
        while loop.run(k):
            k += 1
    else:  # From all parts of the run.
        for part in range(SAMPLE):
            loop.run(1 + part * total // SAMPLE + chance.randrange(max(1, total // SAMPLE)))

    print(
        f"{kind}, from {start_from}, {threads} I/O threads: about {total} in a run; {sum(loop.outcomes.values())} runs in"
    )
    print(f"{time.monotonic() - began:.0f} s; {dict(loop.outcomes)}; what failed: {dict(loop.failed_calls)}")
    assert not loop.wrong, loop.wrong
