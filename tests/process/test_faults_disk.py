"""File systems that are small, turn read-only or die under a server that is busy; real ones, mounted for the test."""

import fcntl
import os
import random
import shutil
import struct
import subprocess

import pytest
from harness import Server, eventually
from kill import seed
from ledger import Connection, Ledger, Load, audit, finish

EXT4_IOC_SHUTDOWN = 0x8004587D
WITHOUT_FLUSHING_THE_JOURNAL = 2


class Busy:
    """A server in a folder, the load on it, and the audit afterwards."""

    def __init__(self, folder, *args, prefix=()):
        self.chance = random.Random(seed())
        self.ledger = Ledger()
        self.server = Server(folder / "data", *args, "--log-format", "json")
        self.server.prefix = list(prefix)
        self.loads = []

    def begin(self, **load):
        if not self.server.running():
            self.server.start()
        self.loads.append(Load(self.ledger, self.server.port, self.chance, f"r{len(self.loads)}", **load).start())

    def end(self):
        while self.loads:
            self.loads.pop().end()

    def count(self, what):
        return self.ledger.counts[what]

    def grows(self, what):
        before = self.count(what)
        eventually(lambda: self.count(what) > before + 20, f"more {what} than {before}")

    def audit_after_restart(self):
        self.server.start()
        audit(self.ledger, Connection(self.server.port), self.chance)
        finish(self.ledger, self.server, self.chance)
        assert not self.ledger.violations, self.ledger.violations[:20]
        self.server.stop()


@pytest.fixture
def busy():
    """busy(folder, arguments…) gives a Busy. Its server is ended."""
    made = []

    def make(*args, **named):
        made.append(Busy(*args, **named))
        return made[-1]

    yield make
    for each in made:
        if each.server.running():
            each.server.kill()
        each.end()


# ---- A disk that is full.


