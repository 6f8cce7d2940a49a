"""The one pass over all tables: a batch of usual events is folded by one call of a kernel, a run at a time.

``Fold`` hands a step from table to table. That is some twenty calls and as many small arrays, which for one event take
ten times what the event does. Here the arrays of all tables are one value that is made once, so no table may put
another array in the place of one of them; and what a kernel cannot do (documents, segments, slates that are opened) is
left to the tables themselves, which find the columns of the run where it left them.

A batch with an event that is not usual takes the general way as a whole. In long batches the calls are no longer what
counts, and each event that a batch is cut at is a step of its own: 0.3 ms, more than the runs around it gain.
"""

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from midstream.core.fold_step import Fingerprints, FoldStep, SessionColumns
from midstream.core.types import EventBatch, IndexedBatch, LogPosition
from midstream.state.cells.cells import Cells
from midstream.state.cells.coverage import CountCoverage
from midstream.state.ids.event_ids import EventIds
from midstream.state.ids.vocabulary import Vocabulary
from midstream.state.items.items import Items
from midstream.state.outcomes.outcomes import Outcomes
from midstream.state.outcomes.requests import Requests
from midstream.state.pairs.covisitation import Pairs
from midstream.state.segments.segments import Segments
from midstream.state.sessions.session_index import SessionIndex
from midstream.state.sessions.sessions import Sessions
from midstream.state.structures.kernel import frozen_columns
from midstream.state.tables import TablesAbove
from midstream.state.users.users import Users

if TYPE_CHECKING:
    from midstream.state.one_pass_kernels import RunColumns, Tables

RUN_EVENTS: Final = 1_024
"""Events of a run: their columns are 170 kB, which stay in a core's own cache while table after table reads them."""
BESIDE_MIN: Final = 4 * RUN_EVENTS
"""Usual events that are worth a second core: more than a server folds at a turn, as long as it answers beside it."""
WAIT_S_MAX: Final = 60.0
"""For the other core, at a time: a run takes it 2 ms, on a machine that is busy 100."""
WAITS_MAX: Final = 3
"""A process that was stopped goes on with its time over, and the other thread with nothing done yet."""
_NO_PRINTS: Final = Fingerprints(np.empty(0, np.uint64), np.empty(0, np.uint32), np.empty(0, np.uint32))


@dataclass(frozen=True, slots=True, eq=False)
class _Run:
    """Events that are folded together."""

    first: LogPosition
    batch: EventBatch
    prints: Fingerprints | None

    def part(self, start: int, stop: int) -> "_Run":
        """Return some of the events; nothing is copied."""
        batch = EventBatch(self.batch.rows[start:stop], self.batch.text)
        return _Run(LogPosition(self.first + start), batch, self.prints and self.prints[start:stop])


