"""Memory whose rows begin where lines of memory do: a row of 64 bytes then takes one line and not two."""

import math
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from midstream.state.structures.prefetch import LINE_BYTES

Kind = TypeVar("Kind", bound=np.generic)


def aligned_zeros(shape: tuple[int, ...], dtype: np.dtype[Kind]) -> NDArray[Kind]:
    """Return zeros whose first byte begins a line of memory. Pages are paid when touched, as those of ``np.zeros``."""
    memory = np.zeros(math.prod(shape) * dtype.itemsize + LINE_BYTES, dtype=np.uint8)
    start = -memory.ctypes.data % LINE_BYTES
    return memory[start : len(memory) - LINE_BYTES + start].view(dtype).reshape(shape)
