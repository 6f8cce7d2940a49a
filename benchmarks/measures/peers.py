"""Peers beside this engine in the same run: LightGBM's trees, implicit's ALS, NumPy's top-k and, where it is, faiss's.

Those that need an environment or a server of their own have benchmarks of their own (``feast``, ``als`` with irspack,
``item_models``). A peer that is not here is named and leaves no row.
"""

import argparse
import importlib.util
import json
import sys
import tempfile
from pathlib import Path

import als
import numpy as np
import top_k
import trees
from scipy.sparse import csr_matrix, save_npz

from measures.checkouts import Checkout
from measures.goals import LESS, Goal
from measures.programs import Bench, Program, child
from midstream.models.histories import Histories, Interactions
from midstream.models.items.als import AlsOptions, fit_als
from midstream.models.kernels.bf16_index import Halves
from midstream.models.vocabulary import ItemVocabulary

GOALS = (
    Goal("500 rows by 300 trees, here, p50", "µs", "trees", LESS, 245, 355, None, 148),
    Goal("… LightGBM, one thread, p50", "µs", "trees", LESS),
    Goal("500 of 100,000 vectors, here, p50", "µs", "top k", LESS, 545, 900, 480),
    Goal("… NumPy, p50", "µs", "top k", LESS),
    Goal("ALS, d = 64, 16 epochs, here", "CPU s", "ALS", LESS),
)
MORE = {
    "faiss": Goal("… faiss Flat, one thread, p50", "µs", "top k", LESS),
    "implicit": Goal("… implicit", "CPU s", "ALS", LESS),
}
"""By the library that has to be here."""


def peers(*, is_short: bool) -> tuple[tuple[Goal, ...], dict[str, Program], tuple[str, ...]]:
    """Return the rows, the programs, and the peers that are not here."""
    missing = tuple(name for name in MORE if importlib.util.find_spec(name) is None)
    goals = (*GOALS, *(goal for name, goal in MORE.items() if name not in missing))
    return goals, {name: program_of(name, is_short=is_short) for name in ("trees", "top k", "ALS")}, missing


def program_of(name: str, *, is_short: bool) -> Program:
    """Return the program that asks this file, as a child of a version, on both cores."""

    def run(_bench: Bench, checkout: Checkout) -> dict[str, float]:
        return child(checkout, Path(__file__), [name, *(["--short"] if is_short else [])], "0,1")

    return run


def tree_rows(*, is_short: bool) -> dict[str, float]:
    """Rows by trees, and by LightGBM's own."""
    if is_short:
        trees.CALLS, trees.TREES = 20, 3
    found = trees.run()["rows_500"]
    return {GOALS[0].name: found["trees_us"]["p50"], GOALS[1].name: found["lightgbm_us"]["p50"]}


def top_k_rows(*, is_short: bool) -> dict[str, float]:
    """The best of many vectors, exactly; all ways give the same items."""
    dice = np.random.default_rng(1)
    items, queries = top_k.vectors(5_000 if is_short else 100_000, dice), top_k.vectors(20 if is_short else 300, dice)
    halves = Halves.of(items)
    ways = {GOALS[2].name: lambda query, k: halves.top_k(query, k)[0]}
    ways[GOALS[3].name] = lambda query, k: top_k.numpy_top_k(query, items, k)
    if found := top_k.faiss_top_k(items):
        ways[MORE["faiss"].name] = found
    took, lists = top_k.asked(ways, queries, 500, turns=False)
    if not all(len({frozenset(one) for one in each}) == 1 for each in zip(*lists.values(), strict=True)):
        message = "the ways give different items"
        raise RuntimeError(message)
    return {name: float(np.median(each)) for name, each in took.items()}


def als_rows(*, is_short: bool) -> dict[str, float]:
    """A fit of the same made interactions, of two threads each."""
    users, items, pairs = (200, 100, 2_000) if is_short else (30_000, 40_000, 800_000)
    dice = np.random.default_rng(2)
    popular = np.minimum((items * dice.random(pairs) ** 3).astype(int), items - 1)
    matrix = csr_matrix((np.ones(pairs, np.float32), (dice.integers(0, users, pairs), popular)), (users, items))
    matrix.data[:] = 1
    histories = Histories(matrix.indices, np.ones(matrix.nnz, np.float32), matrix.indptr.astype(np.int64))
    data = Interactions(ItemVocabulary.of([str(item) for item in range(items)]), histories)
    options = AlsOptions(factors=64, iterations=16, unobserved_weight=0.01, regularization=0.003)
    fit_als(Interactions(data.vocabulary, histories.part(0, 9)), AlsOptions(iterations=1))
    rows = {GOALS[4].name: als.ours(data, options)[2]}
    if importlib.util.find_spec("implicit"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "train.npz"
            save_npz(path, matrix)
            rows[MORE["implicit"].name] = float(als.theirs(sys.executable, "implicit", path, data, options)[2])
    return rows


def main() -> None:
    """Measure one and print it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("trees", "top k", "ALS"))
    parser.add_argument("--short", action="store_true")
    told = parser.parse_args()
    ask = {"trees": tree_rows, "top k": top_k_rows, "ALS": als_rows}[told.what]
    print(json.dumps(ask(is_short=told.short)))


if __name__ == "__main__":
    main()
