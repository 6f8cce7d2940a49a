"""Columns of a batch as the kernels that follow slates are given them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import IndexedBatch, Mask
from midstream.state.structures.hashing import IdKey

Hashes = NDArray[np.uint64]
Numbers = NDArray[np.int64]


class OutcomeColumns(NamedTuple):
    """Columns of an ``IndexedBatch`` that are folded, and of its source, all (n,)."""

    kind: NDArray[np.uint8]
    folded: Mask
    action: NDArray[np.int16]
    user_hash: Hashes
    item_index: NDArray[np.int32]
    item_hash: Hashes
    request_hash: Hashes
    session_hash: Hashes
    event_time_ms: Numbers
    log_time_ms: Numbers
    value: NDArray[np.float64]
    quantity: NDArray[np.float32]
    rows: NDArray[np.void]
    text: NDArray[np.uint8]
    key: IdKey
    """Of ids."""


def outcome_columns(batch: IndexedBatch, rows: NDArray[np.void], text: NDArray[np.uint8], key: IdKey) -> OutcomeColumns:
    """Return the columns of a batch; ``rows`` and ``text`` are those of its source as kernels take them."""
    return OutcomeColumns(
        batch.kind,
        batch.folded,
        batch.action,
        batch.user_hash,
        batch.item_index,
        batch.item_hash,
        batch.request_hash,
        batch.session_hash,
        batch.event_time_ms,
        batch.log_time_ms,
        batch.value,
        batch.quantity,
        rows,
        text,
        key,
    )
