"""Thompson sampling over the items of a shelf, fed by joined outcomes: regret, delay and change, in seeded worlds.

A shelf has 20 banners with planted click rates and shows one at a time. Slates, impressions and clicks are events of a
log; the columns that the selector reads are declared features of the state that folded them.
"""

import heapq
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import pytest

from midstream.core.durations import Duration
from midstream.core.kinds import IMPRESSION, Kind
from midstream.core.types import Candidates, FeatureFrame, Models, Query, TimestampMs
from midstream.events.schema import Event, build
from midstream.features.declared import declared
from midstream.features.kinds.kinds import OutcomeCount, OutcomeRate, cells_of
from midstream.ranking.selectors.epsilon_greedy import EpsilonGreedy
from midstream.ranking.selectors.selecting import Choosing
from midstream.ranking.selectors.thompson import Thompson
from midstream.state.fold import Fold
from midstream.state.settings import FoldSettings, StateLimits
from tests.support.events import START_MS, served_body

ITEMS, PLACES, SLATES, STEP_MS = 20, 1, 4_000, 10_000
SEEDS = range(2)
HOUR_MS = 3_600_000
CHUNK = 20
"""Slates between two folds: of those that come within three minutes."""
HALF_LIFE = (Duration("30d"),)
FEATURES = (
    OutcomeCount(name="clicked", actions=("click",), placement="shelf", half_life=HALF_LIFE),
    OutcomeCount(name="seen", actions=(IMPRESSION,), placement="shelf", half_life=HALF_LIFE),
    OutcomeRate(name="rate", actions=("click",), placement="shelf", half_life=HALF_LIFE[0]),
)
BLOCK = declared(FEATURES, {})
SETTINGS = FoldSettings(cells=cells_of(FEATURES), limits=StateLimits(items_max=99, click_items_max=9, users_max=9))
IDS = [f"item-{number:02}" for number in range(ITEMS)]
SELECTORS: dict[str, Choosing] = {
    "thompson": Thompson(acts="clicked", impressions="seen"),
    "greedy": EpsilonGreedy(epsilon=0.1),
    "uniform": EpsilonGreedy(epsilon=1.0),
}


@dataclass
class Shelf:
    """One world with one selector."""

    name: str
    seed: int
    delay_ms: int
    fold: Fold = field(default_factory=lambda: Fold(SETTINGS))
    regret: list[float] = field(default_factory=list[float])
    """Of each slate: clicks expected of the best items, less those expected of its own."""
    coming: list[tuple[int, int, Event]] = field(default_factory=list[tuple[int, int, Event]])
    """Clicks that are on their way, by time and number."""

    def run(self) -> np.ndarray:
        """Return the regret of each slate."""
        dice = np.random.default_rng(self.seed)
        rates = np.linspace(0.02, 0.16, ITEMS)[dice.permutation(ITEMS)]
        self.fold.apply(
            self.fold.log_position,
            build([Event(Kind.ITEM, item_id=each, body=b"{}", log_time_ms=START_MS) for each in IDS]),
        )
        for chunk in range(0, SLATES, CHUNK):
            events = []
            for number in range(chunk, chunk + CHUNK):
                now = START_MS + number * STEP_MS
                chosen = self.chosen(number, now)
                self.regret.append(float(np.sort(rates)[-PLACES:].sum() - rates[chosen].sum()))
                events += self.served(number, now, chosen)
                for item in chosen[dice.random(PLACES) < rates[chosen]].tolist():
                    click = Event(Kind.INTERACTION, action="click", request_id=f"r{number}", item_id=IDS[item])
                    at = now + self.delay_ms
                    heapq.heappush(self.coming, (at, len(self.coming) + number * 9, click._replace(log_time_ms=at)))
            self.add(events, START_MS + (chunk + CHUNK) * STEP_MS)
        return np.array(self.regret)

    def add(self, events: list[Event], until_ms: int) -> None:
        """Fold events, and clicks that come until a time, in the order of their times."""
        while self.coming and self.coming[0][0] < until_ms:
            events.append(heapq.heappop(self.coming)[2])
        events.sort(key=lambda event: event.log_time_ms)
        self.fold.apply(self.fold.log_position, build(events))

    def chosen(self, number: int, now: int) -> np.ndarray:
        """Return the items of a slate, as the selector chooses them from the state of now."""
        query = Query("r", "shelf", None, None, PLACES, TimestampMs(now), seed=(self.seed << 32) + number)
        candidates = Candidates(
            self.fold.vocabulary.item_indices(IDS), (), np.empty((ITEMS, 0), np.float32), np.empty((ITEMS, 0), np.int32)
        )
        values = BLOCK.read(self.fold.moment(query, Models({})), candidates)
        frame = FeatureFrame(BLOCK.names, values)
        score = np.nan_to_num(values[:, BLOCK.names.index("rate")], nan=0.0)
        return SELECTORS[self.name].select(query, frame, score).chosen

    def served(self, number: int, now: int, chosen: np.ndarray) -> list[Event]:
        """Return a slate and its impressions."""
        ids, request = [IDS[item] for item in chosen.tolist()], f"r{number}"
        seen = [Event(Kind.IMPRESSION, request_id=request, item_id=each, log_time_ms=now) for each in ids]
        return [Event(Kind.SERVED, request_id=request, body=served_body(request, ids, "shelf"), log_time_ms=now), *seen]


