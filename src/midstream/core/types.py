"""The values that travel between folders: frozen, columnar, without behaviour.

An index column is int32 with -1 for "none"; a score or feature is float32 with NaN for "unknown". Times are
milliseconds since 1970-01-01 UTC.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NewType, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from midstream.core.errors import ModelUnavailable, ShapeMismatch, TableMissing

TimestampMs = NewType("TimestampMs", int)
LogPosition = NewType("LogPosition", int)
Index: TypeAlias = NDArray[np.int32]
Score: TypeAlias = NDArray[np.float32]
Mask: TypeAlias = NDArray[np.bool_]
Column: TypeAlias = Sequence[str | float | bool | None] | NDArray[np.generic]
"""Values of an outside system, one a row; None or NaN = unknown."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class EventBatch:
    """Events in their stored form, ids as text: the same bytes in memory, in the log and in a broker message."""

    rows: NDArray[np.void]
    """Fixed-size rows, shape (n,), of ``events.schema.ROW``: kind, times, value, and where each text lies."""
    text: bytes
    """The texts of all rows, UTF-8, end to end: ids, action, body."""

    def __len__(self) -> int:
        """Return the number of events."""
        return len(self.rows)


@dataclass(frozen=True, slots=True, eq=False)
class IndexedBatch:
    """Events of an ``EventBatch`` in the same order, ids as indices, for tables to fold. All columns (n,)."""

    first: LogPosition
    """Position before the first event: event i has position ``first + i``."""
    kind: NDArray[np.uint8]
    """``core.kinds.Kind``."""
    operation: NDArray[np.uint8]
    """``core.kinds.Operation`` of item and user events, else 0."""
    action: NDArray[np.int16]
    """Number of the configured interaction name; -1 = not an interaction, or a name that is not configured."""
    folded: Mask
    """False for a duplicate of an event folded before: tables pass it by."""
    user_index: Index
    user_hash: NDArray[np.uint64]
    """64-bit hash of the user id, 0 = no user."""
    user_is_new: Mask
    """The user's slot starts cold at this event: it is new, it was an evicted user's, or its user is deleted."""
    item_index: Index
    item_hash: NDArray[np.uint64]
    session_hash: NDArray[np.uint64]
    """64-bit hash of the session id as sent, 0 = none."""
    request_hash: NDArray[np.uint64]
    """64-bit hash of the request id, 0 = none."""
    event_time_ms: NDArray[np.int64]
    """After the rule of lateness: never more than 5 min ahead of log time."""
    log_time_ms: NDArray[np.int64]
    value: NDArray[np.float64]
    """NaN = not sent."""
    quantity: NDArray[np.float32]
    source: EventBatch
    """Batch with the texts, for the few events whose bodies are folded (items, users, served)."""

    def __len__(self) -> int:
        """Return the number of events."""
        return len(self.kind)


@dataclass(frozen=True, slots=True)
class Query:
    """One request, complete: with the state at its log position it decides the slate."""

    request_id: str
    placement: str
    user_id: str | None
    session_id: str | None
    slate_size: int
    now_ms: TimestampMs
    seed: int
    items: tuple[str, ...] = ()
    """Items of this session or basket, oldest first, used without being logged."""
    exclude: tuple[str, ...] = ()
    filter: str | None = None
    """Filter text of this request, in addition to the placement's."""
    context: Mapping[str, str | float | bool] = field(default_factory=dict[str, str | float | bool])
    """Values of the request, and fetched columns of the user where the caller sent no value."""
    item_fields: Mapping[str, Mapping[str, float]] = field(default_factory=dict[str, Mapping[str, float]])
    """Numbers of the request about items: id to field to number, such as the caller's own score; and fetched columns
    where the caller sent no value. Features read them."""
    given: tuple[str, ...] = ()
    """Items of the request, distinct, in its order: the only candidates. Empty = the sources propose the candidates."""
    taken: tuple[str, ...] = ()
    """Items in earlier slates of the same page."""
    spare: int = 0
    """Number of candidates beyond the slate, at most the items of the page's earlier slates: the slate is full although
    those items are left out."""
    page_id: str = ""
    """Request id of the first slate of the page, the same in all of its slates; empty = the slate is of no page."""
    order_max: int = 0
    """Number of rows to put in order, those of the slate first, for requests that continue it; 0 = only the slate's."""
    continues: str = ""
    """Request id of the slate whose order this slate continues; empty = a new order is made."""
    turn: int = 0
    """Number of the slate to read first, counted from 1 behind the continued slate; 0 = the slate continues none."""
    first_position: int = 0
    """Position of the slate's first item: the number of items of the same order that were served before."""

    @property
    def rows_max(self) -> int:
        """Number of candidate rows to put in order, spare ones included."""
        return max(self.slate_size, self.order_max) + self.spare


