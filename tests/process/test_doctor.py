"""`workmill doctor`: what it says of a data folder, and what is left after a repair."""

import json
import os
import shutil
import struct
import subprocess

import pytest
from harness import BINARY

# Where the frames of a segment stand, and what they are: docs/log-format.md.
SEGMENT_HEADER = FRAME_HEADER = 64


def doctor(folder, *args, prefix=()):
    """(exit code, its JSON or None, standard error). `prefix`: a command that runs it."""
    done = subprocess.run(
        [*prefix, BINARY, "doctor", "--json", folder, *args], capture_output=True, text=True, timeout=60
    )
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


def frames(path):
    """(offset, kind, payload bytes) of each frame."""
    data, at, found = path.read_bytes(), SEGMENT_HEADER, []
    while data[at : at + 4] == b"WMrF":
        size, kind = struct.unpack_from("<I", data, at + 12)[0], struct.unpack_from("<I", data, at + 56)[0]
        found.append((at, kind, size))
        at += FRAME_HEADER + (size + 7) // 8 * 8
    return found


def overwrite(path, offset, data):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)


def flip(path, offset):
    byte = path.read_bytes()[offset]
    overwrite(path, offset, bytes([byte ^ 0x10]))


@pytest.fixture
def filled(start):
    """A stopped server that has three segments, `kept` jobs (id → payload), and was killed on the way."""
    server = start("--segment-size", "1MiB")
    api = server.api(queue="q")
    jobs = {}
    for round in range(3):
        filler = "x" * 60_000
        for chunk in range(6):
            sent = [{"payload": f"{round}.{chunk}.{n} {filler}", "keep_result": "1h"} for n in range(3)]
            for job, answer in zip(sent, api.enqueue_many(sent)):
                jobs[answer["id"]] = job["payload"]
    done = api.lease(max=5)
    for job in done:
        api.complete(job, result=job["id"])
    server.kill()
    server.jobs, server.done = jobs, [job["id"] for job in done]
    assert len(server.segments()) >= 3
    return server


def audit(server, lost=()):
    """Everything that was acknowledged is there, but what is known to be lost. Returns what is missing."""
    api = server.api(queue="q")
    missing = {id for id in server.jobs if not api.exists(id)}
    assert missing <= set(lost), f"{missing - set(lost)} are gone, and nobody said so"
    for id, payload in server.jobs.items():
        if id in missing:
            continue
        job = api.job(id)
        assert job["payload"] == payload
        if id in server.done and job["state"] == "completed":
            assert job["result"] == id
    return missing


def refused_by_the_server(server):
    server.spawn()
    code = server.wait_for_exit()
    assert code == 1, server.log_tail()
    assert f"workmill doctor {server.data}" in server.log(), server.log_tail()


def repair(server):
    """Repairs and starts; what the doctor had to say."""
    before = {path.name: path.read_bytes() for path in server.segments()}
    code, said, errors = doctor(server.data, "--repair")
    assert code == 0, (said, errors)
    aside = said["repaired"]["backup"]
    assert {name: open(os.path.join(aside, name), "rb").read() for name in before} == before
    code, after, _ = doctor(server.data)
    assert (code, after["health"]) == (0, "healthy")
    assert after["jobs"] == said["jobs"]
    server.start()
    return said


# ---- What is well.


def test_a_folder_that_is_well_is_described(filled):
    before = {path: path.read_bytes() for path in filled.segments()}

    code, said, errors = doctor(filled.data)

    assert (code, said["health"], errors) == (0, "healthy", "")
    assert said["refusal"] is None and said["damage"] == [] and said["torn"] is None
    assert said["format_version"] == 1
    assert [os.path.basename(segment["file"]) for segment in said["segments"]] == [path.name for path in before]
    assert said["jobs"]["total"] == len(filled.jobs) and said["jobs"]["completed"] == 5
    assert said["queues"] == [{"name": "q", "depth": {k: v for k, v in said["jobs"].items() if k != "total"}}]
    assert 0 < said["live_bytes"] <= said["used_bytes"]
    assert {path: path.read_bytes() for path in filled.segments()} == before
    people = subprocess.run([BINARY, "doctor", filled.data], capture_output=True, text=True, timeout=60)
    assert people.returncode == 0 and "healthy" in people.stdout and "00000001.wal" in people.stdout
    code, said, _ = doctor(filled.data, "--repair")
    assert (code, said["repaired"]) == (0, None)
    assert {path: path.read_bytes() for path in filled.segments()} == before


