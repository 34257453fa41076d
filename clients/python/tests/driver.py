"""The driver of this client for the shared suite in clients/conformance: see the README there.

usage: driver.py [--async]   with Client and Worker, or with AsyncClient and AsyncWorker
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import pathlib
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

import workmill  # noqa: E402

IS_ASYNC = "--async" in sys.argv
CLASSES = {"retryable": workmill.RetryableError, "user": workmill.UserError, "fatal": workmill.FatalError}
CAN = ["http", "stream", "signals", "checkpoint", "cache", "batches"]

_writing = threading.Lock()


def write(message: dict) -> None:
    # In one piece, so that a line is whole whoever else writes.
    data = (json.dumps(message, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")
    with _writing:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


def event(what: str, **more: object) -> None:
    write({"event": what, **more})


def described(error: workmill.WorkmillError) -> dict:
    about = {"class": error.error_class, "code": error.code, "message": error.message}
    about.update({name: getattr(error, name) for name in ("field", "trace_id") if getattr(error, name) is not None})
    if isinstance(error, workmill.CachePending):
        about.update(job_id=error.job_id, state=error.state)
    return about


def cached(answer: object) -> object:
    if not isinstance(answer, workmill.Cached):
        return answer
    about = {name: getattr(answer, name) for name in ("fresh", "age", "etag", "content_type", "computed")}
    is_bytes = isinstance(answer.value, bytes)
    value = {"value_base64": base64.b64encode(answer.value).decode()} if is_bytes else {"value": answer.value}
    return {**about, **value}


def cache_call(command: dict) -> tuple:
    """The method of the client's cache, and what it is given."""
    do = command["do"]
    options = {name: command[name] for name in ("fresh", "stale", "wait", "error_for", "tags") if name in command}
    if do == "cache_put":
        return "put", (command["key"], value_of(command)), options
    if do == "cache_compute":
        return "get_or_compute", (command["key"], command["job"]), options
    if do == "cache_get":
        return "get", (command["key"],), {}
    for name in ("tag", "prefix"):
        if name in command:
            return f"delete_by_{name}", (command[name],), {}
    return "delete", (command["key"],), {}


def batch_call(command: dict) -> tuple:
    """The same for its batches, but for their list."""
    method = command["do"][len("batch_") :]
    if method == "create":
        return method, (), {**command["batch"], "idempotency_key": command.get("idempotency_key")}
    return method, (command["id"],), {}


def value_of(command: dict) -> object:
    return base64.b64decode(command["value_base64"]) if "value_base64" in command else command["value"]


def enqueued(answer: workmill.Enqueued) -> dict:
    return {"id": answer.id, "state": answer.state, "duplicate": answer.duplicate}


def retry_policy(options: dict) -> workmill.RetryPolicy:
    return workmill.RetryPolicy(**options.get("retry", {}))


def client_options(command: dict) -> dict:
    options = {"token": command.get("token"), "retry": retry_policy(command)}
    if "request_timeout" in command:
        options["timeout"] = command["request_timeout"]
    return options


def worker_options(command: dict) -> dict:
    options = {"url": command["url"], "token": command.get("token"), "transport": command["transport"]}
    options.update({name: command[name] for name in ("concurrency", "lease") if name in command})
    options["name"] = command.get("worker")
    return options


class Step:
    """What the synchronous and the asynchronous handler share: all actions that do not wait."""

    def __init__(self, worker: str, ctx: workmill.JobContext):
        self.worker, self.ctx = worker, ctx
        self.result = None

    def about(self) -> dict:
        return {"worker": self.worker, "id": self.ctx.id, "attempt": self.ctx.attempt}

    def ends(self, action: list) -> bool:
        """Does the action; whether the handler is over."""
        name, arguments, ctx = action[0], action[1:], self.ctx
        if name == "return":
            self.result = arguments[0]
        elif name == "echo":
            self.result = ctx.payload.get("data")
        elif name == "return_long":
            self.result = "x" * arguments[0]
        elif name == "return_attempt":
            self.result = ctx.attempt
        elif name == "return_batch":
            if ctx.batch is None:
                return False
            self.result = ctx.batch
        elif name == "return_checkpoint":
            if ctx.last_checkpoint is None:
                return False
            self.result = ctx.last_checkpoint
        elif name == "fail_until":
            if ctx.attempt < arguments[0]:
                raise LookupError("as the script says")
            return False
        elif name == "throw":
            how = arguments[0]
            raise CLASSES[how["class"]](how["message"], code=how["code"], retry_in=how.get("retry_in"))
        elif name == "throw_long":
            raise workmill.RetryableError("x" * arguments[0], code="long")
        elif name == "progress_long":
            ctx.progress(50, "x" * arguments[0])
            return False
        elif name == "progress":
            ctx.progress(*arguments)
            return False
        elif name == "log":
            ctx.log(*arguments)
            return False
        elif name == "cache":
            entry = arguments[0]
            options = {name: entry[name] for name in ("fresh", "stale", "tags") if name in entry}
            ctx.cache(entry["key"], value_of(entry), **options)
            return False
        else:
            raise ValueError(f"no such action: {name}")
        return True

    def holds(self, action: list) -> bool:
        return action[0] == "hold" or (action[0] == "hold_first" and self.ctx.attempt == 1)


