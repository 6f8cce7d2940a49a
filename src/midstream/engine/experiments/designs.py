"""Designs of experiments as reports and the watch read them: declared metrics, guardrails, how units are checked."""

from collections.abc import Mapping, Sequence

from midstream.evaluation.experiments.guardrails import Guardrail
from midstream.evaluation.experiments.report import ReportDesign
from midstream.evaluation.experiments.sample_ratio import SampleRatioRule
from midstream.evaluation.experiments.unit_metrics import Metric
from midstream.experiments.documents import Experiment
from midstream.experiments.metrics import ExperimentMetric, default_metrics
from midstream.state.settings import EventType


def metrics_of(told: Experiment, types: Mapping[str, EventType]) -> tuple[ExperimentMetric, ...]:
    """Return what an experiment is judged by; one that is older than the declaration of metrics by the default ones."""
    return told.metrics or default_metrics(types, told.design, told.allocation)


def design_of(told: Experiment, metrics: Sequence[ExperimentMetric]) -> ReportDesign:
    """Return the decisions of an experiment as a report reads them."""
    return ReportDesign(
        variants=tuple(each.name for each in told.variants),
        metrics=tuple(map(metric_of, metrics)),
        primary=next(each.name for each in metrics if each.role == "primary"),
        guardrails=tuple(Guardrail(each.name, each.harm_max) for each in metrics if each.role == "guardrail"),
        sample_ratio=SampleRatioRule(is_last_day_open=told.state == "running"),
    )


def metric_of(told: ExperimentMetric) -> Metric:
    """Return a declared metric as statistics read it."""
    return Metric(told.name, told.kind, told.counts, told.per, told.better, told.cap)
