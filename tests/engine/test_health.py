"""Health of an engine says how it stands, and leaves everything as it stood."""

from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest

from midstream.engine.health import AHEAD_MS_MAX, Concern, health_of


@pytest.mark.parametrize("ahead_ms, said", [(0, ""), (AHEAD_MS_MAX, ""), (AHEAD_MS_MAX + 1, "ahead of the clock")])
def test_reading_health_writes_nothing(ahead_ms, said):
    """What is seen now stands beside what was said before, which nobody touches: it cannot be written here."""
    watches = [lambda: Concern("old", "no snapshot for 9 s"), lambda: Concern("leap", "")]
    engine: Any = SimpleNamespace(
        concerns=MappingProxyType({"models": "model a has no version"}),
        watches=watches,
        log=SimpleNamespace(end=3, last_log_time_ms=5_000 + ahead_ms),
        clock=lambda: 5_000,
        fold=SimpleNamespace(log_position=3),
        followers=lambda: (),
        guards=SimpleNamespace(views=dict),
    )
    health = health_of(engine, None, None, 0)
    assert health.ready
    assert health.reason.startswith("model a has no version; no snapshot for 9 s")
    assert ("ahead of the clock" in health.reason) == bool(said)
    watches.clear()
    assert "snapshot" not in health_of(engine, None, None, 0).reason
