"""Traces: the context of the caller goes on, the ratio decides without one, and what is not sampled makes no object."""

import pytest

from midstream.monitoring import tracing as tracing_module
from midstream.monitoring.tracing import SPANS_MAX, Parent, client_span, current, entered, parent_of, trace_headers
from midstream.monitoring.tracing_options import TracingOptions, tracing_faults
from tests.support.traces import ALL, KeptTraces, names, span, tracing

TRACE_ID, SPAN_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GOOD = f"00-{TRACE_ID}-{SPAN_ID}-01".encode()


def header(value: bytes | str) -> list[tuple[bytes, bytes]]:
    """Return a request's headers with a ``traceparent``."""
    return [(b"host", b"shop"), (b"traceparent", value if isinstance(value, bytes) else value.encode())]


def test_a_traceparent_is_read() -> None:
    """Of this version, of a later one with more behind it, and with other flags."""
    ids = int(TRACE_ID, 16), int(SPAN_ID, 16)
    assert parent_of(header(GOOD)) == Parent(*ids, is_sampled=True)
    assert parent_of(header(f"00-{TRACE_ID}-{SPAN_ID}-00")) == Parent(*ids, is_sampled=False)
    assert parent_of(header(f"00-{TRACE_ID}-{SPAN_ID}-03")) == Parent(*ids, is_sampled=True)
    assert parent_of(header(f"cc-{TRACE_ID}-{SPAN_ID}-01-more")) == Parent(*ids, is_sampled=True)
    assert parent_of([(b"host", b"shop")]) is None


@pytest.mark.parametrize(
    "value",
    [
        "",
        "00",
        f"ff-{TRACE_ID}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{SPAN_ID}-01-more",
        f"00-{TRACE_ID.upper()}-{SPAN_ID}-01",
        f"00-{'0' * 32}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"00-{TRACE_ID[1:]}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{SPAN_ID}-1",
        f"00_{TRACE_ID}-{SPAN_ID}-01",
        "\xff" * 55,
    ],
)
def test_what_is_no_traceparent_is_none(value: str) -> None:
    """As the recommendation says it; the request then begins a trace of its own."""
    assert parent_of(header(value.encode("latin-1"))) is None


def test_two_of_them_are_none() -> None:
    """Nobody knows which one is right."""
    assert parent_of([*header(GOOD), *header(GOOD)]) is None


def test_a_tracestate_goes_with_its_traceparent() -> None:
    """Several make one; one alone, or one that is too long or has odd characters, is left out."""
    two = [(b"tracestate", b"a=1"), *header(GOOD), (b"tracestate", b"b=2")]
    told = parent_of(two)
    assert told is not None
    assert told.state == "a=1,b=2"
    assert parent_of([(b"tracestate", b"a=1")]) is None
    for odd in (
        b"a=" + b"x" * 600,
        b"a=\xe4",
        b"a=\x01b",
        b"a",
        b"A=1",
        b"a=1,a=2",
        b"a=1,b",
        b",".join(b"a%d=1" % n for n in range(33)),
    ):
        odd_one = parent_of([*header(GOOD), (b"tracestate", odd)])
        assert odd_one is not None
        assert odd_one.state == ""
    trace = tracing(KeptTraces()).begin(two)
    assert trace is not None
    assert trace.headers(7) == {"traceparent": f"00-{TRACE_ID}-{7:016x}-01", "tracestate": "a=1,b=2"}


@pytest.mark.parametrize("ratio,follows", [(0.0, True), (0.0, False), (0.5, True), (1.0, False)])
def test_who_decides(ratio: float, follows: bool) -> None:
    """A caller that sends a context, unless callers are not followed; else the ratio, by the low half of the id."""
    options = TracingOptions(endpoint=ALL.endpoint, sample_ratio=ratio, follow_callers=follows)
    made = tracing(KeptTraces(), options)
    high, low = f"00-{TRACE_ID[:16]}{'f' * 16}-{SPAN_ID}-01", f"00-{TRACE_ID[:16]}{'1' * 16}-{SPAN_ID}-01"
    assert (made.begin(header(high)) is not None) == (follows or ratio == 1.0)
    assert (made.begin(header(low)) is not None) == (follows or ratio > 0.0)
    assert (made.begin(header(low.removesuffix("01") + "00")) is not None) == (not follows and ratio > 0.0)
    assert (made.begin([]) is not None) == (ratio > 0.0)


