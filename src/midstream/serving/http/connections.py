"""Factory of the connections of a port, with their bounds and shared parts."""

import asyncio
from functools import partial
from typing import cast

from midstream.serving.http.bounded_protocol import BoundedProtocol
from midstream.serving.http.connection_admission import PlaceLimits, Places
from midstream.serving.http.read_limits import ConnectionBounds, Counting, ReadLimits, uncounted


def bounded_protocol(limits: ReadLimits, app: object, places: PlaceLimits | None = None) -> type[asyncio.Protocol]:
    """Return a substitute for a protocol's class, which uvicorn only calls.

    Args:
        limits: Bounds of reading.
        app: Optional listener of requests that were read, and of faults of connections.
        places: Maxima of connections; None = unbounded.
    """
    arrivals, count = (app.arrivals, app.metrics.count_connection) if isinstance(app, Counting) else (None, uncounted)
    shared = None if places is None else Places(places, count)
    bounds = ConnectionBounds(limits, shared, arrivals, count)
    return cast("type[asyncio.Protocol]", partial(BoundedProtocol, bounds=bounds))
