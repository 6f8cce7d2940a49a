"""Kernels of implicit ALS: half an epoch of conjugate gradients, and the user of a history, solved to the end.

Both count on factors that are turned so that their Gram matrix is diagonal. What all items say together of a user is
then one number a factor instead of a matrix: a step costs a product with the items of the history alone, and a history
shorter than the factors are many is solved in as many equations as it has items.
"""

import math

import numpy as np
from numpy.typing import NDArray

from midstream.events.kernel import kernel
from midstream.models.kernels.simd_dot import add_scaled, dot

SUM, LOG, ONE = 0, 1, 2
"""How the weights of the acts on one item become its confidence."""


@kernel
def confidences(weight: NDArray[np.float32], how: int) -> NDArray[np.float32]:
    """Return the confidence of each weight: itself, log2(1 + weight), or 1."""
    found = np.empty(len(weight), dtype=np.float32)
    for place in range(len(weight)):
        if how == LOG:
            found[place] = np.float32(math.log2(1.0 + np.float64(weight[place])))
        else:
            found[place] = weight[place] if how == SUM else np.float32(1)
    return found


@kernel
def improve(
    own: NDArray[np.float32],
    other: NDArray[np.float32],
    start: NDArray[np.int64],
    column: NDArray[np.int32],
    weight: NDArray[np.float32],
    common: NDArray[np.float32],
    ridge: NDArray[np.float32],
    begin: int,
    end: int,
    steps: int,
) -> None:
    """Bring the factors of some rows nearer to the solution for the factors of the other side.

    Of row u the equations (diag(common + ridge[u]) + Σ c v vᵀ) x = Σ c v, over its columns v of confidence c, are
    treated by preconditioned conjugate gradients from the factors as they are; the preconditioner is the diagonal.

    Args:
        own: (rows, d), d a multiple of 16; those from ``begin`` to before ``end`` are written.
        other: (columns, d), with a diagonal Gram matrix.
        start: Where the columns of each row begin, (rows + 1,).
        column: (entries,).
        weight: Confidence of each, more than 0, (entries,).
        common: Unobserved weight times the diagonal of the Gram matrix, (d,).
        ridge: Regularization of each row, (rows,).
        begin: First row.
        end: Behind the last row.
        steps: Of conjugate gradients.
    """
    width = own.shape[1]
    one = np.float32(1)
    # Rows: what is left, direction, what the direction gives, diagonal, its inverse, what is left, conditioned.
    work = np.zeros((6, width), dtype=np.float32)
    for row in range(begin, end):
        first, last = start[row], start[row + 1]
        if first == last:
            own[row, :] = 0
            continue
        for factor in range(width):
            work[3, factor] = common[factor] + ridge[row]
            work[4, factor] = one / work[3, factor]
            work[0, factor] = -work[3, factor] * own[row, factor]
        for place in range(first, last):
            said = weight[place] * (one - dot(other, np.int64(column[place]), own, row))
            add_scaled(said, other, np.int64(column[place]), work, 0)
        for factor in range(width):
            work[1, factor] = work[0, factor] * work[4, factor]
        left = dot(work, 0, work, 1)
        for step in range(steps):
            for factor in range(width):
                work[2, factor] = work[3, factor] * work[1, factor]
            for place in range(first, last):
                said = weight[place] * dot(other, np.int64(column[place]), work, 1)
                add_scaled(said, other, np.int64(column[place]), work, 2)
            curved = dot(work, 1, work, 2)
            if not curved > 0:
                break
            length = np.float32(left / curved)
            add_scaled(length, work, 1, own, row)
            if step + 1 == steps:
                break
            add_scaled(-length, work, 2, work, 0)
            for factor in range(width):
                work[5, factor] = work[0, factor] * work[4, factor]
            after = dot(work, 0, work, 5)
            turned = np.float32(after / left)
            left = after
            for factor in range(width):
                work[1, factor] = work[5, factor] + turned * work[1, factor]


@kernel
def solve(matrix: NDArray[np.float64], right: NDArray[np.float64], size: int) -> None:
    """Solve symmetric positive definite equations by elimination; ``right`` becomes the solution.

    Args:
        matrix: (size or more, size or more): the upper triangle is read and overwritten.
        right: (size or more,).
        size: Number of equations. Cost: size³ / 6 in rows, which are vectors.
    """
    for pivot in range(size):
        for row in range(pivot + 1, size):
            share = matrix[pivot, row] / matrix[pivot, pivot]
            for column in range(row, size):
                matrix[row, column] -= share * matrix[pivot, column]
            right[row] -= share * right[pivot]
    for row in range(size - 1, -1, -1):
        total = right[row]
        for column in range(row + 1, size):
            total -= matrix[row, column] * right[column]
        right[row] = total / matrix[row, row]


@kernel
def fold_in(
    start: NDArray[np.int64],
    column: NDArray[np.int32],
    weight: NDArray[np.float32],
    factors: NDArray[np.float32],
    common: NDArray[np.float64],
    ridge: tuple[float, float, float],
    found: NDArray[np.float32],
) -> None:
    """Write the factors of the user of each history, solved in float64; zeros for an empty one.

    A history of m items, m at most d, is solved in m equations: with V its items, C their confidences and D the
    diagonal, x = D⁻¹ Vᵀ y where (C⁻¹ + V D⁻¹ Vᵀ) y = 1. A longer one in d: (D + Vᵀ C V) x = Vᵀ C 1.

    Args:
        start: Where the items of each history begin, (n + 1,).
        column: Row of each item, each once in a history, (entries,).
        weight: Confidence of each, more than 0, (entries,).
        factors: Of the items, (items, d), with a diagonal Gram matrix.
        common: Unobserved weight times the diagonal of the Gram matrix, (d,).
        ridge: a, b and c: D is ``common`` plus a (m + b) ** c.
        found: (n, d), written.
    """
    width = factors.shape[1]
    matrix, turned = np.empty((width, width), dtype=np.float64), np.empty((width, width), dtype=np.float64)
    right, diagonal = np.empty(width, dtype=np.float64), np.empty(width, dtype=np.float64)
    for number in range(len(start) - 1):
        first = start[number]
        count = start[number + 1] - first
        found[number, :] = 0
        if count == 0:
            continue
        added = ridge[0] * (np.float64(count) + ridge[1]) ** ridge[2]
        for factor in range(width):
            diagonal[factor] = common[factor] + added
        if count <= width:
            for place in range(count):
                for factor in range(width):
                    turned[factor, place] = factors[column[first + place], factor]
                matrix[place, :count] = 0
                matrix[place, place] = 1.0 / np.float64(weight[first + place])
                right[place] = 1.0
            for factor in range(width):
                for row in range(count):
                    share = turned[factor, row] / diagonal[factor]
                    for place in range(row, count):
                        matrix[row, place] += share * turned[factor, place]
            solve(matrix, right, count)
            for factor in range(width):
                total = 0.0
                for place in range(count):
                    total += turned[factor, place] * right[place]
                found[number, factor] = total / diagonal[factor]
            continue
        matrix[:, :] = 0
        for factor in range(width):
            matrix[factor, factor] = diagonal[factor]
            right[factor] = 0
        for place in range(first, first + count):
            for factor in range(width):
                turned[0, factor] = factors[column[place], factor]
            for row in range(width):
                share = np.float64(weight[place]) * turned[0, row]
                right[row] += share
                for factor in range(row, width):
                    matrix[row, factor] += share * turned[0, factor]
        solve(matrix, right, width)
        for factor in range(width):
            found[number, factor] = right[factor]
