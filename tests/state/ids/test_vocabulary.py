"""Ids to indices against plain dictionaries, with maxima small enough that everything is refused or evicted."""

from collections import OrderedDict
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.kinds import Kind, Operation
from midstream.core.types import LogPosition
from midstream.events.schema import Event, build, cut, event_at
from midstream.state.ids.id_indexing import VocabularyCount
from midstream.state.ids.item_slots import COLLIDES, ITEM_ID_BYTES_MAX, ITEM_META, take_item
from midstream.state.ids.vocabulary import ITEM_ID_BYTES_MEAN, Vocabulary
from midstream.state.settings import FoldSettings, StateLimits
from tests.support.events import START_MS, cuts, event_batches, random_events
from tests.support.ids import KEY, hash_of

MINUTES_5, HOURS_24 = 300_000, 86_400_000


def settings_of(users_max=3, items_max=4, click_items_max=2, unknown_items="accept"):
    """Return settings with small maxima."""
    limits = StateLimits(users_max=users_max, items_max=items_max, click_items_max=click_items_max)
    return FoldSettings(unknown_items=unknown_items, limits=limits)


def puts(event, kind):
    """Say whether an event tells anything of an item or user: a delete takes away what is there, and makes nothing."""
    return event.kind == kind and event.operation != Operation.DELETE


class Twin:
    """The vocabulary as dictionaries."""

    def __init__(self, settings):
        """Start empty."""
        self.settings = settings
        self.slots = OrderedDict()
        self.items = {}
        self.catalogue = set()
        self.counts = dict.fromkeys(VocabularyCount, 0)

    def index(self, event, folded):
        """Return the columns that depend on the state: user, is new, item, action, event time."""
        names = self.settings.action_names()
        action = names.index(event.action) if event.kind == Kind.INTERACTION and event.action in names else -1
        time = self.time_of(event, folded)
        if not folded:
            self.counts[VocabularyCount.DUPLICATE] += 1
            return -1, False, -1, action, time
        if event.kind == Kind.INTERACTION and action < 0:
            self.counts[VocabularyCount.UNKNOWN_ACTION] += 1
        user, is_new = self.user(event, acts=action >= 0)
        return user, is_new, self.item(event, acts=action >= 0), action, time

    def time_of(self, event, folded):
        """Return the event time by the rule of lateness."""
        if event.event_time_ms is None:
            return event.log_time_ms
        ahead = event.event_time_ms - event.log_time_ms
        if ahead > MINUTES_5:
            self.counts[VocabularyCount.FUTURE] += folded
            return event.log_time_ms
        if ahead < -HOURS_24:
            self.counts[VocabularyCount.TOO_LATE] += folded
        elif ahead < -MINUTES_5:
            self.counts[VocabularyCount.LATE] += folded
        return event.event_time_ms

    def user(self, event, *, acts):
        """Return the slot of the user and whether it starts cold."""
        if not event.user_id:
            return -1, False
        if event.user_id in self.slots:
            if event.kind == Kind.USER and event.operation == Operation.DELETE:
                return self.slots[event.user_id], True
            if acts or event.kind == Kind.IMPRESSION or puts(event, Kind.USER):
                self.slots.move_to_end(event.user_id)
            return self.slots[event.user_id], False
        if not (acts or puts(event, Kind.USER)):
            return -1, False
        slot = len(self.slots)
        if slot == self.settings.limits.users_max:
            _, slot = self.slots.popitem(last=False)
            self.counts[VocabularyCount.USER_EVICTED] += 1
        self.slots[event.user_id] = slot
        return slot, True

    def item(self, event, *, acts):
        """Return the index of the item, -1 = none or refused."""
        limits = self.settings.limits
        makes = puts(event, Kind.ITEM) or acts
        if not event.item_id:
            return -1
        if event.item_id not in self.items:
            if not makes:
                return -1
            clicked = len(self.items) - len(self.catalogue)
            allowed = puts(event, Kind.ITEM) or (
                self.settings.unknown_items != "reject" and clicked < limits.click_items_max
            )
            if not allowed or len(self.items) == limits.items_max:
                self.counts[VocabularyCount.ITEM_REFUSED] += 1
                return -1
            self.items[event.item_id] = len(self.items)
        if puts(event, Kind.ITEM):
            self.catalogue.add(event.item_id)
        return self.items[event.item_id]