class OnePass:
    """The arrays of all tables of one fold as one value, and room for the columns of a run."""

    def __init__(self, above: TablesAbove) -> None:
        """Keep the tables; numba is not asked for before the first run.

        Args:
            above: All tables.
        """
        self._event_ids = above.table(EventIds)
        self._vocabulary = above.table(Vocabulary)
        self._sessions = above.table(Sessions)
        self._items = above.table(Items)
        self._users = above.table(Users)
        self._cells = above.table(Cells)
        self._counted = above.table(CountCoverage)
        self._segments = above.table(Segments)
        self._pairs = above.table(Pairs)
        self._session_index = above.table(SessionIndex)
        self._requests = above.table(Requests)
        self._outcomes = above.table(Outcomes)
        kinds = above.settings.attributes
        self._columns = [self._items.codes(name) for name, kind in kinds.items() if kind in {"category", "tags"}]
        """Held for as long as this is: kernels are given their addresses alone."""
        self._left: frozenset[type] = frozenset()
        self._which = -1
        self._rooms: list[tuple[RunColumns, Tables]] = []
        """Room for a run, and with it the arrays of all tables as one value; a second one where two runs are folded
        at a time."""
        self._beside: tuple[int, ThreadPoolExecutor] | None = None
        """The second core's thread, and the process that it runs in: in a copy made by ``fork`` it does not."""

    def leave_out(self, left: frozenset[type]) -> None:
        """From here on fold without these tables."""
        from midstream.state import one_pass_kernels as bits

        self._left = left
        leaves = {
            Pairs: bits.PAIRS,
            SessionIndex: bits.SESSION_INDEX,
            Requests: bits.REQUESTS,
            Outcomes: bits.OUTCOMES,
        }
        self._which = ~sum(bit for kind, bit in leaves.items() if kind in left)

    def is_possible(self, first: LogPosition) -> bool:
        """Return whether usual events from a log position on can be folded so: before a compaction they cannot."""
        return self._vocabulary.dropped.before <= first

    def fold(self, first: LogPosition, batch: EventBatch, prints: Fingerprints | None) -> bool:
        """Fold a batch; return False, nothing done, where one of its events is not usual.

        Many are folded on two cores, where this process may use them. Then a thread folds the tables that only read
        what stands above them, while this one folds the others and begins the next run. Each table is folded by one
        thread, run after run, so its bits are the same.

        Args:
            first: Log position before the batch.
            batch: Of any length.
            prints: Of the batch, where somebody has taken them already.

        Raises:
            RuntimeError: The other thread has not ended.
        """
        whole = _Run(first, batch, prints)
        if len(batch) <= RUN_EVENTS:
            left = self._fold(0, whole, -1)
            if left >= 0:
                self._fold_rest(0, whole, left)
            return left >= 0
        if not is_usual(batch):
            return False
        runs = [whole.part(start, start + RUN_EVENTS) for start in range(0, len(batch), RUN_EVENTS)]
        if len(batch) >= BESIDE_MIN and len(os.sched_getaffinity(0)) > 1:
            self._fold_beside(runs)
            return True
        for run in runs:
            self._fold_rest(0, run, self._usual(self._fold(0, run, -1)))
        return True

    def _fold_beside(self, runs: Sequence["_Run"]) -> None:
        """Fold runs on two cores: ids of the next one, items and cells here, all else of a run there."""
        from midstream.state.one_pass_kernels import CELLS, IDS, ITEMS

        if self._beside is None or self._beside[0] != os.getpid():
            self._beside = os.getpid(), ThreadPoolExecutor(max_workers=1, thread_name_prefix="midstream-fold")
        self._usual(self._fold(0, runs[0], IDS))
        for number, run in enumerate(runs):
            room = number % 2
            waits = self._beside[1].submit(self._fold, room, run, ~(IDS | ITEMS | CELLS))
            try:
                self._fold(room, run, ITEMS | CELLS)
                if number + 1 < len(runs):
                    self._usual(self._fold(1 - room, runs[number + 1], IDS))
            finally:
                left = _result(waits)
            self._fold_rest(room, run, self._usual(left))

    def _fold(self, room: int, run: "_Run", which: int) -> int:
        """Call the kernel for a run and some tables, its columns in one of the rooms; return what it does."""
        from midstream.state.one_pass_kernels import OUTCOMES, fold_run

        while room >= len(self._rooms):
            self._rooms.append(self._made())
        if self._outcomes.leaving is not None:
            which &= ~OUTCOMES
        rows, text = frozen_columns(run.batch)
        taken, erasures = run.prints or _NO_PRINTS, self._vocabulary.erasures
        return fold_run(
            self._rooms[room][1], which & self._which, run.first, rows, text, taken.id_hash, taken.check, taken.content,
            erasures.refused_hash, erasures.refused_until,
        )  # fmt: skip

    def _usual(self, left: int) -> int:
        """Return what is left to the general way of a run that has been looked at."""
        if left < 0:
            message = "an event that is not usual came in a run of usual ones"
            raise RuntimeError(message)
        return left

    def _fold_rest(self, room: int, run: "_Run", left: int) -> None:
        """Hand the columns of a run to the tables that fold it themselves, in the order of ``state.tables``."""
        from midstream.state.one_pass_kernels import SERVES, STARTS_COLD

        has_documents = bool(left & STARTS_COLD) and self._users.document_count > 0
        opens = bool(left & SERVES) or self._outcomes.leaving is not None
        if not (has_documents or opens or self._segments.is_declared):
            return
        step = self._step(self._rooms[room][0], run.first, run.batch)
        self._users.apply_documents(step.events, has_documents=has_documents)
        if Segments not in self._left:
            self._segments.apply(step)
        if opens and Outcomes not in self._left:
            self._outcomes.apply(step)

    def _step(self, columns: "RunColumns", first: LogPosition, batch: EventBatch) -> FoldStep:
        """Return the step of a run: its columns are views, valid until another run is folded in that room."""
        n = len(batch)
        user_hash, item_hash, session_hash, request_hash = columns.hashes[: 4 * n].reshape(4, n)
        event_time_ms, log_time_ms = columns.times[: 2 * n].reshape(2, n)
        user_index, item_index = columns.indices[: 2 * n].reshape(2, n)
        kind, operation = columns.codes[: 2 * n].reshape(2, n)
        step = FoldStep(first, batch)
        step.admission = columns.admission[:n]
        step.events = IndexedBatch(
            first=first,
            kind=kind,
            operation=operation,
            action=columns.action[:n],
            folded=columns.folded[:n],
            user_index=user_index,
            user_hash=user_hash,
            user_is_new=columns.is_new[:n],
            item_index=item_index,
            item_hash=item_hash,
            session_hash=session_hash,
            request_hash=request_hash,
            event_time_ms=event_time_ms,
            log_time_ms=log_time_ms,
            value=columns.value[:n],
            quantity=columns.quantity[:n],
            source=batch,
        )
        step.sessions = SessionColumns(columns.number[:n], columns.before[:n], columns.user[:n])
        return step

    def _made(self) -> "tuple[RunColumns, Tables]":
        """Return room for a run, and the arrays of all tables with it as one value."""
        from midstream.state.one_pass_kernels import make_tables

        columns = _room(self._sessions.before_max, self._cells.rows.code_count)
        made = make_tables(
            columns,
            self._event_ids.rows,
            self._vocabulary.rows,
            self._vocabulary.aliases.rows,
            self._sessions.rows,
            self._items.rows,
            self._users.rows,
            self._pairs.rows,
            self._session_index.rows,
            self._requests.rows,
            self._outcomes.rows,
            self._users.affinity_rows,
            self._cells.rows,
            self._counted.rows,
        )
        return columns, made


