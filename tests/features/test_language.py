"""The language over a real state, beside a plain interpreter of three values; what stands where; what is bounded."""

import math
import sys
from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.features import language
from midstream.features.expressions.tree import NODES_MAX
from midstream.features.language import PLACEMENT, REQUEST, Condition, condition, number, segment
from midstream.features.language import NumberExpression as NumberText
from midstream.state.fold import Fold
from tests.features.plain_language import (
    conditions,
    contexts,
    indices,
    moment_of,
    names,
    numbers,
    people,
    shop,
    worlds,
)


def passes(text: str, user: str | None = "ann", context: dict[str, Any] | None = None) -> list[bool]:
    """Where a condition is known to be true: of each document, and of an item that is not known."""
    found = condition(text, names(), "$")
    assert isinstance(found, Condition), found
    answer: list[bool] = found.passes(moment_of(user, context), indices()).tolist()
    return answer


def values(text: str, user: str | None = "ann", context: dict[str, Any] | None = None) -> list[float]:
    """The number of a text: of each document, and of an item that is not known."""
    found = number(text, names(), "$")
    assert isinstance(found, NumberText), found
    answer: list[float] = found.values(moment_of(user, context), indices()).tolist()
    return answer


def faults_of(text: str, use=PLACEMENT) -> list[str]:
    """What is wrong with a text."""
    found = condition(text, names(), "$.placements[0].filter", use)
    assert not isinstance(found, Condition), found
    return [str(fault) for fault in found]


@given(conditions(), people, contexts)
def test_a_condition_passes_where_the_interpreter_says_true(drawn, user, context):
    """The masks are equal, item by item, one that is not known among them."""
    text, truth = drawn
    found = condition(text, names(), "$")
    if not isinstance(found, Condition):
        assert all("At most" in fault.right for fault in found), found  # drew too much
        return
    assert not found.faults(context)
    answer = found.passes(moment_of(user, context), indices()).tolist()
    assert answer == [truth(each) is True for each in worlds(user, context)]


@pytest.mark.parametrize("value,came", [(3.0, "3"), (2.5, "2.5"), (True, "true"), (float("inf"), "an infinity")])
def test_a_value_of_another_kind_is_shown_as_it_was_sent(value, came):
    """As JSON has it, at its place in the request."""
    found = condition('context.x == "lamp"', names(), "$", REQUEST)
    assert isinstance(found, Condition)
    (fault,) = found.faults({"x": value})
    assert fault.where == "/context/x"
    assert fault.came.startswith(came)


@given(numbers, people, contexts)
def test_a_number_is_what_the_interpreter_computes(drawn, user, context):
    """To the bit; unknown is NaN."""
    text, compute = drawn
    found = number(text, names(), "$")
    if not isinstance(found, NumberText):
        assert all("At most" in fault.right for fault in found), found
        return
    expected = [compute(each) for each in worlds(user, context)]
    answer = found.values(moment_of(user, context), indices())
    assert answer.dtype == np.float64
    np.testing.assert_array_equal(answer, [math.nan if each is None else each for each in expected])


@given(conditions(), people, contexts)
def test_a_condition_in_a_number_is_one_zero_or_nan(drawn, user, context):
    """Known to be true, known to be false, unknown."""
    text, truth = drawn
    found = number(f"1 + ({text})", names(), "$")
    if not isinstance(found, NumberText):
        assert all("At most" in fault.right for fault in found), found
        return
    expected = [truth(each) for each in worlds(user, context)]
    answer = found.values(moment_of(user, context), indices())
    np.testing.assert_array_equal(answer, [math.nan if each is None else 1.0 + each for each in expected])


