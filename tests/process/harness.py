"""What the process tests are made of: Server starts, stops and kills the real program; Api asks it over HTTP and holds
every answer against the conventions and the OpenAPI document; Raw speaks bytes. No test here sleeps and hopes:
eventually() waits for what must come, with a deadline.
"""

import contextlib
import json
import os
import pathlib
import random
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.parse

import jsonschema
import referencing
import referencing.jsonschema
import requests

ROOT = pathlib.Path(__file__).resolve().parents[2]
# More arguments for every server, such as WORKMILL_SERVE="--io-threads 2": to try all tests another way.
SERVE = os.environ.get("WORKMILL_SERVE", "").split()
BINARY = pathlib.Path(os.environ.get("WORKMILL_BIN", ROOT / "build/release/workmill")).resolve()
# Sanitizers make a build several times slower: deadlines have room for that. Nothing waits this long when all is well.
DEADLINE = 30.0

UNSET = object()
SANITIZER_REPORT = re.compile(r"(ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|: runtime error: ).*")


def eventually(check, what="", deadline=DEADLINE):
    """Calls `check` until it gives something true, and returns that. Fails with `what` after the deadline."""
    end = time.monotonic() + deadline
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"did not happen within {deadline} s: {what or check}")
        time.sleep(0.01)


# Which of the processes that share the tests this is (pytest -n), and the ports that are its own: a server that is
# started again must find its port as it left it.
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
PORTS_EACH = 2_500


def free_port():
    """A port nobody listens on, from below the range that outgoing connections are given."""
    first = 10_000 + WORKER % 8 * PORTS_EACH
    while True:
        port = random.SystemRandom().randrange(first, first + PORTS_EACH)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue


class Server:
    """One `workmill serve` on one data folder. Restarting keeps folder and port. stop_all() of the fixture ends it."""

    def __init__(self, data, *args, env=None):
        self.data = pathlib.Path(data)
        self.args = list(args)
        self.env = {**os.environ, **(env or {})}
        self.port = free_port()
        self.address = "127.0.0.1"  # That it listens on. It is asked at this one always.
        self.before_spawn = None  # Gives more of the environment for each start.
        self.prefix = []  # A command that runs it, such as in a namespace of its own.
        self.pass_fds = ()  # Descriptors that it inherits.
        self.process = None
        self.log_path = self.data.with_name(self.data.name + ".log")

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def api(self, **options):
        return Api(self.url, **options)

    def spawn(self):
        """Starts the process and does not wait for it."""
        assert self.process is None or self.process.poll() is not None, "still running"
        more = self.before_spawn() if self.before_spawn else {}
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, BINARY, "serve", "--data", self.data, "--listen", f"{self.address}:{self.port}"]
                + [*SERVE, *self.args],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**self.env, **more},
                pass_fds=self.pass_fds,
            )
        return self.process

    def start(self, ready=None):
        """Starts it and waits until it is ready: until /readyz says so, or ready() does."""
        for attempt in range(5):
            self.spawn()
            if self._wait_until_ready(ready or self._says_ready):
                return self
            # Somebody else may have taken the port since we looked.
            if attempt < 4 and "in use" in self.log() and "folder" not in self.log():
                self.port = free_port()
                continue
            break
        raise AssertionError(f"the server ended with {self.process.poll()} before it was ready:\n{self.log_tail()}")

    def _says_ready(self):
        try:
            return requests_session().get(self.url + "/readyz", timeout=5).status_code == 200
        except requests.RequestException:
            return False

    def _wait_until_ready(self, ready):
        try:
            eventually(lambda: self.process.poll() is not None or ready(), "the server is ready")
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self.log_tail()}") from None
        return self.process.poll() is None

    def wait_for_exit(self, deadline=DEADLINE):
        """The exit code of a server that is to end by itself."""
        try:
            code = self.process.wait(deadline)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the server still runs after {deadline} s:\n{self.log_tail()}") from None
        self.check_log()
        return code

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def stop(self):
        """SIGTERM. It must drain and exit with 0."""
        self.terminate()
        code = self.wait_for_exit()
        assert code == 0, f"exit code {code} after SIGTERM:\n{self.log_tail()}"

    def kill(self):
        """SIGKILL: no chance to say goodbye."""
        self.process.kill()
        self.process.wait()
        self.check_log()

    def restart(self):
        self.stop()
        return self.start()

    def running(self):
        return self.process is not None and self.process.poll() is None

    def log(self):
        """What it has said so far. A thread of its own writes the lines, so an answer may be here before the line of its
        request: a test that wants a line asks wait_for_log(), and one that counts lines, or wants none, final_log()."""
        try:
            return self.log_path.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def wait_for_log(self, text, count=1):
        """Waits until this text stands in the log so many times, and returns the log."""
        eventually(lambda: self.log().count(text) >= count, f"{text!r} stands {count} times in the log of {self.data}")
        return self.log()

    def final_log(self):
        """Stops it, and returns all that it has ever said."""
        if self.running():
            self.stop()
        return self.log()

    def log_tail(self, characters=6_000):
        return self.log()[-characters:]

    def check_log(self):
        """What a sanitizer had to say fails the test, even where the server went on."""
        report = SANITIZER_REPORT.search(self.log())
        assert report is None, f"{report.group(0)}\n{self.log()[report.start():][:8_000]}"

    def segments(self):
        return sorted(self.data.rglob("*.wal"))