def is_usual(batch: EventBatch) -> bool:
    """Return whether every event of a batch is usual. Cost: 1 ns an event."""
    from midstream.state.one_pass_kernels import usual_until

    return usual_until(frozen_columns(batch)[0], 0) == len(batch)


def _result(waits: "Future[int]") -> int:
    """Return what the other thread returns."""
    for _ in range(WAITS_MAX):
        if wait((waits,), WAIT_S_MAX).done:
            return waits.result()
    message = f"no end of a run on the second core came within {WAITS_MAX * WAIT_S_MAX:g} s"
    raise RuntimeError(message)


def _room(before_max: int, code_count: int) -> "RunColumns":
    """Return room for the columns of one run."""
    from midstream.state.one_pass_kernels import RunColumns

    n = RUN_EVENTS
    return RunColumns(
        id_hash=np.empty(n, dtype=np.uint64),
        check=np.empty(n, dtype=np.uint32),
        content=np.empty(n, dtype=np.uint32),
        admission=np.empty(n, dtype=np.uint8),
        folded=np.empty(n, dtype=np.bool_),
        codes=np.empty(2 * n, dtype=np.uint8),
        hashes=np.empty(4 * n, dtype=np.uint64),
        action=np.empty(n, dtype=np.int16),
        times=np.empty(2 * n, dtype=np.int64),
        indices=np.empty(2 * n, dtype=np.int32),
        is_new=np.empty(n, dtype=np.bool_),
        value=np.empty(n, dtype=np.float64),
        quantity=np.empty(n, dtype=np.float32),
        number=np.empty(n, dtype=np.int64),
        before=np.empty((n, before_max), dtype=np.int32),
        user=np.empty(n, dtype=np.uint64),
        item_codes=np.empty(n * code_count, dtype=np.int32),
    )
