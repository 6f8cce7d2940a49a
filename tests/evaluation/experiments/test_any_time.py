"""P-values and bounds are two sides of one boundary, and tuning makes it narrowest where it is tuned."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.evaluation.experiments.any_time import (
    AnyTime,
    half_width,
    half_width_one_sided,
    p_value,
    p_value_above,
)

levels = st.builds(AnyTime, st.floats(0.001, 0.4), st.floats(10, 1e6))


@given(levels, st.floats(10, 1e7), st.floats(1e-6, 1e3))
def test_an_estimate_at_its_half_width_has_the_level_as_its_p_value(level, units, error):
    """On both sides, at all units: a p-value is below alpha exactly where the interval leaves out 0."""
    both, one = half_width(error, units, level), half_width_one_sided(error, units, level)
    assert p_value(both, error, units, level) == pytest.approx(level.alpha, rel=1e-6)
    assert p_value(-both, error, units, level) == pytest.approx(level.alpha, rel=1e-6)
    assert p_value_above(one, error, units, level) == pytest.approx(level.alpha, rel=1e-6)
    assert p_value_above(-one, error, units, level) == 1.0


def test_an_interval_is_narrowest_where_it_is_tuned():
    """In units of the standard error, of all tunings that at 2,000 units is narrowest there; a tenth costs 7 %."""
    tunings = np.geomspace(50, 80_000, 41)
    for width in (half_width, half_width_one_sided):
        found = [float(width(1.0, 2_000.0, AnyTime(0.05, float(tuned)))) for tuned in tunings]
        assert tunings[np.argmin(found)] == pytest.approx(2_000, rel=0.25)
    costs = [float(half_width(1.0, 2_000.0, AnyTime(0.05, tuned))) for tuned in (200.0, 2_000.0, 20_000.0)]
    assert (costs[0] / costs[1], costs[2] / costs[1]) == pytest.approx((1.07, 1.27), abs=0.005)
