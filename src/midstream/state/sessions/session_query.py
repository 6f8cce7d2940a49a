"""The kernel that answers from the session index: VMIS-kNN whose neighbours are read in order.

1. The asking session's last distinct items are looked up, latest first. Each held session that has one of them gets
   a similarity: the sum, over shared items, of a weight that falls with the item's age in the asking session, times
   the item's rarity, log2((sessions + 1) / sessions with the item).
2. The most similar sessions are the neighbours; of equal ones the newer.
3. A neighbour votes for its items: similarity to the power of ``sharpness``, falling with the age of the latest shared
   item, and with the distance from that item's place in the neighbour, before and after it alike.
4. Votes are added up, in the order in which neighbours were met, and multiplied by the item's rarity.

That neighbours are read in order is what gains most over plain VMIS-kNN. Every sum has a fixed order and no ``exp``
or ``log`` of a library takes part, so an answer has the same bits everywhere. Work is bounded by the options:
``last_items_max`` x ``entries_max`` entries, ``neighbours_max`` rows of items. Sessions and items that a query meets
are found in two open hash tables, marked with the number of the query so that nothing is ever cleared, as large as
the query needs and no larger, so that they stay in the cache.

References: B. Kersbergen, O. Sprangers, S. Schelter, Serenade, SIGMOD 2022, algorithm 2. D. Garg, P. Gupta,
P. Malhotra, L. Vig, G. Shroff, Sequence and Time Aware Neighborhood for Session-based Recommendations: STAN,
SIGIR 2019.
"""

from functools import lru_cache
from typing import Annotated, Final, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index, Score
from midstream.state.sessions.session_lists import COUNT, ENTRIES_MAX, FIRST, entry_at
from midstream.state.structures.exact_math import fading, log2_of
from midstream.state.structures.item_query import enter_distinct, leave_out_each, write_best
from midstream.state.structures.kernel import kernel
from midstream.state.structures.stamped_table import PLACE, STAMP, Table, cell_of, leave_out, table_bits, table_size
from midstream.state.structures.top_k_keys import BINS, Keys, key_of, largest_key

LAST_ITEMS_MAX: Final = 50
NEIGHBOURS_MAX: Final = 1_000
ANSWER_MAX: Final = 1_000
RECENT_MAX: Final = 1_024
"""Items of the asking session that are read, and left out of the answer if so asked."""
EXCLUDED_MAX: Final = 64
PLACES: Final = 64
"""Length of the tables of weights; what is further away weighs as the last."""
_NEWEST: Final = 0
_LIVE: Final = 1
_SLOT: Final = 0
_LATEST: Final = 1
_CHOSEN_START: Final = LAST_ITEMS_MAX
_LENGTHS_START: Final = _CHOSEN_START + NEIGHBOURS_MAX
_BINS_START: Final = _LENGTHS_START + NEIGHBOURS_MAX
_SCORED_START: Final = _BINS_START + BINS

POWERS: Final = {"1": 1.0, "1.5": 1.5, "2": 2.0}
"""Values of ``sharpness``. Others would need ``pow``, which differs between mathematical libraries."""
Values = NDArray[np.float64]
Decay = Annotated[float, msgspec.Meta(ge=0.0, le=100.0)]


class SessionQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Weights and limits of a query. The defaults were chosen on validation parts of real data."""

    last_items_max: Annotated[int, msgspec.Meta(ge=1, le=LAST_ITEMS_MAX)] = 10
    """Last distinct items of the session that are looked up."""
    entries_max: Annotated[int, msgspec.Meta(ge=1)] = 500
    """Newest sessions looked at for each of them (m); [limits] index_entries_max at most."""
    neighbours_max: Annotated[int, msgspec.Meta(ge=1, le=NEIGHBOURS_MAX)] = 100
    """Most similar sessions, whose items are proposed (k); it decides the cost."""
    position_decay: Decay = 0.35
    """How fast an item of the session loses weight in the similarity: exp(-position_decay * r), r items back."""
    match_decay: Decay = 0.3
    """How fast a neighbour loses weight: exp(-match_decay * r) where its latest shared item lies r items back."""
    distance_decay: Decay = 0.5
    """How fast an item of a neighbour loses weight with each place from the shared one.

    A vote for an item d places after it weighs exp(-distance_decay * (d - 1)), d places before it
    exp(-distance_decay * d).
    """
    same_item: Annotated[float, msgspec.Meta(ge=0.0, le=1_000.0)] = 0.3
    """Weight of the vote for the shared item itself: about 3 where visitors often come back to an item.

    Chosen on four validation parts (docs/quality.md).
    """
    sharpness: Literal["1", "1.5", "2"] = "2"
    """Power of the similarity in the vote: "1", "1.5" or "2"."""
    allow_session_items: bool = True
    """Whether items of the asking session may be proposed; ``repeats`` of a placement says what may be served."""
    exclude_last_item: bool = True
    """Whether the latest item of the asking session is left out although the others may come back."""
    limit: Annotated[int, msgspec.Meta(ge=1, le=ANSWER_MAX)] = 200
    """Items proposed at most."""


class SessionScratch(NamedTuple):
    """Room to work in; holds nothing from one query to the next but marks with the query's number."""

    sessions: Table
    """Hash table from slot to place in ``touched``."""
    items: Table
    """Hash table from item to place in ``scored``."""
    touched: Index
    """(slot, rank of the latest shared item) of each session met."""
    rows: Index
    """Items of each neighbour."""
    numbers: Index
    """One after another: items asked for, neighbours' places in ``touched``, their lengths, bins, scored items."""
    values: Values
    """Similarity by place in ``touched``; score by place in ``scored``."""
    keys: Keys
    """Keys, and room to choose and to sort."""


