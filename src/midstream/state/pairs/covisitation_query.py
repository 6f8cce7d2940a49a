"""The kernel that answers from the pairs: which items go with those of a session.

1. The asking session's last distinct items are looked up, latest first.
2. Each gives its neighbours the part of its own share that they have (which items were with it, in parts of 1), and
   itself ``same_item``, both times a weight that falls with the item's age in the asking session. These are added up,
   in the order in which they are met.
3. Each sum is divided by the neighbour's own share to the power of ``popularity``: 0 = what is seen most beside these
   items, 1 = what is seen beside these rather than beside others, 0.5 in between, like a cosine.

Every sum has a fixed order and roots are exact, so an answer has the same bits everywhere. Work is bounded by
``last_items_max`` x ``pair_neighbours_max``.

Reference: M. Deshpande, G. Karypis, Item-Based Top-N Recommendation Algorithms, ACM TOIS 22(1), 2004, section 4.1.2:
conditional probability, divided by the frequency of the item to a power.
"""

from functools import lru_cache
from typing import Annotated, Final, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index, Score
from midstream.state.structures.exact_math import fading
from midstream.state.structures.item_query import enter_distinct, leave_out_each, write_best
from midstream.state.structures.kernel import kernel
from midstream.state.structures.stamped_table import PLACE, STAMP, Table, cell_of, table_bits, table_size
from midstream.state.structures.top_k_keys import BINS, Keys, key_of

LAST_ITEMS_MAX: Final = 50
ANSWER_MAX: Final = 1_000
RECENT_MAX: Final = 1_024
"""Items of the asking session that are read, and left out of the answer if so asked."""
SMOOTHING: Final = 10.0
"""Added to every share before the power is taken: an item that was with others once or twice is no proof of anything.
Chosen on four validation parts, from 0, 1, 3 and 10 (docs/decisions/0008-pairs.md)."""
SHARE_MIN: Final = 1e-200
"""A smaller share counts as none, so that nothing is divided by it: its last pair is 600 half-lives old."""
QUARTERS: Final = {"0": 0, "0.25": 1, "0.5": 2, "0.75": 3, "1": 4}
"""Values of ``popularity``. Others would need ``pow``, which differs between mathematical libraries."""

Values = NDArray[np.float64]
Decay = Annotated[float, msgspec.Meta(ge=0.0, le=100.0)]
Power = Literal["0", "0.25", "0.5", "0.75", "1"]


class PairQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Weights and limits of a query. The defaults were chosen on validation parts of real data."""

    last_items_max: Annotated[int, msgspec.Meta(ge=1, le=LAST_ITEMS_MAX)] = 5
    """Last distinct items of the session that are looked up."""
    position_decay: Decay = 1.0
    """How fast an item of the session loses weight: exp(-position_decay * r), r items before the latest."""
    same_item: Annotated[float, msgspec.Meta(ge=0.0, le=1_000.0)] = 0.1
    """What an item of the session is to itself, its neighbours together being 1: how often visitors come back to it."""
    popularity: Power = "0.25"
    """Power of its own share that a neighbour's sum is divided by: "0", "0.25", "0.5", "0.75" or "1"."""
    allow_session_items: bool = True
    """Whether items of the asking session may be proposed; ``repeats`` of a placement says what may be served."""
    exclude_last_item: bool = True
    """Whether the latest item of the asking session is left out although the others may come back."""
    limit: Annotated[int, msgspec.Meta(ge=1, le=ANSWER_MAX)] = 100
    """Items proposed at most."""


class PairScratch(NamedTuple):
    """Room to work in; holds nothing from one query to the next but marks with the query's number."""

    items: Table
    """Hash table from item to place in ``scored``."""
    numbers: Index
    """One after another: items asked for, bins, scored items."""
    score: Values
    """By place in ``scored``."""
    keys: Keys
    """Keys, and room to choose and to sort."""


_BINS_START: Final = LAST_ITEMS_MAX
_SCORED_START: Final = _BINS_START + BINS


