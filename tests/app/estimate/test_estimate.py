"""A placement that never served is estimated from what another one served, in a shop whose visitors are known."""

import signal
from itertools import permutations
from shutil import copytree

import msgspec
import numpy as np
import pytest

from midstream.app.config.schema import Config, Placement
from midstream.app.estimate import target_shares
from midstream.app.estimate.estimate import EstimateWanted, PlacementEstimate, estimate_placement
from midstream.app.estimate.logged_slates import logged_slates
from midstream.app.inspect.folder_view import LogView
from midstream.app.opening import open_shop
from midstream.core.errors import ConfigInvalid, NotFound, RequestInvalid
from midstream.evaluation.off_policy.report import ESTIMATORS
from midstream.ranking.record.served import decode_served
from midstream.ranking.rules.boost import Boost
from midstream.ranking.selectors.epsilon_greedy import EpsilonGreedy
from midstream.ranking.selectors.plackett_luce import PlackettLuce
from midstream.ranking.selectors.top_k import TopK
from midstream.retrieval.popular import Popular
from midstream.state.settings import StateLimits
from tests.support.known import known

ITEMS = [f"i{number}" for number in range(8)]
LIKED = dict(zip(ITEMS, (0.1, 0.6, 0.2, 0.5, 0.1, 0.4, 0.1, 0.3), strict=True))
LIMITS = StateLimits(
    users_max=2_000,
    items_max=200,
    click_items_max=100,
    sessions_max=100,
    event_ids_max=20_000,
    hot_items_max=100,
    new_items_max=100,
)
SIZE = 2
DRAWN = Placement(name="home", sources=(Popular(),), selector=PlackettLuce(temperature=1.0))
SHARPER = {"sources": [{"kind": "popular"}], "selector": {"kind": "plackett_luce", "temperature": 0.7}}
ONLY_CLICKS = {"click": 1.0}


def config_of(*placements: Placement) -> Config:
    return Config(limits=LIMITS, placements=placements)


