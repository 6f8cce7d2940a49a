"""A ranker over the blend's candidates: asked as a request asks, nothing of the future in it, the test read once."""

import asyncio
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest

from benchmarks.quality.reranking import PARTS, Fit, RerankingOptions, gather, judge_reranking
from benchmarks.quality.shops import ShopData
from midstream.app.config.reader import parse_config
from midstream.app.wiring import plans
from midstream.core.errors import Invalid
from midstream.core.types import LogPosition, Score
from midstream.evaluation.data.importing import DATA_SETTINGS, fitted, room_for
from midstream.evaluation.data.interactions import InteractionTable
from midstream.evaluation.metrics.metrics import discounted_gain
from midstream.evaluation.metrics.statistics import Resampling
from midstream.evaluation.replay import ReplayOptions, asking_plan, replay_ranks, rows_asked
from midstream.models.model import Arrays
from midstream.models.rows.examples import Examples
from midstream.state.fold import Fold

TEXT = """
[items.attributes]
colour = "category"

[[features]]
name = "clicks"
kind = "count"
actions = ["click"]

[[features]]
name = "same_colour"
kind = "match"
attribute = "colour"
last = 1

[[placements]]
features = ["clicks", "same_colour"]
"""
CONFIG = parse_config(TEXT)
PLAN = plans(CONFIG)["default"]
OPTIONS = RerankingOptions(k=5, fold=CONFIG.fold_settings(), resampling=Resampling(resamples=200))


def shop() -> ShopData:
    """A hundred sessions of five clicks; after a first click people stay at its colour."""
    dice = np.random.default_rng(4)
    items = [f"i{number:02}" for number in range(24)]
    clicks: list[tuple[str, str, int]] = []
    for number in range(100):
        colour = dice.integers(4)
        chosen = [items[4 * dice.integers(6) + colour] for _ in range(5)]
        clicks.extend((f"s{number}", item, 10_000 * number + step) for step, item in enumerate(chosen))
    session, item, time = zip(*clicks, strict=True)
    rows = InteractionTable(
        np.full(len(clicks), ""), np.array(session), np.array(item), np.full(len(clicks), "click"), np.array(time)
    )
    return ShopData("clicks", rows, {each: {"colour": f"c{number % 4}"} for number, each in enumerate(items)})


SHOP = shop()


@dataclass(frozen=True)
class ByColumn:
    """A row model that gives one of its inputs, and remembers what it was fitted on."""

    inputs: tuple[str, ...]
    examples: Examples | None = None

    def score(self, values: Score) -> Score:
        """Return the first input, unknown as 0."""
        return np.nan_to_num(values[:, 0]).astype(np.float32)

    def arrays(self) -> Arrays:
        """Return nothing: nothing was fitted."""
        return {}


def test_the_blend_is_where_a_request_has_it():
    """Each question of the test part has the place that the whole pipeline gives the right item."""
    parts = gather(SHOP, PLAN, OPTIONS)
    begin = int(PARTS[2] * len(SHOP.rows))
    asked = rows_asked(SHOP.rows, begin)
    fold = Fold(fitted(CONFIG.fold_settings(), room_for(SHOP.rows)))
    opening = SHOP.opening()
    fold.apply(LogPosition(0), opening)
    failures: Counter[str] = Counter()
    told = ReplayOptions(k=5, first=len(opening))
    ranks = asyncio.run(replay_ranks(SHOP.rows, asked, {"plan": asking_plan(PLAN, failures)}, fold, told))
    place = parts.asked.places(parts.asked.blend)
    assert len(place) == len(asked) > 100
    assert np.where((place >= 0) & (place < 5), place, -1).tolist() == ranks["plan"].tolist()
    assert not failures
    assert parts.fold.digest() == fold.digest()


def test_what_is_learned_comes_before_what_is_asked():
    """Each group has the next item of its session as its one label; parts follow one another, and share no row."""
    parts = gather(SHOP, PLAN, OPTIONS)
    examples = parts.learned.examples()
    assert (np.add.reduceat(examples.label, examples.start[:-1]) == 1).all()
    assert len(examples.time_ms) == int((parts.learned.wanted >= 0).sum()) > 100
    assert parts.learned.time_ms.max() < parts.chosen.time_ms.min()
    assert parts.chosen.time_ms.max() < parts.asked.time_ms.min()
    before = {
        (int(s), int(t)): at for at, (s, t) in enumerate(zip(parts.asked.session, parts.asked.time_ms, strict=True))
    }
    numbers = np.unique(SHOP.rows.session_id, return_inverse=True)[1]
    for row in range(int(PARTS[2] * len(SHOP.rows)), len(SHOP.rows)):
        at = before.get((int(numbers[row]), int(SHOP.rows.time_ms[row])))
        if at is not None and parts.asked.wanted[at] >= 0:
            index = parts.asked.item_index[parts.asked.wanted[at]]
            assert parts.fold.vocabulary.item_id(int(index)) == SHOP.rows.item_id[row]


def test_the_better_of_two_is_chosen_before_the_test_and_beats_the_blend():
    """Colour foretells these clicks; what orders as the blend does is worth what the blend is."""

    def by(name: str) -> Fit:
        return lambda _: ByColumn((name,))

    fits: list[tuple[dict[str, object], Fit]] = [({"by": each}, by(each)) for each in ("clicks", "same_colour")]
    report, parts, best = judge_reranking(SHOP, PLAN, "column", fits, OPTIONS)
    assert report.trials[0].options == {"by": "same_colour"}
    assert best.inputs == ("same_colour",)
    blend, fitted_blend, ranker = report.methods
    assert (blend.name, fitted_blend.name, ranker.name) == ("blend", "blend, fitted", "column")
    assert blend.less_blend["NDCG"].mean == 0.0
    assert (blend.less_blend["NDCG"].tests_count, ranker.less_blend["NDCG"].tests_count) == (1, 6)
    assert ranker.ndcg.mean == pytest.approx(
        discounted_gain(parts.asked.places(parts.asked.scores(best)), 5).mean(), abs=1e-12
    )
    assert ranker.less_blend["NDCG"].mean == pytest.approx(ranker.ndcg.mean - blend.ndcg.mean, abs=1e-9)
    assert ranker.hit_rate.mean <= report.reach


def test_sessions_are_drawn_whole_and_by_the_seed():
    """At most so many questions, all of a session or none; the same for the same seed, others for another."""
    few = [
        gather(SHOP, PLAN, RerankingOptions(5, CONFIG.fold_settings(), 40, 20, 40, seed=seed)).asked
        for seed in (0, 0, 1)
    ]
    assert all(0 < len(each) <= 40 for each in few)
    assert few[0].time_ms.tolist() == few[1].time_ms.tolist() != few[2].time_ms.tolist()
    whole = gather(SHOP, PLAN, OPTIONS).asked
    for session in np.unique(few[0].session):
        assert (few[0].session == session).sum() == (whole.session == session).sum()


def test_a_part_that_does_not_answer_is_an_error():
    """Figures without it would be of another placement."""
    with pytest.raises(Invalid, match="failed at row"):
        gather(SHOP, PLAN, RerankingOptions(5, DATA_SETTINGS))
