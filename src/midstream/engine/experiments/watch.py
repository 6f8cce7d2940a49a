"""Watch of running experiments: reads the log as it grows, judges guardrails at each look, and stops what does harm.

It judges as a report does, by the same functions over the same sums, so that a report says why it stopped. Intervals
hold at all looks together: looking every second stops a harmless variant no more often than looking once a day. Where
the sample ratio is wrong nothing is judged, and health says so.

The control document in the log is all that is kept of it. A start reads the log from the beginning of the oldest
running experiment, in pieces on a thread, with a pause after each as long as the piece took: a long log delays its
looks and no answer. Of several nodes of one log the one that has the lease stops; a stop that comes second is refused.
"""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from midstream.core.errors import ConfigInvalid, LogRewritten, NotFound, RebuildRunning
from midstream.core.types import EventBatch, LogPosition
from midstream.engine.engine import Engine
from midstream.engine.experiments.designs import design_of, metric_of, metrics_of
from midstream.engine.experiments.experimenting import Experimenting
from midstream.engine.experiments.new_aliases import AliasReader
from midstream.engine.experiments.running_units import POSITIONS_MAX, RunningUnits
from midstream.engine.experiments.unit_events import Exposures, UnitActs, acts_of, exposures_of
from midstream.engine.lease import OWN, Lease
from midstream.engine.listeners import Concern, Listener
from midstream.engine.placements.control_changes import Said
from midstream.engine.sinks.log_pieces import LogPieces, Picked
from midstream.engine.snapshots import compactions
from midstream.evaluation.experiments.grouping import UnitTable, units_by_day
from midstream.evaluation.experiments.guardrails import GuardrailVerdict
from midstream.evaluation.experiments.report import guardrail_verdicts
from midstream.evaluation.experiments.sample_ratio import check_sample_ratio
from midstream.evaluation.experiments.unit_metrics import metric_sums
from midstream.events.schema import build
from midstream.experiments.documents import Experiment
from midstream.experiments.harm import REASON_CHARACTERS_MAX, Harm
from midstream.experiments.metrics import BUILT_IN, ExperimentMetric
from midstream.experiments.routing import experiments_in
from midstream.monitoring.experiment_gauges import ExperimentRow
from midstream.state.structures.hashing import IdKey

LOOK_S = 1.0
"""Between two looks: with a piece and a stop of a second each, a broken guardrail stands three of them."""
BACK_OFF_S_MAX = 2.0
"""After a stop that failed, such as one of a log that takes no more events: it is tried again as soon."""
UNITS_MAX = 400_000
"""Units of all running experiments together, 90 MB with ten columns; beyond them each keeps a sample."""
UNITS_MIN = 4_000
"""Of each experiment, however many run."""
PIECES_MAX = 100
"""Of one look: half a million events, 5 s of a core at 10 µs each; a longer log is judged as far as it was read."""
MERGES_MAX = 250
"""Of one turn of the event loop: 3 ms where each joins two units that are kept, as with ten columns."""
ROWS_MAX = 1_000
"""Of one turn, of those that a smaller sample may leave out: 2 ms."""
LAG_S_MAX = 60.0
"""Time without a look at all of the log from which on health names the watch: harm may stand that long."""
LEASE = "experiments"
CONCERN = "experiments"
AUTHOR = "midstream"


@dataclass(frozen=True, slots=True)
class ExperimentLook:
    """An experiment as it was seen last."""

    log_position: int
    """Up to which the log was read."""
    units: tuple[int, ...]
    """By variant, the control first; those of a sample where there are too many."""
    slates: tuple[int, ...]
    verdicts: Mapping[str, tuple[GuardrailVerdict, ...]]
    """Of each variant but the control, by name; empty where nothing may be claimed."""
    invalid: str = ""
    """Why nothing may be claimed; empty = it may."""
    sampled: int = 1
    """One of so many units is judged."""


