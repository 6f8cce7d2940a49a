"""What is full while a slate is made, against a plain count of every value."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.durations import Duration
from midstream.ranking.rules.cap import Cap, Caps, counted

CODES = st.integers(-1, 3)


@st.composite
def worlds(draw):
    """Candidates with values of two attributes, an order of some of them, pins, what came before, and what is taken."""
    count = draw(st.integers(1, 8))
    widths = (1, 2)
    codes = [
        np.array(draw(st.lists(CODES, min_size=count * w, max_size=count * w)), np.int32).reshape(count, w)
        for w in widths
    ]
    order = np.array(draw(st.permutations(range(count)))[: draw(st.integers(1, count))], np.intp)
    places = st.sampled_from(range(len(order)))
    caps = [Cap(attribute=name, max=draw(st.integers(1, 3))) for name in "ab"]
    before = [draw(st.dictionaries(st.integers(0, 3), st.integers(1, 4), max_size=3)) for _ in caps]
    taken = draw(st.lists(places, unique=True))
    return caps, codes, order, taken[:2], draw(st.sampled_from([before, ()])), taken[2:]


def values_of(codes, row):
    """Each value of a candidate once."""
    return {int(each) for each in codes[row] if each >= 0}


@given(worlds())
def test_a_value_is_full_when_as_many_came_as_may(world):
    """Pins and what was served before among them; a candidate of several values counts for each, once."""
    caps, codes, order, pinned, before, taken = world
    made = Caps(caps, codes, order, pinned, before)
    counts = [Counter(before[number] if before else {}) for number in range(len(caps))]

    def is_full(number, value):
        return counts[number][value] >= caps[number].max

    def check():
        for at, row in enumerate(order):
            over = [cap for n, cap in enumerate(caps) if any(is_full(n, each) for each in values_of(codes[n], row))]
            assert made.full_for(at) == (over[0] if over else None)
            assert made.capped(len(order))[at] == bool(over)
            for number in range(len(caps)):
                for value in range(4):
                    assert made.having(number, value)[at] == (value in values_of(codes[number], row))

    for at in pinned:
        for number in range(len(caps)):
            counts[number].update(values_of(codes[number], order[at]))
    check()
    for at in taken:
        came = {(n, each) for n in range(len(caps)) for each in values_of(codes[n], order[at])}
        was_full = {pair for pair in came if is_full(*pair)}
        for number, value in came:
            counts[number][value] += 1
        assert set(made.take(at)) == {pair for pair in came if is_full(*pair)} - was_full
        check()


def test_what_is_counted_has_a_value():
    """Each value of each row; no value is none."""
    codes = np.array([[0, 2], [2, -1], [-1, -1]], dtype=np.int32)
    assert counted(codes) == {0: 1, 2: 2}
    assert counted(codes[:0]) == {}


def test_a_cap_is_named_by_what_it_looks_at():
    """So that two of one attribute have names of their own in traces and metrics."""
    assert Cap(attribute="brand", max=2).name == "caps.brand"
    assert Cap(attribute="brand", max=2, within=Duration("7d")).name == "caps.brand.7d"