@given(
    event_batches(),
    st.sampled_from(["accept", "hold", "reject"]),
    st.integers(1, 4),
    st.integers(1, 5),
    st.integers(0, 3),
    st.data(),
)
def test_indices_are_those_of_dictionaries_however_the_log_is_cut(  # what Hypothesis draws
    batch, unknown_items, users_max, items_max, click_items_max, data
):
    """Users leave by exact recency, items never; in parts or whole, and restored on the way."""
    settings = settings_of(users_max, items_max, min(click_items_max, items_max), unknown_items)
    vocabulary, twin = Vocabulary(settings), Twin(settings)
    folded = np.array(data.draw(st.lists(st.booleans(), min_size=len(batch), max_size=len(batch))), dtype=np.bool_)
    for start, stop in pairwise([0, *data.draw(cuts(len(batch))), len(batch)]):
        part = cut(batch, start, stop)
        found = vocabulary.index(LogPosition(start), part, folded[start:stop])
        columns = (found.user_index, found.user_is_new, found.item_index, found.action, found.event_time_ms)
        expected = [twin.index(event_at(part, i), bool(folded[start + i])) for i in range(len(part))]
        assert list(zip(*(column.tolist() for column in columns), strict=True)) == expected
        fresh = Vocabulary(settings)
        fresh.restore(vocabulary.arrays())
        vocabulary = fresh
        check_reads(vocabulary, twin)


def check_reads(vocabulary, twin):
    """Compare all that can be read."""
    assert vocabulary.user_count == len(twin.slots)
    assert vocabulary.item_count == len(twin.items)
    assert vocabulary.click_item_count == len(twin.items) - len(twin.catalogue)
    assert dict(enumerate(vocabulary.counts.tolist())) == twin.counts
    assert vocabulary.arrays()["user_order"].tolist() == list(twin.slots.values())
    for user_id in ("a", "b", "c", "d", "é", "nobody", ""):
        assert vocabulary.user_index(user_id) == twin.slots.get(user_id, -1)
    for user_id, slot in twin.slots.items():
        assert vocabulary.user_hash(slot) == hash_of(user_id)
    ids = list(twin.items)
    assert vocabulary.item_indices([*ids, "nothing", ""]).tolist() == [*range(len(ids)), -1, -1]
    hashes = np.array([hash_of(each) for each in [*ids, "nothing"]] + [0], dtype=np.uint64)
    assert vocabulary.item_indices_of_hashes(hashes).tolist() == [*range(len(ids)), -1, -1]
    assert vocabulary.item_ids(np.arange(len(ids), dtype=np.int32)) == ids
    assert [vocabulary.item_id(index) for index in range(len(ids))] == ids
    assert vocabulary.item_hash.tolist() == [hash_of(each) for each in ids]
    assert vocabulary.in_catalogue.tolist() == [each in twin.catalogue for each in ids]


def test_a_long_stream_agrees_too():
    """Thousands of evictions leave no entry of the table behind or lost."""
    settings = settings_of(users_max=40, items_max=60, click_items_max=20)
    vocabulary, twin = Vocabulary(settings), Twin(settings)
    batch = random_events(6_000, seed=5)
    found = vocabulary.index(LogPosition(0), batch, np.ones(len(batch), dtype=np.bool_))
    expected = [twin.index(event_at(batch, index), folded=True) for index in range(len(batch))]
    assert found.user_index.tolist() == [each[0] for each in expected]
    assert found.item_index.tolist() == [each[2] for each in expected]
    assert twin.counts[VocabularyCount.USER_EVICTED] > 1_000


