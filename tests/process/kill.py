"""Kills a server under load, starts it again and audits it (ledger.py), round after round. Kills fall at random moments,
and at chosen ones; what each one hit is read from what it left behind, counted and printed.
"""

import collections
import os
import random
import shutil
import struct
import time

from ledger import Connection, Ledger, Load, audit, empty, finish, settle_what_was_lost

EMPTIED_EVERY = 20  # Rounds.
FRAME = struct.Struct("<4sIIIIIQqIIIII")  # docs/log-format.md
FRAME_BYTES = 64
Frame = collections.namedtuple("Frame", "offset end sequence kinds")
# docs/log-records.md. Copied ahead is what has a snapshot of a job, or remembers requests and takes no jobs.
ENQUEUED, SNAPSHOT, REMEMBERED = 4, 17, 20


class Segments:
    """What lies in a data folder, as docs/log-format.md has it; for a folder that nobody writes."""

    def __init__(self, folder):
        self.making = (folder / "new.tmp").exists()
        self.files = sorted(path for path in folder.glob("*.wal") if path.stem.isdigit())

    def frames(self):
        """Each Frame of the newest segment that has any, with the kinds of its records; and the file."""
        for path in reversed(self.files):
            frames = list(self._frames_of(path))
            if frames:
                return path, frames
        return None, []

    @staticmethod
    def _frames_of(path):
        data = path.read_bytes()
        offset, last = FRAME_BYTES, None
        while offset + FRAME_BYTES <= len(data):
            magic, _, _, size, segment, at, sequence, *_ = FRAME.unpack_from(data, offset)
            if magic != b"WMrF" or segment != int(path.stem) or at != offset or (last and sequence != last + 1):
                return
            kinds, record = [], offset + FRAME_BYTES
            while record < min(offset + FRAME_BYTES + size, len(data) - 4):
                (header,) = struct.unpack_from("<I", data, record)
                kinds.append(header & 0xFF)
                record += 4 + (header >> 8)
            end = offset + FRAME_BYTES + (size + 7) // 8 * 8
            yield Frame(offset, end, sequence, kinds)
            offset, last = end, sequence


def newest_segment_is_begun(folder):
    """The ordinal of the newest segment with a frame, as it is now, while somebody writes."""
    for path in sorted((each for each in folder.glob("*.wal") if each.stem.isdigit()), reverse=True):
        try:
            with open(path, "rb") as file:
                file.seek(FRAME_BYTES)
                head = file.read(20)
        except FileNotFoundError:
            continue
        if len(head) == 20 and head[:4] == b"WMrF" and struct.unpack_from("<I", head, 16)[0] == int(path.stem):
            return path.stem
    return None


def wait_for_moment(server, chance, longest_s):
    """Waits until it is time to kill. Returns what it waited for."""
    kind = chance.choices(["any moment", "a new file", "turn-over", "copying"], [55, 10, 20, 15])[0]
    end = time.monotonic() + chance.uniform(0.01, longest_s)
    if kind == "any moment":
        time.sleep(end - time.monotonic())  # The moment of the kill is the point: no event to wait for.
        return kind
    end += longest_s
    connection = Connection(server.port)

    def look():
        if kind == "a new file":
            return {entry.name for entry in os.scandir(server.data)}
        if kind == "turn-over":
            return newest_segment_is_begun(server.data)
        return connection.text("/metrics").partition("workmill_log_copied_jobs_total ")[2].partition("\n")[0]

    before = look()
    while time.monotonic() < end:
        if look() != before:
            return kind
    return "any moment"


def what_was_hit(server, said_before):
    """What a kill fell into, from what it left behind."""
    said = server.log()[said_before:]
    lock = server.data / "LOCK"
    if not lock.exists() or lock.read_text().strip() != str(server.process.pid):
        return ["before it had the folder"]
    if '"recovered"' not in said and '"created"' not in said:
        return ["recovery"]
    if '"listening"' not in said:
        return ["between recovery and the first connection"]
    hit = []
    segments = Segments(server.data)
    path, frames = segments.frames()
    if segments.making:
        hit.append("a segment being made")
    if path is not None and len(frames) <= 3 and path != segments.files[0]:
        hit.append("turn-over: at most three flushes into a new segment")
    if any(
        SNAPSHOT in frame.kinds or (REMEMBERED in frame.kinds and ENQUEUED not in frame.kinds) for frame in frames[-2:]
    ):
        hit.append("survivors being copied: in the last two flushes")
    return hit or ["ordinary work"]


