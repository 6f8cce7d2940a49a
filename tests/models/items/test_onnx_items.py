"""Item models from elsewhere: a graph reads a history, its vector is multiplied here, and what is none is refused."""

import numpy as np
import pytest

from midstream.core.errors import ArtifactInvalid, Invalid, ScoresUnavailable
from midstream.models.artifact.artifact import Draft, read_artifact, write_artifact
from midstream.models.artifact.golden import item_content, made_histories
from midstream.models.histories import Histories
from midstream.models.items import onnx_items
from midstream.models.items.onnx_items import KIND, OnnxItems, item_model_of
from midstream.models.loading import load
from midstream.models.onnx.graph import BOOL, DOUBLE, FLOAT, INT32, INT64
from midstream.models.onnx.writing import node, onnx_file, value
from midstream.testing.model_conformance import check_item_model
from tests.models.linear import some_questions, vocabulary_of
from tests.support.small_graphs import mean_of_rows, mean_of_vectors

ITEMS, WIDTH, LAST = 24, 5, 4
VOCABULARY = vocabulary_of(ITEMS)
VECTORS = np.random.default_rng(2).standard_normal((ITEMS, WIDTH)).astype(np.float32)
FORMS = {
    "rows": mean_of_rows(VECTORS),
    "rows, one history": mean_of_rows(VECTORS, (1, "m")),
    "rows of int32, free": mean_of_rows(VECTORS, ("n", "m"), INT32),
    "vectors": mean_of_vectors(("m", WIDTH)),
    "vectors, one history": mean_of_vectors((1, "m", WIDTH)),
    "vectors of float64": mean_of_vectors(("m", WIDTH), DOUBLE),
}


def model_of(content, vectors=VECTORS, last=LAST, output=""):
    """Return the model of a graph."""
    return item_model_of(content, VOCABULARY, vectors, last, output)[0]


@pytest.mark.parametrize("form", FORMS)
def test_a_history_is_read_in_each_form(form):
    """Its last items, oldest first, to the mean of their vectors; conformance with repeats and an empty history."""
    model = model_of(FORMS[form])
    rows = [3, 3, 9, 0, 23, 7, 1]
    (found,) = model.history_vectors(Histories.of([rows]))
    expected = VECTORS[rows[-LAST:]].astype(np.float64).mean(axis=0)
    assert np.allclose(found, expected, atol=1e-6)
    assert np.allclose(model.scores(Histories.of([rows]))[0], VECTORS @ expected, atol=1e-5)
    questions = some_questions(4, ITEMS)
    check_item_model(model, questions, lambda arrays: OnnxItems.restore(VOCABULARY, arrays))


def test_the_order_of_a_history_reaches_the_graph():
    """The last item is the last one: a graph that takes it alone says so."""
    nodes = [node("Gather", ["items", "end"], ["user"], axis=0)]
    told = {"end": np.array([-1], dtype=np.int64)}
    content = onnx_file(nodes, [value("items", ("m", WIDTH))], [value("user", (1, WIDTH))], told)
    (found,) = model_of(content).history_vectors(Histories.of([[1, 2, 3]]))
    assert (found == VECTORS[3]).all()


def graph(nodes, shape=("m", WIDTH), element=FLOAT, outputs=None, constants=None):
    """Return a graph over vectors."""
    ends = outputs or [value("user", (1, WIDTH))]
    return onnx_file(nodes, [value("items", shape, element)], ends, constants or {})


