"""The one pass over all tables: a batch of usual events is folded by one call of a kernel, a run at a time.

``Fold`` hands a step from table to table. That is some twenty calls and as many small arrays, which for one event take
ten times what the event does. Here the arrays of all tables are one value that is made once, so no table may put
another array in the place of one of them; that of event ids does, and says so. What a kernel cannot do (documents,
segments, slates that are opened) is left to the tables themselves, which find the columns of the run where it left
them.

A batch with an event that is not usual takes the general way as a whole. In long batches the calls are no longer what
counts, and each event that a batch is cut at is a step of its own: 0.3 ms, more than the runs around it gain.
"""

import os
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from midstream.core.fold_step import Fingerprints, FoldStep, SessionColumns
from midstream.core.types import EventBatch, IndexedBatch, LogPosition
from midstream.state.cells.cells import Cells
from midstream.state.cells.coverage import CountCoverage
from midstream.state.ids.event_ids import EventIds
from midstream.state.ids.vocabulary import Vocabulary
from midstream.state.items.items import Items
from midstream.state.online.online_models import OnlineModels
from midstream.state.outcomes.outcomes import Outcomes
from midstream.state.outcomes.requests import Requests
from midstream.state.pairs.covisitation import Pairs
from midstream.state.segments.segments import Segments
from midstream.state.sessions.session_index import SessionIndex
from midstream.state.sessions.sessions import Sessions
from midstream.state.structures.kernel import frozen_columns, is_pending
from midstream.state.tables import TablesAbove
from midstream.state.users.users import Users

if TYPE_CHECKING:
    from midstream.state.one_pass_kernels import RunColumns, Tables

Handed = TypeVar("Handed")
RUN_EVENTS: Final = 1_024
"""Events of a run: their columns are 170 kB, which stay in a core's own cache while table after table reads them."""
BESIDE_MIN: Final = 4 * RUN_EVENTS
"""Usual events that are worth a second core: more than a server folds at a turn, as long as it answers beside it."""
ROOMS: Final = 16
"""Runs whose columns are there at a time: so far one core may be ahead of the other, and neither waits for each run.

With 4, one core or the other waited for 430 ns an event of 800, as what takes either of them longer than usual (a core
that others want, memory that is touched anew) held both up; with 8 or 16 for 140 of 540. They take 2.7 MB.
"""
WAIT_S_MAX: Final = 60.0
"""For the other core, at a time: a run takes it 2 ms, on a machine that is busy 100."""
WAITS_MAX: Final = 3
"""A process that was stopped goes on with its time over, and the other thread with nothing done yet."""
IDS_NS, ITEMS_NS, USERS_NS, PAIRS_NS, SESSION_INDEX_NS, OUTCOMES_NS = 310, 75, 50, 180, 170, 25
"""What an event takes each group of tables on one core, where sessions have ten events: what is balanced by.

Measured by the CPU time of both threads for each way to deal the tables out (3 M events, 1 M users, Zen 5).
"""
CELL_NS, AFFINITY_NS = 30, 50
"""The same of a cell, and of an attribute that users have affinities to."""
_LATE: Final = f"no end of a run on the second core came within {WAITS_MAX * WAIT_S_MAX:g} s"
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


