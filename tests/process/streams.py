"""Worker streams for the process tests, over a WebSocket library that is not ours."""

import json

import websockets
from websockets.sync.client import connect

from harness import DEADLINE


class Stream:
    """One stream. Messages that come out of turn are kept for whoever asks for them."""

    def __init__(self, server, token=None, tls=None, **options):
        """`tls`: the context, for a server that speaks it."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._connect = connect(
            f"{'wss' if tls else 'ws'}://127.0.0.1:{server.port}/v1/worker",
            ssl=tls,
            additional_headers=headers,
            proxy=None,
            compression=None,
            max_size=None,
            ping_interval=None,
            open_timeout=DEADLINE,
            close_timeout=DEADLINE,
            **options,
        )
        self.ws = self._connect.__enter__()
        self.waiting = []
        self.resume = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ws.close()

    def send(self, message):
        self.ws.send(message if isinstance(message, str) else json.dumps(message))

    def receive(self):
        message = json.loads(self.ws.recv(timeout=DEADLINE))
        assert len(message) == 1, message
        return next(iter(message.items()))

    def get(self, kind):
        """The next message of this kind."""
        for i, (name, content) in enumerate(self.waiting):
            if name == kind:
                del self.waiting[i]
                return content
        while True:
            name, content = self.receive()
            if name == kind:
                return content
            assert name != "error" or kind == "error", content
            self.waiting.append((name, content))

    def subscribe(self, queues, credit, **more):
        queues = [queues] if isinstance(queues, str) else queues
        self.send({"subscribe": {"queues": queues, "credit": credit, **more}})
        subscribed = self.get("subscribed")
        self.resume = subscribed["resume"]
        return subscribed

    def jobs(self, count):
        """As many jobs, of one message or several."""
        got = []
        while len(got) < count:
            got += self.get("jobs")
        assert len(got) == count, f"{len(got)} jobs instead of {count}"
        return got

    def report(self, jobs, outcome="completed", **more):
        self.send({"reports": [report_on(job, outcome, **more) for job in jobs]})

    def reported(self, jobs, outcome="completed", **more):
        self.report(jobs, outcome, **more)
        return self.get("reports")

    def closed(self):
        """Reads to the end, and answers the code of the close frame; nothing where none came."""
        try:
            while True:
                name, content = self.receive()
                self.waiting.append((name, content))
        except websockets.ConnectionClosed as closed:
            return closed.rcvd.code if closed.rcvd else None

    def refused(self):
        """The problem that the server ends it with, and the close code."""
        code = self.closed()
        errors = [content for name, content in self.waiting if name == "error"]
        assert len(errors) <= 1, errors
        return (errors[0] if errors else None), code

    def break_off(self):
        """The connection ends without a word."""
        self.ws.socket.shutdown(2)


def report_on(job, outcome="completed", **more):
    return {"id": job["id"], "lease": job["lease"], "outcome": outcome, **more}
