"""The real server under a clock that a test sets: ``python -m tests.support.leaping_server OFFSET_FILE serve …``.

The file holds milliseconds that the wall clock is wrong by, as text; it is read whenever the time is asked for.
"""

import runpy
import sys
from pathlib import Path

from midstream.app import opening


def leap(path: Path) -> None:
    """Let the clock of this process be wrong by what a file says."""
    right_ms = opening.wall_ms

    def wrong_ms() -> int:
        return right_ms() + int(path.read_text() or "0")  # empty while it is being written

    opening.wall_ms = wrong_ms


if __name__ == "__main__":
    leap(Path(sys.argv.pop(1)))
    runpy.run_module("midstream", run_name="__main__")
