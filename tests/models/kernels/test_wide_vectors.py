"""Wide vectors are asked for in the kernel that says so, and in no other."""

import re

import numba
import numpy as np
import pytest

from midstream.models.kernels.wide_vectors import wide_vectors
from midstream.models.rows.tree_kernel import aligned


def attributes_of(function):
    """Return what LLVM is told of a compiled function, as text."""
    (text,) = function.inspect_llvm().values()
    own = re.search(rf"^define [^\n]*{function.__name__}[^\n]*#(\d+)", text, re.MULTILINE)
    groups = dict(re.findall(r"^attributes #(\d+) = \{(.*)\}$", text, re.MULTILINE))
    return groups.get(own[1], "") if own else ""


def test_the_kernel_that_asks_for_them_alone_gets_them():
    @numba.njit
    def wide(values):
        wide_vectors()
        return values > 0.0

    @numba.njit
    def plain(values):
        return values > 0.0

    assert wide(1.0) == plain(1.0)
    assert '"prefer-vector-width"="512"' in attributes_of(wide)
    assert "prefer-vector-width" not in attributes_of(plain)


@pytest.mark.parametrize("kind", [np.float32, np.uint32, np.uint64])
@pytest.mark.parametrize("count", [0, 1, 256, 12_000])
def test_room_begins_with_a_line_of_memory(kind, count):
    rooms = [aligned(count, np.dtype(kind)) for _ in range(8)]
    assert all(len(room) == count and room.dtype == kind for room in rooms)
    assert all(room.ctypes.data % 64 == 0 for room in rooms)
