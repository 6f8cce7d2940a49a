"""App in front of another one, as a port needs it: with its metrics, and told of how requests come in."""

from typing import Protocol

from midstream.monitoring.metrics import Metrics
from midstream.serving.http.loop_delay import LoopArrivals
from midstream.serving.http.responses import Receive, Scope, Send


class Measured(Protocol):
    """An app that has metrics, and looks at how requests come in."""

    arrivals: LoopArrivals
    metrics: Metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or take part in the lifespan."""
