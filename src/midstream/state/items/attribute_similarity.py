"""Attribute similarity of items: shared values, with rare values counting more.

Each value of the item's declared category and tags attributes is worth log2((n + 1) / items that have it), n being the
items that may be served. What another item shares is added up and divided by what all the values of the item are worth:
1 = it has them all. Of equally alike items the one that is acted on more comes first: heat h adds h / (1 + h) times
``HEAT_WORTH``, less than any shared value that tells items apart.

Columns are read from end to end once a request, so nothing has to be kept up to date and an item has like ones from the
moment the catalogue names it. Every sum has a fixed order and ``log2_of`` is exact in its own way, so an answer has the
same bits everywhere.

Reference: K. Spärck Jones, A statistical interpretation of term specificity and its application in retrieval, Journal
of Documentation 28(1), 1972.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Index, Mask, Score
from midstream.state.ids.vocabulary import Vocabulary
from midstream.state.items.items import Items
from midstream.state.structures.exact_math import log2_of
from midstream.state.structures.kernel import kernel
from midstream.state.structures.top_k_keys import BINS, Keys, best_keys, key_of, place_of, value_of

VALUES_MAX: Final = 64
"""Values of an item that are looked at, one bit each; by name of the attribute, then in the order they were sent."""
HEAT_WORTH: Final = 0.001

Bits = NDArray[np.uint64]
Counts = NDArray[np.int64]
Values = NDArray[np.float64]


@kernel
def mark_category(column: Index, code: int, bit: int, eligible: Mask, bits: Bits, counts: Counts) -> None:
    """Mark and count the eligible items that have one value of a category."""
    mark = np.uint64(1) << np.uint64(bit)
    for item in range(len(bits)):
        if column[item] == code and eligible[item]:
            bits[item] |= mark
            counts[bit] += 1


@kernel
def mark_tags(column: Index, codes: Index, first_bit: int, eligible: Mask, bits: Bits, counts: Counts) -> None:
    """Mark and count the eligible items that have one of some tags; an item's codes stand in front, -1 behind them."""
    for item in range(len(bits)):
        if column[item, 0] < 0 or not eligible[item]:
            continue
        for place in range(column.shape[1]):
            code = column[item, place]
            if code < 0:
                break
            for wanted in range(len(codes)):
                if codes[wanted] == code:
                    bits[item] |= np.uint64(1) << np.uint64(first_bit + wanted)
                    counts[first_bit + wanted] += 1


@kernel
def rate_marked(
    bits: Bits,
    worth: Values,
    heat: Values,
    factor: float,
    found: Index,
    item_hash: Keys,
    answer_items: Index,
    answer_scores: Score,
) -> int:
    """Write the most alike of the marked items to the answer; return its length. ``found`` is room for all of them."""
    count = 0
    for item in range(len(bits)):
        if bits[item] != np.uint64(0):
            found[count] = item
            count += 1
    keys = np.empty(count, dtype=np.uint64)
    for place in range(count):
        item = found[place]
        score = 0.0
        for bit in range(len(worth)):
            if bits[item] >> np.uint64(bit) & np.uint64(1):
                score += worth[bit]
        warm = heat[item] * factor
        keys[place] = key_of(float(score + HEAT_WORTH * (warm / (1.0 + warm))), place)
    best, spare = np.empty(count, dtype=np.uint64), np.empty(count, dtype=np.uint64)
    bins = np.empty(BINS, dtype=np.int32)
    count = best_keys(keys, count, len(answer_items), found, item_hash, bins, best, spare)
    for place in range(count):
        answer_items[place] = found[place_of(best[place])]
        answer_scores[place] = value_of(best[place])
    return count


def alike(items: Items, vocabulary: Vocabulary, item_index: int, limit: int) -> tuple[Index, Score]:
    """Return the items that share values of declared attributes with an item, most alike first; equal ones by id hash.

    Args:
        items: Attributes, availability and heat.
        vocabulary: Hashes of ids.
        item_index: Of the item; it is not in the answer.
        limit: Length of the answer at most.

    Returns:
        Items that may be served, each with a score from 0 to a little over 1. Nothing when the item has no value of a
        declared category or tags attribute, or nobody shares one. Cost: linear in the catalogue; at 200,000 items about
        0.2 ms for each category, and 1 to 2 ms for tags.
    """
    count = items.count
    eligible = items.available[:count].copy()
    if item_index < count:
        eligible[item_index] = False
    bits = np.zeros(count, dtype=np.uint64)
    counts = np.zeros(VALUES_MAX, dtype=np.int64)
    used = _mark(items, item_index, eligible, bits, counts)
    worth = _worth(counts[:used], int(np.count_nonzero(eligible)))
    answer_items = np.empty(limit, dtype=np.int32)
    answer_scores = np.empty(limit, dtype=np.float32)
    if not counts.any():
        return answer_items[:0], answer_scores[:0]
    heat, factor = items.heat_of_all()
    room = np.empty(count, dtype=np.int32)
    hashes = vocabulary.item_hash
    found = rate_marked(bits, worth, heat, factor, room, hashes, answer_items, answer_scores)
    return answer_items[:found], answer_scores[:found]


def _mark(items: Items, item_index: int, eligible: Mask, bits: Bits, counts: Counts) -> int:
    """Mark the items that share values with an item; return how many values it has."""
    used = 0
    for name, kind in items.declared:
        if kind == "category":
            column = items.category(name)
            codes = column[item_index : item_index + 1]
        elif kind == "tags":
            column = items.tags(name)
            codes = column[item_index]
        else:
            continue
        codes = codes[codes >= 0][: VALUES_MAX - used]
        if len(codes) and kind == "category":
            mark_category(column, int(codes[0]), used, eligible, bits, counts)
        elif len(codes):
            mark_tags(column, codes, used, eligible, bits, counts)
        used += len(codes)
    return used


def _worth(counts: Counts, eligible_count: int) -> Values:
    """Return what each value is worth, as a part of what all of them are; a value that no other item has is nothing."""
    whole = log2_of(float(eligible_count + 1))
    worth = np.array([whole - log2_of(float(count)) if count else 0.0 for count in counts.tolist()], dtype=np.float64)
    return worth / max(float(worth.sum()), 1e-9)
