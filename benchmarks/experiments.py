"""Cost of the watch of experiments and of a report, by columns in memory: what both do behind the reading of the log.

    python benchmarks/experiments.py --slates 10000000

Slates of units that come five times each on the mean, two variants, one act for each ten slates, ten columns, four
metrics. The watch counts pieces of 5,000 events and judges its sample of at most 400,000 units. The report sums up the
slates of all units, then their acts, and compares all metrics. Seconds are those of the processor.
"""

import argparse
import time

import numpy as np

from midstream.app.inspect.experiment_units import ExperimentSpan, exposed_units
from midstream.core.types import LogPosition
from midstream.engine.experiments.running_units import RunningUnits
from midstream.engine.experiments.unit_events import Askers, Exposures, UnitActs
from midstream.engine.experiments.watch import ROWS_MAX, UNITS_MAX
from midstream.evaluation.experiments.grouping import UnitTable, units_by_day
from midstream.evaluation.experiments.guardrails import Guardrail
from midstream.evaluation.experiments.report import Observed, ReportDesign, report
from midstream.evaluation.experiments.unit_metrics import Metric, metric_sums

NAMES = ("slates", "empty_slates", "value", *(f"action{number}" for number in range(7)))
METRICS = (
    Metric("acted", "rate", "action0"),
    Metric("value", "mean", "value"),
    Metric("empty", "rate", "empty_slates", better="lower"),
    Metric("by_slate", "ratio", "action0", "slates"),
)
DESIGN = ReportDesign(("a", "b"), METRICS, "acted", (Guardrail("empty", 0.1), Guardrail("value", 0.1)))
SHARES = np.array([0.5, 0.5])
PIECE = 5_000
ACTS = PIECE // 10


def judged(table: UnitTable) -> str:
    """Return the verdict of a report over some units."""
    sums = {each.name: metric_sums(each, table, NAMES, 2) for each in METRICS}
    return report(DESIGN, Observed(units_by_day(table, 2), SHARES, sums)).variants[0].verdict


def watched(unit, empty, value) -> RunningUnits:
    """Count slates and acts in pieces as the watch does."""
    units = RunningUnits(0, NAMES, 2, UNITS_MAX)
    for start in range(0, len(unit), PIECE):
        some = unit[start : start + PIECE]
        none, time_ms = np.zeros_like(some), np.full(len(some), start, dtype=np.int64)
        variant = (some & np.uint64(1)).astype(np.int16)
        units.expose(some, variant, Exposures(Askers(some, none), variant, time_ms, empty[start : start + PIECE]))
        acts, column = some[:ACTS], np.full(len(some[:ACTS]), 3, dtype=np.intp)
        amounts = value[start : start + len(acts)]
        units.count(acts, UnitActs(Askers(acts, none[: len(acts)]), column, amounts, time_ms[: len(acts)]))
        while units.shrink(ROWS_MAX):
            pass
    return units


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slates", type=int, default=10_000_000)
    told = parser.parse_args()
    dice, count = np.random.default_rng(1), told.slates
    ids = dice.integers(1, 1 << 63, count // 5, dtype=np.uint64)
    unit = ids[dice.integers(0, len(ids), count)]
    empty, value = dice.random(count) < 0.01, dice.lognormal(3.0, 1.0, count)
    time_ms = np.arange(count, dtype=np.int64)

    begin = time.process_time()
    units = watched(unit, empty, value)
    took = time.process_time() - begin
    print(f"watch: {took:.1f} s for {count:,} slates, {1e6 * took / count:.2f} µs each; {len(units):,} units kept")
    begin = time.process_time()
    verdict = judged(units.table())
    print(f"watch: {time.process_time() - begin:.2f} s a look at them ({verdict})")

    begin = time.process_time()
    exposed = exposed_units(
        unit, (unit & np.uint64(1)).astype(np.int8), time_ms, empty, ExperimentSpan(LogPosition(0), 0)
    )
    sums = np.zeros((len(NAMES), len(exposed.unit)))
    sums[0], sums[1] = exposed.slates, exposed.empty_slates
    for start in range(0, count // 10, PIECE):
        some = unit[start : start + PIECE]
        place = np.searchsorted(exposed.unit, some)
        np.add.at(sums, (3, place), 1.0)
        np.add.at(sums[2], place, value[start : start + PIECE])
    table = UnitTable(exposed.unit, exposed.variant, np.zeros(len(exposed.unit), dtype=np.int32), sums)
    middle = time.process_time()
    verdict = judged(table)
    end = time.process_time()
    print(f"report: {middle - begin:.1f} s to sum up {count:,} slates and {count // 10:,} acts")
    print(f"report: {end - middle:.1f} s for {len(METRICS)} metrics and guardrails ({verdict})")


if __name__ == "__main__":
    main()
