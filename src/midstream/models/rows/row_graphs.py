"""Rankers as ONNX graphs, for programs elsewhere: trees, linear models and dense networks, from ``rows`` to ``score``.

A graph computes what our kernels compute, in their order of rounding as far as operators allow: columns as float32,
sums of linear models as float64, sums of trees as ONNX Runtime adds them. Scores agree to 1e-6 of the largest.

Reference: ONNX operators, opset 17, and ``ai.onnx.ml`` 3 (``TreeEnsembleRegressor``).
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import Fault, Invalid
from midstream.models.onnx.graph import DOUBLE, FLOAT, INT64, ML
from midstream.models.onnx.writing import node, onnx_file, value
from midstream.models.rows.ftrl import FAR, Ftrl
from midstream.models.rows.keras_ranker import KerasRanker
from midstream.models.rows.logistic_regression import LogisticRegression
from midstream.models.rows.tree_kernel import ALONE, RIGHT, ZERO, ZERO_MAX
from midstream.models.rows.trees import Trees

_LARGE = 1e300
"""Times 0 it is a number, as infinity is not."""
Constants = dict[str, NDArray[np.generic]]


def _file(inputs: Sequence[str], nodes: Sequence[bytes], constants: Constants, last: str) -> bytes:
    """Return a file from ``rows`` [rows, columns] to ``score`` [rows, 1]; the columns' names are a property of it."""
    ends = [node("Identity", [last], ["score"])]
    told = {"columns": ",".join(inputs)}
    graph = [*nodes, *ends]
    return onnx_file(graph, [value("rows", ("n", len(inputs)))], [value("score", ("n", 1))], constants, told)


def trees_graph(trees: Trees) -> bytes:
    """Return trees as one ensemble. What is next to 0 is 0, and where zero counts as missing a column stands twice.

    Raises:
        Invalid: No tree asks anything.
    """
    if not len(trees.feature):
        came = "No tree of it asks anything: its score is the same for every row."
        raise Invalid((Fault("model", came, "Trees with a split.", "/docs/models.md#trees"),))
    width = len(trees.inputs)
    constants: Constants = {"least": np.array(ZERO_MAX), "zero": np.zeros((), "<f4"), "none": np.array(np.nan, "<f4")}
    nodes = [
        node("Abs", ["rows"], ["size"]),
        node("LessOrEqual", ["size", "least"], ["is_zero"]),
        node("Where", ["is_zero", "zero", "rows"], ["told"]),
    ]
    last = "told"
    if (trees.way & ZERO).any():
        nodes.append(node("Where", ["is_zero", "none", "rows"], ["without_zero"]))
        nodes.append(node("Concat", ["told", "without_zero"], ["both"], axis=1))
        last = "both"
    nodes.append(node("TreeEnsembleRegressor", [last], ["sum"], ML, n_targets=1, **_ensemble(trees, width)))
    if trees.sigmoid:
        constants["sigmoid"] = np.array(trees.sigmoid, "<f4")
        nodes += [node("Mul", ["sum", "sigmoid"], ["odds"]), node("Sigmoid", ["odds"], ["sum_score"])]
    return _file(trees.inputs, nodes, constants, "sum_score" if trees.sigmoid else "sum")


def _ensemble(trees: Trees, width: int) -> Mapping[str, list[int] | list[float] | list[str]]:
    """Return the attributes of an ensemble: inner nodes first in each tree, then its leaves."""
    whole: dict[str, list[int]] = {
        name: []
        for name in (
            "nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_truenodeids", "nodes_falsenodeids",
            "nodes_missing_value_tracks_true", "target_treeids", "target_nodeids", "target_ids",
        )
    }  # fmt: skip
    modes, values, weights, base = list[str](), list[float](), list[float](), 0.0
    for number, (begin, end) in enumerate(pairwise(trees.start.tolist())):
        leaves = trees.leaf_value[begin + number : end + number + 1].tolist()
        if begin == end:
            base += leaves[0]
            continue
        count = end - begin
        ranges = np.stack([trees.first[begin:end], trees.middle[begin:end], trees.end[begin:end]], axis=1).tolist()
        place = {(first, last): at for at, (first, _, last) in enumerate(ranges)}
        for at, (first, middle, last) in enumerate(ranges):
            way = int(trees.way[begin + at])
            sides = ((first, middle), (middle, last))
            left, right = (count + low if high - low == 1 else place[low, high] for low, high in sides)
            feature = int(trees.feature[begin + at]) + (width if way & ZERO else 0)
            row = (number, at, feature, left, right, 0 if way & RIGHT else 1)
            for name, each in zip(list(whole)[:6], row, strict=True):
                whole[name].append(each)
            modes.append("BRANCH_LEQ")
            values.append(float("inf") if way & ALONE else float(trees.threshold[begin + at]))
        for leaf, weight in enumerate(leaves):
            for name, each in zip(list(whole)[:6], (number, count + leaf, 0, 0, 0, 0), strict=True):
                whole[name].append(each)
            for name, each in zip(list(whole)[6:], (number, count + leaf, 0), strict=True):
                whole[name].append(each)
            modes.append("LEAF")
            values.append(0.0)
            weights.append(float(weight))
    return {
        **whole, "nodes_modes": modes, "nodes_values": values, "target_weights": weights, "base_values": [float(base)],
    }  # fmt: skip


