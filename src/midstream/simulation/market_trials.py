"""Trials of a drifting market: frozen, nightly, the loop, what is learnable and an oracle meet the same people.

All but the oracle serve with the same noise and exploration. *Frozen* is trained once, before the drift. *Nightly* is
trained each night and put into service unseen. *Learnable* knows the market of the day and explores as they do: more
than it nobody can have who explores. The *oracle* does not explore.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from midstream.simulation.market import (
    GREEDY,
    TICKS_A_DAY,
    Market,
    MarketOptions,
    Real,
    Serving,
    TickLog,
    crowd_of,
    open_market,
    serve,
)
from midstream.simulation.market_faults import bad_candidates
from midstream.simulation.market_loop import (
    Judging,
    Loop,
    LoopRules,
    LoopStep,
    Version,
    attention_of,
    canary_verdict,
    gated,
    train,
)
from midstream.simulation.market_model import Learner, fit_market, table_of
from midstream.training.canary_rule import TIMES, canary_end

if TYPE_CHECKING:
    from midstream.models.rows.ftrl import Ftrl

WAYS = ("oracle", "learnable", "frozen", "nightly", "loop")


@dataclass(frozen=True, slots=True)
class MarketTrial:
    """One world."""

    market: MarketOptions = field(default_factory=MarketOptions)
    learner: Learner = field(default_factory=Learner)
    """Of what is frozen, trained nightly or offered: its window and half-life forget what people were before."""
    loop_learner: Learner = field(default_factory=lambda: Learner(window_days=15.0, half_life_days=8.0))
    """Of the loop, whose alarm begins the window anew: until then the past is like the present, and more rows are less
    noise."""
    serving: Serving = field(default_factory=Serving)
    rules: LoopRules = field(default_factory=LoopRules)
    first_day: int = 5
    """Before it all ways share one log; its end is where frozen is trained."""


@dataclass(frozen=True, slots=True, eq=False)
class MarketOutcome:
    """Figures of one world."""

    value: Mapping[str, Real]
    """Expected clicks of a slate, by way, (days since ``first_day``,)."""
    steps: tuple[LoopStep, ...]
    """Of the loop."""
    bad: Mapping[str, str]
    """What stopped each bad candidate: a gate, ``canary``, or ``promoted``."""
    after: int
    """Days of ``value`` before the drift."""

    def recovered(self, way: str, of: str = "oracle") -> Real:
        """Return the share of the gain over frozen that a way has on each day from the drift on."""
        frozen = self.value["frozen"][self.after :]
        found: Real = (self.value[way][self.after :] - frozen) / (self.value[of][self.after :] - frozen)
        return found

    @property
    def quiet(self) -> Real:
        """The loop by frozen on each day before the drift."""
        found: Real = (self.value["loop"] / self.value["frozen"])[: self.after]
        return found

    @property
    def worst(self) -> float:
        """The loop's worst day by frozen's."""
        return float((self.value["loop"] / self.value["frozen"]).min())


def run_market(trial: MarketTrial, worked_s: Callable[[], float], *, with_bad: bool = True) -> MarketOutcome:
    """Run all ways in one world, then offer bad candidates to the loop's gates and canary.

    Args:
        trial: The world.
        worked_s: Processor time so far, in seconds.
        with_bad: Also offer them.

    Cost: 25 s for 21 days of 16,000 visits.
    """
    market, learner, serving = open_market(trial.market), trial.learner, trial.serving
    loop = _opened(market, trial, worked_s)
    frozen, nightly, logs = loop.champion, loop.champion.model, list(loop.logs)
    value: dict[str, list[float]] = {way: [] for way in WAYS}
    for tick in range(trial.first_day * TICKS_A_DAY, trial.market.tick_count):
        day, crowd = tick // TICKS_A_DAY, crowd_of(market, tick)
        for way, model, how in (
            ("oracle", None, GREEDY),
            ("learnable", None, serving),
            ("frozen", frozen.model, serving),
        ):
            table = market.logits(day) if model is None else table_of(model, market, day)
            value[way].append(serve(market, crowd, [table], how).value)
        log = serve(market, crowd, [table_of(nightly, market, day)], serving)
        logs.append(log)
        value["nightly"].append(log.value)
        if (tick + 1) % TICKS_A_DAY == 0:
            nightly = fit_market(market, learner.window(logs, tick + 1), learner)
        log = serve(market, crowd, loop.tables(day), serving)
        value["loop"].append(log.value)
        loop.after(log)
    days = {way: np.array(each).reshape(-1, TICKS_A_DAY).mean(axis=1) for way, each in value.items()}
    bad = _offered(market, trial, loop) if with_bad else {}
    return MarketOutcome(days, tuple(loop.steps), bad, trial.market.drift_day - trial.first_day)


def _opened(market: Market, trial: MarketTrial, worked_s: Callable[[], float]) -> Loop:
    """Return the loop after the first days, in which a model is trained each night."""
    logs: list[TickLog] = []
    model: Ftrl | None = None
    for tick in range(trial.first_day * TICKS_A_DAY):
        day = tick // TICKS_A_DAY
        nothing = np.zeros((trial.market.segment_count, market.on_sale(day)))
        table = nothing if model is None else table_of(model, market, day)
        logs.append(serve(market, crowd_of(market, tick), [table], trial.serving))
        if (tick + 1) % TICKS_A_DAY == 0:
            model = fit_market(market, trial.learner.window(logs, tick + 1), trial.learner)
    end = trial.first_day * TICKS_A_DAY
    whole = fit_market(market, trial.learner.window(logs, end), trial.learner) if model is None else model
    return Loop(market, trial.loop_learner, trial.rules, Version(whole, end), logs, worked_s)


def _offered(market: Market, trial: MarketTrial, loop: Loop) -> dict[str, str]:
    """Return what stopped each bad candidate that was offered two days before the end."""
    learner, rules = trial.learner, trial.rules
    last = trial.market.tick_count - TIMES * rules.canary_ticks
    logs = [each for each in loop.logs if each.tick < last]
    honest = train(market, logs, learner, last, 0)
    before = train(market, logs, learner, last - 1, 0).published
    attention = attention_of(learner.window(logs, last), learner)
    judging = Judging(market, attention, learner, rules.gates, loop.worked_s)
    found: dict[str, str] = {}
    for name, bad in bad_candidates(market, logs, learner, honest).items():
        said = gated(judging, bad, before, logs[-1])
        found[name] = said.gate or _tried(market, trial, before, bad.published, last)
    return found


def _tried(market: Market, trial: MarketTrial, champion: Version, candidate: Version, first: int) -> str:
    """Return what a canary says of a candidate that passed the gates."""
    logs: list[TickLog] = []
    for tick in range(first, first + TIMES * trial.rules.canary_ticks):
        day = tick // TICKS_A_DAY
        tables = [table_of(each.model, market, day) for each in (champion, candidate)]
        logs.append(serve(market, crowd_of(market, tick), tables, trial.serving))
        said = canary_verdict(logs, trial.learner, trial.rules)
        if said.verdict == "stop":
            return "canary"
        age, least = len(logs), trial.rules.canary_ticks
        if canary_end(said.harm, age, least, was_behind=age > least) == "promoted":
            return "promoted"
    return "canary"