@dataclass(frozen=True, slots=True)
class Calibration:
    """Map from scores of a model to probabilities: a straight line in log-odds."""

    slope: float
    """0 or more, so no order changes."""
    offset: float
    is_probability: bool
    """True: the score is a probability, and the line is over its log-odds. False: the line is over the score."""


@dataclass(frozen=True, slots=True)
class Models:
    """The loaded artifacts of one plan. Immutable: a request sees one version of each."""

    by_name: Mapping[str, object]
    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    """Version of each, by name, such as ``0007-3fa9c2d41b22``."""
    calibrations: Mapping[str, Calibration] = field(default_factory=dict[str, Calibration])
    """Calibration of the scores, by name, of each model that has one."""

    def get(self, name: str, kind: type[T]) -> T:
        """Return the artifact ``name``, or raise ``ModelUnavailable``."""
        model = self.by_name.get(name)
        if not isinstance(model, kind):
            raise ModelUnavailable(name)
        return model

    def only(self, names: Collection[str]) -> "Models":
        """Return the artifacts of these names that are loaded."""
        return Models(
            {name: each for name, each in self.by_name.items() if name in names},
            {name: each for name, each in self.versions.items() if name in names},
            {name: each for name, each in self.calibrations.items() if name in names},
        )


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """Readable state for one query, at one log position.

    A moment is valid until the next event is applied. A component keeps no reference to it and copies what it returns.
    """

    query: Query
    log_position: LogPosition
    user_index: int
    """-1 = no user, or an unknown one."""
    user_hash: int
    """64-bit hash of the user id, 0 = no user."""
    session_hash: int
    """64-bit hash of the session id, 0 = none was sent."""
    recent_item_index: Index
    """Items of the asking session, oldest first, this request's own items last; may hold an item more than once."""
    tables: Mapping[type, object]
    models: Models
    session_number: int = -1
    """Number of the asking session among all sessions; -1 = the log holds no act of it."""
    sent_item_index: Index = field(default_factory=lambda: np.empty(0, dtype=np.int32))
    """Known items among ``query.items``, oldest first."""

    def table(self, kind: type[T]) -> T:
        """Return the table of type ``kind``, or raise ``TableMissing``."""
        table = self.tables.get(kind)
        if not isinstance(table, kind):
            raise TableMissing(kind.__name__)
        return table


@dataclass(frozen=True, slots=True, eq=False)
class Proposal:
    """Items that one source proposes: distinct, best first, each with the source's score."""

    item_index: Index
    score: Score


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Distinct items under consideration, with score and rank of each from each source."""

    item_index: Index
    source_names: tuple[str, ...]
    source_score: Score
    """Shape (n, len(source_names)); NaN = this source did not propose this item."""
    source_rank: Index
    """Shape (n, len(source_names)); 0 = the source's best, -1 = not proposed."""

    def __len__(self) -> int:
        """Return the number of candidates."""
        return len(self.item_index)

    def where(self, keep: Mask) -> "Candidates":
        """Return the kept candidates, in order."""
        return Candidates(self.item_index[keep], self.source_names, self.source_score[keep], self.source_rank[keep])


@dataclass(frozen=True, slots=True, eq=False)
class FeatureFrame:
    """Named columns of the candidates: values (n, f)."""

    names: tuple[str, ...]
    values: Score

    def row_for_row(self, score: Score) -> Score:
        """Return ``score`` if it has one number a row, or raise ``ShapeMismatch``."""
        if score.shape != (len(self.values),):
            message = f"{score.shape} came where ({len(self.values)},) is right"
            raise ShapeMismatch(message)
        return score


