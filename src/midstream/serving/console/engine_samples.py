"""Samples of the live page, read from the engine's own metrics: no text of all of them, which nobody on the page reads.

Each family is a turn of the event loop, and so is each table whose memory is counted, so requests wait for one of them
at most. Memory changes slowly and costs the most, so it is read once in ``TABLES_MS_MIN``. A server of several
processes has no such source: there the samples are those of ``/metrics``, which come from all processes.
"""

import asyncio
from time import monotonic_ns
from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry

from midstream.serving.console.lag_rows import Samples

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
    "midstream_dead_letters_kept",
    "midstream_dead_letters_lost_total",
    "midstream_freshness_last_seconds",
    "midstream_freshness_probes_total",
    "midstream_input_lag",
    "midstream_input_open",
    "midstream_input_stopped",
    "midstream_input_rejected_total",
    "midstream_output_lag_events",
    "midstream_output_lag_seconds",
    "midstream_output_stopped",
    "midstream_sink_lag_events",
    "midstream_sink_lag_seconds",
    "midstream_sink_stopped",
    "midstream_shared_log_lag_seconds",
    "midstream_shared_log_connected",
    "midstream_shared_log_ended",
)
"""Samples that the page's figures are made of; those of followers are in the text alone."""


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
