"""Routes of a process that machines look at: health and metrics, in plain ASGI, so that they wait for no other part."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from midstream.monitoring.metrics_text import text_in_turns
from midstream.serving.http.responses import NO_STORE, Handler, Receive, Reply, Scope
from midstream.serving.slates.recommendations import Record

if TYPE_CHECKING:
    from midstream.engine.engine import Engine

MetricsText: TypeAlias = Callable[[], Awaitable[bytes]]
LIVE_PATH = "/health/live"
READY_PATH = "/health/ready"
METRICS_PATH = "/metrics"
METRICS_TEXT = b"text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True, eq=False)
class OtherProcesses:
    """Functions of the other processes of the same server; no-ops for a single process."""

    record: Record | None = None
    """Records the events that come with a question."""
    metrics_text: MetricsText | None = None
    """Returns the metrics of all processes."""


ALONE = OtherProcesses()


def operation_routes(engine: "Engine", metrics_text: MetricsText | None = None) -> Mapping[str, Mapping[str, Handler]]:
    """Return path, method and handler; ``metrics_text`` gives the metrics where they are not this engine's alone."""

    async def get_live(_scope: Scope, _receive: Receive) -> Reply:
        return Reply(200, msgspec.json.encode(engine.liveness), headers=NO_STORE)

    async def get_ready(_scope: Scope, _receive: Receive) -> Reply:
        health = engine.health()
        return Reply(200 if health.ready else 503, msgspec.json.encode(health), headers=NO_STORE)

    async def get_metrics(_scope: Scope, _receive: Receive) -> Reply:
        engine.refresh_metrics()
        text = await (text_in_turns(engine.metrics.registry) if metrics_text is None else metrics_text())
        return Reply(200, text, METRICS_TEXT, NO_STORE)

    return {LIVE_PATH: {"GET": get_live}, READY_PATH: {"GET": get_ready}, METRICS_PATH: {"GET": get_metrics}}
