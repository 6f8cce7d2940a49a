"""The loop in a drifting market: a model is trained when it is due, judged by the gates, tried on a few, and promoted.

A training is due each so often, unless a canary runs. Once a day the model is fitted anew on the window; between these
fits a training is a warm start, which learns what came since. When the served model foresees clicks otherwise than it
did, people have changed: the window begins anew, and a warm start bridges the time until it can be fitted. The
evaluated fit lacks the newest quarter of a day, on which it and the champion, which lacks it too, are judged. What
passes learns that part as well and fills the slates of some users, until a guardrail stops it or it goes to all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

import msgspec
import numpy as np

from midstream.core.types import Index
from midstream.evaluation.experiments.any_time import AnyTime
from midstream.evaluation.experiments.comparisons import ComparisonRule
from midstream.evaluation.experiments.guardrails import Guardrail, GuardrailVerdict, judge
from midstream.evaluation.experiments.unit_metrics import Metric
from midstream.evaluation.experiments.unit_sums import UnitSums, unit_sums
from midstream.models.model import RowModel
from midstream.models.rows.examples import Examples
from midstream.models.rows.ftrl import Ftrl
from midstream.simulation.market import TICKS_A_DAY, Market, Real, TickLog
from midstream.simulation.market_model import Learner, busy, columns_of, examples_of, fit_market, table_of
from midstream.training.canary_rule import canary_end
from midstream.training.gates.decide import decide
from midstream.training.gates.evidence import GateEvidence, MeasuredVersion
from midstream.training.gates.judging import judged_rows
from midstream.training.gates.options import DEFAULTS, GateOptions, before_canary
from midstream.training.gates.probes import ROUNDS, TIMED_ROWS
from midstream.training.gates.results import GateDecision

CLICKS = Metric("clicks a slate", "ratio", "clicks", "slates")


UNSHADOWED: Final = before_canary(msgspec.structs.replace(DEFAULTS, shadow=False))
"""A market has no requests that could be run again."""


@dataclass(frozen=True, slots=True)
class LoopRules:
    """When a model is trained, and what it has to pass."""

    every_ticks: int = 1
    fit_ticks: int = TICKS_A_DAY
    """Between two fits of the whole window; a training between them is a warm start."""
    alarm: float = 5.0
    """Standard errors between the calibration of a tick and that of the last tick of the canary."""
    gates: GateOptions = UNSHADOWED
    canary_ticks: int = 1
    """How long a canary runs at least."""
    harm_max: float = 0.02
    level: AnyTime = field(default_factory=lambda: AnyTime(tuned_units=2_000.0))


@dataclass(frozen=True, slots=True, eq=False)
class Version:
    """What may serve, and the newest tick that it learned."""

    model: RowModel
    end_tick: int
    byte_count: int = 100_000


class Candidate(Protocol):
    """A training's result: the fit that is judged, which lacks the newest tick, and the one that would serve."""

    @property
    def judged(self) -> RowModel:
        """Lacks the newest tick."""
        ...

    @property
    def published(self) -> Version:
        """Has learned it."""
        ...

    def columns(self, later: Examples) -> Examples:
        """Return the newest rows as this training made them."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class MarketTraining:
    """An honest training."""

    judged: Ftrl
    published: Version

    def columns(self, later: Examples) -> Examples:
        """Return the rows as they are."""
        return later


def train(
    market: Market,
    logs: Sequence[TickLog],
    learner: Learner,
    end_tick: int,
    since_tick: int,
    parent: MarketTraining | None = None,
) -> MarketTraining:
    """Return what is trained on a window; the evaluated fit lacks the newest tick.

    Args:
        market: Of the logs.
        logs: All, the newest last.
        learner: How a model is learned.
        end_tick: Behind the newest tick that is learned.
        since_tick: First tick of the window.
        parent: Training whose evaluated fit goes on, a warm start; None = a fit of the whole window, which has two
            ticks then.
    """
    *older, newest = learner.window(logs, end_tick, since_tick if parent is None else 0)
    if parent is None:
        judged = fit_market(market, older, learner)
    else:
        newer = [each for each in older if each.tick >= parent.published.end_tick - 1]
        judged = parent.judged.learn(examples_of(market, newer, learner)) if newer else parent.judged
    published = judged.learn(examples_of(market, [newest], learner))
    return MarketTraining(judged, Version(published, end_tick))


@dataclass(frozen=True, slots=True, eq=False)
class Judging:
    """What gates judge by in a market."""

    market: Market
    attention: Real
    """Chance that each place is looked at by that of the first, (places,)."""
    learner: Learner
    gates: GateOptions
    worked_s: Callable[[], float]
    """Processor time so far, in seconds."""


def gated(judging: Judging, candidate: Candidate, champion: Version, log: TickLog) -> GateDecision:
    """Return what the gates say of a training.

    Args:
        judging: The market, and the bounds of the gates.
        candidate: What was trained.
        champion: In service.
        log: The newest tick, which neither the evaluated fit nor the champion has learned.
    """
    market, gates = judging.market, judging.gates
    later = examples_of(market, [log], judging.learner)
    later = later.take(np.arange(min(len(later.time_ms), gates.slates)))
    later = candidate.columns(unbiased(later, judging.attention))
    judged = judged_rows(candidate.judged, champion.model, later)
    versions = [measured(market, each, log.tick, judging.worked_s) for each in (candidate.published, champion)]
    evidence = GateEvidence(now_ms=market.begin_ms(log.tick + 1), judged=judged)
    return decide(versions[0], versions[1], evidence, gates)


def unbiased(later: Examples, attention: Real) -> Examples:
    """Return rows whose clicks count by one over the chance that their place was looked at.

    The order that was shown is the champion's, and what stands first is looked at most: by clicks alone it would be
    the best of all orders of its own slates.

    Reference: T. Joachims, A. Swaminathan, T. Schnabel, "Unbiased learning-to-rank with biased feedback", WSDM 2017.
    """
    return replace(later, label=(later.label / attention[later.position]).astype(np.float32))


def attention_of(logs: Sequence[TickLog], learner: Learner) -> Real:
    """Return the chance that each place is looked at by that of the first, as slates in a random order show it."""
    user = np.concatenate([each.user for each in logs])
    kept = ~busy(user, len(logs), learner)[user] & np.concatenate([each.shuffled for each in logs])
    clicks = np.concatenate([each.clicked for each in logs])[kept].sum(axis=0) + 1.0
    found: Real = np.minimum(clicks / clicks[0], 1.0)
    return found


def measured(market: Market, version: Version, tick: int, worked_s: Callable[[], float]) -> MeasuredVersion:
    """Return what a version answers to every segment about every item on sale."""
    count, segments = market.on_sale(tick // TICKS_A_DAY), market.options.segment_count
    segment = np.repeat(np.arange(segments, dtype=np.int32), count)
    rows = columns_of(market, segment, np.tile(np.arange(count, dtype=np.float32), segments))
    extra = len(version.model.inputs) - rows.shape[1]
    rows = np.concatenate([rows, np.full((len(rows), max(0, extra)), np.nan, dtype=np.float32)], axis=1)
    score = version.model.score(rows).reshape(segments, count)
    known: Real = np.nan_to_num(score).astype(np.float64)
    spent: list[float] = []
    for _ in range(ROUNDS):
        began = worked_s()
        version.model.score(rows[:TIMED_ROWS])
        spent.append(worked_s() - began)
    return MeasuredVersion(
        version=str(version.end_tick),
        end_ms=market.begin_ms(version.end_tick),
        bytes=version.byte_count,
        scores=score.size,
        not_finite=int(np.count_nonzero(~np.isfinite(score))),
        apart=np.count_nonzero(known.max(axis=1) > known.min(axis=1)) / segments,
        cpu_ms=1_000.0 * min(spent),
    )


def canary_verdict(logs: Sequence[TickLog], learner: Learner, rules: LoopRules) -> GuardrailVerdict:
    """Return what the guardrail says of the second table's slates beside the first's, by users.

    Args:
        logs: Since the canary began.
        learner: Which users are robots.
        rules: What is tolerated, at which level.
    """
    user, variant = np.concatenate([each.user for each in logs]), np.concatenate([each.variant for each in logs])
    clicks = np.concatenate([each.clicked.sum(axis=1) for each in logs]).astype(np.float64)
    kept = ~busy(user, len(logs), learner)[user]
    sides = [_units(user[kept & (variant == side)], clicks[kept & (variant == side)]) for side in (0, 1)]
    guardrail = Guardrail("clicks a slate", rules.harm_max)
    return judge(CLICKS, guardrail, sides[0], sides[1], ComparisonRule(level=rules.level))


def _units(user: Index, clicks: Real) -> UnitSums:
    """Return clicks and slates of each user, summed over."""
    known, unit = np.unique(user, return_inverse=True)
    columns = np.zeros((len(known), 2))
    columns[:, 0] = np.bincount(unit, clicks, minlength=len(known))
    columns[:, 1] = np.bincount(unit, minlength=len(known))
    return unit_sums(columns)


@dataclass(frozen=True, slots=True)
class LoopStep:
    """What the loop did after a tick."""

    tick: int
    action: str
    """``refused``, ``canary``, ``stopped``, ``given up``, ``promoted`` or ``alarm``."""
    gate: str = ""
    reason: str = ""


@dataclass(slots=True, eq=False)
class Loop:
    """Serves a market with a champion, learns from its slates, and tries what it trains."""

    market: Market
    learner: Learner
    rules: LoopRules
    champion: Version
    logs: list[TickLog]
    worked_s: Callable[[], float]
    steps: list[LoopStep] = field(default_factory=list[LoopStep])
    canary: Version | None = None
    _canary_since: int = 0
    _since_tick: int = 0
    """First tick of the window: that of the last alarm."""
    _trained_tick: int = 0
    _fit_tick: int = 0
    """When the whole window was learned last."""
    _training: MarketTraining | None = None
    """The newest; None = there was none."""
    _foreseen: tuple[float, float] | None = None
    """Calibration of the champion on slates that it filled and did not learn, with its standard error."""

    def tables(self, day: int) -> list[Real]:
        """Return the scores that fill the slates of a day."""
        versions = [self.champion, *([self.canary] if self.canary is not None else [])]
        return [table_of(each.model, self.market, day) for each in versions]

    def after(self, log: TickLog) -> None:
        """Learn a tick: look at the canary, watch for drift, train if that is due."""
        self.logs.append(log)
        end = log.tick + 1
        self._watch(log)
        if self.canary is not None:
            self._look(end)
        if self.canary is None and end - self._trained_tick >= self.rules.every_ticks:
            self._train(log)

    def _watch(self, log: TickLog) -> None:
        """Begin the window anew where the champion foresees clicks otherwise than it did."""
        found, error = calibration(self.market, log.of(0), self.champion.model, self.learner)
        if self._foreseen is None:
            self._foreseen = found, error
        elif abs(found - self._foreseen[0]) > self.rules.alarm * float(np.hypot(error, self._foreseen[1])):
            text = f"clicks are {found:.2f} times those expected, after {self._foreseen[0]:.2f}"
            self.steps.append(LoopStep(log.tick, "alarm", reason=text))
            self._since_tick, self._foreseen = log.tick, (found, error)
            self._fit_tick = -self.rules.fit_ticks
            self.canary = None

    def _train(self, log: TickLog) -> None:
        """Train, judge, and begin a canary with what passes."""
        end = log.tick + 1
        self._trained_tick, parent = end, self._training
        if parent is None or (end - self._since_tick > 1 and end - self._fit_tick >= self.rules.fit_ticks):
            parent, self._fit_tick = None, end
        found = self._training = train(self.market, self.logs, self.learner, end, self._since_tick, parent)
        attention = attention_of(self.learner.window(self.logs, end), self.learner)
        judging = Judging(self.market, attention, self.learner, self.rules.gates, self.worked_s)
        said = gated(judging, found, self.champion, log)
        if said.passed:
            self.canary, self._canary_since = found.published, end
        self.steps.append(LoopStep(log.tick, "canary" if said.passed else "refused", said.gate, said.reason))

    def _look(self, end: int) -> None:
        """Stop the canary, let it go on, or promote it."""
        said = canary_verdict(self.logs[self._canary_since - end :], self.learner, self.rules)
        age, least, canary = end - self._canary_since, self.rules.canary_ticks, self.canary
        ended = canary_end(said.harm, age, least, was_behind=age > least)
        if said.verdict == "stop":
            self.steps.append(LoopStep(end - 1, "stopped", "canary", said.reason))
            self.canary = None
        elif canary is not None and ended == "promoted":
            self.steps.append(LoopStep(end - 1, "promoted", reason=said.reason))
            self._foreseen = calibration(self.market, self.logs[-1].of(1), canary.model, self.learner)
            self.champion, self.canary = canary, None
        elif ended == "given up":
            self.steps.append(LoopStep(end - 1, "given up", "canary", said.reason))
            self.canary = None


def calibration(market: Market, log: TickLog, model: RowModel, learner: Learner) -> tuple[float, float]:
    """Return clicks seen by clicks expected at the first places of a tick, and the standard error of that."""
    rows = examples_of(market, [log], learner)
    first = slice(0, None, market.options.slate_size)
    chance = model.score(rows.values[first]).astype(np.float64)
    expected = max(float(chance.sum()), 1e-9)
    seen = float(np.count_nonzero(rows.label[first] > 0))
    return seen / expected, float(np.sqrt((chance * (1.0 - chance)).sum())) / expected
