"""Exporter of traces to an OpenTelemetry collector: OTLP over HTTP, by a thread with a bounded queue.

The thread of the event loop appends a finished trace to a queue and goes on. A daemon thread makes the library's spans
of it and delivers them; a collector that is gone, slow or answers with errors costs deliveries, which are counted, and
no request any time.

Reference: OpenTelemetry Protocol Specification 1.x, section OTLP/HTTP.
"""

import asyncio
import os
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any, Final, Literal, TypeAlias

from midstream.core.errors import ExtraMissing
from midstream.engine.stores.online_store import StoreRefused
from midstream.monitoring.tracing import NS, RequestTrace, SpanRecord
from midstream.monitoring.tracing_options import TracingOptions

BATCH_TRACES_MAX: Final = 64
"""Of one delivery: 64 traces of 20 spans are 0.3 MB."""
LINGER_S: Final = 0.5
"""A trace waits so long for others."""
STOP_S_MAX: Final = 2.0
"""How long the end of a process waits for what is still queued."""
SCOPE: Final = "midstream"
Outcome: TypeAlias = Literal["exported", "dropped", "failed"]
Count: TypeAlias = Callable[[Outcome, int], None]


class OtlpExport:
    """A ``SpanExport`` and an ``EngineService``."""

    def __init__(self, exporter: Any, options: TracingOptions, count: Count, version: str) -> None:  # noqa: ANN401  the library's
        """Deliver by an exporter of the library.

        Args:
            exporter: Delivers spans; of OTLP, or one that keeps them for a test.
            options: Name of the service and length of the queue.
            count: Called with what became of some spans; by any thread.
            version: Of this program.
        """
        self._exporter = exporter
        self._count = count
        self._failing = ""
        self._queue: deque[RequestTrace] = deque()
        self._queue_max = options.queue_max
        self._spans = SpanFactory(options.service_name, version)
        self._wake = threading.Event()
        self._stops = threading.Event()
        self._thread = threading.Thread(target=self._run, name="midstream-traces", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    async def stop(self) -> None:
        """Deliver what is queued, within ``STOP_S_MAX``; the thread never holds up the end of the process."""
        self._stops.set()
        self._wake.set()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, STOP_S_MAX)
        if left := self._taken(len(self._queue)):
            self._count("dropped", _span_count(left))

    def submit(self, trace: RequestTrace) -> None:
        """Queue a finished trace, or drop and count it where the queue is full or the end has come."""
        if len(self._queue) >= self._queue_max or self._stops.is_set():
            self._count("dropped", len(trace.spans))
            return
        self._queue.append(trace)
        self._wake.set()

    def concern(self) -> str:
        """Return why spans are not delivered, empty = they are."""
        if self._thread.ident is not None and not self._thread.is_alive() and not self._stops.is_set():
            return "the thread that delivers spans has ended by a bug; the log of the process says which"
        return self._failing

    def _run(self) -> None:
        while not self._stops.is_set():
            self._wake.wait()
            self._stops.wait(LINGER_S)
            self._wake.clear()
            while traces := self._taken(BATCH_TRACES_MAX):
                self._deliver(traces)
        self._exporter.shutdown()

    def _taken(self, count: int) -> list[RequestTrace]:
        """Return the first traces of the queue, ``count`` at most; the thread and the end of it take from one queue."""
        taken: list[RequestTrace] = []
        with suppress(IndexError):  # it is empty
            while len(taken) < count:
                taken.append(self._queue.popleft())
        return taken

    def _deliver(self, traces: Sequence[RequestTrace]) -> None:
        spans = [span for trace in traces for span in self._spans.spans(trace)]
        try:
            is_good = self._exporter.export(spans).name == "SUCCESS"
        except OSError:  # errors of its client are ones
            is_good = False
        self._failing = (
            ""
            if is_good
            else "the collector took no spans at the last delivery; midstream docs traces says what to look at"
        )
        self._count("exported" if is_good else "failed", len(spans))


class SpanFactory:
    """Makes spans of the library; its modules are loaded once."""

    def __init__(self, service_name: str, version: str) -> None:
        """Load the library.

        Raises:
            ExtraMissing: It is not installed.
        """
        self._trace, self._sdk = _module("opentelemetry.trace"), _module("opentelemetry.sdk.trace")
        resources = _module("opentelemetry.sdk.resources")
        named = {"service.name": service_name, "service.version": version, "process.pid": os.getpid()}
        self._resource = resources.Resource.create(named)
        self._scope = _module("opentelemetry.sdk.util.instrumentation").InstrumentationScope(SCOPE, version)
        kinds, status = self._trace.SpanKind, self._trace.status
        self._kinds = {"internal": kinds.INTERNAL, "server": kinds.SERVER, "client": kinds.CLIENT}
        self._good = status.Status(status.StatusCode.UNSET)
        self._failed: Callable[[str], Any] = lambda error: status.Status(status.StatusCode.ERROR, error)

    def spans(self, trace: RequestTrace) -> list[Any]:
        """Return the finished spans of a trace."""
        state = self._trace.TraceState.from_header([trace.state]) if trace.state else None
        return [self._span(trace, each, state) for each in trace.spans]

    def _span(self, trace: RequestTrace, record: SpanRecord, state: object) -> Any:  # noqa: ANN401  the library's
        attributes: Mapping[str, Any] = {**record.attributes, **({"error.type": record.error} if record.error else {})}
        return self._sdk.ReadableSpan(
            name=record.name,
            context=self._context(trace, record.span_id, state, is_remote=False),
            parent=self._context(trace, record.parent_id, state, is_remote=record.span_id == trace.span_id)
            if record.parent_id
            else None,
            resource=self._resource,
            attributes=attributes,
            kind=self._kinds[record.kind],
            status=self._failed(record.error) if record.error else self._good,
            start_time=trace.epoch_ns + round(record.begin_s * NS),
            end_time=trace.epoch_ns + round(record.end_s * NS),
            instrumentation_scope=self._scope,
        )

    def _context(self, trace: RequestTrace, span_id: int, state: object, *, is_remote: bool) -> Any:  # noqa: ANN401  the library's
        flags = self._trace.TraceFlags(self._trace.TraceFlags.SAMPLED)
        return self._trace.SpanContext(trace.trace_id, span_id, is_remote, flags, state)


def otlp_exporter(options: TracingOptions, environ: Mapping[str, str] = os.environ) -> Any:  # noqa: ANN401  the library's
    """Return the library's exporter to the endpoint of ``options``; nobody is called.

    Raises:
        ExtraMissing: The library is not installed.
        StoreRefused: The token is not in the environment.
    """
    library = _module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    headers: dict[str, str] = {}
    if options.token_env:
        token = environ.get(options.token_env, "")
        if not token:
            message = f"the environment has no {options.token_env}, which [tracing] token_env names"
            raise StoreRefused(message)
        headers["authorization"] = f"Bearer {token}"
    return library.OTLPSpanExporter(endpoint=options.endpoint, headers=headers, timeout=options.timeout.ms / 1_000)


def _span_count(traces: Sequence[RequestTrace]) -> int:
    return sum(len(each.spans) for each in traces)


def _module(name: str) -> Any:  # noqa: ANN401  its types are not asked for where it is absent
    try:
        return import_module(name)
    except ImportError as error:
        message = "traces need the extra `otel`: pip install 'midstream[otel]'"
        raise ExtraMissing(message) from error
