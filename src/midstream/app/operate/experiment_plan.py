"""Plan of an experiment before its start: days until its primary metric shows a lift, by the rates of the log."""

import math
from pathlib import Path

import msgspec
import numpy as np

from midstream.app.config.schema import Config
from midstream.app.inspect.experiment_report import control_sums
from midstream.app.inspect.experiment_units import ExperimentSpan, ExperimentUnits, read_units
from midstream.app.inspect.folder_view import LogView, state_of
from midstream.core.errors import ConfigInvalid, Fault
from midstream.engine.experiments.running_units import DAY_MS
from midstream.engine.experiments.views import StartOrder
from midstream.evaluation.experiments.power import Design, ExperimentPlan, outlook_of, plan
from midstream.experiments.documents import PAGE
from midstream.experiments.metrics import ExperimentMetric, default_metrics, metric_faults

VARIANTS_MIN = 2
DAYS = 14
"""Of the log that are read: two weeks have every day of the week twice."""


class PlannedExperiment(msgspec.Struct, frozen=True):
    """What the log says of an experiment that is to start."""

    metric: str
    """The primary one."""
    days: int
    """Whole days of the log that were read."""
    units: int
    """That the placement answered in them."""
    value: float
    """Of the metric over these units; NaN = there was none."""
    plan: ExperimentPlan | None
    """None = less than a whole day was read, or no unit did what the metric counts."""

    def lines(self) -> list[str]:
        """Return the plan in words."""
        value = "cannot be estimated," if math.isnan(self.value) else f"{self.value:.4g}"
        seen = f"{self.metric}: {value} of {self.units:,} units in {self.days} days of the log"
        return [seen, "the log is too short, or has none of it, to plan by" if self.plan is None else self.plan.text]


def plan_experiment(folder: Path, config: Config, order: StartOrder, lift: float) -> PlannedExperiment:
    """Return how long an experiment needs, as if its units came and did as those of its placement do now.

    Args:
        folder: Of the data.
        config: Of the folder.
        order: As it would start.
        lift: Relative, to be shown with a power of 80 % when it is read at any time.

    Cost: that of a start, and that of two weeks of the log.

    Raises:
        ConfigInvalid: A metric cannot be read.
    """
    log = LogView(folder)
    fold = state_of(folder, config, log).fold
    faults = [*metric_faults(order.metrics, fold.outcomes.actions)]
    if order.allocation != "fixed":
        came = f'"{order.allocation}" came: shares that move have no verdict to wait for.'
        faults.append(Fault("/allocation", came, "fixed.", PAGE))
    if order.design != "split":
        came = f'"{order.design}" came: its slates are compared with each other, and no lift is measured.'
        faults.append(Fault("/design", came, "split. A draft needs a seventh of its units or less.", PAGE))
    if len(order.variants) < VARIANTS_MIN or any(not each.weight > 0 for each in order.variants):
        faults.append(Fault("/variants", f"{len(order.variants)} came.", "Two at least, of weights above 0.", PAGE))
    if faults:
        raise ConfigInvalid(tuple(faults))
    metrics = order.metrics or default_metrics(fold.settings.types)
    primary = next(each for each in metrics if each.role == "primary")
    ended_ms = fold.log_time_ms + 1
    first_ms = ended_ms
    for batch in log.batches():
        first_ms = int(batch.rows["log_time_ms"][0])
        break
    days = min(DAYS, (ended_ms - first_ms) // DAY_MS)
    began_ms = ended_ms - days * DAY_MS
    span = ExperimentSpan(log.position_at(began_ms), began_ms)
    found = read_units(log, fold, [order.placement], span)
    return planned(order, primary, found, (days, lift))


def planned(
    order: StartOrder, primary: ExperimentMetric, units: ExperimentUnits, asked: tuple[int, float]
) -> PlannedExperiment:
    """Return the plan by some units.

    Args:
        order: Its share and the weights of its first two variants count; there are two at least.
        primary: The metric that decides.
        units: Of the placement, over the days that were read, ``first_day`` from 0.
        asked: Whole days that were read, and the lift.
    """
    days, lift = asked
    sums = control_sums(primary, units)
    total = sums.sums[1] if primary.per else float(sums.count)
    value = sums.sums[0] / total if total else math.nan
    if not days or not sums.sums[0]:
        return PlannedExperiment(primary.name, days, sums.count, value, None)
    weights = [each.weight for each in order.variants]
    part = order.share * (weights[0] + weights[1]) / sum(weights)
    new = np.bincount(units.table.first_day, minlength=days)
    design = Design(lift, treated_share=weights[1] / (weights[0] + weights[1]))
    found = plan(outlook_of(sums, primary.kind), design, tuple(float(each) * part for each in new))
    return PlannedExperiment(primary.name, days, sums.count, value, found)
