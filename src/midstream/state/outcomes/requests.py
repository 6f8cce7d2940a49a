"""Index of requests: the log positions of the newest ``requests_max`` served events, by request id."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from midstream.core.kinds import Kind
from midstream.core.types import IndexedBatch, LogPosition, Mask
from midstream.state.settings import FoldSettings
from midstream.state.structures.hash_table import fill, find, insert, remove, table_size
from midstream.state.structures.kernel import kernel

_SERVED = int(Kind.SERVED)
_NONE = np.uint64(0)
_BYTES_EACH = 16
_PAGE_BYTES = 4_096
_META = np.dtype([("head", "i8"), ("count", "i8")])


class Requests:
    """A ring of requests with a table over it; full, the oldest goes. A request's first answer stays."""

    def __init__(self, settings: FoldSettings) -> None:
        """Reserve the maximum; pages are paid when touched."""
        requests_max = settings.limits.requests_max
        self._hash = np.zeros(requests_max, dtype=np.uint64)
        self._position = np.zeros(requests_max, dtype=np.int64)
        self._table = np.zeros(table_size(requests_max), dtype=np.int32)
        self._meta = np.zeros(1, dtype=_META)

    def __len__(self) -> int:
        """Return the number of requests that can be found."""
        return int(self._meta["count"][0])

    @property
    def bytes_now(self) -> int:
        """Memory of what is in use, about."""
        return len(self) * _BYTES_EACH + min(self._table.nbytes, len(self) * _PAGE_BYTES)

    @property
    def bytes_max(self) -> int:
        """Memory when every page has been touched."""
        return len(self._hash) * _BYTES_EACH + self._table.nbytes

    def apply(self, batch: IndexedBatch) -> None:
        """Fold the served events of a batch."""
        _fold(
            batch.kind,
            batch.folded,
            batch.request_hash,
            batch.first,
            self._hash,
            self._position,
            self._table,
            self._meta,
        )

    def find(self, request_hash: int) -> LogPosition | None:
        """Return the log position before the served event of a request, so that reading from it begins there."""
        place = find(np.uint64(request_hash), self._hash, self._table) if request_hash else -1
        return None if place < 0 else LogPosition(int(self._position[place]))

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return what can be found, oldest first: ``request_hash`` and ``position``."""
        held = (int(self._meta["head"][0]) + np.arange(len(self))) % len(self._hash)
        return {"request_hash": self._hash[held], "position": self._position[held]}

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Become the table whose ``arrays`` these are."""
        count = len(arrays["request_hash"])
        self._hash[:count] = arrays["request_hash"]
        self._position[:count] = arrays["position"]
        self._meta["head"] = 0
        self._meta["count"] = count
        fill(self._hash, count, self._table)


@kernel
def _fold(
    kind: NDArray[np.uint8],
    folded: Mask,
    request_hash: NDArray[np.uint64],
    first: int,
    ring_hash: NDArray[np.uint64],
    ring_position: NDArray[np.int64],
    table: NDArray[np.int32],
    meta: NDArray[np.void],
) -> None:
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
