"""Scores of a tree ensemble by bitmasks: every node of every tree is asked for many rows at once, and no row walks.

The leaves of a tree are numbered from left to right, and each node has a mask without the leaves on its left. A row
begins with all leaves; of each node that sends it to the right it loses those of the mask; the lowest leaf that is left
is the one that a walk from the root would have come to. So the time depends on neither the values nor the depth, and
the innermost loop is a comparison and an "and" that the compiler makes 4 to 16 wide, the widest that the CPU has.

What is missing is decided before: a column is prepared once for each way in which nodes treat what is missing in it,
with −infinity where it goes left and +infinity where it goes right, so that the innermost loop knows nothing of it.

Reference: C. Lucchese, F. M. Nardini, S. Orlando, R. Perego, N. Tonellotto, R. Venturini, "QuickScorer: a fast
algorithm to rank documents with additive ensembles of regression trees", SIGIR 2015, algorithm 1.
"""

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from midstream.events.kernel import intrinsic, kernel
from midstream.models.kernels.wide_vectors import wide_vectors

RIGHT: Final = 1
"""Bit of a way: what is missing goes right."""
ZERO: Final = 2
"""Bit of a way: zero counts as missing, as NaN does."""
ALONE: Final = 4
"""Bit of a way: no number goes right, only what is missing; whatever the threshold."""
ZERO_MAX: Final = np.float32(1e-35)
"""Up to this a value is zero, as LightGBM has it (``kZeroThreshold``)."""
_ROWS: Final = 256
"""Rows of a block: with fewer than 64 loops are too short to pay, with more the columns leave the nearest cache."""
_AT_ONCE: Final = 16
"""Rows are asked in multiples of this, a divisor of a block: no CPU takes more at once. What is left over would be
taken one by one, seven rows in as much time as a hundred others."""
_LINE_BYTES: Final = 64
"""Memory comes in lines of so many bytes, and no vector is longer."""


def _trailing_zeros(_typing: Any, bits: Any) -> Any:  # noqa: ANN401  # numba's own
    from llvmlite import ir  # type: ignore[import-untyped]  # the package brings no types

    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:  # noqa: ANN401
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return bits(bits), generate


if TYPE_CHECKING:

    def _lowest(bits: np.uint32 | np.uint64) -> int:
        """Return the number of the lowest bit that is set."""
        ...
else:
    _lowest = intrinsic(_trailing_zeros)


@kernel
def aligned(count: int, kind: "np.dtype[Any]") -> NDArray[Any]:
    """Return room for ``count`` numbers that begins with a line of memory: no vector then lies in two of them."""
    room = np.empty(count + _LINE_BYTES, dtype=kind)
    first = -room.ctypes.data % _LINE_BYTES // room.itemsize
    return room[first : first + count]


@kernel
def score_rows(
    values: NDArray[np.float32],
    column_feature: NDArray[np.int32],
    column_way: NDArray[np.uint8],
    node_column: NDArray[np.int32],
    threshold: NDArray[np.float32],
    mask: NDArray[Any],
    start: NDArray[np.int64],
    leaf_value: NDArray[np.float64],
    sigmoid: float,
    found: NDArray[np.float32],
) -> None:
    """Fill ``found`` (n,) with the sum over the trees, added up as float64 in their order.

    Args:
        values: A row a feature, (features, n); NaN = unknown.
        column_feature: Feature of each prepared column, (columns,).
        column_way: What is missing in it and where that goes: bits ``RIGHT``, ``ZERO``, ``ALONE``.
        node_column: Column that each node asks, tree by tree, (nodes,).
        threshold: A row whose value is above it goes right.
        mask: All leaves but those on the left of the node; 32 or 64 bits, the highest leaf always among them.
        start: First node of each tree, and the number of nodes, (trees + 1,). Tree t has a leaf more than nodes.
        leaf_value: Tree by tree, from left to right, (leaves,).
        sigmoid: 0 = the sum itself; else 1 / (1 + exp(−sigmoid × sum)).
        found: Is written.
    """
    wide_vectors()
    full = ~(mask[:0].sum() & mask.dtype.type(0))
    row_count = values.shape[1]
    block = aligned(len(column_feature) * _ROWS, values.dtype).reshape(len(column_feature), _ROWS)
    left, total = aligned(_ROWS, mask.dtype), np.empty(_ROWS, dtype=np.float64)
    for begin in range(0, row_count, _ROWS):
        count = min(_ROWS, row_count - begin)
        asked = (count + _AT_ONCE - 1) // _AT_ONCE * _AT_ONCE  # behind the last row is whatever was left there
        for column in range(len(column_feature)):
            prepare(values[column_feature[column], begin : begin + count], column_way[column], block[column])
        for row in range(count):
            total[row] = 0.0
        for tree in range(len(start) - 1):
            for row in range(asked):
                left[row] = full
            node, end = start[tree], start[tree + 1]
            while node + 4 <= end:  # four at a time: what is left of a row is read and written a quarter as often
                a, b = block[node_column[node], :asked], block[node_column[node + 1], :asked]
                c, d = block[node_column[node + 2], :asked], block[node_column[node + 3], :asked]
                a_max, b_max, c_max, d_max = (
                    threshold[node],
                    threshold[node + 1],
                    threshold[node + 2],
                    threshold[node + 3],
                )
                a_mask, b_mask, c_mask, d_mask = mask[node], mask[node + 1], mask[node + 2], mask[node + 3]
                for row in range(asked):
                    left[row] &= (
                        (a_mask if a[row] > a_max else full)
                        & (b_mask if b[row] > b_max else full)
                        & (c_mask if c[row] > c_max else full)
                        & (d_mask if d[row] > d_max else full)
                    )
                node += 4
            while node < end:
                a, a_max, a_mask = block[node_column[node], :asked], threshold[node], mask[node]
                for row in range(asked):
                    left[row] &= a_mask if a[row] > a_max else full
                node += 1
            leaf = leaf_value[start[tree] + tree :]
            for row in range(count):
                total[row] += leaf[_lowest(left[row])]
        write_scores(total[:count], sigmoid, found[begin:])


@kernel
def write_scores(total: NDArray[np.float64], sigmoid: float, found: NDArray[np.float32]) -> None:
    """Fill the beginning of ``found`` with scores of sums."""
    for row in range(len(total)):
        found[row] = total[row] if sigmoid == 0.0 else 1.0 / (1.0 + math.exp(-sigmoid * total[row]))


@kernel
def prepare(values: NDArray[np.float32], way: int, found: NDArray[np.float32]) -> None:
    """Fill the beginning of ``found`` with values such that one comparison with a threshold says where a row goes."""
    fill = np.float32(np.inf if way & RIGHT else -np.inf)
    zero = fill if way & ZERO else np.float32(0.0)
    if way & ALONE:
        for row in range(len(values)):
            value = values[row]
            is_missing = value != value or (way & ZERO and abs(value) <= ZERO_MAX)  # noqa: PLR0124  NaN
            found[row] = fill if is_missing else np.float32(-np.inf)
        return
    for row in range(len(values)):
        value = values[row]
        value = zero if abs(value) <= ZERO_MAX else value
        found[row] = fill if value != value else value  # noqa: PLR0124  NaN
