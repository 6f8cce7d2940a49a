"""Statistics of units merge, are taken apart, and are those of NumPy."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.evaluation.experiments.unit_sums import UnitSums, moments_of, no_units, unit_sums

whole = st.integers(-1_000, 1_000).map(float)
columns = st.lists(st.tuples(whole, whole), max_size=12).map(lambda rows: np.array(rows).reshape(-1, 2))


@given(columns, columns)
def test_merging_is_summing_all_units(first, second):
    """Pieces in either order give the whole, and the whole less a piece the other; nothing merges without a change."""
    one, two, both = unit_sums(first), unit_sums(second), unit_sums(np.concatenate((first, second)))
    assert one.merged(two) == two.merged(one) == both
    assert both.without(two) == one
    assert one.merged(no_units(2)) == one


def test_moments_are_those_of_numpy():
    """Means and covariances over units; a rate divides by their number."""
    rng = np.random.default_rng(1)
    units = rng.normal(3.0, 2.0, (50, 4))
    found = moments_of(unit_sums(units), "ratio")
    assert found.mean == pytest.approx(units.mean(axis=0))
    assert found.covariance == pytest.approx(np.cov(units.T))
    rates = (units[:, :1] > 3).astype(np.float64)
    share = rates.mean()
    assert moments_of(unit_sums(rates), "rate").covariance.item() == pytest.approx(share * (1 - share))


def test_statistics_pass_as_json():
    """They can be stored and sent."""
    found = unit_sums(np.array([[1.5, 2.0], [0.25, 4.0]]))
    assert msgspec.json.decode(msgspec.json.encode(found), type=UnitSums) == found


def test_columns_must_agree():
    """Statistics of different metrics do not merge."""
    with pytest.raises(ValueError, match="zip"):
        no_units(1).merged(no_units(2))