@cache
def regret(name: str, delay_ms: int = 0) -> np.ndarray:
    """Return the mean regret of each slate over the worlds."""
    return np.asarray(np.mean([Shelf(name, seed, delay_ms).run() for seed in SEEDS], axis=0))


def test_thompson_loses_less_than_chance_and_than_epsilon_greedy():
    """Over all slates, and of the last quarter hardly anything."""
    found = {name: float(regret(name).sum()) for name in SELECTORS}
    assert found["thompson"] < 0.4 * found["uniform"]
    assert found["thompson"] < 0.85 * found["greedy"]
    late = {name: float(regret(name)[-SLATES // 4 :].mean()) for name in SELECTORS}
    assert late["thompson"] < 0.3 * late["uniform"]
    assert late["thompson"] < late["greedy"]


def test_clicks_that_come_an_hour_late_are_learned_all_the_same():
    """Nothing is known in the first hour, and then as much as of clicks that come at once."""
    late = regret("thompson", HOUR_MS)
    first = HOUR_MS // STEP_MS
    assert late.sum() < 0.6 * regret("uniform").sum()
    assert late[-SLATES // 4 :].mean() < 0.35 * regret("uniform")[-SLATES // 4 :].mean()
    assert late[first : 2 * first].mean() < late[:first].mean()


def test_rates_of_a_shelf_are_those_that_were_planted():
    """Within five standard errors, whether clicks come at once or an hour late."""
    for delay_ms in (0, HOUR_MS):
        shelf = Shelf("uniform", 7, delay_ms)
        shelf.run()
        shelf.add([], START_MS + SLATES * STEP_MS + HOUR_MS)
        rates = np.linspace(0.02, 0.16, ITEMS)[np.random.default_rng(7).permutation(ITEMS)]
        query = replace(
            Query("r", "shelf", None, None, PLACES, TimestampMs(shelf.fold.log_time_ms), seed=0), placement="shelf"
        )
        candidates = Candidates(
            shelf.fold.vocabulary.item_indices(IDS),
            (),
            np.empty((ITEMS, 0), np.float32),
            np.empty((ITEMS, 0), np.int32),
        )
        clicked, seen, _ = BLOCK.read(shelf.fold.moment(query, Models({})), candidates).T
        assert seen.sum() == pytest.approx(PLACES * SLATES, rel=0.02)
        assert (np.abs(clicked / seen - rates) < 5 * np.sqrt(rates * (1 - rates) / seen)).all()
