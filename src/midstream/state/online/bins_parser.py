"""Parser of the bins in served records, in place: those of one binning, with the items that they are of.

The join of outcomes has walked each record, hashed its items and noted where its bins begin, so neither is done again.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midstream.core.fold_step import ServedSlates
from midstream.state.outcomes.served_parser import OTHER, head
from midstream.state.structures.kernel import inlined, kernel, signed

HEAD_BYTES: Final = 12
"""Before the bins: the binning, eight bytes, and the place of the first item, four; as ``models.rows.online_sums``."""
_BINNING_BYTES: Final = 8
_PLACE_BYTES: Final = HEAD_BYTES - _BINNING_BYTES
_PLACE_MAX: Final = 2**31 - 1
Numbers = NDArray[np.int64]
Bytes = NDArray[np.uint8]


class WantedBins(NamedTuple):
    """Bins to look for in served records."""

    binning: np.uint64
    """As ``OnlineSums`` has it."""
    inputs: int
    """A byte each."""
    items_max: int
    """Of a slate; one with more is not read."""


class SlateBins(NamedTuple):
    """Bins of one slate."""

    first: int
    """Where those of its first item begin in the text of the batch; -1 = it has none of the binning."""
    place: int
    """Position of that item."""


@inlined
def find_bins(text: Bytes, slates: ServedSlates, number: int, wanted: WantedBins) -> SlateBins:
    """Return what a slate holds of a binning.

    Args:
        text: Of the batch. The record was walked, so its bins end within it.
        slates: Of the batch.
        number: Of the slate.
        wanted: Bins to look for.
    """
    count = slates.start[number + 1] - slates.start[number]
    if slates.bins[number] < 0 or count == 0 or count > wanted.items_max:
        return SlateBins(-1, 0)
    first, length = _find(text, slates.bins[number], wanted.binning)
    if first < 0 or length != HEAD_BYTES + count * wanted.inputs:
        return SlateBins(-1, 0)
    place = min(signed(_number(text, first + _BINNING_BYTES, _PLACE_BYTES)), _PLACE_MAX)
    return SlateBins(first + HEAD_BYTES, place)


@inlined
def _find(text: Bytes, at: int, binning: np.uint64) -> tuple[int, int]:
    _, size, at = head(text, at, len(text))
    for _ in range(size):
        kind, length, content = head(text, at, len(text))
        if kind != OTHER or content + length > len(text):
            return -1, 0
        if length > HEAD_BYTES and _number(text, content, _BINNING_BYTES) == binning:
            return content, length
        at = content + length
    return -1, 0


@kernel
def _number(text: Bytes, at: int, count: int) -> np.uint64:
    """Return up to eight bytes as a number, little-endian."""
    found = np.uint64(0)
    for each in range(count):
        found |= np.uint64(text[at + each]) << np.uint64(8 * each)
    return found
