"""Figures of feature columns: NumPy's on whole data, the same however rows are cut, and the same read back."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import Invalid
from midstream.evaluation.metrics.feature_statistics import (
    DECILES,
    QUANTILES,
    STEPS_MAX,
    StreamingStatistics,
    distribution,
    read_statistics,
    statistics_of,
)

CELL = st.one_of(st.just(np.nan), st.integers(-5, 5).map(float), st.floats(-1e6, 1e6, width=32))
COLUMN = st.lists(CELL, min_size=1, max_size=60)


def of(values, weights=None):
    column = np.array(values, dtype=np.float32)[:, None]
    return statistics_of(["a"], column, None if weights is None else np.array(weights)).columns[0]


@given(COLUMN)
def test_figures_are_those_of_numpy(values):
    """Missing values are counted and enter nothing else."""
    found, column = of(values), np.array(values, dtype=np.float32)
    known = column[np.isfinite(column)].astype(np.float64)
    assert found.known == len(known)
    assert found.null_ratio == pytest.approx(1 - len(known) / len(column))
    assert found.distinct == len(set(known.tolist()))
    if len(known):
        assert found.mean == pytest.approx(known.mean(), rel=1e-9, abs=1e-6)
        assert found.deviation == pytest.approx(known.std(), rel=1e-6, abs=1e-6)
        assert list(found.quantiles) == np.quantile(known, QUANTILES, method="inverted_cdf").tolist()
        assert list(found.edges) == sorted(set(np.quantile(known, DECILES, method="inverted_cdf").tolist()))
        assert sum(found.shares) == pytest.approx(1.0)
    else:
        assert (found.mean, found.deviation, found.quantiles) == (None, None, ())


@given(st.lists(st.tuples(CELL, st.integers(0, 4)), min_size=1, max_size=40))
def test_a_row_of_weight_n_is_n_rows(rows):
    """Weights of whole numbers give the figures of rows that are repeated so often."""
    values, weights = [value for value, _ in rows], [float(weight) for _, weight in rows]
    repeated = [value for value, weight in rows for _ in range(weight)]
    found = of(values, weights)
    if repeated:
        right = of(repeated)
        assert found.null_ratio == pytest.approx(right.null_ratio)
        assert (found.mean is None) == (right.mean is None)
        assert found.mean is None or found.mean == pytest.approx(right.mean, rel=1e-6, abs=1e-6)
        assert (found.quantiles, found.edges, found.distinct) == (right.quantiles, right.edges, right.distinct)
        assert found.shares == pytest.approx(right.shares)


@given(COLUMN, st.integers(1, 7), st.integers(1, 80))
def test_rows_give_the_same_figures_however_they_are_cut(values, size, rows_max):
    """The sample too: which rows are kept depends on their order alone."""
    column = np.array(values, dtype=np.float32)[:, None]
    whole, cut = StreamingStatistics(["a"], rows_max), StreamingStatistics(["a"], rows_max)
    whole.add(column)
    for start in range(0, len(column), size):
        cut.add(column[start : start + size])
    first, second = whole.statistics().columns[0], cut.statistics().columns[0]
    assert (first.quantiles, first.steps, first.distinct) == (second.quantiles, second.steps, second.distinct)
    assert (first.mean is None) == (second.mean is None)
    assert first.mean is None or first.mean == pytest.approx(second.mean, rel=1e-6, abs=1e-6)


def test_a_sample_is_drawn_evenly_and_says_that_it_is_one():
    """Of the numbers 0 to 99,999 in order, a sample of 5,000 has quantiles that are right within 3 %."""
    gathered = StreamingStatistics(["a"], rows_max=5_000)
    for start in range(0, 100_000, 1_000):
        gathered.add(np.arange(start, start + 1_000, dtype=np.float32)[:, None])
    found = gathered.statistics().columns[0]
    assert found.quantiles == pytest.approx([q * 100_000 for q in QUANTILES], abs=3_000)
    assert (found.quantiles[0], found.quantiles[-1]) == (0.0, 99_999.0)
    assert not found.is_distinct_exact
    assert found.distinct == 5_000


def test_long_columns_keep_a_bounded_distribution_function():
    """At most so many steps, each as high as it is, and no gap of more than two of 1 / STEPS_MAX."""
    column = np.sin(np.arange(20_000, dtype=np.float64)).astype(np.float32)
    steps = statistics_of(["a"], column[:, None]).columns[0].steps
    assert len(steps.values) <= STEPS_MAX
    assert list(steps.shares) == distribution(column).upto(np.array(steps.values)).tolist()
    assert np.diff([0.0, *steps.shares]).max() <= 2 / STEPS_MAX
    assert steps.shares[-1] == 1.0


def test_statistics_read_back_as_they_were_written(tmp_path):
    """Also of columns without a known value; other files are refused in four parts."""
    values = np.array([[1.5, np.nan, 2.0], [0.1, np.nan, np.inf]], dtype=np.float32)
    found = statistics_of(["a", "b", "c"], values)
    found.write(tmp_path / "s.json")
    assert read_statistics(tmp_path / "s.json") == found
    (tmp_path / "bad.json").write_text('{"rows": "no"}')
    for name in ("bad.json", "none.json"):
        with pytest.raises(Invalid, match=name):
            read_statistics(tmp_path / name)


UNFIT: tuple[dict[str, object], ...] = (
    {"shares": [0.5]},
    {"shares": []},
    {"shares": [0.5, 0.5, 0.5, 0.5]},
    {"shares": [2.0, -0.5, -0.5]},
    {"edges": [2.0, 1.0], "quantiles": [1.0] * 9},
    {"quantiles": [1.0]},
    {"quantiles": [9.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]},
    {"steps": {"values": [1.0, 2.0], "shares": [1.0]}},
    {"steps": {"values": [2.0, 1.0], "shares": [0.5, 1.0]}},
    {"steps": {"values": [1.0, 2.0], "shares": [1.0, 0.5]}},
    {"steps": {"values": [1.0, 2.0], "shares": [0.1, 0.5]}},
    {"steps": {}},
    {"known": -1},
    {"known": 0},
    {"known": 5},
    {"null_ratio": 1.5},
    {"name": "b"},
)


@pytest.mark.parametrize("unfit", UNFIT)
def test_figures_that_do_not_fit_each_other_are_refused_when_they_are_read(tmp_path, unfit):
    """And the column is named: what cannot be compared is not found out at each look."""
    found = statistics_of(["a", "b"], np.array([[1, 1], [1, 2], [2, 3], [3, 4]], dtype=np.float32))
    found.write(tmp_path / "s.json")
    content = json.loads((tmp_path / "s.json").read_text())
    content["columns"][0] |= unfit
    (tmp_path / "s.json").write_text(json.dumps(content))
    with pytest.raises(Invalid) as raised:
        read_statistics(tmp_path / "s.json")
    assert f'"{content["columns"][0]["name"]}"' in raised.value.faults[0].came


@given(st.lists(st.tuples(CELL, st.integers(0, 4)), max_size=30), st.integers(1, 40))
def test_whatever_was_gathered_is_read_back(tmp_path_factory, rows, rows_max):
    """Weights of 0, samples without a known value, no rows: what is written is never refused."""
    gathered = StreamingStatistics(["a"], rows_max)
    weights = np.array([weight for _, weight in rows], dtype=np.float64)
    gathered.add(np.array([[value] for value, _ in rows], dtype=np.float32).reshape(len(rows), 1), weights)
    path = tmp_path_factory.mktemp("s") / "s.json"
    gathered.statistics().write(path)
    assert read_statistics(path) == gathered.statistics()
