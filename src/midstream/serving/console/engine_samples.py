"""Samples of the live page, read from the engine's own metrics: no text of all of them, which nobody on the page reads.

Each family is a turn of the event loop, and so is each table whose memory is counted, so requests wait for one of them
at most. Memory changes slowly and costs the most, so it is read once in ``TABLES_MS_MIN``. A server of several
processes has no such source: there the samples are those of ``/metrics``, which come from all processes.
"""

import asyncio
from time import monotonic_ns
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry

from midstream.serving.console.live_metrics import Samples

if TYPE_CHECKING:
    from midstream.engine.engine import Engine

TABLES_MS_MIN: Final = 30_000
"""Between two readings of the tables' memory; templates/now_figures.html says so."""
SHOWN: Final = (
    "midstream_request_seconds_bucket",
    "midstream_requests_total",
    "midstream_events_total",
    "midstream_answers_total",
    "midstream_table_bytes",
    "midstream_table_bytes_max",
    "midstream_log_position",
    "midstream_applied_log_position",
    "midstream_state_age_seconds",
    "midstream_items",
)
"""Samples that the page's figures are made of."""


class EngineSamples:
    """Reads what the live page shows of one engine."""

    def __init__(self, engine: "Engine") -> None:
        """Read nothing yet."""
        self._engine = engine
        self._tables_ms = -TABLES_MS_MIN

    async def read(self) -> Samples:
        """Return the samples of ``SHOWN`` now, in turns of the event loop."""
        engine, now_ms = self._engine, monotonic_ns() // 1_000_000
        engine.refresh_event_gauges()
        if now_ms - self._tables_ms >= TABLES_MS_MIN:
            for _ in engine.refreshing_table_bytes():
                await asyncio.sleep(0)
            self._tables_ms = now_ms
        return await shown_samples(engine.metrics.registry)


async def shown_samples(registry: CollectorRegistry) -> Samples:
    """Return the samples of ``SHOWN`` in a registry; the loop does other work between two families."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in registry.restricted_registry(SHOWN).collect():
        for each in family.samples:
            found.setdefault(each.name, {})[tuple(sorted(each.labels.items()))] = each.value
        await asyncio.sleep(0)
    return found
