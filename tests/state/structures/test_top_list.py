"""The hot list: exactly the best of all eligible items, whatever rises, leaves and comes back."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from midstream.state.structures.top_list import (
    COMPLETE,
    LENGTH,
    bar_of,
    build_list,
    drop_item,
    raise_item,
    settle_items,
)

ITEMS = 10
HASHES = np.array([4, 4, 1, 9, 2**64 - 1, 0, 4, 7, 7, 3], dtype=np.uint64)
STEPS = st.lists(
    st.tuples(st.integers(0, ITEMS - 1), st.sampled_from((None, 0.0, 0.0, 1.0, 1.0, 0.5, 2.0**-1074, 1e300))),
    max_size=120,
)


class Watched:
    """A list with all sums beside it, changed as the items table changes it."""

    def __init__(self, capacity):
        self.sums = np.zeros(ITEMS)
        self.eligible = np.ones(ITEMS, dtype=np.bool_)
        self.values, self.items = np.zeros(capacity), np.zeros(capacity, dtype=np.int32)
        self.state = np.zeros(2, dtype=np.int64)
        self.build_count = -1
        self.build()

    def build(self):
        build_list(self.values, self.items, self.state, self.sums, self.eligible, ITEMS, HASHES)
        self.build_count += 1

    def add(self, item, weight):
        old, self.sums[item] = self.sums[item], self.sums[item] + weight
        if self.eligible[item]:
            raise_item(self.values, self.items, self.state, item, old, self.sums[item], HASHES)

    def add_all(self, added):
        """Add to sums one after another, and settle the list at once."""
        risen, bar = [], bar_of(self.values, self.state)
        for item, weight in added:
            old, self.sums[item] = self.sums[item], self.sums[item] + weight
            if self.eligible[item] and self.sums[item] != old and old <= bar <= self.sums[item]:
                risen.append(item)
        touched = np.array(risen, dtype=np.int32)
        settle_items(self.values, self.items, self.state, self.sums, touched, len(risen), HASHES)

    def switch(self, item):
        self.eligible[item] = not self.eligible[item]
        if self.eligible[item]:
            raise_item(self.values, self.items, self.state, item, 0.0, self.sums[item], HASHES)
        elif drop_item(self.values, self.items, self.state, item, self.sums[item], HASHES):
            self.build()

    def listed(self):
        length = int(self.state[LENGTH])
        return list(zip(self.items[:length].tolist(), self.values[:length].tolist(), strict=True))

    def ranked(self):
        """All eligible items with a sum, best first."""
        found = [(-self.sums[item], int(HASHES[item]), item) for item in range(ITEMS) if self.eligible[item]]
        return [(item, float(-value)) for value, _, item in sorted(found) if value < 0.0]


@given(STEPS, st.sampled_from((1, 2, 3, 4, 8, 20)))
def test_list_is_always_the_best_of_all_that_are_eligible(steps, capacity):
    """After each step the list is a prefix of the full ranking, and at least half the capacity long if it can be."""
    watched = Watched(capacity)
    for item, weight in steps:
        if weight is None:
            watched.switch(item)
        else:
            watched.add(item, weight)
        ranked = watched.ranked()
        listed = watched.listed()
        assert listed == ranked[: len(listed)]
        assert len(listed) >= min(capacity // 2, len(ranked))
        assert not watched.state[COMPLETE] or len(listed) == len(ranked)


@given(st.lists(STEPS, max_size=6), st.sampled_from((1, 2, 3, 4, 8, 20)))
def test_settling_many_at_once_is_as_good_as_raising_each(batches, capacity):
    """Items leave and come back between batches; a list that lost some holds no fewer than it has to."""
    settled, raised = Watched(capacity), Watched(capacity)
    for steps in batches:
        switched = [item for item, weight in steps if weight is None]
        added = [(item, weight) for item, weight in steps if weight is not None]
        settled.add_all(added)
        for item, weight in added:
            raised.add(item, weight)
        for item in switched:
            settled.switch(item)
            raised.switch(item)
        ranked = settled.ranked()
        listed = settled.listed()
        assert listed == ranked[: len(listed)]
        assert len(listed) >= min(capacity // 2, len(ranked))
        assert not settled.state[COMPLETE] or len(listed) == len(ranked)
        least = min(len(listed), len(raised.listed()))
        assert least >= min(capacity // 2, len(ranked))
        assert listed[:least] == raised.listed()[:least]


@given(st.lists(st.sampled_from((0.0, 0.5, 1.0, 1.0, 3.0)), min_size=ITEMS, max_size=ITEMS), st.integers(1, 12))
def test_a_list_built_from_sums_is_sorted_and_complete_or_full(sums, capacity):
    """Building gives the first ``capacity`` of the full ranking, ties by hash and index."""
    watched = Watched(capacity)
    watched.sums[:] = sums
    watched.build()
    assert watched.listed() == watched.ranked()[:capacity]
    assert bool(watched.state[COMPLETE]) == (len(watched.ranked()) <= capacity)


def test_a_long_list_is_built_anew_only_after_half_of_it_has_left():
    """Leaving costs a search as a rule; ten sums in a list of four are gone through anew once for every two that go."""
    watched = Watched(4)
    for item in range(ITEMS):
        watched.add(item, 1.0 + item)
    for item, builds in ((9, 0), (8, 0), (7, 1), (6, 1), (5, 1), (4, 2)):
        watched.switch(item)
        assert watched.build_count == builds
