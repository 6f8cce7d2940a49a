"""Session kNN in process: time of one query and of one event, at 1 M sessions over 100,000 items.

Items are drawn from Zipf 1.0, sessions have 2 to 20 items, 5 on average, and 4,000 are open at any time. Queries are
prefixes of sessions of the same kind. Beside each figure stands a peer in plain NumPy over the same arrays, asked the
same queries with the same options, one after the other.
"""

import json
import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import numpy as np

from midstream.core.fold_step import FoldStep, SessionColumns
from midstream.state.sessions.session_index import SessionIndex
from midstream.state.sessions.session_lists import ENTRIES_MAX, entries_at
from midstream.state.sessions.session_query import PLACES, SessionQuery, weights_of
from midstream.state.settings import StateLimits
from midstream.state.steps import step_of

if TYPE_CHECKING:
    from midstream.core.types import IndexedBatch
    from midstream.state.ids.vocabulary import Vocabulary

ITEMS = 100_000
OPEN = 4_000


def draw_sessions(count, seed):
    """Return the items of sessions, drawn from Zipf 1.0, and the start of each, shapes (clicks,) and (count + 1,)."""
    random = np.random.default_rng(seed)
    lengths = np.minimum(1 + random.geometric(0.25, count), 20)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    share = np.cumsum(1.0 / np.arange(1, ITEMS + 1))
    ranks = np.searchsorted(share / share[-1], random.random(starts[-1])).astype(np.int32)
    return np.random.default_rng(0).permutation(ITEMS).astype(np.int32)[ranks], starts


def stream(items, starts, seed):
    """Return session numbers and items in an order in which about ``OPEN`` sessions are open at once."""
    random = np.random.default_rng(seed)
    number = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    order = np.argsort(number + random.random(len(items)) * OPEN, kind="stable")
    number = number[order]
    # Numbers are given by first click.
    _, first, place = np.unique(number, return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[place].astype(np.int64), items[order]


def numpy_peer(index, query, recent):
    """Answer from the same arrays, vectorised: what one would write without a kernel."""
    heads, postings, rows = index._heads, index._postings, index._items
    ring = int(index._state[ENTRIES_MAX])
    entries_max = min(query.entries_max, ring)
    weights = weights_of(query)
    _, first = np.unique(recent[::-1], return_index=True)
    asked = recent[::-1][np.sort(first)]
    asked = asked[heads[asked, 1] > 0][: query.last_items_max]
    if len(asked) == 0:
        return asked, asked
    rarity = np.log2((index.session_count + 1) / np.maximum(heads[:, 1], 1))
    slots, ranks = [], []
    for rank, item in enumerate(asked):
        held = min(int(heads[item, 1]), ring)
        places = (heads[item, 0] + np.arange(held - min(held, entries_max), held)) % ring
        slots.append(postings[entries_at(item, places, len(heads))])
        ranks.append(np.full(len(places), rank))
    slot, rank = np.concatenate(slots), np.concatenate(ranks)
    met, latest, inverse = np.unique(slot, return_index=True, return_inverse=True)
    similarity = np.bincount(inverse, (weights[: len(asked)] * rarity[asked])[rank])
    age = (index._state[0] - met) % len(rows)
    best = np.lexsort((age, -similarity))[: query.neighbours_max]
    near, latest_rank = rows[met[best]], rank[latest[best]]
    held = np.arange(rows.shape[1]) < index._lengths[met[best]][:, None]
    shared = np.argmax(near == asked[latest_rank][:, None], axis=1)
    strength = similarity[best] ** float(query.sharpness) * weights[PLACES + latest_rank]
    distance = np.clip(np.arange(rows.shape[1]) - shared[:, None], 1 - PLACES, PLACES - 1)
    votes = strength[:, None] * weights[3 * PLACES - 1 + distance]
    items, place = np.unique(near[held], return_inverse=True)
    score = np.bincount(place, votes[held]) * rarity[items]
    score[items == recent[-1]] = 0.0
    items, score = items[score > 0.0], score[score > 0.0]
    order = np.lexsort((index._vocabulary.item_hash[items], -score))[: query.limit]
    return items[order], score[order]


def times_us(ask, queries):
    """Return the time of each query in microseconds."""
    took = []
    for recent in queries:
        begin = time.perf_counter_ns()
        ask(recent)
        took.append(time.perf_counter_ns() - begin)
    return np.array(took) / 1_000


def figures(took):
    """Return the quantiles that are reported."""
    return {f"p{q}".replace(".", "_"): round(float(np.percentile(took, q)), 1) for q in (50, 90, 99, 99.9)}


def build_index(session_count, seed):
    """Return an index of that many sessions, µs an event in batches of 1,000, and µs of single events."""
    hashes = np.random.default_rng(seed).integers(1, 2**63, 200_000, dtype=np.uint64)
    index = SessionIndex(StateLimits(), cast("Vocabulary", SimpleNamespace(item_hash=hashes)))
    number, item = stream(*draw_sessions(session_count, seed), seed)
    alone = 2_000
    nobody = np.zeros(1_000, dtype=np.uint64)

    def step(start: int, stop: int) -> FoldStep:
        events = SimpleNamespace(first=start, source=None, item_index=item[start:stop])
        sessions = SessionColumns(number[start:stop], item[start:stop, None], nobody[: stop - start])
        return step_of(cast("IndexedBatch", events), sessions)

    many = len(item) - alone
    batches = [step(start, min(start + 1_000, many)) for start in range(0, many, 1_000)]
    begin = time.perf_counter_ns()
    for batch in batches:
        index.apply(batch)
    batched = (time.perf_counter_ns() - begin) / 1_000 / many
    single = []
    for place in range(many, len(item)):
        batch = step(place, place + 1)
        begin = time.perf_counter_ns()
        index.apply(batch)
        single.append(time.perf_counter_ns() - begin)
    return index, round(batched, 3), figures(np.array(single) / 1_000)


def prefixes(seed, count, length):
    """Return prefixes of sessions: of any length, or of exactly ``length`` items where that is given."""
    items, starts = draw_sessions(count, seed)
    random = np.random.default_rng(seed)
    if length:
        return list(items[: len(items) // length * length].reshape(-1, length)[:count])
    stops = starts[:-1] + random.integers(1, np.diff(starts) + 1)
    return [items[start:stop] for start, stop in zip(starts, stops, strict=False)]


def run(session_count=1_000_000, query_count=4_000):
    """Return all figures, by name; times in microseconds."""
    index, batched, single = build_index(session_count, 1)
    found = {"sessions": index.session_count, "update_us_batch": batched, "update_us_alone": single}
    query = SessionQuery()
    for name, length in (("prefixes", 0), ("always_10_items", 10)):
        queries = prefixes(2, query_count, length)
        for recent in queries[:200]:
            index.score(query, recent)
            numpy_peer(index, query, recent)
        found[f"query_us_{name}"] = figures(times_us(lambda recent: index.score(query, recent), queries))
        peer = times_us(lambda recent: numpy_peer(index, query, recent), queries[: query_count // 4])
        found[f"numpy_us_{name}"] = figures(peer)
    return found


if __name__ == "__main__":
    arguments = [int(each) for each in sys.argv[1:]]
    print(json.dumps(run(*arguments), indent=2))
