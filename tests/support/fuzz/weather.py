"""Environment of the engine: spells of a failing disk, and a wall clock that people and NTP move."""

from collections.abc import Callable
from enum import Enum

from midstream.core.types import TimestampMs
from tests.support.dice import Dice

START_MS = 1_750_000_000_000
"""Wall clock at virtual second 0: June 2025."""


class Spell(Enum):
    """A time in which calls of one kind fail now and then."""

    FULL = "full"
    """Writes and new files find no room."""
    SLOW = "slow"
    """Every commit takes a hundred times as long."""
    SYNC = "sync"
    """A sync fails, and what it was to make durable is lost while the cache still shows it."""
    WRITE = "write"
    """A write fails for another reason than room, part of it done."""
    READ = "read"
    """Files and folders cannot be read."""
    NAMES = "names"
    """Folders cannot be synced, so names are not durable."""


class Weather:
    """Which spells are on."""

    def __init__(self, dice: Dice, now_s: Callable[[], float]) -> None:
        """Begin with a clear sky."""
        self._dice = dice
        self._now_s = now_s
        self._until: dict[Spell, float] = {}
        self.struck: dict[Spell, int] = dict.fromkeys(Spell, 0)
        """Calls that each has made to fail."""

    def begin(self, spell: Spell, seconds: float) -> None:
        """Let a spell be on for so long from now."""
        self._until[spell] = self._now_s() + seconds

    def clear(self) -> None:
        """End all of them."""
        self._until.clear()

    def is_on(self, spell: Spell) -> bool:
        """Return whether a spell is on now."""
        return self._now_s() < self._until.get(spell, -1.0)

    def strikes(self, spell: Spell, share: float = 0.5) -> bool:
        """Return whether a call meets a spell: in this share of the calls while it is on."""
        met = self.is_on(spell) and self._dice.chance(share)
        self.struck[spell] += met
        return met


class WallClock:
    """Milliseconds as the operating system tells them: mostly right."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        """Begin right."""
        self._now_s = now_s
        self._offset_ms = 0
        self._stands_at: int | None = None

    def __call__(self) -> TimestampMs:
        """Return what the clock shows."""
        return TimestampMs(self._right() + self._offset_ms if self._stands_at is None else self._stands_at)

    def jump(self, ms: int) -> None:
        """Set the clock forward, or with a number below 0 back."""
        self._offset_ms += ms

    def stop(self) -> None:
        """Let the clock stand still."""
        self._stands_at = int(self())

    def go_on(self) -> None:
        """Let a clock that stood still show the time again."""
        self._stands_at = None

    def set_right(self) -> None:
        """Let the clock show the right time."""
        self._offset_ms, self._stands_at = 0, None

    def _right(self) -> int:
        return START_MS + int(self._now_s() * 1_000)
