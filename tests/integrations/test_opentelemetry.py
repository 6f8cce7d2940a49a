"""Exported traces: the library's spans, a collector that reads them, and one that is gone, slow or refuses."""

import asyncio
import http.server
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from midstream.core.durations import Duration
from midstream.engine.stores.online_store import StoreRefused
from midstream.integrations import opentelemetry
from midstream.integrations.model_servers.exchange import Call
from midstream.integrations.model_servers.grpc_transport import GrpcTransport
from midstream.integrations.model_servers.http_transport import HttpTransport
from midstream.integrations.model_servers.urls import url_of
from midstream.integrations.opentelemetry import OtlpExport, otlp_exporter
from midstream.monitoring.tracing import RequestTrace, entered
from midstream.monitoring.tracing_options import TracingOptions
from tests.support.libraries import library
from tests.support.patience import PATIENCE_S
from tests.support.traces import ALL, KeptTraces, collecting, tracing

PARENT = [(b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"), (b"tracestate", b"a=1")]


def finished(headers: list[tuple[bytes, bytes]] | None = None, status: int = 200) -> RequestTrace:
    """Return the trace of a request with one part."""
    kept = KeptTraces()
    made = tracing(kept)
    trace = made.begin(headers or [])
    assert trace is not None
    trace.attributes["midstream.placement"] = "home"
    trace.add("source popular", trace.began_s, trace.began_s + 0.25, {"midstream.items": 3}, "KeyError")
    made.end(trace, "POST", "/v1/recommendations", status)
    return kept.only()


@contextmanager
def exporting(exporter: object, options: TracingOptions = ALL) -> Generator[tuple[OtlpExport, Counter[str]]]:
    """Run an export; count what becomes of spans."""
    counts: Counter[str] = Counter()
    export = OtlpExport(exporter, options, lambda outcome, spans: counts.update({outcome: spans}), "1.2.3")
    export.start()
    try:
        yield export, counts
    finally:
        asyncio.run(export.stop())


def until(is_so: Callable[[], bool]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deliver at once."""
    monkeypatch.setattr(opentelemetry, "LINGER_S", 0.01)


def test_spans_are_those_of_the_library() -> None:
    """Ids, times, parents, kinds, attributes and status; the state of the caller goes with them."""
    memory = InMemorySpanExporter()
    with exporting(memory) as (export, counts):
        export.submit(trace := finished(PARENT, 500))
        until(lambda: counts["exported"] == 2)
    part, request = memory.get_finished_spans()
    assert (request.name, request.kind, part.kind) == ("POST /v1/recommendations", SpanKind.SERVER, SpanKind.INTERNAL)
    assert f"{request.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c" == f"{part.context.trace_id:032x}"
    assert request.parent is not None
    assert (f"{request.parent.span_id:016x}", request.parent.is_remote) == ("b7ad6b7169203331", True)
    assert part.parent is not None
    assert (part.parent.span_id, part.parent.is_remote) == (request.context.span_id, False)
    assert request.context.trace_state.get("a") == "1"
    assert (request.status.status_code, part.status.status_code) == (StatusCode.ERROR, StatusCode.ERROR)
    assert part.attributes == {"midstream.items": 3, "error.type": "KeyError"}
    assert request.attributes is not None
    assert request.attributes["midstream.placement"] == "home"
    assert request.attributes["http.response.status_code"] == 500
    assert part.start_time is not None
    assert part.end_time is not None
    assert abs(part.end_time - part.start_time - 250_000_000) < 1_000
    assert abs(part.start_time - time.time_ns()) < PATIENCE_S * 1_000_000_000
    assert request.resource.attributes["service.name"] == "midstream"
    assert request.resource.attributes["service.version"] == "1.2.3"
    assert trace.is_ended


def test_a_collector_reads_them() -> None:
    """As protobuf over HTTP, with the token; a request that began its trace has no parent."""
    with collecting() as collector:
        options = TracingOptions(endpoint=collector.url, service_name="shop", token_env="TOKEN")
        with exporting(otlp_exporter(options, {"TOKEN": "secret"}), options) as (export, counts):
            export.submit(finished())
            collector.wait(2)
            until(lambda: counts["exported"] == 2)
            assert export.concern() == ""
        part, request = collector.spans()
        assert (part.name, request.name) == ("source popular", "POST /v1/recommendations")
        assert request.parent_span_id == b""
        assert part.parent_span_id == request.span_id
        assert part.trace_id == request.trace_id
        resource = collector.requests[0].resource_spans[0].resource.attributes
        assert {each.key: each.value.string_value for each in resource}["service.name"] == "shop"
        assert collector.headers[0]["authorization"] == "Bearer secret"
    with pytest.raises(StoreRefused, match="NOWHERE"):
        otlp_exporter(TracingOptions(endpoint=collector.url, token_env="NOWHERE"), {})


@pytest.mark.parametrize("fault", ["gone", "refuses", "slow"])
def test_a_collector_that_does_not_take_them_costs_no_request(fault: str) -> None:
    """Handing over takes no time, spans are counted as failed or dropped, and health says why."""
    with collecting() as collector:
        collector.status, collector.delay_s = (503, 0.0) if fault == "refuses" else (200, 30.0)
        url = "http://127.0.0.1:9/v1/traces" if fault == "gone" else collector.url
        options = TracingOptions(endpoint=url, queue_max=4, timeout=Duration("300ms"))
        with exporting(otlp_exporter(options, {}), options) as (export, counts):
            traces = [finished() for _ in range(50)]
            began = time.monotonic()
            for each in traces:
                export.submit(each)
            assert time.monotonic() - began < 0.3 * len(traces) / 2, "each would wait for the time-out"
            assert counts["dropped"] >= 2
            until(lambda: counts["failed"] >= 2)
            assert "took no spans" in export.concern()
            assert counts["exported"] == 0
    assert counts["failed"] + counts["dropped"] == 100


def test_a_queue_is_bounded_while_nothing_is_delivered() -> None:
    """Further traces are dropped; those that wait come once the exporter goes on."""
    goes_on = threading.Event()

    class Waiting(InMemorySpanExporter):
        def export(self, spans):
            goes_on.wait(PATIENCE_S)
            return super().export(spans)

    memory = Waiting()
    options = TracingOptions(endpoint=ALL.endpoint, queue_max=3)
    with exporting(memory, options) as (export, counts):
        export.submit(finished())
        until(lambda: not export._queue)
        for _ in range(5):
            export.submit(finished())
        assert (counts["dropped"], len(export._queue)) == (4, 3)
        goes_on.set()
        until(lambda: counts["exported"] == 8)
    assert len(memory.get_finished_spans()) == 8


def test_a_stop_delivers_what_is_queued_and_takes_no_more() -> None:
    """Within its time."""
    memory = InMemorySpanExporter()
    with exporting(memory) as (export, counts):
        for _ in range(100):
            export.submit(finished())
    assert (counts["exported"], len(memory.get_finished_spans())) == (200, 200)
    export.submit(finished())
    assert counts["dropped"] == 2


def test_the_thread_and_the_end_take_from_one_queue() -> None:
    """A queue that another thread empties between two looks at it."""
    export = OtlpExport(InMemorySpanExporter(), ALL, lambda *_: None, "1.2.3")
    export.submit(finished())

    class Emptied(deque[RequestTrace]):
        def __len__(self) -> int:
            return super().__len__() + 1  # the length before the other thread took one

    export._queue = Emptied(export._queue)
    assert len(export._taken(9)) == 1
    assert export._taken(9) == []


def test_a_stop_waits_for_no_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does not answer does not hold up the end of the process."""
    monkeypatch.setattr(opentelemetry, "STOP_S_MAX", 0.2)
    with collecting() as collector:
        collector.delay_s = 3.0
        options = TracingOptions(endpoint=collector.url, timeout=Duration("1m"))
        with exporting(otlp_exporter(options, {}), options) as (export, _):
            export.submit(finished())
            until(lambda: not export._queue)
            began = time.monotonic()
        assert time.monotonic() - began < 2.0


def test_a_call_to_a_model_server_goes_on_with_the_trace() -> None:
    """Its header names the span of the call; without a trace there is none."""
    told: list[str | None] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            told.append(self.headers["traceparent"])
            self.send_response(200)
            self.send_header("content-length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    async def calls(port: int) -> RequestTrace:
        transport = HttpTransport(url_of(f"http://127.0.0.1:{port}"), None, None)
        trace = tracing(KeptTraces()).begin(PARENT)
        assert trace is not None
        await transport.send(Call("/score", b"{}"))
        leave = entered(trace)
        await transport.send(Call("/score", b"{}"))
        leave()
        await transport.send(Call("/score", b"{}"))
        await transport.close()
        return trace

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        trace = asyncio.run(calls(server.server_address[1]))
        server.shutdown()
    (call,) = trace.spans
    assert told == [None, f"00-0af7651916cd43dd8448eb211c80319c-{call.span_id:016x}-01", None]
    assert (call.name, call.kind, call.parent_id) == ("model server", "client", trace.span_id)


def test_a_call_over_grpc_goes_on_with_the_trace() -> None:
    """In its metadata, beside the token."""
    grpc_aio = library("grpc.aio")
    grpc = library("grpc")
    told: list[dict[str, str]] = []

    async def answer(request: bytes, context: Any) -> bytes:
        told.append(dict(context.invocation_metadata()))
        return request

    handler = grpc.method_handlers_generic_handler("s", {"Score": grpc.unary_unary_rpc_method_handler(answer)})

    async def calls() -> RequestTrace:
        server = grpc_aio.server()
        server.add_generic_rpc_handlers((handler,))
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        transport = GrpcTransport(f"dns:///127.0.0.1:{port}", 30.0, "secret").plain()
        trace = tracing(KeptTraces()).begin(PARENT)
        assert trace is not None
        await transport.send(Call("/s/Score", b"x"))
        leave = entered(trace)
        assert (await transport.send(Call("/s/Score", b"x"))).body == b"x"
        leave()
        await transport.close()
        await server.stop(None)
        return trace

    trace = asyncio.run(calls())
    (call,) = trace.spans
    assert [each.get("traceparent") for each in told] == [None, trace.header(call.span_id)]
    assert [each["authorization"] for each in told] == ["Bearer secret"] * 2
    assert call.attributes["server.address"] == "127.0.0.1"
