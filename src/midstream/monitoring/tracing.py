"""Request traces: spans that are made of clock readings, W3C trace context in and out, and a Protocol of an exporter.

A request that is not sampled has no trace and no object of this module. Parts of a sampled one find its trace by
``current``, append plain tuples to it, and hand the whole to the exporter behind the answer; the exporter's thread does
the rest. Spans name routes, placements and parts, which are configured, and never users, sessions, items or texts.

Reference: W3C Recommendation, Trace Context, 2021, sections 3.2 (traceparent) and 3.3 (tracestate).
"""

import re
import sys
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple, Protocol, TypeAlias

from midstream.monitoring.tracing_options import TracingOptions

TRACEPARENT: Final = b"traceparent"
TRACESTATE: Final = b"tracestate"
STATE_CHARS_MAX: Final = 512
"""Of ``tracestate``: the least that has to be passed on; a longer one is left out as a whole."""
SPANS_MAX: Final = 256
"""Of one trace: 8 sources, 16 filters, 8 blocks, 9 scorers and 8 fetches, twice, are 98."""
TRACE_ID_BYTES: Final = 16
SPAN_ID_BYTES: Final = 8
ERROR_STATUS: Final = 500
NS: Final = 1_000_000_000
_SAMPLED: Final = 1
_LOW_64: Final = (1 << 64) - 1
_MEMBERS_MAX: Final = 32
_MEMBER = re.compile(
    r"([a-z][_0-9a-z*/-]{0,255}|[a-z0-9][_0-9a-z*/-]{0,240}@[a-z][_0-9a-z*/-]{0,13})"
    r"=[ -+\--<>-~]{0,255}[!-+\--<>-~]"
)
"""Key and value of the state of one vendor. Reference: W3C Trace Context 1, section 3.3.1."""
_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
Attribute: TypeAlias = str | int | float | bool
SpanKind = Literal["internal", "server", "client"]


class Parent(NamedTuple):
    """Span of a caller, as ``traceparent`` says it."""

    trace_id: int
    span_id: int
    is_sampled: bool
    state: str = ""
    """``tracestate``, passed on as it came."""


class SpanRecord(NamedTuple):
    """One finished span; times are seconds of the process's monotonic clock."""

    name: str
    begin_s: float
    end_s: float
    span_id: int
    parent_id: int
    """0 = it has none."""
    attributes: Mapping[str, Attribute] = {}
    error: str = ""
    """Kind of what went wrong; empty = nothing did."""
    kind: SpanKind = "internal"


@dataclass(slots=True, eq=False)
class RequestTrace:
    """Spans of one sampled request, on the thread of the event loop."""

    trace_id: int
    span_id: int
    """Of the request."""
    parent_id: int
    """0 = the request began the trace."""
    state: str
    began_s: float
    epoch_ns: int
    """Nanoseconds since 1970 at zero of the monotonic clock."""
    clock: Callable[[], float]
    new_id: Callable[[], int]
    attributes: dict[str, Attribute] = field(default_factory=dict[str, Attribute])
    spans: list[SpanRecord] = field(default_factory=list[SpanRecord])
    left_out: int = 0
    """Spans beyond ``SPANS_MAX``."""
    is_ended: bool = False
    """It belongs to the exporter's thread: a span that comes later, such as of a commit that nobody waited for, is not
    taken."""

    def add(
        self,
        name: str,
        begin_s: float,
        end_s: float,
        attributes: Mapping[str, Attribute] | None = None,
        error: str = "",
    ) -> None:
        """Append a span below the request's."""
        self.append(SpanRecord(name, begin_s, end_s, self.new_id(), self.span_id, attributes or {}, error))

    def append(self, span: SpanRecord) -> None:
        """Append a span."""
        if self.is_ended:
            return
        if len(self.spans) < SPANS_MAX:
            self.spans.append(span)
        else:
            self.left_out += 1

    def header(self, span_id: int) -> str:
        """Return the ``traceparent`` of a call to another process, whose parent is a span of this trace."""
        return f"00-{self.trace_id:032x}-{span_id:016x}-01"

    def headers(self, span_id: int) -> dict[str, str]:
        """Return the headers of such a call."""
        found = {TRACEPARENT.decode(): self.header(span_id)}
        return found | {TRACESTATE.decode(): self.state} if self.state else found


_CURRENT: ContextVar[RequestTrace | None] = ContextVar("midstream_trace", default=None)
current: Final[Callable[[], RequestTrace | None]] = _CURRENT.get
"""Returns the trace of the request that is being answered; None = it is not sampled. Cost: 25 ns."""


