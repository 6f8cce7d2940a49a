"""Online metrics and drift of a running engine: a round a minute in the background, for metrics, health and HTTP.

A round copies the held slates from the state, some at a time between the turns of the event loop, and does everything
else on a thread, in pieces of a millisecond with rests of ten times as long: while a piece runs, answers wait for the
interpreter, and on one core for that. Slates that leave during a round, or come, may be missing in it. A round ends
without figures where another state comes into service. A follower has no figures: those of its leader have its slates.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, NamedTuple

import numpy as np

from midstream.core.kinds import IMPRESSION
from midstream.core.types import Calibration, LogPosition
from midstream.engine.engine import Engine
from midstream.engine.listeners import Concern, Listener
from midstream.engine.log_readers import FolderLog
from midstream.engine.online.views import CALIBRATION, NOTHING, OnlineView, drift_rows, gauge_rows, in_words, view_of
from midstream.events.processes.thread_pace import ThreadPace
from midstream.events.served_body import ServedBody
from midstream.feedback.live_windows import SLATES_MAX, LiveFigures, LiveWindows, RecordReads
from midstream.feedback.online_metrics import MetricOptions
from midstream.feedback.outcome_hours import OutcomeHours
from midstream.feedback.slate_labels import models_label
from midstream.monitoring.served_calibration import (
    CalibrationDrift,
    CalibrationWatch,
    Forecast,
    RankerVersion,
    forecast_of,
)
from midstream.monitoring.served_drift import DAY_MS, RateDrift, RateOptions, RateWatch, ScoreDrift, ScoreSamples
from midstream.state.fold import Fold
from midstream.state.outcomes.outcomes import Slates
from midstream.state.outcomes.slate_groups import SlateGroup

PAUSE_S: Final = 60.0
FIRST_S: Final = 1.0
"""Before the first round."""
WINDOWS_MS: Final = (3_600_000, DAY_MS)
SETTLE_MS: Final = 1_800_000
CONVERSION_SETTLE_MS: Final = DAY_MS
"""Conversions come later than clicks: before that a rate of today would be below that of days before."""
CLICK, CONVERSION = "click", "purchase"
"""Interactions that are clicks and conversions, where they are configured."""
CONCERN: Final = "served_drift"
REST: Final = 10
"""Length of a rest, as a multiple of the piece of work before it: a round takes an eleventh of a core at most."""
LOT_POSITIONS: Final = 4_096
"""Positions that are copied at once: 0.1 ms of the event loop, and a millisecond of the thread."""
TOLD_MAX: Final = 3
"""Alarms in the text of the concern."""


class _RoundEnded(Exception):
    """A round that has no figures."""


class OnlineFiguring:
    """An ``EngineService``."""

    def __init__(self, engine: Engine, log: Callable[[], FolderLog]) -> None:
        """Prepare it.

        Args:
            engine: Has the slates.
            log: Opens its log for reading.
        """
        self._engine, self._log = engine, log
        self._scores = ScoreSamples()
        self._windows = LiveWindows(self._note)
        self._forecasts: OrderedDict[int, Forecast] = OrderedDict()
        """Of slates whose records were read, by log position."""
        self._lines: Mapping[RankerVersion, Calibration] = {}
        """Of the versions that are loaded."""
        self._service = engine.supervise("online_figures", self._round, PAUSE_S, first_s=FIRST_S)
        self._is_stopping = False
        self.view = NOTHING
        """Of the last round."""
        engine.listeners.add(Listener(name=CONCERN, concern=self.concern))

    def start(self) -> None:
        """Begin on the running event loop."""
        self._is_stopping = False
        self._service.start()

    async def stop(self) -> None:
        """End it."""
        self._is_stopping = True
        await self._service.stop()

    def concern(self) -> Concern:
        """Return what has drifted by the last round; it ends with the first round in which nothing has."""
        told = [in_words(each) for each in self.view.drift if each.alarm]
        more = f"; and {len(told) - TOLD_MAX} more" if len(told) > TOLD_MAX else ""
        page = "midstream docs online-metrics says what to look at"
        return Concern(CONCERN, f"{'; '.join(told[:TOLD_MAX])}{more}. {page}" if told else "")

    def miscalibrated_since(self, model: str, version: str) -> int:
        """Return since when acts are others than a version predicts, in log time, by the last round; 0 = never."""
        name = models_label({model: version})
        found = (each.since for each in self.view.drift if each.alarm and (each.of, each.model) == (CALIBRATION, name))
        return min((each for each in found if each), default=0)

    async def look(self) -> OnlineView:
        """Make a round; return its figures."""
        fold = self._engine.fold
        now_ms = fold.log_time_ms
        options = _options_of(fold, now_ms)
        calibration = CalibrationWatch(_predicted(fold), options.seen, SETTLE_MS, now_ms)
        rates = _Watches(*_rates(options), calibration, OutcomeHours(options))
        self._windows.begin()
        self._lines = _lines_of(self._engine)
        for some in fold.outcomes.held(LOT_POSITIONS):
            groups = {number: fold.outcomes.group(number) for number in set(some.slate["group"].tolist())}
            since_ms = now_ms - max(WINDOWS_MS)
            await asyncio.to_thread(self._take, some, groups, since_ms, rates)
        opened = partial(self._opened, fold.log_position)
        try:
            found = await asyncio.to_thread(self._figures, fold, options, opened)
        except _RoundEnded:
            return self.view
        drifts = await asyncio.to_thread(self._drifts, rates, now_ms)
        self.view = view_of(found, drifts, await asyncio.to_thread(rates.hours.series), SETTLE_MS)
        gauges = self._engine.metrics.online
        gauges.set(gauge_rows(found), drift_rows(self.view), found.unread, found.left_out)
        return self.view

    async def _round(self) -> None:
        await self.look()

    def _figures(self, fold: Fold, options: MetricOptions, log: Callable[[], RecordReads]) -> LiveFigures:
        """Return the figures of the slates that were taken, on a thread.

        Raises:
            _RoundEnded: Another state came into service, or the engine stops.
        """
        pace = ThreadPace(REST)

        def rest() -> None:
            if self._is_stopping or self._engine.fold is not fold:
                raise _RoundEnded
            pace.rest()

        return self._windows.figures(options, log, fold.vocabulary.id_key, rest)

    def _opened(self, durable: LogPosition) -> RecordReads:
        """Return the log up to what a state has folded."""
        reader = self._log()
        return RecordReads(reader.begin, partial(reader.read, durable=durable))

    def _take(self, some: Slates, groups: Mapping[int, SlateGroup], since_ms: int, rates: "_Watches") -> None:
        """Take some slates in, and rest."""
        pace = ThreadPace(REST)
        self._windows.add(some, groups, since_ms)
        placements = [groups[each].placement for each in some.slate["group"].tolist()]
        for each in rates:
            each.add(some, placements)
        pace.rest()

    def _note(self, position: int, told: ServedBody) -> None:
        scores = np.frombuffer(told.scores, dtype="<f4")
        self._scores.add(told.placement, models_label(told.models), scores, told.now_ms)
        forecast = forecast_of(told, self._lines)
        if forecast is not None:
            self._forecasts[position] = forecast
            if len(self._forecasts) > SLATES_MAX:
                self._forecasts.popitem(last=False)

    def _drifts(self, rates: "_Watches", now_ms: int) -> list[ScoreDrift | RateDrift | CalibrationDrift]:
        plans = self._engine.plans
        calibrations = (
            each
            for each in rates.calibration.drifts(self._forecasts)
            if each.placement in plans and plans[each.placement].models.versions.get(each.by.model) == each.by.version
        )
        return [
            *self._scores.drifts(now_ms),
            *(drift for each in (rates.clicks, rates.conversions) for drift in each.drifts()),
            *calibrations,
        ]


class _Watches(NamedTuple):
    """What is watched in one round."""

    clicks: RateWatch
    conversions: RateWatch
    calibration: CalibrationWatch
    hours: OutcomeHours


def _predicted(fold: Fold) -> int:
    """Return the bits of the actions that rankers predict: those of a weight above 0."""
    actions = fold.outcomes.actions
    named = (name for name, each in fold.settings.types.items() if each.weight > 0 and name in actions)
    return sum(fold.outcomes.action_bit(name) for name in named)


def _lines_of(engine: Engine) -> Mapping[RankerVersion, Calibration]:
    """Return the calibrations of the versions that plans read, in service and in experiments."""
    return {
        RankerVersion(name, plan.models.versions[name]): line
        for plan in engine.plans.values()
        for name, line in plan.models.calibrations.items()
        if name in plan.models.versions
    }


def _options_of(fold: Fold, now_ms: int) -> MetricOptions:
    """Return windows and actions of a state."""
    outcomes = fold.outcomes
    click, conversion = (outcomes.action_bit(name) if name in outcomes.actions else 0 for name in (CLICK, CONVERSION))
    return MetricOptions(
        now_ms=now_ms,
        windows_ms=WINDOWS_MS,
        settle_ms=SETTLE_MS,
        seen=outcomes.action_bit(IMPRESSION),
        clicks=click,
        conversions=conversion,
        items_count=fold.vocabulary.item_count - fold.items.deleted_count,
    )


def _rates(options: MetricOptions) -> tuple[RateWatch, RateWatch]:
    """Return the rates that are watched."""
    clicks = RateOptions("click", options.clicks, SETTLE_MS, options.seen)
    conversions = RateOptions("conversion", options.conversions, CONVERSION_SETTLE_MS)
    return RateWatch(clicks, options.now_ms), RateWatch(conversions, options.now_ms)
