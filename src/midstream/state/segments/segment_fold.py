"""The kernel of the segments table: one call folds the acts and changes of a part of a batch, in log order."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from midstream.core.kinds import Kind
from midstream.core.types import Index, Mask
from midstream.state.structures.decay import LANDMARK_HALF_LIVES, decay_weight, landmark_at, rebase_factor
from midstream.state.structures.hot_lists import rescale_heat, switch_item
from midstream.state.structures.kernel import kernel, signed
from midstream.state.structures.top_list import raise_item

_INTERACTION = int(Kind.INTERACTION)
COUNT: Final = 0
"""Cell of the clock: 1 + the highest item index that an event named."""
LOG_TIME: Final = 1
"""Cell of the clock: log time of the last event."""
LANDMARK: Final = 2
"""Cell of the clock: from where heat is weighed."""

Columns = NDArray[np.float64]


@kernel
def fold_segments(
    kind: NDArray[np.uint8],
    action: NDArray[np.int16],
    folded: Mask,
    user_index: Index,
    user_is_new: Mask,
    item_index: Index,
    event_time_ms: NDArray[np.int64],
    log_time_ms: NDArray[np.int64],
    context_code: NDArray[np.int16],
    profile_event: NDArray[np.int64],
    profile_code: NDArray[np.int16],
    weights: Columns,
    half_life: int,
    available: Mask,
    values: int,
    clock: NDArray[np.int64],
    user_code: NDArray[np.int16],
    eligible: Mask,
    totals: Columns,
    heat: Columns,
    list_values: Columns,
    list_items: Index,
    list_states: NDArray[np.int64],
    item_hash: NDArray[np.uint64],
) -> None:
    """Fold a part of a batch.

    Shapes, with v values, i items: heat (v, i), totals (v + 1,), the last of the whole; lists (v, capacity). Of n
    events ``context_code`` is (n,), or empty where users have the segment; ``profile_event`` rises and names those that
    changed a profile, ``profile_code`` what the user has after them. ``values`` are in use.
    """
    changes = 0
    for event in range(len(kind)):
        now = log_time_ms[event]
        if now > clock[LOG_TIME]:
            clock[LOG_TIME] = now
            _move_landmark(
                half_life, values, clock, eligible, totals, heat, list_values, list_items, list_states, item_hash
            )
        if not folded[event]:
            continue
        user = user_index[event]
        if user >= 0 and user_is_new[event]:
            user_code[user] = 0
        if changes < len(profile_event) and profile_event[changes] == event:
            user_code[user] = profile_code[changes] + 1
            changes += 1
        item = item_index[event]
        if item < 0:
            continue
        clock[COUNT] = max(clock[COUNT], item + 1)
        if eligible[item] != available[item]:
            eligible[item] = available[item]
            switch_item(item, values, clock[COUNT], eligible, heat, list_values, list_items, list_states, item_hash)
        if kind[event] != _INTERACTION or action[event] < 0 or weights[action[event]] <= 0.0:
            continue
        added = weights[action[event]] * decay_weight(event_time_ms[event], clock[LANDMARK], half_life)
        totals[len(totals) - 1] += added
        code = _code_of(event, user, context_code, user_code)
        if code < 0:
            continue
        totals[code] += added
        old = heat[code, item]
        heat[code, item] = old + added
        if eligible[item]:
            raise_item(list_values[code], list_items[code], list_states[code], item, old, heat[code, item], item_hash)


@kernel
def _code_of(event: int, user: int, context_code: NDArray[np.int16], user_code: NDArray[np.int16]) -> int:
    """Return the code of an act's segment, -1 = none."""
    if len(context_code):
        return signed(context_code[event])
    return signed(user_code[user]) - 1 if user >= 0 else -1


@kernel
def _move_landmark(
    half_life: int,
    values: int,
    clock: NDArray[np.int64],
    eligible: Mask,
    totals: Columns,
    heat: Columns,
    list_values: Columns,
    list_items: Index,
    list_states: NDArray[np.int64],
    item_hash: NDArray[np.uint64],
) -> None:
    """Move the landmark that log time has passed on to the next, and all sums with it: once in 32 half-lives."""
    if clock[LOG_TIME] - clock[LANDMARK] < half_life * LANDMARK_HALF_LIVES:
        return
    landmark = landmark_at(clock[LOG_TIME], half_life)
    factor = rebase_factor(clock[LANDMARK], landmark, half_life)
    clock[LANDMARK] = landmark
    totals *= factor
    for code in range(values):
        rescale_heat(
            factor,
            clock[COUNT],
            heat[code],
            eligible,
            list_values[code],
            list_items[code],
            list_states[code],
            item_hash,
        )
