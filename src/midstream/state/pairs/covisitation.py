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
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midstream.core.fold_step import FoldStep
from midstream.core.types import Index, Score
from midstream.state.ids.vocabulary import Vocabulary
from midstream.state.pairs.covisitation_query import (
    QUARTERS,
    RECENT_MAX,
    PairQuery,
    PairScratch,
    make_scratch,
    run_query,
    weights_of,
)
from midstream.state.settings import PAIR_ITEMS_MAX, PAIR_NEIGHBOURS_MAX, FoldSettings
from midstream.state.structures.aligned import aligned_zeros
from midstream.state.structures.borrowed import borrowed
from midstream.state.structures.decay import LANDMARK_HALF_LIVES, decay_weight, landmark_at, rebase_factor
from midstream.state.structures.exact_math import fading
from midstream.state.structures.kernel import inlined, kernel, signed
from midstream.state.structures.lanes import LANES, equal_lanes, first_equal, lowest_bit, lowest_lane
from midstream.state.structures.prefetch import LINE_BYTES, prefetch
from midstream.state.structures.stamped_table import Epochs

USED: Final = 0
"""Cell of the clock: 1 + the highest item index that has a neighbour."""
LANDMARK: Final = 1
"""Cell of the clock: the time that all weights stand for."""
AFTER_WEIGHTS: Final = fading(0.5, PAIR_ITEMS_MAX)
"""What an item weighs as the neighbour of the one d + 1 places before it."""
BEFORE_WEIGHTS: Final = 0.5 * AFTER_WEIGHTS
"""What an item weighs as the neighbour of the one d + 1 places after it."""

NEXT: Final = 4
"""Events for which rows are asked for in one go, as many ahead: an event has up to 11 rows of 6 lines."""
SHARE, LOW = 0, 1
"""Words of an item that lie beside one another: the bits of its share, and its low.

A low names a place of the row in its last byte; its other bits are those of a weight that no other place of the row is
below. As long as that place weighs less, it alone is the lightest, without a look at the others: weights only rise, and
a new neighbour takes that very place. 0 says nothing, as of a row that is not full."""
_PLACE: Final = 0xFF
_HEAVIEST: Final = np.iinfo(np.int64).max

Weights = NDArray[np.float64]


