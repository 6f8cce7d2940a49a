"""Packed words come back as they were, whatever they are, and only where they were."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from midstream.state.structures.packed_words import WORDS_A_MARK, mark_words, spread_marked, take_marked

WORDS = st.lists(st.sampled_from([0, 0, 0, 1, 1 << 63, (1 << 64) - 1]), max_size=200)


def packed(words: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return marks and words as the kernels make them."""
    words.flags.writeable = False
    marks = np.full(-(-len(words) // WORDS_A_MARK), 7, dtype=np.uint64)
    count = mark_words(words, marks)
    found = np.full(len(words) + 1, 9, dtype=np.uint64)
    assert take_marked(words, found) == count
    assert (found[count:] == 9).all()
    marks.flags.writeable = False
    return marks, found[:count]


def plain(words: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Return the same by NumPy alone."""
    is_marked = np.zeros(-(-len(words) // WORDS_A_MARK) * WORDS_A_MARK, dtype=np.bool_)
    is_marked[: len(words)] = words != 0
    return np.packbits(is_marked, bitorder="little").view(np.uint64), words[words != 0]


@given(WORDS)
def test_packed_words_are_those_of_the_plain_twin(given: list[int]) -> None:
    """Marks and words equal NumPy's; spread again they are what they were."""
    words = np.array(given, dtype=np.uint64)
    marks, found = packed(words)
    for mine, theirs in zip((marks, found), plain(words), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    found.flags.writeable = False
    again = np.zeros(len(words), dtype=np.uint64)
    assert spread_marked(marks, found, again)
    np.testing.assert_array_equal(again, words)


@given(WORDS, st.integers(-2, 2))
def test_marks_and_words_that_do_not_fit_are_told(given: list[int], surplus: int) -> None:
    """More or fewer words than marks, or a mark behind the end, are no packed array; nothing is written outside."""
    words = np.array([*given, 1, 1], dtype=np.uint64)
    marks, found = packed(words)
    other = np.resize(found, len(found) + surplus)
    other.flags.writeable = False
    room = np.zeros(len(words) + WORDS_A_MARK, dtype=np.uint64)
    assert spread_marked(marks, other, room[: len(words)]) == (surplus == 0)
    assert not spread_marked(marks, found, np.zeros(len(words) - 1, dtype=np.uint64))
    assert not room[len(words) :].any()
