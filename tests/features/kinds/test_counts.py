"""How long what was counted says something: by the newest of all that a number is made of, whichever of it that is."""

import math

import pytest

from midstream.core.durations import Duration
from midstream.core.kinds import Kind
from midstream.core.types import LogPosition
from midstream.events.schema import Event, build
from midstream.features.kinds.kinds import Count, Rate, Since, Statistic, UniqueCount
from midstream.state.fold import Fold
from tests.features.kinds.test_kinds import columns_of, settings_of
from tests.support.events import START_MS

TTL = Duration("3h")
MINUTE_MS = 60_000
KINDS = (
    Count(name="found", actions=("view",), ttl=TTL),
    Count(name="found", actions=("view", "impression"), windows=(Duration("2d"),), ttl=TTL),
    Rate(name="found", actions=("click",), per=("view", "impression"), ttl=TTL),
    Rate(name="found", actions=("view",), per=("click",), ttl=TTL),
    UniqueCount(name="found", actions=("view",), of="user", ttl=TTL),
    Statistic(name="found", actions=("view",), statistic="mean", ttl=TTL),
    Statistic(name="found", actions=("view",), statistic="last", ttl=TTL),
    Since(name="found", actions=("click", "view"), ttl=TTL),
)


def acts(minute, *names):
    """Acts on the one item, each a minute after the other."""
    found = []
    for number, name in enumerate(names):
        time_ms = START_MS + (minute + number) * MINUTE_MS
        kind, action = (Kind.IMPRESSION, "") if name == "impression" else (Kind.INTERACTION, name)
        found.append(
            Event(
                kind, action=action, user_id="ann", session_id="s", item_id="mug", value=2.0, event_id=f"{time_ms}",
                event_time_ms=time_ms, log_time_ms=time_ms,
            )
        )  # fmt: skip
    return found


def values_at(feature, events, *minutes):
    """What a feature says of the item at some minutes."""
    fold = Fold(settings_of((feature,)))
    fold.apply(LogPosition(0), build(events))
    columns = [columns_of((feature,), fold, [0], START_MS + minute * MINUTE_MS) for minute in minutes]
    return [float(column[0]) for each in columns for column in each.values()]


@pytest.mark.parametrize("feature", KINDS, ids=lambda each: f"{each.__struct_config__.tag}-{'-'.join(each.counted())}")
@pytest.mark.parametrize("newest", ["click", "view", "impression"])
def test_a_number_lives_as_long_as_the_newest_event_that_it_is_made_of(feature, newest):
    """Up to the last minute before its time is over, and not in that one; what is no part of it keeps nothing alive."""
    first = acts(0, "click", "view", "impression")
    events = [*first, *acts(100, newest)]
    last = 100 if newest in feature.counted() else {"click": 0, "view": 1, "impression": 2}[
        max(feature.counted(), key=("click", "view", "impression").index)
    ]  # fmt: skip
    before, after = values_at(feature, events, last + 179, last + 180)
    assert math.isfinite(before)
    assert math.isnan(after)


def test_a_number_that_nothing_was_counted_for_says_nothing():
    """With a time to live; without one a count of nothing is 0."""
    other = [each._replace(item_id="pot") for each in acts(0, "click", "view")]
    mug = [Event(Kind.ITEM, item_id="mug", body=b"{}", log_time_ms=START_MS, event_time_ms=START_MS)]
    for feature, expected in ((KINDS[0], math.nan), (Count(name="found", actions=("view",)), 0.0)):
        assert values_at(feature, mug + other, 2) == pytest.approx([expected], nan_ok=True)
