"""Inputs and outputs of the engine, for HTTP and for the Python API alike."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Literal, TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.answers.explanations import SlateWhy
from midstream.core.errors import Fault, MidstreamError
from midstream.core.types import Failure, Index, LogPosition, Score, TimestampMs

Value = str | float | bool
ANY_PLACEMENT = "*"
"""Name of the plan that answers every name that is not configured."""


class Outcome(IntEnum):
    """Outcome of a well-formed event."""

    RECORDED = 0
    DUPLICATE = 1
    """An event of this id and content was recorded before; nothing was added."""
    CONFLICT = 2
    """An event of this id with other content was recorded before; the first one stays."""
    REFUSED = 3
    """Its item is unknown, and the configuration has ``unknown_items = "reject"``; or the catalogue is full; or it
    is a late copy of an event of an erased user."""


class Recorded(msgspec.Struct, frozen=True, eq=False):
    """The acknowledgement: everything named here is durable and applied."""

    log_position: LogPosition
    """A recommendation with this ``min_log_position`` or a later one sees all of it."""
    outcome: NDArray[np.uint8]
    """``Outcome`` of each row, in the order of arrival."""
    erased: Index = msgspec.field(default_factory=lambda: np.empty(0, dtype=np.int32))
    """The rows that were refused because their user was erased, ascending."""
    faults: tuple[Fault, ...] = ()
    """Why rows were refused, in their order; the Python API names them here."""
    is_plain: bool = False
    """Every row was recorded; False = ``outcome`` says it."""


@dataclass(frozen=True, slots=True)
class ErasureDue:
    """An erase that is durable and applied, of which the log is still to be rewritten."""

    log_position: LogPosition
    """Before the erase."""
    log_time_ms: TimestampMs
    ids_count: int
    """Ids that were erased: the user's own and those merged into it."""
    erase_by_ms: TimestampMs
    """When every file is to be without the user at the latest."""


class Ask(msgspec.Struct, frozen=True, gc=False):
    """Request for one slate, over HTTP or from Python: checked, without request id, time and seed."""

    placement: str = "default"
    user_id: str | None = None
    session_id: str | None = None
    n: int | None = None
    """None = the placement's size."""
    items: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    filter: str | None = None
    context: Mapping[str, Value] = {}
    fields: tuple[str, ...] = ()
    """Item attributes to return with each item."""
    min_log_position: str | None = None
    """Token of an earlier answer: wait until that is applied."""
    deadline_ms: int | None = None
    """None = the placement's deadline."""
    about: str | None = None
    """An item that the answer is about: the last of ``items``, and not in the slate. It must be known."""
    because: tuple[str, ...] | None = None
    """Of a row of a page: ``about`` is to be the newest item that the visitor has acted on so; empty = in any way that
    speaks for it. None = no item is chosen."""
    item_fields: Mapping[str, Mapping[str, float]] = {}
    """Numbers that the caller sends for items: id to field to number, such as its own score."""
    given: tuple[str, ...] | None = None
    """The caller's own items, which are brought in an order; None = the placement's sources propose."""
    explain: bool = False
    """Return the explanation with the answer."""
    reasons: str | None = None
    """Language of the reason of each item; None = no reasons."""
    cursor: str | bool = False
    """True = later requests may continue this slate; text = the cursor of the answer to continue."""


@dataclass(frozen=True, slots=True, eq=False)
class FeatureRead:
    """Feature values, all of one log position."""

    names: tuple[str, ...]
    """Of the columns, in the order of the request, all columns of a feature together."""
    items: tuple[str, ...]
    values: Score
    """(items, names), float32. NaN = unknown, as everything is that is about an item nothing named."""
    log_position: str
    """Token of the log position of the state that was read."""
    read_your_writes: bool | None
    """None = the request had no ``min_log_position``; False = the wait was over before it was applied."""
    state_age_ms: int
    """Now less the log time of the last applied event."""
    ages_ms: Mapping[str, int | None]
    """By feature: now less the log time of the last event that it counted; None = none was, or it counts nothing."""


@dataclass(frozen=True, slots=True)
class TableView:
    """Contents of a feature's table from outside."""

    name: str
    sha256: str
    """Of the file that was read."""
    rows: int
    incomplete_rows: int
    """Rows without an id or a time, passed by."""
    newest: TimestampMs | None
    """Time of its newest row; None = it has none."""
    bytes_now: int


