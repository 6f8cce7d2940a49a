"""Retractions: acts of users that were taken back, by log position.

A retraction is an event of its own, as acts are in the log, which is never changed for one of them. At its event the
user's row and the open session leave the act out (``users.retracted_acts``, ``sessions``). What sums up the acts of
all users is float64 and added to in the order of the log, so a subtraction would not give the bits of a fold without
the act: those tables keep it until the next rebuild, which passes by the log positions that stand here
(``ids.compacted_items``). In the state of that rebuild they are no longer pending. Full, a retraction does not count
in the state, and is counted as refused; the engine takes none then.
"""

from collections.abc import Mapping
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from midstream.core.fold_step import ActRetracted, FoldStep
from midstream.core.types import LogPosition

RETRACTIONS_MAX: Final = 100_000
"""Retractions that wait for a rebuild: one a second for a day."""
RETRACTION_BYTES: Final = 128
"""Of a retraction, about: a Python number and its place in a dictionary."""


class RetractedAct(msgspec.Struct, frozen=True, omit_defaults=True):
    """Body of a retraction: which act was taken back. The ids of its owner and item stand in its event."""

    log_position: int
    """Of the act."""
    log_time: int = 0
    """Of the act."""
    time: int = 0
    """Event time of the act, as the fold took it."""
    type: str = ""
    """Name of the interaction, or ``impression``."""
    event_id: str = ""
    """Of the act; empty = it has none."""


class Retractions:
    """Log positions of the acts whose retractions wait for a rebuild, in the order in which they were taken back."""

    def __init__(self) -> None:
        """Start empty."""
        self._pending: dict[int, None] = {}
        self.refused_count = 0
        """Retractions for which there was no room."""

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._pending)

    def __contains__(self, position: int) -> bool:
        """Return whether the act at a log position was taken back and waits for a rebuild."""
        return position in self._pending

    @property
    def is_full(self) -> bool:
        """Whether no more can wait."""
        return len(self._pending) >= RETRACTIONS_MAX

    @property
    def bytes_now(self) -> int:
        """Memory in use, about."""
        return len(self._pending) * RETRACTION_BYTES

    @property
    def bytes_max(self) -> int:
        """Memory when it is full, about."""
        return RETRACTIONS_MAX * RETRACTION_BYTES

    @property
    def positions(self) -> NDArray[np.int64]:
        """Log positions of the acts, in the order in which they were taken back: a copy."""
        return np.fromiter(self._pending, dtype=np.int64, count=len(self._pending))

    def apply(self, step: FoldStep) -> None:
        """Fold a step: an act that was taken back is remembered."""
        if isinstance(step.change, ActRetracted):
            self._pending[step.change.position] = None

    def takes(self, position: LogPosition) -> bool:
        """Return whether the act at a log position can be taken back now; one for which there is no room is counted."""
        if position in self._pending:
            return False
        if self.is_full:
            self.refused_count += 1
            return False
        return True

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return the log positions and the counter."""
        return {"position": self.positions, "refused": np.array([self.refused_count], dtype=np.int64)}

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Replace the table by what ``arrays`` returned."""
        self._pending = dict.fromkeys(arrays["position"].tolist())
        self.refused_count = int(arrays["refused"].tolist()[0])


def retracted_act(body: bytes) -> RetractedAct | None:
    """Return what the body of a retraction says; None = nothing that can be used."""
    try:
        return msgspec.json.decode(body, type=RetractedAct)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def retraction_body(act: RetractedAct) -> bytes:
    """Return the body of a retraction."""
    return msgspec.json.encode(act)


def blanked_retraction(body: bytes) -> bytes:
    """Return what is left of the body of a retraction whose user was erased: the act's place in the log."""
    act = retracted_act(body)
    return b"" if act is None else retraction_body(RetractedAct(act.log_position))