def shop_of(folder, config, users, placement="home", seed=7):
    """Let visitors see a slate each and click on what they like; return the mean number of clicks.

    Popularity stands still: it comes from views, and clicks have no weight that would move it noticeably.
    """
    draw = np.random.default_rng(seed)
    clicks = 0
    with open_shop(folder, config) as shop:
        views = [
            {"type": "view", "user_id": f"v{place}", "item_id": item}
            for place, item in enumerate(ITEMS)
            for _ in range(400 * (len(ITEMS) - place))
        ]
        for start in range(0, len(views), 500):
            shop.record(views[start : start + 500])
        for user in range(users):
            slate = shop.recommend(placement, user_id=f"u{user}", n=SIZE)
            acts = [
                {"type": "click", "user_id": f"u{user}", "item_id": each.id, "request_id": slate.request_id}
                for each in slate.items
                if draw.uniform() < LIKED[each.id]
            ]
            clicks += len(acts)
            if acts:
                shop.record(acts)
    return clicks / users


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A folder whose placement draws, with 400 slates, and their mean number of clicks."""
    folder = tmp_path_factory.mktemp("drawn")
    return folder, shop_of(folder, config_of(DRAWN), 400)


def wanted(**parts) -> EstimateWanted:
    return EstimateWanted(**({"placement": "home", "rewards": ONLY_CLICKS} | parts))


def test_the_placement_that_served_is_worth_what_it_earned(drawn, tmp_path):
    """All weights are 1: what weights alone say is the mean of the log, to the rounding of logged probabilities; with a
    model the luck of the draws is taken out of it, and what is left is nearer to the truth.
    """
    folder, mean = drawn
    found = estimate_placement(folder, config_of(DRAWN), wanted())
    assert (found.slates, found.left_out, found.reason) == (400, {}, None)
    assert found.report.logged.value == pytest.approx(mean)
    assert (found.report.places, found.report.support.users) == (SIZE, 400)
    assert found.report.support.weight_max == pytest.approx(1.0, abs=1e-4)
    for each in found.report.estimates:
        if each.name != "cascade_dr":
            assert each.value == pytest.approx(mean, rel=1e-4), each.name
    assert found.report.best.name == "cascade_dr"
    truth = true_value(scores_of(folder, tmp_path), 1.0, SIZE)
    assert known(found.report.best.low) < truth < known(found.report.best.high)
    assert abs(known(found.report.best.value) - truth) < abs(mean - truth)
    assert found.modelled == pytest.approx(1.0)
    assert msgspec.json.decode(msgspec.json.encode(found), type=PlacementEstimate) == found


def scores_of(folder, tmp_path):
    """Return the score of each item, from a whole slate of a copy of the folder."""
    copytree(folder, tmp_path / "copy")
    with open_shop(tmp_path / "copy", config_of(DRAWN)) as shop:
        found = {each.id: each.score for each in shop.recommend("home", user_id="x", n=len(ITEMS)).items}
    return np.array([found[item] for item in ITEMS])


def true_value(score, temperature, places) -> float:
    """Return the clicks a slate of Plackett-Luce, summed over all slates that there are."""
    raised = np.exp(score / (temperature * score.std()))
    value = 0.0
    for slate in permutations(range(len(ITEMS)), places):
        chance = np.prod([raised[each] / np.delete(raised, slate[:place]).sum() for place, each in enumerate(slate)])
        value += chance * sum(LIKED[ITEMS[each]] for each in slate)
    return float(value)


def test_a_placement_that_never_served_is_worth_what_it_would_earn(drawn, tmp_path):
    """Its true value, summed over all slates that there are, is within the interval of every estimator."""
    folder, _ = drawn
    found = estimate_placement(folder, config_of(DRAWN), wanted(told=SHARPER))
    assert found.reason is None
    truth = true_value(scores_of(folder, tmp_path), 0.7, SIZE)
    for each in found.report.estimates:
        assert each.low is not None
        assert each.high is not None
        assert each.low < truth < each.high, each.name
    assert found.report.support.weight_max > 1.1
    assert found.report.support.weight_mean == pytest.approx(1.0, abs=0.15)


def test_the_first_place_alone_has_every_estimator_of_choices(drawn, tmp_path):
    """Those that are right hold the truth, the model alone is near it, and what cannot be had is refused with why."""
    folder, _ = drawn
    found = estimate_placement(folder, config_of(DRAWN), wanted(told=SHARPER, places=1, estimators=("all",)))
    assert found.reason is None
    report = found.report
    by_name = {each.name: each for each in report.estimates}
    assert list(by_name) == list(ESTIMATORS)
    assert (report.chosen, report.places) == ("cascade_dr", 1)
    truth = true_value(scores_of(folder, tmp_path), 0.7, 1)
    for name in ("ipw", "snipw", "dr", "sndr", "sips", "rips", "snrips", "cascade_dr", "iips"):
        assert known(by_name[name].low) < truth < known(by_name[name].high), name
    assert known(by_name["dr"].high) - known(by_name["dr"].low) < known(by_name["ipw"].high) - known(by_name["ipw"].low)
    assert by_name["dm"].value == pytest.approx(truth, abs=0.08)
    assert (by_name["dm"].low, by_name["dm"].unsupported) == (None, 1.0)
    assert by_name["cascade_dr"].value == by_name["dr"].value
    two = estimate_placement(folder, config_of(DRAWN), wanted(told=SHARPER, estimators=("all",))).report
    refused = {each.name: each.note for each in two.estimates if each.value is None}
    assert list(refused) == ["ipw", "snipw", "ipw_clipped", "dm", "dr", "sndr", "switch_dr", "dr_os", "iips"]
    assert refused["dr"] == "it is of single choices, not of 2 places"
    assert two.best.value is not None


def test_only_what_is_asked_for_is_estimated(drawn):
    """Without an estimator that needs a model there is none; one that is asked for twice is there once."""
    folder, _ = drawn
    plain = estimate_placement(folder, config_of(DRAWN), wanted(told=SHARPER, estimators=("rips", "snrips", "rips")))
    assert [each.name for each in plain.report.estimates] == ["rips", "snrips"]
    assert (plain.report.chosen, plain.modelled) == ("snrips", None)
    whole = estimate_placement(folder, config_of(DRAWN), wanted(told=SHARPER))
    assert whole.report.estimates[1:3] == plain.report.estimates
    alone = estimate_placement(folder, config_of(DRAWN), wanted(told=SHARPER, places=1, estimators=("dm",)))
    assert (alone.report.chosen, alone.report.best.low) == ("dm", None)


def test_lists_that_are_cut_leave_the_estimate_right(drawn, tmp_path, monkeypatch):
    """With one item listed a place the model tells little apart, and the interval still holds the truth."""
    folder, _ = drawn
    monkeypatch.setattr(target_shares, "LISTED_MAX", 800)
    found = estimate_placement(folder, config_of(DRAWN), wanted(told=SHARPER))
    assert found.modelled is not None
    assert 0.1 < found.modelled < 0.9
    best = found.report.best
    assert best.name == "cascade_dr"
    assert known(best.low) < true_value(scores_of(folder, tmp_path), 0.7, SIZE) < known(best.high)


@pytest.mark.parametrize(
    "parts, said",
    [
        ({"rewards": {"click": float("nan")}}, "nan came"),
        ({"rewards": {"click": float("inf")}}, "inf came"),
        ({"rewards": {"click": 1e7}}, "10000000.0 came"),
        ({"rewards": {"clik": 1.0}}, '"clik" is not an action. Nearest: "click".'),
        ({"estimators": ("dr", "cascade")}, '"cascade" is not an estimator.'),
    ],
)
def test_rewards_and_estimators_that_are_none_are_refused(drawn, parts, said):
    """Each is named, before anything is read."""
    with pytest.raises(RequestInvalid) as refused:
        estimate_placement(drawn[0], config_of(DRAWN), wanted(**parts))
    assert said in str(refused.value)


def test_the_largest_rewards_are_estimated(drawn):
    """Sums of squares of a million each stay finite; a reward of both signs too."""
    folder, mean = drawn
    huge = estimate_placement(folder, config_of(DRAWN), wanted(told=SHARPER, rewards={"click": 1e6})).report
    usual = estimate_placement(folder, config_of(DRAWN), wanted(told=SHARPER)).report
    for one, other in zip(huge.estimates, usual.estimates, strict=True):
        assert one.value == pytest.approx(1e6 * known(other.value), rel=1e-6), one.name
    both = {"click": 1.0, "impression": -mean / SIZE}
    signed = estimate_placement(folder, config_of(DRAWN), wanted(told=SHARPER, rewards=both)).report
    assert all(np.isfinite(known(each.value)) for each in signed.estimates)


def test_an_interrupt_ends_the_reruns(drawn):
    """Ctrl+C while slates are run again ends it within the next one, not behind the last."""
    done = []
    # A shell starts what goes on behind it with the signal ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def interrupt(_stage, count, _total):
        done.append(count)
        if count == 1:
            signal.raise_signal(signal.SIGINT)

    try:
        with pytest.raises(KeyboardInterrupt):
            estimate_placement(drawn[0], config_of(DRAWN), wanted(), interrupt)
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(done) <= 2


def test_items_that_are_gone_are_told_apart_by_their_ids(tmp_path):
    """An item that is deleted behind the slates, which say what it earned, moves nothing."""
    shop_of(tmp_path, config_of(DRAWN), 350)
    before = estimate_placement(tmp_path, config_of(DRAWN), wanted(told=SHARPER))
    with open_shop(tmp_path, config_of(DRAWN)) as shop:
        shop.record({"type": "item", "item_id": "i1", "operation": "delete"})
    after = estimate_placement(tmp_path, config_of(DRAWN), wanted(told=SHARPER))
    assert after == before
    assert before.reason is None


def test_ids_that_were_merged_are_one_user(drawn, tmp_path):
    """Behind their slates as well: one unit of the interval, and one of the folds of the reward model."""
    folder, _ = drawn
    before = estimate_placement(folder, config_of(DRAWN), wanted(told=SHARPER))
    copytree(folder, tmp_path / "copy")
    merge = {"type": "user", "operation": "merge"}
    with open_shop(tmp_path / "copy", config_of(DRAWN)) as shop:
        shop.record([{**merge, "user_id": f"u{n}", "attributes": {"from": f"u{399 - n}"}} for n in range(100)])
    after = estimate_placement(tmp_path / "copy", config_of(DRAWN), wanted(told=SHARPER))
    assert (before.slates, before.report.support.users) == (400, 400)
    assert (after.slates, after.left_out, after.report.support.users) == (400, {}, 300)
    assert after.report.estimates[2].value == pytest.approx(before.report.estimates[2].value)
    assert after.report.estimates[2].low != before.report.estimates[2].low


def test_weights_are_the_ratio_of_both_formulas(drawn, tmp_path):
    """A slate's probability under the other temperature follows from its logged one: both have the same scores."""
    folder, _ = drawn
    found = estimate_placement(folder, config_of(DRAWN), wanted(told=SHARPER, slates=1, places=1))
    log = logged_slates(LogView(folder), config_of(DRAWN), "home", 1)
    item = decode_served(log.slates[0].body).items[0]
    score = scores_of(folder, tmp_path)

    def chance(temperature: float) -> float:
        return float(
            np.exp(item.score / (temperature * score.std())) / np.exp(score / (temperature * score.std())).sum()
        )

    assert item.propensity == pytest.approx(chance(1.0), rel=0.05)
    assert found.report.support.weight_max == pytest.approx(chance(0.7) / chance(1.0), rel=0.05)


