"""Declared kinds: each is what its formula says, counted by hand from a log with duplicates and late events."""

import math
from collections import defaultdict

import msgspec
import numpy as np
import pytest

from midstream.core.durations import Duration
from midstream.core.kinds import Kind
from midstream.core.types import LogPosition
from midstream.features.kinds.kinds import Count, Rate, Since, Statistic, UniqueCount, cells_of, program_of
from midstream.state.cells.cells import CellOwners
from midstream.state.expressions.program_kernel import compute, steps_of
from midstream.state.fold import Fold
from tests.support.events import Stream, indexed, random_events, tiny_settings

ACTS = ("cart", "click", "view")
DAY = 86_400_000
HOUR = 3_600_000
FEATURES = (
    Count(name="acts", actions=ACTS),
    Count(name="views", actions=("view",), windows=(Duration("1h"), Duration("2d")), half_life=(Duration("6h"),)),
    Count(name="worth", actions=ACTS, half_life=(Duration("1d"),), weighted=True),
    Count(name="seen", actions=("impression",), windows=(Duration("12h"),)),
    Rate(name="rate", actions=("click",), per=("impression", "view"), half_life=Duration("1d"), smoothing=5.0),
    UniqueCount(name="visitors", actions=ACTS, of="user"),
    Statistic(name="mean", actions=ACTS, statistic="mean"),
    Statistic(name="least", actions=ACTS, statistic="min"),
    Statistic(name="most", actions=ACTS, statistic="max"),
    Statistic(name="newest", actions=ACTS, statistic="last"),
    Statistic(name="deviation", actions=ACTS, statistic="deviation"),
    Since(name="since", actions=("view",)),
)
STREAM = Stream(users=40, items=15, step_ms=400_000)


def settings_of(features):
    """Roomy settings that keep what these need."""
    tiny = tiny_settings()
    limits = msgspec.structs.replace(tiny.limits, users_max=99, items_max=99, click_items_max=99, event_ids_max=9_999)
    return msgspec.structs.replace(tiny, cells=cells_of(features), limits=limits)


def columns_of(features, fold, items, now):
    """Return each column of the features by name, for some items."""
    program = program_of(features)
    keys = CellOwners(np.array(items, dtype=np.int32))
    loaded = np.ascontiguousarray(fold.cells.read(program.cells, keys, now).T)
    found = compute(steps_of(program), loaded, np.empty((0, len(items))), now)
    return dict(zip(program.names, found.T, strict=True))