@dataclass(frozen=True, slots=True)
class LiveColumn:
    """Statistics of one column among the newest served items. None = there is no value."""

    known: int
    """Items with a value."""
    null_ratio: float | None
    mean: float | None
    deviation: float | None
    quantiles: tuple[float, ...]
    """At 0, 1, 5, 25, 50, 75, 95, 99 and 100 %."""
    distinct: int
    psi: float | None
    """Drift from the baseline; None = there is none, or one of both has no values."""
    ks: float | None
    ks_p_value: float | None
    baseline_null_ratio: float | None
    """``null_ratio`` of the baseline; None = there is none."""


@dataclass(frozen=True, slots=True)
class FeatureView:
    """One declared feature: its declaration, the placements that read it, completeness, freshness and size."""

    name: str
    kind: str
    scope: str
    """Key of its aggregates; empty = it is computed from other features."""
    columns: tuple[str, ...]
    used_by: tuple[str, ...]
    """Placements that read it."""
    declaration: Mapping[str, object]
    """All of its options, defaults included."""
    last_counted: TimestampMs | None
    """Log time of the last event that it counted; None = none was, or it counts nothing."""
    age_ms: int | None
    """Now less that."""
    complete_since: TimestampMs | None
    """Log time of the first event that could be counted: everything from then on is in it, nothing from before. None
    = it misses nothing, since history was never cut, or its window is shorter than the kept history, or it counts
    nothing."""
    bytes_now: int
    """Memory of its aggregates, about, or of the table that it reads. A shared aggregate is in each of its features."""
    bytes_max: int
    """The same at the maxima of ``[limits]`` or of the table."""
    table: TableView | None = None
    """Of a feature that reads a table from outside."""
    live: Mapping[str, LiveColumn] = field(default_factory=dict[str, LiveColumn])
    """By column, of the first eight; empty while none was served, and where all features are listed."""


class AnswerItem(msgspec.Struct, frozen=True, gc=False):
    """One item of a slate. No dataclass: created twenty at a time, at a tenth of the cost of dataclasses."""

    id: str
    score: float
    """NaN = the scorer gave it none, as a pinned item may have."""
    position: int
    fields: Mapping[str, object] | None
    """None when the request had no fields; an attribute that the item has not is left out."""
    reason: str | None = None
    """The reason of the item, in the requested language; None = not requested, or there is no text for it."""


@dataclass(frozen=True, slots=True)
class Removal:
    """An item of the caller that is not ranked, and why."""

    id: str
    filter: str
    """Name of the first filter that removed it; ``unknown`` = no event named the item before."""


class Answer(msgspec.Struct, frozen=True, gc=False):
    """A slate with its metadata. No dataclass, as its items: dataclasses set each field by its name."""

    request_id: str
    placement: str
    items: tuple[AnswerItem, ...]
    tier: str
    applied_log_position: str
    """Token of the log position of the state that answered."""
    read_your_writes: bool | None
    """None = the request had no ``min_log_position``; False = the deadline came before it was applied."""
    state_age_ms: int
    """Now less the log time of the last applied event; how old the newest thing known is."""
    config_hash: str
    failures: tuple[Failure, ...]
    models: Mapping[str, str] = {}
    """Version of each model that the placement reads, by name."""
    cursor: str | None = None
    """Continues the slate; None = not requested, or nothing is left."""
    removed: tuple[Removal, ...] = ()
    """Removed ones of the caller's own items, in the caller's order; none where sources propose."""
    not_selected: int = 0
    """Number of the caller's own items that may be served and are not in the slate, because of its length, its rules
    or its scorer; 0 where sources propose."""
    explanation: SlateWhy | None = None
    """None = not requested, or missing for the reason in ``unexplained``."""
    unexplained: Mapping[str, str] = {}
    """Reason of each missing part of the request (``explanation``, ``reasons``), or of a source whose evidence for
    reasons failed."""
    experiment: str = ""
    """Name of the experiment that chose how to answer, or ``holdout``; empty = none did."""
    variant: str = ""
    """Name of its variant; empty = none."""
    because: str = ""
    """Item of the visitor's that a row of a page goes by; empty = none was chosen."""


@dataclass(frozen=True, slots=True)
class SlateRefused:
    """A slate of a page that could not be made; the others are there."""

    placement: str
    error: MidstreamError


@dataclass(frozen=True, slots=True)
class PageAnswer:
    """The slates of a page, in the order of the request: no item is in two of them."""

    page_id: str
    """Request id of the first slate; the record of each has it."""
    slates: tuple[Answer | SlateRefused, ...]