@pytest.mark.parametrize(
    "text",
    [
        "item.price < 3 or not item.price < 3",
        "item.colour in user.groups",
        'user.country == "x"',
        'user.country != "x"',
        "user.age < 3",
        "user.member",
        "not user.member",
        'item.colour in user.top("colour", 3)',
        'item.colour not in user.top("colour", 3)',
        '"red" in user.top("colour", 3)',
        'item.count("view", "1h") == 0',
        'item.fading("view", "1h") >= 0',
        '"sale" not in item.tags',
        "item.available",
        "views >= 0",
        "if_nan(item.price, 1) == if_nan(item.price, 2)",
    ],
)
def test_of_nobody_and_nothing_nothing_is_known(text):
    """A request without a user, about an item that is not known: neither a condition nor its opposite passes."""
    assert not passes(text, user=None)[-1]
    assert not passes(f"not ({text})", user=None)[-1] or "if_nan" in text


def test_a_profile_of_another_kind_is_unknown():
    """Nobody who asks can mend it, so it is no fault."""
    assert passes("user.age < 3", "ann")[0]
    assert not any(passes("user.age < 3", "bob")) and not any(passes("not user.age < 3", "bob"))  # noqa: PT018
    assert not any(passes('"vip" in user.groups', "bob"))  # a text is no list
    assert passes('user.country == "7"', "bob")[0]  # a number is the text that JSON has for it


@pytest.mark.parametrize(
    "text, says",
    [
        ('"red" in ["red", "blue"]', True),
        ('"red" not in ["red", "blue"]', False),
        ('"green" in ["red", "blue"]', False),
        ('"red" == "red"', True),
        ('"red" != "red"', False),
        ('"red" == "blue"', False),
        ("2 in [1, 2]", True),
        ("3 in [1, 2]", False),
    ],
)
def test_what_is_said_of_constants_alone_holds_for_every_item(text, says):
    """A condition that a program has put together may have constants on both sides."""
    assert passes(text) == [says] * 7
    assert passes(f"{text} and item.price < 1e9") == [says and each for each in passes("item.price < 1e9")]


def test_the_most_liked_come_first():
    """Values of weights above 0, by weight: what was acted against is not among them."""
    assert passes('item.colour in user.top("colour", 1)')[:3] == [True, False, True]
    assert passes('item.colour in user.top("colour", 16)') == [True, False, True, False, False, True, False]
    assert passes('item.colour in user.top("colour", 3)', "cyd") == [False] * 7  # known: nothing is liked
    assert passes('item.colour not in user.top("colour", 3)', "cyd") == [True, True, True, False, False, True, False]
    assert passes('"green" in user.top("colour", 3)')[0]


@pytest.mark.parametrize(
    "timezone,now,hour,weekday,minutes",
    [
        ("UTC", 0, 0, 3, 0),
        ("Asia/Kathmandu", 0, 5, 3, 30),  # 5:30 until 1986
        ("Europe/Berlin", 1_743_296_399, 1, 6, 59),  # a second before clocks go forward
        ("Europe/Berlin", 1_743_296_400, 3, 6, 0),
        ("Europe/Berlin", 1_761_440_399, 2, 6, 59),  # clocks go back: 2:59:59, then 2:00:00
        ("Europe/Berlin", 1_761_440_400, 2, 6, 0),
        ("America/St_Johns", 1_700_000_000, 18, 1, 43),
    ],
)
def test_the_clock_is_that_of_the_zone(timezone, now, hour, weekday, minutes):
    """By the rules of the zone at that time."""
    moment = moment_of(None)
    moment = replace(moment, query=replace(moment.query, now_ms=now * 1_000))
    for name, expected in (("hour", hour), ("weekday", weekday), ("time_of_day * 60", hour * 60 + minutes)):
        found = number(f"now.{name}", replace(names(), timezone=timezone), "$")
        assert isinstance(found, NumberText)
        assert math.floor(found.values(moment, indices())[0]) == expected, name


@pytest.mark.parametrize("now_ms", [-(10**17), -62_135_596_800_000, 253_402_300_799_999, 10**17])
def test_a_time_that_no_calendar_has_is_unknown(now_ms):
    """A caller may send any time; nothing is raised."""
    moment = moment_of(None)
    moment = replace(moment, query=replace(moment.query, now_ms=now_ms))
    found = segment("now.hour >= 0", names(), "$")
    assert isinstance(found, Condition)
    assert not found.holds(moment)


