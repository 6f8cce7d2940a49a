"""Rankers from elsewhere: a graph gives what its formula gives, alone as among others, and nothing runs for long."""

import sys
from itertools import pairwise
from threading import Thread

import numpy as np
import pytest

from midstream.core.errors import ArtifactInvalid, ExtraMissing, Invalid
from midstream.models.onnx.graph import DOUBLE, FLOAT, ML, read_graph
from midstream.models.onnx.session import Session
from midstream.models.onnx.writing import node, onnx_file, value
from midstream.models.rows import onnx_ranker
from midstream.models.rows.onnx_ranker import OnnxRanker, facts_of, marks_of, ranker_of
from midstream.testing.model_conformance import check_row_model
from tests.support.small_graphs import COLUMNS, by_column, classifier, linear, logistic, stump

DICE = np.random.default_rng(3)
VALUES = DICE.standard_normal((70, 3)).astype(np.float32)
FORMS = {
    "matrix": linear(),
    "float64": linear(("n", 3), DOUBLE),
    "columns": by_column(),
    "flat columns": by_column(axes=1),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_graph_gives_what_its_formula_gives(form):
    """One input or one for each column, float32 or float64; more rows than one call takes, and none."""
    ranker = ranker_of(FORMS[form], COLUMNS)
    many = np.tile(VALUES, (40, 1))
    assert np.abs(ranker.score(many) - logistic(many)).max() < 1e-6
    assert ranker.score(many[:0]).shape == (0,)


@pytest.mark.parametrize("is_zipped", [False, True])
def test_of_two_classes_the_second_counts(is_zipped):
    """Also behind a list of maps."""
    ranker = ranker_of(classifier(zip_map=is_zipped), COLUMNS)
    assert np.abs(ranker.score(VALUES) - logistic(2 * VALUES)).max() < 1e-6


def test_columns_have_the_order_that_is_said():
    """A matrix is asked in it, inputs are asked by their names."""
    turned = VALUES[:, ::-1]
    assert np.abs(ranker_of(by_column(), COLUMNS[::-1]).score(turned) - logistic(VALUES)).max() < 1e-6
    assert np.abs(ranker_of(linear(), COLUMNS[::-1]).score(turned) - logistic(turned)).max() < 1e-6


def _network(dice):
    """Return a network of two layers over 40 columns."""
    sizes = (40, 64, 32, 1)
    told = {f"w{at}": dice.standard_normal(each).astype(np.float32) / 8 for at, each in enumerate(pairwise(sizes))}
    nodes, last = [], "rows"
    for at in range(3):
        nodes.append(node("MatMul", [last, f"w{at}"], [f"h{at}"]))
        nodes.append(node("Relu" if at < 2 else "Sigmoid", [f"h{at}"], [f"a{at}"]))
        last = f"a{at}"
    nodes = [nodes[0], node("IsNaN", ["h0"], ["unknown"]), node("Where", ["unknown", "none", "h0"], ["k0"]),
             node("Relu", ["k0"], ["a0"]), *nodes[2:]]  # fmt: skip
    told["none"] = np.zeros(1, dtype=np.float32)
    return onnx_file(nodes, [value("rows", ("n", 40))], [value(last, ("n", 1))], told)


@pytest.mark.parametrize("content, width", [(stump(), 2), (_network(np.random.default_rng(1)), 40)])
def test_a_graph_is_a_row_model(content, width):
    """A row alone has the bits that it has among others; what is read again scores the same; NaN is read."""
    values = np.random.default_rng(5).standard_normal((300, width)).astype(np.float32) * 4
    values[::7, 1] = np.nan
    check_row_model(ranker_of(content, [f"c{at}" for at in range(width)]), values, OnnxRanker.restore)


def test_an_unknown_value_is_what_the_graph_makes_of_it():
    """A tree sends it to one side, a sum of it is no number, and the rows beside it are as they were."""
    told = np.array([[0.0, 9.0], [0.0, np.nan], [0.0, 1.0]], dtype=np.float32)
    assert ranker_of(stump(), ("a", "b")).score(told).tolist() == [0.75, -0.5, -0.5]
    values = VALUES[:3].copy()
    values[1, 0] = np.nan
    assert np.isnan(ranker_of(linear(), COLUMNS).score(values)).tolist() == [False, True, False]


def test_the_file_is_kept_and_described():
    """Its bytes are those that came; versions of operators and thresholds are read from it."""
    ranker = ranker_of(stump(), ("a", "b"))
    assert ranker.graph.tobytes() == stump()
    assert facts_of(ranker) == {"opsets": {"ai.onnx": 17, ML: 3}, "nodes": 1, "output": "score"}
    assert [each.tolist() for each in marks_of(ranker)] == [[0.0, 0.0], [3.5]]


def test_without_the_runtime_nothing_answers(monkeypatch):
    """It is said what brings it: no other runner takes its place."""
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ExtraMissing, match=r"midstream\[onnx\]"):
        ranker_of(linear(), COLUMNS)


def _large(size=20_000):
    """Return a graph that adds a column to a row: 300 kB that make 1.6 GB."""
    nodes = [
        node("Add", ["tall", "wide"], ["table"]),
        node("ReduceSum", ["table"], ["sum"], keepdims=0),
        node("Mul", ["rows", "sum"], ["score"]),
    ]
    told = {"tall": np.ones((size, 1), dtype=np.float32), "wide": np.ones((1, size), dtype=np.float32)}
    return onnx_file(nodes, [value("rows", ("n", 1))], [value("score", ("n", 1))], told)