class WatchLag(NamedTuple):
    """Distance of the watch from the end of the log."""

    events: int
    """That it has not read."""
    seconds: float
    """Since it read all that there was."""


@dataclass(frozen=True, slots=True, eq=False)
class UnitsSeen:
    """Units of a running experiment, and what it is judged by."""

    table: UnitTable
    names: tuple[str, ...]
    """Of its columns."""
    told: Experiment
    metrics: tuple[ExperimentMetric, ...]
    slates: tuple[int, ...]
    """Of each variant, those of units outside the sample too."""
    sampled: int
    """One of so many units is kept."""
    log_position: LogPosition
    """Up to which they were counted."""


@dataclass(slots=True)
class _Watched:
    """One running experiment."""

    told: Experiment
    metrics: tuple[ExperimentMetric, ...]
    units: RunningUnits
    end: LogPosition
    """Up to which its units were counted."""
    is_changed: bool = True


@dataclass(frozen=True, slots=True)
class _Piece:
    """What a piece of the log says of units."""

    exposures: Exposures
    acts: UnitActs
    taken_back: UnitActs
    """Acts whose retractions are in the piece; they stand in it or before."""
    end: LogPosition


@dataclass(slots=True)
class _Numbers:
    """Numbers of what is read of the log, for all running experiments."""

    placements: dict[str, int] = field(default_factory=dict[str, int])
    actions: dict[bytes, int] = field(default_factory=dict[bytes, int])
    names: tuple[str, ...] = BUILT_IN
    """Columns: what is built in, then actions."""