RebuildState = Literal["idle", "waiting", "choosing", "folding", "writing", "loading", "catching_up", "done", "failed"]
Change = Literal["nothing", "plans", "state"]


@dataclass(frozen=True, slots=True)
class RebuildView:
    """Progress of a change of the configuration."""

    state: RebuildState = "idle"
    change: Change = "nothing"
    """Kind of the last change: nothing, plans alone (at once), or the state (by a rebuild)."""
    progress: float = 0.0
    """Share of the events that the new state has, 0 to 1."""
    fold_version: str = ""
    """Of the state in service."""
    config_hash: str = ""
    to_fold_version: str = ""
    """Of the state that is being made, or was last; empty = none since the start."""
    to_config_hash: str = ""
    at_start: tuple[str, ...] = ()
    """Changed sections of the file that are read at a start only."""
    reason: str = ""
    """Why the last rebuild failed; empty while none did."""


@dataclass(frozen=True, slots=True)
class FollowerView:
    """One process that follows, as the leader sees it."""

    number: int
    state: str
    """``starting``, ``serving``, ``behind`` (it takes no connections until it has caught up) or ``ended``."""
    behind_events: int
    """Durable events that its state lacks; of one that is starting, all since its snapshot."""
    restarts: int
    """Number of restarts after it ended by itself."""


InputState: TypeAlias = Literal["starting", "reading", "standing_by", "failing", "stopped", "offline"]
"""``failing``: the last try ended with an error, and another one comes by itself; ``stopped``: the topic, or some of
its partitions, waits for an operator; ``standing_by``: another node of a shared log reads it, or is to; ``offline``: no
process of this folder does."""


@dataclass(frozen=True, slots=True)
class PartitionView:
    """One partition of the topic of an input."""

    partition: str
    position: str
    """Of the next message to read, after all that is durable."""
    lag: int | None = None
    """Messages behind it, as far as the client knows; None = it does not know yet."""
    gone: str = ""
    """Why the position cannot be read on from; empty = it can."""


@dataclass(frozen=True, slots=True)
class InputView:
    """One input from a broker."""

    name: str
    topic: str
    state: InputState
    partitions: tuple[PartitionView, ...]
    lag: int
    """Messages behind the positions of all partitions, as far as the client knows."""
    events: int
    """Events that became durable since the start."""
    rejected: int
    """Messages, and events of them, that became dead letters before the engine saw them, since the start."""
    problem: str = ""
    """What it waits for, or what failed last; empty = nothing."""
    owner: str = ""
    """Node of a shared log that reads it; empty = none, or the log is that of one node."""
    is_idle: bool = False
    """Whether nothing is left that it can read: it is at the end of every partition, or nothing comes any more."""

    @property
    def reads(self) -> bool:
        """Whether it reads its topic, or those partitions that wait for nobody."""
        return self.state == "reading" or (self.state == "stopped" and any(not each.gone for each in self.partitions))


@dataclass(frozen=True, slots=True)
class GuardedPart:
    """A part of a plan that is not as it should be."""

    placement: str
    part: str
    state: Literal["benched", "trying", "slow", "failing"]
    """``benched``: skipped; ``trying``: one request tries it again; ``slow``: it overran, and still runs;
    ``failing``: it fails, and still runs, such as a filter, without which nothing may be served."""
    reason: str
    for_s: float
    """Seconds until it is tried again, or until it leaves the list."""


class Liveness(msgspec.Struct, frozen=True, omit_defaults=True):
    """Identity of an answering process: a client compares it, so no request reaches the server of another shop."""

    status: str
    log: str = ""
    """Public name of the log, as ``LogIdentity.name``; empty = there is none in a folder."""
    pid: int = 0
    """Of the process that has the folder open, in the answers of all processes of the server."""


@dataclass(frozen=True, slots=True)
class Health:
    """Abilities of the engine now."""

    ready: bool
    accepts_events: bool
    reason: str
    """Why not, in words for an operator; empty while all is well."""
    log_position: LogPosition
    applied_log_position: LogPosition
    queued_events: int
    followers: tuple[FollowerView, ...] = ()
    """Further processes that answer; empty while there are none."""
    parts: tuple[GuardedPart, ...] = ()
    """Parts of this process's plans that are left out for a while, or were slow; empty while all are well."""
    inputs: tuple[InputView, ...] = ()
    """Topics that events come from; empty without any."""