@given(event_batches())
def test_every_column_says_what_was_sent(batch):
    """Hashes are those of the texts; times, values and kinds are copied."""
    found = Vocabulary(settings_of()).index(LogPosition(5), batch, np.ones(len(batch), dtype=np.bool_))
    assert found.first == 5
    assert len(found) == len(batch)
    for index in range(len(batch)):
        event = event_at(batch, index)
        assert found.kind[index] == event.kind
        assert found.operation[index] == event.operation
        assert found.log_time_ms[index] == event.log_time_ms
        for name in ("user", "item", "session", "request"):
            assert getattr(found, f"{name}_hash")[index] == hash_of(getattr(event, f"{name}_id")), name
    assert np.array_equal(found.value, batch.rows["value"], equal_nan=True)
    assert np.array_equal(found.quantity, batch.rows["quantity"], equal_nan=True)


@given(event_batches(), st.lists(st.text(max_size=2), max_size=9))
def test_reading_changes_nothing(batch, ids):
    """Not even who is evicted next."""
    vocabulary = Vocabulary(settings_of())
    vocabulary.index(LogPosition(0), batch, np.ones(len(batch), dtype=np.bool_))
    before = {name: array.tobytes() for name, array in vocabulary.arrays().items()}
    vocabulary.item_indices(ids)
    for each in (*ids, "a", "b"):
        vocabulary.user_index(each)
    assert {name: array.tobytes() for name, array in vocabulary.arrays().items()} == before


def put(item_id):
    """Return an event that puts an item into the catalogue."""
    return Event(Kind.ITEM, Operation.PUT, item_id=item_id, log_time_ms=START_MS)


def test_a_delete_of_what_is_not_known_takes_nothing():
    """Neither a place of the catalogue nor that of another user; and an item stays one known from acts alone."""
    vocabulary = Vocabulary(settings_of(users_max=1, items_max=2, click_items_max=1))
    act = Event(Kind.INTERACTION, action="view", user_id="ann", item_id="clicked", log_time_ms=START_MS)
    gone = Event(Kind.ITEM, Operation.DELETE, log_time_ms=START_MS)
    deletes = [gone._replace(item_id=each) for each in ("made-up", "clicked", "made-up-too")]
    batch = build([act, *deletes, gone._replace(kind=Kind.USER, user_id="bob"), put("lamp")])
    found = vocabulary.index(LogPosition(0), batch, np.ones(len(batch), dtype=np.bool_))
    assert found.item_index.tolist() == [0, -1, 0, -1, -1, 1]
    assert found.user_index.tolist() == [0, -1, -1, -1, -1, -1]
    assert (vocabulary.user_index("ann"), vocabulary.item_count, vocabulary.click_item_count) == (0, 2, 1)
    assert not vocabulary.counts.any()


@pytest.mark.parametrize("events_max", [1, 50])
def test_made_up_ids_leave_the_catalogue_its_room(events_max):
    """However many unknown ids are clicked, every catalogue item finds its place."""
    settings = settings_of(items_max=100, click_items_max=10)
    vocabulary = Vocabulary(settings)
    clicks = [Event(Kind.INTERACTION, action="view", item_id=f"junk-{each}") for each in range(500)]
    events = clicks + [put(f"item-{each}") for each in range(90)] + clicks
    for start in range(0, len(events), events_max):
        part = build(events[start : start + events_max])
        vocabulary.index(LogPosition(start), part, np.ones(len(part), dtype=np.bool_))
    assert vocabulary.click_item_count == 10
    assert int(vocabulary.in_catalogue.sum()) == 90
    assert (vocabulary.item_indices([f"item-{each}" for each in range(90)]) >= 0).all()