# ---- Client and Worker.


class Sync:
    def __init__(self) -> None:
        self.clients: dict = {}
        self.workers: dict = {}
        self.gates: dict = {}
        self.lock = threading.Lock()

    def gate(self, name: str) -> threading.Event:
        with self.lock:
            return self.gates.setdefault(name, threading.Event())

    def handle(self, worker: str, ctx: workmill.JobContext) -> object:
        step = Step(worker, ctx)
        event("started", type=ctx.type, **step.about())
        how = "raised"
        try:
            for action in ctx.payload["do"]:
                if step.holds(action):
                    gate = self.gate(action[1])
                    while not gate.wait(0.01):
                        ctx.check()
                elif action[0] == "hold_first":
                    continue
                elif action[0] == "checkpoint":
                    ctx.checkpoint(action[1])
                    event("checkpointed", worker=worker, id=ctx.id)
                elif step.ends(action):
                    break
            how = "returned"
            return step.result
        except workmill.Cancelled:
            how = "cancelled"
            raise
        finally:
            event("ended", how=how, **step.about())

    def do_client(self, command: dict) -> None:
        self.clients[command["name"]] = workmill.Client(command["url"], **client_options(command))

    def do_worker(self, command: dict) -> None:
        name = command["name"]
        worker = workmill.Worker(command["queues"], **worker_options(command))
        for type in command.get("types", ["script"]):
            worker.job(type)(lambda ctx: self.handle(name, ctx))
        self.workers[name] = worker
        if command.get("signals"):
            # Only the main thread has signals: it runs the worker, and goes on reading no more.
            main_thread_work.append((name, worker))
            main_thread_wakeup.set()
            return
        worker.start()
        threading.Thread(target=self.watch, args=(name, worker), daemon=True).start()

    @staticmethod
    def watch(name: str, worker: workmill.Worker, run: object = None) -> None:
        try:
            worker.join() if run is None else run()
            event("stopped", worker=name)
        except workmill.WorkmillError as error:
            event("stopped", worker=name, error=described(error))
        except BaseException as error:
            logging.exception("bug")
            event("bug", text=repr(error))

    def do_stop(self, command: dict) -> None:
        worker = self.workers[command["worker"]]
        thread = worker._thread
        worker.drain(command.get("timeout"))
        if thread is not None:
            thread.join()

    def do_open(self, command: dict) -> None:
        self.gate(command["gate"]).set()

    def call(self, command: dict) -> object:
        special = getattr(self, f"do_{command['do']}", None)
        if special is not None:
            return special(command)
        client, do, id = self.clients[command["client"]], command["do"], command.get("id")
        if do == "enqueue":
            return enqueued(client.enqueue_job(command["job"], idempotency_key=command.get("idempotency_key")))
        if do == "bulk":
            return [enqueued(answer) for answer in client.enqueue_many(command["jobs"])]
        if do == "get":
            return client.get(id).raw
        if do == "wait":
            return client.wait(id, command["for"]).raw
        if do in ("cancel", "retry", "delete"):
            return getattr(client, do)(id)
        if do == "list":
            return [job.id for job in client.jobs(page=command["page"], **command["filter"])]
        if do == "queue":
            return client.queue(command["name"]).raw
        if do in ("pause", "resume"):
            getattr(client, do)(command["name"])
            return None
        if do.startswith("cache_"):
            method, arguments, options = cache_call(command)
            return cached(getattr(client.cache, method)(*arguments, **options))
        if do == "batch_list":
            return [batch.id for batch in client.batches.list(state=command.get("state"), page=command["page"])]
        if do.startswith("batch_"):
            method, arguments, options = batch_call(command)
            batch = getattr(client.batches, method)(*arguments, **options)
            return None if batch is None else batch.raw
        raise ValueError(f"no such command: {do}")


main_thread_work: list = []
main_thread_wakeup = threading.Event()


def answer_with(command: dict, work: object) -> None:
    try:
        write({"n": command["n"], "ok": work(command)})
    except workmill.WorkmillError as error:
        write({"n": command["n"], "error": described(error)})
    except Exception as error:
        logging.exception("bug")
        write({"n": command["n"], "bug": repr(error)})


def hello(_: dict) -> dict:
    return {"client": "python-async" if IS_ASYNC else "python", "can": CAN}


