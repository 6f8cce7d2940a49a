"""Room of the state for a change of an item's document, known before the change goes to the log.

The fold refuses a document that is too long, or for which there is no memory, and counts it. A change of which that is
known is not recorded: it would be refused on every node and in every rebuild, and be recorded again after each start.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from midstream.core.kinds import Operation
from midstream.events.wire import vector_length
from midstream.state.attributes.documents import DOCUMENT_BYTES_MAX, OVERHEAD_BYTES, Documents
from midstream.state.fold import Fold
from midstream.state.items.items import VECTOR_NUMBER_BYTES


def document_bytes_max(fold: Fold) -> int:
    """Return the bytes that the document of one item may have."""
    kinds = fold.settings.attributes.values()
    return DOCUMENT_BYTES_MAX + VECTOR_NUMBER_BYTES * sum(map(vector_length, kinds))


def refusal(fold: Fold, index: int, body: bytes, now_ms: int) -> str:
    """Return why the fold would refuse some fields of an item, empty = it would not.

    Args:
        fold: The state.
        index: Of the item.
        body: JSON object of the fields, of a change without a time of its own.
        now_ms: Log time, about.

    Cost: 75 µs for a vector of 384 numbers.
    """
    longest = document_bytes_max(fold)
    room = fold.settings.limits.document_bytes_max - fold.items.document_bytes
    text = fold.items.document_text(index)
    used = len(text) + OVERHEAD_BYTES if text else 0
    for bytes_max, why in (
        (1 << 62, f"its document would be longer than {longest:,} bytes"),
        (used + room, "the documents of all items have no room left: [limits] document_bytes_max"),
    ):
        alone = Documents(bytes_max, longest)
        alone.restore(_arrays(text))
        alone.apply(0, Operation.PATCH, body, now_ms, is_timed=False)
        if alone.refused_count:
            return why
    return ""


def _arrays(text: bytes) -> Mapping[str, NDArray[np.generic]]:
    """Return what restores one document, or none."""
    count = 1 if text else 0
    return {
        "index": np.zeros(count, dtype=np.int32),
        "length": np.full(count, len(text), dtype=np.int32),
        "text": np.frombuffer(text, dtype=np.uint8),
        "refused": np.zeros(1, dtype=np.int64),
    }
