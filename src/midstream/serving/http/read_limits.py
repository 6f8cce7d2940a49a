"""Limits of reading a request: bytes and waits before and after the app's reading."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from midstream.monitoring.metrics import Metrics
from midstream.serving.http.connection_admission import Places
from midstream.serving.http.loop_delay import LoopArrivals
from midstream.serving.options import ServerOptions

HEAD_LINES_MAX = 100
"""Headers of a request: Apache's LimitRequestFields. Browsers and proxies send up to 40."""


@runtime_checkable
class Counting(Protocol):
    """An app that looks at how requests come in."""

    arrivals: LoopArrivals
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class ReadLimits:
    """Maxima of bytes and waits."""

    head_bytes_max: int
    """Of a head, of trailers, of framing without a body in it."""
    head_wait_s_max: float
    body_bytes_max: int
    """Bytes that are still read and discarded of a body whose request is answered."""
    body_wait_s_max: float
    """For the end of such a body."""
    head_lines_max: int = HEAD_LINES_MAX


def read_limits(options: ServerOptions) -> ReadLimits:
    """Return the maxima that the configuration asks for."""
    return ReadLimits(
        options.head_bytes_max,
        options.head_wait_max.ms / 1_000,
        options.body_bytes_max,
        options.body_wait_max.ms / 1_000,
    )


def uncounted(_reason: str) -> None:
    """Count nothing, for a server without metrics."""


@dataclass(frozen=True, slots=True, eq=False)
class ConnectionBounds:
    """Shared parts of all connections of a server."""

    limits: ReadLimits
    places: Places | None = None
    """Maxima of connections; None = unbounded."""
    arrivals: LoopArrivals | None = None
    """Listener of each request."""
    count: Callable[[str], None] = uncounted
    """Counts refused or closed parts of a connection by reason."""
