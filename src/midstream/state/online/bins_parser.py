"""Parser of the bins in served records, in place: those of one binning, with the items that they are of.

The join of outcomes has walked each record, hashed its items and noted where its bins begin, so neither is done again.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midstream.core.fold_step import ServedSlates
from midstream.state.outcomes.served_parser import OTHER, head
from midstream.state.structures.kernel import kernel, signed

HEAD_BYTES: Final = 12
"""Before the bins: the binning, eight bytes, and the place of the first item, four; as ``models.rows.online_sums``."""
_BINNING_BYTES: Final = 8
_PLACE_BYTES: Final = HEAD_BYTES - _BINNING_BYTES
_PLACE_MAX: Final = 2**31 - 1
Numbers = NDArray[np.int64]
Bytes = NDArray[np.uint8]


class ServedBins(NamedTuple):
    """The served events of a batch that hold bins of one binning."""

    event: Numbers
    """Their places, rising, (m,)."""
    start: Numbers
    """Where the items of each begin, (m,)."""
    length: Numbers
    """How many there are, (m,)."""
    items: NDArray[np.uint64]
    """Of all slates of the batch, by position."""
    place: Numbers
    """Position of the first item of each, (m,)."""
    first_bin: Numbers
    """Where the bins of each begin in ``bins``, (m,)."""
    bins: Bytes
    """The text of the batch."""


class WantedBins(NamedTuple):
    """Bins to look for in served records."""

    binning: int
    """As ``OnlineSums`` has it."""
    inputs: int
    """A byte each."""
    items_max: int
    """Of a slate; one with more is not read."""


def served_bins(text: Bytes, slates: ServedSlates, wanted: WantedBins) -> ServedBins:
    """Return what some served events of a batch hold of a binning.

    Args:
        text: Of the batch.
        slates: Of the served events.
        wanted: Bins to look for.
    """
    found = np.zeros((len(slates.event), 3), dtype=np.int64)
    if len(found):
        find_bins(text, slates.bins, np.uint64(wanted.binning), found)
    first, length, place = found.T
    count = np.diff(slates.start)
    fits = (count > 0) & (count <= wanted.items_max) & (length == HEAD_BYTES + count * wanted.inputs)
    chosen = (slates.event[fits], slates.start[:-1][fits], count[fits])
    return ServedBins(*chosen, slates.items, place[fits], first[fits] + HEAD_BYTES, text)


@kernel
def find_bins(text: Bytes, places: Numbers, binning: np.uint64, found: Numbers) -> None:
    """Find what each of some served records holds of a binning.

    Args:
        text: Of the batch.
        places: Where the bins of each begin, (m,); -1 = it has none. The record was walked, so they end within it.
        binning: Looked for.
        found: Is given where it begins, how many bytes it has, and the position of its first item, (m, 3); -1 and 0 =
            nowhere.
    """
    for number in range(len(places)):
        first, length = -1, 0
        if places[number] >= 0:
            first, length = _find(text, places[number], binning)
        found[number, 0], found[number, 1], found[number, 2] = first, length, 0
        if first >= 0:
            found[number, 2] = min(signed(_number(text, first + _BINNING_BYTES, _PLACE_BYTES)), _PLACE_MAX)


@kernel
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
