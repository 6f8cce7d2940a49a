"""Two towers: NumPy answers what the network said, the last click counts, and a fit finds what follows what."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from midstream.core.errors import ArtifactInvalid, FitStopped, Invalid
from midstream.models.histories import Histories, Interactions
from midstream.models.items import two_tower
from midstream.models.items.sasrec import shared_loss
from midstream.models.items.two_tower import NAMES, TwoTowerModel, TwoTowerOptions, fit_two_tower
from midstream.models.model import Watch
from midstream.testing.model_conformance import check_item_model
from tests.models.linear import SEEDS, some_questions, vocabulary_of
from tests.support.libraries import library

SMALL = TwoTowerOptions(factors=16, hidden=32, epochs=30, learning_rate=0.01, batch_acts=64, threads=1)


@pytest.fixture
def torch():
    """PyTorch, where it is installed."""
    return library("torch")


def drawn(seed, items=24, factors=6, hidden=10, last=5):
    """Random weights."""
    dice = np.random.default_rng(seed)
    shapes = [(items, factors), (items, factors), (2 * factors, hidden), (hidden,), (hidden, factors), (factors,)]
    found = {name: dice.standard_normal(shape).astype(np.float32) for name, shape in zip(NAMES, shapes, strict=False)}
    return TwoTowerModel(vocabulary_of(items), {**found, "last": np.array([last], dtype=np.float32)})


def chains(items=12, count=120, seed=1):
    """Histories in which each item is followed by the next one, with an empty one and one of one item."""
    dice = np.random.default_rng(seed)
    rows = [[(first + step) % items for step in range(dice.integers(2, 6))] for first in dice.integers(0, items, count)]
    return Interactions(vocabulary_of(items), Histories.of([[], [3], *rows]))


@settings(max_examples=25)
@given(SEEDS, st.lists(st.integers(0, 23), min_size=1, max_size=9))
def test_a_user_is_what_the_network_says(seed, row):
    """Of the last five items, written out in float64; a vector of length 1."""
    model = drawn(seed)
    weights = {name: array.astype(np.float64) for name, array in model.weights.items()}
    said = [weights["read"][each] for each in row[-5:]]
    given_ = np.concatenate([sum(said) / len(said), said[-1]])
    inner = [max(0.0, each) for each in given_ @ weights["inner"] + weights["inner_shift"]]
    user = np.array(inner) @ weights["outer"] + weights["outer_shift"]
    (found,) = model.history_vectors(Histories.of([row]))
    assert np.allclose(found, user / np.linalg.norm(user), atol=1e-5)
    assert np.allclose(model.scores(Histories.of([row]))[0], weights["items"] @ found, atol=1e-4)


@settings(max_examples=20)
@given(SEEDS)
def test_drawn_towers_keep_the_promises_of_an_item_model(seed):
    """Conformance, with repeats, weights and an empty history."""
    model = drawn(seed)
    check_item_model(model, some_questions(seed, 24), lambda arrays: TwoTowerModel.restore(model.vocabulary, arrays))


@pytest.mark.integration
def test_the_loss_is_what_it_is_called(torch):
    """Softmax over what the step wants, log q taken off, without what is wanted twice."""
    dice = np.random.default_rng(2)
    users, items = dice.standard_normal((2, 5, 3))
    wanted, often = np.array([4, 1, 4, 0, 2]), np.array([0.1, 0.2, 0.25, 0.0, 0.45])
    expected = 0.0
    for row in range(5):
        scores = {at: users[row] @ items[at] - np.log(often[wanted[at]]) for at in range(5)}
        others = [at for at in range(5) if at == row or wanted[at] != wanted[row]]
        expected -= (scores[row] - np.log(sum(np.exp(scores[at]) for at in others))) / 5
    found = shared_loss(torch, torch.from_numpy(users), torch.from_numpy(items), wanted, often)
    assert float(found) == pytest.approx(expected, rel=1e-6)


@pytest.mark.integration
def test_what_is_fitted_is_what_answers(torch, monkeypatch):
    """Where weights hardly move, the vectors of a step are those that a question of the same acts gets."""
    data = chains(count=20)
    seen: list[tuple[np.ndarray, np.ndarray, int]] = []

    def recorded(_torch, users, vectors, wanted, often):
        seen.extend(zip(users.detach().numpy(), vectors.detach().numpy(), wanted, strict=True))
        return shared_loss(torch, users, vectors, wanted, often)

    monkeypatch.setattr(two_tower, "shared_loss", recorded)
    model = fit_two_tower(data, replace(SMALL, epochs=1, learning_rate=1e-12, temperature=0.5))
    rows = [data.histories.part(number, number + 1).row.tolist() for number in range(len(data.histories))]
    asked = [(row[:cut], row[cut]) for row in rows for cut in range(1, len(row))]
    served = model.history_vectors(Histories.of([before for before, _ in asked]))
    assert len(seen) == len(asked)
    for user, vector, wanted in seen:
        own = [number for number, (_, after) in enumerate(asked) if after == wanted]
        assert np.abs(served[own] - user).max(axis=1).min() < 1e-5
        assert np.allclose(vector * 0.5, model.item_vectors()[wanted], atol=1e-5)


@pytest.mark.integration
def test_a_fit_finds_what_follows_what(torch):
    """The next item is first of those that are not in the history; conformance; the same again for the same seed."""
    data = chains()
    model = fit_two_tower(data, SMALL)
    for last in range(12):
        row = [(last - 1) % 12, last]
        rows, _ = model.best(Histories.of([row]), 4)
        assert next(each for each in rows.tolist() if each not in row) == (last + 1) % 12
    check_item_model(model, some_questions(1, 12), lambda arrays: TwoTowerModel.restore(data.vocabulary, arrays))
    assert np.allclose(np.linalg.norm(model.item_vectors(), axis=1), 1, atol=1e-5)
    torch.rand(1)  # what others draw
    again = fit_two_tower(data, SMALL)
    assert all(np.array_equal(array, again.arrays()[name]) for name, array in model.arrays().items())


@pytest.mark.integration
@pytest.mark.usefixtures("torch")
def test_it_stops_when_it_is_told_to_and_needs_something_to_guess():
    """After some steps; histories of one act teach nothing."""
    told = []
    with pytest.raises(FitStopped):
        fit_two_tower(chains(), SMALL, Watch(lambda _text, share: told.append(share), lambda: len(told) > 2))
    assert len(told) == 3
    with pytest.raises(Invalid, match="two acts"):
        fit_two_tower(Interactions(vocabulary_of(3), Histories.of([[1], [2]])), SMALL)


@pytest.mark.parametrize("name", NAMES)
def test_what_are_no_towers_is_refused(name):
    """By the name of the array: another shape or type, no number, or none."""
    model = drawn(1)
    whole = dict(model.arrays())
    array = model.weights[name]
    for wrong in (array[:-1], array.astype(np.float64), np.full_like(array, np.nan)):
        with pytest.raises(ArtifactInvalid, match="two towers"):
            TwoTowerModel.restore(model.vocabulary, {**whole, f"two_tower.{name}": wrong})
    del whole[f"two_tower.{name}"]
    with pytest.raises(ArtifactInvalid, match="two towers"):
        TwoTowerModel.restore(model.vocabulary, whole)
    nothing = {**model.arrays(), "two_tower.last": np.zeros(1, dtype=np.float32)}
    with pytest.raises(ArtifactInvalid, match="last"):
        TwoTowerModel.restore(model.vocabulary, nothing)
    one = {**model.arrays(), "two_tower.last": np.ones(1, dtype=np.float32)}
    assert TwoTowerModel.restore(model.vocabulary, one).weights["last"].tolist() == [1.0]
