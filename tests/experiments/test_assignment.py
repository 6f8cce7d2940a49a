"""Buckets of units: golden hashes, even groups, independent salts, and shares that add up."""

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from midstream.experiments.assignment import (
    BUCKETS,
    bucket,
    by_bucket,
    even_shares,
    salt_of,
    session_unit,
    user_unit,
)

UNITS = [user_unit(number * 0x9E3779B97F4A7C15 % (1 << 64)) for number in range(100_000)]


def test_the_hash_is_xxh64_as_specified() -> None:
    """Vectors of the specification's own tests: empty input under seed 0, and under the seed of its sanity check."""
    assert xxhash.xxh64_intdigest(b"", 0) == 0xEF46DB3751D8E999
    assert bucket(b"", 0) == 0xEF46DB3751D8E999 % BUCKETS
    assert bucket(b"", 2654435761) == 0xAC75FDA2929B17EF % BUCKETS


def test_buckets_are_even_and_salts_independent() -> None:
    """Chi-square over 100 groups of 100,000 units, and over the 10 x 10 groups of two salts."""
    one, other = salt_of("layer", "a"), salt_of("experiment", "a")
    first = np.array([bucket(unit, one) for unit in UNITS]) // 100
    second = np.array([bucket(unit, other) for unit in UNITS]) // 100
    assert stats.chisquare(np.bincount(first, minlength=100)).pvalue > 0.001
    crossed = np.bincount(first // 10 * 10 + second // 10, minlength=100).reshape(10, 10)
    assert stats.chi2_contingency(crossed).pvalue > 0.001


def test_a_user_and_a_session_of_one_text_are_told_apart_by_their_bytes() -> None:
    """A user is eight bytes of its hash, a session its own text."""
    assert user_unit(1) == b"\x01" + bytes(7)
    assert session_unit("é") == b"\xc3\xa9"


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=16))
def test_shares_are_whole_and_near_their_weights(weights: list[float]) -> None:
    """10,000 together, each within one of its part."""
    shares = even_shares(weights)
    assert sum(shares) == BUCKETS
    for share, weight in zip(shares, weights, strict=True):
        assert abs(share - BUCKETS * weight / sum(weights)) <= 1


def test_a_table_of_buckets_has_each_share_end_to_end() -> None:
    """And another total is refused."""
    assert by_bucket([1, 0, 9_999]) == b"\x00" + b"\x02" * 9_999
    with pytest.raises(ValueError, match="9999 came"):
        by_bucket([9_999])
