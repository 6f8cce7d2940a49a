"""Texts that are no expressions: what is pointed at, and in whose words."""

import ast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.core.errors import Fault
from midstream.features.expressions.syntax import offence
from midstream.features.expressions.tree import tree_of, unified

GOOD = (
    "item.available and not item.fresh",
    "item.price * 2 + 1 <= context.budget or item.price in [1, 2.5, -3e-2]",
    'user.country == "de" and "sale" not in item.tags',
    "log(max(item.count('view', '24h'), 1)) / sqrt(views) > 0.5  # often seen",
    "(\n  now.hour >= 8\n  and now.hour < 20 # open\n)",
    "item.a is not item.b and true == (not false) or not not [] in [()]",
    "if_nan(a, - b) in user.top('colour', 3) == True",
    "'grün' 'er' == item.farbe and '🙂' != \"ä\"",
)
PIECES = (
    *(
        "item.price",
        "views",
        "max(",
        "(",
        ")",
        "[",
        "]",
        ",",
        "1",
        "2.5",
        "'a'",
        '"ü"',
        "'🙂",
        "\n",
        " ",
        "  ",
        "\t",
        "#x\n",
    ),
    *(
        "<",
        "==",
        "=",
        "&&",
        "and",
        "or",
        "not",
        "in",
        "is",
        "if",
        "else",
        "lambda",
        "+",
        "-",
        ".",
        ":",
        "$",
        "é",
        "\\",
        "0x",
    ),
)


def said(text: str) -> str:
    """Return what is said of a text."""
    found = tree_of(unified(text), "condition", "$.filter")
    return found.came if isinstance(found, Fault) else ""


@pytest.mark.parametrize(
    "text, came",
    [
        ("item.price <", "column 13, its end: Something is missing."),
        ("item.price <  ", "column 13, its end: Something is missing."),
        ("  item.price = 3", "column 14: `=` means nothing here. Use `==`."),
        ("item.farbe == 'grün' and and x", "column 26: `and` cannot stand here."),
        ("item.farbe == 'grün' b", "column 22: `b` cannot stand here."),
        ("'🙂' == 'x", "column 8: The text that begins here has no end."),
        ("a and\n  b c", "line 2, column 5: `c` cannot stand here."),
        ("a and\r\n\r\n  b == 'ä' c", "line 3, column 12: `c` cannot stand here."),
        ("a # 'ü\n b", "line 2, column 2: `b` cannot stand here."),
        ("a\n and ", "line 2, column 5, its end: Something is missing."),
        ("\ta b", "column 4: `b` cannot stand here."),
        ("a && b", "column 3: `&&` means nothing here. Use `and`."),
        ("a == “x”", 'column 6: `“` means nothing here. Use `"`.'),
        ("a == ‘x’", "column 6: `‘` means nothing here. Use `'`."),
        ("!a", "column 1: `!` means nothing here. Use `not`."),
        ("(a", "column 1: `(` is not closed."),
        ("max(a, (b)", "column 4: `(` is not closed."),
        ("a)", "column 2: `)` closes no `(`."),
        ("a) or (b", "column 2: `)` closes no `(`."),
        ("[1, 2)", "column 6: `)` closes no `(`."),
        ("max(a b)", "column 7: `b` cannot stand here."),
        ("max(a,, b)", "column 7: `,` cannot stand here."),
        ("(a +)", "column 5: Something is missing before `)`."),
        ("true == not false", "column 9: `not` cannot stand here."),
        ("a not b", "column 3: `not` cannot stand here."),
        ("a in", "column 5, its end: Something is missing."),
        ("a..b", "column 3: `.` cannot stand here."),
        ("a if b", "column 3: `if` is a word of Python that means nothing here."),
        ("a > 0123", "column 5: `0123` is not a number."),
        ("a > 1.2.3", "column 5: `1.2.3` is not a number."),
        ("a == '\\d'", "column 6: `'\\d'` is not a text in quotes, a backslash in it as \\\\."),
        ("a == \x00", "column 6: `\\x00` means nothing here."),
        ("'''abc", "column 1: The text that begins here has no end."),
        ("(" * 300 + "a" + ")" * 300, "column 200: from here on it cannot be read as a condition."),
    ],
)
def test_what_cannot_stand_where_it_does_is_pointed_at(text, came):
    """Columns count characters, from 1, of the line as it was written; words are those of the language."""
    assert said(text) == came


@pytest.mark.parametrize("text", GOOD)
def test_nothing_is_found_in_an_expression_nor_in_its_beginnings(text):
    """What may be gone on with lacks its end and nothing else."""
    assert said(text) == ""
    assert offence(text) is None
    for end in [at for at, sign in enumerate(text) if sign in " (,\n"]:
        found = offence(text[:end])
        if found is not None and not found[1].endswith("is not closed."):
            at, what = found
            # A text in quotes may have been cut as well.
            assert what in {"Something is missing.", "The text that begins here has no end."}
            assert what != "Something is missing." or not text[at:end].strip() or text[at:end].lstrip()[0] == "#"


@given(st.lists(st.sampled_from(PIECES), max_size=9).map(" ".join) | st.lists(st.sampled_from(PIECES)).map("".join))
def test_whatever_comes_is_told_in_our_words_at_a_place_that_is_there(text):
    """Python says whether a text is an expression; where it is none its own wording does not come through."""
    text = text[:1_000]
    came = said(text)
    with_place = came.startswith(("column", "line"))
    assert not any(word in came for word in ("invalid syntax", "Perhaps", "Maybe", "literal", "parenthes", "detected"))
    if with_place:
        line = int(came.split("line ")[1].split(",")[0]) if came.startswith("line") else 1
        column = int(came.split("column ")[1].split(":")[0].split(",")[0])
        lines = text.split("\n")
        assert 1 <= line <= len(lines)
        assert 1 <= column <= len(lines[line - 1]) + 1
    try:
        ast.parse(f"({text}\n)", mode="eval")
        ast.parse(f"[{text}\n]", mode="eval")
    except SyntaxError:
        assert came
