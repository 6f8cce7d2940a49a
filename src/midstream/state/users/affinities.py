"""Affinities of users: for each category attribute the values of the items acted on, weighted and decayed.

Sixteen values are kept. When all places are taken, a new value takes the place of the one with the smallest
weight in either direction, if it weighs as much: weights of older events shrink beside those of new ones,
so what a user turns to gets in. An act against an item counts against its value.

Weights are float32 relative to a landmark in the row, which moves by whole half-lives when the row is next
written.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midstream.core.kinds import Kind
from midstream.core.types import Index, Mask, Score
from midstream.state.structures.decay import decay_weight, landmark_at, rebase_factor
from midstream.state.structures.kernel import kernel, signed

AFFINITIES_MAX = 16
"""Values kept for each attribute: 8 bytes each in every user's row."""
AFFINITY_HALF_LIFE_MS = 2_592_000_000
"""30 days."""
_INTERACTION = int(Kind.INTERACTION)


class AffinityRows(NamedTuple):
    """Where affinities to all attributes lie, beside ``UserRows``."""

    weights: NDArray[np.float64]
    at: NDArray[np.int64]
    """Places in a row, as ``fold_affinities`` is given them, (attributes, 3)."""
    codes: NDArray[np.int64]
    """Address and length of the attribute's codes by item, (attributes, 2); items hold them for good."""
    floats: NDArray[np.float32]


@kernel
def fold_affinities(
    kind: NDArray[np.uint8],
    action: NDArray[np.int16],
    folded: Mask,
    user_index: NDArray[np.int32],
    user_is_new: Mask,
    item_index: NDArray[np.int32],
    event_time_ms: NDArray[np.int64],
    log_time_ms: NDArray[np.int64],
    weights: NDArray[np.float64],
    codes: Index,
    at: NDArray[np.int64],
    ints: NDArray[np.int32],
    floats: NDArray[np.float32],
    longs: NDArray[np.int64],
) -> None:
    """Fold a batch into the affinities to one attribute.

    Args:
        kind: This and the following columns as in ``IndexedBatch``, shape (n,).
        action: Number of the action.
        folded: False for duplicates.
        user_index: Slot.
        user_is_new: The slot starts cold.
        item_index: Item.
        event_time_ms: What the weight decays from.
        log_time_ms: What the landmark follows.
        weights: Weight of each action.
        codes: Value code of each item, -1 = none.
        at: Where landmark, codes and weights lie in a row, each in units of its type.
        ints: Rows as int32, (users, bytes / 4). A code is kept plus 1, so that 0 is an empty place.
        floats: The same memory as float32.
        longs: The same memory as int64.
    """
    for i in range(len(kind)):
        if not folded[i] or user_index[i] < 0:
            continue
        user = signed(user_index[i])
        if user_is_new[i]:
            longs[user, at[0]] = 0
            ints[user, at[1] : at[1] + AFFINITIES_MAX] = 0
            floats[user, at[2] : at[2] + AFFINITIES_MAX] = 0
        if kind[i] != _INTERACTION or action[i] < 0 or item_index[i] < 0 or item_index[i] >= len(codes):
            continue
        code = signed(codes[item_index[i]])
        weight = float(weights[action[i]])
        if code < 0 or weight == 0.0:
            continue
        landmark = landmark_at(log_time_ms[i], AFFINITY_HALF_LIFE_MS)
        if longs[user, at[0]] != landmark:
            factor = rebase_factor(longs[user, at[0]], landmark, AFFINITY_HALF_LIFE_MS)
            for each in range(AFFINITIES_MAX):
                floats[user, at[2] + each] = np.float32(np.float64(floats[user, at[2] + each]) * factor)
            longs[user, at[0]] = landmark
        added = weight * decay_weight(event_time_ms[i], landmark, AFFINITY_HALF_LIFE_MS)
        _add(user, code, added, at, ints, floats)


@kernel
def merge_affinities(
    into: int,
    other: int,
    at: NDArray[np.int64],
    ints: NDArray[np.int32],
    floats: NDArray[np.float32],
    longs: NDArray[np.int64],
) -> None:
    """Add the affinities of one user to those of another, place by place, at the later of their landmarks.

    The landmarks lie whole half-lives apart, so bringing the older weights to the later one is exact.
    """
    landmark = max(longs[into, at[0]], longs[other, at[0]])
    factor = rebase_factor(longs[into, at[0]], landmark, AFFINITY_HALF_LIFE_MS)
    for each in range(AFFINITIES_MAX):
        floats[into, at[2] + each] = np.float32(np.float64(floats[into, at[2] + each]) * factor)
    longs[into, at[0]] = landmark
    factor = rebase_factor(longs[other, at[0]], landmark, AFFINITY_HALF_LIFE_MS)
    for each in range(AFFINITIES_MAX):
        if ints[other, at[1] + each] > 0:
            added = np.float64(floats[other, at[2] + each]) * factor
            _add(into, signed(ints[other, at[1] + each]) - 1, added, at, ints, floats)


@kernel
def _add(
    user: int,
    code: int,
    added: float,
    at: NDArray[np.int64],
    ints: NDArray[np.int32],
    floats: NDArray[np.float32],
) -> None:
    smallest = 0
    for each in range(AFFINITIES_MAX):
        held = ints[user, at[1] + each]
        if held == code + 1 or held == 0:
            ints[user, at[1] + each] = code + 1
            # The sum in float64, rounded once: the same in NumPy and in machine code.
            floats[user, at[2] + each] = np.float32(np.float64(floats[user, at[2] + each]) + added)
            return
        if abs(floats[user, at[2] + each]) < abs(floats[user, at[2] + smallest]):
            smallest = each
    if abs(np.float32(added)) >= abs(floats[user, at[2] + smallest]):
        ints[user, at[1] + smallest] = code + 1
        floats[user, at[2] + smallest] = np.float32(added)


@kernel
def read_affinities(
    user: int,
    now_ms: int,
    at: NDArray[np.int64],
    ints: NDArray[np.int32],
    floats: NDArray[np.float32],
    longs: NDArray[np.int64],
    code: Index,
    weight: Score,
) -> int:
    """Write the codes and weights of one user as of ``now_ms``; return how many there are."""
    count = 0
    factor = decay_weight(longs[user, at[0]], now_ms, AFFINITY_HALF_LIFE_MS)
    for each in range(AFFINITIES_MAX):
        if ints[user, at[1] + each] > 0:
            code[count] = ints[user, at[1] + each] - 1
            weight[count] = np.float32(np.float64(floats[user, at[2] + each]) * factor)
            count += 1
    return count
