"""Factory of the connections of a port: what each may cost, and what they share."""

import asyncio
from functools import partial
from typing import cast

from midstream.serving.http.bounded_protocol import BoundedProtocol
from midstream.serving.http.connection_admission import PlaceLimits, Places
from midstream.serving.http.read_limits import ConnectionBounds, Counting, ReadLimits, uncounted


def bounded_protocol(limits: ReadLimits, app: object, places: PlaceLimits | None = None) -> type[asyncio.Protocol]:
    """Return what uvicorn takes for a protocol's class: it only ever calls it.

    Args:
        limits: Of what is read.
        app: Is told of each request that was read, and of what is wrong with connections, if it wants to know.
        places: How many connections there may be; None = as many as can connect.
    """
    arrivals, count = (app.arrivals, app.metrics.count_connection) if isinstance(app, Counting) else (None, uncounted)
    shared = None if places is None else Places(places, count)
    bounds = ConnectionBounds(limits, shared, arrivals, count)
    return cast("type[asyncio.Protocol]", partial(BoundedProtocol, bounds=bounds))
