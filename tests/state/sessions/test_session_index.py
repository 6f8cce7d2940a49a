"""The session index against plain dictionaries, with so few slots that everything is overwritten soon."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.fold_step import SessionColumns
from midstream.state.sessions.session_index import SessionIndex
from midstream.state.sessions.session_lists import PART, entries_at
from midstream.state.settings import StateLimits
from midstream.state.steps import step_of

if TYPE_CHECKING:
    from midstream.core.types import IndexedBatch
    from midstream.state.ids.vocabulary import Vocabulary

SLOTS, ROW, ENTRIES, ITEMS = 5, 3, 3, 8
LIMITS = StateLimits(items_max=ITEMS, index_sessions_max=SLOTS, index_items_max=ROW, index_entries_max=ENTRIES)


@dataclass
class Plain:
    """The same index as a dictionary of sessions; lists are made when they are read."""

    slots: int = SLOTS
    row: int = ROW
    entries_max: int = ENTRIES
    newest: int = -1
    sessions: dict[int, list[int]] = field(default_factory=dict)
    users: dict[int, int] = field(default_factory=dict)

    def apply(self, number, item, user=0):
        if number < 0 or item < 0 or number <= self.newest - self.slots:
            return
        self.newest = max(self.newest, number)
        for old in [each for each in self.sessions if each <= self.newest - self.slots]:
            del self.sessions[old]
            self.users.pop(old, None)
        if user:
            self.users[number] = user
        items = self.sessions.setdefault(number, [])
        if item not in items and len(items) < self.row:
            items.append(item)

    def forget(self, users):
        for number in [each for each, user in self.users.items() if user in users]:
            del self.users[number]
            self.sessions.pop(number, None)

    def entries(self, item):
        """Numbers of the newest held sessions with an item, oldest first, and how many there are in all."""
        held = sorted(number for number, items in self.sessions.items() if item in items)
        return held[-self.entries_max :], len(held)


def new_index(limits=LIMITS):
    """Make an index whose vocabulary is never asked."""
    return SessionIndex(limits, cast("Vocabulary", SimpleNamespace(item_hash=np.arange(ITEMS, dtype=np.uint64))))


def fold(index, events, size):
    """Fold (number, item) or (number, item, user) in batches of a size."""
    for start in range(0, len(events), size):
        number, item, *user = zip(*events[start : start + size], strict=True)
        items = np.array(item, dtype=np.int32)
        batch = cast("IndexedBatch", SimpleNamespace(first=0, source=None, item_index=items))
        users = np.array(user[0] if user else [0] * len(item), dtype=np.uint64)
        index.apply(step_of(batch, SessionColumns(np.array(number, dtype=np.int64), items[:, None], users)))
    return index


def entries_of(index, item):
    """Read the list of an item as session numbers, oldest first, and the count beside it."""
    first, count = (int(each) for each in index._heads[item])
    newest, _, entries_max = index._state.tolist()
    places = (first + np.arange(min(count, entries_max))) % entries_max
    slots = index._postings[entries_at(item, places, len(index._heads))].tolist()
    return [newest - (newest - slot) % len(index._lengths) for slot in slots], count


def arrays_of(index):
    """Return the arrays in a form that compares bytes."""
    return {name: (each.dtype, each.shape, each.tobytes()) for name, each in index.arrays().items()}


@st.composite
def events_of(draw, start=-1):
    """Draw events of sessions that go on while newer ones begin, with some that are over, skipped or no sessions."""
    newest = start
    events = []
    for _ in range(draw(st.integers(0, 60))):
        step = draw(st.sampled_from((1, 1, 1, 0, 0, -1, -2, -3, -4, -5, -6, 2, 4, 9)))
        number = max(newest + step, -1)
        newest = max(newest, number)
        events.append((number, draw(st.integers(-1, ITEMS - 1))))
    return events


@given(events_of())
def test_lists_equal_those_made_anew_after_every_event(events):
    """For each item the newest sessions in order, none stale, none twice, and the count of all that are held."""
    index, plain = new_index(), Plain()
    for number, item in events:
        fold(index, [(number, item)], 1)
        plain.apply(number, item)
        assert [entries_of(index, each) for each in range(ITEMS)] == [plain.entries(each) for each in range(ITEMS)]
        assert index.session_count == len(plain.sessions)
        assert index.item_session_count(3) == plain.entries(3)[1]
    held = [plain.sessions.get(number, []) for number in range(max(plain.newest - SLOTS + 1, 0), plain.newest + 1)]
    arrays = index.arrays()
    assert arrays["newest"].tolist() == [plain.newest]
    assert arrays["length"].tolist() == [len(items) for items in held]
    assert arrays["item"].tolist() == [item for items in held for item in items]


@given(events_of(), st.lists(st.integers(0, 3), min_size=60, max_size=60), st.integers(1, ENTRIES + 2))
def test_the_users_of_an_item_are_those_of_its_newest_sessions(events, users, entries_max):
    """In their order; a session without a user has 0."""
    index, plain = new_index(), Plain()
    told = [(number, item, user) for (number, item), user in zip(events, users, strict=False)]
    fold(index, told, 7)
    for event in told:
        plain.apply(*event)
    for item in range(ITEMS):
        expected = [plain.users.get(number, 0) for number in plain.entries(item)[0]][-entries_max:]
        assert index.newest_users(item, entries_max).tolist() == expected


@given(events_of())
def test_the_cut_of_the_log_does_not_show(events):
    """Batches of 1, 7 and all give the same arrays to the byte, and the same lists."""
    indices = [fold(new_index(), events, size) for size in (1, 7, 1_000)]
    first, *others = [arrays_of(index) for index in indices]
    assert all(each == first for each in others)
    lists = [[entries_of(index, item) for item in range(ITEMS)] for index in indices]
    assert all(each == lists[0] for each in lists)


@given(events_of(), events_of(), st.data())
def test_a_restored_index_goes_on_as_the_one_it_was_taken_from(others, before, data):
    """An index that held something else becomes the other, lists included, also in what it does next."""
    index, restored = fold(new_index(), before, 7), fold(new_index(), others, 7)
    restored.restore(index.arrays())
    after = data.draw(events_of(start=max([number for number, _ in before], default=-1)))
    for size in (0, len(after)):
        fold(index, after[:size], 3)
        fold(restored, after[:size], 3)
        assert arrays_of(restored) == arrays_of(index)
        assert restored.session_count == index.session_count
        assert [entries_of(restored, item) for item in range(ITEMS)] == [
            entries_of(index, item) for item in range(ITEMS)
        ]


@st.composite
def events_of_users(draw):
    """Draw events of sessions of few users, some known late, and now and then users to forget."""
    found: list[object] = []
    for number, item in draw(events_of()):
        if draw(st.integers(0, 9)) == 0:
            found.append(sorted(draw(st.sets(st.integers(1, 4), max_size=3))))
        found.append((number, item, draw(st.integers(0, 4))))
    return found


@given(events_of_users())
def test_what_is_left_when_users_are_forgotten_is_an_index_of_the_other_sessions(steps):
    """Lists and counts after each step are those made anew; full lists take older sessions back; restore agrees."""
    index, plain = new_index(), Plain()
    for step in steps:
        if isinstance(step, list):
            index.forget(np.array(step, dtype=np.uint64))
            plain.forget(step)
        else:
            fold(index, [step], 1)
            plain.apply(*step)
        assert [entries_of(index, each) for each in range(ITEMS)] == [plain.entries(each) for each in range(ITEMS)]
        assert index.session_count == len([items for items in plain.sessions.values() if items])
        fresh = new_index()
        fresh.restore(index.arrays())
        assert arrays_of(fresh) == arrays_of(index)
        index = fresh
    held = range(max(plain.newest - SLOTS + 1, 0), plain.newest + 1)
    assert index.arrays()["user"].tolist() == [plain.users.get(number, 0) for number in held]


def test_an_older_session_comes_back_into_a_full_list():
    """The list had no room for it; now it is the third newest with that item."""
    index = fold(new_index(), [(0, 2, 7), (1, 2, 7), (2, 2, 8), (3, 2, 7), (4, 2, 7)], 5)
    assert entries_of(index, 2) == ([2, 3, 4], 5)
    index.forget(np.array([8], dtype=np.uint64))
    assert entries_of(index, 2) == ([1, 3, 4], 4)
    index.forget(np.array([7], dtype=np.uint64))
    assert entries_of(index, 2) == ([], 0)
    assert index.session_count == 0


def test_lists_of_several_parts_are_those_made_anew():
    """Rings of two parts and a half, filled, gone round, thinned out and filled again from older sessions."""
    slots, entries_max = 6 * PART, 2 * PART + PART // 2
    limits = StateLimits(items_max=ITEMS, index_sessions_max=slots, index_items_max=ROW, index_entries_max=entries_max)
    index, plain = new_index(limits), Plain(slots, ROW, entries_max)
    random, was_full = np.random.default_rng(5), False
    for part in range(18):
        count = PART
        numbers = part * count + np.sort(random.integers(0, count, 2 * count)) - random.integers(0, 3, 2 * count)
        items, users = random.choice((0, 0, 0, 1, 1, 3, ITEMS - 1), 2 * count), random.integers(0, 9, 2 * count)
        told = list(zip(numbers.tolist(), items.tolist(), users.tolist(), strict=True))
        fold(index, told, 50)
        for event in told:
            plain.apply(*event)
        if part % 3 == 2:
            gone = [1 + part % 8, 8]
            index.forget(np.unique(np.array(gone, dtype=np.uint64)))
            plain.forget(gone)
        expected = [plain.entries(each) for each in range(ITEMS)]
        assert [entries_of(index, each) for each in range(ITEMS)] == expected
        was_full |= expected[0][1] > entries_max
        newest = [plain.users.get(number, 0) for number in expected[0][0]]
        assert index.newest_users(0, entries_max).tolist() == newest
        fresh = new_index(limits)
        fresh.restore(index.arrays())
        assert [entries_of(fresh, each) for each in range(ITEMS)] == expected
    assert was_full
