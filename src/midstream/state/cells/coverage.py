"""Since when events are counted, and when each action was counted last: how complete and how fresh features are.

A log whose older events are gone begins with what stands for them (``engine.snapshots.base_state``): documents, of
which nothing is counted. So what counts began at the first event behind those.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midstream.core.fold_step import FoldStep
from midstream.core.kinds import IMPRESSION, Kind
from midstream.core.types import LogPosition, Mask
from midstream.state.settings import FoldSettings
from midstream.state.structures.kernel import kernel

_INTERACTION, _IMPRESSION = int(Kind.INTERACTION), int(Kind.IMPRESSION)
_BEGIN, _SINCE = 0, 1
_NEVER = -1
"""No log time: 0 is one."""
_WORD: int = 8


def counted_bytes(settings: FoldSettings) -> int:
    """Return the bytes of the table."""
    return _WORD * (2 + len(settings.types) + 1)


class CoverageRows(NamedTuple):
    """Arrays of the table; without cells only the beginning is noted."""

    since: NDArray[np.int64]
    last_ms: NDArray[np.int64]
    has_cells: bool


class CountCoverage:
    """A time for each action that features count, and one for all."""

    def __init__(self, settings: FoldSettings) -> None:
        """Begin where nothing was counted."""
        self._names = (*settings.action_names(), IMPRESSION)
        self._has_cells = bool(settings.cells)
        self._since = np.array([0, _NEVER], dtype=np.int64)
        self._last_ms = np.zeros(len(self._names), dtype=np.int64)
        self.rows = CoverageRows(self._since, self._last_ms, self._has_cells)
        """For the one pass over all tables (``state.one_pass``)."""

    @property
    def begin(self) -> LogPosition:
        """Log position from which events are counted; 0 = from the first one that ever was."""
        return LogPosition(int(self._since[_BEGIN]))

    @property
    def since_ms(self) -> int | None:
        """Log time of the first event that was counted, None = none was."""
        found = int(self._since[_SINCE])
        return None if found == _NEVER else found

    @property
    def bytes_now(self) -> int:
        """Memory in use."""
        return self.bytes_max

    @property
    def bytes_max(self) -> int:
        """Memory of all."""
        return self._since.nbytes + self._last_ms.nbytes

    def last_ms(self, actions: Iterable[str]) -> int:
        """Return the log time of the last event of some actions, 0 = there was none, or no feature counts anything."""
        return max((int(self._last_ms[self._names.index(name)]) for name in actions), default=0)

    def begin_at(self, position: LogPosition) -> None:
        """Count from a log position on: what lies before stands for events that are gone."""
        self._since[_BEGIN] = position

    def apply(self, step: FoldStep) -> None:
        """Fold a step. Cost: 5 µs."""
        batch = step.events
        if not len(batch.kind):
            return
        if self._since[_SINCE] == _NEVER and batch.first >= self._since[_BEGIN]:
            self._since[_SINCE] = batch.log_time_ms[0]
        if self._has_cells:
            seen = batch.kind == _IMPRESSION
            at = np.flatnonzero(batch.folded & (seen | ((batch.kind == _INTERACTION) & (batch.action >= 0))))
            number = np.where(seen[at], len(self._names) - 1, batch.action[at])
            self._last_ms[number] = batch.log_time_ms[at]  # log time never goes back, so the last is the latest

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """Return all of it."""
        return {"since": self._since.copy(), "last_ms": self._last_ms.copy()}

    def restore(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Replace the table by what ``arrays`` returned, of the same settings."""
        self._since[:] = arrays["since"]
        self._last_ms[:] = arrays["last_ms"]


@kernel
def fold_coverage(
    first: int,
    kind: NDArray[np.uint8],
    folded: Mask,
    action: NDArray[np.int16],
    log_time_ms: NDArray[np.int64],
    since: NDArray[np.int64],
    last_ms: NDArray[np.int64],
    has_cells: bool,  # noqa: FBT001  # kernels take no keywords
) -> None:
    """Fold the events of a batch that has some, as ``CountCoverage.apply`` does, which is its twin."""
    if since[_SINCE] == _NEVER and first >= since[_BEGIN]:
        since[_SINCE] = log_time_ms[0]
    if has_cells:
        for i in range(len(kind)):
            if folded[i] and kind[i] == _IMPRESSION:
                last_ms[len(last_ms) - 1] = log_time_ms[i]
            elif folded[i] and kind[i] == _INTERACTION and action[i] >= 0:
                last_ms[action[i]] = log_time_ms[i]