class Hand:
    """The events that count, item by item, as one reads them off the log."""

    def __init__(self, batch, settings, now):
        self.now, self.of_item, names = now, defaultdict(list), settings.action_names()
        for i in np.flatnonzero(batch.folded).tolist():
            is_act = batch.kind[i] == Kind.INTERACTION and batch.action[i] >= 0
            name = names[batch.action[i]] if is_act else "impression" if batch.kind[i] == Kind.IMPRESSION else ""
            weight = settings.types[name].weight if is_act else 0.0
            event = (name, int(batch.event_time_ms[i]), int(batch.log_time_ms[i]), weight, float(batch.value[i]))
            self.of_item[int(batch.item_index[i])].append((*event, int(batch.user_hash[i])))

    def events(self, item, actions, *, late=False):
        """Those of an item, of everybody with -1; of more than a day ago only where they are asked for."""
        every = self.of_item[item] if item >= 0 else [each for some in self.of_item.values() for each in some]
        return [each for each in every if each[0] in actions and (late or each[2] - each[1] <= DAY)]

    def fading(self, item, actions, half_life, *, weighted=False):
        """Each times 2^(-age / half-life)."""
        events = self.events(item, actions, late=True)
        return math.fsum((each[3] if weighted else 1.0) * 2.0 ** ((each[1] - self.now) / half_life) for each in events)

    def window(self, item, actions, length):
        """Those in the last twelve buckets, if their bucket was held when they came."""
        width = -(-length // 12)
        count = 0
        for _, time, log, _, _, _ in self.events(item, actions):
            bucket, head = min(time // width, log // width + 1), log // width + 1
            count += bucket > head - 13 and bucket > self.now // width - 12
        return count

    def values(self, item):
        """What acts carried, in the order of the log."""
        return [(each[1], each[4]) for each in self.events(item, ACTS) if not math.isnan(each[4])]


@pytest.fixture(scope="module")
def world():
    """A log of a shop, its state, and the same by hand, an hour after its end."""
    settings = settings_of(FEATURES)
    batch = random_events(2_500, 3, STREAM)
    fold = Fold(settings)
    fold.apply(LogPosition(0), batch)
    now = fold.log_time_ms + HOUR
    items = list(range(fold.vocabulary.item_count))
    return columns_of(FEATURES, fold, items, now), Hand(indexed(batch, settings), settings, now), items


def test_counts(world):
    """Of all time, in windows, fading, weighted."""
    columns, hand, items = world
    assert set(columns) >= {"acts", "views_1h", "views_2d", "views_fading_6h", "worth", "seen"}
    for item in items:
        assert columns["acts"][item] == len(hand.events(item, ACTS))
        assert columns["views_1h"][item] == hand.window(item, ("view",), HOUR)
        assert columns["views_2d"][item] == hand.window(item, ("view",), 2 * DAY)
        assert columns["seen"][item] == hand.window(item, ("impression",), DAY // 2)
        # A weight is exact to a 4,096th of a half-life at either end.
        assert columns["views_fading_6h"][item] == pytest.approx(hand.fading(item, ("view",), 6 * HOUR), rel=4e-4)
        assert columns["worth"][item] == pytest.approx(hand.fading(item, ACTS, DAY, weighted=True), rel=4e-4)
    assert columns["views_2d"].max() > columns["views_1h"].max()


def test_rates(world):
    """Pulled to everybody's."""
    columns, hand, items = world
    per = ("impression", "view")
    everybody = hand.fading(-1, ("click",), DAY) / hand.fading(-1, per, DAY)
    for item in items:
        clicks, views = hand.fading(item, ("click",), DAY), hand.fading(item, per, DAY)
        assert columns["rate"][item] == pytest.approx((clicks + 5 * everybody) / (views + 5), rel=2e-3)


def test_statistics_and_times(world):
    """Of what events carried; NaN where none carried anything."""
    columns, hand, items = world
    for item in items:
        values = [value for _, value in hand.values(item)]
        times = [each[1] for each in hand.events(item, ("view",))]
        expected = {
            "mean": np.mean(values) if values else math.nan,
            "deviation": np.std(values) if values else math.nan,
            "least": min(values, default=math.nan),
            "most": max(values, default=math.nan),
            "since": (hand.now - max(times)) / 1_000 if times else math.nan,
        }
        newest = max((time for time, _ in hand.values(item)), default=0)
        expected["newest"] = [value for time, value in hand.values(item) if time == newest][-1] if values else math.nan
        for name, value in expected.items():
            np.testing.assert_allclose(columns[name][item], value, rtol=1e-6, atol=1e-4, err_msg=f"{name} of {item}")


def test_distinct_counts(world):
    """Within what 64 registers can tell."""
    columns, hand, items = world
    exact = np.array([len({each[5] for each in hand.events(item, ACTS)} - {0}) for item in items])
    assert exact.max() > 10
    assert np.abs(columns["visitors"] - exact).max() <= 0.4 * exact.max()
    assert np.abs(columns["visitors"].sum() / exact.sum() - 1) < 0.15


def test_equal_needs_are_kept_once():
    """Whoever declared them; each declaration by itself gives what it gives beside the others."""
    pair = (Count(name="a", actions=("view",)), Count(name="b", actions=("view",)))
    assert cells_of(pair) == cells_of(pair[:1])
    settings, batch = settings_of(FEATURES), random_events(400, 9, STREAM)
    fold = Fold(settings)
    fold.apply(LogPosition(0), batch)
    items = list(range(fold.vocabulary.item_count))
    whole = columns_of(FEATURES, fold, items, fold.log_time_ms)
    for feature in FEATURES:
        alone = Fold(settings_of((feature,)))
        alone.apply(LogPosition(0), batch)
        for name, column in columns_of((feature,), alone, items, fold.log_time_ms).items():
            np.testing.assert_array_equal(column, whole[name])
