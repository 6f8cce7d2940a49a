"""Sequence models: what answers is what the formulas say, in the order of the acts; what is no model is refused."""

import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midstream.core.errors import ArtifactInvalid, ScoresUnavailable
from midstream.models.artifact.artifact import Draft, read_artifact, write_artifact
from midstream.models.artifact.golden import item_content
from midstream.models.histories import Histories
from midstream.models.items.sequence import NAMES, SequenceModel
from midstream.models.kernels.top_n import FactorModel, top_n
from midstream.models.loading import load
from midstream.testing.model_conformance import check_item_model
from tests.models.sequences import HISTORIES, drawn_model, twin_of, vocabulary_of


@st.composite
def models(draw):
    """Models of all shapes; with fewer than 5 numbers an item a norm may divide by nearly nothing."""
    heads = draw(st.integers(1, 3))
    return drawn_model(
        draw(st.integers(0, 2**32 - 1)),
        items=draw(st.integers(1, 9)),
        ages=draw(st.integers(1, 6)),
        blocks=draw(st.integers(1, 3)),
        factors=heads * draw(st.integers(-(-5 // heads), 9)),
        hidden=draw(st.integers(1, 20)),
        heads=heads,
    )


@settings(max_examples=60)
@given(models(), st.data())
def test_a_user_is_what_the_formulas_say(model, data):
    """For every shape, of histories shorter and longer than what is read; scores are products with the items."""
    items = len(model.vocabulary)
    rows = data.draw(st.lists(st.integers(0, items - 1), min_size=1, max_size=10))
    expected = twin_of(model, rows)
    history = Histories.of([rows])
    (found,) = model.history_vectors(history)
    assert np.allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert np.allclose(model.scores(history)[0], model.weights.items @ found, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("heads, blocks, factors", [(1, 1, 5), (2, 2, 16), (4, 3, 64)])
def test_it_is_an_item_model(heads, blocks, factors):
    """All that item models promise."""
    model = drawn_model(3, heads=heads, blocks=blocks, factors=heads * factors)
    check_item_model(model, HISTORIES, lambda arrays: SequenceModel.restore(model.vocabulary, arrays))


@given(models(), st.data())
def test_one_history_has_the_same_bits_among_others(model, data):
    """Whoever is asked with it, and wherever it lies in memory."""
    row = st.lists(st.integers(0, len(model.vocabulary) - 1), max_size=9)
    rows = data.draw(st.lists(row, min_size=1, max_size=6))
    together = model.scores(Histories.of(rows))
    for number, each in enumerate(rows):
        assert model.scores(Histories.of([each]))[0].tolist() == together[number].tolist()


def test_order_and_the_last_items_count_and_weights_do_not():
    """The same acts in another order say something else; what is older than is read says nothing."""
    model = drawn_model(1, ages=3)
    one, other, longer = model.scores(Histories.of([[1, 2, 3], [2, 1, 3], [6, 5, 1, 2, 3]]))
    assert (one != other).any()
    assert (one == longer).all()
    weighed = Histories(np.array([1, 2, 3], np.int32), np.array([9, 1, 4], np.float32), np.array([0, 3]))
    assert (model.scores(weighed)[0] == one).all()


def test_many_are_ranked_by_its_vectors():
    """The lists of an evaluation are those of the scores."""
    model = drawn_model(5, items=200)
    assert isinstance(drawn_model(), FactorModel)
    lists = top_n(model, HISTORIES.part(2, 6), 10)
    for number in range(4):
        assert lists[number].tolist() == model.best(HISTORIES.part(2 + number, 3 + number), 10)[0].tolist()


def test_an_empty_history_proposes_nothing_and_scores_0():
    """Nothing is known of whoever did nothing."""
    model = drawn_model()
    assert not model.scores(Histories.of([[]])).any()
    assert model.best(Histories.of([[]]), 5)[0].tolist() == []


@pytest.mark.parametrize("name", [*NAMES, "heads"])
def test_an_array_that_lacks_or_is_of_another_kind_is_refused(name):
    """Each of them: gone, of another type, longer, without an axis, not a number."""
    model = drawn_model()
    arrays, name = dict(model.arrays()), f"sequence.{name}"
    array = arrays[name]
    is_whole = array.dtype.kind == "i"
    nothing = np.zeros_like(array)
    nothing.flat[-1] = 0 if is_whole else np.nan
    wrong = [array.astype(np.float64 if not is_whole else np.int32), array[0], np.concatenate([array, array]), nothing]
    # Another number of ages is another model, and none that is wrong.
    wrong = [each for number, each in enumerate(wrong) if (name, number) != ("sequence.ages", 2)]
    for each in wrong:
        with pytest.raises(ArtifactInvalid):
            SequenceModel.restore(model.vocabulary, {**arrays, name: each})
    with pytest.raises(ArtifactInvalid, match=name):
        SequenceModel.restore(model.vocabulary, {key: each for key, each in arrays.items() if key != name})


def test_shapes_that_do_not_go_together_are_refused():
    """Items of another vocabulary, heads that do not divide, nothing at all."""
    model = drawn_model()
    arrays = dict(model.arrays())
    with pytest.raises(ArtifactInvalid, match="items"):
        SequenceModel.restore(vocabulary_of(6), arrays)
    for heads in (3, -2, 16):
        with pytest.raises(ArtifactInvalid, match="heads"):
            SequenceModel.restore(model.vocabulary, {**arrays, "sequence.heads": np.array([heads])})
    no_blocks = {**arrays, **{name: arrays[name][:0] for name in arrays if arrays[name].shape[0] == 2}}
    no_blocks |= {name: arrays[name] for name in ("sequence.last_norm",)}
    with pytest.raises(ArtifactInvalid, match="empty"):
        SequenceModel.restore(model.vocabulary, no_blocks)
    with pytest.raises(ArtifactInvalid, match="empty"):
        SequenceModel.restore(model.vocabulary, {**arrays, "sequence.ages": arrays["sequence.ages"][:0]})


def published(folder, model):
    """Write a model; return the folder of its version."""
    draft = Draft(name="next", kind="sasrec", vocabulary_hash=model.vocabulary.content_hash)
    return folder / write_artifact(folder, draft, item_content(model, HISTORIES))


def test_what_was_written_answers_the_same(tmp_path):
    """Through the files, without PyTorch and without ONNX Runtime."""
    model = drawn_model(8)
    again = load(read_artifact(published(tmp_path, model)))
    assert isinstance(again, SequenceModel)
    assert (again.scores(HISTORIES) == model.scores(HISTORIES)).all()
    assert again.heads == model.heads


def test_damaged_files_are_refused(tmp_path):
    """A flipped bit or a lost end of any file of the version."""
    version = published(tmp_path, drawn_model(8))
    dice = np.random.default_rng(2)
    for path in sorted(version.iterdir()):
        whole = path.read_bytes()
        for _ in range(3):
            damaged = bytearray(whole)
            damaged[dice.integers(len(whole))] ^= 1 << int(dice.integers(8))
            for content in (bytes(damaged), whole[: int(dice.integers(len(whole)))]):
                path.write_bytes(content)
                with pytest.raises(ArtifactInvalid):
                    load(read_artifact(version))
        path.write_bytes(whole)
    load(read_artifact(version))


def test_a_version_that_answers_otherwise_than_it_did_is_refused(tmp_path):
    """Whole by its hashes, written by something else: another number of heads reads the same arrays otherwise."""
    model = drawn_model(8)
    content = item_content(model, HISTORIES)
    draft = Draft(name="next", kind="sasrec", vocabulary_hash=model.vocabulary.content_hash)
    arrays = {**content.arrays, "sequence.heads": np.array([4])}
    version = write_artifact(tmp_path, draft, type(content)(arrays))
    with pytest.raises(ArtifactInvalid, match="golden"):
        load(read_artifact(tmp_path / version))
    shutil.rmtree(tmp_path / version)


def test_what_is_no_number_is_said() -> None:
    """Weights beyond what float32 can add up give no scores, and no silence either."""
    model = drawn_model(1)
    model.weights.outer_shift[:] = np.float32(3e38)
    with pytest.raises(ScoresUnavailable):
        model.scores(Histories.of([[1, 2, 3]]))