def run_sync() -> None:
    driver = Sync()
    pool = ThreadPoolExecutor(max_workers=64)

    def read() -> None:
        for line in sys.stdin:
            command = json.loads(line)
            # Clients and workers are made in the order of the commands.
            work = hello if command["do"] == "hello" else driver.call
            pool.submit(answer_with, command, work)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    while True:
        main_thread_wakeup.wait()
        main_thread_wakeup.clear()
        while main_thread_work:
            name, worker = main_thread_work.pop(0)
            Sync.watch(name, worker, worker.run)


# ---- AsyncClient and AsyncWorker.


class Async:
    def __init__(self) -> None:
        self.clients: dict = {}
        self.workers: dict = {}
        self.gates: dict = {}
        self.tasks: set = set()

    def gate(self, name: str) -> asyncio.Event:
        return self.gates.setdefault(name, asyncio.Event())

    def spawn(self, work: object) -> None:
        task = asyncio.ensure_future(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def handle(self, worker: str, ctx: workmill.AsyncJobContext) -> object:
        step = Step(worker, ctx)
        event("started", type=ctx.type, **step.about())
        how = "raised"
        try:
            for action in ctx.payload["do"]:
                if step.holds(action):
                    await self.gate(action[1]).wait()
                elif action[0] == "hold_first":
                    continue
                elif action[0] == "checkpoint":
                    await ctx.checkpoint(action[1])
                    event("checkpointed", worker=worker, id=ctx.id)
                elif step.ends(action):
                    break
            how = "returned"
            return step.result
        except asyncio.CancelledError:
            how = "cancelled"
            raise
        finally:
            event("ended", how=how, **step.about())

    async def run_worker(self, name: str, worker: workmill.AsyncWorker, handle_signals: bool) -> None:
        try:
            await worker.run(handle_signals=handle_signals)
            event("stopped", worker=name)
        except workmill.WorkmillError as error:
            event("stopped", worker=name, error=described(error))
        except Exception as error:
            logging.exception("bug")
            event("bug", text=repr(error))

    async def call(self, command: dict) -> object:
        do, id = command["do"], command.get("id")
        if do == "client":
            self.clients[command["name"]] = workmill.AsyncClient(command["url"], **client_options(command))
            return None
        if do == "worker":
            name = command["name"]
            worker = self.workers[name] = workmill.AsyncWorker(command["queues"], **worker_options(command))

            async def handle(ctx: workmill.AsyncJobContext) -> object:
                return await self.handle(name, ctx)

            for type in command.get("types", ["script"]):
                worker.job(type)(handle)
            self.spawn(self.run_worker(name, worker, bool(command.get("signals"))))
            await asyncio.sleep(0)  # It runs now.
            return None
        if do == "stop":
            return await self.workers[command["worker"]].stop(command.get("timeout"))
        if do == "open":
            return self.gate(command["gate"]).set()
        client = self.clients[command["client"]]
        if do == "enqueue":
            return enqueued(await client.enqueue_job(command["job"], idempotency_key=command.get("idempotency_key")))
        if do == "bulk":
            return [enqueued(answer) for answer in await client.enqueue_many(command["jobs"])]
        if do == "get":
            return (await client.get(id)).raw
        if do == "wait":
            return (await client.wait(id, command["for"])).raw
        if do in ("cancel", "retry", "delete"):
            return await getattr(client, do)(id)
        if do == "list":
            return [job.id async for job in client.jobs(page=command["page"], **command["filter"])]
        if do == "queue":
            return (await client.queue(command["name"])).raw
        if do in ("pause", "resume"):
            await getattr(client, do)(command["name"])
            return None
        if do.startswith("cache_"):
            method, arguments, options = cache_call(command)
            return cached(await getattr(client.cache, method)(*arguments, **options))
        if do == "batch_list":
            pages = client.batches.list(state=command.get("state"), page=command["page"])
            return [batch.id async for batch in pages]
        if do.startswith("batch_"):
            method, arguments, options = batch_call(command)
            batch = await getattr(client.batches, method)(*arguments, **options)
            return None if batch is None else batch.raw
        raise ValueError(f"no such command: {do}")

    async def answer(self, command: dict) -> None:
        if command["do"] == "hello":
            return answer_with(command, hello)
        try:
            ok = await self.call(command)
            write({"n": command["n"], "ok": ok})
        except workmill.WorkmillError as error:
            write({"n": command["n"], "error": described(error)})
        except Exception as error:
            logging.exception("bug")
            write({"n": command["n"], "bug": repr(error)})


async def run_async() -> None:
    driver = Async()
    loop = asyncio.get_running_loop()

    def read() -> None:
        for line in sys.stdin:
            loop.call_soon_threadsafe(lambda command: driver.spawn(driver.answer(command)), json.loads(line))
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    asyncio.run(run_async()) if IS_ASYNC else run_sync()