MEAN = node("ReduceMean", ["items"], ["user"], axes=[0], keepdims=1)
NO_MODELS = {
    "fixed": (mean_of_vectors((7, WIDTH)), Invalid, "exactly 7 items"),
    "histories": (mean_of_rows(VECTORS, (3, "m")), Invalid, "exactly 3 histories"),
    "width": (mean_of_vectors(("m", 3)), Invalid, "vectors of 3 numbers"),
    "axes": (mean_of_vectors((1, 1, "m", WIDTH)), Invalid, "Its shape is"),
    "bool": (graph([MEAN], element=BOOL), Invalid, "It takes bool"),
    "outputs": (
        graph(
            [MEAN, node("Neg", ["user"], ["other"])],
            outputs=[value("user", (1, WIDTH)), value("other", (1, WIDTH))],
        ),
        Invalid,
        "each of user, other could be meant",
    ),
    "no floats": (
        graph(
            [node("ArgMax", ["items"], ["user"], axis=0)],
            outputs=[value("user", (1, WIDTH), INT64)],
        ),
        Invalid,
        "No output has floats",
    ),
    "loop": (graph([node("Loop", ["items"], ["user"])]), Invalid, "Loop"),
    "every item": (
        graph([node("Identity", ["items"], ["user"])], outputs=[value("user", ("m", WIDTH))]),
        ArtifactInvalid,
        "where 5 numbers are right",
    ),
    "no number": (
        graph([node("Sub", ["items", "items"], ["zero"]), node("Div", ["zero", "zero"], ["none"]),
               node("ReduceMean", ["none"], ["user"], axes=[0], keepdims=1)]),
        ScoresUnavailable,
        "no number",
    ),
    "short table": (mean_of_rows(VECTORS[:-1]), Invalid, "a table of 23 rows, and there are 24 items"),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_MODELS)
def test_what_is_no_item_model_is_refused(name):
    """By input, output or operator, or since it cannot be asked."""
    content, error, text = NO_MODELS[name]
    with pytest.raises(error, match=text):
        model_of(content)


def test_an_output_is_chosen_by_name():
    """And one that is none is refused."""
    ends = [value("user", (1, WIDTH)), value("other", (1, WIDTH))]
    content = graph([MEAN, node("Neg", ["user"], ["other"])], outputs=ends)
    one = Histories.of([[5]])
    assert (model_of(content, output="other").scores(one) == -model_of(content, output="user").scores(one)).all()
    with pytest.raises(Invalid, match=r'"otter" is no output of floats\. Nearest: "other"'):
        model_of(content, output="otter")


def test_a_graph_that_takes_too_long_is_refused(monkeypatch):
    """By processor time, of the longest history."""
    monkeypatch.setattr(onnx_items, "TRIAL_S_MAX", 0.0)
    with pytest.raises(ArtifactInvalid, match=r"takes .* s for 1 items"):
        model_of(FORMS["rows"])


def published(folder, model, runner="onnxruntime", arrays=None):
    """Write a model, with other arrays than its own; return it as it is read again."""
    draft = Draft(name="taste", kind=KIND, runner=runner, vocabulary_hash=VOCABULARY.content_hash)
    content = item_content(model, made_histories(ITEMS, 0))
    if arrays:
        content = type(content)({**content.arrays, **arrays}, content.files)
    return load(read_artifact(folder / write_artifact(folder, draft, content)))


def test_a_version_answers_as_before_and_a_damaged_one_is_refused(tmp_path):
    """Other vectors, another graph, one over other items, no graph at all, and another runner."""
    model = model_of(FORMS["rows"])
    again = published(tmp_path, model)
    questions = some_questions(1, ITEMS)
    assert np.array_equal(again.scores(questions), model.scores(questions))
    other = np.frombuffer(mean_of_rows(VECTORS[::-1].copy()), dtype=np.uint8)
    wrongs = {
        "golden": {"onnx_items.graph": other},
        "onnx_items.vectors": {"onnx_items.vectors": VECTORS[:-1]},
        "ONNX": {"onnx_items.graph": np.frombuffer(b"no graph at all", dtype=np.uint8)},
        "no row of bytes": {"onnx_items.output": np.zeros(3)},
        "no item model": {"onnx_items.last": np.array([501])},
    }
    for number, arrays in enumerate(wrongs.values()):
        with pytest.raises(ArtifactInvalid):
            published(tmp_path / str(number), model, arrays=arrays)
    with pytest.raises(ArtifactInvalid, match="runner"):
        published(tmp_path / "runner", model, runner="arrays")
