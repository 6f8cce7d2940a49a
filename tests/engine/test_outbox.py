"""Served records wait for company, but not until their lot is too large for the way to a leader."""

import asyncio
from types import SimpleNamespace
from typing import Any

from prometheus_client import CollectorRegistry

from midstream.core.kinds import Kind
from midstream.engine.outbox import LOT_BYTES_MAX, Outbox
from midstream.events.schema import Event
from midstream.monitoring.metrics import Metrics
from midstream.serving import inside


def test_a_lot_goes_when_its_bodies_are_large() -> None:
    """Rankings of a thousand items with fields: what waits is bounded by bytes as well as by number."""
    lots: list[int] = []
    writer: Any = SimpleNamespace(submit=lambda *entries: lots.extend(len(entry.batch.text) for entry in entries))

    async def work() -> None:
        outbox = Outbox(writer, lambda: False, Metrics(CollectorRegistry()))
        for _ in range(20):
            outbox.add(Event(Kind.SERVED, body=b"x" * 250_000))
        outbox.flush()

    asyncio.run(work())
    assert sum(lots) == 20 * 250_000
    assert max(lots) < LOT_BYTES_MAX + 250_000 < inside.LOT_BYTES_MAX
