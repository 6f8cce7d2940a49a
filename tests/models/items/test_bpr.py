"""BPR: factors are implicit's, and whoever asks is put where the loss of the fit is smaller."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midstream.core.errors import ArtifactInvalid, ExtraMissing, FitStopped
from midstream.models.histories import Histories
from midstream.models.items.bpr import Bpr, BprOptions, fit_bpr
from midstream.models.model import Watch
from midstream.testing.model_conformance import check_item_model
from tests.models.linear import SEEDS, some_interactions, some_questions, vocabulary_of

HOW = 'needs the extra "train": pip install "midstream[train]"'
SMALL = BprOptions(factors=8, iterations=20, regularization=0.02, seed=3)


def drawn(seed: int, items: int = 24, factors: int = 4) -> tuple[Bpr, np.ndarray]:
    """Random factors, and how often each item is drawn."""
    dice = np.random.default_rng(seed)
    factor = dice.standard_normal((items, factors + 1)).astype(np.float32)
    share = dice.dirichlet(np.ones(items))
    mean = share @ factor.astype(np.float64)
    apart = factor - mean
    spread = (apart * share[:, None]).T @ apart
    return Bpr(vocabulary_of(items), factor, mean, spread, float(dice.choice([0.01, 0.3, 4.0]))), share


def terms(model: Bpr, share: np.ndarray, row: list[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Each pair of an item of a history and another: its share, the difference of factors, and that of biases."""
    factor = model.item_factors.astype(np.float64)
    apart = np.concatenate([factor[each] - factor for each in sorted(set(row))])
    return np.tile(share, len(set(row))), apart[:, :-1], apart[:, -1]


@settings(max_examples=30)
@given(SEEDS, st.lists(st.integers(0, 23), min_size=1, max_size=9))
def test_who_asks_is_where_the_bound_is_highest_and_the_loss_no_worse(seed: int, row: list[int]) -> None:
    """Over every pair, written out: the gradient of the bound is 0 there, and the sum is not below the bound at 0."""
    model, share = drawn(seed)
    (user,) = model.history_vectors(Histories.of([row])).astype(np.float64)
    assert user[-1] == 1.0
    x, (weight, apart, bias) = user[:-1], terms(model, share, row)
    count = len(set(row))

    def worth(at: np.ndarray) -> float:
        return float(
            -(weight * np.logaddexp(0, -(apart @ at + bias))).sum() - count * model.regularization / 2 * at @ at
        )

    gradient = ((weight * (0.5 - (apart @ x + bias) / 4)) @ apart) - count * model.regularization * x
    size = (weight[:, None] * np.abs(apart)).sum()
    assert np.abs(gradient).max() <= 1e-5 * size * (1 + np.abs(x).max())
    at_zero = float((weight * (np.log(0.5) + bias / 2 - bias**2 / 8)).sum())
    assert worth(x) >= at_zero - 1e-6 * max(1.0, abs(at_zero))


@settings(max_examples=20)
@given(SEEDS)
def test_drawn_factors_keep_the_promises_of_an_item_model(seed: int) -> None:
    """Conformance, with repeats, weights and an empty history."""
    model, _ = drawn(seed)
    check_item_model(model, some_questions(seed, 24), lambda arrays: Bpr.restore(model.vocabulary, arrays))


def test_factors_are_those_of_the_library() -> None:
    """To the bit, and the same again; the mean is that of items as often as they were acted on."""
    library = pytest.importorskip("implicit.cpu.bpr", reason=HOW)
    data = some_interactions(5)
    model = fit_bpr(data, SMALL)
    theirs = library.BayesianPersonalizedRanking(
        factors=8, learning_rate=0.05, regularization=0.02, iterations=20, num_threads=1, random_state=3
    )
    theirs.fit(data.histories.matrix(24), show_progress=False)
    assert np.array_equal(model.item_factors, theirs.item_factors)
    acted = model.item_factors[data.histories.row].astype(np.float64)
    assert np.allclose(model.mean, acted.mean(axis=0))
    assert np.allclose(model.spread, np.cov(acted.T, bias=True))
    again = fit_bpr(data, SMALL)
    assert all(np.array_equal(array, again.arrays()[name]) for name, array in model.arrays().items())


def test_a_fit_keeps_the_promises_and_tells_tastes_apart() -> None:
    """Who acted on items of one half is proposed others of that half, though nobody of the fit is in the model."""
    pytest.importorskip("implicit.cpu.bpr", reason=HOW)
    data = some_interactions(5)
    model = fit_bpr(data, BprOptions(factors=8, iterations=200, seed=1))
    check_item_model(model, some_questions(5, 24), lambda arrays: Bpr.restore(data.vocabulary, arrays))
    for row in ([0, 1, 2], [12, 13, 14]):
        rows, _ = model.best(Histories.of([row]), 24)
        new = [each for each in rows.tolist() if each not in row]
        assert sum(each // 12 == row[0] // 12 for each in new[:5]) >= 4


def test_what_are_no_factors_is_refused() -> None:
    """By the name of the array."""
    model, _ = drawn(1)
    whole = dict(model.arrays())
    for name, wrong in (
        ("item_factors", whole["item_factors"][:-1]),
        ("item_factors", np.full_like(whole["item_factors"], np.nan)),
        ("mean", whole["mean"].astype(np.float32)),
        ("spread", whole["spread"][:, :-1]),
        ("regularization", np.array([0.0])),
    ):
        with pytest.raises(ArtifactInvalid, match="BPR"):
            Bpr.restore(model.vocabulary, {**whole, name: wrong})
        with pytest.raises(ArtifactInvalid, match="BPR"):
            Bpr.restore(model.vocabulary, {key: each for key, each in whole.items() if key != name})


def test_it_stops_when_it_is_told_to_and_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first round; by name of the extra."""
    pytest.importorskip("implicit.cpu.bpr", reason=HOW)
    told: list[float] = []
    with pytest.raises(FitStopped):
        fit_bpr(some_interactions(1), SMALL, Watch(lambda _text, share: told.append(share), lambda: len(told) > 2))
    assert told == [1 / 20, 2 / 20, 3 / 20]
    monkeypatch.setitem(sys.modules, "implicit.cpu.bpr", None)
    with pytest.raises(ExtraMissing, match=r"midstream\[train\]"):
        fit_bpr(some_interactions(1), SMALL)
