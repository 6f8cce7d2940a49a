"""A shop whose clock stands until a test moves it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from midstream.app.running import Outside, config_of, open_running
from midstream.core.types import TimestampMs
from midstream.engine.shop import Shop

BEGIN_MS = 1_700_000_000_000
HOUR_MS = 3_600_000


@dataclass(slots=True)
class TimedShop:
    """A shop, and what time it is there."""

    shop: Shop
    now_ms: int

    def wait(self, length_ms: int) -> None:
        """Let time go by."""
        self.now_ms += length_ms


@contextmanager
def timed_shop(folder: Path, now_ms: int = BEGIN_MS) -> Iterator[TimedShop]:
    """Open the shop of a folder at a time."""
    config = config_of(folder)
    timed: TimedShop
    running = open_running(folder, config, outside=Outside(clock=lambda: TimestampMs(timed.now_ms)))
    shop = Shop(running, lambda: msgspec.structs.replace(running.service.accept, now_ms=timed.now_ms))
    timed = TimedShop(shop, now_ms)
    with shop:
        yield timed
