"""Point-in-time features: values as of a log position, for training and for comparison with served values.

As of means log position. A question at a log position sees all events before it, and nothing at or after it, whatever
the events' own times are. A question by time sees all events whose log time is before that time, so an event of the
same millisecond is not seen. The code that serves folds the events up to there, and the block that serves reads the
columns: so the values equal those of a request at that position, to the bit.

Questions come in the order of the log and each event is folded once, so a pass costs one fold of the events before the
last question, and one read for each.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from midstream.core.types import Candidates, EventBatch, Index, LogPosition, Models, Moment, Query, Score, TimestampMs
from midstream.events.schema import concat
from midstream.state.fold import Fold

Events: TypeAlias = Iterable[tuple[LogPosition, EventBatch]]
"""Batches in order without a gap, each with the log position of its first event."""
Read: TypeAlias = Callable[[Moment, Candidates], Score]
"""``Feature.read``."""
Times: TypeAlias = NDArray[np.int64]
TAKEN_EVENTS = 10_000
"""Commits of few events are folded together up to about so many: one of a single event costs as much as 50 together."""
NO_TIME = TimestampMs(-1)
"""Time of a question without one: the log time of the newest event that it sees."""


class OutOfOrder(ValueError):
    """A question is before one that was answered."""


@dataclass(frozen=True, slots=True)
class PointInTimeQuestion:
    """Request for features, with its log position or time."""

    query: Query
    """With its time, or ``NO_TIME``."""
    items: tuple[str, ...]
    """Ids of the candidates, in the order of their positions."""
    log_position: LogPosition | None = None
    """It sees the events before; None = those whose log time is before the query's time."""
    row: int = 0
    """Number of the question."""


@dataclass(frozen=True, slots=True, eq=False)
class PointInTimeAnswer:
    """Values of one question."""

    question: PointInTimeQuestion
    query: Query
    """The question's, with the time of the read."""
    log_position: LogPosition
    """Number of events that were seen."""
    item_index: Index
    """Of the candidates as they were known then, (n,); -1 = the item was not known."""
    values: Score
    """(n, columns) in the order of the question's items; NaN = nothing was known."""


@dataclass(frozen=True, slots=True)
class Handover:
    """From where on another fold answers."""

    position: LogPosition
    """Questions that see so many events, or more, are its."""
    time_ms: int
    """Log time of the last event before: questions by a later time are its."""
    begin: Callable[[LogPosition], tuple[Fold, Events]]
    """Returns it, standing at or before a log position, and the events from there on."""


class FoldCursor:
    """A fold that is led through the events, from one place to a later one."""

    def __init__(self, fold: Fold, events: Events, handover: Handover | None = None) -> None:
        """Begin at the position of the fold.

        Args:
            fold: It is changed.
            events: From the fold's position on.
            handover: Position at which another fold replaces it, which is changed as well; None = no other.
        """
        self._handover = handover
        self._stand(fold, events)

    def _stand(self, fold: Fold, events: Events) -> None:
        self.fold = fold
        self._events = gathered(events)
        self._first = fold.log_position
        self._batch: EventBatch | None = None
        self._times: Times = np.empty(0, dtype=np.int64)

    def _hand_over(self, handover: Handover, position: LogPosition) -> None:
        """Go on with the other fold, standing at or before a log position."""
        self._handover = None
        self._stand(*handover.begin(position))

    def to_position(self, log_position: LogPosition) -> None:
        """Fold all events before a log position.

        Raises:
            OutOfOrder: The fold is past it.
            ValueError: The events end before it.
        """
        if self._handover is not None and log_position >= self._handover.position:
            self._hand_over(self._handover, log_position)
        if log_position < self.fold.log_position:
            message = f"log position {log_position} is asked about where the fold stands at {self.fold.log_position}"
            raise OutOfOrder(message)
        while self.fold.log_position < log_position:
            if not self._has_more():
                message = f"the events end at log position {self.fold.log_position}, before {log_position}"
                raise ValueError(message)
            self._fold(log_position - self._first)

    def to_time(self, time_ms: int) -> None:
        """Fold all events whose log time is before a time; log time never goes back.

        Raises:
            OutOfOrder: An event at or after it was folded.
        """
        if self._handover is not None and time_ms > self._handover.time_ms:
            self._hand_over(self._handover, self._handover.position)
        if self.fold.log_time_ms >= time_ms and self.fold.log_position:
            message = f"time {time_ms} is asked about where the last event was at {self.fold.log_time_ms}"
            raise OutOfOrder(message)
        while self._has_more():
            stop = int(np.searchsorted(self._times, time_ms, side="left"))
            self._fold(stop)
            if stop < len(self._times):
                return

    def _has_more(self) -> bool:
        """Return whether an event is left, and have it at hand."""
        while self._batch is None or self.fold.log_position - self._first >= len(self._batch):
            found = next(self._events, None)
            if found is None:
                return False
            self._first, self._batch = found
            self._times = np.ascontiguousarray(self._batch.rows["log_time_ms"]).astype(np.int64)
        return True

    def _fold(self, stop: int) -> None:
        """Fold the batch at hand up to its event number ``stop``; the texts are not copied."""
        start = self.fold.log_position - self._first
        if self._batch is not None and stop > start:
            self.fold.apply(self.fold.log_position, EventBatch(self._batch.rows[start:stop], self._batch.text))


def gathered(events: Events) -> Iterator[tuple[LogPosition, EventBatch]]:
    """Yield the events in batches of about ``TAKEN_EVENTS`` or more: however the log is cut, the state is the same."""
    first, held, count = LogPosition(0), list[EventBatch](), 0
    for position, batch in events:
        if not held:
            first = position
        held.append(batch)
        count += len(batch)
        if count >= TAKEN_EVENTS:
            yield first, concat(held)
            held, count = [], 0
    if held:
        yield first, concat(held)


def as_of(
    cursor: FoldCursor, questions: Iterable[PointInTimeQuestion], read: Read, models: Models | None = None
) -> Iterator[PointInTimeAnswer]:
    """Yield the answer to each question, in their order.

    Args:
        cursor: At or before the first question.
        questions: In the order of the log: none is before an earlier one.
        read: The block's; it may keep no reference to its moment.
        models: Models that the block may read.

    Raises:
        OutOfOrder: A question is before one that was answered, or before the start of the fold.
        ValueError: A question's log position is after the last event.
    """
    loaded = models or Models({})
    for question in questions:
        lead(cursor, question)
        moment = moment_of(cursor.fold, question, loaded)
        candidates = candidates_of(cursor.fold, question.items)
        values = read(moment, candidates)
        yield PointInTimeAnswer(question, moment.query, moment.log_position, candidates.item_index, values)


def lead(cursor: FoldCursor, question: PointInTimeQuestion) -> None:
    """Bring the fold to the position of a question."""
    if question.log_position is None:
        cursor.to_time(question.query.now_ms)
    else:
        cursor.to_position(question.log_position)


def moment_of(fold: Fold, question: PointInTimeQuestion, models: Models) -> Moment:
    """Return the moment of a question on the state at its position."""
    query = question.query
    if query.now_ms == NO_TIME:
        query = replace(query, now_ms=TimestampMs(fold.log_time_ms))
    return fold.moment(query, models)


def candidates_of(fold: Fold, items: tuple[str, ...]) -> Candidates:
    """Return items as candidates that no source proposed; an item that is not known has index -1."""
    found = fold.vocabulary.item_indices(items)
    return Candidates(found, (), np.empty((len(found), 0), np.float32), np.empty((len(found), 0), np.int32))
