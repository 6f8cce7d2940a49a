"""Facts on their way to the log: few lines whatever happens, and nothing that disappears."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.tracebacks import Raised
from midstream.monitoring.facts import HOUR_S, KINDS_MAX, OTHER, REASONS_MAX, Fact, Facts, added


class Clock:
    """Seconds that a test moves."""

    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


def test_the_first_comes_at_once_and_the_others_as_a_number():
    """Fields of the newest, the traceback of the first, sums of all."""
    clock = Clock()
    facts = Facts(clock)
    first = Raised("KeyError", (("a.py", 1, "f"),))
    facts.note(Fact("failed", "warning", {"part": "a", "n": 1}, reasons={"x": 2}, raised=first))
    facts.note(Fact("failed", "warning", {"part": "a", "n": 2}, reasons={"x": 1, "y": 1}))
    (line,) = facts.due()
    assert line == Fact("failed", "warning", {"part": "a", "n": 2}, reasons={"x": 3, "y": 1}, raised=first, count=2)
    facts.note(Fact("failed", "warning", {"part": "a", "n": 3}))
    clock.now_s = 59.0
    assert facts.due() == []
    clock.now_s = 60.0
    (line,) = facts.due()
    assert (line.count, line.fields["n"]) == (1, 3)
    assert facts.due() == []


def test_events_and_keys_are_told_apart():
    """In the order in which they came."""
    facts = Facts(Clock())
    for key in ("b", "a"):
        facts.note(Fact("failed", key=key))
    facts.note(Fact("other"))
    assert [(each.event, each.key) for each in facts.due()] == [("failed", "b"), ("failed", "a"), ("other", "")]


def test_what_goes_on_for_a_day_costs_a_few_lines():
    """The period doubles up to an hour, and is a minute again after an hour of quiet."""
    clock = Clock()
    facts = Facts(clock)
    lines = []
    for _ in range(24 * 3_600):
        facts.note(Fact("failed"))
        lines += facts.due()
        clock.now_s += 1.0
    lines += facts.due(all_of_them=True)
    assert sum(each.count for each in lines) == 24 * 3_600
    assert 24 <= len(lines) <= 32
    clock.now_s += 2 * HOUR_S
    assert facts.due() == []
    facts.note(Fact("failed"))
    assert len(facts.due()) == 1
    facts.note(Fact("failed"))
    clock.now_s += 60.0
    assert len(facts.due()) == 1


@pytest.mark.parametrize("every_s", [1, 61, 130, 700, 3_000])
def test_what_comes_back_all_day_costs_a_few_lines(every_s):
    """Also where it is quiet for longer than the period in between; a line comes as soon as the period is over."""
    clock = Clock()
    facts = Facts(clock)
    lines: list[Fact] = []
    times: list[float] = []
    for now_s in range(24 * 3_600):
        clock.now_s = float(now_s)
        if now_s % every_s == 0:
            facts.note(Fact("failed"))
        for each in facts.due():
            lines.append(each)
            times.append(clock.now_s)
    assert sum(each.count for each in (*lines, *facts.due(all_of_them=True))) == -(-24 * 3_600 // every_s)
    assert times[0] == 0.0
    assert len(lines) <= 32
    assert max(after - before for before, after in pairwise(times)) <= HOUR_S + every_s


def test_lines_are_in_the_order_in_which_their_facts_came():
    """Also of kinds that had a line before; of several facts of one kind the first counts."""
    clock = Clock()
    facts = Facts(clock)
    for minute, names in enumerate(("ab", "ba", "bcab")):
        clock.now_s = 600.0 * minute
        for name in names:
            facts.note(Fact(name))
        assert [each.event for each in facts.due()] == list(dict.fromkeys(names))


def test_kinds_without_end_are_counted_together():
    """An attacker who makes up names takes no memory, and is seen."""
    clock = Clock()
    facts = Facts(clock)
    for number in range(KINDS_MAX + 70):
        facts.note(Fact("failed", key=str(number)))
    found = facts.due()
    assert len(found) == KINDS_MAX + 1
    assert (found[-1].event, found[-1].count, found[-1].reasons) == ("facts_beyond_maximum", 70, {"failed": 70})
    clock.now_s = 60.0
    assert facts.due() == []
    facts.note(Fact("failed", key="another, when the others were quiet for their period"))
    assert [each.event for each in facts.due()] == ["failed"]
    sums = added({}, ((f"r{number}", 1) for number in range(100)))
    assert (len(sums), sums[OTHER], sum(sums.values())) == (REASONS_MAX + 1, 100 - REASONS_MAX, 100)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0.0, 400.0)), max_size=60))
def test_nothing_disappears(steps):
    """Whatever comes when, the counts of all lines are the facts; no kind has two lines within its period."""
    clock = Clock()
    facts = Facts(clock)
    told: list[Fact] = []
    last: dict[str, float] = {}
    for key, pause_s in steps:
        facts.note(Fact("failed", key=key))
        for each in facts.due():
            assert clock.now_s - last.get(each.key, -60.0) >= 60.0
            last[each.key] = clock.now_s
            told.append(each)
        clock.now_s += pause_s
    told += facts.due(all_of_them=True)
    for key in "abc":
        assert sum(each.count for each in told if each.key == key) == sum(key == each for each, _ in steps)


def test_a_fact_is_a_value():
    """Facts that say the same are equal, whoever noted them."""
    assert replace(Fact("a", fields={"b": 1})) == Fact("a", fields={"b": 1})
