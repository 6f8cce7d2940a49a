"""Drift watch of a running engine: the baseline of served feature values, and leaps of the wall clock."""

from pathlib import Path

from midstream.app.config.reader import FILE_NAME
from midstream.app.config.schema import Config
from midstream.app.steady_clock import SteadyClock
from midstream.core.errors import ConfigInvalid, Fault, Invalid
from midstream.core.types import Clock
from midstream.engine.listeners import Concern
from midstream.evaluation.metrics.feature_statistics import FeatureStatistics, read_statistics

LEAP = "clock_leap"


def baseline_of(config: Config, folder: Path) -> FeatureStatistics | None:
    """Return the baseline of features, None = none is configured.

    Args:
        config: Names the file.
        folder: Of the configuration file: a relative path begins there.

    Raises:
        ConfigInvalid: The file does not exist or has other content.
    """
    if not config.monitoring.baseline:
        return None
    try:
        return read_statistics(folder / config.monitoring.baseline)
    except Invalid as error:
        first = error.faults[0]
        raise ConfigInvalid(
            (Fault(f"{FILE_NAME}: $.monitoring.baseline", first.came, first.right, first.page),)
        ) from error


def clock_concern(clock: Clock) -> Concern:
    """Return that the clock leapt forward, for as long as that is not believed."""
    clock()  # it notices a leap when it is asked
    if not (isinstance(clock, SteadyClock) and clock.leap_ms):
        return Concern(LEAP, "")
    return Concern(
        LEAP,
        (
            f"the clock leapt forward by {clock.leap_ms / 1_000:.0f} s while the server ran. Time goes on from "
            "before that until the leap has stood for an hour: if the clock is wrong set it right before, if it is "
            "right a start takes it at once"
        ),
    )