def test_a_torn_tail_is_no_damage(filled):
    path = filled.segments()[-1]
    offset, _, size = frames(path)[-1]
    overwrite(path, offset + FRAME_HEADER + size // 2, b"\xff" * 8)

    code, said, _ = doctor(filled.data)

    assert (code, said["health"]) == (0, "torn")
    assert (said["torn"]["file"], said["torn"]["offset"]) == (str(path), offset)
    filled.start()
    filled.wait_for_log(path.name)


def test_garbage_behind_the_end_is_a_torn_tail(filled):
    path = filled.segments()[-1]
    offset, _, size = frames(path)[-1]
    end = offset + FRAME_HEADER + (size + 7) // 8 * 8
    overwrite(path, end, b"garbage!" * 100)

    code, said, _ = doctor(filled.data)

    assert (code, said["health"], said["torn"]["offset"]) == (0, "torn", end)
    assert said["jobs"]["total"] == len(filled.jobs)
    filled.start()
    assert audit(filled) == set()


def test_garbage_appended_to_a_file_harms_nobody(filled):
    path = filled.segments()[-1]
    with open(path, "ab") as file:
        file.write(b"garbage!" * 1000)

    code, said, _ = doctor(filled.data)

    assert (code, said["health"]) == (0, "healthy")


# ---- What is damaged.


def test_a_flipped_bit_in_a_batch_is_found_named_and_repaired(filled):
    path = filled.segments()[1]
    batches = [frame for frame in frames(path) if frame[1] == 0 and frame[2] > 100_000]
    offset, _, size = batches[1]
    flip(path, offset + FRAME_HEADER + size - 1_000)
    refused_by_the_server(filled)

    code, said, _ = doctor(filled.data)

    assert (code, said["health"]) == (1, "damaged")
    assert said["refusal"]["code"] == "log_corrupt"
    (damage,) = said["damage"]
    assert (damage["kind"], damage["file"], damage["offset"]) == ("payload", str(path), offset)
    assert (damage["batches_lost"], damage["jobs_lost"]) == (1, 3)
    lost = set(damage["job_ids"])
    assert len(lost) == 3 and lost <= set(filled.jobs)
    people = subprocess.run([BINARY, "doctor", filled.data], capture_output=True, text=True, timeout=60)
    assert people.returncode == 1
    assert all(text in people.stdout for text in [str(path), str(offset), *lost, "--repair"]), people.stdout

    repair(filled)
    assert audit(filled, lost) == lost
    api = filled.api(queue="q")
    assert all(api.state(id) == "completed" for id in filled.done if id not in lost)
    job = api.lease_one()
    api.complete(job)
    filled.restart()
    assert audit(filled, lost) == lost


def test_batches_of_jobs_that_are_lost_are_counted_and_named(start):
    server = start()
    api = server.api(queue="q")
    for id in "kept", "lost-one", "kept-too":
        api.call("POST", "/v1/batches", {"id": id, "on_finish": {"type": "over"}}, expect=201)
    server.kill()
    (path,) = server.segments()
    data = path.read_bytes()
    flip(path, data.index(b"over", data.index(b"lost-one")))  # In its callback's type: the rest of it can still be read.

    code, said, _ = doctor(server.data)

    (damage,) = said["damage"]
    assert (code, damage["job_batches_lost"], damage["job_batch_ids"]) == (1, 1, ["lost-one"])
    assert said["job_batches"] == 2
    people = subprocess.run([BINARY, "doctor", server.data], capture_output=True, text=True, timeout=60)
    assert "1 batch of jobs is lost" in people.stdout and "0 jobs, 2 batches of jobs" in people.stdout
    code, said, errors = doctor(server.data, "--repair")
    assert (code, said["repaired"]["job_batches"]) == (0, 2), errors
    server.start()
    assert [batch["id"] for batch in api.call("GET", "/v1/batches").json["items"]] == ["kept-too", "kept"]


def test_a_damaged_frame_header_costs_its_batch_only(filled):
    path = filled.segments()[0]
    offset, _, _ = [frame for frame in frames(path) if frame[1] == 0 and frame[2] > 100_000][1]
    flip(path, offset + 13)
    refused_by_the_server(filled)

    code, said, _ = doctor(filled.data)

    (damage,) = said["damage"]
    assert (code, damage["kind"], damage["offset"], damage["batches_lost"]) == (1, "frame", offset, 1)
    repair(filled)
    assert len(audit(filled, damage["job_ids"])) == 3


def test_an_ended_job_stays_ended_when_the_record_of_its_lease_is_lost(filled):
    path = filled.segments()[-1]
    needle = filled.done[0].encode()
    leases = [frame for frame in frames(path) if frame[1] == 0 and frame[2] < 10_000]
    completed = next(frame for frame in leases if needle in path.read_bytes()[frame[0] : frame[0] + 64 + frame[2]])
    before = [frame for frame in leases if frame[0] < completed[0]][-1]  # The batch of the leases.
    flip(path, before[0] + FRAME_HEADER + 5)

    said = repair(filled)

    assert said["contradictions"] > 0
    assert audit(filled) == set()
    api = filled.api(queue="q")
    assert all(api.state(id) == "completed" and api.job(id)["result"] == id for id in filled.done)


@pytest.mark.parametrize("which", [0, 1])
def test_a_missing_segment_is_named_and_the_rest_is_kept(filled, which):
    path = filled.segments()[which]
    held = [id for id, payload in filled.jobs.items() if payload.encode() in path.read_bytes()]
    path.unlink()

    code, said, _ = doctor(filled.data)

    assert (code, said["health"]) == (1, "damaged")
    assert [(damage["kind"], damage["file"]) for damage in said["damage"]] == [("missing_segment", str(path))]
    refused_by_the_server(filled)
    repair(filled)
    assert audit(filled, held) == set(held)


def test_a_file_cut_short_is_named_with_the_place_of_the_cut(filled):
    path = filled.segments()[0]
    offset, _, size = [frame for frame in frames(path) if frame[1] == 0 and frame[2] > 100_000][-2]
    held = [id for id, payload in filled.jobs.items() if payload.encode() in path.read_bytes()[offset:]]
    os.truncate(path, offset + FRAME_HEADER + size // 2)
    refused_by_the_server(filled)

    code, said, _ = doctor(filled.data)

    assert (code, said["damage"][0]["kind"], said["damage"][0]["offset"]) == (1, "frame", offset)
    assert said["damage"][0]["batches_lost"] >= 1
    repair(filled)
    assert audit(filled, held) == set(held)


def test_a_damaged_segment_header_costs_nothing(filled):
    path = filled.segments()[1]
    flip(path, 20)
    refused_by_the_server(filled)

    code, said, _ = doctor(filled.data)

    assert (code, [damage["kind"] for damage in said["damage"]]) == (1, ["segment_header"])
    assert said["batches_lost"] == 0
    repair(filled)
    assert audit(filled) == set()


def test_a_log_of_a_later_version_is_left_alone(filled):
    for path in filled.segments():
        overwrite(path, 8, struct.pack("<I", 2))
    before = {path: path.read_bytes() for path in filled.segments()}

    filled.spawn()
    assert filled.wait_for_exit() == 1
    assert "format version 2" in filled.log() and "log_version" in filled.log()
    code, said, _ = doctor(filled.data)
    assert (code, said["refusal"]["code"]) == (1, "log_version")
    code, _, errors = doctor(filled.data, "--repair")

    assert code == 1 and "log_version" in errors
    assert {path: path.read_bytes() for path in filled.segments()} == before


# ---- No log at all.


def test_an_empty_folder_has_no_log(tmp_path):
    code, said, _ = doctor(tmp_path)
    assert (code, said["health"]) == (1, "no_log")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_an_error(tmp_path):
    code, said, errors = doctor(tmp_path / "nowhere")
    assert (code, said) == (1, None)
    assert "nowhere" in errors


def test_files_of_others_are_no_log_and_stay_as_they_are(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "00000001.wal").write_bytes(b"this is no segment of anything, really" * 10)

    code, said, _ = doctor(tmp_path)
    assert (code, said["health"]) == (1, "damaged")
    assert said["damage"][0]["kind"] == "segment_header"


def test_a_folder_without_permission_is_an_error(filled):
    # A root for whom permissions count, too. Not another user: he may not even come as far as the program.
    powerless = ["setpriv", "--inh-caps=-all", "--bounding-set=-all"] if os.geteuid() == 0 else []
    filled.data.chmod(0)
    try:
        code, said, errors = doctor(filled.data, prefix=powerless)
        assert (code, said) == (1, None)
        assert "ermission" in errors
    finally:
        filled.data.chmod(0o750)


def test_a_folder_in_use_is_refused(start):
    server = start()
    for arguments in [], ["--repair"]:
        code, said, errors = doctor(server.data, *arguments)
        assert (code, said) == (1, None)
        assert "log_in_use" in errors and str(server.process.pid) in errors
    server.stop()
    assert doctor(server.data)[0] == 0


def test_a_repair_that_was_cut_short_is_finished(filled):
    flip(filled.segments()[1], 20)
    jobs = doctor(filled.data)[1]["jobs"]
    shutil.copytree(filled.data, filled.data.with_name("copy"))
    repair(filled)
    filled.stop()
    # As if the process had died when some of the damaged segments were out and none of the new ones in.
    whole, copy = filled.data, filled.data.with_name("copy")
    (copy / "repaired").mkdir()
    (copy / "damaged-before").mkdir()
    for path in whole.glob("*.wal"):
        shutil.copy(path, copy / "repaired" / path.name)
    (copy / "00000001.wal").rename(copy / "damaged-before" / "00000001.wal")
    filled.data = copy
    refused_by_the_server(filled)

    code, said, _ = doctor(copy, "--repair")

    assert code == 0
    assert said["jobs"]["total"] == jobs["total"]
    filled.start()
    assert audit(filled) == set()
