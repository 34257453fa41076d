"""What clients were told, and whether it is true: the ledger that they keep while the server is killed or loses its
disk under them, and the audit that holds the server against it afterwards.

After each restart, what was said must be so: every acknowledged job is there, every acknowledged completion stays, every
lease that is still good can still report, and nothing was done twice. What was asked for and not answered may have
happened or not, but whole or not at all.
"""

import collections
import http.client
import json
import os
import random
import socket
import threading
import time

LEASE_S = 2.0  # Of an ordinary lease. One whose answer got lost runs out and the job comes again.
HELD_S = 600.0  # Of a lease that is held on purpose, over restarts.
MARGIN_S = 0.5  # Between our clock's view and the server's.


class Lost(Exception):
    """The server has gone. `sent`: it may have happened all the same."""

    def __init__(self, sent):
        super().__init__()
        self.sent = sent


class Connection:
    """One keep-alive connection that tries nothing twice."""

    def __init__(self, port, timeout=20):
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)

    def text(self, path):
        """The body of an answer that is no JSON; nothing where there is none."""
        try:
            self._http.request("GET", path)
            return self._http.getresponse().read().decode()
        except (OSError, http.client.HTTPException):
            return ""

    def call(self, method, path, body=None, headers=None):
        try:
            self._http.connect() if self._http.sock is None else None
            self._http.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            raise Lost(sent=False) from None
        try:
            data = None if body is None else json.dumps(body)
            self._http.request(method, path, data, {"Content-Type": "application/json", **(headers or {})})
            answer = self._http.getresponse()
            content = answer.read()
        except TimeoutError:
            raise AssertionError(f"{method} {path}: no answer within {self._http.timeout} s") from None
        except (OSError, http.client.HTTPException):
            raise Lost(sent=True) from None
        if not answer.getheader("Content-Length") and answer.status != 204:
            raise Lost(sent=True)  # Cut off in the middle of its headers, perhaps right before the number.
        return answer.status, json.loads(content) if content else None


class Held:
    """A lease that we know we have."""

    def __init__(self, job, asked_at, seconds):
        self.id, self.token, self.attempt = job["id"], job["lease"], job["attempt"]
        self.good_until = asked_at + seconds  # At least: time when the server is away is added.


