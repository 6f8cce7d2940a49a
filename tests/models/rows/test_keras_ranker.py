"""A network of rows: NumPy says what Keras said, and a fit tells clicks apart."""

import sys
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from midstream.core.errors import ArtifactInvalid, ExtraMissing, FitStopped, Invalid
from midstream.models.model import Watch
from midstream.models.rows.examples import Examples
from midstream.models.rows.keras_ranker import KerasRanker, KerasRankerOptions, fit_keras_ranker, told_twice
from midstream.testing.model_conformance import check_row_model
from tests.models.click_rows import NAMES, some_clicks, some_values
from tests.support.libraries import library

SMALL = KerasRankerOptions(hidden=(8, 4), epochs=3, batch_rows=64, learning_rate=0.01)
SEEDS = st.integers(0, 2**32 - 2)


@pytest.fixture
def keras():
    """Keras, where it is installed."""
    return library("tensorflow").keras


def drawn(seed, hidden=(7, 3)):
    """Random layers over four inputs."""
    dice, sizes = np.random.default_rng(seed), (8, *hidden, 1)
    layers = tuple(
        (dice.standard_normal((out, into)).astype(np.float32), dice.standard_normal(out).astype(np.float32))
        for into, out in pairwise(sizes)
    )
    return KerasRanker(NAMES, dice.standard_normal(4), np.array([1.0, 0.0, 0.03, 2.0]), layers)


@settings(max_examples=15)
@given(SEEDS, st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_scores_are_those_of_the_layers(seed, hidden):
    """Written out in float64, for what is unknown or infinite too."""
    model, values = drawn(seed, tuple(hidden)), some_values(seed, 30)
    for row, score in zip(values, model.score(values), strict=True):
        given_ = []
        for value, mean, scale in zip(row.tolist(), model.mean, model.scale, strict=True):
            known = not np.isnan(value) and scale > 0
            given_.append(min(max((value - mean) * scale, -5.0), 5.0) if known else 0.0)
        given_ += [float(np.isnan(value)) for value in row]
        for number, (weights, shift) in enumerate(model.layers):
            given_ = weights.astype(np.float64) @ given_ + shift
            if number < len(hidden):
                given_ = np.maximum(given_, 0)
        assert score == pytest.approx(1 / (1 + np.exp(-given_[0])), abs=1e-5)


@settings(max_examples=15)
@given(SEEDS)
def test_drawn_layers_keep_the_promises_of_a_row_model(seed):
    """Conformance, with what is unknown."""
    check_row_model(drawn(seed), some_values(seed, 60), KerasRanker.restore)


@pytest.fixture(scope="module")
def fitted():
    """A network that was fitted, and the library's own, once for all tests: each makes the library compile."""
    keras = library("tensorflow").keras
    made, plain = [], keras.Sequential

    def recorded(layers):
        made.append(plain(layers))
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keras, "Sequential", recorded)
        model = fit_keras_ranker(some_clicks(3), SMALL)
    return model, made[0]


@pytest.mark.integration
def test_a_fit_answers_as_the_library_does(fitted):
    """NumPy says what the network says that was fitted."""
    model, network = fitted
    asked = some_values(4)
    odds = network.predict(told_twice(asked, model.mean, model.scale), verbose=0)[:, 0].astype(np.float64)
    assert np.abs(model.score(asked) - 1 / (1 + np.exp(-odds))).max() < 1e-5
    assert np.ptp(odds) > 0.5
    check_row_model(model, asked, KerasRanker.restore)


@pytest.mark.integration
def test_a_fit_is_the_same_again(fitted, keras):
    """For the same seed, whatever others draw; and another for another."""
    model, _ = fitted
    keras.utils.set_random_seed(7)
    again = fit_keras_ranker(some_clicks(3), SMALL)
    assert all(np.array_equal(array, again.arrays()[name]) for name, array in model.arrays().items())
    other = fit_keras_ranker(some_clicks(3), replace(SMALL, seed=1))
    assert not np.array_equal(other.layers[0][0], model.layers[0][0])


@pytest.mark.integration
@pytest.mark.usefixtures("keras")
def test_it_tells_clicks_apart_that_no_line_does():
    """Clicks at both ends of a feature, or where it is unknown."""
    values = some_values(1, 800)
    label = ((np.abs(values[:, 0]) > 1) | np.isnan(values[:, 0])).astype(np.float32)
    options = KerasRankerOptions(hidden=(16,), epochs=40, batch_rows=64, learning_rate=0.02, dropout=0.0)
    score = fit_keras_ranker(Examples.of_rows(NAMES, values, label), options).score(values)
    assert np.mean((score > 0.5) == (label > 0)) > 0.93


@pytest.mark.integration
def test_rows_count_by_propensity_where_that_is_asked_for(fitted):
    """What is unlikely to be shown stands for more."""
    examples = some_clicks(3)
    found = fit_keras_ranker(examples, replace(SMALL, debias="propensity", weight_max=5.0))
    by_hand = Examples(
        examples.names, examples.values, examples.start, examples.label, examples.time_ms,
        examples.by_propensity(5.0), examples.position, examples.propensity,
    )  # fmt: skip
    assert np.array_equal(found.layers[0][0], fit_keras_ranker(by_hand, SMALL).layers[0][0])
    assert not np.array_equal(found.layers[0][0], fitted[0].layers[0][0])


@pytest.mark.integration
@pytest.mark.usefixtures("keras")
def test_it_stops_when_it_is_told_to_and_needs_both_kinds_of_rows():
    """After an epoch; rows of one kind are nothing."""
    told = []
    with pytest.raises(FitStopped):
        fit_keras_ranker(some_clicks(1), SMALL, Watch(lambda _text, share: told.append(share), lambda: len(told) > 1))
    assert told == [0, 1 / 3]
    with pytest.raises(Invalid, match="Nothing was learned"):
        fit_keras_ranker(Examples.of_rows(NAMES, some_values(1), np.zeros(400, np.float32)), SMALL)


def test_without_the_library_it_is_said_what_brings_it(monkeypatch):
    """By name of the extra."""
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(ExtraMissing, match=r"midstream\[tensorflow\]"):
        fit_keras_ranker(some_clicks(1), SMALL)


@pytest.mark.parametrize("name", ["mean", "scale", "weights.0", "shift.0", "weights.2", "shift.2"])
def test_what_is_no_network_is_refused(name):
    """By the name of the array: another shape or type, no number, or none."""
    whole = dict(drawn(1).arrays())
    array = whole[name]
    wrongs = (array[1:], array.astype(np.float16), np.full_like(array, np.nan))
    for wrong in wrongs:
        with pytest.raises(ArtifactInvalid, match="network"):
            KerasRanker.restore({**whole, name: wrong})
    del whole[name]
    with pytest.raises(ArtifactInvalid, match="network"):
        KerasRanker.restore(whole)
    with pytest.raises(ArtifactInvalid, match="network"):
        KerasRanker.restore({"inputs": whole["inputs"], "mean": np.zeros(4), "scale": np.zeros(4)})
