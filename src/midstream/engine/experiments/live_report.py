"""Live report of a running experiment: the statistics of its report, of the units that the watch keeps.

The log is not read for it: the watch has read it. Units of before the start are not known to the watch, so no interval
is narrowed by their past; all else is as in a report of the log. A report is kept for some seconds, and one is made at
a time, on a thread, so readers of the page of an experiment cost a running server no more than one reader.
"""

import asyncio
from typing import NamedTuple

import msgspec
import numpy as np

from midstream.engine.engine import Engine
from midstream.engine.experiments.designs import design_of, metric_of
from midstream.engine.experiments.experimenting import Experimenting
from midstream.engine.experiments.views import STATES
from midstream.engine.experiments.watch import ExperimentWatch, UnitsSeen
from midstream.evaluation.experiments.grouping import CROSSED, units_by_day
from midstream.evaluation.experiments.report import ExperimentReport, Observed, report
from midstream.evaluation.experiments.unit_metrics import metric_sums

KEPT_S = 5.0
"""How long a report is given again: making one takes up to half a second of a core at 400,000 units."""


class LiveReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a running experiment shows now."""

    name: str
    state: STATES
    log_position: str | None = None
    """Token of the position up to which the log was read; None = it was not read by this process."""
    units: tuple[int, ...] = ()
    """By variant, the control first; those of the sample."""
    slates: tuple[int, ...] = ()
    """By variant, of all units."""
    sampled: int = 1
    """One of so many units is counted: the watch keeps a bounded number."""
    report: ExperimentReport | None = None
    why_not: str = ""
    """Why there is no report; empty = there is one."""


class _Kept(NamedTuple):
    made_s: float
    report: LiveReport


class ExperimentReports:
    """Live reports of an engine's experiments, on its event loop."""

    def __init__(self, engine: Engine, experimenting: Experimenting, watch: ExperimentWatch) -> None:
        """Read what ``watch`` keeps."""
        self._engine = engine
        self._experimenting = experimenting
        self._watch = watch
        self._turn = asyncio.Lock()
        self._kept: dict[str, _Kept] = {}
        """Of running experiments, by name."""

    async def report(self, name: str) -> LiveReport:
        """Return what an experiment shows, at most ``KEPT_S`` old.

        Cost: a copy of its units on the event loop, 20 ms at 400,000, and the statistics on a thread.

        Raises:
            NotFound: There is none of that name.
        """
        async with self._turn:
            view, now_s = self._experimenting.view(name), self._engine.host.monotonic()
            if why_not := _why_not(view.state, view.design, view.allocation):
                self._kept.pop(name, None)
                return LiveReport(name=name, state=view.state, why_not=why_not)
            kept = self._kept.get(name)
            if kept is not None and now_s - kept.made_s < KEPT_S and kept.report.state == view.state:
                return kept.report
            seen = self._watch.units_seen(name)
            if seen is None:
                return LiveReport(name=name, state=view.state, why_not="the watch has not read the log for it yet")
            found = await asyncio.to_thread(report_of_units, seen)
            told = LiveReport(
                name=name,
                state=view.state,
                log_position=self._engine.token(seen.log_position),
                units=tuple(int((seen.table.variant == at).sum()) for at in range(len(view.variants))),
                slates=seen.slates,
                sampled=seen.sampled,
                report=found,
                why_not="no unit of one variant alone had a slate yet" if found is None else "",
            )
            self._kept = {each: kept for each, kept in self._kept.items() if now_s - kept.made_s < KEPT_S}
            self._kept[name] = _Kept(now_s, told)
            return told


def _why_not(state: str, design: str, allocation: str) -> str:
    """Return why an experiment has no live report; empty = it has one."""
    if state == "stopped":
        return "it is stopped: midstream experiments show reads the log"
    if design != "split":
        return "its variants draft each slate: midstream experiments show reads the log"
    return "its shares move, so there is no verdict: its moves have the rates" if allocation != "fixed" else ""


def report_of_units(seen: UnitsSeen) -> ExperimentReport | None:
    """Return the report of watched units; None = no unit of one variant alone was exposed."""
    told, table, count = seen.told, seen.table, len(seen.told.variants)
    by_day = units_by_day(table, count)
    if not len(by_day):
        return None
    shares = np.array([each.share for each in told.variants], dtype=np.float64)
    sums = {each.name: metric_sums(metric_of(each), table, seen.names, count) for each in seen.metrics}
    crossed = int((table.variant == CROSSED).sum())
    return report(design_of(told, seen.metrics), Observed(by_day, shares, sums, crossed_units=crossed))
