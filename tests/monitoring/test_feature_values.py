"""The newest values of features: which rows are kept, what is said of them, and what stands in metrics."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from midstream.evaluation.metrics.drift import drift_of
from midstream.evaluation.metrics.feature_statistics import statistics_of
from midstream.monitoring.feature_values import COLUMNS_A_LOOK, COLUMNS_MAX, FeatureValues
from midstream.monitoring.metrics import Metrics


def rows(*numbers):
    return np.array([[each, -each] for each in numbers], dtype=np.float32).reshape(len(numbers), 2)


@given(st.lists(st.lists(st.integers(0, 99), max_size=4), max_size=12), st.integers(4, 9))
def test_the_newest_rows_are_kept(pieces, rows_max):
    """As many as there is room for, whatever the pieces in which they came."""
    values = FeatureValues(rows_max=rows_max)
    for piece in pieces:
        values.add(("a", "b"), rows(*piece))
    newest = [number for piece in pieces for number in piece][-rows_max:]
    found = values.column("b")
    if pieces:
        right = statistics_of(["b"], -np.array(newest, dtype=np.float32).reshape(-1, 1)).columns[0]
        assert found is not None
        assert (found.known, found.quantiles, found.shares) == (right.known, right.quantiles, right.shares)


def test_a_column_is_that_of_all_sets_that_have_it():
    """Placements that read other features beside it add their rows; what none reads is not known."""
    values = FeatureValues()
    values.add(("a", "b"), rows(1, 2))
    values.add(("b", "c"), rows(5))
    assert values.names == ("a", "b", "c")
    found = values.column("b")
    assert found is not None
    assert found.known == 3
    assert found.mean == pytest.approx((-1 - 2 + 5) / 3)
    assert values.column("d") is None
    assert values.drift("d") is None
    values.clear()
    assert not values.names


@given(st.lists(st.tuples(st.integers(0, 30), st.lists(st.integers(0, 99), max_size=4)), max_size=20))
def test_a_column_has_the_newest_rows_of_all_sets_and_no_more(pieces):
    """However many sets read it: what a look costs does not grow with them."""
    values = FeatureValues(rows_max=5)
    for number, piece in pieces:
        values.add((f"f{number}", "x"), rows(*piece))
        values.column("x")
    newest = [-number for _, piece in pieces for number in piece][-5:]
    found = values.column("x")
    assert (found.known if found else 0) == len(newest)
    if found and newest:
        assert found.mean == pytest.approx(sum(newest) / len(newest))


def test_columns_are_bounded_and_the_rest_is_counted():
    """Rows of which one column more came than there is room for keep the others, and are counted."""
    values = FeatureValues()
    for number in range(COLUMNS_MAX):
        values.add((f"f{number}", "x"), rows(1, 2, 3))
    assert values.names[-1] == f"f{COLUMNS_MAX - 2}"
    assert values.passed_by == 3
    found = values.column("x")
    assert found is not None
    assert found.known == 3 * COLUMNS_MAX


def test_figures_are_made_anew_when_a_fiftieth_of_the_rows_is_new():
    """Who asks again and again waits for no more than that, and is told nothing older."""
    values = FeatureValues(statistics_of(["a"], np.ones((9, 1), dtype=np.float32)))
    values.add(("a",), np.full((1_000, 1), 7, dtype=np.float32))
    first, drift = values.column("a"), values.drift("a")
    values.add(("a",), np.full((19, 1), 8, dtype=np.float32))
    assert values.column("a") is first
    assert values.drift("a") is drift
    values.add(("a",), np.full((1, 1), 9, dtype=np.float32))
    last = values.column("a")
    assert last is not None
    assert (last.known, last.quantiles[-1]) == (1_020, 9.0)
    values.clear()
    values.add(("a",), np.full((1_020, 1), 1, dtype=np.float32))
    last = values.column("a")
    assert last is not None
    assert last.mean == 1.0


def test_metrics_forget_what_other_plans_read():
    """After a swap a gauge says nothing of a feature until it was served again."""
    values = FeatureValues(statistics_of(["a", "b"], np.ones((9, 2), dtype=np.float32)))
    metrics = Metrics(CollectorRegistry())
    values.add(("a", "b"), rows(1, 2))
    values.refresh(metrics)
    assert metrics.text().decode().count('{feature="a"}') == 4
    values.clear()
    values.add(("b",), rows(5)[:, :1])
    values.refresh(metrics)
    text = metrics.text().decode()
    assert '{feature="a"}' not in text
    assert 'midstream_feature_mean{feature="b"} 5.0' in text
    values.clear()
    values.refresh(metrics)
    assert "{feature=" not in metrics.text().decode()


def test_metrics_say_what_drifted():
    """Null ratio, mean, index and distance of each column; without a baseline the first two."""
    then = np.arange(200, dtype=np.float32).reshape(-1, 1) * np.array([[1, np.nan]], dtype=np.float32)
    baseline = statistics_of(["a", "b"], then)
    now = np.array([[50.0 + each, math.nan if each % 4 else 1.0] for each in range(100)], dtype=np.float32)
    values, metrics = FeatureValues(baseline), Metrics(CollectorRegistry())
    values.add(("a", "b"), now)
    values.refresh(metrics)
    text = metrics.text().decode()
    right = drift_of(baseline, ("a",), now[:, :1])[0]
    assert right.psi > 0.25
    assert f'midstream_feature_psi{{feature="a"}} {right.psi}' in text
    assert f'midstream_feature_ks{{feature="a"}} {right.ks.statistic}' in text
    assert 'midstream_feature_null_ratio{feature="b"} 0.75' in text
    assert 'midstream_feature_psi{feature="b"} NaN' in text
    alone = Metrics(CollectorRegistry())
    bare = FeatureValues()
    bare.add(("a", "b"), now)
    bare.refresh(alone)
    assert 'midstream_feature_mean{feature="a"} 99.5' in alone.text().decode()
    assert "midstream_feature_psi{" not in alone.text().decode()


def test_each_look_takes_the_next_columns():
    """All of them are looked at in turn, a few at a time."""
    values, metrics = FeatureValues(), Metrics(CollectorRegistry())
    names = tuple(f"f{number}" for number in range(2 * COLUMNS_A_LOOK))
    values.add(names, np.ones((3, len(names)), dtype=np.float32))
    seen = []
    for _ in range(2):
        values.refresh(metrics)
        seen.append(metrics.text().decode().count("midstream_feature_mean{"))
    assert seen == [COLUMNS_A_LOOK, 2 * COLUMNS_A_LOOK]
