"""Runs one scenario: what each kind of step does. README.md says what they mean."""

from __future__ import annotations

import concurrent.futures
import pathlib
import threading
import time
from typing import Any, Callable, Optional

from driver import ClientError, Driver
from match import difference, fill_in
from proxy import Proxy
from server import DEADLINE, Failed, Server

# Members of a step which are the runner's own, and not sent to a driver.
OURS = ("driver", "save", "expect", "fails", "eventually", "background")
WITH_CLIENT = ("enqueue", "bulk", "get", "wait", "cancel", "retry", "delete", "list", "queue", "pause", "resume") + (
    ("cache_get", "cache_put", "cache_compute", "cache_delete")
    + ("batch_create", "batch_close", "batch_get", "batch_list", "batch_delete")
)
EVENTUALLY = DEADLINE / 2
WAIT = f"{DEADLINE:.0f}s"


class Story:
    """One run of a scenario: its server, proxies and drivers. end() ends them all."""

    def __init__(self, binary: pathlib.Path, command: list, folder: pathlib.Path, scenario: dict, transport: str):
        self._command = command
        self._folder = folder
        self._scenario = scenario
        self._transport = transport
        self._names: dict = {"transport": transport, "tokens": {}}
        self._drivers: dict = {}
        self._proxies: dict = {}
        self._background: dict = {}
        self._pool = concurrent.futures.ThreadPoolExecutor(max_workers=64)
        self._server: Optional[Server] = None
        if transport != "embedded":
            self._server = self._make_server(binary, scenario.get("server", {}))

    def _make_server(self, binary: pathlib.Path, wanted: dict) -> Server:
        server = Server(binary, self._folder, wanted.get("settings", {}))
        for token in wanted.get("tokens", []):
            made = server.new_token(token["name"], token["scopes"], token.get("queues", []))
            self._names["tokens"][token["name"]] = made
        if wanted.get("started", True):
            server.start()
        return server

    def run(self) -> None:
        self._run_steps(self._scenario["steps"])

    def _run_steps(self, steps: list) -> None:
        for number, step in enumerate(steps, 1):
            try:
                self._run_step(step)
            except Failed as failed:
                raise Failed(f"step {number} ({step['do']}): {failed}") from None

    def end(self) -> str:
        """Ends all. Returns what server and drivers had to say. Raises Failed where a driver does not end as it
        must."""
        failed = None
        for driver in self._drivers.values():
            try:
                driver.end()
            except Failed as why:
                failed = why
        for proxy in self._proxies.values():
            proxy.close()
        if self._server is not None:
            self._server.end()
        self._pool.shutdown(wait=True)
        if failed is not None:
            raise failed
        said = [f"---- driver {name}:\n{driver.log_tail()}" for name, driver in self._drivers.items()]
        if self._server is not None:
            said.append(f"---- server:\n{self._server.log_tail()}")
        return "\n".join(said)

    # ---- Steps.

    def _run_step(self, step: dict) -> None:
        if step["do"] == "repeat":
            for number in range(1, step["times"] + 1):
                self._names["i"] = number
                self._run_steps(step["steps"])
            return
        if "background" in step:
            step = fill_in(step, self._names)  # Now: names may change before it runs.
            self._background[step["background"]] = self._pool.submit(self._do, step)
            return
        if step["do"] == "join":
            self._check(step, self._background.pop(step["of"]).result)
        elif step.get("eventually"):
            self._do_eventually(step)
        else:
            self._check(step, lambda: self._do(step))

    def _do_eventually(self, step: dict) -> None:
        end = time.monotonic() + EVENTUALLY
        while True:
            try:
                self._check(step, lambda: self._do(step))
                return
            except Failed:
                if time.monotonic() > end:
                    raise
            time.sleep(0.02)

    def _check(self, step: dict, act: Callable[[], Any]) -> None:
        try:
            answer = act()
        except ClientError as error:
            if "fails" not in step:
                raise Failed(f"it failed: {error}") from None
            found = difference(fill_in(step["fails"], self._names), error.error, "error")
            if found:
                raise Failed(found) from None
            answer = error.error
        else:
            if "fails" in step:
                raise Failed(f"it should fail, and answered {answer!r}")
            if "expect" in step:
                found = difference(fill_in(step["expect"], self._names), answer)
                if found:
                    raise Failed(found)
        if "save" in step:
            self._names[step["save"]] = answer

    def _do(self, step: dict) -> Any:
        special = getattr(self, f"_do_{step['do']}", None)
        # `job` of many is filled in job by job.
        several = {"job": step["job"]} if "job" in step and "count" in step else {}
        step = {**fill_in({key: value for key, value in step.items() if key not in several}, self._names), **several}
        if special is not None:
            return special(step)
        return self._command_driver(step)

    def _command_driver(self, step: dict) -> Any:
        command = {name: value for name, value in step.items() if name not in OURS}
        if step["do"] in WITH_CLIENT:
            command.setdefault("client", "main")
        if step["do"] == "wait":
            command.setdefault("for", WAIT)
        if step["do"] == "cache_compute":
            command.setdefault("wait", WAIT)
        if step["do"] in ("client", "worker"):
            command["url"] = self._url(step.get("url", "server"))
            command.setdefault("name", "main" if step["do"] == "client" else "w")
        if step["do"] == "worker":
            command.setdefault("transport", self._transport)
        if step["do"] == "stop":
            command.setdefault("worker", "w")
        return self._driver(step).call(command)

    def _driver(self, step: dict) -> Driver:
        name = step.get("driver", "a")
        if name not in self._drivers:
            self._drivers[name] = Driver(self._command, self._folder / f"driver-{name}.log")
        return self._drivers[name]

    def _url(self, name: str) -> str:
        if self._server is None:
            return f"embedded:{self._folder / 'data'}"
        if name.startswith("proxy:"):
            return f"http://127.0.0.1:{self._proxies[name[len('proxy:') :]].port}"
        return self._server.url if name == "server" else name

    def _do_event(self, step: dict) -> Any:
        for _ in range(step.get("times", 1)):
            event = self._driver(step).take_event(step["match"])
        return event

    def _do_no_event(self, step: dict) -> None:
        event = self._driver(step).has_event(step["match"])
        if event is not None:
            raise Failed(f"this came: {event}")

    def _do_kill_driver(self, step: dict) -> None:
        self._drivers.pop(step.get("driver", "a")).kill()

    def _do_signal_driver(self, step: dict) -> None:
        self._driver(step).signal(step["signal"])

    def _do_server(self, step: dict) -> None:
        assert self._server is not None
        time.sleep(step.get("after", 0))
        if step["op"] == "restart":
            self._server.stop()
            self._server.start()
        else:
            {
                "start": self._server.start,
                "kill": self._server.kill,
                "stop": self._server.stop,
                "pause": self._server.pause,
                "go_on": self._server.go_on,
            }[step["op"]]()

    def _do_http(self, step: dict) -> dict:
        assert self._server is not None
        return self._server.http(step["method"], step["path"], step.get("body"), step.get("token"))

    def _do_metric(self, step: dict) -> float:
        assert self._server is not None
        return self._server.metric(step["name"])

    def _do_proxy(self, step: dict) -> Any:
        name, op = step.get("name", "p"), step["op"]
        if op == "make":
            assert self._server is not None
            self._proxies[name] = Proxy(self._server.port)
            return None
        proxy = self._proxies[name]
        if op == "seen":
            return proxy.seen()
        if op == "cut":
            proxy.cut()
        elif op == "lose_answers":
            proxy.lose_answers(step["count"])
        elif op == "refuse":
            proxy.refuse(step["count"], step["status"], step.get("headers", {}), step["body"])
        elif op in ("pass", "silence", "block"):
            proxy.set_mode(op)
        else:
            raise ValueError(f"a proxy cannot {op}")
        return None

    def _do_many(self, step: dict) -> list:
        """The same command of a driver, so many times side by side."""
        with concurrent.futures.ThreadPoolExecutor(max_workers=step["times"]) as askers:
            asked = [askers.submit(self._command_driver, step["step"]) for _ in range(step["times"])]
            return [one.result() for one in asked]

    # ---- Many jobs.

    def _jobs(self, step: dict) -> list:
        prefix = {"id": f"{step['prefix']}$i"} if "prefix" in step else {}
        return [
            fill_in({**step["job"], **prefix}, {**self._names, "i": number}) for number in range(1, step["count"] + 1)
        ]

    def _do_bulk(self, step: dict) -> Any:
        if "count" not in step:
            return self._command_driver(step)
        command = {"do": "bulk", "client": step.get("client", "main"), "jobs": self._jobs(step)}
        return [job["id"] for job in self._driver(step).call(command)]

    def _do_enqueue_many(self, step: dict) -> list:
        return self._enqueue_all(step, self._jobs(step), lambda: None)

    def _enqueue_all(self, step: dict, jobs: list, acknowledged: Callable[[], None]) -> list:
        driver = self._driver(step)
        ids: list = [None] * len(jobs)
        waiting = iter(enumerate(jobs))
        taking = threading.Lock()

        def produce() -> None:
            while True:
                with taking:
                    number, job = next(waiting, (None, None))
                if job is None:
                    return
                answer = driver.call({"do": "enqueue", "client": step.get("client", "main"), "job": job})
                ids[number] = answer["id"]
                acknowledged()

        with concurrent.futures.ThreadPoolExecutor(max_workers=step.get("at_once", 16)) as producers:
            for done in [producers.submit(produce) for _ in range(step.get("at_once", 16))]:
                done.result()
        return ids

    def _do_wait_all(self, step: dict) -> None:
        state = step.get("state", "completed")
        for id in step["ids"]:
            command = {"do": "wait", "client": step.get("client", "main"), "id": id, "for": WAIT}
            job = self._driver(step).call(command)
            if job["state"] != state:
                raise Failed(f"the job {id} is {job['state']}, wanted {state}: {job}")

    def _do_chaos(self, step: dict) -> None:
        """Kill k comes when so many more calls were acknowledged: there is load at each, and no clock in it."""
        assert self._server is not None
        count, kills = step["jobs"], step["kills"]
        job = {"type": "script", "queue": "chaos", "max_attempts": 1000, "payload": {"do": [["echo"]], "data": "$i"}}
        jobs = self._jobs({"job": job, "count": count, "prefix": "chaos-"})
        progress = threading.Condition()
        acknowledged = 0
        is_over = False

        def one_more() -> None:
            nonlocal acknowledged
            with progress:
                acknowledged += 1
                progress.notify_all()

        def produce() -> list:
            nonlocal is_over
            try:
                return self._enqueue_all(step, jobs, one_more)
            finally:
                with progress:
                    is_over = True
                    progress.notify_all()

        producing = self._pool.submit(produce)
        for kill in range(1, kills + 1):
            with progress:
                wanted = kill * count // (kills + 1)
                while not is_over and acknowledged < wanted:
                    progress.wait()
            self._server.kill()
            self._server.start()
        ids = producing.result()
        self._do_wait_all({**step, "ids": ids})
        for number in range(1, count + 1):
            view = self._driver(step).call({"do": "get", "client": "main", "id": f"chaos-{number}"})
            if view["result"] != number:
                raise Failed(f"the result of chaos-{number} is {view['result']!r}")
        depth = self._server.http("GET", "/v1/queues/chaos")["body"]["depth"]
        left = {state: depth[state] for state in ("scheduled", "ready", "leased", "dead") if depth[state]}
        if left or depth["completed"] != count:
            raise Failed(f"the queue is not as it should be at the end: {depth}")
