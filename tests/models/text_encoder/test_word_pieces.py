"""Texts as pieces of a vocabulary, as BERT's uncased tokenizer cuts them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midstream.models.text_encoder.word_pieces import WordPieces, words

SMALL = WordPieces.of(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "lamp", "##s", "un", "##want", "##ed", "a", ",", "灯", "e"])


def pieces(text, count_max=16):
    """The pieces themselves."""
    names = {number: piece for piece, number in SMALL.numbers.items()}
    return [names[number] for number in SMALL.read(text, count_max)]


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", []),
        ("LAMPS", ["lamp", "##s"]),
        ("unwanted, a lamp", ["un", "##want", "##ed", ",", "a", "lamp"]),
        ("lamp\u00a0lamp\tlamp\nlamp", ["lamp"] * 4),
        ("é É", ["e", "e"]),
        ("la\u0000mp la\u200bmp", ["lamp", "lamp"]),
        ("a灯a", ["a", "灯", "a"]),
        ("lampx", ["[UNK]"]),
        ("a" * 101, ["[UNK]"]),
        ("?", ["[UNK]"]),
    ],
)
def test_a_text_is_cut(text, expected):
    """Longest pieces first; what cannot be cut is one unknown piece."""
    assert pieces(text) == ["[CLS]", *expected, "[SEP]"]


def test_a_long_text_ends():
    """With the last piece, and no more than so many."""
    assert pieces("a " * 50, 5) == ["[CLS]", "a", "a", "a", "[SEP]"]
    assert pieces("lamps lamps", 4) == ["[CLS]", "lamp", "##s", "[SEP]"]


@given(st.text(max_size=80))
def test_no_text_breaks_it(text):
    """Words have no white space, and every text is between its first and last piece."""
    assert all(word.split() == [word] for word in words(text))
    found = pieces(text)
    assert (found[0], found[-1]) == ("[CLS]", "[SEP]")
    assert len(found) <= 16