def row_words(row: int) -> int:
    """Return the words of 8 bytes that a line takes: weights, neighbours of 4 bytes, up to whole lines of memory."""
    of_line = LINE_BYTES // 8
    return (row + (row + 1) // 2 + of_line - 1) // of_line * of_line


@inlined
def place_in(items: Index, line: int, start: int, count: int, item: int) -> int:
    """Return the last place of an item among ``count`` of a line from ``start`` on, -1 = nowhere.

    Without a way out of the loop it takes a few instructions; unsigned places are not looked at for being below 0.
    """
    found = np.int32(0)
    begin = np.uint64(start)
    for place in range(count):
        is_it = items[line, begin + np.uint64(place)] == np.int32(item)
        found = max(found, np.int32(place + 1) if is_it else np.int32(0))
    return int(found) - 1


@inlined
def lowest(line: int, row: int, words: NDArray[np.int64]) -> int:
    """Return the lowest weight of a line, as its bits: they compare as the weights do, as none is below 0."""
    low = words[line, 0]
    at = 0
    while at + LANES <= row:
        low = min(low, lowest_lane(words, line, at))
        at += LANES
    while at < row:
        low = min(low, words[line, at])
        at += 1
    return int(low)


@inlined
def lightest(line: int, row: int, words: NDArray[np.int64], numbers: Index, item_hash: NDArray[np.uint64]) -> int:
    """Return the place of the neighbour that has to go."""
    low = lowest(line, row, words)
    start = 2 * row
    found, known, at = -1, 0, 0
    while at < row:
        is_whole = at + LANES <= row
        bits = equal_lanes(words, line, at, low) if is_whole else np.uint32(words[line, at] == low)
        while bits != np.uint32(0):
            place = at + lowest_bit(bits)
            bits &= bits - np.uint32(1)
            if found < 0:
                found = place
            else:
                known, other = signed(numbers[line, start + found]) - 1, signed(numbers[line, start + place]) - 1
                found = place if goes_first(other, known, item_hash) else found
        at += LANES if is_whole else 1
    return found


@inlined
def goes_first(item: int, other: int, item_hash: NDArray[np.uint64]) -> bool:
    """Return whether of two equally light neighbours the first has to go: higher id hash, then higher index."""
    mine, others = item_hash[item], item_hash[other]
    return bool(mine > others or (mine == others and item > other))


@inlined
def add_neighbour(
    line: int,
    row: int,
    words: NDArray[np.int64],
    numbers: Index,
    values: Weights,
    shares: Weights,
    lows: NDArray[np.int64],
    item: int,
    weight: float,
    item_hash: NDArray[np.uint64],
) -> None:
    """Add the weight of one pair to a line and its share; entries are item + 1, from the front, 0 = free."""
    start = 2 * row
    place = first_equal(numbers, line, start, row, item + 1)
    weighed = weight
    if place >= 0:
        weighed = values[line, place] + weight
    else:
        place = signed(lows[line]) & _PLACE
        if words[line, place] >= signed(lows[line]) - place:
            place = first_equal(numbers, line, start, row, 0)
            if place < 0:
                place = lightest(line, row, words, numbers, item_hash)
                words[line, place] = _HEAVIEST  # it goes: what is lowest now is that of the others
                lows[line] = lowest(line, row, words) & ~_PLACE | place
        numbers[line, start + place] = item + 1
    values[line, place] = weighed
    shares[line] += weight


@kernel
def move_landmark(
    now: int,
    half_life_ms: int,
    clock: NDArray[np.int64],
    weights: Weights,
    shares: Weights,
    lows: NDArray[np.int64],
) -> None:
    """Move the landmark that log time has passed on to the next, and all weights and shares with it."""
    landmark = landmark_at(now, half_life_ms)
    factor = rebase_factor(clock[LANDMARK], landmark, half_life_ms)
    clock[LANDMARK] = landmark
    weights[: clock[USED]] *= factor
    shares[: clock[USED]] *= factor
    lows[: clock[USED]] = 0


@inlined
def _look_ahead(event: int, item_index: Index, before: Index, words: NDArray[np.int64], shares: Weights) -> None:
    """Ask for the lines of later events: the branches of adding keep a CPU from looking ahead by itself."""
    count = len(item_index)
    for ahead in range(min(event + NEXT, count) if event > 0 else 0, min(event + 2 * NEXT, count)):
        place = 0
        while place < before.shape[1] and before[ahead, place] >= 0:
            for start in range(0, words.strides[0], LINE_BYTES):
                prefetch(words, signed(before[ahead, place]), start)
            prefetch(shares, signed(before[ahead, place]), 0)
            place += 1
        if place > 0:
            for start in range(0, words.strides[0], LINE_BYTES):
                prefetch(words, signed(item_index[ahead]), start)
            prefetch(shares, signed(item_index[ahead]), 0)


@kernel
def fold_pairs(
    item_index: Index,
    before: Index,
    event_time_ms: NDArray[np.int64],
    log_time_ms: NDArray[np.int64],
    half_life_ms: int,
    row: int,
    clock: NDArray[np.int64],
    words: NDArray[np.int64],
    numbers: Index,
    values: Weights,
    shares: Weights,
    lows: NDArray[np.int64],
    item_hash: NDArray[np.uint64],
) -> None:
    """Fold the events of a batch, each with the items that its session had before it, -1 = no more.

    ``words``, ``numbers`` and ``values`` are one memory as int64, int32 and float64, a line for each item: first the
    ``row`` weights, then the ``row`` neighbours.
    """
    places = before.shape[1]
    before, words, numbers, values, shares = borrowed((before, words, numbers, values, shares))
    lows, item_hash = borrowed((lows, item_hash))
    for event in range(len(item_index)):
        if event % NEXT == 0:
            _look_ahead(event, item_index, before, words, shares)
        item = signed(item_index[event])
        if before[event, 0] < 0 or place_in(before, event, 0, places, item) >= 0:
            continue
        now = log_time_ms[event]
        if now - clock[LANDMARK] >= half_life_ms * LANDMARK_HALF_LIVES:
            move_landmark(now, half_life_ms, clock, values[:, :row], shares, lows)
        decay = decay_weight(event_time_ms[event], clock[LANDMARK], half_life_ms)
        place = 0
        while place < places and before[event, place] >= 0:
            other = signed(before[event, place])
            clock[USED] = max(clock[USED], item + 1, other + 1)
            after, earlier = decay * AFTER_WEIGHTS[place], decay * BEFORE_WEIGHTS[place]
            add_neighbour(other, row, words, numbers, values, shares, lows, item, after, item_hash)
            add_neighbour(item, row, words, numbers, values, shares, lows, other, earlier, item_hash)
            place += 1


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


class PairColumns(NamedTuple):
    """Arrays that a query of the pairs reads, and its room."""

    neighbours: Index
    weights: Weights
    shares: Weights
    clock: NDArray[np.int64]
    scratch: PairScratch


def pair_bytes(settings: FoldSettings) -> int:
    """Return the bytes of the table."""
    row = min(settings.limits.pair_neighbours_max, PAIR_NEIGHBOURS_MAX)
    return settings.limits.items_max * (row_words(row) + 2) * 8


class PairRows(NamedTuple):
    """Arrays of the table and its options, in the order of ``fold_pairs``."""

    half_life_ms: int
    row: int
    clock: NDArray[np.int64]
    words: NDArray[np.int64]
    numbers: Index
    values: Weights
    shares: Weights
    lows: NDArray[np.int64]


class Pairs:
    """Neighbours of each item with their weights, by item index."""

    def __init__(self, settings: FoldSettings, vocabulary: Vocabulary) -> None:
        """Reserve the maximum; pages are paid when touched."""
        limits = settings.limits
        row = min(limits.pair_neighbours_max, PAIR_NEIGHBOURS_MAX)
        self._vocabulary = vocabulary
        self._half_life_ms = settings.pair_half_life.ms
        self._clock = np.zeros(2, dtype=np.int64)
        self._row = row
        # One memory, so that what an event needs of an item lies in one place.
        self._words = aligned_zeros((limits.items_max, row_words(row)), np.dtype(np.int64))
        self._numbers = self._words.view(np.int32)
        self._values = self._words.view(np.float64)
        beside = aligned_zeros((limits.items_max, 2), np.dtype(np.int64))
        self._shares = beside.view(np.float64)[:, SHARE]
        self._lows = beside[:, LOW]
        self.rows = PairRows(
            self._half_life_ms, row, self._clock, self._words, self._numbers, self._values, self._shares, self._lows
        )
        """For the one pass over all tables (``state.one_pass``)."""
        self._weights = self._values[:, :row]
        self._neighbours = self._numbers[:, 2 * row : 3 * row]
        self._scratch: PairScratch = make_scratch(row)
        self.epochs = Epochs(self._scratch.items)
        """Numbers of queries: each query over the room of ``columns`` takes one."""

    def apply(self, step: FoldStep) -> None:
        """Fold a step: of its events, items, times and what their sessions had before are read.

        Cost: 50 to 90 ns a pair and direction, by how many items are in the cache.
        """
        batch = step.events
        fold_pairs(
            batch.item_index, step.sessions.before, batch.event_time_ms, batch.log_time_ms, *self.rows,
            self._vocabulary.item_hash,
        )  # fmt: skip

    @property
    def columns(self) -> PairColumns:
        """The arrays themselves: they stay the same for as long as the table is."""
        return PairColumns(self._neighbours, self._weights, self._shares, self._clock, self._scratch)

    @property
    def half_life_ms(self) -> int:
        """Half-life of the weights."""
        return self._half_life_ms

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
            self.epochs.next(),
            recent,
            hidden if query.allow_session_items else recent,
            weights_of(query),
            query.same_item,
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
        """Replace the table by what ``arrays`` returned."""
        for each in (self._words, self._shares, self._lows):
            each[: int(self._clock[USED])] = 0
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
        return self.bytes_max * int(self._clock[USED]) // len(self._words)

    @property
    def bytes_max(self) -> int:
        """Memory when every page has been touched."""
        return self._words.nbytes + self._shares.nbytes + self._lows.nbytes

    def _factor(self, now_ms: int) -> float:
        """Return what a weight is multiplied by to be that of a time."""
        return decay_weight(int(self._clock[LANDMARK]), now_ms, self._half_life_ms)
