"""`workmill backup` of a server that is busy, and `workmill restore`: what was acknowledged before is there after."""

import json
import os
import pathlib
import random
import re
import subprocess
import threading

import pytest
from harness import BINARY, eventually


def workmill(*args, expect=0):
    done = subprocess.run([BINARY, *args], capture_output=True, text=True, timeout=120)
    assert done.returncode == expect, done.stdout + done.stderr
    return done


def backup(folder, file):
    return json.loads(workmill("backup", "--json", folder, file).stdout)


def restore(file, folder):
    return json.loads(workmill("restore", "--json", file, folder).stdout)


class Load:
    """Enqueues, and finishes some, until it is stopped. `acknowledged`: id → number, as far as answered. It rests while
    `busy` is not set: what is restored is to be audited in the time that this takes, and not in all of the machine's."""

    def __init__(self, server):
        self._server, self._stopping, self.acknowledged, self.failure = server, threading.Event(), {}, None
        self.busy = threading.Event()
        self.busy.set()
        self._threads = [
            threading.Thread(target=self._guard, args=(run,)) for run in (self._send, self._send, self._work)
        ]
        for thread in self._threads:
            thread.start()

    def _guard(self, run):
        try:
            run(self._server.api(queue="q", checked=False))
        except Exception as error:
            self.failure = error

    def _send(self, api):
        numbers = random.Random(os.getpid())
        while self.busy.wait() and not self._stopping.is_set():
            sent = [{"payload": {"n": numbers.randrange(10**9), "filler": "x" * 2_000}} for _ in range(50)]
            for job, answer in zip(sent, api.enqueue_many(sent)):
                self.acknowledged[answer["id"]] = job["payload"]["n"]

    def _work(self, api):
        while self.busy.wait() and not self._stopping.is_set():
            for job in api.lease(max=40, wait="1s"):
                api.complete(job, result=job["payload"]["n"])

    def stop(self):
        self._stopping.set()
        self.busy.set()
        for thread in self._threads:
            thread.join()
        assert self.failure is None, self.failure


def audit(server, acknowledged):
    """Every job is there as it was sent, and what is finished has its result."""
    found = {job["id"]: job for job in server.api(queue="q", checked=False).jobs(queue="q")}
    assert acknowledged.keys() <= found.keys(), f"{len(acknowledged.keys() - found.keys())} jobs are not in the backup"
    for id, number in acknowledged.items():
        assert found[id]["payload"]["n"] == number
        if found[id]["state"] == "completed":
            assert found[id]["result"] == number


def test_a_backup_under_load_holds_what_was_acknowledged_before_it(start, tmp_path):
    server = start("--segment-size", "1MiB")
    file = tmp_path / "jobs.backup"
    load = Load(server)
    copied = []
    for round in range(4):
        load.busy.set()
        sent = len(load.acknowledged)
        eventually(lambda: load.failure or len(load.acknowledged) >= sent + 500, "there is load")
        acknowledged = dict(load.acknowledged)
        copied.append(backup(server.data, file))
        load.busy.clear()
        restored = tmp_path / f"restored{round}"
        report = restore(file, restored)
        assert (report["frames"], report["segments"]) == (copied[-1]["frames"], copied[-1]["segments"])
        assert workmill("doctor", restored).returncode == 0
        other = start(data=restored, run=False)
        other.start()
        audit(other, acknowledged)
        other.stop()
    load.stop()
    assert all(later["copied_bytes"] < later["bytes"] for later in copied[1:]), copied
    assert server.running()


def test_a_second_backup_copies_only_what_is_new(start, tmp_path):
    server = start("--segment-size", "1MiB")
    api = server.api(queue="q")
    ids = [job["id"] for _ in range(5) for job in api.enqueue_many([{"payload": "x" * 100_000}] * 5)]
    file = tmp_path / "jobs.backup"
    first = backup(server.data, file)
    assert first["copied_bytes"] == first["bytes"] and first["segments"] >= 2

    ids.append(api.enqueue_id(payload="new"))
    second = backup(server.data, file)
    assert 0 < second["copied_bytes"] < 2_000
    ids.append(api.enqueue_id(payload="after a restart"))
    server.restart()
    third = backup(server.data, file)
    assert 0 < third["copied_bytes"] < 5_000
    server.stop()
    backup(server.data, file)
    assert backup(server.data, file)["copied_bytes"] == 0

    restore(file, tmp_path / "restored")
    other = start(data=tmp_path / "restored")
    assert all(other.api().exists(id) for id in ids)


def test_a_folder_that_went_back_in_time_is_backed_up_as_it_is(start, tmp_path):
    server = start("--segment-size", "1MiB")
    api = server.api(queue="q")
    before = api.enqueue_id(payload="before")
    backup(server.data, tmp_path / "early.backup")
    lost = [job["id"] for _ in range(4) for job in api.enqueue_many([{"payload": "x" * 100_000}] * 5)]
    backup(server.data, tmp_path / "late.backup")
    server.stop()
    restore(tmp_path / "early.backup", tmp_path / "back")
    other = start("--segment-size", "1MiB", data=tmp_path / "back")
    after = other.api(queue="q").enqueue_id(payload="after")

    backup(other.data, tmp_path / "late.backup")

    restore(tmp_path / "late.backup", tmp_path / "again")
    api = start(data=tmp_path / "again").api()
    assert api.exists(before) and api.exists(after) and not any(api.exists(id) for id in lost)