def test_memory_has_a_maximum():
    """A small file that makes a large table is refused, and the next graph answers as before."""
    with pytest.raises(ArtifactInvalid, match="cannot be run"):
        ranker_of(_large(), ("a",))
    assert ranker_of(linear(), COLUMNS).score(VALUES).shape == (70,)


def _slow(calls=400, size=1_500):
    """Return a graph that multiplies a large matrix with itself again and again."""
    nodes = [node("MatMul", ["m" if not at else f"p{at - 1}", "m"], [f"p{at}"]) for at in range(calls)]
    nodes += [node("ReduceSum", [f"p{calls - 1}"], ["sum"], keepdims=0), node("Mul", ["rows", "sum"], ["score"])]
    told = {"m": np.zeros((size, size), dtype=np.float32)}
    return onnx_file(nodes, [value("rows", ("n", 1))], [value("score", ("n", 1))], told)


def test_time_has_a_maximum(monkeypatch):
    """A run is ended between two operators, and a graph that is slow is refused."""
    session = Session(_slow())
    with pytest.raises(ArtifactInvalid, match="terminate"):
        session.run(["score"], {"rows": np.zeros((16, 1), dtype=np.float32)}, 0.05)
    monkeypatch.setattr(onnx_ranker, "TRIAL_S_MAX", 1e-9)
    with pytest.raises(ArtifactInvalid, match=r"takes 0\.0 s for 16 rows"):
        ranker_of(linear(), COLUMNS)


def test_a_call_in_service_has_a_maximum_of_time(monkeypatch):
    """Whatever a trial of zeros took: a thread that never comes back would be one less for everybody."""
    monkeypatch.setattr(onnx_ranker, "TRIAL_S_MAX", 60.0)
    ranker = ranker_of(_slow(8, 1_000), ("a",))
    assert ranker.score(VALUES[:3, :1]).tolist() == [0.0, 0.0, 0.0]
    monkeypatch.setattr(onnx_ranker, "RUN_S_MAX", 0.02)
    with pytest.raises(ArtifactInvalid, match="terminate"):
        ranker.score(VALUES[:3, :1])
    monkeypatch.setattr(onnx_ranker, "RUN_S_MAX", 60.0)
    assert ranker.score(VALUES[:3, :1]).tolist() == [0.0, 0.0, 0.0]


def test_two_numbers_of_a_free_shape_are_seen_when_they_are_run():
    """The file says nothing of the width; which of both is meant has to be said."""
    told = {"weights": np.ones((3, 2), dtype=np.float32)}
    content = onnx_file(
        [node("MatMul", ["rows", "weights"], ["score"])],
        [value("rows", ("n", "k"))],
        [value("score", ("n", "m"))],
        told,
    )
    with pytest.raises(Invalid, match="nothing says that they are probabilities"):
        ranker_of(content, COLUMNS)
    ranker = ranker_of(content, COLUMNS, "score")
    assert OnnxRanker.restore(ranker.arrays()).score(VALUES).shape == (70,)


@pytest.mark.parametrize("classes", [3, 8])
def test_an_output_of_another_shape_is_refused(classes):
    """Also where only a run shows it, since the file names no length."""
    told = {"weights": np.ones((3, classes), dtype=np.float32)}
    nodes = [node("MatMul", ["rows", "weights"], ["score"])]
    content = onnx_file(nodes, [value("rows", ("n", "k"))], [value("score", ("n", "m"))], told)
    with pytest.raises(ArtifactInvalid, match="where a number a row is right"):
        ranker_of(content, COLUMNS)


@pytest.mark.parametrize(
    "name, other", [("graph", np.zeros((2, 2), np.uint8)), ("output", np.zeros(4, np.float32)), ("inputs", None)]
)
def test_arrays_that_are_none_of_a_graph_are_refused(name, other):
    """Missing, or of another type."""
    arrays = dict(ranker_of(linear(), COLUMNS).arrays())
    if other is None:
        del arrays[name]
    else:
        arrays[name] = other
    with pytest.raises(ArtifactInvalid, match=f"{name} of the graph"):
        OnnxRanker.restore(arrays)


def test_a_graph_of_other_columns_is_refused_when_it_is_read_again():
    """Whatever its hashes are."""
    arrays = {**ranker_of(linear(("n", 3)), COLUMNS).arrays(), "inputs": np.frombuffer(b"price\nviews", np.uint8)}
    with pytest.raises(Invalid, match="3 columns, and 2 came: price, views"):
        OnnxRanker.restore(arrays)


def test_several_threads_ask_one_session():
    """Each gets its own answer."""
    ranker = ranker_of(_network(np.random.default_rng(1)), [f"c{at}" for at in range(40)])
    values = np.random.default_rng(2).standard_normal((4, 500, 40)).astype(np.float32)
    expected = [ranker.score(each) for each in values]
    found: list[list[np.ndarray]] = [[] for _ in values]

    def ask(number):
        found[number] = [ranker.score(values[number]) for _ in range(50)]

    threads = [Thread(target=ask, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert all((one == right).all() for told, right in zip(found, expected, strict=True) for one in told)


def test_an_element_is_float32_unless_the_file_says_float64():
    """As features are."""
    assert [read_graph(memoryview(FORMS[each])).inputs[0].element for each in ("matrix", "float64")] == [FLOAT, DOUBLE]
