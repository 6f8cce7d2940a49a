"""Lag of all that reads a log or follows one: inputs, outputs, sinks, followers and a shared log, from metrics.

Only what the shop has is a row. The metric of a state says that it is there; that of a lag may come later, since a lag
is known once a broker or a store has answered.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

Samples = Mapping[str, Mapping[tuple[tuple[str, str], ...], float]]
"""Name of a sample → labels in order → value."""
_STOPPED = "stopped: an operator is waited for"


@dataclass(frozen=True, slots=True)
class LagRow:
    """One reader or follower."""

    kind: str
    name: str
    behind: float
    """NaN = not known."""
    unit: str
    """Of ``behind``."""
    seconds: float
    """The same in log time; NaN = not known, or not measured."""
    state: str
    is_good: bool
    rejected: float = math.nan
    """Messages and events that became dead letters since the start; NaN = it is no input."""


def lag_rows(samples: Samples) -> list[LagRow]:
    """Return a row for each input, output, sink, follower and shared log, in this order and by name."""
    return [
        *_inputs(samples),
        *_relays(samples, "output"),
        *_relays(samples, "sink"),
        *_followers(samples),
        *_shared_logs(samples),
    ]


def _inputs(samples: Samples) -> Iterable[LagRow]:
    lag, stopped = _by(samples, "input_lag", "input"), _by(samples, "input_stopped", "input")
    rejected = _by(samples, "input_rejected_total", "input")
    for name, reads in sorted(_by(samples, "input_open", "input").items()):
        is_stopped = stopped.get(name, 0.0) > 0
        state = _STOPPED if is_stopped else "reads" if reads else "does not read"
        behind = lag.get(name, math.nan)
        is_good = reads > 0 and not is_stopped
        yield LagRow("Input", name, behind, "messages", math.nan, state, is_good, rejected.get(name, 0.0))


def _relays(samples: Samples, kind: str) -> Iterable[LagRow]:
    """Yield the rows of what delivers the log elsewhere."""
    events, seconds = _by(samples, f"{kind}_lag_events", kind), _by(samples, f"{kind}_lag_seconds", kind)
    for name, stopped in sorted(_by(samples, f"{kind}_stopped", kind).items()):
        state, behind = _STOPPED if stopped else "", events.get(name, math.nan)
        yield LagRow(kind.title(), name, behind, "events", seconds.get(name, math.nan), state, not stopped)


def _followers(samples: Samples) -> Iterable[LagRow]:
    behind = _by(samples, "follower_behind_events", "follower")
    for name, serves in sorted(_by(samples, "follower_serves", "follower").items()):
        state = "takes requests" if serves else "takes no requests"
        yield LagRow("Follower", name, behind.get(name, math.nan), "events", math.nan, state, serves > 0)


def _shared_logs(samples: Samples) -> Iterable[LagRow]:
    lag, ended = _by(samples, "shared_log_lag_seconds", "topic"), _by(samples, "shared_log_ended", "topic")
    for name, connected in sorted(_by(samples, "shared_log_connected", "topic").items()):
        has_ended = ended.get(name, 0.0) > 0
        state = "nothing more is taken" if has_ended else "connected" if connected else "no broker answers"
        is_good = connected > 0 and not has_ended
        yield LagRow("Shared log", name, math.nan, "", lag.get(name, math.nan), state, is_good)


def _by(samples: Samples, name: str, label: str) -> Mapping[str, float]:
    """Return the sum of the series of a metric for each value of one label."""
    found: dict[str, float] = defaultdict(float)
    for labels, value in samples.get(f"midstream_{name}", {}).items():
        found[dict(labels)[label]] += value
    return found
