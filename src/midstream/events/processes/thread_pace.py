"""Pace of a thread that works beside answers: it rests between pieces of work, as long as it worked.

A thread without the interpreter's lock still wants a core. Where the event loop wants the same one, a thread that never
rests keeps it for a whole slice of the scheduler, some milliseconds, again and again. Pieces of a millisecond with as
long a rest behind each leave a waking event loop its core at once. A lower priority would do the same, but such a
thread may hold the interpreter's lock while others have its core, and then everything waits for it.
"""

import time
from collections.abc import Callable
from typing import TypeAlias

Rest: TypeAlias = Callable[[], None]
"""Called after each small piece of work, such as a MiB."""
PIECE_S = 0.001
"""CPU time of the thread between two rests, at least."""
REST_S_MAX = 0.1
"""However long a piece of work was."""


def no_rest() -> None:
    """Go on at once: nobody is answered meanwhile."""


class ThreadPace:
    """Pace of one thread; made by that thread, when it begins."""

    def __init__(self, rest: float = 1.0) -> None:
        """Begin to work now.

        Args:
            rest: Length of a pause, as a multiple of the work before it.
        """
        self._rest = rest
        self._since = time.thread_time()

    def rest(self) -> None:
        """Pause once this thread had a core for a millisecond since the last pause."""
        worked = time.thread_time() - self._since
        if worked >= PIECE_S:
            time.sleep(min(self._rest * worked, REST_S_MAX))
            self._since = time.thread_time()