def test_another_selector_over_the_same_slates(drawn):
    """Epsilon-greedy puts most of its mass where the log has some; top-k all of it on one slate, which few saw."""
    folder, _ = drawn
    config = config_of(DRAWN, msgspec.structs.replace(DRAWN, name="greedy", selector=EpsilonGreedy(epsilon=0.8)))
    found = estimate_placement(folder, config, wanted(placement="greedy", logged="home"))
    assert found.reason is None
    assert found.report.best.value is not None
    best = estimate_placement(folder, config_of(DRAWN), wanted(told={**SHARPER, "selector": {"kind": "top_k"}}))
    assert best.reason is not None
    assert "worth" in best.reason
    assert all(each.value is None for each in best.report.estimates)


def test_a_log_without_chance_says_so(tmp_path):
    """Slates of `top_k` support `top_k` and nothing else."""
    config = config_of(msgspec.structs.replace(DRAWN, selector=TopK()))
    mean = shop_of(tmp_path, config, 250)
    same = estimate_placement(tmp_path, config, wanted())
    assert same.report.best.value == pytest.approx(mean)
    other = estimate_placement(tmp_path, config, wanted(told=SHARPER))
    assert other.reason is not None
    assert "could never have been logged" in other.reason
    assert other.report.best.value is None


def test_slates_that_rules_decided_are_left_out(tmp_path):
    """A boost decides beside the selector: the slates are counted with the reason, and nothing is estimated."""
    boost = Boost(name="more", where="item.available", factor=2.0)
    config = config_of(msgspec.structs.replace(DRAWN, rules=(boost,)))
    shop_of(tmp_path, config, 20)
    found = estimate_placement(tmp_path, config, wanted())
    assert found.slates == 0
    assert list(found.left_out.values()) == [20]
    assert found.reason is not None
    assert "rules of the slate" in found.reason


