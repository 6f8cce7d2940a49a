"""When an eraser warns of an erasure and when it begins by itself, and how long others wait, on clocks of a test."""

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from midstream.engine.erasure.eraser import EARLY_GAP_S, LEFT_S_MIN, OVERDUE, REWRITE_S, Eraser, EraserOptions

if TYPE_CHECKING:
    from midstream.engine.engine import Engine
    from midstream.engine.folder import DataFolder
    from midstream.engine.snapshots.snapshotter import Snapshotter

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
FOLDER, SNAPSHOTTER = cast("DataFolder", None), cast("Snapshotter", None)


class Waiting:
    """An engine of which one erasure has waited for some time."""

    def __init__(self, days_max: int = 7) -> None:
        self.waited_ms = 0
        self.now_s = 1_000.0
        self.concerns: dict[str, str] = {}
        self.engine = SimpleNamespace(
            concerns=self.concerns,
            fold=None,
            host=SimpleNamespace(monotonic=lambda: self.now_s),
            supervise=lambda *_, **__: None,
            erasure_ages=SimpleNamespace(longest_ms=lambda _: self.waited_ms),
            erasure_places=SimpleNamespace(),
        )
        options = EraserOptions(segment_bytes=1 << 20, entropy=bytes, days_max=days_max)
        self.eraser = Eraser(cast("Engine", self.engine), SNAPSHOTTER, FOLDER, options)

    def said(self, waited_ms: int) -> str:
        """What health says of it after a wait, nothing = it has no concern."""
        self.waited_ms = waited_ms
        concern = self.eraser.age_concern()
        assert concern.name == OVERDUE
        return concern.said


@pytest.mark.parametrize(
    "days_max, hours, begins",
    [
        (7, 6 * 24, ""),
        (7, 6 * 24 + 0.1, "an erasure is due within a day"),
        (7, 7 * 24, "an erasure is due within a day"),
        (7, 7 * 24 + 12, "an erasure is 0.5 days older than was promised"),
        (3, 47.9, ""),
        (3, 48.1, "an erasure is due within a day"),
        (2, 24, ""),
        (2, 24.1, "an erasure is due within a day"),
        (1, 24, ""),
        (1, 36, "an erasure is 0.5 days older than was promised"),
    ],
)
def test_health_says_when_the_last_day_has_begun_and_when_it_is_over(days_max: int, hours: float, begins: str) -> None:
    """And nothing any more when what waited is carried out. A wait of which all is refused anyway is no concern."""
    waiting = Waiting(days_max)
    said = waiting.said(int(hours * HOUR_MS))
    assert said.startswith(begins)
    assert bool(said) == bool(begins)
    assert waiting.said(0) == ""


@given(st.integers(1, 30), st.integers(0, 40 * DAY_MS))
@example(1, 18 * HOUR_MS)
@example(1, 18 * HOUR_MS + 1)
@example(2, 24 * HOUR_MS)
@example(2, 24 * HOUR_MS + 1)
def test_a_rewrite_is_due_after_a_day_and_six_hours_before_what_was_promised(days_max: int, waited_ms: int) -> None:
    """And always before health says that it is late."""
    waiting = Waiting(days_max)
    waiting.waited_ms = waited_ms
    hours = min(24, 24 * days_max - 6)
    assert waiting.eraser.is_due() == (waited_ms > hours * HOUR_MS)
    assert waiting.eraser.is_due() or not waiting.said(waited_ms)


def test_who_finds_no_place_is_told_when_there_is_one() -> None:
    """By how long a rewrite takes, and how long it is until one may begin that is not due."""
    waiting = Waiting()
    room_in_s = waiting.engine.erasure_places.room_in_s
    assert room_in_s() == REWRITE_S  # none ever ran: one begins at once
    waiting.eraser._early_s = waiting.now_s - 100
    assert room_in_s() == EARLY_GAP_S - 100 + REWRITE_S
    waiting.eraser._task = cast("None", SimpleNamespace(done=lambda: False))
    waiting.eraser._began_s = waiting.now_s - 20
    assert room_in_s() == REWRITE_S - 20
    waiting.now_s += 1_000
    assert room_in_s() == LEFT_S_MIN
