"""A receiver of traces, as OpenTelemetry's protocol has it over HTTP: every body is held against the protocol's own
definition (package opentelemetry-proto), and can be refused in every way."""

import base64
import http.server
import json
import threading

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


def parsed(body):
    """The request as protobuf understands it. Its JSON has ids in base64, OTLP's has them in hex: all else is the same."""
    document = json.loads(body)
    for span in spans_of(document):
        for owner in (span, *span.get("links", [])):
            for key in ("traceId", "spanId", "parentSpanId"):
                if key in owner:
                    owner[key] = base64.b64encode(bytes.fromhex(owner[key])).decode()
    return json_format.ParseDict(document, ExportTraceServiceRequest())


def spans_of(document):
    return [
        span
        for resource in document["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]


class Span:
    """One span in Python's terms."""

    def __init__(self, json_span, resource):
        self.json, self.resource = json_span, resource
        self.name, self.kind = json_span["name"], json_span["kind"]
        self.trace, self.id, self.parent = json_span["traceId"], json_span["spanId"], json_span.get("parentSpanId")
        self.start, self.end = int(json_span["startTimeUnixNano"]), int(json_span["endTimeUnixNano"])
        self.failed = json_span.get("status", {}).get("code") == 2
        self.links = json_span.get("links", [])
        self.attributes = attributes_of(json_span)

    def __repr__(self):
        return f"<{self.name} {self.attributes}>"


def attributes_of(owner):
    def value(it):
        (kind, content), = it.items()
        return int(content) if kind == "intValue" else content

    return {each["key"]: value(each["value"]) for each in owner.get("attributes", [])}


class Receiver:
    """Listens on a free port. `answers` are given one after another, (status, headers, body); then 200s."""

    def __init__(self):
        self._lock = threading.Lock()
        self._bodies, self.requests, self.answers, self.faults = [], [], [], []
        self.gate = threading.Event()  # Answers wait until it is set.
        self.gate.set()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with receiver._lock:
                    receiver.requests.append((self.path, dict(self.headers), self.client_address))
                    status, headers, reply = receiver.answers.pop(0) if receiver.answers else (200, {}, b"{}")
                try:
                    parsed(body)
                except Exception as fault:  # Told to the test, which runs on another thread.
                    receiver.faults.append(fault)
                receiver.gate.wait(60)
                if status == 200:
                    with receiver._lock:
                        receiver._bodies.append(json.loads(body))
                try:
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Type", "application/json")
                    self.send_header("Content-Length", str(len(reply)))
                    self.end_headers()
                    self.wfile.write(reply)
                except OSError:
                    pass  # The server did not wait for it.

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def spans(self):
        """All that was accepted."""
        assert not self.faults, self.faults
        with self._lock:
            bodies = list(self._bodies)
        return [
            Span(span, attributes_of(resource["resource"]))
            for body in bodies
            for resource in body["resourceSpans"]
            for scope in resource["scopeSpans"]
            for span in scope["spans"]
        ]

    def spans_called(self, name):
        return [span for span in self.spans() if span.name == name]

    def close(self):
        self.gate.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
