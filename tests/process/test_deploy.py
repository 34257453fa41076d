"""What is shipped around the program: the example of a configuration, the units, the Debian package."""

import json
import os
import re
import shutil
import socket
import subprocess

import pytest

from harness import BINARY, DEADLINE, ROOT
from test_tls import Secure, make_certificate
from test_tokens import new_token


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


def in_the_container(instruction):
    """The words of an instruction of the container file, in its JSON form."""
    text = (ROOT / "deploy/Containerfile").read_text()
    return json.loads(re.search(rf"^{instruction}\b[^\[]*(\[.*\])$", text, re.MULTILINE).group(1))


def stages():
    """The container file: for each of its stages (the image that it is made from, its name, its instructions)."""
    text = (ROOT / "deploy/Containerfile").read_text()
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE).replace("\\\n", " ")
    found = []
    for line in text.splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            image, _, name = rest.partition(" AS ")
            found.append((image, name, []))
        elif word:
            found[-1][2].append((word, rest))
    return found


def test_what_the_container_is_made_of_is_there():
    (_, name, build), (_, _, image) = stages()
    assert ("COPY", ". .") in build and ("WORKDIR", "/src") in build
    commands = " && ".join(rest for word, rest in build if word == "RUN")
    for word, rest in image:
        if word == "COPY":
            origin, source, _ = rest.split()
            assert origin == f"--from={name}", "only what was built goes into the image"
            assert re.search(rf"{re.escape(source)}(?=\s|$)", commands), f"nothing makes {source}"
    named = re.findall(r"(?<![\w/])(?:\./)?((?:tools/)?(?:dev|package))(?= )", commands)
    assert {"dev", "tools/package"} <= set(named)
    for program in named:
        assert os.access(ROOT / program, os.X_OK), program
    # Where the image is made of a folder that was built in, none of that goes along.
    ignored = (ROOT / "deploy/Containerfile.dockerignore").read_text().split()
    assert {".git", "**/build", "**/node_modules"} <= set(ignored)
    for pattern in ignored:
        assert not (ROOT / "src").match(pattern) and not (ROOT / "tools").match(pattern), pattern


def test_the_program_of_the_container_runs_on_the_system_that_it_was_built_on():
    (built_on, _, _), (runs_on, _, _) = stages()
    assert built_on == runs_on
    # In full: podman and buildah may ask who is meant by less.
    assert re.fullmatch(r"docker\.io/library/debian:12(-slim)?", built_on), "./dev knows the packages of Debian 12"


def test_the_container_runs_as_somebody_to_whom_nothing_but_its_data_belongs():
    instructions = stages()[1][2]
    last = dict(instructions)
    user, data = last["USER"], last["VOLUME"]
    assert user not in ("root", "0")
    commands = " ".join(rest for word, rest in instructions if word == "RUN")
    assert re.search(rf"useradd [^&]*\b{user}\b", commands)
    assert re.findall(r"install -d -o (\w+) -g \w+ -m \d+ (\S+)", commands) == [(user, data)]
    assert "chown" not in commands
    command = in_the_container("CMD")
    assert command[command.index("--data") + 1] == data == last["WORKDIR"]
    assert command[command.index("--listen") + 1].endswith(":" + last["EXPOSE"])
    assert last["STOPSIGNAL"] == "SIGTERM", "which drains"
    # Made before the volume is declared: what comes behind it is lost.
    words = [word for word, _ in instructions]
    assert words.index("RUN") < words.index("USER") < words.index("VOLUME")


def test_the_container_starts_with_tokens_only(start, tmp_path):
    command, data = in_the_container("CMD"), tmp_path / "data"
    assert in_the_container("ENTRYPOINT") == ["workmill"]
    assert "--insecure" not in command and command[command.index("--listen") + 1] == "0.0.0.0:7330"
    rest = command[command.index("--listen") + 2 :]
    server = start(*rest, data=data, run=False)
    server.address = "0.0.0.0"
    server.spawn()
    assert server.wait_for_exit() == 2
    assert "workmill token new" in server.log()

    token = new_token(data, "ops", "read")

    server.start()
    assert server.api(token=token).call("GET", "/v1/queues").status == 200
    assert server.api().call("GET", "/v1/queues").status == 401


def check_health(port):
    command = in_the_container("HEALTHCHECK")
    assert command[0] == "workmill" and "127.0.0.1:7330" in command
    command = [BINARY, *(word.replace("7330", str(port)) for word in command[1:])]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)


def test_the_health_check_of_the_container_follows_the_server_and_needs_no_token(start, tmp_path):
    new_token(tmp_path / "data", "ops", "read")
    server = start(data=tmp_path / "data")
    done = check_health(server.port)
    assert (done.returncode, done.stdout) == (0, "ready\n"), done
    server.stop()
    assert check_health(server.port).returncode == 69
    server.args += ["--disk-reserve", "9000000GiB"]
    server.start(ready=lambda: check_health(server.port).returncode != 69)
    done = check_health(server.port)
    assert done.returncode == 1 and "disk" in done.stderr, done


def test_the_health_check_of_the_container_speaks_tls(start, tmp_path):
    secure = Secure(start, tmp_path)
    done = check_health(secure.port)
    assert (done.returncode, done.stdout) == (0, "ready\n"), done


def test_ping_believes_who_the_ca_file_vouches_for_where_there_is_one(start, tmp_path):
    secure = Secure(start, tmp_path)
    url = f"https://127.0.0.1:{secure.port}"
    other, _ = make_certificate(tmp_path, "other")
    for more, code in (([], 0), (["--ca-file", secure.certificate], 0), (["--ca-file", other], 69)):
        command = [BINARY, "ping", "--server", url, "--json", *more]
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
        assert done.returncode == code, done
        assert code != 0 or json.loads(done.stdout) == {"url": url, "ready": True}


def test_ping_says_of_somebody_else_that_he_is_none_of_ours():
    with socket.create_server(("127.0.0.1", 0)) as other:
        ping = subprocess.Popen(
            [BINARY, "ping", "--server", f"http://127.0.0.1:{other.getsockname()[1]}"], stderr=subprocess.PIPE, text=True
        )
        connection, _ = other.accept()
        with connection:
            connection.recv(4_096)
            connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            assert ping.wait(DEADLINE) == 1
        assert "is it a Workmill server" in ping.stderr.read()


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
