"""Traces in tests: an exporter that keeps them, and a collector that takes OTLP over HTTP on loopback."""

import http.server
import itertools
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from midstream.monitoring.tracing import RequestTrace, SpanRecord, TraceHost, Tracing
from midstream.monitoring.tracing_options import TracingOptions
from tests.support.patience import PATIENCE_S

ALL = TracingOptions(endpoint="http://127.0.0.1:1/v1/traces", sample_ratio=1.0)


class KeptTraces:
    """A ``SpanExport`` that keeps what it gets."""

    def __init__(self) -> None:
        self.traces: list[RequestTrace] = []

    def submit(self, trace: RequestTrace) -> None:
        self.traces.append(trace)

    def only(self) -> RequestTrace:
        """Return the one trace, and forget it."""
        (found,) = self.traces
        self.traces.clear()
        return found


def tracing(export: Any, options: TracingOptions = ALL) -> Tracing:
    """Return traces whose ids count up."""
    numbers = itertools.count(1)
    entropy = lambda size: next(numbers).to_bytes(size, "big")  # noqa: E731  one line says it
    return Tracing(options, export, TraceHost(time.monotonic, time.time_ns, entropy))


def names(trace: RequestTrace) -> list[str]:
    """Return the names of a trace's spans, in the order of their begins."""
    return [each.name for each in sorted(trace.spans, key=lambda span: span.begin_s)]


def span(trace: RequestTrace, name: str) -> SpanRecord:
    """Return the one span of a name."""
    (found,) = [each for each in trace.spans if each.name == name]
    return found


@dataclass
class Collector:
    """What a collector was sent, and how it answers."""

    url: str = ""
    requests: list[Any] = field(default_factory=list)
    """Each an ``ExportTraceServiceRequest``."""
    headers: list[dict[str, str]] = field(default_factory=list)
    status: int = 200
    delay_s: float = 0.0
    came: threading.Event = field(default_factory=threading.Event)

    def spans(self) -> list[Any]:
        """Return all spans that came."""
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    def wait(self, count: int) -> list[Any]:
        """Return the spans once so many came."""
        until = time.monotonic() + PATIENCE_S
        while len(self.spans()) < count:
            assert time.monotonic() < until, f"{len(self.spans())} of {count} spans came"
            time.sleep(0.02)
        return self.spans()


@contextmanager
def collecting(path: str = "/v1/traces") -> Generator[Collector]:
    """Run a collector on a free port of loopback."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
        ExportTraceServiceRequest,
        ExportTraceServiceResponse,
    )

    kept = Collector()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            kept.headers.append({name.lower(): value for name, value in self.headers.items()})
            time.sleep(kept.delay_s)
            is_good = kept.status == 200 and self.path == path
            if is_good:
                assert self.headers["content-type"] == "application/x-protobuf"
                kept.requests.append(ExportTraceServiceRequest.FromString(body))
            kept.came.set()
            with suppress(ConnectionError):  # who sent it may have given up, and a later test's output is not for it
                self.send_response(kept.status)
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        kept.url = f"http://127.0.0.1:{server.server_address[1]}{path}"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield kept
        finally:
            server.shutdown()
            thread.join()
