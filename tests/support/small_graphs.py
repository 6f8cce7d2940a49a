"""Small ONNX files, put together by our own writer: rankers of each form, and files that no ranker is."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from midstream.models.onnx.graph import FLOAT, INT64, ML
from midstream.models.onnx.wire import bytes_field, number_field, written
from midstream.models.onnx.writing import node, onnx_file, value

WEIGHTS = np.array([[0.5], [-0.25], [2.0]], dtype=np.float32)
"""Of the linear graphs, for three columns."""
COLUMNS = ("price", "views", "age")


def linear(
    shape: Sequence[int | str] = ("n", "k"), element: int = FLOAT, weights: NDArray[np.float32] = WEIGHTS
) -> bytes:
    """Return a graph from one matrix to the logistic of a weighted sum, [rows, 1]."""
    kind = np.float32 if element == FLOAT else np.float64
    nodes = [node("MatMul", ["rows", "weights"], ["odds"]), node("Sigmoid", ["odds"], ["score"])]
    told = {"weights": weights.astype(kind)}
    return onnx_file(nodes, [value("rows", shape, element)], [value("score", ("n", 1), element)], told)


def by_column(columns: Sequence[str] = COLUMNS, axes: int = 2) -> bytes:
    """Return the same sum of one input for each column, [rows] or [rows, 1] each."""
    told = {f"weight.{name}": WEIGHTS[at] for at, name in enumerate(columns)}
    nodes = [node("Mul", [name, f"weight.{name}"], [f"part.{name}"]) for name in columns]
    nodes += [node("Sum", [f"part.{name}" for name in columns], ["odds"]), node("Sigmoid", ["odds"], ["score"])]
    shape = ("n", 1)[:axes]
    return onnx_file(nodes, [value(name, shape) for name in columns], [value("score", shape)], told)


def classifier(*, zip_map: bool = False, classes: int = 2) -> bytes:
    """Return a linear classifier as skl2onnx writes one: a label, and probabilities or a list of maps."""
    labels = list(range(classes))
    weights = np.concatenate([-WEIGHTS, WEIGHTS] + [WEIGHTS] * (classes - 2), axis=1).T.reshape(-1)
    nodes = [
        node(
            "LinearClassifier",
            ["rows"],
            ["label", "probabilities"],
            ML,
            coefficients=[float(each) for each in weights],
            intercepts=[0.0] * classes,
            classlabels_ints=labels,
            multi_class=1 if classes > 2 else 0,
            post_transform="SOFTMAX",
        )
    ]
    outputs = [value("label", ("n",), INT64)]
    if zip_map:
        nodes.append(node("ZipMap", ["probabilities"], ["maps"], ML, classlabels_int64s=labels))
        # A sequence of maps from int64 to float32.
        number = written([bytes_field(1, written([number_field(1, FLOAT)]))])
        pairs = written([bytes_field(5, written([number_field(1, INT64), bytes_field(2, number)]))])
        outputs.append(
            written(
                [bytes_field(1, "maps"), bytes_field(2, written([bytes_field(4, written([bytes_field(1, pairs)]))]))]
            )
        )
    else:
        outputs.append(value("probabilities", ("n", classes)))
    return onnx_file(nodes, [value("rows", ("n", 3))], outputs, {})


def stump(threshold: float = 3.5, column: int = 1) -> bytes:
    """Return one tree of one question to a column, the last one."""
    nodes = [
        node(
            "TreeEnsembleRegressor", ["rows"], ["score"], ML,
            n_targets=1, nodes_treeids=[0, 0, 0], nodes_nodeids=[0, 1, 2], nodes_featureids=[column, 0, 0],
            nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"], nodes_values=[threshold, 0.0, 0.0],
            nodes_truenodeids=[1, 0, 0], nodes_falsenodeids=[2, 0, 0], nodes_missing_value_tracks_true=[1, 0, 0],
            target_treeids=[0, 0], target_nodeids=[1, 2], target_ids=[0, 0], target_weights=[-0.5, 0.75],
        )
    ]  # fmt: skip
    return onnx_file(nodes, [value("rows", ("n", column + 1))], [value("score", ("n", 1))], {})


def mean_of_rows(vectors: NDArray[np.float32], shape: Sequence[int | str] = ("m",), element: int = INT64) -> bytes:
    """Return a graph from the rows of a history, [items] or [1, items], to the mean of their vectors, [1, d]."""
    nodes = [node("Gather", ["vectors", "items"], ["said"], axis=0)]
    nodes.append(node("ReduceMean", ["said"], ["user"], axes=[len(shape) - 1], keepdims=int(len(shape) == 1)))
    return onnx_file(
        nodes, [value("items", shape, element)], [value("user", (1, vectors.shape[1]))], {"vectors": vectors}
    )


def mean_of_vectors(shape: Sequence[int | str], element: int = FLOAT) -> bytes:
    """Return a graph from the vectors of a history, [items, d] or [1, items, d], to their mean, [1, d]."""
    axis = len(shape) - 2
    nodes = [node("ReduceMean", ["items"], ["user"], axes=[axis], keepdims=int(not axis))]
    return onnx_file(nodes, [value("items", shape, element)], [value("user", (1, shape[-1]), element)], {})


def logistic(values: NDArray[np.float32], weights: NDArray[np.float32] = WEIGHTS) -> NDArray[np.float64]:
    """Return what the linear graphs give."""
    odds = values.astype(np.float64) @ weights[:, 0].astype(np.float64)
    return np.asarray(1.0 / (1.0 + np.exp(-odds)), dtype=np.float64)
