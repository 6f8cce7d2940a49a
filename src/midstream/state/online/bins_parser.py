"""Parser of the bins in served records, in place: those of one binning, with the items that they are of."""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midstream.events.served_body import ServedBody
from midstream.state.outcomes.served_parser import ARRAY, COUNT, OTHER, SPANS, after, find_slates, hash_ids, head
from midstream.state.structures.hashing import IdKey
from midstream.state.structures.kernel import kernel, signed

HEAD_BYTES: Final = 12
"""Before the bins: the binning, eight bytes, and the place of the first item, four; as ``models.rows.online_sums``."""
_BINNING_BYTES: Final = 8
_PLACE_BYTES: Final = HEAD_BYTES - _BINNING_BYTES
_PLACE_MAX: Final = 2**31 - 1
_BINS_AT = ServedBody.__struct_fields__.index("bins")
Numbers = NDArray[np.int64]
Bytes = NDArray[np.uint8]


class ServedBins(NamedTuple):
    """The served events of a batch that hold bins of one binning."""

    event: Numbers
    """Their places, rising, (m,)."""
    start: Numbers
    """Where the items of each begin, (m + 1,)."""
    items: NDArray[np.uint64]
    """Of all, by position."""
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


def served_bins(rows: NDArray[np.void], text: Bytes, served: Numbers, wanted: WantedBins, key: IdKey) -> ServedBins:
    """Return what some served events of a batch hold of a binning.

    Args:
        rows: Of the batch.
        text: Of the batch.
        served: Places of the served events, rising.
        wanted: Bins to look for.
        key: Of ids.
    """
    found = np.zeros((len(served), 3), dtype=np.int64)
    if len(served):
        find_bins(rows, text, served, np.uint64(wanted.binning), found)
        served, found = served[found[:, 0] >= 0], found[found[:, 0] >= 0]
    spans = np.zeros((len(served), SPANS), dtype=np.int64)
    if len(served):
        find_slates(rows, text, served, spans)
    count = spans[:, COUNT]
    fits = (count > 0) & (count <= wanted.items_max) & (found[:, 1] == HEAD_BYTES + count * wanted.inputs)
    spans, (first, _, place) = np.ascontiguousarray(spans[fits]), np.ascontiguousarray(found[fits].T)
    starts = np.concatenate([[0], np.cumsum(spans[:, COUNT])]).astype(np.int64)
    items = np.empty(int(starts[-1]), dtype=np.uint64)
    if len(spans):
        hash_ids(text, spans, starts, key, items)
    return ServedBins(served[fits], starts, items, place, first + HEAD_BYTES, text)


@kernel
def find_bins(rows: NDArray[np.void], text: Bytes, places: Numbers, binning: np.uint64, found: Numbers) -> None:
    """Find what each of some served events holds of a binning.

    Args:
        rows: Of the batch.
        text: Of the batch.
        places: Of the served events, (m,).
        binning: Looked for.
        found: Is given where it begins, how many bytes it has, and the position of its first item, (m, 3); -1 =
            nowhere.
    """
    for number in range(len(places)):
        row = rows[places[number]]
        at = signed(row["text_start"]) + signed(row["event_id_length"]) + signed(row["action_length"])
        at += signed(row["user_id_length"]) + signed(row["item_id_length"])
        at += signed(row["session_id_length"]) + signed(row["request_id_length"])
        first, length = _find(text, at, at + signed(row["body_length"]), binning)
        found[number, 0], found[number, 1], found[number, 2] = first, length, 0
        if first >= 0:
            found[number, 2] = min(signed(_number(text, first + _BINNING_BYTES, _PLACE_BYTES)), _PLACE_MAX)


@kernel
def _find(text: Bytes, begin: int, stop: int, binning: np.uint64) -> tuple[int, int]:
    kind, size, at = head(text, begin, stop)
    if kind != ARRAY or size <= _BINS_AT:
        return -1, 0
    for _ in range(_BINS_AT):
        at = after(text, at, stop)
        if at < 0:
            return -1, 0
    kind, size, at = head(text, at, stop)
    if kind != ARRAY:
        return -1, 0
    for _ in range(size):
        kind, length, content = head(text, at, stop)
        if kind != OTHER or content + length > stop:
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