def linear_graph(model: Ftrl | LogisticRegression) -> bytes:
    """Return a linear model over bins, unknown values and standardised values; sums are float64 as in the kernel."""
    edges, weights = model.edges.astype("<f4"), model.weights.astype("<f8")
    count, bins = edges.shape
    width = bins + 3
    # Weights of places, which count nothing in a score, lie between those of the inputs and the bias.
    parts = weights[: count * width]
    table = parts.reshape(count, width)
    constants: Constants = {
        "edges": edges[None], "unknown_bin": np.array(bins + 1, "<i8"), "table": parts,
        "offset": np.arange(count, dtype="<i8") * width, "mean": model.mean.astype("<f8"),
        "scale": model.scale.astype("<f8"), "value_weight": np.ascontiguousarray(table[:, -1]),
        "bias": weights[-1:], "lowest": np.array(-_LARGE), "highest": np.array(_LARGE), "far": np.array(float(FAR)),
        "near": np.array(-float(FAR)), "last_axis": np.array([2], "<i8"), "columns": np.array([1], "<i8"),
    }  # fmt: skip
    nodes = [
        node("IsNaN", ["rows"], ["unknown"]),
        node("Unsqueeze", ["rows", "last_axis"], ["deep"]),
        node("Greater", ["deep", "edges"], ["above"]),
        node("Cast", ["above"], ["counted"], to=INT64),
        node("ReduceSum", ["counted", "last_axis"], ["bin"], keepdims=0),
        node("Where", ["unknown", "unknown_bin", "bin"], ["told_bin"]),
        node("Add", ["told_bin", "offset"], ["place"]),
        node("Gather", ["table", "place"], ["bin_weight"]),
        node("Cast", ["rows"], ["exact"], to=DOUBLE),
        node("Where", ["unknown", "mean", "exact"], ["known"]),
        node("Clip", ["known", "lowest", "highest"], ["finite"]),
        node("Sub", ["finite", "mean"], ["apart"]),
        node("Mul", ["apart", "scale"], ["deviations"]),
        node("Clip", ["deviations", "near", "far"], ["standard"]),
        node("Mul", ["standard", "value_weight"], ["value_part"]),
        node("Add", ["bin_weight", "value_part"], ["part"]),
        node("ReduceSum", ["part", "columns"], ["sum"], keepdims=1),
        node("Add", ["sum", "bias"], ["odds"]),
        node("Sigmoid", ["odds"], ["exact_score"]),
        node("Cast", ["exact_score"], ["probability"], to=FLOAT),
    ]
    return _file(model.inputs, nodes, constants, "probability")


def network_graph(model: KerasRanker) -> bytes:
    """Return a dense network: standardised values and what is unknown, layers with ReLU, a probability."""
    constants: Constants = {
        "mean": model.mean.astype("<f8"), "scale": model.scale.astype("<f8"), "lowest": np.array(-_LARGE),
        "highest": np.array(_LARGE), "far": np.array(float(FAR)), "near": np.array(-float(FAR)),
    }  # fmt: skip
    nodes = [
        node("IsNaN", ["rows"], ["unknown"]),
        node("Cast", ["unknown"], ["is_unknown"], to=FLOAT),
        node("Cast", ["rows"], ["exact"], to=DOUBLE),
        node("Where", ["unknown", "mean", "exact"], ["known"]),
        node("Clip", ["known", "lowest", "highest"], ["finite"]),
        node("Sub", ["finite", "mean"], ["apart"]),
        node("Mul", ["apart", "scale"], ["deviations"]),
        node("Clip", ["deviations", "near", "far"], ["standard"]),
        node("Cast", ["standard"], ["told"], to=FLOAT),
        node("Concat", ["told", "is_unknown"], ["layer.0"], axis=1),
    ]
    for at, (weights, shift) in enumerate(model.layers):
        constants |= {f"weights.{at}": weights.astype("<f4"), f"shift.{at}": shift.astype("<f4")}
        nodes.append(node("Gemm", [f"layer.{at}", f"weights.{at}", f"shift.{at}"], [f"sum.{at}"], transB=1))
        is_last = at == len(model.layers) - 1
        nodes.append(node("Sigmoid" if is_last else "Relu", [f"sum.{at}"], [f"layer.{at + 1}"]))
    return _file(model.inputs, nodes, constants, f"layer.{len(model.layers)}")