def test_a_segment_is_of_the_request_as_a_whole():
    """What names an item, or a column of items, is refused; the rest is answered once."""
    for text, says in (
        ("item.price < 3", "column 1: item.price cannot be named here."),
        ('item.count("view", "1h") > 1', "column 1: item.count() cannot be named here."),
        ("views > 1", "views is a column of items."),
        ("dear > clicks_of_user", "dear is a column of items."),
        ("leaning > 0.5", "leaning is a column of items."),
    ):
        found = segment(text, names(), "$.placements[0].rules[0].when")
        assert not isinstance(found, Condition)
        assert says in found[0].came
        assert found[0].where == "$.placements[0].rules[0].when"
    found = segment(
        'clicks_of_user >= 1 and user.age == 2 and now.hour >= 0 and "red" in user.top("colour", 1)', names(), "$"
    )
    assert isinstance(found, Condition)
    assert not found.is_of_items
    assert found.holds(moment_of("ann"))
    assert not found.holds(moment_of("cyd"))
    assert found.passes(moment_of("ann"), indices()).tolist() == [True] * 7


def test_a_request_asks_the_catalogue_and_itself_only():
    """A visitor may have written it: what comes back says nothing of profiles and sales."""
    good = 'item.price < context.budget and now.hour >= 0 and "sale" in item.tags and item.price * 2 < 9'
    assert isinstance(condition(good, names(), "/filter", REQUEST), Condition)
    for text in ("user.age < 3", 'item.colour in user.top("colour", 1)', 'item.count("view", "1h") > 1'):
        assert "cannot be named here" in faults_of(text, REQUEST)[0]
    for text in ("views > 1", "clicks_of_user > 1"):
        assert f'"{text.split()[0]}" is not a name that may stand here.' in faults_of(text, REQUEST)[0]


@pytest.mark.parametrize(
    "text,says",
    [
        ("veiws > 1", 'column 1: "veiws" is not a name. Nearest: "views".'),
        ("unlike > 1", "unlike compares items with those beside them."),
        ('item.count("veiw", "1h") > 1', 'column 12: "veiw" is not counted. Nearest: "view".'),
        ('item.count("view", "2h") > 1', 'column 20: "2h" is no window of item counts.'),
        ('item.count("view", "soon") > 1', 'column 20: "soon" is no window'),
        ('item.fading("view", "2h") > 1', '"2h" is no half-life of item counts.'),
        ("item.count() > 1", "`item.count()` came."),
        ("item.count(item.colour, item.brand) > 1", "came."),
        ('item.cuont("view", "1h") > 1', '"item.cuont" is not a function. Nearest: "item.count".'),
        ('item.count("view", "1h")', 'item.count("view", "1h") is not a condition.'),
        ('item.colour in user.top("price", 3)', '"price" is not a category attribute.'),
        ('item.colour in user.top("color", 3)', '"color" is not a category attribute. Nearest: "colour".'),
        ('item.colour in user.top("colour", 0)', "0 values are asked for."),
        ('item.colour in user.top("colour", 17)', "17 values are asked for."),
        ('item.colour in user.top("colour", true)', "came."),
        ('item.colour in user.top("colour", True)', "True values are asked for."),
        ('item.colour == user.top("colour", 3)', "Use `in` with lists and tags."),
        ('item.price in user.top("colour", 3)', "item.price cannot be in"),
        ('item.tags in user.top("colour", 3)', "item.tags cannot be in"),
        ("now.minute > 3", 'column 1: "now.minute" is no part of a time.'),
        ("now > 3", 'column 1: "now" is not a name.'),
        ("user.a == user.b", "Two names without a kind are compared."),
        ("item.colour == item.brand", "Two attributes are compared as numbers or truths only."),
        ("user.a and user.a < 3", "user.a has no order."),
        ("item.fresh < 3", "item.fresh has no order."),
        ("log(item.colour) < 3", "column 5: item.colour is a category."),
        ("item.price + (1 if true else 2) > 1", "is not allowed."),
        ("item.price[0] > 1", "`item.price[0]` is not allowed."),
        ('f"{item.price}" == "3"', "is not allowed."),
        ("min(1, *[2]) > 1", "`*[2]` is not allowed."),
        ("min(1, key=2) > 1", "is not allowed."),
        ("(price := 3) > 1", "is not allowed."),
        ("item.price > 1\n  and item.prize < 2", 'line 2, column 7: "item.prize" is not a declared attribute.'),
    ],
)
def test_a_fault_says_where_and_what(text, says):
    """With the column, what came, what would be right, and the page."""
    (first, *_) = faults_of(text)
    assert says in first
    assert first.startswith("$.placements[0].filter\n")
    assert first.count("\n") == 3
    assert first.endswith("midstream docs language")