class SpanExport(Protocol):
    """Exporter of finished traces."""

    def submit(self, trace: RequestTrace) -> None:
        """Take a trace without waiting; one for which there is no room is dropped and counted."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class TraceHost:
    """Inputs of tracing from outside."""

    monotonic: Callable[[], float]
    """Clock of all spans, in seconds."""
    wall_ns: Callable[[], int]
    entropy: Callable[[int], bytes]


class Tracing:
    """Traces of one process: samples requests, and hands finished ones to the exporter."""

    def __init__(self, options: TracingOptions, export: SpanExport, host: TraceHost) -> None:
        """Export to ``export`` what ``options`` sample."""
        self._export = export
        self._host = host
        self._bound = round(options.sample_ratio * (1 << 64))
        self._follows_callers = options.follow_callers

    def begin(self, headers: Iterable[tuple[bytes, bytes]]) -> RequestTrace | None:
        """Return the trace of a request that begins now; None = it is not sampled.

        Args:
            headers: Of the request, names in small letters.
        """
        parent = parent_of(headers)
        if parent is not None and self._follows_callers:
            if not parent.is_sampled:
                return None
            trace_id = parent.trace_id
        else:
            trace_id = parent.trace_id if parent is not None else self._new_id(TRACE_ID_BYTES)
            if trace_id & _LOW_64 >= self._bound:
                return None
        host = self._host
        began_s = host.monotonic()
        return RequestTrace(
            trace_id=trace_id,
            span_id=self._new_id(SPAN_ID_BYTES),
            parent_id=0 if parent is None else parent.span_id,
            state="" if parent is None else parent.state,
            began_s=began_s,
            epoch_ns=host.wall_ns() - round(began_s * NS),
            clock=host.monotonic,
            new_id=lambda: self._new_id(SPAN_ID_BYTES),
        )

    def end(self, trace: RequestTrace, method: str, route: str, status: int) -> None:
        """Close the span of a request and hand its trace over.

        Args:
            trace: Of the request.
            method: Of HTTP.
            route: Template of its path.
            status: Of its answer.
        """
        attributes = dict(trace.attributes)  # the exporter's thread reads them from here on
        attributes["http.request.method"] = method
        attributes["http.route"] = route
        attributes["http.response.status_code"] = status
        if trace.left_out:
            attributes["midstream.spans_left_out"] = trace.left_out
        name, error = f"{method} {route}", str(status) if status >= ERROR_STATUS else ""
        now = trace.clock()
        trace.spans.append(
            SpanRecord(name, trace.began_s, now, trace.span_id, trace.parent_id, attributes, error, "server")
        )
        trace.is_ended = True
        self._export.submit(trace)

    def _new_id(self, size: int) -> int:
        """Return a random id, which is never 0."""
        return int.from_bytes(self._host.entropy(size), "big") or 1


def entered(trace: RequestTrace) -> Callable[[], None]:
    """Make a trace that of the running task; return what ends that."""
    token = _CURRENT.set(trace)
    return lambda: _CURRENT.reset(token)


@contextmanager
def client_span(trace: RequestTrace, name: str, host: str, port: int | str) -> Generator[Mapping[str, str]]:
    """Time a call to another process within a trace; give the headers that make it go on there.

    Args:
        trace: Of the request.
        name: What is called.
        host: Of the other process.
        port: Of the other process.
    """
    span_id, began_s, is_done = trace.new_id(), trace.clock(), False
    try:
        yield trace.headers(span_id)
        is_done = True
    finally:
        error = "" if is_done else type(sys.exception()).__name__
        attributes: dict[str, Attribute] = {"server.address": host, "server.port": int(port)}
        trace.append(SpanRecord(name, began_s, trace.clock(), span_id, trace.span_id, attributes, error, "client"))


def trace_headers() -> Mapping[str, str]:
    """Return the headers by which a call of a component of one's own belongs to the request that is being answered.

    Without a trace there are none.
    """
    trace = current()
    return {} if trace is None else trace.headers(trace.span_id)


def parent_of(headers: Iterable[tuple[bytes, bytes]]) -> Parent | None:
    """Return the span of the caller; None = none was sent, or one that is none.

    Example:
        >>> parent_of([(b"traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")]).is_sampled
        True
    """
    found: Parent | None = None
    states: list[bytes] = []
    for name, value in headers:
        if name == TRACEPARENT:
            if found is not None:
                return None  # two of them: neither is believed
            found = parsed(value)
            if found is None:
                return None
        elif name == TRACESTATE:
            states.append(value)
    state = b",".join(states).decode("latin-1").strip()
    return found._replace(state=state) if found is not None and _is_state(state) else found


def _is_state(text: str) -> bool:
    """Return whether a text is a ``tracestate`` by the grammar: other texts are passed on to nobody.

    Example:
        >>> _is_state("a=1, b@c=2"), _is_state("a=1,a=2"), _is_state("A=1")
        (True, False, False)
    """
    if not 0 < len(text) <= STATE_CHARS_MAX:
        return False
    members = [each for each in (part.strip(" \t") for part in text.split(",")) if each]
    keys = {each.partition("=")[0] for each in members}
    return len(keys) == len(members) <= _MEMBERS_MAX and all(map(_MEMBER.fullmatch, members))


def parsed(value: bytes) -> Parent | None:
    """Return what a ``traceparent`` says, None = it is none. A later version is read as far as version 00 goes."""
    match = _TRACEPARENT.fullmatch(value.strip())
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if version == b"ff" or (version == b"00" and more is not None):
        return None
    found = Parent(int(trace_id, 16), int(span_id, 16), bool(int(flags, 16) & _SAMPLED))
    return found if found.trace_id and found.span_id else None
