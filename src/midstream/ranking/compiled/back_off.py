"""Count of questions that a kernel of a plan could not answer: after several in a row most skip it for a while.

In a small catalogue the sources propose too few items for most slates, and a model may give numbers that no plain text
has to most items. Asked first, the kernel would cost each of those questions its time for nothing.
"""

from dataclasses import dataclass
from typing import Final

_TIMES_MAX: Final = 6


@dataclass(slots=True)
class BackOff:
    """Of one plan over one state. After 1, 2, … questions in a row without an answer 0, 1, 3, 7, 15 and 31 skip it."""

    size: int = 0
    """Smallest slate for which there was none: smaller ones skip nothing."""
    times: int = 0
    left: int = 0

    def skips(self, size: int) -> bool:
        """Return whether a question for a slate of a size is one of those that skip the kernel, and count it."""
        if not self.left or size < self.size:
            return False
        self.left -= 1
        return True

    def note(self, size: int, *, answered: bool) -> None:
        """Note what came of a question for a slate of a size."""
        if not answered:
            self.size = min(self.size, size) if self.times else size
            self.times = min(self.times + 1, _TIMES_MAX)
            self.left = (1 << (self.times - 1)) - 1
        elif size >= self.size:
            self.times = 0
