"""Options of traces: which requests have one, and the collector to which they go."""

from typing import Annotated, Final
from urllib.parse import urlsplit

import msgspec

from midstream.core.durations import Duration
from midstream.core.errors import Fault
from midstream.core.field_bounds import Between

PAGE: Final = "/docs/traces.md"


class TracingOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``[tracing]`` part of the configuration: which requests have traces, and where these go."""

    endpoint: Annotated[str, msgspec.Meta(max_length=2_048)] = ""
    """Where spans are sent as OTLP over HTTP, such as http://127.0.0.1:4318/v1/traces; empty = there are no traces."""
    sample_ratio: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)] = 0.01
    """Share of the requests without a traceparent that have a trace."""
    follow_callers: bool = True
    """A request with a traceparent has a trace where that says so; false = by sample_ratio as well."""
    service_name: Annotated[str, msgspec.Meta(min_length=1, max_length=256)] = "midstream"
    """service.name of the spans."""
    token_env: str = ""
    """Variable of the environment with a bearer token for the collector; empty = none is sent."""
    timeout: Annotated[Duration, Between("100ms", "1m")] = Duration("5s")
    """Longest time of one delivery, repetitions included; no request waits for one."""
    queue_max: Annotated[int, msgspec.Meta(ge=1, le=65_536)] = 1_024
    """Finished traces that wait for delivery, some 10 kB each; further ones are dropped and counted."""


def tracing_faults(options: TracingOptions) -> tuple[Fault, ...]:
    """Return what is wrong with the options of traces."""
    if not options.endpoint or is_collector(options.endpoint):
        return ()
    right = "The whole address of a collector, such as http://127.0.0.1:4318/v1/traces."
    return (Fault("$.tracing.endpoint", f'"{options.endpoint}" came.', right, PAGE),)


def is_collector(endpoint: str) -> bool:
    """Return whether an endpoint is an address of HTTP with a path.

    Example:
        >>> is_collector("http://127.0.0.1:4318/v1/traces"), is_collector("127.0.0.1:4318")
        (True, False)
    """
    try:
        told = urlsplit(endpoint)
    except ValueError:  # such as an open bracket
        return False
    return told.scheme in {"http", "https"} and bool(told.hostname) and bool(told.path.strip("/"))
