"""Folders that earlier versions have written are opened by this one, with everything that is in them. They and what must
be in them were made by tests/fixtures/make_data.py, and are not to be made again."""

import json
import struct
import subprocess
import tarfile

import pytest
from harness import BINARY, ROOT

FIXTURES = ROOT / "tests/fixtures/data-v1"
NAMES = sorted(path.name.removesuffix(".tar.xz") for path in FIXTURES.glob("*.tar.xz"))

# Kept for a time only, by the clock: a fixture is older. The doctor looks at the time of the log instead.
GONE_WITH_TIME = {"dead", "cancelled"}


@pytest.fixture(params=NAMES)
def old(request, tmp_path):
    """(a fresh copy of the folder, what must be in it)."""
    folder = tmp_path / "old"
    folder.mkdir()
    with tarfile.open(FIXTURES / f"{request.param}.tar.xz") as tar:
        tar.extractall(folder, filter="data") if hasattr(tarfile, "data_filter") else tar.extractall(folder)
    return folder, json.loads((FIXTURES / f"{request.param}.json").read_text())


def test_there_are_fixtures():
    assert NAMES


def test_the_doctor_finds_every_job_in_its_state(old):
    folder, page = old
    done = subprocess.run([BINARY, "doctor", "--json", folder], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert (said["health"], said["contradictions"]) == ("healthy", 0)
    found = {queue["name"]: queue["depth"] for queue in said["queues"] if any(queue["depth"].values())}
    # What a server had already forgotten may still stand in the log; never the other way round.
    for name, depth in page["queues"].items():
        if any(depth.values()) and name != "churn":
            assert found[name] == depth, name


def test_a_server_has_every_job_as_it_was(start, old):
    folder, page = old
    api = start("--segment-size", "1MiB", data=folder).api(checked=False)
    for name, before in page["jobs"].items():
        if name in GONE_WITH_TIME:
            continue
        now = api.job(before["id"])
        for field, value in before.items():
            if field == "lease_expires_at":
                continue  # Lengthened by the time that nobody was there.
            assert now[field] == value, (name, field)
    assert api.get("/v1/queues/paused")["paused"] is True
    lines = api.get(f"/v1/jobs/{page['jobs']['completed']['id']}/log")
    assert [line for line in json.dumps(lines).split('"') if "line" in line and " " in line] == [
        "first line",
        "second line",
    ]


def test_a_lease_of_then_still_holds(start, old):
    folder, page = old
    server = start(data=folder)
    api = server.api(checked=False)
    assert api.lease(max=1, queues=["leased"]) == []
    api.complete(page["lease"], result="late")
    assert api.job(page["lease"]["id"])["result"] == "late"
    server.kill()
    server.start()
    assert api.job(page["lease"]["id"])["state"] == "completed"


def test_keys_and_order_hold(start, old):
    folder, page = old
    api = start(data=folder).api(checked=False)
    again = api.enqueue(queue="unique", type="unique", unique={"key": "invoice-42"})
    assert (again["id"], again["duplicate"]) == (page["jobs"]["unique"]["id"], True)
    again = api.enqueue(queue="plain", type="bytes", id="an-id-of-its-own")
    assert again["duplicate"] is True
    got = [job["type"] for job in api.lease(max=10, queues=["order"])]
    assert got == ["urgent", "middle", "low"]


def test_a_backup_and_a_repair_of_then_hold_the_same(start, old, tmp_path):
    folder, page = old
    subprocess.run([BINARY, "backup", folder, tmp_path / "old.backup"], check=True, timeout=60)
    subprocess.run([BINARY, "restore", tmp_path / "old.backup", tmp_path / "restored"], check=True, timeout=60)
    api = start("--segment-size", "1MiB", data=tmp_path / "restored").api(checked=False)
    kept = [job["id"] for name, job in page["jobs"].items() if name not in GONE_WITH_TIME]
    assert all(api.exists(id) for id in kept)


def test_a_folder_of_a_later_version_is_refused(start, old):
    folder, _ = old
    newest = sorted(folder.glob("*.wal"))[0]
    with open(newest, "r+b") as file:
        file.seek(8)
        file.write(struct.pack("<I", 2))
    server = start(data=folder, run=False)
    server.spawn()
    assert server.wait_for_exit() == 1
    assert "log_version" in server.log() and "format version 2, and this program reads version 1" in server.log()
