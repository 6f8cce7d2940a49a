"""SVD of ratings: predictions are Surprise's, and a user of a request lies where the same sum is smallest."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midstream.core.errors import ArtifactInvalid, ExtraMissing, FitStopped, Invalid
from midstream.models.histories import Histories, Interactions
from midstream.models.items.svd import Svd, SvdOptions, fit_ratings, ratings_of
from midstream.models.model import Watch
from midstream.testing.model_conformance import check_item_model
from tests.models.linear import SEEDS, some_interactions, some_questions, vocabulary_of
from tests.support.libraries import library

SMALL = SvdOptions(factors=6, epochs=60, learning_rate=0.02, seed=2)


def rated(seed: int) -> Interactions:
    """Users of two tastes, who give more to what they like, and some a second time."""
    dice = np.random.default_rng(seed)
    taste = dice.integers(0, 2, 24)
    rows = [dice.integers(0, 24, 12).tolist() for _ in range(50)]
    told = Histories.of([[], *rows])
    user = np.repeat(np.arange(51), np.diff(told.start))
    liked = (taste[told.row] == user % 2) * 2.0 + dice.integers(1, 4, len(told.row))
    return Interactions(vocabulary_of(24), Histories(told.row, liked.astype(np.float32), told.start))


def drawn(seed: int) -> Svd:
    """Random items."""
    dice = np.random.default_rng(seed)
    told = np.array([3.1, 1.0, 5.0, float(dice.choice([0.001, 0.1, 3.0]))])
    return Svd(vocabulary_of(24), dice.standard_normal((24, 5)), told)


@pytest.mark.integration
@pytest.mark.parametrize("seed", [0, 1])
def test_predictions_are_those_of_the_library(seed):
    """For users and items that it knows and that it does not, from the ratings in the same order."""
    surprise = library("surprise")
    data = rated(seed)
    told = data.histories
    data = Interactions(vocabulary_of(25), Histories(told.row + 1, told.weight, told.start))  # the first is nobody's
    model, users = fit_ratings(data, SMALL)
    last: dict[tuple[int, int], float] = {}
    for number in range(len(data.histories)):
        one = data.histories.part(number, number + 1)
        for item, rating in zip(one.row.tolist(), one.weight.tolist(), strict=True):
            last.pop((number, item), None)
            last[number, item] = rating
    raw = [(f"u{user}", f"i{item}", rating, None) for (user, item), rating in last.items()]
    scale = (min(last.values()), max(last.values()))
    known = surprise.Dataset(surprise.Reader(rating_scale=scale)).construct_trainset(raw)
    theirs = surprise.SVD(n_factors=6, n_epochs=60, lr_all=0.02, random_state=2).fit(known)
    clipped = 0
    for user in range(len(data.histories)):  # the first has no ratings
        for row in (-1, *range(25)):
            (found,) = model.predicted(users[user : user + 1], np.array([row], dtype=np.int32))
            assert found == pytest.approx(theirs.predict(f"u{user}", f"i{row}").est, abs=1e-12)
            clipped += found in scale
    assert clipped
    again = fit_ratings(data, SMALL)
    assert np.array_equal(model.items, again[0].items)
    assert np.array_equal(users, again[1])


@settings(max_examples=30)
@given(st.lists(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5)), max_size=9), max_size=5))
def test_the_last_rating_of_each_pair_counts(rows: list[list[tuple[int, int]]]) -> None:
    """In the order of these, one history after the other."""
    told = Histories.of([[item for item, _ in row] for row in rows])
    weight = np.array([rating for row in rows for _, rating in row], dtype=np.float32)
    user, row, rating = ratings_of(Histories(told.row, weight, told.start))
    expected = []
    for number, each in enumerate(rows):
        last: dict[int, int] = {}
        for item, given_ in each:
            last.pop(item, None)
            last[item] = given_
        expected += [(number, item, float(given_)) for item, given_ in last.items()]
    assert list(zip(user.tolist(), row.tolist(), rating.tolist(), strict=True)) == expected


@settings(max_examples=20)
@given(SEEDS, st.lists(st.tuples(st.integers(0, 23), st.integers(1, 5)), min_size=1, max_size=9))
def test_who_asks_is_where_the_error_is_smallest(seed: int, pairs: list[tuple[int, int]]) -> None:
    """The gradient of squared error and penalty is 0 there, written out."""
    model = drawn(seed)
    told = Histories.of([[item for item, _ in pairs]])
    weight = np.array([rating for _, rating in pairs], dtype=np.float32)
    (user,) = model.users_of(Histories(told.row, weight, told.start))
    last = dict(pairs)
    gradient = len(last) * model.told[3] * user
    for item, rating in last.items():
        read = np.append(model.items[item, :-1], 1.0)
        gradient -= (rating - model.told[0] - model.items[item, -1] - read @ user) * read
    assert np.abs(gradient).max() <= 1e-9


@settings(max_examples=20)
@given(SEEDS)
def test_drawn_factors_keep_the_promises_of_an_item_model(seed: int) -> None:
    """Conformance, with repeats and an empty history; scores are ratings less what the user gives."""
    model, asked = drawn(seed), some_questions(seed, 24)
    users, rows = model.users_of(asked), np.arange(24, dtype=np.int32)
    free = Svd(model.vocabulary, model.items, np.array([model.told[0], -np.inf, np.inf, model.told[3]]))
    for number, user in enumerate(users):
        if asked.start[number] < asked.start[number + 1]:
            above = free.predicted(np.tile(user, (24, 1)), rows) - model.told[0] - user[-1]
            assert np.allclose(model.scores(asked)[number], above, rtol=1e-4, atol=1e-4 * np.abs(above).max())
    check_item_model(model, some_questions(seed, 24), lambda arrays: Svd.restore(model.vocabulary, arrays))


@pytest.mark.integration
def test_a_fit_keeps_the_promises_and_foresees_ratings() -> None:
    """A newcomer who gives as one of two tastes does is given to as that taste is."""
    library("surprise")
    data = rated(3)
    model, users = fit_ratings(data, SvdOptions(factors=6, epochs=200, learning_rate=0.02))
    check_item_model(model, some_questions(3, 24), lambda arrays: Svd.restore(data.vocabulary, arrays))
    user, row, rating = ratings_of(data.histories)
    error = model.predicted(users[user], row) - rating
    assert np.sqrt((error**2).mean()) < 0.8 * rating.std()
    folded = model.predicted(model.users_of(data.histories)[user], row) - rating
    assert np.sqrt((folded**2).mean()) < 0.8 * rating.std()


def test_what_are_no_factors_is_refused() -> None:
    """Another shape, another type, no number, or none."""
    model = drawn(1)
    whole = dict(model.arrays())
    for name, wrong in (
        ("svd.items", model.items[:-1]),
        ("svd.items", model.items.astype(np.float32)),
        ("svd.items", np.full_like(model.items, np.nan)),
        ("svd.told", model.told[:3]),
        ("svd.told", np.zeros(4)),
    ):
        with pytest.raises(ArtifactInvalid, match="SVD"):
            Svd.restore(model.vocabulary, {**whole, name: wrong})
        with pytest.raises(ArtifactInvalid, match="SVD"):
            Svd.restore(model.vocabulary, {key: each for key, each in whole.items() if key != name})


def test_ratings_that_are_all_alike_are_no_ratings() -> None:
    """Nothing can be foreseen of them, with the library or without."""
    with pytest.raises(Invalid, match="all alike"):
        fit_ratings(some_interactions(1), SMALL)


def test_without_the_library_it_is_said_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """By name of the extra."""
    monkeypatch.setitem(sys.modules, "surprise", None)
    with pytest.raises(ExtraMissing, match=r"midstream\[surprise\]"):
        fit_ratings(rated(1), SMALL)


@pytest.mark.integration
def test_it_stops_when_it_is_told_to() -> None:
    """Before the library begins."""
    library("surprise")
    with pytest.raises(FitStopped):
        fit_ratings(rated(1), SMALL, Watch(stopped=lambda: True))
