"""Rules of the offline gate in a simulated market: a truly better ranker is to pass, and a truly worse one is not.

``python -m benchmarks.place_bias`` serves a market with the order of a champion that knows the truth with noise, and
judges two candidates by the clicks of the newest tick: one with less noise, one with more. Prints what they are worth
by the clicks of the champion, and of how many seeds each rule lets them pass: clicks as they are, clicks by one over
the attention of their place under NDCG, and the same normalised once over all slates.
"""

import argparse
from dataclasses import dataclass

import numpy as np

from midstream.models.rows.examples import Examples
from midstream.simulation.market import GREEDY, Market, MarketOptions, Real, Serving, crowd_of, open_market, serve
from midstream.simulation.market_loop import attention_of, unbiased
from midstream.simulation.market_model import Learner, busy, examples_of
from midstream.training.validation import ROW_K, ndcg_values

TICKS = 4
LESS, MORE = 0.3, 1.8
"""Noise of the candidates by that of the champion."""
RULES = ("plain", "by attention", "normalised once")
NORMAL_95 = 1.96


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """The newest tick as questions."""

    rows: Examples
    segment: Real
    item: Real
    attention: Real

    def scores(self, table: Real) -> Real:
        """Return what a table says of each row."""
        found: Real = table[self.segment.astype(np.intp), self.item.astype(np.intp)]
        return found


def main() -> None:
    """Judge, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--visits", type=int, default=2_000)
    parser.add_argument("--noise", type=float, nargs="+", default=[0.5, 1.0])
    parser.add_argument("--margin", type=float, default=0.05)
    options = parser.parse_args()
    for noise in options.noise:
        found = [judged(seed, noise, options.visits, options.margin) for seed in range(1, options.seeds + 1)]
        for name in ("better", "worse"):
            values = [each[name][0] for each in found]
            passed = np.sum([each[name][1] for each in found], axis=0)
            counts = ", ".join(f"{rule} {count}" for rule, count in zip(RULES, passed.tolist(), strict=True))
            span = f"{min(values):.2f} to {max(values):.2f}"
            print(f"noise {noise:g}, {name}: worth {span}; passed of {len(found)}: {counts}")


def judged(seed: int, noise: float, visits: int, margin: float) -> dict[str, tuple[float, list[bool]]]:
    """Return what each candidate is worth by the champion, and by which rules it passes."""
    market = open_market(MarketOptions(seed=seed, day_count=12, drift_day=8, visits_a_tick=visits))
    rng = np.random.default_rng(seed)
    truth: Real = market.logits(0)[:, : market.on_sale(0)]
    spread = float(truth.std()) * noise
    champion, better, worse = (truth + rng.normal(size=truth.shape) * spread * each for each in (1.0, LESS, MORE))
    asked = questions(market, champion)
    return {
        name: (worth(market, table) / worth(market, champion), verdicts(asked, table, champion, margin))
        for name, table in (("better", better), ("worse", worse))
    }


def worth(market: Market, table: Real) -> float:
    """Return the clicks to be expected of a tick of slates by a table."""
    return float(serve(market, crowd_of(market, TICKS - 1), [table], GREEDY).value)


def questions(market: Market, champion: Real) -> Judged:
    """Return the newest tick of slates by a champion, with the attention that the slates in a random order show."""
    learner = Learner()
    logs = [serve(market, crowd_of(market, tick), [champion], Serving(canary_share=0.0)) for tick in range(TICKS)]
    last = logs[-1]
    kept = ~busy(last.user, 1, learner)[last.user]
    places = market.options.slate_size
    segment, item = np.repeat(last.segment[kept], places), last.item[kept].reshape(-1)
    rows = examples_of(market, [last], learner)
    return Judged(rows, segment.astype(np.float64), item.astype(np.float64), attention_of(logs, learner))


def verdicts(asked: Judged, own: Real, theirs: Real, margin: float) -> list[bool]:
    """Return whether a table is seen to be not worse than another, by each rule."""
    found: list[bool] = []
    for rows in (asked.rows, unbiased(asked.rows, asked.attention)):
        values = [ndcg_values(rows, asked.scores(each).astype(np.float32)) for each in (own, theirs)]
        known = ~np.isnan(values[0])
        owner = asked.rows.owner[known] if asked.rows.owner is not None else np.flatnonzero(known)
        gap = values[0][known] - values[1][known]
        found.append(low_of(gap, owner) >= -margin * float(values[1][known].mean()))
    label = (asked.rows.label / asked.attention[asked.rows.position]).reshape(-1, len(asked.attention))
    sums = [gains(asked, each, label) for each in (own, theirs)]
    weight = label.sum(axis=1)
    known = weight > 0
    mean = float((sums[0] - sums[1]).sum() / weight.sum())
    # The ratio's influence: what each slate adds to it, so that the weights are drawn with the slates.
    gap = mean + (sums[0] - sums[1] - mean * weight)[known] / weight[known].mean()
    owner = asked.rows.owner[known] if asked.rows.owner is not None else np.flatnonzero(known)
    return [*found, low_of(gap, owner) >= -margin * float(sums[1].sum() / weight.sum())]


def gains(asked: Judged, table: Real, label: Real) -> Real:
    """Return the discounted clicks of each slate in the order of a table."""
    discount = 1.0 / np.log2(np.arange(ROW_K) + 2.0)
    rank = np.argsort(np.argsort(-asked.scores(table).reshape(label.shape), axis=1, kind="stable"), axis=1)
    found: Real = (label * discount[rank]).sum(axis=1)
    return found


def low_of(gap: Real, owner: np.ndarray[tuple[int, ...], np.dtype[np.generic]]) -> float:
    """Return the lower end of the 95 % interval of a mean, by owners."""
    sums = np.bincount(np.unique(owner, return_inverse=True)[1], gap - gap.mean())
    return float(gap.mean() - NORMAL_95 * np.sqrt((sums**2).sum()) / len(gap))


if __name__ == "__main__":
    main()
