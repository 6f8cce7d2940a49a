"""Snapshots for explanations: one an hour for some days, within their bytes, and the newest ones stay as ever."""

from hypothesis import given
from hypothesis import strategies as st

from midstream.engine.snapshots import snapshots
from midstream.engine.snapshots.retention import HOUR_MS, NONE, Hourly, KeptSnapshot, staying
from midstream.events.segments.log_identity import identity_of
from tests.support.frozen_shop import StillShop

IDENTITY = identity_of(b"0" * 16, 0)
DAY_MS = 24 * HOUR_MS

times = st.lists(st.integers(0, 80 * HOUR_MS), max_size=60).map(sorted)


def written_at(each: list[int], byte_count: int = 10) -> dict[str, KeptSnapshot]:
    """Return snapshots of some times, by name."""
    return {f"{place:020d}-v": KeptSnapshot(time, byte_count) for place, time in enumerate(each)}


@given(times, st.integers(0, 3), st.integers(0, 400))
def test_at_most_one_an_hour_within_days_and_bytes(when, days, bytes_max):
    """Each is the first of its span, they are of no more hours than the days have, and together they fit."""
    written = written_at(when)
    kept = staying(written, Hourly(days, bytes_max))
    hours = [written[name].log_time_ms // HOUR_MS for name in kept]
    assert len(set(hours)) == len(hours)
    assert sum(written[name].byte_count for name in kept) <= bytes_max
    assert set(hours) <= set(sorted({each // HOUR_MS for each in when})[-24 * days :])
    assert days or not kept


@given(times, st.integers(1, 3))
def test_with_room_each_hour_has_one(when, days):
    """No hour with a snapshot in the days is left without its first one."""
    written = written_at(when)
    kept = staying(written, Hourly(days, 1 << 40))
    last = sorted({each // HOUR_MS for each in when})[-24 * days :]
    hour_of = {name: each.log_time_ms // HOUR_MS for name, each in written.items()}
    inside = {name: hour for name, hour in hour_of.items() if hour in last}
    assert {inside[name] for name in kept} == set(inside.values())
    assert all(name == min(other for other in inside if inside[other] == inside[name]) for name in kept)


@given(times, st.integers(1, 3))
def test_a_leap_of_the_clock_drops_one_at_most(when, days):
    """However far ahead the newest is, what stayed without it stays, but for the oldest hour where all are taken."""
    before = staying(written_at(when), Hourly(days, 1 << 40))
    after = staying(written_at([*when, 10_000 * DAY_MS]), Hourly(days, 1 << 40))
    assert len(before - after) <= (len(before) == 24 * days)


@given(times, st.integers(1, 300))
def test_what_stays_goes_on_to_stay(when, bytes_max):
    """What an earlier look dropped is not missed by a later one: looking at each snapshot, or once, is the same."""
    hourly = Hourly(2, bytes_max)
    kept: dict[str, KeptSnapshot] = {}
    for name, each in written_at(when).items():
        kept[name] = each
        kept = {one: kept[one] for one in staying(kept, hourly)}
    assert sum(each.byte_count for each in kept.values()) <= bytes_max


def test_prune_keeps_them(tmp_path):
    """Beside the newest two; without days for it they go."""
    shop = StillShop()
    for hour in range(3):
        for step in ("a", "b"):
            shop.act("view", "ann", f"{step}{hour}")
            snapshots.write(tmp_path, shop.fold, IDENTITY)
        shop.wait(HOUR_MS)
    first_of_each = sorted(snapshots.names(tmp_path))[::2]
    assert snapshots.prune(tmp_path, 2, IDENTITY, hourly=Hourly(days=1))
    newest_two = sorted(snapshots.names(tmp_path))[-2:]
    assert sorted(snapshots.names(tmp_path)) == sorted({*first_of_each, *newest_two})
    assert len(snapshots.names(tmp_path)) == 4
    snapshots.prune(tmp_path, 2, IDENTITY, {"another"}, Hourly(days=1))
    assert sorted(snapshots.names(tmp_path)) == first_of_each  # of a version that serves no more
    snapshots.prune(tmp_path, 2, IDENTITY, hourly=NONE)
    assert sorted(snapshots.names(tmp_path)) == first_of_each[-2:]
