"""Charts: one point a value, from 0 to the greatest, and nothing invented where a value is not known."""

import math

import pytest

from midstream.serving.console.charts import HEIGHT, WIDTH, line_chart, short_bytes, short_number


def places(values):
    return [tuple(map(float, each.split(","))) for each in line_chart(values).points.split()]


def test_a_line_begins_at_the_oldest_value():
    """The greatest value is at the top, 0 at the bottom, and the newest at the right edge."""
    assert places([0, 5, 10]) == [(0, HEIGHT - 2), (WIDTH / 2, HEIGHT / 2), (WIDTH, 2)]
    assert (line_chart([1, 4, 2]).most, line_chart([1, 4, 2]).last) == (4, 2)


def test_the_smallest_floats_have_a_line():
    """Its ends are those of any other values: a scale of one by them would be infinite, and 0 times that no number."""
    tiny = 2.225073858507203e-309
    assert places([0.0, tiny / 2, tiny]) == places([0.0, 0.5, 1.0])


def test_values_that_are_not_known_are_left_out():
    """They keep their place in time, and a line of one known value is none."""
    assert [x for x, _ in places([1, math.nan, 3])] == [0, WIDTH]
    assert line_chart([math.nan, 3]).points == ""
    assert line_chart([]).points == ""
    assert math.isnan(line_chart([]).last)


def test_a_line_of_zeros_lies_at_the_bottom():
    """Its greatest value is 0, by which nothing can be scaled."""
    assert {y for _, y in places([0, 0, 0])} == {HEIGHT - 2}


@pytest.mark.parametrize(
    "value, text", [(None, "–"), (math.nan, "–"), (math.inf, "–"), (0, "0"), (12345, "12,345"), (0.06884, "0.0688")]
)
def test_numbers_are_short(value, text):
    """What is not known is a dash and never 0."""
    assert short_number(value) == text


def test_sizes_have_a_unit():
    """MB below a GB."""
    assert (short_bytes(1.44e6), short_bytes(1.5e9)) == ("1.4 MB", "1.50 GB")
