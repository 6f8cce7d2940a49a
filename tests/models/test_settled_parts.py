"""A feature that comes to be known, or is missing for once, says nothing to a model that never saw it so."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from midstream.core.types import Score
from midstream.models.model import RowModel
from midstream.models.rows.examples import Examples
from midstream.models.rows.ftrl import FtrlOptions, fit_ftrl, settled
from midstream.models.rows.keras_ranker import KerasRanker, settled_layer, told_twice
from midstream.models.rows.logistic_regression import LogisticRegressionOptions, fit_logistic_regression

NAMES = ("never", "always", "same", "sometimes")
ROWS = 2_000
Fit = Callable[[Examples, int], RowModel]


def rare_clicks(seed: int = 1) -> Examples:
    """Return rows of which 2 % are clicked, by chance: one feature is never known, two always, one of them the same."""
    dice = np.random.default_rng(seed)
    values = dice.normal(size=(ROWS, 4)).astype(np.float32)
    values[:, 0], values[:, 2] = np.nan, 4.0
    values[dice.random(ROWS) < 0.3, 3] = np.nan
    return Examples.of_rows(NAMES, values, (dice.random(ROWS) < 0.02).astype(np.float32))


def odds(model: RowModel, values: Score) -> NDArray[np.float64]:
    """Return the log-odds of each row."""
    p = model.score(values).astype(np.float64)
    return np.asarray(np.log(p / (1 - p)))


def _ftrl(rows: Examples, bins: int) -> RowModel:
    return fit_ftrl(rows, FtrlOptions(alpha=0.3, l1=0.0, bins=bins))


def _logistic(rows: Examples, bins: int) -> RowModel:
    pytest.importorskip("sklearn", reason='needs the extra "train": pip install "midstream[train]"')
    return fit_logistic_regression(rows, LogisticRegressionOptions(bins=bins))


def _keras(rows: Examples, _bins: int) -> RowModel:
    """Return drawn layers as the fit leaves them."""
    dice = np.random.default_rng(3)
    mean, scale = np.array([0.0, 0.0, 4.0, 0.0]), np.array([0.0, 1.0, 0.0, 1.0])
    first = dice.normal(size=(5, 8)).astype(np.float32), dice.normal(size=5).astype(np.float32)
    last = dice.normal(size=(1, 5)).astype(np.float32), np.array([-3.0], dtype=np.float32)
    drawn = KerasRanker(rows.names, mean, scale, (first, last))
    given = told_twice(rows.values, mean, scale)
    kept = KerasRanker(rows.names, mean, scale, (settled_layer(*first, given), last))
    np.testing.assert_allclose(kept.score(rows.values), drawn.score(rows.values), rtol=1e-4)
    return kept


@pytest.mark.parametrize("fit, bins", [(_ftrl, 1), (_ftrl, 8), (_logistic, 1), (_logistic, 8), (_keras, 1)])
def test_what_no_row_had_says_nothing(fit: Fit, bins: int) -> None:
    """Known where it never was, unknown where it never was, another value of what was always the same."""
    rows = rare_clicks()
    model = fit(rows, bins)
    asked = rows.values[:50]
    before = odds(model, asked)
    for column, value in ((0, 7.0), (2, np.nan)):
        other = asked.copy()
        other[:, column] = value
        np.testing.assert_allclose(odds(model, other), before, atol=1e-5)
    other = asked.copy()
    other[:, 1] = np.nan
    among = np.repeat(asked[:1], ROWS, axis=0)
    among[:, 1] = rows.values[:, 1]
    assert odds(model, among).min() - 1e-5 <= odds(model, other)[0] <= odds(model, among).max() + 1e-5


def test_what_all_rows_share_is_the_bias() -> None:
    """So a row of which nothing varies is what clicks are on the whole; a part that rows had alone keeps its weight."""
    weights = np.array([-1.0, 0.0, 5.0, -2.0, 0.0, 0.0, 0.5, -0.5, 0.0, -3.0])
    learned = np.array([0.0, 9.0, 0.0, 6.0, 0.0, 6.0, 3.0, 4.0, 0.0, 9.0])
    found = settled(weights, learned, 3, 1)
    assert found.tolist() == [0.0, 0.0, 5.0, 0.0, 0.0, 0.0, 0.5, -0.5, 0.0, -5.0]
    four = settled(np.array([1.0, -2.0, 0.0, 9.0, -1.0]), np.array([3.0, 1.0, 0.0, 4.0, 4.0]), 1, 2)
    assert four.tolist() == [1.0, -2.0, 0.25, 9.0, -1.0]


def test_a_model_that_goes_on_keeps_what_it_learned_of_a_feature_that_comes_to_be_known() -> None:
    """From then on its parts are learned as any."""
    rows = rare_clicks()
    known = rows.values.copy()
    known[:, 0] = 1.0
    label = (np.arange(ROWS) % 3 == 0).astype(np.float32)
    model = fit_ftrl(rows, FtrlOptions(alpha=0.3, l1=0.0)).learn(replace(rows, values=known, label=label))
    assert odds(model, known[:9]).mean() > odds(model, rows.values[:9]).mean() + 1