@pytest.fixture
def small_disk(tmp_path):
    """A tmpfs of 12 MiB in a mount namespace of its own: (its folder as seen in there, as seen from here, prefix of
    commands that run in there). Needs no rights where users may have namespaces."""
    folder = tmp_path / "small"
    folder.mkdir()
    script = 'mount -t tmpfs -o size=12m tmpfs "$0" && echo ready && exec sleep 1000'
    keeper = subprocess.Popen(
        ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    if keeper.stdout.readline() != b"ready\n":
        keeper.kill()
        pytest.skip(f"no file system of our own here: {keeper.stderr.read().decode().strip()}")
    prefix = ["nsenter", "--target", str(keeper.pid), "--user", "--mount", "--preserve-credentials", "--"]
    yield folder, f"/proc/{keeper.pid}/root{folder}", prefix
    keeper.kill()
    keeper.wait()


def free_bytes(path):
    info = os.statvfs(path)
    return info.f_bavail * info.f_frsize


def test_a_full_disk_takes_no_jobs_and_all_else_until_there_is_space_again(small_disk, config, busy):
    folder, outside, prefix = small_disk
    reserve = 3 << 20
    busy = busy(folder, *config(segment_size="256KiB", disk_reserve="3MiB"), prefix=prefix)
    busy.ledger.tolerated.add("disk_full")
    busy.begin(producers=2, workers=2, cleaners=0)
    busy.grows("completions")

    room = free_bytes(outside) - reserve + (512 << 10)
    with open(f"{outside}/of-somebody-else", "wb") as file:  # It takes the space that is left.
        os.posix_fallocate(file.fileno(), 0, room)

    eventually(lambda: busy.count("disk_full") > 20, "jobs are refused")
    assert free_bytes(outside) > reserve // 2, "refused ahead of time, not at the end"
    api = busy.server.api(checked=False)
    problem = api.refused("POST", "/v1/jobs", {"type": "t", "queue": "elsewhere"}, code="disk_full")
    assert problem["class"] == "retryable"
    assert '"room_for_next_segment":true' in busy.server.wait_for_log("the disk is nearly full: new jobs are refused")
    eventually(lambda: api.depth("a")["ready"] + api.depth("b")["ready"] == 0, "what is there is worked off")
    busy.begin(producers=0, workers=0, cleaners=1)
    busy.grows("deletions")

    os.unlink(f"{outside}/of-somebody-else")
    busy.grows("jobs")
    busy.server.wait_for_log("the disk has space again: new jobs are taken")
    busy.server.kill()
    busy.end()
    busy.audit_after_restart()


@pytest.fixture
def on_small_disk(small_disk, config):
    """on_small_disk(setting="value", …): a server whose folder is there, and others on that disk, who leave(bytes) free
    and give() back what they took."""
    folder, outside, prefix = small_disk
    made = []

    class Others:
        files = 0

        def segments(self):
            return [name for name in os.listdir(f"{outside}/data") if name.endswith(".wal") and name != "spare.wal"]

        def leave(self, left):
            with open(f"{outside}/of-somebody-else-{self.files}", "wb") as file:
                os.posix_fallocate(file.fileno(), 0, free_bytes(outside) - left)
            self.files += 1

        def give(self):
            for number in range(self.files):
                os.unlink(f"{outside}/of-somebody-else-{number}")

    def make(**settings):
        server = Server(folder / "data", *config(**settings), "--log-format", "json")
        server.prefix = list(prefix)
        server.log_path = folder.parent / "server.log"  # Not on the disk that is full.
        made.append(server)
        return server.start(), Others()

    yield make
    for server in made:
        if server.running():
            server.kill()


def refused_for_the_disk(api):
    return api.call("POST", "/v1/jobs", api.job_as_sent({})).status == 507


def test_without_room_for_the_next_segment_jobs_are_refused_and_all_else_goes_on(on_small_disk):
    """No reserve is set, and none is needed for that."""
    server, others = on_small_disk(segment_size="2MiB", disk_reserve="0")
    api = server.api(queue="q", checked=False)
    ids = [api.enqueue_id() for _ in range(10)]
    held = api.lease_one(lease="10m")

    others.leave(1 << 20)

    eventually(lambda: refused_for_the_disk(api), "jobs are refused")
    assert '"room_for_next_segment":false' in server.wait_for_log("the disk is nearly full: new jobs are refused")
    api.complete(held, result="done on a full disk")
    for id in ids:
        if id != held["id"]:
            api.call("DELETE", f"/v1/jobs/{id}", expect=(200, 204))
    others.give()
    eventually(lambda: not refused_for_the_disk(api), "there is space again")
    log = server.wait_for_log("the disk has space again: new jobs are taken")
    assert log.count("the disk is nearly full") == 1
    server.kill()
    server.start()
    assert api.job(held["id"])["result"] == "done on a full disk"
    assert not any(api.exists(id) for id in ids if id != held["id"])


def test_reports_have_a_whole_segment_in_reserve_when_others_take_the_rest_of_the_disk(on_small_disk):
    server, others = on_small_disk(segment_size="1MiB", disk_reserve="3MiB")
    api = server.api(queue="q", checked=False)
    api.enqueue_many([{}] * 60)
    jobs = api.lease(max=60, lease="10m")
    assert len(jobs) == 60
    others.leave(2 << 20)
    eventually(lambda: refused_for_the_disk(api), "jobs are refused")
    eventually(lambda: len(others.segments()) == 2, "the next segment is there")

    others.leave(256 << 10)  # Not for a segment; a batch that ends behind its own takes some of it.
    for job in jobs:  # More than is left of the first segment.
        api.complete(job, result="x" * 20_000)

    others.give()
    server.kill()
    server.start()
    assert {api.job(job["id"])["state"] for job in jobs} == {"completed"}


def test_a_full_disk_shows_what_is_cached_and_keeps_nothing_new(small_disk, config):
    folder, outside, prefix = small_disk
    server = Server(folder / "data", *config(segment_size="256KiB", disk_reserve="3MiB"))
    server.prefix = list(prefix)
    server.log_path = folder.parent / "server.log"  # Not on the disk that is full.
    server.start()
    try:
        api = server.api(queue="q", checked=False)
        for key in ("there", "to.be.forgotten"):
            api.call("PUT", f"/v1/cache/{key}", data=b"1", query={"fresh": "1h"}, expect=204)
        with open(f"{outside}/of-somebody-else", "wb") as file:
            os.posix_fallocate(file.fileno(), 0, free_bytes(outside) - (3 << 20) + (512 << 10))

        def is_refused():
            return api.call("PUT", "/v1/cache/new", data=bytes(1_000)).status == 507

        eventually(is_refused, "nothing new is kept")
        job = {"job": {"type": "t", "queue": "q"}, "wait": "0s"}
        assert api.call("POST", "/v1/cache/absent", job, expect=507).code == "disk_full"
        assert api.call("POST", "/v1/cache/there", job, expect=200).body == b"1"
        assert api.call("GET", "/v1/cache/there", expect=200).body == b"1"
        api.call("DELETE", "/v1/cache/to.be.forgotten", expect=204)

        os.unlink(f"{outside}/of-somebody-else")
        eventually(lambda: not is_refused(), "there is space again")
        server.stop()
    finally:
        if server.running():
            server.kill()


# ---- A disk that turns read-only, and one that is gone.


@pytest.fixture
def ext4(tmp_path):
    """An ext4 on a loop device: a folder with mount() and unmount()."""

    class Ext4:
        folder = tmp_path / "ext4"
        image = tmp_path / "image"

        def mount(self):
            return subprocess.run(["mount", "-o", "loop", self.image, self.folder], capture_output=True, text=True)

        def unmount(self):
            subprocess.run(["umount", self.folder], check=True)

        def mount_again(self):
            """What was not on the disk is lost with the cache."""
            self.unmount()
            done = self.mount()
            assert done.returncode == 0, done.stderr

        def turn_read_only(self):
            """As ext4 does by itself after an error (mount -o errors=remount-ro)."""
            subprocess.run(["mount", "-o", "remount,abort", self.folder], check=True)

        def cut_off(self):
            fd = os.open(self.folder, os.O_RDONLY)
            fcntl.ioctl(fd, EXT4_IOC_SHUTDOWN, struct.pack("I", WITHOUT_FLUSHING_THE_JOURNAL))
            os.close(fd)

    for program in ("mkfs.ext4", "mount"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    disk = Ext4()
    disk.folder.mkdir()
    with open(disk.image, "wb") as file:
        file.truncate(64 << 20)
    made = subprocess.run(["mkfs.ext4", "-q", "-F", disk.image], capture_output=True, text=True)
    mounted = disk.mount() if made.returncode == 0 else made
    if mounted.returncode != 0:
        pytest.skip(f"no file system of our own here: {mounted.stderr.strip()}")
    yield disk
    subprocess.run(["umount", "-l", disk.folder], check=False)


@pytest.mark.parametrize("way", ["turn_read_only", "cut_off"])
def test_a_disk_that_takes_no_more_ends_the_server_and_loses_nothing(ext4, config, busy, way):
    """With cut_off it is a power cut to the file system: what was not flushed is gone once it is mounted again."""
    busy = busy(ext4.folder, *config(segment_size="256KiB", disk_reserve="1MiB"))
    busy.server.log_path = ext4.folder.with_name("server.log")
    busy.begin(producers=2, workers=2)
    busy.grows("completions")

    getattr(ext4, way)()

    assert busy.server.wait_for_exit() == 1
    assert "stopped by an error" in busy.server.log()
    busy.end()
    ext4.mount_again()
    busy.audit_after_restart()
