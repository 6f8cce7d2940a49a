"""Bounds in annotations: what is within says nothing, what is beyond is told with what would be right."""

from typing import Annotated

import msgspec
import pytest

from midstream.core.durations import Duration
from midstream.core.field_bounds import NAME, Between, FieldBound, Length, Name, TextBytes, without_bounds


@pytest.mark.parametrize(
    "bound, told, came",
    [
        (Between("1m", "1h"), "60s", ""),
        (Between("1m", "1h"), "60m", ""),
        (Between("1m", "1h"), "59s", "59s came."),
        (Between("1m", "1h"), "3601s", "3601s came."),
        (Between("1ms"), "999d", ""),
        (Between("1ms"), "0d", "0d came."),
        (Length(1, 2), ["a"], ""),
        (Length(1, 2), {}, "0 came."),
        (Length(0, 2, "characters"), "abc", "3 characters came."),
        (TextBytes(4), "éé", ""),
        (TextBytes(4), "ééé", "It has 6 bytes."),
        (NAME, "shop front", ""),
        (NAME, "", "It has 0 bytes."),
        (NAME, " a", '" a" came.'),
        (NAME, "a\nb", '"a\\nb" came.'),
    ],
)
def test_what_is_beyond_a_bound_is_told(bound: FieldBound, told: object, came: str):
    """The ends are within."""
    assert bound.excess(told) == came


def test_what_would_be_right():
    """In words, with the ends that there are."""
    assert Between("1m", "1h").right == "A duration from 1m to 1h."
    assert Between("1ms").right == "A duration from 1ms on."
    assert (Length(1, 2_000).right, Length(0, 8, "characters").right) == ("From 1 to 2,000.", "At most 8 characters.")
    assert TextBytes(512).right == "A text of 1 to 512 bytes."


def test_a_type_and_its_bounds():
    """Bounds of msgspec stay with the type, which it checks itself."""
    assert without_bounds(Name) == (str, (NAME,))
    assert without_bounds(Annotated[Duration, Between("1s")]) == (Duration, (Between("1s"),))
    number = Annotated[int, msgspec.Meta(ge=1)]
    assert without_bounds(number) == (number, ())
    assert without_bounds(int) == (int, ())