@dataclass(frozen=True, slots=True)
class Trace:
    """Effect of one rule of the slate on one item, or a position that the rule could not fill."""

    rule: str
    """Name of the rule. Rules made of settings are named ``caps.<attribute>`` and ``diversity``."""
    item_index: int
    """-1 = no item: the trace is about a position, or about an unknown item."""
    position: int
    """Position of the item, or the position that could not be filled; -1 = not in the slate."""
    what: str
    """One word of ``ranking.rules.rules.WORDS``."""


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """The slate as rows of the candidates, best first, each with its propensity in (0, 1]."""

    chosen: NDArray[np.intp]
    propensity: Score
    traces: tuple[Trace, ...] = ()
    """Effects of the rules of the slate; a selector leaves them empty."""


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """Rows behind those of a slate, in the order in which continuing requests return them."""

    chosen: NDArray[np.intp]
    propensity: Score
    """Of each row, conditional on the rows before it."""
    lengths: tuple[int, ...]
    """Sizes of the slates that the rows form. The rules hold for each slate by itself."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A component that did not answer, with the reason."""

    component: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Fetched:
    """Columns of outside systems in the query of one request, without the values that the caller itself sent."""

    context: Mapping[str, str | float | bool] = field(default_factory=dict[str, str | float | bool])
    """Of the user."""
    item_fields: Mapping[str, Mapping[str, float]] = field(default_factory=dict[str, Mapping[str, float]])
    """Of items, by id; an item without a known column is not among them."""


NOTHING_FETCHED = Fetched()


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Served:
    """Answer to a query, with all that a rerun needs."""

    query: Query
    log_position: LogPosition
    candidates: Candidates
    scorer: str
    score: Score
    selection: Selection
    retrieved: Mapping[str, int]
    """Number of items that each source proposed."""
    retrieved_count: int
    """Number of distinct items proposed."""
    removed: Mapping[str, int]
    """Number of candidates that each filter removed, in the order in which the filters ran."""
    failures: tuple[Failure, ...]
    config_hash: str
    tier: str
    """``full``, ``reduced`` or ``floor``."""
    fold_version: str = ""
    """Hash of the kernels and of every setting that changes the fold; a rerun needs a state of this version."""
    features: FeatureFrame | None = None
    """Features of each candidate, in the order of the candidates; None = the plan has no features."""
    logs_features: bool = False
    """Whether features of the chosen rows go into the served record. The seed decides, so a rerun decides the same."""
    feature_read_s: float = float("nan")
    """Seconds that reading the features took, by the clock of the deadline; no part of the answer. NaN in a rerun."""
    models: Mapping[str, str] = field(default_factory=dict[str, str])
    """Version of each model that the plan reads, by name; models without a champion are left out."""
    verdict: NDArray[np.intp] | None = None
    """Place in ``removed`` of the filter that removed each given item, -1 = it was kept; None = no items were given."""
    took_s: Mapping[str, float] = field(default_factory=dict[str, float])
    """Seconds of thread time by part, of each part that was called before the deadline; no part of the answer. Of an
    ``async`` part: the longest stretch between two awaits. NaN in a rerun."""
    traces: tuple[Trace, ...] = ()
    """Items that the rules moved or dropped and positions that they could not fill, in the order of the rules."""
    order: Order | None = None
    """Rows behind the slate; None = the query has no ``order_max``."""
    fetched: Fetched = NOTHING_FETCHED
    """Fetched part of the query: the record keeps it, so that a rerun calls no outside system."""
    learned: Models | None = None
    """Models of the plan with what they had learned by then; None = none of them goes on learning."""
    bins: tuple[bytes, ...] = ()
    """What those that gave the scores read of the slate's items, for the record: what they learn from."""
    took_us: int | None = None
    """Microseconds from the request's admission to the slate; no part of the answer. None in a rerun."""


Clock: TypeAlias = Callable[[], TimestampMs]
