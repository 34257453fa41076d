"""What README.md tells a newcomer to paste works as pasted."""

import json
import os
import re
import shutil
import subprocess

import pytest

from harness import BINARY, DEADLINE, ROOT


def commands(word):
    """The shell examples of the README that have this word in them, in order."""
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    found = [block for block in blocks if word in block]
    assert found, word
    return found


def paste(block, server, folder):
    block = block.replace("localhost:7330", f"localhost:{server.port}").replace("build/release/workmill", str(BINARY))
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env={**os.environ, "WORKMILL_URL": server.url},
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("jq")), reason="needs curl and jq")
def test_the_life_of_a_job_with_curl(start, tmp_path):
    server = start()
    send, lease, report, look = commands("curl -s localhost:7330/v1")

    id = json.loads(paste(send, server, tmp_path))["id"]
    assert json.loads(paste(lease, server, tmp_path))["jobs"][0]["id"] == id
    assert json.loads(paste(report, server, tmp_path))["reports"] == [{"id": id, "ok": True}]
    job = json.loads(paste(look, server, tmp_path))

    assert (job["id"], job["state"]) == (id, "completed")
    assert job["result"].startswith("Hello")


def test_a_worker_that_is_a_command(start, tmp_path):
    server = start()
    (example,) = commands("workmill enqueue")

    paste(example, server, tmp_path)

    (job,) = server.api().jobs(queue="demo")
    assert job["state"] == "completed"
    assert "HELLO" in json.dumps(job["result"])
