"""Trees by ranks: a value is known by how many of its feature's thresholds are below it, and a rank is an octet.

A feature that has at most 255 thresholds in all trees (no more than LightGBM makes by itself) tells no more of a value
than that. So a node compares octets, 64 at once where floats are 16, and of a tree's leaves those of eight after eight
are looked at, with the nodes alone that have one of them on their left.

Reference: T. Ye, H. Zhou, W. Y. Zou, B. Gao, R. Zhang, "RapidScorer: fast tree ensemble evaluation by maximizing
compactness in data level parallelization", KDD 2018.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midstream.events.kernel import kernel, signed
from midstream.models.kernels.wide_vectors import wide_vectors
from midstream.models.rows.tree_kernel import ALONE, RIGHT, ZERO, ZERO_MAX, aligned, write_scores
from midstream.models.rows.tree_lanes import BLOCK, ENTRY, LANES, add_leaves, mask_rows, rank_rows

LIMITS_MAX: Final = 255
"""Thresholds of a feature: with more, ranks are no octets."""
_LEAVES: Final = 8
"""Of an octet."""
_FOUR_TIMES: Final = 0x01010101
_ALL: Final = 255
"""All leaves of an octet."""
_LEAST, _MOST = np.int8(-128), np.int8(127)
"""Rank of what is below all limits, and of what is above all."""


class RankedTrees(NamedTuple):
    """Trees as the kernel takes them."""

    column_feature: NDArray[np.int32]
    """Feature of each prepared column, ascending, (columns,)."""
    column_way: NDArray[np.uint8]
    """What is missing in it and where that goes."""
    limits: NDArray[np.float32]
    """Thresholds of all features, ascending in each, with infinity behind them, one less than a power of two."""
    limit_at: NDArray[np.int64]
    """Where those of each feature begin, (features,)."""
    steps: NDArray[np.int64]
    """Halvings that find a rank among them, (features,)."""
    entries: NDArray[np.int32]
    """Nodes, ``ENTRY`` numbers each, those of each octet of each tree one after another."""
    entry_at: NDArray[np.int64]
    """First entry of each octet, and the number of entries, (octets + 1,)."""
    octet_at: NDArray[np.int64]
    """First octet of each tree, and the number of octets, (trees + 1,)."""
    leaf_value: NDArray[np.float64]
    """Tree by tree, from left to right."""
    leaf_at: NDArray[np.int64]
    """First leaf of each tree, (trees,)."""


def ranked(
    columns: tuple[NDArray[np.int32], NDArray[np.uint8], NDArray[np.int32]],
    nodes: tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.uint8], NDArray[np.uint8]],
    start: NDArray[np.int64],
    leaf_value: NDArray[np.float64],
    feature_count: int,
) -> RankedTrees | None:
    """Return trees by ranks; None = a feature has too many thresholds.

    Args:
        columns: Feature and way of each prepared column, and the column that each node asks.
        nodes: Feature, threshold, first and middle leaf of each.
        start: First node of each tree, and the number of nodes.
        leaf_value: Of all leaves.
        feature_count: Of inputs.
    """
    column_feature, column_way, node_column = columns
    feature, threshold, first, middle = nodes
    limits: list[NDArray[np.float32]] = []
    steps, place = np.zeros(feature_count, dtype=np.int64), np.zeros(len(feature), dtype=np.int64)
    for each in range(feature_count):
        mine = np.flatnonzero(feature == each)
        distinct, place[mine] = np.unique(threshold[mine], return_inverse=True)
        if len(distinct) > LIMITS_MAX:
            return None
        steps[each] = len(distinct).bit_length()
        limits.append(np.full((1 << int(steps[each])) - 1, np.inf, dtype=np.float32))
        limits[-1][: len(distinct)] = distinct
    sizes = np.array([len(each) for each in limits], dtype=np.int64)
    octets = np.diff(start) // _LEAVES + 1
    one, width = np.uint64(1), np.arange(0, 64, _LEAVES, dtype=np.uint64)
    lost = (one << middle.astype(np.uint64)) - (one << first.astype(np.uint64))
    mask = _ALL - (lost[:, None] >> width & np.uint64(_ALL)).astype(np.int64)
    tree = np.repeat(np.arange(len(start) - 1), np.diff(start))
    node, octet = np.nonzero(mask != _ALL)
    octet_at = np.concatenate(([0], np.cumsum(octets))).astype(np.int64)
    of_octet = octet_at[tree[node]] + octet
    order = np.argsort(of_octet, kind="stable")
    node, octet = node[order], octet[order]
    entries = np.empty((len(node), ENTRY), dtype=np.int64)
    entries[:, 0] = node_column[node].astype(np.int64) * BLOCK
    entries[:, 1] = (place[node] - 128 & _ALL) * _FOUR_TIMES
    entries[:, 2] = mask[node, octet] * _FOUR_TIMES
    entry_at = np.concatenate(([0], np.cumsum(np.bincount(of_octet, minlength=int(octet_at[-1]))))).astype(np.int64)
    return RankedTrees(
        column_feature, column_way, np.concatenate([*limits, np.full(1, np.inf, np.float32)]),
        np.cumsum(sizes) - sizes, steps, entries.astype(np.uint32).view(np.int32).ravel(),
        entry_at, octet_at, leaf_value,
        start[:-1] + np.arange(len(start) - 1),
    )  # fmt: skip


@kernel
def score_ranked(values: NDArray[np.float32], trees: RankedTrees, sigmoid: float, found: NDArray[np.float32]) -> None:
    """Fill ``found`` (n,) with what ``tree_kernel.score_rows`` does, to the bit.

    Args:
        values: A row a feature, (features, n); NaN = unknown.
        trees: The trees.
        sigmoid: 0 = the sum itself; else 1 / (1 + exp(−sigmoid × sum)).
        found: Is written.
    """
    wide_vectors()
    row_count, columns = values.shape[1], len(trees.column_feature)
    ranks, left = aligned(columns * BLOCK, np.dtype(np.int8)), aligned(_LEAVES * BLOCK, np.dtype(np.int8))
    total = aligned(BLOCK, np.dtype(np.float64))
    plain, clean = aligned(BLOCK, np.dtype(np.int8)), np.zeros(BLOCK, dtype=np.float32)
    for begin in range(0, row_count, BLOCK):
        count = min(BLOCK, row_count - begin)
        rows = (count + LANES - 1) // LANES * LANES  # behind the last row is whatever was left there
        last = -1
        for column in range(columns):
            feature = trees.column_feature[column]
            if feature != last:
                last = feature
                for row in range(count):
                    value = values[feature, np.uint64(begin + row)]  # without a sign: read side by side
                    clean[row] = np.float32(0.0) if abs(value) <= ZERO_MAX else value
                rank_rows(clean, rows, trees.limits[trees.limit_at[feature] :], signed(trees.steps[feature]), plain)
            prepare_ranks(clean[:rows], plain, trees.column_way[column], ranks[column * BLOCK :])
        total[:rows] = 0.0
        for tree in range(len(trees.leaf_at)):
            first, octets = trees.octet_at[tree], trees.octet_at[tree + 1] - trees.octet_at[tree]
            for octet in range(octets):
                entry, end = trees.entry_at[first + octet], trees.entry_at[first + octet + 1]
                mask_rows(ranks, rows, trees.entries[entry * ENTRY :], signed(end - entry), left[octet * BLOCK :])
            add_leaves(left, octets, rows, trees.leaf_value[trees.leaf_at[tree] :], total)
        write_scores(total[:count], sigmoid, found[begin:])


@kernel
def prepare_ranks(clean: NDArray[np.float32], plain: NDArray[np.int8], way: int, found: NDArray[np.int8]) -> None:
    """Fill the beginning of ``found`` with ranks such that one comparison with a limit says where a row goes.

    Args:
        clean: Values, what counts as zero being zero; NaN = unknown.
        plain: Their ranks.
        way: What is missing, and where that goes.
        found: Is written.
    """
    fill = _MOST if way & RIGHT else _LEAST
    if way & ALONE:
        for row in range(len(clean)):
            value = clean[row]
            is_missing = value != value or (way & ZERO and value == 0)  # noqa: PLR0124  NaN
            found[row] = fill if is_missing else _LEAST
    elif way & ZERO:
        for row in range(len(clean)):
            value = clean[row]
            found[row] = fill if value != value or value == 0 else plain[row]  # noqa: PLR0124  NaN
    else:
        for row in range(len(clean)):
            value = clean[row]
            found[row] = fill if value != value else plain[row]  # noqa: PLR0124  NaN
