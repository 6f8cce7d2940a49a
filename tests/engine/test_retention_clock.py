"""What retention cuts while a clock stands wrong, or did: never anything that is not as old as it says."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.kinds import Kind
from midstream.core.types import EventBatch
from midstream.engine.folder import DataFolder
from midstream.engine.history import worker
from midstream.engine.history.retention import CONFIRMED_MS, PAUSE_MS, unconfirmed_ms
from midstream.engine.history.worker import SealOrder, SealReport
from midstream.engine.log_opening import open_log
from midstream.events.history.history import DAY_MS
from midstream.events.schema import Event, build, cut
from midstream.state.settings import encode_settings
from tests.support.events import START_MS, Stream, random_events, tiny_settings

HOUR_MS = 3_600_000
COUNT = 900
DAYS = 9
END_MS = START_MS + DAYS * DAY_MS
EVENTS = random_events(COUNT, 7, Stream(step_ms=DAYS * DAY_MS // COUNT))
LEAPS = {"hour": HOUR_MS, "day": DAY_MS, "year": 365 * DAY_MS}


class Shop:
    """A log whose writer has a clock that a test moves."""

    def __init__(self, root: Path) -> None:
        self.data = DataFolder(root)
        self.right_ms = END_MS
        self.wrong_by_ms = 0
        self.seal(keep_days=99)
        self._append(EVENTS)

    @property
    def now_ms(self) -> int:
        return self.right_ms + self.wrong_by_ms

    def tick(self, count: int = 1, step_ms: int = 0) -> None:
        """Record so many events, time going on before each."""
        for _ in range(count):
            self.right_ms += step_ms
            log = open_log(self.data, bytes(16), 1 << 20)
            log_time_ms = max(log.last_log_time_ms, self.now_ms)
            log.close()
            self._append(build([Event(Kind.TICK, log_time_ms=log_time_ms)]))

    def seal(self, keep_days: int) -> SealReport:
        log = open_log(self.data, bytes(16), 1 << 20)
        log.close()
        settings = encode_settings(tiny_settings())
        order = SealOrder(str(self.data.root), log.end, DAY_MS, keep_days * DAY_MS, settings, self.now_ms)
        return worker.run(order)

    def _append(self, events: EventBatch) -> None:
        log = open_log(self.data, bytes(16), 1 << 20)
        for start in range(0, len(events), 150):
            log.append(cut(events, start, min(start + 150, len(events))))
        log.close()


def oldest_day(report: SealReport) -> int:
    """Return in which day the oldest event is that is kept."""
    return int(EVENTS.rows["log_time_ms"][report.begin] - START_MS) // DAY_MS


@pytest.mark.parametrize("leap", LEAPS)
def test_one_event_of_a_clock_that_stood_in_the_future_cuts_nothing(tmp_path: Path, leap: str) -> None:
    """Neither while the clock stands there nor when it is right again; and with a right clock what is old goes."""
    shop = Shop(tmp_path)
    shop.wrong_by_ms = LEAPS[leap] + 1  # a pause of an hour is none
    shop.tick()
    wrong = shop.seal(keep_days=DAYS)
    assert (wrong.begin, wrong.cut_events, wrong.kept_back) == (0, 0, "")
    assert wrong.held_ms >= LEAPS[leap]
    shop.wrong_by_ms = 0
    shop.tick(2)
    right = shop.seal(keep_days=3)
    assert (right.begin, right.cut_events) == (0, 0)
    assert f"log time is {LEAPS[leap] / DAY_MS:.2f} days ahead of the clock" in right.kept_back
    shop.right_ms += LEAPS[leap]
    shop.tick(30, HOUR_MS)
    later = shop.seal(keep_days=400)
    assert (later.begin, later.kept_back) == (0, "")
    assert shop.seal(keep_days=3).begin > 0


def test_a_clock_that_leaps_there_and_back_again_and_again_cuts_nothing(tmp_path: Path) -> None:
    """Each leap forward takes log time further; however many there were, what is young by a right clock stays."""
    shop = Shop(tmp_path)
    for number in range(12):
        shop.wrong_by_ms = (number + 1) * LEAPS["year"] if number % 2 else -LEAPS["year"]
        shop.tick()
        assert shop.seal(keep_days=DAYS).begin == 0
    shop.wrong_by_ms = 0
    assert shop.seal(keep_days=DAYS).kept_back


def test_a_clock_far_behind_cuts_nothing_and_one_a_little_behind_counts(tmp_path: Path) -> None:
    """Where log time is ahead by no more than clocks differ, age is told by the clock."""
    shop = Shop(tmp_path)
    shop.wrong_by_ms = -LEAPS["year"]
    assert shop.seal(keep_days=3).kept_back
    shop.wrong_by_ms = -240_000
    assert oldest_day(shop.seal(keep_days=3)) == DAYS - 4


def test_a_shop_that_stood_still_has_a_day(tmp_path: Path) -> None:
    """After a year without an event the history stays until the log went on for a day, and then goes."""
    shop = Shop(tmp_path)
    shop.right_ms += LEAPS["year"]
    shop.tick(23, HOUR_MS)
    held = shop.seal(keep_days=DAYS + 1)
    assert held.begin == 0
    assert held.held_ms > 360 * DAY_MS
    shop.tick(3, HOUR_MS)
    assert shop.seal(keep_days=DAYS + 1).begin >= COUNT


def test_a_log_that_rests_at_night_is_cut_some_hours_later(tmp_path: Path) -> None:
    """Pauses of the last day count for nothing, those before it whole."""
    shop = Shop(tmp_path)
    for _ in range(6):
        shop.tick(32, HOUR_MS // 2)
        shop.right_ms += 8 * HOUR_MS
    report = shop.seal(keep_days=9)
    assert 7 * HOUR_MS <= report.held_ms <= 16 * HOUR_MS
    assert report.begin > 0


@given(
    st.lists(st.sampled_from((0, 1, 60_000, PAUSE_MS - 1, PAUSE_MS, PAUSE_MS + 1, DAY_MS, 400 * DAY_MS)), max_size=80),
    st.integers(0, 20),
)
def test_pauses_are_found_by_halves(steps: list[int], begin: int) -> None:
    """No pause is overlooked and none is made of what is covered: between a plain sum that stops at once and one that
    goes on by the hour that a half may span; and few events are read.
    """
    times = [START_MS]
    for step in steps:
        times.append(times[-1] + step)
    begin = min(begin, len(times) - 1)
    reads = 0

    def log_time_ms(position: int) -> int:
        nonlocal reads
        reads += 1
        return times[position]

    found = unconfirmed_ms(log_time_ms, begin, len(times))
    least = plain(times[begin:], CONFIRMED_MS)
    most = plain(times[begin:], CONFIRMED_MS + PAUSE_MS)
    assert least <= found <= most
    assert reads <= 2 + len(steps)


def plain(times: list[int], confirmed_ms: int) -> int:
    """Sum how long pauses were, from the newest back, until so much is covered."""
    covered = held = 0
    for before, after in zip(reversed(times[:-1]), reversed(times[1:]), strict=True):
        if covered >= confirmed_ms:
            break
        covered += min(after - before, PAUSE_MS)
        held += after - before if after - before > PAUSE_MS else 0
    return held


def test_a_long_log_is_not_read_through() -> None:
    """A hundred million events of a year: some hundred reads."""
    reads = 0

    def log_time_ms(position: int) -> int:
        nonlocal reads
        reads += 1
        return position * 315

    assert unconfirmed_ms(log_time_ms, 0, 100_000_000) == 0
    assert reads < 120
