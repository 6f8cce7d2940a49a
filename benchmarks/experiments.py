"""Cost of the watch of experiments, of a live report and of one of the log, by columns in memory.

    python benchmarks/experiments.py --slates 10000000

Slates of units that come five times each on the mean, two variants, one act for each ten slates, ten columns, four
metrics; the reading of the log is no part of it. The watch counts pieces of 5,000 events and judges its sample of at
most 400,000 units. The live report is that of ``GET /v1/experiments/{name}/report``: a copy of these units on the event
loop, then the statistics on a thread. The report of the log sums up the slates of all units, then their acts, and
compares all metrics. Seconds are those of the processor.
"""

import argparse
import resource
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from midstream.app.inspect.experiment_units import ExperimentSpan, exposed_units
from midstream.core.types import LogPosition
from midstream.engine.experiments.live_report import report_of_units
from midstream.engine.experiments.running_units import RunningUnits
from midstream.engine.experiments.unit_events import Askers, Exposures, UnitActs
from midstream.engine.experiments.watch import ROWS_MAX, UNITS_MAX, UnitsSeen
from midstream.evaluation.experiments.grouping import UnitTable, units_by_day
from midstream.evaluation.experiments.guardrails import Guardrail
from midstream.evaluation.experiments.report import Observed, ReportDesign, report
from midstream.evaluation.experiments.unit_metrics import Metric, metric_sums
from midstream.experiments.documents import NewExperiment, NewVariant, RampStep, started
from midstream.experiments.metrics import (
    BUILT_IN,
    EMPTY_SLATES,
    LATENCY_US,
    SLATES,
    TIMED_SLATES,
    VALUE,
    ExperimentMetric,
)

ACTIONS = tuple(f"action{number}" for number in range(5))
NAMES = (*BUILT_IN, *ACTIONS)
"""Ten columns."""
METRICS = (
    Metric("acted", "rate", "action0"),
    Metric("value", "mean", "value"),
    Metric("empty", "rate", "empty_slates", better="lower"),
    Metric("by_slate", "ratio", "action0", "slates"),
)
DECLARED = tuple(
    ExperimentMetric(each.name, each.numerator, each.kind, each.denominator, better=each.better, role=role)
    for each, role in zip(METRICS, ("primary", "guardrail", "guardrail", "secondary"), strict=True)
)
DESIGN = ReportDesign(("a", "b"), METRICS, "acted", (Guardrail("empty", 0.1), Guardrail("value", 0.1)))
SHARES = np.array([0.5, 0.5])
PIECE = 5_000
ACTS = PIECE // 10
ROUNDS = 5
"""Live reports of the same units; the median is printed."""


@dataclass(frozen=True)
class Slates:
    """Columns of (slates,)."""

    unit: np.ndarray
    empty: np.ndarray
    value: np.ndarray
    took_us: np.ndarray


def judged(table: UnitTable) -> str:
    """Return the verdict of a report over some units."""
    sums = {each.name: metric_sums(each, table, NAMES, 2) for each in METRICS}
    return report(DESIGN, Observed(units_by_day(table, 2), SHARES, sums)).variants[0].verdict


def watched(slates: Slates) -> RunningUnits:
    """Count slates and acts in pieces as the watch does."""
    units = RunningUnits(0, NAMES, 2, UNITS_MAX)
    column = np.full(ACTS, NAMES.index(ACTIONS[0]), dtype=np.intp)
    for start in range(0, len(slates.unit), PIECE):
        piece = slice(start, start + PIECE)
        some = slates.unit[piece]
        none, time_ms = np.zeros_like(some), np.full(len(some), start, dtype=np.int64)
        variant = (some & np.uint64(1)).astype(np.int16)
        told = Exposures(Askers(some, none), variant, time_ms, slates.empty[piece], slates.took_us[piece])
        units.expose(some, variant, told)
        acts = some[:ACTS]
        count = len(acts)
        amounts = slates.value[start : start + count]
        units.count(
            acts, UnitActs(Askers(acts, none[:count]), column[:count], amounts, time_ms[:count], np.arange(count))
        )
        while units.shrink(ROWS_MAX):
            pass
    return units