class Killer:
    """Rounds of load, kill, restart and audit on one folder. `power`: and each kill is a power cut (faults.py)."""

    def __init__(self, server, seed, power=None):
        self.server, self.seed, self.power = server, seed, power
        if power is not None:
            server.before_spawn = power.environment
        self.chance = random.Random(seed)
        self.ledger = Ledger()
        self.hit = collections.Counter()
        self.kills = 0
        self.longest = collections.Counter()

    def kill(self, said_before):
        assert self.server.running(), f"it ended by itself:\n{self.server.log_tail()}"
        self.server.kill()
        self.kills += 1
        for what in what_was_hit(self.server, said_before):
            self.hit[what] += 1
        if self.power is not None:
            self.power.cut(self.chance)

    def kill_in_recovery(self):
        said = len(self.server.log())
        process = self.server.spawn()
        if self.chance.random() < 0.3:
            time.sleep(self.chance.uniform(0, 0.08))
        else:  # From when it has the folder on.
            lock = self.server.data / "LOCK"
            while process.poll() is None and not (lock.exists() and lock.read_text().strip() == str(process.pid)):
                pass
            time.sleep(self.chance.choice([0, self.chance.uniform(0, 0.004)]))
        self.kill(said)

    def round(self, number, longest_s, **load):
        server = self.server
        load = Load(self.ledger, server.port, self.chance, f"r{number}", **load).start()
        wait_for_moment(server, self.chance, longest_s)
        self.kill(self.started_at)
        load.end()
        while self.chance.random() < 0.3:
            self.kill_in_recovery()
        self.start()
        began = time.monotonic()
        connection = Connection(server.port)
        audit(self.ledger, connection, self.chance)
        settle_what_was_lost(self.ledger, connection, self.chance)
        if number % EMPTIED_EVERY == EMPTIED_EVERY - 1:
            empty(self.ledger, server, self.chance)
            if self.chance.random() < 0.5:  # Else what is remembered of requests fills the log in the end.
                server.stop()
                shutil.rmtree(server.data)
                self.start()
        self.longest["audit"] = max(self.longest["audit"], time.monotonic() - began)
        self.check(f"round {number}")

    def start(self):
        self.started_at = len(self.server.log())
        self.server.start()
        if "torn tail" in self.server.log()[self.started_at :]:
            self.hit["a write, cut short: the next start found a torn tail"] += 1

    def check(self, when):
        violations = self.ledger.violations
        assert not violations, f"{when}, WORKMILL_SEED={self.seed}:\n" + "\n".join(violations[:20])

    def run(self, rounds, **load):
        print(f"WORKMILL_SEED={self.seed}")
        began = time.monotonic()
        self.start()
        for number in range(rounds):
            self.round(number, **load)
            if (number + 1) % 50 == 0:
                print(f"{number + 1} rounds, {time.monotonic() - began:.0f} s", flush=True)
        finish(self.ledger, self.server, self.chance)
        self.check("at the end")
        counts = self.ledger.counts
        assert counts["completions"] > 0
        self.server.stop()
        print(f"{rounds} rounds in {time.monotonic() - began:.0f} s, {self.kills} kills; what they fell into:")
        for what, times in self.hit.most_common():
            print(f"  {times:6}  {what}")
        print("acknowledged, all of it there: " + ", ".join(f"{count} {what}" for what, count in counts.items()))
        if self.power is not None:
            what = ", ".join(f"{count} {what}" for what, count in sorted(self.power.lost.items()))
            print(f"{self.power.syncs} syncs; taken back: {what}")
        print(f"longest audit {self.longest['audit']:.2f} s")


def seed():
    return int(os.environ.get("WORKMILL_SEED", random.SystemRandom().randrange(2**32)))
