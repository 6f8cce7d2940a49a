"""The query kernel against a plain version of it: the same items and the same bits of every score."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.fold_step import SessionColumns
from midstream.state.sessions.session_index import SessionIndex
from midstream.state.sessions.session_query import PLACES, SessionQuery, weights_of
from midstream.state.settings import StateLimits
from midstream.state.steps import step_of
from midstream.state.structures.exact_math import log2_of
from midstream.state.structures.stamped_table import EPOCH_MAX
from midstream.state.structures.top_k_keys import BINS, best_keys, key_of, place_of, value_of

if TYPE_CHECKING:
    from midstream.core.types import IndexedBatch
    from midstream.state.ids.vocabulary import Vocabulary

ITEMS = 12
# Equal first halves, equal hashes: every rule for ties is needed.
HASHES = np.array([7, 2**40, 3, 2**40 + 1, 9, 3, 2**63, 2**63, 5, 1, 2**40, 2**64 - 1], dtype=np.uint64)
QUERIES = st.builds(
    SessionQuery,
    last_items_max=st.sampled_from((1, 2, 3, 50)),
    entries_max=st.sampled_from((1, 2, 3, 500)),
    neighbours_max=st.sampled_from((1, 2, 3, 100)),
    position_decay=st.sampled_from((0.0, 0.35, 100.0)),
    match_decay=st.sampled_from((0.0, 0.3, 100.0)),
    distance_decay=st.sampled_from((0.0, 0.5)),
    same_item=st.sampled_from((0.0, 1.0, 3.0)),
    sharpness=st.sampled_from(("1", "1.5", "2")),
    allow_session_items=st.booleans(),
    exclude_last_item=st.booleans(),
    limit=st.sampled_from((1, 3, 9, 200)),
)
EVENTS = st.lists(st.tuples(st.integers(-4, 1), st.integers(0, ITEMS - 1)), max_size=60)
RECENT = st.lists(st.integers(-1, ITEMS - 1), max_size=8)


def index_of(events, slots=5, row=3, entries=3):
    """Fold events whose sessions are given as steps from the newest one; return the index and what it holds."""
    limits = StateLimits(items_max=ITEMS, index_sessions_max=slots, index_items_max=row, index_entries_max=entries)
    index = SessionIndex(limits, cast("Vocabulary", SimpleNamespace(item_hash=HASHES)))
    newest = -1
    numbers = []
    for step, _ in events:
        numbers.append(max(newest + step, 0))
        newest = max(newest, numbers[-1])
    items = np.array([item for _, item in events], dtype=np.int32)
    batch = cast("IndexedBatch", SimpleNamespace(first=0, source=None, item_index=items))
    sessions = SessionColumns(np.array(numbers, dtype=np.int64), items[:, None], np.zeros(len(items), dtype=np.uint64))
    index.apply(step_of(batch, sessions))
    return index, dict(zip(range(max(newest - slots + 1, 0), newest + 1), held_sessions(index), strict=True))


def held_sessions(index):
    """Read all held sessions, oldest first."""
    arrays = index.arrays()
    stops = np.cumsum(arrays["length"], dtype=np.int64)
    return [each.tolist() for each in np.split(arrays["item"], stops)[:-1]]


def sharpened(similarity, sharpness):
    """Return the similarity to its power."""
    if sharpness == "1":
        return similarity
    return similarity * (float(np.sqrt(similarity)) if sharpness == "1.5" else similarity)


def plain_answer(query, sessions, entries, recent, excluded):
    """Return items and float32 scores by dictionaries and sorting."""
    weights = weights_of(query)
    holders = {
        item: sorted((number for number, items in sessions.items() if item in items), reverse=True)
        for item in range(ITEMS)
    }
    live = log2_of(float(sum(map(bool, sessions.values())) + 1))
    rarity = {item: live - log2_of(float(len(held))) for item, held in holders.items() if held}
    asked = list(dict.fromkeys(item for item in reversed(recent) if rarity.get(item)))[: query.last_items_max]
    similarity: dict[int, float] = {}
    latest: dict[int, int] = {}
    for rank, item in enumerate(asked):
        for number in holders[item][: min(entries, query.entries_max)]:
            if number not in excluded:
                latest.setdefault(number, rank)
                similarity[number] = similarity.get(number, 0.0) + weights[rank] * rarity[item]
    ranked = sorted(similarity, key=lambda number: (np.float32(similarity[number]), number), reverse=True)
    neighbours = set(ranked[: query.neighbours_max])
    score: dict[int, float] = {}
    for number in (each for each in similarity if each in neighbours):
        strength = sharpened(similarity[number], query.sharpness) * weights[PLACES + latest[number]]
        shared = sessions[number].index(asked[latest[number]])
        for place, item in enumerate(sessions[number]):
            vote = strength * weights[3 * PLACES - 1 + place - shared]
            score[item] = score.get(item, 0.0) + vote
    hidden = set(recent if not query.allow_session_items else recent[-1:] if query.exclude_last_item else [])
    final = {item: np.float32(value * rarity[item]) for item, value in score.items() if item not in hidden}
    best = sorted((-value, int(HASHES[item]), item) for item, value in final.items() if value > 0.0)
    return [(item, float(-value)) for value, _, item in best[: query.limit]]


def answer_of(index, query, recent, excluded=()):
    """Ask the index, and pair items with scores."""
    items, scores = index.score(query, np.array(recent, dtype=np.int32), excluded)
    return list(zip(items.tolist(), scores.tolist(), strict=True))


@given(EVENTS, QUERIES, RECENT, st.lists(st.integers(-1, 20), max_size=3))
def test_answer_equals_the_plain_one(events, query, recent, excluded):
    """Same items in the same order, every score to the bit, whatever the options and however often it is asked."""
    index, sessions = index_of(events)
    expected = plain_answer(query, sessions, 3, recent, excluded)
    assert answer_of(index, query, recent, excluded) == expected
    assert answer_of(index, query, recent, excluded) == expected


@given(st.lists(st.lists(st.integers(0, ITEMS - 1), min_size=1, max_size=8), max_size=40), QUERIES, RECENT)
def test_answer_equals_the_plain_one_with_many_sessions_and_long_rows(histories, query, recent):
    """The same with room for everything."""
    events = [(place == 0, item) for items in histories for place, item in enumerate(items)]
    index, sessions = index_of(events, slots=50, row=10, entries=30)
    assert answer_of(index, query, recent) == plain_answer(query, sessions, 30, recent, ())


@given(EVENTS, QUERIES, RECENT)
def test_asking_leaves_the_index_as_it_was(events, query, recent):
    """Reading never writes."""
    index, _ = index_of(events)
    before = [each.tobytes() for each in (index._items, index._lengths, index._postings, index._heads, index._state)]
    answer_of(index, query, recent)
    after = [each.tobytes() for each in (index._items, index._lengths, index._postings, index._heads, index._state)]
    assert before == after


HISTORY = [(1, 0), (0, 1), (0, 2), (1, 0), (0, 2), (1, 1), (0, 3), (1, 0), (0, 3)]


def test_the_asking_session_is_no_neighbour_of_itself():
    """With its own number left out, an item that only it holds cannot come back."""
    index, _ = index_of([*HISTORY, (1, 0), (0, 9)])
    query = SessionQuery(exclude_last_item=False)
    assert 9 in dict(answer_of(index, query, [0]))
    assert 9 not in dict(answer_of(index, query, [0], (4,)))


def test_items_of_the_session_stay_away_when_asked_to():
    """By default all but the latest may come back; each option does what its name says."""
    index, _ = index_of(HISTORY)
    both = dict(answer_of(index, SessionQuery(exclude_last_item=False), [1, 0]))
    default = dict(answer_of(index, SessionQuery(), [1, 0]))
    none = dict(answer_of(index, SessionQuery(allow_session_items=False), [1, 0]))
    assert set(both) - set(default) == {0}
    assert set(default) - set(none) == {1}


def test_nothing_is_known_of_unknown_items():
    """No items, unknown ones and ones that no session holds give an empty answer."""
    index, _ = index_of(HISTORY)
    for recent in ([], [-1], [11], [-1, 11]):
        assert answer_of(index, SessionQuery(), recent) == []


def test_tables_are_cleared_when_query_numbers_run_out():
    """After 2^31 queries the marks of earlier ones count for nothing."""
    index, sessions = index_of(HISTORY)
    query = SessionQuery()
    expected = plain_answer(query, sessions, 3, [0, 1], ())
    index.epochs.last = EPOCH_MAX - 2
    for _ in range(5):
        assert answer_of(index, query, [0, 1]) == expected
    assert index.epochs.last == 3


VALUES = st.one_of(st.sampled_from((0.0, 1.0, 1.5)), st.floats(0.0, 1e30))


@given(st.lists(VALUES, max_size=300), st.integers(1, 300), st.data())
def test_best_keys_are_the_largest_in_order(values, limit, data):
    """Highest values first, equal ones by id hash, then index; none of value 0; none lost, whatever the number."""
    count = len(values)
    hashes = data.draw(st.lists(st.sampled_from(HASHES.tolist()), min_size=count, max_size=count))
    item_hash = np.array(hashes, dtype=np.uint64)
    items = np.random.default_rng(count).permutation(count).astype(np.int32)
    keys = np.array([key_of(value, place) for place, value in enumerate(values)], dtype=np.uint64)
    found, spare = np.zeros(count, dtype=np.uint64), np.zeros(count, dtype=np.uint64)
    length = best_keys(keys, count, limit, items, item_hash, np.zeros(BINS, dtype=np.int32), found, spare)
    triples = [(-np.float32(value), hashes[item], item) for value, item in zip(values, items.tolist(), strict=True)]
    expected = sorted(each for each in triples if each[0] < 0.0)[:limit]
    assert [items[place_of(key)] for key in found[:length]] == [item for _, _, item in expected]
    assert [value_of(key) for key in found[:length]] == [-value for value, _, _ in expected]


def test_options_beyond_their_maximum_are_refused():
    """What a configuration may write is bounded where it is decoded."""
    for text in ('{"neighbours_max": 1001}', '{"last_items_max": 51}', '{"limit": 0}', '{"decay": 1}'):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(text, type=SessionQuery)
