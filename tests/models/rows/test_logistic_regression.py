"""Logistic regression: our kernel scores as scikit-learn does with the same columns, written out."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from midstream.core.errors import ArtifactInvalid, ExtraMissing, FitStopped, Invalid
from midstream.models.kinds import ROW_KINDS
from midstream.models.model import Watch
from midstream.models.rows.examples import Examples
from midstream.models.rows.logistic_regression import (
    LogisticRegression,
    LogisticRegressionOptions,
    fit_logistic_regression,
    parts_of,
)
from midstream.testing.model_conformance import check_row_model
from tests.models.click_rows import NAMES, some_clicks, some_values

PLAIN = LogisticRegressionOptions()
SEEDS = st.integers(0, 2**32 - 2)


@pytest.fixture
def linear():
    """scikit-learn's module, where it is installed."""
    return pytest.importorskip("sklearn.linear_model", reason='needs the extra "train": pip install "midstream[train]"')


@pytest.mark.filterwarnings("ignore:invalid value")  # of the twin, for infinity
def test_scores_are_those_of_the_library(linear):
    """With one bin: the value, standardised and within five deviations, and whether it is known."""
    examples = some_clicks(0)
    model = fit_logistic_regression(examples, LogisticRegressionOptions(regularization=0.5))
    finite = np.where(np.isfinite(examples.values), examples.values, np.nan).astype(np.float64)
    mean, deviation = np.nanmean(finite, axis=0), np.nanstd(finite, axis=0)

    def columns(values):
        known = ~np.isnan(values)
        apart = np.where(known, np.clip((values - mean) / deviation, -5, 5), 0.0)
        return np.concatenate([known, ~known, apart], axis=1)

    library = linear.LogisticRegression(C=2.0, max_iter=1_000)
    weight = examples.weight / examples.weight.mean(dtype=np.float64)
    library.fit(columns(examples.values), examples.label > 0, sample_weight=weight)
    asked = some_values(50)
    expected = library.predict_proba(columns(asked))[:, 1]
    assert np.abs(model.score(asked) - expected).max() <= 1e-4
    assert np.ptp(expected) > 0.3


@settings(max_examples=15)
@given(SEEDS, st.integers(1, 9))
def test_the_kernel_multiplies_what_is_fitted(seed: int, bins: int) -> None:
    """Scores are those of the product of the fitted columns with the weights, whatever these are."""
    examples, dice = some_clicks(seed, 60), np.random.default_rng(seed)
    edges = np.sort(dice.standard_normal((4, bins - 1)).astype(np.float32), axis=1)
    mean, scale = dice.standard_normal(4), np.array([1.0, 0.0, 0.03, 2.0])
    weights = dice.standard_normal(4 * (bins + 2) + 1)
    model = LogisticRegression(NAMES, edges, mean, scale, weights)
    columns = parts_of(examples.values, edges, mean, scale)
    assert columns.shape == (60, 4 * (bins + 2))
    expected = 1 / (1 + np.exp(-(columns @ weights[:-1] + weights[-1])))
    assert np.allclose(model.score(examples.values), expected, atol=1e-6)


@pytest.mark.parametrize("bins", [1, 6])
@pytest.mark.usefixtures("linear")
def test_it_keeps_the_promises_of_a_row_model(bins):
    """Conformance, with what is unknown; equal examples and options give equal weights."""
    examples = some_clicks(3)
    model = fit_logistic_regression(examples, replace(PLAIN, bins=bins))
    check_row_model(model, some_values(4), LogisticRegression.restore)
    again = fit_logistic_regression(examples, replace(PLAIN, bins=bins))
    assert all(np.array_equal(array, again.arrays()[name]) for name, array in model.arrays().items())


@pytest.mark.usefixtures("linear")
def test_a_solver_that_was_not_done_says_so_in_the_figures() -> None:
    """And nowhere else: a warning of the library is an error here."""
    examples = some_clicks(3)
    figures = ROW_KINDS["logistic_regression"].figures
    short = fit_logistic_regression(examples, replace(PLAIN, iterations_max=2))
    assert figures(short) == {"converged": 0.0, "iterations": 2.0}
    found = figures(fit_logistic_regression(examples, PLAIN))
    assert found["converged"] == 1.0
    assert 2 < found["iterations"] < 1_000


@pytest.mark.usefixtures("linear")
def test_it_tells_clicks_apart():
    """Bins see what a line does not: clicks at both ends."""
    values = np.random.default_rng(1).standard_normal((600, 4)).astype(np.float32)
    label = (np.abs(values[:, 1]) > 1).astype(np.float32)
    examples = Examples.of_rows(NAMES, values, label)
    right = {}
    for bins in (1, 12):
        score = fit_logistic_regression(examples, replace(PLAIN, bins=bins)).score(values)
        right[bins] = np.mean((score > 0.5) == (label > 0))
    assert right[12] > 0.95
    assert right[1] < 0.75


@pytest.mark.usefixtures("linear")
def test_rows_count_by_propensity_where_that_is_asked_for():
    """What is unlikely to be shown stands for more."""
    examples = some_clicks(6)
    plain = fit_logistic_regression(examples, PLAIN)
    found = fit_logistic_regression(examples, replace(PLAIN, debias="propensity", weight_max=5.0))
    by_hand = Examples(
        examples.names, examples.values, examples.start, examples.label, examples.time_ms,
        examples.weight * np.minimum(1 / examples.propensity, 5), examples.position, examples.propensity,
    )  # fmt: skip
    assert np.allclose(found.weights, fit_logistic_regression(by_hand, PLAIN).weights, atol=1e-3)
    assert np.abs(found.weights - plain.weights).max() > 0.05


@pytest.mark.usefixtures("linear")
def test_what_is_no_linear_model_is_refused():
    """By the name of the array."""
    model = fit_logistic_regression(some_clicks(1), replace(PLAIN, bins=3))
    whole = dict(model.arrays())
    for name, wrong in (
        ("edges", model.edges[:, 1:]),
        ("edges", np.full_like(model.edges, np.nan)),
        ("mean", model.mean[1:]),
        ("scale", model.scale.astype(np.float32)),
        ("weights", np.full_like(model.weights, np.inf)),
        ("weights", model.weights[1:]),
    ):
        with pytest.raises(ArtifactInvalid, match="linear model"):
            LogisticRegression.restore({**whole, name: wrong})
        with pytest.raises(ArtifactInvalid, match="linear model"):
            LogisticRegression.restore({key: each for key, each in whole.items() if key != name})


@pytest.mark.usefixtures("linear")
def test_it_stops_when_it_is_told_to_and_says_what_is_missing(monkeypatch):
    """Before the library begins; rows of one kind are nothing; by name of the extra."""
    with pytest.raises(FitStopped):
        fit_logistic_regression(some_clicks(1), PLAIN, Watch(stopped=lambda: True))
    with pytest.raises(Invalid, match="Nothing was learned"):
        fit_logistic_regression(Examples.of_rows(NAMES, some_values(1), np.zeros(400, np.float32)), PLAIN)
    monkeypatch.setitem(sys.modules, "sklearn.linear_model", None)
    with pytest.raises(ExtraMissing, match=r"midstream\[train\]"):
        fit_logistic_regression(some_clicks(1), PLAIN)
