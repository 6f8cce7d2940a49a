"""Bounds of a share in every beginning of a slate, exactly, and what a slate lacks of them."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.ranking.rules.promote import Promoted, Shares

HUNDREDTHS = st.integers(0, 100)
ORDER = np.arange(8)


@given(HUNDREDTHS, HUNDREDTHS, st.integers(0, 60))
def test_bounds_of_a_share_are_those_of_exact_fractions(least, most, size):
    """Of the first k places ⌊min · k⌋ and ⌈max · k⌉, whatever a float makes of a tenth."""
    share = Promoted("p", least / 100, most / 100, np.zeros(0, np.bool_))
    assert share.least(size).tolist() == [math.floor(Fraction(least, 100) * k) for k in range(size + 1)]
    assert share.most(size).tolist() == [math.ceil(Fraction(most, 100) * k) for k in range(size + 1)]


@given(st.lists(st.booleans(), min_size=8, max_size=8), st.permutations(range(8)), HUNDREDTHS, st.integers(0, 8))
def test_what_a_slate_lacks_is_named_at_its_first_place(member, chosen, least, size):
    """Once for each promotion, and not at all for one whose least holds in every beginning."""
    shares = [Promoted(name, share / 100, 1.0, np.array(member)) for name, share in (("p", least), ("all", 100))]
    slate = chosen[:size]
    found = Shares(shares, ORDER, {}, size).short(slate) if size else []
    expected = []
    for name, share in (("p", least), ("all", 100)):
        have = np.cumsum([member[each] for each in slate]).tolist()
        lacking = [k for k in range(size) if have[k] < math.floor(Fraction(share, 100) * (k + 1))]
        expected += [(name, lacking[0])] if lacking else []
    assert found == expected


@pytest.mark.parametrize(
    "pins, fulls",
    [
        ({}, [[], [0], [0], [], [0], [0]]),
        ({1: 0}, [[0], [0], [0], [], [0], [0]]),
        ({3: 0}, [[], [0], [0], [0], [0], [0]]),
        ({3: 7}, [[], [0], [0], [], [], [0]]),
    ],
)
def test_a_most_keeps_places_for_pins_that_are_still_to_come(pins, fulls):
    """With a third at most the first and the fourth place may be the promotion's, or a pin of it has one of them."""
    promoted = Promoted("p", 0.0, 1 / 3, np.arange(8) < 4)
    shares, found = Shares([promoted], ORDER, pins, 6), []
    for place in range(6):
        found.append(shares.full(place))
        if not found[-1] and place not in pins:
            shares.take(1 + place % 3)
    assert found == fulls
