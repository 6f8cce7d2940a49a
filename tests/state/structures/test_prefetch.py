"""Asking for memory ahead changes nothing."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from midstream.state.structures.kernel import kernel
from midstream.state.structures.prefetch import prefetch


@kernel
def ask(array, index, offset):
    """Ask for one place."""
    prefetch(array, index, offset)


PLACES = st.integers(-(2**40), 2**40) | st.integers(-2, 40)


@given(PLACES, PLACES)
def test_any_place_may_be_asked_for(index, offset):
    """Inside an array or anywhere else, of any layout: no value changes, and no address is one too many."""
    rows = np.zeros(7, dtype=np.dtype([("hash", "u8"), ("older", "i4"), ("newer", "i4")]))
    for array in (rows, rows["older"], np.arange(12.0).reshape(3, 4), np.arange(12, dtype=np.uint8)[::-2]):
        before = array.tobytes()
        ask(array, index, offset)
        assert array.tobytes() == before
