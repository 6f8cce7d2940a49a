"""Shop-wide rows of a fold, and the tables that are made of the rows of all shards: heat, counters, pairs, sessions.

Sums that fade (heat, decayed counters, pair weights, shares) are added over shards, each brought to one landmark by an
exact power of two. A row of pairs is the sum of the shards' rows, cut to its length. The session index is that of all
sessions in the order of the epoch in which they began, then of shard, then of their number there.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from benchmarks.sharding.delta_merge import Words
from midstream.state.fold import Fold
from midstream.state.items.item_fold import LANDMARKS_START
from midstream.state.pairs.covisitation import LANDMARK
from midstream.state.settings import FoldSettings
from midstream.state.structures.decay import rebase_factor

HEAT, PAIRS, SESSIONS = "heat", "pairs", "sessions"
Arrays = dict[str, NDArray[np.generic]]
Floats = NDArray[np.float64]
SESSION_HEAD = 3
"""Words before the items of a session: the epoch of its beginning, its user, 1 + the number of its items."""


def shop_rows(fold: Fold, begun: Words, items: int) -> dict[str, Words]:
    """Return the rows that a shard publishes of its fold.

    Args:
        fold: Of the shard's own events.
        begun: Epoch in which each of its sessions began, by their number there.
        items: Number of items of the shop; all folds know them by the same index.
    """
    return {HEAT: _heat_rows(fold, items), PAIRS: _pair_rows(fold, items), SESSIONS: _session_rows(fold, begun)}


def _heat_rows(fold: Fold, items: int) -> Words:
    """Landmarks, then heat by half-life, then decayed counters by half-life and action."""
    arrays = fold.items.arrays()
    count = len(arrays["status"])
    landmarks = _ints(arrays["clock"])[LANDMARKS_START:]
    heat = _floats(arrays["heat"]).T
    values = np.concatenate((heat, _floats(arrays["counters"]).reshape(count, -1)), axis=1)
    rows = np.zeros((items, len(landmarks) + values.shape[1]), dtype=np.int64)
    touched = np.flatnonzero(values.any(axis=1))
    rows[touched, : len(landmarks)] = landmarks
    rows[touched, len(landmarks) :] = np.ascontiguousarray(values[touched]).view(np.int64)
    return rows


def _pair_rows(fold: Fold, items: int) -> Words:
    """Landmark, share, then 1 + neighbour and weight of each place."""
    arrays = fold.pairs.arrays()
    length = _ints(arrays["length"])
    places = fold.settings.limits.pair_neighbours_max
    item = np.repeat(np.arange(len(length)), length)
    place = np.arange(len(item)) - np.repeat(np.cumsum(length) - length, length)
    rows = np.zeros((items, 2 + 2 * places), dtype=np.int64)
    rows[item, 2 + place] = _ints(arrays["neighbour"]) + 1
    rows[item, 2 + places + place] = _floats(arrays["weight"]).view(np.int64)
    rows[: len(length), 1] = _floats(arrays["share"]).view(np.int64)
    rows[rows[:, 1] != 0, 0] = _ints(arrays["clock"])[LANDMARK]
    return rows


def _session_rows(fold: Fold, begun: Words) -> Words:
    arrays = fold.session_index.arrays()
    length = _ints(arrays["length"])
    if len(length) != len(begun):
        message = f"{len(length)} sessions were folded and {len(begun)} began: a session was cut in two"
        raise ValueError(message)
    rows = np.zeros((len(length), SESSION_HEAD + fold.settings.limits.index_items_max), dtype=np.int64)
    session = np.repeat(np.arange(len(length)), length)
    place = np.arange(len(session)) - np.repeat(np.cumsum(length) - length, length)
    rows[:, 0] = begun
    rows[:, 1] = np.ascontiguousarray(arrays["user"], dtype=np.uint64).view(np.int64)
    rows[:, 2] = length + 1
    rows[session, SESSION_HEAD + place] = _ints(arrays["item"])
    return rows


@dataclass(frozen=True, slots=True, eq=False)
class ShopTables:
    """Shop-wide tables, as arrays that a fold restores, and where the sessions of each shard stand in them."""

    arrays: Arrays
    numbers: Mapping[int, Words]
    """By shard: the number of each of its sessions among all of them; -1 = it is no longer held."""


def merge_rows(rows: Mapping[str, Mapping[int, Words]], own: Arrays, settings: FoldSettings) -> ShopTables:
    """Return the tables of the whole shop.

    Args:
        rows: By table and shard.
        own: All arrays of the fold of the shard that asks.
        settings: Of the folds.
    """
    sessions, numbers = _merged_sessions(rows[SESSIONS], settings.limits.index_sessions_max)
    return ShopTables(
        {**_merged_heat(rows[HEAT], own, settings), **_merged_pairs(rows[PAIRS], own, settings), **sessions}, numbers
    )


def _newest(clock: Words, place: int, rows: Mapping[int, Words], column: int) -> int:
    """Put the newest landmark of all shards into a clock and return it: the shard that asks may have been quiet."""
    clock[place] = max(int(clock[place]), *(int(each[:, column].max(initial=0)) for each in rows.values()))
    return int(clock[place])


def _rebased(landmark: Words, now: int, half_life_ms: int) -> Floats:
    """Return what the weights of rows are multiplied by to stand for another landmark; 0 for an empty row."""
    found = np.zeros(len(landmark))
    for each in np.unique(landmark[landmark != 0]).tolist():
        found[landmark == each] = rebase_factor(each, now, half_life_ms)
    return found


def _merged_heat(by_shard: Mapping[int, Words], own: Arrays, settings: FoldSettings) -> Arrays:
    lists = len(settings.half_lives)
    heat, counters = _floats(own["items.heat"]), _floats(own["items.counters"])
    clock = _ints(own["items.clock"]).copy()
    landmarks = [_newest(clock, LANDMARKS_START + number, by_shard, number) for number in range(lists)]
    heat, counters = np.zeros_like(heat), np.zeros_like(counters)
    items = heat.shape[1]
    for rows in by_shard.values():
        values = np.ascontiguousarray(rows[:items, lists:]).view(np.float64)
        for number, half_life in enumerate(settings.half_lives):
            factor = _rebased(rows[:items, number], landmarks[number], half_life.ms)
            heat[number, : len(values)] += values[:, number] * factor
            part = values[:, lists:].reshape(len(values), *counters.shape[1:])[:, number]
            counters[: len(values), number] += part * factor[:, None]
    return {"items.clock": clock, "items.heat": heat, "items.counters": counters}


def _merged_pairs(by_shard: Mapping[int, Words], own: Arrays, settings: FoldSettings) -> Arrays:
    places = settings.limits.pair_neighbours_max
    clock = _ints(own["pairs.clock"]).copy()
    landmark = _newest(clock, LANDMARK, by_shard, 0)
    items = max(len(rows) for rows in by_shard.values())
    share, parts = np.zeros(items), []
    for rows in by_shard.values():
        factor = _rebased(rows[:, 0], landmark, settings.pair_half_life.ms)
        share[: len(rows)] += np.ascontiguousarray(rows[:, 1]).view(np.float64) * factor
        item, place = np.nonzero(rows[:, 2 : 2 + places])
        weight = np.ascontiguousarray(rows[item, 2 + places + place]).view(np.float64) * factor[item]
        parts.append((weight, item, rows[item, 2 + place] - 1))
    weight, item, neighbour = (np.concatenate(each) for each in zip(*parts, strict=True))
    summed = sparse.coo_array((weight, (item, neighbour)), shape=(items, items)).tocsr()
    summed.sum_duplicates()
    length = np.diff(summed.indptr)
    owner = np.repeat(np.arange(items), length)
    order = np.lexsort((-summed.data, owner))
    rank = np.arange(len(owner)) - np.repeat(np.cumsum(length) - length, length)
    kept = np.sort(order[rank < places])
    used = int(np.flatnonzero(share)[-1]) + 1 if share.any() else 0
    clock[0] = used
    return {
        "pairs.clock": clock,
        "pairs.share": share[:used],
        "pairs.length": np.minimum(length, places)[:used].astype(np.uint8),
        "pairs.neighbour": summed.indices[kept].astype(np.int32),
        "pairs.weight": summed.data[kept],
    }


def _merged_sessions(by_shard: Mapping[int, Words], sessions_max: int) -> tuple[Arrays, dict[int, Words]]:
    shard = np.repeat(list(by_shard), [len(rows) for rows in by_shard.values()]).astype(np.int64)
    number = np.concatenate([np.arange(len(rows)) for rows in by_shard.values()])
    rows = np.concatenate(list(by_shard.values()))
    known = rows[:, 2] > 0
    order = np.flatnonzero(known)[np.lexsort((number[known], shard[known], rows[known, 0]))]
    held = rows[order[-sessions_max:]]
    length = held[:, 2] - 1
    is_item = np.arange(held.shape[1] - SESSION_HEAD) < length[:, None]
    place = np.full(len(rows), -1, dtype=np.int64)
    place[order] = np.arange(len(order))
    arrays: Arrays = {
        "session_index.newest": np.array([len(order) - 1], dtype=np.int64),
        "session_index.length": length.astype(np.uint8),
        "session_index.user": np.ascontiguousarray(held[:, 1]).view(np.uint64),
        "session_index.item": held[:, SESSION_HEAD:][is_item].astype(np.int32),
    }
    return arrays, {each: place[shard == each] for each in by_shard}


def _floats(array: NDArray[np.generic]) -> Floats:
    return np.ascontiguousarray(array, dtype=np.float64)


def _ints(array: NDArray[np.generic]) -> Words:
    return np.ascontiguousarray(array, dtype=np.int64)