def live(units: RunningUnits) -> None:
    """Print what a live report of watched units costs, and what they keep."""
    variants = NewVariant("a"), NewVariant("b")
    new = NewExperiment("size", "home", variants, "home", 10_000, (RampStep(0, 10_000),), DECLARED)
    told = started(new, ("", ""), 0, 0)
    copied_s, made_s = [], []
    for _ in range(ROUNDS):
        begin = time.process_time()
        table = units.table()
        seen = UnitsSeen(
            table, units.names, told, DECLARED, tuple(units.slates.tolist()), 1 << units.halvings, LogPosition(0)
        )
        middle = time.process_time()
        found = report_of_units(seen)
        copied_s.append(middle - begin)
        made_s.append(time.process_time() - middle)
    verdict = "none" if found is None else found.variants[0].verdict
    print(
        f"live report: {1_000 * statistics.median(copied_s):.0f} ms for the copy on the event loop, "
        f"{statistics.median(made_s):.2f} s for the statistics on a thread ({verdict}); one of "
        f"{1 << units.halvings} units is kept"
    )


def resident_mib() -> float:
    """Return the resident memory of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / (1 << 20)


def of_log(slates: Slates, time_ms: np.ndarray) -> None:
    """Print what a report of the whole log costs behind its reading."""
    unit, count = slates.unit, len(slates.unit)
    begin = time.process_time()
    variant, span = (unit & np.uint64(1)).astype(np.int8), ExperimentSpan(LogPosition(0), 0)
    exposed = exposed_units(unit, variant, time_ms, slates.empty, slates.took_us, span)
    sums = np.zeros((len(NAMES), len(exposed.unit)))
    for name, column in (
        (SLATES, exposed.slates),
        (EMPTY_SLATES, exposed.empty_slates),
        (LATENCY_US, exposed.latency_us),
        (TIMED_SLATES, exposed.timed_slates),
    ):
        sums[NAMES.index(name)] = column
    acted, value = NAMES.index(ACTIONS[0]), NAMES.index(VALUE)
    for start in range(0, count // 10, PIECE):
        some = unit[start : start + PIECE]
        place = np.searchsorted(exposed.unit, some)
        np.add.at(sums, (acted, place), 1.0)
        np.add.at(sums[value], place, slates.value[start : start + PIECE])
    table = UnitTable(exposed.unit, exposed.variant, np.zeros(len(exposed.unit), dtype=np.int32), sums)
    middle = time.process_time()
    verdict = judged(table)
    end = time.process_time()
    print(f"report: {middle - begin:.1f} s to sum up {count:,} slates and {count // 10:,} acts")
    print(f"report: {end - middle:.1f} s for {len(METRICS)} metrics and guardrails ({verdict})")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slates", type=int, default=10_000_000)
    count = parser.parse_args().slates
    dice = np.random.default_rng(1)
    ids = dice.integers(1, 1 << 63, count // 5, dtype=np.uint64)
    unit = ids[dice.integers(0, len(ids), count)]
    took_us = np.rint(dice.lognormal(6.0, 0.5, count))
    slates = Slates(unit, dice.random(count) < 0.01, dice.lognormal(3.0, 1.0, count), took_us)

    before_mib = resident_mib()
    begin = time.process_time()
    units = watched(slates)
    took = time.process_time() - begin
    kept_mib = resident_mib() - before_mib
    print(f"watch: {took:.1f} s for {count:,} slates, {1e6 * took / count:.2f} µs each; {len(units):,} units kept")
    print(f"watch: {kept_mib:.0f} MiB more after all slates than before; units are kept in memory alone")
    begin = time.process_time()
    verdict = judged(units.table())
    print(f"watch: {time.process_time() - begin:.2f} s a look at them ({verdict})")
    live(units)
    of_log(slates, np.arange(count, dtype=np.int64))


if __name__ == "__main__":
    main()
