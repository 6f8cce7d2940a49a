"""Input guard: compare-and-set on the positions of an input, for a log that several nodes append to.

A message of an input names the version of the positions that its events were read from. Every node drops it alike where
another message has moved them since, so two consumers at once never record a broker's message twice, and a consumer
that was paused for any time records nothing old. The version is the log position of the newest control event that moved
the input, which the state of every node has.
"""

from dataclasses import dataclass

from midstream.core.errors import CommitTooSlow

NEVER_MOVED = -1
"""Version of an input that has no positions yet."""


@dataclass(frozen=True, slots=True)
class InputGuard:
    """Condition under which a message counts."""

    input: str
    """Name of the input."""
    version: int
    """Log position of the newest control event that moved it; ``NEVER_MOVED`` = none did."""


class Superseded(CommitTooSlow):
    """Events of an input that no log has: another message moved the input's positions before theirs came."""

    def __init__(self, guard: InputGuard) -> None:
        """Name the input."""
        super().__init__(f"input {guard.input!r} was moved by another node since its positions were read")
