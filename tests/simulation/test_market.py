"""A drifting market has the effects that it says, and the loop in it recovers what people's change took away."""

from dataclasses import replace

import numpy as np
import pytest

from midstream.models.rows.ftrl import Ftrl
from midstream.simulation.market import (
    GREEDY,
    TICKS_A_DAY,
    MarketOptions,
    Serving,
    crowd_of,
    open_market,
    serve,
)
from midstream.simulation.market_loop import attention_of, train
from midstream.simulation.market_model import Learner, busy, examples_of, fit_market, table_of
from midstream.simulation.market_trials import MarketTrial, run_market

SMALL = MarketOptions(seed=5, day_count=12, drift_day=8, visits_a_tick=2_000)
EXPLORING = Serving(explored=1.0)


def logs_of(options=SMALL, serving=EXPLORING, ticks=8):
    """Slates of the first ticks, filled without knowledge."""
    market = open_market(options)
    nothing = np.zeros((options.segment_count, market.on_sale(0)))
    return market, [
        serve(market, crowd_of(market, tick), [nothing[:, : market.on_sale(tick // TICKS_A_DAY)]], serving)
        for tick in range(ticks)
        if market.on_sale(tick // TICKS_A_DAY) == nothing.shape[1]
    ]


def test_equal_seeds_give_equal_markets():
    """Every item, visit and click is decided by the seed, and another seed gives others."""
    (first, one), (_, two), (third, _) = logs_of(), logs_of(), logs_of(replace(SMALL, seed=6))
    assert all(
        np.array_equal(a.item, b.item) and np.array_equal(a.clicked, b.clicked) for a, b in zip(one, two, strict=True)
    )
    assert not np.array_equal(first.appeal, third.appeal)


def test_policies_meet_the_same_people_with_the_same_luck():
    """What is shown changes neither who comes nor what a person thinks of an item at a place."""
    market = open_market(SMALL)
    crowd, logits = crowd_of(market, 0), market.logits(0)
    best, worst = (serve(market, crowd, [table], GREEDY) for table in (logits, -logits))
    assert np.array_equal(best.user, worst.user)
    assert best.value > 2 * worst.value
    again = serve(market, crowd, [logits, logits], replace(GREEDY, canary_share=0.5))
    assert np.array_equal(again.item, best.item)
    assert np.array_equal(again.clicked, best.clicked)
    assert 0.4 < again.variant[again.is_person].mean() < 0.6


def test_drift_is_there():
    """On the drift day most appeals and tastes are others; on other days they hardly move, and without drift never."""
    market = open_market(SMALL)
    day = SMALL.drift_day
    for column in (market.appeal, market.taste):
        spread = column.std()
        calm, shock = (np.abs(np.diff(column[at : at + 2], axis=0)).mean() / spread for at in (day - 3, day - 1))
        assert calm < 0.1
        assert shock > 0.4
    still = open_market(replace(SMALL, step=0.0, shock=0.0))
    assert np.array_equal(still.appeal[0], still.appeal[-1])


def test_novelty_is_there_and_fades():
    """A new item attracts more than later by the surplus, which halves each day; an old one never does."""
    with_it, without = (open_market(replace(SMALL, novelty=each)) for each in (1.0, 0.0))
    new = SMALL.opening_count
    day = int(with_it.launch_day[new])
    surplus = [float((with_it.logits(at) - without.logits(at))[0, new]) for at in (day, day + 1, day + 2)]
    assert surplus == pytest.approx([1.0, 0.5, 0.25])
    assert np.allclose(with_it.logits(day)[:, :new], without.logits(day)[:, :new])


def test_position_bias_is_there():
    """In slates of a random order the clicks of each place are by the chance that it is looked at."""
    options = replace(SMALL, visits_a_tick=8_000)
    for bias in (0.0, 1.0):
        _, logs = logs_of(replace(options, position_bias=bias))
        right = (1.0 + np.arange(5)) ** -bias
        assert attention_of(logs, Learner()) == pytest.approx(np.minimum(right, 1.0), abs=0.06)


def test_robots_are_there():
    """Few users with a tenth of the visits, who click every place alike; they are learned from by nobody."""
    market, logs = logs_of(replace(SMALL, visits_a_tick=4_000))
    robot = ~np.concatenate([each.is_person for each in logs])
    clicked = np.concatenate([each.clicked for each in logs])
    user = np.concatenate([each.user for each in logs])
    assert len(np.unique(user[robot])) <= 0.01 * SMALL.user_count
    assert 0.08 < robot.mean() < 0.12
    assert clicked[robot].mean(axis=0) == pytest.approx(0.5, abs=0.05)
    kept = ~busy(user, len(logs), Learner())[user]
    assert not robot[kept].any()
    assert kept[~robot].mean() > 0.99
    assert len(examples_of(market, logs, Learner()).time_ms) == kept.sum()


def test_the_model_learns_what_a_log_shows():
    """From slates at random the order of items in each segment is found to a large part, robots or not."""
    market, logs = logs_of(replace(SMALL, visits_a_tick=8_000))
    found, right = table_of(fit_market(market, logs, Learner()), market, 0), market.logits(0)
    alike = [np.corrcoef(found[segment], right[segment])[0, 1] for segment in range(SMALL.segment_count)]
    assert min(alike) > 0.6


def as_ftrl(model: object) -> Ftrl:
    """Return a model of the market's learner as what it is."""
    assert isinstance(model, Ftrl)
    return model


def test_a_warm_start_learns_each_row_since_its_parent_once():
    """The evaluated fit goes on with what the parent's lacked, up to the newest tick, which the published one has."""
    market, logs = logs_of()
    learner = Learner()
    parent = train(market, logs[:6], learner, 6, 0)
    child = train(market, logs, learner, 8, 0, parent)
    since = [examples_of(market, logs[first:end], learner) for first, end in ((5, 7), (7, 8))]
    judged, published, before = (as_ftrl(each) for each in (child.judged, child.published.model, parent.judged))
    assert [judged.figures.rows, published.figures.rows] == [len(each.label) for each in since]
    assert np.array_equal(judged.z, as_ftrl(before.learn(since[0])).z)
    assert np.array_equal(published.z, as_ftrl(judged.learn(since[1])).z)
    assert child.published.end_tick == 8
    whole, warm = (table_of(each, market, 0) for each in (train(market, logs, learner, 8, 0).judged, child.judged))
    assert np.corrcoef(whole.ravel(), warm.ravel())[0, 1] > 0.95


@pytest.fixture
def answers_s(monkeypatch):
    """A clock that goes on by a millisecond with each answer of a model, whatever else the machine does."""
    answers, score = [], Ftrl.score

    def counted(model, values):
        answers.append(len(values))
        return score(model, values)

    monkeypatch.setattr(Ftrl, "score", counted)
    return lambda: 0.001 * len(answers)


def test_the_loop_recovers_and_bad_candidates_are_stopped(answers_s):
    """Days after people changed the loop has most of the oracle's gain, it is never below frozen by more than 1 %, and
    what is bad is stopped by its gate, or by people where no gate can see it.
    """
    found = run_market(MarketTrial(market=replace(SMALL, seed=6)), answers_s)
    loop, drift = found.recovered("loop"), SMALL.drift_day * TICKS_A_DAY
    assert found.worst > 0.99
    assert loop[0] > 0.2
    assert loop[1] > 0.75
    assert loop[-1] > 0.85
    assert (found.recovered("learnable") > loop).all()
    promoted = {each.tick for each in found.steps if each.action == "promoted"}
    assert drift - 1 in promoted, "so the champion of the drift day had filled no slates before but those of its canary"
    assert [each.tick for each in found.steps if each.action == "alarm"] == [drift]
    assert drift + 1 in promoted
    stopped = dict(found.bad)
    assert stopped.pop("stale") in {"offline", "freshness"}
    assert stopped.pop("novelty") in {"offline", "canary"}
    assert stopped == {
        "nan": "validity",
        "inverted": "offline",
        "slow": "cost",
        "leak": "leak",
        "unseen": "canary",
    }