@lru_cache(maxsize=64)
def weights_of(query: SessionQuery) -> Values:
    """Return the decays of a query as tables, one after another.

    ``PLACES`` weights by position in the asking session, as many by rank of the latest shared item, and 2 * PLACES - 1
    by distance + PLACES - 1, from PLACES - 1 places before the shared item to as many after it.
    """
    fade = fading(query.distance_decay, PLACES)
    position, match = fading(query.position_decay, PLACES), fading(query.match_decay, PLACES)
    return np.concatenate([position, match, fade[:0:-1], [query.same_item], fade[:-1]])


def make_scratch(row: int, entries_max: int) -> SessionScratch:
    """Reserve room for the largest query over sessions of ``row`` items and lists of ``entries_max``."""
    touched_max = LAST_ITEMS_MAX * entries_max
    scored_max = NEIGHBOURS_MAX * row
    most = max(touched_max, scored_max)
    return SessionScratch(
        sessions=np.zeros((table_size(touched_max + EXCLUDED_MAX), 2), dtype=np.int64),
        items=np.zeros((table_size(scored_max + RECENT_MAX), 2), dtype=np.int64),
        touched=np.zeros((touched_max, 2), dtype=np.int32),
        rows=np.zeros((NEIGHBOURS_MAX, row), dtype=np.int32),
        numbers=np.zeros(_SCORED_START + scored_max, dtype=np.int32),
        values=np.zeros((2, most), dtype=np.float64),
        keys=np.zeros((3, most), dtype=np.uint64),
    )


@kernel
def choose_asked(recent: Index, heads: Index, last_items_max: int, asked: Index) -> int:
    """Write the last distinct items that any held session has to ``asked``, latest first; return how many."""
    count = 0
    for position in range(len(recent) - 1, -1, -1):
        item = recent[position]
        if item < 0 or heads[item, COUNT] == 0:
            continue
        count = enter_distinct(item, count, asked)
        if count == last_items_max:
            break
    return count


@kernel
def touch_sessions(
    asked: Index,
    entries_max: int,
    weights: Values,
    sessions_log2: float,
    postings: Index,
    heads: Index,
    ring: int,
    epoch: int,
    bits: int,
    table: Table,
    touched: Index,
    similarity: Values,
) -> int:
    """Add up the similarity of every session with one of the asked items; return how many there are.

    They are written in the order in which they are met: by latest shared item, newest session first.
    """
    count = 0
    for rank in range(len(asked)):
        item = asked[rank]
        held = heads[item, COUNT]
        weight = weights[rank] * (sessions_log2 - log2_of(float(held)))
        size = min(held, ring)
        place = heads[item, FIRST] + size - 1
        if place >= ring:
            place -= ring
        for _ in range(min(size, entries_max)):
            slot = int(postings[entry_at(item, place, len(heads))])
            place = place - 1 if place > 0 else ring - 1
            stamp = epoch << 32 | slot
            cell = cell_of(table, bits, stamp)
            if table[cell, STAMP] != stamp:
                table[cell, STAMP] = stamp
                table[cell, PLACE] = count
                touched[count, _SLOT] = slot
                touched[count, _LATEST] = rank
                similarity[count] = weight
                count += 1
            elif table[cell, PLACE] >= 0:
                similarity[table[cell, PLACE]] += weight
    return count


