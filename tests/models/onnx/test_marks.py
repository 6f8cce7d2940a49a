"""Marks of columns are the numbers that a graph was fitted around, as numbers of its inputs."""

from typing import Any

import numpy as np
import pytest

from midstream.models.onnx.graph import ML, read_graph
from midstream.models.onnx.marks import column_marks
from midstream.models.onnx.wire import bytes_field, number_field, written
from midstream.models.onnx.writing import node, onnx_file, value
from tests.support.small_graphs import stump

MEAN, SCALE = np.array([1e3, -5.0], dtype=np.float32), np.array([10.0, 0.5], dtype=np.float32)
AROUND = [[990.0, 1000.0, 1010.0], [-5.5, -5.0, -4.5]]
WEIGHTS = {"weights": np.array([[3.0], [-1.0]], dtype=np.float32)}
LAST = node("MatMul", ["z", "weights"], ["score"])
SCALER = {"offset": [float(each) for each in MEAN], "scale": [float(1 / each) for each in SCALE]}


def marks(nodes, told=None, inputs=("rows",)):
    """Return the marks of two columns, each in order and once."""
    ends = [value(each, ("n", 2 if len(inputs) == 1 else 1)) for each in inputs]
    content = onnx_file(nodes, ends, [value("score", ("n", 1))], {**WEIGHTS, **(told or {})})
    found = column_marks(read_graph(memoryview(content)), inputs, 2)
    return [np.unique(each.round(4)).tolist() for each in found]


FORMS = {
    "scaler": ([node("Scaler", ["rows"], ["z"], ML, **SCALER), LAST], {}),
    "taken off": (
        [node("Sub", ["rows", "mean"], ["off"]), node("Div", ["off", "scale"], ["z"]), LAST],
        {"mean": MEAN, "scale": SCALE[None]},
    ),
    "float64, filled and cut": (
        [node("Cast", ["rows"], ["exact"], to=11), node("IsNaN", ["exact"], ["none"]),
         node("Where", ["none", "mean", "exact"], ["known"]), node("Clip", ["known"], ["cut"]),
         node("Sub", ["cut", "mean"], ["off"]), node("Mul", ["off", "scale"], ["z"]), LAST],
        {"mean": MEAN.astype(float), "scale": 1 / SCALE.astype(float)},
    ),
    "turned": (
        [node("Constant", [], ["mean"], value=MEAN), node("Sub", ["mean", "rows"], ["off"]),
         node("Div", ["off", "scale"], ["z"]), LAST],
        {"scale": SCALE},
    ),
    "added": (
        [node("Add", ["less", "rows"], ["off"]), node("Div", ["off", "scale"], ["z"]), LAST],
        {"less": -MEAN, "scale": SCALE},
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_mean_and_deviations_are_read(form):
    """Whatever the operators are that standardise."""
    assert marks(*FORMS[form]) == AROUND


def test_columns_of_their_own_inputs_are_read():
    """Joined before they are standardised, or behind it."""
    joined = [node("Concat", ["a", "b"], ["rows"], axis=1), *FORMS["scaler"][0]]
    assert marks(joined, inputs=("a", "b")) == AROUND
    alone = [
        node("Sub", ["a", "mean"], ["x"]), node("Div", ["x", "scale"], ["y"]),
        node("Concat", ["y", "b"], ["z"], axis=1), LAST,
    ]  # fmt: skip
    assert marks(alone, {"mean": MEAN[:1], "scale": SCALE[:1]}, ("a", "b")) == [AROUND[0], []]


@pytest.mark.parametrize("is_raw", [True, False])
def test_columns_that_are_picked_are_read(is_raw):
    """As the transformer of some columns of scikit-learn is written, places as one run of bytes or one by one."""
    places = np.array([1, 0], dtype=np.int64)
    pick = node("ArrayFeatureExtractor", ["rows", "places"], ["turned"], ML)
    back = node("ArrayFeatureExtractor", ["z", "places"], ["both"], ML)
    scaler = {name: numbers[::-1] for name, numbers in SCALER.items()}
    nodes = [
        pick,
        node("Scaler", ["turned"], ["z"], ML, **scaler),
        back,
        node("MatMul", ["both", "weights"], ["score"]),
    ]
    if is_raw:
        assert marks(nodes, {"places": places}) == AROUND
        assert marks(nodes, {"places": places + 1}) == [[], []]
        return
    tensor = written([number_field(1, 2), number_field(2, 7), number_field(7, 1), number_field(7, 0)])
    attribute = written([bytes_field(1, "value"), bytes_field(5, tensor), number_field(20, 4)])
    constant = node("Constant", [], ["places"]) + written([bytes_field(5, attribute)])
    assert marks([constant, *nodes]) == AROUND


def test_thresholds_behind_a_scaler_are_those_of_the_column():
    """And without one, or behind what is unknown here, as they stand."""
    trees: dict[str, Any] = {
        "n_targets": 1, "nodes_treeids": [0, 0, 0], "nodes_nodeids": [0, 1, 2], "nodes_featureids": [0, 1, 1],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"], "nodes_values": [2.0, 0.0, 0.0],
        "nodes_truenodeids": [1, 0, 0], "nodes_falsenodeids": [2, 0, 0], "target_treeids": [0, 0],
        "target_nodeids": [1, 2], "target_ids": [0, 0], "target_weights": [-0.5, 0.75],
    }  # fmt: skip
    behind = [FORMS["scaler"][0][0], node("TreeEnsembleRegressor", ["z"], ["score"], ML, **trees)]
    assert marks(behind) == [[1020.0], [-5.0]]
    unknown = [node("Relu", ["rows"], ["z"]), behind[1]]
    assert marks(unknown) == [[2.0], [0.0]]
    graph = read_graph(memoryview(stump(float("inf"))))
    assert [each.tolist() for each in column_marks(graph, ("rows",), 2)] == [[0.0, 0.0], [np.inf]]


def test_a_graph_that_says_nothing_has_no_marks():
    """Nor has one of other lengths, of a constant over a column, or of a column that counts nothing."""
    assert marks([node("Relu", ["rows"], ["z"]), LAST]) == [[], []]
    for nodes, told in (
        ([node("Div", ["scale", "rows"], ["z"]), LAST], {"scale": SCALE}),
        ([node("Mul", ["rows", "zero"], ["z"]), LAST], {"zero": np.zeros(1, dtype=np.float32)}),
        ([node("Add", ["rows", "rows"], ["z"]), LAST], {}),
        ([node("Scaler", ["rows"], ["z"], ML, offset=[1.0, 2.0, 3.0], scale=[1.0, 1.0, 1.0]), LAST], {}),
    ):
        assert marks(nodes, told) == [[], []]
