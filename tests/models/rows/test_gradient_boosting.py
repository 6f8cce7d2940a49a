"""Gradient boosting: our kernel scores as scikit-learn does, what is unknown too."""

import sys

import numpy as np
import pytest
from msgspec.structs import replace

from midstream.core.errors import ExtraMissing, FitStopped, Invalid
from midstream.models.model import QUIET, Watch
from midstream.models.rows.examples import Examples
from midstream.models.rows.gradient_boosting import GradientBoostingOptions, filled, fit_gradient_boosting
from midstream.models.rows.trees import Trees
from midstream.testing.model_conformance import check_row_model
from tests.models.click_rows import NAMES, some_clicks, some_values

SMALL = GradientBoostingOptions(trees_max=30, leaf_rows_min=5, seed=1)


@pytest.fixture
def ensemble():
    """scikit-learn's module, where it is installed."""
    return pytest.importorskip("sklearn.ensemble", reason='needs the extra "train": pip install "midstream[train]"')


@pytest.mark.parametrize("seed, leaves, share", [(0, 8, 1.0), (1, 2, 0.5), (2, 64, 0.7)])
def test_scores_are_those_of_the_library(ensemble, seed, leaves, share):
    """On rows that it was not fitted on, and exactly at its thresholds."""
    examples = some_clicks(seed)
    options = replace(SMALL, leaves_max=leaves, row_share=share, column_share=share)
    model = fit_gradient_boosting(examples, options)
    library = ensemble.GradientBoostingClassifier(
        n_estimators=30, max_leaf_nodes=leaves, max_depth=None, min_samples_leaf=5, subsample=share, max_features=share,
        random_state=1,
    )  # fmt: skip
    weight = examples.weight / examples.weight.mean(dtype=np.float64)
    library.fit(filled(examples.values), examples.label > 0, sample_weight=weight)
    asked = some_values(seed + 50)
    at = np.flatnonzero(np.abs(model.threshold) < 1e30)[:400]
    asked[np.arange(len(at)), model.feature[at]] = model.threshold[at]
    assert len(at) > 10
    expected = library.predict_proba(filled(asked))[:, 1]
    assert np.abs(model.score(asked) - expected).max() <= 1e-6
    assert np.ptp(expected) > 0.3


@pytest.mark.usefixtures("ensemble")
def test_it_keeps_the_promises_of_a_row_model():
    """Conformance, with what is unknown; equal examples and options give equal trees."""
    examples = some_clicks(3)
    model = fit_gradient_boosting(examples, replace(SMALL, row_share=0.5))
    check_row_model(model, some_values(4), Trees.restore)
    again = fit_gradient_boosting(examples, replace(SMALL, row_share=0.5))
    assert all(np.array_equal(array, again.arrays()[name]) for name, array in model.arrays().items())


@pytest.mark.usefixtures("ensemble")
def test_what_is_unknown_is_a_value_of_its_own():
    """Clicked where the price is unknown, and nowhere else."""
    values = some_values(5)
    label = np.isnan(values[:, 0]).astype(np.float32)
    model = fit_gradient_boosting(Examples.of_rows(NAMES, values, label), SMALL)
    asked = np.zeros((3, 4), dtype=np.float32)
    asked[:, 0] = [np.nan, -1e30, 1.0]
    unknown, low, usual = model.score(asked).tolist()
    assert unknown > 0.9
    assert max(low, usual) < 0.1


@pytest.mark.usefixtures("ensemble")
def test_rows_count_by_propensity_where_that_is_asked_for():
    """What is unlikely to be shown stands for more."""
    examples = some_clicks(6)
    plain = fit_gradient_boosting(examples, SMALL).score(examples.values)
    options = replace(SMALL, debias="propensity", weight_max=5.0)
    weight = examples.weight * np.minimum(1 / examples.propensity, 5)
    by_hand = Examples(
        examples.names, examples.values, examples.start, examples.label, examples.time_ms,
        weight, examples.position, np.full(len(weight), np.nan, dtype=np.float32),
    )  # fmt: skip
    found = fit_gradient_boosting(examples, options).score(examples.values)
    assert np.allclose(found, fit_gradient_boosting(by_hand, SMALL).score(examples.values), atol=1e-5)
    assert np.abs(found - plain).max() > 0.05


@pytest.mark.usefixtures("ensemble")
def test_a_fit_that_learned_nothing_is_none():
    """Rows of one kind, or features that are all alike."""
    values = some_values(7)
    for label in (np.zeros(400, np.float32), np.ones(400, np.float32)):
        with pytest.raises(Invalid, match="Nothing was learned"):
            fit_gradient_boosting(Examples.of_rows(NAMES, values, label), SMALL)
    label = np.arange(400, dtype=np.float32) % 2
    with pytest.raises(Invalid, match="Nothing was learned"):
        fit_gradient_boosting(Examples.of_rows(NAMES, np.zeros_like(values), label), SMALL)


@pytest.mark.usefixtures("ensemble")
def test_it_stops_when_it_is_told_to_and_says_what_is_missing(monkeypatch):
    """After a tree; by name of the extra."""
    told = []
    with pytest.raises(FitStopped):
        fit_gradient_boosting(some_clicks(1), SMALL, Watch(lambda _text, share: told.append(share), lambda: bool(told)))
    assert told == [1 / 30]
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    with pytest.raises(ExtraMissing, match=r"midstream\[train\]"):
        fit_gradient_boosting(some_clicks(1), SMALL, QUIET)