@kernel
def choose_neighbours(
    count: int,
    neighbours_max: int,
    newest_slot: int,
    items: Index,
    lengths: NDArray[np.uint8],
    touched: Index,
    similarity: Values,
    keys: Keys,
    chosen: Index,
    chosen_lengths: Index,
    rows: Index,
) -> int:
    """Write the most similar sessions to ``chosen``, in the order they were met, and their items to ``rows``."""
    slots = items.shape[0]
    for place in range(count):
        age = newest_slot - touched[place, _SLOT]
        if age < 0:
            age += slots
        keys[0, place] = key_of(similarity[place], slots - 1 - age)
    least = largest_key(keys[0], count, neighbours_max, keys[1])
    found = 0
    for place in range(count):
        if keys[0, place] >= least:
            chosen[found] = place
            found += 1
    # Rows lie far apart: copied in a loop without branches, the waits for memory overlap.
    for neighbour in range(found):
        slot = touched[chosen[neighbour], _SLOT]
        chosen_lengths[neighbour] = lengths[slot]
        for place in range(items.shape[1]):
            rows[neighbour, place] = items[slot, place]
    return found


@kernel
def vote(
    found: int,
    asked: Index,
    weights: Values,
    power: float,
    touched: Index,
    similarity: Values,
    chosen: Index,
    chosen_lengths: Index,
    rows: Index,
    epoch: int,
    bits: int,
    table: Table,
    scored: Index,
    score: Values,
) -> int:
    """Add up the votes of the neighbours for their items; return how many items there are."""
    count = 0
    for neighbour in range(found):
        place = chosen[neighbour]
        latest = touched[place, _LATEST]
        strength = similarity[place]
        if power == 2.0:  # noqa: PLR2004  # a power, not a threshold
            strength *= strength
        elif power == 1.5:  # noqa: PLR2004  # as above
            strength *= np.sqrt(strength)
        strength *= weights[PLACES + latest]
        shared = 0
        while rows[neighbour, shared] != asked[latest]:
            shared += 1
        for position in range(chosen_lengths[neighbour]):
            distance = min(max(position - shared, 1 - PLACES), PLACES - 1)
            weight = strength * weights[3 * PLACES - 1 + distance]
            item = int(rows[neighbour, position])
            stamp = epoch << 32 | item
            cell = cell_of(table, bits, stamp)
            if table[cell, STAMP] != stamp:
                table[cell, STAMP] = stamp
                table[cell, PLACE] = count
                scored[count] = item
                score[count] = weight
                count += 1
            elif table[cell, PLACE] >= 0:
                score[table[cell, PLACE]] += weight
    return count


@kernel
def run_query(
    epoch: int,
    recent: Index,
    excluded: Table,
    hidden: Index,
    last_items_max: int,
    entries_max: int,
    neighbours_max: int,
    weights: Values,
    power: float,
    items: Index,
    lengths: NDArray[np.uint8],
    postings: Index,
    heads: Index,
    state: Table,
    item_hash: Keys,
    scratch: SessionScratch,
    answer_items: Index,
    answer_scores: Score,
) -> int:
    """Write the answer to query number ``epoch``; return its length. ``hidden`` are items to leave out, -1 allowed."""
    slots, ring = items.shape[0], state[ENTRIES_MAX]
    asked = scratch.numbers[: choose_asked(recent, heads, last_items_max, scratch.numbers)]
    if len(asked) == 0:
        return 0
    chosen = scratch.numbers[_CHOSEN_START:_LENGTHS_START]
    chosen_lengths = scratch.numbers[_LENGTHS_START:_BINS_START]
    scored = scratch.numbers[_SCORED_START:]
    similarity = scratch.values[0]
    score = scratch.values[1]
    entries = len(excluded)
    for item in asked:
        entries += min(heads[item, COUNT], ring, entries_max)
    bits = table_bits(entries)
    for number in excluded:
        if state[_NEWEST] - slots < number <= state[_NEWEST] and number >= 0:
            leave_out(number % slots, epoch, bits, scratch.sessions)
    sessions_log2 = log2_of(float(state[_LIVE] + 1))
    count = touch_sessions(
        asked, entries_max, weights, sessions_log2, postings, heads, ring, epoch, bits,
        scratch.sessions, scratch.touched, similarity,
    )  # fmt: skip
    found = choose_neighbours(
        count, neighbours_max, state[_NEWEST] % slots, items, lengths, scratch.touched, similarity,
        scratch.keys, chosen, chosen_lengths, scratch.rows,
    )  # fmt: skip
    bits = table_bits(chosen_lengths[:found].sum() + len(hidden))
    leave_out_each(hidden, epoch, bits, scratch.items)
    count = vote(
        found, asked, weights, power, scratch.touched, similarity, chosen, chosen_lengths, scratch.rows,
        epoch, bits, scratch.items, scored, score,
    )  # fmt: skip
    keys = scratch.keys
    for place in range(count):
        rarity = sessions_log2 - log2_of(float(heads[scored[place], COUNT]))
        keys[0, place] = key_of(score[place] * rarity, place)
    bins = scratch.numbers[_BINS_START:_SCORED_START]
    return write_best(count, scored, item_hash, bins, keys, answer_items, answer_scores)
