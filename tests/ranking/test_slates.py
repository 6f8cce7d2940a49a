"""Random slates under random rules keep every rule, and lose nothing: ``benchmarks/slates.py`` asks for 100,000."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.slate_rules import broken
from tests.support.slates import SELECTORS, Shape, random_shape, slate_of

shapes = st.builds(
    Shape,
    seed=st.integers(0, 2**32 - 1),
    selector=st.integers(0, len(SELECTORS) - 1),
    size=st.integers(1, 20),
    sources=st.integers(0, 3),
    modulus=st.integers(1, 4),
    excluded=st.integers(0, 12),
    caps=st.integers(0, 2),
    diversity=st.integers(0, 4),
    pins=st.integers(0, 2),
    boosts=st.integers(0, 2),
    promotions=st.integers(0, 3),
    new=st.integers(0, 2),
)


@settings(max_examples=1_000)
@given(shapes)
def test_no_rule_is_broken_and_nothing_disappears(shape: Shape) -> None:
    """Whatever rules come together: what an independent checker says of the slate, and of its traces, is nothing."""
    assert broken(slate_of(shape)) == []


@pytest.mark.parametrize("seed", [34313, 88483])
def test_slates_in_which_pins_bring_too_late_what_promotions_need(seed) -> None:
    """A promotion that a pin is of needs a place above it; the others have what is left, and have it as early."""
    assert broken(slate_of(random_shape(seed))) == []


@settings(max_examples=100)
@given(shapes)
def test_the_same_request_is_answered_the_same(shape: Shape) -> None:
    """Slate, propensities and traces follow from seed, state and plan."""
    one, other = slate_of(shape).served, slate_of(shape).served
    assert one.selection.chosen.tolist() == other.selection.chosen.tolist()
    assert one.selection.propensity.tobytes() == other.selection.propensity.tobytes()
    assert one.traces == other.traces
