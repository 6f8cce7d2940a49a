"""Co-visitation: for each item the items that are acted on in the same sessions, with a decayed weight.

Each act that belongs to a session makes pairs with the last distinct items of that session (``Sessions.number`` says
which): each of the two items gets the other as a neighbour. The later one weighs 1 as the neighbour of the earlier one
and the earlier one 0.5 as that of the later, for what comes next is what will be asked for; both weigh less with each
place between the two. Over time weights fall with one half-life (forward decay), each act having the weight of its
event time, so that a late one counts as what it is.

An item that is among the session's last ones already makes no pair again: a page that is loaded anew says nothing new.
An act against an item belongs to no session and makes no pair. What an action is worth does not count: a pair says that
two items were looked for together.

A row holds ``pair_neighbours_max`` neighbours. When a new one comes to a full row the lightest goes, of equal ones the
one with the highest id hash; the new one begins at its own weight, so no weight is ever more than the true one. To let
it take over the weight of the lightest (Space-Saving) was measured and is much worse (docs/decisions/0008-pairs.md).

The sum of an item's pair weights, of neighbours that have left too, is its *share*: it makes weights of popular and of
rare items comparable.

References: G. Linden, B. Smith, J. York, Amazon.com Recommendations: Item-to-Item Collaborative Filtering, IEEE
Internet Computing, 2003. G. Cormode et al., Forward Decay, ICDE 2009.
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index, IndexedBatch, Score
from midstream.state.decay import LANDMARK_HALF_LIVES, decay_weight, landmark_at, rebase_factor
from midstream.state.kernel import kernel
from midstream.state.logarithm import fading
from midstream.state.marked_table import EPOCH_MAX
from midstream.state.pair_query import QUARTERS, RECENT_MAX, PairQuery, Scratch, make_scratch, run_query, weights_of
from midstream.state.sessions import BEFORE_MAX
from midstream.state.settings import FoldSettings
from midstream.state.vocabulary import Vocabulary

NEIGHBOURS_MAX: Final = 255
"""Neighbours of an item at most, whatever is configured: lengths of rows are one byte."""
USED: Final = 0
"""Cell of the clock: 1 + the highest item index that has a neighbour."""
LANDMARK: Final = 1
"""Cell of the clock: the time that all weights stand for."""
AFTER_WEIGHTS: Final = fading(0.5, BEFORE_MAX)
"""What an item weighs as the neighbour of the one d + 1 places before it."""
BEFORE_WEIGHTS: Final = 0.5 * AFTER_WEIGHTS
"""What an item weighs as the neighbour of the one d + 1 places after it."""

Weights = NDArray[np.float64]


@kernel
def add_neighbour(row: Index, weights: Weights, item: int, weight: float, item_hash: NDArray[np.uint64]) -> None:
    """Add the weight of one pair to a row; entries are item + 1, from the front, 0 = free."""
    for place in range(len(row)):
        if row[place] == item + 1:
            weights[place] += weight
            return
        if row[place] == 0:
            row[place] = item + 1
            weights[place] = weight
            return
    least = 0
    for place in range(1, len(row)):
        if weights[place] < weights[least] or (
            weights[place] == weights[least] and goes_first(row[place] - 1, row[least] - 1, item_hash)
        ):
            least = place
    row[least] = item + 1
    weights[least] = weight


@kernel
def goes_first(item: int, other: int, item_hash: NDArray[np.uint64]) -> bool:
    """Return whether of two equally light neighbours the first has to go: higher id hash, then higher index."""
    if item_hash[item] != item_hash[other]:
        return bool(item_hash[item] > item_hash[other])
    return item > other


@kernel
def move_landmark(now: int, half_life_ms: int, clock: NDArray[np.int64], weights: Weights, shares: Weights) -> None:
    """Move the landmark that log time has passed on to the next, and all weights with it."""
    landmark = landmark_at(now, half_life_ms)
    factor = rebase_factor(clock[LANDMARK], landmark, half_life_ms)
    clock[LANDMARK] = landmark
    weights[: clock[USED]] *= factor
    shares[: clock[USED]] *= factor


@kernel
def is_among(item: int, items: Index) -> bool:
    """Return whether an item is among those before the first -1."""
    for other in items:
        if other == item:
            return True
        if other < 0:
            return False
    return False


@kernel
def fold_pairs(
    item_index: Index,
    before: Index,
    event_time_ms: NDArray[np.int64],
    log_time_ms: NDArray[np.int64],
    half_life_ms: int,
    clock: NDArray[np.int64],
    neighbours: Index,
    weights: Weights,
    shares: Weights,
    item_hash: NDArray[np.uint64],
) -> None:
    """Fold the events of a batch, each with the items that its session had before it, -1 = no more."""
    for event in range(len(item_index)):
        item = item_index[event]
        if before[event, 0] < 0 or is_among(item, before[event]):
            continue
        now = log_time_ms[event]
        if now - clock[LANDMARK] >= half_life_ms * LANDMARK_HALF_LIVES:
            move_landmark(now, half_life_ms, clock, weights, shares)
        decay = decay_weight(event_time_ms[event], clock[LANDMARK], half_life_ms)
        for place in range(before.shape[1]):
            other = before[event, place]
            if other < 0:
                break
            clock[USED] = max(clock[USED], item + 1, other + 1)
            add_neighbour(neighbours[other], weights[other], item, decay * AFTER_WEIGHTS[place], item_hash)
            shares[other] += decay * AFTER_WEIGHTS[place]
            add_neighbour(neighbours[item], weights[item], other, decay * BEFORE_WEIGHTS[place], item_hash)
            shares[item] += decay * BEFORE_WEIGHTS[place]


@kernel
def pack_rows(neighbours: Index, weights: Weights, lengths: NDArray[np.uint8], items_out: Index, out: Weights) -> None:
    """Write the rows end to end, each by item index."""
    written = 0
    for row in range(len(lengths)):
        for place in range(lengths[row]):
            item = neighbours[row, place] - 1
            gap = written + place
            while gap > written and items_out[gap - 1] > item:
                items_out[gap] = items_out[gap - 1]
                out[gap] = out[gap - 1]
                gap -= 1
            items_out[gap] = item
            out[gap] = weights[row, place]
        written += lengths[row]


@kernel
def unpack_rows(lengths: NDArray[np.uint8], items: Index, values: Weights, neighbours: Index, weights: Weights) -> None:
    """Fill empty rows. The inverse of ``pack_rows``, but for the places within a row, on which nothing depends."""
    read = 0
    for row in range(len(lengths)):
        for place in range(lengths[row]):
            neighbours[row, place] = items[read] + 1
            weights[row, place] = values[read]
            read += 1


class Pairs:
    """Neighbours of each item with their weights, by item index."""

    def __init__(self, settings: FoldSettings, vocabulary: Vocabulary) -> None:
        """Reserve the maximum; pages are paid when touched."""
        limits = settings.limits
        row = min(limits.pair_neighbours_max, NEIGHBOURS_MAX)
        self._vocabulary = vocabulary
        self._half_life_ms = settings.pair_half_life.ms
        self._clock = np.zeros(2, dtype=np.int64)
        self._neighbours = np.zeros((limits.items_max, row), dtype=np.int32)
        self._weights = np.zeros((limits.items_max, row), dtype=np.float64)
        self._shares = np.zeros(limits.items_max, dtype=np.float64)
        self._epoch = 0
        self._scratch: Scratch = make_scratch(row)

    def apply(self, batch: IndexedBatch, before: Index) -> None:
        """Fold a batch.

        Args:
            batch: Of which items and times are read.
            before: What ``Sessions.number`` gave for this batch.

        Cost: about 15 ns a pair and direction.
        """
        fold_pairs(
            batch.item_index,
            before,
            batch.event_time_ms,
            batch.log_time_ms,
            self._half_life_ms,
            self._clock,
            self._neighbours,
            self._weights,
            self._shares,
            self._vocabulary.item_hash,
        )

    def neighbours(self, item_index: int, now_ms: int) -> tuple[Index, Weights]:
        """Return the neighbours of an item, by index, and their weights at a time: 1 = acted on next after it, now."""
        held = self._neighbours[item_index]
        held = held[: int(np.count_nonzero(held))] - 1
        order = np.argsort(held)
        return held[order], self._weights[item_index, order] * self._factor(now_ms)

    def share(self, item_index: int, now_ms: int) -> float:
        """Return the sum of an item's pair weights at a time, of neighbours that left the row too."""
        return float(self._shares[item_index]) * self._factor(now_ms)

    def score(self, query: PairQuery, recent: Index, now_ms: int) -> tuple[Index, Score]:
        """Return the items that go with those of a session, best first; equal ones by id hash.

        Args:
            query: What counts how much, and how many.
            recent: Items of the asking session, oldest first, -1 = not known; may hold an item more than once. The
                newest 1,024 are read.
            now_ms: The time at which shares are compared.

        Returns:
            At most ``query.limit`` distinct items and their scores, which compare within one answer only. Nothing
            when none of the items has a neighbour.
        """
        # A copy, because numba compiles anew for an array that is read-only or of another type.
        recent = np.array(recent[-RECENT_MAX:], dtype=np.int32)
        hidden = recent[-1:] if query.exclude_last_item else recent[:0]
        answer_items = np.empty(query.limit, dtype=np.int32)
        answer_scores = np.empty(query.limit, dtype=np.float32)
        found = run_query(
            self._next_epoch(),
            recent,
            hidden if query.allow_session_items else recent,
            weights_of(query),
            QUARTERS[query.popularity],
            self._factor(now_ms),
            self._neighbours,
            self._weights,
            self._shares,
            self._vocabulary.item_hash,
            self._scratch,
            answer_items,
            answer_scores,
        )
        return answer_items[:found], answer_scores[:found]

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the landmark, and of each item up to the last that has any: its share and its row, by item index."""
        used = int(self._clock[USED])
        lengths = np.count_nonzero(self._neighbours[:used], axis=1).astype(np.uint8)
        total = int(lengths.sum(dtype=np.int64))
        items = np.empty(total, dtype=np.int32)
        weights = np.empty(total, dtype=np.float64)
        pack_rows(self._neighbours, self._weights, lengths, items, weights)
        return {
            "clock": self._clock.copy(),
            "share": self._shares[:used].copy(),
            "length": lengths,
            "neighbour": items,
            "weight": weights,
        }

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Become the table whose ``arrays`` these are."""
        before = int(self._clock[USED])
        for zeroed in (self._neighbours, self._weights, self._shares):
            zeroed[:before] = 0
        self._clock[:] = arrays["clock"]
        self._shares[: int(self._clock[USED])] = arrays["share"]
        unpack_rows(
            arrays["length"].astype(np.uint8),
            arrays["neighbour"].astype(np.int32),
            arrays["weight"].astype(np.float64),
            self._neighbours,
            self._weights,
        )

    @property
    def bytes_now(self) -> int:
        """Memory of what has been used, about."""
        return self.bytes_max * int(self._clock[USED]) // max(len(self._shares), 1)

    @property
    def bytes_max(self) -> int:
        """Memory when every page has been touched."""
        return self._neighbours.nbytes + self._weights.nbytes + self._shares.nbytes

    def _factor(self, now_ms: int) -> float:
        """Return what a weight is multiplied by to be that of a time."""
        return decay_weight(int(self._clock[LANDMARK]), now_ms, self._half_life_ms)

    def _next_epoch(self) -> int:
        """Return the number of a new query. When numbers run out all marks go, so that none is taken for a new one."""
        if self._epoch >= EPOCH_MAX:
            self._scratch.items[:] = 0
            self._epoch = 0
        self._epoch += 1
        return self._epoch