@dataclass(frozen=True, slots=True, eq=False)
class _Handed:
    """A run that the first core has done with, as the second one is given it."""

    room: int
    run: _Run
    is_last: bool


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
        self._online = above.table(OnlineModels)
        kinds = above.settings.attributes
        self._columns = [self._items.codes(name) for name, kind in kinds.items() if kind in {"category", "tags"}]
        """Held for as long as this is: kernels are given their addresses alone."""
        self._left: frozenset[type] = frozenset()
        self._which = -1
        self._is_ready = False
        self._rooms: list[tuple[RunColumns, Tables]] = []
        """Room for a run, and with it the arrays of all tables as one value; more where two cores fold."""
        self._id_rows = self._event_ids.rows
        """That are part of these values."""
        self._beside: tuple[int, ThreadPoolExecutor] | None = None
        """The second core's thread, and the process that it runs in: in a copy made by ``fork`` it does not."""

    def _split(self) -> int:
        """Return the bits of the tables that the first of two cores folds, the ids among them.

        Tables go to the core with less to do so far, the dearest first; what the tables fold themselves after a run
        stays beside it.
        """
        from midstream.state import one_pass_kernels as bits

        costs = {
            bits.ITEMS: ITEMS_NS,
            bits.CELLS: CELL_NS * self._cells.rows.spec.shape[1],
            bits.PAIRS: PAIRS_NS,
            bits.SESSION_INDEX: SESSION_INDEX_NS,
        }
        costs = {bit: ns for bit, ns in costs.items() if bit & self._which}
        first, ns = bits.IDS, IDS_NS
        second_ns = USERS_NS + AFFINITY_NS * len(self._users.affinity_rows.at) + OUTCOMES_NS
        if self._segments.is_declared:  # they read which items are available
            second_ns += costs.pop(bits.ITEMS)
        for bit, cost in sorted(costs.items(), key=lambda each: -each[1]):
            if ns <= second_ns:
                first, ns = first | bit, ns + cost
            else:
                second_ns += cost
        return first

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

    def is_possible(self, first: LogPosition, count: int) -> bool:
        """Return whether usual events from a log position on can be folded so: those with some passed by cannot."""
        return not self._vocabulary.dropped.concerns(first, count) and (self._is_ready or self._has_code())

    def _has_code(self) -> bool:
        """Return whether the kernels have machine code, which a start on a new machine does not wait for."""
        from midstream.state.one_pass_kernels import fold_run, make_tables

        self._is_ready = not is_pending(fold_run, make_tables)
        return self._is_ready

    def fold(self, first: LogPosition, batch: EventBatch, prints: Fingerprints | None) -> bool:
        """Fold a batch; return False, nothing done, where one of its events is not usual.

        Many are folded on two cores, where this process may use them. Then a thread folds the tables that only read
        what stands above them, while this one folds the others and goes on to the next runs. Each table is folded by
        one thread, run after run, so its bits are the same.

        Args:
            first: Log position before the batch.
            batch: Of any length.
            prints: Of the batch, where somebody has taken them already.

        Raises:
            RuntimeError: The other thread has not ended.
        """
        self._event_ids.make_room(len(batch))
        if self._id_rows is not self._event_ids.rows:
            self._id_rows = self._event_ids.rows
            self._rooms.clear()
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
            self._fold_rest(0, run, self._usual(self._fold(0, run, -1, is_last=run is runs[-1])))
        return True

    def _fold_beside(self, runs: Sequence["_Run"]) -> None:
        """Fold runs on two cores, this one ahead of the other by as many runs as there are rooms."""
        if self._beside is None or self._beside[0] != os.getpid():
            self._beside = os.getpid(), ThreadPoolExecutor(max_workers=1, thread_name_prefix="midstream-fold")
        rooms = min(ROOMS, len(runs))
        self._make_rooms(rooms)
        first = self._split()
        given: SimpleQueue[_Handed | None] = SimpleQueue()
        free: SimpleQueue[int | None] = SimpleQueue()
        for number in range(rooms):
            free.put(number)
        waits = self._beside[1].submit(self._follow, ~first, given, free)
        try:
            for run in runs:
                room = _next(free)
                if room is None:
                    break  # it has ended, by what its result raises
                is_last = run is runs[-1]
                self._usual(self._fold(room, run, first, is_last=is_last))
                given.put(_Handed(room, run, is_last))
        finally:
            given.put(None)
            _end(waits)

    def _follow(self, which: int, given: "SimpleQueue[_Handed | None]", free: "SimpleQueue[int | None]") -> None:
        """Fold the runs that are given into the tables of the second core, and give their rooms back; None ends it."""
        try:
            while (each := _next(given)) is not None:
                left = self._fold(each.room, each.run, which, is_last=each.is_last)
                self._fold_rest(each.room, each.run, self._usual(left))
                free.put(each.room)
        finally:
            free.put(None)

    def _fold(self, room: int, run: "_Run", which: int, *, is_last: bool = True) -> int:
        """Call the kernel for a run and some tables, its columns in one of the rooms; return what it does."""
        from midstream.state.one_pass_kernels import LAST, OUTCOMES, fold_run

        self._make_rooms(room + 1)
        which = which | LAST if is_last else which & ~LAST
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
        if not (has_documents or opens or self._segments.is_declared or self._online.is_declared):
            return
        step = self._step(self._rooms[room][0], run.first, run.batch)
        self._users.apply_documents(step.events, has_documents=has_documents)
        if Segments not in self._left:
            self._segments.apply(step)
        if opens and Outcomes not in self._left:
            self._outcomes.apply(step)
        if OnlineModels not in self._left:
            self._online.apply(step)

    def _step(self, columns: "RunColumns", first: LogPosition, batch: EventBatch) -> FoldStep:
        """Return the step of a run: its columns are views, valid until another run is folded in that room."""
        n = len(batch)
        user_hash, item_hash, session_hash, request_hash = columns.hashes[: 4 * n].reshape(4, n)
        event_time_ms, log_time_ms = columns.times[: 2 * n].reshape(2, n)
        user_index, item_index = columns.indices[: 2 * n].reshape(2, n)
        kind, operation = columns.codes[: 2 * n].reshape(2, n)
        step = FoldStep(first, batch)
        step.has_no_controls()  # they are not usual
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

    def _make_rooms(self, count: int) -> None:
        """Have so many rooms; by one thread alone."""
        while count > len(self._rooms):
            self._rooms.append(self._made())

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


def _next(queue: "SimpleQueue[Handed]") -> Handed:
    """Return what the other thread puts next into a queue."""
    for _ in range(WAITS_MAX):
        with suppress(Empty):
            return queue.get(timeout=WAIT_S_MAX)
    raise RuntimeError(_LATE)


def _end(waits: "Future[None]") -> None:
    """Return when the other thread has ended, or raise what it raised."""
    for _ in range(WAITS_MAX):
        if wait((waits,), WAIT_S_MAX).done:
            return waits.result()
    raise RuntimeError(_LATE)


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
