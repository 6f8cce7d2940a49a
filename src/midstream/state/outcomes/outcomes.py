"""Outcomes of slates: served ⨝ impressions ⨝ interactions by request id, as the log goes on.

A served event opens a slate. An impression or interaction that names its request and one of its items is noted at that
position, however late, as long as the slate is held: ``outcome_window`` of log time, and while there is room for it;
then the oldest by the log goes. One that comes before its slate waits for it, as long. What is noted of a position:
which actions (each once), how many events in all, how soon after the answer, and what it was worth.

Sums by placement, plan and tier stay for good, also when slates leave. An erasure makes the user's slates nobody's, as
the log does when it is rewritten, so both say the same of what followed.

Items are known by the 64-bit hash of their id, so no slot and no compaction matters here. A slate is a matter of what
was said, not of people: whoever acts, the position counts as acted on.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from midstream.core.fold_step import FoldStep, ServedSlates, UserChange, UserForgotten, UserMerged, UserRestarted
from midstream.core.kinds import IMPRESSION, Kind
from midstream.core.types import IndexedBatch
from midstream.state.cells.outcome_cells import (
    OutcomeCellRows,
    counted_placements,
    has_outcome_cells,
    own_outcome_cell_rows,
)
from midstream.state.outcomes.early_outcomes import WAITING_ROW, nobody_waits, read_waiting, write_waiting
from midstream.state.outcomes.outcome_columns import outcome_columns
from midstream.state.outcomes.outcome_fold import (
    ACTIONS,
    ELSEWHERE,
    EVICTED,
    EXPIRED,
    JOINED,
    OUTCOME,
    POSITIONS,
    RINGS,
    SLATE,
    SLATES,
    TOTALS,
    UNATTRIBUTED,
    UNREAD,
    WAITING_EVICTED,
    Left,
    OutcomeRows,
    OutcomeState,
    ServedColumns,
    copy_held,
    copy_slate,
    fold_outcomes,
    forget_users,
)
from midstream.state.outcomes.recipients import (
    ASKED,
    RECENT_ITEMS_MAX,
    forget_asker,
    merge_askers,
    read_recent,
    relink,
)
from midstream.state.outcomes.served_parser import COUNT, PLACEMENT, PLAN, TIER, hash_placements
from midstream.state.outcomes.served_slates import read_slates
from midstream.state.outcomes.slate_groups import GROUPS_MAX, OTHER_NUMBER, SlateGroup, SlateGroups, base_placement
from midstream.state.settings import FoldSettings
from midstream.state.structures.hash_table import fill, find, table_size
from midstream.state.structures.kernel import frozen_columns

LEAVING_SLATES, LEAVING_ITEMS = 4_096, 65_536
"""Slates and positions that leave between two calls of their reader: 2 MB."""
_PAGE_BYTES = 4_096
_SERVED = int(Kind.SERVED)
_COUNTED = {
    "slate_unread": UNREAD,
    "slate_evicted": EVICTED,
    "slate_expired": EXPIRED,
    "outcome_joined": JOINED,
    "outcome_elsewhere": ELSEWHERE,
    "outcome_unattributed": UNATTRIBUTED,
    "outcome_waiting_evicted": WAITING_EVICTED,
}
_SLATE = ("request", "user", "log_time_ms", "group", "length")
_WAITING = ("request", "item", "user", "action", "value", "event_time_ms", "log_time_ms")
Rows = NDArray[np.void]
Hashes = NDArray[np.uint64]
Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Slates:
    """Slates and what followed, in the order of the log. Own memory."""

    slate: Rows
    """``outcome_fold.SLATE``, (n,): ``request``, ``user``, ``log_position``, ``log_time_ms``, ``group``, ``length``,
    and in ``first`` the place of position 0 in the columns below."""
    item_hash: Hashes
    """Of the item at each position of each slate, (positions,)."""
    outcome: Rows
    """``outcome_fold.OUTCOME``, (positions,): ``bits`` of actions by number, impressions last; ``count`` of events;
    sum of ``value`` x quantity of interactions; milliseconds from the served event's log time to the first impression
    and the first interaction by event time, ``NEVER`` = none came."""

    def __len__(self) -> int:
        """Return the number of slates."""
        return len(self.slate)


Leaving: TypeAlias = Callable[[Slates], None]


@dataclass(frozen=True, slots=True, eq=False)
class RecentPositions:
    """Positions of slates that somebody was served, slate by slate, of each asker the newest first. Own memory."""

    item_hash: Hashes
    """An item is there once for each slate that had it, (n,)."""
    log_time_ms: Numbers
    """When its slate was served, (n,)."""


NOTHING_SERVED = RecentPositions(np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int64))


@dataclass(frozen=True, slots=True)
class GroupCounts:
    """Sums over all slates of one placement, plan and tier since the log began."""

    group: SlateGroup
    slates: int
    positions: int
    impressions: int
    """Positions that were seen, each once."""
    acted: Mapping[str, int]
    """Positions on which each configured action came, each once."""


def outcome_bytes(settings: FoldSettings) -> int:
    """Return the bytes of the table."""
    limits = settings.limits
    rows = limits.outcome_slates_max * (SLATE.itemsize + ASKED.itemsize)
    rows += limits.outcome_items_max * (8 + OUTCOME.itemsize)
    rows += limits.outcomes_waiting_max * WAITING_ROW.itemsize
    tables = 2 * table_size(limits.outcome_slates_max) + table_size(limits.outcomes_waiting_max)
    return rows + 4 * tables + GROUPS_MAX * 8 * (ACTIONS + len(settings.types) + 1)


class Outcomes:
    """The slates that are held, the outcomes that wait for theirs, and the sums."""

    def __init__(self, settings: FoldSettings, cells: OutcomeCellRows | None = None) -> None:
        """Reserve the maxima; pages are paid when touched.

        Args:
            settings: Decide what the state is after the same events.
            cells: Rows of cells that this table writes; None = rows of its own, for whoever reads none of them.
        """
        limits = settings.limits
        self._names = settings.action_names()
        self._window_ms = settings.outcome_window.ms
        self._key = settings.hash_key()
        self._slates = np.zeros(limits.outcome_slates_max, dtype=SLATE)
        self._table = np.zeros(table_size(limits.outcome_slates_max), dtype=np.int32)
        self._hashes = np.zeros(limits.outcome_items_max, dtype=np.uint64)
        self._outcomes = np.zeros(limits.outcome_items_max, dtype=OUTCOME)
        self._asked = np.zeros(limits.outcome_slates_max, dtype=ASKED)
        self._askers = np.zeros(table_size(limits.outcome_slates_max), dtype=np.int32)
        self._waiting = np.zeros(limits.outcomes_waiting_max, dtype=WAITING_ROW)
        self._waiting_table = np.zeros(table_size(limits.outcomes_waiting_max), dtype=np.int32)
        self._counts = np.zeros((GROUPS_MAX, ACTIONS + len(self._names) + 1), dtype=np.int64)
        self._rings = np.zeros(2, dtype=RINGS)
        self._waiting_meta = nobody_waits()
        self._totals = np.zeros(TOTALS, dtype=np.int64)
        self._groups = SlateGroups(self._window_ms)
        self._nowhere = _Room(0, 0)
        self._counts_items = has_outcome_cells(settings)
        self._placements = counted_placements(settings)
        self.leaving: Leaving | None = None
        """Is given each slate as it leaves the table, in the order of the log, some at a time, by the thread
        that folds this table, which in long batches is not the caller's. No part of the state."""
        self._held = OutcomeState(
            self._slates,
            self._hashes,
            self._outcomes,
            self._table,
            self._asked,
            self._askers,
            self._rings,
            self._waiting,
            self._waiting_table,
            self._waiting_meta,
            self._counts,
            self._totals,
            cells if cells is not None else own_outcome_cell_rows(settings),
        )
        _, _, told = self._read(self._slates, self._hashes.view(np.uint8), np.empty(0, dtype=np.int64))
        self.rows = OutcomeRows(self._window_ms, told, self._held, self._nowhere.left, self._key)
        """For the one pass over all tables (``state.one_pass``)."""

    def __len__(self) -> int:
        """Return the number of slates that are held."""
        return int(self._rings["count"][0])

    @property
    def _waiting_names(self) -> tuple[str, ...]:
        """What is kept of outcomes that wait: the place of the item only where cells count it."""
        return (*_WAITING, "item_index") if self._counts_items else _WAITING

    @property
    def actions(self) -> tuple[str, ...]:
        """The configured actions, by number."""
        return self._names

    @property
    def waiting_count(self) -> int:
        """Outcomes that wait for their slate."""
        return int(self._waiting_meta["count"][0])

    @property
    def bytes_now(self) -> int:
        """Memory of what was touched, about."""
        slates, positions = map(int, self._rings["used"])
        waited = int(self._waiting_meta["used"][0])
        tables = 2 * min(self._table.nbytes, slates * _PAGE_BYTES)
        tables += min(self._waiting_table.nbytes, waited * _PAGE_BYTES)
        rows = (
            slates * (SLATE.itemsize + ASKED.itemsize)
            + positions * (OUTCOME.itemsize + 8)
            + waited * WAITING_ROW.itemsize
        )
        return rows + tables + self._counts.nbytes

    @property
    def bytes_max(self) -> int:
        """Memory when every page has been touched."""
        held = (self._slates, self._table, self._asked, self._askers, self._hashes, self._outcomes, self._waiting)
        return sum(each.nbytes for each in (*held, self._waiting_table)) + self._counts.nbytes

    @property
    def totals(self) -> Mapping[str, int]:
        """How many slates and outcomes came to each end, by name.

        Every outcome that names a request is one of joined, elsewhere (its slate does not have the item),
        unattributed (no slate came) or waiting.
        """
        return {name: int(self._totals[place]) for name, place in _COUNTED.items()}

    def apply(self, step: FoldStep) -> None:
        """Fold a step.

        Cost: 2 µs a served event of ten items, 0.1 µs an outcome, nothing for a step without either.
        """
        self._fold(step)
        if step.change is not None:
            self._follow(step.change)

    def _follow(self, change: UserChange) -> None:
        if isinstance(change, UserMerged):
            self.merge(change.into_hash, change.other_hash)
        elif isinstance(change, UserForgotten):
            self.forget(change.hashes)
        elif isinstance(change, UserRestarted):
            self.start_cold(change.user_hash)

    def _fold(self, step: FoldStep) -> None:
        batch = step.events
        if not len(batch):
            return
        leaving = self.leaving
        served = np.flatnonzero((batch.kind == _SERVED) & batch.folded & (batch.request_hash != 0))
        if leaving is None and not len(served) and not batch.request_hash.any() and self._stands(batch):
            return
        room = self._nowhere if leaving is None else _Room(LEAVING_SLATES, LEAVING_ITEMS)
        rows, text = step.frozen = frozen_columns(batch.source)
        spans, step.slates, told = self._read(rows, text, served)
        columns = outcome_columns(batch, rows, text, self._key)
        done = 0
        for stop in self._numbered(batch, spans, told):
            while True:
                done = fold_outcomes(done, stop, batch.first, self._window_ms, columns, told, self._held, room.left)
                if leaving is None or not room.count:
                    break  # it stops before ``stop`` only when there is no room, and then some are there
                leaving(room.taken())

    def slate(self, request_hash: int) -> Slates | None:
        """Return one slate and what followed so far, None when it is not held."""
        place = int(find(np.uint64(request_hash), self._slates["request"], self._table)) if request_hash else -1
        if place < 0:
            return None
        room = _Room(1, int(self._slates["length"][place]))
        copy_slate(place, self._held, room.left)
        return room.taken()

    def held(self, positions_max: int | None = None) -> Iterator[Slates]:
        """Yield the held slates, the oldest first, some at a time: those held at the begin, but for what left since.

        Args:
            positions_max: Of slates at a time, at least those of the longest slate; None = ``LEAVING_ITEMS``.
        """
        most = LEAVING_ITEMS if positions_max is None else positions_max
        done, last = 0, self._log_position(len(self) - 1) if len(self) else -1
        while done < len(self) and self._log_position(done) <= last:
            stop = copy_held(done, self._held, (room := _Room(LEAVING_SLATES, most)).left)
            after = self._log_position(stop - 1)  # the last ones may be of those that came since
            yield room.taken()
            done = bisect_right(range(len(self)), after, key=self._log_position)

    def _log_position(self, number: int) -> int:
        """Return the log position of a held slate by its number; they rise."""
        return int(self._slates["log_position"][(int(self._rings["head"][0]) + number) % len(self._slates)])

    def group(self, number: int) -> SlateGroup:
        """Return placement, plan and tier of a slate by its ``group``."""
        return self._groups.named(number)

    def counts(self) -> Sequence[GroupCounts]:
        """Return the sums of each group that has any slate, in the order in which they appeared; ``OTHER`` last."""
        return [self._counts_of(number) for number in self._groups.numbers() if self._counts[number, SLATES]]

    def action_bit(self, name: str) -> int:
        """Return the bit of a configured action, or of ``impression``, among the ``bits`` of a position."""
        return 1 << (*self._names, IMPRESSION).index(name)

    def recent(self, askers: Sequence[int], placement: int = 0) -> RecentPositions:
        """Return what somebody was served lately, as far back as slates are held.

        Args:
            askers: Hashes under which slates are found: of the user, and ``session_asker`` of the session.
            placement: ``placement_hash`` of the only one that counts; 0 = each.

        Returns:
            Of the newest 200 slates of each asker, at most 4,000 positions. Cost: 3 µs and 0.2 µs a slate.
        """
        found = [self._recent_of(asker, placement) for asker in askers]
        return (
            RecentPositions(*(np.concatenate(each) for each in zip(*found, strict=True))) if found else NOTHING_SERVED
        )

    def merge(self, into_hash: int, from_hash: int) -> None:
        """Let what one user was served have been served to another."""
        into, other = np.uint64(into_hash), np.uint64(from_hash)
        merge_askers(into, other, self._slates, self._rings, self._asked, self._askers)

    def start_cold(self, user_hash: int) -> None:
        """Remember no more what was served to a user; whose slates they were stays."""
        forget_asker(np.uint64(user_hash), self._slates, self._rings, self._asked, self._askers)

    def forget(self, user_hashes: Hashes) -> None:
        """Remove the users from their slates and from waiting outcomes. Cost: 5 ns a slate."""
        forget_users(user_hashes, self._held)
        for each in user_hashes.tolist():
            self.start_cold(each)

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the slates that are held, oldest first, their positions, what waits, the groups and the sums."""
        slates, positions = self._held_places()
        slate, outcome, waiting = self._slates[slates], self._outcomes[positions], self._waits()
        columns = {name: np.ascontiguousarray(slate[name]) for name in _SLATE}
        return {
            **columns,
            "position": np.ascontiguousarray(slate["log_position"]),
            "asker": self._asked["asker"][slates],
            "placement": self._asked["placement"][slates],
            "item_hash": self._hashes[positions],
            **{name: np.ascontiguousarray(outcome[name]) for name in OUTCOME.names or ()},
            **{f"waiting_{name}": np.ascontiguousarray(waiting[name]) for name in self._waiting_names},
            **({"counted": self._asked["counted"][slates]} if self._counts_items else {}),
            **self._groups.arrays(),
            "counts": self._counts[self._groups.numbers()],
            "totals": self._totals.copy(),
        }

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Replace the table by what ``arrays`` returned."""
        count, positions = len(arrays["request"]), len(arrays["item_hash"])
        for name in _SLATE:
            self._slates[name][:count] = arrays[name]
        self._slates["log_position"][:count] = arrays["position"]
        lengths = arrays["length"].astype(np.int64)
        self._slates["first"][:count] = np.cumsum(lengths) - lengths
        self._hashes[:positions] = arrays["item_hash"]
        for name in OUTCOME.names or ():
            self._outcomes[name][:positions] = arrays[name]
        self._rings["head"] = 0
        self._rings["count"] = count, positions
        self._rings["used"] = np.maximum(self._rings["used"], self._rings["count"])
        fill(self._slates["request"], count, self._table)
        for name in ("asker", "placement", *(["counted"] if self._counts_items else [])):
            self._asked[name][:count] = arrays[name]
        relink(0, count, self._asked, self._askers)
        waiting = np.zeros(len(arrays["waiting_request"]), dtype=WAITING_ROW)
        for name in self._waiting_names:
            waiting[name] = arrays[f"waiting_{name}"]
        self._await(waiting)
        self._groups.restore(arrays)
        self._counts[:] = 0
        self._counts[self._groups.numbers()] = arrays["counts"]
        self._totals[:] = arrays["totals"]

    def _recent_of(self, asker: int, placement: int) -> tuple[Hashes, Numbers]:
        """Return the items of one asker's slates, and when each was served."""
        items, times = np.empty(RECENT_ITEMS_MAX, dtype=np.uint64), np.empty(RECENT_ITEMS_MAX, dtype=np.int64)
        held = (self._slates, self._hashes, self._rings, self._asked, self._askers)
        count = read_recent(np.uint64(asker), np.uint64(placement), *held, items, times)
        return items[:count].copy(), times[:count].copy()

    def _stands(self, batch: IndexedBatch) -> bool:
        """Say whether nothing that is held has become too old by the end of a batch."""
        oldest = [
            int(rows["log_time_ms"][place])
            for rows, place, count in (
                (self._slates, int(self._rings["head"][0]), len(self)),
                (self._waiting, int(self._waiting_meta["oldest"][0]), self.waiting_count),
            )
            if count
        ]
        return not oldest or int(batch.log_time_ms[-1]) - min(oldest) <= self._window_ms

    def _read(
        self, rows: Rows, text: NDArray[np.uint8], served: Numbers
    ) -> tuple[Numbers, ServedSlates, ServedColumns]:
        """Return the spans of what the served events of a batch say, and that, still without numbers of groups."""
        spans, slates = read_slates(rows, text, served, self._key)
        spans[spans[:, COUNT] > len(self._hashes), COUNT] = -1  # of the same slates other tables may have room
        placements = np.zeros(len(served), dtype=np.uint64)
        if len(served):
            hash_placements(text, spans, self._key, placements)
        groups, counted = np.full(len(served), -1, dtype=np.int32), np.zeros(len(served), dtype=np.int32)
        return spans, slates, ServedColumns(served, groups, slates.start, slates.items, placements, counted)

    def _numbered(self, batch: IndexedBatch, spans: Numbers, told: ServedColumns) -> Iterator[int]:
        """Number the groups of what was served; yield up to which event to fold before one takes another's place."""
        text = batch.source.text
        for number, (event, said) in enumerate(zip(told.event.tolist(), spans.tolist(), strict=True)):
            if said[COUNT] < 0:
                continue
            placement, plan, tier = (
                text[said[at] : said[at] + said[at + 1]].decode(errors="replace") for at in (PLACEMENT, PLAN, TIER)
            )
            group, now_ms = (placement, plan, tier), int(batch.log_time_ms[event])
            if (outdated := self._groups.outdated(group, now_ms)) >= 0:
                yield event
                self._counts[OTHER_NUMBER] += self._counts[outdated]
                self._counts[outdated] = 0
                self._groups.take_over(outdated, group)
            told.group[number] = self._groups.number(group, now_ms)
            if self._placements:
                told.counted[number] = self._placements.get(base_placement(placement), 0)
        yield len(batch)

    def _held_places(self) -> tuple[Numbers, Numbers]:
        """Return the places of slates and of positions, oldest first."""
        (slate, count, _), (position, positions, _) = self._rings.tolist()
        return (
            (slate + np.arange(count, dtype=np.int64)) % len(self._slates),
            (position + np.arange(positions, dtype=np.int64)) % len(self._hashes),
        )

    def _waits(self) -> Rows:
        """Return the rows of what waits, the longest first."""
        order = np.empty(self.waiting_count, dtype=np.int32)
        write_waiting(self._waiting, self._waiting_meta, order)
        return self._waiting[order]

    def _await(self, rows: Rows) -> None:
        """Let exactly these wait."""
        self._waiting[:] = np.zeros(1, dtype=WAITING_ROW)
        self._waiting_table[:] = 0
        self._waiting_meta[:] = nobody_waits()
        read_waiting(rows, self._waiting, self._waiting_table, self._waiting_meta)

    def _counts_of(self, number: int) -> GroupCounts:
        row: list[int] = self._counts[number].tolist()
        acted = dict(zip(self._names, row[ACTIONS:-1], strict=True))
        return GroupCounts(self._groups.named(number), row[SLATES], row[POSITIONS], row[-1], acted)


class _Room:
    """Buffers into which the kernels write slates for a reader."""

    def __init__(self, slates: int, positions: int) -> None:
        self._slates = np.zeros(slates, dtype=SLATE)
        self._hashes = np.zeros(positions, dtype=np.uint64)
        self._outcomes = np.zeros(positions, dtype=OUTCOME)
        self._rings = np.zeros(2, dtype=RINGS)
        self.left = Left(self._slates, self._hashes, self._outcomes, self._rings)

    @property
    def count(self) -> int:
        """Slates that are there."""
        return int(self._rings["count"][0])

    def taken(self) -> Slates:
        """Return them as memory of their own, and begin anew."""
        slates, positions = self._rings["count"].tolist()
        self._rings["count"] = 0
        return Slates(self._slates[:slates].copy(), self._hashes[:positions].copy(), self._outcomes[:positions].copy())