def make_scratch(neighbours_max: int) -> PairScratch:
    """Reserve room for the largest query over rows of so many neighbours."""
    most = LAST_ITEMS_MAX * (neighbours_max + 1)
    return PairScratch(
        items=np.zeros((table_size(most + RECENT_MAX), 2), dtype=np.int64),
        numbers=np.zeros(_SCORED_START + most, dtype=np.int32),
        score=np.zeros(most, dtype=np.float64),
        keys=np.zeros((3, most), dtype=np.uint64),
    )


@lru_cache(maxsize=64)
def weights_of(query: PairQuery) -> Values:
    """Return the weight of each of the last items, latest first."""
    return fading(query.position_decay, query.last_items_max)


@kernel
def raised(value: float, quarters: int) -> float:
    """Return a number to the power of a number of quarters, 0 to 4."""
    root = np.sqrt(value)
    if quarters == 0:
        return 1.0
    if quarters == 1:
        return float(np.sqrt(root))
    if quarters == 2:  # noqa: PLR2004  # a power, not a threshold
        return float(root)
    if quarters == 3:  # noqa: PLR2004  # as above
        return float(root * np.sqrt(root))
    return value


@kernel
def choose_last(recent: Index, count_max: int, shares: Values, asked: Index) -> int:
    """Write the last distinct items that have a neighbour to ``asked``, latest first; return how many."""
    count = 0
    for position in range(len(recent) - 1, -1, -1):
        item = recent[position]
        if item < 0 or shares[item] < SHARE_MIN:
            continue
        count = enter_distinct(item, count, asked)
        if count == count_max:
            break
    return count


@kernel
def add_score(
    item: int, value: float, count: int, epoch: int, bits: int, table: Table, scored: Index, score: Values
) -> int:
    """Add to the score of an item unless it is to be left out; return how many items there are now."""
    stamp = epoch << 32 | item
    cell = cell_of(table, bits, stamp)
    if table[cell, STAMP] != stamp:
        table[cell, STAMP] = stamp
        table[cell, PLACE] = count
        scored[count] = item
        score[count] = value
        return count + 1
    if table[cell, PLACE] >= 0:
        score[table[cell, PLACE]] += value
    return count


@kernel
def add_up(
    asked: Index,
    weights: Values,
    same_item: float,
    neighbours: Index,
    pair_weights: Values,
    shares: Values,
    epoch: int,
    bits: int,
    table: Table,
    scored: Index,
    score: Values,
) -> int:
    """Add up what the neighbours of the asked items have of their shares; return how many items there are."""
    count = 0
    for rank in range(len(asked)):
        asked_item = int(asked[rank])
        if same_item > 0.0:
            value = weights[rank] * same_item
            count = add_score(asked_item, value, count, epoch, bits, table, scored, score)
        strength = weights[rank] / shares[asked_item]
        for place in range(neighbours.shape[1]):
            item = int(neighbours[asked_item, place]) - 1
            if item < 0:
                break
            value = strength * pair_weights[asked_item, place]
            count = add_score(item, value, count, epoch, bits, table, scored, score)
    return count


@kernel
def run_query(
    epoch: int,
    recent: Index,
    hidden: Index,
    weights: Values,
    same_item: float,
    quarters: int,
    factor: float,
    neighbours: Index,
    pair_weights: Values,
    shares: Values,
    item_hash: Keys,
    scratch: PairScratch,
    answer_items: Index,
    answer_scores: Score,
) -> int:
    """Write the answer to query number ``epoch``; return its length.

    ``hidden`` are items to leave out, -1 allowed; a share times ``factor`` is what it is worth now.
    """
    asked = scratch.numbers[: choose_last(recent, len(weights), shares, scratch.numbers)]
    if len(asked) == 0:
        return 0
    bits = table_bits(len(asked) * (neighbours.shape[1] + 1) + len(hidden))
    leave_out_each(hidden, epoch, bits, scratch.items)
    scored = scratch.numbers[_SCORED_START:]
    score = scratch.score
    count = add_up(
        asked, weights, same_item, neighbours, pair_weights, shares, epoch, bits, scratch.items, scored, score,
    )  # fmt: skip
    keys = scratch.keys
    for place in range(count):
        share = shares[scored[place]] * factor + SMOOTHING
        keys[0, place] = key_of(score[place] / raised(float(share), quarters), place)
    bins = scratch.numbers[_BINS_START:_SCORED_START]
    return write_best(count, scored, item_hash, bins, keys, answer_items, answer_scores)