def requests_session():
    """One for each thread; no proxies from the environment."""
    if not hasattr(_thread, "session"):
        _thread.session = requests.Session()
        _thread.session.trust_env = False
    return _thread.session


_thread = threading.local()


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def code(self):
        """The code of a problem."""
        return self.json["code"]

    def __repr__(self):
        return f"<{self.status} {dict(self.headers)} {self.body[:2_000]!r}>"


class Api:
    """Asks one server. Safe for several threads. Every answer is checked: see check_conventions and Document."""

    document = None  # The server's own OpenAPI document, once a server has been asked for it. One for all.
    documented_codes = None  # code → (class, status), from docs/reference/errors.md.

    def __init__(self, url, *, queue=None, checked=True, token=None):
        self.url, self.queue, self.checked, self.token = url, queue, checked, token

    def call(self, method, path, body=UNSET, *, query=None, headers=None, data=None, expect=None, timeout=60):
        if query:
            path += "?" + urllib.parse.urlencode(query)
        headers = dict(headers or {})
        if self.token is not None:
            headers.setdefault("Authorization", f"Bearer {self.token}")
        if body is not UNSET:
            data = json.dumps(body, ensure_ascii=False).encode()
        if data is not None:
            headers.setdefault("Content-Type", "application/json")
        got = requests_session().request(method, self.url + path, data=data, headers=headers, timeout=timeout)
        answer = Answer(got.status_code, got.headers, got.content)
        if self.checked:
            is_ofrep = path.startswith("/ofrep/") and answer.status in (400, 404)  # That protocol has its own errors.
            # Of the others machines look at their status only.
            if path.split("?")[0] not in ("/healthz", "/livez", "/readyz") and not is_ofrep:
                check_conventions(answer)
            if Api.document is not None:
                Api.document.check(method, path, answer)
        if expect is not None:
            wanted = expect if isinstance(expect, tuple) else (expect,)
            assert answer.status in wanted, f"{method} {path}: expected {expect}, got {answer}"
        return answer

    def get(self, path, **options):
        options.setdefault("expect", 200)
        return self.call("GET", path, **options).json

    def post(self, path, body, **options):
        options.setdefault("expect", (200, 201))
        return self.call("POST", path, body, **options).json

    def refused(self, method, path, body=UNSET, *, code, field=None, **options):
        """The call must be refused with this code. Returns the problem."""
        answer = self.call(method, path, body, **options)
        assert answer.status >= 400, f"{method} {path}: expected {code}, got {answer}"
        assert answer.code == code, f"{method} {path}: expected {code}, got {answer}"
        if field is not None:
            assert answer.json.get("field") == field, f"{method} {path}: expected the field {field}, got {answer}"
        return answer.json

    # ---- The calls that most tests make, in few words. `queue` is this test's own, unless told otherwise.
    def job_as_sent(self, fields):
        fields.setdefault("type", "test")
        if self.queue is not None:
            fields.setdefault("queue", self.queue)
        return fields

    def enqueue(self, *, headers=None, **fields):
        """{"id", "state", "duplicate"} of one job."""
        return self.post("/v1/jobs", self.job_as_sent(fields), headers=headers, expect=201)

    def enqueue_id(self, **fields):
        return self.enqueue(**fields)["id"]

    def enqueue_many(self, jobs):
        return self.post("/v1/jobs", {"jobs": [self.job_as_sent(dict(job)) for job in jobs]}, expect=201)["jobs"]

    def lease(self, max=1, **fields):
        """The leased jobs. `wait` is a text, like all durations."""
        fields.setdefault("queues", [self.queue])
        return self.post("/v1/leases", {"max": max, **fields}, expect=200)["jobs"]

    def lease_one(self, **fields):
        """Exactly one job, waited for."""
        fields.setdefault("wait", "20s")
        jobs = self.lease(**fields)
        assert len(jobs) == 1, f"no job came within {fields['wait']}"
        return jobs[0]

    def report(self, job, outcome, **fields):
        """The answer to one report about a leased job, {"id", "ok", …}."""
        reports = [{"id": job["id"], "lease": job["lease"], "outcome": outcome, **fields}]
        answers = self.post("/v1/reports", {"reports": reports}, expect=200)["reports"]
        assert len(answers) == 1 and answers[0]["id"] == job["id"], answers
        return answers[0]

    def report_ok(self, job, outcome, **fields):
        answer = self.report(job, outcome, **fields)
        assert answer["ok"] is True, answer
        return answer

    def complete(self, job, **fields):
        return self.report_ok(job, "completed", **fields)

    def fail(self, job, error_class="retryable", retry_in=None, **error):
        error = {"class": error_class, "code": "test_error", "message": "did not work", **error}
        return self.report_ok(job, "failed", error=error, **({"retry_in": retry_in} if retry_in else {}))

    def job(self, id, **query):
        return self.get(f"/v1/jobs/{id}", query=query or None)

    def state(self, id):
        return self.job(id)["state"]

    def exists(self, id):
        return self.call("GET", f"/v1/jobs/{id}", expect=(200, 404)).status == 200

    def jobs(self, **query):
        """All jobs that match, page by page."""
        items = []
        query = {"limit": 1000, **query}
        while True:
            page = self.get("/v1/jobs", query=query)
            items += page["items"]
            if page["next"] is None:
                return items
            query["cursor"] = page["next"]

    def depth(self, queue=None):
        return self.get(f"/v1/queues/{queue or self.queue}")["depth"]

    def settle(self):
        """What was sent to the server before this call has been read when it returns: it goes round its loop a few
        times for us."""
        for _ in range(5):
            requests_session().get(self.url + "/healthz", timeout=DEADLINE)


