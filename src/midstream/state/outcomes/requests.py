"""Index of requests: the log positions of the newest ``requests_max`` served events, by request id."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midstream.core.fold_step import FoldStep
from midstream.core.kinds import Kind
from midstream.core.types import LogPosition, Mask
from midstream.state.settings import FoldSettings
from midstream.state.structures.hash_ring import HashRing, ring_bytes
from midstream.state.structures.hash_table import find, insert, remove
from midstream.state.structures.kernel import kernel

_SERVED = int(Kind.SERVED)
_NONE = np.uint64(0)
_BYTES_EACH = 16


def request_bytes(settings: FoldSettings) -> int:
    """Return the bytes of the table."""
    return ring_bytes(settings.limits.requests_max, _BYTES_EACH)


class RequestRows(NamedTuple):
    """Arrays of the table, in the order of ``fold_requests``."""

    request_hash: NDArray[np.uint64]
    position: NDArray[np.int64]
    table: NDArray[np.int32]
    meta: NDArray[np.void]


class Requests:
    """A ring of requests with a table over it; full, the oldest goes. A request's first answer stays."""

    def __init__(self, settings: FoldSettings) -> None:
        """Reserve the maximum; pages are paid when touched."""
        self._ring = HashRing(settings.limits.requests_max, {"request_hash": np.uint64, "position": np.int64})
        hashes, positions = self._ring.columns
        self.rows = RequestRows(hashes, positions, self._ring.table, self._ring.meta)
        """For the one pass over all tables (``state.one_pass``)."""

    def __len__(self) -> int:
        """Return the number of requests that can be found."""
        return len(self._ring)

    @property
    def bytes_now(self) -> int:
        """Memory of what is in use, about."""
        return self._ring.bytes_now

    @property
    def bytes_max(self) -> int:
        """Memory when every page has been touched."""
        return self._ring.bytes_max

    def apply(self, step: FoldStep) -> None:
        """Fold the served events of a step."""
        batch = step.events
        fold_requests(batch.kind, batch.folded, batch.request_hash, batch.first, *self.rows)

    def find(self, request_hash: int) -> LogPosition | None:
        """Return the log position before the served event of a request, so that reading from it begins there."""
        hashes, positions = self._ring.columns
        place = find(np.uint64(request_hash), hashes, self._ring.table) if request_hash else -1
        return None if place < 0 else LogPosition(int(positions[place]))

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return what can be found, oldest first: ``request_hash`` and ``position``."""
        return self._ring.arrays()

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Replace the table by what ``arrays`` returned."""
        self._ring.restore(arrays)


@kernel
def fold_requests(
    kind: NDArray[np.uint8],
    folded: Mask,
    request_hash: NDArray[np.uint64],
    first: int,
    ring_hash: NDArray[np.uint64],
    ring_position: NDArray[np.int64],
    table: NDArray[np.int32],
    meta: NDArray[np.void],
) -> None:
    """Fold the served events of a batch."""
    requests_max = len(ring_hash)
    for i in range(len(kind)):
        if kind[i] != _SERVED or not folded[i] or request_hash[i] == _NONE:
            continue
        if find(request_hash[i], ring_hash, table) >= 0:
            continue
        if meta[0]["count"] == requests_max:
            remove(meta[0]["head"], ring_hash, table)
            meta[0]["head"] = (meta[0]["head"] + 1) % requests_max
            meta[0]["count"] -= 1
        place = (meta[0]["head"] + meta[0]["count"]) % requests_max
        ring_hash[place] = request_hash[i]
        ring_position[place] = first + i
        insert(place, ring_hash, table)
        meta[0]["count"] += 1
