"""Health of an engine says how it stands, and leaves everything as it stood."""

from functools import partial
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest

from midstream.engine.health import AHEAD_MS_MAX, IngestView, concerns_of, health_of
from midstream.engine.listeners import Concern, Listener, Listeners


@pytest.mark.parametrize("ahead_ms, said", [(0, ""), (AHEAD_MS_MAX, ""), (AHEAD_MS_MAX + 1, "ahead of the clock")])
def test_reading_health_writes_nothing(ahead_ms, said):
    """What is seen now stands beside what was said before, which nobody touches: it cannot be written here."""
    named = MappingProxyType({"models": "model a has no version"})
    live: Any = SimpleNamespace(
        log=SimpleNamespace(end=3, last_log_time_ms=5_000 + ahead_ms),
        clock=lambda: 5_000,
        fold=SimpleNamespace(log_position=3),
        guards=SimpleNamespace(views=dict),
    )

    def reason(*seen):
        listeners = Listeners(*(Listener(name=each.name, concern=partial(Concern, *each)) for each in seen))
        health = health_of(live, listeners, concerns_of(live, listeners, named), IngestView())
        assert health.ready
        return health.reason

    now = reason(Concern("old", "no snapshot for 9 s"), Concern("leap", ""))
    assert now.startswith("model a has no version; no snapshot for 9 s")
    assert ("ahead of the clock" in now) == bool(said)
    assert "snapshot" not in reason()
