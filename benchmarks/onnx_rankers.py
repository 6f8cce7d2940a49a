"""Time of rankers of kind ``onnx``, by form and size: 40 columns of 500 candidates, as a request asks them.

``benchmarks/onnx_rankers.py``: 20 s of one core. Graphs are written here, so nothing but the extra ``onnx`` is needed.
"""

import os
import time
from itertools import pairwise

import numpy as np

from midstream.models.onnx.graph import ML
from midstream.models.onnx.session import library
from midstream.models.onnx.writing import node, onnx_file, value
from midstream.models.rows.onnx_ranker import ranker_of

COLUMNS, ROUNDS = 40, 2_000
SIZES = (1, 20, 100, 500)


def linear(dice):
    """Standardised columns, a weighted sum, the logistic."""
    nodes = [
        node("Sub", ["rows", "mean"], ["apart"]), node("Mul", ["apart", "scale"], ["told"]),
        node("MatMul", ["told", "weights"], ["odds"]), node("Sigmoid", ["odds"], ["score"]),
    ]  # fmt: skip
    constants = {
        "mean": dice.standard_normal(COLUMNS).astype(np.float32),
        "scale": np.ones(COLUMNS, dtype=np.float32),
        "weights": dice.standard_normal((COLUMNS, 1)).astype(np.float32),
    }
    return onnx_file(nodes, [value("rows", ("n", COLUMNS))], [value("score", ("n", 1))], constants)


def network(dice):
    """Dense layers of 64 and 32 numbers."""
    sizes, nodes, constants, last = (COLUMNS, 64, 32, 1), [], {}, "rows"
    for at, shape in enumerate(pairwise(sizes)):
        constants |= {f"w{at}": dice.standard_normal(shape).astype(np.float32), f"b{at}": np.zeros(shape[1], "<f4")}
        nodes.append(node("Gemm", [last, f"w{at}", f"b{at}"], [f"h{at}"]))
        nodes.append(node("Relu" if at < len(sizes) - 2 else "Sigmoid", [f"h{at}"], [f"a{at}"]))
        last = f"a{at}"
    return onnx_file(nodes, [value("rows", ("n", COLUMNS))], [value(last, ("n", 1))], constants)


def trees(dice, count, depth=5):
    """Full trees of 2^depth leaves."""
    inner, told = (
        2**depth - 1,
        {name: [] for name in ("treeids", "nodeids", "features", "modes", "values", "yes", "no")},
    )
    leaf = {"target_treeids": [], "target_nodeids": [], "target_ids": [], "target_weights": []}
    for tree in range(count):
        for at in range(2 * inner + 1):
            is_leaf = at >= inner
            told["treeids"].append(tree)
            told["nodeids"].append(at)
            told["features"].append(0 if is_leaf else int(dice.integers(COLUMNS)))
            told["modes"].append("LEAF" if is_leaf else "BRANCH_LEQ")
            told["values"].append(0.0 if is_leaf else float(dice.standard_normal()))
            told["yes"].append(0 if is_leaf else 2 * at + 1)
            told["no"].append(0 if is_leaf else 2 * at + 2)
            if is_leaf:
                leaf["target_treeids"].append(tree)
                leaf["target_nodeids"].append(at)
                leaf["target_ids"].append(0)
                leaf["target_weights"].append(float(dice.standard_normal()))
    names = {"nodes_treeids": "treeids", "nodes_nodeids": "nodeids", "nodes_featureids": "features",
             "nodes_modes": "modes", "nodes_values": "values", "nodes_truenodeids": "yes",
             "nodes_falsenodeids": "no"}  # fmt: skip
    attributes = {name: told[each] for name, each in names.items()} | leaf
    nodes = [node("TreeEnsembleRegressor", ["rows"], ["score"], ML, n_targets=1, **attributes)]
    return onnx_file(nodes, [value("rows", ("n", COLUMNS))], [value("score", ("n", 1))], {})


def main():
    """Print p50 and p99 of each graph for each number of rows."""
    dice = np.random.default_rng(1)
    graphs = {"weighted sum": linear(dice), "network 64, 32": network(dice)}
    graphs |= {f"{count} trees of 32 leaves": trees(dice, count) for count in (100, 300)}
    print(f"ONNX Runtime {library().__version__}, load {os.getloadavg()[0]:.1f}, {COLUMNS} columns, p50 / p99 ms")
    for name, content in graphs.items():
        begin = time.perf_counter()
        ranker = ranker_of(content, [f"c{at}" for at in range(COLUMNS)])
        loaded_ms = (time.perf_counter() - begin) * 1e3
        figures = []
        for rows in SIZES:
            # Column by column, as a request gathers them.
            values = np.asfortranarray(dice.standard_normal((rows, COLUMNS)).astype(np.float32))
            rounds = ROUNDS if "trees" not in name else ROUNDS // 4
            took = np.empty(rounds)
            for at in range(rounds):
                begin = time.perf_counter()
                ranker.score(values)
                took[at] = time.perf_counter() - begin
            figures.append(f"{np.percentile(took, 50) * 1e3:.3f} / {np.percentile(took, 99) * 1e3:.3f}")
        print(
            f"{name}: {len(content):,} bytes, loaded in {loaded_ms:.0f} ms; "
            + ", ".join(f"{rows} rows {figure}" for rows, figure in zip(SIZES, figures, strict=True))
        )


if __name__ == "__main__":
    main()
