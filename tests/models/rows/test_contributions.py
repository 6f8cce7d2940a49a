"""What inputs add to a score adds up to it, for every model whose score is a sum."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.types import Score
from midstream.models.model import RowModel
from midstream.models.rows.contributions import Contributions, contributions
from midstream.models.rows.examples import Examples
from midstream.models.rows.ftrl import FtrlOptions, fit_ftrl
from midstream.models.rows.logistic_regression import LogisticRegression
from midstream.models.rows.trees import joined

NAMES = ("price", "views", "same")


def rows_of(seed: int, count: int) -> Score:
    """Return rows of three inputs, some values unknown, far out or infinite, the last input always the same."""
    dice = np.random.default_rng(seed)
    values = dice.normal(size=(count, 3)).astype(np.float32)
    values[:, 2] = 1.0
    wild = dice.random(values.shape) < 0.2
    values[wild] = dice.choice(np.array([np.nan, np.inf, -np.inf, 1e9, 0.0], np.float32), int(wild.sum()))
    return values


def scored(found: Contributions) -> Score:
    """Return the scores that base and parts say."""
    total: Score = found.base + found.values.sum(axis=1)
    if found.link == "sum":
        return total
    probability: Score = 1.0 / (1.0 + np.exp(-found.scale * total))
    return probability


def adds_up(model: RowModel, values: Score) -> None:
    """Require that parts and base are the score."""
    found = contributions(model, values)
    assert found is not None
    assert found.names == model.inputs
    assert found.values.shape == values.shape
    np.testing.assert_allclose(scored(found), model.score(values), rtol=1e-5, atol=1e-6)


@given(st.integers(0, 10_000), st.sampled_from([1, 4, 16]), st.booleans())
def test_linear_models_are_the_sum_of_their_terms(seed, bins, is_standardised):
    """Bins, values and what is unknown of each input add up with the bias, of both kinds of linear models."""
    known = np.nan_to_num(rows_of(seed, 60), nan=0.5, posinf=3.0, neginf=-3.0)
    label = (known[:, 0] > 0).astype(np.float32)
    options = FtrlOptions(bins=bins, is_standardised=is_standardised, l1=0.0)
    model = fit_ftrl(Examples.of_rows(NAMES, known, label), options)
    adds_up(model, rows_of(seed + 1, 20))
    weights = np.random.default_rng(seed).normal(size=3 * (bins + 2) + 1)
    adds_up(LogisticRegression(NAMES, model.edges, model.mean, model.scale, weights), rows_of(seed + 2, 20))


def test_trees_say_their_sum_or_its_probability():
    """An ensemble of probabilities is taken apart before the probability is made of the sum."""
    part: dict[str, list[float]] = {
        "feature": [0], "threshold": [0.5], "way": [1], "first": [0], "middle": [1], "end": [2],
        "leaf_value": [-1.0, 2.0], "leaf_count": [3, 1],
    }  # fmt: skip
    for sigmoid in (0.0, 0.7):
        adds_up(joined(NAMES, [part, part], sigmoid), rows_of(3, 20))


def test_of_other_models_nothing_is_said():
    """A model whose score is no sum has no parts."""

    class Opaque:
        inputs = NAMES

        def score(self, values: Score) -> Score:
            return values[:, 0] * values[:, 1]

        def arrays(self):
            return {}

    assert contributions(Opaque(), rows_of(0, 2)) is None