def test_all_faults_come_together():
    """Each once, in the order of the text."""
    found = faults_of('item.prize < 3 and user.top("x", 1) and veiws > 1 and now.day and item.prize < 3')
    assert [each.split("column ")[1].split(":")[0] for each in found] == ["1", "29", "41", "55", "67"]


def test_what_a_text_costs_is_bounded():
    """By what it reads, once each, and written out with the features that it names."""
    actions, windows = ("view", "click", "cart"), ("1h", "24h", "7d", "30d")
    dear = " or ".join(f'item.count("{each}", "{window}") > 1' for each in actions for window in windows)
    assert isinstance(condition(dear, names(), "$"), Condition)
    (fault,) = faults_of(dear, replace(PLACEMENT, cost_us_max=150.0))
    assert "µs for 500 items, most of it for ItemCount." in fault
    assert "At most 150 µs here." in fault
    grown = "views"
    columns = dict(names().columns)
    for n in range(8):  # each twice as long as the one before
        found = number(f"{grown} + {grown}", replace(names(), columns=columns), "$")
        assert isinstance(found, NumberText)
        columns[grown := f"c{n}"] = found.block.program.steps[int(found.block.program.outputs[0])]
    found = number(f"{grown} + {grown}", replace(names(), columns=columns), "$")
    assert not isinstance(found, NumberText)
    assert "steps, written out with all that it names." in found[0].came


CALLS_MAX = 200_000
"""Calls of functions while a text is read; those of ordinary ones are some thousand."""
NASTY = (
    "(" * 199 + "1" + ")" * 199,
    "not " * 63 + "true",
    "-" * 900 + "1",
    "[" * 400,
    "1" * 999,
    "0x" + "f" * 900 + " > 1",
    "item." * 190 + "x",
    '"' + "é" * 900 + '" == "x"',
    "1 < " * 62 + "1",
    "if_nan(" * 21 + "1" + ", 1)" * 21 + " > 1",
    "true == (" * 31 + "true" + ")" * 31,
    "(1 < " * 20 + "2" + " < 3)" * 20,
    "true == (true == (" * 8 + "true" + " == true) == true)" * 8,
    "((((a" * 100,
    "lambda: " * 100 + "1",
    "{" * 190 + "}" * 190,
    "f'{" * 60,
    "not (item.price < 1 and (" * 10 + "true" + "))" * 10,
    "\ud800 == 1",
    '"\\ud800" == item.colour',
    "\x00",
    "# only this",
    "item.price < 1 # \\",
    "min(" + ",".join("1" * 40) + ") > 1",
    "user.top('colour', 99999999999999999999)",
    "item.colour in [" + ",".join(['"x"'] * 60) + "]",
)


@pytest.mark.parametrize("text", NASTY, ids=lambda text: text[:12])
@pytest.mark.parametrize("read", [condition, number, segment])
def test_no_text_takes_long_or_raises(text, read):
    """It is a text of the language or has faults, in bounded work, whatever Python's parser makes of it."""
    moment, items, calls = moment_of("ann"), indices(), Counter[str]()
    names()
    sys.setprofile(lambda _frame, event, _argument: calls.update((event,)))
    try:
        found = read(text, names(), "$")
    finally:
        sys.setprofile(None)
    if isinstance(found, Condition):
        found.passes(moment, items)
    assert calls["call"] + calls["c_call"] < CALLS_MAX
    assert isinstance(found, Condition | NumberText) or all(each.page == "/docs/language.md" for each in found)