class Ledger:
    """What was asked for and what was said, by all clients. Guarded by `lock`."""

    def __init__(self):
        self.lock = threading.Lock()
        self.violations = []
        self.jobs = {}  # id → number of the acknowledged job.
        self.id_of = {}  # number → id, where known.
        self.asked = {}  # number → the request it was part of.
        self.unanswered = {}  # request → (body, key, numbers): may have happened.
        self.refused = set()  # Requests that certainly did not happen.
        self.completed = {}  # id → result, acknowledged.
        self.maybe_completed = {}  # id → result, asked for and not answered.
        self.held = {}  # id → Held.
        self.attempts = {}  # id → highest attempt seen (less one where it was released).
        self.finishing = set()  # ids whose completion was asked for at some time.
        self.checkpoints = {}  # id → what was left last, acknowledged or seen.
        self.maybe_left = {}  # id → what was left since, asked for and not answered yet.
        self.not_before = {}  # number → our time before which it must not be leased.
        self.unique = {}  # key → id that stands for it.
        self.deleted = set()  # ids whose deletion was acknowledged.
        self.maybe_deleted = set()  # ids whose deletion was asked for and not answered.
        self.tolerated = set()  # Codes with which an enqueue may be refused.
        self.counts = collections.Counter()
        self._next = 0
        self._forgotten = 0  # Jobs with lower numbers are gone for good.

    def numbers(self, count, request):
        self._next += count
        made = range(self._next - count, self._next)
        for number in made:
            self.asked[number] = request
        return list(made)

    def forget_all(self):
        """The server has been emptied. Keeps what must never come back, and what was counted."""
        with self.lock:
            kept = (self.lock, self.violations, self.tolerated, self.counts, self._next)
            self.__init__()
            self.lock, self.violations, self.tolerated, self.counts, self._next = kept
            self._forgotten = self._next

    def was_known(self, number):
        return number in self.asked or number < self._forgotten

    def wrong(self, what):
        self.violations.append(what)

    def taken(self, number, id):
        known = self.id_of.get(number)
        if known is not None and known != id:
            self.wrong(f"job number {number} was acknowledged as {known} and as {id}")
        self.id_of[number] = id
        self.jobs[id] = number

    def leased(self, job, asked_at, seconds):
        """A lease came in. Returns it."""
        id, now = job["id"], time.monotonic()
        with self.lock:
            if id in self.completed:
                self.wrong(f"{id} was leased after its completion was acknowledged")
            if id in self.deleted:
                self.wrong(f"{id} was leased after its deletion was acknowledged")
            before = self.held.get(id)
            if before is not None and now < before.good_until - MARGIN_S:
                self.wrong(f"{id} was leased to a second worker while the first one's lease was good")
            if job["attempt"] <= self.attempts.get(id, 0):
                self.wrong(f"{id}: attempt {job['attempt']} after attempt {self.attempts[id]}")
            number = job["payload"]["number"]
            if not self.was_known(number):
                self.wrong(f"{id}: nobody asked for number {number}")
            if self.id_of.setdefault(number, id) != id:
                self.wrong(f"number {number} is {self.id_of[number]} and {id}")
            if now < self.not_before.get(number, 0) - MARGIN_S:
                self.wrong(f"{id} was leased before its time")
            self.look_at_checkpoint(job)
            self.attempts[id] = job["attempt"]
            self.held[id] = held = Held(job, asked_at, seconds)
            self.counts["leases"] += 1
        return held

    def look_at_checkpoint(self, job):
        """A job as leased or read: it has what its last attempt left, and what was not answered has happened or not."""
        id, left = job["id"], job.get("checkpoint")
        if left is not None and left == self.maybe_left.get(id):
            self.checkpoints[id] = left
        self.maybe_left.pop(id, None)
        if left != self.checkpoints.get(id):
            self.wrong(f"{id} has the checkpoint {left} instead of {self.checkpoints.get(id)}")

    def report_is_sent(self, reports, results):
        """From now on others may be given these jobs."""
        with self.lock:
            for (held, outcome), result in zip(reports, results):
                if outcome == "checkpoint":
                    self.maybe_left[held.id] = result
                if outcome not in ("extended", "checkpoint") and self.held.get(held.id) is held:
                    del self.held[held.id]
                if outcome == "released":
                    self.attempts[held.id] = held.attempt - 1
                if outcome == "completed":
                    self.finishing.add(held.id)

    def report_answered(self, held, outcome, result, answer):
        """`answer` is None where none came."""
        with self.lock:
            if outcome == "extended":
                if answer is not None and not answer["ok"]:
                    self._must_be_over(held, answer, "extend")
                return
            if outcome == "checkpoint":
                # Where another worker had the job before this answer was read, it has seen what had happened.
                if answer is not None and self.maybe_left.get(held.id) == result:
                    del self.maybe_left[held.id]
                    if answer["ok"]:
                        self.checkpoints[held.id] = result
                if answer is None or answer["ok"]:
                    self.counts["checkpoints"] += 0 if answer is None else 1
                    return
            if answer is None:
                if outcome == "completed":
                    self.maybe_completed[held.id] = result
                return
            if not answer["ok"]:
                self._must_be_over(held, answer, outcome)
            elif outcome == "completed":
                if held.id in self.completed:
                    self.wrong(f"two completions of {held.id} were acknowledged")
                self.completed[held.id] = result
                self.counts["completions"] += 1

    def _must_be_over(self, held, answer, outcome):
        if answer["error"]["code"] != "lease_lost":
            self.wrong(f"{outcome} of {held.id}: {answer}")
        elif time.monotonic() < held.good_until - MARGIN_S:
            self.wrong(
                f"{outcome} of {held.id} was refused though its lease was good for another "
                f"{held.good_until - time.monotonic():.1f} s: {answer}"
            )


def as_sent(ledger, request, chance, number, **fields):
    return {
        "type": "t",
        "queue": chance.choice(["a", "b"]),
        "payload": {"number": number, "request": request, "pad": "x" * chance.choice([0, 0, 0, 300, 3_000])},
        "priority": chance.randrange(10),
        "group": f"g{chance.randrange(3)}",
        "max_attempts": 10_000,
        "backoff": {"first": "5ms", "cap": "20ms"},
        "keep_result": "1h",
        **fields,
    }


