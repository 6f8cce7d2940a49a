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
    """Events as they travel and rest, ids as text: the same bytes in memory, in the log and in a broker message."""

    rows: NDArray[np.void]
    """Fixed-size rows, shape (n,), of ``events.schema.ROW``: kind, times, value, and where each text lies."""
    text: bytes
    """The texts of all rows, UTF-8, end to end: ids, action, body."""

    def __len__(self) -> int:
        """Return the number of events."""
        return len(self.rows)


@dataclass(frozen=True, slots=True, eq=False)
class IndexedBatch:
    """The same events in the same order, ids as indices: what tables fold. All columns (n,)."""

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
    """The user's slot starts cold at this event: it is new, was an evicted user's, or its user is deleted."""
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
    """Where the texts are, for the few events whose bodies are folded (items, users, served)."""

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
    """What the caller says of the request, and what fetches found of the user where the caller says nothing."""
    item_fields: Mapping[str, Mapping[str, float]] = field(default_factory=dict[str, Mapping[str, float]])
    """What the caller says of items: id to field to number, such as its own score; and what fetches found of them where
    the caller says nothing. Features may read it."""
    given: tuple[str, ...] = ()
    """The caller's own items, distinct, in the caller's order: the only candidates. Empty = what sources propose."""
    taken: tuple[str, ...] = ()
    """Items that stand in slates of the same page already."""
    spare: int = 0
    """Candidates beyond the slate that are looked for, so that it is full whichever of them were taken: as many as the
    page's earlier slates may have."""
    page_id: str = ""
    """Request id of the first slate of the page, the same in all of its slates; empty = it is no page's."""
    order_max: int = 0
    """Rows that are put in order, the slate's own first, for requests that continue it; 0 = the slate's alone."""
    continues: str = ""
    """Request id of the slate whose order this one reads on in; empty = it is asked for anew."""
    turn: int = 0
    """Which of the slates after that one is read first, from 1 on; 0 = it continues none."""
    first_position: int = 0
    """Position of its first item: the number of items that were served before it of the same order."""

    @property
    def rows_max(self) -> int:
        """Rows that are wanted of the candidates."""
        return max(self.slate_size, self.order_max) + self.spare


@dataclass(frozen=True, slots=True)
class Calibration:
    """What turns a model's scores into probabilities: a straight line in log-odds."""

    slope: float
    """0 or more, so no order changes."""
    offset: float
    is_probability: bool
    """Whether the line is over the log-odds of the score, which is a probability already, or over the score."""


@dataclass(frozen=True, slots=True)
class Models:
    """The loaded artifacts of one plan. Immutable: a request sees one version of each."""

    by_name: Mapping[str, object]
    versions: Mapping[str, str] = field(default_factory=dict[str, str])
    """Version of each, by name, such as ``0007-3fa9c2d41b22``."""
    calibrations: Mapping[str, Calibration] = field(default_factory=dict[str, Calibration])
    """What makes probabilities of its scores, by name; of those that have one."""

    def get(self, name: str, kind: type[T]) -> T:
        """Return the artifact ``name``, or raise ``ModelUnavailable``."""
        model = self.by_name.get(name)
        if not isinstance(model, kind):
            raise ModelUnavailable(name)
        return model

    def only(self, names: Collection[str]) -> "Models":
        """Return those of some names, as far as they are loaded."""
        return Models(
            {name: each for name, each in self.by_name.items() if name in names},
            {name: each for name, each in self.versions.items() if name in names},
            {name: each for name, each in self.calibrations.items() if name in names},
        )


@dataclass(frozen=True, slots=True, eq=False)
class Moment:
    """All that a component may read to answer one query: state at rest at one log position.

    Valid until the next event is applied. Keep nothing of it; copy what you return.
    """

    query: Query
    log_position: LogPosition
    user_index: int
    """-1 = no user, or one that is not known."""
    user_hash: int
    """64-bit hash of the user id, 0 = no user."""
    session_hash: int
    """64-bit hash of the session id, 0 = none was sent."""
    recent_item_index: Index
    """Items of the asking session, oldest first, this request's own items last; may hold an item more than once."""
    tables: Mapping[type, object]
    models: Models
    session_number: int = -1
    """Number of the asking session among all sessions; -1 = it has no act in the log."""
    sent_item_index: Index = field(default_factory=lambda: np.empty(0, dtype=np.int32))
    """The request's own items that are known, oldest first."""

    def table(self, kind: type[T]) -> T:
        """Return the table of type ``kind``, or raise ``TableMissing``."""
        table = self.tables.get(kind)
        if not isinstance(table, kind):
            raise TableMissing(kind.__name__)
        return table


@dataclass(frozen=True, slots=True, eq=False)
class Proposal:
    """What one source proposes: distinct items, best first, with its own score for each."""

    item_index: Index
    score: Score


@dataclass(frozen=True, slots=True, eq=False)
class Candidates:
    """Distinct items under consideration, and what each source said of each."""

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
    """What one rule of the slate did to one item, or could not do at one position."""

    rule: str
    """Name of the rule; ``caps.<attribute>`` and ``diversity`` are those of the settings."""
    item_index: int
    """-1 = no item: it is about a position, or about an item that nobody knows."""
    position: int
    """Where the item stands, or what could not be should have been; -1 = not in the slate."""
    what: str
    """One word of ``ranking.rules.rules.WORDS``."""


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """The slate as rows of the candidates, best first, each with its propensity in (0, 1]."""

    chosen: NDArray[np.intp]
    propensity: Score
    traces: tuple[Trace, ...] = ()
    """What the rules of the slate did; a selector by itself has none."""


@dataclass(frozen=True, slots=True, eq=False)
class Order:
    """The rows that come after those of a slate, in the order in which requests that continue it are to have them."""

    chosen: NDArray[np.intp]
    propensity: Score
    """Each given those before."""
    lengths: tuple[int, ...]
    """Of the slates that they are: each was chosen by the rules as one."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A component that did not answer, and why."""

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
    """What was answered, and all that is needed to answer it again."""

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
    """What the plan's features are of each candidate, in the order of these; None = the plan has none."""
    logs_features: bool = False
    """Whether those of the chosen go into the served record. The seed decides, so a rerun decides the same."""
    feature_read_s: float = float("nan")
    """What reading them took, by the clock of the deadline, in seconds; no part of the answer. NaN in a rerun."""
    models: Mapping[str, str] = field(default_factory=dict[str, str])
    """Version of each model that the plan reads, by name; one that has no champion is not among them."""
    verdict: NDArray[np.intp] | None = None
    """Of each given item the place in ``removed`` of what removed it, -1 = nothing did; None = none were given."""
    took_s: Mapping[str, float] = field(default_factory=dict[str, float])
    """Seconds of the thread that each part took, by name, of those that were asked and had time; no part of the answer.
    Of a part that waits the longest that it held the thread without giving way. NaN in a rerun."""
    traces: tuple[Trace, ...] = ()
    """What the rules of the slate moved, dropped or could not do, in the order of the rules."""
    order: Order | None = None
    """What comes after the slate; None = nobody asked for it."""
    fetched: Fetched = NOTHING_FETCHED
    """Fetched part of the query: the record keeps it, so that a rerun calls no outside system."""


Clock: TypeAlias = Callable[[], TimestampMs]
