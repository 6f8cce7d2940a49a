"""Count of questions for which the sources of a plan proposed too few items: the pipeline answers those from the start.

In a small catalogue most slates are filled. Asked first, the kernel would cost each of them its time for nothing.
"""

from dataclasses import dataclass
from typing import Final

_TIMES_MAX: Final = 6


@dataclass(slots=True)
class Scarcity:
    """Of one plan over one state. After too few 1, 2, … times in a row, 0, 1, 3, 7, 15 and 31 questions skip it."""

    size: int = 0
    """Smallest slate for which there were too few: smaller ones skip nothing."""
    times: int = 0
    left: int = 0

    def skips(self, size: int) -> bool:
        """Return whether a question for a slate of a size is one of those that skip the kernel, and count it."""
        if not self.left or size < self.size:
            return False
        self.left -= 1
        return True

    def note(self, size: int, *, too_few: bool) -> None:
        """Note what came of a question for a slate of a size."""
        if too_few:
            self.size = min(self.size, size) if self.times else size
            self.times = min(self.times + 1, _TIMES_MAX)
            self.left = (1 << (self.times - 1)) - 1
        elif size >= self.size:
            self.times = 0
