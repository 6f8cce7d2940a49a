"""Protocols of components: nine of them (a further one needs a decision record), and three rules for all.

1. A component holds options, never state: it is a frozen value that the configuration decodes into, and
   everything else is an argument. So one object serves, reruns a logged request, backfills and trains.
2. What reads state is a plain ``def`` and takes a ``Moment``. What may wait is ``async def`` and never
   sees one. So a request reads all of its state at exactly one log position, and needs no lock for it.
3. Columns in, columns out, same length, same order. The pipeline checks this of every component.

Each has its ``check_<name>`` in ``midstream.testing.conformance``: the promises that a type cannot state.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from midstream.core.fold_step import FoldStep
from midstream.core.types import (
    Candidates,
    Column,
    EventBatch,
    FeatureFrame,
    LogPosition,
    Mask,
    Models,
    Moment,
    Proposal,
    Query,
    Score,
    Selection,
)


class EventLog(Protocol):
    """One ordered partition of events. The embedded log is one; Kafka gives one object a partition."""

    @property
    def generation(self) -> int:
        """Number of times that history was rewritten; a log position means nothing in another generation."""
        ...

    @property
    def end(self) -> LogPosition:
        """Number of durable events: the position after the last one."""
        ...

    @property
    def last_log_time_ms(self) -> int:
        """Log time of the last durable event, 0 while there is none. The next may not be earlier."""
        ...

    def append(self, batch: EventBatch) -> LogPosition:
        """Store a batch; return the position after its last event.

        Durable on return. The rows carry their log time, which never goes back.

        Raises:
            DiskFull: No room; nothing was kept, the log stays usable and a later append may succeed.
            AppendFailed: The batch may or may not be durable; the log refuses every further append.
        """
        ...

    def read(self, after: LogPosition, limit: int) -> Sequence[tuple[LogPosition, EventBatch]]:
        """Return batches of the events at and after a position, about ``limit`` events, oldest first.

        Each pair is the position before the batch's first event and the batch; the first batch is cut so that it
        begins exactly at ``after``. Empty when ``after`` is the end.

        Raises:
            LogDamaged: A checksum does not match; the text names the range of positions.
        """
        ...

    def close(self) -> None:
        """Release files and locks. Everything that was appended is already durable."""
        ...


class LogReader(Protocol):
    """Read access to a log beside the process that appends to it. A reader changes nothing and takes no lock."""

    @property
    def generation(self) -> int:
        """Number of times that history was rewritten, when this was opened."""
        ...

    @property
    def begin(self) -> LogPosition:
        """Oldest log position that can be read, as far as this reader has seen: 0 unless retention cut."""
        ...

    def read(self, after: LogPosition, limit: int, durable: LogPosition) -> Sequence[tuple[LogPosition, EventBatch]]:
        """Return batches of the events at and after a position, as ``EventLog.read`` does.

        Args:
            after: Log position of the first event wanted, ``begin`` to ``durable``.
            limit: About as many events are returned, at least 1.
            durable: Log position before which all events are durable, as the writer published it. No event at or after
                it is returned, even when the file holds it: a crash could take it back.

        Raises:
            LogDamaged: A checksum does not match; the text names the range of positions.
            LogRewritten: The log was rewritten.
            EventsGone: ``after`` lies before ``begin``.
        """
        ...


class StateTable(Protocol):
    """A bounded structure that is a pure fold of the log."""

    @property
    def bytes_now(self) -> int:
        """Bytes in use, approximately."""
        ...

    @property
    def bytes_max(self) -> int:
        """Bytes when all that is reserved is in use."""
        ...

    def apply(self, step: FoldStep) -> None:
        """Fold the events of a step, then follow its change of a user. A step may have no event and a change.

        The result has the same bits however the log is cut into steps; so there is no I/O, clock, randomness or set
        order. A table that other tables read writes its results into the step.
        """
        ...

    def arrays(self) -> Mapping[str, NDArray[np.generic]]:
        """Return all of the state in canonical form: logical content in index order, not capacity.

        The same log always gives the same bytes, so this is both what a snapshot holds and what is digested. Of users a
        digest covers packed rows, in which the layout does not show.
        """
        ...

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Replace the content of the table by what ``arrays`` returned."""
        ...


class Fetch(Protocol):
    """Columns of users or of items from an outside system, fetched before the state is read."""

    async def fetch(self, ids: Sequence[str]) -> Mapping[str, Column]:
        """Return each declared column by its name, with one value an id in the order of the ids; None or NaN = unknown.

        Args:
            ids: Distinct: 1 to 1,000 of items, or one of a user.
        """
        ...


class Source(Protocol):
    """Generator of candidates: proposes items for a query."""

    @property
    def name(self) -> str:
        """Stable name in answers, served records and metrics."""
        ...

    def retrieve(self, moment: Moment) -> Proposal:
        """Return distinct items, best first, at most its ``limit``; or raise ``SourceUnavailable``."""
        ...


class Filter(Protocol):
    """Eligibility check of candidates. When a filter fails no candidate passes: eligibility fails closed."""

    @property
    def name(self) -> str:
        """Stable name in served records and metrics."""
        ...

    def keep(self, moment: Moment, candidates: Candidates) -> Mask:
        """Return True for each candidate that may be served, shape (n,)."""
        ...


class Feature(Protocol):
    """Block of feature columns. All declared features together are one block."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        ...

    def read(self, moment: Moment, candidates: Candidates) -> Score:
        """Return values (n, len(names)); NaN = unknown."""
        ...


class Scorer(Protocol):
    """Number for each candidate. Several scorers form a ladder: when one is late or fails, the next one answers."""

    @property
    def name(self) -> str:
        """Stable name in answers, served records and metrics."""
        ...

    async def score(self, query: Query, features: FeatureFrame, models: Models) -> Score:
        """Return one number a row, higher is better, NaN = no score; or raise ``ScoresUnavailable``."""
        ...


class Selector(Protocol):
    """Choice and order of the slate. All its randomness comes from ``query.seed``."""

    def select(self, query: Query, features: FeatureFrame, score: Score) -> Selection:
        """Return at most ``query.slate_size`` distinct rows with a finite score, best first."""
        ...