def test_about_the_ratio_is_sampled() -> None:
    """Of random ids."""
    import os
    import time

    from midstream.monitoring.tracing import TraceHost, Tracing

    made = Tracing(
        TracingOptions(endpoint=ALL.endpoint, sample_ratio=0.2),
        KeptTraces(),
        TraceHost(time.monotonic, time.time_ns, os.urandom),
    )
    assert 100 < sum(made.begin([]) is not None for _ in range(1_000)) < 320


def test_what_is_not_sampled_makes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even a trace that is thrown away."""

    class Forbidden:
        def __init__(self, **_: object) -> None:
            raise AssertionError

    monkeypatch.setattr(tracing_module, "RequestTrace", Forbidden)
    made = tracing(KeptTraces(), TracingOptions(endpoint=ALL.endpoint, sample_ratio=0.0))
    assert made.begin([]) is None
    with pytest.raises(AssertionError):
        made.begin(header(GOOD))


def test_spans_of_a_request() -> None:
    """They stand below the request's, which stands below the caller's; the status decides whether it failed."""
    kept = KeptTraces()
    made = tracing(kept)
    trace = made.begin(header(GOOD))
    assert trace is not None
    leave = entered(trace)
    assert current() is trace
    trace.add("decode", 1.0, 2.0)
    with client_span(trace, "model server", "triton", 8_000) as headers:
        assert trace_headers()["traceparent"] == f"00-{TRACE_ID}-{trace.span_id:016x}-01"
    leave()
    assert current() is None
    assert trace_headers() == {}
    made.end(trace, "POST", "/v1/rank", 503)
    found = kept.only()
    assert sorted(names(found)) == ["POST /v1/rank", "decode", "model server"]
    request, call = span(found, "POST /v1/rank"), span(found, "model server")
    assert (request.parent_id, request.kind, request.error) == (int(SPAN_ID, 16), "server", "503")
    assert {each.parent_id for each in found.spans if each is not request} == {request.span_id}
    assert headers["traceparent"].split("-")[2] == f"{call.span_id:016x}"
    assert (call.kind, call.error) == ("client", "")
    assert call.attributes == {"server.address": "triton", "server.port": 8_000}
    assert len({each.span_id for each in found.spans}) == 3


def test_a_call_that_fails_says_so() -> None:
    """With the type of its exception, which goes on; also where another one is being handled already."""
    trace = tracing(KeptTraces()).begin([])
    assert trace is not None
    with pytest.raises(KeyError), client_span(trace, "call", "a", 1):
        raise KeyError
    try:
        int("x")
    except ValueError:
        with client_span(trace, "good call", "a", 1):
            pass
    assert [(each.name, each.error) for each in trace.spans] == [("call", "KeyError"), ("good call", "")]


def test_a_trace_has_a_maximum_and_an_end() -> None:
    """What is left out is counted; what comes behind the end is not taken, as another thread has the spans then."""
    kept = KeptTraces()
    made = tracing(kept)
    trace = made.begin([])
    assert trace is not None
    for number in range(SPANS_MAX + 5):
        trace.add(str(number), 0.0, 1.0)
    made.end(trace, "GET", "/v1/items", 200)
    assert len(trace.spans) == SPANS_MAX + 1
    assert trace.spans[-1].attributes["midstream.spans_left_out"] == 5
    assert trace.spans[-1].error == ""
    short = made.begin([])
    assert short is not None
    made.end(short, "GET", "/v1/items", 200)
    short.add("late", 0.0, 1.0)
    short.attributes["late"] = 1
    assert names(short) == ["GET /v1/items"]
    assert "late" not in short.spans[0].attributes


@pytest.mark.parametrize("endpoint", ["127.0.0.1:4318", "http://127.0.0.1:4318", "ftp://a/b", "http://[", "http:///a"])
def test_an_endpoint_is_a_whole_address(endpoint: str) -> None:
    """A collector that is named in part would be looked for in vain."""
    (fault,) = tracing_faults(TracingOptions(endpoint=endpoint))
    assert fault.where == "$.tracing.endpoint"
    assert not tracing_faults(ALL)
    assert not tracing_faults(TracingOptions())
