"""Options of monitoring: baseline of drift, and freshness probe."""

from typing import Annotated, Final

import msgspec

from midstream.core.durations import Duration
from midstream.core.errors import Fault
from midstream.core.field_bounds import Between

PAGE: Final = "/docs/observability.md"
EVERY_MS_MIN: Final = 1_000
"""A probe each second is 86,400 events a day, 15 MB of log."""


class MonitoringSection(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``[monitoring]``."""

    baseline: str = ""
    """File of statistics of a training set: metrics have the drift of served features from them; "" = none."""


class ProbeOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The ``[probe]`` part of the configuration: how each process measures how fresh its answers are."""

    every: Annotated[Duration, Between("0ms", "1h")] = Duration("0ms")
    """Pause between two probes of each process, 1s at least; 0ms = none."""
    within: Annotated[Duration, Between("1ms", "10s")] = Duration("1s")
    """Longest time from sending an event until an answer has it; health names what takes longer."""
    placement: str = ""
    """Placement whose plan answers; empty = default, or the first."""


def probe_faults(options: ProbeOptions) -> tuple[Fault, ...]:
    """Return what is wrong with the options of the probe."""
    if 0 < options.every.ms < EVERY_MS_MIN:
        return (Fault("$.probe.every", f"{options.every} came.", "1s to 1h; 0ms = no probe.", PAGE),)
    return ()
