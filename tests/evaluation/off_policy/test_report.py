"""The report: values where there is support, reasons where there is none."""

from functools import partial

import msgspec
import numpy as np
import pytest

from midstream.evaluation.off_policy.choices import ChoiceLog
from midstream.evaluation.off_policy.report import (
    NO_MODEL,
    OffPolicyReport,
    estimate_choices,
    estimate_slates,
    supported_places,
)
from midstream.evaluation.off_policy.reward_model import with_rewards
from midstream.evaluation.off_policy.slates import SlateLog
from midstream.evaluation.off_policy.support import ACTS_MIN, EFFECTIVE_MIN, MISSING_MAX, effective, support
from tests.evaluation.off_policy.test_choices import random_log
from tests.evaluation.off_policy.test_slates import random_slates
from tests.support.known import known
from tests.support.slate_worlds import SlateWorld


def test_a_supported_log_has_every_estimate_and_its_interval():
    """All eight are there; the model alone has no interval, since none would know its error."""
    report = estimate_choices(ChoiceLog.of_matrices(*random_log()))
    assert report.reason is None
    names = [each.name for each in report.estimates]
    assert names == ["ipw", "snipw", "ipw_clipped", "dm", "dr", "sndr", "switch_dr", "dr_os"]
    for each in report.estimates:
        assert each.value is not None
        assert (each.low is None) == (each.name == "dm")
        if each.low is not None and each.high is not None:
            assert each.low < each.value < each.high
    assert report.best.name == "dr"
    assert msgspec.json.decode(msgspec.json.encode(report), type=OffPolicyReport) == report


def test_an_interval_of_what_slope_chose_holds_that_without_a_limit():
    """What SLOPE takes for variance may be bias, so in 100 worlds 95 % hold the truth, and not a fifth of them; a limit
    that is none is of the estimator itself.
    """
    draw = np.random.default_rng(31)
    held, tuned = [], 0
    for _ in range(100):
        world = SlateWorld.drawn(draw, places=1)
        log, _, items = world.slates(draw, 1_000)
        report = estimate_slates(log, model=partial(with_rewards, items=items))
        by_name = {each.name: each for each in report.estimates}
        for name, whole in (("ipw_clipped", "ipw"), ("switch_dr", "dr"), ("dr_os", "dr")):
            one, other = by_name[name], by_name[whole]
            held.append(known(one.low) <= world.truth() <= known(one.high))
            assert known(one.low) <= min(known(one.value), known(other.low))
            assert known(one.high) >= max(known(one.value), known(other.high))
            assert one.tuned == ("shrinkage" if name == "dr_os" else "weight_max")
            if one.parameter is None:
                assert (one.value, one.low, one.high) == (other.value, other.low, other.high)
            tuned += one.parameter is not None
    assert np.mean(held) > 0.92
    assert tuned > 50


def test_each_line_says_what_its_weights_rest_on():
    """Cut weights are worth more users and leave more out of the log; the model alone leaves everything out."""
    log = ChoiceLog.of_matrices(*random_log())
    report = estimate_choices(log)
    found = {each.name: each for each in report.estimates}
    assert found["ipw"].effective == pytest.approx(report.support.effective)
    assert found["ipw"].weight_max == report.support.weight_max
    assert found["ipw"].unsupported == pytest.approx(report.support.missing)
    assert (found["dm"].effective, found["dm"].weight_max, found["dm"].unsupported) == (None, None, 1.0)
    clipped, limit = found["ipw_clipped"], found["ipw_clipped"].parameter
    assert clipped.weight_max == limit
    assert known(clipped.effective) > known(found["ipw"].effective)
    kept = np.minimum(log.weight, known(limit)).sum() / log.weight.sum()
    assert clipped.unsupported == pytest.approx(1 - kept)
    over = found["switch_dr"]
    assert known(over.weight_max) <= known(over.parameter)
    assert over.unsupported == pytest.approx(log.weight[log.weight > known(over.parameter)].sum() / log.weight.sum())


def test_estimators_by_name():
    """Those that are asked for, in that order; what needs a model or single choices has the reason instead."""
    users, action, reward, logged, target, _ = random_log()
    plain = ChoiceLog.of_matrices(users, action, reward, logged, target)
    report = estimate_choices(plain, names=("dr", "snrips", "ipw"))
    assert [each.name for each in report.estimates] == ["dr", "snrips", "ipw"]
    assert (report.estimates[0].value, report.estimates[0].note) == (None, NO_MODEL)
    assert report.estimates[1].value == estimate_choices(plain, names=("snipw",)).best.value
    assert report.chosen == "snrips"
    assert estimate_choices(plain, names=("dm",)).best.note == NO_MODEL
    for names, chosen in (
        (("ipw_clipped", "ipw"), "ipw"), (("rips_clipped", "sips"), "sips"), (("dm", "snipw"), "snipw"),
    ):  # fmt: skip
        found = estimate_choices(plain, names=names)
        assert (found.chosen, found.can_be_gone_by) == (chosen, True)
    for name in ("dm", "iips", "ipw_clipped", "dr"):
        found = estimate_choices(plain, names=(name,))
        assert (found.chosen, found.can_be_gone_by) == (name, name == "iips")  # of one place, which is ipw


def refused(report):
    """Return the reason of a report that has no value anywhere."""
    assert report.reason is not None
    assert report.places == 0
    assert all(each.value is each.low is each.high is None for each in report.estimates)
    assert all(each.note == report.reason for each in report.estimates)
    return report.reason


def log_of(target, logged=None, users=1_000, **parts):
    """Return a log of one choice a user with these probabilities."""
    shape = (users,)
    given = {
        "reward": (np.arange(users) % 2).astype(float),
        "logged": np.full(shape, 0.5) if logged is None else logged,
        "target": np.broadcast_to(target, shape).astype(float),
        "missing": np.zeros(shape),
    }
    return ChoiceLog(users=np.arange(users), **(given | parts))


