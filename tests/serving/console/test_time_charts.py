"""Plots of outcomes over time: sums by hour and day, gaps where nothing is known, axes that end at round numbers."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.serving.console.api_reader import ApiAnswer
from midstream.serving.console.page_templates import Templates
from midstream.serving.console.time_charts import (
    HEIGHT,
    LEFT,
    RIGHT,
    SHOWN,
    WIDTH,
    round_end,
    time_plots,
    time_points,
)

HOUR = 3_600_000
DAY = 24 * HOUR
BEGIN = 20_000 * DAY + 22 * HOUR
"""Two hours before midnight, UTC."""


def series(placement, slates, **columns):
    """A series as the route has it; columns that are not named are like those of the slates."""
    rest = {name: columns.get(name, slates) for name in ("impressions", "clicks", "conversions", "revenue")}
    return {"placement": placement, "begin": BEGIN, "slates": slates, **rest}


def plot_of(points, title, by="hour"):
    """One plot by its title."""
    return next(each for each in time_plots(points, by) if each.title == title)


def test_points_are_sums_of_hours():
    """A rate of a day is that of its sums, not the mean of its hours."""
    told = [series(None, [4, 0, 1, 3], impressions=[8, 0, 2, 2], clicks=[1, 0, 1, 1], conversions=[1, 0, 0, 3])]
    hours = time_points(told, "", "hour", BEGIN + 4 * HOUR, 0)
    assert [each.begin_ms for each in hours] == [BEGIN + n * HOUR for n in range(4)]
    assert [each.click_rate for each in hours] == pytest.approx([0.125, math.nan, 0.5, 0.5], nan_ok=True)
    days = time_points(told, "", "day", BEGIN + 4 * HOUR, 0)
    assert [each.begin_ms for each in days] == [20_000 * DAY, 20_001 * DAY]
    assert [each.slates for each in days] == [4, 4]
    assert [each.click_rate for each in days] == [0.125, 0.5]
    assert [each.conversion_rate for each in days] == [0.25, 0.75]


def test_points_are_open_until_their_last_slate_is_settled():
    """An hour is settled once its end is older than the time of settling."""
    told = [series(None, [1, 1, 1])]
    now_ms = BEGIN + 2 * HOUR + HOUR // 2
    assert [each.is_open for each in time_points(told, "", "hour", now_ms, HOUR // 2)] == [False, False, True]
    assert [each.is_open for each in time_points(told, "", "hour", now_ms, HOUR)] == [False, True, True]


def test_conversions_are_open_for_a_day():
    """They come later than clicks, so their line is dashed for longer; without an action that is one nothing is."""
    told = [series(None, [1] * 30)]
    now_ms = BEGIN + 30 * HOUR
    points = time_points(told, "", "hour", now_ms, HOUR // 2)
    assert [each.is_open for each in points] == [False] * 29 + [True]
    assert [each.has_open_conversions for each in points] == [False] * 6 + [True] * 24
    settled = {each.title: sum(line.count(",") for line in each.settled) for each in time_plots(points, "hour")}
    assert settled == {"Click rate": 29, "Slates": 29, "Conversion rate": 6, "Revenue": 6}
    (unsold,) = time_points([series(None, [1], conversions=None, revenue=None)], "", "hour", BEGIN + HOUR, 0)
    assert not unsold.has_open_conversions


def test_a_day_of_which_some_hours_are_there_is_marked():
    """The first one begins when it may: its line is dashed, as its sums are not those of a day."""
    points = time_points([series(None, [1] * 74)], "", "day", BEGIN + 90 * DAY, 0)
    assert [(each.slates, each.is_partial) for each in points] == [(2, True), (24, False), (24, False), (24, False)]
    plot = plot_of(points, "Slates", "day")
    assert [[line.count(",") for line in lines] for lines in (plot.settled, plot.open)] == [[3], [2]]
    assert plot.open[0].split()[-1] == plot.settled[0].split()[0]
    whole = {**series(None, [1] * 24), "begin": 20_000 * DAY}
    assert [each.is_partial for each in time_points([whole], "", "day", BEGIN + 90 * DAY, 0)] == [False]
    assert not any(each.is_partial for each in time_points([series(None, [1] * 74)], "", "hour", BEGIN, 0))


def test_a_page_says_what_is_open_and_what_is_not_there():
    """In words, beside the dashes."""
    told = {**series(None, [1] * 50), "placement": None}
    now_ms = BEGIN + 50 * HOUR - 1
    points = time_points([told], "", "day", now_ms, HOUR // 2)
    body = {"now": now_ms, "settle_ms": HOUR // 2, "unread": 0, "left_out": 0, "drift": [], "rows": [], "hours": [told]}
    values = {
        "found": ApiAnswer(200, body),
        "by": "day",
        "names": [],
        "points": points,
        "plots": time_plots(points, "day"),
    }
    text = Templates().render("outcomes.html", "", values)
    states = re.findall(r"<td>([^<]*)</tr>", text.partition("over-time")[2].partition("</table>")[0])
    assert states == ["open", "conversions open", "settled, not all hours"]
    assert "clicks for 30 minutes" in text
    assert "outcome_slates_max" in text


def test_each_placement_has_its_own_points():
    """One that has no series has none."""
    told = [series(None, [3]), series("home", [2]), series("cart", [1])]
    found = {name: [each.slates for each in time_points(told, name, "hour", BEGIN, 0)] for name in ("", "home", "x")}
    assert found == {"": [3], "home": [2], "x": []}
    assert time_points([], "", "hour", 0, 0) == []


def test_acts_that_are_not_configured_are_not_known():
    """Neither a rate nor a revenue of 0 is shown for them."""
    told = [series(None, [2], clicks=None, conversions=None, revenue=None)]
    (point,) = time_points(told, "", "hour", BEGIN, 0)
    assert all(math.isnan(each) for each in (point.click_rate, point.conversion_rate, point.revenue))
    plot = plot_of([point], "Revenue")
    assert (plot.dots, plot.settled, plot.open) == ((), (), ())
    assert math.isnan(plot.last)


def test_the_newest_points_are_shown():
    """Two days of hours, and as many days as are kept."""
    told = [series(None, list(range(168)))]
    assert [each.slates for each in time_points(told, "", "hour", BEGIN, 0)] == list(range(168))[-SHOWN["hour"] :]
    assert len(time_points(told, "", "day", BEGIN, 0)) == SHOWN["day"]


def test_a_gap_parts_a_line_and_a_lone_point_is_a_dot():
    """Nothing is drawn where nothing is known."""
    told = [series(None, [1, 1, 0, 1], impressions=[2, 2, 0, 2], clicks=[1, 2, 0, 1])]
    plot = plot_of(time_points(told, "", "hour", BEGIN + 10 * HOUR, 0), "Click rate")
    assert [line.count(",") for line in plot.settled] == [2]
    assert (len(plot.dots), plot.open) == (3, ())


def test_the_open_part_goes_on_from_the_last_settled_point():
    """So that the line has no hole where it becomes dashed."""
    told = [series(None, [1, 2, 3, 4])]
    plot = plot_of(time_points(told, "", "hour", BEGIN + 3 * HOUR, 0), "Slates")
    assert [line.count(",") for line in (*plot.settled, *plot.open)] == [3, 2]
    assert plot.settled[0].split()[-1] == plot.open[0].split()[0]


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=60))
def test_points_lie_within_the_axes(slates):
    """Whatever the values: in order from the left, between 0 and the end of the axis."""
    points = time_points([series(None, slates)], "", "hour", BEGIN, 0)
    plot = plot_of(points, "Slates")
    across, down = zip(*plot.dots, strict=True)
    assert list(across) == sorted(across)
    assert LEFT <= min(across) <= max(across) <= WIDTH - RIGHT
    assert 0 <= min(down) <= max(down) <= HEIGHT
    assert plot.values[0].text == "0"
    assert len(plot.times) <= 6
    highest = max(range(len(points)), key=lambda place: points[place].slates)
    assert down[highest] == min(down)


@given(st.floats(1e-300, 1e300))
def test_an_axis_ends_at_or_above_its_greatest_value(most):
    """And below two and a half times as much, so that a line is not flat."""
    assert most * (1 - 1e-6) <= round_end(most) <= most * 2.5 * (1 + 1e-6)


@pytest.mark.parametrize("revenue", [1e-12, 3e-14, 1e-45, 5e-324])
def test_a_tiny_revenue_is_drawn(revenue):
    """An act may have any value above 0."""
    plot = plot_of(time_points([series(None, [1], revenue=[revenue])], "", "hour", BEGIN, 0), "Revenue")
    assert plot.most == revenue
    assert all(math.isfinite(each) for dot in plot.dots for each in dot)


def test_a_rate_has_no_axis_beyond_all():
    """100 % is the end."""
    told = [series(None, [3], impressions=[3], clicks=[2])]
    assert plot_of(time_points(told, "", "hour", BEGIN, 0), "Click rate").values[-1].text == "100 %"