def test_segments_that_were_dropped_leave_the_backup_and_its_file_in_the_end(start, tmp_path):
    server = start("--segment-size", "1MiB")
    api = server.api(queue="q")
    file = tmp_path / "jobs.backup"
    kept = api.enqueue_id(payload="kept", queue="other")
    sizes, rewritten = [], False
    for _ in range(8):
        for _ in range(4):
            api.enqueue_many([{"payload": "x" * 100_000, "keep_result": "0s"}] * 9)
            for job in api.lease(max=9):
                api.complete(job)
        taken = backup(server.data, file)
        rewritten = rewritten or taken["rewritten"]
        sizes.append(file.stat().st_size)
        assert sizes[-1] <= 2 * taken["bytes"] + (2 << 20), taken
    assert rewritten
    restore(file, tmp_path / "restored")
    other = start(data=tmp_path / "restored")
    assert other.api().job(kept)["payload"] == "kept"


@pytest.fixture
def backed_up(start, tmp_path):
    """(file, ids) of a backup with some segments."""
    server = start("--segment-size", "1MiB")
    api = server.api(queue="q")
    ids = [job["id"] for _ in range(4) for job in api.enqueue_many([{"payload": "x" * 100_000}] * 5)]
    backup(server.data, tmp_path / "jobs.backup")
    server.stop()
    return tmp_path / "jobs.backup", ids


def flip(path, offset):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x04]))


@pytest.mark.parametrize("part", [0.0, 0.3, 0.6, 0.999])
def test_a_flipped_bit_is_refused_with_its_place(backed_up, tmp_path, part):
    file, _ = backed_up
    offset = 4096 + int((file.stat().st_size - 4096 - 1) * part)
    flip(file, offset)

    said = workmill("restore", file, tmp_path / "restored", expect=1).stderr

    assert "log_corrupt" in said and str(file) in said
    first, last = map(int, re.search(r"offsets? (\d+) (?:and|to) (\d+)", said).groups())
    assert first <= offset < last, said
    assert not (tmp_path / "restored").exists()


def test_a_backup_that_was_cut_short_leaves_the_one_before(backed_up, tmp_path, start):
    file, ids = backed_up
    with open(file, "ab") as end:  # As if the next one had died while it copied.
        end.write(b"half a segment" * 1000)
    restore(file, tmp_path / "restored")
    other = start(data=tmp_path / "restored")
    assert all(other.api().exists(id) for id in ids)


def test_a_torn_root_falls_back_to_the_one_before(backed_up, tmp_path):
    file, _ = backed_up
    backup(tmp_path / "data1", file)  # The second: its root is at 1024.
    flip(file, 1024 + 3)
    assert restore(file, tmp_path / "restored")["segments"] >= 2
    flip(file, 512 + 3)
    assert "neither of its roots" in workmill("restore", file, tmp_path / "again", expect=1).stderr


def test_restore_wants_an_empty_folder(backed_up, tmp_path):
    file, _ = backed_up
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    assert "not empty" in workmill("restore", file, folder, expect=1).stderr
    assert [path.name for path in folder.iterdir()] == ["notes.txt"]


def test_what_is_no_backup_is_left_alone(backed_up, tmp_path):
    notes = tmp_path / "notes.txt"
    notes.write_text("mine " * 10_000)
    assert "no backup" in workmill("restore", notes, tmp_path / "restored", expect=1).stderr
    assert "no backup" in workmill("backup", tmp_path / "data1", notes, expect=1).stderr
    assert notes.read_text() == "mine " * 10_000


def test_a_backup_of_another_log_is_left_alone(backed_up, tmp_path, start):
    file, ids = backed_up
    before = file.read_bytes()
    other = start()
    other.api(queue="q").enqueue()
    assert "another log" in workmill("backup", other.data, file, expect=1).stderr
    assert file.read_bytes()[: len(before)] == before
    restore(file, tmp_path / "restored")


@pytest.mark.parametrize("which", ["the first batch", "the newest batch"])
def test_damage_in_the_folder_fails_the_backup_and_says_where(start, tmp_path, which):
    server = start("--segment-size", "1MiB")
    needles = [f"needle {n} in a haystack" for n in range(30)]
    for needle in needles:
        server.api(queue="q").enqueue(payload=needle + "x" * 100_000)
    needle = (needles[0] if which == "the first batch" else needles[-1]).encode()
    path, offset = next(
        (path, path.read_bytes().find(needle)) for path in server.segments() if needle in path.read_bytes()
    )
    flip(path, offset)

    said = workmill("backup", server.data, tmp_path / "jobs.backup", expect=1).stderr

    assert "log_corrupt" in said and str(path) in said
    server.kill()


def test_a_torn_tail_is_left_out(start, tmp_path):
    server = start()
    kept = server.api(queue="q").enqueue_id(payload="kept")
    torn = server.api(queue="q").enqueue_id(payload="torn needle")
    server.kill()
    (path,) = (path for path in server.segments() if b"torn needle" in path.read_bytes())
    flip(path, path.read_bytes().find(b"torn needle"))
    backup(server.data, tmp_path / "jobs.backup")
    restore(tmp_path / "jobs.backup", tmp_path / "restored")
    other = start(data=tmp_path / "restored")
    assert other.api().exists(kept) and not other.api().exists(torn)


def test_a_folder_without_a_log_has_no_backup(tmp_path):
    workmill("backup", tmp_path / "nowhere", tmp_path / "x.backup", expect=1)
    pathlib.Path(tmp_path / "empty").mkdir()
    assert "no log" in workmill("backup", tmp_path / "empty", tmp_path / "y.backup", expect=1).stderr
