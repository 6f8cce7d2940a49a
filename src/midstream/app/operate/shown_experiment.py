"""An experiment as it is shown: what is known of it, and what its units in the log say of its metrics.

Beside ``midstream.app.operate.experiments``, whose orders wait for no statistics.
"""

from collections.abc import Iterator, Sequence
from math import isnan
from pathlib import Path

import msgspec

from midstream.app.config.schema import Config
from midstream.app.inspect.allocation_report import AllocationReport, allocation_lines, allocation_report
from midstream.app.inspect.draft_report import DraftReport, draft_lines, draft_report
from midstream.app.inspect.drafted_places import read_drafts
from midstream.app.inspect.experiment_report import report_of
from midstream.app.inspect.experiment_units import ExperimentSpan, read_units
from midstream.app.inspect.folder_view import LogView, state_of
from midstream.app.inspect.online_report import SEGMENTS_MAX
from midstream.app.operate.experiments import show_experiment
from midstream.core.errors import Fault, RequestInvalid
from midstream.core.types import LogPosition
from midstream.engine.experiments.designs import metrics_of
from midstream.engine.experiments.views import ExperimentView
from midstream.evaluation.experiments.grouping import CROSSED
from midstream.evaluation.experiments.report import ExperimentReport
from midstream.evaluation.experiments.sample_ratio import SampleRatio
from midstream.experiments.metrics import ExperimentMetric
from midstream.experiments.routing import experiments_in


class ShownExperiment(msgspec.Struct, frozen=True):
    """An experiment, and the units that its variants had."""

    experiment: ExperimentView
    units: tuple[int, ...] | None = None
    """By variant, the control first; None = the log was not read."""
    crossed_units: int = 0
    """Units that saw several variants, as merged users may; they are in none."""
    slates: tuple[int, ...] = ()
    """By variant, in the log."""
    slates_without_unit: int = 0
    """Slates of users who were erased."""
    metrics: tuple[ExperimentMetric, ...] = ()
    """What it is judged by."""
    report: ExperimentReport | None = None
    """The sample ratio, and where it holds the metrics of each variant; None = no unit was exposed."""
    drafts: DraftReport | None = None
    """Of an interleaving experiment, instead of units and report: preferences between its variants."""

    allocation: AllocationReport | None = None
    """Of shares that move, instead of the report: the posterior, and no verdict."""

    @property
    def sample_ratio(self) -> SampleRatio | None:
        """Units against the stated shares; None = no unit was exposed."""
        return None if self.report is None else self.report.sample_ratio

    def lines(self) -> Iterator[str]:
        """Yield what of the units is to be printed."""
        if self.drafts is not None:
            yield from draft_lines(self.drafts, self.experiment.variants[0].name)
        if self.units is None:
            return
        names = [each.name for each in self.experiment.variants]
        yield "units: " + ", ".join(f"{count:,} {name}" for name, count in zip(names, self.units, strict=True))
        if self.crossed_units:
            yield f"{self.crossed_units:,} units saw several variants, and are in none"
        if self.slates_without_unit:
            yield f"{self.slates_without_unit:,} slates are of erased users"
        if self.allocation is not None:
            yield from allocation_lines(self.allocation)
        elif (ratio := self.sample_ratio) is None:
            yield "sample ratio: no unit was exposed"
        elif ratio.is_failed:
            yield f"SAMPLE RATIO IS WRONG, no figure of this experiment can be believed: {ratio.reason}"
        else:
            one_look = "too few units for chi-square" if isnan(ratio.p_value) else f"p {ratio.p_value:.3g} (chi-square)"
            yield f"sample ratio: as stated, {one_look}, {ratio.any_time_p_value:.3g} at all looks"


def shown_experiment(
    folder: Path, config: Config, name: str, segment_keys: Sequence[str] = (), *, counts_units: bool = True
) -> ShownExperiment:
    """Return an experiment with its report, from served records and interactions of the log.

    Args:
        folder: Of the shop.
        config: Of the folder.
        name: Of the experiment.
        segment_keys: Keys of the request's context: the primary metric is compared by their values too.
        counts_units: Whether the log is read.

    Cost: that of a start, and 1 µs an event of the log.

    Raises:
        NotFound: There is none of that name.
        RequestInvalid: Segments are too many, or of an experiment that has none.
    """
    if len(segment_keys) > SEGMENTS_MAX:
        raise _no_segments(f"{len(segment_keys)} came.", f"At most {SEGMENTS_MAX}.")
    view = show_experiment(folder, config, name)
    if segment_keys and not counts_units:
        raise _no_segments("Units are not counted.", "Segments without --no-units.")
    if not counts_units:
        return ShownExperiment(view)
    log = LogView(folder)
    fold = state_of(folder, config, log).fold
    told = next((each for each in experiments_in(fold.placements.current) if each.name == name), None)
    if told is None:  # it was started behind what was durable when the log was looked at
        return ShownExperiment(view)
    metrics = metrics_of(told, fold.settings.types)
    counted = [each for metric in metrics for each in (metric.counts, metric.per) if each is not None]
    if segment_keys and (told.design == "interleave" or told.allocation != "fixed"):
        raise _no_segments(f"{name!r} compares no units of fixed shares.", "An experiment that splits units.")
    if told.design == "interleave":
        drafted = draft_report(told, metrics, read_drafts(log, fold, told, metrics), fold.log_time_ms)
        return ShownExperiment(view, metrics=metrics, drafts=drafted)
    is_first_day = told.allocation != "fixed"
    began = LogPosition(told.began_position)
    span = ExperimentSpan(began, told.began_ms, told.ended_ms, is_first_day, tuple(segment_keys))
    found = read_units(log, fold, [each.placement for each in told.variants], span, counted)
    return ShownExperiment(
        view,
        tuple(int((found.table.variant == number).sum()) for number in range(len(told.variants))),
        int((found.table.variant == CROSSED).sum()),
        found.slates,
        found.unnamed,
        metrics,
        report_of(told, metrics, found) if told.allocation == "fixed" else None,
        allocation=None if told.allocation == "fixed" else allocation_report(told, metrics, found),
    )


def _no_segments(came: str, right: str) -> RequestInvalid:
    return RequestInvalid((Fault("--segment", came, right, "/docs/experiments.md#segments"),))