class ExperimentWatch:
    """A service that runs beside an engine: guardrails of running experiments, looked at every second."""

    def __init__(
        self, engine: Engine, experimenting: Experimenting, pieces: LogPieces, units_max: int = UNITS_MAX
    ) -> None:
        """Watch nothing until it is started."""
        self._engine = engine
        self._experimenting = experimenting
        self._pieces = pieces
        self._units_max = units_max
        self._watched: dict[str, _Watched] = {}
        self._numbers = _Numbers()
        self._position = LogPosition(0)
        self._read_all_s = 0.0
        """Clock of the last look that read all that there was."""
        self._merged = AliasReader()
        self._lease: Lease = OWN
        self._looks: dict[str, ExperimentLook] = {}
        """Of experiments that are kept, by name."""
        self._tell: list[Callable[[str], None]] = []
        self._service = engine.supervise("experiment_watch", self.look, LOOK_S)
        self._service.back_off_s_max = BACK_OFF_S_MAX
        engine.listeners.add(
            Listener(name="experiment_watch", swapped=pieces.forget, concern=self.concern, gauges=self._set_gauges)
        )

    def share(self, lease: Callable[[str], Lease]) -> None:
        """Stop experiments while this node has the lease alone; before the start."""
        self._lease = lease(LEASE)

    def listen(self, stopped: Callable[[str], None]) -> None:
        """Call ``stopped`` with the name of each experiment that this watch stopped, right after it is in force."""
        self._tell.append(stopped)

    def start(self) -> None:
        """Begin on the running event loop."""
        self._read_all_s = self._engine.host.monotonic()
        self._service.start()

    async def stop(self) -> None:
        """End, in the middle of a piece too."""
        await self._service.stop()

    def seen(self, name: str) -> ExperimentLook | None:
        """Return an experiment as it was seen last while it ran; None = not by this process."""
        return self._looks.get(name)

    @property
    def is_in_charge(self) -> bool:
        """Whether this process changes experiments by itself: of several nodes of one log one does."""
        return self._lease.is_held

    def units_seen(self, name: str) -> UnitsSeen | None:
        """Return the units of a running experiment as far as the log was read, a copy; None = it is not watched."""
        watched = self._watched.get(name)
        if watched is None:
            return None
        units, told, metrics = watched.units, watched.told, watched.metrics
        slates, sampled = tuple(int(each) for each in units.slates), 1 << units.halvings
        return UnitsSeen(units.table(), units.names, told, metrics, slates, sampled, watched.end)

    def lag(self) -> WatchLag:
        """Return how far the watch is behind the log; nothing while no experiment is watched."""
        events = self._engine.fold.log_position - self._position if self._watched else 0
        if events <= 0:
            return WatchLag(0, 0.0)
        return WatchLag(events, max(0.0, self._engine.host.monotonic() - self._read_all_s))

    def concern(self) -> Concern:
        """Return which experiments cannot be judged, and why."""
        told = [
            f"experiment {name} is not judged, and nothing stops it: {each.invalid}"
            for name, each in sorted(self._looks.items())
            if name in self._watched and each.invalid
        ]
        lag = self.lag()
        if lag.seconds > LAG_S_MAX:
            told.append(
                f"the watch of experiments has {lag.events:,} events of the log to read, and read all of it "
                f"{lag.seconds:.0f} s ago: what they show stops nothing yet"
            )
        return Concern(CONCERN, "; ".join(told))

    def _set_gauges(self) -> None:
        kept = experiments_in(self._engine.fold.placements.current)
        suspended = self._engine.live.routing.routes.suspended
        rows = [
            ExperimentRow(
                name=each.name,
                state="suspended" if each.state == "running" and each.name in suspended else each.state,
                is_harmed=bool(each.harms),
                is_ratio_wrong=each.name in self._watched and bool(self._looks_invalid(each.name)),
            )
            for each in kept
        ]
        self._engine.metrics.experiments.set(rows, *self.lag())

    def _looks_invalid(self, name: str) -> str:
        look = self._looks.get(name)
        return "" if look is None else look.invalid

    async def look(self) -> None:
        """Read what is new in the log, judge what changed, stop what does harm."""
        began_s, upto = self._engine.host.monotonic(), self._engine.fold.log_position
        self._keep()
        if not self._watched:
            self._read_all_s = began_s
            return
        if await self._read(upto):
            self._read_all_s = began_s
        failed: list[BaseException] = []
        for watched in tuple(self._watched.values()):
            name = watched.told.name
            if not watched.is_changed and (look := self._looks.get(name)) is not None:
                self._looks[name] = replace(look, log_position=self._position)  # nothing newer is about it
            if watched.is_changed:
                # What one of them meets keeps no other one from being judged.
                (error,) = await asyncio.gather(self._judge(watched), return_exceptions=True)
                failed += [] if error is None else [error]
        if failed:
            raise failed[0]

    async def _judge(self, watched: _Watched) -> None:
        """Judge one experiment, and stop what does harm; until that is done it is judged again at each look."""
        look = self._looks[watched.told.name] = await asyncio.to_thread(judged, watched, self._position)
        watched.is_changed = not await self._act(watched, look)

    def _keep(self) -> None:
        """Watch what runs now, and nothing else."""
        kept = experiments_in(self._engine.fold.placements.current)
        running = {each.name: each for each in kept if each.state == "running" and each.design == "split"}
        names = {each.name for each in kept}
        if any(each.end != self._position for each in self._watched.values()):
            self._watched.clear()  # a stop or an error came between two turns of one piece: all are read again
        self._looks = {name: each for name, each in self._looks.items() if name in names}
        if running.keys() != self._watched.keys():
            self._renew(running)
        for name, told in running.items():
            self._watched[name].told = told

    def _renew(self, running: Mapping[str, Experiment]) -> None:
        fresh = running.keys() - self._watched.keys()
        fold = self._engine.fold
        metrics = {name: metrics_of(running[name], fold.settings.types) for name in running}
        self._numbers = _numbers_of(running, metrics, fold.outcomes.actions)
        if any(self._numbers.names != each.units.names for each in self._watched.values()):
            self._watched.clear()  # an action more is counted: all are read again
            fresh = set(running)
        if fresh and (not self._watched or min(running[name].began_position for name in fresh) < self._position):
            self._watched.clear()
            fresh = set(running)
            self._position = LogPosition(min(each.began_position for each in running.values()))
            self._merged.skip(fold.vocabulary.aliases)  # no unit is kept yet
        self._watched = {name: each for name, each in self._watched.items() if name in running}
        units_max = max(UNITS_MIN, self._units_max // max(1, len(running)))
        for name in sorted(fresh):
            told = running[name]
            names, count, is_first_day = self._numbers.names, len(told.variants), told.allocation != "fixed"
            units = RunningUnits(told.began_ms, names, count, units_max, is_first_day=is_first_day)
            self._watched[name] = _Watched(told, metrics[name], units, self._position)
        for each in self._watched.values():
            each.units.units_max = units_max
            each.units.counted.positions_max = POSITIONS_MAX // len(running)

    async def _read(self, upto: LogPosition) -> bool:
        """Count what is new in the log; return whether that was all."""
        monotonic = self._engine.host.monotonic
        for _ in range(PIECES_MAX):
            began_s = monotonic()
            try:
                found = await self._pieces.next(self._position, upto) if self._position < upto else None
                gone = _NO_ACTS if found is None else await self._taken_back(found[1], upto)
            except LogRewritten:  # the same events at the same positions, read from the other writing at the next look
                return False
            if found is None:
                return True
            first, batch = found
            key = self._engine.fold.vocabulary.id_key
            piece = await asyncio.to_thread(_piece_of, first, batch, gone, self._numbers, key)
            await self._count(piece)
            await asyncio.sleep(monotonic() - began_s)
        return self._position >= upto

    async def _taken_back(self, batch: EventBatch, upto: LogPosition) -> Picked:
        """Return the acts that events of a batch take back, of those that an experiment may have counted."""
        began = min((each.told.began_position for each in self._watched.values()), default=0)
        positions = sorted(each for each in compactions.acts_taken_back(batch) if each >= began)
        return await self._pieces.events_at(positions, upto) if positions else _NO_ACTS

    async def _count(self, piece: _Piece) -> None:
        """Count a piece, one experiment in a turn of the event loop.

        Whom an id stands for may change between turns: the units of all experiments and those of the piece are as they
        are in the turn after the last merge, and later merges are counted with the next piece.
        """
        while self._unite():  # noqa: ASYNC110  not a wait: each turn has work of its own
            await asyncio.sleep(0)
        aliases = self._engine.fold.vocabulary.aliases
        exposed, acted = piece.exposures.askers.united(aliases), piece.acts.askers.united(aliases)
        gone = piece.taken_back.askers.united(aliases)
        for watched in tuple(self._watched.values()):
            told = watched.told
            first = self._numbers.placements[told.variants[0].placement]
            variant = piece.exposures.placement - first
            variant[(variant < 0) | (variant >= len(told.variants))] = -1
            if (variant >= 0).any() or len(acted):
                watched.units.expose(exposed, variant, piece.exposures)
                watched.units.count(acted, piece.acts)
                watched.is_changed = True
            if len(gone):
                watched.is_changed |= watched.units.take_back(gone, piece.taken_back)
            while watched.units.shrink(ROWS_MAX):  # noqa: ASYNC110  as above
                await asyncio.sleep(0)
            watched.end = piece.end
            await asyncio.sleep(0)
        self._position = piece.end

    def _unite(self) -> bool:
        """Make units one that were merged since, as many as one turn of the event loop may; False = none is left."""
        found = self._merged.read(self._engine.fold.vocabulary.aliases, MERGES_MAX // len(self._watched) + 1)
        for watched in self._watched.values():
            watched.is_changed |= watched.units.unite(found.alias, found.into)
        return len(found.alias) > 0

    async def _act(self, watched: _Watched, look: ExperimentLook) -> bool:
        """Stop what does harm; return False where that has to be tried again."""
        told = watched.told
        harms = harms_of(told, watched.metrics, look) if told.auto_stop and not look.invalid else ()
        if not harms or not self._lease.is_held:
            return not harms  # another node stops it, or this one once it has the lease
        try:
            view = await self._experimenting.halt(told.name, harms, Said(AUTHOR))
        except RebuildRunning:
            return False
        except (ConfigInvalid, NotFound):
            kept = experiments_in(self._engine.fold.placements.current)
            now = next((each for each in kept if each.name == told.name and each.state == "running"), None)
            if now is not None and harms_of(now, watched.metrics, look):
                raise
            return True  # somebody stopped it first
        for tell in self._tell if view.state == "stopped" else ():
            tell(told.name)
        return True


def _numbers_of(
    running: Mapping[str, Experiment], metrics: Mapping[str, Sequence[ExperimentMetric]], actions: Sequence[str]
) -> _Numbers:
    placements = [each.placement for told in running.values() for each in told.variants]
    declared = (
        name for each in metrics.values() for metric in each for name in (metric.counts, metric.per) if name is not None
    )
    own = tuple(dict.fromkeys(each for each in (*actions, *sorted(declared)) if each not in BUILT_IN))
    names = (*BUILT_IN, *own)
    return _Numbers(
        {name: number for number, name in enumerate(placements)},
        {name.encode(): names.index(name) for name in own},
        names,
    )


_NO_ACTS: Picked = (np.empty(0, dtype=np.int64), build(()))


def _piece_of(first: LogPosition, batch: EventBatch, gone: Picked, numbers: _Numbers, key: IdKey) -> _Piece:
    positions, taken_back = gone
    return _Piece(
        exposures_of(batch, numbers.placements, key),
        acts_of(batch, numbers.actions, key, first + np.arange(len(batch))),
        acts_of(taken_back, numbers.actions, key, positions),
        LogPosition(first + len(batch)),
    )


def judged(watched: _Watched, position: LogPosition) -> ExperimentLook:
    """Return an experiment as its units say now; by the functions of a report."""
    told, table = watched.told, watched.units.table()
    count = len(told.variants)
    units = tuple(int((table.variant == number).sum()) for number in range(count))
    slates = tuple(int(each) for each in watched.units.slates)
    by_day = units_by_day(table, count)
    if not len(by_day) or told.allocation != "fixed":  # shares that follow outcomes allow no verdict
        return ExperimentLook(position, units, slates, {})
    design = design_of(told, watched.metrics)
    shares = np.array([each.share for each in told.variants], dtype=np.float64)
    ratio = check_sample_ratio(by_day, shares, design.sample_ratio)
    if ratio.is_failed:
        return ExperimentLook(position, units, slates, {}, f"the sample ratio is wrong: {ratio.reason}")
    guarding = [metric_of(each) for each in watched.metrics if each.role == "guardrail"]
    sums = {each.name: metric_sums(each, table, watched.units.names, count) for each in guarding}
    verdicts = {told.variants[at].name: guardrail_verdicts(design, sums, at) for at in range(1, count)}
    return ExperimentLook(position, units, slates, verdicts, sampled=1 << watched.units.halvings)


def harms_of(told: Experiment, metrics: Sequence[ExperimentMetric], look: ExperimentLook) -> tuple[Harm, ...]:
    """Return the broken guardrails of variants that are still in an experiment."""
    tolerated = {each.name: each.harm_max for each in metrics}
    return tuple(
        Harm(
            variant=variant.name,
            metric=verdict.metric,
            judged=verdict.judged,
            harm=_finite(verdict.harm),
            harm_low=_finite(verdict.harm_low),
            harm_high=_finite(verdict.harm_high),
            harm_max=tolerated[verdict.metric],
            control_units=look.units[0],
            treated_units=look.units[number],
            log_position=look.log_position,
            reason=f"{variant.name}: {verdict.reason}"[:REASON_CHARACTERS_MAX],
        )
        for number, variant in enumerate(told.variants)
        if number and not variant.removed
        for verdict in look.verdicts.get(variant.name, ())
        if verdict.verdict == "stop"
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