def test_without_support_nothing_is_estimated():
    """A target that would serve what never could be logged is refused, whatever the weights of the rest look like."""
    at_bound = log_of(0.5 * (1 - MISSING_MAX), missing=np.full(1_000, MISSING_MAX))
    assert estimate_choices(at_bound).reason is None
    beyond = log_of(0.5 * (1 - 2 * MISSING_MAX), missing=np.full(1_000, 2 * MISSING_MAX))
    assert "could never have been logged" in refused(estimate_choices(beyond))


def test_a_deterministic_logger_supports_only_itself():
    """With propensities of 1 another target has no support, and the same one has weights of 1."""
    same = log_of(1.0, logged=np.ones(1_000))
    assert estimate_choices(same).best.value == pytest.approx(0.5)
    other = log_of(0.0, logged=np.ones(1_000), missing=np.ones(1_000))
    assert "could never have been logged" in refused(estimate_choices(other))


def test_few_effective_users_are_refused():
    """A heavy user more than allowed turns a value into a reason; so do 150 users, and one with 1,000 rows."""
    weights = np.full(1_000, 0.5)
    weights[:3] = 1.0
    heavy = log_of(weights, logged=np.where(np.arange(1_000) < 3, 0.01, 0.5))
    assert "worth" in refused(estimate_choices(heavy))
    assert "worth 150 users" in refused(estimate_choices(log_of(0.5, users=150)))
    log = log_of(0.5)
    one = ChoiceLog(np.zeros(1_000, dtype=np.intp), log.reward, log.logged, log.target, log.missing)
    assert "worth 1 users of 1" in refused(estimate_choices(one))
    assert estimate_choices(log_of(0.5, users=int(EFFECTIVE_MIN))).reason is None


def test_few_acts_are_refused():
    """1,000 users of whom a few act carry no interval."""
    reward = np.zeros(1_000)
    reward[: int(ACTS_MIN) - 1] = 1.0
    assert "with an act" in refused(estimate_choices(log_of(0.5, reward=reward)))
    reward[int(ACTS_MIN) - 1] = 1.0
    assert estimate_choices(log_of(0.5, reward=reward)).reason is None


def test_probabilities_that_are_not_those_of_the_choices_are_refused():
    """Propensities too large by a fifth make the mean weight too small, by more than chance would."""
    users, action, reward, logged, target, _ = random_log()
    log = ChoiceLog.of_matrices(users, action, reward, logged, (logged + target) / 2)
    assert estimate_choices(log).reason is None
    wrong = ChoiceLog(users, reward, np.minimum(1.0, 1.2 * log.logged), log.target, log.missing)
    assert "mean weight" in refused(estimate_choices(wrong))


def test_a_place_that_is_almost_certain_is_estimated():
    """What has a probability of 2 in 10,000 was met by none of 1,000 users, so all weights are just above 1 and have
    no spread. Weights that are above 1 by more are still refused.
    """
    seen = log_of(0.99998, logged=np.full(1_000, 0.9998))
    assert estimate_choices(seen).best.value == pytest.approx(0.5)
    assert "mean weight" in refused(estimate_choices(log_of(0.98, logged=np.full(1_000, 0.96))))
    assert "mean weight" in refused(estimate_choices(log_of(0.98, logged=np.full(1_000, 0.981))))


def test_nothing_logged_is_refused():
    """An empty log is a reason, for slates too."""
    none = np.empty(0)
    assert refused(estimate_choices(ChoiceLog(np.empty(0, dtype=np.intp), *(none,) * 4))) == "nothing was logged"
    empty = SlateLog(np.empty(0, dtype=np.intp), *(np.empty((0, 3)),) * 4)
    assert refused(estimate_slates(empty)) == "nothing was logged"


def test_places_are_counted_as_far_as_they_are_supported():
    """Below the third place nothing the target would serve could be logged: two places are estimated, the same as
    those of a log that has two.
    """
    draw = np.random.default_rng(9)
    shape = (2_000, 4)
    target, missing = np.full(shape, 0.5), np.zeros(shape)
    missing[:, 2] = 0.2
    reward = (draw.uniform(size=shape) < 0.3).astype(float)
    log = SlateLog(np.arange(2_000), reward, np.full(shape, 0.5), target, missing)
    report = estimate_slates(log)
    assert supported_places(log) == report.places == 2
    assert report.places_asked == 4
    assert report.logged.value == pytest.approx(reward[:, :2].sum(axis=1).mean())
    assert report.best == estimate_slates(log.first(2)).best


def test_a_model_is_asked_about_the_places_that_are_estimated():
    """Cascade-DR is the one to go by with a model, and a model that errs does not move it much."""
    whole, _ = random_slates()
    log = SlateLog(whole.users, whole.reward, whole.logged, (whole.logged + whole.target) / 2, whole.missing)

    def model(cut):
        assert cut.places == report_places
        return cut.with_model(np.full(cut.reward.shape, 0.6), np.full(cut.reward.shape, 0.6))

    report_places = supported_places(log)
    assert report_places > 0
    report = estimate_slates(log, model=model)
    assert report.chosen == "cascade_dr"
    assert report.best.value is not None
    assert abs(report.best.value - log.reward[:, :report_places].sum(axis=1).mean()) < 0.5


def test_effective_sizes_know_users():
    """Rows of one user weigh together: four rows of two users are worth two."""
    found = support(np.ones(4), np.ones(4), 0.0, np.array([0, 0, 1, 1]))
    assert (found.effective, found.effective_rows) == (2.0, 4.0)
    assert effective(np.zeros(3)) == 0.0
