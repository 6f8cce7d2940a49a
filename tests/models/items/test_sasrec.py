"""Training of sequence models: each act is guessed once, losses are what they are called, a fit is the same again."""

import sys
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import ExtraMissing, FitStopped, Invalid
from midstream.models.histories import Histories, Interactions
from midstream.models.items.sasrec import (
    SasrecOptions,
    Windows,
    at_first,
    drawn_loss,
    encoded,
    fit_sasrec,
    library,
    whole_loss,
)
from midstream.models.items.sequence import NAMES, shapes
from midstream.models.kinds import item_kind
from midstream.models.model import Watch
from midstream.testing.model_conformance import check_item_model
from tests.models.sequences import drawn_model, vocabulary_of
from tests.support import libraries

SMALL = SasrecOptions(factors=16, epochs=40, dropout=0.1, learning_rate=0.01, batch_acts=64, threads=1)
rows_of_histories = st.lists(st.lists(st.integers(0, 6), max_size=12), min_size=1, max_size=8)


@pytest.fixture
def torch():
    """PyTorch, where it is installed."""
    return libraries.library("torch")


def chains(items=12, count=80, seed=1):
    """Histories in which each item is followed by the next one, with an empty one and one of one item."""
    dice = np.random.default_rng(seed)
    rows = [[(first + step) % items for step in range(dice.integers(2, 6))] for first in dice.integers(0, items, count)]
    return Interactions(vocabulary_of(items), Histories.of([[], [3], *rows]))


@given(rows_of_histories, st.integers(1, 5), st.integers(1, 9), st.integers(0, 99))
def test_every_act_but_the_first_is_guessed_once(rows, items_max, batch_acts, seed):
    """From the acts before it in its history, at most so many, with their ages; what is filled in is not guessed."""
    windows = Windows.of(Histories.of(rows), items_max)
    found = []
    for batch in windows.batches(batch_acts, np.random.default_rng(seed)):
        assert batch.item.shape == batch.age.shape == batch.is_there.shape
        assert batch.is_there.any(axis=1).all()
        assert batch.is_there.sum() <= batch_acts + items_max
        ends = np.cumsum(batch.is_there.sum(axis=1))
        for item, age, there, wanted in zip(
            batch.item, batch.age, batch.is_there, np.split(batch.wanted, ends[:-1]), strict=True
        ):
            count = int(there.sum())
            assert there[:count].all()
            assert count <= items_max
            assert age[:count].tolist() == list(range(count))[::-1]
            assert item[1:count].tolist() == wanted[:-1].tolist()
            found += list(zip(item[:count].tolist(), wanted.tolist(), strict=True))
    expected = [pair for row in rows for pair in pairwise(row)]
    assert sorted(found) == sorted(expected)


def test_without_the_library_it_is_said_what_brings_it(monkeypatch):
    """By name of the extra."""
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ExtraMissing, match=r"midstream\[torch\]"):
        library()
    with pytest.raises(ExtraMissing, match=r"midstream\[torch\]"):
        item_kind("sasrec").fit(chains(), SMALL, Watch())


