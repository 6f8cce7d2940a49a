"""SLOPE: what obp chooses, and what it promises."""

from functools import partial

import numpy as np
import pytest

from midstream.evaluation.off_policy.choices import ChoiceLog, dr_os, ipw, switch_dr
from midstream.evaluation.off_policy.intervals import Terms
from midstream.evaluation.off_policy.slope import agreeing, slope, weight_grid
from tests.evaluation.off_policy.test_choices import random_log

GRID = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, np.inf)
# Made once with obp 0.5.7 (tuning_method="slope") from random_log with its model times 0.2.
CHOSEN = [
    ("ipw", 0.01, 3.0, 0.4150767672829501),
    ("ipw", 0.1, 10.0, 0.4953241338273274),
    ("switch", 0.01, 10.0, 0.48144022986577434),
    ("switch", 0.1, 10.0, 0.48144022986577434),
    ("dros", 0.01, 30.0, 0.4017444532275864),
    ("dros", 0.1, 100.0, 0.4512354183893118),
    ("dros", 0.3, np.inf, 0.5065794283346894),
]


@pytest.mark.parametrize("name, delta, parameter, value", CHOSEN)
def test_the_parameter_is_that_of_obp(name, delta, parameter, value):
    """Each row its own user, the same parameter is chosen and gives the same value."""
    log = ChoiceLog.of_matrices(*random_log(scale=0.2))
    make = partial({"ipw": ipw, "switch": switch_dr, "dros": dr_os}[name], log)
    found = slope(make, GRID, log.users, delta)
    assert found == parameter
    assert make(found).value == pytest.approx(value, abs=1e-9, rel=0)


def test_an_estimate_that_disagrees_with_a_wider_one_is_biased():
    """The last before the first disagreement counts, although later ones agree again."""
    value, width = np.array([1.0, 1.1, 3.0, 1.0]), np.array([0.5, 0.4, 0.1, 0.05])
    assert agreeing(value, width) == 2
    assert agreeing(value[:2], width[:2]) == 2
    assert agreeing(value[:1], width[:1]) == 1


def test_bounds_are_of_users():
    """A user's copies of a row say no more than the row: the same parameter is chosen."""
    log = ChoiceLog.of_matrices(*random_log(scale=0.2))
    plain = slope(partial(dr_os, log), GRID, log.users)

    def copied(limit):
        once = dr_os(log, limit)
        return Terms(np.repeat(once.base, 5), np.repeat(once.correction, 5, axis=0))

    assert slope(copied, GRID, np.repeat(log.users, 5)) == plain
    assert slope(copied, GRID, np.arange(5 * len(log.users))) != plain


def test_limits_to_try_end_with_none():
    """Limits rise to infinity; without any weight there is none to limit."""
    grid = weight_grid(np.random.default_rng(1).exponential(size=1000))
    assert list(grid) == sorted(grid)
    assert grid[-1] == np.inf
    assert weight_grid(np.zeros(3)) == (np.inf,)
