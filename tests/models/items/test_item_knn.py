"""Item-kNN: weights are cosines, and those that implicit makes of the same acts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from midstream.core.errors import FitStopped
from midstream.models.histories import Histories, Interactions
from midstream.models.items.item_knn import ItemKnnOptions, fit_item_knn
from midstream.models.items.item_to_item import ItemToItem
from midstream.models.model import Watch
from midstream.testing.model_conformance import check_item_model
from tests.models.linear import SEEDS, dense, some_interactions, some_questions, weights_of


def weighted(seed: int) -> Interactions:
    """Acts of users with weights."""
    data, dice = some_interactions(seed), np.random.default_rng(seed)
    told = data.histories
    weight = dice.uniform(0.2, 3.0, len(told.row)).astype(np.float32)
    return Interactions(data.vocabulary, Histories(told.row, weight, told.start))


@settings(max_examples=10)
@given(SEEDS, st.sampled_from([0.0, 0.5, 10.0]))
def test_weights_are_shrunk_cosines(seed: int, shrinkage: float) -> None:
    """With all of them kept, one pair at a time."""
    data = weighted(seed)
    columns = dense(data.histories, 24).T
    found = weights_of(fit_item_knn(data, ItemKnnOptions(neighbours_max=24, shrinkage=shrinkage)))
    for one in range(24):
        for other in range(24):
            below = np.linalg.norm(columns[one]) * np.linalg.norm(columns[other]) + shrinkage
            wanted = columns[one] @ columns[other] / below if below and one != other else 0.0
            assert found[one, other] == pytest.approx(wanted, rel=1e-5, abs=1e-8)


@pytest.mark.filterwarnings("ignore:Method expects CSR input")  # what it makes itself, of ours
@pytest.mark.parametrize("weighting, name", [("none", "CosineRecommender"), ("tfidf", "TFIDFRecommender")])
def test_weights_are_those_of_implicit(weighting, name):
    """Beside the library, which keeps the item itself as one of its neighbours."""
    neighbours = pytest.importorskip(
        "implicit.nearest_neighbours", reason='needs the extra "train": pip install "midstream[train]"'
    )
    data = weighted(3)
    library = getattr(neighbours, name)(K=5, num_threads=1)
    acts = csr_matrix(dense(data.histories, 24))
    library.fit(acts, show_progress=False)
    wanted = library.similarity.toarray()
    np.fill_diagonal(wanted, 0.0)
    found = weights_of(fit_item_knn(data, ItemKnnOptions(neighbours_max=4, weighting=weighting)))
    assert (np.count_nonzero(wanted, axis=1) == 4).any()
    assert np.allclose(found, wanted, rtol=1e-5, atol=1e-7)


@settings(max_examples=10)
@given(SEEDS, st.integers(1, 30), st.sampled_from(["none", "tfidf"]))
def test_it_keeps_the_promises_of_an_item_model(seed: int, kept: int, weighting: str) -> None:
    """Conformance, with weights and an empty history; the same data give the same weights."""
    data = weighted(seed)
    options = ItemKnnOptions(neighbours_max=kept, weighting=weighting)  # type: ignore[arg-type]
    model = fit_item_knn(data, options)
    check_item_model(model, some_questions(seed, 24), lambda arrays: ItemToItem.read(data.vocabulary, arrays))
    assert np.diff(model.start).max() <= kept
    again = fit_item_knn(data, options)
    assert all(np.array_equal(array, again.arrays()[name]) for name, array in model.arrays().items())


def test_one_who_acted_on_everything_says_nothing_and_never_the_opposite() -> None:
    """With ``tfidf``: such a user adds 0, and an item that only they acted on is like no other."""
    data = some_interactions(2)
    everything = Interactions(data.vocabulary, Histories.of([list(range(24)), [0, 1]]))
    model = fit_item_knn(everything, ItemKnnOptions(weighting="tfidf"))
    assert np.isfinite(model.weight).all()
    assert sorted(zip(*np.nonzero(weights_of(model)), strict=True)) == [(0, 1), (1, 0)]


def test_it_stops_when_it_is_told_to() -> None:
    """Before the first block."""
    with pytest.raises(FitStopped):
        fit_item_knn(some_interactions(1), ItemKnnOptions(), Watch(stopped=lambda: True))