def test_options_have_bounds():
    """What cannot be fitted is refused where it is read."""
    for wrong in ({"factors": 0}, {"dropout": 1}, {"epochs": 0}, {"heads": 3}, {"items_max": 0}, {"learning_rate": 0}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(wrong, SasrecOptions)
    with pytest.raises(Invalid, match="3 heads do not divide 64"):
        item_kind("sasrec").decoded({"heads": 3})


@pytest.mark.integration
def test_what_is_trained_is_what_answers(torch):
    """PyTorch and NumPy agree to 1e-5 on every window of a batch, filled up or not."""
    model = drawn_model(4, items=30, ages=20, factors=32, hidden=32)
    weights = {name: torch.from_numpy(getattr(model.weights, name)) for name in NAMES}
    dice = np.random.default_rng(0)
    rows = [dice.integers(0, 30, count).tolist() for count in (2, 3, 5, 9, 21, 21)]
    (batch,) = Windows.of(Histories.of(rows), 20).batches(1_000, np.random.default_rng(1))
    found = encoded(torch, weights, batch, model.heads, 0.0).numpy()
    for number, there in enumerate(batch.is_there):
        count = int(there.sum())
        (expected,) = model.history_vectors(Histories.of([batch.item[number, :count].tolist()]))
        assert np.abs(found[number, count - 1] - expected).max() < 1e-5


@pytest.mark.integration
def test_no_place_sees_what_comes_after_it(torch):
    """Other items behind a place change nothing there."""
    weights = at_first(torch, shapes(9, 6, 2, 8, 8))
    one, other = (
        next(Windows.of(Histories.of([row]), 6).batches(99, np.random.default_rng(0)))
        for row in ([1, 2, 3, 4, 5, 0], [1, 2, 3, 7, 8, 0])
    )
    first, second = (encoded(torch, weights, each, 2, 0.0).detach().numpy()[0] for each in (one, other))
    assert (first[:3] == second[:3]).all()
    assert (first[3:] != second[3:]).any(axis=1).all()


@pytest.mark.integration
def test_drawing_every_item_once_is_the_whole_softmax(torch):
    """With each as likely: the correction counts each once, and what is right is not counted twice."""
    dice = np.random.default_rng(3)
    users, items = (torch.from_numpy(dice.standard_normal((n, 8)).astype(np.float32)) for n in (5, 11))
    wanted = dice.integers(0, 11, 5)
    drawn = (np.arange(11), np.full(11, 1 / 11))
    whole = float(whole_loss(torch, users, items, wanted))
    assert abs(float(drawn_loss(torch, users, items, wanted, drawn)) - whole) < 1e-5


@pytest.mark.integration
def test_the_sum_over_drawn_items_is_unbiased(torch):
    """Drawn by any probabilities, the estimated sum is right on average."""
    dice = np.random.default_rng(4)
    user, items = (torch.from_numpy(dice.standard_normal((n, 4)).astype(np.float32)) for n in (1, 9))
    wanted, probability = np.array([2]), dice.dirichlet(np.full(9, 3.0))
    sums = [
        np.exp(float(drawn_loss(torch, user, items, wanted, (dice.choice(9, 40, p=probability), probability))))
        for _ in range(2_000)
    ]
    error = np.std(sums) / len(sums) ** 0.5
    assert abs(np.mean(sums) - np.exp(float(whole_loss(torch, user, items, wanted)))) < 4 * error


@pytest.mark.integration
@pytest.mark.usefixtures("torch")
@pytest.mark.parametrize("exact_items_max", [1, 100])
def test_it_learns_what_follows_what(exact_items_max):
    """By either loss; the model is one as others are."""
    data = chains()
    options = msgspec.structs.replace(SMALL, exact_items_max=exact_items_max, negatives=32)
    model = fit_sasrec(data, options)
    rows = [int(model.best(Histories.of([[item - 1, item]]), 1)[0][0]) for item in range(1, 11)]
    assert rows == list(range(2, 12))
    check_item_model(model, data.histories.part(0, 9), lambda arrays: type(model).restore(data.vocabulary, arrays))


@pytest.mark.integration
def test_the_same_seed_gives_the_same_bits(torch):
    """Another gives others; what the program draws elsewhere, and its threads, stay as they are."""
    data = chains()
    options = msgspec.structs.replace(SMALL, epochs=2)
    torch.manual_seed(11)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    first = fit_sasrec(data, msgspec.structs.replace(options, seed=1)).arrays()
    assert (torch.get_rng_state() == before).all()
    assert torch.get_num_threads() == threads
    torch.manual_seed(12)
    again, other = (fit_sasrec(data, msgspec.structs.replace(options, seed=seed)).arrays() for seed in (1, 2))
    for name, array in first.items():
        assert np.array_equal(array, again[name])
    assert (first["sequence.items"] != other["sequence.items"]).any()


@pytest.mark.integration
@pytest.mark.usefixtures("torch")
def test_a_fit_tells_how_far_it_is_and_stops():
    """At each step."""
    told = []
    fit_sasrec(
        chains(), msgspec.structs.replace(SMALL, epochs=2), Watch(lambda text, share: told.append((text, share)))
    )
    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert {text for text, _ in told} == {"epoch 1 of 2", "epoch 2 of 2", "sequences"}
    with pytest.raises(FitStopped, match="epoch 1 of 40"):
        fit_sasrec(chains(), SMALL, Watch(stopped=lambda: True))


@pytest.mark.integration
@pytest.mark.usefixtures("torch")
def test_histories_in_which_nothing_follows_are_refused():
    """There is nothing to learn."""
    with pytest.raises(Invalid, match="two acts"):
        fit_sasrec(Interactions(vocabulary_of(3), Histories.of([[1], [], [2]])), SMALL)
