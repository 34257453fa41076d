"""The power is cut: what the server wrote and did not sync is taken back, all of it, from some point on, or in random
sectors (faults.py). What was acknowledged must be there all the same, as far as the durability promises it.

    ./dev powercut 200        two hundred rounds; or: pytest tests/process/test_faults_power.py -s --rounds 200
"""

import random
import shutil
import threading
import time

import pytest
from faults import PowerCut, need_library
from harness import Server, eventually
from kill import Killer, seed
from ledger import Connection, Ledger, Load, Lost, audit


@pytest.fixture
def plug(tmp_path):
    """plug(arguments…) gives a server and the PowerCut under it. All are ended."""
    need_library()
    made = []

    def make(*args, **settings):
        server = Server(tmp_path / f"data{len(made)}", *args, "--log-format", "json")
        made.append(server)
        power = PowerCut(server.data, **settings)
        server.before_spawn = power.environment
        return server, power

    yield make
    for server in made:
        if server.running():
            server.kill()


# ---- sync: nothing acknowledged is lost.

WAYS = {
    "whole turns": {"flush_by": "turn"},
    "a thread for flushes, slow syncs": {"flush_by": "writer"},
    "a thread for the shard": {"io_threads": "2"},
}


@pytest.mark.timeout(0)
@pytest.mark.parametrize("way", WAYS)
def test_nothing_acknowledged_is_lost_in_power_cuts(plug, config, pytestconfig, way):
    slow = {"sync_us": 2_000} if "slow" in way else {}
    server, power = plug(*config(segment_size="64KiB", **WAYS[way]), **slow)

    rounds = (pytestconfig.getoption("--rounds") or 9) // len(WAYS)
    Killer(server, seed(), power).run(rounds, producers=2, workers=2, longest_s=0.3)

    assert power.lost["cuts with something to lose"] > 0


def test_reads_and_writes_cut_short_do_no_harm(plug, config):
    """The system may do less than it was asked for, and end a call for a signal's sake, at any time."""
    server, power = plug(*config(segment_size="64KiB"), short=seed())

    Killer(server, seed(), power).run(2, producers=2, workers=2, longest_s=0.4)


# ---- interval and os: how much is lost.


class Sender(threading.Thread):
    """Enqueues jobs one by one, and remembers when each was acknowledged."""

    def __init__(self, port, name):
        super().__init__(daemon=True)
        self.port, self.name_of, self.acknowledged = port, name, []
        self.start()

    def run(self):
        connection = Connection(self.port)
        try:
            while True:
                body = {"type": "t", "payload": f"{self.name_of} {len(self.acknowledged)}"}
                status, answer = connection.call("POST", "/v1/jobs", body)
                if status == 503 and answer["code"] == "shutting_down":
                    return
                assert status == 201, answer
                self.acknowledged.append((answer["id"], time.monotonic()))
        except Lost:
            pass


def all_jobs(server):
    return {job["id"] for job in server.api(checked=False).jobs()}


def cut_and_count(server, power, chance, how=None, longest_s=0.4, stop_first=False):
    """One power cut under load. The jobs that were acknowledged and are gone: (when acknowledged, when it was cut)."""
    server.start()
    before = all_jobs(server)
    senders = [Sender(server.port, f"s{n}") for n in range(3)]
    eventually(lambda: all(sender.acknowledged for sender in senders), "each has sent something")
    time.sleep(chance.uniform(0.1, longest_s))  # The moment of the cut is the point: no event to wait for.
    if stop_first:
        server.terminate()
        time.sleep(chance.uniform(0, 0.03))
    cut_at = time.monotonic()
    server.kill()
    for sender in senders:
        sender.join(30)
    power.cut(chance, how)
    server.start()
    found = all_jobs(server)
    for sender in senders:  # The log is a line, and what is lost is its end.
        there = [id in found for id, _ in sender.acknowledged]
        assert there == sorted(there, reverse=True), "a job is lost, and a later one is there"
    lost = [at for sender in senders for id, at in sender.acknowledged if id not in found]
    sent = sum(len(sender.acknowledged) for sender in senders)
    gone_before = before - found
    server.kill()
    return lost, cut_at, sent, gone_before


