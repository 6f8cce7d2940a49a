"""Ready gate of a node of a shared log: it takes requests of a balancer once it is near the end of the topic.

A node that was near and loses the broker stays ready: every node of the shop may lose it, and recommendations from a
state of a minute ago are better than none. Health says since when the log is unreachable, and that no events are taken.

A copy that stands still while the broker answers, or that ended, is the trouble of this node alone: it is not ready.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from midstream.engine.listeners import Concern

READY_MS = 1_000
"""Log time behind the topic below which a node that starts is ready."""
BEHIND_MS = 10_000
"""From here on a node that was ready is not any more: less would take nodes out for a pause of the machine."""
START_MS = 5_000
"""A node that starts connects within it: until then it is not said to be cut off."""
UNREACHABLE = "log_unreachable"


class Copy(Protocol):
    """A copy of a shared log, as it stands."""

    @property
    def lag_ms(self) -> int | None:
        """Log time that the node is behind; None = nothing is known yet."""
        ...

    @property
    def is_unreachable(self) -> bool:
        """Whether the broker was asked and does not answer."""
        ...

    @property
    def ended(self) -> str:
        """Why nothing is taken any more; empty while the copy goes on."""
        ...


class ReadyGate:
    """Judge of one node, asked at each look at its health."""

    def __init__(self, copy: Copy, clock: Callable[[], int]) -> None:
        """Judge by a copy of a shared log and a wall clock in milliseconds."""
        self._copy = copy
        self._clock = clock
        self._was_near = False
        self._was_connected = False
        self._lost_ms: int | None = None

    @property
    def unreachable_since_ms(self) -> int | None:
        """Since when the broker does not answer, as far as this was asked; None = it does, or the node just starts."""
        if not self._copy.is_unreachable:
            self._was_connected, self._lost_ms = True, None
            return None
        if self._lost_ms is None:
            self._lost_ms = self._clock()
        is_start = not self._was_connected and self._clock() - self._lost_ms < START_MS
        return None if is_start else self._lost_ms

    def wait(self) -> str:
        """Return why the node is not ready; empty = it is."""
        if self._copy.ended:
            self._was_near = False
            return f"this node takes nothing more from the topic: {self._copy.ended}"
        if self.unreachable_since_ms is not None:
            return "" if self._was_near else "the topic was not read to its end since the start"
        lag_ms = self._copy.lag_ms
        limit_ms = BEHIND_MS if self._was_near else READY_MS
        self._was_near = lag_ms is not None and lag_ms < limit_ms
        if self._was_near:
            return ""
        behind = "an unknown time" if lag_ms is None else f"{lag_ms / 1_000:.1f} s"
        return f"this node is {behind} of log time behind the topic; ready below {limit_ms / 1_000:g} s"

    def concern(self) -> Concern:
        """Return since when the log is unreachable."""
        since_ms = self.unreachable_since_ms
        if since_ms is None:
            return Concern(UNREACHABLE, "")
        since = datetime.fromtimestamp(since_ms / 1_000, UTC).isoformat(timespec="seconds")
        return Concern(UNREACHABLE, f"log unreachable since {since}: recommendations go on, events wait")
