"""Feature text: what it means is what Python would compute, what is wrong is told with its column."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.features.expressions.names import ColumnOf, Names
from midstream.features.expressions.reading import Text, read_text
from midstream.features.expressions.tree import NODES_MAX
from midstream.features.kinds.expression import SCOPES
from midstream.state.expressions.program import column, compile_columns, evaluate

NAMES = ("a", "b", "c")


KNOWN = Names(
    {"missing": "number", "look": "vector:4", "colour": "category"},
    dict.fromkeys((*NAMES, "missing", "é"), column(0.0)),
)


def read(text, where="$.text"):
    """What a text means, or what is wrong with it."""
    return read_text(text, KNOWN, where, SCOPES, is_number=True)


def computed(text, **values):
    """The number of a text for these columns; what is of the item or the context is missing."""
    found = read(text)
    assert isinstance(found, Text), found
    program = compile_columns({"x": found.column})
    given: dict[object, float] = {ColumnOf(name): value for name, value in values.items()}
    inputs = np.array([[given.get(each.reader, np.nan) for each in program.inputs]])
    with np.errstate(all="ignore"):
        return evaluate(program, np.empty((1, 0)), inputs, 0)[0, 0]


TEXTS = st.recursive(
    st.sampled_from([*NAMES, "2", "0.5", "1e3"]),
    lambda inner: st.one_of(
        st.builds(
            "({} {} {})".format, inner, st.sampled_from(["+", "-", "*", "<", "<=", ">", ">=", "==", "!="]), inner
        ),
        st.builds("{}({}, {})".format, st.sampled_from(["min", "max"]), inner, inner),
        st.builds("-{}".format, inner),
    ),
    max_leaves=12,
)


@given(TEXTS, st.tuples(*(st.floats(-1e6, 1e6) for _ in NAMES)))
def test_a_text_means_what_python_means(text, numbers):
    """Precedence, brackets, signs and comparisons."""
    values = dict(zip(NAMES, numbers, strict=True))
    expected = float(eval(text, {"min": min, "max": max, "__builtins__": {}}, values))  # noqa: S307  drawn above
    assert computed(text, **values) == expected


@pytest.mark.parametrize(
    "text,expected",
    [
        ("log(7)", 3.0),
        ("log(0 - 1)", math.nan),
        ("sqrt(9)", 3.0),
        ("sqrt(-9)", math.nan),
        ("1 / 0", math.nan),
        ("if_nan(missing, 5)", 5.0),
        ("missing + 1", math.nan),
        ("missing < 1", math.nan),
        ("missing != 1", math.nan),
        ("max(1, 4, 2, 3)", 4.0),
        ("missing\r * 2\r\n + a", math.nan),
        ("item.missing * 2 \n + if_nan(context.missing, 1)  # over lines", math.nan),
    ],
)
def test_what_is_not_known_stays_so(text, expected):
    """But for ``if_nan``."""
    np.testing.assert_equal(computed(text, missing=math.nan, a=1.0), expected)


@pytest.mark.parametrize(
    "text,came",
    [
        ("", "'' is not one formula."),
        ("colour", '"colour" is not a name. Nearest: "item.colour".'),
        ("item.colour", "column 1: item.colour is a category."),
        ("item.look", "column 1: item.look is a vector:4."),
        ("now.hour", "column 1: now.hour cannot be named here."),
        ('item.count("view", "1h")', "column 1: item.count() cannot be named here."),
        ("a +", "column 4, its end: Something is missing."),
        ("a + + * b", "column 7: `*` cannot stand here."),
        ("a + 'x'", "column 5: 'x' is a text."),
        ("a + __import__('os')", 'column 5: "__import__" is not a function.'),
        ("a\n + lgo(b)", 'line 2, column 4: "lgo" is not a function. Nearest: "log".'),
        ("min(a)", "column 1: min() has 1 arguments."),
        ("log(a, b)", "column 1: log() has 2 arguments."),
        ("a ** 2", "column 1: `a ** 2` is not allowed."),
        ("a and b", "column 1: a is not a condition."),
        ("a < b < 'x'", "column 1: 'x' has no order."),
        ("usr.age", 'column 1: "usr.age" is not a name. Nearest: "user".'),
        ("a.b.c", "column 1: `a.b.c` is not allowed."),
        ("None", "column 1: `None` is not allowed."),
        ("1e999", "column 1: The number is too large."),
        ("a, b", "'a, b' is not one formula."),
        ("a) + (b", "column 2: "),
        ("+".join("a" * NODES_MAX), f"The text has {2 * NODES_MAX - 1} values and operations."),
        ("1" * 1_001, "The text has 1001 characters."),
        ("a\r + [b]", "line 2, column 4: The list mixes things."),
        ("a\r\n + [b]", "line 2, column 4: The list mixes things."),
        ("a\r + ", "line 2, column 3, its end: Something is missing."),
        ("é + [1]", "column 5: the list is a list."),
    ],
)
def test_what_is_wrong_is_told(text, came):
    """Where, what came, what would be right, on which page."""
    faults = read(text, "$.features[3].text")
    assert not isinstance(faults, Text)
    assert faults[0].where == "$.features[3].text"
    assert came in faults[0].came
    assert faults[0].right
    assert faults[0].page == "/docs/language.md"


def test_all_that_is_wrong_is_told_at_once():
    """Each with its column."""
    faults = read("lgo(a) + {b} + sqrt()")
    assert not isinstance(faults, Text)
    assert [each.came.partition(":")[0] for each in faults] == ["column 1", "column 10", "column 16"]


@given(st.text(alphabet="ab(),.+-*/<>=!\n\r #'0e_", max_size=30))
def test_any_text_is_a_formula_or_faults(text):
    """Nothing is raised, whatever it is."""
    found = read(text)
    assert isinstance(found, Text) or found
