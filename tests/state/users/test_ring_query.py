"""What a user did last, read by a kernel: the same as its plain twin, whatever the ring holds."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from midstream.state.users.ring_query import newest_distinct


@given(
    ring=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), min_size=1, max_size=12),
    added=st.integers(0, 40),
    wanted=st.lists(st.booleans(), min_size=3, max_size=3),
    count_max=st.integers(1, 15),
)
def test_the_newest_distinct_items_are_those_of_a_plain_walk(ring, added, wanted, count_max):
    """Backwards from the newest, each item once, of wanted actions alone."""
    items, actions = np.array(ring, dtype=np.int32).T.copy()
    walk = [(added - back) % len(ring) for back in range(1, min(added, len(ring)) + 1)]
    expected = list(dict.fromkeys(ring[place][0] for place in walk if wanted[ring[place][1]]))[:count_max]
    found = newest_distinct(items, actions.astype(np.int8), added, np.array(wanted), count_max)
    assert found.tolist() == expected
