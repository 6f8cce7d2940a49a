"""A shop whose clock stands until a test moves it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from midstream.app.opening import Outside, config_of, open_running
from midstream.core.types import TimestampMs
from midstream.engine.recommender import Recommender

BEGIN_MS = 1_700_000_000_000
HOUR_MS = 3_600_000
DRAWN = 3
"""Names a draw under which a validation of a few acts has more than one question."""


@dataclass(slots=True)
class TimedShop:
    """A shop, and what time it is there."""

    shop: Recommender
    now_ms: int

    def wait(self, length_ms: int) -> None:
        """Let time go by."""
        self.now_ms += length_ms


@contextmanager
def timed_shop(folder: Path, now_ms: int = BEGIN_MS) -> Iterator[TimedShop]:
    """Open the shop of a folder at a time."""
    config = config_of(folder)
    timed: TimedShop | None = None
    # Of equal scores the hash of an id decides, and its key follows from what is drawn here.
    drawn = np.random.default_rng(now_ms + DRAWN).bytes

    def clock() -> TimestampMs:
        return TimestampMs(now_ms if timed is None else timed.now_ms)

    running = open_running(folder, config, outside=Outside(clock=clock, entropy=drawn))
    shop = Recommender(running, lambda: msgspec.structs.replace(running.service.accept, now_ms=clock()))
    timed = TimedShop(shop, now_ms)
    with shop:
        yield timed