def test_items_are_refused_when_their_text_has_no_room():
    """The arena is the mean length times the maximum; a longer id than any limit allows is refused alone."""
    settings = settings_of(items_max=8, click_items_max=0)
    vocabulary = Vocabulary(settings)
    longest = "x" * ITEM_ID_BYTES_MAX
    batch = build([put(longest + "y"), put(longest + "x"), *(put(f"{n}" * ITEM_ID_BYTES_MAX) for n in range(6))])
    found = vocabulary.index(LogPosition(0), batch, np.ones(len(batch), dtype=np.bool_))
    assert found.item_index.tolist() == [-1, -1, 0, 1, -1, -1, -1, -1]
    assert vocabulary.counts[VocabularyCount.ITEM_REFUSED] == 6
    assert 2 * ITEM_ID_BYTES_MAX == 8 * ITEM_ID_BYTES_MEAN


def colliding(*before):
    """Return a vocabulary whose first item, ``first``, has the hash of ``other``, as if two ids collided."""
    vocabulary = Vocabulary(settings_of(items_max=9, click_items_max=9))
    batch = build([put("first"), *before])
    vocabulary.index(LogPosition(0), batch, np.ones(len(batch), dtype=np.bool_))
    arrays = vocabulary.arrays()
    arrays["item_hash"][0] = hash_of("other")
    vocabulary.restore(arrays)
    return vocabulary


@pytest.mark.parametrize(
    "event, is_counted",
    [
        (put("other"), True),
        (Event(Kind.INTERACTION, action="view", item_id="other", log_time_ms=START_MS), True),
        (Event(Kind.IMPRESSION, item_id="other", log_time_ms=START_MS), False),
        (Event(Kind.ITEM, Operation.DELETE, item_id="other", log_time_ms=START_MS), False),
    ],
)
def test_an_id_with_the_hash_of_another_item_is_refused_and_counted(event, is_counted):
    """It gets no index and no place, and nobody who goes by the hash of its events takes it for the item."""
    vocabulary = colliding(put("third"))
    found = vocabulary.index(LogPosition(2), build([event, put("third")]), np.ones(2, dtype=np.bool_))
    assert found.item_index.tolist() == [-1, 1]
    assert hash_of("other") != found.item_hash[0] != 0
    assert vocabulary.item_count == 2
    assert vocabulary.counts[VocabularyCount.ITEM_COLLISION] == is_counted
    assert vocabulary.counts[VocabularyCount.ITEM_REFUSED] == 0
    assert vocabulary.item_indices_of_hashes(np.array([hash_of("other")], dtype=np.uint64)).tolist() == [0]


def test_an_item_is_told_from_one_of_its_hash_by_every_byte():
    """Longer, shorter, and different in the first or last byte alone; only the same text is the item."""
    always = (True, True)
    for other in ("fir", "first!", "girst", "firsu", "first"):
        meta, table = np.zeros(1, dtype=ITEM_META), np.zeros(8, dtype=np.int32)
        tables: Any = (
            np.zeros(3, np.uint64),
            np.zeros(4, np.int64),
            np.zeros(3, np.bool_),
            np.zeros(99, np.uint8),
            table,
            meta,
        )
        taken = [
            take_item(*always, np.uint64(7), np.frombuffer(each.encode(), np.uint8), 0, len(each), *tables)
            for each in ("first", other)
        ]
        assert taken == [0, 0 if other == "first" else COLLIDES]
        assert meta["items"][0] == 1


def test_bytes_are_those_of_the_arrays():
    """What is said is what is reserved."""
    vocabulary = Vocabulary(settings_of(users_max=1_000, items_max=500))
    held = [each for each in vars(vocabulary).values() if isinstance(each, np.ndarray)]
    small = (
        vocabulary._actions.nbytes
        + vocabulary._meta.nbytes
        + vocabulary._user_meta.nbytes
        + 8 * len(VocabularyCount)
        + KEY.nbytes
    )
    assert vocabulary.bytes_max == sum(each.nbytes for each in held) - small
    assert vocabulary.bytes_now == 0