@pytest.mark.timeout(0)
def test_under_interval_what_is_lost_was_acknowledged_after_the_last_sync_began(plug, config, pytestconfig):
    server, power = plug(*config(durability="interval", sync_interval="50ms", segment_size="256KiB"))
    chance = random.Random(seed())
    rounds = max(3, (pytestconfig.getoption("--rounds") or 15) // 5)
    ages, gaps, all_sent, all_lost = [], [], 0, 0
    for number in range(rounds):
        if number % 10 == 9:  # So that listing what is there stays quick.
            shutil.rmtree(server.data)
        lost, cut_at, sent, gone_before = cut_and_count(server, power, chance, "all")
        began = power.sync_began
        assert not gone_before, "jobs from before the start are gone"
        assert all(at >= began[-1] for at in lost), f"lost although synced: {min(lost)} of {began[-5:]}"
        ages.append(cut_at - min(lost) if lost else 0)
        gaps.append(cut_at - began[-1])
        all_sent, all_lost = all_sent + sent, all_lost + len(lost)
    print(
        f"interval 50 ms, {rounds} cuts: {all_lost} of {all_sent} acknowledged jobs lost; the oldest of a cut had been "
        f"acknowledged at most {max(ages) * 1000:.0f} ms before it, {sorted(ages)[len(ages) // 2] * 1000:.0f} ms in the "
        f"median; the last sync had begun at most {max(gaps) * 1000:.0f} ms before it"
    )
    assert all_sent > 0


@pytest.mark.timeout(0)
@pytest.mark.parametrize("durability", ["os", "interval"])
def test_whatever_a_power_cut_takes_a_start_finds_no_fault(plug, config, pytestconfig, durability):
    """That something is lost here shows that the cut is one. What is left is a beginning of what there was."""
    server, power = plug(*config(durability=durability, segment_size="64KiB"), sync_us=500)
    chance = random.Random(seed())
    all_lost = 0
    for _ in range(max(1, (pytestconfig.getoption("--rounds") or 10) // 10)):
        for how in ("all", "behind", "sectors"):
            lost, *_ = cut_and_count(server, power, chance, how)
            all_lost += len(lost)
        shutil.rmtree(server.data)

    assert all_lost > 0


@pytest.mark.parametrize("durability", ["sync", "interval", "os"])
def test_a_power_cut_in_the_middle_of_an_orderly_end_is_no_damage(plug, config, pytestconfig, durability):
    """The mark of an orderly end must not be taken for a witness of what did not reach the disk before it."""
    server, power = plug(*config(durability=durability, segment_size="64KiB"), sync_us=3_000)
    chance = random.Random(seed())
    for _ in range(max(2, (pytestconfig.getoption("--rounds") or 20) // 10)):
        lost, *_ = cut_and_count(server, power, chance, stop_first=True, longest_s=0.2)
        assert not lost or durability != "sync"


def test_under_os_the_death_of_the_process_alone_loses_nothing(start, config):
    server = start(*config(durability="os", segment_size="64KiB"), "--log-format", "json", run=False)
    Killer(server, seed()).run(3, producers=2, workers=2, longest_s=0.3)


def test_a_disk_that_lies_about_syncs_is_found_out_by_the_audit(plug, config):
    """The proof of the tests above: were a sync left out under `sync`, they would fail."""
    server, power = plug(*config(segment_size="64KiB"), sync="lie")

    lost, *_ = cut_and_count(server, power, random.Random(seed()), "all")

    assert lost


# ---- A sync that fails.


@pytest.mark.parametrize("way", ["turn", "writer"])
@pytest.mark.parametrize("call", ["fdatasync 20", "pwritev 30", "pwritev 30 28"])
def test_a_flush_that_fails_ends_the_server_and_loses_nothing(plug, config, call, way):
    """A disk error, or one more write than there is space (28 is ENOSPC). Nobody knows then what is on the disk."""
    server, power = plug(*config(flush_by=way), fail=call)
    chance = random.Random(seed())
    ledger = Ledger()
    server.start()
    load = Load(ledger, server.port, chance, "r", producers=2, workers=2)

    load.start()

    assert server.wait_for_exit() == 1
    load.end()
    assert "stopped by an error" in server.log()
    power.cut(chance, "all")
    power.settings.clear()
    server.start()
    audit(ledger, Connection(server.port), chance)
    assert not ledger.violations, ledger.violations[:20]
    assert ledger.counts["jobs"] > 0
    server.stop()
