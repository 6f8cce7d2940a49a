"""Metrics in turns of the loop are the metrics of one go, and nobody waits for more than a part of them."""

import asyncio

import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram

from midstream.monitoring import metrics_text
from midstream.monitoring.metrics import Metrics
from midstream.monitoring.metrics_text import TURN_BYTES, text_in_turns, turns_of


def filled() -> Metrics:
    """Return metrics of which some have labels and values."""
    metrics = Metrics(CollectorRegistry())
    for outcome in ("recorded", "duplicate", "rejected"):
        metrics.count_events(outcome, 3)
    metrics.count_overload("events")
    for family in range(8):
        name = f"answers_{family}_seconds"
        answers = Histogram(name, "Of routes,\n by \\ name.", ["route"], registry=metrics.registry)
        for number in range(50):
            answers.labels(f"/v1/{number}").observe(number / 100)
    return metrics


def test_the_text_is_that_of_one_go() -> None:
    """Byte by byte; of an empty registry there is none."""
    metrics = filled()
    assert asyncio.run(text_in_turns(metrics.registry)) == metrics.text()
    assert asyncio.run(text_in_turns(CollectorRegistry())) == b""


def test_other_work_is_done_between_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As often as there are parts; a part has whole families, and no more than it needs to be long enough."""
    metrics = filled()
    parts = list(turns_of(metrics.registry))
    assert len(parts) > 10
    assert {part[:7] for part in parts} == {b"# HELP "}
    monkeypatch.setattr(metrics_text, "TURN_BYTES", 1)
    longest = max(map(len, turns_of(metrics.registry)))
    assert max(map(len, parts)) < TURN_BYTES + longest
    monkeypatch.undo()

    async def work() -> int:
        turns = 0
        reading = asyncio.ensure_future(text_in_turns(metrics.registry))
        while not reading.done():
            turns += 1
            await asyncio.sleep(0)
        return turns

    assert asyncio.run(work()) >= len(parts)


def test_a_metric_that_comes_meanwhile_is_no_error() -> None:
    """It is in the next text."""
    metrics = filled()

    async def work() -> bytes:
        reading = asyncio.ensure_future(text_in_turns(metrics.registry))
        await asyncio.sleep(0)
        Counter("late", "Came late.", registry=metrics.registry).inc()
        return await reading

    assert b"late_total" not in asyncio.run(work())
    assert b"late_total 1.0" in asyncio.run(text_in_turns(metrics.registry))