def produce(ledger, port, chance, name, stop):
    """Sends jobs in every way there is until the server goes."""
    connection = Connection(port)
    count = 0
    while not stop.is_set():
        count += 1
        request = f"{name}.{count}"
        kind = chance.choice(["single", "single", "bulk", "unique", "delayed", "named", "keyed", "keyed_bulk"])
        with ledger.lock:
            numbers = ledger.numbers(chance.randrange(2, 15) if "bulk" in kind else 1, request)
        jobs = [as_sent(ledger, request, chance, number) for number in numbers]
        key = request if kind.startswith("keyed") else None
        unique_key = None
        if kind == "unique":
            unique_key = f"u{chance.randrange(20)}"
            jobs[0]["unique"] = {"key": unique_key}
            jobs[0]["queue"] = "a"
        if kind == "named":
            jobs[0]["id"] = f"named-{numbers[0]}"
        if kind == "delayed":
            delay_ms = chance.randrange(1, 400)
            jobs[0]["delay"] = f"{delay_ms}ms"
            ledger.not_before[numbers[0]] = time.monotonic() + delay_ms / 1000
        body = {"jobs": jobs} if "bulk" in kind else jobs[0]
        if not send(ledger, connection, request, body, numbers, key, unique_key):
            return


def send(ledger, connection, request, body, numbers, key, unique_key=None):
    """One enqueue. False where the server has gone."""
    with ledger.lock:  # Who stands for the unique key now, and may it have been finished meanwhile?
        stood = ledger.unique.get(unique_key)
    try:
        status, answer = connection.call("POST", "/v1/jobs", body, {"Idempotency-Key": key} if key else None)
    except Lost as lost:
        with ledger.lock:
            if lost.sent:
                ledger.unanswered[request] = (body, key, numbers)
            elif request not in ledger.unanswered:
                ledger.refused.add(request)
            if unique_key is not None and lost.sent:
                ledger.unique[unique_key] = None
        return False
    with ledger.lock:
        if status != 201 and answer.get("code") in ledger.tolerated:
            ledger.counts[answer["code"]] += 1
            if request not in ledger.unanswered:
                ledger.refused.add(request)
            return True
        if status != 201:
            ledger.wrong(f"enqueue {request}: {status} {answer}")
            return False
        ledger.unanswered.pop(request, None)
        made = answer["jobs"] if "jobs" in answer else [answer]
        if len(made) != len(numbers):
            ledger.wrong(f"enqueue {request}: {len(made)} answers for {len(numbers)} jobs")
        if unique_key is not None:
            if not made[0]["duplicate"] and stood is not None and stood == ledger.unique.get(unique_key):
                if stood not in ledger.finishing:
                    ledger.wrong(f"{made[0]['id']} was made beside {stood}, unique under {unique_key}")
            ledger.unique[unique_key] = made[0]["id"]
            if made[0]["duplicate"]:
                ledger.refused.add(request)  # No job of its own came of it.
                return True
        for number, job in zip(numbers, made):
            ledger.taken(number, job["id"])
        ledger.counts["jobs"] += len(made)
    return True


def work(ledger, port, chance, stop):
    """Leases and reports until the server goes. Some leases are held on to."""
    connection = Connection(port)
    try:
        while not stop.is_set():
            asked_at = time.monotonic()
            status, answer = connection.call(
                "POST",
                "/v1/leases",
                {
                    "queues": chance.choice([["a", "b"], ["b", "a"], ["b"]]),
                    "max": chance.randrange(1, 8),
                    "wait": chance.choice(["0s", "20ms"]),
                    "lease": f"{int(LEASE_S * 1000)}ms",
                    "worker": "w",
                },
            )
            assert status == 200, answer
            leases = [ledger.leased(job, asked_at, LEASE_S) for job in answer["jobs"]]
            while leases:
                batch, leases = leases[:3], leases[3:]
                reports = []
                for held in batch:
                    if chance.random() < 0.3:
                        reports.append((held, "checkpoint"))
                    ends = ["completed", "failed", "released", "extended"]
                    reports.append((held, chance.choices(ends, [70, 10, 10, 10])[0]))
                report(ledger, connection, reports)
    except Lost:
        pass


