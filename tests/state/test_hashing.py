"""Hashing in machine code gives what the xxhash library gives, so a request finds what the fold stored."""

import numpy as np
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from midstream.state.hashing import CHECK_SEED, combine, hash_check, hash_id, id_check, id_hash, mix, xxh64

HASHES = st.integers(0, 2**64 - 1)


@given(st.binary(max_size=200), st.integers(0, 9), HASHES)
def test_any_bytes_at_any_place_hash_as_in_the_library(text, start, seed):
    """Every length takes its own path through stripes, words and single bytes."""
    arena = np.frombuffer(b"#" * start + text + b"#" * 9, dtype=np.uint8)
    assert xxh64(arena, start, len(text), np.uint64(seed)) == xxhash.xxh64_intdigest(text, seed)


@given(st.text(min_size=1))
def test_an_id_has_the_same_hashes_as_text_and_as_bytes_of_an_arena(text):
    """Requests hash one text, the fold hashes bytes in an arena."""
    encoded = text.encode()
    arena = np.frombuffer(encoded, dtype=np.uint8)
    assert hash_id(arena, 0, len(encoded)) == id_hash(text) == xxhash.xxh64_intdigest(encoded)
    assert hash_check(arena, 0, len(encoded)) == id_check(text)
    assert id_check(text) == xxhash.xxh64_intdigest(encoded, CHECK_SEED) % 2**32


def test_no_id_has_the_hash_that_stands_for_none():
    """An empty text is 0 both ways."""
    assert id_hash("") == 0
    assert hash_id(np.zeros(1, dtype=np.uint8), 0, 0) == 0


@given(HASHES, HASHES)
def test_mixing_keeps_different_values_different(first, second):
    """One to one: no two values meet."""
    assert (mix(np.uint64(first)) == mix(np.uint64(second))) == (first == second)


@given(HASHES, HASHES)
def test_combining_depends_on_the_order(first, second):
    """A pair and its reverse are two different things."""
    forward = combine(np.uint64(first), np.uint64(second))
    backward = combine(np.uint64(second), np.uint64(first))
    assert (forward == backward) == (first == second)
