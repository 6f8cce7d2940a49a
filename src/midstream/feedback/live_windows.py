"""Online metrics of a running engine: figures over windows that slide, from the slates that its state holds.

A round looks at all held slates with the outcomes so far, so late ones count and open slates settle. What a slate was
made with is in its served record, which is read once: labels are kept for as long as the slate is in the longest
window. A round reads a bounded number of records; slates beyond are in no figure yet, and are counted as ``unread``.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from midstream.core.types import EventBatch, LogPosition
from midstream.events.processes.thread_pace import Rest, no_rest
from midstream.events.served_body import ServedBody
from midstream.events.siphash import IdKey, id_hash
from midstream.feedback.online_metrics import MetricOptions, MetricRow, OnlineMetrics, SlateLabels
from midstream.feedback.slate_labels import GONE, NONE, ServedRecords, models_label
from midstream.state.outcomes.outcomes import Slates
from midstream.state.outcomes.slate_groups import SlateGroup

SLATES_MAX: Final = 50_000
"""Newest slates of the longest window that are in figures: 25 MB with 20 items each."""
RECORDS_MAX: Final = 20_000
"""Records that are read in a round: 0.4 s, with a rest offered behind each."""
SEGMENTS_MAX: Final = 4
"""Keys of requests' contexts by which there are figures: those with texts that came first."""
SEGMENT_VALUES_MAX: Final = 32
"""Distinct texts of such a key; one with more tells users apart, not segments, and is left."""
TEXT_MAX: Final = 64
"""Characters of such a text."""


class RecordReads(NamedTuple):
    """Log that is read by position."""

    begin: LogPosition
    """Position of the first event that it holds."""
    read: Callable[[LogPosition, int], Sequence[tuple[LogPosition, EventBatch]]]
    """As ``EventLog.read``."""


class LiveFigures(NamedTuple):
    """Figures of a round."""

    now_ms: int
    """Log time at which windows end."""
    rows: tuple[MetricRow, ...]
    left_out: int
    """Slates of the longest window that are older than ``SLATES_MAX`` others."""
    unread: int
    """Slates whose records are not read yet."""


class _Known(NamedTuple):
    """What the record of a slate says."""

    session: int
    """64-bit hash; 0 = it has none."""
    model: str
    context: Mapping[str, str]
    """Texts of the request's context, of keys that may be segments."""


_GONE = _Known(0, GONE, {})


@dataclass(slots=True, eq=False)
class _Lot:
    """Some slates of the longest window."""

    slates: Slates
    groups: Mapping[int, SlateGroup]


class LiveWindows:
    """Figures over sliding windows; one thread calls it."""

    def __init__(self, note: Callable[[int, ServedBody], None]) -> None:
        """Give the log position of each record that is read, and the record, to ``note``; positions rise."""
        self._note = note
        self._known: OrderedDict[int, _Known] = OrderedDict()
        """By log position, rising."""
        self._segments: dict[str, set[str]] = {}
        self._lots: deque[_Lot] = deque()
        self._count = self._left_out = 0

    def begin(self) -> None:
        """Begin a round."""
        self._lots.clear()
        self._count = self._left_out = 0

    def add(self, slates: Slates, groups: Mapping[int, SlateGroup], since_ms: int) -> None:
        """Take held slates in, in the order of the log; those up to a time are passed by."""
        recent = _only(slates, slates.slate["log_time_ms"] > since_ms)
        if not len(recent):
            return
        self._lots.append(_Lot(recent, groups))
        self._count += len(recent)
        while self._count - len(self._lots[0].slates) >= SLATES_MAX:
            oldest = len(self._lots.popleft().slates)
            self._count -= oldest
            self._left_out += oldest

    def figures(
        self, options: MetricOptions, log: Callable[[], RecordReads], key: IdKey, rest: Rest = no_rest
    ) -> LiveFigures:
        """Return the figures of a round.

        Args:
            options: Windows and actions.
            log: Opens the log, where a record is to be read.
            key: Of hashes of ids.
            rest: Called after each piece of work, of less than a millisecond for the most part: a record, a lot, and
                what NumPy does in one call with a column of all positions.
        """
        new: list[int] = []
        for number, lot in enumerate(self._lots):
            positions = lot.slates.slate["log_position"].tolist()
            if number == 0:
                self._forget(positions[0])
            new += [each for each in positions if each not in self._known]
            rest()
        if new:
            self._learn(new[:RECORDS_MAX], log(), key, rest)
        metrics = OnlineMetrics(options)
        for lot in self._lots:
            is_known = [each in self._known for each in lot.slates.slate["log_position"].tolist()]
            read = _only(lot.slates, np.array(is_known, dtype=np.bool_))
            metrics.add(read, self._labels(read, lot.groups))
            rest()
        rows = tuple(metrics.rows(rest))
        left_out = self._left_out + metrics.left_out
        self.begin()
        return LiveFigures(options.now_ms, rows, left_out, max(0, len(new) - RECORDS_MAX))

    def _forget(self, begin: int) -> None:
        """Drop labels of slates before a log position."""
        while self._known and next(iter(self._known)) < begin:
            self._known.popitem(last=False)

    def _learn(self, positions: Sequence[int], log: RecordReads, key: IdKey, rest: Rest) -> None:
        """Read the records at some rising log positions."""
        bodies = ServedRecords(log.read, log.begin)
        for position in positions:
            found = bodies.at(position)
            self._known[position] = _GONE if found is None else self._known_of(position, *found, key)
            rest()

    def _known_of(self, position: int, session: str, record: ServedBody, key: IdKey) -> _Known:
        """Return what figures need of a served record, and take its scores and context into account."""
        self._note(position, record)
        texts = {name: each for name, each in record.context.items() if isinstance(each, str) and len(each) <= TEXT_MAX}
        for name, value in texts.items():
            self._see(name, value)
        kept = {name: value for name, value in texts.items() if name in self._segments}
        return _Known(id_hash(session, key) if session else 0, models_label(record.models), kept)

    def _see(self, name: str, value: str) -> None:
        """Take a text of a context into account; the values of a key that has too many are dropped."""
        values = self._segments.get(name)
        if values is None:
            if len(self._segments) < SEGMENTS_MAX * 4:
                self._segments[name] = {value}
        elif len(values) <= SEGMENT_VALUES_MAX:
            values.add(value)

    def _labels(self, slates: Slates, groups: Mapping[int, SlateGroup]) -> SlateLabels:
        """Return the labels of slates whose records are known."""
        known = [self._known[each] for each in slates.slate["log_position"].tolist()]
        named = [groups[each] for each in slates.slate["group"].tolist()]
        usable = [name for name, values in self._segments.items() if len(values) <= SEGMENT_VALUES_MAX]
        session = np.array([each.session for each in known], dtype=np.uint64)
        values: dict[str, list[str]] = {
            "placement": [each.placement for each in named],
            "tier": [each.tier for each in named],
            "model": [each.model for each in known],
            **{f"context.{name}": [each.context.get(name, NONE) for each in known] for name in usable[:SEGMENTS_MAX]},
        }
        return SlateLabels(values, np.where(session != 0, session, slates.slate["user"]).astype(np.uint64))


def _only(slates: Slates, keep: np.ndarray) -> Slates:
    """Return some slates, over the same positions."""
    return slates if keep.all() else Slates(slates.slate[keep], slates.item_hash, slates.outcome)
