"""Ends of canaries: ahead, behind, and unknown."""

import pytest

from midstream.training.canary_rule import canary_end


@pytest.mark.parametrize(
    "harm, ends",
    [
        (-0.01, ["", "promoted", "promoted", "promoted"]),
        (0.0, ["", "promoted", "promoted", "promoted"]),
        (None, ["", "", "", "given up"]),
        (0.001, ["", "", "", "given up"]),
    ],
)
def test_what_is_not_behind_is_promoted_at_the_end_of_its_time(harm: float | None, ends: list[str]) -> None:
    """What is behind has as much time again; what cannot be estimated is never promoted."""
    assert [canary_end(harm, age, 10) for age in (9, 10, 19, 20)] == ends


def test_what_was_behind_is_decided_at_the_end_alone() -> None:
    """However often it is looked at between: the moment at which chance has it ahead is none to stop at."""
    assert [canary_end(-0.1, age, 10, was_behind=True) for age in (10, 15, 19, 20)] == ["", "", "", "promoted"]
    assert [canary_end(0.1, age, 10, was_behind=True) for age in (19, 20)] == ["", "given up"]


def test_what_is_behind_has_no_more_than_the_longest_time() -> None:
    """Where that is less than twice the least one; what cannot be estimated has all of it."""
    assert [canary_end(0.1, age, 10, 15) for age in (14, 15)] == ["", "given up"]
    assert [canary_end(0.1, age, 10, 70) for age in (19, 20)] == ["", "given up"]
    assert [canary_end(None, age, 10, 70) for age in (20, 69, 70)] == ["", "", "given up"]
    assert canary_end(-0.1, 15, 10, 15) == "promoted"
