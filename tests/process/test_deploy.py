"""What is shipped around the program: the example of a configuration, the units, the Debian package."""

import re
import shutil
import subprocess

import pytest

from harness import BINARY, ROOT


def test_a_server_starts_with_the_configuration_that_is_shipped(start):
    # The harness says where data and port are: the command line goes over the file.
    server = start("--config", str(ROOT / "deploy/workmill.toml"))
    assert server.api().get("/v1/status")["readiness"] == "ready"
    server.stop()


def test_the_operations_page_names_only_files_that_are_there():
    text = (ROOT / "docs/operations.md").read_text()
    linked = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", text)
    named = re.findall(r"`((?:deploy|tests|docs)/[\w./]+)`", text)
    assert linked
    for name in linked:
        assert (ROOT / "docs" / name).exists(), name
    for name in named:
        assert (ROOT / name).exists(), name


@pytest.mark.slow
def test_the_debian_package_is_complete_and_its_program_runs(tmp_path):
    for tool in ("dpkg-deb", "dpkg-shlibdeps", "strip"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not here")
    made = subprocess.run(
        [ROOT / "tools/package", "--binary", BINARY, "--out", tmp_path], capture_output=True, text=True, timeout=100
    )
    assert made.returncode == 0, made.stderr
    package = made.stdout.strip()

    checked = subprocess.run([ROOT / "tools/package", "--check", package], capture_output=True, text=True, timeout=100)

    assert checked.returncode == 0, checked.stderr
    fields = subprocess.run(["dpkg-deb", "-f", package], capture_output=True, text=True, check=True).stdout
    assert "Package: workmill\n" in fields and "libssl" in fields and "adduser" in fields
    contents = subprocess.run(["dpkg-deb", "-c", package], capture_output=True, text=True, check=True).stdout
    assert re.search(r"-rwxr-xr-x root/root .* \./usr/bin/workmill$", contents, re.MULTILINE)
