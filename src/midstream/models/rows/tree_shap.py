"""TreeSHAP: exact Shapley values of each feature for the score of a tree ensemble.

A tree is the sum of its leaves. A row comes to a leaf, or does not, feature by feature: with o = 1 where the row takes
the leaf's side at each node that asks the feature, else 0, and z = the share of the fitted rows that did, a leaf of the
value v is worth v · Π over the known features of o · Π over the unknown ones of z. The Shapley value of a feature i in
that game is an integral (Owen 1972: every feature is known with the probability t, and t is any number from 0 to 1):

    v · (o_i − z_i) · ∫ Π over the other features j of (t · o_j + (1 − t) · z_j) dt

The integrand is a polynomial of a degree below the number of features on the way, so Gauss and Legendre's rule with
half as many points gives it exactly, but for rounding, and all leaves, rows and points are one array. The values of a
row and the mean of the fitted rows (``base``) add up to its score. They are those of path-dependent TreeSHAP.

Reference: S. M. Lundberg et al., "From local explanations to global understanding with explainable AI for trees",
Nature Machine Intelligence 2, 2020 (TreeSHAP); G. Owen, "Multilinear extensions of games", Management Science 18(5),
1972, theorem 5.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from midstream.models.rows.tree_kernel import ALONE, RIGHT, ZERO, ZERO_MAX

if TYPE_CHECKING:
    from midstream.core.types import Score
    from midstream.models.rows.trees import Trees

Real = NDArray[np.float64]
Whole = NDArray[np.int64]
_PARTS_KEPT = 8
"""Ensembles whose ways are kept: one a placement; 300 trees of 31 leaves take 3 MB."""
_CELLS = 1 << 18
"""Cells of a block (rows × ways × points): 2 MB an array, so that a block stays in the second cache."""


@dataclass(frozen=True, slots=True, eq=False)
class _Ways:
    """The ways to the leaves of some trees: a way is a leaf and a feature that is asked before it."""

    node: Whole
    """Nodes on each way, way by way, (entries,)."""
    is_right: NDArray[np.bool_]
    """Whether the leaf is on the right of the node, (entries,)."""
    first: Whole
    """First entry of each way, (ways,)."""
    feature: Whole
    """Of each way, (ways,)."""
    share: Real
    """z of each way, (ways,)."""
    leaf: Whole
    """First way of each leaf that has ways, (leaves,)."""
    value: Real
    """Of those leaves, (leaves,)."""
    points: Real
    """Points and weights of the rule, (2, points)."""

    def counts(self) -> Whole:
        """Return the number of ways of each leaf, (leaves,)."""
        return np.diff(np.append(self.leaf, len(self.first)))


def shapley_values(trees: "Trees", values: "Score") -> tuple[float, Real]:
    """Return the base and what each feature adds to it in each row; they sum to the score before any sigmoid.

    Args:
        trees: The ensemble.
        values: Of its inputs, (n, inputs), NaN = unknown.

    Returns:
        The mean of what the trees say of the rows they were fitted on, and (n, inputs). Cost: for 20 rows of 300 trees
        with 31 leaves 0.1 s, and as much once for each ensemble.
    """
    base, blocks = _parts_of(trees)
    found = np.zeros((len(values), len(trees.inputs)))
    goes_right = _sides(trees, values)
    for ways in blocks:
        step = max(1, _CELLS // (len(ways.first) * ways.points.shape[1]))
        for begin in range(0, len(values), step):
            _add(ways, goes_right[begin : begin + step], found[begin : begin + step])
    return base, found


def _add(ways: _Ways, goes_right: NDArray[np.bool_], found: Real) -> None:
    """Add what the features of some ways add to some rows, to ``found`` (rows, inputs)."""
    agrees = goes_right[:, ways.node] == ways.is_right
    taken = np.logical_and.reduceat(agrees, ways.first, axis=1).astype(np.float64)
    points, weights = ways.points
    term = taken[:, :, None] * points + ways.share[:, None] * (1.0 - points)
    product = np.multiply.reduceat(term, ways.leaf, axis=1)
    counts = ways.counts()
    # A term of 0 is a side that no fitted row took and this one does not: nothing comes to the leaf, whoever is known.
    others = np.zeros_like(term)
    np.divide(np.repeat(product, counts, axis=1), term, out=others, where=term > 0.0)
    added = (taken - ways.share) * np.repeat(ways.value, counts) * (others @ weights)
    for row in range(len(found)):
        found[row] += np.bincount(ways.feature, added[row], minlength=found.shape[1])


def _sides(trees: "Trees", values: "Score") -> NDArray[np.bool_]:
    """Return which rows each node sends to the right, (n, nodes): as the kernel of scores does."""
    told = values.astype(np.float32)[:, trees.feature]
    way = trees.way
    is_zero = np.abs(told) <= ZERO_MAX
    is_missing = np.isnan(told) | (is_zero & ((way & ZERO) > 0))
    plain = np.where(is_zero, np.float32(0.0), told) > trees.threshold
    plain &= (way & ALONE) == 0
    return np.where(is_missing, (way & RIGHT) > 0, plain)


@lru_cache(maxsize=_PARTS_KEPT)
def _parts_of(trees: "Trees") -> tuple[float, tuple[_Ways, ...]]:
    """Return the base of an ensemble and its ways, some trees at a time. An ensemble never changes."""
    base = 0.0
    blocks: list[_Ways] = []
    leaves: list[_Leaf] = []
    size = 0
    for tree in range(len(trees)):
        for leaf in _leaves(trees, tree):
            base += leaf.value * float(np.prod([share for share, _ in leaf.ways.values()]))
            if leaf.ways:
                leaves.append(leaf)
                size += len(leaf.ways)
        if leaves and (size >= _CELLS // 128 or tree == len(trees) - 1):
            blocks.append(_joined(leaves))
            leaves, size = [], 0
    return base, tuple(blocks)


@dataclass(frozen=True, slots=True)
class _Leaf:
    """One leaf, and by feature the share of rows that go its way and the nodes that ask, each with its side."""

    value: float
    ways: dict[int, tuple[float, list[tuple[int, bool]]]]


def _leaves(trees: "Trees", tree: int) -> Iterator[_Leaf]:
    """Yield the leaves of a tree, from left to right."""
    begin, end = int(trees.start[tree]), int(trees.start[tree + 1])
    counts = trees.leaf_count[begin + tree : end + tree + 1].tolist()
    values = trees.leaf_value[begin + tree : end + tree + 1].tolist()
    ways: list[dict[int, tuple[float, list[tuple[int, bool]]]]] = [{} for _ in values]
    columns = [each[begin:end].tolist() for each in (trees.feature, trees.first, trees.middle, trees.end)]
    for node, (feature, first, middle, last) in enumerate(zip(*columns, strict=True), begin):
        left, right = sum(counts[first:middle]), sum(counts[middle:last])
        if left + right <= 0:  # nothing was fitted here: each leaf counts as one
            left, right = middle - first, last - middle
        for leaf in range(first, last):
            is_right = leaf >= middle
            share, nodes = ways[leaf].get(feature, (1.0, []))
            part = (right if is_right else left) / (left + right)
            ways[leaf][feature] = (share * part, [*nodes, (node, is_right)])
    yield from map(_Leaf, values, ways)


def _joined(leaves: list[_Leaf]) -> _Ways:
    """Return the ways of some leaves as columns."""
    ways = [(feature, share, nodes) for leaf in leaves for feature, (share, nodes) in leaf.ways.items()]
    entries = [entry for _, _, nodes in ways for entry in nodes]
    most = max(len(leaf.ways) for leaf in leaves)
    # n points integrate a degree of 2n − 1 exactly; of m features a product of the others has the degree m − 1.
    points, weights = np.polynomial.legendre.leggauss((most + 1) // 2)
    return _Ways(
        node=np.array([node for node, _ in entries], dtype=np.int64),
        is_right=np.array([is_right for _, is_right in entries], dtype=np.bool_),
        first=np.cumsum([0, *(len(nodes) for _, _, nodes in ways)], dtype=np.int64)[:-1],
        feature=np.array([feature for feature, _, _ in ways], dtype=np.int64),
        share=np.array([share for _, share, _ in ways], dtype=np.float64),
        leaf=np.cumsum([0, *(len(leaf.ways) for leaf in leaves)], dtype=np.int64)[:-1],
        value=np.array([leaf.value for leaf in leaves], dtype=np.float64),
        points=np.stack([(points + 1.0) / 2.0, weights / 2.0]),
    )
