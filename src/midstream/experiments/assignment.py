"""Assignment of units to buckets: XXH64 under a salt, modulo 10,000.

A unit is the user that a request's id stands for, else the session. Each layer, each experiment and the holdout have a
salt of their own, so a unit's buckets in two of them are independent: what one experiment did to its groups is spread
evenly over the groups of the next. A bucket never depends on shares. So a ramp only adds units, and none changes its
variant.

Reference: D. Tang, A. Agarwal, D. O'Brien, M. Meyer, "Overlapping Experiment Infrastructure: More, Better, Faster
Experimentation", KDD 2010: layers, and exclusive ranges of buckets in one; Y. Collet, xxHash specification, XXH64.
"""

from collections.abc import Sequence
from itertools import accumulate, chain, repeat

import xxhash

BUCKETS = 10_000
"""Shares are whole hundredths of a percent."""
UNIT_BYTES = 8
_hash = xxhash.xxh64_intdigest


def user_unit(user_hash: int) -> bytes:
    """Return the unit of a user: the 64-bit hash of the id that the sent one stands for, little-endian.

    So an id that was merged into another has that one's assignments.
    """
    return user_hash.to_bytes(UNIT_BYTES, "little")


def session_unit(session_id: str) -> bytes:
    """Return the unit of a session without a user: its id in UTF-8."""
    return session_id.encode()


def bucket(unit: bytes, salt: int) -> int:
    """Return the bucket of a unit under a salt, 0 to 9,999. Cost: 0.15 µs.

    Example:
        >>> bucket(session_unit("s1"), 7) == bucket(session_unit("s1"), 7)
        True
        >>> 0 <= bucket(user_unit(1 << 63), 7) < BUCKETS
        True
    """
    return _hash(unit, salt) % BUCKETS


def salt_of(*parts: str) -> int:
    """Return the salt of what some texts name: of a layer, an experiment, the holdout.

    Example:
        >>> salt_of("layer", "ranking") != salt_of("layer", "page")
        True
    """
    return _hash("\0".join(parts).encode())


def by_bucket(shares: Sequence[int]) -> bytes:
    """Return the place in ``shares`` of each bucket, (10,000,): the first share has the first buckets, and so on.

    Args:
        shares: Buckets of each, at most 255 of them, 10,000 together.

    Raises:
        ValueError: They are another number together.
    """
    if sum(shares) != BUCKETS:
        message = f"shares are {BUCKETS} together, {sum(shares)} came"
        raise ValueError(message)
    return bytes(chain.from_iterable(repeat(place, share) for place, share in enumerate(shares)))


def even_shares(weights: Sequence[float]) -> list[int]:
    """Return whole shares, 10,000 together, in the proportion of some weights: each is within 1 of its part.

    Example:
        >>> even_shares([1, 1, 1])
        [3333, 3334, 3333]
    """
    total = sum(weights)
    ends = [round(BUCKETS * each / total) for each in accumulate(weights)]
    return [end - start for start, end in zip((0, *ends), ends, strict=False)]