def lease_of(job):
    return {"id": job["id"], "lease": job["lease"]}


class Background:
    """Runs a call on a thread of its own; result() waits for it, and raises what it raised."""

    def __init__(self, function, *args, **named):
        self._outcome = None

        def run():
            try:
                self._outcome = (function(*args, **named), None)
            except BaseException as error:  # Handed to who asks for the result.
                self._outcome = (None, error)

        self._thread = threading.Thread(target=run, daemon=True)
        self._thread.start()

    def done(self):
        return not self._thread.is_alive()

    def result(self, deadline=DEADLINE):
        self._thread.join(deadline)
        assert self.done(), f"not done after {deadline} s"
        value, error = self._outcome
        if error is not None:
            raise error
        return value


# ---- What every answer must be like.


def check_conventions(answer):
    """Problems are RFC 9457 with our members; their code, class and status stand in docs/reference/errors.md."""
    content_type = answer.headers.get("Content-Type", "")
    if answer.status < 400:
        if answer.body and content_type.startswith("application/json"):
            json.loads(answer.body)
        return
    assert content_type.split(";")[0] == "application/problem+json", answer
    if answer.body == b"":  # HEAD.
        return
    check_problem(answer.json)
    assert answer.json["status"] == answer.status, answer
    if answer.json["class"] == "retryable":
        assert int(answer.headers["Retry-After"]) >= 0, answer


def check_problem(problem):
    """One problem, the body of an answer or a report's error."""
    assert problem["type"] == "/errors/" + problem["code"], problem
    assert problem["title"] and isinstance(problem["title"], str), problem
    assert problem["detail"] and isinstance(problem["detail"], str), problem
    assert re.fullmatch(r"[0-9a-f]{32}", problem["trace_id"]), problem
    if Api.documented_codes is None:
        Api.documented_codes = read_documented_codes()
    assert problem["code"] in Api.documented_codes, f"not in docs/reference/errors.md: {problem}"
    documented = Api.documented_codes[problem["code"]]
    if problem["code"] == "compute_failed":  # Its class is that of what a job has failed with.
        documented = (problem["cause"]["class"], documented[1])
    assert (problem["class"], problem["status"]) == documented, f"documented is {documented}: {problem}"


def read_documented_codes():
    """code → (class, HTTP status or None), as docs/reference/errors.md has them."""
    text = (ROOT / "docs/reference/errors.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (user|retryable|fatal) \| (\d+|none) \|", text, re.MULTILINE)
    assert rows, "docs/reference/errors.md has no table"
    return {code: (error_class, None if status == "none" else int(status)) for code, error_class, status in rows}


RFC3339_UTC_MS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
UUID_V7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def seconds_of(time_text):
    """Seconds since 1970 of a time as the server writes it."""
    import datetime

    assert RFC3339_UTC_MS.fullmatch(time_text), time_text
    return datetime.datetime.fromisoformat(time_text.replace("Z", "+00:00")).timestamp()


