"""Ensembles of decision trees as arrays: read from LightGBM's text, scored without LightGBM.

A tree is its inner nodes from the root on, each before what is below it and its left side before its right. A node is a
feature, a threshold, where what is missing goes, and which leaves are on either side of it; leaves have numbers from
left to right. Scores are those of the library: it compares as float64, so each threshold is rounded down to float32,
and every float32 takes the branch that it takes there; the sum is made as float64 in the order of the trees.

Reference: G. Ke et al., "LightGBM: a highly efficient gradient boosting decision tree", NIPS 2017; the bitmask method
is in ``tree_kernel``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import ArtifactInvalid
from midstream.core.types import Score
from midstream.models.model import Arrays
from midstream.models.rows.examples import names_of, names_text
from midstream.models.rows.ranked_trees import RankedTrees, ranked, score_ranked
from midstream.models.rows.tree_kernel import ALONE, RIGHT, ZERO, score_rows

LEAVES_MAX = 64
"""Of a tree: a bit of a mask each. Up to 32 a mask takes half the room and a row half the time."""
_FEW_ROWS = 128
"""Up to so many rows ranks cost as much as they save: 74 µs of 100 rows in place of 71, 48 of one in place of 41."""
TREES_MAX = 10_000
"""At 31 leaves 5 MB, and 10 ms for 500 rows."""
_VERSIONS = ("v3", "v4")
_SUMS = frozenset({
    "lambdarank", "rank_xendcg", "regression", "regression_l1", "huber", "fair", "quantile", "mape",
})  # fmt: skip
"""Objectives whose score is the sum of the leaves."""
_CATEGORICAL, _LEFT = 1, 2
"""Bits of LightGBM's ``decision_type``; the two above them are the type of what is missing ..."""
_NONE, _ZERO, _NAN = 0, 1, 2
"""... NaN is read as 0; zero and NaN are missing; NaN is missing."""
_WAYS = (RIGHT | ZERO | ALONE) + 1
_TYPES: Mapping[str, str] = {
    "feature": "<i4", "threshold": "<f4", "way": "|u1", "first": "|u1", "middle": "|u1", "end": "|u1",
    "start": "<i8", "leaf_value": "<f8", "leaf_count": "<i8", "sigmoid": "<f8", "inputs": "|u1",
}  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Trees:
    """A sum of trees over named inputs: a row model."""

    inputs: tuple[str, ...]
    """Names of the features that it reads, in order."""
    feature: NDArray[np.int32]
    """Input that each node asks, (nodes,)."""
    threshold: NDArray[np.float32]
    """A value above it goes right, (nodes,)."""
    way: NDArray[np.uint8]
    """What is missing, and where it goes: bits ``RIGHT``, ``ZERO``, ``ALONE`` of ``tree_kernel``, (nodes,)."""
    first: NDArray[np.uint8]
    """First leaf below each node: ``first`` to ``middle`` are on its left ..."""
    middle: NDArray[np.uint8]
    """... and ``middle`` to ``end`` on its right, (nodes,) each."""
    end: NDArray[np.uint8]
    start: NDArray[np.int64]
    """First node of each tree, and the number of nodes, (trees + 1,)."""
    leaf_value: NDArray[np.float64]
    """What a leaf adds, tree by tree, (nodes + trees,)."""
    leaf_count: NDArray[np.int64]
    """Rows that it was fitted on which came to the leaf, (nodes + trees,)."""
    sigmoid: float = 0.0
    """0 = the score is the sum; else it is the probability 1 / (1 + exp(−sigmoid × sum))."""
    _column_feature: NDArray[np.int32] = field(init=False, repr=False)
    _column_way: NDArray[np.uint8] = field(init=False, repr=False)
    _node_column: NDArray[np.int32] = field(init=False, repr=False)
    _mask: NDArray[np.uint32] | NDArray[np.uint64] = field(init=False, repr=False)
    _ranked: RankedTrees | None = field(init=False, repr=False)
    """None = a feature has more thresholds than ranks can tell apart."""

    def __post_init__(self) -> None:
        """Check the parts, and make what the kernel takes of them.

        Raises:
            ArtifactInvalid: They are no trees over these inputs.
        """
        _check(self)
        pairs = self.feature.astype(np.int64) * _WAYS + self.way
        columns, place = np.unique(pairs, return_inverse=True)
        object.__setattr__(self, "_column_feature", (columns // _WAYS).astype(np.int32))
        object.__setattr__(self, "_column_way", (columns % _WAYS).astype(np.uint8))
        object.__setattr__(self, "_node_column", place.astype(np.int32))
        bits = np.uint32 if not len(self.end) or self.end.max() <= LEAVES_MAX // 2 else np.uint64
        one = np.uint64(1)
        mask = ~((one << self.middle.astype(np.uint64)) - (one << self.first.astype(np.uint64)))
        object.__setattr__(self, "_mask", mask.astype(bits))
        prepared = (self._column_feature, self._column_way, self._node_column)
        nodes = (self.feature, self.threshold, self.first, self.middle)
        by_ranks = ranked(prepared, nodes, self.start, self.leaf_value, len(self.inputs))
        object.__setattr__(self, "_ranked", by_ranks)

    def __len__(self) -> int:
        """Return the number of trees."""
        return len(self.start) - 1

    def score(self, values: Score) -> Score:
        """Return the score of each row of values (n, len(inputs)), NaN = unknown.

        Higher is better; a probability where ``sigmoid`` is not 0. Cost: 0.15 ms for 500 rows of 300 trees with 31
        leaves, nearly the same for every row and tree; fastest where a feature's values lie side by side.
        """
        found = np.empty(len(values), dtype=np.float32)
        by_feature = np.ascontiguousarray(values.T, dtype=np.float32)
        if self._ranked is not None and len(values) > _FEW_ROWS:
            score_ranked(by_feature, self._ranked, self.sigmoid, found)
        else:
            self._score_floats(by_feature, found)
        return found

    def _score_floats(self, by_feature: Score, found: Score) -> None:
        """Fill ``found`` by comparing the values themselves: the twin, and what many thresholds of a feature need."""
        columns = (self._column_feature, self._column_way, self._node_column, self.threshold, self._mask)
        score_rows(by_feature, *columns, self.start, self.leaf_value, self.sigmoid, found)

    def arrays(self) -> Arrays:
        """Return what ``restore`` makes the same trees of."""
        found: dict[str, NDArray[np.generic]] = {name: getattr(self, name) for name in _PLAIN}
        return {**found, "sigmoid": np.array([self.sigmoid]), "inputs": names_text(self.inputs)}

    @classmethod
    def restore(cls, arrays: Arrays) -> "Trees":
        """Return the trees whose ``arrays`` these are.

        Raises:
            ArtifactInvalid: They are no trees.
        """
        for name, kind in _TYPES.items():
            if name not in arrays:
                message = f"the trees lack {name}"
                raise ArtifactInvalid(message)
            if arrays[name].dtype.str != kind or arrays[name].ndim != 1:
                message = (
                    f"{name} of the trees is {arrays[name].dtype.str}, {arrays[name].ndim}-d: {kind}, 1-d is right"
                )
                raise ArtifactInvalid(message)
        if len(arrays["sigmoid"]) != 1:
            message = "the trees have more than one sigmoid, or none"
            raise ArtifactInvalid(message)
        plain = {name: np.ascontiguousarray(arrays[name]) for name in _PLAIN}
        return cls(names_of(arrays["inputs"]), **plain, sigmoid=float(arrays["sigmoid"][0]))  # type: ignore[arg-type]

    @classmethod
    def of_lightgbm(cls, text: str, inputs: Sequence[str] | None = None) -> "Trees":
        """Return the trees of a model that LightGBM wrote (``Booster.model_to_string`` or ``save_model``).

        A tree of one leaf asks nothing: it adds the same to every row.

        Args:
            text: All of it.
            inputs: Names of its features, in order; None = as the text names them.

        Raises:
            ArtifactInvalid: It is damaged or cut off, or has something that cannot be kept exactly: categorical
                splits, linear leaves, more than 64 leaves, several classes, averaged output, an objective whose
                score is no sum.
        """
        try:
            return _read(text, inputs)
        except (KeyError, ValueError, IndexError, OverflowError) as error:
            message = f"this is no model of LightGBM's: {type(error).__name__}: {error}"
            raise ArtifactInvalid(message) from error


_PLAIN = tuple(name for name in _TYPES if name not in {"sigmoid", "inputs"})


def _check(trees: Trees) -> None:
    """Raise ``ArtifactInvalid`` unless the parts are trees: the kernel checks no index."""
    nodes, start = len(trees.feature), trees.start
    ends = len(start) > 0 and start[0] == 0 and start[-1] == nodes and bool((np.diff(start) >= 0).all())
    leaves = nodes + len(start) - 1
    sizes = {name: len(getattr(trees, name)) for name in _PLAIN if name != "start"}
    if not ends or any(size != (leaves if name[:4] == "leaf" else nodes) for name, size in sizes.items()):
        message = "the parts of the trees do not go together"
        raise ArtifactInvalid(message)
    if len(start) - 1 > TREES_MAX or (nodes and int(np.diff(start).max()) >= LEAVES_MAX):
        message = f"at most {TREES_MAX:,} trees of {LEAVES_MAX} leaves can be scored"
        raise ArtifactInvalid(message)
    feature = trees.feature
    if nodes and not (feature.min() >= 0 and feature.max() < len(trees.inputs) and trees.way.max() < _WAYS):
        message = f"a node asks a feature that is none of the {len(trees.inputs)} inputs"
        raise ArtifactInvalid(message)
    # What is missing and goes right is above every threshold.
    below_all = (trees.threshold < np.inf) | ((trees.threshold == np.inf) & ((trees.way & RIGHT) == 0))
    if not np.isfinite([*trees.leaf_value, trees.sigmoid]).all() or not below_all.all():
        message = "a leaf or a threshold of the trees is no number"
        raise ArtifactInvalid(message)
    ranges = np.stack([trees.first, trees.middle, trees.end], axis=1).tolist()
    for number, (begin, stop) in enumerate(pairwise(start.tolist())):
        if not _is_tree(ranges[begin:stop]):
            message = f"the nodes of tree {number} are no tree"
            raise ArtifactInvalid(message)


def _is_tree(ranges: list[list[int]]) -> bool:
    """Return whether leaf ranges (first, middle, end) are those of a tree, each node before what is below it."""
    expected = [(0, len(ranges) + 1)] if ranges else []
    for first, middle, end in ranges:
        if not expected or expected.pop() != (first, end) or not first < middle < end:
            return False
        expected.extend(side for side in ((middle, end), (first, middle)) if side[1] - side[0] > 1)
    return not expected


def _read(text: str, inputs: Sequence[str] | None) -> Trees:
    """Return the trees of a text; what is wrong with it raises something."""
    body, mark, _ = text.partition("\nend of trees\n")
    head_text, *tree_texts = body.split("\nTree=")
    head = _fields(head_text)
    names = tuple(inputs) if inputs is not None else tuple(head["feature_names"].split())
    if not mark or len(head["tree_sizes"].split()) != len(tree_texts):
        message = f"the model is cut off: {len(tree_texts)} of its trees are there"
        raise ArtifactInvalid(message)
    if len(names) != int(head["max_feature_idx"]) + 1:
        message = f"{len(names)} names came for {int(head['max_feature_idx']) + 1} features"
        raise ArtifactInvalid(message)
    sigmoid = _sigmoid(head)
    return joined(names, [_read_tree(_fields(each)) for each in tree_texts], sigmoid)


def joined(names: Sequence[str], parts: Sequence[Mapping[str, Sequence[float]]], sigmoid: float) -> Trees:
    """Return trees over named inputs, each given as its columns by name, without ``start``, as ``Trees`` has them."""
    start = np.cumsum([0, *(len(each["feature"]) for each in parts)], dtype=np.int64)
    columns = {
        name: np.array([value for each in parts for value in each[name]], dtype=_TYPES[name])
        for name in _PLAIN
        if name != "start"
    }
    return Trees(tuple(names), **columns, start=start, sigmoid=sigmoid)


def _fields(text: str) -> dict[str, str]:
    """Return the ``name=value`` lines; a line without ``=`` has an empty value."""
    return {name: value for name, _, value in (line.partition("=") for line in text.splitlines())}


def _sigmoid(head: Mapping[str, str]) -> float:
    """Return what makes a score of a sum; refuse what is no single sum."""
    objective, *told = head.get("objective", "").split()
    if head["version"] not in _VERSIONS:
        message = f"format {head['version']} came where {', '.join(_VERSIONS)} are read"
        raise ArtifactInvalid(message)
    if int(head["num_class"]) != 1 or int(head["num_tree_per_iteration"]) != 1:
        message = f"{head['num_class']} classes cannot be scored, only one number a row"
        raise ArtifactInvalid(message)
    if "average_output" in head:
        message = "averaged output (a random forest) cannot be scored, only a sum"
        raise ArtifactInvalid(message)
    if objective == "binary" and len(told) == 1 and told[0].startswith("sigmoid:"):
        return float(told[0].removeprefix("sigmoid:"))
    if objective == "cross_entropy" and not told:
        return 1.0
    if objective in _SUMS and not told:
        return 0.0
    message = f'the objective "{" ".join((objective, *told))}" cannot be scored: its score is no sum of leaves'
    raise ArtifactInvalid(message)


def _read_tree(told: Mapping[str, str]) -> dict[str, Sequence[float]]:
    """Return the columns of one tree, its nodes and leaves in our order."""
    leaves = int(told["num_leaves"])
    if int(told["num_cat"]) or int(told.get("is_linear", "0")):
        what = "categorical splits" if int(told["num_cat"]) else "linear leaves"
        message = f"{what} cannot be kept exactly: fit without them"
        raise ArtifactInvalid(message)
    if not 1 <= leaves <= LEAVES_MAX:
        message = f"a tree has {leaves} leaves, at most {LEAVES_MAX} can be scored"
        raise ArtifactInvalid(message)
    left, right, split, kinds = (
        _whole(told[name], leaves - 1) for name in ("left_child", "right_child", "split_feature", "decision_type")
    )
    exact = np.array(told["threshold"].split(), dtype=np.float64)
    value = np.array(told["leaf_value"].split(), dtype=np.float64)
    if len(exact) != leaves - 1 or len(value) != leaves:
        message = f"a tree of {leaves} leaves has {len(exact)} thresholds and {len(value)} values"
        raise ArtifactInvalid(message)
    nodes, leaf_order, below = in_order(left, right)
    counts = _whole(told["leaf_count"], leaves)
    ways = [_way(kinds[node], float(exact[node])) for node in nodes]
    limits = np.where(np.array(ways, dtype=np.uint8) & ALONE, 0.0, rounded_down(exact[nodes]))
    return {
        "feature": [split[node] for node in nodes],
        "threshold": limits.tolist(),
        "way": ways,
        "first": [below[node][0] for node in nodes],
        "middle": [below[node][1] for node in nodes],
        "end": [below[node][2] for node in nodes],
        "leaf_value": [float(value[leaf]) for leaf in leaf_order],
        "leaf_count": [counts[leaf] for leaf in leaf_order],
    }


def _whole(text: str, count: int) -> list[int]:
    """Return whole numbers, exactly so many."""
    found = [int(each) for each in text.split()]
    if len(found) != count:
        message = f"{len(found)} numbers came where {count} are right"
        raise ArtifactInvalid(message)
    return found


def in_order(left: Sequence[int], right: Sequence[int]) -> tuple[list[int], list[int], dict[int, tuple[int, int, int]]]:
    """Return nodes from the root on, leaves from left to right, and the leaves (first, middle, end) below each node.

    Args:
        left: Of each node, the number of the node on its left, or ~ the number of the leaf.
        right: The same on its right.

    Raises:
        ArtifactInvalid: They are no tree.
    """
    nodes: list[int] = []
    leaves: list[int] = []
    todo = [0 if left else -1]
    while todo and len(nodes) <= len(left):  # a node that is there twice would go round for ever
        at = todo.pop()
        if at < 0:
            leaves.append(~at)
        else:
            nodes.append(at)
            todo += [right[at], left[at]]
    if sorted(nodes) != list(range(len(left))) or sorted(leaves) != list(range(len(left) + 1)):
        message = "the children of a tree's nodes are no tree"
        raise ArtifactInvalid(message)
    size: dict[int, int] = {}
    for node in reversed(nodes):
        size[node] = sum(size[each] if each >= 0 else 1 for each in (left[node], right[node]))
    ranges: dict[int, tuple[int, int, int]] = {}
    begins = {0: 0}
    for node in nodes:
        begin = begins[node]
        middle = begin + (size[left[node]] if left[node] >= 0 else 1)
        ranges[node] = (begin, middle, begin + size[node])
        begins |= {left[node]: begin, right[node]: middle}
    return nodes, leaves, ranges


def _way(kind: int, threshold: float) -> int:
    """Return where a node sends what is missing, of LightGBM's ``decision_type`` and its own threshold."""
    missing = kind >> 2
    if kind & _CATEGORICAL or missing not in {_NONE, _ZERO, _NAN}:
        message = f"a split of the type {kind} cannot be kept exactly: only numbers are compared"
        raise ArtifactInvalid(message)
    if missing == _NONE:  # NaN is read as 0
        return 0 if threshold >= 0.0 else RIGHT
    zero = ZERO if missing == _ZERO else 0
    if kind & _LEFT:
        return zero
    return zero | RIGHT | (ALONE if threshold == np.inf else 0)  # every number is on the left, infinity too


def rounded_down(exact: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the largest float32 that is not above each number: a float32 is above the one if above the other."""
    with np.errstate(over="ignore"):
        near = exact.astype(np.float32)
        return np.where(near > exact, np.nextafter(near, np.float32(-np.inf)), near).astype(np.float32)
