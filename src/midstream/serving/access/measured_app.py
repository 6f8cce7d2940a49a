"""App in front of another one, as a port needs it: with its metrics, and told of how requests come in."""

from collections.abc import Coroutine
from typing import Any, Protocol

from midstream.monitoring.metrics import Metrics
from midstream.serving.http.loop_delay import LoopArrivals
from midstream.serving.http.responses import Receive, Scope, Send


class Measured(Protocol):
    """An app that has metrics, and looks at how requests come in."""

    arrivals: LoopArrivals
    metrics: Metrics

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Coroutine[Any, Any, None]:
        """Answer one request, or take part in the lifespan.

        An app that only looks at a request returns what the app behind it returns: a coroutine of its own would be
        entered again with each step of the answer.
        """
        ...
