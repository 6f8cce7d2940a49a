"""Fold step: events that are folded together, handed from table to table in one order, with what each found of them.

A table reads what those above it in ``state.tables`` filled in; what none of them filled in yet cannot be read.
"""

from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from midstream.core.kinds import Kind
from midstream.core.types import EventBatch, Index, IndexedBatch, LogPosition

_CONTROL = int(Kind.CONTROL)


@dataclass(frozen=True, slots=True, eq=False)
class Fingerprints:
    """What tells events apart. All columns (n,)."""

    id_hash: NDArray[np.uint64]
    """0 = cannot be told apart: neither an id nor a time was sent, so there is no dedupe."""
    check: NDArray[np.uint32]
    """32 more bits of the id."""
    content: NDArray[np.uint32]
    """Hash of everything else that was sent."""

    def __getitem__(self, chosen: slice | NDArray[np.intp]) -> "Fingerprints":
        """Return those of some of the events; of a slice nothing is copied."""
        return Fingerprints(self.id_hash[chosen], self.check[chosen], self.content[chosen])


@dataclass(frozen=True, slots=True, eq=False)
class SessionColumns:
    """What each event of a batch goes on with."""

    number: NDArray[np.int64]
    """Number of the event's session, (n,), -1 for what belongs to none."""
    before: Index
    """Last distinct items of that session before the event, newest first, (n, pair_items_max), -1 = no more of them.

    Distinct by their latest act; the event's own item is among them where the session had it before. Of the
    ``session_items_max`` acts that are kept."""
    user: NDArray[np.uint64]
    """Hash of the user whom that session belongs to, (n,); 0 = none is known yet, or there is no session."""

    def __getitem__(self, chosen: slice) -> "SessionColumns":
        """Return those of some of the events; nothing is copied."""
        return SessionColumns(self.number[chosen], self.before[chosen], self.user[chosen])


class ServedSlates(NamedTuple):
    """Slates that the served events of a step hold, read once for all tables that need them."""

    event: NDArray[np.int64]
    """Places of the served events, rising, (m,)."""
    start: NDArray[np.int64]
    """Where the items of each begin in ``items``, (m + 1,); none of a body that is no record."""
    items: NDArray[np.uint64]
    """Hashes of the items of all, by position."""
    bins: NDArray[np.int64]
    """Where the bins of each begin in the text of the batch, (m,); -1 = it has none."""


class UserMerged(NamedTuple):
    """A user became another one."""

    into: int
    """Slot of the user that stays, -1 = it has none."""
    other: int
    """Slot of the other, given up already; -1 = there is nothing to add to the first."""
    into_hash: int
    other_hash: int


class UserForgotten(NamedTuple):
    """A user was erased, under every id that stands for it."""

    slot: int
    """Given up already; -1 = it had none."""
    user_hash: int
    hashes: NDArray[np.uint64]
    """Of all its ids, ascending."""


class UserRestarted(NamedTuple):
    """A user was deleted: the next event under its id begins anew."""

    slot: int
    """-1 = it has none."""
    user_hash: int


class ActRetracted(NamedTuple):
    """An act was taken back. Its owner is who the ids of its event stand for now."""

    position: int
    """Log position of the act."""
    user: int
    """Slot; -1 = it has none."""
    user_hash: int
    session_hash: int
    item_index: int
    """-1 = the item is not known."""
    action: int
    """Number of the action; -1 = of an impression, or of an interaction that is not configured."""
    is_impression: bool
    time_ms: int
    """Event time of the act."""
    log_time_ms: int
    """Of the act."""


UserChange: TypeAlias = UserMerged | UserForgotten | UserRestarted | ActRetracted


@dataclass(slots=True, eq=False)
class FoldStep:
    """Events that are folded together: one that changes what is known of a user alone, or events none of which does."""

    first: LogPosition
    """Position before the first event."""
    source: EventBatch
    """Stamped with log times."""
    prints: Fingerprints | None = None
    """Of the events, where somebody has taken them already."""
    changes_user: bool = False
    """The only event is a merge, a deletion of a user, an erasure or a retraction."""
    admission: NDArray[np.uint8] = field(init=False)
    """``EventAdmission`` of each event, (n,)."""
    events: IndexedBatch = field(init=False)
    """The events with indices for ids."""
    change: UserChange | None = None
    """What becomes of a user after the events, None = nothing. A table follows it when it has folded them."""
    sessions: SessionColumns = field(init=False)
    """What sessions the events go on with."""
    slates: ServedSlates | None = field(default=None, init=False)
    """What the served events hold; None = nobody has read them."""
    frozen: tuple[NDArray[np.void], NDArray[np.uint8]] | None = field(default=None, init=False)
    """Rows and text of the source as kernels take them; None = nobody has made them."""
    _controls: list[int] | None = field(default=None, init=False)

    def has_no_controls(self) -> None:
        """Note that no event is a control event, where that is known."""
        self._controls = []

    def controls(self) -> list[int]:
        """Return the places of the control events to fold: looked for once, since nearly every step has none."""
        if self._controls is None:
            self._controls = np.flatnonzero((self.events.kind == _CONTROL) & self.events.folded).tolist()
        return self._controls
