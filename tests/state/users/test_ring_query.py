"""What a user did last, read by a kernel: the same as its plain twin, whatever the ring holds."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from midstream.state.users.ring_query import newest_distinct
from midstream.state.users.user_rows import ACTION_BITS, ADDED, COUNTS, PLACE_WORDS, RING_BLOCK, RingColumns


@given(
    ring=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), min_size=1, max_size=12),
    inline=st.integers(1, 12),
    added=st.integers(0, 40),
    wanted=st.lists(st.booleans(), min_size=3, max_size=3),
    count_max=st.integers(1, 15),
)
def test_the_newest_distinct_items_are_those_of_a_plain_walk(ring, inline, added, wanted, count_max):
    """Backwards from the newest, each item once, of wanted actions alone; wherever the ring goes on in a block."""
    places = np.array([(item, 7, action << ACTION_BITS | 0xFFFF) for item, action in ring], dtype=np.int32)
    ints, tails = np.full((2, COUNTS + PLACE_WORDS * inline), 99, np.int32), np.full((4, 36), 99, np.int32)
    ints[1, ADDED], ints[1, RING_BLOCK] = added, 3
    head, tail = places[:inline].ravel(), places[inline:].ravel()
    ints[1, COUNTS : COUNTS + len(head)], tails[2, : len(tail)] = head, tail
    at = np.array([COUNTS, inline, len(ring), 0])
    rings = RingColumns(ints, tails, at, np.ones(3, dtype=np.bool_))
    walk = [(added - back) % len(ring) for back in range(1, min(added, len(ring)) + 1)]
    expected = list(dict.fromkeys(ring[place][0] for place in walk if wanted[ring[place][1]]))[:count_max]
    assert newest_distinct(rings, 1, np.array(wanted), count_max).tolist() == expected