class Document:
    """The OpenAPI document, as a judge of answers."""

    def __init__(self, document):
        self.json = document
        resource = referencing.Resource.from_contents(
            document, default_specification=referencing.jsonschema.DRAFT202012
        )
        self._registry = referencing.Registry().with_resource("urn:openapi", resource)
        self._validators = {}
        self._paths = []
        for template, item in document["paths"].items():
            pattern = "".join(
                "[^/]+" if part.startswith("{") else re.escape(part) for part in re.split(r"(\{[^}]*\})", template)
            )
            self._paths.append((re.compile(pattern), template, item))
        self._paths.sort(key=lambda entry: "{" in entry[1])  # A literal path comes before a template.
        self.seen = set()  # (METHOD, template, status) of every answer checked.

    def operations(self):
        """(METHOD, template) of each operation."""
        methods = ("get", "put", "post", "delete", "patch", "head", "options")
        return {(method.upper(), template) for _, template, item in self._paths for method in methods if method in item}

    def check(self, method, path, answer):
        path = path.split("?")[0]
        match = next(((template, item) for pattern, template, item in self._paths if pattern.fullmatch(path)), None)
        if match is None or method.lower() not in match[1]:
            assert answer.status >= 400, f"{method} {path} works and is not documented: {answer}"
            return
        template, item = match
        responses = item[method.lower()]["responses"]
        status = str(answer.status)
        if status not in responses:
            status = status[0] + "XX" if status[0] + "XX" in responses else "default"
        assert status in responses, f"{method} {template}: {answer.status} is not documented: {answer}"
        self.seen.add((method, template, answer.status))
        pointer = ["paths", template, method.lower(), "responses", status]
        response = responses[status]
        while "$ref" in response:
            pointer = response["$ref"].removeprefix("#/").split("/")
            response = self.json
            for part in pointer:
                response = response[part.replace("~1", "/").replace("~0", "~")]
            pointer = [part.replace("~1", "/").replace("~0", "~") for part in pointer]
        content = response.get("content")
        if not content:
            assert not answer.body, f"{method} {template}: a body, where none is documented: {answer}"
            return
        if method == "HEAD":
            return
        media_type = answer.headers.get("Content-Type", "").split(";")[0]
        if media_type not in content and "*/*" in content:
            return
        assert media_type in content, f"{method} {template}: {media_type!r} is not documented: {answer}"
        if media_type.endswith("json") and "schema" in content[media_type]:
            self._validate([*pointer, "content", media_type, "schema"], answer.json)

    def _validate(self, pointer, value):
        where = "/".join(part.replace("~", "~0").replace("/", "~1") for part in pointer)
        if where not in self._validators:
            self._validators[where] = jsonschema.Draft202012Validator(
                {"$ref": "urn:openapi#/" + urllib.parse.quote(where, safe="/~")}, registry=self._registry
            )
        error = jsonschema.exceptions.best_match(self._validators[where].iter_errors(value))
        assert (
            error is None
        ), f"not as documented at {error.json_path}: {error.message}\nschema: {where}\nvalue: {value}"


# ---- Bytes on a socket, for what no client library would send.


class Raw:
    """One connection. Sends anything; reads answers one by one."""

    def __init__(self, port, deadline=DEADLINE, source=None):
        """`source`: the address to come from, such as 127.0.0.9."""
        self.socket = socket.create_connection(
            ("127.0.0.1", port), timeout=deadline, source_address=(source, 0) if source else None
        )
        self._buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)
        return self

    def finish_sending(self):
        with contextlib.suppress(OSError):  # It may have been closed from the other side already.
            self.socket.shutdown(socket.SHUT_WR)
        return self

    def _more(self):
        try:
            piece = self.socket.recv(65_536)
        except ConnectionResetError:
            piece = b""
        self._buffer += piece
        return bool(piece)

    def answer(self):
        """The next answer, or None where the server has closed the connection instead."""
        while b"\r\n\r\n" not in self._buffer:
            if not self._more():
                assert not self._buffer, f"half an answer: {self._buffer!r}"
                return None
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = requests.structures.CaseInsensitiveDict(
            (line.split(":", 1)[0], line.split(":", 1)[1].strip()) for line in lines
        )
        length = int(headers.get("Content-Length", 0))
        while len(self._buffer) < length:
            assert self._more(), "the connection ended in the middle of an answer"
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        answer = Answer(int(first.split()[1]), headers, body)
        if answer.status != 100:
            check_conventions(answer)
        return answer

    def closed(self):
        """Waits until the server has closed the connection; what it sends before is dropped."""
        while self._more():
            pass
        return True


def request_bytes(method, path, body=None, *, headers=()):
    """A well-formed request, to be spoilt by the test."""
    lines = [f"{method} {path} HTTP/1.1", "Host: test", *headers]
    if body is not None:
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        if not any(line.lower().startswith("content-type:") for line in lines):
            lines.append("Content-Type: application/json")
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b"")