def test_what_cannot_be_asked_is_refused(drawn):
    """A placement that is not there, settings that are none, and a name without slates."""
    folder, _ = drawn
    with pytest.raises(NotFound, match="hom"):
        estimate_placement(folder, config_of(DRAWN), wanted(placement="hom"))
    with pytest.raises(ConfigInvalid):
        estimate_placement(folder, config_of(DRAWN), wanted(told={"selector": {"kind": "nothing"}}))
    one = estimate_placement(folder, config_of(DRAWN), wanted(told=SHARPER, slates=1))
    assert one.reason is not None
    assert "worth 1 users of 1" in one.reason
    nobody = estimate_placement(folder, config_of(DRAWN), wanted(logged="elsewhere"))
    assert (nobody.slates, nobody.reason) == (0, "nothing was logged")


def test_erased_users_and_continuations_are_left_out(tmp_path):
    """Only slates that were drawn for themselves, of users who are still there, count."""
    config = config_of(DRAWN)
    shop_of(tmp_path, config, 5)
    with open_shop(tmp_path, config) as shop:
        first = shop.recommend("home", user_id="ann", n=1, cursor=True)
        shop.recommend(cursor=first.cursor, n=1)
        shop.erase("u0")
    found = logged_slates(LogView(tmp_path), config, "home", 100)
    assert len(found.slates) == 5
    assert found.left_out == {"of an erased user": 1, "it continues another slate": 1}
    assert len(logged_slates(LogView(tmp_path), config, "home", 2).slates) == 2
