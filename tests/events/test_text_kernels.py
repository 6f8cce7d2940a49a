"""Words of eight bytes are those that Python reads."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from midstream.events.kernel import kernel
from midstream.events.text_kernels import WORD_BYTES, is_same_text, read_word


@kernel
def word_at(array, at):
    """Return a word."""
    return read_word(array, at)


@kernel
def is_same(text, at, other_text, other, length):
    """Compare."""
    return is_same_text(text, at, other_text, other, length)


@given(st.binary(min_size=WORD_BYTES, max_size=40), st.data())
def test_a_word_is_eight_bytes_with_the_first_one_lowest(content, data):
    """Wherever it lies."""
    at = data.draw(st.integers(0, len(content) - WORD_BYTES))
    assert word_at(np.frombuffer(content, np.uint8), at) == int.from_bytes(content[at : at + WORD_BYTES], "little")


@given(st.binary(max_size=30), st.integers(0, 9), st.integers(0, 9), st.integers(-1, 29), st.integers(1, 255))
def test_texts_are_the_same_where_all_bytes_are(content, before, other, changed, mask):
    """Of any length, at any place, with one byte another or none; what lies around them does not count."""
    changed_content = bytearray(content)
    if 0 <= changed < len(content):
        changed_content[changed] ^= mask
    first = np.frombuffer(b"a" * before + content + b"b", np.uint8)
    second = np.frombuffer(b"c" * other + bytes(changed_content) + b"d", np.uint8)
    assert is_same(first, before, second, other, len(content)) == (content == changed_content)