PIECES = (
    "item.price", "item.colour", "item.tags", "item.fresh", "item.", "user.x", "user.top(", "context.x", "now.hour",
    "views", "not ", " and ", " or ", " in ", " == ", " < ", " >= ", "+", "*", "/", "-", "(", ")", "[", "]", ",",
    '"red"',
    "1", "2.5", "true", "if_nan(", "min(", "log(", 'item.count("view", "1h")', "\n", "#", "'", "lambda", "if",
    "else", "{",
)  # fmt: skip


@given(st.lists(st.sampled_from(PIECES), max_size=24).map("".join))
def test_whatever_is_put_together_is_read_or_refused(text):
    """Pieces of the language in any order: nothing is raised, and what is read can be computed."""
    for read in (condition, number, segment):
        found = read(text, names(), "$")
        if isinstance(found, Condition):
            assert found.passes(moment_of("ann", {"x": 1.0}), indices()).shape == (7,)
        elif isinstance(found, NumberText):
            assert found.values(moment_of("ann"), indices()).shape == (7,)
        else:
            assert found
            assert all(each.where == "$" and each.came and each.right for each in found)


def test_as_many_values_as_fit_are_computed():
    """The longest chains of each operation are within the steps that a text may have."""
    for word in (" and ", " or "):
        text = word.join(["item.fresh"] * (NODES_MAX - 1))
        assert passes(text) == passes("item.fresh")
    assert passes(" or ".join(f"item.price >= {each}" for each in range(21)))[:3] == [True, True, True]
    assert values("+".join(["1"] * 32))[0] == 32.0
    assert passes("1 < " * 31 + "2")[0] is False


def test_nothing_is_asked_of_no_items():
    """An empty question has an empty answer, whatever it reads."""
    none = np.empty(0, dtype=np.int32)
    for text in (
        "item.price < 3",
        "views > 1",
        "now.hour > 3",
        "true",
        "item.colour in user.groups",
        '"x" in item.tags',
    ):
        found = condition(text, names(), "$")
        assert isinstance(found, Condition)
        assert found.passes(moment_of("ann"), none).shape == (0,)
    found_number = number("views * item.price", names(), "$")
    assert isinstance(found_number, NumberText)
    assert found_number.values(moment_of("ann"), none).shape == (0,)


def test_a_restored_state_answers_the_same():
    """What a text reads is in the state: another process that restored it passes the same items."""
    texts = (
        'item.colour in user.top("colour", 2)', "views > 0", 'item.count("view", "24h") >= 1', "user.age < 3",
        'item.fading("click", "1h") > 0.1', "dear > 2",
    )  # fmt: skip
    other = Fold(shop().settings)
    other.restore({name: each.copy() for name, each in shop().arrays().items()})
    for text in texts:
        found = condition(text, names(), "$")
        assert isinstance(found, Condition)
        moment = moment_of("ann")
        again = other.moment(moment.query, moment.models)
        assert found.passes(again, indices()).tolist() == found.passes(moment, indices()).tolist()
        assert any(found.passes(moment, indices()))


def test_texts_are_equal_by_what_they_mean():
    """Two plans of one configuration have equal filters; another time zone is another meaning."""
    text = "now.hour > 3 and item.price < context.budget"
    assert condition(text, names(), "$") == condition(text, names(), "/filter")
    assert condition(text, names(), "$") != condition(text, replace(names(), timezone="UTC"), "$")


@pytest.mark.parametrize("more", [0, -1])
def test_a_text_has_as_many_steps_as_may_be_and_no_more(monkeypatch: pytest.MonkeyPatch, more: int) -> None:
    """Written out with all that it names: exactly so many are taken, one more is a fault that says how many came."""
    text, steps = "item.price + 2 < item.price * 3", 7
    monkeypatch.setattr(language, "STEPS_MAX", steps + more)
    found = condition(text, names(), "$")
    if not more:
        assert isinstance(found, Condition)
        return
    assert not isinstance(found, Condition)
    assert [(each.came, each.right) for each in found] == [
        (f"It has {steps} steps, written out with all that it names.", f"At most {steps - 1}.")
    ]
