"""Approximate nearest neighbours of a column of vectors that changes: a graph of usearch, and what it lacks by scan.

The graph (HNSW) only names rows. Each named row is scored by its current vector, and rows that changed since the graph
last read them are scored beside them: so a new vector is found at once, a changed one by what it is now, and one that
was taken away by nothing, whatever the graph still holds. What is approximate is which of the unchanged rows are named.

``catch_up`` runs on a thread of its own: first it builds the graph, later it removes and adds rows, a few at a time. It
rests after each piece, as long as that took, so a search has its turn. Its priority is that of the process: a thread of
a lower one keeps the interpreter's lock, and the graph's, for as long as other processes keep it off a core. When more
rows were removed than are left it builds anew, and the new graph takes the place of the old one.

Reference: Y. Malkov, D. Yashunin, "Efficient and Robust Approximate Nearest Neighbor Search Using Hierarchical
Navigable Small World Graphs", IEEE TPAMI 42(4), 2020.
"""

import threading
import time
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from midstream.core.errors import ExtraMissing
from midstream.core.types import Index, Score

if TYPE_CHECKING:
    from numpy.typing import NDArray

PENDING_MAX: Final = 8_192
"""Changed rows that a search scores one by one: 0.3 ms of 128 numbers. With more of them a scan of all answers."""
CONNECTIVITY: Final = 16
"""Neighbours of a node."""
BUILD_BREADTH: Final = 128
"""Candidates of a new node's neighbours."""
_BUILD_ROWS: Final = 128
"""Rows added to a new graph between two rests."""
_ADDED_AT_ONCE: Final = 4
"""Rows added while a search waits: about 1 ms."""
WAIT_S_MAX: Final = 0.005
"""That a search waits for these; then a scan answers."""
_REST_S_MAX: Final = 0.1


NUMBER_BYTES: Final = 2
"""Of a number in the graph, float16."""
NODE_BYTES: Final = 320
"""Of a row in the graph beside its numbers: its neighbours, its key and its places in tables, measured."""
GRAPHS_MAX: Final = 2
"""At a time: the one that is asked, and the one that is built anew to take its place."""


def graph_bytes(row_count: int, width: int) -> int:
    """Return the memory of a graph of so many rows, about."""
    return row_count * (NUMBER_BYTES * width + NODE_BYTES)


class ChangingVectors(Protocol):
    """A column of vectors that says what changed."""

    @property
    def values(self) -> Score:
        """(m, d)."""
        ...

    @property
    def scale(self) -> Score:
        """Inverse length of each, (m,); 0 = no direction."""
        ...

    @property
    def change_count(self) -> int:
        """Number of changes so far."""
        ...

    def changed_since(self, change_count: int) -> Index | None:
        """Return the rows that changed since an earlier count; None = any may have."""
        ...


def has_library() -> bool:
    """Return whether usearch is installed."""
    return find_spec("usearch") is not None


class VectorIndex:
    """A graph over the rows of one column of vectors."""

    def __init__(self, column: ChangingVectors) -> None:
        """Begin with no graph: until the first ``catch_up`` ends nothing is named."""
        self._column = column
        self._graph: Any = None
        self._seen = 0
        self._lock = threading.Lock()
        self._is_stopped = False
        self.removed_count = 0
        """Rows that were taken out of the graph since it was built."""

    @property
    def size(self) -> int:
        """Rows in the graph, 0 before there is one."""
        return 0 if self._graph is None else len(self._graph)

    def stop(self) -> None:
        """Let a running ``catch_up`` end early."""
        self._is_stopped = True

    def named(self, direction: Score, count: int, breadth: int) -> tuple[Index, Index] | None:
        """Return rows among which the nearest are, without order; None = no graph, far behind, or held too long.

        Args:
            direction: (d,).
            count: Rows that the graph is to name.
            breadth: Rows that the search holds at a time, at least ``count``: more name more of the true nearest.

        Returns:
            Those of the graph's that are as it read them, the nearest of all such, about; and all that changed since it
            read them, in neither twice. Their vectors may be gone.
        """
        if not self._lock.acquire(timeout=WAIT_S_MAX):
            return None
        try:
            graph = self._graph
            if graph is None:
                return None
            changed = self._column.changed_since(self._seen)
            if changed is None or len(changed) > PENDING_MAX:
                return None
            graph.expansion_search = max(breadth, count)
            found = graph.search(direction, count, threads=1).keys
        finally:
            self._lock.release()
        return np.setdiff1d(found.astype(np.int32), changed), changed.astype(np.int32)

    def catch_up(self) -> None:
        """Build the graph, or bring it up to the column's changes. To be called by one thread at a time.

        The column may change meanwhile; a row that is read while it is written counts as changed afterwards.

        Raises:
            ExtraMissing: usearch is not installed.
        """
        upto = self._column.change_count
        changed = None if self._graph is None else self._column.changed_since(self._seen)
        if changed is None or self.removed_count > self.size:
            self._build(upto)
        elif len(changed):
            self._follow(changed, upto)

    def _build(self, upto: int) -> None:
        column = self._column
        graph = _new_graph(column.values.shape[1])
        rows = np.flatnonzero(column.scale)
        for begin in range(0, len(rows), _BUILD_ROWS):
            if self._is_stopped:
                return
            worked = time.thread_time()
            self._add(graph, rows[begin : begin + _BUILD_ROWS])
            _rest(worked)
        with self._lock:
            self._graph, self._seen, self.removed_count = graph, upto, 0

    def _follow(self, changed: Index, upto: int) -> None:
        """Remove and add changed rows; the graph holds a row's older vector until then."""
        for begin in range(0, len(changed), _ADDED_AT_ONCE):
            if self._is_stopped:
                return
            worked = time.thread_time()
            rows = changed[begin : begin + _ADDED_AT_ONCE].astype(np.int64)
            with self._lock:
                held = rows[self._graph.contains(rows.astype(np.uint64))]
                if len(held):
                    self._graph.remove(held.astype(np.uint64), threads=1)
                    self.removed_count += len(held)
                self._add(self._graph, rows)
            _rest(worked)
        with self._lock:
            self._seen = upto

    def _add(self, graph: Any, rows: "NDArray[np.int64]") -> None:  # noqa: ANN401  # usearch's own
        column = self._column
        rows = rows[column.scale[rows] > 0.0]
        if len(rows):
            directions = column.values[rows] * column.scale[rows][:, None]
            graph.add(rows.astype(np.uint64), directions, threads=1)


def _rest(since: float) -> None:
    """Pause for as long as the thread has worked since a time of its clock."""
    time.sleep(min(time.thread_time() - since, _REST_S_MAX))


def _new_graph(width: int) -> Any:  # noqa: ANN401  # as above
    try:
        library = import_module("usearch.index")
    except ImportError as error:
        message = "an index of vectors is a graph of usearch: install midstream[vectors]"
        raise ExtraMissing(message) from error
    return library.Index(
        ndim=width, metric="ip", dtype="f16", connectivity=CONNECTIVITY, expansion_add=BUILD_BREADTH, multi=False
    )
