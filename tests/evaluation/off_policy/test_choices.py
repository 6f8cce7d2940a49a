"""Estimators of single choices: equal to `obp`, to plain loops, and to what they promise."""

import numpy as np
import pytest

from midstream.core.errors import ShapeMismatch
from midstream.evaluation.off_policy.choices import ChoiceLog, dm, dr, dr_os, ipw, sndr, snipw, switch_dr

SWITCH, SHRINKAGE = 2.5, 5.0


def random_log(scale=1.0):
    """Return 2,000 choices of 10 items; RandomState draws the same in every version of NumPy."""
    draw = np.random.RandomState(20261201)
    n, actions = 2000, 10
    logged, target = draw.dirichlet(np.ones(actions), n), draw.dirichlet(np.ones(actions), n)
    logged = (logged + 0.01) / (1 + 0.01 * actions)
    action = (logged.cumsum(1) > draw.uniform(size=(n, 1))).argmax(1)
    model = draw.uniform(size=(n, actions))
    rate = np.clip(model[np.arange(n), action] + 0.1 * draw.normal(size=n), 0, 1)
    reward = draw.binomial(1, rate).astype(float)
    return np.arange(n), action, reward, logged, target, model * scale


# Made once with obp 0.4.1, and again with 0.5.7, from the arrays of random_log.
OBP = {
    "ipw": 0.5066905663842722,
    "snipw": 0.49427408048219645,
    "dm": 0.5027671505973477,
    "dr": 0.5061348761363575,
    "sndr": 0.5060523497988818,
    "switch_dr": 0.4898337086559525,
    "dr_os": 0.4988746402513701,
}
ESTIMATORS = {
    "ipw": ipw,
    "snipw": snipw,
    "dm": dm,
    "dr": dr,
    "sndr": sndr,
    "switch_dr": lambda log: switch_dr(log, SWITCH),
    "dr_os": lambda log: dr_os(log, SHRINKAGE),
}


@pytest.mark.parametrize("name", OBP)
def test_an_estimate_of_a_random_log_is_that_of_obp(name):
    """All seven estimators give the Open Bandit Pipeline's figures to 1e-9."""
    found = ESTIMATORS[name](ChoiceLog.of_matrices(*random_log())).value
    assert found == pytest.approx(OBP[name], abs=1e-9, rel=0)


def by_loops(name, action, reward, logged, target, model):
    """Return an estimate by the formulas as they stand in the papers, row by row."""
    total = weights = corrections = 0.0
    for row, item in enumerate(action):
        weight = target[row][item] / logged[row][item]
        expected = sum(target[row][each] * model[row][each] for each in range(len(model[row])))
        error = reward[row] - model[row][item]
        weights += weight
        if name in {"ipw", "snipw"}:
            total += weight * reward[row]
        elif name == "sndr":
            total += expected
            corrections += weight * error
        else:
            used = {
                "dm": 0.0,
                "dr": weight,
                "switch_dr": weight if weight <= SWITCH else 0.0,
                "dr_os": SHRINKAGE * weight / (weight * weight + SHRINKAGE),
            }[name]
            total += expected + used * error
    if name == "snipw":
        return total / weights
    return total / len(action) + (corrections / weights if name == "sndr" else 0.0)


@pytest.mark.parametrize("name", OBP)
def test_an_estimate_is_that_of_plain_loops(name):
    """The arrays compute what the formulas say."""
    users, *parts = random_log()
    assert ESTIMATORS[name](ChoiceLog.of_matrices(users, *parts)).value == pytest.approx(by_loops(name, *parts))


def test_limits_lead_from_the_model_to_the_corrected_estimate():
    """Without a limit Switch-DR and DRos are DR and clipped IPW is IPW; at a limit of 0 all of it is the model."""
    log = ChoiceLog.of_matrices(*random_log())
    assert switch_dr(log, np.inf).value == dr(log).value == dr_os(log, np.inf).value
    assert switch_dr(log, -1.0).value == pytest.approx(dm(log).value) == dr_os(log, 0.0).value
    assert ipw(log, np.inf).value == ipw(log).value > ipw(log, 1.0).value


def test_the_target_that_logged_has_the_mean_reward():
    """Weights are 1 for the logging policy itself, whatever the model says of the errors."""
    users, action, reward, logged, _, model = random_log()
    log = ChoiceLog.of_matrices(users, action, reward, logged, logged, model)
    assert ipw(log).value == pytest.approx(reward.mean())
    assert snipw(log).value == pytest.approx(reward.mean())


@pytest.mark.parametrize(
    "field, value", [("logged", 0.0), ("logged", np.nan), ("target", 1.1), ("missing", -0.1), ("reward", np.inf)]
)
def test_what_is_no_log_is_refused(field, value):
    """A probability outside its range, and a number that is none, are named."""
    parts = {name: np.full(3, 0.5) for name in ("reward", "logged", "target", "missing")}
    parts[field][1] = value
    with pytest.raises(ShapeMismatch, match=field):
        ChoiceLog(users=np.arange(3), **parts)


def test_a_model_has_both_halves():
    """Predicted rewards without those under the target are half a model, and DM without one says so."""
    parts = {name: np.full(3, 0.5) for name in ("reward", "logged", "target", "missing")}
    with pytest.raises(ShapeMismatch, match="together"):
        ChoiceLog(users=np.arange(3), predicted=np.ones(3), **parts)
    with pytest.raises(ShapeMismatch, match="no rewards of a model"):
        dm(ChoiceLog(users=np.arange(3), **parts))