def clean(ledger, port, chance, stop):
    """Deletes finished jobs, one by one, until the server goes. Few are left, so that those are copied ahead."""
    connection = Connection(port)
    while not stop.is_set():
        with ledger.lock:
            left = [id for id in ledger.completed if id not in ledger.deleted and id not in ledger.maybe_deleted]
            chosen = chance.sample(left, min(30, len(left) * 9 // 10))
            ledger.maybe_deleted.update(chosen)
        if not chosen:
            stop.wait(0.02)
        while chosen:
            id = chosen.pop()
            try:
                status, answer = connection.call("DELETE", f"/v1/jobs/{id}")
            except Lost as lost:
                with ledger.lock:
                    ledger.maybe_deleted.difference_update(chosen if lost.sent else [id, *chosen])
                return
            with ledger.lock:
                if status not in (200, 204):
                    ledger.wrong(f"deletion of {id}: {status} {answer}")
                ledger.deleted.add(id)
                ledger.counts["deletions"] += 1


def report(ledger, connection, reports):
    """Sends reports and writes down the answers. Raises Lost where the server has gone."""
    body, results = [], []
    for held, outcome in reports:
        entry = {"id": held.id, "lease": held.token, "outcome": outcome}
        result = {"by": held.token, "of": held.id}
        if outcome == "completed":
            entry["result"] = result
        elif outcome == "checkpoint":
            entry["data"] = result
        elif outcome == "failed":
            entry["error"] = {"class": "retryable", "code": "E", "message": "try again"}
        elif outcome == "extended":
            entry.update(outcome="extend", **{"for": f"{int(HELD_S)}s"})
        body.append(entry)
        results.append(result)
    asked_at = time.monotonic()
    ledger.report_is_sent(reports, results)
    try:
        status, answer = connection.call("POST", "/v1/reports", {"reports": body})
    except Lost:
        for (held, outcome), result in zip(reports, results):
            ledger.report_answered(held, outcome, result, None)
        raise
    assert status == 200, answer
    for (held, outcome), result, each in zip(reports, results, answer["reports"]):
        ledger.report_answered(held, outcome, result, each)
        if outcome == "extended" and each["ok"]:
            held.good_until = asked_at + HELD_S


def audit(ledger, connection, chance):
    """Holds what the server has against what it has said. Nothing else runs."""
    found, marks = {}, collections.Counter()
    cursor = None
    while True:
        status, page = connection.call("GET", "/v1/jobs?limit=1000" + (f"&cursor={cursor}" if cursor else ""))
        assert status == 200, page
        for job in page["items"]:
            if job["id"] in found:
                ledger.wrong(f"{job['id']} is listed twice")
            found[job["id"]] = job
            marks[job["payload"]["number"]] += 1
        cursor = page["next"]
        if cursor is None:
            break

    for id in ledger.deleted:
        if id in found:
            ledger.wrong(f"{id} is there after its deletion was acknowledged: {found[id]}")
    for id in ledger.maybe_deleted:
        if id not in found:
            ledger.deleted.add(id)  # It has happened, and stays so.
    ledger.maybe_deleted.clear()
    for id, number in ledger.jobs.items():
        job = found.get(id)
        if id in ledger.deleted:
            continue
        if job is None:
            ledger.wrong(f"acknowledged job {id} is gone")
        elif job["payload"]["number"] != number:
            ledger.wrong(f"acknowledged job {id} is another: {job}")
    for id, result in ledger.completed.items():
        job = found.get(id)
        if id in ledger.deleted:
            continue
        if job is None or job["state"] != "completed" or job["result"] != result:
            ledger.wrong(f"the acknowledged completion of {id} is gone: {job}")
    for id, job in found.items():
        if job["state"] != "completed":
            ledger.look_at_checkpoint(job)
        elif "checkpoint" in job:
            ledger.wrong(f"{id} is completed and has a checkpoint: {job}")
        if job["state"] == "completed" and id not in ledger.completed:
            if ledger.maybe_completed.get(id) == job["result"]:
                ledger.completed[id] = job["result"]  # It has happened, and stays so.
            else:
                ledger.wrong(f"{id} is completed, and nobody said so: {job}")
        elif job["state"] in ("dead", "cancelled"):
            ledger.wrong(f"{id} is {job['state']}: {job.get('error')}")
    for number, count in marks.items():
        if count > 1:
            ledger.wrong(f"number {number} is there {count} times")
        if number not in ledger.asked or ledger.asked[number] in ledger.refused:  # Nor may a forgotten one return.
            ledger.wrong(f"number {number} is there and nobody was told that it is")
    for request, (_, _, numbers) in ledger.unanswered.items():
        if any(ledger.id_of.get(number) in ledger.deleted for number in numbers):
            continue
        there = sum(marks[number] for number in numbers)
        if there not in (0, len(numbers)):
            ledger.wrong(f"of the {len(numbers)} jobs of {request} there are {there}: neither all nor none")
    for id in chance.sample(sorted(found), min(20, len(found))):
        status, job = connection.call("GET", f"/v1/jobs/{id}")
        if (status, job["state"]) != (200, found[id]["state"]) and found[id]["state"] in ("completed", "dead"):
            ledger.wrong(f"{id} is listed as {found[id]['state']} and read as {job}")
    return found


def settle_what_was_lost(ledger, connection, chance):
    """After a restart: who had a key asks again, and who holds a lease reports."""
    for request, (body, key, numbers) in list(ledger.unanswered.items()):
        if key is not None:
            assert send(ledger, connection, request, body, numbers, key), "the server has gone again"
    for held in list(ledger.held.values()):
        outcome = chance.choices(["completed", "extended", "keep"], [50, 20, 30])[0]
        if outcome != "keep":
            report(ledger, connection, [(held, outcome)])
            ledger.counts["reports over a restart"] += 1


def finish(ledger, server, chance):
    """Works off everything: what is left must all be had, once."""
    connection = Connection(server.port)
    for held in list(ledger.held.values()):
        report(ledger, connection, [(held, "completed")])
    deadline = time.monotonic() + 60
    while True:
        asked_at = time.monotonic()
        status, answer = connection.call(
            "POST",
            "/v1/leases",
            {"queues": ["a", "b"], "max": 1000, "wait": "200ms", "lease": f"{int(LEASE_S * 1000)}ms"},
        )
        assert status == 200, answer
        leases = [ledger.leased(job, asked_at, LEASE_S) for job in answer["jobs"]]
        if leases:
            report(ledger, connection, [(held, "completed") for held in leases])
            continue
        queues = [connection.call("GET", f"/v1/queues/{name}")[1] for name in ("a", "b")]
        depths = [queue["depth"] for queue in queues if "depth" in queue]  # One that was never used is not there.
        if not any(depth[state] for depth in depths for state in ("ready", "scheduled", "leased")):
            break
        assert time.monotonic() < deadline, depths
    found = audit(ledger, connection, chance)
    unfinished = [id for id in ledger.jobs if id in found and found[id]["state"] != "completed"]
    if unfinished:
        ledger.wrong(f"never finished: {unfinished[:10]}")


def empty(ledger, server, chance):
    """Works off everything, deletes it, and forgets it: so an audit stays quick, however long the history."""
    finish(ledger, server, chance)
    connection = Connection(server.port)
    body = {"action": "delete", "where": {"state": "completed"}}
    status, answer = connection.call("POST", "/v1/jobs/bulk", body)
    assert status == 200, answer
    status, page = connection.call("GET", "/v1/jobs?limit=1")
    if page["items"]:
        ledger.wrong(f"there after all was deleted: {page['items']}")
    ledger.counts["deletions"] += answer.get("count", 0)
    ledger.forget_all()


class Load:
    """Clients that keep a server busy, from start() until it has gone and end() is called."""

    def __init__(self, ledger, port, chance, name, producers, workers, cleaners=1):
        self._stop = threading.Event()
        self._errors = []
        roles = [(produce, (f"{name}.p{n}",)) for n in range(producers)]
        roles += [(work, ())] * workers + [(clean, ())] * cleaners
        self._threads = [
            threading.Thread(
                target=self._guarded, args=(role, ledger, port, random.Random(chance.random()), *more, self._stop)
            )
            for role, more in roles
        ]

    def _guarded(self, role, *args):
        try:
            role(*args)
        except BaseException as error:
            self._errors.append(error)

    def start(self):
        for thread in self._threads:
            thread.start()
        return self

    def end(self):
        self._stop.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()
        assert not self._errors, self._errors
