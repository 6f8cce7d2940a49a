"""Report of an experiment whose shares move: the posterior of its primary rate, and no verdict.

The sample ratio is held against the shares of each day, by the variant of each unit's first slate. Days from before the
oldest move that is kept are not checked.
"""

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from midstream.app.inspect.experiment_units import ExperimentUnits
from midstream.evaluation.experiments.posterior import VariantPosterior, posterior_of
from midstream.evaluation.experiments.sample_ratio import Counts, SampleRatio, SampleRatioRule, check_sample_ratio
from midstream.evaluation.experiments.unit_sums import Real
from midstream.experiments.documents import Experiment
from midstream.experiments.metrics import ExperimentMetric
from midstream.experiments.reallocation import SHARE_MIN, day_of

FIGURES = ("variant", "units", "rate", "is the best", "share now", "share next", "lost a unit")
"""Columns of ``allocation_rows``."""


class AllocationReport(msgspec.Struct, frozen=True):
    """What an experiment whose shares move says now."""

    metric: str
    variants: tuple[VariantPosterior, ...]
    """The control first."""
    moves: int
    """Of shares, as far as they are kept."""
    sample_ratio: SampleRatio | None
    """Against the shares of each day; None = no unit was exposed on a day whose shares are known."""


def allocation_report(
    told: Experiment, metrics: Sequence[ExperimentMetric], units: ExperimentUnits
) -> AllocationReport:
    """Return the report of an experiment whose shares move."""
    primary = next(each for each in metrics if each.role == "primary")
    count, column = len(told.variants), units.names.index(primary.counts)
    is_less_better = primary.better == "lower"
    posterior = posterior_of(units.table, column, count, SHARE_MIN, is_less_better=is_less_better)
    return AllocationReport(primary.name, posterior, len(told.moves) - 1, _sample_ratio(told, units))


def allocation_lines(found: AllocationReport) -> Iterator[str]:
    """Yield what is said beside the table."""
    yield f"shares moved {found.moves} times by {found.metric}: no verdict; fixed shares say by how much"
    ratio = found.sample_ratio
    if ratio is None:
        yield "sample ratio: no unit was exposed"
    elif ratio.is_failed:
        yield f"SAMPLE RATIO IS WRONG, no figure of this experiment can be believed: {ratio.reason}"
    else:
        yield f"sample ratio: as the shares of each day say, {ratio.any_time_p_value:.3g} at all looks"


def allocation_rows(
    found: AllocationReport, names: Sequence[str], shares: Sequence[float]
) -> Iterator[tuple[str, ...]]:
    """Yield ``FIGURES`` for people."""
    for name, share, each in zip(names, shares, found.variants, strict=True):
        rate = "–" if each.rate is None else f"{each.rate:.2%}"
        yield name, f"{each.units:,}", rate, f"{each.best:.1%}", f"{share:.1%}", f"{each.share:.1%}", f"{each.loss:.3%}"


def _sample_ratio(told: Experiment, units: ExperimentUnits) -> SampleRatio | None:
    if units.first_variant is None or not len(units.first_variant) or not told.moves:
        return None
    begin = day_of(told.began_ms, told.moves[0].from_ms)
    known = units.table.first_day >= begin
    if not known.any():
        return None
    day = units.table.first_day[known].astype(np.int64) - begin
    count = len(told.variants)
    cell = day * count + units.first_variant[known]
    counts: Counts = np.bincount(cell, minlength=(int(day.max()) + 1) * count).reshape(-1, count)
    rule = SampleRatioRule(is_last_day_open=told.state == "running")
    return check_sample_ratio(counts, _shares_by_day(told, begin, len(counts)), rule)


def _shares_by_day(told: Experiment, begin: int, days: int) -> Real:
    """Return the shares of each day from one on, (days, variants): of a day on which they moved the new ones."""
    moved = [day_of(told.began_ms, each.from_ms) for each in told.moves]
    last: list[int] = (np.searchsorted(moved, np.arange(begin, begin + days), side="right") - 1).tolist()
    return np.array([told.moves[at].shares for at in last], dtype=np.float64)
