"""Columns of a batch that depend on each event alone: hashes of its ids, its action, times and numbers."""

import numpy as np
from numpy.typing import NDArray

from midstream.core.kinds import Kind
from midstream.core.types import EventBatch
from midstream.state.structures.borrowed import borrowed
from midstream.state.structures.hashing import IdKey, hash_id
from midstream.state.structures.kernel import frozen_columns, inlined, kernel, signed

_INTERACTION = int(Kind.INTERACTION)
_NONE = np.uint64(0)


def item_hashes(batch: EventBatch, key: IdKey) -> NDArray[np.uint64]:
    """Return the 64-bit hash of the id of the item that each event names, shape (n,); 0 = none."""
    n = len(batch)
    rows, text = frozen_columns(batch)
    hashes = np.empty((4, n), dtype=np.uint64)
    read_columns(
        rows,
        text,
        key,
        np.empty(0, dtype=np.uint64),
        np.empty((2, n), dtype=np.uint8),
        hashes,
        np.empty(n, dtype=np.int16),
        np.empty((2, n), dtype=np.int64),
        np.empty(n, dtype=np.float64),
        np.empty(n, dtype=np.float32),
    )
    named: NDArray[np.uint64] = hashes[1]
    return named


@kernel
def read_columns(
    rows: NDArray[np.void],
    text: NDArray[np.uint8],
    key: IdKey,
    actions: NDArray[np.uint64],
    codes: NDArray[np.uint8],
    hashes: NDArray[np.uint64],
    action: NDArray[np.int16],
    times: NDArray[np.int64],
    value: NDArray[np.float64],
    quantity: NDArray[np.float32],
) -> None:
    """Write the columns that depend on the event alone."""
    named, named_length, number = 0, -1, -1
    rows, text, key, actions = borrowed((rows, text, key, actions))
    codes, hashes, action, times = borrowed((codes, hashes, action, times))
    for i in range(len(rows)):
        row = rows[i]
        codes[0, i] = row["kind"]
        codes[1, i] = row["operation"]
        times[1, i] = row["log_time_ms"]
        value[i] = row["value"]
        quantity[i] = row["quantity"]
        start = signed(row["text_start"]) + signed(row["event_id_length"])
        length = signed(row["action_length"])
        action[i] = -1
        if row["kind"] == _INTERACTION:
            if not _is_same(text, named, start, length if length == named_length else -1):
                number = _action_of(hash_id(text, start, length, key), actions)
            named, named_length = start, length
            action[i] = number
        lengths = (
            signed(row["user_id_length"]),
            signed(row["item_id_length"]),
            signed(row["session_id_length"]),
            signed(row["request_id_length"]),
        )
        for each in range(4):
            start += length
            length = lengths[each]
            hashes[each, i] = hash_id(text, start, length, key) if length > 0 else _NONE


@inlined
def _is_same(text: NDArray[np.uint8], one: int, other: int, length: int) -> bool:
    """Return whether two texts of one length are the same: most acts are what the act before was. -1 = no."""
    same = length >= 0
    at = 0
    while same and at < length:
        same = text[one + at] == text[other + at]
        at += 1
    return same


@kernel
def _action_of(name_hash: np.uint64, actions: NDArray[np.uint64]) -> int:
    for number in range(len(actions)):
        if actions[number] == name_hash:
            return number
    return -1
